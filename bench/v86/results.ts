import type { Entry } from "./contestant.js";
import type { Sample, Workload } from "./workloads.js";

/** What a frame costs, whatever the machine. */
export interface Cost {
  /** accesses to ports and registers */
  readonly exits: number;
  /** as the guest counted them */
  readonly interrupts: number;
  /** of the guest, its timers and the rest of it included */
  readonly instructions: number;
}

/** One card at one workload. */
export interface Cell extends Cost {
  /** median of the rounds: packets/s, bytes/s or ms */
  readonly value: number;
  /** of each round */
  readonly values: readonly number[];
  /** median, s of processor time for a frame or, with TCP, a byte */
  readonly cpu: number;
  readonly cpus: readonly number[];
}

/** A card's rate by its peer's: the median of the rounds' ratios, since what else the machine does changes between rounds. */
export const ratioOf = (ours: Cell, theirs: Cell): number =>
  median(ours.values.map((value, i) => value / theirs.values[i]!));

/** How many times the processor time the peer takes. */
const savingOf = (ours: Cell, theirs: Cell): number => median(ours.cpus.map((cpu, i) => theirs.cpus[i]! / cpu));

/** By the names of card and workload. */
export type Results = ReadonlyMap<string, ReadonlyMap<string, Cell>>;

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

export const cellOf = (samples: readonly Sample[], cost: Cost): Cell => {
  const values = samples.map(({ value }) => value);
  return {
    value: median(values),
    values,
    cpu: median(samples.map(({ cpu }) => cpu)),
    cpus: samples.map(({ cpu }) => cpu),
    ...cost,
  };
};

const FORMATS = {
  "packets/s": (value: number) => value.toFixed(0),
  "MB/s": (value: number) => (value / 1e6).toFixed(1),
  ms: (value: number) => value.toFixed(2),
} as const;

const share = (value: number): string => (value === 0 ? "0" : value < 0.0995 ? value.toFixed(4) : value.toFixed(2));

/** Lays columns out, the first to the left and the others to the right. */
export function layOut(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  const line = (row: readonly string[]): string =>
    row.map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join("  ");
  return rows.map((row) => line(row).trimEnd()).join("\n");
}

/** What one table says of a cell, or of a cell beside its peer's. */
interface View {
  readonly title: string;
  text(cell: Cell, workload: Workload, peer: Cell | undefined): string;
  readonly skip?: (workload: Workload) => boolean;
}

const VIEWS: readonly View[] = [
  {
    title: "rate (and its ratio to the first card's)",
    text: (cell, { unit }, peer) =>
      `${FORMATS[unit](cell.value)}${peer === undefined ? "" : ` (${ratioOf(cell, peer).toFixed(2)})`}`,
  },
  {
    title: "processor time: µs a packet, s a GB (and how many times that the first card's guest takes)",
    text: (cell, { unit }, peer) =>
      `${(cell.cpu * (unit === "MB/s" ? 1e9 : 1e6)).toFixed(1)}${peer === undefined ? "" : ` (${savingOf(cell, peer).toFixed(2)})`}`,
    skip: ({ unit }) => unit === "ms",
  },
  { title: "exits a frame (TCP: for each 1460 bytes)", text: ({ exits }) => share(exits) },
  { title: "instructions of the guest a frame", text: ({ instructions }) => instructions.toFixed(0) },
  { title: "interrupts a frame", text: ({ interrupts }) => share(interrupts) },
];

/** The tables, a column for each card, the first of which is the peer of the others. */
export function tables(
  results: Results,
  cards: readonly (readonly [name: string, entry: Entry])[],
  workloads: readonly Workload[],
): string {
  return VIEWS.map(({ title, text, skip }) => {
    const rows = workloads
      .filter((workload) => skip?.(workload) !== true)
      .map((workload) => {
        const cells = cards.map(([name]) => results.get(name)?.get(workload.name));
        return [
          `${workload.title}, ${workload.unit}`,
          ...cells.map((cell) => (cell === undefined ? "-" : text(cell, workload, cells[0]))),
        ];
      });
    return layOut([[title, ...cards.map(([, { title: card }]) => card)], ...rows]);
  }).join("\n\n");
}
