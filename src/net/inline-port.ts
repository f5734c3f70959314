import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../contract/index.js";

/** One direction of an `InlinePort`: what it is offered, it hands on to `to`, or does not. */
export interface Lane extends NetEndpoint {
  to: NetEndpoint | null;
}

/** Stands in front of a port on its cable: what goes to the port passes one lane, what comes from it the other. */
export class InlinePort<L extends Lane> implements NetPort {
  readonly #port: NetPort;
  /** to the port */
  protected readonly inbound: L;
  /** from the port, once something is plugged in */
  protected readonly outbound: L;

  constructor(port: NetPort, inbound: L, outbound: L) {
    this.#port = port;
    this.inbound = inbound;
    this.outbound = outbound;
    inbound.to = port;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    return this.inbound.offer(bytes, start, length, offload, queueHint);
  }

  endBatch(): void {
    this.inbound.endBatch();
  }

  ready(queueHint: number): void {
    this.inbound.ready(queueHint);
  }

  accepts(): EndpointLimits {
    return this.inbound.accepts();
  }

  attach(far: NetEndpoint | null): void {
    const before = this.outbound.to;
    this.outbound.to = far; // first: a card may send from within its attach
    try {
      this.#port.attach(far === null ? null : this.outbound);
    } catch (error) {
      this.outbound.to = before;
      throw error;
    }
  }
}
