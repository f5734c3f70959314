import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

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
