import { hex } from "../bytes/index.js";
import type { AccessWidth, MsiMessage } from "../contract/index.js";
import {
  PCI_BASE_ADDRESS_0,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_MSI_ADDRESS_HI,
  PCI_MSI_ADDRESS_LO,
  PCI_MSI_DATA_32,
  PCI_MSI_DATA_64,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_QMASK,
  PCI_MSI_FLAGS_QSIZE,
  PCI_MSIX_ENTRY_CTRL_MASKBIT,
  PCI_MSIX_ENTRY_DATA,
  PCI_MSIX_ENTRY_LOWER_ADDR,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_ENTRY_UPPER_ADDR,
  PCI_MSIX_ENTRY_VECTOR_CTRL,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_MSIX_FLAGS_QSIZE,
  PCI_MSIX_PBA,
  PCI_MSIX_TABLE,
  PCI_MSIX_TABLE_BIR,
  PCI_MSIX_TABLE_OFFSET,
} from "../spec/pci.js";
import { InterruptEvent } from "./interrupts.js";
import { type ConfigAccess, findCapability } from "./pci-config.js";
import type { PciHost } from "./pci-host.js";
import type { RmanResource } from "./rman.js";
import { type InterruptCookie, type InterruptHandler, type Irq, ResourceError } from "./types.js";

/** ISA interrupts that a pin can be routed to; 0 and what is above say that firmware has routed none. */
const LAST_IRQ = 15;

/** An interrupt as a driver holds it: the pin, or one message. */
class FunctionIrq implements Irq {
  readonly rid: number;
  readonly kind: "intx" | "msi" | "msix";
  readonly number: number;
  readonly cookies = new Set<Disposable>();
  #release: ((self: FunctionIrq) => void) | null;

  constructor(rid: number, kind: "intx" | "msi" | "msix", number: number, release: (self: FunctionIrq) => void) {
    this.rid = rid;
    this.kind = kind;
    this.number = number;
    this.#release = release;
  }

  get live(): boolean {
    return this.#release !== null;
  }

  [Symbol.dispose](): void {
    const release = this.#release;
    if (release === null) return;
    this.#release = null;
    for (const cookie of [...this.cookies]) cookie[Symbol.dispose]();
    release(this);
  }
}

/** One message of an allocation. */
interface Vector {
  readonly irq: FunctionIrq;
  readonly message: MsiMessage;
  readonly event: InterruptEvent;
}

/** The messages of a function: one allocation at a time, of one kind. */
interface Messages {
  readonly kind: "msi" | "msix";
  readonly cap: number;
  /** address of the MSI-X table */
  readonly table: number;
  /** entries to mask, those that nobody was given included */
  readonly entries: number;
  /** what INTx Disable was before */
  readonly intxDisable: number;
  readonly vectors: Vector[];
}

/** What interrupts need of their function. */
export interface InterruptsOwner {
  readonly host: PciHost;
  readonly config: ConfigAccess;
  /** 0 none, 1 … 4 */
  readonly intpin: number;
  /** the interrupt that firmware wrote down */
  readonly irq: number;
  /** for messages and reservations, such as `re0` */
  owner(): string;
  /** @throws DeviceGoneError */
  present(): void;
  /** What stands behind a BAR. */
  range(
    rid: number,
  ):
    | { readonly type: "memory" | "ioport"; readonly start: number; readonly size: number; readonly allocated: boolean }
    | undefined;
}

/** The interrupts of a function: its pin, or messages of one kind. */
export class PciInterrupts {
  readonly #of: InterruptsOwner;
  #intx: { irq: FunctionIrq; reservation: RmanResource } | null = null;
  #messages: Messages | null = null;

  constructor(of: InterruptsOwner) {
    this.#of = of;
  }

  allocIntx({ exclusive = false }: { readonly exclusive?: boolean } = {}): Irq {
    this.#of.present();
    const line = this.#line;
    if (line === null)
      throw new ResourceError(
        "ENXIO",
        `${this.#of.owner()}: no interrupt (pin ${this.#of.intpin}, line ${this.#of.irq})`,
      );
    if (this.#messages !== null)
      throw new ResourceError("EBUSY", `${this.#of.owner()}: ${this.#messages.kind} is allocated`);
    if (this.#intx !== null) throw new ResourceError("EBUSY", `${this.#of.owner()}: irq ${line} is allocated already`);
    const reservation = this.#of.host.irqs.reserve({
      start: line,
      end: line,
      count: 1,
      shareable: !exclusive,
      owner: this.#of.owner(),
    });
    const irq = new FunctionIrq(0, "intx", line, () => {
      this.#intx = null;
      reservation[Symbol.dispose]();
    });
    this.#intx = { irq, reservation };
    return irq;
  }

  msiCount(): number {
    const cap = findCapability(this.#of.config, PCI_CAP_ID_MSI);
    return cap === null
      ? 0
      : 1 << Math.min((this.#of.config.read(cap + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1, 5);
  }

  msixCount(): number {
    const cap = findCapability(this.#of.config, PCI_CAP_ID_MSIX);
    return cap === null ? 0 : (this.#of.config.read(cap + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
  }

  allocMsi(n: number): Irq[] {
    const cap = this.#messageCap(PCI_CAP_ID_MSI, "MSI", n);
    const events: InterruptEvent[] = [];
    let messages: MsiMessage[] = [];
    for (let count = 2 ** Math.floor(Math.log2(Math.min(n, this.msiCount()))); messages.length === 0; count /= 2) {
      if (count < 1) throw new ResourceError("ENXIO", `${this.#of.owner()}: the machine has no message left`);
      messages = this.#consecutive(count, events);
    }
    const flags = this.#of.config.read(cap + PCI_MSI_FLAGS, 2);
    const { address, data } = messages[0] as MsiMessage;
    this.#of.config.write(cap + PCI_MSI_ADDRESS_LO, 4, address % 2 ** 32);
    if ((flags & PCI_MSI_FLAGS_64BIT) !== 0) {
      this.#of.config.write(cap + PCI_MSI_ADDRESS_HI, 4, Math.floor(address / 2 ** 32));
      this.#of.config.write(cap + PCI_MSI_DATA_64, 2, data);
    } else this.#of.config.write(cap + PCI_MSI_DATA_32, 2, data);
    const log2 = Math.log2(messages.length);
    this.#of.config.write(
      cap + PCI_MSI_FLAGS,
      2,
      (flags & ~(PCI_MSI_FLAGS_QSIZE | PCI_MSI_FLAGS_ENABLE)) | (log2 << 4),
    );
    return this.#allocated("msi", cap, 0, 0, messages, events);
  }

  allocMsix(n: number): Irq[] {
    const cap = this.#messageCap(PCI_CAP_ID_MSIX, "MSI-X", n);
    const entries = this.msixCount();
    const table = this.#structure(cap + PCI_MSIX_TABLE, entries * PCI_MSIX_ENTRY_SIZE, "table");
    this.#structure(cap + PCI_MSIX_PBA, Math.ceil(entries / 64) * 8, "pending bits");
    const messages: MsiMessage[] = [];
    const events: InterruptEvent[] = [];
    while (messages.length < Math.min(n, entries)) {
      const message = this.#message(messages.length, events);
      if (message === null) break;
      messages.push(message);
    }
    if (messages.length === 0) throw new ResourceError("ENXIO", `${this.#of.owner()}: the machine has no message left`);
    // Every entry is masked before the function may send, then each is opened by its first handler.
    for (let i = 0; i < entries; i++) this.#maskEntry(table, i, true);
    const irqs = this.#allocated("msix", cap, table, entries, messages, events);
    this.#of.config.update(cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_MASKALL, PCI_MSIX_FLAGS_ENABLE);
    return irqs;
  }

  setupIntr(irq: Irq, handler: InterruptHandler): InterruptCookie {
    this.#of.present();
    if (handler.filter === undefined && handler.handler === undefined)
      throw new ResourceError("EINVAL", `${this.#of.owner()}: neither filter nor handler`);
    const vector = this.#messages?.vectors.find((v) => v.irq === irq);
    const mine = vector?.irq ?? (this.#intx?.irq === irq ? this.#intx.irq : undefined);
    if (mine === undefined || !mine.live)
      throw new ResourceError("EINVAL", `${this.#of.owner()}: not an interrupt of mine`);
    const cookie =
      vector === undefined
        ? this.#of.host.lines.setup(mine.number, this.#of.owner(), handler)
        : vector.event.add(this.#of.owner(), handler);
    const installed: InterruptCookie = {
      schedule: () => cookie.schedule(),
      [Symbol.dispose]: () => {
        cookie[Symbol.dispose]();
        if (!mine.cookies.delete(installed) || mine.cookies.size > 0 || vector === undefined) return;
        this.#deliver(vector, false);
      },
    };
    mine.cookies.add(installed);
    if (vector !== undefined && mine.cookies.size === 1) this.#deliver(vector, true);
    return installed;
  }

  /** The capability, if messages can be allocated at all now. */
  #messageCap(id: number, name: string, n: number): number {
    this.#of.present();
    if (!Number.isInteger(n) || n < 1) throw new ResourceError("EINVAL", `${this.#of.owner()}: ${n} ${name} messages`);
    const cap = findCapability(this.#of.config, id);
    if (cap === null) throw new ResourceError("ENXIO", `${this.#of.owner()}: no ${name} capability`);
    if (this.#messages !== null)
      throw new ResourceError("EBUSY", `${this.#of.owner()}: ${this.#messages.kind} messages are allocated already`);
    if (this.#intx !== null) throw new ResourceError("EBUSY", `${this.#of.owner()}: irq ${this.#of.irq} is allocated`);
    return cap;
  }

  /** Address of a structure of MSI-X, whose BAR the driver must have allocated. @throws ResourceError ENXIO */
  #structure(register: number, bytes: number, what: string): number {
    const value = this.#of.config.read(register, 4);
    const rid = PCI_BASE_ADDRESS_0 + 4 * (value & PCI_MSIX_TABLE_BIR);
    const offset = (value & PCI_MSIX_TABLE_OFFSET) >>> 0;
    const entry = this.#of.range(rid);
    if (entry === undefined || entry.type !== "memory" || !entry.allocated)
      throw new ResourceError("ENXIO", `${this.#of.owner()}: BAR ${hex(rid)} with the MSI-X ${what} is not allocated`);
    if (offset + bytes > entry.size)
      throw new ResourceError(
        "ENXIO",
        `${this.#of.owner()}: the MSI-X ${what} at ${hex(offset)} leaves BAR ${hex(rid)}`,
      );
    return entry.start + offset;
  }

  #message(index: number, events: InterruptEvent[]): MsiMessage | null {
    const { bus, soft, log } = this.#of.host;
    const event = new InterruptEvent(`${this.#of.owner()} message ${index}`, true, soft, log);
    const message = bus.allocMessage(() => soft.before(event));
    if (message !== null) events[index] = event;
    return message;
  }

  /**
   * Messages that MSI can address: one address, data counting up from a multiple of their number. PCI 3.0 §6.8.1.3
   * A machine hands out single ones, so twice as many are taken and what does not fit is given back.
   */
  #consecutive(count: number, events: InterruptEvent[]): MsiMessage[] {
    const { bus, soft, log } = this.#of.host;
    const taken: { message: MsiMessage; event: InterruptEvent }[] = [];
    const run = () => {
      const from = taken.findIndex(
        ({ message: first }, i) =>
          first.data % count === 0 &&
          taken.slice(i, i + count).length === count &&
          taken.slice(i, i + count).every(({ message }, k) => {
            return message.address === first.address && message.data === first.data + k;
          }),
      );
      return from < 0 ? null : taken.slice(from, from + count);
    };
    let found = run();
    while (found === null && taken.length < 2 * count - 1) {
      const event = new InterruptEvent(`${this.#of.owner()} message`, true, soft, log);
      const message = bus.allocMessage(() => soft.before(event));
      if (message === null) break;
      taken.push({ message, event });
      found = run();
    }
    for (const entry of taken) if (found === null || !found.includes(entry)) entry.message[Symbol.dispose]();
    if (found === null) return [];
    for (const [i, { event }] of found.entries()) events[i] = event;
    return found.map(({ message }) => message);
  }

  #allocated(
    kind: "msi" | "msix",
    cap: number,
    table: number,
    entries: number,
    messages: readonly MsiMessage[],
    events: readonly InterruptEvent[],
  ): Irq[] {
    const before = this.#of.config.update(PCI_COMMAND, 0, PCI_COMMAND_INTX_DISABLE);
    const vectors = messages.map((message, i) => ({
      message,
      event: events[i] as InterruptEvent,
      irq: new FunctionIrq(i + 1, kind, message.data, (irq) => this.#releaseMessage(irq)),
    }));
    const intxDisable = before & PCI_COMMAND_INTX_DISABLE;
    this.#messages = { kind, cap, table, entries, intxDisable, vectors };
    return vectors.map(({ irq }) => irq);
  }

  /** Opens or closes a message: with its first handler, and after its last. */
  #deliver({ irq, message }: Vector, on: boolean): void {
    const messages = this.#messages;
    if (messages === null || this.#of.config.gone) return;
    const { kind, cap, table, vectors } = messages;
    if (kind === "msi") {
      // One enable bit for all: on while any message has a handler.
      const any = on || vectors.some((v) => v.irq.cookies.size > 0);
      this.#of.config.update(cap + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE, any ? PCI_MSI_FLAGS_ENABLE : 0);
      return;
    }
    const index = irq.rid - 1;
    if (on) {
      const { bus } = this.#of.host;
      const at = table + index * PCI_MSIX_ENTRY_SIZE;
      bus.memWrite(at + PCI_MSIX_ENTRY_LOWER_ADDR, 4, message.address % 2 ** 32);
      bus.memWrite(at + PCI_MSIX_ENTRY_UPPER_ADDR, 4, Math.floor(message.address / 2 ** 32));
      bus.memWrite(at + PCI_MSIX_ENTRY_DATA, 4, message.data);
    }
    this.#maskEntry(table, index, !on);
  }

  #maskEntry(table: number, index: number, masked: boolean): void {
    const at = table + index * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL;
    const was = this.#of.host.bus.memRead(at, 4);
    const next = masked ? was | PCI_MSIX_ENTRY_CTRL_MASKBIT : was & ~PCI_MSIX_ENTRY_CTRL_MASKBIT;
    this.#of.host.bus.memWrite(at, 4, next >>> 0);
  }

  /** The last message that goes switches the capability off and gives INTx back as it was. */
  #releaseMessage(irq: FunctionIrq): void {
    const messages = this.#messages;
    if (messages === null) return;
    const { kind, cap, intxDisable, vectors } = messages;
    const at = vectors.findIndex((v) => v.irq === irq);
    const [vector] = vectors.splice(at, 1);
    vector?.message[Symbol.dispose]();
    if (vectors.length > 0) return;
    this.#messages = null;
    if (kind === "msi") this.#of.config.update(cap + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE, 0);
    else this.#of.config.update(cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 0);
    this.#of.config.update(PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, intxDisable);
  }

  /** Tears every handler down, whoever holds its cookie. */
  mute(): void {
    for (const irq of this.#held) for (const cookie of [...irq.cookies]) cookie[Symbol.dispose]();
  }

  /** The ISA interrupt of the pin, as firmware routed it; null for none. */
  get #line(): number | null {
    return this.#of.intpin !== 0 && this.#of.intpin <= 4 && this.#of.irq !== 0 && this.#of.irq <= LAST_IRQ
      ? this.#of.irq
      : null;
  }

  // ------------------------------------------------------------------------------------------------ for the function

  /** What is allocated, or the pin while nothing is. */
  listed(): { readonly rid: number; readonly number: number }[] {
    const irqs = this.#messages?.vectors.map(({ irq: { rid, number } }) => ({ rid, number })) ?? [];
    if (this.#intx !== null || (irqs.length === 0 && this.#line !== null)) irqs.push({ rid: 0, number: this.#of.irq });
    return irqs;
  }

  /** Takes back what the driver kept. @returns it, in words */
  reclaim(): string[] {
    const leaks: string[] = [];
    for (const irq of this.#held) {
      leaks.push(`irq ${irq.rid}${irq.cookies.size > 0 ? " with a handler" : ""}`);
      irq[Symbol.dispose]();
    }
    return leaks;
  }

  /** Names the registers of MSI that a reset would lose. */
  registers(keep: (offset: number, width: AccessWidth) => void): void {
    if (this.#messages?.kind !== "msi") return;
    const { cap } = this.#messages;
    const wide = (this.#of.config.read(cap + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_64BIT) !== 0;
    keep(cap + PCI_MSI_ADDRESS_LO, 4);
    if (wide) keep(cap + PCI_MSI_ADDRESS_HI, 4);
    keep(cap + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 2);
    keep(cap + PCI_MSI_FLAGS, 2);
  }

  /** Writes the table of MSI-X again, which lies behind a BAR. */
  restoreTable(): void {
    const messages = this.#messages;
    if (messages?.kind !== "msix") return;
    for (let i = 0; i < messages.entries; i++) this.#maskEntry(messages.table, i, true);
    for (const vector of messages.vectors) if (vector.irq.cookies.size > 0) this.#deliver(vector, true);
    this.#of.config.update(messages.cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_MASKALL, PCI_MSIX_FLAGS_ENABLE);
  }

  get #held(): FunctionIrq[] {
    return [this.#intx?.irq, ...(this.#messages?.vectors.map((v) => v.irq) ?? [])].filter((irq) => irq !== undefined);
  }
}
