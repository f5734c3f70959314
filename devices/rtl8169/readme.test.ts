/** The generated tables in README.md against the maps. With UPDATE=1 in the environment they are written instead. */
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { RegisterMap } from "../../src/regs/index.js";
import { RTL8139, RTL8139_CHIPS, RTL8139_MAPS, RTL8139CP } from "../../src/spec/rtl8139.js";
import { RTL8169, RTL8169_CHIPS, RTL8169_MAPS } from "../../src/spec/rtl8169.js";

const README = new URL("./README.md", import.meta.url);

const hex = (value: number, digits: number): string => `${value.toString(16).toUpperCase().padStart(digits, "0")}h`;
const row = (...cells: string[]): string => `| ${cells.join(" | ")} |\n`;
const head = (...cells: string[]): string => row(...cells) + row(...cells.map(() => "---")).replaceAll(" ", "");

/** Every register of a block. */
const registers = (map: RegisterMap): string =>
  head("at", "name", "bits", "access", "reset", "what") +
  map.list
    .map(({ at, name, width, rw, w1c, reset, fields, lock, doc }) => {
      const access = [rw !== 0 ? `rw ${hex(rw, 2 * width)}` : "", w1c !== 0 ? `w1c ${hex(w1c, 2 * width)}` : ""];
      const parts = Object.entries(fields).map(
        ([field, [high, low]]) => `${field} ${high === low ? high : `${high}:${low}`}`,
      );
      const what = [doc, lock === undefined ? "" : `Locked but for ${lock}`, parts.join(", ")];
      return row(
        hex(at, 2),
        name,
        String(8 * width),
        access.filter((text) => text !== "").join(", ") || "ro",
        hex(reset, 2 * width),
        what.filter((text) => text !== "").join(". "),
      );
    })
    .join("");

const face = ({ name, rw, w1c, reset }: RegisterMap["list"][number]): string => `${name} ${rw} ${w1c} ${reset}`;

/** The registers of a block that another one does not have, or has otherwise. */
const beside = (map: RegisterMap, other: RegisterMap): RegisterMap["list"] => {
  const there = new Set(other.list.map(face));
  return map.list.filter((register) => !there.has(face(register)));
};

const differences = (map: RegisterMap, other: RegisterMap): string =>
  beside(map, other)
    .map(({ name }) => name)
    .join(", ") || "–";

const gigabit = (): string =>
  head("chip", "FreeBSD's name", "device", "TCR", "PHY", "unlike RTL8169SB") +
  (Object.keys(RTL8169_CHIPS) as (keyof typeof RTL8169_CHIPS)[])
    .map((chip) => {
      const { name, deviceId, version, phy } = RTL8169_CHIPS[chip];
      const sleeps = phy.sleeps ? "" : ", register 14 is only stored";
      const differs = differences(RTL8169_MAPS[chip], RTL8169);
      return row(chip, name, hex(deviceId, 4), hex(version, 8), hex(phy.phyId, 8) + sleeps, differs);
    })
    .join("");

const fast = (): string =>
  head("chip", "name in drivers", "revision", "TCR", "unlike RTL8139C+") +
  (Object.keys(RTL8139_CHIPS) as (keyof typeof RTL8139_CHIPS)[])
    .map((chip) => {
      const { name, revisionId, version } = RTL8139_CHIPS[chip];
      return row(chip, name, hex(revisionId, 2), hex(version, 8), differences(RTL8139_MAPS[chip], RTL8139CP));
    })
    .join("");

/** What stands between `<!-- name -->` and `<!-- /name -->`. */
const TABLES = {
  "chips-8169": gigabit,
  "chips-8139": fast,
  registers: () => registers(RTL8169),
  "registers-8139cp": () => registers(RTL8139CP),
  "registers-8139": () => registers({ ...RTL8139, list: beside(RTL8139, RTL8139CP) }),
} as const;

for (const [name, table] of Object.entries(TABLES))
  test(`README.md shows ${name} as the maps have them`, () => {
    const text = readFileSync(README, "utf8");
    const mark = `<!-- ${name} -->\n`;
    const [begin, end] = [text.indexOf(mark) + mark.length, text.indexOf(`<!-- /${name} -->`)];
    assert.ok(begin >= mark.length && end >= begin, "the marks are there");
    const current = `${text.slice(0, begin)}${table()}${text.slice(end)}`;
    if (process.env.UPDATE === "1") writeFileSync(README, current);
    else assert.is(text, current, "stale: run UPDATE=1 node --import tsx devices/rtl8169/readme.test.ts");
  });

test.run();
