import { ConfigError, hex, StateError, StateReader } from "../bytes/index.js";
import type {
  AccessWidth,
  BarHandler,
  Bdf,
  Clock,
  Diagnostic,
  GuestMemory,
  MemoryWindow,
  SavedState,
  Slot,
  Stateful,
  Strictness,
} from "../contract/index.js";
import { type BarDeclaration, type PciFunction, Region } from "../pci/index.js";
import { ELCR1, ELCR1_MASK, ELCR2_MASK, PCI_CONFIG_ADDRESS, pciBdf } from "../spec/pci.js";
import { AddressSpace, type Mapping, type Target } from "./address-space.js";
import { Bus } from "./bus.js";
import { Ecam } from "./ecam.js";
import { type GuestBusOptions, MachineGuestBus } from "./guest-bus.js";
import { hostBridge } from "./host-bridge.js";
import { InterruptSink } from "./interrupt-sink.js";
import { PirqRouter } from "./intx.js";
import { IsaBridge } from "./isa-bridge.js";
import { MemoryController } from "./mch.js";
import type { PluggedFunction } from "./place.js";
import { makeRam, type Ram, RamTarget } from "./ram.js";
import { type AssignedResource, assignResources, type ResourceOptions } from "./resources.js";
import { SlotTree } from "./slots.js";
import { isDriven, VirtualClock } from "./virtual-clock.js";
import { type WorkPolicy, WorkPool } from "./work.js";

const STATE_VERSION = 2;
const CONFIG_PORTS = 8;
/** From the I/O APIC to the end: chipset, local APIC, firmware. BARs that a guest puts there are not seen. */
const CHIPSET_MEMORY = 0xfec0_0000;
const END_OF_32_BIT = 2 ** 32;

// Of two that overlap the lower number answers; BARs have their function's number times 8 plus their own.
const RAM_PRIORITY = -3;
const FIXED_PRIORITY = -2;
const CHIPSET_PRIORITY = -1;
const ECAM_PRIORITY = -0.5;

const HOST_BRIDGE = pciBdf(0, 0);
const ISA_BRIDGE = pciBdf(0, 1);

export interface MachineOptions {
  /**
   * Guest RAM: bytes to allocate or bytes of the embedder's own, laid out as a PC's (hole at A0000h–FFFFFh, what does not
   * fit below 3 GiB from 4 GiB on); or windows; or a memory that the embedder keeps. Default 16 MiB.
   */
  readonly ram?: Ram;
  /** default: a `VirtualClock` of its own */
  readonly clock?: Clock;
  /** for every function plugged; default `lenient` */
  readonly strictness?: Strictness;
  /** when doorbells are worked; default `immediate` */
  readonly work?: WorkPolicy;
  /** told what guests do wrong, once per function, code and reset; default: nobody */
  readonly report?: (diagnostic: Diagnostic) => void;
  /** told which addresses DMA wrote, for hosts that must drop compiled code; `end` exclusive */
  readonly written?: (start: number, end: number) => void;
  /** told of every change of an ISA interrupt's level; must not run guest code */
  readonly onIrq?: (irq: number, level: boolean) => void;
  /**
   * The guest wrote the reset control register. `platform`: the machine has reset itself, CPU and the rest are the
   * embedder's; `cpu`: nothing in here changed.
   */
  readonly onReset?: (kind: "platform" | "cpu") => void;
  /**
   * The host bridge: `i440fx`, or `q35` for the memory controller that can put configuration space into memory (ECAM),
   * where a guest, or `assignResources`, sets its PCIEXBAR. Default `i440fx`
   */
  readonly hostBridge?: "i440fx" | "q35";
  /** see `BusOptions` */
  readonly unalignedConfigAddress?: boolean;
  /** what memory reads give where nobody answers; default "ones", as hardware. QEMU's gives "zeros" */
  readonly undecodedMemory?: "ones" | "zeros";
}

/** ELCR: two bytes that say which interrupts are level triggered; kept for who emulates the interrupt controllers. */
class Elcr implements BarHandler {
  readonly bytes = new Uint8Array(2);
  read(offset: number): number {
    return this.bytes[offset]!;
  }
  write(offset: number, _width: AccessWidth, value: number): void {
    this.bytes[offset] = value & (offset === 0 ? ELCR1_MASK : ELCR2_MASK);
  }
}

class RegionTarget implements Target {
  readonly #region: Region;
  constructor(region: Region) {
    this.#region = region;
  }
  barRead(_bar: number, offset: number, width: AccessWidth): number {
    return this.#region.read(offset, width);
  }
  barWrite(_bar: number, offset: number, width: AccessWidth, value: number): void {
    this.#region.write(offset, width, value);
  }
}

const NOTHING_THERE: BarHandler = { read: () => 0xffff_ffff, write: () => {} };

/**
 * A PC as far as PCI sees it: RAM, ports, an i440FX host bridge at 00:00.0, a PIIX3 ISA bridge with its PIRQ routes at
 * 00:01.0, and slots. No CPU: who emulates one forwards its accesses to `ioRead` … `memWrite`, calls `poll` where work may
 * be done, and looks at `irqLevel`.
 */
export class Machine implements Stateful {
  readonly memory: GuestMemory;
  readonly clock: Clock;
  readonly work: WorkPool;
  readonly interrupts: InterruptSink;
  readonly bus: Bus;
  readonly host: PciFunction;
  readonly isa: IsaBridge;
  readonly strictness: Strictness;
  readonly intx: PirqRouter;
  readonly #onReset: (kind: "platform" | "cpu") => void;
  readonly #io = new AddressSpace("io");
  readonly #mem: AddressSpace;
  readonly #elcr = new Elcr();
  #ram: readonly Mapping[] = [];
  #ramGeneration = -1;
  readonly #slots: SlotTree;

  /** @throws ConfigError naming the option that does not fit */
  constructor(options: MachineOptions = {}) {
    this.#mem = new AddressSpace("memory", options.undecodedMemory ?? "ones");
    this.memory = makeRam(options.ram ?? 16 * 2 ** 20, options.written ?? null);
    this.clock = options.clock ?? new VirtualClock();
    this.strictness = options.strictness ?? "lenient";
    this.work = new WorkPool(this.clock);
    this.#onReset = options.onReset ?? (() => {});
    this.interrupts = new InterruptSink(options.onIrq);
    this.isa = new IsaBridge();
    this.intx = new PirqRouter(
      (pirq) => this.isa.route(pirq),
      (levels) => this.interrupts.setLevels(levels),
    );
    this.isa.onRoutesChanged = () => this.intx.update();
    this.#slots = new SlotTree({
      memory: this.memory,
      clock: this.clock,
      strictness: this.strictness,
      report: options.report ?? (() => {}),
      io: this.#io,
      mem: this.#mem,
      intx: this.intx,
      work: this.work,
      policy: options.work ?? "immediate",
      message: (address, data) => this.message(address, data),
    });
    this.bus = new Bus(this.#slots.root, {
      unalignedConfigAddress: options.unalignedConfigAddress ?? false,
      onReset: (kind) => this.#resetControl(kind),
    });
    const ecam = new Ecam(this.bus, this.#mem, ECAM_PRIORITY);
    if (options.hostBridge === "q35") {
      const mch = new MemoryController();
      mch.onEcamChanged = () => ecam.move(mch.ecam);
      this.host = mch;
    } else this.host = hostBridge();
    const ports = this.#io.add(this.bus, 0, CONFIG_PORTS, CHIPSET_PRIORITY);
    this.#io.move(ports, PCI_CONFIG_ADDRESS);
    this.#mapRegion(this.#io, ELCR1, { kind: "io", size: 2, accepts: [1], handler: this.#elcr }, CHIPSET_PRIORITY);
    const rest = END_OF_32_BIT - CHIPSET_MEMORY;
    this.#mapRegion(this.#mem, CHIPSET_MEMORY, { kind: "mem32", size: rest, handler: NOTHING_THERE }, CHIPSET_PRIORITY);
    this.#syncRam();
    this.plug(HOST_BRIDGE, this.host);
    this.plug(ISA_BRIDGE, this.isa);
  }

  // ---------------------------------------------------------------------------------------------- guest accesses

  /** @param port 0 … 0xffff @returns unsigned; all ones where nobody answers */
  ioRead(port: number, width: AccessWidth): number {
    return this.#io.read(port, width);
  }

  ioWrite(port: number, width: AccessWidth, value: number): void {
    this.#io.write(port, width, value);
  }

  /** @param address physical; a negative one is a 32-bit address taken for signed @returns unsigned; all ones where nobody answers */
  memRead(address: number, width: AccessWidth): number {
    if (this.memory.generation !== this.#ramGeneration) this.#syncRam();
    return this.#mem.read(address, width);
  }

  memWrite(address: number, width: AccessWidth, value: number): void {
    if (this.memory.generation !== this.#ramGeneration) this.#syncRam();
    this.#mem.write(address, width, value);
  }

  /** An 8-byte access, low half first: `pair[0]` is the low one. */
  memReadPair(address: number, pair: Uint32Array): void {
    if (this.memory.generation !== this.#ramGeneration) this.#syncRam();
    this.#mem.readPair(address, pair);
  }

  memWritePair(address: number, low: number, high: number): void {
    if (this.memory.generation !== this.#ramGeneration) this.#syncRam();
    this.#mem.writePair(address, low, high);
  }

  /** A configuration cycle past the ports. All ones where no function answers. */
  configRead(bdf: Bdf, offset: number, width: AccessWidth): number {
    return this.bus.configRead(bdf, offset, width);
  }

  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void {
    this.bus.configWrite(bdf, offset, width, value);
  }

  // ---------------------------------------------------------------------------------------------- interrupts, work

  /** @param irq 0 … 15 */
  irqLevel(irq: number): boolean {
    return this.interrupts.level(irq);
  }

  /** Lets every function say its level again, after an end of interrupt or an unmask. */
  resample(): void {
    for (const { slot } of this.#slots.places) slot.resample();
  }

  /** A message of a function: latched where the address is the interrupt window's, otherwise an ordinary write to RAM. */
  message(address: number, data: number): void {
    if (this.interrupts.message(address, data)) return;
    if (!Number.isSafeInteger(address + 4)) return;
    for (const { base, size, view, writable } of this.#windows) {
      if (address < base || address + 4 > base + size || !writable) continue;
      view.setUint32(address - base, data, true);
      this.memory.written?.(address, address + 4);
    }
  }

  /** Fires due timers and gives each ready queue a turn. @returns ns until the next thing to do; 0: now, Infinity: nothing */
  poll(budget?: number): number {
    if (!isDriven(this.clock)) return this.work.run(budget);
    this.clock.fireDue();
    const due = this.work.run(budget);
    return Math.min(due, Math.max(0, this.clock.nextDeadline - this.clock.now()));
  }

  // ---------------------------------------------------------------------------------------------- slots

  /**
   * What is plugged, bus 0 ascending, each bridge followed by what is behind it; functions that are hidden for want of
   * function 0 included.
   */
  functions(): readonly PluggedFunction[] {
    return this.#slots.places;
  }

  /** Who is plugged there, an address as for `plug`; null: nobody, or no such bus. @throws ConfigError `slot-address` */
  slot(where: string | Bdf): Slot | null {
    return this.#slots.slot(where);
  }

  /**
   * Plugs a function in, as powered on; it stays the embedder's to unplug.
   * @param where `00:03.0`, `03.0` or `3`; behind bridges the way through them, `00:05.0/04.0`. With a bus number other
   * than 0, `01:04.0` or bus << 8 | device << 3 | function, the bus that firmware or guest has given this number to.
   * @param options `hotAdd`: function 0 may come last; until then the others of its device are hidden
   * @throws ConfigError `slot-occupied`, `slot-address`, `no-bus`, `bus-numbers`, `no-function-0`, `single-function`, and
   * those of `Slot.connect`
   */
  plug(where: string | Bdf, slot: Slot, { hotAdd = false }: { readonly hotAdd?: boolean } = {}): void {
    this.#slots.plug(where, slot, hotAdd);
  }

  /**
   * Takes a function out: DMA, interrupts and work stop, then its BARs go, then its configuration space.
   * @returns the function @throws ConfigError `slot-empty`, `bridge-occupied`, and those of an address as for `plug`
   */
  unplug(where: string | Bdf): Slot {
    return this.#slots.unplug(where);
  }

  /**
   * Puts something of the embedder's own at fixed addresses, before all BARs: an I/O APIC, flash, a port of the mainboard.
   * @throws ConfigError `fixed-range`
   */
  mapFixed(base: number, declaration: BarDeclaration): Disposable {
    const { kind, size } = declaration;
    const limit = kind === "io" ? 0x1_0000 : 2 ** 52;
    if (!(Number.isSafeInteger(base) && base >= 0 && size > 0 && base + size <= limit))
      throw new ConfigError("fixed-range", `${hex(base)}+${hex(size)}; expected a range below ${hex(limit)}`);
    const space = kind === "io" ? this.#io : this.#mem;
    const mapping = this.#mapRegion(space, base, declaration, FIXED_PRIORITY);
    return { [Symbol.dispose]: () => space.remove(mapping) };
  }

  // ---------------------------------------------------------------------------------------------- life

  /** Platform reset: RST# to every function, and the chipset's own registers. RAM keeps its content. */
  reset(): void {
    this.intx.hold(true);
    try {
      this.#slots.root.reset();
      this.bus.reset();
      this.#elcr.bytes.fill(0);
      this.work.clear();
      this.interrupts.clear();
    } finally {
      this.intx.hold(false);
    }
  }

  /** INIT of the CPU: nothing on the bus changes. It is here so that embedders need not remember that. */
  cpuReset(): void {}

  /** What firmware does where there is none: numbers buses, places BARs and bridges' windows, routes interrupts, turns
   * decoding on; Bus Master stays off but in bridges. */
  assignResources(options: ResourceOptions = {}): readonly AssignedResource[] {
    return assignResources(this, this.#slots.places, options);
  }

  /** A driver's view of this machine. */
  guestBus(options: GuestBusOptions = {}): MachineGuestBus {
    return new MachineGuestBus(this, options);
  }

  /** @param ram false leaves out what is in RAM, for embedders that save it themselves */
  save({ ram = true }: { readonly ram?: boolean } = {}): SavedState {
    return {
      version: STATE_VERSION,
      now: this.clock.now(),
      configAddress: this.bus.address,
      resetControl: this.bus.resetControl,
      elcr: this.#elcr.bytes.slice(),
      interrupts: this.interrupts.save(),
      work: this.work.save(),
      functions: this.#slots.places.map(({ path, slot }) => ({ path, name: slot.name, state: slot.save() })),
      ram: ram ? this.#windows.map(({ base, bytes }) => ({ base, bytes: bytes.slice() })) : null,
    };
  }

  /** @throws StateError when the state is of another topology or does not fit; the machine is then as before */
  load(state: SavedState): void {
    const reader = new StateReader(state, "machine", STATE_VERSION);
    const now = reader.integer("now");
    const address = reader.integer("configAddress", 0, 0xffff_ffff);
    const resetControl = reader.integer("resetControl", 0, 0xff);
    const elcr = reader.bytes("elcr", 2);
    if ((elcr[0]! & ~ELCR1_MASK) !== 0 || (elcr[1]! & ~ELCR2_MASK) !== 0)
      throw new StateError("machine.elcr", `${hex(elcr[0]!)} ${hex(elcr[1]!)} has read-only bits`);
    const { places } = this.#slots;
    const functions = reader.objects("functions", places.length);
    for (const [i, { path, slot }] of places.entries()) {
      const saved = functions[i]!;
      if (saved.string("path") !== path || saved.string("name") !== slot.name)
        throw new StateError(
          saved.path,
          `${saved.string("name")} at ${saved.string("path")}, expected ${slot.name} at ${path}`,
        );
    }
    const ram = reader.raw.ram === null ? null : this.#checkRam(reader);

    const before = places.map(({ slot }) => slot.save());
    const work = this.work.save();
    const formerNow = this.clock.now();
    this.intx.hold(true);
    try {
      try {
        if (isDriven(this.clock)) this.clock.setNow(now);
        for (const [i, { slot }] of places.entries()) slot.load(functions[i]!.object("state").raw);
        this.work.load(reader.object("work").raw);
        this.interrupts.load(reader.object("interrupts").raw); // the last that can refuse
      } catch (error) {
        if (isDriven(this.clock)) this.clock.setNow(formerNow);
        for (const [i, { slot }] of places.entries()) slot.load(before[i]!);
        this.work.load(work);
        throw error;
      }
      this.bus.address = address;
      this.bus.resetControl = resetControl;
      this.#elcr.bytes.set(elcr);
      if (ram !== null) for (const [i, bytes] of ram.entries()) this.memory.windows[i]!.bytes.set(bytes);
    } finally {
      this.intx.hold(false);
    }
  }

  /** RAM as it is now: reading the generation is what finds a buffer that was detached. */
  get #windows(): readonly MemoryWindow[] {
    if (this.memory.generation !== this.#ramGeneration) this.#syncRam();
    return this.memory.windows;
  }

  #checkRam(reader: StateReader): Uint8Array[] {
    const windows = this.#windows;
    return reader.objects("ram", windows.length).map((saved, i) => {
      const { base, size } = windows[i]!;
      if (saved.integer("base") !== base)
        throw new StateError(saved.path, `RAM at ${hex(saved.integer("base"))}, expected ${hex(base)}`);
      return saved.bytes("bytes", size);
    });
  }

  #mapRegion(space: AddressSpace, base: number, declaration: BarDeclaration, priority: number): Mapping {
    const mapping = space.add(new RegionTarget(new Region(declaration)), 0, declaration.size, priority);
    space.move(mapping, base);
    return mapping;
  }

  /** Takes RAM windows over into the memory space. */
  #syncRam(): void {
    this.#ramGeneration = this.memory.generation;
    for (const mapping of this.#ram) this.#mem.remove(mapping);
    this.#ram = this.memory.windows.map((window) => {
      const mapping = this.#mem.add(new RamTarget(window), 0, window.size, RAM_PRIORITY);
      this.#mem.move(mapping, window.base);
      return mapping;
    });
  }

  #resetControl(kind: "platform" | "cpu"): void {
    if (kind === "platform") this.reset();
    else this.cpuReset();
    this.#onReset(kind);
  }
}
