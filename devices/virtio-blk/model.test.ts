import { test } from "uvu";
import * as assert from "uvu/assert";
import legacyGolden from "../../fixtures/golden/virtio-blk-legacy.json" with { type: "json" };
import modernGolden from "../../fixtures/golden/virtio-blk-modern.json" with { type: "json" };
import transitionalGolden from "../../fixtures/golden/virtio-blk-transitional.json" with { type: "json" };
import { ConfigError, StateError } from "../../src/bytes/index.js";
import { type BlockBackend, memoryDisk, virtioBlk } from "./index.js";
import { Guest, hostOf, TestDisk } from "./testing.js";

const GOLDEN_DISK = 1_048_576;
const bytesOf = (spaced: string): number[] => spaced.split(" ").map((b) => Number.parseInt(b, 16));

test("VIO-327 VIO-326 device configuration and features are QEMU's, byte by byte, through both interfaces", () => {
  const backend = memoryDisk({ contents: GOLDEN_DISK });
  for (const via of ["modern", "legacy"] as const) {
    const g = new Guest({ card: { backend }, via });
    const qemu = bytesOf(transitionalGolden.virtio.legacy.deviceConfigAt20NoMsix);
    assert.equal(
      qemu.map((_, at) => (at < 60 ? g.config(at, 1) : 0xff)),
      qemu,
      via,
    );
    // Beyond the end QEMU's wide reads give all ones; to where both agree, dwords compare, too.
    const modern = bytesOf(modernGolden.virtio.modern.deviceConfig);
    for (let at = 0; at < 56; at += 4)
      assert.is(
        g.config(at, 4),
        modern.slice(at, at + 4).reduceRight((v, b) => v * 256 + b, 0),
        `${via} ${at}`,
      );
  }
  const offered = (personality: "legacy" | "transitional" | "modern", via: "legacy" | "modern") =>
    new Guest({ card: { backend, personality }, via }).offered >>> 0;
  // Without bit 30, QEMU's trap for drivers that accept everything.
  assert.is(offered("modern", "modern"), Number(modernGolden.virtio.modern.deviceFeatures[0]));
  assert.is(offered("transitional", "modern"), Number(transitionalGolden.virtio.modern.deviceFeatures[0]));
  assert.is(offered("transitional", "legacy"), Number(transitionalGolden.virtio.legacy.hostFeatures) - 2 ** 30);
  // A legacy device of QEMU offers SCSI commands (bit 7), which it then refuses, and hides ANY_LAYOUT (bit 27).
  const legacy = Number(legacyGolden.virtio.legacy.hostFeatures);
  assert.is(offered("legacy", "legacy"), legacy - 2 ** 30 - 2 ** 7 + 2 ** 27);
});

test("VIO-326 capacity counts 512-byte sectors, whatever the block size, in two halves", () => {
  const huge: BlockBackend = { ...memoryDisk({ contents: 0 }), size: 2 ** 44, id: "", readOnly: false } as BlockBackend;
  const capacity = (backend: BlockBackend, blkSize: number) => {
    const g = new Guest({ card: { backend, blkSize } });
    return [g.config(0, 4), g.config(4, 4), g.config(20, 4)];
  };
  assert.equal(capacity(new TestDisk(4096 * 5), 512), [40, 0, 512]);
  assert.equal(capacity(new TestDisk(4096 * 5), 4096), [40, 0, 4096]);
  assert.equal(capacity(huge, 512), [0, 8, 512]);
});

test("VIO-339 seg_max leaves a descriptor each for header and status", () => {
  for (const size of [4, 16, 256, 1024]) assert.is(new Guest({ size }).config(12, 4), size - 2);
});

test("VIO-327 several queues are offered with MQ, counted at 34, and each has a vector", () => {
  const one = new Guest();
  assert.equal([one.offered & (1 << 12), one.config(34, 2), one.card.barRead(4, 0x12, 2)], [0, 1, 1]);
  const four = new Guest({ card: { queues: 4 } });
  assert.equal([four.offered & (1 << 12), four.config(34, 2), four.card.barRead(4, 0x12, 2)], [1 << 12, 4, 4]);
  assert.is(four.card.configRead(0x9a, 2) & 0x7ff, 4); // MSI-X table size, less one
});

test("VIO-330 a read-only disk says so, and offers neither DISCARD nor WRITE_ZEROES", () => {
  for (const g of [new Guest({ disk: new TestDisk(4096, true) }), new Guest({ card: { readOnly: true } })]) {
    assert.is(g.offered & 0x6020, 0x20);
    assert.is(g.config(36, 4), 0xffff_ffff, "the configuration ends before max_discard_sectors");
  }
  assert.is(new Guest().offered & 0x6020, 0x6000);
});

test("a backend that cannot discard or clear is not asked to", () => {
  const { size, readOnly, id, read, write, flush, bytes, log } = new TestDisk();
  const plain = { size, readOnly, id, read, write, flush, bytes, log } as unknown as BlockBackend;
  const g = new Guest({ card: { backend: plain } });
  assert.is(g.offered & 0x6000, 0);
  assert.equal([g.ranges(11, [0, 1, 0])[0], g.ranges(13, [0, 1, 0])[0]], [2, 2]);
  const onlyDiscard = { ...plain, discard: () => true } as unknown as BlockBackend;
  const h = new Guest({ card: { backend: onlyDiscard } });
  assert.equal([h.offered & 0x6000, h.config(44, 4), h.config(48, 4)], [0x2000, 1, 0xffff_ffff]);
});

test("only writeback can be written, and a reset puts it back", () => {
  for (const via of ["modern", "legacy"] as const) {
    const g = new Guest({ via });
    for (let at = 0; at < 57; at++) {
      const before = g.config(at, 1);
      g.setConfig(at, 1, before ^ 0xff);
      if (at !== 32) assert.is(g.config(at, 1), before, `byte ${at}`);
    }
    g.setConfig(32, 1, 0);
    assert.is(g.config(32, 1), 0);
    g.setConfig(32, 1, 0x80);
    assert.is(g.config(32, 1), 1);
    g.setConfig(32, 1, 0);
    g.setUp(0);
    assert.is(g.config(32, 1), 1);
  }
});

test("embedders' mistakes are told at once", () => {
  const refused = (code: string, make: () => unknown) =>
    assert.throws(make, (error: unknown) => error instanceof ConfigError && error.code === code, code);
  for (const size of [0, 513, 511, -512, Number.NaN])
    refused("virtio-blk-size", () => virtioBlk({ backend: { ...memoryDisk({ contents: 0 }), size } as BlockBackend }));
  refused("virtio-blk-size", () => virtioBlk({ blkSize: 4096, backend: new TestDisk(512) }));
  for (const blkSize of [0, 256, 1000, 65536]) refused("virtio-blk-block-size", () => virtioBlk({ blkSize }));
  refused("virtio-blk-serial", () => virtioBlk({ serial: "123456789012345678901" }));
  refused("virtio-blk-serial", () => virtioBlk({ serial: "é" }));
  for (const queues of [0, 1.5, 1025]) refused("virtio-blk-queues", () => virtioBlk({ queues }));
  for (const queueSize of [0, 2, 100, 65536]) refused("virtio-queue-size", () => virtioBlk({ queueSize }));
  refused("memory-disk-size", () => memoryDisk({ contents: -1 }));
  assert.is(virtioBlk({ serial: "12345678901234567890" }).name, "virtio-blk");
});

test("a saved card goes on where it was; the disk's bytes are the backend's own", () => {
  const disk = new TestDisk();
  const g = new Guest({ disk, features: (1 << 11) | (1 << 9) });
  g.setConfig(32, 1, 0);
  g.write(3, new Uint8Array(512).fill(0x77));
  const saved = structuredClone(g.card.save());
  const other = virtioBlk({ backend: disk });
  other.connect(hostOf());
  other.load(saved);
  assert.equal(other.save(), g.card.save());
  assert.equal(other.counters(), g.card.counters());
  assert.is(other.barRead(4, 0x2020, 1), 0);
  assert.not(JSON.stringify(saved).includes("119,119"));
});

test("a card goes on identically from a state taken between any two requests", () => {
  const run = (cutAt: number) => {
    const disk = new TestDisk();
    let g = new Guest({ disk, features: (1 << 11) | (1 << 9) });
    const answers: unknown[] = [];
    for (let i = 0; i < 6; i++) {
      if (i === cutAt) {
        const state = structuredClone(g.card.save());
        const fresh = new Guest({ disk });
        fresh.host.put(0x40_0000, g.host.copyOf(0x40_0000, 0x4000));
        fresh.card.load(state);
        g = fresh;
      }
      if (i === 2) g.setConfig(32, 1, 0);
      answers.push(i % 2 === 0 ? g.write(i, new Uint8Array(512).fill(i)) : g.read(i - 1, 1024));
      answers.push(g.usedIdx(0), g.isr, g.card.counters());
    }
    return JSON.stringify([answers, disk.log, [...disk.bytes]]);
  };
  const whole = run(-1);
  for (let cut = 0; cut < 6; cut++) assert.is(run(cut), whole, `cut at ${cut}`);
});

test("a state of another disk, or damaged, is refused and changes nothing", () => {
  const saved = structuredClone(virtioBlk().save());
  const refused = (make: () => ReturnType<typeof virtioBlk>, damage: (device: Record<string, unknown>) => void) => {
    const state = structuredClone(saved) as { model: { core: { device: Record<string, unknown> } } };
    damage(state.model.core.device);
    const card = make();
    const before = JSON.stringify(card.save());
    assert.throws(
      () => card.load(state),
      (error: unknown) => error instanceof StateError,
    );
    assert.is(JSON.stringify(card.save()), before);
  };
  refused(
    () => virtioBlk({ backend: memoryDisk({ contents: 512 }) }),
    () => {},
  );
  refused(
    () => virtioBlk({ readOnly: true }),
    () => {},
  );
  refused(
    () => virtioBlk({ queues: 2 }),
    () => {},
  );
  for (const [key, value] of [
    ["version", 2],
    ["writeback", 1],
    ["counters", [1]],
    ["counters", [0, 0, 0, 0, 0, 0, 0, -1]],
    ["size", 512],
  ] as const)
    refused(
      () => virtioBlk(),
      (device) => {
        device[key] = value;
      },
    );
});

test("a disk in memory: bytes given or zeros, cleared when discarded", () => {
  const contents = new Uint8Array(1024).fill(9);
  const disk = memoryDisk({ contents, id: "x" });
  assert.equal([disk.size, disk.readOnly, disk.id], [1024, false, "x"]);
  const target = new Uint8Array(8);
  assert.ok(disk.write(512, Uint8Array.of(1, 2, 3), 1, 2) && disk.read(510, target, 2, 5));
  assert.equal([...target], [0, 0, 9, 9, 2, 3, 9, 0]);
  assert.ok(disk.discard?.(0, 511) && disk.writeZeroes?.(513, 511, true) && disk.flush());
  assert.equal(
    [...contents.entries()].filter(([, b]) => b !== 0),
    [
      [511, 9],
      [512, 2],
    ],
  );
  assert.is(memoryDisk({ contents: 2048, readOnly: true }).readOnly, true);
});

test("a disk that is resized shows its new capacity, interrupts for it, and fails what lies beyond its end", () => {
  const disk = new TestDisk(64 * 512);
  const g = new Guest({ disk });
  assert.equal(g.read(63, 512), [0, 513]);
  Object.defineProperty(disk, "size", { value: 32 * 512 });
  g.isr; // of the request
  g.card.resized();
  assert.equal([g.config(0, 4), g.config(4, 4)], [32, 0]);
  assert.is(g.isr, 2);
  assert.equal(g.read(31, 512), [0, 513]);
  assert.is(g.read(32, 512)[0], 1);
  g.isr;
  g.card.resized(); // nothing new
  assert.is(g.isr, 0);
  Object.defineProperty(disk, "size", { value: 100 });
  assert.throws(
    () => g.card.resized(),
    (error: unknown) => error instanceof ConfigError && error.code === "virtio-blk-size",
  );
  assert.is(g.config(0, 4), 32);
});

test("with configSetsQueueIsr a change of the configuration sets both bits of ISR status, as in QEMU", () => {
  const disk = new TestDisk(64 * 512);
  const g = new Guest({ disk, card: { configSetsQueueIsr: true } });
  Object.defineProperty(disk, "size", { value: 32 * 512 });
  g.card.resized();
  assert.is(g.isr, 3);
});

test("features that are withheld are not offered by either interface, ring features among them", () => {
  const offered = (via: "legacy" | "modern", withhold: number[]) =>
    new Guest({ via, card: { withhold } }).offered >>> 0;
  for (const via of ["legacy", "modern"] as const) {
    const all = offered(via, []);
    assert.is(all & 0x3000_0200, 0x3000_0200); // EVENT_IDX, INDIRECT_DESC, FLUSH
    assert.is(offered(via, [9, 28, 29]), (all & ~0x3000_0200) >>> 0);
  }
});

test.run();
