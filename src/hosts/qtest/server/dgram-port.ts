import { createSocket, type Socket } from "node:dgram";
import { ETHER_HDR_LEN } from "../../../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../../../contract/index.js";
import { FrameRing } from "../../../net/index.js";
import { StartupError } from "./startup-error.js";

/** bytes of a frame: what one datagram holds */
const LONGEST = 65_507;
/** bytes and frames that wait for a far end which is not ready; QEMU's queue has 10 000 packets, too */
const QUEUE_BYTES = 2 ** 20;
const QUEUE_FRAMES = 10_000;

export interface DgramAddress {
  readonly host: string;
  readonly port: number;
}

/** A cable that ends in a UDP socket: one frame per datagram, as QEMU's `-netdev dgram`. */
export class DgramPort implements NetPort, Disposable {
  readonly #socket: Socket;
  readonly #remote: DgramAddress | null;
  readonly #held = new FrameRing(QUEUE_BYTES, QUEUE_FRAMES);
  readonly #padded = new Uint8Array(ETHER_HDR_LEN);
  #far: NetEndpoint | null = null;

  private constructor(socket: Socket, remote: DgramAddress | null) {
    this.#socket = socket;
    this.#remote = remote;
    socket.on("message", (datagram) => this.#arrived(datagram));
    socket.on("error", () => {}); // a peer that is not there is nobody's mistake
  }

  /** @throws StartupError */
  static open(local: DgramAddress, remote: DgramAddress | null): Promise<DgramPort> {
    return new Promise((resolve, reject) => {
      const socket = createSocket("udp4");
      socket.once("error", (error) => reject(new StartupError(`${local.host}:${local.port}: ${error.message}`)));
      socket.bind(local.port, local.host, () => {
        socket.removeAllListeners("error");
        resolve(new DgramPort(socket, remote));
      });
    });
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, _queueHint: number): Verdict {
    if (
      this.#remote === null ||
      length > LONGEST ||
      (offload !== null && (offload.needsCsum || offload.gso !== "none"))
    )
      return "dropped";
    this.#socket.send(Buffer.from(bytes.slice(start, start + length).buffer), this.#remote.port, this.#remote.host);
    return "taken";
  }

  endBatch(): void {}

  ready(): void {
    const held = this.#held;
    for (let slot = held.head; slot >= 0 && this.#far !== null; slot = held.head) {
      held.select(slot);
      if (this.#far.offer(held.bytes, held.start, held.length, null, 0) === "later") break;
      held.release(slot);
    }
    this.#far?.endBatch();
  }

  accepts(): EndpointLimits {
    return { csum: false, tso4: false, tso6: false, uso: false, longestFrame: LONGEST, holds: true };
  }

  attach(far: NetEndpoint | null): void {
    this.#far = far;
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }

  #arrived(datagram: Buffer): void {
    if (datagram.length === 0 || this.#far === null) return;
    let frame = new Uint8Array(datagram.buffer, datagram.byteOffset, datagram.length);
    if (frame.length < ETHER_HDR_LEN) {
      this.#padded.fill(0).set(frame);
      frame = this.#padded;
    }
    const verdict = this.#held.head < 0 ? this.#far.offer(frame, 0, frame.length, null, 0) : "later";
    if (verdict === "later") this.#held.push(frame, 0, frame.length, null, 0);
    else this.#far.endBatch();
  }
}
