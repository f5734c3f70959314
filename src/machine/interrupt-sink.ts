import { StateReader } from "../bytes/index.js";
import type { SavedState, Stateful } from "../contract/index.js";
import { MSI_ADDRESS_BASE, MSI_ADDRESS_SIZE } from "../spec/pci.js";

const STATE_VERSION = 1;
const VECTORS = 256;

/**
 * Where the machine's interrupts end: levels of the ISA interrupts, and messages as latched vectors. It never calls into
 * guest code; who runs the guest looks at `level` and takes vectors when it can take an interrupt.
 */
export class InterruptSink implements Stateful {
  readonly #changed: (irq: number, level: boolean) => void;
  #levels = 0; // a bit per interrupt 0 … 15
  readonly #vectors = new Uint8Array(VECTORS); // 1: latched
  #latched = 0;

  /** @param changed told of every change of a level */
  constructor(changed: (irq: number, level: boolean) => void = () => {}) {
    this.#changed = changed;
  }

  /** @param irq 0 … 15 */
  level(irq: number): boolean {
    return (this.#levels & (1 << irq)) !== 0;
  }

  /** A bit per interrupt that is up. */
  get levels(): number {
    return this.#levels;
  }

  /** How many vectors wait to be taken. */
  get latched(): number {
    return this.#latched;
  }

  setLevels(levels: number): void {
    const changes = this.#levels ^ levels;
    this.#levels = levels;
    for (let irq = 0; changes >>> irq !== 0; irq++)
      if ((changes & (1 << irq)) !== 0) this.#changed(irq, (levels & (1 << irq)) !== 0);
  }

  /** Latches the vector of a message. @returns false when the address is no interrupt's */
  message(address: number, data: number): boolean {
    if (address < MSI_ADDRESS_BASE || address >= MSI_ADDRESS_BASE + MSI_ADDRESS_SIZE) return false;
    const vector = data & 0xff; // delivery mode and destination are the local APIC's affair, and there is one CPU
    this.#latched += 1 - this.#vectors[vector]!;
    this.#vectors[vector] = 1;
    return true;
  }

  /** Whether a vector waits. */
  waits(vector: number): boolean {
    return this.#vectors[vector] === 1;
  }

  /** Takes a vector. @returns whether it waited */
  take(vector: number): boolean {
    if (this.#vectors[vector] !== 1) return false;
    this.#vectors[vector] = 0;
    this.#latched--;
    return true;
  }

  /** Forgets latched vectors; levels follow from the functions. */
  clear(): void {
    this.#vectors.fill(0);
    this.#latched = 0;
  }

  save(): SavedState {
    const latched: number[] = [];
    for (let vector = 0; vector < VECTORS; vector++) if (this.#vectors[vector] === 1) latched.push(vector);
    return { version: STATE_VERSION, latched };
  }

  load(state: SavedState): void {
    const latched = new StateReader(state, "interrupts", STATE_VERSION).integers("latched", 0, VECTORS - 1);
    this.clear();
    for (const vector of latched) this.#vectors[vector] = 1;
    this.#latched = this.#vectors.reduce((sum, n) => sum + n, 0);
  }
}
