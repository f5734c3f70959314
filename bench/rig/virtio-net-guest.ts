import assert from "node:assert/strict";
import { virtioNet } from "../../devices/virtio-net/index.js";
import { Plugged, type RawGuest, type RawGuestOptions } from "./machine.js";

const NEXT = 1;
const WRITE = 2;
const HEADER = 12;

const SIZE = 256;
const RX_RING = 0x10_0000;
const TX_RING = 0x12_0000;
const AVAIL = 0x1000; // from the start of a ring; 16 bytes for each descriptor before it
const USED = 0x2000;
const RX_BUFFERS = 0x20_0000;
const TX_BUFFERS = 0x40_0000;
const STRIDE = 0x800;
/** MRG_RXBUF, EVENT_IDX; and VERSION_1 in the second word */
const FEATURES = 0x2000_8000;

/** The driver of a virtio-net in raw numbers, modern interface, INTx, interrupts on. */
export class VirtioNetGuest implements RawGuest {
  readonly plugged: Plugged;
  readonly #batch: number;
  #tx = 0; // chains made available, modulo 65536
  #rx = 0; // buffers taken
  #open = 0; // frames of the present batch
  #length = 0;

  constructor({ fragments = [60], batch = 1 }: RawGuestOptions = {}) {
    this.#batch = batch;
    this.plugged = new Plugged(virtioNet());
    this.plugged.far.expected = fragments.reduce((sum, size) => sum + size, 0);
    const { card } = this.plugged;
    const status = (value: number): void => card.barWrite(4, 0x14, 1, value);
    status(0);
    status(1);
    status(3);
    card.barWrite(4, 0x08, 4, 0);
    card.barWrite(4, 0x0c, 4, FEATURES);
    card.barWrite(4, 0x08, 4, 1);
    card.barWrite(4, 0x0c, 4, 1);
    status(0x0b);
    assert.equal(card.barRead(4, 0x14, 1), 0x0b, "the features are accepted");
    for (const [queue, ring] of [RX_RING, TX_RING].entries()) {
      card.barWrite(4, 0x16, 2, queue);
      assert.equal(card.barRead(4, 0x18, 2), SIZE);
      card.barWrite(4, 0x20, 4, ring);
      card.barWrite(4, 0x28, 4, ring + AVAIL);
      card.barWrite(4, 0x30, 4, ring + USED);
      card.barWrite(4, 0x1c, 2, 1);
    }
    this.#fill(fragments);
    status(0x0f);
  }

  receive(bytes: Uint8Array, start: number, length: number): void {
    if (this.plugged.card.net.offer(bytes, start, length, null, 0) !== "taken") throw new Error("not taken");
    this.#length = length;
    if (++this.#open === this.#batch) this.#takeBatch();
  }

  transmit(): void {
    this.#tx = (this.#tx + 1) & 0xffff;
    this.plugged.view.setUint16(TX_RING + AVAIL + 2, this.#tx, true);
    if (++this.#open === this.#batch) this.#sendBatch();
  }

  received(): Uint8Array {
    const at = RX_BUFFERS + STRIDE * ((this.#rx + this.#open - 1) & (SIZE - 1)) + HEADER;
    return this.plugged.ram.slice(at, at + this.#length);
  }

  #takeBatch(): void {
    const { card, view } = this.plugged;
    card.net.endBatch();
    if (card.barRead(4, 0x1000, 1) !== 1) throw new Error("no interrupt");
    for (; this.#open > 0; this.#open--) {
      const entry = RX_RING + USED + 4 + 8 * (this.#rx & (SIZE - 1));
      if (view.getInt32(entry + 4, true) !== HEADER + this.#length) throw new Error("not received");
      this.#rx = (this.#rx + 1) & 0xffff;
    }
    if (view.getUint16(RX_RING + USED + 2, true) !== this.#rx) throw new Error("not used");
    view.setUint16(RX_RING + AVAIL + 4 + 2 * SIZE, this.#rx, true); // used_event
    view.setUint16(RX_RING + AVAIL + 2, (this.#rx + SIZE) & 0xffff, true); // the buffers are available again
  }

  #sendBatch(): void {
    const { card, view } = this.plugged;
    card.barWrite(4, 0x3004, 2, 1);
    if (view.getUint16(TX_RING + USED + 2, true) !== this.#tx) throw new Error("not used");
    if (card.barRead(4, 0x1000, 1) !== 1) throw new Error("no interrupt");
    view.setUint16(TX_RING + AVAIL + 4 + 2 * SIZE, this.#tx, true); // used_event
    this.#open = 0;
  }

  #fill(fragments: readonly number[]): void {
    const { view } = this.plugged;
    const describe = (ring: number, i: number, address: number, length: number, flags: number, next: number): void => {
      view.setUint32(ring + 16 * i, address, true);
      view.setUint32(ring + 16 * i + 8, length, true);
      view.setUint16(ring + 16 * i + 12, flags, true);
      view.setUint16(ring + 16 * i + 14, next, true);
    };
    const chains = Math.floor(SIZE / fragments.length);
    for (let i = 0; i < SIZE; i++) {
      describe(RX_RING, i, RX_BUFFERS + STRIDE * i, STRIDE, WRITE, 0);
      view.setUint16(RX_RING + AVAIL + 4 + 2 * i, i, true);
      view.setUint16(TX_RING + AVAIL + 4 + 2 * i, (i % chains) * fragments.length, true);
    }
    view.setUint16(RX_RING + AVAIL + 2, SIZE, true);
    for (let head = 0; head < chains * fragments.length; head += fragments.length)
      for (const [k, size] of fragments.entries()) {
        const more = k < fragments.length - 1;
        const length = k === 0 ? HEADER + size : size; // the header stands in front of the frame
        describe(TX_RING, head + k, TX_BUFFERS + STRIDE * (head + k), length, more ? NEXT : 0, more ? head + k + 1 : 0);
      }
  }
}
