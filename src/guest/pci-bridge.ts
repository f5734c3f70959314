import { hex } from "../bytes/index.js";
import type { GuestBus } from "../contract/index.js";
import {
  PCI_CLASS_BRIDGE_PCI,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_BRIDGE,
  PCI_HEADER_TYPE_MASK,
  PCI_IO_BASE,
  PCI_IO_BASE_UPPER16,
  PCI_IO_LIMIT,
  PCI_IO_LIMIT_UPPER16,
  PCI_IO_RANGE_TYPE_32,
  PCI_IO_RANGE_TYPE_MASK,
  PCI_MAX_DEVICES,
  PCI_MAX_FUNCTIONS,
  PCI_MEMORY_BASE,
  PCI_MEMORY_LIMIT,
  PCI_PREF_BASE_UPPER32,
  PCI_PREF_LIMIT_UPPER32,
  PCI_PREF_MEMORY_BASE,
  PCI_PREF_MEMORY_LIMIT,
  PCI_PREF_RANGE_TYPE_64,
  PCI_PREF_RANGE_TYPE_MASK,
  PCI_PRIMARY_BUS,
  PCI_SECONDARY_BUS,
  PCI_SUBORDINATE_BUS,
  pciBdf,
  pciBus,
} from "../spec/pci.js";
import { PCI } from "./pci-class.js";
import { PciFunction } from "./pci-function.js";
import { PCIB, type PciWindows, type Range } from "./pci-host.js";
import { Rman } from "./rman.js";
import {
  BUS_PASS_BUS,
  BUS_PROBE_GENERIC,
  type Device,
  type Driver,
  type PciAttach,
  type PciProbe,
  ResourceError,
} from "./types.js";

const MIB = 0x10_0000;
/** What a bridge is given that came without windows: as much as firmware leaves behind one for later. */
const IO_ROOM = 0x1000;
const MEMORY_ROOM = 0x20_0000;
/** base above limit */
const CLOSED_IO = 0x00f0;
const CLOSED_MEMORY = 0x0000_fff0;

/** A window of one unit at zero is what comes out of reset: nobody has set it. @param unit 4 KiB or 1 MiB */
const range = (start: number, last: number, unit: number): Range =>
  start > last || (start === 0 && last === 0) ? null : [start, last + unit - 1];

/** What a bridge passes on downstream. PCI-to-PCI Bridge Architecture 1.2 §4 */
const bridgeWindows = (pci: PciAttach): PciWindows => {
  const ioBase = pci.readConfig(PCI_IO_BASE, 1);
  const ioLimit = pci.readConfig(PCI_IO_LIMIT, 1);
  const ioWide = (ioBase & PCI_IO_RANGE_TYPE_MASK) === PCI_IO_RANGE_TYPE_32;
  const ioHigh = (register: number) => (ioWide ? pci.readConfig(register, 2) * 0x1_0000 : 0);
  const mib = (register: number) => (pci.readConfig(register, 2) >>> 4) * 0x10_0000;
  const isWide = (pci.readConfig(PCI_PREF_MEMORY_BASE, 2) & PCI_PREF_RANGE_TYPE_MASK) === PCI_PREF_RANGE_TYPE_64;
  const high = (register: number) => (isWide ? pci.readConfig(register, 4) * 2 ** 32 : 0);
  return {
    ports: range(
      ioHigh(PCI_IO_BASE_UPPER16) + (ioBase >>> 4) * 0x1000,
      ioHigh(PCI_IO_LIMIT_UPPER16) + (ioLimit >>> 4) * 0x1000,
      0x1000,
    ),
    memory: range(mib(PCI_MEMORY_BASE), mib(PCI_MEMORY_LIMIT), 0x10_0000),
    prefetchable: range(
      high(PCI_PREF_BASE_UPPER32) + mib(PCI_PREF_MEMORY_BASE),
      high(PCI_PREF_LIMIT_UPPER32) + mib(PCI_PREF_MEMORY_LIMIT),
      0x10_0000,
    ),
  };
};

/**
 * A manager of what is behind a bridge: the windows, which are taken out of what is in front of it, so that nobody there is
 * given any of it. One that overlaps something in front stays the bridge's nevertheless: that is how accesses go.
 */
const behind = (dev: Device<PciAttach>, name: string, front: Rman, windows: readonly (Range | undefined)[]): Rman => {
  const manager = new Rman(`${name} behind ${dev.nameunit}`, front.start, front.end);
  for (const window of windows) {
    if (window === null || window === undefined) continue;
    const [start, end] = window;
    try {
      manager.manageRegion(start, end);
      dev.resources.use(front.reserve({ start, end, count: end - start + 1, owner: dev.nameunit }));
    } catch (error) {
      if (!(error instanceof ResourceError)) throw error;
      dev.log(`window ${hex(start)}-${hex(end)}: ${error.message}`);
    }
  }
  return manager;
};

/** Numbers of the buses behind the bridges of a bus that have any: first and last. */
const numbersBehind = (bus: GuestBus, parent: number): (readonly [first: number, last: number])[] => {
  const found: [number, number][] = [];
  for (let devfn = 0; devfn < PCI_MAX_DEVICES * PCI_MAX_FUNCTIONS; devfn++) {
    const bdf = pciBdf(parent, 0) + devfn;
    if ((bus.configRead(bdf, PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK) !== PCI_HEADER_TYPE_BRIDGE) continue;
    const first = bus.configRead(bdf, PCI_SECONDARY_BUS, 1);
    if (first > parent) found.push([first, bus.configRead(bdf, PCI_SUBORDINATE_BUS, 1)]);
  }
  return found;
};

/**
 * Gives a bridge that nobody has numbered, since it came later, the first number that is free on its branch, and all up to
 * the next that is not, until what is behind it has taken its own. @returns the number; −1: there is none
 */
const number = (pci: PciFunction): number => {
  const { bus, buses, lastBus } = pci.host;
  const parent = pciBus(pci.bdf);
  const taken = numbersBehind(bus, parent);
  const isFree = (n: number) => !buses.has(n) && !taken.some(([first, last]) => n >= first && n <= last);
  let first = parent + 1;
  while (first <= lastBus && !isFree(first)) first++;
  if (first > lastBus) return -1;
  let last = first;
  while (last < lastBus && isFree(last + 1)) last++;
  pci.writeConfig(PCI_PRIMARY_BUS, 1, parent);
  pci.writeConfig(PCI_SECONDARY_BUS, 1, first);
  pci.writeConfig(PCI_SUBORDINATE_BUS, 1, last);
  return pci.readConfig(PCI_SECONDARY_BUS, 1) === first ? first : -1;
};

/** Opens a bridge's windows of ports and memory inside those of its bus, as far as there is room. */
const openWindows = (pci: PciFunction): void => {
  const { host, windows } = pci;
  const room = (manager: Rman, window: Range, count: number, alignment: number): number => {
    if (window === null) return -1;
    try {
      // Given back at once: the manager of what is behind takes it as it takes what firmware has set.
      const found = manager.reserve({ start: window[0], end: window[1], count, alignment, owner: pci.place });
      found[Symbol.dispose]();
      return found.start;
    } catch (error) {
      if (!(error instanceof ResourceError)) throw error;
      return -1;
    }
  };
  const port = room(host.ports, windows.ports, IO_ROOM, IO_ROOM);
  const address = room(host.memory, windows.memory, MEMORY_ROOM, MIB);
  const io = port < 0 ? CLOSED_IO : (port >>> 8) + (((port + IO_ROOM - 1) >>> 8) & 0xf0) * 0x100;
  const mib = (at: number) => (at / MIB) * 0x10;
  const memory = address < 0 ? CLOSED_MEMORY : mib(address) + mib(address + MEMORY_ROOM - MIB) * 0x1_0000;
  pci.writeConfig(PCI_IO_BASE, 2, io);
  pci.writeConfig(PCI_MEMORY_BASE, 4, memory);
  pci.writeConfig(PCI_PREF_MEMORY_BASE, 4, CLOSED_MEMORY);
  pci.writeConfig(PCI_COMMAND, 2, pci.readConfig(PCI_COMMAND, 2) | PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
};

/** A PCI-to-PCI bridge: the way to its secondary bus, as firmware numbered it, or as is done here where it did not. */
export const pciBridge: Driver<PciProbe, PciAttach> = {
  name: "pcib",
  bus: PCI,
  pnp: [{ class: PCI_CLASS_BRIDGE_PCI << 8, classMask: 0xff_ff00 }],
  pass: BUS_PASS_BUS,
  probe: (view) =>
    (view.readConfig(PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK) === PCI_HEADER_TYPE_BRIDGE
      ? { priority: BUS_PROBE_GENERIC, desc: "PCI-PCI bridge" }
      : null,
  attach(dev) {
    if (!(dev.bus instanceof PciFunction)) return;
    const { host } = dev.bus;
    let bus = dev.bus.readConfig(PCI_SECONDARY_BUS, 1);
    const isNew = bus <= pciBus(dev.bus.bdf);
    if (isNew) {
      bus = number(dev.bus);
      if (bus < 0) {
        dev.log("no bus number for what is behind it");
        return;
      }
      openWindows(dev.bus);
    }
    const lastBus = dev.bus.readConfig(PCI_SUBORDINATE_BUS, 1);
    const windows = bridgeWindows(dev.bus);
    const memory = behind(dev, "memory", host.memory, [windows.memory, windows.prefetchable]);
    const ports = behind(dev, "ports", host.ports, [windows.ports]);
    dev.bus.enableBusMaster(true); // lets cycles of functions below go up
    const child = { bus, windows, host: { ...host, memory, ports, lastBus } };
    dev.addChild(PCIB, child, { driver: "pci" }).probeAndAttach();
    if (!isNew) return;
    const used = [...host.buses].filter((other) => other >= bus && other <= lastBus);
    dev.bus.writeConfig(PCI_SUBORDINATE_BUS, 1, Math.max(bus, ...used));
  },
};
