import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DriverError } from "../types.js";
import { SplitVirtqueue } from "./split-virtqueue.js";
import { RawRing } from "./testing/split-memory.js";
import { segments, type VqRigOptions, vqRig } from "./testing/vq-rig.js";
import { EMSGSIZE, ENOSPC, type Virtqueue, VQ_OK } from "./virtqueue.js";

const rig = (options: VqRigOptions = {}) => {
  const { make, ...rest } = vqRig(SplitVirtqueue, options);
  const vq: Virtqueue = make();
  return { ...rest, vq, ring: new RawRing(rest.memory, vq.descPaddr, vq.availPaddr, vq.usedPaddr, vq.size) };
};

test("VIO-344 sizes that are no power of two are rejected, before any memory is taken", () => {
  for (const size of [0, 3, 6, 255, 257, 65536, -8, 1.5]) {
    const { memory, make } = vqRig(SplitVirtqueue, { size });
    assert.throws(make, (error: unknown) => error instanceof DriverError && error.code === "EINVAL");
    assert.is(memory.live, 0);
  }
  for (const size of [1, 2, 256]) assert.is(rig({ size }).vq.nfree, size);
});

test("the parts lie where a legacy device looks for them", () => {
  const { vq } = rig({ size: 256 });
  assert.is(vq.descPaddr % 4096, 0);
  assert.is(vq.availPaddr - vq.descPaddr, 4096);
  assert.is(vq.usedPaddr - vq.descPaddr, 8192);
  const small = rig({ size: 64 }).vq;
  assert.is(small.availPaddr - small.descPaddr, 1024);
  assert.is(small.usedPaddr - small.descPaddr, 4096);
});

test("a chain has its readable segments first, and the device sees it after notify and not before", () => {
  const { vq, ring, kicks } = rig();
  assert.is(vq.enqueue(7, segments(3), 2, 1), VQ_OK);
  assert.is(ring.availIdx, 0);
  assert.is(vq.notify(), true);
  assert.equal(kicks, [5]);
  assert.is(ring.availIdx, 1);
  assert.equal(ring.chain(ring.pop()), [
    { addr: 0x5000, len: 100, write: false },
    { addr: 0x6000, len: 101, write: false },
    { addr: 0x7000, len: 102, write: true },
  ]);
  assert.is(vq.nfree, 5);
  assert.is(vq.notify(), false); // nothing new
});

test("addresses keep all their bits", () => {
  const { vq, ring } = rig();
  const list = segments(1);
  list.paddr[0] = 0x12_3456_789a_bcde;
  vq.enqueue(0, list, 1, 0);
  vq.notify();
  assert.is(ring.chain(ring.pop())[0]!.addr, 0x12_3456_789a_bcde);
});

test("exactly as many segments as there are descriptors fit; one more never does", () => {
  const { vq } = rig({ size: 4 });
  assert.is(vq.enqueue(0, segments(5), 5, 0), EMSGSIZE);
  assert.is(vq.enqueue(0, segments(0), 0, 0), EMSGSIZE);
  assert.is(vq.enqueue(0, segments(4), 4, 0), VQ_OK);
  assert.ok(vq.full);
  assert.is(vq.enqueue(1, segments(1), 1, 0), ENOSPC);
  assert.is(vq.inFlight, 1);
});

test("VIO-352 a table is used only when indirect descriptors were accepted, for two and more segments", () => {
  const direct = rig({ maxIndirect: 0 });
  direct.vq.enqueue(0, segments(3), 3, 0);
  direct.vq.notify();
  assert.is(direct.ring.indirect(direct.ring.pop()), false);
  assert.is(direct.vq.nfree, 5);

  const { vq, ring } = rig({ maxIndirect: 4 });
  for (const n of [1, 2, 4, 5]) vq.enqueue(n, segments(n), n - 1, 1);
  vq.notify();
  const heads = [ring.pop(), ring.pop(), ring.pop()];
  assert.equal(
    heads.map((head) => ring.indirect(head)),
    [false, true, true],
  );
  assert.is(ring.chain(heads[2]!).length, 4);
  assert.is(ring.chain(heads[2]!)[3]!.write, true);
  // five are more than a table holds and go through the ring, where they still fit
  assert.is(vq.nfree, 8 - 3 - 5);
  assert.is(ring.chain(ring.pop()).length, 5);
});

test("VIO-353 entry, then index, then the look at the suppression", () => {
  for (const eventIdx of [false, true]) {
    const { memory, vq } = rig({ eventIdx });
    const avail = vq.availPaddr - memory.base;
    const used = vq.usedPaddr - memory.base;
    memory.logging = true;
    vq.enqueue(0, segments(1), 1, 0);
    vq.notify();
    const at = (what: string) => memory.log.indexOf(what);
    const suppression = eventIdx ? used + 4 + 8 * 8 : used;
    const order = [
      at("w32 8"), // the descriptor
      at(`w16 ${avail + 4}`),
      at(`w16 ${avail + 2}`),
      at("prewrite 0+16"),
      at(`prewrite ${avail + 4}+2`),
      at(`prewrite ${avail + 2}+2`),
      at(`postread ${suppression}+2`),
      at(`r16 ${suppression}`),
    ];
    assert.ok(!order.includes(-1), memory.log.join("\n"));
    assert.equal(
      [...order].sort((a, b) => a - b),
      order,
    );
  }
});

test("VIO-354 the used index is read before the entries that it admits", () => {
  const { memory, vq, ring } = rig();
  vq.enqueue(3, segments(1), 0, 1);
  vq.notify();
  ring.push(ring.pop(), 60);
  const used = vq.usedPaddr - memory.base;
  memory.logging = true;
  assert.is(vq.dequeue(), 3);
  assert.is(vq.usedLen, 60);
  assert.equal(memory.log.slice(0, 4), [
    `postread ${used + 2}+2`,
    `r16 ${used + 2}`,
    `postread ${used + 4}+8`,
    `r32 ${used + 4}`,
  ]);
});

test("an entry that the index does not admit is not looked at", () => {
  const { vq, ring } = rig();
  vq.enqueue(3, segments(1), 0, 1);
  vq.notify();
  ring.push(ring.pop(), 60, false);
  assert.is(vq.dequeue(), -1);
  ring.publish(1);
  assert.is(vq.dequeue(), 3);
  assert.is(vq.dequeue(), -1);
});

test("VIO-355 enableIntr reports what came before the device could see the wish", () => {
  for (const eventIdx of [false, true]) {
    const { vq, ring } = rig({ eventIdx });
    vq.enqueue(0, segments(1), 0, 1);
    vq.notify();
    vq.disableIntr();
    assert.is(vq.enableIntr(), false);
    vq.disableIntr();
    ring.push(ring.pop(), 1);
    assert.is(vq.enableIntr(), true);
    assert.is(vq.dequeue(), 0);
    assert.is(vq.enableIntr(), false);
  }
});

test("without EVENT_IDX the flag says whether to interrupt, with it used_event does and the flags stay 0", () => {
  const flags = rig();
  assert.is(flags.ring.availFlags, 0);
  flags.vq.disableIntr();
  assert.is(flags.ring.availFlags, 1);
  flags.vq.enableIntr();
  assert.is(flags.ring.availFlags, 0);

  const { vq, ring } = rig({ eventIdx: true });
  vq.disableIntr();
  assert.is(ring.availFlags, 0);
  assert.is(ring.usedEvent, 65536 - 9); // a ring and one behind
  vq.enableIntr();
  assert.is(ring.usedEvent, 0);
});

test("postponeIntr puts the event at a quarter, three quarters and all of what is outstanding", () => {
  const { vq, ring } = rig({ eventIdx: true });
  for (let i = 0; i < 8; i++) vq.enqueue(i, segments(1), 1, 0);
  vq.notify();
  assert.is(vq.postponeIntr("short"), false);
  assert.is(ring.usedEvent, 2);
  assert.is(vq.postponeIntr("long"), false);
  assert.is(ring.usedEvent, 6);
  assert.is(vq.postponeIntr("emptied"), false);
  assert.is(ring.usedEvent, 7); // the eighth moves the index from 7 to 8
  for (let i = 0; i < 7; i++) ring.push(ring.pop(), 0);
  assert.is(vq.postponeIntr("emptied"), false);
  assert.is(vq.postponeIntr("long"), true); // 7 of 6 + 1 are there
});

test("the doorbell follows avail_event with EVENT_IDX, NO_NOTIFY without", () => {
  // event, index before, index after → rung; VIRTIO 1.3 §2.7.10 with small numbers
  for (const [event, before, after, rung] of [
    [0, 0, 1, true],
    [1, 0, 1, false],
    [5, 3, 6, true],
    [6, 3, 6, false],
    [65535, 65534, 65536, true],
    [65535, 65535, 65536, true],
    [0, 65535, 65536, false],
  ] as const) {
    const { vq, ring, kicks } = rig({ eventIdx: true });
    for (let i = 0; i < before; i++) {
      vq.enqueue(0, segments(1), 1, 0);
      vq.notify();
      ring.push(ring.pop(), 0);
      vq.dequeue();
    }
    kicks.length = 0;
    ring.availEvent = event;
    for (let i = before; i < after; i++) vq.enqueue(i - before, segments(1), 1, 0);
    assert.is(vq.notify(), rung, `event ${event}, ${before} → ${after}`);
    assert.is(kicks.length, rung ? 1 : 0);
  }
  const { vq, ring } = rig();
  ring.usedFlags = 1;
  vq.enqueue(0, segments(1), 1, 0);
  assert.is(vq.notify(), false);
  ring.usedFlags = 0;
  vq.enqueue(1, segments(1), 1, 0);
  assert.is(vq.notify(), true);
});

test("VIO-356 used ids out of range, of no head, or twice are counted and lead nowhere", () => {
  const { vq, ring } = rig();
  vq.enqueue(10, segments(2), 1, 1);
  vq.enqueue(11, segments(2), 1, 1);
  vq.enqueue(12, segments(1), 0, 1);
  vq.notify();
  const head = ring.pop();
  ring.push(0xffff_ffff, 1);
  assert.is(vq.dequeue(), -1);
  ring.push(head + 1, 1); // in the middle of the chain
  assert.is(vq.dequeue(), -1);
  assert.is(vq.badIds, 2);
  ring.push(head, 1);
  assert.is(vq.dequeue(), 10);
  const twice = rig();
  twice.vq.enqueue(1, segments(1), 0, 1);
  twice.vq.enqueue(2, segments(1), 0, 1);
  twice.vq.notify();
  const one = twice.ring.pop();
  twice.ring.push(one, 5);
  twice.ring.push(one, 5);
  assert.is(twice.vq.dequeue(), 1);
  assert.is(twice.vq.dequeue(), -1);
  assert.is(twice.vq.badIds, 1);
  assert.is(twice.vq.inFlight, 1);
});

test("a used index that runs ahead of what was made available breaks the queue until reinit", () => {
  const { vq, ring } = rig();
  vq.enqueue(0, segments(1), 0, 1);
  vq.notify();
  ring.publish(2);
  assert.is(vq.dequeue(), -1);
  assert.is(vq.broken, true);
  assert.is(vq.overruns, 1);
  ring.publish(1);
  assert.is(vq.dequeue(), -1);
  assert.is(vq.drain(), 0);
  vq.reinit(8);
  assert.is(vq.broken, false);
  assert.is(vq.nfree, 8);
});

test("a used length beyond what was posted is cut and counted", () => {
  const { vq, ring } = rig();
  vq.enqueue(0, segments(3), 1, 2); // writable: 101 and 102
  vq.notify();
  ring.push(ring.pop(), 0xffff_fff0);
  assert.is(vq.dequeue(), 0);
  assert.is(vq.usedLen, 203);
  assert.is(vq.badLengths, 1);
});

test("VIO-357 after drain every descriptor is free again, and every cookie has come back once", () => {
  for (const maxIndirect of [0, 4]) {
    const { vq } = rig({ size: 16, maxIndirect });
    for (let i = 0; i < 5; i++) assert.is(vq.enqueue(i, segments(3), 2, 1), VQ_OK);
    const back: number[] = [];
    for (let cookie = vq.drain(); cookie >= 0; cookie = vq.drain()) back.push(cookie);
    assert.equal(back.sort(), [0, 1, 2, 3, 4]);
    assert.is(vq.nfree, 16);
    assert.ok(vq.empty);
    assert.is(vq.enqueue(9, segments(16), 16, 0), VQ_OK);
  }
});

test("VIO-345 reinit wants the same size and leaves a ring of zeros", () => {
  const { memory, vq, ring } = rig();
  for (let i = 0; i < 6; i++) vq.enqueue(i, segments(1), 0, 1);
  vq.notify();
  ring.push(ring.pop(), 3);
  vq.dequeue();
  while (vq.drain() >= 0);
  assert.throws(
    () => vq.reinit(16),
    (error: unknown) => error instanceof DriverError && error.code === "EINVAL",
  );
  vq.reinit(8);
  const from = vq.descPaddr - memory.base;
  assert.ok(memory.device.subarray(from, from + vq.bytes).every((byte) => byte === 0));
  vq.enqueue(1, segments(1), 0, 1);
  vq.notify();
  assert.is(ring.availIdx, 1);
});

test("what a device has done to descriptors and tables is undone by reinit", () => {
  const { memory, vq, ring } = rig({ maxIndirect: 4 });
  const put = () => {
    vq.enqueue(0, segments(3), 2, 1);
    vq.notify();
    return ring.chain(ring.pop());
  };
  const chain = put();
  memory.device.fill(0xee);
  while (vq.drain() >= 0);
  vq.reinit(8);
  ring.last = 0;
  assert.equal(put(), chain);
});

test("indices wrap at 65536", () => {
  const { vq, ring } = rig({ size: 2 });
  for (let i = 0; i < 65_600; i++) {
    assert.is(vq.enqueue(i, segments(1), 0, 1), VQ_OK);
    vq.notify();
    ring.push(ring.pop(), i & 63);
    assert.is(vq.dequeue(), i);
    assert.is(vq.usedLen, i & 63);
  }
  assert.is(ring.availIdx, 64);
  assert.is(vq.badIds + vq.overruns, 0);
});

test("any order of completion gives each cookie back once, with the chain that was put in", () => {
  const step = fc.record({ segments: fc.integer({ min: 1, max: 5 }), finish: fc.nat(3), pick: fc.nat(1000) });
  fc.assert(
    fc.property(fc.boolean(), fc.boolean(), fc.array(step, { maxLength: 60 }), (eventIdx, indirect, steps) => {
      const { vq, ring, memory } = rig({ size: 16, eventIdx, maxIndirect: indirect ? 4 : 0 });
      const waiting: { head: number; cookie: number }[] = [];
      const order: number[] = []; // cookies as enqueued and not yet popped
      let next = 0;
      for (const { segments: n, finish, pick } of steps) {
        const list = segments(n);
        list.paddr[0] = 0x9000 + next;
        if (vq.enqueue(next, list, n, 0) === VQ_OK) order.push(next++);
        vq.notify();
        for (let head = ring.pop(); head >= 0; head = ring.pop()) {
          const cookie = order.shift()!;
          assert.is(ring.chain(head)[0]!.addr, 0x9000 + cookie);
          waiting.push({ head, cookie });
        }
        for (let i = 0; i < finish && waiting.length > 0; i++) {
          const [{ head, cookie }] = waiting.splice(pick % waiting.length, 1) as [{ head: number; cookie: number }];
          ring.push(head, 0);
          assert.is(vq.dequeue(), cookie);
        }
      }
      for (const { head, cookie } of waiting.splice(0)) {
        ring.push(head, 0);
        assert.is(vq.dequeue(), cookie);
      }
      assert.is(vq.nfree, 16);
      assert.is(vq.badIds + vq.overruns + vq.badLengths, 0);
      vq[Symbol.dispose]();
      assert.is(memory.live, 0);
    }),
    { numRuns: 60 },
  );
});

test("with IN_ORDER descriptors are used in the order of the ring, whatever is free", () => {
  for (const maxIndirect of [0, 4]) {
    const { vq, ring } = rig({ size: 8, inOrder: true, maxIndirect });
    const heads: number[] = [];
    for (let round = 0; round < 7; round++) {
      for (const n of [3, 1]) assert.is(vq.enqueue(round, segments(n), n, 0), VQ_OK);
      vq.notify();
      for (let head = ring.pop(); head >= 0; head = ring.pop()) {
        heads.push(head);
        ring.push(head, 0);
        // Of a chain next is one more, and 0 behind the last one. §2.7.9
        assert.equal(ring.chain(head)[0], { addr: 0x5000, len: 100, write: false });
      }
      assert.equal([vq.dequeue(), vq.dequeue(), vq.dequeue()], [round, round, -1]);
    }
    const step = maxIndirect === 0 ? [0, 3, 4, 7] : [0, 1, 2, 3, 4, 5, 6, 7];
    assert.equal(heads.slice(0, 9), [...step, ...step, ...step].slice(0, 9));
    assert.is(vq.nfree, 8);
  }
});

test("with IN_ORDER a used entry stands for all buffers up to its own, which count as used completely", () => {
  const { vq, ring } = rig({ size: 8, inOrder: true, eventIdx: true });
  for (let cookie = 10; cookie < 15; cookie++) vq.enqueue(cookie, segments(1), 0, 1);
  vq.notify();
  const heads = Array.from({ length: 5 }, () => ring.pop());
  ring.push(heads[2]!, 7, false); // stands where the first one's would
  ring.used = 3;
  ring.publish(3);
  assert.ok(vq.enableIntr());
  const seen = [];
  for (let cookie = vq.dequeue(); cookie >= 0; cookie = vq.dequeue()) seen.push([cookie, vq.usedLen]);
  assert.equal(seen, [
    [10, 100],
    [11, 100],
    [12, 7],
  ]);
  assert.not(vq.enableIntr());
  assert.is(ring.usedEvent, 3);
  ring.push(heads[3]!, 9);
  ring.push(heads[4]!, 8);
  assert.equal([vq.dequeue(), vq.usedLen, vq.dequeue(), vq.usedLen, vq.dequeue()], [13, 9, 14, 8, -1]);
  assert.is(vq.nfree, 8);

  // An id that is not in flight: how many buffers it was to stand for nobody knows.
  vq.enqueue(20, segments(1), 0, 1);
  vq.enqueue(21, segments(1), 0, 1);
  vq.notify();
  ring.push(3, 1);
  assert.is(vq.dequeue(), -1);
  assert.ok(vq.broken);
  assert.is(vq.badIds, 1);
});

test("a doorbell's data say where the driver goes on: the free-running index", () => {
  const { vq, ring, kicks, nexts } = rig({ size: 4 });
  for (let n = 1; n <= 6; n++) {
    vq.enqueue(0, segments(1), 1, 0);
    vq.notify();
    ring.push(ring.pop(), 0);
    vq.dequeue();
  }
  assert.equal(kicks, [5, 5, 5, 5, 5, 5]);
  assert.equal(nexts, [1, 2, 3, 4, 5, 6]);
});

test("whatever a device writes to the ring, the driver neither throws nor loops nor gives out what it does not own", () => {
  const write = fc.record({ at: fc.nat(9000), value: fc.nat(255) });
  fc.assert(
    fc.property(
      fc.array(fc.array(write, { maxLength: 20 }), { maxLength: 20 }),
      fc.array(fc.nat(0xffff)),
      fc.boolean(),
      (rounds, idx, inOrder) => {
        const { vq, ring, memory } = rig({ size: 8, eventIdx: true, maxIndirect: 3, inOrder });
        const out = new Set<number>();
        let next = 0;
        for (const [i, writes] of rounds.entries()) {
          if (vq.enqueue(next, segments(2), 1, 1) === VQ_OK) out.add(next++);
          vq.notify();
          for (const { at, value } of writes) memory.device[at] = value;
          ring.publish(idx[i] ?? i);
          for (let cookie = vq.dequeue(), n = 0; cookie >= 0; cookie = vq.dequeue()) {
            assert.ok(out.delete(cookie), `cookie ${cookie} was not out`);
            assert.ok(vq.usedLen <= 101);
            assert.ok(n++ <= 8);
          }
          vq.enableIntr();
        }
        for (let cookie = vq.drain(); cookie >= 0; cookie = vq.drain()) assert.ok(out.delete(cookie));
        assert.is(out.size, 0);
        assert.is(vq.nfree, 8);
      },
    ),
    { numRuns: 100 },
  );
});

test.run();
