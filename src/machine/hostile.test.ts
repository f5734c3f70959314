import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { AccessWidth } from "../contract/index.js";
import { Msi, Msix, PowerManagement } from "../pci/index.js";
import { TestFunction, TestModel } from "../pci/testing.js";
import { Machine } from "./machine.js";

/** A machine whose cards have one of everything. */
const build = (ram = new Uint8Array(0x20000)) => {
  const machine = new Machine({
    ram: [
      { base: 0, bytes: ram },
      { base: 0xc0000000, bytes: new Uint8Array(0x1800) },
    ],
    work: "deferred",
  });
  const cards = [3, 4, 5].map((device) => {
    const msix = new Msix({ vectors: 70, bar: 1 });
    const model = new TestModel();
    const card = new TestFunction(
      {
        capabilities: [
          msix,
          new Msi({ vectors: 8, maskable: true }),
          new PowerManagement({ noSoftReset: device !== 4 }),
        ],
        bars: {
          0: { kind: "io", size: 0x20, accepts: [1], handler: model },
          1: msix.bar(),
          2: { kind: "mem64", size: 0x100, unaligned: true, handler: { read: (at) => at, write: () => {} } },
          4: { kind: "mem64", size: 2 ** 32, handler: { read: () => 0, write: () => {} } },
          6: { kind: "mem32", size: 0x800, handler: { read: () => 0xaa55, write: () => assert.unreachable("ROM") } },
        },
      },
      model,
    );
    machine.plug(device << 3, card);
    return card;
  });
  return { machine, cards };
};

/** A generator of numbers for runs that are too long for fast-check. */
const mulberry = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return (t ^ (t >>> 14)) >>> 0;
};
const WIDTHS = [1, 2, 4] as const;
/** What guests like to write there. */
const TELLING = [
  0, 1, 3, 7, 0xff, 0x407, 0xffff, 0x8000, 0xc000, 0xfffffff0, 0xffffffff, 0x80000000, 0xfee00000, 0xc0000000, 0x10000,
];

test("PCI-165 PCI-173 no sequence of guest accesses throws, whatever address, width and value", () => {
  const address = fc.oneof(
    fc.integer({ min: -(2 ** 31), max: 2 ** 32 + 0x10000 }),
    fc.constantFrom(
      0xcf8,
      0xcf9,
      0xcfb,
      0xcfc,
      0xcff,
      0x4cf,
      0x4d0,
      0xffff,
      0x10000,
      0x1ffff,
      0xfee00000,
      0xffffffff,
      2 ** 32 - 2,
      2 ** 52,
      2 ** 53 - 1,
    ),
    fc.integer({ min: 0, max: 0xffff }),
  );
  const access = fc.tuple(
    fc.constantFrom("in", "out", "read", "write", "cfgrd", "cfgwr", "pair"),
    address,
    fc.constantFrom(...WIDTHS),
    fc.oneof(fc.integer(), fc.constantFrom(...TELLING)),
  );
  fc.assert(
    fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
      const { machine } = build();
      machine.assignResources();
      const pair = new Uint32Array(2);
      const fits = (value: number, width: AccessWidth) => assert.ok(value >= 0 && value < 2 ** (8 * width), `${value}`);
      for (const [op, at, width, value] of accesses) {
        if (op === "in") fits(machine.ioRead(at, width), width);
        if (op === "out") machine.ioWrite(at, width, value);
        if (op === "read") fits(machine.memRead(at, width), width);
        if (op === "write") machine.memWrite(at, width, value);
        if (op === "cfgrd") fits(machine.configRead(at & 0xffff, value, width), width);
        if (op === "cfgwr") machine.configWrite(at & 0xff, at >>> 8, width, value);
        if (op === "pair") machine.memReadPair(at, pair);
        if (op === "pair") machine.memWritePair(at, value, at);
      }
    }),
    { numRuns: 100 },
  );
});

test("PCI-169 10^6 random configuration writes leave the bus consistent", () => {
  const { machine, cards } = build();
  const random = mulberry(0x8169);
  const fresh = cards.map((card) => Array.from({ length: 0x100 }, (_, at) => card.configRead(at, 1)));
  for (let i = 0; i < 1_000_000; i++) {
    const r = random();
    const bdf = [0x18, 0x20, 0x28, 0x08][r & 3]!;
    const value = (r & 0x100) !== 0 ? TELLING[(r >>> 9) % TELLING.length]! : random();
    machine.configWrite(bdf, (r >>> 16) & 0xff, WIDTHS[(r >>> 2) % 3]!, value);
  }
  cards.forEach((card, c) => {
    // identity, class, header, pin, list pointer, and ids and next pointers of the three capabilities
    for (const at of [0, 1, 2, 3, 8, 9, 10, 11, 14, 0x2c, 0x2e, 0x34, 0x3d, 0x40, 0x41, 0x4c, 0x4d, 0x64, 0x65])
      assert.is(card.configRead(at, 1), fresh[c]![at]!, `byte ${at.toString(16)}`);
    for (const { index, size } of card.bars) {
      const base = card.barBase(index);
      if (base >= 0) assert.is(base % size, 0);
    }
  });
  machine.reset();
  cards.forEach((card, c) => {
    assert.equal(
      Array.from({ length: 0x100 }, (_, at) => card.configRead(at, 1)),
      fresh[c],
    );
  });
  const resources = machine.assignResources();
  for (const { bdf, index, base } of resources) if (index !== 6) assert.is(machine.slot(bdf)!.barBase(index), base);
  cards[1]!.model.bytes[5] = 0x5a;
  assert.is(machine.ioRead(cards[1]!.barBase(0) + 5, 1), 0x5a, "and everything answers where it was put");
});

test("PCI-170 random BAR programming never changes what is in RAM", () => {
  const ram = Uint8Array.from({ length: 0x20000 }, (_, i) => i * 7);
  const before = ram.slice();
  const { machine, cards } = build(ram);
  const random = mulberry(0x1af4);
  for (let i = 0; i < 30_000; i++) {
    const r = random();
    const bdf = [0x18, 0x20, 0x28][r % 3]!;
    const at = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30][(r >>> 4) % 7]!;
    machine.configWrite(bdf, 0x04, 2, 3);
    machine.configWrite(bdf, at, 4, (r & 0x10000) !== 0 ? random() & 0x3ffff : random());
    for (const card of cards)
      for (const { index } of card.bars) {
        const base = card.barBase(index);
        // what is meant for a BAR, where RAM is not in front of it
        if (base >= 0x20000 && (base < 0xc0000000 || base >= 0xc0001800)) machine.memWrite(base, 4, r);
      }
    const probe = r % 0x1fffc;
    assert.is(machine.memRead(probe, 1), before[probe]!);
  }
  assert.equal(ram, before);
});

test("PCI-181 a mapped access allocates no object", () => {
  const { machine, cards } = build();
  const [card] = cards;
  machine.configWrite(0x18, 0x10, 4, 0xc000);
  machine.configWrite(0x18, 0x18, 4, 0x40000000);
  machine.configWrite(0x18, 0x04, 2, 3);
  assert.equal([card!.barBase(0), card!.barBase(2)], [0xc000, 0x40000000]);
  let sum = 0;
  const chunk = (): number => {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 20_000; i++) {
      machine.ioWrite(0xc004, 1, i & 0x7f);
      machine.memWrite(0x40000010, 4, i);
      sum = (sum + machine.ioRead(0xc004, 1) + machine.memRead(0x40000020, 4) + machine.memRead(0x1000, 4)) | 0;
    }
    return process.memoryUsage().heapUsed - before;
  };
  // A chunk during which code was compiled or garbage collected says nothing; the quietest one does: one object of
  // 16 bytes per access would be 1.6 MB.
  const growth = Array.from({ length: 60 }, chunk).filter((bytes) => bytes >= 0);
  assert.ok(Math.min(...growth) < 100_000, `${Math.min(...growth)} bytes for 100000 accesses, ${sum}`);
});

test("PCI-184 no BigInt in the code that accesses run through", () => {
  const src = join(import.meta.dirname, "..");
  for (const room of ["bytes", "regs", "pci", "machine"])
    for (const file of readdirSync(join(src, room))) {
      if (!file.endsWith(".ts") || file.endsWith(".test.ts")) continue;
      const code = readFileSync(join(src, room, file), "utf8");
      assert.not.match(code, /\bBigInt|BigUint64|BigInt64|\b\d+n\b/, `${room}/${file}`);
    }
});

test.run();
