import { ConfigError } from "../../bytes/index.js";
import type { Diagnostic, Slot, Strictness } from "../../contract/index.js";
import { PCI_INTERRUPT_PIN, PCI_MAX_DEVICES, pciBdf } from "../../spec/pci.js";
import { BarMap } from "./bar-map.js";
import { ConfigPorts } from "./config-ports.js";
import { Lines } from "./lines.js";
import { V86Memory } from "./memory.js";
import { DeferredWork, HostClock } from "./scheduling.js";
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

/** Descriptors that one poll may use; what is left waits until the guest had its turn. */
const POLL_BUDGET = 1024;
const NS_PER_MS = 1e6;

const attached = new WeakSet<V86Cpu>();

/**
 * Puts cards onto the PCI bus of a v86 emulator, beside its own.
 *
 * Call it between the event `emulator-loaded` and the first `run()` (with `autostart: false`), and the BIOS finds them.
 * @throws ConfigError `v86-not-loaded`, `v86-name`, `v86-attached`, `slot-range`, `slot-taken`, and what a card's `connect`
 *   throws; the emulator is then as it was
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

/** Slots by devfn, in ascending order. @throws ConfigError `slot-range`, `slot-taken` */
function place(cpu: V86Cpu, cards: readonly V86Card[]): Map<number, Slot> {
  const placed = new Map<number, Slot>();
  for (const { slot, card } of [...cards].sort((a, b) => a.slot - b.slot)) {
    if (!Number.isInteger(slot) || slot < 0 || slot >= PCI_MAX_DEVICES)
      throw new ConfigError("slot-range", `${card.name} in slot ${slot}: expected 0 … ${PCI_MAX_DEVICES - 1}`);
    const devfn = pciBdf(0, slot);
    if (placed.has(devfn) || cpu.devices.pci.device_spaces[devfn] !== undefined)
      throw new ConfigError("slot-taken", `${card.name} in slot ${slot}: there is a function already`);
    placed.set(devfn, card);
  }
  return placed;
}

/** Each step leaves in `undo` what takes it back. */
function wire(cpu: V86Cpu, options: V86Options, undo: (() => void)[]): void {
  const { report = () => {}, strictness = "lenient", now = hostNow } = options;
  const slots = place(cpu, options.cards);
  const memory = new V86Memory(cpu);
  const clock = new HostClock(now, () => cpu.stop_idling());
  const works: DeferredWork[] = [];
  const lines = new Lines(cpu);
  undo.push(() => lines.detach());
  const bars = new BarMap(cpu, [...slots.values()], lines);
  undo.push(() => bars.detach());
  const ports = new ConfigPorts(cpu, slots, () => lines.settle());
  undo.push(() => ports.detach());

  for (const [devfn, card] of slots) {
    const slot = devfn >> 3;
    const work = new DeferredWork();
    works.push(work);
    const interrupts = lines.pin(slot, card.configRead(PCI_INTERRUPT_PIN, 1));
    card.connect({ memory, interrupts, clock, work, report, strictness });
    undo.push(() => card.disconnect());
    const listening = card.onBarsChanged(() => bars.remap());
    undo.push(() => listening[Symbol.dispose]());
  }
  bars.remap();

  const timers = cpu.run_hardware_timers;
  undo.push(
    override(cpu, "run_hardware_timers", (acpi, at) => {
      const sleep = timers.call(cpu, acpi, at);
      let left = false;
      const due = clock.runDue();
      for (const work of works) left = work.run(POLL_BUDGET) || left;
      lines.poll();
      return left ? 0 : Math.min(sleep, due / NS_PER_MS);
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

function hostNow(): number {
  return (globalThis as unknown as { performance: { now(): number } }).performance.now();
}
