import { PciFunction } from "../pci/index.js";
import { CHIPSET_REGISTERS_AT, PIIX3_ISA_DEVICE_ID, PIIX3_REGISTERS } from "../spec/i440fx.js";
import { PCI_CLASS_BRIDGE_ISA, PCI_STATUS_DEVSEL_MEDIUM, PCI_VENDOR_ID_INTEL, PIIX_PIRQC } from "../spec/pci.js";
import { configOnly, QEMU_SUBSYSTEM } from "./host-bridge.js";

/** The ISA bridge of a PC: PIIX3 (82371SB) as QEMU's machine `pc` shows it. What matters of it are the four PIRQ routes. */
export class IsaBridge extends PciFunction {
  /** Told after a route register may have changed: by a write, a reset or a snapshot. */
  onRoutesChanged: (() => void) | null = null;

  constructor() {
    const relay = { changed: () => {} }; // what is declared below is built before `this` exists
    super({
      name: "piix3-isa",
      identity: {
        vendorId: PCI_VENDOR_ID_INTEL,
        deviceId: PIIX3_ISA_DEVICE_ID,
        revisionId: 0,
        classCode: PCI_CLASS_BRIDGE_ISA << 8,
        ...QEMU_SUBSYSTEM,
      },
      statusBits: PCI_STATUS_DEVSEL_MEDIUM,
      multiFunction: true,
      registers: [{ at: CHIPSET_REGISTERS_AT, map: PIIX3_REGISTERS, written: () => relay.changed() }],
      model: configOnly(() => relay.changed()),
    });
    relay.changed = () => this.onRoutesChanged?.();
  }

  /** Value of a route register. @param pirq 0 … 3 for PIRQA … PIRQD */
  route(pirq: number): number {
    return this.ownConfig.get(PIIX_PIRQC + pirq, 1);
  }
}

/** A PIIX3 ISA bridge. */
export const isaBridge = (): IsaBridge => new IsaBridge();
