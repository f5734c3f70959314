import { createConnection, createServer, type Server, type Socket } from "node:net";
import { ConfigError, ETHER_HDR_LEN } from "../../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../../contract/index.js";
import { FrameSplitter, LENGTH_SIZE, STREAM_FRAME_MAX } from "./frame-splitter.js";

/** A Unix socket by its path, or a TCP port (of 127.0.0.1, where no host is named). */
export type StreamAddress = { readonly path: string } | { readonly host?: string; readonly port: number };

export interface StreamPortOptions {
  /** bytes that may wait for the socket, 65 540 or more, in two halves; default 1 MiB. What comes on top is dropped or held */
  readonly queueBytes?: number;
  /** bytes without FCS, 60 … 65 536; default 65 536. Longer frames to the peer are dropped */
  readonly longestFrame?: number;
  /**
   * Whether frames from the peer that are shorter than an Ethernet header are filled up with zeros to its 14 bytes instead
   * of left out: QEMU's own tests send five. Default false
   */
  readonly padRunts?: boolean;
  /** ms after which a client tries again, 0 (the default): never. A server takes the next peer in any case */
  readonly reconnectMs?: number;
}

/** Something went wrong with the socket of a port, or with its peer. */
export class StreamError extends Error {
  override readonly name = "StreamError";
  /** `connect` and `listen` failed; `connection` was lost; `protocol`: the peer sent no such stream; `closed` by us */
  readonly code: "connect" | "listen" | "connection" | "protocol" | "closed";
  constructor(code: StreamError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface StreamCounters {
  /** handed to the socket */
  readonly outFrames: number;
  readonly outBytes: number;
  /** that the port had no room for, whose sender could not hold them */
  readonly outOverflowed: number;
  /** that met no peer, or were waiting when it went */
  readonly outUnconnected: number;
  /** too long or too short, or with an offload that nothing finished: see `connect` of the room net */
  readonly outRefused: number;
  /** taken by the far end */
  readonly inFrames: number;
  readonly inBytes: number;
  /** that the far end dropped, that met no far end, or were too short */
  readonly inDropped: number;
  /** peers that were there, one after the other */
  readonly connections: number;
  /** peers that came while there was one */
  readonly refusedPeers: number;
}

/** What a listener is told: `error` says why the peer went, and is null where it just left. */
export type PeerListener = (connected: boolean, error: StreamError | null) => void;

const QUEUE_BYTES = 2 ** 20;
/** bytes that go to the socket without waiting for the end of a batch */
const ENOUGH = 0x1_0000;
const LONGEST = 0x1_0000;

const nameOf = (address: StreamAddress): string =>
  "path" in address ? address.path : `${address.host ?? "127.0.0.1"}:${address.port}`;

function check(
  address: StreamAddress,
  { queueBytes = QUEUE_BYTES, longestFrame = LONGEST, reconnectMs = 0, padRunts = false }: StreamPortOptions,
) {
  if (
    "path" in address
      ? address.path === ""
      : !(Number.isInteger(address.port) && address.port >= 0 && address.port <= 0xffff)
  )
    throw new ConfigError("stream-address", `stream ${nameOf(address)}: expected a path, or a port in 0 … 65535`);
  if (!(Number.isInteger(longestFrame) && longestFrame >= 60 && longestFrame <= LONGEST))
    throw new ConfigError("stream-frame", `longest frame ${longestFrame}: expected 60 … ${LONGEST} bytes`);
  if (!(Number.isInteger(queueBytes) && queueBytes >= 2 * (longestFrame + LENGTH_SIZE) && queueBytes <= 2 ** 30))
    throw new ConfigError(
      "stream-queue",
      `queue of ${queueBytes} bytes: expected ${2 * (longestFrame + LENGTH_SIZE)} … 2^30`,
    );
  if (!(reconnectMs >= 0 && reconnectMs <= 0x7fff_ffff))
    throw new ConfigError("stream-reconnect", `reconnect after ${reconnectMs} ms: expected 0 … 2^31−1`);
  return { queueBytes, longestFrame, reconnectMs, padRunts };
}

/**
 * A cable that ends in a socket, in the format of QEMU's `-netdev stream`: each frame with its length in four bytes,
 * big-endian, in front. The peer may be passt, QEMU, or another port of this kind; it takes finished frames only, so plug
 * the port in with `connect` of the room net.
 *
 * Frames to the peer wait in two buffers by turns, one filled while the other is written; a full one is `later` to a far
 * end that holds, and a counted drop to any other. Frames from the peer go on as they come; when the far end says `later`,
 * the socket is read no further until it is `ready`.
 */
export class StreamPort implements NetPort {
  readonly #limits: EndpointLimits;
  readonly #splitter: FrameSplitter;
  readonly #padded = new Uint8Array(ETHER_HDR_LEN);
  readonly #listeners = new Set<PeerListener>();
  readonly #waiting = new Set<number>(); // queue hints that were answered `later`
  #far: NetEndpoint | null = null;
  #socket: Socket | null = null;
  #filling: Uint8Array;
  #flying: Uint8Array;
  #filled = 0;
  #frames = 0; // frames in #filling
  #isFlying = false;
  #delivering = false;
  #woken = false; // the far end said `ready` while it was being offered a frame
  #stop: (() => void) | null;
  #outFrames = 0;
  #outBytes = 0;
  #outOverflowed = 0;
  #outUnconnected = 0;
  #outRefused = 0;
  #inFrames = 0;
  #inBytes = 0;
  #inDropped = 0;
  #connections = 0;
  #refusedPeers = 0;

  /** @param stop what ends connecting or listening; see `connectStream` and `listenStream` */
  constructor(queueBytes: number, longestFrame: number, padRunts: boolean, stop: () => void) {
    this.#splitter = new FrameSplitter(
      (bytes, start, length) => this.#deliver(bytes, start, length),
      padRunts ? 1 : ETHER_HDR_LEN,
    );
    this.#filling = new Uint8Array(queueBytes >>> 1);
    this.#flying = new Uint8Array(queueBytes >>> 1);
    this.#limits = { csum: false, tso4: false, tso6: false, uso: false, longestFrame, holds: true };
    this.#stop = stop;
  }

  /** Whether there is a peer. */
  get connected(): boolean {
    return this.#socket !== null;
  }

  /** Whether it was disposed of. */
  get closed(): boolean {
    return this.#stop === null;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    const unfinished = offload !== null && (offload.needsCsum || offload.gso !== "none");
    if (unfinished || length < ETHER_HDR_LEN || length > this.#limits.longestFrame) {
      this.#outRefused++;
      return "dropped";
    }
    if (this.#socket === null) {
      this.#outUnconnected++;
      return "dropped";
    }
    if (this.#filled + LENGTH_SIZE + length > this.#filling.length) {
      this.#flush();
      if (this.#filled > 0) return this.#full(queueHint);
    }
    const buffer = this.#filling;
    const at = this.#filled;
    buffer[at] = 0;
    buffer[at + 1] = length >>> 16;
    buffer[at + 2] = length >>> 8;
    buffer[at + 3] = length;
    buffer.set(bytes.subarray(start, start + length), at + LENGTH_SIZE);
    this.#filled = at + LENGTH_SIZE + length;
    this.#frames++;
    if (this.#filled >= ENOUGH) this.#flush();
    return "taken";
  }

  endBatch(): void {
    this.#flush();
  }

  ready(): void {
    if (this.#delivering) this.#woken = true;
    else if (this.#splitter.waiting) this.#read(null);
  }

  accepts(): EndpointLimits {
    return this.#limits;
  }

  /** @throws ConfigError `port-occupied` */
  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#far !== null) throw new ConfigError("port-occupied", "the stream has a cable already");
    this.#far = far;
    this.#waiting.clear();
    if (!this.#delivering && this.#splitter.waiting) this.#read(null); // who held it up is gone
  }

  /** Tells `listener` when a peer comes or goes; for example to pull the cable of a card. */
  onPeer(listener: PeerListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** A copy of what was counted. */
  counters(): StreamCounters {
    return {
      outFrames: this.#outFrames,
      outBytes: this.#outBytes,
      outOverflowed: this.#outOverflowed,
      outUnconnected: this.#outUnconnected,
      outRefused: this.#outRefused,
      inFrames: this.#inFrames,
      inBytes: this.#inBytes,
      inDropped: this.#inDropped + this.#splitter.runts,
      connections: this.#connections,
      refusedPeers: this.#refusedPeers,
    };
  }

  /** Leaves the peer and stops listening or trying; idempotent. The cable stays, and what comes through it is dropped. */
  [Symbol.dispose](): void {
    const stop = this.#stop;
    this.#stop = null;
    stop?.();
    const socket = this.#socket;
    this.#gone(null);
    socket?.destroy();
  }

  /** A peer is there: called by who connects or listens. @returns false: there is one already, or the port is closed */
  adopt(socket: Socket): boolean {
    if (this.#socket !== null || this.#stop === null) {
      this.#refusedPeers++;
      socket.on("error", () => {}); // a peer that goes meanwhile is nobody's loss
      socket.destroy();
      return false;
    }
    this.#socket = socket;
    this.#connections++;
    socket.setNoDelay(true);
    const gone = (error: StreamError | null): void => {
      if (this.#socket === socket) this.#gone(error);
    };
    // Not as a Buffer: its slice() is a view, and whoever keeps a frame may copy it with that.
    socket.on("data", (b: Buffer) => this.#read(new Uint8Array(b.buffer, b.byteOffset, b.length)));
    socket.on("error", (cause) => gone(new StreamError("connection", `the peer went: ${cause.message}`, { cause })));
    socket.on("end", () => socket.destroy());
    socket.on("close", () => gone(null));
    this.#tell(true, null);
    return true;
  }

  /** Hands what is filled to the socket, unless it is still at the former buffer. */
  #flush(): void {
    const socket = this.#socket;
    if (this.#isFlying || this.#filled === 0 || socket === null) return;
    const buffer = this.#filling;
    const bytes = buffer.subarray(0, this.#filled);
    this.#filling = this.#flying;
    this.#flying = buffer;
    this.#outBytes += this.#filled - this.#frames * LENGTH_SIZE;
    this.#outFrames += this.#frames;
    this.#filled = this.#frames = 0;
    this.#isFlying = true;
    socket.write(bytes, () => {
      if (this.#socket !== socket) return;
      this.#isFlying = false;
      this.#flush();
      this.#wake();
    });
  }

  /** No room for a frame. */
  #full(queueHint: number): Verdict {
    if (this.#far?.accepts().holds === true) {
      this.#waiting.add(queueHint);
      return "later";
    }
    this.#outOverflowed++;
    return "dropped";
  }

  #wake(): void {
    if (this.#waiting.size === 0) return;
    const hints = [...this.#waiting];
    this.#waiting.clear();
    for (const hint of hints) this.#far?.ready(hint);
  }

  /** @param chunk what came, or null to go on after `later` */
  #read(chunk: Uint8Array | null): void {
    const socket = this.#socket;
    if (socket === null) return;
    this.#delivering = true;
    this.#woken = false;
    let tooLong: number;
    try {
      tooLong = chunk === null ? this.#splitter.resume() : this.#splitter.push(chunk);
      this.#far?.endBatch();
    } finally {
      this.#delivering = false;
    }
    if (tooLong !== 0) {
      this.#gone(
        new StreamError("protocol", `the peer sent a frame of ${tooLong} bytes, longer than ${STREAM_FRAME_MAX}`),
      );
      socket.destroy();
    } else if (!this.#splitter.waiting) socket.resume();
    else {
      socket.pause();
      if (this.#woken) setImmediate(() => this.ready());
    }
  }

  #deliver(bytes: Uint8Array, start: number, length: number): Verdict {
    if (length < ETHER_HDR_LEN) {
      const padded = this.#padded.fill(0);
      padded.set(bytes.subarray(start, start + length));
      return this.#deliver(padded, 0, ETHER_HDR_LEN);
    }
    const verdict = this.#far === null ? "dropped" : this.#far.offer(bytes, start, length, null, 0);
    if (verdict === "dropped") this.#inDropped++;
    else if (verdict === "taken") {
      this.#inFrames++;
      this.#inBytes += length;
    }
    return verdict;
  }

  /** The peer is not there any more: what waited for it is lost, and whoever waited for room may go on. */
  #gone(error: StreamError | null): void {
    if (this.#socket === null) return;
    this.#socket = null;
    this.#outUnconnected += this.#frames;
    this.#filled = this.#frames = 0;
    if (this.#isFlying) this.#flying = new Uint8Array(this.#flying.length); // the old one is the dead socket's
    this.#isFlying = false;
    if (this.#splitter.reset()) this.#inDropped++;
    this.#wake();
    this.#tell(false, error);
  }

  #tell(connected: boolean, error: StreamError | null): void {
    for (const listener of [...this.#listeners]) listener(connected, error);
  }
}

/**
 * Connects to a peer that listens: passt, or QEMU with `server=on`. Resolves when the peer is there.
 * With `reconnectMs` a peer that went, but not one that was never there, is tried again and again.
 * @throws ConfigError `stream-address`, `stream-frame`, `stream-queue`, `stream-reconnect`; rejects with StreamError `connect`
 */
export async function connectStream(address: StreamAddress, options: StreamPortOptions = {}): Promise<StreamPort> {
  const { queueBytes, longestFrame, reconnectMs, padRunts } = check(address, options);
  let timer: NodeJS.Timeout | undefined;
  let trying: Socket | null = null;
  const port = new StreamPort(queueBytes, longestFrame, padRunts, () => {
    clearTimeout(timer);
    trying?.destroy();
  });
  const dial = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const socket = createConnection("path" in address ? address : { host: "127.0.0.1", ...address });
      trying = socket;
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        trying = null;
        port.adopt(socket);
        resolve();
      });
    });
  const again = (): void => {
    if (!port.closed) timer = setTimeout(() => dial().catch(again), reconnectMs);
  };
  if (reconnectMs > 0) port.onPeer((connected) => void (connected || again()));
  try {
    await dial();
  } catch (cause) {
    throw new StreamError("connect", `stream ${nameOf(address)}: ${(cause as Error).message}`, { cause });
  }
  return port;
}

/** A port on a socket that is connected already, such as one inherited from who started this process; it is owned from now on. */
export function streamOn(socket: Socket, options: StreamPortOptions = {}): StreamPort {
  const { queueBytes, longestFrame, padRunts } = check({ path: "inherited" }, options);
  const port = new StreamPort(queueBytes, longestFrame, padRunts, () => {});
  port.adopt(socket);
  return port;
}

/**
 * Listens for a peer: QEMU with `-netdev stream`, or another port. Resolves when it listens; `connected` and `onPeer` tell
 * when the peer is there. One peer at a time: others are sent away until it has gone.
 * @throws ConfigError as `connectStream`; rejects with StreamError `listen`
 */
export async function listenStream(address: StreamAddress, options: StreamPortOptions = {}): Promise<StreamServer> {
  const { queueBytes, longestFrame, padRunts } = check(address, options);
  const server = createServer((socket) => void port.adopt(socket));
  const port = new StreamServer(queueBytes, longestFrame, padRunts, server);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new StreamError("listen", `stream ${nameOf(address)}: ${cause.message}`, { cause })),
    );
    server.listen("path" in address ? address : { host: "127.0.0.1", ...address }, resolve);
  });
  return port;
}

/** A port that waits for its peer; made by `listenStream`. */
export class StreamServer extends StreamPort {
  readonly #server: Server;

  constructor(queueBytes: number, longestFrame: number, padRunts: boolean, server: Server) {
    super(queueBytes, longestFrame, padRunts, () => void server.close());
    this.#server = server;
  }

  /** Where it listens: with the port that the system chose where 0 was asked for. */
  get address(): StreamAddress {
    const address = this.#server.address();
    if (address === null) throw new StreamError("closed", "the stream listens no more");
    return typeof address === "string" ? { path: address } : { host: address.address, port: address.port };
  }
}
