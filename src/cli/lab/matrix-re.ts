import type { Diagnostic, Nic } from "../../contract/index.js";
import type { DriverOptions } from "../../guest/index.js";
import { Machine, VirtualClock } from "../../machine/index.js";
import { connect } from "../../net/index.js";
import { NICS, type NicName } from "../registry.js";
import { bothWays } from "./both-ways.js";
import { columns } from "./report.js";
import type { Job } from "./run.js";
import { TransferError } from "./transfer.js";
import { probeMachine, SEED, type Station, station } from "./world.js";

/** bytes */
const RAM = 8 * 2 ** 20;
const MEGABYTE = 2 ** 20;
const MS = 1_000_000;
/** Autonegotiation takes tens of ms. */
const LINK_TIMEOUT_MS = 5000;

/** The chips that differ for a driver; of the old ones, which do not, one. */
const CHIPS = ["8169sb", "8169s", "8110s", "8169sc", "8169sce", "8169", "8139c+", "8139c"] as const;

/** What is combined. */
export interface ReCombination {
  readonly chip: (typeof CHIPS)[number];
  readonly driver: string;
  /** checksums both ways and TSO are the card's and its driver's */
  readonly offloads: boolean;
  /** registers by the ports of BAR 0, otherwise by the memory of BAR 1 */
  readonly ports: boolean;
}

/** One combination, both directions together. */
export interface ReMatrixRow extends ReCombination {
  /** why there is nothing to measure; null where there is */
  readonly notApplicable: string | null;
  readonly equal: boolean;
  /** that crossed the card, acknowledgements included */
  readonly frames: number;
  /** register accesses */
  readonly exitsPerFrame: number;
  readonly interruptsPerFrame: number;
  /** bytes */
  readonly copiedPerFrame: number;
  readonly mbPerSecond: number;
  /** what the drivers did wrong in the chips' eyes */
  readonly diagnostics: readonly string[];
}

const both = [false, true] as const;

const combinations = function* (): Generator<ReCombination> {
  for (const chip of CHIPS)
    for (const offloads of both) for (const ports of both) yield { chip, driver: NICS[chip].driver, offloads, ports };
};

/** A machine with one card, its interface up. */
const build = (
  nic: Nic,
  unit: string,
  ip: readonly number[],
  options: DriverOptions,
  clock: VirtualClock,
  report: (diagnostic: Diagnostic) => void,
): Station => {
  const machine = new Machine({ ram: RAM, clock, strictness: "strict", report });
  machine.plug("00:03.0", nic);
  const side = station(probeMachine(machine, options), unit, ip);
  side.ifnet.up();
  return side;
};

const waitForLinks = (clock: VirtualClock, sides: readonly Station[]): void => {
  for (let ms = 0; sides.some(({ ifnet }) => ifnet.media().status !== "active"); ms++) {
    if (ms === LINK_TIMEOUT_MS) throw new TransferError(`no link after ${LINK_TIMEOUT_MS} ms`);
    clock.advance(MS);
    for (const { bus } of sides) bus.poll();
  }
};

const measure = (c: ReCombination, job: Job): ReMatrixRow => {
  const nothing = { frames: 0, exitsPerFrame: 0, interruptsPerFrame: 0, copiedPerFrame: 0, mbPerSecond: 0 };
  if (c.driver === "rl" && c.offloads)
    return { ...c, notApplicable: "the old mode leaves nothing to the chip", equal: true, diagnostics: [], ...nothing };
  const clock = new VirtualClock();
  const diagnostics: string[] = [];
  const report = ({ source, code, value }: Diagnostic): void => {
    diagnostics.push(`${source}: ${code} (0x${value.toString(16)})`);
  };
  const { mac, ip } = SEED.re;
  const name: NicName = c.chip;
  const nic = NICS[name].create({ mac });
  const far = NICS.vtnet.create({ mac: "52:54:00:00:00:01" });
  connect(nic.net, far.net);
  const options = {
    re: { offload: c.offloads, preferIomap: c.ports },
    rl: { preferIomap: c.ports },
    vtnet: { offload: c.offloads },
  };
  const own = build(nic, `${c.driver}0`, ip, options, clock, report);
  const peer = build(far, "vtnet0", [ip[0]!, ip[1]!, ip[2]!, 1], options, clock, report);
  own.ifnet.setCapenable(own.ifnet.capabilities); // TSO, too, which `re` leaves off
  waitForLinks(clock, [own, peer]);
  const card = { unit: `${c.driver}0`, nic, station: own, peer };
  const moved = bothWays(card, (ns) => clock.advance(ns), { ...job, offload: true });
  return {
    ...c,
    notApplicable: null,
    equal: moved.equal && diagnostics.length === 0,
    frames: moved.frames,
    exitsPerFrame: moved.exits / moved.frames,
    interruptsPerFrame: moved.interrupts / moved.frames,
    copiedPerFrame: moved.copied / moved.frames,
    mbPerSecond: moved.bytes / MEGABYTE / moved.seconds,
    diagnostics,
  };
};

/** Every combination, a row each. @throws TransferError */
export const reMatrix = function* (job: Job): Generator<ReMatrixRow> {
  for (const c of combinations()) yield measure(c, job);
};

const TITLES = [
  "chip",
  "driver",
  "offloads",
  "registers",
  "digests",
  "frames",
  "exits/frame",
  "interrupts/frame",
  "copied/frame",
  "MB/s",
];

const cellsOf = (row: ReMatrixRow): string[] => [
  row.chip,
  row.driver,
  row.offloads ? "yes" : "no",
  row.ports ? "ports" : "memory",
  ...(row.notApplicable === null
    ? [
        row.equal ? "equal" : "DIFFER",
        String(row.frames),
        row.exitsPerFrame.toFixed(4),
        row.interruptsPerFrame.toFixed(4),
        row.copiedPerFrame.toFixed(1),
        row.mbPerSecond.toFixed(1),
      ]
    : new Array<string>(6).fill("n/a")),
];

/** Runs every combination and prints it. @returns the exit status: 1 when a digest differs or a driver erred */
export const reMatrixLab = (job: Job, json: boolean): number => {
  const rows: ReMatrixRow[] = [];
  try {
    for (const row of reMatrix(job)) rows.push(row);
  } catch (error) {
    if (!(error instanceof TransferError)) throw error;
    console.error(`barwire: ${error.message}`);
    return 1;
  }
  if (json) console.log(JSON.stringify({ ...job, rows }, null, 1));
  else {
    console.log(columns([TITLES, ...rows.map(cellsOf)]));
    console.log(`\n${job.size} bytes each way; both ways together`);
    const reasons = new Set(rows.flatMap(({ notApplicable }) => (notApplicable === null ? [] : [notApplicable])));
    for (const reason of reasons) console.log(`n/a: ${reason}`);
    for (const { chip, diagnostics } of rows) for (const line of diagnostics) console.log(`${chip}: ${line}`);
  }
  return rows.every(({ equal }) => equal) ? 0 : 1;
};
