import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { NIC_NAMES_HELP, NICS, type NicName, nicName, parse, parseSize, UsageError } from "../../../cli/index.js";
import { CMDLINE } from "../guest/boot.js";
import { MODES, type Mode, makeCards } from "../guest/cards.js";
import { IMAGES } from "../guest/terminal.js";
import { V86_RELEASE } from "../index.js";
import { type CardConfig, IMAGE_NAMES, type ImageName, type WebConfig } from "./page/config.js";

export const HELP = `usage: npm run lab:web -- [options]

Serves a page on this machine: v86 with a Debian guest and cards of this project, its console, a live picture of the PCI
bus, counters, plots and packets. The guest is built once from packages (needs apt; kept in .cache/guest).

  --port PORT        default 8086; 0: any that is free
  --card NAMES       which cards, with commas between; default re,vtnet. The page lets choose, too:
                     ${NIC_NAMES_HELP.replace(", or", ",\n                     or").replace(/(.{70,}?), /g, "$1,\n                     ")}
  --mode MODE        ${MODES.join(", ")}: what vtnet is; default transitional
  --net WHERE        where the first card's cable leads:
                     peer          a station in the page, as for every other card; the default
                     inbrowser     other tabs of this browser
                     fetch, ws://… wss://… wisp://… wisps://…   an adapter of v86, which may reach the network
  --fresh            boot in any case; otherwise the page goes on from the state it saved after its last boot
  --bzimage FILE     another kernel than the guest's, with --initrd FILE and --cmdline TEXT
  --hda FILE         a disk to boot instead; --cdrom FILE a CD
  --memory SIZE      default 192M
  --json             print one line of JSON with the address, instead of text
  --help             this text

Exit status: 2 wrong usage or something is missing; otherwise Control-C ends it.
`;

/** What the command line says. */
export interface WebOptions {
  readonly port: number;
  readonly cards: readonly NicName[];
  readonly mode: Mode;
  readonly net: string;
  readonly fresh: boolean;
  /** the user's own; empty: the project's guest */
  readonly images: { readonly [name in ImageName]?: string };
  readonly cmdline: string;
  readonly memory: number;
  readonly json: boolean;
}

/** The cards of the page, where nothing else is said. */
const CARDS = "re,vtnet";
const MEMORY = "192M";
/** Addresses that v86's own adapters give their guests. */
const ADAPTER_GUEST = "192.168.86.15";
const ADAPTER_ROUTER = "192.168.86.1";
/** The kernel's messages are part of the show, though `CMDLINE` keeps them back. */
const LOUD = "loglevel=6";

const names = (text: string): NicName[] => text.split(",").map(nicName);

/** @returns null where help is wanted @throws UsageError */
export function parseOptions(args: readonly string[]): WebOptions | null {
  const { values } = parse({
    args: [...args],
    options: {
      port: { type: "string", default: "8086" },
      card: { type: "string", default: CARDS },
      mode: { type: "string", default: "transitional" },
      net: { type: "string", default: "peer" },
      fresh: { type: "boolean", default: false },
      bzimage: { type: "string" },
      initrd: { type: "string" },
      hda: { type: "string" },
      cdrom: { type: "string" },
      cmdline: { type: "string", default: "console=ttyS0 console=tty0" },
      memory: { type: "string", default: MEMORY },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  const port = /^\d+$/.test(values.port) ? Number(values.port) : Number.NaN;
  if (!(port <= 0xffff)) throw new UsageError(`--port ${values.port}: expected 0 … 65535`);
  if (!MODES.includes(values.mode as Mode))
    throw new UsageError(`no mode "${values.mode}"; there are ${MODES.join(", ")}`);
  if (!/^(peer|inbrowser|fetch|wss?:\/\/.+|wisps?:\/\/.+)$/.test(values.net))
    throw new UsageError(
      `--net "${values.net}": expected peer, inbrowser, fetch, ws://…, wss://…, wisp://… or wisps://…`,
    );
  const images: { [name in ImageName]?: string } = {};
  for (const name of ["bzimage", "initrd", "hda", "cdrom"] as const) {
    const path = values[name];
    if (path === undefined) continue;
    if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true)
      throw new UsageError(`--${name} ${path}: no such file`);
    images[name] = path;
  }
  if (images.initrd !== undefined && images.bzimage === undefined) throw new UsageError("--initrd needs --bzimage");
  const memory = parseSize(values.memory);
  if (memory > 2 ** 31 || memory % 2 ** 20 !== 0)
    throw new UsageError(`--memory ${values.memory}: expected whole MiB, up to 2G`);
  const cards = names(values.card);
  makeCards(cards, values.mode as Mode); // complains of too many
  const { fresh, cmdline, json, net } = values;
  return { port, cards, mode: values.mode as Mode, net, fresh, images, cmdline, memory, json };
}

/** What the page is told. @param query `cards` and `mode` of the address, `fresh` @throws UsageError */
export function configFor(options: WebOptions, files: ReadonlyMap<string, string>, query: URLSearchParams): WebConfig {
  const mode = (query.get("mode") ?? options.mode) as Mode;
  if (!MODES.includes(mode)) throw new UsageError(`no mode "${mode}"`);
  const chosen = query.get("cards");
  const { net, memory } = options;
  const cards = makeCards(chosen === null ? options.cards : names(chosen), mode).map((card, i): CardConfig => {
    const isAdapter = i === 0 && net !== "peer";
    const { name, slot, peerMac } = card;
    return {
      name,
      title: titleOf(card.name as NicName, mode),
      slot,
      mac: [...card.card.mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":"),
      guestAddress: isAdapter ? ADAPTER_GUEST : card.guestAddress,
      peerAddress: isAdapter ? ADAPTER_ROUTER : card.peerAddress,
      peerMac,
    };
  });
  const debian = Object.keys(options.images).length === 0;
  const cmdline = debian ? `${CMDLINE} ${LOUD}` : options.cmdline;
  const key = (): string => {
    const stamp = readFileSync(join(IMAGES, "stamp"), "utf8");
    const told = JSON.stringify([stamp, V86_RELEASE, cmdline, memory, cards, mode]);
    return createHash("sha256").update(told).digest("hex").slice(0, 16);
  };
  const images: { [name in ImageName]?: { url: string; size: number } } = {};
  for (const name of IMAGE_NAMES) {
    const path = files.get(`/image/${name}`);
    const info = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false });
    if (info !== undefined) images[name] = { url: `/image/${name}`, size: info.size };
  }
  if (debian) delete images.vga_bios; // it has no use for a screen, and boots faster without
  return {
    cards,
    mode,
    net,
    names: Object.keys(NICS).map((name) => ({ name, title: titleOf(name as NicName, mode) })),
    images,
    cmdline,
    memory,
    debian,
    state: debian && !options.fresh && !query.has("fresh") ? `/state/${key()}` : null,
  };
}

/** As the registry has it, with what the mode makes of a virtio card. */
const titleOf = (name: NicName, mode: Mode): string => (name === "vtnet" ? `virtio-net, ${mode}` : NICS[name].title);

/** The files that are served below `/image/`. @param vgaBios null: there is none */
export function imageFiles(options: WebOptions, vgaBios: string | null): ReadonlyMap<string, string> {
  const own = Object.keys(options.images).length === 0;
  const paths: { [name in ImageName]?: string } = {
    bios: join(IMAGES, "bios.bin"),
    ...(vgaBios === null ? {} : { vga_bios: vgaBios }),
    ...(own ? { bzimage: join(IMAGES, "bzimage"), initrd: join(IMAGES, "initrd") } : options.images),
  };
  return new Map(Object.entries(paths).map(([name, path]) => [`/image/${name}`, path]));
}
