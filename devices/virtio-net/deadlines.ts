import type { StateReader } from "../../src/bytes/index.js";
import type { Clock, Timer } from "../../src/contract/index.js";

const IDLE = Number.POSITIVE_INFINITY;

/** A deadline for each queue on one timer of the host, which is always armed for the first of them. */
export class Deadlines {
  readonly #due: (index: number) => void;
  readonly #deadlines: Float64Array;
  #clock: Clock | null = null;
  #timer: Timer | null = null;

  /** @param due called when an index has come to its deadline, which is idle again then */
  constructor(count: number, due: (index: number) => void) {
    this.#deadlines = new Float64Array(count).fill(IDLE);
    this.#due = due;
  }

  connect(clock: Clock): void {
    this.#clock = clock;
    this.#timer = clock.timer(() => this.#fire());
    this.#rearm();
  }

  disconnect(): void {
    this.clear();
    this.#timer?.[Symbol.dispose]();
    this.#clock = this.#timer = null;
  }

  /** ns on the host's clock; 0 while there is none */
  get now(): number {
    return this.#clock === null ? 0 : this.#clock.now();
  }

  armed(index: number): boolean {
    return this.#deadlines[index] !== IDLE;
  }

  /** @param deadline ns on the host's clock */
  arm(index: number, deadline: number): void {
    this.#deadlines[index] = deadline;
    this.#rearm();
  }

  cancel(index: number): void {
    if (this.#deadlines[index] === IDLE) return;
    this.#deadlines[index] = IDLE;
    this.#rearm();
  }

  clear(): void {
    this.#deadlines.fill(IDLE);
    this.#timer?.cancel();
  }

  /** ns by index, −1: idle */
  save(): number[] {
    return Array.from(this.#deadlines, (deadline) => (deadline === IDLE ? -1 : deadline));
  }

  /** Checks saved deadlines. @returns what applies them; @throws StateError */
  loader(state: StateReader, key: string): () => void {
    const saved = state.integers(key, -1, Number.MAX_SAFE_INTEGER, this.#deadlines.length);
    return () => {
      for (const [i, deadline] of saved.entries()) this.#deadlines[i] = deadline < 0 ? IDLE : deadline;
      this.#rearm();
    };
  }

  /** Also when the first was put off: a host that sleeps until the next deadline sees the same one after a restore. */
  #rearm(): void {
    const timer = this.#timer;
    if (timer === null) return;
    let first = IDLE;
    for (let i = 0; i < this.#deadlines.length; i++) first = Math.min(first, this.#deadlines[i]!);
    if (first === IDLE) timer.cancel();
    else if (timer.deadline !== first) timer.arm(first);
  }

  #fire(): void {
    const { now } = this;
    for (let i = 0; i < this.#deadlines.length; i++) {
      if (this.#deadlines[i]! > now) continue;
      this.#deadlines[i] = IDLE;
      this.#due(i);
    }
    this.#rearm();
  }
}
