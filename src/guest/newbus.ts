import type { GuestBus } from "../contract/index.js";
import type { Bouncing } from "./bus-dma.js";
import { type AnyClass, type AnyDriver, DeviceNode, Handle, type Internals } from "./device-node.js";
import { attachFailedLine, attachLine, detachedLine, disabledLine, nomatchLine } from "./dmesg.js";
import { InterruptLines, PolledMachine, SoftInterrupts } from "./interrupts.js";
import { ROOT, registerPci } from "./pci-bus.js";
import type { PciHost } from "./pci-host.js";
import { Rman } from "./rman.js";
import {
  AttachError,
  type Bid,
  BUS_PASS_DEFAULT,
  BUS_PROBE_NOWILDCARD,
  BusError,
  type BusEvent,
  type ChildHooks,
  type DetachReason,
  DeviceGoneError,
  type DeviceInfo,
  type Driver,
  type PnpMatch,
} from "./types.js";
import { Units } from "./units.js";

export interface NewbusOptions {
  /** `hint.re.1.at: "pci0:4:0"` wires a unit to a place, `hint.re.0.disabled: "1"` refuses attach. device.hints(5) */
  readonly hints?: Readonly<Record<string, string>>;
  /** Told every line of the message buffer, without its end. */
  readonly log?: (line: string) => void;
  /** Linux behaviour: when attach fails, the next best bidder gets its turn. Default false: newbus behaviour */
  readonly tryNextOnFailure?: boolean;
  /** `scan` goes up to this pass; default BUS_PASS_DEFAULT, see `setPass` */
  readonly maxPass?: number;
  /** `always` bounces every DMA load, so that a missing sync shows. Default `needed` */
  readonly bouncing?: Bouncing;
  /** Where the host bridge passes cycles on, for BARs that firmware has left unassigned; inclusive. */
  readonly windows?: {
    readonly memory?: readonly [start: number, end: number];
    readonly ports?: readonly [start: number, end: number];
  };
}

/** Ports and memory of a PC below the chip set's own ranges. Firmware's places are there, too. */
const PC_PORTS = [0xc000, 0xffff] as const;
const PC_MEMORY = [0xe000_0000, 0xfebf_ffff] as const;
const LAST_BUS = 0xff;
const LAST_PORT = 0xffff;
const LAST_IRQ = 15;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** How far a match table row fits: the number of its fields, or −1. */
const fit = (bus: AnyClass, view: object, row: PnpMatch): number =>
  bus.matches(view, row) ? Object.entries(row).filter(([key, v]) => v !== undefined && key !== "classMask").length : -1;

/** A bid that counts. */
interface Candidate {
  readonly driver: AnyDriver;
  readonly bid: Bid;
  readonly fields: number;
}

/**
 * The tree of devices: elections, units, passes, events, detach. The shape is FreeBSD's subr_bus.c, synchronous.
 *
 * Life: `new Newbus(bus)` → `register` drivers → `scan` → `poll` delivers interrupts → `rescan` after hot-plug →
 * `detach`, `suspend` and `resume` → `shutdown`.
 */
export class Newbus {
  /** The machine with a turn for scheduled handlers in its `poll` and `delay`: poll this one. */
  readonly machine: GuestBus;
  readonly #log: (line: string) => void;
  readonly #tryNext: boolean;
  readonly #drivers: AnyDriver[] = []; // in the order of registration
  readonly #units: Units; // devclass: one per driver name, whatever the bus
  readonly #listeners = new Set<{ readonly fn: (event: BusEvent) => void }>();
  readonly #root = new DeviceNode(null, null, {});
  readonly #internals: Internals;
  #maxPass: number;
  #pass = 0;
  #scanned = false;
  readonly #late: unknown[] = []; // thrown while devices vanished: told when everything is done

  /** @throws ConfigError `hint` */
  constructor(bus: GuestBus, options: NewbusOptions = {}) {
    const { hints = {}, log = () => {}, tryNextOnFailure = false, maxPass = BUS_PASS_DEFAULT } = options;
    const { bouncing = "needed", windows: { memory = PC_MEMORY, ports = PC_PORTS } = {} } = options;
    this.#log = log;
    this.#units = new Units(hints);
    this.#tryNext = tryNextOnFailure;
    this.#maxPass = maxPass;
    const soft = new SoftInterrupts();
    this.machine = new PolledMachine(bus, soft);
    this.#internals = {
      log: (line) => this.#log(line),
      add: (parent, busClass, ivars, hooks) => this.#add(parent, busClass, ivars, hooks),
      probeAndAttach: (node) => this.#probeAndAttach(node),
      vanish: (node) => this.#vanish(node),
      dispose: (node) => this.#dispose(node),
    };
    this.#root.state = "attached";
    this.#root.className = "root";
    this.#root.unit = 0;
    this.#root.desc = "System root bus";
    this.#root.handle = new Handle(this.#internals, this.#root, "root0");
    this.#root.serves.add(ROOT as unknown as AnyClass);
    const host: PciHost = {
      bus,
      machine: this.machine,
      memory: new Rman("I/O memory addresses"),
      ports: new Rman("I/O ports", 0, LAST_PORT),
      irqs: new Rman("Interrupt request lines", 0, LAST_IRQ),
      lines: new InterruptLines(bus, soft, this.#log),
      soft,
      bouncing,
      buses: new Set(),
      lastBus: LAST_BUS,
      log: this.#log,
    };
    host.memory.manageRegion(host.memory.start, host.memory.end);
    host.ports.manageRegion(0, LAST_PORT);
    host.irqs.manageRegion(0, LAST_IRQ);
    registerPci((driver) => this.register(driver), host, { memory, ports });
  }

  /**
   * Registers a driver; after the first `scan` it is offered every device that has none. Disposing detaches its devices:
   * a refusal is thrown and leaves the registration as it is.
   * @throws BusError EINVAL without a name, EBUSY when the bus class has a driver of that name
   */
  register<P extends object, A extends P, S = void>(driver: Driver<P, A, S>): Disposable {
    const any = driver as unknown as AnyDriver;
    if (any.name === "") throw new BusError("EINVAL", "a driver without a name");
    if (this.#drivers.some((d) => d.name === any.name && d.bus === any.bus))
      throw new BusError("EBUSY", `driver ${any.name} is registered on ${any.bus.name} already`);
    this.#drivers.push(any);
    if (this.#scanned) this.#driverAdded(any);
    let registered = true;
    return {
      [Symbol.dispose]: () => {
        if (!registered) return;
        this.#collecting(() => this.#unregister(any));
        registered = false;
      },
    };
  }

  /** Walks the tree once per pass that is in use, up to `maxPass`. Again: offers every device that has no driver once more. */
  scan(): void {
    if (this.#scanned) this.#walk(this.#root, this.#pass, true);
    else {
      this.#scanned = true;
      this.#climb(0, this.#maxPass);
    }
  }

  /**
   * Looks for devices that came, went or were exchanged.
   * @throws AggregateError when drivers threw while their devices vanished; everything has been done all the same
   */
  rescan(): void {
    this.#collecting(() => {
      for (const node of this.#root.topFirst()) {
        const { driver, handle } = node;
        if (node.attached && handle !== null) attempt(this.#late, () => driver?.rescan?.(handle, node.softc));
      }
    });
  }

  /** Goes on to a later pass: its drivers become eligible. @throws BusError EINVAL to go back */
  setPass(pass: number): void {
    if (!this.#scanned) this.#maxPass = pass;
    else {
      if (pass < this.#pass) throw new BusError("EINVAL", `pass ${pass} is below the current ${this.#pass}`);
      const from = this.#pass;
      this.#maxPass = pass;
      if (pass > from) this.#climb(from + 1, pass);
    }
  }

  /** Delivers interrupts: `machine.poll()`. @returns whether a handler ran */
  poll(): boolean {
    return this.machine.poll();
  }

  /** The tree as it is now, from the root. */
  tree(): DeviceInfo {
    return this.#info(this.#root);
  }

  /** Told every attach, detach, failure, leak and device without driver; what it throws is logged. */
  on(listener: (event: BusEvent) => void): Disposable {
    const entry = { fn: listener };
    this.#listeners.add(entry);
    return { [Symbol.dispose]: () => void this.#listeners.delete(entry) };
  }

  /** The softc of an attached device: what its driver's attach returned. @throws BusError ENXIO */
  softc<T>(nameunit: string): T {
    const node = this.#find(nameunit);
    if (!node.attached) throw new BusError("ENXIO", `${nameunit} is ${node.state}`);
    return node.softc as T;
  }

  /**
   * Detaches a device and all below it, deepest first.
   * @throws BusError as the first driver that refuses, EBUSY while it is in use, ENXIO when there is no such device;
   *   AggregateError for what was thrown while resources were released: all are released then
   */
  detach(nameunit: string, reason: DetachReason = "unload"): void {
    const node = this.#find(nameunit);
    this.#collecting(() => {
      if (reason === "surprise") this.#vanish(node);
      else this.#detach(node, reason, this.#late);
    });
  }

  /** Suspends all devices, children first. A veto resumes those that were suspended, and is thrown. */
  suspend(): void {
    const done: DeviceNode[] = [];
    for (const node of this.#root.deepestFirst()) {
      if (!node.attached || node.suspended || node.handle === null) continue;
      try {
        node.driver?.suspend?.(node.handle, node.softc);
      } catch (error) {
        for (const suspended of done.reverse()) this.#resume(suspended);
        throw error;
      }
      node.suspended = true;
      done.push(node);
      this.#serve(node, "suspended", () => node.bus?.services?.suspended?.(node.ivars));
    }
  }

  /** Resumes all suspended devices, parents first; what drivers throw is logged. */
  resume(): void {
    for (const node of this.#root.topFirst()) this.#resume(node);
  }

  /** Silences DMA and interrupts of all devices, children first. They stay attached; what drivers throw is logged. */
  shutdown(): void {
    for (const node of this.#root.deepestFirst()) {
      if (!node.attached || node.handle === null) continue;
      const { driver, handle } = node;
      this.#serve(node, "shutdown", () => driver?.shutdown?.(handle, node.softc));
      this.#serve(node, "shutdown", () => node.bus?.services?.shutdown?.(node.ivars));
    }
  }

  // ------------------------------------------------------------------------------------------------ passes

  /** Raises the pass level by level; only levels at which a driver stands, and the last one, are walked. */
  #climb(from: number, to: number): void {
    const levels = new Set([to]);
    for (const driver of this.#drivers) {
      const pass = driver.pass ?? BUS_PASS_DEFAULT;
      if (pass >= from && pass < to) levels.add(pass);
    }
    for (const level of [...levels].sort((a, b) => a - b)) {
      this.#pass = level;
      this.#walk(this.#root, level, false);
    }
  }

  /** Offers devices without driver to those that became eligible, or to all. */
  #walk(node: DeviceNode, level: number, all: boolean): void {
    this.#identifyAll(node);
    for (const child of [...node.children]) {
      if (child.attached) this.#walk(child, level, all);
      else if (all || !child.asked || this.#serving(child.bus).some((d) => (d.pass ?? BUS_PASS_DEFAULT) === level))
        this.#probeAndAttach(child);
      else if (child.nobody) this.#nomatch(child);
    }
  }

  /** Drivers of a bus class, then of the class it is derived from; registration order. */
  #serving(bus: AnyClass | null): AnyDriver[] {
    const found: AnyDriver[] = [];
    for (let at: AnyClass | null | undefined = bus; at != null; at = at.parent)
      found.push(...this.#drivers.filter((driver) => driver.bus === at));
    return found;
  }

  #eligible(driver: AnyDriver): boolean {
    return (driver.pass ?? BUS_PASS_DEFAULT) <= this.#pass;
  }

  // ------------------------------------------------------------------------------------------------ children

  #add(parent: DeviceNode, bus: AnyClass, ivars: object, hooks?: ChildHooks): DeviceNode {
    const node = new DeviceNode(parent, bus, ivars, hooks);
    parent.serves.add(bus);
    parent.children.push(node);
    return node;
  }

  /** Runs identify of the drivers that this bus instance has not met, and offers what they added. */
  #identifyAll(node: DeviceNode): void {
    if (!node.attached) return;
    for (const bus of [...node.serves])
      for (const driver of this.#serving(bus)) if (this.#eligible(driver)) this.#identify(node, bus, driver);
  }

  #identify(node: DeviceNode, bus: AnyClass, driver: AnyDriver): void {
    if (driver.identify === undefined || node.identified.has(driver)) return;
    node.identified.add(driver);
    const added: DeviceNode[] = [];
    try {
      driver.identify((ivars) => {
        const view = bus.view?.(ivars) ?? ivars;
        const known = node.children.some(
          (child) =>
            child.bus === bus &&
            child.hooks.driver === driver.name &&
            (child.ivars === ivars || (child.location === bus.location(view) && child.pnpinfo === bus.pnpinfo(view))),
        );
        if (!known) added.push(this.#add(node, bus, ivars, { driver: driver.name }));
      });
    } catch (error) {
      this.#log(`${node.nameunit}: identify of ${driver.name} threw: ${messageOf(error)}`);
    }
    for (const child of added) this.#probeAndAttach(child);
  }

  /** Offers a new driver what has none; the others bid, too. */
  #driverAdded(driver: AnyDriver): void {
    if (!this.#eligible(driver)) return;
    for (const node of [...this.#root.topFirst()]) {
      if (!node.attached) continue;
      for (const bus of [...node.serves]) {
        if (!this.#serving(bus).includes(driver)) continue;
        this.#identify(node, bus, driver);
        for (const child of [...node.children]) {
          if (child.bus !== bus || child.state !== "notpresent" || this.#fields(child, driver) < 0) continue;
          child.nomatchTold = false;
          this.#probeAndAttach(child);
        }
      }
    }
  }

  #unregister(driver: AnyDriver): void {
    const mine = [...this.#root.deepestFirst()].filter((node) => node.driver === driver);
    for (const node of mine) if (!node.removed) this.#detach(node, "unload", this.#late);
    this.#drivers.splice(this.#drivers.indexOf(driver), 1);
    for (const node of this.#root.topFirst()) {
      node.identified.delete(driver);
      if (node.disabled && node.className === driver.name && node.bus === driver.bus) this.#units.free(node);
    }
    for (const node of mine) {
      node.nomatchTold = false;
      if (!node.removed && this.#elect(node).length === 0) this.#nomatch(node);
    }
  }

  // ------------------------------------------------------------------------------------------------ election

  /** Fields of the best row of a driver's table for a child, 0 without a table; −1: it is not asked. */
  #fields(node: DeviceNode, driver: AnyDriver): number {
    if (node.bus === null || (node.hooks.driver !== undefined && node.hooks.driver !== driver.name)) return -1;
    if (driver.pnp === undefined) return 0;
    let best = -1;
    for (const row of driver.pnp) best = Math.max(best, fit(node.bus, node.view, row));
    return best;
  }

  /** Everybody who bids, the winner first: priority, then the longer match, then the order of registration. */
  #elect(node: DeviceNode): Candidate[] {
    const bidders: Candidate[] = [];
    for (const driver of this.#serving(node.bus)) {
      if (!this.#eligible(driver)) continue;
      const fields = this.#fields(node, driver);
      if (fields < 0) continue;
      const bid = this.#bid(node, driver);
      if (bid === null) continue;
      if (bid.priority === 0) {
        bidders.sort(byRank);
        return [{ driver, bid, fields }, ...bidders];
      }
      bidders.push({ driver, bid, fields });
    }
    return bidders.sort(byRank); // stable
  }

  #bid(node: DeviceNode, driver: AnyDriver): Bid | null {
    let bid: Bid | null;
    try {
      bid = driver.probe(node.view);
    } catch (error) {
      this.#log(`${driver.name}: probe of ${this.#where(node)} threw: ${messageOf(error)}`);
      return null;
    }
    if (bid === null) return null;
    if (!(bid.priority <= 0)) {
      this.#log(`${driver.name}: probe of ${this.#where(node)}: EINVAL: a bid of ${bid.priority}`);
      return null;
    }
    return bid.priority <= BUS_PROBE_NOWILDCARD && node.hooks.driver !== driver.name ? null : bid;
  }

  #where(node: DeviceNode): string {
    return [node.location, node.parent?.nameunit].filter((part) => part).join(" on ");
  }

  #probeAndAttach(node: DeviceNode): boolean {
    if (node.attached) return true;
    if (node.removed || node.gone || node.disabled || node.probing || node.state !== "notpresent") return false;
    node.probing = true;
    try {
      node.asked = true;
      const candidates = this.#elect(node);
      node.nobody = candidates.length === 0;
      if (node.nobody) this.#nomatch(node);
      for (const candidate of candidates) {
        if (node.removed || node.gone) break;
        if (this.#attach(node, candidate)) return true;
        if (!this.#tryNext || node.disabled) break;
      }
      return false;
    } finally {
      node.probing = false;
    }
  }

  #nomatch(node: DeviceNode): void {
    if (node.nomatchTold || node.bus === null || this.#pass < BUS_PASS_DEFAULT) return;
    node.nomatchTold = true;
    const { location, pnpinfo } = node;
    const parent = node.parent?.nameunit ?? "";
    this.#log(nomatchLine(node.bus.describe?.(node.view) ?? (pnpinfo || "unknown"), location, parent));
    this.#emit({ kind: "nomatch", nameunit: null, location, pnpinfo, parent });
  }

  // ------------------------------------------------------------------------------------------------ attach

  #attach(node: DeviceNode, { driver, bid }: Candidate): boolean {
    this.#units.take(node, driver.name);
    const nameunit = `${node.className}${node.unit}`;
    node.driver = driver;
    node.desc = bid.desc;
    node.state = "alive";
    if (this.#units.isDisabled(driver.name, node.unit)) {
      this.#log(disabledLine(nameunit));
      node.driver = null;
      node.state = "notpresent";
      node.disabled = true; // and keeps the unit, or the next device would be disabled in its place
      return false;
    }
    const handle = new Handle(this.#internals, node, nameunit);
    node.handle = handle;
    this.#log(attachLine(this.#info(node), this.#parentName(node)));
    node.state = "attaching";
    let returned = false;
    try {
      node.bus?.services?.attaching?.(node.ivars, nameunit);
      node.hooks.attaching?.();
      node.softc = driver.attach(handle);
      returned = true;
      if (!node.gone) node.hooks.attached?.();
      if (node.gone) throw new DeviceGoneError("ENXIO", `${nameunit} went away while it attached`);
    } catch (cause) {
      this.#attachFailed(node, driver, handle, nameunit, cause, returned);
      return false;
    }
    node.state = node.busy > 0 ? "busy" : "attached";
    const { location, pnpinfo } = node;
    this.#emit({ kind: "attach", nameunit, location, pnpinfo, parent: node.parent?.nameunit ?? "" });
    this.#identifyAll(node);
    return true;
  }

  #attachFailed(
    node: DeviceNode,
    driver: AnyDriver,
    handle: Handle,
    nameunit: string,
    cause: unknown,
    returned: boolean,
  ): void {
    const errors: unknown[] = [];
    for (const child of [...node.children].reverse()) this.#force(child, errors);
    if (returned) attempt(errors, () => driver.detach?.(handle, node.softc, node.gone ? "surprise" : "unload"));
    attempt(errors, () => node.bus?.services?.silence?.(node.ivars)); // its rings go next
    this.#release(node, handle, nameunit, errors);
    attempt(errors, () => node.hooks.failed?.());
    for (const error of errors) this.#log(`${nameunit}: after a failed attach: ${messageOf(error)}`);
    const code = cause instanceof BusError ? cause.code : "EDOOFUS";
    const error = new AttachError(code, `${nameunit}: ${messageOf(cause)}`, { cause });
    this.#log(attachFailedLine(nameunit, code));
    this.#units.free(node);
    node.state = node.gone ? "gone" : "notpresent";
    if (node.gone) this.#remove(node);
    this.#emit({ kind: "attach-failed", nameunit, error });
  }

  /** Empties the scope, lets the bus take back what is left, and removes the children. */
  #release(node: DeviceNode, handle: Handle, nameunit: string, errors: unknown[]): void {
    handle.resources.empty(errors);
    let leaks: readonly string[] = [];
    attempt(errors, () => {
      leaks = node.bus?.services?.detached?.(node.ivars) ?? [];
    });
    for (const resource of leaks) {
      this.#log(`${nameunit}: leaked ${resource}`);
      this.#emit({ kind: "leak", nameunit, resource });
    }
    for (const child of [...node.children]) this.#remove(child);
    node.serves.clear();
    node.identified.clear();
    node.handle = null;
    node.driver = null;
    node.softc = undefined;
    node.busy = 0;
    node.suspended = false;
  }

  // ------------------------------------------------------------------------------------------------ detach

  /** @param errors where what is thrown besides a refusal is collected; @throws BusError the refusal */
  #detach(node: DeviceNode, reason: DetachReason, errors: unknown[]): void {
    const { driver, handle, nameunit } = node;
    const forced = reason === "surprise";
    if (node.state === "attaching" || node.state === "detaching") {
      if (forced) return; // whoever is at it will see that it has gone
      throw new BusError("EBUSY", `${nameunit} is ${node.state}`);
    }
    if (!node.attached || driver === null || handle === null || nameunit === null) return;
    if (node.busy > 0 && !forced) throw new BusError("EBUSY", `${nameunit} is in use`);
    const before = node.state;
    node.state = "detaching";
    try {
      for (const child of [...node.children].reverse()) this.#detach(child, reason, errors);
      driver.detach?.(handle, node.softc, reason);
    } catch (error) {
      if (!forced && error instanceof BusError) {
        node.state = before;
        throw error;
      }
      errors.push(error); // a driver's mistake is no refusal
    }
    const { location, pnpinfo } = node;
    this.#release(node, handle, nameunit, errors);
    attempt(errors, () => node.hooks.detached?.());
    this.#log(detachedLine(nameunit));
    this.#units.free(node);
    node.state = node.gone ? "gone" : "notpresent";
    if (node.gone) this.#remove(node);
    this.#emit({ kind: "detach", nameunit, location, pnpinfo, parent: node.parent?.nameunit ?? "" });
  }

  /** Detaches whatever the driver says, since its parent has failed. */
  #force(node: DeviceNode, errors: unknown[]): void {
    try {
      this.#detach(node, "unload", errors);
    } catch (refusal) {
      errors.push(refusal);
      this.#detach(node, "surprise", errors);
    }
  }

  /** The device, and with it all below, is no longer there. */
  #vanish(node: DeviceNode): void {
    if (node.removed) return;
    for (const each of node.topFirst()) {
      if (each.gone) continue;
      each.gone = true;
      attempt(this.#late, () => each.bus?.services?.vanished?.(each.ivars));
    }
    this.#detach(node, "surprise", this.#late);
    if (node.state !== "notpresent") return; // removed by now, or by whoever is attaching or detaching it
    node.state = "gone";
    this.#remove(node);
  }

  /** A bus driver gives a child up. @throws BusError the refusal of its driver */
  #dispose(node: DeviceNode): void {
    if (node.removed) return;
    const errors: unknown[] = [];
    this.#detach(node, "unload", errors);
    this.#remove(node);
    if (errors.length > 0) throw aggregate(errors);
  }

  #remove(node: DeviceNode): void {
    if (node.removed) return;
    node.removed = true;
    for (const child of [...node.children]) this.#remove(child);
    if (node.unit >= 0) this.#units.free(node);
    const siblings = node.parent?.children;
    siblings?.splice(siblings.indexOf(node), 1);
  }

  // ------------------------------------------------------------------------------------------------ the rest

  #resume(node: DeviceNode): void {
    if (!node.suspended) return;
    node.suspended = false;
    const { driver, handle } = node;
    this.#serve(node, "resume", () => node.bus?.services?.resuming?.(node.ivars));
    if (handle !== null) this.#serve(node, "resume", () => driver?.resume?.(handle, node.softc));
  }

  /** Calls something whose failure stops nothing. */
  #serve(node: DeviceNode, what: string, fn: () => void): void {
    try {
      fn();
    } catch (error) {
      this.#log(`${node.nameunit}: ${what} threw: ${messageOf(error)}`);
    }
  }

  #find(nameunit: string): DeviceNode {
    for (const node of this.#root.topFirst()) if (node.nameunit === nameunit && node.driver !== null) return node;
    throw new BusError("ENXIO", `no device ${nameunit} with a driver`);
  }

  #parentName(node: DeviceNode): string {
    return node.parent === this.#root ? "motherboard" : (node.parent?.nameunit ?? "");
  }

  #info(node: DeviceNode): DeviceInfo {
    const flags = (["disabled", "suspended"] as const).filter((flag) => node[flag]);
    return {
      nameunit: node.nameunit,
      desc: node.desc,
      state: node.state,
      ...(flags.length > 0 && { flags }),
      bus: node.bus?.name ?? "",
      pnpinfo: node.pnpinfo,
      location: node.location,
      resources: node.bus?.services?.resources?.(node.ivars) ?? [],
      children: node.children.map((child) => this.#info(child)),
    };
  }

  #emit(event: BusEvent): void {
    for (const { fn } of [...this.#listeners]) {
      try {
        fn(event);
      } catch (error) {
        this.#log(`a listener threw at ${event.kind}: ${messageOf(error)}`);
      }
    }
  }

  /** Does all of it, then throws together what was thrown meanwhile; a refusal goes first, the rest is logged then. */
  #collecting(fn: () => void): void {
    let errors: unknown[] = [];
    try {
      fn();
    } catch (refusal) {
      errors = this.#late.splice(0);
      for (const error of errors) this.#log(messageOf(error));
      throw refusal;
    }
    errors = this.#late.splice(0);
    if (errors.length > 0) throw aggregate(errors);
  }
}

const byRank = (a: Candidate, b: Candidate): number => b.bid.priority - a.bid.priority || b.fields - a.fields;

const attempt = (errors: unknown[], fn: () => void): void => {
  try {
    fn();
  } catch (error) {
    errors.push(error);
  }
};

const aggregate = (errors: unknown[]): AggregateError =>
  new AggregateError(errors, `${errors.length} thrown meanwhile: ${errors.map(messageOf).join("; ")}`);
