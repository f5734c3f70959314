import { StateError, type StateReader } from "../../src/bytes/index.js";
import type { Clock, SavedState, Timer } from "../../src/contract/index.js";

/**
 * Interrupt moderation of one direction: from the first frame on, its cause stays off the line until enough frames
 * have come or the time is over. Without a time nothing is ever held back.
 */
export class Moderation {
  readonly #released: () => void;
  #timer: Timer | null = null;
  #clock: Clock | null = null;
  // volatile
  #holding = false;
  /** frames since the cause was last seen by nobody */
  #frames = 0;

  /** @param released called when the time is over */
  constructor(released: () => void) {
    this.#released = released;
  }

  get holding(): boolean {
    return this.#holding;
  }

  connect(clock: Clock): void {
    this.#clock = clock;
    this.#timer = clock.timer(() => {
      this.#holding = false;
      this.#released();
    });
  }

  disconnect(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = this.#clock = null;
    this.release();
  }

  /**
   * Frames came, and their cause with them.
   * @param fresh ISR did not show the cause before, so that nobody waits for it yet
   * @param delayNs longest time that it is held back; 0: not at all
   * @param most frames that end the wait; 0: only time does
   */
  frames(count: number, fresh: boolean, delayNs: number, most: number): void {
    if (fresh) {
      if (delayNs === 0) return;
      this.#holding = true;
      this.#frames = 0;
      this.#timer?.arm((this.#clock?.now() ?? 0) + delayNs);
    } else if (!this.#holding) return;
    this.#frames += count;
    if (most !== 0 && this.#frames >= most) this.release();
  }

  /** Holds nothing back any more: acknowledged, switched off or reset. */
  release(): void {
    if (!this.#holding) return;
    this.#holding = false;
    this.#timer?.cancel();
  }

  save(): SavedState {
    const deadline = this.#timer?.deadline ?? Number.POSITIVE_INFINITY;
    return { holding: this.#holding, frames: this.#frames, deadline };
  }

  /** Checks a state and returns what applies it. @throws StateError */
  check(state: StateReader): () => void {
    const frames = state.integer("frames");
    const holding = state.boolean("holding");
    const deadline = state.deadline("deadline");
    // Without a deadline nothing would ever let go.
    if (holding !== (deadline !== Number.POSITIVE_INFINITY))
      throw new StateError(`${state.path}.deadline`, `${deadline}, and ${holding ? "" : "not "}holding`);
    return () => {
      this.#frames = frames;
      this.#holding = holding;
      if (deadline === Number.POSITIVE_INFINITY) this.#timer?.cancel();
      else this.#timer?.arm(deadline);
    };
  }
}
