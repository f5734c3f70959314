import { StateError, type StateReader } from "../bytes/index.js";
import type { SavedState } from "../contract/index.js";
import {
  VIRTQ_DESC_ALIGN,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
  VIRTQ_DESC_SIZE,
  VIRTQ_PACKED_DESC_FLAGS,
  VIRTQ_PACKED_DESC_ID,
  VIRTQ_PACKED_EVENT_ALIGN,
  VIRTQ_PACKED_EVENT_FLAG_DESC,
  VIRTQ_PACKED_EVENT_FLAG_DISABLE,
  VIRTQ_PACKED_EVENT_FLAG_ENABLE,
  VIRTQ_PACKED_EVENT_FLAG_MASK,
  VIRTQ_PACKED_EVENT_FLAGS,
  VIRTQ_PACKED_EVENT_OFF_MASK,
  VIRTQ_PACKED_EVENT_OFF_WRAP,
  VIRTQ_PACKED_EVENT_SIZE,
  VIRTQ_PACKED_EVENT_WRAP_SHIFT,
  virtqDescBytes,
} from "../spec/virtio.js";
import {
  AVAIL_AND_USED,
  AVAILABLE_IN_LAP_0,
  AVAILABLE_IN_LAP_1,
  type DescriptorChain,
  RingArea,
} from "./descriptor-chain.js";
import { Virtqueue } from "./virtqueue.js";

/**
 * The device's side of a packed virtqueue. VIRTIO 1.3 §2.8
 *
 * A place in the ring is one number, 0 … 2·size − 1: slots of the lap with wrap counter 1, then those of the lap with 0.
 * Adding, comparing and counting in flight are then arithmetic modulo 2·size, and no wrap counter can be forgotten.
 */
export class PackedQueue extends Virtqueue {
  // ring state; places
  #avail = 0; // of the next list to take
  #used = 0; // where the next used descriptor goes
  #published = 0; // as far as the driver can see; the slots from here up to #avail are the device's
  #firstFlags = 0; // of the used descriptor at #published, as long as they are missing there
  #unsignalledSlots = 0; // published since suppression was last evaluated, at most 2·size
  /** flags in the device event suppression area, as last written */
  #deviceFlags = VIRTQ_PACKED_EVENT_FLAG_ENABLE;

  // of the entry that is open
  #batchAt = -1; // with IN_ORDER: place of the used descriptor that the next one pushed replaces; −1: it gets its own
  readonly #slots: Uint16Array; // by slot, at the first and the last one of a list taken: its slots
  readonly #readOnly: Uint8Array; // by slot, at the first one of a list taken: it has nothing to write to

  // derived
  readonly #ring = new RingArea();
  readonly #driver = new RingArea();
  readonly #device = new RingArea();

  constructor(index: number, maxSize: number) {
    super(index, maxSize);
    this.#slots = new Uint16Array(maxSize);
    this.#readOnly = new Uint8Array(maxSize);
  }

  /** The legacy interface has no packed rings. */
  get pfn(): number {
    return 0;
  }

  setPfn(): void {}

  /** @see Virtqueue.take; the handle is buffer id and slots of the list. §2.8.6 */
  take(chain: DescriptorChain): boolean {
    if (!this.enabled || !this.#availableAt(this.#avail)) return false;
    const { size } = this;
    const place = this.#avail;
    const lap1 = place < size;
    const first = lap1 ? place : place - size;
    // What was pushed and not published is not the driver's yet, either.
    const room = size - this.#distance(this.#published, place);
    if (room === 0) return this.fail("ring-oversubscribed", first);
    const writable = chain.writable.total;
    chain.maxBytes = this.maxBytes;
    const slots = chain.loadPacked(this.dma, this.#ring, size, first, lap1, room, this.indirect);
    if (slots === 0) return this.fail(chain.fault ?? "chain-too-long", chain.faultValue);
    this.#avail = this.#after(place, slots);
    this.#slots[first] = slots;
    this.#slots[this.#slotOf(this.#after(place, slots - 1))] = slots;
    if (this.inOrder) this.#readOnly[first] = chain.writable.total === writable ? 1 : 0;
    return true;
  }

  untake(chains: number): void {
    if (!this.enabled) return;
    for (let i = 0; i < chains; i++) {
      const last = this.#after(this.#avail, 2 * this.size - 1);
      this.#avail = this.#after(this.#avail, 2 * this.size - this.#slots[this.#slotOf(last)]!);
    }
  }

  push(handle: number, len: number): void {
    if (!this.enabled) return;
    const { size } = this;
    const ring = this.#ring;
    let place = this.#used;
    if (this.inOrder) place = this.#batch(len);
    const lap1 = place < size;
    const at = VIRTQ_DESC_SIZE * (lap1 ? place : place - size);
    const flags = (lap1 ? AVAIL_AND_USED : 0) | (len === 0 ? 0 : VIRTQ_DESC_F_WRITE);
    ring.set32(at + VIRTQ_DESC_LEN, len);
    ring.set16(at + VIRTQ_PACKED_DESC_ID, handle & 0xffff);
    // The driver looks at the first one: as long as its flags are missing, it sees none. §2.8.9
    if (place === this.#published) this.#firstFlags = flags;
    else ring.set16(at + VIRTQ_PACKED_DESC_FLAGS, flags);
    this.#used = this.#after(this.#used, (handle >>> 16) + 1);
  }

  publish(): void {
    const { size, dma } = this;
    const from = this.#published;
    const slots = this.#distance(from, this.#used);
    if (slots === 0) return;
    const slot = this.#slotOf(from);
    this.#batchAt = -1;
    this.#ring.set16(VIRTQ_DESC_SIZE * slot + VIRTQ_PACKED_DESC_FLAGS, this.#firstFlags);
    if (slot + slots <= size) dma.wrote(this.#ring.address + VIRTQ_DESC_SIZE * slot, VIRTQ_DESC_SIZE * slots);
    else dma.wrote(this.#ring.address, VIRTQ_DESC_SIZE * size);
    this.#published = this.#used;
    this.#unsignalledSlots = Math.min(this.#unsignalledSlots + slots, 2 * size);
    this.unsignalled = true;
  }

  suppress(): void {
    // With EVENT_IDX, too, as QEMU does it: a ring that is new asks for every notification, and a passed event comes round again.
    if (this.#deviceFlags === VIRTQ_PACKED_EVENT_FLAG_DISABLE) return;
    this.#setDeviceFlags(VIRTQ_PACKED_EVENT_FLAG_DISABLE);
  }

  rearm(left = 0): boolean {
    if (!this.enabled) return false;
    let seen = this.#avail;
    for (let i = 0; i < left; i++) seen = this.#after(seen, this.#slots[this.#slotOf(seen)]!);
    if (this.eventIdx) {
      const lap1 = seen < this.size;
      // Offset first, then the flags that make it count. §2.8.10
      this.#device.set16(
        VIRTQ_PACKED_EVENT_OFF_WRAP,
        lap1 ? seen | (1 << VIRTQ_PACKED_EVENT_WRAP_SHIFT) : seen - this.size,
      );
      if (this.#deviceFlags === VIRTQ_PACKED_EVENT_FLAG_DESC)
        this.dma.wrote(this.#device.address, VIRTQ_PACKED_EVENT_SIZE);
      else this.#setDeviceFlags(VIRTQ_PACKED_EVENT_FLAG_DESC);
    } else if (this.#deviceFlags !== VIRTQ_PACKED_EVENT_FLAG_ENABLE)
      this.#setDeviceFlags(VIRTQ_PACKED_EVENT_FLAG_ENABLE);
    return this.#availableAt(seen);
  }

  canGoOnAt(next: number): boolean {
    const slot = next & VIRTQ_PACKED_EVENT_OFF_MASK; // laid out as in an event suppression area
    if (slot >= this.size) return false;
    const place = next >>> VIRTQ_PACKED_EVENT_WRAP_SHIFT === 1 ? slot : slot + this.size;
    return this.#distance(this.#avail, place) <= this.size;
  }

  wantsInterrupt(): boolean {
    if (!this.unsignalled) return false;
    this.unsignalled = false;
    const slots = this.#unsignalledSlots;
    this.#unsignalledSlots = 0;
    const event = this.#driver.get32(0);
    const flags = (event >>> (8 * VIRTQ_PACKED_EVENT_FLAGS)) & VIRTQ_PACKED_EVENT_FLAG_MASK;
    if (flags === VIRTQ_PACKED_EVENT_FLAG_DISABLE) return false;
    if (flags !== VIRTQ_PACKED_EVENT_FLAG_DESC || !this.eventIdx) return true; // 3, too, and DESC without the feature
    const { size } = this;
    const offset = event & VIRTQ_PACKED_EVENT_OFF_MASK;
    if (offset >= size) return true;
    const wrap = (event >>> VIRTQ_PACKED_EVENT_WRAP_SHIFT) & 1;
    const place = wrap === 1 ? offset : offset + size;
    // Whether it is among the last `slots` places, as vring_need_event has it: with laps told apart, nothing is to adjust.
    const behind = this.#distance(place, this.#published);
    return slots === 2 * size || (behind !== 0 && behind <= slots);
  }

  protected permits(size: number): boolean {
    return size > 0 && size <= this.maxSize;
  }

  protected get misaligned(): boolean {
    return (
      this.areas[0]! % VIRTQ_DESC_ALIGN !== 0 ||
      this.areas[2]! % VIRTQ_PACKED_EVENT_ALIGN !== 0 ||
      this.areas[4]! % VIRTQ_PACKED_EVENT_ALIGN !== 0
    );
  }

  protected locate(): boolean {
    const { dma, size } = this;
    const found =
      this.#ring.locate(dma, this.areaAddress("desc"), virtqDescBytes(size), true) &&
      this.#driver.locate(dma, this.areaAddress("driver"), VIRTQ_PACKED_EVENT_SIZE, false) &&
      this.#device.locate(dma, this.areaAddress("device"), VIRTQ_PACKED_EVENT_SIZE, true);
    if (!found) return this.fail("ring-outside-memory", this.areaAddress("desc"));
    this.generation = dma.generation;
    return true;
  }

  protected releaseAreas(): void {
    for (const area of [this.#ring, this.#driver, this.#device]) area.release();
  }

  protected clearRing(): void {
    this.#avail = this.#used = this.#published = 0;
    this.#firstFlags = 0;
    this.#unsignalledSlots = 0;
    this.#deviceFlags = VIRTQ_PACKED_EVENT_FLAG_ENABLE;
    this.#batchAt = -1;
  }

  protected saveRing(): SavedState {
    return {
      avail: this.#avail,
      used: this.#used,
      published: this.#published,
      firstFlags: this.#firstFlags,
      unsignalledSlots: this.#unsignalledSlots,
      deviceFlags: this.#deviceFlags,
    };
  }

  protected ringLoader(state: StateReader, size: number): () => void {
    const avail = state.integer("avail", 0, 2 * size - 1);
    const used = state.integer("used", 0, 2 * size - 1);
    const published = state.integer("published", 0, 2 * size - 1);
    const firstFlags = state.integer("firstFlags", 0, 0xffff);
    const unsignalledSlots = state.integer("unsignalledSlots", 0, 2 * size);
    const deviceFlags = state.integer("deviceFlags", 0, VIRTQ_PACKED_EVENT_FLAG_MASK);
    const distance = (from: number, to: number): number => (to - from + 2 * size) % (2 * size);
    if (distance(published, avail) > size)
      throw new StateError(`${state.path}.avail`, `more than ${size} slots from ${published} to ${avail}`);
    if (distance(published, used) > distance(published, avail))
      throw new StateError(`${state.path}.used`, `${used} is not between ${published} and ${avail}`);
    return () => {
      this.#avail = avail;
      this.#used = used;
      this.#published = published;
      this.#firstFlags = firstFlags;
      this.#unsignalledSlots = unsignalledSlots;
      this.#deviceFlags = deviceFlags;
      this.#batchAt = -1;
    };
  }

  /** Whether the slot holds a descriptor made available in its lap. §2.8.1 */
  #availableAt(place: number): boolean {
    const { size } = this;
    const flags = AVAIL_AND_USED & this.#ring.get16(VIRTQ_DESC_SIZE * this.#slotOf(place) + VIRTQ_PACKED_DESC_FLAGS);
    return flags === (place < size ? AVAILABLE_IN_LAP_1 : AVAILABLE_IN_LAP_0);
  }

  #slotOf(place: number): number {
    return place < this.size ? place : place - this.size;
  }

  /** The place `slots` further on, 0 … 2·size − 1. */
  #after(place: number, slots: number): number {
    const next = place + slots;
    return next < 2 * this.size ? next : next - 2 * this.size;
  }

  /** Slots from one place to another. */
  #distance(from: number, to: number): number {
    return to >= from ? to - from : to - from + 2 * this.size;
  }

  /**
   * Place of the used descriptor for what is pushed now. A driver takes skipped buffers for used as a whole, so a descriptor may
   * stand for those before it only while they had nothing to be written to. It stands where the first one's would. §2.8.8
   */
  #batch(len: number): number {
    const place = this.#batchAt < 0 ? this.#used : this.#batchAt;
    const skippable = len === 0 && this.#readOnly[this.#slotOf(this.#used)] === 1;
    this.#batchAt = skippable ? place : -1;
    return place;
  }

  #setDeviceFlags(flags: number): void {
    this.#deviceFlags = flags;
    this.#device.set16(VIRTQ_PACKED_EVENT_FLAGS, flags);
    this.dma.wrote(this.#device.address, VIRTQ_PACKED_EVENT_SIZE);
  }
}
