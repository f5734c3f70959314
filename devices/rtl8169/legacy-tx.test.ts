/** The four transmit slots. Numbers from the RTL8139C(L) data sheet, as 8139too.c, if_rlreg.h and QEMU's recordings have them. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { rig8139, sendSlot, startOld } from "./testing/8139.js";
import { BROADCAST, fcsOf, frameTo, LINK_TIME, MS, type Rig } from "./testing.js";

const BUFFER = 0x1_0000;
const FRAME = 0x2_0000;

const started = (chip: "RTL8139C+" | "RTL8139C" = "RTL8139C", strictness: "strict" | "lenient" = "strict"): Rig =>
  startOld(rig8139({ chip }, { strictness }), BUFFER);

for (const chip of ["RTL8139C", "RTL8139C+"] as const)
  test(`RTL-146 a write to TSD sends what TSAD points to and sets OWN and TOK: ${chip}`, () => {
    const rig = started(chip);
    const frame = frameTo(BROADCAST, 60);
    rig.put(FRAME, frame);
    rig.w16(0x3c, 0x0004);
    sendSlot(rig, 0, FRAME, 60);
    assert.equal(rig.far.frames, [frame]);
    assert.is(rig.r32(0x10), 0x0000_a03c);
    assert.is(rig.r16(0x60), 0x100f);
    assert.is(rig.r16(0x3e), 0x0004);
    assert.is(rig.irq, true);
    rig.w16(0x3e, 0x0004);
    assert.is(rig.irq, false);
  });

test("RTL-146 after a reset all slots are the driver's, and the next one is the first", () => {
  const rig = rig8139({ chip: "RTL8139C" });
  for (const at of [0x10, 0x14, 0x18, 0x1c]) assert.is(rig.r32(at), 0x0000_2000);
  assert.is(rig.r16(0x60), 0x000f);
  startOld(rig, BUFFER);
  sendSlot(rig, 0, FRAME, 60);
  sendSlot(rig, 1, FRAME, 60);
  rig.w8(0x37, 0x10);
  for (const at of [0x10, 0x14, 0x18, 0x1c]) assert.is(rig.r32(at), 0x0000_2000);
  assert.is(rig.r32(0x20), 0);
  startOld(rig, BUFFER);
  sendSlot(rig, 0, FRAME, 61);
  assert.is(rig.far.frames.length, 3);
});

test("slots are sent in turn: one that is written early waits for those before it", () => {
  const rig = started();
  for (const slot of [0, 1, 2, 3]) rig.put(FRAME + 0x1000 * slot, frameTo(BROADCAST, 60 + slot, slot));
  sendSlot(rig, 1, FRAME + 0x1000, 61);
  sendSlot(rig, 2, FRAME + 0x2000, 62);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.r32(0x14), 61); // OWN is 0: the chip's
  assert.is(rig.r16(0x60), 0x0009);
  assert.is(rig.reports[0]?.code, "tx-slot-order");
  sendSlot(rig, 0, FRAME, 60);
  assert.equal(
    rig.far.frames.map(({ length }) => length),
    [60, 61, 62],
  );
  assert.is(rig.r16(0x60), 0x700f);
  for (const slot of [3, 0, 1]) sendSlot(rig, slot, FRAME + 0x1000 * slot, 60 + slot);
  assert.equal(
    rig.far.frames.slice(3).map(({ length }) => length),
    [63, 60, 61],
  );
  assert.is(rig.r16(0x60), 0xf00f);
});

test("a slot is handed over by the byte with OWN, in accesses of any width, and forgets how it fared", () => {
  const rig = started();
  rig.put(FRAME, frameTo(BROADCAST, 0x155));
  rig.w16(0x20, FRAME & 0xffff);
  rig.w16(0x22, FRAME >>> 16);
  rig.w8(0x10, 0x55); // SIZE 7:0 only
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.r32(0x10), 0x2055);
  rig.w8(0x11, 0x01); // SIZE 12:8 and OWN 0
  assert.is(rig.far.frames[0]?.length, 0x155);
  assert.is(rig.r32(0x10), 0xa155);
  rig.w16(0x12, 0x003f); // ERTXTH: hands nothing over
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.r32(0x10), 0x003f_a155);
  rig.w32(0x10, 0x2040); // OWN stays with the driver; TOK is forgotten
  assert.is(rig.r32(0x10), 0x0000_2040);
  assert.is(rig.far.frames.length, 1);
  rig.w16(0x14, 0x003c);
  assert.is(rig.far.frames.length, 2);
});

test("nothing is sent while TE is 0; a slot that waits goes when it comes", () => {
  const rig = started();
  rig.w8(0x37, 0x08);
  sendSlot(rig, 0, FRAME, 60);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.r32(0x10), 0x3c);
  assert.is(rig.r16(0x60), 0x000e);
  assert.is(rig.r16(0x3e), 0);
  rig.w8(0x37, 0x0c);
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.r32(0x10), 0xa03c);
});

test("the old mode does not pad: hardware's runt is lost on the wire, a lenient card's arrives as short as it is", () => {
  const strict = started("RTL8139C", "strict");
  sendSlot(strict, 0, FRAME, 59);
  assert.is(strict.far.frames.length, 0);
  assert.is(strict.r32(0x10), 0xa03b); // the chip never learns
  assert.is(strict.r16(0x3e), 0x0004);
  assert.is(strict.reports[0]?.code, "tx-runt");
  assert.is(strict.reports[0]?.value, 59);
  assert.is(strict.card.counters().txDropped, 1);
  sendSlot(strict, 1, FRAME, 60);
  assert.is(strict.far.frames.length, 1);

  const lenient = started("RTL8139C", "lenient");
  sendSlot(lenient, 0, FRAME, 14);
  assert.is(lenient.far.frames[0]?.length, 14);
  assert.is(lenient.reports[0]?.code, "tx-runt");
  sendSlot(lenient, 1, FRAME, 13); // no Ethernet header: nothing to hand on
  assert.is(lenient.far.frames.length, 1);
  assert.is(lenient.r32(0x14), 0xa00d);
});

test("a buffer that is no RAM aborts the slot until CLRABT sends it again", () => {
  const rig = started();
  rig.put(FRAME, frameTo(BROADCAST, 60));
  rig.w16(0x3c, 0x8008);
  sendSlot(rig, 0, 0x4000_0000, 60);
  assert.is(rig.r32(0x10), 0x4000_203c); // TABT, OWN
  assert.is(rig.r16(0x60), 0x001f);
  assert.is(rig.r16(0x3e), 0x8008); // SERR, TER
  assert.is(rig.irq, true);
  assert.is(rig.reports.at(-1)?.code, "tx-buffer-address");
  sendSlot(rig, 1, FRAME, 60); // waits behind the aborted one
  assert.is(rig.far.frames.length, 0);
  rig.w16(0x3e, 0xffff);
  rig.w32(0x20, FRAME);
  rig.w32(0x40, 0x0300_0700);
  rig.w8(0x41, 0x07);
  rig.w32(0x44, 0x0000_0001 | 0x0a);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.r16(0x60), 0x001d);
  rig.w32(0x40, 0x0300_0701); // CLRABT
  assert.is(rig.far.frames.length, 2);
  assert.is(rig.r32(0x10), 0x0000_a03c);
  assert.is(rig.r32(0x40) & 1, 0);
  assert.is(rig.r16(0x60), 0x300f);
  assert.is(rig.r16(0x3e), 0x0004);
  rig.w32(0x40, 0x0300_0701); // nothing is aborted: nothing happens
  assert.is(rig.far.frames.length, 2);
});

test("RTL-007 with bus mastering off a slot keeps waiting, and nothing is read", () => {
  const rig = started();
  rig.put(FRAME, frameTo(BROADCAST, 60));
  rig.card.configWrite(0x04, 2, 0x0003);
  sendSlot(rig, 0, FRAME, 60);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.r32(0x10), 0x3c);
  assert.is(rig.reports[0]?.code, "bus-master-off");
  rig.card.configWrite(0x04, 2, 0x0007);
  sendSlot(rig, 0, FRAME, 60);
  assert.is(rig.far.frames.length, 1);
});

test("a far end that answers later is asked again: when it is ready, or after a while", () => {
  const rig = started();
  rig.put(FRAME, frameTo(BROADCAST, 60));
  rig.far.verdict = "later";
  sendSlot(rig, 0, FRAME, 60);
  assert.is(rig.r32(0x10), 0x3c);
  assert.is(rig.r16(0x3e), 0);
  rig.far.verdict = "taken";
  rig.card.net.ready(0);
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.r32(0x10), 0xa03c);
  rig.far.verdict = "later";
  sendSlot(rig, 1, FRAME, 60);
  rig.far.verdict = "taken";
  rig.clock.advance(MS);
  assert.is(rig.far.frames.length, 2);
  rig.card.net.ready(0);
  assert.is(rig.far.frames.length, 2);
});

test("RTL-116 with NoCRC the driver brings the FCS: a right one goes, a wrong one is lost on the wire", () => {
  const rig = started();
  const frame = frameTo(BROADCAST, 60);
  rig.put(FRAME, frame);
  rig.set32(FRAME + 60, fcsOf(frame));
  rig.w32(0x40, 0x0301_0700);
  sendSlot(rig, 0, FRAME, 64);
  assert.equal(rig.far.frames, [frame]);
  rig.set32(FRAME + 60, fcsOf(frame) ^ 1);
  sendSlot(rig, 1, FRAME, 64);
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.r32(0x14), 0xa040);
  assert.is(rig.reports.at(-2)?.code, "tx-bad-fcs");
});

test("without a link the frame is lost, and the slot tells of the carrier", () => {
  const rig = started();
  rig.card.setLink(false);
  rig.w16(0x3e, 0xffff);
  sendSlot(rig, 0, FRAME, 60);
  assert.is(rig.r32(0x10), 0x8000_a03c); // CRS, TOK, OWN
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.card.counters().txDropped, 1);
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  sendSlot(rig, 1, FRAME, 60);
  assert.is(rig.r32(0x14), 0xa03c);
});

test("a frame across two windows of RAM is gathered", () => {
  const windows = [
    { base: 0, size: 0x2_0020 },
    { base: 0x2_0020, size: 0x1_0000 },
  ];
  const rig = startOld(rig8139({ chip: "RTL8139C" }, { windows }), BUFFER);
  const frame = frameTo(BROADCAST, 1514);
  rig.put(FRAME, frame);
  sendSlot(rig, 0, FRAME, 1514);
  assert.equal(rig.far.frames, [frame]);
  assert.is(rig.card.counters().bytesCopied, 1514);
});

test("SIZE has 13 bits, and what it names is sent", () => {
  const rig = started();
  const frame = frameTo(BROADCAST, 0x1fff);
  rig.put(FRAME, frame);
  sendSlot(rig, 0, FRAME, 0x1fff);
  assert.equal(rig.far.frames, [frame]);
  assert.is(rig.r32(0x10), 0xbfff);
});

test("a buffer begins at a dword: a strict card leaves the low address bits out, a lenient one does as it is told", () => {
  for (const [strictness, sent] of [
    ["strict", 0],
    ["lenient", 2],
  ] as const) {
    const rig = started("RTL8139C", strictness);
    const bytes = Uint8Array.from({ length: 64 }, (_, i) => i);
    rig.put(FRAME, bytes);
    sendSlot(rig, 0, FRAME + 2, 60);
    assert.equal(rig.far.frames, [bytes.subarray(sent, sent + 60)]);
    assert.is(rig.reports[0]?.code, "tx-misaligned");
    assert.is(rig.reports[0]?.value, FRAME + 2);
  }
});

test("with a host that defers work the slot is the chip's until then", () => {
  const rig = started();
  rig.work.policy = "deferred";
  sendSlot(rig, 0, FRAME, 60);
  sendSlot(rig, 1, FRAME, 60);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.r16(0x60), 0x000c);
  rig.work.run(1, 1);
  assert.is(rig.far.frames.length, 1);
  rig.work.run();
  assert.is(rig.far.frames.length, 2);
  assert.equal(rig.card.counters().doorbells, 2);
});

test("a driver without a slot left is not kept waiting, whatever the host", () => {
  const rig = started();
  rig.work.policy = "deferred";
  rig.w16(0x3c, 0x0004);
  for (const slot of [0, 1, 2]) sendSlot(rig, slot, FRAME, 60);
  assert.is(rig.far.frames.length, 0);
  sendSlot(rig, 3, FRAME, 60);
  assert.is(rig.far.frames.length, 4);
  assert.is(rig.r16(0x60), 0xf00f);
  assert.is(rig.irq, true);
  rig.work.run();
  assert.is(rig.far.frames.length, 4);
});

test("with a host that defers work CLRABT gives the slot back to the chip at once", () => {
  const rig = started();
  sendSlot(rig, 0, 0x4000_0000, 60);
  rig.put(FRAME, frameTo(BROADCAST, 60));
  rig.w32(0x20, FRAME);
  rig.work.policy = "deferred";
  rig.w32(0x40, 0x0300_0701); // CLRABT
  assert.is(rig.r32(0x10), 0x0000_003c); // no TABT, no OWN
  assert.is(rig.r16(0x60), 0x000e);
  rig.work.run();
  assert.is(rig.r32(0x10), 0x0000_a03c);
  assert.is(rig.far.frames.length, 1);
});

test("a crafted state of the slots is refused and changes nothing", () => {
  const rig = started();
  sendSlot(rig, 0, FRAME, 60);
  const good = rig.card.save();
  const model = good.model as unknown as { readonly slots: { readonly tsd: readonly number[] } };
  const { slots } = model;
  for (const change of [
    { current: 4 },
    { current: -1 },
    { tsd: slots.tsd.slice(1) },
    { tsd: [...slots.tsd.slice(1), 2 ** 32] },
    { aborted: 0 },
    { stalled: null },
  ]) {
    const bad = { ...good, model: { ...model, slots: { ...slots, ...change } } };
    assert.throws(() => rig.card.load(bad as never), /slots/, JSON.stringify(change));
    assert.equal(rig.card.save(), good);
  }
  rig.card.load({ ...good, model: { ...model, slots: { ...slots, current: 3 } } } as never);
});

test.run();
