/** The frame check sequence of a full frame and of a shortest one, by words with a view, by words without, and by bytes. */
import assert from "node:assert/strict";
import { bench, do_not_optimize } from "mitata";
import { crc32, crc32View } from "../src/bytes/index.js";
import { noise } from "./rig/machine.js";
import { report } from "./rig/report.js";

const LENGTHS = [1514, 60];
const STRIDE = 0x800;
const MASK = 256 * STRIDE - 1;
const bytes = noise(MASK + 1);
const view = new DataView(bytes.buffer);
let at = 0;

const table = Int32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? 0xedb8_8320 ^ (c >>> 1) : c >>> 1;
  return c;
});
/** As most programs do it: a table look-up for each byte. */
const byBytes = (start: number, length: number): number => {
  let c = -1;
  for (let i = start; i < start + length; i++) c = table[(c ^ bytes[i]!) & 0xff]! ^ (c >>> 8);
  return ~c;
};

type State = { get(name: string): number };

bench("byte by byte, $n bytes", function* (state: State) {
  const n = state.get("n");
  yield () => {
    at = (at + STRIDE) & MASK;
    do_not_optimize(byBytes(at + 14, n));
  };
}).args("n", LENGTHS);

bench("crc32, $n bytes", function* (state: State) {
  const n = state.get("n");
  for (let start = 0; start < 64; start++) assert.equal(crc32(bytes, start, n), byBytes(start, n));
  yield () => {
    at = (at + STRIDE) & MASK;
    do_not_optimize(crc32(bytes, at + 14, n));
  };
}).args("n", LENGTHS);

bench("crc32View, $n bytes", function* (state: State) {
  const n = state.get("n");
  for (let start = 0; start < 64; start++) assert.equal(crc32View(view, start, n), byBytes(start, n));
  yield () => {
    at = (at + STRIDE) & MASK;
    do_not_optimize(crc32View(view, at + 14, n));
  };
}).args("n", LENGTHS);

await report();
