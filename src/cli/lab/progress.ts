/** A bar on a terminal; nothing where the output is piped, whose lines come at the end of each transfer. */
export class Progress {
  readonly #out: NodeJS.WriteStream;
  readonly #label: string;
  readonly #size: number;
  #last = 0;

  constructor(out: NodeJS.WriteStream, label: string, size: number) {
    this.#out = out;
    this.#label = label;
    this.#size = size;
  }

  show(bytes: number): void {
    if (!this.#out.isTTY) return;
    const now = performance.now();
    if (now - this.#last < 100) return;
    this.#last = now;
    const share = bytes / this.#size;
    const width = Math.max(10, Math.min(40, (this.#out.columns ?? 80) - this.#label.length - 16));
    const done = Math.round(share * width);
    const percent = `${Math.floor(share * 100)}%`.padStart(4);
    this.#out.write(`\r${this.#label} [${"#".repeat(done)}${" ".repeat(width - done)}] ${percent}`);
  }

  /** Wipes the bar. */
  end(): void {
    if (this.#out.isTTY) this.#out.write("\r\u001b[K");
  }
}
