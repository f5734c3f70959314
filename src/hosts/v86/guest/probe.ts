/**
 * Boots a Debian guest in v86 with our cards and lets Linux's own drivers say what they think of them.
 *
 *   npm run guest:probe                 what the drivers print, and three pings through each card
 *   npm run guest:probe -- --json       the same as one JSON object
 *   npm run guest:probe -- --help
 *
 * Exit status: 0 both drivers bound and all pings were answered, 1 not so, 2 wrong usage or something is missing.
 */
import { parse, UsageError } from "../../../cli/index.js";
import type { Diagnostic, Nic } from "../../../contract/index.js";
import { connect, Responder } from "../../../net/index.js";
import { attachV86, type V86Attachment } from "../index.js";
import { bootGuest, GuestError } from "./boot.js";
import { type GuestCard, makeCards } from "./cards.js";
import { COMPLAINTS, Interview } from "./interview.js";
import { buildGuest, IMAGES, showProgress } from "./terminal.js";

const HELP = `usage: npm run guest:probe -- [options]

Builds a Debian guest (once; kept in .cache/guest), boots it in v86 with an RTL8169SB and a transitional virtio-net card,
and prints what Linux's r8169 and virtio_net say about them and what came back of three pings through each.

  --json             one JSON object on standard output
  --timeout SECONDS  for everything after the build (default 180)
  --console          show the guest's serial port on standard error
  --help             this text
`;

const PINGS = 3;
interface Interface {
  readonly driver: string;
  /** eth0, eth1; empty when no interface of this driver came up */
  readonly name: string;
  readonly pci: string;
  readonly mac: string;
  readonly carrier: boolean;
  readonly replies: readonly string[];
  readonly summary: string;
}

interface Report {
  readonly ok: boolean;
  readonly kernel: string;
  readonly bootSeconds: number;
  readonly seconds: number;
  readonly functions: readonly string[];
  readonly dmesg: readonly string[];
  readonly interrupts: readonly string[];
  readonly interfaces: readonly Interface[];
  readonly counters: { readonly [driver: string]: ReturnType<Nic["counters"]> };
  readonly diagnostics: readonly Diagnostic[];
  readonly complaints: readonly string[];
}

async function tryInterface(guest: Interview, card: GuestCard): Promise<Interface> {
  const name = await guest.interfaceOf(card);
  const sys = `/sys/class/net/${name}`;
  const driver = name === "" ? "" : await guest.line(`basename $(readlink -f ${sys}/device/driver)`);
  if (driver !== card.driver)
    return {
      driver: card.driver,
      name: "",
      pci: "",
      mac: "",
      carrier: false,
      replies: [],
      summary: "no interface of this driver",
    };
  const carrier = await guest.bringUp(name, card);
  const answers = await guest.lines(`ping -c ${PINGS} -W 3 ${card.peerAddress}`);
  return {
    driver,
    name,
    pci: /[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?!.*:)/.exec(await guest.line(`readlink -f ${sys}/device`))?.[0] ?? "",
    mac: await guest.line(`cat ${sys}/address`),
    carrier,
    replies: answers.filter((line) => line.includes(" bytes from ")),
    summary: answers.find((line) => line.includes("packets transmitted")) ?? answers.join("; "),
  };
}

async function probe(options: { timeoutMs: number; console: boolean }): Promise<Report> {
  const started = performance.now();
  const deadline = started + options.timeoutMs;
  const diagnostics: Diagnostic[] = [];
  const trials = makeCards(["re", "vtnet"]);
  const cables = trials.map(({ card, peerMac, peerAddress }) =>
    connect(card.net, new Responder({ mac: peerMac, ip: peerAddress })),
  );
  let attachment: V86Attachment | undefined;
  const stopProgress = options.console ? () => {} : showProgress("booting the guest");
  try {
    await using guest = await bootGuest({
      images: IMAGES,
      timeoutMs: options.timeoutMs,
      attach: (emulator) => {
        attachment = attachV86(emulator, { cards: trials, report: (diagnostic) => diagnostics.push(diagnostic) });
      },
      ...(options.console ? { onConsole: (text: string) => void process.stderr.write(text) } : {}),
    });
    stopProgress();
    const bootSeconds = (performance.now() - started) / 1000;
    const interview = new Interview(guest, deadline);
    const kernel = await interview.line("uname -sr");
    const interfaces: Interface[] = [];
    for (const trial of trials) interfaces.push(await tryInterface(interview, trial));
    const log = await interview.lines("dmesg");
    const devfns = trials.map(({ slot }) => (slot << 3).toString(16).padStart(4, "0"));
    const functions = await interview.lines("cat /proc/bus/pci/devices");
    const complaints = log.filter((line) => COMPLAINTS.test(line));
    if (guest.failedModules > 0) complaints.push(`${guest.failedModules} modules did not load`);
    return {
      ok: complaints.length === 0 && interfaces.every((i) => i.carrier && i.replies.length === PINGS),
      kernel,
      bootSeconds,
      seconds: (performance.now() - started) / 1000,
      functions: functions
        .filter((line) => devfns.some((devfn) => line.startsWith(devfn)))
        .map((line) => line.trim().replaceAll(/\s+/g, " ")),
      dmesg: log.filter((line) => aboutOurCards(line, trials)),
      interrupts: await interview.lines("grep -E 'eth|virtio|r8169' /proc/interrupts"),
      interfaces,
      counters: Object.fromEntries(trials.map(({ driver, card }) => [driver, card.counters()])),
      diagnostics,
      complaints,
    };
  } finally {
    stopProgress();
    attachment?.detach();
    for (const cable of cables) cable[Symbol.dispose]();
  }
}

/** Lines about the functions and drivers; that Debian's key is not loaded (see `CMDLINE` in boot.ts) is not about them. */
const aboutOurCards = (line: string, trials: readonly GuestCard[]): boolean =>
  !line.includes("module verification") &&
  (/r8169|virtio|eth\d/.test(line) ||
    trials.some(({ slot }) => line.includes(`0000:00:${slot.toString(16).padStart(2, "0")}.0`)));

function print(report: Report): void {
  const out = (text: string) => void process.stdout.write(`${text}\n`);
  const list = (title: string, lines: readonly string[]) => {
    if (lines.length > 0) out(`\n${title}\n${lines.map((line) => `  ${line}`).join("\n")}`);
  };
  out(`${report.kernel} in v86, ready after ${report.bootSeconds.toFixed(1)} s`);
  list("/proc/bus/pci/devices", report.functions);
  list("dmesg", report.dmesg);
  list("/proc/interrupts", report.interrupts);
  for (const { driver, name, pci, mac, carrier, replies, summary } of report.interfaces)
    list(`${driver}: ${name || "-"} at ${pci || "-"}, ${mac || "-"}, ${carrier ? "carrier" : "no carrier"}`, [
      ...replies,
      summary,
    ]);
  list(
    "reported by the cards",
    report.diagnostics.map(({ source, code, value }) => `${source}: ${code} (${value})`),
  );
  list("complaints of the guest", report.complaints);
  const answered = report.interfaces.reduce((sum, { replies }) => sum + replies.length, 0);
  const bound = report.interfaces.filter(({ name }) => name !== "").length;
  const asked = report.interfaces.length * PINGS;
  out(
    `\n${bound} of ${report.interfaces.length} drivers bound, ${answered} of ${asked} pings answered, ${report.seconds.toFixed(1)} s: ${report.ok ? "passed" : "FAILED"}`,
  );
}

async function main(): Promise<number> {
  const { values: options } = parse({
    options: {
      help: { type: "boolean" },
      json: { type: "boolean" },
      console: { type: "boolean" },
      timeout: { type: "string" },
    },
  });
  if (options.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const seconds = Number(options.timeout ?? 180);
  if (!(seconds > 0)) throw new UsageError(`--timeout ${options.timeout}: expected a number of seconds`);
  const built = await buildGuest();
  if (built !== 0) return built;
  const report = await probe({ timeoutMs: seconds * 1000, console: options.console === true });
  if (options.json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else print(report);
  return report.ok ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError || error instanceof GuestError)) throw error;
  process.stderr.write(
    `guest:probe: ${error.message}${error instanceof UsageError ? " (--help tells the usage)" : ""}\n`,
  );
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
