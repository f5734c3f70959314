import type { DmaDoor } from "../../src/contract/index.js";
import {
  VIRTIO_BLK_DWZ_FLAGS,
  VIRTIO_BLK_DWZ_NUM_SECTORS,
  VIRTIO_BLK_DWZ_SECTOR,
  VIRTIO_BLK_DWZ_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_REQ_HEADER_SIZE,
  VIRTIO_BLK_REQ_SECTOR,
  VIRTIO_BLK_REQ_TYPE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_BARRIER,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_FLUSH_OUT,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../../src/spec/virtio-blk.js";
import type { DescriptorChain, SegmentList } from "../../src/virtio/index.js";
import type { BlockBackend } from "./backend.js";

/** What a disk has done since it was built; part of its state. */
export interface BlkCounters {
  readonly reads: number;
  readonly bytesRead: number;
  readonly writes: number;
  readonly bytesWritten: number;
  readonly flushes: number;
  /** DISCARD and WRITE_ZEROES */
  readonly discards: number;
  /** requests that were answered IOERR or UNSUPP, of any kind */
  readonly errors: number;
  readonly descriptorsRead: number;
  readonly doorbells: number;
  /** INTx rises and messages */
  readonly interrupts: number;
}

// Indices of `counters`.
export const READS = 0;
export const BYTES_READ = 1;
export const WRITES = 2;
export const BYTES_WRITTEN = 3;
export const FLUSHES = 4;
export const DISCARDS = 5;
export const ERRORS = 6;
export const DESCRIPTORS = 7;
export const COUNTERS = 8;

/** Sectors that one segment of DISCARD or WRITE_ZEROES may name: 2 GiB less one, as QEMU's. */
export const MAX_DISCARD_SECTORS = 0x3f_ffff;
/** Segments of such a request, as QEMU's. */
export const MAX_DISCARD_SEGMENTS = 1;
/**
 * Longest data of IN and OUT, bytes. Drivers keep to a few MiB; without a limit an indirect table that names the same memory
 * a thousand times would hold the host up for seconds.
 */
export const MAX_DATA = 64 * 2 ** 20;
/** bytes of memory that lies across windows are moved in pieces of this size */
const STAGING = 0x1_0000;

/** What a request needs to know of its disk. */
export interface Disk {
  readonly backend: BlockBackend;
  readonly readOnly: boolean;
  /** bytes of a logical block */
  readonly blkSize: number;
  /** 20 bytes */
  readonly id: Uint8Array;
  readonly counters: Float64Array;
}

/** Carries out one request after another: header, data and status as streams of bytes, however they are cut. §5.2.6 */
export class Request {
  /** bytes written from the first device-writable one on, without a gap: what the used ring may claim. §2.7.8.2 */
  written = 0;
  /** bytes that were moved or cleared: what the request cost */
  moved = 0;
  /** each write is on the medium before it is answered: the driver knows no flush, or asked for it. §5.2.5 */
  writeThrough = false;
  readonly #disk: Disk;
  readonly #header = new Uint8Array(VIRTIO_BLK_REQ_HEADER_SIZE);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #status = new Uint8Array(1);
  readonly #staging = new Uint8Array(STAGING);

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  /**
   * Serves the loaded chain, status included.
   * @returns false for one without room for header and status, of which nothing was done
   */
  serve(
    dma: DmaDoor,
    { readable, writable }: DescriptorChain,
    report: (code: string, value?: number) => void,
  ): boolean {
    this.written = this.moved = 0;
    if (readable.total < VIRTIO_BLK_REQ_HEADER_SIZE || writable.total < 1) return false;
    readable.copyOut(dma, 0, VIRTIO_BLK_REQ_HEADER_SIZE, this.#header, 0);
    const header = this.#headerView;
    const type = (header.getUint32(VIRTIO_BLK_REQ_TYPE, true) & ~VIRTIO_BLK_T_BARRIER) >>> 0;
    // Above 2⁵³ the sum is not exact, and beyond any disk all the same.
    const sector =
      header.getUint32(VIRTIO_BLK_REQ_SECTOR, true) + header.getUint32(VIRTIO_BLK_REQ_SECTOR + 4, true) * 0x1_0000_0000;
    const room = writable.total - 1; // the last byte is the status, whatever descriptor it shares. §2.7.4.1
    const status = this.#perform(dma, type, sector, readable, writable, room, report);
    if (status !== VIRTIO_BLK_S_OK) this.#disk.counters[ERRORS]!++;
    this.#status[0] = status;
    writable.copyIn(dma, room, 1, this.#status, 0);
    if (this.written === room) this.written++;
    return true;
  }

  #perform(
    dma: DmaDoor,
    type: number,
    sector: number,
    readable: SegmentList,
    writable: SegmentList,
    room: number,
    report: (code: string, value?: number) => void,
  ): number {
    switch (type) {
      case VIRTIO_BLK_T_IN:
        if (!this.#inside(sector, room)) return this.#refuse(report, "blk-out-of-range", sector);
        if (room > MAX_DATA) return this.#refuse(report, "blk-request-too-large", room);
        return this.#in(dma, sector * VIRTIO_BLK_SECTOR_SIZE, writable, room);
      case VIRTIO_BLK_T_OUT: {
        const length = readable.total - VIRTIO_BLK_REQ_HEADER_SIZE;
        if (this.#disk.readOnly) return this.#refuse(report, "blk-read-only", sector);
        if (!this.#inside(sector, length)) return this.#refuse(report, "blk-out-of-range", sector);
        if (length > MAX_DATA) return this.#refuse(report, "blk-request-too-large", length);
        return this.#out(dma, sector * VIRTIO_BLK_SECTOR_SIZE, readable);
      }
      case VIRTIO_BLK_T_FLUSH:
      case VIRTIO_BLK_T_FLUSH_OUT:
        this.#disk.counters[FLUSHES]!++;
        return this.#disk.backend.flush() ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
      case VIRTIO_BLK_T_GET_ID: {
        const length = Math.min(room, VIRTIO_BLK_ID_BYTES);
        writable.copyIn(dma, 0, length, this.#disk.id, 0);
        this.written = length;
        return VIRTIO_BLK_S_OK;
      }
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#discard(dma, type, readable, report);
      default:
        report("blk-unknown-type", type);
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  /** Whether a range of whole blocks lies within the disk. @param length bytes */
  #inside(sector: number, length: number): boolean {
    const { backend, blkSize } = this.#disk;
    const perBlock = blkSize / VIRTIO_BLK_SECTOR_SIZE;
    if (length % blkSize !== 0 || sector % perBlock !== 0) return false;
    return sector + length / VIRTIO_BLK_SECTOR_SIZE <= backend.size / VIRTIO_BLK_SECTOR_SIZE;
  }

  #refuse(report: (code: string, value?: number) => void, code: string, value: number): number {
    report(code, Math.min(value, Number.MAX_SAFE_INTEGER));
    return VIRTIO_BLK_S_IOERR;
  }

  /** From the disk to the device-writable segments. @param room bytes: all of them but the status */
  #in(dma: DmaDoor, offset: number, { count, address, length, at, bytes }: SegmentList, room: number): number {
    const { backend, counters } = this.#disk;
    counters[READS]!++;
    let from = offset;
    let left = room;
    for (let i = 0; left > 0 && i < count; i++) {
      const part = Math.min(left, length[i]!);
      if (at[i]! >= 0) {
        if (!backend.read(from, bytes[i]!, at[i]!, part)) return VIRTIO_BLK_S_IOERR;
        dma.wrote(address[i]!, part);
      } else if (!this.#inPieces(dma, from, address[i]!, part)) return VIRTIO_BLK_S_IOERR;
      from += part;
      left -= part;
      this.written += part;
      this.moved += part;
      counters[BYTES_READ]! += part;
    }
    return VIRTIO_BLK_S_OK;
  }

  #inPieces(dma: DmaDoor, offset: number, address: number, length: number): boolean {
    const staging = this.#staging;
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, STAGING);
      if (!this.#disk.backend.read(offset + done, staging, 0, part)) return false;
      dma.write(address + done, part, staging, 0);
      done += part;
    }
    return true;
  }

  /** From the device-readable segments behind the header to the disk. */
  #out(dma: DmaDoor, offset: number, { count, address, length, at, bytes }: SegmentList): number {
    const { backend, counters } = this.#disk;
    counters[WRITES]!++;
    let to = offset;
    let skip = VIRTIO_BLK_REQ_HEADER_SIZE;
    for (let i = 0; i < count; i++) {
      const size = length[i]!;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const part = size - skip;
      if (at[i]! >= 0) {
        if (!backend.write(to, bytes[i]!, at[i]! + skip, part)) return VIRTIO_BLK_S_IOERR;
      } else if (!this.#outPieces(dma, to, address[i]! + skip, part)) return VIRTIO_BLK_S_IOERR;
      to += part;
      skip = 0;
      this.moved += part;
      counters[BYTES_WRITTEN]! += part;
    }
    return this.#settled();
  }

  #outPieces(dma: DmaDoor, offset: number, address: number, length: number): boolean {
    const staging = this.#staging;
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, STAGING);
      dma.read(address + done, part, staging, 0);
      if (!this.#disk.backend.write(offset + done, staging, 0, part)) return false;
      done += part;
    }
    return true;
  }

  #discard(dma: DmaDoor, type: number, readable: SegmentList, report: (code: string, value?: number) => void): number {
    const { backend, readOnly, counters } = this.#disk;
    const zeroes = type === VIRTIO_BLK_T_WRITE_ZEROES;
    if (zeroes ? backend.writeZeroes === undefined : backend.discard === undefined) return VIRTIO_BLK_S_UNSUPP;
    const data = readable.total - VIRTIO_BLK_REQ_HEADER_SIZE;
    if (data > MAX_DISCARD_SEGMENTS * VIRTIO_BLK_DWZ_SIZE) {
      report("blk-discard-segments", data);
      return VIRTIO_BLK_S_UNSUPP;
    }
    if (data !== VIRTIO_BLK_DWZ_SIZE) return this.#refuse(report, "blk-discard-segments", data);
    readable.copyOut(dma, VIRTIO_BLK_REQ_HEADER_SIZE, VIRTIO_BLK_DWZ_SIZE, this.#header, 0);
    const segment = this.#headerView;
    const sector =
      segment.getUint32(VIRTIO_BLK_DWZ_SECTOR, true) +
      segment.getUint32(VIRTIO_BLK_DWZ_SECTOR + 4, true) * 0x1_0000_0000;
    const sectors = segment.getUint32(VIRTIO_BLK_DWZ_NUM_SECTORS, true);
    const flags = segment.getUint32(VIRTIO_BLK_DWZ_FLAGS, true);
    if ((flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0)) !== 0) {
      report("blk-discard-flags", flags);
      return VIRTIO_BLK_S_UNSUPP;
    }
    if (readOnly) return this.#refuse(report, "blk-read-only", sector);
    const bytes = sectors * VIRTIO_BLK_SECTOR_SIZE;
    if (sectors > MAX_DISCARD_SECTORS || !this.#inside(sector, bytes))
      return this.#refuse(report, "blk-out-of-range", sector);
    counters[DISCARDS]!++;
    this.moved = bytes;
    const offset = sector * VIRTIO_BLK_SECTOR_SIZE;
    const done = zeroes
      ? backend.writeZeroes?.(offset, bytes, (flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0)
      : backend.discard?.(offset, bytes);
    return done === true ? this.#settled() : VIRTIO_BLK_S_IOERR;
  }

  /** The end of a change to the disk. */
  #settled(): number {
    return this.writeThrough && !this.#disk.backend.flush() ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
  }
}
