import { ConfigError, StateError, StateReader } from "../bytes/index.js";
import type {
  Clock,
  EndpointLimits,
  NetEndpoint,
  NetPort,
  Offload,
  SavedState,
  Stateful,
  Timer,
  Verdict,
} from "../contract/index.js";
import { namedCounters } from "./counters.js";
import { FrameRing } from "./frame-ring.js";
import { InlinePort, type Lane } from "./inline-port.js";
import { LimitsRecord, NOTHING_PLUGGED } from "./offload.js";
import { Prng } from "./prng.js";

/** What happens to frames in one direction; all of it off by default. */
export interface FaultRates {
  /** probability that a frame vanishes, 0 … 1 */
  readonly loss?: number;
  /** probability that a frame that did not vanish comes twice, 0 … 1 */
  readonly duplicate?: number;
  /** probability that a frame waits `reorderNs` longer, so that others overtake it, 0 … 1 */
  readonly reorder?: number;
  /** ns that every frame takes; default 0 */
  readonly delayNs?: number;
  /** ns: up to this much more, evenly distributed; frames may overtake one another; default 0 */
  readonly jitterNs?: number;
  /** ns that a reordered frame waits longer; default 1 ms */
  readonly reorderNs?: number;
}

export interface FaultOptions {
  readonly clock: Clock;
  /** 0 … 2³²−1; the same seed does the same to the same frames, in each direction by itself */
  readonly seed: number;
  /** frames towards the wrapped port */
  readonly inbound?: FaultRates;
  /** frames from the wrapped port */
  readonly outbound?: FaultRates;
  /** bytes of frames under way, a direction; default 512 KiB */
  readonly heldBytes?: number;
  /** most frames under way, a direction; default 512 */
  readonly heldFrames?: number;
}

/** Counters of one direction: `offered` + `duplicated` is the sum of all that follow. */
export interface FaultCounters {
  /** frames that came in */
  readonly offered: number;
  /** frames made out of nothing */
  readonly duplicated: number;
  readonly lost: number;
  /** taken by the other side */
  readonly delivered: number;
  /** dropped by the other side */
  readonly refused: number;
  /** dropped because too much was under way */
  readonly overflowed: number;
  /** dropped because the cable was pulled */
  readonly unplugged: number;
  /** answered `later` to the sender, where this direction has no faults and holds nothing */
  readonly later: number;
  /** under way now */
  readonly held: number;
}

const NAMES = [
  "offered",
  "duplicated",
  "lost",
  "delivered",
  "refused",
  "overflowed",
  "unplugged",
  "later",
] as const satisfies readonly (keyof FaultCounters)[];
const OFFERED = 0;
const DUPLICATED = 1;
const LOST = 2;
const DELIVERED = 3;
const REFUSED = 4;
const OVERFLOWED = 5;
const UNPLUGGED = 6;
const LATER = 7;

/** Frames that one call hands on; two stations that answer at once would never come to an end. */
const BUDGET = 64;

/** When the rest follows, ns. */
const REST_DELAY = 12_000;

const RATES: Required<FaultRates> = {
  loss: 0,
  duplicate: 0,
  reorder: 0,
  delayNs: 0,
  jitterNs: 0,
  reorderNs: 1_000_000,
};

/**
 * A port behind a bad cable: plug it in place of the port, `connect(new Faults(card.net, options), other)`.
 *
 * Frames that are lost, duplicated or under way were `taken` from their sender's view, as on a real cable. A direction
 * with faults holds what the other side answers `later` to, and drops when it is full; one without passes everything on.
 */
export class Faults extends InlinePort<FaultLane> implements Stateful {
  /** @throws ConfigError `fault-rate`, `fault-delay`, `fault-room`, `prng-seed` */
  constructor(port: NetPort, options: FaultOptions) {
    const inbound = new FaultLane(options, "inbound", options.seed);
    // Its own numbers: what happens one way must not depend on how much goes the other way.
    const outbound = new FaultLane(options, "outbound", (options.seed ^ 0x5bd1_e995) >>> 0);
    super(port, inbound, outbound);
    inbound.reverse = outbound;
    outbound.reverse = inbound;
  }

  override attach(far: NetEndpoint | null): void {
    super.attach(far);
    if (far !== null) return;
    this.inbound.clear();
    this.outbound.clear();
  }

  /** A copy of what was counted. */
  counters(): { readonly inbound: FaultCounters; readonly outbound: FaultCounters } {
    return { inbound: this.inbound.counters(), outbound: this.outbound.counters() };
  }

  save(): SavedState {
    return { version: 1, inbound: this.inbound.save(), outbound: this.outbound.save() };
  }

  load(state: SavedState): void {
    const reader = new StateReader(state, "faults", 1);
    const inbound = this.inbound.parse(reader.object("inbound"));
    const outbound = this.outbound.parse(reader.object("outbound"));
    this.inbound.apply(inbound);
    this.outbound.apply(outbound);
  }
}

interface LaneState {
  readonly counts: readonly number[];
  readonly prng: Prng;
  readonly waiting: boolean;
  readonly sequence: number;
  readonly fireAt: number;
  readonly ring: FrameRing;
  /** slot, deadline and sequence number of each held frame */
  readonly held: readonly number[];
}

/** One direction: it stands for `to` towards the sender. */
class FaultLane implements Lane {
  readonly #rates: Required<FaultRates>;
  readonly #clock: Clock;
  readonly #timer: Timer;
  readonly #limits = new LimitsRecord();
  /** without faults everything is passed on, flow control included */
  readonly faulty: boolean;
  to: NetEndpoint | null = null;
  reverse: FaultLane | null = null;
  readonly #counts = new Float64Array(NAMES.length);
  #prng: Prng;
  #ring: FrameRing;
  // A binary heap of slots, the frame that is due first on top; for equal deadlines the one that came first.
  readonly #heap: Int32Array;
  #heapSize = 0;
  readonly #deadline: Float64Array; // by slot, ns
  readonly #order: Float64Array; // by slot
  #sequence = 0;
  #waiting = false; // `to` answered `later`
  #busy = false; // `to` is just being offered a frame
  #woken = false; // `to` said `ready` meanwhile
  #clears = 0; // so that an offer notices that the cable was pulled

  constructor(options: FaultOptions, direction: "inbound" | "outbound", seed: number) {
    const { clock, heldBytes = 0x8_0000, heldFrames = 512 } = options;
    this.#rates = { ...RATES, ...options[direction] };
    for (const name of ["loss", "duplicate", "reorder"] as const)
      if (!(this.#rates[name] >= 0 && this.#rates[name] <= 1))
        throw new ConfigError("fault-rate", `${direction} ${name} ${this.#rates[name]}: expected 0 … 1`);
    for (const name of ["delayNs", "jitterNs", "reorderNs"] as const)
      if (!Number.isSafeInteger(this.#rates[name]) || this.#rates[name] < 0)
        throw new ConfigError("fault-delay", `${direction} ${name} ${this.#rates[name]}: expected whole ns`);
    if (!Number.isInteger(heldBytes) || heldBytes < 1 || heldBytes > 2 ** 30)
      throw new ConfigError("fault-room", `room for ${heldBytes} bytes: expected 1 … 2^30`);
    if (!Number.isInteger(heldFrames) || heldFrames < 1 || heldFrames > 2 ** 20)
      throw new ConfigError("fault-room", `room for ${heldFrames} frames: expected 1 … 2^20`);
    const { loss, duplicate, reorder, delayNs, jitterNs } = this.#rates;
    this.faulty = loss + duplicate + reorder + delayNs + jitterNs > 0;
    this.#clock = clock;
    this.#timer = clock.timer(() => this.#release());
    this.#prng = new Prng(seed);
    this.#ring = new FrameRing(heldBytes, heldFrames);
    this.#heap = new Int32Array(heldFrames);
    this.#deadline = new Float64Array(heldFrames);
    this.#order = new Float64Array(heldFrames);
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    const counts = this.#counts;
    if (this.to === null) {
      counts[OFFERED]!++;
      counts[UNPLUGGED]!++;
      return "dropped";
    }
    if (!this.faulty) {
      const verdict = this.to.offer(bytes, start, length, offload, queueHint);
      if (verdict === "later") {
        counts[LATER]!++;
        return verdict;
      }
      counts[OFFERED]!++;
      counts[verdict === "taken" ? DELIVERED : REFUSED]!++;
      return verdict;
    }
    counts[OFFERED]!++;
    // Every frame draws the same number of times, so that a seed hits the same frames whatever the other rates are.
    const lost = this.#prng.chance(this.#rates.loss);
    const twice = this.#prng.chance(this.#rates.duplicate);
    const delay = this.#drawDelay();
    const delayOfCopy = this.#drawDelay();
    if (lost) {
      counts[LOST]!++;
      return "taken";
    }
    const verdict = this.#pass(bytes, start, length, offload, queueHint, delay);
    if (twice && this.to !== null) {
      counts[DUPLICATED]!++;
      this.#pass(bytes, start, length, offload, queueHint, delayOfCopy);
    }
    return verdict;
  }

  endBatch(): void {
    this.to?.endBatch();
  }

  /** The sender can take frames of the other direction again. */
  ready(queueHint: number): void {
    if (this.reverse?.faulty === true) this.reverse.wake();
    else this.to?.ready(queueHint);
  }

  accepts(): EndpointLimits {
    if (this.to === null) return NOTHING_PLUGGED;
    const limits = this.to.accepts();
    return this.reverse?.faulty === true ? this.#limits.set(limits, true) : limits;
  }

  wake(): void {
    this.#waiting = false;
    if (this.#busy) this.#woken = true;
    else this.#release();
  }

  /** Drops what is under way. */
  clear(): void {
    this.#counts[UNPLUGGED]! += this.#ring.clear();
    this.#heapSize = 0;
    this.#waiting = false;
    this.#clears++;
    this.#timer.cancel();
  }

  counters(): FaultCounters {
    return { ...namedCounters(NAMES, this.#counts), held: this.#ring.held };
  }

  save(): SavedState {
    const held: number[] = [];
    for (let i = 0; i < this.#heapSize; i++) {
      const slot = this.#heap[i]!;
      held.push(this.#ring.position(slot), this.#deadline[slot]!, this.#order[slot]!);
    }
    return {
      counts: [...this.#counts],
      prng: this.#prng.save(),
      waiting: this.#waiting,
      sequence: this.#sequence,
      fireAt: this.#timer.deadline,
      ring: this.#ring.save(),
      held,
    };
  }

  /** Reads a saved direction without applying it. @throws StateError */
  parse(state: StateReader): LaneState {
    const ring = FrameRing.restore(state.object("ring", 1), this.#ring.bytes.length, this.#ring.capacity);
    const sequence = state.integer("sequence");
    const held = state.integers("held", 0, Number.MAX_SAFE_INTEGER, ring.held * 3);
    const slots = new Set<number>();
    for (let i = 0; i < held.length; i += 3) {
      const slot = held[i]!;
      if (slot >= ring.capacity || !ring.isHeld(slot) || slots.has(slot))
        throw new StateError(`${state.path}.held`, `frame ${slot} is not held, or twice`);
      slots.add(slot);
    }
    return {
      counts: state.integers("counts", 0, Number.MAX_SAFE_INTEGER, NAMES.length),
      prng: Prng.restore(state, "prng"),
      waiting: state.boolean("waiting"),
      sequence,
      fireAt: state.deadline("fireAt"),
      ring,
      held,
    };
  }

  apply(state: LaneState): void {
    this.#counts.set(state.counts);
    this.#prng = state.prng;
    this.#waiting = state.waiting;
    this.#sequence = state.sequence;
    this.#ring = state.ring;
    this.#heapSize = 0;
    for (let i = 0; i < state.held.length; i += 3)
      this.#enqueue(state.held[i]!, state.held[i + 1]!, state.held[i + 2]!);
    if (state.fireAt === Number.POSITIVE_INFINITY) this.#timer.cancel();
    else this.#timer.arm(state.fireAt);
  }

  /** ns; draws twice */
  #drawDelay(): number {
    const { delayNs, jitterNs, reorder, reorderNs } = this.#rates;
    const jitter = this.#prng.below(jitterNs + 1);
    return delayNs + jitter + (this.#prng.chance(reorder) ? reorderNs : 0);
  }

  /** Hands a frame on at once where nothing is in its way, and holds it otherwise. */
  #pass(
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    queueHint: number,
    delay: number,
  ): Verdict {
    const now = this.#clock.now();
    if (delay === 0 && this.#isDue(now)) this.#release(); // the timer is late; what was due goes first
    const to = this.to;
    if (delay === 0 && to !== null && !this.#busy && !this.#waiting && !this.#isDue(now)) {
      const clears = this.#clears;
      const verdict = this.#offer(to, bytes, start, length, offload, queueHint);
      if (verdict !== "later") {
        this.#counts[verdict === "taken" ? DELIVERED : REFUSED]!++;
        if (this.#isDue(now)) this.#release();
        return verdict;
      }
      if (clears !== this.#clears) return this.#drop(UNPLUGGED);
      this.#waiting = !this.#woken;
    }
    const slot = this.#ring.push(bytes, start, length, offload, queueHint);
    if (slot < 0) return this.#drop(OVERFLOWED);
    this.#enqueue(slot, now + delay, this.#sequence++);
    this.#arm(now);
    return "taken";
  }

  /** Hands on what is due, then sets the timer for the next frame. */
  #release(): void {
    const now = this.#clock.now();
    let left = BUDGET;
    while (left > 0 && this.to !== null && !this.#busy && !this.#waiting && this.#isDue(now)) {
      left--;
      const slot = this.#heap[0]!;
      this.#dequeue();
      const ring = this.#ring;
      ring.select(slot);
      const clears = this.#clears;
      const verdict = this.#offer(this.to, ring.bytes, ring.start, ring.length, ring.offload, ring.queueHint);
      if (clears !== this.#clears) return; // the frame was counted with the others that were under way
      if (verdict === "later") {
        this.#enqueue(slot, this.#deadline[slot]!, this.#order[slot]!);
        this.#waiting = !this.#woken;
        break;
      }
      this.#counts[verdict === "taken" ? DELIVERED : REFUSED]!++;
      ring.release(slot);
    }
    if (left < BUDGET) this.to?.endBatch();
    this.#arm(now);
  }

  #arm(now: number): void {
    if (this.#heapSize === 0 || this.#waiting) return;
    const due = this.#deadline[this.#heap[0]!]!;
    this.#timer.arm(due > now ? due : now + REST_DELAY);
  }

  #isDue(now: number): boolean {
    return this.#heapSize > 0 && this.#deadline[this.#heap[0]!]! <= now;
  }

  #offer(
    to: NetEndpoint,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    queueHint: number,
  ): Verdict {
    this.#busy = true;
    this.#woken = false;
    try {
      return to.offer(bytes, start, length, offload, queueHint);
    } finally {
      this.#busy = false;
    }
  }

  #drop(cause: number): Verdict {
    this.#counts[cause]!++;
    return "dropped";
  }

  #enqueue(slot: number, deadline: number, order: number): void {
    this.#deadline[slot] = deadline;
    this.#order[slot] = order;
    let at = this.#heapSize++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = this.#heap[parent]!;
      if (!this.#before(slot, above)) break;
      this.#heap[at] = above;
      at = parent;
    }
    this.#heap[at] = slot;
  }

  /** Takes the top off the heap. */
  #dequeue(): void {
    const slot = this.#heap[--this.#heapSize]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#heapSize) break;
      if (child + 1 < this.#heapSize && this.#before(this.#heap[child + 1]!, this.#heap[child]!)) child++;
      if (!this.#before(this.#heap[child]!, slot)) break;
      this.#heap[at] = this.#heap[child]!;
      at = child;
    }
    this.#heap[at] = slot;
  }

  #before(a: number, b: number): boolean {
    const difference = this.#deadline[a]! - this.#deadline[b]!;
    return difference < 0 || (difference === 0 && this.#order[a]! < this.#order[b]!);
  }
}
