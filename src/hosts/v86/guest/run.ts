/**
 * A Debian guest in v86 with our cards: a shell in it, one command, or a transfer over each card.
 *
 *   npm run guest                                      a shell
 *   npm run guest -- --card all -c 'ip link'           one command, whose status is the exit status
 *   npm run guest -- --help
 *
 * Exit status: that of the (last) command; with a transfer 0 when all digests are equal, else 1; 2 wrong usage or something
 * is missing; 1 when the guest did not come up.
 */
import { createInterface } from "node:readline";
import { NIC_NAMES_HELP, PcapFile, parse, parseSize, UsageError } from "../../../cli/index.js";
import type { Diagnostic, NetPort } from "../../../contract/index.js";
import { HostClock } from "../../../machine/index.js";
import { connect, Responder, type Wire } from "../../../net/index.js";
import { connectStream, StreamError } from "../../node/index.js";
import { attachV86, type V86Attachment } from "../index.js";
import { bootGuest, type Guest, GuestError } from "./boot.js";
import { ALL_CARDS, cardNames, type GuestCard, MODES, type Mode, makeCards } from "./cards.js";
import { COMPLAINTS, Interview } from "./interview.js";
import { MissingTool, startPasst, Unpadded } from "./passt.js";
import { socketOf } from "./socket-of.js";
import { TcpPeer } from "./tcp-peer.js";
import { buildGuest, IMAGES, showProgress } from "./terminal.js";
import { LoopbackServices, type TcpHost, Transfers } from "./transfer.js";

const HELP = `usage: npm run guest -- [options]

Boots a Debian guest in v86 (built once from packages; kept in .cache/guest) with cards of this project on its bus, their
interfaces up, and runs a shell in it. Lines from a pipe are run one after another.

  --card NAMES       all (${ALL_CARDS.join(", ")}; the default), or some with commas between:
                     ${NIC_NAMES_HELP.replace(", or", ",\n                     or")}
  --mode MODE        ${MODES.join(", ")}: what vtnet is; default transitional
  -c COMMAND         runs this line of shell and exits with its status
  --transfer SIZE    moves so much over TCP each way over each card and compares digests
  --soak             the same with 200M, and looks whether the memory of this process stays flat
  --net WHERE        what the first card's cable leads to:
                     peer          a station in this process, which does TCP; the default, and what other cards get
                     responder     one that answers ARP and pings only
                     passt         this machine's own services, by the program passt (as root)
                     socket:PATH, socket:HOST:PORT  a socket in QEMU's stream format: another QEMU, vde, …
  --pcap FILE        writes every frame of every card into this pcapng file
  --console          show the guest's serial port from the start
  --timeout SECONDS  for the boot, and then for each command (default 600)
  --help             this text

The first card has 10.0.2.15 and its peer 10.0.2.2, the second 10.0.3.15 and 10.0.3.2, and so on.
`;

/** How much more memory a soak may leave the process with: garbage that is not collected yet, and code. */
const FLAT = 96 * 2 ** 20;

interface Options {
  readonly cards: readonly GuestCard[];
  readonly net: string;
  readonly pcap: string | null;
  readonly command: string | null;
  readonly transfer: number;
  readonly soak: boolean;
  readonly console: boolean;
  readonly timeoutMs: number;
}

/** What is plugged into the first card, and what serves its transfers (null: nothing does). */
interface FarEnd {
  readonly port: NetPort;
  readonly host: TcpHost | null;
}

const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** @param ends takes what is to be ended with the guest, in order */
async function farEnd(net: string, card: GuestCard, ends: Disposable[]): Promise<FarEnd> {
  const address = { mac: card.peerMac, ip: card.peerAddress };
  if (net === "responder") return { port: new Responder(address), host: null };
  if (net === "peer") {
    const peer = new TcpPeer(address);
    ends.push(peer);
    return { port: peer, host: peer };
  }
  let host: LoopbackServices | null = null;
  let socket = socketOf(net);
  if (net === "passt") {
    const passt = await startPasst({ guest: card.guestAddress, gateway: card.peerAddress });
    ends.push(passt);
    socket = { path: passt.path };
    host = new LoopbackServices();
    ends.push(host);
  }
  const port = await connectStream(socket);
  ends.unshift(port);
  return { port: net === "passt" ? new Unpadded(port) : port, host };
}

async function run(options: Options): Promise<number> {
  const { cards, timeoutMs } = options;
  const ends: Disposable[] = [];
  const cables: Wire[] = [];
  const diagnostics: Diagnostic[] = [];
  const clock = new HostClock(() => (performance.timeOrigin % 1000) + performance.now());
  const pcap =
    options.pcap === null ? null : new PcapFile(options.pcap, clock, Math.floor(performance.timeOrigin / 1000));
  let attachment: V86Attachment | undefined;
  let stopProgress = (): void => {};
  try {
    const hosts: (TcpHost | null)[] = [];
    for (const [i, card] of cards.entries()) {
      const { port, host } = await farEnd(i === 0 ? options.net : "peer", card, ends);
      cables.push(pcap?.connect(card.name, card.card, port) ?? connect(card.card.net, port));
      hosts.push(host);
    }
    const show = new ConsoleView(options.console);
    if (!options.console) stopProgress = showProgress("booting the guest", () => show.lastLine);
    await using guest = await bootGuest({
      images: IMAGES,
      timeoutMs,
      attach: (emulator) => {
        attachment = attachV86(emulator, { cards, report: (diagnostic) => diagnostics.push(diagnostic) });
      },
      onConsole: (text) => show.take(text),
    });
    const interview = new Interview(guest, performance.now() + timeoutMs);
    const names: string[] = [];
    for (const card of cards) {
      const name = await interview.interfaceOf(card);
      names.push(name);
      if (name === "") say(`guest: no driver took ${card.name} in slot ${card.slot}`);
      else if (!(await interview.bringUp(name, card))) say(`guest: ${name} (${card.name}) has no carrier`);
    }
    await interview.run(`ip route add default via ${cards[0]?.peerAddress ?? ""} 2>/dev/null`);
    stopProgress();
    let status: number;
    if (options.transfer > 0) status = await transfers(options, interview, hosts, names);
    else {
      show.open();
      if (options.command !== null) status = (await guest.command(options.command, { timeoutMs })).status;
      else status = await shell(guest, timeoutMs);
      show.close();
    }
    for (const { source, code, value } of diagnostics) say(`guest: ${source} reports ${code} (${value})`);
    return status;
  } finally {
    stopProgress();
    attachment?.detach();
    for (const cable of cables) cable[Symbol.dispose]();
    for (const end of ends) end[Symbol.dispose]();
    pcap?.[Symbol.dispose]();
  }
}

/** The guest's serial port on our standard output, without what `init` adds for us; closed until commands run. */
class ConsoleView {
  /** of the boot, short enough for a line of progress */
  lastLine = "";
  #open = false;
  #line = "";
  #inRecord = false;
  readonly #always: boolean;

  constructor(always: boolean) {
    this.#always = always;
  }

  open(): void {
    this.#open = true;
  }

  close(): void {
    this.#open = false;
  }

  take(text: string): void {
    if (text === "\n") {
      this.lastLine = this.#line.slice(0, 60);
      this.#line = "";
    } else if (text >= " ") this.#line += text;
    if (text === "\x1e") this.#inRecord = true;
    if (this.#inRecord) {
      if (text === "\n") this.#inRecord = false;
    } else if (this.#open) process.stdout.write(text);
    else if (this.#always) process.stderr.write(text);
  }
}

/** Runs the lines of standard input, at a prompt where that is a terminal. @returns status of the last one */
async function shell(guest: Guest, timeoutMs: number): Promise<number> {
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const lines = createInterface({
    input: process.stdin,
    ...(terminal ? { output: process.stdout } : {}),
    prompt: "guest# ",
  });
  if (terminal) say("A shell in the guest, one line at a time; Control-D ends it.");
  let status = 0;
  if (terminal) lines.prompt();
  for await (const line of lines) {
    if (line.trim() !== "") ({ status } = await guest.command(line, { timeoutMs }));
    if (terminal) lines.prompt();
  }
  return status;
}

async function transfers(
  { cards, transfer, soak }: Options,
  guest: Interview,
  hosts: readonly (TcpHost | null)[],
  names: readonly string[],
): Promise<number> {
  let failed = 0;
  const out = (text: string): void => void process.stdout.write(`${text}\n`);
  const memory = (): number => {
    (globalThis as { gc?: () => void }).gc?.();
    const { rss } = process.memoryUsage();
    return rss;
  };
  for (const [i, card] of cards.entries()) {
    const host = hosts[i];
    if (host === null || host === undefined || names[i] === "") {
      out(`${card.name}: nothing at the far end that takes a transfer`);
      failed++;
      continue;
    }
    const moves = new Transfers(host);
    // The first megabytes bring buffers and translated code; what comes after must not add to them.
    if (soak) await moves.toGuest(guest, card.peerAddress, 16 << 20);
    if (soak) await moves.toHost(guest, card.peerAddress, 16 << 20);
    const before = memory();
    for (const direction of ["toGuest", "toHost"] as const) {
      const done = showProgress(`${card.name} ${direction}`, () => `${Math.floor((100 * moves.moved) / transfer)} %`);
      const { ok, detail } = await moves[direction](guest, card.peerAddress, transfer);
      done();
      if (!ok) failed++;
      const way = direction === "toGuest" ? "host to guest" : "guest to host";
      out(
        `${card.name.padEnd(8)} ${names[i]}  ${way}  ${transfer} bytes  ${ok ? "equal digests" : "FAILED"}  ${detail}`,
      );
    }
    if (!soak) continue;
    const grown = memory() - before;
    const flat = grown <= FLAT;
    if (!flat) failed++;
    out(
      `${card.name.padEnd(8)} ${names[i]}  memory ${(grown / 2 ** 20).toFixed(0)} MiB more than after 16 MiB  ${flat ? "flat" : "FAILED"}`,
    );
  }
  const complaints = (await guest.lines("dmesg")).filter((line) => COMPLAINTS.test(line));
  for (const line of complaints) out(`guest: ${line}`);
  return failed === 0 && complaints.length === 0 ? 0 : 1;
}

function optionsOf(args: readonly string[]): Options | null {
  const { values } = parse({
    args: [...args],
    options: {
      card: { type: "string", default: "all" },
      mode: { type: "string", default: "transitional" },
      command: { type: "string", short: "c" },
      transfer: { type: "string" },
      soak: { type: "boolean", default: false },
      net: { type: "string", default: "peer" },
      pcap: { type: "string" },
      console: { type: "boolean", default: false },
      timeout: { type: "string", default: "600" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  if (!MODES.includes(values.mode as Mode))
    throw new UsageError(`no mode "${values.mode}"; there are ${MODES.join(", ")}`);
  if (!/^(peer|responder|passt|socket:.+)$/.test(values.net))
    throw new UsageError(`--net "${values.net}": expected peer, responder, passt, socket:PATH or socket:HOST:PORT`);
  socketOf(values.net);
  const seconds = Number(values.timeout);
  if (!(seconds > 0)) throw new UsageError(`--timeout ${values.timeout}: expected a number of seconds`);
  const transfer = values.transfer !== undefined ? parseSize(values.transfer) : values.soak ? parseSize("200M") : 0;
  if (transfer % 2 ** 20 !== 0) throw new UsageError(`--transfer ${values.transfer}: expected whole MiB`);
  if (transfer > 0 && values.command !== undefined) throw new UsageError("a command or a transfer, not both");
  return {
    cards: makeCards(cardNames(values.card), values.mode as Mode),
    net: values.net,
    pcap: values.pcap ?? null,
    command: values.command ?? null,
    transfer,
    soak: values.soak,
    console: values.console,
    timeoutMs: seconds * 1000,
  };
}

async function main(): Promise<number> {
  const options = optionsOf(process.argv.slice(2));
  if (options === null) {
    process.stdout.write(HELP);
    return 0;
  }
  const built = await buildGuest();
  return built !== 0 ? built : run(options);
}

try {
  process.exitCode = await main();
} catch (error) {
  const usage = error instanceof UsageError;
  if (!(usage || error instanceof GuestError || error instanceof StreamError || error instanceof MissingTool))
    throw error;
  say(`guest: ${error.message}${usage ? " (--help tells the usage)" : ""}`);
  process.exitCode = usage || error instanceof MissingTool ? 2 : 1;
}
