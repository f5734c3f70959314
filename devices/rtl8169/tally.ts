import type { StateReader } from "../../src/bytes/index.js";
import type { DmaDoor, SavedState } from "../../src/contract/index.js";
import { RTL8169_TALLY, RTL8169_TALLY_SIZE } from "../../src/spec/rtl8169.js";

/** Names in the order of the dumped block; an index into the counters. */
const NAMES = Object.keys(RTL8169_TALLY) as (keyof typeof RTL8169_TALLY)[];
const at = (name: keyof typeof RTL8169_TALLY): number => NAMES.indexOf(name);

export const TALLY_TX_OK = at("TxOk");
export const TALLY_RX_OK = at("RxOk");
export const TALLY_TX_ERR = at("TxERR");
export const TALLY_RX_ERR = at("RxERR");
export const TALLY_MISS_PKT = at("MissPkt");
export const TALLY_RX_OK_PHY = at("RxOkPhy");
export const TALLY_RX_OK_BRD = at("RxOkBrd");
export const TALLY_RX_OK_MUL = at("RxOkMul");
export const TALLY_TX_ABT = at("TxAbt");

/** The tally counters: they outlive CR.RST and clear at power-on. Data sheet p. 15 */
export class Tally {
  readonly #counts = new Float64Array(NAMES.length);
  readonly #block = new Uint8Array(RTL8169_TALLY_SIZE);

  add(counter: number, count = 1): void {
    this.#counts[counter]! += count;
  }

  clear(): void {
    this.#counts.fill(0);
  }

  /** Writes the 64 bytes; counters narrower than they have grown show their low bits. @returns false: not RAM, or door shut */
  dump(door: DmaDoor, address: number): boolean {
    const view = new DataView(this.#block.buffer);
    NAMES.forEach((name, i) => {
      const count = this.#counts[i]!;
      const { at, width } = RTL8169_TALLY[name];
      if (width === 2) view.setUint16(at, count, true);
      else view.setUint32(at, count, true);
      if (width === 8) view.setUint32(at + 4, Math.floor(count / 2 ** 32), true);
    });
    return door.write(address, RTL8169_TALLY_SIZE, this.#block, 0);
  }

  save(): SavedState {
    return { counts: Array.from(this.#counts) };
  }

  /** Checks a state and returns what applies it. @throws StateError */
  check(state: StateReader): () => void {
    const counts = state.integers("counts", 0, Number.MAX_SAFE_INTEGER, NAMES.length);
    return () => this.#counts.set(counts);
  }
}
