import type { GuestDma } from "../../contract/index.js";
import { VIRTIO_ID_NET } from "../../spec/virtio.js";
import {
  VIRTIO_NET_CONFIG,
  VIRTIO_NET_CTRL_RX_ALLMULTI,
  VIRTIO_NET_CTRL_RX_PROMISC,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_S_LINK_UP,
} from "../../spec/virtio-net.js";
import {
  BusError,
  type Device,
  type Driver,
  type FrameSegments,
  IFF_ALLMULTI,
  IFF_OACTIVE,
  IFF_PROMISC,
  IFF_RUNNING,
  IFF_UP,
  type Media,
  type SegmentKind,
  type TxOffload,
} from "../types.js";
import {
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
  NO_VLAN,
} from "./ifnet.js";
import {
  hasFeature,
  type VirtioAttach,
  type VirtioFeatures,
  type VirtioProbe,
  type VqAllocInfo,
  virtioDriver,
  virtioMemory,
} from "./virtio-bus.js";
import { ENOSPC, type Virtqueue, VQ_OK } from "./virtqueue.js";
import { CONTROL_BYTES, VtnetControl } from "./vtnet-control.js";
import {
  ALL_RX_OFFLOADS,
  type Coalescing,
  MAX_QUEUE_PAIRS,
  negotiateVtnet,
  offloadCapabilities,
  rxOffloadsInUse,
  type VtnetOptions,
} from "./vtnet-features.js";
import { FlowHash } from "./vtnet-flow.js";
import { readMaxMtu, readMaxPairs, rxClusters, rxLayout } from "./vtnet-layout.js";
import { VtnetRx } from "./vtnet-rx.js";
import { SentFrames, TX_HDR_STRIDE, VtnetTx } from "./vtnet-tx.js";

export type { Coalescing, VtnetOptions } from "./vtnet-features.js";

/**
 * vtnet: the virtio network driver. Pairs of queues and the control queue; checksums and segmentation are left to the device.
 * No watchdog for frames that the device never gives back: those wait for `down` and `up`, or for `restartQueues`.
 *
 * @see VIRTIO 1.3 §5.1; FreeBSD sys/dev/virtio/network/if_vtnet.c for the order of steps
 */

/** Longest frame to be segmented, without its Ethernet header */
const TSO_MAX = 65_535;
/** Pieces of a frame to send that fit an indirect table with the header; more go through the ring itself. */
const TX_SEGS = 16;
/** Pieces of the longest list that `transmit` takes. */
const TX_SEGS_MAX = 64;
/** Entries of the table that spreads hashes over queues, if the device takes so many */
const RSS_TABLE_LENGTH = 128;

const CONFIG = VIRTIO_NET_CONFIG.regs;

/** A virtio network interface. */
export class Vtnet extends EthernetInterface {
  /** pairs of queues there are; `activePairs` of them are in use */
  readonly queuePairs: number;
  protected readonly maxMtu: number;
  readonly #dev: Device<VirtioAttach>;
  readonly #bus: VirtioAttach;
  readonly #dma: GuestDma;
  readonly #features: VirtioFeatures;
  readonly #controlEarly: boolean;
  readonly #permanentMac: Uint8Array;
  readonly #rx: readonly VtnetRx[];
  readonly #tx: readonly VtnetTx[];
  readonly #control: VtnetControl | null;
  #activePairs = 1;

  readonly #sent: SentFrames;
  readonly #frame = frameSegments(1 + TX_SEGS_MAX);
  readonly #flows = new FlowHash();
  readonly #hostEcn: boolean;
  readonly #hostUso: boolean;
  readonly #hostUfo: boolean;
  #telling = false;
  #epoch = 0; // changes when the queues are emptied under a handler's feet
  #filterStale = false;
  /** what `setCoalescing` was told last, for a new start */
  #coalesce: { rx?: Coalescing; tx?: Coalescing };

  constructor(dev: Device<VirtioAttach>, options: VtnetOptions) {
    super(dev.nameunit);
    const bus = dev.bus;
    this.#dev = dev;
    this.#bus = bus;
    this.#dma = bus.machine.dma;
    this.#coalesce = { ...options.coalesce };
    this.#controlEarly = options.controlBeforeDriverOk === true && !bus.modern;

    // 1. Features, and the end of their negotiation. §3.1.1 steps 4 … 6
    this.#features = negotiateVtnet(bus, options);
    bus.finalizeFeatures();

    // 2. What the device says about itself
    if (bus.withFeature(VIRTIO_NET_F_MAC)) bus.readDeviceConfig(CONFIG.mac0.at, this.mac);
    // Deviation: FreeBSD takes a random address; here it follows from the unit, and runs can be repeated.
    else this.mac.set([0xb2, 0, 0, 0, 0, dev.unit & 0xff]);
    this.#permanentMac = this.mac.slice();
    this.maxMtu = readMaxMtu(bus, this.name);
    if (bus.withFeature(VIRTIO_NET_F_STATUS)) this.capenable |= IFCAP_LINKSTATE;
    if (this.maxMtu > ETHERMTU) this.capenable |= IFCAP_JUMBO_MTU;
    this.offloads = offloadCapabilities(this.#features);
    this.capenable |= this.offloads;
    this.#hostEcn = bus.withFeature(VIRTIO_NET_F_HOST_ECN);
    this.#hostUso = bus.withFeature(VIRTIO_NET_F_HOST_USO);
    this.#hostUfo = bus.withFeature(VIRTIO_NET_F_HOST_UFO);
    const maxPairs = readMaxPairs(bus, this.name);
    this.queuePairs = Math.min(maxPairs, options.queuePairs ?? MAX_QUEUE_PAIRS);

    // 3. Queues and their buffers
    const vqs = this.#allocQueues(maxPairs);
    const pairs = Array.from({ length: this.queuePairs }, (_, pair) => pair);
    const layout = rxLayout(bus, this.offloads, this.maxMtu);
    this.#rx = pairs.map((pair) => {
      const vq = vqs[2 * pair]!;
      const clusters = rxClusters(layout, vq.size, this.queuePairs);
      return new VtnetRx(this, bus, vq, virtioMemory(dev, clusters * layout.clusterBytes, 4096), layout);
    });
    this.#tx = pairs.map((pair) => {
      const vq = vqs[2 * pair + 1]!;
      return new VtnetTx(vq, virtioMemory(dev, vq.size * TX_HDR_STRIDE, 64), layout.hdrSize);
    });
    this.#sent = new SentFrames(this.#tx.reduce((frames, { vq }) => frames + vq.size, 0));
    const ctrlvq = vqs[2 * this.queuePairs];
    this.#control =
      ctrlvq === undefined
        ? null
        : new VtnetControl(bus, ctrlvq, virtioMemory(dev, CONTROL_BYTES, 4096), (message) => dev.log(message));

    // 4. Interrupts, and what the transport has to tell
    bus.setupIntr();
    bus.setCallbacks({
      attachCompleted: () => {
        // A device is promiscuous after a reset. §5.1.6.5.1
        if (!this.#controlEarly) this.#control?.setRx(VIRTIO_NET_CTRL_RX_PROMISC, false);
      },
      configChange: () => this.#configChange(),
    });
    if (this.#controlEarly) this.#control?.setRx(VIRTIO_NET_CTRL_RX_PROMISC, false);
    dev.log(`Ethernet address: ${formatMac(this.mac)}`);
  }

  /** The queues of the first pair. */
  get rxvq(): Virtqueue {
    return this.#rx[0]!.vq;
  }
  get txvq(): Virtqueue {
    return this.#tx[0]!.vq;
  }
  /** null without CTRL_VQ */
  get ctrlvq(): Virtqueue | null {
    return this.#control?.vq ?? null;
  }
  /** Pairs that the device was told to use; 1 while the interface is down. */
  get activePairs(): number {
    return this.#activePairs;
  }
  /** A receive or transmit queue. @param pair 0 … queuePairs−1 */
  queue(direction: "rx" | "tx", pair: number): Virtqueue {
    const queue = (direction === "rx" ? this.#rx : this.#tx)[pair];
    if (queue === undefined) throw new BusError("EINVAL", `${this.name}: no pair ${pair} of ${this.queuePairs}`);
    return queue.vq;
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

  // ---------------------------------------------------------------------------------------------- transmit

  /** Whether `transmit` takes frames that are to be cut so, and the card cuts them. `ifconfig` has no word for UDP's. */
  canSegment(kind: SegmentKind): boolean {
    if (kind === "none") return true;
    if ((this.capenable & IFCAP_TXCSUM_ANY) === 0) return false;
    if (kind === "udp") return this.#hostUso;
    if (kind === "udpfrag") return this.#hostUfo;
    return (this.capenable & (kind === "tcp4" ? IFCAP_TSO4 : IFCAP_TSO6)) !== 0;
  }

  transmit(frame: FrameSegments, offload: TxOffload | null = null, vlan = NO_VLAN, flow = -1): boolean {
    if ((this.flags & IFF_RUNNING) === 0 || !this.linkActive) return false;
    const sent = this.#sent;
    if (sent.full) this.#collect();
    if (sent.full) return this.#full();
    const { count, paddr, len } = frame;
    if (count > TX_SEGS_MAX) return this.#drop();
    const out = this.#frame;
    let bytes = 0;
    let n = 1; // after the header
    for (let i = 0; i < count; i++) {
      const length = len[i]!;
      if (length === 0) continue; // some devices take an empty descriptor for an error
      out.paddr[n] = paddr[i]!;
      out.len[n++] = length;
      bytes += length;
    }
    if (bytes < ETHER_HDR_LEN || vlan !== NO_VLAN || !this.#sendable(bytes, offload)) return this.#drop();
    const tx = this.#tx[this.#activePairs === 1 ? 0 : this.#pick(n, flow)]!;
    let error = tx.vq.fits(n);
    if (error === ENOSPC) {
      this.#collect();
      error = tx.vq.fits(n);
      if (error === ENOSPC) return this.#full();
    }
    if (error !== VQ_OK) return this.#drop();
    for (let i = 1; i < n; i++) this.#dma.sync(out.paddr[i]!, out.len[i]!, "prewrite");
    tx.enqueue(sent.next, out, n, offload);
    sent.take(bytes);
    return true;
  }

  kick(): void {
    if ((this.flags & IFF_RUNNING) === 0) return;
    for (let i = 0; i < this.#activePairs; i++) {
      const tx = this.#tx[i]!;
      tx.vq.notify();
      tx.touched = true;
    }
    this.#reap();
  }

  /** Which queue a frame goes out by. @param end of its pieces in #frame */
  #pick(end: number, flow: number): number {
    return (flow >= 0 ? flow : this.#flows.of(this.#dma, this.#frame, 1, end)) % this.#activePairs;
  }

  /** Whether the frame may go out with the offloads that are in use. */
  #sendable(bytes: number, offload: TxOffload | null): boolean {
    const longest = ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + this.mtu;
    if (offload === null) return bytes <= longest;
    const { csumStart, csumOffset, gso, gsoSize, hdrLen, ecn } = offload;
    if ((this.capenable & IFCAP_TXCSUM_ANY) === 0 || csumStart + csumOffset + 2 > bytes) return false;
    if (gso === "none") return bytes <= longest;
    const udp = gso === "udp" || gso === "udpfrag";
    return (
      this.canSegment(gso) &&
      (!ecn || (this.#hostEcn && !udp)) &&
      gsoSize > 0 &&
      hdrLen > csumStart + csumOffset &&
      hdrLen < bytes &&
      (gso === "udpfrag" ? csumStart : hdrLen) + gsoSize <= longest &&
      bytes <= ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + TSO_MAX
    );
  }

  /** No room: OACTIVE until frames come back, which is told then. */
  #full(): false {
    this.flags |= IFF_OACTIVE;
    return false;
  }

  /** A frame that cannot be sent takes a slot all the same, to be told in its turn. */
  #drop(): true {
    this.stats.oerrors++;
    this.#sent.take(0);
    return true;
  }

  /** Takes back what the device has sent; frames leave their slots in the order in which they came. */
  #collect(): void {
    for (let i = 0; i < this.#tx.length; i++) this.#tx[i]!.collect(this.#sent);
    this.#retire();
  }

  #retire(): void {
    const sent = this.#sent;
    sent.retire();
    this.stats.opackets += sent.packets;
    this.stats.obytes += sent.bytes;
    sent.packets = sent.bytes = 0;
  }

  #collectTouched(): void {
    for (let i = 0; i < this.#tx.length; i++) if (this.#tx[i]!.touched) this.#tx[i]!.collect(this.#sent);
    this.#retire();
  }

  #txIntr(tx: VtnetTx): void {
    if ((this.flags & IFF_RUNNING) === 0) return;
    tx.touched = true;
    this.#reap();
  }

  /** Takes back, tells once, and sees to it that the rest is told later, too. */
  #reap(): void {
    if (this.#telling) return; // from within onSent: the turn in progress sees to it
    const epoch = this.#epoch;
    this.#collectTouched();
    const finished = this.#sent.takeFinished();
    if (finished > 0) {
      this.flags &= ~IFF_OACTIVE;
      this.#telling = true;
      try {
        this.onSent?.(finished);
      } finally {
        this.#telling = false;
      }
      if (epoch !== this.#epoch) return;
      this.#collectTouched();
    }
    for (let i = 0; i < this.#tx.length; i++) {
      const tx = this.#tx[i]!;
      if (!tx.touched) continue;
      // A device that sends at once and an onSent that queues more would keep each other busy for ever: the rest is told at the
      // next poll.
      if (this.#sent.finished > 0) this.#bus.scheduleVq(tx.vq.index);
      else if (tx.settle()) this.#bus.scheduleVq(tx.vq.index);
    }
  }

  // ---------------------------------------------------------------------------------------------- up and down

  protected start(): void {
    this.#giveUp();
    this.#bus.reinit(this.#wanted()); // reset … features … queues, in the order of §3.1.1
    for (const rx of this.#rx) rx.fill();
    if (this.#controlEarly) this.#configure();
    this.#bus.reinitComplete();
    this.flags |= IFF_RUNNING;
    // Not before DRIVER_OK may a modern device be notified. §3.1.1
    for (const tx of this.#tx) tx.quiet();
    for (const rx of this.#rx) rx.vq.notify();
    if (!this.#controlEarly) this.#configure();
    this.#updateLink();
    for (const rx of this.#rx) rx.arm();
  }

  protected halt(): void {
    const wasRunning = this.running;
    this.flags &= ~(IFF_RUNNING | IFF_OACTIVE);
    if (wasRunning) this.#bus.stop(); // first the reset, then its buffers are ours again. §3.3.1
    this.#giveUp();
  }

  protected filter(): void {
    const control = this.#control;
    if (control === null) return;
    if (control.busy) {
      this.#filterStale = true; // the command in progress waits, and someone else ran meanwhile
      return;
    }
    do {
      this.#filterStale = false;
      control.setRx(VIRTIO_NET_CTRL_RX_PROMISC, (this.flags & IFF_PROMISC) !== 0);
      const all = (this.flags & IFF_ALLMULTI) !== 0 || !control.setTable(this.groups);
      control.setRx(VIRTIO_NET_CTRL_RX_ALLMULTI, all);
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

  /**
   * Resets both queues of a pair while the others go on: what was to be sent there is given up and told, receive buffers
   * are handed out anew. @returns false when the device cannot (RING_RESET), or the interface is not running
   * @throws DriverError when a queue does not come back
   */
  restartQueues(pair: number): boolean {
    const tx = this.#tx[pair];
    const rx = this.#rx[pair];
    if (tx === undefined || rx === undefined || !this.running) return false;
    const giveUp = (): void => {
      this.stats.oerrors += tx.forget(this.#sent);
    };
    if (!this.#bus.restartVq(tx.vq, giveUp)) return false;
    tx.quiet();
    this.#bus.restartVq(rx.vq, () => rx.forget());
    rx.fill();
    rx.arm();
    tx.touched = true;
    this.#reap();
    return true;
  }

  /**
   * Tells the device how long its queues may wait with interrupts, now and after each start.
   * @returns whether it does; NOTF_COAL
   */
  setCoalescing(direction: "rx" | "tx", coalescing: Coalescing): boolean {
    this.#coalesce[direction] = coalescing;
    return this.running && (this.#control?.setCoalescing(direction === "rx", coalescing) ?? false);
  }

  /** The same for one queue, until the next start. @returns whether it does; VQ_NOTF_COAL */
  setQueueCoalescing(direction: "rx" | "tx", pair: number, coalescing: Coalescing): boolean {
    const { index } = this.queue(direction, pair);
    return this.running && (this.#control?.setQueueCoalescing(index, coalescing) ?? false);
  }

  /** What the device says it does at a queue; null when it does not. VQ_NOTF_COAL */
  queueCoalescing(direction: "rx" | "tx", pair: number): Coalescing | null {
    const { index } = this.queue(direction, pair);
    return this.running ? (this.#control?.queueCoalescing(index) ?? null) : null;
  }

  protected override changeOffloads(changed: number): void {
    if ((changed & (IFCAP_RXCSUM_ANY | IFCAP_LRO)) === 0 || !this.running) return;
    if (this.#bus.withFeature(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
      this.#control?.setGuestOffloads(rxOffloadsInUse(this.#features, this.capenable));
    else {
      this.halt();
      this.start(); // another negotiation
    }
  }

  /** The features for a new negotiation; without the command for it, offloads that are off are not accepted. */
  #wanted(): VirtioFeatures {
    const { lo, hi } = this.#features;
    if (hasFeature(this.#features, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) return this.#features;
    const on = rxOffloadsInUse(this.#features, this.capenable);
    return {
      lo: (lo & (~ALL_RX_OFFLOADS.lo | on.lo)) >>> 0,
      hi: (hi & (~ALL_RX_OFFLOADS.hi | on.hi)) >>> 0,
    };
  }

  /** Pairs, address, offloads and filters, which a reset has put back to what they were. */
  #configure(): void {
    this.#usePairs();
    const { rx, tx } = this.#coalesce;
    if (rx !== undefined) this.#control?.setCoalescing(true, rx);
    if (tx !== undefined) this.#control?.setCoalescing(false, tx);
    if (this.mac.some((byte, i) => byte !== this.#permanentMac[i]) || !this.#bus.withFeature(VIRTIO_NET_F_MAC))
      this.#setMac();
    // All that were accepted are on after a negotiation. §5.1.6.5.8
    const on = rxOffloadsInUse(this.#features, this.capenable);
    const all = rxOffloadsInUse(this.#features, -1);
    if (on.lo !== all.lo || on.hi !== all.hi) this.#control?.setGuestOffloads(on);
    this.filter();
  }

  /** A device uses one pair until it is told of more. §5.1.6.5.6 */
  #usePairs(): void {
    this.#activePairs = 1;
    const control = this.#control;
    const pairs = this.queuePairs;
    if (control === null) return;
    if (this.#bus.withFeature(VIRTIO_NET_F_RSS)) {
      const table = Math.min(RSS_TABLE_LENGTH, this.#bus.readDeviceConfig2(CONFIG.rss_max_indirection_table_length.at));
      const entries = 2 ** Math.floor(Math.log2(Math.max(table, 1)));
      if (control.setRss(pairs, this.#hashTypes(), entries)) this.#activePairs = pairs;
    } else {
      if (this.#bus.withFeature(VIRTIO_NET_F_HASH_REPORT)) control.setHash(this.#hashTypes());
      if (pairs === 1 || control.setPairs(pairs)) this.#activePairs = pairs;
    }
    if (this.#activePairs !== pairs) this.#dev.log(`cannot set active queue pairs to ${pairs}`);
  }

  #hashTypes(): number {
    const bytes = new Uint8Array(4);
    this.#bus.readDeviceConfig(CONFIG.supported_hash_types.at, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  #setMac(): boolean {
    if (this.#bus.withFeature(VIRTIO_NET_F_CTRL_MAC_ADDR)) {
      if (!this.running && !this.#controlEarly) return true; // with the next `up`
      return this.#control?.setMac(this.mac) ?? false;
    }
    if (this.#bus.modern) return false; // its configuration is read-only. §5.1.4.2
    this.#bus.writeDeviceConfig(CONFIG.mac0.at, this.mac);
    return true;
  }

  /** Empties the queues of a device that was reset; frames to send count as errors and are told. */
  #giveUp(): void {
    this.#epoch++;
    for (const rx of this.#rx) rx.forget();
    for (const tx of this.#tx) this.stats.oerrors += tx.forget(this.#sent);
    this.#control?.forget();
    this.#retire();
    const finished = this.#sent.takeFinished();
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

  // ---------------------------------------------------------------------------------------------- attach

  #allocQueues(maxPairs: number): readonly Virtqueue[] {
    const { name } = this;
    const infos: VqAllocInfo[] = [];
    for (let pair = 0; pair < this.queuePairs; pair++)
      infos.push(
        { name: `${name}-rx${pair}`, maxIndirect: 0, handler: () => this.#rx[pair]!.intr() },
        { name: `${name}-tx${pair}`, maxIndirect: 1 + TX_SEGS, handler: () => this.#txIntr(this.#tx[pair]!) },
      );
    // Polled, so it needs no vector.
    if (this.#bus.withFeature(VIRTIO_NET_F_CTRL_VQ))
      infos.push({ name: `${name}-ctrl`, maxIndirect: 0, handler: null, index: 2 * maxPairs });
    return this.#bus.allocVirtqueues(infos);
  }
}

/** Makes the driver `vtnet`. */
export const vtnetDriver = (options: VtnetOptions = {}): Driver<VirtioProbe, VirtioAttach, Vtnet> =>
  virtioDriver("vtnet", VIRTIO_ID_NET, "VirtIO Networking Adapter", (dev) => new Vtnet(dev, options));

export const vtnet = vtnetDriver();
