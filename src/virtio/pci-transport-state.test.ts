import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { StateError } from "../bytes/index.js";
import type { AccessWidth } from "../contract/index.js";
import { rig, running } from "./pci-transport-testing.js";
import { type RawDriver, RawRing } from "./testing.js";

// ------------------------------------------------------------------------------------------------ state and hostility

test("a run cut after any access and resumed from a snapshot goes on identically", () => {
  const program = (driver: RawDriver, q: RawRing): (() => unknown)[] => [
    () => driver.negotiate(0x2000_0000, 1),
    () => driver.queue(0, q),
    () => driver.write(0x16, 2, 0),
    () => driver.write(0x1a, 2, 1),
    () => driver.driverOk(),
    () => q.offer(0),
    () => driver.notify(0),
    () => driver.read(0x15, 1),
    () => driver.read(0x2000, 4),
    () => driver.read(0x15, 1),
    () => driver.read(0x1000, 1),
    () => (q.usedEvent = 2),
    () => q.offer(0),
    () => driver.notify(0),
    () => q.offer(0),
    () => driver.notify(0),
    () => driver.read(0x1000, 1),
    () => q.offer(77),
    () => driver.notify(0),
    () => driver.read(0x14, 1),
    () => driver.read(0x1000, 1),
  ];
  const play = (cut: number) => {
    let r = running();
    r.driver.write(0x14, 1, 0);
    const results: unknown[] = [];
    for (let i = 0; i < 21; i++) {
      if (i === cut) {
        const saved = structuredClone(r.slot.save());
        const ram = Uint8Array.from(r.host.memory.windows[0]!.bytes);
        const intx = r.host.intx;
        r = running();
        r.host.memory.windows[0]!.bytes.set(ram);
        r.slot.load(saved);
        assert.is(r.host.intx, intx);
        assert.equal(r.slot.save(), saved);
      }
      results.push(program(r.driver, r.q)[i]?.(), r.host.intx, r.q.usedIdx, r.q.usedFlags, r.q.availEvent);
    }
    return results;
  };
  const whole = play(-1);
  for (let cut = 0; cut < 21; cut++) assert.equal(play(cut), whole, `cut before step ${cut}`);
});

test("VIO-114 VIO-116 what was written although nobody offered it is kept in a snapshot: FEATURES_OK is refused after it, too", () => {
  for (const [select, word] of [
    [0, 0x4000_0000],
    [1, 0x8000_0000],
    [2, 1],
  ] as const) {
    const r = rig();
    r.driver.write(0x14, 1, 3);
    r.driver.write(0x08, 4, 1);
    r.driver.write(0x0c, 4, 1);
    r.driver.write(0x08, 4, select);
    r.driver.write(0x0c, 4, word + (select === 1 ? 1 : 0));
    const fresh = rig();
    fresh.slot.load(structuredClone(r.slot.save()));
    for (const { driver, host } of [r, fresh]) {
      driver.write(0x14, 1, 0x0b);
      assert.is(driver.read(0x14, 1), 3, `word ${select}`);
      assert.equal(host.reports, ["features-refused"]);
    }
  }
});

test("registers that hold all ones are a state like any other", () => {
  const { slot, driver } = rig();
  driver.write(0x00, 4, 0xffff_ffff);
  driver.write(0x08, 4, 0xffff_ffff);
  driver.write(0x16, 2, 1);
  for (let at = 0x20; at < 0x38; at += 4) driver.write(at, 4, 0xffff_ffff);
  driver.write(0x16, 2, 0xffff);
  driver.write(0x14, 1, 0xff);
  const saved = structuredClone(slot.save());
  const fresh = rig();
  fresh.slot.load(saved);
  assert.equal(fresh.slot.save(), saved);
  fresh.driver.write(0x16, 2, 1);
  for (let at = 0x20; at < 0x38; at += 4) assert.is(fresh.driver.read(at, 4), 0xffff_ffff);
});

test("VIO-113 a driver that finds the device fresh from power-on need not reset it first", () => {
  const { driver } = rig();
  driver.write(0x14, 1, 3);
  driver.write(0x08, 4, 1);
  driver.write(0x0c, 4, 1);
  driver.write(0x14, 1, 0x0b);
  assert.is(driver.read(0x14, 1), 0x0b);
});

test("all bits may have been asked for that were not offered", () => {
  const { slot } = rig();
  const saved = structuredClone(slot.save()) as { model: { core: Record<string, unknown> } };
  saved.model.core.unoffered = [0xffff_ffff, 0xffff_ffff];
  slot.load(saved);
  assert.equal(slot.save(), saved);
});

test("a full ring is a state like any other: as many in flight, or unpublished, as it has descriptors", () => {
  const { slot, q, toy } = running();
  for (let i = 0; i < 16; i++) q.offer(0);
  const queue = toy.bus!.queue(0);
  assert.ok(queue.begin());
  toy.chain.clear();
  for (let i = 0; i < 16; i++) assert.ok(queue.take(toy.chain));
  const inFlight = structuredClone(slot.save());
  for (let i = 0; i < 16; i++) queue.push(0, 1);
  const unpublished = structuredClone(slot.save());
  for (const saved of [inFlight, unpublished]) {
    const fresh = running();
    fresh.slot.load(saved);
    assert.equal(fresh.slot.save(), saved);
  }
});

/** The least number that each field of a state cannot hold. */
const FIRST_BEYOND = {
  core: {
    status: 0x100,
    queueSelect: 0x1_0000,
    deviceFeatureSelect: 2 ** 32,
    driverFeatureSelect: 2 ** 32,
    configVector: 0x1_0000,
    isr: 4,
    generation: 0x100,
  },
  queue: {
    size: 17,
    vector: 0x1_0000,
    lastAvail: 0x1_0000,
    usedIdx: 0x1_0000,
    published: 0x1_0000,
    signalled: 0x1_0000,
  },
} as const;

test("a crafted snapshot is refused and changes nothing", () => {
  const { slot, driver, q } = running();
  q.offer(0);
  driver.notify(0);
  const good = slot.save();
  const crafted = (change: (core: Record<string, unknown>, queue: Record<string, unknown>) => void): void => {
    const bad = structuredClone(good) as { model: { core: Record<string, unknown> } };
    const { core } = bad.model;
    change(core, (core.queues as Record<string, unknown>[])[0]!);
    assert.throws(
      () => slot.load(bad),
      (error: unknown) => error instanceof StateError,
    );
    assert.equal(slot.save(), good);
  };
  crafted((_, queue) => (queue.size = 3));
  crafted((_, queue) => (queue.size = 32));
  crafted((_, queue) => (queue.size = 0));
  crafted((_, queue) => (queue.lastAvail = 0x1_0000));
  crafted((_, queue) => (queue.lastAvail = 500));
  crafted((_, queue) => (queue.usedIdx = -1));
  crafted((_, queue) => (queue.published = 40));
  crafted((_, queue) => (queue.broken = "no such thing"));
  crafted((_, queue) => (queue.areas = [0, 0, 0, 0, 0]));
  crafted((core) => (core.accepted = [0x4000_0000, 1]));
  crafted((core) => (core.offered = [0, 1]));
  crafted((core) => (core.sizes = [16, 16, 8]));
  for (const [name, beyond] of Object.entries(FIRST_BEYOND.core)) {
    crafted((core) => (core[name] = beyond));
    crafted((core) => (core[name] = -1));
  }
  for (const [name, beyond] of Object.entries(FIRST_BEYOND.queue)) {
    crafted((_, queue) => (queue[name] = beyond));
    crafted((_, queue) => (queue[name] = -1));
  }
  for (const name of ["accepted", "unoffered", "offered"])
    for (const words of [[0], [0, 1, 0], [2 ** 32, 0], [0, 2 ** 32], [-1, 0]]) crafted((core) => (core[name] = words));
  for (const areas of [[2 ** 32, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, -1]]) crafted((_, queue) => (queue.areas = areas)); // biome-ignore format: words
  crafted((core) => (core.queues = []));
  crafted((core) => (core.version = 2));
  crafted((core) => (core.device = { version: 1, config: new Uint8Array(5) }));
  assert.throws(
    () => rig({ personality: "transitional" }).slot.load(good),
    (error: unknown) => error instanceof StateError,
  );
});

test("an unplugged function lets go of memory and can be plugged in again", () => {
  const { host, slot, toy, driver, q } = running();
  slot.disconnect();
  assert.is(toy.bus, null, "its device type knows");
  q.offer(0);
  driver.notify(0);
  assert.is(toy.seen.length, 0);
  slot.connect(host);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
});

test("VIO-132 random accesses never throw and never touch anything outside guest memory", () => {
  const width = fc.constantFrom<AccessWidth>(1, 2, 4);
  const value = fc.oneof(fc.nat(0x20), fc.integer({ min: 0, max: 0xffff_ffff }));
  const access = fc.oneof(
    fc.record({ to: fc.constant("bar4"), at: fc.nat(0x47), width, value }),
    fc.record({
      to: fc.constant("bar4"),
      at: fc.constantFrom(0x1000, 0x2000, 0x2006, 0x3000, 0x3004, 0x3fff),
      width,
      value,
    }),
    fc.record({ to: fc.constant("bar0"), at: fc.nat(0x1f), width, value }),
    fc.record({ to: fc.constant("bar1"), at: fc.nat(0xfff), width, value }),
    fc.record({ to: fc.constant("config"), at: fc.nat(0xff), width, value }),
    fc.record({ to: fc.constant("ram"), at: fc.nat(0x3fff), width, value }),
    fc.record({ to: fc.constant("status"), at: fc.constant(0x14), width, value: fc.constantFrom(0, 3, 0x0b, 0x0f) }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(access, fc.boolean()), { minLength: 1, maxLength: 60 }), (accesses) => {
      const { host, slot, driver } = rig({ personality: "transitional", legacyBusMaster: true });
      driver.queue(0, new RawRing(host, 16, 0x1000, 0x1100, 0x2000));
      for (const [{ to, at, width, value }, write] of accesses) {
        if (to === "ram") host.set(at, width, value % 2 ** (8 * width));
        else if (to === "config") write ? slot.configWrite(at, width, value) : slot.configRead(at, width);
        else {
          const bar = to === "bar0" ? 0 : to === "bar1" ? 1 : 4;
          if (write || to === "status") slot.barWrite(bar, at, width, value);
          else {
            const got = slot.barRead(bar, at, width);
            assert.ok(Number.isInteger(got) && got >= 0 && got < 2 ** (8 * width), `read ${got}`);
          }
        }
      }
      assert.ok(host.guardsIntact());
      driver.write(0x14, 1, 0);
      slot.configWrite(0x04, 2, 7);
      assert.is(driver.negotiate(0, 1), 0x0b, "a reset always recovers");
    }),
    { numRuns: 300 },
  );
});

test.run();
