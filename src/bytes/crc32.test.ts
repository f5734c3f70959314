import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { crc32, crc32View } from "./crc32.js";

const text = (ascii: string): Uint8Array => Uint8Array.from(ascii, (c) => c.charCodeAt(0));
type Crc = (bytes: Uint8Array, start: number, length: number, previous?: number) => number;
const ofBytes: Crc = (bytes, start, length, previous) => crc32(bytes, start, length, previous) >>> 0;
const ofView: Crc = (bytes, start, length, previous) =>
  crc32View(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), start, length, previous) >>> 0;

/** Straight from the definition: bit by bit, reflected polynomial. IEEE 802.3 §3.2.9 */
const bitwise = (bytes: Uint8Array): number => {
  let c = 0xffff_ffff;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ 0xedb8_8320 : c >>> 1;
  }
  return ~c >>> 0;
};

for (const [name, crc] of [
  ["crc32", ofBytes],
  ["crc32View", ofView],
] as const) {
  test(`${name} has the published check values`, () => {
    assert.is(crc(text("123456789"), 0, 9), 0xcbf4_3926);
    assert.is(crc(new Uint8Array(0), 0, 0), 0);
    assert.is(crc(text("a"), 0, 1), 0xe8b7_be43);
    assert.is(crc(text("The quick brown fox jumps over the lazy dog"), 0, 43), 0x414f_a339);
  });

  test(`${name} over a frame and its FCS, low byte first, is the residue 2144df1c`, () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), fc.nat(7), (frame, lead) => {
        const bytes = new Uint8Array(lead + frame.length + 4);
        bytes.set(frame, lead);
        const fcs = crc(bytes, lead, frame.length);
        new DataView(bytes.buffer).setUint32(lead + frame.length, fcs, true);
        assert.is(crc(bytes, lead, frame.length + 4), 0x2144_df1c);
      }),
      { numRuns: 100 },
    );
  });

  test(`${name} equals the bitwise definition at every length and start, whole or in pieces`, () => {
    const noise = Uint8Array.from({ length: 1600 }, (_, i) => Math.imul(i + 1, 0x9e37_79b1) >>> 23);
    for (let length = 0; length < 100; length++)
      for (let start = 0; start < 5; start++)
        assert.is(crc(noise, start, length), bitwise(noise.subarray(start, start + length)), `${start}+${length}`);
    fc.assert(
      fc.property(fc.nat(20), fc.nat(1580), fc.nat(1580), (start, length, cut) => {
        const first = Math.min(cut, length);
        const whole = bitwise(noise.subarray(start, start + length));
        assert.is(crc(noise, start, length), whole);
        assert.is(crc(noise, start + first, length - first, crc(noise, start, first)), whole);
      }),
      { numRuns: 60 },
    );
  });
}

test.run();
