/** `copyBytes` against `set(subarray)`: where the loop ends and the view begins. */
import assert from "node:assert/strict";
import { bench } from "mitata";
import { copyBytes } from "../src/bytes/index.js";
import { noise } from "./rig/machine.js";
import { report } from "./rig/report.js";

const LENGTHS = [1514, 12, 60, 64, 66, 72];
const STRIDE = 0x800;
const PLACES = 256;
const MASK = PLACES * STRIDE - 1;
const source = noise(MASK + 1);
const target = new Uint8Array(MASK + 1);
let at = 0;

/** Every place holds the bytes that belong there, and not one more. */
const check = (length: number): void => {
  for (let i = 0; i < PLACES; i++) {
    const place = STRIDE * i;
    assert.deepEqual(target.slice(place + 14, place + 14 + length), source.slice(place + 2, place + 2 + length));
    assert.equal(target[place + 14 + length], 0);
  }
  target.fill(0);
};

type State = { get(name: string): number };

bench("set(subarray), $n bytes", function* (state: State) {
  const n = state.get("n");
  yield () => {
    at = (at + STRIDE) & MASK;
    target.set(source.subarray(at + 2, at + 2 + n), at + 14);
  };
  check(n);
}).args("n", LENGTHS);

bench("copyBytes, $n bytes", function* (state: State) {
  const n = state.get("n");
  yield () => {
    at = (at + STRIDE) & MASK;
    copyBytes(source, at + 2, n, target, at + 14);
  };
  check(n);
}).args("n", LENGTHS);

await report();
