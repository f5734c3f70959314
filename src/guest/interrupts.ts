import type { AccessWidth, Bdf, GuestBus, GuestDma, MsiMessage } from "../contract/index.js";
import type { InterruptCookie, InterruptHandler } from "./types.js";

/** Exceptions and stray interrupts of one source that are logged before it falls silent. */
const LOG_LIMIT = 5;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** One installed filter and handler. */
class Action implements InterruptCookie {
  readonly owner: string;
  readonly source: InterruptHandler;
  /** the handler is to run */
  due = false;
  /** torn down */
  dead = false;
  complaints = 0;
  readonly #event: InterruptEvent;

  constructor(event: InterruptEvent, owner: string, source: InterruptHandler) {
    this.#event = event;
    this.owner = owner;
    this.source = source;
  }

  schedule(): void {
    if (!this.dead) this.#event.schedule(this);
  }

  [Symbol.dispose](): void {
    if (this.dead) return;
    this.dead = true;
    this.due = false;
    this.#event.remove(this);
  }
}

/**
 * What hangs on one interrupt line or message: every filter runs, then the handlers that they asked for. BUS_SETUP_INTR(9)
 *
 * A level that comes back while handlers run stays masked until they are done, as a kernel masks a line; a message that
 * comes meanwhile starts another round, since it would not come again.
 */
export class InterruptEvent {
  /** interrupts that no filter claimed */
  strays = 0;
  readonly #name: string;
  readonly #edge: boolean;
  readonly #soft: SoftInterrupts;
  readonly #log: (line: string) => void;
  #actions: readonly Action[] = []; // replaced, never changed: a round may add and remove
  #running = false;
  #again = false;

  constructor(name: string, edge: boolean, soft: SoftInterrupts, log: (line: string) => void) {
    this.#name = name;
    this.#edge = edge;
    this.#soft = soft;
    this.#log = log;
  }

  get idle(): boolean {
    return this.#actions.length === 0;
  }

  add(owner: string, source: InterruptHandler): InterruptCookie {
    const action = new Action(this, owner, source);
    this.#actions = [...this.#actions, action];
    return action;
  }

  remove(action: Action): void {
    this.#actions = this.#actions.filter((a) => a !== action);
  }

  schedule(action: Action): void {
    action.due = true;
    this.#soft.request(this);
  }

  /** The line is up, or the message has come. */
  dispatch(): void {
    if (this.#running) {
      this.#again = this.#edge;
      return;
    }
    this.#running = true;
    try {
      do {
        this.#again = false;
        this.#filters();
        this.#handlers();
      } while (this.#again);
    } finally {
      this.#running = false;
    }
  }

  /** Runs what was scheduled without an interrupt. @returns whether a handler ran */
  runScheduled(): boolean {
    if (this.#running) return false;
    this.#running = true;
    try {
      const ran = this.#handlers();
      while (this.#again) {
        this.#again = false;
        this.#filters();
        this.#handlers();
      }
      return ran;
    } finally {
      this.#running = false;
    }
  }

  #filters(): void {
    const actions = this.#actions;
    let claimed = false;
    for (let i = 0; i < actions.length; i++) {
      const action = actions[i] as Action;
      if (action.dead) continue;
      if (action.source.filter === undefined) {
        action.due = true;
        claimed = true;
        continue;
      }
      try {
        const result = action.source.filter();
        if (result !== "stray") claimed = true;
        if (result === "schedule" || result === "handled+schedule") action.due = true;
      } catch (error) {
        this.#complain(action, "interrupt filter", error);
      }
    }
    if (!claimed && ++this.strays <= LOG_LIMIT) this.#log(`stray ${this.#name}`);
    else if (!claimed && this.strays === LOG_LIMIT + 1)
      this.#log(`too many stray ${this.#name}'s: not logging anymore`);
  }

  #handlers(): boolean {
    const actions = this.#actions;
    let ran = false;
    for (let i = 0; i < actions.length; i++) {
      const action = actions[i] as Action;
      if (!action.due) continue;
      action.due = false;
      if (action.source.handler === undefined) continue;
      ran = true;
      try {
        action.source.handler();
      } catch (error) {
        this.#complain(action, "interrupt handler", error);
      }
    }
    return ran;
  }

  #complain(action: Action, what: string, error: unknown): void {
    if (++action.complaints > LOG_LIMIT) return;
    this.#log(`${action.owner}: ${what} threw: ${messageOf(error)}`);
  }
}

/** Handlers that asked for another turn without an interrupt; `run` gives it to them. */
export class SoftInterrupts {
  #waiting: InterruptEvent[] = [];

  request(event: InterruptEvent): void {
    if (!this.#waiting.includes(event)) this.#waiting.push(event);
  }

  /** An interrupt has come: what waits for a turn has it first. */
  before(event: InterruptEvent): void {
    this.run();
    event.dispatch();
  }

  /** Runs what was waiting when it was called; what these schedule waits for the next time. */
  run(): boolean {
    if (this.#waiting.length === 0) return false;
    const waiting = this.#waiting;
    this.#waiting = [];
    let ran = false;
    for (const event of waiting) if (event.runScheduled()) ran = true;
    return ran;
  }
}

/**
 * A machine with a turn for scheduled handlers in front of its own `poll` and `delay`; everything else goes straight on.
 * Drivers get it as `dev.bus.machine`, embedders as `newbus.machine`.
 */
export class PolledMachine implements GuestBus {
  readonly #bus: GuestBus;
  readonly #soft: SoftInterrupts;

  constructor(bus: GuestBus, soft: SoftInterrupts) {
    this.#bus = bus;
    this.#soft = soft;
  }

  get dma(): GuestDma {
    return this.#bus.dma;
  }

  configRead(bdf: Bdf, offset: number, width: AccessWidth): number {
    return this.#bus.configRead(bdf, offset, width);
  }

  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void {
    this.#bus.configWrite(bdf, offset, width, value);
  }

  ioRead(port: number, width: AccessWidth): number {
    return this.#bus.ioRead(port, width);
  }

  ioWrite(port: number, width: AccessWidth, value: number): void {
    this.#bus.ioWrite(port, width, value);
  }

  memRead(address: number, width: AccessWidth): number {
    return this.#bus.memRead(address, width);
  }

  memWrite(address: number, width: AccessWidth, value: number): void {
    this.#bus.memWrite(address, width, value);
  }

  onLine(irq: number, handler: () => void): Disposable {
    return this.#bus.onLine(irq, handler);
  }

  allocMessage(handler: () => void): MsiMessage | null {
    return this.#bus.allocMessage(handler);
  }

  poll(): boolean {
    const ran = this.#soft.run();
    return this.#bus.poll() || ran;
  }

  delay(us: number): void {
    this.#soft.run();
    this.#bus.delay(us);
  }

  now(): number {
    return this.#bus.now();
  }
}

/** The interrupt lines of a machine that somebody listens to. */
export class InterruptLines {
  readonly #bus: GuestBus;
  readonly #soft: SoftInterrupts;
  readonly #log: (line: string) => void;
  readonly #lines = new Map<number, { event: InterruptEvent; off: Disposable }>();

  constructor(bus: GuestBus, soft: SoftInterrupts, log: (line: string) => void) {
    this.#bus = bus;
    this.#soft = soft;
    this.#log = log;
  }

  /** Installs a handler; the machine's line is listened to while it has any. @param irq ISA interrupt, 0 … 15 */
  setup(irq: number, owner: string, source: InterruptHandler): InterruptCookie {
    let line = this.#lines.get(irq);
    if (line === undefined) {
      const event = new InterruptEvent(`irq${irq}`, false, this.#soft, this.#log);
      line = { event, off: this.#bus.onLine(irq, () => this.#soft.before(event)) };
      this.#lines.set(irq, line);
    }
    const { event, off } = line;
    const cookie = event.add(owner, source);
    return {
      schedule: () => cookie.schedule(),
      [Symbol.dispose]: () => {
        cookie[Symbol.dispose]();
        if (!event.idle || this.#lines.get(irq)?.event !== event) return;
        this.#lines.delete(irq);
        off[Symbol.dispose]();
      },
    };
  }

  /** Interrupts of a line that nobody claimed. */
  strays(irq: number): number {
    return this.#lines.get(irq)?.event.strays ?? 0;
  }
}
