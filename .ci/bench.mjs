// Runs the benches: npm run bench [-- PART…] [--OPTION…] runs the bench/*.ts that a PART names, or where none has this name,
// those whose names contain it; what begins with a dash goes on to the benches. Each asserts what it promises, and one after the other has the machine for itself.
// What several benches share stands in a folder below bench/, and is not run.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";

const TOP = dirname(import.meta.dirname);
const args = process.argv.slice(2);
const parts = args.filter((arg) => !arg.startsWith("-"));
const options = args.filter((arg) => arg.startsWith("-"));
const benches = (existsSync(join(TOP, "bench")) ? readdirSync(join(TOP, "bench")) : [])
  .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts") && !name.endsWith(".d.ts"))
  .filter((name, _, all) => {
    const isMeant = (part) => name === `${part}.ts` || (!all.includes(`${part}.ts`) && name.includes(part));
    return parts.length === 0 || parts.some(isMeant);
  })
  .sort();

let failed = 0;
for (const name of benches) {
  console.log(`\n== bench/${name}`);
  const command = ["--expose-gc", "--import", "tsx", join("bench", name), ...options];
  const { status, signal } = spawnSync(process.execPath, command, { cwd: TOP, stdio: "inherit" });
  if (status !== 0) {
    failed++;
    console.log(`FAIL bench/${name}: ended with ${signal ?? status}`);
  }
}
if (benches.length === 0) {
  failed++;
  console.error(`no bench matches ${parts.join(" ") || "bench/*.ts"}`);
}
console.log(`\n${benches.length - Math.min(failed, benches.length)} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
