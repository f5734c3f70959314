import { test } from "uvu";
import * as assert from "uvu/assert";
import { rtl8169 } from "./index.js";
import { BROADCAST, frameTo, LINK_TIME, MAC, MS, Rig, US } from "./testing.js";

const RING = 0x10_0000;

test("RTL-001 RTL-002 RTL-003 the function is 10EC:8169, revision 10h, an Ethernet controller", () => {
  const { card } = new Rig();
  assert.is(card.configRead(0x00, 2), 0x10ec);
  assert.is(card.configRead(0x02, 2), 0x8169);
  assert.is(card.configRead(0x08, 1), 0x10);
  assert.is(card.configRead(0x08, 4) >>> 8, 0x02_00_00);
  assert.is(card.configRead(0x2c, 4), 0x8169_10ec);
});

test("RTL-004 BAR0 is 256 ports, BAR1 256 bytes of 32-bit memory, the others are absent", () => {
  const { card } = new Rig();
  for (const at of [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24]) card.configWrite(at, 4, 0xffff_ffff);
  assert.is(card.configRead(0x10, 4), 0xffff_ff01);
  assert.is(card.configRead(0x14, 4), 0xffff_ff00);
  for (const at of [0x18, 0x1c, 0x20, 0x24, 0x30]) assert.is(card.configRead(at, 4), 0);
});

test("RTL-005 RTL-006 both windows show and take the same registers, byte by byte", () => {
  const { card } = new Rig();
  card.barWrite(1, 0x08, 4, 0x1234_5678);
  assert.is(card.barRead(0, 0x08, 4), 0x1234_5678);
  card.barWrite(0, 0x0b, 1, 0xab);
  assert.is(card.barRead(1, 0x08, 4), 0xab34_5678);
  for (let at = 0; at < 0x100; at++) assert.is(card.barRead(0, at, 1), card.barRead(1, at, 1), `offset ${at}`);
});

test("any aligned access is made of the same bytes", () => {
  const rig = new Rig();
  for (const [at, value] of [
    [0x08, 0x8899_aabb],
    [0x20, 0x0012_3400],
    [0x40, 0x0300_0700],
    [0xe4, 0x1357_9b00],
    [0xf8, 0xfedc_ba98],
  ] as const) {
    rig.w32(at, value);
    const whole = rig.r32(at);
    for (let i = 0; i < 4; i++) assert.is(rig.r8(at + i), (whole >>> (8 * i)) & 0xff);
    assert.is(rig.r16(at) + rig.r16(at + 2) * 0x1_0000, whole);
    rig.w16(at, 0);
    rig.w8(at + 2, 0);
    rig.w8(at + 3, 0);
    rig.w8(at + 3, value >>> 24);
    rig.w8(at + 2, (value >>> 16) & 0xff);
    rig.w16(at, value & 0xffff);
    assert.is(rig.r32(at), whole, `offset ${at}`);
  }
});

test("RTL-007 without Bus Master no memory is read or written", () => {
  const rig = new Rig();
  rig.startTx(RING);
  rig.startRx(RING + 0x1000);
  rig.put(RING + 0x2000, frameTo(BROADCAST));
  rig.descriptor(RING, 0xf000_003c, RING + 0x2000);
  rig.descriptor(RING + 0x1000, 0xc000_0800, RING + 0x3000);
  rig.w32(0x14, 0);
  const before = rig.get(RING, 0x4000);
  rig.card.configWrite(0x04, 2, 0x0003);
  rig.w8(0x38, 0x40);
  assert.is(rig.deliver(frameTo(BROADCAST)), "dropped");
  rig.w32(0x10, RING | 8);
  assert.is(rig.r32(0x10), RING, "the dump still comes to an end");
  assert.equal(rig.get(RING, 0x4000), before);
  assert.is(rig.far.frames.length, 0);
  assert.equal(rig.written, []);
  assert.is(rig.card.configRead(0x06, 2) & 0x2000, 0, "nobody aborted a cycle that never began");
  assert.equal(
    rig.reports.map(({ code }) => code),
    ["bus-master-off"],
  );
  rig.card.configWrite(0x04, 2, 0x0007);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1, "and afterwards the ring is where it was");
});

test("RTL-008 the pin is INTA# and its level follows ISR and IMR", () => {
  const rig = new Rig();
  assert.is(rig.card.configRead(0x3d, 1), 0x01);
  rig.w8(0x38, 0x01);
  assert.is(rig.irq, false);
  rig.w16(0x3c, 0x0100);
  assert.is(rig.irq, true);
  rig.w8(0x38, 0x01);
  assert.is(rig.irq, true, "a level, not an edge");
  assert.is(rig.rises, 1);
  rig.w16(0x3e, 0x0100);
  assert.is(rig.irq, false);
});

test("RTL-009 the byte at 50h of configuration space is no old power management capability", () => {
  assert.is.not(new Rig().card.configRead(0x50, 1), 0x01);
});

test("the capability list is one power management entry at DCh that promises no PME", () => {
  const { card } = new Rig();
  assert.is(card.configRead(0x06, 2) & 0x0010, 0x0010, "Status says that there is a list");
  assert.is(card.configRead(0x34, 1), 0xdc);
  assert.is(card.configRead(0xdc, 2), 0x0001, "id 1, and it is the last");
  assert.is(card.configRead(0xde, 2) & 0xf807, 0x0002, "version 2, PME from nowhere");
});

test("Status, grants and the writable bits of Command are those of a PCI 2.2 part", () => {
  const { card } = new Rig();
  assert.is(card.configRead(0x06, 2) & 0x06f0, 0x02b0);
  assert.is(card.configRead(0x3e, 2), 0x4020);
  card.configWrite(0x04, 2, 0xffff);
  assert.is(card.configRead(0x04, 2), 0x0157);
  card.configWrite(0x0c, 2, 0x4008);
  assert.is(card.configRead(0x0c, 2), 0x4008);
});

test("RTL-010 RTL-011 no write to 40h changes the version", () => {
  const rig = new Rig();
  rig.w32(0x40, 0x0300_0700);
  assert.is(rig.r32(0x40), 0x1300_0700);
  for (const value of [0xffff_ffff, 0, 0x9876_5432]) {
    rig.w32(0x40, value);
    assert.is((rig.r32(0x40) & 0xfcf0_0000) >>> 0, 0x1000_0000);
    rig.w8(0x43, 0xff);
    assert.is(rig.r8(0x43), 0x13);
  }
});

test("RTL-016 RTL-017 RTL-021 CR.RST is over at once, stops both sides and goes back to the first descriptors", () => {
  const rig = new Rig();
  rig.startTx(RING);
  rig.startRx(RING + 0x1000);
  rig.put(RING + 0x2000, frameTo(BROADCAST));
  for (let i = 0; i < 3; i++) {
    rig.descriptor(RING + 16 * i, 0xb000_003c, RING + 0x2000);
    rig.descriptor(RING + 0x1000 + 16 * i, 0x8000_0800, RING + 0x3000 + 0x800 * i);
  }
  rig.w8(0x38, 0x40);
  rig.deliver(frameTo(BROADCAST));
  assert.is(rig.far.frames.length, 3);
  assert.is(rig.get32(RING + 0x1000) >>> 31, 0);
  rig.w8(0x37, 0x1c);
  assert.is(rig.r8(0x37), 0x00);

  rig.descriptor(RING, 0xf000_003c, RING + 0x2000);
  rig.descriptor(RING + 0x1000, 0xc000_0800, RING + 0x3000);
  rig.startTx(RING);
  rig.startRx(RING + 0x1000);
  rig.w8(0x38, 0x40);
  assert.is(rig.get32(RING) >>> 31, 0, "descriptor 0 again");
  rig.deliver(frameTo(BROADCAST));
  assert.is(rig.get32(RING + 0x1000) >>> 31, 0, "here too");
});

test("RTL-018 RTL-019 a station address and hash table that a driver set outlive CR.RST", () => {
  const rig = new Rig();
  assert.equal(
    Array.from({ length: 6 }, (_, i) => rig.r8(i)),
    Array.from(MAC),
  );
  rig.w8(0x50, 0xc0);
  rig.w32(0x04, 0xffff_6655);
  rig.w32(0x00, 0x4433_2202);
  rig.w8(0x50, 0x00);
  rig.w32(0x08, 0xdead_beef);
  rig.w32(0x0c, 0x0bad_f00d);
  rig.w8(0x37, 0x10);
  assert.is(rig.r32(0x00), 0x4433_2202);
  assert.is(rig.r32(0x04), 0x0000_6655, "bytes 6 and 7 are no registers");
  assert.is(rig.r32(0x08), 0xdead_beef);
  assert.is(rig.r32(0x0c), 0x0bad_f00d);
});

test("RTL-020 tally counters outlive CR.RST and clear at power-on", () => {
  const rig = new Rig();
  const txOk = () => {
    rig.w32(0x14, 0);
    rig.w32(0x10, RING);
    rig.w32(0x10, RING | 8);
    return rig.get32(RING);
  };
  rig.startTx(RING + 0x1000);
  rig.descriptor(RING + 0x1000, 0xf000_003c, RING + 0x2000);
  rig.w8(0x38, 0x40);
  assert.is(txOk(), 1);
  rig.w8(0x37, 0x10);
  assert.is(txOk(), 1);
  rig.card.reset("power-on");
  rig.card.configWrite(0x04, 2, 0x0007);
  assert.is(txOk(), 0);
});

test("RTL-022 CR.RST clears IMR and ISR and lets INTA# go", () => {
  const rig = new Rig();
  rig.w16(0x3c, 0xffff);
  rig.w8(0x38, 0x01);
  assert.is(rig.irq, true);
  rig.w8(0x37, 0x10);
  assert.is(rig.irq, false);
  assert.is(rig.r16(0x3c), 0);
  assert.is(rig.r16(0x3e), 0);
});

test("RTL-023 RTL-024 StopReq is taken without effect, and CR never reads FFh", () => {
  const rig = new Rig();
  rig.startTx(RING);
  rig.w8(0x37, 0x8c);
  assert.is(rig.r8(0x37) & 0x0c, 0x0c);
  rig.descriptor(RING, 0xf000_003c, RING + 0x2000);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1, "it still sends");
  rig.w8(0x37, 0xff & ~0x10);
  assert.is.not(rig.r8(0x37), 0xff);
});

test("RTL-029 RTL-030 9346CR reads 0 after reset and shows its wires in mode 10", () => {
  const rig = new Rig();
  assert.is(rig.r8(0x50), 0x00);
  for (const wires of [0x08, 0x0c, 0x0e, 0x0a, 0x02, 0x04, 0x00]) {
    rig.w8(0x50, 0x80 | wires);
    assert.is(rig.r8(0x50) & 0xfe, 0x80 | wires);
  }
  rig.w8(0x50, 0x88);
  rig.w8(0x37, 0x10);
  assert.is(rig.r8(0x50), 0x00);
});

test("RTL-038 RTL-040 RTL-041 CONFIG registers take writes while 9346CR is C0h, within what can be written", () => {
  const rig = new Rig();
  const config = () => [0x51, 0x52, 0x53, 0x54, 0x55].map((at) => rig.r8(at));
  const reset = config();
  assert.equal(reset, [0x00, 0x0d, 0x10, 0xa1, 0x00]);
  for (const mode of [0x00, 0x80]) {
    rig.w8(0x50, mode);
    for (let at = 0x51; at <= 0x55; at++) rig.w8(at, 0xff);
    rig.w32(0x50, (0xffff_ff00 | mode) >>> 0);
    assert.equal(config(), reset, `mode ${mode}`);
  }
  rig.w8(0x50, 0xc0);
  rig.w8(0x52, 0x00);
  assert.is(rig.r8(0x52), 0x0c, "MEMMAP and IOMAP are fixed");
  rig.w8(0x52, 0xff);
  assert.is(rig.r8(0x52) & 0x0c, 0x0c);
  rig.w8(0x53, 0xff);
  assert.is(rig.r8(0x53) & 0x07, 0, "33 MHz");
  rig.w8(0x50, 0x00);
  rig.w8(0x52, 0x00);
  assert.is.not(rig.r8(0x52), 0x0c, "locked again");
});

test("CONFIG5 can be written while the others are locked", () => {
  const rig = new Rig();
  assert.is(rig.r8(0x56), 0x03);
  rig.w8(0x56, 0x01);
  assert.is(rig.r8(0x56), 0x01);
});

test("RTL-039 IDR takes writes only while unlocked, and the filter follows at once", () => {
  const rig = new Rig();
  rig.startRx(RING, 0x02);
  rig.descriptor(RING, 0xc000_0800, RING + 0x2000);
  rig.w32(0x00, 0xffff_ff02);
  assert.is(rig.r8(0x00), 0x52);
  assert.ok(rig.reports.some(({ code }) => code === "config-locked"));
  rig.w8(0x50, 0xc0);
  for (let i = 0; i < 6; i++) rig.w8(i, 2 + 2 * i);
  rig.w8(0x50, 0x00);
  assert.is(rig.deliver(frameTo(MAC)), "dropped", "the former address");
  assert.is(rig.deliver(frameTo(Uint8Array.of(2, 4, 6, 8, 10, 12))), "taken");
});

test("RTL-042 CONFIG2.MSI can be set and cleared as Linux does", () => {
  const rig = new Rig();
  rig.w8(0x50, 0xc0);
  rig.w8(0x53, rig.r8(0x53) | 0x20);
  assert.is(rig.r8(0x53) & 0x20, 0x20);
  rig.w8(0x53, rig.r8(0x53) & ~0x20);
  assert.is(rig.r8(0x53) & 0x20, 0);
});

test("RTL-066 the ten-bit interface is absent: TBICSR reads 0 and PHYStatus bit 7 is 0", () => {
  const rig = new Rig();
  assert.is(rig.r32(0x64), 0);
  assert.is(rig.r8(0x6c) & 0x80, 0);
  rig.linkUp();
  assert.is(rig.r8(0x6c) & 0x80, 0);
  rig.w32(0x64, 0xffff_ffff);
  assert.is(rig.r32(0x64) & 0x9300_0000, 0, "neither status nor what clears itself");
});

test("RTL-102 RTL-103 ISR clears exactly the bits written as 1", () => {
  const rig = new Rig();
  rig.startRx(RING);
  rig.w16(0x3c, 0xffff);
  rig.w8(0x38, 0x01);
  rig.descriptor(RING, 0xc000_0800, RING + 0x2000);
  rig.deliver(frameTo(BROADCAST));
  assert.is(rig.r16(0x3e), 0x0101);
  rig.w16(0x3e, 0x0000);
  assert.is(rig.r16(0x3e), 0x0101);
  rig.w16(0x3e, 0x0100);
  assert.is(rig.r16(0x3e), 0x0001);
  assert.is(rig.irq, true);
  rig.w16(0x3e, 0xffff);
  assert.is(rig.r16(0x3e), 0);
  assert.is(rig.irq, false);
});

test("RTL-100 INTA# is down in every state in which ISR and IMR share no bit", () => {
  const rig = new Rig();
  rig.w8(0x38, 0x01);
  for (const mask of [0, 0x0100, 0xfeff, 0x01ff, 0x8000, 0xffff, 0]) {
    rig.w16(0x3c, mask);
    assert.is(rig.irq, (mask & 0x0100) !== 0, `IMR ${mask}`);
    assert.is((rig.card.configRead(0x06, 2) & 0x08) !== 0, rig.irq, "Status bit 3 shows the same");
  }
});

test("a ring that is not aligned to 256 bytes is told of, whichever of the three; an aligned one is not", () => {
  for (const at of [0x20, 0x28, 0xe4]) {
    const rig = new Rig();
    rig.w32(at + 4, 0x0000_0001);
    rig.w32(at, 0x0010_0000);
    assert.equal(rig.reports, []);
    rig.w32(at, 0x0010_0080);
    assert.equal(
      rig.reports.map(({ code, value }) => [code, value]),
      [["ring-misaligned", 0x0010_0080]],
    );
    assert.is(rig.r32(at), 0x0010_0080, "it reads back all the same");
  }
});

test("RTL-101 no read has an effect: every byte, word and dword twice", () => {
  const rig = new Rig();
  rig.startRx(RING);
  rig.w8(0x38, 0x01);
  rig.deliver(frameTo(BROADCAST));
  for (const width of [1, 2, 4] as const)
    for (let at = 0; at < 0x100; at += width)
      assert.is(rig.access(width, at), rig.access(width, at), `${width} at ${at}`);
  assert.is(rig.r16(0x3e), 0x0110);
});

test("RTL-104 causes latch while IMR is 0", () => {
  const rig = new Rig();
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r16(0x3e), 0x0020);
  rig.w8(0x38, 0x01);
  assert.is(rig.r16(0x3e), 0x0120);
  assert.is(rig.rises, 0);
});

test("RTL-075 FSWInt raises SWInt and reads back 0", () => {
  const rig = new Rig();
  rig.w8(0x38, 0x01);
  assert.is(rig.r16(0x3e), 0x0100);
  assert.is(rig.r8(0x38), 0);
});

test("RTL-108 RTL-163 TCTR counts PCI clocks by itself and any write makes it 0", () => {
  const rig = new Rig();
  rig.w32(0x48, 1);
  assert.is(rig.r32(0x48), 0);
  rig.clock.advance(30 * 1000);
  assert.is(rig.r32(0x48), 1000);
  rig.clock.advance(3 * MS);
  assert.is(rig.r32(0x48), 101_000);
  assert.is(rig.r16(0x4a) * 0x1_0000 + rig.r16(0x48), 101_000);
  rig.w8(0x49, 0x77);
  assert.is(rig.r32(0x48), 0);
  rig.clock.advance(30 * 2 ** 32 + 60);
  assert.is(rig.r32(0x48), 2, "32 bits");
});

test("RTL-109 TimeOut comes 61 µs after TCTR was written, with TimerInt 0800h", () => {
  const rig = new Rig();
  rig.w16(0x3c, 0x4000);
  rig.w32(0x58, 0x0800);
  rig.w32(0x48, 1);
  rig.clock.advance(0x0800 * 30 - 1);
  assert.is(rig.r16(0x3e), 0);
  rig.clock.advance(1);
  assert.is(rig.r16(0x3e), 0x4000);
  assert.is(rig.irq, true);
  rig.w16(0x3e, 0x4000);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r16(0x3e) & 0x4000, 0, "once, until TCTR is written or comes round");
  rig.w32(0x48, 1);
  rig.clock.advance(62 * US);
  assert.is(rig.r16(0x3e) & 0x4000, 0x4000);
  rig.w16(0x3e, 0x4000);
  rig.clock.advance(30 * 2 ** 32);
  assert.is(rig.r16(0x3e) & 0x4000, 0x4000, "one turn later");
});

test("reading what does not change by itself leaves no trace in a snapshot, whatever the time", () => {
  const rig = new Rig();
  rig.clock.advance(1_000_000);
  const before = rig.card.save();
  for (let at = 0; at < 0x100; at++) {
    if (at >= 0x48 && at < 0x64) continue; // from TCTR to PHYAR
    rig.r8(at);
    assert.equal(rig.card.save(), before, at.toString(16));
  }
  rig.r32(0x44);
  assert.equal(rig.card.save(), before);
});

test("a write to another register does not put off a TimeOut that is due", () => {
  const rig = new Rig({ link: false });
  rig.w32(0x58, 0x0400);
  rig.w32(0x48, 1);
  rig.clock.set(1024 * 30); // the host's timers come late
  rig.w32(0x08, 0);
  rig.w32(0x4c, 0);
  rig.clock.advance(1);
  assert.is(rig.r16(0x3e), 0x4000);
});

test("RTL-110 TimerInt 0 never raises TimeOut", () => {
  const rig = new Rig();
  rig.w32(0x58, 0x0800);
  rig.w32(0x58, 0);
  rig.w32(0x48, 1);
  rig.clock.advance(2 * 30 * 2 ** 32);
  assert.is(rig.r16(0x3e) & 0x4000, 0);
});

test("RTL-111 TimeOut and ROK stand in one reading of ISR", () => {
  const rig = new Rig();
  rig.startRx(RING);
  rig.descriptor(RING, 0xc000_0800, RING + 0x2000);
  rig.w32(0x58, 0x0800);
  rig.w32(0x48, 1);
  rig.deliver(frameTo(BROADCAST));
  rig.clock.advance(100 * US);
  assert.is(rig.r16(0x3e), 0x4001);
});

test("RTL-112 RTL-137 RTL-139 RTL-140 what is only stored reads back", () => {
  const rig = new Rig();
  rig.w16(0xe2, 0x5100);
  assert.is(rig.r16(0xe2), 0x5100);
  for (const at of [0xf0, 0xf4, 0xf8, 0xfc]) {
    rig.w32(at, 0x1234_5678 + at);
    assert.is(rig.r32(at), 0x1234_5678 + at);
  }
  for (const value of [0x06, 0x10, 0x3f]) {
    rig.w8(0xec, value);
    assert.is(rig.r8(0xec), value);
  }
  for (const value of [0x000f_ff00, 0x00ff_ff00, 0x000f_ffff]) {
    rig.w32(0x7c, value);
    assert.is(rig.r32(0x7c), value);
  }
  for (let at = 0x84; at < 0xce; at += 2) {
    rig.w16(at, at * 0x0101);
    assert.is(rig.r16(at), (at * 0x0101) & 0xffff);
  }
});

test("RTL-138 byte 01h to 82h is taken", () => {
  const rig = new Rig();
  rig.w8(0x82, 0x01);
  assert.is(rig.r8(0x37), 0);
  assert.equal(rig.reports, []);
});

test("RMS and C+CR read back what drivers write, so that iPXE finds an RTL8169", () => {
  const rig = new Rig();
  for (const value of [0x05f6, 0x4000, 0x3fff, 0x0800]) {
    rig.w16(0xda, value);
    assert.is(rig.r16(0xda), value);
  }
  for (const value of [0x0068, 0x006b, 0x002b, 0x001b]) {
    rig.w16(0xe0, value);
    assert.is(rig.r16(0xe0), value);
  }
});

test("reserved offsets read 0 and ignore writes", () => {
  const rig = new Rig();
  for (const at of [
    0x06, 0x07, 0x18, 0x1c, 0x39, 0x3a, 0x57, 0x5e, 0x6d, 0x70, 0x78, 0x80, 0x83, 0xce, 0xd0, 0xd8, 0xdc, 0xed,
  ]) {
    rig.w8(at, 0xff);
    assert.is(rig.r8(at), 0, `offset ${at}`);
  }
});

test("RTL-133 RTL-134 RTL-135 RTL-136 a tally dump writes 64 bytes, counts right and clears its bit", () => {
  const rig = new Rig();
  rig.startTx(RING);
  rig.startRx(RING + 0x1000, 0x0e);
  rig.w32(0x08, 0xffff_ffff);
  rig.w32(0x0c, 0xffff_ffff);
  for (let i = 0; i < 2; i++) rig.descriptor(RING + 16 * i, 0xb000_003c, RING + 0x2000);
  for (let i = 0; i < 6; i++) rig.descriptor(RING + 0x1000 + 16 * i, 0x8000_0800, RING + 0x4000 + 0x800 * i);
  rig.w8(0x38, 0x40);
  const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 1);
  for (const to of [MAC, BROADCAST, BROADCAST, group, group, group, MAC]) rig.deliver(frameTo(to));
  rig.put(RING + 0x3000, new Uint8Array(0x100).fill(0xaa));
  rig.w32(0x14, 0);
  rig.w32(0x10, RING + 0x3047);
  assert.equal(rig.get(RING + 0x3000, 0x100), new Uint8Array(0x100).fill(0xaa), "not before it is asked for");
  rig.w32(0x10, (RING + 0x3047) | 8);
  assert.is(rig.r32(0x10) & 0x09, 0, "done");
  const at = RING + 0x3040; // bits 5–0 are no address
  assert.equal(rig.get(RING + 0x3000, 64), new Uint8Array(64).fill(0xaa));
  assert.equal(rig.get(RING + 0x3080, 64), new Uint8Array(64).fill(0xaa));
  const dwords = Array.from({ length: 16 }, (_, i) => rig.get32(at + 4 * i));
  //            TxOk  RxOk  TxERR  RxERR  Miss/FAE  1Col  MCol  RxOkPhy  RxOkBrd  RxOkMul  Abt/Undrn
  assert.equal(dwords, [2, 0, 6, 0, 0, 0, 0, 1, 0, 0, 1, 0, 2, 0, 3, 0]);
  rig.w32(0x10, 0);
  rig.w32(0x14, 0);
  assert.is(rig.r32(0x10), 0, "8139cp's last step");
});

test("counters wider than 32 bits show both halves, narrower ones their low bits", () => {
  const rig = new Rig();
  const state = rig.card.save() as { model: { tally: { counts: number[] } } };
  const { counts } = state.model.tally;
  counts.fill(0x5_8000_0007);
  const model = { ...state.model, tally: { counts } };
  rig.card.load({ ...state, model } as never);
  rig.w32(0x14, 0);
  rig.w32(0x10, RING + 8);
  const dwords = Array.from({ length: 16 }, (_, i) => rig.get32(RING + 4 * i));
  const wide = [0x8000_0007, 5];
  const narrow = 0x8000_0007;
  const halves = 0x0007_0007;
  const expected = [...wide, ...wide, ...wide, narrow, halves, narrow, narrow, ...wide, ...wide, narrow, halves];
  assert.equal(dwords, expected);
});

test("RTL-043 after auto-load the filter is that of the EEPROM's address again", () => {
  const rig = new Rig();
  rig.startRx(RING, 0x02);
  rig.descriptor(RING, 0xc000_0800, RING + 0x2000);
  rig.w8(0x50, 0xc0);
  rig.w32(0x00, 0x0302_0102);
  rig.w16(0x04, 0x0504);
  rig.w8(0x50, 0x40);
  assert.is(rig.deliver(frameTo(Uint8Array.of(2, 1, 2, 3, 4, 5))), "dropped");
  assert.is(rig.deliver(frameTo(MAC)), "taken");
});

test("RTL-016 CR.RST makes of whatever was written what power-on makes, but for what it keeps", () => {
  const kept = (at: number): boolean => at < 6 || (at >= 0x08 && at < 0x10) || (at >= 0x51 && at <= 0x56);
  /** PHYAR and what the PHY shows, which is not reset */
  const phy = (at: number): boolean => (at >= 0x60 && at < 0x64) || at === 0x6c;
  const rig = new Rig();
  const fresh = new Rig();
  rig.w8(0x50, 0xc0);
  for (let at = 0; at < 0x100; at++) if (at !== 0x37 && at !== 0x50 && !phy(at)) rig.w8(at, 0xff);
  const written = Uint8Array.from({ length: 0x100 }, (_, at) => rig.r8(at));
  rig.w8(0x37, 0x10);
  for (let at = 0; at < 0x100; at++)
    if (!phy(at)) assert.is(rig.r8(at), kept(at) ? written[at] : fresh.r8(at), at.toString(16));
  assert.is(rig.r32(0x0c), 0xffff_ffff);
});

test("behind CR.RST no ring has a place: doorbells and frames find none", () => {
  const rig = new Rig();
  rig.startTx(RING);
  rig.w32(0x28, RING);
  rig.startRx(RING);
  rig.w8(0x37, 0x10);
  rig.w8(0x37, 0x0c);
  rig.w32(0x44, 0xe70a);
  rig.w8(0x38, 0xc0);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.r16(0x3e) & 0x8000, 0);
  assert.equal(rig.reports, []);
});

test("RTL-017 behind CR.RST the receiver stands still until CR says otherwise, and begins anew", () => {
  const rig = new Rig();
  rig.startRx(RING);
  rig.w8(0x37, 0x10);
  rig.w32(0xe4, RING);
  rig.w32(0x44, 0xe70a);
  rig.descriptor(RING, 0xc000_0800, RING + 0x2000);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  rig.w8(0x37, 0x08);
  assert.is(rig.deliver(frameTo(MAC)), "taken");
});

test("a snapshot takes the lock of the configuration with it, shut or open", () => {
  for (const mode of [0x00, 0xc0]) {
    const rig = new Rig();
    rig.w8(0x50, mode);
    const other = new Rig();
    other.w8(0x50, mode ^ 0xc0);
    other.card.load(rig.card.save());
    other.w32(0x00, 0x0403_0201);
    assert.is(other.r32(0x00), mode === 0 ? 0x0300_5452 : 0x0403_0201);
  }
});

test("a tally dump to what is no RAM ends too, with SERR", () => {
  const rig = new Rig();
  rig.w32(0x14, 0x10);
  rig.w32(0x10, 0x8);
  assert.is(rig.r32(0x10), 0);
  assert.is(rig.r16(0x3e), 0x8000);
  assert.is(rig.card.configRead(0x06, 2) & 0x2000, 0x2000, "received master abort");
});

test("RTL-107 SERR stays 0 as long as every address is RAM", () => {
  const rig = new Rig();
  rig.startTx(RING);
  rig.startRx(RING + 0x1000);
  rig.descriptor(RING, 0xf000_003c, RING + 0x2000);
  rig.descriptor(RING + 0x1000, 0xc000_0800, RING + 0x3000);
  rig.w8(0x38, 0x40);
  rig.deliver(frameTo(BROADCAST));
  rig.deliver(frameTo(BROADCAST));
  assert.is(rig.r16(0x3e), 0x0095, "ROK, TOK, RDU, TDU");
});

test("in D3hot nothing is decoded and no DMA happens; back in D0 the card wants a new start", () => {
  const rig = new Rig();
  rig.card.configWrite(0x14, 4, 0xfe00_0000);
  rig.startRx(RING);
  rig.descriptor(RING, 0xc000_0800, RING + 0x2000);
  assert.is(rig.card.barBase(1), 0xfe00_0000);
  rig.card.configWrite(0xe0, 2, 0x0003);
  assert.is(rig.card.barBase(1), -1);
  rig.deliver(frameTo(BROADCAST));
  assert.is(rig.get32(RING) >>> 31, 1);
  rig.card.configWrite(0xe0, 2, 0x0000);
  assert.is(rig.r8(0x37), 0);
});

test("options that do not fit are refused", () => {
  const code = (build: () => unknown): string => {
    try {
      build();
    } catch (error) {
      return (error as { code: string }).code;
    }
    return "accepted";
  };
  assert.is(
    code(() => rtl8169({ mac: "01:00:5e:00:00:01" })),
    "mac-address",
  );
  assert.is(
    code(() => rtl8169({ mac: "52:54" })),
    "mac-address",
  );
  assert.is(
    code(() => rtl8169({ mtu: 67 })),
    "mtu",
  );
  assert.is(
    code(() => rtl8169({ mtu: 68 })),
    "accepted",
  );
  assert.is(
    code(() => rtl8169({ mtu: 16_361 })),
    "accepted",
  );
  assert.is(
    code(() => rtl8169({ mtu: 16_362 })),
    "mtu",
  );
  assert.is(
    code(() => rtl8169({ eeprom: "93C66" as "93C46" })),
    "eeprom-type",
  );
  assert.is(
    code(() => rtl8169({ fcs: "random" as "zero" })),
    "fcs",
  );
  assert.is(
    code(() => rtl8169({ timing: "slow" as "real" })),
    "timing",
  );
});

test("the card's face: MAC, cable, what it accepts, and a port for one cable", () => {
  const rig = new Rig({ mtu: 1500, link: false });
  assert.equal(rig.card.mac, MAC);
  assert.is(rig.card.linkUp, false);
  rig.card.setLink(true);
  assert.is(rig.card.linkUp, true);
  assert.equal(rig.card.net.accepts(), {
    csum: false,
    tso4: false,
    tso6: false,
    uso: false,
    longestFrame: 1518,
    holds: true,
  });
  assert.throws(
    () => rig.card.net.attach(rig.far),
    (error: { code?: string }) => error.code === "port-occupied",
  );
  rig.card.net.attach(null);
  rig.card.net.attach(rig.far);
});

test("unplugged it tells nobody of mistakes, asks for no turn and moves no memory", () => {
  const rig = new Rig();
  rig.card.disconnect();
  rig.written.length = rig.reports.length = 0;
  rig.startTx(RING + 8);
  rig.startRx(RING);
  rig.descriptor(RING, 0xf000_003c, RING + 0x1000);
  rig.w8(0x38, 0xc0);
  rig.w32(0x10, RING + 8);
  rig.deliver(frameTo(MAC));
  assert.equal([...rig.work.ready], []);
  assert.equal(rig.reports, []);
  assert.equal(rig.written, []);
  assert.is(rig.irq, false);
});

test("unplugged it keeps no timer and can be plugged in again", () => {
  const rig = new Rig();
  rig.w32(0x58, 0x0800);
  rig.w32(0x48, 1);
  assert.ok(rig.clock.armed > 0);
  rig.card.disconnect();
  rig.card.disconnect();
  assert.is(rig.clock.timers, 0);
  assert.is(rig.card.net.offer(frameTo(BROADCAST), 0, 60, null, 0), "dropped");
  rig.card.barWrite(1, 0x38, 1, 0x41);
  rig.card.connect(rig.seams("strict"));
  rig.linkUp();
  assert.is(rig.r8(0x6c), 0x13);
});

test.run();
