/** Numbers as the requests have them: those of C's strtoull and strtoll with base 0. */

const U64 = 2n ** 64n;
const I64_MAX = 2n ** 63n - 1n;
/** An octal number, one in hexadecimal, or one in decimal; 0 alone is the first of these. */
const NUMBER = /^([+-]?)(0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)$/i;

/** Digits without a sign; `0o` is how BigInt wants what C writes with a mere 0. */
const magnitude = (digits: string): bigint => BigInt(/^0[0-7]/.test(digits) ? `0o${digits}` : digits);

/** 64 bits, unsigned; a minus sign negates within them, as strtoull does. @returns null: no number, or too large a one */
export const parseUint64 = (word: string | undefined): bigint | null => {
  const match = NUMBER.exec(word ?? "");
  if (match === null || match[2]!.length > 70) return null;
  const value = magnitude(match[2]!);
  if (value >= U64) return null;
  return match[1] === "-" ? BigInt.asUintN(64, -value) : value;
};

/** 64 bits, signed. @returns null: no number, or too large a one */
export const parseInt64 = (word: string | undefined): bigint | null => {
  const match = NUMBER.exec(word ?? "");
  if (match === null || match[2]!.length > 70) return null;
  const value = match[1] === "-" ? -magnitude(match[2]!) : magnitude(match[2]!);
  return value > I64_MAX || value < -I64_MAX - 1n ? null : value;
};

/** The low 32 bits. */
export const low32 = (value: bigint): number => Number(value & 0xffff_ffffn);

/** A number that is exact in JavaScript. @returns null: 2⁵³ or more, or below 0 */
export const toSafe = (value: bigint): number | null =>
  value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : null;
