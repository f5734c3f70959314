/** What a write to one register of an RTL8139 does by itself, what CR.RST and snapshots leave, and its doorbells. Raw numbers. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { rig8139, sendSlot, startCPlus, startOld } from "./testing/8139.js";
import { BROADCAST, frameTo, LINK_TIME, MAC, MS, type Rig } from "./testing.js";

const TX = 0x1_0000;
const HIGH = 0x1_0400;
const RX = 0x1_1000;
const DATA = 0x2_0000;
const BUFFERS = 0x4_0000;

/** Bit 31 and bit 62 of the hash table. */
const ALL_HOSTS = Uint8Array.of(0x01, 0x00, 0x5e, 0x00, 0x00, 0x01);
const ALL_NODES = Uint8Array.of(0x33, 0x33, 0x00, 0x00, 0x00, 0x01);

/** Frames of 60 bytes for both transmit rings, each in one descriptor. */
const filled = (rig: Rig): Rig => {
  rig.w32(0x28, HIGH);
  rig.w32(0x2c, 0);
  rig.put(DATA, frameTo(BROADCAST, 60, 1));
  rig.put(DATA + 0x100, frameTo(BROADCAST, 60, 2));
  rig.descriptor(TX, 0xf000_003c, DATA);
  rig.descriptor(HIGH, 0xf000_003c, DATA + 0x100);
  return rig;
};

// ------------------------------------------------------------------------------------------------ one register alone

test("RTL-090 RTL-092 RTL-093 RCR, either half of MAR and either half of IDR count from their own write on", () => {
  const rig = startOld(rig8139({ chip: "RTL8139C" }), RX, 0x00);
  const takes = (to: Uint8Array): boolean => {
    const verdict = rig.deliver(frameTo(to));
    rig.w16(0x38, rig.r16(0x3a) - 16);
    return verdict === "taken";
  };
  assert.is(takes(MAC), false);
  rig.w32(0x44, 0x06);
  assert.is(takes(MAC), true);
  assert.equal([takes(ALL_HOSTS), takes(ALL_NODES)], [false, false]);
  rig.w32(0x08, 0x8000_0000);
  assert.equal([takes(ALL_HOSTS), takes(ALL_NODES)], [true, false]);
  rig.w32(0x0c, 0x4000_0000);
  assert.equal([takes(ALL_HOSTS), takes(ALL_NODES)], [true, true]);
  rig.w32(0x08, 0);
  assert.equal([takes(ALL_HOSTS), takes(ALL_NODES)], [false, true]);
  rig.w8(0x50, 0xc0);
  const other = Uint8Array.from(MAC);
  other[0] = 0x02;
  rig.w8(0x00, 0x02);
  assert.equal([takes(MAC), takes(other)], [false, true]);
  other[5] = 0x77;
  assert.is(takes(other), false);
  rig.w8(0x05, 0x77);
  assert.is(takes(other), true);
});

test("RBSTART counts from its own write on, and where the ring goes on is kept", () => {
  const rig = startOld(rig8139({ chip: "RTL8139C" }), RX, 0x0f);
  rig.deliver(frameTo(MAC));
  rig.w32(0x30, BUFFERS);
  rig.deliver(frameTo(MAC));
  assert.is(rig.get32(BUFFERS), 0);
  assert.is(rig.get32(BUFFERS + 0x44), 0x0040_4001);
  assert.is(rig.get32(RX + 0x44), 0);
});

test("a ring made smaller takes both pointers with it", () => {
  const rig = startOld(rig8139({ chip: "RTL8139C" }), RX, 0x080f);
  for (let i = 0; i < 6; i++) {
    assert.is(rig.deliver(frameTo(MAC, 0x5f8)), "taken");
    rig.w16(0x38, rig.r16(0x3a) - 16);
  }
  assert.is(rig.r16(0x3a), 0x2400);
  rig.w32(0x44, 0x000f); // 16 KiB, and now 8
  assert.is(rig.r16(0x3a), 0x0400);
  assert.is(rig.r16(0x38), 0x03f0);
  assert.is(rig.r8(0x37), 0x0d);
});

test("RTL-043 after auto-load the filter is that of the EEPROM's address again", () => {
  const rig = startOld(rig8139(), RX, 0x0a);
  const other = Uint8Array.of(0x02, 1, 2, 3, 4, 5);
  rig.w8(0x50, 0xc0);
  rig.w32(0x00, 0x0302_0102);
  rig.w16(0x04, 0x0504);
  assert.is(rig.deliver(frameTo(other)), "taken");
  rig.w8(0x50, 0x40);
  assert.is(rig.deliver(frameTo(other)), "dropped");
  assert.is(rig.deliver(frameTo(MAC)), "taken");
});

test("RTL-142 reading BMCR takes no lost link away from BMSR, and reading BMSR's first byte does", () => {
  const rig = rig8139();
  const bounce = (): void => {
    rig.card.setLink(false);
    rig.card.setLink(true);
    rig.clock.advance(LINK_TIME);
  };
  bounce();
  rig.r16(0x62);
  rig.r32(0x60);
  rig.r8(0x63);
  rig.r16(0x66);
  assert.is(rig.r8(0x64), 0x29);
  assert.is(rig.r8(0x64), 0x2d);
  bounce();
  assert.is(rig.r32(0x64), 0x01e1_7829);
  assert.is(rig.r32(0x64), 0x01e1_782d);
});

test("RTL-142 ANAR is kept in both bytes: what it can say of pause, too", () => {
  const rig = rig8139();
  rig.w16(0x66, 0x0de1);
  assert.is(rig.r16(0x66), 0x0de1);
  rig.w8(0x67, 0x01);
  assert.is(rig.r16(0x66), 0x01e1);
});

test("reading what does not change by itself leaves no trace in a snapshot, whatever the time", () => {
  const rig = rig8139();
  rig.clock.advance(1_000_000);
  const before = rig.card.save();
  for (let at = 0; at < 0x100; at++) {
    if (at >= 0x48 && at < 0x6c) continue; // from TCTR to ANER
    rig.r8(at);
    assert.equal(rig.card.save(), before, at.toString(16));
  }
  rig.r32(0x44);
  assert.equal(rig.card.save(), before);
});

test("a write to another register does not put off a TimeOut that is due", () => {
  const rig = rig8139();
  rig.w32(0x54, 0x0400);
  rig.w32(0x48, 1);
  rig.clock.set(1024 * 30); // the host's timers come late
  rig.w32(0x08, 0);
  rig.w32(0x4c, 0);
  rig.clock.advance(1);
  assert.is(rig.r16(0x3e), 0x4000);
});

test("RTL-142 a byte of BMCR leaves the other one", () => {
  const rig = rig8139();
  rig.w8(0x50, 0xc0);
  rig.w8(0x62, 0xff);
  assert.is(rig.r16(0x62), 0x1000);
  rig.w8(0x63, 0x01);
  rig.w8(0x62, 0x00);
  assert.is(rig.r16(0x62), 0x0100);
  rig.w32(0x60, 0x2000_ffff);
  assert.is(rig.r16(0x62), 0x2000);
});

test("a ring of the C+ mode that is not aligned to 256 bytes is told of; in the old mode 20h and 28h are addresses", () => {
  for (const at of [0x20, 0x28, 0xe4]) {
    const rig = rig8139();
    rig.w32(at, 0x1_0080);
    assert.equal(rig.reports, []);
    rig.w16(0xe0, 0x0003);
    rig.w32(at, 0x1_0100);
    rig.w32(at + 4, 0x80);
    assert.equal(rig.reports, []);
    rig.w32(at, 0x1_0080);
    assert.equal(
      rig.reports.map(({ code, value }) => [code, value]),
      [["ring-misaligned", 0x1_0080]],
    );
  }
});

// ------------------------------------------------------------------------------------------------ reset and snapshots

for (const chip of ["RTL8139C+", "RTL8139C"] as const)
  test(`RTL-016 CR.RST makes of whatever was written what power-on makes, but for what it keeps: ${chip}`, () => {
    const kept = (at: number): boolean =>
      at < 6 || (at >= 0x08 && at < 0x10) || at === 0x51 || at === 0x52 || at === 0x59 || at === 0x5a || at === 0xd8;
    /** the PHY is not reset, nor what it shows of the link, nor the time since */
    const phy = (at: number): boolean => (at >= 0x62 && at < 0x6c) || at === 0x58 || at === 0x75;
    const rig = rig8139({ chip });
    const fresh = rig8139({ chip });
    rig.w8(0x50, 0xc0);
    for (let at = 0; at < 0x100; at++) if (at !== 0x37 && at !== 0x50 && !phy(at)) rig.w8(at, 0xff);
    const written = Uint8Array.from({ length: 0x100 }, (_, at) => rig.r8(at));
    rig.w8(0x37, 0x10);
    for (let at = 0; at < 0x100; at++) {
      if (phy(at)) continue;
      assert.is(rig.r8(at), kept(at) ? written[at] : fresh.r8(at), at.toString(16));
    }
    assert.is(rig.r16(0x04), 0xffff);
    assert.is(rig.r32(0x0c), 0xffff_ffff);
  });

test("behind CR.RST no ring has a place: doorbells and frames find none", () => {
  const rig = filled(startCPlus(rig8139(), TX, RX));
  rig.descriptor(RX, 0xc000_0600, BUFFERS);
  rig.w8(0x37, 0x10);
  rig.w16(0xe0, 0x000b);
  rig.w8(0x37, 0x0c);
  rig.w32(0x44, 0x0a);
  rig.w8(0xd9, 0xc0);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.r16(0x3e), 0);
  assert.equal(rig.far.frames, []);
  assert.equal(rig.reports, []);
});

test("RTL-017 behind CR.RST both sides stand still until CR says otherwise, and begin anew", () => {
  const rig = startOld(rig8139({ chip: "RTL8139C" }), RX, 0x0a);
  rig.deliver(frameTo(MAC));
  rig.w8(0x37, 0x10);
  rig.w32(0x30, RX);
  rig.w32(0x44, 0x0a);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  sendSlot(rig, 0, DATA, 60);
  assert.is(rig.far.frames.length, 0);
  rig.w8(0x37, 0x0c);
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.deliver(frameTo(MAC)), "taken");
  assert.is(rig.r16(0x3a), 0x44);
});

test("MPC counts to FF_FFFFh and begins again", () => {
  const rig = startOld(rig8139({ chip: "RTL8139C" }), RX, 0x0a);
  const saved = rig.card.save() as { model: { registers: Uint8Array } };
  const registers = Uint8Array.from(saved.model.registers);
  registers.fill(0xff, 0x4c, 0x4f);
  rig.card.load({ ...saved, model: { ...saved.model, registers } } as never);
  assert.is(rig.r32(0x4c), 0x00ff_ffff);
  rig.card.configWrite(0x04, 2, 0x0003);
  rig.deliver(frameTo(MAC));
  assert.is(rig.r32(0x4c), 0);
});

test("a snapshot takes the lock of the configuration with it, shut or open", () => {
  for (const mode of [0x00, 0xc0]) {
    const rig = rig8139();
    rig.w8(0x50, mode);
    const other = rig8139();
    other.w8(0x50, mode ^ 0xc0);
    other.card.load(rig.card.save());
    other.w8(0x52, 0x73);
    assert.is(other.r8(0x52), mode === 0 ? 0x0c : 0x7f);
    other.w16(0x62, 0x2100);
    assert.is(other.r16(0x62), mode === 0 ? 0x1000 : 0x2100);
  }
});

test("a snapshot of a running card sends, receives and raises its line at once", () => {
  const rig = startOld(rig8139({ chip: "RTL8139C" }), RX, 0x0a);
  rig.w16(0x3c, 0x0005);
  rig.deliver(frameTo(MAC));
  const other = rig8139({ chip: "RTL8139C" });
  other.card.load(rig.card.save());
  assert.is(other.irq, true);
  sendSlot(other, 0, DATA, 60);
  assert.is(other.far.frames.length, 1);
  assert.is(other.deliver(frameTo(MAC)), "taken");
  assert.is(other.r16(0x3a), 0x88);
  other.w8(0x37, 0x0c); // no edge: the ring goes on
  assert.is(other.r16(0x3a), 0x88);
});

test("a snapshot of a C+ goes on where its three rings stood", () => {
  const rig = startCPlus(rig8139(), TX, RX);
  rig.w32(0x28, HIGH);
  const fill = (card: Rig): void => {
    for (let i = 0; i < 4; i++) {
      card.descriptor(TX + 16 * i, 0xb000_003c, DATA);
      card.descriptor(HIGH + 16 * i, 0xb000_003c, DATA);
      card.descriptor(RX + 16 * i, 0x8000_0600, BUFFERS + 0x1000 * i);
    }
  };
  fill(rig);
  rig.descriptor(TX + 16, 0, 0);
  rig.descriptor(HIGH + 32, 0, 0);
  rig.w8(0xd9, 0xc0); // one and two
  for (let i = 0; i < 3; i++) rig.deliver(frameTo(MAC));
  const other = rig8139();
  other.card.load(rig.card.save());
  fill(other);
  other.w8(0xd9, 0x40);
  other.w8(0xd9, 0x80);
  other.deliver(frameTo(MAC));
  const owned = (ring: number) => [0, 1, 2, 3].map((i) => other.get32(ring + 16 * i) >>> 31);
  assert.equal(owned(TX), [1, 0, 0, 0]);
  assert.equal(owned(HIGH), [1, 1, 0, 0]);
  assert.equal(owned(RX), [1, 1, 1, 0]);
});

// ------------------------------------------------------------------------------------------------ doorbells

test("RTL-143 each poll bit stands while its queue waits, counts as one doorbell, and nothing else counts", () => {
  const rig = filled(startCPlus(rig8139(), TX, RX));
  rig.work.policy = "deferred";
  rig.w8(0xd9, 0x01); // FSWInt asks for no queue
  assert.is(rig.card.counters().doorbells, 0);
  rig.w8(0xd9, 0x40);
  assert.is(rig.r8(0xd9), 0x40);
  rig.w16(0x3c, 0x0005);
  rig.w16(0x3e, 0xffff);
  rig.w32(0x44, 0x0a);
  rig.w32(0x4c, 0);
  assert.is(rig.card.counters().doorbells, 1);
  rig.w8(0xd9, 0x80);
  assert.is(rig.r8(0xd9), 0xc0);
  assert.is(rig.card.counters().doorbells, 2);
  rig.work.run();
  assert.is(rig.r8(0xd9), 0);
  assert.is(rig.far.frames.length, 2);
});

test("TE going and coming back starts both C+ rings at descriptor 0; TE written again does not", () => {
  for (const [bit, base] of [
    [0x40, TX],
    [0x80, HIGH],
  ] as const) {
    const rig = filled(startCPlus(rig8139(), TX, RX));
    const owned = () => [0, 1].map((i) => rig.get32(base + 16 * i) >>> 31);
    const fill = (): void => {
      for (let i = 0; i < 2; i++) rig.descriptor(base + 16 * i, 0xb000_003c, DATA);
    };
    rig.descriptor(base, 0xb000_003c, DATA);
    rig.w8(0xd9, bit);
    rig.w8(0x37, 0x0c);
    fill();
    rig.descriptor(base + 32, 0, 0);
    rig.w8(0xd9, bit);
    assert.equal(owned(), [1, 0]);
    rig.w8(0x37, 0x08);
    rig.w8(0x37, 0x0c);
    fill();
    rig.descriptor(base + 16, 0, 0);
    rig.w8(0xd9, bit);
    assert.equal(owned(), [0, 0]);
  }
});

test("RTL-144 CPTX taken away forgets a doorbell that is not worked yet", () => {
  const rig = filled(startCPlus(rig8139(), TX, RX));
  rig.work.policy = "deferred";
  rig.w8(0xd9, 0xc0);
  rig.w16(0xe0, 0x000a);
  assert.is(rig.r8(0xd9), 0);
  rig.w16(0xe0, 0x000b);
  rig.work.run();
  assert.equal(rig.far.frames, []);
  rig.w8(0xd9, 0x40);
  rig.work.run();
  assert.is(rig.far.frames.length, 1);
});

for (const [bit, seed] of [
  [0x40, 1],
  [0x80, 2],
] as const)
  test(`TPPoll ${bit.toString(16)}h: a far end that answers later is asked again when it is ready, or after a while`, () => {
    for (const again of [(rig: Rig) => rig.card.net.ready(0), (rig: Rig) => rig.clock.advance(MS)]) {
      const rig = filled(startCPlus(rig8139(), TX, RX));
      rig.far.verdict = "later";
      rig.w8(0xd9, bit);
      assert.is(rig.r8(0xd9), bit);
      assert.equal(rig.far.frames, []);
      rig.far.verdict = "taken";
      again(rig);
      assert.equal(rig.far.frames, [frameTo(BROADCAST, 60, seed)]);
      assert.is(rig.r8(0xd9), 0);
      rig.card.net.ready(0);
      rig.clock.advance(MS);
      assert.is(rig.far.offers.length, 2);
    }
  });

test("a ring that nobody rang for is not worked when the far end is ready", () => {
  const rig = filled(startCPlus(rig8139(), TX, RX));
  rig.card.net.ready(0);
  assert.equal(rig.far.frames, []);
  assert.equal([...rig.work.ready], []);
});

test("a held frame is asked for again when the driver looks at ISR or IMR, once there is room", () => {
  for (const at of [0x3c, 0x3e]) {
    const rig = startCPlus(rig8139(), TX, RX);
    rig.far.holds = true;
    assert.is(rig.deliver(frameTo(MAC)), "later");
    rig.w16(at, 0);
    assert.equal(rig.far.readies, []);
    rig.descriptor(RX, 0xc000_0600, BUFFERS);
    rig.w16(at, 0);
    assert.equal(rig.far.readies, [0]);
    assert.is(rig.deliver(frameTo(MAC)), "taken");
    rig.w16(at, 0);
    assert.equal(rig.far.readies, [0]);
  }
});

test("a held frame is let go when the receiver stops, is reset or changes its mode", () => {
  for (const act of [
    (rig: Rig) => rig.w8(0x37, 0x04),
    (rig: Rig) => rig.w8(0x37, 0x10),
    (rig: Rig) => rig.card.setLink(false),
    (rig: Rig) => rig.card.disconnect(),
  ]) {
    const rig = startCPlus(rig8139(), TX, RX);
    rig.far.holds = true;
    assert.is(rig.deliver(frameTo(MAC)), "later");
    act(rig);
    assert.equal(rig.far.readies, [0]);
    assert.is(rig.deliver(frameTo(MAC)), "dropped");
  }
});

test("a cable that goes takes with it what its far end held, and what waited for it is lost", () => {
  for (const bit of [0x40, 0x80]) {
    const rig = filled(startCPlus(rig8139(), TX, RX));
    rig.far.holds = true;
    assert.is(rig.deliver(frameTo(MAC)), "later");
    rig.far.verdict = "later";
    rig.w8(0xd9, bit);
    rig.card.net.attach(null);
    assert.is(rig.r8(0xd9), 0);
    assert.is(rig.card.counters().txDropped, 1);
    rig.far.verdict = "taken";
    rig.card.net.attach(rig.far);
    rig.descriptor(RX, 0xc000_0600, BUFFERS);
    rig.w16(0x3e, 0xffff);
    rig.clock.advance(MS);
    assert.equal(rig.far.readies, []);
    assert.equal(rig.far.frames, []);
  }
});

test("10h–1Fh change with the mode, and what stands behind them does not", () => {
  const rig = rig8139();
  for (const at of [0x20, 0x24, 0x28, 0x2c]) rig.w32(at, 0x100 * at);
  for (const mode of [0x0003, 0x0000]) {
    rig.w16(0xe0, mode);
    assert.is(rig.r32(0x1c), mode === 0 ? 0x2000 : 0);
    for (const at of [0x20, 0x24, 0x28, 0x2c]) assert.is(rig.r32(at), 0x100 * at);
  }
});

test("unplugged it tells nobody of mistakes, asks for no turn and moves no memory", () => {
  const rig = startCPlus(rig8139(), TX, RX);
  rig.card.disconnect();
  rig.written.length = rig.reports.length = 0;
  rig.w32(0x30, 3);
  startCPlus(rig, TX + 8, RX);
  rig.descriptor(TX, 0xf000_003c, DATA);
  rig.w8(0xd9, 0xc0);
  rig.w32(0x10, 0x8_0008);
  assert.equal([...rig.work.ready], []);
  assert.equal(rig.reports, []);
  assert.equal(rig.written, []);
  assert.is(rig.irq, false);
});

test("in the old mode the far end's batch ends once a turn, and only where something was offered", () => {
  const rig = startOld(rig8139({ chip: "RTL8139C" }), RX, 0x0a);
  sendSlot(rig, 0, DATA, 60);
  assert.is(rig.far.batches, 1);
  rig.card.setLink(false);
  sendSlot(rig, 1, DATA, 60);
  assert.is(rig.far.batches, 1);
});

test.run();
