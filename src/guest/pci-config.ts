import type { AccessWidth, Bdf, GuestBus } from "../contract/index.js";
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_IO_MASK,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_CAP_ID_EXP,
  PCI_CAP_LIST_ID,
  PCI_CAP_LIST_NEXT,
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_CONFIG_SIZE,
  PCI_EXT_CAP_START,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS_MASK,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STD_HEADER_SIZEOF,
  PCI_VENDOR_ID,
} from "../spec/pci.js";

/** Reads and writes one function's configuration space; all ones and nothing once the function has gone. */
export class ConfigAccess {
  readonly bdf: Bdf;
  gone = false;
  readonly #bus: GuestBus;

  constructor(bus: GuestBus, bdf: Bdf) {
    this.#bus = bus;
    this.bdf = bdf;
  }

  read(offset: number, width: AccessWidth): number {
    if (this.gone) return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
    return this.#bus.configRead(this.bdf, offset, width);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    if (this.gone) return;
    this.#bus.configWrite(this.bdf, offset, width, width === 4 ? value >>> 0 : value & (width === 2 ? 0xffff : 0xff));
  }

  /** Clears and sets bits of a 16-bit register, and leaves it alone when that changes nothing. @returns what it was */
  update(offset: number, clear: number, set: number): number {
    const was = this.read(offset, 2);
    const next = (was & ~clear) | set;
    if (next !== was) this.write(offset, 2, next);
    return was;
  }
}

/** A list has at most one entry per dword behind the header; a longer walk is a cycle. */
const CAP_LIMIT = (PCI_CONFIG_SIZE - PCI_STD_HEADER_SIZEOF) / 4;
const EXT_CAP_LIMIT = (PCI_CFG_SPACE_EXP_SIZE - PCI_CONFIG_SIZE) / 4;

/** Offsets of the capabilities in the order of the list; ends at the first pointer that is out of range or repeats. */
export const capabilities = (config: ConfigAccess): number[] => {
  const found: number[] = [];
  if (config.gone || (config.read(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST) === 0) return found;
  let at = config.read(PCI_CAPABILITY_LIST, 1) & 0xfc; // the low bits are reserved, §6.7
  while (at >= PCI_STD_HEADER_SIZEOF && !found.includes(at) && found.length < CAP_LIMIT) {
    if (config.read(at + PCI_CAP_LIST_ID, 1) === 0xff) break; // nobody answers
    found.push(at);
    at = config.read(at + PCI_CAP_LIST_NEXT, 1) & 0xfc;
  }
  return found;
};

/** The same for extended capabilities, which only a PCI Express function has. */
const extendedCapabilities = (config: ConfigAccess): number[] => {
  const found: number[] = [];
  if (findCapability(config, PCI_CAP_ID_EXP) === null) return found;
  const first = config.read(PCI_EXT_CAP_START, 4);
  // All ones: the machine reaches 256 bytes only. The header again: it cuts the offset. Zero: an empty list.
  if (first === 0xffff_ffff || first === 0 || first === config.read(PCI_VENDOR_ID, 4)) return found;
  for (let at = PCI_EXT_CAP_START; at >= PCI_EXT_CAP_START && found.length < EXT_CAP_LIMIT; ) {
    if (found.includes(at)) break;
    const header = config.read(at, 4);
    if (header === 0xffff_ffff) break;
    found.push(at);
    at = (header >>> 20) & 0xffc;
  }
  return found;
};

/** Looks behind `after` in the whole list, so that even a caller's loop over a cyclic list ends. */
const firstAfter = (
  list: readonly number[],
  after: number | undefined,
  fits: (at: number) => boolean,
): number | null => {
  const from = after === undefined ? 0 : list.indexOf(after) + 1;
  if (after !== undefined && from === 0) return null;
  return list.slice(from).find(fits) ?? null;
};

export const findCapability = (config: ConfigAccess, id: number, after?: number): number | null =>
  firstAfter(capabilities(config), after, (at) => config.read(at + PCI_CAP_LIST_ID, 1) === id);

export const findExtendedCapability = (config: ConfigAccess, id: number, after?: number): number | null =>
  firstAfter(extendedCapabilities(config), after, (at) => config.read(at, 2) === id);

/** What a base address register decodes. */
export interface Bar {
  /** offset of the register: 0x10 + 4·n, 0x30 for the ROM */
  readonly rid: number;
  readonly type: "memory" | "ioport";
  /** address or port as it stands in the register; 0 where none has been assigned */
  readonly start: number;
  /** bytes, a power of two */
  readonly size: number;
  /** takes the next register, too */
  readonly wide: boolean;
  readonly prefetchable: boolean;
}

const lowestBit = (value: number): number => (value & -value) >>> 0;

/**
 * Sizes a BAR as FreeBSD does: decode off, all ones into the low and then the high half, read back, all restored.
 * PCI 3.0 §6.2.5.1
 * @param last whether the next register is no BAR any more; @returns null where none is implemented
 */
export const sizeBar = (config: ConfigAccess, rid: number, last: boolean): Bar | null => {
  const low = config.read(rid, 4);
  const io = (low & PCI_BASE_ADDRESS_SPACE_IO) !== 0;
  const wide = !io && (low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) === PCI_BASE_ADDRESS_MEM_TYPE_64;
  if (wide && last) return null;
  const high = wide ? config.read(rid + 4, 4) : 0;
  const command = config.update(PCI_COMMAND, io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY, 0);

  config.write(rid, 4, 0xffff_ffff);
  if (wide) config.write(rid + 4, 4, 0xffff_ffff);
  const highMask = wide ? config.read(rid + 4, 4) : 0;
  const lowMask = config.read(rid, 4);
  config.write(rid, 4, low);
  if (wide) config.write(rid + 4, 4, high);
  if (config.read(PCI_COMMAND, 2) !== command) config.write(PCI_COMMAND, 2, command);

  const mask = io ? PCI_BASE_ADDRESS_IO_MASK : PCI_BASE_ADDRESS_MEM_MASK;
  const size = (lowMask & mask) !== 0 ? lowestBit(lowMask & mask) : lowestBit(highMask) * 2 ** 32;
  if (size === 0) return null;
  const base = ((low & mask) >>> 0) + high * 2 ** 32;
  // A register that firmware left all ones, or at zero, has not been assigned; nor one that no number can hold.
  const left = (low & mask) >>> 0 === (lowMask & mask) >>> 0 && high === highMask;
  const start = left || !Number.isSafeInteger(base + size) ? 0 : base;
  const prefetchable = !io && (low & PCI_BASE_ADDRESS_MEM_PREFETCH) !== 0;
  return { rid, type: io ? "ioport" : "memory", start, size, wide, prefetchable };
};

/** Sizes the expansion ROM; its enable bit is never set meanwhile. §6.2.5.2 */
export const sizeRom = (config: ConfigAccess): Bar | null => {
  const low = config.read(PCI_ROM_ADDRESS, 4);
  config.write(PCI_ROM_ADDRESS, 4, 0xffff_fffe);
  const mask = (config.read(PCI_ROM_ADDRESS, 4) & PCI_ROM_ADDRESS_MASK) >>> 0;
  config.write(PCI_ROM_ADDRESS, 4, low);
  const base = (low & PCI_ROM_ADDRESS_MASK) >>> 0;
  if (mask === 0) return null;
  const start = base === mask ? 0 : base;
  return { rid: PCI_ROM_ADDRESS, type: "memory", start, size: lowestBit(mask), wide: false, prefetchable: false };
};

/** Sizes the BARs of a header with `count` of them, ascending. */
export const sizeBars = (config: ConfigAccess, count: number): Bar[] => {
  const bars: Bar[] = [];
  for (let n = 0; n < count; n++) {
    const bar = sizeBar(config, PCI_BASE_ADDRESS_0 + 4 * n, n === count - 1);
    if (bar === null) continue;
    bars.push(bar);
    if (bar.wide) n++;
  }
  return bars;
};
