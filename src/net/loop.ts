import { ConfigError } from "../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../contract/index.js";
import { TAKES_ALL } from "./offload.js";

/**
 * A loopback plug: every frame comes back to its sender, in the same call and in place.
 * When the sender answers its own frame with `later`, it is told `ready` by itself. Keeps nothing, so nothing is saved.
 */
export class Loop implements NetPort {
  #far: NetEndpoint | null = null;
  #busy = false;

  /** What comes back while a frame is coming back is dropped: its sender answers at once and would never end. */
  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    if (this.#far === null || this.#busy) return "dropped";
    this.#busy = true;
    try {
      return this.#far.offer(bytes, start, length, offload, queueHint);
    } finally {
      this.#busy = false;
    }
  }

  endBatch(): void {
    this.#far?.endBatch();
  }

  ready(queueHint: number): void {
    this.#far?.ready(queueHint);
  }

  /** The sender's own limits: there is nobody else. */
  accepts(): EndpointLimits {
    return this.#far === null ? TAKES_ALL : this.#far.accepts();
  }

  /** @throws ConfigError `port-occupied` */
  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#far !== null)
      throw new ConfigError("port-occupied", "the loopback plug is in use already");
    this.#far = far;
  }
}
