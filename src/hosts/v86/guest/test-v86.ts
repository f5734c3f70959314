/**
 * Linux's own drivers on our cards, in v86: one boot without a card, then for each card a copy of that guest, into which the
 * card is put while it runs, and a row of checks.
 *
 *   npm run test:v86                    the selection that CI runs
 *   npm run test:v86 -- --all           every card and every check
 *   npm run test:v86 -- --help
 *
 * Exit status: 0 everything held, 1 not so, 2 wrong usage or something is missing.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse, parseSize, UsageError } from "../../../cli/index.js";
import { V86_RELEASE } from "../index.js";
import { GuestError } from "./boot.js";
import { CHECKS, Failure, TOGETHER } from "./checks.js";
import { readyState } from "./ready.js";
import { Rig, type RigOptions } from "./rig.js";
import { renderTable } from "./table.js";
import { buildGuest, IMAGES, showProgress } from "./terminal.js";

const HELP = `usage: npm run test:v86 -- [options]

Boots a Debian guest in v86 (built once; kept in .cache/guest), plugs one card after another into copies of it, and lets
Linux's r8169, 8139cp, 8139too and virtio_net say whether they work.

  --all           every card and every check; default: the selection that CI runs
  --only TEXT     only rows whose name contains TEXT, such as vtnet or 8139c+
  --check TEXT    probe, link, and only checks whose name contains TEXT (or one of TEXT,TEXT)
  --size SIZE     bytes of each transfer (default 16M)
  --boot          boot anew, though there is a saved guest
  --json FILE     writes the table there
  --record        writes it to fixtures/guests/results.json; with --all; with --only, rows left out stay as they are there
  --timeout SECONDS  for each row (default 300)
  --verbose       show every command and its answer on standard error
  --help          this text
`;

/** A row of the table. */
interface Case extends Pick<RigOptions, "mode" | "offloads" | "mtu"> {
  readonly title: string;
  readonly cards: readonly string[];
  readonly onlyAll?: boolean;
}

const CASES: readonly Case[] = [
  { title: "re", cards: ["re"] },
  { title: "vtnet transitional", cards: ["vtnet"] },
  { title: "vtnet modern", cards: ["vtnet"], mode: "modern" },
  { title: "vtnet legacy", cards: ["vtnet"], mode: "legacy" },
  { title: "8139c+", cards: ["8139c+"] },
  { title: "8139c", cards: ["8139c"] },
  { title: "8169s", cards: ["8169s"] },
  { title: "8169sc", cards: ["8169sc"] },
  { title: "re + vtnet + 8139", cards: ["re", "vtnet", "8139"] },
  { title: "re, MTU 7000", cards: ["re"], mtu: 7000 },
  { title: "vtnet, MTU 9000", cards: ["vtnet"], mtu: 9000, onlyAll: true },
  { title: "8139c+, MTU 4000", cards: ["8139c+"], mtu: 4000, onlyAll: true },
  { title: "vtnet, finished frames", cards: ["vtnet"], offloads: false, onlyAll: true },
  { title: "re, finished frames", cards: ["re"], offloads: false, onlyAll: true },
  // Not the first 8169 (XID 000): Linux has not driven it since 5.3 ("r8169: remove support for RTL_GIGA_MAC_VER_01",
  // 25 May 2019), and 6.1 says "unknown chip XID 000".
  ...["8110s", "8169sce", "8139", "8139a", "8139a-g", "8139b", "8130", "8100", "8139d", "8101"].map((name) => ({
    title: name,
    cards: [name],
    onlyAll: true,
  })),
];

interface Options {
  readonly all: boolean;
  readonly only: string;
  readonly check: string;
  readonly size: number;
  readonly boot: boolean;
  readonly timeoutMs: number;
  readonly verbose: boolean;
  /** where the table is to be written; null: nowhere */
  readonly json: string | null;
  readonly record: boolean;
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);

type Outcome = { readonly check: string; readonly verdict: "ok" | "FAIL" | "skip"; readonly detail: string };

/** What came of a row: its cards with the drivers that Linux gave them, and a verdict for each check. */
interface RowResult {
  readonly cards: readonly { readonly card: string; readonly device: string; readonly driver: string }[];
  readonly outcomes: readonly Outcome[];
}

async function runCase(row: Case, state: ArrayBuffer, options: Options): Promise<RowResult> {
  const outcomes: Outcome[] = [];
  const onConsole = options.verbose ? { onConsole: (text: string) => void process.stderr.write(text) } : {};
  await using rig = await Rig.start({ ...row, ...options, ...onConsole, state });
  await rig.guest.run("echo 1 >/sys/bus/pci/rescan; sleep 1");
  const card = rig.cards[0]!;
  const needed = ["probe", "link"];
  const checks = (rig.cards.length === 1 ? CHECKS : TOGETHER).filter(
    ({ name }) => needed.includes(name) || options.check.split(",").some((text) => name.includes(text)),
  );
  for (const check of checks) {
    const reason = check.onlyAll === true && !options.all ? "with --all" : (check.skip?.(card) ?? null);
    if (reason !== null) {
      outcomes.push({ check: check.name, verdict: "skip", detail: reason });
      continue;
    }
    try {
      outcomes.push({ check: check.name, verdict: "ok", detail: await check.run(rig, card) });
    } catch (error) {
      const text =
        error instanceof Failure || error instanceof GuestError ? error.message : String(Object(error).stack);
      outcomes.push({ check: check.name, verdict: "FAIL", detail: text.split("\n", 3).join(" | ") });
      if (!(error instanceof Failure) || check === checks[0]) break; // nothing else can hold
    }
  }
  if (options.verbose)
    for (const { name, card, peer } of rig.cards)
      process.stderr.write(`${name}: ${JSON.stringify(card.counters())} ${JSON.stringify(peer.counters())}\n`);
  const cards = rig.cards.map(({ name, card: { name: device }, driver }) => ({ card: name, device, driver }));
  return { cards, outcomes };
}

/**
 * The table as data that only changes when something else comes out of a row: no times, no rates.
 * `checks` holds `ok`, `FAIL: what`, or `skip: why`.
 */
interface Results {
  readonly command: string;
  readonly kernel: string;
  readonly v86: string;
  /** bytes of a transfer, each way */
  readonly transfer: number;
  readonly rows: readonly {
    readonly title: string;
    /** of a virtio card */
    readonly mode: string | null;
    readonly mtu: number;
    readonly cards: RowResult["cards"];
    readonly checks: { readonly [check: string]: string };
  }[];
}

async function writeResults(path: string, { all, size }: Options, rows: Results["rows"]): Promise<void> {
  const info = await readFile(join(IMAGES, "guest.info"), "utf8");
  const results: Results = {
    command: `npm run test:v86${all ? " -- --all --record" : ""}`,
    kernel: /^kernel: (\S+)/m.exec(info)?.[1] ?? "",
    v86: V86_RELEASE,
    transfer: size,
    rows,
  };
  await writeFile(path, `${JSON.stringify(results, null, 2)}\n`);
}

const RESULTS = fileURLToPath(new URL("../../../../fixtures/guests/results.json", import.meta.url));

/** These rows, and of those that were recorded before the others, in the order of `CASES`. */
async function withRecorded(rows: Results["rows"]): Promise<Results["rows"]> {
  const text = await readFile(RESULTS, "utf8").catch(() => '{ "rows": [] }');
  const known = [...rows, ...(JSON.parse(text) as Results).rows];
  return CASES.flatMap(({ title }) => known.find((row) => row.title === title) ?? []);
}

async function run(options: Options): Promise<number> {
  const rows = CASES.filter(
    ({ title, onlyAll }) => title.includes(options.only) && (options.all || onlyAll !== true || options.only === title),
  );
  if (rows.length === 0)
    throw new UsageError(`no row contains "${options.only}"; there are ${CASES.map(({ title }) => title).join("; ")}`);
  const known = [...new Set([...CHECKS, ...TOGETHER].map(({ name }) => name))];
  if (!options.check.split(",").every((text) => known.some((name) => name.includes(text))))
    throw new UsageError(`no check contains "${options.check}"; there are ${known.join("; ")}`);
  const state = await readyState(options.boot);
  const started = performance.now();
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  const table: Results["rows"][number][] = [];
  for (const row of rows) {
    const began = performance.now();
    const done = showProgress(row.title);
    const { cards, outcomes } = await runCase(row, state, options);
    done();
    const bad = outcomes.filter(({ verdict }) => verdict === "FAIL");
    say(`\n${row.title}  (${((performance.now() - began) / 1000).toFixed(0)} s${bad.length > 0 ? ", FAILED" : ""})`);
    for (const { check, verdict, detail } of outcomes) say(`  ${verdict.padEnd(4)}  ${check.padEnd(12)} ${detail}`);
    table.push({
      title: row.title,
      mode: row.cards.includes("vtnet") ? (row.mode ?? "transitional") : null,
      mtu: row.mtu ?? 1500,
      cards,
      checks: Object.fromEntries(
        outcomes.map(({ check, verdict, detail }) => [check, verdict === "ok" ? verdict : `${verdict}: ${detail}`]),
      ),
    });
    passed += outcomes.filter(({ verdict }) => verdict === "ok").length;
    failed += bad.length;
    skipped += outcomes.length - bad.length - outcomes.filter(({ verdict }) => verdict === "ok").length;
  }
  say(`\n${renderTable(table)}`);
  say(`\n${((performance.now() - started) / 1000).toFixed(0)} s`);
  say(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  if (options.json !== null)
    await writeResults(options.json, options, options.record ? await withRecorded(table) : table);
  return failed === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const { values } = parse({
    options: {
      all: { type: "boolean" },
      only: { type: "string" },
      check: { type: "string" },
      size: { type: "string" },
      boot: { type: "boolean" },
      json: { type: "string" },
      record: { type: "boolean" },
      timeout: { type: "string" },
      verbose: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const all = values.all === true;
  const size = parseSize(values.size ?? "16M");
  if (size % 2 ** 20 !== 0) throw new UsageError(`size "${values.size}": expected whole MiB`);
  const seconds = Number(values.timeout ?? 300);
  if (!(seconds > 0)) throw new UsageError(`--timeout ${values.timeout}: expected a number of seconds`);
  if (values.record === true && !(all && values.size === undefined && values.check === undefined))
    throw new UsageError("--record goes with --all, and with all checks in full size");
  const built = await buildGuest();
  if (built !== 0) return built;
  return run({
    all,
    only: values.only ?? "",
    check: values.check ?? "",
    size,
    boot: values.boot === true,
    timeoutMs: seconds * 1000,
    verbose: values.verbose === true,
    json: values.record === true ? RESULTS : (values.json ?? null),
    record: values.record === true,
  });
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError || error instanceof GuestError)) throw error;
  process.stderr.write(`test:v86: ${error.message}${error instanceof UsageError ? " (--help tells the usage)" : ""}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
