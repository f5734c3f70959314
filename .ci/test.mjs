// Runs the tests: npm test [-- PART…] runs every *.test.ts under src, devices and fixtures whose path contains a PART.
//
// uvu alone exits 0 when no file matched, when a file forgot run(), and when a before hook threw. Here each of those is
// a failure. Files share a few worker processes, since starting tsx costs more than most files do; a file whose process
// dies or does not come back is one failure, and the files after it get a fresh process.
import { fork } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const FILE_TIMEOUT_MS = 120_000;
const TOP = process.cwd(); // npm sets it to the top of the package
const WORKER = join(import.meta.dirname, "test-worker.mjs");

const parts = process.argv.slice(2);
const files = ["fixtures", "src", "devices"] // whole machines first: none of the long ones is left for the end
  .flatMap((folder) => testsUnder(folder))
  .filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)));

const sum = { passed: 0, failed: 0, skipped: 0 };
if (files.length === 0) {
  console.error(`no test file matches ${parts.join(" ") || "*.test.ts"}`);
  sum.failed++;
} else {
  const waiting = files.slice();
  const processes = Math.min(files.length, Math.max(2, availableParallelism()));
  await Promise.all(Array.from({ length: processes }, () => drain(waiting)));
}
const skipped = sum.skipped > 0 ? `, ${sum.skipped} skipped` : "";
console.log(`\n${sum.passed} passed, ${sum.failed} failed${skipped}`);
process.exitCode = sum.failed > 0 ? 1 : 0;

function testsUnder(folder) {
  let names = [];
  try {
    names = readdirSync(join(TOP, folder), { recursive: true });
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  return names
    .filter((name) => name.endsWith(".test.ts") && !name.includes("node_modules"))
    .map((name) => `${folder}/${name}`)
    .sort();
}

/** Takes files from the common list until it is empty, with one process for as long as that lives. */
async function drain(waiting) {
  let worker;
  for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
    worker ??= start();
    const result = await runFile(worker, file);
    show(file, result);
    if (result.died) worker = undefined;
    else if (!worker.connected) {
      show(`between ${file} and the next`, { failed: 1, errors: [worker.lastWords] });
      worker = undefined;
    }
  }
  if (worker === undefined) return;
  const closed = new Promise((resolve) => worker.once("close", resolve));
  worker.send(null);
  if ((await closed) !== 0) show("after the last file", { failed: 1, errors: [worker.lastWords] });
}

function start() {
  const worker = fork(WORKER, {
    cwd: TOP,
    execArgv: ["--import", "tsx"],
    env: { ...process.env, FORCE_COLOR: "0" },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  worker.lastWords = "";
  for (const stream of [worker.stdout, worker.stderr])
    stream.setEncoding("utf8").on("data", (text) => {
      worker.lastWords += text;
    });
  return worker;
}

function runFile(worker, file) {
  const began = performance.now();
  return new Promise((resolve) => {
    let why = "";
    const timer = setTimeout(() => {
      why = `no result after ${FILE_TIMEOUT_MS / 1000} s`;
      worker.kill("SIGKILL");
    }, FILE_TIMEOUT_MS);
    const settle = (result) => {
      clearTimeout(timer);
      worker.removeAllListeners("message");
      worker.removeAllListeners("close");
      resolve({ ...result, ms: performance.now() - began });
    };
    worker.on("message", (result) => settle({ died: false, ...result }));
    worker.on("close", (code, signal) => {
      why ||= `the process ended with ${signal ?? code} before the file was done`;
      settle({ died: true, passed: 0, failed: 1, skipped: 0, errors: [why, worker.lastWords], output: "" });
    });
    worker.send(file);
  });
}

function show(file, { passed = 0, failed = 0, skipped = 0, errors = [], output = "", ms = 0 }) {
  sum.passed += passed;
  sum.failed += failed;
  sum.skipped += skipped;
  const counts = `${passed} passed${failed ? `, ${failed} failed` : ""}${skipped ? `, ${skipped} skipped` : ""}`;
  console.log(`${failed ? "FAIL" : "ok  "} ${file.padEnd(56)} ${counts.padEnd(12)} ${ms.toFixed(0).padStart(6)} ms`);
  if (!failed) return;
  const text = [...errors, output && `output of the file:\n${output}`].filter(Boolean).join("\n");
  console.log(text.trimEnd().replace(/^(?=.)/gm, "     "));
}
