import { Door, StateError, type StateReader } from "../bytes/index.js";
import type { DmaDoor, SavedState } from "../contract/index.js";
import {
  legacyUsedOffset,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_QUEUE_ADDR_SHIFT,
  VIRTQ_AVAIL_ALIGN,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_ALIGN,
  VIRTQ_USED_ALIGN,
  VIRTQ_USED_ELEM_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_FLAGS,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
  virtqAvailBytes,
  virtqDescBytes,
  virtqNeedEvent,
  virtqUsedBytes,
} from "../spec/virtio.js";
import { type DescriptorChain, RingArea, type RingFault } from "./descriptor-chain.js";

const RING_FAULTS: readonly RingFault[] = [
  "ring-misaligned",
  "ring-outside-memory",
  "avail-idx-jump",
  "head-out-of-range",
  "next-out-of-range",
  "chain-too-long",
  "chain-too-large",
  "readable-after-writable",
  "buffer-outside-memory",
  "indirect-not-negotiated",
  "indirect-with-next",
  "indirect-nested",
  "indirect-length",
  "indirect-outside-memory",
];

/** Stands in for a door before the queue is connected: nothing gets through. */
const NO_DOOR: DmaDoor = new Door();

/** The areas of a queue as its registers hold them; each a word pair, so that halves may come in any order. */
export type QueueArea = "desc" | "driver" | "device";

/**
 * The device's side of a split virtqueue. VIRTIO 1.3 §2.7
 *
 * An entry (one run, one offered frame) begins with `begin`, which locates the ring once. Then: `take` chains, `untake`
 * those that cannot be served now, `push` used ones, `publish` once, `rearm`, and ask `wantsInterrupt` once per batch.
 * A malformed ring latches `broken`; the queue then looks empty until reset.
 */
export class SplitQueue {
  readonly index: number;
  /** descriptors; what `size` is after reset */
  readonly maxSize: number;

  // wiring
  #dma: DmaDoor = NO_DOOR;
  #eventIdx = false;
  #indirect = false;
  #notifyOnEmpty = false;

  // the driver's registers
  /** descriptors; a power of two */
  size: number;
  /** MSI-X vector of used buffer notifications */
  vector = VIRTIO_MSI_NO_VECTOR;
  enabled = false;
  /** desc lo, hi, driver lo, hi, device lo, hi */
  readonly #areas = new Uint32Array(6);

  // ring state, all modulo 65536
  #lastAvail = 0;
  #usedIdx = 0; // entries pushed; what guest memory says is #published
  #published = 0;
  #signalled = 0; // #usedIdx when suppression was last evaluated
  #signalledValid = false;
  #unsignalled = false; // something was pushed since then
  #suppressed = false; // NO_NOTIFY stands in used.flags
  #broken: RingFault | null = null;
  #brokenValue = 0;

  // derived
  #generation = -1; // the door's, for which the areas were located
  readonly #desc = new RingArea();
  readonly #avail = new RingArea();
  readonly #used = new RingArea();

  constructor(index: number, maxSize: number) {
    this.index = index;
    this.maxSize = maxSize;
    this.size = maxSize;
  }

  /** Why the queue is out of use until reset; null while it is fine. */
  get broken(): RingFault | null {
    return this.#broken;
  }

  /** the offending number that goes with `broken` */
  get brokenValue(): number {
    return this.#brokenValue;
  }

  /** Wires the queue to guest memory; null lets go of it. */
  connect(dma: DmaDoor | null): void {
    this.#dma = dma ?? NO_DOOR;
    this.#generation = -1;
    for (const area of [this.#desc, this.#avail, this.#used]) area.release();
  }

  /** What the driver accepted, as far as rings are concerned. */
  setFeatures(eventIdx: boolean, indirect: boolean, notifyOnEmpty: boolean): void {
    this.#eventIdx = eventIdx;
    this.#indirect = indirect;
    this.#notifyOnEmpty = notifyOnEmpty;
    this.#generation = -1; // the rings end before the event words when those are not in use
  }

  // ---------------------------------------------------------------------------------------------- registers

  /** Half of an area's address. @param half 0: bits 31–0, 1: bits 63–32 */
  areaWord(area: QueueArea, half: 0 | 1): number {
    return this.#areas[wordOf(area) + half]!;
  }

  /** Ignored while the queue is enabled: what was checked must not change (CVE-2026-5747). */
  setAreaWord(area: QueueArea, half: 0 | 1, value: number): void {
    if (!this.enabled) this.#areas[wordOf(area) + half] = value;
  }

  /** Ignored for what is no power of two up to the maximum, and while the queue is enabled. §4.1.4.3.2 */
  setSize(size: number): void {
    if (this.enabled || size === 0 || size > this.maxSize || (size & (size - 1)) !== 0) return;
    this.size = size;
  }

  /** Page frame number of a queue in the legacy layout; 0 while it is not in use. */
  get pfn(): number {
    return this.enabled ? Math.floor(this.#address(0) / 2 ** VIRTIO_PCI_QUEUE_ADDR_SHIFT) >>> 0 : 0;
  }

  /** Puts the queue in the legacy layout at a page and enables it; 0 disables it. §2.7.2, §4.1.5.1.3.1 */
  setPfn(pfn: number): void {
    this.disable();
    if (pfn === 0) return;
    const desc = pfn * 2 ** VIRTIO_PCI_QUEUE_ADDR_SHIFT;
    this.#setAddress(0, desc);
    this.#setAddress(2, desc + virtqDescBytes(this.size));
    this.#setAddress(4, desc + legacyUsedOffset(this.size));
    this.enable();
  }

  /** Starts the queue with the registers as they are now; a bad address makes it `broken`, not an exception. §4.1.4.3 */
  enable(): void {
    if (this.enabled) return;
    this.enabled = true;
    const misaligned =
      this.#areas[0]! % VIRTQ_DESC_ALIGN !== 0 ||
      this.#areas[2]! % VIRTQ_AVAIL_ALIGN !== 0 ||
      this.#areas[4]! % VIRTQ_USED_ALIGN !== 0;
    if (misaligned) this.#break("ring-misaligned", this.index);
    else if (this.#dma.open) this.#locate(); // while the door is shut, the first use will tell
  }

  /** Stops the queue and forgets ring state and addresses; size and vector stay. */
  disable(): void {
    this.enabled = false;
    this.#areas.fill(0);
    this.#lastAvail = this.#usedIdx = this.#published = this.#signalled = 0;
    this.#signalledValid = this.#unsignalled = this.#suppressed = false;
    this.#broken = null;
    this.#brokenValue = 0;
    this.#generation = -1;
  }

  reset(): void {
    this.disable();
    this.size = this.maxSize;
    this.vector = VIRTIO_MSI_NO_VECTOR;
  }

  // ---------------------------------------------------------------------------------------------- an entry

  /**
   * Opens an entry: whether the queue can be worked now. Locates the ring when memory changed since the last entry.
   * False with the door shut leaves everything as it is; false with `broken` is for good.
   */
  begin(): boolean {
    const dma = this.#dma;
    if (!this.enabled || this.#broken !== null || !dma.open) return false;
    return this.#generation === dma.generation || this.#locate();
  }

  /** Chains the driver made available and that were not taken; more than `size` is a fault that `take` will find. */
  get pending(): number {
    return (this.#avail.get16(VIRTQ_AVAIL_IDX) - this.#lastAvail) & 0xffff;
  }

  /** Loads the next available chain into `chain`, behind what it holds. @returns false: there is none, or `broken` */
  take(chain: DescriptorChain): boolean {
    if (!this.enabled) return false; // a back end had the device reset in the middle of the entry
    const idx = this.#avail.get16(VIRTQ_AVAIL_IDX);
    if (idx === this.#lastAvail) return false;
    // Counted from the used index: what was taken and not given back belongs to the ring's `size` chains, too.
    if (((idx - this.#usedIdx) & 0xffff) > this.size) return this.#break("avail-idx-jump", idx);
    const slot = this.#lastAvail & (this.size - 1);
    const head = this.#avail.get16(VIRTQ_AVAIL_RING + 2 * slot);
    if (head >= this.size) return this.#break("head-out-of-range", head);
    if (!chain.load(this.#dma, this.#desc, this.size, head, this.#indirect))
      return this.#break(chain.fault ?? "chain-too-long", chain.faultValue);
    this.#lastAvail = (this.#lastAvail + 1) & 0xffff;
    return true;
  }

  /** Gives back the last `chains` taken, as if they had never been. */
  untake(chains: number): void {
    if (!this.enabled) return;
    this.#lastAvail = (this.#lastAvail - chains) & 0xffff;
  }

  /** Writes a used entry; the driver sees it after `publish`. @param len bytes written for certain, from the first on */
  push(head: number, len: number): void {
    if (!this.enabled) return;
    const at = VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * (this.#usedIdx & (this.size - 1));
    this.#used.set32(at, head);
    this.#used.set32(at + 4, len);
    this.#usedIdx = (this.#usedIdx + 1) & 0xffff;
  }

  /** Moves the used index over everything pushed: entries first, then the index. §2.7.8.2 */
  publish(): void {
    const pushed = (this.#usedIdx - this.#published) & 0xffff;
    if (pushed === 0) return;
    this.#used.set16(VIRTQ_USED_IDX, this.#usedIdx);
    const dma = this.#dma;
    const slot = this.#published & (this.size - 1);
    const { address } = this.#used;
    dma.wrote(address, VIRTQ_USED_RING);
    if (slot + pushed <= this.size)
      dma.wrote(address + VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * slot, VIRTQ_USED_ELEM_SIZE * pushed);
    else dma.wrote(address + VIRTQ_USED_RING, VIRTQ_USED_ELEM_SIZE * this.size);
    this.#published = this.#usedIdx;
    this.#unsignalled = true;
  }

  /** Asks the driver not to notify; with EVENT_IDX the old `avail_event` does that by itself. §2.7.10 */
  suppress(): void {
    if (this.#eventIdx || this.#suppressed) return;
    this.#suppressed = true;
    this.#setUsedFlags(VIRTQ_USED_F_NO_NOTIFY);
  }

  /**
   * Asks the driver to notify of the next chain it makes available, then looks once more.
   * @param left chains that were seen and left in the ring, since they are too few
   * @returns whether something became available meanwhile, for which there will be no notification
   */
  rearm(left = 0): boolean {
    if (!this.enabled) return false;
    const seen = (this.#lastAvail + left) & 0xffff;
    if (this.#eventIdx) {
      const at = VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * this.size; // avail_event
      this.#used.set16(at, seen);
      this.#dma.wrote(this.#used.address + at, 2);
    } else if (this.#suppressed) {
      this.#suppressed = false;
      this.#setUsedFlags(0);
    }
    return this.#avail.get16(VIRTQ_AVAIL_IDX) !== seen;
  }

  /** Whether something was published since the last evaluation: a batch is open. */
  get unsignalled(): boolean {
    return this.#unsignalled;
  }

  /** Closes a batch: whether the driver wants a used buffer notification for what was published in it. §2.7.7 */
  wantsInterrupt(): boolean {
    if (!this.#unsignalled) return false;
    this.#unsignalled = false;
    const old = this.#signalled;
    const first = !this.#signalledValid;
    this.#signalled = this.#published;
    this.#signalledValid = true;
    const avail = this.#avail;
    if (this.#notifyOnEmpty && avail.get16(VIRTQ_AVAIL_IDX) === this.#lastAvail) return true;
    if (!this.#eventIdx) return (avail.get16(VIRTQ_AVAIL_FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    const usedEvent = avail.get16(VIRTQ_AVAIL_RING + 2 * this.size);
    return first || virtqNeedEvent(usedEvent, this.#published, old);
  }

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      size: this.size,
      vector: this.vector,
      enabled: this.enabled,
      areas: [...this.#areas],
      lastAvail: this.#lastAvail,
      usedIdx: this.#usedIdx,
      published: this.#published,
      signalled: this.#signalled,
      signalledValid: this.#signalledValid,
      unsignalled: this.#unsignalled,
      suppressed: this.#suppressed,
      broken: this.#broken ?? "",
      brokenValue: this.#brokenValue,
    };
  }

  /** Checks a saved queue. @returns what applies it; @throws StateError */
  loader(state: StateReader): () => void {
    const size = state.integer("size", 1, this.maxSize);
    if ((size & (size - 1)) !== 0) throw new StateError(`${state.path}.size`, `${size} is no power of two`);
    const vector = state.integer("vector", 0, 0xffff);
    const enabled = state.boolean("enabled");
    const areas = state.integers("areas", 0, 0xffff_ffff, 6);
    const lastAvail = state.integer("lastAvail", 0, 0xffff);
    const usedIdx = state.integer("usedIdx", 0, 0xffff);
    const published = state.integer("published", 0, 0xffff);
    const signalled = state.integer("signalled", 0, 0xffff);
    const signalledValid = state.boolean("signalledValid");
    const unsignalled = state.boolean("unsignalled");
    const suppressed = state.boolean("suppressed");
    const broken = state.string("broken");
    const brokenValue = state.integer("brokenValue");
    if (((lastAvail - usedIdx) & 0xffff) > size)
      throw new StateError(`${state.path}.lastAvail`, `more than ${size} chains in flight`);
    if (((usedIdx - published) & 0xffff) > size)
      throw new StateError(`${state.path}.published`, `more than ${size} entries unpublished`);
    const fault = RING_FAULTS.find((f) => f === broken) ?? null;
    if (fault === null && broken !== "") throw new StateError(`${state.path}.broken`, `${broken} is no ring fault`);
    return () => {
      this.size = size;
      this.vector = vector;
      this.enabled = enabled;
      this.#areas.set(areas);
      this.#lastAvail = lastAvail;
      this.#usedIdx = usedIdx;
      this.#published = published;
      this.#signalled = signalled;
      this.#signalledValid = signalledValid;
      this.#unsignalled = unsignalled;
      this.#suppressed = suppressed;
      this.#broken = fault;
      this.#brokenValue = brokenValue;
      this.#generation = -1;
    };
  }

  #address(word: number): number {
    return this.#areas[word]! + this.#areas[word + 1]! * 0x1_0000_0000;
  }

  #setAddress(word: number, address: number): void {
    this.#areas[word] = address % 0x1_0000_0000;
    this.#areas[word + 1] = Math.floor(address / 0x1_0000_0000);
  }

  #locate(): boolean {
    const dma = this.#dma;
    const { size } = this;
    // Some allocators leave no room for event words that nobody will use.
    const unused = this.#eventIdx ? 0 : 2;
    const found =
      this.#desc.locate(dma, this.#address(0), virtqDescBytes(size), false) &&
      this.#avail.locate(dma, this.#address(2), virtqAvailBytes(size) - unused, false) &&
      this.#used.locate(dma, this.#address(4), virtqUsedBytes(size) - unused, true);
    if (!found) return this.#break("ring-outside-memory", this.#address(0));
    this.#generation = dma.generation;
    return true;
  }

  #setUsedFlags(flags: number): void {
    this.#used.set16(VIRTQ_USED_FLAGS, flags);
    this.#dma.wrote(this.#used.address, 2);
  }

  #break(fault: RingFault, value: number): boolean {
    this.#broken = fault;
    this.#brokenValue = Number.isSafeInteger(value) ? value : Number.MAX_SAFE_INTEGER;
    return false;
  }
}

const wordOf = (area: QueueArea): number => (area === "desc" ? 0 : area === "driver" ? 2 : 4);
