import assert from "node:assert/strict";
import { virtioNet } from "../../devices/virtio-net/index.js";
import { LARGE, LONGEST, Plugged, type RawGuest, type RawGuestOptions } from "./machine.js";
import { AREAS, type Buffers, RawPackedRing, type RawRing, RawSplitRing } from "./virtio-rings.js";

const HEADER = 12;

const SIZE = 256;
const RX_RING = 0x10_0000;
const TX_RING = 0x12_0000;
const RX_BUFFERS = 0x20_0000;
const TX_BUFFERS = 0x40_0000;
const STRIDE = 0x800;
/** places for frames beyond Ethernet's; more chains than that share them */
const LARGE_STRIDE = 0x1_1000;
const LARGE_PLACES = 32;
/** MRG_RXBUF, EVENT_IDX; and VERSION_1 in the second word, with RING_PACKED */
const FEATURES = 0x2000_8000;
/** CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4 */
const OFFLOADS = 0x0000_0883;
const RING_PACKED = 4;

export interface VirtioNetGuestOptions extends RawGuestOptions {
  /** default split */
  readonly ring?: "split" | "packed";
}

/** The driver of a virtio-net in raw numbers, modern interface, INTx, interrupts on. */
export class VirtioNetGuest implements RawGuest {
  readonly plugged: Plugged;
  readonly #batch: number;
  readonly #rx: RawRing;
  readonly #tx: RawRing;
  #next = 0; // buffer that the next frame is received into
  #open = 0; // frames of the present batch
  #length = 0;

  constructor({ fragments = [60], batch = 1, large = LONGEST, ring = "split" }: VirtioNetGuestOptions = {}) {
    this.#batch = batch;
    const packed = ring === "packed";
    this.plugged = new Plugged(virtioNet({ packed }));
    const { card, far, ram, view } = this.plugged;
    far.expected = fragments.reduce((sum, size) => sum + size, 0);
    const status = (value: number): void => card.barWrite(4, 0x14, 1, value);
    status(0);
    status(1);
    status(3);
    card.barWrite(4, 0x08, 4, 0);
    card.barWrite(4, 0x0c, 4, FEATURES | (large > LONGEST ? OFFLOADS : 0));
    card.barWrite(4, 0x08, 4, 1);
    card.barWrite(4, 0x0c, 4, 1 | (packed ? RING_PACKED : 0));
    status(0x0b);
    assert.equal(card.barRead(4, 0x14, 1), 0x0b, "the features are accepted");
    const Ring = packed ? RawPackedRing : RawSplitRing;
    const rx: Buffers = { lengths: [STRIDE], at: (i) => RX_BUFFERS + STRIDE * i, writable: true };
    const tx: Buffers = {
      lengths: fragments.map((size, k) => (k === 0 ? HEADER + size : size)), // the header stands in front of the frame
      at: (i) => (far.expected > LONGEST ? TX_BUFFERS + LARGE_STRIDE * (i % LARGE_PLACES) : TX_BUFFERS + STRIDE * i),
      writable: false,
    };
    this.#rx = new Ring(view, RX_RING, SIZE, rx);
    this.#tx = new Ring(view, TX_RING, SIZE, tx);
    if (far.expected > LONGEST)
      for (let i = 0; i < LARGE_PLACES; i++) ram.set(LARGE_HEADER, TX_BUFFERS + LARGE_STRIDE * i);
    for (const [queue, { size }] of [this.#rx, this.#tx].entries()) {
      card.barWrite(4, 0x16, 2, queue);
      assert.equal(card.barRead(4, 0x18, 2), SIZE);
      card.barWrite(4, 0x18, 2, size);
      for (const [i, area] of AREAS.entries())
        card.barWrite(4, 0x20 + 8 * i, 4, (queue === 0 ? RX_RING : TX_RING) + area);
      card.barWrite(4, 0x1c, 2, 1);
    }
    this.#rx.arm(0);
    this.#tx.arm(0);
    for (let i = 0; i < SIZE; i++) this.#rx.add();
    status(0x0f);
  }

  receive(bytes: Uint8Array, start: number, length: number): void {
    const offload = length > LONGEST ? LARGE : null;
    if (this.plugged.card.net.offer(bytes, start, length, offload, 0) !== "taken") throw new Error("not taken");
    this.#length = length;
    if (++this.#open === this.#batch) this.#takeBatch();
  }

  transmit(): void {
    this.#tx.add();
    if (++this.#open === this.#batch) this.#sendBatch();
  }

  received(): Uint8Array {
    const first = this.#next + (this.#open - 1) * this.#buffers;
    const frame = new Uint8Array(this.#length);
    for (let k = 0, at = 0; at < frame.length; k++) {
      const skip = k === 0 ? HEADER : 0;
      const from = RX_BUFFERS + STRIDE * ((first + k + SIZE) % SIZE) + skip;
      const piece = this.plugged.ram.subarray(from, from + Math.min(STRIDE - skip, frame.length - at));
      frame.set(piece, at);
      at += piece.length;
    }
    return frame;
  }

  /** buffers that a frame fills */
  get #buffers(): number {
    return Math.ceil((HEADER + this.#length) / STRIDE);
  }

  #takeBatch(): void {
    const { card } = this.plugged;
    card.net.endBatch();
    if (card.barRead(4, 0x1000, 1) !== 1) throw new Error("no interrupt");
    const rx = this.#rx;
    const buffers = this.#buffers;
    for (; this.#open > 0; this.#open--) {
      let left = HEADER + this.#length;
      for (let k = 0; k < buffers; k++) {
        left -= rx.take();
        rx.add();
      }
      if (left !== 0) throw new Error("not received");
      this.#next = (this.#next + buffers) % SIZE;
    }
    rx.arm(SIZE);
  }

  #sendBatch(): void {
    const { card } = this.plugged;
    card.barWrite(4, 0x3004, 2, 1);
    for (; this.#open > 0; this.#open--) if (this.#tx.take() < 0) throw new Error("not used");
    if (card.barRead(4, 0x1000, 1) !== 1) throw new Error("no interrupt");
    this.#tx.arm(0);
  }
}

/** NEEDS_CSUM, TCPV4, headers of 54 bytes, segments of 1460, checksum from 34 at 16. §5.1.6 */
const LARGE_HEADER = Uint8Array.of(1, 1, 54, 0, 0xb4, 0x05, 34, 0, 16, 0, 0, 0);
