import { pciBus, pciDevice, pciFunction } from "../spec/pci.js";
import { PciFunction } from "./pci-function.js";
import type { BusClass, PciAttach, PciProbe, PnpMatch } from "./types.js";

/** Kinds of functions in words, as BSD kernels print them for what has no driver: base class, then its sub-classes. */
const CLASSES: { readonly [base: number]: readonly [name: string, ...subs: string[]] } = {
  0: ["old", "non-VGA display device", "VGA-compatible display device"],
  1: ["mass storage", "SCSI", "ATA", "floppy disk", "IPI", "RAID", "ATA (ADMA)", "SATA", "SAS", "NVM"],
  2: ["network", "ethernet", "token ring", "fddi", "ATM", "ISDN"],
  3: ["display", "VGA", "XGA", "3D"],
  4: ["multimedia", "video", "audio", "telephony", "HDA"],
  5: ["memory", "RAM", "flash"],
  6: [
    "bridge",
    "HOST-PCI",
    "PCI-ISA",
    "PCI-EISA",
    "PCI-MCA",
    "PCI-PCI",
    "PCI-PCMCIA",
    "PCI-NuBus",
    "PCI-CardBus",
    "PCI-RACEway",
  ],
  7: ["simple comms", "UART", "parallel port", "multiport serial", "generic modem"],
  8: [
    "base peripheral",
    "interrupt controller",
    "DMA controller",
    "timer",
    "realtime clock",
    "PCI hot-plug controller",
  ],
  9: ["input device", "keyboard", "digitizer", "mouse", "scanner", "gameport"],
  10: ["docking station"],
  11: ["processor"],
  12: ["serial bus", "FireWire", "AccessBus", "SSA", "USB", "Fibre Channel", "SMBus"],
  13: ["wireless", "iRDA", "IR", "RF"],
  14: ["intelligent I/O controller", "I2O"],
  15: ["satellite comms", "satellite TV", "satellite audio", "satellite voice", "satellite data"],
  16: ["encrypt/decrypt", "network/computer crypto", "entertainment crypto"],
  17: ["dasp", "DPIO module"],
};

const hexOf = (value: number, digits: number): string => `0x${value.toString(16).padStart(digits, "0")}`;

const equal = (wanted: number | undefined, value: number): boolean => wanted === undefined || wanted === value;

/** The function behind ivars; somebody's own `PciAttach` has no services. */
const own = (ivars: PciAttach): PciFunction | null => (ivars instanceof PciFunction ? ivars : null);

/** The class of PCI buses: what drivers name as their `bus`. */
export const PCI: BusClass<PciProbe, PciAttach> = {
  name: "pci",

  pnpinfo: (view) =>
    `vendor=${hexOf(view.vendor, 4)} device=${hexOf(view.device, 4)} subvendor=${hexOf(view.subvendor, 4)} ` +
    `subdevice=${hexOf(view.subdevice, 4)} class=${hexOf(view.class, 6)}`,

  location: ({ bdf }) =>
    `slot=${pciDevice(bdf)} function=${pciFunction(bdf)} dbsf=pci0:${pciBus(bdf)}:${pciDevice(bdf)}:${pciFunction(bdf)}`,

  matches: (view, match: PnpMatch) =>
    equal(match.vendor, view.vendor) &&
    equal(match.device, view.device) &&
    equal(match.subvendor, view.subvendor) &&
    equal(match.subdevice, view.subdevice) &&
    equal(match.revid, view.revid) &&
    (match.class === undefined || ((match.class ^ view.class) & (match.classMask ?? 0xff_ffff)) === 0) &&
    match.deviceType === undefined,

  view: (ivars) => own(ivars)?.view ?? ivars,

  wiring: ({ bdf }) => {
    const place = `${pciBus(bdf)}:${pciDevice(bdf)}:${pciFunction(bdf)}`;
    return [`pci0:${place}`, `pci${place}`];
  },

  describe: (view) => {
    const [name, ...subs] = CLASSES[view.class >>> 16] ?? ["unknown"];
    const sub = subs[(view.class >>> 8) & 0xff];
    return sub === undefined ? name : `${name}, ${sub}`;
  },

  services: {
    resources: (ivars) => own(ivars)?.resources() ?? [],
    attaching: (ivars, nameunit) => own(ivars)?.attaching(nameunit),
    silence: (ivars) => own(ivars)?.silence(),
    detached: (ivars) => own(ivars)?.detached() ?? [],
    vanished: (ivars) => own(ivars)?.vanish(),
    suspended: (ivars) => own(ivars)?.suspended(),
    resuming: (ivars) => own(ivars)?.resuming(),
    shutdown: (ivars) => own(ivars)?.shutdown(),
  },
};
