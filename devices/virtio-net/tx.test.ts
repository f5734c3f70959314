import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  BUFFERS,
  F_EVENT_IDX,
  F_INDIRECT,
  F_MRG_RXBUF,
  frame,
  Guest,
  type GuestOptions,
  RX,
  TX,
  WRITE,
} from "./testing.js";

/** [name, options, header length] */
const MODES: readonly (readonly [string, GuestOptions, number])[] = [
  ["legacy", { via: "legacy" }, 10],
  ["legacy merged", { via: "legacy", features: F_MRG_RXBUF }, 12],
  ["modern", {}, 12],
  ["modern merged", { features: F_MRG_RXBUF }, 12],
];

/** Puts header and frame at BUFFERS and cuts them into descriptors at `cuts`, a page apart. */
const send = (g: Guest, header: Uint8Array, f: Uint8Array, cuts: readonly number[], head = 0): void => {
  const all = Uint8Array.from([...header, ...f]);
  const ends = [...cuts.filter((cut) => cut < all.length), all.length];
  const pieces = ends.map((end, i) => {
    const start = ends[i - 1] ?? 0;
    g.host.put(BUFFERS + 0x1_0000 * i, all.subarray(start, end));
    return [BUFFERS + 0x1_0000 * i, end - start, 0] as const;
  });
  g.chain(TX, head, ...pieces);
  g.notify(TX);
};

test("VIO-155 VIO-168 VIO-169 VIO-292 any framing of header and frame leaves as the same frame", () => {
  for (const [name, options, header] of MODES)
    for (const cuts of [[], [header], [1, 5, header - 1], [header + 6], [3, header, header + 14, header + 15]]) {
      const g = new Guest(options);
      send(g, new Uint8Array(header), frame(1514), cuts, 7);
      assert.is(g.peer.frames.length, 1, `${name}, cuts ${cuts}`);
      assert.equal([...g.peer.frames[0]!], [...frame(1514)]);
      assert.equal([g.usedIdx(TX), g.entry(TX, 0)], [1, [7, 0]]);
    }
});

test("a frame in one piece is handed on where it lies, one in several pieces is gathered", () => {
  const g = new Guest();
  const ram = g.host.memory.windows[0]!.bytes;
  send(g, new Uint8Array(12), frame(1514), [12]);
  assert.is(g.peer.lastBytes, ram);
  assert.is(g.peer.lastStart, BUFFERS + 0x1_0000);
  assert.is(g.nic.counters().bytesCopied, 0);
  send(g, new Uint8Array(12), frame(1514), []);
  assert.is(g.peer.lastBytes, ram);
  assert.is(g.peer.lastStart, BUFFERS + 12);
  assert.is(g.nic.counters().bytesCopied, 0);
  send(g, new Uint8Array(12), frame(1514), [12, 100]);
  assert.is.not(g.peer.lastBytes, ram);
  assert.is(g.nic.counters().bytesCopied, 1514);
});

test("VIO-278 VIO-279 chains of 0 … 25 bytes are completed and dropped, without a negative length", () => {
  for (const [, options, header] of MODES) {
    const g = new Guest(options);
    let sent = 0;
    for (let length = 0; length < header + 15; length++) {
      g.chain(TX, 0, [BUFFERS, length, 0]);
      g.notify(TX);
      sent += length >= header + 14 ? 1 : 0;
      assert.equal([g.usedIdx(TX), g.entry(TX, length)], [length + 1, [0, 0]]);
      assert.is(g.peer.frames.length, sent);
    }
    assert.is(sent, 1);
    assert.is(g.nic.counters().txDropped, header + 14);
    assert.equal(g.host.reports, ["tx-frame-size"]);
    assert.is(g.status & 0x40, 0);
  }
});

test("frames longer than 65535 bytes of payload are dropped", () => {
  const g = new Guest({ windows: [{ base: 0, size: 0x80_0000 }] });
  g.chain(TX, 0, [BUFFERS, 12, 0], [BUFFERS, 65553, 0]);
  g.chain(TX, 2, [BUFFERS, 12, 0], [BUFFERS, 65554, 0]);
  g.chain(TX, 4, [BUFFERS, 12, 0], [0, 0x80_0000, 0], [0, 0x80_0000, 0]);
  g.notify(TX);
  assert.equal(
    g.peer.frames.map((f) => f.length),
    [65553],
  );
  assert.is(g.usedIdx(TX), 3);
});

test("VIO-282 VIO-283 VIO-284 VIO-291 flags, lengths and num_buffers of the header count for nothing", () => {
  const g = new Guest();
  const header = Uint8Array.of(0xff, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
  send(g, header, frame(60), [12]);
  assert.equal([...g.peer.frames[0]!], [...frame(60)]);
});

test("VIO-290 a GSO type that was not negotiated drops the frame", () => {
  for (const gso of [1, 3, 4, 5, 0x81, 0x80]) {
    const g = new Guest();
    send(g, Uint8Array.of(1, gso, 0, 0, 100, 0, 34, 0, 16, 0, 0, 0), frame(1514), [12]);
    assert.is(g.peer.frames.length, 0);
    assert.equal(g.entry(TX, 0), [0, 0]);
    assert.equal(g.host.reports, ["tx-gso-not-negotiated"]);
  }
});

test("VIO-293 completions are there when the notification returns, and the far end hears the end of the batch", () => {
  const g = new Guest();
  for (let i = 0; i < 10; i++) g.chain(TX, 2 * i, [BUFFERS, 12, 0], [BUFFERS + 0x100, 60, 0]);
  g.notify(TX);
  assert.is(g.usedIdx(TX), 10);
  assert.is(g.peer.batches, 1);
  g.notify(TX);
  assert.is(g.peer.batches, 1, "nothing sent, no batch");
});

test("VIO-294 traffic in one direction only gets its interrupts, whatever the suppression", () => {
  for (const features of [0, F_EVENT_IDX]) {
    const g = new Guest({ features, size: 8 });
    for (let round = 0; round < 20; round++) {
      // The driver fills the ring and asks for an interrupt at the last of them.
      g.host.set(g.avail(TX) + 4 + 2 * 8, 2, (8 * round + 7) & 0xffff);
      for (let i = 0; i < 8; i++) g.chain(TX, i, [BUFFERS, 72, 0]);
      g.notify(TX);
      assert.is(g.usedIdx(TX), 8 * (round + 1));
      assert.is(g.isr, 1, `round ${round}`);
    }
  }
});

test("VIO-296 the driver may overwrite a buffer as soon as it is used", () => {
  const g = new Guest();
  send(g, new Uint8Array(12), frame(60), [12]);
  g.host.put(BUFFERS + 0x1_0000, new Uint8Array(60));
  assert.equal([...g.peer.frames[0]!], [...frame(60)]);
});

test("VIO-297 link down completes and drops, and so does a missing cable", () => {
  const g = new Guest();
  g.nic.setLink(false);
  send(g, new Uint8Array(12), frame(60), [12]);
  g.nic.setLink(true);
  g.nic.net.attach(null);
  send(g, new Uint8Array(12), frame(60), [12]);
  g.nic.net.attach(g.peer);
  assert.is(g.usedIdx(TX), 2);
  assert.is(g.peer.frames.length, 0);
  assert.is(g.nic.counters().txDropped, 2);
  send(g, new Uint8Array(12), frame(60), [12]);
  assert.is(g.peer.frames.length, 1);
});

test("VIO-298 VIO-145 frames queued and kicked before DRIVER_OK are sent after it", () => {
  for (const via of ["legacy", "modern"] as const) {
    const g = new Guest({ via, start: false });
    send(g, new Uint8Array(via === "legacy" ? 10 : 12), frame(60), [10]);
    assert.is(g.peer.frames.length, 0);
    assert.is(g.usedIdx(TX), 0);
    g.driverOk();
    assert.is(g.peer.frames.length, 1);
    assert.is(g.usedIdx(TX), 1);
  }
});

test("VIO-175 VIO-192 frames over 40 pieces, direct and indirect, in two windows", () => {
  const windows = [
    { base: 0, size: 0x58_0000 },
    { base: 0x58_0000, size: 0x28_0000 },
  ];
  const f = frame(40_000);
  const g = new Guest({ features: F_INDIRECT, windows });
  const at = 0x58_0000 - 20_500; // the frame lies across the border, and one piece of it does
  g.host.put(at, f);
  const pieces = Array.from({ length: 40 }, (_, i) => [at + 1000 * i, 1000, 0] as const);
  g.chain(TX, 0, [0x1000, 12, 0], ...pieces);
  const table = 0x30_0000;
  for (const [i, [address, length]] of [[0x1000, 12] as const, ...pieces].entries()) {
    g.host.set(table + 16 * i, 8, address);
    g.host.set(table + 16 * i + 8, 4, length);
    g.host.set(table + 16 * i + 12, 2, i < 40 ? 1 : 0);
    g.host.set(table + 16 * i + 14, 2, i + 1);
  }
  g.describe(TX, 100, table, 41 * 16, 4);
  g.available(TX, 100);
  g.chain(TX, 101, [0x1000, 12, 0], [at, 40_000, 0]); // one descriptor, two windows
  g.notify(TX);
  assert.is(g.peer.frames.length, 3);
  for (const sent of g.peer.frames) assert.equal(sent, f);
  assert.ok(g.host.guardsIntact());
});

test("`later` keeps the chain and stops the queue until the far end is ready; `dropped` is counted", () => {
  for (const features of [0, F_EVENT_IDX]) {
    const g = new Guest({ features });
    let room = 2;
    g.peer.verdict = () => (room-- > 0 ? "taken" : "later");
    for (let i = 0; i < 5; i++) g.chain(TX, i, [BUFFERS, 72 + i, 0]);
    g.notify(TX);
    assert.is(g.usedIdx(TX), 2);
    assert.is(g.isr, 1);
    g.notify(TX);
    assert.is(g.usedIdx(TX), 2, "a notification does not wake a queue that waits for the far end");
    room = 1;
    g.nic.net.ready(0);
    assert.is(g.usedIdx(TX), 3);
    room = 10;
    g.nic.net.ready(0);
    assert.is(g.usedIdx(TX), 5);
    assert.equal(
      g.peer.frames.map((f) => f.length),
      [60, 61, 62, 63, 64],
    );
    g.nic.net.ready(0);
    g.chain(TX, 5, [BUFFERS, 72, 0]);
    g.notify(TX);
    assert.is(g.usedIdx(TX), 6, "notifications are taken again");
    g.peer.verdict = () => "dropped";
    g.chain(TX, 6, [BUFFERS, 72, 0]);
    g.notify(TX);
    assert.equal([g.nic.counters().txFrames, g.nic.counters().txDropped], [6, 1]);
  }
});

test("a far end that becomes ready inside `offer` does not lead to recursion", () => {
  const g = new Guest();
  let depth = 0;
  let deepest = 0;
  let calls = 0;
  g.peer.onOffer = () => {
    depth++;
    deepest = Math.max(deepest, depth);
    if (calls++ % 2 === 0) g.nic.net.ready(0);
    depth--;
  };
  for (let i = 0; i < 50; i++) g.chain(TX, i, [BUFFERS, 72, 0]);
  g.notify(TX);
  assert.is(g.usedIdx(TX), 50);
  assert.is(deepest, 1);
});

test("VIO-098 a reset while the far end holds a chain: the old ring is left alone", () => {
  const g = new Guest();
  g.peer.verdict = () => "later";
  g.chain(TX, 0, [BUFFERS, 72, 0]);
  g.notify(TX);
  g.status = 0;
  g.peer.verdict = () => "taken";
  g.nic.net.ready(0);
  assert.is(g.peer.frames.length, 0);
  assert.is(g.usedIdx(TX), 0);
  for (const cause of [() => (g.status = 0), () => g.nic.reset("function")]) {
    g.setUp();
    g.nic.configWrite(0x04, 2, 7);
    g.driverOk();
    const before = g.peer.frames.length;
    g.chain(TX, 0, [BUFFERS, 72, 0]);
    g.notify(TX);
    assert.is(g.peer.frames.length, before + 1, "the queue is not blocked any more");
    g.peer.verdict = () => "later";
    g.chain(TX, 0, [BUFFERS, 72, 0]);
    g.notify(TX);
    g.peer.verdict = () => "taken";
    cause();
  }
});

test("deferred work: one notification for many frames, and none is wanted meanwhile", () => {
  for (const features of [0, F_EVENT_IDX]) {
    const g = new Guest({ features });
    g.host.work.deferred = true;
    g.chain(TX, 0, [BUFFERS, 72, 0]);
    g.notify(TX);
    assert.is(g.peer.frames.length, 0);
    if (features === 0) assert.is(g.usedFlags(TX), 1);
    for (let i = 1; i < 100; i++) g.chain(TX, i, [BUFFERS, 72, 0]);
    g.host.work.poll();
    assert.is(g.peer.frames.length, 100);
    assert.is(g.nic.counters().doorbells, 1);
    assert.is(g.isr, 1);
    assert.is(g.nic.counters().interrupts, 1);
    if (features === 0) assert.is(g.usedFlags(TX), 0);
    else assert.is(g.host.get(g.used(TX) + 4 + 8 * 256, 2), 100);
  }
});

test("a budget ends a run between chains, and the next run goes on", () => {
  const g = new Guest();
  g.host.work.deferred = true;
  for (let i = 0; i < 36; i += 3) g.chain(TX, i, [BUFFERS, 12, 0], [BUFFERS, 30, 0], [BUFFERS, 30, 0]);
  g.notify(TX);
  const runner = g.nic.core;
  assert.is(runner.runQueue(TX, 6), 6, "not a chain more");
  assert.is(runner.runQueue(TX, 4), 6, "two chains of three");
  assert.is(g.usedIdx(TX), 4);
  assert.is(g.usedFlags(TX), 1, "still at work");
  assert.is(runner.runQueue(TX, 24), 24);
  assert.is(runner.runQueue(TX, 24), 0);
  assert.is(g.usedIdx(TX), 12);
  assert.is(g.usedFlags(TX), 0);
});

test("writable descriptors in a transmit chain are left alone", () => {
  const g = new Guest();
  g.chain(TX, 0, [BUFFERS, 72, 0], [BUFFERS + 0x1000, 64, WRITE]);
  g.notify(TX);
  assert.is(g.peer.frames[0]?.length, 60);
  assert.equal(g.entry(TX, 0), [0, 0]);
});

test("VIO-206 random transmit chains: each is completed once with length 0, and frames are what was described", () => {
  const piece = fc.tuple(fc.nat(0xffff), fc.nat(300));
  const scenario = fc.record({
    chains: fc.array(fc.array(piece, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 10 }),
    windows: fc.constantFrom(
      [{ base: 0, size: 0x80_0000 }],
      [
        { base: 0, size: BUFFERS + 0x8000 },
        { base: BUFFERS + 0x8000, size: 0x20_0000 },
      ],
    ),
  });
  fc.assert(
    fc.property(scenario, ({ chains, windows }) => {
      const g = new Guest({ size: 64, windows });
      g.host.put(
        BUFFERS,
        Uint8Array.from({ length: 0x1_0200 }, (_, i) => (i * 13 + (i >> 8)) & 0xff),
      );
      const expected: number[][] = [];
      for (const [k, pieces] of chains.entries()) {
        const located = pieces.map(([at, length]) => [BUFFERS + at, length, 0] as const);
        const bytes = located.flatMap(([at, length]) => [...g.host.copyOf(at, length)]);
        g.chain(TX, 5 * k, ...located);
        if (bytes.length >= 26 && bytes[1] === 0) expected.push(bytes.slice(12));
      }
      g.notify(TX);
      assert.is(g.usedIdx(TX), chains.length);
      for (const k of chains.keys()) assert.equal(g.entry(TX, k), [5 * k, 0]);
      assert.equal(
        g.peer.frames.map((f) => [...f]),
        expected,
      );
      assert.is(g.usedIdx(RX), 0);
    }),
    { numRuns: 100 },
  );
});

test("a turn ends when its budget is used up, and the driver is not asked for notifications before the last one", () => {
  const g = new Guest();
  const quiet: boolean[] = [];
  g.peer.onOffer = () => quiet.push(g.usedFlags(TX) === 1);
  g.host.work.budget = 2;
  g.host.work.turns.length = 0;
  for (let i = 0; i < 4; i++) g.chain(TX, i, [BUFFERS, 100, 0]);
  g.notify(TX);
  assert.equal(g.host.work.turns, [2, 2, 0]);
  assert.equal(quiet, [true, true, true, true]);
  assert.is(g.usedFlags(TX), 0);
  g.host.work.turns.length = 0;
  g.notify(RX);
  assert.equal(g.host.work.turns, [0], "a receive queue has nothing to be worked");
});

test.run();
