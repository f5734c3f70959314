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
  --seconds S      of processor time that a measurement is to take, about (default 0.4, with --quick 0.15); 4 or 10 times that while warming up
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

/** v86 and V8 translate what runs often, again and again better: some seconds pass until that settles. */
const WARMER = 4;
/** Where much code runs for the first time. */
const FIRST_WARMER = 10;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** A card in its guest, and what it has done so far. */
interface Runner {
  readonly name: string;
  readonly contestant: Contestant;
  readonly cells: Map<string, Cell>;
}

/**
 * One workload, round after round, each of which every card gets once.
 * @param warmer a round while warming up repeats until it took so many times as long as one that counts @param tell says how far it is
 */
async function alternate(
  workload: Workload,
  runners: readonly Runner[],
  { rounds, warmup, seconds }: Options,
  warmer: number,
  tell: (text: string) => void,
): Promise<void> {
  const { step, firstSize, title } = workload;
  const tracks = runners.map(() => ({ size: firstSize, samples: [] as Sample[] }));
  const all = warmup + rounds + 1; // the last one counts what crosses the border, and its time is not taken
  for (let round = 0; round < all; round++)
    for (const [i, { contestant, cells, name }] of runners.entries()) {
      const track = tracks[i]!;
      tell(`${title}, round ${round + 1} of ${all}: ${contestant.entry.title}`);
      await contestant.resume();
      if (round === all - 1) {
        contestant.countAccesses(true);
        const before = await contestant.crossings();
        const first = contestant.instructions;
        const { frames } = await workload.run(contestant, track.size);
        const instructions = (contestant.instructions - first) >>> 0;
        const after = await contestant.crossings();
        contestant.countAccesses(false);
        cells.set(
          workload.name,
          cellOf(track.samples, {
            exits: (after.exits - before.exits) / frames,
            interrupts: (after.interrupts - before.interrupts) / frames,
            instructions: instructions / frames,
          }),
        );
        if (!process.stderr.isTTY)
          process.stderr.write(
            `${workload.name} ${name} ${track.samples.map(({ value, cpu }) => `${value.toFixed(0)} ${(cpu * 1e6).toPrecision(3)}`).join(", ")}\n`,
          );
      } else {
        const least = round < warmup && firstSize > 1 ? warmer * seconds : 0;
        let spent = 0;
        let sample: Sample;
        do {
          sample = await workload.run(contestant, track.size);
          // The next one is to take as long as wanted, by how fast this one was.
          if (firstSize > 1)
            track.size = Math.max(firstSize, Math.round((track.size * seconds) / sample.seconds / step) * step);
          spent += sample.seconds;
        } while (spent < least);
        if (round >= warmup) track.samples.push(sample);
      }
      await contestant.pause();
    }
}

async function measure(options: Options): Promise<Map<string, Map<string, Cell>>> {
  let doing = "";
  const tell = (text: string): void => {
    doing = text;
  };
  const done = showProgress("bench:v86", () => doing);
  const runners: Runner[] = [];
  try {
    for (const [name, entry] of options.cards) {
      tell(`starting ${entry.title}`);
      const contestant = await Contestant.start(entry);
      runners.push({ name, contestant, cells: new Map() });
      await contestant.pause();
    }
    for (const [i, workload] of options.workloads.entries())
      await alternate(workload, runners, options, i === 0 || workload.fresh ? FIRST_WARMER : WARMER, tell);
    return new Map(runners.map(({ name, cells }) => [name, cells]));
  } finally {
    done();
    for (const { contestant } of runners) await contestant[Symbol.asyncDispose]();
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
    seconds: number("seconds", values.seconds ?? (quick ? "0.15" : "0.4"), 0.01),
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
