import { Door, StateError, type StateReader } from "../bytes/index.js";
import type { DmaDoor, SavedState } from "../contract/index.js";
import { VIRTIO_MSI_NO_VECTOR } from "../spec/virtio.js";
import { CHAIN_MAX_BYTES, type DescriptorChain, RING_FAULTS, type RingFault } from "./descriptor-chain.js";

/** Stands in for a door before the queue is connected: nothing gets through. */
const NO_DOOR: DmaDoor = new Door();

/** The areas of a queue as its registers hold them; each a word pair, so that halves may come in any order. */
export type QueueArea = "desc" | "driver" | "device";

/** What the driver accepted, as far as rings are concerned. */
export interface RingFeatures {
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  readonly notifyOnEmpty: boolean;
  readonly inOrder: boolean;
}

/**
 * The device's side of a virtqueue, whatever its format: registers, and what a device type does with a ring.
 *
 * An entry (one run, one offered frame) begins with `begin`, which locates the ring once. Then: `take` chains, `untake`
 * those that cannot be served now, `push` used ones, `publish` once, `rearm`, and ask `wantsInterrupt` once per batch.
 * A malformed ring latches `broken`; the queue then looks empty until reset. VIRTIO 1.3 §2.6 … §2.8
 */
export abstract class Virtqueue {
  readonly index: number;
  /** descriptors; what `size` is after reset */
  readonly maxSize: number;
  /** bytes of the longest chain that is taken */
  maxBytes = CHAIN_MAX_BYTES;

  // wiring
  protected dma: DmaDoor = NO_DOOR;
  protected eventIdx = false;
  protected indirect = false;
  protected notifyOnEmpty = false;
  protected inOrder = false;

  // the driver's registers
  /** descriptors */
  size: number;
  /** MSI-X vector of used buffer notifications */
  vector = VIRTIO_MSI_NO_VECTOR;
  enabled = false;
  /** desc lo, hi, driver lo, hi, device lo, hi */
  protected readonly areas = new Uint32Array(6);

  /** Something was published since `wantsInterrupt` was last asked: a batch is open. */
  unsignalled = false;
  /** Why the queue is out of use until reset; null while it is fine. */
  broken: RingFault | null = null;
  /** the offending number that goes with `broken` */
  brokenValue = 0;

  // derived
  protected generation = -1; // the door's, for which the areas were located

  constructor(index: number, maxSize: number) {
    this.index = index;
    this.maxSize = maxSize;
    this.size = maxSize;
  }

  /** Wires the queue to guest memory; null lets go of it. */
  connect(dma: DmaDoor | null): void {
    this.dma = dma ?? NO_DOOR;
    this.generation = -1;
    this.releaseAreas();
  }

  setFeatures({ eventIdx, indirect, notifyOnEmpty, inOrder }: RingFeatures): void {
    this.eventIdx = eventIdx;
    this.indirect = indirect;
    this.notifyOnEmpty = notifyOnEmpty;
    this.inOrder = inOrder;
    this.generation = -1; // the rings of a split queue end before the event words when those are not in use
  }

  // ---------------------------------------------------------------------------------------------- registers

  /** Half of an area's address. @param half 0: bits 31–0, 1: bits 63–32 */
  areaWord(area: QueueArea, half: 0 | 1): number {
    return this.areas[wordOf(area) + half]!;
  }

  /** Ignored while the queue is enabled: what was checked must not change (CVE-2026-5747). */
  setAreaWord(area: QueueArea, half: 0 | 1, value: number): void {
    if (!this.enabled) this.areas[wordOf(area) + half] = value;
  }

  /** Ignored for what the format does not permit or is above the maximum, and while the queue is enabled. §4.1.4.3.2 */
  setSize(size: number): void {
    if (!this.enabled && this.permits(size)) this.size = size;
  }

  /** Page frame number of a queue in the legacy layout; 0 while it is not in use. */
  abstract get pfn(): number;
  /** Puts the queue in the legacy layout at a page and enables it; 0 disables it. §2.7.2, §4.1.5.1.3.1 */
  abstract setPfn(pfn: number): void;

  /** Starts the queue with the registers as they are now; a bad address makes it `broken`, not an exception. §4.1.4.3 */
  enable(): void {
    if (this.enabled) return;
    this.enabled = true;
    if (this.misaligned) this.fail("ring-misaligned", this.index);
    else if (this.dma.open) this.locate(); // while the door is shut, the first use will tell
  }

  /** Stops the queue and forgets ring state and addresses; size and vector stay. */
  disable(): void {
    this.enabled = false;
    this.areas.fill(0);
    this.unsignalled = false;
    this.broken = null;
    this.brokenValue = 0;
    this.generation = -1;
    this.clearRing();
  }

  reset(): void {
    this.disable();
    this.size = this.maxSize;
    this.vector = VIRTIO_MSI_NO_VECTOR;
  }

  /** Takes over the registers of the same queue in another format: a driver may set queues up before features are final. */
  adopt(other: Virtqueue): void {
    this.reset();
    this.vector = other.vector;
    if (this.permits(other.size)) this.size = other.size;
    this.areas.set(other.areas);
    if (other.enabled) this.enable();
  }

  // ---------------------------------------------------------------------------------------------- an entry

  /**
   * Opens an entry: whether the queue can be worked now. Locates the ring when memory changed since the last entry.
   * False with the door shut leaves everything as it is; false with `broken` is for good.
   */
  begin(): boolean {
    const { dma } = this;
    if (!this.enabled || this.broken !== null || !dma.open) return false;
    return this.generation === dma.generation || this.locate();
  }

  /** Loads the next available chain into `chain`, behind what it holds. @returns false: there is none, or `broken` */
  abstract take(chain: DescriptorChain): boolean;

  /** Gives back the last `chains` taken in this entry, of which none was pushed, as if they had never been. */
  abstract untake(chains: number): void;

  /**
   * Writes a used entry; the driver sees it after `publish`.
   * @param handle of the chain, from its `heads`; @param len bytes written for certain, from the first on
   */
  abstract push(handle: number, len: number): void;

  /** Shows the driver everything pushed, all at once: entries first, then what makes them visible. §2.7.8.2, §2.8.9 */
  abstract publish(): void;

  /** Asks the driver not to notify; in a split ring with EVENT_IDX the event that was passed does that by itself. §2.7.10, §2.8.10 */
  abstract suppress(): void;

  /**
   * Asks the driver to notify of the next chain it makes available, then looks once more.
   * @param left chains that were just taken back and stay in the ring, since they are too few
   * @returns whether something became available meanwhile, for which there will be no notification
   */
  abstract rearm(left?: number): boolean;

  /**
   * Whether a driver may go on there when it next makes something available.
   * @param next the upper 16 bits of notification data: an index, or a slot and its wrap counter. §2.9
   */
  abstract canGoOnAt(next: number): boolean;

  /** Closes a batch: whether the driver wants a used buffer notification for what was published in it. §2.7.7, §2.8.10 */
  abstract wantsInterrupt(): boolean;

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      size: this.size,
      vector: this.vector,
      enabled: this.enabled,
      areas: [...this.areas],
      unsignalled: this.unsignalled,
      broken: this.broken ?? "",
      brokenValue: this.brokenValue,
      ...this.saveRing(),
    };
  }

  /** Checks a saved queue. @returns what applies it; @throws StateError */
  loader(state: StateReader): () => void {
    const size = state.integer("size", 1, this.maxSize);
    if (!this.permits(size)) throw new StateError(`${state.path}.size`, `${size} descriptors`);
    const vector = state.integer("vector", 0, 0xffff);
    const enabled = state.boolean("enabled");
    const areas = state.integers("areas", 0, 0xffff_ffff, 6);
    const unsignalled = state.boolean("unsignalled");
    const broken = state.string("broken");
    const brokenValue = state.integer("brokenValue");
    const fault = RING_FAULTS.find((f) => f === broken) ?? null;
    if (fault === null && broken !== "") throw new StateError(`${state.path}.broken`, `${broken} is no ring fault`);
    const applyRing = this.ringLoader(state, size);
    return () => {
      this.size = size;
      this.vector = vector;
      this.enabled = enabled;
      this.areas.set(areas);
      this.unsignalled = unsignalled;
      this.broken = fault;
      this.brokenValue = brokenValue;
      this.generation = -1;
      applyRing();
    };
  }

  // ---------------------------------------------------------------------------------------------- for the formats

  /** Whether a driver may choose this number of descriptors. */
  protected abstract permits(size: number): boolean;
  protected abstract get misaligned(): boolean;
  /** Locates the ring and notes the door's generation; breaks the queue when it is not in memory. */
  protected abstract locate(): boolean;
  protected abstract releaseAreas(): void;
  protected abstract clearRing(): void;
  protected abstract saveRing(): SavedState;
  /** @param size descriptors of the saved queue */
  protected abstract ringLoader(state: StateReader, size: number): () => void;

  protected areaAddress(area: QueueArea): number {
    const word = wordOf(area);
    return this.areas[word]! + this.areas[word + 1]! * 0x1_0000_0000;
  }

  protected setAreaAddress(area: QueueArea, address: number): void {
    const word = wordOf(area);
    this.areas[word] = address % 0x1_0000_0000;
    this.areas[word + 1] = Math.floor(address / 0x1_0000_0000);
  }

  protected fail(fault: RingFault, value: number): boolean {
    this.broken = fault;
    this.brokenValue = Number.isSafeInteger(value) ? value : Number.MAX_SAFE_INTEGER;
    return false;
  }
}

const wordOf = (area: QueueArea): number => (area === "desc" ? 0 : area === "driver" ? 2 : 4);
