/** Bytes of the longest line: the data of the longest `write` in hexadecimal, and some words. */
const LONGEST = 2 * 2 ** 27 + 1024;

const NEWLINE = 0x0a;

/** Cuts a stream of bytes into lines. A line may come in many pieces; one that is too long is told of and left out. */
export class LineReader {
  readonly #longest: number;
  #pieces: Uint8Array[] = [];
  #length = 0;
  #skipping = false;

  constructor(longest = LONGEST) {
    this.#longest = longest;
  }

  /**
   * Takes what came. The bytes may be the caller's again after it returns.
   * @param line told of every line that is complete, without its end, as Latin-1; null: it was too long
   */
  push(chunk: Uint8Array, line: (text: string | null) => void): void {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      this.#keep(chunk.subarray(from, end), false);
      line(this.#take());
      from = end + 1;
    }
    this.#keep(chunk.subarray(from), true);
  }

  /** @param copied the piece outlives the call */
  #keep(piece: Uint8Array, copied: boolean): void {
    if (this.#skipping || piece.length === 0) return;
    this.#length += piece.length;
    if (this.#length > this.#longest) {
      this.#skipping = true;
      this.#pieces = [];
      return;
    }
    this.#pieces.push(copied ? Uint8Array.from(piece) : piece);
  }

  #take(): string | null {
    const text = this.#skipping ? null : Buffer.concat(this.#pieces).toString("latin1");
    this.#pieces = [];
    this.#length = 0;
    this.#skipping = false;
    return text;
  }
}
