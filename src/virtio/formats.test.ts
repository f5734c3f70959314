import { test } from "uvu";
import * as assert from "uvu/assert";
import { VirtioPciFunction } from "./pci-transport.js";
import { locatesOf, RawDriver, RawPackedRing, RawRing, TestHost, ToyDevice } from "./testing.js";

/* What does not depend on the format of a ring: every test runs on both. */

const INDIRECT = 0x1000_0000; // bit 28
const WRITE = 2;
const TABLE = 4;
const BUFFERS = 0x3_0000;

/** A modern toy device with queue 0 set up and running. */
const rig = (packed: boolean, windows = [{ base: 0, size: 0x4_0000 }]) => {
  const host = new TestHost(windows);
  const toy = new ToyDevice([16, 16, 4]);
  const driver = new RawDriver(new VirtioPciFunction(toy, { personality: "modern", packed: true }), host);
  assert.is(driver.negotiate(INDIRECT, packed ? 5 : 1), 0x0b);
  const q = packed ? new RawPackedRing(host, 16, 0x1_0000) : new RawRing(host, 16, 0x1_0000);
  driver.queue(0, q);
  driver.driverOk();
  return { host, toy, driver, q };
};

for (const packed of [false, true]) {
  const format = packed ? "packed" : "split";

  test(`VIO-190 every byte of an address counts: buffers at 2 GiB and above 4 GiB, from a ${format} ring and from a table`, () => {
    for (const base of [0x8765_0000, 0x12_8765_0000]) {
      const { host, toy, driver, q } = rig(packed, [
        { base: 0, size: 0x4_0000 },
        { base, size: 0x1_0000 },
      ]);
      host.put(base + 0x100, [1, 2, 3]);
      q.chain(0, [base + 0x100, 3, 0], [base + 0x200, 2, WRITE]);
      // The entries of a split ring's table are told to go on; a packed one's follow each other anyway.
      q.describe(0, base + 0x101, 2, packed ? 0 : 1, 1, base + 0x1000);
      q.describe(1, base + 0x300, 1, WRITE, 0, base + 0x1000);
      q.chain(2, [base + 0x1000, 32, TABLE]);
      driver.notify(0);
      assert.equal(
        toy.seen.map(({ readable }) => readable),
        [
          [1, 2, 3],
          [2, 3],
        ],
      );
      assert.equal(host.bytesAt(base + 0x200, 3), [0x5a, 0x5a, 0]);
      assert.is(host.byte(base + 0x300), 0x5a);
      assert.equal(host.reports, []);
    }
  });

  test(`a ${format} ring is located once, as long as memory stays where it is`, () => {
    const { toy, driver, q } = rig(packed);
    const located = locatesOf(toy.bus!.seams.dma);
    for (let i = 0; i < 3; i++) {
      q.chain(i, [BUFFERS, 1, WRITE]);
      driver.notify(0);
    }
    assert.equal(located, [BUFFERS, BUFFERS, BUFFERS], "the buffer of each chain, and nothing else");
  });

  test(`what was taken from a ${format} ring and given back is taken again, unless the queue is gone meanwhile`, () => {
    const { toy, driver, q } = rig(packed);
    const queue = toy.bus!.queue(0);
    const { chain } = toy;
    for (let i = 0; i < 3; i++) q.chain(i, [BUFFERS + i, 1, WRITE]);
    const taken = (most: number): number[] => {
      chain.clear();
      while (chain.chains < most && queue.take(chain));
      return Array.from(chain.heads.subarray(0, chain.chains), (handle) => handle & 0xffff);
    };
    assert.ok(queue.begin());
    assert.equal(taken(3), [0, 1, 2]);
    queue.untake(2);
    assert.equal(taken(1), [1]);
    assert.equal(taken(9), [2]);
    driver.write(0x14, 1, 0); // a back end had the device reset
    queue.untake(2);
    queue.push(0, 1);
    queue.publish();
    assert.not(queue.rearm());
    assert.not(queue.take(chain));
    assert.not(queue.wantsInterrupt());
    assert.is(queue.save().lastAvail ?? queue.save().avail, 0, "and begins where a new one does");
  });

  test(`what a ${format} queue writes is told to the host, and no more than it writes`, () => {
    const { toy, driver, q } = rig(packed);
    const { dma } = toy.bus!.seams;
    const wrote: [start: number, end: number][] = [];
    const tell = dma.wrote.bind(dma);
    Object.assign(dma, {
      wrote: (address: number, length: number) => {
        wrote.push([address, address + length]);
        tell(address, length);
      },
    });
    const entry = (i: number): readonly [number, number] =>
      packed ? [q.desc + 16 * i, 16] : [q.used + 4 + 8 * i, 8]; // biome-ignore format: address, length
    const told = (): number[] =>
      Array.from({ length: 16 }, (_, i) => i).filter((i) => {
        const [at, length] = entry(i);
        return wrote.some(([start, end]) => start < at + length && end > at);
      });
    let next = 0;
    const batch = (count: number): number[] => {
      for (let i = 0; i < count; i++) q.chain(next++ % 16, [BUFFERS, 1, 0]);
      wrote.length = 0;
      driver.notify(0);
      return told();
    };
    assert.equal(batch(1), [0]);
    assert.equal(batch(2), [1, 2]);
    assert.equal(batch(13), [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], "up to the end");
    assert.equal(batch(14).length, 14);
    assert.is(batch(3).length, 16, "across the end it is the whole ring");
  });
}

test.run();
