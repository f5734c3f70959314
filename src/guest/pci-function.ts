import { hex } from "../bytes/index.js";
import type { AccessWidth, Bdf, GuestBus } from "../contract/index.js";
import {
  PCI_CACHE_LINE_SIZE,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
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
  PCI_LATENCY_TIMER,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
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
import { Tag, tighten, UNCONSTRAINED } from "./bus-dma.js";
import { Window } from "./bus-space.js";
import { type Bar, ConfigAccess, capabilities, sizeBars, sizeRom } from "./pci-config.js";
import type { PciHost, PciWindows } from "./pci-host.js";
import { PciInterrupts } from "./pci-interrupts.js";
import { identify, PciView } from "./pci-view.js";
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

/** A BAR of 32 bits reaches no higher. */
const LAST_32 = 0xffff_ffff;
/** µs that a function may need around D3hot and D2. PM 1.2 §5.6.1 */
const D3_DELAY = 10_000;
const D2_DELAY = 200;
const D3 = 3;

/** A range of the function: reserved by the bus for as long as the function is there, allocated while a driver has it. */
interface Entry {
  readonly bar: Bar;
  start: number;
  /** null: firmware has not assigned it, or somebody else has the range */
  reservation: RmanResource | null;
  window: Window | null;
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
  readonly windows: PciWindows;
  readonly #config: ConfigAccess;
  readonly #interrupts: PciInterrupts;
  readonly #list = new Map<number, Entry>();
  readonly #tags = new Set<Tag>();
  #owner: string;
  #romSized = false;
  #decodeFound = 0;
  #saved: readonly (readonly [offset: number, width: AccessWidth, value: number])[] | null = null;

  constructor(host: PciHost, bdf: Bdf, windows: PciWindows) {
    const config = new ConfigAccess(host.bus, bdf);
    const headerType = config.read(PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK;
    const identity = identify(config, headerType);
    super(config, identity);
    this.view = new PciView(config, identity);
    this.machine = host.machine;
    this.headerType = headerType;
    this.host = host;
    this.#config = config;
    this.windows = windows;
    this.#owner = this.place;
    this.#interrupts = new PciInterrupts({
      host,
      config,
      intpin: this.intpin,
      irq: this.irq,
      owner: () => this.#owner,
      present: () => this.#present(),
      range: (rid) => {
        const entry = this.#list.get(rid);
        return entry && { ...entry.bar, start: entry.start, allocated: entry.window !== null };
      },
    });
    const bars =
      headerType === PCI_HEADER_TYPE_NORMAL ? PCI_STD_NUM_BARS : headerType === PCI_HEADER_TYPE_BRIDGE ? 2 : 1;
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
    return [
      ...ranges.filter(({ type }) => type === "ioport"),
      ...ranges.filter(({ type }) => type === "memory"),
      ...this.#interrupts
        .listed()
        .map(({ rid, number }) => ({ type: "irq" as const, rid, start: number, end: number })),
    ];
  }

  // ------------------------------------------------------------------------------------------------ interrupts

  allocIntx(options: { readonly exclusive?: boolean } = {}): Irq {
    return this.#interrupts.allocIntx(options);
  }

  msiCount(): number {
    return this.#interrupts.msiCount();
  }

  msixCount(): number {
    return this.#interrupts.msixCount();
  }

  allocMsi(n: number): Irq[] {
    return this.#interrupts.allocMsi(n);
  }

  allocMsix(n: number): Irq[] {
    return this.#interrupts.allocMsix(n);
  }

  setupIntr(irq: Irq, handler: InterruptHandler): InterruptCookie {
    return this.#interrupts.setupIntr(irq, handler);
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
    const leaks = this.#interrupts.reclaim();
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
    this.#interrupts.mute();
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
    this.#interrupts.mute();
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
    const { ports, memory, prefetchable = null } = this.windows;
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
    this.#interrupts.registers(keep);
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
    this.#interrupts.restoreTable();
  }
}
