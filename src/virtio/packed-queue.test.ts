import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import type { VirtioPciOptions } from "./pci-transport.js";
import { VirtioPciFunction } from "./pci-transport.js";
import { RawDriver, RawPackedRing, RawRing, TestHost, ToyDevice } from "./testing.js";

const INDIRECT = 0x1000_0000; // bit 28
const EVENT_IDX = 0x2000_0000; // bit 29
const PACKED = 4; // bit 34, in the second word
const IN_ORDER = 8; // bit 35
const VERSION_1 = 1;
const NEXT = 1;
const WRITE = 2;
const TABLE = 4; // INDIRECT in a descriptor
const AVAIL = 0x80;
const USED = 0x8000;
const RING = 0x1_0000;
const BUFFERS = 0x10_0000;
const OTHER = 0x3_0000;

interface RigOptions {
  readonly features?: number;
  readonly hi?: number;
  readonly size?: number;
  /** of the declared queues */
  readonly maxSize?: number;
  readonly windows?: readonly { base: number; size: number }[];
  readonly ring?: (host: TestHost, size: number) => RawPackedRing;
  readonly start?: boolean;
  readonly options?: VirtioPciOptions;
}

/** A modern toy device with queue 0 packed, set up and running. */
const rig = ({ features = 0, hi = 0, size = 8, maxSize, windows, ring, start = true, options }: RigOptions = {}) => {
  const host = new TestHost(windows);
  const most = maxSize ?? 2 ** Math.ceil(Math.log2(size));
  const toy = new ToyDevice([most, most, 4]);
  const slot = new VirtioPciFunction(toy, { personality: "modern", packed: true, inOrder: true, ...options });
  const driver = new RawDriver(slot, host);
  assert.is(driver.negotiate(features, VERSION_1 | PACKED | hi), 0x0b);
  const q = ring?.(host, size) ?? new RawPackedRing(host, size, RING);
  driver.queue(0, q);
  if (start) driver.driverOk();
  const broken = () => (driver.read(0x14, 1) & 0x40) !== 0;
  return { host, toy, slot, driver, q, broken };
};

/** The second queue, whose chains the test takes and gives back by hand. */
const byHand = (options: RigOptions = {}) => {
  const r = rig({ ...options, start: false });
  const q = new RawPackedRing(r.host, options.size ?? 8, 0x4_0000);
  r.driver.queue(1, q);
  r.driver.driverOk();
  const queue = r.toy.bus!.queue(1);
  assert.ok(queue.begin());
  const { chain } = r.toy;
  /** @returns what `push` wants to have, or −1 */
  const take = (): number => {
    chain.clear();
    return queue.take(chain) ? chain.heads[0]! : -1;
  };
  return { ...r, q, queue, chain, take };
};

/** A ring that must be refused: NEEDS_RESET, the reason, nothing used, and bytes beside RAM as they were. */
const refused = (code: string, prepare: (r: ReturnType<typeof rig>) => void, options: RigOptions = {}): void => {
  const r = rig(options);
  prepare(r);
  const before = r.host.bytesAt(r.q.desc, 16 * r.q.size);
  r.driver.notify(0);
  assert.ok(r.broken(), "NEEDS_RESET");
  assert.equal(r.host.reports, [code]);
  assert.equal(r.host.bytesAt(r.q.desc, 16 * r.q.size), before, "nothing was used");
  assert.is(r.toy.seen.length, 0);
  r.driver.notify(0);
  assert.equal(r.host.reports, [code], "told once");
  assert.ok(r.host.guardsIntact());
};

test("packed rings are offered by option only, and by the modern interface only", () => {
  for (const [personality, packed, word] of [
    ["modern", false, 1],
    ["modern", true, 5],
    ["transitional", true, 5],
    ["transitional", false, 1],
  ] as const) {
    const driver = new RawDriver(new VirtioPciFunction(new ToyDevice(), { personality, packed }), new TestHost());
    driver.write(0x00, 4, 1);
    assert.is(driver.read(0x04, 4), word);
  }
  assert.throws(
    () => new VirtioPciFunction(new ToyDevice(), { personality: "legacy", packed: true }),
    (error: unknown) => error instanceof ConfigError && error.code === "virtio-personality",
  );
});

test("VIO-208 VIO-209 a slot is available when AVAIL is the wrap counter and USED is not; the first lap counts as 1", () => {
  for (const [lap, flags, served] of [
    [1, 0, false],
    [1, AVAIL, true],
    [1, USED, false],
    [1, AVAIL | USED, false],
    [2, 0, false],
    [2, AVAIL, false],
    [2, USED, true],
    [2, AVAIL | USED, false],
  ] as const) {
    const { driver, toy, q, broken } = rig({ size: 1 });
    if (lap === 2) {
      q.offer(0, [BUFFERS, 1, 0]);
      driver.notify(0);
    }
    q.describe(0, BUFFERS, 1, flags, 3);
    driver.notify(0);
    assert.is(toy.seen.length, (served ? 1 : 0) + lap - 1, `lap ${lap} flags ${flags.toString(16)}`);
    assert.not(broken());
  }
});

test("VIO-210 VIO-084 rings of any size up to the maximum work, also when they are full", () => {
  for (const size of [1, 2, 3, 5, 7, 100, 255, 32767, 32768]) {
    const { driver, toy, q } = rig({ size, maxSize: 32768, ring: (host, n) => new RawPackedRing(host, n, 0x2_0000) });
    assert.is(driver.read(0x18, 2), size);
    const laps = size < 1000 ? 3 : 1;
    for (let lap = 0; lap < laps; lap++) {
      for (let i = 0; i < size; i++) q.offer(i, [0x1000, 1, 0]);
      driver.notify(0);
      assert.is(toy.seen.length, size * (lap + 1));
      const flags = lap % 2 === 0 ? AVAIL | USED : 0;
      assert.equal(q.slot(0), [0, 0, flags]);
      assert.equal(q.slot(size - 1), [size - 1, 0, flags]);
    }
  }
  const { driver } = rig({ size: 8 });
  driver.write(0x16, 2, 1);
  for (const size of [0, 9, 0xffff]) {
    driver.write(0x18, 2, size);
    assert.is(driver.read(0x18, 2), 8, "out of range");
  }
});

test("VIO-211 VIO-212 VIO-214 a list goes on at the start of the ring; its id is the last one's, its place counts all its slots", () => {
  const { host, driver, toy, q } = rig({ size: 5 });
  host.put(BUFFERS, [1, 2, 3]);
  q.offer(9, [BUFFERS, 1, 0], [BUFFERS, 1, 0], [BUFFERS, 1, 0]);
  driver.notify(0);
  assert.equal(q.slot(0), [9, 0, AVAIL | USED]);
  assert.is(q.offer(0x1234, [BUFFERS, 1, 0], [BUFFERS + 1, 2, 0], [BUFFERS + 16, 6, WRITE]), 3);
  assert.is(q.at, 1);
  driver.notify(0);
  assert.equal(toy.seen[1]?.readable, [1, 2, 3]);
  assert.is(toy.seen[1]?.writable, 6);
  assert.equal(q.slot(3), [0x1234, 6, AVAIL | USED | WRITE]);
  assert.is(q.offer(2, [BUFFERS, 1, 0]), 1);
  driver.notify(0);
  assert.equal(q.slot(1), [2, 0, 0], "the second lap's flags, three slots further on");
});

test("VIO-213 VIO-216 a used descriptor has id, length, both flags as the wrap counter, and WRITE when it has a length", () => {
  const { driver, q } = rig({ size: 2 });
  const results = [];
  for (let i = 0; i < 4; i++) {
    const at = q.offer(100 + i, [BUFFERS, 4, 0], [BUFFERS + 8, i % 2 === 0 ? 16 : 0, WRITE]);
    driver.notify(0);
    results.push(q.slot(at));
  }
  assert.equal(results, [
    [100, 16, 0x8082],
    [101, 0, 0x0000],
    [102, 16, 0x8082],
    [103, 0, 0x0000],
  ]);
});

test("VIO-215 flags of a used descriptor are written after id and length", () => {
  const { host, driver, q } = rig();
  const writes: number[] = [];
  host.watchViews((address) => writes.push(address - q.desc));
  q.offer(1, [BUFFERS, 4, WRITE]);
  q.offer(2, [BUFFERS, 4, WRITE]);
  driver.notify(0);
  for (const slot of [0, 16]) {
    const [len, id, flags] = [8, 12, 14].map((at) => writes.indexOf(slot + at));
    assert.ok(len! >= 0 && id! >= 0 && flags! > Math.max(len!, id!), `${writes}`);
  }
});

test("VIO-217 the entries of a table are taken in their order, whatever else stands in them", () => {
  for (const n of [1, 2, 8, 64]) {
    const { host, driver, toy, q } = rig({ features: INDIRECT });
    for (let i = 0; i < n; i++) {
      host.setByte(BUFFERS + i, i);
      // NEXT, AVAIL, USED and id are reserved in a table
      q.describe(i, BUFFERS + i, 1, i % 2 === 0 ? NEXT | AVAIL : USED, 3, OTHER);
    }
    q.describe(n, BUFFERS + 0x100, 5, WRITE, 0, OTHER);
    q.offer(17, [OTHER, 16 * (n + 1), TABLE | WRITE]);
    driver.notify(0);
    assert.equal(
      toy.seen[0]?.readable,
      Array.from({ length: n }, (_, i) => i),
    );
    assert.is(toy.seen[0]?.writable, 5);
    assert.equal(q.slot(0), [17, 5, AVAIL | USED | WRITE]);
    assert.is(q.offer(18, [BUFFERS, 1, 0]), 1, "a table takes one slot");
    driver.notify(0);
    assert.is(q.slot(1)[0], 18);
  }
});

test("VIO-218 tables of 0, 8 and 17 bytes are refused", () => {
  for (const length of [0, 8, 17])
    refused("indirect-length", ({ q }) => q.offer(0, [OTHER, length, TABLE]), { features: INDIRECT });
});

test("VIO-219 a table that goes on, or at the end of a list, is refused", () => {
  const features = { features: INDIRECT };
  refused("indirect-with-next", ({ q }) => q.offer(0, [OTHER, 16, TABLE], [BUFFERS, 1, 0]), features);
  refused("indirect-with-next", ({ q }) => q.offer(0, [BUFFERS, 1, 0], [OTHER, 16, TABLE]), features);
});

test("tables in tables, without the feature, or outside memory are refused", () => {
  const features = { features: INDIRECT };
  refused(
    "indirect-nested",
    ({ q }) => {
      q.describe(0, OTHER + 0x100, 16, TABLE, 0, OTHER);
      q.offer(0, [OTHER, 16, TABLE]);
    },
    features,
  );
  refused("indirect-not-negotiated", ({ q }) => q.offer(0, [OTHER, 16, TABLE]));
  refused("indirect-outside-memory", ({ q }) => q.offer(0, [0x1f_fff8, 16, TABLE]), features);
});

test("VIO-220 lists are begun in the order of the ring", () => {
  const { driver, toy, q } = rig({ size: 7 });
  const ids = [5, 3, 6, 0, 1];
  for (let round = 0; round < 3; round++) {
    for (const id of ids) q.offer(id, [BUFFERS, 1, 0]);
    driver.notify(0);
  }
  assert.equal(
    toy.seen.map(({ head }) => head & 0xffff),
    [...ids, ...ids, ...ids],
  );
});

test("VIO-221 used descriptors of lists that end out of order stand one behind the other", () => {
  const { q, queue, take } = byHand({ size: 8 });
  q.offer(10, [BUFFERS, 1, 0], [BUFFERS, 1, 0]);
  q.offer(11, [BUFFERS, 1, 0], [BUFFERS, 1, 0], [BUFFERS, 1, WRITE]);
  q.offer(12, [BUFFERS, 9, WRITE]);
  const [a, b, c] = [take(), take(), take()];
  assert.is(take(), -1);
  const untouched = q.slot(4);
  queue.push(c!, 9);
  queue.push(a!, 0);
  queue.push(b!, 1);
  queue.publish();
  assert.equal(
    [0, 1, 3].map((i) => q.slot(i)),
    [
      [12, 9, AVAIL | USED | WRITE],
      [10, 0, AVAIL | USED],
      [11, 1, AVAIL | USED | WRITE],
    ],
  );
  assert.equal(q.slot(4), untouched);
  q.offer(13, [BUFFERS, 1, 0]);
  queue.push(take(), 0);
  queue.publish();
  assert.equal(q.slot(6), [13, 0, AVAIL | USED]);
});

test("VIO-222 the driver's event flags: 0 and 3 always, 1 never, 2 at a descriptor with EVENT_IDX and always without", () => {
  for (const [features, flags, expected] of [
    [0, 0, [1, 1, 1]],
    [0, 1, [0, 0, 0]],
    [0, 2, [1, 1, 1]],
    [0, 3, [1, 1, 1]],
    [EVENT_IDX, 0, [1, 1, 1]],
    [EVENT_IDX, 1, [0, 0, 0]],
    [EVENT_IDX, 2, [0, 1, 0]],
    [EVENT_IDX, 3, [1, 1, 1]],
    [EVENT_IDX, 0xfffc, [1, 1, 1]],
  ] as const) {
    const { driver, q } = rig({ features });
    q.driverEvent(1, 1, flags);
    const got = expected.map(() => {
      q.offer(0, [BUFFERS, 1, WRITE]);
      driver.notify(0);
      return driver.read(0x1000, 1);
    });
    assert.equal(got, expected, `features ${features.toString(16)} flags ${flags}`);
  }
});

test("an event at a descriptor beyond the ring is taken for always", () => {
  const { driver, q } = rig({ features: EVENT_IDX, size: 6 });
  q.driverEvent(6, 1, 2);
  q.offer(0, [BUFFERS, 1, WRITE]);
  driver.notify(0);
  assert.is(driver.read(0x1000, 1), 1);
});

test("VIO-223 an event is passed by a batch that covers its descriptor in its lap, as the 16-bit arithmetic has it", () => {
  // Linux's vring_packed_need_event: the event is moved back by a lap when its wrap counter is not that of the new position.
  const needed = (size: number, off: number, wrap: number, oldAt: number, newAt: number, newWrap: number): boolean => {
    const event = wrap === newWrap ? off : off - size;
    const old = newAt <= oldAt ? oldAt - size : oldAt;
    return ((newAt - event - 1) & 0xffff) < ((newAt - old) & 0xffff);
  };
  for (const size of [3, 4, 5])
    for (let before = 0; before < 2 * size; before++)
      for (let batch = 1; batch <= size; batch++)
        for (let off = 0; off < size; off++)
          for (const wrap of [0, 1] as const) {
            const { driver, q } = rig({ features: EVENT_IDX, size });
            q.driverEvent(0, 0, 1);
            for (let i = 0; i < before; i++) {
              q.offer(0, [BUFFERS, 1, WRITE]);
              driver.notify(0);
            }
            q.driverEvent(off, wrap, 2);
            for (let i = 0; i < batch; i++) q.offer(i, [BUFFERS, 1, WRITE]);
            driver.notify(0);
            const end = before + batch;
            const expected = needed(
              size,
              off,
              wrap,
              before % size,
              end % size,
              Math.floor(end / size) % 2 === 0 ? 1 : 0,
            );
            assert.is(
              driver.read(0x1000, 1) === 1,
              expected,
              `size ${size}: ${before} and ${batch} more, event ${off}/${wrap}`,
            );
          }
});

test("VIO-224 the device's event is written offset first, flags last, and follows the ring with its wrap counter", () => {
  const { host, driver, q } = rig({ features: EVENT_IDX, size: 3, start: false });
  const writes: [number, number][] = [];
  host.watchViews((address, _width, value) => {
    if (address >= q.used && address < q.used + 4) writes.push([address - q.used, value]);
  });
  driver.driverOk();
  const seen = [];
  for (let i = 0; i < 4; i++) {
    q.offer(0, [BUFFERS, 1, 0]);
    driver.notify(0);
    seen.push(q.deviceEvent);
  }
  assert.equal(writes.slice(0, 2), [
    [0, 0x8000],
    [2, 2],
  ]);
  assert.equal(seen, [
    [1, 1, 2],
    [2, 1, 2],
    [0, 0, 2],
    [1, 0, 2],
  ]);
});

test("VIO-222 notifications are off while the device works, and on when it is through, with and without EVENT_IDX", () => {
  for (const [features, on] of [
    [0, 0],
    [EVENT_IDX, 2],
  ] as const) {
    const { toy, driver, q } = rig({ features });
    const flags: number[] = [];
    toy.onChain = () => flags.push(q.deviceEvent[2]);
    q.offer(0, [BUFFERS, 1, 0]);
    q.offer(1, [BUFFERS, 1, 0]);
    driver.notify(0);
    assert.equal(flags, [1, 1]);
    assert.is(q.deviceEvent[2], on);
  }
});

test("a list made available between draining and re-arming is served without a notification", () => {
  for (const features of [0, EVENT_IDX]) {
    const { host, toy, driver, q } = rig({ features });
    let late = 1;
    host.watchViews((address, _width, value) => {
      const rearms = features === 0 ? address === q.used + 2 && value === 0 : address === q.used;
      if (rearms && late-- > 0) q.offer(1, [BUFFERS, 1, 0]);
    });
    q.offer(0, [BUFFERS, 1, 0]);
    driver.notify(0);
    assert.is(toy.seen.length, 2);
    assert.equal(q.slot(1), [1, 0, AVAIL | USED]);
  }
});

test("VIO-225 of several buffers published together the first one's flags are written last", () => {
  const { host, q, queue, take } = byHand({ size: 4 });
  q.offer(0, [BUFFERS, 1, 0], [BUFFERS, 1, 0]);
  queue.push(take(), 0);
  queue.publish();
  for (const id of [1, 2, 3]) q.offer(id, [BUFFERS, 8, WRITE]);
  const handles = [take(), take(), take()];
  const writes: number[] = [];
  host.watchViews((address) => writes.push((address - q.desc) / 2));
  for (const handle of handles) queue.push(handle, 8);
  assert.equal(q.slot(2), [1, 8, AVAIL | WRITE], "not used yet, as the driver sees it");
  queue.publish();
  const flags = [2, 3, 0].map((slot) => writes.indexOf(8 * slot + 7));
  assert.ok(flags[0]! > flags[1]! && flags[0]! > flags[2]! && flags[2]! >= 0, `${flags}`);
  assert.is(writes.at(-1), 8 * 2 + 7);
  assert.equal(
    [2, 3, 0].map((i) => q.slot(i)),
    [
      [1, 8, AVAIL | USED | WRITE],
      [2, 8, AVAIL | USED | WRITE],
      [3, 8, WRITE],
    ],
  );
});

test("VIO-226 with IN_ORDER a batch of readable buffers is used by one descriptor with the last id", () => {
  const { driver, q } = rig({ hi: IN_ORDER, size: 8 });
  q.offer(3, [BUFFERS, 1, 0]);
  q.offer(4, [BUFFERS, 1, 0], [BUFFERS, 1, 0]);
  q.offer(5, [BUFFERS, 1, 0]);
  const skipped = [1, 2, 3].map((i) => q.slot(i));
  driver.notify(0);
  assert.equal(q.slot(0), [5, 0, AVAIL | USED]);
  assert.equal(
    [1, 2, 3].map((i) => q.slot(i)),
    skipped,
  );
  // Of buffers with a length only the last of a batch can be told: they end it.
  q.offer(6, [BUFFERS, 1, 0]);
  q.offer(7, [BUFFERS, 5, WRITE]);
  q.offer(8, [BUFFERS, 6, WRITE]);
  q.offer(9, [BUFFERS, 1, 0]);
  driver.notify(0);
  assert.equal(
    [4, 6, 7].map((i) => q.slot(i)),
    [
      [7, 5, AVAIL | USED | WRITE],
      [8, 6, AVAIL | USED | WRITE],
      [9, 0, AVAIL | USED],
    ],
  );
  // A buffer that could have been written to is told even when nothing was.
  const hand = byHand({ hi: IN_ORDER });
  hand.q.offer(1, [BUFFERS, 5, WRITE]);
  hand.q.offer(2, [BUFFERS, 5, WRITE]);
  const handles = [hand.take(), hand.take()];
  for (const handle of handles) hand.queue.push(handle, 0);
  hand.queue.publish();
  assert.equal(
    [0, 1].map((i) => hand.q.slot(i)),
    [
      [1, 0, AVAIL | USED],
      [2, 0, AVAIL | USED],
    ],
  );
});

test("VIO-204 with IN_ORDER a batch in a split ring has one used entry with the last head, where the first would be", () => {
  const host = new TestHost();
  const toy = new ToyDevice([8, 8, 4]);
  const driver = new RawDriver(new VirtioPciFunction(toy, { personality: "modern", inOrder: true }), host);
  assert.is(driver.negotiate(0, VERSION_1 | IN_ORDER), 0x0b);
  const q = new RawRing(host, 8, RING);
  driver.queue(0, q);
  driver.driverOk();
  for (const head of [0, 1, 2]) {
    q.describe(head, BUFFERS, 1, 0);
    q.offer(head);
  }
  driver.notify(0);
  assert.is(q.usedIdx, 3);
  assert.equal(
    [q.entry(0), q.entry(1), q.entry(2)],
    [
      [2, 0],
      [0, 0],
      [0, 0],
    ],
  );
  q.describe(3, BUFFERS, 1, 0);
  q.describe(4, BUFFERS, 5, WRITE);
  q.describe(5, BUFFERS, 6, WRITE);
  for (const head of [3, 4, 5]) q.offer(head);
  driver.notify(0);
  assert.is(q.usedIdx, 6);
  assert.equal(
    [q.entry(3), q.entry(4), q.entry(5)],
    [
      [4, 5],
      [0, 0],
      [5, 6],
    ],
  );
});

test("VIO-227 more slots in flight than the ring has are refused", () => {
  const { host, toy, q, take, queue, broken } = byHand({ size: 4 });
  for (const id of [0, 1, 2, 3]) q.offer(id, [BUFFERS, 1, 0]);
  for (let i = 0; i < 4; i++) assert.ok(take() >= 0);
  q.offer(4, [BUFFERS, 1, 0]); // the slot of the first one, which was not given back
  assert.is(take(), -1);
  toy.bus?.checkQueue(queue);
  assert.ok(broken());
  assert.equal(host.reports, ["ring-oversubscribed"]);

  const part = byHand({ size: 4 });
  part.q.offer(0, [BUFFERS, 1, 0]);
  part.q.offer(1, [BUFFERS, 1, 0]);
  assert.ok(part.take() >= 0 && part.take() >= 0);
  part.q.offer(2, [BUFFERS, 1, 0], [BUFFERS, 1, 0], [BUFFERS, 1, 0]); // two would fit
  assert.is(part.take(), -1);
  assert.is(part.queue.broken, "ring-oversubscribed");

  const whole = byHand({ size: 4 });
  whole.q.offer(0, [BUFFERS, 1, 0]);
  assert.ok(whole.take() >= 0);
  whole.q.offer(1, ...Array.from({ length: 4 }, () => [BUFFERS, 1, 0] as const)); // as long as the ring, and one is out
  assert.is(whole.take(), -1);
  assert.is(whole.queue.broken, "ring-oversubscribed");
});

test("a list longer than the ring, or that is not all there, is refused", () => {
  refused("chain-too-long", ({ q }) => {
    for (let i = 0; i < 8; i++) q.describe(i, BUFFERS, 1, AVAIL | NEXT, 0);
  });
  refused("list-not-available", ({ q }) => {
    q.describe(0, BUFFERS, 1, AVAIL | NEXT, 0);
    q.describe(1, BUFFERS, 1, USED, 0);
  });
  refused("list-not-available", ({ q }) => {
    q.describe(0, BUFFERS, 1, AVAIL | NEXT, 0); // and then nothing
  });
  const { driver, toy, q } = rig();
  q.offer(1, ...Array.from({ length: 8 }, (_, i) => [BUFFERS + i, 1, WRITE] as const));
  driver.notify(0);
  assert.is(toy.seen[0]?.writable, 8, "exactly the ring's size is fine");
});

test("readable behind writable, buffers outside memory, wrapped or too large together are refused", () => {
  refused("readable-after-writable", ({ q }) => q.offer(0, [BUFFERS, 1, WRITE], [BUFFERS, 1, 0]));
  for (const [address, length] of [
    [0x1f_ffff, 2],
    [0x20_0000, 1],
    [0x1_0000_0000, 1],
    [2 ** 63, 1],
    [0, 0xffff_ffff],
  ] as const)
    refused("buffer-outside-memory", ({ q }) => q.offer(0, [address, length, WRITE]));
  refused(
    "chain-too-large",
    ({ q }) => {
      for (let i = 0; i < 3000; i++) q.describe(i, 0, 0x20_0000, WRITE, 0, 0x8_0000);
      q.offer(0, [0x8_0000, 16 * 3000, TABLE]);
    },
    { features: INDIRECT, size: 3000, ring: (host, n) => new RawPackedRing(host, n, RING) },
  );
  refused(
    "readable-after-writable",
    ({ q }) => {
      q.describe(0, BUFFERS, 1, WRITE, 0, OTHER);
      q.describe(1, BUFFERS, 1, 0, 0, OTHER);
      q.offer(0, [OTHER, 32, TABLE]);
    },
    { features: INDIRECT },
  );
});

test("zero-length descriptors are skipped, wherever they stand", () => {
  const { host, driver, toy, q, broken } = rig({ features: INDIRECT });
  host.put(BUFFERS, [7, 8]);
  q.offer(1, [2 ** 60, 0, 0], [BUFFERS, 2, 0], [BUFFERS, 0, WRITE], [BUFFERS, 0, 0], [BUFFERS + 8, 3, WRITE]);
  q.describe(0, 2 ** 60, 0, WRITE, 0, OTHER);
  q.describe(1, BUFFERS, 1, 0, 0, OTHER);
  q.offer(2, [OTHER, 32, TABLE]);
  driver.notify(0);
  assert.not(broken());
  assert.equal(
    toy.seen.map(({ readable, writable }) => [readable, writable]),
    [
      [[7, 8], 3],
      [[7], 0],
    ],
  );
});

test("a ring that is misaligned or outside memory makes the queue unusable, not the host", () => {
  for (const [desc, driverArea, deviceArea, code] of [
    [0x1_0008, 0x2_0000, 0x3_0000, "ring-misaligned"],
    [0x1_0000, 0x2_0002, 0x3_0000, "ring-misaligned"],
    [0x1_0000, 0x2_0000, 0x3_0002, "ring-misaligned"],
    [0x1f_fff0, 0x2_0000, 0x3_0000, "ring-outside-memory"],
    [0x1_0000, 0x20_0000, 0x3_0000, "ring-outside-memory"],
    [0x1_0000, 0x2_0000, 2 ** 52, "ring-outside-memory"],
    [2 ** 63, 0x2_0000, 0x3_0000, "ring-outside-memory"],
  ] as const) {
    const ring = (h: TestHost, n: number) => new RawPackedRing(h, n, desc, driverArea, deviceArea);
    const { host, driver, toy } = rig({ start: false, ring });
    assert.equal(host.reports, [code]);
    driver.driverOk();
    driver.notify(0);
    assert.is(toy.seen.length, 0);
    assert.ok(host.guardsIntact());
  }
  // The driver's area is only read, 2-aligned event words of a split ring would not do; the ring's end may be the memory's.
  const top = (h: TestHost, n: number) => new RawPackedRing(h, n, 0x20_0000 - 16 * n, 0x2_0000, 0x3_0000);
  const { host, driver, toy, q } = rig({ ring: top });
  q.offer(0, [BUFFERS, 1, 0]);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
  assert.equal(host.reports, []);
});

test("a descriptor ring in memory that cannot be written is refused", () => {
  const { host, driver } = rig({ start: false });
  const [whole] = host.memory.windows;
  host.memory.replace([
    { base: 0, bytes: whole!.bytes.subarray(0, RING) },
    { base: RING, bytes: whole!.bytes.subarray(RING), writable: false },
  ]);
  driver.driverOk();
  assert.equal(host.reports, ["ring-outside-memory"]);
});

test("a ring across windows works as one in a piece", () => {
  const { host, driver, toy, q, broken } = rig({
    size: 5,
    features: EVENT_IDX,
    windows: [
      { base: 0, size: RING },
      { base: RING, size: 0x10_0000 },
    ],
    // a border within the third descriptor, and one within the device's area
    ring: (h, n) => new RawPackedRing(h, n, RING - 40 - 8, 0x2_0000, 0x3_0000),
  });
  for (let i = 0; i < 11; i++) {
    q.offer(i, [0x4_0000, 2, 0], [0x5_0000, 3, WRITE]);
    driver.notify(0);
  }
  assert.is(toy.seen.length, 11);
  assert.equal(q.slot(20 % 5), [10, 3, AVAIL | USED | WRITE]);
  assert.not(broken());
  assert.ok(host.guardsIntact());
});

test("what was taken and is given back is taken again, lists of several slots and across the end of the ring, too", () => {
  const { q, queue, chain, take } = byHand({ size: 5, features: EVENT_IDX });
  q.offer(0, [BUFFERS, 1, 0], [BUFFERS, 1, 0], [BUFFERS, 1, 0]);
  queue.push(take(), 0);
  queue.publish();
  q.offer(1, [BUFFERS, 1, WRITE]);
  q.offer(2, [BUFFERS, 1, WRITE], [BUFFERS, 2, WRITE]);
  chain.clear();
  while (queue.take(chain));
  assert.is(chain.chains, 2);
  assert.is(chain.writable.total, 4);
  queue.untake(2);
  assert.not(queue.rearm(2), "nothing behind what is left");
  assert.equal(q.deviceEvent, [1, 0, 2], "behind both lists");
  q.offer(3, [BUFFERS, 1, WRITE]);
  assert.ok(queue.rearm(2));
  chain.clear();
  while (queue.take(chain));
  assert.equal(
    Array.from(chain.heads.subarray(0, chain.chains), (handle) => handle & 0xffff),
    [1, 2, 3],
  );
});

test("a list is read once: what the driver changes afterwards does not matter", () => {
  const { host, q, chain, take, queue } = byHand();
  q.offer(6, [BUFFERS, 4, WRITE]);
  const handle = take();
  q.describe(0, 0x1f_fff0, 0x4000, AVAIL | WRITE, 99);
  assert.is(chain.writable.total, 4);
  queue.push(handle, 4);
  queue.publish();
  assert.equal(q.slot(0), [6, 4, AVAIL | USED | WRITE]);
  assert.ok(host.guardsIntact());
});

test("a latched ring is ignored until reset, which begins with wrap counters of 1 again", () => {
  const { toy, driver, q, broken } = rig({ size: 3 });
  q.offer(0, [BUFFERS, 1, 0], [BUFFERS, 1, 0], [BUFFERS, 1, 0]);
  driver.notify(0);
  q.offer(0, [2 ** 60, 1, 0]);
  driver.notify(0);
  assert.ok(broken());
  assert.is(driver.negotiate(0, VERSION_1 | PACKED), 0x0b);
  const again = new RawPackedRing(q.host, 3, RING);
  q.host.put(RING, new Uint8Array(64));
  driver.queue(0, again);
  driver.driverOk();
  again.offer(4, [BUFFERS, 1, 0]);
  driver.notify(0);
  assert.equal(again.slot(0), [4, 0, AVAIL | USED]);
  assert.is(toy.seen.length, 2);
});

test("queues set up before the format is known keep their registers", () => {
  const host = new TestHost();
  const toy = new ToyDevice([8, 8, 4]);
  const driver = new RawDriver(new VirtioPciFunction(toy, { packed: true }), host);
  driver.write(0x14, 1, 3);
  const q = new RawPackedRing(host, 8, RING);
  driver.queue(0, q); // enabled, and still split
  driver.write(0x1a, 2, 2);
  driver.write(0x08, 4, 1);
  driver.write(0x0c, 4, VERSION_1 | PACKED);
  driver.write(0x14, 1, 0x0b);
  assert.equal(
    [driver.read(0x18, 2), driver.read(0x1a, 2), driver.read(0x1c, 2), driver.read(0x20, 4)],
    [8, 2, 1, RING],
  );
  driver.driverOk();
  q.offer(1, [BUFFERS, 1, 0]);
  driver.notify(0);
  assert.is(toy.seen.length, 1);
  driver.write(0x14, 1, 0);
  driver.write(0x16, 2, 0);
  assert.equal([driver.read(0x18, 2), driver.read(0x1a, 2), driver.read(0x1c, 2)], [8, 0xffff, 0]);
  driver.legacyWrite(0x0e, 2, 0);
  driver.legacyWrite(0x08, 4, 0x10);
  assert.is(driver.legacyRead(0x08, 4), 0x10, "split again");
});

test("a size that both formats permit is kept when the format changes; one that only packed rings permit is not", () => {
  for (const [size, kept] of [
    [4, 4],
    [5, 8],
  ] as const) {
    const driver = new RawDriver(new VirtioPciFunction(new ToyDevice([8, 8, 4]), { packed: true }), new TestHost());
    const features = (hi: number): void => {
      driver.write(0x08, 4, 1);
      driver.write(0x0c, 4, hi);
    };
    driver.write(0x14, 1, 3);
    features(VERSION_1 | PACKED);
    driver.write(0x18, 2, size);
    assert.is(driver.read(0x18, 2), size);
    features(VERSION_1);
    assert.is(driver.read(0x18, 2), kept);
    features(VERSION_1 | PACKED);
    assert.is(driver.read(0x18, 2), kept);
  }
});

test("bytes written are reported to the host: used descriptors and the event area", () => {
  const { host, driver, q } = rig({ features: EVENT_IDX, size: 4 });
  const covered = (at: number): boolean => host.written.some(([start, end]) => at >= start && at < end);
  q.offer(0, [BUFFERS, 1, 0], [BUFFERS, 1, 0], [BUFFERS, 1, 0]);
  driver.notify(0);
  host.written.length = 0;
  q.offer(1, [BUFFERS, 1, 0]);
  q.offer(2, [BUFFERS, 1, 0]);
  driver.notify(0);
  for (const at of [q.desc + 48 + 8, q.desc + 63, q.desc + 8, q.desc + 15, q.used, q.used + 3]) assert.ok(covered(at));
  // A batch that ends where the ring ends touches no slot in front of it.
  q.offer(3, [BUFFERS, 1, 0]);
  driver.notify(0);
  host.written.length = 0;
  q.offer(4, [BUFFERS, 1, 0], [BUFFERS, 1, 0]);
  driver.notify(0);
  assert.ok(covered(q.desc + 32) && covered(q.desc + 63));
  assert.not(covered(q.desc + 31));
});

test("VIO-223 an event that lies a whole cycle of both laps back was passed, one that comes next was not", () => {
  for (const [chains, passed] of [
    [3, false],
    [4, true],
    [5, true],
  ] as const) {
    const { q, queue, take } = byHand({ size: 2, features: EVENT_IDX });
    for (let i = 0; i < chains; i++) {
      q.offer(0, [BUFFERS, 1, WRITE]);
      queue.push(take(), 1);
      queue.publish();
    }
    // Where the next one will be used: place chains mod 4, of which 2 and 3 are those of the second lap.
    q.driverEvent(chains % 2, chains % 4 < 2 ? 1 : 0, 2);
    assert.is(queue.wantsInterrupt(), passed, `${chains} of 4 places`);
  }
});

test("VIO-206 random packed rings never throw, hang or touch anything outside guest memory", () => {
  const descriptor = fc.record({
    address: fc.oneof(
      fc.integer({ min: 0, max: 0x1_7fff }),
      fc.constantFrom(0x1000, 0xffff_fff0, 0x1_0000_0000, 2 ** 52),
    ),
    length: fc.oneof(fc.nat(0x200), fc.constantFrom(0, 16, 32, 0x1_0000, 0xffff_ffff)),
    flags: fc.oneof(fc.nat(7), fc.nat(0xffff)),
    id: fc.nat(0xffff),
    available: fc.boolean(),
  });
  const scenario = fc.record({
    features: fc.constantFrom(0, INDIRECT, EVENT_IDX, INDIRECT | EVENT_IDX),
    hi: fc.constantFrom(0, IN_ORDER),
    size: fc.integer({ min: 1, max: 8 }),
    event: fc.nat(0xffff_ffff),
    rounds: fc.array(fc.array(descriptor, { minLength: 1, maxLength: 9 }), { minLength: 1, maxLength: 4 }),
  });
  fc.assert(
    fc.property(fc.array(scenario, { minLength: 1, maxLength: 4 }), (scenarios) => {
      const host = new TestHost([
        { base: 0, size: 0x1_0000 },
        { base: 0x1_0000, size: 0x8000 },
      ]);
      const toy = new ToyDevice([8, 8, 4]);
      const slot = new VirtioPciFunction(toy, { personality: "modern", packed: true, inOrder: true });
      const driver = new RawDriver(slot, host);
      for (const { features, hi, size, event, rounds } of scenarios) {
        driver.negotiate(features, VERSION_1 | PACKED | hi);
        host.put(0x1000, new Uint8Array(0x300));
        const q = new RawPackedRing(host, size, 0x1000);
        driver.queue(0, q);
        driver.driverOk();
        host.set(q.avail, 4, event);
        for (const round of rounds) {
          for (const d of round) {
            q.describe(q.at, d.address, d.length, d.flags & 0x7f7f, d.id, 0x2000 + 16 * q.at);
            const lap = q.wrap ? AVAIL : USED;
            q.describe(q.at, d.address, d.length, d.available ? (d.flags & 0x7f7f) | lap : d.flags, d.id);
            q.at = (q.at + 1) % size;
            if (q.at === 0) q.wrap = !q.wrap;
          }
          driver.notify(0);
          slot.load(structuredClone(slot.save())); // whatever became of it can be saved
        }
        assert.ok(host.guardsIntact());
      }
    }),
    { numRuns: 300 },
  );
});

test("a run cut at any access and resumed from a snapshot goes on identically", () => {
  const step = fc.oneof(
    fc.record({ op: fc.constant("offer" as const), n: fc.integer({ min: 1, max: 3 }), write: fc.boolean() }),
    fc.record({
      op: fc.constantFrom("notify" as const, "event" as const, "isr" as const),
      n: fc.nat(9),
      write: fc.boolean(),
    }),
  );
  const setup = fc.record({
    size: fc.integer({ min: 3, max: 8 }),
    features: fc.constantFrom(0, EVENT_IDX),
    hi: fc.constantFrom(0, IN_ORDER),
  });
  type Step = { readonly op: string; readonly n: number; readonly write: boolean };
  const run = (options: RigOptions, steps: readonly Step[], cut: number) => {
    const r = rig({ ...options, maxSize: 8 });
    let { driver } = r;
    const trace: unknown[] = [];
    let free = r.q.size;
    for (const [i, { op, n, write }] of steps.entries()) {
      if (i === cut) {
        const slot = new VirtioPciFunction(new ToyDevice([8, 8, 4]), {
          personality: "modern",
          packed: true,
          inOrder: true,
        });
        const saved = structuredClone(r.slot.save());
        r.slot.disconnect();
        driver = new RawDriver(slot, r.host);
        slot.load(saved);
        assert.equal(slot.save(), saved);
      }
      if (op === "offer" && free >= n) {
        free -= n;
        r.q.offer(i, ...Array.from({ length: n }, () => [BUFFERS, 4, write ? WRITE : 0] as const));
      } else if (op === "event") r.q.driverEvent(n % r.q.size, write ? 1 : 0, n % 3);
      else if (op === "isr") trace.push(driver.read(0x1000, 1));
      else if (op === "notify") {
        driver.notify(0);
        free = r.q.size;
      }
      trace.push(driver.read(0x14, 1));
    }
    return { trace, ring: r.host.bytesAt(RING, 16 * 8 + 8), reports: r.host.reports, intx: r.host.intx };
  };
  fc.assert(
    fc.property(setup, fc.array(step, { minLength: 1, maxLength: 40 }), fc.nat(39), (options, steps, cut) => {
      assert.equal(run(options, steps, cut % steps.length), run(options, steps, -1));
    }),
    { numRuns: 200 },
  );
});

test("a saved packed queue with impossible places is refused, and nothing changes", () => {
  const { slot, driver, q } = rig({ size: 3, maxSize: 8 });
  q.offer(0, [BUFFERS, 1, 0]);
  driver.notify(0);
  type Raw = { [key: string]: unknown };
  const good = slot.save();
  const bad = (change: (queue: Raw) => void): void => {
    const raw = structuredClone(good) as Raw;
    const find = (state: unknown): Raw | undefined => {
      if (typeof state !== "object" || state === null) return undefined;
      if ("deviceFlags" in state) return state as Raw;
      return Object.values(state)
        .map(find)
        .find((found) => found !== undefined);
    };
    const queue = find(raw);
    assert.ok(queue);
    change(queue!);
    assert.throws(() => slot.load(raw), /StateError|slots|between|integer/);
    assert.equal(slot.save(), good);
  };
  bad((queue) => (queue.avail = 6));
  bad((queue) => (queue.avail = 5));
  bad((queue) => (queue.used = 3));
  bad((queue) => (queue.deviceFlags = 4));
  bad((queue) => (queue.unsignalledSlots = 7));
  bad((queue) => (queue.size = 9));
  bad((queue) => (queue.firstFlags = 0x1_0000));
  for (const name of ["avail", "used", "published", "firstFlags", "unsignalledSlots", "deviceFlags", "size"])
    bad((queue) => (queue[name] = -1));
  const split = new RawDriver(
    new VirtioPciFunction(new ToyDevice([8, 8, 4]), { personality: "modern" }),
    new TestHost(),
  );
  assert.throws(() => split.slot.load(good), /offered|features/);
});

test.run();
