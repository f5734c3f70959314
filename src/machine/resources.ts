import { ConfigError, hex } from "../bytes/index.js";
import type { AccessWidth, BarInfo, Bdf, GuestMemory, Slot } from "../contract/index.js";
import {
  ELCR1,
  ELCR2,
  PCI_BASE_ADDRESS_0,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_PRIMARY_BUS,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS1,
  PCI_ROM_RESOURCE,
  PCI_SECONDARY_BUS,
  PCI_SUBORDINATE_BUS,
  PIIX_PIRQC,
  pciBdf,
} from "../spec/pci.js";
import { MCH_PCIEXBAR, MCH_PCIEXBAR_UPPER, MCH_PCIEXBAREN, MCH_REGISTERS_AT } from "../spec/q35.js";
import { type Room, WindowPlan, type Wish } from "./bridge-plan.js";
import { pirqBehind } from "./intx.js";
import { MemoryController } from "./mch.js";
import type { Place } from "./place.js";
import { type BusSegment, isBridge } from "./segment.js";

const PAGE = 4096;
/** As SeaBIOS: memory from 2 GiB on, or from the end of RAM if that is higher, up to the I/O APIC. */
const MEMORY_START = 0x8000_0000;
const MEMORY_END = 0xfec0_0000;
const HIGH_START = 2 ** 32;
const LAST_BUS = 255;
/** As SeaBIOS on a Q35: 256 buses below where BARs then begin. */
const ECAM_BASE = 0xb000_0000;
const ECAM_SIZE = 0x1000_0000;
const ISA_BRIDGE = pciBdf(0, 1);

export interface ResourceOptions {
  /** ports for I/O BARs, end exclusive; default 0xc000 … 0x10000 */
  readonly io?: readonly [start: number, end: number];
  /** addresses below 4 GiB for memory BARs, end exclusive; default: from 2 GiB, the end of RAM or of ECAM to 0xfec00000 */
  readonly memory?: readonly [start: number, end: number];
  /** interrupts of PIRQA … PIRQD; default 10, 10, 11, 11 as SeaBIOS */
  readonly irqs?: readonly [number, number, number, number];
}

type Ranges = ResourceOptions & Required<Pick<ResourceOptions, "memory">>;

/** A BAR and where `assignResources` put it. */
export interface AssignedResource extends BarInfo {
  /** with the bus number that it gave */
  readonly bdf: Bdf;
  readonly base: number;
}

/** What assigning needs of a machine. */
interface Platform {
  readonly memory: GuestMemory;
  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void;
  ioRead(port: number, width: AccessWidth): number;
  ioWrite(port: number, width: AccessWidth, value: number): void;
}

/** Hands out naturally aligned ranges upwards. */
class Window {
  #next: number;
  readonly #end: number;
  constructor(start: number, end: number) {
    this.#next = start;
    this.#end = end;
  }
  /** @param align a power of two @returns −1 when there is no room */
  take(size: number, align: number): number {
    const base = Math.ceil(this.#next / align) * align;
    if (base + size > this.#end) return -1;
    this.#next = base + size;
    return base;
  }
}

interface PlacedBar {
  readonly place: Place;
  readonly bar: BarInfo;
  readonly base: number;
}

/** Where everything is to go; nothing is written before all of it has a place. */
class Plan {
  readonly bars: PlacedBar[] = [];
  readonly windows: WindowPlan[] = [];
  readonly #places: readonly Place[];
  readonly #room: Room;

  /** @param room what a bridge's windows are given at least */
  constructor(places: readonly Place[], room: Room) {
    this.#places = places;
    this.#room = room;
  }

  /** What is on a bus: BARs in the order of functions, then the windows of its bridges. */
  wishesOf(segment: BusSegment | null): Wish[] {
    const here = this.#places.filter((place) => place.segment === segment);
    const bars = here.flatMap((place) => place.slot.bars.map((bar) => this.#wish(place, bar)));
    const windows = here.flatMap((place) => {
      if (!isBridge(place.slot)) return [];
      const plan = new WindowPlan(place, this.wishesOf(place.segment.behind(place.devfn)), this.#room);
      this.windows.push(plan);
      return plan.wishes();
    });
    return [...bars, ...windows];
  }

  #wish(place: Place, bar: BarInfo): Wish {
    const { kind, size, prefetchable, index } = bar;
    return {
      space: kind === "io" ? "io" : prefetchable ? "prefetchable" : "memory",
      rank: size,
      size: kind === "io" ? size : Math.max(size, PAGE),
      align: kind === "io" ? size : Math.max(size, PAGE),
      wide: kind === "mem64",
      what: `BAR ${index} (${kind}, ${hex(size)} bytes) of ${place.path}`,
      place: (base) => void this.bars.push({ place, bar, base }),
    };
  }
}

/**
 * Assigns resources as firmware would: bus numbers depth-first; BARs largest first, naturally aligned, memory BARs in pages
 * of their own; bridges' windows round what is behind them; PIRQ routes, ELCR and interrupt lines that agree; decoding on,
 * Bus Master as it was (off after reset), but on in bridges, which then pass on what functions may do by their own.
 * @param places in the order of the way from the root
 * @throws ConfigError `resources-exhausted`, `resource-irq`
 */
export const assignResources = (
  machine: Platform,
  places: readonly Place[],
  options: ResourceOptions,
): readonly AssignedResource[] => {
  const ecam = placeEcam(places);
  const present = places.filter(({ segment, devfn }) => segment.visible(devfn) !== null);
  const command = new Map<Place, number>();
  for (const place of present) {
    const { slot } = place;
    command.set(place, slot.configRead(PCI_COMMAND, 2));
    slot.configWrite(PCI_COMMAND, 2, slot.configRead(PCI_COMMAND, 2) & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
  }
  numberBuses(present);
  const { bars, windows } = planFor(machine, places, { memory: memoryRange(machine, ecam), ...options });
  for (const window of windows) if (present.includes(window.place)) window.program();
  const decode = new Map<Slot, number>();
  for (const { place, bar, base } of bars) {
    if (present.includes(place)) writeBar(place.slot, bar, base);
    const enable = bar.kind === "io" ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    decode.set(place.slot, (decode.get(place.slot) ?? 0) | enable);
  }
  for (const [{ slot }, former] of command) {
    const passing = isBridge(slot) ? PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER : 0;
    slot.configWrite(PCI_COMMAND, 2, former | (decode.get(slot) ?? 0) | passing);
  }
  routeInterrupts(machine, present, options.irqs ?? [10, 10, 11, 11]);
  return bars.map(
    ({ place: { bdf }, base, bar: { index, kind, size, prefetchable } }): AssignedResource => ({
      bdf,
      base,
      index,
      kind,
      size,
      prefetchable,
    }),
  );
};

/** Puts configuration space into memory where the host bridge can, as SeaBIOS does. @returns its end; 0: it cannot */
const placeEcam = (places: readonly Place[]): number => {
  const mch = places.find(({ slot }) => slot instanceof MemoryController)?.slot;
  if (mch === undefined) return 0;
  mch.configWrite(MCH_REGISTERS_AT + MCH_PCIEXBAR, 4, 0);
  mch.configWrite(MCH_REGISTERS_AT + MCH_PCIEXBAR_UPPER, 4, 0);
  mch.configWrite(MCH_REGISTERS_AT + MCH_PCIEXBAR, 4, ECAM_BASE + MCH_PCIEXBAREN);
  return ECAM_BASE + ECAM_SIZE;
};

const topOf = (machine: Platform, limit: number): number =>
  Math.max(0, ...machine.memory.windows.map(({ base, size }) => base + size).filter((end) => end <= limit));

const memoryRange = (machine: Platform, ecamEnd: number): readonly [number, number] => [
  Math.max(MEMORY_START, topOf(machine, HIGH_START), ecamEnd),
  MEMORY_END,
];

/** Depth-first, each bridge before what is behind it. */
const numberBuses = (places: readonly Place[]): void => {
  let last = 0;
  const numberBehind = (segment: BusSegment | null, own: number): void => {
    for (const place of places) {
      if (place.segment !== segment || !isBridge(place.slot)) continue;
      const { slot } = place;
      last++;
      const secondary = last;
      slot.configWrite(PCI_PRIMARY_BUS, 1, own);
      slot.configWrite(PCI_SECONDARY_BUS, 1, secondary);
      slot.configWrite(PCI_SUBORDINATE_BUS, 1, LAST_BUS);
      numberBehind(place.segment.behind(place.devfn), secondary);
      slot.configWrite(PCI_SUBORDINATE_BUS, 1, last);
    }
  };
  numberBehind(places[0]?.segment ?? null, 0);
};

/** With room for what is plugged behind bridges later, or without where that does not fit. */
const planFor = (machine: Platform, places: readonly Place[], options: Ranges): Plan => {
  const full: Room = { io: 0x1000, memory: 0x20_0000 };
  try {
    return planIn(machine, new Plan(places, full), places[0]?.segment ?? null, options);
  } catch (error) {
    if (!(error instanceof ConfigError) || !places.some(({ slot }) => isBridge(slot))) throw error;
    return planIn(machine, new Plan(places, { io: 0, memory: 0 }), places[0]?.segment ?? null, options);
  }
};

const planIn = (machine: Platform, plan: Plan, root: BusSegment | null, options: Ranges): Plan => {
  const [ioStart, ioEnd] = options.io ?? [0xc000, 0x1_0000];
  const [memStart, memEnd] = options.memory;
  const io = new Window(ioStart, ioEnd);
  const low = new Window(memStart, memEnd);
  const high = new Window(Math.max(HIGH_START, topOf(machine, Number.MAX_SAFE_INTEGER)), 2 ** 52);
  for (const wish of plan.wishesOf(root).sort((a, b) => b.rank - a.rank)) {
    const { space, size, align, wide, what } = wish;
    let base = (space === "io" ? io : low).take(size, align);
    if (base < 0 && wide) base = high.take(size, align);
    if (base < 0) throw new ConfigError("resources-exhausted", `no room for ${what}`);
    wish.place(base);
  }
  return plan;
};

const writeBar = (slot: Slot, { index, kind }: BarInfo, base: number): void => {
  const rom = isBridge(slot) ? PCI_ROM_ADDRESS1 : PCI_ROM_ADDRESS;
  const at = index === PCI_ROM_RESOURCE ? rom : PCI_BASE_ADDRESS_0 + 4 * index; // the ROM's enable bit stays 0
  slot.configWrite(at, 4, base % 2 ** 32);
  if (kind === "mem64") slot.configWrite(at + 4, 4, Math.floor(base / 2 ** 32));
};

const routeInterrupts = (
  machine: Platform,
  places: readonly Place[],
  irqs: readonly [number, number, number, number],
): void => {
  const legal = [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15];
  let levels = machine.ioRead(ELCR1, 1) | (machine.ioRead(ELCR2, 1) << 8);
  for (const [pirq, irq] of irqs.entries()) {
    if (!legal.includes(irq))
      throw new ConfigError("resource-irq", `interrupt ${irq} for PIRQ ${pirq}; expected one of ${legal.join(", ")}`);
    machine.configWrite(ISA_BRIDGE, PIIX_PIRQC + pirq, 1, irq);
    levels |= 1 << irq;
  }
  machine.ioWrite(ELCR1, 1, levels & 0xff);
  machine.ioWrite(ELCR2, 1, levels >>> 8);
  for (const { slot, order } of places) {
    const pin = slot.configRead(PCI_INTERRUPT_PIN, 1);
    if (pin >= 1 && pin <= 4)
      slot.configWrite(PCI_INTERRUPT_LINE, 1, irqs[pirqBehind(order, pin - 1) as 0 | 1 | 2 | 3]);
  }
};
