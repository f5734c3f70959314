import {
  PCI_BASE_ADDRESS_IO_MASK,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_BIST,
  PCI_CACHE_LINE_SIZE,
  PCI_CAP_ID_SSVID,
  PCI_CAPABILITY_LIST,
  PCI_CLASS_PROG,
  PCI_COMMAND,
  PCI_COMMAND_FAST_BACK,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_INVALIDATE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_COMMAND_PARITY,
  PCI_COMMAND_SERR,
  PCI_COMMAND_SPECIAL,
  PCI_COMMAND_VGA_PALETTE,
  PCI_COMMAND_WAIT,
  PCI_HEADER_TYPE_BRIDGE,
  PCI_HEADER_TYPE_CARDBUS,
  PCI_HEADER_TYPE_NORMAL,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_IO_BASE,
  PCI_IO_BASE_UPPER16,
  PCI_IO_LIMIT,
  PCI_IO_LIMIT_UPPER16,
  PCI_LATENCY_TIMER,
  PCI_MAX_LAT,
  PCI_MEMORY_BASE,
  PCI_MEMORY_LIMIT,
  PCI_MIN_GNT,
  PCI_PRIMARY_BUS,
  PCI_REVISION_ID,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS_ENABLE,
  PCI_ROM_ADDRESS_MASK,
  PCI_SECONDARY_BUS,
  PCI_STATUS,
  PCI_STATUS_66MHZ,
  PCI_STATUS_CAP_LIST,
  PCI_STATUS_DETECTED_PARITY,
  PCI_STATUS_FAST_BACK,
  PCI_STATUS_INTERRUPT,
  PCI_STATUS_PARITY,
  PCI_STATUS_REC_MASTER_ABORT,
  PCI_STATUS_REC_TARGET_ABORT,
  PCI_STATUS_SIG_SYSTEM_ERROR,
  PCI_STATUS_SIG_TARGET_ABORT,
  PCI_SUBORDINATE_BUS,
  PCI_SUBSYSTEM_VENDOR_ID,
} from "../../spec/pci.js";
import { CapabilityPrinter, flag } from "./lspci-capabilities.js";
import { pciTree } from "./lspci-tree.js";
import {
  type BaseAddress,
  baseAddresses,
  ConfigBytesReader,
  hex2,
  hex4,
  hex8,
  inOrder,
  type PciListing,
  slotName,
} from "./pci-function.js";
import { OWN_NAMES, type PciNames } from "./pci-names.js";

export interface LspciOptions {
  /** names, numbers as with `-n`, or both as with `-nn`; default names */
  readonly ids?: "names" | "numbers" | "both";
  /** how often `-v` is given; default 0 */
  readonly verbose?: 0 | 1 | 2 | 3;
  /** bytes in hexadecimal: `-x` shows 64 of them, `-xxx` 256; default none */
  readonly hex?: "x" | "xxx";
  /** `-t`: a picture of the buses; takes `verbose` and `ids`, ignores the rest */
  readonly tree?: boolean;
  /** `-D`: always with the domain; default only where there is more than domain 0 */
  readonly domains?: boolean;
  /** default OWN_NAMES; NO_NAMES for what `-i /dev/null` gives */
  readonly names?: PciNames;
}

// Bits that the header of a bridge has beyond the common ones. PCI-to-PCI Bridge Architecture 1.2 §3.2.5
const BRIDGE_SECONDARY_LATENCY = 0x1b;
const BRIDGE_SECONDARY_STATUS = 0x1e;
const BRIDGE_PREF_BASE = 0x24;
const BRIDGE_PREF_LIMIT = 0x26;
const BRIDGE_PREF_BASE_UPPER32 = 0x28;
const BRIDGE_PREF_LIMIT_UPPER32 = 0x2c;
const BRIDGE_ROM = 0x38;
const BRIDGE_CONTROL = 0x3e;
const STATUS_UDF = 0x0040;

const DEVSEL = ["fast", "medium", "slow", "??"];
const BIST_CAPABLE = 0x80;
const BIST_START = 0x40;
const BIST_CODE = 0x0f;

/**
 * Lists functions as lspci of pciutils 3.9 does, byte for byte; each line ends with a line feed.
 * What is not decoded: the inside of CardBus headers and of the capabilities that `CapabilityPrinter` names.
 */
export const lspci = (listings: readonly PciListing[], options: LspciOptions = {}): string => {
  const sorted = inOrder(listings);
  const names = new Names(options.names ?? OWN_NAMES, options.ids ?? "names");
  const { verbose = 0, hex, tree = false } = options;
  const describe = (listing: PciListing): string => {
    const config = new ConfigBytesReader(listing.config);
    return `  ${names.device(config.vendor, config.device)}`;
  };
  if (tree) return pciTree(sorted, verbose > 0 ? describe : () => "");
  const withDomain = options.domains === true || sorted.some(({ domain = 0 }) => domain !== 0);
  let text = "";
  for (const listing of sorted) {
    const lines = new FunctionPrinter(listing, names, verbose).lines(slotName(listing, withDomain));
    if (hex !== undefined) lines.push(...hexDump(listing.config, hex === "x" ? 64 : 256));
    if (verbose > 0 || hex !== undefined) lines.push("");
    for (const line of lines) text += `${line}\n`;
  }
  return text;
};

/** `00: f4 1a 00 10 …`, 16 bytes a line. @param most bytes shown of those that there are */
export const hexDump = (config: Uint8Array, most: number): string[] => {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(config.length, most); at += 16)
    lines.push(`${hex2(at)}: ${Array.from(config.subarray(at, at + 16), hex2).join(" ")}`);
  return lines;
};

/** How pairs of ids and classes are printed. */
class Names {
  readonly #names: PciNames;
  readonly #ids: "names" | "numbers" | "both";

  constructor(names: PciNames, ids: "names" | "numbers" | "both") {
    this.#names = names;
    this.#ids = ids;
  }

  device(vendor: number, device: number): string {
    return this.#pair(vendor, device, this.#names.devices.get(vendor * 0x1_0000 + device));
  }

  subsystem(config: ConfigBytesReader, vendor: number, device: number): string {
    const own = config.vendor * 0x1_0000 + config.device;
    const subsystem = vendor * 0x1_0000 + device;
    // A card that names itself as its subsystem has its own name.
    const name =
      this.#names.subsystems.get(own)?.get(subsystem) ?? (own === subsystem ? this.#names.devices.get(own) : undefined);
    return this.#pair(vendor, device, name);
  }

  class(code: number): string {
    if (this.#ids === "numbers") return hex4(code);
    const name = this.#names.classes.get(code);
    const base = this.#names.baseClasses.get(code >>> 8);
    // Where only the base class has a name, the number goes with it.
    if (name === undefined && base !== undefined) return `${base} [${hex4(code)}]`;
    if (this.#ids === "both") return `${name ?? "Class"} [${hex4(code)}]`;
    return name ?? `Class ${hex4(code)}`;
  }

  /** Name of a programming interface, or null; it does not follow `-n`. */
  progIf(code: number, progIf: number): string | null {
    const name = this.#names.progIfs.get(code * 0x100 + progIf);
    if (name !== undefined) return name;
    if (code !== 0x0101 || (progIf & 0x70) !== 0) return null;
    // IDE: channels in native mode (O) or able to change it (P), and the bus master.
    const bits = ["PriO", "PriP", "SecO", "SecP"].filter((_, bit) => (progIf & (1 << bit)) !== 0);
    if ((progIf & 0x80) !== 0) bits.push("Master");
    return bits.reverse().join(" ");
  }

  #pair(vendor: number, device: number, deviceName: string | undefined): string {
    const numbers = `${hex4(vendor)}:${hex4(device)}`;
    if (this.#ids === "numbers") return numbers;
    const vendorName = this.#names.vendors.get(vendor);
    if (this.#ids === "both") {
      if (vendorName === undefined) return `Device [${numbers}]`;
      return `${vendorName} ${deviceName ?? "Device"} [${numbers}]`;
    }
    if (vendorName === undefined) return `Device ${numbers}`;
    return `${vendorName} ${deviceName ?? `Device ${hex4(device)}`}`;
  }
}

const SIZE_SUFFIXES = ["", "K", "M", "G", "T"];

/** ` [size=4K]`: the largest unit that divides it, and 32 bits of the number. @param unit 0 bytes, 1 KiB, 2 MiB … */
const sizeOf = (count: number, unit = 0): string => {
  let [left, suffix] = [count, unit];
  while (left !== 0 && left % 1024 === 0 && suffix < SIZE_SUFFIXES.length - 1) {
    left /= 1024;
    suffix++;
  }
  return count === 0 ? "" : ` [size=${left % 2 ** 32}${SIZE_SUFFIXES[suffix]}]`;
};

/** Prints one function. */
class FunctionPrinter {
  readonly #config: ConfigBytesReader;
  readonly #listing: PciListing;
  readonly #names: Names;
  readonly #verbose: number;
  readonly #lines: string[] = [];

  constructor(listing: PciListing, names: Names, verbose: number) {
    this.#config = new ConfigBytesReader(listing.config);
    this.#listing = listing;
    this.#names = names;
    this.#verbose = verbose;
  }

  lines(slot: string): string[] {
    this.#title(slot);
    if (this.#verbose > 0) this.#body();
    return this.#lines;
  }

  #title(slot: string): void {
    const config = this.#config;
    let line = `${slot} ${this.#names.class(config.class)}: ${this.#names.device(config.vendor, config.device)}`;
    const revision = config.byte(PCI_REVISION_ID);
    if (revision !== 0) line += ` (rev ${hex2(revision)})`;
    if (this.#verbose > 0) {
      const progIf = config.byte(PCI_CLASS_PROG);
      const name = this.#names.progIf(config.class, progIf);
      if (progIf !== 0 || name !== null) line += ` (prog-if ${hex2(progIf)}${name === null ? "" : ` [${name}]`})`;
    }
    this.#lines.push(line);
    if (this.#verbose > 0) this.#subsystem();
  }

  #subsystem(): void {
    const at = this.#subsystemAt();
    if (at === null) return;
    const vendor = this.#config.word(at);
    if (vendor === 0 || vendor === 0xffff) return;
    this.#lines.push(`\tSubsystem: ${this.#names.subsystem(this.#config, vendor, this.#config.word(at + 2))}`);
  }

  /** Where the subsystem's ids stand: in the header, for a bridge in a capability, for others nowhere that we look. */
  #subsystemAt(): number | null {
    const config = this.#config;
    if (config.headerType === PCI_HEADER_TYPE_NORMAL) return PCI_SUBSYSTEM_VENDOR_ID;
    if (config.headerType !== PCI_HEADER_TYPE_BRIDGE) return null;
    if ((config.word(PCI_STATUS) & PCI_STATUS_CAP_LIST) === 0) return null;
    const seen = new Set<number>();
    for (let at = config.byte(PCI_CAPABILITY_LIST) & ~3; at !== 0; at = config.byte(at + 1) & ~3) {
      if (seen.has(at) || config.byte(at) === 0xff) return null;
      if (config.byte(at) === PCI_CAP_ID_SSVID) return config.has(at, 8) ? at + 4 : null;
      seen.add(at);
    }
    return null;
  }

  #body(): void {
    const config = this.#config;
    const { headerType } = config;
    const isBridgeClass = config.class >>> 8 === 0x06;
    const fits = headerType === PCI_HEADER_TYPE_NORMAL ? config.class !== 0x0604 : isBridgeClass;
    if (headerType > PCI_HEADER_TYPE_CARDBUS) {
      this.#lines.push(`\t!!! Unknown header type ${hex2(headerType)}`);
      // Where the pin stands is not known then, but the system has an interrupt.
      if (this.#verbose > 1) this.#interrupt(0);
      return;
    }
    if (!fits) this.#lines.push(`\t!!! Invalid class ${hex4(config.class)} for header type ${hex2(headerType)}`);
    if (this.#verbose > 1) this.#registers();
    else this.#flags();
    const bist = config.byte(PCI_BIST);
    if ((bist & BIST_CAPABLE) !== 0)
      this.#lines.push((bist & BIST_START) !== 0 ? "\tBIST is running" : `\tBIST result: ${hex2(bist & BIST_CODE)}`);
    if (headerType === PCI_HEADER_TYPE_BRIDGE) this.#bridge();
    else if (headerType === PCI_HEADER_TYPE_NORMAL) {
      this.#regions(6);
      this.#rom(PCI_ROM_ADDRESS);
    }
    if (headerType !== PCI_HEADER_TYPE_CARDBUS) {
      const subsystem = (vendor: number, device: number): string => this.#names.subsystem(config, vendor, device);
      this.#lines.push(...new CapabilityPrinter(config, this.#verbose, subsystem).lines());
    }
    const { driver } = this.#listing;
    if (driver !== undefined) this.#lines.push(`\tKernel driver in use: ${driver}`);
  }

  /** What `-v` says of Command and Status. */
  #flags(): void {
    const command = this.#config.word(PCI_COMMAND);
    const status = this.#config.word(PCI_STATUS);
    const isMaster = (command & PCI_COMMAND_MASTER) !== 0;
    const flags: string[] = [];
    if (isMaster) flags.push("bus master");
    if ((command & PCI_COMMAND_VGA_PALETTE) !== 0) flags.push("VGA palette snoop");
    if ((command & PCI_COMMAND_WAIT) !== 0) flags.push("stepping");
    if ((command & PCI_COMMAND_FAST_BACK) !== 0) flags.push("fast Back2Back");
    if ((status & PCI_STATUS_66MHZ) !== 0) flags.push("66MHz");
    if ((status & STATUS_UDF) !== 0) flags.push("user-definable features");
    flags.push(`${DEVSEL[(status >>> 9) & 3]} devsel`);
    if (isMaster) flags.push(`latency ${this.#config.byte(PCI_LATENCY_TIMER)}`);
    if (this.#irq !== 0) flags.push(`IRQ ${this.#irq}`);
    this.#lines.push(`\tFlags: ${flags.join(", ")}`);
  }

  /** What `-vv` says of them. */
  #registers(): void {
    const config = this.#config;
    const c = config.word(PCI_COMMAND);
    const s = config.word(PCI_STATUS);
    this.#lines.push(
      `\tControl: ${flag("I/O", c & PCI_COMMAND_IO)} ${flag("Mem", c & PCI_COMMAND_MEMORY)} ` +
        `${flag("BusMaster", c & PCI_COMMAND_MASTER)} ${flag("SpecCycle", c & PCI_COMMAND_SPECIAL)} ` +
        `${flag("MemWINV", c & PCI_COMMAND_INVALIDATE)} ${flag("VGASnoop", c & PCI_COMMAND_VGA_PALETTE)} ` +
        `${flag("ParErr", c & PCI_COMMAND_PARITY)} ${flag("Stepping", c & PCI_COMMAND_WAIT)} ` +
        `${flag("SERR", c & PCI_COMMAND_SERR)} ${flag("FastB2B", c & PCI_COMMAND_FAST_BACK)} ` +
        `${flag("DisINTx", c & PCI_COMMAND_INTX_DISABLE)}`,
      `\tStatus: ${flag("Cap", s & PCI_STATUS_CAP_LIST)} ${flag("66MHz", s & PCI_STATUS_66MHZ)} ` +
        `${flag("UDF", s & STATUS_UDF)} ${this.#bothStatuses(s)} ` +
        `${flag(">SERR", s & PCI_STATUS_SIG_SYSTEM_ERROR)} ${flag("<PERR", s & PCI_STATUS_DETECTED_PARITY)} ` +
        `${flag("INTx", s & PCI_STATUS_INTERRUPT)}`,
    );
    if ((c & PCI_COMMAND_MASTER) !== 0) {
      let line = `\tLatency: ${config.byte(PCI_LATENCY_TIMER)}`;
      // A bridge has its control register where others have these two.
      const isNormal = config.headerType === PCI_HEADER_TYPE_NORMAL;
      const min = isNormal ? config.byte(PCI_MIN_GNT) : 0;
      const max = isNormal ? config.byte(PCI_MAX_LAT) : 0;
      const bounds: string[] = [];
      if (min !== 0) bounds.push(`${min * 250}ns min`);
      if (max !== 0) bounds.push(`${max * 250}ns max`);
      if (bounds.length > 0) line += ` (${bounds.join(", ")})`;
      const cacheLine = config.byte(PCI_CACHE_LINE_SIZE);
      if (cacheLine !== 0) line += `, Cache Line Size: ${cacheLine * 4} bytes`;
      this.#lines.push(line);
    }
    this.#interrupt(config.byte(PCI_INTERRUPT_PIN));
  }

  #interrupt(pin: number): void {
    if (pin === 0 && this.#irq === 0) return;
    const letter = pin === 0 ? "?" : String.fromCharCode((0x40 + pin) & 0xff);
    this.#lines.push(`\tInterrupt: pin ${letter} routed to IRQ ${this.#irq}`);
  }

  /** The bits that Status and a bridge's Secondary Status have in common. */
  #bothStatuses(s: number): string {
    return (
      `${flag("FastB2B", s & PCI_STATUS_FAST_BACK)} ${flag("ParErr", s & PCI_STATUS_PARITY)} ` +
      `DEVSEL=${DEVSEL[(s >>> 9) & 3]} ${flag(">TAbort", s & PCI_STATUS_SIG_TARGET_ABORT)} ` +
      `${flag("<TAbort", s & PCI_STATUS_REC_TARGET_ABORT)} ${flag("<MAbort", s & PCI_STATUS_REC_MASTER_ABORT)}`
    );
  }

  #regions(count: number): void {
    for (const [i, base] of baseAddresses(this.#config, count).entries()) {
      const size = this.#listing.sizes?.[i] ?? 0;
      const register = base.register === 0xffff_ffff ? 0 : base.register;
      if (register === 0 && base.high === 0 && size === 0) continue;
      // A system that knows sizes knows that the upper half of an address is no region.
      if (this.#listing.sizes !== undefined && size === 0) continue;
      this.#lines.push(
        `\t${this.#verbose > 1 ? `Region ${i}: ` : ""}${this.#region({ ...base, register })}${sizeOf(size)}`,
      );
    }
  }

  #region({ register, high, valid }: BaseAddress): string {
    const command = this.#config.word(PCI_COMMAND);
    if ((register & PCI_BASE_ADDRESS_SPACE_IO) !== 0) {
      const port = valid ? (register & PCI_BASE_ADDRESS_IO_MASK) >>> 0 : 0;
      const isOn = (command & PCI_COMMAND_IO) !== 0;
      return `I/O ports at ${port !== 0 || isOn ? hex4(port) : "<unassigned>"}${isOn ? "" : " [disabled]"}`;
    }
    const low = valid ? (register & PCI_BASE_ADDRESS_MEM_MASK) >>> 0 : 0;
    const address = high !== 0 ? high.toString(16) + hex8(low) : low !== 0 ? hex8(low) : "<unassigned>";
    const type = ["32-bit", "low-1M", "64-bit", "type 3"][(register & PCI_BASE_ADDRESS_MEM_TYPE_MASK) >>> 1];
    const prefetch = (register & PCI_BASE_ADDRESS_MEM_PREFETCH) !== 0 ? "" : "non-";
    const off = (command & PCI_COMMAND_MEMORY) !== 0 ? "" : " [disabled]";
    return `Memory at ${address} (${type}, ${prefetch}prefetchable)${off}`;
  }

  #rom(at: number): void {
    const register = this.#config.long(at);
    const size = this.#listing.sizes?.[6] ?? 0;
    if (register === 0 && size === 0) return;
    const address = (register & PCI_ROM_ADDRESS_MASK) >>> 0;
    let where = address === 0 ? "<unassigned>" : hex8(address);
    if (register === 0xffff_ffff) where = "<ignored>";
    let off = "";
    if ((register & PCI_ROM_ADDRESS_ENABLE) === 0) off = " [disabled]";
    else if ((this.#config.word(PCI_COMMAND) & PCI_COMMAND_MEMORY) === 0) off = " [disabled by cmd]";
    this.#lines.push(`\tExpansion ROM at ${where}${off}${sizeOf(size)}`);
  }

  #bridge(): void {
    const config = this.#config;
    this.#regions(2);
    this.#lines.push(
      `\tBus: primary=${hex2(config.byte(PCI_PRIMARY_BUS))}, secondary=${hex2(config.byte(PCI_SECONDARY_BUS))}, ` +
        `subordinate=${hex2(config.byte(PCI_SUBORDINATE_BUS))}, sec-latency=${config.byte(BRIDGE_SECONDARY_LATENCY)}`,
    );
    this.#ioWindow();
    this.#memoryWindow();
    this.#prefetchWindow();
    if (this.#verbose > 1) {
      const s = config.word(BRIDGE_SECONDARY_STATUS);
      this.#lines.push(
        `\tSecondary status: ${flag("66MHz", s & PCI_STATUS_66MHZ)} ${this.#bothStatuses(s)} ` +
          `${flag("<SERR", s & PCI_STATUS_SIG_SYSTEM_ERROR)} ${flag("<PERR", s & PCI_STATUS_DETECTED_PARITY)}`,
      );
    }
    this.#rom(BRIDGE_ROM);
    if (this.#verbose > 1) {
      const c = config.word(BRIDGE_CONTROL);
      this.#lines.push(
        `\tBridgeCtl: ${flag("Parity", c & 1)} ${flag("SERR", c & 2)} ${flag("NoISA", c & 4)} ${flag("VGA", c & 8)} ` +
          `${flag("VGA16", c & 0x10)} ${flag("MAbort", c & 0x20)} ${flag(">Reset", c & 0x40)} ${flag("FastB2B", c & 0x80)}`,
        `\t\t${flag("PriDiscTmr", c & 0x100)} ${flag("SecDiscTmr", c & 0x200)} ${flag("DiscTmrStat", c & 0x400)} ` +
          `${flag("DiscTmrSERREn", c & 0x800)}`,
      );
    }
  }

  #ioWindow(): void {
    const config = this.#config;
    const base = config.byte(PCI_IO_BASE);
    const limit = config.byte(PCI_IO_LIMIT);
    const type = base & 0xf;
    if (type !== (limit & 0xf) || type > 1) {
      this.#lines.push(`\t!!! Unknown I/O range types ${base.toString(16)}/${limit.toString(16)}`);
      return;
    }
    // in units of 4 KiB
    const from = (base >>> 4) + (type === 1 ? config.word(PCI_IO_BASE_UPPER16) * 16 : 0);
    const to = (limit >>> 4) + (type === 1 ? config.word(PCI_IO_LIMIT_UPPER16) * 16 : 0);
    const digits = type === 1 ? 8 : 4;
    const range = `${(from * 0x1000).toString(16).padStart(digits, "0")}-${(to * 0x1000 + 0xfff).toString(16).padStart(digits, "0")}`;
    this.#window("I/O behind bridge", range, (to - from + 1) * 4, 1, type === 1 ? 32 : 16);
  }

  #memoryWindow(): void {
    const base = this.#config.word(PCI_MEMORY_BASE);
    const limit = this.#config.word(PCI_MEMORY_LIMIT);
    if (((base | limit) & 0xf) !== 0) {
      this.#lines.push(`\t!!! Unknown memory range types ${base.toString(16)}/${limit.toString(16)}`);
      return;
    }
    // in units of 1 MiB
    const [from, to] = [base >>> 4, limit >>> 4];
    const range = `${mega(from, 8)}00000-${mega(to, 8)}fffff`;
    this.#window("Memory behind bridge", range, to - from + 1, 2, 32);
  }

  #prefetchWindow(): void {
    const config = this.#config;
    const base = config.word(BRIDGE_PREF_BASE);
    const limit = config.word(BRIDGE_PREF_LIMIT);
    const type = base & 0xf;
    if (type !== (limit & 0xf) || type > 1) {
      this.#lines.push(`\t!!! Unknown prefetchable memory range types ${base.toString(16)}/${limit.toString(16)}`);
      return;
    }
    const is64 = type === 1;
    const from = (base >>> 4) + (is64 ? config.long(BRIDGE_PREF_BASE_UPPER32) * 0x1000 : 0);
    const to = (limit >>> 4) + (is64 ? config.long(BRIDGE_PREF_LIMIT_UPPER32) * 0x1000 : 0);
    const digits = is64 ? 16 : 8;
    const range = `${mega(from, digits)}00000-${mega(to, digits)}fffff`;
    this.#window("Prefetchable memory behind bridge", range, to - from + 1, 2, is64 ? 64 : 32);
  }

  /** A window is closed by a limit below its base; its addresses are then worth a third `-v`. */
  #window(name: string, range: string, count: number, unit: number, bits: number): void {
    const isOpen = count > 0;
    const shown = isOpen || this.#verbose > 2 ? ` ${range}` : "";
    this.#lines.push(`\t${name}:${shown}${isOpen ? sizeOf(count, unit) : " [disabled]"} [${bits}-bit]`);
  }

  get #irq(): number {
    return this.#listing.irq ?? this.#config.byte(PCI_INTERRUPT_LINE);
  }
}

/** The digits of an address above its 20 low bits. */
const mega = (mebibytes: number, digits: number): string => mebibytes.toString(16).padStart(digits - 5, "0");
