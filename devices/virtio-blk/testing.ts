/** A host and a raw driver for this folder's own tests; numbers are the standard's, none come from src/spec. */
import type { RamWindow } from "../../src/bytes/testing.js";
import { type Piece, RawGuest, TestHost } from "../../src/virtio/testing.js";
import { type BlockBackend, type VirtioBlkFunction, type VirtioBlkOptions, virtioBlk } from "./index.js";

const RAM: readonly RamWindow[] = [{ base: 0, size: 0x80_0000 }];

/** A host with room for rings and buffers. */
export const hostOf = (windows: readonly RamWindow[] = RAM): TestHost => new TestHost(windows);

/** A backend that writes down what is asked of it, over bytes of its own; fails when told. */
export class TestDisk implements BlockBackend {
  readonly bytes: Uint8Array;
  readonly size: number;
  readonly readOnly: boolean;
  readonly id = "disk";
  readonly log: string[] = [];
  fail = false;

  constructor(size = 64 * 512, readOnly = false) {
    this.bytes = Uint8Array.from({ length: size }, (_, i) => (i * 7 + (i >> 9) * 13) & 0xff);
    this.size = size;
    this.readOnly = readOnly;
  }
  read(offset: number, target: Uint8Array, start: number, length: number): boolean {
    this.log.push(`read ${offset}+${length}`);
    if (this.#outside(offset, length)) return false;
    target.set(this.bytes.subarray(offset, offset + length), start);
    return true;
  }
  write(offset: number, source: Uint8Array, start: number, length: number): boolean {
    this.log.push(`write ${offset}+${length}`);
    if (this.#outside(offset, length)) return false;
    this.bytes.set(source.subarray(start, start + length), offset);
    return true;
  }
  flush(): boolean {
    this.log.push("flush");
    return !this.fail;
  }
  discard(offset: number, length: number): boolean {
    this.log.push(`discard ${offset}+${length}`);
    if (this.#outside(offset, length)) return false;
    this.bytes.fill(0xdd, offset, offset + length);
    return true;
  }
  writeZeroes(offset: number, length: number, mayUnmap: boolean): boolean {
    this.log.push(`zero ${offset}+${length}${mayUnmap ? " unmap" : ""}`);
    if (this.#outside(offset, length)) return false;
    this.bytes.fill(0, offset, offset + length);
    return true;
  }
  #outside(offset: number, length: number): boolean {
    if (offset < 0 || length < 0 || offset + length > this.size) throw new Error("test: asked beyond the disk");
    return this.fail;
  }
}

export type { Piece };
export const NEXT = 1;
export const WRITE = 2;
/** header, then data a page on, then status */
export const HEADER = 0x50_0000;
export const DATA = 0x51_0000;
export const STATUS = 0x7f_0000;

export const F_INDIRECT = 2 ** 28;
export const F_EVENT_IDX = 2 ** 29;

export interface GuestOptions {
  readonly card?: VirtioBlkOptions;
  readonly disk?: TestDisk;
  /** through which interface; default "modern" */
  readonly via?: "legacy" | "modern";
  /** bits 0 … 31 */
  readonly features?: number;
  /** descriptors of each queue; default 256 */
  readonly size?: number;
  readonly windows?: readonly RamWindow[];
}

/** A card with its queues set up and running. */
export class Guest extends RawGuest {
  readonly card: VirtioBlkFunction;
  readonly disk: TestDisk;
  readonly queues: number;

  constructor(options: GuestOptions = {}) {
    const {
      card: cardOptions = {},
      disk = new TestDisk(),
      via = "modern",
      features = 0,
      size = 256,
      windows,
    } = options;
    const card = virtioBlk({ backend: disk, queueSize: size, ...cardOptions });
    super(hostOf(windows), card, via, () => size);
    this.card = card;
    this.disk = disk;
    this.queues = cardOptions.queues ?? 1;
    this.setUp(features);
  }

  /** From reset to DRIVER_OK, with empty rings. */
  setUp(features: number): void {
    this.prepare([...Array(this.queues).keys()], features, 0);
    this.driverOk();
  }

  /** Feature bits 31–0 as offered. */
  get offered(): number {
    if (!this.modern) return this.card.barRead(0, 0, 4);
    this.out(0, 4, 0);
    return this.card.barRead(4, 4, 4);
  }

  /** A chain of the first queue, from descriptor `head` on. */
  post(head: number, pieces: readonly Piece[]): void {
    this.chain(0, head, ...pieces);
  }

  header(type: number, sector: number, at = HEADER): void {
    this.host.set(at, 4, type);
    this.host.set(at + 4, 4, 0);
    this.host.set(at + 8, 8, sector);
  }

  /** One request with pieces of data in the usual framing. @returns its status byte and used length; [−1, −1] without an answer */
  request(type: number, sector: number, data: readonly Piece[], queue = 0): [status: number, len: number] {
    this.header(type, sector);
    this.host.set(STATUS, 1, 0xee);
    const before = this.usedIdx(queue);
    this.chain(queue, 0, [HEADER, 16, 0], ...data, [STATUS, 1, WRITE]);
    this.notify(queue);
    if (this.usedIdx(queue) !== ((before + 1) & 0xffff)) return [-1, -1];
    return [this.host.get(STATUS, 1), this.entry(queue, before)[1]];
  }

  read(sector: number, length: number): [status: number, len: number] {
    return this.request(0, sector, length === 0 ? [] : [[DATA, length, WRITE]]);
  }
  write(sector: number, bytes: ArrayLike<number>): [status: number, len: number] {
    this.host.put(DATA, bytes);
    return this.request(1, sector, bytes.length === 0 ? [] : [[DATA, bytes.length, 0]]);
  }
  /** DISCARD (11) or WRITE_ZEROES (13) of segments [sector, sectors, flags]. */
  ranges(type: number, ...segments: readonly (readonly [number, number, number])[]): [status: number, len: number] {
    for (const [i, [sector, sectors, flags]] of segments.entries()) {
      this.host.set(DATA + 16 * i, 8, sector);
      this.host.set(DATA + 16 * i + 8, 4, sectors);
      this.host.set(DATA + 16 * i + 12, 4, flags);
    }
    return this.request(type, 0, segments.length === 0 ? [] : [[DATA, 16 * segments.length, 0]]);
  }
}
