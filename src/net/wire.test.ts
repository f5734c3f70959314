import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../bytes/index.js";
import type { EndpointLimits, Offload, Verdict } from "../contract/index.js";
import { MOST_SEGMENTS } from "./headers.js";
import { OffloadRecord, TAKES_ALL } from "./offload.js";
import { PcapngWriter } from "./pcapng.js";
import { Switch } from "./switch.js";
import { Tap } from "./tap.js";
import {
  frameOf,
  type PacketParts,
  packetOf,
  reassemble,
  segmentsOf,
  slowSum,
  TestClock,
  TestPort,
} from "./testing.js";
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

const GSO_OF = { tcp4: "tso4", tcp6: "tso6", udp: "uso" } as const;

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

test("segments are taken by who cuts them; what is no packet is then not cut, and dropped", () => {
  const { a, b, wire } = rig();
  const limits = { ...GSO_OF, udpfrag: "ufo" } as const;
  for (const [gso, limit] of Object.entries(limits) as ["tcp4", "tso4"][]) {
    const offload = offloadOf({ gso, gsoSize: 1000, needsCsum: true, csumStart: 34, csumOffset: 16 });
    b.limits = { ...PLAIN, csum: true, [limit]: true };
    assert.is(a.send(new Uint8Array(4000), offload), "taken", `${gso} is longer than a frame, and may be`);
    b.limits = { ...TAKES_ALL, [limit]: false };
    assert.is(a.send(new Uint8Array(4000), offload), "dropped");
    b.limits = { ...TAKES_ALL, csum: false };
    assert.is(a.send(new Uint8Array(4000), offload), "dropped", "each segment would need its checksum");
  }
  assert.is(wire.counters().aToB.unsegmented, 8);
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
        gso: fc.constantFrom<Offload["gso"]>("none", "tcp4", "udp", "udpfrag"),
        gsoSize: fc.constantFrom(0, 1, 1000),
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
  const lane = saved.aToB as object;
  const rest = { gso: 1, gsoSize: 1000, queueHint: 0, frame: packetOf({ gso: "tcp4", payload: new Uint8Array(99) }) };
  other.wire.load({ ...saved, bToA: { ...lane, rest } });
  assert.is(other.wire.counters().bToA.held, 1);
  other.wire.load(saved);
  const lanes = [
    5,
    {},
    { ...lane, counts: [1] },
    { ...lane, waiting: new Array(65).fill(0) },
    { ...lane, rest: undefined },
    ...[
      { frame: new Uint8Array(60) },
      { frame: [] },
      { gso: 0 },
      { gso: 2 },
      { gso: 4 },
      { gso: 5 },
      { gsoSize: 0 },
      { queueHint: 0.5 },
    ].map((part) => ({ ...lane, rest: { ...rest, ...part } })),
  ];
  for (const bad of [{}, { ...saved, version: 1 }, ...lanes.map((bToA) => ({ ...saved, bToA }))])
    assert.throws(
      () => other.wire.load({ ...bad, ...("aToB" in bad ? { aToB: { ...lane, rest } } : {}) }),
      (error: unknown) => error instanceof StateError,
    );
  assert.equal(other.wire.counters(), wire.counters());
});

// ---------------------------------------------------------------------------------------------- segments

const payloadOf = (length: number, tag = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => (i + tag) & 0xff);
const wholeOf = (
  parts: PacketParts,
  gsoSize: number,
  gso: Offload["gso"] = parts.gso,
): { frame: Uint8Array; offload: Offload } => ({
  frame: packetOf(parts, true),
  offload: offloadOf({
    gso,
    gsoSize,
    needsCsum: true,
    csumStart: 34,
    csumOffset: parts.gso === "udp" ? 6 : 16,
  }),
});
/** A frame that is cut into `count` segments, told apart by `tag`. */
const cutInto = (count: number, tag = 0) => {
  const parts: PacketParts = {
    gso: "tcp4",
    payload: payloadOf(count * 100 - 1, tag),
    sequence: tag * 0x1_0000,
    flags: 0x98,
  };
  return { parts, ...wholeOf(parts, 100), segments: segmentsOf(parts, 100) };
};
const frames = (port: TestPort): Uint8Array[] => port.taken.map(({ frame }) => frame);

test("VIO-285 VIO-289 a far end that does not segment gets finished segments, in order", () => {
  for (const gso of ["tcp4", "tcp6", "udp"] as const) {
    const { a, b, wire } = rig();
    const parts: PacketParts = { gso, payload: payloadOf(3000), flags: 0x99, tags: [7] };
    const { frame, offload } = wholeOf(parts, 1400);
    b.limits = PLAIN;
    assert.is(a.send(frame, offload, 6), "taken");
    assert.equal(frames(b), segmentsOf(parts, 1400));
    assert.ok(b.taken.every((taken) => taken.offload === null && taken.queueHint === 6));
    b.limits = { ...TAKES_ALL, [GSO_OF[gso]]: false };
    assert.is(a.send(frame, offload), "taken");
    b.limits = TAKES_ALL;
    assert.is(a.send(frame, offload), "taken");
    assert.equal(b.taken[6]?.frame, frame, "and one that does gets the frame as it was");
    assert.equal(b.taken[6]?.offload, offload);
    const { frames: taken, cut, segments, finished } = wire.counters().aToB;
    assert.equal([taken, cut, segments, finished], [7, 2, 6, 0]);
  }
});

test("VIO-289 a far end that fragments gets a datagram whole, every other one its fragments", () => {
  for (const v6 of [false, true]) {
    const { a, b, wire } = rig();
    const parts: PacketParts = { gso: "udp", v6, payload: payloadOf(3001), tags: [7] };
    const { frame, offload } = wholeOf(parts, 1448, "udpfrag");
    for (const limits of [TAKES_ALL, PLAIN, { ...TAKES_ALL, ufo: false }]) {
      b.limits = limits;
      assert.is(a.send(frame, offload, 6), "taken");
    }
    assert.equal([b.taken[0]?.frame, b.taken[0]?.offload], [frame, offload]);
    const whole = packetOf({ ...parts, dontFragment: false });
    assert.equal(reassemble(frames(b).slice(1, 4)), whole);
    assert.equal(reassemble(frames(b).slice(4)), whole);
    assert.ok(b.taken.slice(1).every((taken) => taken.offload === null && taken.queueHint === 6));
    const { frames: taken, cut, segments, finished } = wire.counters().aToB;
    assert.equal([taken, cut, segments, finished], [7, 2, 6, 0]);
    b.limits = { ...PLAIN, longestFrame: 1513 };
    assert.is(a.send(frame, wholeOf(parts, 1480, "udpfrag").offload), "dropped", "fragments that are too long");
  }
});

test("fragments that were answered later are held, saved with their wire, and follow", () => {
  for (const v6 of [false, true])
    for (const taken of [1, 2, 3]) {
      const { a, b, wire } = rig();
      const parts: PacketParts = { gso: "udp", v6, payload: payloadOf(300) };
      const { frame, offload } = wholeOf(parts, 80, "udpfrag");
      b.limits = PLAIN;
      let n = 0;
      b.verdict = () => (n++ < taken ? "taken" : "later");
      assert.is(a.send(frame, offload), "taken");
      assert.is(wire.counters().aToB.held, 4 - taken);
      const other = rig();
      other.b.limits = PLAIN;
      other.wire.load(structuredClone(wire.save()));
      assert.equal(other.wire.save(), wire.save());
      b.verdict = () => "taken";
      b.far?.ready(0);
      other.b.far?.ready(0);
      assert.equal(frames(other.b), frames(b).slice(taken));
      assert.equal(reassemble(frames(b)), packetOf({ ...parts, dontFragment: false }));
    }
});

test("VIO-286 segments of no size are dropped, also where the far end would cut them", () => {
  const { a, b, wire } = rig();
  const { frame } = cutInto(3);
  for (const limits of [PLAIN, TAKES_ALL]) {
    b.limits = limits;
    for (const gsoSize of [0, -5, Number.NaN, 65_536])
      assert.is(a.send(frame, offloadOf({ gso: "tcp4", gsoSize })), "dropped");
  }
  assert.is(wire.counters().aToB.badOffload, 8);
  assert.is(b.taken.length, 0);
});

test("segments that are longer than the far end takes are not begun with", () => {
  const { a, b, wire } = rig();
  const { frame, offload } = wholeOf({ gso: "tcp4", payload: payloadOf(3000) }, 1461);
  b.limits = PLAIN;
  assert.is(a.send(frame, offload), "dropped");
  assert.equal([b.taken.length, wire.counters().aToB.badLength, wire.counters().aToB.cut], [0, 1, 0]);
});

test("a frame whose first segment is answered later stays with its sender", () => {
  const { a, b, wire } = rig();
  const { frame, offload, segments } = cutInto(4);
  b.limits = PLAIN;
  b.verdict = () => "later";
  assert.is(a.send(frame, offload), "later");
  const { later, held, cut } = wire.counters().aToB;
  assert.equal([later, held, cut], [1, 0, 0]);
  b.verdict = () => "taken";
  b.far?.ready(3);
  assert.equal(a.readies, [3]);
  assert.is(a.send(frame, offload), "taken");
  assert.equal(frames(b), segments);
});

test("a frame that is answered later in the middle is finished from the wire, and nothing overtakes it", () => {
  const { a, b, wire } = rig();
  const { frame, offload, segments } = cutInto(4);
  b.limits = PLAIN;
  let room = 2;
  b.verdict = () => (room-- > 0 ? "taken" : "later");
  assert.is(a.send(frame, offload, 5), "taken");
  assert.equal(frames(b), segments.slice(0, 2));
  assert.is(wire.counters().aToB.held, 2);
  assert.is(a.send(frameOf(2, 1, 9), null, 7), "later", "the rest goes first");
  assert.is(a.send(frameOf(2, 1, 9), null, 7), "later");
  assert.is(b.send(frameOf(1, 2, 9)), "taken", "the other way is free");
  room = 1;
  b.batches = 0;
  b.far?.ready(5);
  assert.is(b.taken.length, 3);
  assert.equal(a.readies, [], "there is still something in the way");
  assert.is(wire.counters().aToB.held, 1);
  room = 9;
  b.far?.ready(5);
  assert.equal(frames(b), segments);
  assert.ok(b.taken.every(({ queueHint }) => queueHint === 5));
  assert.is(b.batches, 2, "the wire ends the batch of what it sent by itself");
  assert.equal(a.readies, [7, 5], "each queue that waits is told once");
  const c = wire.counters().aToB;
  assert.equal([c.frames, c.cut, c.segments, c.held, c.later], [4, 1, 4, 0, 2]);
});

test("a sender that cannot hold loses the segments that the far end had no room for, and no others", () => {
  const { a, b, wire } = rig();
  const { frame, offload, segments } = cutInto(4);
  a.limits = { ...PLAIN, holds: false };
  b.limits = PLAIN;
  let n = 0;
  b.verdict = () => (n++ % 2 === 1 ? "later" : "taken");
  assert.is(a.send(frame, offload), "taken");
  assert.equal(frames(b), [segments[0], segments[2]]);
  const { frames: taken, segments: made, unheld, held } = wire.counters().aToB;
  assert.equal([taken, made, unheld, held], [2, 4, 2, 0]);
  b.verdict = () => "dropped";
  assert.is(a.send(frame, offload), "dropped", "nobody got anything of it");
  assert.is(wire.counters().aToB.refused, 4);
});

test("what a sender offers while its frame is being cut waits until that is through", () => {
  const { a, b, wire } = rig();
  const { frame, offload, segments } = cutInto(3);
  b.limits = PLAIN;
  const verdicts: Verdict[] = [];
  b.onOffer = (got) => got.length > 100 && b.send(frameOf(1, 2, 1));
  a.onOffer = () => verdicts.push(a.send(frameOf(2, 1, 2), null, 4));
  a.ready = (hint) => {
    a.readies.push(hint);
    verdicts.push(a.send(frameOf(2, 1, 2)));
  };
  assert.is(a.send(frame, offload), "taken");
  assert.equal(verdicts, ["later", "later", "later", "taken"]);
  assert.equal(a.readies, [4]);
  assert.equal(frames(b), [...segments, frameOf(2, 1, 2)]);
  a.limits = { ...PLAIN, holds: false };
  a.send(frame, offload);
  assert.is(wire.counters().aToB.nested, 3, "who cannot hold, loses it");
});

test("two ends that answer segments with segments come to an end", () => {
  const { a, b, wire } = rig();
  const { frame, offload } = cutInto(3);
  a.limits = PLAIN;
  b.limits = PLAIN;
  for (const port of [a, b]) {
    port.onOffer = () => port.send(frame, offload);
    port.ready = () => port.send(frame, offload);
  }
  a.send(frame, offload);
  assert.ok(a.taken.length + b.taken.length < 100_000);
  assert.ok(wire.counters().aToB.nested + wire.counters().bToA.nested > 0);
});

test("a far end that says ready and then later is asked again, but not for ever", () => {
  const { a, b, wire } = rig();
  const { frame, offload, segments } = cutInto(3);
  b.limits = PLAIN;
  let offers = 0;
  b.verdict = () => {
    if (++offers === 1 || offers % 3 === 0) return "taken";
    b.far?.ready(0);
    return "later";
  };
  assert.is(a.send(frame, offload), "taken");
  assert.equal(frames(b), segments);
  assert.equal(a.readies, [0], "and who sends is told when the frame is through");
  offers = 0;
  b.verdict = () => {
    b.far?.ready(0);
    return ++offers === 1 ? "taken" : "later";
  };
  assert.is(a.send(frame, offload), "taken");
  assert.ok(offers < 20);
  assert.is(wire.counters().aToB.held, 2);
});

test("a cable pulled in the middle of a frame, or while the rest is held: counted, and never sent", () => {
  for (const held of [false, true]) {
    const { a, b, wire } = rig();
    const { frame, offload } = cutInto(5);
    b.limits = PLAIN;
    let room = 2;
    b.verdict = () => (room-- > 0 ? "taken" : "later");
    if (!held) b.onOffer = () => room === 1 && wire[Symbol.dispose]();
    const { far } = b;
    assert.is(a.send(frame, offload), "taken");
    wire[Symbol.dispose]();
    far?.ready(0);
    assert.is(b.taken.length, 2);
    const { segments, unplugged, held: now } = wire.counters().aToB;
    assert.equal([segments, unplugged, now], [5, 3, 0]);
  }
});

test("a far end that throws in the middle of a frame leaves the wire free for the next one", () => {
  const { a, b, wire } = rig();
  const { frame, offload, segments } = cutInto(4);
  b.limits = PLAIN;
  let offers = 0;
  b.onOffer = () => {
    if (++offers === 3) throw new Error("the embedder's own");
  };
  assert.throws(() => a.send(frame, offload), /own/);
  const { frames: taken, segments: made, refused } = wire.counters().aToB;
  assert.equal([taken, made, refused], [2, 4, 2]);
  assert.is(a.send(frame, offload), "taken");
  assert.equal(frames(b).slice(2), segments);
});

test("the rest is not sent to a far end that takes shorter frames by now", () => {
  const { a, b, wire } = rig();
  const { frame, offload } = cutInto(4);
  b.limits = PLAIN;
  b.verdict = () => (b.taken.length < 1 ? "taken" : "later");
  a.send(frame, offload, 2);
  b.limits = { ...PLAIN, longestFrame: 100 };
  b.far?.ready(2);
  const { badLength, segments, held } = wire.counters().aToB;
  assert.equal([badLength, segments, held], [3, 4, 0]);
  assert.equal(a.readies, [2]);
});

test("more queues than the wire can tell ready lose their frames, counted", () => {
  const { a, b, wire } = rig();
  const { frame, offload } = cutInto(2);
  b.limits = PLAIN;
  b.verdict = () => (b.taken.length < 1 ? "taken" : "later");
  a.send(frame, offload);
  for (let hint = 0; hint < 64; hint++) assert.is(a.send(frameOf(2, 1, 1), null, hint), "later");
  assert.is(a.send(frameOf(2, 1, 1), null, 64), "dropped");
  assert.is(wire.counters().aToB.unheld, 1);
  b.verdict = () => "taken";
  b.far?.ready(99);
  assert.equal(a.readies.length, 65, "all that waited, and the one that was named");
});

test("as many segments as a frame may have, through one wire", () => {
  const { a, b } = rig();
  const parts: PacketParts = { gso: "udp", payload: payloadOf(MOST_SEGMENTS) };
  b.limits = PLAIN;
  const { frame, offload } = wholeOf(parts, 1);
  assert.is(a.send(frame, offload), "taken");
  assert.is(b.taken.length, MOST_SEGMENTS);
});

type Act =
  | { readonly cut: number; readonly hint: number }
  | { readonly plain: number; readonly hint: number }
  | { readonly room: number }
  | { readonly ready: number };
const act: fc.Arbitrary<Act> = fc.oneof(
  fc.record({ cut: fc.integer({ min: 1, max: 6 }), hint: fc.nat(3) }),
  fc.record({ plain: fc.integer({ min: 60, max: 100 }), hint: fc.nat(3) }),
  fc.record({ room: fc.nat(8) }),
  fc.record({ ready: fc.nat(3) }),
);
/** A sender with a queue for each hint that stands still after `later`, as a card's do, and a receiver with room for so many. */
const cardRig = () => {
  const { a, b, wire } = rig();
  const state = { room: 3, serial: 0, queues: [[], [], [], []] as { frame: Uint8Array; offload: Offload | null }[][] };
  const blocked = [false, false, false, false];
  b.limits = PLAIN;
  b.verdict = () => (state.room > 0 ? "taken" : "later");
  b.onOffer = () => {};
  const offer = b.offer.bind(b);
  b.offer = (...args) => {
    const verdict = offer(...args);
    if (verdict === "taken") state.room--;
    return verdict;
  };
  const run = (hint: number): void => {
    const queue = state.queues[hint]!;
    while (!blocked[hint] && queue.length > 0) {
      const { frame, offload } = queue[0]!;
      if (a.send(frame, offload, hint) === "later") blocked[hint] = true;
      else queue.shift();
    }
  };
  a.ready = (hint) => {
    blocked[hint] = false;
    run(hint);
  };
  const play = (acts: readonly Act[]): void => {
    for (const step of acts) {
      if ("room" in step) state.room = step.room;
      else if ("ready" in step) b.far?.ready(step.ready);
      else {
        const tag = ++state.serial & 0xff;
        const { frame, offload } = cutInto("cut" in step ? step.cut : 1, tag);
        state.queues[step.hint]!.push(
          "cut" in step ? { frame, offload } : { frame: frameOf(2, 1, tag, step.plain), offload: null },
        );
        run(step.hint);
      }
    }
  };
  return { a, b, wire, state, blocked, play };
};

test("whenever the far end says later, each frame arrives whole, once and in its turn", () => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
      const r = cardRig();
      r.play(acts);
      r.state.room = 1e9;
      for (let hint = 0; hint < 4; hint++) r.b.far?.ready(hint);
      const expected: Uint8Array[][] = [[], [], [], []];
      let tag = 0;
      for (const step of acts) {
        if ("cut" in step) expected[step.hint]!.push(...cutInto(step.cut, ++tag & 0xff).segments);
        else if ("plain" in step) expected[step.hint]!.push(frameOf(2, 1, ++tag & 0xff, step.plain));
      }
      for (let hint = 0; hint < 4; hint++)
        assert.equal(
          r.b.taken.filter(({ queueHint }) => queueHint === hint).map(({ frame }) => frame),
          expected[hint],
        );
      const c = r.wire.counters().aToB;
      assert.is(c.held, 0);
      assert.is(c.frames, expected.flat().length, "nothing is lost, nothing comes twice");
    }),
    { numRuns: 150 },
  );
});

test("a run that is cut anywhere, in the middle of a frame too, goes on identically in another wire", () => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 25 }), fc.array(act, { maxLength: 25 }), (before, after) => {
      const one = cardRig();
      one.play(before);
      const two = cardRig();
      two.wire.load(structuredClone(one.wire.save()));
      two.state.room = one.state.room;
      two.state.serial = one.state.serial;
      two.state.queues = structuredClone(one.state.queues);
      two.blocked.splice(0, 4, ...one.blocked);
      one.b.taken.length = 0;
      one.play(after);
      two.play(after);
      assert.equal(two.b.taken, one.b.taken);
      assert.equal(two.wire.save(), one.wire.save());
      const left = (r: typeof one) => r.state.queues.map((queue) => queue.map((waiting) => waiting.frame));
      assert.equal(left(two), left(one));
    }),
    { numRuns: 100 },
  );
});

test("VIO-257 DHCP goes on with its checksum complete, unless that is switched off; other UDP as it is", () => {
  const ports = (source: number, destination: number): { frame: Uint8Array; offload: Offload } => {
    const frame = packetOf({ gso: "udp", payload: payloadOf(300), tags: [5] });
    frame.set([source >>> 8, source & 0xff, destination >>> 8, destination & 0xff], 38);
    // As a guest leaves it: the sum of the pseudo header, 10.0.2.15 to 192.168.255.254.
    const seed = slowSum([10, 0, 2, 15, 192, 168, 255, 254, 0, 17, 308 >>> 8, 308 & 0xff]);
    frame.set([seed >>> 8, seed & 0xff], 44);
    return { frame, offload: offloadOf({ needsCsum: true, csumStart: 38, csumOffset: 6 }) };
  };
  for (const [source, destination] of [
    [67, 68],
    [68, 67],
    [67, 67],
  ] as const) {
    const { a, b } = rig();
    const { frame, offload } = ports(source, destination);
    a.send(frame, offload);
    assert.is(b.taken[0]?.offload, null);
    const got = [...b.taken[0]!.frame];
    assert.is(slowSum([10, 0, 2, 15, 192, 168, 255, 254, 0, 17, 308 >>> 8, 308 & 0xff, ...got.slice(38)]), 0xffff);
  }
  for (const [source, destination] of [
    [67, 53],
    [12345, 68],
    [546, 547],
  ] as const) {
    const { a, b } = rig();
    const { frame, offload } = ports(source, destination);
    a.send(frame, offload);
    assert.equal(b.taken[0], { frame, offload, queueHint: 0 });
  }
  const [a, b] = [new TestPort(), new TestPort()];
  connect(a, b, { completeDhcp: false });
  const { frame, offload } = ports(67, 68);
  a.send(frame, offload);
  assert.equal(b.taken[0], { frame, offload, queueHint: 0 });
});

test("behind a switch each far end gets a frame as it can take it, also out of the queue", () => {
  const clock = new TestClock();
  const sw = new Switch({ clock });
  const stations = [new TestPort(), new TestPort(), new TestPort()];
  for (const [i, station] of stations.entries()) connect(station, sw.port(i));
  const [a, b, c] = stations as [TestPort, TestPort, TestPort];
  b.limits = PLAIN;
  const { frame, offload, segments } = cutInto(4);
  frame.fill(0xff, 0, 6);
  for (const segment of segments) segment.fill(0xff, 0, 6);
  let room = 2;
  b.verdict = () => (room-- > 0 ? "taken" : "later");
  a.send(frame, offload);
  a.send(frame, offload);
  assert.equal(
    c.taken.map((taken) => taken.frame),
    [frame, frame],
  );
  assert.equal(c.taken[1]?.offload, offload);
  assert.equal(frames(b), segments.slice(0, 2));
  room = 99;
  b.far?.ready(0);
  clock.advance(100_000);
  assert.equal(frames(b), [...segments, ...segments]);
});

test("a tap shows the frame as it was offered: whole at its sender, cut at its receiver", () => {
  const clock = new TestClock();
  const lengths = (atSender: boolean): number[] => {
    const written: number[] = [];
    const [a, b] = [new TestPort(), new TestPort()];
    const writer = new PcapngWriter({ clock, sink: () => {} });
    const id = writer.addInterface({ name: "one" });
    const packet = writer.packet.bind(writer);
    writer.packet = (...args) => {
      written.push(args[3]);
      return packet(...args);
    };
    b.limits = PLAIN;
    if (atSender) connect(new Tap(a, writer, id), b);
    else connect(a, new Tap(b, writer, id));
    const { frame, offload } = cutInto(3);
    a.send(frame, offload);
    return written;
  };
  assert.equal(lengths(true), [54 + 299]);
  assert.equal(lengths(false), [154, 154, 153]);
});

test("hostile frames with random offloads: no exception, no end missing, what arrives is finished", () => {
  const frame = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .tuple(fc.constantFrom<PacketParts["gso"]>("tcp4", "tcp6", "udp"), fc.nat(300), fc.nat(90), fc.nat(255))
      .map(([gso, length, at, value]) => {
        const bytes = packetOf({ gso, payload: payloadOf(length) }, true);
        bytes[Math.min(at, bytes.length - 1)] = value;
        return bytes;
      }),
  );
  const number = fc.oneof(fc.nat(100), fc.integer({ min: -5, max: 70_000 }));
  const offload = fc.record({
    needsCsum: fc.boolean(),
    csumStart: number,
    csumOffset: number,
    gso: fc.constantFrom<Offload["gso"]>("none", "tcp4", "tcp6", "udp", "udpfrag"),
    gsoSize: number,
    ecn: fc.boolean(),
    dataValid: fc.boolean(),
  });
  fc.assert(
    fc.property(frame, offload, fc.constantFrom<Verdict>("taken", "later", "dropped"), (bytes, fields, verdict) => {
      const { a, b, wire } = rig();
      b.limits = PLAIN;
      let n = 0;
      b.verdict = () => (n++ < 2 ? "taken" : verdict);
      a.send(bytes, offloadOf(fields));
      b.verdict = () => "taken";
      b.far?.ready(0);
      assert.ok(b.taken.every((taken) => taken.offload === null && taken.frame.length <= 1514));
      assert.is(wire.counters().aToB.held, 0);
    }),
    { numRuns: 500 },
  );
});

test.run();
