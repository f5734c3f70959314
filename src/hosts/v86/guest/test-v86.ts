/**
 * Linux's own drivers on our cards, in v86: one boot without a card, then for each card a copy of that guest, into which the
 * card is put while it runs, and a row of checks.
 *
 *   npm run test:v86                    the selection that CI runs
 *   npm run test:v86 -- --all           every card, and larger transfers
 *   npm run test:v86 -- --help
 *
 * Exit status: 0 everything held, 1 not so, 2 wrong usage or something is missing.
 */
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse, parseSize, UsageError } from "../../../cli/index.js";
import type { Diagnostic, NetPort } from "../../../contract/index.js";
import { connect, type Wire } from "../../../net/index.js";
import { attachV86, V86_RELEASE, type V86Attachment } from "../index.js";
import { bootGuest, type Guest, GuestError } from "./boot.js";
import { asTheBiosLeaves, type Mode, makeCards } from "./cards.js";
import { type Bench, type BenchCard, CHECKS, type Check, Failure, TOGETHER, VLAN, VLAN_NET } from "./checks.js";
import { Interview } from "./interview.js";
import { TcpPeer } from "./tcp-peer.js";
import { buildGuest, IMAGES, showProgress } from "./terminal.js";
import { Transfers } from "./transfer.js";
import { VlanTrunk } from "./vlan-trunk.js";

const HELP = `usage: npm run test:v86 -- [options]

Boots a Debian guest in v86 (built once; kept in .cache/guest), plugs one card after another into copies of it, and lets
Linux's r8169, 8139cp, 8139too and virtio_net say whether they work.

  --all           every card and every check; default: the selection that CI runs
  --only TEXT     only rows whose name contains TEXT, such as vtnet or 8139c+
  --size SIZE     bytes of each transfer (default 4M, with --all 16M)
  --boot          boot anew, though there is a saved guest
  --timeout SECONDS  for each row (default 300)
  --verbose       show every command and its answer on standard error
  --help          this text
`;

/** A row of the table. */
interface Case {
  readonly title: string;
  readonly cards: readonly string[];
  readonly mode?: Mode;
  readonly onlyAll?: boolean;
  /** the peer leaves checksums and segmentation to the cable; default true */
  readonly offloads?: boolean;
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
  { title: "vtnet, finished frames", cards: ["vtnet"], offloads: false, onlyAll: true },
  { title: "re, finished frames", cards: ["re"], offloads: false, onlyAll: true },
  ...["8169", "8110s", "8169sce", "8139", "8139a", "8139a-g", "8139b", "8130", "8100", "8139d", "8101"].map((name) => ({
    title: name,
    cards: [name],
    onlyAll: true,
  })),
];

interface Options {
  readonly all: boolean;
  readonly only: string;
  readonly size: number;
  readonly boot: boolean;
  readonly timeoutMs: number;
  readonly verbose: boolean;
}

/** A guest that has its drivers loaded and no card yet. */
async function readyState({ boot }: Options): Promise<ArrayBuffer> {
  const stamp = await readFile(join(IMAGES, "stamp"), "utf8");
  const key = createHash("sha256").update(`${stamp} ${V86_RELEASE} ${PREPARE}`).digest("hex").slice(0, 16);
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
    await writeFile(path, new Uint8Array(state));
    done();
    say(`booted in ${((performance.now() - started) / 1000).toFixed(1)} s`);
    return state;
  } finally {
    done();
  }
}

/** What every copy of the guest has done already. */
const PREPARE =
  "load 8021q; dd if=/dev/urandom of=/tmp/block bs=64k count=16 2>/dev/null; md5sum /tmp/block; nc 127.0.0.1 1";

const say = (text: string): void => void process.stdout.write(`${text}\n`);

type Outcome = { readonly check: string; readonly verdict: "ok" | "FAIL" | "skip"; readonly detail: string };

async function runCase(row: Case, state: ArrayBuffer, options: Options): Promise<Outcome[]> {
  const diagnostics: Diagnostic[] = [];
  const cables: Wire[] = [];
  const cards: BenchCard[] = makeCards(row.cards, row.mode).map((card) => {
    const { offloads = true } = row;
    const peer = new TcpPeer({ mac: card.peerMac, ip: card.peerAddress, offloads });
    const tagged = new TcpPeer({ mac: card.peerMac, ip: `${VLAN_NET}.2`, offloads });
    return {
      ...card,
      peer,
      transfers: new Transfers(peer),
      ifname: "",
      port: new VlanTrunk(peer, VLAN, tagged) as NetPort,
    };
  });
  for (const card of cards) {
    cables.push(connect(card.card.net, card.port));
    asTheBiosLeaves(card);
  }
  let attachment: V86Attachment | undefined;
  let guest: Guest | undefined;
  const outcomes: Outcome[] = [];
  try {
    guest = await bootGuest({
      images: IMAGES,
      state,
      timeoutMs: 60_000,
      attach: (emulator) => {
        attachment = attachV86(emulator, { cards, report: (diagnostic) => diagnostics.push(diagnostic) });
      },
      ...(options.verbose ? { onConsole: (text: string) => void process.stderr.write(text) } : {}),
    });
    const interview = new Interview(guest, performance.now() + options.timeoutMs, options.verbose);
    await interview.run("echo 1 >/sys/bus/pci/rescan; sleep 1");
    const bench: Bench = { guest: interview, cards, diagnostics, transferSize: options.size };
    const wanted: (readonly [Check, BenchCard])[] =
      cards.length === 1
        ? CHECKS.map((check) => [check, cards[0]!] as const)
        : TOGETHER.map((check) => [check, cards[0]!] as const);
    for (const [check, card] of wanted) {
      const reason = check.skip?.(card) ?? null;
      if (reason !== null || (check.onlyAll === true && !options.all)) {
        outcomes.push({ check: check.name, verdict: "skip", detail: reason ?? "with --all" });
        continue;
      }
      try {
        outcomes.push({ check: check.name, verdict: "ok", detail: await check.run(bench, card) });
      } catch (error) {
        if (!(error instanceof Failure || error instanceof GuestError)) throw error;
        outcomes.push({ check: check.name, verdict: "FAIL", detail: error.message.split("\n", 3).join(" | ") });
        if (error instanceof GuestError || check === wanted[0]![0]) break; // nothing else can hold
      }
    }
    if (options.verbose)
      for (const { name, card } of cards) process.stderr.write(`${name}: ${JSON.stringify(card.counters())}\n`);
  } finally {
    for (const { peer } of cards) peer[Symbol.dispose]();
    await guest?.stop();
    attachment?.detach();
    for (const cable of cables) cable[Symbol.dispose]();
  }
  return outcomes;
}

async function run(options: Options): Promise<number> {
  const rows = CASES.filter(
    ({ title, onlyAll }) => title.includes(options.only) && (options.all || onlyAll !== true || options.only === title),
  );
  if (rows.length === 0)
    throw new UsageError(`no row contains "${options.only}"; there are ${CASES.map(({ title }) => title).join("; ")}`);
  const state = await readyState(options);
  const started = performance.now();
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  for (const row of rows) {
    const began = performance.now();
    const done = showProgress(row.title);
    const outcomes = await runCase(row, state, options);
    done();
    const bad = outcomes.filter(({ verdict }) => verdict === "FAIL");
    say(`\n${row.title}  (${((performance.now() - began) / 1000).toFixed(0)} s${bad.length > 0 ? ", FAILED" : ""})`);
    for (const { check, verdict, detail } of outcomes) say(`  ${verdict.padEnd(4)}  ${check.padEnd(12)} ${detail}`);
    passed += outcomes.filter(({ verdict }) => verdict === "ok").length;
    failed += bad.length;
    skipped += outcomes.length - bad.length - outcomes.filter(({ verdict }) => verdict === "ok").length;
  }
  say(`\n${((performance.now() - started) / 1000).toFixed(0)} s`);
  say(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  return failed === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const { values } = parse({
    options: {
      all: { type: "boolean" },
      only: { type: "string" },
      size: { type: "string" },
      boot: { type: "boolean" },
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
  const size = parseSize(values.size ?? (all ? "16M" : "4M"));
  if (size % 2 ** 20 !== 0) throw new UsageError(`size "${values.size}": expected whole MiB`);
  const seconds = Number(values.timeout ?? 300);
  if (!(seconds > 0)) throw new UsageError(`--timeout ${values.timeout}: expected a number of seconds`);
  const built = await buildGuest();
  if (built !== 0) return built;
  return run({
    all,
    only: values.only ?? "",
    size,
    boot: values.boot === true,
    timeoutMs: seconds * 1000,
    verbose: values.verbose === true,
  });
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError || error instanceof GuestError)) throw error;
  process.stderr.write(`test:v86: ${error.message}${error instanceof UsageError ? " (--help tells the usage)" : ""}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
