import { type Options, type OptionValue, parseOptions } from "./option-string.js";
import { Properties, parseByteSize } from "./properties.js";
import { StartupError } from "./startup-error.js";

/** A character device as it was asked for, or the address of one that an option opens by itself. */
export interface ChardevConfig {
  readonly id: string;
  readonly backend: "unix" | "tcp" | "fd" | "pipe" | "stdio" | "null";
  /** of a Unix socket, or of a pipe without `.in` and `.out` */
  readonly path: string;
  readonly host: string;
  readonly port: number;
  readonly fd: number;
  /** listens instead of connecting */
  readonly server: boolean;
}

/** What a command line asks for. */
export interface ServerConfig {
  readonly machine: "pc" | "none";
  /** bytes of RAM */
  readonly ramSize: number;
  readonly cpus: number;
  readonly paused: boolean;
  readonly devices: readonly Options[];
  readonly netdevs: readonly Options[];
  readonly drives: readonly Options[];
  readonly blockdevs: readonly Options[];
  readonly chardevs: readonly ChardevConfig[];
  /** ids of the character devices that speak qtest: one at most */
  readonly qtest: string | null;
  /** ids of those that speak QMP */
  readonly monitors: readonly string[];
  /** file with the firmware, which is there to be read; null: none */
  readonly bios: string | null;
  /** file to which the conversation is written; null: none */
  readonly qtestLog: string | null;
  /** prints what the guest does wrong */
  readonly guestErrors: boolean;
}

/** bytes */
const DEFAULT_RAM = 128 * 2 ** 20;
const LEAST_RAM = 2 ** 20;
const MOST_RAM = 4 * 2 ** 30;

/** Options that change nothing here, by the number of their words. */
const IGNORED: { readonly [option: string]: 0 | 1 } = {
  "-nodefaults": 0,
  "-no-user-config": 0,
  "-nographic": 0,
  "-no-shutdown": 0,
  "-no-reboot": 0,
  "-audio": 1,
  "-display": 1,
  "-run-with": 1,
  "-vga": 1,
  "-serial": 1,
  "-parallel": 1,
  "-cpu": 1,
  "-name": 1,
  "-rtc": 1,
  "-uuid": 1,
};
const NOTHING_ELSE: { readonly [option: string]: readonly string[] } = {
  "-net": ["none"],
  "-nic": ["none"],
  "-monitor": ["none"],
};

const PC_NAMES = ["pc", "pc-i440fx-7.2"];
export const MACHINE_ALIASES = PC_NAMES;

const hostAndPort = (text: string, owner: string): { readonly host: string; readonly port: number } => {
  const match = /^(.*):(\d+)$/.exec(text);
  const port = Number(match?.[2] ?? Number.NaN);
  if (match === null || port > 0xffff) throw new StartupError(`${owner}: ${text}; expected HOST:PORT`);
  return { host: match[1]! === "" ? "127.0.0.1" : match[1]!, port };
};

const NO_ADDRESS = { path: "", host: "", port: 0, fd: -1, server: false };

/** `unix:PATH`, `tcp:HOST:PORT`, each with `,server=on`; `stdio`, `null`, or the id of a character device. */
const inlineChardev = (text: string, id: string): ChardevConfig | null => {
  const [kind, rest = ""] = [text.split(":", 1)[0]!, text.slice(text.indexOf(":") + 1)];
  if (text === "stdio" || text === "null") return { ...NO_ADDRESS, id, backend: text };
  if (kind !== "unix" && kind !== "tcp") return null;
  const properties = new Properties(kind, parseOptions(rest, "address"));
  const address = properties.required("address");
  const server = properties.boolean("server") ?? false;
  properties.ignore("wait", "nowait");
  properties.done();
  if (kind === "unix") return { ...NO_ADDRESS, id, backend: "unix", path: address, server };
  return { ...NO_ADDRESS, id, backend: "tcp", ...hostAndPort(address, "tcp"), server };
};

const chardev = (text: string): ChardevConfig => {
  const properties = new Properties("-chardev", parseOptions(text, "backend"));
  const backend = properties.oneOf("backend", ["socket", "pipe", "stdio", "null"] as const) ?? "null";
  const id = properties.required("id");
  let config: ChardevConfig = { ...NO_ADDRESS, id, backend: backend === "socket" ? "unix" : backend };
  if (backend === "pipe") config = { ...config, path: properties.required("path") };
  if (backend === "socket") {
    const server = properties.boolean("server") ?? false;
    properties.ignore("wait", "nowait", "reconnect", "nodelay");
    const fd = properties.integer("fd", 0, 0xffff);
    if (properties.has("path")) config = { ...config, path: properties.required("path"), server };
    else if (fd !== undefined) config = { ...config, backend: "fd", fd };
    else {
      const host = properties.string("host") ?? "127.0.0.1";
      config = { ...config, backend: "tcp", host, port: properties.integer("port", 0, 0xffff) ?? 0, server };
    }
  }
  properties.ignore("signal", "mux");
  properties.done();
  return config;
};

const ramSize = (text: string): number => {
  const properties = new Properties("-m", parseOptions(text, "size"));
  const size = parseByteSize(properties.string("size") ?? "128", 2 ** 20);
  properties.ignore("slots", "maxmem");
  properties.done();
  if (!(size >= LEAST_RAM && size <= MOST_RAM)) throw new StartupError(`-m ${text}: expected 1M … 4G`);
  return size;
};

const cpuCount = (text: string): number => {
  const properties = new Properties("-smp", parseOptions(text, "cpus"));
  const cpus = properties.integer("cpus", 1, 255) ?? 1;
  properties.ignore("maxcpus", "sockets", "cores", "threads", "dies", "clusters");
  properties.done();
  return cpus;
};

const machineName = (text: string): "pc" | "none" => {
  const properties = new Properties("-machine", parseOptions(text.trim(), "type"));
  const type = properties.string("type") ?? "pc";
  properties.oneOf("accel", ["qtest"]);
  properties.ignore("usb", "hpet", "vmport", "smm", "acpi", "graphics");
  properties.done();
  if (type === "none") return "none";
  if (PC_NAMES.includes(type)) return "pc";
  throw new StartupError(`unsupported machine type '${type}'; there are pc and none`);
};

/**
 * Reads the part of QEMU's command line that qtest clients use. An option that is not among it is refused: a test would
 * wait for ever for what was left out in silence.
 * @throws StartupError naming the option
 */
export const parseCommandLine = (args: readonly string[]): ServerConfig => {
  const config = {
    machine: "pc" as "pc" | "none",
    ramSize: DEFAULT_RAM,
    cpus: 1,
    paused: false,
    devices: [] as Map<string, OptionValue>[],
    netdevs: [] as Map<string, OptionValue>[],
    drives: [] as Map<string, OptionValue>[],
    blockdevs: [] as Map<string, OptionValue>[],
    chardevs: [] as ChardevConfig[],
    qtest: null as string | null,
    monitors: [] as string[],
    bios: null as string | null,
    qtestLog: null as string | null,
    guestErrors: false,
  };
  const speaksQtest = (id: string): void => {
    if (config.qtest !== null) throw new StartupError("there can be one qtest connection only");
    config.qtest = id;
  };
  const opened = (text: string, id: string): string => {
    const inline = inlineChardev(text, id);
    if (inline === null) return text.replace(/^chardev:/, "");
    config.chardevs.push(inline);
    return id;
  };
  const HANDLERS: { readonly [option: string]: (value: string) => void } = {
    "-machine": (value) => {
      config.machine = machineName(value);
    },
    "-accel": (value) => {
      if (value.split(",", 1)[0] !== "qtest") throw new StartupError(`-accel ${value}: expected qtest`);
    },
    "-m": (value) => {
      config.ramSize = ramSize(value);
    },
    "-smp": (value) => {
      config.cpus = cpuCount(value);
    },
    "-bios": (value) => {
      config.bios = value;
    },
    "-device": (value) => void config.devices.push(parseOptions(value, "driver")),
    "-netdev": (value) => void config.netdevs.push(parseOptions(value, "type")),
    "-drive": (value) => void config.drives.push(parseOptions(value, null)),
    "-blockdev": (value) => void config.blockdevs.push(parseOptions(value, null)),
    "-chardev": (value) => void config.chardevs.push(chardev(value)),
    "-qtest": (value) => speaksQtest(opened(value, "qtest")),
    "-qtest-log": (value) => {
      config.qtestLog = ["none", "/dev/null"].includes(value) ? null : value;
    },
    "-qmp": (value) => void config.monitors.push(opened(value, `qmp${config.monitors.length}`)),
    "-mon": (value) => {
      const properties = new Properties("-mon", parseOptions(value, "chardev"));
      config.monitors.push(properties.required("chardev"));
      if (properties.oneOf("mode", ["control"]) === undefined) throw new StartupError("-mon: expected mode=control");
      properties.ignore("pretty");
      properties.done();
    },
    "-object": (value) => {
      const properties = new Properties("-object", parseOptions(value, "qom-type"));
      if (properties.string("qom-type") !== "qtest") throw new StartupError(`-object ${value}: expected qtest`);
      speaksQtest(properties.required("chardev"));
      const log = properties.string("log");
      if (log !== undefined && log !== "none" && log !== "/dev/null") config.qtestLog = log;
      properties.ignore("id");
      properties.done();
    },
    "-d": (value) => {
      if (value !== "guest_errors") throw new StartupError(`-d ${value}: expected guest_errors`);
      config.guestErrors = true;
    },
  };
  const ALIASES: { readonly [option: string]: string } = { "-M": "-machine" };

  for (let i = 0; i < args.length; i++) {
    const given = args[i]!;
    if (given.startsWith("--as=")) continue; // for libqtest, which reads the architecture off the last word
    const dashed = given.replace(/^--(?=[a-z])/, "-");
    const option = ALIASES[dashed] ?? dashed;
    if (option === "-S") {
      config.paused = true;
      continue;
    }
    const ignored = Object.hasOwn(IGNORED, option) ? IGNORED[option] : undefined;
    if (ignored === 0) continue;
    const known = ignored === 1 || Object.hasOwn(HANDLERS, option) || Object.hasOwn(NOTHING_ELSE, option);
    if (!known) throw new StartupError(`${given}: invalid option`);
    const value = args[++i];
    if (value === undefined) throw new StartupError(`${given}: requires an argument`);
    if (ignored === 1) continue;
    const only = Object.hasOwn(NOTHING_ELSE, option) ? NOTHING_ELSE[option]! : undefined;
    if (only === undefined) HANDLERS[option]!(value);
    else if (!only.includes(value)) throw new StartupError(`${given} ${value}: expected ${only.join(", ")}`);
  }
  for (const id of [...config.monitors, ...(config.qtest === null ? [] : [config.qtest])])
    if (!config.chardevs.some((known) => known.id === id)) throw new StartupError(`chardev "${id}" not found`);
  return config;
};
