import { readSync, writeSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import type { SocketThread, SyncSocket } from "./client-sockets.js";

/**
 * How QEMU's end of a cable is made: `-netdev stream` over a Unix socket, `-netdev dgram` over UDP on this machine, or `pair`,
 * `-netdev socket` on one of a pair of sockets that QEMU inherits. With that last one no other thread stands between: what a
 * card sent within a request can be received, without waiting, as soon as the request is answered.
 */
export type NetworkKind = "stream" | "dgram" | "pair";

const SEND_MS = 1000;

/** The far end of a `-netdev`: takes and gives frames without FCS, synchronously. */
export interface NetworkPeer {
  readonly id: string;
  /** what goes into QEMU's command line */
  readonly args: readonly string[];
  /** Waits until QEMU has plugged in. */
  connected(): void;
  /** Sends frames to the card. @returns false when they are still on their way: QEMU's card takes none, and the pipe is full */
  send(...frames: readonly Uint8Array[]): boolean;
  /** The next frame from the card; null when none comes within `ms`. */
  receive(ms: number): Uint8Array | null;
  /** Lets go of the cable. */
  close(): void;
}

/** Frames behind their lengths, 32 bits big-endian. */
const framed = (frames: readonly Uint8Array[]): Buffer =>
  Buffer.concat(
    frames.flatMap((frame) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      return [length, frame];
    }),
  );

/** Frames behind their lengths, over a Unix socket. */
class StreamPeer implements NetworkPeer {
  readonly id: string;
  readonly args: readonly string[];
  readonly #socket: SyncSocket;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(thread: SocketThread, id: string, path: string) {
    this.id = id;
    this.#socket = thread.listen(path);
    this.args = ["-netdev", `stream,id=${id},server=off,addr.type=unix,addr.path=${path}`];
  }

  connected(): void {
    this.#socket.until(({ open }) => open, 10_000, `QEMU did not connect its netdev ${this.id}`);
  }

  send(...frames: readonly Uint8Array[]): boolean {
    return this.#socket.write(framed(frames), SEND_MS);
  }

  receive(ms: number): Uint8Array | null {
    for (;;) {
      const have = this.#rest;
      if (have.length >= 4) {
        const length = Buffer.from(have.buffer, have.byteOffset, 4).readUInt32BE();
        if (have.length >= 4 + length) {
          this.#rest = have.subarray(4 + length);
          return Uint8Array.from(have.subarray(4, 4 + length));
        }
      }
      const more = this.#socket.read(ms);
      if (more === null) return null;
      this.#rest = have.length === 0 ? more : Buffer.concat([have, more]);
    }
  }

  close(): void {
    this.#socket.close();
  }
}

/** A frame per datagram. */
class DatagramPeer implements NetworkPeer {
  readonly id: string;
  readonly args: readonly string[];
  readonly #socket: SyncSocket;
  readonly #to: number;

  constructor(thread: SocketThread, id: string) {
    this.id = id;
    this.#socket = thread.datagrams();
    // QEMU wants to be told its own port: one that was free a moment ago.
    const probe = thread.datagrams();
    this.#to = probe.port;
    probe.close();
    probe.until(({ closed }) => closed, 10_000, "a UDP socket does not close");
    const end = (side: string, port: number) => `${side}.type=inet,${side}.host=127.0.0.1,${side}.port=${port}`;
    this.args = ["-netdev", `dgram,id=${id},${end("local", this.#to)},${end("remote", this.#socket.port)}`];
  }

  connected(): void {}

  send(...frames: readonly Uint8Array[]): boolean {
    return frames.every((frame) => this.#socket.write(frame, SEND_MS, this.#to));
  }

  receive(ms: number): Uint8Array | null {
    return this.#socket.read(ms);
  }

  close(): void {
    this.#socket.close();
  }
}

const PAIR_CHUNK = 1 << 18;

/** Frames behind their lengths, over a socket that QEMU was born with. */
export class PairPeer implements NetworkPeer {
  readonly id: string;
  readonly args: readonly string[];
  #fd = -1;
  #unsent: Uint8Array = new Uint8Array(0);
  #rest: Buffer = Buffer.alloc(0);
  readonly #chunk = Buffer.alloc(PAIR_CHUNK);

  /** @param fd the descriptor's number in QEMU */
  constructor(id: string, fd: number) {
    this.id = id;
    this.args = ["-netdev", `socket,id=${id},fd=${fd}`];
  }

  /** Takes our end; Node reads nothing from it while nobody listens. */
  adopt(end: Readable | Writable | null | undefined): void {
    this.#fd = (end as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
  }

  connected(): void {}

  send(...frames: readonly Uint8Array[]): boolean {
    this.#unsent = Buffer.concat([this.#unsent, framed(frames)]);
    const sent = unlessBusy(() => writeSync(this.#fd, this.#unsent));
    this.#unsent = this.#unsent.subarray(sent);
    return this.#unsent.length === 0;
  }

  /** @param _ms is not waited: what a request made a card send is there when the request is answered */
  receive(_ms: number): Uint8Array | null {
    for (;;) {
      const have = this.#rest;
      const end = have.length < 4 ? 4 : 4 + have.readUInt32BE();
      if (have.length >= end && end > 4) {
        this.#rest = have.subarray(end);
        return Uint8Array.from(have.subarray(4, end));
      }
      const got = unlessBusy(() => readSync(this.#fd, this.#chunk));
      if (got === 0) return null;
      this.#rest = Buffer.concat([have, this.#chunk.subarray(0, got)]);
    }
  }

  /** Node closes the descriptor, with the process that it belongs to. */
  close(): void {}
}

/** What a call on a socket that does not block returns; 0 where it would have to. */
const unlessBusy = (run: () => number): number => {
  try {
    return run();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return 0;
    throw error;
  }
};

export const networkPeer = (
  thread: SocketThread,
  kind: Exclude<NetworkKind, "pair">,
  id: string,
  directory: string,
): NetworkPeer => (kind === "stream" ? new StreamPeer(thread, id, `${directory}/${id}`) : new DatagramPeer(thread, id));
