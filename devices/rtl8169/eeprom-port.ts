import type { StateReader } from "../../src/bytes/index.js";
import type { AccessWidth, SavedState } from "../../src/contract/index.js";
import { bits, field, type RegisterMap } from "../../src/regs/index.js";
import {
  EEM_AUTOLOAD,
  EEM_CONFIG_WRITE,
  EEM_NORMAL,
  EEM_PROGRAM,
  EEPROM_SIGNATURE,
  EEPROM_TYPES,
  EEPROM_WORDS,
  RTL8169,
} from "../../src/spec/rtl8169.js";
import type { CardCore } from "./core.js";
import type { Eeprom } from "./eeprom.js";

// These stand at the same offsets in all maps of this folder.
const { Cr9346, IDR0, CONFIG0, RCR } = RTL8169.regs;
const { EEM, EECS, EESK, EEDI } = Cr9346.fields as {
  readonly [N in "EEM" | "EECS" | "EESK" | "EEDI"]: [number, number];
};
const WIRES_HELD = bits(EEM) | bits(EECS) | bits(EESK) | bits(EEDI);
const RCR_9356SEL = bits(RCR.fields["9356SEL"]!);

/** Programming a word of the EEPROM with real timing; data sheets of the 93C46 say 1 to 3 ms. */
const PROGRAM_NS = 1_000_000;

/** Registers that can be written only while EEM is 11: where they begin, and their bytes. */
export type LockedRanges = readonly (readonly [at: number, length: number])[];

/** Whether an access falls into one of them. */
export const fallsInto = (ranges: LockedRanges, offset: number, width: number): boolean => {
  for (const [at, length] of ranges) if (offset < at + length && offset + width > at) return true;
  return false;
};

/** 9346CR: the wires to the EEPROM, what it loads into registers, and the lock of the configuration. */
export class EepromPort {
  /** whether programming takes its time on the clock */
  realTime = false;
  readonly #core: CardCore;
  readonly #map: RegisterMap;
  readonly #eeprom: Eeprom;
  readonly #lockedRanges: LockedRanges;

  constructor(core: CardCore, map: RegisterMap, eeprom: Eeprom, locked: LockedRanges) {
    this.#core = core;
    this.#map = map;
    this.#eeprom = eeprom;
    this.#lockedRanges = locked;
  }

  /** Station address and configuration from the EEPROM; one without signature leaves them. */
  autoload(): void {
    const eeprom = this.#eeprom;
    if (eeprom.get(EEPROM_WORDS.signature) !== EEPROM_SIGNATURE) return;
    const { regs } = this.#core;
    for (let i = 0; i < 3; i++) regs.set(IDR0.at + 2 * i, 2, eeprom.get(EEPROM_WORDS.mac + i));
    const { rw, resetImage } = this.#map;
    const config = eeprom.get(EEPROM_WORDS.config01);
    for (let i = 0; i < 2; i++) {
      const at = CONFIG0.at + i;
      regs.set(at, 1, (resetImage[at]! & ~rw[at]!) | ((config >>> (8 * i)) & rw[at]!));
    }
  }

  /** After the registers took their reset values: the wires rest, the configuration is locked, RCR names the EEPROM. */
  reset(): void {
    this.#core.regs.set(RCR.at, 4, EEPROM_TYPES[this.#eeprom.type].select9356 * RCR_9356SEL);
    this.#rest();
    this.#lock(true);
  }

  /** The guest wrote 9346CR. @returns whether registers were loaded */
  written(): boolean {
    const { regs, now } = this.#core;
    const value = regs.get(Cr9346.at, 1);
    const mode = field(value, EEM);
    this.#lock(mode !== EEM_CONFIG_WRITE);
    // In every other mode the wires rest low, so that leaving mode 10 ends a command.
    if (mode === EEM_PROGRAM) {
      this.#eeprom.wires(field(value, EECS), field(value, EESK), field(value, EEDI), now, this.#programNs);
      regs.set(Cr9346.at, 1, (value & WIRES_HELD) | this.#eeprom.output(now));
      return false;
    }
    this.#rest();
    regs.set(Cr9346.at, 1, mode === EEM_AUTOLOAD ? EEM_NORMAL : value & bits(EEM));
    if (mode === EEM_AUTOLOAD) this.autoload();
    return mode === EEM_AUTOLOAD;
  }

  /** DO changes by itself when programming ends. */
  refresh(): void {
    const { regs, now } = this.#core;
    const wires = regs.get(Cr9346.at, 1);
    if (this.#eeprom.busy && field(wires, EEM) === EEM_PROGRAM)
      regs.set(Cr9346.at, 1, (wires & WIRES_HELD) | this.#eeprom.output(now));
  }

  get locked(): boolean {
    return field(this.#core.regs.get(Cr9346.at, 1), EEM) !== EEM_CONFIG_WRITE;
  }

  /** Tells of a write to what is locked. */
  watch(offset: number, width: AccessWidth): void {
    if (this.locked && fallsInto(this.#lockedRanges, offset, width)) this.#core.report("config-locked", offset);
  }

  #rest(): void {
    this.#eeprom.wires(0, 0, 0, this.#core.now, this.#programNs);
  }

  #lock(locked: boolean): void {
    for (const [at, length] of this.#lockedRanges) this.#core.regs.lock(at, length, locked);
  }

  get #programNs(): number {
    return this.realTime ? PROGRAM_NS : 0;
  }

  save(): SavedState {
    return this.#eeprom.save();
  }

  /** Checks a state and returns what applies it, once the registers are restored. @throws StateError */
  check(state: StateReader): () => void {
    const apply = this.#eeprom.check(state);
    return () => {
      apply();
      this.#lock(this.locked);
    };
  }
}
