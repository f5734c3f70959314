import type { Clock, QueueRunner, Timer, Work } from "../../contract/index.js";
import { type FunctionWork, HostClock, WorkPool } from "../../machine/index.js";

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

  /** A function's share of the work; disposed of when the function goes. */
  forFunction(): Work & Disposable {
    return new WakingWork(this, this.#pool.forFunction("deferred"));
  }

  /** Something is to be done at `deadline`, in ns. */
  wakeAt(deadline: number): void {
    if (deadline >= this.#sleepsUntil) return;
    this.#sleepsUntil = deadline;
    this.#wake();
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
  readonly #work: FunctionWork;

  constructor(point: PollPoint, work: FunctionWork) {
    this.#point = point;
    this.#work = work;
  }
  bind(runner: QueueRunner): void {
    this.#work.bind(runner);
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
