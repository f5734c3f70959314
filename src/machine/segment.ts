import type {
  AddressRange,
  BridgeSlot,
  GuestMemory,
  MemoryWindow,
  SecondaryBus,
  Slot,
  Upstream,
} from "../contract/index.js";
import { intersectRanges, sameRanges, subtractRanges } from "../pci/index.js";
import { PCI_MAX_DEVICES, PCI_MAX_FUNCTIONS, pciFunction } from "../spec/pci.js";

const DEVFNS = PCI_MAX_DEVICES * PCI_MAX_FUNCTIONS;

/** Guest memory as it is seen from behind a bridge: without what the bridge passes down, for that is not passed up. */
class BridgedMemory implements GuestMemory {
  readonly #above: GuestMemory;
  readonly #bridge: BridgeSlot;
  #epoch = 0;
  #seen = -1;
  #windows: readonly MemoryWindow[] = [];

  constructor(above: GuestMemory, bridge: BridgeSlot) {
    this.#above = above;
    this.#bridge = bridge;
  }

  get written(): ((start: number, end: number) => void) | null {
    return this.#above.written;
  }

  get generation(): number {
    return this.#above.generation + this.#epoch;
  }

  get windows(): readonly MemoryWindow[] {
    const { generation } = this;
    if (this.#seen !== generation) {
      this.#seen = generation;
      this.#windows = withoutRanges(this.#above.windows, this.#bridge.downstream("memory"));
    }
    return this.#windows;
  }

  changed(): void {
    this.#epoch++;
  }
}

const withoutRanges = (windows: readonly MemoryWindow[], ranges: readonly AddressRange[]): readonly MemoryWindow[] => {
  const overlaps = ({ base, size }: MemoryWindow) => intersectRanges([[base, base + size]], ranges).length > 0;
  if (!windows.some(overlaps)) return windows;
  return windows.flatMap((window) =>
    subtractRanges([[window.base, window.base + window.size]], ranges).map(([start, end]): MemoryWindow => {
      const bytes = window.bytes.subarray(start - window.base, end - window.base);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      return { ...window, base: start, size: end - start, bytes, view };
    }),
  );
};

/** Who puts what is on a bus into the address spaces. */
export interface SegmentHost {
  /** What reaches the functions of this very bus changed. */
  remap(segment: BusSegment): void;
  /** RST# on this bus. */
  resetBelow(segment: BusSegment): void;
}

/**
 * One bus: its functions, the buses behind those of them that are bridges, and what gets through the bridges above.
 * The root bus has nothing above it. Buses hang together as they were plugged; their numbers are the guest's.
 */
export class BusSegment implements SecondaryBus, Upstream {
  /** null: the root */
  readonly parent: BusSegment | null;
  readonly bridge: BridgeSlot | null;
  /** of the bridge, on the parent */
  readonly devfn: number;
  /** where the bridge is plugged, such as `00:05.0`; empty for the root */
  readonly path: string;
  /** device and function numbers of the bridges above, from the root on */
  readonly order: readonly number[];
  /** what DMA of the functions here reaches */
  readonly memory: GuestMemory;
  /** the host's, for accesses that pass the bridges and find nobody */
  holes: readonly { remove(): void }[] = [];
  readonly #host: SegmentHost;
  readonly #bridged: BridgedMemory | null;
  readonly #slots: (Slot | null)[] = new Array<Slot | null>(DEVFNS).fill(null);
  #behind: readonly BusSegment[] = []; // by devfn
  #listeners: readonly (() => void)[] = [];
  // What the bridges let through; null on the root: all of it.
  #io: readonly AddressRange[] | null = null;
  #memory: readonly AddressRange[] | null = null;
  #open = true;

  /** @param above the root's memory, or what is above the bridge */
  constructor(host: SegmentHost, above: GuestMemory, place: SegmentPlace | null = null) {
    this.#host = host;
    this.parent = place?.parent ?? null;
    this.bridge = place?.bridge ?? null;
    this.devfn = place?.devfn ?? 0;
    this.path = place?.path ?? "";
    this.order = place === null ? [] : [...place.parent.order, place.devfn];
    this.#bridged = place === null ? null : new BridgedMemory(above, place.bridge);
    this.memory = this.#bridged ?? above;
    this.#follow();
  }

  // ---------------------------------------------------------------------------------------------- functions

  /** Who stands at a device and function number, hidden or not; null: nobody. */
  slot(devfn: number): Slot | null {
    return this.#slots[devfn] ?? null;
  }

  place(devfn: number, slot: Slot | null): void {
    this.#slots[devfn] = slot;
  }

  /** Who answers configuration cycles; functions above 0 are hidden while function 0 is missing. @param devfn 0 … 255 */
  visible(devfn: number): Slot | null {
    return pciFunction(devfn) !== 0 && this.#slots[devfn & ~7] === null ? null : (this.#slots[devfn] ?? null);
  }

  /** All that is plugged here, ascending. */
  slots(): Slot[] {
    return this.#slots.filter((slot) => slot !== null);
  }

  // ---------------------------------------------------------------------------------------------- routing

  /** The bus behind the bridge at this place; null: none. */
  behind(devfn: number): BusSegment | null {
    return this.#behind.find((segment) => segment.devfn === devfn) ?? null;
  }

  add(segment: BusSegment): void {
    this.#behind = [...this.#behind, segment].sort((a, b) => a.devfn - b.devfn);
  }

  remove(segment: BusSegment): void {
    this.#behind = this.#behind.filter((other) => other !== segment);
  }

  /**
   * The bus of this number, from here down; null: no bridge leads to it. Of bridges that claim one number, the first
   * does; each step goes to a bus that was plugged behind this one, so that no numbering makes it a circle. P2P 1.2 §3.1
   */
  find(number: number): BusSegment | null {
    for (let at: BusSegment = this; ; ) {
      const next: BusSegment | null = at.#claims(number);
      if (next === null || next.#number === number) return next;
      at = next;
    }
  }

  #claims(number: number): BusSegment | null {
    for (const segment of this.#behind) {
      const { bridge, devfn } = segment;
      if (bridge === null || !bridge.running || this.visible(devfn) === null) continue;
      const { secondaryBus } = bridge;
      // Its own number counts whatever the highest one is; QEMU does the same.
      if (number === secondaryBus || (number > secondaryBus && number <= bridge.subordinateBus)) return segment;
    }
    return null;
  }

  get #number(): number {
    return this.bridge?.secondaryBus ?? 0;
  }

  /** The number under which configuration cycles find this bus now; −1: none. */
  get number(): number {
    const number = this.#number;
    if (this.parent === null) return 0;
    let root: BusSegment = this.parent;
    while (root.parent !== null) root = root.parent;
    return number !== 0 && root.find(number) === this ? number : -1;
  }

  // ---------------------------------------------------------------------------------------------- what passes the bridges

  /** What of these accesses gets here from the CPU; null: all. */
  reached(space: "io" | "memory"): readonly AddressRange[] | null {
    return space === "io" ? this.#io : this.#memory;
  }

  /** DMA and messages of the functions here get up to the root. */
  get open(): boolean {
    return this.#open;
  }

  onChanged(listener: () => void): Disposable {
    this.#listeners = [...this.#listeners, listener];
    return {
      [Symbol.dispose]: () => {
        this.#listeners = this.#listeners.filter((other) => other !== listener);
      },
    };
  }

  /** Told by the bridge above, or by the bus above it. */
  changed(): void {
    const { open } = this;
    this.#bridged?.changed();
    const moved = this.#follow();
    if (moved) this.#host.remap(this);
    if (open !== this.#open) for (const listener of this.#listeners) listener();
    for (const segment of this.#behind) segment.changed();
  }

  reset(): void {
    this.#host.resetBelow(this);
  }

  /** @returns whether other accesses get here than before */
  #follow(): boolean {
    const { bridge, parent } = this;
    if (bridge === null || parent === null) return false;
    const through = (space: "io" | "memory") => {
      const above = parent.reached(space);
      const own = bridge.downstream(space);
      return above === null ? own : intersectRanges(above, own);
    };
    const io = through("io");
    const memory = through("memory");
    const moved = !sameRanges(io, this.#io ?? []) || !sameRanges(memory, this.#memory ?? []);
    this.#io = io;
    this.#memory = memory;
    this.#open = bridge.upstream && parent.#open;
    return moved;
  }
}

/** Where a bus hangs. */
export interface SegmentPlace {
  readonly parent: BusSegment;
  readonly bridge: BridgeSlot;
  readonly devfn: number;
  readonly path: string;
}

/** Whether a slot leads to a bus of its own. */
export const isBridge = (slot: Slot): slot is BridgeSlot => "secondaryBus" in slot;
