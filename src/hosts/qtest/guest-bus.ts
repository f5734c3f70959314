import type { AccessWidth, Bdf, GuestBus, MsiMessage } from "../../contract/index.js";
import { PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA, PCI_CONFIG_ENABLE } from "../../spec/pci.js";
import type { QtestLink } from "./client.js";
import { QtestDma } from "./guest-bus-dma.js";
import { functionsOf, type PirqRoutes, placeBars, routeInterrupts, SEABIOS_ROUTES } from "./guest-bus-firmware.js";
import { sleep } from "./qemu.js";

export interface QtestBusOptions {
  /**
   * `virtual`: QEMU has the qtest accelerator, and time moves by `delay` only. `real`, the default: QEMU's time is this
   * machine's, and `delay` waits.
   */
  readonly time?: "real" | "virtual";
  /** interrupts of PIRQA … PIRQD; default 10, 10, 11, 11, as SeaBIOS routes them */
  readonly irqs?: PirqRoutes;
  /** routes interrupts and places BARs, for machines on which no firmware runs; default true */
  readonly firmware?: boolean;
  /** bytes of RAM; default: what fw_cfg says */
  readonly ram?: number;
}

/** Where messages go: words of RAM, so that they can be fetched. What is below belongs to firmware on a PC. */
const MESSAGES = 0x10_0000;
const MESSAGE_WORDS = 64;
/** Data of the first message; not 0, which says that none has come. */
const FIRST_DATA = 0x40;
const FIRST_FREE = MESSAGES + 0x1000;
/** Nobody stands there; a request to learn what else has happened. QEMU's own tests read port 0 for that. */
const IDLE_PORT = 0x80;
/** Deliveries per poll: a line that nobody acknowledges must not hang it. */
const ROUNDS = 8;
/** longest time between two deliveries within `delay`, ns */
const SLICE = 1_000_000;

const FW_CFG_SELECT = 0x510;
const FW_CFG_DATA = 0x511;
const FW_CFG_RAM_SIZE = 3;

interface Vector {
  readonly handler: () => void;
}

/** A QEMU `pc` as a driver sees it: no firmware has run there, so this does its work. Bridges are not numbered. */
export class QtestBus implements GuestBus {
  readonly dma: QtestDma;
  readonly link: QtestLink;
  readonly #virtual: boolean;
  readonly #routes: PirqRoutes;
  #lines: readonly { readonly irq: number; readonly handler: () => void }[] = [];
  readonly #vectors: (Vector | null)[] = [];
  #ns = 0;
  readonly #started = performance.now();
  #delivering = false;

  constructor(link: QtestLink, options: QtestBusOptions = {}) {
    const { time = "real", irqs = SEABIOS_ROUTES, firmware = true } = options;
    this.link = link;
    this.#virtual = time === "virtual";
    if (this.#virtual) this.#ns = link.clockStep(0);
    this.dma = new QtestDma(link, FIRST_FREE, options.ram ?? ramSize(link));
    link.memset(MESSAGES, 4 * MESSAGE_WORDS, 0);
    link.irqInterceptIn("ioapic");
    this.#routes = irqs;
    if (firmware) this.firmware();
  }

  /** What firmware does: interrupts routed, BARs placed. Once more after a reset, or when a device has come. */
  firmware(): void {
    const functions = functionsOf(this);
    routeInterrupts(this, functions, this.#routes);
    placeBars(this, functions);
  }

  configRead(bdf: Bdf, offset: number, width: AccessWidth): number {
    this.#select(bdf, offset);
    return this.link.in(PCI_CONFIG_DATA + (offset & 3), width);
  }
  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void {
    this.#select(bdf, offset);
    this.link.out(PCI_CONFIG_DATA + (offset & 3), width, value);
  }
  ioRead(port: number, width: AccessWidth): number {
    return this.link.in(port, width);
  }
  ioWrite(port: number, width: AccessWidth, value: number): void {
    this.link.out(port, width, value);
  }
  memRead(address: number, width: AccessWidth): number {
    return this.link.readMem(address, width);
  }
  memWrite(address: number, width: AccessWidth, value: number): void {
    this.link.writeMem(address, width, value);
  }

  onLine(irq: number, handler: () => void): Disposable {
    const entry = { irq, handler };
    this.#lines = [...this.#lines, entry];
    return {
      [Symbol.dispose]: () => {
        this.#lines = this.#lines.filter((other) => other !== entry);
      },
    };
  }

  allocMessage(handler: () => void): MsiMessage | null {
    const free = this.#vectors.indexOf(null);
    const n = free >= 0 ? free : this.#vectors.length;
    if (n === MESSAGE_WORDS) return null;
    const vector: Vector = { handler };
    this.#vectors[n] = vector;
    const address = MESSAGES + 4 * n;
    this.link.memset(address, 4, 0); // a message to who had it before
    return {
      address,
      data: FIRST_DATA + n,
      [Symbol.dispose]: () => {
        if (this.#vectors[n] === vector) this.#vectors[n] = null;
      },
    };
  }

  poll(): boolean {
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

  delay(us: number): void {
    let left = Math.max(0, Math.ceil(us * 1000));
    const until = this.now() + left;
    this.poll();
    for (; left > 0; left = until - this.now()) {
      if (this.#virtual) this.#ns = this.link.clockStep(Math.min(left, SLICE));
      else sleep(Math.min(left, SLICE) / 1e6);
      this.poll();
    }
  }

  now(): number {
    return this.#virtual ? this.#ns : Math.floor((performance.now() - this.#started) * 1e6);
  }

  #select(bdf: Bdf, offset: number): void {
    this.link.out(PCI_CONFIG_ADDRESS, 4, (PCI_CONFIG_ENABLE | (bdf << 8) | (offset & 0xfc)) >>> 0);
  }

  /** Asks what has come, and delivers it. @returns whether a handler ran */
  #round(): boolean {
    let ran = false;
    if (this.#vectors.some((vector) => vector !== null)) {
      const words = this.link.read(MESSAGES, 4 * this.#vectors.length);
      for (const [n, vector] of this.#vectors.entries()) {
        if (words[4 * n] === 0) continue;
        // Taken before the handler runs: what comes meanwhile starts another round.
        this.link.memset(MESSAGES + 4 * n, 4, 0);
        if (vector === null) continue;
        vector.handler();
        ran = true;
      }
    } else this.link.inb(IDLE_PORT);
    for (const entry of this.#lines) {
      if (!this.link.level(entry.irq) || !this.#lines.includes(entry)) continue;
      entry.handler();
      ran = true;
    }
    return ran;
  }
}

/** RAM below 4 GiB as QEMU's fw_cfg tells it. QEMU docs/specs/fw_cfg */
const ramSize = (link: QtestLink): number => {
  link.outw(FW_CFG_SELECT, FW_CFG_RAM_SIZE);
  let size = 0;
  for (let i = 0; i < 8; i++) size += link.inb(FW_CFG_DATA) * 2 ** (8 * i);
  return Math.min(size, 0xc000_0000);
};
