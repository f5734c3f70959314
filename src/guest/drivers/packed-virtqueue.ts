import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
  VIRTQ_DESC_SIZE,
  VIRTQ_MAX_SIZE,
  VIRTQ_PACKED_DESC_F_AVAIL,
  VIRTQ_PACKED_DESC_F_USED,
  VIRTQ_PACKED_DESC_FLAGS,
  VIRTQ_PACKED_DESC_ID,
  VIRTQ_PACKED_EVENT_FLAG_DESC,
  VIRTQ_PACKED_EVENT_FLAG_DISABLE,
  VIRTQ_PACKED_EVENT_FLAG_ENABLE,
  VIRTQ_PACKED_EVENT_FLAG_MASK,
  VIRTQ_PACKED_EVENT_OFF_MASK,
  VIRTQ_PACKED_EVENT_SIZE,
  VIRTQ_PACKED_EVENT_WRAP_SHIFT,
  virtqDescBytes,
} from "../../spec/virtio.js";
import { type DmaMemory, DriverError, type FrameSegments } from "../types.js";
import { clear, type Postpone, syncDescs, Virtqueue, type VirtqueueOptions, VQ_OK, writeDesc } from "./virtqueue.js";

const AVAIL_AND_USED = VIRTQ_PACKED_DESC_F_AVAIL | VIRTQ_PACKED_DESC_F_USED;
/** bytes from the driver event suppression area to the device's, which stand in cache lines of their own */
const EVENT_STRIDE = 64;
/** In the word of an event suppression area: where the flags are. */
const EVENT_FLAGS_SHIFT = 16;
const WRAP = 1 << VIRTQ_PACKED_EVENT_WRAP_SHIFT;

/**
 * A packed virtqueue. Its slots are written by both sides in turn: what `enqueue` has written is the driver's until `notify`
 * syncs it, the flags of the first descriptor last; a used descriptor is looked at flags first, then the rest.
 *
 * A place is one number, 0 … 2·size − 1: slots of the lap with wrap counter 1, then those of the lap with 0.
 * @see VIRTIO 1.3 §2.8.17 … §2.8.22
 */
export class PackedVirtqueue extends Virtqueue {
  readonly bytes: number;
  readonly descPaddr: number;
  readonly availPaddr: number;
  readonly usedPaddr: number;
  readonly #driver: number; // offsets in #ring
  readonly #device: number;

  readonly #ring: DmaMemory;
  readonly #tables: DmaMemory | null; // one indirect table per buffer id

  readonly #tableWords: Uint32Array; // our copy of the tables
  readonly #next: Uint16Array; // by id: the next free one
  #avail = 0; // place of the next descriptor to make available
  #used = 0; // place of the next used descriptor
  #queuedSlots = 0; // since the last notify, at most 2·size
  #event = 0; // driver event suppression area as last written
  #tableLow = 0; // table entries written since the last notify: first, and last + 1
  #tableHigh = 0;

  /** @throws DriverError EINVAL for a size that is not in 1 … 32768; ResourceError ENOMEM */
  constructor(options: VirtqueueOptions) {
    const { name, size } = options;
    if (!(Number.isInteger(size) && size >= 1 && size <= VIRTQ_MAX_SIZE))
      throw new DriverError("EINVAL", `${name}: a packed virtqueue of ${size} descriptors is not in 1 … 32768`);
    super(options);
    this.#driver = Math.ceil(virtqDescBytes(size) / EVENT_STRIDE) * EVENT_STRIDE;
    this.#device = this.#driver + EVENT_STRIDE;
    this.bytes = this.#device + VIRTQ_PACKED_EVENT_SIZE;
    this.#tableWords = new Uint32Array((size * this.maxIndirect * VIRTQ_DESC_SIZE) / 4);
    this.#next = new Uint16Array(size);
    this.#ring = options.tag.alloc(this.bytes);
    try {
      this.#tables = this.maxIndirect > 1 ? options.tag.alloc(size * this.maxIndirect * VIRTQ_DESC_SIZE) : null;
    } catch (error) {
      this.#ring[Symbol.dispose]();
      throw error;
    }
    this.descPaddr = this.#ring.paddr;
    this.availPaddr = this.#ring.paddr + this.#driver;
    this.usedPaddr = this.#ring.paddr + this.#device;
    this.start();
  }

  [Symbol.dispose](): void {
    this.#tables?.[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
  }

  enqueue(cookie: number, segments: FrameSegments, readable: number, writable: number): number {
    const needed = readable + writable;
    const error = this.fits(needed);
    if (error !== VQ_OK) return error;
    const { size } = this;
    const { paddr, len } = segments;
    const id = this.freeId;
    const first = this.#slotOf(this.#avail);
    let lap1 = this.#avail < size;
    let head = id;
    let slots = needed;
    let writableBytes = 0;
    if (needed > 1 && needed <= this.maxIndirect) {
      slots = 1;
      writableBytes = this.#fillTable(id, segments, readable, needed);
      const tables = this.#tables as DmaMemory; // not null: maxIndirect is 0 without
      this.#writeSlot(first, tables.paddr + id * this.maxIndirect * VIRTQ_DESC_SIZE, needed * VIRTQ_DESC_SIZE);
      head |= (VIRTQ_DESC_F_INDIRECT | availability(lap1)) << 16;
    } else
      for (let i = 0, slot = first; i < needed; i++) {
        this.#writeSlot(slot, paddr[i]!, len[i]!);
        let flags = availability(lap1);
        if (i + 1 < needed) flags |= VIRTQ_DESC_F_NEXT;
        if (i >= readable) {
          flags |= VIRTQ_DESC_F_WRITE;
          writableBytes += len[i]!;
        }
        if (i === 0) head |= flags << 16;
        else this.#ring.write32(VIRTQ_DESC_SIZE * slot + VIRTQ_PACKED_DESC_ID, (id | (flags << 16)) >>> 0);
        if (++slot === size) {
          slot = 0;
          lap1 = !lap1;
        }
      }
    // With these flags all of the list is the device's. §2.8.17
    this.#ring.write32(VIRTQ_DESC_SIZE * first + VIRTQ_PACKED_DESC_ID, head >>> 0);
    this.freeId = this.#next[id]!;
    this.post(id, cookie, slots, writableBytes);
    this.#avail = this.#after(this.#avail, slots);
    this.#queuedSlots = Math.min(this.#queuedSlots + slots, 2 * size);
    return VQ_OK;
  }

  notify(): boolean {
    const queued = this.#queuedSlots;
    if (queued === 0) return false;
    this.#publish(Math.min(queued, this.size));
    this.#queuedSlots = 0;
    // Only after the flags are visible may the suppression be tested: the device re-arms, then looks again. §2.8.21.3
    this.#ring.sync(this.#device, VIRTQ_PACKED_EVENT_SIZE, "postread");
    if (!this.#wanted(this.#ring.read32(this.#device), queued)) return false;
    this.notifies++;
    this.notifyVq(this.index);
    return true;
  }

  dequeue(): number {
    if (!this.#isUsed()) return -1;
    const at = VIRTQ_DESC_SIZE * this.#slotOf(this.#used);
    if (this.#shown) this.#ring.sync(at + VIRTQ_DESC_LEN, VIRTQ_DESC_SIZE - VIRTQ_DESC_LEN, "postread");
    const id = this.#ring.read16(at + VIRTQ_PACKED_DESC_ID);
    const len = this.#ring.read32(at + VIRTQ_DESC_LEN);
    const cookie = id < this.size ? this.cookies[id]! : -1;
    if (cookie < 0) {
      this.badIds++;
      this.broken = true; // how many slots to go on nobody knows
      return -1;
    }
    this.#used = this.#after(this.#used, this.slots[id]!);
    // Observed: QEMU 7.2 sets no WRITE in a used descriptor; the length counts all the same. §2.8.4
    this.measure(id, len);
    this.release(id);
    return cookie;
  }

  enableIntr(): boolean {
    return this.#arm(0);
  }

  postponeIntr(hint: Postpone): boolean {
    const outstanding = this.#distance(this.#used, this.#avail);
    if (hint === "short") return this.#arm(outstanding >> 2);
    if (hint === "long") return this.#arm((outstanding * 3) >> 2);
    return this.#arm(outstanding > 0 ? outstanding - 1 : 0);
  }

  disableIntr(): void {
    this.#writeEvent((this.#event & 0xffff) | (VIRTQ_PACKED_EVENT_FLAG_DISABLE << EVENT_FLAGS_SHIFT));
  }

  protected override start(): void {
    super.start();
    clear(this.#ring);
    if (this.#tables !== null) clear(this.#tables);
    this.#tableWords.fill(0);
    this.#ring.sync(this.#device, VIRTQ_PACKED_EVENT_SIZE, "preread");
    for (let i = 0; i < this.size; i++) this.#next[i] = i + 1; // the last one's is never followed
    this.#avail = this.#used = this.#queuedSlots = this.#event = 0;
    this.#tableLow = Number.MAX_SAFE_INTEGER;
    this.#tableHigh = 0;
  }

  protected release(id: number): void {
    this.#next[id] = this.freeId;
    this.freeId = id;
    this.free += this.slots[id]!;
    this.cookies[id] = -1;
    this.inFlight--;
  }

  /** @returns device-writable bytes */
  #fillTable(id: number, { paddr, len }: FrameSegments, readable: number, needed: number): number {
    const tables = this.#tables as DmaMemory;
    let writableBytes = 0;
    for (let i = 0; i < needed; i++) {
      const entry = id * this.maxIndirect + i;
      let flags = 0;
      if (i >= readable) {
        flags = VIRTQ_DESC_F_WRITE;
        writableBytes += len[i]!;
      }
      // id 0, and of the flags only WRITE means anything here. §2.8.7
      if (!writeDesc(tables, this.#tableWords, entry, paddr[i]!, len[i]!, (flags << 16) >>> 0)) continue;
      if (entry < this.#tableLow) this.#tableLow = entry;
      if (entry >= this.#tableHigh) this.#tableHigh = entry + 1;
    }
    return writableBytes;
  }

  /** Address and length; always both: the device may have written here since. */
  #writeSlot(slot: number, paddr: number, len: number): void {
    const at = VIRTQ_DESC_SIZE * slot;
    this.#ring.write32(at, paddr >>> 0);
    this.#ring.write32(at + 4, Math.floor(paddr / 0x1_0000_0000));
    this.#ring.write32(at + VIRTQ_DESC_LEN, len);
  }

  /** Syncs the last `queued` slots: all but the first, then the first, and its flags at the very end. */
  #publish(queued: number): void {
    const ring = this.#ring;
    const { size } = this;
    if (this.#tables !== null) syncDescs(this.#tables, this.#tableLow, this.#tableHigh);
    this.#tableLow = Number.MAX_SAFE_INTEGER;
    this.#tableHigh = 0;
    const first = this.#slotOf(this.#after(this.#avail, 2 * size - queued));
    const end = first + queued;
    const beforeWrap = Math.min(end, size);
    // The device will write used descriptors there.
    ring.sync(VIRTQ_DESC_SIZE * first, VIRTQ_DESC_SIZE * (beforeWrap - first), "preread");
    if (end > size) ring.sync(0, VIRTQ_DESC_SIZE * (end - size), "preread");
    syncDescs(ring, first + 1, beforeWrap);
    syncDescs(ring, 0, end - size);
    ring.sync(VIRTQ_DESC_SIZE * first, VIRTQ_PACKED_DESC_ID, "prewrite");
    ring.sync(VIRTQ_DESC_SIZE * first + VIRTQ_PACKED_DESC_ID, VIRTQ_DESC_SIZE - VIRTQ_PACKED_DESC_ID, "prewrite");
  }

  /** Whether the device wants to hear of the last `queued` slots. @param event its event suppression area. §2.8.10 */
  #wanted(event: number, queued: number): boolean {
    const flags = (event >>> EVENT_FLAGS_SHIFT) & VIRTQ_PACKED_EVENT_FLAG_MASK;
    if (flags === VIRTQ_PACKED_EVENT_FLAG_DISABLE) return false;
    const offset = event & VIRTQ_PACKED_EVENT_OFF_MASK;
    if (flags !== VIRTQ_PACKED_EVENT_FLAG_DESC || !this.eventIdx || offset >= this.size) return true;
    const place = (event & WRAP) !== 0 ? offset : offset + this.size;
    const behind = this.#distance(place, this.#avail);
    return queued === 2 * this.size || (behind !== 0 && behind <= queued);
  }

  /** The next used descriptor's slot is the device's, and may be fetched; otherwise it holds what waits for `notify`. */
  get #shown(): boolean {
    return this.#distance(this.#used, this.#avail) > this.#queuedSlots;
  }

  /** Whether there is a used descriptor. §2.8.1 */
  #isUsed(): boolean {
    if (this.inFlight === 0 || this.broken) return false;
    const at = VIRTQ_DESC_SIZE * this.#slotOf(this.#used) + VIRTQ_PACKED_DESC_FLAGS;
    if (this.#shown) this.#ring.sync(at, VIRTQ_DESC_SIZE - VIRTQ_PACKED_DESC_FLAGS, "postread");
    return (this.#ring.read16(at) & AVAIL_AND_USED) === (this.#used < this.size ? AVAIL_AND_USED : 0);
  }

  /** Asks for an interrupt once the slot `ahead` of the next used one is used. */
  #arm(ahead: number): boolean {
    if (this.eventIdx) {
      const place = this.#after(this.#used, ahead);
      const offWrap = place < this.size ? place | WRAP : place - this.size;
      this.#writeEvent(offWrap | (VIRTQ_PACKED_EVENT_FLAG_DESC << EVENT_FLAGS_SHIFT));
    } else this.#writeEvent(VIRTQ_PACKED_EVENT_FLAG_ENABLE);
    // The device may have used it before it could see the event: without this look that would wait for ever. Whether it was
    // that far nobody needs to know; if it was, something is used. §2.8.10
    return this.#isUsed();
  }

  /** Offset and flags as one word, so that no device can see one without the other. */
  #writeEvent(value: number): void {
    if (value === this.#event) return;
    this.#event = value;
    this.#ring.write32(this.#driver, value);
    this.#ring.sync(this.#driver, VIRTQ_PACKED_EVENT_SIZE, "prewrite");
  }

  #slotOf(place: number): number {
    return place < this.size ? place : place - this.size;
  }

  /** The place `slots` further on. */
  #after(place: number, slots: number): number {
    const next = place + slots;
    return next < 2 * this.size ? next : next - 2 * this.size;
  }

  /** Slots from one place to another. */
  #distance(from: number, to: number): number {
    return to >= from ? to - from : to - from + 2 * this.size;
  }
}

/** Flags of a descriptor made available in a lap. §2.8.1 */
const availability = (lap1: boolean): number => (lap1 ? VIRTQ_PACKED_DESC_F_AVAIL : VIRTQ_PACKED_DESC_F_USED);
