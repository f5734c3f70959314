import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DriverError } from "../types.js";
import { PackedVirtqueue } from "./packed-virtqueue.js";
import type { SplitMemory } from "./testing/split-memory.js";
import { segments, type VqRigOptions, vqRig } from "./testing/vq-rig.js";
import { EMSGSIZE, ENOSPC, VQ_OK } from "./virtqueue.js";

// The device's side here is written in the numbers of VIRTIO 1.3 §2.8, over the device's own copy of the memory.

interface Buffer {
  readonly id: number;
  readonly slots: number;
  readonly parts: readonly { readonly addr: number; readonly len: number; readonly write: boolean }[];
}

class RawPacked {
  readonly #view: DataView;
  readonly #base: number;
  readonly size: number;
  readonly desc: number;
  readonly driver: number;
  readonly device: number;
  at = 0;
  wrap = true;
  usedAt = 0;
  usedWrap = true;

  constructor(memory: SplitMemory, vq: PackedVirtqueue) {
    this.#view = memory.deviceView;
    this.#base = memory.base;
    this.size = vq.size;
    this.desc = vq.descPaddr - memory.base;
    this.driver = vq.availPaddr - memory.base;
    this.device = vq.usedPaddr - memory.base;
  }

  flags(slot: number): number {
    return this.#view.getUint16(this.desc + 16 * slot + 14, true);
  }

  /** Takes the next list; null when there is none. */
  pop(): Buffer | null {
    const v = this.#view;
    const parts = [];
    for (let slots = 1; ; slots++) {
      const d = this.desc + 16 * this.at;
      const flags = v.getUint16(d + 14, true);
      const available = ((flags & 0x80) !== 0) === this.wrap && ((flags & 0x8000) !== 0) !== this.wrap;
      if (!available) {
        if (slots > 1) throw new Error("a list that is not there as a whole");
        return null;
      }
      const addr = v.getUint32(d, true) + v.getUint32(d + 4, true) * 2 ** 32;
      const len = v.getUint32(d + 8, true);
      if ((flags & 4) !== 0) {
        assert.is(flags & 1, 0, "INDIRECT and NEXT");
        for (let i = 0; i < len / 16; i++) {
          const e = addr - this.#base + 16 * i;
          parts.push({
            addr: v.getUint32(e, true) + v.getUint32(e + 4, true) * 2 ** 32,
            len: v.getUint32(e + 8, true),
            write: (v.getUint16(e + 14, true) & 2) !== 0,
          });
        }
      } else parts.push({ addr, len, write: (flags & 2) !== 0 });
      if (++this.at === this.size) {
        this.at = 0;
        this.wrap = !this.wrap;
      }
      if ((flags & 1) === 0) return { id: v.getUint16(d + 12, true), slots, parts };
    }
  }

  push(id: number, len: number, slots: number): void {
    const d = this.desc + 16 * this.usedAt;
    this.#view.setUint16(d + 12, id, true);
    this.#view.setUint32(d + 8, len, true);
    this.#view.setUint16(d + 14, this.usedWrap ? 0x8080 : 0, true);
    this.usedAt += slots;
    if (this.usedAt >= this.size) {
      this.usedAt -= this.size;
      this.usedWrap = !this.usedWrap;
    }
  }

  /** [offset, wrap counter, flags] of the driver's event suppression area */
  get event(): [number, number, number] {
    const word = this.#view.getUint16(this.driver, true);
    return [word & 0x7fff, word >>> 15, this.#view.getUint16(this.driver + 2, true)];
  }

  suppress(offset: number, wrap: number, flags: number): void {
    this.#view.setUint16(this.device, offset | (wrap << 15), true);
    this.#view.setUint16(this.device + 2, flags, true);
  }
}

const rig = (options: VqRigOptions = {}) => {
  const { make, ...rest } = vqRig(PackedVirtqueue, options);
  const vq = make();
  return { ...rest, vq, ring: new RawPacked(rest.memory, vq) };
};

test("VIO-210 any number of descriptors up to 32768 will do", () => {
  for (const size of [0, 32769, -8, 1.5]) {
    const { memory, make } = vqRig(PackedVirtqueue, { size });
    assert.throws(make, (error: unknown) => error instanceof DriverError && error.code === "EINVAL");
    assert.is(memory.live, 0);
  }
  for (const size of [1, 3, 7, 256, 32768]) assert.is(rig({ size }).vq.nfree, size);
});

test("the parts are aligned, and the areas do not share a line", () => {
  for (const size of [1, 3, 256]) {
    const { vq } = rig({ size });
    assert.is(vq.descPaddr % 16, 0);
    assert.is(vq.availPaddr % 4, 0);
    assert.is(vq.usedPaddr % 4, 0);
    assert.ok(vq.availPaddr >= vq.descPaddr + 16 * size);
    assert.is(vq.usedPaddr - vq.availPaddr, 64);
  }
});

test("VIO-208 VIO-209 a first lap is made available with AVAIL, the second with USED, the third as the first", () => {
  const { vq, ring } = rig({ size: 3 });
  const lap = (expected: number) => {
    for (let i = 0; i < 3; i++) {
      vq.enqueue(i, segments(1), 1, 0);
      vq.notify();
      assert.is(ring.flags(i) & 0x8080, expected);
      const buffer = ring.pop();
      assert.ok(buffer);
      ring.push(buffer.id, 0, 1);
      assert.is(vq.dequeue(), i);
    }
  };
  lap(0x0080);
  lap(0x8000);
  lap(0x0080);
});

test("VIO-211 a list goes on at the start of the ring in the next lap; its id is in its last descriptor", () => {
  const { vq, ring } = rig({ size: 5 });
  for (const n of [3, 4, 2, 5]) {
    vq.enqueue(n, segments(n), n - 1, 1);
    vq.notify();
    const buffer = ring.pop();
    assert.equal(
      buffer?.parts,
      Array.from({ length: n }, (_, i) => ({ addr: 0x5000 + 0x1000 * i, len: 100 + i, write: i === n - 1 })),
    );
    assert.is(buffer?.slots, n);
    assert.is(vq.nfree, 5 - n);
    ring.push(buffer!.id, 7, n);
    assert.is(vq.dequeue(), n);
    assert.is(vq.usedLen, 7);
    assert.is(vq.nfree, 5);
  }
});

test("addresses keep all their bits", () => {
  const { vq, ring } = rig();
  const list = segments(1);
  list.paddr[0] = 0x12_3456_789a_bcde;
  vq.enqueue(0, list, 1, 0);
  vq.notify();
  assert.is(ring.pop()?.parts[0]?.addr, 0x12_3456_789a_bcde);
});

test("exactly as many segments as there are descriptors fit; one more never does", () => {
  const { vq } = rig({ size: 5 });
  assert.is(vq.enqueue(0, segments(6), 6, 0), EMSGSIZE);
  assert.is(vq.enqueue(0, segments(0), 0, 0), EMSGSIZE);
  assert.is(vq.enqueue(0, segments(5), 5, 0), VQ_OK);
  assert.ok(vq.full);
  assert.is(vq.enqueue(1, segments(1), 1, 0), ENOSPC);
  assert.is(vq.inFlight, 1);
});

test("VIO-352 a table has its entries in order, takes one descriptor, and is only used when accepted", () => {
  const { vq, ring } = rig({ maxIndirect: 4 });
  for (const n of [1, 2, 4, 5]) vq.enqueue(n, segments(n), n - 1, 1);
  vq.notify();
  const buffers = [ring.pop(), ring.pop(), ring.pop(), ring.pop()];
  assert.equal(
    buffers.map((b) => [b?.parts.length, b?.slots]),
    [
      [1, 1],
      [2, 1],
      [4, 1],
      [5, 5],
    ],
  );
  assert.equal(
    buffers[2]?.parts.map(({ addr }) => addr),
    [0x5000, 0x6000, 0x7000, 0x8000],
  );
  assert.is(vq.nfree, 0);
  const direct = rig();
  direct.vq.enqueue(0, segments(3), 3, 0);
  direct.vq.notify();
  assert.is(direct.ring.pop()?.slots, 3);
});

test("VIO-353 the flags of the first descriptor are written and synced last, then the suppression is looked at", () => {
  const { memory, vq } = rig();
  const desc = vq.descPaddr - memory.base;
  const device = vq.usedPaddr - memory.base;
  memory.logging = true;
  vq.enqueue(0, segments(1), 1, 0);
  vq.enqueue(1, segments(3), 3, 0);
  vq.notify();
  const writes = memory.log.filter((line) => line.startsWith("w32"));
  assert.is(writes.at(-1), `w32 ${desc + 16 + 12}`, "the flags of the second list's first descriptor");
  assert.is(writes.indexOf(`w32 ${desc + 12}`), 3);
  const order = [
    `prewrite ${desc + 16}+48`,
    `prewrite ${desc}+12`,
    `prewrite ${desc + 12}+4`,
    `postread ${device}+4`,
    `r32 ${device}`,
  ].map((line) => memory.log.indexOf(line));
  assert.ok(!order.includes(-1), memory.log.join("\n"));
  assert.equal(
    [...order].sort((a, b) => a - b),
    order,
  );
});

test("VIO-354 a used descriptor's flags are fetched before its id and length", () => {
  const { memory, vq, ring } = rig();
  vq.enqueue(0, segments(1), 0, 1);
  vq.notify();
  ring.push(ring.pop()!.id, 9, 1);
  memory.logging = true;
  assert.is(vq.dequeue(), 0);
  const desc = vq.descPaddr - memory.base;
  assert.equal(
    memory.log.filter((line) => !line.startsWith("w")),
    [`postread ${desc + 14}+2`, `r16 ${desc + 14}`, `postread ${desc + 8}+8`, `r16 ${desc + 12}`, `r32 ${desc + 8}`],
  );
});

test("the device's event decides over the doorbell: always, never, at a descriptor of this lap or the next", () => {
  // [offset, wrap, flags], descriptors that were made available before, and now: whether the bell rings
  const cases: readonly (readonly [readonly [number, number, number], number, number, boolean])[] = [
    [[0, 0, 0], 0, 1, true],
    [[0, 0, 1], 0, 1, false],
    [[0, 0, 3], 0, 1, true],
    [[0, 1, 2], 0, 1, true],
    [[1, 1, 2], 0, 1, false],
    [[1, 1, 2], 0, 2, true],
    [[0, 0, 2], 0, 3, false], // the first descriptor of the second lap
    [[0, 0, 2], 2, 2, true],
    [[0, 1, 2], 2, 2, false], // that of the first lap is long gone
    [[2, 1, 2], 2, 2, true],
    [[5, 1, 2], 0, 1, true], // no such descriptor
  ];
  for (const [event, before, now, rings] of cases) {
    const { vq, ring, kicks } = rig({ size: 3, eventIdx: true });
    for (let i = 0; i < before; i++) {
      vq.enqueue(0, segments(1), 1, 0);
      vq.notify();
      ring.push(ring.pop()!.id, 0, 1);
      assert.is(vq.dequeue(), 0);
    }
    kicks.length = 0;
    ring.suppress(...event);
    for (let i = 0; i < now; i++) vq.enqueue(i, segments(1), 1, 0);
    assert.is(vq.notify(), rings, `${event} after ${before}, ${now} more`);
    assert.equal(kicks, rings ? [5] : []);
    assert.is(vq.notify(), false);
  }
  // Without EVENT_IDX there is no event at a descriptor.
  const { vq, ring } = rig({ size: 3 });
  ring.suppress(2, 1, 2);
  vq.enqueue(0, segments(1), 1, 0);
  assert.is(vq.notify(), true);
});

test("VIO-355 the driver's event: at the next used descriptor, further on, never", () => {
  const { vq, ring } = rig({ size: 4, eventIdx: true });
  for (let i = 0; i < 4; i++) vq.enqueue(i, segments(1), 1, 0);
  vq.notify();
  assert.is(vq.enableIntr(), false);
  assert.equal(ring.event, [0, 1, 2]);
  assert.is(vq.postponeIntr("short"), false);
  assert.equal(ring.event, [1, 1, 2]);
  assert.is(vq.postponeIntr("long"), false);
  assert.equal(ring.event, [3, 1, 2]);
  assert.is(vq.postponeIntr("emptied"), false);
  assert.equal(ring.event, [3, 1, 2]);
  vq.disableIntr();
  assert.is(ring.event[2], 1);
  for (let i = 0; i < 3; i++) ring.push(ring.pop()!.id, 0, 1);
  assert.is(vq.enableIntr(), true, "something is there already");
  for (let i = 0; i < 3; i++) assert.is(vq.dequeue(), i);
  for (let i = 0; i < 3; i++) vq.enqueue(i, segments(1), 1, 0);
  vq.notify();
  assert.is(vq.postponeIntr("long"), false);
  assert.equal(ring.event, [2, 0, 2], "the fourth of this lap, and two of the next");
  const plain = rig();
  plain.vq.disableIntr();
  assert.equal(plain.ring.event, [0, 0, 1]);
  plain.vq.enableIntr();
  assert.equal(plain.ring.event, [0, 0, 0]);
});

test("what the device has not been told of yet does not come back by a look at it", () => {
  const { vq, ring } = rig({ size: 2 });
  vq.enqueue(0, segments(1), 1, 0);
  vq.notify();
  ring.push(ring.pop()!.id, 0, 1);
  vq.enqueue(1, segments(1), 1, 0); // written here, not synced
  assert.is(vq.dequeue(), 0);
  assert.is(vq.dequeue(), -1);
  assert.is(vq.enableIntr(), false);
  vq.notify();
  assert.is(ring.pop()?.parts[0]?.addr, 0x5000);
});

test("buffers come back in any order, each once", () => {
  const { vq, ring } = rig({ size: 7 });
  for (const [cookie, n] of [
    [10, 2],
    [11, 3],
    [12, 1],
  ] as const)
    vq.enqueue(cookie, segments(n), n, 0);
  vq.notify();
  const buffers = [ring.pop()!, ring.pop()!, ring.pop()!];
  for (const i of [2, 0, 1]) ring.push(buffers[i]!.id, 0, buffers[i]!.slots);
  assert.equal([vq.dequeue(), vq.dequeue(), vq.dequeue(), vq.dequeue()], [12, 10, 11, -1]);
  assert.is(vq.nfree, 7);
  assert.is(vq.enqueue(13, segments(7), 7, 0), VQ_OK);
  vq.notify();
  assert.is(ring.pop()?.slots, 7);
});

test("VIO-356 a device that lies: ids not in flight stop the queue, lengths are cut", () => {
  for (const id of [1, 8, 0xffff]) {
    const { vq, ring } = rig({ size: 8 });
    vq.enqueue(0, segments(1), 0, 1);
    vq.notify();
    ring.push(id, 0, 1);
    assert.is(vq.dequeue(), -1);
    assert.is(vq.badIds, 1);
    assert.ok(vq.broken);
    assert.is(vq.dequeue(), -1);
    assert.is(vq.badIds, 1);
    assert.is(vq.drain(), 0);
    assert.is(vq.drain(), -1);
    vq.reinit(8);
    assert.not(vq.broken);
    assert.is(vq.nfree, 8);
  }
  const { vq, ring } = rig();
  vq.enqueue(0, segments(2), 1, 1); // 101 bytes to write to
  vq.notify();
  ring.push(ring.pop()!.id, 0xffff_ffff, 2);
  assert.is(vq.dequeue(), 0);
  assert.is(vq.usedLen, 101);
  assert.is(vq.badLengths, 1);
});

test("VIO-357 drain gives back each cookie once, and reinit begins a new ring of the same size", () => {
  const { vq, ring } = rig({ size: 5 });
  for (const cookie of [4, 9, 2]) vq.enqueue(cookie, segments(1), 1, 0);
  vq.notify();
  ring.push(ring.pop()!.id, 0, 1);
  assert.is(vq.dequeue(), 4);
  assert.equal([vq.drain(), vq.drain(), vq.drain()].sort(), [-1, 2, 9]);
  assert.ok(vq.empty);
  assert.throws(() => vq.reinit(4), /EINVAL|descriptors/);
  vq.reinit(5);
  ring.at = ring.usedAt = 0;
  ring.wrap = ring.usedWrap = true;
  assert.is(ring.pop(), null);
  vq.enqueue(1, segments(5), 5, 0);
  vq.notify();
  assert.is(ring.pop()?.slots, 5);
});

test("any sequence: cookies come back once, with their lengths, and no descriptor is lost", () => {
  const step = fc.oneof(
    fc.record({ op: fc.constant("enqueue" as const), n: fc.integer({ min: 1, max: 7 }), w: fc.nat(7) }),
    fc.record({
      op: fc.constantFrom("notify" as const, "use" as const, "dequeue" as const),
      n: fc.nat(9),
      w: fc.nat(200),
    }),
  );
  const setup = fc.record({
    size: fc.integer({ min: 1, max: 9 }),
    maxIndirect: fc.constantFrom(0, 3),
    eventIdx: fc.boolean(),
  });
  fc.assert(
    fc.property(setup, fc.array(step, { maxLength: 80 }), (options, steps) => {
      const { vq, ring } = rig(options);
      const waiting: number[] = []; // cookies in the order in which they were enqueued
      const held: { cookie: number; buffer: Buffer }[] = [];
      const used: { cookie: number; len: number }[] = [];
      let cookie = 0;
      for (const { op, n, w } of steps) {
        if (op === "enqueue") {
          const writable = Math.min(w, n);
          if (vq.enqueue(cookie, segments(n), n - writable, writable) === VQ_OK) waiting.push(cookie++);
        } else if (op === "notify") vq.notify();
        else if (op === "use") {
          for (let buffer = ring.pop(); buffer !== null; buffer = ring.pop())
            held.push({ cookie: waiting.shift()!, buffer });
          const [one] = held.splice(n % Math.max(held.length, 1), 1);
          if (one === undefined) continue;
          const room = one.buffer.parts.reduce((sum, { len, write }) => sum + (write ? len : 0), 0);
          ring.push(one.buffer.id, w, one.buffer.slots);
          used.push({ cookie: one.cookie, len: Math.min(w, room) });
        } else {
          const expected = used.shift();
          assert.is(vq.dequeue(), expected?.cookie ?? -1);
          if (expected !== undefined) assert.is(vq.usedLen, expected.len);
        }
      }
      assert.is(vq.inFlight, waiting.length + held.length + used.length);
      assert.is(vq.badIds, 0);
      assert.not(vq.broken);
      for (let i = vq.inFlight; i > 0; i--) assert.ok(vq.drain() >= 0);
      assert.is(vq.nfree, options.size);
    }),
    { numRuns: 300 },
  );
});

test("with IN_ORDER a used descriptor stands for all lists up to its own", () => {
  const { vq, ring } = rig({ size: 6, inOrder: true, eventIdx: true });
  for (let lap = 0; lap < 9; lap++) {
    for (const [i, n] of [2, 1, 1].entries()) assert.is(vq.enqueue(10 + i, segments(n), 0, n), VQ_OK);
    vq.notify();
    const lists = [ring.pop()!, ring.pop()!, ring.pop()!];
    assert.equal(
      lists.map(({ id }) => id),
      [0, 1, 2].map((i) => (3 * lap + i) % 6),
    );
    ring.push(lists[1]!.id, 7, 3); // of both lists, 3 slots
    assert.ok(vq.enableIntr());
    assert.equal([vq.dequeue(), vq.usedLen], [10, 201]);
    assert.ok(vq.enableIntr(), "the batch goes on");
    assert.equal([vq.dequeue(), vq.usedLen, vq.dequeue()], [11, 7, -1]);
    assert.not(vq.enableIntr());
    ring.push(lists[2]!.id, 3, 1);
    assert.equal([vq.dequeue(), vq.usedLen, vq.dequeue()], [12, 3, -1]);
    assert.is(vq.nfree, 6);
  }
});

test("a doorbell's data say where the driver goes on: the slot and its wrap counter", () => {
  const { vq, ring, nexts } = rig({ size: 3 });
  for (let n = 1; n <= 7; n++) {
    vq.enqueue(0, segments(1), 1, 0);
    vq.notify();
    ring.push(ring.pop()!.id, 0, 1);
    vq.dequeue();
  }
  assert.equal(nexts, [0x8001, 0x8002, 0, 1, 2, 0x8000, 0x8001]);
});

test.run();
