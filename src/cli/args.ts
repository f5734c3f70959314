import { type ParseArgsConfig, parseArgs } from "node:util";

/** A mistake on the command line: one line on stderr, exit status 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const UNITS: { readonly [suffix: string]: number } = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** Bytes out of `200MB`, `16M`, `4096`: K, M, G and KB, MB, GB are all binary, as in scp. @throws UsageError */
export const parseSize = (text: string): number => {
  const match = /^(\d+)([KMG]?)B?$/i.exec(text);
  const unit = match === null ? undefined : UNITS[match[2]!.toUpperCase()];
  const size = match === null || unit === undefined ? Number.NaN : Number(match[1]) * unit;
  if (!Number.isSafeInteger(size) || size <= 0)
    throw new UsageError(`size "${text}": expected a number above 0, with K, M or G (binary) where wanted`);
  return size;
};

/** An unsigned 32-bit number, decimal or hexadecimal. @throws UsageError */
export const parseUint32 = (name: string, text: string): number => {
  const value = /^(\d+|0x[0-9a-f]+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!(value <= 0xffff_ffff)) throw new UsageError(`${name} "${text}": expected a number in 0 … 4294967295`);
  return value;
};

/** `util.parseArgs` whose mistakes are usage errors. */
export const parse = <T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> => {
  try {
    return parseArgs(config);
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message.split(/\. |\.?\n/)[0]!);
    throw error;
  }
};
