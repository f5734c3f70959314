import { test } from "uvu";
import * as assert from "uvu/assert";
import type { AccessWidth } from "../../contract/index.js";
import { ConfigView } from "./config-view.js";
import { TestSlot } from "./testing.js";

const STATUS = 0x06;
const POINTER = 0x34;

/** A card with these capabilities, each 30h bytes behind the last one, in this order. */
function card(...capabilities: readonly (readonly number[])[]): TestSlot {
  const slot = new TestSlot();
  slot.config[STATUS] = capabilities.length > 0 ? 0x10 : 0;
  let at = POINTER;
  for (const [i, [id = 0, ...rest]] of capabilities.entries()) {
    const here = 0x40 + 0x30 * i;
    slot.config[at] = here;
    slot.config.set([id, 0, ...rest], here);
    at = here + 1;
  }
  return slot;
}

/** Ids and places in the order in which a guest meets them. */
function walk(view: ConfigView): string[] {
  const found: string[] = [];
  if ((view.read(STATUS, 2) & 0x10) === 0) return ["none"];
  for (let at = view.read(POINTER, 1); at !== 0; at = view.read(at + 1, 1))
    found.push(`${view.read(at, 1).toString(16)}@${at.toString(16)}`);
  return found;
}

const PM = [0x01, 0x02, 0x00];
const VENDOR = [0x09, 0x10, 0x55];
const MSIX = [0x11, 0x03, 0x00, 0x04, 0, 0, 0, 0x04, 0x08, 0, 0];
const MSI = [0x05, 0x80, 0x01]; // 64-bit addresses, and a mask for each vector

test("MSI and MSI-X leave the list wherever they stand, the others stay where they are", () => {
  assert.equal(walk(new ConfigView(card(PM, VENDOR))), ["1@40", "9@70"]);
  assert.equal(walk(new ConfigView(card(MSIX, PM, VENDOR))), ["1@70", "9@a0"]);
  assert.equal(walk(new ConfigView(card(PM, MSIX, VENDOR))), ["1@40", "9@a0"]);
  assert.equal(walk(new ConfigView(card(PM, VENDOR, MSIX))), ["1@40", "9@70"]);
  assert.equal(walk(new ConfigView(card(MSI, MSIX, PM))), ["1@a0"]);
  assert.equal(walk(new ConfigView(card(PM, MSI, MSIX))), ["1@40"]);
  assert.equal(walk(new ConfigView(card(MSIX, MSI))), ["none"]);
  assert.is(new ConfigView(card(MSIX)).read(POINTER, 1), 0);
  assert.equal(walk(new ConfigView(card())), ["none"]);
});

test("what is hidden reads 0 at every width, and nothing is written to it", () => {
  const slot = card(PM, MSIX);
  slot.config.fill(0xee, 0x7c, 0x80);
  const view = new ConfigView(slot);
  assert.equal([view.read(0x70, 4), view.read(0x72, 2), view.read(0x78, 4), view.read(0x7b, 1)], [0, 0, 0, 0]);
  assert.equal([view.read(0x7c, 4), view.read(0x40, 4)], [0xeeee_eeee, 0x0002_0001]);
  view.write(0x72, 2, 0x8000);
  view.write(0x70, 4, 0x8000_0000);
  view.write(0x7c, 4, 0x0102_0304);
  assert.equal(slot.log, ["config w4 7c 1020304"]);
});

test("a hidden MSI capability is as long as its control says", () => {
  for (const [control, length] of [
    [0x0000, 10],
    [0x0080, 14],
    [0x0100, 20],
    [0x0180, 24],
  ] as const) {
    const slot = card([0x05, control & 0xff, control >> 8]);
    slot.config.fill(0x77, 0x44, 0x40 + 40);
    const view = new ConfigView(slot);
    const shown = Array.from({ length: 40 }, (_, i) => view.read(0x40 + i, 1));
    assert.is(shown.indexOf(0x77), length, control.toString(16));
    view.write(0x40 + length - 2, 4, 0x4433_2211); // half of it is hidden
    assert.equal(slot.log.splice(0), [
      `config w1 ${(0x40 + length).toString(16)} 33`,
      `config w1 ${(0x41 + length).toString(16)} 44`,
    ]);
  }
});

test("a list that never ends ends, and writes elsewhere arrive whole", () => {
  const slot = card(PM, MSIX);
  slot.config[0x71] = 0x40;
  const view = new ConfigView(slot);
  for (const width of [1, 2, 4] as const satisfies AccessWidth[]) view.write(0x3c, width, 1);
  assert.equal(slot.log, ["config w1 3c 1", "config w2 3c 1", "config w4 3c 1"]);
});

test.run();
