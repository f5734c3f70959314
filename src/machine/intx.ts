import { PIIX_PIRQC_DISABLE, PIIX_PIRQC_LEGAL, pciDevice } from "../spec/pci.js";

const PIRQS = 4;

/** PIRQ A … D (0 … 3) that a pin of a device on the root bus pulls. PIIX3; @param pin 0 … 3 for INTA … INTD */
export const pirqOf = (device: number, pin: number): number => (pin + device - 1) & 3;

/** Pin of the bridge that a pin of a device behind it becomes. P2P 1.2 §9.1; @param pin 0 … 3 for INTA … INTD */
export const swizzle = (device: number, pin: number): number => (pin + device) & 3;

/**
 * PIRQ A … D (0 … 3) that a pin pulls: from bridge to bridge it becomes another pin, until it is on the root bus.
 * @param way device and function numbers from the root on, the function's own last
 */
export const pirqBehind = (way: readonly number[], pin: number): number => {
  let at = pin;
  for (let i = way.length - 1; i > 0; i--) at = swizzle(pciDevice(way[i]!), at);
  return pirqOf(pciDevice(way[0]!), at);
};

/** One function's pull on its PIRQ. */
export class IntxLine {
  readonly #router: PirqRouter;
  readonly #pirq: number;
  #level = false;

  constructor(router: PirqRouter, pirq: number) {
    this.#router = router;
    this.#pirq = pirq;
  }

  get level(): boolean {
    return this.#level;
  }

  /** Setting the level it has changes nothing, so that a source counts once however often it says so. */
  set(level: boolean): void {
    if (level === this.#level) return;
    this.#level = level;
    this.#router.pull(this.#pirq, level ? 1 : -1);
  }
}

/**
 * Wires the pins of the functions over four PIRQs to ISA interrupts. An interrupt is up while any function pulls any PIRQ
 * that is routed to it; a route that changes takes the level along.
 */
export class PirqRouter {
  readonly #pulls = new Int32Array(PIRQS);
  readonly #route: (pirq: number) => number;
  readonly #output: (levels: number) => void;
  #holds = 0;

  /** @param route value of a route register, 0x80 set: none; @param output told the levels, a bit per interrupt */
  constructor(route: (pirq: number) => number, output: (levels: number) => void) {
    this.#route = route;
    this.#output = output;
  }

  /** @param pirq 0 … 3 */
  line(pirq: number): IntxLine {
    return new IntxLine(this, pirq);
  }

  /** The interrupt a PIRQ is routed to; −1: none. */
  irqOf(pirq: number): number {
    const route = this.#route(pirq);
    const irq = route & 0xf;
    return (route & PIIX_PIRQC_DISABLE) === 0 && (PIIX_PIRQC_LEGAL & (1 << irq)) !== 0 ? irq : -1;
  }

  /** For `IntxLine`. */
  pull(pirq: number, change: 1 | -1): void {
    this.#pulls[pirq]! += change;
    this.update();
  }

  /** Holds the output while several things change at once; who lets go last updates it once. */
  hold(on: boolean): void {
    this.#holds += on ? 1 : -1;
    if (!on) this.update();
  }

  /** Recomputes the levels; also to be called when a route register changed. */
  update(): void {
    if (this.#holds > 0) return;
    let levels = 0;
    for (let pirq = 0; pirq < PIRQS; pirq++) {
      if (this.#pulls[pirq] === 0) continue;
      const irq = this.irqOf(pirq);
      if (irq >= 0) levels |= 1 << irq;
    }
    this.#output(levels);
  }
}
