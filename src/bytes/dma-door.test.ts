import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Door } from "./dma-door.js";
import { WindowedMemory, type WindowOptions } from "./guest-memory.js";

const ramp = (size: number, first = 0): Uint8Array => Uint8Array.from({ length: size }, (_, i) => first + i);

const rig = (windows: readonly WindowOptions[], open = true) => {
  const written: [number, number][] = [];
  let failed = 0;
  const memory = new WindowedMemory(windows, (start, end) => written.push([start, end]));
  const door = new Door(() => failed++);
  door.connect(memory);
  door.setOpen(open);
  return { memory, door, written, failures: () => failed };
};

const twoWindows = () =>
  rig([
    { base: 0x1000, bytes: ramp(16) },
    { base: 0x1010, bytes: ramp(16, 100) },
    { base: 0x2000, bytes: ramp(16), writable: false },
    { base: 0x3000, bytes: ramp(16), readable: false },
  ]);

test("a located range is an index into the window's bytes and view", () => {
  const { door } = twoWindows();
  assert.ok(door.locate(0x1014, 4));
  assert.is(door.bytes[door.at], 104);
  assert.is(door.view.getUint8(door.at), 104);
});

test("a range across windows is not located but read and written in one go", () => {
  const { door, memory, failures } = twoWindows();
  const target = new Uint8Array(10);
  assert.not(door.locate(0x100c, 8));
  assert.not(door.locateWritable(0x100c, 8));
  assert.is(failures(), 0, "both windows are RAM: nothing failed on the bus");
  assert.ok(door.read(0x100c, 8, target, 1));
  assert.equal([...target], [0, 12, 13, 14, 15, 100, 101, 102, 103, 0]);
  assert.ok(door.write(0x100e, 4, Uint8Array.of(9, 1, 2, 3, 4, 9), 1));
  assert.equal([...memory.windows[0]!.bytes.subarray(13)], [13, 1, 2]);
  assert.equal([...memory.windows[1]!.bytes.subarray(0, 3)], [3, 4, 102]);
});

test("what is not RAM, or not for this direction, fails once per call and leaves memory alone", () => {
  const { door, memory, failures } = twoWindows();
  const target = new Uint8Array(16);
  let expected = 0;
  const fails = (result: boolean): void => {
    assert.is(result, false);
    assert.is(failures(), ++expected);
  };
  fails(door.locate(0x0fff, 4));
  fails(door.locate(0x101e, 4));
  fails(door.locate(0x3000, 4));
  fails(door.locateWritable(0x2000, 4));
  fails(door.read(0x101e, 4, target, 0));
  fails(door.write(0x101e, 4, target, 0));
  fails(door.write(0x2000, 4, target, 0));
  assert.equal([...memory.windows[1]!.bytes], [...ramp(16, 100)]);
  assert.equal([...memory.windows[2]!.bytes], [...ramp(16)]);
});

test("contains tells without failing", () => {
  const { door, failures } = twoWindows();
  assert.ok(door.contains(0x1000, 32));
  assert.not(door.contains(0x1000, 33));
  assert.ok(door.contains(0x2000, 16));
  assert.not(door.containsWritable(0x2000, 16));
  assert.not(door.contains(0x3000, 1));
  assert.ok(door.containsWritable(0x3000, 16));
  assert.not(door.contains(0x1000, -1));
  assert.not(door.contains(Number.MAX_SAFE_INTEGER, 2));
  assert.is(failures(), 0);
});

test("a shut door reaches nothing, and opening it again shows as another generation", () => {
  const { door, failures, memory } = rig([{ base: 0, bytes: ramp(16) }], false);
  const before = door.generation;
  assert.not(door.locate(0, 4));
  assert.not(door.write(0, 4, new Uint8Array(4), 0));
  assert.not(door.contains(0, 4));
  assert.is(failures(), 2);
  assert.equal([...memory.windows[0]!.bytes], [...ramp(16)]);
  door.setOpen(true);
  assert.is.not(door.generation, before);
  assert.ok(door.locate(0, 4));
});

test("setting the door as it is changes no generation", () => {
  const { door } = twoWindows();
  const { generation } = door;
  door.setOpen(true);
  assert.is(door.generation, generation);
});

test("no generation ever comes back, whatever memory is connected or replaced", () => {
  const step = fc.constantFrom("replace", "connect", "disconnect", "open", "shut");
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const { door, memory } = twoWindows();
      const seen = new Set<number>();
      let last = door.generation;
      seen.add(last);
      for (const what of steps) {
        if (what === "replace") memory.replace([{ base: 0, bytes: new Uint8Array(4) }]);
        else if (what === "connect") door.connect(new WindowedMemory([]));
        else if (what === "disconnect") door.connect(null);
        else door.setOpen(what === "open");
        if (door.generation === last) continue;
        last = door.generation;
        assert.not(seen.has(last), `generation ${last} came back after ${what}`);
        seen.add(last);
      }
    }),
    { numRuns: 100 },
  );
});

test("after a replacement the new bytes are found, not the old ones", () => {
  const { door, memory } = rig([{ base: 0, bytes: ramp(16) }]);
  assert.ok(door.locate(4, 1));
  memory.replace([{ base: 0, bytes: ramp(16, 50) }]);
  assert.ok(door.locate(4, 1));
  assert.is(door.bytes[door.at], 54);
});

test("written ranges that lie close together are reported as one, at the flush", () => {
  const { door, written } = rig([{ base: 0, bytes: new Uint8Array(0x10000) }]);
  door.write(0x100, 16, new Uint8Array(16), 0);
  door.wrote(0x200, 8);
  door.wrote(0x80, 4);
  assert.equal(written, []);
  door.flush();
  assert.equal(written, [[0x80, 0x208]]);
  door.flush();
  assert.is(written.length, 1);
});

test("a ring and its buffers grow side by side; a third place sends off the one that grew longer ago", () => {
  const { door, written } = rig([{ base: 0, bytes: new Uint8Array(0x40000) }]);
  for (let i = 0; i < 4; i++) {
    door.wrote(0x10000 + 0x600 * i, 0x600);
    door.wrote(0x100 + 8 * i, 8);
  }
  assert.equal(written, []);
  door.wrote(0x30000, 16);
  assert.equal(written, [[0x10000, 0x11800]]);
  door.flush();
  assert.equal(written.slice(1), [
    [0x100, 0x120],
    [0x30000, 0x30010],
  ]);
  door.flush();
  assert.is(written.length, 3);
});

test("every byte that changes lies in a reported range", () => {
  const writes = fc.array(fc.tuple(fc.nat(0x17c00), fc.integer({ min: 1, max: 600 })), { maxLength: 12 });
  fc.assert(
    fc.property(writes, (list) => {
      const { door, written, memory } = rig([{ base: 0, bytes: new Uint8Array(0x18000) }]);
      for (const [address, length] of list) door.write(address, length, new Uint8Array(length).fill(1), 0);
      door.flush();
      const { bytes } = memory.windows[0]!;
      const reported = new Uint8Array(bytes.length);
      for (const [start, end] of written) reported.fill(1, start, end);
      assert.ok(bytes.every((byte, i) => byte === 0 || reported[i] === 1));
    }),
    { numRuns: 60 },
  );
});

test("random accesses never throw and never touch bytes outside the windows", () => {
  const access = fc.record({
    kind: fc.constantFrom("read", "write", "locate", "locateWritable"),
    address: fc.oneof(fc.nat(0x60), fc.nat(0x60), fc.maxSafeNat()),
    length: fc.oneof(fc.nat(0x30), fc.nat(0x30), fc.nat()),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 20 }), (list) => {
      const whole = new Uint8Array(0x60).fill(0xee);
      const { door } = rig([
        { base: 0x10, bytes: whole.subarray(0x10, 0x20) },
        { base: 0x20, bytes: whole.subarray(0x20, 0x28) },
        { base: 0x40, bytes: whole.subarray(0x40, 0x50), writable: false },
      ]);
      for (const { kind, address, length } of list) {
        if (kind === "locate" || kind === "locateWritable") {
          if (door[kind](address, length)) assert.ok(door.at >= 0 && door.at + length <= door.bytes.length);
        } else door[kind](address, length, new Uint8Array(Math.min(length, 0x60)), 0);
      }
      const outside = (i: number) => i < 0x10 || i >= 0x28;
      assert.ok(whole.every((byte, i) => !outside(i) || byte === 0xee));
    }),
    { numRuns: 200 },
  );
});

test.run();
