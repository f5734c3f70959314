import { createHash } from "node:crypto";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { V86_RELEASE } from "../index.js";
import { bootGuest, CMDLINE, GuestError } from "./boot.js";
import { IMAGES, showProgress } from "./terminal.js";

/** What every copy of the guest has done already. */
const PREPARE =
  "load 8021q; dd if=/dev/urandom of=/tmp/block bs=64k count=16 2>/dev/null; md5sum /tmp/block; nc 127.0.0.1 1";

/**
 * A guest that has its drivers loaded and no card yet, out of `.cache/guest` where it was saved before.
 * @param boot boots it anyway @throws GuestError
 */
export async function readyState(boot = false): Promise<ArrayBuffer> {
  const stamp = await readFile(join(IMAGES, "stamp"), "utf8");
  const key = createHash("sha256").update(`${stamp} ${V86_RELEASE} ${CMDLINE} ${PREPARE}`).digest("hex").slice(0, 16);
  const path = join(IMAGES, `ready-${key}.state`);
  if (!boot) {
    const saved = await readFile(path).catch(() => null);
    if (saved !== null) return new Uint8Array(saved).buffer;
  }
  const started = performance.now();
  const done = showProgress("booting the guest");
  try {
    await using guest = await bootGuest({ images: IMAGES, timeoutMs: 300_000 });
    if (guest.failedModules > 0) throw new GuestError("stopped", `${guest.failedModules} modules did not load`);
    await guest.command(PREPARE, { timeoutMs: 120_000 });
    const state = await guest.saveState();
    for (const name of await readdir(IMAGES)) if (/^ready-.*\.state$/.test(name)) await rm(join(IMAGES, name)); // outdated
    await writeFile(path, new Uint8Array(state));
    done();
    process.stdout.write(`booted in ${((performance.now() - started) / 1000).toFixed(1)} s\n`);
    return state;
  } finally {
    done();
  }
}
