import type { SavedState } from "../contract/index.js";
import { StateError } from "./errors.js";

/** For messages; never calls what a crafted state may hold under `toString`. */
const show = (value: unknown): string => (typeof value === "object" && value !== null ? "an object" : String(value));

/**
 * Reads a saved state with its types and ranges checked, so that a crafted one is refused before anything is applied.
 * Every getter throws `StateError` naming the path.
 */
export class StateReader {
  readonly path: string;
  readonly #state: SavedState;

  constructor(state: unknown, path: string, version?: number) {
    if (typeof state !== "object" || state === null || Array.isArray(state))
      throw new StateError(path, "not an object");
    this.path = path;
    this.#state = state as SavedState;
    if (version !== undefined && this.#state.version !== version)
      throw new StateError(path, `version ${show(this.#state.version)}, expected ${version}`);
  }

  has(key: string): boolean {
    return this.#state[key] !== undefined;
  }

  /** An integer in min … max, both included; safe integers unless told otherwise. */
  integer(key: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
    const value = this.#state[key];
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max)
      throw new StateError(`${this.path}.${key}`, `${show(value)} is no integer in ${min} … ${max}`);
    return value;
  }

  /** A deadline in ns: a non-negative integer, or Infinity for none. */
  deadline(key: string): number {
    return this.#state[key] === Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : this.integer(key);
  }

  boolean(key: string): boolean {
    const value = this.#state[key];
    if (typeof value !== "boolean") throw new StateError(`${this.path}.${key}`, `${show(value)} is no boolean`);
    return value;
  }

  string(key: string): string {
    const value = this.#state[key];
    if (typeof value !== "string") throw new StateError(`${this.path}.${key}`, `${show(value)} is no string`);
    return value;
  }

  /** A Uint8Array; of exactly `length` bytes where that is given. The caller copies. */
  bytes(key: string, length?: number): Uint8Array {
    const value = this.#state[key];
    if (!(value instanceof Uint8Array) || (length !== undefined && value.length !== length))
      throw new StateError(`${this.path}.${key}`, `no Uint8Array of ${length ?? "any"} bytes`);
    return value;
  }

  /** An array of integers in min … max; of exactly `length` elements where that is given. */
  integers(key: string, min = 0, max = Number.MAX_SAFE_INTEGER, length?: number): number[] {
    const value = this.#state[key];
    if (!Array.isArray(value) || (length !== undefined && value.length !== length))
      throw new StateError(`${this.path}.${key}`, `no array of ${length ?? "any"} elements`);
    for (const n of value)
      if (!Number.isSafeInteger(n) || n < min || n > max)
        throw new StateError(`${this.path}.${key}`, `${show(n)} is no integer in ${min} … ${max}`);
    return [...(value as number[])];
  }

  object(key: string, version?: number): StateReader {
    return new StateReader(this.#state[key], `${this.path}.${key}`, version);
  }

  objects(key: string, length?: number): StateReader[] {
    const value = this.#state[key];
    if (!Array.isArray(value) || (length !== undefined && value.length !== length))
      throw new StateError(`${this.path}.${key}`, `no array of ${length ?? "any"} elements`);
    return value.map((element, i) => new StateReader(element, `${this.path}.${key}[${i}]`));
  }

  /** The state as it came, to hand on to the part that it belongs to. */
  get raw(): SavedState {
    return this.#state;
  }
}
