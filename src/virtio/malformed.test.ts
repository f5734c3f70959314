import { test } from "uvu";
import * as assert from "uvu/assert";
import fixture from "../../fixtures/rings/malformed.json" with { type: "json" };
import { VirtioPciFunction } from "./pci-transport.js";
import { RawDriver, RawPackedRing, RawRing, TestHost, ToyDevice } from "./testing.js";

/* Every case of fixtures/rings/malformed.json, on a modern device and, where the ring is split, on a legacy driver's terms. */

type Entry = readonly [address: string, length: number | string, flags: number | string, nextOrId: number];

interface Case {
  readonly case: string;
  readonly title: string;
  readonly format: string;
  readonly size: number;
  readonly ram?: string;
  readonly indirect?: boolean;
  readonly eventIndex?: boolean;
  readonly ring?: readonly string[];
  readonly descriptors?: { readonly [index: string]: Entry };
  readonly slots?: readonly Entry[];
  readonly tables?: { readonly [address: string]: readonly Entry[] | string };
  readonly available?: readonly number[];
  readonly index?: number;
  readonly held?: number;
  readonly driverEvent?: readonly string[];
  readonly fault?: string;
  readonly served?: number;
}

const CASES = fixture.cases as unknown as readonly Case[];
const INDIRECT = 0x1000_0000;
const EVENT_IDX = 0x2000_0000;
const WRITE = 2;
const RING = 0x1_0000;
const GOOD = 0x5_0000;

/** One descriptor, exact also where a number would not be. */
const put = (host: TestHost, at: number, [address, length, flags, last]: Entry, packed: boolean): void => {
  for (let i = 0, rest = BigInt(address); i < 8; i++, rest >>= 8n) host.setByte(at + i, Number(rest & 0xffn));
  host.set(at + 8, 4, Number(length));
  host.set(at + (packed ? 14 : 12), 2, Number(flags));
  host.set(at + (packed ? 12 : 14), 2, last);
};

const entriesOf = (table: readonly Entry[] | string, packed: boolean): readonly Entry[] => {
  if (typeof table !== "string") return table;
  const [count, length] = table.split(" × ");
  const entries = Number(count);
  return Array.from({ length: entries }, (_, i) => [
    "0x40000",
    length!,
    packed || i === entries - 1 ? 0 : 1,
    packed ? 0 : i + 1,
  ]);
};

/** Writes the ring of a case, and has the first `held` chains of it taken and kept. */
const play = (c: Case, legacy: boolean) => {
  const packed = c.format === "packed";
  const host = new TestHost([{ base: 0, size: Number(c.ram ?? "0x200000") }]);
  const toy = new ToyDevice([c.size, c.size, 4]);
  const personality = legacy ? "legacy" : "modern";
  const driver = new RawDriver(new VirtioPciFunction(toy, { personality, ...(packed ? { packed: true } : {}) }), host);
  const features = (c.indirect === true ? INDIRECT : 0) + (c.eventIndex === true ? EVENT_IDX : 0);
  const start = (ring: RawRing | RawPackedRing, queue: number): void => {
    if (legacy) {
      driver.legacyWrite(0x12, 1, 0);
      driver.legacyWrite(0x12, 1, 3);
      driver.legacyWrite(0x04, 4, features);
      driver.legacyQueue(queue, ring as RawRing);
      driver.legacyWrite(0x12, 1, 7);
    } else {
      assert.is(driver.negotiate(features, packed ? 5 : 1), 0x0b);
      driver.queue(queue, ring);
      driver.driverOk();
    }
  };
  const status = (): number => (legacy ? driver.legacyRead(0x12, 1) : driver.read(0x14, 1));
  const notify = (queue: number): void => (legacy ? driver.legacyWrite(0x10, 2, queue) : driver.notify(queue));

  const [desc, avail, used] = c.ring?.map(Number) ?? [RING, RING + 16 * c.size, RING + 0x1000]; // as in the legacy layout
  const ring = new (packed ? RawPackedRing : RawRing)(host, c.size, desc!, avail, used);
  for (const [i, entry] of Object.entries(c.descriptors ?? {})) put(host, desc! + 16 * Number(i), entry, false);
  for (const [address, table] of Object.entries(c.tables ?? {}))
    for (const [i, entry] of entriesOf(table, packed).entries()) put(host, Number(address) + 16 * i, entry, packed);
  for (const [i, word] of (c.driverEvent ?? []).entries()) host.set(avail! + 2 * i, 2, Number(word));
  const queue = c.held === undefined ? 0 : 1;
  const offer = (from: number, to: number): void => {
    for (let i = from; i < to; i++)
      if (ring instanceof RawRing) ring.offer(c.available![i]!);
      else put(host, desc! + 16 * (i % c.size), c.slots![i]!, true);
  };
  const count = ring instanceof RawRing ? (c.available?.length ?? 0) : (c.slots?.length ?? 0);
  if (queue === 0) offer(0, count);
  if (c.index !== undefined && ring instanceof RawRing) ring.availIdx = c.index;
  start(ring, queue);
  if (c.held !== undefined) {
    offer(0, c.held);
    const kept = toy.bus!.queue(1);
    assert.ok(kept.begin());
    toy.chain.clear();
    for (let i = 0; i < c.held; i++) assert.ok(kept.take(toy.chain), `chain ${i} is taken`);
    offer(c.held, count);
    toy.keep = false; // from here on the queue is served
  }
  return { host, toy, driver, ring, start, status, notify, queue };
};

/** What the device wrote for the driver to see: the device's area, and a packed ring's slots. */
const usedBytes = ({ host, ring }: ReturnType<typeof play>): string => {
  const end = ring instanceof RawRing ? ring.used : ring.desc;
  const length = ring instanceof RawRing ? 6 + 8 * ring.size : 16 * ring.size;
  const { size } = host.memory.windows[0]!;
  return end + length > size ? "" : host.bytesAt(end, length).join();
};

for (const c of CASES)
  for (const legacy of c.format === "split" && c.ring === undefined ? [false, true] : [false])
    test(`${c.case} ${c.format}${legacy ? ", legacy" : ""}: ${c.title}`, () => {
      const r = play(c, legacy);
      const { host, toy, driver, start, status, notify, queue } = r;
      const before = usedBytes(r);
      notify(queue);
      assert.ok(host.guardsIntact());
      if (c.fault === undefined) {
        assert.equal(host.reports, []);
        assert.is(toy.seen.length, c.served);
        assert.is(status() & 0x40, 0);
        return;
      }
      assert.equal(host.reports, [c.fault]);
      assert.is(toy.seen.length, 0);
      // NO_NOTIFY may stand in a split ring's flags; a legacy driver is told nothing. §2.1.2
      assert.is(usedBytes(r).replace(/^1,0,/, "0,0,"), before, "nothing is used");
      assert.is(status() & 0x40, legacy ? 0 : 0x40, "NEEDS_RESET");
      if (!legacy) assert.is(driver.read(0x1000, 1), 2, "and a configuration interrupt");
      notify(queue);
      assert.equal(host.reports, [c.fault], "told once, and ignored from then on");

      host.put(GOOD, new Uint8Array(0x2000));
      const good = c.format === "packed" ? new RawPackedRing(host, c.size, GOOD) : new RawRing(host, c.size, GOOD, GOOD + 16 * c.size, GOOD + (legacy ? 0x1000 : 0x800)); // biome-ignore format: one ring
      start(good, 0);
      good.chain(0, [0x8_0000, 1, WRITE]);
      notify(0);
      assert.is(toy.seen.length, 1, "a reset recovers");
      assert.is(host.byte(0x8_0000), 0x5a);
    });

test.run();
