import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_IO_MASK,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_DBG,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_CAP_ID_SSVID,
  PCI_CAP_ID_VNDR,
  PCI_CAP_ID_VPD,
  PCI_CAP_LIST_ID,
  PCI_CAP_LIST_NEXT,
  PCI_CAPABILITY_LIST,
  PCI_CLASS_PROG,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_HEADER_TYPE_BRIDGE,
  PCI_HEADER_TYPE_NORMAL,
  PCI_IO_BASE,
  PCI_IO_BASE_UPPER16,
  PCI_IO_LIMIT,
  PCI_IO_LIMIT_UPPER16,
  PCI_MEMORY_BASE,
  PCI_MEMORY_LIMIT,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_MASKBIT,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_QSIZE,
  PCI_MSIX_PBA,
  PCI_MSIX_TABLE,
  PCI_MSIX_TABLE_BIR,
  PCI_PM_CAP_D1,
  PCI_PM_CAP_D2,
  PCI_PM_CAP_VER_MASK,
  PCI_PM_CTRL,
  PCI_PM_CTRL_STATE_MASK,
  PCI_REVISION_ID,
  PCI_SECONDARY_BUS,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_SUBORDINATE_BUS,
  PCI_SUBSYSTEM_VENDOR_ID,
  pciBus,
  pciDevice,
  pciFunction,
} from "../../spec/pci.js";
import { baseAddresses, ConfigBytesReader, hex2, hex4, hex8, inOrder, type PciListing } from "./pci-function.js";
import { OWN_NAMES, type PciNames } from "./pci-names.js";

/** A function with the name and unit of the device that holds it, such as `re0`; none without a driver. */
export interface PciconfListing extends PciListing {
  readonly nameunit?: string;
}

export interface PciconfOptions {
  /** `-v`: names and class in words */
  readonly verbose?: boolean;
  /** `-b`: base address registers, and a bridge's windows; shows those whose size the listing tells */
  readonly bars?: boolean;
  /** `-c`: capabilities */
  readonly capabilities?: boolean;
  /** the head as before FreeBSD 13: card and chip as 32-bit numbers */
  readonly older?: boolean;
  /** default OWN_NAMES */
  readonly names?: PciNames;
}

/** Classes in pciconf's words: base class, then its sub-classes from 0 on. */
const CLASS_WORDS: readonly (readonly [name: string, ...subs: string[]])[] = [
  ["old", "non-VGA display device", "VGA-compatible display device"],
  ["mass storage", "SCSI", "ATA", "floppy disk", "IPI", "RAID", "ATA (ADMA)", "SATA", "SAS", "NVM"],
  ["network", "ethernet", "token ring", "fddi", "ATM", "ISDN"],
  ["display", "VGA", "XGA", "3D"],
  ["multimedia", "video", "audio", "telephony", "HDA"],
  ["memory", "RAM", "flash"],
  ["bridge", "HOST-PCI", "PCI-ISA", "PCI-EISA", "PCI-MCA", "PCI-PCI", "PCI-PCMCIA", "PCI-NuBus", "PCI-CardBus"],
  ["simple comms", "UART", "parallel port", "multiport serial", "generic modem"],
  ["base peripheral", "interrupt controller", "DMA controller", "timer", "realtime clock", "PCI hot-plug controller"],
  ["input device", "keyboard", "digitizer", "mouse", "scanner", "gameport"],
  ["docking station"],
  ["processor"],
  ["serial bus", "FireWire", "AccessBus", "SSA", "USB", "Fibre Channel", "SMBus"],
  ["wireless", "iRDA", "IR", "RF"],
];

// A bridge's prefetchable window. PCI-to-PCI Bridge Architecture 1.2 §3.2.5.9
const BRIDGE_PREF_BASE = 0x24;
const BRIDGE_PREF_LIMIT = 0x26;
const BRIDGE_PREF_BASE_UPPER32 = 0x28;
const BRIDGE_PREF_LIMIT_UPPER32 = 0x2c;

/** Most capabilities that fit into 192 bytes of four each: a list that goes on is a cycle. */
const MAX_CAPABILITIES = 48;

const MORE = " ".repeat(17);

/**
 * Lists functions as `pciconf -l` does; each line ends with a line feed.
 * Functions without a driver are none0, none1 … in the order of their addresses.
 */
export const pciconf = (listings: readonly PciconfListing[], options: PciconfOptions = {}): string => {
  let none = 0;
  let text = "";
  for (const listing of inOrder(listings) as PciconfListing[]) {
    const config = new ConfigBytesReader(listing.config);
    const lines = [head(listing, config, listing.nameunit ?? `none${none++}`, options.older === true)];
    if (options.verbose === true) lines.push(...words(config, options.names ?? OWN_NAMES));
    if (options.bars === true) {
      lines.push(...bars(listing, config));
      if (config.headerType === PCI_HEADER_TYPE_BRIDGE) lines.push(...windows(config));
    }
    if (options.capabilities === true) lines.push(...capabilities(config));
    for (const line of lines) text += `${line}\n`;
  }
  return text;
};

const head = (listing: PciListing, config: ConfigBytesReader, nameunit: string, older: boolean): string => {
  const { bdf, domain = 0 } = listing;
  const place = `${nameunit}@pci${domain}:${pciBus(bdf)}:${pciDevice(bdf)}:${pciFunction(bdf)}:`;
  const [subvendor, subdevice] = subsystemOf(config);
  const code = `class=0x${hex4(config.class)}${hex2(config.byte(PCI_CLASS_PROG))}`;
  const tail = `rev=0x${hex2(config.byte(PCI_REVISION_ID))} hdr=0x${hex2(config.headerType)}`;
  if (older)
    return (
      `${place}\t${code} card=0x${hex4(subdevice)}${hex4(subvendor)} ` +
      `chip=0x${hex4(config.device)}${hex4(config.vendor)} ${tail}`
    );
  return (
    `${place}\t${code} ${tail} vendor=0x${hex4(config.vendor)} device=0x${hex4(config.device)} ` +
    `subvendor=0x${hex4(subvendor)} subdevice=0x${hex4(subdevice)}`
  );
};

/** In the header of an ordinary function, in a capability of a bridge. */
const subsystemOf = (config: ConfigBytesReader): [number, number] => {
  let at = PCI_SUBSYSTEM_VENDOR_ID;
  if (config.headerType !== PCI_HEADER_TYPE_NORMAL) {
    const ssvid = capabilityOffsets(config).find((offset) => config.byte(offset) === PCI_CAP_ID_SSVID);
    if (ssvid === undefined) return [0, 0];
    at = ssvid + 4;
  }
  return [config.word(at), config.word(at + 2)];
};

const words = (config: ConfigBytesReader, names: PciNames): string[] => {
  const lines: string[] = [];
  const [name, ...subs] = CLASS_WORDS[config.class >>> 8] ?? [];
  for (const [what, word] of [
    ["vendor     =", quoted(names.vendors.get(config.vendor))],
    ["device     =", quoted(names.devices.get(config.vendor * 0x1_0000 + config.device))],
    ["class      =", name],
    ["subclass   =", subs[config.class & 0xff]],
  ])
    if (word !== undefined) lines.push(`    ${what} ${word}`);
  return lines;
};

const quoted = (name: string | undefined): string | undefined => (name === undefined ? undefined : `'${name}'`);

const bars = (listing: PciListing, config: ConfigBytesReader): string[] => {
  const lines: string[] = [];
  const command = config.word(PCI_COMMAND);
  const count = config.headerType === PCI_HEADER_TYPE_NORMAL ? 6 : 2;
  for (const [i, { register, high }] of baseAddresses(config, count).entries()) {
    const size = listing.sizes?.[i] ?? 0;
    if (size === 0) continue;
    const isIo = (register & PCI_BASE_ADDRESS_SPACE_IO) !== 0;
    const is64 = !isIo && (register & PCI_BASE_ADDRESS_MEM_TYPE_MASK) === PCI_BASE_ADDRESS_MEM_TYPE_64;
    const isPrefetchable = !isIo && (register & PCI_BASE_ADDRESS_MEM_PREFETCH) !== 0;
    const type = isIo ? "I/O Port" : isPrefetchable ? "Prefetchable Memory" : "Memory";
    const low = (register & (isIo ? PCI_BASE_ADDRESS_IO_MASK : PCI_BASE_ADDRESS_MEM_MASK)) >>> 0;
    const base = high !== 0 ? `0x${high.toString(16)}${hex8(low)}` : hexOf(low);
    const isOn = (command & (isIo ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) !== 0;
    lines.push(
      `    bar   [${hex2(PCI_BASE_ADDRESS_0 + 4 * i)}] = type ${type}, range ${is64 ? 64 : 32}, base ${base}, ` +
        `size ${size}, ${isOn ? "enabled" : "disabled"}`,
    );
  }
  return lines;
};

/** `0xc000`, and `0` for nothing, as C's `%#x` prints it */
const hexOf = (value: number): string => (value === 0 ? "0" : `0x${value.toString(16)}`);

const windows = (config: ConfigBytesReader): string[] => {
  const lines = [`    bus range  = ${config.byte(PCI_SECONDARY_BUS)}-${config.byte(PCI_SUBORDINATE_BUS)}`];
  const isIo32 = (config.byte(PCI_IO_BASE) & 0xf) === 1;
  const isPref64 = (config.word(BRIDGE_PREF_BASE) & 0xf) === 1;
  const add = (at: number, type: string, range: number, base: number, limit: number): void => {
    const state = base < limit ? "enabled" : "disabled";
    lines.push(`    window[${hex2(at)}] = type ${type}, range ${range}, addr ${hexOf(base)}-${hexOf(limit)}, ${state}`);
  };
  const upper = (at: number): number => (isIo32 ? config.word(at) * 0x1_0000 : 0);
  add(
    PCI_IO_BASE,
    "I/O Port",
    isIo32 ? 32 : 16,
    upper(PCI_IO_BASE_UPPER16) + (config.byte(PCI_IO_BASE) & 0xf0) * 0x100,
    upper(PCI_IO_LIMIT_UPPER16) + (config.byte(PCI_IO_LIMIT) & 0xf0) * 0x100 + 0xfff,
  );
  const memory = (at: number): number => (config.word(at) & 0xfff0) * 0x1_0000;
  add(PCI_MEMORY_BASE, "Memory", 32, memory(PCI_MEMORY_BASE), memory(PCI_MEMORY_LIMIT) + 0xf_ffff);
  const high = (at: number): number => (isPref64 ? config.long(at) * 2 ** 32 : 0);
  add(
    BRIDGE_PREF_BASE,
    "Prefetchable Memory",
    isPref64 ? 64 : 32,
    high(BRIDGE_PREF_BASE_UPPER32) + memory(BRIDGE_PREF_BASE),
    high(BRIDGE_PREF_LIMIT_UPPER32) + memory(BRIDGE_PREF_LIMIT) + 0xf_ffff,
  );
  return lines;
};

const capabilityOffsets = (config: ConfigBytesReader): number[] => {
  const offsets: number[] = [];
  if ((config.word(PCI_STATUS) & PCI_STATUS_CAP_LIST) === 0) return offsets;
  let at = config.byte(PCI_CAPABILITY_LIST) & ~3;
  while (at >= 0x40 && config.has(at, 4) && offsets.length < MAX_CAPABILITIES) {
    offsets.push(at);
    at = config.byte(at + PCI_CAP_LIST_NEXT) & ~3;
  }
  return offsets;
};

const capabilities = (config: ConfigBytesReader): string[] =>
  capabilityOffsets(config).flatMap((at) => {
    const id = config.byte(at + PCI_CAP_LIST_ID);
    const [first = "", ...more] = capability(config, id, at);
    return [`    cap ${hex2(id)}[${hex2(at)}] = ${first}`, ...more];
  });

const capability = (config: ConfigBytesReader, id: number, at: number): string[] => {
  const flags = config.word(at + 2);
  switch (id) {
    case PCI_CAP_ID_PM: {
      const d1 = (flags & PCI_PM_CAP_D1) !== 0 ? " D1" : "";
      const d2 = (flags & PCI_PM_CAP_D2) !== 0 ? " D2" : "";
      const state = config.word(at + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK;
      return [`powerspec ${flags & PCI_PM_CAP_VER_MASK}  supports D0${d1}${d2} D3  current D${state}`];
    }
    case PCI_CAP_ID_VPD:
      return ["VPD"];
    case PCI_CAP_ID_MSI: {
      const is64 = (flags & PCI_MSI_FLAGS_64BIT) !== 0 ? ", 64 bit" : "";
      const masks = (flags & PCI_MSI_FLAGS_MASKBIT) !== 0 ? ", vector masks" : "";
      const enabled = (flags & PCI_MSI_FLAGS_ENABLE) !== 0 ? ` enabled with ${messages(1 << ((flags >>> 4) & 7))}` : "";
      return [`MSI supports ${messages(1 << ((flags >>> 1) & 7))}${is64}${masks}${enabled}`];
    }
    case PCI_CAP_ID_VNDR:
      return [`vendor (length ${flags & 0xff})`];
    case PCI_CAP_ID_DBG:
      return [`EHCI Debug Port at offset 0x${(flags & 0x1fff).toString(16)} in map ${mapOf((flags >>> 13) - 1)}`];
    case PCI_CAP_ID_SSVID:
      return [`PCI Bridge subvendor=0x${hex4(config.word(at + 4))} subdevice=0x${hex4(config.word(at + 6))}`];
    case PCI_CAP_ID_MSIX: {
      const enabled = (flags & PCI_MSIX_FLAGS_ENABLE) !== 0 ? ", enabled" : "";
      const table = config.long(at + PCI_MSIX_TABLE);
      const pba = config.long(at + PCI_MSIX_PBA);
      return [
        `MSI-X supports ${messages((flags & PCI_MSIX_FLAGS_QSIZE) + 1)}${enabled}`,
        `${MORE}Table in map ${inMap(table)}, PBA in map ${inMap(pba)}`,
      ];
    }
    case PCI_CAP_ID_AF:
      return [
        `PCI Advanced Features:${(config.byte(at + 3) & 2) !== 0 ? " FLR" : ""}${(config.byte(at + 3) & 1) !== 0 ? " TP" : ""}`,
      ];
    default:
      return ["unknown"];
  }
};

const messages = (count: number): string => `${count} message${count === 1 ? "" : "s"}`;

/** The configuration offset of a base address register, by which BSD names it. */
const mapOf = (bar: number): string => `0x${(PCI_BASE_ADDRESS_0 + 4 * bar).toString(16)}`;

/** `0x14[0x800]`: a register of a table's place, PCI 3.0 §6.8.2.4 */
const inMap = (place: number): string =>
  `${mapOf(place & PCI_MSIX_TABLE_BIR)}[0x${((place & ~PCI_MSIX_TABLE_BIR) >>> 0).toString(16)}]`;
