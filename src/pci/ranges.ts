import type { AddressRange } from "../contract/index.js";

/** What two lists of ranges have in common; both ascending and disjoint, and so is the result. */
export const intersectRanges = (a: readonly AddressRange[], b: readonly AddressRange[]): AddressRange[] => {
  const common: AddressRange[] = [];
  for (let i = 0, k = 0; i < a.length && k < b.length; ) {
    const [aStart, aEnd] = a[i]!;
    const [bStart, bEnd] = b[k]!;
    if (aStart < bEnd && bStart < aEnd) common.push([Math.max(aStart, bStart), Math.min(aEnd, bEnd)]);
    if (aEnd <= bEnd) i++;
    else k++;
  }
  return common;
};

/** Sorts ranges and joins those that touch; empty ones go. */
export const uniteRanges = (ranges: readonly AddressRange[]): AddressRange[] => {
  const joined: AddressRange[] = [];
  for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (start >= end) continue;
    if (last !== undefined && start <= last[1]) joined[joined.length - 1] = [last[0], Math.max(last[1], end)];
    else joined.push([start, end]);
  }
  return joined;
};

/** What of the ranges in `a` is in none of those in `b`. */
export const subtractRanges = (a: readonly AddressRange[], b: readonly AddressRange[]): AddressRange[] => {
  const rest: AddressRange[] = [];
  for (const [start, end] of a) {
    let from = start;
    for (const [holeStart, holeEnd] of b) {
      if (holeEnd <= from || holeStart >= end) continue;
      if (holeStart > from) rest.push([from, holeStart]);
      from = holeEnd;
    }
    if (from < end) rest.push([from, end]);
  }
  return rest;
};

export const sameRanges = (a: readonly AddressRange[], b: readonly AddressRange[]): boolean =>
  a.length === b.length && a.every(([start, end], i) => start === b[i]![0] && end === b[i]![1]);
