import type { AccessWidth, BarHandler } from "../../../contract/index.js";
import type { BarDeclaration } from "../../../pci/index.js";

/** QEMU docs/specs/acpi_pci_hotplug */
export const ACPI_PCI_HOTPLUG_PORT = 0xae00;

const SIZE = 0x14;
const UP = 0x00;
const DOWN = 0x04;
const EJECT = 0x08;
const REMOVABLE = 0x0c;

/** What the block reports to, and where it learns what can be ejected. */
export interface HotplugHost {
  /** a bit per slot that can be taken out */
  removable(): number;
  /** The guest lets go of a slot. */
  eject(slot: number): void;
}

/** The ports by which ACPI's methods learn of cards that came or shall go, and let go of them. */
export class AcpiHotplug implements BarHandler {
  readonly declaration: BarDeclaration;
  readonly #host: HotplugHost;
  #up = 0;
  #down = 0;

  constructor(host: HotplugHost) {
    this.declaration = { kind: "io", size: SIZE, accepts: [4], handler: this };
    this.#host = host;
  }

  /** A card came, while the machine was running. */
  inserted(slot: number): void {
    this.#up |= 1 << slot;
  }

  /** A card shall go. */
  requested(slot: number): void {
    this.#down |= 1 << slot;
  }

  removed(slot: number): void {
    this.#up &= ~(1 << slot);
    this.#down &= ~(1 << slot);
  }

  read(offset: number, _width: AccessWidth): number {
    if (offset === UP) {
      const up = this.#up;
      this.#up = 0; // told once
      return up >>> 0;
    }
    if (offset === DOWN) return this.#down >>> 0;
    if (offset === REMOVABLE) return this.#host.removable() >>> 0;
    return 0;
  }

  /** Of several bits the lowest counts. There is only bus 0, so SELECT selects nothing else. */
  write(offset: number, _width: AccessWidth, value: number): void {
    if (offset !== EJECT || value === 0) return;
    this.#host.eject(31 - Math.clz32(value & -value));
  }
}
