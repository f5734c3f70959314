import type { Model } from "../contract/index.js";
import { PciFunction } from "../pci/index.js";
import { CHIPSET_REGISTERS_AT, I440FX_DEVICE_ID, I440FX_REGISTERS } from "../spec/i440fx.js";
import { PCI_CLASS_BRIDGE_HOST, PCI_VENDOR_ID_INTEL } from "../spec/pci.js";

/** A chipset function has no more state than its configuration space. */
export const configOnly = (changed: () => void = () => {}): Model => ({
  connect: () => {},
  disconnect: () => {},
  reset: changed,
  save: () => ({ version: 1 }),
  load: changed,
});

/** Subsystem that QEMU gives to its own functions: 1af4:1100. */
export const QEMU_SUBSYSTEM = { subsystemVendorId: 0x1af4, subsystemId: 0x1100 };

/**
 * The host bridge of a PC: 82441FX (i440FX) as QEMU's machine `pc` shows it. It does not have to do anything: RAM, ports and
 * configuration cycles are the machine's. Deviation: PAM and SMRAM are storage; there is no RAM below the ROM area to shadow.
 */
export const hostBridge = (): PciFunction =>
  new PciFunction({
    name: "i440fx-host",
    identity: {
      vendorId: PCI_VENDOR_ID_INTEL,
      deviceId: I440FX_DEVICE_ID,
      revisionId: 2,
      classCode: PCI_CLASS_BRIDGE_HOST << 8,
      ...QEMU_SUBSYSTEM,
    },
    registers: [{ at: CHIPSET_REGISTERS_AT, map: I440FX_REGISTERS }],
    model: configOnly(),
  });
