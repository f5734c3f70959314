import { Worker } from "node:worker_threads";

/**
 * A read from a FIFO blocks this thread, timers included: another thread ends a process that does not answer, and the
 * read then sees the end of the stream. One thread for all; it starts with the first watch and does not keep Node alive.
 *
 * Per slot three numbers: process, seconds it may take, and a count that is odd while somebody waits.
 */
const SLOTS = 256;
const STRIDE = 3;
const PID = 0;
const LIMIT = 1;
const COUNT = 2;
const LOOK_MS = 500;

const SOURCE = `
const { workerData } = require("node:worker_threads");
const slots = new Int32Array(workerData);
const seen = new Map();
setInterval(() => {
  for (let at = 0; at < slots.length; at += ${STRIDE}) {
    const pid = Atomics.load(slots, at + ${PID});
    const count = Atomics.load(slots, at + ${COUNT});
    const known = seen.get(at);
    if (pid === 0 || (count & 1) === 0) seen.delete(at);
    else if (known === undefined || known.count !== count || known.pid !== pid) seen.set(at, { pid, count, looks: 0 });
    else if (++known.looks * ${LOOK_MS} >= 1000 * Atomics.load(slots, at + ${LIMIT})) {
      Atomics.store(slots, at + ${PID}, 0);
      try { process.kill(pid, "SIGKILL"); } catch {}
    }
  }
}, ${LOOK_MS});
`;

let slots: Int32Array | null = null;

/** Watches one process; between `waiting` and `answered` it may take its time, no more. */
export class Watch implements Disposable {
  readonly #slots: Int32Array;
  readonly #at: number;

  /** @param seconds 1 or more */
  constructor(pid: number, seconds: number) {
    if (slots === null) {
      const shared = new SharedArrayBuffer(4 * STRIDE * SLOTS);
      new Worker(SOURCE, { eval: true, workerData: shared }).unref();
      slots = new Int32Array(shared);
    }
    let at = 0;
    while (at < slots.length && slots[at + LIMIT] !== 0) at += STRIDE;
    if (at === slots.length) throw new Error(`more than ${SLOTS} processes to watch`);
    this.#slots = slots;
    this.#at = at;
    Atomics.store(slots, at + COUNT, 0);
    Atomics.store(slots, at + LIMIT, seconds);
    Atomics.store(slots, at + PID, pid);
  }

  waiting(): void {
    Atomics.add(this.#slots, this.#at + COUNT, 1);
  }

  answered(): void {
    Atomics.add(this.#slots, this.#at + COUNT, 1);
  }

  /** Whether the process took too long and was ended. */
  get expired(): boolean {
    return Atomics.load(this.#slots, this.#at + PID) === 0;
  }

  [Symbol.dispose](): void {
    Atomics.store(this.#slots, this.#at + PID, 0);
    Atomics.store(this.#slots, this.#at + LIMIT, 0);
  }
}
