/** What tells the chips of the family apart, in raw numbers. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../../src/bytes/index.js";
import { type ChipName, rtl8169 } from "./index.js";
import { LINK_TIME, Rig, US } from "./testing.js";

/** device, version bits of TCR, PHY identifier; spec §2.1, §5.2 */
const CHIPS: readonly (readonly [chip: ChipName, device: number, version: number, phyId2: number])[] = [
  ["RTL8169", 0x8169, 0x0000_0000, 0xc910],
  ["RTL8169S", 0x8169, 0x0080_0000, 0xc910],
  ["RTL8110S", 0x8169, 0x0400_0000, 0xc910],
  ["RTL8169SB", 0x8169, 0x1000_0000, 0xc912],
  ["RTL8169SC", 0x8167, 0x1800_0000, 0xc912],
  ["RTL8169SCe", 0x8167, 0x9800_0000, 0xc912],
];

test("each chip shows its own device, version bits and PHY", () => {
  for (const [chip, device, version, phyId2] of CHIPS) {
    const rig = new Rig({ chip });
    assert.is(rig.card.configRead(0x00, 4), device * 0x1_0000 + 0x10ec, chip);
    assert.is(rig.card.configRead(0x08, 1), 0x10, chip);
    assert.is(rig.card.configRead(0x2e, 2), device, "subsystem, from the EEPROM");
    assert.is(rig.r32(0x40), version, chip);
    rig.w32(0x40, 0xffff_ffff);
    rig.w8(0x37, 0x10);
    assert.is(rig.r32(0x40), version, `${chip} after CR.RST`);
    assert.equal([rig.phyRead(2), rig.phyRead(3)], [0x001c, phyId2], chip);
  }
});

test("RTL-140 7Ch stores what drivers write on both spins of the 8169SC, at either clock", () => {
  for (const [chip, magic] of [
    ["RTL8169SC", 0x000f_ff00],
    ["RTL8169SC", 0x000f_ffff],
    ["RTL8169SCe", 0x00ff_ff00],
    ["RTL8169SCe", 0x00ff_ffff],
  ] as const) {
    const rig = new Rig({ chip, pciClock: (magic & 0xff) !== 0 ? 66 : 33 });
    assert.is(rig.r8(0x53) & 0x07, (magic & 0xff) !== 0 ? 1 : 0, "what the drivers look at");
    rig.w32(0x7c, magic);
    assert.is(rig.r32(0x7c), magic);
    rig.w16(0xe2, 0);
    rig.w16(0xe2, 0x5100);
    assert.is(rig.r16(0xe2), 0x5100);
  }
});

test("at 66 MHz a PCI clock is 15 ns, for TCTR and for TimerInt", () => {
  const rig = new Rig({ pciClock: 66 });
  rig.w8(0x50, 0xc0);
  rig.w8(0x53, 0xff);
  assert.is(rig.r8(0x53) & 0x07, 1, "the chip found it so, and nobody changes it");
  rig.w32(0x48, 0);
  rig.clock.advance(15 * US);
  assert.is(rig.r32(0x48), 1000);
  rig.w32(0x58, 2000);
  rig.clock.advance(15 * US - 1);
  assert.is(rig.r16(0x3e) & 0x4000, 0);
  rig.clock.advance(1);
  assert.is(rig.r16(0x3e) & 0x4000, 0x4000);
});

test("register 14 bit 9 puts an RTL8211B to sleep; on an RTL8211 it is only stored, for Linux sets it at a forced 100 Mb/s", () => {
  for (const [chip, , , phyId2] of CHIPS) {
    const rig = new Rig({ chip });
    rig.clock.advance(LINK_TIME);
    assert.is(rig.r8(0x6c) & 0x02, 0x02, chip);
    rig.phyWrite(0x0e, 0x0260);
    assert.is(rig.phyRead(0x0e), 0x0260, chip);
    assert.is(rig.r8(0x6c) & 0x02, phyId2 === 0xc912 ? 0 : 0x02, chip);
  }
});

test("a snapshot goes back into the same chip only", () => {
  const saved = new Rig({ chip: "RTL8169SC" }).card.save();
  new Rig({ chip: "RTL8169SC" }).card.load(saved);
  assert.throws(
    () => new Rig({ chip: "RTL8169SCe" }).card.load(saved),
    (error: unknown) => error instanceof StateError,
  );
  assert.throws(
    () => new Rig({ chip: "RTL8169SC", pciClock: 66 }).card.load(saved),
    (error: unknown) => error instanceof StateError,
  );
});

test("a chip or a clock that is none is refused", () => {
  const code = (options: object): string => {
    try {
      rtl8169(options);
    } catch (error) {
      if (error instanceof ConfigError) return error.code;
    }
    return "none";
  };
  assert.is(code({ chip: "RTL8139" }), "chip");
  assert.is(code({ chip: "toString" }), "chip");
  assert.is(code({ pciClock: 40 }), "pci-clock");
  for (const [chip] of CHIPS) assert.is(code({ chip }), "none");
});

test.run();
