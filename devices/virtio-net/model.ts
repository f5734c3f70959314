import { ConfigError, StateError, type StateReader } from "../../src/bytes/index.js";
import type {
  EndpointLimits,
  NetEndpoint,
  NetPort,
  NicCounters,
  Offload,
  SavedState,
  Verdict,
} from "../../src/contract/index.js";
import { VIRTIO_F_VERSION_1, VIRTIO_ID_NET } from "../../src/spec/virtio.js";
import {
  VIRTIO_NET_CONFIG,
  VIRTIO_NET_CONTROLQ,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_RECEIVEQ,
  VIRTIO_NET_S_ANNOUNCE,
  VIRTIO_NET_S_LINK_UP,
  VIRTIO_NET_TRANSMITQ,
} from "../../src/spec/virtio-net.js";
import { FeatureSet, type QueueDeclaration, type VirtioBus, type VirtioDevice } from "../../src/virtio/index.js";
import { Control, type ControlTarget } from "./control.js";
import { GUEST_OFFLOADS, type OffloadOptions, offer } from "./features.js";
import { ReceiveFilter } from "./filter.js";
import {
  BYTES_COPIED,
  COUNTERS,
  DESCRIPTORS,
  Link,
  MAX_FRAME,
  RX_BYTES,
  RX_FILTERED,
  RX_FRAMES,
  RX_NO_BUFFER,
  TX_BYTES,
  TX_DROPPED,
  TX_FRAMES,
} from "./link.js";
import { Rx } from "./rx.js";
import { Tx } from "./tx.js";

const {
  mac0: MAC,
  status: STATUS,
  max_virtqueue_pairs: PAIRS,
  mtu: MTU,
  speed: SPEED,
  duplex: DUPLEX,
} = VIRTIO_NET_CONFIG.regs;
/** Header and VLAN tag around `mtu` bytes of payload. */
const FRAME_OVERHEAD = 18;

export interface QueueSizes {
  /** descriptors; powers of two, 1 … 32768 */
  readonly rx: number;
  readonly tx: number;
  readonly control: number;
}

/** What the card says of itself; checked. */
export interface CardOptions {
  /** six bytes */
  readonly mac: Uint8Array;
  readonly sizes: QueueSizes;
  /** bytes of payload; null: not offered */
  readonly mtu: number | null;
  /** Mbit/s and the register's value of duplex; null: not offered */
  readonly speed: { readonly mbps: number; readonly duplex: number } | null;
  readonly offloads: boolean | OffloadOptions;
}

/** The network device type: what stands between its queues and the cable. VIRTIO 1.3 §5.1 */
export class VirtioNetModel implements VirtioDevice, NetPort, ControlTarget {
  // fixed configuration
  readonly name = "virtio-net";
  readonly id = VIRTIO_ID_NET;
  readonly classCode = 0x02_00_00;
  readonly features: FeatureSet;
  readonly legacyFeatures: FeatureSet;
  readonly queues: readonly QueueDeclaration[];
  readonly configLength: number;
  readonly configRegisters = VIRTIO_NET_CONFIG;
  /** the permanent address */
  readonly mac: Uint8Array;

  // wiring
  #bus: VirtioBus | null = null;
  readonly #link: Link;

  // volatile state
  readonly #config = new Uint8Array(VIRTIO_NET_CONFIG.size); // the address in it is the filter's
  readonly #filter: ReceiveFilter;
  readonly #rx: Rx;
  readonly #tx: Tx;
  readonly #control: Control;
  #guestOffloads = FeatureSet.NONE; // those in use, of the accepted ones
  #announce = false; // the driver is asked to announce itself

  /** @throws ConfigError `virtio-net-offloads` */
  constructor({ mac, sizes, mtu, speed, offloads }: CardOptions) {
    this.mac = Uint8Array.from(mac);
    const { features, legacy } = offer(offloads, mtu !== null, speed !== null);
    this.features = features;
    this.legacyFeatures = legacy;
    this.queues = [
      { name: "receiveq1", size: sizes.rx },
      { name: "transmitq1", size: sizes.tx },
      { name: "controlq", size: sizes.control, control: true },
    ];
    // As far as the last offered field, as QEMU: what is behind reads all ones.
    const last = speed !== null ? DUPLEX : mtu !== null ? MTU : STATUS;
    this.configLength = last.at + last.width;
    this.#link = new Link(mtu === null ? MAX_FRAME : mtu + FRAME_OVERHEAD);
    const view = new DataView(this.#config.buffer);
    view.setUint16(PAIRS.at, 1, true);
    view.setUint16(MTU.at, mtu ?? 0, true);
    view.setUint32(SPEED.at, speed?.mbps ?? 0, true);
    view.setUint8(DUPLEX.at, speed?.duplex ?? 0);
    this.#filter = new ReceiveFilter(mac);
    this.#rx = new Rx(this.#link, this.#filter);
    this.#tx = new Tx(this.#link);
    this.#control = new Control(this.#link, this.#filter, this);
    this.#showStatus();
  }

  // ---------------------------------------------------------------------------------------------- as a device type

  queueCount(): number {
    return this.queues.length;
  }

  readConfig(offset: number): number {
    return offset < MAC.at + this.mac.length ? this.#filter.mac[offset]! : this.#config[offset]!;
  }

  /** Only the address, and only before VERSION_1: newer drivers have a command for it. §5.1.4.3 */
  writeConfig(offset: number, value: number): void {
    if (offset < this.mac.length && this.#bus?.accepted.has(VIRTIO_F_VERSION_1) === false)
      this.#filter.mac[offset] = value;
  }

  connect(bus: VirtioBus): void {
    this.#bus = bus;
    this.#link.negotiated(bus.accepted);
    this.#useOffloads(this.#guestOffloads.and(bus.accepted));
  }

  disconnect(): void {
    this.#bus = null;
    this.#tx.release();
    this.#rx.release();
    this.#control.release();
  }

  featuresAccepted(accepted: FeatureSet): void {
    this.#link.negotiated(accepted);
    this.#useOffloads(accepted.and(GUEST_OFFLOADS)); // all of them, until the driver says otherwise
    this.#filter.filterVlans(accepted.has(VIRTIO_NET_F_CTRL_VLAN));
  }

  driverOk(): void {}

  runQueue(queue: number, budget: number): number {
    const bus = this.#bus;
    if (bus === null) return 0;
    if (queue === VIRTIO_NET_TRANSMITQ) return this.#tx.run(bus, bus.queue(queue), budget);
    if (queue === VIRTIO_NET_CONTROLQ) return this.#control.run(bus, bus.queue(queue), budget);
    this.#rx.resume();
    return 0;
  }

  reset(): void {
    this.#link.negotiated(FeatureSet.NONE);
    this.#useOffloads(FeatureSet.NONE);
    this.#announce = false;
    this.#showStatus();
    this.#filter.reset(this.mac);
    this.#tx.blocked = false;
    this.#rx.resume(); // whoever waits finds a stopped receiver
  }

  // ---------------------------------------------------------------------------------------------- as an endpoint

  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#link.far !== null)
      throw new ConfigError(
        "port-attached",
        `${this.name}: a cable is plugged in already; expected attach(null) first`,
      );
    this.#link.far = far;
    this.#rx.waiting = false;
    this.#unblock();
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    const bus = this.#bus;
    if (bus === null) return "dropped";
    return this.#rx.offer(bus, bus.queue(VIRTIO_NET_RECEIVEQ), bytes, start, length, offload, queueHint);
  }

  endBatch(): void {
    const bus = this.#bus;
    if (bus !== null) this.#rx.endBatch(bus, bus.queue(VIRTIO_NET_RECEIVEQ));
  }

  ready(): void {
    this.#unblock();
  }

  accepts(): EndpointLimits {
    return this.#link.limits;
  }

  // ---------------------------------------------------------------------------------------------- as a card

  get linkUp(): boolean {
    return this.#link.up;
  }

  setLink(up: boolean): void {
    if (this.#link.up === up) return;
    this.#link.up = up;
    this.#showStatus();
    this.#bus?.configChanged(this.#bus.accepted.has(VIRTIO_NET_F_STATUS));
    if (up) return;
    this.#rx.resume(); // what waits on either side is dropped
    this.#unblock();
  }

  /** Asks the driver to make itself known on the net. §5.1.6.5.4 @returns false when it cannot be asked */
  announce(): boolean {
    const bus = this.#bus;
    if (bus === null || !bus.running || !bus.accepted.has(VIRTIO_NET_F_GUEST_ANNOUNCE)) return false;
    this.#announce = true;
    this.#showStatus();
    bus.configChanged(true);
    return true;
  }

  counters(doorbells: number, interrupts: number): NicCounters {
    const at = (i: number): number => this.#link.counters[i]!;
    return {
      txFrames: at(TX_FRAMES),
      txBytes: at(TX_BYTES),
      rxFrames: at(RX_FRAMES),
      rxBytes: at(RX_BYTES),
      rxNoBuffer: at(RX_NO_BUFFER),
      rxFiltered: at(RX_FILTERED),
      txDropped: at(TX_DROPPED),
      descriptorsRead: at(DESCRIPTORS),
      bytesCopied: at(BYTES_COPIED),
      doorbells,
      interrupts,
    };
  }

  // ---------------------------------------------------------------------------------------------- for the control queue

  macChanged(): void {
    this.#bus?.configChanged(false);
  }

  announced(): boolean {
    if (!this.#announce) return false;
    this.#announce = false;
    this.#showStatus();
    this.#bus?.configChanged(false);
    return true;
  }

  setGuestOffloads(lo: number, hi: number): boolean {
    const accepted = this.#bus?.accepted ?? FeatureSet.NONE;
    const offloads = new FeatureSet(lo, hi);
    if (!accepted.has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) return false;
    if (!offloads.without(accepted.and(GUEST_OFFLOADS)).isEmpty) return false;
    this.#useOffloads(offloads);
    return true;
  }

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      version: 2,
      permanentMac: Uint8Array.from(this.mac),
      linkUp: this.#link.up,
      txBlocked: this.#tx.blocked,
      guestOffloads: [this.#guestOffloads.lo, this.#guestOffloads.hi],
      announce: this.#announce,
      rxWaiting: this.#rx.waiting,
      rxWaitingHint: this.#rx.waitingHint,
      filter: this.#filter.save(),
      counters: [...this.#link.counters],
    };
  }

  loader(state: StateReader): () => void {
    state.integer("version", 2, 2);
    const permanentMac = Uint8Array.from(state.bytes("permanentMac", this.mac.length));
    const [lo, hi] = state.integers("guestOffloads", 0, 0xffff_ffff, 2);
    const guestOffloads = new FeatureSet(lo ?? 0, hi ?? 0);
    if (!guestOffloads.without(this.features.and(GUEST_OFFLOADS)).isEmpty)
      throw new StateError(`${state.path}.guestOffloads`, "offloads that this card does not offer");
    const announce = state.boolean("announce");
    const linkUp = state.boolean("linkUp");
    const txBlocked = state.boolean("txBlocked");
    const rxWaiting = state.boolean("rxWaiting");
    const rxWaitingHint = state.integer("rxWaitingHint");
    const applyFilter = this.#filter.loader(state.object("filter"));
    const counters = state.integers("counters", 0, Number.MAX_SAFE_INTEGER, COUNTERS);
    return () => {
      this.mac.set(permanentMac);
      this.#link.up = linkUp;
      this.#announce = announce;
      this.#showStatus();
      this.#tx.blocked = txBlocked;
      this.#rx.waiting = rxWaiting;
      this.#rx.waitingHint = rxWaitingHint;
      applyFilter();
      this.#link.counters.set(counters);
      if (this.#bus !== null) this.#link.negotiated(this.#bus.accepted);
      this.#useOffloads(this.#bus === null ? guestOffloads : guestOffloads.and(this.#bus.accepted));
    };
  }

  #useOffloads(offloads: FeatureSet): void {
    this.#guestOffloads = offloads;
    this.#link.guestOffloads(offloads);
  }

  #showStatus(): void {
    this.#config[STATUS.at] = (this.#link.up ? VIRTIO_NET_S_LINK_UP : 0) | (this.#announce ? VIRTIO_NET_S_ANNOUNCE : 0);
  }

  #unblock(): void {
    if (!this.#tx.blocked) return;
    this.#tx.blocked = false;
    this.#bus?.request(VIRTIO_NET_TRANSMITQ);
  }
}
