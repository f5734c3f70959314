import { ConfigError } from "../bytes/index.js";
import type { AccessWidth, Bdf, Clock, GuestBus, MsiMessage } from "../contract/index.js";
import { MSI_ADDRESS_BASE } from "../spec/pci.js";
import { type DmaArea, DmaMemory } from "./dma-memory.js";
import type { Machine } from "./machine.js";
import type { VirtualClock } from "./virtual-clock.js";

/** Vectors for messages: above those that a PC gives to exceptions and ISA interrupts. */
const FIRST_VECTOR = 0x40;
const LAST_VECTOR = 0xef;
/** How often one delivery looks again for interrupts that are still or again up: a line nobody acknowledges must not hang it. */
const ROUNDS = 8;

export interface GuestBusOptions {
  /** where `dma.alloc` takes memory from; default: RAM from 1 MiB up */
  readonly dmaArea?: DmaArea;
  /** descriptors per queue and poll; default as `WorkPool.run` */
  readonly budget?: number;
}

/**
 * A driver's view of a `Machine` in the same process.
 *
 * Handlers and the DMA allocator are the guest's and live here; pending lines and messages live in the machine. So a bus
 * can go over to another machine that has loaded the former one's state (`machine = other`), under drivers that run on.
 */
export class MachineGuestBus implements GuestBus {
  readonly dma: DmaMemory;
  readonly #budget: number | undefined;
  #machine: Machine;
  #lines: readonly { readonly irq: number; readonly handler: () => void }[] = [];
  readonly #vectors = new Map<number, () => void>();
  #delivering = false;

  constructor(machine: Machine, { dmaArea, budget }: GuestBusOptions = {}) {
    this.#machine = machine;
    this.#budget = budget;
    this.dma = new DmaMemory(machine.memory, dmaArea ?? null);
  }

  get machine(): Machine {
    return this.#machine;
  }

  /** Goes over to another machine, whose RAM must hold what the drivers put into the former one's. */
  set machine(machine: Machine) {
    this.#machine = machine;
    this.dma.memory = machine.memory;
  }

  configRead(bdf: Bdf, offset: number, width: AccessWidth): number {
    return this.#machine.configRead(bdf, offset, width);
  }
  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void {
    this.#machine.configWrite(bdf, offset, width, value);
  }
  ioRead(port: number, width: AccessWidth): number {
    return this.#machine.ioRead(port, width);
  }
  ioWrite(port: number, width: AccessWidth, value: number): void {
    this.#machine.ioWrite(port, width, value);
  }
  memRead(address: number, width: AccessWidth): number {
    return this.#machine.memRead(address, width);
  }
  memWrite(address: number, width: AccessWidth, value: number): void {
    this.#machine.memWrite(address, width, value);
  }

  onLine(irq: number, handler: () => void): Disposable {
    if (!(Number.isInteger(irq) && irq >= 0 && irq <= 15))
      throw new ConfigError("irq", `interrupt ${irq}; expected 0 … 15`);
    const entry = { irq, handler };
    this.#lines = [...this.#lines, entry];
    return {
      [Symbol.dispose]: () => {
        this.#lines = this.#lines.filter((other) => other !== entry);
      },
    };
  }

  allocMessage(handler: () => void): MsiMessage | null {
    for (let vector = FIRST_VECTOR; vector <= LAST_VECTOR; vector++) {
      if (this.#vectors.has(vector)) continue;
      this.#vectors.set(vector, handler);
      this.#machine.interrupts.take(vector); // a message to who had it before
      return {
        address: MSI_ADDRESS_BASE,
        data: vector,
        [Symbol.dispose]: () => {
          if (this.#vectors.get(vector) === handler) this.#vectors.delete(vector);
        },
      };
    }
    return null;
  }

  poll(): boolean {
    this.#machine.poll(this.#budget);
    return this.#deliver();
  }

  /** A virtual clock goes from deadline to deadline, so that what a timer starts is delivered before the next one fires. */
  delay(us: number): void {
    const until = this.now() + Math.max(0, Math.ceil(us * 1000));
    this.poll();
    for (let left = until - this.now(); left > 0; left = until - this.now()) {
      const due = this.#machine.poll(this.#budget);
      const { clock } = this.#machine;
      if (isVirtual(clock)) clock.advance(Math.min(left, Math.max(1, due)));
      this.poll();
    }
  }

  now(): number {
    return this.#machine.clock.now();
  }

  /** @returns whether a handler ran */
  #deliver(): boolean {
    if (this.#delivering) return false; // from inside a handler, where interrupts are off
    this.#delivering = true;
    let ran = false;
    try {
      for (let round = 0; round < ROUNDS && this.#round(); round++) ran = true;
    } finally {
      this.#delivering = false;
    }
    return ran;
  }

  /** Asks for the machine's interrupts each time: a handler's access may be where the bus goes over to another one. */
  #round(): boolean {
    let ran = false;
    if (this.#machine.interrupts.latched > 0)
      for (const [vector, handler] of this.#vectors) {
        if (!this.#machine.interrupts.take(vector)) continue;
        handler();
        ran = true;
      }
    if (this.#machine.interrupts.levels !== 0)
      for (const { irq, handler } of this.#lines) {
        if (!this.#machine.interrupts.level(irq)) continue;
        handler();
        ran = true;
      }
    return ran;
  }
}

const isVirtual = (clock: Clock): clock is VirtualClock => "advance" in clock;
