import type { AccessWidth } from "../../../contract/index.js";
import type { IrqControl, QtestTarget } from "./target.js";

const ONES = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff } as const;

/** `-machine none`: nobody answers anywhere, and time stands still. */
export class NoBoard implements QtestTarget {
  readonly irqs: IrqControl = { intercept: () => "unknown-device", set: () => "unknown-device" };
  #now = 0;

  ioRead(_port: number, width: AccessWidth): number {
    return ONES[width];
  }
  ioWrite(): void {}
  memRead(): number {
    return 0;
  }
  memWrite(): void {}
  ramAt(): null {
    return null;
  }
  now(): number {
    return this.#now;
  }
  nextTimer(): number {
    return Number.POSITIVE_INFINITY;
  }
  advance(until: number): boolean {
    this.#now = Math.max(this.#now, until);
    return true;
  }
  work(): void {}
}
