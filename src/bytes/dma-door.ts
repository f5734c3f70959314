import type { DmaDoor, GuestMemory, MemoryWindow } from "../contract/index.js";
import { copyBytes } from "./copy.js";
import { windowAt } from "./guest-memory.js";

const NO_WINDOW: MemoryWindow = {
  base: 0,
  size: 0,
  bytes: new Uint8Array(0),
  view: new DataView(new ArrayBuffer(0)),
  readable: false,
  writable: false,
};

/** Ranges written closer together than this are reported as one: a host drops compiled code by the page anyway. */
const MERGE_GAP = 8192;

/**
 * A function's way into guest memory: range, overflow, gate and the report of written bytes in one place.
 * Only RAM windows can be reached, so that no DMA ever re-enters a device through its BAR.
 */
export class Door implements DmaDoor {
  bytes: Uint8Array = NO_WINDOW.bytes;
  view: DataView = NO_WINDOW.view;
  at = 0;
  readonly #failed: () => void; // the function latches Status bit 13
  #memory: GuestMemory | null = null;
  #open = false;
  #epoch = 0; // counts what may change what an address means: other memory, door opened or shut
  #seen = 0; // generation of the memory for which #window holds
  #window: MemoryWindow = NO_WINDOW; // the last one found; most machines have one that matters
  // Start and end of two ranges, the one that grew last first: a ring and its buffers are written in turn. No numbers
  // in fields of their own, where V8 boxes addresses above 2 GiB.
  readonly #dirty = new Float64Array(4);

  /** @param failed called for each access that is refused */
  constructor(failed: () => void = () => {}) {
    this.#failed = failed;
  }

  get open(): boolean {
    return this.#open;
  }

  get generation(): number {
    return this.#epoch + (this.#memory === null ? 0 : this.#memory.generation);
  }

  /** Puts guest memory behind the door; null takes it away. */
  connect(memory: GuestMemory | null): void {
    this.flush();
    // The sum of both counters must never come back to a former value.
    this.#epoch += (this.#memory?.generation ?? 0) + 1;
    this.#memory = memory;
    this.#seen = 0;
    this.#window = NO_WINDOW;
    this.bytes = NO_WINDOW.bytes; // and with it what was located: the old memory may be let go of
    this.view = NO_WINDOW.view;
  }

  /** Opens or shuts the door: Bus Master, power state, reset. */
  setOpen(open: boolean): void {
    if (open === this.#open) return;
    this.#open = open;
    this.#epoch++;
  }

  locate(address: number, length: number): boolean {
    const w = this.#windowFor(address);
    if (!w.readable || address + length > w.base + w.size) return this.#refuse(address, length, false);
    this.bytes = w.bytes;
    this.view = w.view;
    this.at = address - w.base;
    return true;
  }

  locateWritable(address: number, length: number): boolean {
    const w = this.#windowFor(address);
    if (!w.writable || address + length > w.base + w.size) return this.#refuse(address, length, true);
    this.bytes = w.bytes;
    this.view = w.view;
    this.at = address - w.base;
    return true;
  }

  contains(address: number, length: number): boolean {
    return this.#covered(address, length, false);
  }

  containsWritable(address: number, length: number): boolean {
    return this.#covered(address, length, true);
  }

  read(address: number, length: number, target: Uint8Array, targetStart: number): boolean {
    if (!this.#covered(address, length, false)) return this.#fail();
    for (let done = 0; done < length; ) {
      const w = this.#windowFor(address + done);
      const from = address + done - w.base;
      const part = Math.min(length - done, w.size - from);
      copyBytes(w.bytes, from, part, target, targetStart + done);
      done += part;
    }
    return true;
  }

  write(address: number, length: number, source: Uint8Array, sourceStart: number): boolean {
    if (!this.#covered(address, length, true)) return this.#fail();
    for (let done = 0; done < length; ) {
      const w = this.#windowFor(address + done);
      const to = address + done - w.base;
      const part = Math.min(length - done, w.size - to);
      copyBytes(source, sourceStart + done, part, w.bytes, to);
      done += part;
    }
    this.wrote(address, length);
    return true;
  }

  wrote(address: number, length: number): void {
    if (this.#memory === null || this.#memory.written === null) return;
    const dirty = this.#dirty;
    const end = address + length;
    if (this.#merge(address, end)) return;
    const start0 = dirty[0]!;
    const end0 = dirty[1]!;
    dirty[0] = dirty[2]!;
    dirty[1] = dirty[3]!;
    dirty[2] = start0;
    dirty[3] = end0;
    if (this.#merge(address, end)) return;
    this.#report(0);
    dirty[0] = address;
    dirty[1] = end;
  }

  flush(): void {
    this.#report(2);
    this.#report(0);
  }

  /** Lets the range that grew last grow, where it is near. */
  #merge(address: number, end: number): boolean {
    const dirty = this.#dirty;
    const start0 = dirty[0]!;
    const end0 = dirty[1]!;
    if (end0 === 0 || address > end0 + MERGE_GAP || end < start0 - MERGE_GAP) return false;
    if (address < start0) dirty[0] = address;
    if (end > end0) dirty[1] = end;
    return true;
  }

  #report(at: 0 | 2): void {
    const dirty = this.#dirty;
    const start = dirty[at]!;
    const end = dirty[at + 1]!;
    if (end === 0) return;
    dirty[at] = dirty[at + 1] = 0;
    this.#memory?.written?.(start, end);
  }

  /** The window that holds `address`; one that holds nothing when the door is shut or the address is not RAM. */
  #windowFor(address: number): MemoryWindow {
    if (!this.#open || this.#memory === null) return NO_WINDOW;
    const w = this.#window;
    if (this.#seen === this.#memory.generation && address >= w.base && address < w.base + w.size) return w;
    this.#seen = this.#memory.generation;
    this.#window = windowAt(this.#memory.windows, address) ?? NO_WINDOW;
    return this.#window;
  }

  #covered(address: number, length: number, writable: boolean): boolean {
    if (!this.#open || length < 0 || !Number.isSafeInteger(address + length)) return false;
    let next = address;
    do {
      const w = this.#windowFor(next);
      if (!(writable ? w.writable : w.readable)) return false;
      next = w.base + w.size;
    } while (next < address + length);
    return true;
  }

  /** A refused `locate`: only what is not RAM at all is a failed cycle; a range across windows is just not one piece. */
  #refuse(address: number, length: number, writable: boolean): boolean {
    return this.#covered(address, length, writable) ? false : this.#fail();
  }

  #fail(): boolean {
    this.#failed();
    return false;
  }
}
