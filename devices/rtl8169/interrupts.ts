import type { StateReader } from "../../src/bytes/index.js";
import type { FunctionInterrupts, FunctionSeams, SavedState } from "../../src/contract/index.js";
import { bits, type RegisterFile } from "../../src/regs/index.js";
import { RTL8169 } from "../../src/spec/rtl8169.js";
import { Moderation } from "./moderation.js";

const { ISR, IMR } = RTL8169.regs;
const TOK = bits(ISR.fields.TOK!);
const ROK = bits(ISR.fields.ROK!);

/**
 * ISR, IMR and the line. INTA# is the level ISR & IMR, so that a driver may acknowledge and unmask in either order; what
 * IntrMitigate holds back shows in ISR at once and on the line later.
 */
export class Interrupts {
  readonly #regs: RegisterFile;
  #line: FunctionInterrupts | null = null;
  // derived from registers and PHY by the card; 0: this direction is not moderated
  #txDelayNs = 0;
  #txFrames = 0;
  #rxDelayNs = 0;
  #rxFrames = 0;
  // volatile
  readonly #tx = new Moderation(() => this.update());
  readonly #rx = new Moderation(() => this.update());
  #level = false;
  /** rises of the line; a counter, not reset */
  rises = 0;

  constructor(regs: RegisterFile) {
    this.#regs = regs;
  }

  connect({ interrupts, clock }: FunctionSeams): void {
    this.#line = interrupts;
    this.#tx.connect(clock);
    this.#rx.connect(clock);
  }

  disconnect(): void {
    this.#tx.disconnect();
    this.#rx.disconnect();
    this.#line = null;
  }

  /** Nothing is held back any more; ISR and IMR are the card's to reset, and `update` follows. */
  reset(): void {
    this.#tx.release();
    this.#rx.release();
  }

  /** Sets how long, and for how many frames, TOK and ROK stay off the line; a wait that has begun keeps its end. */
  moderate(txDelayNs: number, txFrames: number, rxDelayNs: number, rxFrames: number): void {
    this.#txDelayNs = txDelayNs;
    this.#txFrames = txFrames;
    this.#rxDelayNs = rxDelayNs;
    this.#rxFrames = rxFrames;
    if (txDelayNs === 0) this.#tx.release();
    if (rxDelayNs === 0) this.#rx.release();
  }

  /** Latches causes; the line follows with `update`, once per batch. */
  raise(causes: number): void {
    this.#regs.set(ISR.at, 2, this.#regs.get(ISR.at, 2) | causes);
  }

  /** Latches TOK for frames that were sent. */
  sent(frames: number): void {
    const isr = this.#regs.get(ISR.at, 2);
    if (this.#txDelayNs !== 0) this.#tx.frames(frames, (isr & TOK) === 0, this.#txDelayNs, this.#txFrames);
    this.#regs.set(ISR.at, 2, isr | TOK);
  }

  /** Latches ROK for a frame that was received. */
  received(): void {
    const isr = this.#regs.get(ISR.at, 2);
    if (this.#rxDelayNs !== 0) this.#rx.frames(1, (isr & ROK) === 0, this.#rxDelayNs, this.#rxFrames);
    this.#regs.set(ISR.at, 2, isr | ROK);
  }

  /** Puts the line where ISR and IMR want it; after every change of one of them. */
  update(): void {
    let isr = this.#regs.get(ISR.at, 2);
    if (this.#tx.holding) isr = this.#without(isr, TOK, this.#tx);
    if (this.#rx.holding) isr = this.#without(isr, ROK, this.#rx);
    const level = (isr & this.#regs.get(IMR.at, 2)) !== 0;
    if (level === this.#level) return;
    this.#level = level;
    if (level) this.rises++;
    this.#line?.setIntx(level);
  }

  /** A cause that is held back does not count; one that the driver has acknowledged meanwhile is not held any more. */
  #without(isr: number, cause: number, moderation: Moderation): number {
    if ((isr & cause) === 0) moderation.release();
    return isr & ~cause;
  }

  save(): SavedState {
    return { level: this.#level, rises: this.rises, tx: this.#tx.save(), rx: this.#rx.save() };
  }

  /** Checks a state and returns what applies it; registers come before. @throws StateError */
  check(state: StateReader): () => void {
    const level = state.boolean("level");
    const rises = state.integer("rises", 0);
    const applyTx = this.#tx.check(state.object("tx"));
    const applyRx = this.#rx.check(state.object("rx"));
    return () => {
      this.#level = level;
      this.rises = rises;
      applyTx();
      applyRx();
    };
  }
}
