import { createReadStream } from "node:fs";
import { mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { dirname, join } from "node:path";
import type { PageFile } from "./bundle.js";
import type { WebConfig } from "./page/config.js";

export interface ServerOptions {
  /** 0: any that is free */
  readonly port: number;
  readonly files: ReadonlyMap<string, PageFile>;
  /** files of the disk by path, such as `/image/bzimage` */
  readonly images: ReadonlyMap<string, string>;
  /** what the page is told; throws what is wrong with the query */
  readonly config: (query: URLSearchParams) => WebConfig;
  /** folder for states that the page saves; null: it may save none */
  readonly states: string | null;
}

export interface Server extends AsyncDisposable {
  readonly url: string;
}

/** A state is some 50 MB. */
const MOST_STATE = 1 << 29;
const STATE_PATH = /^\/state\/[0-9a-f]{16}$/;

/** Nothing but this server, and the relay that v86's adapter was told to use, if any. */
const policy = (net: string): string =>
  [
    "default-src 'self'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "style-src 'self' 'unsafe-inline'", // xterm.js sizes its rows by a sheet of its own
    "img-src 'self' data: blob:",
    "worker-src 'self' blob:", // v86 yields through one
    net === "peer" || net === "inbrowser" ? "connect-src 'self'" : "connect-src *",
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ].join("; ");

/** Serves the page on this machine's loopback. @throws Error of listening, such as EADDRINUSE */
export async function startServer(options: ServerOptions): Promise<Server> {
  const server = createServer((request, response) => {
    serve(options, request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500, { "content-type": "text/plain; charset=utf-8" });
      response.end(error instanceof Error ? error.message : String(error));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    url: `http://127.0.0.1:${address.port}/`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

async function serve(options: ServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = "GET", headers } = request;
  // A name that was made to lead here from elsewhere is turned away.
  if (!/^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(headers.host ?? ""))
    return refuse(response, 403, "not for you");
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
  response.setHeader("cache-control", "no-store");
  response.setHeader("x-content-type-options", "nosniff");
  // Isolated from other pages, which makes the clock finer that the guest's TSC follows.
  response.setHeader("cross-origin-opener-policy", "same-origin");
  response.setHeader("cross-origin-embedder-policy", "require-corp");
  if (STATE_PATH.test(pathname) && options.states !== null) {
    const path = join(options.states, `web-${pathname.slice("/state/".length)}.state`);
    if (method === "PUT") return keepState(path, request, response);
    if (await stat(path).catch(() => null)) return sendFile(path, request, response);
    response.writeHead(204).end(); // no state, and no mistake
    return;
  }
  if (method !== "GET" && method !== "HEAD") return refuse(response, 405, `no ${method} here`);
  if (pathname === "/config.json") {
    let config: WebConfig;
    try {
      config = options.config(searchParams);
    } catch (error) {
      return refuse(response, 400, error instanceof Error ? error.message : String(error));
    }
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(config));
    return;
  }
  const image = options.images.get(pathname);
  if (image !== undefined) return sendFile(image, request, response);
  const file = options.files.get(pathname === "/" ? "/index.html" : pathname);
  if (file === undefined) return refuse(response, 404, `no ${pathname}`);
  if (file.type.startsWith("text/html"))
    response.setHeader("content-security-policy", policy(options.config(new URLSearchParams()).net));
  response.writeHead(200, { "content-type": file.type, "content-length": file.bytes.length });
  response.end(method === "HEAD" ? undefined : file.bytes);
}

function refuse(response: ServerResponse, status: number, why: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(why);
}

/** A file or, as v86 reads disks, a range of it. */
async function sendFile(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const info = await stat(path).catch(() => null);
  if (info === null || !info.isFile()) return refuse(response, 404, "not there");
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = range === null ? 0 : Number(range[1]);
  const end = range === null || range[2] === "" ? info.size - 1 : Math.min(Number(range[2]), info.size - 1);
  if (start > end && info.size > 0) return refuse(response, 416, "no such range");
  response.writeHead(range === null ? 200 : 206, {
    "content-type": "application/octet-stream",
    "content-length": end - start + 1,
    "accept-ranges": "bytes",
    ...(range === null ? {} : { "content-range": `bytes ${start}-${end}/${info.size}` }),
  });
  if (request.method === "HEAD" || info.size === 0) {
    response.end();
    return;
  }
  await new Promise<void>((resolve) => {
    const stream = createReadStream(path, { start, end });
    response.on("close", () => {
      stream.destroy();
      resolve();
    });
    stream.on("error", () => response.destroy());
    stream.pipe(response);
  });
}

/** Puts a state where the next page finds it; older ones go. */
async function keepState(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MOST_STATE) return refuse(response, 413, "too large for a state");
    chunks.push(chunk);
  }
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  for (const name of await readdir(folder)) if (/^web-.*\.state$/.test(name)) await rm(join(folder, name));
  await writeFile(`${path}.part`, Buffer.concat(chunks));
  await rename(`${path}.part`, path);
  response.writeHead(204).end();
}
