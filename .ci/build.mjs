// Builds dist: tsc, and then the run bit on the package's command, which tsc does not set.
// dist is emptied first, so that a file taken out of src does not stay in the package.
import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const top = dirname(import.meta.dirname);
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");

rmSync(join(top, "dist"), { recursive: true, force: true });
const { status } = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json"], { cwd: top, stdio: "inherit" });
if (status !== 0) process.exit(status ?? 1);
for (const bin of Object.values(JSON.parse(readFileSync(join(top, "package.json"), "utf8")).bin))
  chmodSync(join(top, bin), 0o755);
