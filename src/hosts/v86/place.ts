import type { AccessWidth, Slot } from "../../contract/index.js";
import { PCI_INTERRUPT_PIN, pciBdf } from "../../spec/pci.js";
import { ConfigView } from "./config-view.js";

/** What passed between v86 and one card since it was plugged in; no part of a saved state. */
export interface V86CardCounters {
  readonly slot: number;
  /** of the card, for example `virtio-net` */
  readonly name: string;
  /** the guest's accesses to its configuration space */
  readonly configAccesses: number;
  /** accesses to its I/O BARs: each ends the guest's translated code */
  readonly portAccesses: number;
  /** accesses to its memory BARs */
  readonly memoryAccesses: number;
  /** how often its pin went up */
  readonly interrupts: number;
  /** turns of its queues, nearly all of them at poll points: divide what it moved by them for the size of a batch */
  readonly turns: number;
}

/** A card in a slot of bus 0, and what passes between it and v86. */
export class Place {
  readonly slot: number;
  readonly devfn: number;
  readonly card: Slot;
  /** 1 for INTA, 0 for none */
  readonly pin: number;
  readonly #config: ConfigView;
  configAccesses = 0;
  portAccesses = 0;
  memoryAccesses = 0;
  interrupts = 0;
  turns = 0;

  constructor(slot: number, card: Slot) {
    this.slot = slot;
    this.devfn = pciBdf(0, slot);
    this.card = card;
    this.pin = card.configRead(PCI_INTERRUPT_PIN, 1);
    this.#config = new ConfigView(card);
  }

  configRead(offset: number, width: AccessWidth): number {
    this.configAccesses++;
    return this.#config.read(offset, width);
  }

  configWrite(offset: number, width: AccessWidth, value: number): void {
    this.configAccesses++;
    this.#config.write(offset, width, value);
  }

  counters(): V86CardCounters {
    const { slot, card, configAccesses, portAccesses, memoryAccesses, interrupts, turns } = this;
    return { slot, name: card.name, configAccesses, portAccesses, memoryAccesses, interrupts, turns };
  }
}
