import { hex } from "../bytes/index.js";
import type { Bdf } from "../contract/index.js";
import {
  PCI_CLASS_BRIDGE_PCI,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_BRIDGE,
  PCI_HEADER_TYPE_CARDBUS,
  PCI_HEADER_TYPE_MASK,
  PCI_HEADER_TYPE_MFD,
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
  PCI_SECONDARY_BUS,
  PCI_VENDOR_ID,
  PCI_VENDOR_ID_NONE,
  pciBdf,
  pciBus,
} from "../spec/pci.js";
import { PCI } from "./pci-class.js";
import { PciFunction } from "./pci-function.js";
import type { PciHost, PciWindows, Range } from "./pci-host.js";
import { Rman } from "./rman.js";
import {
  BUS_PASS_BUS,
  BUS_PROBE_GENERIC,
  BUS_PROBE_SPECIFIC,
  type BusClass,
  type ChildHandle,
  type Device,
  type Driver,
  type PciAttach,
  type PciProbe,
  ResourceError,
} from "./types.js";

/** What hangs on the root of the tree: here, the host bridge. */
export interface RootChild {
  readonly name: string;
}

/** What hangs on a bridge: one PCI bus. */
export interface PcibChild {
  /** 0 … 255 */
  readonly bus: number;
  readonly windows: PciWindows;
  /** with managers of what the bridge passes on */
  readonly host: PciHost;
}

const plain = <P extends object>(name: string): BusClass<P, P> => ({
  name,
  pnpinfo: () => "",
  location: () => "",
  matches: () => true,
});

export const ROOT = plain<RootChild>("root");
export const PCIB = plain<PcibChild>("pcib");

/** A bus with the functions that it has found. */
class PciBus {
  readonly #dev: Device<PcibChild>;
  readonly #known = new Map<Bdf, { readonly fn: PciFunction; readonly child: ChildHandle }>();

  constructor(dev: Device<PcibChild>) {
    this.#dev = dev;
  }

  /** Adds what is new, takes away what has gone or was exchanged, and offers the new ones to drivers. */
  scan(): void {
    const present = this.#enumerate();
    for (const [bdf, { fn }] of [...this.#known]) if (!present.includes(bdf) || !fn.same()) this.#vanish(bdf);
    const added: ChildHandle[] = [];
    for (const bdf of present) {
      if (this.#known.has(bdf)) continue;
      const fn = new PciFunction(this.#dev.bus.host, bdf, this.#dev.bus.windows);
      const child = this.#dev.addChild<PciProbe, PciAttach>(PCI, fn);
      this.#known.set(bdf, { fn, child });
      added.push(child);
    }
    for (const child of added) child.probeAndAttach();
  }

  /** Gives every reserved range back; the children are gone already. */
  forget(): void {
    for (const { fn } of this.#known.values()) fn.forget();
    this.#known.clear();
  }

  /** Functions 1 … 7 are asked only where function 0 says that there may be more. PCI 3.0 §3.2.2.3.4 */
  #enumerate(): Bdf[] {
    const { bus } = this.#dev.bus.host;
    const found: Bdf[] = [];
    for (let slot = 0; slot < PCI_MAX_DEVICES; slot++) {
      const first = pciBdf(this.#dev.bus.bus, slot);
      const header = bus.configRead(first, PCI_HEADER_TYPE, 1);
      if ((header & PCI_HEADER_TYPE_MASK) > PCI_HEADER_TYPE_CARDBUS) continue; // nobody there reads as 0x7f
      const last = (header & PCI_HEADER_TYPE_MFD) !== 0 ? PCI_MAX_FUNCTIONS : 1;
      for (let fn = 0; fn < last; fn++) {
        const vendor = bus.configRead(first + fn, PCI_VENDOR_ID, 2);
        if (vendor !== PCI_VENDOR_ID_NONE && vendor !== 0) found.push(first + fn);
      }
    }
    return found;
  }

  #vanish(bdf: Bdf): void {
    const entry = this.#known.get(bdf);
    if (entry === undefined) return;
    this.#known.delete(bdf);
    entry.fn.vanish();
    entry.child.vanish();
    entry.fn.forget();
  }
}

/** The PCI bus: finds functions by configuration cycles. */
const pciDriver = (claimed = new Set<number>()): Driver<PcibChild, PcibChild, PciBus> => ({
  name: "pci",
  bus: PCIB,
  pass: BUS_PASS_BUS,
  probe: () => ({ priority: BUS_PROBE_GENERIC, desc: "PCI bus" }),
  attach(dev) {
    const number = dev.bus.bus;
    if (claimed.has(number)) throw new ResourceError("EBUSY", `bus ${number} is behind another bridge already`);
    claimed.add(number);
    dev.resources.defer(() => void claimed.delete(number));
    const bus = new PciBus(dev);
    dev.resources.defer(() => bus.forget());
    bus.scan();
    return bus;
  },
  rescan: (_dev, bus) => bus.scan(),
});

/** The host bridge as the root sees it: the way to bus 0. */
const hostBridge = (host: PciHost, windows: PciWindows): Driver<RootChild, RootChild> => ({
  name: "pcib",
  bus: ROOT,
  pass: BUS_PASS_BUS,
  identify: (add) => add({ name: "pcib" }),
  probe: ({ name }) => (name === "pcib" ? { priority: BUS_PROBE_SPECIFIC, desc: "Host to PCI bridge" } : null),
  attach(dev) {
    dev.addChild(PCIB, { bus: 0, windows, host }, { driver: "pci" }).probeAndAttach();
  },
});

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

/** A PCI-to-PCI bridge: the way to its secondary bus, as firmware numbered it. */
const pciBridge: Driver<PciProbe, PciAttach> = {
  name: "pcib",
  bus: PCI,
  pnp: [{ class: PCI_CLASS_BRIDGE_PCI << 8, classMask: 0xff_ff00 }],
  pass: BUS_PASS_BUS,
  probe: (view) =>
    (view.readConfig(PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK) === PCI_HEADER_TYPE_BRIDGE
      ? { priority: BUS_PROBE_GENERIC, desc: "PCI-PCI bridge" }
      : null,
  attach(dev) {
    const bus = dev.bus.readConfig(PCI_SECONDARY_BUS, 1);
    if (bus <= pciBus(dev.bus.bdf)) {
      dev.log(`secondary bus ${bus}: firmware has not numbered it`);
      return;
    }
    if (!(dev.bus instanceof PciFunction)) return;
    const { host } = dev.bus;
    const windows = bridgeWindows(dev.bus);
    const memory = behind(dev, "memory", host.memory, [windows.memory, windows.prefetchable]);
    const ports = behind(dev, "ports", host.ports, [windows.ports]);
    dev.bus.enableBusMaster(true); // lets cycles of functions below go up
    dev.addChild(PCIB, { bus, windows, host: { ...host, memory, ports } }, { driver: "pci" }).probeAndAttach();
  },
};

/** Registers the drivers that make a PCI bus out of a machine. */
export const registerPci = (
  register: <P extends object, A extends P, S>(driver: Driver<P, A, S>) => unknown,
  host: PciHost,
  windows: PciWindows,
): void => {
  register(hostBridge(host, windows));
  register(pciDriver());
  register(pciBridge);
};
