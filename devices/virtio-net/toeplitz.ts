import { VIRTIO_NET_RSS_MAX_KEY_SIZE } from "../../src/spec/virtio-net.js";

/** Bytes of the longest input: two IPv6 addresses and two ports. */
const LONGEST = 36;

/**
 * The Toeplitz hash: for each bit of the input that is set, the 32 bits of the key that begin at its place, all XORed.
 * §5.1.6.4.3, which means that of Microsoft's RSS. What a byte adds at its place is looked up.
 */
export class Toeplitz {
  readonly #table = new Uint32Array(LONGEST * 256);

  /** @param key 40 bytes; a shorter one stands in front of zeros */
  setKey(key: Uint8Array): void {
    const table = this.#table;
    for (let place = 0; place < LONGEST; place++) {
      for (let bit = 0; bit < 8; bit++) table[256 * place + (0x80 >>> bit)] = windowAt(key, 8 * place + bit);
      for (let value = 1; value < 256; value++) {
        const rest = value & (value - 1);
        if (rest !== 0) table[256 * place + value] = table[256 * place + rest]! ^ table[256 * place + (value ^ rest)]!;
      }
    }
  }

  /** What `count` bytes add to a hash. @param place of the first in the input; both together at most 36 */
  add(bytes: Uint8Array, at: number, count: number, place: number): number {
    const table = this.#table;
    let hash = 0;
    for (let i = 0; i < count; i++) hash ^= table[256 * (place + i) + bytes[at + i]!]!;
    return hash;
  }
}

/** 32 bits of the key from a bit on, the first one highest. */
const windowAt = (key: Uint8Array, bit: number): number => {
  let window = 0;
  for (let i = bit; i < bit + 32; i++) {
    const byte = i < 8 * VIRTIO_NET_RSS_MAX_KEY_SIZE ? key[i >>> 3]! : 0;
    window = (window << 1) | ((byte >>> (7 - (i & 7))) & 1);
  }
  return window;
};
