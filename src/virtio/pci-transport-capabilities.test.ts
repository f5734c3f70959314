import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import { VirtioPciFunction } from "./pci-transport.js";
import { rig, running } from "./pci-transport-testing.js";
import { ToyDevice } from "./testing.js";

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
  // common, ISR, device, notify: a page each of BAR 4, as QEMU 7.2 has them
  for (const [page, type] of [1, 3, 4, 2].entries())
    assert.equal([at.get(type)![4], le32(type, 8), le32(type, 12)], [4, 0x1000 * page, 0x1000]);
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
  for (const bit of [64, 66, -1, 1.5, Number.NaN])
    refuses("virtio-withhold", () => new VirtioPciFunction(new ToyDevice([16, 16, 4]), { withhold: [bit] }));
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

test.run();
