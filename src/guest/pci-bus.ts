import type { Bdf } from "../contract/index.js";
import {
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_CARDBUS,
  PCI_HEADER_TYPE_MASK,
  PCI_HEADER_TYPE_MFD,
  PCI_MAX_DEVICES,
  PCI_MAX_FUNCTIONS,
  PCI_VENDOR_ID,
  PCI_VENDOR_ID_NONE,
  pciBdf,
} from "../spec/pci.js";
import { pciBridge } from "./pci-bridge.js";
import { PCI } from "./pci-class.js";
import { PciFunction } from "./pci-function.js";
import { PCIB, type PcibChild, type PciHost, type PciWindows, plain } from "./pci-host.js";
import {
  BUS_PASS_BUS,
  BUS_PROBE_GENERIC,
  BUS_PROBE_SPECIFIC,
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

export const ROOT = plain<RootChild>("root");

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
const pciDriver = (): Driver<PcibChild, PcibChild, PciBus> => ({
  name: "pci",
  bus: PCIB,
  pass: BUS_PASS_BUS,
  probe: () => ({ priority: BUS_PROBE_GENERIC, desc: "PCI bus" }),
  attach(dev) {
    const number = dev.bus.bus;
    const { buses } = dev.bus.host;
    if (buses.has(number)) throw new ResourceError("EBUSY", `bus ${number} is behind another bridge already`);
    buses.add(number);
    dev.resources.defer(() => void buses.delete(number));
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
