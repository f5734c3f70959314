import type { AccessWidth } from "../../../contract/index.js";

/** What qtest requests act on: the machine behind the server. None of it throws, whatever is asked. */
export interface QtestTarget {
  /** @param port 0 … 0xffff */
  ioRead(port: number, width: AccessWidth): number;
  ioWrite(port: number, width: AccessWidth, value: number): void;
  /** One access of 1, 2 or 4 bytes. @param address below 2⁵³ */
  memRead(address: number, width: AccessWidth): number;
  memWrite(address: number, width: AccessWidth, value: number): void;
  /** RAM at an address. @returns bytes up to the end of that RAM; null: no RAM there */
  ramAt(address: number): Uint8Array | null;
  /** ns */
  now(): number;
  /** ns until the next timer; Infinity: none is armed */
  nextTimer(): number;
  /**
   * Moves the clock on, each timer at its own time, for a while.
   * @returns whether `until` was reached; if not, call it again
   */
  advance(until: number): boolean;
  /** Lets the machine do what the request has set going. */
  work(): void;
  readonly irqs: IrqControl;
}

export type InterceptResult = "ok" | "unknown-device" | "already-enabled";

/** Interrupt lines, as requests watch and drive them. */
export interface IrqControl {
  intercept(path: string, direction: "in" | "out"): InterceptResult;
  /** @returns false: there is no such input */
  set(path: string, name: string, line: number, level: boolean): boolean | "unknown-device";
}
