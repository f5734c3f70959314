import type { AccessWidth } from "../contract/index.js";

/** What answers accesses: a slot with its BARs, or a piece of the chipset. Offsets are always inside the mapping. */
export interface Target {
  barRead(bar: number, offset: number, width: AccessWidth): number;
  barWrite(bar: number, offset: number, width: AccessWidth, value: number): void;
}

/** A range of an address space and who answers there; moved by `AddressSpace.move`. */
export class Mapping {
  readonly target: Target;
  readonly bar: number;
  /** bytes */
  readonly size: number;
  /** of two that overlap, the lower one answers; to be changed only so that the order of all stays */
  priority: number;
  /** first address; −1 while it is nowhere */
  base = -1;
  /** place in the table of mappings */
  id = 0;

  constructor(target: Target, bar: number, size: number, priority: number) {
    this.target = target;
    this.bar = bar;
    this.size = size;
    this.priority = priority;
  }
}

const allOnes = (width: number): number => (width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff);

const NOBODY = new Mapping(
  { barRead: (_bar, _offset, width) => allOnes(width), barWrite: () => {} },
  0,
  0,
  Number.MAX_SAFE_INTEGER,
);

const NOBODY_READS_ZERO = new Mapping({ barRead: () => 0, barWrite: () => {} }, 0, 0, Number.MAX_SAFE_INTEGER);

const LARGEST_INT32 = 0x7fff_ffff;
const END_OF_32_BIT = 2 ** 32;

/** A sum, since a choice between the address and another number would be boxed. */
const unsigned = (address: number): number => address + (address < 0 ? END_OF_32_BIT : 0);

/** Table entries from here on are lists of mappings that share a page. */
const SHARED = 0x8000;

/**
 * Who answers at which address: one table entry per port, or per 4 KiB page of the first 4 GiB of memory.
 *
 * A look-up is one or two typed-array reads however many devices there are. Mappings in one page (BARs smaller than
 * 4 KiB) share it by a short list; what lies above 4 GiB is a short list, too. An access that no single mapping holds is
 * cut into aligned pieces of one owner each. Undecoded reads give all ones (or 0, if asked for), undecoded writes vanish. Where mappings
 * overlap, the lowest priority number answers, so that the result does not depend on the order of their arrival.
 */
export class AddressSpace {
  readonly #shift: number;
  readonly #limit: number; // end of what the table covers
  readonly #table: Uint16Array;
  readonly #nobody: Mapping;
  readonly #byId: Mapping[] = [NOBODY];
  readonly #freeIds: number[] = [];
  readonly #shared: Mapping[][] = []; // by table entry − SHARED
  readonly #freeShared: number[] = [];
  /** table entries written since it was made; what a move costs */
  entriesWritten = 0;
  #mapped: Mapping[] = []; // those that have a base, by priority
  #high: readonly Mapping[] = []; // those of them that reach above the table

  /** @param kind ports (64 Ki of them), or memory; @param undecoded what is read where nobody answers */
  constructor(kind: "io" | "memory", undecoded: "ones" | "zeros" = "ones") {
    this.#nobody = undecoded === "ones" ? NOBODY : NOBODY_READS_ZERO;
    this.#shift = kind === "io" ? 0 : 12;
    this.#limit = kind === "io" ? 0x1_0000 : 2 ** 32;
    this.#table = new Uint16Array(this.#limit / 2 ** this.#shift);
  }

  /** What answers where nobody does. */
  get nobody(): Target {
    return this.#nobody.target;
  }

  /** Bytes of the look-up table. */
  get tableBytes(): number {
    return this.#table.byteLength;
  }

  /** @param address below 0: a 32-bit address that was taken for signed @returns unsigned, `width` bytes */
  read(address: number, width: AccessWidth): number {
    // Addresses go on as they came, and offsets as int32 wherever they can be: a larger number is boxed on its way.
    const m = this.#whole(address, width);
    if (m === null) return this.#readPieces(address, width);
    return m.size <= LARGEST_INT32
      ? m.target.barRead(m.bar, (address - m.base) | 0, width)
      : m.target.barRead(m.bar, unsigned(address) - m.base, width);
  }

  /** @param value cut to `width` bytes by whoever answers */
  write(address: number, width: AccessWidth, value: number): void {
    const m = this.#whole(address, width);
    if (m === null) this.#writePieces(address, width, value);
    else if (m.size <= LARGEST_INT32) m.target.barWrite(m.bar, (address - m.base) | 0, width, value);
    else m.target.barWrite(m.bar, unsigned(address) - m.base, width, value);
  }

  /** An 8-byte read as two of 4, low half first: `pair[0]` is the low one. */
  readPair(address: number, pair: Uint32Array): void {
    const at = unsigned(address);
    pair[0] = this.read(at, 4);
    pair[1] = this.read(at + 4, 4);
  }

  /** An 8-byte write as two of 4, low half first. */
  writePair(address: number, low: number, high: number): void {
    const at = unsigned(address);
    this.write(at, 4, low);
    this.write(at + 4, 4, high);
  }

  /** Adds a mapping that is nowhere yet. */
  add(target: Target, bar: number, size: number, priority: number): Mapping {
    const mapping = new Mapping(target, bar, size, priority);
    mapping.id = this.#freeIds.pop() ?? this.#byId.length;
    this.#byId[mapping.id] = mapping;
    return mapping;
  }

  /** Puts a mapping elsewhere, or nowhere with −1; only the pages of its old and its new range are touched. */
  move(mapping: Mapping, base: number): void {
    if (mapping.base === base) return;
    const former = mapping.base;
    mapping.base = base;
    this.#mapped = this.#mapped.filter((other) => other !== mapping);
    if (base >= 0) {
      const after = this.#mapped.findIndex((other) => other.priority > mapping.priority);
      this.#mapped.splice(after < 0 ? this.#mapped.length : after, 0, mapping);
    }
    this.#high = this.#mapped.filter((other) => other.base + other.size > this.#limit);
    if (former >= 0) this.#rebuild(former, former + mapping.size);
    if (base >= 0) this.#rebuild(base, base + mapping.size);
  }

  /** Takes a mapping out for good. */
  remove(mapping: Mapping): void {
    if (this.#byId[mapping.id] !== mapping) return;
    this.move(mapping, -1);
    this.#byId[mapping.id] = NOBODY;
    this.#freeIds.push(mapping.id);
  }

  /** The mapping that answers the whole access, NOBODY included; null: several. */
  #whole(address: number, width: AccessWidth): Mapping | null {
    const at = unsigned(address);
    const last = at + width - 1;
    const shift = this.#shift;
    const table = this.#table;
    const lastPage = last >>> shift;
    if (last > 0xffff_ffff || lastPage >= table.length) return this.#firstOf(this.#high, address, width);
    const entry = table[at >>> shift]!;
    if (table[lastPage] !== entry) return null;
    if (shift === 0 && width === 4 && (table[at + 1] !== entry || table[at + 2] !== entry)) return null;
    if (entry === 0) return this.#nobody;
    if (entry >= SHARED) return this.#firstOf(this.#shared[entry - SHARED]!, address, width);
    const m = this.#byId[entry]!;
    return at >= m.base && last < m.base + m.size ? m : null;
  }

  /** The first mapping of a list that holds any of the access, if it holds all of it. */
  #firstOf(list: readonly Mapping[], address: number, width: number): Mapping | null {
    const at = unsigned(address);
    const end = at + width;
    for (let i = 0; i < list.length; i++) {
      const m = list[i]!;
      if (at < m.base + m.size && end > m.base) return at >= m.base && end <= m.base + m.size ? m : null;
    }
    return null;
  }

  #readPieces(address: number, width: AccessWidth): number {
    const at = unsigned(address);
    let value = 0;
    for (let done = 0, scale = 1; done < width; ) {
      const part = this.#pieceAt(at + done, width - done);
      const owner = this.#ownerOf(at + done);
      const piece =
        owner === null
          ? this.#nobody.target.barRead(0, 0, part)
          : owner.target.barRead(owner.bar, at + done - owner.base, part);
      value += piece * scale;
      done += part;
      scale *= 2 ** (8 * part);
    }
    return value;
  }

  #writePieces(address: number, width: AccessWidth, value: number): void {
    const at = unsigned(address);
    for (let done = 0, rest = value >>> 0; done < width; ) {
      const part = this.#pieceAt(at + done, width - done);
      const owner = this.#ownerOf(at + done);
      if (owner !== null) {
        const piece = part === 4 ? rest : rest & (2 ** (8 * part) - 1);
        owner.target.barWrite(owner.bar, at + done - owner.base, part, piece);
      }
      done += part;
      rest = part === 4 ? 0 : rest >>> (8 * part);
    }
  }

  #ownerOf(at: number): Mapping | null {
    const m = this.#whole(at, 1);
    return m === null || m === this.#nobody ? null : m;
  }

  /** Width of the next piece: aligned, and of one owner. */
  #pieceAt(at: number, left: number): AccessWidth {
    const owner = this.#ownerOf(at);
    if (left >= 4 && at % 4 === 0 && this.#all(owner, at, 4)) return 4;
    return left >= 2 && at % 2 === 0 && this.#all(owner, at, 2) ? 2 : 1;
  }

  #all(owner: Mapping | null, at: number, width: number): boolean {
    for (let i = 1; i < width; i++) if (this.#ownerOf(at + i) !== owner) return false;
    return true;
  }

  // ---------------------------------------------------------------------------------------------- table

  /** Paints the pages of a range anew: lowest priority first, so that the highest one stays. */
  #rebuild(start: number, end: number): void {
    const pageSize = 2 ** this.#shift;
    const first = Math.floor(start / pageSize);
    const stop = Math.min(Math.ceil(end / pageSize), this.#table.length);
    if (first >= stop) return;
    this.entriesWritten += stop - first;
    this.#dropShared(first, stop);
    this.#table.fill(0, first, stop);
    const edges = new Set<number>();
    for (let i = this.#mapped.length - 1; i >= 0; i--) {
      const m = this.#mapped[i]!;
      const from = Math.floor(m.base / pageSize);
      const to = Math.ceil((m.base + m.size) / pageSize);
      if (from >= stop || to <= first) continue;
      this.#table.fill(m.id, Math.max(from, first), Math.min(to, stop));
      if (m.base % pageSize !== 0 && from >= first) edges.add(from);
      if ((m.base + m.size) % pageSize !== 0 && to <= stop) edges.add(to - 1);
    }
    for (const page of edges) this.#resolve(page);
  }

  /** A page that some mapping holds only in part. */
  #resolve(page: number): void {
    const start = page * 2 ** this.#shift;
    const end = start + 2 ** this.#shift;
    const inside = this.#mapped.filter((m) => m.base < end && m.base + m.size > start);
    const whole = inside.findIndex((m) => m.base <= start && m.base + m.size >= end);
    const list = whole < 0 ? inside : inside.slice(0, whole + 1); // what lies below is hidden
    if (list.length === 1) {
      this.#table[page] = list[0]!.id;
      return;
    }
    const index = this.#freeShared.pop() ?? this.#shared.length;
    this.#shared[index] = list;
    this.#table[page] = SHARED + index;
  }

  #dropShared(first: number, stop: number): void {
    if (this.#freeShared.length === this.#shared.length) return;
    for (let page = first; page < stop; page++) {
      const entry = this.#table[page]!;
      if (entry < SHARED) continue;
      this.#shared[entry - SHARED] = [];
      this.#freeShared.push(entry - SHARED);
    }
  }
}
