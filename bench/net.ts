/**
 * What a frame costs between two cards: ns per full frame, in ratio to one copy of it in the same run, and that it makes no
 * garbage. `--rounds N` repeats the measurement (default 15); the best round counts.
 */
import assert from "node:assert/strict";
import type { Clock, EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../src/contract/index.js";
import { connect, Faults, OffloadRecord, Switch } from "../src/net/index.js";

const ROUNDS = Number(process.argv[process.argv.indexOf("--rounds") + 1]) || 15;
const FRAMES = 20_000;
const LENGTH = 1514;

const limits = (csum: boolean): EndpointLimits => ({
  csum,
  tso4: false,
  tso6: false,
  uso: false,
  longestFrame: 9018,
  holds: true,
});

/** A card's end that takes everything, and counts. */
class Sink implements NetPort {
  far: NetEndpoint | null = null;
  bytes = 0;
  readonly #limits: EndpointLimits;

  constructor(csum = true) {
    this.#limits = limits(csum);
  }

  offer(_bytes: Uint8Array, _start: number, length: number): Verdict {
    this.bytes += length;
    return "taken";
  }

  endBatch(): void {}

  ready(): void {}

  accepts(): EndpointLimits {
    return this.#limits;
  }

  attach(far: NetEndpoint | null): void {
    this.far = far;
  }
}

const clock: Clock = {
  now: () => 0,
  timer: () => ({
    deadline: Number.POSITIVE_INFINITY,
    arm: () => {},
    cancel: () => {},
    [Symbol.dispose]: () => {},
  }),
};

const ram = new Uint8Array(2 ** 20);
const start = 4096;
ram.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0], start);
const open: Offload = Object.assign(new OffloadRecord(), { needsCsum: true, csumStart: 34, csumOffset: 16 });

/** The best round of `work` over FRAMES frames, in ns a frame. */
const measure = (work: () => void): number => {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS + 3; round++) {
    const before = process.hrtime.bigint();
    for (let i = 0; i < FRAMES; i++) work();
    if (round >= 3) best = Math.min(best, Number(process.hrtime.bigint() - before) / FRAMES); // the first ones warm up
  }
  return best;
};

/** Between two sinks, with `between` as what the sender is plugged into. */
const rig = (
  receiver: Sink,
  plug: (sender: NetPort, receiver: NetPort) => void,
  offload: Offload | null,
): (() => void) => {
  const sender = new Sink();
  plug(sender, receiver);
  const { far } = sender;
  assert.ok(far !== null);
  return () => {
    far.offer(ram, start, LENGTH, offload, 0);
  };
};

const copy = new Uint8Array(LENGTH);
const direct = new Sink();
const throughSwitch = (sender: NetPort, receiver: NetPort): void => {
  const sw = new Switch({ clock });
  connect(sender, sw.port(0));
  connect(receiver, sw.port(1));
  // So that the switch knows where the receiver is.
  const hello = new Uint8Array(60);
  hello.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
  sw.port(1).offer(hello, 0, 60, null, 0);
};
const cases: readonly [name: string, receiver: Sink, work: () => void][] = [
  ["a direct call", direct, () => void direct.offer(ram, start, LENGTH)],
  ...(
    [
      ["a wire", new Sink(), connect, null],
      ["a wire that completes a checksum", new Sink(false), connect, open],
      ["a switch", new Sink(), throughSwitch, null],
      [
        "a lossy cable",
        new Sink(),
        (a: NetPort, b: NetPort) => void connect(a, new Faults(b, { clock, seed: 1, inbound: { loss: 1e-9 } })),
        null,
      ],
    ] as const
  ).map(([name, receiver, plug, offload]): [string, Sink, () => void] => [
    name,
    receiver,
    rig(receiver, plug, offload),
  ]),
];

const copying = measure(() => copy.set(ram.subarray(start, start + LENGTH)));
console.log(`${"one copy of the frame".padEnd(36)} ${copying.toFixed(0).padStart(5)} ns`);
for (const [name, receiver, work] of cases) {
  receiver.bytes = 0;
  const ns = measure(work);
  assert.equal(receiver.bytes, (ROUNDS + 3) * FRAMES * LENGTH, `${name}: every frame arrived`);
  global.gc?.();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 10 * FRAMES; i++) work();
  const garbage = (process.memoryUsage().heapUsed - before) / (10 * FRAMES);
  console.log(`${name.padEnd(36)} ${ns.toFixed(0).padStart(5)} ns  ${(ns / copying).toFixed(2).padStart(6)} copies`);
  // A short-lived view where bytes are copied is allowed, an object or an array of frame size is not.
  assert.ok(garbage < 200, `${name}: ${garbage.toFixed(1)} bytes of garbage a frame`);
}
