import type { Bdf } from "../../contract/index.js";
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_CLASS_DEVICE,
  PCI_DEVICE_ID,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MASK,
  PCI_VENDOR_ID,
  pciBus,
  pciDevice,
  pciFunction,
} from "../../spec/pci.js";

/** A PCI function as a listing program sees it: its configuration bytes, and what the operating system knows beyond them. */
export interface PciListing {
  readonly bdf: Bdf;
  /** default 0 */
  readonly domain?: number;
  /** the first 64 bytes of configuration space (what an ordinary user may read), or all 256 */
  readonly config: Uint8Array;
  /** bytes by BAR index, 6 the ROM, as the system found them by sizing; without it they are taken from a register dump */
  readonly sizes?: { readonly [bar: number]: number };
  /** the interrupt as the system routed it; default: Interrupt Line */
  readonly irq?: number;
  /** name of the driver that holds the function */
  readonly driver?: string;
}

/** The configuration bytes of a listing, read as registers. */
export class ConfigBytesReader {
  readonly #bytes: Uint8Array;

  constructor(config: Uint8Array) {
    this.#bytes = config;
  }

  /** Whether a range can be read at all. */
  has(at: number, length: number): boolean {
    return at >= 0 && at + length <= this.#bytes.length;
  }

  /** 0 beyond the end */
  byte(at: number): number {
    return this.#bytes[at] ?? 0;
  }

  word(at: number): number {
    return this.byte(at) | (this.byte(at + 1) << 8);
  }

  /** unsigned */
  long(at: number): number {
    return (this.word(at) | (this.word(at + 2) << 16)) >>> 0;
  }

  get vendor(): number {
    return this.word(PCI_VENDOR_ID);
  }

  get device(): number {
    return this.word(PCI_DEVICE_ID);
  }

  /** base class × 256 + sub-class */
  get class(): number {
    return this.word(PCI_CLASS_DEVICE);
  }

  /** without the multi-function bit */
  get headerType(): number {
    return this.byte(PCI_HEADER_TYPE) & PCI_HEADER_TYPE_MASK;
  }
}

/** A base address register with its upper half. */
export interface BaseAddress {
  /** as it stands in configuration space */
  readonly register: number;
  /** upper 32 bits of the address; 0 for all but 64-bit ones */
  readonly high: number;
  /** false: no address could be made of it (it is the upper half of the one before, all ones, or half a 64-bit one) */
  readonly valid: boolean;
}

/** Reads `count` base address registers in the manner of a system that walks them in order. */
export const baseAddresses = (config: ConfigBytesReader, count: number): BaseAddress[] => {
  const list: BaseAddress[] = [];
  for (let i = 0; i < count; i++) {
    const register = config.long(PCI_BASE_ADDRESS_0 + 4 * i);
    const is64 =
      register !== 0xffff_ffff &&
      (register & PCI_BASE_ADDRESS_SPACE_IO) === 0 &&
      (register & PCI_BASE_ADDRESS_MEM_TYPE_MASK) === PCI_BASE_ADDRESS_MEM_TYPE_64;
    if (!is64) list.push({ register, high: 0, valid: register !== 0xffff_ffff });
    else if (i === count - 1) list.push({ register, high: 0, valid: false });
    else {
      const high = config.long(PCI_BASE_ADDRESS_0 + 4 * ++i);
      list.push({ register, high, valid: true }, { register: high, high: 0, valid: false });
    }
  }
  return list;
};

export const hex2 = (n: number): string => n.toString(16).padStart(2, "0");
export const hex4 = (n: number): string => n.toString(16).padStart(4, "0");
export const hex8 = (n: number): string => n.toString(16).padStart(8, "0");

/** `00:03.0`, or `0000:00:03.0` with its domain. */
export const slotName = ({ bdf, domain = 0 }: PciListing, withDomain: boolean): string =>
  `${withDomain ? `${hex4(domain)}:` : ""}${hex2(pciBus(bdf))}:${hex2(pciDevice(bdf))}.${pciFunction(bdf)}`;

/** By domain, bus, device and function. */
export const inOrder = (listings: readonly PciListing[]): PciListing[] =>
  [...listings].sort((a, b) => (a.domain ?? 0) - (b.domain ?? 0) || a.bdf - b.bdf);
