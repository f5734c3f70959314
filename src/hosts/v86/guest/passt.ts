import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ETHER_HDR_LEN, ETHER_MIN_LEN, ETHERTYPE_IP, etherType } from "../../../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../../../contract/index.js";

/** A program that is not on this machine, or may not run. */
export class MissingTool extends Error {
  override readonly name = "MissingTool";
}

/** passt, waiting for its one connection; dispose of it to end it. */
export interface Passt extends Disposable {
  /** of its Unix socket */
  readonly path: string;
}

/**
 * Starts passt, which gives a guest this machine's own TCP and UDP services as those of its gateway.
 * @throws MissingTool where there is none, or it does not come up
 */
export async function startPasst({ guest, gateway }: { guest: string; gateway: string }): Promise<Passt> {
  const folder = mkdtempSync(join(tmpdir(), "barwire-passt-"));
  const path = join(folder, "socket");
  const words = ["-f", "-e", "-s", path, "-a", guest, "-n", "24", "-g", gateway];
  if (process.getuid?.() === 0) words.push("--runas", "0"); // it would become nobody, who may not open the socket
  const child: ChildProcess = spawn("passt", words, { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  let ended: string | null = null;
  child.stderr?.on("data", (text: Buffer) => {
    log = `${log}${text}`.slice(-4000);
  });
  child.on("error", (error) => {
    ended = error.message.includes("ENOENT") ? "not found (Debian: apt-get install passt)" : error.message;
  });
  child.on("exit", (status) => {
    ended ??= `ended with status ${status}: ${log.trim().split("\n").slice(-2).join("; ")}`;
  });
  const dispose = (): void => {
    child.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  for (let waited = 0; !existsSync(path); waited += 20) {
    if (ended === null && waited > 5000) ended = "made no socket in 5 s";
    if (ended !== null) {
      dispose();
      throw new MissingTool(`passt: ${ended}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return { path, [Symbol.dispose]: dispose };
}

/**
 * Takes the padding of short IPv4 packets off on the way to a port.
 * Observed: passt of 2023-03 takes it for TCP data and resets the connection; RealTek cards pad, virtio does not.
 */
export class Unpadded implements NetPort {
  readonly #port: NetPort;

  constructor(port: NetPort) {
    this.#port = port;
  }
  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    let kept = length;
    if (length === ETHER_MIN_LEN && etherType(bytes, start) === ETHERTYPE_IP)
      kept = Math.min(length, ETHER_HDR_LEN + ((bytes[start + 16]! << 8) | bytes[start + 17]!));
    return this.#port.offer(bytes, start, kept, offload, queueHint);
  }
  endBatch(): void {
    this.#port.endBatch();
  }
  ready(queueHint: number): void {
    this.#port.ready(queueHint);
  }
  accepts(): EndpointLimits {
    return this.#port.accepts();
  }
  attach(far: NetEndpoint | null): void {
    this.#port.attach(far);
  }
}
