import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../../../contract/index.js";

const NOTHING_THERE: EndpointLimits = {
  csum: false,
  tso4: false,
  tso6: false,
  uso: false,
  longestFrame: Number.MAX_SAFE_INTEGER,
  holds: false,
};

/**
 * Stands between a card's cable and its back end: while the machine is stopped, frames from outside wait where they are.
 * The server's own frames enter here, too.
 */
export class Gate implements NetPort {
  /** told when the back end has room again: the card has something to do */
  onReady: () => void = () => {};
  readonly #inner: NetPort | null;
  #far: NetEndpoint | null = null;
  #open = true;
  readonly #waiting = new Set<number>(); // queue hints that were answered `later` for being stopped

  /** @param inner the back end; null: frames vanish */
  constructor(inner: NetPort | null) {
    this.#inner = inner;
    inner?.attach({
      offer: (bytes, start, length, offload, hint) => this.#fromOutside(bytes, start, length, offload, hint),
      endBatch: () => this.#far?.endBatch(),
      ready: (hint) => {
        this.#far?.ready(hint);
        this.onReady();
      },
      accepts: () => this.#far?.accepts() ?? NOTHING_THERE,
    });
  }

  /** Lets frames in, or keeps them out. */
  setOpen(open: boolean): void {
    this.#open = open;
    if (!open) return;
    const hints = [...this.#waiting];
    this.#waiting.clear();
    for (const hint of hints) this.#inner?.ready(hint);
  }

  /** Sends a frame that no card sent. */
  send(frame: Uint8Array): void {
    this.#inner?.offer(frame, 0, frame.length, null, 0);
    this.#inner?.endBatch();
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    return this.#inner === null ? "dropped" : this.#inner.offer(bytes, start, length, offload, queueHint);
  }

  endBatch(): void {
    this.#inner?.endBatch();
  }

  ready(queueHint: number): void {
    this.#inner?.ready(queueHint);
  }

  accepts(): EndpointLimits {
    return this.#inner?.accepts() ?? NOTHING_THERE;
  }

  attach(far: NetEndpoint | null): void {
    this.#far = far;
    if (far !== null) return;
    const hints = [...this.#waiting];
    this.#waiting.clear();
    for (const hint of hints) this.#inner?.ready(hint);
  }

  #fromOutside(bytes: Uint8Array, start: number, length: number, offload: Offload | null, hint: number): Verdict {
    if (this.#far === null) return "dropped";
    if (this.#open) return this.#far.offer(bytes, start, length, offload, hint);
    if (this.#inner?.accepts().holds !== true) return "dropped";
    this.#waiting.add(hint);
    return "later";
  }
}
