import { array, boolean, assert as check, integer, property, record } from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { NetEndpoint, Verdict } from "../../../../contract/index.js";
import { TAKES_ALL } from "../../../../net/index.js";
import { Capture, Recorded } from "./capture.js";

const SNAPLEN = 2048;
const at = (start: number) => {
  const clock = { now: start };
  return { clock, now: () => clock.now };
};

test("a ring of any size holds the youngest frames, whole and in order, and never more than its memory", () => {
  const frames = array(
    record({ length: integer({ min: 14, max: 3000 }), card: integer({ min: 0, max: 3 }), back: boolean() }),
    {
      maxLength: 80,
    },
  );
  check(
    property(frames, integer({ min: SNAPLEN, max: 9000 }), integer({ min: 1, max: 20 }), (given, bytes, most) => {
      const capture = new Capture(() => 0, 0, bytes, most);
      const memory = new Uint8Array(3000);
      const expected: { card: number; length: number; fill: number }[] = [];
      for (const [i, { length, card, back }] of given.entries()) {
        memory.fill(i + 1);
        const number = capture.record(card, i % 2 === 0 ? "to-host" : "to-guest", memory, 0, length);
        if (back) capture.retract(number);
        else expected.push({ card, length, fill: (i + 1) & 0xff });
        assert.is(capture.end, expected.length);
      }
      let kept = 0;
      for (let number = capture.first; number < capture.end; number++) {
        const frame = capture.frame(number);
        const { card, length, fill } = expected[number]!;
        assert.equal([frame?.card, frame?.length, frame?.bytes.length], [card, length, Math.min(length, SNAPLEN)]);
        assert.ok(frame?.bytes.every((byte) => byte === fill));
        kept += frame?.bytes.length ?? 0;
      }
      assert.ok(kept <= bytes);
      assert.is(capture.frame(capture.first - 1), null);
      assert.is(capture.frame(capture.end), null);
      const last = given.at(-1);
      if (last !== undefined && !last.back) assert.ok(capture.first < capture.end);
    }),
    { numRuns: 80 },
  );
});

test("the file has an interface for each card, frames with their time, way and full length", () => {
  const { clock, now } = at(1500.25);
  const capture = new Capture(now, 1_700_000_000_500);
  const frame = Uint8Array.from({ length: 60 }, (_, i) => i);
  capture.record(1, "to-host", frame, 0, 60);
  clock.now = 1501;
  capture.record(0, "to-guest", new Uint8Array(4000), 0, 4000);
  const chunks = capture.pcapng([
    { name: "eth0", mac: new Uint8Array(6) },
    { name: "eth1", mac: new Uint8Array(6) },
  ]);
  const file = new Uint8Array(chunks.flatMap((chunk) => [...chunk]));
  const view = new DataView(file.buffer);
  const packets: { id: number; ns: bigint; kept: number; length: number; flags: number }[] = [];
  let interfaces = 0;
  for (let block = 0; block < file.length; block += view.getUint32(block + 4, true)) {
    const type = view.getUint32(block, true);
    if (type === 1) interfaces++;
    if (type !== 6) continue;
    const kept = view.getUint32(block + 20, true);
    const options = block + 28 + ((kept + 3) & ~3);
    packets.push({
      id: view.getUint32(block + 8, true),
      ns: (BigInt(view.getUint32(block + 12, true)) << 32n) | BigInt(view.getUint32(block + 16, true)),
      kept,
      length: view.getUint32(block + 24, true),
      flags: view.getUint32(options + 4, true),
    });
  }
  assert.is(interfaces, 2);
  // The epoch's whole seconds stand with the interface, the rest with the frame.
  assert.equal(packets, [
    { id: 1, ns: 2_000_250_000n, kept: 60, length: 60, flags: 2 },
    { id: 0, ns: 2_001_000_000n, kept: SNAPLEN, length: 4000, flags: 1 },
  ]);
});

test("a recorded port hands everything on, and takes back what was answered later", () => {
  const capture = new Capture(() => 0, 0);
  let answer: Verdict = "taken";
  let far: NetEndpoint | null = null;
  const port = new Recorded(
    {
      offer: () => answer,
      endBatch: () => {},
      ready: () => {},
      accepts: () => TAKES_ALL,
      attach: (end) => {
        far = end;
      },
    },
    capture,
    0,
  );
  const sent: number[] = [];
  port.attach({
    offer: (_, __, length) => {
      sent.push(length);
      return "taken";
    },
    endBatch: () => {},
    ready: () => {},
    accepts: () => TAKES_ALL,
  });
  const frame = new Uint8Array(100);
  const toFar = far as NetEndpoint | null;
  assert.is(toFar?.offer(frame, 0, 64, null, 0), "taken");
  assert.is(port.offer(frame, 0, 65, null, 0), "taken");
  answer = "later";
  assert.is(port.offer(frame, 0, 66, null, 0), "later");
  assert.equal(sent, [64]);
  assert.is(capture.end, 2);
  assert.equal(
    [capture.frame(0)?.direction, capture.frame(1)?.direction, capture.frame(1)?.length],
    ["to-host", "to-guest", 65],
  );
  port.attach(null);
  assert.is(far, null);
  assert.is(toFar?.offer(frame, 0, 64, null, 0), "dropped");
});

test.run();
