import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Where the guest is kept between runs. */
export const IMAGES = fileURLToPath(new URL("../../../../.cache/guest", import.meta.url));

/** Counts seconds on a terminal; elsewhere says nothing. @returns what ends it */
export function showProgress(what: string, more: () => string = () => ""): () => void {
  if (!process.stderr.isTTY) return () => {};
  const started = performance.now();
  const timer = setInterval(() => {
    process.stderr.write(`\r\x1b[K${what}: ${Math.round((performance.now() - started) / 1000)} s ${more()}`);
  }, 500);
  return () => {
    clearInterval(timer);
    process.stderr.write("\r\x1b[K");
  };
}

/** Builds the guest where it is absent or old. @returns exit status of build.sh: 0, 1, or 2 where something is missing */
export function buildGuest(): Promise<number> {
  const script = fileURLToPath(new URL("build.sh", import.meta.url));
  return new Promise((resolve) => {
    const child = spawn("bash", [script, IMAGES], { stdio: ["ignore", "ignore", "inherit"] });
    child.on("error", () => {
      process.stderr.write("guest: building the guest needs bash\n");
      resolve(2);
    });
    child.on("close", (status) => resolve(status ?? 1));
  });
}
