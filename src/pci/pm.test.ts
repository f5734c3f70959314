import { test } from "uvu";
import * as assert from "uvu/assert";
import { Msix } from "./msix.js";
import { PowerManagement, type PowerManagementOptions } from "./pm.js";
import { RecordingHost, TestFunction } from "./testing.js";

const PMCSR = 0x44; // the capability is at 40h

const rig = (options?: PowerManagementOptions) => {
  const pm = new PowerManagement(options);
  const card = new TestFunction({ capabilities: [pm, new Msix({ vectors: 1, bar: 2 })] });
  const host = new RecordingHost();
  card.connect(host);
  card.configWrite(0x10, 4, 0xc000);
  card.configWrite(0x14, 4, 0xfeb00000);
  card.configWrite(0x04, 2, 0x0007);
  host.take();
  return { pm, card, host, seams: card.model.seams! };
};

test("PCI-108 a write of an unsupported state is ignored, whatever else is in the byte", () => {
  const { card } = rig({ pmc: 0xfe03 });
  for (const state of [1, 2]) {
    card.configWrite(PMCSR, 2, state);
    assert.is(card.configRead(PMCSR, 2), 0x0008);
    assert.is(card.barBase(0), 0xc000);
  }
  card.configWrite(PMCSR, 2, 0x0103);
  assert.is(card.configRead(PMCSR, 2), 0x010b);
  card.configWrite(PMCSR, 2, 0x0001);
  assert.is(card.configRead(PMCSR, 2), 0x000b, "still D3hot");
});

test("PCI-109 in D3hot only configuration cycles answer: no decoding, no DMA, no interrupts", () => {
  const { card, host, seams } = rig();
  seams.interrupts.setIntx(true);
  card.configWrite(PMCSR, 1, 3);
  assert.equal([card.barBase(0), card.barBase(1)], [-1, -1]);
  assert.is(seams.dma.open, false);
  assert.equal(host.take(), ["up", "down"]);
  card.configWrite(0x4a, 2, 0x8000); // MSI-X of the capability at 48h
  seams.interrupts.signal(0);
  assert.equal(host.take(), []);
  assert.is(card.configRead(0, 4), 0x816910ec);
  card.configWrite(0x3c, 1, 5);
  assert.is(card.configRead(0x3c, 1), 5);
  card.configWrite(0x4a, 2, 0);
  card.configWrite(PMCSR, 1, 0);
  assert.equal([card.barBase(0), card.barBase(1)], [0xc000, 0xfeb00000]);
  assert.is(seams.dma.open, true);
  assert.equal(host.take(), ["up"]);
});

test("no-soft-reset as declared: registers survive D3hot to D0, or do not", () => {
  const kept = rig();
  kept.card.configWrite(PMCSR, 1, 3);
  kept.card.configWrite(PMCSR, 1, 0);
  assert.is(kept.card.configRead(0x10, 4), 0xc001);
  assert.equal(kept.card.model.resets, []);
  const lost = rig({ noSoftReset: false });
  assert.is(lost.card.configRead(PMCSR, 2), 0);
  lost.card.configWrite(PMCSR, 1, 3);
  assert.equal(lost.card.model.resets, []);
  lost.card.configWrite(PMCSR, 1, 0);
  assert.equal(lost.card.model.resets, ["function"]);
  assert.is(lost.card.configRead(0x10, 4), 1);
  assert.is(lost.card.configRead(0x04, 2), 0);
});

test("PCI-110 PME status is write-1-to-clear, where PME is supported at all", () => {
  const { pm, card } = rig({ pmc: 0xc803 });
  pm.raisePme();
  assert.is(card.configRead(PMCSR, 2), 0x8008);
  card.configWrite(PMCSR, 2, 0x0100);
  assert.is(card.configRead(PMCSR, 2), 0x8108);
  card.configWrite(PMCSR, 2, 0x8000);
  assert.is(card.configRead(PMCSR, 2), 0x0008);
  const without = rig();
  without.pm.raisePme();
  without.card.configWrite(PMCSR, 2, 0x0100);
  assert.is(without.card.configRead(PMCSR, 2), 0x0008);
});

test("PME# is asserted by the event that finds it enabled and its status clear, once", () => {
  const { card, pm } = rig({ pmc: 0x4003 });
  assert.is(pm.raisePme(), false, "not enabled");
  card.configWrite(PMCSR, 2, 0x8100);
  assert.is(pm.raisePme(), true);
  assert.is(card.configRead(PMCSR, 2), 0x8108);
  assert.is(pm.raisePme(), false, "still asserted");
  card.configWrite(PMCSR, 2, 0x8100);
  assert.is(pm.raisePme(), true);
  assert.is(rig({ pmc: 0x0003 }).pm.raisePme(), false, "no PME at all");
});

test("PMC is what the data sheet prints, read-only", () => {
  const { card } = rig({ pmc: 0xf7c2, at: 0xdc });
  card.configWrite(0xdc, 4, 0xffffffff);
  assert.is(card.configRead(0xdc, 4), 0xf7c24001);
});

test("a reset ends D3hot", () => {
  const { card, seams } = rig();
  card.configWrite(PMCSR, 1, 3);
  card.reset("bus");
  card.configWrite(0x10, 4, 0xc000);
  card.configWrite(0x04, 2, 5);
  assert.is(card.barBase(0), 0xc000);
  assert.is(seams.dma.open, true);
});

test("PCI-161 D3hot survives a snapshot", () => {
  const one = rig();
  one.card.configWrite(PMCSR, 1, 3);
  const two = rig();
  two.card.load(structuredClone(one.card.save()));
  assert.is(two.card.barBase(0), -1);
  assert.is(two.seams.dma.open, false);
  two.card.configWrite(PMCSR, 1, 0);
  assert.is(two.card.barBase(0), 0xc000);
});

test.run();
