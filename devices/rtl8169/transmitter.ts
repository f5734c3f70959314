import { crc32View, type StateReader } from "../../src/bytes/index.js";
import type { Offload, SavedState, Verdict } from "../../src/contract/index.js";
import { Segmenter } from "../../src/net/index.js";
import { BYTES_COPIED, type CardCore, DESCRIPTORS_READ, TX_BYTES, TX_DROPPED, TX_FRAMES } from "./core.js";
import type { RingFormat } from "./descriptor.js";
import { TALLY_TX_ABT, TALLY_TX_ERR, TALLY_TX_OK } from "./tally.js";
import { type TxCard, TxRing } from "./tx-ring.js";

/** CRC-32 over a frame and its own FCS. */
const CRC32_RESIDUE = 0x2144_df1c;
/** Longest frame without FCS that drivers send these chips: their FIFO holds 8 KiB. Observed: FreeBSD, RL_JUMBO_FRAMELEN */
const LONGEST_JUMBO = 7436;

/** What sends on a doorbell: a ring, or the slots of an older chip. */
type TxEngine = Pick<TxRing, "active" | "stalled" | "deactivate" | "run" | "frames" | "causes">;

/** The transmitting half of a card with descriptor rings: the normal and the high priority ring, and the way out. */
export class Transmitter implements TxCard {
  readonly normal: TxRing;
  readonly high: TxRing;
  readonly #core: CardCore;
  readonly #loop: (bytes: Uint8Array, start: number, length: number) => void;
  readonly #segmenter = new Segmenter();
  // derived from registers and PHY by the card
  #looped = false;
  #link = false;
  noCrc = false;
  /** whether the last turn of the rings ended at a far end that said `later` */
  waits = false;
  // only while a queue runs
  #running = false;
  #offered = false;

  /** @param loop takes what is sent while the card is looped */
  constructor(core: CardCore, format: RingFormat, loop: (bytes: Uint8Array, start: number, length: number) => void) {
    this.#core = core;
    this.#loop = loop;
    this.normal = new TxRing(this, format);
    this.high = new TxRing(this, format);
  }

  /** What the registers say, as far as each frame is concerned. */
  set(noCrc: boolean, looped: boolean, link: boolean): void {
    this.noCrc = noCrc;
    this.#looped = looped;
    this.#link = link;
  }

  restart(): void {
    this.normal.restart();
    this.high.restart();
  }

  /**
   * Works one of the rings. Hosts give turns in any order, so the turn of the normal ring is first the other one's.
   * @returns descriptors used
   */
  runRings(highAlone: boolean, budget: number, doorbellAt: number): number {
    const { high, normal } = this;
    const withHigh = highAlone || !high.stalled;
    let used = withHigh ? this.run(high, budget, doorbellAt) : 0;
    const withNormal = !highAlone && used < budget;
    if (withNormal) used += this.run(normal, budget - used, doorbellAt);
    this.waits = (withHigh && high.stalled) || (withNormal && normal.stalled);
    return used;
  }

  /** Works a ring that a doorbell activated. @returns descriptors used; `active` of the ring may have changed */
  run(ring: TxEngine, budget: number, doorbellAt: number): number {
    // Asked for from inside the far end's offer: the retry timer asks again.
    if (this.#running || !ring.active) return 0;
    const { seams, interrupts, far } = this.#core;
    const { dma } = seams;
    if (!dma.open) {
      this.report("bus-master-off", doorbellAt);
      ring.deactivate();
      return 0;
    }
    this.#running = true;
    this.#offered = false;
    const used = ring.run(dma, budget);
    this.#running = false;
    dma.flush();
    if (this.#offered) far?.endBatch();
    if (ring.frames > 0) interrupts.sent(ring.frames);
    interrupts.raise(ring.causes);
    interrupts.update();
    return used;
  }

  // What the rings need of their card.

  transmit(bytes: Uint8Array, start: number, length: number, offload: Offload | null, frames: number): Verdict {
    const { counters, tally, far } = this.#core;
    if (length > LONGEST_JUMBO && frames === 1) this.report("tx-jumbo", length);
    if (this.#looped) this.#returnAll(bytes, start, length, offload);
    else {
      if (far === null || !this.#link) {
        counters[TX_DROPPED]!++;
        tally.add(TALLY_TX_ERR);
        return "dropped";
      }
      this.#offered = true;
      if (far.offer(bytes, start, length, offload, 0) === "later") return "later";
    }
    counters[TX_FRAMES]!++;
    counters[TX_BYTES]! += length;
    tally.add(TALLY_TX_OK, frames);
    return "taken";
  }

  /** Nobody stands behind a loop to whom a cut could be left. */
  #returnAll(bytes: Uint8Array, start: number, length: number, offload: Offload | null): void {
    if (offload === null) {
      this.#loop(bytes, start, length);
      return;
    }
    const segmenter = this.#segmenter;
    segmenter.begin(bytes, start, length, offload); // it could be cut when it was prepared
    while (segmenter.next()) this.#loop(segmenter.bytes, 0, segmenter.length);
  }

  get leavesChecksums(): boolean {
    return !this.#looped && this.#core.far?.accepts().csum === true;
  }

  fcsHolds(view: DataView, start: number, length: number): boolean {
    return crc32View(view, start, length) === CRC32_RESIDUE;
  }

  txUsed(bytesCopied: number): void {
    const { counters } = this.#core;
    counters[DESCRIPTORS_READ]!++;
    counters[BYTES_COPIED]! += bytesCopied;
  }

  txFailed(code: string, value: number): void {
    const { counters, tally } = this.#core;
    counters[TX_DROPPED]!++;
    tally.add(TALLY_TX_ERR);
    tally.add(TALLY_TX_ABT);
    this.report(code, value);
  }

  report(code: string, value: number): void {
    this.#core.report(code, value);
  }

  masterAbort(code: string, address: number): void {
    this.#core.masterAbort(code, address);
  }

  save(): SavedState {
    return { normal: this.normal.save(), high: this.high.save() };
  }

  /** Checks a state and returns what applies it, once the rings' bases are set. @throws StateError */
  check(state: StateReader): () => void {
    const applyNormal = this.normal.check(state.object("normal"));
    const applyHigh = this.high.check(state.object("high"));
    return () => {
      applyNormal();
      applyHigh();
    };
  }
}
