// The package as an embedder gets it: packed, unpacked in an empty folder, and then every entry imported, every
// declaration checked without skipLibCheck, and the command started. v86, an optional peer, is absent while entries load.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const TOP = dirname(import.meta.dirname);
const pkg = JSON.parse(readFileSync(join(TOP, "package.json"), "utf8"));
const there = mkdtempSync(join(tmpdir(), "barwire-imports-"));
const installed = join(there, "node_modules", pkg.name);
process.on("exit", () => rmSync(there, { recursive: true, force: true }));

const run = (cwd, command, ...args) =>
  execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
const node = (...args) => run(there, process.execPath, ...args);
const borrow = (name) =>
  cpSync(join(TOP, "node_modules", name), join(there, "node_modules", name), { recursive: true });

run(TOP, process.execPath, join(TOP, ".ci/build.mjs"));
const [{ filename }] = JSON.parse(run(TOP, "npm", "pack", "--json", "--ignore-scripts", "--pack-destination", there));
mkdirSync(installed, { recursive: true });
run(there, "tar", "-xzf", filename, "-C", installed, "--strip-components=1");
for (const name of Object.keys(pkg.dependencies)) borrow(name);

const packed = readdirSync(installed, { recursive: true });
const tests = packed.filter((name) => name.includes(".test."));
assert.deepEqual(tests, [], "tests in the package");

const cards = readdirSync(join(TOP, "devices"), { withFileTypes: true }).filter((entry) => entry.isDirectory());
const entries = Object.keys(pkg.exports)
  .filter((key) => key !== "./package.json")
  .flatMap((key) => (key.includes("*") ? cards.map((card) => key.replace("*", card.name)) : [key]))
  .map((key) => pkg.name + key.slice(1));

writeFileSync(join(there, "package.json"), '{ "type": "module" }');
for (const entry of entries) {
  const names = node("--input-type=module", "-e", `console.log(...Object.keys(await import("${entry}")))`).trim();
  assert.notEqual(names, "", `${entry} exports nothing`);
  console.log(`${entry}: ${names.split(" ").length} names`);
}

for (const name of ["v86", "@types/node", "undici-types"]) borrow(name); // for their types
const compilerOptions = {
  target: "es2023",
  lib: ["es2023", "esnext.disposable", "dom"],
  module: "nodenext",
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: false,
  noEmit: true,
};
/** Only who enters through `./node` or `./qtest` needs Node's own types. */
const checkTypes = (name, types, wanted) => {
  const lines = wanted.map((entry, i) => `export * as e${i} from "${entry}";\n`);
  writeFileSync(join(there, `${name}.ts`), lines.join(""));
  const config = { compilerOptions: { ...compilerOptions, types }, files: [`${name}.ts`] };
  writeFileSync(join(there, `tsconfig.${name}.json`), JSON.stringify(config));
  try {
    run(there, process.execPath, join(TOP, "node_modules/typescript/bin/tsc"), "-p", `tsconfig.${name}.json`);
  } catch (error) {
    console.log(error.stdout);
    throw new Error(`the type check of an embedder (${name}) fails`);
  }
};
const ofNode = (entry) => [`${pkg.name}/node`, `${pkg.name}/qtest`].includes(entry);
checkTypes(
  "browser",
  [],
  entries.filter((entry) => !ofNode(entry)),
);
checkTypes("node", ["node"], entries.filter(ofNode));

for (const bin of Object.values(pkg.bin)) run(there, join(installed, bin), "--help");
console.log("declarations and command: fine");
