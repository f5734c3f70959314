import { bits } from "../../regs/index.js";
import {
  ANAR_10,
  ANAR_10_FD,
  ANAR_CSMA,
  ANAR_TX,
  ANAR_TX_FD,
  BMCR_AUTOEN,
  BMCR_FDX,
  BMCR_ISO,
  BMCR_PDOWN,
  BMCR_SPEED0,
  BMCR_SPEED1,
  BMCR_STARTNEG,
  BMSR_ACOMP,
  BMSR_LINK,
  GTCR_ADV_1000TFDX,
  GTCR_ADV_1000THDX,
  GTCR_MAN_MS,
  GTSR_MS_RES,
  MII_100T2CR,
  MII_100T2SR,
  MII_ANAR,
  MII_BMCR,
  MII_BMSR,
  MII_EXTSR,
  RGEPHY_CR,
  RGEPHY_PAGSR,
  RTL8169_DECLARATIONS,
} from "../../spec/rtl8169.js";
import { DriverError } from "../types.js";
import { bmsrMediaToAnar, type MiiBus, MiiPhy, miiFlowStatus, miiPhyReset, miiProbe } from "./mii.js";

/** rgephy: the gigabit PHY inside the RTL8169S and its successors. Left out: the steps for the 8211C and 8211F. */

const OUI_REALTEK = 0x000732; // 00:E0:4C as the identifier registers hold it
const MODEL_8169S = 0x11;
const REV_8211B = 2;
/** Register 16: the PHY finds out crossed cables by itself. */
const RGEPHY_PCR_MDIX_AUTO = 0x0040;
const RGEPHY_PCR_MDI_MASK = 0x0060;
/** Ticks without a link after which autonegotiation starts again. MII_ANEGTICKS_GIGE */
const ANEGTICKS = 17;
/** Polls of 10 µs for the loss of the link. */
const LOOP_POLLS = 15_000;

const { PHYStatus } = RTL8169_DECLARATIONS;
const STATUS_LINK = bits(PHYStatus.fields.LinkSts);
const STATUS_1000 = bits(PHYStatus.fields["1000MF"]);
const STATUS_100 = bits(PHYStatus.fields["100M"]);
const STATUS_10 = bits(PHYStatus.fields["10M"]);
const STATUS_FULL = bits(PHYStatus.fields.FullDup);

/** The chip shows the link in a register of its own, too, and that is the one to trust: RL_GMEDIASTAT. */
export interface RgephyBus extends MiiBus {
  readPhyStatus(): number;
}

/** What a medium sets: speed bits of BMCR, advertisement, gigabit control. */
interface Forced {
  readonly bmcr: number;
  readonly anar: number;
  readonly gtcr: number;
}
const FORCED: { readonly [subtype: string]: Forced } = {
  "10baseT/UTP": { bmcr: BMCR_FDX, anar: ANAR_10_FD | ANAR_10, gtcr: 0 },
  "100baseTX": { bmcr: BMCR_FDX | BMCR_SPEED0, anar: ANAR_TX_FD | ANAR_TX, gtcr: 0 },
  "1000baseT": { bmcr: BMCR_FDX | BMCR_SPEED1, anar: 0, gtcr: GTCR_ADV_1000TFDX | GTCR_MAN_MS },
};

/** One step of the DSP code: what stays of the register, and what is put there. */
type DspStep = readonly [reg: number, keep: number, value: number];
const put = (reg: number, value: number): DspStep => [reg, 0, value];
/** A parameter of the DSP: its number in the top bits of register 4, its value in 3 … 0. */
const parameter = (number: number, values: readonly [number, number, number, number]): readonly DspStep[] => [
  [4, 0x0fff, number << 12],
  ...values.map((value, i) => put(3 - i, value)),
];
const LATCH: readonly DspStep[] = [
  [4, 0xffff, 0x0800],
  [4, 0xf7ff, 0],
];

/**
 * What tunes the DSP of PHY revisions 0 and 1 so that gigabit links come up, all on page 1. Values as in FreeBSD's rgephy.c,
 * which has them from RealTek.
 */
const DSP_CODE: readonly DspStep[] = [
  put(21, 0x1000),
  put(24, 0x65c7),
  [4, 0xf7ff, 0],
  ...parameter(0x0, [0x00a1, 0x0008, 0x1020, 0x1000]),
  ...LATCH,
  ...parameter(0x7, [0xff41, 0xde60, 0x0140, 0x0077]),
  ...parameter(0xa, [0xdf01, 0xdf20, 0xff95, 0xfa00]),
  ...parameter(0xb, [0xff41, 0xde20, 0x0140, 0x00bb]),
  ...parameter(0xf, [0xdf01, 0xdf20, 0xff95, 0xbf00]),
  ...LATCH,
];
const DSP_PAGE = 1;

export class Rgephy extends MiiPhy {
  protected readonly subtypes = Object.keys(FORCED);
  readonly #mii: RgephyBus;
  readonly #rev: number;
  readonly #capabilities: number; // BMSR as it was at attach
  #ticks = 0;

  /** Finds the PHY and resets it. @throws DriverError ENXIO */
  constructor(mii: RgephyBus) {
    super();
    this.#mii = mii;
    const id = miiProbe(mii);
    if (id === null || id.oui !== OUI_REALTEK || id.model !== MODEL_8169S)
      throw new DriverError("ENXIO", "no PHY, or none that rgephy knows");
    this.#rev = id.rev;
    this.#capabilities = mii.readreg(MII_BMSR);
    mii.readreg(MII_EXTSR); // gigabit, both duplexes: the model says so
    this.#reset();
  }

  /** Sets what `selected` says. The link goes down and comes back, or comes back different. */
  mediaChange(): void {
    this.#ticks = 0;
    const forced = FORCED[this.selected];
    if (forced === undefined) this.#auto();
    else {
      this.#loop();
      this.#reset();
      // Negotiation stays on and offers nothing else, so that both ends agree about duplex and master.
      this.#mii.writereg(MII_100T2CR, forced.gtcr);
      this.#mii.writereg(MII_ANAR, forced.anar | ANAR_CSMA);
      this.#mii.writereg(MII_BMCR, forced.bmcr | BMCR_AUTOEN | BMCR_STARTNEG);
    }
    this.status();
    this.#loadDspCode();
  }

  tick(): void {
    if (this.selected !== "autoselect") this.#ticks = 0;
    else if ((this.#mii.readPhyStatus() & STATUS_LINK) !== 0) this.#ticks = 0;
    else if (this.#ticks++ > 0) {
      if (this.#ticks <= ANEGTICKS) return; // the loss was announced by the first of these ticks
      this.#ticks = 0;
      this.#auto();
    }
    const { link, active } = this;
    this.status();
    if (this.link !== link || this.active !== active) this.#loadDspCode(); // the DSP wants it after each change
  }

  status(): void {
    this.link = (this.#mii.readPhyStatus() & STATUS_LINK) !== 0;
    const bmsr = this.#mii.readreg(MII_BMSR);
    const bmcr = this.#mii.readreg(MII_BMCR);
    this.active = "none";
    this.options = [];
    if ((bmcr & BMCR_ISO) !== 0) return;
    if ((bmcr & BMCR_AUTOEN) !== 0 && (bmsr & BMSR_ACOMP) === 0) {
      this.link = false; // still negotiating
      return;
    }
    const status = this.#mii.readPhyStatus();
    const gigabit = (status & STATUS_1000) !== 0;
    if (gigabit) this.active = "1000baseT";
    else if ((status & STATUS_100) !== 0) this.active = "100baseTX";
    else if ((status & STATUS_10) !== 0) this.active = "10baseT/UTP";
    if (!this.link) this.active = "none";
    if (this.active === "none") return;
    this.options = (status & STATUS_FULL) !== 0 ? ["full-duplex", ...miiFlowStatus(this.#mii)] : ["half-duplex"];
    if (gigabit && (this.#mii.readreg(MII_100T2SR) & GTSR_MS_RES) !== 0) this.options = [...this.options, "master"];
  }

  #auto(): void {
    this.#loop();
    this.#reset();
    this.#mii.writereg(MII_ANAR, bmsrMediaToAnar(this.#capabilities) | ANAR_CSMA);
    this.#mii.delay(1000);
    this.#mii.writereg(MII_100T2CR, GTCR_ADV_1000THDX | GTCR_ADV_1000TFDX);
    this.#mii.delay(1000);
    this.#mii.writereg(MII_BMCR, BMCR_AUTOEN | BMCR_STARTNEG);
    this.#mii.delay(100);
  }

  /**
   * Makes the link go down first: the far end must see that something changes. Revisions below 2 are powered down for it;
   * the others lose it by the reset, so it comes before the wait.
   */
  #loop(): void {
    if (this.#rev < REV_8211B) {
      this.#mii.writereg(MII_BMCR, BMCR_PDOWN);
      this.#mii.delay(1000);
    } else this.#reset();
    for (let polls = 0; polls < LOOP_POLLS; polls++) {
      if ((this.#mii.readreg(MII_BMSR) & BMSR_LINK) === 0) return;
      this.#mii.delay(10);
    }
  }

  #reset(): void {
    if (this.#rev === REV_8211B) {
      const pcr = this.#mii.readreg(RGEPHY_CR);
      if ((pcr & RGEPHY_PCR_MDIX_AUTO) === 0)
        this.#mii.writereg(RGEPHY_CR, (pcr & ~RGEPHY_PCR_MDI_MASK) | RGEPHY_PCR_MDIX_AUTO);
    }
    miiPhyReset(this.#mii);
    this.#mii.delay(1000);
    this.#loadDspCode();
  }

  #loadDspCode(): void {
    if (this.#rev >= REV_8211B) return;
    const mii = this.#mii;
    mii.writereg(RGEPHY_PAGSR, DSP_PAGE);
    for (const [reg, keep, value] of DSP_CODE) mii.writereg(reg, (keep === 0 ? 0 : mii.readreg(reg) & keep) | value);
    mii.writereg(RGEPHY_PAGSR, 0);
    mii.delay(40);
  }
}
