import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "./args.js";
import { PackedRing, type RecordingGuest, SCENARIOS, SplitRing } from "./record/index.js";
import { record } from "./record.js";

const AREAS = { desc: 0x100, driver: 0x400, device: 0x600 };

/** RAM in the place of a QEMU. */
class Memory {
  readonly bytes = Buffer.alloc(0x1000);
  put(at: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, at);
  }
  put16(at: number, value: number): void {
    this.bytes.writeUInt16LE(value & 0xffff, at);
  }
  get(at: number, size: number): Buffer {
    return Buffer.from(this.bytes.subarray(at, at + size));
  }
  get16(at: number): number {
    return this.bytes.readUInt16LE(at);
  }
  hex(at: number, size: number): string {
    return this.bytes.toString("hex", at, at + size);
  }
}

const guestOf = (memory: Memory): RecordingGuest => memory as unknown as RecordingGuest;
const piece = (at: number, length: number, writable = false) => ({ at, length, writable });

test("a split ring: chains, an index that is stored last, used entries, events. VIRTIO 1.3 §2.7", () => {
  const memory = new Memory();
  const ring = new SplitRing(guestOf(memory), 4, AREAS, false);
  const id = ring.add([piece(0x1234, 16), piece(0x5678, 512, true)]);
  assert.is(id, 0);
  assert.is(memory.hex(0x100, 16), "34120000000000001000000001000100", "NEXT to 1");
  assert.is(memory.hex(0x110, 16), "78560000000000000002000002000000", "WRITE");
  assert.is(memory.hex(0x400, 6), "000000000000", "not available yet");
  memory.put16(0x600, 1);
  assert.not(ring.publish(), "the device asks for no notification");
  assert.is(memory.get16(0x402), 1);
  assert.is(ring.free, 2);
  assert.is(ring.take(), null);
  memory.put(0x604, Buffer.from("0000000001020000", "hex"));
  memory.put16(0x602, 1);
  assert.equal(ring.take(), { id: 0, length: 0x201, lengthAt: 0x608 });
  assert.is(ring.free, 4);
  memory.put16(0x602, 2);
  assert.throws(() => ring.take(), /more chains than it had/);
});

test("a split ring with event index: notifications at avail_event, used_event where the driver wants it. §2.7.7, §2.7.10", () => {
  const memory = new Memory();
  const ring = new SplitRing(guestOf(memory), 4, AREAS, true);
  ring.add([piece(0x1000, 1)]);
  assert.ok(ring.publish(), "avail_event is 0");
  ring.add([piece(0x1000, 1)]);
  assert.not(ring.publish());
  ring.wish(3);
  assert.is(memory.get16(0x40c), 3);
});

test("a packed ring: laps, lists whose first flags come last, tables, used descriptors. §2.8", () => {
  const memory = new Memory();
  const ring = new PackedRing(guestOf(memory), 4, AREAS, true);
  ring.add([piece(0x1000, 8), piece(0x2000, 8, true), piece(0x3000, 8, true)]);
  assert.is(memory.get16(0x10e), 0, "not available yet");
  assert.is(memory.get16(0x11e), 0x0083, "AVAIL of the first lap, NEXT, WRITE");
  assert.is(memory.get16(0x12e), 0x0082);
  assert.ok(ring.publish(), "the device's flags ask for every notification");
  assert.is(memory.get16(0x10e), 0x0081);
  assert.is(ring.free, 1);
  memory.put(0x100, Buffer.from("00100000000000001100000000008280", "hex"));
  assert.equal(ring.take(), { id: 0, length: 0x11, lengthAt: 0x108 });
  const id = ring.add([piece(0x1000, 8), piece(0x2000, 8, true)], 0x800);
  assert.is(memory.hex(0x800, 32), "00100000000000000800000000000000" + "00200000000000000800000000000200");
  ring.add([piece(0x4000, 4)]);
  memory.put(0x600, Buffer.from("00000200", "hex"));
  assert.ok(ring.publish(), "the event is the first place of the second lap");
  assert.is(memory.hex(0x130, 16), `0008000000000000200000000${id}008400`, "INDIRECT");
  assert.is(memory.get16(0x10e), 0x8000, "USED and no AVAIL: available on the second lap");
  ring.wish(2);
  assert.is(memory.hex(0x400, 4), "01000200", "two places on: 1 of the second lap");
});

test("the command says what it needs: a scenario, and a QEMU", () => {
  const said: string[] = [];
  const { log } = console;
  const { PATH } = process.env;
  console.log = (text: string) => said.push(text);
  try {
    assert.is(record(["--help"]), 0);
    assert.throws(
      () => record([]),
      (error: unknown) => error instanceof UsageError && /--scenario is missing/.test(error.message),
    );
    assert.throws(() => record(["--scenario", "tea"]), /no scenario "tea"; there are virtio-net-packed/);
    for (const out of ["/nonexistent/bridge.jsonl", "/"])
      assert.throws(
        () => record(["--scenario", "pci-bridge", "--out", out]),
        (error: unknown) => error instanceof UsageError && error.message.startsWith(`--out "${out}": `),
      );
    process.env.PATH = "/nonexistent";
    assert.throws(() => record(["--scenario", "pci-bridge"]), /install Debian's package qemu-system-x86/);
  } finally {
    console.log = log;
    process.env.PATH = PATH;
  }
  for (const name of Object.keys(SCENARIOS)) assert.ok(said[0]?.includes(name), name);
});

test.run();
