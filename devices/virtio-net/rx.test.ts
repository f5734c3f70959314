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

const LEGACY: GuestOptions = { via: "legacy" };
const MERGED: GuestOptions = { features: F_MRG_RXBUF };
/** [name, options, header length, whether num_buffers exists] */
const MODES: readonly (readonly [string, GuestOptions, number])[] = [
  ["legacy", LEGACY, 10],
  ["legacy merged", { via: "legacy", features: F_MRG_RXBUF }, 12],
  ["modern", {}, 12],
  ["modern merged", MERGED, 12],
];

test("VIO-155 VIO-245 VIO-250 header and frame fill the chain from byte 0, wherever descriptors end", () => {
  for (const [name, options, header] of MODES)
    for (const cuts of [[], [header], [1, 5, header - 1], [header + 3], [3, header, header + 14, header + 15]]) {
      const g = new Guest(options);
      const f = frame(60);
      const ends = [...cuts, 2048];
      const pieces = ends.map((end, i) => [BUFFERS + 0x1000 * i, end - (ends[i - 1] ?? 0), WRITE] as const);
      g.chain(RX, 4, ...pieces);
      assert.is(g.receive(f), "taken");
      const got = pieces.flatMap(([address, length]) => [...g.host.copyOf(address, length)]);
      assert.equal(got.slice(header, header + 60), [...f], `${name}, cuts ${cuts}`);
      assert.ok(got.slice(header + 60).every((byte) => byte === 0));
      assert.equal([g.usedIdx(RX), g.entry(RX, 0)], [1, [4, header + 60]]);
    }
});

test("VIO-156 VIO-157 legacy drivers with a separate header, or with one buffer for both", () => {
  const g = new Guest(LEGACY);
  const f = frame(100);
  g.chain(RX, 0, [BUFFERS, 10, WRITE], [BUFFERS + 0x100, 1514, WRITE]);
  g.chain(RX, 2, [BUFFERS + 0x1000, 1526, WRITE]);
  g.receive(f);
  g.receive(f);
  assert.equal([...g.host.copyOf(BUFFERS + 0x100, 100)], [...f]);
  assert.equal([...g.host.copyOf(BUFFERS + 0x1000 + 10, 100)], [...f]);
  assert.equal(
    [g.entry(RX, 0), g.entry(RX, 1)],
    [
      [0, 110],
      [2, 110],
    ],
  );
});

test("VIO-246 VIO-255 VIO-264 VIO-265 without MRG_RXBUF the header is 0 but for num_buffers, which is 1", () => {
  const g = new Guest();
  g.host.put(BUFFERS, new Uint8Array(64).fill(0xff));
  g.post(0, BUFFERS, 2048);
  g.receive(frame(60));
  assert.equal([...g.host.copyOf(BUFFERS, 12)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
  const old = new Guest(LEGACY);
  old.host.put(BUFFERS, new Uint8Array(64).fill(0xff));
  old.post(0, BUFFERS, 2048);
  old.receive(frame(60));
  assert.equal([...old.host.copyOf(BUFFERS, 10)], new Array(10).fill(0));
});

test("VIO-247 VIO-248 VIO-249 a frame over several buffers: all but the last are full, one index update", () => {
  for (const [name, options, header] of MODES.filter(([name]) => name.includes("merged"))) {
    const g = new Guest(options);
    const f = frame(1500);
    for (let i = 0; i < 4; i++) {
      g.host.put(BUFFERS + 0x1000 * i, new Uint8Array(0x1000).fill(0xcc));
      g.post(i, BUFFERS + 0x1000 * i, 600);
    }
    const seen: number[] = [];
    const before = g.host.levels.length;
    assert.is(g.receive(f), "taken");
    seen.push(g.host.levels.length - before);
    assert.equal([...g.host.copyOf(BUFFERS, 12)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0], name);
    const got = [0, 1, 2].flatMap((i) => [...g.host.copyOf(BUFFERS + 0x1000 * i, 600)]);
    assert.equal(got.slice(header, header + 1500), [...f]);
    assert.is(g.usedIdx(RX), 3);
    assert.equal(
      [0, 1, 2].map((i) => g.entry(RX, i)),
      [
        [0, 600],
        [1, 600],
        [2, header + 1500 - 1200],
      ],
    );
    assert.equal(seen, [1], "one interrupt");
    assert.is(g.host.get(BUFFERS + 0x1000 + 10, 2), f[600 + 10 - header]! + 256 * f[600 + 11 - header]!);
  }
});

test("VIO-247 num_buffers is little-endian where it needs its second byte", () => {
  const g = new Guest({ features: F_MRG_RXBUF, size: 512 });
  for (let i = 0; i < 300; i++) g.post(i, BUFFERS + 0x100 * i, 20);
  g.receive(frame(300 * 20 - 12));
  assert.equal([...g.host.copyOf(BUFFERS + 10, 2)], [0x2c, 0x01]);
  assert.is(g.usedIdx(RX), 300);
});

test("VIO-251 a frame larger than the buffer is dropped and the buffer stays", () => {
  const g = new Guest();
  g.post(0, BUFFERS, 1526);
  for (let i = 0; i < 10_000; i++) assert.is(g.receive(frame(1515)), "dropped");
  assert.is(g.usedIdx(RX), 0);
  assert.ok(g.host.copyOf(BUFFERS, 1526).every((byte) => byte === 0));
  assert.is(g.receive(frame(1514)), "taken");
  assert.equal(g.entry(RX, 0), [0, 1526]);
  assert.is(g.nic.counters().rxNoBuffer, 10_000);
  g.peer.holds = true;
  g.post(1, BUFFERS, 100);
  assert.is(g.receive(frame(1514)), "dropped", "it would wait for ever");
  assert.equal(g.host.reports, ["rx-buffer-too-small"]);
});

test("VIO-252 too little room for a merged frame leaves the ring as it was", () => {
  const g = new Guest(MERGED);
  for (let i = 0; i < 3; i++) g.post(i, BUFFERS + 0x1000 * i, 500);
  assert.is(g.receive(frame(1489)), "dropped");
  assert.is(g.usedIdx(RX), 0);
  assert.ok(g.host.copyOf(BUFFERS, 0x3000).every((byte) => byte === 0));
  assert.is(g.receive(frame(1488)), "taken");
  assert.is(g.usedIdx(RX), 3);
});

test("VIO-253 VIO-254 buffers smaller than the header, and a header over two buffers", () => {
  const small = new Guest();
  small.post(0, BUFFERS, 5);
  assert.is(small.receive(frame(60)), "dropped");
  assert.is(small.usedIdx(RX), 0);
  const readOnly = new Guest(MERGED);
  readOnly.chain(RX, 0, [BUFFERS, 2048, 0]);
  readOnly.chain(RX, 1, [BUFFERS, 2048, WRITE]);
  assert.is(readOnly.receive(frame(60)), "dropped");
  assert.is(readOnly.usedIdx(RX), 0);
  // Nobody waits for room that will not come, and the driver's mistake is told.
  for (const options of [MERGED, {}]) {
    const waiting = new Guest(options);
    waiting.peer.holds = true;
    waiting.post(0, BUFFERS, 32);
    waiting.chain(RX, 1, [BUFFERS, 2048, 0]);
    assert.is(waiting.receive(frame(60)), "dropped");
    assert.equal([waiting.host.reports, waiting.usedIdx(RX)], [["rx-buffer-too-small"], 0]);
  }
  const g = new Guest(MERGED);
  g.chain(RX, 0, [BUFFERS, 11, WRITE], [BUFFERS + 0x100, 3, WRITE]);
  g.post(2, BUFFERS + 0x200, 2048);
  assert.is(g.receive(frame(60)), "taken");
  assert.equal([...g.host.copyOf(BUFFERS, 12)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
  assert.is(g.host.get(BUFFERS + 0x100, 1), 0);
  assert.equal(
    [g.entry(RX, 0), g.entry(RX, 1)],
    [
      [0, 14],
      [2, 58],
    ],
  );
});

test("VIO-266 frames before DRIVER_OK, or without a queue, touch no guest memory", () => {
  const g = new Guest({ start: false });
  g.post(0, BUFFERS, 2048);
  g.notify(RX);
  const before = g.host.copyOf(0x40_0000, 0x4000);
  assert.is(g.receive(frame(60)), "dropped");
  assert.equal(g.host.copyOf(0x40_0000, 0x4000), before);
  assert.not(g.host.intx);
  g.driverOk();
  assert.is(g.receive(frame(60)), "taken", "what was posted earlier is used");
  g.status = 0;
  g.status = 3;
  g.status = 7;
  const zero = g.host.copyOf(0, 0x4000);
  assert.is(g.receive(frame(60)), "dropped", "receive queue not enabled");
  assert.equal(g.host.copyOf(0, 0x4000), zero);
  assert.is(g.nic.counters().rxFiltered, 2);
});

test("VIO-267 VIO-268 held frames all come after one notification, dropped ones do not stop the rest", () => {
  for (const features of [0, F_EVENT_IDX]) {
    const g = new Guest({ features, size: 16 });
    const waiting = Array.from({ length: 40 }, (_, i) => frame(60, undefined, i));
    g.peer.holds = true;
    const pump = () => {
      while (waiting.length > 0 && g.nic.net.offer(waiting[0]!, 0, 60, null, 3) === "taken") waiting.shift();
      g.nic.net.endBatch();
    };
    g.peer.onReady = pump;
    pump();
    assert.is(waiting.length, 40);
    assert.is(g.usedFlags(RX), 0, "notifications are wanted");
    let got = 0;
    while (got < 40) {
      for (let i = 0; i < 16; i++) g.post(i, BUFFERS + 0x1000 * i, 2048);
      const idx = g.availIdx(RX);
      const event = g.host.get(g.used(RX) + 4 + 8 * 16, 2);
      const kick = features === 0 ? g.usedFlags(RX) === 0 : ((idx - event - 1) & 0xffff) < 16;
      assert.ok(kick, "a driver would notify");
      g.notify(RX);
      for (; got < g.usedIdx(RX); got++)
        assert.is(g.host.get(BUFFERS + 0x1000 * g.entry(RX, got)[0] + 12 + 59, 1), (59 * 7 + got) & 0xff);
    }
    assert.is(got, 40);
    assert.ok(g.peer.readies.every((hint) => hint === 3));
    assert.is(g.nic.counters().rxNoBuffer, 0);
  }
});

test("VIO-267 with a far end that cannot hold, frames are dropped and counted, and later ones flow", () => {
  const g = new Guest();
  for (let i = 0; i < 5; i++) assert.is(g.receive(frame(60)), "dropped");
  assert.is(g.nic.counters().rxNoBuffer, 5);
  g.post(0, BUFFERS, 2048);
  assert.is(g.receive(frame(60)), "taken");
});

test("VIO-267 merged buffers: a held frame that needs more than the rest is resumed by the notification for more", () => {
  const g = new Guest({ features: F_MRG_RXBUF | F_EVENT_IDX });
  g.peer.holds = true;
  g.post(0, BUFFERS, 600);
  const f = frame(1514);
  assert.is(g.receive(f), "later");
  const event = g.host.get(g.used(RX) + 4 + 8 * 256, 2);
  assert.is(event, 1, "the next buffer beyond those that are there");
  g.peer.onReady = () => void g.receive(f);
  g.post(1, BUFFERS + 0x1000, 600);
  g.notify(RX);
  assert.is(g.usedIdx(RX), 0);
  g.post(2, BUFFERS + 0x2000, 600);
  g.notify(RX);
  assert.is(g.usedIdx(RX), 3);
});

test("a full ring of buffers that are too small together drops instead of waiting for ever", () => {
  const g = new Guest({ features: F_MRG_RXBUF, size: 4 });
  g.peer.holds = true;
  for (let i = 0; i < 4; i++) g.post(i, BUFFERS + 0x1000 * i, 100);
  assert.is(g.receive(frame(1514)), "dropped");
  assert.equal(g.host.reports, ["rx-buffer-too-small"]);
});

test("VIO-269 link down drops frames and lets go of those that wait", () => {
  const g = new Guest();
  g.peer.holds = true;
  assert.is(g.receive(frame(60)), "later");
  g.nic.setLink(false);
  assert.is(g.peer.readies.length, 1);
  g.post(0, BUFFERS, 2048);
  assert.is(g.receive(frame(60)), "dropped");
  assert.is(g.usedIdx(RX), 0);
  assert.is(g.nic.counters().rxFiltered, 1);
  g.nic.setLink(true);
  assert.is(g.receive(frame(60)), "taken");
});

test("VIO-270 a frame shorter than an Ethernet header is not delivered", () => {
  for (const [, options, header] of MODES) {
    const g = new Guest(options);
    g.post(0, BUFFERS, 2048);
    assert.is(g.receive(frame(13)), "dropped");
    assert.is(g.receive(frame(14)), "taken");
    assert.equal(g.entry(RX, 0), [0, header + 14]);
  }
});

test("VIO-271 one interrupt for a batch", () => {
  const g = new Guest();
  for (let i = 0; i < 32; i++) g.post(i, BUFFERS + 0x1000 * i, 2048);
  for (let batch = 0; batch < 3; batch++) {
    for (let i = 0; i < 8; i++) g.nic.net.offer(frame(60), 0, 60, null, 0);
    assert.not(g.host.intx, "not before the end of the batch");
    g.nic.net.endBatch();
    assert.is(g.isr, 1);
  }
  g.nic.net.endBatch();
  assert.not(g.host.intx);
  assert.equal(g.host.levels, [1, 0, 1, 0, 1, 0]);
  assert.is(g.nic.counters().interrupts, 3);
});

test("a batch that is open when the driver gives up ends without an interrupt", () => {
  const g = new Guest();
  g.post(0, BUFFERS, 2048);
  g.nic.net.offer(frame(60), 0, 60, null, 0);
  g.status = 0x8f; // FAILED
  g.nic.net.endBatch();
  assert.not(g.host.intx);
});

test("VIO-272 what the card sends does not come back by itself, also when the far end answers at once", () => {
  const g = new Guest();
  for (let i = 0; i < 4; i++) g.post(i, BUFFERS + 0x1000 * i, 2048);
  g.peer.onOffer = () => {
    const { lastBytes, lastStart } = g.peer;
    if (lastBytes !== null) g.nic.net.offer(lastBytes, lastStart, 60, null, 0);
  };
  g.host.put(BUFFERS + 0x8000 + 12, frame(60));
  g.chain(TX, 0, [BUFFERS + 0x8000, 72, 0]);
  g.notify(TX);
  assert.is(g.peer.frames.length, 1);
  assert.is(g.usedIdx(RX), 1, "once, by the far end's doing");
  const quiet = new Guest();
  quiet.post(0, BUFFERS, 2048);
  quiet.chain(TX, 0, [BUFFERS + 0x8000, 72, 0]);
  quiet.notify(TX);
  assert.is(quiet.usedIdx(RX), 0);
});

test("VIO-175 VIO-192 indirect receive buffers, and buffers across windows", () => {
  const windows = [
    { base: 0, size: 0x60_0000 },
    { base: 0x60_0000, size: 0x20_0000 },
  ];
  const g = new Guest({ features: F_INDIRECT, windows });
  const f = frame(1000);
  const table = 0x5f_fff0; // across the border, too
  for (const [i, [address, length, flags]] of [
    [0x5f_fff8, 0, 1],
    [0x5f_f000, 12, 3],
    [0x5f_fe00, 0x10, 3],
    [0x60_1000, 2048, 2],
  ].entries()) {
    g.host.set(table + 16 * i, 8, address!);
    g.host.set(table + 16 * i + 8, 4, length!);
    g.host.set(table + 16 * i + 12, 2, flags!);
    g.host.set(table + 16 * i + 14, 2, i + 1);
  }
  g.describe(RX, 0, table, 64, 4);
  g.available(RX, 0);
  assert.is(g.receive(f), "taken");
  assert.equal([...g.host.copyOf(0x5f_fe00, 16), ...g.host.copyOf(0x60_1000, 984)], [...f]);
  g.post(1, 0x5f_ff00, 2048);
  assert.is(g.receive(f), "taken");
  assert.equal([...g.host.copyOf(0x5f_ff00 + 12, 1000)], [...f]);
  assert.equal(g.entry(RX, 1), [1, 1012]);
});

test("frames need not begin where their bytes begin", () => {
  const g = new Guest();
  g.post(0, BUFFERS, 2048);
  const whole = new Uint8Array(5000).fill(0xee);
  whole.set(frame(60), 4321);
  assert.is(g.nic.net.offer(whole, 4321, 60, null, 0), "taken");
  assert.equal([...g.host.copyOf(BUFFERS + 12, 61)], [...frame(60), 0]);
});

test("a frame that still needs a checksum or cutting is not delivered", () => {
  const g = new Guest();
  g.post(0, BUFFERS, 2048);
  const offload = {
    needsCsum: true,
    csumStart: 34,
    csumOffset: 6,
    dataValid: false,
    gso: "none",
    gsoSize: 0,
    ecn: false,
  } as const;
  const f = frame(60);
  assert.is(g.nic.net.offer(f, 0, 60, offload, 0), "dropped");
  assert.is(g.nic.net.offer(f, 0, 60, { ...offload, needsCsum: false, gso: "tcp4", gsoSize: 100 }, 0), "dropped");
  assert.is(g.nic.net.offer(f, 0, 60, { ...offload, needsCsum: false, dataValid: true }, 0), "taken");
  assert.is(g.host.get(BUFFERS, 1), 0);
});

test("VIO-206 random receive rings and frames: what is reported as used was written, and nothing else", () => {
  const piece = fc.tuple(
    fc.integer({ min: 0, max: 0xfff }),
    fc.integer({ min: 0, max: 700 }),
    fc.constantFrom(2, 2, 2, 0),
  );
  const scenario = fc.record({
    features: fc.constantFrom(0, F_MRG_RXBUF, F_MRG_RXBUF | F_EVENT_IDX),
    chains: fc.array(fc.array(piece, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 8 }),
    frames: fc.array(fc.integer({ min: 14, max: 1600 }), { minLength: 1, maxLength: 6 }),
  });
  fc.assert(
    fc.property(scenario, ({ features, chains, frames }) => {
      const g = new Guest({ features, size: 64 });
      const room = chains.map((pieces, k) => {
        g.chain(RX, 4 * k, ...pieces.map(([at, length, flags]) => [BUFFERS + 0x4000 * k + at, length, flags] as const));
        return pieces.reduce((sum, [, length, flags]) => sum + (flags === 2 ? length : 0), 0);
      });
      let delivered = 0;
      for (const length of frames) if (g.receive(frame(length)) === "taken") delivered += length + 12;
      let total = 0;
      for (let i = 0; i < g.usedIdx(RX); i++) {
        const [id, len] = g.entry(RX, i);
        assert.is(id % 4, 0);
        assert.ok(len <= (room[id / 4] ?? 0));
        total += len;
      }
      assert.is(total, delivered);
      assert.ok(g.host.guardsIntact());
    }),
    { numRuns: 100 },
  );
});

test.run();
