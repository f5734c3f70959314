import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Driver, DriverError } from "../types.js";
import { frameSegments } from "./ifnet.js";
import { attachDriver } from "./testing/fake-pci.js";
import { FakeVirtio, type FakeVirtioOptions } from "./testing/fake-virtio.js";
import {
  featuresAnd,
  hasFeature,
  VIRTIO,
  type VirtioAttach,
  type VirtioCallbacks,
  type VirtioProbe,
  virtioFeatures,
} from "./virtio-bus.js";
import { type VirtioPci, type VirtioPciOptions, virtioPciDriver } from "./virtio-pci.js";
import type { Virtqueue } from "./virtqueue.js";

/** A child that takes two queues and lets the test look on. */
class Child {
  readonly bus: VirtioAttach;
  readonly granted: ReturnType<typeof virtioFeatures>;
  readonly vqs: readonly Virtqueue[];
  readonly ran: string[] = [];

  constructor(bus: VirtioAttach, wanted: readonly number[], callbacks: (child: Child) => VirtioCallbacks) {
    this.bus = bus;
    this.granted = bus.negotiateFeatures(virtioFeatures(...wanted));
    bus.finalizeFeatures();
    this.vqs = bus.allocVirtqueues([
      { name: "child-a", maxIndirect: 8, handler: () => this.ran.push("a") },
      { name: "child-b", maxIndirect: 8, handler: () => this.ran.push("b") },
      { name: "child-c", maxIndirect: 8, handler: null },
    ]);
    bus.setCallbacks(callbacks(this));
    bus.setupIntr();
  }
}

interface ChildOptions {
  readonly wanted?: readonly number[];
  readonly callbacks?: (child: Child) => VirtioCallbacks;
  readonly fail?: boolean;
}

const childDriver = (options: ChildOptions = {}): Driver<VirtioProbe, VirtioAttach, Child> => ({
  name: "child",
  bus: VIRTIO,
  probe: () => ({ priority: -20, desc: "child" }),
  attach: (dev) => {
    const child = new Child(dev.bus, options.wanted ?? [5, 28, 29], options.callbacks ?? (() => ({})));
    if (options.fail === true) throw new DriverError("EIO", "would not");
    return child;
  },
});

const rig = (
  device: Partial<FakeVirtioOptions> & { modern: boolean },
  options: ChildOptions & VirtioPciOptions & { before?: (fake: FakeVirtio) => void } = {},
) => {
  const fake = new FakeVirtio({ features: [5, 16, 28, 29, 32], vectors: 4, ...device });
  options.before?.(fake);
  const driver = virtioPciDriver(options);
  const attached = attachDriver(driver, fake.pci, [childDriver(options)]);
  const child = attached.children.get("child") as Child;
  return { fake, attached, child, transport: attached.softc as VirtioPci };
};
const BOTH = [true, false] as const;

const statuses = (fake: FakeVirtio) => fake.log.filter((line) => line.startsWith("status"));

test("features are two words of 32 bits, bits 31 and 63 included", () => {
  const f = virtioFeatures(0, 31, 32, 63);
  assert.equal(f, { lo: 0x8000_0001, hi: 0x8000_0001 });
  for (const bit of [0, 31, 32, 63]) assert.ok(hasFeature(f, bit));
  for (const bit of [1, 30, 33, 62]) assert.not(hasFeature(f, bit));
  assert.equal(featuresAnd(f, virtioFeatures(31, 62, 63)), { lo: 0x8000_0000, hi: 0x8000_0000 });
});

test("the steps of initialisation come in the order of the standard", () => {
  const modern = rig({ modern: true }, { callbacks: ({ ran }) => ({ attachCompleted: () => ran.push("attached") }) });
  assert.equal(modern.fake.log, [
    "status 0",
    "status 1",
    "status 3",
    "features[0] 30000020",
    "features[1] 1",
    "status b",
    "enable 0",
    "enable 1",
    "enable 2",
    "status f",
  ]);
  assert.is(modern.fake.pci.busMaster, true);
  const legacy = rig({ modern: false });
  assert.equal(legacy.fake.log, [
    "status 0",
    "status 1",
    "status 3",
    "features 30000020",
    "queue 0",
    "queue 1",
    "queue 2",
    "status 7",
  ]);
});

test("VIO-341 PRB-071 granted is what host, child and transport have in common, and may be asked for again", () => {
  for (const modern of BOTH) {
    // 35 IN_ORDER and 38 NOTIFICATION_DATA: offered and asked for, and not known to this transport.
    // 32 VERSION_1 and 34 RING_PACKED it asks for by itself.
    const { fake, child } = rig(
      { modern, features: [5, 16, 29, 32, 34, 35, 38] },
      { wanted: [5, 15, 29, 35, 38], callbacks: () => ({}) },
    );
    const own = modern ? 2n ** 32n + 2n ** 34n : 0n;
    const expected = 2n ** 5n + 2n ** 29n + own;
    assert.is(fake.driverFeatures, expected);
    assert.is(BigInt(child.granted.hi) * 2n ** 32n + BigInt(child.granted.lo), expected);
    assert.is(child.bus.withFeature(16), false); // offered, not asked for
    assert.is(child.bus.withFeature(15), false); // asked for, not offered
    child.bus.negotiateFeatures(virtioFeatures(16));
    assert.is(fake.driverFeatures, 2n ** 16n + own);
  }
});

test("VIO-342 a device that drops FEATURES_OK is given up", () => {
  const { fake, attached, child } = rig({ modern: true }, { before: (f) => (f.refuse = true) });
  assert.is(child, undefined);
  assert.match(attached.lines.join("\n"), /FEATURES_OK/);
  assert.not(fake.log.includes("status f"));
});

test("a modern device whose memory the platform translates is accepted, and one that insists on that attaches", () => {
  // QEMU with iommu_platform=on drops FEATURES_OK without bit 33; bus_dma's addresses are the platform's in any case. §6.1
  const { fake, child } = rig({ modern: true, features: [5, 32, 33] }, { before: (f) => (f.insists = 1n << 33n) });
  assert.is(child!.bus.withFeature(33), true);
  assert.is((fake.driverFeatures >> 32n) & 3n, 3n);
  assert.is(rig({ modern: false, features: [5] }).child!.bus.withFeature(33), false);
});

test("a modern device without VERSION_1 is given up", () => {
  const { child, attached } = rig({ modern: true, features: [5] });
  assert.is(child, undefined);
  assert.match(attached.lines.join("\n"), /VERSION_1/);
});

test("VIO-343 PRB-069 an attach that fails ends in FAILED, a reset and ACKNOWLEDGE, and leaves no memory behind", () => {
  for (const modern of BOTH) {
    const { fake, child } = rig({ modern }, { fail: true });
    assert.is(child, undefined);
    const seen = statuses(fake);
    const failed = seen.findIndex((line) => (Number.parseInt(line.slice(7), 16) & 0x80) !== 0);
    assert.ok(failed > 0, seen.join());
    assert.is(seen[failed + 1], "status 0");
    assert.is(seen.at(-1), "status 1");
    assert.is(fake.pci.memory.live, 0);
    assert.is(fake.pci.installed.length, 0);
  }
});

test("VIO-347 no status bit is ever taken back but by a reset", () => {
  for (const modern of BOTH) {
    for (const fail of BOTH) {
      const { fake, attached, child } = rig({ modern }, { fail });
      child?.bus.stop();
      for (const vq of child?.vqs ?? []) while (vq.drain() >= 0);
      child?.bus.reinit(virtioFeatures(5));
      child?.bus.reinitComplete();
      attached.detach();
      assert.equal(fake.faults, []);
    }
  }
});

test("VIO-348 the driver waits for status 0 after a reset, and not for ever", () => {
  for (const modern of BOTH) {
    const { fake, child } = rig({ modern });
    fake.slowReset = 5;
    const before = fake.pci.ns;
    child.bus.stop();
    assert.is(fake.pci.ns - before, 5_000_000);
    fake.slowReset = 1e9;
    fake.status = 1;
    assert.throws(
      () => child.bus.stop(),
      (error: unknown) => error instanceof DriverError && error.code === "ETIMEDOUT",
    );
    fake.slowReset = 0;
  }
});

test("VIO-349 queue_enable is written 1 and nothing else, through attach, restart and detach", () => {
  const { fake, attached, child } = rig({ modern: true });
  child.bus.stop();
  child.bus.reinit(virtioFeatures(5));
  child.bus.reinitComplete();
  attached.detach();
  assert.equal(fake.faults, []);
  assert.is(fake.log.filter((line) => line === "enable 1").length, 2);
});

test("VIO-352 a queue gets indirect tables only when the feature was granted", () => {
  for (const offered of BOTH) {
    const { child } = rig({ modern: true, features: [32, ...(offered ? [28] : [])] });
    const list = { count: 2, paddr: Float64Array.of(4096, 8192), len: Uint32Array.of(8, 8) };
    child.vqs[0]!.enqueue(0, list, 2, 0);
    assert.is(child.vqs[0]!.nfree, offered ? 15 : 14);
  }
});

test("VIO-344 a queue whose size is no power of two fails the attach", () => {
  const { child, attached } = rig({ modern: true, queues: [16, 24, 4] });
  assert.is(child, undefined);
  assert.match(attached.lines.join("\n"), /power of two/);
});

test("a queue that is not there fails the attach", () => {
  for (const modern of BOTH) assert.is(rig({ modern, queues: [16, 16] }).child, undefined);
});

test("VIO-345 a restart keeps sizes and memory, with empty rings, and fails when a size has changed", () => {
  for (const modern of BOTH) {
    const { fake, child } = rig({ modern });
    const place = child.vqs.map((vq) => vq.descPaddr);
    const list = { count: 1, paddr: Float64Array.of(4096), len: Uint32Array.of(8) };
    child.vqs[0]!.enqueue(0, list, 1, 0);
    child.bus.stop();
    while (child.vqs[0]!.drain() >= 0);
    child.bus.reinit(virtioFeatures(5));
    child.bus.reinitComplete();
    assert.equal(
      child.vqs.map((vq) => vq.descPaddr),
      place,
    );
    assert.is(fake.ring(0).availIdx, 0);
    assert.is(fake.status, modern ? 0xf : 7);
    fake.sizes[1] = 8;
    assert.throws(() => child.bus.reinit(virtioFeatures(5)), /EINVAL/);
  }
});

test("VIO-346 PRB-072 interrupts fall back from a vector per queue to a shared one, to MSI, to the pin", () => {
  for (const modern of BOTH) {
    const each = rig({ modern, vectors: 3 });
    assert.is(each.transport.interruptScheme, "msix");
    each.fake.pci.fire(2);
    assert.equal(each.child.ran, ["a"]);
    each.fake.pci.fire(3);
    assert.equal(each.child.ran, ["a", "b"]);

    const shared = rig({ modern, vectors: 2 });
    assert.is(shared.transport.interruptScheme, "msix-shared");
    shared.fake.pci.fire(2);
    assert.equal(shared.child.ran, ["a", "b"]);

    const msi = rig({ modern, vectors: 1 }, { before: (f) => (f.pci.msi = 1) });
    assert.is(msi.transport.interruptScheme, "msi");
    msi.fake.isr = 1;
    assert.is(msi.fake.pci.fire(1), "schedule");
    assert.equal(msi.child.ran, ["a", "b"]);

    const pin = rig({ modern, vectors: 0 });
    assert.is(pin.transport.interruptScheme, "intx");
    assert.is(pin.fake.pci.fire(0), "stray"); // somebody else on the line
    assert.equal(pin.child.ran, []);
    pin.fake.isr = 1;
    assert.is(pin.fake.pci.fire(0), "schedule");
    assert.equal(pin.child.ran, ["a", "b"]);
    assert.is(pin.fake.isr, 0);
  }
});

test("VIO-346 a vector that reads back as none sends the driver to the next scheme, at attach and at restart", () => {
  for (const modern of BOTH) {
    const shared = rig({ modern, vectors: 4 }, { before: (f) => (f.badVectorFrom = 2) });
    assert.is(shared.transport.interruptScheme, "msix-shared");
    const pin = rig({ modern, vectors: 4 }, { before: (f) => (f.badVectorFrom = 0) });
    assert.is(pin.transport.interruptScheme, "intx");
    assert.is(pin.fake.pci.config[0x9b]! & 0x80, 0); // MSI-X is off again
    const later = rig({ modern, vectors: 4 });
    later.fake.badVectorFrom = 1;
    assert.throws(() => later.child.bus.reinit(virtioFeatures(5)), /vector/);
  }
});

// Bits 35, 38, 39, 40 of VIRTIO 1.3 §6
const LATER = { inOrder: true, notificationData: true, notifConfigData: true, ringReset: true } as const;
const LATER_BITS = [35, 38, 39, 40];

test("what FreeBSD does not know is accepted where offered and asked for, by registers that are there", () => {
  const offered = { modern: true, features: [5, 28, 29, 32, ...LATER_BITS] };
  const accepted = ({ child }: ReturnType<typeof rig>) => LATER_BITS.filter((bit) => child.bus.withFeature(bit));
  assert.equal(accepted(rig(offered)), []);
  assert.equal(accepted(rig(offered, LATER)), LATER_BITS);
  for (const [option, bit] of [
    ["inOrder", 35],
    ["notificationData", 38],
    ["notifConfigData", 39],
    ["ringReset", 40],
  ] as const)
    assert.equal(accepted(rig(offered, { [option]: true })), [bit]);
  // queue_notif_config_data is at 38h, queue_reset at 3Ah: a structure of VIRTIO 1.0 ends before them.
  assert.equal(accepted(rig({ ...offered, commonLength: 0x38 }, LATER)), [35, 38]);
  assert.equal(accepted(rig({ ...offered, commonLength: 0x3c }, LATER)), LATER_BITS);
  assert.is(rig({ ...offered, modern: false }, LATER).fake.driverFeatures >> 32n, 0n);
});

test("a doorbell is 16 bits with the queue, or 32 with what comes next, or a value of the device's choice", () => {
  for (const options of [{}, { notificationData: true }, { notifConfigData: true }, LATER]) {
    const { fake, child } = rig({ modern: true, features: [5, 32, ...LATER_BITS] }, options);
    const [, b] = child.vqs as [Virtqueue, Virtqueue];
    const segments = frameSegments(1);
    segments.len[0] = 1;
    for (let i = 0; i < 3; i++) {
      b.enqueue(0, segments, 1, 0);
      b.notify();
    }
    assert.equal(fake.faults, []);
    assert.equal(
      fake.log.filter((line) => line.startsWith("notify")),
      ["notify 1", "notify 1", "notify 1"],
    );
    assert.equal(fake.nexts, "notificationData" in options ? [1, 2, 3] : []);
  }
});

test("one queue is reset while the others go on: drained, empty, its vector set, enabled again", () => {
  for (const vectors of [4, 0]) {
    const { fake, child } = rig({ modern: true, features: [5, 32, 40], vectors }, { ringReset: true });
    const [a, b] = child.vqs as [Virtqueue, Virtqueue];
    const segments = frameSegments(1);
    segments.len[0] = 1;
    for (const vq of [a, b]) vq.enqueue(7, segments, 1, 0);
    for (const vq of [a, b]) vq.notify();
    fake.log.length = 0;
    fake.slowQueueReset = 3;
    const drained: number[] = [];
    const done = child.bus.restartVq(b, () => {
      fake.log.push("between");
      for (let cookie = b.drain(); cookie >= 0; cookie = b.drain()) drained.push(cookie);
    });
    assert.ok(done);
    assert.equal(drained, [7]);
    assert.equal(fake.log, ["reset 1", "between", "enable 1"]);
    assert.is(fake.vector(1), vectors === 0 ? 0xffff : 2);
    assert.is(a.inFlight, 1);
    assert.is(b.nfree, 16);
    b.enqueue(8, segments, 1, 0);
    b.notify();
    assert.is(fake.ring(1).availIdx, 1);
    assert.is(fake.status & 4, 4);
    assert.equal(fake.faults, []);

    fake.slowQueueReset = Number.POSITIVE_INFINITY;
    assert.throws(() => child.bus.restartVq(b, () => {}), /ETIMEDOUT/);
  }
  const without = rig({ modern: true, features: [5, 32] }, { ringReset: true });
  assert.not(without.child.bus.restartVq(without.child.vqs[0]!, () => assert.unreachable()));
});

test("after a restart rings and features are what they were, whatever the device offers by then", () => {
  const offered = [5, 16, 28, 29, 32];
  const { fake, child } = rig({ modern: true, features: offered });
  const before = fake.driverFeatures;
  offered.push(34, 35); // packed rings, which the transport would like, and IN_ORDER
  child.bus.reinit(virtioFeatures(5, 28, 29, 35));
  assert.is(fake.driverFeatures, before);
  child.bus.reinit(virtioFeatures(28, 29));
  assert.is(fake.driverFeatures, before & ~32n);
  offered.splice(offered.indexOf(29), 1);
  assert.throws(
    () => child.bus.reinit(virtioFeatures(5, 28, 29)),
    (error: unknown) => error instanceof DriverError && error.code === "EOPNOTSUPP",
  );
  assert.ok(child.bus.withFeature(29), "what the queues are made for");
});

test("a configuration change reaches the child, by its vector and by bit 1 of the ISR", () => {
  for (const vectors of [4, 0]) {
    const { fake, child } = rig(
      { modern: true, vectors },
      { callbacks: ({ ran }) => ({ configChange: () => ran.push("config") }) },
    );
    fake.isr = 2;
    fake.pci.fire(vectors === 0 ? 0 : 1);
    assert.ok(child.ran.includes("config"));
  }
});

test("VIO-351 several bytes of configuration are from one generation", () => {
  const { fake, child } = rig({ modern: true });
  let left = 3;
  fake.onConfigRead = (offset) => {
    if (offset !== 4 || left-- <= 0) return;
    fake.config.fill(0x10 + left);
    fake.generation++;
  };
  const bytes = new Uint8Array(8);
  child.bus.readDeviceConfig(0, bytes);
  assert.equal([...bytes], Array(8).fill(0x10));
  fake.onConfigRead = () => fake.generation++;
  assert.throws(
    () => child.bus.readDeviceConfig(0, bytes),
    (error: unknown) => error instanceof DriverError && error.code === "EIO",
  );
});

test("legacy configuration is read until it reads the same twice", () => {
  const { fake, child } = rig({ modern: false });
  let reads = 0;
  fake.onConfigRead = (offset) => {
    if (offset === 3 && ++reads === 1) fake.config.fill(0x77); // torn: three old bytes, then new ones
  };
  const bytes = new Uint8Array(6);
  child.bus.readDeviceConfig(0, bytes);
  assert.equal([...bytes], Array(6).fill(0x77));
});

test("legacy configuration moves up while MSI-X is enabled", () => {
  for (const vectors of [4, 0]) {
    const { child } = rig({ modern: false, vectors });
    assert.is(child.bus.readDeviceConfig2(0), 0x5452);
  }
});

test("PRB-070 attachCompleted comes after DRIVER_OK, and never when the attach failed", () => {
  for (const modern of BOTH)
    for (const fail of BOTH) {
      const seen: number[] = [];
      let device: FakeVirtio | null = null;
      rig(
        { modern },
        {
          fail,
          before: (fake) => (device = fake),
          callbacks: () => ({ attachCompleted: () => seen.push((device as FakeVirtio).status & 4) }),
        },
      );
      assert.equal(seen, fail ? [] : [4]);
    }
});

test("PRB-068 detach of the child resets the device before its memory goes, and ACKNOWLEDGE stands", () => {
  for (const modern of BOTH) {
    const { fake, attached } = rig({ modern });
    let atReset = -1;
    const write = fake.write.bind(fake);
    fake.write = (offset, width, value) => {
      write(offset, width, value);
      if (fake.status === 0 && atReset < 0) atReset = fake.pci.memory.live;
    };
    attached.detach();
    assert.ok(atReset > 0);
    assert.is(fake.pci.memory.live, 0);
    assert.is(fake.pci.live, 0);
    assert.is(statuses(fake).at(-2), "status 1");
    assert.is(statuses(fake).at(-1), "status 0"); // the transport's own detach
  }
});

test("PRB-073 a transitional device is taken once: by the legacy interface, or by the modern one on request", () => {
  const legacy = new FakeVirtio({ modern: false, features: [] });
  const both = new FakeVirtio({ modern: true, features: [32] });
  Object.assign(both.pci, { device: 0x1000, subdevice: 1, revid: 0 });
  both.pci.bars.set(0x10, { type: "ioport", size: 64, handler: legacy });
  const bid = (modern: boolean, view = both.pci) => virtioPciDriver({ modern }).probe(view)?.desc ?? null;
  assert.is(bid(false), "VirtIO PCI (legacy) Network adapter");
  assert.is(bid(true), "VirtIO PCI (modern) Network adapter");
  assert.is(bid(true, legacy.pci), "VirtIO PCI (legacy) Network adapter"); // no capabilities there
  Object.assign(both.pci, { revid: 1 });
  assert.is(bid(false), null); // §4.1.2.3: revision 0 alone is transitional
  Object.assign(both.pci, { device: 0x1041, revid: 1 });
  assert.is(bid(false), "VirtIO PCI (modern) Network adapter");
  Object.assign(both.pci, { device: 0x1080 });
  assert.is(bid(false), null);
  Object.assign(both.pci, { device: 0xfff });
  assert.is(bid(false), null);
});

test("structures that leave their BAR, or lie in none, are refused", () => {
  for (const spoil of [
    (config: Uint8Array) => config.set([9], 0x44), // common in BAR 9: reserved
    (config: Uint8Array) => config.set([0, 0x40], 0x48 + 0), // common behind the BAR's end
    (config: Uint8Array) => config.set([0x10, 0], 0x4c), // 16 bytes of common
  ]) {
    const fake = new FakeVirtio({ modern: true, features: [32] });
    spoil(fake.pci.config);
    const driver = virtioPciDriver();
    if (driver.probe(fake.pci) === null) continue;
    assert.throws(() => attachDriver(driver, fake.pci, []), /ENXIO/);
    assert.is(fake.pci.live, 0);
  }
});

test.run();
