import { StateError, type StateReader } from "../bytes/index.js";
import type { SavedState } from "../contract/index.js";

/** Entries with the same hash; a fifth station takes the place of the one that was silent longest. */
const WAYS = 4;

const NOBODY = 0xff;

/** When the station of an empty entry was heard: before all others, so that empty entries are used up first. */
const NEVER = -1;

/**
 * Which port a station was heard on last: a table of fixed size, so that invented addresses cost a guest its own
 * entries and the host nothing. An entry that is too old counts as none. IEEE 802.1D §7.9
 */
export class MacTable {
  readonly #ageingNs: number;
  readonly #size: number;
  readonly #low: Uint32Array; // the last four bytes of an address
  readonly #high: Uint16Array; // the first two
  readonly #port: Uint8Array; // NOBODY: an empty entry
  readonly #heard: Float64Array; // ns

  /** @param size entries, a power of two of at least 4; @param ageingNs ns after which a silent station is forgotten */
  constructor(size: number, ageingNs: number) {
    this.#size = size;
    this.#ageingNs = ageingNs;
    this.#low = new Uint32Array(size);
    this.#high = new Uint16Array(size);
    this.#port = new Uint8Array(size).fill(NOBODY);
    this.#heard = new Float64Array(size).fill(NEVER);
  }

  /** A table as it was saved. @throws StateError */
  static restore(state: StateReader, size: number, ageingNs: number, ports: number): MacTable {
    const table = new MacTable(size, ageingNs);
    const low = state.integers("low", 0, 0xffff_ffff, size);
    const high = state.integers("high", 0, 0xffff, size);
    const port = state.integers("port", 0, NOBODY, size);
    const bad = port.find((p) => p !== NOBODY && p >= ports);
    if (bad !== undefined) throw new StateError(`${state.path}.port`, `port ${bad} of ${ports}`);
    table.#heard.set(state.integers("heard", NEVER, Number.MAX_SAFE_INTEGER, size));
    table.#low.set(low);
    table.#high.set(high);
    table.#port.set(port);
    return table;
  }

  /** Notes that the station whose address stands at `at` was heard on `port`. */
  learn(bytes: Uint8Array, at: number, port: number, now: number): void {
    const low = lowOf(bytes, at);
    const high = highOf(bytes, at);
    const set = this.#setOf(low, high);
    let place = set;
    for (let i = set; i < set + WAYS; i++) {
      if (this.#isStation(i, low, high)) {
        place = i;
        break;
      }
      if (this.#heard[i]! < this.#heard[place]!) place = i;
    }
    this.#low[place] = low;
    this.#high[place] = high;
    this.#port[place] = port;
    this.#heard[place] = now;
  }

  /** The port of the station whose address stands at `at`, or −1 when it is not known. */
  lookup(bytes: Uint8Array, at: number, now: number): number {
    const low = lowOf(bytes, at);
    const high = highOf(bytes, at);
    const set = this.#setOf(low, high);
    for (let i = set; i < set + WAYS; i++)
      if (this.#isStation(i, low, high)) return now - this.#heard[i]! > this.#ageingNs ? -1 : this.#port[i]!;
    return -1;
  }

  /** Forgets every station behind a port. */
  forget(port: number): void {
    for (let i = 0; i < this.#size; i++) if (this.#port[i] === port) this.#empty(i);
  }

  save(): SavedState {
    return { low: [...this.#low], high: [...this.#high], port: [...this.#port], heard: [...this.#heard] };
  }

  #isStation(i: number, low: number, high: number): boolean {
    return this.#low[i] === low && this.#high[i] === high && this.#port[i] !== NOBODY;
  }

  #empty(i: number): void {
    this.#port[i] = NOBODY;
    this.#heard[i] = NEVER;
  }

  /** Index of the first entry where an address may stand. Cards of one machine differ in the last bytes only. */
  #setOf(low: number, high: number): number {
    const mixed = Math.imul(low ^ (high << 7), 0x9e37_79b1);
    return ((mixed >>> 16) & (this.#size / WAYS - 1)) * WAYS;
  }
}

const lowOf = (bytes: Uint8Array, at: number): number =>
  ((bytes[at + 2]! << 24) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!) >>> 0;

const highOf = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
