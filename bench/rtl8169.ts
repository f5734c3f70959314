/**
 * The RTL8169's packet paths: ns per frame, in ratio to one copy of the frame in the same run, and that they make no
 * garbage. `--rounds N` repeats the measurement (default 15); the best round counts.
 */
import assert from "node:assert/strict";
import { rtl8169 } from "../devices/rtl8169/index.js";
import { WindowedMemory } from "../src/bytes/index.js";
import type { EndpointLimits, Nic, QueueRunner, Timer } from "../src/contract/index.js";

const ROUNDS = Number(process.argv[process.argv.indexOf("--rounds") + 1]) || 15;
const FRAMES = 20_000;
const RING = 0x10_0000;
const BUFFERS = 0x20_0000;
const ENTRIES = 256;
const STRIDE = 0x1000;

const limits: EndpointLimits = { csum: false, tso4: false, tso6: false, uso: false, longestFrame: 1518, holds: false };

class Bench {
  readonly memory = new WindowedMemory([{ base: 0, bytes: new Uint8Array(8 * 2 ** 20) }]);
  readonly card: Nic;
  readonly view: DataView;
  now = 0;
  sent = 0;
  #runner: QueueRunner | null = null;

  constructor(fcs: "computed" | "zero") {
    this.card = rtl8169({ fcs });
    this.view = this.memory.windows[0]!.view;
    const timers: (() => void)[] = [];
    this.card.connect({
      memory: this.memory,
      clock: {
        now: () => this.now,
        timer: (fire): Timer => {
          timers.push(fire);
          return { deadline: Number.POSITIVE_INFINITY, arm: () => {}, cancel: () => {}, [Symbol.dispose]: () => {} };
        },
      },
      work: {
        bind: (runner) => {
          this.#runner = runner;
        },
        request: (queue) => void this.#runner?.runQueue(queue, 4096),
        runNow: () => {},
        clear: () => {},
      },
      interrupts: { setIntx: () => {}, message: () => {} },
      report: ({ code }) => assert.fail(code),
      strictness: "lenient",
    });
    this.card.net.attach({
      offer: () => {
        this.sent++;
        return "taken";
      },
      endBatch: () => {},
      ready: () => {},
      accepts: () => limits,
    });
    this.card.configWrite(0x04, 2, 7);
    this.now = 1e9;
    timers.at(-1)?.(); // the PHY's: the link comes up
    this.card.barWrite(1, 0xe8, 4, 0);
    this.card.barWrite(1, 0x24, 4, 0);
    this.card.barWrite(1, 0xe4, 4, RING);
    this.card.barWrite(1, 0x20, 4, RING + 0x1_0000);
    this.card.barWrite(1, 0x37, 1, 0x0c);
    this.card.barWrite(1, 0x44, 4, 0xe70a);
    assert.equal(this.card.barRead(1, 0x6c, 1), 0x13);
  }

  descriptor(at: number, opts1: number, buffer: number): void {
    this.view.setUint32(at + 4, 0, true);
    this.view.setUint32(at + 8, buffer, true);
    this.view.setUint32(at + 12, 0, true);
    this.view.setUint32(at, opts1 >>> 0, true);
  }
}

/** ns per call of `work`, which does `FRAMES` of them. */
const measure = (work: () => void): number => {
  let best = Number.POSITIVE_INFINITY;
  work();
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    work();
    best = Math.min(best, Number(process.hrtime.bigint() - start) / FRAMES);
  }
  return best;
};

/** bytes of heap per frame over a long run */
const garbage = (work: () => void): number => {
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  work();
  return Math.max(0, process.memoryUsage().heapUsed - before) / FRAMES;
};

/** A broadcast in the middle of a larger array, as a switch or another guest's RAM holds it. */
const source = Uint8Array.from({ length: 4096 }, (_, i) => i & 0xff);
const FROM = 1000;
source.fill(0xff, FROM, FROM + 6);

const receive = (fcs: "computed" | "zero", length: number): (() => void) => {
  const { card, view, ...bench } = new Bench(fcs);
  const { net } = card;
  const own = (i: number) => {
    view.setUint32(RING + 16 * i + 8, BUFFERS + STRIDE * i, true);
    view.setUint32(RING + 16 * i, 0x8000_0800 + (i === ENTRIES - 1 ? 0x4000_0000 : 0), true);
  };
  for (let i = 0; i < ENTRIES; i++) own(i);
  assert.ok(bench.now > 0);
  return () => {
    for (let i = 0; i < FRAMES; i++) {
      if (net.offer(source, FROM, length, null, 0) !== "taken") assert.fail("not taken");
      own(i % ENTRIES);
      if (i % 16 === 15) net.endBatch();
    }
    // The next round begins with descriptor 0 again.
    card.barWrite(1, 0xe4, 4, RING);
  };
};

const transmit = (length: number, pieces: number): (() => void) => {
  const bench = new Bench("zero");
  const { card } = bench;
  const ring = RING + 0x1_0000;
  const batch = 16;
  const part = Math.floor(length / pieces);
  return () => {
    for (let i = 0; i < FRAMES; i += batch) {
      for (let j = 0; j < batch * pieces; j++) {
        const k = j % pieces;
        const flags = (k === 0 ? 0x2000_0000 : 0) + (k === pieces - 1 ? 0x1000_0000 : 0);
        const size = k === pieces - 1 ? length - part * (pieces - 1) : part;
        bench.descriptor(
          ring + 16 * j,
          0x8000_0000 + flags + (j === batch * pieces - 1 ? 0x4000_0000 : 0) + size,
          BUFFERS + STRIDE * j,
        );
      }
      card.barWrite(1, 0x38, 1, 0x40);
    }
    assert.equal(bench.sent % FRAMES, 0);
  };
};

const ram = new Uint8Array(8 * 2 ** 20);
const copy = (): void => {
  for (let i = 0; i < FRAMES; i++) ram.set(source.subarray(FROM, FROM + 1514), BUFFERS + STRIDE * (i % ENTRIES));
};

const peer = measure(copy);
console.log(`copy of 1514 bytes into RAM             ${peer.toFixed(0).padStart(6)} ns    1.0`);
const result = (name: string, work: () => void): number => {
  const ns = measure(work);
  const heap = garbage(work);
  console.log(
    `${name.padEnd(38)} ${ns.toFixed(0).padStart(7)} ns ${(ns / peer).toFixed(1).padStart(6)}   ${heap.toFixed(1)} bytes of heap`,
  );
  return ns;
};

const zero = result("receive 1514, fcs: zero", receive("zero", 1514));
const computed = result("receive 1514, fcs: computed", receive("computed", 1514));
result("receive 60, fcs: zero", receive("zero", 60));
result("receive 60, fcs: computed", receive("computed", 60));
result("transmit 1514 in place", transmit(1514, 1));
result("transmit 1514 from 3 descriptors", transmit(1514, 3));
result("transmit 42, padded", transmit(42, 1));
console.log(`the FCS takes ${((100 * (computed - zero)) / computed).toFixed(0)} % of receiving a full frame`);
assert.ok(zero < 40 * peer && computed < 80 * peer, "a packet path has become slow");
