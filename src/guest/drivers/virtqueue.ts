import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_MAX_SIZE,
  VIRTQ_USED_ELEM_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_FLAGS,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
  virtqAvailBytes,
  virtqDescBytes,
  virtqNeedEvent,
  virtqUsedBytes,
} from "../../spec/virtio.js";
import { type DmaMemory, type DmaTag, DriverError, type FrameSegments } from "../types.js";

/** Results of `enqueue`; numbers of FreeBSD's errno.h. */
export const VQ_OK = 0;
/** No descriptor is free for this buffer now. */
export const ENOSPC = 28;
/** The buffer has more segments than the queue has descriptors: it will never fit. */
export const EMSGSIZE = 40;

/** How far `postponeIntr` puts an interrupt off: a quarter, three quarters or all of what is outstanding. */
export type Postpone = "short" | "long" | "emptied";

export interface VirtqueueOptions {
  /** for messages, such as `vtnet0-rx0` */
  readonly name: string;
  readonly index: number;
  /** descriptors, 1 … 32768; a power of two unless the ring is packed */
  readonly size: number;
  /** bytes, a power of two; start of the queue and of its used ring. 4096 on PCI */
  readonly align: number;
  /** entries of one indirect table; 0 or 1: none. Only more than 1 when INDIRECT_DESC was accepted */
  readonly maxIndirect: number;
  /** EVENT_IDX was accepted */
  readonly eventIdx: boolean;
  /** for the ring and the indirect tables; they are freed with the queue */
  readonly tag: DmaTag;
  /** rings the doorbell */
  readonly notifyVq: (index: number) => void;
}

/**
 * A virtqueue from the driver's side, whatever its format: the ring's memory, its descriptors, and when to notify and to be
 * interrupted.
 *
 * The driver keeps its own copy of all that it has written; of what the device can write it reads what was used and whether
 * notifications are wanted, and believes the former only after a check. What a lying device does is counted in `badIds`,
 * `badLengths` and `overruns`. Buffers are named by cookies: integers of the caller's choice, 0 or more.
 */
export abstract class Virtqueue {
  readonly name: string;
  readonly index: number;
  readonly size: number;
  /** bytes of the ring; the tables of indirect descriptors stand apart */
  abstract readonly bytes: number;
  /** physical addresses of the descriptor area, the driver area and the device area */
  abstract readonly descPaddr: number;
  abstract readonly availPaddr: number;
  abstract readonly usedPaddr: number;
  protected readonly maxIndirect: number;
  protected readonly eventIdx: boolean;
  protected readonly notifyVq: (index: number) => void;

  // By buffer id: the head of a split chain, or what a packed list is called.
  protected readonly cookies: Int32Array; // −1 where there is no buffer
  protected readonly slots: Uint16Array; // descriptors used
  protected readonly writable: Uint32Array; // device-writable bytes posted
  protected freeId = 0; // the next buffer's
  protected free = 0; // descriptors
  #drained = 0; // id at which `drain` goes on

  /** buffers enqueued and not yet dequeued */
  inFlight = 0;
  /** The device did what cannot be: the queue looks empty until `reinit`. */
  broken = false;
  /** bytes that the device wrote to the buffer last dequeued; never more than were posted */
  usedLen = 0;
  /** times the device gave back a buffer that is not in flight */
  badIds = 0;
  /** times it claimed more bytes than the buffer has; `usedLen` was cut */
  badLengths = 0;
  /** times more buffers were used than are in flight; the queue then is `broken` */
  overruns = 0;
  /** doorbells rung */
  notifies = 0;

  protected constructor(options: VirtqueueOptions) {
    const { size } = options;
    this.name = options.name;
    this.index = options.index;
    this.size = size;
    this.maxIndirect = options.maxIndirect > 1 ? Math.min(options.maxIndirect, size) : 0;
    this.eventIdx = options.eventIdx;
    this.notifyVq = options.notifyVq;
    this.cookies = new Int32Array(size);
    this.slots = new Uint16Array(size);
    this.writable = new Uint32Array(size);
  }

  /** Frees the ring. The device must have been reset. */
  abstract [Symbol.dispose](): void;

  /** free descriptors */
  get nfree(): number {
    return this.free;
  }
  get full(): boolean {
    return this.free === 0;
  }
  get empty(): boolean {
    return this.free === this.size;
  }
  /** Id of the next buffer, below `size`; no other one in flight has it. Only while `nfree` is not 0. */
  get nextHead(): number {
    return this.freeId;
  }

  /** Whether a buffer of so many segments can be enqueued now. @returns VQ_OK, ENOSPC or EMSGSIZE */
  fits(segments: number): number {
    if (segments < 1 || segments > this.size) return EMSGSIZE;
    return this.free < (segments > 1 && segments <= this.maxIndirect ? 1 : segments) ? ENOSPC : VQ_OK;
  }

  /**
   * Makes a buffer available: `readable` segments that the device reads, followed by `writable` ones that it writes.
   * With two and more segments it takes one descriptor and a table where indirect descriptors were accepted.
   * @param cookie what `dequeue` returns for this buffer, 0 … 2³¹−1
   * @returns VQ_OK, ENOSPC or EMSGSIZE; after the last two nothing has changed
   */
  abstract enqueue(cookie: number, segments: FrameSegments, readable: number, writable: number): number;

  /**
   * Publishes what was enqueued and rings the doorbell, if the device wants to be told.
   * @returns whether it was rung
   */
  abstract notify(): boolean;

  /** Takes back the next buffer that the device has used. @returns its cookie, its length in `usedLen`; or −1 */
  abstract dequeue(): number;

  /** Asks for an interrupt at the next used buffer. @returns whether one is there already: then look before you wait */
  abstract enableIntr(): boolean;

  /**
   * Asks for an interrupt when a part of what is outstanding is used.
   * @returns whether that much may be used already: then look before you wait
   */
  abstract postponeIntr(hint: Postpone): boolean;

  /** Asks for no interrupt; a hint, one may still come. */
  abstract disableIntr(): void;

  /** Takes back one buffer after another after the device was reset. @returns the cookie, or −1 when none is left */
  drain(): number {
    for (let i = 0; this.inFlight > 0 && i < this.size; i++) {
      const id = this.#drained;
      this.#drained = id + 1 < this.size ? id + 1 : 0;
      const cookie = this.cookies[id]!;
      if (cookie < 0) continue;
      this.release(id);
      return cookie;
    }
    return -1;
  }

  /** Makes the drained queue new, for a device that was reset. @throws DriverError EINVAL when its size is another now */
  reinit(size: number): void {
    if (size !== this.size)
      throw new DriverError("EINVAL", `${this.name}: had ${this.size} descriptors, has ${size} after a reset`);
    this.start();
  }

  /** Empties the ring. */
  protected start(): void {
    this.cookies.fill(-1);
    this.freeId = 0;
    this.free = this.size;
    this.inFlight = 0;
    this.broken = false;
  }

  /** Notes a buffer that becomes the device's. */
  protected post(id: number, cookie: number, slots: number, writable: number): void {
    this.cookies[id] = cookie;
    this.slots[id] = slots;
    this.writable[id] = writable;
    this.free -= slots;
    this.inFlight++;
  }

  /** Takes note of how much the device says to have written. */
  protected measure(id: number, len: number): void {
    const posted = this.writable[id]!;
    if (len > posted) this.badLengths++;
    this.usedLen = len > posted ? posted : len;
  }

  /** Gives the descriptors of a buffer back. */
  protected abstract release(id: number): void;
}

/**
 * A split virtqueue. What `enqueue` writes is synced, range by range, by `notify`: descriptors first, then the entries of the
 * available ring, then its index. @see VIRTIO 1.3 §2.7.13, §2.7.14
 */
export class SplitVirtqueue extends Virtqueue {
  readonly bytes: number;
  readonly descPaddr: number;
  readonly availPaddr: number;
  readonly usedPaddr: number;
  readonly #mask: number;
  readonly #avail: number; // offsets in #ring
  readonly #used: number;

  readonly #ring: DmaMemory;
  readonly #tables: DmaMemory | null; // one indirect table per descriptor

  readonly #descWords: Uint32Array; // our copy of the descriptors, and of the tables
  readonly #tableWords: Uint32Array;
  readonly #next: Uint16Array; // by descriptor: the next one of its chain or of the free list
  #availIdx = 0; // free-running, modulo 65536, like the two below
  #usedIdx = 0; // as last read
  #consumed = 0; // used entries looked at
  #queued = 0; // buffers since the last notify
  #event = 0; // used_event or avail.flags as last written
  #dirtyLow = 0; // descriptors written since the last notify: first, and last + 1
  #dirtyHigh = 0;
  #tableLow = 0;
  #tableHigh = 0;

  /** @throws DriverError EINVAL for a size that is no power of two up to 32768; ResourceError ENOMEM */
  constructor(options: VirtqueueOptions) {
    const { name, size, align } = options;
    if (!(Number.isInteger(size) && size >= 1 && size <= VIRTQ_MAX_SIZE && (size & (size - 1)) === 0))
      throw new DriverError("EINVAL", `${name}: a virtqueue of ${size} descriptors is no power of two up to 32768`);
    super(options);
    this.#mask = size - 1;
    this.#avail = virtqDescBytes(size);
    this.#used = Math.ceil((this.#avail + virtqAvailBytes(size)) / align) * align;
    this.bytes = this.#used + virtqUsedBytes(size);
    this.#descWords = new Uint32Array(virtqDescBytes(size) / 4);
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
    this.availPaddr = this.#ring.paddr + this.#avail;
    this.usedPaddr = this.#ring.paddr + this.#used;
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
    const indirect = needed > 1 && needed <= this.maxIndirect;
    const { paddr, len } = segments;
    const head = this.freeId;
    let writableBytes = 0;
    if (indirect) {
      const tables = this.#tables as DmaMemory; // not null: maxIndirect is 0 without
      const table = head * this.maxIndirect;
      for (let i = 0; i < needed; i++) {
        let link = i + 1 < needed ? VIRTQ_DESC_F_NEXT | ((i + 1) << 16) : 0;
        if (i >= readable) {
          link |= VIRTQ_DESC_F_WRITE;
          writableBytes += len[i]!;
        }
        if (!writeDesc(tables, this.#tableWords, table + i, paddr[i]!, len[i]!, link >>> 0)) continue;
        if (table + i < this.#tableLow) this.#tableLow = table + i;
        if (table + i >= this.#tableHigh) this.#tableHigh = table + i + 1;
      }
      const at = tables.paddr + table * VIRTQ_DESC_SIZE;
      if (writeDesc(this.#ring, this.#descWords, head, at, needed * VIRTQ_DESC_SIZE, VIRTQ_DESC_F_INDIRECT))
        this.#touch(head);
      this.freeId = this.#next[head]!;
    } else {
      let at = head;
      for (let i = 0; i < needed; i++) {
        const next = this.#next[at]!;
        let link = i + 1 < needed ? VIRTQ_DESC_F_NEXT | (next << 16) : 0;
        if (i >= readable) {
          link |= VIRTQ_DESC_F_WRITE;
          writableBytes += len[i]!;
        }
        if (writeDesc(this.#ring, this.#descWords, at, paddr[i]!, len[i]!, link >>> 0)) this.#touch(at);
        at = next;
      }
      this.freeId = at;
    }
    this.post(head, cookie, indirect ? 1 : needed, writableBytes);
    // The entry first, then the index that shows it. §2.7.13
    this.#ring.write16(this.#avail + VIRTQ_AVAIL_RING + 2 * (this.#availIdx & this.#mask), head);
    this.#availIdx = (this.#availIdx + 1) & 0xffff;
    this.#ring.write16(this.#avail + VIRTQ_AVAIL_IDX, this.#availIdx);
    this.#queued++;
    return VQ_OK;
  }

  notify(): boolean {
    const queued = this.#queued;
    if (queued === 0) return false;
    this.#queued = 0;
    this.#publish(queued);
    // Only after the index is visible may the suppression be tested: the device re-arms, then looks again. §2.7.13.4
    if (this.eventIdx) {
      const at = this.#used + VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * this.size;
      this.#ring.sync(at, 2, "postread");
      if (!virtqNeedEvent(this.#ring.read16(at), this.#availIdx, this.#availIdx - queued)) return false;
    } else {
      this.#ring.sync(this.#used + VIRTQ_USED_FLAGS, 2, "postread");
      if ((this.#ring.read16(this.#used + VIRTQ_USED_FLAGS) & VIRTQ_USED_F_NO_NOTIFY) !== 0) return false;
    }
    this.notifies++;
    this.notifyVq(this.index);
    return true;
  }

  dequeue(): number {
    for (;;) {
      if (this.#consumed === this.#usedIdx && !this.#look()) return -1;
      const at = this.#used + VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * (this.#consumed & this.#mask);
      const id = this.#ring.read32(at);
      const len = this.#ring.read32(at + 4);
      this.#consumed = (this.#consumed + 1) & 0xffff;
      const cookie = id < this.size ? this.cookies[id]! : -1;
      if (cookie < 0) {
        this.badIds++;
        continue; // ends: #look admits no more entries than there are buffers in flight
      }
      this.measure(id, len);
      this.release(id);
      return cookie;
    }
  }

  enableIntr(): boolean {
    return this.#arm(0);
  }

  postponeIntr(hint: Postpone): boolean {
    const outstanding = (this.#availIdx - this.#consumed) & 0xffff;
    if (hint === "short") return this.#arm(outstanding >> 2);
    if (hint === "long") return this.#arm((outstanding * 3) >> 2);
    // Deviation: FreeBSD's virtqueue.c adds the full count, which is one buffer more than can arrive.
    return this.#arm(outstanding > 0 ? outstanding - 1 : 0);
  }

  disableIntr(): void {
    // With EVENT_IDX an event that lies a ring's length behind is not passed soon, as FreeBSD does it.
    this.#writeEvent(this.eventIdx ? (this.#consumed - this.size - 1) & 0xffff : VIRTQ_AVAIL_F_NO_INTERRUPT);
  }

  protected override start(): void {
    super.start();
    clear(this.#ring);
    if (this.#tables !== null) clear(this.#tables);
    this.#tableWords.fill(0);
    this.#ring.sync(this.#used, this.bytes - this.#used, "preread");
    for (let i = 0; i < this.size; i++) this.#next[i] = i + 1; // the last one's is never followed
    this.#descWords.fill(0);
    this.#availIdx = this.#usedIdx = this.#consumed = this.#queued = this.#event = 0;
    this.#clean();
  }

  #clean(): void {
    this.#dirtyLow = this.#tableLow = Number.MAX_SAFE_INTEGER;
    this.#dirtyHigh = this.#tableHigh = 0;
  }

  #touch(descriptor: number): void {
    if (descriptor < this.#dirtyLow) this.#dirtyLow = descriptor;
    if (descriptor >= this.#dirtyHigh) this.#dirtyHigh = descriptor + 1;
  }

  /** Syncs what was written: indirect tables, descriptors, entries of the available ring, and its index last. */
  #publish(queued: number): void {
    const ring = this.#ring;
    if (this.#tables !== null) syncDescs(this.#tables, this.#tableLow, this.#tableHigh);
    syncDescs(ring, this.#dirtyLow, this.#dirtyHigh);
    const entries = this.#avail + VIRTQ_AVAIL_RING;
    const first = (this.#availIdx - queued) & this.#mask;
    if (first + queued <= this.size) ring.sync(entries + 2 * first, 2 * queued, "prewrite");
    else ring.sync(entries, 2 * this.size, "prewrite");
    ring.sync(this.#avail + VIRTQ_AVAIL_IDX, 2, "prewrite");
    this.#clean();
  }

  /** Reads the used index and, only then, makes the entries readable. @returns whether there are any. §2.7.14 */
  #look(): boolean {
    if (this.broken) return false;
    const ring = this.#ring;
    ring.sync(this.#used + VIRTQ_USED_IDX, 2, "postread");
    const idx = ring.read16(this.#used + VIRTQ_USED_IDX);
    const count = (idx - this.#consumed) & 0xffff;
    if (count === 0) return false;
    if (count > this.inFlight) {
      this.broken = true;
      this.overruns++;
      return false;
    }
    const entries = this.#used + VIRTQ_USED_RING;
    const first = this.#consumed & this.#mask;
    if (first + count <= this.size)
      ring.sync(entries + VIRTQ_USED_ELEM_SIZE * first, VIRTQ_USED_ELEM_SIZE * count, "postread");
    else ring.sync(entries, VIRTQ_USED_ELEM_SIZE * this.size, "postread");
    this.#usedIdx = idx;
    return true;
  }

  protected release(head: number): void {
    let last = head;
    for (let i = this.slots[head]! - 1; i > 0; i--) last = this.#next[last]!;
    this.#next[last] = this.freeId;
    this.freeId = head;
    this.free += this.slots[head]!;
    this.cookies[head] = -1;
    this.inFlight--;
  }

  /** Asks for an interrupt once `ahead` more buffers were used and then one. */
  #arm(ahead: number): boolean {
    this.#writeEvent(this.eventIdx ? (this.#consumed + ahead) & 0xffff : 0);
    // The device may have used them before it could see the event: without this look they would wait for ever. §2.7.7.1
    this.#look();
    return ((this.#usedIdx - this.#consumed) & 0xffff) > ahead;
  }

  #writeEvent(value: number): void {
    if (value === this.#event) return;
    this.#event = value;
    const at = this.#avail + (this.eventIdx ? VIRTQ_AVAIL_RING + 2 * this.size : VIRTQ_AVAIL_FLAGS);
    this.#ring.write16(at, value);
    this.#ring.sync(at, 2, "prewrite");
  }
}

/**
 * Writes the words of a descriptor that differ from what stands there; buffers that come back to their place, as receive
 * buffers do, write nothing. @param link flags and next as one word @returns whether anything was written. §2.7.5
 */
export const writeDesc = (
  memory: DmaMemory,
  words: Uint32Array,
  index: number,
  paddr: number,
  len: number,
  link: number,
): boolean => {
  const at = 4 * index;
  const low = paddr >>> 0;
  const high = Math.floor(paddr / 0x1_0000_0000);
  let written = false;
  if (words[at] !== low) {
    words[at] = low;
    memory.write32(4 * at, low);
    written = true;
  }
  if (words[at + 1] !== high) {
    words[at + 1] = high;
    memory.write32(4 * at + 4, high);
    written = true;
  }
  if (words[at + 2] !== len) {
    words[at + 2] = len;
    memory.write32(4 * at + 8, len);
    written = true;
  }
  if (words[at + 3] !== link) {
    words[at + 3] = link;
    memory.write32(4 * at + 12, link);
    written = true;
  }
  return written;
};

/** Zeroes memory, for the device, too. */
export const clear = (memory: DmaMemory): void => {
  memory.copyIn(0, new Uint8Array(memory.size), 0, memory.size);
  memory.sync(0, memory.size, "prewrite");
};

/** Shows the device a range of descriptors. @param high exclusive; not above `low` when there is nothing */
export const syncDescs = (memory: DmaMemory, low: number, high: number): void => {
  if (high > low) memory.sync(low * VIRTQ_DESC_SIZE, (high - low) * VIRTQ_DESC_SIZE, "prewrite");
};
