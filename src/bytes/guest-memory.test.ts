import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Door } from "./dma-door.js";
import { ConfigError } from "./errors.js";
import { WindowedMemory, type WindowOptions, windowAt } from "./guest-memory.js";

const ram = (base: number, size: number): WindowOptions => ({ base, bytes: new Uint8Array(size) });

const refused = (code: string, windows: readonly WindowOptions[]): void =>
  assert.throws(
    () => new WindowedMemory(windows),
    (error: unknown) => error instanceof ConfigError && error.code === code,
  );

test("windows come out sorted, readable and writable unless told otherwise", () => {
  const memory = new WindowedMemory([ram(0x10_0000, 64), { ...ram(0, 32), writable: false }]);
  assert.equal(
    memory.windows.map(({ base, size, readable, writable }) => [base, size, readable, writable]),
    [
      [0, 32, true, false],
      [0x10_0000, 64, true, true],
    ],
  );
});

test("the view of a window begins where its bytes begin", () => {
  const whole = new Uint8Array(100);
  const memory = new WindowedMemory([{ base: 0x1000, bytes: whole.subarray(10, 20) }]);
  memory.windows[0]!.view.setUint8(0, 0xaa);
  assert.is(whole[10], 0xaa);
  assert.is(memory.windows[0]!.view.byteLength, 10);
});

test("windows may touch but not overlap", () => {
  assert.is(new WindowedMemory([ram(0, 16), ram(16, 16)]).windows.length, 2);
  refused("window-overlap", [ram(0, 17), ram(16, 16)]);
  refused("window-overlap", [ram(16, 16), ram(16, 16)]);
});

test("an empty window and an address that is no safe integer are refused", () => {
  refused("window-size", [ram(0, 0)]);
  for (const base of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) refused("window-base", [ram(base, 16)]);
  refused("window-base", [ram(Number.MAX_SAFE_INTEGER, 16)]);
});

test("replacing the windows changes the generation; a refused replacement changes nothing", () => {
  const memory = new WindowedMemory([ram(0, 16)]);
  const { generation, windows } = memory;
  assert.throws(() => memory.replace([ram(0, 16), ram(8, 16)]));
  assert.is(memory.generation, generation);
  assert.is(memory.windows, windows);
  memory.replace([ram(0, 32)]);
  assert.ok(memory.generation > generation);
  assert.is(memory.windows[0]!.size, 32);
});

test("PCI-174 a window whose buffer was detached is gone at the next look, and back with a new buffer", () => {
  const memory = new WindowedMemory([ram(0, 16), ram(16, 16)]);
  const door = new Door();
  door.connect(memory);
  door.setOpen(true);
  assert.ok(door.locate(0, 4));
  const { generation } = door;
  const bytes = memory.windows[0]!.bytes;
  const grown = new Uint8Array(structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] }));
  assert.not(door.write(0, 4, new Uint8Array(4), 0));
  assert.not(door.locate(0, 4));
  assert.ok(door.locate(16, 4));
  assert.is.not(door.generation, generation);
  memory.replace([{ base: 0, bytes: grown }]);
  assert.ok(door.write(0, 4, new Uint8Array(4), 0));
});

test("an address is found in the window that holds it, and nowhere else", () => {
  const gaps = fc.array(fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 20 })), { maxLength: 6 });
  fc.assert(
    fc.property(gaps, fc.nat(300), (layout, address) => {
      let base = 0;
      const windows = layout.map(([gap, size]) => {
        const window = ram(base + gap, size);
        base += gap + size;
        return window;
      });
      const found = windowAt(new WindowedMemory(windows).windows, address);
      const expected = windows.find((w) => address >= w.base && address < w.base + w.bytes.length);
      assert.is(found?.base, expected?.base);
    }),
    { numRuns: 200 },
  );
});

test.run();
