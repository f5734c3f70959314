import type { AccessWidth } from "../../src/contract/index.js";
import { bits } from "../../src/regs/index.js";
import { RTL8139CP } from "../../src/spec/rtl8139.js";
import { MII_ANAR, MII_ANER, MII_ANLPAR, MII_BMCR, MII_BMSR } from "../../src/spec/rtl8169.js";
import type { CardCore } from "./core.js";
import type { EepromPort } from "./eeprom-port.js";
import type { Phy } from "./phy.js";

const { MSR, CSCR, BMCR, BMSR, ANAR, ANLPAR, ANER } = RTL8139CP.regs;
const LINKB = bits(MSR.fields.LINKB!);
const SPEED_10 = bits(MSR.fields.SPEED_10!);
const CON_STATUS = bits(CSCR.fields.Con_status!);
const BMCR_COMMANDS = bits(BMCR.fields.Reset!) | bits(BMCR.fields.RestartAN!);

/** The PHY's registers where an RTL8139 has them: among its own, without PHYAR. */
export class MiiRegisters {
  readonly #core: CardCore;
  readonly #phy: Phy;
  readonly #config: EepromPort;

  /** @param config says whether speed, duplex and ANE may be written */
  constructor(core: CardCore, phy: Phy, config: EepromPort) {
    this.#core = core;
    this.#phy = phy;
    this.#config = config;
  }

  /** Shows the link in MSR and CSCR. */
  showLink(): void {
    const { regs } = this.#core;
    const { link, speedMbps } = this.#phy;
    const slow = link && speedMbps === 10 ? SPEED_10 : 0;
    regs.set(MSR.at, 1, (MSR.reset & ~LINKB) | (link ? 0 : LINKB) | slow);
    regs.set(CSCR.at, 2, (regs.get(CSCR.at, 2) & ~CON_STATUS) | (link ? CON_STATUS : 0));
  }

  /**
   * A guest's write touched BMCR, which has all its bits in the upper byte. Reset and RestartAN are always heard; the rest
   * only while the configuration is unlocked.
   */
  writeBmcr(offset: number, width: AccessWidth, value: number): void {
    const lane = BMCR.at + 1 - offset;
    if (lane >= width) return;
    const written = ((value >>> (8 * lane)) & 0xff) << 8;
    const before = this.#phy.read(MII_BMCR);
    const { locked } = this.#config;
    if (locked && ((before ^ written) & BMCR.rw) !== 0) this.#core.report("config-locked", BMCR.at);
    this.#phy.write(MII_BMCR, ((locked ? before : written) & BMCR.rw) | (written & BMCR_COMMANDS));
  }

  writeAnar(): void {
    this.#phy.write(MII_ANAR, this.#core.regs.get(ANAR.at, 2));
  }

  /** Brings the registers up to date before a guest's read. */
  refresh(offset: number, width: AccessWidth): void {
    if (offset + width <= BMCR.at) return;
    const { regs } = this.#core;
    const phy = this.#phy;
    regs.set(BMCR.at, 2, phy.read(MII_BMCR));
    // A lost link shows to one read, so only one of the byte that has it counts.
    if (offset <= BMSR.at && offset + width > BMSR.at) regs.set(BMSR.at, 2, phy.read(MII_BMSR));
    regs.set(ANAR.at, 2, phy.read(MII_ANAR));
    regs.set(ANLPAR.at, 2, phy.read(MII_ANLPAR));
    regs.set(ANER.at, 2, phy.read(MII_ANER));
  }
}
