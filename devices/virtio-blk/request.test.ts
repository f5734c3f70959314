import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  DATA,
  F_EVENT_IDX,
  F_INDIRECT,
  Guest,
  type GuestOptions,
  HEADER,
  type Piece,
  STATUS,
  TestDisk,
  WRITE,
} from "./testing.js";

// status
const [OK, IOERR, UNSUPP] = [0, 1, 2];
const VIAS: readonly ("legacy" | "modern")[] = ["legacy", "modern"];
/** A pattern that is nowhere on the test disk. */
const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 11 + seed * 101 + (i >> 8)) & 0xff);

test("VIO-328 VIO-336 whole sectors inside the capacity are read and written; used length is data + 1, and 1", () => {
  for (const via of VIAS)
    for (const [sector, count] of [
      [0, 1],
      [3, 2],
      [63, 1],
      [0, 64],
      [5, 0],
      [64, 0],
    ] as const) {
      const g = new Guest({ via });
      const length = 512 * count;
      const before = g.disk.bytes.slice();
      assert.equal(g.read(sector, length), [OK, length + 1]);
      assert.equal(g.host.copyOf(DATA, length), before.slice(512 * sector, 512 * sector + length));
      const data = pattern(length);
      assert.equal(g.write(sector, data), [OK, 1]);
      before.set(data, 512 * sector);
      assert.equal(g.disk.bytes, before, "these bytes and no others");
      assert.equal(g.host.reports, []);
      assert.is(g.isr, 1);
    }
});

test("VIO-329 beyond the end, or in parts of a sector: IOERR, and nothing moves", () => {
  for (const via of VIAS)
    for (const [sector, length] of [
      [64, 512],
      [63, 1024],
      [65, 0],
      [0, 65 * 512],
      [0, 511],
      [0, 513],
      [1, 1],
      [2 ** 32, 512],
      [2 ** 52 - 1, 512],
      [0x7fff_ffff, 512],
    ] as const) {
      const g = new Guest({ via });
      const before = g.disk.bytes.slice();
      g.host.put(DATA, pattern(length));
      const ram = g.host.copyOf(DATA, length);
      // Nothing of the data was written for certain, so nothing is claimed. §2.7.8.2
      assert.equal(g.read(sector, length), [IOERR, length === 0 ? 1 : 0], `read ${sector}+${length}`);
      assert.equal(g.host.copyOf(DATA, length), ram);
      assert.equal(g.write(sector, ram), [IOERR, 1], `write ${sector}+${length}`);
      assert.equal(g.disk.bytes, before);
      assert.equal(g.disk.log, [], "the backend was not asked");
      assert.equal(g.host.reports, ["blk-out-of-range"]);
      assert.is(g.status & 0x40, 0, "an error of a request is none of the device");
    }
});

test("VIO-329 a sector number of all ones overflows nothing", () => {
  const g = new Guest();
  g.header(0, 0);
  g.host.put(HEADER + 8, new Uint8Array(8).fill(0xff));
  g.post(0, [
    [HEADER, 16, 0],
    [DATA, 512, WRITE],
    [STATUS, 1, WRITE],
  ]);
  g.notify(0);
  assert.is(g.host.get(STATUS, 1), IOERR);
});

test("VIO-329 with blocks of 4096 bytes, requests in parts of a block are refused", () => {
  const answers = (sector: number, length: number) => {
    const g = new Guest({ card: { blkSize: 4096 } });
    return [g.read(sector, length)[0], g.write(sector, pattern(length))[0]];
  };
  assert.equal(answers(8, 4096), [OK, OK]);
  assert.equal(answers(8, 8192), [OK, OK]);
  assert.equal(answers(1, 4096), [IOERR, IOERR]);
  assert.equal(answers(8, 512), [IOERR, IOERR]);
});

test("VIO-330 a read-only disk answers writes of every kind with IOERR, and is not changed", () => {
  const ways: readonly (() => GuestOptions)[] = [
    () => ({ disk: new TestDisk(8192, true) }),
    () => ({ card: { readOnly: true } }),
  ];
  for (const options of ways)
    for (const via of VIAS) {
      const g = new Guest({ ...options(), via });
      const before = g.disk.bytes.slice();
      assert.equal(g.write(1, pattern(512)), [IOERR, 1]);
      assert.is(g.ranges(11, [0, 1, 0])[0], IOERR);
      assert.is(g.ranges(13, [0, 1, 0])[0], IOERR);
      assert.equal(g.disk.bytes, before);
      assert.equal(g.disk.log, []);
      assert.equal(g.read(1, 512), [OK, 513]);
      assert.is(g.request(4, 0, [])[0], OK);
    }
});

test("VIO-331 types that nobody knows, or that are not offered: UNSUPP", () => {
  // SCSI_CMD 2 and 3, GET_LIFETIME 10, SECURE_ERASE 14, zones 15 … 25
  for (const type of [2, 3, 6, 7, 9, 10, 12, 14, 15, 17, 25, 0x63, 0x7fff_ffff, 0x8000_0002])
    for (const data of [[], [[DATA, 64, WRITE]], [[DATA, 64, 0]]] satisfies Piece[][]) {
      const g = new Guest();
      g.host.put(DATA, new Uint8Array(64).fill(0xee));
      assert.is(g.request(type, 0, data)[0], UNSUPP, `type ${type}`);
      assert.equal(g.host.copyOf(DATA, 64), new Uint8Array(64).fill(0xee));
      assert.equal(g.disk.log, []);
      assert.is(g.status & 0x40, 0);
    }
});

test("the barrier bit of legacy drivers changes nothing, and their flush is one", () => {
  const g = new Guest({ via: "legacy" });
  assert.equal(g.request(0x8000_0000, 0, [[DATA, 512, WRITE]]), [OK, 513]);
  assert.equal(g.request(0x8000_0001, 9, [[DATA, 512, 0]]), [OK, 1]);
  assert.equal(g.request(5, 0, []), [OK, 1]);
  assert.equal(g.disk.log, ["read 0+512", "write 4608+512", "flush", "flush"]);
});

test("VIO-332 FLUSH asks the backend before it is answered, and a backend that fails is IOERR", () => {
  const g = new Guest();
  const before: number[] = [];
  const { flush } = g.disk;
  g.disk.flush = () => {
    before.push(g.host.get(STATUS, 1), g.usedIdx(0));
    return flush.call(g.disk);
  };
  assert.equal(g.request(4, 0, []), [OK, 1]);
  assert.equal(before, [0xee, 0]);
  g.disk.fail = true;
  assert.equal(g.request(4, 0, []), [IOERR, 1]);
});

test("VIO-332 a driver that accepts no FLUSH, or turns the cache off, finds each write on the medium", () => {
  const log = (features: number, writeback?: number): string => {
    const g = new Guest({ features });
    if (writeback !== undefined) g.setConfig(32, 1, writeback);
    g.write(0, pattern(512));
    g.ranges(13, [1, 1, 0]);
    return g.disk.log.filter((line) => line === "flush").length === 2 ? "through" : g.disk.log.join();
  };
  const [FLUSH, WCE] = [1 << 9, 1 << 11];
  const back = "write 0+512,zero 512+512";
  assert.is(log(0), "through");
  assert.is(log(FLUSH), back);
  assert.is(log(FLUSH | WCE), back);
  assert.is(log(WCE), back);
  assert.is(log(FLUSH | WCE, 0), "through");
  assert.is(log(WCE, 0), "through");
  assert.is(log(FLUSH, 0), back, "without CONFIG_WCE the field counts for nothing");
});

test("VIO-332 a write that cannot be flushed is not told as done", () => {
  const g = new Guest(); // writethrough: no FLUSH was accepted
  g.disk.flush = () => false;
  assert.equal(g.write(0, pattern(512)), [IOERR, 1]);
});

test("VIO-333 GET_ID returns 20 bytes, padded with NULs, and as much as there is room for", () => {
  const g = new Guest({ card: { serial: "SERIAL-0123456789" } });
  const fresh = () => g.host.put(DATA, new Uint8Array(64).fill(0xee));
  const text = [..."SERIAL-0123456789"].map((c) => c.charCodeAt(0));
  fresh();
  assert.equal(g.request(8, 0, [[DATA, 20, WRITE]]), [OK, 21]);
  assert.equal([...g.host.copyOf(DATA, 21)], [...text, 0, 0, 0, 0xee]);
  fresh();
  assert.equal(g.request(8, 0, [[DATA, 7, WRITE]]), [OK, 8]);
  assert.equal([...g.host.copyOf(DATA, 8)], [...text.slice(0, 7), 0xee]);
  fresh();
  assert.equal(g.request(8, 0, [[DATA, 64, WRITE]]), [OK, 20], "the gap before the status is not claimed");
  assert.equal([...g.host.copyOf(DATA, 22)], [...text, 0, 0, 0, 0xee, 0xee]);
  const full = new Guest({ card: { serial: "12345678901234567890" } });
  full.request(8, 0, [[DATA, 20, WRITE]]);
  assert.equal(String.fromCharCode(...full.host.copyOf(DATA, 20)), "12345678901234567890");
});

test("DISCARD and WRITE_ZEROES reach the backend with their range", () => {
  const g = new Guest({ features: 1 << 9 });
  assert.equal(g.ranges(11, [2, 3, 0]), [OK, 1]);
  assert.equal(g.ranges(13, [8, 1, 0]), [OK, 1]);
  assert.equal(g.ranges(13, [63, 1, 1]), [OK, 1]);
  assert.equal(g.ranges(13, [64, 0, 0]), [OK, 1]);
  assert.equal(g.disk.log, ["discard 1024+1536", "zero 4096+512", "zero 32256+512 unmap", "zero 32768+0"]);
});

test("VIO-334 DISCARD and WRITE_ZEROES with flags that they do not know: UNSUPP, and nothing changes", () => {
  for (const [type, flags] of [
    [11, 1],
    [11, 2],
    [11, 0x8000_0000],
    [13, 2],
    [13, 3],
    [13, 0xffff_fffe],
  ] as const) {
    const g = new Guest();
    assert.equal(g.ranges(type, [0, 1, flags]), [UNSUPP, 1], `type ${type}, flags ${flags}`);
    // Also where the range is bad, too: it is not looked at. And with a disk that cannot be written.
    assert.is(g.ranges(type, [64, 1, flags])[0], UNSUPP);
    assert.equal(g.disk.log, []);
  }
});

test("DISCARD and WRITE_ZEROES beyond the end or the limit: IOERR; several segments: UNSUPP; none or half a one: IOERR", () => {
  const big = new Guest({ disk: Object.assign(new TestDisk(512), { size: 2 ** 33 }) });
  for (const type of [11, 13]) {
    const g = new Guest();
    for (const range of [
      [64, 1, 0],
      [0, 65, 0],
      [2 ** 33, 1, 0],
      [0, 0xffff_ffff, 0],
    ] as const)
      assert.is(g.ranges(type, range)[0], IOERR);
    assert.is(big.ranges(type, [0, 0x40_0000, 0])[0], IOERR, "one sector more than the configuration allows");
    assert.is(g.ranges(type, [0, 1, 0], [1, 1, 0])[0], UNSUPP);
    assert.is(g.ranges(type)[0], IOERR);
    assert.is(g.request(type, 0, [[DATA, 15, 0]])[0], IOERR);
    assert.equal([...g.disk.log, ...big.disk.log], []);
  }
});

test("VIO-335 VIO-328 header, data and status are a stream: any framing gives the same answer", () => {
  // For each a way to cut the readable bytes, and the writable ones; the status shares a descriptor with data in most.
  const cutsOf = (length: number, ...cuts: number[]) => [...cuts.filter((c) => c < length), length];
  for (const via of VIAS)
    for (const cuts of [[], [1], [16], [8, 12], [17, 600], [512], [511, 513], [100, 200, 300]]) {
      const g = new Guest({ via });
      const pieces = (at: number, ends: readonly number[], flags: number): Piece[] =>
        ends.map((end, i) => [at + 0x1000 * i, end - (ends[i - 1] ?? 0), flags]);
      const place = (bytes: Uint8Array, at: number, ends: readonly number[]) => {
        for (const [i, end] of ends.entries()) g.host.put(at + 0x1000 * i, bytes.subarray(ends[i - 1] ?? 0, end));
      };
      const out = Uint8Array.from([1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, ...pattern(1024)]);
      const outEnds = cutsOf(out.length, ...cuts);
      place(out, DATA, outEnds);
      g.host.set(STATUS, 1, 0xee);
      g.post(0, [...pieces(DATA, outEnds, 0), [STATUS, 1, WRITE]]);
      g.notify(0);
      assert.equal([g.usedIdx(0), g.entry(0, 0), g.host.get(STATUS, 1)], [1, [0, 1], OK], `cuts ${cuts}`);
      assert.equal(g.disk.bytes.slice(7 * 512, 9 * 512), pattern(1024));

      const inEnds = cutsOf(1025, ...cuts);
      g.header(0, 7);
      g.post(100, [[HEADER, 16, 0], ...pieces(DATA, inEnds, WRITE)]);
      g.notify(0);
      assert.equal([g.usedIdx(0), g.entry(0, 1)], [2, [100, 1025]]);
      const read = inEnds.flatMap((end, i) => [...g.host.copyOf(DATA + 0x1000 * i, end - (inEnds[i - 1] ?? 0))]);
      assert.equal(read, [...pattern(1024), OK]);
    }
});

test("VIO-335 indirect tables and memory across windows make no difference", () => {
  const windows = [
    { base: 0, size: 0x51_0100 },
    { base: 0x51_0100, size: 0x2f_ff00 },
  ];
  for (const indirect of [false, true]) {
    const g = new Guest({ windows, features: F_INDIRECT });
    const pieces = (flags: number): Piece[] => [
      [HEADER, 16, 0],
      [DATA, 1024, flags],
      [STATUS, 1, WRITE],
    ];
    const submit = (list: readonly Piece[]) => {
      if (!indirect) {
        g.post(0, list);
        return;
      }
      const table = 0x60_0000;
      for (const [i, [address, length, flags]] of list.entries()) {
        g.host.set(table + 16 * i, 8, address);
        g.host.set(table + 16 * i + 8, 4, length);
        g.host.set(table + 16 * i + 12, 2, flags | (i + 1 < list.length ? 1 : 0));
        g.host.set(table + 16 * i + 14, 2, i + 1);
      }
      g.describe(0, 0, table, 16 * list.length, 4);
      g.available(0, 0);
    };
    g.header(1, 3);
    g.host.put(DATA, pattern(1024));
    submit(pieces(0));
    g.notify(0);
    assert.equal(g.disk.bytes.slice(1536, 2560), pattern(1024));
    g.host.put(DATA, new Uint8Array(1024));
    g.header(0, 3);
    submit(pieces(WRITE));
    g.host.written.length = 0;
    g.notify(0);
    assert.equal(g.host.copyOf(DATA, 1024), pattern(1024));
    assert.equal(g.entry(0, 1), [0, 1025]);
    assert.ok(
      g.host.written.some(([start, end]) => start <= DATA && end >= DATA + 1024),
      "the host hears which memory was written",
    );
  }
});

test("VIO-337 without a whole header, or without room for a status, the device fails until reset", () => {
  for (const via of VIAS)
    for (const pieces of [
      [
        [HEADER, 15, 0],
        [STATUS, 1, WRITE],
      ],
      [[STATUS, 1, WRITE]],
      [[HEADER, 16, 0]],
      [
        [HEADER, 16, 0],
        [DATA, 512, 0],
      ],
      [
        [HEADER, 16, 0],
        [DATA, 0, WRITE],
      ],
    ] satisfies Piece[][]) {
      const g = new Guest({ via });
      assert.equal(g.read(0, 512), [OK, 513]);
      g.host.put(STATUS, [0xee]);
      g.post(10, [
        [HEADER, 16, 0],
        [DATA, 512, WRITE],
        [STATUS + 1, 1, WRITE],
      ]);
      g.post(20, pieces);
      g.post(30, [
        [HEADER, 16, 0],
        [DATA, 512, WRITE],
        [STATUS + 2, 1, WRITE],
      ]);
      g.isr;
      g.notify(0);
      assert.equal([g.usedIdx(0), g.entry(0, 1)], [2, [10, 513]], "what came before is answered");
      assert.equal([...g.host.copyOf(STATUS, 3)], [0xee, 0, 0]);
      assert.equal(g.host.reports, ["blk-request-incomplete"]);
      assert.is(g.status & 0x40, via === "modern" ? 0x40 : 0);
      assert.is(g.isr & 1, 1);
      g.notify(0);
      assert.is(g.usedIdx(0), 2, "latched");
      g.setUp(0);
      assert.equal(g.read(0, 512), [OK, 513], "a reset mends it");
    }
});

test("VIO-338 heads in any order are answered under their own id", () => {
  for (const features of [0, F_EVENT_IDX]) {
    const g = new Guest({ features });
    const heads = [200, 8, 40, 0, 120, 16];
    for (const [i, head] of heads.entries()) {
      g.header(0, 10 + i, HEADER + 0x100 * i);
      g.post(head, [
        [HEADER + 0x100 * i, 16, 0],
        [DATA + 0x1000 * i, 512 * (i + 1), WRITE],
        [STATUS + i, 1, WRITE],
      ]);
    }
    g.notify(0);
    assert.is(g.usedIdx(0), heads.length);
    for (const [i, head] of heads.entries()) {
      assert.equal(g.entry(0, i), [head, 512 * (i + 1) + 1]);
      const from = 512 * (10 + i);
      assert.equal(g.host.copyOf(DATA + 0x1000 * i, 512 * (i + 1)), g.disk.bytes.slice(from, from + 512 * (i + 1)));
    }
    assert.equal(g.host.levels, [1], "one interrupt for the batch");
  }
});

test("VIO-338 several queues are served each for itself", () => {
  const g = new Guest({ card: { queues: 3 }, features: 1 << 12 });
  for (const queue of [2, 0, 1, 1, 2]) assert.equal(g.request(0, queue, [[DATA, 512, WRITE]], queue), [OK, 513]);
  assert.equal([g.usedIdx(0), g.usedIdx(1), g.usedIdx(2)], [1, 2, 2]);
});

test("VIO-340 SeaBIOS's steps: queue before features, 512-byte blocks, and a polled read of the boot sector", () => {
  // Modern, in its order of accesses; firmware reads with NO_INTERRUPT set and looks at used.idx.
  const g = new Guest({ features: 0 });
  for (let at = 0; at < 0x4000; at += 4) g.host.set(0x40_0000 + at, 4, 0);
  g.status = 0;
  assert.is(g.isr, 0);
  g.status = 3;
  g.out(0x16, 2, 0);
  assert.is(g.card.barRead(4, 0x18, 2), 256);
  assert.is(g.card.barRead(4, 0x1c, 2), 0);
  g.out(0x20, 4, g.desc(0));
  g.out(0x24, 4, 0);
  g.out(0x28, 4, g.avail(0));
  g.out(0x2c, 4, 0);
  g.out(0x30, 4, g.used(0));
  g.out(0x34, 4, 0);
  g.out(0x1c, 2, 1);
  assert.is(g.card.barRead(4, 0x1e, 2), 0);
  g.out(0x08, 4, 0);
  g.out(0x0c, 4, g.offered & 0x46); // BLK_SIZE, SIZE_MAX, SEG_MAX
  g.out(0x08, 4, 1);
  g.out(0x0c, 4, 1);
  g.status = 0x0b;
  assert.is(g.status, 0x0b);
  assert.equal([g.config(0, 4), g.config(4, 4), g.config(20, 4)], [64, 0, 512]);
  g.status = 0x0f;
  g.host.set(g.avail(0), 2, 1);
  assert.equal(g.request(0, 0, [[DATA, 512, WRITE]]), [OK, 513]);
  assert.is(g.isr, 0);
  // Legacy: bytes of the configuration, a queue of no more than 256, PFN 0 at first.
  const legacy = new Guest({ via: "legacy" });
  legacy.status = 0;
  legacy.status = 3;
  legacy.card.barWrite(0, 0x0e, 2, 0);
  assert.equal([legacy.card.barRead(0, 0x0c, 2), legacy.card.barRead(0, 0x08, 4)], [256, 0]);
  legacy.setUp(0);
  assert.equal([legacy.config(20, 1), legacy.config(21, 1), legacy.config(22, 1), legacy.config(23, 1)], [0, 2, 0, 0]);
  assert.equal(legacy.read(0, 512), [OK, 513]);
});

test("a run keeps to its budget, counts the bytes it moves, and comes back for the rest", () => {
  const g = new Guest({ disk: new TestDisk(64 * 4096) });
  g.host.work.deferred = true;
  for (let i = 0; i < 10; i++) {
    g.header(0, 0, HEADER + 32 * i);
    g.post(3 * i, [
      [HEADER + 32 * i, 16, 0],
      [DATA, 0x1_0000, WRITE],
      [STATUS + i, 1, WRITE],
    ]);
  }
  g.notify(0);
  assert.is(g.host.work.turn(0, 19), 19); // 3 descriptors, and 64 KiB that count as 16
  assert.is(g.usedIdx(0), 1);
  assert.is(g.host.work.turn(0, 20), 38);
  assert.is(g.usedIdx(0), 3);
  assert.is(g.host.work.turn(0, 1000), 7 * 19);
  assert.is(g.usedIdx(0), 10);
});

test("data of more than 64 MiB in one request: IOERR, however small the memory they name", () => {
  const disk = Object.assign(new TestDisk(512), { size: 2 ** 32 });
  const g = new Guest({ disk, features: F_INDIRECT });
  const table = 0x60_0000;
  const count = 130;
  g.header(0, 0);
  for (let i = 0; i < count; i++) {
    g.host.set(table + 16 * i, 8, i === 0 ? HEADER : i === count - 1 ? STATUS : 0);
    g.host.set(table + 16 * i + 8, 4, i === 0 ? 16 : i === count - 1 ? 1 : 0x8_1000);
    g.host.set(table + 16 * i + 12, 2, (i === 0 ? 0 : WRITE) | (i === count - 1 ? 0 : 1));
    g.host.set(table + 16 * i + 14, 2, i + 1);
  }
  g.describe(0, 0, table, 16 * count, 4);
  g.available(0, 0);
  g.notify(0);
  assert.equal([g.host.get(STATUS, 1), g.host.reports, disk.log], [IOERR, ["blk-request-too-large"], []]);
});

test("an error of the backend is IOERR; what came before it in the buffer is claimed, and no more", () => {
  const g = new Guest();
  g.disk.fail = true;
  assert.equal(g.read(0, 512), [IOERR, 0]);
  assert.equal(g.write(0, pattern(512)), [IOERR, 1]);
  assert.is(g.ranges(11, [0, 1, 0])[0], IOERR);
  g.disk.fail = false;
  const { read } = g.disk;
  g.disk.read = (offset, ...rest) => offset < 512 && read.call(g.disk, offset, ...rest);
  assert.equal(
    g.request(0, 0, [
      [DATA, 512, WRITE],
      [DATA + 512, 512, WRITE],
    ]),
    [IOERR, 512],
  );
  assert.equal(g.card.counters().errors, 4);
});

test("counters count", () => {
  const g = new Guest({ features: 1 << 9 });
  g.read(0, 1024);
  g.write(0, pattern(512));
  g.request(4, 0, []);
  g.ranges(11, [0, 1, 0]);
  g.read(99, 512);
  assert.equal(g.card.counters(), {
    reads: 1,
    bytesRead: 1024,
    writes: 1,
    bytesWritten: 512,
    flushes: 1,
    discards: 1,
    errors: 1,
    descriptorsRead: 3 + 3 + 2 + 3 + 3,
    doorbells: 5,
    interrupts: 1, // nobody read the ISR
  });
});

test("a hostile driver: nothing throws, hangs or is touched outside RAM and disk", () => {
  const word = fc.oneof(fc.constantFrom(0, 1, 2, 4, 5, 8, 11, 13, 14, 0x8000_0000), fc.nat(0xffff_ffff));
  const address = fc.oneof(
    fc.constantFrom(HEADER, DATA, STATUS, 0x7f_fff0, 0x80_0000, 0x40_0000),
    fc.nat(0x81_0000),
    fc.constant(2 ** 52),
  );
  const length = fc.oneof(
    fc.constantFrom(0, 1, 15, 16, 17, 512, 513, 1024),
    fc.nat(0x1_0000),
    fc.constant(0xffff_ffff),
  );
  const descriptor = fc.record({ address, length, flags: fc.nat(7), next: fc.nat(31) });
  fc.assert(
    fc.property(
      fc.array(descriptor, { minLength: 1, maxLength: 24 }),
      fc.array(word, { minLength: 4, maxLength: 4 }),
      fc.array(fc.nat(40), { minLength: 1, maxLength: 8 }),
      fc.constantFrom(...VIAS),
      fc.boolean(),
      (descriptors, header, heads, via, readOnly) => {
        const g = new Guest({ via, features: F_INDIRECT | F_EVENT_IDX, size: 32, disk: new TestDisk(8192, readOnly) });
        const before = g.disk.bytes.slice();
        for (const [i, value] of header.entries()) {
          g.host.set(HEADER + 4 * i, 4, value);
          g.host.set(DATA + 4 * i, 4, value);
        }
        for (const [i, d] of descriptors.entries()) g.describe(0, i, d.address, d.length, d.flags, d.next);
        for (const head of heads) g.available(0, head);
        g.notify(0);
        assert.ok(g.host.guardsIntact());
        if (readOnly) assert.equal(g.disk.bytes, before);
        g.setUp(0);
        assert.equal(g.read(0, 512), [OK, 513]);
      },
    ),
    { numRuns: 100 },
  );
});

test.run();
