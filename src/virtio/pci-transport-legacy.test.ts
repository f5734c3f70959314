import { test } from "uvu";
import * as assert from "uvu/assert";
import { VirtioPciFunction } from "./pci-transport.js";
import { BUFFERS, enableMsix, legacy, NO_VECTOR, WRITE } from "./pci-transport-testing.js";
import { RawDriver, RawRing, TestHost, ToyDevice } from "./testing.js";

// ------------------------------------------------------------------------------------------------ legacy interface

test("VIO-133 VIO-142 the legacy header has its widths and places", () => {
  const { driver, host } = legacy();
  assert.is(driver.legacyRead(0x00, 4), 0x3900_0021);
  driver.legacyWrite(0x04, 4, 0x2100_0001);
  assert.is(driver.legacyRead(0x04, 4), 0x2100_0001);
  driver.legacyWrite(0x0e, 2, 2);
  assert.is(driver.legacyRead(0x0e, 2), 2);
  assert.is(driver.legacyRead(0x0c, 2), 4);
  assert.is(driver.legacyRead(0x0c, 4), 0x0002_0004, "size and select by one read");
  driver.legacyWrite(0x08, 4, 0x20);
  assert.is(driver.legacyRead(0x08, 4), 0x20);
  driver.legacyWrite(0x12, 1, 1);
  assert.is(driver.legacyRead(0x12, 1), 1);
  assert.is(driver.legacyRead(0x13, 1), 0);
  for (const missing of [3, 0xffff]) {
    driver.legacyWrite(0x0e, 2, missing);
    assert.equal([driver.legacyRead(0x0c, 2), driver.legacyRead(0x08, 4)], [0, 0]);
    driver.legacyWrite(0x08, 4, 0x30);
    assert.is(driver.legacyRead(0x08, 4), 0);
  }
  assert.ok(host.guardsIntact());
});

test("VIO-134 VIO-135 VIO-136 the configuration moves when MSI-X is enabled, and back", () => {
  const r = legacy();
  const { slot, driver } = r;
  driver.legacyWrite(0x12, 1, 3);
  driver.legacyWrite(0x04, 4, 1);
  assert.equal([driver.legacyRead(0x14, 1), driver.legacyRead(0x14, 4)], [0x11, 0x4433_2211]);
  driver.legacyWrite(0x16, 1, 0x99); // the third byte of the configuration, no vector
  assert.is(driver.legacyRead(0x14, 4), 0x4499_2211);
  enableMsix(r, 0x40, 4);
  assert.equal([driver.legacyRead(0x14, 2), driver.legacyRead(0x16, 2)], [NO_VECTOR, NO_VECTOR]);
  assert.is(driver.legacyRead(0x18, 4), 0x4499_2211);
  driver.legacyWrite(0x14, 2, 2);
  driver.legacyWrite(0x16, 2, 1);
  assert.is(driver.legacyRead(0x14, 4), 0x0001_0002);
  driver.legacyWrite(0x14, 2, 9);
  assert.is(driver.legacyRead(0x14, 2), NO_VECTOR);
  assert.equal([driver.legacyRead(0x12, 1), driver.legacyRead(0x04, 4)], [3, 1]);
  slot.configWrite(0x42, 2, 0);
  assert.is(driver.legacyRead(0x14, 4), 0x4499_2211);
  assert.equal([driver.legacyRead(0x12, 1), driver.legacyRead(0x04, 4)], [3, 1]);
});

test("VIO-137 VIO-138 VIO-140 VIO-154 a PFN reads back and places the ring, above 4 GiB, too", () => {
  for (const [pfn, base] of [
    [0x10, 0x1_0000],
    [0x10_0000, 0x1_0000_0000],
  ] as const) {
    const host = new TestHost([
      { base: 0, size: 0x10_0000 },
      { base: 0x1_0000_0000, size: 0x1_0000 },
    ]);
    const toy = new ToyDevice();
    const driver = new RawDriver(new VirtioPciFunction(toy, { personality: "legacy" }), host);
    const q = new RawRing(host, 16, base, base + 0x100, base + 0x1000);
    q.describe(0, BUFFERS, 1, WRITE);
    driver.legacyWrite(0x12, 1, 3);
    driver.legacyWrite(0x0e, 2, 0);
    assert.is(driver.legacyRead(0x08, 4), 0);
    driver.legacyWrite(0x08, 4, pfn);
    assert.is(driver.legacyRead(0x08, 4), pfn);
    driver.legacyWrite(0x12, 1, 7);
    q.offer(0);
    driver.legacyWrite(0x10, 2, 0);
    assert.is(toy.seen.length, 1);
    assert.equal([q.usedIdx, q.entry(0)], [1, [0, 1]]);
    driver.legacyWrite(0x08, 4, 0);
    assert.is(driver.legacyRead(0x08, 4), 0);
    driver.legacyWrite(0x08, 4, pfn);
    driver.legacyWrite(0x12, 1, 0);
    assert.is(driver.legacyRead(0x08, 4), 0);
  }
});

test("VIO-139 the used ring of 64, 256 and 1024 lies at 4096, 8192 and 20480", () => {
  for (const [size, used, total] of [
    [64, 4096, 8192],
    [256, 8192, 12288],
    [1024, 20480, 32768],
  ] as const) {
    // Memory ends with the queue: one page less is too little.
    const works = (pages: number): boolean => {
      const host = new TestHost([{ base: 0x1_0000, size: pages * 4096 }]);
      const toy = new ToyDevice([size, 16, 4]);
      const driver = new RawDriver(new VirtioPciFunction(toy, { personality: "legacy" }), host);
      const q = new RawRing(host, size, 0x1_0000, 0x1_0000 + 16 * size, 0x1_0000 + used);
      driver.legacyQueue(0, q);
      driver.legacyWrite(0x12, 1, 7);
      if (host.reports.length > 0) return false;
      q.describe(0, 0x1_0000 + 16, 1, WRITE);
      q.offer(0);
      driver.legacyWrite(0x10, 2, 0);
      return q.usedIdx === 1;
    };
    assert.ok(works(total / 4096));
    assert.not(works(total / 4096 - 1));
  }
});

test("VIO-141 the legacy queue size cannot be written", () => {
  const { driver } = legacy();
  driver.legacyWrite(0x0c, 2, 8);
  driver.legacyWrite(0x0c, 4, 0x0001_0008);
  assert.is(driver.legacyRead(0x0c, 4), 16);
});

test("VIO-144 features may be written again until DRIVER_OK", () => {
  const { driver, toy } = legacy();
  driver.legacyWrite(0x12, 1, 3);
  for (const value of [0x3000_0001, 0xffff_ffff, 0x1000_0000]) driver.legacyWrite(0x04, 4, value);
  assert.is(driver.legacyRead(0x04, 4), 0x1000_0000);
  driver.legacyWrite(0x12, 1, 7);
  driver.legacyWrite(0x04, 4, 1);
  assert.is(driver.legacyRead(0x04, 4), 0x1000_0000);
  assert.is(toy.accepted.lo, 0x1000_0000);
});

test("VIO-145 VIO-146 queues kicked before features and DRIVER_OK lose nothing, ACK or no ACK", () => {
  const { driver, toy, q } = legacy();
  driver.legacyWrite(0x12, 1, 0);
  driver.legacyQueue(0, q);
  q.offer(0);
  driver.legacyWrite(0x10, 2, 0);
  driver.legacyWrite(0x04, 4, 0);
  assert.is(toy.seen.length, 0);
  driver.legacyWrite(0x12, 1, 6); // DRIVER | DRIVER_OK
  assert.is(toy.seen.length, 1);
  assert.is(q.usedIdx, 1);
});

test("VIO-147 with legacyBusMaster a driver that never sets Bus Master works, without it it does not", () => {
  for (const legacyBusMaster of [true, false]) {
    const { slot, driver, toy, q } = legacy({ personality: "legacy", legacyBusMaster });
    slot.configWrite(0x04, 2, 0x0003);
    driver.legacyWrite(0x12, 1, 0);
    driver.legacyWrite(0x12, 1, 1);
    driver.legacyWrite(0x12, 1, 3);
    driver.legacyQueue(0, q);
    driver.legacyWrite(0x12, 1, 7);
    q.offer(0);
    driver.legacyWrite(0x10, 2, 0);
    assert.is(toy.seen.length, legacyBusMaster ? 1 : 0);
    assert.is(slot.configRead(0x04, 2), 0x0003);
  }
});

test("VIO-148 device configuration of 1, 2 and 4 bytes at any place", () => {
  const { driver } = legacy();
  const bytes = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xff, 0xff, 0xff, 0xff];
  for (let at = 0; at < 6; at++)
    for (const width of [1, 2, 4] as const) {
      const expected = bytes.slice(at, at + width).reduceRight((value, byte) => value * 256 + byte, 0);
      assert.is(driver.legacyRead(0x14 + at, width), expected, `${width} bytes at ${at}`);
    }
});

test("VIO-152 any read that covers 0x13 clears the ISR", () => {
  for (const [at, width, value] of [
    [0x13, 1, 1],
    [0x12, 2, 0x0107],
    [0x10, 4, 0x0107_0000],
  ] as const) {
    const { host, driver, q } = legacy();
    driver.legacyWrite(0x12, 1, 3);
    driver.legacyQueue(0, q);
    driver.legacyWrite(0x12, 1, 7);
    q.offer(0);
    driver.legacyWrite(0x10, 2, 0);
    assert.ok(host.intx);
    assert.is(driver.legacyRead(at, width), value);
    assert.not(host.intx);
    assert.is(driver.legacyRead(0x13, 1), 0);
  }
});

test("VIO-153 the upper byte of the doorbell is none", () => {
  const { driver, toy, q } = legacy();
  driver.legacyWrite(0x12, 1, 3);
  driver.legacyQueue(0, q);
  driver.legacyWrite(0x12, 1, 7);
  q.offer(0);
  driver.legacyWrite(0x11, 1, 0);
  assert.is(toy.seen.length, 0);
  driver.legacyWrite(0x10, 1, 0);
  assert.is(toy.seen.length, 1);
});

test("a driver that writes no features at all has none: no tables, no event indices, no empty ring told", () => {
  const { host, driver, toy, q } = legacy();
  driver.legacyWrite(0x12, 1, 3);
  driver.legacyQueue(0, q);
  driver.legacyWrite(0x12, 1, 7);
  q.availFlags = 1;
  q.usedEvent = 0;
  q.offer(0);
  driver.legacyWrite(0x10, 2, 0);
  assert.equal([toy.seen.length, host.intx, q.availEvent], [1, false, 0]);
  q.describe(0, BUFFERS, 16, 4);
  q.offer(0);
  driver.legacyWrite(0x10, 2, 0);
  assert.equal(host.reports, ["indirect-not-negotiated"]);
});

test("VIO-153 the doorbell takes 16 bits, and ignores what names no queue", () => {
  const { host, driver, toy, q } = legacy();
  driver.legacyWrite(0x12, 1, 3);
  driver.legacyQueue(0, q);
  driver.legacyWrite(0x12, 1, 7);
  q.offer(0);
  for (const value of [3, 0x8000, 0xffff]) driver.legacyWrite(0x10, 2, value);
  driver.legacyWrite(0x10, 4, 0xffff_ffff);
  assert.is(toy.seen.length, 0);
  assert.is(driver.legacyRead(0x12, 1), 7, "a wide write stays with the doorbell");
  driver.legacyWrite(0x10, 2, 0);
  assert.is(toy.seen.length, 1);
  assert.equal(host.reports, ["notify-no-queue"]);
});

test("VIO-158 with NOTIFY_ON_EMPTY an exhausted queue interrupts although the driver said no", () => {
  for (const feature of [0x0100_0000, 0]) {
    const { host, driver, q } = legacy();
    driver.legacyWrite(0x12, 1, 3);
    driver.legacyWrite(0x04, 4, feature);
    driver.legacyQueue(0, q);
    driver.legacyWrite(0x12, 1, 7);
    q.availFlags = 1;
    q.offer(0);
    driver.legacyWrite(0x10, 2, 0);
    assert.is(host.intx, feature !== 0);
  }
});

test("VIO-158 NOTIFY_ON_EMPTY means empty: not while chains wait, and with EVENT_IDX whatever used_event says", () => {
  for (const eventIdx of [0, 0x2000_0000]) {
    const { host, driver, toy, q } = legacy();
    driver.legacyWrite(0x12, 1, 3);
    driver.legacyWrite(0x04, 4, 0x0100_0000 + eventIdx);
    driver.legacyQueue(0, q);
    driver.legacyWrite(0x12, 1, 7);
    q.offer(0);
    driver.legacyWrite(0x10, 2, 0); // the first batch with EVENT_IDX interrupts in any case
    driver.legacyRead(0x13, 1);
    q.availFlags = 1;
    q.usedEvent = 100;
    const run = (): boolean => {
      toy.bus!.queue(0).begin();
      assert.is(toy.runQueue(0, 1), 1);
      const { intx } = host;
      driver.legacyRead(0x13, 1);
      return intx;
    };
    q.offer(0);
    q.offer(0);
    assert.equal([run(), run()], [false, true]);
  }
});

test("VIO-160 VIO-161 a thousand rounds of PFN 0 and set-up again leave nothing behind", () => {
  const { host, driver, toy, q } = legacy();
  for (let round = 0; round < 1000; round++) {
    driver.legacyWrite(0x12, 1, 0);
    driver.legacyWrite(0x12, 1, 3);
    host.put(0x1_0100, [0, 0, 0, 0]);
    driver.legacyQueue(0, q);
    driver.legacyWrite(0x12, 1, 7);
    q.offer(0);
    driver.legacyWrite(0x10, 2, 0);
    assert.is(toy.seen.length, round + 1);
    assert.is(q.usedIdx, 1);
    driver.legacyWrite(0x0e, 2, 0);
    driver.legacyWrite(0x08, 4, 0);
    q.availIdx = 40;
    driver.legacyWrite(0x10, 2, 0);
  }
  assert.ok(host.guardsIntact());
});

test.run();
