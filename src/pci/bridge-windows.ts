import type { AddressRange } from "../contract/index.js";
import {
  PCI_BRIDGE_CONTROL,
  PCI_BRIDGE_CTL_ISA,
  PCI_BRIDGE_CTL_VGA,
  PCI_BRIDGE_CTL_VGA_16BIT,
  PCI_IO_BASE,
  PCI_IO_BASE_UPPER16,
  PCI_IO_LIMIT,
  PCI_IO_LIMIT_UPPER16,
  PCI_IO_RANGE_TYPE_32,
  PCI_IO_RANGE_TYPE_MASK,
  PCI_IO_SPACE_SIZE,
  PCI_IO_WINDOW_GRANULE,
  PCI_MEMORY_BASE,
  PCI_MEMORY_LIMIT,
  PCI_MEMORY_WINDOW_GRANULE,
  PCI_PREF_BASE_UPPER32,
  PCI_PREF_LIMIT_UPPER32,
  PCI_PREF_MEMORY_BASE,
  PCI_PREF_MEMORY_LIMIT,
  PCI_PREF_RANGE_TYPE_64,
  PCI_PREF_RANGE_TYPE_MASK,
  VGA_MEMORY,
  VGA_PORTS,
} from "../spec/pci.js";
import type { ConfigBytes } from "./declaration.js";
import { subtractRanges, uniteRanges } from "./ranges.js";

const FOUR_GIB = 2 ** 32;
/** Physical addresses that the modelled CPUs have. */
const PHYSICAL_END = 2 ** 52;
/** Ten address bits are decoded by ISA cards, and by a VGA before VGA 16-bit decode. */
const ISA_ALIAS = 0x400;
const ISA_OWN = 0x100;

/**
 * A window between its registers. Base above limit closes it, and so does zero in both: that is how it comes out of reset.
 * Deviation: the standard has a window at 0 there, of 4 KiB or 1 MiB; on a PC that is where RAM and the mainboard are.
 */
const windowOf = (base: number, limit: number, granule: number, end: number): AddressRange[] =>
  base > limit || (base === 0 && limit === 0) ? [] : [[base, Math.min(limit + granule, end)]];

const ioWindow = (config: ConfigBytes): AddressRange[] => {
  const wide = (config.get(PCI_IO_BASE, 1) & PCI_IO_RANGE_TYPE_MASK) === PCI_IO_RANGE_TYPE_32;
  const at = (low: number, upper: number) =>
    (config.get(low, 1) >>> 4) * PCI_IO_WINDOW_GRANULE + (wide ? config.get(upper, 2) * PCI_IO_SPACE_SIZE : 0);
  const base = at(PCI_IO_BASE, PCI_IO_BASE_UPPER16);
  return windowOf(base, at(PCI_IO_LIMIT, PCI_IO_LIMIT_UPPER16), PCI_IO_WINDOW_GRANULE, FOUR_GIB);
};

const memoryWindow = (config: ConfigBytes): AddressRange[] => {
  const at = (register: number) => (config.get(register, 2) >>> 4) * PCI_MEMORY_WINDOW_GRANULE;
  return windowOf(at(PCI_MEMORY_BASE), at(PCI_MEMORY_LIMIT), PCI_MEMORY_WINDOW_GRANULE, FOUR_GIB);
};

const prefetchableWindow = (config: ConfigBytes): AddressRange[] => {
  const wide = (config.get(PCI_PREF_MEMORY_BASE, 2) & PCI_PREF_RANGE_TYPE_MASK) === PCI_PREF_RANGE_TYPE_64;
  const at = (low: number, upper: number) =>
    (config.get(low, 2) >>> 4) * PCI_MEMORY_WINDOW_GRANULE + (wide ? config.get(upper, 4) * FOUR_GIB : 0);
  const base = at(PCI_PREF_MEMORY_BASE, PCI_PREF_BASE_UPPER32);
  const limit = at(PCI_PREF_MEMORY_LIMIT, PCI_PREF_LIMIT_UPPER32);
  return windowOf(base, limit, PCI_MEMORY_WINDOW_GRANULE, PHYSICAL_END);
};

/** With ISA enable the last 768 bytes of each KiB below 64 KiB are the ISA bus's. P2P 1.2 §4.3 */
const withoutIsa = (window: readonly AddressRange[]): readonly AddressRange[] => {
  const [start = 0, end = 0] = window[0] ?? [];
  const aliases: AddressRange[] = [];
  for (let at = start; at < Math.min(end, PCI_IO_SPACE_SIZE); at += ISA_ALIAS)
    aliases.push([at + ISA_OWN, at + ISA_ALIAS]);
  return subtractRanges(window, aliases);
};

/** A VGA's ports; without 16-bit decode they come again each KiB. P2P 1.2 §3.2.5.18, bits 3 and 4 */
const vgaPorts = (control: number): AddressRange[] => {
  const ports: AddressRange[] = [];
  const last = (control & PCI_BRIDGE_CTL_VGA_16BIT) !== 0 ? 0 : PCI_IO_SPACE_SIZE - ISA_ALIAS;
  for (let alias = 0; alias <= last; alias += ISA_ALIAS)
    for (const [start, end] of VGA_PORTS) ports.push([alias + start, alias + end]);
  return ports;
};

/** The ports that a bridge passes down while I/O is enabled in its Command; ascending and disjoint. */
export const portsDown = (config: ConfigBytes): AddressRange[] => {
  const control = config.get(PCI_BRIDGE_CONTROL, 2);
  const window = ioWindow(config);
  return uniteRanges([
    ...((control & PCI_BRIDGE_CTL_ISA) === 0 ? window : withoutIsa(window)),
    ...((control & PCI_BRIDGE_CTL_VGA) === 0 ? [] : vgaPorts(control)),
  ]);
};

/** The addresses that a bridge passes down while memory is enabled in its Command; ascending and disjoint. */
export const memoryDown = (config: ConfigBytes): AddressRange[] =>
  uniteRanges([
    ...memoryWindow(config),
    ...prefetchableWindow(config),
    ...((config.get(PCI_BRIDGE_CONTROL, 2) & PCI_BRIDGE_CTL_VGA) === 0 ? [] : [VGA_MEMORY]),
  ]);
