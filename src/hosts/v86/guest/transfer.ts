import { createHash } from "node:crypto";
import { createServer, type Server } from "node:net";
import { Prng } from "../../../net/index.js";
import type { Interview } from "./interview.js";
import type { TcpService } from "./tcp-peer.js";

/** Where the guest's transfers go; the numbers are iperf's and the next one. */
const SINK_PORT = 5001;
const SOURCE_PORT = 5002;
/** bytes of the file that a guest sends again and again; it is drawn once, by the guest */
const BLOCK = 1 << 20;
/** bytes that repeat in what the host sends; no power of two, so that pieces which change places are noticed */
const PATTERN = 1_000_003;

/** What serves the guest's connections: a `TcpPeer`, or `LoopbackServices` behind passt. */
export interface TcpHost {
  /** the guest is to end a connection when it has all bytes, the host does not */
  readonly guestEnds?: boolean;
  listen(port: number, serve: () => TcpService): void;
}

export interface TransferResult {
  readonly direction: "to-guest" | "to-host";
  readonly bytes: number;
  readonly seconds: number;
  /** both ends have all bytes, and the same ones */
  readonly ok: boolean;
  /** what was wrong, or MB/s */
  readonly detail: string;
}

let pattern: Uint8Array | null = null;

/** The bytes that the host sends, as often as they are wanted. */
const fillPattern = (target: Uint8Array, start: number, length: number, position: number): void => {
  if (pattern === null) {
    const random = new Prng(86);
    pattern = Uint8Array.from({ length: PATTERN }, () => random.next() >>> 24);
  }
  for (let done = 0; done < length; ) {
    const from = (position + done) % PATTERN;
    const piece = Math.min(length - done, PATTERN - from);
    target.set(pattern.subarray(from, from + piece), start + done);
    done += piece;
  }
};

/** Moves bytes over TCP between a guest and its peer and compares MD5 digests, which busybox has. */
export class Transfers {
  /** bytes that the current transfer has moved on the host's side */
  moved = 0;
  readonly #host: TcpHost;
  #size = 0;
  #hash = createHash("md5");
  #arrived: (() => void) | null = null;

  constructor(host: TcpHost) {
    this.#host = host;
    host.listen(SINK_PORT, () => ({
      received: (bytes, start, length) => {
        this.moved += length;
        this.#hash.update(bytes.subarray(start, start + length));
      },
      closed: () => this.#arrived?.(),
    }));
    host.listen(SOURCE_PORT, () => ({
      size: this.#size,
      fill: (target, start, length, position) => {
        this.moved = Math.max(this.moved, position + length);
        fillPattern(target, start, length, position);
      },
    }));
  }

  /** Host to guest. @param address the host's, as the guest sees it; @param before shell that the guest runs first */
  async toGuest(guest: Interview, address: string, size: number, before = ""): Promise<TransferResult> {
    return (await Transfers.allToGuest(guest, [{ transfers: this, address }], size, before))[0]!;
  }

  /** Host to guest from several hosts at the same time. */
  static async allToGuest(
    guest: Interview,
    hosts: readonly { readonly transfers: Transfers; readonly address: string }[],
    size: number,
    before = "",
  ): Promise<TransferResult[]> {
    for (const { transfers } of hosts) {
      transfers.moved = 0;
      transfers.#size = size;
    }
    const expected = createHash("md5");
    const piece = new Uint8Array(Math.min(size, PATTERN));
    for (let at = 0; at < size; at += piece.length) {
      const length = Math.min(piece.length, size - at);
      fillPattern(piece, 0, length, at);
      expected.update(piece.subarray(0, length));
    }
    const digest = expected.digest("hex");
    const started = performance.now();
    const read = (host: TcpHost): string =>
      host.guestEnds === true ? `dd bs=64k count=${size >> 16} iflag=fullblock 2>/dev/null | md5sum` : "md5sum";
    const jobs = hosts.map(
      ({ address, transfers }, i) => `nc ${address} ${SOURCE_PORT} -e sh -c '${read(transfers.#host)} >/tmp/sum${i}' &`,
    );
    const sums = await guest.lines(`rm -f /tmp/sum*; ${before}${jobs.join(" ")} wait; cut -c1-32 /tmp/sum*`);
    return hosts.map(({ transfers }, i) => transfers.#judge("to-guest", size, started, digest, sums[i] ?? ""));
  }

  /** Sends to a guest that listens in the background and throws it away, so that something is under way. */
  async flood(guest: Interview, address: string, size: number): Promise<void> {
    this.moved = 0;
    this.#size = size;
    await guest.run(`nc ${address} ${SOURCE_PORT} -e sh -c 'cat >/dev/null' >/dev/null 2>&1 &`);
  }

  /** Guest to host. @param size a multiple of 1 MiB */
  async toHost(guest: Interview, address: string, size: number): Promise<TransferResult> {
    const send = `i=0; while [ $i -lt ${size / BLOCK} ]; do cat /tmp/block; i=$((i+1)); done`;
    await guest.run(`[ -s /tmp/block ] || dd if=/dev/urandom of=/tmp/block bs=64k count=${BLOCK >> 16} 2>/dev/null`);
    const sum = await guest.line(`(${send}) | md5sum | cut -c1-32`);
    this.moved = 0;
    this.#hash = createHash("md5");
    const arrived = new Promise<void>((resolve) => {
      this.#arrived = resolve;
    });
    const started = performance.now();
    const { status, output } = await guest.run(`nc ${address} ${SINK_PORT} -e sh -c '${send}'`);
    // nc may be through before the last bytes are here; when it could not connect they never come.
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, status === 0 ? 20_000 : 0);
    });
    await Promise.race([arrived, patience]);
    clearTimeout(timer);
    if (status !== 0 && this.moved === 0)
      return { direction: "to-host", bytes: 0, seconds: 0, ok: false, detail: output.trim() };
    return this.#judge("to-host", size, started, sum, this.#hash.digest("hex"));
  }

  #judge(
    direction: TransferResult["direction"],
    bytes: number,
    started: number,
    sent: string,
    got: string,
  ): TransferResult {
    const seconds = (performance.now() - started) / 1000;
    const ok = sent === got && this.moved === bytes;
    const rate = `${(bytes / 1e6 / seconds).toFixed(1)} MB/s`;
    const detail = ok ? rate : `${this.moved} of ${bytes} bytes, MD5 ${got || "none"}, expected ${sent}`;
    return { direction, bytes, seconds, ok, detail };
  }
}

/** The same services on this machine's loopback interface, where passt leads a guest's connections. */
export class LoopbackServices implements TcpHost, Disposable {
  /** The sockets below close after the guest's. Whether passt of 2023 bears it the other way round is not settled. */
  readonly guestEnds = true;
  readonly #servers: Server[] = [];

  listen(port: number, serve: () => TcpService): void {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const service = serve();
      const size = service.size ?? 0;
      let position = 0;
      const send = (): void => {
        while (position < size) {
          const chunk = new Uint8Array(Math.min(0x1_0000, size - position));
          service.fill?.(chunk, 0, chunk.length, position);
          position += chunk.length;
          if (!socket.write(chunk)) return void socket.once("drain", send);
        }
      };
      socket.on("data", (b: Buffer) =>
        service.received?.(new Uint8Array(b.buffer, b.byteOffset, b.length), 0, b.length),
      );
      socket.on("end", () => socket.end());
      socket.on("error", () => {}); // "close" follows
      socket.on("close", (hadError) => service.closed?.(!hadError));
      send();
    });
    server.listen(port, "127.0.0.1");
    this.#servers.push(server);
  }

  [Symbol.dispose](): void {
    for (const server of this.#servers) server.close();
  }
}
