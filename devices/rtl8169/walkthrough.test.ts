/** What real drivers do to the card, access by access, from attach to a frame each way. specs: walk-throughs of §13 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BROADCAST, frameTo, LINK_TIME, MAC, MS, PEER, Rig, US } from "./testing.js";

const TX = 0x10_0000;
const RX = 0x10_4000;
const TX_BUFFER = 0x20_0000;
const RX_BUFFER = 0x30_0000;
const OWN = 0x8000_0000;
const EOR = 0x4000_0000;

/** Polls `done` at most `polls` times, `gap` ns apart. */
const wait = (rig: Rig, polls: number, gap: number, done: () => boolean): void => {
  for (let i = 0; i < polls; i++) {
    if (done()) return;
    rig.clock.advance(gap);
  }
  throw new Error(`not within ${polls} polls`);
};

const resetChip = (rig: Rig, polls: number, gap: number): void => {
  rig.w8(0x37, 0x10);
  wait(rig, polls, gap, () => (rig.r8(0x37) & 0x10) === 0);
};

/** `count` receive descriptors with buffers of `size` bytes. */
const fillRx = (rig: Rig, count: number, size: number, ring = RX): void => {
  for (let i = 0; i < count; i++)
    rig.descriptor(ring + 16 * i, OWN + (i === count - 1 ? EOR : 0) + size, RX_BUFFER + 0x1000 * (i % 64));
};

const queueTx = (rig: Rig, index: number, last: number, frame: Uint8Array): void => {
  rig.put(TX_BUFFER + 0x800 * index, frame);
  rig.descriptor(
    TX + 16 * index,
    OWN + (index === last ? EOR : 0) + 0x3000_0000 + frame.length,
    TX_BUFFER + 0x800 * index,
  );
};

// ------------------------------------------------------------------------------------------------ Linux r8169

const linuxProbe = (rig: Rig): void => {
  rig.card.configWrite(0x04, 2, 0x0017);
  assert.is((rig.r32(0x40) >>> 20) & 0xfcf & 0xfc8, 0x100, "XID 100, VER_04");
  const cpcmd = rig.r16(0xe0);
  rig.w32(0x44, 0xe700);
  rig.w16(0x3c, 0);
  rig.w16(0x3e, 0xffff);
  rig.r8(0x37);
  resetChip(rig, 100, 100 * US);
  rig.w8(0x50, 0xc0);
  rig.w8(0x53, rig.r8(0x53) & ~0x20);
  rig.w8(0x50, 0x00);
  const mac = Array.from({ length: 6 }, (_, i) => rig.r8(i));
  assert.equal(mac, Array.from(MAC));
  linuxSetMac(rig, MAC);
  rig.r32(0x44);
  rig.w32(0x44, 0xe700 & ~0x30);
  rig.w16(0xe0, (cpcmd & 0x2063) | 0x60);
  rig.r8(0x37);
  assert.is(rig.phyRead(2), 0x001c);
  assert.is(rig.phyRead(3), 0xc912);
  assert.is(rig.phyRead(1) & 0x0108, 0x0108);
  assert.is(rig.phyRead(15), 0x3000);
  rig.phyWrite(14, 0x0200);
  rig.phyWrite(0, rig.phyRead(0) | 0x0800);
};

const linuxSetMac = (rig: Rig, mac: Uint8Array): void => {
  rig.w8(0x50, 0xc0);
  rig.w32(0x04, mac[4]! | (mac[5]! << 8));
  rig.r8(0x37);
  rig.w32(0x00, new DataView(mac.buffer).getUint32(0, true));
  rig.r8(0x37);
  rig.w8(0x50, 0x00);
};

const linuxOpen = (rig: Rig): void => {
  rig.phyWrite(14, 0);
  rig.phyWrite(0, rig.phyRead(0) & ~0x0800);
  const page = rig.phyRead(31);
  rig.phyWrite(31, 2);
  rig.phyWrite(1, 0x90d0);
  rig.phyWrite(31, page);
  rig.card.configWrite(0x0d, 1, 0x40);
  rig.card.configWrite(0x0c, 1, 0x08);
  rig.w8(0x82, 0x01);
  rig.phyWrite(0, rig.phyRead(0) | 0x8000 | 0x0200);
  wait(rig, 12, 50 * MS, () => (rig.phyRead(0) & 0x8000) === 0);
  rig.w16(0x3c, 0);
  rig.w16(0x3e, 0xffff);
  rig.r8(0x37);
  rig.w32(0x44, rig.r32(0x44) & ~0x3f);
  rig.r8(0x37);
  rig.w8(0x37, rig.r8(0x37) | 0x80);
  resetChip(rig, 100, 100 * US);
  fillRx(rig, 256, 0x3fff);
  for (let i = 0; i < 256; i++) rig.descriptor(TX + 16 * i, i === 255 ? EOR : 0, 0);
  const cpcmd = 0x60;
  rig.w8(0x50, 0xc0);
  rig.w16(0xe0, cpcmd);
  rig.w8(0xec, 0x3f);
  rig.w16(0xe0, cpcmd | 0x08);
  rig.w16(0xe2, 0);
  rig.w16(0xda, 0x4000);
  rig.w32(0x24, 0);
  rig.w32(0x20, TX);
  rig.w32(0xe8, 0);
  rig.w32(0xe4, RX);
  rig.w8(0x50, 0x00);
  rig.w8(0x50, 0xc0);
  rig.w8(0x50, 0x00);
  rig.r8(0x37);
  rig.w8(0x37, 0x0c);
  rig.w32(0x44, 0xe700);
  rig.w32(0x40, 0x0300_0700);
  rig.w32(0x44, rig.r32(0x44));
  rig.w32(0x0c, 0);
  rig.w32(0x08, 0);
  rig.w32(0x44, (rig.r32(0x44) & ~0x3f) | 0x0a);
  rig.w16(0x3c, 0x807f);
  if ((rig.r8(0x37) & 0x08) !== 0) {
    rig.w32(0x14, 0);
    rig.r8(0x37);
    rig.w32(0x10, 0x11_0000);
    rig.w32(0x10, 0x11_0000 | 0x08);
    wait(rig, 1000, 10 * US, () => (rig.r32(0x10) & 0x09) === 0);
  }
};

/** rtl8169_interrupt, then the poll. @returns the status */
const linuxInterrupt = (rig: Rig): number => {
  assert.is(rig.irq, true);
  const status = rig.r16(0x3e);
  assert.is.not(status, 0xffff);
  assert.is(status & 0x8000, 0);
  rig.w16(0x3c, 0);
  rig.w16(0x3e, status);
  assert.is(rig.irq, false);
  rig.w16(0x3c, 0x807f);
  return status;
};

test("RTL-135 Linux r8169: probe, open, LinkChg, and a frame each way with one doorbell and four accesses", () => {
  for (const bar of [0, 1] as const) {
    const rig = new Rig({ bar });
    linuxProbe(rig);
    rig.clock.advance(LINK_TIME);
    assert.is(rig.r8(0x6c), 0x04, "suspended PHY");
    linuxOpen(rig);
    assert.is(rig.r8(0x37), 0x0c);
    assert.is(rig.r32(0x44), 0xe70a);
    assert.is(rig.r32(0x40), 0x1300_0700);
    assert.is(rig.r16(0xe0), 0x0068);
    assert.is(rig.r16(0xda), 0x4000);
    assert.is(rig.irq, false);
    // phylib: the first look says no link; the interrupt says when to look again.
    if ((rig.phyRead(1) & 4) === 0) assert.is(rig.phyRead(1) & 4, 0);
    rig.clock.advance(LINK_TIME);
    assert.is(linuxInterrupt(rig), 0x0020);
    const first = rig.phyRead(1);
    assert.is((first & 4) !== 0 ? first : rig.phyRead(1), 0x796d);
    assert.is(rig.phyRead(9) & 0x0300, 0x0300);
    assert.is(rig.phyRead(10) & 0x0800, 0x0800);
    assert.is(rig.phyRead(0) & 0x8200, 0);

    const before = rig.card.accessCounters();
    queueTx(rig, 0, 255, frameTo(PEER, 100));
    rig.w8(0x38, 0x40);
    assert.equal(rig.far.frames, [frameTo(PEER, 100)]);
    assert.is(linuxInterrupt(rig) & ~0x80, 0x0004);
    const after = rig.card.accessCounters();
    const accesses = after.barReads + after.barWrites - before.barReads - before.barWrites;
    assert.is(accesses, 5, "one doorbell and four in the handler");
    assert.is(rig.get32(TX) >>> 31, 0);

    rig.deliver(frameTo(MAC, 200));
    assert.is(linuxInterrupt(rig), 0x0001);
    const status = rig.get32(RX);
    assert.is(status & 0x3fff, 204);
    assert.is(status & 0x0020_0000, 0, "no RES");
    assert.is(status & 0x3000_0000, 0x3000_0000, "one descriptor");
    assert.equal(rig.get(RX_BUFFER, 200), frameTo(MAC, 200));
  }
});

test("RTL-057 Linux sees the carrier go and come by LinkChg alone", () => {
  const rig = new Rig();
  linuxProbe(rig);
  linuxOpen(rig);
  rig.clock.advance(LINK_TIME);
  linuxInterrupt(rig);
  rig.card.setLink(false);
  assert.is(linuxInterrupt(rig), 0x0020);
  assert.is(rig.phyRead(1) & 4, 0);
  assert.is(rig.phyRead(1) & 4, 0);
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  assert.is(linuxInterrupt(rig), 0x0020);
  rig.phyRead(1);
  assert.is(rig.phyRead(1) & 4, 4);
});

test("RTL-158 a MAC changed while Linux's interface is down is there after the next open", () => {
  const rig = new Rig();
  linuxProbe(rig);
  linuxOpen(rig);
  const other = Uint8Array.of(0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee);
  resetChip(rig, 100, 100 * US);
  linuxSetMac(rig, other);
  linuxOpen(rig);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.deliver(frameTo(other)), "taken");
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
});

test("RTL-159 Linux suspends to D3hot and resumes: traffic is back after the card is set up again", () => {
  const rig = new Rig();
  linuxProbe(rig);
  linuxOpen(rig);
  resetChip(rig, 100, 100 * US);
  rig.phyWrite(14, 0x0200);
  const saved = Array.from({ length: 16 }, (_, i) => rig.card.configRead(4 * i, 4));
  rig.card.configWrite(0xe0, 2, 3);
  rig.clock.advance(1000 * MS);
  rig.card.configWrite(0xe0, 2, 0);
  for (const [i, value] of saved.entries()) rig.card.configWrite(4 * i, 4, value);
  linuxSetMac(rig, MAC);
  linuxOpen(rig);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.deliver(frameTo(MAC)), "taken");
  queueTx(rig, 0, 255, frameTo(PEER));
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1);
});

// ------------------------------------------------------------------------------------------------ FreeBSD re(4)

const EE = { mode: 0x80, cs: 0x08, sk: 0x04, di: 0x02 };

/** EE_SET and EE_CLR: read-modify-write of single wires. */
const wire = (rig: Rig, set: number, clear: number): void => {
  rig.w8(0x50, (rig.r8(0x50) | set) & ~clear);
};

/** re_eeprom_getword and re_eeprom_putbyte */
const freebsdWord = (rig: Rig, word: number, addressBits: number): number => {
  const { cs, sk, di, mode } = EE;
  const command = (0b110 << addressBits) | word;
  for (let mask = 1 << (addressBits + 3); mask !== 0; mask >>= 1) {
    if ((command & mask) !== 0) wire(rig, di, 0);
    else wire(rig, 0, di);
    wire(rig, sk, 0);
    wire(rig, 0, sk);
  }
  let value = 0;
  for (let mask = 0x8000; mask !== 0; mask >>= 1) {
    wire(rig, sk, 0);
    if ((rig.r8(0x50) & 1) !== 0) value |= mask;
    wire(rig, 0, sk);
  }
  assert.is(rig.r8(0x50) & (mode | cs), mode | cs);
  return value;
};

/** re_read_eeprom */
const freebsdRead = (rig: Rig, word: number, count: number, addressBits: number): number[] => {
  const words: number[] = [];
  rig.w8(0x50, (rig.r8(0x50) & ~0xc0) | EE.mode);
  for (let i = 0; i < count; i++) {
    wire(rig, EE.cs, 0);
    words.push(freebsdWord(rig, word + i, addressBits));
    wire(rig, 0, EE.cs);
  }
  rig.w8(0x50, rig.r8(0x50) & ~EE.mode);
  return words;
};

const freebsdReset = (rig: Rig): void => {
  resetChip(rig, 1000, 10 * US);
  rig.w8(0x82, 0x01);
};

const freebsdInit = (rig: Rig): void => {
  rig.w32(0x44, rig.r32(0x44) & ~0x0f);
  rig.w8(0x37, 0x00);
  rig.w16(0x3c, 0);
  rig.w16(0x3e, 0xffff);
  freebsdReset(rig);
  rig.w16(0xe0, 0x006b);
  rig.w8(0x50, 0xc0);
  rig.w32(0x00, new DataView(MAC.buffer).getUint32(0, true));
  rig.w32(0x04, MAC[4]! | (MAC[5]! << 8));
  rig.w8(0x50, 0x00);
  fillRx(rig, 256, 2040);
  for (let i = 0; i < 256; i++) rig.descriptor(TX + 16 * i, i === 255 ? EOR : 0, 0);
  rig.w32(0xe8, 0);
  rig.w32(0xe4, RX);
  rig.w32(0x24, 0);
  rig.w32(0x20, TX);
  rig.w8(0x37, 0x0c);
  rig.w32(0x40, 0x0300_0700);
  rig.w8(0xec, 0x10);
  rig.w32(0x08, 0);
  rig.w32(0x0c, 0);
  rig.w32(0x44, 0xff0a);
  rig.w16(0xe2, 0x5100);
  rig.w16(0x3c, 0xc07f);
  rig.w16(0x3e, 0xc07f);
  rig.w32(0x4c, 0);
  rig.w32(0x58, 0);
  rig.w16(0xda, 0x3fff);
  rig.w8(0x52, rig.r8(0x52) | 0x20); // locked: dropped
};

/** re_intr without taskqueue: six accesses when one pass is enough. @returns passes */
const freebsdInterrupt = (rig: Rig): number => {
  assert.is.not(rig.r16(0x3e), 0xffff);
  rig.w16(0x3c, 0);
  let passes = 0;
  for (let status = rig.r16(0x3e); (status & 0xc07f) !== 0; status = rig.r16(0x3e)) {
    assert.ok(++passes < 10);
    rig.w16(0x3e, status);
  }
  rig.w16(0x3c, 0xc07f);
  return passes;
};

test("RTL-045 RTL-113 FreeBSD re(4): attach with its EEPROM walk, init, media, traffic both ways in one pass", () => {
  const rig = new Rig();
  rig.w8(0x50, 0xc0);
  assert.is(rig.r8(0x53) & 0x20, 0);
  rig.w8(0x50, 0x00);
  const version = rig.r32(0x40);
  assert.is((version & 0x7000_0000) >>> 0, 0x1000_0000);
  assert.is((version & 0xfcc0_0000) >>> 0, 0x1000_0000, "8169SB/8110SB");
  freebsdReset(rig);
  rig.w8(0x50, 0xc0);
  rig.w8(0x52, rig.r8(0x52) | 0x01);
  rig.w8(0x56, rig.r8(0x56) & 0x01);
  rig.w8(0x50, 0x00);

  let addressBits = 8;
  if (freebsdRead(rig, 0, 1, addressBits)[0] !== 0x8129) addressBits = 6;
  assert.is(addressBits, 6);
  assert.equal(freebsdRead(rig, 7, 3, addressBits), [0x5452, 0x0300, 0x0099]);

  rig.phyWrite(31, 0);
  rig.phyWrite(14, 0);
  const bmsr = rig.phyRead(1);
  assert.ok(bmsr !== 0 && bmsr !== 0xffff && (bmsr & 0xff00) !== 0, "there is a PHY");
  // OUI 00E04C, model 11h, revision 2: rgephy without DSP upload.
  assert.is((rig.phyRead(2) << 6) | (rig.phyRead(3) >>> 10), 0x0732);
  assert.is((rig.phyRead(3) >>> 4) & 0x3f, 0x11);
  assert.is(rig.phyRead(3) & 0x0f, 2);
  rig.phyWrite(0, 0x8400);
  wait(rig, 100, 1000 * US, () => (rig.phyRead(0) & 0x8000) === 0);

  freebsdInit(rig);
  assert.is(rig.r32(0x44), 0xff0a);
  assert.is(rig.r16(0xe0), 0x006b);
  assert.is(rig.r16(0xe2), 0x5100);
  // rgephy_mii_phy_auto and the wait for the loss of link in front of it
  let polls = 0;
  while ((rig.phyRead(1) & 4) !== 0) assert.ok(++polls < 15_000);
  assert.ok(polls < 2, "the loss is seen at once");
  rig.phyWrite(4, 0x0de1);
  rig.phyWrite(9, 0x0300);
  rig.phyWrite(0, 0x1200);
  wait(rig, 10, 1000 * MS, () => (rig.r8(0x6c) & 0x02) !== 0);
  assert.is(rig.r8(0x6c) & 0x11, 0x11, "1000baseT full-duplex");
  assert.is(rig.phyRead(10) & 0x3000, 0x3000);
  freebsdInterrupt(rig);
  assert.is(rig.irq, false);

  const before = rig.card.accessCounters();
  queueTx(rig, 0, 255, frameTo(PEER, 60));
  rig.w8(0x38, 0x40);
  rig.deliver(frameTo(BROADCAST, 1514));
  assert.is(rig.irq, true);
  assert.is(freebsdInterrupt(rig), 1);
  const after = rig.card.accessCounters();
  assert.is(after.barReads + after.barWrites - before.barReads - before.barWrites, 1 + 6);
  assert.is(rig.irq, false);
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.get32(RX) & 0x3fff, 1518);
  assert.is(rig.get32(TX) & 0x8fff_0000, 0, "neither OWN nor anything that reads as an error");
});

test("RDU that is acknowledged without service does not come back by itself", () => {
  const rig = new Rig();
  freebsdInit(rig);
  rig.clock.advance(LINK_TIME);
  freebsdInterrupt(rig);
  rig.descriptor(RX, EOR, RX_BUFFER);
  rig.deliver(frameTo(BROADCAST));
  assert.is(freebsdInterrupt(rig), 1);
  assert.is(rig.irq, false);
});

// ------------------------------------------------------------------------------------------------ OpenBSD re(4)

test("RTL-155 OpenBSD re(4) reclaims by TimeOut: a doorbell, a write to TCTR, 61 µs", () => {
  const rig = new Rig();
  rig.startTx(TX);
  rig.w16(0xe0, 0x002b);
  rig.w32(0x58, 0x0800);
  rig.w16(0x3c, 0x4000 | 0x0080 | 0x0008 | 0x0001); // no TOK
  rig.w16(0x3e, 0xffff);
  for (let i = 0; i < 4; i++) {
    queueTx(rig, i, 3, frameTo(PEER, 60 + i));
    rig.w8(0x38, 0x40);
    rig.w16(0x3e, 0x0080); // suppose that TDU had been acknowledged already
    rig.w32(0x48, 0x01);
    assert.is(rig.irq, false);
    rig.clock.advance(62 * US);
    assert.is(rig.irq, true);
    const status = rig.r16(0x3e);
    assert.is(status & 0x4000, 0x4000);
    rig.w16(0x3e, status);
    assert.is(rig.r16(0x3e), 0);
    assert.is(rig.get32(TX + 16 * i) >>> 31, 0);
  }
});

// ------------------------------------------------------------------------------------------------ iPXE

test("RTL-015 RTL-062 RTL-097 iPXE: finds an RTL8169, brings the link up, polls with IMR 0", () => {
  const rig = new Rig();
  resetChip(rig, 100, MS);
  rig.w16(0xda, 0x05f6);
  assert.is(rig.r16(0xda), 0x05f6, "so it is an RTL8169");
  const cpcr = rig.r16(0xe0);
  rig.w16(0xe0, (cpcr | 0x001b) & ~0x0040);
  assert.is(rig.r16(0xe0), (cpcr | 0x001b) & ~0x0040);
  assert.equal(
    Array.from({ length: 6 }, (_, i) => rig.r8(i)),
    Array.from(MAC),
  );
  rig.phyWrite(0, 0x9000);
  wait(rig, 500, US, () => (rig.phyRead(0) & 0x8000) === 0);
  rig.phyWrite(0, rig.phyRead(0) | 0x1200);
  rig.phyWrite(9, rig.phyRead(9) | 0x0300);
  rig.phyWrite(14, 0);
  rig.phyWrite(0, rig.phyRead(0) | 0x1200);
  let up = (rig.r8(0x6c) & 0x02) !== 0;

  const [tx, rx] = [TX, RX];
  for (let i = 0; i < 4; i++) rig.descriptor(tx + 16 * i, i === 3 ? EOR : 0, 0);
  rig.w32(0x24, 0);
  rig.w32(0x20, tx);
  rig.w32(0xe8, 0);
  rig.w32(0xe4, rx);
  rig.w32(0x08, 0xffff_ffff);
  rig.w32(0x0c, 0xffff_ffff);
  rig.w8(0x37, 0x0c);
  rig.w32(0x40, rig.r32(0x40) | 0x0700);
  rig.r32(0x44);
  rig.w32(0x44, 0xe78f);
  assert.is(rig.r32(0x44), 0xe78f);
  fillRx(rig, 4, 1526);
  const poll = (): number => {
    const status = rig.r16(0x3e);
    if (status !== 0) rig.w16(0x3e, status);
    if ((status & 0x20) !== 0) up = (rig.r8(0x6c) & 0x02) !== 0;
    return status;
  };
  for (let i = 0; !up && i < 1000; i++) {
    rig.clock.advance(MS);
    poll();
  }
  assert.is(up, true);
  for (let i = 0; i < 6; i++) {
    queueTx(rig, i % 4, 3, frameTo(BROADCAST, 342, i));
    rig.w8(0x38, 0x40);
    assert.is(poll() & 0x04, 0x04);
    assert.is(rig.get32(tx + 16 * (i % 4)) >>> 31, 0);
    for (const to of [BROADCAST, MAC, Uint8Array.of(1, 0, 0x5e, 1, 2, 3), PEER]) rig.deliver(frameTo(to, 342, i));
    assert.is(poll() & 0x01, 0x01);
    for (let j = 0; j < 4; j++) {
      assert.is(rig.get32(rx + 16 * j) & 0x8020_3fff, 346);
      rig.descriptor(rx + 16 * j, OWN + (j === 3 ? EOR : 0) + 1526, RX_BUFFER + 0x1000 * j);
    }
  }
  assert.is(rig.rises, 0);
  rig.w8(0x37, 0);
  for (const at of [0x20, 0x24, 0xe4, 0xe8]) rig.w32(at, 0);
});

// ------------------------------------------------------------------------------------------------ U-Boot

test("RTL-063 RTL-085 U-Boot: probe, autonegotiation, start, a send that it watches in memory only", () => {
  const rig = new Rig();
  resetChip(rig, 1000, 10 * US);
  const version = rig.r32(0x40);
  assert.is(((version & 0x7c00_0000) + ((version & 0x0080_0000) << 2)) >>> 24, 0x10);
  for (let i = 0; i < 6; i++) assert.is(rig.r8(i), MAC[i]);
  assert.is(rig.r8(0x6c) & 0x80, 0, "copper");
  rig.phyWrite(4, 0x01e0 | (rig.phyRead(4) & 0x1f));
  rig.phyWrite(9, 0x0200);
  rig.phyWrite(0, 0x1200);
  wait(rig, 10_000, 100 * US, () => (rig.phyRead(1) & 0x20) !== 0);
  assert.is(rig.r8(0x6c) & 0x10, 0x10, "1000 Mb/s");
  rig.w32(0xf0, rig.r32(0xf0) & ~0x8_0000);

  rig.w8(0x50, 0xc0);
  rig.w8(0x37, 0x0c); // before the rings are there
  assert.is(rig.deliver(frameTo(BROADCAST)), "dropped");
  rig.w8(0xec, 0x3f);
  rig.w16(0xda, 0x0800);
  rig.w32(0x44, (rig.r32(0x44) & 0xff7e_1880) | 0xe600);
  rig.w32(0x40, 0x0300_0600);
  rig.descriptor(TX, EOR, TX_BUFFER);
  fillRx(rig, 4, 1536);
  rig.w32(0x20, TX);
  rig.w32(0x24, 0);
  rig.w32(0xe4, RX);
  rig.w32(0xe8, 0);
  rig.w8(0x50, 0x00);
  rig.w32(0x4c, 0);
  rig.w32(0x44, rig.r32(0x44) | 0x0e);
  rig.w32(0x08, 0xffff_ffff);
  rig.w32(0x0c, 0xffff_ffff);
  rig.w16(0x5c, rig.r16(0x5c) & 0xf000);
  assert.is(rig.r32(0x44), 0xe60e);

  for (let i = 0; i < 5; i++) {
    queueTx(rig, 0, 0, frameTo(PEER, 60 + i));
    rig.w8(0x38, 0x40);
    assert.is(rig.get32(TX) >>> 31, 0);
    assert.is(rig.deliver(frameTo(MAC, 500 + i)), "taken");
    const at = RX + 16 * (i % 4);
    assert.is(rig.get32(at) & 0x8020_3fff, 504 + i);
    rig.descriptor(at, OWN + (i % 4 === 3 ? EOR : 0) + 1536, RX_BUFFER + 0x1000 * (i % 4));
    const status = rig.r16(0x3e);
    rig.w16(0x3e, status & ~0x800a);
  }
  assert.is(rig.far.frames.length, 5);
});

// ------------------------------------------------------------------------------------------------ DragonFly re(4)

test("RTL-161 DragonFly's early re(4): auto-load of the MAC through the I/O window, then re_diag's loop", () => {
  const rig = new Rig({ bar: 0 });
  resetChip(rig, 1000, 10 * US);
  rig.w8(0x82, 0x01);
  rig.w8(0x50, 0x40);
  wait(rig, 1000, 100 * US, () => (rig.r8(0x50) & 0x40) === 0);
  assert.equal(
    Array.from({ length: 6 }, (_, i) => rig.r8(i)),
    Array.from(MAC),
  );

  fillRx(rig, 4, 2040);
  rig.descriptor(TX, EOR, 0);
  rig.w16(0xe0, 0x002b);
  rig.w32(0xe8, 0);
  rig.w32(0xe4, RX);
  rig.w32(0x24, 0);
  rig.w32(0x20, TX);
  rig.w8(0x37, 0x0c);
  rig.w32(0x40, 0x0302_0700);
  rig.w8(0xec, 0x10);
  rig.w32(0x44, 0xff0b);
  rig.w16(0x3c, 0);
  rig.w32(0x58, 0x0800);
  rig.w16(0xda, 0x3fff);
  rig.clock.advance(100 * MS);
  rig.w16(0x3e, 0xffff);
  const frame = frameTo(Uint8Array.of(0x00, 0x68, 0x65, 0x6c, 0x6c, 0x6f));
  queueTx(rig, 0, 0, frame);
  rig.w8(0x38, 0x40);
  rig.w32(0x48, 0x01);
  rig.clock.advance(100 * MS);
  let both = false;
  for (let i = 0; i < 1000 && !both; i++) {
    const status = rig.r16(0x3e);
    both = (status & 0x4001) === 0x4001;
    rig.w16(0x3e, status);
    rig.clock.advance(10 * US);
  }
  assert.is(both, true, "ROK and TimeOut in one reading");
  assert.is(rig.get32(RX) & 0x3fff, 64);
  assert.equal(rig.get(RX_BUFFER, 14), frame.subarray(0, 14));
  assert.is(rig.far.frames.length, 0);
});

test.run();
