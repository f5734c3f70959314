import { test } from "uvu";
import * as assert from "uvu/assert";
import { type BusSpace, Newbus, PCI, type PciAttach, type PciProbe } from "./index.js";
import { FakeBus } from "./testing/fake-bus.js";
import { BDF, CARD } from "./testing/fake-card.js";
import { codeOf, rig } from "./testing/pci-rig.js";

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

test.run();
