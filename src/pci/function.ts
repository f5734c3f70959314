import { ConfigError, Door, StateError, StateReader } from "../bytes/index.js";
import type {
  AccessCounters,
  AccessWidth,
  FunctionInterrupts,
  FunctionSeams,
  HostSeams,
  Model,
  QueueRunner,
  ResetKind,
  SavedState,
  Slot,
  Work,
} from "../contract/index.js";
import {
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_MASTER,
  PCI_CONFIG_SIZE,
  PCI_INTERRUPT_PIN,
  PCI_STATUS,
  PCI_STATUS_INTERRUPT,
  PCI_STATUS_REC_MASTER_ABORT,
} from "../spec/pci.js";
import { type Bar, buildBars } from "./bar.js";
import { ConfigSpace, type PlacedCapability } from "./config-space.js";
import type { Capability, CapabilityHost, ConfigBytes, FunctionDeclaration } from "./declaration.js";
import { ExtendedSpace } from "./extended-space.js";
import { allOnes } from "./region.js";
import { Reports } from "./reports.js";

const STATE_VERSION = 1;
const BAR_SLOTS = 7;

// Indices of the access counters.
const CONFIG_READS = 0;
const CONFIG_WRITES = 1;
const BAR_READS = 2;
const BAR_WRITES = 3;
const INTX_RISES = 4;
const MESSAGES = 5;
const LOST_MESSAGES = 6;
const REFUSED_DMA = 7;
const NESTED_ACCESSES = 8;
const COUNTERS = 9;

/** Work as a model sees it: while one of its queues runs, the function is engaged. */
class EngagedWork implements Work, QueueRunner {
  readonly #work: Work;
  readonly #engage: (queue: number, budget: number) => number;
  runner: QueueRunner | null = null;

  constructor(work: Work, engage: (queue: number, budget: number) => number) {
    this.#work = work;
    this.#engage = engage;
  }
  bind(runner: QueueRunner): void {
    this.runner = runner;
    this.#work.bind(this);
  }
  request(queue: number): void {
    this.#work.request(queue);
  }
  runNow(queue: number): void {
    this.#work.runNow(queue);
  }
  clear(): void {
    this.#work.clear();
  }
  runQueue(queue: number, budget: number): number {
    return this.#engage(queue, budget);
  }
}

/**
 * One PCI function: configuration space, BARs, and the gates between a model and its host.
 *
 * Life: built from a declaration → `connect(seams)` when plugged → accesses, work, `save`/`load` → `reset` → `disconnect`.
 * Cards extend it with what is theirs; the model in the declaration holds the registers.
 */
export class PciFunction implements Slot {
  // fixed configuration
  readonly name: string;
  readonly declaration: FunctionDeclaration;
  readonly bars: readonly Bar[];
  readonly #model: Model;
  readonly #config: ConfigSpace;
  readonly #barAt: readonly (Bar | null)[];
  /** capabilities that gate or send, apart, so that no access walks the whole list */
  readonly #powerCaps: readonly Capability[];
  readonly #messageCaps: readonly Capability[];

  // wiring
  readonly #door: Door;
  readonly #interrupts: FunctionInterrupts;
  readonly #reports: Reports;
  #host: HostSeams | null = null;
  #upstreamListener: Disposable | null = null;
  #work: EngagedWork | null = null;
  #listeners: readonly (() => void)[] = [];

  // volatile state
  #wanted = false; // INTx condition inside the function
  #delivered = false; // level the host was told
  #forcedMaster = false;
  #engaged = false;
  #settling = false; // inside reset or load: gates are recomputed once, at the end
  readonly #bases = new Float64Array(BAR_SLOTS).fill(-1);
  readonly #counters = new Float64Array(COUNTERS);

  /** @throws ConfigError naming the value of the declaration that does not fit */
  constructor(declaration: FunctionDeclaration) {
    this.declaration = declaration;
    this.name = declaration.name;
    this.#model = declaration.model;
    this.bars = buildBars(declaration);
    this.#barAt = Array.from({ length: BAR_SLOTS }, (_, i) => this.bars.find((bar) => bar.index === i) ?? null);
    this.#config = new ConfigSpace(declaration, this.bars, () => this.#settle());
    this.#reports = new Reports(declaration.name);
    this.#door = new Door(() => this.#dmaRefused());
    this.#interrupts = { setIntx: (level) => this.#setIntx(level), signal: (vector) => this.#signal(vector) };
    const config = this.#config;
    const host: CapabilityHost = {
      get: (offset, width) => config.get(offset, width),
      set: (offset, width, value) => config.set(offset, width, value),
      changed: () => this.#settle(),
      send: (vector, address, data) => this.#send(vector, address, data),
      resetFunction: () => this.reset("function"),
    };
    for (const { capability, at } of config.capabilities) capability.bind?.(host, at);
    const all = config.capabilities.map(({ capability }) => capability);
    this.#powerCaps = all.filter((capability) => "powered" in capability);
    this.#messageCaps = all.filter((capability) => capability.signal !== undefined);
  }

  // ---------------------------------------------------------------------------------------------- guest accesses

  configRead(offset: number, width: AccessWidth): number {
    this.#counters[CONFIG_READS]!++;
    if (this.#engaged) return this.#refuseRead(width);
    this.#engaged = true;
    try {
      return this.#config.read(offset, width);
    } finally {
      this.#engaged = false;
    }
  }

  configWrite(offset: number, width: AccessWidth, value: number): void {
    this.#counters[CONFIG_WRITES]!++;
    if (this.#engaged) {
      this.#counters[NESTED_ACCESSES]!++;
      return;
    }
    this.#engaged = true;
    try {
      this.#config.write(offset, width, value);
    } finally {
      this.#engaged = false;
    }
  }

  barRead(bar: number, offset: number, width: AccessWidth): number {
    this.#counters[BAR_READS]!++;
    if (this.#engaged) return this.#refuseRead(width);
    this.#engaged = true;
    try {
      return this.ownBarRead(bar, offset, width);
    } finally {
      this.#engaged = false;
    }
  }

  barWrite(bar: number, offset: number, width: AccessWidth, value: number): void {
    this.#counters[BAR_WRITES]!++;
    if (this.#engaged) {
      this.#counters[NESTED_ACCESSES]!++;
      return;
    }
    this.#engaged = true;
    try {
      this.ownBarWrite(bar, offset, width, value);
    } finally {
      this.#engaged = false;
    }
  }

  barBase(bar: number): number {
    return this.#bases[bar] ?? -1;
  }

  onBarsChanged(listener: () => void): Disposable {
    const entry = () => listener(); // one entry per call, so that a listener may be given twice
    this.#listeners = [...this.#listeners, entry];
    return {
      [Symbol.dispose]: () => {
        this.#listeners = this.#listeners.filter((other) => other !== entry);
      },
    };
  }

  // ---------------------------------------------------------------------------------------------- life

  connect(seams: HostSeams): void {
    if (this.#host !== null)
      throw new ConfigError("already-connected", `${this.name} is plugged in already; expected one that is free`);
    this.#host = seams;
    const work = new EngagedWork(seams.work, (queue, budget) => this.#runQueue(queue, budget));
    this.#work = work;
    this.#door.connect(seams.memory);
    this.#reports.connect(seams);
    this.#upstreamListener = seams.upstream?.onChanged(() => this.#settle()) ?? null;
    try {
      this.#model.connect({
        dma: this.#door,
        interrupts: this.#interrupts,
        clock: seams.clock,
        work,
        report: (code, value) => this.#reports.report(code, value),
        strictness: seams.strictness,
      } satisfies FunctionSeams);
    } catch (error) {
      this.disconnect();
      throw error;
    }
    this.#settle();
  }

  disconnect(): void {
    if (this.#host === null) return;
    this.#door.setOpen(false); // first DMA, then interrupts, then what may start either
    this.#deliver(false);
    this.#work?.clear();
    this.#upstreamListener?.[Symbol.dispose]();
    this.#upstreamListener = null;
    this.#host = null;
    this.#model.disconnect();
    this.#work = null;
    this.#door.connect(null);
    this.#reports.connect(null);
  }

  reset(kind: ResetKind): void {
    const outer = this.#settling;
    this.#settling = true;
    try {
      this.#door.setOpen(false);
      this.#wanted = false;
      this.#forcedMaster = false;
      this.#work?.clear();
      this.#reports.clear();
      this.#config.reset(kind);
      this.#model.reset(kind);
    } finally {
      this.#settling = outer;
      this.#settle();
    }
  }

  resample(): void {
    this.#host?.interrupts.setIntx(this.#delivered);
  }

  save(): SavedState {
    const capabilities = this.#config.capabilities.map(({ capability }) => capability.save?.() ?? null);
    return {
      version: STATE_VERSION,
      name: this.name,
      config: this.#config.image(),
      ...(this.#config.extended === null ? {} : { extended: this.#config.extended.image() }),
      capabilities,
      intx: this.#wanted,
      forcedMaster: this.#forcedMaster,
      reported: this.#reports.save(),
      strictness: this.#host?.strictness ?? null,
      model: this.#model.save(),
    };
  }

  load(state: SavedState): void {
    const reader = new StateReader(state, this.name, STATE_VERSION);
    if (reader.string("name") !== this.name)
      throw new StateError(`${this.name}.name`, `the state of ${reader.string("name")}, expected ${this.name}`);
    const image = reader.bytes("config", PCI_CONFIG_SIZE);
    this.#config.check(image, `${this.name}.config`);
    const { extended } = this.#config;
    const extendedImage = extended === null ? null : reader.bytes("extended", ExtendedSpace.size);
    if (extendedImage !== null) extended?.check(extendedImage, `${this.name}.extended`);
    const wanted = reader.boolean("intx");
    const forced = reader.boolean("forcedMaster");
    const reported = this.#reports.check(reader.raw.reported, `${this.name}.reported`);
    const strictness = reader.raw.strictness;
    if (this.#host !== null && strictness !== null && strictness !== this.#host.strictness)
      throw new StateError(`${this.name}.strictness`, `${String(strictness)}, expected ${this.#host.strictness}`);
    const parts = reader.raw.capabilities;
    const placed = this.#config.capabilities;
    if (!Array.isArray(parts) || parts.length !== placed.length)
      throw new StateError(`${this.name}.capabilities`, `no array of ${placed.length} elements`);
    if (((image[PCI_STATUS]! & PCI_STATUS_INTERRUPT) !== 0) !== wanted)
      throw new StateError(`${this.name}.intx`, `${wanted}, but Status bit 3 says ${!wanted}`);

    // Parts check themselves before they apply; when a later one refuses, the former ones go back.
    const formerImage = this.#config.image();
    const former = placed.map(({ capability }) => capability.save?.() ?? null);
    const formerModel = this.#model.save();
    const outer = this.#settling;
    this.#settling = true;
    this.#door.setOpen(false);
    try {
      try {
        this.#restore(image, parts);
        this.#model.load(reader.object("model").raw);
      } catch (error) {
        this.#restore(formerImage, former);
        this.#model.load(formerModel);
        throw error;
      }
      if (extendedImage !== null) extended?.restore(extendedImage);
      this.#wanted = wanted;
      this.#forcedMaster = forced;
      this.#reports.restore(reported);
    } finally {
      this.#settling = outer;
      this.#settle(); // also when refused: the door was shut meanwhile
    }
  }

  /** A copy of the counters. */
  accessCounters(): AccessCounters {
    const at = (i: number): number => this.#counters[i]!;
    return {
      configReads: at(CONFIG_READS),
      configWrites: at(CONFIG_WRITES),
      barReads: at(BAR_READS),
      barWrites: at(BAR_WRITES),
      intxRises: at(INTX_RISES),
      messages: at(MESSAGES),
      lostMessages: at(LOST_MESSAGES),
      refusedDma: at(REFUSED_DMA),
      nestedAccesses: at(NESTED_ACCESSES),
    };
  }

  /** How often each diagnostic occurred since reset, the one that was told included. */
  diagnosticCounts(): { readonly [code: string]: number } {
    return this.#reports.save();
  }

  /** Where each capability lies, in the order of the list. */
  get capabilities(): readonly PlacedCapability[] {
    return this.#config.capabilities;
  }

  // ---------------------------------------------------------------------------------------------- for cards that extend it

  /** A BAR access of the function's own (virtio's window in configuration space): not counted, allowed while engaged. */
  protected ownBarRead(bar: number, offset: number, width: AccessWidth): number {
    const target = this.#barAt[bar];
    return target == null ? allOnes(width) : target.region.read(offset, width);
  }

  protected ownBarWrite(bar: number, offset: number, width: AccessWidth, value: number): void {
    this.#barAt[bar]?.region.write(offset, width, value);
  }

  /** The configuration bytes without a guest's masks. What decoding and gates follow from is not to be set here. */
  protected get ownConfig(): ConfigBytes {
    return this.#config;
  }

  /**
   * Lets DMA and messages through although Command says otherwise, until told off or reset: for drivers that never set
   * Bus Master. What the guest reads in Command stays as it wrote it.
   */
  protected forceBusMaster(on: boolean): void {
    this.#forcedMaster = on;
    this.#settle();
  }

  /** Called after the header, the power state or what hangs on them may have changed, once per access, reset or `load`. */
  protected settled(): void {}

  /** Configuration bytes and the capabilities' own state; the model comes after, so that it sees both. */
  #restore(image: Uint8Array, parts: readonly unknown[]): void {
    const placed = this.#config.capabilities;
    for (const [i, { capability }] of placed.entries()) {
      const path = `${this.name}.capabilities[${i}]`;
      if (capability.load !== undefined) capability.load(new StateReader(parts[i], path).raw);
      else if (parts[i] !== null) throw new StateError(path, "a state, but the capability has none");
    }
    this.#config.restore(image);
    for (const { capability } of placed) capability.restored?.();
  }

  // ---------------------------------------------------------------------------------------------- gates

  /** D0: not in a power state that answers configuration cycles only. */
  protected get powered(): boolean {
    for (const capability of this.#powerCaps) if (capability.powered === false) return false;
    return true;
  }

  get #mayMaster(): boolean {
    if (this.#settling || !this.powered) return false;
    if (this.#forcedMaster) return true; // for drivers that know of no Bus Master, a bridge's is not known either
    return (this.#config.get(PCI_COMMAND, 2) & PCI_COMMAND_MASTER) !== 0 && this.#host?.upstream?.open !== false;
  }

  /** Recomputes what follows from configuration space: Status bit 3, DMA door, INTx level, BARs. */
  #settle(): void {
    if (this.#settling) return;
    this.#showIntx();
    this.#door.setOpen(this.#mayMaster);
    this.#updateIntx();
    const powered = this.powered;
    const command = this.#config.get(PCI_COMMAND, 2);
    let moved = false;
    for (const bar of this.bars) if (bar.place(this.#config, command, powered, this.#bases)) moved = true;
    if (moved) for (const listener of this.#listeners) listener();
    this.settled();
  }

  #setIntx(level: boolean): void {
    if (this.#wanted === level) return;
    this.#wanted = level;
    if (this.#settling) return;
    this.#showIntx();
    this.#updateIntx();
  }

  /** Status bit 3 is the condition, whatever masks apply. PCI 3.0 §6.2.3 */
  #showIntx(): void {
    const status = this.#config.get(PCI_STATUS, 1);
    this.#config.set(PCI_STATUS, 1, this.#wanted ? status | PCI_STATUS_INTERRUPT : status & ~PCI_STATUS_INTERRUPT);
  }

  #updateIntx(): void {
    let level = this.#wanted && this.#config.get(PCI_INTERRUPT_PIN, 1) !== 0 && this.powered;
    if (level && (this.#config.get(PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE) !== 0) level = false;
    if (level) for (const capability of this.#messageCaps) if (capability.messagesEnabled === true) level = false;
    this.#deliver(level);
  }

  #deliver(level: boolean): void {
    if (this.#delivered === level || this.#host === null) return;
    this.#delivered = level;
    if (level) this.#counters[INTX_RISES]!++;
    this.#host.interrupts.setIntx(level);
  }

  #signal(vector: number): void {
    for (const capability of this.#messageCaps)
      if (capability.messagesEnabled === true) {
        capability.signal?.(vector);
        return;
      }
  }

  #send(vector: number, address: number, data: number): boolean {
    if (this.#host === null || !this.#mayMaster) {
      this.#counters[LOST_MESSAGES]!++;
      return false;
    }
    this.#counters[MESSAGES]!++;
    this.#host.interrupts.message(vector, address, data);
    return true;
  }

  #dmaRefused(): void {
    this.#counters[REFUSED_DMA]!++;
    this.#config.set(PCI_STATUS, 2, this.#config.get(PCI_STATUS, 2) | PCI_STATUS_REC_MASTER_ABORT);
  }

  #refuseRead(width: AccessWidth): number {
    this.#counters[NESTED_ACCESSES]!++;
    return allOnes(width);
  }

  #runQueue(queue: number, budget: number): number {
    const runner = this.#work?.runner;
    if (runner == null) return 0;
    const outer = this.#engaged; // a doorbell's immediate work runs inside the access
    this.#engaged = true;
    try {
      return runner.runQueue(queue, budget);
    } finally {
      this.#engaged = outer;
    }
  }
}

/** A function that is all declaration: nothing to add to its model. @throws ConfigError as the constructor */
export const definePciFunction = (declaration: FunctionDeclaration): PciFunction => new PciFunction(declaration);
