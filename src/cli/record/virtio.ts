import type { AccessWidth } from "../../contract/index.js";
import {
  legacyUsedOffset,
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  virtqDescBytes,
} from "../../spec/virtio.js";
import type { RecordingGuest } from "./guest.js";
import { type DriverRing, PackedRing, SplitRing } from "./rings.js";

/** Where things lie; no firmware has run, so that the guest places what it needs. */
export const PLACES = {
  io: 0xc000,
  memory: 0xe000_0000,
  msix: 0xe001_0000,
  /** what the rings and buffers of a guest lie in, bytes of RAM */
  arena: 0x20_0000,
  arenaSize: 0x4_0000,
  ringStep: 0x4000,
  /** messages of MSI-X, a word each: an ordinary address, as qtest clients have it */
  messages: 0x23_f000,
} as const;

const COMMAND = 0x04;
const BAR0 = 0x10;
const CAP_POINTER = 0x34;
const CAP_MSIX = 0x11;
const CAP_VENDOR = 0x09;
const MSIX_ENABLE = 0x8000;
const MSIX_MASKALL = 0x4000;
const ENTRY = 16;

export interface Negotiation {
  /** through the header in BAR 0, as drivers of 2010 do */
  readonly legacy: boolean;
  /** which of the offered bits to accept */
  readonly accept: (offered: ReadonlySet<number>) => Iterable<number>;
  /** descriptors of queue `index`, which has at most `max`; a legacy queue has them all. @returns 0: the queue is not used */
  readonly size: (index: number, max: number) => number;
  readonly queues: number;
  /** vectors of MSI-X to place, 0: INTx */
  readonly vectors: number;
  /** vector of a queue; null: none */
  readonly vectorOf?: (queue: number) => number | null;
}

const NO_VECTOR = 0xffff;

/** A driver of a virtio function that was not placed by anybody, through either interface. */
export class VirtioGuest {
  readonly guest: RecordingGuest;
  readonly bdf: number;
  legacy = false;
  features: ReadonlySet<number> = new Set();
  rings: (DriverRing | null)[] = [];
  vectors = 0;
  /** offsets of the structures in BAR 4, as the capabilities say */
  readonly #at = { common: 0, isr: 0, device: 0, notify: 0, multiplier: 0 };
  msixAt = 0;
  pbaAt = 0;
  readonly #notifyOff: number[] = [];

  constructor(guest: RecordingGuest, bdf: number) {
    this.guest = guest;
    this.bdf = bdf;
  }

  /** Finds the capabilities, and places and enables the function. */
  place(legacy: boolean): void {
    const { guest, bdf } = this;
    this.legacy = legacy;
    guest.configRead(bdf, 0, 4);
    for (let at = guest.configRead(bdf, CAP_POINTER, 1); at !== 0; at = guest.configRead(bdf, at + 1, 1)) {
      const id = guest.configRead(bdf, at, 1);
      if (id === CAP_MSIX) this.msixAt = at;
      if (id !== CAP_VENDOR) continue;
      const type = guest.configRead(bdf, at + 3, 1);
      const offset = guest.configRead(bdf, at + 8, 4);
      if (type === 1) this.#at.common = offset;
      else if (type === 2) {
        this.#at.notify = offset;
        this.#at.multiplier = guest.configRead(bdf, at + 16, 4);
      } else if (type === 3) this.#at.isr = offset;
      else if (type === 4) this.#at.device = offset;
    }
    if (legacy) guest.configWrite(bdf, BAR0, 4, PLACES.io);
    else {
      guest.configWrite(bdf, BAR0 + 16, 4, PLACES.memory);
      guest.configWrite(bdf, BAR0 + 20, 4, 0);
    }
    if (this.msixAt !== 0) {
      guest.configWrite(bdf, BAR0 + 4, 4, PLACES.msix);
      this.pbaAt = guest.configRead(bdf, this.msixAt + 8, 4) & ~7;
    }
    guest.configWrite(bdf, COMMAND, 2, 7);
  }

  // ---------------------------------------------------------------------------------------------- registers

  commonRead(offset: number, width: AccessWidth): number {
    return this.guest.read(width, PLACES.memory + this.#at.common + offset);
  }

  commonWrite(offset: number, width: AccessWidth, value: number): void {
    this.guest.write(width, PLACES.memory + this.#at.common + offset, value);
  }

  /** The device's own configuration. */
  configRead(offset: number, width: AccessWidth): number {
    if (!this.legacy) return this.guest.read(width, PLACES.memory + this.#at.device + offset);
    return this.guest.in(width, PLACES.io + (this.vectors > 0 ? 24 : 20) + offset);
  }

  configWrite(offset: number, width: AccessWidth, value: number): void {
    if (!this.legacy) this.guest.write(width, PLACES.memory + this.#at.device + offset, value);
    else this.guest.out(width, PLACES.io + (this.vectors > 0 ? 24 : 20) + offset, value);
  }

  get status(): number {
    return this.legacy ? this.guest.in(1, PLACES.io + 18) : this.commonRead(0x14, 1);
  }

  set status(value: number) {
    if (this.legacy) this.guest.out(1, PLACES.io + 18, value);
    else this.commonWrite(0x14, 1, value);
  }

  /** Reading takes the interrupt back. */
  isr(): number {
    return this.legacy ? this.guest.in(1, PLACES.io + 19) : this.guest.read(1, PLACES.memory + this.#at.isr);
  }

  notify(queue: number): void {
    if (this.legacy) this.guest.out(2, PLACES.io + 16, queue);
    else {
      const at = PLACES.memory + this.#at.notify + this.#notifyOff[queue]! * this.#at.multiplier;
      this.guest.write(2, at, queue);
    }
    this.guest.settle();
  }

  select(queue: number): void {
    if (this.legacy) this.guest.out(2, PLACES.io + 14, queue);
    else this.commonWrite(0x16, 2, queue);
  }

  // ---------------------------------------------------------------------------------------------- life

  reset(): void {
    this.status = 0;
    this.guest.settle();
    void this.status;
    this.rings = [];
    this.#notifyOff.length = 0;
  }

  offered(): Set<number> {
    const offered = new Set<number>();
    for (let word = 0; word < (this.legacy ? 1 : 2); word++) {
      if (!this.legacy) this.commonWrite(0, 4, word);
      const bits = this.legacy ? this.guest.in(4, PLACES.io) : this.commonRead(4, 4);
      for (let i = 0; i < 32; i++) if (((bits >>> i) & 1) !== 0) offered.add(32 * word + i);
    }
    return offered;
  }

  /** From reset to DRIVER_OK. VIRTIO 1.3 §3.1.1 */
  start({ accept, size, queues, vectors, vectorOf = () => null }: Negotiation): void {
    this.reset();
    this.setVectors(this.msixAt === 0 ? 0 : vectors);
    this.status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
    this.status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
    const offered = this.offered();
    this.features = new Set([...accept(offered)].filter((bit) => offered.has(bit)));
    const word = (w: number): number =>
      [...this.features].reduce((bits, bit) => (bit >> 5 === w ? (bits | (1 << (bit & 31))) >>> 0 : bits), 0);
    let status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
    if (this.legacy) this.guest.out(4, PLACES.io + 4, word(0));
    else {
      for (let w = 0; w < 2; w++) {
        this.commonWrite(8, 4, w);
        this.commonWrite(0xc, 4, word(w));
      }
      status |= VIRTIO_CONFIG_S_FEATURES_OK;
      this.status = status;
      void this.status;
    }
    if (this.vectors > 0) this.#configVector(0);
    this.rings = [];
    for (let q = 0; q < queues; q++) this.rings.push(this.setUpQueue(q, size, vectorOf));
    this.status = status | VIRTIO_CONFIG_S_DRIVER_OK;
    void this.status;
    this.guest.settle();
  }

  /** @returns null: there is no such queue, or it is not used */
  setUpQueue(q: number, size: Negotiation["size"], vectorOf: (queue: number) => number | null): DriverRing | null {
    const { guest } = this;
    const eventIdx = this.features.has(VIRTIO_F_EVENT_IDX);
    this.select(q);
    const max = this.legacy ? guest.in(2, PLACES.io + 12) : this.commonRead(0x18, 2);
    const chosen = max === 0 ? 0 : size(q, max);
    if (!this.legacy) this.#notifyOff[q] = this.commonRead(0x1e, 2);
    if (chosen === 0) return null;
    const desc = PLACES.arena + q * PLACES.ringStep;
    guest.fill(desc, PLACES.ringStep);
    const vector = vectorOf(q);
    if (this.legacy) {
      const areas = { desc, driver: desc + virtqDescBytes(max), device: desc + legacyUsedOffset(max) };
      guest.out(4, PLACES.io + 8, desc / 4096);
      guest.in(4, PLACES.io + 8);
      if (this.vectors > 0) {
        guest.out(2, PLACES.io + 22, vector ?? NO_VECTOR);
        guest.in(2, PLACES.io + 22);
      }
      return new SplitRing(guest, max, areas, eventIdx);
    }
    const areas = { desc, driver: desc + 0x2000, device: desc + 0x3000 };
    this.commonWrite(0x18, 2, chosen);
    for (const [at, value] of [
      [0x20, areas.desc],
      [0x28, areas.driver],
      [0x30, areas.device],
    ] as const) {
      this.commonWrite(at, 4, value);
      this.commonWrite(at + 4, 4, 0);
    }
    if (this.vectors > 0) {
      this.commonWrite(0x1a, 2, vector ?? NO_VECTOR);
      this.commonRead(0x1a, 2);
    }
    this.commonWrite(0x1c, 2, 1);
    this.commonRead(0x1c, 2);
    const Ring = this.features.has(VIRTIO_F_RING_PACKED) ? PackedRing : SplitRing;
    return new Ring(guest, chosen, areas, eventIdx);
  }

  /** Takes one queue out of use alone, and back. VIRTIO 1.3 §2.6.1 */
  resetQueue(q: number): void {
    this.select(q);
    this.commonWrite(0x3a, 2, 1);
    this.guest.settle();
    this.commonRead(0x3a, 2);
    this.commonRead(0x1c, 2);
    this.rings[q] = null;
  }

  get modern(): boolean {
    return this.features.has(VIRTIO_F_VERSION_1);
  }

  // ---------------------------------------------------------------------------------------------- MSI-X

  /** Places vectors and turns MSI-X on; 0: turns it off. */
  setVectors(vectors: number): void {
    const { guest, bdf, msixAt } = this;
    this.vectors = vectors;
    if (msixAt === 0) return;
    guest.configWrite(bdf, msixAt + 2, 2, vectors > 0 ? MSIX_ENABLE : 0);
    for (let v = 0; v < vectors; v++) {
      const at = PLACES.msix + ENTRY * v;
      guest.write(4, at, PLACES.messages + 4 * v);
      guest.write(4, at + 4, 0);
      guest.write(4, at + 8, 0xab00 + v);
      guest.write(4, at + 12, 0);
    }
    if (vectors > 0) guest.fill(PLACES.messages, 4 * vectors);
  }

  mask(vector: number, masked: boolean): void {
    this.guest.write(4, PLACES.msix + ENTRY * vector + 12, masked ? 1 : 0);
    this.guest.settle();
  }

  maskAll(masked: boolean): void {
    this.guest.configWrite(this.bdf, this.msixAt + 2, 2, MSIX_ENABLE | (masked ? MSIX_MASKALL : 0));
    this.guest.settle();
  }

  pending(): number {
    return this.guest.read(4, PLACES.msix + this.pbaAt);
  }

  /** Reads which messages came, and takes them. */
  messages(): Buffer {
    const { guest, vectors } = this;
    const words = guest.get(PLACES.messages, 4 * vectors);
    if (words.some((byte) => byte !== 0)) guest.fill(PLACES.messages, 4 * vectors);
    return words;
  }

  #configVector(vector: number): void {
    if (this.legacy) {
      this.guest.out(2, PLACES.io + 20, vector);
      this.guest.in(2, PLACES.io + 20);
    } else {
      this.commonWrite(0x10, 2, vector);
      this.commonRead(0x10, 2);
    }
  }
}
