import { copyBytes, Door } from "../bytes/index.js";
import type { DmaDoor } from "../contract/index.js";
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
  VIRTQ_DESC_SIZE,
  VIRTQ_PACKED_DESC_F_AVAIL,
  VIRTQ_PACKED_DESC_F_USED,
  VIRTQ_PACKED_DESC_FLAGS,
  VIRTQ_PACKED_DESC_ID,
} from "../spec/virtio.js";

/** Everything that can be wrong with a ring. */
export const RING_FAULTS = [
  "ring-misaligned",
  "ring-outside-memory",
  "avail-idx-jump",
  "head-out-of-range",
  "next-out-of-range",
  "chain-too-long",
  "chain-too-large",
  "list-not-available",
  "ring-oversubscribed",
  "readable-after-writable",
  "buffer-outside-memory",
  "indirect-not-negotiated",
  "indirect-with-next",
  "indirect-nested",
  "indirect-length",
  "indirect-outside-memory",
] as const;

/** What is wrong with a ring; also the code under which it is reported. */
export type RingFault = (typeof RING_FAULTS)[number];

/** Longest indirect table that is followed, entries; longer ones are, up to the queue's size. QEMU: VIRTQUEUE_MAX_SIZE */
const INDIRECT_MAX = 1024;
/** §2.7.5.2: no chain may be longer than 2³² bytes; lengths are 32-bit. */
export const CHAIN_MAX_BYTES = 0xffff_ffff;

/** The two flags of a packed descriptor that say whose it is, and what they are in a slot made available. §2.8.1 */
export const AVAIL_AND_USED = VIRTQ_PACKED_DESC_F_AVAIL | VIRTQ_PACKED_DESC_F_USED;
/** with wrap counter 1 */
export const AVAILABLE_IN_LAP_1 = VIRTQ_PACKED_DESC_F_AVAIL;
/** with wrap counter 0 */
export const AVAILABLE_IN_LAP_0 = VIRTQ_PACKED_DESC_F_USED;

const NO_DOOR: DmaDoor = new Door();
const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(new ArrayBuffer(0));

/**
 * A part of a ring, or an indirect table, located in guest memory. `flat` areas lie in one window and are read through its
 * view; others are read and written piece by piece. Located once per entry, valid while the door's generation stays.
 */
export class RingArea {
  address = 0;
  #view: DataView = NO_VIEW;
  #at = 0;
  #flat = false;
  #dma: DmaDoor = NO_DOOR;
  readonly #piece = new Uint8Array(4);
  readonly #pieceView = new DataView(this.#piece.buffer);

  /** @param length bytes; @returns false when a byte of it is no RAM (of the kind asked for) */
  locate(dma: DmaDoor, address: number, length: number, writable: boolean): boolean {
    this.address = address;
    this.#dma = dma;
    this.#flat = writable ? dma.locateWritable(address, length) : dma.locate(address, length);
    if (this.#flat) {
      this.#view = dma.view;
      this.#at = dma.at;
      return true;
    }
    return writable ? dma.containsWritable(address, length) : dma.contains(address, length);
  }

  /** Lets go of guest memory: reads give 0 from now on, writes nothing. */
  release(): void {
    this.#view = NO_VIEW;
    this.#dma = NO_DOOR;
    this.#flat = false;
  }

  get16(offset: number): number {
    if (this.#flat) return this.#view.getUint16(this.#at + offset, true);
    this.#fetch(offset, 2);
    return this.#pieceView.getUint16(0, true);
  }

  get32(offset: number): number {
    if (this.#flat) return this.#view.getUint32(this.#at + offset, true);
    this.#fetch(offset, 4);
    return this.#pieceView.getUint32(0, true);
  }

  /** The caller reports what it wrote to the door. */
  set16(offset: number, value: number): void {
    if (this.#flat) this.#view.setUint16(this.#at + offset, value, true);
    else {
      this.#pieceView.setUint16(0, value, true);
      this.#dma.write(this.address + offset, 2, this.#piece, 0);
    }
  }

  /** The caller reports what it wrote to the door. */
  set32(offset: number, value: number): void {
    if (this.#flat) this.#view.setUint32(this.#at + offset, value, true);
    else {
      this.#pieceView.setUint32(0, value, true);
      this.#dma.write(this.address + offset, 4, this.#piece, 0);
    }
  }

  #fetch(offset: number, length: number): void {
    this.#piece.fill(0);
    this.#dma.read(this.address + offset, length, this.#piece, 0);
  }
}

/**
 * Buffers of one direction, in order: what the descriptors said, checked and located once, and used from here on. A
 * segment in one window has its place in `bytes`; one across windows has `at` −1 and goes by address.
 */
export class SegmentList {
  count = 0;
  /** bytes over all segments */
  total = 0;
  address = new Float64Array(16);
  length = new Float64Array(16);
  /** index in `bytes`, or −1 */
  at = new Float64Array(16);
  bytes: Uint8Array[] = new Array<Uint8Array>(16).fill(NO_BYTES);
  /** set by `inOnePiece` */
  pieceBytes: Uint8Array = NO_BYTES;
  /** index in `pieceBytes` */
  pieceAt = 0;

  clear(): void {
    this.count = 0;
    this.total = 0;
  }

  /** Lets go of guest memory. */
  release(): void {
    this.clear();
    this.bytes.fill(NO_BYTES);
    this.pieceBytes = NO_BYTES;
  }

  /** Takes a segment that was checked; `at` and `bytes` as above. */
  add(address: number, length: number, at: number, bytes: Uint8Array): void {
    const i = this.count++;
    if (i === this.address.length) this.#grow();
    this.address[i] = address;
    this.length[i] = length;
    this.at[i] = at;
    this.bytes[i] = bytes;
    this.total += length;
  }

  /** Cuts the list back to a former `count` and `total`. */
  truncate(count: number, total: number): void {
    this.count = count;
    this.total = total;
  }

  /**
   * Whether a range lies in one piece of memory; `pieceBytes` and `pieceAt` then say where.
   * @param skip bytes from the start
   */
  inOnePiece(skip: number, length: number): boolean {
    for (let i = 0, from = skip; i < this.count; i++) {
      const size = this.length[i]!;
      if (from < size) {
        const at = this.at[i]!;
        if (from + length > size || at < 0) return false;
        this.pieceBytes = this.bytes[i]!;
        this.pieceAt = at + from;
        return true;
      }
      from -= size;
    }
    return false;
  }

  /** One byte. @param skip bytes from the start, below `total` */
  byteAt(dma: DmaDoor, skip: number, scratch: Uint8Array): number {
    for (let i = 0, from = skip; i < this.count; i++) {
      const size = this.length[i]!;
      if (from < size) {
        const at = this.at[i]!;
        if (at >= 0) return this.bytes[i]![at + from]!;
        dma.read(this.address[i]! + from, 1, scratch, 0);
        return scratch[0]!;
      }
      from -= size;
    }
    return 0;
  }

  /** Gathers `length` bytes from `skip` on into `target`; what lies beyond `total` is left out. */
  copyOut(dma: DmaDoor, skip: number, length: number, target: Uint8Array, targetStart: number): void {
    let from = skip;
    let left = length;
    let to = targetStart;
    for (let i = 0; left > 0 && i < this.count; i++) {
      const size = this.length[i]!;
      if (from >= size) {
        from -= size;
        continue;
      }
      const part = Math.min(left, size - from);
      const at = this.at[i]!;
      if (at < 0) dma.read(this.address[i]! + from, part, target, to);
      else copyBytes(this.bytes[i]!, at + from, part, target, to);
      to += part;
      left -= part;
      from = 0;
    }
  }

  /** Scatters `length` bytes of `source` from `skip` on, and reports them; what would lie beyond `total` is left out. */
  copyIn(dma: DmaDoor, skip: number, length: number, source: Uint8Array, sourceStart: number): void {
    let to = skip;
    let left = length;
    let from = sourceStart;
    for (let i = 0; left > 0 && i < this.count; i++) {
      const size = this.length[i]!;
      if (to >= size) {
        to -= size;
        continue;
      }
      const part = Math.min(left, size - to);
      const at = this.at[i]!;
      const address = this.address[i]! + to;
      if (at < 0) dma.write(address, part, source, from);
      else {
        copyBytes(source, from, part, this.bytes[i]!, at + to);
        dma.wrote(address, part);
      }
      from += part;
      left -= part;
      to = 0;
    }
  }

  #grow(): void {
    const size = 2 * this.address.length;
    for (const name of ["address", "length", "at"] as const) {
      const larger = new Float64Array(size);
      larger.set(this[name]);
      this[name] = larger;
    }
    this.bytes = this.bytes.concat(new Array<Uint8Array>(size / 2).fill(NO_BYTES));
  }
}

/**
 * Reusable reader of descriptor chains: `clear()`, then `load` one chain, or several after another for merged buffers.
 * Every descriptor is read once, checked, and kept as a segment; nothing of it is read from guest memory again.
 */
export class DescriptorChain {
  /** device-readable buffers, zero-length ones left out */
  readonly readable = new SegmentList();
  /** device-writable buffers, zero-length ones left out */
  readonly writable = new SegmentList();
  /** chains loaded since `clear` */
  chains = 0;
  /** descriptors read since `clear`, those of tables included */
  descriptors = 0;
  /** bytes of the longest chain; the queue says so at each `take` */
  maxBytes = CHAIN_MAX_BYTES;
  /** what `push` takes for each chain: the head of a split chain, or id | slots − 1 << 16 of a packed list */
  heads = new Int32Array(16);
  /** bytes of `writable` up to the end of each chain */
  ends = new Float64Array(16);
  fault: RingFault | null = null;
  /** the offending number of `fault` */
  faultValue = 0;
  readonly #indirect = new RingArea();

  clear(): void {
    this.readable.clear();
    this.writable.clear();
    this.chains = 0;
    this.descriptors = 0;
    this.fault = null;
  }

  /** Lets go of guest memory. */
  release(): void {
    this.clear();
    this.readable.release();
    this.writable.release();
    this.#indirect.release();
  }

  /**
   * Reads the chain from `head` to its end.
   * @param table the descriptor area; @param size entries of it, which is also the longest permitted chain
   * @param head below `size`; @param indirect whether VIRTIO_F_INDIRECT_DESC was accepted
   * @returns false on a `fault`; what was loaded of this chain is then taken back
   * @see VIRTIO 1.3 §2.7.5, §2.7.5.3
   */
  load(dma: DmaDoor, table: RingArea, size: number, head: number, indirect: boolean): boolean {
    const { readable, writable } = this;
    const readableCount = readable.count;
    const readableTotal = readable.total;
    const writableCount = writable.count;
    const writableTotal = writable.total;
    if (!this.#walk(dma, table, size, head, indirect)) {
      readable.truncate(readableCount, readableTotal);
      writable.truncate(writableCount, writableTotal);
      return false;
    }
    this.#loaded(head);
    return true;
  }

  /**
   * Reads the list of a packed ring that begins in a slot whose descriptor was seen to be available.
   * @param ring the descriptor ring; @param size slots of it; @param slot below `size`; @param wrap the device's wrap counter there
   * @param room slots that are not in flight, 1 … `size`
   * @returns slots of the list; 0 on a `fault`: what was loaded of it is then taken back
   * @see VIRTIO 1.3 §2.8.5 … §2.8.8
   */
  loadPacked(
    dma: DmaDoor,
    ring: RingArea,
    size: number,
    slot: number,
    wrap: boolean,
    room: number,
    indirect: boolean,
  ): number {
    const { readable, writable } = this;
    const readableCount = readable.count;
    const readableTotal = readable.total;
    const writableCount = writable.count;
    const writableTotal = writable.total;
    const slots = this.#walkPacked(dma, ring, size, slot, wrap, room, indirect);
    if (slots === 0) {
      readable.truncate(readableCount, readableTotal);
      writable.truncate(writableCount, writableTotal);
    }
    return slots;
  }

  #walk(dma: DmaDoor, direct: RingArea, size: number, head: number, indirect: boolean): boolean {
    const { readable, writable } = this;
    const before = readable.total + writable.total;
    let table = direct;
    let entries = size;
    let left = size;
    let inTable = false;
    let sawWritable = false;
    for (let index = head; ; ) {
      if (left-- === 0) return this.#stop("chain-too-long", head); // this is also how a loop ends
      if (index >= entries) return this.#stop("next-out-of-range", index);
      const at = index * VIRTQ_DESC_SIZE;
      const address = table.get32(at) + table.get32(at + 4) * 0x1_0000_0000;
      const length = table.get32(at + VIRTQ_DESC_LEN);
      const flagsAndNext = table.get32(at + 12);
      const flags = flagsAndNext & 0xffff;
      this.descriptors++;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (!indirect) return this.#stop("indirect-not-negotiated", index);
        if (inTable) return this.#stop("indirect-nested", index);
        if ((flags & VIRTQ_DESC_F_NEXT) !== 0) return this.#stop("indirect-with-next", index);
        // The device ignores WRITE here. §2.7.5.3.2
        entries = length / VIRTQ_DESC_SIZE;
        if (length === 0 || !Number.isInteger(entries) || entries > Math.max(size, INDIRECT_MAX))
          return this.#stop("indirect-length", length);
        table = this.#indirect;
        if (!table.locate(dma, address, length, false)) return this.#stop("indirect-outside-memory", address);
        left = entries;
        inTable = true;
        index = 0;
        continue;
      }
      // Zero-length buffers are skipped: some drivers add them (CVE-2024-35981), and they hold nothing to be wrong.
      if (length !== 0) {
        const write = (flags & VIRTQ_DESC_F_WRITE) !== 0;
        if (write) sawWritable = true;
        else if (sawWritable) return this.#stop("readable-after-writable", index);
        if (readable.total + writable.total - before + length > this.maxBytes)
          return this.#stop("chain-too-large", length);
        if (write ? dma.locateWritable(address, length) : dma.locate(address, length))
          (write ? writable : readable).add(address, length, dma.at, dma.bytes);
        else if (write ? dma.containsWritable(address, length) : dma.contains(address, length))
          (write ? writable : readable).add(address, length, -1, NO_BYTES);
        else return this.#stop("buffer-outside-memory", address);
      }
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return true;
      index = flagsAndNext >>> 16;
    }
  }

  #walkPacked(
    dma: DmaDoor,
    ring: RingArea,
    size: number,
    first: number,
    firstWrap: boolean,
    room: number,
    indirect: boolean,
  ): number {
    const { readable, writable } = this;
    const before = readable.total + writable.total;
    const writableCount = writable.count;
    let available = firstWrap ? AVAILABLE_IN_LAP_1 : AVAILABLE_IN_LAP_0;
    let slot = first;
    for (let slots = 1; ; slots++) {
      if (slots > room) return this.#refuse(slots > size ? "chain-too-long" : "ring-oversubscribed", first);
      const at = slot * VIRTQ_DESC_SIZE;
      const idAndFlags = ring.get32(at + VIRTQ_PACKED_DESC_ID);
      const flags = idAndFlags >>> 16;
      // The first one's flags are written last: when it is available, the others are. §2.8.17
      if ((flags & AVAIL_AND_USED) !== available) return this.#refuse("list-not-available", slot);
      const address = ring.get32(at) + ring.get32(at + 4) * 0x1_0000_0000;
      const length = ring.get32(at + VIRTQ_DESC_LEN);
      this.descriptors++;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (!indirect) return this.#refuse("indirect-not-negotiated", slot);
        // A table stands alone: it neither goes on nor ends a list. §2.8.19
        if (slots > 1 || (flags & VIRTQ_DESC_F_NEXT) !== 0) return this.#refuse("indirect-with-next", slot);
        if (!this.#packedTable(dma, address, length, size, before, writableCount)) return 0;
      } else if (
        length !== 0 &&
        !this.#add(dma, address, length, (flags & VIRTQ_DESC_F_WRITE) !== 0, slot, before, writableCount)
      )
        return 0;
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) {
        this.#loaded((idAndFlags & 0xffff) | ((slots - 1) << 16)); // the last one's id counts. §2.8.6
        return slots;
      }
      if (++slot === size) {
        slot = 0;
        available ^= AVAIL_AND_USED;
      }
    }
  }

  /** The entries of a table from the first to the last; only WRITE means anything in them. §2.8.7 */
  #packedTable(
    dma: DmaDoor,
    address: number,
    length: number,
    size: number,
    before: number,
    writableCount: number,
  ): boolean {
    const entries = length / VIRTQ_DESC_SIZE;
    if (length === 0 || !Number.isInteger(entries) || entries > Math.max(size, INDIRECT_MAX))
      return this.#stop("indirect-length", length);
    const table = this.#indirect;
    if (!table.locate(dma, address, length, false)) return this.#stop("indirect-outside-memory", address);
    for (let i = 0; i < entries; i++) {
      const at = i * VIRTQ_DESC_SIZE;
      const start = table.get32(at) + table.get32(at + 4) * 0x1_0000_0000;
      const bytes = table.get32(at + VIRTQ_DESC_LEN);
      const flags = table.get16(at + VIRTQ_PACKED_DESC_FLAGS);
      this.descriptors++;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) return this.#stop("indirect-nested", i);
      const write = (flags & VIRTQ_DESC_F_WRITE) !== 0;
      if (bytes !== 0 && !this.#add(dma, start, bytes, write, i, before, writableCount)) return false;
    }
    return true;
  }

  /**
   * Takes a buffer that holds something. @param index of its descriptor; @param before bytes and @param writableCount segments
   * loaded before this chain
   */
  #add(
    dma: DmaDoor,
    address: number,
    length: number,
    write: boolean,
    index: number,
    before: number,
    writableCount: number,
  ): boolean {
    const { readable, writable } = this;
    if (!write && writable.count > writableCount) return this.#stop("readable-after-writable", index);
    if (readable.total + writable.total - before + length > this.maxBytes) return this.#stop("chain-too-large", length);
    const list = write ? writable : readable;
    if (write ? dma.locateWritable(address, length) : dma.locate(address, length))
      list.add(address, length, dma.at, dma.bytes);
    else if (write ? dma.containsWritable(address, length) : dma.contains(address, length))
      list.add(address, length, -1, NO_BYTES);
    else return this.#stop("buffer-outside-memory", address);
    return true;
  }

  #loaded(handle: number): void {
    const k = this.chains++;
    if (k === this.heads.length) this.#grow();
    this.heads[k] = handle;
    this.ends[k] = this.writable.total;
  }

  #refuse(fault: RingFault, value: number): 0 {
    this.#stop(fault, value);
    return 0;
  }

  #stop(fault: RingFault, value: number): boolean {
    this.fault = fault;
    this.faultValue = value;
    return false;
  }

  #grow(): void {
    const heads = new Int32Array(2 * this.heads.length);
    heads.set(this.heads);
    this.heads = heads;
    const ends = new Float64Array(2 * this.ends.length);
    ends.set(this.ends);
    this.ends = ends;
  }
}
