import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { internetChecksum, sumWords } from "../bytes/index.js";
import type { Offload } from "../contract/index.js";
import { Finisher, LONGEST_FINISHED } from "./finish.js";

const open = (csumStart: number, csumOffset: number): Offload => ({
  needsCsum: true,
  csumStart,
  csumOffset,
  dataValid: false,
  gso: "none",
  gsoSize: 0,
  ecn: false,
});

/** Ethernet, IPv4 and UDP headers of a packet 10.0.0.1:1 → 10.0.0.2:2 whose checksum field holds the pseudo header's sum. */
const udpFrame = (payload: readonly number[]): Uint8Array => {
  const frame = new Uint8Array(14 + 20 + 8 + payload.length);
  const udp = 8 + payload.length;
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 20 + udp]);
  frame.set([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, udp], 22);
  frame.set(payload, 42);
  const pseudo = sumWords(frame, 26, 8) + 17 + udp;
  frame.set([pseudo >>> 8, pseudo], 40);
  return frame;
};

test("a checksum is completed over what follows, the pseudo header's sum included", () => {
  const finisher = new Finisher();
  const frame = udpFrame([0xde, 0xad, 0xbe]);
  const before = frame.slice();
  assert.ok(finisher.finish(frame, 0, frame.length, open(34, 6)));
  assert.equal(frame, before, "the sender's bytes are not touched");
  const done = finisher.bytes.subarray(0, frame.length);
  // 0a00 0001 0a00 0002 0011 000b is 141f, 0001 0002 000b dead be00 more is 1b0da; folded b0db, complement 4f24
  assert.equal([...done.subarray(40, 42)], [0x4f, 0x24]);
  assert.equal([...done.subarray(0, 40)], [...before.subarray(0, 40)]);
});

test("a receiver's check of the finished packet comes to 0, wherever the frame begins", () => {
  const finisher = new Finisher();
  const cases = fc.tuple(fc.array(fc.nat(255), { maxLength: 200 }), fc.nat(50));
  fc.assert(
    fc.property(cases, ([payload, lead]) => {
      const frame = udpFrame(payload);
      const memory = new Uint8Array(lead + frame.length + 9).fill(0xa5);
      memory.set(frame, lead);
      assert.ok(finisher.finish(memory, lead, frame.length, open(34, 6)));
      const done = finisher.bytes;
      const pseudo = sumWords(done, 26, 8) + 17 + 8 + payload.length;
      assert.is(internetChecksum(done, 34, 8 + payload.length, pseudo), 0);
      assert.ok(done[40] !== 0 || done[41] !== 0, "0 would mean that there is no checksum");
    }),
    { numRuns: 200 },
  );
});

test("a checksum that comes out as 0 is stored as ffff", () => {
  const finisher = new Finisher();
  const frame = new Uint8Array(60);
  frame.set([0xff, 0xff], 20); // the rest sums to ffff, whose complement is 0
  assert.ok(finisher.finish(frame, 0, 60, open(14, 16)));
  assert.equal([...finisher.bytes.subarray(30, 32)], [0xff, 0xff]);
});

test("the buffer grows up to the longest frame and no further", () => {
  const finisher = new Finisher();
  const frame = new Uint8Array(LONGEST_FINISHED + 1);
  assert.ok(finisher.finish(frame, 0, 9014, open(14, 16)));
  assert.ok(finisher.finish(frame, 0, LONGEST_FINISHED, open(14, 16)));
  assert.is(finisher.bytes.length, 0x2_0000);
  assert.not(finisher.finish(frame, 0, LONGEST_FINISHED + 1, open(14, 16)));
  const { bytes } = finisher;
  assert.ok(finisher.finish(frame, 0, 60, open(14, 16)));
  assert.is(finisher.bytes, bytes, "it is used again");
});

test.run();
