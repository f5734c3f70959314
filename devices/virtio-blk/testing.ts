/** A host and a raw driver for this folder's own tests; numbers are the standard's, none come from src/spec. */
import { WindowedMemory } from "../../src/bytes/index.js";
import type { Clock, Diagnostic, HostInterrupts, HostSeams, QueueRunner, Work } from "../../src/contract/index.js";
import { type BlockBackend, type VirtioBlkFunction, type VirtioBlkOptions, virtioBlk } from "./index.js";

const GUARD = 256;
const GUARD_BYTE = 0xa5;

const NO_CLOCK: Clock = {
  now: () => 0,
  timer: () => ({ deadline: Number.POSITIVE_INFINITY, arm() {}, cancel() {}, [Symbol.dispose]() {} }),
};

export class TestWork implements Work {
  /** do nothing on a doorbell; the test calls `turn` */
  deferred = false;
  runner: QueueRunner | null = null;
  bind(runner: QueueRunner): void {
    this.runner = runner;
  }
  request(queue: number): void {
    if (!this.deferred) this.runNow(queue);
  }
  runNow(queue: number): void {
    for (let turns = 0; turns < 100 && this.turn(queue, 512) >= 512; turns++);
  }
  turn(queue: number, budget: number): number {
    return this.runner?.runQueue(queue, budget) ?? 0;
  }
  clear(): void {}
}

/** RAM with guard bytes around each window. */
export class TestHost implements HostSeams {
  readonly memory: WindowedMemory;
  readonly interrupts: HostInterrupts;
  readonly clock = NO_CLOCK;
  readonly work = new TestWork();
  readonly strictness = "lenient";
  readonly report: (diagnostic: Diagnostic) => void;
  readonly reports: string[] = [];
  readonly written: [start: number, end: number][] = [];
  intx = false;
  /** levels in the order in which they came */
  readonly levels: number[] = [];
  readonly #backing: Uint8Array[];
  readonly #windows: readonly { readonly base: number; readonly size: number }[];

  constructor(windows: readonly { base: number; size: number }[] = [{ base: 0, size: 0x80_0000 }]) {
    this.#windows = windows;
    this.#backing = windows.map(({ size }) => new Uint8Array(size + 2 * GUARD).fill(GUARD_BYTE));
    this.memory = new WindowedMemory(
      windows.map(({ base, size }, i) => ({ base, bytes: this.#backing[i]!.subarray(GUARD, GUARD + size).fill(0) })),
      (start, end) => this.written.push([start, end]),
    );
    this.interrupts = {
      setIntx: (level) => {
        this.intx = level;
        this.levels.push(level ? 1 : 0);
      },
      message: () => {},
    };
    this.report = ({ code }) => this.reports.push(code);
  }

  guardsIntact(): boolean {
    return this.#backing.every((bytes) =>
      [bytes.subarray(0, GUARD), bytes.subarray(bytes.length - GUARD)].every((g) => g.every((b) => b === GUARD_BYTE)),
    );
  }

  bytesAt(address: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => {
      const [backing, at] = this.#byte(address + i);
      return backing[at]!;
    });
  }

  put(address: number, bytes: ArrayLike<number>): void {
    for (let i = 0; i < bytes.length; i++) {
      const [backing, at] = this.#byte(address + i);
      backing[at] = bytes[i]!;
    }
  }

  get(address: number, width: number): number {
    return this.bytesAt(address, width).reduceRight((value, byte) => value * 256 + byte, 0);
  }

  set(address: number, width: number, value: number): void {
    this.put(
      address,
      Array.from({ length: width }, (_, i) => Math.floor(value / 256 ** i) % 256),
    );
  }

  #byte(address: number): [Uint8Array, number] {
    const i = this.#windows.findIndex(({ base, size }) => address >= base && address < base + size);
    if (i < 0) throw new RangeError(`test: no RAM at ${address}`);
    return [this.#backing[i]!, GUARD + address - this.#windows[i]!.base];
  }
}

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

export const NEXT = 1;
export const WRITE = 2;
const RING = 0x40_0000;
const RING_STRIDE = 0x1_0000;
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
  readonly windows?: readonly { base: number; size: number }[];
}

/** [address, length, flags without NEXT] */
export type Piece = readonly [address: number, length: number, flags: number];

/** A card with its queues set up by raw accesses, rings laid out as the legacy interface wants them. */
export class Guest {
  readonly host: TestHost;
  readonly card: VirtioBlkFunction;
  readonly disk: TestDisk;
  readonly modern: boolean;
  readonly size: number;
  readonly queues: number;

  constructor(options: GuestOptions = {}) {
    const { card = {}, disk = new TestDisk(), via = "modern", features = 0, size = 256, windows } = options;
    this.host = new TestHost(windows);
    this.disk = disk;
    this.size = size;
    this.queues = card.queues ?? 1;
    this.card = virtioBlk({ backend: disk, queueSize: size, ...card });
    this.modern = via === "modern";
    this.card.connect(this.host);
    this.card.configWrite(0x04, 2, 7);
    this.setUp(features);
  }

  /** From reset to DRIVER_OK, with empty rings. */
  setUp(features: number): void {
    for (let queue = 0; queue < this.queues; queue++) this.host.put(this.desc(queue), new Uint8Array(0x4000));
    this.status = 0;
    this.status = 1;
    this.status = 3;
    if (this.modern) {
      this.out(0x08, 4, 0);
      this.out(0x0c, 4, features);
      this.out(0x08, 4, 1);
      this.out(0x0c, 4, 1);
      this.status = 0x0b;
    } else this.card.barWrite(0, 0x04, 4, features);
    for (let queue = 0; queue < this.queues; queue++) {
      if (this.modern) {
        this.out(0x16, 2, queue);
        this.out(0x20, 4, this.desc(queue));
        this.out(0x28, 4, this.avail(queue));
        this.out(0x30, 4, this.used(queue));
        this.out(0x1c, 2, 1);
      } else {
        this.card.barWrite(0, 0x0e, 2, queue);
        this.card.barWrite(0, 0x08, 4, this.desc(queue) / 4096);
      }
    }
    this.status = this.modern ? 0x0f : 0x07;
  }

  get status(): number {
    return this.modern ? this.card.barRead(4, 0x14, 1) : this.card.barRead(0, 0x12, 1);
  }
  set status(value: number) {
    if (this.modern) this.out(0x14, 1, value);
    else this.card.barWrite(0, 0x12, 1, value);
  }
  get isr(): number {
    return this.modern ? this.card.barRead(4, 0x1000, 1) : this.card.barRead(0, 0x13, 1);
  }
  /** Device configuration. */
  config(at: number, width: 1 | 2 | 4): number {
    return this.modern ? this.card.barRead(4, 0x2000 + at, width) : this.card.barRead(0, 0x14 + at, width);
  }
  setConfig(at: number, width: 1 | 2 | 4, value: number): void {
    if (this.modern) this.out(0x2000 + at, width, value);
    else this.card.barWrite(0, 0x14 + at, width, value);
  }
  /** Feature bits 31–0 as offered. */
  get offered(): number {
    if (!this.modern) return this.card.barRead(0, 0, 4);
    this.out(0, 4, 0);
    return this.card.barRead(4, 4, 4);
  }

  desc(queue = 0): number {
    return RING + RING_STRIDE * queue;
  }
  avail(queue = 0): number {
    return this.desc(queue) + 16 * this.size;
  }
  used(queue = 0): number {
    return Math.ceil((this.avail(queue) + 6 + 2 * this.size) / 4096) * 4096;
  }

  describe(i: number, address: number, length: number, flags: number, next = 0, queue = 0): void {
    const at = this.desc(queue) + 16 * i;
    this.host.set(at, 8, address);
    this.host.set(at + 8, 4, length);
    this.host.set(at + 12, 2, flags);
    this.host.set(at + 14, 2, next);
  }
  available(head: number, queue = 0): void {
    const idx = this.host.get(this.avail(queue) + 2, 2);
    this.host.set(this.avail(queue) + 4 + 2 * (idx % this.size), 2, head);
    this.host.set(this.avail(queue) + 2, 2, (idx + 1) & 0xffff);
  }
  usedIdx(queue = 0): number {
    return this.host.get(this.used(queue) + 2, 2);
  }
  /** [id, len] */
  entry(i: number, queue = 0): [number, number] {
    const at = this.used(queue) + 4 + 8 * (i % this.size);
    return [this.host.get(at, 4), this.host.get(at + 4, 4)];
  }
  notify(queue = 0): void {
    if (this.modern) this.out(0x3000 + 4 * queue, 2, queue);
    else this.card.barWrite(0, 0x10, 2, queue);
  }

  /** A chain from pieces, from descriptor `head` on. */
  chain(head: number, pieces: readonly Piece[], queue = 0): void {
    for (const [i, [address, length, flags]] of pieces.entries()) {
      const last = i === pieces.length - 1;
      this.describe(head + i, address, length, last ? flags : flags | NEXT, last ? 0 : head + i + 1, queue);
    }
    this.available(head, queue);
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
    this.chain(0, [[HEADER, 16, 0], ...data, [STATUS, 1, WRITE]], queue);
    this.notify(queue);
    if (this.usedIdx(queue) !== ((before + 1) & 0xffff)) return [-1, -1];
    return [this.host.get(STATUS, 1), this.entry(before, queue)[1]];
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

  out(at: number, width: 1 | 2 | 4, value: number): void {
    this.card.barWrite(4, at, width, value);
  }
}
