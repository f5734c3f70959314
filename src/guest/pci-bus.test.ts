import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  BusError,
  type BusEvent,
  type BusSpace,
  type Device,
  DeviceGoneError,
  type DeviceInfo,
  type DmaMemory,
  type DmaTag,
  type Driver,
  type InterruptCookie,
  type Irq,
  Newbus,
  type NewbusOptions,
  PCI,
  type PciAttach,
  type PciProbe,
} from "./index.js";
import { FakeBus, type FakeFunction } from "./testing/fake-bus.js";
import { BDF, CARD } from "./testing/fake-card.js";

const codeOf = (fn: () => unknown): string => {
  try {
    fn();
    return "ok";
  } catch (error) {
    return error instanceof BusError ? error.code : String(error);
  }
};
const find = (info: DeviceInfo, test: (d: DeviceInfo) => boolean): DeviceInfo | undefined =>
  test(info) ? info : info.children.map((child) => find(child, test)).find((found) => found !== undefined);

/** Attaches `story` to the card. */
const rig = (story: (dev: Device<PciAttach>) => unknown = () => null, options: NewbusOptions = {}, f = CARD) => {
  const bus = new FakeBus([f]);
  const log: string[] = [];
  const events: BusEvent[] = [];
  const newbus = new Newbus(bus, { log: (line) => log.push(line), ...options });
  newbus.on((e) => events.push(e));
  let held: Device<PciAttach> | null = null;
  newbus.register<PciProbe, PciAttach, unknown>({
    name: "re",
    bus: PCI,
    probe: () => ({ priority: -20, desc: "RealTek" }),
    attach: (dev) => {
      held = dev;
      return story(dev);
    },
  });
  newbus.scan();
  const dev = held as Device<PciAttach> | null;
  if (dev === null) throw new Error(log.join("\n"));
  return { bus, newbus, log, events, dev, pci: dev.bus, command: () => bus.config(f.bdf, 0x04, 2) };
};

// ------------------------------------------------------------------------------------------------ scanning

test("PRB-004 one child per function; functions 1 to 7 are asked only when header type bit 7 is set", () => {
  const bus = new FakeBus([
    { bdf: 0x00, config: { 0: 0x12378086 } },
    { bdf: 0x01, config: { 0: 0x70008086 } }, // hidden: function 0 says that it is alone
    { bdf: 0x10, config: { 0: 0x70008086, 12: 0x0080_0000 } },
    { bdf: 0x13, config: { 0: 0x71138086, 12: 0x0080_0000 } },
    { bdf: 0x19, config: { 0: 0x71138086 } }, // no function 0
    { bdf: 0x20, config: { 0: 0x0000_0000 } }, // vendor 0 is nobody
    { bdf: 0xff, config: { 0: 0x71138086, 12: 0x0080_0000 } }, // no function 0 either
    { bdf: 0xf8, config: { 0: 0x12378086 } },
  ]);
  const newbus = new Newbus(bus);
  newbus.scan();
  const pci0 = find(newbus.tree(), (d) => d.nameunit === "pci0");
  assert.equal(
    pci0?.children.map((d) => d.location.split(" dbsf")[0]),
    ["slot=0 function=0", "slot=2 function=0", "slot=2 function=3", "slot=31 function=0"],
  );
  assert.not.ok(
    bus.log.some((line) => line.startsWith("cr 1 ") || line.startsWith("cr 19 ")),
    "asked a hidden function",
  );
  for (let fn = 0; fn < 8; fn++)
    assert.ok(
      bus.log.some((line) => line.startsWith(`cr 1${fn} 00`)),
      `function ${fn}`,
    );
});

test("PRB-005 a rescan adds what is new, detaches what vanished, and leaves the rest attached", () => {
  const story: string[] = [];
  const bus = new FakeBus([
    CARD,
    { ...CARD, bdf: 0x28, config: { ...CARD.config, 16: 0xc101, 20: 0xfebd2000, 24: 0xfe10000c } },
  ]);
  const newbus = new Newbus(bus);
  newbus.register<PciProbe, PciAttach, number>({
    name: "re",
    bus: PCI,
    pnp: [{ vendor: 0x10ec }],
    probe: () => ({ priority: -20, desc: "" }),
    attach: (dev) => {
      story.push(`${dev.nameunit} attach ${dev.bus.bdf.toString(16)}`);
      return dev.bus.bdf;
    },
    detach: (dev, _softc, why) => void story.push(`${dev.nameunit} ${why}`),
  });
  newbus.scan();
  newbus.rescan();
  assert.equal(story.splice(0), ["re0 attach 20", "re1 attach 28"]);
  bus.unplug(0x20);
  bus.plug({ ...CARD, bdf: 0x30 });
  newbus.rescan();
  assert.equal(story.splice(0), ["re0 surprise", "re0 attach 30"]);
  assert.is(newbus.softc("re1"), 0x28);
  bus.unplug(0x28);
  bus.plug({ ...CARD, bdf: 0x28, config: { ...CARD.config, 16: 0xc101, 0: 0x10001af4 } });
  newbus.rescan();
  assert.equal(story.splice(0), ["re1 surprise"], "exchanged for another: that one is offered anew");
  assert.ok(find(newbus.tree(), (d) => d.pnpinfo.startsWith("vendor=0x1af4")));
});

test("PRB-007 a probe writes nothing, and its view could not", () => {
  const bus = new FakeBus([CARD]);
  const newbus = new Newbus(bus);
  newbus.scan();
  bus.log.length = 0;
  const views: PciProbe[] = [];
  newbus.register<PciProbe, PciAttach>({
    name: "nosy",
    bus: PCI,
    probe: (view) => {
      views.push(view);
      view.findCap(0x11);
      view.findExtCap(0x0001);
      view.readConfig(0x10, 4);
      return null;
    },
    attach: () => {},
  });
  assert.is(views.length, 1);
  assert.ok(bus.log.length > 0 && bus.log.every((line) => line.startsWith("cr ")));
  const view = views[0] as unknown as Record<string, unknown>;
  for (const name of ["writeConfig", "enableBusMaster", "alloc", "allocIntx", "setupIntr", "dmaTag", "machine"])
    assert.not.ok(name in view, name);
});

test("identity is read once, subsystem ids only from a type 0 header", () => {
  const { pci } = rig();
  assert.equal(
    [pci.vendor, pci.device, pci.subvendor, pci.subdevice, pci.class, pci.revid, pci.intpin, pci.irq, pci.bdf],
    [0x10ec, 0x8168, 0x10ec, 0x0123, 0x020000, 0x05, 1, 11, 0x20],
  );
});

test("BARs are sized as FreeBSD does: decode off, low and high written, then high and low read, all restored", () => {
  const bus = new FakeBus([{ ...CARD, config: { ...CARD.config, 4: 0x0010_0007 } }]);
  new Newbus(bus).scan();
  const around = bus.log.filter((line) => /^c[rw] 20 (04 2|18|1c)/.test(line));
  const at = around.findIndex((line) => line.startsWith("cw 20 18"));
  assert.equal(around.slice(at - 2, at + 8), [
    "cr 20 04 2 7",
    "cw 20 04 2 5", // only the bit that matches
    "cw 20 18 4 ffffffff",
    "cw 20 1c 4 ffffffff",
    "cr 20 1c 4 ffffffff",
    "cr 20 18 4 ffffc00c",
    "cw 20 18 4 fe00000c",
    "cw 20 1c 4 0",
    "cr 20 04 2 5",
    "cw 20 04 2 7",
  ]);
  for (const [offset, value] of Object.entries(CARD.config))
    if (Number(offset) !== 4) assert.is(bus.config(BDF, Number(offset), 4), value, `${offset} is as it was`);
});

// ------------------------------------------------------------------------------------------------ ranges

test("PRB-038 the wrong type, no BAR, or the upper half of one is ENXIO", () => {
  const { pci, bus } = rig();
  bus.log.length = 0;
  for (const [type, rid] of [
    ["memory", 0x10],
    ["ioport", 0x14],
    ["memory", 0x1c], // the upper half of 0x18
    ["memory", 0x20],
    ["ioport", 0x24],
    ["ioport", 0x30],
    ["memory", 0x12],
    ["memory", 0x28],
  ] as const)
    assert.is(
      codeOf(() => pci.alloc(type, rid)),
      "ENXIO",
      `${type} ${rid.toString(16)}`,
    );
  assert.not.ok(bus.log.some((line) => line.startsWith("cw 20 04")));
});

test("PRB-039 a second allocation of a rid is EBUSY, and one after release is not", () => {
  const { pci } = rig();
  const first = pci.alloc("memory", 0x14);
  assert.is(
    codeOf(() => pci.alloc("memory", 0x14)),
    "EBUSY",
  );
  first[Symbol.dispose]();
  const second = pci.alloc("memory", 0x14);
  assert.equal([second.start, second.size, second.type, second.rid], [0xfebd1000, 0x1000, "memory", 0x14]);
});

test("PRB-040 allocating a BAR sets its decode bit and leaves the others alone", () => {
  for (const [type, rid, before, after] of [
    ["memory", 0x14, 0x0500, 0x0502],
    ["memory", 0x18, 0x0001, 0x0003],
    ["ioport", 0x10, 0x0406, 0x0407],
  ] as const) {
    const { bus, pci, command } = rig();
    bus.setConfig(BDF, 0x04, 2, before);
    pci.alloc(type, rid);
    assert.is(command(), after);
  }
});

test("accesses reach the registers behind the BAR", () => {
  const { bus, pci } = rig();
  const mem = pci.alloc("memory", 0x18);
  assert.equal([mem.start, mem.size], [0xfe000000, 0x4000]);
  mem.write2(0x3c, 0x1234);
  assert.equal([...bus.regs(BDF, 2).subarray(0x3c, 0x3e)], [0x34, 0x12]);
  const io = pci.alloc("ioport", 0x10);
  io.write1(0x37, 0x0c);
  assert.is(bus.regs(BDF, 0)[0x37], 0x0c);
});

test("the ROM is sized when it is asked for, enabled while allocated, and disabled again", () => {
  const { bus, pci } = rig();
  assert.is(bus.config(BDF, 0x30, 4), 0xfeb00000);
  bus.regs(BDF, 6).set([0x55, 0xaa]);
  const rom = pci.alloc("memory", 0x30);
  assert.equal([rom.start, rom.size, rom.read2(0)], [0xfeb00000, 0x10000, 0xaa55]);
  assert.is(bus.config(BDF, 0x30, 4), 0xfeb00001);
  rom[Symbol.dispose]();
  assert.is(bus.config(BDF, 0x30, 4), 0xfeb00000);
});

test("PRB-041 what firmware left unassigned, or placed on top of another, gets a place of its own", () => {
  const windows = { memory: [0xe0000000, 0xe00fffff], ports: [0xd000, 0xd1ff] } as const;
  const bus = new FakeBus([
    CARD,
    { ...CARD, bdf: 0x28, config: { ...CARD.config, 16: 0xc001, 20: 0xfebd1000, 24: 0x0000000c, 48: 0 } },
  ]);
  const log: string[] = [];
  const newbus = new Newbus(bus, { windows, log: (line) => log.push(line) });
  const spaces: BusSpace[] = [];
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    probe: () => ({ priority: -20, desc: "" }),
    attach: ({ bus: pci, resources }) => {
      for (const [type, rid] of [
        ["ioport", 0x10],
        ["memory", 0x14],
        ["memory", 0x18],
      ] as const)
        spaces.push(resources.use(pci.alloc(type, rid)));
    },
  });
  newbus.scan();
  assert.equal(
    spaces.map(({ start, size }) => `${start.toString(16)}+${size.toString(16)}`),
    ["c000+100", "febd1000+1000", "fe000000+4000", "d000+100", "e0000000+1000", "e0004000+4000"],
  );
  assert.equal(
    [bus.config(0x28, 0x10, 4), bus.config(0x28, 0x14, 4), bus.config(0x28, 0x18, 4)],
    [0xd001, 0xe0000000, 0xe000400c],
  );
  assert.is(log.filter((line) => line.includes("cannot stay")).length, 2);
  spaces[5]!.write4(0, 0x1234);
  assert.is(bus.regs(0x28, 2)[1], 0x12);
});

test("a BAR that no window has room for is EBUSY", () => {
  const { pci } = rig(
    () => null,
    { windows: { memory: [0xe0000000, 0xe0000fff] } },
    { ...CARD, config: { ...CARD.config, 24: 0xc } },
  );
  assert.is(
    codeOf(() => pci.alloc("memory", 0x18)),
    "EBUSY",
  );
});

// ------------------------------------------------------------------------------------------------ capabilities

const withCaps = (config: FakeFunction["config"], status = 0x0010) =>
  rig(() => null, {}, { bdf: BDF, config: { 0: 0x816810ec, 4: status * 0x10000, ...config } }).pci;

test("PRB-046 a capability walk follows the list and stops where it ends", () => {
  const pci = rig().pci;
  assert.equal([pci.findCap(0x01), pci.findCap(0x05), pci.findCap(0x11), pci.findCap(0x09)], [0x40, 0x50, 0x70, null]);
  const two = withCaps({ 52: 0x43, 64: 0x6009, 96: 0x8009, 128: 0x0009 });
  assert.equal(
    [two.findCap(9), two.findCap(9, 0x40), two.findCap(9, 0x60), two.findCap(9, 0x80)],
    [0x40, 0x60, 0x80, null],
  );
  assert.is(two.findCap(9, 0x44), null, "not an entry of the list");
});

test("PRB-046 there is no list without the status bit, below 40h, or behind all ones", () => {
  assert.is(withCaps({ 52: 0x40, 64: 0x0001 }, 0).findCap(1), null);
  assert.is(withCaps({ 52: 0x3c, 60: 0x0001 }).findCap(1), null);
  assert.is(withCaps({ 52: 0x40, 64: 0x2009, 32: 0x0001 }).findCap(1), null);
  assert.is(withCaps({ 52: 0x40, 64: 0xffffffff, 252: 0x0001 }).findCap(1), null);
  assert.is(withCaps({ 52: 0 }).findCap(1), null);
});

test("PRB-046 a cyclic list ends, even for a driver that walks it entry by entry", () => {
  const pci = withCaps({ 52: 0x40, 64: 0x5009, 80: 0x6009, 96: 0x4009 });
  assert.is(pci.findCap(0x11), null);
  const seen: number[] = [];
  for (let at = pci.findCap(9); at !== null; at = pci.findCap(9, at)) seen.push(at);
  assert.equal(seen, [0x40, 0x50, 0x60]);
});

test("PRB-046 extended capabilities: a list, a cycle, and machines that have none", () => {
  const express = { 52: 0x40, 64: 0x0002_0010 };
  const pci = withCaps({ ...express, 256: 0x14010001, 320: 0x1801000d, 384: 0x00010003 });
  assert.equal(
    [pci.findExtCap(1), pci.findExtCap(0x0d), pci.findExtCap(3), pci.findExtCap(9)],
    [0x100, 0x140, 0x180, null],
  );
  assert.is(pci.findExtCap(3, 0x180), null);
  const cyclic = withCaps({ ...express, 256: 0x14010001, 320: 0x1001000d });
  assert.equal([cyclic.findExtCap(3), cyclic.findExtCap(1, 0x140)], [null, null]);
  const low = withCaps({ ...express, 256: 0x08010001 });
  assert.equal([low.findExtCap(1), low.findExtCap(3)], [0x100, null]);
  assert.is(withCaps({ ...express, 256: 0 }).findExtCap(0), null);
  assert.is(withCaps({ ...express, 256: 0xffffffff }).findExtCap(0xffff), null);
  assert.is(
    withCaps({ ...express, 256: 0x816810ec }).findExtCap(0x10ec),
    null,
    "a machine that cuts the offset to 8 bits",
  );
  assert.is(withCaps({ 256: 0x00010001 }).findExtCap(1), null, "a conventional function");
});

// ------------------------------------------------------------------------------------------------ interrupts

test("PRB-042 INTx is shared between functions, and exclusive use of a shared line is EBUSY", () => {
  const bus = new FakeBus([CARD, { ...CARD, bdf: 0x28, config: { ...CARD.config, 16: 0, 20: 0, 24: 0xc } }]);
  const newbus = new Newbus(bus);
  const functions: PciAttach[] = [];
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    probe: () => ({ priority: -20, desc: "" }),
    attach: (dev) => void functions.push(dev.bus),
  });
  newbus.scan();
  const [a, b] = functions as [PciAttach, PciAttach];
  const first = a.allocIntx();
  assert.equal([first.kind, first.rid, first.number], ["intx", 0, 11]);
  assert.is(
    codeOf(() => a.allocIntx()),
    "EBUSY",
    "twice on one function",
  );
  assert.is(
    codeOf(() => b.allocIntx({ exclusive: true })),
    "EBUSY",
  );
  const second = b.allocIntx();
  first[Symbol.dispose]();
  second[Symbol.dispose]();
  const alone = b.allocIntx({ exclusive: true });
  assert.is(
    codeOf(() => a.allocIntx()),
    "EBUSY",
  );
  alone[Symbol.dispose]();
  a.allocIntx();
});

test("a function without a pin, or without a routed line, has no INTx", () => {
  for (const line of [0x000b, 0x0100, 0x01ff, 0x0180, 0x050b])
    assert.is(
      codeOf(() => rig(() => null, {}, { ...CARD, config: { ...CARD.config, 60: line } }).pci.allocIntx()),
      "ENXIO",
    );
});

test("PRB-052 an interrupt between handler setup and the end of attach is delivered", () => {
  let runs = 0;
  const bus = new FakeBus([CARD]);
  const newbus = new Newbus(bus);
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    probe: () => ({ priority: -20, desc: "" }),
    attach: (dev) => {
      const irq = dev.resources.use(dev.bus.allocIntx());
      dev.resources.use(
        dev.bus.setupIntr(irq, {
          filter: () => {
            bus.setLine(11, false);
            return "schedule";
          },
          handler: () => runs++,
        }),
      );
      bus.setLine(11, true);
      dev.bus.machine.delay(10);
      assert.is(runs, 1, "delivered while attach waits");
      bus.setLine(11, true);
    },
  });
  newbus.scan();
  newbus.poll();
  assert.is(runs, 2, "and what came at its end is not lost");
});

test("PRB-047 MSI gives a power of two, at most what was asked for and what the function has", () => {
  for (const [asked, given] of [
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 4],
    [32, 4],
  ] as const) {
    const { bus, pci } = rig((dev) => dev.bus.enableBusMaster(true));
    bus.nextData = 0x31; // nothing is aligned by chance
    const irqs = pci.allocMsi(asked);
    assert.is(irqs.length, given);
    assert.equal(
      irqs.map(({ kind, rid }) => [kind, rid]),
      Array.from({ length: given }, (_, i) => ["msi", i + 1]),
    );
    assert.is(bus.messagesLive, given, "what did not fit was given back");
    assert.is((bus.config(BDF, 0x52, 2) >> 4) & 7, Math.log2(given));
    assert.is(irqs[0]!.number % given, 0);
    const got: number[] = [];
    for (const irq of irqs) pci.setupIntr(irq, { handler: () => got.push(irq.rid) });
    for (let i = 0; i < given; i++) assert.is(bus.fire(BDF, i), true);
    bus.poll();
    assert.equal(
      got,
      irqs.map(({ rid }) => rid),
    );
  }
});

test("PRB-047 MSI-X gives at most what was asked for, what the table has and what the machine has", () => {
  const map = (dev: Device<PciAttach>) => dev.resources.use(dev.bus.alloc("memory", 0x14));
  for (const [asked, left, given] of [
    [1, 64, 1],
    [3, 64, 3],
    [9, 64, 3],
    [3, 2, 2],
  ] as const) {
    const { bus, pci } = rig(map);
    bus.messagesLeft = left;
    assert.is(pci.allocMsix(asked).length, given);
  }
  const { bus, pci } = rig(map);
  bus.messagesLeft = 0;
  assert.is(
    codeOf(() => pci.allocMsix(1)),
    "ENXIO",
  );
  assert.is(
    codeOf(() => pci.allocMsi(1)),
    "ENXIO",
  );
  for (const n of [0, -1, 1.5, Number.NaN]) {
    assert.is(
      codeOf(() => pci.allocMsi(n)),
      "EINVAL",
    );
    assert.is(
      codeOf(() => pci.allocMsix(n)),
      "EINVAL",
    );
  }
  assert.equal([pci.msiCount(), pci.msixCount()], [4, 3]);
  const none = withCaps({});
  assert.equal([none.msiCount(), none.msixCount()], [0, 0]);
  assert.equal([codeOf(() => none.allocMsi(1)), codeOf(() => none.allocMsix(1))], ["ENXIO", "ENXIO"]);
});

test("PRB-047 INTx, MSI and MSI-X exclude each other", () => {
  const { pci } = rig((dev) => dev.resources.use(dev.bus.alloc("memory", 0x14)));
  const ways: Record<string, () => Irq[]> = {
    intx: () => [pci.allocIntx()],
    msi: () => pci.allocMsi(1),
    msix: () => pci.allocMsix(1),
  };
  for (const [name, alloc] of Object.entries(ways)) {
    const irqs = alloc();
    for (const other of Object.values(ways)) assert.is(codeOf(other), "EBUSY", name);
    for (const irq of irqs) irq[Symbol.dispose]();
  }
});

test("PRB-048 MSI-X is ENXIO while the BAR of its table is not allocated by the driver", () => {
  const { pci, bus } = rig();
  assert.is(
    codeOf(() => pci.allocMsix(1)),
    "ENXIO",
  );
  const space = pci.alloc("memory", 0x14);
  assert.is(
    codeOf(() => pci.allocMsix(1).map((irq) => irq[Symbol.dispose]())),
    "ok",
  );
  space[Symbol.dispose]();
  assert.is(
    codeOf(() => pci.allocMsix(1)),
    "ENXIO",
  );
  assert.is(bus.messagesLive, 0);
});

test("PRB-048 a table that leaves its BAR, or lies in ports, is ENXIO", () => {
  for (const table of [0x0000_0fd8 + 1, 0x0000_0000]) {
    const { pci } = rig(
      (dev) => {
        dev.resources.use(dev.bus.alloc("memory", 0x14));
        dev.resources.use(dev.bus.alloc("ioport", 0x10));
      },
      {},
      { ...CARD, config: { ...CARD.config, 116: table } },
    );
    assert.is(
      codeOf(() => pci.allocMsix(1)),
      "ENXIO",
    );
  }
});

test("PRB-049 INTx-disable is set while messages are allocated and goes back to what it was", () => {
  for (const before of [0, 0x0400]) {
    const { bus, pci, command } = rig((dev) => dev.resources.use(dev.bus.alloc("memory", 0x14)));
    bus.setConfig(BDF, 0x04, 2, (command() & ~0x0400) | before);
    for (const alloc of [() => pci.allocMsi(2), () => pci.allocMsix(2)]) {
      const irqs = alloc();
      assert.is(command() & 0x0400, 0x0400);
      irqs[0]![Symbol.dispose]();
      assert.is(command() & 0x0400, 0x0400, "one is left");
      irqs[1]![Symbol.dispose]();
      assert.is(command() & 0x0400, before);
    }
  }
});

test("messages reach their handlers, MSI-X vectors are masked until they have one", () => {
  const { bus, pci } = rig((dev) => {
    dev.resources.use(dev.bus.alloc("memory", 0x14));
    dev.bus.enableBusMaster(true);
  });
  for (const entry of [0, 16, 32])
    bus.regs(BDF, 1).set([0, 0x10, 0xe0, 0xfe, 0, 0, 0, 0, 0x31, 0, 0, 0, 0, 0, 0, 0], entry); // as a former driver left it: open
  const irqs = pci.allocMsix(2);
  assert.is(bus.config(BDF, 0x72, 2) & 0xc000, 0x8000);
  assert.equal(
    [0, 1, 2].map((n) => bus.fire(BDF, n)),
    [false, false, false],
  );
  const got: string[] = [];
  const zero = pci.setupIntr(irqs[0]!, { handler: () => got.push("zero") });
  const one = pci.setupIntr(irqs[1]!, { handler: () => got.push("one") });
  assert.equal(
    [0, 1, 2].map((n) => bus.fire(BDF, n)),
    [true, true, false],
  );
  bus.poll();
  assert.equal(got.splice(0), ["zero", "one"]);
  zero[Symbol.dispose]();
  assert.equal([bus.fire(BDF, 0), bus.fire(BDF, 1)], [false, true]);
  irqs[1]![Symbol.dispose]();
  one[Symbol.dispose]();
  bus.poll();
  assert.equal(got, [], "torn down before it was delivered");
  irqs[0]![Symbol.dispose]();
  assert.is(bus.config(BDF, 0x72, 2) & 0x8000, 0);
});

test("setupIntr refuses a stranger's interrupt, one that was released, and a handler that is none", () => {
  const { pci } = rig();
  const irq = pci.allocIntx();
  assert.is(
    codeOf(() => pci.setupIntr(irq, {})),
    "EINVAL",
  );
  assert.is(
    codeOf(() => pci.setupIntr({ ...irq, [Symbol.dispose]: () => {} }, { handler: () => {} })),
    "EINVAL",
  );
  irq[Symbol.dispose]();
  assert.is(
    codeOf(() => pci.setupIntr(irq, { handler: () => {} })),
    "EINVAL",
  );
});

// ------------------------------------------------------------------------------------------------ leaving

test("PRB-035 what a driver took outside its scope and kept is told as a leak and taken back", () => {
  const kept: { space?: BusSpace; irq?: Irq; cookie?: InterruptCookie; tag?: DmaTag; memory?: DmaMemory } = {};
  let runs = 0;
  const { bus, newbus, events, command } = rig((dev) => {
    dev.bus.enableBusMaster(true);
    kept.space = dev.bus.alloc("memory", 0x14);
    kept.irq = dev.bus.allocIntx();
    kept.cookie = dev.bus.setupIntr(kept.irq, { handler: () => runs++ });
    kept.tag = dev.bus.dmaTag();
    kept.memory = kept.tag.alloc(64);
    dev.resources.use(dev.bus.alloc("ioport", 0x10)); // this one is no leak
  });
  newbus.detach("re0");
  assert.equal(
    events.filter((e) => e.kind === "leak"),
    ["irq 0 with a handler", "DMA tag with 1 maps", "memory 0x14"].map((resource) => ({
      kind: "leak",
      nameunit: "re0",
      resource,
    })),
  );
  assert.is(bus.dmaLive.size + bus.listeners(11), 0);
  assert.is(command(), 0);
  bus.setLine(11, true);
  bus.poll();
  assert.is(runs, 0);
  assert.is(
    codeOf(() => kept.space?.read4(0)),
    "EINVAL",
  );
  assert.is(
    codeOf(() => kept.memory?.read8(0)),
    "EINVAL",
  );
  newbus.scan();
  assert.ok(newbus.tree(), "and all of it can be allocated again");
  assert.is(find(newbus.tree(), (d) => d.nameunit === "re0")?.state, "attached");
});

test("PRB-024 decode bits that firmware had set stay as they were found", () => {
  const { bus, newbus, command } = rig(
    (dev) => {
      dev.resources.use(dev.bus.alloc("memory", 0x14));
      dev.bus.enableBusMaster(true);
    },
    {},
    { ...CARD, config: { ...CARD.config, 4: 0x0010_0001 } },
  );
  assert.is(command(), 0x0007);
  newbus.detach("re0");
  assert.is(command(), 0x0001);
  assert.is(bus.config(BDF, 0x14, 4), 0xfebd1000);
});

test("PRB-037 shutdown leaves bus mastering off and interrupts disabled", () => {
  for (const way of ["intx", "msi", "msix"] as const) {
    let runs = 0;
    const { bus, newbus, command } = rig((dev) => {
      const { bus: pci, resources } = dev;
      pci.enableBusMaster(true);
      resources.use(pci.alloc("memory", 0x14));
      const [irq] = way === "intx" ? [pci.allocIntx()] : way === "msi" ? pci.allocMsi(1) : pci.allocMsix(1);
      resources.use(pci.setupIntr(resources.use(irq!), { handler: () => runs++ }));
    });
    newbus.shutdown();
    assert.is(command() & 0x0404, 0x0400);
    assert.is((bus.config(BDF, 0x52, 2) & 1) + (bus.config(BDF, 0x72, 2) & 0x8000), 0);
    bus.setLine(11, true);
    bus.poll();
    assert.is(runs, 0);
    assert.is(find(newbus.tree(), (d) => d.nameunit === "re0")?.state, "attached");
    newbus.detach("re0");
  }
});

test("PRB-067 after surprise removal reads are all ones, writes vanish, no handler runs, allocations are refused", () => {
  let runs = 0;
  const spaces: BusSpace[] = [];
  const story: string[] = [];
  const bus = new FakeBus([CARD]);
  const newbus = new Newbus(bus);
  let pci: PciAttach | null = null;
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    pnp: [{ vendor: 0x10ec }],
    probe: () => ({ priority: -20, desc: "" }),
    attach: (dev) => {
      pci = dev.bus;
      const tag = dev.resources.use(dev.bus.dmaTag());
      spaces.push(dev.resources.use(dev.bus.alloc("memory", 0x14)), dev.resources.use(dev.bus.alloc("ioport", 0x10)));
      dev.resources.use(dev.bus.setupIntr(dev.resources.use(dev.bus.allocIntx()), { handler: () => runs++ }));
      dev.resources.defer(() => {
        const gone = (fn: () => unknown) =>
          assert.throws(fn, (e: unknown) => e instanceof DeviceGoneError && e.code === "ENXIO");
        gone(() => dev.bus.alloc("memory", 0x18));
        gone(() => dev.bus.allocMsi(1));
        gone(() => dev.bus.dmaTag());
        gone(() => tag.alloc(16));
        gone(() => tag.load([{ paddr: 0x100000, len: 1 }]));
      });
    },
    detach: (dev, _softc, why) => {
      bus.log.length = 0;
      for (const space of spaces) {
        story.push([space.read1(0), space.read2(0), space.read4(0)].map((v) => v.toString(16)).join());
        space.write4(0, 1);
      }
      story.push(why, dev.bus.readConfig(0, 2).toString(16), dev.state);
      dev.bus.writeConfig(4, 2, 7);
      bus.setLine(11, true);
      bus.poll();
    },
  });
  newbus.scan();
  bus.unplug(BDF);
  bus.plug({ ...CARD, config: { ...CARD.config, 0: 0x43211af4 } }); // another card in the slot hears nothing of it
  newbus.rescan();
  assert.equal(story, ["ff,ffff,ffffffff", "ff,ffff,ffffffff", "surprise", "ffff", "detaching"]);
  assert.not.ok(
    bus.log.some((line) => /^([mi][rw]|cw 20 04 2 7$)/.test(line)),
    bus.log.join("\n"),
  );
  assert.is(runs, 0);
  assert.throws(
    () => (pci as unknown as PciAttach).allocIntx(),
    (e: unknown) => e instanceof DeviceGoneError,
  );
});

// ------------------------------------------------------------------------------------------------ power and bridges

test("power states: what the function lacks is EOPNOTSUPP, and D3hot keeps the configuration", () => {
  const { bus, pci, command } = rig((dev) => dev.bus.alloc("memory", 0x14));
  assert.is(pci.getPowerState(), 0);
  for (const state of [4, -1, 1.5])
    assert.is(
      codeOf(() => pci.setPowerState(state)),
      "EOPNOTSUPP",
    );
  const before = bus.now();
  pci.setPowerState(3);
  assert.is(pci.getPowerState(), 3);
  assert.ok(bus.now() - before >= 10_000_000, "10 ms");
  for (const [offset, value] of [
    [0x04, 0],
    [0x10, 1],
    [0x14, 0],
    [0x18, 0xc],
    [0x3c, 0x0100],
  ] as const)
    bus.setConfig(BDF, offset, offset === 0x04 ? 2 : 4, value); // a soft reset
  pci.setPowerState(0);
  assert.equal(
    [0x10, 0x14, 0x18].map((at) => bus.config(BDF, at, 4)),
    [0xc001, 0xfebd1000, 0xfe00000c],
  );
  assert.equal([command() & 3, bus.config(BDF, 0x3c, 1)], [2, 11]);
  const none = withCaps({});
  assert.is(none.getPowerState(), 0);
  none.setPowerState(0);
  assert.is(
    codeOf(() => none.setPowerState(3)),
    "EOPNOTSUPP",
  );
  const simple = withCaps({ 52: 0x40, 64: 0x0003_0001 });
  assert.equal(
    [1, 2].map((state) => codeOf(() => simple.setPowerState(state))),
    ["EOPNOTSUPP", "EOPNOTSUPP"],
  );
});

test("PRB-036 suspend and resume give a card back its BARs, command and messages", () => {
  for (const way of ["msi", "msix"] as const) {
    let runs = 0;
    const { bus, newbus } = rig((dev) => {
      const { bus: pci } = dev;
      pci.enableBusMaster(true);
      pci.alloc("memory", 0x14);
      const [irq] = way === "msi" ? pci.allocMsi(1) : pci.allocMsix(1);
      pci.setupIntr(irq!, { handler: () => runs++ });
    });
    const image = () => Array.from({ length: 64 }, (_, i) => bus.config(BDF, 4 * i, 4));
    const before = image();
    newbus.suspend();
    assert.is(bus.config(BDF, 0x44, 2) & 3, 3);
    for (const [offset, width, value] of [
      [0x04, 2, 0],
      [0x14, 4, 0],
      [0x52, 2, 0x84],
      [0x54, 4, 0],
      [0x5c, 2, 0],
      [0x72, 2, 2],
    ] as const)
      bus.setConfig(BDF, offset, width, value);
    bus.regs(BDF, 1).fill(0);
    newbus.resume();
    assert.equal(image(), before, way);
    assert.is(bus.fire(BDF, 0), true);
    bus.poll();
    assert.is(runs, 1);
  }
});

test("any configuration space is scanned, allocated and suspended without a throw or a hang", () => {
  const bytes = fc.array(fc.tuple(fc.nat(63), fc.oneof(fc.constant(0xffffffff), fc.nat(0xffffffff))), {
    maxLength: 24,
  });
  const driver: Driver<PciProbe, PciAttach> = {
    name: "fuzz",
    bus: PCI,
    probe: (view) => {
      for (let id = 0; id < 0x14; id++)
        for (let at = view.findCap(id), n = 0; at !== null; at = view.findCap(id, at)) assert.ok(n++ < 48);
      return { priority: -20, desc: "" };
    },
    attach: ({ bus: pci, resources }) => {
      const tries: (() => unknown)[] = [
        ...[0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30].flatMap((rid) =>
          (["memory", "ioport"] as const).map((type) => () => resources.use(pci.alloc(type, rid)).read4(0)),
        ),
        () => pci.allocMsix(8).map((irq) => resources.use(pci.setupIntr(irq, { handler: () => {} }))),
        () => pci.allocMsi(8),
        () => pci.allocIntx(),
        () => pci.setPowerState(3),
      ];
      for (const attempt of tries)
        try {
          attempt();
        } catch (error) {
          if (!(error instanceof BusError)) throw error;
        }
    },
  };
  fc.assert(
    fc.property(bytes, bytes, (first, mask) => {
      const config = { 0: 0x816810ec, ...Object.fromEntries(first.map(([at, value]) => [at * 4, value])) };
      const bus = new FakeBus([
        { bdf: BDF, config, writable: Object.fromEntries(mask.map(([at, value]) => [at * 4, value])) },
      ]);
      const failures: unknown[] = [];
      const newbus = new Newbus(bus);
      newbus.on((e) => e.kind === "attach-failed" && failures.push(e.error));
      newbus.register(driver);
      newbus.scan();
      newbus.suspend();
      newbus.resume();
      newbus.rescan();
      newbus.shutdown();
      assert.equal(failures, []);
    }),
  );
});

test.run();
