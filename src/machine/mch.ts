import { PciFunction } from "../pci/index.js";
import { PCI_CLASS_BRIDGE_HOST, PCI_VENDOR_ID_INTEL } from "../spec/pci.js";
import {
  MCH_PCIEXBAR,
  MCH_PCIEXBAR_LENGTH,
  MCH_PCIEXBAR_LENGTH_SHIFT,
  MCH_PCIEXBAR_UPPER,
  MCH_PCIEXBAREN,
  MCH_REGISTERS_AT,
  Q35_MCH_DEVICE_ID,
  Q35_MCH_REGISTERS,
} from "../spec/q35.js";
import type { EcamRange } from "./ecam.js";
import { configOnly, QEMU_SUBSYSTEM } from "./host-bridge.js";

const LARGEST_BUSES = 256;
const BUS_SIZE = 0x10_0000;

/**
 * The host bridge of a Q35, for the sake of its PCIEXBAR: the register that puts configuration space into memory. The rest of
 * the machine stays what it is beside an i440FX: PIIX3, four PIRQs, no PCI Express of the chipset's own.
 */
export class MemoryController extends PciFunction {
  /** Told after PCIEXBAR may have changed: by a write, a reset or a snapshot. */
  onEcamChanged: (() => void) | null = null;

  constructor() {
    const relay = { changed: () => {} }; // what is declared below is built before `this` exists
    super({
      name: "q35-mch",
      identity: {
        vendorId: PCI_VENDOR_ID_INTEL,
        deviceId: Q35_MCH_DEVICE_ID,
        revisionId: 0,
        classCode: PCI_CLASS_BRIDGE_HOST << 8,
        ...QEMU_SUBSYSTEM,
      },
      registers: [{ at: MCH_REGISTERS_AT, map: Q35_MCH_REGISTERS, written: () => relay.changed() }],
      model: configOnly(() => relay.changed()),
    });
    relay.changed = () => this.onEcamChanged?.();
  }

  /** What PCIEXBAR says; null: off, or a length that is reserved. Address bits below the length do not count. */
  get ecam(): EcamRange | null {
    const low = this.ownConfig.get(MCH_REGISTERS_AT + MCH_PCIEXBAR, 4);
    const length = (low >>> MCH_PCIEXBAR_LENGTH_SHIFT) & MCH_PCIEXBAR_LENGTH;
    if ((low & MCH_PCIEXBAREN) === 0 || length === MCH_PCIEXBAR_LENGTH) return null;
    const buses = LARGEST_BUSES >>> length;
    const address = this.ownConfig.get(MCH_REGISTERS_AT + MCH_PCIEXBAR_UPPER, 4) * 2 ** 32 + low;
    return { base: address - (address % (buses * BUS_SIZE)), buses };
  }
}
