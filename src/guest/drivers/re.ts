import type { GuestDma } from "../../contract/index.js";
import { bits, withField } from "../../regs/index.js";
import { PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_1 } from "../../spec/pci.js";
import {
  EEM_CONFIG_WRITE,
  EEM_NORMAL,
  EEM_PROGRAM,
  EEPROM_OP_READ,
  EEPROM_SIGNATURE,
  EEPROM_TYPES,
  EEPROM_WORDS,
  MII_MMDAADR,
  RTL8169_DECLARATIONS as R,
  REALTEK_VENDOR_ID,
  RGEPHY_PAGSR,
  RTL8169_CHIPS,
  RTL8169_DESC_SIZE,
  RTL8169_RING_ALIGN,
  RTL8169_RX_COMMAND,
  RTL8169_RX_STATUS,
  RTL8169_TALLY,
  RTL8169_TALLY_SIZE,
  RTL8169_TX_OPTS1,
} from "../../spec/rtl8169.js";
import { PCI } from "../pci-class.js";
import {
  BUS_PROBE_DEFAULT,
  type BusSpace,
  type Device,
  type DmaMemory,
  type Driver,
  DriverError,
  type FilterResult,
  type FrameSegments,
  IFF_ALLMULTI,
  IFF_OACTIVE,
  IFF_PROMISC,
  IFF_RUNNING,
  IFF_UP,
  type InterruptCookie,
  type Media,
  type PciAttach,
  type PciProbe,
} from "../types.js";
import {
  ETHER_ADDR_LEN,
  ETHER_CRC_LEN,
  ETHER_HDR_LEN,
  ETHER_VLAN_ENCAP_LEN,
  ETHERMTU,
  EthernetInterface,
  etherCrc32Be,
  formatMac,
  frameSegments,
} from "./ifnet.js";
import { Rgephy } from "./rgephy.js";

/**
 * re: RealTek gigabit Ethernet on PCI, for the RTL8169SB. The steps of attach and of `start` come in the order of FreeBSD's
 * if_re.c; what differs says so.
 *
 * Left out: 8139C+ and 8169SC (a match row and their registers each), chips on PCI Express, checksums, segmentation, VLAN tags
 * and jumbo frames in hardware, wake-on-LAN, moderation by the timer, and the watchdog.
 */

// Registers and fields
const CR_RST = bits(R.CR.fields.RST);
const CR_TE_RE = bits(R.CR.fields.TE) | bits(R.CR.fields.RE);
const TPPOLL_NPQ = bits(R.TPPoll.fields.NPQ);
const RCR_AAP = bits(R.RCR.fields.AAP);
const RCR_APM = bits(R.RCR.fields.APM);
const RCR_AM = bits(R.RCR.fields.AM);
const RCR_AB = bits(R.RCR.fields.AB);
/** No threshold, unlimited bursts, and two reserved bits that if_re.c sets. */
const RCR_CONFIG = bits(R.RCR.fields.RXFTH) | bits(R.RCR.fields.MXDMA) | 0x1800;
/** Standard gap between frames, unlimited bursts. */
const TCR_CONFIG = bits(R.TCR.fields.IFG) | bits(R.TCR.fields.MXDMA);
/** MulRW, and the two low bits that enable the rings of the C+ and do no harm here. */
const CPLUS_CONFIG = bits(R.CPlusCR.fields.MulRW) | bits(R.CPlusCR.fields.INTTmode);
const ETTHR = 16;
/** Transmit timer 5, transmit packets 4. */
const INTRMOD = 0x5100;
const RMS_MAX = 0x3fff;
const ISR_ROK = bits(R.ISR.fields.ROK);
const ISR_RER = bits(R.ISR.fields.RER);
const ISR_TOK = bits(R.ISR.fields.TOK);
const ISR_TER = bits(R.ISR.fields.TER);
const ISR_RDU = bits(R.ISR.fields.RDU);
const ISR_LINKCHG = bits(R.ISR.fields.LinkChg);
const ISR_FOVW = bits(R.ISR.fields.FOVW);
const ISR_TDU = bits(R.ISR.fields.TDU);
const ISR_TIMEOUT = bits(R.ISR.fields.TimeOut);
const ISR_SERR = bits(R.ISR.fields.SERR);
const ISR_RX = ISR_ROK | ISR_RER | ISR_RDU | ISR_FOVW;
const ISR_TX = ISR_TOK | ISR_TER | ISR_TDU;
/** RL_INTRS_CPLUS: C07Fh. TDU is looked at, and asks for no interrupt. */
const INTRS = ISR_ROK | ISR_RER | ISR_TOK | ISR_TER | ISR_RDU | ISR_LINKCHG | ISR_FOVW | ISR_TIMEOUT | ISR_SERR;
/** What the ISR of an absent function reads as. */
const GONE = 0xffff;
const CFG_UNLOCK = withField(0, R.Cr9346.fields.EEM, EEM_CONFIG_WRITE);
const CFG_LOCK = withField(0, R.Cr9346.fields.EEM, EEM_NORMAL);
const EE_PROGRAM = withField(0, R.Cr9346.fields.EEM, EEM_PROGRAM);
const EE_CS = bits(R.Cr9346.fields.EECS);
const EE_SK = bits(R.Cr9346.fields.EESK);
const EE_DI = bits(R.Cr9346.fields.EEDI);
const EE_DO = bits(R.Cr9346.fields.EEDO);
const PHYAR_FLAG = bits(R.PHYAR.fields.Flag);
const PHYAR_REG_SHIFT = R.PHYAR.fields.RegAddr[1];

// Descriptors
const OWN = bits(RTL8169_TX_OPTS1.OWN);
const EOR = bits(RTL8169_TX_OPTS1.EOR);
const FS = bits(RTL8169_TX_OPTS1.FS);
const LS = bits(RTL8169_TX_OPTS1.LS);
const TX_LEN_MAX = bits(RTL8169_TX_OPTS1.Frame_Length);
/** Observed: FreeBSD counts these, although the 8169's data sheet reserves them: error summary, bit 23. */
const TX_TXERRSUM = 0x0080_0000;
const RX_SIZE_MASK = bits(RTL8169_RX_COMMAND.Buffer_Size);
const RX_RES = bits(RTL8169_RX_STATUS.RES);
const RX_RWT = bits(RTL8169_RX_STATUS.RWT);
const RX_RUNT = bits(RTL8169_RX_STATUS.RUNT);
const RX_CRC = bits(RTL8169_RX_STATUS.CRC);
/** Above this length RWT alone is no error: the chip means `long`. */
const RX_RWT_LENGTH = 8191;

/** descriptors per ring */
const TX_RING = 256;
const RX_RING = 256;
/** bytes */
const RX_BUFFER = 2048;
/** Descriptors of the longest frame that RMS lets through; more without an end is a chip that has lost its way. */
const RX_PIECES_MAX = Math.ceil(RMS_MAX / RX_BUFFER);
/** Receive descriptors looked at with one sync. */
const RX_SYNC = 32;
const RESET_POLLS = 1000;
const RESET_POLL_US = 10;
const PHY_POLLS = 2000;
const PHY_POLL_US = 25;
const TALLY_POLLS = 1000;
/** Times that one interrupt looks again before others have a turn; the line is a level and comes back. */
const INTR_ROUNDS = 4;
const REACH = 2 ** 32; // no dual address cycles on these chips

const pollTimeout = (what: string): DriverError => new DriverError("ETIMEDOUT", what);

export interface ReOptions {
  /** Uses the ports of BAR 0 in place of the memory of BAR 1; FreeBSD's tunable hw.re.prefer_iomap. Default false */
  readonly preferIomap?: boolean;
}

/** Statistics as the chip counts them. Data sheet p. 15 */
export type ReTally = { readonly [name in keyof typeof RTL8169_TALLY]: number };

/** A RealTek gigabit interface. */
export class Re extends EthernetInterface {
  protected readonly maxMtu = ETHERMTU;
  readonly #dev: Device<PciAttach>;
  readonly #io: BusSpace;
  readonly #dma: GuestDma;
  readonly #phy: Rgephy;

  readonly #rxRing: DmaMemory;
  readonly #rx: DmaMemory; // a buffer per descriptor
  readonly #rxMore = frameSegments(RX_PIECES_MAX);
  #rxAt = 0; // the descriptor the chip uses next
  #rxSeen = 0; // descriptors from there on that this turn has synced
  #rxHidden = 0; // descriptors before it that were recycled and not yet synced
  #rxFirst = 0;
  #rxLast = 0;
  #epoch = 0;

  readonly #txRing: DmaMemory;
  readonly #txLen = new Uint32Array(TX_RING); // by last descriptor: bytes of the frame, 0 elsewhere
  readonly #txEnds = new Uint16Array(TX_RING); // by descriptor: frames that are finished with it
  #txProd = 0;
  #txCons = 0;
  #txUsed = 0; // descriptors from #txCons to #txProd
  #txQueued = 0; // of them not yet shown to the chip
  #txFinished = 0; // frames that are done and not yet told
  #txTelling = false;

  readonly #tally: DmaMemory;
  #cookie: InterruptCookie | null = null; // an interrupt may come before its constructor has returned

  constructor(dev: Device<PciAttach>, options: ReOptions) {
    super(dev.nameunit);
    const pci = dev.bus;
    this.#dev = dev;
    this.#dma = pci.machine.dma;

    // 1. Bus master and registers; message interrupts off, which these chips have no use for
    pci.enableBusMaster(true);
    this.#io = dev.resources.use(
      options.preferIomap === true ? pci.alloc("ioport", PCI_BASE_ADDRESS_0) : pci.alloc("memory", PCI_BASE_ADDRESS_1),
    );
    this.#unlock();
    const config2 = this.#io.read1(R.CONFIG2.at);
    if ((config2 & bits(R.CONFIG2.fields.MSI)) !== 0)
      this.#io.write1(R.CONFIG2.at, config2 & ~bits(R.CONFIG2.fields.MSI));
    this.#lock();

    // 2. Which chip it is
    const tcr = this.#io.read4(R.TCR.at);
    const newer = (tcr & 0x7000_0000) !== 0 && (tcr & 0x7000_0000) !== 0x1000_0000;
    const hwrev = (tcr & (newer ? 0x7cc0_0000 : 0xfcc0_0000)) >>> 0;
    dev.log(`Chip rev. 0x${hwrev.toString(16).padStart(8, "0")}`);
    if (hwrev !== RTL8169_CHIPS.RTL8169SB.version)
      throw new DriverError("ENXIO", `chip revision 0x${hwrev.toString(16)}: only the 8169SB is known here`);

    // 3. Reset
    this.#reset();

    // 4. Power management events on, wake-up frames off
    this.#unlock();
    this.#io.write1(R.CONFIG1.at, this.#io.read1(R.CONFIG1.at) | bits(R.CONFIG1.fields.PMEn));
    this.#io.write1(R.CONFIG5.at, this.#io.read1(R.CONFIG5.at) & bits(R.CONFIG5.fields.PME_STS));
    this.#lock();

    // 5. Station address
    this.#readAddress();

    // 6. Rings and buffers, all within 32 bits
    const tag = dev.resources.use(pci.dmaTag({ lowaddr: REACH - 1, nsegments: 1 }));
    const ringTag = dev.resources.use(tag.child({ alignment: RTL8169_RING_ALIGN }));
    this.#txRing = dev.resources.use(ringTag.alloc(TX_RING * RTL8169_DESC_SIZE));
    this.#rxRing = dev.resources.use(ringTag.alloc(RX_RING * RTL8169_DESC_SIZE));
    this.#rx = dev.resources.use(dev.resources.use(tag.child({ alignment: 8 })).alloc(RX_RING * RX_BUFFER));
    const tallyTag = dev.resources.use(tag.child({ alignment: RTL8169_TALLY_SIZE }));
    this.#tally = dev.resources.use(tallyTag.alloc(RTL8169_TALLY_SIZE));

    // 7. Take the PHY out of power down, and find it
    this.#phyWrite(RGEPHY_PAGSR, 0);
    this.#phyWrite(MII_MMDAADR, 0);
    this.#phy = new Rgephy({
      readreg: (reg) => this.#phyRead(reg),
      writereg: (reg, value) => this.#phyWrite(reg, value),
      delay: (us) => pci.machine.delay(us),
      readPhyStatus: () => this.#io.read1(R.PHYStatus.at),
    });

    // 8. Interrupt; one may come the moment this returns, from whoever shares the line
    const irq = dev.resources.use(pci.allocIntx());
    this.#cookie = dev.resources.use(pci.setupIntr(irq, { filter: () => this.#filter(), handler: () => this.#intr() }));
    dev.log(`Ethernet address: ${formatMac(this.mac)}`);
  }

  media(): Media {
    const { selected, active, options, link } = this.#phy;
    return { selected, active, options, valid: true, status: link ? "active" : "no carrier" };
  }

  setMedia(selected: string): void {
    this.#phy.select(selected);
    if (this.running) this.#mediaChange();
  }

  /** For a host with a timer, once a second: starts negotiation again when there has been no link for 17 s. */
  tick(): void {
    if (!this.running) return;
    this.#phy.tick();
    this.#linkStatus();
  }

  /** Asks the chip for its statistics. @throws DriverError ETIMEDOUT */
  tally(): ReTally {
    const { paddr } = this.#tally;
    this.#tally.sync(0, RTL8169_TALLY_SIZE, "preread");
    const command = bits(R.DTCCR_L.fields.Cmd);
    this.#io.write4(R.DTCCR_H.at, Math.floor(paddr / REACH));
    this.#io.write4(R.DTCCR_L.at, paddr >>> 0);
    this.#io.write4(R.DTCCR_L.at, (paddr | command) >>> 0);
    for (let polls = 0; (this.#io.read4(R.DTCCR_L.at) & command) !== 0; polls++) {
      if (polls === TALLY_POLLS) throw pollTimeout(`DTCCR.Cmd still set after ${polls} reads`);
      this.#dev.bus.machine.delay(1000);
    }
    this.#tally.sync(0, RTL8169_TALLY_SIZE, "postread");
    const counter = ({ at, width }: { at: number; width: number }): number =>
      width === 2
        ? this.#tally.read16(at)
        : this.#tally.read32(at) + (width === 8 ? this.#tally.read32(at + 4) * REACH : 0);
    return Object.fromEntries(Object.entries(RTL8169_TALLY).map(([name, place]) => [name, counter(place)])) as ReTally;
  }

  transmit(frame: FrameSegments): boolean {
    if ((this.flags & IFF_RUNNING) === 0 || !this.linkActive) return false;
    const { count, paddr, len } = frame;
    let bytes = 0;
    let pieces = 0;
    let reachable = true;
    for (let i = 0; i < count; i++) {
      const length = len[i]!;
      if (length === 0) continue;
      bytes += length;
      pieces++;
      if (length > TX_LEN_MAX || paddr[i]! + length > REACH) reachable = false;
    }
    const longest = ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + this.mtu;
    if (!reachable || bytes < ETHER_HDR_LEN || bytes > longest || pieces > TX_RING) return this.#drop();
    if (this.#txUsed + pieces > TX_RING) {
      this.#txEof();
      if (this.#txUsed + pieces > TX_RING) {
        this.flags |= IFF_OACTIVE;
        return false;
      }
    }
    const ring = this.#txRing;
    const first = this.#txProd;
    let at = first;
    let left = pieces;
    let firstOpts = 0;
    for (let i = 0; i < count; i++) {
      const length = len[i]!;
      if (length === 0) continue;
      this.#dma.sync(paddr[i]!, length, "prewrite");
      let opts1 = length;
      if (at === TX_RING - 1) opts1 |= EOR;
      if (--left === 0) opts1 |= LS;
      const desc = at * RTL8169_DESC_SIZE;
      ring.write32(desc + 8, paddr[i]!);
      ring.write32(desc + 12, 0);
      ring.write32(desc + 4, 0); // no tag
      // The chip may be reading already: it must not find the frame before the frame is whole.
      if (at === first) firstOpts = opts1 | FS;
      else ring.write32(desc, (opts1 | OWN) >>> 0);
      this.#txLen[at] = left === 0 ? bytes : 0;
      this.#txEnds[at] = left === 0 ? 1 : 0;
      at = at === TX_RING - 1 ? 0 : at + 1;
    }
    ring.write32(first * RTL8169_DESC_SIZE, (firstOpts | OWN) >>> 0);
    this.#txProd = at;
    this.#txUsed += pieces;
    this.#txQueued += pieces;
    return true;
  }

  kick(): void {
    if ((this.flags & IFF_RUNNING) === 0) return;
    if (this.#txQueued > 0) {
      this.#txShow();
      this.#io.write1(R.TPPoll.at, TPPOLL_NPQ);
    }
    if (this.#txUsed === 0) this.#txTell(); // frames that were dropped, and no interrupt will come
  }

  // ---------------------------------------------------------------------------------------------- up and down

  protected start(): void {
    const io = this.#io;
    // 1. Stop what may be going on, and give up what it had
    this.#stop();
    this.#giveUp();
    // 2. Reset
    this.#reset();
    // 3. C+ command, before the addresses of the rings: on the C+ enabling its rings may destroy them
    io.write2(R.CPlusCR.at, CPLUS_CONFIG);
    // 4. Station address, which is locked; two dwords, the second with two bytes of nothing
    const mac = new DataView(this.mac.buffer);
    this.#unlock();
    io.write4(R.IDR0.at, mac.getUint32(0, true));
    io.write4(R.IDR4.at, mac.getUint16(4, true));
    this.#lock();
    // 5. Rings, high halves first
    this.#initRings();
    io.write4(R.RDSAR_H.at, 0);
    io.write4(R.RDSAR_L.at, this.#rxRing.paddr);
    io.write4(R.TNPDS_H.at, 0);
    io.write4(R.TNPDS_L.at, this.#txRing.paddr);
    // 6. Enable both sides; only then the chip takes TCR and RCR
    io.write1(R.CR.at, CR_TE_RE);
    io.write4(R.TCR.at, TCR_CONFIG);
    io.write1(R.ETThR.at, ETTHR);
    // 7. Receive filter
    this.filter();
    // 8. Interrupts; the counter of missed frames and the timer from 0; frames of any length
    io.write2(R.IntrMitigate.at, INTRMOD);
    io.write2(R.IMR.at, INTRS);
    io.write2(R.ISR.at, INTRS);
    io.write4(R.MPC.at, 0);
    io.write4(R.TimerInt.at, 0);
    io.write2(R.RMS.at, RMS_MAX);
    // 9. The driver is there. Deviation: FreeBSD writes it while CONFIG1 is locked, and the chip drops it.
    this.#unlock();
    io.write1(R.CONFIG1.at, io.read1(R.CONFIG1.at) | bits(R.CONFIG1.fields.DVRLOAD));
    this.#lock();
    this.flags |= IFF_RUNNING;
    // 10. Media
    this.#mediaChange();
  }

  protected halt(): void {
    const wasRunning = this.running;
    this.flags &= ~(IFF_RUNNING | IFF_OACTIVE);
    if (wasRunning) this.#stop();
    this.#giveUp();
    this.setLink(false);
  }

  protected filter(): void {
    let rcr = RCR_CONFIG | RCR_APM | RCR_AB;
    let mar0 = 0;
    let mar4 = 0;
    if ((this.flags & (IFF_PROMISC | IFF_ALLMULTI)) !== 0) {
      // AAP is about unicast only: promiscuous needs all groups, too.
      if ((this.flags & IFF_PROMISC) !== 0) rcr |= RCR_AAP;
      rcr |= RCR_AM;
      mar0 = mar4 = 0xffff_ffff;
    } else {
      for (const group of this.groups) {
        const index = etherCrc32Be(group) >>> 26;
        if (index < 32) mar0 |= 1 << index;
        else mar4 |= 1 << (index - 32);
      }
      if (this.groups.length > 0) rcr |= RCR_AM;
    }
    this.#io.write4(R.MAR0.at, mar0 >>> 0);
    this.#io.write4(R.MAR4.at, mar4 >>> 0);
    this.#io.write4(R.RCR.at, rcr);
  }

  protected changeLladdr(mac: Uint8Array): void {
    this.mac.set(mac);
    if (this.running) this.start();
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

  /** Receiver and transmitter off, no interrupt, every cause acknowledged. */
  #stop(): void {
    const io = this.#io;
    io.write4(R.RCR.at, (io.read4(R.RCR.at) & ~(RCR_AAP | RCR_APM | RCR_AM | RCR_AB)) >>> 0);
    io.write1(R.CR.at, 0);
    io.write2(R.IMR.at, 0);
    io.write2(R.ISR.at, 0xffff);
  }

  #reset(): void {
    this.#io.write1(R.CR.at, CR_RST);
    for (let polls = 0; (this.#io.read1(R.CR.at) & CR_RST) !== 0; polls++) {
      if (polls === RESET_POLLS) throw pollTimeout(`CR.RST still set after ${polls} reads`);
      this.#dev.bus.machine.delay(RESET_POLL_US);
    }
    this.#io.write1(R.Reg82.at, 1); // undocumented; every driver of the PCI chips does it
  }

  #initRings(): void {
    const { paddr } = this.#rx;
    for (let i = 0; i < RX_RING; i++) {
      const desc = i * RTL8169_DESC_SIZE;
      this.#rxRing.write32(desc + 4, 0);
      this.#rxRing.write32(desc + 8, paddr + i * RX_BUFFER);
      this.#rxRing.write32(desc + 12, 0);
      this.#rxRing.write32(desc, rxCommand(i));
    }
    this.#rx.sync(0, RX_RING * RX_BUFFER, "preread");
    this.#rxRing.sync(0, RX_RING * RTL8169_DESC_SIZE, "prewrite");
    this.#rxRing.sync(0, RX_RING * RTL8169_DESC_SIZE, "preread");
    for (let at = 0; at < TX_RING * RTL8169_DESC_SIZE; at += 4) this.#txRing.write32(at, 0);
    this.#txRing.sync(0, TX_RING * RTL8169_DESC_SIZE, "prewrite");
    this.#rxAt = this.#rxHidden = this.#txProd = this.#txCons = this.#txUsed = this.#txQueued = 0;
  }

  /** Empties the rings of a chip that was stopped; frames to send count as errors and are told. */
  #giveUp(): void {
    this.#epoch++;
    for (; this.#txUsed > 0; this.#txUsed--) {
      if (this.#txLen[this.#txCons]! > 0) this.stats.oerrors++;
      this.#txFinished += this.#txEnds[this.#txCons]!;
      this.#txCons = (this.#txCons + 1) % TX_RING;
    }
    this.#txQueued = 0;
    const finished = this.#txFinished;
    this.#txFinished = 0;
    if (finished > 0) this.onSent?.(finished);
  }

  #mediaChange(): void {
    this.#phy.mediaChange();
    this.#linkStatus();
  }

  #linkStatus(): void {
    this.setLink(this.running && this.#phy.link && this.#phy.active !== "none");
  }

  // ---------------------------------------------------------------------------------------------- interrupts

  #filter(): FilterResult {
    const status = this.#io.read2(R.ISR.at);
    if (status === GONE || (status & INTRS) === 0) return "stray";
    this.#io.write2(R.IMR.at, 0); // the line goes down; the handler lets it up again
    return "schedule";
  }

  #intr(): void {
    const io = this.#io;
    const epoch = this.#epoch;
    let more = false;
    for (let round = 0; round < INTR_ROUNDS; round++) {
      const status = io.read2(R.ISR.at);
      io.write2(R.ISR.at, status);
      if ((this.flags & IFF_RUNNING) === 0 || status === GONE) return; // masked: `start` unmasks
      if (more || (status & ISR_RX) !== 0) {
        // Deviation: FreeBSD never looks at the count of missed frames. Two more accesses, when there was no buffer.
        if ((status & (ISR_RDU | ISR_FOVW)) !== 0) this.#missed();
        more = this.#rxEof();
        if (epoch !== this.#epoch) return; // a callback has taken the interface down, or down and up
      }
      if ((status & ISR_TX) !== 0) this.#txEof();
      this.#txTell();
      if (epoch !== this.#epoch) return;
      if ((status & ISR_LINKCHG) !== 0) {
        this.#phy.tick();
        this.#linkStatus();
        if (epoch !== this.#epoch) return;
      }
      if ((status & ISR_SERR) !== 0) {
        this.#dev.log("a DMA cycle failed; starting anew");
        this.start();
        return;
      }
      if ((io.read2(R.ISR.at) & INTRS) === 0 && !more) break;
    }
    if (more)
      this.#cookie?.schedule(); // still masked; the causes of these frames are acknowledged already
    else io.write2(R.IMR.at, INTRS);
  }

  #missed(): void {
    this.stats.iqdrops += this.#io.read4(R.MPC.at);
    this.#io.write4(R.MPC.at, 0);
  }

  // ---------------------------------------------------------------------------------------------- receive

  /** Takes the frames that are there, at most a ring of them. @returns whether more may be there */
  #rxEof(): boolean {
    const epoch = this.#epoch;
    this.#rxSeen = 0;
    for (let left = RX_RING; left > 0; ) {
      const pieces = this.#rxPieces();
      if (pieces === 0) {
        this.#rxShow();
        return false;
      }
      this.#rxFrame(pieces);
      if (epoch !== this.#epoch) return false; // onReceive took the interface down; the rings are new or will be
      this.#rxRecycle(pieces);
      left -= pieces;
    }
    this.#rxShow();
    return true;
  }

  /** Descriptors of the next whole frame, their status in #rxFirst and #rxLast; 0 while it is not there. */
  #rxPieces(): number {
    for (let n = 0; n < RX_PIECES_MAX; n++) {
      const status = this.#rxStatus(n);
      if ((status & OWN) !== 0) return 0;
      if (n === 0) this.#rxFirst = status;
      this.#rxLast = status;
      if ((status & LS) !== 0) return n + 1;
    }
    return RX_PIECES_MAX; // without an end: an error, whatever it is
  }

  /** opts1 of the descriptor `ahead` of the next one. */
  #rxStatus(ahead: number): number {
    const index = (this.#rxAt + ahead) % RX_RING;
    if (ahead >= this.#rxSeen) {
      this.#rxShow(); // reading in what the chip wrote must not undo what we wrote
      const count = Math.min(RX_SYNC, RX_RING - index);
      this.#rxRing.sync(index * RTL8169_DESC_SIZE, count * RTL8169_DESC_SIZE, "postread");
      this.#rxSeen = ahead + count;
    }
    return this.#rxRing.read32(index * RTL8169_DESC_SIZE);
  }

  #rxFrame(pieces: number): void {
    const last = this.#rxLast;
    const total = last & RX_SIZE_MASK; // FCS included
    // All buffers but the last are full; the length in the last descriptor is that of the frame.
    let bad =
      (this.#rxFirst & FS) === 0 ||
      (last & LS) === 0 ||
      total <= RX_BUFFER * (pieces - 1) ||
      total > RX_BUFFER * pieces ||
      total < ETHER_HDR_LEN + ETHER_CRC_LEN;
    if ((last & RX_RES) !== 0 && (total <= RX_RWT_LENGTH || (last & (RX_RWT | RX_RUNT | RX_CRC)) !== RX_RWT))
      bad = true;
    if (bad) {
      this.stats.ierrors++;
      return;
    }
    const bytes = total - ETHER_CRC_LEN;
    const more = this.#rxMore;
    more.count = 0;
    let left = bytes;
    for (let n = 0; n < pieces && left > 0; n++) {
      const at = ((this.#rxAt + n) % RX_RING) * RX_BUFFER;
      const length = left < RX_BUFFER ? left : RX_BUFFER;
      this.#rx.sync(at, length, "postread");
      left -= length;
      if (n === 0) continue;
      more.paddr[more.count] = this.#rx.paddr + at;
      more.len[more.count++] = length;
    }
    this.stats.ipackets++;
    this.stats.ibytes += bytes;
    const address = this.#rx.paddr + this.#rxAt * RX_BUFFER;
    this.onReceive?.(address, bytes < RX_BUFFER ? bytes : RX_BUFFER, more.count > 0 ? more : null);
  }

  /** Gives descriptors back to the chip, as they were at the start. */
  #rxRecycle(pieces: number): void {
    for (let n = 0; n < pieces; n++) {
      const desc = this.#rxAt * RTL8169_DESC_SIZE;
      this.#rx.sync(this.#rxAt * RX_BUFFER, RX_BUFFER, "preread");
      this.#rxRing.write32(desc + 4, 0);
      this.#rxRing.write32(desc, rxCommand(this.#rxAt));
      this.#rxAt = (this.#rxAt + 1) % RX_RING;
    }
    this.#rxSeen -= pieces;
    this.#rxHidden += pieces;
  }

  /** Makes recycled descriptors visible to the chip. */
  #rxShow(): void {
    const hidden = this.#rxHidden;
    if (hidden === 0) return;
    this.#rxHidden = 0;
    const first = (this.#rxAt + RX_RING - hidden) % RX_RING;
    handOver(this.#rxRing, first, Math.min(hidden, RX_RING - first));
    handOver(this.#rxRing, 0, first + hidden - RX_RING);
  }

  // ---------------------------------------------------------------------------------------------- transmit

  /** A frame that cannot be sent: told together with the one before it. */
  #drop(): true {
    this.stats.oerrors++;
    if (this.#txUsed === 0) this.#txFinished++;
    else {
      const last = (this.#txProd + TX_RING - 1) % TX_RING;
      this.#txEnds[last] = this.#txEnds[last]! + 1;
    }
    return true;
  }

  /** Makes queued descriptors visible to the chip, the first one last. */
  #txShow(): void {
    const first = (this.#txProd + TX_RING - this.#txQueued) % TX_RING;
    handOver(this.#txRing, first + 1, Math.min(this.#txQueued, TX_RING - first) - 1);
    handOver(this.#txRing, 0, first + this.#txQueued - TX_RING);
    handOver(this.#txRing, first, 1);
    this.#txQueued = 0;
  }

  /** Takes back what the chip has sent. */
  #txEof(): void {
    const shown = this.#txUsed - this.#txQueued;
    const size = RTL8169_DESC_SIZE;
    const end = this.#txCons + shown;
    this.#txRing.sync(this.#txCons * size, (Math.min(end, TX_RING) - this.#txCons) * size, "postread");
    if (end > TX_RING) this.#txRing.sync(0, (end - TX_RING) * size, "postread");
    for (let n = 0; n < shown; n++) {
      const at = this.#txCons;
      const opts1 = this.#txRing.read32(at * size);
      if ((opts1 & OWN) !== 0) break;
      const bytes = this.#txLen[at]!;
      if (bytes > 0) {
        if ((opts1 & TX_TXERRSUM) !== 0) this.stats.oerrors++;
        else {
          this.stats.opackets++;
          this.stats.obytes += bytes;
        }
      }
      this.#txFinished += this.#txEnds[at]!;
      this.#txCons = (at + 1) % TX_RING;
      this.#txUsed--;
    }
  }

  #txTell(): void {
    const finished = this.#txFinished;
    if (finished === 0 || this.#txTelling) return;
    this.#txFinished = 0;
    this.flags &= ~IFF_OACTIVE;
    this.#txTelling = true;
    try {
      this.onSent?.(finished);
    } finally {
      this.#txTelling = false;
    }
  }

  // ---------------------------------------------------------------------------------------------- EEPROM and PHY

  #unlock(): void {
    this.#io.write1(R.Cr9346.at, CFG_UNLOCK);
  }

  #lock(): void {
    this.#io.write1(R.Cr9346.at, CFG_LOCK);
  }

  /** From the EEPROM, which answers to 6 or 8 address bits; from the registers where neither gives an address. */
  #readAddress(): void {
    const wide = EEPROM_TYPES["93C56"].addressBits;
    const signature = this.#eeprom(EEPROM_WORDS.signature, 1, wide)[0]!;
    const width = signature === EEPROM_SIGNATURE ? wide : EEPROM_TYPES["93C46"].addressBits;
    for (const [i, word] of this.#eeprom(EEPROM_WORDS.mac, ETHER_ADDR_LEN / 2, width).entries()) {
      this.mac[2 * i] = word & 0xff;
      this.mac[2 * i + 1] = word >>> 8;
    }
    if ((this.mac[0]! & 1) === 0 && this.mac.some((byte) => byte !== 0)) return;
    for (let i = 0; i < ETHER_ADDR_LEN; i++) this.mac[i] = this.#io.read1(R.IDR0.at + i);
  }

  /** Reads words over the EEPROM's four wires. Data sheet of the 93C46: start bit, opcode, address, most significant bit first */
  #eeprom(word: number, count: number, addressBits: number): Uint16Array {
    const io = this.#io;
    const at = R.Cr9346.at;
    const set = (wires: number): void => io.write1(at, io.read1(at) | wires);
    const clear = (wires: number): void => io.write1(at, io.read1(at) & ~wires);
    const words = new Uint16Array(count);
    set(EE_PROGRAM);
    for (let i = 0; i < count; i++) {
      set(EE_CS);
      const command = (((1 << 2) | EEPROM_OP_READ) << addressBits) | (word + i);
      // One zero goes before the start bit, and is ignored.
      for (let bit = addressBits + 3; bit >= 0; bit--) {
        if (((command >>> bit) & 1) !== 0) set(EE_DI);
        else clear(EE_DI);
        set(EE_SK);
        clear(EE_SK);
      }
      let value = 0;
      for (let bit = 15; bit >= 0; bit--) {
        set(EE_SK);
        if ((io.read1(at) & EE_DO) !== 0) value |= 1 << bit;
        clear(EE_SK);
      }
      words[i] = value;
      clear(EE_CS);
    }
    clear(EE_PROGRAM);
    return words;
  }

  #phyRead(reg: number): number {
    this.#io.write4(R.PHYAR.at, reg << PHYAR_REG_SHIFT);
    for (let polls = 0; polls < PHY_POLLS; polls++) {
      const value = this.#io.read4(R.PHYAR.at);
      if ((value & PHYAR_FLAG) !== 0) {
        this.#dev.bus.machine.delay(20); // the PHY wants a pause between two commands
        return value & 0xffff;
      }
      this.#dev.bus.machine.delay(PHY_POLL_US);
    }
    throw pollTimeout(`PHY register ${reg} was not read`);
  }

  #phyWrite(reg: number, value: number): void {
    this.#io.write4(R.PHYAR.at, (PHYAR_FLAG | (reg << PHYAR_REG_SHIFT) | value) >>> 0);
    for (let polls = 0; polls < PHY_POLLS; polls++) {
      if ((this.#io.read4(R.PHYAR.at) & PHYAR_FLAG) === 0) {
        this.#dev.bus.machine.delay(20);
        return;
      }
      this.#dev.bus.machine.delay(PHY_POLL_US);
    }
    throw pollTimeout(`PHY register ${reg} was not written`);
  }
}

/** Syncs descriptors that now are the chip's, to read and to write. */
const handOver = (ring: DmaMemory, first: number, count: number): void => {
  if (count <= 0) return;
  ring.sync(first * RTL8169_DESC_SIZE, count * RTL8169_DESC_SIZE, "prewrite");
  ring.sync(first * RTL8169_DESC_SIZE, count * RTL8169_DESC_SIZE, "preread");
};

/** opts1 that hands a receive descriptor over. */
const rxCommand = (index: number): number => (OWN | (index === RX_RING - 1 ? EOR : 0) | RX_BUFFER) >>> 0;

/** Makes the driver `re`. */
export const reDriver = (options: ReOptions = {}): Driver<PciProbe, PciAttach, Re> => ({
  name: "re",
  bus: PCI,
  // The row for 10EC:8139 revision 20h comes with the 8139C+.
  pnp: [{ vendor: REALTEK_VENDOR_ID, device: RTL8169_CHIPS.RTL8169SB.deviceId }],
  probe: (view) =>
    view.vendor === REALTEK_VENDOR_ID && view.device === RTL8169_CHIPS.RTL8169SB.deviceId
      ? { priority: BUS_PROBE_DEFAULT, desc: "RealTek 8169/8169S/8169SB(L)/8110S/8110SB(L) Gigabit Ethernet" }
      : null,
  attach: (dev) => new Re(dev, options),
  detach: (_dev, re) => re.detach(),
  suspend: (_dev, re) => re.suspend(),
  resume: (_dev, re) => re.resume(),
  shutdown: (_dev, re) => re.suspend(),
});

export const re = reDriver();
