import type { AccessWidth } from "../contract/index.js";
import { PCI_CFG_SPACE_EXP_SIZE } from "../spec/pci.js";
import type { AddressSpace, Mapping, Target } from "./address-space.js";
import type { Bus } from "./bus.js";

/** Bytes for each bus: 32 devices of 8 functions of 4 KiB. */
const BUS_SIZE = 0x10_0000;
const FUNCTION_SHIFT = 12;

/** Where configuration space is in memory, and of how many buses from 0 on. */
export interface EcamRange {
  /** a multiple of what it covers */
  readonly base: number;
  /** 1 … 256 */
  readonly buses: number;
}

/** Bytes of a range. */
export const ecamSize = ({ buses }: EcamRange): number => buses * BUS_SIZE;

/**
 * Configuration space in memory: bus << 20 | device << 15 | function << 12 | register, 0 … FFFh. PCI Express 3.0 §7.2.2
 * What leaves a function's 4 KiB goes on in the next one's, byte by byte.
 */
export class Ecam implements Target {
  readonly #bus: Bus;
  readonly #space: AddressSpace;
  readonly #priority: number;
  #mapping: Mapping | null = null;
  #range: EcamRange | null = null;

  constructor(bus: Bus, space: AddressSpace, priority: number) {
    this.#bus = bus;
    this.#space = space;
    this.#priority = priority;
  }

  get range(): EcamRange | null {
    return this.#range;
  }

  /** From the next access on; null: nowhere. */
  move(range: EcamRange | null): void {
    if (range?.base === this.#range?.base && range?.buses === this.#range?.buses) return;
    if (this.#mapping !== null) this.#space.remove(this.#mapping);
    this.#range = range;
    this.#mapping = null;
    if (range === null) return;
    this.#mapping = this.#space.add(this, 0, ecamSize(range), this.#priority);
    this.#space.move(this.#mapping, range.base);
  }

  barRead(_bar: number, offset: number, width: AccessWidth): number {
    const register = offset % PCI_CFG_SPACE_EXP_SIZE;
    if (register + width <= PCI_CFG_SPACE_EXP_SIZE)
      return this.#bus.configRead(offset >>> FUNCTION_SHIFT, register, width);
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 0x100 + this.barRead(0, offset + i, 1);
    return value;
  }

  barWrite(_bar: number, offset: number, width: AccessWidth, value: number): void {
    const register = offset % PCI_CFG_SPACE_EXP_SIZE;
    if (register + width <= PCI_CFG_SPACE_EXP_SIZE)
      this.#bus.configWrite(offset >>> FUNCTION_SHIFT, register, width, value);
    else for (let i = 0; i < width; i++) this.barWrite(0, offset + i, 1, (value >>> (8 * i)) & 0xff);
  }
}
