import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_PACKED_DESC_F_AVAIL,
  VIRTQ_PACKED_DESC_F_USED,
  VIRTQ_PACKED_EVENT_FLAG_DESC,
  VIRTQ_PACKED_EVENT_FLAG_DISABLE,
  VIRTQ_PACKED_EVENT_FLAG_ENABLE,
  VIRTQ_USED_F_NO_NOTIFY,
  virtqNeedEvent,
} from "../../spec/virtio.js";
import type { RecordingGuest } from "./guest.js";

/** A buffer of a chain. */
export interface Piece {
  readonly at: number;
  readonly length: number;
  readonly writable: boolean;
}

/** A chain that the device has used. */
export interface Used {
  /** what `add` returned for it */
  readonly id: number;
  readonly length: number;
  /** where in the ring the length stands */
  readonly lengthAt: number;
}

/** How the driver wants to be interrupted: always, never, or (event index) when so many more chains were used. */
export type Wish = "always" | "never" | number;

/** Byte addresses of the three areas of a ring. */
export interface Areas {
  readonly desc: number;
  readonly driver: number;
  readonly device: number;
}

const descriptor = (at: number, length: number, third: number, fourth: number): Buffer => {
  const bytes = Buffer.alloc(VIRTQ_DESC_SIZE);
  bytes.writeUInt32LE(at % 2 ** 32, 0);
  bytes.writeUInt32LE(Math.floor(at / 2 ** 32), 4);
  bytes.writeUInt32LE(length, 8);
  bytes.writeUInt16LE(third, 12);
  bytes.writeUInt16LE(fourth, 14);
  return bytes;
};

/** A driver's side of a virtqueue, in single accesses. It keeps the rules: what it does is what a legal driver may do. */
export abstract class DriverRing {
  readonly guest: RecordingGuest;
  readonly size: number;
  readonly areas: Areas;
  readonly eventIdx: boolean;
  /** chains that the device may still use */
  outstanding = 0;
  /** chains that were used and taken back */
  taken = 0;

  constructor(guest: RecordingGuest, size: number, areas: Areas, eventIdx: boolean) {
    this.guest = guest;
    this.size = size;
    this.areas = areas;
    this.eventIdx = eventIdx;
  }

  /** descriptors that can be added */
  abstract readonly free: number;
  /** Puts a chain into the ring; the device does not see it before `publish`. @param table address of an indirect table, 0: none */
  abstract add(pieces: readonly Piece[], table?: number): number;
  /** Makes the added chains available. @returns whether the device wants to be notified */
  abstract publish(): boolean;
  /** The next used chain, or null. */
  abstract take(): Used | null;
  abstract wish(wish: Wish): void;

  /** All used chains. */
  takeAll(): Used[] {
    const all: Used[] = [];
    for (let used = this.take(); used !== null; used = this.take()) all.push(used);
    return all;
  }

  protected table(pieces: readonly Piece[], table: number, chained: boolean): void {
    const { guest } = this;
    for (const [i, { at, length, writable }] of pieces.entries()) {
      const more = chained && i < pieces.length - 1;
      const flags = (writable ? VIRTQ_DESC_F_WRITE : 0) | (more ? VIRTQ_DESC_F_NEXT : 0);
      const bytes = chained ? descriptor(at, length, flags, more ? i + 1 : 0) : descriptor(at, length, 0, flags);
      guest.put(table + VIRTQ_DESC_SIZE * i, bytes);
    }
  }
}

/** VIRTIO 1.3 §2.7 */
export class SplitRing extends DriverRing {
  readonly #free: number[];
  /** descriptors of each chain, by its head */
  readonly #chains = new Map<number, readonly number[]>();
  #added = 0;
  #published = 0;
  #seen = 0;

  constructor(guest: RecordingGuest, size: number, areas: Areas, eventIdx: boolean) {
    super(guest, size, areas, eventIdx);
    this.#free = Array.from({ length: size }, (_, i) => i);
  }

  get free(): number {
    return this.#free.length;
  }

  add(pieces: readonly Piece[], table = 0): number {
    const { guest, areas, size } = this;
    const chain = this.#free.splice(0, table === 0 ? pieces.length : 1);
    const head = chain[0]!;
    this.#chains.set(head, chain);
    if (table !== 0) {
      this.table(pieces, table, true);
      const bytes = descriptor(table, VIRTQ_DESC_SIZE * pieces.length, VIRTQ_DESC_F_INDIRECT, 0);
      guest.put(areas.desc + VIRTQ_DESC_SIZE * head, bytes);
    } else
      for (const [i, { at, length, writable }] of pieces.entries()) {
        const next = chain[i + 1];
        const flags = (writable ? VIRTQ_DESC_F_WRITE : 0) | (next === undefined ? 0 : VIRTQ_DESC_F_NEXT);
        guest.put(areas.desc + VIRTQ_DESC_SIZE * chain[i]!, descriptor(at, length, flags, next ?? 0));
      }
    guest.put16(areas.driver + 4 + 2 * (this.#added % size), head);
    this.#added = (this.#added + 1) & 0xffff;
    this.outstanding++;
    return head;
  }

  publish(): boolean {
    const { guest, areas, size } = this;
    const old = this.#published;
    guest.put16(areas.driver + 2, this.#added);
    this.#published = this.#added;
    if (this.eventIdx) return virtqNeedEvent(guest.get16(areas.device + 4 + 8 * size), this.#added, old);
    return (guest.get16(areas.device) & VIRTQ_USED_F_NO_NOTIFY) === 0;
  }

  take(): Used | null {
    const { guest, areas, size } = this;
    if (guest.get16(areas.device + 2) === this.#seen) return null;
    if (this.outstanding === 0) throw new Error("the device used more chains than it had");
    const at = areas.device + 4 + 8 * (this.#seen % size);
    const entry = guest.get(at, 8);
    this.#seen = (this.#seen + 1) & 0xffff;
    const id = entry.readUInt32LE(0);
    this.#free.push(...(this.#chains.get(id) ?? []));
    this.#chains.delete(id);
    this.outstanding--;
    this.taken++;
    return { id, length: entry.readUInt32LE(4), lengthAt: at + 4 };
  }

  wish(wish: Wish): void {
    const { guest, areas, size } = this;
    if (!this.eventIdx) guest.put16(areas.driver, wish === "never" ? VIRTQ_AVAIL_F_NO_INTERRUPT : 0);
    else {
      // "never" is an event that lies half a ring of indices ahead, as Linux has it.
      const ahead = wish === "always" ? 0 : wish === "never" ? 0x8000 : wish;
      guest.put16(areas.driver + 4 + 2 * size, this.#seen + ahead);
    }
  }
}

/** VIRTIO 1.3 §2.8 */
export class PackedRing extends DriverRing {
  #free: number;
  /** place of the next descriptor: 0 … 2·size − 1, the laps with wrap counter 1 and 0 behind one another */
  #next = 0;
  #used = 0;
  /** place of the first descriptor that was added and not published, and its flags, which are stored last */
  #held: { readonly place: number; readonly flags: number } | null = null;
  #published = 0;
  readonly #ids: number[];
  readonly #slots = new Map<number, number>();

  constructor(guest: RecordingGuest, size: number, areas: Areas, eventIdx: boolean) {
    super(guest, size, areas, eventIdx);
    this.#free = size;
    this.#ids = Array.from({ length: size }, (_, i) => i);
  }

  get free(): number {
    return this.#free;
  }

  add(pieces: readonly Piece[], table = 0): number {
    const { guest, areas, size } = this;
    const id = this.#ids.shift()!;
    const slots = table === 0 ? pieces.length : 1;
    if (table !== 0) this.table(pieces, table, false);
    for (let i = 0; i < slots; i++) {
      const place = (this.#next + i) % (2 * size);
      const { at, length, writable } =
        table === 0 ? pieces[i]! : { at: table, length: VIRTQ_DESC_SIZE * pieces.length, writable: false };
      let flags = (writable ? VIRTQ_DESC_F_WRITE : 0) | (i < slots - 1 ? VIRTQ_DESC_F_NEXT : 0);
      if (table !== 0) flags |= VIRTQ_DESC_F_INDIRECT;
      flags |= place < size ? VIRTQ_PACKED_DESC_F_AVAIL : VIRTQ_PACKED_DESC_F_USED;
      const address = areas.desc + VIRTQ_DESC_SIZE * (place % size);
      const bytes = descriptor(at, length, id, flags);
      if (this.#held === null) {
        this.#held = { place, flags };
        guest.put(address, bytes.subarray(0, 14));
      } else guest.put(address, bytes);
    }
    this.#slots.set(id, slots);
    this.#next = (this.#next + slots) % (2 * size);
    this.#free -= slots;
    this.outstanding++;
    return id;
  }

  publish(): boolean {
    const { guest, areas, size } = this;
    if (this.#held === null) return false;
    guest.put16(areas.desc + VIRTQ_DESC_SIZE * (this.#held.place % size) + 14, this.#held.flags);
    this.#held = null;
    const old = this.#published;
    this.#published = this.#next;
    const event = guest.get(areas.device, 4);
    const flags = event.readUInt16LE(2) & 3;
    if (flags !== VIRTQ_PACKED_EVENT_FLAG_DESC) return flags === VIRTQ_PACKED_EVENT_FLAG_ENABLE;
    const offWrap = event.readUInt16LE(0);
    const place = (offWrap & 0x7fff) + ((offWrap & 0x8000) !== 0 ? 0 : size);
    // Was the place among those that were just published?
    const distance = (place - old + 2 * size) % (2 * size);
    return distance < (this.#next - old + 2 * size) % (2 * size);
  }

  take(): Used | null {
    const { guest, areas, size } = this;
    const entry = guest.get(areas.desc + VIRTQ_DESC_SIZE * (this.#used % size), VIRTQ_DESC_SIZE);
    const both = VIRTQ_PACKED_DESC_F_AVAIL | VIRTQ_PACKED_DESC_F_USED;
    if (this.outstanding === 0 || (entry.readUInt16LE(14) & both) !== (this.#used < size ? both : 0)) return null;
    const id = entry.readUInt16LE(12);
    const lengthAt = areas.desc + VIRTQ_DESC_SIZE * (this.#used % size) + 8;
    const slots = this.#slots.get(id) ?? 0;
    this.#slots.delete(id);
    this.#ids.push(id);
    this.#used = (this.#used + slots) % (2 * size);
    this.#free += slots;
    this.outstanding--;
    this.taken++;
    return { id, length: entry.readUInt32LE(8), lengthAt };
  }

  wish(wish: Wish): void {
    const { guest, areas, size } = this;
    if (typeof wish === "string" || !this.eventIdx) {
      guest.put16(
        areas.driver + 2,
        wish === "never" ? VIRTQ_PACKED_EVENT_FLAG_DISABLE : VIRTQ_PACKED_EVENT_FLAG_ENABLE,
      );
      return;
    }
    const place = (this.#used + wish) % (2 * size);
    guest.put16(areas.driver, (place % size) | (place < size ? 0x8000 : 0));
    guest.put16(areas.driver + 2, VIRTQ_PACKED_EVENT_FLAG_DESC);
  }
}
