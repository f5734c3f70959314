import { ConfigError, type StateReader } from "../bytes/index.js";

/**
 * xoshiro128** by Blackman and Vigna: random numbers that are the same on every run, from a seed and nothing else.
 * Its state is four words, saved with whatever draws from it.
 */
export class Prng {
  readonly #s = new Uint32Array(4);

  /** @param seed 0 … 2³²−1; @throws ConfigError `prng-seed` */
  constructor(seed: number) {
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffff_ffff)
      throw new ConfigError("prng-seed", `seed ${seed}: expected an integer in 0 … 2^32-1`);
    // Words of splitmix32, since neighbouring seeds must not begin alike and the state must not be all zeros.
    for (let i = 0; i < 4; i++) {
      let z = (seed + (i + 1) * 0x9e37_79b9) | 0;
      z = Math.imul(z ^ (z >>> 16), 0x21f0_aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a_2d97);
      this.#s[i] = z ^ (z >>> 15);
    }
  }

  /** A generator as it was saved. @throws StateError */
  static restore(state: StateReader, key: string): Prng {
    const prng = new Prng(0);
    prng.#s.set(state.integers(key, 0, 0xffff_ffff, 4));
    return prng;
  }

  /** @returns 0 … 2³²−1 */
  next(): number {
    const s = this.#s;
    const scrambled = Math.imul(rotate(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const shifted = s[1]! << 9;
    s[2] = s[2]! ^ s[0]!;
    s[3] = s[3]! ^ s[1]!;
    s[1] = s[1]! ^ s[2]!;
    s[0] = s[0]! ^ s[3]!;
    s[2] = s[2]! ^ shifted;
    s[3] = rotate(s[3]!, 11);
    return scrambled;
  }

  /** Draws once. @param probability 0 … 1 */
  chance(probability: number): boolean {
    return this.next() < probability * 2 ** 32;
  }

  /** Draws once. @returns an integer in 0 … limit−1, or 0; @param limit at most 2³², for an even choice */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  save(): number[] {
    return [...this.#s];
  }
}

const rotate = (word: number, by: number): number => (word << by) | (word >>> (32 - by));
