import type { NicCounters } from "../../contract/index.js";
import { type Direction, type Job, runTransfer } from "./run.js";
import type { LabCard } from "./world.js";

const DIRECTIONS = ["out", "in"] as const satisfies readonly Direction[];

/** What a transfer each way came to, both together. */
export interface BothWays {
  readonly equal: boolean;
  readonly bytes: number;
  readonly seconds: number;
  /** frames that crossed the card, acknowledgements included */
  readonly frames: number;
  /** register accesses */
  readonly exits: number;
  readonly interrupts: number;
  readonly descriptors: number;
  /** bytes copied by the card */
  readonly copied: number;
}

/** Moves the job's bytes through a card in both directions. @throws TransferError */
export const bothWays = (
  card: Pick<LabCard, "unit" | "nic" | "station" | "peer">,
  advance: (ns: number) => void,
  job: Job,
): BothWays => {
  const before = card.nic.counters();
  const rows = DIRECTIONS.map((direction) => runTransfer({ advance }, card, direction, job, () => {}));
  const after = card.nic.counters();
  const total = (of: (row: (typeof rows)[number]) => number): number => rows.reduce((sum, row) => sum + of(row), 0);
  const delta = (key: keyof NicCounters): number => after[key] - before[key];
  return {
    equal: rows.every(({ equal }) => equal),
    bytes: total(({ bytes }) => bytes),
    seconds: total(({ seconds }) => seconds),
    frames: total(({ frames }) => frames),
    exits: total((row) => row.registerAccessesPerFrame * row.frames),
    interrupts: delta("interrupts"),
    descriptors: delta("descriptorsRead"),
    copied: delta("bytesCopied"),
  };
};
