/**
 * Boots a Debian guest in v86 with our cards and lets Linux's own drivers say what they think of them.
 *
 *   npm run guest:probe                 what the drivers print, and three pings through each card
 *   npm run guest:probe -- --json       the same as one JSON object
 *   npm run guest:probe -- --help
 *
 * Exit status: 0 both drivers bound and all pings were answered, 1 not so, 2 wrong usage or something is missing.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { NICS } from "../../../cli/index.js";
import type { Diagnostic, EndpointLimits, NetEndpoint, NetPort, Nic, Verdict } from "../../../contract/index.js";
import { connect, Responder } from "../../../net/index.js";
import { attachV86, type V86Attachment } from "../index.js";
import { bootGuest, type Guest, GuestError } from "./boot.js";

const HELP = `usage: npm run guest:probe -- [options]

Builds a Debian guest (once; kept in .cache/guest), boots it in v86 with an RTL8169SB and a transitional virtio-net card,
and prints what Linux's r8169 and virtio_net say about them and what came back of three pings through each.

  --json             one JSON object on standard output
  --timeout SECONDS  for everything after the build (default 180)
  --console          show the guest's serial port on standard error
  --help             this text
`;

const PINGS = 3;
const IMAGES = fileURLToPath(new URL("../../../../.cache/guest", import.meta.url));
const COMPLAINTS = /nobody cared|WARNING|BUG:|Oops|NETDEV WATCHDOG|Call Trace/;

/**
 * A cable that takes its time: a frame from the card goes on in a later turn of the event loop, so that what comes back
 * reaches the card as a frame from a socket would, while no guest code runs.
 */
class Patience implements NetPort {
  readonly #behind: NetPort;

  constructor(behind: NetPort) {
    this.#behind = behind;
  }
  offer(bytes: Uint8Array, start: number, length: number): Verdict {
    const frame = bytes.slice(start, start + length);
    setImmediate(() => {
      this.#behind.offer(frame, 0, frame.length, null, 0);
      this.#behind.endBatch();
    });
    return "taken";
  }
  endBatch(): void {}
  ready(): void {}
  accepts(): EndpointLimits {
    return this.#behind.accepts();
  }
  attach(far: NetEndpoint | null): void {
    this.#behind.attach(far);
  }
}

/** A card, what Linux is to make of it, and the addresses of both ends of its cable. */
interface Trial {
  readonly driver: string;
  readonly slot: number;
  readonly card: Nic;
  readonly responder: Responder;
  readonly guestAddress: string;
  readonly peerAddress: string;
}

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

function makeTrials(): Trial[] {
  return [
    {
      driver: "r8169",
      slot: 15,
      card: NICS.re.create({ mac: "52:54:00:03:99:00" }),
      responder: new Responder({ mac: "52:54:00:00:02:02", ip: "10.0.2.2" }),
      guestAddress: "10.0.2.15",
      peerAddress: "10.0.2.2",
    },
    {
      driver: "virtio_net",
      slot: 16,
      card: NICS.vtnet.create({ mac: "52:54:00:33:3b:d3", vectors: 0 }),
      responder: new Responder({ mac: "52:54:00:00:03:02", ip: "10.0.3.2" }),
      guestAddress: "10.0.3.15",
      peerAddress: "10.0.3.2",
    },
  ];
}

/** Asks the guest one thing after another, all within one deadline. */
class Interview {
  readonly #guest: Guest;
  readonly #deadline: number;

  constructor(guest: Guest, deadline: number) {
    this.#guest = guest;
    this.#deadline = deadline;
  }

  async lines(command: string): Promise<string[]> {
    const timeoutMs = Math.max(1, this.#deadline - performance.now());
    const { output } = await this.#guest.command(command, { timeoutMs });
    return output.split("\n").filter((line) => line !== "");
  }

  async line(command: string): Promise<string> {
    return (await this.lines(command))[0] ?? "";
  }
}

async function tryInterface(guest: Interview, { driver, guestAddress, peerAddress }: Trial): Promise<Interface> {
  const find = `for n in /sys/class/net/*; do case $(readlink $n/device/driver) in */${driver}) basename $n;; esac; done`;
  const name = await guest.line(find);
  if (name === "")
    return { driver, name, pci: "", mac: "", carrier: false, replies: [], summary: "no interface of this driver" };
  const sys = `/sys/class/net/${name}`;
  await guest.line(`ip addr add ${guestAddress}/24 dev ${name} && ip link set ${name} up`);
  // A driver may look at its PHY once a second only.
  const waitForCarrier = `for i in $(seq 50); do [ "$(cat ${sys}/carrier)" = 1 ] && break; sleep 0.1; done; cat ${sys}/carrier`;
  const carrier = (await guest.line(waitForCarrier)) === "1";
  const answers = await guest.lines(`ping -c ${PINGS} -W 3 ${peerAddress}`);
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
  const trials = makeTrials();
  const cables = trials.map(({ card, responder }) => connect(card.net, new Patience(responder)));
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
const aboutOurCards = (line: string, trials: readonly Trial[]): boolean =>
  !line.includes("module verification") &&
  (/r8169|virtio|eth\d/.test(line) ||
    trials.some(({ slot }) => line.includes(`0000:00:${slot.toString(16).padStart(2, "0")}.0`)));

/** Counts seconds on a terminal; elsewhere says nothing. */
function showProgress(what: string): () => void {
  if (!process.stderr.isTTY) return () => {};
  const started = performance.now();
  const timer = setInterval(() => {
    process.stderr.write(`\r${what}: ${Math.round((performance.now() - started) / 1000)} s `);
  }, 500);
  return () => {
    clearInterval(timer);
    process.stderr.write("\r\x1b[K");
  };
}

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

/** @returns exit status of build.sh: 0, 1, or 2 where something is missing */
function build(): Promise<number> {
  const script = fileURLToPath(new URL("build.sh", import.meta.url));
  return new Promise((resolve) => {
    const child = spawn("bash", [script, IMAGES], { stdio: ["ignore", "ignore", "inherit"] });
    child.on("error", () => {
      process.stderr.write("guest: building the guest needs bash\n");
      resolve(2);
    });
    child.on("close", (status) => resolve(status ?? 1));
  });
}

async function main(): Promise<number> {
  let options: { help?: boolean; json?: boolean; console?: boolean; timeout?: string };
  try {
    ({ values: options } = parseArgs({
      options: {
        help: { type: "boolean" },
        json: { type: "boolean" },
        console: { type: "boolean" },
        timeout: { type: "string" },
      },
    }));
  } catch (error) {
    process.stderr.write(`guest:probe: ${(error as Error).message.split(". ")[0]} (--help tells the usage)\n`);
    return 2;
  }
  if (options.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const seconds = Number(options.timeout ?? 180);
  if (!(seconds > 0)) {
    process.stderr.write(`guest:probe: --timeout ${options.timeout}: expected a number of seconds\n`);
    return 2;
  }
  const built = await build();
  if (built !== 0) return built;
  try {
    const report = await probe({ timeoutMs: seconds * 1000, console: options.console === true });
    if (options.json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else print(report);
    return report.ok ? 0 : 1;
  } catch (error) {
    if (!(error instanceof GuestError)) throw error;
    process.stderr.write(`guest:probe: ${error.message}\n`);
    return 1;
  }
}

process.exitCode = await main();
