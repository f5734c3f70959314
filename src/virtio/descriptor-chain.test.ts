import { test } from "uvu";
import * as assert from "uvu/assert";
import { Door, WindowedMemory } from "../bytes/index.js";
import { DescriptorChain, RingArea, SegmentList } from "./descriptor-chain.js";

const RAM = 0x1000;

/** A door to RAM at 0 and at 1000h, two windows that touch, filled with their own places. */
const open = () => {
  const windows = [0, RAM].map((base) => ({
    base,
    bytes: Uint8Array.from({ length: RAM }, (_, i) => i * 3 + base / 16),
  }));
  const wrote: [number, number][] = [];
  const door = new Door(() => {});
  door.connect(new WindowedMemory(windows, (start, end) => wrote.push([start, end])));
  door.setOpen(true);
  return { door, wrote, windows };
};

/** A list of segments that begin at these addresses; those that cross the border go by address. */
const listOf = (door: Door, ...ranges: readonly (readonly [address: number, length: number])[]): SegmentList => {
  const list = new SegmentList();
  for (const [address, length] of ranges)
    if (door.locateWritable(address, length)) list.add(address, length, door.at, door.bytes);
    else list.add(address, length, -1, new Uint8Array(0));
  return list;
};

const bytesAt = (windows: ReturnType<typeof open>["windows"], address: number, length: number): number[] =>
  Array.from({ length }, (_, i) => windows[(address + i) / RAM >= 1 ? 1 : 0]!.bytes[(address + i) % RAM]!);

test("bytes come out of segments in order: at the start of RAM, in place, and across windows", () => {
  const { door, windows } = open();
  const ranges = [
    [0, 5],
    [0x20, 1],
    [RAM - 3, 7],
    [RAM + 4, 2],
  ] as const;
  const list = listOf(door, ...ranges);
  assert.equal([...list.at.subarray(0, 4)], [0, 0x20, -1, 4]);
  const whole = ranges.flatMap(([address, length]) => bytesAt(windows, address, length));
  assert.is(list.total, whole.length);
  for (let skip = 0; skip <= whole.length; skip++)
    for (let length = 0; length <= whole.length - skip; length++) {
      const target = new Uint8Array(length + 4).fill(0xee);
      list.copyOut(door, skip, length, target, 2);
      assert.equal(
        [...target],
        [0xee, 0xee, ...whole.slice(skip, skip + length), 0xee, 0xee],
        `${length} from ${skip}`,
      );
    }
});

test("bytes go into segments in order, and each range is told to the host", () => {
  for (let skip = 0; skip <= 15; skip++)
    for (let length = 0; length <= 15 - skip; length++) {
      const { door, wrote, windows } = open();
      const list = listOf(door, [0, 5], [0x20, 1], [RAM - 3, 7], [RAM + 4, 2]);
      const places = [0, 1, 2, 3, 4, 0x20, RAM - 3, RAM - 2, RAM - 1, RAM, RAM + 1, RAM + 2, RAM + 3, RAM + 4, RAM + 5];
      const source = Uint8Array.from({ length: 20 }, (_, i) => 0xc0 + i);
      const before = bytesAt(windows, 0, 2 * RAM);
      list.copyIn(door, skip, length, source, 3);
      const expected = [...before];
      for (let i = 0; i < length; i++) expected[places[skip + i]!] = 0xc3 + i;
      assert.equal(bytesAt(windows, 0, 2 * RAM), expected, `${length} at ${skip}`);
      door.flush();
      const told = new Set(wrote.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i)));
      for (const place of places.slice(skip, skip + length)) assert.ok(told.has(place), `${place} was not told`);
    }
});

test("a segment in one window is used where it lies: no access goes through the door", () => {
  const { door, windows } = open();
  const list = listOf(door, [0, 5], [0x20, 1]);
  door.setOpen(false);
  const scratch = new Uint8Array(1);
  assert.equal(
    [0, 1, 4, 5].map((skip) => list.byteAt(door, skip, scratch)),
    [...bytesAt(windows, 0, 2), ...bytesAt(windows, 4, 1), ...bytesAt(windows, 0x20, 1)],
  );
  assert.is(scratch[0], 0);
  const target = new Uint8Array(6);
  list.copyOut(door, 0, 6, target, 0);
  assert.equal([...target], [...bytesAt(windows, 0, 5), ...bytesAt(windows, 0x20, 1)]);
  list.copyIn(door, 0, 6, new Uint8Array(6).fill(0x99), 0);
  assert.equal(bytesAt(windows, 0, 5), [0x99, 0x99, 0x99, 0x99, 0x99]);
});

test("a byte across windows comes through the door", () => {
  const { door, windows } = open();
  const list = listOf(door, [8, 2], [RAM - 1, 2]);
  const scratch = new Uint8Array(1);
  assert.is(list.byteAt(door, 2, scratch), bytesAt(windows, RAM - 1, 1)[0]);
  assert.is(list.byteAt(door, 3, scratch), bytesAt(windows, RAM, 1)[0]);
});

test("a range in one piece is found with its place; one over a border, or beyond what there is, is not", () => {
  const { door, windows } = open();
  const list = listOf(door, [0, 5], [0x20, 8], [RAM - 1, 2]);
  for (const [skip, length, at] of [
    [0, 5, 0],
    [0, 1, 0],
    [4, 1, 4],
    [5, 8, 0x20],
    [12, 1, 0x27],
    [0, 6, -1],
    [4, 2, -1],
    [5, 9, -1],
    [13, 1, -1], // by address only
    [15, 1, -1],
  ] as const) {
    assert.is(list.inOnePiece(skip, length), at >= 0, `${length} from ${skip}`);
    if (at >= 0) assert.equal([list.pieceBytes, list.pieceAt], [windows[0]!.bytes, at]);
  }
  list.clear();
  assert.not(list.inOnePiece(0, 1), "what stood there before is gone");
  list.add(0, 2, 0, windows[0]!.bytes);
  assert.not(list.inOnePiece(2, 1), "nor is it behind what is there now");
  list.truncate(0, 0);
  assert.not(list.inOnePiece(0, 1));
});

test("what lies beyond the end is left out, also where something stood there before", () => {
  const { door, windows } = open();
  const list = listOf(door, [0, 4], [0x40, 4]);
  list.truncate(1, 4);
  const target = new Uint8Array(8).fill(0xee);
  list.copyOut(door, 2, 6, target, 0);
  assert.equal([...target], [...bytesAt(windows, 2, 2), 0xee, 0xee, 0xee, 0xee, 0xee, 0xee]);
  const before = bytesAt(windows, 0x40, 4);
  list.copyIn(door, 2, 6, new Uint8Array(6).fill(0x77), 0);
  assert.equal([...bytesAt(windows, 2, 2), ...bytesAt(windows, 0x40, 4)], [0x77, 0x77, ...before]);
  assert.is(list.byteAt(door, 4, new Uint8Array(1)), 0);
});

test("many chains behind each other: each with its head, and where its writable bytes end", () => {
  const { door, windows } = open();
  const view = new DataView(windows[0]!.bytes.buffer);
  const table = new RingArea();
  const chain = new DescriptorChain();
  for (let i = 0; i < 40; i++) {
    view.setBigUint64(16 * i, BigInt(0x800 + 8 * i), true);
    view.setUint32(16 * i + 8, 1 + (i % 7), true);
    view.setUint16(16 * i + 12, 2, true); // WRITE
  }
  assert.ok(table.locate(door, 0, 16 * 64, false));
  let end = 0;
  const ends: number[] = [];
  for (let i = 0; i < 40; i++) {
    assert.ok(chain.load(door, table, 64, i, false));
    end += 1 + (i % 7);
    ends.push(end);
  }
  assert.equal([chain.chains, chain.descriptors, chain.writable.total], [40, 40, end]);
  assert.equal([...chain.heads.subarray(0, 40)], [...ends.keys()]);
  assert.equal([...chain.ends.subarray(0, 40)], ends);
  // A chain that is refused leaves no trace among them.
  view.setUint16(16 * 40 + 12, 3, true);
  view.setUint16(16 * 40 + 14, 64, true);
  view.setUint32(16 * 40 + 8, 5, true);
  view.setBigUint64(16 * 40, 0x800n, true);
  assert.not(chain.load(door, table, 64, 40, false));
  assert.equal([chain.fault, chain.faultValue], ["next-out-of-range", 64]);
  assert.equal([chain.chains, chain.writable.total, chain.writable.count], [40, end, 40]);
  chain.clear();
  assert.equal([chain.chains, chain.descriptors, chain.fault, chain.writable.count], [0, 0, null, 0]);
});

test("a chain that is released holds no memory: its lists, and the last table that it read", () => {
  const { door, windows } = open();
  const view = new DataView(windows[0]!.bytes.buffer);
  const [ring, chain] = [new RingArea(), new DescriptorChain()];
  for (const [at, address, length, flags] of [
    [0, 0x100, 16, 4], // INDIRECT
    [0x100, 0x200, 8, 0],
  ] as const) {
    view.setBigUint64(at, BigInt(address), true);
    view.setUint32(at + 8, length, true);
    view.setUint16(at + 12, flags, true);
  }
  assert.ok(ring.locate(door, 0, 16, false));
  assert.ok(chain.load(door, ring, 1, 0, true));
  assert.is(chain.readable.bytes[0], windows[0]!.bytes);
  chain.release();
  assert.equal([chain.chains, chain.readable.count, chain.readable.bytes[0]?.length], [0, 0, 0]);
  assert.ok(chain.load(door, ring, 1, 0, true), "and can be used again");
});

test("a list grows, and keeps what it has", () => {
  const { door, windows } = open();
  const list = new SegmentList();
  for (let i = 0; i < 100; i++) {
    assert.ok(door.locate(i, 1));
    list.add(i, 1, door.at, door.bytes);
  }
  assert.equal([list.count, list.total], [100, 100]);
  const target = new Uint8Array(100);
  list.copyOut(door, 0, 100, target, 0);
  assert.equal([...target], bytesAt(windows, 0, 100));
});

test("an area reads and writes the same in one window and across two, and nothing once it is released", () => {
  for (const base of [0, 0x10, RAM - 2, RAM - 1, RAM]) {
    const { door, windows } = open();
    const area = new RingArea();
    assert.ok(area.locate(door, base, 8, true));
    assert.is(area.address, base);
    const le = (offset: number, width: number): number =>
      bytesAt(windows, base + offset, width).reduceRight((value, byte) => value * 256 + byte, 0);
    for (const offset of [0, 1, 2, 4]) {
      assert.is(area.get16(offset), le(offset, 2));
      assert.is(area.get32(offset), le(offset, 4));
    }
    area.set16(0, 0x1234);
    area.set32(2, 0xfedc_ba98);
    assert.equal(bytesAt(windows, base, 6), [0x34, 0x12, 0x98, 0xba, 0xdc, 0xfe]);
    door.setOpen(false);
    const flat = base <= 0x10 || base === RAM;
    assert.is(area.get16(0), flat ? 0x1234 : 0, "a shut door: what is not in one window reads 0");
    door.setOpen(true);
    area.release();
    area.set16(0, 0);
    area.set32(2, 0);
    assert.equal([area.get16(0), area.get32(2)], [0, 0]);
    assert.equal(bytesAt(windows, base, 2), [0x34, 0x12]);
  }
  const { door } = open();
  assert.not(new RingArea().locate(door, 2 * RAM - 4, 8, false));
  assert.not(new RingArea().locate(door, 2 * RAM, 1, true));
});

test.run();
