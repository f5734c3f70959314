import { run } from "mitata";

const ns = (value: number): string => (value < 100 ? value.toFixed(1) : value.toFixed(0));

/** One bench, as it was printed. */
export interface Row {
  readonly name: string;
  /** ns for an iteration, the least of the samples */
  readonly best: number;
}

/**
 * Runs what `bench` has declared and prints a line for each: the best of an iteration, and its ratio to the first one's,
 * which is the peer. An assertion that fails on the way ends the process with status 1.
 */
export const report = async (): Promise<readonly Row[]> => {
  const { benchmarks } = await run({ format: "quiet", throw: true });
  const rows = benchmarks
    .flatMap(({ runs }) => runs)
    .map(({ name, stats, error }) => {
      if (stats === undefined) throw error;
      return { name, best: stats.min };
    });
  const [peer] = rows;
  if (peer === undefined) throw new Error("nothing was measured");
  const wide = Math.max(...rows.map(({ name }) => name.length));
  for (const { name, best } of rows)
    console.log(
      `${name.padEnd(wide)} ${ns(best).padStart(7)} ns ${(best / peer.best).toFixed(2).padStart(7)}${name === peer.name ? " (peer)" : ""}`,
    );
  return rows;
};
