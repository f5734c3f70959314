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
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_RSS_MAX_KEY_SIZE,
  VIRTIO_NET_RSS_MAX_TABLE_LEN,
  VIRTIO_NET_S_ANNOUNCE,
  VIRTIO_NET_S_LINK_UP,
} from "../../src/spec/virtio-net.js";
import { FeatureSet, type QueueDeclaration, type VirtioBus, type VirtioDevice } from "../../src/virtio/index.js";
import { Coalescing, type CoalescingParameters } from "./coalescing.js";
import { Control, type ControlTarget } from "./control.js";
import { Deadlines } from "./deadlines.js";
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
import { HASH_TYPES, type HashConfig, type RssConfig, Steering } from "./steering.js";
import { Tx, type TxDelay } from "./tx.js";

const {
  mac0: MAC,
  status: STATUS,
  max_virtqueue_pairs: PAIRS,
  mtu: MTU,
  speed: SPEED,
  duplex: DUPLEX,
  rss_max_key_size: RSS_KEY,
  rss_max_indirection_table_length: RSS_TABLE,
  supported_hash_types: RSS_TYPES,
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
  /** pairs of a receive and a transmit queue, 1 … 511 */
  readonly pairs: number;
  readonly rss: boolean;
  readonly hash: boolean;
  readonly notfCoal: boolean;
  /** null: the host's choice alone */
  readonly txDelay: TxDelay | null;
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
  readonly #pairs: number;
  readonly #coalesces: boolean;

  // wiring
  #bus: VirtioBus | null = null;
  readonly #link: Link;

  // volatile state
  readonly #config = new Uint8Array(VIRTIO_NET_CONFIG.size); // the address in it is the filter's
  readonly #filter: ReceiveFilter;
  readonly #rx: Rx;
  readonly #tx: readonly Tx[]; // by pair
  readonly #txDeadlines: Deadlines; // by pair; idle without a delay
  readonly #txDelayed: boolean;
  readonly #control: Control;
  readonly #steering: Steering;
  readonly #coalescing: Coalescing;
  #controlAt = VIRTIO_NET_CONTROLQ; // with the features as they are
  #guestOffloads = FeatureSet.NONE; // those in use, of the accepted ones
  #announce = false; // the driver is asked to announce itself

  /** @throws ConfigError `virtio-net-offloads` */
  constructor(options: CardOptions) {
    const { mac, sizes, mtu, speed, pairs, rss, hash, notfCoal, txDelay } = options;
    this.mac = Uint8Array.from(mac);
    this.#pairs = pairs;
    this.#coalesces = notfCoal;
    this.#txDelayed = txDelay !== null;
    const { features, legacy } = offer({ ...options, mtu: mtu !== null, speed: speed !== null, mq: pairs > 1 });
    this.features = features;
    this.legacyFeatures = legacy;
    const numbers = Array.from({ length: pairs }, (_, pair) => pair + 1);
    this.queues = [
      ...numbers.flatMap((number) => [
        { name: `receiveq${number}`, size: sizes.rx },
        { name: `transmitq${number}`, size: sizes.tx },
      ]),
      { name: "controlq", size: sizes.control },
    ];
    // As far as the last offered field, as QEMU: what is behind reads all ones.
    const named = speed !== null ? DUPLEX : mtu !== null ? MTU : pairs > 1 ? PAIRS : STATUS;
    const last = rss || hash ? RSS_TYPES : named;
    this.configLength = last.at + last.width;
    this.#link = new Link(mtu === null ? MAX_FRAME : mtu + FRAME_OVERHEAD);
    const view = new DataView(this.#config.buffer);
    view.setUint16(PAIRS.at, pairs, true);
    view.setUint16(MTU.at, mtu ?? 0, true);
    view.setUint32(SPEED.at, speed?.mbps ?? 0, true);
    view.setUint8(DUPLEX.at, speed?.duplex ?? 0);
    view.setUint8(RSS_KEY.at, VIRTIO_NET_RSS_MAX_KEY_SIZE);
    view.setUint16(RSS_TABLE.at, VIRTIO_NET_RSS_MAX_TABLE_LEN, true);
    view.setUint32(RSS_TYPES.at, HASH_TYPES, true);
    this.#filter = new ReceiveFilter(mac);
    this.#steering = new Steering(pairs, rss || hash);
    this.#coalescing = new Coalescing(2 * pairs);
    this.#rx = new Rx(this.#link, this.#filter, this.#steering, this.#coalescing);
    this.#txDeadlines = new Deadlines(pairs, (pair) => this.#txDue(pair));
    const shared = {
      link: this.#link,
      steering: this.#steering,
      coalescing: this.#coalescing,
      delays: txDelay === null ? null : { policy: txDelay, deadlines: this.#txDeadlines },
    };
    this.#tx = numbers.map((number) => new Tx(shared, number - 1));
    this.#control = new Control(this.#link, this.#filter, this);
    this.#showStatus();
  }

  // ---------------------------------------------------------------------------------------------- as a device type

  /** All of them until a driver accepted something: it may look before. */
  queueCount(accepted: FeatureSet): number {
    return this.controlQueue(accepted) + 1;
  }

  /** Behind all pairs when the driver knows of more than one, and behind the first otherwise. §5.1.2 */
  controlQueue(accepted: FeatureSet): number {
    const multiqueue = accepted.has(VIRTIO_NET_F_MQ) || accepted.has(VIRTIO_NET_F_RSS) || accepted.isEmpty;
    return multiqueue ? 2 * this.#pairs : VIRTIO_NET_CONTROLQ;
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
    if (this.#txDelayed) this.#txDeadlines.connect(bus.seams.clock);
    if (this.#coalesces) this.#coalescing.connect(bus, bus.seams.clock);
    this.#negotiated(bus.accepted);
    this.#useOffloads(this.#guestOffloads.and(bus.accepted));
  }

  disconnect(): void {
    this.#bus = null;
    this.#txDeadlines.disconnect();
    this.#coalescing.disconnect();
    for (const tx of this.#tx) tx.release();
    this.#rx.release();
    this.#control.release();
  }

  featuresAccepted(accepted: FeatureSet): void {
    this.#negotiated(accepted);
    this.#steering.reset(accepted.has(VIRTIO_NET_F_HASH_REPORT));
    this.#useOffloads(accepted.and(GUEST_OFFLOADS)); // all of them, until the driver says otherwise
    this.#filter.filterVlans(accepted.has(VIRTIO_NET_F_CTRL_VLAN));
  }

  /** What was made available before is sent without a wait: there was no notification of it. */
  driverOk(): void {
    for (const tx of this.#tx) tx.due = true;
  }

  queueReset(queue: number): void {
    if (queue === this.#controlAt) return;
    const pair = queue >>> 1;
    this.#coalescing.queueReset(queue);
    if (queue === 2 * pair) {
      this.#rx.resume(pair); // what waits for it goes elsewhere or is dropped
      return;
    }
    this.#txDeadlines.cancel(pair);
    this.#tx[pair]!.due = false;
  }

  runQueue(queue: number, budget: number): number {
    const bus = this.#bus;
    if (bus === null) return 0;
    if (queue === this.#controlAt) return this.#control.run(bus, bus.queue(queue), budget);
    const pair = queue >>> 1;
    if (queue !== 2 * pair) return this.#tx[pair]!.run(bus, bus.queue(queue), budget);
    this.#rx.resume(pair);
    return 0;
  }

  reset(): void {
    this.#negotiated(FeatureSet.NONE);
    this.#steering.reset(false);
    this.#coalescing.reset();
    this.#useOffloads(FeatureSet.NONE);
    this.#announce = false;
    this.#showStatus();
    this.#filter.reset(this.mac);
    this.#txDeadlines.clear();
    for (const tx of this.#tx) tx.reset();
    this.#rx.resumeAll(); // whoever waits finds a stopped receiver
  }

  // ---------------------------------------------------------------------------------------------- as an endpoint

  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#link.far !== null)
      throw new ConfigError(
        "port-attached",
        `${this.name}: a cable is plugged in already; expected attach(null) first`,
      );
    this.#link.far = far;
    this.#rx.forget();
    for (const pair of this.#tx.keys()) this.ready(pair);
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    const bus = this.#bus;
    if (bus === null) return "dropped";
    return this.#rx.offer(bus, bytes, start, length, offload, queueHint);
  }

  endBatch(): void {
    const bus = this.#bus;
    if (bus !== null) this.#rx.endBatch(bus);
  }

  /** @param queueHint number of a pair: what this card gives as hint */
  ready(queueHint: number): void {
    const tx = this.#tx[queueHint];
    if (tx?.blocked !== true) return;
    tx.blocked = false;
    this.#bus?.request(2 * queueHint + 1);
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
    this.#rx.resumeAll(); // what waits on either side is dropped
    for (const pair of this.#tx.keys()) this.ready(pair);
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
    if (!this.#has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) return false;
    if (!offloads.without(accepted.and(GUEST_OFFLOADS)).isEmpty) return false;
    this.#useOffloads(offloads);
    return true;
  }

  setPairs(pairs: number): boolean {
    if (!this.#has(VIRTIO_NET_F_MQ) || pairs < 1 || pairs > this.#pairs) return false;
    this.endBatch(); // of queues that may be out of use now
    this.#steering.useFlows(pairs);
    this.#rx.resumeAll(); // what waits may go elsewhere
    return true;
  }

  setRss(rss: RssConfig, maxTx: number, hash: HashConfig): boolean {
    const pairs = this.#pairs;
    if (!this.#has(VIRTIO_NET_F_RSS) || maxTx < 1 || maxTx > pairs || rss.unclassified >= pairs) return false;
    for (const pair of rss.table) if (pair >= pairs) return false;
    this.#steering.setHash(hash);
    this.#steering.useRss(rss);
    this.#rx.resumeAll();
    return true;
  }

  setHash(hash: HashConfig): boolean {
    if (!this.#has(VIRTIO_NET_F_HASH_REPORT)) return false;
    this.#steering.setHash(hash);
    if (this.#steering.rss) this.#steering.useFlows(this.#pairs); // the last command says how queues are chosen
    return true;
  }

  setCoalescing(kind: 0 | 1, parameters: CoalescingParameters): boolean {
    if (!this.#has(VIRTIO_NET_F_NOTF_COAL)) return false;
    this.#coalescing.setAll(kind, parameters);
    return true;
  }

  setQueueCoalescing(queue: number, parameters: CoalescingParameters): boolean {
    if (!this.#carriesFrames(queue)) return false;
    this.#coalescing.set(queue, parameters);
    return true;
  }

  queueCoalescing(queue: number): CoalescingParameters | null {
    return this.#carriesFrames(queue) ? this.#coalescing.get(queue) : null;
  }

  /** Whether VQ_NOTF_COAL has something to say of a queue. */
  #carriesFrames(queue: number): boolean {
    if (!this.#has(VIRTIO_NET_F_VQ_NOTF_COAL) || queue >= this.#controlAt) return false;
    return this.#bus?.queue(queue).enabled === true;
  }

  #has(feature: number): boolean {
    return this.#bus?.accepted.has(feature) === true;
  }

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      version: 3,
      permanentMac: Uint8Array.from(this.mac),
      linkUp: this.#link.up,
      txBlocked: this.#tx.map(({ blocked }) => (blocked ? 1 : 0)),
      txDue: this.#tx.map(({ due }) => (due ? 1 : 0)),
      txDeadlines: this.#txDeadlines.save(),
      guestOffloads: [this.#guestOffloads.lo, this.#guestOffloads.hi],
      announce: this.#announce,
      rx: this.#rx.save(),
      steering: this.#steering.save(),
      coalescing: this.#coalescing.save(),
      filter: this.#filter.save(),
      counters: [...this.#link.counters],
    };
  }

  loader(state: StateReader): () => void {
    state.integer("version", 3, 3);
    const permanentMac = Uint8Array.from(state.bytes("permanentMac", this.mac.length));
    const [lo, hi] = state.integers("guestOffloads", 0, 0xffff_ffff, 2);
    const guestOffloads = new FeatureSet(lo ?? 0, hi ?? 0);
    if (!guestOffloads.without(this.features.and(GUEST_OFFLOADS)).isEmpty)
      throw new StateError(`${state.path}.guestOffloads`, "offloads that this card does not offer");
    const announce = state.boolean("announce");
    const linkUp = state.boolean("linkUp");
    const txBlocked = state.integers("txBlocked", 0, 1, this.#pairs);
    const txDue = state.integers("txDue", 0, 1, this.#pairs);
    const applyTxDeadlines = this.#txDeadlines.loader(state, "txDeadlines");
    const applyRx = this.#rx.loader(state.object("rx"), this.#pairs);
    const applySteering = this.#steering.loader(state.object("steering"));
    const applyCoalescing = this.#coalescing.loader(state.object("coalescing"));
    const applyFilter = this.#filter.loader(state.object("filter"));
    const counters = state.integers("counters", 0, Number.MAX_SAFE_INTEGER, COUNTERS);
    return () => {
      this.mac.set(permanentMac);
      this.#link.up = linkUp;
      this.#announce = announce;
      this.#showStatus();
      for (const [pair, tx] of this.#tx.entries()) {
        tx.blocked = txBlocked[pair] === 1;
        tx.due = txDue[pair] === 1;
      }
      applyTxDeadlines();
      applyRx();
      applySteering(this.#has(VIRTIO_NET_F_HASH_REPORT));
      applyCoalescing();
      applyFilter();
      this.#link.counters.set(counters);
      if (this.#bus !== null) this.#negotiated(this.#bus.accepted);
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

  #negotiated(accepted: FeatureSet): void {
    this.#controlAt = this.controlQueue(accepted);
    this.#link.negotiated(accepted);
  }

  #txDue(pair: number): void {
    this.#tx[pair]!.due = true;
    this.#bus?.request(2 * pair + 1);
  }
}
