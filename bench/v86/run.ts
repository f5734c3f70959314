/**
 * Our cards against v86's own: the same Debian guest with the same kernel, the same peer at the cable, and the cards in turn.
 *
 *   npm run bench:v86              everything, with two rounds to warm up and medians of five
 *   npm run bench:v86 -- --quick   fewer and shorter rounds
 *   npm run bench:v86 -- --help
 *
 * Exit status: 0, 1 with --check when something is far from what is promised, 2 wrong usage or something is missing.
 */
import { parse, UsageError } from "../../src/cli/index.js";
import { GuestError } from "../../src/hosts/v86/guest/boot.js";
import { buildGuest, showProgress } from "../../src/hosts/v86/guest/terminal.js";
import { Contestant, ENTRIES, type Entry } from "./contestant.js";
import { type Cell, cellOf, layOut, tables } from "./results.js";
import { targets } from "./targets.js";
import { type Sample, WORKLOADS, type Workload } from "./workloads.js";

const CARDS = ["virtio", "ne2k", "vtnet", "plain", "re", "8139"];

const HELP = `usage: npm run bench:v86 -- [options]

Measures network cards in v86 with a Debian guest (built once; kept in .cache/guest): v86's own and ours. Each card has an
emulator and a guest of its own, and the guests run in turn, one at a time. The first card is the peer of the ratios.

  --cards NAME,…   of ${Object.keys(ENTRIES).join(", ")} (default ${CARDS.join(",")})
  --rows NAME,…    of ${WORKLOADS.map(({ name }) => name).join(", ")} (default all)
  --rounds N       medians of so many rounds (default 5, with --quick 3)
  --warmup N       rounds before these (default 2)
  --seconds S      that a measurement is to take, about (default 0.5, with --quick 0.25); three times that while warming up
  --quick          for a first impression
  --check          fail when a ratio is missed by more than half
  --json           the results, with lowest and highest, as JSON
  --help           this text
`;

interface Options {
  readonly cards: readonly (readonly [name: string, entry: Entry])[];
  readonly workloads: readonly Workload[];
  readonly rounds: number;
  readonly warmup: number;
  readonly seconds: number;
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** What a card has done at a workload so far. */
class Track {
  readonly samples: Sample[] = [];
  size: number;
  exits = 0;
  interrupts = 0;
  readonly #workload: Workload;

  constructor(workload: Workload) {
    this.#workload = workload;
    this.size = workload.firstSize;
  }

  /** The next one is to take so many seconds, by how fast this one was. */
  aim({ seconds }: Sample, wanted: number): void {
    const { step, firstSize } = this.#workload;
    if (firstSize > 1) this.size = Math.max(firstSize, Math.round((this.size * wanted) / seconds / step) * step);
  }
}

async function measure({
  cards,
  workloads,
  rounds,
  warmup,
  seconds,
}: Options): Promise<Map<string, Map<string, Cell>>> {
  let doing = "";
  const done = showProgress("bench:v86", () => doing);
  const contestants: { name: string; contestant: Contestant; tracks: Map<string, Track> }[] = [];
  try {
    for (const [name, entry] of cards) {
      doing = `starting ${entry.title}`;
      const contestant = await Contestant.start(entry);
      await contestant.pause();
      contestants.push({ name, contestant, tracks: new Map(workloads.map((row) => [row.name, new Track(row)])) });
    }
    const all = warmup + rounds + 1; // the last one counts what crosses the border, and its time is not taken
    for (let round = 0; round < all; round++)
      for (const workload of workloads)
        for (const { contestant, tracks } of contestants) {
          const track = tracks.get(workload.name)!;
          const counts = round === all - 1;
          doing = `round ${round + 1} of ${all}, ${workload.title}: ${contestant.entry.title}`;
          await contestant.resume();
          contestant.countAccesses(counts);
          const before = await contestant.crossings();
          const sample = await workload.run(contestant, track.size);
          const after = await contestant.crossings();
          contestant.countAccesses(false);
          await contestant.pause();
          track.aim(sample, round + 1 < warmup ? 3 * seconds : seconds);
          if (counts) {
            track.exits = (after.exits - before.exits) / sample.frames;
            track.interrupts = (after.interrupts - before.interrupts) / sample.frames;
          } else if (round >= warmup) track.samples.push(sample);
        }
    return new Map(
      contestants.map(({ name, tracks }) => [
        name,
        new Map(
          [...tracks].map(
            ([row, { samples, exits, interrupts }]) => [row, cellOf(samples, exits, interrupts)] as const,
          ),
        ),
      ]),
    );
  } finally {
    done();
    for (const { contestant } of contestants) await contestant[Symbol.asyncDispose]();
  }
}

const pick = <T>(option: string, text: string, find: (name: string) => T | undefined, names: readonly string[]): T[] =>
  text.split(",").map((name) => {
    const found = find(name);
    if (found === undefined) throw new UsageError(`--${option} ${name}: there are ${names.join(", ")}`);
    return found;
  });

const number = (option: string, text: string, least: number): number => {
  const value = Number(text);
  if (!(value >= least)) throw new UsageError(`--${option} ${text}: expected a number, at least ${least}`);
  return value;
};

const whole = (option: string, text: string, least: number): number => Math.round(number(option, text, least));

async function main(): Promise<number> {
  const { values } = parse({
    options: {
      cards: { type: "string" },
      rows: { type: "string" },
      rounds: { type: "string" },
      warmup: { type: "string" },
      seconds: { type: "string" },
      quick: { type: "boolean" },
      check: { type: "boolean" },
      json: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    say(HELP.trimEnd());
    return 0;
  }
  const quick = values.quick === true;
  const rowNames = WORKLOADS.map(({ name }) => name);
  const options: Options = {
    cards: pick(
      "cards",
      values.cards ?? CARDS.join(),
      (name) => (Object.hasOwn(ENTRIES, name) ? ([name, ENTRIES[name]!] as const) : undefined),
      Object.keys(ENTRIES),
    ),
    workloads: pick(
      "rows",
      values.rows ?? rowNames.join(),
      (name) => WORKLOADS.find((row) => row.name === name),
      rowNames,
    ),
    rounds: whole("rounds", values.rounds ?? (quick ? "3" : "5"), 1),
    warmup: whole("warmup", values.warmup ?? "2", 0),
    seconds: number("seconds", values.seconds ?? (quick ? "0.25" : "0.5"), 0.01),
  };
  const built = await buildGuest();
  if (built !== 0) return built;
  const results = await measure(options);
  const promised = targets(results);
  if (values.json === true) {
    const cells = Object.fromEntries([...results].map(([card, rows]) => [card, Object.fromEntries(rows)]));
    say(JSON.stringify({ cells, targets: promised }, null, 2));
  } else {
    say(tables(results, options.cards, options.workloads));
    if (promised.length > 0)
      say(
        `\n${layOut([
          ["promised", "", "", "reached", ""],
          ...promised.map(({ title, kind, wanted, reached, holds }) => [
            title,
            kind,
            String(wanted),
            reached.toFixed(kind === "at most" ? 4 : 2),
            holds ? "ok" : "missed",
          ]),
        ])}`,
      );
  }
  if (values.check !== true) return 0;
  const failed = promised.filter(({ fails }) => fails);
  for (const { title, reached } of failed) process.stderr.write(`FAIL ${title}: ${reached.toFixed(3)}\n`);
  return failed.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`bench:v86: ${error.message}\n`);
    process.exitCode = 2;
  } else if (error instanceof GuestError && error.code === "images-missing") {
    process.stderr.write(`bench:v86: ${error.message}\n`);
    process.exitCode = 2;
  } else throw error;
}
