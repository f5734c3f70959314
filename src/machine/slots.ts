import { ConfigError } from "../bytes/index.js";
import type {
  AccessWidth,
  Bdf,
  BridgeSlot,
  Clock,
  Diagnostic,
  GuestMemory,
  Slot,
  Strictness,
} from "../contract/index.js";
import {
  formatBdf,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MFD,
  PCI_INTERRUPT_PIN,
  PCI_MAX_BUSES,
  PCI_MAX_DEVICES,
  pciBdf,
  pciBus,
  pciDevice,
  pciFunction,
} from "../spec/pci.js";
import type { AddressSpace, Target } from "./address-space.js";
import { type PirqRouter, pirqBehind } from "./intx.js";
import { compareOrder, Place, type Spot } from "./place.js";
import { BusSegment, isBridge, type SegmentHost } from "./segment.js";
import type { WorkPolicy, WorkPool } from "./work.js";

/** Behind all BARs; of bridges, the deeper one's comes first. */
const HOLE_PRIORITY = 2 ** 40;
const BUS_1 = pciBdf(1, 0);

/** What a bridge passes down and nobody behind it answers. */
class Hole implements Target {
  readonly #bridge: BridgeSlot;
  readonly #nobody: Target;
  constructor(bridge: BridgeSlot, nobody: Target) {
    this.#bridge = bridge;
    this.#nobody = nobody;
  }
  barRead(bar: number, offset: number, width: AccessWidth): number {
    this.#bridge.masterAborted();
    return this.#nobody.barRead(bar, offset, width);
  }
  barWrite(): void {
    this.#bridge.masterAborted();
  }
}

/** What slots need of their machine. */
export interface SlotTreeSeams {
  readonly memory: GuestMemory;
  readonly clock: Clock;
  readonly strictness: Strictness;
  readonly report: (diagnostic: Diagnostic) => void;
  readonly io: AddressSpace;
  readonly mem: AddressSpace;
  readonly intx: PirqRouter;
  readonly work: WorkPool;
  readonly policy: WorkPolicy;
  readonly message: (address: number, data: number) => void;
}

const ELEMENT = "([0-9a-f]{1,2})(?:\\.([0-7]))?";
const PATH = new RegExp(`^(?:([0-9a-f]{1,2}):)?${ELEMENT}((?:/${ELEMENT})*)$`, "i");

const badAddress = (where: string | Bdf) =>
  new ConfigError(
    "slot-address",
    `slot ${String(where)}; expected 00:00.0 … 00:1f.7, or a way through bridges as 00:05.0/04.0`,
  );

const devfnOf = (element: string): number => {
  const [device = "", fn = "0"] = element.split(".");
  return pciBdf(0, Number.parseInt(device, 16), Number(fn));
};

/** Slots of all buses: who is plugged where, how the CPU's accesses get there, and how theirs get out. */
export class SlotTree implements SegmentHost {
  readonly root: BusSegment;
  readonly #seams: SlotTreeSeams;
  #places: readonly Place[] = [];

  constructor(seams: SlotTreeSeams) {
    this.#seams = seams;
    this.root = new BusSegment(this, seams.memory);
  }

  /** In the order of their ways from the root; a bridge stands before what is behind it. */
  get places(): readonly Place[] {
    return this.#places;
  }

  /** @throws ConfigError `slot-address` where it is none @returns null: nobody there, or no such bus */
  slot(where: string | Bdf): Slot | null {
    const spot = this.#find(where);
    return typeof spot === "string" ? null : spot.segment.slot(spot.devfn);
  }

  plug(where: string | Bdf, slot: Slot, hotAdd: boolean): void {
    const spot = this.#spot(where);
    const { segment, devfn, path } = spot;
    const occupant = segment.slot(devfn);
    if (occupant !== null) throw new ConfigError("slot-occupied", `${slot.name}: ${path} is taken by ${occupant.name}`);
    this.#checkFunctions(spot, slot, hotAdd);
    const { io, mem, clock, report, strictness, message } = this.#seams;
    const pin = slot.configRead(PCI_INTERRUPT_PIN, 1);
    const line = pin === 0 ? null : this.#seams.intx.line(pirqBehind([...segment.order, devfn], pin - 1));
    const work = this.#seams.work.forFunction(this.#seams.policy, path);
    const place = new Place(spot, slot, work, line, message);
    try {
      slot.connect({
        memory: segment.memory,
        interrupts: place,
        clock,
        work,
        report,
        strictness,
        ...(segment.parent === null ? {} : { upstream: segment }),
      });
      slot.reset("power-on");
      if (isBridge(slot)) this.#connect(spot, slot);
    } catch (error) {
      work[Symbol.dispose]();
      throw error;
    }
    place.map(io, mem);
    place.barsChanged = slot.onBarsChanged(() => place.remap());
    segment.place(devfn, slot);
    this.#places = [...this.#places, place].sort((a, b) => compareOrder(a.order, b.order));
    this.#places.forEach((other, rank) => {
      other.rank = rank;
    });
    place.remap();
    segment.bridge?.occupied(pciDevice(devfn), true);
  }

  /** DMA, interrupts and work stop, then BARs go, then configuration space. */
  unplug(where: string | Bdf): Slot {
    const { segment, devfn, path } = this.#spot(where);
    const place = this.#places.find((other) => other.segment === segment && other.devfn === devfn);
    if (place === undefined) throw new ConfigError("slot-empty", `nothing to unplug at ${path}`);
    const { slot } = place;
    const behind = segment.behind(devfn);
    const left = behind?.slots()[0];
    if (left !== undefined)
      throw new ConfigError("bridge-occupied", `${path}: ${left.name} is plugged behind it; expected it to go first`);
    slot.disconnect();
    place.unmap();
    if (behind !== null) {
      behind.bridge?.connectSecondary(null);
      for (const hole of behind.holes) hole.remove();
      segment.remove(behind);
    }
    segment.place(devfn, null);
    this.#places = this.#places.filter((other) => other !== place);
    const rest = this.#places.some((other) => other.segment === segment && other.devfn >> 3 === devfn >> 3);
    segment.bridge?.occupied(pciDevice(devfn), rest);
    return slot;
  }

  // ---------------------------------------------------------------------------------------------- for buses

  remap(segment: BusSegment): void {
    for (const place of this.#places) if (place.segment === segment) place.remap();
    const { bridge } = segment;
    if (bridge === null) return;
    for (const hole of segment.holes) hole.remove();
    const { io, mem } = this.#seams;
    segment.holes = [io, mem].flatMap((space) =>
      (segment.reached(space === io ? "io" : "memory") ?? []).map(([start, end]) => {
        const mapping = space.add(new Hole(bridge, space.nobody), 0, end - start, HOLE_PRIORITY - segment.order.length);
        space.move(mapping, start);
        return { remove: () => space.remove(mapping) };
      }),
    );
  }

  resetBelow(segment: BusSegment): void {
    const { intx } = this.#seams;
    intx.hold(true);
    try {
      for (const slot of segment.slots()) slot.reset("bus");
    } finally {
      intx.hold(false);
    }
  }

  // ---------------------------------------------------------------------------------------------- within

  #connect({ segment, devfn, path }: Spot, bridge: BridgeSlot): void {
    const behind = new BusSegment(this, segment.memory, { parent: segment, bridge, devfn, path });
    bridge.connectSecondary(behind);
    segment.add(behind);
  }

  #checkFunctions({ segment, devfn, path }: Spot, slot: Slot, hotAdd: boolean): void {
    const isMulti = (fn: Slot): boolean => (fn.configRead(PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MFD) !== 0;
    const last = segment.bridge?.lastDevice ?? PCI_MAX_DEVICES - 1;
    if (pciDevice(devfn) > last)
      throw new ConfigError(
        "slot-address",
        `${slot.name}: ${path}; expected a device up to ${last} behind this bridge`,
      );
    if (isBridge(slot) && this.#places.filter((place) => isBridge(place.slot)).length >= PCI_MAX_BUSES - 1)
      throw new ConfigError("bus-numbers", `${slot.name} at ${path}: there are ${PCI_MAX_BUSES} buses already`);
    const first = pciFunction(devfn) === 0 ? slot : segment.slot(devfn & ~7);
    const others =
      pciFunction(devfn) !== 0 ||
      this.#places.some((place) => place.segment === segment && place.devfn >> 3 === devfn >> 3);
    if (first === null) {
      if (hotAdd) return;
      throw new ConfigError("no-function-0", `${slot.name}: ${path} has no function 0; expected it first`);
    }
    if (others && !isMulti(first))
      throw new ConfigError(
        "single-function",
        `${slot.name} at ${path}: ${first.name} is function 0 and does not show bit 7 of Header Type`,
      );
  }

  #spot(where: string | Bdf): Spot {
    const spot = this.#find(where);
    if (typeof spot === "string") throw new ConfigError("no-bus", `slot ${String(where)}: ${spot}`);
    return spot;
  }

  /** @throws ConfigError `slot-address` @returns what is missing, where no such bus is there */
  #find(where: string | Bdf): Spot | string {
    const text = typeof where === "number" ? this.#numbered(where) : where;
    const match = PATH.exec(text);
    if (match === null) throw badAddress(where);
    const bus = Number.parseInt(match[1] ?? "0", 16);
    let segment: BusSegment | null = bus === 0 ? this.root : this.root.find(bus);
    if (segment === null) return `no bridge leads to bus ${bus}`;
    let devfn = -1;
    let path = segment.path;
    for (const element of text.slice(match[1] === undefined ? 0 : match[1].length + 1).split("/")) {
      if (devfn >= 0) segment = segment.behind(devfn);
      if (segment === null) return `${path} is no bridge`;
      devfn = devfnOf(element);
      if (pciDevice(devfn) >= PCI_MAX_DEVICES || Number.parseInt(element, 16) >= PCI_MAX_DEVICES)
        throw badAddress(where);
      path = path === "" ? formatBdf(devfn) : `${path}/${formatBdf(devfn).slice(3)}`;
    }
    return { segment, devfn, path };
  }

  #numbered(bdf: Bdf): string {
    if (!(Number.isInteger(bdf) && bdf >= 0 && bdf < PCI_MAX_BUSES * BUS_1)) throw badAddress(bdf);
    return `${pciBus(bdf).toString(16)}:${formatBdf(bdf).slice(3)}`;
  }
}
