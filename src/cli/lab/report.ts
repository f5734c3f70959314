import { ifconfig } from "../../guest/index.js";
import type { Row } from "./run.js";
import type { Station } from "./world.js";

const COLUMNS: readonly (readonly [title: string, cell: (row: Row) => string])[] = [
  ["card", (r) => r.card],
  ["direction", (r) => r.direction],
  ["bytes", (r) => String(r.bytes)],
  ["digest", (r) => (r.equal ? "equal" : "DIFFERS")],
  ["MB/s", (r) => r.mbPerSecond.toFixed(1)],
  ["frames", (r) => String(r.frames)],
  ["accesses/frame", (r) => r.registerAccessesPerFrame.toFixed(4)],
  ["interrupts/frame", (r) => r.interruptsPerFrame.toFixed(4)],
  ["descriptors/frame", (r) => r.descriptorsPerFrame.toFixed(3)],
  ["copied/frame", (r) => r.copiedBytesPerFrame.toFixed(1)],
];

/** Lines of a table, columns as wide as what is in them; words left, numbers right. @param cells the titles first */
export const columns = (cells: readonly (readonly string[])[]): string => {
  const titles = cells[0]!;
  const widths = titles.map((_, i) => Math.max(...cells.map((line) => line[i]!.length)));
  const isNumber = titles.map((_, i) => cells.slice(1).every((line) => /^([\d.]+|n\/a)$/.test(line[i]!)));
  return cells
    .map((line) =>
      line
        .map((text, i) => (isNumber[i] ? text.padStart(widths[i]!) : text.padEnd(widths[i]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
};

/** The closing table: a line for each row. */
export const table = (rows: readonly Row[]): string =>
  columns([COLUMNS.map(([title]) => title), ...rows.map((row) => COLUMNS.map(([, cell]) => cell(row)))]);

/** `ifconfig` of one interface, in the format of 2011. @param index interface index, which is the link-local scope */
export const ifconfigText = ({ ifnet, address }: Station, index: number): string =>
  ifconfig({ ifnet, index, inet: [{ address: [...address.ip].join("."), prefixLength: 24 }] });
