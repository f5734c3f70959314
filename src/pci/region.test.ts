import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { AccessWidth, BarHandler } from "../contract/index.js";
import type { BarDeclaration } from "./declaration.js";
import { Region } from "./region.js";

/** Sixteen bytes 0x10 … 0x1f, and a record of the calls that reached them. */
class Recorder implements BarHandler {
  readonly calls: string[] = [];
  readonly bytes = Uint8Array.from({ length: 16 }, (_, i) => 0x10 + i);
  readonly #view = new DataView(this.bytes.buffer);
  read(offset: number, width: AccessWidth): number {
    this.calls.push(`r${width}@${offset}`);
    return width === 4
      ? this.#view.getUint32(offset, true)
      : width === 2
        ? this.#view.getUint16(offset, true)
        : this.bytes[offset]!;
  }
  write(offset: number, width: AccessWidth, value: number): void {
    this.calls.push(`w${width}@${offset}=${value.toString(16)}`);
    for (let i = 0; i < width; i++) this.bytes[offset + i] = value >>> (8 * i);
  }
}

const rig = (more: Partial<BarDeclaration> = {}) => {
  const handler = new Recorder();
  return { handler, region: new Region({ kind: "mem32", size: 16, ...more, handler }) };
};

test("an aligned access of an accepted width passes whole", () => {
  const { handler, region } = rig();
  assert.is(region.read(0, 1), 0x10);
  assert.is(region.read(2, 2), 0x1312);
  assert.is(region.read(12, 4), 0x1f1e1d1c);
  region.write(4, 4, 0xdeadbeef);
  assert.equal(handler.calls, ["r1@0", "r2@2", "r4@12", "w4@4=deadbeef"]);
});

test("PCI-137 an unaligned access is split into aligned calls, unless declared supported", () => {
  const split = rig();
  assert.is(split.region.read(3, 4), 0x16151413);
  split.region.write(3, 4, 0xa4a3a2a1);
  assert.equal(split.handler.calls, ["r1@3", "r2@4", "r1@6", "w1@3=a1", "w2@4=a3a2", "w1@6=a4"]);
  const whole = rig({ unaligned: true });
  assert.is(whole.region.read(3, 4), 0x16151413);
  whole.region.write(3, 4, 0xa4a3a2a1);
  assert.equal(whole.handler.calls, ["r4@3", "w4@3=a4a3a2a1"]);
});

test("PCI-086 an access over the end of a BAR reaches the device with its inside part only", () => {
  const { handler, region } = rig();
  assert.is(region.read(14, 4), 0xffff1f1e);
  assert.is(region.read(15, 2), 0xff1f);
  region.write(14, 4, 0x44332211);
  assert.is(region.read(-1, 2), 0x10ff);
  assert.equal(handler.calls, ["r2@14", "r1@15", "w2@14=2211", "r1@0"]);
});

test("wider accesses arrive as pieces of the widest accepted width, in ascending order", () => {
  const bytes = rig({ accepts: [1] });
  assert.is(bytes.region.read(4, 4), 0x17161514);
  bytes.region.write(4, 2, 0xbbaa);
  assert.equal(bytes.handler.calls, ["r1@4", "r1@5", "r1@6", "r1@7", "w1@4=aa", "w1@5=bb"]);
  const words = rig({ accepts: [2] });
  assert.is(words.region.read(8, 4), 0x1b1a1918);
  assert.equal(words.handler.calls, ["r2@8", "r2@10"]);
});

test("PCI-138 a rejected width reads the declared value and writes nothing", () => {
  const ones = rig({ accepts: [4] });
  assert.is(ones.region.read(0, 1), 0xff);
  assert.is(ones.region.read(0, 2), 0xffff);
  assert.is(ones.region.read(2, 4), 0xffffffff, "not aligned: two words, both rejected");
  const zero = rig({ accepts: [2, 4], rejected: 0 });
  assert.is(zero.region.read(1, 1), 0);
  zero.region.write(1, 1, 0x55);
  assert.is(zero.region.read(1, 4), 0x00131200, "only the word in the middle is accepted");
  assert.equal(ones.handler.calls, []);
  assert.equal(zero.handler.calls, ["r2@2"]);
});

test("PCI-140 read results are truncated to the width, unsigned", () => {
  const region = new Region({ kind: "io", size: 8, handler: { read: () => -1, write: () => {} } });
  assert.is(region.read(0, 1), 0xff);
  assert.is(region.read(0, 2), 0xffff);
  assert.is(region.read(0, 4), 0xffffffff);
  assert.is(region.read(3, 4), 0xffffffff);
});

test("values written are truncated to the width, unsigned", () => {
  const { handler, region } = rig();
  region.write(0, 1, 0x1ff);
  region.write(0, 2, -1);
  region.write(0, 4, -2);
  assert.equal(handler.calls, ["w1@0=ff", "w2@0=ffff", "w4@0=fffffffe"]);
});

test("PCI-090 a read-only region drops every write", () => {
  const handler = new Recorder();
  const region = new Region({ kind: "mem32", size: 16, handler }, true);
  region.write(0, 4, 0);
  region.write(3, 4, 0);
  assert.is(region.read(0, 4), 0x13121110);
  assert.equal(handler.calls, ["r4@0"]);
});

test("PCI-141 two byte writes to a 16-bit register follow the device's policy: merged by lanes, or rejected", () => {
  const merged = rig();
  merged.region.write(4, 1, 0xcd);
  merged.region.write(5, 1, 0xab);
  assert.is(merged.region.read(4, 2), 0xabcd);
  const rejected = rig({ accepts: [2] });
  rejected.region.write(4, 1, 0xcd);
  rejected.region.write(5, 1, 0xab);
  assert.is(rejected.region.read(4, 2), 0x1514);
});

const width = fc.constantFrom<AccessWidth>(1, 2, 4);

test("PCI-087 PCI-135 whatever the access: offsets inside, widths accepted, aligned unless declared otherwise", () => {
  const accepts = fc.subarray<AccessWidth>([1, 2, 4], { minLength: 1 });
  fc.assert(
    fc.property(
      accepts,
      fc.boolean(),
      fc.integer({ min: -8, max: 24 }),
      width,
      fc.integer(),
      (widths, unaligned, at, w, value) => {
        const seen = (offset: number, part: AccessWidth): number => {
          assert.ok(widths.includes(part), `width ${part}`);
          assert.ok(offset >= 0 && offset + part <= 16, `${part} bytes at ${offset}`);
          if (!unaligned) assert.is(offset % part, 0);
          return 0;
        };
        const region = new Region({
          kind: "io",
          size: 16,
          accepts: widths,
          unaligned,
          handler: { read: seen, write: seen },
        });
        const got = region.read(at, w);
        assert.ok(got >= 0 && got < 2 ** (8 * w));
        region.write(at, w, value);
      },
    ),
    { numRuns: 2000 },
  );
});

test("a device that takes bytes: every access is the sum of its bytes", () => {
  fc.assert(
    fc.property(fc.integer({ min: -4, max: 20 }), width, fc.integer({ min: 0, max: 0xffffffff }), (at, w, value) => {
      const { handler, region } = rig();
      region.write(at, w, value);
      let expected = 0;
      for (let i = w - 1; i >= 0; i--) expected = expected * 256 + (handler.bytes[at + i] ?? 0xff);
      assert.is(region.read(at, w), expected);
      for (let i = 0; i < 16; i++)
        assert.is(handler.bytes[i]!, i >= at && i < at + w ? (value >>> (8 * (i - at))) & 0xff : 0x10 + i);
    }),
    { numRuns: 2000 },
  );
});

test("PCI-139 a handler without a way to read reads all ones; one without a way to write forgets what is written", () => {
  const written: number[] = [];
  const blind = new Region({
    kind: "mem32",
    size: 16,
    handler: { write: (_at, _width, value) => void written.push(value) },
  });
  assert.equal(
    [blind.read(0, 1), blind.read(2, 2), blind.read(4, 4), blind.read(14, 4)],
    [0xff, 0xffff, 0xffff_ffff, 0xffff_ffff],
  );
  blind.write(0, 2, 0x1234);
  assert.equal(written, [0x1234]);
  const mute = new Region({ kind: "mem32", size: 16, handler: { read: () => 0x42 } });
  mute.write(0, 1, 7);
  assert.is(mute.read(0, 1), 0x42);
});

test.run();
