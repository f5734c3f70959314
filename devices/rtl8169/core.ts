import { Door, StateError, type StateReader } from "../../src/bytes/index.js";
import type { Clock, FunctionSeams, NetEndpoint, NicCounters, SavedState, Timer } from "../../src/contract/index.js";
import { bits, RegisterFile, type RegisterMap } from "../../src/regs/index.js";
import { RTL8169, RTL8169_TALLY_SIZE } from "../../src/spec/rtl8169.js";
import { Interrupts } from "./interrupts.js";
import { Tally } from "./tally.js";

// Indices of the counters.
export const TX_FRAMES = 0;
export const TX_BYTES = 1;
export const RX_FRAMES = 2;
export const RX_BYTES = 3;
export const RX_NO_BUFFER = 4;
export const RX_FILTERED = 5;
export const TX_DROPPED = 6;
export const DESCRIPTORS_READ = 7;
export const BYTES_COPIED = 8;
export const DOORBELLS = 9;
export const COUNTERS = 10;

const { DTCCR_L, DTCCR_H } = RTL8169.regs;
const DTCCR_CMD = bits(DTCCR_L.fields.Cmd!);
const CR_RST = bits(RTL8169.regs.CR.fields.RST!);
const ISR_SERR = bits(RTL8169.regs.ISR.fields.SERR!);

export const IDLE_CLOCK: Clock = {
  now: () => 0,
  timer: () => ({ deadline: Number.POSITIVE_INFINITY, arm: () => {}, cancel: () => {}, [Symbol.dispose]: () => {} }),
};

/** What stands in for a host while the card is not plugged in. */
export const UNPLUGGED: FunctionSeams = {
  dma: new Door(),
  interrupts: { setIntx: () => {}, signal: () => {} },
  clock: IDLE_CLOCK,
  work: { bind: () => {}, request: () => {}, runNow: () => {}, clear: () => {} },
  report: () => {},
  strictness: "lenient",
};

/** Puts a timer back to a saved deadline. */
export const rearm = (timer: Timer, deadline: number): void => {
  if (deadline === Number.POSITIVE_INFINITY) timer.cancel();
  else timer.arm(deadline);
};

/** What the parts of one card share: registers, counters, interrupts, and the wiring while it is plugged in. */
export class CardCore {
  // wiring
  seams: FunctionSeams = UNPLUGGED;
  far: NetEndpoint | null = null;
  // state
  readonly regs: RegisterFile;
  readonly interrupts: Interrupts;
  readonly tally = new Tally();
  readonly counters = new Float64Array(COUNTERS);
  readonly #map: RegisterMap;

  /** @param map one with CR, IMR and ISR where all cards of the family have them */
  constructor(map: RegisterMap) {
    this.#map = map;
    this.regs = new RegisterFile(map);
    this.interrupts = new Interrupts(this.regs);
  }

  get now(): number {
    return this.seams.clock.now();
  }

  /** Tells of a guest's mistake. */
  report(code: string, value: number): void {
    this.seams.report(code, value);
  }

  /** A bus cycle found nobody. */
  masterAbort(code: string, address: number): void {
    this.interrupts.raise(ISR_SERR);
    this.report(code, address);
  }

  /** The guest wrote DTCCR. What it asks for is complete before the command bit clears, in any case: drivers poll. */
  dumpTally(): void {
    const { regs, interrupts } = this;
    const low = regs.get(DTCCR_L.at, 4);
    if ((low & DTCCR_CMD) === 0) return;
    const { dma } = this.seams;
    const address = regs.get(DTCCR_H.at, 4) * 2 ** 32 + (low - (low % RTL8169_TALLY_SIZE));
    if (!dma.open) this.report("bus-master-off", DTCCR_L.at);
    else if (!this.tally.dump(dma, address)) this.masterAbort("tally-address", address);
    dma.flush();
    regs.set(DTCCR_L.at, 4, (low & ~DTCCR_CMD) >>> 0);
    interrupts.update();
  }

  nicCounters(): NicCounters {
    const at = (i: number): number => this.counters[i]!;
    return {
      txFrames: at(TX_FRAMES),
      txBytes: at(TX_BYTES),
      rxFrames: at(RX_FRAMES),
      rxBytes: at(RX_BYTES),
      rxNoBuffer: at(RX_NO_BUFFER),
      rxFiltered: at(RX_FILTERED),
      txDropped: at(TX_DROPPED),
      descriptorsRead: at(DESCRIPTORS_READ),
      bytesCopied: at(BYTES_COPIED),
      doorbells: at(DOORBELLS),
      interrupts: this.interrupts.rises,
    };
  }

  /** @param chip which member of its family the card is */
  save(chip: string): SavedState {
    return {
      chip,
      registers: this.regs.image(),
      interrupts: this.interrupts.save(),
      tally: this.tally.save(),
      counters: Array.from(this.counters),
    };
  }

  /**
   * Checks a state but for the interrupts, whose turn among the card's parts is the card's to know, and returns what applies
   * it. Bits of registers that neither a guest nor the chip can change must be what they are after power-on.
   * @param own per byte, bits that the chip sets itself and that its map shows as read-only
   * @param strapped bits of CONFIG2 that the slot sets
   * @throws StateError
   */
  check(state: StateReader, chip: string, own: Uint8Array, strapped = 0): () => void {
    const saved = state.string("chip");
    if (saved !== chip) throw new StateError(`${state.path}.chip`, `${saved}, expected ${chip}`);
    const { rw, w1c, resetImage } = this.#map;
    const image = state.bytes("registers", resetImage.length);
    const path = `${state.path}.registers`;
    image.forEach((byte, at) => {
      const fixed = resetImage[at]! | (at === RTL8169.regs.CONFIG2.at ? strapped : 0);
      if (((byte ^ fixed) & ~(rw[at]! | w1c[at]! | own[at]!)) !== 0)
        throw new StateError(`${path}[${at}]`, `${byte} sets bits that cannot be set`);
    });
    if ((image[RTL8169.regs.CR.at]! & CR_RST) !== 0) throw new StateError(path, "CR.RST is set");
    const applyTally = this.tally.check(state.object("tally"));
    const counters = state.integers("counters", 0, Number.MAX_SAFE_INTEGER, COUNTERS);
    return () => {
      this.regs.restore(image);
      applyTally();
      this.counters.set(counters);
    };
  }
}
