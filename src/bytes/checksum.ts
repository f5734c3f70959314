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
  const unrolledEnd = end - (length & 7);
  let total = 0;
  let i = start;
  for (; i < unrolledEnd; i += 8)
    total +=
      view.getUint16(i, true) + view.getUint16(i + 2, true) + view.getUint16(i + 4, true) + view.getUint16(i + 6, true);
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
