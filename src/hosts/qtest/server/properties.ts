import type { Options, OptionValue } from "./option-string.js";
import { StartupError } from "./startup-error.js";

const UNITS: { readonly [suffix: string]: number } = { "": 1, B: 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Bytes out of `64M`, `0x1000`, `1G`; without a suffix they are counted in `unit`. @returns NaN: no size */
export const parseByteSize = (text: string, unit = 1): number => {
  if (/^0x[0-9a-f]+$/i.test(text)) return Number(text);
  const match = /^(\d+(?:\.\d+)?)([BKMGT]?)$/i.exec(text);
  if (match === null) return Number.NaN;
  const suffix = match[2]!.toUpperCase();
  return Math.floor(Number(match[1]) * (suffix === "" ? unit : UNITS[suffix]!));
};

/** The properties of one thing on the command line or in QMP: read by name and kind, and what nobody read is a mistake. */
export class Properties {
  /** for messages: the driver's name, say */
  readonly owner: string;
  readonly #values: Map<string, OptionValue>;

  constructor(owner: string, values: Options) {
    this.owner = owner;
    this.#values = new Map(values);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  string(name: string): string | undefined {
    const value = this.#take(name);
    return value === undefined ? undefined : String(value);
  }

  /** @throws StartupError without it */
  required(name: string): string {
    return this.string(name) ?? this.#fail(`parameter '${name}' is missing`);
  }

  boolean(name: string): boolean | undefined {
    const value = this.#take(name);
    if (value === undefined || typeof value === "boolean") return value;
    if (["on", "yes", "true", "y"].includes(String(value))) return true;
    if (["off", "no", "false", "n"].includes(String(value))) return false;
    return this.#fail(`parameter '${name}' is ${String(value)}; expected on or off`);
  }

  /** Whether it is `auto`; then it is taken. */
  auto(name: string): boolean {
    if (this.#values.get(name) !== "auto") return false;
    this.#take(name);
    return true;
  }

  integer(name: string, low: number, high: number): number | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    const number =
      typeof value === "number" || /^(0x[0-9a-f]+|-?\d+)$/i.test(String(value)) ? Number(value) : Number.NaN;
    if (Number.isInteger(number) && number >= low && number <= high) return number;
    return this.#fail(`parameter '${name}' is ${String(value)}; expected ${low} … ${high}`);
  }

  /** bytes */
  size(name: string, unit = 1): number | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    const bytes = parseByteSize(String(value), unit);
    return Number.isSafeInteger(bytes) && bytes >= 0
      ? bytes
      : this.#fail(`parameter '${name}' is no size: ${String(value)}`);
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T | undefined {
    const value = this.string(name);
    if (value === undefined) return undefined;
    const found = values.find((candidate) => candidate === value);
    return found ?? this.#fail(`parameter '${name}' is ${value}; expected ${values.join(", ")}`);
  }

  /** A property that is known and changes nothing here. */
  ignore(...names: readonly string[]): void {
    for (const name of names) this.#take(name);
  }

  /** The properties whose names begin so, taken out, without the beginning. */
  group(prefix: string): Properties {
    const inner = new Map<string, OptionValue>();
    for (const name of [...this.#values.keys()])
      if (name.startsWith(prefix)) inner.set(name.slice(prefix.length), this.#take(name)!);
    return new Properties(`${this.owner} ${prefix.slice(0, -1)}`, inner);
  }

  /** @throws StartupError naming the first property that nobody asked for */
  done(): void {
    const [left] = this.#values.keys();
    if (left !== undefined) throw new StartupError(`Property '${this.owner}.${left}' not found`);
  }

  #take(name: string): OptionValue | undefined {
    const value = this.#values.get(name);
    this.#values.delete(name);
    return value;
  }

  #fail(message: string): never {
    throw new StartupError(`${this.owner}: ${message}`);
  }
}
