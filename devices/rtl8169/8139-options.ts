import { ConfigError } from "../../src/bytes/index.js";
import { RTL8139_CHIPS } from "../../src/spec/rtl8139.js";
import { type CheckedOptions, checkOptions, type Rtl8169Options } from "./options.js";

/** Members of the family, as the keys of `RTL8139_CHIPS`. */
export type Rtl8139ChipName = keyof typeof RTL8139_CHIPS;

/**
 * What an RTL8139 is built from; everything else comes with `connect`. As with the RTL8169, but for a largest `mtu` of
 * 8169, a PCI clock that is always 33 MHz, and no PME.
 */
export interface Rtl8139Options extends Omit<Rtl8169Options, "chip" | "pciClock" | "wake"> {
  /** which chip it carries; default RTL8139C+, of which the others have only the old mode */
  readonly chip?: Rtl8139ChipName;
}

/** The options with their defaults filled in. */
export interface Checked8139Options extends Omit<CheckedOptions, "chip" | "pciClock" | "wake"> {
  readonly chip: Rtl8139ChipName;
}

/** so that header, tag and FCS fit the 13 bits of a length */
const MAX_MTU = 8169;

/** @throws ConfigError `chip`, `mac-address`, `mtu`, `eeprom-type`, `fcs`, `timing` */
export const check8139Options = ({ chip = "RTL8139C+", ...options }: Rtl8139Options): Checked8139Options => {
  if (!Object.hasOwn(RTL8139_CHIPS, chip))
    throw new ConfigError("chip", `chip ${String(chip)}: expected one of ${Object.keys(RTL8139_CHIPS).join(", ")}`);
  const checked = checkOptions(options);
  if (checked.mtu > MAX_MTU) throw new ConfigError("mtu", `mtu ${checked.mtu}: expected at most ${MAX_MTU}`);
  return { ...checked, chip };
};
