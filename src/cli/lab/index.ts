import { closeSync, openSync, statSync } from "node:fs";
import { lspci } from "../../guest/index.js";
import { VirtualClock } from "../../machine/index.js";
import { connect } from "../../net/index.js";
import { parse, parseSize, parseUint32, UsageError } from "../args.js";
import { diskLab } from "../disk.js";
import { pciListings } from "../lspci.js";
import { NIC_NAMES_HELP, type NicName, nicName, SEED_NICS } from "../registry.js";
import { matrixLab } from "./matrix.js";
import { reMatrixLab } from "./matrix-re.js";
import { PcapFile } from "./pcap-file.js";
import { Progress } from "./progress.js";
import { ifconfigText, table } from "./report.js";
import { type Job, type Row, runTransfer } from "./run.js";
import { TransferError } from "./transfer.js";
import { type Connect, type LabCard, World } from "./world.js";

const MATRICES = { virtio: matrixLab, re: reMatrixLab } as const;
const isMatrix = (name: string): name is keyof typeof MATRICES => Object.hasOwn(MATRICES, name);

const HELP = `usage: barwire lab [options]

Builds a machine with a Realtek RTL8169SB and a virtio-net card and a peer for each, probes it as a BSD kernel does,
and sends a stream through each card in each direction, as the scp of 2011 did; SHA-256 of what arrived is compared.

  --nic NAME     only this card; may be given more than once. Chips are alone on their machine:
                 ${NIC_NAMES_HELP.replace("chip: ", "chip:\n                 ")}
  --size SIZE    bytes a transfer, K, M, G (or KB, MB, GB) are binary; default 200MB
  --file PATH    send this file; with --size, its first SIZE bytes
  --seed N       of the generator that makes the bytes, 0 … 4294967295; default 2011
  --pcap PATH    record all frames, as pcapng
  --matrix NAME  nothing of the above but --size and --seed: every combination of virtio's features, or of
                 the re family's chips, offloads and registers: ${Object.keys(MATRICES).join(", ")}; default 16MB
  --disk PATH    nothing of the above: read this file as a virtio disk, block by block, and print its SHA-256
  --json         print data
  --help         print this`;

const DEFAULT_SIZE = "200MB";
const MATRIX_SIZE = "16MB";
const DEFAULT_SEED = 2011;
/** bytes; below this a transfer is too short for its MB/s to mean much in any case */
const WARM_UP = 16 * 2 ** 20;
const DIRECTIONS = ["out", "in"] as const;

/** `--disk` and how to print. */
interface DiskOptions {
  readonly disk: string;
  readonly json: boolean;
}

/** `--matrix` and what goes with it. */
interface MatrixOptions {
  readonly matrix: keyof typeof MATRICES;
  readonly job: Job;
  readonly json: boolean;
}

interface Options {
  readonly nics: readonly NicName[];
  readonly job: Job;
  readonly pcap: string | undefined;
  readonly json: boolean;
}

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The size of a readable file that is not empty. @throws UsageError */
const fileSize = (path: string): number => {
  try {
    const stat = statSync(path);
    if (!stat.isFile()) throw new UsageError(`file "${path}": not a regular file`); // to open a pipe would wait for its writer
    closeSync(openSync(path, "r"));
    if (stat.size === 0) throw new UsageError(`file "${path}": empty`);
    return stat.size;
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError(`file "${path}": ${reason(error)}`);
  }
};

const options = (args: string[]): Options | DiskOptions | MatrixOptions | "help" => {
  const { values } = parse({
    args,
    options: {
      nic: { type: "string", multiple: true },
      size: { type: "string" },
      file: { type: "string" },
      seed: { type: "string" },
      pcap: { type: "string" },
      disk: { type: "string" },
      matrix: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help === true) return "help";
  if (values.disk !== undefined) {
    const other = (["nic", "size", "file", "seed", "pcap", "matrix"] as const).find(
      (name) => values[name] !== undefined,
    );
    if (other !== undefined) throw new UsageError(`--disk moves no frames: --${other} means nothing with it`);
    return { disk: values.disk, json: values.json === true };
  }
  if (values.matrix !== undefined) {
    const { matrix } = values;
    if (!isMatrix(matrix))
      throw new UsageError(`no matrix "${matrix}"; there are ${Object.keys(MATRICES).join(" and ")}`);
    const other = (["nic", "file", "pcap"] as const).find((name) => values[name] !== undefined);
    if (other !== undefined)
      throw new UsageError(`--matrix chooses the cards itself: --${other} means nothing with it`);
    const seed = values.seed === undefined ? DEFAULT_SEED : parseUint32("seed", values.seed);
    return { matrix, job: { size: parseSize(values.size ?? MATRIX_SIZE), seed }, json: values.json === true };
  }
  const nics: readonly NicName[] = values.nic === undefined ? SEED_NICS : [...new Set(values.nic.map(nicName))];
  const seed = values.seed === undefined ? DEFAULT_SEED : parseUint32("seed", values.seed);
  const available = values.file === undefined ? undefined : fileSize(values.file);
  const size =
    values.size === undefined && available !== undefined ? available : parseSize(values.size ?? DEFAULT_SIZE);
  if (available !== undefined && size > available)
    throw new UsageError(`size "${values.size}": file "${values.file}" has ${available} bytes only`);
  const job: Job = { size, seed, ...(values.file === undefined ? {} : { file: values.file }) };
  return { nics, job, pcap: values.pcap, json: values.json === true };
};

const megabytes = (bytes: number): string => {
  const mb = bytes / 2 ** 20;
  return mb >= 1 ? `${Number(mb.toFixed(1))}MB` : `${bytes}B`;
};

/** One line for each transfer, as scp prints them. */
const scpLine = (row: Row): string => {
  const seconds = Math.round(row.seconds);
  const time = `${String(Math.floor(seconds / 60)).padStart(2, "0")}:${String(seconds % 60).padStart(2, "0")}`;
  const what = `${row.card} ${row.direction}`.padEnd(14);
  return `${what} 100% ${megabytes(row.bytes).padStart(7)} ${row.mbPerSecond.toFixed(1).padStart(7)}MB/s   ${time}`;
};

/** What is on the bus, what a kernel says to it, and its interfaces. */
const introduce = (world: World): void => {
  console.log(lspci(pciListings(world.guest)));
  console.log(`${world.guest.lines.join("\n")}\n`);
  console.log(world.cards.map((card, i) => ifconfigText(card.station, i + 1)).join(""));
};

/** Moves some bytes through each card, so that what is measured afterwards is no compiler at work. */
const warmUp = (world: World, cards: readonly LabCard[], seed: number): void => {
  for (const card of cards)
    for (const direction of DIRECTIONS) runTransfer(world, card, direction, { size: WARM_UP, seed }, () => {});
};

/** Each card in each direction, with a bar and a line for each unless `quiet`. @throws TransferError */
const measure = (world: World, cards: readonly LabCard[], job: Job, quiet: boolean): Row[] =>
  cards.flatMap((card) =>
    DIRECTIONS.map((direction) => {
      const bar = quiet ? null : new Progress(process.stdout, `${card.unit} ${direction}`, job.size);
      try {
        const row = runTransfer(world, card, direction, job, (bytes) => bar?.show(bytes));
        bar?.end();
        if (!quiet) console.log(scpLine(row));
        return row;
      } catch (error) {
        bar?.end();
        throw error;
      }
    }),
  );

/** Runs the lab and prints what it saw. @returns the exit status: 1 when a digest differs or a driver erred */
export const lab = (args: string[]): number => {
  const chosen = options(args);
  if (chosen === "help") {
    console.log(HELP);
    return 0;
  }
  if ("disk" in chosen) return diskLab(chosen.disk, chosen.json);
  if ("matrix" in chosen) return MATRICES[chosen.matrix](chosen.job, chosen.json);
  const { nics, job, json } = chosen;
  const clock = new VirtualClock();
  const pcap = chosen.pcap === undefined ? null : new PcapFile(chosen.pcap, clock);
  try {
    const lay: Connect = (name, card, peer) => {
      if (pcap !== null && nics.includes(name)) pcap.connect(`${name}0`, card, peer.net);
      else connect(card.net, peer.net);
    };
    const seeds: readonly NicName[] = SEED_NICS;
    const world = new World(clock, lay, nics.every((name) => seeds.includes(name)) ? SEED_NICS : nics);
    if (!json) introduce(world);
    const cards = world.cards.filter(({ name }) => nics.includes(name));
    const warm = pcap === null && job.size > WARM_UP; // a recording holds what was asked for, and nothing else
    if (warm) warmUp(world, cards, job.seed);
    const rows = measure(world, cards, job, json);
    pcap?.[Symbol.dispose]();
    const { diagnostics } = world;
    if (json) {
      const recorded = pcap === null ? {} : { pcap: { file: pcap.path, packets: pcap.packets } };
      console.log(JSON.stringify({ ...job, warmUp: warm ? WARM_UP : 0, rows, diagnostics, ...recorded }, null, 1));
    } else {
      console.log(`\n${table(rows)}`);
      if (warm)
        console.log(
          `\nafter ${megabytes(WARM_UP)} each way that are not counted: the JavaScript engine compiles meanwhile`,
        );
      if (pcap !== null) console.log(`\n${pcap.packets} packets in ${pcap.path}`);
      for (const { source, code, value } of diagnostics) console.log(`${source}: ${code} (0x${value.toString(16)})`);
    }
    return rows.every((row) => row.equal) && diagnostics.length === 0 ? 0 : 1;
  } catch (error) {
    if (!(error instanceof TransferError)) throw error;
    console.error(`barwire: ${error.message}`);
    return 1;
  } finally {
    pcap?.[Symbol.dispose]();
  }
};
