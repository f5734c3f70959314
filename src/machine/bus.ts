import type { AccessWidth, Bdf, Slot } from "../contract/index.js";
import { PCI_CONFIG_ENABLE, PIIX_RC_RESET_CPU, PIIX_RC_SYSTEM_RESET, pciBus, pciDevice } from "../spec/pci.js";
import type { Target } from "./address-space.js";
import type { BusSegment } from "./segment.js";

/** Numbers from here on are those of buses behind bridges. */
const BUS_1 = 0x100;
const END_OF_BUSES = 0x1_0000;
const DATA = 4; // offset of CONFIG_DATA from CONFIG_ADDRESS
const RESET_CONTROL = 1;

const ones = (width: AccessWidth): number => (width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff);

export interface BusOptions {
  /**
   * Bits 1:0 of CONFIG_ADDRESS are OR-ed into the register number, as QEMU does and its own tests need. Default false:
   * they are ignored. PCI 3.0 §3.2.2.3.2
   */
  readonly unalignedConfigAddress?: boolean;
  /** A write to the reset control register, port 0xCF9. */
  readonly onReset?: (kind: "platform" | "cpu") => void;
}

/**
 * Configuration cycles: they find functions by bus, device and function number, directly or through ports 0xCF8 … 0xCFF.
 *
 * As a `Target` it is these eight ports: CONFIG_ADDRESS takes 32-bit accesses only, the reset control register at 0xCF9
 * 8-bit ones only, CONFIG_DATA any lane.
 */
export class Bus implements Target {
  readonly root: BusSegment;
  readonly #quirk: boolean;
  readonly #onReset: (kind: "platform" | "cpu") => void;
  /** what was written to CONFIG_ADDRESS; unsigned */
  address = 0;
  /** reset control: bit 1 reads back */
  resetControl = 0;

  /** @param root bus 0 */
  constructor(root: BusSegment, { unalignedConfigAddress = false, onReset = () => {} }: BusOptions = {}) {
    this.root = root;
    this.#quirk = unalignedConfigAddress;
    this.#onReset = onReset;
  }

  /** Who answers configuration cycles at an address now; null: nobody. */
  visible(bdf: Bdf): Slot | null {
    if (bdf >= 0 && bdf < BUS_1) return this.root.visible(bdf);
    const segment = this.#behindBridges(bdf);
    if (segment === null || pciDevice(bdf) > (segment.bridge?.lastDevice ?? 0)) return null;
    return segment.visible(bdf % BUS_1);
  }

  /** All ones where no function answers. */
  configRead(bdf: Bdf, offset: number, width: AccessWidth): number {
    const slot = this.visible(bdf);
    if (slot !== null) return slot.configRead(offset, width);
    if (bdf >= BUS_1) this.#behindBridges(bdf)?.bridge?.masterAborted();
    return ones(width);
  }

  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void {
    const slot = this.visible(bdf);
    if (slot !== null) slot.configWrite(offset, width, value);
    else if (bdf >= BUS_1) this.#behindBridges(bdf)?.bridge?.masterAborted();
  }

  #behindBridges(bdf: Bdf): BusSegment | null {
    return bdf >= BUS_1 && bdf < END_OF_BUSES ? this.root.find(pciBus(bdf)) : null;
  }

  /** CONFIG_ADDRESS and reset control as after RST#. */
  reset(): void {
    this.address = 0;
    this.resetControl = 0;
  }

  // ---------------------------------------------------------------------------------------------- ports 0xCF8 … 0xCFF

  barRead(_bar: number, offset: number, width: AccessWidth): number {
    if (offset >= DATA) return this.#dataRead(offset - DATA, width);
    if (offset === 0 && width === 4) return this.address;
    if (offset === RESET_CONTROL && width === 1) return this.resetControl;
    const outside = Math.min(width, DATA - offset); // bytes that are neither register
    if (outside === width) return ones(width);
    let value = 0;
    for (let i = width - 1; i >= 0; i--)
      value = value * 0x100 + (i < outside ? 0xff : this.#dataRead(offset + i - DATA, 1));
    return value;
  }

  barWrite(_bar: number, offset: number, width: AccessWidth, value: number): void {
    if (offset >= DATA) this.#dataWrite(offset - DATA, width, value);
    else if (offset === 0 && width === 4) this.address = value >>> 0;
    else if (offset === RESET_CONTROL && width === 1) this.#writeResetControl(value);
    else for (let i = DATA - offset; i < width; i++) this.#dataWrite(offset + i - DATA, 1, (value >>> (8 * i)) & 0xff);
  }

  #dataRead(lane: number, width: AccessWidth): number {
    return this.address >= PCI_CONFIG_ENABLE
      ? this.configRead(this.#selected, this.#register(lane), width)
      : ones(width);
  }

  #dataWrite(lane: number, width: AccessWidth, value: number): void {
    if (this.address >= PCI_CONFIG_ENABLE) this.configWrite(this.#selected, this.#register(lane), width, value);
  }

  get #selected(): Bdf {
    return (this.address >>> 8) & 0xffff;
  }

  #register(lane: number): number {
    return this.#quirk ? (this.address | lane) & 0xff : (this.address & 0xfc) + lane;
  }

  /** 02h and then 06h is a hard reset; bit 2 is not kept, so that each write of it is the edge that resets. */
  #writeResetControl(value: number): void {
    this.resetControl = value & PIIX_RC_SYSTEM_RESET;
    if ((value & PIIX_RC_RESET_CPU) !== 0) this.#onReset(this.resetControl !== 0 ? "platform" : "cpu");
  }
}
