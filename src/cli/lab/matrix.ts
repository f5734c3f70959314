import { type VirtioNetFunction, virtioNet } from "../../../devices/virtio-net/index.js";
import type { Diagnostic } from "../../contract/index.js";
import type { DriverOptions, VirtioPci } from "../../guest/index.js";
import { Machine, VirtualClock } from "../../machine/index.js";
import { connect } from "../../net/index.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../../spec/virtio.js";
import { VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_MRG_RXBUF } from "../../spec/virtio-net.js";
import { bothWays } from "./both-ways.js";
import { columns } from "./report.js";
import type { Job } from "./run.js";
import { TransferError } from "./transfer.js";
import { probeMachine, SEED, type Station, station } from "./world.js";

/** bytes */
const RAM = 32 * 2 ** 20;
const MEGABYTE = 2 ** 20;

/** What a driver is to accept of its card. */
export interface Combination {
  readonly modern: boolean;
  readonly packed: boolean;
  readonly indirect: boolean;
  readonly eventIdx: boolean;
  readonly mergeable: boolean;
  readonly offloads: boolean;
}

/** One combination, both directions together. */
export interface MatrixRow extends Combination {
  /** whether the peer's card offloads; otherwise the peer is like the card */
  readonly peerOffloads: boolean;
  /** why there is nothing to measure; null where there is */
  readonly notApplicable: string | null;
  readonly equal: boolean;
  /** the next five per binary megabyte, both ways together; register accesses */
  readonly exits: number;
  readonly interrupts: number;
  /** frames that crossed the card, acknowledgements included */
  readonly frames: number;
  readonly descriptors: number;
  /** bytes copied by the card */
  readonly copied: number;
  readonly mbPerSecond: number;
}

const NOTHING = { equal: true, exits: 0, interrupts: 0, frames: 0, descriptors: 0, copied: 0, mbPerSecond: 0 };
const both = [false, true] as const;

/** Every combination, in the order of the rows. */
const combinations = function* (): Generator<Combination> {
  for (const modern of both)
    for (const packed of both)
      for (const indirect of both)
        for (const eventIdx of both)
          for (const mergeable of both)
            for (const offloads of both) yield { modern, packed, indirect, eventIdx, mergeable, offloads };
};

/** The bits that tell the combinations apart. */
const bitsOf = (c: Combination): readonly (readonly [bit: number, wanted: boolean])[] => [
  [VIRTIO_F_VERSION_1, c.modern],
  [VIRTIO_F_RING_PACKED, c.packed],
  [VIRTIO_F_INDIRECT_DESC, c.indirect],
  [VIRTIO_F_EVENT_IDX, c.eventIdx],
  [VIRTIO_NET_F_MRG_RXBUF, c.mergeable],
  [VIRTIO_NET_F_HOST_TSO4, c.offloads],
  [VIRTIO_NET_F_GUEST_TSO4, c.offloads],
];

const driverOptions = (c: Combination): DriverOptions => ({
  virtioPci: { modern: c.modern, packed: c.packed },
  vtnet: {
    offload: c.offloads,
    lroWithoutMerge: true,
    without: bitsOf(c)
      .filter(([, wanted]) => !wanted)
      .map(([bit]) => bit),
  },
});

/** A machine with one card whose driver accepts just the combination. @throws Error when it does not */
const build = (
  c: Combination,
  clock: VirtualClock,
  card: VirtioNetFunction,
  ip: readonly number[],
  report: (diagnostic: Diagnostic) => void,
): Station => {
  const machine = new Machine({ ram: RAM, clock, strictness: "strict", report });
  machine.plug("00:04.0", card);
  const probed = probeMachine(machine, driverOptions(c));
  const transport = probed.newbus.softc<VirtioPci>("virtio_pci0");
  const wrong = bitsOf(c).find(([bit, wanted]) => transport.withFeature(bit) !== wanted);
  if (wrong !== undefined) throw new Error(`card and driver negotiated feature ${wrong[0]} as ${!wrong[1]}`);
  const side = station(probed, "vtnet0", ip);
  side.ifnet.up();
  return side;
};

const measure = (c: Combination, peerOffloads: boolean, job: Job): MatrixRow => {
  const none = (notApplicable: string): MatrixRow => ({ ...c, peerOffloads, notApplicable, ...NOTHING });
  if (c.packed && !c.modern) return none("legacy drivers know no packed rings, VIRTIO 1.3 §6");
  const clock = new VirtualClock();
  const diagnostics: Diagnostic[] = [];
  const personality = c.modern ? "modern" : "legacy";
  const nic = virtioNet({ mac: SEED.vtnet.mac, personality, packed: c.packed });
  const far = virtioNet({ mac: "52:54:00:00:00:02", personality, packed: c.packed });
  connect(nic.net, far.net);
  const report = (diagnostic: Diagnostic): number => diagnostics.push(diagnostic);
  const [a, b, d] = SEED.vtnet.ip as readonly [number, number, number, number];
  const own = build(c, clock, nic, SEED.vtnet.ip, report);
  const peer = build({ ...c, offloads: peerOffloads }, clock, far, [a, b, d, 1], report);
  for (const { bus } of [own, peer]) bus.poll();
  const card = { unit: "vtnet0", nic, station: own, peer };
  const moved = bothWays(card, (ns) => clock.advance(ns), { ...job, offload: true });
  const perMb = (n: number): number => (n * MEGABYTE) / moved.bytes;
  return {
    ...c,
    peerOffloads,
    notApplicable: null,
    equal: moved.equal && diagnostics.length === 0,
    exits: perMb(moved.exits),
    interrupts: perMb(moved.interrupts),
    frames: perMb(moved.frames),
    descriptors: perMb(moved.descriptors),
    copied: perMb(moved.copied),
    mbPerSecond: moved.bytes / MEGABYTE / moved.seconds,
  };
};

/** Every combination, and some where only one end offloads. @throws TransferError */
const run = function* (job: Job): Generator<MatrixRow> {
  for (const c of combinations()) yield measure(c, c.offloads, job);
  const best = { modern: true, packed: false, indirect: true, eventIdx: true, mergeable: true };
  for (const modern of both) for (const offloads of both) yield measure({ ...best, modern, offloads }, !offloads, job);
};

const TITLES = [
  "interface",
  "ring",
  "indirect",
  "event idx",
  "mergeable",
  "offloads",
  "peer",
  "digests",
  "exits/MB",
  "interrupts/MB",
  "frames/MB",
  "descriptors/MB",
  "copied/MB",
  "MB/s",
];

const yes = (value: boolean): string => (value ? "yes" : "no");

const cellsOf = (row: MatrixRow): string[] => [
  row.modern ? "modern" : "legacy",
  row.packed ? "packed" : "split",
  yes(row.indirect),
  yes(row.eventIdx),
  yes(row.mergeable),
  yes(row.offloads),
  row.peerOffloads === row.offloads ? "alike" : row.peerOffloads ? "offloads" : "none",
  ...(row.notApplicable === null
    ? [
        row.equal ? "equal" : "DIFFER",
        row.exits.toFixed(1),
        row.interrupts.toFixed(1),
        row.frames.toFixed(1),
        row.descriptors.toFixed(1),
        row.copied.toFixed(0),
        row.mbPerSecond.toFixed(1),
      ]
    : new Array<string>(7).fill("n/a")),
];

/** By how much fewer frames cross with offloads, of all pairs of rows that differ in nothing else: the least. */
export const leastFall = (rows: readonly MatrixRow[]): number => {
  const key = ({ modern, packed, indirect, eventIdx, mergeable }: MatrixRow): string =>
    [modern, packed, indirect, eventIdx, mergeable].join();
  const alike = rows.filter((row) => row.notApplicable === null && row.peerOffloads === row.offloads);
  const falls = alike
    .filter(({ offloads }) => offloads)
    .map((row) => (alike.find((other) => !other.offloads && key(other) === key(row))?.frames ?? 0) / row.frames);
  return Math.min(...falls);
};

/** Runs the matrix and prints it. @returns the exit status: 1 when a digest differs or a driver erred */
export const matrixLab = (job: Job, json: boolean): number => {
  const rows: MatrixRow[] = [];
  try {
    for (const row of run(job)) rows.push(row);
  } catch (error) {
    if (!(error instanceof TransferError)) throw error;
    console.error(`barwire: ${error.message}`);
    return 1;
  }
  const fall = leastFall(rows);
  if (json) console.log(JSON.stringify({ ...job, rows, leastFall: fall }, null, 1));
  else {
    console.log(columns([TITLES, ...rows.map(cellsOf)]));
    const reasons = new Set(rows.flatMap(({ notApplicable }) => (notApplicable === null ? [] : [notApplicable])));
    console.log(`\n${job.size} bytes each way; both ways together`);
    for (const reason of reasons) console.log(`n/a: ${reason}`);
    console.log(`offloads: at least ${fall.toFixed(1)} times fewer frames cross the card`);
  }
  return rows.every(({ equal }) => equal) ? 0 : 1;
};
