import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { StateError, StateReader } from "../bytes/index.js";
import type { Offload } from "../contract/index.js";
import { FrameRing } from "./frame-ring.js";
import { OffloadRecord } from "./offload.js";

const fill = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

const push = (ring: FrameRing, length: number, value: number): number =>
  ring.push(fill(length, value), 0, length, null, 0);

const contents = (ring: FrameRing, slot: number): Uint8Array => {
  ring.select(slot);
  return ring.bytes.slice(ring.start, ring.start + ring.length);
};

const restored = (ring: FrameRing): FrameRing =>
  FrameRing.restore(new StateReader(structuredClone(ring.save()), "ring", 1), ring.bytes.length, ring.capacity);

test("frames come out as they went in, oldest first", () => {
  const ring = new FrameRing(100, 8);
  assert.is(ring.head, -1);
  const memory = Uint8Array.from({ length: 50 }, (_, i) => i);
  ring.push(memory, 10, 5, null, 3);
  push(ring, 20, 9);
  assert.equal([...contents(ring, ring.head)], [10, 11, 12, 13, 14]);
  assert.is(ring.queueHint, 3);
  assert.is(ring.offload, null);
  ring.release(ring.head);
  assert.equal(contents(ring, ring.head), fill(20, 9));
  assert.is(ring.held, 1);
});

test("an offload is kept whole", () => {
  const ring = new FrameRing(1000, 8);
  const offloads: Offload[] = [];
  for (const gso of ["none", "tcp4", "tcp6", "udp", "udpfrag"] as const)
    for (const flag of ["needsCsum", "dataValid", "ecn"] as const)
      offloads.push(Object.assign(new OffloadRecord(), { gso, [flag]: true, csumStart: 65535, csumOffset: 16 }));
  for (const offload of offloads) {
    const slot = ring.push(fill(20, 0), 0, 20, offload, 0);
    for (const each of [ring, restored(ring)]) {
      each.select(each === ring ? slot : 0);
      assert.equal(each.offload, offload);
    }
    ring.release(slot);
  }
  ring.clear();
  const gsoSize = Object.assign(new OffloadRecord(), { gso: "udp", gsoSize: 1448 });
  ring.select(ring.push(fill(20, 0), 0, 20, gsoSize, 0));
  assert.is(ring.offload?.gsoSize, 1448);
});

test("exactly as many frames, and exactly as many bytes, as there is room for", () => {
  const few = new FrameRing(1000, 2);
  assert.is(push(few, 10, 1), 0);
  assert.is(push(few, 10, 2), 1);
  assert.is(push(few, 10, 3), -1);
  const small = new FrameRing(100, 10);
  assert.is(push(small, 101, 1), -1);
  assert.is(push(small, 60, 1), 0);
  assert.is(push(small, 41, 2), -1);
  assert.is(push(small, 40, 2), 1);
  assert.is(push(small, 1, 3), -1);
  assert.is(push(new FrameRing(100, 10), 0, 1), -1, "a frame has bytes");
});

test("a frame lies in one piece: the end of the ring is left out when it is too short", () => {
  const ring = new FrameRing(100, 10);
  push(ring, 40, 1);
  push(ring, 40, 2);
  ring.release(ring.head);
  assert.is(push(ring, 30, 3), 2);
  ring.select(2);
  assert.is(ring.start, 0);
  assert.is(push(ring, 11, 4), -1, "10 bytes are free before the oldest frame");
  assert.is(push(ring, 10, 4), 3);
  assert.equal(contents(ring, ring.head), fill(40, 2));
});

test("a frame released out of turn keeps its bytes until its elders are gone", () => {
  const ring = new FrameRing(30, 4);
  const [first, second] = [push(ring, 10, 1), push(ring, 10, 2)];
  push(ring, 10, 3);
  ring.release(second);
  ring.release(second);
  assert.is(ring.held, 2);
  assert.is(push(ring, 10, 4), -1);
  ring.release(first);
  assert.is(ring.head, 2);
  assert.ok(push(ring, 20, 4) >= 0);
});

test("clearing gives everything up", () => {
  const ring = new FrameRing(30, 4);
  push(ring, 10, 1);
  push(ring, 20, 2);
  assert.is(ring.clear(), 2);
  assert.is(ring.held, 0);
  assert.ok(push(ring, 30, 3) >= 0);
});

const action = fc.oneof(
  { weight: 3, arbitrary: fc.record({ push: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 2, arbitrary: fc.record({ release: fc.nat(9) }) },
);

test("against a list: nothing is lost, changed or overwritten, and a restored ring goes on alike", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), fc.nat(60), (actions, cut) => {
      let ring = new FrameRing(100, 8);
      let model: { order: number; slot: number; frame: Uint8Array }[] = [];
      for (const [step, act] of actions.entries()) {
        if (step === cut) {
          const twin = restored(ring);
          model = model.map((entry) => ({ ...entry, slot: ring.position(entry.slot) }));
          ring = twin;
        }
        if ("push" in act) {
          const frame = fill(act.push, step + 1);
          const slot = ring.push(frame, 0, act.push, null, 0);
          if (slot >= 0) model.push({ order: step, slot, frame });
        } else {
          const entry = model.splice(act.release % Math.max(1, model.length), 1)[0];
          if (entry !== undefined) ring.release(entry.slot);
        }
        assert.is(ring.held, model.length);
        assert.is(ring.head, model[0]?.slot ?? -1);
        for (const { slot, frame } of model) assert.equal(contents(ring, slot), frame);
      }
    }),
    { numRuns: 200 },
  );
});

test("a restored ring has room for a frame exactly when the saved one has", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 30 }), fc.array(fc.integer({ min: 1, max: 60 })), (actions, more) => {
      const ring = new FrameRing(100, 8);
      const slots: number[] = [];
      for (const act of actions) {
        if ("push" in act) {
          const slot = push(ring, act.push, 1);
          if (slot >= 0) slots.push(slot);
        } else for (const slot of slots.splice(act.release % Math.max(1, slots.length), 1)) ring.release(slot);
      }
      const twin = restored(ring);
      assert.equal(twin.save(), ring.save());
      for (const length of more) assert.is(push(twin, length, 2) >= 0, push(ring, length, 2) >= 0);
    }),
    { numRuns: 150 },
  );
});

test("a crafted state is refused or harmless", () => {
  const good = new FrameRing(100, 4);
  push(good, 60, 1);
  push(good, 30, 2);
  good.release(good.head);
  push(good, 20, 3);
  const saved = good.save() as { records: number[]; data: Uint8Array };
  const word = fc.oneof(fc.nat(120), fc.integer({ min: -5, max: 5 }), fc.integer());
  const change = fc.array(fc.tuple(fc.nat(saved.records.length - 1), word), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(change, fc.nat(60), (changes, size) => {
      const records = [...saved.records];
      for (const [at, value] of changes) records[at] = value;
      try {
        const state = { version: 1, records, data: new Uint8Array(size) };
        const ring = FrameRing.restore(new StateReader(state, "ring", 1), 100, 4);
        while (ring.held > 0) {
          assert.is(contents(ring, ring.head).length, ring.length);
          ring.release(ring.head);
        }
        assert.ok(push(ring, 100, 1) >= 0);
      } catch (error) {
        assert.ok(error instanceof StateError, String(error));
      }
    }),
    { numRuns: 300 },
  );
});

test.run();
