import { ConfigError } from "../../bytes/index.js";
import type { Diagnostic, Slot, Strictness } from "../../contract/index.js";
import {
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_LIST_NEXT,
  PCI_CAPABILITY_LIST,
  PCI_CONFIG_SIZE,
  PCI_INTERRUPT_PIN,
  PCI_MAX_DEVICES,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  pciBdf,
  pciDevice,
} from "../../spec/pci.js";
import { BarMap } from "./bar-map.js";
import { ConfigPorts } from "./config-ports.js";
import { Lines } from "./lines.js";
import { V86Memory } from "./memory.js";
import { PollPoint } from "./poll-point.js";
import { override, reachCpu, type V86Cpu, type V86Emulator } from "./v86.js";

/** A function and the slot of bus 0 that it goes into. */
export interface V86Card {
  /** 2 … 31; v86's own functions sit in 0, 1, 18, 30 and, where asked for, in 5, 6, 7, 10, 11, 12 */
  readonly slot: number;
  readonly card: Slot;
}

export interface V86Options {
  readonly cards: readonly V86Card[];
  /** told of a guest's mistakes; default: nobody */
  readonly report?: (diagnostic: Diagnostic) => void;
  /** default lenient */
  readonly strictness?: Strictness;
  /** ms that never go back; default `performance.now`, which is what v86 itself goes by */
  readonly now?: () => number;
}

/** Cards in an emulator. */
export interface V86Attachment extends Disposable {
  /** Takes the cards out and puts every handler of v86 back. Idempotent. */
  detach(): void;
}

const attached = new WeakSet<V86Cpu>();

/**
 * Puts cards onto the PCI bus of a v86 emulator, beside its own.
 *
 * Call it between the event `emulator-loaded` and the first `run()` (with `autostart: false`), and the BIOS finds them.
 * @throws ConfigError `v86-not-loaded`, `v86-name`, `v86-attached`, `slot-range`, `slot-taken`, `message-interrupts`, and what
 *   a card's `connect` throws; the emulator is then as it was
 */
export function attachV86(emulator: V86Emulator, options: V86Options): V86Attachment {
  const cpu = reachCpu(emulator);
  if (attached.has(cpu))
    throw new ConfigError("v86-attached", "this emulator has cards already: attach them all at once");
  const undo: (() => void)[] = [() => attached.delete(cpu)];
  const detach = (): void => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) step();
  };
  attached.add(cpu);
  try {
    wire(cpu, options, undo);
  } catch (error) {
    detach();
    throw error;
  }
  return { detach, [Symbol.dispose]: detach };
}

/** Slots by devfn, in ascending order. @throws ConfigError `slot-range`, `slot-taken`, `message-interrupts` */
function place(cpu: V86Cpu, cards: readonly V86Card[]): Map<number, Slot> {
  const placed = new Map<number, Slot>();
  for (const { slot, card } of [...cards].sort((a, b) => a.slot - b.slot)) {
    if (!Number.isInteger(slot) || slot < 0 || slot >= PCI_MAX_DEVICES)
      throw new ConfigError("slot-range", `${card.name} in slot ${slot}: expected 0 … ${PCI_MAX_DEVICES - 1}`);
    const devfn = pciBdf(0, slot);
    if (placed.has(devfn) || cpu.devices.pci.device_spaces[devfn] !== undefined)
      throw new ConfigError("slot-taken", `${card.name} in slot ${slot}: there is a function already`);
    if (offersMessages(card))
      throw new ConfigError(
        "message-interrupts",
        `${card.name} in slot ${slot} offers MSI or MSI-X, for which v86 has no path: build it without (vectors: 0)`,
      );
    placed.set(devfn, card);
  }
  return placed;
}

/** Linux believes such a capability: without an APIC it warns with a trace, with one it waits for messages for ever. */
function offersMessages(card: Slot): boolean {
  if ((card.configRead(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST) === 0) return false;
  let at = card.configRead(PCI_CAPABILITY_LIST, 1);
  for (let left = PCI_CONFIG_SIZE / 4; at !== 0 && left > 0; left--) {
    const id = card.configRead(at, 1);
    if (id === PCI_CAP_ID_MSI || id === PCI_CAP_ID_MSIX) return true;
    at = card.configRead(at + PCI_CAP_LIST_NEXT, 1);
  }
  return false;
}

/** Each step leaves in `undo` what takes it back. */
function wire(cpu: V86Cpu, options: V86Options, undo: (() => void)[]): void {
  const { cards, report = () => {}, strictness = "lenient", now = hostNow } = options;
  const slots = place(cpu, cards);
  const memory = new V86Memory(cpu);
  const point = new PollPoint(now, () => cpu.stop_idling());
  const lines = new Lines(cpu);
  undo.push(() => lines.detach());
  const bars = new BarMap(cpu, [...slots.values()], lines);
  undo.push(() => bars.detach());
  const ports = new ConfigPorts(cpu, slots, () => lines.routesChanged());
  undo.push(() => ports.detach());

  for (const [devfn, card] of slots) {
    const work = point.forFunction();
    undo.push(() => work[Symbol.dispose]());
    const interrupts = lines.pin(pciDevice(devfn), card.configRead(PCI_INTERRUPT_PIN, 1));
    card.connect({ memory, interrupts, clock: point.clock, work, report, strictness });
    undo.push(() => card.disconnect());
    const listening = card.onBarsChanged(() => bars.remap());
    undo.push(() => listening[Symbol.dispose]());
  }
  bars.remap();

  const timers = cpu.run_hardware_timers;
  undo.push(
    override(cpu, "run_hardware_timers", (acpi, at) => {
      const sleep = point.poll(timers.call(cpu, acpi, at));
      lines.poll();
      return sleep;
    }),
  );
  const reboot = cpu.reboot_internal;
  undo.push(
    override(cpu, "reboot_internal", () => {
      // Before v86's own part: that puts ROMs into memory blocks which our BARs may hold.
      for (const card of slots.values()) card.reset("bus");
      ports.reset();
      reboot.call(cpu);
    }),
  );
}

/** `performance` is no name of the language, but browsers, workers and Node all have it. */
function hostNow(): number {
  return (globalThis as unknown as { performance: { now(): number } }).performance.now();
}
