import { test } from "uvu";
import * as assert from "uvu/assert";
import { Window } from "./bus-space.js";
import { FakeBus } from "./testing/fake-bus.js";

const BDF = 0x18; // 00:03.0
const make = () => {
  const bus = new FakeBus([
    {
      bdf: BDF,
      config: { 0: 0x816710ec, 4: 0x0003, 16: 0xc001, 20: 0xfebd1000 },
      bars: { 0: { kind: "io", size: 0x100 }, 1: { kind: "mem32", size: 0x100 } },
    },
  ]);
  return {
    bus,
    io: new Window(bus, "ioport", 0x10, 0xc000, 0x100),
    mem: new Window(bus, "memory", 0x14, 0xfebd1000, 0x100),
  };
};
const throwsErrno = (fn: () => unknown, code: string) =>
  assert.throws(fn, (error: unknown) => (error as { code?: string }).code === code, `expected ${code}`);

test("PRB-043 an access of each width reaches the bus as exactly one of that width", () => {
  const { bus, io, mem } = make();
  mem.write2(0x3c, 0x1234);
  mem.write1(0x37, 0x0c);
  mem.write4(0x40, 0xdeadbeef);
  mem.read2(0x3c);
  io.write2(0x3e, 0xffff);
  io.read1(0x37);
  io.read4(0x00);
  assert.equal(bus.log, [
    "mw febd103c 2 1234",
    "mw febd1037 1 c",
    "mw febd1040 4 deadbeef",
    "mr febd103c 2 1234",
    "iw c03e 2 ffff",
    "ir c037 1 0",
    "ir c000 4 0",
  ]);
});

test("PRB-044 an access outside 0..size-width throws and does not reach the bus", () => {
  for (const which of ["io", "mem"] as const) {
    const { bus, [which]: space } = make();
    space.read1(0xff);
    space.read2(0xfe);
    space.read4(0xfc);
    space.write4(0xfc, 1);
    bus.log.length = 0;
    for (const offset of [-1, 0x100, 0.5, Number.NaN, 2 ** 32, -(2 ** 31)])
      throwsErrno(() => space.read1(offset), "EINVAL");
    for (const offset of [-1, 0xff, 0x100, 1.5]) throwsErrno(() => space.read2(offset), "EINVAL");
    for (const offset of [-4, 0xfd, 0x100, 2 ** 33]) throwsErrno(() => space.read4(offset), "EINVAL");
    throwsErrno(() => space.write1(0x100, 0), "EINVAL");
    throwsErrno(() => space.write2(0xff, 0), "EINVAL");
    throwsErrno(() => space.write4(0xfd, 0), "EINVAL");
    assert.equal(bus.log, []);
  }
});

test("PRB-045 reads are unsigned and writes are cut to their width", () => {
  const { bus, mem, io } = make();
  bus.regs(BDF, 1).fill(0xff);
  bus.regs(BDF, 0).fill(0x80);
  assert.equal([mem.read1(0), mem.read2(0), mem.read4(0)], [0xff, 0xffff, 0xffffffff]);
  assert.equal([io.read1(0), io.read2(0), io.read4(0)], [0x80, 0x8080, 0x80808080]);
  // A host that hands out signed numbers, as WebAssembly does.
  const signed = new Window(
    Object.assign(Object.create(bus) as FakeBus, { memRead: () => -1, ioRead: () => -2 }),
    "memory",
    0x14,
    0,
    0x100,
  );
  assert.equal([signed.read1(0), signed.read2(0), signed.read4(0)], [0xff, 0xffff, 0xffffffff]);
  bus.log.length = 0;
  mem.write4(0, -1);
  mem.write2(0, ~0x0f);
  mem.write1(0, 0x1ff);
  assert.equal(bus.log, ["mw febd1000 4 ffffffff", "mw febd1000 2 fff0", "mw febd1000 1 ff"]);
});

test("PRB-034 a window throws EINVAL after it was released", () => {
  const { bus, mem } = make();
  mem[Symbol.dispose]();
  mem[Symbol.dispose]();
  bus.log.length = 0;
  throwsErrno(() => mem.read4(0), "EINVAL");
  throwsErrno(() => mem.write1(0, 1), "EINVAL");
  assert.equal(bus.log, []);
});

test("PRB-067 after surprise removal reads give all ones and writes vanish", () => {
  const { bus, mem, io } = make();
  for (const space of [mem, io]) {
    space.vanish();
    bus.log.length = 0;
    assert.equal([space.read1(0), space.read2(0), space.read4(0)], [0xff, 0xffff, 0xffffffff]);
    space.write1(0, 1);
    space.write2(0, 1);
    space.write4(0, 1);
    throwsErrno(() => space.read4(0x100), "EINVAL");
    space[Symbol.dispose]();
    assert.is(space.read4(0), 0xffffffff, "also for a driver that kept it");
    assert.equal(bus.log, []);
  }
});

test("a window above 2 GiB takes offsets that are no 32-bit numbers", () => {
  const { bus } = make();
  const huge = new Window(bus, "memory", 0x18, 0x1_0000_0000, 0x2_0000_0000);
  huge.read4(0x1_8000_0000);
  assert.equal(bus.log, ["mr 280000000 4 ffffffff"]);
  throwsErrno(() => huge.read4(0x1_ffff_fffd), "EINVAL");
});

test.run();
