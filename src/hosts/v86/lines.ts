import type { StateReader } from "../../bytes/index.js";
import type { HostInterrupts, SavedState } from "../../contract/index.js";
import { type IntxLine, PirqRouter, pirqOf } from "../../machine/index.js";
import { PIIX_PIRQC, PIIX_PIRQC_DISABLE } from "../../spec/pci.js";
import type { MemoryAccess } from "./bar-map.js";
import type { Place } from "./place.js";
import { override, type V86Cpu } from "./v86.js";

/** v86 polls after this many instructions: adding them to its counter ends the loop with the current block of code. */
const INSTRUCTIONS_PER_POLL = 100_003;

// A record of v86's interrupt controllers: 13 bytes, of which these.
const PIC_BYTES = 13;
const PIC_ENABLED = 0;
const PIC_IN_SERVICE = 2;
const PIC_REQUESTED = 3;
const PIC_LAST_LEVEL = 11;
const CASCADE = 1 << 2;

/** The interrupt pin of one function. */
class Pin implements HostInterrupts {
  readonly #place: Place;
  readonly #line: IntxLine;

  constructor(place: Place, line: IntxLine) {
    this.#place = place;
    this.#line = line;
  }

  /** A level that stays up interrupts again by itself: SeaBIOS makes the interrupts of PCI level triggered. */
  setIntx(level: boolean): void {
    if (level && !this.#line.level) this.#place.interrupts++;
    this.#line.set(level);
  }

  /** v86 has no way in for messages. */
  message(): void {}
}

const NO_PIN: HostInterrupts = { setIntx() {}, message() {} };

/** What v86 was told when a state was saved. */
export interface SavedLines {
  readonly driven: number;
  readonly builtInIrq: Uint8Array;
}

/** The lines of a machine in which nobody ever pulled one. */
export const IDLE_LINES: SavedLines = { driven: 0, builtInIrq: new Uint8Array(0x100).fill(0xff) };

/**
 * The interrupt lines of our functions: PIRQ routing, wired OR, and the right moment.
 *
 * v86 does not count who pulls a line, so it is done here, its built-in functions included. And v86 enters an interrupt
 * at once when a line rises, which during a memory access would be with the registers of some instructions ago: between
 * `begin` and `end` the levels are only noted, and the poll point, asked for soon, carries them out.
 */
export class Lines implements MemoryAccess {
  readonly #cpu: V86Cpu;
  readonly #router: PirqRouter;
  readonly #builtInIrq = new Uint8Array(0x100).fill(0xff); // by devfn: the interrupt that a function of v86 pulls
  readonly #builtIns = new Uint8Array(0x100); // by interrupt: how many functions of v86 pull it
  readonly #restore: readonly (() => void)[];
  #wanted = 0; // interrupts that our functions pull, as a mask
  #driven = 0; // those of them that v86 was told
  #accesses = 0; // depth of memory accesses of the guest
  #due = false;
  #cascadeStuck = false; // at the last poll
  /** level changes that waited for a poll point, because they came up during a memory access */
  deferred = 0;
  /** how often the cascade of v86's 8259 had to be repaired */
  repairs = 0;
  #counter: Uint32Array = new Uint32Array(0);
  #master: Uint8Array = new Uint8Array(0);
  #slave: Uint8Array = new Uint8Array(0);

  constructor(cpu: V86Cpu) {
    this.#cpu = cpu;
    const { pci } = cpu.devices;
    this.#router = new PirqRouter(
      (pirq) => pci.isa_bridge_space8[PIIX_PIRQC + pirq]!,
      (levels) => {
        this.#wanted = levels;
        this.#settle();
      },
    );
    const { raise_irq: raise, lower_irq: lower } = pci;
    this.#restore = [
      override(pci, "raise_irq", (devfn) => {
        this.#noteBuiltIn(devfn, true);
        raise.call(pci, devfn);
      }),
      override(pci, "lower_irq", (devfn) => {
        const irq = this.#noteBuiltIn(devfn, false);
        if (irq >= PIIX_PIRQC_DISABLE || (this.#driven & (1 << irq)) === 0) lower.call(pci, devfn); // else we still pull it
      }),
    ];
  }

  pin(place: Place): HostInterrupts {
    const { slot, pin } = place;
    return pin === 0 ? NO_PIN : new Pin(place, this.#router.line(pirqOf(slot, pin - 1)));
  }

  /** The interrupt that a card's pin is routed to now; −1: none. */
  irqOf({ slot, pin }: Place): number {
    return pin === 0 ? -1 : this.#router.irqOf(pirqOf(slot, pin - 1));
  }

  /** After something that may have been a write to a route register. */
  routesChanged(): void {
    this.#router.update();
  }

  begin(): void {
    this.#accesses++;
  }

  end(): void {
    this.#accesses--;
  }

  /** Holds v86's lines as they are while cards and interrupt controllers are replaced; letting go settles them. */
  hold(on: boolean): void {
    this.#router.hold(on);
  }

  save(): SavedState {
    return { driven: this.#driven, builtInIrq: this.#builtInIrq.slice() };
  }

  /** Checks what `save` gave. @throws StateError */
  static parse(state: StateReader): SavedLines {
    const builtInIrq = state.bytes("builtInIrq", IDLE_LINES.builtInIrq.length);
    return { driven: state.integer("driven", 0, 0xffff), builtInIrq };
  }

  /** Takes over what v86's restored interrupt controllers were told in their time; while `hold` is on. */
  adopt({ driven, builtInIrq }: SavedLines): void {
    this.#driven = driven;
    this.#builtInIrq.set(builtInIrq);
    this.#builtIns.fill(0);
    for (const irq of builtInIrq) if (irq !== 0xff) this.#builtIns[irq]!++;
    this.#cascadeStuck = false;
  }

  /** At v86's poll point, where anything may be done. */
  poll(): void {
    this.#router.update();
    this.#repairCascade();
  }

  /** Gives v86's methods back; the functions have let go of their lines by now. */
  detach(): void {
    for (const restore of this.#restore) restore();
  }

  /** Brings v86's lines to what is wanted, or has it done at the next poll. */
  #settle(): void {
    if (this.#accesses !== 0) {
      if (this.#wanted !== this.#driven) this.#pollSoon();
      return;
    }
    this.#due = false;
    for (let changed = this.#wanted ^ this.#driven; changed !== 0; changed &= changed - 1) {
      const irq = 31 - Math.clz32(changed & -changed);
      this.#driven ^= 1 << irq;
      if ((this.#wanted & (1 << irq)) !== 0) this.#cpu.device_raise_irq(irq);
      else if (this.#builtIns[irq] === 0) this.#cpu.device_lower_irq(irq);
    }
  }

  #pollSoon(): void {
    if (this.#due) return;
    this.#due = true;
    this.deferred++;
    const { wasm_memory, instruction_counter } = this.#cpu;
    if (this.#counter.length === 0)
      this.#counter = new Uint32Array(wasm_memory.buffer, instruction_counter.byteOffset, 1);
    this.#counter[0]! += INSTRUCTIONS_PER_POLL;
  }

  /** Keeps count of a built-in function's level. @returns its interrupt */
  #noteBuiltIn(devfn: number, level: boolean): number {
    const pci = this.#cpu.devices.pci;
    const pin = ((pci.device_spaces[devfn]?.[15] ?? 0) >> 8) & 0xff;
    const irq = pci.isa_bridge_space8[PIIX_PIRQC + pirqOf(devfn >> 3, pin - 1)]!;
    const before = this.#builtInIrq[devfn]!;
    if (before !== 0xff) this.#builtIns[before]!--;
    if (level) this.#builtIns[irq]!++;
    this.#builtInIrq[devfn] = level ? irq : 0xff;
    return irq;
  }

  /**
   * Repairs a fault of v86's 8259: a request of 8 … 15 that is withdrawn before the CPU took it leaves the cascade
   * marked in service although no vector was delivered, so that nobody ends it and 3 … 15 are dead. Between the two
   * ends of a healthy interrupt it looks the same for a moment; therefore only what two polls saw is repaired.
   */
  #repairCascade(): void {
    if (this.#master.length === 0) {
      const { buffer } = this.#cpu.wasm_memory;
      this.#master = new Uint8Array(buffer, this.#cpu.get_pic_addr_master(), PIC_BYTES);
      this.#slave = new Uint8Array(buffer, this.#cpu.get_pic_addr_slave(), PIC_BYTES);
    }
    const master = this.#master;
    const slave = this.#slave;
    const stuck = (master[PIC_IN_SERVICE]! & CASCADE) !== 0 && slave[PIC_IN_SERVICE] === 0;
    if (!stuck || !this.#cascadeStuck) {
      this.#cascadeStuck = stuck;
      return;
    }
    this.#cascadeStuck = false;
    this.repairs++;
    master[PIC_IN_SERVICE]! &= ~CASCADE;
    if ((slave[PIC_REQUESTED]! & slave[PIC_ENABLED]!) !== 0) {
      master[PIC_REQUESTED]! |= CASCADE;
      master[PIC_LAST_LEVEL]! |= CASCADE;
    }
  }
}
