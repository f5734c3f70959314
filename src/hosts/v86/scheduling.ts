import type { Clock, QueueRunner, Timer, Work } from "../../contract/index.js";

export class DeferredWork implements Work {
  #runner: QueueRunner | null = null;
  #ready = new Set<number>();
  bind(runner: QueueRunner): void {
    this.#runner = runner;
  }
  request(queue: number): void {
    this.#ready.add(queue);
  }
  runNow(queue: number): void {
    while ((this.#runner?.runQueue(queue, 256) ?? 0) >= 256);
  }
  clear(): void {
    this.#ready.clear();
  }
  run(budget: number): boolean {
    const q = [...this.#ready];
    this.#ready.clear();
    for (const queue of q) if (this.#runner!.runQueue(queue, budget) >= budget) this.#ready.add(queue);
    return this.#ready.size > 0;
  }
}
export class HostClock implements Clock {
  #last = 0;
  readonly #nowMs: () => number;
  readonly timers: { deadline: number; fire: () => void }[] = [];
  readonly #earlier: () => void;
  constructor(nowMs: () => number, earlier: () => void) {
    this.#nowMs = nowMs;
    this.#earlier = earlier;
  }
  now(): number {
    this.#last = Math.max(this.#last, Math.floor(this.#nowMs() * 1e6));
    return this.#last;
  }
  timer(fire: () => void): Timer {
    const { timers } = this;
    const e = this.#earlier;
    const t = {
      deadline: Infinity,
      fire,
      arm(d: number) {
        t.deadline = d;
        e();
      },
      cancel() {
        t.deadline = Infinity;
      },
      [Symbol.dispose]() {
        timers.splice(timers.indexOf(t), 1);
      },
    };
    timers.push(t);
    return t;
  }
  runDue(): number {
    const now = this.now();
    for (const t of [...this.timers])
      if (t.deadline <= now) {
        t.deadline = Infinity;
        t.fire();
      }
    return Math.min(Infinity, ...this.timers.map((t) => t.deadline)) - now;
  }
}
