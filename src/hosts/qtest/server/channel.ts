import { closeSync, createReadStream, createWriteStream, openSync } from "node:fs";
import { createConnection, createServer, type Server, Socket } from "node:net";
import type { ChardevConfig } from "./command-line.js";
import { messageOf, StartupError } from "./startup-error.js";

/** Who has come, for as long as it stays. */
export interface Peer {
  send(text: string): void;
}

/** What is spoken over a channel: called for each peer, one after the other. */
export type Conversation = (peer: Peer) => {
  /** Bytes came; they are the caller's again afterwards. */
  received(chunk: Uint8Array): void;
  /** The peer left. */
  gone(): void;
};

/** How long a peer may not be there yet. */
const PATIENCE_MS = 50_000;
const RETRY_MS = 20;
/** After this a user is told whom we wait for. */
const SILENCE_MS = 2000;
/** Clients that may wait for a listening socket. */
const MOST_WAITING = 8;

const hold = (socket: Socket, conversation: Conversation): void => {
  socket.setNoDelay(true);
  let open = true;
  const { received, gone } = conversation({
    send: (text) => {
      if (open) socket.write(text, "latin1");
    },
  });
  const left = (): void => {
    if (!open) return;
    open = false;
    socket.destroy();
    gone();
  };
  socket.on("data", (chunk: Buffer) => received(chunk));
  socket.on("error", left);
  socket.on("end", left);
  socket.on("close", left);
};

const dial = (config: ChardevConfig): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const { path, host, port } = config;
    const socket = createConnection(config.backend === "unix" ? { path } : { host, port });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });

/** Who listens is there already, or will be soon. */
const connected = async (config: ChardevConfig, print: (line: string) => void): Promise<Socket> => {
  const address = config.path || `${config.host}:${config.port}`;
  for (let waited = 0; ; waited += RETRY_MS) {
    try {
      return await dial(config);
    } catch (error) {
      if (waited >= PATIENCE_MS) throw new StartupError(`chardev ${config.id}: ${address}: ${messageOf(error)}`);
      if (waited === SILENCE_MS) print(`waiting for ${address}: ${messageOf(error)}`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
};

/** One client at a time; those that come meanwhile wait until it has gone. */
const listening = (config: ChardevConfig, conversation: Conversation): Promise<Server> =>
  new Promise((resolve, reject) => {
    const waiting: Socket[] = [];
    let busy = false;
    const next = (): void => {
      const socket = waiting.shift();
      busy = socket !== undefined;
      if (socket === undefined) return;
      hold(socket, conversation);
      socket.once("close", next);
      socket.resume();
    };
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      if (waiting.length === MOST_WAITING) {
        socket.destroy();
        return;
      }
      socket.on("error", () => {}); // one that leaves before its turn
      waiting.push(socket);
      if (!busy) next();
    });
    server.once("error", (error) => reject(new StartupError(`chardev ${config.id}: ${error.message}`)));
    const { path, host, port } = config;
    if (config.backend === "unix") server.listen(path, () => resolve(server));
    else server.listen(port, host, () => resolve(server));
  });

/** QEMU's pipe: requests come in by `PATH.in`, replies go out by `PATH.out`; or both ways by PATH. */
const piped = (path: string, conversation: Conversation): void => {
  const open = (name: string): number => {
    try {
      return openSync(name, "r+"); // both ways, so that opening a FIFO does not wait for its other end
    } catch (error) {
      throw new StartupError(messageOf(error));
    }
  };
  const input = open(`${path}.in`);
  let output: number;
  try {
    output = open(`${path}.out`);
  } catch (error) {
    closeSync(input);
    throw error;
  }
  spoken(
    createReadStream("", { fd: input, highWaterMark: 1 << 16 }),
    createWriteStream("", { fd: output }),
    conversation,
  );
};

const spoken = (input: NodeJS.ReadableStream, output: NodeJS.WritableStream, conversation: Conversation): void => {
  const { received, gone } = conversation({ send: (text) => void output.write(text, "latin1") });
  input.on("data", (chunk: Buffer) => received(chunk));
  input.once("error", gone);
  input.once("end", gone);
  output.once("error", gone);
};

/**
 * Opens a character device. Resolves when its peer is there, or when it listens.
 * @param print told whom it waits for @throws StartupError
 */
export const openChannel = async (
  config: ChardevConfig,
  conversation: Conversation,
  print: (line: string) => void,
): Promise<void> => {
  switch (config.backend) {
    case "null":
      return;
    case "stdio":
      spoken(process.stdin, process.stdout, conversation);
      return;
    case "pipe":
      piped(config.path, conversation);
      return;
    case "fd":
      hold(new Socket({ fd: config.fd, readable: true, writable: true }), conversation);
      return;
    default:
      if (config.server) await listening(config, conversation);
      else hold(await connected(config, print), conversation);
  }
};
