import {
  type BusClass,
  type ChildHandle,
  type ChildHooks,
  type Device,
  type DeviceState,
  type Driver,
  ResourceError,
  type ResourceScope,
} from "./types.js";

// Drivers of all types stand in one table; who reads it gives each only what its own bus class made.
export type AnyClass = BusClass<object, object>;
export type AnyDriver = Driver<object, object, unknown>;

/** One device of the tree. */
export class DeviceNode {
  readonly parent: DeviceNode | null;
  /** class it hangs on; null for the root */
  readonly bus: AnyClass | null;
  readonly ivars: object;
  readonly view: object;
  readonly hooks: ChildHooks;
  children: DeviceNode[] = [];
  /** classes of the children that it has, or had */
  readonly serves = new Set<AnyClass>();
  /** drivers whose identify has run on this bus instance */
  readonly identified = new Set<AnyDriver>();
  state: DeviceState = "notpresent";
  driver: AnyDriver | null = null;
  /** name of its devclass while it has a unit */
  className = "";
  unit = -1;
  desc = "";
  softc: unknown = undefined;
  handle: Handle | null = null;
  busy = 0;
  /** by a hint; it keeps its unit */
  disabled = false;
  suspended = false;
  /** vanished from the machine */
  gone = false;
  /** no longer in the tree */
  removed = false;
  probing = false;
  /** has been through an election */
  asked = false;
  /** nobody bid in the last one */
  nobody = false;
  nomatchTold = false;

  constructor(parent: DeviceNode | null, bus: AnyClass | null, ivars: object, hooks: ChildHooks = {}) {
    this.parent = parent;
    this.bus = bus;
    this.ivars = ivars;
    this.view = bus?.view?.(ivars) ?? ivars;
    this.hooks = hooks;
  }

  get nameunit(): string | null {
    return this.unit < 0 ? null : `${this.className}${this.unit}`;
  }

  get attached(): boolean {
    return this.state === "attached" || this.state === "busy";
  }

  get location(): string {
    return this.bus?.location(this.view) ?? "";
  }

  get pnpinfo(): string {
    return this.bus?.pnpinfo(this.view) ?? "";
  }

  /** This and all below, deepest first. */
  *deepestFirst(): Generator<DeviceNode> {
    for (const child of [...this.children].reverse()) yield* child.deepestFirst();
    yield this;
  }

  /** This and all below, itself first. */
  *topFirst(): Generator<DeviceNode> {
    yield this;
    for (const child of [...this.children]) yield* child.topFirst();
  }
}

/** What a driver put in is released in reverse order; every release runs, whatever the others throw. */
export class Scope implements ResourceScope {
  readonly #owner: string;
  #releases: (() => void)[] | null = [];

  constructor(owner: string) {
    this.#owner = owner;
  }

  use<T extends Disposable>(resource: T): T {
    if (this.#releases === null) {
      resource[Symbol.dispose]();
      throw new ResourceError("EINVAL", `${this.#owner}: resources used after detach`);
    }
    this.#releases.push(() => resource[Symbol.dispose]());
    return resource;
  }

  defer(release: () => void): void {
    if (this.#releases === null) throw new ResourceError("EINVAL", `${this.#owner}: resources used after detach`);
    this.#releases.push(release);
  }

  empty(errors: unknown[]): void {
    for (let releases = this.#releases ?? []; releases.length > 0; ) {
      try {
        releases.pop()?.();
      } catch (error) {
        errors.push(error);
      }
      releases = this.#releases ?? []; // a release may have put something in
    }
    this.#releases = null;
  }
}

/** A device as its driver holds it, for the time of one attach. */
export class Handle implements Device<object> {
  readonly nameunit: string;
  readonly unit: number;
  readonly bus: object;
  readonly resources: Scope;
  readonly #node: DeviceNode;
  readonly #newbus: Internals;

  constructor(newbus: Internals, node: DeviceNode, nameunit: string) {
    this.#newbus = newbus;
    this.#node = node;
    this.nameunit = nameunit;
    this.unit = node.unit;
    this.bus = node.ivars;
    this.resources = new Scope(nameunit);
  }

  get state(): DeviceState {
    const node = this.#node;
    if (node.handle === this) return node.state;
    return node.gone ? "gone" : "notpresent";
  }

  busy(): Disposable {
    const node = this.#node;
    if (node.handle !== this) throw new ResourceError("EINVAL", `${this.nameunit} has been detached`);
    node.busy++;
    if (node.state === "attached") node.state = "busy";
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        if (node.handle !== this) return;
        node.busy--;
        if (node.busy === 0 && node.state === "busy") node.state = "attached";
      },
    };
  }

  log(message: string): void {
    this.#newbus.log(`${this.nameunit}: ${message}`);
  }

  addChild<P2 extends object, A2 extends P2>(bus: BusClass<P2, A2>, ivars: A2, hooks?: ChildHooks): ChildHandle {
    const parent = this.#node;
    if (parent.handle !== this) throw new ResourceError("EINVAL", `${this.nameunit} has been detached`);
    const node = this.#newbus.add(parent, bus as unknown as AnyClass, ivars, hooks);
    const newbus = this.#newbus;
    return {
      get nameunit() {
        return node.nameunit;
      },
      probeAndAttach: () => newbus.probeAndAttach(node),
      vanish: () => newbus.vanish(node),
      [Symbol.dispose]: () => newbus.dispose(node),
    };
  }
}

/** What a handle asks of the tree. */
export interface Internals {
  log(line: string): void;
  add(parent: DeviceNode, bus: AnyClass, ivars: object, hooks?: ChildHooks): DeviceNode;
  probeAndAttach(node: DeviceNode): boolean;
  vanish(node: DeviceNode): void;
  dispose(node: DeviceNode): void;
}
