/** Up to here a loop takes no longer than `set(subarray)`, and leaves no view behind: headers, acknowledgements. bench/copy.ts */
const SHORT = 72;

/**
 * Copies bytes from one array to another, at the least cost: a loop for the shortest frames, `set` for what is
 * an array of its own, and one short-lived view for a larger piece of an array. The ranges do not overlap.
 */
export const copyBytes = (source: Uint8Array, start: number, length: number, target: Uint8Array, at: number): void => {
  if (length > SHORT) {
    target.set(length === source.length ? source : source.subarray(start, start + length), at);
    return;
  }
  let i = 0;
  for (const last = length - 8; i <= last; i += 8) {
    const from = start + i;
    const to = at + i;
    target[to] = source[from]!;
    target[to + 1] = source[from + 1]!;
    target[to + 2] = source[from + 2]!;
    target[to + 3] = source[from + 3]!;
    target[to + 4] = source[from + 4]!;
    target[to + 5] = source[from + 5]!;
    target[to + 6] = source[from + 6]!;
    target[to + 7] = source[from + 7]!;
  }
  for (; i < length; i++) target[at + i] = source[start + i]!;
};
