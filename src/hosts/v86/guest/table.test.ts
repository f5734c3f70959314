import { test } from "uvu";
import * as assert from "uvu/assert";
import { renderTable } from "./table.js";

test("a line for each row and a column for each check, in the order in which they came", () => {
  const table = renderTable([
    {
      title: "re",
      mode: null,
      cards: [{ driver: "r8169" }],
      checks: { probe: "ok", jumbo: "skip: why", vlan: "FAIL: what" },
    },
    {
      title: "two",
      mode: "modern",
      cards: [{ driver: "virtio_net" }, { driver: "r8169" }, { driver: "r8169" }],
      checks: { probe: "ok", crossing: "ok" },
    },
  ]);
  assert.is(
    table,
    [
      "driver            personality  row  1  2  3  4",
      "r8169                          re   +  -  F",
      "virtio_net r8169  modern       two  +        +",
      "+ held, F failed, - does not apply or is left to --all; 1 probe, 2 jumbo, 3 vlan, 4 crossing",
    ].join("\n"),
  );
});

test.run();
