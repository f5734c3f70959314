import type { FunctionInterrupts, Model } from "../contract/index.js";
import { PCI_CAP_ID_SSVID, PCI_CLASS_BRIDGE_PCI, PCI_VENDOR_ID_REDHAT } from "../spec/pci.js";
import { PCI_DEVICE_ID_REDHAT_PCIE_RP } from "../spec/pci-express.js";
import { ErrorReporting } from "./aer.js";
import { PciBridge } from "./bridge.js";
import type { Capability } from "./declaration.js";
import { PciExpress } from "./express.js";
import { Msix } from "./msix.js";

/** As QEMU lays them out. */
const SSVID_AT = 0x40;
const MSIX_AT = 0x48;
const EXPRESS_AT = 0x54;
const SSVID_SIZE = 8;
/** Bridge Control of a port: parity, SERR#, ISA, VGA, VGA 16-bit, reset; the rest is conventional PCI's. */
const CONTROL_MASK = 0x005f;

/** A bridge has its subsystem in a capability. P2P 1.2 §13 */
const subsystem = (): Capability => ({
  id: PCI_CAP_ID_SSVID,
  at: SSVID_AT,
  image: new Uint8Array(SSVID_SIZE),
  rw: new Uint8Array(SSVID_SIZE),
});

/** A PCI Express root port: a bridge to one device, and the slot that it is in. */
export class PcieRootPort extends PciBridge {
  /** slot and link */
  readonly express: PciExpress;
  /** for who finds an error on the link or behind it */
  readonly errors: ErrorReporting;

  constructor(slot: number) {
    const express = new PciExpress({ type: "root-port", slot, at: EXPRESS_AT });
    const errors = new ErrorReporting({ rootPort: true });
    const msix = new Msix({ vectors: 1, bar: 0, at: MSIX_AT });
    let interrupts: FunctionInterrupts | null = null;
    const model: Model = {
      connect: (seams) => {
        interrupts = seams.interrupts;
      },
      disconnect: () => {
        interrupts = null;
      },
      reset: () => {},
      save: () => ({ version: 1 }),
      load: () => {},
    };
    express.onHotPlug = (level) => {
      interrupts?.setIntx(level);
      if (level) interrupts?.signal(0);
    };
    super({
      name: "pcie-root-port",
      identity: {
        vendorId: PCI_VENDOR_ID_REDHAT,
        deviceId: PCI_DEVICE_ID_REDHAT_PCIE_RP,
        revisionId: 0,
        classCode: PCI_CLASS_BRIDGE_PCI << 8,
      },
      interruptPin: "INTA",
      bars: { 0: msix.bar() },
      capabilities: [express, msix, subsystem()],
      extended: [errors],
      bridge: { closed: true, controlMask: CONTROL_MASK },
      lastDevice: 0,
      masterAborts: false, // absent functions below a port complete as unsupported requests, without a trace here
      model,
    });
    this.express = express;
    this.errors = errors;
  }

  override occupied(_device: number, present: boolean): void {
    this.express.occupy(present);
  }
}

/**
 * A PCI Express root port as QEMU's `pcie-root-port` (1b36:000c). Plug one device behind it, `00:04.0/00.0`.
 * @throws ConfigError `express-slot`
 */
export const pcieRootPort = ({ slot = 1 }: { readonly slot?: number } = {}): PcieRootPort => new PcieRootPort(slot);
