import { ConfigError, type StateReader } from "../../src/bytes/index.js";
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
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_RECEIVEQ,
  VIRTIO_NET_S_LINK_UP,
  VIRTIO_NET_TRANSMITQ,
} from "../../src/spec/virtio-net.js";
import { FeatureSet, type QueueDeclaration, type VirtioBus, type VirtioDevice } from "../../src/virtio/index.js";
import { Control } from "./control.js";
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

const { mac0: MAC, status: STATUS, max_virtqueue_pairs: PAIRS, mtu: MTU } = VIRTIO_NET_CONFIG.regs;
/** Header and VLAN tag around `mtu` bytes of payload. */
const FRAME_OVERHEAD = 18;

export interface QueueSizes {
  /** descriptors; powers of two, 1 … 32768 */
  readonly rx: number;
  readonly tx: number;
  readonly control: number;
}

/** The network device type: what stands between its queues and the cable. VIRTIO 1.3 §5.1 */
export class VirtioNetModel implements VirtioDevice, NetPort {
  // fixed configuration
  readonly name = "virtio-net";
  readonly id = VIRTIO_ID_NET;
  readonly classCode = 0x02_00_00;
  readonly features: FeatureSet;
  readonly legacyFeatures = FeatureSet.NONE;
  readonly queues: readonly QueueDeclaration[];
  readonly configLength: number;
  readonly configRegisters = VIRTIO_NET_CONFIG;
  /** the permanent address */
  readonly mac: Uint8Array;
  readonly #limits: EndpointLimits;

  // wiring
  #bus: VirtioBus | null = null;
  readonly #link = new Link();

  // volatile state
  readonly #config = new Uint8Array(VIRTIO_NET_CONFIG.size); // the address in it is the filter's
  readonly #filter: ReceiveFilter;
  readonly #rx: Rx;
  readonly #tx: Tx;
  readonly #control: Control;

  /** @param mac six bytes, checked; @param mtu null: not offered */
  constructor(mac: Uint8Array, sizes: QueueSizes, mtu: number | null) {
    this.mac = Uint8Array.from(mac);
    const bits = [
      VIRTIO_NET_F_MAC,
      VIRTIO_NET_F_STATUS,
      VIRTIO_NET_F_MRG_RXBUF,
      VIRTIO_NET_F_CTRL_VQ,
      VIRTIO_NET_F_CTRL_RX,
      VIRTIO_NET_F_CTRL_RX_EXTRA,
      VIRTIO_NET_F_CTRL_VLAN,
      VIRTIO_NET_F_CTRL_MAC_ADDR,
    ];
    this.features = FeatureSet.of(...bits, ...(mtu === null ? [] : [VIRTIO_NET_F_MTU]));
    this.queues = [
      { name: "receiveq1", size: sizes.rx },
      { name: "transmitq1", size: sizes.tx },
      { name: "controlq", size: sizes.control, control: true },
    ];
    // As far as the last offered field, as QEMU: what is behind reads all ones.
    this.configLength = mtu === null ? STATUS.at + STATUS.width : MTU.at + MTU.width;
    this.#limits = {
      csum: false,
      tso4: false,
      tso6: false,
      uso: false,
      longestFrame: mtu === null ? MAX_FRAME : mtu + FRAME_OVERHEAD,
      holds: true,
    };
    const view = new DataView(this.#config.buffer);
    view.setUint16(PAIRS.at, 1, true);
    view.setUint16(MTU.at, mtu ?? 0, true);
    this.#filter = new ReceiveFilter(mac);
    this.#rx = new Rx(this.#link, this.#filter);
    this.#tx = new Tx(this.#link);
    this.#control = new Control(this.#link, this.#filter, () => this.#bus?.configChanged(false));
    this.#showLink();
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
    this.#negotiated(bus.accepted);
  }

  disconnect(): void {
    this.#bus = null;
    this.#tx.release();
    this.#rx.release();
    this.#control.release();
  }

  featuresAccepted(accepted: FeatureSet): void {
    this.#negotiated(accepted);
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
    this.#negotiated(FeatureSet.NONE);
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
    return this.#limits;
  }

  // ---------------------------------------------------------------------------------------------- as a card

  get linkUp(): boolean {
    return this.#link.up;
  }

  setLink(up: boolean): void {
    if (this.#link.up === up) return;
    this.#link.up = up;
    this.#showLink();
    this.#bus?.configChanged(this.#bus.accepted.has(VIRTIO_NET_F_STATUS));
    if (up) return;
    this.#rx.resume(); // what waits on either side is dropped
    this.#unblock();
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

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      version: 1,
      permanentMac: Uint8Array.from(this.mac),
      linkUp: this.#link.up,
      txBlocked: this.#tx.blocked,
      rxWaiting: this.#rx.waiting,
      rxWaitingHint: this.#rx.waitingHint,
      filter: this.#filter.save(),
      counters: [...this.#link.counters],
    };
  }

  loader(state: StateReader): () => void {
    const permanentMac = Uint8Array.from(state.bytes("permanentMac", this.mac.length));
    const linkUp = state.boolean("linkUp");
    const txBlocked = state.boolean("txBlocked");
    const rxWaiting = state.boolean("rxWaiting");
    const rxWaitingHint = state.integer("rxWaitingHint");
    const applyFilter = this.#filter.loader(state.object("filter"));
    const counters = state.integers("counters", 0, Number.MAX_SAFE_INTEGER, COUNTERS);
    return () => {
      this.mac.set(permanentMac);
      this.#link.up = linkUp;
      this.#showLink();
      this.#tx.blocked = txBlocked;
      this.#rx.waiting = rxWaiting;
      this.#rx.waitingHint = rxWaitingHint;
      applyFilter();
      this.#link.counters.set(counters);
      if (this.#bus !== null) this.#negotiated(this.#bus.accepted);
    };
  }

  #negotiated(accepted: FeatureSet): void {
    this.#link.negotiated(accepted.has(VIRTIO_NET_F_MRG_RXBUF), accepted.has(VIRTIO_F_VERSION_1));
  }

  #showLink(): void {
    this.#config[STATUS.at] = this.#link.up ? VIRTIO_NET_S_LINK_UP : 0;
  }

  #unblock(): void {
    if (!this.#tx.blocked) return;
    this.#tx.blocked = false;
    this.#bus?.request(VIRTIO_NET_TRANSMITQ);
  }
}
