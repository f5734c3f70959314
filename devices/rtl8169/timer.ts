import type { StateReader } from "../../src/bytes/index.js";
import type { Clock, SavedState, Timer } from "../../src/contract/index.js";
import { IDLE_CLOCK, rearm } from "./core.js";

const TURN = 2 ** 32;

/** TCTR, which counts PCI clocks without end, and the moment at which it reaches TimerInt. */
export class CountTimer {
  readonly #clockNs: number;
  readonly #reached: () => void;
  #clock: Clock = IDLE_CLOCK;
  #timer: Timer = IDLE_CLOCK.timer(() => {});
  // volatile
  /** time at which the count was 0 */
  #zero = 0;
  /** TimerInt; 0: never */
  #compare = 0;

  /** @param clockNs ns of one PCI clock; @param reached called when the count reaches TimerInt */
  constructor(clockNs: number, reached: () => void) {
    this.#clockNs = clockNs;
    this.#reached = reached;
  }

  /** TCTR: 32 bits. */
  get count(): number {
    return Math.floor((this.#clock.now() - this.#zero) / this.#clockNs) % TURN;
  }

  connect(clock: Clock): void {
    this.#clock = clock;
    this.#timer = clock.timer(() => {
      this.#arm(); // it comes round again one turn of the counter later
      this.#reached();
    });
  }

  disconnect(): void {
    this.#timer[Symbol.dispose]();
    this.#clock = IDLE_CLOCK;
    this.#timer = IDLE_CLOCK.timer(() => {});
  }

  /** The count begins at 0, and TimerInt is `compare` from now on. */
  restart(compare: number): void {
    this.#zero = this.#clock.now();
    this.setCompare(compare);
  }

  /** TimerInt; 0: never. */
  setCompare(compare: number): void {
    this.#compare = compare;
    this.#arm();
  }

  #arm(): void {
    if (this.#compare === 0) {
      this.#timer.cancel();
      return;
    }
    const first = this.#zero + this.#compare * this.#clockNs;
    const period = TURN * this.#clockNs;
    const turns = Math.max(0, Math.ceil((this.#clock.now() - first + 1) / period));
    this.#timer.arm(first + turns * period);
  }

  save(): SavedState {
    return { zero: this.#zero, deadline: this.#timer.deadline };
  }

  /** Checks a state and returns what applies it, with what the registers hold as TimerInt. @throws StateError */
  check(state: StateReader): (compare: number) => void {
    const zero = state.integer("zero");
    const deadline = state.deadline("deadline");
    return (compare) => {
      this.#zero = zero;
      this.#compare = compare;
      rearm(this.#timer, deadline);
    };
  }
}
