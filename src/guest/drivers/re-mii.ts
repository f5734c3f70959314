import { bits } from "../../regs/index.js";
import { RTL8139_DECLARATIONS as O } from "../../spec/rtl8139.js";
import {
  BMCR_ISO,
  BMCR_LOOP,
  MII_ANAR,
  MII_ANER,
  MII_ANLPAR,
  MII_BMCR,
  MII_BMSR,
  RTL8169_DECLARATIONS as R,
} from "../../spec/rtl8169.js";
import { type BusSpace, DriverError } from "../types.js";
import { lockConfig, unlockConfig } from "./re-eeprom.js";
import type { RgephyBus } from "./rgephy.js";
import type { RlphyBus } from "./rlphy.js";

const PHYAR_FLAG = bits(R.PHYAR.fields.Flag);
const PHYAR_REG_SHIFT = R.PHYAR.fields.RegAddr[1];
const POLLS = 2000;
const POLL_US = 25;
/** The PHY wants a pause between two commands, µs. */
const PAUSE_US = 20;

type Delay = (us: number) => void;

/** The way to the PHY of the gigabit chips: one register that takes commands. */
export const phyarBus = (io: BusSpace, delay: Delay): RgephyBus => {
  /** Waits until Flag is as a finished command leaves it. @returns PHYAR; @throws DriverError ETIMEDOUT */
  const finished = (flag: number, what: string): number => {
    for (let polls = 0; polls < POLLS; polls++) {
      const value = io.read4(R.PHYAR.at);
      if (((value & PHYAR_FLAG) !== 0 ? 1 : 0) === flag) {
        delay(PAUSE_US);
        return value;
      }
      delay(POLL_US);
    }
    throw new DriverError("ETIMEDOUT", what);
  };
  return {
    readreg: (reg) => {
      io.write4(R.PHYAR.at, reg << PHYAR_REG_SHIFT);
      return finished(1, `PHY register ${reg} was not read`) & 0xffff;
    },
    writereg: (reg, value) => {
      io.write4(R.PHYAR.at, (PHYAR_FLAG | (reg << PHYAR_REG_SHIFT) | value) >>> 0);
      finished(0, `PHY register ${reg} was not written`);
    },
    delay,
    readPhyStatus: () => io.read1(R.PHYStatus.at),
  };
};

/** Where the 8139 shows registers of its PHY. */
const SHOWN: { readonly [reg: number]: number } = {
  [MII_BMCR]: O.BMCR.at,
  [MII_BMSR]: O.BMSR.at,
  [MII_ANAR]: O.ANAR.at,
  [MII_ANLPAR]: O.ANLPAR.at,
  [MII_ANER]: O.ANER.at,
};
/** Bits of BMCR that the C+ lays out in its own way. */
const NOT_IN_BMCR = BMCR_LOOP | BMCR_ISO;

/** The way to the PHY of the 8139 and the 8139C+: some of its registers, as words; the others read as 0, its identifier too. */
export const shownMiiBus = (io: BusSpace, delay: Delay): RlphyBus => ({
  readreg: (reg) => {
    const at = SHOWN[reg];
    if (at === undefined) return 0;
    const value = io.read2(at);
    return reg === MII_BMCR ? value & ~NOT_IN_BMCR : value;
  },
  writereg: (reg, value) => {
    const at = SHOWN[reg];
    if (at === undefined) return;
    if (reg !== MII_BMCR) {
      io.write2(at, value);
      return;
    }
    // Deviation: FreeBSD does not unlock, and its forced speed and duplex depend on how the EEPROM left the chip.
    unlockConfig(io);
    io.write2(at, value & ~NOT_IN_BMCR);
    lockConfig(io);
  },
  delay,
  readMediaStatus: () => io.read1(O.MSR.at),
});
