import type { AccessWidth, Slot } from "../../contract/index.js";
import {
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_LIST_ID,
  PCI_CAP_LIST_NEXT,
  PCI_CAP_MSIX_SIZEOF,
  PCI_CAPABILITY_LIST,
  PCI_CONFIG_SIZE,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSI_FLAGS_MASKBIT,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
} from "../../spec/pci.js";

/** Of the largest MSI capability, with a 64-bit address and a mask for each vector. PCI 3.0 §6.8.1 */
const MSI_LONGEST = 24;
const MSI_MASK_BITS = 10;
const MSI_UPPER_ADDRESS = 4;

/**
 * A function's configuration space as v86's guests see it: without MSI and MSI-X, for which v86 has no way in.
 *
 * Linux believes such a capability: without an APIC it warns with a trace, with one it waits for messages for ever. So each
 * is taken out of the list, its bytes read 0 and writes to them do nothing, as vfio hides what it cannot pass on. The
 * function is asked once: where capabilities lie does not change.
 */
export class ConfigView {
  readonly #card: Slot;
  // By byte: bits that read as the function has them, bits that read 1, whether writes are kept out.
  readonly #shown = new Uint8Array(PCI_CONFIG_SIZE).fill(0xff);
  readonly #ones = new Uint8Array(PCI_CONFIG_SIZE);
  readonly #locked = new Uint8Array(PCI_CONFIG_SIZE);

  constructor(card: Slot) {
    this.#card = card;
    if ((card.configRead(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST) === 0) return;
    const first = card.configRead(PCI_CAPABILITY_LIST, 1) & ~3;
    let kept = PCI_CAPABILITY_LIST; // the pointer that leads to the next one that stays
    let hidden = false;
    let at = first;
    for (let left = PCI_CONFIG_SIZE / 4; at !== 0 && left > 0; left--) {
      const length = this.#messageCapability(at);
      const next = card.configRead(at + PCI_CAP_LIST_NEXT, 1) & ~3;
      if (length > 0) {
        this.#shown.fill(0, at, at + length);
        this.#locked.fill(1, at, at + length);
        hidden = true;
      } else {
        if (hidden) this.#fix(kept, at);
        kept = at + PCI_CAP_LIST_NEXT;
        hidden = false;
      }
      at = next;
    }
    if (!hidden) return;
    this.#fix(kept, 0);
    if (kept === PCI_CAPABILITY_LIST) this.#shown[PCI_STATUS]! &= ~PCI_STATUS_CAP_LIST;
  }

  read(offset: number, width: AccessWidth): number {
    const value = this.#card.configRead(offset, width);
    let result = 0;
    for (let i = width - 1; i >= 0; i--) {
      const byte = ((value >>> (8 * i)) & this.#shown[offset + i]!) | this.#ones[offset + i]!;
      result = result * 0x100 + byte;
    }
    return result;
  }

  write(offset: number, width: AccessWidth, value: number): void {
    let locked = 0;
    for (let i = 0; i < width; i++) locked += this.#locked[offset + i]!;
    if (locked === 0) this.#card.configWrite(offset, width, value);
    else if (locked < width)
      for (let i = 0; i < width; i++)
        if (this.#locked[offset + i] === 0) this.#card.configWrite(offset + i, 1, (value >>> (8 * i)) & 0xff);
  }

  /** Makes a byte read as this value, whatever the function has there. */
  #fix(at: number, value: number): void {
    this.#shown[at] = 0;
    this.#ones[at] = value;
  }

  /** @returns the length of the capability in bytes, 0 when it has nothing to do with messages */
  #messageCapability(at: number): number {
    const id = this.#card.configRead(at + PCI_CAP_LIST_ID, 1);
    if (id === PCI_CAP_ID_MSIX) return PCI_CAP_MSIX_SIZEOF;
    if (id !== PCI_CAP_ID_MSI) return 0;
    const control = this.#card.configRead(at + PCI_MSI_FLAGS, 2);
    const without =
      ((control & PCI_MSI_FLAGS_MASKBIT) === 0 ? MSI_MASK_BITS : 0) +
      ((control & PCI_MSI_FLAGS_64BIT) === 0 ? MSI_UPPER_ADDRESS : 0);
    return MSI_LONGEST - without;
  }
}
