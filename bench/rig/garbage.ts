import assert from "node:assert/strict";
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { frameOf, LONGEST, noise, type RawGuest } from "./machine.js";
import type { Make } from "./packets.js";

const ITERATIONS = 1_000_000;
const WARM_UP = 100_000;
/** The compiler may come late, and what it makes lies on the heap, too: so many runs may be taken for warming up. */
const ATTEMPTS = 3;
/** What may leave something is measured over so few iterations that no collection runs meanwhile. */
const FEW = 4000;
/** views that so many iterations may leave without one; what leaves more has fewer */
const FEW_VIEWS = 2 * FEW;
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

/** Something whose iterations are to leave little behind. */
export interface Path {
  readonly name: string;
  /** as many iterations as told */
  readonly run: (iterations: number) => void;
  /** views and boxed numbers that an iteration may leave behind */
  readonly views?: number;
  readonly numbers?: number;
  /** a tenth of the iterations, where each takes tens of µs; default 1 */
  readonly share?: number;
}

/** What a card's packet paths are called, and what frames it is measured with beside the usual ones. */
export interface PacketNames {
  readonly name: string;
  /** bytes */
  readonly large: number;
  /** pieces into which it cuts such a frame on its way into guest memory; default 1: none */
  readonly pieces?: number;
}

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

export const RTL8169: PacketNames = { name: "rtl8169", large: 7000 };
/** A frame of 64 KiB fills 33 buffers of 2 KiB. */
export const virtioNames = (ring: "split" | "packed"): PacketNames => ({
  name: `virtio-net, ${ring}`,
  large: 65_536,
  pieces: 33,
});

/** Frames in and out through a card: what copies nothing leaves nothing, what copies pieces at most a view for each. */
export const packetPaths = (make: Make, { name, large, pieces = 1 }: PacketNames): Path[] => {
  const path = (what: string, run: Path["run"], views = 0): Path => ({ name: `${what}, ${name}`, run, views });
  const cut = pieces > 1 ? pieces : 0;
  const long = (of: Path): Path => ({ ...of, share: 0.1 });
  return [
    ...[60, LONGEST].map((length) => path(`receive ${length}`, receive(make({}), length))),
    path("receive 66 from RAM", receiveFromRam(make({}), 66)),
    path(`receive ${LONGEST} from RAM`, receiveFromRam(make({}), LONGEST), 1),
    // Some 16 bytes for every second piece, and not in every run; bench/README.md says what is known of them.
    { ...long(path(`receive ${large}`, receive(make({ large }), large), cut)), numbers: cut },
    ...[60, LONGEST].map((length) => path(`transmit ${length}`, transmit(make({ fragments: [length] })))),
    long(path(`transmit ${large}`, transmit(make({ fragments: [large], large })))),
    ...[
      [757, 757],
      [66, 724, 724],
    ].map((fragments) => path(`transmit ${fragments.join(" + ")}`, transmit(make({ fragments })), fragments.length)),
  ];
};

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
const fewBytes = async (run: (iterations: number) => void, iterations = FEW): Promise<Result> => {
  let least: Result | undefined;
  for (let round = 0; round < ROUNDS; round++) {
    const result = await measure(run, iterations);
    if (result.collections === 0 && (least === undefined || result.bytes < least.bytes)) least = result;
  }
  assert.ok(least, `a collection in each of ${ROUNDS} rounds`);
  return least;
};

/** Bytes of a view of a larger array. */
const viewBytes = async (): Promise<number> => {
  const whole = new Uint8Array(STRIDE);
  let view = whole;
  const { bytes } = await fewBytes((iterations) => {
    for (let i = 0; i < iterations; i++) view = whole.subarray(i % 16);
  });
  assert.ok(view.length > 0);
  return bytes;
};
/** A map and a double. */
const PER_NUMBER = 16;

/** Measures a path until it keeps to what it may leave behind. */
const attempt = async (
  { run, views = 0, numbers = 0, share = 1 }: Path,
  perView: number,
): Promise<Result & { readonly fits: boolean }> => {
  const allowed = views * perView + numbers * PER_NUMBER;
  for (let attempts = 1; ; attempts++) {
    const long = await measure(run, ITERATIONS * share);
    // After a collection the growth tells nothing.
    const few = Math.floor(Math.min(FEW, FEW_VIEWS / Math.max(1, views)));
    const { bytes } = long.collections === 0 ? long : await fewBytes(run, few);
    const fits = bytes < allowed + 1 && (allowed > 0 || long.collections === 0);
    if (fits || attempts === ATTEMPTS) return { ...long, bytes, fits };
  }
};

/** Prints a line for each path; an assertion fails when one leaves more behind than it may. */
export const judge = async (paths: readonly Path[]): Promise<void> => {
  for (const { run, share = 1 } of paths) run(WARM_UP * share);
  const perView = await viewBytes();
  const wide = Math.max(...paths.map(({ name }) => name.length));
  console.log(`${"".padEnd(wide)}      ns    bytes  collections`);
  const failed: string[] = [];
  for (const path of paths) {
    const { name, views = 0, numbers = 0, share = 1 } = path;
    path.run(WARM_UP * share);
    const { ns, bytes, collections, fits } = await attempt(path, perView);
    if (!fits) failed.push(name);
    const figures = [ns.toFixed(0).padStart(7), bytes.toFixed(2).padStart(8), String(collections).padStart(12)].join(
      " ",
    );
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
};
