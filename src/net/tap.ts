import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../contract/index.js";
import { InlinePort, type Lane } from "./inline-port.js";
import { NOTHING_PLUGGED } from "./offload.js";
import type { Direction, PcapngWriter } from "./pcapng.js";

/** Where a tap's frames go in the file: one interface for both directions, or one for each. */
export type TapInterfaces = number | { readonly inbound: number; readonly outbound: number };

/**
 * A port with a tap on its cable: plug it in place of the port, `connect(new Tap(card.net, writer, id), other)`.
 *
 * Records every frame once, before it is handed on, so that an answer given at once comes after its question; a frame
 * answered `later` is recorded when it is taken. Checksums that the card left open are recorded open.
 * The file is flushed at the end of each batch.
 */
export class Tap extends InlinePort<TapLane> {
  /** @param port the card's end; frames it sends are outbound; @param interfaces ids of `writer.addInterface` */
  constructor(port: NetPort, writer: PcapngWriter, interfaces: TapInterfaces) {
    const ids = typeof interfaces === "number" ? { inbound: interfaces, outbound: interfaces } : interfaces;
    super(port, new TapLane(writer, ids.inbound, "inbound"), new TapLane(writer, ids.outbound, "outbound"));
  }
}

/** One direction: what it is offered, it records and hands on. */
class TapLane implements Lane {
  to: NetEndpoint | null = null;
  readonly #writer: PcapngWriter;
  readonly #id: number;
  readonly #direction: Direction;

  constructor(writer: PcapngWriter, id: number, direction: Direction) {
    this.#writer = writer;
    this.#id = id;
    this.#direction = direction;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    if (this.to === null) return "dropped";
    const token = this.#writer.packet(this.#id, bytes, start, length, this.#direction);
    const verdict = this.to.offer(bytes, start, length, offload, queueHint);
    if (verdict === "later") this.#writer.retract(token);
    else if (verdict === "dropped") this.#writer.countDropped(this.#id);
    return verdict;
  }

  endBatch(): void {
    this.#writer.flush();
    this.to?.endBatch();
  }

  ready(queueHint: number): void {
    this.to?.ready(queueHint);
  }

  accepts(): EndpointLimits {
    return this.to === null ? NOTHING_PLUGGED : this.to.accepts();
  }
}
