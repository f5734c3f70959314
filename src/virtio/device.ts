import { Door, StateError, StateReader } from "../bytes/index.js";
import type { Clock, FunctionSeams, QueueRunner, SavedState, Timer, Work } from "../contract/index.js";
import type { RegisterMap } from "../regs/index.js";
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
} from "../spec/virtio.js";
import { FeatureSet } from "./features.js";
import { PackedQueue } from "./packed-queue.js";
import { SplitQueue } from "./split-queue.js";
import type { RingFeatures, Virtqueue } from "./virtqueue.js";

/** One virtqueue of a device type. */
export interface QueueDeclaration {
  /** as the standard calls it, for example `receiveq1` */
  readonly name: string;
  /** descriptors; a power of two, 1 … 32768 */
  readonly size: number;
  /** served inside the notification, before DRIVER_OK, too: drivers spin on it. Default false */
  readonly control?: boolean;
}

/** What a device type finds behind it: the part that all virtio devices have in common. */
export interface VirtioBus {
  readonly seams: FunctionSeams;
  /** DRIVER_OK is set and nothing has failed: rings may be served and notifications sent */
  readonly running: boolean;
  /** what the driver accepted so far; bits that were not offered are never among them */
  readonly accepted: FeatureSet;
  /** The queue in the format that was negotiated: ask at each entry. */
  queue(index: number): Virtqueue;
  /** Has `runQueue` called for a queue, as a notification would. */
  request(queue: number): void;
  /** Closes a batch of used buffers: sends the notification if the driver wants one. The entry must be open. */
  usedBuffers(queue: Virtqueue): void;
  /** The device configuration changed: notes it for `config_generation` and, with `notify`, tells the driver. */
  configChanged(notify: boolean): void;
  /** Latches an unrecoverable error: nothing is served until reset. §2.1.2 */
  fail(code: string, value: number): void;
  /** Turns a ring fault into a failed device; to be called after an entry that did not come through `runQueue`. */
  checkQueue(queue: Virtqueue): void;
}

/**
 * A device type: everything about it that is neither ring nor transport. One life: `connect`, then any number of rounds of
 * `featuresAccepted` (again and again until DRIVER_OK), `driverOk`, `runQueue` …, `reset`; at last `disconnect`.
 */
export interface VirtioDevice extends QueueRunner {
  /** for reports and listings */
  readonly name: string;
  /** virtio device id. §5 */
  readonly id: number;
  /** PCI class code, 24 bits */
  readonly classCode: number;
  /** offered bits of the device type; those of rings and transport come with `ringFeatures` and the personality */
  readonly features: FeatureSet;
  /** those of `features` that only legacy drivers may see */
  readonly legacyFeatures: FeatureSet;
  /** every queue there can be, by index */
  readonly queues: readonly QueueDeclaration[];
  /** How many of `queues` exist with these features accepted. */
  queueCount(accepted: FeatureSet): number;
  /** Where the control queue stands with these features accepted, if that depends on them; then no `control` counts. */
  controlQueue?(accepted: FeatureSet): number;
  /** bytes of device configuration */
  readonly configLength: number;
  /** names of its registers, for traces */
  readonly configRegisters?: RegisterMap;
  /** One byte of device configuration. @param offset 0 … configLength−1 */
  readConfig(offset: number): number;
  /** A driver writes one byte; what cannot be written ignores it. */
  writeConfig(offset: number, value: number): void;
  connect(bus: VirtioBus): void;
  disconnect(): void;
  featuresAccepted(accepted: FeatureSet): void;
  driverOk(): void;
  /** The driver reset one queue, which is disabled now. §2.6.1 */
  queueReset?(queue: number): void;
  /** The queue can be worked (`begin` was called); see the contract's QueueRunner. */
  runQueue(queue: number, budget: number): number;
  /** Back to the state after power-on; negotiated features are gone already. */
  reset(): void;
  save(): SavedState;
  /** Checks a saved state. @returns what applies it, called when `accepted` and the queues hold again; @throws StateError */
  loader(state: StateReader): () => void;
}

/** How a device shows itself on PCI. VIRTIO 1.3 §4.1.2 */
export type Personality = "legacy" | "transitional" | "modern";

/** Ring features that every device of ours offers. */
const RING_FEATURES = FeatureSet.of(VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX);
/** What only a legacy driver is shown: it has no meaning, or another one, with VERSION_1. §6.3 */
const LEGACY_FEATURES = FeatureSet.of(VIRTIO_F_NOTIFY_ON_EMPTY, VIRTIO_F_ANY_LAYOUT);

/** A doorbell that carried no more than a queue's index. */
export const NO_NOTIFICATION_DATA = -1;

const NEVER: Timer = { deadline: Number.POSITIVE_INFINITY, arm() {}, cancel() {}, [Symbol.dispose]() {} };
const NO_CLOCK: Clock = { now: () => 0, timer: () => NEVER };
const NO_WORK: Work = { bind() {}, request() {}, runNow() {}, clear() {} };
/** Stands in for the seams of a function that is not plugged. */
export const UNPLUGGED: FunctionSeams = {
  dma: new Door(),
  interrupts: { setIntx() {}, signal() {} },
  clock: NO_CLOCK,
  work: NO_WORK,
  report() {},
  strictness: "lenient",
};

/**
 * What all virtio devices have in common, whatever the transport: status, features, queues, interrupt status and the
 * generation of the configuration. Transports translate register accesses into calls on it. VIRTIO 1.3 §2, §3
 */
export class VirtioCore implements VirtioBus, QueueRunner {
  // fixed configuration
  readonly device: VirtioDevice;
  readonly #split: readonly SplitQueue[];
  readonly #packed: readonly PackedQueue[]; // none where RING_PACKED is not offered
  readonly #legacyOffer: FeatureSet;
  readonly #modernOffer: FeatureSet;
  readonly #offered: FeatureSet; // by either interface
  readonly #version1Needed: boolean;
  readonly #configIsr: number; // what a change of the configuration sets in ISR status

  // wiring
  seams: FunctionSeams = UNPLUGGED;
  /** set by a PCI transport: whether messages are sent instead of INTx */
  msix: { readonly enabled: boolean; forget(): void } | null = null;

  // volatile state
  /** in the format that was negotiated */
  queues: readonly Virtqueue[];
  accepted: FeatureSet = FeatureSet.NONE;
  queueSelect = 0;
  /** feature selects of the modern interface */
  deviceFeatureSelect = 0;
  driverFeatureSelect = 0;
  configVector = VIRTIO_MSI_NO_VECTOR;
  #status = 0;
  #unoffered: FeatureSet = FeatureSet.NONE; // bits the driver wrote that were not offered
  #unofferedBeyond = false; // the same for bits 64 and up
  #failed = false;
  #isr = 0;
  #generation = 0;
  #configDirty = false;
  #configSeen = false; // a driver has read something of the device configuration, ever
  readonly #control: Uint8Array; // per queue: 1 is a control queue, with the features as they are
  readonly #running: Uint8Array; // per queue: inside runQueue
  readonly #again: Uint8Array; // per queue: asked for from inside; means nothing while it is not running

  // counters since power-on
  doorbells = 0;
  /** INTx rises and messages */
  interrupts = 0;

  /**
   * @param options features of ring and transport to offer besides those of `RING_FEATURES`; only modern drivers see them
   * @param withheld features that are not offered, whoever would; @param configIsr bits of ISR status for a changed configuration
   */
  constructor(
    device: VirtioDevice,
    personality: Personality,
    options: FeatureSet = FeatureSet.NONE,
    withheld: FeatureSet = FeatureSet.NONE,
    configIsr: number = VIRTIO_PCI_ISR_CONFIG,
  ) {
    this.device = device;
    this.#configIsr = configIsr;
    this.#split = device.queues.map(({ size }, index) => new SplitQueue(index, size));
    const packed = options.has(VIRTIO_F_RING_PACKED);
    this.#packed = packed ? device.queues.map(({ size }, index) => new PackedQueue(index, size)) : [];
    this.queues = this.#split;
    this.#control = new Uint8Array(device.queues.length);
    const offer = device.features.or(RING_FEATURES).without(withheld);
    this.#legacyOffer = personality === "modern" ? FeatureSet.NONE : offer.or(LEGACY_FEATURES.without(withheld));
    this.#modernOffer =
      personality === "legacy"
        ? FeatureSet.NONE
        : offer.without(device.legacyFeatures).or(FeatureSet.of(VIRTIO_F_VERSION_1)).or(options);
    this.#offered = this.#legacyOffer.or(this.#modernOffer);
    this.#version1Needed = personality === "modern";
    this.#running = new Uint8Array(device.queues.length);
    this.#again = new Uint8Array(device.queues.length);
    this.#findControl();
  }

  /** Chains may have more than 2³²−1 bytes. */
  takeHugeChains(): void {
    for (const queue of [...this.#split, ...this.#packed]) queue.maxBytes = Number.MAX_SAFE_INTEGER;
  }

  connect(seams: FunctionSeams): void {
    this.seams = seams;
    for (const queue of [...this.#split, ...this.#packed]) queue.connect(seams.dma);
    seams.work.bind(this);
    this.device.connect(this);
  }

  disconnect(): void {
    this.device.disconnect();
    for (const queue of [...this.#split, ...this.#packed]) queue.connect(null);
    this.seams = UNPLUGGED;
  }

  // ---------------------------------------------------------------------------------------------- for transports: status

  get status(): number {
    return this.#status;
  }

  /** Any combination of bits is taken; 0 resets. §2.1.1 */
  writeStatus(value: number): void {
    if (value === 0) {
      this.reset();
      return;
    }
    const old = this.#status;
    if ((old & ~value & ~VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) this.seams.report("status-bits-cleared", value);
    // Only the device sets NEEDS_RESET, and only a reset clears it.
    let next = (value & ~VIRTIO_CONFIG_S_NEEDS_RESET) | (old & VIRTIO_CONFIG_S_NEEDS_RESET);
    if ((next & ~old & VIRTIO_CONFIG_S_FEATURES_OK) !== 0 && !this.#featuresFit()) {
      next &= ~VIRTIO_CONFIG_S_FEATURES_OK;
      this.seams.report("features-refused", this.#unoffered.lo);
    }
    this.#status = next;
    if ((next & ~old & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return;
    if (this.accepted.has(VIRTIO_F_VERSION_1) && (next & VIRTIO_CONFIG_S_FEATURES_OK) === 0)
      this.seams.report("driver-ok-without-features-ok", next);
    if (this.running) this.#start();
  }

  reset(): void {
    this.#status = 0;
    this.#failed = false;
    this.accepted = FeatureSet.NONE;
    this.#unoffered = FeatureSet.NONE;
    this.#unofferedBeyond = false;
    this.queueSelect = 0;
    this.deviceFeatureSelect = 0;
    this.driverFeatureSelect = 0;
    this.configVector = VIRTIO_MSI_NO_VECTOR;
    for (const queue of this.queues) queue.reset();
    this.#applyRingFeatures();
    this.seams.work.clear();
    if (this.#isr !== 0) {
      this.#isr = 0;
      this.seams.interrupts.setIntx(false);
    }
    this.msix?.forget();
    this.#configDirty ||= this.#configSeen; // what nobody has read cannot have changed for anybody
    this.device.reset();
  }

  get running(): boolean {
    const s = this.#status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED);
    return s === VIRTIO_CONFIG_S_DRIVER_OK && !this.#failed;
  }

  // ---------------------------------------------------------------------------------------------- for transports: features

  /** Offered bits as a modern driver sees them. §4.1.4.3.1 */
  modernOffer(select: number): number {
    return this.#modernOffer.word(select);
  }

  /** Bits 31–0 as a legacy driver sees them. */
  get legacyOffer(): number {
    return this.#legacyOffer.lo;
  }

  /** A modern driver accepts 32 features; final once FEATURES_OK is set. */
  writeFeatures(select: number, value: number): void {
    if ((this.#status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)) !== 0) return;
    const offered = this.#modernOffer.word(select);
    if (select > 1) this.#unofferedBeyond = value !== 0;
    this.#unoffered = this.#unoffered.withWord(select, value & ~offered);
    this.#accept(this.accepted.withWord(select, value & offered));
  }

  /** A legacy driver accepts features; it may do so again until DRIVER_OK. §2.2 */
  writeLegacyFeatures(value: number): void {
    if ((this.#status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) return;
    this.#unoffered = FeatureSet.NONE;
    this.#accept(new FeatureSet(value & this.#legacyOffer.lo, 0));
  }

  // ---------------------------------------------------------------------------------------------- for transports: queues

  /** Queues that exist with the features as they are. */
  get queueCount(): number {
    return this.device.queueCount(this.accepted);
  }

  /** The queue a select register names; null when there is none. */
  get selected(): Virtqueue | null {
    return this.queueSelect < this.queueCount ? (this.queues[this.queueSelect] ?? null) : null;
  }

  queue(index: number): Virtqueue {
    const queue = this.queues[index];
    if (queue === undefined) throw new RangeError(`no queue ${index}`); // a device type's own mistake
    return queue;
  }

  /** A driver started a queue: notes what is wrong with it. */
  queueEnabled(queue: Virtqueue): void {
    if (queue.broken !== null) this.seams.report(queue.broken, queue.brokenValue);
  }

  /** A driver that accepted RING_RESET resets one queue; that is done when this returns. §2.6.1 */
  resetQueue(queue: Virtqueue): void {
    if (!this.accepted.has(VIRTIO_F_RING_RESET)) this.seams.report("queue-reset-not-negotiated", queue.index);
    else if (queue.enabled) {
      queue.reset();
      this.device.queueReset?.(queue.index);
    }
  }

  /**
   * A doorbell; indices without a queue, disabled queues and spurious ones are ignored. §2.9
   * @param data the 32 bits that were written, NO_NOTIFICATION_DATA for fewer: index, and where the driver will go on
   */
  notify(index: number, data = NO_NOTIFICATION_DATA): void {
    this.doorbells++;
    const queue = index < this.queueCount ? this.queues[index] : undefined;
    if (queue?.enabled !== true) {
      this.seams.report("notify-no-queue", index);
      return;
    }
    // The ring itself says all of it, too: data that disagree are the driver's mistake, and change nothing.
    if (this.accepted.has(VIRTIO_F_NOTIFICATION_DATA) && (data & 0xffff) !== index)
      this.seams.report("notify-data-index", data & 0xffff);
    else if (this.accepted.has(VIRTIO_F_NOTIFICATION_DATA) && !queue.canGoOnAt(data >>> 16))
      this.seams.report("notify-data-offset", data >>> 16);
    if (this.#control[index] === 1) {
      this.seams.work.runNow(index);
      return;
    }
    if (!this.running) {
      // The ring remembers until DRIVER_OK. Legacy drivers may do so; others must not. §3.1.1
      if (this.accepted.has(VIRTIO_F_VERSION_1) && (this.#status & VIRTIO_CONFIG_S_DRIVER_OK) === 0)
        this.seams.report("notify-before-driver-ok", index);
      return;
    }
    if (queue.begin()) queue.suppress(); // until it was drained, further notifications are wasted
    this.seams.work.request(index);
  }

  // ---------------------------------------------------------------------------------------------- for transports: the rest

  /** Interrupt status; reading clears it and takes INTx back. §4.1.4.5 */
  readIsr(): number {
    const isr = this.#isr;
    if (isr !== 0) {
      this.#isr = 0;
      this.seams.interrupts.setIntx(false);
    }
    return isr;
  }

  /**
   * What a driver reads. Counting when it looks, not when something changes: no number of changes wraps unnoticed, and one
   * before the first look makes nobody read twice. §4.1.4.3.1
   */
  lookAtGeneration(): number {
    if (this.#configDirty) {
      this.#configDirty = false;
      this.#generation = (this.#generation + 1) & 0xff;
    }
    return this.#generation;
  }

  /** One byte of device configuration, 0xFF beyond its end. */
  readConfig(offset: number): number {
    if (offset >= this.device.configLength) return 0xff;
    this.#configSeen = true;
    return this.device.readConfig(offset);
  }

  writeConfig(offset: number, value: number): void {
    if (offset < this.device.configLength) this.device.writeConfig(offset, value);
  }

  // ---------------------------------------------------------------------------------------------- for the device type

  request(queue: number): void {
    if (this.running) this.seams.work.request(queue);
  }

  usedBuffers(queue: Virtqueue): void {
    if (queue.wantsInterrupt()) this.#raise(VIRTIO_PCI_ISR_QUEUE, queue.vector);
  }

  configChanged(notify: boolean): void {
    this.#configDirty = true;
    if (notify && this.running) this.#raise(this.#configIsr, this.configVector);
  }

  fail(code: string, value: number): void {
    if (this.#failed) return;
    this.seams.report(code, value);
    const running = this.running;
    this.#failed = true;
    if (!this.accepted.has(VIRTIO_F_VERSION_1)) return; // a legacy driver knows no such bit: freeze until reset
    this.#status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    if (running) this.#raise(VIRTIO_PCI_ISR_CONFIG, this.configVector);
  }

  // ---------------------------------------------------------------------------------------------- for Work

  runQueue(index: number, budget: number): number {
    const queue = this.queues[index];
    if (queue === undefined) return 0;
    if (this.#running[index] === 1) {
      // A back end called back from inside the run: the loop below goes round once more instead of recursing.
      this.#again[index] = 1;
      return 0;
    }
    this.#running[index] = 1;
    let used = 0;
    try {
      do {
        this.#again[index] = 0;
        if (this.#failed || !(this.running || this.#control[index] === 1) || !queue.begin()) break;
        used += this.device.runQueue(index, budget - used);
      } while (this.#again[index] === 1 && used < budget);
    } finally {
      this.#running[index] = 0;
    }
    this.checkQueue(queue);
    this.seams.dma.flush();
    return used;
  }

  checkQueue(queue: Virtqueue): void {
    if (queue.broken !== null && queue.enabled) this.fail(queue.broken, queue.brokenValue);
  }

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      version: 1,
      offered: [this.#offered.lo, this.#offered.hi],
      sizes: this.queues.map(({ maxSize }) => maxSize),
      status: this.#status,
      accepted: [this.accepted.lo, this.accepted.hi],
      unoffered: [this.#unoffered.lo, this.#unoffered.hi],
      unofferedBeyond: this.#unofferedBeyond,
      queueSelect: this.queueSelect,
      deviceFeatureSelect: this.deviceFeatureSelect,
      driverFeatureSelect: this.driverFeatureSelect,
      configVector: this.configVector,
      failed: this.#failed,
      isr: this.#isr,
      generation: this.#generation,
      configDirty: this.#configDirty,
      configSeen: this.#configSeen,
      doorbells: this.doorbells,
      interrupts: this.interrupts,
      queues: this.queues.map((queue) => queue.save()),
      device: this.device.save(),
    };
  }

  /** Checks a saved state. @returns what applies it; @throws StateError */
  loader(raw: unknown, path: string): () => void {
    const state = new StateReader(raw, path, 1);
    const status = state.integer("status", 0, 0xff);
    const [acceptedLo, acceptedHi] = state.integers("accepted", 0, 0xffff_ffff, 2);
    const [unofferedLo, unofferedHi] = state.integers("unoffered", 0, 0xffff_ffff, 2);
    const unofferedBeyond = state.boolean("unofferedBeyond");
    const queueSelect = state.integer("queueSelect", 0, 0xffff);
    const deviceFeatureSelect = state.integer("deviceFeatureSelect", 0, 0xffff_ffff);
    const driverFeatureSelect = state.integer("driverFeatureSelect", 0, 0xffff_ffff);
    const configVector = state.integer("configVector", 0, 0xffff);
    const failed = state.boolean("failed");
    const isr = state.integer("isr", 0, VIRTIO_PCI_ISR_QUEUE | VIRTIO_PCI_ISR_CONFIG);
    const generation = state.integer("generation", 0, 0xff);
    const configDirty = state.boolean("configDirty");
    const configSeen = state.boolean("configSeen");
    const doorbells = state.integer("doorbells");
    const interrupts = state.integer("interrupts");
    const [offeredLo, offeredHi] = state.integers("offered", 0, 0xffff_ffff, 2);
    if (offeredLo !== this.#offered.lo || offeredHi !== this.#offered.hi)
      throw new StateError(`${path}.offered`, "a device that offers other features");
    for (const [i, size] of state.integers("sizes", 1, 0xffff, this.queues.length).entries())
      if (size !== this.queue(i).maxSize)
        throw new StateError(`${path}.sizes[${i}]`, `${size}, expected ${this.queue(i).maxSize}`);
    const accepted = new FeatureSet(acceptedLo ?? 0, acceptedHi ?? 0);
    if (!accepted.without(this.#offered).isEmpty)
      throw new StateError(`${path}.accepted`, "features that this device does not offer");
    const queues = this.#format(accepted);
    const applyQueues = state.objects("queues", queues.length).map((s, i) => queues[i]!.loader(s));
    const applyDevice = this.device.loader(state.object("device"));
    return () => {
      this.#status = status;
      this.accepted = accepted;
      this.#unoffered = new FeatureSet(unofferedLo ?? 0, unofferedHi ?? 0);
      this.#unofferedBeyond = unofferedBeyond;
      this.queueSelect = queueSelect;
      this.deviceFeatureSelect = deviceFeatureSelect;
      this.driverFeatureSelect = driverFeatureSelect;
      this.configVector = configVector;
      this.#failed = failed;
      this.#isr = isr;
      this.#generation = generation;
      this.#configDirty = configDirty;
      this.#configSeen = configSeen;
      this.doorbells = doorbells;
      this.interrupts = interrupts;
      this.queues = queues;
      for (const apply of applyQueues) apply();
      this.#applyRingFeatures();
      applyDevice();
    };
  }

  #featuresFit(): boolean {
    if (!this.#unoffered.isEmpty || this.#unofferedBeyond) return false;
    return !this.#version1Needed || this.accepted.has(VIRTIO_F_VERSION_1);
  }

  #accept(features: FeatureSet): void {
    this.accepted = features;
    this.#applyRingFeatures();
    this.device.featuresAccepted(features);
  }

  #format(accepted: FeatureSet): readonly Virtqueue[] {
    return this.#packed.length > 0 && accepted.has(VIRTIO_F_RING_PACKED) ? this.#packed : this.#split;
  }

  #findControl(): void {
    const { device } = this;
    const place = device.controlQueue?.(this.accepted);
    for (const [i, { control }] of device.queues.entries())
      this.#control[i] = (place === undefined ? control === true : place === i) ? 1 : 0;
  }

  #applyRingFeatures(): void {
    this.#findControl();
    const features: RingFeatures = {
      eventIdx: this.accepted.has(VIRTIO_F_EVENT_IDX),
      indirect: this.accepted.has(VIRTIO_F_INDIRECT_DESC),
      notifyOnEmpty: this.accepted.has(VIRTIO_F_NOTIFY_ON_EMPTY),
      inOrder: this.accepted.has(VIRTIO_F_IN_ORDER),
    };
    const before = this.queues;
    this.queues = this.#format(this.accepted);
    for (const [i, queue] of this.queues.entries()) {
      queue.setFeatures(features);
      if (before !== this.queues) queue.adopt(before[i]!);
    }
  }

  /** DRIVER_OK: what was made available earlier is served now; modern drivers may not notify again. §3.1.1 */
  #start(): void {
    this.device.driverOk();
    for (const queue of this.queues) {
      if (!queue.enabled || queue.index >= this.queueCount) continue;
      if (this.#control[queue.index] === 1) this.seams.work.runNow(queue.index);
      else this.seams.work.request(queue.index);
    }
  }

  /** Bits of the ISR are kept with MSI-X, too: crash dumps of old Windows drivers poll them. */
  #raise(bit: number, vector: number): void {
    const before = this.#isr;
    this.#isr |= bit;
    if (this.msix?.enabled === true) {
      if (vector !== VIRTIO_MSI_NO_VECTOR) {
        this.interrupts++;
        this.seams.interrupts.signal(vector);
      }
    } else if (before === 0) this.interrupts++;
    if (before === 0) this.seams.interrupts.setIntx(true);
  }
}
