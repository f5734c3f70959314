import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceInfo, Newbus, PCI, type PciAttach, type PciProbe } from "./index.js";
import { FakeBus, type FakeFunction } from "./testing/fake-bus.js";
import { CARD } from "./testing/fake-card.js";
import { find } from "./testing/pci-rig.js";

const BRIDGE: FakeFunction = {
  bdf: 0x28,
  config: {
    0: 0x00011b36,
    8: 0x06040000,
    12: 0x0001_0000,
    24: 0x0001_0100,
    28: 0xd0d0,
    32: 0xfe10_fe00,
    36: 0x0001_fff1,
  },
};

test("a bridge is a pcib with a pci bus of its own, and its windows place what is unassigned", () => {
  const behind = { ...CARD, bdf: 0x108, config: { ...CARD.config, 16: 1, 20: 0, 24: 0xc } };
  const bus = new FakeBus([BRIDGE, behind]);
  const log: string[] = [];
  const newbus = new Newbus(bus, { log: (line) => log.push(line) });
  const starts: number[] = [];
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    pnp: [{ vendor: 0x10ec }],
    probe: () => ({ priority: -20, desc: "RealTek" }),
    attach: ({ bus: pci }) => void starts.push(pci.alloc("ioport", 0x10).start, pci.alloc("memory", 0x18).start),
  });
  newbus.scan();
  assert.equal(log.slice(0, 5), [
    "pcib0: <Host to PCI bridge> on motherboard",
    "pci0: <PCI bus> on pcib0",
    "pcib1: <PCI-PCI bridge> at device 5.0 on pci0",
    "pci1: <PCI bus> on pcib1",
    "re0: <RealTek> irq 11 at device 1.0 on pci1",
  ]);
  assert.equal(starts, [0xd000, 0xfe000000]);
  assert.is(bus.config(0x28, 0x04, 2) & 4, 4, "cycles of functions below go up");
  bus.unplug(0x28);
  bus.unplug(0x108);
  newbus.rescan();
  assert.is(
    find(newbus.tree(), (d) => d.nameunit === "re0" || d.nameunit === "pcib1"),
    undefined,
    "all of it is gone",
  );
});

test("a bridge without a number, or with one that is taken, leads nowhere", () => {
  for (const numbers of [0x0000_0000, 0x0001_0100]) {
    const bus = new FakeBus([
      BRIDGE,
      { ...BRIDGE, bdf: 0x30, config: { ...BRIDGE.config, 24: numbers } },
      { ...CARD, bdf: 0x100 },
    ]);
    const newbus = new Newbus(bus);
    newbus.scan();
    const found: string[] = [];
    const walk = (d: DeviceInfo): void => {
      if (d.location !== "") found.push(d.location.split("dbsf=")[1] ?? "");
      for (const child of d.children) walk(child);
    };
    walk(newbus.tree());
    assert.equal(found, ["pci0:0:5:0", "pci0:1:0:0", "pci0:0:6:0"]);
  }
});

/** A driver of everything with these BARs. @returns where they are, in the order of attachment */
const placing = (newbus: Newbus, ...wanted: readonly (readonly ["memory" | "ioport", number])[]): string[] => {
  const placed: string[] = [];
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    pnp: [{ vendor: 0x10ec }],
    probe: () => ({ priority: -20, desc: "RealTek" }),
    attach: ({ bus: pci, resources }) => {
      for (const [type, rid] of wanted)
        placed.push(`${pci.bdf.toString(16)}: ${resources.use(pci.alloc(type, rid)).start.toString(16)}`);
    },
  });
  newbus.scan();
  return placed;
};

test("nobody in front of a bridge is given what the bridge passes on", () => {
  const loose = { ...CARD, config: { ...CARD.config, 16: 1, 20: 0 } };
  const bus = new FakeBus([
    BRIDGE,
    { ...loose, bdf: 0x30, config: { ...loose.config, 24: 0xe000000c } },
    { ...loose, bdf: 0x108 },
  ]);
  const windows = { memory: [0xfe000000, 0xfeafffff], ports: [0xd000, 0xefff] } as const;
  const log: string[] = [];
  const placed = placing(
    new Newbus(bus, { windows, log: (line) => log.push(line) }),
    ["ioport", 0x10],
    ["memory", 0x14],
  );
  assert.equal(placed, ["108: d000", "108: fe004000", "30: e000", "30: fe200000"]);
});

test("prefetchable BARs go into their own window, above 4 GiB too, and into the other one when it is full", () => {
  const config = { ...BRIDGE.config, 36: 0x0011_0001, 40: 0x12, 44: 0x12 };
  const many = [0x108, 0x110, 0x118].map((bdf) => ({
    ...CARD,
    bdf,
    config: { ...CARD.config, 16: 1, 20: 0, 24: 0xc },
    bars: { ...CARD.bars, 2: { kind: "mem64", size: 0x10_0000 } } as const,
  }));
  const bus = new FakeBus([{ ...BRIDGE, config }, ...many]);
  assert.equal(placing(new Newbus(bus), ["memory", 0x18], ["memory", 0x14]), [
    "108: 1200000000",
    "108: fe000000",
    "110: 1200100000",
    "110: fe001000",
    "118: fe100000",
    "118: fe002000",
  ]);
  assert.equal([bus.config(0x108, 0x18, 4), bus.config(0x108, 0x1c, 4)], [0xc, 0x12]);
});

const UNNUMBERED: FakeFunction = {
  ...BRIDGE,
  config: { ...BRIDGE.config, 24: 0, 28: 0, 32: 0, 36: 0x0001_0001 },
  writable: { 24: 0xffff_ffff, 28: 0xf0f0, 32: 0xfff0_fff0, 36: 0xfff0_fff0 },
};

test("a bridge that nobody has numbered is given the next free number, and windows with room", () => {
  const windows = { memory: [0xe000_0000, 0xe0ff_ffff], ports: [0xd000, 0xefff] } as const;
  const loose = { ...CARD, config: { ...CARD.config, 16: 1, 20: 0, 24: 0xc } };
  const bus = new FakeBus([
    { ...BRIDGE, bdf: 0x10, config: { ...BRIDGE.config, 24: 0x0003_0100, 28: 0xc0c0, 32: 0xd000_d000 } },
    UNNUMBERED,
    { ...UNNUMBERED, bdf: 0x30 },
    { ...loose, bdf: 0x420 },
    { ...loose, bdf: 0x520 },
  ]);
  const placed = placing(new Newbus(bus, { windows }), ["ioport", 0x10], ["memory", 0x14]);
  assert.equal(placed, ["420: d000", "420: e0000000", "520: e000", "520: e0200000"]);
  assert.equal([bus.config(0x28, 0x18, 4), bus.config(0x30, 0x18, 4)], [0x0004_0400, 0x0005_0500]);
  assert.equal([bus.config(0x28, 0x1c, 2), bus.config(0x30, 0x1c, 2)], [0xd0d0, 0xe0e0]);
  assert.equal([bus.config(0x28, 0x20, 4), bus.config(0x30, 0x20, 4)], [0xe010_e000, 0xe030_e020]);
  assert.equal([bus.config(0x28, 0x24, 4), bus.config(0x28, 0x04, 2) & 7], [0x0001_fff1, 7]);
});

test("one behind another takes its number from what the first one leads to; without room it leads nowhere", () => {
  const inner = { ...UNNUMBERED, bdf: 0x120 };
  const bus = new FakeBus([UNNUMBERED, inner, { ...CARD, bdf: 0x208 }]);
  const newbus = new Newbus(bus);
  newbus.scan();
  assert.equal([bus.config(0x28, 0x18, 4), bus.config(0x120, 0x18, 4)], [0x0002_0100, 0x0002_0201]);
  assert.ok(find(newbus.tree(), (d) => d.location.endsWith("pci0:2:1:0")));

  const full = new FakeBus([{ ...BRIDGE, config: { ...BRIDGE.config, 24: 0x0001_0100 } }, inner]);
  const log: string[] = [];
  new Newbus(full, { log: (line) => log.push(line) }).scan();
  assert.ok(log.includes("pcib2: no bus number for what is behind it"), log.join("\n"));
  assert.is(full.config(0x120, 0x18, 4), 0);
});

test("a window that was never set is none, and a closed one neither", () => {
  for (const [ports, memory] of [
    [0, 0],
    [0x00f0, 0x0000_fff0],
  ] as const) {
    const config = { ...BRIDGE.config, 28: ports, 32: memory, 36: 0x0001_0001 };
    const bus = new FakeBus([
      { ...BRIDGE, config },
      { ...CARD, bdf: 0x108, config: { ...CARD.config, 16: 1, 20: 0, 24: 0xc } },
    ]);
    const newbus = new Newbus(bus);
    const codes: unknown[] = [];
    newbus.on((event) => event.kind === "attach-failed" && codes.push((event.error as { code: string }).code));
    placing(newbus, ["memory", 0x14]);
    assert.equal(codes, ["ENOSPC"]);
  }
});

test.run();
