import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { foldChecksum, foldSum, internetChecksum, sumWords, sumWordsView } from "./checksum.js";

const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

test("the worked example of RFC 1071 §3 sums to 2ddf0 and folds to ddf2", () => {
  const words = bytesOf("0001f203f4f5f6f7");
  assert.is(sumWords(words, 0, 8), 0x2ddf0);
  assert.is(foldSum(0x2ddf0), 0xddf2);
  assert.is(internetChecksum(words, 0, 8), 0x220d);
});

test("an IPv4 header with its checksum in place sums to nothing", () => {
  // RFC 791 header of a 115-byte UDP packet 192.168.0.1 -> 192.168.0.199, checksum b861
  const header = bytesOf("4500007300004000 4011b861c0a80001c0a800c7".replace(/ /g, ""));
  assert.is(internetChecksum(header, 0, 20), 0);
  header[10] = 0;
  header[11] = 0;
  assert.is(internetChecksum(header, 0, 20), 0xb861);
});

test("an odd last byte is the high half of a word", () => {
  assert.is(sumWords(bytesOf("ab"), 0, 1), 0xab00);
  assert.is(foldSum(sumWordsView(viewOf(bytesOf("ab")), 0, 1)), 0xab00);
});

test("nothing sums to nothing", () => {
  assert.is(sumWords(new Uint8Array(4), 2, 0), 0);
  assert.is(sumWordsView(viewOf(new Uint8Array(4)), 2, 0), 0);
  assert.is(foldChecksum(0), 0xffff);
});

test("carries go round as often as it takes", () => {
  assert.is(foldSum(0xffff), 0xffff);
  assert.is(foldSum(0x1_0000), 1);
  assert.is(foldSum(0x1_ffff), 1);
  assert.is(foldSum(0xffff_ffff), 0xffff);
  assert.is(foldSum(2 ** 48), 1);
});

test("both sums agree with a word-by-word reference at any start and length", () => {
  const cases = fc.record({
    bytes: fc.uint8Array({ minLength: 1, maxLength: 80 }),
    from: fc.nat(),
    size: fc.nat(),
    sum: fc.nat(0xffff_ffff),
  });
  fc.assert(
    fc.property(cases, ({ bytes, from, size, sum }) => {
      const start = from % bytes.length;
      const length = size % (bytes.length - start + 1);
      let reference = BigInt(sum);
      for (let i = 0; i < length; i += 2)
        reference += BigInt(bytes[start + i]! * 256 + (i + 1 < length ? bytes[start + i + 1]! : 0));
      while (reference > 0xffffn) reference = (reference & 0xffffn) + (reference >> 16n);
      assert.is(foldSum(sumWords(bytes, start, length, sum)), Number(reference));
      assert.is(foldSum(sumWordsView(viewOf(bytes), start, length, sum)) % 0xffff, Number(reference) % 0xffff);
    }),
    { numRuns: 300 },
  );
});

test("a sum taken in two pieces is the sum of the whole, if the first piece is even", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4, maxLength: 64 }), fc.nat(), (bytes, cut) => {
      const head = (cut % bytes.length) & ~1;
      const inPieces = sumWords(bytes, head, bytes.length - head, sumWords(bytes, 0, head));
      assert.is(inPieces, sumWords(bytes, 0, bytes.length));
    }),
    { numRuns: 100 },
  );
});

test("bytes around the range do not count", () => {
  const bytes = new Uint8Array(64).fill(0xff);
  bytes.fill(0, 20, 43);
  assert.is(sumWords(bytes, 20, 23), 0);
  assert.is(sumWordsView(viewOf(bytes), 20, 23), 0);
});

test.run();
