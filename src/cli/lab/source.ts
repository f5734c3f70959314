import { createHash, type Hash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";

/** Bytes are made and hashed in blocks of about this many, so that hashing can be timed apart from moving. */
const BLOCK = 720 * 1460;

/** Where the sender's bytes come from. */
interface ByteOrigin {
  /** Fills the whole block with the next bytes. */
  fill(block: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** Four interleaved congruential generators (Numerical Recipes' constants), high bits folded down: repeatable from a seed. */
class SeededOrigin implements ByteOrigin {
  readonly #state: Int32Array;

  constructor(seed: number) {
    this.#state = Int32Array.of(seed, seed ^ 0x243f6a88, seed ^ 0x85a308d3, seed ^ 0x13198a2e); // digits of pi
  }

  fill(block: Uint8Array<ArrayBuffer>): void {
    const words = new Int32Array(block.buffer, block.byteOffset, block.length >>> 2);
    let [a, b, c, d] = this.#state as unknown as [number, number, number, number];
    for (let i = 0; i < words.length; i += 4) {
      a = (Math.imul(a, 1664525) + 1013904223) | 0;
      b = (Math.imul(b, 1664525) + 1013904223) | 0;
      c = (Math.imul(c, 1664525) + 1013904223) | 0;
      d = (Math.imul(d, 1664525) + 1013904223) | 0;
      words[i] = a ^ (a >>> 15);
      words[i + 1] = b ^ (b >>> 15);
      words[i + 2] = c ^ (c >>> 15);
      words[i + 3] = d ^ (d >>> 15);
    }
    this.#state.set([a, b, c, d]);
  }

  close(): void {}
}

class FileOrigin implements ByteOrigin {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, "r");
  }

  fill(block: Uint8Array<ArrayBuffer>): void {
    for (let done = 0; done < block.length; ) {
      const n = readSync(this.#fd, block, done, block.length - done, null);
      if (n === 0) return; // the rest of the last block is never sent
      done += n;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Time and digest of one side of a transfer. */
class Digest {
  readonly #hash: Hash = createHash("sha256");
  /** ms spent hashing */
  hashMs = 0;

  update(bytes: Uint8Array): void {
    const before = performance.now();
    this.#hash.update(bytes);
    this.hashMs += performance.now() - before;
  }

  hex(): string {
    return this.#hash.digest("hex");
  }
}

/** The sending application: a stream of `size` bytes in segments, hashed as they are made. */
export class ByteSource {
  /** bytes */
  readonly size: number;
  /** whole segments; `next` says where the next one begins */
  readonly block: Uint8Array<ArrayBuffer>;
  readonly digest = new Digest();
  readonly #origin: ByteOrigin;
  #at: number;
  #left: number;

  /** @param segment bytes of all segments but the last; a multiple of 4, and a block of them one of 16 */
  constructor(size: number, segment: number, from: { readonly seed: number } | { readonly file: string }) {
    this.size = size;
    this.block = new Uint8Array(segment * Math.ceil(BLOCK / segment));
    this.#at = this.block.length;
    this.#left = size;
    this.#origin = "file" in from ? new FileOrigin(from.file) : new SeededOrigin(from.seed);
  }

  /** Moves on by a segment. @returns where it stands in `block`, until the next call */
  next(length: number): number {
    if (this.#at === this.block.length) this.#refill();
    const at = this.#at;
    this.#at += length;
    return at;
  }

  close(): void {
    this.#origin.close();
  }

  #refill(): void {
    const { block } = this;
    this.#origin.fill(block);
    const fresh = Math.min(block.length, this.#left);
    this.#left -= fresh;
    this.#at = 0;
    this.digest.update(fresh === block.length ? block : block.subarray(0, fresh));
  }
}

/** The receiving application: hashes what it is given. */
export class ByteSink {
  readonly digest = new Digest();
  /** bytes */
  received = 0;

  write(bytes: Uint8Array): void {
    this.received += bytes.length;
    this.digest.update(bytes);
  }
}
