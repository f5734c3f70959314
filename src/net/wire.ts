import { ConfigError, ETHER_HDR_LEN, StateReader } from "../bytes/index.js";
import type {
  EndpointLimits,
  NetEndpoint,
  NetPort,
  Offload,
  SavedState,
  Stateful,
  Verdict,
} from "../contract/index.js";
import { Finisher } from "./finish.js";
import { NOTHING_PLUGGED, offloadFits, takesOffload } from "./offload.js";

/** What happened in one direction of a wire. `frames` + `refused` + the drops below is what was offered and not held. */
export interface WireCounters {
  /** taken by the far end */
  readonly frames: number;
  readonly bytes: number;
  /** offers whose checksum was completed on the way */
  readonly finished: number;
  /** answered `later` and still with the sender: offers, not frames */
  readonly later: number;
  /** the far end dropped it */
  readonly refused: number;
  /** the far end answered `later`, but this sender cannot hold */
  readonly unheld: number;
  /** shorter than a header, or longer than the far end takes */
  readonly badLength: number;
  /** asks for a segmentation that the far end does not do */
  readonly unsegmented: number;
  /** the offload points out of the frame */
  readonly badOffload: number;
  /** offered from within an offer too many times over */
  readonly nested: number;
  /** offered after the cable was pulled */
  readonly unplugged: number;
}

const NAMES = [
  "frames",
  "bytes",
  "finished",
  "later",
  "refused",
  "unheld",
  "badLength",
  "unsegmented",
  "badOffload",
  "nested",
  "unplugged",
] as const satisfies readonly (keyof WireCounters)[];
const FRAMES = 0;
const BYTES = 1;
const FINISHED = 2;
const LATER = 3;
const REFUSED = 4;
const UNHELD = 5;
const BAD_LENGTH = 6;
const UNSEGMENTED = 7;
const BAD_OFFLOAD = 8;
const NESTED = 9;
const UNPLUGGED = 10;

/** An offer may cause an offer the other way, and that one the next: beyond this depth it is a loop, and the stack is finite. */
const MAX_DEPTH = 8;

/** Stands for the far port on one end of a wire: what that port cannot take as it is, is finished or dropped here. */
class WireEnd implements NetEndpoint {
  #far: NetPort | null;
  readonly #sender: NetPort;
  readonly #counts = new Float64Array(NAMES.length);
  readonly #finishers: Finisher[] = []; // one per depth: an outer frame is still being looked at
  #depth = 0;

  constructor(far: NetPort, sender: NetPort) {
    this.#far = far;
    this.#sender = sender;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    const far = this.#far;
    if (far === null) return this.#drop(UNPLUGGED);
    if (length < ETHER_HDR_LEN) return this.#drop(BAD_LENGTH);
    if (this.#depth === MAX_DEPTH) return this.#drop(NESTED);
    const limits = far.accepts();
    if (offload === null || (offload.gso === "none" && !offload.needsCsum)) {
      if (length > limits.longestFrame) return this.#drop(BAD_LENGTH);
      return this.#hand(far, bytes, start, length, limits.csum ? offload : null, queueHint);
    }
    if (!offloadFits(offload, length)) return this.#drop(BAD_OFFLOAD);
    if (offload.gso === "none" && length > limits.longestFrame) return this.#drop(BAD_LENGTH);
    if (takesOffload(limits, offload)) return this.#hand(far, bytes, start, length, offload, queueHint);
    if (offload.gso !== "none") return this.#drop(UNSEGMENTED);
    const finisher = this.#finisher();
    if (!finisher.finish(bytes, start, length, offload)) return this.#drop(BAD_LENGTH);
    this.#counts[FINISHED]!++;
    return this.#hand(far, finisher.bytes, 0, length, null, queueHint);
  }

  endBatch(): void {
    this.#far?.endBatch();
  }

  ready(queueHint: number): void {
    this.#far?.ready(queueHint);
  }

  accepts(): EndpointLimits {
    return this.#far === null ? NOTHING_PLUGGED : this.#far.accepts();
  }

  unplug(): void {
    this.#far = null;
  }

  get counts(): Float64Array {
    return this.#counts;
  }

  #hand(
    far: NetPort,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    queueHint: number,
  ): Verdict {
    this.#depth++;
    let verdict: Verdict;
    try {
      verdict = far.offer(bytes, start, length, offload, queueHint);
    } finally {
      this.#depth--; // a far end of the embedder's may throw; the wire is then as before
    }
    const counts = this.#counts;
    if (verdict === "taken") {
      counts[FRAMES]!++;
      counts[BYTES]! += length;
    } else if (verdict === "dropped") counts[REFUSED]!++;
    else if (this.#sender.accepts().holds) counts[LATER]!++;
    else return this.#drop(UNHELD);
    return verdict;
  }

  #drop(cause: number): Verdict {
    this.#counts[cause]!++;
    return "dropped";
  }

  #finisher(): Finisher {
    let finisher = this.#finishers[this.#depth];
    if (finisher === undefined) {
      finisher = new Finisher();
      this.#finishers[this.#depth] = finisher;
    }
    return finisher;
  }
}

/** A cable between two ports; made by `connect`. Saves its counters: it holds no frame. */
export class Wire implements Disposable, Stateful {
  readonly #a: NetPort;
  readonly #b: NetPort;
  readonly #toA: WireEnd;
  readonly #toB: WireEnd;
  #plugged = true;

  /** @see connect */
  constructor(a: NetPort, b: NetPort) {
    if (a === b) throw new ConfigError("wire-ends", "both ends of a wire are the same port; use a Loop");
    this.#a = a;
    this.#b = b;
    this.#toA = new WireEnd(a, b);
    this.#toB = new WireEnd(b, a);
    a.attach(this.#toB);
    try {
      b.attach(this.#toA);
    } catch (error) {
      a.attach(null);
      throw error;
    }
  }

  /** A copy of what was counted in both directions. */
  counters(): { readonly aToB: WireCounters; readonly bToA: WireCounters } {
    return { aToB: named(this.#toB.counts), bToA: named(this.#toA.counts) };
  }

  /** Pulls the cable out of both ports; idempotent, and safe inside an offer. */
  [Symbol.dispose](): void {
    if (!this.#plugged) return;
    this.#plugged = false;
    this.#toA.unplug();
    this.#toB.unplug();
    this.#a.attach(null);
    this.#b.attach(null);
  }

  save(): SavedState {
    return { version: 1, aToB: [...this.#toB.counts], bToA: [...this.#toA.counts] };
  }

  load(state: SavedState): void {
    const reader = new StateReader(state, "wire", 1);
    const aToB = reader.integers("aToB", 0, Number.MAX_SAFE_INTEGER, NAMES.length);
    const bToA = reader.integers("bToA", 0, Number.MAX_SAFE_INTEGER, NAMES.length);
    this.#toB.counts.set(aToB);
    this.#toA.counts.set(bToA);
  }
}

const named = (counts: Float64Array): WireCounters =>
  Object.fromEntries(NAMES.map((name, i) => [name, counts[i]!])) as { [name in (typeof NAMES)[number]]: number };

/**
 * Plugs a cable between two ports, both empty; disposing it pulls it out of both.
 * A frame goes through in place; a checksum that the far port cannot complete is completed in a copy on the way.
 * @throws ConfigError when a port has something plugged in already (neither is then changed), or both are the same
 */
export const connect = (a: NetPort, b: NetPort): Wire => new Wire(a, b);
