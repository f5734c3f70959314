import { StateError } from "../bytes/index.js";
import type { HostSeams } from "../contract/index.js";

/** A guest's mistakes of one function: the first of each code since reset reaches the host, all are counted. */
export class Reports {
  readonly #source: string;
  #host: HostSeams | null = null;
  readonly #counts = new Map<string, number>();

  constructor(source: string) {
    this.#source = source;
  }

  connect(host: HostSeams | null): void {
    this.#host = host;
  }

  /** @param code kebab-case; @param value the offending number */
  report(code: string, value = 0): void {
    const count = this.#counts.get(code) ?? 0;
    this.#counts.set(code, count + 1);
    if (count === 0 && this.#host !== null)
      this.#host.report({ source: this.#source, code, value, strictness: this.#host.strictness });
  }

  clear(): void {
    this.#counts.clear();
  }

  /** Counts by code. */
  save(): { readonly [code: string]: number } {
    return Object.fromEntries(this.#counts);
  }

  /** @throws StateError */
  check(state: unknown, path: string): readonly (readonly [string, number])[] {
    if (typeof state !== "object" || state === null || Array.isArray(state))
      throw new StateError(path, "not an object");
    return Object.entries(state as { readonly [code: string]: unknown }).map(([code, count]) => {
      if (typeof count !== "number" || !Number.isSafeInteger(count) || count < 1)
        throw new StateError(`${path}.${code}`, `${String(count)} is no count`);
      return [code, count] as const;
    });
  }

  restore(counts: readonly (readonly [string, number])[]): void {
    this.#counts.clear();
    for (const [code, count] of counts) this.#counts.set(code, count);
  }
}
