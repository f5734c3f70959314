import { test } from "uvu";
import * as assert from "uvu/assert";
import { reMatrix } from "./matrix-re.js";

const SIZE = 100_000;

test("the matrix moves every byte on every chip, with offloads and without, by ports and by memory", () => {
  const rows = [...reMatrix({ size: SIZE, seed: 2011 })];
  assert.is(rows.length, 8 * 2 * 2);
  const measured = rows.filter(({ notApplicable }) => notApplicable === null);
  assert.is(measured.length, 7 * 4 + 2);
  for (const { chip, driver, equal, diagnostics, frames, offloads } of measured) {
    assert.equal(diagnostics, [], chip);
    assert.ok(equal, chip);
    assert.is(driver, chip === "8139c" ? "rl" : "re");
    // With 1460 bytes to a segment a direction takes 69 of them, and an acknowledgement for every second one.
    if (!offloads) assert.ok(frames >= 2 * 69, `${chip}: ${frames}`);
  }
  for (const { chip, ports, frames } of measured.filter(({ offloads }) => offloads)) {
    const without = measured.find((row) => row.chip === chip && row.ports === ports && !row.offloads);
    assert.ok(frames < without!.frames, `${chip}: segments are cut behind the card's ring`);
  }
  for (const { chip, ports, offloads, exitsPerFrame } of measured) {
    const other = measured.find((row) => row.chip === chip && row.offloads === offloads && row.ports !== ports);
    assert.is(exitsPerFrame, other!.exitsPerFrame, `${chip}: ports and memory take the same accesses`);
  }
});

test.run();
