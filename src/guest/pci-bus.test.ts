import { test } from "uvu";
import * as assert from "uvu/assert";
import { Newbus, PCI, type PciAttach, type PciProbe } from "./index.js";
import { FakeBus } from "./testing/fake-bus.js";
import { BDF, CARD } from "./testing/fake-card.js";
import { find, rig, withCaps } from "./testing/pci-rig.js";

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

// ------------------------------------------------------------------------------------------------ capabilities

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

test.run();
