import type { NicCounters } from "../../contract/index.js";
import { ByteSink, ByteSource } from "./source.js";
import { segmentSize } from "./tcp.js";
import { MSS, transfer } from "./transfer.js";
import type { LabCard, World } from "./world.js";

/** `out`: the machine under test sends, as in the seed, whose host pulled; `in`: it receives. */
export type Direction = "out" | "in";

/** One row of the table; per-frame figures count the frames of both directions, acknowledgements included. */
export interface Row {
  readonly card: string;
  readonly direction: Direction;
  readonly bytes: number;
  readonly sha256Sent: string;
  readonly sha256Received: string;
  readonly equal: boolean;
  /** binary megabytes a second, hashing not counted */
  readonly mbPerSecond: number;
  readonly seconds: number;
  /** frames that crossed the card, both ways */
  readonly frames: number;
  readonly retransmitted: number;
  readonly registerAccessesPerFrame: number;
  readonly interruptsPerFrame: number;
  readonly descriptorsPerFrame: number;
  readonly copiedBytesPerFrame: number;
}

export interface Job {
  readonly size: number;
  readonly seed: number;
  readonly file?: string;
  /** checksums and segmentation are left to the cards; default false, as in 2011 */
  readonly offload?: boolean;
}

interface Sample {
  readonly counters: NicCounters;
  readonly accesses: number;
}

const sample = ({ nic }: Pick<LabCard, "nic">): Sample => {
  const { configReads, configWrites, barReads, barWrites } = nic.accessCounters();
  return { counters: nic.counters(), accesses: configReads + configWrites + barReads + barWrites };
};

/** Moves the job's bytes through one card in one direction. @throws TransferError */
export const runTransfer = (
  world: Pick<World, "advance">,
  card: Pick<LabCard, "unit" | "nic" | "station" | "peer">,
  direction: Direction,
  job: Job,
  progress: (bytes: number) => void,
): Row => {
  const [from, to] = direction === "out" ? [card.station, card.peer] : [card.peer, card.station];
  const { offload = false } = job;
  const segment = segmentSize(from.ifnet, MSS, offload);
  const source = new ByteSource(job.size, segment, job.file === undefined ? { seed: job.seed } : { file: job.file });
  const before = sample(card);
  try {
    const result = transfer(from, to, source, new ByteSink(), (ns) => world.advance(ns), progress, offload);
    const after = sample(card);
    const delta = (key: keyof NicCounters) => after.counters[key] - before.counters[key];
    const frames = delta("txFrames") + delta("rxFrames");
    return {
      card: card.unit,
      direction,
      bytes: result.bytes,
      sha256Sent: result.sha256Sent,
      sha256Received: result.sha256Received,
      equal: result.sha256Sent === result.sha256Received && result.bytes === job.size,
      mbPerSecond: result.bytes / 2 ** 20 / (result.ms / 1000),
      seconds: result.ms / 1000,
      frames,
      retransmitted: result.retransmitted,
      registerAccessesPerFrame: (after.accesses - before.accesses) / frames,
      interruptsPerFrame: delta("interrupts") / frames,
      descriptorsPerFrame: delta("descriptorsRead") / frames,
      copiedBytesPerFrame: delta("bytesCopied") / frames,
    };
  } finally {
    source.close();
  }
};
