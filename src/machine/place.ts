import type { AccessWidth, AddressRange, BarInfo, Bdf, HostInterrupts, Slot } from "../contract/index.js";
import { intersectRanges } from "../pci/index.js";
import { pciBdf, pciDevice, pciFunction } from "../spec/pci.js";
import type { AddressSpace, Mapping, Target } from "./address-space.js";
import type { IntxLine } from "./intx.js";
import type { BusSegment } from "./segment.js";
import type { FunctionWork } from "./work.js";

const BARS_PER_FUNCTION = 8;

/** A function and where it is plugged. */
export interface PluggedFunction {
  /** where configuration cycles find it now; −1 while no bridge leads there */
  readonly bdf: Bdf;
  /** `00:03.0`; behind bridges the way from the root, `00:05.0/04.0`, as `lspci -P` prints it; it never changes */
  readonly path: string;
  readonly slot: Slot;
}

/** Part of a BAR that the bridges above pass, where they do not pass all of it. */
class Piece implements Target {
  readonly #slot: Slot;
  readonly #from: number;
  constructor(slot: Slot, from: number) {
    this.#slot = slot;
    this.#from = from;
  }
  barRead(bar: number, offset: number, width: AccessWidth): number {
    return this.#slot.barRead(bar, this.#from + offset, width);
  }
  barWrite(bar: number, offset: number, width: AccessWidth, value: number): void {
    this.#slot.barWrite(bar, this.#from + offset, width, value);
  }
}

/** A BAR in its address space: whole, or in the pieces that bridges pass. */
class PlacedBar {
  readonly info: BarInfo;
  readonly #slot: Slot;
  readonly #space: AddressSpace;
  readonly #whole: Mapping;
  #pieces: readonly Mapping[] = [];
  #priority = 0;

  constructor(slot: Slot, info: BarInfo, space: AddressSpace) {
    this.info = info;
    this.#slot = slot;
    this.#space = space;
    this.#whole = space.add(slot, info.index, info.size, 0);
  }

  /** Also while it is mapped: whoever calls keeps the order of those that are. */
  set priority(priority: number) {
    this.#priority = priority;
    this.#whole.priority = priority;
    for (const piece of this.#pieces) piece.priority = priority;
  }

  /** @param reached null: every address */
  move(base: number, reached: readonly AddressRange[] | null): void {
    const { index, size } = this.info;
    const seen: readonly AddressRange[] =
      base < 0 ? [] : reached === null ? [[base, base + size]] : intersectRanges([[base, base + size]], reached);
    const isWhole = seen.length === 1 && seen[0]![0] === base && seen[0]![1] === base + size;
    for (const piece of this.#pieces) this.#space.remove(piece);
    this.#space.move(this.#whole, isWhole ? base : -1);
    this.#pieces = isWhole
      ? []
      : seen.map(([start, end]) => {
          const piece = this.#space.add(new Piece(this.#slot, start - base), index, end - start, this.#priority);
          this.#space.move(piece, start);
          return piece;
        });
  }

  remove(): void {
    this.move(-1, null);
    this.#space.remove(this.#whole);
  }
}

/** A function's place in a machine, and its host's side of interrupts. */
export class Place implements PluggedFunction, HostInterrupts {
  readonly segment: BusSegment;
  readonly devfn: number;
  readonly path: string;
  readonly slot: Slot;
  readonly work: FunctionWork;
  /** device and function numbers on the way from the root; places are in the order of these */
  readonly order: readonly number[];
  barsChanged: Disposable | null = null;
  readonly #line: IntxLine | null;
  readonly #message: (address: number, data: number) => void;
  #bars: readonly PlacedBar[] = [];

  constructor(
    { segment, devfn, path }: Spot,
    slot: Slot,
    work: FunctionWork,
    line: IntxLine | null,
    message: (address: number, data: number) => void,
  ) {
    this.segment = segment;
    this.devfn = devfn;
    this.path = path;
    this.order = [...segment.order, devfn];
    this.slot = slot;
    this.work = work;
    this.#line = line;
    this.#message = message;
  }

  get bdf(): Bdf {
    const { number } = this.segment;
    return number < 0 ? -1 : pciBdf(number, pciDevice(this.devfn), pciFunction(this.devfn));
  }

  setIntx(level: boolean): void {
    this.#line?.set(level);
  }

  message(_vector: number, address: number, data: number): void {
    this.#message(address, data);
  }

  /** Puts the BARs into their address spaces, mapped nowhere yet. */
  map(io: AddressSpace, memory: AddressSpace): void {
    this.#bars = this.slot.bars.map((info) => new PlacedBar(this.slot, info, info.kind === "io" ? io : memory));
  }

  /** @param rank among all places; of BARs that overlap, the one of the lower place answers, then the lower one */
  set rank(rank: number) {
    for (const bar of this.#bars) bar.priority = rank * BARS_PER_FUNCTION + bar.info.index;
  }

  /** Maps every BAR where it is decoded now, as far as bridges pass accesses on. */
  remap(): void {
    for (const bar of this.#bars) {
      const { index, kind } = bar.info;
      bar.move(this.slot.barBase(index), this.segment.reached(kind === "io" ? "io" : "memory"));
    }
  }

  unmap(): void {
    this.#line?.set(false);
    this.work[Symbol.dispose]();
    this.barsChanged?.[Symbol.dispose]();
    for (const bar of this.#bars) bar.remove();
  }
}

/** A device and function number on a bus, and the way there. */
export interface Spot {
  readonly segment: BusSegment;
  readonly devfn: number;
  readonly path: string;
}

/** −1, 0 or 1: bridges stand before what is behind them. */
export const compareOrder = (a: readonly number[], b: readonly number[]): number => {
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
};
