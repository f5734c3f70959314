import assert from "node:assert/strict";
import { type Rtl8169Options, rtl8169 } from "../../devices/rtl8169/index.js";
import { LONGEST, Plugged, type RawGuest, type RawGuestOptions } from "./machine.js";

// opts1 as int32s: a larger number would be boxed on its way.
const OWN = 0x8000_0000 | 0;
const EOR = 0x4000_0000;
const FS = 0x2000_0000;
const LS = 0x1000_0000;

const TX_RING = 0x10_0000;
const RX_RING = 0x11_0000;
const TX_BUFFERS = 0x20_0000;
const RX_BUFFERS = 0x40_0000;
/** Descriptors of a ring: whole batches, and whole frames of three fragments. */
const ENTRIES = 192;
const SMALL_BUFFER = 0x600;
/** for frames beyond Ethernet's, as re(4) has them where the MTU asks for it */
const LARGE_BUFFER = 0x1f00;

/** The driver of an RTL8169 in raw numbers, interrupts on. */
export class Rtl8169Guest implements RawGuest {
  readonly plugged: Plugged;
  readonly #fragments: number;
  readonly #batch: number;
  readonly #opts1 = new Int32Array(ENTRIES);
  #tx = 0; // where the next frame goes
  #rx = 0;
  #open = 0; // frames of the present batch
  #length = 0;
  readonly #stride: number;
  readonly #rxCommand: number;

  constructor({ fragments = [60], batch = 1, large = LONGEST, ...options }: RawGuestOptions & Rtl8169Options = {}) {
    const isLarge = large > LONGEST;
    this.#stride = isLarge ? 0x2000 : 0x800;
    this.#rxCommand = OWN + (isLarge ? LARGE_BUFFER : SMALL_BUFFER);
    this.plugged = new Plugged(rtl8169(isLarge ? { ...options, mtu: 9000 } : options));
    this.plugged.far.expected = fragments.reduce((sum, size) => sum + size, 0);
    this.#fragments = fragments.length;
    this.#batch = batch;
    for (let i = 0; i < ENTRIES; i++) {
      const k = i % fragments.length;
      const last = i === ENTRIES - 1 ? EOR : 0;
      this.#opts1[i] = OWN + last + (k === 0 ? FS : 0) + (k === fragments.length - 1 ? LS : 0) + fragments[k]!;
      this.#describe(TX_RING + 16 * i, 0, TX_BUFFERS + this.#stride * i);
      this.#describe(RX_RING + 16 * i, this.#rxCommand + last, RX_BUFFERS + this.#stride * i);
    }
    const { card } = this.plugged;
    card.barWrite(1, 0x24, 4, 0);
    card.barWrite(1, 0x20, 4, TX_RING);
    card.barWrite(1, 0xe8, 4, 0);
    card.barWrite(1, 0xe4, 4, RX_RING);
    card.barWrite(1, 0xda, 2, isLarge ? LARGE_BUFFER : 0x05f3); // longest frame received
    card.barWrite(1, 0x37, 1, 0x0c); // transmitter and receiver on
    card.barWrite(1, 0x44, 4, 0xe70a); // own address and broadcast
    card.barWrite(1, 0x3e, 2, 0xffff);
    card.barWrite(1, 0x3c, 2, 0x0005); // TOK, ROK
    assert.equal(card.barRead(1, 0x6c, 1) & 0x02, 0x02, "the link is up");
  }

  receive(bytes: Uint8Array, start: number, length: number): void {
    if (this.plugged.card.net.offer(bytes, start, length, null, 0) !== "taken") throw new Error("not taken");
    this.#length = length;
    if (++this.#open === this.#batch) this.#takeBatch();
  }

  transmit(): void {
    const { view } = this.plugged;
    const first = TX_RING + 16 * this.#tx;
    for (let k = 0; k < this.#fragments; k++) view.setInt32(first + 16 * k, this.#opts1[this.#tx + k]!, true);
    this.#tx = this.#tx + this.#fragments === ENTRIES ? 0 : this.#tx + this.#fragments;
    if (++this.#open === this.#batch) this.#sendBatch(first);
  }

  received(): Uint8Array {
    const last = (this.#rx + this.#open + ENTRIES - 1) % ENTRIES;
    const at = RX_BUFFERS + this.#stride * last;
    return this.plugged.ram.slice(at, at + this.#length);
  }

  #takeBatch(): void {
    const { card, view } = this.plugged;
    card.net.endBatch();
    if (card.barRead(1, 0x3e, 2) !== 0x0001) throw new Error("no ROK");
    card.barWrite(1, 0x3e, 2, 0x0001);
    for (; this.#open > 0; this.#open--) {
      const at = RX_RING + 16 * this.#rx;
      if ((view.getUint16(at, true) & 0x3fff) !== this.#length + 4) throw new Error("not received");
      const last = this.#rx === ENTRIES - 1;
      view.setInt32(at, last ? this.#rxCommand + EOR : this.#rxCommand, true);
      this.#rx = last ? 0 : this.#rx + 1;
    }
  }

  /** @param last address of the last frame's first descriptor */
  #sendBatch(last: number): void {
    const { card, view } = this.plugged;
    card.barWrite(1, 0x38, 1, 0x40); // TPPoll.NPQ
    if (view.getInt32(last, true) < 0) throw new Error("not sent");
    if ((card.barRead(1, 0x3e, 2) & 0x0004) === 0) throw new Error("no TOK");
    card.barWrite(1, 0x3e, 2, 0x0084); // TOK, TDU
    this.#open = 0;
  }

  #describe(at: number, opts1: number, buffer: number): void {
    const { view } = this.plugged;
    view.setInt32(at, opts1, true);
    view.setUint32(at + 8, buffer, true);
  }
}
