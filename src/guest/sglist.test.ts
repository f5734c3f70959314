import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Sglist } from "./sglist.js";
import type { Segment } from "./types.js";

type Pair = readonly [paddr: number, len: number];

const pairs = (list: Iterable<Segment>): Pair[] => [...list].map(({ paddr, len }) => [paddr, len] as const);
const listOf = (ranges: readonly Pair[], maxseg = 16): Sglist => {
  const list = new Sglist(maxseg);
  for (const [paddr, len] of ranges) list.append(paddr, len);
  return list;
};
/** Every byte's address in order: what splitting and joining must never change. */
const bytesOf = (list: Iterable<Segment>): number[] =>
  pairs(list).flatMap(([paddr, len]) => Array.from({ length: len }, (_, i) => paddr + i));
const throwsErrno = (fn: () => unknown, code: string) =>
  assert.throws(fn, (error: unknown) => (error as { code?: string }).code === code, `expected ${code}`);

/** Ranges close together, so that some are adjacent, some overlap and lengths differ. */
const ranges = fc.array(fc.tuple(fc.nat(40), fc.integer({ min: 0, max: 9 })), { maxLength: 8 });

test("PRB-061 append merges physically adjacent ranges and only those", () => {
  assert.equal(
    pairs(
      listOf([
        [0x1000, 0x100],
        [0x1100, 0x20],
      ]),
    ),
    [[0x1000, 0x120]],
    "ends where the next begins",
  );
  assert.equal(
    pairs(
      listOf([
        [0x1000, 0x100],
        [0x1101, 0x20],
      ]),
    ).length,
    2,
    "one byte between them",
  );
  assert.equal(
    pairs(
      listOf([
        [0x1000, 0x100],
        [0x10ff, 0x20],
      ]),
    ).length,
    2,
    "overlapping by one byte",
  );
  assert.equal(
    pairs(
      listOf([
        [0x1100, 0x20],
        [0x1000, 0x100],
      ]),
    ).length,
    2,
    "adjacent in the other order",
  );
  assert.equal(
    pairs(
      listOf([
        [0x1000, 8],
        [0x2000, 8],
        [0x1008, 8],
      ]),
    ),
    [
      [0x1000, 8],
      [0x2000, 8],
      [0x1008, 8],
    ],
    "only the preceding segment counts",
  );
});

test("PRB-061 no two neighbours of a list are ever adjacent, and bytes keep their order", () => {
  fc.assert(
    fc.property(ranges, (appended) => {
      const list = listOf(appended);
      const got = pairs(list);
      assert.equal(
        bytesOf(list),
        appended.flatMap(([paddr, len]) => Array.from({ length: len }, (_, i) => paddr + i)),
      );
      assert.is(
        list.length,
        got.reduce((sum, [, len]) => sum + len, 0),
      );
      for (let i = 1; i < got.length; i++) assert.is.not(got[i - 1]![0] + got[i - 1]![1], got[i]![0]);
    }),
  );
});

test("PRB-062 append beyond the capacity throws EFBIG and changes nothing", () => {
  const list = listOf(
    [
      [0x1000, 16],
      [0x3000, 32],
    ],
    2,
  );
  throwsErrno(() => list.append(0x5000, 1), "EFBIG");
  assert.equal(pairs(list), [
    [0x1000, 16],
    [0x3000, 32],
  ]);
  assert.is(list.nseg, 2);
  assert.is(list.length, 48);
  list.append(0x3020, 4); // adjacent: needs no entry
  assert.equal(pairs(list), [
    [0x1000, 16],
    [0x3000, 36],
  ]);
});

test("PRB-062 a list that does not fit leaves the target as it was, also when its first piece merged", () => {
  const target = listOf(
    [
      [0x1000, 16],
      [0x2000, 8],
    ],
    3,
  );
  throwsErrno(
    () =>
      target.appendList(
        listOf([
          [0x2008, 8],
          [0x4000, 1],
          [0x5000, 1],
        ]),
      ),
    "EFBIG",
  );
  assert.equal(pairs(target), [
    [0x1000, 16],
    [0x2000, 8],
  ]);
  assert.is(target.length, 24);
  assert.is(target.nseg, 2);
});

test("PRB-063 length 0 changes nothing, capacity 0 refuses every append", () => {
  const list = listOf([[0x1000, 16]], 1);
  list.append(0x9000, 0);
  assert.equal(pairs(list), [[0x1000, 16]]);
  throwsErrno(() => new Sglist(0).append(0x1000, 16), "EINVAL");
  throwsErrno(() => new Sglist(0).append(0x1000, 0), "EINVAL");
  assert.is(new Sglist(0).length, 0);
});

test("PRB-060 addresses that are negative, fractional or not safe integers throw EINVAL", () => {
  const list = new Sglist(4);
  for (const paddr of [-1, 0.5, Number.NaN, 2 ** 53, Number.POSITIVE_INFINITY])
    throwsErrno(() => list.append(paddr, 1), "EINVAL");
  for (const len of [-1, 0.5, Number.NaN]) throwsErrno(() => list.append(0, len), "EINVAL");
  throwsErrno(() => list.append(2 ** 53 - 1, 1), "EINVAL"); // its end is not
  assert.is(list.nseg, 0);
  list.append(2 ** 53 - 2, 1);
  assert.is(list.paddrAt(0), 9007199254740990);
});

test("split inside a segment leaves the rest at the address after what was taken", () => {
  // The mistakes of the field: advanced by what is left (0x1000+90), or the tail's entries copied short.
  const list = listOf(
    [
      [0x1000, 100],
      [0x2000, 7],
      [0x3000, 50],
    ],
    4,
  );
  const head = list.split(10);
  assert.equal(pairs(head), [[0x1000, 10]]);
  assert.equal(pairs(list), [
    [0x100a, 90],
    [0x2000, 7],
    [0x3000, 50],
  ]);
  assert.is(list.length, 147);
});

test("split at and beyond a boundary", () => {
  const make = () =>
    listOf(
      [
        [0x1000, 100],
        [0x2000, 7],
        [0x3000, 50],
      ],
      4,
    );
  for (const [n, head, rest] of [
    [
      0,
      [],
      [
        [0x1000, 100],
        [0x2000, 7],
        [0x3000, 50],
      ],
    ],
    [
      100,
      [[0x1000, 100]],
      [
        [0x2000, 7],
        [0x3000, 50],
      ],
    ],
    [
      103,
      [
        [0x1000, 100],
        [0x2000, 3],
      ],
      [
        [0x2003, 4],
        [0x3000, 50],
      ],
    ],
    [
      107,
      [
        [0x1000, 100],
        [0x2000, 7],
      ],
      [[0x3000, 50]],
    ],
    [
      156,
      [
        [0x1000, 100],
        [0x2000, 7],
        [0x3000, 49],
      ],
      [[0x3031, 1]],
    ],
    [
      157,
      [
        [0x1000, 100],
        [0x2000, 7],
        [0x3000, 50],
      ],
      [],
    ],
    [
      1000,
      [
        [0x1000, 100],
        [0x2000, 7],
        [0x3000, 50],
      ],
      [],
    ],
  ] as const) {
    const list = make();
    assert.equal(pairs(list.split(n)), head, `head of ${n}`);
    assert.equal(pairs(list), rest, `rest after ${n}`);
  }
});

test("PRB-064 split and join restore the list for every n, also inside a segment, and empty the tail", () => {
  fc.assert(
    fc.property(ranges, (appended) => {
      const original = listOf(appended, 8);
      for (let n = 0; n <= original.length; n++) {
        const tail = original.clone();
        const head = tail.split(n);
        assert.is(head.length, n);
        assert.equal([...bytesOf(head), ...bytesOf(tail)], bytesOf(original), `split at ${n}`);
        head.join(tail);
        assert.equal(pairs(head), pairs(original), `joined again at ${n}`);
        assert.is(head.length, original.length);
        assert.equal([tail.nseg, tail.length], [0, 0]);
      }
    }),
  );
});

test("PRB-064 join merges at the seam and is all or nothing", () => {
  const head = listOf([[0x1000, 8]], 2);
  const tail = listOf([
    [0x1008, 8],
    [0x4000, 3],
  ]);
  head.join(tail);
  assert.equal(pairs(head), [
    [0x1000, 16],
    [0x4000, 3],
  ]);
  assert.is(tail.nseg, 0);
  const more = listOf([
    [0x4003, 1],
    [0x6000, 1],
  ]);
  throwsErrno(() => head.join(more), "EFBIG");
  assert.equal(pairs(head), [
    [0x1000, 16],
    [0x4000, 3],
  ]);
  assert.equal(pairs(more), [
    [0x4003, 1],
    [0x6000, 1],
  ]);
  throwsErrno(() => head.join(head), "EINVAL");
  head.join(new Sglist(0)); // nothing to add
});

test("PRB-065 split, append, join and reset of a shared list throw; reading it does not", () => {
  const list = listOf([
    [0x1000, 16],
    [0x3000, 4],
  ]);
  const other = list.share();
  for (const handle of [list, other]) {
    throwsErrno(() => handle.split(4), "EDOOFUS");
    throwsErrno(() => handle.append(0x9000, 1), "EDOOFUS");
    throwsErrno(() => handle.appendList(listOf([[0x9000, 1]])), "EDOOFUS");
    throwsErrno(() => handle.join(listOf([[0x9000, 1]])), "EDOOFUS");
    throwsErrno(() => handle.reset(), "EDOOFUS");
    throwsErrno(() => listOf([]).join(handle), "EDOOFUS");
    assert.equal(pairs(handle.slice(8, 10)), [
      [0x1008, 8],
      [0x3000, 2],
    ]);
    assert.equal(pairs(handle.clone()), [
      [0x1000, 16],
      [0x3000, 4],
    ]);
  }
  other[Symbol.dispose]();
  other[Symbol.dispose]();
  assert.is(list.shared, false);
  list.append(0x9000, 1);
  assert.is(list.nseg, 3);
  throwsErrno(() => other.nseg, "EINVAL");
});

test("PRB-066 slice beyond the end throws EINVAL, slice of everything equals the clone", () => {
  fc.assert(
    fc.property(ranges, fc.nat(80), fc.nat(80), (appended, offset, len) => {
      const list = listOf(appended, 8);
      if (offset + len > list.length) throwsErrno(() => list.slice(offset, len), "EINVAL");
      else assert.equal(bytesOf(list.slice(offset, len)), bytesOf(list).slice(offset, offset + len));
      assert.equal(pairs(list.slice(0, list.length)), pairs(list.clone()));
      assert.equal(pairs(list.clone()), pairs(list));
    }),
  );
  throwsErrno(() => listOf([[0, 8]]).slice(-1, 2), "EINVAL");
});

test("a part of a list can be appended, even to the list itself", () => {
  const list = listOf([
    [0x10, 16],
    [0, 16],
  ]);
  list.appendList(list);
  assert.equal(pairs(list), [
    [0x10, 16],
    [0, 32],
    [0, 16],
  ]);
  list.appendList(
    listOf([
      [0x10, 8],
      [0x40, 8],
    ]),
    4,
    6,
  );
  assert.equal(pairs(list), [
    [0x10, 16],
    [0, 32],
    [0, 16 + 0],
    [0x14, 4],
    [0x40, 2],
  ]);
  throwsErrno(() => list.appendList(listOf([[0x10, 8]]), 4, 5), "EINVAL");
});

test("a clone has contents of its own, a reset list its capacity", () => {
  const list = listOf([[0x1000, 16]], 3);
  const copy = list.clone();
  list.append(0x1010, 4);
  assert.equal(pairs(copy), [[0x1000, 16]]);
  assert.is(copy.maxseg, 3);
  list.reset();
  assert.equal([list.nseg, list.length, list.maxseg], [0, 0, 3]);
  assert.ok(Number.isNaN(list.paddrAt(0)) && Number.isNaN(list.lenAt(0)));
  assert.equal(
    pairs(
      Sglist.of([
        { paddr: 1, len: 2 },
        { paddr: 3, len: 4 },
      ]),
    ),
    [[1, 6]],
  );
  for (const maxseg of [-1, 0.5, Number.NaN, 2 ** 31]) throwsErrno(() => new Sglist(maxseg), "EINVAL");
});

test.run();
