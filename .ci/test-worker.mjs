// One process of the test runner: imports the test files it is sent, runs what uvu queued, and sends back the counts.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

globalThis.UVU_DEFER = 1; // suites wait in UVU_QUEUE until we run them
const { test } = await import("uvu");
// Properties draw the same cases in every run; SEED=n draws others, and a file run by itself draws its own.
const fc = await import("fast-check");
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env.SEED ?? 2011) });
let result = fresh();

const fail = (message) => {
  result.failed++;
  result.errors.push(message);
};
const textOf = (error) => (error instanceof Error ? (error.stack ?? String(error)) : `thrown: ${String(error)}`);
process.on("uncaughtException", (error) => fail(`outside any test: ${textOf(error)}`));
process.on("unhandledRejection", (error) => fail(`a promise nobody waited for: ${textOf(error)}`));
process.on("message", async (file) => {
  if (file === null) return end();
  const restore = [process.stdout, process.stderr].map(capture);
  await run(file);
  await new Promise((resolve) => setTimeout(resolve)); // a rejection of the last test is still this file's
  for (const put of restore) put();
  process.send(result);
  result = fresh(); // what an earlier file still throws is reported with the next one, or at the end
});
process.on("disconnect", () => process.exit(1)); // the runner itself is gone

/** Ends although a test may have left something running, and by a normal exit: only then is coverage written. */
function end() {
  if (result.failed > 0) console.error(result.errors.join("\n"));
  process.exit(result.failed > 0 ? 1 : 0);
}

function fresh() {
  return { passed: 0, failed: 0, skipped: 0, errors: [], output: "" };
}

async function run(file) {
  globalThis.UVU_QUEUE = [[]];
  const path = join(process.cwd(), file);
  try {
    await import(pathToFileURL(path).href);
  } catch (error) {
    return fail(`cannot load ${file}: ${textOf(error)}`);
  }
  const queued = globalThis.UVU_QUEUE[0];
  for (const suite of queued) {
    try {
      const [errors, passed, skipped, total] = await suite();
      result.passed += passed;
      result.failed += total - passed;
      result.skipped += skipped;
      if (typeof errors === "string") result.errors.push(errors);
      else if (passed < total)
        result.errors.push(`a hook, or a test that threw no Error, ended a suite (${passed} of ${total} ran)`);
    } catch (error) {
      fail(`an after hook threw: ${textOf(error)}`);
    }
  }
  if (result.passed + result.failed + result.skipped === 0) fail("no test ran: is test.run() missing?");
  test.run(); // empties uvu's common suite, so that what this file left in it does not run in the next file
  const forgotten = suitesWithoutRun(readFileSync(path, "utf8"));
  if (forgotten.length > 0) fail(`no ${forgotten.map((name) => `${name}.run()`).join(", ")}: its tests did not run`);
}

/** uvu forgets a suite that is never run, which shows nowhere when the file has another one that is. */
function suitesWithoutRun(source) {
  const names = [...source.matchAll(/\b(?:const|let)\s+(\w+)\s*=\s*suite\b/g)].map((match) => match[1]);
  if (/^test(?:\.\w+)?\(/m.test(source)) names.push("test");
  return [...new Set(names)].filter((name) => !new RegExp(`\\b${name}\\.run\\(\\)`).test(source));
}

/** Keeps what a file prints for its failure report, without uvu's row of bullets. */
function capture(stream) {
  const write = stream.write;
  stream.write = (chunk, encoding, done) => {
    const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
    if (!/^(?:[•✘] | {2}\(\d+ \/ \d+\)\n| .* )$/.test(text)) result.output += text;
    const callback = typeof encoding === "function" ? encoding : done;
    if (callback) process.nextTick(callback);
    return true;
  };
  return () => {
    stream.write = write;
  };
}
