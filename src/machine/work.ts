import { ConfigError, StateError, StateReader } from "../bytes/index.js";
import type { Clock, QueueRunner, SavedState, Stateful, Work } from "../contract/index.js";

const STATE_VERSION = 1;
/** More than any ring holds, so that a run at once ends by itself: virtio's largest ring has 32768 descriptors. */
const WHOLE_RING = 0x1_0000;
/** Turns of one queue that asks for work while it works; then it stays ready for the next `run`. */
const TURNS_AT_ONCE = 4;
const MAX_QUEUES = 0x1_0000;
const IDLE = Number.POSITIVE_INFINITY;

/**
 * When a doorbell's work is done: at once, inside the guest's access; at the host's next `run`; or at the first `run`
 * that comes `delayNs` after the doorbell.
 */
export type WorkPolicy = "immediate" | "deferred" | { readonly kind: "timer"; readonly delayNs: number };

/** One function's queues. Made by `WorkPool.forFunction`; dispose of it when the function is unplugged. */
export class FunctionWork implements Work, Disposable {
  readonly key: string;
  readonly immediate: boolean;
  /** ns; 0 without a timer */
  readonly delay: number;
  readonly #pool: WorkPool;
  #runner: QueueRunner | null = null;
  /** by queue: 1 marked ready, 0 not */
  ready = new Uint8Array(4);
  /** by queue: instant at which it becomes ready; Infinity: not waiting */
  deadlines = new Float64Array(4).fill(IDLE);
  #running = new Uint8Array(4);

  constructor(pool: WorkPool, key: string, policy: WorkPolicy) {
    this.#pool = pool;
    this.key = key;
    this.immediate = policy === "immediate";
    this.delay = typeof policy === "string" ? 0 : policy.delayNs;
  }

  bind(runner: QueueRunner): void {
    this.#runner = runner;
  }

  request(queue: number): void {
    if (queue >= this.ready.length) this.grow(queue);
    if (this.immediate) this.runNow(queue);
    else if (this.delay === 0) this.mark(queue);
    else if (this.ready[queue] === 0 && this.deadlines[queue] === IDLE) this.#pool.wait(this, queue);
  }

  runNow(queue: number): void {
    if (queue >= this.ready.length) this.grow(queue);
    this.mark(queue);
    if (this.#running[queue] !== 0) return; // asked for from inside: another turn follows
    for (let turn = 0; turn < TURNS_AT_ONCE && this.ready[queue] !== 0; turn++) this.turn(queue, WHOLE_RING);
  }

  clear(): void {
    for (let queue = 0; queue < this.ready.length; queue++) this.unmark(queue);
    this.deadlines.fill(IDLE);
  }

  [Symbol.dispose](): void {
    this.clear();
    this.#runner = null;
    this.#pool.remove(this);
  }

  mark(queue: number): void {
    this.#pool.readyCount += 1 - this.ready[queue]!;
    this.ready[queue] = 1;
  }

  unmark(queue: number): void {
    this.#pool.readyCount -= this.ready[queue]!;
    this.ready[queue] = 0;
  }

  /** Works a ready queue once; it stays ready when something may be left. */
  turn(queue: number, budget: number): void {
    if (this.#running[queue] !== 0 || this.#runner === null) return;
    this.unmark(queue);
    this.deadlines[queue] = IDLE;
    this.#running[queue] = 1;
    try {
      if (this.#runner.runQueue(queue, budget) >= budget) this.mark(queue);
    } finally {
      this.#running[queue] = 0;
    }
  }

  grow(queue: number): void {
    if (!(queue < MAX_QUEUES)) throw new ConfigError("work-queue", `queue ${queue}; expected less than ${MAX_QUEUES}`);
    let size = this.ready.length;
    while (size <= queue) size *= 2;
    const [ready, running] = [new Uint8Array(size), new Uint8Array(size)];
    const deadlines = new Float64Array(size).fill(IDLE);
    ready.set(this.ready);
    running.set(this.#running);
    deadlines.set(this.deadlines);
    this.ready = ready;
    this.#running = running;
    this.deadlines = deadlines;
  }
}

/**
 * Scheduling of doorbells for any number of functions, with or without a `Machine`.
 *
 * `run(budget)` gives each ready queue one turn, in the order in which functions came; what is left stays ready. Nothing
 * runs a queue that is running: a request from inside marks it for another turn.
 */
export class WorkPool implements Stateful {
  readonly #clock: Clock;
  #functions: readonly FunctionWork[] = [];
  #made = 0;
  /** how many queues are marked; kept by `FunctionWork` */
  readyCount = 0;
  #nextDeadline = IDLE; // never later than the true one

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * A function's share.
   * @param policy default `immediate`
   * @param key names the share in a saved state; default: its number
   * @throws ConfigError `work-policy`, `work-key`
   */
  forFunction(policy: WorkPolicy = "immediate", key = String(this.#made)): FunctionWork {
    if (typeof policy !== "string" && !(Number.isSafeInteger(policy.delayNs) && policy.delayNs > 0))
      throw new ConfigError("work-policy", `delayNs ${policy.delayNs}; expected an integer above 0`);
    if (this.#functions.some((other) => other.key === key))
      throw new ConfigError("work-key", `there is a share "${key}" already; expected another key`);
    this.#made++;
    const work = new FunctionWork(this, key, policy);
    this.#functions = [...this.#functions, work];
    return work;
  }

  /** ns until something is to be done: 0 when a queue is ready, Infinity when nothing is. */
  get due(): number {
    if (this.readyCount > 0) return 0;
    if (this.#nextDeadline === IDLE) return IDLE;
    let next = IDLE;
    for (const { deadlines, delay } of this.#functions)
      if (delay !== 0) for (const deadline of deadlines) if (deadline < next) next = deadline;
    this.#nextDeadline = next;
    return next === IDLE ? IDLE : Math.max(0, next - this.#clock.now());
  }

  /** Gives each ready queue one turn. @param budget descriptors per turn @returns ns until the next thing to do, as `due` */
  run(budget = 256): number {
    if (this.#nextDeadline !== IDLE) this.#expire();
    if (this.readyCount > 0)
      for (const work of this.#functions)
        for (let queue = 0; queue < work.ready.length; queue++) if (work.ready[queue] !== 0) work.turn(queue, budget);
    return this.due;
  }

  /** Forgets every mark and deadline. */
  clear(): void {
    for (const work of this.#functions) work.clear();
    this.#nextDeadline = IDLE;
  }

  save(): SavedState {
    const marked = this.#functions.flatMap(({ key, ready, deadlines }) => {
      const queues = Array.from(ready.keys());
      const waiting = queues.filter((queue) => deadlines[queue] !== IDLE);
      const share = {
        key,
        ready: queues.filter((queue) => ready[queue] !== 0),
        waiting,
        deadlines: waiting.map((queue) => deadlines[queue]!),
      };
      return share.ready.length + waiting.length === 0 ? [] : [share];
    });
    return { version: STATE_VERSION, functions: marked };
  }

  load(state: SavedState): void {
    const shares = new StateReader(state, "work", STATE_VERSION).objects("functions").map((reader) => {
      const key = reader.string("key");
      const work = this.#functions.find((other) => other.key === key);
      if (work === undefined) throw new StateError(reader.path, `work of "${key}", which is not here`);
      const ready = reader.integers("ready", 0, MAX_QUEUES - 1);
      const waiting = reader.integers("waiting", 0, MAX_QUEUES - 1);
      const deadlines = reader.integers("deadlines", 0, Number.MAX_SAFE_INTEGER, waiting.length);
      return { work, ready, waiting, deadlines };
    });
    this.clear();
    for (const { work, ready, waiting, deadlines } of shares) {
      for (const queue of ready.concat(waiting)) if (queue >= work.ready.length) work.grow(queue);
      for (const queue of ready) work.mark(queue);
      for (const [i, queue] of waiting.entries()) {
        work.deadlines[queue] = deadlines[i]!;
        this.#nextDeadline = Math.min(this.#nextDeadline, deadlines[i]!);
      }
    }
  }

  /** Sets the deadline of a queue whose policy is a timer; for `FunctionWork`. */
  wait(work: FunctionWork, queue: number): void {
    const deadline = this.#clock.now() + work.delay;
    work.deadlines[queue] = deadline;
    if (deadline < this.#nextDeadline) this.#nextDeadline = deadline;
  }

  /** For `FunctionWork`'s disposal. */
  remove(work: FunctionWork): void {
    this.#functions = this.#functions.filter((other) => other !== work);
  }

  #expire(): void {
    const now = this.#clock.now();
    if (now < this.#nextDeadline) return;
    for (const work of this.#functions) {
      if (work.delay === 0) continue;
      for (let queue = 0; queue < work.deadlines.length; queue++) {
        if (work.deadlines[queue]! > now) continue;
        work.deadlines[queue] = IDLE;
        work.mark(queue);
      }
    }
  }
}
