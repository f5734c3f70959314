import { hex } from "../bytes/index.js";
import type { AccessWidth, Bdf, GuestBus, MsiMessage } from "../contract/index.js";
import {
  PCI_BASE_ADDRESS_0,
  PCI_CACHE_LINE_SIZE,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_CLASS_PROG,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_BRIDGE,
  PCI_HEADER_TYPE_MASK,
  PCI_HEADER_TYPE_NORMAL,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_LATENCY_TIMER,
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
  PCI_PM_CAP_D1,
  PCI_PM_CAP_D2,
  PCI_PM_CTRL,
  PCI_PM_CTRL_STATE_MASK,
  PCI_PM_PMC,
  PCI_REVISION_ID,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS_ENABLE,
  PCI_STD_NUM_BARS,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
  pciBus,
  pciDevice,
  pciFunction,
} from "../spec/pci.js";
import { type Bouncing, Tag, tighten, UNCONSTRAINED } from "./bus-dma.js";
import { Window } from "./bus-space.js";
import { InterruptEvent, type InterruptLines, type SoftInterrupts } from "./interrupts.js";
import {
  type Bar,
  ConfigAccess,
  capabilities,
  findCapability,
  findExtendedCapability,
  sizeBars,
  sizeRom,
} from "./pci-config.js";
import type { Rman, RmanResource } from "./rman.js";
import {
  type BusSpace,
  DeviceGoneError,
  type DeviceInfo,
  type DmaConstraints,
  type DmaTag,
  type InterruptCookie,
  type InterruptHandler,
  type Irq,
  type PciAttach,
  type PciProbe,
  ResourceError,
} from "./types.js";

/** An inclusive range of ports or addresses; null where a bridge passes nothing. */
export type Range = readonly [start: number, end: number] | null;

/** What all functions of a machine share. */
export interface PciHost {
  readonly bus: GuestBus;
  /** the same with a turn for scheduled handlers in `poll` */
  readonly machine: GuestBus;
  readonly memory: Rman;
  readonly ports: Rman;
  readonly irqs: Rman;
  readonly lines: InterruptLines;
  readonly soft: SoftInterrupts;
  readonly bouncing: Bouncing;
  readonly log: (line: string) => void;
}

/** Where a bus may place what firmware has not placed. */
export interface PciWindows {
  readonly memory: Range;
  /** another range of memory, for prefetchable BARs first of all; default null */
  readonly prefetchable?: Range;
  readonly ports: Range;
}

/** ISA interrupts that a pin can be routed to; 0 and what is above say that firmware has routed none. */
const LAST_IRQ = 15;
/** A BAR of 32 bits reaches no higher. */
const LAST_32 = 0xffff_ffff;
/** µs that a function may need around D3hot and D2. PM 1.2 §5.6.1 */
const D3_DELAY = 10_000;
const D2_DELAY = 200;
const D3 = 3;

/** What identifies a function: read once, when it is found. */
interface Identity {
  readonly bdf: Bdf;
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  readonly class: number;
  readonly revid: number;
  readonly intpin: number;
  readonly irq: number;
}

/** The view that a probe gets: nothing here writes. */
class PciView implements PciProbe {
  readonly bdf: Bdf;
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  readonly class: number;
  readonly revid: number;
  readonly intpin: number;
  readonly irq: number;
  readonly #config: ConfigAccess;

  constructor(config: ConfigAccess, identity: Identity) {
    this.#config = config;
    this.bdf = identity.bdf;
    this.vendor = identity.vendor;
    this.device = identity.device;
    this.subvendor = identity.subvendor;
    this.subdevice = identity.subdevice;
    this.class = identity.class;
    this.revid = identity.revid;
    this.intpin = identity.intpin;
    this.irq = identity.irq;
  }

  findCap(id: number, after?: number): number | null {
    return findCapability(this.#config, id, after);
  }

  findExtCap(id: number, after?: number): number | null {
    return findExtendedCapability(this.#config, id, after);
  }

  readConfig(offset: number, width: AccessWidth): number {
    return this.#config.read(offset, width);
  }
}

/** A range of the function: reserved by the bus for as long as the function is there, allocated while a driver has it. */
interface Entry {
  readonly bar: Bar;
  start: number;
  /** null: firmware has not assigned it, or somebody else has the range */
  reservation: RmanResource | null;
  window: Window | null;
}

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

/**
 * A PCI function as its driver holds it: configuration space, resource list, interrupts, DMA tags, power. pci(9)
 *
 * Life: found by a scan → BARs sized and reserved → `attaching` → a driver allocates → `detached` takes back what it
 * kept → the next driver, or `vanish` when a rescan no longer finds it.
 */
export class PciFunction extends PciView implements PciAttach {
  readonly machine: GuestBus;
  /** what a probe sees */
  readonly view: PciProbe;
  /** header layout, without the multi-function bit */
  readonly headerType: number;
  /** of the bus that it is on */
  readonly host: PciHost;
  readonly #config: ConfigAccess;
  readonly #windows: PciWindows;
  readonly #list = new Map<number, Entry>();
  readonly #tags = new Set<Tag>();
  #owner: string;
  #romSized = false;
  #intx: { irq: FunctionIrq; reservation: RmanResource } | null = null;
  #messages: Messages | null = null;
  #decodeFound = 0;
  #saved: readonly (readonly [offset: number, width: AccessWidth, value: number])[] | null = null;

  constructor(host: PciHost, bdf: Bdf, windows: PciWindows) {
    const config = new ConfigAccess(host.bus, bdf);
    const headerType = config.read(PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK;
    const plain = headerType === PCI_HEADER_TYPE_NORMAL;
    const identity: Identity = {
      bdf,
      vendor: config.read(PCI_VENDOR_ID, 2),
      device: config.read(PCI_DEVICE_ID, 2),
      revid: config.read(PCI_REVISION_ID, 1),
      class:
        config.read(PCI_CLASS_PROG, 1) |
        (config.read(PCI_CLASS_PROG + 1, 1) << 8) |
        (config.read(PCI_CLASS_PROG + 2, 1) << 16),
      intpin: config.read(PCI_INTERRUPT_PIN, 1),
      irq: config.read(PCI_INTERRUPT_LINE, 1),
      subvendor: plain ? config.read(PCI_SUBSYSTEM_VENDOR_ID, 2) : 0,
      subdevice: plain ? config.read(PCI_SUBSYSTEM_ID, 2) : 0,
    };
    super(config, identity);
    this.view = new PciView(config, identity);
    this.machine = host.machine;
    this.headerType = headerType;
    this.host = host;
    this.#config = config;
    this.#windows = windows;
    this.#owner = this.place;
    const bars = plain ? PCI_STD_NUM_BARS : headerType === PCI_HEADER_TYPE_BRIDGE ? 2 : 1;
    for (const bar of sizeBars(config, bars)) this.#reserve(bar);
  }

  /** `pci0:0:4:0`: domain, bus, slot, function */
  get place(): string {
    return `pci0:${pciBus(this.bdf)}:${pciDevice(this.bdf)}:${pciFunction(this.bdf)}`;
  }

  get gone(): boolean {
    return this.#config.gone;
  }

  writeConfig(offset: number, width: AccessWidth, value: number): void {
    this.#config.write(offset, width, value);
  }

  enableBusMaster(on: boolean): void {
    this.#config.update(PCI_COMMAND, PCI_COMMAND_MASTER, on ? PCI_COMMAND_MASTER : 0);
  }

  // ------------------------------------------------------------------------------------------------ ranges

  alloc(type: "memory" | "ioport", rid: number): BusSpace {
    this.#present();
    const entry = this.#list.get(rid) ?? (rid === PCI_ROM_ADDRESS ? this.#findRom() : undefined);
    if (entry === undefined) throw new ResourceError("ENXIO", `${this.#owner}: no BAR at ${hex(rid)}`);
    if (entry.bar.type !== type)
      throw new ResourceError("ENXIO", `${this.#owner}: BAR ${hex(rid)} is ${entry.bar.type}, not ${type}`);
    if (entry.window !== null) throw new ResourceError("EBUSY", `${this.#owner}: BAR ${hex(rid)} is allocated already`);
    if (entry.reservation === null) this.#assign(entry);
    this.#config.update(PCI_COMMAND, 0, type === "ioport" ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
    if (rid === PCI_ROM_ADDRESS) this.#config.write(rid, 4, entry.start + PCI_ROM_ADDRESS_ENABLE);
    const window = new Window(this.host.bus, type, rid, entry.start, entry.bar.size, () => this.#released(entry));
    entry.window = window;
    if (entry.reservation !== null) entry.reservation.active = true;
    return window;
  }

  /** Ranges that are reserved or allocated, ports first, and the interrupts. */
  resources(): DeviceInfo["resources"] {
    const ranges = [...this.#list.values()]
      .filter((entry) => entry.reservation !== null)
      .map(({ bar: { type, rid, size }, start }) => ({ type, rid, start, end: start + size - 1 }));
    const irqs = this.#messages?.vectors.map(({ irq: { rid, number } }) => ({ rid, number })) ?? [];
    if (this.#intx !== null || (irqs.length === 0 && this.#line !== null)) irqs.push({ rid: 0, number: this.irq });
    return [
      ...ranges.filter(({ type }) => type === "ioport"),
      ...ranges.filter(({ type }) => type === "memory"),
      ...irqs.map(({ rid, number }) => ({ type: "irq" as const, rid, start: number, end: number })),
    ];
  }

  // ------------------------------------------------------------------------------------------------ interrupts

  allocIntx({ exclusive = false }: { readonly exclusive?: boolean } = {}): Irq {
    this.#present();
    const line = this.#line;
    if (line === null)
      throw new ResourceError("ENXIO", `${this.#owner}: no interrupt (pin ${this.intpin}, line ${this.irq})`);
    if (this.#messages !== null)
      throw new ResourceError("EBUSY", `${this.#owner}: ${this.#messages.kind} is allocated`);
    if (this.#intx !== null) throw new ResourceError("EBUSY", `${this.#owner}: irq ${line} is allocated already`);
    const reservation = this.host.irqs.reserve({
      start: line,
      end: line,
      count: 1,
      shareable: !exclusive,
      owner: this.#owner,
    });
    const irq = new FunctionIrq(0, "intx", line, () => {
      this.#intx = null;
      reservation[Symbol.dispose]();
    });
    this.#intx = { irq, reservation };
    return irq;
  }

  msiCount(): number {
    const cap = this.findCap(PCI_CAP_ID_MSI);
    return cap === null ? 0 : 1 << Math.min((this.readConfig(cap + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1, 5);
  }

  msixCount(): number {
    const cap = this.findCap(PCI_CAP_ID_MSIX);
    return cap === null ? 0 : (this.readConfig(cap + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
  }

  allocMsi(n: number): Irq[] {
    const cap = this.#messageCap(PCI_CAP_ID_MSI, "MSI", n);
    const events: InterruptEvent[] = [];
    let messages: MsiMessage[] = [];
    for (let count = 2 ** Math.floor(Math.log2(Math.min(n, this.msiCount()))); messages.length === 0; count /= 2) {
      if (count < 1) throw new ResourceError("ENXIO", `${this.#owner}: the machine has no message left`);
      messages = this.#consecutive(count, events);
    }
    const flags = this.readConfig(cap + PCI_MSI_FLAGS, 2);
    const { address, data } = messages[0] as MsiMessage;
    this.writeConfig(cap + PCI_MSI_ADDRESS_LO, 4, address % 2 ** 32);
    if ((flags & PCI_MSI_FLAGS_64BIT) !== 0) {
      this.writeConfig(cap + PCI_MSI_ADDRESS_HI, 4, Math.floor(address / 2 ** 32));
      this.writeConfig(cap + PCI_MSI_DATA_64, 2, data);
    } else this.writeConfig(cap + PCI_MSI_DATA_32, 2, data);
    const log2 = Math.log2(messages.length);
    this.writeConfig(cap + PCI_MSI_FLAGS, 2, (flags & ~(PCI_MSI_FLAGS_QSIZE | PCI_MSI_FLAGS_ENABLE)) | (log2 << 4));
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
    if (messages.length === 0) throw new ResourceError("ENXIO", `${this.#owner}: the machine has no message left`);
    // Every entry is masked before the function may send, then each is opened by its first handler.
    for (let i = 0; i < entries; i++) this.#maskEntry(table, i, true);
    const irqs = this.#allocated("msix", cap, table, entries, messages, events);
    this.#config.update(cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_MASKALL, PCI_MSIX_FLAGS_ENABLE);
    return irqs;
  }

  setupIntr(irq: Irq, handler: InterruptHandler): InterruptCookie {
    this.#present();
    if (handler.filter === undefined && handler.handler === undefined)
      throw new ResourceError("EINVAL", `${this.#owner}: neither filter nor handler`);
    const vector = this.#messages?.vectors.find((v) => v.irq === irq);
    const mine = vector?.irq ?? (this.#intx?.irq === irq ? this.#intx.irq : undefined);
    if (mine === undefined || !mine.live) throw new ResourceError("EINVAL", `${this.#owner}: not an interrupt of mine`);
    const cookie =
      vector === undefined
        ? this.host.lines.setup(mine.number, this.#owner, handler)
        : vector.event.add(this.#owner, handler);
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

  // ------------------------------------------------------------------------------------------------ DMA

  dmaTag(constraints: Partial<DmaConstraints> = {}): DmaTag {
    this.#present();
    const { bus, bouncing } = this.host;
    const tag = new Tag(
      bus,
      tighten(UNCONSTRAINED, constraints),
      bouncing,
      () => this.#present(),
      (self) => this.#tags.delete(self),
    );
    this.#tags.add(tag);
    return tag;
  }

  // ------------------------------------------------------------------------------------------------ power

  getPowerState(): number {
    const cap = this.findCap(PCI_CAP_ID_PM);
    return cap === null ? 0 : this.readConfig(cap + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK;
  }

  setPowerState(state: number): void {
    const cap = this.findCap(PCI_CAP_ID_PM);
    const offered = cap === null ? 0 : this.readConfig(cap + PCI_PM_PMC, 2);
    const exists =
      state === 0 ||
      (cap !== null &&
        (state === D3 ||
          (state === 1 && (offered & PCI_PM_CAP_D1) !== 0) ||
          (state === 2 && (offered & PCI_PM_CAP_D2) !== 0)));
    if (!exists) throw new ResourceError("EOPNOTSUPP", `${this.#owner}: no power state D${state}`);
    if (cap === null || this.gone) return;
    const was = this.getPowerState();
    if (was === state) return;
    // D3hot → D0 may come with a soft reset, which loses the configuration. PM 1.2 §5.4.1
    if (state === D3) this.#save();
    this.#config.update(cap + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK, state);
    if (state === D3 || was === D3) this.machine.delay(D3_DELAY);
    else if (state === 2 || was === 2) this.machine.delay(D2_DELAY);
    if (was === D3) this.#restore();
  }

  // ------------------------------------------------------------------------------------------------ for the bus

  /** Whether what stands at this place is still the function that was found. */
  same(): boolean {
    return (
      this.vendor === this.readConfig(PCI_VENDOR_ID, 2) &&
      this.device === this.readConfig(PCI_DEVICE_ID, 2) &&
      this.revid === this.readConfig(PCI_REVISION_ID, 1) &&
      this.class === this.readConfig(PCI_REVISION_ID, 4) >>> 8 &&
      (this.headerType !== PCI_HEADER_TYPE_NORMAL ||
        (this.subvendor === this.readConfig(PCI_SUBSYSTEM_VENDOR_ID, 2) &&
          this.subdevice === this.readConfig(PCI_SUBSYSTEM_ID, 2)))
    );
  }

  attaching(nameunit: string): void {
    this.#own(nameunit);
    if (this.getPowerState() === D3) this.#save(); // firmware put it there
    this.setPowerState(0);
    this.#decodeFound = this.readConfig(PCI_COMMAND, 2) & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
  }

  silence(): void {
    this.enableBusMaster(false);
  }

  /** Bus master off, messages off, decode as it was found; what the driver kept is taken back and named. */
  detached(): readonly string[] {
    this.enableBusMaster(false);
    const leaks: string[] = [];
    const irqs = [this.#intx?.irq, ...(this.#messages?.vectors.map((v) => v.irq) ?? [])];
    for (const irq of irqs)
      if (irq !== undefined) {
        leaks.push(`irq ${irq.rid}${irq.cookies.size > 0 ? " with a handler" : ""}`);
        irq[Symbol.dispose]();
      }
    for (const tag of [...this.#tags]) {
      leaks.push(tag.live > 0 ? `DMA tag with ${tag.live} maps` : "DMA tag");
      tag.reclaim();
    }
    for (const { bar, window } of this.#list.values())
      if (window !== null) {
        leaks.push(`${bar.type} ${hex(bar.rid)}`);
        window[Symbol.dispose]();
      }
    this.#config.update(PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY, this.#decodeFound);
    this.#own(this.place);
    return leaks;
  }

  /** The function no longer answers: all ones from now on, no handler runs, nothing more is given out. */
  vanish(): void {
    if (this.gone) return;
    this.#config.gone = true;
    for (const entry of this.#list.values()) entry.window?.vanish();
    this.#mute();
  }

  /** Gives the reserved ranges back; after `vanish` and the driver's detach. */
  forget(): void {
    for (const entry of this.#list.values()) {
      entry.reservation?.[Symbol.dispose]();
      entry.reservation = null;
    }
  }

  suspended(): void {
    this.#save();
    if (this.headerType === PCI_HEADER_TYPE_NORMAL && this.findCap(PCI_CAP_ID_PM) !== null) this.setPowerState(D3);
  }

  resuming(): void {
    this.setPowerState(0);
    this.#restore();
  }

  /** DMA and interrupts end; the driver has been told before. */
  shutdown(): void {
    this.#mute();
    this.#config.update(PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_INTX_DISABLE);
    for (const at of capabilities(this.#config)) {
      const id = this.readConfig(at, 1);
      if (id === PCI_CAP_ID_MSI) this.#config.update(at + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE, 0);
      if (id === PCI_CAP_ID_MSIX) this.#config.update(at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 0);
    }
  }

  // ------------------------------------------------------------------------------------------------ within

  #present(): void {
    if (this.gone) throw new DeviceGoneError("ENXIO", `${this.#owner} is no longer there`);
  }

  /** The ISA interrupt of the pin, as firmware routed it; null for none. */
  get #line(): number | null {
    return this.intpin !== 0 && this.intpin <= 4 && this.irq !== 0 && this.irq <= LAST_IRQ ? this.irq : null;
  }

  #own(owner: string): void {
    this.#owner = owner;
    for (const { reservation } of this.#list.values()) if (reservation !== null) reservation.owner = owner;
  }

  #rman(bar: Bar): Rman {
    return bar.type === "ioport" ? this.host.ports : this.host.memory;
  }

  /** Keeps the range that firmware assigned, so that nobody else gets it while no driver has it. */
  #reserve(bar: Bar): Entry {
    const entry: Entry = { bar, start: bar.start, reservation: null, window: null };
    this.#list.set(bar.rid, entry);
    if (bar.start === 0) return entry;
    const range = { start: bar.start, end: bar.start + bar.size - 1, count: bar.size };
    try {
      entry.reservation = this.#rman(bar).reserve({ ...range, owner: this.#owner, rid: bar.rid });
    } catch (error) {
      if (!(error instanceof ResourceError)) throw error;
      this.host.log(`${this.#owner}: BAR ${hex(bar.rid)} cannot stay: ${error.message}`);
    }
    return entry;
  }

  #findRom(): Entry | undefined {
    if (this.#romSized || this.headerType !== PCI_HEADER_TYPE_NORMAL) return undefined;
    this.#romSized = true;
    const bar = sizeRom(this.#config);
    return bar === null ? undefined : this.#reserve(bar);
  }

  /** Finds a place for what has none, within the windows of the bus. */
  #assign(entry: Entry): void {
    const { bar } = entry;
    const { ports, memory, prefetchable = null } = this.#windows;
    const last = bar.type === "memory" && !bar.wide ? LAST_32 : Number.MAX_SAFE_INTEGER;
    const ranges = (bar.type === "ioport" ? [ports] : bar.prefetchable ? [prefetchable, memory] : [memory])
      .filter((range) => range !== null)
      .filter(([start]) => start <= last);
    if (ranges.length === 0) throw new ResourceError("ENOSPC", `${this.#owner}: no ${bar.type} window on this bus`);
    ranges.forEach(([start, end], i) => {
      if (entry.reservation !== null) return;
      try {
        const want = { count: bar.size, alignment: bar.size, owner: this.#owner, rid: bar.rid };
        entry.reservation = this.#rman(bar).reserve({ start, end: Math.min(end, last), ...want });
      } catch (error) {
        if (!(error instanceof ResourceError) || i === ranges.length - 1) throw error;
      }
    });
    entry.start = entry.reservation?.start ?? 0;
    this.#writeBar(entry);
  }

  /** Writes a BAR while nothing of its kind is decoded. */
  #writeBar({ bar: { rid, type, wide }, start }: Entry): void {
    const decode = type === "ioport" ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    const command = this.#config.update(PCI_COMMAND, decode, 0);
    this.writeConfig(rid, 4, start % 2 ** 32);
    if (wide) this.writeConfig(rid + 4, 4, Math.floor(start / 2 ** 32));
    this.#config.update(PCI_COMMAND, 0, command & decode);
  }

  /** A driver gives a range back: the bus keeps it reserved. */
  #released(entry: Entry): void {
    entry.window = null;
    if (entry.reservation !== null) entry.reservation.active = false;
    // The ROM may share its decoder with other BARs, so it does not stay enabled. PCI 3.0 §6.2.5.2
    if (entry.bar.rid === PCI_ROM_ADDRESS) this.writeConfig(PCI_ROM_ADDRESS, 4, entry.start);
  }

  /** The capability, if messages can be allocated at all now. */
  #messageCap(id: number, name: string, n: number): number {
    this.#present();
    if (!Number.isInteger(n) || n < 1) throw new ResourceError("EINVAL", `${this.#owner}: ${n} ${name} messages`);
    const cap = this.findCap(id);
    if (cap === null) throw new ResourceError("ENXIO", `${this.#owner}: no ${name} capability`);
    if (this.#messages !== null)
      throw new ResourceError("EBUSY", `${this.#owner}: ${this.#messages.kind} messages are allocated already`);
    if (this.#intx !== null) throw new ResourceError("EBUSY", `${this.#owner}: irq ${this.irq} is allocated`);
    return cap;
  }

  /** Address of a structure of MSI-X, whose BAR the driver must have allocated. @throws ResourceError ENXIO */
  #structure(register: number, bytes: number, what: string): number {
    const value = this.readConfig(register, 4);
    const rid = PCI_BASE_ADDRESS_0 + 4 * (value & PCI_MSIX_TABLE_BIR);
    const offset = (value & PCI_MSIX_TABLE_OFFSET) >>> 0;
    const entry = this.#list.get(rid);
    if (entry === undefined || entry.bar.type !== "memory" || entry.window === null)
      throw new ResourceError("ENXIO", `${this.#owner}: BAR ${hex(rid)} with the MSI-X ${what} is not allocated`);
    if (offset + bytes > entry.bar.size)
      throw new ResourceError("ENXIO", `${this.#owner}: the MSI-X ${what} at ${hex(offset)} leaves BAR ${hex(rid)}`);
    return entry.start + offset;
  }

  #message(index: number, events: InterruptEvent[]): MsiMessage | null {
    const { bus, soft, log } = this.host;
    const event = new InterruptEvent(`${this.#owner} message ${index}`, true, soft, log);
    const message = bus.allocMessage(() => soft.before(event));
    if (message !== null) events[index] = event;
    return message;
  }

  /**
   * Messages that MSI can address: one address, data counting up from a multiple of their number. PCI 3.0 §6.8.1.3
   * A machine hands out single ones, so twice as many are taken and what does not fit is given back.
   */
  #consecutive(count: number, events: InterruptEvent[]): MsiMessage[] {
    const { bus, soft, log } = this.host;
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
      const event = new InterruptEvent(`${this.#owner} message`, true, soft, log);
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
    const before = this.#config.update(PCI_COMMAND, 0, PCI_COMMAND_INTX_DISABLE);
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
    if (messages === null || this.gone) return;
    const { kind, cap, table, vectors } = messages;
    if (kind === "msi") {
      // One enable bit for all: on while any message has a handler.
      const any = on || vectors.some((v) => v.irq.cookies.size > 0);
      this.#config.update(cap + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE, any ? PCI_MSI_FLAGS_ENABLE : 0);
      return;
    }
    const index = irq.rid - 1;
    if (on) {
      const { bus } = this.host;
      const at = table + index * PCI_MSIX_ENTRY_SIZE;
      bus.memWrite(at + PCI_MSIX_ENTRY_LOWER_ADDR, 4, message.address % 2 ** 32);
      bus.memWrite(at + PCI_MSIX_ENTRY_UPPER_ADDR, 4, Math.floor(message.address / 2 ** 32));
      bus.memWrite(at + PCI_MSIX_ENTRY_DATA, 4, message.data);
    }
    this.#maskEntry(table, index, !on);
  }

  #maskEntry(table: number, index: number, masked: boolean): void {
    const at = table + index * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL;
    const was = this.host.bus.memRead(at, 4);
    const next = masked ? was | PCI_MSIX_ENTRY_CTRL_MASKBIT : was & ~PCI_MSIX_ENTRY_CTRL_MASKBIT;
    this.host.bus.memWrite(at, 4, next >>> 0);
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
    if (kind === "msi") this.#config.update(cap + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE, 0);
    else this.#config.update(cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 0);
    this.#config.update(PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, intxDisable);
  }

  /** Tears every handler down, whoever holds its cookie. */
  #mute(): void {
    const irqs = [this.#intx?.irq, ...(this.#messages?.vectors.map((v) => v.irq) ?? [])];
    for (const irq of irqs) for (const cookie of [...(irq?.cookies ?? [])]) cookie[Symbol.dispose]();
  }

  /** What a reset of the function would lose. FreeBSD pci_cfg_save */
  #save(): void {
    const saved: [number, AccessWidth, number][] = [];
    const keep = (offset: number, width: AccessWidth) => saved.push([offset, width, this.readConfig(offset, width)]);
    for (const { bar } of this.#list.values()) {
      keep(bar.rid, 4);
      if (bar.wide) keep(bar.rid + 4, 4);
    }
    keep(PCI_CACHE_LINE_SIZE, 1);
    keep(PCI_LATENCY_TIMER, 1);
    keep(PCI_INTERRUPT_LINE, 1);
    if (this.#messages?.kind === "msi") {
      const { cap } = this.#messages;
      const wide = (this.readConfig(cap + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_64BIT) !== 0;
      keep(cap + PCI_MSI_ADDRESS_LO, 4);
      if (wide) keep(cap + PCI_MSI_ADDRESS_HI, 4);
      keep(cap + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 2);
      keep(cap + PCI_MSI_FLAGS, 2);
    }
    keep(PCI_COMMAND, 2);
    this.#saved = saved;
  }

  /** Writes back what was saved, decoding last, then the message table, which lies behind a BAR. */
  #restore(): void {
    const saved = this.#saved;
    if (saved === null || this.gone) return;
    this.#saved = null;
    this.#config.update(PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY, 0);
    for (const [offset, width, value] of saved)
      if (this.readConfig(offset, width) !== value) this.writeConfig(offset, width, value);
    const messages = this.#messages;
    if (messages?.kind !== "msix") return;
    for (let i = 0; i < messages.entries; i++) this.#maskEntry(messages.table, i, true);
    for (const vector of messages.vectors) if (vector.irq.cookies.size > 0) this.#deliver(vector, true);
    this.#config.update(messages.cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_MASKALL, PCI_MSIX_FLAGS_ENABLE);
  }
}
