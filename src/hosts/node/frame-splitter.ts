import { ETHER_HDR_LEN } from "../../bytes/index.js";
import type { Verdict } from "../../contract/index.js";

/** Bytes in front of each frame: its length, big-endian. */
export const LENGTH_SIZE = 4;

/** Longest frame that QEMU's sockets take (`NET_BUFSIZE`: a 64 KiB packet and some pages), bytes; more ends the connection. */
export const STREAM_FRAME_MAX = 4096 + 65_536;

/** Where the frames of a stream go. `later`: offer it again after `resume`. */
export type FrameTaker = (bytes: Uint8Array, start: number, length: number) => Verdict;

/**
 * Cuts a stream of bytes into frames, each with its length in front. A frame that lies whole in a chunk is handed on in
 * place; what is cut by chunks is put together in one buffer. When a frame is answered `later`, the rest of the chunk
 * waits for `resume`, and no other chunk may come before.
 */
export class FrameSplitter {
  /** frames shorter than `shortest`, left out */
  runts = 0;
  readonly #take: FrameTaker;
  readonly #shortest: number;
  readonly #partial = new Uint8Array(LENGTH_SIZE + STREAM_FRAME_MAX);
  #have = 0; // bytes in #partial
  #chunk: Uint8Array | null = null;
  #at = 0; // index of the first byte of #chunk that was not consumed
  #held = false; // a frame was answered `later`

  /** @param shortest bytes of the shortest frame that is handed on */
  constructor(take: FrameTaker, shortest = ETHER_HDR_LEN) {
    this.#take = take;
    this.#shortest = shortest;
  }

  /** Whether a frame was answered `later` and waits. */
  get waiting(): boolean {
    return this.#held;
  }

  /** Forgets what is left of a stream. @returns whether a frame was waiting */
  reset(): boolean {
    const held = this.#held;
    this.#have = 0;
    this.#chunk = null;
    this.#held = false;
    return held;
  }

  /**
   * Hands on the frames that `chunk` completes; the chunk is kept while one of them waits.
   * @returns 0, or the length of a frame that is too long: the stream makes no sense from there on
   */
  push(chunk: Uint8Array): number {
    this.#chunk = chunk;
    this.#at = 0;
    return this.resume();
  }

  /** Goes on where a frame was answered `later`. @returns as `push` */
  resume(): number {
    for (let chunk = this.#chunk; chunk !== null; chunk = this.#chunk) {
      const left = chunk.length - this.#at;
      if (this.#have === 0 && left >= LENGTH_SIZE) {
        const length = lengthAt(chunk, this.#at);
        if (length > STREAM_FRAME_MAX) return length;
        if (left >= LENGTH_SIZE + length) {
          if (!this.#hand(chunk, this.#at + LENGTH_SIZE, length)) return 0;
          this.#at += LENGTH_SIZE + length;
          continue;
        }
      }
      const wanted = this.#have < LENGTH_SIZE ? LENGTH_SIZE : LENGTH_SIZE + lengthAt(this.#partial, 0);
      if (wanted > this.#partial.length) return wanted - LENGTH_SIZE;
      const piece = Math.min(wanted - this.#have, left);
      this.#partial.set(chunk.subarray(this.#at, this.#at + piece), this.#have);
      this.#have += piece;
      this.#at += piece;
      if (this.#have < wanted) this.#chunk = null;
      else if (wanted > LENGTH_SIZE || lengthAt(this.#partial, 0) === 0) {
        if (!this.#hand(this.#partial, LENGTH_SIZE, wanted - LENGTH_SIZE)) return 0;
        this.#have = 0;
      }
    }
    return 0;
  }

  /** @returns false: the frame is to be offered again */
  #hand(bytes: Uint8Array, start: number, length: number): boolean {
    this.#held = false;
    if (length < this.#shortest) this.runts++;
    else if (this.#take(bytes, start, length) === "later") this.#held = this.#chunk !== null; // null: reset meanwhile
    return !this.#held;
  }
}

const lengthAt = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
