import { VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_SIZE } from "../../spec/virtio.js";
import { type DmaMemory, type DmaTag, DriverError, type FrameSegments } from "../types.js";
import { clear, DescriptorTable } from "./virtqueue-table.js";

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
  /** IN_ORDER was accepted: descriptors are used in the order of the ring, on both sides. Default false */
  readonly inOrder?: boolean;
  /** for the ring and the indirect tables; they are freed with the queue */
  readonly tag: DmaTag;
  /** Rings the doorbell. @param next where the driver goes on: the upper half of notification data, §2.9 */
  readonly notifyVq: (index: number, next: number) => void;
}

/** Where the parts of a ring are, bytes from its start. The descriptor area begins it. */
export interface RingLayout {
  readonly driverArea: number;
  readonly deviceArea: number;
  /** of all of it */
  readonly bytes: number;
}

/**
 * A virtqueue from the driver's side, whatever its format: the ring's memory, its buffers, and when to notify and to be
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
  readonly bytes: number;
  /** physical addresses of the descriptor area, the driver area and the device area */
  readonly descPaddr: number;
  readonly availPaddr: number;
  readonly usedPaddr: number;
  protected readonly ring: DmaMemory;
  protected readonly driverArea: number; // offsets in `ring`
  protected readonly deviceArea: number;
  protected readonly tables: DescriptorTable | null; // of `maxIndirect` entries for each buffer id
  protected readonly maxIndirect: number;
  protected readonly eventIdx: boolean;
  protected readonly inOrder: boolean;
  readonly #notifyVq: VirtqueueOptions["notifyVq"];

  // By buffer id: the head of a split chain, or what a packed list is called.
  protected readonly cookies: Int32Array; // −1 where there is no buffer
  protected readonly slots: Uint16Array; // descriptors used
  protected readonly writable: Uint32Array; // device-writable bytes posted
  /** The next free id behind this one, or the next of its chain. With IN_ORDER always the next one of the ring. */
  protected readonly next: Uint16Array;
  protected freeId = 0; // the next buffer's
  protected free = 0; // descriptors
  /** of indirect descriptors and lists: what `notify` has to show the device */
  protected queued = 0;
  /** the last thing written to suppress interrupts */
  protected event = 0;
  #drained = 0; // id at which `drain` goes on

  // With IN_ORDER a used entry may stand for a batch of buffers. §2.7.9, §2.8.8
  protected batchEnd = -1; // id of the last buffer of the batch in hand; −1: there is none
  protected batchLen = 0; // bytes written to it
  protected oldest = 0; // id of the first buffer in flight

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

  /** @throws DriverError EINVAL for a size that is not in 1 … 32768; ResourceError ENOMEM */
  protected constructor(options: VirtqueueOptions, { driverArea, deviceArea, bytes }: RingLayout) {
    const { size, tag } = options;
    this.name = options.name;
    this.index = options.index;
    this.size = size;
    this.maxIndirect = options.maxIndirect > 1 ? Math.min(options.maxIndirect, size) : 0;
    this.eventIdx = options.eventIdx;
    this.inOrder = options.inOrder === true;
    this.#notifyVq = options.notifyVq;
    this.cookies = new Int32Array(size);
    this.slots = new Uint16Array(size);
    this.writable = new Uint32Array(size);
    this.next = new Uint16Array(size);
    this.bytes = bytes;
    this.driverArea = driverArea;
    this.deviceArea = deviceArea;
    this.ring = tag.alloc(bytes);
    try {
      const entries = size * this.maxIndirect;
      this.tables = entries > 0 ? new DescriptorTable(tag.alloc(entries * VIRTQ_DESC_SIZE), entries) : null;
    } catch (error) {
      this.ring[Symbol.dispose]();
      throw error;
    }
    this.descPaddr = this.ring.paddr;
    this.availPaddr = this.ring.paddr + driverArea;
    this.usedPaddr = this.ring.paddr + deviceArea;
  }

  /** Frees the ring. The device must have been reset. */
  [Symbol.dispose](): void {
    this.tables?.memory[Symbol.dispose]();
    this.ring[Symbol.dispose]();
  }

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
  /** Where the next buffer will stand: an index, or a slot and its wrap counter. 16 bits. §2.9 */
  abstract get nextAvail(): number;

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
  notify(): boolean {
    const { queued } = this;
    if (queued === 0) return false;
    this.queued = 0;
    this.tables?.publish();
    this.publish(queued);
    // Only after it is visible may the suppression be tested: the device re-arms, then looks again. §2.7.13.4, §2.8.21.3
    if (!this.isWanted(queued)) return false;
    this.notifies++;
    this.#notifyVq(this.index, this.nextAvail);
    return true;
  }

  /** Takes back the next buffer that the device has used. @returns its cookie, its length in `usedLen`; or −1 */
  abstract dequeue(): number;

  /** Asks for an interrupt at the next used buffer. @returns whether one is there already: then look before you wait */
  enableIntr(): boolean {
    return this.arm(0);
  }

  /**
   * Asks for an interrupt when a part of what is outstanding is used.
   * @returns whether that much may be used already: then look before you wait
   */
  postponeIntr(hint: Postpone): boolean {
    const { outstanding } = this;
    if (hint === "short") return this.arm(outstanding >> 2);
    if (hint === "long") return this.arm((outstanding * 3) >> 2);
    // Deviation: FreeBSD's virtqueue.c adds the full count, which is one more than can arrive.
    return this.arm(outstanding > 0 ? outstanding - 1 : 0);
  }

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

  // ---------------------------------------------------------------------------------------------- for the formats

  /** Shows the device the last `queued` things. */
  protected abstract publish(queued: number): void;
  /** Whether the device wants to hear of them. */
  protected abstract isWanted(queued: number): boolean;
  /** what the device has and may give back, in the unit of `arm` */
  protected abstract get outstanding(): number;
  /** Asks for an interrupt once `ahead` more were used and then one. @returns whether that much may be used already */
  protected abstract arm(ahead: number): boolean;

  /** Empties the ring. */
  protected start(): void {
    clear(this.ring);
    if (this.tables !== null) {
      clear(this.tables.memory);
      this.tables.forget();
    }
    this.ring.sync(this.deviceArea, this.bytes - this.deviceArea, "preread");
    this.cookies.fill(-1);
    const last = this.size - 1;
    for (let i = 0; i < last; i++) this.next[i] = i + 1;
    this.next[last] = 0; // a list is never followed so far, but a ring goes on there
    this.freeId = this.oldest = this.queued = this.event = this.inFlight = 0;
    this.batchEnd = -1;
    this.free = this.size;
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

  /** Fills the table of a buffer. @param linked the entries name their next one, as a split ring has it @returns device-writable bytes */
  protected fillTable(id: number, segments: FrameSegments, readable: number, needed: number, linked: boolean): number {
    const { paddr, len } = segments;
    const tables = this.tables as DescriptorTable; // not null: maxIndirect is 0 without
    const first = id * this.maxIndirect;
    let writableBytes = 0;
    for (let i = 0; i < needed; i++) {
      let link = linked && i + 1 < needed ? VIRTQ_DESC_F_NEXT | ((i + 1) << 16) : 0;
      if (i >= readable) {
        link |= linked ? VIRTQ_DESC_F_WRITE : VIRTQ_DESC_F_WRITE << 16; // a packed one has its flags at the end
        writableBytes += len[i]!;
      }
      tables.write(first + i, paddr[i]!, len[i]!, link >>> 0);
    }
    return writableBytes;
  }

  /** Address of the table of a buffer. */
  protected tableOf(id: number): number {
    return (this.tables as DescriptorTable).memory.paddr + id * this.maxIndirect * VIRTQ_DESC_SIZE;
  }

  /** Gives a used buffer back. @param len bytes written, as the device says @returns its cookie */
  protected finish(id: number, len: number): number {
    const cookie = this.cookies[id]!;
    const posted = this.writable[id]!;
    if (len > posted) this.badLengths++;
    this.usedLen = len > posted ? posted : len;
    this.release(id);
    return cookie;
  }

  /**
   * Gives the next buffer of the batch in hand back; those before the last one count as used completely. §2.7.9, §2.8.8
   * @returns its cookie
   */
  protected finishInBatch(): number {
    const id = this.oldest;
    const isLast = id === this.batchEnd;
    if (isLast) this.batchEnd = -1;
    this.oldest = this.behind(id);
    return this.finish(id, isLast ? this.batchLen : this.writable[id]!);
  }

  /** With IN_ORDER: id of the buffer enqueued after this one. */
  protected abstract behind(id: number): number;

  /** Last of the descriptors that go back with a buffer. */
  protected abstract lastOf(id: number): number;

  /** Gives the descriptors of a buffer back. */
  protected release(id: number): void {
    if (!this.inOrder) {
      this.next[this.lastOf(id)] = this.freeId;
      this.freeId = id;
    }
    this.free += this.slots[id]!;
    this.cookies[id] = -1;
    this.inFlight--;
  }
}
