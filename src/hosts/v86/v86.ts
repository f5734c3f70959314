import { ConfigError } from "../../bytes/index.js";

/** An entry of v86's port table. Reads get the port, writes the value alone; `this` is `device`. */
export interface V86Port {
  read8(port: number): number;
  read16(port: number): number;
  read32(port: number): number;
  write8(value: number): void;
  write16(value: number): void;
  write32(value: number): void;
  device: unknown;
}

/** Handlers of 128 KiB of the memory space; addresses come as signed 32-bit numbers, RAM has none. */
export type V86ReadTable = (((address: number) => number) | undefined)[];
export type V86WriteTable = (((address: number, value: number) => void) | undefined)[];

export interface V86PciHost {
  /** configuration spaces of the built-in functions by devfn */
  readonly device_spaces: readonly (Int32Array | undefined)[];
  /** configuration space of the PIIX3 ISA bridge, with the PIRQ routes at 60h */
  readonly isa_bridge_space8: Uint8Array;
  raise_irq(devfn: number): void;
  lower_irq(devfn: number): void;
}

/** What the adapter uses of v86's CPU object. v86 promises none of it; `reachCpu` looks whether it is there. */
export interface V86Cpu {
  readonly io: { readonly ports: V86Port[] };
  readonly devices: { readonly pci: V86PciHost };
  /** a proxy that makes a typed array at every access; only its place is of use */
  readonly mem8: { readonly byteOffset: number };
  readonly memory_size: { readonly [index: number]: number };
  readonly wasm_memory: { readonly buffer: ArrayBufferLike };
  /** a proxy, as `mem8` */
  readonly instruction_counter: { readonly byteOffset: number };
  readonly memory_map_read8: V86ReadTable;
  readonly memory_map_read32: V86ReadTable;
  readonly memory_map_write8: V86WriteTable;
  readonly memory_map_write32: V86WriteTable;
  mmap_write16(address: number, value: number): void;
  /** the poll point; returns how long a halted CPU may sleep, in ms */
  run_hardware_timers(acpi: boolean, now: number): number;
  reboot_internal(): void;
  /** what `save_state` writes: arrays, typed arrays and what JSON has */
  get_state(): unknown[];
  set_state(state: unknown[]): void;
  /** ends the sleep of a halted CPU; nothing happens while it runs */
  stop_idling(): void;
  device_raise_irq(irq: number): void;
  device_lower_irq(irq: number): void;
  /** drops translated code of the pages from `start` up to `end`, exclusive */
  jit_dirty_cache(start: number, end: number): void;
  get_pic_addr_master(): number;
  get_pic_addr_slave(): number;
}

/** An emulator as `new V86(options)` gives it. The class that v86 declares has no `v86`, though its objects do. */
export type V86Emulator = object;

/** The release that this was written for and is tested with. */
export const V86_RELEASE = "0.5.462";

const NEEDED: readonly (readonly [path: string, type: "object" | "function"])[] = [
  ["io.ports", "object"],
  ["devices.pci.device_spaces", "object"],
  ["devices.pci.isa_bridge_space8", "object"],
  ["devices.pci.raise_irq", "function"],
  ["devices.pci.lower_irq", "function"],
  ["mem8", "object"],
  ["memory_size", "object"],
  ["wasm_memory", "object"],
  ["instruction_counter", "object"],
  ["memory_map_read8", "object"],
  ["memory_map_read32", "object"],
  ["memory_map_write8", "object"],
  ["memory_map_write32", "object"],
  ["mmap_write16", "function"],
  ["run_hardware_timers", "function"],
  ["reboot_internal", "function"],
  ["get_state", "function"],
  ["set_state", "function"],
  ["stop_idling", "function"],
  ["device_raise_irq", "function"],
  ["device_lower_irq", "function"],
  ["jit_dirty_cache", "function"],
  ["get_pic_addr_master", "function"],
  ["get_pic_addr_slave", "function"],
];

const member = (object: unknown, name: string): unknown =>
  typeof object === "object" && object !== null ? (object as Record<string, unknown>)[name] : undefined;

/**
 * The CPU of an emulator, with every name that the adapter uses looked up once.
 * @throws ConfigError `v86-not-loaded` before the event `emulator-loaded`; `v86-name` when this v86 calls things otherwise
 */
export function reachCpu(emulator: V86Emulator): V86Cpu {
  const cpu = member(member(emulator, "v86"), "cpu");
  if (cpu === undefined || member(cpu, "io") === undefined)
    throw new ConfigError("v86-not-loaded", "emulator.v86.cpu.io is not there: attach after the event emulator-loaded");
  for (const [path, type] of NEEDED) {
    const found = path.split(".").reduce<unknown>(member, cpu);
    if (typeof found !== type || found === null)
      throw new ConfigError(
        "v86-name",
        `emulator.v86.cpu.${path} is ${found === null ? "null" : typeof found}, expected ${type}; this adapter knows v86 ${V86_RELEASE}`,
      );
  }
  return cpu as V86Cpu;
}

const restores = new WeakMap<V86Emulator, Set<() => void>>();

/** Has `listener` called at the beginning of each `restore_state` of an emulator with cards. */
export function onRestore(emulator: V86Emulator, listener: () => void): Disposable {
  const listeners = restores.get(emulator) ?? new Set();
  restores.set(emulator, listeners);
  listeners.add(listener);
  return { [Symbol.dispose]: () => void listeners.delete(listener) };
}

/** For who takes part in `restore_state`. */
export function tellRestore(emulator: V86Emulator): void {
  for (const listener of restores.get(emulator) ?? []) listener();
}

/** Puts a method of ours over one of `object`. @returns what puts the former state back */
export function override<T extends object, K extends keyof T & string>(object: T, name: K, method: T[K]): () => void {
  const own = Object.getOwnPropertyDescriptor(object, name);
  object[name] = method;
  return () => {
    if (own === undefined) delete object[name];
    else Object.defineProperty(object, name, own);
  };
}
