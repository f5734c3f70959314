import { test } from "uvu";
import * as assert from "uvu/assert";
import type { VirtioPciFunction } from "./pci-transport.js";
import { BUFFERS, legacy, NO_VECTOR, RING_RESET, rig, running, WRITE } from "./pci-transport-testing.js";
import { RawPackedRing, RawRing } from "./testing.js";

// ------------------------------------------------------------------------------------------------ status and reset

/** A modern device that offers what is by option, with queue 0 running. @param hi features 63–32 beside VERSION_1 */
const withOptions = (hi: number, packed: boolean) => {
  const options = { packed: true, ringReset: true, notificationData: true, notifConfigData: true } as const;
  const r = rig({ personality: "modern", ...options });
  assert.is(r.driver.negotiate(0, 1 | hi | (packed ? 4 : 0)), 0x0b);
  const q = packed ? new RawPackedRing(r.host, 16, 0x1_0000) : new RawRing(r.host, 16, 0x1_0000);
  r.driver.queue(0, q);
  r.driver.driverOk();
  return { ...r, q };
};
const NOTIFICATION_DATA = 0x40; // bit 38
const NOTIF_CONFIG_DATA = 0x80; // bit 39

test("what is offered by option alone is not offered without", () => {
  const { driver } = rig({ personality: "modern" });
  driver.write(0x00, 4, 1);
  assert.is(driver.read(0x04, 4), 1);
  const all = rig({ personality: "modern", ringReset: true, notificationData: true, notifConfigData: true }).driver;
  all.write(0x00, 4, 1);
  assert.is(all.read(0x04, 4), 0x1c1);
});

test("VIO-102 VIO-103 VIO-104 a queue is reset alone, and starts again with another size elsewhere", () => {
  for (const packed of [false, true]) {
    const { host, toy, driver, q } = withOptions(RING_RESET, packed);
    const other = new RawRing(host, 16, 0x4_0000);
    driver.queue(1, other);
    const offer = (ring: RawRing | RawPackedRing, id: number): void => ring.chain(id, [BUFFERS, 1, WRITE]);
    offer(q, 0);
    driver.notify(0);
    offer(q, 1); // not told of yet
    const before = host.bytesAt(q.desc, 0x800);
    driver.write(0x16, 2, 0);
    driver.write(0x1a, 2, 1);
    driver.write(0x3a, 2, 1);
    assert.equal([driver.read(0x3a, 2), driver.read(0x1c, 2)], [0, 0]);
    assert.equal([driver.read(0x18, 2), driver.read(0x1a, 2), driver.read(0x20, 4)], [16, NO_VECTOR, 0]);
    driver.notify(0);
    assert.equal(host.bytesAt(q.desc, 0x800), before);
    assert.is(toy.seen.length, 1);
    driver.write(0x16, 2, 1);
    assert.is(driver.read(0x1c, 2), 1, "the other queue stays");
    const again = packed ? new RawPackedRing(host, 5, 0x5_0000) : new RawRing(host, 4, 0x5_0000);
    driver.queue(0, again);
    assert.is(driver.read(0x18, 2), packed ? 5 : 4);
    offer(again, 2);
    driver.notify(0);
    assert.is(toy.seen.length, 2);
    if (again instanceof RawPackedRing) assert.equal(again.slot(0), [2, 1, 0x8082]);
    else assert.equal([again.usedIdx, again.entry(0)], [1, [2, 1]]);
    assert.is(driver.read(0x14, 1), 0x0f);
  }
});

test("VIO-103 a batch that is open when its queue is reset is closed: nothing is notified of it later", () => {
  for (const packed of [false, true]) {
    const { host, toy, driver, q } = withOptions(RING_RESET, packed);
    q.chain(0, [BUFFERS, 1, WRITE]);
    const queue = toy.bus!.queue(0);
    assert.ok(queue.begin());
    toy.chain.clear();
    assert.ok(queue.take(toy.chain));
    queue.push(toy.chain.heads[0]!, 1);
    queue.publish();
    driver.write(0x16, 2, 0);
    driver.write(0x3a, 2, 1);
    driver.queue(0, packed ? new RawPackedRing(host, 4, 0x5_0000) : new RawRing(host, 4, 0x5_0000));
    assert.ok(queue.begin());
    toy.bus!.usedBuffers(queue);
    assert.equal([host.intx, driver.read(0x1000, 1)], [false, 0]);
  }
});

test("a queue that is not enabled is not reset, and only 1 resets", () => {
  const { driver } = withOptions(RING_RESET, false);
  driver.write(0x16, 2, 1);
  driver.write(0x18, 2, 4);
  driver.write(0x3a, 2, 1);
  assert.is(driver.read(0x18, 2), 4);
  driver.write(0x16, 2, 0);
  driver.write(0x3a, 2, 2);
  driver.write(0x3a, 2, 0);
  assert.is(driver.read(0x1c, 2), 1);
});

test("VIO-070 notification data are index, offset and wrap counter; what disagrees with the ring is told, and served", () => {
  const bell = (packed: boolean, data: number): string[] => {
    const { host, toy, driver, q } = withOptions(NOTIFICATION_DATA, packed);
    q.chain(0, [BUFFERS, 1, WRITE]);
    driver.write(0x3000, 4, data);
    assert.is(toy.seen.length, 1);
    return host.reports;
  };
  assert.equal(bell(false, 0x0001_0000), []); // the available index, 1
  assert.equal(bell(false, 0x0001_0001), ["notify-data-index"]);
  assert.equal(bell(false, 0x0011_0000), ["notify-data-offset"]); // 17 chains in a ring of 16
  assert.equal(bell(false, 0xffff_0000), ["notify-data-offset"]);
  assert.equal(bell(true, 0x8001_0000), []); // slot 1 of the first lap
  assert.equal(bell(true, 0x0000_0000), []); // slot 0 of the second
  assert.equal(bell(true, 0x0001_0000), ["notify-data-offset"]); // slot 1 of the second
  assert.equal(bell(true, 0x8010_0000), ["notify-data-offset"]); // no such slot
  assert.equal(bell(true, 0x8001_0002), ["notify-data-index"]);
  const { host: told, driver: wrong } = withOptions(NOTIFICATION_DATA, false);
  wrong.write(0x3000, 4, 0xfeed_0000);
  wrong.write(0x3000, 4, 0x0000_beef);
  assert.equal(told.values, [0xfeed, 0xbeef], "what was written is told");
  // Without the feature nobody looks at them.
  const { host, driver } = withOptions(0, false);
  driver.write(0x3000, 4, 0xffff_ffff);
  assert.equal(host.reports, []);
});

test("VIO-071 with NOTIF_CONFIG_DATA what the queue says is written instead of its index", () => {
  const { host, toy, driver, q } = withOptions(NOTIF_CONFIG_DATA, true);
  q.chain(0, [BUFFERS, 1, WRITE]);
  driver.write(0x16, 2, 0);
  driver.write(0x3000 + 4 * driver.read(0x1e, 2), 2, driver.read(0x38, 2));
  assert.is(toy.seen.length, 1);
  assert.equal(host.reports, []);
});

test("VIO-095 VIO-096 VIO-097 VIO-100 reset brings everything back, from any state and twice", () => {
  for (const state of [0, 1, 3, 0x0b, 0x0f, 0x8f]) {
    const { host, toy, driver, q } = running();
    driver.write(0x16, 2, 0);
    driver.write(0x1a, 2, 1);
    driver.write(0x10, 2, 2);
    for (let i = 0; i < 5; i++) q.offer(0);
    driver.notify(0);
    if (state !== 0x0f) driver.write(0x14, 1, state);
    for (let twice = 0; twice < 2; twice++) {
      driver.write(0x14, 1, 0);
      assert.is(driver.read(0x14, 1), 0);
      driver.write(0x16, 2, 0);
      assert.equal([driver.read(0x18, 2), driver.read(0x1a, 2), driver.read(0x1c, 2)], [16, NO_VECTOR, 0]);
      for (let at = 0x20; at < 0x38; at += 4) assert.is(driver.read(at, 4), 0);
      assert.is(driver.read(0x10, 2), NO_VECTOR);
      for (const select of [0, 1]) {
        driver.write(0x08, 4, select);
        assert.is(driver.read(0x0c, 4), 0);
      }
    }
    // A ring set up again starts at index 0.
    host.put(q.desc, new Uint8Array(0x2000));
    const seen = toy.seen.length;
    driver.negotiate(0, 1);
    driver.queue(0, q);
    driver.driverOk();
    q.describe(1, BUFFERS, 1, WRITE);
    q.offer(1);
    driver.notify(0);
    assert.is(toy.seen.length, seen + 1);
    assert.equal([q.usedIdx, q.entry(0)], [1, [1, 1]]);
  }
});

test("VIO-098 a reset in the middle of work: nothing more is written to the old ring, nothing is signalled", () => {
  const { host, toy, driver, q } = running();
  toy.onChain = () => toy.bus !== null && r.core.reset();
  const r = driver.slot as VirtioPciFunction;
  for (let i = 0; i < 4; i++) q.offer(0);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
  assert.is(q.usedIdx, 0);
  assert.not(host.intx);
  host.work.deferred = true;
  toy.onChain = () => {};
  driver.negotiate(0, 1);
  q.availIdx = 0;
  driver.queue(0, q);
  driver.driverOk();
  q.offer(0);
  driver.notify(0);
  driver.write(0x14, 1, 0);
  host.work.poll();
  assert.is(toy.seen.length, 1, "the mark is gone with the reset");
});

test("VIO-111 VIO-112 status bits hold as written, in one write or several, except NEEDS_RESET", () => {
  const { driver, q } = running();
  driver.write(0x14, 1, 0);
  for (const value of [3, 3, 0x0b, 0x07, 0x06, 0x83]) {
    driver.write(0x14, 1, value);
    if (value === 0x0b) continue; // refused: no VERSION_1
    assert.is(driver.read(0x14, 1), value);
  }
  driver.write(0x14, 1, 0x43);
  assert.is(driver.read(0x14, 1), 3, "only the device sets NEEDS_RESET");
  driver.negotiate(0, 1);
  driver.queue(0, q);
  driver.driverOk();
  q.availIdx = 100;
  driver.notify(0);
  assert.is(driver.read(0x14, 1), 0x4f);
  driver.write(0x14, 1, 0x0f);
  assert.is(driver.read(0x14, 1), 0x4f);
  driver.write(0x14, 1, 0);
  assert.is(driver.read(0x14, 1), 0);
});

test("VIO-113 VIO-115 FEATURES_OK stays for every offered subset, and again after a reset", () => {
  const { driver } = rig();
  for (const round of [0, 1])
    for (const lo of [0, 1, 0x1000_0000, 0x2000_0001, 0x3000_0001])
      assert.is(driver.negotiate(lo, 1), 0x0b, `${lo} in round ${round}`);
});

test("VIO-114 VIO-116 FEATURES_OK is refused when a bit was not offered, and the bit does nothing", () => {
  for (const [lo, hi] of [
    [2, 1],
    [0x4000_0000, 1],
    [0x8000_0000, 1],
    [0, 0x8000_0001],
    [0, 3],
    [0x20, 1], // bit 5 is for legacy drivers
  ] as const) {
    const { toy, driver, host } = rig();
    assert.is(driver.negotiate(lo, hi), 3);
    assert.equal(host.reports, ["features-refused"]);
    driver.driverOk();
    assert.equal([toy.accepted.lo, toy.accepted.hi], [0, 1]);
    assert.is(driver.negotiate(0, 1), 0x0b, "after a reset a proper set is taken");
  }
  const { driver } = rig();
  driver.write(0x14, 1, 3);
  driver.write(0x08, 4, 1);
  driver.write(0x0c, 4, 1);
  driver.write(0x08, 4, 2);
  driver.write(0x0c, 4, 1);
  driver.write(0x14, 1, 0x0b);
  assert.is(driver.read(0x14, 1), 3, "bit 64");
});

test("VIO-117 features do not change after FEATURES_OK", () => {
  const { driver, toy } = rig();
  driver.negotiate(0x1000_0000, 1);
  driver.write(0x08, 4, 0);
  driver.write(0x0c, 4, 0x2000_0001);
  assert.is(driver.read(0x0c, 4), 0x1000_0000);
  assert.is(toy.accepted.lo, 0x1000_0000);
});

test("VIO-124 a modern device refuses to go without VERSION_1, a transitional one does not", () => {
  assert.is(rig().driver.negotiate(1, 0), 3);
  assert.is(rig({ personality: "transitional" }).driver.negotiate(1, 0), 0x0b);
});

test("VIO-125 what was made available before DRIVER_OK is served without another notification", () => {
  const { host, toy, driver } = rig();
  driver.negotiate(0, 1);
  const q = new RawRing(host, 16, 0x1_0000);
  q.describe(0, BUFFERS, 1, WRITE);
  driver.queue(0, q);
  q.offer(0);
  driver.notify(0);
  assert.is(toy.seen.length, 0);
  assert.is(q.usedIdx, 0);
  driver.driverOk();
  assert.is(toy.starts, 1);
  assert.is(toy.seen.length, 1);
});

test("VIO-063 nothing is used and nothing is notified before DRIVER_OK, but for the control queue", () => {
  const { host, toy, driver } = rig();
  driver.negotiate(0, 1);
  const q = new RawRing(host, 16, 0x1_0000);
  const control = new RawRing(host, 4, 0x2_0000);
  q.describe(0, BUFFERS, 1, WRITE);
  control.describe(0, BUFFERS + 16, 1, WRITE);
  driver.queue(0, q);
  driver.queue(2, control);
  q.offer(0);
  driver.notify(0);
  assert.not(host.intx);
  assert.is(host.byte(BUFFERS), 0);
  control.offer(0);
  driver.notify(2);
  assert.is(control.usedIdx, 1);
  assert.is(toy.seen.length, 1);
});

test("VIO-129 FAILED stops the device and nothing else happens", () => {
  const { host, toy, driver, q } = running();
  driver.write(0x14, 1, 0x8f);
  q.offer(0);
  driver.notify(0);
  toy.bus?.configChanged(true);
  assert.is(toy.seen.length, 0);
  assert.not(host.intx);
  assert.is(driver.read(0x14, 1), 0x8f);
});

test("VIO-127 a legacy driver sees no NEEDS_RESET; the device freezes until reset", () => {
  const { host, toy, driver, q } = legacy();
  driver.legacyWrite(0x12, 1, 3);
  driver.legacyQueue(0, q);
  driver.legacyWrite(0x12, 1, 7);
  q.availIdx = 50;
  driver.legacyWrite(0x10, 2, 0);
  assert.is(driver.legacyRead(0x12, 1), 7);
  assert.equal(host.reports, ["avail-idx-jump"]);
  assert.not(host.intx);
  q.availIdx = 1;
  driver.legacyWrite(0x10, 2, 0);
  assert.is(toy.seen.length, 0);
  driver.legacyWrite(0x12, 1, 0);
  driver.legacyWrite(0x12, 1, 3);
  driver.legacyQueue(0, q);
  driver.legacyWrite(0x12, 1, 7);
  assert.is(toy.seen.length, 1);
});

test("VIO-110 VIO-194 clearing Bus Master stops DMA and leaves the ring as it is; a BAR is no memory", () => {
  const { host, slot, toy, driver, q } = running();
  slot.configWrite(0x04, 2, 0x0003);
  q.offer(0);
  driver.notify(0);
  assert.is(toy.seen.length, 0);
  assert.is(driver.read(0x14, 1), 0x0f);
  slot.configWrite(0x04, 2, 0x0007);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
  slot.configWrite(0x20, 4, 0xe000_0000);
  q.describe(1, 0xe000_0000, 4, WRITE);
  q.offer(1);
  driver.notify(0);
  assert.is(driver.read(0x14, 1), 0x4f);
  assert.equal(host.reports, ["buffer-outside-memory"]);
});

test("VIO-126 VIO-128 a device type that fails is not served any more, whatever its rings say, and tells it once", () => {
  for (const modern of [true, false]) {
    const r = modern ? running() : legacy();
    const { host, driver, toy, q } = r;
    const kick = () => (modern ? driver.notify(0) : driver.legacyWrite(0x10, 2, 0));
    if (!modern) {
      driver.legacyWrite(0x12, 1, 3);
      driver.legacyQueue(0, q);
      driver.legacyWrite(0x12, 1, 7);
    }
    toy.bus?.fail("toy-is-broken", 7);
    toy.bus?.fail("toy-is-broken-again", 8);
    assert.equal([host.reports, host.values], [["toy-is-broken"], [7]]);
    assert.not(toy.bus?.running);
    q.offer(0);
    kick();
    toy.bus?.request(0);
    assert.equal([toy.seen.length, q.usedIdx, host.rises], [0, 0, modern ? 1 : 0]);
    if (modern) assert.equal([driver.read(0x14, 1), driver.read(0x1000, 1)], [0x4f, 2]);
    else assert.is(driver.legacyRead(0x12, 1), 7);
  }
});

test("a device type has its queues worked when it asks for it, once the driver is ready", () => {
  const { driver, toy, q } = running();
  q.offer(0);
  toy.bus?.request(0);
  assert.is(toy.seen.length, 1);
  driver.write(0x14, 1, 0);
  q.availIdx = 0;
  driver.negotiate(0, 1);
  driver.queue(0, q);
  q.offer(0);
  toy.bus?.request(0);
  assert.is(toy.seen.length, 1, "not before DRIVER_OK");
  driver.driverOk();
  assert.is(toy.seen.length, 2);
});

test("what a driver must not do is told once, and otherwise has no effect", () => {
  const { host, driver } = rig();
  driver.write(0x18, 2, 3);
  driver.write(0x1c, 2, 0);
  driver.queue(0, new RawRing(host, 16, 0x1_0000));
  driver.write(0x20, 4, 0x2_0000);
  driver.write(0x20, 4, 0x3_0000);
  driver.write(0x08, 4, 1);
  driver.write(0x0c, 4, 1);
  driver.notify(0);
  driver.write(0x14, 1, 7);
  driver.write(0x14, 1, 3);
  assert.equal(host.reports, [
    "queue-size-refused",
    "queue-enable-not-one",
    "queue-changed-while-enabled",
    "notify-before-driver-ok",
    "driver-ok-without-features-ok",
    "status-bits-cleared",
  ]);
});

test.run();
