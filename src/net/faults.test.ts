import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../bytes/index.js";
import type { Offload, Verdict } from "../contract/index.js";
import { type FaultOptions, type FaultRates, Faults } from "./faults.js";
import { OffloadRecord, TAKES_ALL } from "./offload.js";
import { frameOf, TestClock, TestPort } from "./testing.js";
import { connect } from "./wire.js";

const rig = (options: Partial<FaultOptions> = {}) => {
  const clock = new TestClock(5000);
  const [card, other] = [new TestPort(), new TestPort()];
  const faults = new Faults(card, { clock, seed: 1, ...options });
  const wire = connect(faults, other);
  return { clock, card, other, faults, wire };
};

/** Sends frames from `other` to the card, `apart` ns from each other. */
const sendAll = (r: ReturnType<typeof rig>, count: number, apart = 0): void => {
  for (let i = 0; i < count; i++) {
    r.other.send(frameOf(1, 2, i & 0xff));
    r.clock.advance(apart);
  }
};

test("without faults everything passes in place, flow control included", () => {
  const { card, other, faults } = rig();
  const frame = frameOf(1, 2, 3);
  let seen: Uint8Array | null = null;
  const { offer } = card;
  card.offer = (bytes) => {
    seen = bytes;
    return "taken";
  };
  other.far?.offer(frame, 0, 60, null, 0);
  assert.is(seen, frame);
  card.offer = offer;
  card.verdict = () => "later";
  assert.is(other.send(frame), "later");
  card.far?.ready(7);
  assert.equal(other.readies, [7]);
  other.far?.ready(8);
  assert.equal(card.readies, [8]);
  assert.is(other.far?.accepts(), card.limits);
  other.far?.endBatch();
  assert.is(card.batches, 1);
  assert.equal([faults.counters().inbound.delivered, faults.counters().inbound.later], [1, 1]);
});

test("lost frames were taken, as far as their sender knows; about as many as asked for", () => {
  const r = rig({ inbound: { loss: 0.3 } });
  for (let i = 0; i < 2000; i++) assert.is(r.other.send(frameOf(1, 2, 0)), "taken");
  const { lost, delivered } = r.faults.counters().inbound;
  assert.is(lost + delivered, 2000);
  assert.is(r.card.taken.length, delivered);
  assert.ok(lost > 500 && lost < 700, `${lost} of 2000`);
  assert.is(r.card.send(frameOf(2, 1, 9)), "taken");
  assert.equal(r.other.tags, [9], "the other direction has no faults");
});

test("rates of 0 and 1 are never and always", () => {
  const all = rig({ inbound: { loss: 1 } });
  sendAll(all, 50);
  assert.is(all.card.taken.length, 0);
  const twice = rig({ inbound: { duplicate: 1 } });
  sendAll(twice, 3);
  assert.equal(twice.card.tags, [0, 0, 1, 1, 2, 2]);
  const none = rig({ inbound: { loss: 0, duplicate: 0, delayNs: 1 } });
  sendAll(none, 200, 1);
  assert.is(none.card.taken.length, 200);
});

test("a delayed frame comes when its time has come, as it was, with the end of a batch", () => {
  const { clock, card, other } = rig({ inbound: { delayNs: 1000 } });
  const offload: Offload = Object.assign(new OffloadRecord(), { needsCsum: true, csumStart: 14, csumOffset: 4 });
  other.send(frameOf(1, 2, 1), offload, 6);
  clock.advance(400);
  other.send(frameOf(1, 2, 2));
  clock.advance(599);
  assert.equal(card.tags, []);
  clock.advance(1);
  assert.equal(card.taken, [{ frame: frameOf(1, 2, 1), offload, queueHint: 6 }]);
  assert.is(card.batches, 1);
  clock.advance(400);
  assert.equal(card.tags, [1, 2]);
});

test("with a constant delay frames keep their order", () => {
  const r = rig({ inbound: { delayNs: 1000 } });
  sendAll(r, 100, 7);
  r.clock.advance(1000);
  assert.equal(
    r.card.tags,
    Array.from({ length: 100 }, (_, i) => i),
  );
});

test("a reordered frame is overtaken by those that follow within its time, and only by those", () => {
  const r = rig({ inbound: { reorder: 0.2, reorderNs: 450 } });
  sendAll(r, 200, 100);
  r.clock.advance(1000);
  assert.is(r.card.taken.length, 200);
  let overtaken = 0;
  for (const [place, tag] of r.card.tags.entries()) {
    assert.ok(place - tag <= 4 && tag - place <= 4, "450 ns are four frames");
    if (place !== tag) overtaken++;
  }
  assert.ok(overtaken > 20);
});

test("jitter keeps to its bounds", () => {
  const r = rig({ inbound: { delayNs: 1000, jitterNs: 50 } });
  const late: number[] = [];
  r.card.onOffer = () => late.push(r.clock.now());
  for (let i = 0; i < 100; i++) {
    const sent = r.clock.now();
    r.other.send(frameOf(1, 2, i));
    r.clock.advance(5000);
    assert.ok(late[i]! >= sent + 1000 && late[i]! <= sent + 1050);
  }
  assert.ok(new Set(late.map((at) => at % 5000)).size > 20);
});

test("the same seed does the same; another seed, or another direction, something else", () => {
  const lossy: FaultRates = { loss: 0.5 };
  const outcome = (seed: number) => {
    const r = rig({ seed, inbound: lossy, outbound: lossy });
    for (let i = 0; i < 64; i++) {
      r.other.send(frameOf(1, 2, i));
      r.card.send(frameOf(2, 1, i));
    }
    return { inbound: r.card.tags, outbound: r.other.tags };
  };
  assert.equal(outcome(4), outcome(4));
  assert.not.equal(outcome(4).inbound, outcome(5).inbound);
  assert.not.equal(outcome(4).inbound, outcome(4).outbound);
});

test("a seed loses the same frames whatever else happens to them, and however much goes the other way", () => {
  const survivors = (inbound: FaultRates, chatter: number) => {
    const r = rig({ seed: 9, inbound, outbound: { loss: 0.5 } });
    for (let i = 0; i < 100; i++) {
      r.other.send(frameOf(1, 2, i));
      for (let n = 0; n < chatter; n++) r.card.send(frameOf(2, 1, i));
    }
    r.clock.advance(1e9);
    return [...new Set(r.card.tags)].sort((a, b) => a - b);
  };
  const plain = survivors({ loss: 0.3 }, 0);
  assert.equal(survivors({ loss: 0.3, duplicate: 0.5, jitterNs: 900, reorder: 0.4 }, 3), plain);
});

test("what the other side says later to is held in order until it is ready", () => {
  const { clock, card, other, faults } = rig({ inbound: { delayNs: 10 } });
  card.verdict = (frame) => (frame[14] === 1 ? "later" : "taken");
  for (let i = 0; i < 4; i++) assert.is(other.send(frameOf(1, 2, i)), "taken");
  clock.advance(1000);
  assert.equal(card.tags, [0]);
  assert.is(faults.counters().inbound.held, 3);
  assert.is(clock.next, Number.POSITIVE_INFINITY, "no timer runs while the other side has to speak first");
  assert.is(card.far?.accepts().holds, true, "the receiver may say later: somebody holds");
  card.verdict = () => "taken";
  card.far?.ready(0);
  assert.equal(card.tags, [0, 1, 2, 3]);
  assert.equal(other.readies, [], "the sender was not waiting");
});

test("a lossy direction without delay holds, too", () => {
  const { card, other, faults } = rig({ inbound: { loss: 1e-9 } });
  card.verdict = () => "later";
  assert.is(other.send(frameOf(1, 2, 1)), "taken");
  assert.is(other.send(frameOf(1, 2, 2)), "taken");
  assert.is(faults.counters().inbound.held, 2);
  card.verdict = () => "taken";
  card.far?.ready(0);
  other.send(frameOf(1, 2, 3));
  assert.equal(card.tags, [1, 2, 3]);
});

test("ready said too early is not lost", () => {
  const { clock, card, other } = rig({ inbound: { loss: 1e-9 } });
  let first = true;
  card.onOffer = () => first && card.far?.ready(0);
  card.verdict = () => (first ? "later" : "taken");
  other.send(frameOf(1, 2, 1));
  first = false;
  clock.advance(12_000);
  assert.equal(card.tags, [1]);
});

test("too much under way is dropped and counted", () => {
  for (const room of [{ heldFrames: 3 }, { heldBytes: 180 }]) {
    const { clock, card, other, faults } = rig({ inbound: { delayNs: 1000 }, ...room });
    const verdicts = Array.from({ length: 5 }, (_, i) => other.send(frameOf(1, 2, i)));
    assert.equal(verdicts, ["taken", "taken", "taken", "dropped", "dropped"]);
    assert.is(faults.counters().inbound.overflowed, 2);
    clock.advance(1000);
    assert.equal(card.tags, [0, 1, 2]);
  }
});

test("stations that answer at once do not keep the call", () => {
  const { clock, card, other } = rig({ inbound: { loss: 1e-9 }, outbound: { loss: 1e-9 } });
  card.onOffer = () => card.send(frameOf(2, 1, 1));
  other.onOffer = () => other.send(frameOf(1, 2, 2));
  other.send(frameOf(1, 2, 0));
  const first = card.taken.length;
  assert.ok(first > 0 && first < 200);
  clock.advance(100_000);
  assert.ok(card.taken.length > first);
});

test("pulling the cable drops what is under way, in both directions", () => {
  const { clock, card, other, faults, wire } = rig({ inbound: { delayNs: 50 }, outbound: { delayNs: 50 } });
  other.send(frameOf(1, 2, 1));
  card.send(frameOf(2, 1, 2));
  const { far } = card;
  wire[Symbol.dispose]();
  clock.advance(1000);
  assert.equal([card.taken.length, other.taken.length], [0, 0]);
  assert.equal([faults.counters().inbound.unplugged, faults.counters().outbound.unplugged], [1, 1]);
  assert.is(far?.offer(frameOf(2, 1, 3), 0, 60, null, 0), "dropped");
  assert.is(card.far, null);
  connect(faults, other);
  assert.throws(() => faults.attach(new TestPort()), /occupied/);
  card.send(frameOf(2, 1, 4));
  clock.advance(50);
  assert.equal(other.tags, [4]);
});

test("pulling the cable within an offer", () => {
  for (const delayNs of [0, 50]) {
    const { clock, card, other, faults, wire } = rig({ inbound: { delayNs, loss: 1e-9 } });
    card.onOffer = () => wire[Symbol.dispose]();
    card.verdict = () => (delayNs === 0 ? "later" : "taken");
    other.send(frameOf(1, 2, 1));
    if (delayNs > 0) other.send(frameOf(1, 2, 2));
    clock.advance(1000);
    assert.is(faults.counters().inbound.held, 0);
  }
});

test("an embedder's mistakes are refused by name", () => {
  const refused = (code: string, options: Partial<FaultOptions>): void =>
    assert.throws(
      () => rig(options),
      (error: unknown) => error instanceof ConfigError && error.code === code,
    );
  for (const bad of [-0.1, 1.1, Number.NaN]) refused("fault-rate", { inbound: { loss: bad } });
  refused("fault-rate", { outbound: { duplicate: 2 } });
  for (const bad of [-1, 0.5]) refused("fault-delay", { inbound: { delayNs: bad } });
  refused("fault-room", { heldFrames: 0 });
  refused("fault-room", { heldBytes: 0 });
  refused("prng-seed", { seed: -1 });
});

const rates = fc.record({
  loss: fc.constantFrom(0, 0.2),
  duplicate: fc.constantFrom(0, 0.3),
  reorder: fc.constantFrom(0, 0.3),
  delayNs: fc.constantFrom(0, 500),
  jitterNs: fc.constantFrom(0, 300),
  reorderNs: fc.constantFrom(100, 2000),
});
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ outbound: fc.boolean(), length: fc.constantFrom(60, 700) }) },
  { weight: 3, arbitrary: fc.record({ wait: fc.nat(1500) }) },
  { weight: 2, arbitrary: fc.record({ verdict: fc.constantFrom<Verdict>("taken", "later", "dropped") }) },
  { weight: 2, arbitrary: fc.constant({ ready: true }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const play = (r: ReturnType<typeof rig>, steps: readonly Step[]): void => {
  for (const [i, act] of steps.entries()) {
    if ("length" in act) (act.outbound ? r.card : r.other).send(frameOf(1, 2, i, act.length));
    else if ("wait" in act) r.clock.advance(act.wait);
    else if ("verdict" in act) r.card.verdict = () => act.verdict;
    else r.card.far?.ready(0);
  }
};

test("conservation: offered and duplicated is lost, delivered, refused, dropped or under way", () => {
  fc.assert(
    fc.property(rates, rates, fc.array(step, { maxLength: 60 }), fc.nat(), (inbound, outbound, steps, seed) => {
      const r = rig({ inbound, outbound, seed, heldFrames: 6, heldBytes: 3000 });
      play(r, steps);
      for (const c of Object.values(r.faults.counters())) {
        const sum = c.lost + c.delivered + c.refused + c.overflowed + c.unplugged + c.held;
        assert.is(c.offered + c.duplicated, sum);
      }
      assert.is(r.faults.counters().inbound.delivered, r.card.taken.length);
      assert.is(r.faults.counters().outbound.delivered, r.other.taken.length);
      r.card.verdict = () => "taken";
      for (let i = 0; i < 10; i++) {
        r.card.far?.ready(0);
        r.clock.advance(20_000);
      }
      assert.is(r.faults.counters().inbound.held + r.faults.counters().outbound.held, 0, "nothing stays for ever");
    }),
    { numRuns: 150 },
  );
});

test("a run that is cut anywhere and restored elsewhere goes on identically", () => {
  const steps = fc.array(step, { maxLength: 40 });
  fc.assert(
    fc.property(rates, rates, steps, steps, (inbound, outbound, before, after) => {
      const options = { inbound, outbound, heldFrames: 6, heldBytes: 3000 };
      const one = rig(options);
      play(one, before);
      const two = rig({ ...options, seed: 77 });
      two.clock.set(one.clock.now());
      two.faults.load(structuredClone(one.faults.save()));
      two.card.verdict = one.card.verdict;
      for (const port of [one.card, one.other]) port.taken.length = port.batches = 0;
      play(one, after);
      play(two, after);
      assert.equal(two.card.taken, one.card.taken);
      assert.equal(two.other.taken, one.other.taken);
      assert.is(two.card.batches, one.card.batches);
      assert.equal(two.faults.counters(), one.faults.counters());
    }),
    { numRuns: 80 },
  );
});

test("a state that does not fit is refused whole", () => {
  const { faults, other, clock } = rig({ inbound: { delayNs: 100 } });
  other.send(frameOf(1, 2, 1));
  const before = faults.save() as { inbound: object; outbound: object };
  const bad = [
    {},
    { ...before, version: 2 },
    { ...before, inbound: { ...before.inbound, held: [] } },
    { ...before, inbound: { ...before.inbound, held: [1, 0, 0] } },
    { ...before, inbound: { ...before.inbound, held: [600, 0, 0] } },
    { ...before, inbound: { ...before.inbound, prng: [1] } },
    { ...before, outbound: { ...before.outbound, waiting: 0 } },
    { ...before, outbound: { ...before.outbound, fireAt: "now" } },
    { ...before, outbound: { ...before.outbound, counts: [0] } },
  ];
  for (const state of bad)
    assert.throws(
      () => faults.load(state),
      (error: unknown) => error instanceof StateError,
    );
  assert.equal(faults.save(), before);
  clock.advance(100);
  assert.is(faults.counters().inbound.delivered, 1);
});

test("limits are the port's own, but for what the faults hold", () => {
  const { card, other } = rig({ inbound: { loss: 0.5 } });
  card.limits = { ...TAKES_ALL, csum: false, longestFrame: 1514, holds: false };
  other.limits = { ...TAKES_ALL, tso4: false, holds: false };
  assert.equal(other.far?.accepts(), card.limits, "outbound has no faults: the card holds for itself, or not");
  assert.equal({ ...card.far?.accepts() }, { ...other.limits, ecn: true, holds: true });
});

test.run();
