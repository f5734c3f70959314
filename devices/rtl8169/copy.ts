/** Up to here a loop beats the view that `set(subarray)` makes, and leaves no garbage. bench/rtl8169.ts */
const SHORT = 64;

/** Copies bytes from one array into another; the ranges do not overlap, or are different bytes of one array. */
export const copyBytes = (source: Uint8Array, start: number, length: number, target: Uint8Array, at: number): void => {
  if (length > SHORT) target.set(length === source.length ? source : source.subarray(start, start + length), at);
  else for (let i = 0; i < length; i++) target[at + i] = source[start + i]!;
};
