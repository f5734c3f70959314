import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../bytes/index.js";
import type { EndpointLimits, Offload, Verdict } from "../contract/index.js";
import { OffloadRecord, TAKES_ALL } from "./offload.js";
import { frameOf, TestPort } from "./testing.js";
import { connect } from "./wire.js";

const PLAIN: EndpointLimits = {
  csum: false,
  tso4: false,
  tso6: false,
  uso: false,
  longestFrame: 1514,
  holds: true,
};

const offloadOf = (fields: Partial<OffloadRecord>): Offload => Object.assign(new OffloadRecord(), fields);

const rig = () => {
  const a = new TestPort();
  const b = new TestPort();
  return { a, b, wire: connect(a, b) };
};

test("a frame goes through in place, both ways, and the hint with it", () => {
  const { a, b } = rig();
  const frame = frameOf(2, 1, 7);
  let seen: Uint8Array | null = null;
  b.offer = (bytes) => {
    seen = bytes;
    return "taken";
  };
  assert.is(a.far?.offer(frame, 0, 60, null, 3), "taken");
  assert.is(seen, frame, "the far end sees the sender's own bytes");
  assert.is(b.send(frameOf(1, 2, 9), null, 5), "taken");
  assert.equal(a.taken[0]?.frame, frameOf(1, 2, 9));
  assert.is(a.taken[0]?.queueHint, 5);
});

test("endBatch, ready and accepts reach the far end", () => {
  const { a, b } = rig();
  b.limits = PLAIN;
  a.far?.endBatch();
  a.far?.ready(4);
  assert.is(b.batches, 1);
  assert.equal(b.readies, [4]);
  assert.is(a.far?.accepts(), PLAIN);
});

test("a port that is in use is refused, and the other one is then free again", () => {
  const { a } = rig();
  const c = new TestPort();
  assert.throws(() => connect(c, a));
  assert.is(c.far, null);
  assert.throws(
    () => connect(c, c),
    (error: unknown) => error instanceof ConfigError && error.code === "wire-ends",
  );
  assert.is(c.far, null);
});

test("pulling the cable frees both ports, at any time and as often as one likes", () => {
  const { a, b, wire } = rig();
  const { far } = a;
  b.onOffer = () => wire[Symbol.dispose]();
  assert.is(a.send(frameOf(2, 1, 1)), "taken", "the frame was under way");
  assert.is(a.far, null);
  assert.is(b.far, null);
  wire[Symbol.dispose]();
  assert.is(far?.offer(frameOf(2, 1, 2), 0, 60, null, 0), "dropped");
  assert.is(wire.counters().aToB.unplugged, 1);
  assert.is(b.taken.length, 1);
  connect(a, b);
  assert.is(a.send(frameOf(2, 1, 3)), "taken");
});

test("longer than the far end takes, or shorter than a header: dropped and counted", () => {
  const { a, b, wire } = rig();
  b.limits = PLAIN;
  assert.is(a.send(new Uint8Array(1514)), "taken");
  assert.is(a.send(new Uint8Array(1515)), "dropped");
  assert.is(a.send(new Uint8Array(14)), "taken");
  assert.is(a.send(new Uint8Array(13)), "dropped");
  assert.is(a.send(new Uint8Array(1515), offloadOf({ needsCsum: true, csumStart: 14, csumOffset: 2 })), "dropped");
  assert.is(wire.counters().aToB.badLength, 3);
  b.limits = { ...PLAIN, longestFrame: 9000 };
  assert.is(a.send(new Uint8Array(1515)), "taken", "limits are asked for every frame");
});

test("an open checksum goes on as it is, or is completed, as the far end says", () => {
  const { a, b, wire } = rig();
  const offload = offloadOf({ needsCsum: true, csumStart: 14, csumOffset: 16 });
  const frame = new Uint8Array(60);
  frame.set([0x12, 0x34], 20);
  assert.is(a.send(frame, offload), "taken");
  assert.equal(b.taken[0], { frame, offload, queueHint: 0 });
  b.limits = PLAIN;
  assert.is(a.send(frame, offload), "taken");
  assert.is(b.taken[1]?.offload, null);
  assert.equal([...(b.taken[1]?.frame.subarray(30, 32) ?? [])], [0xed, 0xcb]);
  assert.is(wire.counters().aToB.finished, 1);
});

test("a promise that the checksum is right means nothing to an end that takes finished frames only", () => {
  const { a, b } = rig();
  const offload = offloadOf({ dataValid: true });
  a.send(frameOf(2, 1, 1), offload);
  b.limits = PLAIN;
  a.send(frameOf(2, 1, 2), offload);
  assert.equal(
    b.taken.map((t) => t.offload),
    [offload, null],
  );
});

test("a checksum that would lie outside the frame is never written", () => {
  const { a, b, wire } = rig();
  b.limits = PLAIN;
  const offered = (csumStart: number, csumOffset: number): Verdict =>
    a.send(new Uint8Array(60), offloadOf({ needsCsum: true, csumStart, csumOffset }));
  assert.is(offered(42, 16), "taken");
  assert.is(offered(42, 17), "dropped");
  assert.is(offered(0xffff, 0xffff), "dropped");
  assert.is(offered(61, 0), "dropped");
  b.limits = TAKES_ALL;
  assert.is(offered(42, 17), "dropped", "nor handed on");
  assert.is(wire.counters().aToB.badOffload, 4);
});

test("segments are taken by who cuts them, and dropped otherwise", () => {
  const { a, b, wire } = rig();
  const limits = { tcp4: "tso4", tcp6: "tso6", udp: "uso" } as const;
  for (const [gso, limit] of Object.entries(limits) as ["tcp4", "tso4"][]) {
    const offload = offloadOf({ gso, gsoSize: 1000, needsCsum: true, csumStart: 34, csumOffset: 16 });
    b.limits = { ...PLAIN, csum: true, [limit]: true };
    assert.is(a.send(new Uint8Array(4000), offload), "taken", `${gso} is longer than a frame, and may be`);
    b.limits = { ...TAKES_ALL, [limit]: false };
    assert.is(a.send(new Uint8Array(4000), offload), "dropped");
    b.limits = { ...TAKES_ALL, csum: false };
    assert.is(a.send(new Uint8Array(4000), offload), "dropped", "each segment would need its checksum");
  }
  assert.is(wire.counters().aToB.unsegmented, 6);
});

test("later is an answer for who can hold, and a drop for who cannot", () => {
  const { a, b, wire } = rig();
  b.verdict = () => "later";
  a.limits = { ...TAKES_ALL, holds: true };
  assert.is(a.send(frameOf(2, 1, 1)), "later");
  a.limits = { ...TAKES_ALL, holds: false };
  assert.is(a.send(frameOf(2, 1, 1)), "dropped");
  const { later, unheld } = wire.counters().aToB;
  assert.equal([later, unheld], [1, 1]);
});

test("an answer within the offer does not disturb the frame that is still being looked at", () => {
  const { a, b } = rig();
  const offload = offloadOf({ needsCsum: true, csumStart: 14, csumOffset: 40 });
  a.limits = PLAIN;
  b.limits = PLAIN;
  // b answers a's question, a asks once more within the answer: all three are finished in one buffer or another.
  b.onOffer = (frame) => frame[14] === 1 && b.send(frameOf(1, 2, 2), offload);
  a.onOffer = (frame) => frame[14] === 2 && a.send(frameOf(2, 1, 3), offload);
  assert.is(a.send(frameOf(2, 1, 1), offload), "taken");
  assert.equal(b.tags, [3, 1]);
  assert.equal(a.tags, [2]);
  for (const { frame } of [...a.taken, ...b.taken]) assert.is(frame.length, 60);
});

test("two ends that answer at once come to an end", () => {
  const { a, b, wire } = rig();
  a.onOffer = () => a.send(frameOf(2, 1, 1));
  b.onOffer = () => b.send(frameOf(1, 2, 2));
  assert.is(a.send(frameOf(2, 1, 0)), "taken");
  const { aToB, bToA } = wire.counters();
  assert.is(aToB.nested + bToA.nested, 1);
  assert.ok(aToB.frames <= 8);
});

test("a far end that throws leaves the wire as it was", () => {
  const { a, b } = rig();
  b.onOffer = () => {
    throw new Error("the embedder's own");
  };
  for (let i = 0; i < 20; i++) assert.throws(() => a.send(frameOf(2, 1, 1)), /own/);
  b.onOffer = () => {};
  assert.is(a.send(frameOf(2, 1, 1)), "taken");
});

test("every frame offered is taken, held by its sender, or counted as dropped", () => {
  const step = fc.record({
    verdict: fc.constantFrom<Verdict>("taken", "later", "dropped"),
    holds: fc.boolean(),
    csum: fc.boolean(),
    longestFrame: fc.constantFrom(100, 1514),
    length: fc.constantFrom(0, 13, 14, 100, 101, 1514, 1515, 70_000),
    offload: fc.option(
      fc.record({
        needsCsum: fc.boolean(),
        csumStart: fc.nat(120),
        csumOffset: fc.nat(20),
        gso: fc.constantFrom<Offload["gso"]>("none", "tcp4", "udp"),
        dataValid: fc.boolean(),
      }),
    ),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const { a, b, wire } = rig();
      let [taken, later, dropped, bytes] = [0, 0, 0, 0];
      for (const { verdict, holds, csum, longestFrame, length, offload } of steps) {
        a.limits = { ...PLAIN, holds };
        b.limits = { ...PLAIN, csum, longestFrame };
        b.verdict = () => verdict;
        const got = a.send(new Uint8Array(length), offload === null ? null : offloadOf(offload));
        if (got === "taken") {
          taken++;
          bytes += length;
        } else if (got === "later") later++;
        else dropped++;
      }
      const c = wire.counters().aToB;
      const drops = c.refused + c.unheld + c.badLength + c.unsegmented + c.badOffload + c.nested + c.unplugged;
      assert.equal([c.frames, c.later, drops, c.bytes], [taken, later, dropped, bytes]);
      assert.is(b.taken.length, taken);
    }),
    { numRuns: 150 },
  );
});

test("the counters are saved; a state that does not fit changes nothing", () => {
  const { a, wire } = rig();
  a.send(frameOf(2, 1, 1));
  a.send(new Uint8Array(3));
  const saved = structuredClone(wire.save());
  const other = rig();
  other.wire.load(saved);
  assert.equal(other.wire.counters(), wire.counters());
  for (const bad of [{}, { ...saved, version: 2 }, { ...saved, aToB: [1] }, { ...saved, bToA: [], aToB: 5 }])
    assert.throws(
      () => other.wire.load(bad),
      (error: unknown) => error instanceof StateError,
    );
  assert.equal(other.wire.counters(), wire.counters());
});

test.run();
