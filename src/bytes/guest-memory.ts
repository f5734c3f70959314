import type { GuestMemory, MemoryWindow } from "../contract/index.js";
import { ConfigError, hex } from "./errors.js";

/** A window as an embedder describes it. */
export interface WindowOptions {
  /** guest physical address, 0 … 2⁵³−1 */
  readonly base: number;
  /** the bytes themselves; the window has their length */
  readonly bytes: Uint8Array;
  /** default true */
  readonly readable?: boolean;
  /** default true; false for ROM */
  readonly writable?: boolean;
}

const windowOf = ({ base, bytes, readable = true, writable = true }: WindowOptions): MemoryWindow => {
  if (!Number.isSafeInteger(base) || base < 0 || !Number.isSafeInteger(base + bytes.length))
    throw new ConfigError("window-base", `memory window at ${String(base)}: expected an address in 0 … 2^53-1`);
  if (bytes.length === 0) throw new ConfigError("window-size", `memory window at ${hex(base)} has no bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return { base, size: bytes.length, bytes, view, readable, writable };
};

/** Guest RAM in windows that may come and go; a `GuestMemory` for hosts that hold their memory as byte arrays. */
export class WindowedMemory implements GuestMemory {
  readonly written: ((start: number, end: number) => void) | null;
  #windows: readonly MemoryWindow[] = [];
  #generation = 1;

  /** @throws ConfigError `window-overlap`, `window-base`, `window-size` */
  constructor(windows: readonly WindowOptions[], written: ((start: number, end: number) => void) | null = null) {
    this.written = written;
    this.replace(windows);
  }

  /** Windows whose buffer was detached (a WebAssembly memory that grew) are gone from here on, until `replace`. */
  get generation(): number {
    const windows = this.#windows;
    for (let i = 0; i < windows.length; i++)
      if (windows[i]!.bytes.length !== windows[i]!.size) {
        this.#windows = windows.filter(({ bytes, size }) => bytes.length === size);
        this.#generation++;
        break;
      }
    return this.#generation;
  }

  get windows(): readonly MemoryWindow[] {
    return this.#windows;
  }

  /**
   * Puts other windows in place of the present ones: hot-plugged RAM, or a buffer that was detached because it grew.
   * @throws ConfigError as the constructor; the present windows then stay
   */
  replace(windows: readonly WindowOptions[]): void {
    const sorted = windows.map(windowOf).sort((a, b) => a.base - b.base);
    sorted.forEach((w, i) => {
      const before = sorted[i - 1];
      if (before !== undefined && before.base + before.size > w.base)
        throw new ConfigError(
          "window-overlap",
          `memory window ${hex(w.base)}+${hex(w.size)} overlaps ${hex(before.base)}+${hex(before.size)}`,
        );
    });
    this.#windows = sorted;
    this.#generation++;
  }
}

/** The window that holds `address`, or undefined. Windows are sorted; machines have few, so this walks. */
export const windowAt = (windows: readonly MemoryWindow[], address: number): MemoryWindow | undefined => {
  for (const w of windows) {
    if (address < w.base) return undefined;
    if (address < w.base + w.size) return w;
  }
  return undefined;
};
