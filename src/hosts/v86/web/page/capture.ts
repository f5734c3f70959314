import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../../../../contract/index.js";
import { NOTHING_PLUGGED, PcapngWriter } from "../../../../net/index.js";

/** As the guest's card sees it. */
export type FrameDirection = "to-host" | "to-guest";

/** Bytes that are kept of a frame: all of any that was not made to be cut into several. */
const SNAPLEN = 2048;

/** A frame that was kept; `bytes` is valid until the next one is recorded. */
export interface CapturedFrame {
  /** counts from 0, for all cards together */
  readonly number: number;
  /** ms since the capture began */
  readonly at: number;
  readonly card: number;
  readonly direction: FrameDirection;
  /** bytes without FCS */
  readonly length: number;
  /** its first 2048 */
  readonly bytes: Uint8Array;
}

export interface CapturedCard {
  readonly name: string;
  readonly mac: Uint8Array;
}

const TO_GUEST = 0x80;

/**
 * The youngest frames of all cards in memory of a fixed size: old ones go when new ones need their room.
 * A page may show any of them by its number, and save all as a pcapng file.
 */
export class Capture {
  readonly #bytes: Uint8Array;
  readonly #frames: number;
  readonly #start: Int32Array;
  readonly #length: Int32Array;
  readonly #at: Float64Array;
  readonly #flags: Uint8Array;
  readonly #now: () => number;
  readonly #epoch: number;
  #first = 0; // numbers of the frames that are there: #first … #end − 1
  #end = 0;
  #write = 0; // index in #bytes behind the youngest frame

  /**
   * @param now ms that never go back; @param epoch what `now` was at 1970-01-01 UTC, ms, negated
   * @param bytes room for frames, 2048 or more; @param frames most frames
   */
  constructor(now: () => number, epoch: number, bytes = 32 << 20, frames = 1 << 15) {
    this.#now = now;
    this.#epoch = epoch;
    this.#bytes = new Uint8Array(bytes);
    this.#frames = frames;
    this.#start = new Int32Array(frames);
    this.#length = new Int32Array(frames);
    this.#at = new Float64Array(frames);
    this.#flags = new Uint8Array(frames);
  }

  /** number of the oldest frame that is still there */
  get first(): number {
    return this.#first;
  }

  /** number that the next frame gets: so many were seen */
  get end(): number {
    return this.#end;
  }

  /** Copies a frame. @param card 0 … 127 @returns its number */
  record(card: number, direction: FrameDirection, bytes: Uint8Array, start: number, length: number): number {
    const kept = Math.min(length, SNAPLEN);
    if (this.#end - this.#first === this.#frames) this.#first++;
    if (this.#write + kept > this.#bytes.length) {
      // What lies from here to the end of the memory is older than what lies at its beginning.
      while (this.#first < this.#end && this.#start[this.#first % this.#frames]! >= this.#write) this.#first++;
      this.#write = 0;
    }
    const to = this.#write + kept;
    while (this.#first < this.#end) {
      const oldest = this.#start[this.#first % this.#frames]!;
      if (oldest < this.#write || oldest >= to) break;
      this.#first++;
    }
    const slot = this.#end % this.#frames;
    this.#bytes.set(bytes.subarray(start, start + kept), this.#write);
    this.#start[slot] = this.#write;
    this.#length[slot] = length;
    this.#at[slot] = this.#now();
    this.#flags[slot] = card | (direction === "to-guest" ? TO_GUEST : 0);
    this.#write = to;
    return this.#end++;
  }

  /** Takes the youngest frame back; an older one stays. */
  retract(number: number): void {
    if (number !== this.#end - 1 || number < this.#first) return;
    this.#end--;
    this.#write = this.#start[this.#end % this.#frames]!;
  }

  /** null: it went, or is still to come */
  frame(number: number): CapturedFrame | null {
    if (number < this.#first || number >= this.#end) return null;
    const slot = number % this.#frames;
    const [start, length, flags] = [this.#start[slot]!, this.#length[slot]!, this.#flags[slot]!];
    return {
      number,
      at: this.#at[slot]!,
      card: flags & ~TO_GUEST,
      direction: (flags & TO_GUEST) !== 0 ? "to-guest" : "to-host",
      length,
      bytes: this.#bytes.subarray(start, start + Math.min(length, SNAPLEN)),
    };
  }

  /** What is there as a pcapng file with an interface for each card. */
  pcapng(cards: readonly CapturedCard[]): Uint8Array<ArrayBuffer>[] {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let ns = 0;
    const writer = new PcapngWriter({
      clock: { now: () => ns, timer: noTimer },
      sink: (chunk) => void chunks.push(chunk.slice()),
      epochSeconds: Math.floor(this.#epoch / 1000),
      hardware: "v86",
      application: "barwire",
    });
    const milliseconds = this.#epoch % 1000; // of the epoch, beyond its whole seconds
    const stamp = (at: number): number => Math.floor((at + milliseconds) * 1e6);
    if (this.#first < this.#end) ns = stamp(this.#at[this.#first % this.#frames]!);
    const ids = cards.map(({ name, mac }) => writer.addInterface({ name, mac, snaplen: SNAPLEN }));
    for (let number = this.#first; number < this.#end; number++) {
      const frame = this.frame(number);
      if (frame === null) continue;
      ns = stamp(frame.at);
      const direction = frame.direction === "to-guest" ? "inbound" : "outbound";
      writer.packet(ids[frame.card] ?? -1, frame.bytes, 0, frame.length, direction);
    }
    writer.close();
    return chunks;
  }
}

const noTimer = (): never => {
  throw new Error("a finished capture has no timers");
};

/**
 * A card's port whose frames a `Capture` keeps, both ways: plug it in place of the port. As `Tap`, it records a frame before
 * it hands it on, so that an answer given at once comes after its question.
 */
export class Recorded implements NetPort {
  readonly #port: NetPort;
  readonly #toGuest: RecordingLane;
  readonly #toHost: RecordingLane;

  constructor(port: NetPort, capture: Capture, card: number) {
    this.#port = port;
    this.#toGuest = new RecordingLane(capture, card, "to-guest");
    this.#toHost = new RecordingLane(capture, card, "to-host");
    this.#toGuest.to = port;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    return this.#toGuest.offer(bytes, start, length, offload, queueHint);
  }

  endBatch(): void {
    this.#toGuest.endBatch();
  }

  ready(queueHint: number): void {
    this.#toGuest.ready(queueHint);
  }

  accepts(): EndpointLimits {
    return this.#port.accepts();
  }

  attach(far: NetEndpoint | null): void {
    this.#toHost.to = far;
    this.#port.attach(far === null ? null : this.#toHost);
  }
}

class RecordingLane implements NetEndpoint {
  to: NetEndpoint | null = null;
  readonly #capture: Capture;
  readonly #card: number;
  readonly #direction: FrameDirection;

  constructor(capture: Capture, card: number, direction: FrameDirection) {
    this.#capture = capture;
    this.#card = card;
    this.#direction = direction;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    if (this.to === null) return "dropped";
    const number = this.#capture.record(this.#card, this.#direction, bytes, start, length);
    const verdict = this.to.offer(bytes, start, length, offload, queueHint);
    if (verdict === "later") this.#capture.retract(number);
    return verdict;
  }

  endBatch(): void {
    this.to?.endBatch();
  }

  ready(queueHint: number): void {
    this.to?.ready(queueHint);
  }

  accepts(): EndpointLimits {
    return this.to === null ? NOTHING_PLUGGED : this.to.accepts();
  }
}
