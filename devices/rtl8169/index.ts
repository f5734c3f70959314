/**
 * The Realtek RTL8169SB: a PCI gigabit card with descriptor rings, as FreeBSD's re(4) and Linux's r8169 drive it.
 *
 * Life: `rtl8169(options)` → plugged into a slot (`connect`: power-on, autonegotiation starts) → `net.attach(far)` →
 * a driver resets it, sets rings, rings TPPoll; frames come by `net.offer` → `setLink`, `save`/`load`, `reset` →
 * `disconnect`.
 */
import type { Nic } from "../../src/contract/index.js";
import { RTL8169_CHIPS, RTL8169_MAPS } from "../../src/spec/rtl8169.js";
import { buildCard } from "./card.js";
import { Rtl8169Model } from "./model.js";
import { checkOptions, type Rtl8169Options } from "./options.js";

export { rtl8139 } from "./8139.js";
export type { Rtl8139ChipName, Rtl8139Options } from "./8139-options.js";
export type { EepromType } from "./eeprom.js";
export type { ChipName, Rtl8169Options } from "./options.js";
export type { WakeReason } from "./wake.js";

/** 66 MHz capable, fast back-to-back capable, DEVSEL medium */
const STATUS_BITS = 0x02a0;

/**
 * A Realtek RTL8169SB, or another chip of the family, ready to plug into a slot. Built from options alone; everything
 * else comes with `connect`.
 * @throws ConfigError `chip`, `mac-address`, `mtu`, `eeprom-type`, `fcs`, `timing`, `pci-clock`, `wake`
 */
export const rtl8169 = (options: Rtl8169Options = {}): Nic => {
  const checked = checkOptions(options);
  const chip = RTL8169_CHIPS[checked.chip];
  const registers = RTL8169_MAPS[checked.chip];
  const variant = { key: checked.chip, chip, registers };
  return buildCard(
    { name: "rtl8169", chip, registers, statusBits: STATUS_BITS, mac: checked.mac, wakes: checked.wake },
    (contents, power) => new Rtl8169Model(variant, checked, contents, power),
  );
};
