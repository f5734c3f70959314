/** A word and the zeros that stand for the words of the other two streams, bytes. */
const STEP = 12;

/** Table k, from k·256 on, has the register after a byte and k zeros. */
const OVER_BYTES = new Int32Array(4 * 256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? 0xedb8_8320 ^ (c >>> 1) : c >>> 1;
  OVER_BYTES[n] = c;
}
for (let n = 256; n < OVER_BYTES.length; n++) {
  const shorter = OVER_BYTES[n - 256]!;
  OVER_BYTES[n] = OVER_BYTES[shorter & 0xff]! ^ (shorter >>> 8);
}

const overByte = (c: number, byte: number): number => OVER_BYTES[(c ^ byte) & 0xff]! ^ (c >>> 8);

/** @param c the register with the word's four bytes added */
const overWord = (c: number): number =>
  OVER_BYTES[768 + (c & 0xff)]! ^
  OVER_BYTES[512 + ((c >>> 8) & 0xff)]! ^
  OVER_BYTES[256 + ((c >>> 16) & 0xff)]! ^
  OVER_BYTES[c >>> 24]!;

/** The register after a step, for some bits of it: single ones by hand, the others are sums of two known ones. */
const overStep = (shift: number, bits: number): Int32Array => {
  const table = new Int32Array(2 ** bits);
  for (let n = 1; n < table.length; n++) {
    const rest = n & (n - 1);
    if (rest !== 0) table[n] = table[rest]! ^ table[n ^ rest]!;
    else {
      let c = n << shift;
      for (let i = 0; i < STEP; i++) c = overByte(c, 0);
      table[n] = c;
    }
  }
  return table;
};
const OVER_STEP_LOW = overStep(0, 11);
const OVER_STEP_MIDDLE = overStep(11, 11);
const OVER_STEP_HIGH = overStep(22, 10);

/**
 * The frame check sequence: CRC-32 as transmitted, least significant byte first. IEEE 802.3 §3.2.9
 * For a few bytes, or where no DataView stands over them; `crc32View` takes half the time for a full frame.
 * @param previous the result for the bytes in front of these, where a frame lies in pieces
 * @returns an int32, which is never boxed on its way; `>>> 0` makes it unsigned
 */
export const crc32 = (bytes: Uint8Array, start: number, length: number, previous = 0): number => {
  const end = start + length;
  let c = ~previous;
  let i = start;
  for (const last = end - 4; i <= last; i += 4)
    c = overWord(c ^ (bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24)));
  for (; i < end; i++) c = overByte(c, bytes[i]!);
  return ~c;
};

/**
 * `crc32` where a DataView stands over the bytes already.
 *
 * Every third word belongs to one of three streams, whose look-ups need not wait for each other; in a stream, zeros stand
 * for the other words. The CRC is linear, so the three are added up where the last words come.
 */
export const crc32View = (view: DataView, start: number, length: number, previous = 0): number => {
  const end = start + length;
  let a = ~previous;
  let b = 0;
  let c = 0;
  let i = start;
  for (const last = end - 2 * STEP; i <= last; i += STEP) {
    a ^= view.getInt32(i, true);
    b ^= view.getInt32(i + 4, true);
    c ^= view.getInt32(i + 8, true);
    a = OVER_STEP_LOW[a & 0x7ff]! ^ OVER_STEP_MIDDLE[(a >>> 11) & 0x7ff]! ^ OVER_STEP_HIGH[a >>> 22]!;
    b = OVER_STEP_LOW[b & 0x7ff]! ^ OVER_STEP_MIDDLE[(b >>> 11) & 0x7ff]! ^ OVER_STEP_HIGH[b >>> 22]!;
    c = OVER_STEP_LOW[c & 0x7ff]! ^ OVER_STEP_MIDDLE[(c >>> 11) & 0x7ff]! ^ OVER_STEP_HIGH[c >>> 22]!;
  }
  for (const last = end - 4; i <= last; i += 4) {
    a = overWord(a ^ view.getInt32(i, true)) ^ b;
    b = c;
    c = 0;
  }
  for (; i < end; i++) a = overByte(a, view.getUint8(i));
  return ~a;
};
