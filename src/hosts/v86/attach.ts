import { ConfigError, StateError, StateReader } from "../../bytes/index.js";
import type { Diagnostic, Nic, SavedState, Slot, Strictness } from "../../contract/index.js";
import { PCI_INTERRUPT_LINE, PCI_MAX_DEVICES, pciBdf } from "../../spec/pci.js";
import { BarMap } from "./bar-map.js";
import { ConfigPorts } from "./config-ports.js";
import { IDLE_LINES, Lines } from "./lines.js";
import { V86Memory } from "./memory.js";
import { Place, type V86CardCounters } from "./place.js";
import { PollPoint } from "./poll-point.js";
import { packState, unpackState } from "./saved-state.js";
import { override, reachCpu, tellRestore, type V86Cpu, type V86Emulator } from "./v86.js";

/** A function and the slot of bus 0 that it goes into. */
export interface V86Card {
  /**
   * 2 … 31; v86's own functions sit in 0, 1, 18, 30 and, where asked for, in 5, 6, 7, 10, 11, 12. Default: the first free
   * one of those that SeaBIOS routes to interrupt 11, which is the quieter one: 15, 16, 19, 20, …
   */
  readonly slot?: number;
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

/** What was counted since the cards were attached; no part of a saved state. */
export interface V86Counters {
  /** poll points of v86 */
  readonly polls: number;
  /** changes of an interrupt line that came up during a memory access and waited for the poll point */
  readonly deferredLines: number;
  /** repairs of v86's 8259 */
  readonly cascadeRepairs: number;
  /** ascending by slot */
  readonly cards: readonly V86CardCounters[];
}

/** Cards in an emulator. */
export interface V86Attachment extends Disposable {
  /** ascending by slot */
  readonly cards: readonly Required<V86Card>[];
  /**
   * Puts a card in, at any time. A guest that runs sees it when it looks for it: in Linux `echo 1 > /sys/bus/pci/rescan`.
   * @param slot as in `V86Card` @returns the slot
   * @throws ConfigError `v86-card`, `slot-range`, `slot-taken`, `no-slot`, `detached`, and what the card's `connect` throws
   */
  plug(card: Slot, slot?: number): number;
  /**
   * Pulls a card out while the guest runs, without its leave: reads give all ones, its line falls, its BARs go. It loses
   * power, so that it can be plugged in again or elsewhere. @throws ConfigError `not-plugged`
   */
  unplug(card: Slot): void;
  counters(): V86Counters;
  /** Takes the cards out and puts every handler of v86 back. Idempotent. */
  detach(): void;
}

const STATE_VERSION = 1;
/** Where our part stands in the array of v86's state, well behind what v86 has there (up to 91). */
const STATE_AT = 160;
/** Slots by the interrupt that SeaBIOS routes them to, 11 before 10; those that v86's own cards may want come last. */
const SLOT_ORDER = [
  15, 16, 19, 20, 23, 24, 27, 28, 3, 4, 8, 31, 13, 14, 17, 21, 22, 25, 26, 29, 2, 9, 12, 11, 7, 5, 6, 10,
];
/** Queues of a card that a far end may have told to wait; a wire knows no more either. */
const MOST_HINTS = 64;

const attached = new WeakSet<V86Cpu>();

/**
 * Puts cards onto the PCI bus of a v86 emulator, beside its own.
 *
 * Call it between the event `emulator-loaded` and the first `run()` (with `autostart: false`), and the BIOS finds them.
 * `save_state` then saves the cards as well, and `restore_state` restores them, here or in another emulator with the
 * same cards in the same slots; it rejects with a StateError when they are not the same.
 * @throws ConfigError `v86-not-loaded`, `v86-name`, `v86-attached`, `v86-card`, `slot-range`, `slot-taken`, `no-slot`, and what a card's
 *   `connect` throws; the emulator is then as it was
 */
export const attachV86 = (emulator: V86Emulator, options: V86Options): V86Attachment => new Bus(emulator, options);

class Bus implements V86Attachment {
  readonly #emulator: V86Emulator;
  readonly #cpu: V86Cpu;
  readonly #report: (diagnostic: Diagnostic) => void;
  readonly #strictness: Strictness;
  readonly #places = new Map<number, Place>(); // by devfn
  readonly #removals = new Map<Place, () => void>();
  readonly #memory: V86Memory;
  readonly #point: PollPoint;
  readonly #lines: Lines;
  readonly #bars: BarMap;
  readonly #ports: ConfigPorts;
  readonly #undo: (() => void)[] = []; // what takes our methods off v86 again, in the order in which they were put on
  #detached = false;
  #polls = 0;

  constructor(emulator: V86Emulator, options: V86Options) {
    const cpu = reachCpu(emulator);
    const { cards, report = () => {}, strictness = "lenient", now = hostNow } = options;
    if (attached.has(cpu))
      throw new ConfigError("v86-attached", "this emulator has cards already: plug further ones into the attachment");
    if (!Array.isArray(cards))
      throw new ConfigError("v86-card", `cards is ${typeof cards}, expected a list of { card }`);
    for (const [i, place] of cards.entries()) demandCard(place?.card, `cards[${i}].card`);
    this.#emulator = emulator;
    this.#cpu = cpu;
    this.#report = report;
    this.#strictness = strictness;
    this.#memory = new V86Memory(cpu);
    this.#point = new PollPoint(now, () => cpu.stop_idling());
    this.#lines = new Lines(cpu);
    this.#bars = new BarMap(cpu, this.#lines);
    this.#ports = new ConfigPorts(cpu, this.#places, () => this.#lines.routesChanged());
    this.#hook();
    attached.add(cpu);
    try {
      // Cards that name their slot come first, so that one that does not cannot take it.
      for (const { card, slot } of cards) if (slot !== undefined) this.plug(card, slot);
      for (const { card, slot } of cards) if (slot === undefined) this.plug(card);
    } catch (error) {
      this.detach();
      throw error;
    }
  }

  get cards(): readonly Required<V86Card>[] {
    return this.#sorted().map(({ slot, card }) => ({ slot, card }));
  }

  plug(card: Slot, slot?: number): number {
    demandCard(card, "plug");
    return this.#plug(card, slot ?? this.#freeSlot(card));
  }

  #plug(card: Slot, slot: number): number {
    if (this.#detached) throw new ConfigError("detached", `${card.name}: the cards were taken out of this emulator`);
    if (!Number.isInteger(slot) || slot < 0 || slot >= PCI_MAX_DEVICES)
      throw new ConfigError("slot-range", `${card.name} in slot ${slot}: expected 0 … ${PCI_MAX_DEVICES - 1}`);
    if (!this.#isFree(slot))
      throw new ConfigError("slot-taken", `${card.name} in slot ${slot}: there is a function already`);
    const place = new Place(slot, card);
    const interrupts = this.#lines.pin(place);
    const work = this.#point.forCard(place);
    try {
      card.connect({
        memory: this.#memory,
        interrupts,
        clock: this.#point.clock,
        work,
        report: this.#report,
        strictness: this.#strictness,
      });
    } catch (error) {
      work[Symbol.dispose]();
      throw error;
    }
    const listening = card.onBarsChanged(() => this.#bars.remap());
    this.#places.set(place.devfn, place);
    this.#bars.add(place);
    this.#bars.remap();
    this.#writeDownInterrupt(place);
    this.#removals.set(place, () => {
      card.disconnect();
      interrupts.setIntx(false);
      work[Symbol.dispose]();
      listening[Symbol.dispose]();
      this.#places.delete(place.devfn);
      this.#bars.remove(place);
    });
    return slot;
  }

  unplug(card: Slot): void {
    for (const [place, remove] of this.#removals) {
      if (place.card !== card) continue;
      this.#removals.delete(place);
      remove();
      card.reset("power-on");
      return;
    }
    throw new ConfigError("not-plugged", `${card?.name ?? typeof card} is not in this emulator`);
  }

  counters(): V86Counters {
    return {
      polls: this.#polls,
      deferredLines: this.#lines.deferred,
      cascadeRepairs: this.#lines.repairs,
      cards: this.#sorted().map((place) => place.counters()),
    };
  }

  detach(): void {
    if (this.#detached) return;
    this.#detached = true;
    for (const remove of this.#removals.values()) remove();
    this.#removals.clear();
    for (let step = this.#undo.pop(); step !== undefined; step = this.#undo.pop()) step();
    this.#ports.detach();
    this.#bars.detach();
    this.#lines.detach();
    attached.delete(this.#cpu);
  }

  [Symbol.dispose](): void {
    this.detach();
  }

  /** Puts our steps before or behind those of v86. */
  #hook(): void {
    const cpu = this.#cpu;
    const { run_hardware_timers: timers, reboot_internal: reboot, get_state: getState, set_state: setState } = cpu;
    this.#undo.push(
      override(cpu, "run_hardware_timers", (acpi, at) => {
        this.#polls++;
        const sleep = this.#point.poll(timers.call(cpu, acpi, at));
        this.#lines.poll();
        return sleep;
      }),
      override(cpu, "reboot_internal", () => {
        // Before v86's own part: that puts ROMs into memory blocks which our BARs may hold.
        for (const { card } of this.#sorted()) card.reset("bus");
        this.#ports.latch = 0;
        reboot.call(cpu);
      }),
      override(cpu, "get_state", () => {
        const state = getState.call(cpu);
        state[STATE_AT] = packState(this.#save());
        return state;
      }),
      override(cpu, "set_state", (state) => {
        const packed = state[STATE_AT];
        this.#restore(packed === undefined || packed === null ? null : unpackState(packed), () =>
          setState.call(cpu, state),
        );
      }),
    );
  }

  // ---------------------------------------------------------------------------------------------- slots

  #sorted(): Place[] {
    return [...this.#places.values()].sort((a, b) => a.devfn - b.devfn);
  }

  #isFree(slot: number): boolean {
    const devfn = pciBdf(0, slot);
    return !this.#places.has(devfn) && this.#cpu.devices.pci.device_spaces[devfn] === undefined;
  }

  #freeSlot(card: Slot): number {
    const slot = SLOT_ORDER.find((candidate) => this.#isFree(candidate));
    if (slot === undefined) throw new ConfigError("no-slot", `${card.name}: every slot is taken`);
    return slot;
  }

  /** What firmware that sees a card come does; before the BIOS ran, there is no route to write down. */
  #writeDownInterrupt(place: Place): void {
    const irq = this.#lines.irqOf(place);
    if (irq >= 0) place.card.configWrite(PCI_INTERRUPT_LINE, 1, irq);
  }

  // ---------------------------------------------------------------------------------------------- saved states

  #save(): SavedState {
    return {
      version: STATE_VERSION,
      latch: this.#ports.latch,
      lines: this.#lines.save(),
      point: this.#point.save(),
      cards: this.#sorted().map(({ slot, card }) => ({ slot, name: card.name, state: card.save() })),
    };
  }

  /**
   * Our part of `restore_state`. Cards come first, since they are what can refuse; then v86 with RAM and interrupt controllers;
   * then the lines are brought from what those were told in their time to what the cards want.
   * @param saved null: the state is of an emulator without cards, and its guest finds ours as just plugged in
   * @throws StateError; nothing is then changed
   */
  #restore(saved: unknown, restoreV86: () => void): void {
    const reader = saved === null ? null : new StateReader(saved, "v86", STATE_VERSION);
    const latch = reader?.integer("latch", 0, 0xffff_ffff) ?? 0;
    const lines = reader === null ? IDLE_LINES : Lines.parse(reader.object("lines"));
    const states = reader === null ? null : this.#match(reader);
    const point = reader?.object("point") ?? null;
    tellRestore(this.#emulator); // frames that wait belong to the time that ends here
    this.#lines.hold(true);
    try {
      this.#loadCards(states, point);
      this.#bars.clear(); // v86 moves ports of its own cards, and keeps what it finds there
      restoreV86();
      this.#lines.adopt(lines);
      this.#ports.latch = latch;
    } finally {
      this.#bars.remap();
      this.#lines.hold(false);
    }
    for (const place of this.#sorted()) {
      if (states === null) this.#writeDownInterrupt(place);
      else rejoin(place.card);
    }
  }

  /** The saved states of our cards, in the order of `#sorted`. @throws StateError */
  #match(reader: StateReader): SavedState[] {
    const saved = reader.objects("cards");
    const name = (slot: number, card: string): string => `${card} in slot ${slot}`;
    const theirs = saved.map((card) => name(card.integer("slot", 0, PCI_MAX_DEVICES - 1), card.string("name")));
    const ours = this.#sorted().map(({ slot, card }) => name(slot, card.name));
    if (theirs.join() !== ours.join())
      throw new StateError("v86.cards", `${theirs.join(", ") || "no card"}; expected ${ours.join(", ") || "no card"}`);
    return saved.map((card) => card.object("state").raw);
  }

  /** @param states null: reset the cards instead @throws StateError; the cards are then as before */
  #loadCards(states: readonly SavedState[] | null, point: StateReader | null): void {
    const places = this.#sorted();
    const before = places.map(({ card }) => card.save());
    const formerPoint = new StateReader(this.#point.save(), "v86.point");
    // The reset frees far ends that wait for these cards: the loaded state knows nothing of them.
    for (const { card } of places) card.reset("bus");
    if (states === null || point === null) return;
    try {
      this.#apply(places, states, point);
    } catch (error) {
      this.#apply(places, before, formerPoint);
      throw error;
    }
  }

  #apply(places: readonly Place[], states: readonly SavedState[], point: StateReader): void {
    this.#point.setNow(point.integer("now"));
    for (const [i, { card }] of places.entries()) card.load(states[i]!);
    this.#point.loadWork(point.object("work").raw);
  }
}

/** @param where the card was given, for the message @throws ConfigError `v86-card` */
function demandCard(card: Slot | null | undefined, where: string): void {
  if (typeof card?.connect !== "function" || typeof card.configRead !== "function")
    throw new ConfigError("v86-card", `${where}: expected a card, such as what virtioNet() gives`);
}

/**
 * Makes a restored card and the world outside known to each other again: far ends of another time may have made it wait,
 * and its net may have learnt since that its address is elsewhere. VIRTIO 1.2 §5.1.6.5.4
 */
function rejoin(card: Slot): void {
  const { net, announce } = card as Partial<Nic> & { announce?(): boolean };
  if (net !== undefined) for (let hint = 0; hint < MOST_HINTS; hint++) net.ready(hint);
  if (typeof announce === "function") announce.call(card);
}

/** `performance` is no name of the language, but browsers, workers and Node all have it. */
function hostNow(): number {
  return (globalThis as unknown as { performance: { now(): number } }).performance.now();
}
