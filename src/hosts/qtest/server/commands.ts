import { POINTER_BUTTONS } from "./cards.js";
import { MACHINE_ALIASES } from "./command-line.js";
import { optionsOf } from "./option-string.js";
import { pciListing } from "./query-pci.js";
import { StartupError } from "./startup-error.js";
import type { VirtualMachine } from "./vm.js";

/** An error of the protocol's own, with its class. */
export class QmpError extends Error {
  override readonly name = "QmpError";
  readonly errorClass: "GenericError" | "CommandNotFound" | "DeviceNotFound";
  readonly id: unknown;
  constructor(errorClass: QmpError["errorClass"], message: string, id?: unknown) {
    super(message);
    this.errorClass = errorClass;
    this.id = id;
  }
}

export type Arguments = { readonly [key: string]: unknown };

/** What a command returns, and what happens once that was sent. */
export interface Outcome {
  readonly reply: unknown;
  readonly after?: () => void;
}

type Command = (take: Taker) => Outcome | undefined;

/** The arguments of one command; what it does not take is an error. */
class Taker {
  readonly #given: Map<string, unknown>;
  constructor(given: Arguments) {
    this.#given = new Map(Object.entries(given));
  }

  optional<T>(name: string, isOne: (value: unknown) => value is T, type: string): T | undefined {
    const value = this.#given.get(name);
    this.#given.delete(name);
    if (value === undefined) return undefined;
    if (!isOne(value)) throw new QmpError("GenericError", `Invalid parameter type for '${name}', expected: ${type}`);
    return value;
  }

  #needed<T>(name: string, value: T | undefined): T {
    if (value === undefined) throw new QmpError("GenericError", `Parameter '${name}' is missing`);
    return value;
  }

  string(name: string): string {
    return this.#needed(name, this.optional(name, isString, "string"));
  }
  boolean(name: string): boolean {
    return this.#needed(name, this.optional(name, isBoolean, "boolean"));
  }
  integer(name: string): number {
    return this.#needed(name, this.optional(name, isCount, "integer"));
  }

  /** Everything, unread. */
  all(): Arguments {
    const all = Object.fromEntries(this.#given);
    this.#given.clear();
    return all;
  }

  done(): void {
    const [left] = this.#given.keys();
    if (left !== undefined) throw new QmpError("GenericError", `Parameter '${left}' is unexpected`);
  }
}

const isString = (value: unknown): value is string => typeof value === "string";
const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isStrings = (value: unknown): value is string[] => Array.isArray(value) && value.every(isString);

/** QEMU's types between a card and the root of all devices; what qtest's qos-test asks for. */
const TYPES: readonly { readonly name: string; readonly parent: string; readonly abstract?: true }[] = [
  { name: "device", parent: "object", abstract: true },
  { name: "pci-device", parent: "device", abstract: true },
  { name: "virtio-pci", parent: "pci-device", abstract: true },
  { name: "virtio-net-pci-base", parent: "virtio-pci", abstract: true },
  { name: "virtio-blk-pci-base", parent: "virtio-pci", abstract: true },
  { name: "virtio-input-pci", parent: "virtio-pci", abstract: true },
  { name: "virtio-input-hid-pci", parent: "virtio-input-pci", abstract: true },
  { name: "i440FX", parent: "pci-device" },
  { name: "pci-piix3", parent: "pci-device", abstract: true },
  { name: "PIIX3", parent: "pci-piix3" },
];

interface InputEvent {
  readonly type: "rel" | "btn";
  /** of the axis or of the button */
  readonly name: string;
  readonly value: number;
}

const AXES = ["x", "y"];
const BUTTONS: readonly string[] = [...POINTER_BUTTONS, "wheel-up", "wheel-down"];
const MOST_COUNTS = 0x7fff_ffff;

/** An element of `events`. QEMU qapi/ui.json, InputEvent @throws QmpError */
const inputEvent = (value: unknown): InputEvent => {
  const { type, data } = Object(value) as { readonly type?: unknown; readonly data?: unknown };
  const { axis, button, down, value: counts } = Object(data) as { readonly [key: string]: unknown };
  if (type === "rel" && isString(axis) && AXES.includes(axis) && Number.isInteger(counts)) {
    const clipped = Math.max(-MOST_COUNTS, Math.min(MOST_COUNTS, counts as number));
    return { type, name: axis, value: clipped };
  }
  if (type === "btn" && isString(button) && BUTTONS.includes(button) && isBoolean(down))
    return { type, name: button, value: down ? 1 : 0 };
  throw new QmpError(
    "GenericError",
    "Invalid parameter 'events': expected rel with axis and value, or btn with button and down",
  );
};

/** What QMP's clients can ask for. Nothing here throws anything but QmpError and StartupError. */
export class Commands {
  readonly #vm: VirtualMachine;

  constructor(vm: VirtualMachine) {
    this.#vm = vm;
  }

  /** @throws QmpError, StartupError */
  execute(name: string, given: Arguments): Outcome {
    const command = Object.hasOwn(this.#commands, name) ? this.#commands[name] : undefined;
    if (command === undefined) throw new QmpError("CommandNotFound", `The command ${name} has not been found`);
    return command(new Taker(given)) ?? { reply: {} };
  }

  readonly #commands: { readonly [name: string]: Command } = {
    "query-version": this.#query(() => ({ qemu: { micro: 0, minor: 2, major: 7 }, package: "" })),
    "query-commands": this.#query(() => Object.keys(this.#commands).map((name) => ({ name }))),
    "query-status": this.#query(() => {
      const { status } = this.#vm;
      return { status, singlestep: false, running: status === "running" };
    }),
    "query-machines": this.#query(() => {
      const common = { "hotpluggable-cpus": false, "numa-mem-supported": false, deprecated: false };
      const [alias, name] = MACHINE_ALIASES;
      return [
        { ...common, name: "none", "cpu-max": 1 },
        { ...common, name, alias, "is-default": true, "cpu-max": 255 },
      ];
    }),
    "query-kvm": this.#query(() => ({ enabled: false, present: false })),
    "query-name": this.#query(() => ({})),
    "query-pci": this.#query(() => pciListing(this.#vm)),
    "query-block": this.#query(() =>
      [...this.#vm.drives.values()].map(({ name }) => ({
        device: name,
        locked: false,
        removable: false,
        type: "unknown",
      })),
    ),
    "qom-list-types": (take) => {
      const implemented = take.optional("implements", isString, "string") ?? "object";
      const withAbstract = take.optional("abstract", isBoolean, "boolean") ?? false;
      take.done();
      const cards = Object.entries(this.#vm.cards).map(([name, { parent }]) => ({ name, parent }));
      const types: readonly { name: string; parent: string; abstract?: true }[] = [...TYPES, ...cards];
      const parents = new Map(types.map(({ name, parent }) => [name, parent]));
      const descends = (name: string | undefined): boolean =>
        name !== undefined && (name === implemented || descends(parents.get(name)));
      return { reply: types.filter(({ name, abstract }) => descends(name) && (withAbstract || abstract !== true)) };
    },
    system_reset: (take) => {
      take.done();
      return { reply: {}, after: () => this.#vm.reset() };
    },
    stop: (take) => {
      take.done();
      this.#vm.stop();
      return undefined;
    },
    cont: (take) => {
      take.done();
      this.#vm.cont();
      return undefined;
    },
    quit: (take) => {
      take.done();
      return { reply: {}, after: () => this.#vm.quit("host-qmp-quit") };
    },
    "human-monitor-command": (take) => {
      take.string("command-line");
      throw new QmpError("GenericError", "there is no human monitor here");
    },
    device_add: (take) => {
      this.#vm.addDevice(optionsOf(take.all()), true);
      return undefined;
    },
    device_del: (take) => {
      const id = take.string("id");
      take.done();
      this.#vm.requestRemoval(id);
      return undefined;
    },
    block_resize: (take) => {
      const name = take.optional("device", isString, "string") ?? take.optional("node-name", isString, "string");
      if (name === undefined) throw new StartupError("Parameter 'device' is missing");
      const size = take.integer("size");
      take.done();
      this.#vm.resizeDrive(name, size);
      return undefined;
    },
    set_link: (take) => {
      const [name, up] = [take.string("name"), take.boolean("up")];
      take.done();
      this.#vm.setLink(name, up);
      return undefined;
    },
    "input-send-event": (take) => {
      const events = take.optional("events", Array.isArray, "array") ?? [];
      take.optional("device", isString, "string");
      take.optional("head", isCount, "integer");
      take.done();
      this.#send(events.map(inputEvent));
      return undefined;
    },
    "announce-self": (take) => {
      const parameters = {
        initial: take.integer("initial"),
        max: take.integer("max"),
        rounds: take.integer("rounds"),
        step: take.integer("step"),
      };
      const id = take.optional("id", isString, "string") ?? "";
      const only = take.optional("interfaces", isStrings, "array") ?? null;
      take.done();
      this.#vm.announce(id, parameters, only);
      return undefined;
    },
  };

  #send(events: readonly InputEvent[]): void {
    const { pointer } = this.#vm;
    if (pointer === null) throw new QmpError("GenericError", "Input handler not found for event type rel");
    for (const { type, name, value } of events) {
      if (type === "rel") name === "x" ? pointer.move(value, 0) : pointer.move(0, value);
      else if (name.startsWith("wheel-")) {
        if (value !== 0) pointer.wheel(name === "wheel-up" ? 1 : -1);
      } else {
        const button = POINTER_BUTTONS.find((known) => known === name);
        if (button !== undefined) pointer.button(button, value !== 0);
      }
    }
    pointer.sync();
  }

  #query(run: () => unknown): Command {
    return (take) => {
      take.done();
      return { reply: run() };
    };
  }
}
