/** Whether n is 1, 2, 4 … 2⁵². */
export const isPowerOfTwo = (n: number): boolean =>
  Number.isSafeInteger(n) && n > 0 && 2 ** Math.round(Math.log2(n)) === n;

/** The least multiple of `alignment` (a power of two) that is not below n; exact below 2⁵³. */
export const alignUp = (n: number, alignment: number): number => Math.ceil(n / alignment) * alignment;

/** Whether a range of `len` bytes at `start` lies between two multiples of `boundary`; 0 is no boundary. */
export const withinBoundary = (start: number, len: number, boundary: number): boolean =>
  boundary === 0 || Math.floor(start / boundary) === Math.floor((start + len - 1) / boundary);
