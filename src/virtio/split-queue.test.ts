import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { virtqNeedEvent } from "../spec/virtio.js";
import { VirtioPciFunction } from "./pci-transport.js";
import { RawDriver, RawRing, TestHost, ToyDevice } from "./testing.js";

const INDIRECT = 0x1000_0000; // bit 28
const EVENT_IDX = 0x2000_0000; // bit 29
const NEXT = 1;
const WRITE = 2;
const INDIRECT_DESC = 4;
const BUFFERS = 0x8_0000;

interface RigOptions {
  readonly features?: number;
  readonly size?: number;
  readonly windows?: readonly { base: number; size: number }[];
  readonly ring?: (host: TestHost, size: number) => RawRing;
  readonly start?: boolean;
}

/** A modern toy device with queue 0 set up and running. */
const rig = ({ features = 0, size = 16, windows, ring, start = true }: RigOptions = {}) => {
  const host = new TestHost(windows);
  const toy = new ToyDevice([size, size, 4]);
  const slot = new VirtioPciFunction(toy, { personality: "modern" });
  const driver = new RawDriver(slot, host);
  assert.is(driver.negotiate(features, 1), 0x0b);
  const used = 0x1_0000 + Math.ceil((18 * size + 6) / 4) * 4;
  const q = ring?.(host, size) ?? new RawRing(host, size, 0x1_0000, 0x1_0000 + 16 * size, used);
  driver.queue(0, q);
  if (start) driver.driverOk();
  const broken = () => (driver.read(0x14, 1) & 0x40) !== 0;
  return { host, toy, slot, driver, q, broken };
};

/** A ring that must be refused: NEEDS_RESET, the reason, no used entry, and bytes beside RAM as they were. */
const refused = (code: string, prepare: (r: ReturnType<typeof rig>) => void, options: RigOptions = {}): void => {
  const r = rig(options);
  prepare(r);
  r.driver.notify(0);
  assert.ok(r.broken(), "NEEDS_RESET");
  assert.equal(r.host.reports, [code]);
  assert.is(r.q.usedIdx, 0, "nothing was completed");
  assert.is(r.toy.seen.length, 0);
  assert.ok(r.host.guardsIntact());
};

test("VIO-163 descriptor, available and used fields are found at their offsets", () => {
  const { host, toy, driver, q } = rig();
  host.put(BUFFERS, [1, 2, 3]);
  q.describe(5, BUFFERS, 3, NEXT, 9);
  q.describe(9, BUFFERS + 0x100, 4, WRITE);
  q.offer(5);
  driver.notify(0);
  assert.equal(toy.seen, [{ head: 5, readable: [1, 2, 3], writable: 4 }]);
  assert.equal(host.bytesAt(BUFFERS + 0x100, 5), [0x5a, 0x5a, 0x5a, 0x5a, 0]);
  assert.is(q.usedIdx, 1);
  assert.equal(q.entry(0), [5, 4]);
});

test("VIO-164 VIO-166 rings of 1, 2, 256, 1024 and 32768 work, and work when they are full", () => {
  for (const size of [1, 2, 256, 1024, 32768]) {
    const { driver, toy, q } = rig({
      size,
      windows: [{ base: 0, size: 0x20_0000 }],
      ring: (host, n) => new RawRing(host, n, 0x2_0000, 0x2_0000 + 16 * n, 0x2_0000 + Math.ceil((18 * n + 6) / 4) * 4),
    });
    for (let i = 0; i < size; i++) {
      q.describe(i, 0x1000, 1, 0);
      q.offer(i);
    }
    driver.notify(0);
    assert.is(toy.seen.length, size);
    assert.is(q.usedIdx, size & 0xffff);
    assert.equal(q.entry(size - 1), [size - 1, 0]);
  }
});

test("VIO-165 the index wraps from 65535 to 0", () => {
  const { driver, toy, q } = rig({ size: 4 });
  q.describe(2, BUFFERS, 1, WRITE);
  for (let i = 0; i < 65_537; i++) {
    q.offer(2);
    driver.notify(0);
  }
  assert.is(toy.seen.length, 65_537);
  assert.is(q.availIdx, 1);
  assert.is(q.usedIdx, 1);
  assert.not(driver.read(0x14, 1) & 0x40);
});

test("VIO-167 a chain of exactly the queue's size works", () => {
  const { driver, toy, q } = rig({ size: 16 });
  for (let i = 0; i < 16; i++) q.describe(i, BUFFERS + i, 1, i < 15 ? NEXT | WRITE : WRITE, i + 1);
  q.offer(0);
  driver.notify(0);
  assert.is(toy.seen[0]?.writable, 16);
  assert.equal(q.entry(0), [0, 16]);
});

test("VIO-170 VIO-171 descriptors, available ring and readable buffers are never written", () => {
  const { host, driver, q } = rig({ features: INDIRECT });
  host.put(BUFFERS, [1, 2, 3, 4]);
  q.describe(0, BUFFERS, 4, NEXT, 1);
  q.describe(1, BUFFERS + 0x100, 8, WRITE);
  q.describe(0, BUFFERS, 4, NEXT, 1, 0x3_0000);
  q.describe(1, BUFFERS + 0x200, 8, WRITE, 0, 0x3_0000);
  q.describe(2, 0x3_0000, 32, INDIRECT_DESC);
  q.offer(0);
  q.offer(2);
  const before = [host.bytesAt(q.desc, 16 * 16 + 6 + 32), host.bytesAt(BUFFERS, 4), host.bytesAt(0x3_0000, 32)];
  driver.notify(0);
  assert.is(q.usedIdx, 2);
  assert.equal([host.bytesAt(q.desc, 16 * 16 + 6 + 32), host.bytesAt(BUFFERS, 4), host.bytesAt(0x3_0000, 32)], before);
});

test("VIO-172 the used entry is written before the used index", () => {
  const { host, driver, q } = rig();
  const writes: number[] = [];
  host.watchViews((address) => writes.push(address));
  q.describe(0, BUFFERS, 4, WRITE);
  q.offer(0);
  driver.notify(0);
  const id = writes.indexOf(q.used + 4);
  const len = writes.indexOf(q.used + 8);
  const idx = writes.indexOf(q.used + 2);
  assert.ok(id >= 0 && len >= 0 && idx > Math.max(id, len), `order of writes: ${writes}`);
});

test("VIO-173 each head comes back once, and only heads", () => {
  const { driver, q } = rig({ size: 16 });
  const heads = [7, 3, 12, 0, 9];
  for (const head of heads) {
    q.describe(head, BUFFERS, 2, NEXT, head + 1);
    q.describe(head + 1, BUFFERS, 2, WRITE);
    q.offer(head);
  }
  driver.notify(0);
  driver.notify(0);
  assert.is(q.usedIdx, 5);
  assert.equal(
    heads.map((_, i) => q.entry(i)[0]),
    heads,
  );
});

test("VIO-174 used length is what was written, never more than there is room for", () => {
  const { driver, q } = rig();
  q.describe(0, BUFFERS, 10, NEXT, 1);
  q.describe(1, BUFFERS + 100, 7, NEXT | WRITE, 2);
  q.describe(2, BUFFERS + 200, 5, WRITE);
  q.offer(0);
  driver.notify(0);
  assert.equal(q.entry(0), [0, 12]);
});

test("VIO-175 indirect chains of 1 … n entries work, in the order of next", () => {
  for (const n of [1, 2, 16, 64]) {
    const { host, driver, toy, q } = rig({ features: INDIRECT });
    const table = 0x3_0000;
    // Linked backwards but for the first: index 0, n−1, n−2, …
    for (let i = 0; i < n; i++) {
      const next = i === 0 ? n - 1 : i - 1;
      const last = n === 1 || i === 1;
      host.setByte(BUFFERS + i, i);
      q.describe(i, BUFFERS + i, 1, last ? 0 : NEXT, next, table);
    }
    q.describe(0, table, 16 * n, INDIRECT_DESC);
    q.offer(0);
    driver.notify(0);
    const order = [0, ...Array.from({ length: n - 1 }, (_, i) => n - 1 - i)];
    assert.equal(toy.seen[0]?.readable, order);
  }
});

test("VIO-176 direct descriptors followed by an indirect one work", () => {
  const { host, driver, toy, q } = rig({ features: INDIRECT });
  host.put(BUFFERS, [1, 2, 3]);
  q.describe(4, BUFFERS, 1, NEXT, 5);
  q.describe(5, 0x3_0000, 32, INDIRECT_DESC);
  q.describe(0, BUFFERS + 1, 2, NEXT, 1, 0x3_0000);
  q.describe(1, BUFFERS + 16, 6, WRITE, 0, 0x3_0000);
  q.offer(4);
  driver.notify(0);
  assert.equal(toy.seen, [{ head: 4, readable: [1, 2, 3], writable: 6 }]);
  assert.equal(q.entry(0), [4, 6]);
});

test("VIO-177 WRITE on the descriptor that refers to a table is ignored", () => {
  const { driver, toy, q } = rig({ features: INDIRECT });
  q.describe(0, 0x3_0000, 16, INDIRECT_DESC | WRITE);
  q.describe(0, BUFFERS, 3, 0, 0, 0x3_0000);
  q.offer(0);
  driver.notify(0);
  assert.equal(toy.seen, [{ head: 0, readable: [0, 0, 0], writable: 0 }]);
});

test("VIO-178 a nested indirect table is refused", () =>
  refused(
    "indirect-nested",
    ({ q }) => {
      q.describe(0, 0x3_0000, 16, INDIRECT_DESC);
      q.describe(0, 0x3_1000, 16, INDIRECT_DESC, 0, 0x3_0000);
      q.offer(0);
    },
    { features: INDIRECT },
  ));

test("VIO-179 an indirect descriptor without the feature is refused", () =>
  refused("indirect-not-negotiated", ({ q }) => {
    q.describe(0, 0x3_0000, 16, INDIRECT_DESC);
    q.offer(0);
  }));

test("VIO-180 indirect tables of 0, 8 and 17 bytes are refused", () => {
  for (const length of [0, 8, 17])
    refused(
      "indirect-length",
      ({ q }) => {
        q.describe(0, 0x3_0000, length, INDIRECT_DESC);
        q.offer(0);
      },
      { features: INDIRECT },
    );
});

test("VIO-181 an index beyond the indirect table is refused", () =>
  refused(
    "next-out-of-range",
    ({ q }) => {
      q.describe(0, 0x3_0000, 32, INDIRECT_DESC);
      q.describe(0, BUFFERS, 1, NEXT, 2, 0x3_0000);
      q.offer(0);
    },
    { features: INDIRECT },
  ));

test("an indirect descriptor that goes on, or whose table is no RAM, is refused", () => {
  const indirect = { features: INDIRECT };
  refused(
    "indirect-with-next",
    ({ q }) => {
      q.describe(0, 0x3_0000, 16, INDIRECT_DESC | NEXT, 1);
      q.offer(0);
    },
    indirect,
  );
  refused(
    "indirect-outside-memory",
    ({ q }) => {
      q.describe(0, 0x1f_fff8, 16, INDIRECT_DESC);
      q.offer(0);
    },
    indirect,
  );
});

test("VIO-182 VIO-183 a head or a next beyond the queue is refused", () => {
  refused("head-out-of-range", ({ q }) => q.offer(16));
  refused("next-out-of-range", ({ q }) => {
    q.describe(0, BUFFERS, 1, NEXT, 16);
    q.offer(0);
  });
});

test("VIO-184 a loop, direct or in a table, is refused", () => {
  refused("chain-too-long", ({ q }) => {
    q.describe(0, BUFFERS, 1, NEXT, 1);
    q.describe(1, BUFFERS, 1, NEXT, 0);
    q.offer(0);
  });
  refused(
    "chain-too-long",
    ({ q }) => {
      q.describe(0, 0x3_0000, 32, INDIRECT_DESC);
      q.describe(0, BUFFERS, 1, NEXT, 1, 0x3_0000);
      q.describe(1, BUFFERS, 1, NEXT, 1, 0x3_0000);
      q.offer(0);
    },
    { features: INDIRECT },
  );
});

test("VIO-185 an available index more than the size ahead is refused", () => {
  refused("avail-idx-jump", ({ q }) => {
    q.describe(0, BUFFERS, 1, 0);
    q.availIdx = 17;
  });
  const { driver, q, broken } = rig();
  q.describe(0, BUFFERS, 1, 0);
  q.availIdx = 16; // all slots name head 0
  driver.notify(0);
  assert.not(broken());
  assert.is(q.usedIdx, 16);
});

test("VIO-186 more chains than the ring holds, counted with those in flight, are refused", () => {
  const { host, toy, driver, broken } = rig({ start: false });
  const q = new RawRing(host, 16, 0x4_0000);
  driver.queue(1, q);
  driver.driverOk();
  toy.bus?.queue(1).begin();
  for (let i = 0; i < 16; i++) {
    q.describe(i, BUFFERS, 1, 0);
    q.offer(i);
  }
  toy.chain.clear();
  for (let i = 0; i < 10; i++) assert.ok(toy.bus?.queue(1).take(toy.chain), "ten are taken and not given back");
  q.offer(3); // the seventeenth that the driver has out
  assert.not(toy.bus?.queue(1).take(toy.chain));
  toy.bus?.checkQueue(toy.bus.queue(1));
  assert.ok(broken());
  assert.equal(host.reports, ["avail-idx-jump"]);
});

test("VIO-187 a readable descriptor behind a writable one is refused", () =>
  refused("readable-after-writable", ({ q }) => {
    q.describe(0, BUFFERS, 1, NEXT | WRITE, 1);
    q.describe(1, BUFFERS, 1, 0);
    q.offer(0);
  }));

test("VIO-188 zero-length descriptors are skipped, wherever they stand", () => {
  const { host, driver, toy, q } = rig();
  host.put(BUFFERS, [7, 8]);
  q.describe(0, 0xffff_ffff_0000, 0, NEXT, 1);
  q.describe(1, BUFFERS, 2, NEXT, 2);
  q.describe(2, BUFFERS, 0, NEXT, 3);
  q.describe(3, BUFFERS + 64, 3, NEXT | WRITE, 4);
  q.describe(4, 0, 0, 0);
  q.describe(5, 0, 0, 0);
  q.offer(0);
  q.offer(5);
  driver.notify(0);
  assert.equal(toy.seen, [
    { head: 0, readable: [7, 8], writable: 3 },
    { head: 5, readable: [], writable: 0 },
  ]);
  assert.equal([q.entry(0), q.entry(1)], [[0, 3], [5, 0]]); // biome-ignore format: pairs
});

test("VIO-189 VIO-190 VIO-191 lengths and addresses beyond RAM are refused, whole and without wrapping", () => {
  const bad: [address: number, length: number, flags: number][] = [
    [BUFFERS, 0xffff_ffff, WRITE],
    [0x1f_ffff, 2, 0],
    [0x20_0000, 1, WRITE],
    [0x1_0000_0000 + BUFFERS, 1, 0], // cut to 32 bits it would be RAM
    [0x1_0000_0000 + BUFFERS, 1, WRITE],
  ];
  for (const [address, length, flags] of bad)
    refused("buffer-outside-memory", ({ q }) => {
      q.describe(0, address, length, flags);
      q.offer(0);
    });
  refused("buffer-outside-memory", ({ q, host }) => {
    q.describe(0, 0, 0x20, 0);
    host.put(q.desc, [0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]); // address + length wraps to 0x18
    q.offer(0);
  });
});

test("a chain of more than 2^32 bytes is refused", () => {
  const windows = [{ base: 0, size: 0x20_0000 }];
  const size = 4096;
  const { driver, q, host, broken } = rig({
    size,
    windows,
    ring: (h, n) => new RawRing(h, n, 0x2_0000, 0x2_0000 + 16 * n, 0x2_0000 + 18 * n + 8),
  });
  for (let i = 0; i < size; i++) q.describe(i, 0, 0x10_0001, i < size - 1 ? NEXT : 0, i + 1);
  q.offer(0);
  driver.notify(0);
  assert.ok(broken());
  assert.equal(host.reports, ["chain-too-large"]);
});

test("with hugeChains a chain of more than 2^32 bytes is used up as any other", () => {
  const host = new TestHost([{ base: 0, size: 0x20_0000 }]);
  const toy = new ToyDevice([4096]);
  const slot = new VirtioPciFunction(toy, { personality: "modern", hugeChains: true });
  const driver = new RawDriver(slot, host);
  driver.negotiate(0, 1);
  const q = new RawRing(host, 4096, 0x2_0000, 0x2_0000 + 16 * 4096, 0x2_0000 + 18 * 4096 + 8);
  for (let i = 0; i < 4096; i++) q.describe(i, 0, 0x10_0001, i < 4095 ? NEXT : 0, i + 1);
  driver.queue(0, q);
  driver.driverOk();
  q.offer(0);
  driver.notify(0);
  assert.is(q.usedIdx, 1);
  assert.equal(host.reports, []);
});

test("VIO-192 rings and buffers across windows are read and written piece by piece", () => {
  // Ring parts lie across the border at 0x10000, buffers across the one at 0x20000, which belong to three windows.
  const windows = [
    { base: 0, size: 0x1_0000 },
    { base: 0x1_0000, size: 0x1_0000 },
    { base: 0x2_0000, size: 0x1_0000 },
  ];
  for (const border of ["desc", "avail", "used", "none"]) {
    const { host, toy, driver, q, broken } = rig({
      windows,
      features: INDIRECT,
      ring: (h, n) => {
        const desc = border === "desc" ? 0xffe0 : 0x4000;
        const avail = border === "avail" ? 0xfffe : 0x5000;
        const used = border === "used" ? 0xfff8 : 0x6000;
        return new RawRing(h, n, desc, avail, used);
      },
    });
    host.put(0x1_fffe, [1, 2, 3, 4]);
    q.describe(0, 0x1_fffe, 4, NEXT, 3);
    q.describe(3, 0x1_ff00, 0x300, WRITE);
    // A table across a border, too.
    q.describe(5, 0x1_fff0, 32, INDIRECT_DESC);
    q.offer(0);
    driver.notify(0);
    assert.equal(toy.seen, [{ head: 0, readable: [1, 2, 3, 4], writable: 0x300 }], border);
    assert.ok(host.bytesAt(0x1_ff00, 0x300).every((b) => b === 0x5a));
    assert.is(host.byte(0x1_feff), 0);
    assert.is(host.byte(0x2_0200), 0);
    q.describe(0, 0x100, 2, NEXT, 1, 0x1_fff0);
    q.describe(1, 0x200, 2, WRITE, 0, 0x1_fff0);
    q.offer(5);
    driver.notify(0);
    assert.equal([q.usedIdx, q.entry(0), q.entry(1)], [2, [0, 0x300], [5, 2]]);
    assert.not(broken());
    assert.ok(host.guardsIntact());
  }
});

test("VIO-193 DMA to RAM below 1 MiB reaches it wherever the CPU sees a ROM", () => {
  const { host, driver, q } = rig();
  q.describe(0, 0xe_0000, 16, WRITE);
  q.offer(0);
  driver.notify(0);
  assert.equal(host.bytesAt(0xe_0000, 16), new Array(16).fill(0x5a));
});

test("VIO-195 without EVENT_IDX an interrupt comes exactly when NO_INTERRUPT is 0", () => {
  const { host, driver, q } = rig();
  q.describe(0, BUFFERS, 1, WRITE);
  for (const [flags, isr] of [
    [0, 1],
    [1, 0],
    [0, 1],
    [0xfffe, 1],
  ] as const) {
    q.availFlags = flags;
    q.offer(0);
    driver.notify(0);
    assert.is(host.intx, isr === 1);
    assert.is(driver.read(0x1000, 1), isr, `flags ${flags}`);
  }
});

test("VIO-196 VIO-199 with EVENT_IDX the flag counts for nothing and used_event decides", () => {
  const { driver, q } = rig({ features: EVENT_IDX });
  q.describe(0, BUFFERS, 1, WRITE);
  const step = (flags: number, usedEvent: number): number => {
    q.availFlags = flags;
    q.usedEvent = usedEvent;
    q.offer(0);
    driver.notify(0);
    return driver.read(0x1000, 1);
  };
  assert.is(step(1, 0), 1, "the first completion interrupts although the flag says no");
  const other = rig({ features: EVENT_IDX });
  other.q.describe(0, BUFFERS, 1, WRITE);
  other.q.usedEvent = 100;
  other.q.offer(0);
  other.driver.notify(0);
  assert.is(other.driver.read(0x1000, 1), 1, "nothing was signalled yet: the first one always is");
  assert.is(step(0, 0), 0, "used_event was passed already");
  assert.is(step(0, 5), 0);
  assert.is(step(0, 3), 1, "index 3 to 4 passes 3");
  assert.is(step(1, 4), 1);
  assert.is(step(1, 0xffff), 0);
});

test("VIO-197 need_event has the truth table of the standard", () => {
  for (const [event, old, next, result] of [
    [0, 0, 1, true],
    [1, 0, 1, false],
    [5, 3, 6, true],
    [6, 3, 6, false],
    [0xffff, 0xfffe, 0, true],
    [0xffff, 0xffff, 0, true],
    [0, 0xffff, 0, false],
    [3, 7, 7, false],
  ] as const)
    assert.is(virtqNeedEvent(event, next, old), result, `event ${event} old ${old} new ${next}`);
});

test("VIO-198 one evaluation per batch, from the index at the last one", () => {
  const { host, driver, q } = rig({ features: EVENT_IDX });
  q.describe(0, BUFFERS, 1, WRITE);
  const batch = (chains: number): number => {
    for (let i = 0; i < chains; i++) q.offer(0);
    const before = host.rises;
    driver.notify(0);
    driver.read(0x1000, 1);
    return host.rises - before;
  };
  assert.is(batch(1), 1);
  q.usedEvent = 4; // inside the next batch: 1 → 8
  assert.is(batch(7), 1);
  assert.is(batch(3), 0, "8 → 11 does not pass 4 again");
  q.usedEvent = 13;
  assert.is(batch(2), 0, "11 → 13 ends at 13 and has not passed it");
  assert.is(batch(1), 1);
});

test("VIO-200 VIO-201 with EVENT_IDX flags stay 0 and avail_event follows after draining", () => {
  const { host, toy, driver, q } = rig({ features: EVENT_IDX });
  q.describe(0, BUFFERS, 1, WRITE);
  const flags: number[] = [];
  toy.onChain = () => flags.push(q.usedFlags, q.availEvent);
  for (let i = 0; i < 3; i++) q.offer(0);
  driver.notify(0);
  assert.equal(flags, [0, 0, 0, 0, 0, 0]);
  assert.is(q.availEvent, 3);
  assert.is(q.usedFlags, 0);
  assert.ok(host.guardsIntact());
});

test("VIO-202 NO_NOTIFY stands while the device works, and is taken back after draining", () => {
  const { toy, driver, q } = rig();
  q.describe(0, BUFFERS, 1, WRITE);
  const flags: number[] = [];
  toy.onChain = () => flags.push(q.usedFlags);
  q.offer(0);
  q.offer(0);
  driver.notify(0);
  assert.equal(flags, [1, 1]);
  assert.is(q.usedFlags, 0);
});

test("VIO-203 a chain published between draining and re-arming is served without a notification", () => {
  for (const features of [0, EVENT_IDX]) {
    const { host, toy, driver, q } = rig({ features });
    let late = 1;
    host.watchViews((address, _width, value) => {
      // The device is through with the ring when it re-arms; right then another chain appears.
      const rearms = features === 0 ? address === q.used && value === 0 : address === q.used + 4 + 8 * q.size;
      if (rearms && late-- > 0) q.offer(0);
    });
    q.describe(0, BUFFERS, 1, WRITE);
    q.offer(0);
    driver.notify(0);
    assert.is(toy.seen.length, 2);
    assert.is(q.usedIdx, 2);
  }
});

test("VIO-205 a ring that is not enabled is neither read nor written", () => {
  const { host, driver } = rig({ start: false });
  driver.driverOk();
  const before = host.bytesAt(0, 0x4000);
  driver.notify(1);
  driver.notify(2);
  assert.equal(host.bytesAt(0, 0x4000), before);
  assert.equal(host.reports, ["notify-no-queue"]);
});

test("VIO-207 a descriptor is read once: what the driver changes afterwards does not matter", () => {
  const { host, toy, driver, q } = rig();
  q.describe(0, BUFFERS, 4, WRITE);
  q.offer(0);
  const { chain } = toy;
  const queue = toy.bus?.queue(0);
  assert.ok(queue?.begin());
  chain.clear();
  assert.ok(queue?.take(chain));
  q.describe(0, 0x1f_fff0, 0x4000, WRITE);
  if (toy.bus !== null) chain.writable.copyIn(toy.bus.seams.dma, 0, 4, Uint8Array.of(1, 2, 3, 4), 0);
  assert.equal(host.bytesAt(BUFFERS, 5), [1, 2, 3, 4, 0]);
  assert.is(chain.writable.total, 4);
  driver.notify(0);
});

test("VIO-128 VIO-126 after a fault everything is ignored until reset, which recovers", () => {
  const { host, toy, driver, q, broken } = rig();
  q.offer(16);
  driver.notify(0);
  assert.ok(broken());
  assert.ok(host.intx, "a configuration change is notified");
  assert.is(driver.read(0x1000, 1), 2);
  host.set(q.avail + 4, 2, 0);
  q.describe(0, BUFFERS, 1, WRITE);
  driver.notify(0);
  assert.is(toy.seen.length, 0);
  assert.is(driver.negotiate(0, 1), 0x0b);
  q.availIdx = 0;
  driver.queue(0, q);
  driver.driverOk();
  q.offer(0);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
  assert.not(broken());
});

test("VIO-094 misaligned areas and areas outside RAM make the queue unusable, not the host", () => {
  const places: [desc: number, avail: number, used: number, code: string][] = [
    [0x1_0008, 0x2_0000, 0x3_0000, "ring-misaligned"],
    [0x1_0000, 0x2_0001, 0x3_0000, "ring-misaligned"],
    [0x1_0000, 0x2_0000, 0x3_0002, "ring-misaligned"],
    [0x1f_fff0, 0x2_0000, 0x3_0000, "ring-outside-memory"],
    [0x1_0000, 0x1f_fffe, 0x3_0000, "ring-outside-memory"],
    [0x1_0000, 0x2_0000, 0x1f_fffc, "ring-outside-memory"],
    [0x1_0000, 0x2_0000, 2 ** 52, "ring-outside-memory"],
    [2 ** 63, 0x2_0000, 0x3_0000, "ring-outside-memory"],
  ];
  for (const [desc, avail, used, code] of places) {
    const { host, driver, q, toy } = rig({ start: false, ring: (h, n) => new RawRing(h, n, desc, avail, used) });
    assert.equal(host.reports, [code]);
    driver.driverOk();
    driver.notify(0);
    assert.is(toy.seen.length, 0);
    assert.is(driver.read(0x1c, 2), 1);
    assert.ok(host.guardsIntact());
    assert.ok(q.size === 16);
  }
});

test("a used ring in memory that cannot be written is outside memory", () => {
  const { host, driver, q } = rig({ start: false });
  const [whole] = host.memory.windows;
  assert.ok(whole);
  host.memory.replace([
    { base: 0, bytes: whole!.bytes.subarray(0, 0x1_0000) },
    { base: 0x1_0000, bytes: whole!.bytes.subarray(0x1_0000, 0x2_0000), writable: false },
  ]);
  driver.driverOk();
  assert.equal(host.reports, ["ring-outside-memory"]);
  assert.ok(q.used > 0x1_0000);
});

test("a ring keeps working when its memory moves, and stops when it goes", () => {
  const { host, toy, driver, q, broken } = rig();
  q.describe(0, BUFFERS, 1, WRITE);
  q.offer(0);
  driver.notify(0);
  const [whole] = host.memory.windows;
  const copy = Uint8Array.from(whole!.bytes);
  host.memory.replace([{ base: 0, bytes: copy }]);
  copy[q.avail + 2] = 2; // idx
  driver.notify(0);
  assert.is(toy.seen.length, 2);
  assert.is(copy[q.used + 2], 2);
  assert.is(q.usedIdx, 1, "the old memory was left alone");
  host.memory.replace([{ base: 0x10_0000, bytes: copy }]);
  driver.notify(0);
  assert.ok(broken());
});

test("bytes written are reported to the host once per batch, rings and buffers", () => {
  const { host, driver, q } = rig();
  q.describe(0, BUFFERS, 16, WRITE);
  q.offer(0);
  host.written.length = 0;
  driver.notify(0);
  const covered = (at: number): boolean => host.written.some(([start, end]) => at >= start && at < end);
  assert.ok(covered(BUFFERS) && covered(BUFFERS + 15));
  assert.ok(covered(q.used + 2) && covered(q.used + 4) && covered(q.used + 11));
  assert.not(covered(BUFFERS + 0x1_0000));
});

test("without EVENT_IDX a ring may end where its event words would be", () => {
  const top = 0x20_0000;
  const near = (h: TestHost, n: number) => new RawRing(h, n, 0x1_0000, top - (4 + 2 * n), 0x3_0000);
  const fits = rig({ ring: near });
  fits.q.describe(0, BUFFERS, 1, WRITE);
  fits.q.offer(0);
  fits.driver.notify(0);
  assert.is(fits.q.usedIdx, 1);
  assert.equal(rig({ ring: near, features: EVENT_IDX }).host.reports, ["ring-outside-memory"]);
});

test("an entry is not opened into a queue that is disabled, broken, or behind a shut door", () => {
  const { toy, slot } = rig();
  const { bus } = toy;
  assert.ok(bus?.queue(0).begin());
  assert.not(bus?.queue(1).begin(), "never enabled");
  slot.configWrite(0x04, 2, 0x0003);
  assert.not(bus?.queue(0).begin(), "no Bus Master");
  const bad = rig({ ring: (host, size) => new RawRing(host, size, 0x1_0008) });
  assert.not(bad.toy.bus?.queue(0).begin(), "misaligned");
});

test("VIO-206 random rings never throw, hang or touch anything outside guest memory", () => {
  const descriptor = fc.record({
    address: fc.oneof(fc.integer({ min: 0, max: 0x1_ffff }), fc.constantFrom(0xffff_fff0, 0x1_0000_0000, 2 ** 52)),
    length: fc.oneof(fc.nat(0x200), fc.constantFrom(0, 16, 32, 0x1_0000, 0xffff_ffff)),
    flags: fc.nat(7),
    next: fc.oneof(fc.nat(7), fc.nat(0xffff)),
  });
  const scenario = fc.record({
    features: fc.constantFrom(0, INDIRECT, EVENT_IDX, INDIRECT | EVENT_IDX),
    table: fc.array(descriptor, { minLength: 8, maxLength: 8 }),
    heads: fc.array(fc.oneof(fc.nat(7), fc.nat(0xffff)), { minLength: 1, maxLength: 8 }),
    jump: fc.oneof(fc.nat(8), fc.nat(0xffff)),
  });
  fc.assert(
    fc.property(fc.array(scenario, { minLength: 1, maxLength: 4 }), (scenarios) => {
      const host = new TestHost([
        { base: 0, size: 0x1_0000 },
        { base: 0x1_0000, size: 0x8000 },
      ]);
      const toy = new ToyDevice([8, 8, 4]);
      const driver = new RawDriver(new VirtioPciFunction(toy, { personality: "modern" }), host);
      for (const { features, table, heads, jump } of scenarios) {
        driver.negotiate(features, 1);
        const q = new RawRing(host, 8, 0x1000, 0x1100, 0x1200);
        host.put(0x1000, new Uint8Array(0x300));
        driver.queue(0, q);
        for (const [i, d] of table.entries()) {
          q.describe(i, d.address, d.length, d.flags, d.next);
          q.describe(i, d.address, d.length, d.flags & 3, d.next, 0x2000);
        }
        for (const head of heads) q.offer(head);
        driver.driverOk();
        q.availIdx = (q.availIdx + jump) & 0xffff;
        driver.notify(0);
        assert.ok(host.guardsIntact());
      }
    }),
    { numRuns: 300 },
  );
});

test.run();
