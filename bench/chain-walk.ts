/** Walking descriptor chains: read, check, locate, and give the result as segments. */
import assert from "node:assert/strict";
import { bench, do_not_optimize } from "mitata";
import { Door, WindowedMemory } from "../src/bytes/index.js";
import { DescriptorChain, RingArea } from "../src/virtio/index.js";
import { report } from "./rig/report.js";

const NEXT = 1;
const INDIRECT = 4;
const SIZE = 256;
const BUFFERS = 0x1_0000;
const LENGTH = 66;
const INDIRECT_AT = 0x8000;

const memory = new WindowedMemory([{ base: 0, bytes: new Uint8Array(2 ** 20) }]);
const { view } = memory.windows[0]!;
const door = new Door();
door.connect(memory);
door.setOpen(true);

const describe = (at: number, address: number, length: number, flags: number, next: number): void => {
  view.setUint32(at, address, true);
  view.setUint32(at + 8, length, true);
  view.setUint16(at + 12, flags, true);
  view.setUint16(at + 14, next, true);
};

/** Heads of chains of so many descriptors, which lie in no order, and one that is an indirect table. */
const chainOf = (n: number, table: number): void => {
  for (let i = 0; i < n; i++) {
    const more = i < n - 1;
    describe(
      table + 16 * ((i * 37) % SIZE),
      BUFFERS + 0x800 * i,
      LENGTH,
      more ? NEXT : 0,
      more ? ((i + 1) * 37) % SIZE : 0,
    );
  }
};

type State = { get(name: string): number };

bench("$n direct", function* (state: State) {
  const n = state.get("n");
  chainOf(n, 0);
  const table = new RingArea();
  const chain = new DescriptorChain();
  assert.ok(table.locate(door, 0, 16 * SIZE, false));
  const walk = (): number => {
    chain.clear();
    chain.load(door, table, SIZE, 0, true);
    return chain.readable.total;
  };
  assert.equal(walk(), n * LENGTH);
  yield () => do_not_optimize(walk());
  assert.deepEqual([walk(), chain.descriptors, chain.fault], [n * LENGTH, n, null]);
}).args("n", [1, 4, 64]);

bench("$n in a table", function* (state: State) {
  const n = state.get("n");
  for (let i = 0; i < n; i++)
    describe(INDIRECT_AT + 16 * i, BUFFERS + 0x800 * i, LENGTH, i < n - 1 ? NEXT : 0, i < n - 1 ? i + 1 : 0);
  describe(0, INDIRECT_AT, 16 * n, INDIRECT, 0);
  const table = new RingArea();
  const chain = new DescriptorChain();
  assert.ok(table.locate(door, 0, 16 * SIZE, false));
  const walk = (): number => {
    chain.clear();
    chain.load(door, table, SIZE, 0, true);
    return chain.readable.total;
  };
  assert.equal(walk(), n * LENGTH);
  yield () => do_not_optimize(walk());
  assert.deepEqual([walk(), chain.descriptors, chain.fault], [n * LENGTH, n + 1, null]);
}).args("n", [4, 64]);

await report();
