// Breaks a room in many places, one at a time, and says which of them its tests notice: npm run mutate -- --room ROOM
//
// Nothing is changed in this tree: two copies of it in a temporary folder are broken by turns, each with its own process
// that runs the room's tests until one fails. The types are stripped once, from all of a copy, so that a process begins
// within a tenth of a second, and a mutant may be anything that runs. Which test comes to which place is measured first: a test
// that does not execute what is broken cannot notice.
import { fork } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, posix, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { mutantsOf, OPERATORS, withoutTypes } from "./mutants.mjs";

const TOP = dirname(import.meta.dirname);
const LANES = 2;
const COUNT = 60;
/** Share of the mutants that must be caught. */
const ENOUGH = 0.9;
/** A file may take this many times what it took unbroken, and these seconds on top; then it hangs, which is caught. */
const PATIENCE = 5;
const GRACE_MS = 5000;
const LEFT_OUT = ["node_modules", ".git", "dist", "coverage"];

const USAGE = `usage: npm run mutate -- --room ROOM [--count N] [--seed S] [--json]

Breaks ROOM (virtio, pci, devices/virtio-net, …) in N places (${COUNT}), one at a time, and runs its tests, those beside its
source and those in fixtures/ that import it, until one fails: first the broken file's own, then those that noticed most for
the time that they take. Two mutants are judged at a time. Places are drawn by seed S (1), the same number for each operator where
there are as many:
${Object.entries(OPERATORS)
  .map(([name, what]) => `  ${name.padEnd(18)}${what}`)
  .join("\n")}
Left out: types, imports, texts, what a throw says, versions of saved states, tests and their helpers.

Exit status: 0 when at least ${100 * ENOUGH} % were caught, 1 when fewer were or the tests fail unbroken, 2 for wrong usage.`;

/** A mistake on the command line. */
class UsageError extends Error {}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        room: { type: "string" },
        count: { type: "string", default: String(COUNT) },
        seed: { type: "string", default: "1" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      return null;
    }
    if (values.room === undefined) throw new UsageError("--room ROOM is missing");
    const number = (name, least) => {
      const value = /^\d+$/.test(values[name]) ? Number(values[name]) : Number.NaN;
      if (!(value >= least && value <= 0xffff_ffff))
        throw new UsageError(`--${name} ${values[name]}: expected a number`);
      return value;
    };
    return { folder: folderOf(values.room), count: number("count", 1), seed: number("seed", 0), json: values.json };
  } catch (error) {
    if (!(error instanceof UsageError) && !(error instanceof TypeError)) throw error;
    console.error(`mutate: ${error.message.split("\n")[0]}; see --help`);
    process.exitCode = 2;
    return null;
  }
}

function folderOf(room) {
  const folder = [room, `src/${room}`]
    .map((path) => path.replace(/\/+$/, ""))
    .find((path) => /^(src|devices)\/./.test(path) && existsSync(join(TOP, path)));
  if (folder === undefined || folder.includes("..")) throw new UsageError(`no room "${room}" under src or devices`);
  return folder;
}

async function main({ folder, count, seed, json }) {
  const say = (text) => {
    if (!json) console.log(text);
  };
  const tests = testsOf(folder);
  if (tests.length === 0) {
    console.error(`mutate: ${folder} has no tests`);
    return 1;
  }
  const { mutants, places } = draw(folder, count, seed);
  if (mutants.length === 0) {
    console.error(`mutate: nothing in ${folder} can be broken`);
    return 1;
  }
  const began = performance.now();
  const work = mkdtempSync(join(tmpdir(), "barwire-mutate-"));
  const lanes = [];
  const clean = () => {
    for (const lane of lanes) lane.stop();
    rmSync(work, { recursive: true, force: true });
  };
  const interrupted = () => {
    clean();
    process.exit(130);
  };
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    for (let i = 0; i < LANES; i++) lanes.push(new Lane(join(work, String(i))));
    say(`${folder}: ${mutants.length} of ${places} places, seed ${seed}; ${tests.length} test files`);
    const unbroken = new Map(); // by test: how long it takes, and where it comes
    const unmeasured = tests.slice();
    await Promise.all(
      lanes.map(async (lane) => {
        for (let test = unmeasured.shift(); test !== undefined; test = unmeasured.shift())
          unbroken.set(test, await lane.measure(test));
      }),
    );
    const red = [...unbroken].filter(([, { result }]) => result.failed > 0);
    if (red.length > 0) {
      for (const [test, { result }] of red)
        console.error(`mutate: ${test} fails unbroken\n${result.errors.join("\n")}`);
      return 1;
    }
    const catches = new Map();
    const waiting = mutants.slice();
    let done = 0;
    await Promise.all(
      lanes.map(async (lane) => {
        for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
          const able = likeliest(mutant, unbroken, catches);
          mutant.reached = able.length > 0;
          mutant.by = await lane.judge(mutant, able);
          if (mutant.by !== null) catches.set(mutant.by.test, (catches.get(mutant.by.test) ?? 0) + 1);
          progress(++done, mutants.length);
        }
      }),
    );
    return report({ folder, seed, places, mutants, json, seconds: (performance.now() - began) / 1000 });
  } finally {
    clean();
  }
}

// -------------------------------------------------------------------------------------------------- what is broken

/** Draws from each operator in turn, so that the frequent ones do not push the others out. */
function draw(folder, count, seed) {
  const byOperator = new Map(Object.keys(OPERATORS).map((operator) => [operator, []]));
  let places = 0;
  for (const file of sourcesOf(folder)) {
    const { code, mutants } = mutantsOf(readFileSync(join(TOP, file), "utf8"), file);
    places += mutants.length;
    for (const mutant of mutants) byOperator.get(mutant.operator).push({ file, code, ...mutant });
  }
  const random = generator(seed);
  for (const list of byOperator.values()) shuffle(list, random);
  const mutants = [];
  while (mutants.length < Math.min(count, places))
    for (const list of byOperator.values()) if (list.length > 0 && mutants.length < count) mutants.push(list.pop());
  return { mutants, places };
}

function sourcesOf(folder) {
  return readdirSync(join(TOP, folder), { recursive: true })
    .map((name) => posix.join(folder, name))
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts") && !name.endsWith(".d.ts"))
    .filter((name) => !/(^|[/-])testing(\.ts|\/)/.test(name))
    .sort();
}

/** xorshift32: the same places for the same seed on every machine. */
function generator(seed) {
  let x = (Math.imul(seed, 0x9e37_79b9) ^ 0x2545_f491) >>> 0 || 1;
  return (limit) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return Math.floor((x / 2 ** 32) * limit);
  };
}

function shuffle(list, random) {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
}

// -------------------------------------------------------------------------------------------------- what must notice

/** The room's own tests, then those in fixtures that import it, themselves or through other files in fixtures. */
function testsOf(folder) {
  const own = readdirSync(join(TOP, folder), { recursive: true })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => posix.join(folder, name));
  const fixtures = readdirSync(join(TOP, "fixtures"), { recursive: true })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => posix.join("fixtures", name))
    .filter((name) => reaches(name, folder, new Set()));
  return [...own.sort(), ...fixtures.sort()];
}

function reaches(file, folder, seen) {
  if (seen.has(file) || !existsSync(join(TOP, file))) return false;
  seen.add(file);
  const specifiers = [...readFileSync(join(TOP, file), "utf8").matchAll(/\bfrom\s+"(\.[^"]+)"/g)].map((match) =>
    posix.join(posix.dirname(file), match[1]).replace(/\.js$/, ".ts"),
  );
  return specifiers.some(
    (path) => path.startsWith(`${folder}/`) || (path.startsWith("fixtures/") && reaches(path, folder, seen)),
  );
}

/**
 * Tests that execute what is broken, in the order in which they are likeliest to notice soon: the file's own, then those that
 * caught most for their time.
 * @returns [test, ms that it may take]
 */
function likeliest({ file, start }, unbroken, catches) {
  const stem = file.replace(/\.ts$/, "");
  const isOwn = (test) => test.startsWith(`${stem}.`) || test.startsWith(`${stem}-`);
  const cost = ([test, { ms }]) => (isOwn(test) ? 0 : ms / (1 + (catches.get(test) ?? 0)));
  return [...unbroken]
    .filter(([, { comes }]) => comes(file, start))
    .sort((a, b) => cost(a) - cost(b))
    .map(([test, { ms }]) => [test, PATIENCE * ms + GRACE_MS]);
}

const scriptOf = (file) => file.replace(/\.ts$/, ".js");

/** A copy of the tree without types, and a process that runs tests in it. */
class Lane {
  #top;
  #worker = null;

  constructor(top) {
    this.#top = top;
    const wanted = (path) => !LEFT_OUT.includes(relative(TOP, path).split("/")[0]);
    cpSync(TOP, top, { recursive: true, filter: wanted });
    symlinkSync(join(TOP, "node_modules"), join(top, "node_modules"), "dir");
    for (const folder of ["src", "devices", "fixtures", "bench"])
      for (const name of readdirSync(join(top, folder), { recursive: true }))
        if (name.endsWith(".ts") && !name.endsWith(".d.ts")) {
          const file = posix.join(folder, name);
          writeFileSync(join(top, scriptOf(file)), withoutTypes(readFileSync(join(top, file), "utf8"), file).code);
        }
  }

  /** Runs a test file in a process of its own. @returns what it says, how long it takes, and where it comes */
  async measure(test) {
    const folder = join(this.#top, "coverage");
    mkdirSync(folder, { recursive: true });
    const began = performance.now();
    this.stop();
    const result = await this.#run(test, 120_000, { NODE_V8_COVERAGE: folder });
    const ms = performance.now() - began;
    await this.#end();
    const comes = coverageOf(folder, this.#top);
    rmSync(folder, { recursive: true, force: true });
    return { result, ms, comes };
  }

  /** Breaks the copy, runs the tests until one fails, and mends it. @returns who noticed and how; null: nobody */
  async judge({ file, code, start, end, text }, tests) {
    const paths = [file, scriptOf(file)].map((name) => join(this.#top, name));
    const whole = paths.map((path) => readFileSync(path));
    for (const path of paths) writeFileSync(path, code.slice(0, start) + text + code.slice(end));
    try {
      for (const [test, limit] of tests) {
        const { failed, how } = await this.#run(test, limit);
        if (failed > 0) return { test, how };
      }
      return null;
    } finally {
      this.stop();
      for (const [i, path] of paths.entries()) writeFileSync(path, whole[i]);
    }
  }

  stop() {
    this.#worker?.kill("SIGKILL");
    this.#worker = null;
  }

  /** Lets the process end by itself, which writes where it came. */
  async #end() {
    const worker = this.#worker;
    this.#worker = null;
    if (!worker?.connected) return;
    const gone = new Promise((resolve) => worker.once("exit", resolve));
    worker.send(null, () => {});
    await gone;
  }

  #run(test, limit, env = {}) {
    this.#worker ??= fork(join(this.#top, ".ci/test-worker.mjs"), {
      cwd: this.#top,
      execArgv: ["--max-old-space-size=1024", "--no-warnings"],
      env: { ...process.env, FORCE_COLOR: "0", ...env },
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    const worker = this.#worker;
    return new Promise((resolve) => {
      const settle = (result) => {
        clearTimeout(timer);
        worker.removeAllListeners();
        resolve(result);
      };
      const timer = setTimeout(() => settle({ failed: 1, errors: ["no end"], how: "hangs" }), limit);
      worker.on("message", ({ failed, errors }) => settle({ failed, errors, how: "fails" }));
      worker.on("exit", (status, signal) => settle({ failed: 1, errors: [`ended: ${signal ?? status}`], how: "dies" }));
      worker.on("error", (error) => settle({ failed: 1, errors: [String(error)], how: "dies" }));
      worker.send(scriptOf(test), () => {}); // one that is gone says so by its exit
    });
  }
}

/** What V8 wrote of a process. @returns whether it came to a place in a file's script; true where nothing was written */
function coverageOf(folder, top) {
  const counts = new Map();
  for (const name of readdirSync(folder))
    for (const { url, functions } of JSON.parse(readFileSync(join(folder, name), "utf8")).result) {
      const ranges = functions.flatMap((of) => of.ranges);
      counts.set(url, [...(counts.get(url) ?? []), ranges]);
    }
  if (counts.size === 0) return () => true;
  /** The innermost range around a place says how often it was executed. */
  const isCounted = (ranges, place) => {
    const around = ranges.filter(({ startOffset, endOffset }) => startOffset <= place && place < endOffset);
    const innermost = around.reduce(
      (a, b) => (b.endOffset - b.startOffset < a.endOffset - a.startOffset ? b : a),
      around[0],
    );
    return innermost !== undefined && innermost.count > 0;
  };
  return (file, place) => {
    const processes = counts.get(pathToFileURL(join(top, scriptOf(file))).href) ?? [];
    return processes.some((ranges) => isCounted(ranges, place));
  };
}

// -------------------------------------------------------------------------------------------------- what is told

function progress(done, of) {
  if (process.stderr.isTTY) process.stderr.write(done < of ? `\r${done}/${of} ` : "\r\u001b[K");
}

function report({ folder, seed, places, mutants, json, seconds }) {
  const survivors = mutants.filter(({ by }) => by === null);
  const caught = mutants.length - survivors.length;
  const share = caught / mutants.length;
  const plain = ({ file, line, operator, was, now, reached, by }) => ({ file, line, operator, was, now, reached, by });
  if (json)
    console.log(JSON.stringify({ room: folder, seed, places, caught, share, mutants: mutants.map(plain) }, null, 1));
  else {
    for (const operator of Object.keys(OPERATORS)) {
      const these = mutants.filter((mutant) => mutant.operator === operator);
      const noticed = these.filter(({ by }) => by !== null).length;
      if (these.length > 0) console.log(`  ${operator.padEnd(18)}${noticed} of ${these.length} caught`);
    }
    const catchers = new Map();
    for (const { by } of mutants) if (by !== null) catchers.set(by.test, (catchers.get(by.test) ?? 0) + 1);
    for (const [test, noticed] of [...catchers].sort((a, b) => b[1] - a[1]))
      console.log(`  ${String(noticed).padStart(4)} by ${test}`);
    const hung = mutants.filter(({ by }) => by?.how === "hangs").length;
    if (hung > 0) console.log(`  ${hung} of them because a test did not come back`);
    for (const { file, line, operator, was, now, reached } of survivors.sort(
      (a, b) => a.file.localeCompare(b.file) || a.line - b.line,
    ))
      console.log(
        `survives ${file}:${line} ${operator}${reached ? "" : ", where no test comes"}\n    ${was}\n  → ${now}`,
      );
    console.log(`${caught} of ${mutants.length} caught, ${(100 * share).toFixed(1)} %, in ${seconds.toFixed(0)} s`);
  }
  return share < ENOUGH ? 1 : 0;
}

const options = readOptions();
if (options !== null) process.exitCode = await main(options);
