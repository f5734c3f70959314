import { ETHER_HDR_LEN, StateError, type StateReader } from "../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Offload, SavedState, Verdict } from "../contract/index.js";
import { namedCounters } from "./counters.js";
import { Finisher, LONGEST_FINISHED } from "./finish.js";
import { Fragmenter } from "./fragment.js";
import { GSO_KINDS, isDhcp, NOTHING_PLUGGED, OffloadRecord, offloadFits, takesOffload } from "./offload.js";
import { Segmenter } from "./segment.js";

/**
 * What happened in one direction of a wire. `frames` and the drops from `refused` on add up to what was offered and did
 * not stay with its sender, where what was `cut` counts as its `segments`.
 */
export interface WireCounters {
  /** taken by the far end */
  readonly frames: number;
  readonly bytes: number;
  /** offers whose checksum was completed on the way, without a cut */
  readonly finished: number;
  /** offers that were cut into segments on the way */
  readonly cut: number;
  /** what these became: segments that were taken or dropped */
  readonly segments: number;
  /** segments that the wire holds now: the far end answered `later` in the middle of a frame */
  readonly held: number;
  /** answered `later` and still with the sender: offers, not frames */
  readonly later: number;
  /** the far end dropped it */
  readonly refused: number;
  /** to be answered `later`, but this sender cannot hold */
  readonly unheld: number;
  /** shorter than a header, or longer than the far end takes */
  readonly badLength: number;
  /** is no packet that can be cut as it asks */
  readonly unsegmented: number;
  /** the offload points out of the frame, or asks for segments of no size */
  readonly badOffload: number;
  /** offered from within an offer too many times over */
  readonly nested: number;
  /** offered after the cable was pulled, or held when it was */
  readonly unplugged: number;
}

const NAMES = [
  "frames",
  "bytes",
  "finished",
  "cut",
  "segments",
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
const CUT = 3;
const SEGMENTS = 4;
const LATER = 5;
const REFUSED = 6;
const UNHELD = 7;
const BAD_LENGTH = 8;
const UNSEGMENTED = 9;
const BAD_OFFLOAD = 10;
const NESTED = 11;
const UNPLUGGED = 12;

/** An offer may cause an offer the other way, and that one the next: beyond this depth it is a loop, and the stack is finite. */
const MAX_DEPTH = 8;

/** How often a far end that says `ready` and then `later`, in one offer, is asked again at once. */
const MOST_RETRIES = 8;

/** How often one call from outside lets a sender try again; what it offers from within an offer is then dropped. */
const MOST_TURNS = 64;

/** Queues of a sender that the wire itself may answer `later`; it has to tell each of them `ready`. */
const MOST_WAITING = 64;

/** A direction of a saved wire that was found sound. */
export interface WireEndState {
  readonly counts: readonly number[];
  readonly waiting: readonly number[];
  readonly rest: { readonly frame: Uint8Array; readonly offload: OffloadRecord; readonly queueHint: number } | null;
}

type Cutter = Segmenter | Fragmenter;

const newCutter = (offload: Offload): Cutter => (offload.gso === "udpfrag" ? new Fragmenter() : new Segmenter());

/**
 * Stands for the far port on one end of a wire: what that port cannot take as it is, is finished, cut or dropped here.
 *
 * When the far port answers `later` to the first segment, the frame stays with its sender; to a further one, the rest
 * is copied and stays here, and nothing overtakes it: whoever offers meanwhile is answered `later`, too.
 */
export class WireEnd implements NetEndpoint {
  readonly #sender: NetPort;
  readonly #completeDhcp: boolean;
  #far: NetPort | null;
  #reverse: WireEnd | null = null;
  readonly #counts = new Float64Array(NAMES.length);
  readonly #finishers: Finisher[] = []; // one per depth: an outer frame is still being looked at
  readonly #segmenter = new Segmenter();
  readonly #fragmenter = new Fragmenter();
  #cutter: Cutter = this.#segmenter; // of the two, the one that has the frame which is being cut
  #depth = 0;
  #cutting = false; // a frame is being cut: what is offered from within would come between its segments
  #woken = false; // the far port said `ready` while it was being offered a segment
  #waking = false;
  #turns = 0;
  // A frame of the segments that the far port has not taken yet.
  #rest = new Uint8Array(0);
  #restLength = 0; // 0: there is none
  #restSegments = 0;
  #restHint = 0;
  readonly #restOffload = new OffloadRecord();
  // Hints to be told `ready` when there is nothing in the way any more, each once.
  readonly #waiting = new Float64Array(MOST_WAITING);
  #waitingCount = 0;

  constructor(far: NetPort, sender: NetPort, completeDhcp: boolean) {
    this.#far = far;
    this.#sender = sender;
    this.#completeDhcp = completeDhcp;
  }

  /** Names the other direction: who says `ready` there takes frames here. */
  pair(reverse: WireEnd): void {
    this.#reverse = reverse;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    const far = this.#far;
    if (far === null) return this.#drop(UNPLUGGED);
    if (length < ETHER_HDR_LEN) return this.#drop(BAD_LENGTH);
    if (this.#cutting || this.#restLength > 0) return this.#putOff(queueHint);
    if (this.#depth === MAX_DEPTH) return this.#drop(NESTED);
    const limits = far.accepts();
    if (offload === null || (offload.gso === "none" && !offload.needsCsum)) {
      if (length > limits.longestFrame) return this.#drop(BAD_LENGTH);
      return this.#hand(far, bytes, start, length, limits.csum ? offload : null, queueHint);
    }
    if (!offloadFits(offload, length)) return this.#drop(BAD_OFFLOAD);
    if (offload.gso === "none" && length > limits.longestFrame) return this.#drop(BAD_LENGTH);
    if (takesOffload(limits, offload)) {
      const complete = offload.gso === "none" && this.#completeDhcp && isDhcp(bytes, start, offload);
      if (!complete) return this.#hand(far, bytes, start, length, offload, queueHint);
    }
    if (offload.gso !== "none") {
      const cutter = this.#cutterOf(offload);
      if (!cutter.begin(bytes, start, length, offload)) return this.#drop(UNSEGMENTED);
      if (cutter.longest > limits.longestFrame) {
        cutter.end();
        return this.#drop(BAD_LENGTH);
      }
      try {
        return this.#cut(far, offload, queueHint, false);
      } finally {
        if (this.#waitingCount > 0) this.#wake();
      }
    }
    const finisher = this.#finisher();
    if (!finisher.finish(bytes, start, length, offload)) return this.#drop(BAD_LENGTH);
    this.#counts[FINISHED]!++;
    return this.#hand(far, finisher.bytes, 0, length, null, queueHint);
  }

  endBatch(): void {
    this.#far?.endBatch();
  }

  /** The far port of this direction takes frames of the other one again: first what is held there. */
  ready(queueHint: number): void {
    const reverse = this.#reverse;
    if (reverse === null || !reverse.#resume(queueHint)) this.#far?.ready(queueHint);
  }

  accepts(): EndpointLimits {
    return this.#far === null ? NOTHING_PLUGGED : this.#far.accepts();
  }

  /** The cable is pulled: what is held is lost. */
  unplug(): void {
    this.#far = null;
    this.#waitingCount = 0;
    this.#dropRest(UNPLUGGED);
  }

  counters(): WireCounters {
    return { ...namedCounters(NAMES, this.#counts), held: this.#restSegments };
  }

  save(): SavedState {
    const { gso, gsoSize } = this.#restOffload;
    const frame = this.#rest.slice(0, this.#restLength);
    return {
      counts: [...this.#counts],
      waiting: [...this.#waiting.subarray(0, this.#waitingCount)],
      rest: frame.length === 0 ? null : { frame, gso: GSO_KINDS.indexOf(gso), gsoSize, queueHint: this.#restHint },
    };
  }

  /** Reads a saved direction without applying it. @throws StateError */
  static parse(state: StateReader): WireEndState {
    const counts = state.integers("counts", 0, Number.MAX_SAFE_INTEGER, NAMES.length);
    const waiting = state.integers("waiting", Number.MIN_SAFE_INTEGER);
    if (waiting.length > MOST_WAITING)
      throw new StateError(`${state.path}.waiting`, `${waiting.length} queues, expected at most ${MOST_WAITING}`);
    if (state.raw.rest === null) return { counts, waiting, rest: null };
    const reader = state.object("rest");
    const frame = reader.bytes("frame");
    const offload = new OffloadRecord();
    offload.gso = GSO_KINDS[reader.integer("gso", 1, GSO_KINDS.length - 1)]!;
    offload.gsoSize = reader.integer("gsoSize", 1, 0xffff);
    if (!newCutter(offload).begin(frame, 0, frame.length, offload))
      throw new StateError(`${reader.path}.frame`, `${frame.length} bytes that cannot be cut`);
    return {
      counts,
      waiting,
      rest: { frame, offload, queueHint: reader.integer("queueHint", Number.MIN_SAFE_INTEGER) },
    };
  }

  apply({ counts, waiting, rest }: WireEndState): void {
    this.#counts.set(counts);
    this.#waiting.set(waiting);
    this.#waitingCount = waiting.length;
    this.#restLength = this.#restSegments = 0;
    if (rest === null) return;
    const { frame, offload, queueHint } = rest;
    const cutter = this.#cutterOf(offload);
    cutter.begin(frame, 0, frame.length, offload);
    cutter.next();
    this.#hold(offload, queueHint);
    cutter.end();
  }

  /** Hands a frame on in one piece. */
  #hand(
    far: NetPort,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    queueHint: number,
  ): Verdict {
    const verdict = this.#ask(far, bytes, start, length, offload, queueHint);
    if (verdict !== "later") this.#answered(verdict, length);
    else if (this.#sender.accepts().holds) this.#counts[LATER]!++;
    else return this.#drop(UNHELD);
    return verdict;
  }

  #ask(
    far: NetPort,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    queueHint: number,
  ): Verdict {
    this.#depth++;
    try {
      return far.offer(bytes, start, length, offload, queueHint);
    } finally {
      this.#depth--; // a far end of the embedder's may throw; the wire is then as before
    }
  }

  #answered(verdict: Verdict, length: number): void {
    const counts = this.#counts;
    if (verdict === "taken") {
      counts[FRAMES]!++;
      counts[BYTES]! += length;
    } else counts[REFUSED]!++;
  }

  #cutterOf(offload: Offload): Cutter {
    this.#cutter = offload.gso === "udpfrag" ? this.#fragmenter : this.#segmenter;
    return this.#cutter;
  }

  /**
   * Hands on the segments of the frame that the cutter has before it.
   * @param resumed the frame is the rest of one, and not its sender's any more
   */
  #cut(far: NetPort, offload: Offload, queueHint: number, resumed: boolean): Verdict {
    const counts = this.#counts;
    const cutter = this.#cutter;
    const frames = counts[FRAMES]!;
    let begun = resumed;
    let thrown = true;
    this.#cutting = true;
    try {
      while (cutter.next()) {
        const answer = this.#askForSegment(far, queueHint);
        const gone = this.#far !== far;
        if (answer === "later" && !gone && (resumed || this.#sender.accepts().holds)) {
          thrown = false;
          if (!begun) {
            counts[LATER]!++;
            return "later";
          }
          this.#hold(offload, queueHint);
          return "taken";
        }
        if (!begun) counts[CUT]!++;
        begun = true;
        counts[SEGMENTS]!++;
        if (answer !== "later") this.#answered(answer, cutter.length);
        else counts[gone ? UNPLUGGED : UNHELD]!++;
        if (!gone) continue;
        counts[SEGMENTS]! += cutter.left - 1;
        counts[UNPLUGGED]! += cutter.left - 1;
        break;
      }
      thrown = false;
    } finally {
      if (thrown && begun) {
        counts[SEGMENTS]! += cutter.left;
        counts[REFUSED]! += cutter.left;
      }
      this.#cutting = false;
      cutter.end();
    }
    return counts[FRAMES]! > frames ? "taken" : "dropped";
  }

  /** Offers the segment, and again where the far port wanted that before it gave its answer. */
  #askForSegment(far: NetPort, queueHint: number): Verdict {
    const cutter = this.#cutter;
    let answer: Verdict = "later";
    for (let tries = 0; answer === "later" && tries <= MOST_RETRIES; tries++) {
      if (tries > 0 && (!this.#woken || this.#far !== far)) break;
      this.#woken = false;
      answer = this.#ask(far, cutter.bytes, 0, cutter.length, null, queueHint);
    }
    return answer;
  }

  /** Keeps what the cutter has not handed on. */
  #hold(offload: Offload, queueHint: number): void {
    const cutter = this.#cutter;
    const length = cutter.restLength;
    if (length > this.#rest.length) this.#rest = new Uint8Array(Math.min(LONGEST_FINISHED, 2 * length));
    cutter.copyRest(this.#rest);
    this.#restLength = length;
    this.#restSegments = cutter.left;
    this.#restHint = queueHint;
    this.#restOffload.set(offload);
  }

  #dropRest(cause: number): void {
    this.#counts[SEGMENTS]! += this.#restSegments;
    this.#counts[cause]! += this.#restSegments;
    this.#restLength = this.#restSegments = 0;
  }

  /**
   * The far port is ready. @returns false when nothing stands in the way and the sender is to be told by the caller;
   * otherwise it is told here, as soon as what is held has gone.
   */
  #resume(queueHint: number): boolean {
    if (this.#restLength === 0 && !this.#cutting) return false;
    if (this.#cutting) {
      this.#woken = true;
      return this.#turns < MOST_TURNS && this.#await(queueHint);
    }
    const noted = this.#await(queueHint);
    const far = this.#far;
    if (far === null) return false;
    const frames = this.#counts[FRAMES]!;
    this.#sendRest(far);
    if (this.#counts[FRAMES]! > frames) this.#far?.endBatch(); // that of its sender was long ago
    this.#wake();
    return noted;
  }

  #sendRest(far: NetPort): void {
    const length = this.#restLength;
    const offload = this.#restOffload;
    const cutter = this.#cutterOf(offload);
    // It was cut before, so it can be again; its room is written only when it is held once more.
    cutter.begin(this.#rest, 0, length, offload);
    if (cutter.longest > far.accepts().longestFrame) {
      cutter.end();
      this.#dropRest(BAD_LENGTH);
      return;
    }
    this.#restLength = this.#restSegments = 0;
    this.#cut(far, offload, this.#restHint, true);
  }

  /** Tells the waiting queues of the sender that nothing stands in the way. */
  #wake(): void {
    if (this.#waking) return;
    this.#waking = true;
    try {
      while (this.#waitingCount > 0 && this.#restLength === 0 && !this.#cutting) {
        this.#turns++;
        const hint = this.#waiting[0]!;
        this.#waiting.copyWithin(0, 1, this.#waitingCount--);
        this.#sender.ready(hint);
      }
    } finally {
      this.#waking = false;
      this.#turns = 0;
    }
  }

  /** Answers who comes while segments are under way or held. */
  #putOff(queueHint: number): Verdict {
    const isHeld = this.#restLength > 0;
    if (!isHeld && this.#turns >= MOST_TURNS) return this.#drop(NESTED);
    if (!this.#sender.accepts().holds) return this.#drop(isHeld ? UNHELD : NESTED);
    if (!this.#await(queueHint)) return this.#drop(UNHELD);
    this.#counts[LATER]!++;
    return "later";
  }

  /** @returns false when too many are waiting already */
  #await(queueHint: number): boolean {
    for (let i = 0; i < this.#waitingCount; i++) if (this.#waiting[i] === queueHint) return true;
    if (this.#waitingCount === MOST_WAITING) return false;
    this.#waiting[this.#waitingCount++] = queueHint;
    return true;
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
