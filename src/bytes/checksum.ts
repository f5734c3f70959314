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

/** Folds a sum to 16 bits and complements it: the value that goes into the checksum field. RFC 1071 */
export const foldChecksum = (sum: number): number => {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x1_0000) + Math.floor(folded / 0x1_0000);
  return ~folded & 0xffff;
};

/** The Internet checksum of a range; 0 over a range that holds its own correct checksum. RFC 1071 */
export const internetChecksum = (bytes: Uint8Array, start: number, length: number, sum = 0): number =>
  foldChecksum(sumWords(bytes, start, length, sum));
