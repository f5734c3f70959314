import { ConfigError, parseMac } from "../../src/bytes/index.js";
import { EEPROM_TYPES, RTL8169_CHIPS } from "../../src/spec/rtl8169.js";
import type { EepromType } from "./eeprom.js";
import type { WakeReason } from "./wake.js";

/** Members of the family, as the keys of `RTL8169_CHIPS`. */
export type ChipName = keyof typeof RTL8169_CHIPS;

/** What a card is built from; everything else comes with `connect`. */
export interface Rtl8169Options {
  /** which chip it carries; default RTL8169SB */
  readonly chip?: ChipName;
  /** station address in the EEPROM; default 52:54:00:12:34:56 */
  readonly mac?: string | Uint8Array;
  /** payload of the longest frame that it asks its far end for, bytes, 68 … 16361; default 1500 */
  readonly mtu?: number;
  /** whether the cable is plugged in; default true */
  readonly link?: boolean;
  /** the serial EEPROM that is fitted; default 93C46 */
  readonly eeprom?: EepromType;
  /**
   * What stands in the four bytes behind a received frame. `computed`: its FCS, as hardware does. `zero`: nothing, which
   * no known driver notices. By default a strict host gets `computed` and a lenient one `zero`; see the README for why.
   */
  readonly fcs?: "computed" | "zero";
  /**
   * Whether PHY accesses (25.6 µs) and EEPROM programming (1 ms) take their time on the clock, for drivers that should
   * prove that they wait. By default a strict host gets `real` and a lenient one `immediate`; all known drivers take both.
   */
  readonly timing?: "immediate" | "real";
  /** PCI clock that CONFIG2 tells of and that TCTR counts, MHz; default 33 */
  readonly pciClock?: 33 | 66;
  /**
   * Whether the card promises PME from D3hot, and wakes: by a Magic Packet, by wake-up frames and by the link, as a
   * driver has set it up. Default false: Linux then suspends no card that its host would not wake.
   */
  readonly wake?: boolean;
  /** Told when a sleeping card asserts PME#: the host should put the function, or itself, back to D0. Needs `wake`. */
  readonly onWake?: (reason: WakeReason) => void;
}

/** The options with their defaults filled in. */
export interface CheckedOptions {
  readonly chip: ChipName;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly link: boolean;
  readonly eeprom: EepromType;
  readonly fcs: "computed" | "zero" | "by-strictness";
  readonly timing: "immediate" | "real" | "by-strictness";
  readonly pciClock: 33 | 66;
  readonly wake: boolean;
  readonly onWake: (reason: WakeReason) => void;
}

const DEFAULT_MAC = "52:54:00:12:34:56";
const MIN_MTU = 68;
/** so that header, tag and FCS fit the 14 bits of a status descriptor */
const MAX_MTU = 16361;

/** @throws ConfigError `chip`, `mac-address`, `mtu`, `eeprom-type`, `fcs`, `timing`, `pci-clock`, `wake` */
export const checkOptions = (options: Rtl8169Options): CheckedOptions => {
  const { mac = DEFAULT_MAC, mtu = 1500, link = true, eeprom = "93C46", fcs = "by-strictness" } = options;
  const { chip = "RTL8169SB", timing = "by-strictness", pciClock = 33 } = options;
  if (!Object.hasOwn(RTL8169_CHIPS, chip))
    throw new ConfigError("chip", `chip ${String(chip)}: expected one of ${Object.keys(RTL8169_CHIPS).join(", ")}`);
  if (!Number.isInteger(mtu) || mtu < MIN_MTU || mtu > MAX_MTU)
    throw new ConfigError("mtu", `mtu ${String(mtu)}: expected ${MIN_MTU} … ${MAX_MTU}`);
  if (!Object.hasOwn(EEPROM_TYPES, eeprom))
    throw new ConfigError(
      "eeprom-type",
      `eeprom ${String(eeprom)}: expected ${Object.keys(EEPROM_TYPES).join(" or ")}`,
    );
  if (!["computed", "zero", "by-strictness"].includes(fcs))
    throw new ConfigError("fcs", `fcs ${String(fcs)}: expected computed or zero`);
  if (!["immediate", "real", "by-strictness"].includes(timing))
    throw new ConfigError("timing", `timing ${String(timing)}: expected immediate or real`);
  if (pciClock !== 33 && pciClock !== 66)
    throw new ConfigError("pci-clock", `pciClock ${String(pciClock)}: expected 33 or 66`);
  const { wake = false, onWake } = options;
  if (onWake !== undefined && !wake) throw new ConfigError("wake", "onWake without wake: expected wake: true");
  return { chip, mac: parseMac(mac), mtu, link, eeprom, fcs, timing, pciClock, wake, onWake: onWake ?? (() => {}) };
};
