import { bits } from "../../regs/index.js";
import { RTL8139_DECLARATIONS } from "../../spec/rtl8139.js";
import {
  ANAR_10,
  ANAR_10_FD,
  ANAR_CSMA,
  ANAR_TX,
  ANAR_TX_FD,
  BMCR_AUTOEN,
  BMCR_ISO,
  BMCR_SPEED0,
  BMCR_STARTNEG,
  BMSR_ACOMP,
  BMSR_LINK,
  MII_ANAR,
  MII_ANLPAR,
  MII_BMCR,
  MII_BMSR,
} from "../../spec/rtl8169.js";
import { DriverError } from "../types.js";
import { bmsrMediaToAnar, type MiiBus, MiiPhy, miiFlowStatus, miiPhyReset, miiProbe } from "./mii.js";

/**
 * rlphy: the 10/100 PHY inside the RTL8139 and the RTL8139C+, which has no identifier registers: they read as zeros. Left
 * out: the RTL8201L, a chip of its own.
 */

/** ANAR_T4, IEEE 802.3 §28.2.4.1.3 */
const ANAR_T4 = 0x0200;
const MEDIASTAT_SPEED10 = bits(RTL8139_DECLARATIONS.MSR.fields.SPEED_10);

/** The speed of a link whose far end does not negotiate stands in the chip's MSR only. */
export interface RlphyBus extends MiiBus {
  readMediaStatus(): number;
}

/** BMCR and ANAR of a forced medium, half duplex as without `mediaopt full-duplex`. */
const FORCED: { readonly [subtype: string]: { readonly bmcr: number; readonly anar: number } } = {
  "10baseT/UTP": { bmcr: 0, anar: ANAR_10 },
  "100baseTX": { bmcr: BMCR_SPEED0, anar: ANAR_TX },
};

/** The best of what both ends advertise, in this order. IEEE 802.3 Annex 28B.3 */
const COMMON: readonly (readonly [bit: number, subtype: string, duplex: string])[] = [
  [ANAR_TX_FD, "100baseTX", "full-duplex"],
  [ANAR_T4, "100baseT4", "half-duplex"],
  [ANAR_TX, "100baseTX", "half-duplex"],
  [ANAR_10_FD, "10baseT/UTP", "full-duplex"],
  [ANAR_10, "10baseT/UTP", "half-duplex"],
];

export class Rlphy extends MiiPhy {
  protected readonly subtypes = Object.keys(FORCED);
  readonly #mii: RlphyBus;
  readonly #capabilities: number; // BMSR as it was at attach

  /** Finds the PHY and resets it. @throws DriverError ENXIO */
  constructor(mii: RlphyBus) {
    super();
    this.#mii = mii;
    const id = miiProbe(mii);
    if (id === null || id.oui !== 0 || id.model !== 0)
      throw new DriverError("ENXIO", "no PHY, or none that rlphy knows");
    miiPhyReset(mii, false); // it can never be isolated
    this.#capabilities = mii.readreg(MII_BMSR);
  }

  mediaChange(): void {
    const forced = FORCED[this.selected];
    if (forced !== undefined) {
      this.#mii.writereg(MII_ANAR, forced.anar | ANAR_CSMA);
      this.#mii.writereg(MII_BMCR, forced.bmcr);
    } else if ((this.#mii.readreg(MII_BMCR) & BMCR_AUTOEN) === 0) {
      this.#mii.writereg(MII_ANAR, bmsrMediaToAnar(this.#capabilities) | ANAR_CSMA);
      this.#mii.writereg(MII_BMCR, BMCR_AUTOEN | BMCR_STARTNEG);
    }
    this.status();
  }

  /** Negotiation goes on by itself on these PHYs: there is nothing to start again. */
  tick(): void {
    this.status();
  }

  status(): void {
    const mii = this.#mii;
    const bmsr = mii.readreg(MII_BMSR) | mii.readreg(MII_BMSR); // the link is latched low
    this.link = (bmsr & BMSR_LINK) !== 0;
    const bmcr = mii.readreg(MII_BMCR);
    this.active = "none";
    this.options = [];
    if ((bmcr & BMCR_ISO) !== 0) {
      this.link = false;
      return;
    }
    if ((bmcr & BMCR_AUTOEN) === 0) {
      this.#use(this.selected === "autoselect" ? "none" : this.selected, "half-duplex");
      return;
    }
    if ((bmsr & BMSR_ACOMP) === 0) return; // still negotiating
    const common = mii.readreg(MII_ANAR) & mii.readreg(MII_ANLPAR);
    const best = COMMON.find(([bit]) => (common & bit) !== 0);
    if (best !== undefined) this.#use(best[1], best[2]);
    // The far end does not negotiate: the speed can be seen, the duplex cannot.
    else if (common === 0)
      this.#use((mii.readMediaStatus() & MEDIASTAT_SPEED10) !== 0 ? "10baseT/UTP" : "100baseTX", "half-duplex");
  }

  #use(subtype: string, duplex: string): void {
    if (!this.link || subtype === "none") return;
    this.active = subtype;
    this.options = duplex === "full-duplex" ? [duplex, ...miiFlowStatus(this.#mii)] : [duplex];
  }
}
