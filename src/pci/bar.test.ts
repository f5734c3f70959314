import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import type { AccessWidth, BarHandler, Model } from "../contract/index.js";
import type { BarDeclaration, FunctionDeclaration } from "./declaration.js";
import { definePciFunction, type PciFunction } from "./function.js";

const QUIET: Model = {
  connect: () => {},
  disconnect: () => {},
  reset: () => {},
  save: () => ({ version: 1 }),
  load: () => {},
};
const HANDLER: BarHandler = { read: () => 0, write: () => {} };
const bar = (kind: BarDeclaration["kind"], size: number, more: Partial<BarDeclaration> = {}): BarDeclaration => ({
  kind,
  size,
  handler: HANDLER,
  ...more,
});
const fn = (bars: NonNullable<FunctionDeclaration["bars"]>): PciFunction =>
  definePciFunction({
    name: "card",
    identity: { vendorId: 0x10ec, deviceId: 0x8169, revisionId: 0, classCode: 0x020000 },
    bars,
    model: QUIET,
  });

const COMMAND = 0x04;
const sized = (card: PciFunction, at: number): number => {
  card.configWrite(at, 4, 0xffffffff);
  return card.configRead(at, 4);
};

test("PCI-063 writing all ones yields the size mask for I/O, mem32 and mem64", () => {
  const card = fn({ 0: bar("io", 0x20), 1: bar("mem32", 0x1000), 4: bar("mem64", 0x4000, { prefetchable: true }) });
  assert.is(card.configRead(0x10, 4), 0x00000001);
  assert.is(sized(card, 0x10), 0xffffffe1);
  assert.is(sized(card, 0x14), 0xfffff000);
  assert.is(card.configRead(0x20, 4), 0x0000000c);
  assert.is(sized(card, 0x20), 0xffffc00c);
  assert.is(sized(card, 0x24), 0xffffffff);
});

test("PCI-064 an I/O BAR returns ones in bits 31:16 during sizing", () => {
  assert.is(sized(fn({ 0: bar("io", 0x100) }), 0x10), 0xffffff01);
});

test("PCI-065 an unimplemented BAR reads 0 after any write", () => {
  const card = fn({ 1: bar("mem32", 0x100) });
  for (const at of [0x10, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x30]) {
    for (const value of [0xffffffff, 0x12345678, 1]) {
      card.configWrite(at, 4, value);
      assert.is(card.configRead(at, 4), 0, `offset ${at.toString(16)}`);
    }
  }
});

test("PCI-066 type and prefetch bits are read-only", () => {
  const card = fn({ 0: bar("io", 4), 1: bar("mem32", 16, { prefetchable: true }), 2: bar("mem64", 16) });
  const types = [0x1, 0x8, 0x4];
  for (const value of [0, 0xffffffff, 0xf])
    [0x10, 0x14, 0x18].forEach((at, i) => {
      card.configWrite(at, 4, value);
      assert.is(card.configRead(at, 1) & (i === 0 ? 0x3 : 0xf), types[i]!);
    });
});

test("PCI-067 sizing low and high halves apart gives the same size as writing both first", () => {
  const apart = fn({ 0: bar("mem64", 0x4000) });
  const low = sized(apart, 0x10);
  apart.configWrite(0x10, 4, 0);
  const high = sized(apart, 0x14);
  const both = fn({ 0: bar("mem64", 0x4000) });
  both.configWrite(0x10, 4, 0xffffffff);
  both.configWrite(0x14, 4, 0xffffffff);
  assert.equal([low, high], [0xffffc004, 0xffffffff]);
  assert.equal([both.configRead(0x10, 4), both.configRead(0x14, 4)], [low, high]);
});

test("PCI-068 a BAR is undecoded while its enable bit in Command is 0", () => {
  const card = fn({ 0: bar("io", 0x100), 1: bar("mem32", 0x100) });
  card.configWrite(0x10, 4, 0xc000);
  card.configWrite(0x14, 4, 0xfeb00000);
  assert.equal([card.barBase(0), card.barBase(1)], [-1, -1]);
  card.configWrite(COMMAND, 2, 0x0001);
  assert.equal([card.barBase(0), card.barBase(1)], [0xc000, -1]);
  card.configWrite(COMMAND, 2, 0x0002);
  assert.equal([card.barBase(0), card.barBase(1)], [-1, 0xfeb00000]);
});

test("PCI-069 PCI-070 the map changes before the enabling or moving write returns", () => {
  const card = fn({ 0: bar("mem32", 0x1000) });
  const seen: number[] = [];
  card.onBarsChanged(() => seen.push(card.barBase(0)));
  card.configWrite(0x10, 4, 0xe0000000);
  assert.equal(seen, [], "not decoded yet, so nothing moved");
  card.configWrite(COMMAND, 2, 2);
  card.configWrite(0x10, 4, 0xe0001000);
  card.configWrite(0x10, 4, 0xe0001000);
  card.configWrite(COMMAND, 2, 0);
  assert.equal(seen, [0xe0000000, 0xe0001000, -1]);
});

test("PCI-072 PCI-073 all ones and base 0 claim nothing, and neither moves what was told", () => {
  const card = fn({ 0: bar("io", 0x100), 1: bar("mem32", 0x1000), 2: bar("mem64", 0x1000) });
  card.configWrite(COMMAND, 2, 3);
  for (const value of [0, 0xffffffff]) {
    for (const at of [0x10, 0x14, 0x18, 0x1c]) card.configWrite(at, 4, value);
    assert.equal([card.barBase(0), card.barBase(1), card.barBase(2)], [-1, -1, -1]);
  }
});

test("PCI-072 the sizing pattern in the low half alone of a 64-bit BAR claims nothing", () => {
  const card = fn({ 0: bar("mem64", 0x4000) });
  card.configWrite(COMMAND, 2, 2);
  card.configWrite(0x10, 4, 0xffffffff);
  assert.is(card.barBase(0), -1);
});

test("PCI-074 a 32-bit range that touches FFFFFFFF claims nothing; one page lower it does", () => {
  const card = fn({ 0: bar("mem32", 0x1000) });
  card.configWrite(COMMAND, 2, 2);
  card.configWrite(0x10, 4, 0xfffff000);
  assert.is(card.barBase(0), -1);
  card.configWrite(0x10, 4, 0xffffe000);
  assert.is(card.barBase(0), 0xffffe000);
});

test("PCI-074 a 64-bit range beyond 2^52 claims nothing; the last one below does", () => {
  const card = fn({ 0: bar("mem64", 0x1000) });
  card.configWrite(COMMAND, 2, 2);
  card.configWrite(0x10, 4, 0xfffff000);
  card.configWrite(0x14, 4, 0x00100000);
  assert.is(card.barBase(0), -1);
  card.configWrite(0x14, 4, 0xffffffff);
  assert.is(card.barBase(0), -1);
  card.configWrite(0x10, 4, 0xffffe000);
  card.configWrite(0x14, 4, 0x000fffff);
  assert.is(card.barBase(0), 2 ** 52 - 0x2000);
});

test("PCI-075 an I/O BAR above FFFF claims nothing and does not alias", () => {
  const card = fn({ 0: bar("io", 0x100) });
  card.configWrite(COMMAND, 2, 1);
  for (const value of [0x10000, 0x1c000, 0xc0000000]) {
    card.configWrite(0x10, 4, value);
    assert.is(card.barBase(0), -1);
  }
  card.configWrite(0x10, 4, 0xff00);
  assert.is(card.barBase(0), 0xff00);
});

test("PCI-076 writing one half of a 64-bit BAR moves the range", () => {
  const card = fn({ 0: bar("mem64", 0x4000) });
  card.configWrite(COMMAND, 2, 2);
  card.configWrite(0x10, 4, 0xe0000000);
  assert.is(card.barBase(0), 0xe0000000);
  card.configWrite(0x14, 4, 1);
  assert.is(card.barBase(0), 0x1e0000000);
  card.configWrite(0x10, 4, 0xe0004000);
  assert.is(card.barBase(0), 0x1e0004000);
});

test("PCI-077 byte and word writes into a BAR take effect with byte enables", () => {
  const card = fn({ 0: bar("mem32", 0x100) });
  card.configWrite(COMMAND, 2, 2);
  card.configWrite(0x10, 4, 0xe0000000);
  card.configWrite(0x12, 1, 0xb1);
  assert.is(card.barBase(0), 0xe0b10000);
  card.configWrite(0x10, 2, 0x45ff);
  assert.is(card.barBase(0), 0xe0b14500);
  card.configWrite(0x13, 1, 0xd0);
  assert.is(card.configRead(0x10, 4), 0xd0b14500);
});

test("PCI-088 the ROM decodes only with its bit 0 and memory enable both set", () => {
  const card = fn({ 6: bar("mem32", 0x800) });
  const at = (rom: number, command: number): number => {
    card.configWrite(0x30, 4, rom);
    card.configWrite(COMMAND, 2, command);
    return card.barBase(6);
  };
  assert.is(at(0xfeb00001, 0), -1);
  assert.is(at(0xfeb00000, 2), -1);
  assert.is(at(0xfeb00001, 1), -1);
  assert.is(at(0xfeb00001, 2), 0xfeb00000);
});

test("PCI-089 the ROM's sizing value never has bits 10:1 set", () => {
  for (const [size, value] of [
    [0x800, 0xfffff801],
    [0x40000, 0xfffc0001],
  ] as const) {
    const card = fn({ 6: bar("mem32", size) });
    assert.is(sized(card, 0x30), value);
    card.configWrite(0x30, 4, 0xfffffffe);
    assert.is(card.configRead(0x30, 4), (value & 0xfffffffe) >>> 0);
  }
});

test("PCI-090 writes to ROM are ignored", () => {
  const written: number[] = [];
  const card = fn({ 6: bar("mem32", 0x800, { handler: { read: () => 0xaa55, write: (at) => written.push(at) } }) });
  card.barWrite(6, 0, 4, 0);
  assert.equal(written, []);
  assert.is(card.barRead(6, 0, 2), 0xaa55);
});

test("PCI-091 a 64-bit BAR of 4 GiB or more reports only type bits in the low half", () => {
  for (const [size, high] of [
    [2 ** 32, 0xffffffff],
    [2 ** 34, 0xfffffffc],
  ] as const) {
    const card = fn({ 2: bar("mem64", size, { prefetchable: true }) });
    assert.is(sized(card, 0x18), 0x0000000c);
    assert.is(sized(card, 0x1c), high);
  }
});

test("what does not fit is refused with its value when the function is built", () => {
  const refused = (code: string, value: RegExp, bars: NonNullable<FunctionDeclaration["bars"]>) =>
    assert.throws(
      () => fn(bars),
      (error: unknown) => error instanceof ConfigError && error.code === code && value.test(error.message),
    );
  refused("bar-size", /0x18/, { 0: bar("io", 0x18) });
  refused("bar-size", /0x2/, { 0: bar("io", 2) });
  refused("bar-size", /0x8/, { 0: bar("mem32", 8) });
  refused("bar-size", /0x100000000/, { 0: bar("mem32", 2 ** 32) });
  refused("bar-size", /0x20000/, { 0: bar("io", 0x20000) });
  refused("bar-size", /-0x10/, { 0: bar("mem32", -16) });
  refused("bar-size", /0x400/, { 6: bar("mem32", 0x400) });
  refused("bar-kind", /io/, { 6: bar("io", 0x800) });
  refused("bar-kind", /prefetchable/, { 0: bar("io", 0x100, { prefetchable: true }) });
  refused("bar-index", /5/, { 5: bar("mem64", 0x100) });
  refused("bar-overlap", /BAR 3/, { 2: bar("mem64", 0x100), 3: bar("mem32", 0x100) });
  refused("bar-accepts", /no width/, { 0: bar("io", 0x100, { accepts: [] }) });
});

test("whatever is written to a BAR: its value is the masked value, its base aligned, inside, and never 0", () => {
  const width = fc.constantFrom<AccessWidth>(1, 2, 4);
  const writes = fc.array(
    fc.tuple(fc.integer({ min: 0x04, max: 0x33 }), width, fc.integer({ min: 0, max: 0xffffffff })),
    {
      minLength: 1,
      maxLength: 40,
    },
  );
  fc.assert(
    fc.property(writes, (sequence) => {
      const card = fn({
        0: bar("io", 0x100),
        1: bar("mem32", 0x1000),
        2: bar("mem64", 2 ** 33),
        4: bar("mem64", 0x4000),
        6: bar("mem32", 0x800),
      });
      card.configWrite(COMMAND, 2, 3);
      for (const [at, w, value] of sequence) {
        card.configWrite(at, w, value);
        for (const { index, kind, size } of card.bars) {
          const base = card.barBase(index);
          if (base === -1) continue;
          assert.ok(base > 0 && base % size === 0, `BAR ${index} at ${base}`);
          assert.ok(base + size <= (kind === "io" ? 0x10000 : kind === "mem32" ? 0xffffffff : 2 ** 52));
        }
      }
    }),
    { numRuns: 300 },
  );
});

test.run();
