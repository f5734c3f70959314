import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { isPowerOfTwo } from "./align.js";
import { Rman, type RmanResource } from "./rman.js";

const throwsErrno = (fn: () => unknown, code: string) =>
  assert.throws(fn, (error: unknown) => (error as { code?: string }).code === code, `expected ${code}`);
const codeOf = (fn: () => void): string => {
  try {
    fn();
    return "ok";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
};

test("PRB-041 overlapping ranges are refused with EBUSY, adjacent free ranges merge after release", () => {
  const ports = new Rman("I/O ports", 0, 0xffff);
  ports.manageRegion(0xc000, 0xc0ff);
  throwsErrno(() => ports.manageRegion(0xc0ff, 0xc200), "EBUSY");
  const a = ports.reserve({ start: 0xc000, end: 0xc01f, count: 32, owner: "re0" });
  throwsErrno(() => ports.reserve({ start: 0xc010, end: 0xc02f, count: 32, owner: "re1" }), "EBUSY");
  const b = ports.reserve({ start: 0xc020, end: 0xc03f, count: 32, owner: "re1" });
  a[Symbol.dispose]();
  a[Symbol.dispose]();
  b[Symbol.dispose]();
  assert.equal(ports.regions(), [{ start: 0xc000, end: 0xc0ff, owners: [] }]);
});

test("regions that touch become one, regions outside the limits are EINVAL", () => {
  const lines = new Rman("lines", 0, 15);
  lines.manageRegion(0, 7);
  lines.manageRegion(8, 15);
  assert.equal(lines.regions(), [{ start: 0, end: 15, owners: [] }]);
  throwsErrno(() => lines.manageRegion(16, 20), "EINVAL");
  throwsErrno(() => new Rman("none", 5, 4), "EINVAL");
});

test("first fit honours alignment and boundary", () => {
  const m = new Rman("mem");
  m.manageRegion(0x1004, 0x1fff);
  assert.is(m.reserve({ count: 4, owner: "a" }).start, 0x1004);
  assert.is(m.reserve({ count: 8, alignment: 0x10, owner: "b" }).start, 0x1010);
  assert.is(m.reserve({ count: 0x18, boundary: 0x20, owner: "c" }).start, 0x1020, "0x1018+0x18 would cross 0x1020");
  throwsErrno(() => m.reserve({ count: 0x40, boundary: 0x20, owner: "d" }), "EBUSY");
  for (const bad of [
    { count: 0 },
    { count: 1.5 },
    { count: 1, alignment: 3 },
    { count: 1, boundary: 12 },
    { count: 1, start: 9, end: 8 },
  ])
    throwsErrno(() => m.reserve({ ...bad, owner: "e" }), "EINVAL");
});

test("PRB-042 shareable requests join an identical shareable range only", () => {
  const lines = new Rman("lines", 0, 15);
  lines.manageRegion(0, 15);
  const line = (irq: number, shareable: boolean) =>
    lines.reserve({ start: irq, end: irq, count: 1, shareable, owner: "re0" });
  const first = line(11, true);
  const second = line(11, true);
  throwsErrno(() => line(11, false), "EBUSY");
  throwsErrno(() => lines.reserve({ start: 10, end: 11, count: 2, shareable: true, owner: "re0" }), "EBUSY");
  first[Symbol.dispose]();
  throwsErrno(() => line(11, false), "EBUSY");
  second[Symbol.dispose]();
  const alone = line(11, false);
  throwsErrno(() => line(11, true), "EBUSY");
  alone[Symbol.dispose]();
});

test("adjust grows into free neighbours, shrinks, and refuses shared or foreign ranges", () => {
  const m = new Rman("mem", 0, 0xff);
  m.manageRegion(0, 0xff);
  const a = m.reserve({ start: 0x10, end: 0x1f, count: 0x10, owner: "a" });
  const b = m.reserve({ start: 0x40, end: 0x4f, count: 0x10, owner: "b" });
  m.adjust(a, 0x08, 0x2f);
  assert.equal([a.start, a.end, a.size], [0x08, 0x2f, 0x28]);
  throwsErrno(() => m.adjust(a, 0x08, 0x40), "EBUSY");
  throwsErrno(() => m.adjust(a, 0x80, 0x8f), "EINVAL");
  m.adjust(a, 0x18, 0x1f);
  assert.equal(
    m.regions().map((r) => [r.start, r.end, r.owners.length]),
    [
      [0x00, 0x17, 0],
      [0x18, 0x1f, 1],
      [0x20, 0x3f, 0],
      [0x40, 0x4f, 1],
      [0x50, 0xff, 0],
    ],
  );
  b[Symbol.dispose]();
  throwsErrno(() => m.adjust(b, 0x40, 0x48), "EINVAL");
  const shared = m.reserve({ start: 0x60, end: 0x60, count: 1, shareable: true, owner: "c" });
  m.reserve({ start: 0x60, end: 0x60, count: 1, shareable: true, owner: "d" });
  throwsErrno(() => m.adjust(shared, 0x60, 0x61), "EINVAL");
});

test("fini is EBUSY while anything is reserved; release takes the active mark off", () => {
  const m = new Rman("mem", 0, 0xff);
  m.manageRegion(0, 0xff);
  const a = m.reserve({ count: 1, owner: "a" });
  a.active = true;
  throwsErrno(() => m.fini(), "EBUSY");
  a[Symbol.dispose]();
  assert.is(a.active, false);
  m.fini();
  assert.equal(m.regions(), []);
});

test("powers of two are told exactly up to 2^52", () => {
  for (let bit = 0; bit <= 52; bit++) assert.ok(isPowerOfTwo(2 ** bit), `2^${bit}`);
  for (const n of [0, -2, 3, 0.5, Number.NaN, 2 ** 52 + 1, 2 ** 52 - 1, 2 ** 53])
    assert.not.ok(isPowerOfTwo(n), `${n}`);
});

/** The model: one cell per address; −1 is unmanaged, 0 free, otherwise the holder's number. Slow and obvious. */
const TOP = 48;
type Op = { kind: number; a: number; b: number; c: number; d: number };

test("PRB-041 any sequence of operations agrees with a model of single cells", () => {
  const op = fc.record({
    kind: fc.nat(9),
    a: fc.nat(TOP),
    b: fc.nat(TOP),
    c: fc.integer({ min: 1, max: 6 }),
    d: fc.nat(3),
  });
  fc.assert(
    fc.property(fc.array(op, { maxLength: 40 }), (ops) => {
      const real = new Rman("cells", 0, TOP);
      const cells = new Array<number>(TOP + 1).fill(-1);
      const held: { resource: RmanResource; start: number; end: number; id: number }[] = [];
      let ids = 0;
      const range = ({ a, b }: Op) => [Math.min(a, b), Math.max(a, b)] as const;
      for (const step of ops) {
        const [low, high] = range(step);
        if (step.kind === 0 || ids === 0) {
          const want = cells.slice(low, high + 1).every((cell) => cell === -1) ? "ok" : "EBUSY";
          assert.is(
            codeOf(() => real.manageRegion(low, high)),
            want,
          );
          if (want === "ok") cells.fill(0, low, high + 1);
          ids++;
        } else if (step.kind <= 5) {
          const alignment = 2 ** step.d;
          let at = -1;
          for (let start = low; at < 0 && start + step.c - 1 <= high; start++)
            if (start % alignment === 0 && cells.slice(start, start + step.c).every((cell) => cell === 0)) at = start;
          const want = at < 0 ? "EBUSY" : "ok";
          let got: RmanResource | null = null;
          assert.is(
            codeOf(() => {
              got = real.reserve({ start: low, end: high, count: step.c, alignment, owner: "x" });
            }),
            want,
          );
          if (got !== null) {
            const resource: RmanResource = got;
            assert.equal([resource.start, resource.end], [at, at + step.c - 1], "first fit");
            cells.fill(++ids, at, at + step.c);
            held.push({ resource, start: at, end: at + step.c - 1, id: ids });
          }
        } else if (step.kind <= 7) {
          const [gone] = held.splice(step.a % (held.length || 1), 1);
          if (gone === undefined) continue;
          gone.resource[Symbol.dispose]();
          cells.fill(0, gone.start, gone.end + 1);
        } else {
          const entry = held[step.c % (held.length || 1)];
          if (entry === undefined) continue;
          const touches = low <= entry.end && high >= entry.start;
          const room = cells.slice(low, high + 1).every((cell) => cell === 0 || cell === entry.id);
          const want = !touches ? "EINVAL" : room ? "ok" : "EBUSY";
          assert.is(
            codeOf(() => real.adjust(entry.resource, low, high)),
            want,
          );
          if (want !== "ok") continue;
          cells.fill(0, entry.start, entry.end + 1);
          cells.fill(entry.id, low, high + 1);
          Object.assign(entry, { start: low, end: high });
        }
        const seen = new Array<number>(TOP + 1).fill(-1);
        for (const r of real.regions()) seen.fill(r.owners.length > 0 ? 1 : 0, r.start, r.end + 1);
        assert.equal(
          seen,
          cells.map((cell) => Math.min(cell, 1)),
        );
        const free = real.regions().filter((r) => r.owners.length === 0);
        for (const [i, r] of free.entries())
          assert.not.ok(i > 0 && free[i - 1]!.end + 1 === r.start, "free neighbours are one region");
      }
    }),
  );
});

test.run();
