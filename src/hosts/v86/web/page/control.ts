/** What `init` puts before the exit status that ends each answer. */
export const RECORD_SEPARATOR = "\x1e";

/** Shell for the end of an answer, without its status. */
const ANSWER = "printf '\\036%d\\n'";

export interface Answer {
  /** exit status of the line */
  readonly status: number;
  readonly output: string;
}

/** What a control line is written to and read from: a serial port of the emulator. */
export interface SerialPort {
  send(text: string): void;
  /** @param listener is told of each byte */
  onByte(listener: (byte: number) => void): void;
}

/**
 * A second shell of the guest on a serial port of its own, so that the page can ask and set things while the first one
 * is the user's. It answers as the guest's `init` does: output, the byte 1E, the exit status, a newline.
 */
export class Control {
  readonly #port: SerialPort;
  readonly #decoder = new TextDecoder();
  readonly #byte = new Uint8Array(1);
  #text = "";
  #waiting: ((answer: Answer) => void) | null = null;
  #queue: Promise<unknown> = Promise.resolve();
  #queued = 0;
  #late = 0; // answers that nobody waits for any more

  constructor(port: SerialPort) {
    this.#port = port;
    port.onByte((byte) => this.#receive(byte));
  }

  /** The line that makes the guest obey on this port, for its first shell. */
  static readonly START =
    `(stty -echo -onlcr -icrnl -ixon; ${ANSWER} 0; ` +
    `while IFS= read -r line; do command eval "$line"; ${ANSWER} "$?"; done) </dev/ttyS1 >/dev/ttyS1 2>&1 &`;

  /** lines that are waited for */
  get busy(): boolean {
    return this.#queued > 0;
  }

  /** Waits for the word that `START` has the shell say first: what is sent before would be lost. @throws Error */
  greeted(timeoutMs = 120_000): Promise<Answer> {
    return this.#enqueue(null, timeoutMs);
  }

  /** Runs one line of shell, after those that were asked for before. @throws Error when it takes too long */
  run(line: string, timeoutMs = 120_000): Promise<Answer> {
    return this.#enqueue(line, timeoutMs);
  }

  #enqueue(line: string | null, timeoutMs: number): Promise<Answer> {
    this.#queued++;
    const answer = this.#queue.then(() => this.#ask(line, timeoutMs));
    this.#queue = answer.then(
      () => this.#queued--,
      () => this.#queued--,
    );
    return answer;
  }

  async #ask(line: string | null, timeoutMs: number): Promise<Answer> {
    let timer = 0;
    try {
      return await new Promise<Answer>((resolve, reject) => {
        this.#waiting = resolve;
        timer = setTimeout(() => {
          this.#late++;
          reject(new Error(`the guest did not finish: ${line ?? "opening its second serial port"}`));
        }, timeoutMs);
        if (line !== null) this.#port.send(`${line}\n`);
      });
    } finally {
      clearTimeout(timer);
      this.#waiting = null;
    }
  }

  #receive(byte: number): void {
    this.#byte[0] = byte;
    this.#text += this.#decoder.decode(this.#byte, { stream: true });
    if (byte !== 0x0a) return;
    const end = this.#text.lastIndexOf(RECORD_SEPARATOR);
    if (end < 0) return;
    const answer = { output: this.#text.slice(0, end), status: Number.parseInt(this.#text.slice(end + 1), 10) };
    this.#text = "";
    if (this.#late > 0) this.#late--;
    else this.#waiting?.(answer);
  }
}
