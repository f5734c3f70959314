import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import type { FunctionSeams } from "../contract/index.js";
import { Msix } from "../pci/index.js";
import { TestFunction } from "../pci/testing.js";
import { DmaMemory } from "./dma-memory.js";
import { Machine, type MachineOptions } from "./machine.js";
import { makeRam } from "./ram.js";
import { VirtualClock } from "./virtual-clock.js";

const build = (options: MachineOptions = {}) => {
  const clock = new VirtualClock();
  const machine = new Machine({ ram: 4 * 2 ** 20, clock, ...options });
  const msix = new Msix({ vectors: 4, bar: 2 });
  const card = new TestFunction({ capabilities: [msix], bars: { 2: msix.bar() } });
  machine.plug("00:03.0", card);
  machine.assignResources();
  return { clock, machine, card, seams: card.model.seams as FunctionSeams };
};
const rig = (options: MachineOptions = {}) => {
  const made = build(options);
  return { ...made, bus: made.machine.guestBus() };
};
const CARD = 0x18;

test("a line's handler runs from poll while it is up, and never inside an access", () => {
  const { bus, seams } = rig();
  let ran = 0;
  bus.onLine(11, () => {
    ran++;
    seams.interrupts.setIntx(false);
  });
  assert.not(bus.poll());
  seams.interrupts.setIntx(true);
  bus.configRead(CARD, 0, 4);
  assert.is(ran, 0);
  assert.ok(bus.poll());
  assert.is(ran, 1);
  assert.not(bus.poll());
});

test("a level nobody acknowledges calls again, boundedly often per poll", () => {
  const { bus, seams } = rig();
  let ran = 0;
  const line = bus.onLine(11, () => ran++);
  seams.interrupts.setIntx(true);
  assert.ok(bus.poll());
  const once = ran;
  assert.ok(once >= 1 && once <= 16);
  assert.ok(bus.poll());
  assert.ok(ran > once);
  line[Symbol.dispose]();
  ran = 0;
  assert.not(bus.poll());
  assert.is(ran, 0);
});

test("all handlers of a shared line run", () => {
  const { bus, seams } = rig();
  const ran: string[] = [];
  bus.onLine(11, () => ran.push("a"));
  bus.onLine(10, () => ran.push("other"));
  bus.onLine(11, () => {
    ran.push("b");
    seams.interrupts.setIntx(false);
  });
  seams.interrupts.setIntx(true);
  bus.poll();
  assert.equal(ran, ["a", "b"]);
  assert.throws(
    () => bus.onLine(16, () => {}),
    (error: unknown) => error instanceof ConfigError,
  );
});

test("a message is latched, delivered once from poll, and its vector can be given back", () => {
  const { bus, machine, seams } = rig();
  const ran: string[] = [];
  const message = bus.allocMessage(() => ran.push("a"))!;
  const other = bus.allocMessage(() => ran.push("b"))!;
  assert.is.not(message.data, other.data);
  bus.configWrite(CARD, 0x04, 2, 0x0006);
  const table = bus.configRead(CARD, 0x18, 4);
  [message.address % 2 ** 32, 0, message.data, 0].forEach((value, i) => {
    bus.memWrite(table + 4 * i, 4, value);
  });
  bus.configWrite(CARD, 0x42, 2, 0x8000);
  seams.interrupts.signal(0);
  seams.interrupts.signal(0);
  assert.equal(ran, []);
  assert.ok(bus.poll());
  assert.equal(ran, ["a"], "twice signalled before anybody looked is one interrupt");
  seams.interrupts.signal(0);
  message[Symbol.dispose]();
  assert.not(bus.poll());
  assert.is(machine.interrupts.latched, 1);
  const again = bus.allocMessage(() => ran.push("c"))!;
  assert.is(again.data, message.data);
  assert.not(bus.poll(), "a message to the former owner is not the new one's");
  message[Symbol.dispose]();
  seams.interrupts.signal(0);
  bus.poll();
  assert.equal(ran, ["a", "c"]);
});

test("there are vectors for a busy machine, and then none", () => {
  const { bus } = rig();
  const data = new Set<number>();
  for (let message = bus.allocMessage(() => {}); message !== null; message = bus.allocMessage(() => {}))
    data.add(message.data);
  assert.ok(data.size >= 128);
  for (const vector of data) assert.ok(vector >= 0x20 && vector <= 0xff);
});

test("inside a handler, poll and delay deliver nothing", () => {
  const { bus, seams } = rig();
  let depth = 0;
  bus.onLine(11, () => {
    depth++;
    assert.is(depth, 1);
    assert.not(bus.poll());
    bus.delay(10);
    seams.interrupts.setIntx(false);
    depth--;
  });
  seams.interrupts.setIntx(true);
  assert.ok(bus.poll());
});

test("a handler that throws does not shut delivery off", () => {
  const { bus, seams } = rig();
  let fail = true;
  bus.onLine(11, () => {
    if (fail) throw new Error("driver's bug");
    seams.interrupts.setIntx(false);
  });
  seams.interrupts.setIntx(true);
  assert.throws(() => bus.poll(), /driver's bug/);
  fail = false;
  assert.ok(bus.poll());
});

test("delay goes from deadline to deadline and delivers in between", () => {
  const { bus, clock, seams } = rig();
  const seen: string[] = [];
  const timer = seams.clock.timer(() => {
    seen.push(`fires ${bus.now()}`);
    seams.interrupts.setIntx(true);
    if (seen.length < 5) timer.arm(bus.now() + 2000);
  });
  timer.arm(1000);
  bus.onLine(11, () => {
    seen.push(`handled ${bus.now()}`);
    seams.interrupts.setIntx(false);
  });
  bus.delay(4);
  assert.equal(seen, ["fires 1000", "handled 1000", "fires 3000", "handled 3000"]);
  assert.is(clock.now(), 4000);
  bus.delay(0.5);
  assert.is(bus.now(), 4500);
  bus.delay(0);
  bus.delay(-1);
  assert.is(bus.now(), 4500);
});

test("delay lets deferred work run, and poll lets it work by its budget", () => {
  for (const policy of ["deferred", { kind: "timer", delayNs: 1500 }] as const) {
    const { bus, seams } = rig({ work: policy });
    const runs: number[] = [];
    seams.work.bind({
      runQueue: (_queue, budget) => {
        runs.push(bus.now());
        return runs.length < 3 ? budget : 0;
      },
    });
    seams.work.request(0);
    bus.delay(10);
    assert.is(runs.length, 3);
    assert.is(runs[0], policy === "deferred" ? 0 : 1500);
    assert.is(bus.now(), 10_000);
  }
});

test("PCI-162 a bus goes over to a machine that loaded the former one's state; nothing is lost or doubled", () => {
  const one = build();
  const bus = one.machine.guestBus();
  const ran: string[] = [];
  let seams = one.seams;
  bus.onLine(11, () => {
    ran.push("line");
    seams.interrupts.setIntx(false);
  });
  const message = bus.allocMessage(() => ran.push("message"))!;
  const address = bus.dma.alloc(64, 16, 0xffffffff);
  bus.dma.write32(address, 0x12345678);
  one.machine.message(message.address, message.data);
  seams.interrupts.setIntx(true);

  const two = build();
  two.machine.load(structuredClone(one.machine.save()));
  seams = two.seams;
  bus.machine = two.machine;
  assert.is(bus.machine, two.machine);
  assert.is(bus.dma.read32(address), 0x12345678);
  assert.ok(bus.poll());
  assert.equal(ran, ["message", "line"]);
  assert.not(bus.poll());
});

// ------------------------------------------------------------------------------------------------ DMA memory

test("memory comes zeroed, aligned, apart, below the limit, and from 1 MiB up", () => {
  const { bus, machine } = rig();
  machine.memory.windows[1]!.bytes.fill(0xee);
  const a = bus.dma.alloc(100, 4096, 0xffffffff);
  const b = bus.dma.alloc(100, 16, 0xffffffff);
  assert.is(a, 0x100000);
  assert.is(b, 0x100070);
  for (let i = 0; i < 100; i++) assert.is(bus.dma.read8(a + i), 0);
  assert.is(bus.dma.alloc(1, 1, 0xfffff), -1, "nothing below 1 MiB");
  assert.is(bus.dma.alloc(5 * 2 ** 20, 1, 0xffffffff), -1);
  bus.dma.free(a, 100);
  assert.is(bus.dma.alloc(100, 4096, 0xffffffff), a, "first fit");
  assert.throws(
    () => bus.dma.free(b, 99),
    (error: unknown) => error instanceof ConfigError && error.code === "dma-free",
  );
  bus.dma.free(b, 100);
  assert.throws(
    () => bus.dma.free(b, 100),
    (error: unknown) => error instanceof ConfigError,
  );
});

test("a machine with less than 1 MiB gives what it has, but not its first page", () => {
  const bus = new Machine({ ram: 0x8000 }).guestBus();
  assert.is(bus.dma.alloc(16, 16, 0xffffffff), 0x1000);
  assert.is(bus.dma.alloc(0x7000, 1, 0xffffffff), -1);
  const area = new Machine({ ram: 2 ** 20 }).guestBus({ dmaArea: { start: 0x2000, end: 0x3000 } });
  assert.is(area.dma.alloc(0x1000, 1, 0xffffffff), 0x2000);
  assert.is(area.dma.alloc(1, 1, 0xffffffff), -1);
});

test("accessors are little-endian, and outside of RAM they answer as the bus would", () => {
  const { bus } = rig();
  const at = bus.dma.alloc(16, 16, 0xffffffff);
  bus.dma.write32(at, 0x44332211);
  bus.dma.write16(at + 4, 0x6655);
  bus.dma.write8(at + 6, 0x77);
  assert.equal([bus.dma.read8(at + 1), bus.dma.read16(at + 2), bus.dma.read32(at + 3)], [0x22, 0x4433, 0x77665544]);
  const bytes = new Uint8Array(8);
  bus.dma.copyOut(at, bytes, 1, 7);
  assert.equal([...bytes], [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
  bus.dma.copyIn(at + 8, bytes, 2, 3);
  assert.is(bus.dma.read32(at + 8), 0x00443322);
  bus.dma.sync(at, 16, "prewrite");
  assert.equal(
    [bus.dma.read8(0xa0000), bus.dma.read16(0x9ffff), bus.dma.read32(0x7fffffff)],
    [0xff, 0xffff, 0xffffffff],
  );
  bus.dma.write32(0xa0000, 0);
  assert.throws(
    () => bus.dma.copyOut(0x9fffe, bytes, 0, 4),
    (error: unknown) => error instanceof ConfigError,
  );
});

test("whatever is allocated and freed: blocks are aligned, apart, and inside", () => {
  const step = fc.record({
    size: fc.integer({ min: 1, max: 9000 }),
    log2: fc.nat(13),
    free: fc.boolean(),
    pick: fc.nat(20),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const dma = new DmaMemory(makeRam(2 ** 20 + 0x10000, null));
      const held: [number, number][] = [];
      for (const { size, log2, free, pick } of steps) {
        if (free && held.length > 0) {
          const [block] = held.splice(pick % held.length, 1);
          dma.free(block![0], block![1]);
          continue;
        }
        const at = dma.alloc(size, 2 ** log2, 0xffffffff);
        if (at < 0) continue;
        assert.is(at % 2 ** log2, 0);
        assert.ok(at >= 2 ** 20 && at + size <= 2 ** 20 + 0x10000);
        for (const [start, length] of held) assert.ok(at + size <= start || start + length <= at);
        held.push([at, size]);
      }
      assert.is(dma.blocks.length, held.length);
    }),
    { numRuns: 200 },
  );
});

test.run();
