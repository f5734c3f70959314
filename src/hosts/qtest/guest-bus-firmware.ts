import type { Bdf, GuestBus } from "../../contract/index.js";
import {
  ELCR1,
  ELCR2,
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_IO_MASK,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MASK,
  PCI_HEADER_TYPE_MFD,
  PCI_HEADER_TYPE_NORMAL,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_MAX_DEVICES,
  PCI_MAX_FUNCTIONS,
  PCI_STD_NUM_BARS,
  PCI_VENDOR_ID,
  PIIX_PIRQC,
  pciBdf,
  pciDevice,
} from "../../spec/pci.js";

/** Interrupts of PIRQA … PIRQD. */
export type PirqRoutes = readonly [number, number, number, number];

/** As SeaBIOS routes them. */
export const SEABIOS_ROUTES: PirqRoutes = [10, 10, 11, 11];

const ISA_BRIDGE = pciBdf(0, 1);
/** Where BARs go: QEMU's `pc` passes these on to PCI however much RAM it has. */
const PORTS = 0xc000;
const MEMORY = 0xe000_0000;
const PAGE = 4096;
const ONES = 0xffff_ffff;

type Config = Pick<GuestBus, "configRead" | "configWrite" | "ioRead" | "ioWrite">;

interface SizedBar {
  readonly bdf: Bdf;
  readonly at: number;
  readonly io: boolean;
  readonly wide: boolean;
  readonly size: number;
}

/** The functions of bus 0 that answer. */
export const functionsOf = (bus: Config): readonly Bdf[] => {
  const found: Bdf[] = [];
  for (let device = 0; device < PCI_MAX_DEVICES; device++)
    for (let fn = 0; fn < PCI_MAX_FUNCTIONS; fn++) {
      const bdf = pciBdf(0, device, fn);
      const present = bus.configRead(bdf, PCI_VENDOR_ID, 2) !== 0xffff;
      if (present) found.push(bdf);
      if (fn === 0 && (!present || (bus.configRead(bdf, PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MFD) === 0)) break;
    }
  return found;
};

/** What firmware does for INTx behind PIIX3: PIRQ routes, level triggers, and each function's Interrupt Line. */
export const routeInterrupts = (bus: Config, functions: readonly Bdf[], routes: PirqRoutes = SEABIOS_ROUTES): void => {
  let levels = bus.ioRead(ELCR1, 1) | (bus.ioRead(ELCR2, 1) << 8);
  for (const [pirq, irq] of routes.entries()) {
    bus.configWrite(ISA_BRIDGE, PIIX_PIRQC + pirq, 1, irq);
    levels |= 1 << irq;
  }
  bus.ioWrite(ELCR1, 1, levels & 0xff);
  bus.ioWrite(ELCR2, 1, levels >>> 8);
  for (const bdf of functions) {
    const pin = bus.configRead(bdf, PCI_INTERRUPT_PIN, 1);
    if (pin < 1 || pin > 4) continue;
    const pirq = ((pciDevice(bdf) + pin - 2) & 3) as 0 | 1 | 2 | 3; // INTA# of slot 1 is PIRQA
    bus.configWrite(bdf, PCI_INTERRUPT_LINE, 1, routes[pirq]);
  }
};

/** Gives every BAR of bus 0 a place, the largest first, and switches decoding on; Bus Master and ROMs stay off. */
export const placeBars = (bus: Config, functions: readonly Bdf[]): void => {
  const bars = functions.flatMap((bdf) => sizedBars(bus, bdf));
  bars.sort((a, b) => b.size - a.size || a.bdf - b.bdf || a.at - b.at);
  let port = PORTS;
  let memory = MEMORY;
  const decoded = new Map<Bdf, number>();
  for (const { bdf, at, io, wide, size } of bars) {
    const granule = io ? size : Math.max(size, PAGE);
    const base = Math.ceil((io ? port : memory) / granule) * granule;
    if (io) port = base + granule;
    else memory = base + granule;
    bus.configWrite(bdf, at, 4, base);
    if (wide) bus.configWrite(bdf, at + 4, 4, 0);
    decoded.set(bdf, (decoded.get(bdf) ?? 0) | (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY));
  }
  for (const [bdf, bits] of decoded) bus.configWrite(bdf, PCI_COMMAND, 2, bus.configRead(bdf, PCI_COMMAND, 2) | bits);
};

/** PCI 3.0 §6.2.5.1, with decoding off meanwhile. */
const sizedBars = (bus: Config, bdf: Bdf): SizedBar[] => {
  if ((bus.configRead(bdf, PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK) !== PCI_HEADER_TYPE_NORMAL) return [];
  const command = bus.configRead(bdf, PCI_COMMAND, 2);
  bus.configWrite(bdf, PCI_COMMAND, 2, command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
  const found: SizedBar[] = [];
  for (let n = 0; n < PCI_STD_NUM_BARS; n++) {
    const at = PCI_BASE_ADDRESS_0 + 4 * n;
    const old = bus.configRead(bdf, at, 4);
    bus.configWrite(bdf, at, 4, ONES);
    const sized = bus.configRead(bdf, at, 4);
    bus.configWrite(bdf, at, 4, old);
    if (sized === 0) continue;
    const io = (sized & PCI_BASE_ADDRESS_SPACE_IO) !== 0;
    const wide = !io && (sized & PCI_BASE_ADDRESS_MEM_TYPE_MASK) === PCI_BASE_ADDRESS_MEM_TYPE_64;
    const mask = sized & (io ? PCI_BASE_ADDRESS_IO_MASK : PCI_BASE_ADDRESS_MEM_MASK);
    found.push({ bdf, at, io, wide, size: (mask & -mask) >>> 0 });
    if (wide) n++; // its upper half
  }
  return found;
};
