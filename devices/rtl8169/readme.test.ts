/** The register table in README.md against the map. With UPDATE=1 in the environment it is written instead. */
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { RTL8169 } from "../../src/spec/rtl8169.js";

const README = new URL("./README.md", import.meta.url);
const BEGIN = "<!-- registers -->\n";
const END = "<!-- /registers -->";

const hex = (value: number, digits: number): string => `${value.toString(16).toUpperCase().padStart(digits, "0")}h`;

const table = (): string => {
  const rows = RTL8169.list.map(({ at, name, width, rw, w1c, reset, fields, lock, doc }) => {
    const access = [rw !== 0 ? `rw ${hex(rw, 2 * width)}` : "", w1c !== 0 ? `w1c ${hex(w1c, 2 * width)}` : ""];
    const parts = Object.entries(fields).map(
      ([field, [high, low]]) => `${field} ${high === low ? high : `${high}:${low}`}`,
    );
    const what = [doc, lock === undefined ? "" : `Locked but for ${lock}`, parts.join(", ")];
    const cells = [
      hex(at, 2),
      name,
      String(8 * width),
      access.filter((text) => text !== "").join(", ") || "ro",
      hex(reset, 2 * width),
      what.filter((text) => text !== "").join(". "),
    ];
    return `| ${cells.join(" | ")} |\n`;
  });
  return `| at | name | bits | access | reset | what |\n|---|---|---|---|---|---|\n${rows.join("")}`;
};

test("README.md shows the register map as it is", () => {
  const text = readFileSync(README, "utf8");
  const [begin, end] = [text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)];
  assert.ok(begin >= BEGIN.length && end >= begin, "the marks are there");
  const current = `${text.slice(0, begin)}${table()}${text.slice(end)}`;
  if (process.env.UPDATE === "1") writeFileSync(README, current);
  else assert.is(text, current, "stale: run UPDATE=1 node --import tsx devices/rtl8169/readme.test.ts");
});

test.run();
