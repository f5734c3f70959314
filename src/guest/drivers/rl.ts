import type { GuestDma } from "../../contract/index.js";
import { bits, withField } from "../../regs/index.js";
import {
  RTL8139_DECLARATIONS as O,
  RTL8139_CHIPS,
  RTL8139_HWVERID,
  RTL8139_TSD,
  RTL8139_TX_SLOTS,
} from "../../spec/rtl8139.js";
import { REALTEK_VENDOR_ID } from "../../spec/rtl8169.js";
import { PCI } from "../pci-class.js";
import {
  BUS_PROBE_DEFAULT,
  type Device,
  type DmaMemory,
  type Driver,
  type FrameSegments,
  IFF_OACTIVE,
  IFF_RUNNING,
  type PciAttach,
  type PciProbe,
  type TxOffload,
} from "../types.js";
import { ETHER_HDR_LEN, ETHER_VLAN_ENCAP_LEN, ETHERMTU, formatMac, frameLength, NO_VLAN } from "./ifnet.js";
import type { MiiPhy } from "./mii.js";
import { readStationAddress, writeStationAddress } from "./re-eeprom.js";
import { hex8 } from "./re-hardware.js";
import { shownMiiBus } from "./re-mii.js";
import { CR_TE_RE, INTRS, RealtekInterface, TCR_CONFIG } from "./realtek.js";
import { RlRxRing, RX_BYTES, RX_RBLEN } from "./rl-rx-ring.js";
import { Rlphy } from "./rlphy.js";

/**
 * rl: the RTL8139 before the C+, with four slots to send from and one ring to receive into. The steps of attach and of `start`
 * come in the order of FreeBSD's if_rl.c; the receive ring is that of Linux's 8139too, whose records never wrap.
 *
 * Left out: the RTL8129 with its PHY behind wires, wake-on-LAN, and the watchdog.
 */

/** No threshold, a ring of 32 KiB whose records run past its end, unlimited bursts. */
const RCR_CONFIG =
  bits(O.RCR.fields.RXFTH) |
  withField(0, O.RCR.fields.RBLEN, RX_RBLEN) |
  bits(O.RCR.fields.MXDMA) |
  bits(O.RCR.fields.WRAP);

/** Slot registers stand side by side. */
const SLOT_STEP = O.TSD1.at - O.TSD0.at;
const TSD_TOK = bits(RTL8139_TSD.TOK);
const TSD_TUN = bits(RTL8139_TSD.TUN);
const TSD_TABT = bits(RTL8139_TSD.TABT);
const TSD_ERTXTH_SHIFT = RTL8139_TSD.ERTXTH[1];
/** Bytes that the chip gathers before it begins to send, in units of 32: at first, and where it stops to grow. */
const THRESHOLD_FIRST = 96 / 32;
const THRESHOLD_MAX = 2016 / 32;

/** bytes, FCS left off: these chips pad nothing */
const SHORTEST = 60;
const LONGEST = ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + ETHERMTU;
/** bytes of a slot's buffer */
const BUFFER = 2048;
const BUFFER_ALIGN = 4;
/** Records that one turn takes. */
const TURN = 256;
const REACH = 2 ** 32;

export interface RlOptions {
  /** Uses the ports of BAR 0, FreeBSD's tunable prefer_iomap; otherwise the memory of BAR 1. Default true, as there */
  readonly preferIomap?: boolean;
}

/** A 10/100 Mb/s RealTek interface in the old mode. */
export class Rl extends RealtekInterface {
  /** which chip it is, as Linux's 8139too prints it */
  readonly chip: string;
  protected readonly maxMtu = ETHERMTU;
  protected readonly rcrConfig = RCR_CONFIG;
  protected readonly phy: MiiPhy;
  readonly #dma: GuestDma;
  readonly #rx: RlRxRing;
  readonly #buffers: DmaMemory; // a buffer per slot
  readonly #scratch = new Uint8Array(BUFFER);
  readonly #len = new Uint32Array(RTL8139_TX_SLOTS); // bytes of the frame in each slot
  readonly #paddr = new Float64Array(RTL8139_TX_SLOTS);
  readonly #ends = new Uint16Array(RTL8139_TX_SLOTS); // frames that are finished with a slot
  #threshold = THRESHOLD_FIRST;
  #prod = 0;
  #cons = 0;
  #used = 0; // slots from #cons to #prod
  #queued = 0; // of them not yet shown to the chip
  #finished = 0; // frames that are done and not yet told

  constructor(dev: Device<PciAttach>, options: RlOptions) {
    // 1. Bus master and registers
    super(dev, options.preferIomap ?? true);
    const { io } = this;
    const { bus: pci } = dev;
    this.#dma = pci.machine.dma;
    // 2. Reset
    this.reset();
    // 3. Station address
    readStationAddress(io, this.mac);
    // 4. Which chip it is; they differ in nothing that matters here
    const revision = (io.read4(O.TCR.at) & RTL8139_HWVERID) >>> 0;
    this.chip = Object.values(RTL8139_CHIPS).find(({ version }) => version === revision)?.name ?? "unknown 8139";
    dev.log(`Chip rev. 0x${hex8(revision)}`);
    // 5. Buffers, all within 32 bits
    const tag = dev.resources.use(pci.dmaTag({ lowaddr: REACH - 1, nsegments: 1, alignment: 8 }));
    this.#rx = new RlRxRing(io, dev.resources.use(tag.alloc(RX_BYTES)));
    this.#buffers = dev.resources.use(tag.alloc(RTL8139_TX_SLOTS * BUFFER));
    // 6. PHY
    this.phy = new Rlphy(shownMiiBus(io, (us) => this.delay(us)));
    // 7. Interrupt
    this.setupInterrupt();
    dev.log(`Ethernet address: ${formatMac(this.mac)}`);
  }

  transmit(frame: FrameSegments, offload: TxOffload | null = null, vlan = NO_VLAN): boolean {
    if ((this.flags & IFF_RUNNING) === 0 || !this.linkActive) return false;
    const bytes = frameLength(frame);
    if (bytes < ETHER_HDR_LEN || bytes > LONGEST || offload !== null || vlan !== NO_VLAN) return this.#drop();
    if (this.#used === RTL8139_TX_SLOTS) {
      this.txEof();
      if (this.#used === RTL8139_TX_SLOTS) {
        this.flags |= IFF_OACTIVE;
        return false;
      }
    }
    const slot = this.#prod;
    this.#place(frame, bytes, slot);
    this.#ends[slot] = 1;
    this.#prod = (slot + 1) % RTL8139_TX_SLOTS;
    this.#used++;
    this.#queued++;
    return true;
  }

  kick(): void {
    if ((this.flags & IFF_RUNNING) === 0) return;
    for (; this.#queued > 0; this.#queued--) {
      const slot = (this.#prod + RTL8139_TX_SLOTS - this.#queued) % RTL8139_TX_SLOTS;
      this.io.write4(O.TSAD0.at + slot * SLOT_STEP, this.#paddr[slot]!);
      this.io.write4(O.TSD0.at + slot * SLOT_STEP, this.#len[slot]! | (this.#threshold << TSD_ERTXTH_SHIFT));
    }
    if (this.#used === 0) this.tell(); // frames that were dropped, and no interrupt will come
  }

  // ---------------------------------------------------------------------------------------------- up and down

  protected start(): void {
    const { io } = this;
    // 1. Stop what may be going on, and give up what it had
    this.stop();
    this.giveUp();
    // 2. Reset
    this.reset();
    // 3. Station address
    writeStationAddress(io, this.mac);
    // 4. Receive buffer; the slots are free and the first one is next
    io.write4(O.RBSTART.at, this.#rx.paddr);
    this.#rx.reset();
    // 5. Enable both sides; only then the chip takes TCR and RCR
    io.write1(O.CR.at, CR_TE_RE);
    // 6. Receive filter and configuration
    this.filter();
    io.write4(O.TCR.at, TCR_CONFIG);
    // 7. Interrupts; the counter of missed frames from 0
    io.write2(O.IMR.at, INTRS);
    io.write4(O.MPC.at, 0);
    // 8. The driver is there; media
    this.announce();
  }

  /** Frees the slots of a chip that was stopped; what they held counts as errors. */
  protected txGiveUp(): void {
    while (this.#used > 0) {
      this.stats.oerrors++;
      this.#next();
    }
    this.#prod = this.#cons = this.#queued = 0;
  }

  protected takeFinished(): number {
    const finished = this.#finished;
    this.#finished = 0;
    return finished;
  }

  // ---------------------------------------------------------------------------------------------- receive

  /** Observed: with each write of RCR the chip of QEMU 7.2 begins its buffer anew; CAPR is where that can be seen. */
  protected override filter(): void {
    super.filter();
    if (this.running) this.#rx.follow();
  }

  protected rxEof(): boolean {
    const { epoch } = this;
    const rx = this.#rx;
    for (let left = TURN; left > 0; left--) {
      const received = rx.next();
      if (received === "none") return false;
      if (received === "lost") {
        this.stats.ierrors++;
        this.start(); // nobody knows where the next record begins
        return false;
      }
      this.stats.ipackets++;
      this.stats.ibytes += rx.length;
      this.onReceive?.(rx.address, rx.length, null);
      if (epoch !== this.epoch) return false; // it took the interface down; the ring is new or will be
      rx.recycle();
    }
    return true;
  }

  // ---------------------------------------------------------------------------------------------- transmit

  /** A slot takes one piece at a multiple of 4, and no short frame: what is otherwise is copied. */
  #place({ count, paddr, len }: FrameSegments, bytes: number, slot: number): void {
    const first = paddr[0]!;
    const isFit = len[0] === bytes && bytes >= SHORTEST && first % BUFFER_ALIGN === 0 && first + bytes <= REACH;
    if (isFit) {
      this.#dma.sync(first, bytes, "prewrite");
      this.#paddr[slot] = first;
      this.#len[slot] = bytes;
      return;
    }
    const scratch = this.#scratch;
    let at = 0;
    for (let i = 0; i < count; i++) {
      this.#dma.copyOut(paddr[i]!, scratch, at, len[i]!);
      at += len[i]!;
    }
    if (at < SHORTEST) {
      scratch.fill(0, at, SHORTEST);
      at = SHORTEST;
    }
    this.#buffers.copyIn(slot * BUFFER, scratch, 0, at);
    this.#buffers.sync(slot * BUFFER, at, "prewrite");
    this.#paddr[slot] = this.#buffers.paddr + slot * BUFFER;
    this.#len[slot] = at;
  }

  /** A frame that cannot be sent: told together with the one before it. */
  #drop(): true {
    this.stats.oerrors++;
    if (this.#used === 0) this.#finished++;
    else {
      const last = (this.#prod + RTL8139_TX_SLOTS - 1) % RTL8139_TX_SLOTS;
      this.#ends[last] = this.#ends[last]! + 1;
    }
    return true;
  }

  protected txEof(): void {
    for (let shown = this.#used - this.#queued; shown > 0; shown--) {
      const status = this.io.read4(O.TSD0.at + this.#cons * SLOT_STEP);
      if ((status & (TSD_TOK | TSD_TUN | TSD_TABT)) === 0) return;
      if ((status & TSD_TABT) !== 0) {
        this.dev.log("a frame was aborted; starting anew"); // its slot would be sent again
        this.start();
        return;
      }
      if ((status & TSD_TOK) !== 0) {
        this.stats.opackets++;
        this.stats.obytes += this.#len[this.#cons]!;
      } else {
        this.stats.oerrors++;
        if (this.#threshold < THRESHOLD_MAX) this.#threshold++; // memory was too slow for the wire
      }
      this.#next();
    }
  }

  #next(): void {
    this.#finished += this.#ends[this.#cons]!;
    this.#cons = (this.#cons + 1) % RTL8139_TX_SLOTS;
    this.#used--;
  }
}

/** Makes the driver `rl`. */
export const rlDriver = (options: RlOptions = {}): Driver<PciProbe, PciAttach, Rl> => ({
  name: "rl",
  bus: PCI,
  pnp: [{ vendor: REALTEK_VENDOR_ID, device: RTL8139_CHIPS.RTL8139.deviceId }],
  probe: ({ vendor, device, revid }) =>
    vendor === REALTEK_VENDOR_ID &&
    device === RTL8139_CHIPS.RTL8139.deviceId &&
    revid !== RTL8139_CHIPS["RTL8139C+"].revisionId // which is re's
      ? { priority: BUS_PROBE_DEFAULT, desc: "RealTek 8139 10/100BaseTX" }
      : null,
  attach: (dev) => new Rl(dev, options),
  detach: (_dev, rl) => rl.detach(),
  suspend: (_dev, rl) => rl.suspend(),
  resume: (_dev, rl) => rl.resume(),
  shutdown: (_dev, rl) => rl.suspend(),
});

export const rl = rlDriver();
