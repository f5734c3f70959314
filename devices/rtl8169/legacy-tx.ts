import { ETHER_HDR_LEN, ETHER_MIN_LEN, type StateReader } from "../../src/bytes/index.js";
import type { AccessWidth, DmaDoor, SavedState } from "../../src/contract/index.js";
import { bits } from "../../src/regs/index.js";
import { RTL8139_TSD, RTL8139_TX_SLOTS, RTL8139CP } from "../../src/spec/rtl8139.js";
import type { TxCard } from "./tx-ring.js";

const OWN = bits(RTL8139_TSD.OWN);
const TOK = bits(RTL8139_TSD.TOK);
const TABT = bits(RTL8139_TSD.TABT);
const CRS = bits(RTL8139_TSD.CRS);
const SIZE = bits(RTL8139_TSD.SIZE);
const WRITABLE = OWN | SIZE | bits(RTL8139_TSD.ERTXTH);

const ISR_TER = bits(RTL8139CP.regs.ISR.fields.TER!);

const FCS_LEN = 4;
const STAGE_SIZE = SIZE + 1;

/** What the slots need of their chip. */
export interface SlotHost {
  /** TSADn */
  slotAddress(slot: number): number;
  /** only what hardware would do: a frame too short for the wire is lost there, and buffers begin at dwords */
  readonly strict: boolean;
  /** whether somebody hears what is sent */
  readonly carrier: boolean;
}

/** What became of a slot's frame. */
type Outcome = "sent" | "later" | "aborted";

/**
 * The transmitter of the old chips: four slots, each a status (TSD) and an address (TSAD) register, sent in turn. A slot
 * whose OWN is 0 waits to be sent; the chip does not pad.
 */
export class LegacyTx {
  readonly #card: TxCard;
  readonly #host: SlotHost;
  #stage = new Uint8Array(0); // made when a frame first has to be put together
  #stageView = new DataView(this.#stage.buffer);
  /** causes that arose in the last run, but TOK */
  causes = 0;
  /** frames that the last run sent */
  frames = 0;
  // volatile
  readonly #tsd = new Uint32Array(RTL8139_TX_SLOTS);
  #current = 0;
  /** stopped by TABT until CLRABT */
  #aborted = false;
  #stalled = false;

  constructor(card: TxCard, host: SlotHost) {
    this.#card = card;
    this.#host = host;
    this.reset();
  }

  /** The current slot as the driver goes on: after a reset the first one. */
  reset(): void {
    this.#tsd.fill(OWN);
    this.#current = 0;
    this.#aborted = false;
    this.#stalled = false;
  }

  get stalled(): boolean {
    return this.#stalled;
  }

  /** Whether the current slot waits to be sent. */
  get active(): boolean {
    return !this.#aborted && (this.#tsd[this.#current]! & OWN) === 0;
  }

  /** Whether all slots wait: a driver can do nothing then but wait with them. */
  get full(): boolean {
    for (let slot = 0; slot < RTL8139_TX_SLOTS; slot++) if ((this.#tsd[slot]! & OWN) !== 0) return false;
    return this.active;
  }

  /** TSDn */
  status(slot: number): number {
    return this.#tsd[slot]!;
  }

  /** TSAD (60h): TOK, TUN (never), TABT and OWN of all slots. */
  get summary(): number {
    let summary = 0;
    for (let slot = 0; slot < RTL8139_TX_SLOTS; slot++) {
      const tsd = this.#tsd[slot]!;
      if ((tsd & TOK) !== 0) summary |= 0x1000 << slot;
      if ((tsd & TABT) !== 0) summary |= 0x0010 << slot;
      if ((tsd & OWN) !== 0) summary |= 0x0001 << slot;
    }
    return summary;
  }

  /**
   * A guest's write to TSDn, or to a part of it. The byte with OWN is the one that hands the slot over, and forgets how the
   * last frame fared.
   * @param lane offset in the register, bytes
   * @returns whether there is something to send
   */
  write(slot: number, lane: number, width: AccessWidth, value: number): boolean {
    const mask = ((2 ** (8 * width) - 1) * 2 ** (8 * lane)) & WRITABLE;
    const written = (value << (8 * lane)) & mask;
    const kept = this.#tsd[slot]! & ~mask;
    if ((mask & OWN) === 0) {
      this.#tsd[slot] = kept | written;
      return false;
    }
    this.#tsd[slot] = (kept & WRITABLE) | written;
    if ((written & OWN) !== 0) return false;
    if (!this.active && !this.#aborted) this.#card.report("tx-slot-order", slot); // waits for its turn
    return this.active;
  }

  /** A slot keeps waiting when there is no way to its frame. */
  deactivate(): void {}

  /** CLRABT: sends the aborted slot again. */
  clearAbort(): boolean {
    if (!this.#aborted) return false;
    this.#aborted = false;
    this.#tsd[this.#current] = this.#tsd[this.#current]! & ~(TABT | OWN);
    return true;
  }

  /** Sends from the current slot on. @returns slots used, at most `budget` */
  run(door: DmaDoor, budget: number): number {
    this.causes = 0;
    this.frames = 0;
    this.#stalled = false;
    let used = 0;
    while (used < budget && this.active) {
      const slot = this.#current;
      const outcome = this.#send(door, slot);
      if (outcome === "later") {
        this.#stalled = true;
        return used;
      }
      used++;
      if (outcome === "aborted") {
        this.#aborted = true;
        this.#tsd[slot] = this.#tsd[slot]! | OWN | TABT;
        this.causes |= ISR_TER;
        return used;
      }
      this.#tsd[slot] = this.#tsd[slot]! | OWN | TOK | (this.#host.carrier ? 0 : CRS);
      this.frames++;
      this.#current = (slot + 1) % RTL8139_TX_SLOTS;
    }
    return used;
  }

  #send(door: DmaDoor, slot: number): Outcome {
    const card = this.#card;
    const address = this.#address(slot);
    const length = this.#tsd[slot]! & SIZE;
    if (length < ETHER_MIN_LEN) {
      card.report("tx-runt", length);
      if (length < ETHER_HDR_LEN || this.#host.strict) return this.#lost();
    }
    if (!card.noCrc && door.locate(address, length)) return this.#offer(door.bytes, door.at, length, 0);
    if (this.#stage.length === 0) this.#makeStage();
    if (!door.read(address, length, this.#stage, 0)) {
      card.txFailed("tx-frame-lost", length);
      card.masterAbort("tx-buffer-address", address);
      return "aborted";
    }
    if (!card.noCrc) return this.#offer(this.#stage, 0, length, length);
    if (card.fcsHolds(this.#stageView, 0, length)) return this.#offer(this.#stage, 0, length - FCS_LEN, length);
    card.report("tx-bad-fcs", length);
    return this.#lost();
  }

  /** The chip leaves AD[1:0] low; Observed: FreeBSD's rl(4) and 8139too copy every frame for that. */
  #address(slot: number): number {
    const address = this.#host.slotAddress(slot);
    if (address % 4 === 0) return address;
    this.#card.report("tx-misaligned", address);
    return this.#host.strict ? address - (address % 4) : address;
  }

  #offer(bytes: Uint8Array, start: number, length: number, copied: number): Outcome {
    if (length < ETHER_HDR_LEN) return this.#lost();
    if (this.#card.transmit(bytes, start, length, null, 1) === "later") return "later";
    this.#card.txUsed(copied);
    return "sent";
  }

  /** It goes out, and no station takes it for a frame; the chip never learns. */
  #lost(): Outcome {
    this.#card.txFailed("tx-frame-lost", this.#current);
    return "sent";
  }

  #makeStage(): void {
    this.#stage = new Uint8Array(STAGE_SIZE);
    this.#stageView = new DataView(this.#stage.buffer);
  }

  save(): SavedState {
    return {
      tsd: Array.from(this.#tsd),
      current: this.#current,
      aborted: this.#aborted,
      stalled: this.#stalled,
    };
  }

  /** Checks a state and returns what applies it. @throws StateError */
  check(state: StateReader): () => void {
    const tsd = state.integers("tsd", 0, 0xffff_ffff, RTL8139_TX_SLOTS);
    const current = state.integer("current", 0, RTL8139_TX_SLOTS - 1);
    const aborted = state.boolean("aborted");
    const stalled = state.boolean("stalled");
    return () => {
      this.#tsd.set(tsd);
      this.#current = current;
      this.#aborted = aborted;
      this.#stalled = stalled;
    };
  }
}
