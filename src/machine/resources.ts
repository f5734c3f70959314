import { ConfigError, hex } from "../bytes/index.js";
import type { AccessWidth, BarInfo, Bdf, GuestMemory } from "../contract/index.js";
import {
  ELCR1,
  ELCR2,
  formatBdf,
  PCI_BASE_ADDRESS_0,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_ROM_ADDRESS,
  PCI_ROM_RESOURCE,
  PIIX_PIRQC,
  pciBdf,
  pciDevice,
} from "../spec/pci.js";
import { pirqOf } from "./intx.js";
import type { PluggedFunction } from "./machine.js";

const PAGE = 4096;
/** As SeaBIOS: memory from 2 GiB on, or from the end of RAM if that is higher, up to the I/O APIC. */
const MEMORY_START = 0x8000_0000;
const MEMORY_END = 0xfec0_0000;
const HIGH_START = 2 ** 32;
const ISA_BRIDGE = pciBdf(0, 1);

export interface ResourceOptions {
  /** ports for I/O BARs, end exclusive; default 0xc000 … 0x10000 */
  readonly io?: readonly [start: number, end: number];
  /** addresses below 4 GiB for memory BARs, end exclusive; default: from 2 GiB or the end of RAM to 0xfec00000 */
  readonly memory?: readonly [start: number, end: number];
  /** interrupts of PIRQA … PIRQD; default 10, 10, 11, 11 as SeaBIOS */
  readonly irqs?: readonly [number, number, number, number];
}

/** A BAR and where `assignResources` put it. */
export interface AssignedResource extends BarInfo {
  readonly bdf: Bdf;
  readonly base: number;
}

/** What assigning needs of a machine. */
interface Platform {
  readonly memory: GuestMemory;
  functions(): readonly PluggedFunction[];
  configRead(bdf: Bdf, offset: number, width: AccessWidth): number;
  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void;
  ioRead(port: number, width: AccessWidth): number;
  ioWrite(port: number, width: AccessWidth, value: number): void;
}

/** Hands out naturally aligned ranges upwards. */
class Window {
  #next: number;
  readonly #end: number;
  constructor(start: number, end: number) {
    this.#next = start;
    this.#end = end;
  }
  /** @param size a power of two @returns −1 when there is no room */
  take(size: number): number {
    const base = Math.ceil(this.#next / size) * size;
    if (base + size > this.#end) return -1;
    this.#next = base + size;
    return base;
  }
}

/**
 * Assigns resources as firmware would: BARs largest first, naturally aligned, memory BARs in pages of their own; PIRQ
 * routes, ELCR and interrupt lines that agree; decoding on, Bus Master as it was (off after reset).
 * @throws ConfigError `resources-exhausted`, `resource-irq`
 */
export const assignResources = (machine: Platform, options: ResourceOptions): readonly AssignedResource[] => {
  const ends = machine.memory.windows.map(({ base, size }) => base + size);
  const topOf = (limit: number) => Math.max(0, ...ends.filter((end) => end <= limit));
  const [ioStart, ioEnd] = options.io ?? [0xc000, 0x1_0000];
  const [memStart, memEnd] = options.memory ?? [Math.max(MEMORY_START, topOf(HIGH_START)), MEMORY_END];
  const io = new Window(ioStart, ioEnd);
  const low = new Window(memStart, memEnd);
  const high = new Window(Math.max(HIGH_START, topOf(Number.MAX_SAFE_INTEGER)), 2 ** 52);

  const wanted = machine.functions().flatMap(({ bdf, slot }) => slot.bars.map((bar) => ({ bdf, bar })));
  wanted.sort((a, b) => b.bar.size - a.bar.size || a.bdf - b.bdf || a.bar.index - b.bar.index);
  const assigned = wanted.map(({ bdf, bar }): AssignedResource => {
    let base = bar.kind === "io" ? io.take(bar.size) : low.take(Math.max(bar.size, PAGE));
    if (base < 0 && bar.kind === "mem64") base = high.take(Math.max(bar.size, PAGE));
    if (base < 0)
      throw new ConfigError(
        "resources-exhausted",
        `no room for BAR ${bar.index} (${bar.kind}, ${hex(bar.size)} bytes) of ${formatBdf(bdf)}`,
      );
    return { bdf, base, index: bar.index, kind: bar.kind, size: bar.size, prefetchable: bar.prefetchable };
  });

  for (const { bdf, slot } of machine.functions()) {
    const command = machine.configRead(bdf, PCI_COMMAND, 2);
    machine.configWrite(bdf, PCI_COMMAND, 2, command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
    let decode = 0;
    for (const bar of assigned.filter((other) => other.bdf === bdf)) {
      place(machine, bar);
      decode |= bar.kind === "io" ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    }
    if (slot.bars.length > 0) machine.configWrite(bdf, PCI_COMMAND, 2, command | decode);
    else machine.configWrite(bdf, PCI_COMMAND, 2, command);
  }
  routeInterrupts(machine, options.irqs ?? [10, 10, 11, 11]);
  return assigned;
};

const place = (machine: Platform, { bdf, index, kind, base }: AssignedResource): void => {
  const at = index === PCI_ROM_RESOURCE ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * index; // the ROM's enable bit stays 0
  machine.configWrite(bdf, at, 4, base % 2 ** 32);
  if (kind === "mem64") machine.configWrite(bdf, at + 4, 4, Math.floor(base / 2 ** 32));
};

const routeInterrupts = (machine: Platform, irqs: readonly [number, number, number, number]): void => {
  const legal = [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15];
  let levels = machine.ioRead(ELCR1, 1) | (machine.ioRead(ELCR2, 1) << 8);
  for (const [pirq, irq] of irqs.entries()) {
    if (!legal.includes(irq))
      throw new ConfigError("resource-irq", `interrupt ${irq} for PIRQ ${pirq}; expected one of ${legal.join(", ")}`);
    machine.configWrite(ISA_BRIDGE, PIIX_PIRQC + pirq, 1, irq);
    levels |= 1 << irq;
  }
  machine.ioWrite(ELCR1, 1, levels & 0xff);
  machine.ioWrite(ELCR2, 1, levels >>> 8);
  for (const { bdf } of machine.functions()) {
    const pin = machine.configRead(bdf, PCI_INTERRUPT_PIN, 1);
    if (pin >= 1 && pin <= 4)
      machine.configWrite(bdf, PCI_INTERRUPT_LINE, 1, irqs[pirqOf(pciDevice(bdf), pin - 1) as 0 | 1 | 2 | 3]);
  }
};
