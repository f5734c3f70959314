import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../bytes/index.js";
import type { AccessWidth } from "../contract/index.js";
import { defineRegisters } from "../regs/index.js";
import { VirtioPciFunction, type VirtioPciOptions } from "./pci-transport.js";
import { RawDriver, RawPackedRing, RawRing, TestHost, ToyDevice } from "./testing.js";

const NO_VECTOR = 0xffff;
const WRITE = 2;
const BUFFERS = 0x8_0000;

const rig = (options: VirtioPciOptions = { personality: "modern" }, sizes: readonly number[] = [16, 16, 4]) => {
  const host = new TestHost();
  const toy = new ToyDevice(sizes);
  const slot = new VirtioPciFunction(toy, options);
  const driver = new RawDriver(slot, host);
  return { host, toy, slot, driver };
};

/** A modern device with queue 0 running, its chain 0 one writable byte. */
const running = (features = 0) => {
  const r = rig();
  r.driver.negotiate(features, 1);
  const q = new RawRing(r.host, 16, 0x1_0000);
  q.describe(0, BUFFERS, 1, WRITE);
  r.driver.queue(0, q);
  r.driver.driverOk();
  return { ...r, q };
};

/** A legacy device with a ring of 16 at 0x10000. */
const legacy = (options: VirtioPciOptions = { personality: "legacy" }) => {
  const r = rig(options);
  const q = new RawRing(r.host, 16, 0x1_0000, 0x1_0100, 0x1_1000);
  q.describe(0, BUFFERS, 1, WRITE);
  return { ...r, q };
};

/** Programs and enables MSI-X: entry i sends 0x100 + i to 0xFEE00000 + 4·i. */
const enableMsix = ({ slot }: ReturnType<typeof rig>, cap: number, vectors: number): void => {
  for (let i = 0; i < vectors; i++) {
    slot.barWrite(1, 16 * i, 4, 0xfee0_0000 + 4 * i);
    slot.barWrite(1, 16 * i + 8, 4, 0x100 + i);
    slot.barWrite(1, 16 * i + 12, 4, 0);
  }
  slot.configWrite(cap + 2, 2, 0x8000);
};

// ------------------------------------------------------------------------------------------------ identity and capabilities

test("VIO-001 VIO-002 VIO-004 VIO-006 a transitional entropy source says who it is", () => {
  for (const [id, pci] of [
    [4, 0x1005],
    [2, 0x1001],
    [3, 0x1003],
    [8, 0x1004],
    [9, 0x1009],
    [1, 0x1000],
  ] as const) {
    const slot = new VirtioPciFunction(new ToyDevice([16, 16, 4], id));
    assert.is(slot.configRead(0x00, 4), pci * 0x1_0000 + 0x1af4);
    assert.is(slot.configRead(0x08, 1), 0);
    assert.is(slot.configRead(0x2c, 4), id * 0x1_0000 + 0x1af4);
  }
});

test("VIO-003 VIO-005 VIO-007 a modern device says who it is", () => {
  const slot = new VirtioPciFunction(new ToyDevice([16, 16, 4], 26), { personality: "modern" });
  assert.is(slot.configRead(0x00, 4), 0x105a_1af4);
  assert.is(slot.configRead(0x08, 1), 1);
  assert.ok(slot.configRead(0x2e, 2) >= 0x40);
});

const capabilities = (slot: VirtioPciFunction): { at: number; id: number; bytes: number[] }[] => {
  const found: { at: number; id: number; bytes: number[] }[] = [];
  for (let at = slot.configRead(0x34, 1); at !== 0; at = slot.configRead(at + 1, 1)) {
    assert.ok(found.length < 48, "the list ends");
    found.push({
      at,
      id: slot.configRead(at, 1),
      bytes: Array.from({ length: 20 }, (_, i) => slot.configRead(at + i, 1)),
    });
  }
  return found;
};

test("VIO-010 VIO-011 VIO-012 VIO-013 VIO-014 VIO-022 one capability of each type, each with its length", () => {
  for (const personality of ["transitional", "modern"] as const) {
    const { slot } = rig({ personality });
    assert.is(slot.configRead(0x06, 1) & 0x10, 0x10);
    const list = capabilities(slot);
    assert.is(new Set(list.map(({ at }) => at)).size, list.length);
    const virtio = list.filter(({ id }) => id === 9);
    assert.equal(virtio.map(({ bytes }) => bytes[3]).sort(), [1, 2, 3, 4, 5]);
    for (const { bytes } of virtio) {
      assert.is(bytes[2], bytes[3] === 2 || bytes[3] === 5 ? 20 : 16);
      assert.equal(bytes.slice(5, 8), [0, 0, 0]);
    }
  }
});

test("VIO-015 VIO-017 VIO-018 VIO-019 VIO-020 VIO-021 structures lie where they may, and are long enough", () => {
  const { slot, driver } = rig();
  const at = new Map(capabilities(slot).map(({ bytes }) => [bytes[3], bytes]));
  const le32 = (type: number, offset: number): number =>
    at
      .get(type)!
      .slice(offset, offset + 4)
      .reduceRight((value, byte) => value * 256 + byte, 0);
  assert.is(le32(1, 8) % 4, 0);
  assert.ok(le32(1, 12) >= 56);
  assert.is(le32(2, 8) % 4, 0);
  assert.is(le32(2, 16), 4);
  for (const queue of [0, 1, 2]) {
    driver.write(0x16, 2, queue);
    assert.ok(le32(2, 12) >= driver.read(0x1e, 2) * 4 + 4);
  }
  assert.ok(le32(3, 12) >= 1);
  assert.is(le32(4, 8) % 4, 0);
  assert.ok(le32(4, 12) >= 6);
});

test("VIO-016 VIO-018 the common structure is long enough for what options add, and administration queues are not offered", () => {
  for (const personality of ["transitional", "modern"] as const) {
    const options = { packed: true, ringReset: true, notificationData: true, notifConfigData: true } as const;
    const { slot, driver } = rig({ personality, ...options });
    const common = capabilities(slot).find(({ id, bytes }) => id === 9 && bytes[3] === 1)?.bytes ?? [];
    const notify = capabilities(slot).find(({ id, bytes }) => id === 9 && bytes[3] === 2)?.bytes ?? [];
    driver.write(0x00, 4, 1);
    const offered = driver.read(0x04, 4);
    assert.is(offered & 0x1c0, 0x1c0, "bits 38, 39 and 40");
    assert.is(offered & 0x200, 0, "bit 41, which would need 64 bytes");
    const length = common.slice(12, 16).reduceRight((value, byte) => value * 256 + byte, 0);
    assert.ok(length >= 60, `${length}`);
    assert.equal([notify[8]! % 4, notify[16]! % 4], [0, 0]);
    // The two fields at its end are there.
    driver.write(0x16, 2, 1);
    assert.equal([driver.read(0x38, 2), driver.read(0x3a, 2)], [1, 0]);
  }
});

test("VIO-023 nothing behind a virtio capability looks like one", () => {
  for (const personality of ["transitional", "modern"] as const) {
    const list = capabilities(rig({ personality }).slot);
    const first = list.findIndex(({ id }) => id === 9);
    for (const { id, bytes } of list.slice(first)) assert.ok(id === 9 || (bytes[3] ?? 0) > 5 || bytes[3] === 0);
  }
});

test("VIO-162 a legacy device shows no virtio capability", () => {
  assert.equal(
    capabilities(rig({ personality: "legacy" }).slot).map(({ id }) => id),
    [0x11],
  );
  assert.equal(capabilities(rig({ personality: "legacy", vectors: 0 }).slot), []);
});

test("VIO-053 options that cannot be are refused before anything is built", () => {
  const refuses = (code: string, make: () => unknown) =>
    assert.throws(make, (error: unknown) => error instanceof ConfigError && error.code === code);
  for (const vectors of [1, -1, 2.5, 0x801])
    refuses("virtio-vectors", () => new VirtioPciFunction(new ToyDevice(), { vectors }));
  for (const size of [0, 3, 0x1_0000, 1.5])
    refuses("virtio-queue-size", () => new VirtioPciFunction(new ToyDevice([size, 16, 4])));
  refuses("virtio-personality", () => new VirtioPciFunction(new ToyDevice([16, 16, 4], 26)));
  for (const vectors of [0, 2, 0x800]) new VirtioPciFunction(new ToyDevice(), { vectors });
});

// ------------------------------------------------------------------------------------------------ window in configuration space

const WINDOW = 0x84;
const aim = (slot: VirtioPciFunction, bar: number, offset: number, length: number): void => {
  slot.configWrite(WINDOW + 4, 1, bar);
  slot.configWrite(WINDOW + 8, 4, offset);
  slot.configWrite(WINDOW + 12, 4, length);
};

test("VIO-031 bar, offset, length and data of the window can be written, nothing else", () => {
  const { slot } = rig();
  const before = Array.from({ length: 20 }, (_, i) => slot.configRead(WINDOW + i, 1));
  for (let i = 0; i < 20; i += 4) slot.configWrite(WINDOW + i, 4, 0xffff_ffff);
  const after = Array.from({ length: 20 }, (_, i) => slot.configRead(WINDOW + i, 1));
  for (let i = 0; i < 20; i++) assert.is(after[i], i === 4 || i >= 8 ? 0xff : before[i], `byte ${i}`);
});

test("VIO-032 VIO-033 VIO-034 the window reads and writes with 1, 2 and 4 bytes while decoding is off", () => {
  const { slot, driver } = rig();
  slot.configWrite(0x04, 2, 0);
  assert.is(slot.barBase(4), -1);
  aim(slot, 4, 0x00, 4);
  slot.configWrite(WINDOW + 16, 4, 1); // device_feature_select
  aim(slot, 4, 0x04, 4);
  assert.is(slot.configRead(WINDOW + 16, 4), 1, "VERSION_1");
  aim(slot, 4, 0x12, 2);
  assert.is(slot.configRead(WINDOW + 16, 2), 3);
  aim(slot, 4, 0x16, 2);
  slot.configWrite(WINDOW + 16, 4, 0xabcd_0002);
  assert.is(driver.read(0x16, 2), 2);
  assert.is(driver.read(0x18, 2), 4, "only queue_select was written");
  aim(slot, 4, 0x14, 1);
  slot.configWrite(WINDOW + 16, 1, 3);
  assert.is(driver.read(0x14, 1), 3);
  assert.is(slot.configRead(WINDOW + 16, 1), 3);
});

test("VIO-035 VIO-036 windows of other lengths, or beyond the structures, have no effect", () => {
  const { slot, driver } = rig();
  for (const [bar, offset, length] of [
    [4, 0x14, 0],
    [4, 0x14, 3],
    [4, 0x14, 5],
    [4, 0x10, 8],
    [4, 0x14, 0x101],
    [4, 0x13, 2],
    [4, 0x4000, 1],
    [4, 0xffff_fffc, 4],
    [4, 0x3ffd, 4],
    [3, 0x14, 1],
    [1, 0x00, 4],
    [0, 0x12, 1],
    [6, 0x14, 1],
    [0xff, 0x14, 1],
  ] as const) {
    aim(slot, bar, offset, length);
    slot.configWrite(WINDOW + 16, 4, 0x0101_0101);
    assert.is(slot.configRead(WINDOW + 16, 4), 0x0101_0101, "the data stay as they were written");
    assert.is(driver.read(0x14, 1), 0);
  }
});

test("VIO-037 VIO-038 VIO-039 the window kicks and clears the ISR, by accesses of any width", () => {
  for (const width of [1, 2, 4] as const) {
    const { host, slot, driver, toy, q } = running();
    q.offer(0);
    aim(slot, 4, 0x3000, width);
    slot.configWrite(WINDOW + 16, width, 0);
    assert.is(toy.seen.length, 1);
    assert.ok(host.intx);
    aim(slot, 4, 0x1000, 1);
    assert.is(slot.configRead(WINDOW + 16, width) & 0xff, 1);
    assert.not(host.intx);
    assert.is(driver.read(0x1000, 1), 0);
  }
});

test("only the data field of the window triggers", () => {
  const { host, slot, driver, q, toy } = running();
  q.offer(0);
  driver.notify(0);
  aim(slot, 4, 0x1000, 1);
  for (let at = WINDOW; at < WINDOW + 16; at++) slot.configRead(at, 1);
  assert.ok(host.intx);
  q.offer(0);
  aim(slot, 4, 0x3000, 2);
  slot.configWrite(WINDOW + 4, 1, 4);
  assert.is(toy.seen.length, 1);
});

test("VIO-036 queue_enable of a missing queue through the window touches nothing", () => {
  const { slot, driver } = rig();
  aim(slot, 4, 0x16, 2);
  slot.configWrite(WINDOW + 16, 2, 0x1ff);
  aim(slot, 4, 0x1c, 2);
  slot.configWrite(WINDOW + 16, 2, 1);
  assert.is(slot.configRead(WINDOW + 16, 2), 0);
  driver.write(0x16, 2, 0);
  assert.is(driver.read(0x1c, 2), 0);
});

// ------------------------------------------------------------------------------------------------ interrupts

test("VIO-055 VIO-056 VIO-057 VIO-059 VIO-061 used buffers set bit 0 and INTx, and a read takes both back", () => {
  const { host, slot, driver, q } = running();
  assert.not(host.intx);
  assert.is(driver.read(0x1000, 1), 0);
  q.offer(0);
  driver.notify(0);
  assert.ok(host.intx);
  assert.is(slot.configRead(0x06, 2) & 8, 8);
  assert.is(driver.read(0x1000, 1), 1);
  assert.not(host.intx);
  assert.is(slot.configRead(0x06, 2) & 8, 0);
  assert.is(driver.read(0x1000, 1), 0);
  driver.notify(0);
  assert.not(host.intx, "nothing used, nothing to say");
});

test("VIO-055 a wide read that covers the ISR clears it, one beside it does not", () => {
  for (const width of [1, 2, 4] as const) {
    const { host, driver, q } = running();
    q.offer(0);
    driver.notify(0);
    assert.is(driver.read(0x1004, width), 0);
    assert.ok(host.intx);
    assert.is(driver.read(0x1000, width), 1);
    assert.not(host.intx);
  }
});

test("VIO-060 Interrupt Disable holds INTx back, not the ISR", () => {
  const { host, slot, driver, q } = running();
  slot.configWrite(0x04, 2, 0x0407);
  q.offer(0);
  driver.notify(0);
  assert.not(host.intx);
  assert.is(slot.configRead(0x06, 2) & 8, 8);
  slot.configWrite(0x04, 2, 0x0007);
  assert.ok(host.intx);
  assert.is(driver.read(0x1000, 1), 1);
});

test("VIO-062 reset clears the ISR and takes INTx back", () => {
  const { host, slot, driver, q } = running();
  q.offer(0);
  driver.notify(0);
  driver.write(0x14, 1, 0);
  assert.not(host.intx);
  assert.is(driver.read(0x1000, 1), 0);
  assert.is(slot.configRead(0x06, 2) & 8, 0);
});

test("VIO-058 VIO-064 a configuration change sets bit 1 and notifies, but not before DRIVER_OK", () => {
  const { host, driver, toy } = rig();
  driver.negotiate(0, 1);
  toy.bus?.configChanged(true);
  assert.not(host.intx);
  assert.is(driver.read(0x1000, 1), 0);
  driver.driverOk();
  toy.bus?.configChanged(true);
  assert.ok(host.intx);
  assert.is(driver.read(0x1000, 1), 2);
  assert.not(host.intx);
});

test("VIO-047 VIO-048 VIO-049 vectors read NO_VECTOR after reset, what was written, or NO_VECTOR when there is none", () => {
  const { driver } = rig(); // 4 vectors
  for (const at of [0x10, 0x1a]) {
    assert.is(driver.read(at, 2), NO_VECTOR);
    for (const [written, kept] of [
      [0, 0],
      [3, 3],
      [4, NO_VECTOR],
      [2, 2],
      [0x7fff, NO_VECTOR],
      [1, 1],
      [NO_VECTOR, NO_VECTOR],
      [3, 3],
    ] as const) {
      driver.write(at, 2, written);
      assert.is(driver.read(at, 2), kept);
    }
  }
  driver.write(0x14, 1, 0);
  assert.is(driver.read(0x10, 2), NO_VECTOR);
  assert.is(driver.read(0x1a, 2), NO_VECTOR);
});

test("VIO-050 VIO-051 VIO-052 VIO-054 messages go by the vectors as they are, INTx stays down", () => {
  const r = running();
  const { host, driver, toy, q } = r;
  enableMsix(r, 0x98, 4);
  const kick = () => {
    q.offer(0);
    driver.notify(0);
    return host.messages.splice(0);
  };
  assert.equal(kick(), [], "no vector, no message");
  assert.not(host.intx);
  driver.write(0x16, 2, 0);
  driver.write(0x1a, 2, 2);
  assert.equal(kick(), [{ vector: 2, address: 0xfee0_0008, data: 0x102 }]);
  driver.write(0x1a, 2, 1);
  driver.write(0x10, 2, 1);
  assert.equal(kick(), [{ vector: 1, address: 0xfee0_0004, data: 0x101 }]);
  toy.bus?.configChanged(true);
  assert.equal(host.messages.splice(0), [{ vector: 1, address: 0xfee0_0004, data: 0x101 }]);
  assert.not(host.intx);
  assert.is(driver.read(0x1000, 1), 3, "the ISR is kept all the same");
});

test("VIO-045 VIO-046 a masked vector waits in the pending bits and is sent once", () => {
  const r = running();
  const { host, slot, driver, q } = r;
  enableMsix(r, 0x98, 4);
  driver.write(0x1a, 2, 2);
  slot.barWrite(1, 2 * 16 + 12, 4, 1);
  for (let i = 0; i < 3; i++) {
    q.offer(0);
    driver.notify(0);
  }
  assert.equal(host.messages, []);
  assert.is(slot.barRead(1, 0x800, 4), 4);
  slot.barWrite(1, 2 * 16 + 12, 4, 0);
  assert.is(host.messages.length, 1);
  assert.is(slot.barRead(1, 0x800, 4), 0);
  slot.configWrite(0x9a, 2, 0xc000);
  q.offer(0);
  driver.notify(0);
  assert.is(host.messages.length, 1);
  slot.configWrite(0x9a, 2, 0x8000);
  assert.is(host.messages.length, 2);
});

test("VIO-040 VIO-041 VIO-042 VIO-043 VIO-044 MSI-X is laid out as QEMU's, and its edges hold", () => {
  const { slot } = rig();
  assert.equal([slot.configRead(0x9a, 2), slot.configRead(0x9c, 4), slot.configRead(0xa0, 4)], [3, 1, 0x801]);
  slot.configWrite(0x9a, 2, 0xffff);
  assert.is(slot.configRead(0x9a, 2), 0xc003);
  for (let i = 0; i < 4; i++) assert.is(slot.barRead(1, 16 * i + 12, 4), 1);
  assert.is(slot.barRead(1, 0x800, 4), 0);
  slot.barWrite(1, 0x800, 4, 0xffff_ffff);
  assert.is(slot.barRead(1, 0x800, 4), 0);
  for (const at of [0x40, 0x7fc, 0x808, 0xffc]) {
    slot.barWrite(1, at, 4, 0xffff_ffff);
    assert.is(slot.barRead(1, at, 4), 0);
  }
});

test("VIO-101 MSI-X survives a virtio reset", () => {
  const r = running();
  const { slot, driver } = r;
  enableMsix(r, 0x98, 4);
  driver.write(0x14, 1, 0);
  assert.is(slot.configRead(0x9a, 2), 0x8003);
  assert.is(slot.barRead(1, 16, 4), 0xfee0_0004);
});

test("a device without MSI-X has no vectors", () => {
  const { slot, driver } = rig({ personality: "modern", vectors: 0 });
  assert.is(slot.configRead(0x34, 1), 0x84);
  driver.write(0x10, 2, 0);
  assert.is(driver.read(0x10, 2), NO_VECTOR);
  assert.equal(
    slot.bars.map(({ index }) => index),
    [4],
  );
});

// ------------------------------------------------------------------------------------------------ doorbells

test("VIO-065 VIO-066 VIO-072 doorbells: offset by index, any width, and they read 0", () => {
  const { toy, driver, q } = running();
  for (const queue of [0, 1, 2]) {
    driver.write(0x16, 2, queue);
    assert.is(driver.read(0x1e, 2), queue);
  }
  for (const width of [1, 2, 4] as const) {
    q.offer(0);
    driver.write(0x3000, width, 0xffff_ffff);
  }
  assert.is(toy.seen.length, 3);
  for (const width of [1, 2, 4] as const) assert.is(driver.read(0x3000, width), 0);
});

test("VIO-067 VIO-068 VIO-069 doorbells without a queue, of a disabled one, or without work change nothing", () => {
  const { host, toy, driver, q } = running();
  for (const at of [0x3000, 0x3004, 0x3008, 0x300c, 0x3ffc]) driver.write(at, 4, 0xffff_ffff);
  assert.is(toy.seen.length, 0);
  assert.is(q.usedIdx, 0);
  assert.is(q.usedFlags, 0);
  assert.not(host.intx);
  assert.is(driver.read(0x14, 1), 0x0f);
});

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
const RING_RESET = 0x100; // bit 40
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
