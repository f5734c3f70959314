import type { SocketThread, SyncSocket } from "./client-sockets.js";

/** How QEMU's end of a cable is made: `-netdev stream` over a Unix socket, or `-netdev dgram` over UDP on this machine. */
export type NetworkKind = "stream" | "dgram";

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
}

/** Frames behind their lengths, 32 bits big-endian. */
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
    const parts = frames.flatMap((frame) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      return [length, frame];
    });
    return this.#socket.write(Buffer.concat(parts), SEND_MS);
  }

  receive(ms: number): Uint8Array | null {
    for (;;) {
      const have = this.#rest;
      if (have.length >= 4) {
        const length = Buffer.from(have.buffer, have.byteOffset, 4).readUInt32BE();
        if (have.length >= 4 + length) {
          this.#rest = have.subarray(4 + length);
          return have.slice(4, 4 + length);
        }
      }
      const more = this.#socket.read(ms);
      if (more === null) return null;
      this.#rest = have.length === 0 ? more : Buffer.concat([have, more]);
    }
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
}

export const networkPeer = (thread: SocketThread, kind: NetworkKind, id: string, directory: string): NetworkPeer =>
  kind === "stream" ? new StreamPeer(thread, id, `${directory}/${id}`) : new DatagramPeer(thread, id);
