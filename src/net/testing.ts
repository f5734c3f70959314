/** Ports and a clock for this room's own tests; not exported from the room. */
import type { Clock, EndpointLimits, NetEndpoint, NetPort, Offload, Timer, Verdict } from "../contract/index.js";
import { OffloadRecord, TAKES_ALL } from "./offload.js";

/** What a `TestPort` was offered and took. */
export interface Taken {
  readonly frame: Uint8Array;
  readonly offload: OffloadRecord | null;
  readonly queueHint: number;
}

/** A port that keeps copies of what it takes and does what a test tells it. */
export class TestPort implements NetPort {
  far: NetEndpoint | null = null;
  readonly taken: Taken[] = [];
  readonly readies: number[] = [];
  batches = 0;
  limits: EndpointLimits = TAKES_ALL;
  /** asked at each offer, after `onOffer` */
  verdict: (frame: Uint8Array) => Verdict = () => "taken";
  /** called at each offer, with a copy */
  onOffer: (frame: Uint8Array) => void = () => {};

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    const frame = bytes.slice(start, start + length);
    this.onOffer(frame);
    const verdict = this.verdict(frame);
    if (verdict !== "taken") return verdict;
    let kept: OffloadRecord | null = null;
    if (offload !== null) {
      kept = new OffloadRecord();
      kept.set(offload);
    }
    // A copy taken now, not before: an endpoint may look at the bytes until it returns.
    this.taken.push({ frame: bytes.slice(start, start + length), offload: kept, queueHint });
    return "taken";
  }

  endBatch(): void {
    this.batches++;
  }

  ready(queueHint: number): void {
    this.readies.push(queueHint);
  }

  accepts(): EndpointLimits {
    return this.limits;
  }

  attach(far: NetEndpoint | null): void {
    if (far !== null && this.far !== null) throw new Error("occupied");
    this.far = far;
  }

  /** Offers a frame to the far end, from the middle of a larger array, as from guest memory. */
  send(frame: Uint8Array, offload: Offload | null = null, queueHint = 0): Verdict {
    if (this.far === null) throw new Error("nothing is plugged in");
    const memory = new Uint8Array(frame.length + 40).fill(0xee);
    memory.set(frame, 17);
    return this.far.offer(memory, 17, frame.length, offload, queueHint);
  }

  /** the first byte of payload of each taken frame */
  get tags(): number[] {
    return this.taken.map(({ frame }) => frame[14]!);
  }
}

/** An Ethernet frame from station `from` to station `to` (255: everybody) with `tag` as its first byte of payload. */
export const frameOf = (to: number, from: number, tag: number, length = 60): Uint8Array => {
  const frame = new Uint8Array(Math.max(length, 15)).fill(tag ^ 0x5a);
  frame.set(to === 255 ? [255, 255, 255, 255, 255, 255] : [2, 0, 0, 0, 0, to]);
  frame.set([2, 0, 0, 0, 0, from, 0x88, 0xb5, tag], 6);
  return frame;
};

/** A clock that a test moves. */
export class TestClock implements Clock {
  readonly #timers: { deadline: number; fire: () => void }[] = [];
  #now: number;

  constructor(now = 0) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  timer(fire: () => void): Timer {
    const timers = this.#timers;
    const entry = { deadline: Number.POSITIVE_INFINITY, fire };
    timers.push(entry);
    return {
      get deadline(): number {
        return entry.deadline;
      },
      arm(deadline: number): void {
        entry.deadline = deadline;
      },
      cancel(): void {
        entry.deadline = Number.POSITIVE_INFINITY;
      },
      [Symbol.dispose](): void {
        timers.splice(timers.indexOf(entry), 1);
      },
    };
  }

  /** ns of the next timer, Infinity when all are idle */
  get next(): number {
    return this.#timers.reduce((least, { deadline }) => Math.min(least, deadline), Number.POSITIVE_INFINITY);
  }

  /** Moves the time on and fires what is due, in order. @param ns how far; @param most timers that may fire */
  advance(ns: number, most = 10_000): void {
    const end = this.#now + ns;
    for (; this.next <= end; most--) {
      if (most === 0) throw new Error("timers without end");
      const due = this.#timers.reduce((a, b) => (b.deadline < a.deadline ? b : a));
      this.#now = Math.max(this.#now, due.deadline);
      due.deadline = Number.POSITIVE_INFINITY;
      due.fire();
    }
    this.#now = end;
  }

  /** Sets the time without firing anything, as a restored machine does. */
  set(now: number): void {
    this.#now = now;
  }
}
