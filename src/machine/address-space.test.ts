import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { AccessWidth } from "../contract/index.js";
import { AddressSpace, type Target } from "./address-space.js";

/** Answers with its own name: each byte is its number, so that a read shows who gave which byte. */
class Named implements Target {
  readonly calls: string[] = [];
  readonly #byte: number;
  constructor(byte: number) {
    this.#byte = byte;
  }
  barRead(_bar: number, offset: number, width: AccessWidth): number {
    this.calls.push(`r${width}@${offset}`);
    return this.#byte * [0, 0x1, 0x101, 0, 0x1010101][width]!;
  }
  barWrite(_bar: number, offset: number, width: AccessWidth, value: number): void {
    this.calls.push(`w${width}@${offset}=${value.toString(16)}`);
  }
}

const memory = () => new AddressSpace("memory");
const put = (space: AddressSpace, byte: number, base: number, size: number, priority = byte) => {
  const target = new Named(byte);
  const mapping = space.add(target, 0, size, priority);
  space.move(mapping, base);
  return { target, mapping };
};

test("PCI-083 PCI-084 PCI-085 undecoded reads give all ones in every width, undecoded writes vanish", () => {
  const pair = new Uint32Array(2);
  for (const space of [memory(), new AddressSpace("io")]) {
    for (const at of [0, 0x3f8, 0xc000, 0xffff]) {
      assert.equal([space.read(at, 1), space.read(at, 2), space.read(at, 4)], [0xff, 0xffff, 0xffffffff]);
      space.write(at, 4, 0);
      space.readPair(at, pair);
      assert.equal([...pair], [0xffffffff, 0xffffffff]);
      space.writePair(at, 0, 0);
    }
  }
  assert.is(memory().read(2 ** 45, 4), 0xffffffff);
});

test("an access inside a mapping arrives whole, with its offset", () => {
  const space = memory();
  const { target } = put(space, 0x11, 0xfeb00000, 0x1000);
  assert.is(space.read(0xfeb00ffc, 4), 0x11111111);
  space.write(0xfeb00001, 2, 0xabcd);
  assert.equal(target.calls, ["r4@4092", "w2@1=abcd"]);
});

test("PCI-136 an 8-byte access arrives as two of 4, low half first", () => {
  const space = memory();
  const { target } = put(space, 0x11, 0xfeb00000, 0x1000);
  const pair = new Uint32Array(2);
  space.readPair(0xfeb00010, pair);
  space.writePair(0xfeb00010, 0x11223344, 0x55667788);
  assert.equal(target.calls, ["r4@16", "r4@20", "w4@16=11223344", "w4@20=55667788"]);
});

test("PCI-173 addresses given as negative int32 are decoded as unsigned", () => {
  const space = memory();
  const { target } = put(space, 0x22, 0xfeb00000, 0x1000);
  assert.is(space.read(0xfeb00004 | 0, 4), 0x22222222);
  space.write(0xfeb00008 | 0, 4, 0x99);
  assert.equal(target.calls, ["r4@4", "w4@8=99"]);
  assert.is(space.read(-1, 1), 0xff);
});

test("PCI-086 an access over the end of a mapping is split, each piece decoded again", () => {
  const space = memory();
  const low = put(space, 0x11, 0xe0000000, 0x1000);
  const high = put(space, 0x22, 0xe0001000, 0x1000);
  assert.is(space.read(0xe0000ffe, 4), 0x22221111);
  assert.is(space.read(0xe0000fff, 2), 0x2211);
  assert.is(space.read(0xe0001fff, 4), 0xffffff22);
  assert.is(space.read(0xdffffffd, 4), 0x11ffffff);
  space.write(0xe0000ffd, 4, 0xddccbbaa);
  assert.equal(low.target.calls, ["r2@4094", "r1@4095", "r1@0", "w1@4093=aa", "w2@4094=ccbb"]);
  assert.equal(high.target.calls, ["r2@0", "r1@0", "r1@4095", "w1@0=dd"]);
});

test("PCI-080 of two that overlap the lower priority number answers, whatever came first", () => {
  for (const order of [
    [1, 2],
    [2, 1],
  ]) {
    const space = memory();
    for (const byte of order) put(space, byte, byte === 1 ? 0xe0000000 : 0xe0001000, 0x2000, byte);
    assert.is(space.read(0xe0000000, 1), 1);
    assert.is(space.read(0xe0001000, 1), 1);
    assert.is(space.read(0xe0002000, 1), 2);
    assert.is(space.read(0xe0001ffe, 4), 0x02020101);
  }
});

test("PCI-081 removing one of two overlapping mappings exposes the other", () => {
  const space = memory();
  const one = put(space, 1, 0xe0000000, 0x1000);
  put(space, 2, 0xe0000000, 0x1000);
  assert.is(space.read(0xe0000010, 1), 1);
  space.move(one.mapping, 0xd0000000);
  assert.is(space.read(0xe0000010, 1), 2);
  space.move(one.mapping, 0xe0000000);
  assert.is(space.read(0xe0000010, 1), 1);
  space.remove(one.mapping);
  space.remove(one.mapping);
  assert.is(space.read(0xe0000010, 1), 2);
  assert.is(space.read(0xd0000010, 1), 0xff);
});

test("PCI-082 two mappings smaller than 4 KiB in one page dispatch correctly", () => {
  const space = memory();
  const one = put(space, 1, 0xe0000000, 0x100);
  const two = put(space, 2, 0xe0000100, 0x100);
  put(space, 3, 0xe0000f00, 0x100);
  assert.equal(
    [0xe00000ff, 0xe0000100, 0xe00001ff, 0xe0000200, 0xe0000eff, 0xe0000fff].map((at) => space.read(at, 1)),
    [1, 2, 2, 0xff, 0xff, 3],
  );
  assert.is(space.read(0xe00000fe, 4), 0x02020101);
  assert.is(space.read(0xe00001fe, 4), 0xffff0202);
  assert.is(space.read(0xe0000ffe, 4), 0xffff0303);
  assert.ok(two.target.calls.includes("r2@0"));
  space.move(two.mapping, 0xe0005100);
  assert.equal(
    [0xe0000100, 0xe0005100, 0xe00000ff].map((at) => space.read(at, 1)),
    [0xff, 2, 1],
  );
  space.move(one.mapping, -1);
  assert.is(space.read(0xe00000ff, 1), 0xff);
});

test("pages that are shared again and again cost no more each time", () => {
  const space = memory();
  put(space, 1, 0xe0000000, 0x100);
  put(space, 2, 0xe0001000, 0x100);
  const { mapping } = put(space, 3, 0xe0000100, 0x100);
  for (let i = 0; i < 40_000; i++) space.move(mapping, (i & 1) === 0 ? 0xe0001100 : 0xe0000100);
  assert.equal(
    [0xe0000000, 0xe0000100, 0xe0001000, 0xe0001100].map((at) => space.read(at, 1)),
    [1, 3, 2, 0xff],
  );
});

test("a small mapping alone in its page does not answer beside itself", () => {
  const space = memory();
  put(space, 1, 0xe0000400, 0x100);
  assert.equal(
    [0xe00003ff, 0xe0000400, 0xe00004ff, 0xe0000500].map((at) => space.read(at, 1)),
    [0xff, 1, 1, 0xff],
  );
  assert.is(space.read(0xe00003fe, 4), 0x0101ffff);
});

test("ports: each has an owner of its own, also in the middle of an access", () => {
  const space = new AddressSpace("io");
  const outer = put(space, 0x22, 0x4c0, 0x40);
  put(space, 0x11, 0x4d0, 2);
  assert.is(space.read(0x4d0, 2), 0x1111);
  assert.is(space.read(0x4cf, 4), 0x22111122);
  assert.is(space.read(0x4d0, 4), 0x22221111);
  assert.is(space.read(0x4fe, 4), 0xffff2222);
  assert.is(space.read(0xffff, 4), 0xffffffff);
  space.write(0x4ce, 4, 0x44332211);
  assert.is(outer.target.calls.at(-1), "w2@14=2211");
});

test("memory above 4 GiB, and a mapping over that boundary", () => {
  const space = memory();
  put(space, 1, 0x1_0000_0000 - 0x1000, 0x2000);
  const far = put(space, 2, 2 ** 51, 0x4000);
  assert.is(space.read(0xffffffff, 1), 1);
  assert.is(space.read(0xfffffffe, 4), 0x01010101);
  assert.is(space.read(0x1_0000_0fff, 1), 1);
  assert.is(space.read(0x1_0000_0ffe, 4), 0xffff0101);
  assert.is(space.read(2 ** 51 + 0x3ffc, 4), 0x02020202);
  assert.equal(far.target.calls, ["r4@16380"]);
  space.move(far.mapping, 2 ** 40);
  assert.is(space.read(2 ** 51, 1), 0xff);
  assert.is(space.read(2 ** 40, 1), 2);
});

test("PCI-183 a move touches only the pages of the old and the new range", () => {
  const space = memory();
  put(space, 1, 0x80000000, 0x4000_0000);
  const { mapping } = put(space, 2, 0xe0000000, 0x2000);
  const before = space.entriesWritten;
  space.move(mapping, 0xe0100000);
  assert.is(space.entriesWritten - before, 4);
  space.move(mapping, -1);
  assert.is(space.entriesWritten - before, 6);
  space.move(mapping, -1);
  assert.is(space.entriesWritten - before, 6);
});

test("PCI-185 the tables of a bus take at most 4 MiB", () => {
  assert.ok(memory().tableBytes + new AddressSpace("io").tableBytes <= 4 * 2 ** 20);
});

test("any moves, any accesses: every byte comes from the lowest priority number that holds it", () => {
  const size = fc.constantFrom(4, 0x10, 0x100, 0x800, 0x1000, 0x4000);
  const move = fc.tuple(fc.nat(5), fc.integer({ min: -1, max: 0x60 }));
  fc.assert(
    fc.property(
      fc.array(size, { minLength: 6, maxLength: 6 }),
      fc.array(move, { maxLength: 20 }),
      fc.array(fc.nat(0x6100), { maxLength: 40 }),
      (sizes, moves, accesses) => {
        const space = memory();
        const start = 0xe0000000;
        const mappings = sizes.map((s, i) => space.add(new Named(i + 1), 0, s, i));
        for (const [i, place] of moves) {
          const s = sizes[i]!;
          space.move(mappings[i]!, place < 0 ? -1 : start + Math.floor((place * 0x100) / s) * s);
        }
        const byteAt = (at: number) => {
          const i = mappings.findIndex(({ base, size: s }) => base >= 0 && at >= base && at < base + s);
          return i < 0 ? 0xff : i + 1;
        };
        for (const offset of accesses) {
          const at = start + offset;
          for (const width of [1, 2, 4] as const) {
            let expected = 0;
            for (let i = width - 1; i >= 0; i--) expected = expected * 0x100 + byteAt(at + i);
            assert.is(space.read(at, width), expected, `${width} bytes at ${at.toString(16)}`);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
});

test("where nobody answers memory may read 0, in pieces of an access, too, and above the table", () => {
  const space = new AddressSpace("memory", "zeros");
  space.move(
    space.add(
      { barRead: (_bar, offset, width) => (0x4433_2211 >>> (8 * offset)) & (2 ** (8 * width) - 1), barWrite: () => {} },
      0,
      4,
      0,
    ),
    0x1002,
  );
  assert.equal([space.read(0, 4), space.read(2 ** 32, 2), space.read(2 ** 40 + 1, 1)], [0, 0, 0]);
  assert.is(space.read(0x1000, 4), 0x2211_0000);
  assert.is(space.read(0x1004, 4), 0x4433);
});

test("PCI-182 a look-up asks the mappings of one page, however many there are", () => {
  const asked = (kind: "io" | "memory", count: number): number[] => {
    const space = new AddressSpace(kind);
    const size = kind === "io" ? 0x20 : 0x1000;
    const base = kind === "io" ? 0x1000 : 0x8000_0000;
    let reads = 0;
    for (let i = 0; i < count; i++) {
      const mapping = space.add({ barRead: () => i & 0xff, barWrite: () => {} }, 0, size, i);
      space.move(mapping, base + i * size);
      const at = mapping.base;
      Object.defineProperty(mapping, "base", {
        get: () => {
          reads++;
          return at;
        },
      });
    }
    return [0, count >> 1, count - 1].map((i) => {
      reads = 0;
      assert.is(space.read(base + i * size + 4, 1), i & 0xff);
      return reads;
    });
  };
  for (const kind of ["io", "memory"] as const) {
    const one = asked(kind, 1);
    assert.ok(one[0]! > 0);
    for (const count of [20, 1000]) assert.equal(asked(kind, count), one);
  }
});

test.run();
