import type { GuestDma } from "../../contract/index.js";
import { bits } from "../../regs/index.js";
import {
  MII_MMDAADR,
  RTL8169_DECLARATIONS as R,
  RGEPHY_PAGSR,
  RTL8169_DESC_SIZE,
  RTL8169_RING_ALIGN,
  RTL8169_TALLY_SIZE,
} from "../../spec/rtl8169.js";
import { PCI } from "../pci-class.js";
import {
  BUS_PROBE_DEFAULT,
  type Device,
  type DmaMemory,
  type DmaTag,
  type Driver,
  type FrameSegments,
  IFF_OACTIVE,
  IFF_PROMISC,
  IFF_RUNNING,
  type PciAttach,
  type PciProbe,
  type TxOffload,
} from "../types.js";
import {
  ETHER_CRC_LEN,
  formatMac,
  frameSegments,
  IFCAP_RXCSUM,
  IFCAP_TSO4,
  IFCAP_VLAN_HWCSUM,
  IFCAP_VLAN_HWTAGGING,
  IFCAP_WOL_MAGIC,
  NO_VLAN,
} from "./ifnet.js";
import type { MiiPhy } from "./mii.js";
import { reDiag } from "./re-diag.js";
import { lockConfig, readStationAddress, unlockConfig, writeStationAddress } from "./re-eeprom.js";
import { hardwareOf, hardwareRevision, hex8, RE_PNP, type ReHardware, reDevice } from "./re-hardware.js";
import { phyarBus, shownMiiBus } from "./re-mii.js";
import { CANNOT, cplusCommand, RE_OFFLOADS, TSO_MTU, txCommand } from "./re-offload.js";
import { ReRxRing, RX_BUFFER } from "./re-rx-ring.js";
import { dumpTally, type ReTally } from "./re-tally.js";
import { ReTxRing } from "./re-tx-ring.js";
import { armWake, canWake, disarmWake, RE_WOL } from "./re-wol.js";
import { CR_TE_RE, INTRS, ISR_TIMEOUT, ISR_TOK, ISR_TX, RealtekInterface, TCR_CONFIG } from "./realtek.js";
import { Rgephy, type RgephyBus } from "./rgephy.js";
import { Rlphy } from "./rlphy.js";

export type { ReTally } from "./re-tally.js";

/**
 * re: RealTek's chips with descriptor rings on PCI, the RTL8169 family and the RTL8139C+, which `re-hardware.ts` tells apart.
 * The steps of attach and of `start` come in the order of FreeBSD's if_re.c; what differs says so.
 *
 * Left out: chips on PCI Express, and the watchdog.
 */

const TPPOLL_NPQ = bits(R.TPPoll.fields.NPQ);
/** No threshold, unlimited bursts, and two reserved bits that if_re.c sets. */
const RCR_CONFIG = bits(R.RCR.fields.RXFTH) | bits(R.RCR.fields.MXDMA) | 0x1800;
const ETTHR = 16;
/** Transmit timer 5, transmit packets 4. */
const INTRMOD = 0x5100;
const RMS_MAX = 0x3fff;
/** Moderation by the timer: PCI clocks from the last frame queued to the interrupt, 61 µs and on the C+ 31 µs. */
const TIMERINT_GIGABIT = 0x800;
const TIMERINT_CPLUS = 0x400;
/** bytes for the frame of the diagnostic */
const DIAG_FRAME = 64;
const REACH = 2 ** 32; // no dual address cycles on these chips

export interface ReOptions {
  /**
   * Uses the ports of BAR 0 in place of the memory of BAR 1, or the other way round; FreeBSD's tunable hw.re.prefer_iomap.
   * Default: ports on the 8169SC, as FreeBSD has it, memory on the others
   */
  readonly preferIomap?: boolean;
  /** Asks for checksum, segmentation and VLAN offloads, TSO switched off as FreeBSD does; default true */
  readonly offload?: boolean;
  /**
   * When the chip tells that frames were sent. `mitigate`: IntrMitigate on gigabit chips, nothing on the C+; FreeBSD's
   * default. `timer`: once the timer, restarted by each doorbell, reaches TimerInt; OpenBSD's way and FreeBSD's
   * RE_TX_MODERATION. `none`: at once.
   */
  readonly moderation?: "mitigate" | "timer" | "none";
  /** Runs the loopback diagnostic at attach; default: on the original 8169. DragonFly of 2004 ran it on every chip. */
  readonly diagnose?: boolean;
}

/** A RealTek interface, of 1000 or, on the 8139C+, of 100 Mb/s. */
export class Re extends RealtekInterface {
  /** which chip it is, as re(4) prints it */
  readonly chip: string;
  protected readonly maxMtu: number;
  protected readonly rcrConfig = RCR_CONFIG;
  protected readonly phy: MiiPhy;
  readonly #hw: ReHardware;
  readonly #dma: GuestDma;
  /** the PHY behind PHYAR; null on the C+ */
  readonly #gmii: RgephyBus | null;
  readonly #rx: ReRxRing;
  readonly #tx: ReTxRing;
  readonly #tally: DmaMemory;
  readonly #moderation: "mitigate" | "timer" | "none";
  #testing = false;

  constructor(dev: Device<PciAttach>, options: ReOptions) {
    // 1. Bus master and registers
    super(dev, options.preferIomap ?? reDevice(dev.bus)?.ports === true);
    const { bus: pci } = dev;
    this.#dma = pci.machine.dma;
    this.#moderation = options.moderation ?? "mitigate";
    if (this.#moderation === "timer") {
      this.intrs = INTRS & ~ISR_TOK;
      this.isrTx = ISR_TX | ISR_TIMEOUT;
    }

    // 2. Message interrupts off, which these chips have no use for, and which chip it is
    const { io } = this;
    if (reDevice(pci)?.noMessages !== true) this.#disableMessages();
    const revision = hardwareRevision(io.read4(R.TCR.at));
    dev.log(`Chip rev. 0x${hex8(revision)}`);
    this.#hw = hardwareOf(revision);
    this.chip = this.#hw.name;
    this.maxMtu = this.#hw.maxMtu;
    const delay = (us: number): void => pci.machine.delay(us);

    // 3. Reset
    this.#gmii = this.#hw.gigabit ? phyarBus(io, delay) : null;
    this.reset();

    // 4. Power management events on, wake-up frames off
    const { CONFIG5 } = this.#hw.layout;
    unlockConfig(io);
    io.write1(R.CONFIG1.at, io.read1(R.CONFIG1.at) | bits(R.CONFIG1.fields.PMEn));
    io.write1(CONFIG5, io.read1(CONFIG5) & bits(R.CONFIG5.fields.PME_STS));
    lockConfig(io);

    // 5. Station address
    readStationAddress(io, this.mac);

    // 6. Rings and buffers, all within 32 bits
    const { descriptors, gigabit } = this.#hw;
    const tag = dev.resources.use(pci.dmaTag({ lowaddr: REACH - 1, nsegments: 1 }));
    const ringTag = dev.resources.use(tag.child({ alignment: RTL8169_RING_ALIGN }));
    const ring = (): DmaMemory => dev.resources.use(ringTag.alloc(descriptors * RTL8169_DESC_SIZE));
    this.#tx = new ReTxRing(ring(), descriptors, this.#dma);
    const rxRing = ring();
    const buffers = dev.resources.use(dev.resources.use(tag.child({ alignment: 8 })).alloc(descriptors * RX_BUFFER));
    this.#rx = new ReRxRing(rxRing, buffers, descriptors, gigabit);
    const tallyTag = dev.resources.use(tag.child({ alignment: RTL8169_TALLY_SIZE }));
    this.#tally = dev.resources.use(tallyTag.alloc(RTL8169_TALLY_SIZE));

    // 7. Take the PHY out of power down, and find it
    if (this.#hw.phyWake) {
      this.#gmii?.writereg(RGEPHY_PAGSR, 0);
      this.#gmii?.writereg(MII_MMDAADR, 0);
    }
    this.phy = this.#gmii !== null ? new Rgephy(this.#gmii) : new Rlphy(shownMiiBus(io, delay));

    // 8. What is left to the chip
    if (options.offload !== false) {
      this.offloads = RE_OFFLOADS;
      // TSO only when asked for: FreeBSD saw segments with options cut wrong.
      this.capenable |= (this.offloads & ~IFCAP_TSO4) | IFCAP_VLAN_HWCSUM;
    }

    if (canWake(pci)) {
      this.offloads |= RE_WOL;
      this.capenable |= IFCAP_WOL_MAGIC;
    }

    // 9. Does DMA work?
    if (options.diagnose ?? this.#hw.diagnose) this.#diagnose(tag);

    // 10. Interrupt
    this.setupInterrupt();
    dev.log(`Ethernet address: ${formatMac(this.mac)}`);
  }

  /** Asks the chip for its statistics. @throws DriverError ETIMEDOUT */
  tally(): ReTally {
    return dumpTally(this.io, this.#tally, (us) => this.delay(us));
  }

  transmit(frame: FrameSegments, offload: TxOffload | null = null, vlan = NO_VLAN): boolean {
    if ((this.flags & IFF_RUNNING) === 0 || !this.linkActive) return false;
    const tx = this.#tx;
    tx.measure(frame);
    const command = txCommand(tx.bytes, offload, vlan, this.capenable, this.mtu);
    if (command === CANNOT || !tx.reachable || tx.pieces > tx.size) {
      this.stats.oerrors++;
      tx.drop();
      return true;
    }
    if (!tx.hasRoom) {
      tx.reclaim(this.stats);
      if (!tx.hasRoom) {
        this.flags |= IFF_OACTIVE;
        return false;
      }
    }
    tx.push(frame, command, vlan);
    return true;
  }

  kick(): void {
    if ((this.flags & IFF_RUNNING) === 0) return;
    if (this.#tx.queued > 0) this.#doorbell();
    if (this.#tx.used === 0) this.tell(); // frames that were dropped, and no interrupt will come
  }

  // ---------------------------------------------------------------------------------------------- up and down

  protected start(): void {
    const { io } = this;
    const { layout, gigabit, magic7c, loopback } = this.#hw;
    const byTimer = this.#moderation === "timer" || this.#testing;
    // 1. Stop what may be going on, and give up what it had
    this.stop();
    this.giveUp();
    // 2. Reset
    this.reset();
    // 3. C+ command, before the addresses of the rings: on the C+ enabling its rings may destroy them
    io.write2(R.CPlusCR.at, cplusCommand(this.capenable));
    if (magic7c !== null) {
      const is66Mhz = (io.read1(R.CONFIG2.at) & 1) !== 0;
      io.write4(R.Reg7C.at, magic7c | (is66Mhz ? 0xff : 0));
      io.write2(R.IntrMitigate.at, 0);
    }
    // 4. Station address
    writeStationAddress(io, this.mac);
    // 5. Rings, high halves first
    this.#rx.reset();
    this.#tx.reset();
    io.write4(R.RDSAR_H.at, 0);
    io.write4(R.RDSAR_L.at, this.#rx.paddr);
    io.write4(R.TNPDS_H.at, 0);
    io.write4(R.TNPDS_L.at, this.#tx.paddr);
    // 6. Enable both sides; only then the chip takes TCR and RCR
    io.write1(R.CR.at, CR_TE_RE);
    io.write4(R.TCR.at, this.#testing ? TCR_CONFIG | loopback : TCR_CONFIG);
    io.write1(R.ETThR.at, ETTHR);
    // 7. Receive filter
    this.filter();
    // 8. Interrupts; the counter of missed frames and the timer from 0; frames of any length
    if (gigabit) io.write2(R.IntrMitigate.at, this.#moderation === "mitigate" ? INTRMOD : 0);
    io.write2(R.IMR.at, this.#testing ? 0 : this.intrs);
    io.write2(R.ISR.at, this.intrs);
    io.write4(R.MPC.at, 0);
    io.write4(layout.TimerInt, byTimer ? (gigabit ? TIMERINT_GIGABIT : TIMERINT_CPLUS) : 0);
    if (gigabit) io.write2(R.RMS.at, RMS_MAX);
    if (this.#testing) return;
    // 9. The driver is there
    this.announce();
  }

  protected override changeOffloads(changed: number): void {
    this.#limitTso();
    if (this.running && (changed & (IFCAP_RXCSUM | IFCAP_VLAN_HWTAGGING)) !== 0)
      this.io.write2(R.CPlusCR.at, cplusCommand(this.capenable));
  }

  protected override changeMtu(): void {
    this.#limitTso();
  }

  override suspend(): void {
    super.suspend();
    if ((this.offloads & RE_WOL) === 0) return;
    const wol = this.capenable & RE_WOL;
    if (wol !== 0) this.filter();
    armWake(this.dev.bus, this.io, this.#hw.layout, wol);
  }

  override resume(): void {
    if ((this.offloads & RE_WOL) !== 0) disarmWake(this.io, this.#hw.layout);
    super.resume();
  }

  protected override reset(): void {
    super.reset();
    if (this.#hw.macReset) this.io.write1(R.Reg82.at, 1); // undocumented; every driver of the PCI chips does it
    if (this.#hw.phyReset0b) this.#gmii?.writereg(0x0b, 0);
  }

  #disableMessages(): void {
    const msi = bits(R.CONFIG2.fields.MSI);
    unlockConfig(this.io);
    const config2 = this.io.read1(R.CONFIG2.at);
    if ((config2 & msi) !== 0) this.io.write1(R.CONFIG2.at, config2 & ~msi);
    lockConfig(this.io);
  }

  /** Segments of long frames would not fit MSS: as FreeBSD, TSO goes off with them, and does not come back by itself. */
  #limitTso(): void {
    if (this.mtu > TSO_MTU) this.capenable &= ~IFCAP_TSO4;
  }

  /** Sends a frame round inside the chip. @throws DriverError EIO */
  #diagnose(tag: DmaTag): void {
    const { flags } = this;
    const block = tag.alloc(DIAG_FRAME);
    const frame = frameSegments(1);
    try {
      reDiag({
        io: this.io,
        phy: this.#gmii,
        delay: (us) => this.delay(us),
        start: () => {
          this.#testing = true;
          this.flags |= IFF_PROMISC;
          this.start();
        },
        stop: () => this.stop(),
        send: (header, length) => {
          block.copyIn(0, header, 0, header.length);
          frame.paddr[0] = block.paddr;
          frame.len[0] = length;
          frame.count = 1;
          this.#tx.measure(frame);
          this.#tx.push(frame, 0, NO_VLAN);
          this.#doorbell();
        },
        received: (header) => {
          this.#rx.begin();
          const pieces = this.#rx.next();
          if (pieces !== 1 || !this.#rx.take(pieces)) return 0;
          for (let i = 0; i < header.length; i++) header[i] = this.#dma.read8(this.#rx.address + i);
          return this.#rx.bytes + ETHER_CRC_LEN;
        },
      });
    } finally {
      this.#testing = false;
      this.flags = flags;
      this.#tx.reset();
      block[Symbol.dispose]();
    }
    this.reset();
  }

  // ---------------------------------------------------------------------------------------------- receive

  /** At most a ring of frames in a turn. */
  protected rxEof(): boolean {
    const rx = this.#rx;
    const epoch = this.epoch;
    rx.begin();
    for (let left = rx.size; left > 0; ) {
      const pieces = rx.next();
      if (pieces === 0) {
        rx.show();
        return false;
      }
      if (rx.take(pieces)) {
        this.stats.ipackets++;
        this.stats.ibytes += rx.bytes;
        this.onReceive?.(rx.address, rx.length, rx.more.count > 0 ? rx.more : null, rx.record);
        if (epoch !== this.epoch) return false; // it took the interface down; the rings are new or will be
      } else this.stats.ierrors++;
      rx.recycle(pieces);
      left -= pieces;
    }
    rx.show();
    return true;
  }

  // ---------------------------------------------------------------------------------------------- transmit

  /** Shows the chip what is queued, and rings. With moderation by the timer that counts from here on. */
  #doorbell(): void {
    this.#tx.show();
    this.io.write1(this.#hw.layout.TPPoll, TPPOLL_NPQ);
    if (this.#moderation === "timer" || this.#testing) this.io.write4(R.TCTR.at, 1);
  }

  /** Takes back what the chip has sent. What is left gets another turn of the timer, where only that would tell of it. */
  protected txEof(): void {
    this.#tx.reclaim(this.stats);
    if (this.#moderation === "timer" && this.#tx.used > this.#tx.queued) this.io.write4(R.TCTR.at, 1);
  }

  protected txGiveUp(): void {
    this.#tx.giveUp(this.stats);
  }

  protected takeFinished(): number {
    const { finished } = this.#tx;
    this.#tx.finished = 0;
    return finished;
  }
}

/** Makes the driver `re`. */
export const reDriver = (options: ReOptions = {}): Driver<PciProbe, PciAttach, Re> => ({
  name: "re",
  bus: PCI,
  pnp: RE_PNP,
  probe: (view) => {
    const row = reDevice(view);
    return row === undefined ? null : { priority: BUS_PROBE_DEFAULT, desc: row.desc };
  },
  attach: (dev) => new Re(dev, options),
  detach: (_dev, re) => re.detach(),
  suspend: (_dev, re) => re.suspend(),
  resume: (_dev, re) => re.resume(),
  shutdown: (_dev, re) => re.suspend(),
});

export const re = reDriver();
