import type { Clock, QueueRunner, SavedState, Timer, Work } from "../../contract/index.js";
import { type FunctionWork, HostClock, WorkPool } from "../../machine/index.js";
import type { Place } from "./place.js";

/** Descriptors that a queue may use at one poll; what is left waits until the guest had its turn. */
const BUDGET = 1024;
const NS_PER_MS = 1e6;

/**
 * What waits for v86's poll point: doorbells and timers of all functions.
 *
 * A halted CPU sleeps until the instant that `poll` gave. What then comes up earlier, by a frame from the host, wakes it;
 * a CPU that runs is polled soon enough, and waking it does nothing.
 */
export class PollPoint {
  readonly clock: Clock;
  readonly #time: HostClock;
  readonly #pool: WorkPool;
  readonly #wake: () => void;
  #sleepsUntil = 0; // ns

  /** @param now ms that never go back; @param wake ends the sleep of a halted CPU */
  constructor(now: () => number, wake: () => void) {
    this.#time = new HostClock(now);
    this.#pool = new WorkPool(this.#time);
    this.#wake = wake;
    this.clock = { now: () => this.#time.now(), timer: (fire) => new WakingTimer(this, this.#time.timer(fire)) };
  }

  /** A card's share of the work; disposed of when the card goes. */
  forCard(place: Place): Work & Disposable {
    return new WakingWork(this, place, this.#pool.forFunction("deferred", `slot ${place.slot}`));
  }

  /** Something is to be done at `deadline`, in ns. */
  wakeAt(deadline: number): void {
    if (deadline >= this.#sleepsUntil) return;
    this.#sleepsUntil = deadline;
    this.#wake();
  }

  save(): SavedState {
    return { now: this.#time.now(), work: this.#pool.save() };
  }

  /**
   * Sets the time to that of a saved state, so that deadlines keep their distance; before cards are loaded.
   * @param now ns
   */
  setNow(now: number): void {
    this.#time.setNow(now);
  }

  /** Takes over the marks of a saved state; after the cards. @throws StateError; nothing is then changed */
  loadWork(state: SavedState): void {
    this.#pool.load(state);
    this.#sleepsUntil = Number.POSITIVE_INFINITY; // on another clock: whoever sleeps is woken
    this.wakeAt(0);
  }

  /** Fires timers and gives each marked queue a turn. @param sleep ms for which v86 would sleep @returns the same, or less */
  poll(sleep: number): number {
    this.#time.fireDue();
    const work = this.#pool.run(BUDGET);
    const now = this.#time.now();
    const most = Math.max(0, Math.min(sleep * NS_PER_MS, work, this.#time.nextDeadline - now));
    this.#sleepsUntil = now + most;
    return most / NS_PER_MS;
  }
}

/** Counts the turns of a card's queues. */
class CountingRunner implements QueueRunner {
  readonly #place: Place;
  readonly #runner: QueueRunner;

  constructor(place: Place, runner: QueueRunner) {
    this.#place = place;
    this.#runner = runner;
  }
  runQueue(queue: number, budget: number): number {
    this.#place.turns++;
    return this.#runner.runQueue(queue, budget);
  }
}

class WakingTimer implements Timer {
  readonly #point: PollPoint;
  readonly #timer: Timer;

  constructor(point: PollPoint, timer: Timer) {
    this.#point = point;
    this.#timer = timer;
  }
  get deadline(): number {
    return this.#timer.deadline;
  }
  arm(deadline: number): void {
    this.#timer.arm(deadline);
    this.#point.wakeAt(deadline);
  }
  cancel(): void {
    this.#timer.cancel();
  }
  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }
}

class WakingWork implements Work, Disposable {
  readonly #point: PollPoint;
  readonly #place: Place;
  readonly #work: FunctionWork;

  constructor(point: PollPoint, place: Place, work: FunctionWork) {
    this.#point = point;
    this.#place = place;
    this.#work = work;
  }
  bind(runner: QueueRunner): void {
    this.#work.bind(new CountingRunner(this.#place, runner));
  }
  request(queue: number): void {
    this.#work.request(queue);
    this.#point.wakeAt(0);
  }
  runNow(queue: number): void {
    this.#work.runNow(queue);
  }
  clear(): void {
    this.#work.clear();
  }
  [Symbol.dispose](): void {
    this.#work[Symbol.dispose]();
  }
}
