import type { Slot } from "../contract/index.js";
import {
  PCI_IO_BASE,
  PCI_IO_BASE_UPPER16,
  PCI_IO_LIMIT_UPPER16,
  PCI_IO_WINDOW_GRANULE,
  PCI_MEMORY_BASE,
  PCI_MEMORY_WINDOW_GRANULE,
  PCI_PREF_BASE_UPPER32,
  PCI_PREF_LIMIT_UPPER32,
  PCI_PREF_MEMORY_BASE,
  PCI_PREF_RANGE_TYPE_64,
  PCI_PREF_RANGE_TYPE_MASK,
} from "../spec/pci.js";
import type { Place } from "./place.js";

/** Something that wants addresses: a BAR, or the window of a bridge with all that is behind it. */
export interface Wish {
  readonly space: "io" | "memory" | "prefetchable";
  /** the largest comes first */
  readonly rank: number;
  readonly size: number;
  /** a power of two */
  readonly align: number;
  /** may lie above 4 GiB */
  readonly wide: boolean;
  /** for errors */
  readonly what: string;
  place(base: number): void;
}

/** What a window is given at least, so that there is room for what comes later. */
export interface Room {
  readonly io: number;
  readonly memory: number;
}

const FOUR_GIB = 2 ** 32;
/** Base above limit. */
const CLOSED_IO = 0x00f0;
const CLOSED_MEMORY = 0x0000_fff0;

const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;

/** Wishes one after the other, in a block that can be moved as a whole. */
class Block {
  readonly size: number;
  readonly align: number;
  /** all of it may lie above 4 GiB */
  readonly wide: boolean;
  readonly #offsets: readonly (readonly [offset: number, wish: Wish])[];

  constructor(wishes: readonly Wish[], granule: number, least: number) {
    let end = 0;
    this.#offsets = [...wishes]
      .sort((a, b) => b.align - a.align || b.rank - a.rank)
      .map((wish) => {
        const offset = roundUp(end, wish.align);
        end = offset + wish.size;
        return [offset, wish] as const;
      });
    this.size = roundUp(Math.max(end, least), granule);
    this.align = Math.max(granule, ...wishes.map(({ align }) => align));
    this.wide = wishes.every(({ wide }) => wide);
  }

  place(base: number): void {
    for (const [offset, wish] of this.#offsets) wish.place(base + offset);
  }
}

/** The windows of one bridge. */
export class WindowPlan {
  readonly place: Place;
  readonly #io: Block;
  readonly #memory: Block;
  readonly #prefetchable: Block;
  readonly #wide: boolean;
  // Where they went; −1: empty, thus closed.
  #ioBase = -1;
  #memoryBase = -1;
  #prefetchableBase = -1;

  /** @param behind what is on the bus behind it */
  constructor(place: Place, behind: readonly Wish[], room: Room) {
    this.place = place;
    const has = prefetchableWindow(place.slot);
    this.#wide = has === 64;
    const isMemory = ({ space }: Wish) => space === "memory" || (space === "prefetchable" && has === 0);
    this.#io = new Block(
      behind.filter(({ space }) => space === "io"),
      PCI_IO_WINDOW_GRANULE,
      room.io,
    );
    this.#memory = new Block(behind.filter(isMemory), PCI_MEMORY_WINDOW_GRANULE, room.memory);
    this.#prefetchable = new Block(
      behind.filter((wish) => wish.space === "prefetchable" && !isMemory(wish)),
      PCI_MEMORY_WINDOW_GRANULE,
      0,
    );
  }

  wishes(): Wish[] {
    const wish = (space: Wish["space"], { size, align, wide }: Block, move: (base: number) => void): Wish => ({
      space,
      rank: align,
      size,
      align,
      wide: wide && space === "prefetchable" && this.#wide,
      what: `the ${space} window of ${this.place.path}, 0x${size.toString(16)} bytes`,
      place: move,
    });
    const all = [
      wish("io", this.#io, (base) => {
        this.#ioBase = base;
        this.#io.place(base);
      }),
      wish("memory", this.#memory, (base) => {
        this.#memoryBase = base;
        this.#memory.place(base);
      }),
      wish("prefetchable", this.#prefetchable, (base) => {
        this.#prefetchableBase = base;
        this.#prefetchable.place(base);
      }),
    ];
    return all.filter(({ size }) => size > 0);
  }

  /** Writes base and limit of every window, one that is empty as closed. */
  program(): void {
    const { slot } = this.place;
    const ioLimit = this.#ioBase + this.#io.size - 1;
    const io = this.#ioBase < 0 ? CLOSED_IO : ((this.#ioBase >>> 8) & 0xf0) | (ioLimit & 0xf000);
    slot.configWrite(PCI_IO_BASE, 2, io);
    slot.configWrite(PCI_IO_BASE_UPPER16, 2, 0);
    slot.configWrite(PCI_IO_LIMIT_UPPER16, 2, 0);
    slot.configWrite(PCI_MEMORY_BASE, 4, memoryRegister(this.#memoryBase, this.#memory.size));
    const base = this.#prefetchableBase;
    const limit = base + this.#prefetchable.size - 1;
    slot.configWrite(PCI_PREF_MEMORY_BASE, 4, memoryRegister(base, this.#prefetchable.size));
    slot.configWrite(PCI_PREF_BASE_UPPER32, 4, base < 0 ? 0 : Math.floor(base / FOUR_GIB));
    slot.configWrite(PCI_PREF_LIMIT_UPPER32, 4, base < 0 ? 0 : Math.floor(limit / FOUR_GIB));
  }
}

/** Base in the low half, limit in the high one: address bits 31:20 of each. */
const memoryRegister = (base: number, size: number): number => {
  if (base < 0) return CLOSED_MEMORY;
  const upper = (address: number) => Math.floor((address % FOUR_GIB) / PCI_MEMORY_WINDOW_GRANULE) * 0x10;
  return upper(base) + upper(base + size - 1) * 0x1_0000;
};

/** Address bits of the prefetchable window, 0 where there is none: as software finds out, by writing. P2P 1.2 §3.2.5.9 */
const prefetchableWindow = (slot: Slot): 0 | 32 | 64 => {
  const former = slot.configRead(PCI_PREF_MEMORY_BASE, 4);
  slot.configWrite(PCI_PREF_MEMORY_BASE, 4, CLOSED_MEMORY);
  const read = slot.configRead(PCI_PREF_MEMORY_BASE, 2);
  slot.configWrite(PCI_PREF_MEMORY_BASE, 4, former);
  if ((read & 0xfff0) === 0) return 0;
  return (read & PCI_PREF_RANGE_TYPE_MASK) === PCI_PREF_RANGE_TYPE_64 ? 64 : 32;
};
