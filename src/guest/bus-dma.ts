import { hex } from "../bytes/index.js";
import type { DmaSyncOp, GuestBus } from "../contract/index.js";
import { alignUp, isPowerOfTwo, withinBoundary } from "./align.js";
import { checkRange } from "./sglist.js";
import { type DmaConstraints, type DmaMap, type DmaMemory, type DmaTag, ResourceError, type Segment } from "./types.js";

/** No constraint at all: where every chain of tags begins. */
export const UNCONSTRAINED: DmaConstraints = {
  alignment: 1,
  boundary: 0,
  lowaddr: Number.MAX_SAFE_INTEGER,
  maxsize: Number.MAX_SAFE_INTEGER,
  nsegments: 0x10_0000,
  maxsegsz: Number.MAX_SAFE_INTEGER,
};

/** `needed`: bounce what the device cannot reach. `always`: bounce everything, so that a missing sync shows. */
export type Bouncing = "needed" | "always";

/** The tightest of both: along a chain of tags constraints never loosen. @throws ResourceError EINVAL */
export const tighten = (parent: DmaConstraints, asked: Partial<DmaConstraints>): DmaConstraints => {
  const { alignment = 1, boundary = 0, lowaddr = parent.lowaddr } = asked;
  const { maxsize = parent.maxsize, nsegments = parent.nsegments, maxsegsz = parent.maxsegsz } = asked;
  if (!isPowerOfTwo(alignment))
    throw new ResourceError("EINVAL", `DMA alignment ${alignment}: expected a power of two`);
  if (boundary !== 0 && !isPowerOfTwo(boundary))
    throw new ResourceError("EINVAL", `DMA boundary ${boundary}: expected 0 or a power of two`);
  if (!Number.isSafeInteger(lowaddr) || lowaddr < 0) throw new ResourceError("EINVAL", `DMA lowaddr ${lowaddr}`);
  for (const [name, value] of Object.entries({ maxsize, nsegments, maxsegsz }))
    if (!Number.isSafeInteger(value) || value < 1) throw new ResourceError("EINVAL", `DMA ${name} ${value}`);
  const least = (a: number, b: number) => (a === 0 ? b : b === 0 ? a : Math.min(a, b));
  const between = least(parent.boundary, boundary);
  const segment = Math.min(parent.maxsegsz, maxsegsz);
  return {
    alignment: Math.max(parent.alignment, alignment),
    boundary: between,
    lowaddr: Math.min(parent.lowaddr, lowaddr),
    maxsize: Math.min(parent.maxsize, maxsize),
    nsegments: Math.min(parent.nsegments, nsegments),
    // A longer segment than the boundary could not exist: bus_dma_tag_create(9) cuts it, too.
    maxsegsz: between === 0 ? segment : Math.min(segment, between),
  };
};

/** Contiguous memory for the constraints. @returns its address @throws ResourceError ENOMEM */
const allocFor = (bus: GuestBus, bytes: number, { alignment, boundary, lowaddr }: DmaConstraints): number => {
  // A range that is aligned to a power of two not below its size crosses no multiple of a boundary not below its size.
  let align = alignment;
  if (boundary !== 0) while (align < bytes) align *= 2;
  const paddr = bus.dma.alloc(bytes, align, lowaddr);
  if (paddr < 0) throw new ResourceError("ENOMEM", `no ${hex(bytes)} bytes of DMA memory at or below ${hex(lowaddr)}`);
  return paddr;
};

/**
 * A tag: what a device can reach. bus_dma(9)
 *
 * Life: `dev.bus.dmaTag(constraints)` → `alloc` for rings, `load` for buffers → `sync` round the device's accesses →
 * dispose maps and memory, then the tag (EBUSY while any is alive).
 */
export class Tag implements DmaTag {
  readonly constraints: Readonly<DmaConstraints>;
  readonly #bus: GuestBus;
  readonly #bouncing: Bouncing;
  readonly #gone: () => void;
  readonly #released: (tag: Tag) => void;
  readonly #live = new Set<Memory | DmaMapping | Tag>();
  #disposed = false;

  /**
   * @param check throws DeviceGoneError when the device has gone
   * @param released told once, when the tag is disposed
   */
  constructor(
    bus: GuestBus,
    constraints: DmaConstraints,
    bouncing: Bouncing,
    check: () => void = () => {},
    released: (tag: Tag) => void = () => {},
  ) {
    this.#bus = bus;
    this.constraints = constraints;
    this.#bouncing = bouncing;
    this.#gone = check;
    this.#released = released;
  }

  child(constraints: Partial<DmaConstraints>): DmaTag {
    this.#check();
    const tag = new Tag(this.#bus, tighten(this.constraints, constraints), this.#bouncing, this.#gone, (child) =>
      this.#live.delete(child),
    );
    this.#live.add(tag);
    return tag;
  }

  alloc(bytes: number): DmaMemory {
    this.#check();
    const { maxsize, maxsegsz } = this.constraints;
    if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > maxsize || bytes > maxsegsz)
      throw new ResourceError(
        "EINVAL",
        `${bytes} bytes of DMA memory in one segment of at most ${Math.min(maxsize, maxsegsz)}`,
      );
    const memory = new Memory(this.#bus, allocFor(this.#bus, bytes, this.constraints), bytes, (m) =>
      this.#live.delete(m),
    );
    this.#live.add(memory);
    return memory;
  }

  load(source: Iterable<Segment>): DmaMap {
    this.#check();
    const map = new DmaMapping(this.#bus, this.constraints, this.#bouncing, source, (m) => this.#live.delete(m));
    this.#live.add(map);
    return map;
  }

  /** Maps, memory and child tags that are alive. */
  get live(): number {
    return this.#live.size;
  }

  /** Disposes everything that hangs on the tag, and the tag: for the bus, when a driver has left it behind. */
  reclaim(): void {
    for (const held of this.#live) {
      if (held instanceof Tag) held.reclaim();
      else held[Symbol.dispose]();
    }
    this[Symbol.dispose]();
  }

  /** @throws ResourceError EBUSY while a map, memory or child tag is alive */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    if (this.#live.size > 0) throw new ResourceError("EBUSY", `DMA tag disposed with ${this.#live.size} maps alive`);
    this.#disposed = true;
    this.#released(this);
  }

  #check(): void {
    this.#gone();
    if (this.#disposed) throw new ResourceError("EINVAL", "DMA tag used after it was disposed");
  }
}

/** Static DMA memory: rings and control blocks. Accesses go straight to the machine, so that its RAM may move. */
class Memory implements DmaMemory {
  readonly paddr: number;
  readonly size: number;
  readonly #bus: GuestBus;
  #limit: number; // size, -1 once disposed
  readonly #released: (memory: Memory) => void;

  constructor(bus: GuestBus, paddr: number, size: number, released: (memory: Memory) => void) {
    this.#bus = bus;
    this.paddr = paddr;
    this.size = size;
    this.#limit = size;
    this.#released = released;
  }

  read8(offset: number): number {
    if ((offset | 0) !== offset || offset < 0 || offset >= this.#limit) this.#slow(offset, 1);
    return this.#bus.dma.read8(this.paddr + offset);
  }

  read16(offset: number): number {
    if ((offset | 0) !== offset || offset < 0 || offset + 2 > this.#limit) this.#slow(offset, 2);
    return this.#bus.dma.read16(this.paddr + offset);
  }

  read32(offset: number): number {
    if ((offset | 0) !== offset || offset < 0 || offset + 4 > this.#limit) this.#slow(offset, 4);
    return this.#bus.dma.read32(this.paddr + offset);
  }

  write8(offset: number, value: number): void {
    if ((offset | 0) !== offset || offset < 0 || offset >= this.#limit) this.#slow(offset, 1);
    this.#bus.dma.write8(this.paddr + offset, value & 0xff);
  }

  write16(offset: number, value: number): void {
    if ((offset | 0) !== offset || offset < 0 || offset + 2 > this.#limit) this.#slow(offset, 2);
    this.#bus.dma.write16(this.paddr + offset, value & 0xffff);
  }

  write32(offset: number, value: number): void {
    if ((offset | 0) !== offset || offset < 0 || offset + 4 > this.#limit) this.#slow(offset, 4);
    this.#bus.dma.write32(this.paddr + offset, value >>> 0);
  }

  copyOut(offset: number, target: Uint8Array, start: number, length: number): void {
    this.#range(offset, length);
    this.#bus.dma.copyOut(this.paddr + offset, target, start, length);
  }

  copyIn(offset: number, source: Uint8Array, start: number, length: number): void {
    this.#range(offset, length);
    this.#bus.dma.copyIn(this.paddr + offset, source, start, length);
  }

  sync(offset: number, length: number, op: DmaSyncOp): void {
    this.#range(offset, length);
    this.#bus.dma.sync(this.paddr + offset, length, op);
  }

  [Symbol.dispose](): void {
    if (this.#limit < 0) return;
    this.#limit = -1;
    this.#released(this);
    this.#bus.dma.free(this.paddr, this.size);
  }

  #range(offset: number, length: number): void {
    if ((offset | 0) !== offset || offset < 0 || !(length >= 0 && offset + length <= this.#limit))
      this.#slow(offset, length);
  }

  /** What the comparison let through: memory above 2 GiB, or a mistake. */
  #slow(offset: number, length: number): void {
    if (this.#limit < 0) throw new ResourceError("EINVAL", `DMA memory ${hex(this.paddr)} used after it was freed`);
    if (
      !Number.isInteger(offset) ||
      !Number.isInteger(length) ||
      offset < 0 ||
      length < 0 ||
      offset + length > this.#limit
    )
      throw new ResourceError("EINVAL", `${length} bytes at ${offset} of DMA memory of ${hex(this.size)}`);
  }
}

/** A range that the device cannot reach, and the memory that stands in for it. */
interface Bounce {
  readonly origin: number;
  readonly paddr: number;
  readonly len: number;
}

/** A loaded list: what the device is told, and what has to be copied at a sync. */
class DmaMapping implements DmaMap {
  readonly segments: readonly Segment[];
  readonly #bus: GuestBus;
  readonly #direct: readonly Segment[];
  readonly #bounces: readonly Bounce[];
  readonly #scratch: Uint8Array;
  #released: ((map: DmaMapping) => void) | null;

  constructor(
    bus: GuestBus,
    constraints: DmaConstraints,
    bouncing: Bouncing,
    source: Iterable<Segment>,
    released: (map: DmaMapping) => void,
  ) {
    this.#bus = bus;
    const bounces: Bounce[] = [];
    this.#bounces = bounces;
    try {
      [this.segments, this.#direct] = place(bus, constraints, bouncing, contiguous(source, constraints), bounces);
    } catch (error) {
      for (const { paddr, len } of bounces) bus.dma.free(paddr, len);
      throw error;
    }
    this.#scratch = new Uint8Array(bounces.reduce((longest, { len }) => Math.max(longest, len), 0));
    this.#released = released;
  }

  sync(op: DmaSyncOp): void {
    if (this.#released === null) throw new ResourceError("EINVAL", "DMA map used after it was unloaded");
    const { dma } = this.#bus;
    for (const { paddr, len } of this.#direct) dma.sync(paddr, len, op);
    for (const { origin, paddr, len } of this.#bounces) {
      if (op === "prewrite") {
        dma.copyOut(origin, this.#scratch, 0, len);
        dma.copyIn(paddr, this.#scratch, 0, len);
      }
      dma.sync(paddr, len, op);
      if (op === "postread") {
        dma.copyOut(paddr, this.#scratch, 0, len);
        dma.copyIn(origin, this.#scratch, 0, len);
      }
    }
  }

  [Symbol.dispose](): void {
    const released = this.#released;
    if (released === null) return;
    this.#released = null;
    for (const { paddr, len } of this.#bounces) this.#bus.dma.free(paddr, len);
    released(this);
  }
}

/** The source with adjacent ranges merged; checks addresses and the sum. */
const contiguous = (source: Iterable<Segment>, { maxsize }: DmaConstraints): Segment[] => {
  const merged: { paddr: number; len: number }[] = [];
  let total = 0;
  for (const { paddr, len } of source) {
    checkRange(paddr, len);
    total += len;
    const last = merged.at(-1);
    if (last !== undefined && last.paddr + last.len === paddr) last.len += len;
    else if (len > 0) merged.push({ paddr, len });
  }
  if (total === 0 || total > maxsize)
    throw new ResourceError("EINVAL", `DMA load of ${total} bytes: expected 1 … ${maxsize}`);
  return merged;
};

/** Cuts ranges to what the device can reach, bouncing what it cannot. @throws ResourceError EFBIG, ENOMEM */
const place = (
  bus: GuestBus,
  constraints: DmaConstraints,
  bouncing: Bouncing,
  ranges: readonly Segment[],
  bounces: Bounce[],
): [segments: Segment[], direct: Segment[]] => {
  const { alignment, boundary, lowaddr, nsegments, maxsegsz } = constraints;
  const segments: Segment[] = [];
  const direct: Segment[] = [];
  for (const range of ranges)
    for (let done = 0; done < range.len; ) {
      if (segments.length === nsegments)
        throw new ResourceError("EFBIG", `DMA load needs more than ${nsegments} segments`);
      const origin = range.paddr + done;
      const left = range.len - done;
      let len = Math.min(left, maxsegsz);
      const reachable = bouncing === "needed" && origin % alignment === 0 && origin + left - 1 <= lowaddr;
      if (reachable) {
        if (!withinBoundary(origin, len, boundary)) len = alignUp(origin + 1, boundary) - origin;
        // What follows a cut begins a segment of its own, so it is cut where that is aligned.
        if (len < left && len > alignment) len -= (origin + len) % alignment;
        const segment = { paddr: origin, len };
        segments.push(segment);
        direct.push(segment);
      } else {
        const paddr = allocFor(bus, len, constraints);
        bounces.push({ origin, paddr, len });
        segments.push({ paddr, len });
      }
      done += len;
    }
  return [segments, direct];
};
