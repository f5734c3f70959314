import type { ByteSink, ByteSource } from "./source.js";
import { StreamEnd } from "./tcp.js";
import type { Station } from "./world.js";

/** TCP's maximum segment on Ethernet; bytes of payload in a full frame */
export const MSS = 1460;
/** bytes in flight: what TCP can announce without window scaling, as scp in 2011 */
export const WINDOW = 65535;
/** ns that a full frame, its preamble and its gap take at 1 Gb/s: the lab's clock moves on by this for each */
const FRAME_TIME = 12_304;
/** Rounds without a byte before the sender goes back; each lets 1 ms pass. */
const STALL_ROUNDS = 20;
/** Times that the sender goes back for the same byte before the transfer is given up. */
const GIVE_UP = 50;

export interface TransferResult {
  readonly bytes: number;
  /** ms without the time spent hashing */
  readonly ms: number;
  readonly sha256Sent: string;
  readonly sha256Received: string;
  readonly retransmitted: number;
}

/** A transfer that stopped moving. */
export class TransferError extends Error {
  override readonly name = "TransferError";
}

/**
 * Sends a source's bytes from one station to another and hashes what arrives.
 * @param source of segments of `segmentSize`
 * @param progress told the acknowledged bytes after each round
 * @param offload both ends leave to their interfaces what those can do
 * @throws TransferError when nothing moves any more
 */
export const transfer = (
  from: Station,
  to: Station,
  source: ByteSource,
  sink: ByteSink,
  advance: (ns: number) => void,
  progress: (bytes: number) => void,
  offload = false,
): TransferResult => {
  const sender = new StreamEnd({
    bus: from.bus,
    ifnet: from.ifnet,
    local: from.address,
    peer: to.address,
    mss: MSS,
    window: WINDOW,
    offload,
    source,
  });
  const receiver = new StreamEnd({
    bus: to.bus,
    ifnet: to.ifnet,
    local: to.address,
    peer: from.address,
    mss: MSS,
    window: WINDOW,
    offload,
    write: (bytes) => sink.write(bytes),
  });
  const started = performance.now();
  try {
    sender.connect(0x2011_0123);
    let moved = -1;
    let still = 0;
    let goneBack = 0;
    while (!sender.finished) {
      sender.pump();
      to.bus.poll();
      receiver.flush();
      from.bus.poll();
      sender.flush();
      const now = sender.acknowledged + receiver.arrived;
      if (now !== moved) {
        advance(Math.ceil(((now - Math.max(moved, 0)) / 2 / MSS) * FRAME_TIME));
        moved = now;
        still = goneBack = 0;
        progress(sender.acknowledged);
      } else if (++still === STALL_ROUNDS) {
        if (++goneBack > GIVE_UP) throw new TransferError(`nothing moves after ${sender.acknowledged} bytes`);
        still = 0;
        sender.retransmit();
      } else if (still > 2) {
        from.bus.delay(1000);
        to.bus.delay(0);
      }
    }
    const ms = performance.now() - started - source.digest.hashMs - sink.digest.hashMs;
    return {
      bytes: sink.received,
      ms,
      sha256Sent: source.digest.hex(),
      sha256Received: sink.digest.hex(),
      retransmitted: sender.retransmitted,
    };
  } finally {
    sender[Symbol.dispose]();
    receiver[Symbol.dispose]();
  }
};
