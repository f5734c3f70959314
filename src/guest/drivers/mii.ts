import {
  ANAR_PAUSE,
  ANAR_PAUSE_ASYM,
  BMCR_ISO,
  BMCR_PDOWN,
  BMCR_RESET,
  BMSR_EXTSTAT,
  MII_ANAR,
  MII_ANLPAR,
  MII_BMCR,
  MII_BMSR,
  MII_PHYIDR1,
  MII_PHYIDR2,
} from "../../spec/rtl8169.js";
import { BusError } from "../types.js";

/** What every PHY driver shares: the management interface of IEEE 802.3 §22.2.4, by the names of FreeBSD's mii(4). */

/** BMSR: what the PHY can do; shifted right by 6 it is what ANAR advertises. */
export const BMSR_MEDIAMASK = 0xf800;
export const bmsrMediaToAnar = (bmsr: number): number => (bmsr & BMSR_MEDIAMASK) >> 6;

/** A media access controller's way to its PHY. */
export interface MiiBus {
  readreg(reg: number): number;
  writereg(reg: number, value: number): void;
  /** @param us microseconds */
  delay(us: number): void;
}

/** A PHY as an Ethernet driver holds it, in the manner of ifmedia(4). */
export abstract class MiiPhy {
  /** `autoselect`, or one of `subtypes` */
  selected = "autoselect";
  /** subtype in use; `none` without a link or while negotiation goes on */
  active = "none";
  options: readonly string[] = [];
  link = false;
  /** what may be forced */
  protected abstract readonly subtypes: readonly string[];
  /** Sets what `selected` says. */
  abstract mediaChange(): void;
  /** Once a second, and whenever the chip says that the link has changed. */
  abstract tick(): void;
  /** Reads what the link is now. */
  abstract status(): void;

  /** @throws BusError EOPNOTSUPP */
  select(subtype: string): void {
    if (subtype !== "autoselect" && !this.subtypes.includes(subtype))
      throw new BusError("EOPNOTSUPP", `no medium ${subtype}; there are autoselect, ${this.subtypes.join(", ")}`);
    this.selected = subtype;
  }
}

/** Who made a PHY, as the identifier registers tell. §22.2.4.3.1 */
export interface PhyId {
  readonly oui: number;
  readonly model: number;
  readonly rev: number;
}

/** Looks for a PHY. @returns null when there is none: status all zeros or ones, or without any medium */
export const miiProbe = (mii: MiiBus): PhyId | null => {
  const bmsr = mii.readreg(MII_BMSR);
  if (bmsr === 0 || bmsr === 0xffff || (bmsr & (BMSR_MEDIAMASK | BMSR_EXTSTAT)) === 0) return null;
  const id1 = mii.readreg(MII_PHYIDR1);
  const id2 = mii.readreg(MII_PHYIDR2);
  return { oui: (id1 << 6) | (id2 >>> 10), model: (id2 >>> 4) & 0x3f, rev: id2 & 0xf };
};

/** A PHY has half a second for its reset (§22.2.4.1.1); 100 polls of 1 ms as mii_physubr.c has it. */
const RESET_POLLS = 100;

/** Resets a PHY and leaves it connected and powered. @param isolate whether it can be cut off from the chip meanwhile */
export const miiPhyReset = (mii: MiiBus, isolate = true): void => {
  mii.writereg(MII_BMCR, isolate ? BMCR_RESET | BMCR_ISO : BMCR_RESET);
  mii.delay(500);
  let bmcr = 0;
  for (let polls = 0; polls < RESET_POLLS; polls++) {
    bmcr = mii.readreg(MII_BMCR);
    if ((bmcr & BMCR_RESET) === 0) break;
    mii.delay(1000);
  }
  mii.writereg(MII_BMCR, bmcr & ~(BMCR_PDOWN | BMCR_ISO | BMCR_RESET));
};

/** Which pause frames both ends agree on, as media options. IEEE 802.3 table 28B-3 */
export const miiFlowStatus = (mii: MiiBus): readonly string[] => {
  const ours = mii.readreg(MII_ANAR) & (ANAR_PAUSE | ANAR_PAUSE_ASYM);
  const theirs = mii.readreg(MII_ANLPAR) & (ANAR_PAUSE | ANAR_PAUSE_ASYM);
  if ((ours & theirs & ANAR_PAUSE) !== 0) return ["flowcontrol", "rxpause", "txpause"];
  if ((ours & theirs & ANAR_PAUSE_ASYM) === 0) return [];
  if ((ours & ANAR_PAUSE) !== 0) return ["flowcontrol", "rxpause"];
  return (theirs & ANAR_PAUSE) !== 0 ? ["flowcontrol", "txpause"] : [];
};
