import type { Nic } from "../../src/contract/index.js";
import { RTL8139_CHIPS, RTL8139_MAPS } from "../../src/spec/rtl8139.js";
import { Rtl8139Model } from "./8139-model.js";
import { check8139Options, type Rtl8139Options } from "./8139-options.js";
import { buildCard } from "./card.js";

/** fast back-to-back capable, DEVSEL medium */
const STATUS_BITS = 0x0280;

/**
 * A Realtek RTL8139C+, or one of the older chips of its family, ready to plug into a slot. Built from options alone;
 * everything else comes with `connect`.
 * @throws ConfigError `chip`, `mac-address`, `mtu`, `eeprom-type`, `fcs`, `timing`
 */
export const rtl8139 = (options: Rtl8139Options = {}): Nic => {
  const checked = check8139Options(options);
  const chip = RTL8139_CHIPS[checked.chip];
  const registers = RTL8139_MAPS[checked.chip];
  const card = { name: "rtl8139", chip, registers, statusBits: STATUS_BITS, mac: checked.mac };
  return buildCard(card, (contents) => new Rtl8139Model({ key: checked.chip, chip, registers }, checked, contents));
};
