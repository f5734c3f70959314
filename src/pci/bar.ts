import { ConfigError, hex } from "../bytes/index.js";
import type { BarIndex, BarInfo, BarKind } from "../contract/index.js";
import type { RegisterMap } from "../regs/index.js";
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_BRIDGE_NUM_BARS,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_IO_SPACE_SIZE,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS_ENABLE,
  PCI_ROM_ADDRESS_MASK,
  PCI_ROM_ADDRESS1,
  PCI_ROM_RESOURCE,
  PCI_STD_NUM_BARS,
} from "../spec/pci.js";
import type { BarDeclaration, ConfigBytes, FunctionDeclaration } from "./declaration.js";
import { Region } from "./region.js";

/** PCI 3.0 §6.2.5.1; the ROM: §6.2.5.2 */
const SMALLEST: { readonly [kind in BarKind]: number } = { io: 4, mem32: 16, mem64: 16 };
const SMALLEST_ROM = 2048;
const LARGEST: { readonly [kind in BarKind]: number } = { io: 0x1_0000, mem32: 2 ** 31, mem64: 2 ** 51 };
const TOP_32 = 0xffff_ffff;
/** Physical addresses that the modelled CPUs have. */
const PHYSICAL_END = 2 ** 52;

const isPowerOfTwo = (value: number): boolean => {
  let rest = value;
  while (rest >= 2 && rest % 2 === 0) rest /= 2;
  return rest === 1;
};

/** One base address register (the ROM's included): its masks, and where its value says that it is decoded. */
export class Bar implements BarInfo {
  readonly index: BarIndex;
  readonly kind: BarKind;
  readonly size: number;
  readonly prefetchable: boolean;
  /** names for trace, ledger and documentation */
  readonly registers: RegisterMap | undefined;
  /** the way to its handler */
  readonly region: Region;
  /** offset of its (low) dword in configuration space */
  readonly at: number;
  /** writable bits of the low and the high dword; high is 0 for all but mem64 */
  readonly writableLow: number;
  readonly writableHigh: number;
  /** reset value of the low dword: the type bits */
  readonly typeBits: number;

  /**
   * @param bridge in a type 1 header
   * @throws ConfigError `bar-size`, `bar-index`, `bar-kind`, `bar-accepts`
   */
  constructor(index: BarIndex, declaration: BarDeclaration, bridge = false) {
    const { kind, size, prefetchable = false } = declaration;
    const rom = index === PCI_ROM_RESOURCE;
    const count = bridge ? PCI_BRIDGE_NUM_BARS : PCI_STD_NUM_BARS;
    const what = rom ? "expansion ROM" : `BAR ${index}`;
    const least = rom ? SMALLEST_ROM : SMALLEST[kind];
    if (!isPowerOfTwo(size) || size < least || size > LARGEST[kind])
      throw new ConfigError(
        "bar-size",
        `${what}: size ${hex(size)}; expected a power of two in ${hex(least)} … ${hex(LARGEST[kind])}`,
      );
    if (rom && kind !== "mem32") throw new ConfigError("bar-kind", `${what}: kind ${kind}; expected mem32`);
    if (!rom && index >= count)
      throw new ConfigError("bar-index", `${what} in the header of a bridge; expected 0, 1, or 6 for the ROM`);
    if (kind === "mem64" && index >= count - 1)
      throw new ConfigError(
        "bar-index",
        `${what}: mem64 needs the next BAR, too; expected an index in 0 … ${count - 2}`,
      );
    if (prefetchable && (kind === "io" || rom))
      throw new ConfigError("bar-kind", `${what}: kind ${kind} cannot be prefetchable`);
    if (declaration.accepts?.length === 0)
      throw new ConfigError("bar-accepts", `${what}: accepts no width; expected some of 1, 2, 4`);
    this.index = index;
    this.kind = kind;
    this.size = size;
    this.prefetchable = prefetchable;
    this.registers = declaration.registers;
    this.region = new Region(declaration, rom);
    this.at = rom ? (bridge ? PCI_ROM_ADDRESS1 : PCI_ROM_ADDRESS) : PCI_BASE_ADDRESS_0 + 4 * index;
    const address = size >= 2 ** 32 ? 0 : ~(size - 1) >>> 0;
    if (rom) this.writableLow = ((address & PCI_ROM_ADDRESS_MASK) | PCI_ROM_ADDRESS_ENABLE) >>> 0;
    // Upper bits of an I/O BAR that read 0 are allowed, but SeaBIOS takes such a BAR for one of almost 4 GiB.
    else if (kind === "io") this.writableLow = address;
    else this.writableLow = (address & PCI_BASE_ADDRESS_MEM_MASK) >>> 0;
    this.writableHigh = kind !== "mem64" ? 0 : size <= 2 ** 32 ? TOP_32 : ~(size / 2 ** 32 - 1) >>> 0;
    this.typeBits =
      kind === "io"
        ? PCI_BASE_ADDRESS_SPACE_IO
        : (kind === "mem64" ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) | (prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
  }

  /** Puts where the BAR is decoded with this Command into `bases`; −1: nowhere. @returns whether it moved */
  place(config: ConfigBytes, command: number, powered: boolean, bases: Float64Array): boolean {
    const former = bases[this.index]!;
    bases[this.index] = -1;
    if (powered) this.#decode(config, command, bases);
    return bases[this.index] !== former;
  }

  /**
   * Puts where the BAR is decoded into `bases`, where it is decoded at all.
   * Base 0, a range that wraps or reaches the last byte of the 32-bit space (the sizing pattern), ports above 64 KiB and
   * addresses no CPU has decode nothing. QEMU's `pci_bar_address` has the same list.
   *
   * Neither result nor argument is an address: V8 boxes those above 2³¹ wherever it does not inline the function.
   */
  #decode(config: ConfigBytes, command: number, bases: Float64Array): void {
    if ((command & (this.kind === "io" ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) === 0) return;
    const low = config.get(this.at, 2) | (config.get(this.at + 2, 2) << 16);
    if (this.index === PCI_ROM_RESOURCE && (low & PCI_ROM_ADDRESS_ENABLE) === 0) return;
    let base = (low & this.writableLow) >>> 0;
    if (this.index === PCI_ROM_RESOURCE) base -= PCI_ROM_ADDRESS_ENABLE;
    if (this.kind === "mem64") {
      const high = config.get(this.at + 4, 2) + config.get(this.at + 6, 2) * 2 ** 16;
      base += high * 2 ** 32;
    }
    const last = base + this.size - 1;
    if (base === 0 || last === TOP_32) return;
    const end = this.kind === "io" ? PCI_IO_SPACE_SIZE : this.kind === "mem32" ? TOP_32 : PHYSICAL_END;
    if (last < end) bases[this.index] = base;
  }
}

/** The BARs of a declaration, ascending. @throws ConfigError as `Bar`, and `bar-overlap` where a mem64 lacks its upper half */
export const buildBars = ({ name, bridge, bars = {} }: FunctionDeclaration): Bar[] => {
  const built: Bar[] = [];
  for (const index of [0, 1, 2, 3, 4, 5, 6] as const) {
    const declaration = bars[index];
    if (declaration === undefined) continue;
    const before = built.at(-1);
    if (before?.kind === "mem64" && before.index + 1 === index)
      throw new ConfigError("bar-overlap", `${name}: BAR ${index} is the upper half of the mem64 BAR ${before.index}`);
    built.push(new Bar(index, declaration, bridge !== undefined));
  }
  return built;
};
