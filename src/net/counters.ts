/** Counters by name, from an array in the order of their names. */
export const namedCounters = <N extends string>(names: readonly N[], counts: Float64Array): { [name in N]: number } => {
  const named: Record<string, number> = {};
  for (const [i, name] of names.entries()) named[name] = counts[i]!;
  return named as { [name in N]: number };
};
