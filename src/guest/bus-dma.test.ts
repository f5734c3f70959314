import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Bouncing, Tag, tighten, UNCONSTRAINED } from "./bus-dma.js";
import { Sglist } from "./sglist.js";
import { FakeBus } from "./testing/fake-bus.js";
import type { DmaConstraints, Segment } from "./types.js";

const RAM = 0x10_0000; // where the fake machine has it
const throwsErrno = (fn: () => unknown, code: string) =>
  assert.throws(fn, (error: unknown) => (error as { code?: string }).code === code, `expected ${code}`);
const tagOf = (bus: FakeBus, constraints: Partial<DmaConstraints> = {}, bouncing: Bouncing = "needed") =>
  new Tag(bus, tighten(UNCONSTRAINED, constraints), bouncing);
const seg = (paddr: number, len: number): Segment => ({ paddr, len });

test("PRB-054 a child tag is never looser than its parent", () => {
  const power = fc.integer({ min: 0, max: 20 }).map((n) => 2 ** n);
  const some = fc.record({
    alignment: power,
    boundary: fc.oneof(fc.constant(0), power),
    lowaddr: fc.integer({ min: 0xfff, max: 0xffff_ffff }),
    maxsize: fc.integer({ min: 1, max: 0xffff }),
    nsegments: fc.integer({ min: 1, max: 64 }),
    maxsegsz: fc.integer({ min: 1, max: 0xffff }),
  });
  fc.assert(
    fc.property(some, some, (first, second) => {
      const parent = tagOf(new FakeBus(), first);
      const { constraints: c } = parent.child(second);
      const p = parent.constraints;
      assert.ok(c.alignment >= p.alignment && c.alignment >= second.alignment);
      for (const boundary of [p.boundary, second.boundary])
        if (boundary !== 0) assert.ok(c.boundary !== 0 && c.boundary <= boundary);
      for (const key of ["lowaddr", "maxsize", "nsegments", "maxsegsz"] as const)
        assert.ok(c[key] <= p[key] && c[key] <= second[key], key);
    }),
  );
  const inherited = tagOf(new FakeBus(), { alignment: 256, lowaddr: 0xffff_ffff, nsegments: 1 }).child({});
  assert.is(inherited.constraints.alignment, 256);
  assert.is(inherited.constraints.lowaddr, 0xffff_ffff);
  assert.is(inherited.constraints.nsegments, 1);
});

test("PRB-055 alignment and boundary must be powers of two, sizes positive", () => {
  const bus = new FakeBus();
  for (const alignment of [0, 3, -8, 1.5, Number.NaN]) throwsErrno(() => tagOf(bus, { alignment }), "EINVAL");
  for (const boundary of [3, -1, 0x1001, Number.NaN]) throwsErrno(() => tagOf(bus, { boundary }), "EINVAL");
  for (const key of ["maxsize", "nsegments", "maxsegsz"]) throwsErrno(() => tagOf(bus, { [key]: 0 }), "EINVAL");
  throwsErrno(() => tagOf(bus).child({ alignment: 12 }), "EINVAL");
});

test("PRB-055 disposing a tag with live maps, memory or children throws EBUSY", () => {
  const bus = new FakeBus();
  const tag = tagOf(bus);
  const map = tag.load([seg(RAM, 16)]);
  throwsErrno(() => tag[Symbol.dispose](), "EBUSY");
  map[Symbol.dispose]();
  const memory = tag.alloc(64);
  throwsErrno(() => tag[Symbol.dispose](), "EBUSY");
  memory[Symbol.dispose]();
  const child = tag.child({});
  throwsErrno(() => tag[Symbol.dispose](), "EBUSY");
  child[Symbol.dispose]();
  tag[Symbol.dispose]();
  tag[Symbol.dispose]();
  throwsErrno(() => tag.alloc(1), "EINVAL");
  throwsErrno(() => tag.load([seg(RAM, 1)]), "EINVAL");
});

test("PRB-056 DMA memory is aligned, zeroed, reachable and within its boundary", () => {
  const request = fc.record({
    align: fc.integer({ min: 0, max: 12 }),
    boundary: fc.oneof(
      fc.constant(0),
      fc.integer({ min: 8, max: 14 }).map((n) => 2 ** n),
    ),
    bytes: fc.integer({ min: 1, max: 5000 }),
  });
  fc.assert(
    fc.property(fc.array(request, { minLength: 1, maxLength: 6 }), (requests) => {
      const bus = new FakeBus();
      bus.ram.fill(0xa5);
      const lowaddr = RAM + 0x2_0000 - 1;
      for (const { align, boundary, bytes } of requests) {
        const tag = tagOf(bus, { alignment: 2 ** align, boundary, lowaddr });
        if (boundary !== 0 && bytes > boundary) {
          throwsErrno(() => tag.alloc(bytes), "EINVAL");
          continue;
        }
        let paddr: number;
        try {
          paddr = tag.alloc(bytes).paddr;
        } catch (error) {
          assert.is((error as { code?: string }).code, "ENOMEM");
          continue;
        }
        assert.is(paddr % 2 ** align, 0);
        assert.ok(paddr + bytes - 1 <= lowaddr);
        if (boundary !== 0) assert.is(Math.floor(paddr / boundary), Math.floor((paddr + bytes - 1) / boundary));
        assert.ok(bus.ram.subarray(paddr - RAM, paddr - RAM + bytes).every((byte) => byte === 0));
      }
    }),
  );
});

test("PRB-056 memory that nothing can reach is ENOMEM, a size beyond the tag EINVAL", () => {
  const bus = new FakeBus();
  throwsErrno(() => tagOf(bus, { lowaddr: RAM - 1 }).alloc(64), "ENOMEM");
  throwsErrno(() => tagOf(bus, { maxsize: 63 }).alloc(64), "EINVAL");
  throwsErrno(() => tagOf(bus, { maxsegsz: 63 }).alloc(64), "EINVAL");
  for (const bytes of [0, -1, 1.5]) throwsErrno(() => tagOf(bus).alloc(bytes), "EINVAL");
});

test("PRB-034 DMA memory and maps throw EINVAL after they were disposed, and outside their bytes", () => {
  const bus = new FakeBus();
  const tag = tagOf(bus);
  const memory = tag.alloc(16);
  memory.write32(12, 0xffff_fffe);
  assert.equal([memory.read32(12), memory.read16(14), memory.read8(15)], [0xffff_fffe, 0xffff, 0xff]);
  for (const offset of [-1, 13, 16, 0.5, 2 ** 32]) throwsErrno(() => memory.read32(offset), "EINVAL");
  throwsErrno(() => memory.write16(15, 0), "EINVAL");
  throwsErrno(() => memory.write8(16, 0), "EINVAL");
  throwsErrno(() => memory.copyOut(8, new Uint8Array(16), 0, 9), "EINVAL");
  throwsErrno(() => memory.copyIn(-1, new Uint8Array(16), 0, 1), "EINVAL");
  throwsErrno(() => memory.sync(0, 17, "preread"), "EINVAL");
  memory[Symbol.dispose]();
  memory[Symbol.dispose]();
  throwsErrno(() => memory.read8(0), "EINVAL");
  throwsErrno(() => memory.sync(0, 0, "postread"), "EINVAL");
  const map = tag.load([seg(RAM, 16)]);
  map[Symbol.dispose]();
  throwsErrno(() => map.sync("prewrite"), "EINVAL");
  assert.is(bus.dmaLive.size, 0);
});

test("PRB-057 a load that needs more segments throws EFBIG and leaves no mapping", () => {
  const bus = new FakeBus();
  const tag = tagOf(bus, { nsegments: 2, maxsegsz: 0x100 });
  assert.is(tag.load([seg(RAM, 0x200)]).segments.length, 2);
  throwsErrno(() => tag.load([seg(RAM, 0x201)]), "EFBIG");
  throwsErrno(() => tag.load([seg(RAM, 1), seg(RAM + 8, 1), seg(RAM + 16, 1)]), "EFBIG");
  const forced = tagOf(bus, { nsegments: 2, maxsegsz: 0x100 }, "always");
  throwsErrno(() => forced.load([seg(RAM, 0x201)]), "EFBIG");
  assert.is(bus.dmaLive.size, 0, "the bounce memory of the failed load is free again");
  forced[Symbol.dispose](); // not EBUSY
});

test("a load of nothing, or of more than maxsize, is EINVAL", () => {
  const tag = tagOf(new FakeBus(), { maxsize: 100 });
  throwsErrno(() => tag.load([]), "EINVAL");
  throwsErrno(() => tag.load([seg(RAM, 0)]), "EINVAL");
  throwsErrno(() => tag.load([seg(RAM, 101)]), "EINVAL");
  assert.equal(tag.load([seg(RAM, 100)]).segments, [seg(RAM, 100)]);
});

test("a long range is cut where the next segment is aligned, so that nothing has to bounce", () => {
  const bus = new FakeBus();
  const map = tagOf(bus, { alignment: 16, maxsegsz: 40 }).load([seg(RAM + 0x1000, 100)]);
  assert.equal(map.segments, [seg(RAM + 0x1000, 32), seg(RAM + 0x1020, 32), seg(RAM + 0x1040, 36)]);
  const between = tagOf(bus, { alignment: 8, boundary: 0x100 }).load([seg(RAM + 0x10f8, 0x20)]);
  assert.equal(between.segments, [seg(RAM + 0x10f8, 8), seg(RAM + 0x1100, 0x18)]);
  assert.is(bus.dmaLive.size, 0);
});

test("PRB-060 addresses that are negative, fractional or too large throw EINVAL", () => {
  const tag = tagOf(new FakeBus());
  for (const paddr of [-1, 0.5, 2 ** 53, Number.NaN]) throwsErrno(() => tag.load([seg(paddr, 1)]), "EINVAL");
  for (const lowaddr of [-1, 0.5, 2 ** 53]) throwsErrno(() => tag.child({ lowaddr }), "EINVAL");
});

test("the segments of any load obey the tag and name the same bytes", () => {
  const constraints = fc.record({
    alignment: fc.integer({ min: 0, max: 5 }).map((n) => 2 ** n),
    boundary: fc.oneof(
      fc.constant(0),
      fc.integer({ min: 4, max: 8 }).map((n) => 2 ** n),
    ),
    lowaddr: fc.integer({ min: RAM + 0x8000, max: RAM + 0xffff }),
    maxsegsz: fc.integer({ min: 1, max: 300 }),
  });
  const list = fc.array(fc.tuple(fc.integer({ min: 0xfc00, max: 0x1_03ff }), fc.integer({ min: 0, max: 200 })), {
    minLength: 1,
    maxLength: 5,
  });
  fc.assert(
    fc.property(constraints, list, fc.boolean(), (asked, ranges, force) => {
      const bus = new FakeBus();
      for (let i = 0; i < bus.ram.length; i++) bus.ram[i] = (i * 7) ^ (i >> 8);
      const total = ranges.reduce((sum, [, len]) => sum + len, 0);
      if (total === 0) return;
      const want = ranges.flatMap(([at, len]) => [...bus.ram.slice(at, at + len)]);
      const tag = tagOf(bus, asked, force ? "always" : "needed");
      const map = tag.load(Sglist.of(ranges.map(([at, len]) => seg(RAM + at, len))));
      const { alignment, boundary, lowaddr, maxsegsz } = tag.constraints;
      map.sync("prewrite");
      const got: number[] = [];
      for (const { paddr, len } of map.segments) {
        assert.is(paddr % alignment, 0, "alignment");
        assert.ok(len >= 1 && len <= maxsegsz, "maxsegsz");
        assert.ok(paddr + len - 1 <= lowaddr, "lowaddr");
        if (boundary !== 0)
          assert.is(Math.floor(paddr / boundary), Math.floor((paddr + len - 1) / boundary), "boundary");
        got.push(...bus.ram.slice(paddr - RAM, paddr - RAM + len));
      }
      assert.equal(got, want);
      map[Symbol.dispose]();
      assert.is(bus.dmaLive.size, 0);
    }),
  );
});

test("PRB-058 with forced bouncing data moves only at prewrite and postread", () => {
  const bus = new FakeBus();
  const origin = 0x3_0000; // in RAM, beyond what is allocated
  const map = tagOf(bus, {}, "always").load([seg(RAM + origin, 8)]);
  const [{ paddr }] = map.segments as [Segment];
  assert.is.not(paddr, RAM + origin);
  const host = bus.ram.subarray(origin, origin + 8);
  const device = bus.ram.subarray(paddr - RAM, paddr - RAM + 8);
  host.fill(0x11);
  map.sync("preread");
  assert.ok(
    device.every((b) => b === 0),
    "preread copies nothing",
  );
  map.sync("prewrite");
  assert.ok(device.every((b) => b === 0x11));
  host.fill(0x22);
  map.sync("postwrite");
  assert.ok(device.every((b) => b === 0x11) && host.every((b) => b === 0x22), "postwrite copies nothing");
  device.fill(0x33);
  map.sync("preread");
  assert.ok(host.every((b) => b === 0x22));
  map.sync("postread");
  assert.ok(host.every((b) => b === 0x33));
});

test("without bouncing a sync goes to the machine for each segment", () => {
  const bus = new FakeBus();
  const map = tagOf(bus).load([seg(RAM, 8), seg(RAM + 0x100, 4)]);
  map.sync("prewrite");
  map.sync("postread");
  assert.equal(bus.syncs, ["prewrite 100000+8", "prewrite 100100+4", "postread 100000+8", "postread 100100+4"]);
});

test("PRB-059 DMA memory stays right after the machine's RAM was replaced", () => {
  const bus = new FakeBus();
  const memory = tagOf(bus).alloc(64);
  const map = tagOf(bus, {}, "always").load([seg(memory.paddr, 4)]);
  memory.write32(8, 0xcafe);
  const grown = new Uint8Array(bus.ram.length * 2);
  grown.set(bus.ram);
  bus.ram = grown;
  assert.is(memory.read32(8), 0xcafe);
  memory.write32(0, 0xfeed);
  assert.is(new DataView(grown.buffer).getUint32(memory.paddr - RAM, true), 0xfeed);
  map.sync("prewrite");
  assert.is(new DataView(grown.buffer).getUint32(map.segments[0]!.paddr - RAM, true), 0xfeed);
});

test.run();
