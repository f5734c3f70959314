import type { StateReader } from "../../src/bytes/index.js";
import type { Clock, SavedState, Timer } from "../../src/contract/index.js";
import { bits } from "../../src/regs/index.js";
import {
  ANAR_10,
  ANAR_10_FD,
  ANAR_PAUSE,
  ANAR_TX,
  ANAR_TX_FD,
  BMCR_AUTOEN,
  BMCR_FDX,
  BMCR_ISO,
  BMCR_LOOP,
  BMCR_PDOWN,
  BMCR_RESET,
  BMCR_SPEED0,
  BMCR_SPEED1,
  BMCR_STARTNEG,
  BMSR_ACOMP,
  BMSR_LINK,
  GTCR_ADV_1000TFDX,
  GTCR_ADV_1000THDX,
  GTCR_MAN_ADV,
  GTCR_MAN_MS,
  GTSR_LP_1000TFDX,
  GTSR_LP_1000THDX,
  GTSR_LRS,
  GTSR_MS_RES,
  GTSR_RRS,
  MII_100T2CR,
  MII_100T2SR,
  MII_ANAR,
  MII_ANER,
  MII_ANLPAR,
  MII_ANNP,
  MII_BMCR,
  MII_BMSR,
  MII_EXTSR,
  MII_MMDAADR,
  MII_PHYIDR1,
  MII_PHYIDR2,
  RGEPHY_CR,
  RGEPHY_INSR,
  RGEPHY_MMD_PDOWN,
  RGEPHY_PAGSR,
  RGEPHY_SR,
  RTL8169,
  type RtlPhy,
} from "../../src/spec/rtl8169.js";

/**
 * Time from a restart to link, ns. Real parts take 2 to 3 s; drivers only need that it is not 0, since FreeBSD's rgephy
 * waits for the link to be seen lost before it programs an advertisement.
 */
export const AUTONEG_NS = 20_000_000;

/** Pages with a store of their own; Observed: drivers of these chips use 0 … 5. Beyond them nothing is kept. */
const PAGES = 32;
const PAGE_REGS = 32;

/** Abilities of the partner at the other end of the cable: 10/100, both duplexes, pause, acknowledged. */
const PARTNER_ANLPAR = 0x45e1;
const EXTSR_1000T = 0x3000;
const RGEPHY_CR_MDI_AUTO = 0x0040;
/** RTL8211B: bits of INSR */
const INSR_LINK = 0x0400;
const INSR_AN_COMPLETE = 0x0800;

/** Bits of BMCR that make up a forced link. */
const FORCED = BMCR_SPEED0 | BMCR_SPEED1 | BMCR_FDX;

const STATUS = RTL8169.regs.PHYStatus.fields;
const STATUS_TX_FLOW = bits(STATUS.TxFlow!);
const STATUS_RX_FLOW = bits(STATUS.RxFlow!);
const STATUS_1000 = bits(STATUS["1000MF"]!);
const STATUS_100 = bits(STATUS["100M"]!);
const STATUS_10 = bits(STATUS["10M"]!);
const STATUS_LINK = bits(STATUS.LinkSts!);
const STATUS_FDX = bits(STATUS.FullDup!);

/** An integrated PHY, such as the RTL8211B: MII registers in pages, and autonegotiation on the clock. */
export class Phy {
  readonly #kind: RtlPhy;
  readonly #linkChanged: () => void;
  #clock: Clock | null = null;
  #timer: Timer | null = null;
  #cable: boolean;
  // volatile: powerOn() sets it
  readonly #store = new Uint16Array(PAGES * PAGE_REGS);
  #page = 0;
  #link = false;
  #complete = false;
  /** the link has been down since BMSR was read */
  #latchedDown = true;
  /** 10, 100 or 1000; holds while the link is up */
  #speedMbps = 10;
  #fullDuplex = false;
  /** both ends agreed on PAUSE frames; holds while the link is up */
  #pause = false;

  /**
   * @param cable whether a partner is plugged in
   * @param linkChanged called after each rise and fall of the link
   */
  constructor(kind: RtlPhy, cable: boolean, linkChanged: () => void) {
    this.#kind = kind;
    this.#cable = cable;
    this.#linkChanged = linkChanged;
    this.#defaults();
  }

  get link(): boolean {
    return this.#link;
  }

  get cable(): boolean {
    return this.#cable;
  }

  /** 10, 100 or 1000; holds while the link is up */
  get speedMbps(): number {
    return this.#speedMbps;
  }

  /** Whether what the MAC sends comes back from here, whatever the link. IEEE 802.3 §22.2.4.1.2 */
  get loopback(): boolean {
    return (this.#store[MII_BMCR]! & BMCR_LOOP) !== 0 && !this.#asleep;
  }

  /** PHYStatus (6Ch) as the MAC shows it. */
  get status(): number {
    if (!this.#link) return STATUS_10; // Observed: a real chip reads 04h while down
    const speed = this.#speedMbps === 1000 ? STATUS_1000 : this.#speedMbps === 100 ? STATUS_100 : STATUS_10;
    const flow = this.#pause ? STATUS_TX_FLOW | STATUS_RX_FLOW : 0;
    return STATUS_LINK | speed | flow | (this.#fullDuplex ? STATUS_FDX : 0);
  }

  connect(clock: Clock): void {
    this.#clock = clock;
    this.#timer = clock.timer(() => this.#resolve());
  }

  disconnect(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = this.#clock = null;
  }

  powerOn(): void {
    this.#store.fill(0);
    this.#page = 0;
    this.#defaults();
    this.#restart();
  }

  /** What would take its time has happened already: for a chip whose PHY had its power long before the slot. */
  settle(): void {
    if (this.#timer === null || this.#timer.deadline === Number.POSITIVE_INFINITY) return;
    this.#timer.cancel();
    this.#resolve();
    this.#latchedDown = !this.#link;
  }

  /** Plugs the cable in or pulls it. */
  setCable(plugged: boolean): void {
    if (plugged === this.#cable) return;
    this.#cable = plugged;
    this.#restart();
  }

  read(reg: number): number {
    if (reg === RGEPHY_PAGSR) return this.#page;
    if (this.#page !== 0) return this.#store[this.#page * PAGE_REGS + reg] ?? 0;
    const stored = this.#store[reg]!;
    switch (reg) {
      case MII_BMSR:
        return this.#readStatus();
      case MII_PHYIDR1:
        return this.#kind.phyId >>> 16;
      case MII_PHYIDR2:
        return this.#kind.phyId & 0xffff;
      case MII_ANLPAR:
        return this.#complete ? PARTNER_ANLPAR : 0;
      case MII_ANER:
        return this.#complete ? 1 : 0; // link partner is able to negotiate
      case MII_100T2SR:
        return this.#gigabitStatus();
      case MII_EXTSR:
        return this.#kind.gigabit ? EXTSR_1000T : 0;
      case RGEPHY_SR:
        return this.#vendorStatus();
      case RGEPHY_INSR:
        this.#store[reg] = 0;
        return stored;
      default:
        return stored;
    }
  }

  write(reg: number, value: number): void {
    if (reg === RGEPHY_PAGSR) {
      this.#page = value;
      return;
    }
    if (this.#page !== 0) {
      this.#store[this.#page * PAGE_REGS + reg] = value; // a store beyond the array is none
      return;
    }
    switch (reg) {
      case MII_BMCR:
        this.#writeControl(value);
        break;
      case MII_MMDAADR:
        this.#writePower(reg, value);
        break;
      case MII_BMSR:
      case MII_PHYIDR1:
      case MII_PHYIDR2:
      case MII_ANLPAR:
      case MII_ANER:
      case MII_100T2SR:
      case MII_EXTSR:
      case RGEPHY_SR:
      case RGEPHY_INSR:
        break; // read-only
      default:
        this.#store[reg] = value;
    }
  }

  /** Link is latched low: a loss is seen by the next read even when the link is back. IEEE 802.3 §22.2.4.2.13 */
  #readStatus(): number {
    const link = this.#link && !this.#latchedDown;
    this.#latchedDown = !this.#link;
    return this.#kind.bmsr | (this.#complete ? BMSR_ACOMP : 0) | (link ? BMSR_LINK : 0);
  }

  #gigabitStatus(): number {
    if (!this.#complete || !this.#kind.gigabit) return 0;
    const partner = GTSR_LP_1000TFDX | GTSR_LP_1000THDX;
    if (!this.#link || this.#speedMbps !== 1000) return partner;
    const manual = this.#store[MII_100T2CR]! & (GTCR_MAN_MS | GTCR_MAN_ADV);
    return partner | GTSR_LRS | GTSR_RRS | (manual === (GTCR_MAN_MS | GTCR_MAN_ADV) ? GTSR_MS_RES : 0);
  }

  /** RTL8211B: speed in 15–14, duplex 13, resolved 11, link 10. */
  #vendorStatus(): number {
    if (!this.#link) return 0;
    const speed = this.#speedMbps === 1000 ? 2 : this.#speedMbps === 100 ? 1 : 0;
    return (speed << 14) | (this.#fullDuplex ? 1 << 13 : 0) | (1 << 11) | (1 << 10);
  }

  #writeControl(value: number): void {
    const before = this.#store[MII_BMCR]!;
    if ((value & BMCR_RESET) !== 0) {
      this.#defaults();
      this.#restart();
      return;
    }
    const after = value & ~(BMCR_RESET | BMCR_STARTNEG);
    this.#store[MII_BMCR] = after;
    const negotiate = (after & BMCR_AUTOEN) !== 0 && (value & BMCR_STARTNEG) !== 0;
    // What a forced link consists of is looked at only while autonegotiation is off.
    const watched = BMCR_AUTOEN | BMCR_PDOWN | BMCR_ISO | ((after & BMCR_AUTOEN) !== 0 ? 0 : FORCED);
    if (negotiate || ((before ^ after) & watched) !== 0) this.#restart();
  }

  #writePower(reg: number, value: number): void {
    const before = this.#store[reg]!;
    this.#store[reg] = value;
    if (this.#kind.sleeps && ((before ^ value) & RGEPHY_MMD_PDOWN) !== 0) this.#restart();
  }

  /** Values after power-on and after BMCR reset; vendor pages keep theirs. */
  #defaults(): void {
    this.#store.fill(0, 0, PAGE_REGS);
    this.#store[MII_BMCR] = BMCR_AUTOEN;
    this.#store[MII_ANAR] = 0x01e1;
    this.#store[MII_ANNP] = 0x2001;
    if (this.#kind.gigabit) this.#store[MII_100T2CR] = GTCR_ADV_1000TFDX | GTCR_ADV_1000THDX;
    this.#store[RGEPHY_CR] = RGEPHY_CR_MDI_AUTO;
  }

  get #asleep(): boolean {
    if ((this.#store[MII_BMCR]! & (BMCR_PDOWN | BMCR_ISO)) !== 0) return true;
    return this.#kind.sleeps && (this.#store[MII_MMDAADR]! & RGEPHY_MMD_PDOWN) !== 0;
  }

  /** Drops the link and, where there is a partner and the PHY is awake, brings it up again in its time. */
  #restart(): void {
    this.#complete = false;
    if (this.#cable && !this.#asleep && this.#clock !== null) this.#timer?.arm(this.#clock.now() + AUTONEG_NS);
    else this.#timer?.cancel();
    this.#latchedDown = true;
    if (!this.#link) return;
    this.#link = false;
    this.#store[RGEPHY_INSR] = this.#store[RGEPHY_INSR]! | INSR_LINK;
    this.#linkChanged();
  }

  /** The time has come: finds what both ends can do. IEEE 802.3 Annex 28B */
  #resolve(): void {
    const control = this.#store[MII_BMCR]!;
    let link = true;
    this.#pause = false;
    if ((control & BMCR_AUTOEN) === 0) {
      const fastest = this.#kind.gigabit && (control & BMCR_SPEED1) !== 0;
      this.#speedMbps = fastest ? 1000 : (control & BMCR_SPEED0) !== 0 ? 100 : 10;
      this.#fullDuplex = (control & BMCR_FDX) !== 0;
    } else {
      this.#complete = true;
      this.#store[RGEPHY_INSR] = this.#store[RGEPHY_INSR]! | INSR_AN_COMPLETE;
      const gigabit = this.#kind.gigabit ? this.#store[MII_100T2CR]! : 0;
      const common = this.#store[MII_ANAR]! & PARTNER_ANLPAR;
      if ((gigabit & GTCR_ADV_1000TFDX) !== 0) this.#common(1000, true);
      else if ((gigabit & GTCR_ADV_1000THDX) !== 0) this.#common(1000, false);
      else if ((common & ANAR_TX_FD) !== 0) this.#common(100, true);
      else if ((common & ANAR_TX) !== 0) this.#common(100, false);
      else if ((common & ANAR_10_FD) !== 0) this.#common(10, true);
      else if ((common & ANAR_10) !== 0) this.#common(10, false);
      else link = false;
      this.#pause = this.#fullDuplex && (common & ANAR_PAUSE) !== 0;
    }
    if (!link) return;
    this.#link = true;
    this.#store[RGEPHY_INSR] = this.#store[RGEPHY_INSR]! | INSR_LINK;
    this.#linkChanged();
  }

  #common(speedMbps: number, fullDuplex: boolean): void {
    this.#speedMbps = speedMbps;
    this.#fullDuplex = fullDuplex;
  }

  save(): SavedState {
    return {
      cable: this.#cable,
      store: Array.from(this.#store),
      page: this.#page,
      link: this.#link,
      complete: this.#complete,
      latchedDown: this.#latchedDown,
      speedMbps: this.#speedMbps,
      fullDuplex: this.#fullDuplex,
      pause: this.#pause,
      deadline: this.#timer === null ? Number.POSITIVE_INFINITY : this.#timer.deadline,
    };
  }

  /** Checks a state and returns what applies it. @throws StateError */
  check(state: StateReader): () => void {
    const cable = state.boolean("cable");
    const store = state.integers("store", 0, 0xffff, this.#store.length);
    const page = state.integer("page", 0, 0xffff);
    const link = state.boolean("link");
    const complete = state.boolean("complete");
    const latchedDown = state.boolean("latchedDown");
    const speedMbps = state.integer("speedMbps", 10, 1000);
    const fullDuplex = state.boolean("fullDuplex");
    const pause = state.boolean("pause");
    const deadline = state.deadline("deadline");
    return () => {
      this.#cable = cable;
      this.#store.set(store);
      this.#page = page;
      this.#link = link;
      this.#complete = complete;
      this.#latchedDown = latchedDown;
      this.#speedMbps = speedMbps;
      this.#fullDuplex = fullDuplex;
      this.#pause = pause;
      if (deadline === Number.POSITIVE_INFINITY) this.#timer?.cancel();
      else this.#timer?.arm(deadline);
    };
  }
}
