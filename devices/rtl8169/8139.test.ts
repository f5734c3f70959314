/**
 * The RTL8139 family's registers, and the C+ mode. Numbers from the data sheets of RTL8139C(L) and RTL8139C+, as 8139too.c,
 * 8139cp.c, if_re.c, iPXE's realtek.c and QEMU's recordings have them.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../src/bytes/index.js";
import { rtl8139 } from "./index.js";
import { rig8139, sendSlot, startCPlus, startOld } from "./testing/8139.js";
import { BROADCAST, fcsOf, frameTo, LINK_TIME, MAC, PEER, type Rig } from "./testing.js";

const TX = 0x1_0000;
const RX = 0x1_1000;
const DATA = 0x2_0000;
const BUFFERS = 0x4_0000;
const OWN_EOR = 0xc000_0000;

// ------------------------------------------------------------------------------------------------ who it is

test("RTL-001 RTL-002 RTL-003 the C+ is 10EC:8139 with revision 20h, of class 02 00 00", () => {
  const card = rtl8139();
  assert.is(card.configRead(0x00, 4), 0x8139_10ec);
  assert.is(card.configRead(0x08, 4), 0x0200_0020);
  assert.is(card.configRead(0x3d, 1), 0x01);
});

test("Status, grants and the power management capability are those that lspci shows of one", () => {
  const card = rtl8139();
  assert.is(card.configRead(0x06, 2), 0x0290); // Cap+ FastB2B+ DEVSEL=medium
  assert.equal([card.configRead(0x3e, 1), card.configRead(0x3f, 1)], [0x20, 0x40]);
  assert.is(card.configRead(0xdc, 1), 0x01);
});

test("RTL-010 each chip of the family is named by TxConfig, whatever is written there, and has its PCI revision", () => {
  for (const [chip, version, revision] of [
    ["RTL8139", 0x6000_0000, 0x10],
    ["RTL8139A", 0x7000_0000, 0x10],
    ["RTL8139A-G", 0x7080_0000, 0x10],
    ["RTL8139B", 0x7800_0000, 0x10],
    ["RTL8130", 0x7c00_0000, 0x10],
    ["RTL8139C", 0x7400_0000, 0x10],
    ["RTL8100", 0x7880_0000, 0x10],
    ["RTL8139D", 0x7440_0000, 0x10],
    ["RTL8101", 0x74c0_0000, 0x10],
    ["RTL8139C+", 0x7480_0000, 0x20],
  ] as const) {
    const rig = rig8139({ chip });
    assert.is(rig.r32(0x40), version, chip);
    for (const value of [0xffff_ffff, 0, 0x0300_0700]) {
      rig.w32(0x40, value);
      assert.is((rig.r32(0x40) & 0xfcc0_0000) >>> 0, version, chip);
    }
    assert.is(rig.r32(0x40) & 0x0300_0700, 0x0300_0700);
    assert.is(rig.card.configRead(0x08, 1), revision);
    assert.is(rig.r8(0x5e), revision);
  }
});

test("RTL-004 RTL-005 RTL-006 both windows are 256 bytes and show the same registers", () => {
  const { card } = rig8139();
  assert.equal(
    card.bars.map(({ index, kind, size }) => [index, kind, size]),
    [
      [0, "io", 256],
      [1, "mem32", 256],
    ],
  );
  card.barWrite(1, 0x08, 4, 0x1234_5678);
  assert.is(card.barRead(0, 0x08, 4), 0x1234_5678);
  card.barWrite(0, 0x0c, 4, 0x9abc_def0);
  assert.is(card.barRead(1, 0x0c, 4), 0x9abc_def0);
});

test("RTL-015 iPXE tells a C+ from an 8169 and from an old chip by RMS and C+CR", () => {
  for (const [chip, takes] of [
    ["RTL8139C+", true],
    ["RTL8139C", false],
  ] as const) {
    const rig = rig8139({ chip });
    rig.w16(0xda, 0x05f6);
    assert.is(rig.r16(0xda), 0);
    const wanted = (rig.r16(0xe0) | 0x001b) & ~0x0040;
    rig.w16(0xe0, wanted);
    assert.is(rig.r16(0xe0), takes ? wanted : 0, chip);
    rig.w16(0xe0, 0x007b);
    assert.is(rig.r16(0xe0), takes ? 0x007b : 0, chip);
  }
});

test("options that do not fit are refused with what was expected", () => {
  for (const [options, code] of [
    [{ chip: "RTL8169" }, "chip"],
    [{ mtu: 8170 }, "mtu"],
    [{ mtu: 67 }, "mtu"],
    [{ mac: "no" }, "mac-address"],
    [{ eeprom: "93C66" }, "eeprom-type"],
    [{ fcs: "no" }, "fcs"],
    [{ timing: "no" }, "timing"],
  ] as const)
    try {
      rtl8139(options as never);
      assert.unreachable(code);
    } catch (error) {
      assert.instance(error, ConfigError);
      assert.is((error as ConfigError).code, code);
    }
  assert.is(rtl8139({ mtu: 8169 }).net.accepts().longestFrame, 8187);
  assert.is(rtl8139().net.accepts().longestFrame, 1518);
});

// ------------------------------------------------------------------------------------------------ reset and configuration

test("RTL-016 RTL-017 RTL-018 RTL-019 RTL-022 CR.RST clears itself, RE, TE, IMR, ISR and the line; IDR and MAR stay", () => {
  const rig = startOld(rig8139(), RX, 0x0f);
  rig.w8(0x50, 0xc0);
  rig.w32(0x00, 0x4433_2211);
  rig.w16(0x04, 0x6655);
  rig.w8(0x50, 0x00);
  rig.w32(0x08, 0xdead_beef);
  rig.w32(0x0c, 0x0bad_cafe);
  rig.w16(0x3c, 0xffff);
  rig.deliver(frameTo(BROADCAST));
  assert.is(rig.irq, true);
  rig.w8(0x37, 0x1c);
  assert.is(rig.r8(0x37), 0x01); // BUFE
  assert.is(rig.irq, false);
  assert.is(rig.r16(0x3c), 0);
  assert.is(rig.r16(0x3e), 0);
  assert.is(rig.r32(0x44), 0);
  assert.is(rig.r16(0xe0), 0);
  assert.is(rig.r32(0x30), 0);
  assert.equal([rig.r32(0x00), rig.r16(0x04)], [0x4433_2211, 0x6655]);
  assert.equal([rig.r32(0x08), rig.r32(0x0c)], [0xdead_beef, 0x0bad_cafe]);
});

test("RTL-038 RTL-039 RTL-040 IDR and CONFIG0, 1, 3 and 4 are locked but for 9346CR = C0h; CONFIG5 never is", () => {
  const rig = rig8139();
  rig.w32(0x00, 0xffff_ffff);
  rig.w16(0x04, 0xffff);
  assert.is(rig.r32(0x00), 0x0300_5452);
  assert.is(rig.r16(0x04), 0x0099);
  assert.is(rig.reports[0]?.code, "config-locked");
  const registers = [
    [0x51, 0x07, 0x00],
    [0x52, 0xff, 0x0c], // MEMMAP and IOMAP read 1
    [0x59, 0x71, 0x01],
    [0x5a, 0xf5, 0x00],
  ] as const;
  for (const [at, , locked] of registers) {
    rig.w8(at, 0xff);
    assert.is(rig.r8(at), locked, at.toString(16));
  }
  rig.w8(0xd8, 0xff);
  assert.is(rig.r8(0xd8), 0x7f);
  rig.w8(0x50, 0xc0);
  for (const [at, unlocked] of registers) {
    rig.w8(at, 0xff);
    assert.is(rig.r8(at), unlocked, at.toString(16));
  }
  for (const [at, , locked] of registers) {
    rig.w8(at, 0x00);
    assert.is(rig.r8(at), locked, at.toString(16));
  }
  rig.w16(0x04, 0x1234);
  assert.is(rig.r32(0x04), 0x1234);
});

test("RTL-043 RTL-161 the auto-load mode ends by itself and brings the EEPROM's address back", () => {
  const rig = rig8139();
  rig.w8(0x50, 0xc0);
  rig.w32(0x00, 0);
  rig.w8(0x52, 0xf3);
  rig.w8(0x50, 0x40);
  assert.is(rig.r8(0x50), 0);
  assert.is(rig.r32(0x00), 0x0300_5452);
  assert.is(rig.r8(0x52), 0x0c);
});

test("RTL-036 with a 93C56 RCR says so", () => {
  assert.is(rig8139({ eeprom: "93C56" }).r32(0x44), 0x40);
  assert.is(rig8139().r32(0x44), 0);
});

test("RTL-044 programming the EEPROM takes its time on a strict host, and DO tells", () => {
  const rig = rig8139({ timing: "real" });
  const bit = (di: number): void => {
    rig.w8(0x50, 0x88 | (di << 1));
    rig.w8(0x50, 0x8c | (di << 1));
  };
  const command = (value: number, length: number): void => {
    rig.w8(0x50, 0x88);
    for (let i = length - 1; i >= 0; i--) bit((value >>> i) & 1);
  };
  command(0b100_110000, 9); // EWEN
  rig.w8(0x50, 0x80);
  command(0b101_100000, 9); // WRITE word 20h
  for (let i = 15; i >= 0; i--) bit((0xbeef >>> i) & 1);
  rig.w8(0x50, 0x80);
  rig.w8(0x50, 0x88);
  assert.is(rig.r8(0x50) & 1, 0);
  rig.clock.advance(1_000_000);
  assert.is(rig.r8(0x50) & 1, 1);
  rig.w8(0x50, 0x80);
  command(0b110_100000, 9); // READ
  let word = 0;
  for (let i = 0; i < 16; i++) {
    bit(0);
    word = (word << 1) | (rig.r8(0x50) & 1);
  }
  assert.is(word, 0xbeef);
});

test("HLTCLK takes R and H, and nothing else", () => {
  const rig = rig8139();
  assert.is(rig.r8(0x5b), 1);
  rig.w8(0x5b, 0x48);
  assert.is(rig.r8(0x5b), 0);
  rig.w8(0x5b, 0xff);
  assert.is(rig.r8(0x5b), 0);
  rig.w32(0x58, 0x5200_0000);
  assert.is(rig.r8(0x5b), 1);
});

test("RTL-139 ETThR stores what drivers write; what is reserved reads 0", () => {
  const rig = rig8139();
  for (const value of [0x06, 0x10, 0x3f]) {
    rig.w8(0xec, value);
    assert.is(rig.r8(0xec), value);
  }
  for (const at of [0x06, 0x53, 0x5f, 0x82, 0x84, 0xd0, 0xda, 0xe2, 0xf0, 0xfc]) {
    rig.w8(at, 0xff);
    assert.is(rig.r8(at), 0, at.toString(16));
  }
});

// ------------------------------------------------------------------------------------------------ link

test("RTL-141 MSR bit 2 is the link, inverted, and bit 3 says 10 Mb/s", () => {
  const rig = rig8139();
  assert.is(rig.r8(0x58), 0xd0);
  rig.card.setLink(false);
  assert.is(rig.r8(0x58), 0xd4);
  rig.card.setLink(true);
  assert.is(rig.r8(0x58), 0xd4);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x58), 0xd0);
  rig.w8(0x50, 0xc0);
  rig.w16(0x62, 0x0000); // 10 Mb/s, half duplex, by force
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x58), 0xd8);
  assert.is(rig8139({ link: false }).r8(0x58), 0xd4);
});

test("RTL-142 BMCR and BMSR stand at 62h and 64h; a lost link shows to one read", () => {
  const rig = rig8139();
  assert.is(rig.r16(0x62), 0x1000);
  assert.is(rig.r16(0x64), 0x782d);
  assert.is(rig.r16(0x66), 0x01e1);
  assert.is(rig.r16(0x68), 0x45e1);
  assert.is(rig.r16(0x6a), 0x0001);
  rig.card.setLink(false);
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x65), 0x78); // the other byte does not count as a read
  assert.is(rig.r16(0x64), 0x7829);
  assert.is(rig.r16(0x64), 0x782d);
  rig.card.setLink(false);
  assert.is(rig.r16(0x64), 0x7809);
  assert.is(rig.r16(0x68), 0);
});

test("RTL-052 RTL-053 RTL-054 BMCR's Reset and RestartAN clear themselves, and the link is seen lost", () => {
  for (const command of [0x8000, 0x1200]) {
    const rig = rig8139();
    rig.w16(0x62, command);
    assert.is(rig.r16(0x62), 0x1000);
    assert.is(rig.r16(0x64) & 0x0024, 0);
    assert.is(rig.r8(0x58), 0xd4);
    rig.clock.advance(LINK_TIME);
    rig.r16(0x64); // what is latched
    assert.is(rig.r16(0x64) & 0x0024, 0x0024);
  }
});

test("speed, duplex and ANE of BMCR are locked like the configuration; loopback and isolate are not there", () => {
  const rig = rig8139();
  rig.w16(0x62, 0x2100);
  assert.is(rig.r16(0x62), 0x1000);
  assert.is(rig.reports.at(-1)?.code, "config-locked");
  rig.w16(0x62, 0x5c00 | 0x1000); // FreeBSD's mii writes LOOP and ISO
  assert.is(rig.r16(0x62), 0x1000);
  rig.w8(0x50, 0xc0);
  rig.w8(0x63, 0x21);
  assert.is(rig.r16(0x62), 0x2100);
  rig.w32(0x60, 0x1000_ffff); // TSAD is read-only
  assert.is(rig.r32(0x60), 0x1000_000f);
  rig.w8(0x50, 0x00);
  rig.w16(0x66, 0x0061); // only 10 Mb/s
  rig.w16(0x62, 0x1200);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x58), 0xd8);
  assert.is(rig.r16(0x66), 0x0061);
});

test("RTL-057 RTL-100 every change of the link raises bit 5", () => {
  const rig = rig8139();
  rig.w16(0x3c, 0x0020);
  rig.card.setLink(false);
  assert.is(rig.r16(0x3e), 0x0020);
  assert.is(rig.irq, true);
  rig.w16(0x3e, 0x0020);
  assert.is(rig.irq, false);
  rig.card.setLink(true);
  assert.is(rig.r16(0x3e), 0);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r16(0x3e), 0x0020);
  assert.is(rig.r16(0x74) & 0x0008, 0x0008); // CSCR.Con_status
});

test("CSCR bit 11 tells that the link changed, until its byte is read: without it Linux's 8139too misses a pulled cable", () => {
  const rig = rig8139();
  assert.is(rig.r16(0x74) & 0x0800, 0);
  rig.card.setLink(false);
  assert.is(rig.r8(0x74) & 0x08, 0, "the low byte shows the link");
  const state = rig.card.save();
  assert.is(rig.r16(0x74) & 0x0800, 0x0800);
  assert.is(rig.r16(0x74) & 0x0800, 0, "read once");
  rig.card.load(state);
  assert.is(rig.r8(0x75) & 0x08, 0x08, "the other byte did not count as a read");
  assert.is(rig.r8(0x75) & 0x08, 0, "its own does");
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  rig.w16(0x74, 0xffff);
  assert.is(rig.r16(0x74) & 0x0800, 0x0800, "writing leaves it");
});

// ------------------------------------------------------------------------------------------------ interrupts and timer

test("RTL-100 RTL-101 RTL-102 RTL-103 RTL-104 ISR latches under any mask, and a written 1 clears", () => {
  const rig = startOld(rig8139(), RX, 0x0f);
  rig.deliver(frameTo(BROADCAST));
  assert.is(rig.irq, false);
  assert.is(rig.r16(0x3e), 0x0001);
  assert.is(rig.r16(0x3e), 0x0001);
  rig.w16(0x3c, 0xffff);
  assert.is(rig.r16(0x3c), 0xe1ff);
  assert.is(rig.irq, true);
  rig.w16(0x3e, 0);
  assert.is(rig.irq, true);
  rig.w16(0x3e, 0xffff);
  assert.is(rig.r16(0x3e), 0);
  assert.is(rig.irq, false);
});

test("RTL-113 with frames in both directions one pass of FreeBSD's handler empties ISR", () => {
  const rig = startCPlus(rig8139(), TX, RX);
  rig.descriptor(RX, OWN_EOR | 0x600, BUFFERS);
  rig.descriptor(TX, 0xf000_003c, DATA);
  rig.w16(0x3c, 0xc07f);
  rig.w8(0xd9, 0x40);
  rig.deliver(frameTo(MAC));
  assert.is(rig.irq, true);
  rig.w16(0x3c, 0);
  const status = rig.r16(0x3e);
  assert.is(status & 0x0005, 0x0005);
  rig.w16(0x3e, status);
  assert.is(rig.r16(0x3e), 0);
  rig.w16(0x3c, 0xc07f);
  assert.is(rig.irq, false);
});

test("RTL-114 LenChg stays 0, though it can be unmasked", () => {
  const rig = startOld(rig8139(), RX, 0x0f);
  rig.w16(0x3c, 0xe07f);
  assert.is(rig.r16(0x3c), 0xe07f);
  rig.card.setLink(false);
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  sendSlot(rig, 0, DATA, 60);
  rig.deliver(frameTo(BROADCAST));
  assert.is(rig.r16(0x3e), 0x0025);
});

test("RTL-108 RTL-109 RTL-110 TimerInt stands at 54h: 0400h counts are 30.72 µs; 0 is never", () => {
  const rig = rig8139();
  rig.w32(0x54, 0x0400);
  rig.w32(0x48, 1);
  rig.clock.advance(30_719);
  assert.is(rig.r16(0x3e), 0);
  assert.is(rig.r32(0x48), 0x3ff);
  rig.clock.advance(1);
  assert.is(rig.r16(0x3e), 0x4000);
  assert.is(rig.r32(0x48), 0x400);
  rig.w32(0x48, 1);
  assert.is(rig.r32(0x48), 0);
  rig.w16(0x3e, 0x4000);
  rig.w32(0x54, 0);
  rig.clock.advance(10_000_000);
  assert.is(rig.r16(0x3e), 0);
  rig.w32(0x58, 0x0800); // the 8169's place: MSR, CONFIG3 and 4, HLTCLK here
  rig.clock.advance(10_000_000);
  assert.is(rig.r16(0x3e), 0);
});

// ------------------------------------------------------------------------------------------------ C+ mode

/** Transmit and receive rings of three descriptors; receive buffers of `size` bytes. */
const cplus = (size = 0x600, rcr = 0x0a, cpcr = 0x0b): Rig => {
  const rig = startCPlus(rig8139(), TX, RX, rcr, cpcr);
  for (let i = 0; i < 3; i++)
    rig.descriptor(RX + 16 * i, (i === 2 ? OWN_EOR : 0x8000_0000) + size, BUFFERS + 0x1000 * i);
  return rig;
};

test("RTL-143 D9h starts the C+ transmitter, and 38h does not", () => {
  const rig = cplus();
  const frame = frameTo(BROADCAST, 60);
  rig.put(DATA, frame);
  rig.descriptor(TX, 0xf000_003c, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.get32(TX), 0xf000_003c);
  rig.w8(0xd9, 0x40);
  assert.equal(rig.far.frames, [frame]);
  assert.is(rig.get32(TX), 0x7000_003c);
  assert.is(rig.r8(0xd9), 0);
  assert.is(rig.r16(0x3e), 0x0084); // TOK; TDU, since the ring's only descriptor is the driver's
});

test("RTL-144 without CPTX, or without TE, D9h sends nothing", () => {
  for (const [cpcr, cr] of [
    [0x0a, 0x0c],
    [0x0b, 0x08],
  ] as const) {
    const rig = cplus();
    rig.w16(0xe0, cpcr);
    rig.w8(0x37, cr);
    rig.descriptor(TX, 0xf000_003c, DATA);
    rig.w8(0xd9, 0x40);
    assert.is(rig.far.frames.length, 0);
    assert.is(rig.get32(TX), 0xf000_003c);
    assert.is(rig.r8(0xd9), 0);
  }
});

test("RTL-145 without CPRX nothing goes into the C+ ring, but into the old one", () => {
  const rig = cplus();
  rig.w16(0xe0, 0x09);
  rig.w32(0x30, 0x8_0000);
  rig.deliver(frameTo(MAC));
  assert.is(rig.get32(RX), 0x8000_0600);
  assert.is(rig.get32(0x8_0000), 0x0040_4001);
  rig.w16(0xe0, 0x0b);
  rig.deliver(frameTo(MAC));
  assert.is(rig.get32(RX), 0x3200_0040);
  assert.is(rig.r16(0x3a), 0x44);
});

test("an old chip has no C+ mode: nothing stands at D9h, E0h and E4h", () => {
  const rig = startOld(rig8139({ chip: "RTL8139C" }), RX, 0x0f);
  rig.w16(0xe0, 0x000b);
  rig.w32(0xe4, RX);
  rig.w8(0xd9, 0x41);
  assert.equal([rig.r16(0xe0), rig.r32(0xe4), rig.r8(0xd9), rig.r16(0x3e)], [0, 0, 0, 0]);
  sendSlot(rig, 0, DATA, 60);
  assert.is(rig.far.frames.length, 1);
});

test("10h–1Fh are TSD until C+CR enables a ring, then the tally's address, and TSD again", () => {
  const rig = rig8139();
  assert.is(rig.r32(0x10), 0x2000);
  rig.w16(0xe0, 0x0002);
  assert.equal([rig.r32(0x10), rig.r32(0x18)], [0, 0]);
  rig.w32(0x10, 0x1234_5640);
  assert.is(rig.r32(0x10), 0x1234_5640);
  rig.w16(0xe0, 0);
  assert.is(rig.r32(0x10), 0x2000);
});

test("RTL-075 FSWInt raises SWInt, and both queues are served, the high one first", () => {
  const rig = cplus();
  rig.w32(0x28, TX + 0x400);
  rig.w32(0x2c, 0);
  rig.put(DATA, frameTo(BROADCAST, 60, 1));
  rig.put(DATA + 0x100, frameTo(BROADCAST, 60, 2));
  rig.descriptor(TX, 0xf000_003c, DATA);
  rig.descriptor(TX + 0x400, 0xf000_003c, DATA + 0x100);
  rig.w8(0xd9, 0xc1);
  assert.equal(rig.far.frames, [frameTo(BROADCAST, 60, 2), frameTo(BROADCAST, 60, 1)]);
  assert.is(rig.r16(0x3e) & 0x0100, 0x0100);
  rig.far.frames.length = 0;
  for (const ring of [TX, TX + 0x400]) rig.set32(ring, 0xf000_003c);
  rig.work.policy = "deferred"; // the host's first turn is the normal ring's
  for (const doorbell of [0x40, 0x80]) rig.w8(0xd9, doorbell);
  rig.work.run();
  assert.equal(rig.far.frames, [frameTo(BROADCAST, 60, 2), frameTo(BROADCAST, 60, 1)]);
  assert.is(rig.r8(0xd9), 0);
});

test("RTL-084 a C+ ring has 64 descriptors even without EOR", () => {
  const rig = startCPlus(rig8139(), TX, RX);
  for (let i = 0; i < 70; i++) {
    rig.descriptor(TX + 16 * i, 0xb000_003c, DATA);
    rig.descriptor(RX + 16 * i, 0x8000_0100, BUFFERS + 0x100 * i);
  }
  rig.w8(0xd9, 0x40);
  assert.is(rig.far.frames.length, 64);
  assert.is(rig.get32(TX + 16 * 63), 0x3000_003c);
  assert.is(rig.get32(TX + 16 * 64), 0xb000_003c);
  for (let i = 0; i < 64; i++) rig.deliver(frameTo(MAC));
  assert.is(rig.get32(RX + 16 * 63), 0x3200_0040);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.get32(RX + 16 * 64), 0x8000_0100);
});

test("RTL-086 the C+ has 13 bits of buffer size and of length", () => {
  const rig = cplus(0x2080); // 0080h in 13 bits
  rig.deliver(frameTo(MAC, 296));
  assert.equal(
    [0, 1, 2].map((i) => rig.get32(RX + 16 * i)),
    [0x2000_0080, 0x0000_0080, 0x5200_012c],
  );
  const large = startCPlus(rig8139({ mtu: 8169 }), TX, RX);
  large.descriptor(RX, OWN_EOR | 0x1fff, BUFFERS);
  assert.is(large.deliver(frameTo(MAC, 8187)), "taken");
  assert.is(large.get32(RX) & 0x1fff, 0x1fff);
  large.descriptor(RX, OWN_EOR | 0x1fff, BUFFERS);
  assert.is(large.deliver(frameTo(MAC, 8188)), "dropped");
});

test("RTL-080 RTL-087 RTL-088 a frame in several buffers has FS on the first and LS on the last, and spares its neighbours", () => {
  const rig = cplus(0x80);
  const guard = new Uint8Array(0x100).fill(0xc3);
  for (let i = 0; i < 3; i++) rig.put(BUFFERS + 0x1000 * i + 0x80, guard);
  const frame = frameTo(MAC, 200);
  rig.deliver(frame);
  // Neither has both flags, by which 8139cp and r8169 know that they cannot take it.
  assert.equal([rig.get32(RX), rig.get32(RX + 16), rig.get32(RX + 32)], [0x2000_0080, 0x1200_00cc, 0xc000_0080]);
  assert.equal(rig.get(BUFFERS, 0x80), frame.subarray(0, 0x80));
  assert.equal(rig.get(BUFFERS + 0x1000, 72), frame.subarray(0x80));
  assert.is(rig.get32(BUFFERS + 0x1000 + 72), fcsOf(frame));
  for (let i = 0; i < 3; i++) assert.equal(rig.get(BUFFERS + 0x1000 * i + 0x80, 0x100), guard);
  rig.deliver(frameTo(MAC, 60, 9));
  assert.is(rig.get32(RX + 32), 0x7200_0040);
});

test("RTL-096 the C+'s receive status has MAR, PAM and BAR one bit lower", () => {
  const rig = cplus(0x600, 0x0f);
  rig.w32(0x08, 0xffff_ffff);
  for (const [to, status] of [
    [Uint8Array.of(0x01, 0x00, 0x5e, 0, 0, 1), 0x3400_0040],
    [MAC, 0x3200_0040],
    [BROADCAST, 0x7100_0040],
  ] as const) {
    const i = [0x3400_0040, 0x3200_0040, 0x7100_0040].indexOf(status);
    rig.deliver(frameTo(to));
    assert.is(rig.get32(RX + 16 * i), status);
  }
});

test("a frame above 4 KiB is flagged RWT and RES in the C+ ring", () => {
  const rig = cplus(0x1fff);
  rig.deliver(frameTo(MAC, 4093));
  assert.is(rig.get32(RX), 0x3230_1001);
  assert.is(rig.r16(0x3e), 0x0002);
});

test("RTL-081 RTL-082 without an owned descriptor the frame is lost: RDU, MPC", () => {
  const rig = cplus();
  for (let i = 0; i < 3; i++) rig.deliver(frameTo(MAC));
  rig.w16(0x3e, 0xffff);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.r16(0x3e), 0x0010);
  assert.is(rig.r32(0x4c), 1);
  rig.w32(0x4c, 0);
  assert.is(rig.r32(0x4c), 0);
});

test("RTL-115 the C+ mode pads: 42 bytes become 60", () => {
  const rig = cplus();
  const frame = frameTo(BROADCAST, 42);
  rig.put(DATA, frame);
  rig.put(DATA + 42, new Uint8Array(40).fill(0xee));
  rig.descriptor(TX, 0xf000_002a, DATA);
  rig.w8(0xd9, 0x40);
  const padded = new Uint8Array(60);
  padded.set(frame);
  assert.equal(rig.far.frames, [padded]);
});

test("RTL-070 RTL-072 every descriptor of a packet comes back, without the command bits", () => {
  const rig = cplus();
  rig.put(DATA, frameTo(BROADCAST, 100));
  rig.descriptor(TX, 0xa007_0028, DATA);
  rig.descriptor(TX + 16, 0x8007_0028, DATA + 40);
  rig.descriptor(TX + 32, 0xd007_0014, DATA + 80);
  rig.w8(0xd9, 0x40);
  assert.equal(rig.far.frames, [frameTo(BROADCAST, 100)]);
  assert.equal(
    [0, 1, 2].map((i) => rig.get32(TX + 16 * i)),
    [0x2000_0028, 0x0000_0028, 0x5000_0014],
  );
});

/** An IPv4 and UDP frame of 60 bytes with a checksum that is right, or not. */
const udpFrame = (sum: number): Uint8Array => {
  const frame = new Uint8Array(60);
  frame.set(MAC);
  frame.set(PEER, 6);
  const header = [0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0x66, 0xbd, 10, 0, 0, 1, 10, 0, 0, 2];
  frame.set([...header, 3, 0xe8, 7, 0xd0, 0, 26, sum >>> 8, sum & 0xff], 12);
  return frame;
};

test("RTL-130 RTL-131 RxChkSum tells of protocol and checksums one bit lower than the 8169", () => {
  const rig = cplus(0x600, 0x0a, 0x2b);
  rig.deliver(udpFrame(0)); // no UDP checksum: PID 10, and nothing failed
  assert.is(rig.get32(RX), 0x3202_0040);
  rig.deliver(udpFrame(0x1234));
  assert.is(rig.get32(RX + 16), 0x3202_4040); // UDPF
  rig.w16(0xe0, 0x0b);
  rig.deliver(udpFrame(0x1234));
  assert.is(rig.get32(RX + 32), 0x7200_0040);
});

test("RTL-128 RTL-129 RxVLAN takes a tag out of the frame and puts it into the descriptor", () => {
  const tagged = new Uint8Array(68);
  const plain = frameTo(MAC, 64);
  tagged.set(plain.subarray(0, 12));
  tagged.set([0x81, 0x00, 0x01, 0x23], 12);
  tagged.set(plain.subarray(12), 16);
  const rig = cplus(0x600, 0x0a, 0x4b);
  rig.deliver(tagged);
  assert.is(rig.get32(RX) & 0x1fff, 68);
  assert.is(rig.get32(RX + 4), 0x0001_2301);
  assert.equal(rig.get(BUFFERS, 64), plain);
  rig.w16(0xe0, 0x0b);
  rig.deliver(tagged);
  assert.equal(rig.get(BUFFERS + 0x1000, 68), tagged);
  assert.is(rig.get32(RX + 16 + 4), 0);
});

// ------------------------------------------------------------------------------------------------ loopback

test("RTL-118 RTL-120 the C+ loops with 0006_0000h, not with 0002_0000h, and is deaf to the cable then", () => {
  for (const [tcr, loops] of [
    [0x0306_0700, true],
    [0x0302_0700, false],
    [0x0304_0700, false],
  ] as const) {
    const rig = cplus(0x600, 0x0f);
    const frame = frameTo(BROADCAST, 60);
    rig.put(DATA, frame);
    rig.descriptor(TX, 0xf000_003c, DATA);
    rig.w32(0x40, tcr);
    rig.w8(0xd9, 0x40);
    assert.is(rig.far.frames.length, loops ? 0 : 1);
    assert.is(rig.get32(RX), loops ? 0x3100_0040 : 0x8000_0600);
    assert.is(rig.deliver(frame), loops ? "dropped" : "taken");
  }
});

test("RTL-111 RTL-162 re_diag: without a link, a frame for another station comes back with ROK and TimeOut in one read", () => {
  const rig = startCPlus(rig8139({ link: false }), TX, RX, 0xff0b, 0x2b);
  rig.w32(0x40, 0x0306_0700);
  rig.w32(0x54, 0x0400);
  rig.clock.advance(100_000_000);
  rig.w16(0x3e, 0xffff);
  rig.descriptor(RX, OWN_EOR | 0x7f8, BUFFERS);
  const frame = new Uint8Array(60).fill(0x5a);
  frame.set([0x00, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x00, 0x77, 0x6f, 0x72, 0x6c, 0x64, 0x08, 0x00]);
  rig.put(DATA, frame);
  rig.descriptor(TX, 0xf000_003c, DATA);
  rig.w8(0xd9, 0x40);
  rig.w32(0x48, 1);
  rig.clock.advance(100_000_000);
  assert.is(rig.r16(0x3e) & 0x4001, 0x4001);
  assert.is(rig.get32(RX) & 0x1fff, 64);
  assert.equal(rig.get(BUFFERS, 14), frame.subarray(0, 14));
  assert.is(rig.far.frames.length, 0);
});

// ------------------------------------------------------------------------------------------------ tally

test("RTL-133 RTL-134 RTL-136 8139cp's dump: high, low with the command, poll, zeros", () => {
  const rig = cplus(0x600, 0x0e);
  rig.w32(0x08, 0xffff_ffff);
  rig.descriptor(TX, 0xf000_003c, DATA);
  rig.w8(0xd9, 0x40);
  for (const to of [MAC, BROADCAST, Uint8Array.of(1, 0, 0x5e, 0, 0, 1)]) rig.deliver(frameTo(to));
  rig.put(0x8_0000, new Uint8Array(80).fill(0xee));
  rig.w32(0x14, 0);
  rig.w32(0x10, 0x8_0000 | 8);
  rig.r32(0x10);
  let polls = 0;
  while ((rig.r32(0x10) & 8) !== 0 && polls < 1000) polls++;
  assert.ok(polls < 1000);
  rig.w32(0x10, 0);
  rig.w32(0x14, 0);
  assert.equal([rig.r32(0x10), rig.r32(0x14)], [0, 0]);
  const at = (offset: number) => rig.get32(0x8_0000 + offset);
  // TxOk, RxOk, TxERR, RxERR, RxOkPhy, RxOkBrd, RxOkMul
  assert.equal([at(0), at(8), at(16), at(24), at(40), at(48), at(56)], [1, 3, 0, 0, 1, 1, 1]);
  assert.is(at(64), 0xeeee_eeee);
  // With the rings off the same accesses end, too: there 10h is a slot.
  rig.w16(0xe0, 0);
  rig.w32(0x14, 0);
  rig.w32(0x10, 0x8_0000 | 8);
  for (polls = 0; (rig.r32(0x10) & 8) !== 0 && polls < 1000; polls++) {}
  rig.w32(0x10, 0);
  assert.ok(polls <= 1000);
});

test("a tally address that is no RAM is a bus error, and the command ends", () => {
  const rig = cplus();
  rig.w32(0x14, 0);
  rig.w32(0x10, 0x4000_0008);
  assert.is(rig.r32(0x10), 0x4000_0000);
  assert.is(rig.r16(0x3e), 0x8000);
  rig.w16(0x3e, 0xffff);
  rig.card.configWrite(0x04, 2, 0x0003);
  rig.w32(0x10, 0x8_0008);
  assert.is(rig.r32(0x10), 0x8_0000);
  assert.is(rig.reports.at(-1)?.code, "bus-master-off");
});

// ------------------------------------------------------------------------------------------------ counters, unplugging

test("counters tell of what was done", () => {
  const rig = startOld(rig8139(), RX, 0x0a);
  rig.w16(0x3c, 0x0005);
  sendSlot(rig, 0, DATA, 100);
  rig.w16(0x3e, 0xffff);
  rig.deliver(frameTo(MAC, 80));
  rig.deliver(frameTo(PEER, 80));
  assert.equal(rig.card.counters(), {
    txFrames: 1,
    txBytes: 100,
    rxFrames: 1,
    rxBytes: 80,
    rxNoBuffer: 0,
    rxFiltered: 1,
    txDropped: 0,
    descriptorsRead: 1,
    bytesCopied: 80,
    doorbells: 1,
    interrupts: 2,
  });
});

test("an unplugged card answers and does nothing; plugged in again it begins anew", () => {
  const rig = startOld(rig8139(), RX, 0x0f);
  rig.card.disconnect();
  assert.is(rig.clock.timers, 0);
  assert.is(rig.card.net.offer(frameTo(MAC), 0, 60, null, 0), "dropped");
  rig.w8(0x37, 0x0c);
  sendSlot(rig, 0, DATA, 60);
  assert.is(rig.far.frames.length, 0);
  rig.card.connect(rig.seams("strict"));
  assert.is(rig.r8(0x37), 0x01);
  assert.is(rig.r8(0x58), 0xd0);
});

test("a second cable is refused", () => {
  const rig = rig8139();
  assert.throws(() => rig.card.net.attach(rig.far), /free port/);
  rig.card.net.attach(null);
  rig.card.net.attach(rig.far);
});

test("an offered frame that still needs work is not taken in the old mode", () => {
  const rig = startOld(rig8139(), RX, 0x0f);
  const offload = {
    needsCsum: true,
    csumStart: 34,
    csumOffset: 6,
    dataValid: false,
    gso: "none",
    gsoSize: 0,
    ecn: false,
  } as const;
  assert.is(rig.card.net.accepts().csum, false);
  assert.is(rig.card.net.offer(frameTo(BROADCAST), 0, 60, offload, 0), "dropped");
  assert.is(rig.card.net.offer(frameTo(BROADCAST), 0, 13, null, 0), "dropped");
});

test.run();
