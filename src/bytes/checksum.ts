/**
 * Sum of 16-bit big-endian words in one's complement, not yet folded. RFC 1071
 * @param sum what was summed before; an odd `length` is padded with a zero byte
 */
export const sumWords = (bytes: Uint8Array, start: number, length: number, sum = 0): number => {
  const end = start + (length & ~1);
  let total = sum;
  for (let i = start; i < end; i += 2) total += (bytes[i]! << 8) | bytes[i + 1]!;
  if ((length & 1) !== 0) total += bytes[end]! << 8;
  return total;
};

/**
 * `sumWords` where a DataView stands over the bytes already: about a third of the time for a full frame.
 * The result differs from `sumWords` and folds to the same checksum.
 */
export const sumWordsView = (view: DataView, start: number, length: number, sum = 0): number => {
  // Little-endian sums, exchanged at the end: byte order drops out of a one's complement sum. RFC 1071 §2 (B)
  const end = start + length;
  const pairsEnd = end - (length & 1);
  const unrolledEnd = end - (length & 15);
  // Two words for each read, which stay small integers.
  let low = 0;
  let high = 0;
  let i = start;
  for (; i < unrolledEnd; i += 16) {
    const a = view.getInt32(i, true);
    const b = view.getInt32(i + 4, true);
    const c = view.getInt32(i + 8, true);
    const d = view.getInt32(i + 12, true);
    low += (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff);
    high += (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16);
  }
  let total = low + high;
  for (; i < pairsEnd; i += 2) total += view.getUint16(i, true);
  if (i < end) total += view.getUint8(i);
  const folded = foldSum(total);
  return sum + (((folded & 0xff) << 8) | (folded >>> 8));
};

/** Folds a sum to 16 bits: adds the carries back in. RFC 1071 */
export const foldSum = (sum: number): number => {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x1_0000) + Math.floor(folded / 0x1_0000);
  return folded;
};

/** Folds a sum to 16 bits and complements it: the value that goes into the checksum field. RFC 1071 */
export const foldChecksum = (sum: number): number => ~foldSum(sum) & 0xffff;

/** The Internet checksum of a range; 0 over a range that holds its own correct checksum. RFC 1071 */
export const internetChecksum = (bytes: Uint8Array, start: number, length: number, sum = 0): number =>
  foldChecksum(sumWords(bytes, start, length, sum));
