import { test } from "uvu";
import * as assert from "uvu/assert";
import { defineRegisters } from "../regs/index.js";
import { VirtioPciFunction } from "./pci-transport.js";
import { BUFFERS, NO_VECTOR, rig, running, WRITE } from "./pci-transport-testing.js";
import { RawRing, ToyDevice } from "./testing.js";

// ------------------------------------------------------------------------------------------------ generation and configuration

test("VIO-073 VIO-074 VIO-075 the generation moves when what was read has changed, however often", () => {
  const { driver, toy } = rig();
  driver.read(0x2000, 1);
  const generation = driver.read(0x15, 1);
  assert.is(driver.read(0x15, 1), generation);
  driver.read(0x2000, 4);
  assert.is(driver.read(0x15, 1), generation, "no change, no move");
  for (const changes of [1, 255, 256, 512]) {
    const before = driver.read(0x15, 1);
    for (let i = 0; i < changes; i++) toy.bus?.configChanged(false);
    driver.read(0x2000, 1);
    assert.is.not(driver.read(0x15, 1), before, `${changes} changes`);
  }
});

test("VIO-075 a change before the first look makes no driver read twice", () => {
  const { driver, toy } = rig();
  driver.write(0x14, 1, 0); // a reset, with which drivers begin
  assert.is(driver.read(0x15, 1), 0, "as QEMU's");
  driver.read(0x2000, 1);
  assert.is(driver.read(0x15, 1), 0);
  toy.bus?.configChanged(false);
  const generation = driver.read(0x15, 1);
  driver.read(0x2000, 1);
  assert.is(driver.read(0x15, 1), generation, "what was read is what stood there at both looks");
});

test("VIO-073 the generation goes up by one, and round after 255", () => {
  const { toy, driver } = rig();
  driver.read(0x2000, 1);
  let generation = driver.read(0x15, 1);
  for (let i = 0; i < 300; i++) {
    toy.bus?.configChanged(false);
    driver.read(0x2000, 1);
    generation = (generation + 1) % 256;
    assert.is(driver.read(0x15, 1), generation);
  }
});

test("VIO-076 VIO-109 device configuration by any width, all ones behind its end", () => {
  const { driver, toy } = rig();
  assert.is(driver.read(0x2000, 4), 0x4433_2211);
  assert.is(driver.read(0x2002, 2), 0x4433);
  assert.is(driver.read(0x2004, 4), 0xffff_6655);
  assert.is(driver.read(0x2006, 2), 0xffff);
  assert.is(driver.read(0x2ffc, 4), 0xffff_ffff);
  driver.write(0x2004, 4, 0xdddd_ccbb);
  assert.equal([...toy.config], [0x11, 0x22, 0x33, 0x44, 0xbb, 0xcc]);
  driver.write(0x2008, 4, 0);
  assert.is(driver.read(0x2008, 4), 0xffff_ffff);
});

// ------------------------------------------------------------------------------------------------ common configuration

test("VIO-077 VIO-079 VIO-120 VIO-122 VIO-123 offered features by select, without what is legacy's", () => {
  const { driver } = rig({ personality: "transitional" });
  const offered = [0, 1, 2, 3, 4, 0xffff_ffff].map((select) => {
    driver.write(0x00, 4, select);
    return driver.read(0x04, 4);
  });
  // 0: the toy's own; 28, 29: rings; 32: VERSION_1. Not 5, 24, 27, 30, 37.
  assert.equal(offered, [0x3000_0001, 1, 0, 0, 0, 0]);
});

test("VIO-121 VIO-143 a transitional device offers ANY_LAYOUT in the legacy register", () => {
  const { driver } = rig({ personality: "transitional" });
  assert.is(driver.legacyRead(0x00, 4), 0x3900_0021);
});

test("VIO-078 accepted features by select, as far as they were offered", () => {
  const { driver } = rig();
  driver.write(0x08, 4, 0);
  driver.write(0x0c, 4, 0x1000_0001);
  driver.write(0x08, 4, 1);
  driver.write(0x0c, 4, 1);
  assert.is(driver.read(0x0c, 4), 1);
  driver.write(0x08, 4, 0);
  assert.is(driver.read(0x0c, 4), 0x1000_0001);
  driver.write(0x08, 4, 7);
  assert.is(driver.read(0x0c, 4), 0);
});

test("VIO-080 VIO-081 queues are counted, and any select reads back", () => {
  const { driver } = rig();
  assert.is(driver.read(0x12, 2), 3);
  for (const select of [0, 2, 3, 0xffff]) {
    driver.write(0x16, 2, select);
    assert.is(driver.read(0x16, 2), select);
  }
});

test("VIO-082 a missing queue reads as such and takes nothing", () => {
  const { driver } = rig();
  for (const select of [3, 0xffff]) {
    driver.write(0x16, 2, select);
    for (const [at, width] of [
      [0x18, 2],
      [0x1a, 2],
      [0x1c, 2],
      [0x20, 4],
      [0x34, 4],
    ] as const)
      driver.write(at, width, 1);
    assert.equal([driver.read(0x18, 2), driver.read(0x1a, 2), driver.read(0x1c, 2)], [0, NO_VECTOR, 0]);
    for (let at = 0x20; at < 0x38; at += 4) assert.is(driver.read(at, 4), 0);
  }
  driver.write(0x16, 2, 0);
  assert.equal([driver.read(0x18, 2), driver.read(0x1c, 2), driver.read(0x20, 4)], [16, 0, 0]);
});

test("VIO-083 VIO-084 VIO-085 queue_size: the maximum, smaller powers of two, nothing else", () => {
  const { host, toy, driver } = rig();
  assert.is(driver.read(0x18, 2), 16);
  for (const [written, size] of [
    [8, 8],
    [0, 8],
    [3, 8],
    [32, 8],
    [0x8000, 8],
    [16, 16],
    [1, 1],
    [0xffff, 1],
  ] as const) {
    driver.write(0x18, 2, written);
    assert.is(driver.read(0x18, 2), size);
  }
  // A driver that never writes it: addresses for the maximum.
  driver.negotiate(0, 1);
  driver.write(0x16, 2, 0);
  const q = new RawRing(host, 16, 0x1_0000);
  for (const [at, address] of [
    [0x20, q.desc],
    [0x28, q.avail],
    [0x30, q.used],
  ] as const)
    driver.write(at, 4, address);
  driver.write(0x1c, 2, 1);
  driver.driverOk();
  q.describe(15, BUFFERS, 1, WRITE);
  for (let i = 0; i < 16; i++) q.offer(15);
  driver.notify(0);
  assert.is(toy.seen.length, 16);
});

test("VIO-086 halves of addresses can be written in any order and read back", () => {
  const { driver } = rig();
  const writes: [number, number][] = [
    [0x34, 0x66],
    [0x20, 0x1111_0000],
    [0x30, 0x5555_0000],
    [0x24, 0x22],
    [0x2c, 0x44],
    [0x28, 0x3333_0000],
  ];
  for (const [at, value] of writes) driver.write(at, 4, value);
  for (const [at, value] of writes) assert.is(driver.read(at, 4), value);
});

test("VIO-087 a narrow write changes its bytes of a register and no others", () => {
  const { driver } = rig();
  driver.write(0x20, 4, 0x4433_2211);
  driver.write(0x20, 1, 0xaa);
  assert.is(driver.read(0x20, 4), 0x4433_22aa);
  driver.write(0x20, 2, 0xccbb);
  assert.is(driver.read(0x20, 4), 0x4433_ccbb);
  driver.write(0x23, 1, 0xff);
  driver.write(0x21, 1, 0xdd);
  assert.is(driver.read(0x20, 4), 0xff33_ddbb);
  driver.write(0x22, 2, 0x0102);
  assert.is(driver.read(0x20, 4), 0x0102_ddbb);
  assert.is(driver.read(0x24, 4), 0);
});

test("VIO-087 VIO-088 reads of other widths give the bytes that lie there", () => {
  const { driver } = rig();
  driver.write(0x16, 2, 1);
  driver.write(0x20, 4, 0x1234_5670);
  const bytes = Array.from({ length: 0x40 }, (_, at) => driver.read(at, 1));
  assert.equal(bytes.slice(0x16, 0x1a), [1, 0, 16, 0]);
  assert.equal(bytes.slice(0x20, 0x24), [0x70, 0x56, 0x34, 0x12]);
  for (let at = 0; at < 0x40; at++)
    for (const width of [1, 2, 4] as const) {
      if (at + width > 0x40) continue;
      const expected = bytes.slice(at, at + width).reduceRight((value, byte) => value * 256 + byte, 0);
      assert.is(driver.read(at, width), expected, `${width} bytes at ${at}`);
    }
  assert.is(driver.read(0x16, 4), 0x0010_0001);
});

test("VIO-089 VIO-107 VIO-108 read-only fields ignore writes, and nothing lies behind the last field", () => {
  const { driver } = rig();
  const fields = [
    [0x04, 4],
    [0x12, 2],
    [0x15, 1],
    [0x1e, 2],
    [0x38, 2],
    [0x3c, 2],
    [0x3e, 2],
  ] as const;
  const before = fields.map(([at, width]) => driver.read(at, width));
  for (const [at, width] of fields) driver.write(at, width, 0xffff_ffff);
  assert.equal(
    fields.map(([at, width]) => driver.read(at, width)),
    before,
  );
  for (let at = 0x3c; at < 0x1000; at += 4) assert.is(driver.read(at, 4), 0);
  driver.write(0x40, 4, 0xffff_ffff);
  assert.is(driver.read(0x40, 4), 0);
});

test("a wide write does not reach the register next to the one it begins in", () => {
  const { driver } = rig();
  driver.write(0x18, 4, 8); // queue_size; the upper half would be queue_msix_vector 0
  assert.equal([driver.read(0x18, 2), driver.read(0x1a, 2)], [8, NO_VECTOR]);
  driver.write(0x14, 4, 0x0002_0001); // device_status; the upper half would be queue_select
  assert.equal([driver.read(0x14, 1), driver.read(0x16, 2)], [1, 0]);
  driver.write(0x21, 1, 0x55);
  driver.write(0x22, 2, 0x7766);
  assert.is(driver.read(0x20, 4), 0x7766_5500);
});

test("VIO-090 VIO-091 queue_enable reads 0, then 1; 0 and other values have no effect", () => {
  const { host, driver } = rig();
  assert.is(driver.read(0x1c, 2), 0);
  for (const value of [0, 2, 0xffff, 0x100]) {
    driver.write(0x1c, 2, value);
    assert.is(driver.read(0x1c, 2), 0);
  }
  driver.queue(0, new RawRing(host, 16, 0x1_0000));
  assert.is(driver.read(0x1c, 2), 1);
  driver.write(0x1c, 2, 0);
  assert.is(driver.read(0x1c, 2), 1);
});

test("VIO-092 a queue may be enabled before the features are final", () => {
  const { host, toy, driver } = rig();
  driver.write(0x14, 1, 0);
  driver.write(0x14, 1, 3);
  const q = new RawRing(host, 16, 0x1_0000);
  driver.queue(0, q);
  driver.write(0x08, 4, 1);
  driver.write(0x0c, 4, 1);
  driver.write(0x08, 4, 0);
  driver.write(0x0c, 4, 0x2000_0000);
  driver.write(0x14, 1, 0x0b);
  driver.driverOk();
  q.describe(0, BUFFERS, 1, WRITE);
  q.offer(0);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
  assert.is(q.availEvent, 1, "EVENT_IDX, accepted later, holds");
});

test("what lies behind the last field is nobody's: no register changes, and nobody is blamed", () => {
  const { host, slot, driver } = running();
  driver.write(0x16, 2, 0);
  const before = slot.save();
  for (const at of [0x40, 0x41, 0x44, 0x80, 0xffc]) {
    driver.write(at, 1, 1);
    driver.write(at & ~3, 4, 0xffff_ffff);
    assert.is(driver.read(at & ~3, 4), 0);
  }
  for (const at of [0x1000, 0x1004]) driver.write(at, 1, 0xff); // interrupt status is read only
  assert.equal(slot.save(), before);
  assert.equal(host.reports, []);
});

test("VIO-076 device configuration is written from its first byte to its last, by any width", () => {
  const { toy, driver } = rig();
  driver.write(0x2000, 1, 0xa0);
  driver.write(0x2001, 1, 0xa1);
  driver.write(0x2002, 2, 0xa3a2);
  driver.write(0x2004, 4, 0xffff_a5a4); // its last two bytes lie behind the end
  assert.equal([...toy.config], [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5]);
  driver.write(0x2000, 4, 0x0403_0201);
  assert.equal([...toy.config], [1, 2, 3, 4, 0xa4, 0xa5]);
});

test("traces name what lies in the modern BAR", () => {
  const toy = new ToyDevice();
  const named = Object.assign(toy, {
    configRegisters: defineRegisters(
      { name: "toy", source: "none", size: 6 },
      {
        first: { at: 0, width: 4, doc: "a field" },
        second: { at: 4, width: 2, doc: "another" },
      },
    ),
  });
  const slot = new VirtioPciFunction(named, { personality: "modern" });
  const map = slot.bars.find(({ index }) => index === 4)?.registers;
  assert.equal(
    ["queue_select", "isr_status", "config_first", "config_second", "notify_q0", "notify_q2"].map((name) => {
      const register = map?.regs[name];
      return [register?.at, register?.width];
    }),
    [
      [0x16, 2],
      [0x1000, 1],
      [0x2000, 4],
      [0x2004, 2],
      [0x3000, 2],
      [0x3008, 2],
    ],
  );
});

test("VIO-093 registers of an enabled queue do not change", () => {
  const { host, toy, driver, q } = running();
  driver.write(0x16, 2, 0);
  driver.write(0x18, 2, 8);
  for (let at = 0x20; at < 0x38; at += 4) driver.write(at, 4, 0x7000);
  assert.equal(
    [0x18, 0x20, 0x24, 0x28, 0x30].map((at) => driver.read(at, at === 0x18 ? 2 : 4)),
    [16, q.desc, 0, q.avail, q.used],
  );
  q.offer(0);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
  assert.ok(host.guardsIntact());
});

test("VIO-105 queue_reset means nothing without RING_RESET", () => {
  const { toy, driver, q } = running();
  driver.write(0x16, 2, 0);
  driver.write(0x3a, 2, 1);
  assert.equal([driver.read(0x3a, 2), driver.read(0x1c, 2)], [0, 1]);
  q.offer(0);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
});

test.run();
