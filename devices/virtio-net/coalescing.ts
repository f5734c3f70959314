import type { StateReader } from "../../src/bytes/index.js";
import type { Clock, SavedState } from "../../src/contract/index.js";
import type { VirtioBus, Virtqueue } from "../../src/virtio/index.js";
import { Deadlines } from "./deadlines.js";

const NS_PER_US = 1000;
const NEVER = -1;

/** What sets off the notification of a queue; nothing is held back while one of them is 0. */
export interface CoalescingParameters {
  readonly maxPackets: number;
  readonly maxUsecs: number;
}

const NONE: CoalescingParameters = { maxPackets: 0, maxUsecs: 0 };

/**
 * Holds used buffer notifications back until enough packets came or enough time passed. Only the moment is chosen here:
 * whether the driver wants to be notified at all is asked then, for everything used since it was last asked.
 * Queues go by their index. VIRTIO 1.3 §5.1.6.5.9
 */
export class Coalescing {
  // wiring
  #bus: VirtioBus | null = null;
  readonly #deadlines: Deadlines;

  // volatile state
  readonly #parameters: CoalescingParameters[];
  /** those of all queues, for one that is reset: of receive queues, of transmit queues */
  readonly #common = [NONE, NONE];
  /** packets since the last notification was due; counted by who uses buffers, while `active` */
  readonly packets: Uint32Array;
  readonly #since: Float64Array; // ns, when the first of them came; NEVER: there is none

  // derived
  /** some queue holds notifications back */
  active = false;

  constructor(queues: number) {
    this.#parameters = new Array<CoalescingParameters>(queues).fill(NONE);
    this.packets = new Uint32Array(queues);
    this.#since = new Float64Array(queues).fill(NEVER);
    this.#deadlines = new Deadlines(queues, (queue) => this.#notify(queue));
  }

  connect(bus: VirtioBus, clock: Clock): void {
    this.#bus = bus;
    this.#deadlines.connect(clock);
  }

  disconnect(): void {
    this.#bus = null;
    this.#forgetAll();
    this.#deadlines.disconnect();
  }

  reset(): void {
    this.#common.fill(NONE);
    this.#parameters.fill(NONE);
    this.#forgetAll();
    this.#settle();
  }

  /** The queue begins anew, with what holds for all of its kind. §5.1.6.5.9.6 */
  queueReset(queue: number): void {
    this.#parameters[queue] = this.#common[queue & 1]!;
    this.#forget(queue);
    this.#settle();
  }

  get(queue: number): CoalescingParameters {
    return this.#parameters[queue]!;
  }

  /** Sets the parameters of one queue. */
  set(queue: number, parameters: CoalescingParameters): void {
    this.#parameters[queue] = parameters;
    this.#check(queue);
    this.#settle();
  }

  /** Sets the parameters of all queues of a kind. @param first 0: receive, 1: transmit */
  setAll(first: 0 | 1, parameters: CoalescingParameters): void {
    this.#common[first] = parameters;
    for (let queue = first; queue < this.packets.length; queue += 2) {
      this.#parameters[queue] = parameters;
      this.#check(queue);
    }
    this.#settle();
  }

  /** Closes a batch, as `bus.usedBuffers` does, now or later. The entry must be open. */
  close(bus: VirtioBus, queue: Virtqueue): void {
    const { index } = queue;
    const { maxPackets, maxUsecs } = this.#parameters[index]!;
    const packets = this.packets[index]!;
    if (maxPackets === 0 || maxUsecs === 0 || packets === 0 || packets >= maxPackets) {
      this.#forget(index);
      bus.usedBuffers(queue);
    } else if (this.#since[index] === NEVER) {
      const { now } = this.#deadlines;
      this.#since[index] = now;
      this.#deadlines.arm(index, now + maxUsecs * NS_PER_US);
    }
  }

  save(): SavedState {
    const pairs = (all: readonly CoalescingParameters[]) =>
      all.flatMap(({ maxPackets, maxUsecs }) => [maxPackets, maxUsecs]);
    return {
      parameters: pairs(this.#parameters),
      common: pairs(this.#common),
      packets: [...this.packets],
      since: [...this.#since],
      deadlines: this.#deadlines.save(),
    };
  }

  /** Checks a saved state. @returns what applies it; @throws StateError */
  loader(state: StateReader): () => void {
    const { length } = this.packets;
    const pairs = (key: string, count: number): CoalescingParameters[] => {
      const numbers = state.integers(key, 0, 0xffff_ffff, 2 * count);
      return Array.from({ length: count }, (_, i) => ({ maxPackets: numbers[2 * i]!, maxUsecs: numbers[2 * i + 1]! }));
    };
    const parameters = pairs("parameters", length);
    const common = pairs("common", this.#common.length);
    const packets = state.integers("packets", 0, 0xffff_ffff, length);
    const since = state.integers("since", NEVER, Number.MAX_SAFE_INTEGER, length);
    const applyDeadlines = this.#deadlines.loader(state, "deadlines");
    return () => {
      for (const [queue, of] of parameters.entries()) this.#parameters[queue] = of;
      for (const [kind, of] of common.entries()) this.#common[kind] = of;
      this.packets.set(packets);
      this.#since.set(since);
      applyDeadlines();
      this.#settle();
    };
  }

  /** Parameters changed: what is held back may be due already. §5.1.6.5.9.4 */
  #check(queue: number): void {
    const since = this.#since[queue]!;
    if (since === NEVER) return;
    const { maxPackets, maxUsecs } = this.#parameters[queue]!;
    const deadline = since + maxUsecs * NS_PER_US;
    if (maxPackets === 0 || this.packets[queue]! >= maxPackets || deadline <= this.#deadlines.now) this.#notify(queue);
    else this.#deadlines.arm(queue, deadline);
  }

  #notify(index: number): void {
    this.#forget(index);
    const bus = this.#bus;
    const queue = bus?.queue(index);
    if (bus === null || queue === undefined || !bus.running || !queue.begin()) return;
    bus.usedBuffers(queue);
    bus.seams.dma.flush();
  }

  #forget(queue: number): void {
    this.packets[queue] = 0;
    this.#since[queue] = NEVER;
    this.#deadlines.cancel(queue);
  }

  #forgetAll(): void {
    this.packets.fill(0);
    this.#since.fill(NEVER);
    this.#deadlines.clear();
  }

  #settle(): void {
    this.active = this.#parameters.some(({ maxPackets, maxUsecs }) => maxPackets !== 0 && maxUsecs !== 0);
  }
}
