import { hex } from "../bytes/index.js";
import { BusError, ResourceError, type Segment } from "./types.js";

/** What several handles may share: parallel arrays, so that a list that is reset and filled again costs no garbage. */
interface Store {
  readonly paddr: Float64Array;
  readonly len: Float64Array;
  nseg: number;
  /** bytes over all segments */
  length: number;
  /** handles that hold this store */
  refs: number;
}

const emptyStore = (maxseg: number): Store => ({
  paddr: new Float64Array(maxseg),
  len: new Float64Array(maxseg),
  nseg: 0,
  length: 0,
  refs: 1,
});

/** Most segments a list may be made for: a mistake in a size does not become gigabytes. */
const MAXSEG_LIMIT = 0x10_0000;

/** Throws EINVAL unless the range lies in 0 … 2⁵³−1. */
export const checkRange = (paddr: number, len: number): void => {
  if (!Number.isSafeInteger(paddr) || paddr < 0) throw new ResourceError("EINVAL", `physical address ${paddr}`);
  if (!Number.isSafeInteger(len) || len < 0) throw new ResourceError("EINVAL", `length ${len}`);
  if (!Number.isSafeInteger(paddr + len))
    throw new ResourceError("EINVAL", `${hex(paddr)}+${hex(len)} is above 2^53-1`);
};

/**
 * A scatter/gather list: physical ranges in order, physically adjacent ones merged. sglist(9), FreeBSD 8.0.
 *
 * It has the meaning that the manual page documents. It knows no constraints and does no bouncing: see `DmaTag`.
 * Every operation is all or nothing. While a list is shared it can be read, cloned and sliced, but not changed.
 */
export class Sglist implements Iterable<Segment>, Disposable {
  #store: Store | null;

  /** @param maxseg capacity in segments; @throws ResourceError EINVAL */
  constructor(maxseg: number) {
    if (!Number.isInteger(maxseg) || maxseg < 0 || maxseg > MAXSEG_LIMIT)
      throw new ResourceError("EINVAL", `capacity of ${maxseg} segments: expected 0 … ${MAXSEG_LIMIT}`);
    this.#store = emptyStore(maxseg);
  }

  /** A list of exactly these ranges. sglist_build(9) */
  static of(segments: Iterable<Segment>): Sglist {
    const all = [...segments];
    const list = new Sglist(all.length);
    for (const { paddr, len } of all) list.append(paddr, len);
    return list;
  }

  get nseg(): number {
    return this.#live().nseg;
  }

  get maxseg(): number {
    return this.#live().paddr.length;
  }

  /** bytes over all segments */
  get length(): number {
    return this.#live().length;
  }

  /** Physical address of segment `index`; NaN outside. For loops that must not allocate. */
  paddrAt(index: number): number {
    const store = this.#live();
    return index < store.nseg ? (store.paddr[index] ?? Number.NaN) : Number.NaN;
  }

  /** Bytes of segment `index`; NaN outside. */
  lenAt(index: number): number {
    const store = this.#live();
    return index < store.nseg ? (store.len[index] ?? Number.NaN) : Number.NaN;
  }

  /** Adds a range at the end, merged with the last segment when that ends where this begins. Length 0 adds nothing. */
  append(paddr: number, len: number): void {
    checkRange(paddr, len);
    const store = this.#mine("append");
    if (store.paddr.length === 0) throw new ResourceError("EINVAL", "append to a list of capacity 0");
    if (len === 0) return;
    const last = store.nseg - 1;
    if (last >= 0 && store.paddr[last]! + store.len[last]! === paddr) store.len[last] = store.len[last]! + len;
    else {
      if (store.nseg === store.paddr.length)
        throw new ResourceError("EFBIG", `append to a list that has ${store.nseg} segments already`);
      store.paddr[store.nseg] = paddr;
      store.len[store.nseg] = len;
      store.nseg++;
    }
    store.length += len;
  }

  /** Appends a part of another list. @throws ResourceError EINVAL beyond its end, EFBIG */
  appendList(source: Sglist, offset = 0, len = source.length - offset): void {
    const from = source.#live();
    const store = this.#mine("append");
    source.#checkPart(offset, len);
    if (store.paddr.length === 0) throw new ResourceError("EINVAL", "append to a list of capacity 0");
    const parts = from === store ? source.slice(offset, len).#live() : from;
    const skipped = from === store ? 0 : offset;
    const { nseg, length } = store;
    const lastLen = nseg === 0 ? 0 : store.len[nseg - 1]!;
    try {
      this.#copy(parts, skipped, len);
    } catch (error) {
      store.nseg = nseg;
      store.length = length;
      if (nseg > 0) store.len[nseg - 1] = lastLen;
      throw error;
    }
  }

  /**
   * Takes the first `len` bytes off, into a list of its own with the same capacity; all of them when there are fewer.
   * The cut may fall inside a segment.
   */
  split(len: number): Sglist {
    if (!Number.isSafeInteger(len) || len < 0) throw new ResourceError("EINVAL", `split at ${len}`);
    const store = this.#mine("split");
    const taken = Math.min(len, store.length);
    const head = new Sglist(store.paddr.length);
    if (taken === 0) return head;
    head.#copy(store, 0, taken);
    let gone = 0; // whole segments that went to the head
    let left = taken;
    while (gone < store.nseg && left >= store.len[gone]!) left -= store.len[gone++]!;
    if (left > 0) {
      store.paddr[gone] = store.paddr[gone]! + left;
      store.len[gone] = store.len[gone]! - left;
    }
    store.paddr.copyWithin(0, gone, store.nseg);
    store.len.copyWithin(0, gone, store.nseg);
    store.nseg -= gone;
    store.length -= taken;
    return head;
  }

  /** Appends all of `tail`, merging at the seam, and empties it. @throws ResourceError EFBIG */
  join(tail: Sglist): void {
    const from = tail.#mine("join");
    const store = this.#mine("join");
    if (from === store) throw new ResourceError("EINVAL", "join of a list with itself");
    if (from.nseg === 0) return;
    this.appendList(tail);
    tail.reset();
  }

  /** A new list that names a part of this one. @throws ResourceError EINVAL beyond the end */
  slice(offset: number, len: number): Sglist {
    const store = this.#live();
    this.#checkPart(offset, len);
    const part = new Sglist(store.paddr.length);
    part.#copy(store, offset, len);
    return part;
  }

  /** A list of its own with the same contents and capacity. */
  clone(): Sglist {
    return this.slice(0, this.length);
  }

  /** Empties the list; the capacity stays. */
  reset(): void {
    const store = this.#mine("reset");
    store.nseg = 0;
    store.length = 0;
  }

  /** Another handle on the same list; until one of them is disposed neither can change it. sglist_hold(9) */
  share(): Sglist {
    const store = this.#live();
    const other = new Sglist(0);
    other.#store = store;
    store.refs++;
    return other;
  }

  /** Whether another handle holds this list, too. */
  get shared(): boolean {
    return this.#live().refs > 1;
  }

  *[Symbol.iterator](): Iterator<Segment> {
    const store = this.#live();
    for (let i = 0; i < store.nseg; i++) yield { paddr: store.paddr[i]!, len: store.len[i]! };
  }

  /** Gives this handle up. sglist_free(9) */
  [Symbol.dispose](): void {
    if (this.#store === null) return;
    this.#store.refs--;
    this.#store = null;
  }

  #live(): Store {
    if (this.#store === null) throw new ResourceError("EINVAL", "scatter/gather list used after it was disposed");
    return this.#store;
  }

  #mine(what: string): Store {
    const store = this.#live();
    if (store.refs > 1) throw new BusError("EDOOFUS", `${what} of a shared scatter/gather list`);
    return store;
  }

  #checkPart(offset: number, len: number): void {
    const { length } = this.#live();
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(len) || offset < 0 || len < 0 || offset + len > length)
      throw new ResourceError("EINVAL", `bytes ${offset}+${len} of a list of ${length}`);
  }

  /** Appends `len` bytes from `offset` on; the range has been checked. */
  #copy(from: Store, offset: number, len: number): void {
    let skip = offset;
    let left = len;
    for (let i = 0; left > 0; i++) {
      const size = from.len[i]!;
      if (skip >= size) skip -= size;
      else {
        const part = Math.min(size - skip, left);
        this.append(from.paddr[i]! + skip, part);
        left -= part;
        skip = 0;
      }
    }
  }
}
