import { accessSync, constants, existsSync, statSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { startQemu } from "../hosts/qtest/index.js";
import { parse, UsageError } from "./args.js";
import { words } from "./qemu/cards.js";
import { started } from "./qemu/probe.js";
import { type RecordedEvent, RecordingGuest, SCENARIOS } from "./record/index.js";

interface QemuVersion {
  readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
  readonly package: string;
}

/** Where `npm run test:qemu` builds QEMU's accelerator. */
const MODULES = ".cache/qemu";

const HELP = `usage: barwire record --scenario NAME [--qemu ARGS] [--out FILE] [--modules DIR]

Has a small guest drive a card of a real QEMU through its qtest protocol, and writes down every access, interrupt and frame, as
JSON lines. Its clock moves only when the guest says so, so that the same command writes the same file.

  --scenario NAME  what the guest does:
${Object.entries(SCENARIOS)
  .map(([name, { title }]) => `                     ${name.padEnd(24)}${title}`)
  .join("\n")}
  --qemu ARGS      the cards, as on QEMU's command line; default: those that the scenario is for
  --out FILE       default: NAME.jsonl; - for stdout
  --modules DIR    folder with QEMU's qtest accelerator, where it has none of its own; default ${MODULES}, which
                   npm run test:qemu fills in a clone of the repository
  --help           print this

Needs Debian's package qemu-system-x86 (7.2). Exit status: 0 written, 1 QEMU did what the guest could not go on with, 2 wrong
usage, or no such QEMU.`;

/** `--qemu -device …`: what begins with a dash is that option's value all the same. */
const joined = (args: readonly string[]): string[] => {
  const at = args.indexOf("--qemu");
  return at < 0 || args[at + 1] === undefined
    ? [...args]
    : [...args.slice(0, at), `--qemu=${args[at + 1]}`, ...args.slice(at + 2)];
};

/** Runs what may find that a file cannot be written. @throws UsageError */
const naming = (file: string, attempt: () => void): void => {
  try {
    attempt();
  } catch (error) {
    throw new UsageError(`--out "${file}": ${(error as Error).message}`);
  }
};

/** Looks whether a file can be made, before a QEMU is started for it. @throws UsageError */
const demandWritable = (file: string): void =>
  naming(file, () => {
    const known = statSync(file, { throwIfNoEntry: false });
    if (known?.isDirectory() === true) throw new Error("it is a folder");
    accessSync(known === undefined ? dirname(resolve(file)) : file, constants.W_OK);
  });

/** Records a scenario. @throws UsageError when QEMU cannot be started like that */
export const recordScenario = (name: string, qemuArgs?: string, modules?: string): RecordedEvent[] => {
  const scenario = Object.hasOwn(SCENARIOS, name) ? SCENARIOS[name] : undefined;
  if (scenario === undefined)
    throw new UsageError(`no scenario "${name}"; there are ${Object.keys(SCENARIOS).join(", ")}`);
  const { networks, run } = scenario;
  const folder = modules ?? (existsSync(MODULES) ? MODULES : undefined);
  const qemu = started(() =>
    startQemu({
      accel: "qtest",
      memory: RAM_MIB,
      args: words(qemuArgs ?? scenario.qemu),
      networks: Object.fromEntries(networks.map((id) => [id, "pair"])),
      ...(folder === undefined ? {} : { modules: folder }),
    }),
  );
  try {
    const { qemu: number, package: packaged } = qemu.qmp.execute("query-version") as QemuVersion;
    const guest = new RecordingGuest(qemu, networks);
    guest.begin({
      op: "start",
      args: qemu.args,
      qemu: `QEMU ${number.major}.${number.minor}.${number.micro} (${packaged})`,
      command: `npx barwire record --scenario ${name}${qemuArgs === undefined ? "" : ` --qemu '${qemuArgs}'`}`,
    });
    guest.roundClock(CLOCK_NS);
    run(guest);
    guest.settle();
    return [...guest.events, { op: "end", status: 0 }];
  } finally {
    qemu.close();
  }
};

/** MiB; more than any scenario uses */
const RAM_MIB = 8;
/** a round number to begin at */
const CLOCK_NS = 1_000_000;

/** Records a conversation with QEMU. @returns the exit status */
export const record = (args: string[]): number => {
  const string = { type: "string" } as const;
  const { values } = parse({
    args: joined(args),
    options: {
      scenario: string,
      qemu: string,
      out: string,
      modules: string,
      help: { type: "boolean", default: false },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const { scenario: name, out } = values;
  if (name === undefined) throw new UsageError(`--scenario is missing; there are ${Object.keys(SCENARIOS).join(", ")}`);
  const file = out ?? `${name}.jsonl`;
  if (file !== "-") demandWritable(file);
  let events: RecordedEvent[];
  try {
    events = recordScenario(name, values.qemu, values.modules);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    console.error(`barwire: ${name}: ${(error as Error).message}`);
    return 1;
  }
  const text = events.map((event) => `${JSON.stringify(event)}\n`).join("");
  if (file === "-") process.stdout.write(text);
  else {
    naming(file, () => writeFileSync(file, text));
    console.log(`${file}: ${events.length} lines`);
  }
  return 0;
};
