import type { Clock, Timer } from "../contract/index.js";

/** A one-shot timer of a `TimerQueue`. */
class QueuedTimer implements Timer {
  deadline = Number.POSITIVE_INFINITY;
  /** instant at which it fired in the present pass; so that one which rearms itself at once cannot hold time up */
  firedAt = -1;
  readonly fire: () => void;
  readonly #queue: TimerQueue;

  constructor(queue: TimerQueue, fire: () => void) {
    this.#queue = queue;
    this.fire = fire;
  }
  arm(deadline: number): void {
    this.deadline = deadline;
    this.#queue.rearmed(deadline);
  }
  cancel(): void {
    this.deadline = Number.POSITIVE_INFINITY;
  }
  [Symbol.dispose](): void {
    this.cancel();
    this.#queue.remove(this);
  }
}

/** Timers by deadline, ties in the order in which they were made. Machines have a few dozen, so that a scan is enough. */
class TimerQueue {
  readonly #timers: QueuedTimer[] = [];
  #earliest = Number.POSITIVE_INFINITY; // never later than the true one

  make(fire: () => void): Timer {
    const timer = new QueuedTimer(this, fire);
    this.#timers.push(timer);
    return timer;
  }

  remove(timer: QueuedTimer): void {
    const index = this.#timers.indexOf(timer);
    if (index >= 0) this.#timers.splice(index, 1);
  }

  rearmed(deadline: number): void {
    if (deadline < this.#earliest) this.#earliest = deadline;
  }

  /** Infinity when none is armed. */
  get earliest(): number {
    if (this.#earliest === Number.POSITIVE_INFINITY) return this.#earliest;
    let earliest = Number.POSITIVE_INFINITY;
    for (const { deadline } of this.#timers) if (deadline < earliest) earliest = deadline;
    this.#earliest = earliest;
    return earliest;
  }

  /** Begins a pass: every timer may fire again. */
  begin(): void {
    for (const timer of this.#timers) timer.firedAt = -1;
  }

  /** Disarms and returns the first timer due at `until`; null when there is none. It may not fire twice at one instant. */
  take(until: number, now: number): QueuedTimer | null {
    if (this.#earliest > until) return null;
    let first: QueuedTimer | null = null;
    for (const timer of this.#timers) {
      if (timer.deadline > until || (timer.firedAt === now && timer.deadline <= now)) continue;
      if (first === null || timer.deadline < first.deadline) first = timer;
    }
    return first;
  }
}

/** A clock that a machine can drive: its timers fire when it is told to, and it can be set to a snapshot's time. */
export interface DrivenClock extends Clock {
  /** ns; Infinity when no timer is armed */
  readonly nextDeadline: number;
  /** Fires what is due now. */
  fireDue(): void;
  /** Sets the time of a snapshot, in ns; fires nothing. Deadlines are absolute, so they stay. */
  setNow(now: number): void;
}

/** Whether a machine can drive this clock. */
export const isDriven = (clock: Clock): clock is DrivenClock => "fireDue" in clock && "setNow" in clock;

/** Time that passes only when told to: the same inputs give the same outputs. Starts at 0. */
export class VirtualClock implements DrivenClock {
  readonly #queue = new TimerQueue();
  #now = 0;

  now(): number {
    return this.#now;
  }

  timer(fire: () => void): Timer {
    return this.#queue.make(fire);
  }

  get nextDeadline(): number {
    return this.#queue.earliest;
  }

  /** Moves the time on, firing timers on the way, each at its own instant. @param ns at least 0 */
  advance(ns: number): void {
    const until = this.#now + Math.max(0, Math.floor(ns));
    this.#queue.begin();
    for (let timer = this.#queue.take(until, this.#now); timer !== null; timer = this.#queue.take(until, this.#now)) {
      if (timer.deadline > this.#now) this.#now = timer.deadline;
      timer.deadline = Number.POSITIVE_INFINITY;
      timer.firedAt = this.#now;
      timer.fire();
    }
    if (until > this.#now) this.#now = until;
  }

  /** Moves to the next deadline and fires it. @returns false when no timer is armed */
  advanceToNextDeadline(): boolean {
    const next = this.#queue.earliest;
    if (next === Number.POSITIVE_INFINITY) return false;
    this.advance(next - this.#now);
    return true;
  }

  fireDue(): void {
    if (this.#queue.earliest <= this.#now) this.advance(0);
  }

  setNow(now: number): void {
    this.#now = now;
  }
}

/** The host's time, given by a function; its timers fire when somebody calls `fireDue`. */
export class HostClock implements DrivenClock {
  readonly #queue = new TimerQueue();
  readonly #read: () => number;
  #offset = 0; // what a snapshot's time differs from the host's
  #last = 0;

  /** @param milliseconds monotonic, such as `() => performance.now()` */
  constructor(milliseconds: () => number) {
    this.#read = milliseconds;
  }

  now(): number {
    const now = Math.floor(this.#read() * 1e6) + this.#offset;
    if (now > this.#last) this.#last = now;
    return this.#last;
  }

  timer(fire: () => void): Timer {
    return this.#queue.make(fire);
  }

  get nextDeadline(): number {
    return this.#queue.earliest;
  }

  fireDue(): void {
    if (this.#queue.earliest === Number.POSITIVE_INFINITY) return;
    const now = this.now();
    this.#queue.begin();
    for (let timer = this.#queue.take(now, now); timer !== null; timer = this.#queue.take(now, now)) {
      timer.deadline = Number.POSITIVE_INFINITY;
      timer.firedAt = now;
      timer.fire();
    }
  }

  setNow(now: number): void {
    this.#last = now;
    this.#offset = now - Math.floor(this.#read() * 1e6);
  }
}
