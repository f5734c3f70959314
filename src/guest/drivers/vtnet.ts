import type { GuestDma } from "../../contract/index.js";
import { VIRTIO_F_ANY_LAYOUT, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_ID_NET } from "../../spec/virtio.js";
import {
  VIRTIO_NET_CONFIG,
  VIRTIO_NET_CONTROLQ,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MAC_ADDR_SET,
  VIRTIO_NET_CTRL_MAC_TABLE_SET,
  VIRTIO_NET_CTRL_RX,
  VIRTIO_NET_CTRL_RX_ALLMULTI,
  VIRTIO_NET_CTRL_RX_PROMISC,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_CSUM_OFFSET,
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_SIZE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_NUM_BUFFERS,
  VIRTIO_NET_HDR_SIZE,
  VIRTIO_NET_HDR_SIZE_LEGACY,
  VIRTIO_NET_MAX_MTU,
  VIRTIO_NET_MIN_MTU,
  VIRTIO_NET_OK,
  VIRTIO_NET_PREREQUISITES,
  VIRTIO_NET_RECEIVEQ,
  VIRTIO_NET_S_LINK_UP,
  VIRTIO_NET_TRANSMITQ,
} from "../../spec/virtio-net.js";
import {
  BUS_PROBE_DEFAULT,
  BusError,
  type Device,
  type DmaMemory,
  type Driver,
  DriverError,
  type FrameSegments,
  IFF_ALLMULTI,
  IFF_OACTIVE,
  IFF_PROMISC,
  IFF_RUNNING,
  IFF_UP,
  type Media,
  type RxOffload,
  type SegmentKind,
  type TxOffload,
} from "../types.js";
import {
  ETHER_ADDR_LEN,
  ETHER_CRC_LEN,
  ETHER_HDR_LEN,
  ETHER_VLAN_ENCAP_LEN,
  ETHERMTU,
  EthernetInterface,
  formatMac,
  frameSegments,
  IFCAP_JUMBO_MTU,
  IFCAP_LINKSTATE,
  IFCAP_LRO,
  IFCAP_RXCSUM_ANY,
  IFCAP_TSO4,
  IFCAP_TSO6,
  IFCAP_TXCSUM_ANY,
} from "./ifnet.js";
import {
  hasFeature,
  VIRTIO,
  type VirtioAttach,
  type VirtioFeatures,
  type VirtioProbe,
  virtioFeatures,
} from "./virtio-bus.js";
import { ENOSPC, type Virtqueue, VQ_OK } from "./virtqueue.js";

/**
 * vtnet: the virtio network driver. One pair of queues and the control queue, checksums and TCP segmentation left to the
 * device; no UDP segmentation, no multiqueue, no watchdog for frames that the device never gives back: those wait for `down` and `up`.
 *
 * @see VIRTIO 1.3 §5.1; FreeBSD sys/dev/virtio/network/if_vtnet.c for the order of steps
 */

/** bytes; a mbuf cluster, MCLBYTES. At least 1526 for a frame and its header. §5.1.6.3.1 */
const MCLBYTES = 2048;
/** Largest segment that arrives whole: an IP packet of 64 KiB in its frame, and the header. §5.1.6.3.1 */
const LRO_BUFFER = 65_562;
/** bytes of receive buffers, where each of them must hold the largest segment */
const LRO_MEMORY = 4 * 2 ** 20;
/** Longest frame to be segmented, without its Ethernet header */
const TSO_MAX = 65_535;
/** Where the frame begins when the legacy header has a descriptor of its own: its IP header is aligned then. */
const SEPARATE_HDR_PAD = 4;
/** Pieces of a frame to send that fit an indirect table with the header; more go through the ring itself. */
const TX_SEGS = 16;
/** Pieces of the longest list that `transmit` takes. */
const TX_SEGS_MAX = 64;
/** bytes from one transmit header to the next */
const TX_HDR_STRIDE = 16;
/** Addresses in the multicast table; more switch to ALLMULTI. VTNET_MAX_MAC_ENTRIES */
const MAC_ENTRIES = 128;
/** A control command is given 1 s. */
const CTRL_POLLS = 10_000;
const CTRL_POLL_US = 100;
// The control queue's memory: command, data, acknowledgement.
const CTRL_HDR = 0;
const CTRL_HDR_LEN = 2;
const CTRL_DATA = 8;
const CTRL_DATA_LEN = 8 + ETHER_ADDR_LEN * MAC_ENTRIES;
const CTRL_ACK = CTRL_DATA + CTRL_DATA_LEN;
const CTRL_BYTES = CTRL_ACK + 1;

const CONFIG = VIRTIO_NET_CONFIG.regs;

// In the order in which they stand in #features.
const RX_OFFLOADS = [
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
] as const;
const LRO_BITS: readonly number[] = RX_OFFLOADS.slice(1);
const OFFLOADS = [
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  ...RX_OFFLOADS,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
] as const;

/** What the header of a received packet says; one for all frames. */
class RxRecord implements RxOffload {
  csum: RxOffload["csum"] = "none";
  csumStart = 0;
  csumOffset = 0;
  gso: SegmentKind = "none";
  gsoSize = 0;
  ecn = false;
}

export interface VtnetOptions {
  /** Asks for checksum and segmentation offloads; default true */
  readonly offload?: boolean;
  /**
   * Takes large segments without merged buffers, too: each receive buffer then is 64 KiB long, and small frames waste it.
   * Default false
   */
  readonly lroWithoutMerge?: boolean;
  /**
   * Sends control commands before DRIVER_OK, as FreeBSD up to 9 and DragonFly do on legacy devices; modern ones must not be
   * notified so early, there it has no effect. Default false
   */
  readonly controlBeforeDriverOk?: boolean;
  /** Features not to ask for, by bit number; to see what each is worth. */
  readonly without?: readonly number[];
}

/** A virtio network interface. */
export class Vtnet extends EthernetInterface {
  readonly rxvq: Virtqueue;
  readonly txvq: Virtqueue;
  /** null without CTRL_VQ */
  readonly ctrlvq: Virtqueue | null;
  protected readonly maxMtu: number;
  readonly #dev: Device<VirtioAttach>;
  readonly #bus: VirtioAttach;
  readonly #dma: GuestDma;
  readonly #features: VirtioFeatures;
  readonly #controlEarly: boolean;
  readonly #permanentMac: Uint8Array;
  readonly #hdrSize: number;
  readonly #mergeable: boolean;

  readonly #rx: DmaMemory; // the clusters
  readonly #rxCluster: number; // bytes
  readonly #rxClusters: number; // as many as the queue has descriptors, or fewer large ones
  readonly #rxRecord = new RxRecord();
  readonly #rxData: number; // offset of the frame in the first cluster
  readonly #rxHdrApart: boolean;
  readonly #rxPost = frameSegments(2);
  readonly #rxMore: FrameSegments;
  readonly #rxTaken: Int32Array; // clusters of the frame in hand
  #epoch = 0; // changes when the queues are emptied under a handler's feet

  readonly #tx: DmaMemory; // a header per descriptor that a frame may begin with
  readonly #txMask: number;
  readonly #txSegments = frameSegments(1 + TX_SEGS_MAX);
  readonly #txHeaders: Uint32Array; // our copy of the headers, three words each
  readonly #ecn: boolean; // HOST_ECN
  readonly #txLen: Uint32Array; // by slot: bytes of the frame, 0 when it was dropped
  readonly #txDone: Uint8Array;
  #txHead = 0; // slots are given out in order, and told in order
  #txTail = 0;
  #txFrames = 0; // in slots
  #txFinished = 0; // out of their slots and not yet told
  #txTelling = false;
  #txArmed = false;

  readonly #ctrl: DmaMemory | null;
  readonly #ctrlSegments = frameSegments(3);
  #ctrlLost = false; // a command was never answered: its buffer is still the device's
  #ctrlBusy = false;
  #filterStale = false;

  constructor(dev: Device<VirtioAttach>, options: VtnetOptions) {
    super(dev.nameunit);
    const bus = dev.bus;
    this.#dev = dev;
    this.#bus = bus;
    this.#dma = bus.machine.dma;
    this.#controlEarly = options.controlBeforeDriverOk === true && !bus.modern;

    // 1. Features, and the end of their negotiation. §3.1.1 steps 4 … 6
    const wanted = [
      VIRTIO_NET_F_MAC,
      VIRTIO_NET_F_STATUS,
      VIRTIO_NET_F_MTU,
      VIRTIO_NET_F_MRG_RXBUF,
      VIRTIO_NET_F_CTRL_VQ,
      VIRTIO_NET_F_CTRL_RX,
      VIRTIO_NET_F_CTRL_MAC_ADDR,
      VIRTIO_F_INDIRECT_DESC,
      VIRTIO_F_EVENT_IDX,
      VIRTIO_F_ANY_LAYOUT,
      ...(options.offload === false ? [] : OFFLOADS),
    ].filter((bit) => options.without?.includes(bit) !== true);
    this.#features = this.#negotiate(wanted, options.lroWithoutMerge === true);
    bus.finalizeFeatures();

    // 2. What the device says about itself
    this.#mergeable = bus.withFeature(VIRTIO_NET_F_MRG_RXBUF);
    this.#hdrSize = bus.modern || this.#mergeable ? VIRTIO_NET_HDR_SIZE : VIRTIO_NET_HDR_SIZE_LEGACY;
    if (bus.withFeature(VIRTIO_NET_F_MAC)) bus.readDeviceConfig(CONFIG.mac0.at, this.mac);
    // Deviation: FreeBSD takes a random address; here it follows from the unit, and runs can be repeated.
    else this.mac.set([0xb2, 0, 0, 0, 0, dev.unit & 0xff]);
    this.#permanentMac = this.mac.slice();
    this.maxMtu = this.#readMtu();
    if (bus.withFeature(VIRTIO_NET_F_STATUS)) this.capenable |= IFCAP_LINKSTATE;
    if (this.maxMtu > ETHERMTU) this.capenable |= IFCAP_JUMBO_MTU;
    this.offloads = this.#offloads();
    this.capenable |= this.offloads;
    this.#ecn = bus.withFeature(VIRTIO_NET_F_HOST_ECN);

    // 3. Queues and their buffers
    const vqs = bus.allocVirtqueues([
      { name: `${dev.nameunit}-rx0`, maxIndirect: 0, handler: () => this.#rxIntr() },
      { name: `${dev.nameunit}-tx0`, maxIndirect: 1 + TX_SEGS, handler: () => this.#txIntr() },
      ...(bus.withFeature(VIRTIO_NET_F_CTRL_VQ)
        ? [{ name: `${dev.nameunit}-ctrl`, maxIndirect: 0, handler: null }] // polled, so it needs no vector
        : []),
    ]);
    this.rxvq = vqs[VIRTIO_NET_RECEIVEQ] as Virtqueue;
    this.txvq = vqs[VIRTIO_NET_TRANSMITQ] as Virtqueue;
    this.ctrlvq = vqs[VIRTIO_NET_CONTROLQ] ?? null;

    // A legacy device may expect the header in a descriptor of its own, unless it says otherwise. §5.1.6.6
    this.#rxHdrApart = !bus.modern && !this.#mergeable && !bus.withFeature(VIRTIO_F_ANY_LAYOUT);
    this.#rxData = this.#hdrSize + (this.#rxHdrApart ? SEPARATE_HDR_PAD : 0);
    const large = !this.#mergeable && (this.offloads & IFCAP_LRO) !== 0;
    const frame = this.#rxData + ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + this.maxMtu + ETHER_CRC_LEN;
    const longest = large ? Math.max(frame, this.#rxData + LRO_BUFFER) : frame;
    let cluster = MCLBYTES;
    while (!this.#mergeable && cluster < longest) cluster = large ? cluster + MCLBYTES : cluster * 2;
    this.#rxCluster = cluster;
    this.#rxClusters = large ? Math.min(this.rxvq.size, Math.floor(LRO_MEMORY / cluster)) : this.rxvq.size;
    this.#rx = this.#alloc(this.#rxClusters * cluster, 4096);
    this.#rxMore = frameSegments(this.rxvq.size);
    this.#rxTaken = new Int32Array(this.rxvq.size);

    // A header is all zeros, num_buffers too, until its frame asks for an offload. §5.1.6.2.1
    this.#tx = this.#alloc(this.txvq.size * TX_HDR_STRIDE, 64);
    this.#tx.sync(0, this.#tx.size, "prewrite");
    this.#txMask = this.txvq.size - 1;
    this.#txHeaders = new Uint32Array(3 * this.txvq.size);
    this.#txLen = new Uint32Array(this.txvq.size);
    this.#txDone = new Uint8Array(this.txvq.size);
    this.#ctrl = this.ctrlvq === null ? null : this.#alloc(CTRL_BYTES, 4096);

    // 4. Interrupts, and what the transport has to tell
    bus.setupIntr();
    bus.setCallbacks({
      attachCompleted: () => {
        // A device is promiscuous after a reset. §5.1.6.5.1
        if (!this.#controlEarly) this.#setRx(VIRTIO_NET_CTRL_RX_PROMISC, false);
      },
      configChange: () => this.#configChange(),
    });
    if (this.#controlEarly) this.#setRx(VIRTIO_NET_CTRL_RX_PROMISC, false);
    dev.log(`Ethernet address: ${formatMac(this.mac)}`);
  }

  media(): Media {
    return {
      selected: "autoselect",
      active: this.linkActive ? "10Gbase-T" : "none",
      options: this.linkActive ? ["full-duplex"] : [],
      valid: true,
      status: this.linkActive ? "active" : "no carrier",
    };
  }

  setMedia(selected: string): void {
    if (selected !== "autoselect")
      throw new BusError("EOPNOTSUPP", `${this.name}: has no medium ${selected}, only autoselect`);
  }

  transmit(frame: FrameSegments, offload: TxOffload | null = null): boolean {
    if ((this.flags & IFF_RUNNING) === 0 || !this.linkActive) return false;
    if (this.#txFrames > this.#txMask) this.#txDequeue();
    if (this.#txFrames > this.#txMask) return this.#full();
    const { count, paddr, len } = frame;
    if (count > TX_SEGS_MAX) return this.#drop();
    const out = this.#txSegments;
    const slot = this.#txHead;
    let bytes = 0;
    let n = 1; // after the header
    for (let i = 0; i < count; i++) {
      const length = len[i]!;
      if (length === 0) continue; // some devices take an empty descriptor for an error
      out.paddr[n] = paddr[i]!;
      out.len[n++] = length;
      bytes += length;
    }
    if (bytes < ETHER_HDR_LEN || !this.#sendable(bytes, offload)) return this.#drop();
    let error = this.txvq.fits(n);
    if (error === ENOSPC) {
      this.#txDequeue();
      error = this.txvq.fits(n);
      if (error === ENOSPC) return this.#full();
    }
    if (error !== VQ_OK) return this.#drop();
    for (let i = 1; i < n; i++) this.#dma.sync(out.paddr[i]!, out.len[i]!, "prewrite");
    const head = this.txvq.nextHead;
    if (offload === null) this.#txHeader(head, 0, 0, 0);
    else this.#txOffload(head, offload);
    out.paddr[0] = this.#tx.paddr + head * TX_HDR_STRIDE;
    out.len[0] = this.#hdrSize;
    this.txvq.enqueue(slot, out, n, 0);
    this.#txLen[slot] = bytes;
    this.#txHead = (slot + 1) & this.#txMask;
    this.#txFrames++;
    return true;
  }

  kick(): void {
    if ((this.flags & IFF_RUNNING) === 0) return;
    this.txvq.notify();
    this.#txReap();
  }

  // ---------------------------------------------------------------------------------------------- up and down

  protected start(): void {
    this.#giveUp();
    this.#bus.reinit(this.#wanted()); // reset … features … queues, in the order of §3.1.1
    this.#ctrlLost = false;
    this.#txArmed = true; // as a new ring has it
    for (let i = 0; i < this.#rxClusters; i++) if (!this.#rxEnqueue(i)) break;
    if (this.#controlEarly) this.#configure();
    this.#bus.reinitComplete();
    this.flags |= IFF_RUNNING;
    // Not before DRIVER_OK may a modern device be notified. §3.1.1
    this.txvq.disableIntr();
    this.#txArmed = false;
    this.rxvq.notify();
    if (!this.#controlEarly) this.#configure();
    this.#updateLink();
    if (this.rxvq.enableIntr()) this.#bus.scheduleVq(VIRTIO_NET_RECEIVEQ);
  }

  protected halt(): void {
    const wasRunning = this.running;
    this.flags &= ~(IFF_RUNNING | IFF_OACTIVE);
    if (wasRunning) this.#bus.stop(); // first the reset, then its buffers are ours again. §3.3.1
    this.#giveUp();
  }

  protected filter(): void {
    if (this.#ctrlBusy) {
      this.#filterStale = true; // the command in progress waits, and someone else ran meanwhile
      return;
    }
    do {
      this.#filterStale = false;
      this.#setRx(VIRTIO_NET_CTRL_RX_PROMISC, (this.flags & IFF_PROMISC) !== 0);
      const all = (this.flags & IFF_ALLMULTI) !== 0 || !this.#setTable();
      this.#setRx(VIRTIO_NET_CTRL_RX_ALLMULTI, all);
    } while (this.#filterStale);
  }

  protected changeLladdr(mac: Uint8Array): void {
    const before = this.mac.slice();
    this.mac.set(mac);
    if (this.#setMac()) return;
    this.mac.set(before);
    throw new BusError("EOPNOTSUPP", `${this.name}: the device does not take another address`);
  }

  detach(): void {
    this.flags &= ~IFF_UP;
    this.halt();
    this.#bus.stop(); // attached and never up, it is at DRIVER_OK, too
    this.#bus.setCallbacks({});
  }

  resume(): void {
    if ((this.flags & IFF_UP) !== 0) this.start();
  }

  suspend(): void {
    this.halt();
  }

  protected override changeOffloads(changed: number): void {
    if ((changed & (IFCAP_RXCSUM_ANY | IFCAP_LRO)) === 0 || !this.running) return;
    if (this.#bus.withFeature(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) this.#setGuestOffloads();
    else {
      this.halt();
      this.start(); // another negotiation
    }
  }

  /** Accepts what fits together of what is offered; a device must not offer the rest, §5.1.3.1. */
  #negotiate(wanted: readonly number[], lroWithoutMerge: boolean): VirtioFeatures {
    const granted = this.#bus.negotiateFeatures(virtioFeatures(...wanted));
    let fitting = wanted.filter((bit) => hasFeature(granted, bit));
    // The header must not span clusters, and one must hold 64 KiB unless they are merged.
    if (!lroWithoutMerge && !fitting.includes(VIRTIO_NET_F_MRG_RXBUF))
      fitting = fitting.filter((bit) => !LRO_BITS.includes(bit));
    const fits = (bit: number): boolean =>
      VIRTIO_NET_PREREQUISITES.every(([of, anyOf]) => of !== bit || anyOf.some((other) => fitting.includes(other))) &&
      (bit !== VIRTIO_NET_F_CTRL_GUEST_OFFLOADS || fitting.includes(VIRTIO_NET_F_CTRL_VQ));
    for (let before = -1; before !== fitting.length; ) {
      before = fitting.length;
      fitting = fitting.filter(fits);
    }
    const reduced = wanted.filter((bit) => hasFeature(granted, bit) && !fitting.includes(bit));
    if (reduced.length === 0) return granted;
    return this.#bus.negotiateFeatures(virtioFeatures(...wanted.filter((bit) => !reduced.includes(bit))));
  }

  /** IFCAP_* bits of the offloads that were accepted. */
  #offloads(): number {
    const bus = this.#bus;
    const lro = bus.withFeature(VIRTIO_NET_F_GUEST_TSO4) || bus.withFeature(VIRTIO_NET_F_GUEST_TSO6);
    return (
      (bus.withFeature(VIRTIO_NET_F_CSUM) ? IFCAP_TXCSUM_ANY : 0) |
      (bus.withFeature(VIRTIO_NET_F_HOST_TSO4) ? IFCAP_TSO4 : 0) |
      (bus.withFeature(VIRTIO_NET_F_HOST_TSO6) ? IFCAP_TSO6 : 0) |
      (bus.withFeature(VIRTIO_NET_F_GUEST_CSUM) ? IFCAP_RXCSUM_ANY : 0) |
      (lro ? IFCAP_LRO : 0)
    );
  }

  /** Of the receiving offloads that were accepted, those that are in use. */
  #usesRx(bit: number): boolean {
    const needed = bit === VIRTIO_NET_F_GUEST_CSUM ? IFCAP_RXCSUM_ANY : IFCAP_LRO;
    return hasFeature(this.#features, bit) && (this.capenable & needed) !== 0;
  }

  /** The features for a new negotiation; without the command for it, offloads that are off are not accepted. */
  #wanted(): VirtioFeatures {
    const { lo, hi } = this.#features;
    if (hasFeature(this.#features, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) return this.#features;
    let off = 0;
    for (const bit of RX_OFFLOADS) if (!this.#usesRx(bit)) off |= 1 << bit;
    return { lo: (lo & ~off) >>> 0, hi };
  }

  #readMtu(): number {
    if (this.#bus.withFeature(VIRTIO_NET_F_MTU)) {
      const mtu = this.#bus.readDeviceConfig2(CONFIG.mtu.at);
      if (mtu >= VIRTIO_NET_MIN_MTU) return mtu;
      throw new DriverError("EINVAL", `${this.name}: the device wants an mtu of ${mtu}`);
    }
    return this.#mergeable ? VIRTIO_NET_MAX_MTU - ETHER_HDR_LEN - ETHER_VLAN_ENCAP_LEN : ETHERMTU;
  }

  #alloc(bytes: number, alignment: number): DmaMemory {
    const tag = this.#dev.resources.use(this.#bus.dmaTag({ alignment, nsegments: 1 }));
    return this.#dev.resources.use(tag.alloc(bytes));
  }

  /** Address and filters, which a reset has put back to what they were. */
  #configure(): void {
    if (this.mac.some((byte, i) => byte !== this.#permanentMac[i]) || !this.#bus.withFeature(VIRTIO_NET_F_MAC))
      this.#setMac();
    // All that were accepted are on after a negotiation. §5.1.6.5.8
    if (RX_OFFLOADS.some((bit) => hasFeature(this.#features, bit) && !this.#usesRx(bit))) this.#setGuestOffloads();
    this.filter();
  }

  /** Empties the queues of a device that was reset; frames to send count as errors and are told. */
  #giveUp(): void {
    this.#epoch++;
    for (const vq of [this.rxvq, this.txvq, this.ctrlvq]) while (vq !== null && vq.drain() >= 0);
    while (this.#txFrames > 0) {
      if (this.#txLen[this.#txTail] !== 0) this.stats.oerrors++;
      this.#txRetire();
    }
    this.#txDone.fill(0);
    const finished = this.#txFinished;
    this.#txFinished = 0;
    if (finished > 0) this.onSent?.(finished);
  }

  #configChange(): void {
    if (this.#bus.modern && this.#bus.needsReset()) {
      this.#dev.log("device needs reset; stopped until the interface goes up again");
      this.halt();
      this.setLink(false);
      return;
    }
    if (this.running) this.#updateLink();
  }

  #updateLink(): void {
    // Without STATUS the link is always up. §5.1.4.2
    this.setLink(
      !this.#bus.withFeature(VIRTIO_NET_F_STATUS) ||
        (this.#bus.readDeviceConfig2(CONFIG.status.at) & VIRTIO_NET_S_LINK_UP) !== 0,
    );
  }

  // ---------------------------------------------------------------------------------------------- receive

  /** Hands a cluster to the device. */
  #rxEnqueue(cluster: number): boolean {
    const { paddr, len } = this.#rxPost;
    this.#rx.sync(cluster * this.#rxCluster, this.#rxCluster, "preread");
    const at = this.#rx.paddr + cluster * this.#rxCluster;
    paddr[0] = at;
    if (!this.#rxHdrApart) {
      len[0] = this.#rxCluster;
      return this.rxvq.enqueue(cluster, this.#rxPost, 0, 1) === VQ_OK;
    }
    len[0] = this.#hdrSize;
    paddr[1] = at + this.#rxData;
    len[1] = this.#rxCluster - this.#rxData;
    return this.rxvq.enqueue(cluster, this.#rxPost, 0, 2) === VQ_OK;
  }

  #rxIntr(): void {
    if ((this.flags & IFF_RUNNING) === 0) return;
    const epoch = this.#epoch;
    let budget = this.rxvq.size;
    do {
      this.rxvq.disableIntr();
      for (let cluster = this.rxvq.dequeue(); cluster >= 0; cluster = this.rxvq.dequeue()) {
        this.#rxEof(cluster);
        if (epoch !== this.#epoch) return; // onReceive took the interface down
        if (--budget === 0) {
          this.rxvq.notify();
          this.#bus.scheduleVq(VIRTIO_NET_RECEIVEQ); // others want a turn, too
          return;
        }
      }
      this.rxvq.notify();
    } while (this.rxvq.enableIntr());
  }

  /** One frame, in as many clusters as its header says; all of them go back to the device. */
  #rxEof(cluster: number): void {
    const epoch = this.#epoch;
    const first = this.rxvq.usedLen - this.#hdrSize;
    const at = cluster * this.#rxCluster;
    this.#rx.sync(at, this.#rxData + Math.max(first, 0), "postread");
    const buffers = this.#mergeable && first >= 0 ? this.#rx.read16(at + VIRTIO_NET_HDR_NUM_BUFFERS) : 1;
    const more = this.#rxMore;
    more.count = 0;
    let bytes = first;
    let taken = 0;
    this.#rxTaken[taken++] = cluster;
    while (taken < buffers) {
      const next = this.rxvq.dequeue();
      if (next < 0) break;
      const length = this.rxvq.usedLen;
      this.#rx.sync(next * this.#rxCluster, length, "postread");
      this.#rxTaken[taken++] = next;
      more.paddr[more.count] = this.#rx.paddr + next * this.#rxCluster;
      more.len[more.count++] = length;
      bytes += length;
    }
    // Too short for a frame, of a merged one not all is there, or a header that lies: nothing that could be passed on.
    if (first <= 0 || bytes < ETHER_HDR_LEN || taken < buffers || !this.#rxHeader(at, bytes)) this.stats.ierrors++;
    else {
      this.stats.ipackets++;
      this.stats.ibytes += bytes;
      this.onReceive?.(this.#rx.paddr + at + this.#rxData, first, more.count > 0 ? more : null, this.#rxRecord);
      if (epoch !== this.#epoch) return; // the clusters were enqueued anew, or will be
    }
    for (let i = 0; i < taken; i++) this.#rxEnqueue(this.#rxTaken[i]!);
  }

  /**
   * Reads what the header says about a frame; `hdr_len` is a hint and not looked at. §5.1.6.4.1
   * @param at of the header in the clusters; @param bytes of the frame
   * @returns false when it points out of the frame, or tells of a segmentation that was not accepted
   */
  #rxHeader(at: number, bytes: number): boolean {
    const record = this.#rxRecord;
    const flagsAndType = this.#rx.read16(at + VIRTIO_NET_HDR_FLAGS);
    record.csum = "none";
    record.csumStart = record.csumOffset = record.gsoSize = 0;
    record.gso = "none";
    record.ecn = false;
    if (flagsAndType === 0) return true;
    if ((this.offloads & IFCAP_RXCSUM_ANY) === 0) return true; // nothing was accepted that it could tell of
    if ((flagsAndType & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0) {
      const sizeAndStart = this.#rx.read32(at + VIRTIO_NET_HDR_GSO_SIZE);
      record.csum = "partial";
      record.csumStart = sizeAndStart >>> 16;
      record.csumOffset = this.#rx.read16(at + VIRTIO_NET_HDR_CSUM_OFFSET);
      if (record.csumStart + record.csumOffset + 2 > bytes) return false;
      record.gsoSize = sizeAndStart & 0xffff;
    } else if ((flagsAndType & VIRTIO_NET_HDR_F_DATA_VALID) !== 0) record.csum = "valid";
    const type = flagsAndType >>> 8;
    if (type === VIRTIO_NET_HDR_GSO_NONE) {
      record.gsoSize = 0;
      return true;
    }
    record.ecn = (type & VIRTIO_NET_HDR_GSO_ECN) !== 0;
    const kind = type & ~VIRTIO_NET_HDR_GSO_ECN;
    if (kind === VIRTIO_NET_HDR_GSO_TCPV4) record.gso = "tcp4";
    else if (kind === VIRTIO_NET_HDR_GSO_TCPV6) record.gso = "tcp6";
    return (this.offloads & IFCAP_LRO) !== 0 && record.gso !== "none" && record.gsoSize > 0;
  }

  // ---------------------------------------------------------------------------------------------- transmit

  /** Whether the frame may go out with the offloads that are in use. */
  #sendable(bytes: number, offload: TxOffload | null): boolean {
    const longest = ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + this.mtu;
    if (offload === null) return bytes <= longest;
    const { csumStart, csumOffset, gso, gsoSize, hdrLen } = offload;
    if ((this.capenable & IFCAP_TXCSUM_ANY) === 0 || csumStart + csumOffset + 2 > bytes) return false;
    if (gso === "none") return bytes <= longest;
    return (
      (this.capenable & (gso === "tcp4" ? IFCAP_TSO4 : IFCAP_TSO6)) !== 0 &&
      (!offload.ecn || this.#ecn) &&
      gsoSize > 0 &&
      hdrLen > csumStart + csumOffset &&
      hdrLen < bytes &&
      hdrLen + gsoSize <= longest &&
      bytes <= ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + TSO_MAX
    );
  }

  #txOffload(head: number, { csumStart, csumOffset, gso, gsoSize, hdrLen, ecn }: TxOffload): void {
    let type: number = VIRTIO_NET_HDR_GSO_NONE;
    if (gso !== "none") {
      type = gso === "tcp4" ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
      if (ecn) type |= VIRTIO_NET_HDR_GSO_ECN;
    }
    const flags = VIRTIO_NET_HDR_F_NEEDS_CSUM | (type << 8);
    this.#txHeader(head, flags | (hdrLen << 16), gsoSize | (csumStart << 16), csumOffset);
  }

  /** Writes a header where it differs from what stands there; as three words, whose last has num_buffers, too. §5.1.6 */
  #txHeader(head: number, flags: number, sizeAndStart: number, offset: number): void {
    const words = this.#txHeaders;
    const i = 3 * head;
    if (words[i] === flags >>> 0 && words[i + 1] === sizeAndStart >>> 0 && words[i + 2] === offset) return;
    words[i] = flags;
    words[i + 1] = sizeAndStart;
    words[i + 2] = offset;
    const at = head * TX_HDR_STRIDE;
    this.#tx.write32(at, words[i]!);
    this.#tx.write32(at + 4, words[i + 1]!);
    this.#tx.write32(at + 8, offset);
    this.#tx.sync(at, VIRTIO_NET_HDR_SIZE, "prewrite");
  }

  #txIntr(): void {
    if ((this.flags & IFF_RUNNING) === 0) return;
    this.#txReap();
  }

  /** No room: OACTIVE until frames come back, which is told then. */
  #full(): false {
    this.flags |= IFF_OACTIVE;
    return false;
  }

  /** A frame that cannot be sent takes a slot all the same, to be told in its turn. */
  #drop(): true {
    this.stats.oerrors++;
    this.#txLen[this.#txHead] = 0;
    this.#txDone[this.#txHead] = 1;
    this.#txHead = (this.#txHead + 1) & this.#txMask;
    this.#txFrames++;
    return true;
  }

  /** Takes back what the device has sent; frames leave their slots in the order in which they came. */
  #txDequeue(): void {
    for (let slot = this.txvq.dequeue(); slot >= 0; slot = this.txvq.dequeue()) this.#txDone[slot] = 1;
    while (this.#txFrames > 0 && this.#txDone[this.#txTail] === 1) {
      const bytes = this.#txLen[this.#txTail]!;
      if (bytes > 0) {
        this.stats.opackets++;
        this.stats.obytes += bytes;
      }
      this.#txRetire();
    }
  }

  #txRetire(): void {
    this.#txDone[this.#txTail] = 0;
    this.#txTail = (this.#txTail + 1) & this.#txMask;
    this.#txFrames--;
    this.#txFinished++;
  }

  /** Takes back, tells once, and sees to it that the rest is told later, too. */
  #txReap(): void {
    if (this.#txTelling) return; // from within onSent: the turn in progress sees to it
    const epoch = this.#epoch;
    this.#txDequeue();
    const finished = this.#txFinished;
    if (finished > 0) {
      this.#txFinished = 0;
      this.flags &= ~IFF_OACTIVE;
      this.#txTelling = true;
      try {
        this.onSent?.(finished);
      } finally {
        this.#txTelling = false;
      }
      if (epoch !== this.#epoch) return;
      this.#txDequeue();
    }
    // A device that sends at once and an onSent that queues more would keep each other busy for ever: the rest is told at the
    // next poll.
    if (this.#txFinished > 0) this.#bus.scheduleVq(VIRTIO_NET_TRANSMITQ);
    else if (this.#txFrames > 0) {
      this.#txArmed = true;
      if (this.txvq.postponeIntr("long")) this.#bus.scheduleVq(VIRTIO_NET_TRANSMITQ);
    } else if (this.#txArmed) {
      this.#txArmed = false;
      this.txvq.disableIntr();
    }
  }

  // ---------------------------------------------------------------------------------------------- control queue

  #setRx(command: number, on: boolean): boolean {
    if (!this.#bus.withFeature(VIRTIO_NET_F_CTRL_RX)) return false;
    this.#ctrl?.write8(CTRL_DATA, on ? 1 : 0);
    return this.#command(VIRTIO_NET_CTRL_RX, command, 1);
  }

  /** An empty unicast table, the groups as the multicast one. @returns false when they do not fit */
  #setTable(): boolean {
    const { groups } = this;
    const ctrl = this.#ctrl;
    if (ctrl === null || !this.#bus.withFeature(VIRTIO_NET_F_CTRL_RX) || groups.length > MAC_ENTRIES) return false;
    ctrl.write32(CTRL_DATA, 0);
    ctrl.write32(CTRL_DATA + 4, groups.length);
    for (const [i, group] of groups.entries())
      ctrl.copyIn(CTRL_DATA + 8 + i * ETHER_ADDR_LEN, group, 0, ETHER_ADDR_LEN);
    return this.#command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 8 + groups.length * ETHER_ADDR_LEN);
  }

  #setMac(): boolean {
    if (this.#bus.withFeature(VIRTIO_NET_F_CTRL_MAC_ADDR)) {
      if (!this.running && !this.#controlEarly) return true; // with the next `up`
      this.#ctrl?.copyIn(CTRL_DATA, this.mac, 0, ETHER_ADDR_LEN);
      return this.#command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, ETHER_ADDR_LEN);
    }
    if (this.#bus.modern) return false; // its configuration is read-only. §5.1.4.2
    this.#bus.writeDeviceConfig(CONFIG.mac0.at, this.mac);
    return true;
  }

  /** Which receiving offloads the device is to use from now on. §5.1.6.5.8 */
  #setGuestOffloads(): boolean {
    let lo = 0;
    for (const bit of RX_OFFLOADS) if (this.#usesRx(bit)) lo |= 1 << bit;
    this.#ctrl?.write32(CTRL_DATA, lo);
    this.#ctrl?.write32(CTRL_DATA + 4, 0);
    return this.#command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 8);
  }

  /** One command with the data that lie in the control memory; waits for the answer. @returns whether it was VIRTIO_NET_OK */
  #command(cls: number, command: number, dataLen: number): boolean {
    const { ctrlvq: vq } = this;
    const ctrl = this.#ctrl;
    if (vq === null || ctrl === null || this.#ctrlLost || this.#ctrlBusy) return false;
    ctrl.write8(CTRL_HDR, cls);
    ctrl.write8(CTRL_HDR + 1, command);
    ctrl.write8(CTRL_ACK, 0xff);
    ctrl.sync(0, CTRL_BYTES, "prewrite");
    ctrl.sync(CTRL_ACK, 1, "preread");
    const { paddr, len } = this.#ctrlSegments;
    paddr[0] = ctrl.paddr + CTRL_HDR;
    len[0] = CTRL_HDR_LEN;
    paddr[1] = ctrl.paddr + CTRL_DATA;
    len[1] = dataLen;
    paddr[2] = ctrl.paddr + CTRL_ACK;
    len[2] = 1;
    if (vq.enqueue(0, this.#ctrlSegments, 2, 1) !== VQ_OK) return false;
    this.#ctrlBusy = true;
    const epoch = this.#epoch;
    vq.notify();
    let polls = 0;
    while (epoch === this.#epoch && vq.dequeue() < 0 && polls++ < CTRL_POLLS) this.#bus.machine.delay(CTRL_POLL_US);
    this.#ctrlBusy = false;
    if (epoch !== this.#epoch) return false; // the interface went down while we waited
    if (polls > CTRL_POLLS) {
      this.#ctrlLost = true;
      this.#dev.log(`control command ${cls}/${command} was not answered`);
      return false;
    }
    ctrl.sync(CTRL_ACK, 1, "postread");
    return ctrl.read8(CTRL_ACK) === VIRTIO_NET_OK;
  }
}

/** Makes the driver `vtnet`. */
export const vtnetDriver = (options: VtnetOptions = {}): Driver<VirtioProbe, VirtioAttach, Vtnet> => ({
  name: "vtnet",
  bus: VIRTIO,
  pnp: [{ deviceType: VIRTIO_ID_NET }],
  probe: (view) =>
    view.deviceType === VIRTIO_ID_NET ? { priority: BUS_PROBE_DEFAULT, desc: "VirtIO Networking Adapter" } : null,
  attach: (dev) => new Vtnet(dev, options),
  detach: (_dev, vtnet) => vtnet.detach(),
  suspend: (_dev, vtnet) => vtnet.suspend(),
  resume: (_dev, vtnet) => vtnet.resume(),
  shutdown: (_dev, vtnet) => vtnet.suspend(),
});

export const vtnet = vtnetDriver();
