import { bits } from "../../regs/index.js";
import { PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_1 } from "../../spec/pci.js";
import { RTL8169_DECLARATIONS as R } from "../../spec/rtl8169.js";
import {
  type BusSpace,
  type Device,
  DriverError,
  type FilterResult,
  IFF_ALLMULTI,
  IFF_OACTIVE,
  IFF_PROMISC,
  IFF_RUNNING,
  IFF_UP,
  type InterruptCookie,
  type Media,
  type PciAttach,
} from "../types.js";
import { EthernetInterface, multicastTable } from "./ifnet.js";
import type { MiiPhy } from "./mii.js";
import { lockConfig, unlockConfig } from "./re-eeprom.js";

/* What RealTek's chips have in common for their drivers, from the 8139 on: command, filter, causes, PHY. */

const CR_RST = bits(R.CR.fields.RST);
export const CR_TE_RE = bits(R.CR.fields.TE) | bits(R.CR.fields.RE);
const RCR_AAP = bits(R.RCR.fields.AAP);
const RCR_APM = bits(R.RCR.fields.APM);
const RCR_AM = bits(R.RCR.fields.AM);
const RCR_AB = bits(R.RCR.fields.AB);
/** Standard gap between frames, unlimited bursts. */
export const TCR_CONFIG = bits(R.TCR.fields.IFG) | bits(R.TCR.fields.MXDMA);

const ISR_ROK = bits(R.ISR.fields.ROK);
const ISR_RER = bits(R.ISR.fields.RER);
export const ISR_TOK = bits(R.ISR.fields.TOK);
const ISR_TER = bits(R.ISR.fields.TER);
const ISR_RDU = bits(R.ISR.fields.RDU); // the 8139's RXOVW
const ISR_LINKCHG = bits(R.ISR.fields.LinkChg);
const ISR_FOVW = bits(R.ISR.fields.FOVW);
const ISR_TDU = bits(R.ISR.fields.TDU);
export const ISR_TIMEOUT = bits(R.ISR.fields.TimeOut);
const ISR_SERR = bits(R.ISR.fields.SERR);
const ISR_RX = ISR_ROK | ISR_RER | ISR_RDU | ISR_FOVW;
export const ISR_TX = ISR_TOK | ISR_TER | ISR_TDU;
/** RL_INTRS and RL_INTRS_CPLUS: C07Fh. TDU is looked at, and asks for no interrupt. */
export const INTRS = ISR_ROK | ISR_RER | ISR_TOK | ISR_TER | ISR_RDU | ISR_LINKCHG | ISR_FOVW | ISR_TIMEOUT | ISR_SERR;
/** What the ISR of an absent function reads as. */
const GONE = 0xffff;

const RESET_POLLS = 1000;
const RESET_POLL_US = 10;
/** Times that one interrupt looks again before others have a turn; the line is a level and comes back. */
const INTR_ROUNDS = 4;
/** Times in a row that the PHY gets attention: a link that flaps has to wait for its next interrupt. */
const PHY_ROUNDS = 3;

/** An interface on one of these chips. A driver's class gives the rings. */
export abstract class RealtekInterface extends EthernetInterface {
  protected readonly dev: Device<PciAttach>;
  protected readonly io: BusSpace;
  protected abstract readonly phy: MiiPhy;
  /** bits of RCR beside the filter */
  protected abstract readonly rcrConfig: number;
  /** causes that ask for an interrupt, and those after which sent frames are looked for */
  protected intrs = INTRS;
  protected isrTx = ISR_TX;
  /** Changes when frames are given up: a handler that called out and finds another has nothing left to do. */
  protected epoch = 0;
  /** `idle`, or what is to be done with the PHY after what is being done */
  #phyDue: "idle" | "none" | "tick" | "change" = "idle";
  #telling = false;
  #cookie: InterruptCookie | null = null; // an interrupt may come before its constructor has returned

  /** Takes the registers. @param ports those of BAR 0, otherwise the memory of BAR 1 */
  constructor(dev: Device<PciAttach>, ports: boolean) {
    super(dev.nameunit);
    this.dev = dev;
    const pci = dev.bus;
    pci.enableBusMaster(true);
    this.io = dev.resources.use(
      ports ? pci.alloc("ioport", PCI_BASE_ADDRESS_0) : pci.alloc("memory", PCI_BASE_ADDRESS_1),
    );
  }

  /** Takes frames that have come, as many as a turn allows. @returns whether more may be there */
  protected abstract rxEof(): boolean;
  /** Takes back what the chip has sent. */
  protected abstract txEof(): void;
  /** Ends what a chip that was stopped had to send; these frames count as errors. */
  protected abstract txGiveUp(): void;
  /** Frames that are finished and not yet told. */
  protected abstract takeFinished(): number;

  media(): Media {
    const { selected, active, options, link } = this.phy;
    return { selected, active, options, valid: true, status: link ? "active" : "no carrier" };
  }

  setMedia(selected: string): void {
    this.phy.select(selected);
    if (this.running) this.mediaChange();
  }

  /** For a host with a timer, once a second: a gigabit PHY starts negotiation again when there has been no link for 17 s. */
  tick(): void {
    if (this.running) this.#workPhy("tick");
  }

  detach(): void {
    this.flags &= ~IFF_UP;
    this.halt();
  }

  suspend(): void {
    this.halt();
  }

  resume(): void {
    if ((this.flags & IFF_UP) !== 0) this.start();
  }

  // ---------------------------------------------------------------------------------------------- up and down

  protected halt(): void {
    const wasRunning = this.running;
    this.flags &= ~(IFF_RUNNING | IFF_OACTIVE);
    if (wasRunning) this.stop();
    this.giveUp();
    this.setLink(false);
  }

  protected filter(): void {
    let rcr = this.rcrConfig | RCR_APM | RCR_AB;
    const everyGroup = (this.flags & (IFF_PROMISC | IFF_ALLMULTI)) !== 0;
    // AAP is about unicast only: promiscuous needs all groups, too.
    if ((this.flags & IFF_PROMISC) !== 0) rcr |= RCR_AAP;
    if (everyGroup || this.groups.length > 0) rcr |= RCR_AM;
    const [mar0, mar4] = multicastTable(everyGroup ? null : this.groups);
    this.io.write4(R.MAR0.at, mar0);
    this.io.write4(R.MAR4.at, mar4);
    this.io.write4(R.RCR.at, rcr);
  }

  protected changeLladdr(mac: Uint8Array): void {
    this.mac.set(mac);
    if (this.running) this.start();
  }

  protected delay(us: number): void {
    this.dev.bus.machine.delay(us);
  }

  /** Receiver and transmitter off, no interrupt, every cause acknowledged. */
  protected stop(): void {
    const { io } = this;
    io.write4(R.RCR.at, (io.read4(R.RCR.at) & ~(RCR_AAP | RCR_APM | RCR_AM | RCR_AB)) >>> 0);
    io.write1(R.CR.at, 0);
    io.write2(R.IMR.at, 0);
    io.write2(R.ISR.at, 0xffff);
  }

  /** @throws DriverError ETIMEDOUT */
  protected reset(): void {
    this.io.write1(R.CR.at, CR_RST);
    for (let polls = 0; (this.io.read1(R.CR.at) & CR_RST) !== 0; polls++) {
      if (polls === RESET_POLLS) throw new DriverError("ETIMEDOUT", `CR.RST still set after ${polls} reads`);
      this.delay(RESET_POLL_US);
    }
  }

  /** The last steps of `start`. Deviation: FreeBSD writes DVRLOAD while CONFIG1 is locked, and the chip drops it. */
  protected announce(): void {
    const { io } = this;
    unlockConfig(io);
    io.write1(R.CONFIG1.at, io.read1(R.CONFIG1.at) | bits(R.CONFIG1.fields.DVRLOAD));
    lockConfig(io);
    this.flags |= IFF_RUNNING;
    this.mediaChange();
  }

  /** Ends what the rings of a chip that was stopped had, and tells of the frames to send. */
  protected giveUp(): void {
    this.epoch++;
    this.txGiveUp();
    const finished = this.takeFinished();
    if (finished > 0) this.onSent?.(finished);
  }

  protected mediaChange(): void {
    this.#workPhy("change");
  }

  /**
   * One thing at a time: the PHY's driver waits, and an interrupt that comes meanwhile may want the PHY, too. What it wants
   * comes afterwards; kernels hold a lock for this.
   */
  #workPhy(what: "tick" | "change"): void {
    if (this.#phyDue !== "idle") {
      if (this.#phyDue !== "change") this.#phyDue = what;
      return;
    }
    let due: "tick" | "change" | "none" = what;
    try {
      for (let round = 0; round < PHY_ROUNDS && due !== "none"; round++) {
        this.#phyDue = "none";
        if (due === "change") this.phy.mediaChange();
        else this.phy.tick();
        due = this.#phyDue;
      }
    } catch (error) {
      if (!(error instanceof DriverError)) throw error;
      this.dev.log(error.message); // as FreeBSD: frames may go on where the PHY does not answer
    } finally {
      this.#phyDue = "idle";
    }
    this.setLink(this.running && this.phy.link && this.phy.active !== "none");
  }

  // ---------------------------------------------------------------------------------------------- interrupts

  /** The last step of attach: an interrupt may come the moment this returns, from whoever shares the line. */
  protected setupInterrupt(): void {
    const { bus, resources } = this.dev;
    const irq = resources.use(bus.allocIntx());
    const handler = { filter: () => this.#filter(), handler: () => this.#intr() };
    this.#cookie = resources.use(bus.setupIntr(irq, handler));
  }

  #filter(): FilterResult {
    const status = this.io.read2(R.ISR.at);
    if (status === GONE || (status & this.intrs) === 0) return "stray";
    this.io.write2(R.IMR.at, 0); // the line goes down; the handler lets it up again
    return "schedule";
  }

  #intr(): void {
    const { io, epoch } = this;
    let more = false;
    for (let round = 0; round < INTR_ROUNDS; round++) {
      const status = io.read2(R.ISR.at);
      io.write2(R.ISR.at, status);
      if ((this.flags & IFF_RUNNING) === 0 || status === GONE) return; // masked: `start` unmasks
      if (more || (status & ISR_RX) !== 0) {
        // Deviation: FreeBSD never looks at the count of missed frames. Two more accesses, when there was no buffer.
        if ((status & (ISR_RDU | ISR_FOVW)) !== 0) this.#missed();
        more = this.rxEof();
        if (epoch !== this.epoch) return; // a callback has taken the interface down, or down and up
      }
      if ((status & this.isrTx) !== 0) this.txEof();
      this.tell();
      if (epoch !== this.epoch) return;
      if ((status & ISR_LINKCHG) !== 0) {
        this.#workPhy("tick");
        if (epoch !== this.epoch) return;
      }
      if ((status & ISR_SERR) !== 0) {
        this.dev.log("a DMA cycle failed; starting anew");
        this.start();
        return;
      }
      if ((io.read2(R.ISR.at) & this.intrs) === 0 && !more) break;
    }
    if (more)
      this.#cookie?.schedule(); // still masked; the causes of these frames are acknowledged already
    else io.write2(R.IMR.at, this.intrs);
  }

  #missed(): void {
    this.stats.iqdrops += this.io.read4(R.MPC.at);
    this.io.write4(R.MPC.at, 0);
  }

  /** Tells of finished frames; one round in a turn. */
  protected tell(): void {
    if (this.#telling) return;
    const finished = this.takeFinished();
    if (finished === 0) return;
    this.flags &= ~IFF_OACTIVE;
    this.#telling = true;
    try {
      this.onSent?.(finished);
    } finally {
      this.#telling = false;
    }
  }
}
