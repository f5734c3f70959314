import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  accessSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { ConfigError } from "../../bytes/index.js";
import { QtestLink } from "./client.js";
import { QtestError } from "./client-error.js";
import { FifoLines } from "./client-lines.js";
import { QmpLink } from "./client-qmp.js";
import { SocketLines, socketThread } from "./client-sockets.js";
import { Watch } from "./client-watchdog.js";
import { type NetworkKind, type NetworkPeer, networkPeer, PairPeer } from "./qemu-network.js";

export interface QemuOptions {
  /** values of `-device`, such as `virtio-net-pci,netdev=n0,addr=04.0,romfile=` */
  readonly devices?: readonly string[];
  /** far ends to make, by the id of their `-netdev`; see `Qemu.network` */
  readonly networks?: { readonly [id: string]: NetworkKind };
  /** more of the command line, before the devices, such as `-blockdev` and its value */
  readonly args?: readonly string[];
  /** default `pc` */
  readonly machine?: string;
  /** MiB; default 128 */
  readonly memory?: number;
  /**
   * `tcg`, the default: any QEMU; a CPU that sleeps; time is real. `qtest`: no CPU, and time moves by `clockStep` only;
   * QEMU must have that accelerator, as a module in `modules` if need be.
   */
  readonly accel?: "tcg" | "qtest";
  /** folder with `accel-qtest-x86_64.so` */
  readonly modules?: string;
  /** the program; default `qemu-system-x86_64` */
  readonly program?: string;
  /** longest time for an answer, s; default 20 */
  readonly timeout?: number;
}

const NETWORK_KINDS: readonly NetworkKind[] = ["stream", "dgram", "pair"];
const PROGRAM = "qemu-system-x86_64";
const BIOS_SIZE = 0x1_0000;
/** behind stdin, stdout and stderr */
const FIRST_FD = 3;

/** The program's path. @throws QtestError `qemu-missing`, which says what to install */
export const findQemu = (program: string = PROGRAM): string => {
  const places = program.includes("/") ? [""] : (process.env.PATH ?? "").split(delimiter).map((dir) => `${dir}/`);
  for (const place of places)
    try {
      accessSync(place + program, constants.X_OK);
      return place + program;
    } catch {}
  throw new QtestError(
    "qemu-missing",
    `no ${program}: install Debian's package qemu-system-x86 (apt-get install qemu-system-x86)`,
  );
};

/** Such as `7.2`. @throws QtestError `qemu-missing` */
export const qemuVersion = (program?: string): string => {
  const text = execFileSync(findQemu(program), ["--version"], { encoding: "utf8" });
  return /version (\d+\.\d+)/.exec(text)?.[1] ?? "unknown";
};

/** A BIOS for a CPU that is to sleep: `cli; hlt; jmp` back to the `hlt` at the reset vector, `hlt` elsewhere. */
const haltingBios = (): Uint8Array => {
  const image = new Uint8Array(BIOS_SIZE).fill(0xf4);
  image.set([0xfa, 0xf4, 0xeb, 0xfc], 0xfff0);
  return image;
};

/** A pair of FIFOs that QEMU opens as `-chardev pipe`. */
class FifoPair {
  readonly path: string;
  #out: number;
  #in: number;

  constructor(path: string) {
    this.path = path;
    execFileSync("mkfifo", [`${path}.in`, `${path}.out`]);
    this.#out = openSync(`${path}.in`, constants.O_RDWR);
    this.#in = openSync(`${path}.out`, constants.O_RDONLY | constants.O_NONBLOCK);
  }

  write(text: string): void {
    writeSync(this.#out, text);
  }

  /** What is there; "" when nothing is, or QEMU has not opened it yet. */
  peek(): string {
    const chunk = Buffer.alloc(4096);
    try {
      return chunk.toString("latin1", 0, readSync(this.#in, chunk));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return "";
      throw error;
    }
  }

  /** Once QEMU holds its ends: blocking ones for us, which see it go. */
  lines(watch: Watch): FifoLines {
    const out = openSync(`${this.path}.in`, constants.O_WRONLY);
    const input = openSync(`${this.path}.out`, constants.O_RDONLY);
    this.close();
    return new FifoLines(out, input, watch);
  }

  close(): void {
    if (this.#out >= 0) closeSync(this.#out);
    if (this.#in >= 0) closeSync(this.#in);
    this.#out = this.#in = -1;
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));
/** Sleeps this thread. */
export const sleep = (ms: number): void => void Atomics.wait(sleeper, 0, 0, ms);

const running = new Set<ChildProcess>();
let hooked = false;
/** Has a process end with ours; where there is setpriv that holds for every way of ending. */
const endWithUs = (child: ChildProcess): void => {
  if (!hooked)
    process.on("exit", () => {
      for (const other of running) other.kill("SIGKILL");
    });
  hooked = true;
  running.add(child);
  child.once("exit", () => running.delete(child));
};

/** Whether it has ended; asked of the system, since the event loop does not turn while we are at work. */
const hasEnded = (child: ChildProcess): boolean => {
  if (child.exitCode !== null || child.signalCode !== null) return true;
  try {
    return /\) Z /.test(readFileSync(`/proc/${child.pid}/stat`, "latin1"));
  } catch {
    return false;
  }
};

/** A QEMU without a guest, which is what we are. `close` it: nothing else ends it before this process does. */
export class Qemu implements Disposable {
  readonly link: QtestLink;
  readonly qmp: QmpLink;
  readonly accel: "tcg" | "qtest";
  /** its command line, without what is needed to talk to it */
  readonly args: readonly string[];
  readonly #child: ChildProcess;
  readonly #watch: Watch;
  readonly #peers: ReadonlyMap<string, NetworkPeer>;

  /** @see startQemu */
  constructor(options: QemuOptions) {
    const {
      accel = "tcg",
      machine = "pc",
      memory = 128,
      devices = [],
      args = [],
      networks = {},
      timeout = 20,
    } = options;
    const wanted = Object.entries(networks);
    for (const [id, kind] of wanted)
      if (!NETWORK_KINDS.includes(kind))
        throw new ConfigError(
          "qemu-network",
          `network "${id}" of kind "${kind}": expected ${NETWORK_KINDS.join(", ")}`,
        );
    const program = findQemu(options.program);
    const directory = mkdtempSync(join(tmpdir(), "barwire-qemu-"));
    const undo: (() => void)[] = [() => rmSync(directory, { recursive: true, force: true })];
    try {
      const pairs: PairPeer[] = [];
      const peers = wanted.map(([id, kind]) => {
        if (kind !== "pair") return networkPeer(socketThread(), kind, id, directory);
        const pair = new PairPeer(id, FIRST_FD + pairs.length);
        pairs.push(pair);
        return pair;
      });
      undo.push(() => peers.forEach((peer) => void peer.close()));
      const qtest = new FifoPair(join(directory, "qtest"));
      const qmp = new FifoPair(join(directory, "qmp"));
      undo.push(
        () => qtest.close(),
        () => qmp.close(),
      );
      const bios = join(directory, "bios");
      writeFileSync(bios, haltingBios());
      this.accel = accel;
      this.args = [
        ...["-machine", machine, "-m", String(memory), "-nodefaults", "-display", "none"],
        ...peers.flatMap((peer) => peer.args),
        ...args,
        ...devices.flatMap((device) => ["-device", device]),
      ];
      const own = [
        ...(accel === "tcg" ? ["-accel", "tcg", "-bios", bios] : ["-accel", "qtest"]),
        ...["-chardev", `pipe,id=qtest0,path=${qtest.path}`, "-object", "qtest,id=qtest0,chardev=qtest0,log=none"],
        ...["-chardev", `pipe,id=qmp0,path=${qmp.path}`, "-mon", "chardev=qmp0,mode=control"],
      ];
      const errors = join(directory, "errors");
      const child = start(program, [...this.args, ...own], errors, options.modules, pairs.length);
      this.#child = child;
      for (const [i, pair] of pairs.entries()) pair.adopt(child.stdio[FIRST_FD + i]);
      undo.push(() => this.#kill());
      qtest.write("endianness\n");
      let greeting = "";
      for (let ms = 0; !greeting.endsWith("\n"); ms++) {
        greeting += qtest.peek();
        if (hasEnded(child) || ms > 1000 * timeout)
          throw new QtestError(
            "qemu-start",
            `${program} ended: ${readFileSync(errors, "utf8").trim() || "it said nothing"}`,
          );
        sleep(1);
      }
      const watch = new Watch(child.pid!, timeout);
      undo.push(() => watch[Symbol.dispose]());
      this.#watch = watch;
      const qtestLines = qtest.lines(watch);
      const qmpLines = qmp.lines(watch);
      undo.push(
        () => qtestLines[Symbol.dispose](),
        () => qmpLines[Symbol.dispose](),
      );
      this.link = new QtestLink(qtestLines);
      this.qmp = new QmpLink(qmpLines);
      for (const peer of peers) peer.connected();
      this.#peers = new Map(peers.map((peer) => [peer.id, peer]));
      rmSync(directory, { recursive: true, force: true }); // both sides have opened what they need
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
  }

  /** The far end of a `-netdev` of ours. */
  network(id: string): NetworkPeer {
    const peer = this.#peers.get(id);
    if (peer === undefined)
      throw new ConfigError(
        "qemu-network",
        `network "${id}": expected one of ${[...this.#peers.keys()].join(", ") || "none"}`,
      );
    return peer;
  }

  /** Ends QEMU, at once. Idempotent. */
  close(): void {
    this.link[Symbol.dispose]();
    this.qmp[Symbol.dispose]();
    this.#kill();
    this.#watch[Symbol.dispose]();
    for (const peer of this.#peers.values()) peer.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #kill(): void {
    this.#child.kill("SIGKILL");
    for (const end of this.#child.stdio.slice(FIRST_FD)) end?.destroy();
    running.delete(this.#child);
  }
}

/** Its errors go to a file: a pipe would want the event loop. @param pairs sockets that it inherits, from descriptor 3 on */
const start = (
  program: string,
  args: readonly string[],
  errors: string,
  modules: string | undefined,
  pairs: number,
): ChildProcess => {
  const stderr = openSync(errors, "w");
  // With setpriv (util-linux) QEMU goes when we go, whatever becomes of us; without, a signal may leave it behind.
  const guard = canGuard() ? ["setpriv", "--pdeathsig", "KILL", "--"] : [];
  const [command, ...rest] = [...guard, program, ...args];
  const env = modules === undefined ? process.env : { ...process.env, QEMU_MODULE_DIR: modules };
  const inherited = Array.from({ length: pairs }, () => "pipe" as const);
  const child = spawn(command!, rest, { stdio: ["ignore", "ignore", stderr, ...inherited], env });
  closeSync(stderr);
  child.on("error", () => {}); // told by hasEnded, or by the missing process id
  if (child.pid === undefined) throw new QtestError("qemu-start", `${program} cannot be started`);
  child.unref();
  endWithUs(child);
  return child;
};

let guardable: boolean | null = null;
const canGuard = (): boolean => {
  if (guardable === null)
    try {
      guardable = findQemu("setpriv") !== "";
    } catch {
      guardable = false;
    }
  return guardable;
};

/** Starts a QEMU whose guest is the caller. @throws QtestError `qemu-missing`, `qemu-start`; ConfigError `qemu-network` */
export const startQemu = (options: QemuOptions = {}): Qemu => new Qemu(options);

/**
 * Talks to a QEMU that somebody else has started with `-qtest unix:PATH,server=on` (or a tcp: one).
 * @param address `PATH` or `HOST:PORT`, with `unix:` or `tcp:` before it where wanted; @param seconds longest wait for an answer
 */
export const connectQtest = (address: string, seconds = 20): QtestLink =>
  new QtestLink(new SocketLines(address, seconds));
