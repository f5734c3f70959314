import type { BarKind } from "../../../../contract/index.js";
import { OWN_NAMES } from "../../../../guest/index.js";
import { pirqOf } from "../../../../machine/index.js";
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_IO_MASK,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_CLASS_DEVICE,
  PCI_CLASS_NAMES,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS_MASK,
  PCI_STATUS,
  PCI_STATUS_INTERRUPT,
  PCI_VENDOR_ID,
  PIIX_PIRQC,
  PIIX_PIRQC_DISABLE,
} from "../../../../spec/pci.js";
import type { Lab, LabCard } from "./lab.js";

/** A base address register as the guest has set it. */
export interface BusBar {
  readonly index: number;
  readonly kind: BarKind | "rom";
  /** 0: not assigned */
  readonly base: number;
  /** bytes */
  readonly size: number;
  /** the function answers there now */
  readonly decoded: boolean;
}

/** A function of bus 0. */
export interface BusFunction {
  readonly slot: number;
  readonly vendor: number;
  readonly device: number;
  readonly name: string;
  readonly command: number;
  readonly bars: readonly BusBar[];
  /** 1 … 4 for INTA … INTD, 0 for none */
  readonly pin: number;
  /** PIRQ A … D as 0 … 3; −1 without a pin */
  readonly pirq: number;
  /** what firmware wrote into Interrupt Line */
  readonly line: number;
  /** its interrupt pin is pulled */
  readonly level: boolean;
  /** null: one of v86's own */
  readonly card: LabCard | null;
}

/** What v86's PCI host shows to who knows where to look; the adapter has checked that it is there. */
interface V86Pci {
  readonly device_spaces: readonly (Int32Array | undefined)[];
  readonly devices: readonly ({ readonly pci_bars?: readonly ({ readonly size: number } | undefined)[] } | undefined)[];
  readonly isa_bridge_space8: Uint8Array;
}

/** The command register's bits that are of interest, with what the page calls them. */
export const COMMAND_BITS = [
  [PCI_COMMAND_IO, "I/O", "answers in I/O space"],
  [PCI_COMMAND_MEMORY, "MEM", "answers in memory space"],
  [PCI_COMMAND_MASTER, "DMA", "may master the bus"],
  [PCI_COMMAND_INTX_DISABLE, "INTx off", "keeps its interrupt pin down"],
] as const;

const pciOf = (lab: Lab): V86Pci | null => {
  const { emulator } = lab;
  if (emulator === null || lab.attachment === null) return null;
  return (emulator as unknown as { readonly v86: { readonly cpu: { readonly devices: { readonly pci: V86Pci } } } }).v86
    .cpu.devices.pci;
};

/** The interrupts that PIRQ A … D are routed to; −1: none. */
export function routes(lab: Lab): readonly number[] {
  const pci = pciOf(lab);
  return [0, 1, 2, 3].map((pirq) => {
    const route = pci?.isa_bridge_space8[PIIX_PIRQC + pirq] ?? PIIX_PIRQC_DISABLE;
    return route >= PIIX_PIRQC_DISABLE ? -1 : route;
  });
}

/** All functions of the bus as they are now, by slot. */
export function functions(lab: Lab): BusFunction[] {
  const pci = pciOf(lab);
  if (pci === null) return [];
  const found: BusFunction[] = [];
  for (let slot = 0; slot < 32; slot++) {
    const card = lab.cards.find((candidate) => candidate.slot === slot && candidate.plugged);
    const space = pci.device_spaces[slot << 3];
    if (card !== undefined) found.push(ours(card));
    else if (space !== undefined) found.push(builtIn(slot, space, pci.devices[slot << 3]?.pci_bars ?? []));
  }
  return found;
}

const nameOf = (vendor: number, device: number, classCode: number): string =>
  OWN_NAMES.devices.get(vendor * 0x1_0000 + device)?.replace(/ \[.*/, "") ??
  PCI_CLASS_NAMES[classCode] ??
  `Class ${classCode.toString(16)}`;

function ours(card: LabCard): BusFunction {
  const { nic, slot } = card;
  const [vendor, device] = [nic.configRead(PCI_VENDOR_ID, 2), nic.configRead(PCI_DEVICE_ID, 2)];
  const command = nic.configRead(PCI_COMMAND, 2);
  const pin = nic.configRead(PCI_INTERRUPT_PIN, 1);
  const pulls = (nic.configRead(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT) !== 0;
  return {
    slot,
    vendor,
    device,
    name: nameOf(vendor, device, nic.configRead(PCI_CLASS_DEVICE, 2)),
    command,
    bars: nic.bars.map(({ index, kind, size }) => {
      const at = index < 6 ? PCI_BASE_ADDRESS_0 + 4 * index : PCI_ROM_ADDRESS;
      const low = nic.configRead(at, 4);
      const high = kind === "mem64" ? nic.configRead(at + 4, 4) : 0;
      const base = (low & (kind === "io" ? PCI_BASE_ADDRESS_IO_MASK : PCI_BASE_ADDRESS_MEM_MASK)) >>> 0;
      return {
        index,
        kind: index < 6 ? kind : "rom",
        base: (index < 6 ? base : (low & PCI_ROM_ADDRESS_MASK) >>> 0) + high * 2 ** 32,
        size,
        decoded: nic.barBase(index) >= 0,
      };
    }),
    pin,
    pirq: pin === 0 ? -1 : pirqOf(slot, pin - 1),
    line: nic.configRead(PCI_INTERRUPT_LINE, 1),
    level: pulls && (command & PCI_COMMAND_INTX_DISABLE) === 0,
    card,
  };
}

/** One of v86's functions: a table of 256 bytes, whose command register v86 itself does not look at. */
function builtIn(
  slot: number,
  space: Int32Array,
  sizes: readonly ({ readonly size: number } | undefined)[],
): BusFunction {
  const long = (at: number): number => (space[at >> 2] ?? 0) >>> 0;
  const word = (at: number): number => (long(at & ~3) >>> (8 * (at & 2))) & 0xffff;
  const pin = (long(PCI_INTERRUPT_LINE) >>> 8) & 0xff;
  const command = word(PCI_COMMAND);
  const bars: BusBar[] = [];
  for (const [index, bar] of sizes.entries()) {
    if (bar === undefined || bar.size === 0) continue;
    const value = long(PCI_BASE_ADDRESS_0 + 4 * index);
    const isIo = (value & PCI_BASE_ADDRESS_SPACE_IO) !== 0;
    const is64 = !isIo && (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) === PCI_BASE_ADDRESS_MEM_TYPE_64;
    bars.push({
      index,
      kind: isIo ? "io" : is64 ? "mem64" : "mem32",
      base: (value & (isIo ? PCI_BASE_ADDRESS_IO_MASK : PCI_BASE_ADDRESS_MEM_MASK)) >>> 0,
      size: bar.size,
      decoded: (command & (isIo ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) !== 0,
    });
  }
  const [vendor, device] = [word(PCI_VENDOR_ID), word(PCI_DEVICE_ID)];
  return {
    slot,
    vendor,
    device,
    name: nameOf(vendor, device, word(PCI_CLASS_DEVICE)),
    command,
    bars,
    pin,
    pirq: pin === 0 ? -1 : pirqOf(slot, pin - 1),
    line: long(PCI_INTERRUPT_LINE) & 0xff,
    level: false,
    card: null,
  };
}
