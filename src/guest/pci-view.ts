import type { AccessWidth, Bdf } from "../contract/index.js";
import {
  PCI_CLASS_PROG,
  PCI_DEVICE_ID,
  PCI_HEADER_TYPE_NORMAL,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_REVISION_ID,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from "../spec/pci.js";
import { type ConfigAccess, findCapability, findExtendedCapability } from "./pci-config.js";
import type { PciProbe } from "./types.js";

/** What identifies a function: read once, when it is found. */
export interface Identity {
  readonly bdf: Bdf;
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  readonly class: number;
  readonly revid: number;
  readonly intpin: number;
  readonly irq: number;
}

/** The view that a probe gets: nothing here writes. */
export class PciView implements PciProbe {
  readonly bdf: Bdf;
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  readonly class: number;
  readonly revid: number;
  readonly intpin: number;
  readonly irq: number;
  readonly #config: ConfigAccess;

  constructor(config: ConfigAccess, identity: Identity) {
    this.#config = config;
    this.bdf = identity.bdf;
    this.vendor = identity.vendor;
    this.device = identity.device;
    this.subvendor = identity.subvendor;
    this.subdevice = identity.subdevice;
    this.class = identity.class;
    this.revid = identity.revid;
    this.intpin = identity.intpin;
    this.irq = identity.irq;
  }

  findCap(id: number, after?: number): number | null {
    return findCapability(this.#config, id, after);
  }

  findExtCap(id: number, after?: number): number | null {
    return findExtendedCapability(this.#config, id, after);
  }

  readConfig(offset: number, width: AccessWidth): number {
    return this.#config.read(offset, width);
  }
}

/** Reads who a function is; the places of all but the subsystem are the same in every header. */
export const identify = (config: ConfigAccess, headerType: number): Identity => {
  const plain = headerType === PCI_HEADER_TYPE_NORMAL;
  return {
    bdf: config.bdf,
    vendor: config.read(PCI_VENDOR_ID, 2),
    device: config.read(PCI_DEVICE_ID, 2),
    revid: config.read(PCI_REVISION_ID, 1),
    class:
      config.read(PCI_CLASS_PROG, 1) |
      (config.read(PCI_CLASS_PROG + 1, 1) << 8) |
      (config.read(PCI_CLASS_PROG + 2, 1) << 16),
    intpin: config.read(PCI_INTERRUPT_PIN, 1),
    irq: config.read(PCI_INTERRUPT_LINE, 1),
    subvendor: plain ? config.read(PCI_SUBSYSTEM_VENDOR_ID, 2) : 0,
    subdevice: plain ? config.read(PCI_SUBSYSTEM_ID, 2) : 0,
  };
};
