import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError, WindowedMemory } from "../bytes/index.js";
import type { Diagnostic, SavedState } from "../contract/index.js";
import { Msix } from "../pci/index.js";
import { TestFunction, TestModel } from "../pci/testing.js";
import { Machine, type MachineOptions } from "./machine.js";
import type { ResourceOptions } from "./resources.js";
import { VirtualClock } from "./virtual-clock.js";

const MIB = 2 ** 20;
const isConfigError = (code: string) => (error: unknown) => error instanceof ConfigError && error.code === code;

const rig = (options: MachineOptions = {}) => {
  const machine = new Machine({ ram: 2 * MIB, ...options });
  const card = new TestFunction();
  machine.plug("00:03.0", card);
  return { machine, card };
};

// ------------------------------------------------------------------------------------------------ RAM

test("RAM lies as a PC's: a hole from A0000 to FFFFF, and what would reach the PCI hole goes on at 4 GiB", () => {
  const bytes = new Uint8Array(3 * MIB);
  const { machine } = rig({ ram: bytes });
  machine.memWrite(0x9fffc, 4, 0x11223344);
  machine.memWrite(0xa0000, 4, 0);
  machine.memWrite(0x100000, 4, 0x55667788);
  assert.equal([bytes[0x9fffc], bytes[0xa0000], bytes[0x100003]], [0x44, 0, 0x55]);
  assert.is(machine.memRead(0x9fffe, 4), 0xffff1122);
  assert.is(machine.memRead(0xfffff, 2), 0x88ff);
  assert.is(machine.memRead(3 * MIB, 4), 0xffffffff);
  assert.equal(
    new Machine({ ram: 0x8000 }).memory.windows.map(({ base, size }) => [base, size]),
    [[0, 0x8000]],
  );
  assert.throws(() => new Machine({ ram: 0 }), isConfigError("ram-size"));
  assert.throws(
    () =>
      new Machine({
        ram: [
          { base: 0, bytes },
          { base: MIB, bytes },
        ],
      }),
    isConfigError("window-overlap"),
  );
});

test("PCI-078 RAM has priority over any BAR, and is not changed by accesses meant for the BAR", () => {
  const { machine, card } = rig();
  machine.memWrite(0x100000, 4, 0xcafef00d);
  machine.configWrite(0x18, 0x14, 4, 0x100000);
  machine.configWrite(0x18, 0x04, 2, 2);
  assert.is(card.barBase(1), 0x100000);
  assert.is(machine.memRead(0x100000, 4), 0xcafef00d);
  machine.memWrite(0x100004, 4, 0x01020304);
  assert.equal([...card.model.bytes], new Array(16).fill(0));
  machine.configWrite(0x18, 0x14, 4, 0x80000000);
  assert.is(machine.memRead(0x100004, 4), 0x01020304);
  machine.memWrite(0x80000004, 4, 0x0a0b0c0d);
  assert.is(machine.memRead(0x100004, 4), 0x01020304);
  assert.is(card.model.bytes[4], 0x0d);
});

test("PCI-079 chipset ranges and what the embedder maps have priority over BARs", () => {
  const { machine, card } = rig();
  const apic = machine.mapFixed(0xfee00000, {
    kind: "mem32",
    size: 0x1000,
    handler: { read: () => 0x33, write: () => {} },
  });
  machine.configWrite(0x18, 0x04, 2, 3);
  for (const at of [0xfec00000, 0xfee00100, 0xfff00000]) {
    machine.configWrite(0x18, 0x14, 4, at);
    assert.is(card.barBase(1), at);
    machine.memWrite(at, 1, 0x77);
    assert.is(machine.memRead(at, 1), at === 0xfee00100 ? 0x33 : 0xff);
  }
  apic[Symbol.dispose]();
  assert.is(machine.memRead(0xfee00100, 1), 0xff);
  machine.configWrite(0x18, 0x10, 4, 0x4d0);
  machine.ioWrite(0x4d0, 1, 0xff);
  assert.is(machine.ioRead(0x4d0, 1), 0xf8);
  assert.equal([...card.model.bytes], new Array(16).fill(0));
  machine.ioWrite(0x4d2, 1, 0x12);
  assert.is(card.model.bytes[2], 0x12);
  assert.throws(
    () => machine.mapFixed(0xfff8, { kind: "io", size: 16, handler: new TestModel() }),
    isConfigError("fixed-range"),
  );
});

test("PCI-080 PCI-081 of two BARs at one address the lower function answers, then the lower index", () => {
  const { machine, card } = rig();
  const other = new TestFunction();
  machine.plug("00:02.0", other);
  for (const bdf of [0x18, 0x10]) {
    machine.configWrite(bdf, 0x10, 4, 0xc000);
    machine.configWrite(bdf, 0x04, 2, 1);
  }
  machine.ioWrite(0xc001, 1, 0x42);
  assert.equal([card.model.bytes[1], other.model.bytes[1]], [0, 0x42]);
  machine.unplug("00:02.0");
  assert.is(machine.ioRead(0xc001, 1), 0);
  const both = new TestFunction({
    bars: {
      0: { kind: "mem32", size: 16, handler: { read: () => 0, write: () => {} } },
      1: { kind: "mem32", size: 16, handler: { read: () => 1, write: () => {} } },
    },
  });
  machine.plug("00:04.0", both);
  machine.configWrite(0x20, 0x14, 4, 0x80000000);
  machine.configWrite(0x20, 0x10, 4, 0x80000000);
  machine.configWrite(0x20, 0x04, 2, 2);
  assert.is(machine.memRead(0x80000000, 1), 0);
});

test("PCI-068 PCI-069 PCI-070 PCI-071 a BAR answers where and while it is decoded, from the next access on", () => {
  const { machine, card } = rig();
  card.model.bytes[2] = 0x5a;
  machine.configWrite(0x18, 0x14, 4, 0x80000000);
  assert.is(machine.memRead(0x80000002, 1), 0xff);
  machine.configWrite(0x18, 0x04, 2, 2);
  assert.is(machine.memRead(0x80000002, 1), 0x5a);
  machine.configWrite(0x18, 0x14, 4, 0x90000000);
  assert.is(machine.memRead(0x90000002, 1), 0x5a);
  assert.is(machine.memRead(0x80000002, 1), 0xff);
  machine.configWrite(0x18, 0x04, 2, 0);
  assert.is(machine.memRead(0x90000002, 1), 0xff);
});

test("PCI-174 RAM whose buffer was detached is detected at the next access", () => {
  const bytes = new Uint8Array(0x10000);
  const memory = new WindowedMemory([{ base: 0, bytes }]);
  const { machine, card } = rig({ ram: memory });
  machine.configWrite(0x18, 0x04, 2, 4);
  machine.memWrite(0x100, 4, 0x11223344);
  const grown = new Uint8Array(structuredClone(bytes.buffer, { transfer: [bytes.buffer] }));
  machine.message(0x100, 0x55);
  assert.is((machine.save().ram as unknown[]).length, 0);
  assert.is(machine.memRead(0x100, 4), 0xffffffff);
  machine.memWrite(0x100, 4, 0);
  assert.not(card.model.seams!.dma.locate(0x100, 4));
  memory.replace([{ base: 0, bytes: grown }]);
  assert.is(machine.memRead(0x100, 4), 0x11223344);
  assert.ok(card.model.seams!.dma.locate(0x100, 4));
});

// ------------------------------------------------------------------------------------------------ messages

test("PCI-126 a message outside the interrupt window is an ordinary, gated write to memory", () => {
  const written: [number, number][] = [];
  const machine = new Machine({ ram: 2 * MIB, written: (start, end) => written.push([start, end]) });
  const msix = new Msix({ vectors: 2, bar: 2 });
  const card = new TestFunction({ capabilities: [msix], bars: { 2: msix.bar() } });
  machine.plug("00:03.0", card);
  machine.configWrite(0x18, 0x42, 2, 0x8000);
  const program = (address: number, high: number, data: number) =>
    [address, high, data, 0].forEach((value, i) => {
      card.barWrite(2, 4 * i, 4, value);
    });
  const signal = () => card.model.seams!.interrupts.signal(0);
  program(0x1000, 0, 0x89abcdef);
  signal();
  assert.is(machine.memRead(0x1000, 4), 0, "Bus Master is off");
  machine.configWrite(0x18, 0x04, 2, 4);
  signal();
  assert.is(machine.memRead(0x1000, 4), 0x89abcdef);
  assert.equal(written, [[0x1000, 0x1004]]);
  for (const [address, high] of [
    [0xa0000, 0],
    [0x80000000, 0],
    [0x200000, 0],
    [0x1000, 1],
    [0xfffff004, 0xffffffff],
  ] as const) {
    program(address, high, 0x55);
    signal();
  }
  assert.is(written.length, 1);
  assert.is(machine.interrupts.latched, 0);
  program(0xfee00000, 0, 0x4041);
  signal();
  assert.ok(machine.interrupts.waits(0x41));
});

// ------------------------------------------------------------------------------------------------ slots

test("PCI-040 PCI-036 function 1 without function 0 is refused, and so is one beside a function 0 that does not show bit 7", () => {
  const { machine } = rig();
  assert.throws(() => machine.plug("00:04.1", new TestFunction()), isConfigError("no-function-0"));
  assert.throws(() => machine.plug("00:03.1", new TestFunction()), isConfigError("single-function"));
  machine.plug("00:04.0", new TestFunction({ multiFunction: true }));
  machine.plug("00:04.1", new TestFunction({ multiFunction: true }));
  assert.is(machine.configRead(0x20, 0x0e, 1), 0x80);
  assert.is(machine.configRead(0x21, 0, 4), 0x816910ec);
});

test("PCI-158 functions above 0 are hidden until function 0 is present", () => {
  const { machine } = rig();
  const one = new TestFunction({ multiFunction: true });
  machine.plug("00:04.1", one, { hotAdd: true });
  assert.is(machine.configRead(0x21, 0, 4), 0xffffffff);
  machine.configWrite(0x21, 0x3c, 1, 5);
  assert.throws(() => machine.plug("00:04.0", new TestFunction()), isConfigError("single-function"));
  machine.plug("00:04.0", new TestFunction({ multiFunction: true }));
  assert.is(machine.configRead(0x21, 0, 4), 0x816910ec);
  assert.is(machine.configRead(0x21, 0x3c, 1), 0);
  machine.unplug("00:04.0");
  assert.is(machine.configRead(0x21, 0, 4), 0xffffffff);
});

test("an occupied slot, an address that is none and an empty slot are the embedder's mistakes", () => {
  const { machine, card } = rig();
  assert.throws(() => machine.plug("00:03.0", new TestFunction()), isConfigError("slot-occupied"));
  assert.throws(() => machine.plug(0x00, new TestFunction()), isConfigError("slot-occupied"));
  for (const where of ["00:20.0", "3.8", "", "zz", "00:03.0/", -1, 0x10000, 1.5, Number.NaN])
    assert.throws(() => machine.plug(where, new TestFunction()), isConfigError("slot-address"), String(where));
  for (const where of ["01:03.0", 256, 0xff00, "00:03.0/04.0", "00:05.0/04.0"])
    assert.throws(() => machine.plug(where, new TestFunction()), isConfigError("no-bus"), String(where));
  assert.throws(() => machine.plug("00:04.0", card), isConfigError("already-connected"));
  assert.throws(() => machine.unplug("00:04.0"), isConfigError("slot-empty"));
  machine.plug("4", new TestFunction());
  machine.plug("1f.0", new TestFunction());
  assert.equal(
    machine.functions().map(({ bdf }) => bdf),
    [0x00, 0x08, 0x18, 0x20, 0xf8],
  );
  assert.is(machine.slot("3.0"), card);
  assert.is(machine.slot("5.0"), null);
});

test("a plug that fails gives everything back", () => {
  const { machine } = rig();
  const card = new TestFunction();
  card.model.connect = () => {
    throw new Error("no such back end");
  };
  assert.throws(() => machine.plug("00:05.0", card), /no such back end/);
  machine.plug("00:05.0", new TestFunction());
});

test("PCI-155 PCI-156 a removed function is unmapped, and every access to where it was reads all ones", () => {
  const { machine, card } = rig();
  machine.assignResources();
  const [io, mem] = [card.barBase(0), card.barBase(1)];
  const { seams } = card.model;
  machine.configWrite(0x18, 0x04, 2, 7);
  seams!.interrupts.setIntx(true);
  let unmappedFirst = true;
  const disconnect = card.model.disconnect.bind(card.model);
  card.model.disconnect = () => {
    disconnect();
    unmappedFirst = !seams!.dma.open && !machine.irqLevel(11);
  };
  assert.is(machine.unplug("00:03.0"), card);
  assert.ok(unmappedFirst, "DMA and interrupts stop before the model goes");
  assert.is(machine.irqLevel(11), false);
  assert.equal(
    [machine.ioRead(io, 4), machine.memRead(mem, 4), machine.configRead(0x18, 0, 4)],
    [0xffffffff, 0xffffffff, 0xffffffff],
  );
  const reads = card.accessCounters().barReads;
  machine.ioWrite(io, 1, 1);
  card.configWrite(0x10, 4, 0xd000);
  assert.is(machine.ioRead(0xd000, 1), 0xff);
  assert.is(card.accessCounters().barReads, reads);
});

test("PCI-157 a function plugged in, also again, appears with Command 0 and BARs unassigned", () => {
  const { machine, card } = rig();
  machine.assignResources();
  machine.configWrite(0x18, 0x04, 2, 7);
  machine.unplug("00:03.0");
  machine.plug("00:07.0", card);
  assert.is(machine.configRead(0x38, 0x04, 2), 0);
  assert.equal(
    [machine.configRead(0x38, 0x10, 4), machine.configRead(0x38, 0x14, 4), machine.configRead(0x38, 0x3c, 1)],
    [1, 0, 0],
  );
});

test("PCI-151 a platform reset restores every register of every function and the chipset", () => {
  const { machine } = rig();
  const dump = () =>
    [0x00, 0x08, 0x18].flatMap((bdf) => Array.from({ length: 64 }, (_, i) => machine.configRead(bdf, 4 * i, 4)));
  const fresh = dump();
  for (const bdf of [0x00, 0x08, 0x18])
    for (let at = 0; at < 0x100; at += 4) machine.configWrite(bdf, at, 4, 0xffffffff);
  machine.ioWrite(0x4d0, 2, 0xffff);
  machine.memWrite(0x1000, 4, 0x12345678);
  assert.is.not(dump().join(), fresh.join());
  machine.reset();
  assert.equal(dump(), fresh);
  assert.is(machine.ioRead(0x4d0, 2), 0);
  assert.is(machine.memRead(0x1000, 4), 0x12345678, "RAM keeps its content");
});

test("diagnostics reach the embedder with name and strictness", () => {
  const told: Diagnostic[] = [];
  const { card } = rig({ strictness: "strict", report: (diagnostic) => told.push(diagnostic) });
  card.model.seams!.report("bad-ring", 0x1234);
  assert.equal(told, [{ source: "test-card", code: "bad-ring", value: 0x1234, strictness: "strict" }]);
});

test("poll fires timers and tells when to come again", () => {
  const clock = new VirtualClock();
  const { machine, card } = rig({ clock, work: "deferred" });
  const { seams } = card.model;
  let runs = 0;
  seams!.work.bind({ runQueue: () => runs++ });
  let fired = 0;
  const timer = seams!.clock.timer(() => fired++);
  assert.is(machine.poll(), Number.POSITIVE_INFINITY);
  timer.arm(1000);
  assert.is(machine.poll(), 1000);
  seams!.work.request(0);
  machine.poll();
  assert.is(runs, 1);
  timer.arm(0);
  machine.poll();
  assert.is(fired, 1);
  const foreign = new Machine({ ram: 4096, clock: { now: () => 7, timer: () => timer } });
  assert.is(foreign.poll(), Number.POSITIVE_INFINITY);
});

// ------------------------------------------------------------------------------------------------ resources

/** Cards with BARs of the sizes given: kind by position (I/O, mem32, mem64), then a ROM. */
const cardWith = (io: number, mem: number, mem64: number): TestFunction => {
  const handler = new TestModel();
  return new TestFunction({
    bars: {
      0: { kind: "io", size: io, handler },
      1: { kind: "mem32", size: mem, handler },
      2: { kind: "mem64", size: mem64, prefetchable: true, handler },
      6: { kind: "mem32", size: 0x10000, handler },
    },
  });
};

test("PCI-176 resources are aligned, disjoint and inside their windows, and the guest sees them", () => {
  const io = fc.constantFrom(4, 0x20, 0x100, 0x400);
  const mem = fc.constantFrom(0x10, 0x100, 0x1000, 0x20000, MIB);
  const mem64 = fc.constantFrom(0x10, 0x4000, 64 * MIB, 2 ** 32, 2 ** 34);
  fc.assert(
    fc.property(fc.array(fc.tuple(io, mem, mem64), { minLength: 1, maxLength: 5 }), (cards) => {
      const machine = new Machine({ ram: MIB });
      cards.forEach(([a, b, c], i) => {
        machine.plug(`00:${(3 + i).toString(16).padStart(2, "0")}.0`, cardWith(a, b, c));
      });
      const resources = machine.assignResources();
      assert.is(resources.length, 4 * cards.length);
      for (const { bdf, index, kind, base, size } of resources) {
        assert.is(base % size, 0);
        if (kind === "io") assert.ok(base >= 0xc000 && base + size <= 0x10000);
        else assert.ok((base >= 0x80000000 && base + size <= 0xfec00000) || (kind === "mem64" && base >= 2 ** 32));
        if (index !== 6) assert.is(machine.slot(bdf)!.barBase(index), base);
        for (const other of resources)
          if (other.base !== base || other.bdf !== bdf || other.index !== index)
            assert.ok(
              (other.kind === "io") !== (kind === "io") || other.base + other.size <= base || base + size <= other.base,
            );
      }
      for (const { bdf } of machine.functions().slice(2)) {
        assert.is(machine.configRead(bdf, 0x04, 2), 0x0003, "decoding on, Bus Master off");
        assert.is(machine.configRead(bdf, 0x30, 4) & 1, 0, "the ROM stays off");
      }
    }),
    { numRuns: 40 },
  );
});

test("PCI-177 interrupt lines, routes and ELCR agree", () => {
  const machine = new Machine({ ram: MIB });
  const cards = [2, 3, 4, 5, 6].map((device) => {
    const card = new TestFunction();
    machine.plug(device << 3, card);
    return { device, card };
  });
  machine.assignResources();
  assert.is(machine.configRead(0x08, 0x60, 4), 0x0b0b0a0a);
  assert.is(machine.ioRead(0x4d0, 2), 0x0c00);
  for (const { device, card } of cards) {
    const line = machine.configRead(device << 3, 0x3c, 1);
    assert.ok(line >= 1 && line <= 127);
    card.model.seams!.interrupts.setIntx(true);
    assert.is(machine.interrupts.levels, 1 << line);
    card.model.seams!.interrupts.setIntx(false);
  }
  machine.assignResources({ irqs: [3, 5, 9, 15] });
  assert.equal(
    [2, 3, 4, 5].map((device) => machine.configRead(device << 3, 0x3c, 1)),
    [5, 9, 15, 3],
  );
  assert.is(machine.ioRead(0x4d0, 2) & 0x8228, 0x8228);
});

test("RAM up to 3 GiB moves the memory window, and what does not fit is refused with its value", () => {
  const ram = [
    { base: 0, bytes: new Uint8Array(0x1000) },
    { base: 0xb0000000, bytes: new Uint8Array(0x1000) },
  ];
  const machine = new Machine({ ram });
  machine.plug("00:03.0", new TestFunction());
  assert.is(machine.assignResources().find(({ kind }) => kind === "mem32")?.base, 0xb0001000);
  const refused = (options: ResourceOptions, code: string) =>
    assert.throws(() => machine.assignResources(options), isConfigError(code));
  refused({ io: [0xc000, 0xc008] }, "resources-exhausted");
  refused({ memory: [0xc0000000, 0xc0000800] }, "resources-exhausted");
  refused({ irqs: [10, 10, 11, 8] }, "resource-irq");
});

// ------------------------------------------------------------------------------------------------ enumeration as systems do it

/** Configuration accesses through the ports, as an operating system makes them. */
const through = (machine: Machine, devfn: number) => {
  const select = (at: number) => machine.ioWrite(0xcf8, 4, (0x80000000 | (devfn << 8) | (at & 0xfc)) >>> 0);
  return {
    read: (at: number, width: 1 | 2 | 4) => {
      select(at);
      return machine.ioRead(0xcfc + (at & 3), width);
    },
    write: (at: number, width: 1 | 2 | 4, value: number) => {
      select(at);
      machine.ioWrite(0xcfc + (at & 3), width, value);
    },
  };
};
/** Size out of what a sizing read gave: the lowest bit that is set above the type bits. */
const sizeOf = (low: number, high: number, mask: number): number => {
  const masked = (low & mask) >>> 0;
  if (masked !== 0) return 2 ** (31 - Math.clz32(masked & -masked));
  return high === 0 ? 0 : 2 ** (63 - Math.clz32(high & -high));
};

const BARS: [number, string, number][] = [
  [0x10, "io", 0x100],
  [0x14, "mem32", 0x1000],
  [0x18, "mem64", 0x4000],
  [0x20, "mem64", 2 ** 33],
  [0x30, "rom", 0x10000],
];
const sizable = () => {
  const handler = new TestModel();
  const machine = new Machine({ ram: MIB });
  const card = new TestFunction({
    bars: {
      0: { kind: "io", size: 0x100, handler },
      1: { kind: "mem32", size: 0x1000, handler },
      2: { kind: "mem64", size: 0x4000, handler },
      4: { kind: "mem64", size: 2 ** 33, prefetchable: true, handler },
      6: { kind: "mem32", size: 0x10000, handler },
    },
  });
  machine.plug("00:03.0", card);
  machine.assignResources();
  return { machine, card, bases: () => card.bars.map(({ index }) => card.barBase(index)) };
};

test("PCI-178 the sequence of Linux gives the declared sizes, per BAR and per function", () => {
  for (const perFunction of [false, true]) {
    const { machine, bases } = sizable();
    const before = bases();
    const { read, write } = through(machine, 0x18);
    const command = read(0x04, 2);
    const off = () => write(0x04, 2, command & ~3);
    const on = () => write(0x04, 2, command);
    const sizing = (at: number, ones: number) => {
      if (!perFunction) off();
      const old = read(at, 4);
      write(at, 4, at === 0x30 ? ones : 0xffffffff);
      const got = read(at, 4);
      write(at, 4, old);
      if (!perFunction) on();
      return [old, got] as const;
    };
    const sizes: [number, string, number][] = [];
    if (perFunction) off();
    for (let at = 0x10; at < 0x28; at += 4) {
      const [old, got] = sizing(at, 0);
      if (got === 0 || got === 0xffffffff) continue;
      if ((old & 1) !== 0) sizes.push([at, "io", sizeOf(got, 0, 0xfffffffc)]);
      else if ((old & 6) !== 4) sizes.push([at, "mem32", sizeOf(got, 0, 0xfffffff0)]);
      else {
        const [, high] = sizing(at + 4, 0);
        sizes.push([at, "mem64", sizeOf(got, high, 0xfffffff0)]);
        at += 4;
      }
    }
    const [, rom] = sizing(0x30, 0xfffff800);
    sizes.push([0x30, "rom", sizeOf(rom, 0, 0xfffff800)]);
    if (perFunction) on();
    assert.equal(sizes, BARS);
    assert.equal(bases(), before, "and leaves everything where it was");
  }
});

test("PCI-179 the sequence of FreeBSD gives the declared sizes", () => {
  const { machine, bases } = sizable();
  const before = bases();
  const { read, write } = through(machine, 0x18);
  const sizes: [number, string, number][] = [];
  for (let at = 0x10; at < 0x28; at += 4) {
    const low = read(at, 4);
    const io = (low & 1) !== 0;
    const wide = !io && (low & 6) === 4;
    const high = wide ? read(at + 4, 4) : 0;
    const command = read(0x04, 2);
    write(0x04, 2, command & (io ? ~1 : ~2)); // only the matching bit
    write(at, 4, 0xffffffff);
    if (wide) write(at + 4, 4, 0xffffffff); // low, then high
    const testHigh = wide ? read(at + 4, 4) : 0;
    const test = read(at, 4); // high, then low
    write(at, 4, low);
    if (wide) write(at + 4, 4, high);
    write(0x04, 2, command);
    if (test === 0) continue;
    sizes.push([at, io ? "io" : wide ? "mem64" : "mem32", sizeOf(test, testHigh, io ? 0xfffffffc : 0xfffffff0)]);
    if (wide) at += 4;
  }
  const rom = read(0x30, 4);
  write(0x30, 4, 0xfffffffe);
  sizes.push([0x30, "rom", sizeOf(read(0x30, 4), 0, 0xfffff800)]);
  write(0x30, 4, rom);
  assert.equal(sizes, BARS);
  assert.equal(bases(), before);
});

// ------------------------------------------------------------------------------------------------ snapshots

const busy = (clock = new VirtualClock()) => {
  const changes: string[] = [];
  const machine = new Machine({
    ram: MIB + 0x10000,
    clock,
    work: "deferred",
    onIrq: (irq, level) => changes.push(`${irq} ${level ? "up" : "down"}`),
  });
  const msix = new Msix({ vectors: 2, bar: 2 });
  const one = new TestFunction({ capabilities: [msix], bars: { 2: msix.bar() } });
  const two = new TestFunction();
  const runs: string[] = [];
  machine.plug("00:03.0", one);
  machine.plug("00:04.0", two);
  for (const card of [one, two])
    card.model.seams!.work.bind({ runQueue: (queue) => runs.push(`${card === one ? "one" : "two"} ${queue}`) * 0 });
  return { machine, one, two, clock, changes, runs };
};

/** In the middle of things: interrupts up, a message latched, work marked, the latch set. */
const busied = () => {
  const made = busy();
  const { machine, one, two, clock } = made;
  machine.assignResources();
  machine.memWrite(0x100000, 4, 0xfeedface);
  machine.configWrite(0x18, 0x04, 2, 6);
  machine.message(0xfee00000, 0x41);
  one.model.seams!.interrupts.setIntx(true);
  two.model.bytes[3] = 0x33;
  one.model.seams!.work.request(1);
  machine.ioWrite(0xcf8, 4, 0x8000183c);
  machine.ioWrite(0xcf9, 1, 2);
  clock.advance(12345);
  made.changes.splice(0);
  return made;
};

test("PCI-161 save and load reproduce everything a guest can see", () => {
  const one = busied();
  const two = busy();
  two.machine.load(structuredClone(one.machine.save()));
  assert.equal(two.machine.save(), one.machine.save());
  for (const bdf of [0, 8, 0x18, 0x20])
    for (let at = 0; at < 0x100; at += 4)
      assert.is(two.machine.configRead(bdf, at, 4), one.machine.configRead(bdf, at, 4));
  assert.is(two.machine.ioRead(0xcfc, 1), 11);
  assert.is(two.machine.ioRead(0xcf9, 1), 2);
  assert.is(two.machine.memRead(0x100000, 4), 0xfeedface);
  assert.is(two.machine.ioRead(two.two.barBase(0) + 3, 1), 0x33);
  assert.is(two.clock.now(), 12345);
});

test("PCI-162 load recomputes maps and levels once, and doubles no interrupt", () => {
  const one = busied();
  const two = busy();
  two.machine.load(structuredClone(one.machine.save()));
  assert.equal(two.changes, ["11 up"]);
  two.machine.load(structuredClone(one.machine.save()));
  assert.equal(two.changes, ["11 up"]);
  assert.is(two.machine.interrupts.latched, 1);
  assert.equal(two.runs, []);
  two.machine.poll();
  two.machine.poll();
  assert.equal(two.runs, ["one 1"]);
  two.one.model.seams!.interrupts.setIntx(false);
  assert.equal(two.changes, ["11 up", "11 down"]);
});

test("PCI-163 a state of another topology is refused with a typed error, and nothing has changed", () => {
  const state = busied().machine.save();
  const others: (() => Machine)[] = [
    () => new Machine({ ram: MIB + 0x10000 }),
    () => {
      const machine = new Machine({ ram: MIB + 0x10000 });
      machine.plug("00:03.0", new TestFunction());
      machine.plug("00:05.0", new TestFunction());
      return machine;
    },
    () => {
      const machine = new Machine({ ram: MIB + 0x10000 });
      machine.plug("00:03.0", new TestFunction({ name: "another" }));
      machine.plug("00:04.0", new TestFunction());
      return machine;
    },
    () => {
      const machine = new Machine({ ram: MIB + 0x10000 });
      machine.plug("00:03.0", new TestFunction()); // same name, other BARs and capabilities
      machine.plug("00:04.0", new TestFunction());
      return machine;
    },
    () => {
      const machine = new Machine({ ram: MIB + 0x20000 });
      const msix = new Msix({ vectors: 2, bar: 2 });
      machine.plug("00:03.0", new TestFunction({ capabilities: [msix], bars: { 2: msix.bar() } }));
      machine.plug("00:04.0", new TestFunction());
      return machine;
    },
  ];
  for (const [i, make] of others.entries()) {
    const machine = make();
    machine.assignResources();
    const before = machine.save();
    assert.throws(
      () => machine.load(state),
      (error: unknown) => error instanceof StateError,
      `topology ${i}`,
    );
    assert.equal(machine.save(), before);
  }
});

test("PCI-164 a machine's state with one part that does not fit changes nothing at all", () => {
  const good = busied().machine.save();
  const functions = good.functions as { state: SavedState }[];
  const config = Uint8Array.from(functions[3]!.state.config as Uint8Array);
  config[0x0a]! ^= 1;
  const bad: SavedState[] = [
    { ...good, version: 9 },
    { ...good, now: -1 },
    { ...good, configAddress: 2 ** 32 },
    { ...good, elcr: Uint8Array.of(1, 0) },
    { ...good, interrupts: { version: 1, latched: [256] } },
    { ...good, work: { version: 1, functions: [{ key: "00:09.0", ready: [], waiting: [], deadlines: [] }] } },
    { ...good, functions: [...functions.slice(0, 3), { ...functions[3]!, state: { ...functions[3]!.state, config } }] },
    { ...good, ram: [] },
  ];
  for (const [i, state] of bad.entries()) {
    const { machine, changes } = busy();
    machine.assignResources();
    machine.message(0xfee00000, 0x55);
    const before = machine.save();
    assert.throws(
      () => machine.load(state),
      (error: unknown) => error instanceof StateError,
      `state ${i}`,
    );
    assert.equal(machine.save(), before);
    assert.equal(changes, []);
  }
});

test("a state without RAM leaves RAM to the embedder", () => {
  const one = busied();
  const state = one.machine.save({ ram: false });
  assert.is(state.ram, null);
  const two = busy();
  two.machine.memWrite(0x100000, 4, 0x0badcafe);
  two.machine.load(structuredClone(state));
  assert.is(two.machine.memRead(0x100000, 4), 0x0badcafe);
  assert.is(two.machine.configRead(0x18, 0x04, 2), 6);
});

test.run();
