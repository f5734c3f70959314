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
import { DriverError, type FrameSegments } from "../types.js";
import { type RingLayout, Virtqueue, type VirtqueueOptions, VQ_OK } from "./virtqueue.js";
import { DescriptorTable } from "./virtqueue-table.js";

const layoutOf = ({ name, size, align }: VirtqueueOptions): RingLayout => {
  if (!(Number.isInteger(size) && size >= 1 && size <= VIRTQ_MAX_SIZE && (size & (size - 1)) === 0))
    throw new DriverError("EINVAL", `${name}: a virtqueue of ${size} descriptors is no power of two up to 32768`);
  const driverArea = virtqDescBytes(size);
  const deviceArea = Math.ceil((driverArea + virtqAvailBytes(size)) / align) * align;
  return { driverArea, deviceArea, bytes: deviceArea + virtqUsedBytes(size) };
};

/**
 * A split virtqueue. What `enqueue` writes is synced, range by range, by `notify`: descriptors first, then the entries of the
 * available ring, then its index. @see VIRTIO 1.3 §2.7.13, §2.7.14
 */
export class SplitVirtqueue extends Virtqueue {
  readonly #mask: number;
  readonly #avail: number; // offsets in the ring
  readonly #used: number;
  readonly #desc: DescriptorTable;
  #availIdx = 0; // free-running, modulo 65536, like the two below
  #usedIdx = 0; // as last read
  #consumed = 0; // used entries looked at

  /** @throws DriverError EINVAL for a size that is no power of two up to 32768; ResourceError ENOMEM */
  constructor(options: VirtqueueOptions) {
    super(options, layoutOf(options));
    this.#mask = this.size - 1;
    this.#avail = this.driverArea;
    this.#used = this.deviceArea;
    this.#desc = new DescriptorTable(this.ring, this.size);
    this.start();
  }

  get nextAvail(): number {
    return this.#availIdx;
  }

  enqueue(cookie: number, segments: FrameSegments, readable: number, writable: number): number {
    const needed = readable + writable;
    const error = this.fits(needed);
    if (error !== VQ_OK) return error;
    const indirect = needed > 1 && needed <= this.maxIndirect;
    const head = this.freeId;
    let writableBytes = 0;
    if (indirect) {
      writableBytes = this.fillTable(head, segments, readable, needed, true);
      this.#desc.write(head, this.tableOf(head), needed * VIRTQ_DESC_SIZE, VIRTQ_DESC_F_INDIRECT);
      this.freeId = this.next[head]!;
    } else {
      const { paddr, len } = segments;
      let at = head;
      for (let i = 0; i < needed; i++) {
        const next = this.next[at]!;
        let link = i + 1 < needed ? VIRTQ_DESC_F_NEXT | (next << 16) : 0;
        if (i >= readable) {
          link |= VIRTQ_DESC_F_WRITE;
          writableBytes += len[i]!;
        }
        this.#desc.write(at, paddr[i]!, len[i]!, link >>> 0);
        at = next;
      }
      this.freeId = at;
    }
    this.post(head, cookie, indirect ? 1 : needed, writableBytes);
    // The entry first, then the index that shows it. §2.7.13
    this.ring.write16(this.#avail + VIRTQ_AVAIL_RING + 2 * (this.#availIdx & this.#mask), head);
    this.#availIdx = (this.#availIdx + 1) & 0xffff;
    this.ring.write16(this.#avail + VIRTQ_AVAIL_IDX, this.#availIdx);
    this.queued++;
    return VQ_OK;
  }

  dequeue(): number {
    for (;;) {
      if (this.#consumed === this.#usedIdx && !this.#look()) return -1;
      if (this.batchEnd >= 0) {
        this.#consumed = (this.#consumed + 1) & 0xffff;
        return this.finishInBatch();
      }
      const at = this.#used + VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * (this.#consumed & this.#mask);
      const id = this.ring.read32(at);
      const len = this.ring.read32(at + 4);
      if (id < this.size && this.cookies[id]! >= 0) {
        if (this.inOrder) {
          this.batchEnd = id;
          this.batchLen = len;
          continue;
        }
        this.#consumed = (this.#consumed + 1) & 0xffff;
        return this.finish(id, len);
      }
      this.badIds++;
      this.#consumed = (this.#consumed + 1) & 0xffff;
      if (!this.inOrder) continue; // ends: #look admits no more entries than there are buffers in flight
      this.#break(); // how many buffers were meant nobody knows
      return -1;
    }
  }

  disableIntr(): void {
    // With EVENT_IDX an event that lies a ring's length behind is not passed soon, as FreeBSD does it.
    this.#writeEvent(this.eventIdx ? (this.#consumed - this.size - 1) & 0xffff : VIRTQ_AVAIL_F_NO_INTERRUPT);
  }

  /** Descriptors, entries of the available ring, and its index last. */
  protected publish(queued: number): void {
    const { ring } = this;
    this.#desc.publish();
    const entries = this.#avail + VIRTQ_AVAIL_RING;
    const first = (this.#availIdx - queued) & this.#mask;
    if (first + queued <= this.size) ring.sync(entries + 2 * first, 2 * queued, "prewrite");
    else ring.sync(entries, 2 * this.size, "prewrite");
    ring.sync(this.#avail + VIRTQ_AVAIL_IDX, 2, "prewrite");
  }

  protected isWanted(queued: number): boolean {
    const { ring } = this;
    if (this.eventIdx) {
      const at = this.#used + VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * this.size;
      ring.sync(at, 2, "postread");
      return virtqNeedEvent(ring.read16(at), this.#availIdx, this.#availIdx - queued);
    }
    ring.sync(this.#used + VIRTQ_USED_FLAGS, 2, "postread");
    return (ring.read16(this.#used + VIRTQ_USED_FLAGS) & VIRTQ_USED_F_NO_NOTIFY) === 0;
  }

  /** buffers */
  protected get outstanding(): number {
    return (this.#availIdx - this.#consumed) & 0xffff;
  }

  protected arm(ahead: number): boolean {
    this.#writeEvent(this.eventIdx ? (this.#consumed + ahead) & 0xffff : 0);
    // The device may have used them before it could see the event: without this look they would wait for ever. §2.7.7.1
    this.#look();
    return ((this.#usedIdx - this.#consumed) & 0xffff) > ahead;
  }

  protected override start(): void {
    super.start();
    this.#desc.forget();
    this.#availIdx = this.#usedIdx = this.#consumed = 0;
  }

  protected behind(id: number): number {
    return (id + this.slots[id]!) & this.#mask;
  }

  protected lastOf(head: number): number {
    let last = head;
    for (let i = this.slots[head]! - 1; i > 0; i--) last = this.next[last]!;
    return last;
  }

  /** Reads the used index and, only then, makes the entries readable. @returns whether there are any. §2.7.14 */
  #look(): boolean {
    if (this.broken) return false;
    const { ring } = this;
    ring.sync(this.#used + VIRTQ_USED_IDX, 2, "postread");
    const idx = ring.read16(this.#used + VIRTQ_USED_IDX);
    const count = (idx - this.#consumed) & 0xffff;
    if (count === 0) return false;
    if (count > this.inFlight) {
      this.overruns++;
      this.#break();
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

  /** Nothing more is taken out until `reinit`. */
  #break(): void {
    this.broken = true;
    this.#usedIdx = this.#consumed;
  }

  #writeEvent(value: number): void {
    if (value === this.event) return;
    this.event = value;
    const at = this.#avail + (this.eventIdx ? VIRTQ_AVAIL_RING + 2 * this.size : VIRTQ_AVAIL_FLAGS);
    this.ring.write16(at, value);
    this.ring.sync(at, 2, "prewrite");
  }
}
