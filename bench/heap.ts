/**
 * Garbage: what an iteration leaves on the heap over 10^6 iterations, and how many collections ran meanwhile. Accesses,
 * receive and transmit in place leave nothing; what copies pieces of larger arrays leaves at most one short-lived view for
 * each fragment, and never an array; a 32-bit read above 2^31 leaves the number itself, which V8 boxes where a function
 * returns it. Ends with status 1 when a path does not keep to that.
 */
import assert from "node:assert/strict";
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { rtl8169 } from "../devices/rtl8169/index.js";
import { virtioNet } from "../devices/virtio-net/index.js";
import type { AccessWidth } from "../src/contract/index.js";
import { frameOf, noise, Plugged, type RawGuest } from "./rig/machine.js";
import { Rtl8169Guest } from "./rig/rtl8169-guest.js";
import { VirtioNetGuest } from "./rig/virtio-net-guest.js";

const ITERATIONS = 1_000_000;
const WARM_UP = 100_000;
/** The compiler may come late, and what it makes lies on the heap, too: so many runs may be taken for warming up. */
const ATTEMPTS = 3;
/** What may leave something is measured over so few iterations that no collection runs meanwhile. */
const FEW = 4000;
const ROUNDS = 9;
const STRIDE = 0x800;
const PLACES = 256;

const { gc } = globalThis;
assert.ok(gc, "needs --expose-gc, as npm run bench gives it");

/** Bytes on the heap, array buffers included, which do not lie there. */
const occupied = (): number => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

const collections: number[] = [];
new PerformanceObserver((list) => {
  for (const { startTime } of list.getEntries()) collections.push(startTime);
}).observe({ entryTypes: ["gc"] });

interface Path {
  readonly name: string;
  /** as many iterations as told */
  readonly run: (iterations: number) => void;
  /** views and boxed numbers that an iteration may leave behind */
  readonly views: number;
  readonly numbers: number;
}

const paths: Path[] = [];
const add = (name: string, run: (iterations: number) => void, { views = 0, numbers = 0 } = {}): void =>
  void paths.push({ name, run, views, numbers });

// ---------------------------------------------------------------------------------------------------- accesses

type Read = (at: number, width: AccessWidth) => number;
type Write = (at: number, width: AccessWidth, value: number) => void;

/** Addresses are int32s, as they stand in an emulator's registers. @param accesses pairs of offset from `base` and width */
const reads = (read: Read, base: number, accesses: readonly number[]) => {
  const count = accesses.length / 2;
  const at = Int32Array.from({ length: count }, (_, k) => base + accesses[2 * k]!);
  const widths = Array.from({ length: count }, (_, k) => accesses[2 * k + 1] as AccessWidth);
  return (iterations: number): void => {
    const expected = widths.map((width, k) => read(at[k]!, width));
    for (let i = 0, k = 0; i < iterations; i++) {
      if (read(at[k]!, widths[k]!) !== expected[k]) throw new Error(`access ${k} reads something else`);
      k = k + 1 === count ? 0 : k + 1;
    }
  };
};

/** @param accesses triples of offset from `base`, width and value */
const writes = (write: Write, base: number, accesses: readonly number[]) => {
  const count = accesses.length / 3;
  const at = Int32Array.from({ length: count }, (_, k) => base + accesses[3 * k]!);
  const widths = Array.from({ length: count }, (_, k) => accesses[3 * k + 1] as AccessWidth);
  const values = Array.from({ length: count }, (_, k) => accesses[3 * k + 2]!);
  return (iterations: number): void => {
    for (let i = 0, k = 0; i < iterations; i++) {
      write(at[k]!, widths[k]!, values[k]!);
      k = k + 1 === count ? 0 : k + 1;
    }
  };
};

const BDF = 3 << 3;
const re = new Plugged(rtl8169());
const vtnet = new Plugged(virtioNet());
const { machine } = vtnet;
const configRead: Read = (at, width) => machine.configRead(BDF, at, width);
const configWrite: Write = (at, width, value) => machine.configWrite(BDF, at, width, value);
add("configuration read", reads(configRead, 0, [0x00, 4, 0x04, 2, 0x0b, 1, 0x2c, 4, 0x34, 1, 0x3c, 2]));
add("configuration write", writes(configWrite, 0, [0x04, 2, 7, 0x0c, 1, 8, 0x3c, 1, 11, 0x9a, 2, 0]));
add("configuration through ports", (iterations) => {
  for (let i = 0; i < iterations; i++) {
    machine.ioWrite(0xcf8, 4, 0x8000_1800);
    if (machine.ioRead(0xcfc, 2) !== 0x1af4) throw new Error("not the vendor");
  }
});

const reRegisters = [0x37, 1, 0x3e, 2, 0x40, 4, 0x08, 4];
const reValues = [0x3c, 2, 1, 0x3e, 2, 0xffff, 0x08, 4, 0x1234_5678];
const reIoRead: Read = (at, width) => re.machine.ioRead(at, width);
const reIoWrite: Write = (at, width, value) => re.machine.ioWrite(at, width, value);
const reMemRead: Read = (at, width) => re.machine.memRead(at, width);
const reMemWrite: Write = (at, width, value) => re.machine.memWrite(at, width, value);
add("port read", reads(reIoRead, re.card.barBase(0), reRegisters));
add("port write", writes(reIoWrite, re.card.barBase(0), reValues));
add("port read and write, nobody", (iterations) => {
  for (let i = 0; i < iterations; i++) {
    if (machine.ioRead(0x0378, 1) !== 0xff) throw new Error("somebody answers");
    machine.ioWrite(0x0080, 1, 0);
  }
});
add("memory read, rtl8169", reads(reMemRead, re.card.barBase(1), reRegisters));
add("memory write, rtl8169", writes(reMemWrite, re.card.barBase(1), reValues));

const memRead: Read = (at, width) => machine.memRead(at, width);
const memWrite: Write = (at, width, value) => machine.memWrite(at, width, value);
const common = vtnet.card.barBase(4);
add("memory read, virtio-net", reads(memRead, common, [0x14, 1, 0x12, 2, 0x04, 4, 0x20, 4, 0x1000, 1, 0x2000, 4]));
add("memory write, virtio-net", writes(memWrite, common, [0x16, 2, 1, 0x00, 4, 1, 0x20, 4, 0x7ff0_0000]));
const ramRead: Read = (at, width) => machine.memRead(at, width);
const ramWrite: Write = (at, width, value) => machine.memWrite(at, width, value);
add("memory write, RAM and nobody", writes(ramWrite, 0, [0x12_3456, 4, 0x1234_5678, 0xa000_0000, 4, 1]));
add("memory read, RAM and nobody", reads(ramRead, 0, [0x12_3456, 4, 0x12_3457, 1, 0xa000_0000, 2]));
const filter = new Plugged(rtl8169());
const mar0 = (filter.card.barBase(1) + 0x08) | 0;
filter.machine.memWrite(mar0, 4, 0x8765_4321);
add(
  "memory read of 87654321h",
  (iterations) => {
    for (let i = 0; i < iterations; i++)
      if (filter.machine.memRead(mar0, 4) !== 0x8765_4321) throw new Error("something else");
  },
  { numbers: 2 }, // the register block's, and the one that the region has cut to size
);

// ---------------------------------------------------------------------------------------------------- frames

/** Frames that are arrays of their own. */
const receive = (guest: RawGuest, length: number) => {
  const frame = frameOf(length);
  return (iterations: number): void => {
    for (let i = 0; i < iterations; i++) guest.receive(frame, 0, length);
    assert.deepEqual(guest.received(), frame);
  };
};
/** Frames that lie in the RAM of another machine. */
const receiveFromRam = (guest: RawGuest, length: number) => {
  const frame = frameOf(length);
  const ram = noise(STRIDE * PLACES);
  for (let i = 0; i < PLACES; i++) ram.set(frame, STRIDE * i + 2);
  return (iterations: number): void => {
    for (let i = 0; i < iterations; i++) guest.receive(ram, STRIDE * (i % PLACES) + 2, length);
    assert.deepEqual(guest.received(), frame);
  };
};
const transmit =
  (guest: RawGuest) =>
  (iterations: number): void => {
    const { far } = guest.plugged;
    const before = far.taken;
    for (let i = 0; i < iterations; i++) guest.transmit();
    assert.equal(far.taken - before, iterations);
  };

for (const length of [60, 1514]) {
  add(`receive ${length}, rtl8169`, receive(new Rtl8169Guest(), length));
  add(`receive ${length}, rtl8169 without FCS`, receive(new Rtl8169Guest({ fcs: "zero" }), length));
  add(`receive ${length}, virtio-net`, receive(new VirtioNetGuest(), length));
}
add("receive 66 from RAM, rtl8169", receiveFromRam(new Rtl8169Guest(), 66));
add("receive 66 from RAM, virtio-net", receiveFromRam(new VirtioNetGuest(), 66));
for (const length of [60, 1514]) {
  add(`transmit ${length}, rtl8169`, transmit(new Rtl8169Guest({ fragments: [length] })));
  add(`transmit ${length}, virtio-net`, transmit(new VirtioNetGuest({ fragments: [length] })));
}
add("receive 1514 from RAM, rtl8169", receiveFromRam(new Rtl8169Guest(), 1514), { views: 1 });
add("receive 1514 from RAM, virtio-net", receiveFromRam(new VirtioNetGuest(), 1514), { views: 1 });
for (const fragments of [
  [757, 757],
  [66, 724, 724],
]) {
  add(`transmit ${fragments.join(" + ")}, rtl8169`, transmit(new Rtl8169Guest({ fragments })), {
    views: fragments.length,
  });
  add(`transmit ${fragments.join(" + ")}, virtio-net`, transmit(new VirtioNetGuest({ fragments })), {
    views: fragments.length,
  });
}

// ---------------------------------------------------------------------------------------------------- measuring

interface Result {
  readonly ns: number;
  /** an iteration */
  readonly bytes: number;
  readonly collections: number;
}

const measure = async (run: (iterations: number) => void, iterations: number): Promise<Result> => {
  gc();
  await setTimeout(1); // what the collection before left to tell is told
  const before = occupied();
  const started = performance.now();
  run(iterations);
  const ended = performance.now();
  const bytes = (occupied() - before) / iterations;
  await setTimeout(1);
  const during = collections.filter((at) => at >= started && at <= ended).length;
  return { ns: ((ended - started) * 1e6) / iterations, bytes, collections: during };
};

/** Bytes an iteration without a collection in between, the least of some rounds: the first ones may still compile something. */
const fewBytes = async (run: (iterations: number) => void): Promise<Result> => {
  let least: Result | undefined;
  for (let round = 0; round < ROUNDS; round++) {
    const result = await measure(run, FEW);
    if (result.collections === 0 && (least === undefined || result.bytes < least.bytes)) least = result;
  }
  assert.ok(least, `a collection in each of ${ROUNDS} rounds`);
  return least;
};

for (const { run } of paths) run(WARM_UP);

const whole = new Uint8Array(STRIDE);
let view = whole;
const { bytes: perView } = await fewBytes((iterations) => {
  for (let i = 0; i < iterations; i++) view = whole.subarray(i % 16);
});
assert.ok(view.length > 0);
/** A map and a double. */
const PER_NUMBER = 16;

/** Measures a path until it keeps to what it may leave behind. */
const judge = async ({ run, views, numbers }: Path): Promise<Result & { readonly fits: boolean }> => {
  const allowed = views * perView + numbers * PER_NUMBER;
  for (let attempt = 1; ; attempt++) {
    const long = await measure(run, ITERATIONS);
    const { bytes } = long.collections === 0 ? long : await fewBytes(run); // after a collection the growth tells nothing
    const fits = bytes < allowed + 1 && (allowed > 0 || long.collections === 0);
    if (fits || attempt === ATTEMPTS) return { ...long, bytes, fits };
  }
};

const wide = Math.max(...paths.map(({ name }) => name.length));
console.log(`${"".padEnd(wide)}      ns    bytes  collections`);
const failed: string[] = [];
for (const path of paths) {
  const { name, views, numbers } = path;
  path.run(WARM_UP);
  const { ns, bytes, collections, fits } = await judge(path);
  if (!fits) failed.push(name);
  const figures = [ns.toFixed(0).padStart(7), bytes.toFixed(2).padStart(8), String(collections).padStart(12)].join(" ");
  const of =
    views > 0
      ? `  ${(bytes / perView).toFixed(2)} of ${views} views`
      : numbers > 0
        ? `  ${(bytes / PER_NUMBER).toFixed(2)} of ${numbers} numbers`
        : "";
  console.log(`${name.padEnd(wide)} ${figures}${of}${fits ? "" : "  FAIL"}`);
}
console.log(`a view takes ${perView.toFixed(0)} bytes`);
assert.deepEqual(failed, [], "paths that leave more behind than they may");
