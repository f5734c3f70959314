/** Guest memory for tests, this room's and others'; not exported from the room. */
import { WindowedMemory } from "./guest-memory.js";

const GUARD = 256;
const GUARD_BYTE = 0xa5;

export interface RamWindow {
  readonly base: number;
  /** bytes */
  readonly size: number;
}

/** RAM in windows of zeros with guard bytes around each, read and written by address a byte at a time. */
export class GuardedRam {
  readonly memory: WindowedMemory;
  /** ranges that were told as written, `end` exclusive */
  readonly written: [start: number, end: number][] = [];
  readonly #backing: readonly Uint8Array[];
  readonly #windows: readonly RamWindow[];

  constructor(windows: readonly RamWindow[]) {
    this.#windows = windows;
    this.#backing = windows.map(({ size }) => {
      const bytes = new Uint8Array(size + 2 * GUARD);
      return bytes.fill(GUARD_BYTE, 0, GUARD).fill(GUARD_BYTE, GUARD + size);
    });
    this.memory = new WindowedMemory(
      windows.map(({ base, size }, i) => ({ base, bytes: this.#backing[i]!.subarray(GUARD, GUARD + size) })),
      (start, end) => this.written.push([start, end]),
    );
  }

  /** Whether nothing was written beside the windows. */
  guardsIntact(): boolean {
    return this.#backing.every((bytes) =>
      [bytes.subarray(0, GUARD), bytes.subarray(bytes.length - GUARD)].every((g) => g.every((b) => b === GUARD_BYTE)),
    );
  }

  hasRam(address: number): boolean {
    return this.#windows.some(({ base, size }) => address >= base && address < base + size);
  }

  byte(address: number): number {
    const i = this.#find(address);
    return this.#backing[i]![GUARD + address - this.#windows[i]!.base]!;
  }

  setByte(address: number, value: number): void {
    const i = this.#find(address);
    this.#backing[i]![GUARD + address - this.#windows[i]!.base] = value;
  }

  /** A copy. */
  copyOf(address: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#pieces(address, length, (backing, at, done, count) => bytes.set(backing.subarray(at, at + count), done));
    return bytes;
  }

  put(address: number, bytes: ArrayLike<number>): void {
    this.#pieces(address, bytes.length, (backing, at, done, count) => {
      for (let i = 0; i < count; i++) backing[at + i] = bytes[done + i]!;
    });
  }

  /** A little-endian number, exact up to 2⁵³. @param width bytes */
  get(address: number, width: number): number {
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + this.byte(address + i);
    return value;
  }

  /** A little-endian number; its bits above 2⁵³ are rounded. @param width bytes */
  set(address: number, width: number, value: number): void {
    for (let i = 0, rest = value; i < width; i++, rest = Math.floor(rest / 256)) this.setByte(address + i, rest % 256);
  }

  #find(address: number): number {
    const windows = this.#windows;
    for (let i = 0; i < windows.length; i++) {
      const { base, size } = windows[i]!;
      if (address >= base && address < base + size) return i;
    }
    throw new RangeError(`test: no RAM at ${address}`);
  }

  /** A range, window by window. */
  #pieces(
    address: number,
    length: number,
    use: (backing: Uint8Array, at: number, done: number, count: number) => void,
  ): void {
    for (let done = 0; done < length; ) {
      const i = this.#find(address + done);
      const { base, size } = this.#windows[i]!;
      const at = address + done - base;
      const count = Math.min(length - done, size - at);
      use(this.#backing[i]!, GUARD + at, done, count);
      done += count;
    }
  }
}
