/* The driver's side of one virtqueue in raw numbers, written once and armed again after each batch. */

const NEXT = 1;
const WRITE = 2;

/** bytes from the start of a queue's memory: 16 for each descriptor come before them */
const DRIVER = 0x1000;
const DEVICE = 0x2000;
export const AREAS = [0, DRIVER, DEVICE] as const;

export interface Buffers {
  /** descriptors of each chain, their bytes */
  readonly lengths: readonly number[];
  /** address of the buffer of descriptor `i` */
  readonly at: (i: number) => number;
  readonly writable: boolean;
}

/** A ring whose chains all look alike. Interrupts are asked for once all that is available has been used. */
export interface RawRing {
  /** descriptors */
  readonly size: number;
  /** chains */
  readonly chains: number;
  /** Makes the next chain available. */
  add(): void;
  /** Whether the device used the next chain. @returns bytes written to it, −1: it did not */
  take(): number;
  /** Asks for an interrupt when the chains added so far, less `behind`, are used. */
  arm(behind: number): void;
}

/** VIRTIO 1.3 §2.7 */
export class RawSplitRing implements RawRing {
  readonly size: number;
  readonly chains: number;
  readonly #view: DataView;
  readonly #base: number;
  #added = 0; // modulo 65536
  #taken = 0;

  constructor(view: DataView, base: number, size: number, { lengths, at, writable }: Buffers) {
    this.size = size;
    this.chains = Math.floor(size / lengths.length);
    this.#view = view;
    this.#base = base;
    for (let i = 0; i < this.chains * lengths.length; i++) {
      const k = i % lengths.length;
      const more = k < lengths.length - 1;
      view.setUint32(base + 16 * i, at(i), true);
      view.setUint32(base + 16 * i + 8, lengths[k]!, true);
      view.setUint16(base + 16 * i + 12, (more ? NEXT : 0) | (writable ? WRITE : 0), true);
      view.setUint16(base + 16 * i + 14, more ? i + 1 : 0, true);
    }
    for (let i = 0; i < size; i++) view.setUint16(base + DRIVER + 4 + 2 * i, (i % this.chains) * lengths.length, true);
  }

  add(): void {
    this.#added = (this.#added + 1) & 0xffff;
    this.#view.setUint16(this.#base + DRIVER + 2, this.#added, true);
  }

  take(): number {
    if (this.#view.getUint16(this.#base + DEVICE + 2, true) === this.#taken) return -1;
    const length = this.#view.getInt32(this.#base + DEVICE + 8 + 8 * (this.#taken & (this.size - 1)), true);
    this.#taken = (this.#taken + 1) & 0xffff;
    return length;
  }

  arm(behind: number): void {
    this.#view.setUint16(this.#base + DRIVER + 4 + 2 * this.size, (this.#added - behind) & 0xffff, true); // used_event
  }
}

const AVAIL = 1 << 7;
const USED = 1 << 15;
const EVENT_DESC = 2;

/** VIRTIO 1.3 §2.8; its size is a multiple of a chain's length, so that none runs over the end. */
export class RawPackedRing implements RawRing {
  readonly size: number;
  readonly chains: number;
  readonly #view: DataView;
  readonly #base: number;
  readonly #lengths: Int32Array;
  /** id and flags of each descriptor of a chain, by lap */
  readonly #flags: readonly [Int32Array, Int32Array];
  #slot = 0;
  #lap = 0;
  #takenSlot = 0;
  #takenLap = 0;

  constructor(view: DataView, base: number, size: number, { lengths, at, writable }: Buffers) {
    this.chains = Math.floor(size / lengths.length);
    this.size = this.chains * lengths.length;
    this.#view = view;
    this.#base = base;
    this.#lengths = Int32Array.from(lengths);
    const flags = lengths.map((_, k) => (k < lengths.length - 1 ? NEXT : 0) | (writable ? WRITE : 0));
    const words = (lap: number) => Int32Array.from(flags, (of) => (of | lap) << 16);
    this.#flags = [words(AVAIL), words(USED)];
    for (let i = 0; i < this.size; i++) view.setUint32(base + 16 * i, at(i), true);
  }

  /** The first flags come last: they hand the chain over. */
  add(): void {
    const flags = this.#flags[this.#lap as 0 | 1];
    const first = this.#base + 16 * this.#slot;
    for (let k = this.#lengths.length - 1; k >= 0; k--) {
      this.#view.setInt32(first + 16 * k + 8, this.#lengths[k]!, true);
      this.#view.setInt32(first + 16 * k + 12, flags[k]!, true);
    }
    this.#slot += this.#lengths.length;
    if (this.#slot < this.size) return;
    this.#slot = 0;
    this.#lap ^= 1;
  }

  take(): number {
    const at = this.#base + 16 * this.#takenSlot;
    const flags = this.#view.getUint16(at + 14, true) & (AVAIL | USED);
    if (flags !== (this.#takenLap === 0 ? AVAIL | USED : 0)) return -1;
    const length = this.#view.getInt32(at + 8, true);
    this.#takenSlot += this.#lengths.length;
    if (this.#takenSlot === this.size) {
      this.#takenSlot = 0;
      this.#takenLap ^= 1;
    }
    return length;
  }

  arm(behind: number): void {
    let slot = this.#slot - behind * this.#lengths.length;
    let lap = this.#lap;
    if (slot < 0) {
      slot += this.size;
      lap ^= 1;
    }
    this.#view.setInt32(this.#base + DRIVER, slot | (lap === 0 ? 0x8000 : 0) | (EVENT_DESC << 16), true);
  }
}
