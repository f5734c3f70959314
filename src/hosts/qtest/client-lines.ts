import { closeSync, readSync, writeSync } from "node:fs";
import { QtestError } from "./client-error.js";
import type { Watch } from "./client-watchdog.js";

/** A two-way stream of ASCII lines, used synchronously: qtest's or QMP's. */
export interface Lines extends Disposable {
  write(text: string): void;
  /** The next line without its end (`\n` or `\r\n`). @throws QtestError when the far end is gone or takes too long */
  read(): string;
}

const CHUNK = 1 << 16;

/** Cuts what arrives into lines; a line may come in many pieces, and a piece hold many lines. */
export class LineCutter {
  readonly #lines: string[] = [];
  #next = 0;
  #rest = "";

  push(text: string): void {
    let from = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", from)) {
      const line = this.#rest + text.slice(from, end);
      this.#lines.push(line.endsWith("\r") ? line.slice(0, -1) : line);
      this.#rest = "";
      from = end + 1;
    }
    this.#rest += text.slice(from);
  }

  take(): string | undefined {
    const line = this.#lines[this.#next];
    if (line === undefined) {
      this.#lines.length = 0;
      this.#next = 0;
    } else this.#next++;
    return line;
  }
}

/** Lines over two FIFOs, as QEMU's `-chardev pipe` makes them: a request and its reply take some 20 µs. */
export class FifoLines implements Lines {
  readonly #out: number;
  readonly #in: number;
  readonly #watch: Watch;
  readonly #cutter = new LineCutter();
  readonly #chunk = Buffer.alloc(CHUNK);
  #open = true;

  /** @param out written to; @param input read from; both blocking, owned from now on */
  constructor(out: number, input: number, watch: Watch) {
    this.#out = out;
    this.#in = input;
    this.#watch = watch;
  }

  write(text: string): void {
    const bytes = Buffer.from(text, "latin1");
    this.#guarded(() => {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#out, bytes, at);
    });
  }

  read(): string {
    for (;;) {
      const line = this.#cutter.take();
      if (line !== undefined) return line;
      const got = this.#guarded(() => readSync(this.#in, this.#chunk));
      if (got === 0) throw this.#gone();
      this.#cutter.push(this.#chunk.toString("latin1", 0, got));
    }
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#out);
    closeSync(this.#in);
  }

  #guarded<T>(run: () => T): T {
    if (!this.#open) throw new QtestError("qemu-gone", "QEMU has been closed");
    this.#watch.waiting();
    try {
      return run();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EPIPE") throw this.#gone();
      throw error;
    } finally {
      this.#watch.answered();
    }
  }

  #gone(): QtestError {
    return this.#watch.expired
      ? new QtestError("timeout", "QEMU did not answer in time, and was ended")
      : new QtestError("qemu-gone", "QEMU has ended");
  }
}
