import { LineReader } from "./line-reader.js";
import type { QtestProtocol } from "./protocol.js";

/** What is written down of a conversation: `R` received, `S` sent. */
export type SessionLog = (direction: "R" | "S", line: string) => void;

/**
 * One client of the qtest protocol: its requests are answered in order, however they arrive. One that takes long lets
 * others of the process have their turn.
 */
export class QtestSession {
  readonly #protocol: QtestProtocol;
  readonly #send: (text: string) => void;
  readonly #log: SessionLog;
  readonly #reader = new LineReader();
  readonly #waiting: (string | null)[] = []; // behind a request that is not finished
  #busy = false;
  #replies = ""; // of the chunk that is being worked

  constructor(protocol: QtestProtocol, send: (text: string) => void, log: SessionLog = () => {}) {
    this.#protocol = protocol;
    this.#send = send;
    this.#log = log;
  }

  /** Takes what came from the client. */
  push(chunk: Uint8Array): void {
    this.#reader.push(chunk, (line) => this.#request(line));
    this.#flush();
  }

  /** An interrupt line that is watched has changed. */
  irq(line: number, level: boolean): void {
    this.#say(`IRQ ${level ? "raise" : "lower"} ${line}`);
    if (!this.#busy) this.#flushSoon();
  }

  #request(line: string | null): void {
    if (this.#busy) {
      this.#waiting.push(line);
      return;
    }
    this.#log("R", line ?? "(too long)");
    if (line === null) {
      this.#say("FAIL the line is too long");
      return;
    }
    this.#busy = true;
    this.#finish(this.#protocol.execute(line));
  }

  #finish(reply: string | null): void {
    if (reply !== null) {
      this.#busy = false;
      this.#say(reply);
      return;
    }
    this.#flush();
    setImmediate(() => {
      this.#finish(this.#protocol.resume());
      while (!this.#busy && this.#waiting.length > 0) this.#request(this.#waiting.shift()!);
      this.#flush();
    });
  }

  #say(line: string): void {
    this.#log("S", line);
    this.#replies += `${line}\n`;
  }

  /** For what comes from outside, while no request is being worked. */
  #flushSoon(): void {
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    if (this.#replies === "") return;
    const replies = this.#replies;
    this.#replies = "";
    this.#send(replies);
  }
}
