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
import { DriverError, type FrameSegments } from "../types.js";
import { type RingLayout, Virtqueue, type VirtqueueOptions, VQ_OK } from "./virtqueue.js";
import { syncDescs } from "./virtqueue-table.js";

const AVAIL_AND_USED = VIRTQ_PACKED_DESC_F_AVAIL | VIRTQ_PACKED_DESC_F_USED;
/** bytes from the driver event suppression area to the device's, which stand in cache lines of their own */
const EVENT_STRIDE = 64;
/** In the word of an event suppression area: where the flags are. */
const EVENT_FLAGS_SHIFT = 16;
const WRAP = 1 << VIRTQ_PACKED_EVENT_WRAP_SHIFT;

const layoutOf = ({ name, size }: VirtqueueOptions): RingLayout => {
  if (!(Number.isInteger(size) && size >= 1 && size <= VIRTQ_MAX_SIZE))
    throw new DriverError("EINVAL", `${name}: a packed virtqueue of ${size} descriptors is not in 1 … 32768`);
  const driverArea = Math.ceil(virtqDescBytes(size) / EVENT_STRIDE) * EVENT_STRIDE;
  const deviceArea = driverArea + EVENT_STRIDE;
  return { driverArea, deviceArea, bytes: deviceArea + VIRTQ_PACKED_EVENT_SIZE };
};

/**
 * A packed virtqueue. Its slots are written by both sides in turn: what `enqueue` has written is the driver's until `notify`
 * syncs it, the flags of the first descriptor last; a used descriptor is looked at flags first, then the rest.
 *
 * A place is one number, 0 … 2·size − 1: slots of the lap with wrap counter 1, then those of the lap with 0. `queued` counts
 * slots, at most 2·size. @see VIRTIO 1.3 §2.8.17 … §2.8.22
 */
export class PackedVirtqueue extends Virtqueue {
  readonly #driver: number; // offsets in the ring
  readonly #device: number;
  #avail = 0; // place of the next descriptor to make available
  #used = 0; // place of the next used descriptor

  /** @throws DriverError EINVAL for a size that is not in 1 … 32768; ResourceError ENOMEM */
  constructor(options: VirtqueueOptions) {
    super(options, layoutOf(options));
    this.#driver = this.driverArea;
    this.#device = this.deviceArea;
    this.start();
  }

  get nextAvail(): number {
    return this.#offWrap(this.#avail);
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
      writableBytes = this.fillTable(id, segments, readable, needed, false);
      this.#writeSlot(first, this.tableOf(id), needed * VIRTQ_DESC_SIZE);
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
        else this.ring.write32(VIRTQ_DESC_SIZE * slot + VIRTQ_PACKED_DESC_ID, (id | (flags << 16)) >>> 0);
        if (++slot === size) {
          slot = 0;
          lap1 = !lap1;
        }
      }
    // With these flags all of the list is the device's. §2.8.17
    this.ring.write32(VIRTQ_DESC_SIZE * first + VIRTQ_PACKED_DESC_ID, head >>> 0);
    this.freeId = this.next[id]!;
    this.post(id, cookie, slots, writableBytes);
    this.#avail = this.#after(this.#avail, slots);
    this.queued = Math.min(this.queued + slots, 2 * size);
    return VQ_OK;
  }

  dequeue(): number {
    if (this.batchEnd < 0) {
      if (!this.#isUsed()) return -1;
      const at = VIRTQ_DESC_SIZE * this.#slotOf(this.#used);
      if (this.#shown) this.ring.sync(at + VIRTQ_DESC_LEN, VIRTQ_DESC_SIZE - VIRTQ_DESC_LEN, "postread");
      const id = this.ring.read16(at + VIRTQ_PACKED_DESC_ID);
      const len = this.ring.read32(at + VIRTQ_DESC_LEN);
      if (id >= this.size || this.cookies[id]! < 0) {
        this.badIds++;
        this.broken = true; // how many slots to go on nobody knows
        return -1;
      }
      // Observed: QEMU 7.2 sets no WRITE in a used descriptor; the length counts all the same. §2.8.4
      if (!this.inOrder) {
        this.#used = this.#after(this.#used, this.slots[id]!);
        return this.finish(id, len);
      }
      this.batchEnd = id;
      this.batchLen = len;
    }
    this.#used = this.#after(this.#used, this.slots[this.oldest]!);
    return this.finishInBatch();
  }

  disableIntr(): void {
    this.#writeEvent((this.event & 0xffff) | (VIRTQ_PACKED_EVENT_FLAG_DISABLE << EVENT_FLAGS_SHIFT));
  }

  /** The last `queued` slots: all but the first, then the first, and its flags at the very end. */
  protected publish(queued: number): void {
    const { ring, size } = this;
    const slots = Math.min(queued, size);
    const first = this.#slotOf(this.#after(this.#avail, 2 * size - slots));
    const end = first + slots;
    const beforeWrap = Math.min(end, size);
    // The device will write used descriptors there.
    ring.sync(VIRTQ_DESC_SIZE * first, VIRTQ_DESC_SIZE * (beforeWrap - first), "preread");
    if (end > size) ring.sync(0, VIRTQ_DESC_SIZE * (end - size), "preread");
    syncDescs(ring, first + 1, beforeWrap);
    syncDescs(ring, 0, end - size);
    ring.sync(VIRTQ_DESC_SIZE * first, VIRTQ_PACKED_DESC_ID, "prewrite");
    ring.sync(VIRTQ_DESC_SIZE * first + VIRTQ_PACKED_DESC_ID, VIRTQ_DESC_SIZE - VIRTQ_PACKED_DESC_ID, "prewrite");
  }

  /** @see VIRTIO 1.3 §2.8.10 */
  protected isWanted(queued: number): boolean {
    this.ring.sync(this.#device, VIRTQ_PACKED_EVENT_SIZE, "postread");
    const event = this.ring.read32(this.#device);
    const flags = (event >>> EVENT_FLAGS_SHIFT) & VIRTQ_PACKED_EVENT_FLAG_MASK;
    if (flags === VIRTQ_PACKED_EVENT_FLAG_DISABLE) return false;
    const offset = event & VIRTQ_PACKED_EVENT_OFF_MASK;
    if (flags !== VIRTQ_PACKED_EVENT_FLAG_DESC || !this.eventIdx || offset >= this.size) return true;
    const place = (event & WRAP) !== 0 ? offset : offset + this.size;
    const behind = this.#distance(place, this.#avail);
    return queued === 2 * this.size || (behind !== 0 && behind <= queued);
  }

  /** slots */
  protected get outstanding(): number {
    return this.#distance(this.#used, this.#avail);
  }

  protected arm(ahead: number): boolean {
    if (this.eventIdx)
      this.#writeEvent(
        this.#offWrap(this.#after(this.#used, ahead)) | (VIRTQ_PACKED_EVENT_FLAG_DESC << EVENT_FLAGS_SHIFT),
      );
    else this.#writeEvent(VIRTQ_PACKED_EVENT_FLAG_ENABLE);
    // The device may have used it before it could see the event: without this look that would wait for ever. Whether it was
    // that far nobody needs to know; if it was, something is used. §2.8.10
    return this.#isUsed();
  }

  protected override start(): void {
    super.start();
    this.#avail = this.#used = 0;
  }

  protected behind(id: number): number {
    return this.next[id]!;
  }

  protected lastOf(id: number): number {
    return id;
  }

  /** Address and length; always both: the device may have written here since. */
  #writeSlot(slot: number, paddr: number, len: number): void {
    const at = VIRTQ_DESC_SIZE * slot;
    this.ring.write32(at, paddr >>> 0);
    this.ring.write32(at + 4, Math.floor(paddr / 0x1_0000_0000));
    this.ring.write32(at + VIRTQ_DESC_LEN, len);
  }

  /** The next used descriptor's slot is the device's, and may be fetched; otherwise it holds what waits for `notify`. */
  get #shown(): boolean {
    return this.outstanding > this.queued;
  }

  /** Whether there is a used descriptor, or a batch of which not all was taken. §2.8.1 */
  #isUsed(): boolean {
    if (this.inFlight === 0 || this.broken) return false;
    if (this.batchEnd >= 0) return true;
    const at = VIRTQ_DESC_SIZE * this.#slotOf(this.#used) + VIRTQ_PACKED_DESC_FLAGS;
    if (this.#shown) this.ring.sync(at, VIRTQ_DESC_SIZE - VIRTQ_PACKED_DESC_FLAGS, "postread");
    return (this.ring.read16(at) & AVAIL_AND_USED) === (this.#used < this.size ? AVAIL_AND_USED : 0);
  }

  /** Offset and flags as one word, so that no device can see one without the other. */
  #writeEvent(value: number): void {
    if (value === this.event) return;
    this.event = value;
    this.ring.write32(this.#driver, value);
    this.ring.sync(this.#driver, VIRTQ_PACKED_EVENT_SIZE, "prewrite");
  }

  #slotOf(place: number): number {
    return place < this.size ? place : place - this.size;
  }

  /** A place as event suppression areas and notifications have it: slot and wrap counter. */
  #offWrap(place: number): number {
    return place < this.size ? place | WRAP : place - this.size;
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
