import type { BarHandler, GuestBus } from "../../../contract/index.js";
import {
  type BusClass,
  BusError,
  type BusSpace,
  type ChildHooks,
  type Device,
  type DmaConstraints,
  type DmaTag,
  type Driver,
  type InterruptCookie,
  type InterruptHandler,
  type Irq,
  type PciAttach,
  ResourceError,
} from "../../types.js";
import type { VirtioAttach, VirtioProbe } from "../virtio-bus.js";
import { SplitMemory } from "./split-memory.js";

/** A BAR of a scripted function. */
export interface FakeBar {
  readonly type: "memory" | "ioport";
  readonly size: number;
  readonly handler: BarHandler;
}

/** What a test says about the function. */
export interface FakeIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly subdevice?: number;
  readonly revid?: number;
}

interface Installed {
  readonly irq: Irq;
  readonly handler: InterruptHandler;
  scheduled: boolean;
}

/** A PCI function as its driver holds it, scripted: interrupts come when the test says `fire`, time passes in `delay`. */
export class FakePci implements PciAttach {
  readonly bdf = 0x18;
  readonly vendor: number;
  readonly device: number;
  readonly subvendor = 0x1af4;
  readonly subdevice: number;
  readonly class = 0x02_00_00;
  readonly revid: number;
  readonly intpin = 1;
  readonly irq = 11;
  readonly machine: GuestBus;
  readonly memory: SplitMemory;
  readonly config = new Uint8Array(256);
  readonly caps: number[] = []; // offsets, in order
  readonly bars = new Map<number, FakeBar>(); // by rid
  /** messages that `allocMsix` and `allocMsi` give at most */
  msix = 0;
  msi = 0;
  busMaster = false;
  /** windows, interrupts and handlers in use */
  live = 0;
  ns = 0;
  /** runs in every `delay` */
  whileWaiting: () => void = () => {};
  readonly installed: Installed[] = [];

  constructor(identity: FakeIdentity, memory = new SplitMemory(0x20_0000)) {
    this.vendor = identity.vendor;
    this.device = identity.device;
    this.subdevice = identity.subdevice ?? 0;
    this.revid = identity.revid ?? 0;
    this.memory = memory;
    this.machine = {
      dma: memory,
      delay: (us: number) => {
        this.ns += us * 1000;
        this.whileWaiting();
      },
      poll: () => this.runScheduled(),
      now: () => this.ns,
    } as unknown as GuestBus;
  }

  readConfig(offset: number, width: 1 | 2 | 4): number {
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + this.config[offset + i]!;
    return value;
  }
  writeConfig(): void {}
  findCap(id: number, after?: number): number | null {
    const from = after === undefined ? 0 : this.caps.indexOf(after) + 1;
    return this.caps.slice(from).find((cap) => this.config[cap] === id) ?? null;
  }
  findExtCap(): null {
    return null;
  }
  enableBusMaster(on: boolean): void {
    this.busMaster = on;
  }
  getPowerState(): number {
    return 0;
  }
  setPowerState(): void {}

  alloc(type: "memory" | "ioport", rid: number): BusSpace {
    const bar = this.bars.get(rid);
    if (bar === undefined || bar.type !== type) throw new ResourceError("ENXIO", `no ${type} at ${rid}`);
    const { handler, size } = bar;
    this.live++;
    return {
      type,
      rid,
      start: 0,
      size,
      read1: (offset) => handler.read(offset, 1),
      read2: (offset) => handler.read(offset, 2),
      read4: (offset) => handler.read(offset, 4),
      write1: (offset, value) => handler.write(offset, 1, value),
      write2: (offset, value) => handler.write(offset, 2, value),
      write4: (offset, value) => handler.write(offset, 4, value),
      [Symbol.dispose]: () => this.live--,
    };
  }

  msixCount(): number {
    return this.msix;
  }
  msiCount(): number {
    return this.msi;
  }
  allocIntx(): Irq {
    return this.#irq("intx", 0);
  }
  allocMsi(n: number): Irq[] {
    if (this.msi === 0) throw new ResourceError("ENXIO", "no MSI");
    return Array.from({ length: Math.min(n, this.msi) }, (_, i) => this.#irq("msi", i + 1));
  }
  allocMsix(n: number): Irq[] {
    if (this.msix === 0) throw new ResourceError("ENXIO", "no MSI-X");
    const cap = this.findCap(0x11)!;
    this.config[cap + 3]! |= 0x80;
    return Array.from({ length: Math.min(n, this.msix) }, (_, i) => this.#irq("msix", i + 1));
  }
  #irq(kind: Irq["kind"], rid: number): Irq {
    this.live++;
    return {
      kind,
      rid,
      number: rid,
      [Symbol.dispose]: () => {
        this.live--;
        if (kind === "msix") this.config[this.findCap(0x11)! + 3]! &= 0x7f;
      },
    };
  }

  setupIntr(irq: Irq, handler: InterruptHandler): InterruptCookie {
    const entry: Installed = { irq, handler, scheduled: false };
    this.installed.push(entry);
    this.live++;
    return {
      schedule: () => {
        entry.scheduled = true;
      },
      [Symbol.dispose]: () => {
        this.installed.splice(this.installed.indexOf(entry), 1);
        this.live--;
      },
    };
  }

  /** An interrupt by rid: 0 the pin, 1 … messages. @returns what a filter said, or null */
  fire(rid: number): string | null {
    let said: string | null = null;
    for (const { irq, handler } of [...this.installed]) {
      if (irq.rid !== rid) continue;
      said = handler.filter?.() ?? null;
      if (said === null || said.includes("schedule")) handler.handler?.();
    }
    return said;
  }

  runScheduled(): boolean {
    const due = this.installed.filter((entry) => entry.scheduled);
    for (const entry of due) {
      entry.scheduled = false;
      entry.handler.handler?.();
    }
    return due.length > 0;
  }

  dmaTag(constraints?: Partial<DmaConstraints>): DmaTag {
    return this.memory.tag().child(constraints ?? {});
  }
}

/** A device that is attached, and the way to end it. */
export interface Attached<S> {
  readonly softc: S;
  readonly lines: string[];
  /** children that attached: softc by name of the driver */
  readonly children: Map<string, unknown>;
  detach(): void;
}

type ChildDriver = Driver<VirtioProbe, VirtioAttach, unknown>;

/** Attaches a driver without a Newbus: a scope, and children that the given drivers probe. */
export const attachDriver = <P extends object, A extends P, S>(
  driver: Driver<P, A, S>,
  bus: A,
  childDrivers: readonly ChildDriver[] = [],
  lines: string[] = [],
  children: Map<string, unknown> = new Map(),
): Attached<S> => {
  const scope: (() => void)[] = [];
  const childEnds: (() => void)[] = [];
  const release = () => {
    for (const undo of scope.splice(0).reverse()) undo();
  };
  const dev: Device<A> = {
    nameunit: `${driver.name}0`,
    unit: 0,
    state: "attaching",
    bus,
    resources: {
      use: (resource) => {
        scope.push(() => resource[Symbol.dispose]());
        return resource;
      },
      defer: (undo) => void scope.push(undo),
    },
    busy: () => ({ [Symbol.dispose]() {} }),
    log: (message) => void lines.push(`${driver.name}0: ${message}`),
    addChild: <P2 extends object, A2 extends P2>(_class: BusClass<P2, A2>, ivars: A2, hooks: ChildHooks = {}) => {
      const transport = ivars as unknown as VirtioAttach; // the one kind of child that there is
      let child: Attached<unknown> | null = null;
      const end = () => {
        const had = child;
        child = null;
        if (had === null) return;
        had.detach();
        hooks.detached?.();
      };
      childEnds.push(end);
      return {
        nameunit: null,
        vanish: end,
        [Symbol.dispose]: end,
        probeAndAttach: () => {
          const winner = childDrivers.find((d) => d.probe(transport) !== null);
          if (winner === undefined) return false;
          hooks.attaching?.();
          try {
            child = attachDriver(winner, transport, childDrivers, lines, children);
          } catch (error) {
            if (!(error instanceof BusError)) throw error;
            lines.push(`${winner.name}0: attach: ${error.message}`);
            hooks.failed?.();
            return false;
          }
          children.set(winner.name, child.softc);
          hooks.attached?.();
          return true;
        },
      };
    },
  };
  let softc: S;
  try {
    softc = driver.attach(dev);
  } catch (error) {
    driver.bus.services?.silence?.(bus);
    release();
    throw error;
  }
  return {
    softc,
    lines,
    children,
    detach: () => {
      for (const end of childEnds) end(); // deepest first
      driver.detach?.(dev, softc, "unload");
      release();
    },
  };
};
