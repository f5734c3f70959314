import { StateError, type StateReader } from "../bytes/index.js";
import type { Offload, SavedState } from "../contract/index.js";
import { GSO_KINDS, OffloadRecord } from "./offload.js";

// One record per frame, in the order in which the frames came.
const START = 0;
const LENGTH = 1;
const HINT = 2;
const FLAGS = 3;
const CSUM_START = 4;
const CSUM_OFFSET = 5;
const GSO_SIZE = 6;
const WORDS = 7;

const F_HELD = 1; // not released yet
const F_OFFLOAD = 2; // came with an offload
const F_NEEDS_CSUM = 4;
const F_DATA_VALID = 8;
const F_ECN = 16;
const F_GSO_SHIFT = 5; // three bits: index in GSO_KINDS
const F_ALL = 0xff;

/**
 * Copies of frames in one preallocated ring of bytes, for whoever has to hold them. A frame lies in one piece; room is
 * given back from the oldest frame on, so a frame released out of turn keeps its bytes until its elders are gone.
 */
export class FrameRing {
  readonly bytes: Uint8Array;
  /** of the frame that was selected last: index of its first byte in `bytes`, valid until it is released */
  start = 0;
  /** of the frame that was selected last; bytes */
  length = 0;
  queueHint = 0;
  /** valid until the next `select` */
  offload: Offload | null = null;
  readonly #offload = new OffloadRecord();
  readonly #records: Int32Array;
  readonly #capacity: number;
  #first = 0; // slot of the oldest record
  #count = 0; // records from there on, released ones among them
  #held = 0;
  #end = 0; // index in bytes behind the youngest frame

  /** @param bytes room for frames; @param frames most frames at a time, released ones behind an older one included */
  constructor(bytes: number, frames: number) {
    this.bytes = new Uint8Array(bytes);
    this.#capacity = frames;
    this.#records = new Int32Array(frames * WORDS);
  }

  /** A ring with the frames of a saved one. @throws StateError */
  static restore(state: StateReader, bytes: number, frames: number): FrameRing {
    const ring = new FrameRing(bytes, frames);
    ring.#fill(state);
    return ring;
  }

  /** frames in the ring that are not released */
  get held(): number {
    return this.#held;
  }

  /** most frames at a time */
  get capacity(): number {
    return this.#capacity;
  }

  /** slot of the oldest frame that is not released, or −1 */
  get head(): number {
    return this.#held === 0 ? -1 : this.#first;
  }

  /** Copies a frame. @returns its slot, 0 … capacity−1, or −1 when there is no room */
  push(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): number {
    if (this.#count === this.#capacity) return -1;
    const at = this.#room(length);
    if (at < 0) return -1;
    this.bytes.set(bytes.subarray(start, start + length), at);
    this.#end = at + length;
    const slot = (this.#first + this.#count) % this.#capacity;
    const record = slot * WORDS;
    const records = this.#records;
    records[record + START] = at;
    records[record + LENGTH] = length;
    records[record + HINT] = queueHint;
    let flags = F_HELD;
    if (offload !== null) {
      flags |= F_OFFLOAD | (GSO_KINDS.indexOf(offload.gso) << F_GSO_SHIFT);
      if (offload.needsCsum) flags |= F_NEEDS_CSUM;
      if (offload.dataValid) flags |= F_DATA_VALID;
      if (offload.ecn) flags |= F_ECN;
      records[record + CSUM_START] = offload.csumStart;
      records[record + CSUM_OFFSET] = offload.csumOffset;
      records[record + GSO_SIZE] = offload.gsoSize;
    } else records.fill(0, record + CSUM_START, record + WORDS);
    records[record + FLAGS] = flags;
    this.#count++;
    this.#held++;
    return slot;
  }

  /** Shows a held frame in `start`, `length`, `offload` and `queueHint`. */
  select(slot: number): void {
    const record = slot * WORDS;
    const records = this.#records;
    this.start = records[record + START]!;
    this.length = records[record + LENGTH]!;
    this.queueHint = records[record + HINT]!;
    const flags = records[record + FLAGS]!;
    this.offload = null;
    if ((flags & F_OFFLOAD) === 0) return;
    const offload = this.#offload;
    offload.needsCsum = (flags & F_NEEDS_CSUM) !== 0;
    offload.dataValid = (flags & F_DATA_VALID) !== 0;
    offload.ecn = (flags & F_ECN) !== 0;
    offload.gso = GSO_KINDS[flags >>> F_GSO_SHIFT]!;
    offload.csumStart = records[record + CSUM_START]!;
    offload.csumOffset = records[record + CSUM_OFFSET]!;
    offload.gsoSize = records[record + GSO_SIZE]!;
    this.offload = offload;
  }

  /** Gives a held frame up. */
  release(slot: number): void {
    const records = this.#records;
    const flags = slot * WORDS + FLAGS;
    if ((records[flags]! & F_HELD) === 0) return;
    records[flags] = records[flags]! & ~F_HELD;
    this.#held--;
    while (this.#count > 0 && (records[this.#first * WORDS + FLAGS]! & F_HELD) === 0) {
      this.#first = (this.#first + 1) % this.#capacity;
      this.#count--;
    }
  }

  /** Gives all frames up. @returns how many were held */
  clear(): number {
    const held = this.#held;
    this.#records.fill(0);
    this.#first = this.#count = this.#held = this.#end = 0;
    return held;
  }

  isHeld(slot: number): boolean {
    return (this.#records[slot * WORDS + FLAGS]! & F_HELD) !== 0;
  }

  /** Where a held frame comes among all records, oldest first; a restored ring has it as its slot. */
  position(slot: number): number {
    return (slot - this.#first + this.#capacity) % this.#capacity;
  }

  /** Room that is not free stays where it is, so that a restored ring is full when this one would be. */
  save(): SavedState {
    const records: number[] = [];
    let size = 0;
    for (let i = 0; i < this.#count; i++) {
      const record = ((this.#first + i) % this.#capacity) * WORDS;
      for (let word = 0; word < WORDS; word++) records.push(this.#records[record + word]!);
      if ((this.#records[record + FLAGS]! & F_HELD) !== 0) size += this.#records[record + LENGTH]!;
    }
    const data = new Uint8Array(size);
    for (let at = 0, i = 0; i < records.length; i += WORDS) {
      if ((records[i + FLAGS]! & F_HELD) === 0) continue;
      const start = records[i + START]!;
      const length = records[i + LENGTH]!;
      data.set(this.bytes.subarray(start, start + length), at);
      at += length;
    }
    return { version: 1, records, data };
  }

  /** Index for `length` more bytes in one piece, or −1. */
  #room(length: number): number {
    const size = this.bytes.length;
    if (length < 1 || length > size) return -1;
    if (this.#count === 0) return 0;
    const oldest = this.#records[this.#first * WORDS + START]!;
    if (this.#end <= oldest) return oldest - this.#end >= length ? this.#end : -1;
    if (size - this.#end >= length) return this.#end;
    return oldest >= length ? 0 : -1;
  }

  #fill(state: StateReader): void {
    const fail = (why: string): StateError => new StateError(`${state.path}.records`, why);
    const words = state.integers("records", -0x8000_0000, 0x7fff_ffff);
    const data = state.bytes("data");
    if (words.length % WORDS !== 0 || words.length > this.#records.length)
      throw fail(`${words.length} numbers for at most ${this.#capacity} records of ${WORDS}`);
    for (let taken = 0, i = 0; i < words.length; i += WORDS) {
      const start = words[i + START]!;
      const length = words[i + LENGTH]!;
      const flags = words[i + FLAGS]!;
      if (length < 1 || (flags & ~F_ALL) !== 0 || flags >>> F_GSO_SHIFT >= GSO_KINDS.length)
        throw fail(`record ${i / WORDS} has length ${length}, flags ${flags}`);
      // The first frame lies anywhere, each further one where the allocator could have put it.
      const next = i === 0 ? start : this.#end;
      if (start < 0 || start + length > this.bytes.length || (start !== next && (start !== 0 || next < words[START]!)))
        throw fail(`record ${i / WORDS} lies at ${start}, the one before ends at ${next}`);
      if (i > 0 && start <= words[START]! && start + length > words[START]!)
        throw fail(`record ${i / WORDS} at ${start} overlaps the oldest`);
      this.#end = start + length;
      if ((flags & F_HELD) !== 0) {
        if (taken + length > data.length) throw new StateError(`${state.path}.data`, "too few bytes");
        this.bytes.set(data.subarray(taken, taken + length), start);
        taken += length;
        this.#held++;
      } else if (i === 0) throw fail("the oldest record is released");
      this.#count++;
      if (i + WORDS === words.length && taken !== data.length)
        throw new StateError(`${state.path}.data`, `${data.length} bytes, expected ${taken}`);
    }
    if (words.length === 0 && data.length !== 0) throw new StateError(`${state.path}.data`, "bytes of no frame");
    this.#records.set(words);
  }
}
