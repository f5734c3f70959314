import { ConfigError, copyBytes, hex, windowAt } from "../bytes/index.js";
import type { DmaSyncOp, GuestDma, GuestMemory, MemoryWindow } from "../contract/index.js";

/** What is below belongs to firmware and boot code on a PC. */
const FIRST_FREE = 0x10_0000;

interface Block {
  readonly start: number;
  readonly size: number;
}

/** Where DMA memory comes from. */
export interface DmaArea {
  readonly start: number;
  /** exclusive */
  readonly end: number;
}

/**
 * DMA memory of an in-process guest: an allocator over RAM (first fit, ascending), and accessors. Device and driver share
 * the bytes, so that `sync` has nothing to do.
 */
export class DmaMemory implements GuestDma {
  #memory: GuestMemory;
  readonly #area: DmaArea | null;
  #blocks: Block[] = []; // ascending
  #window: MemoryWindow | null = null; // the last one used
  #seen = -1;

  /** @param area default: all RAM from 1 MiB up, or all of it but its first page where it is smaller */
  constructor(memory: GuestMemory, area: DmaArea | null = null) {
    this.#memory = memory;
    this.#area = area;
  }

  /** the RAM behind it; replaced when the bus goes over to another machine */
  get memory(): GuestMemory {
    return this.#memory;
  }

  set memory(memory: GuestMemory) {
    this.#memory = memory;
    this.#window = null; // the generations of two memories say nothing about each other
  }

  alloc(bytes: number, align: number, below: number): number {
    if (!(Number.isSafeInteger(bytes) && bytes > 0)) throw new ConfigError("dma-size", `${bytes} bytes of DMA memory`);
    if (!(align >= 1 && Math.log2(align) % 1 === 0))
      throw new ConfigError("dma-align", `alignment ${align}; expected a power of two`);
    for (const { start, end } of this.#areas()) {
      let at = Math.ceil(start / align) * align;
      for (const block of this.#blocks) {
        if (block.start + block.size <= at) continue;
        if (at + bytes <= block.start) break;
        at = Math.ceil((block.start + block.size) / align) * align;
      }
      if (at + bytes > end || at + bytes - 1 > below) continue;
      this.#blocks.push({ start: at, size: bytes });
      this.#blocks.sort((a, b) => a.start - b.start);
      this.#fill(at, bytes);
      return at;
    }
    return -1;
  }

  free(address: number, bytes: number): void {
    const index = this.#blocks.findIndex(({ start, size }) => start === address && size === bytes);
    if (index < 0)
      throw new ConfigError("dma-free", `${hex(address)}+${hex(bytes)} is no block that was allocated and is not free`);
    this.#blocks.splice(index, 1);
  }

  /** Blocks that are allocated, ascending; for leak checks. */
  get blocks(): readonly Block[] {
    return this.#blocks;
  }

  read8(address: number): number {
    const w = this.#find(address, 1);
    return w === null ? 0xff : w.bytes[address - w.base]!;
  }

  read16(address: number): number {
    const w = this.#find(address, 2);
    return w === null ? 0xffff : w.view.getUint16(address - w.base, true);
  }

  read32(address: number): number {
    const w = this.#find(address, 4);
    return w === null ? 0xffff_ffff : w.view.getUint32(address - w.base, true);
  }

  write8(address: number, value: number): void {
    const w = this.#find(address, 1);
    if (w !== null) w.bytes[address - w.base] = value;
  }

  write16(address: number, value: number): void {
    const w = this.#find(address, 2);
    if (w !== null) w.view.setUint16(address - w.base, value, true);
  }

  write32(address: number, value: number): void {
    const w = this.#find(address, 4);
    if (w !== null) w.view.setUint32(address - w.base, value, true);
  }

  copyOut(address: number, target: Uint8Array, start: number, length: number): void {
    const w = this.#find(address, length);
    if (w === null) throw outside(address, length);
    copyBytes(w.bytes, address - w.base, length, target, start);
  }

  copyIn(address: number, source: Uint8Array, start: number, length: number): void {
    const w = this.#find(address, length);
    if (w === null) throw outside(address, length);
    copyBytes(source, start, length, w.bytes, address - w.base);
  }

  sync(_address: number, _length: number, _op: DmaSyncOp): void {}

  #find(address: number, length: number): MemoryWindow | null {
    let w = this.#window;
    if (w === null || this.#seen !== this.#memory.generation || address < w.base || address >= w.base + w.size) {
      this.#seen = this.#memory.generation;
      this.#window = w = windowAt(this.#memory.windows, address) ?? null;
    }
    return w !== null && address + length <= w.base + w.size ? w : null;
  }

  #areas(): DmaArea[] {
    const clip = (from: number, to: number) =>
      this.#memory.windows
        .filter(({ readable, writable }) => readable && writable)
        .map(({ base, size }) => ({ start: Math.max(base, from), end: Math.min(base + size, to) }))
        .filter(({ start, end }) => start < end);
    if (this.#area !== null) return clip(this.#area.start, this.#area.end);
    const usual = clip(FIRST_FREE, Number.MAX_SAFE_INTEGER);
    return usual.length > 0 ? usual : clip(0x1000, FIRST_FREE);
  }

  #fill(address: number, bytes: number): void {
    const w = this.#find(address, bytes);
    w?.bytes.fill(0, address - w.base, address - w.base + bytes);
  }
}

/** A driver that copies from where there is no DMA memory is broken; accessors of single values answer as the bus would. */
const outside = (address: number, length: number) =>
  new ConfigError("dma-range", `${hex(address)}+${hex(length)} is not in one piece of RAM`);
