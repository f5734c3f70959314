/** A row of `npm run test:v86` as the table at its end shows it. */
export interface TableRow {
  readonly title: string;
  /** of a virtio card; null for others */
  readonly mode: string | null;
  readonly cards: readonly { readonly driver: string }[];
  /** by name: `ok`, `FAIL: what`, or `skip: why` */
  readonly checks: { readonly [check: string]: string };
}

const markOf = (verdict: string | undefined): string =>
  verdict === undefined ? " " : verdict === "ok" ? "+" : verdict.startsWith("FAIL") ? "F" : "-";

/** Driver × personality × check: a line for each row, a column for each check, whose names stand below by number. */
export function renderTable(rows: readonly TableRow[]): string {
  const checks = [...new Set(rows.flatMap((row) => Object.keys(row.checks)))];
  const lines = rows.map(({ title, mode, cards, checks: verdicts }) => [
    [...new Set(cards.map(({ driver }) => driver))].join(" "),
    mode ?? "",
    title,
    ...checks.map((check) => markOf(verdicts[check])),
  ]);
  const table = [["driver", "personality", "row", ...checks.map((_, i) => String(i + 1))], ...lines];
  const widths = table[0]!.map((_, i) => Math.max(...table.map((line) => line[i]!.length)));
  const legend = checks.map((check, i) => `${i + 1} ${check}`).join(", ");
  return [
    ...table.map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    ),
    `+ held, F failed, - does not apply or is left to --all; ${legend}`,
  ].join("\n");
}
