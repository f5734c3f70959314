import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import { QtestError } from "./client-error.js";
import { LineCutter, type Lines } from "./client-lines.js";

/**
 * Sockets used synchronously: another thread has them, what arrives is fetched from its port without the event loop, and
 * a wait is `Atomics.wait` on a count of messages. A round trip takes about 160 µs; for QEMU's own streams FIFOs are better.
 */
const SOURCE = `
const { workerData } = require("node:worker_threads");
const net = require("node:net");
const dgram = require("node:dgram");
const { port, shared } = workerData;
const count = new Int32Array(shared);
const tell = (message) => { port.postMessage(message); Atomics.add(count, 0, 1); Atomics.notify(count, 0); };
const ends = new Map();
const stream = (id, socket) => {
  socket.on("data", (bytes) => tell({ id, bytes }));
  socket.on("error", (error) => tell({ id, error: error.message }));
  socket.on("close", () => tell({ id, closed: true }));
  ends.set(id, {
    write: (bytes) => socket.write(bytes, (error) => { if (!error) tell({ id, written: true }); }),
    close: () => socket.destroy(),
  });
  tell({ id, open: true });
};
const DO = {
  listen: ({ id, path }) => {
    const server = net.createServer((socket) => { server.close(); stream(id, socket); });
    ends.set(id, { write: () => {}, close: () => server.close() });
    server.on("error", (error) => tell({ id, error: error.message }));
    server.listen(path, () => tell({ id, listening: true }));
  },
  connect: ({ id, path, host, remote }) => {
    const socket = path === undefined ? net.connect(remote, host) : net.connect(path);
    const failed = (error) => tell({ id, error: error.message });
    socket.once("error", failed);
    socket.once("connect", () => { socket.off("error", failed); socket.setNoDelay?.(true); stream(id, socket); });
  },
  datagrams: ({ id, remote }) => {
    const socket = dgram.createSocket("udp4");
    socket.on("error", (error) => tell({ id, error: error.message }));
    socket.on("message", (bytes) => tell({ id, bytes }));
    socket.bind(0, "127.0.0.1", () => tell({ id, port: socket.address().port, open: true }));
    ends.set(id, {
      write: (bytes, to) => socket.send(bytes, to, "127.0.0.1", () => tell({ id, written: true })),
      close: () => socket.close(() => tell({ id, closed: true })),
    });
  },
  write: ({ id, bytes, to }) => ends.get(id).write(bytes, to),
  close: ({ id }) => ends.get(id)?.close(),
};
port.on("message", (message) => DO[message.do](message));
`;

interface Told {
  readonly id: number;
  readonly bytes?: Uint8Array;
  readonly open?: true;
  readonly listening?: true;
  readonly written?: true;
  readonly closed?: true;
  readonly error?: string;
  readonly port?: number;
}

const now = (): number => performance.now();

/** What QEMU's `-qtest` writes before an address. */
const SCHEME = /^(unix|tcp):/;

/** @throws QtestError `qemu-start` for what is no address: the thread with the sockets would end of it */
const placeOf = (address: string): { path: string } | { host: string; remote: number } => {
  const [, scheme, rest = ""] = /^(?:(unix|tcp):)?(.*)$/s.exec(address ?? "") ?? [];
  const tcp = scheme === "unix" ? null : /^([^/]*):(\d+)$/.exec(rest);
  const remote = Number(tcp?.[2] ?? 0);
  if (tcp === null ? rest === "" || scheme === "tcp" : remote === 0 || remote > 0xffff)
    throw new QtestError("qemu-start", `"${address}": expected PATH or HOST:PORT of a socket that listens`);
  return tcp === null ? { path: rest } : { host: tcp[1] || "127.0.0.1", remote };
};

/** A thread with sockets. It does not keep Node alive. */
class SocketThread {
  readonly #port: MessagePort;
  readonly #count = new Int32Array(new SharedArrayBuffer(4));
  readonly #sockets = new Map<number, SyncSocket>();
  #ids = 0;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const worker = new Worker(SOURCE, {
      eval: true,
      workerData: { port: port2, shared: this.#count.buffer },
      transferList: [port2],
    });
    worker.unref();
    port1.unref();
  }

  /** Listens on a Unix socket for one peer; returns when it listens. */
  listen(path: string): SyncSocket {
    const socket = this.#socket({ do: "listen", path });
    socket.until((s) => s.listening, 10_000, `nobody listens on ${path}`);
    return socket;
  }

  /** Connects to a Unix socket, `PATH`, or to `HOST:PORT`. @throws QtestError `qemu-start` when nobody listens */
  connect(address: string): SyncSocket {
    const socket = this.#socket({ do: "connect", ...placeOf(address) });
    socket.until((s) => s.open, 10_000, `${address.replace(SCHEME, "")}: no connection`);
    return socket;
  }

  /** A UDP socket on 127.0.0.1. */
  datagrams(): SyncSocket {
    const socket = this.#socket({ do: "datagrams" });
    socket.until((s) => s.open, 10_000, "no UDP socket");
    return socket;
  }

  post(message: { readonly [key: string]: unknown }): void {
    this.#port.postMessage(message);
  }

  /** Hands out what has come. Waits up to `ms` for something when nothing has. @returns whether something has */
  work(ms: number): boolean {
    const seen = Atomics.load(this.#count, 0);
    if (this.#drain()) return true;
    if (ms <= 0) return false;
    Atomics.wait(this.#count, 0, seen, ms);
    return this.#drain();
  }

  #socket(message: { readonly [key: string]: unknown }): SyncSocket {
    const id = this.#ids++;
    const socket = new SyncSocket(this, id);
    this.#sockets.set(id, socket);
    this.post({ ...message, id });
    return socket;
  }

  #drain(): boolean {
    let some = false;
    for (let got = receiveMessageOnPort(this.#port); got !== undefined; got = receiveMessageOnPort(this.#port)) {
      const told = got.message as Told;
      this.#sockets.get(told.id)?.told(told);
      if (told.closed === true) this.#sockets.delete(told.id);
      some = true;
    }
    return some;
  }
}

export type { SocketThread };

let thread: SocketThread | null = null;
/** The thread that has all sockets: starting one costs more than a QEMU does. */
export const socketThread = (): SocketThread => {
  thread ??= new SocketThread();
  return thread;
};

/** A socket of a `SocketThread`. */
export class SyncSocket {
  open = false;
  listening = false;
  closed = false;
  error: string | null = null;
  /** of a UDP socket */
  port = 0;
  /** writes that the kernel has not taken yet */
  underWay = 0;
  readonly #thread: SocketThread;
  readonly #id: number;
  #pieces: Uint8Array[] = [];

  constructor(thread: SocketThread, id: number) {
    this.#thread = thread;
    this.#id = id;
  }

  told({ bytes, open, listening, written, closed, error, port }: Told): void {
    if (bytes !== undefined) this.#pieces.push(bytes);
    if (port !== undefined) this.port = port;
    if (written === true) this.underWay--;
    if (open === true) this.open = true;
    if (listening === true) this.listening = true;
    if (closed === true) this.closed = true;
    if (error !== undefined) this.error = error;
  }

  /** Waits until `done`. @throws QtestError `qemu-start` when that does not happen within `ms` */
  until(done: (socket: SyncSocket) => boolean, ms: number, else_: string): void {
    for (const end = now() + ms; !done(this); ) {
      if (this.error !== null) throw new QtestError("qemu-start", `${else_}: ${this.error}`);
      if (now() >= end) throw new QtestError("qemu-start", else_);
      this.#thread.work(end - now());
    }
  }

  /** What has come, piece by piece (of UDP: datagram by datagram); waits up to `ms` for it. */
  read(ms: number): Uint8Array | null {
    for (const end = now() + ms; this.#pieces.length === 0 && !this.closed; )
      if (!this.#thread.work(end - now()) && now() >= end) return null;
    return this.#pieces.shift() ?? null;
  }

  /** Sends. @param to port, of UDP; @returns whether the kernel took it within `ms`; else it is still on its way */
  write(bytes: Uint8Array, ms: number, to?: number): boolean {
    this.underWay++;
    this.#thread.post({ do: "write", id: this.#id, bytes, to });
    return this.written(ms);
  }

  /** Waits until the kernel has taken everything. */
  written(ms: number): boolean {
    for (const end = now() + ms; this.underWay > 0 && !this.closed; )
      if (!this.#thread.work(end - now()) && now() >= end) return false;
    return true;
  }

  close(): void {
    this.#thread.post({ do: "close", id: this.#id });
  }
}

/** Lines over a socket of a QEMU that somebody else has started. */
export class SocketLines implements Lines {
  readonly #socket: SyncSocket;
  readonly #cutter = new LineCutter();
  readonly #ms: number;

  /** @param address `PATH` of a Unix socket, or `HOST:PORT`; @param seconds longest wait for a line */
  constructor(address: string, seconds: number) {
    this.#ms = 1000 * seconds;
    this.#socket = socketThread().connect(address);
  }

  write(text: string): void {
    this.#socket.write(Buffer.from(text, "latin1"), 0);
  }

  read(): string {
    for (;;) {
      const line = this.#cutter.take();
      if (line !== undefined) return line;
      const bytes = this.#socket.read(this.#ms);
      if (bytes !== null)
        this.#cutter.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1"));
      else if (this.#socket.closed) throw new QtestError("qemu-gone", "QEMU has ended");
      else throw new QtestError("timeout", `QEMU did not answer within ${this.#ms / 1000} s`);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
