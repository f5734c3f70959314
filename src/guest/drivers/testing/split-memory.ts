import type { DmaSyncOp, GuestBus, GuestDma } from "../../../contract/index.js";
import { Tag, UNCONSTRAINED } from "../../bus-dma.js";

/**
 * DMA memory in two copies, the driver's and the device's: what no `sync` has carried over is not there. Accesses of the
 * driver are logged as `r16 4`, `w32 8`, `prewrite 0+16`, with offsets from `base`.
 */
export class SplitMemory implements GuestDma {
  readonly base = 0x1_0000;
  readonly driver: Uint8Array;
  readonly device: Uint8Array;
  readonly deviceView: DataView;
  readonly log: string[] = [];
  logging = false;
  /** bytes allocated and not freed */
  live = 0;
  readonly #view: DataView;
  #bump = 0;

  constructor(bytes: number) {
    this.driver = new Uint8Array(bytes);
    this.device = new Uint8Array(bytes);
    this.#view = new DataView(this.driver.buffer);
    this.deviceView = new DataView(this.device.buffer);
  }

  tag(): Tag {
    return new Tag({ dma: this } as unknown as GuestBus, UNCONSTRAINED, "needed");
  }

  alloc(bytes: number, align: number, below: number): number {
    const start = Math.ceil((this.base + this.#bump) / align) * align;
    if (start + bytes > this.base + this.driver.length || start + bytes - 1 > below) return -1;
    this.#bump = start + bytes - this.base;
    this.live += bytes;
    return start;
  }
  free(_address: number, bytes: number): void {
    this.live -= bytes;
  }
  read8(a: number): number {
    this.#note("r8", a);
    return this.#view.getUint8(a - this.base);
  }
  read16(a: number): number {
    this.#note("r16", a);
    return this.#view.getUint16(a - this.base, true);
  }
  read32(a: number): number {
    this.#note("r32", a);
    return this.#view.getUint32(a - this.base, true);
  }
  write8(a: number, v: number): void {
    this.#note("w8", a);
    this.#view.setUint8(a - this.base, v);
  }
  write16(a: number, v: number): void {
    this.#note("w16", a);
    this.#view.setUint16(a - this.base, v, true);
  }
  write32(a: number, v: number): void {
    this.#note("w32", a);
    this.#view.setUint32(a - this.base, v, true);
  }
  copyOut(a: number, target: Uint8Array, start: number, length: number): void {
    target.set(this.driver.subarray(a - this.base, a - this.base + length), start);
  }
  copyIn(a: number, source: Uint8Array, start: number, length: number): void {
    this.driver.set(source.subarray(start, start + length), a - this.base);
  }
  sync(a: number, length: number, op: DmaSyncOp): void {
    const at = a - this.base;
    if (this.logging) this.log.push(`${op} ${at}+${length}`);
    if (op === "prewrite") this.device.set(this.driver.subarray(at, at + length), at);
    if (op === "postread") this.driver.set(this.device.subarray(at, at + length), at);
  }

  #note(what: string, a: number): void {
    if (this.logging) this.log.push(`${what} ${a - this.base}`);
  }
}

/** The device's side of a split ring by raw numbers (VIRTIO 1.3 §2.7), over the device's copy of the memory. */
export class RawRing {
  readonly size: number;
  readonly #memory: SplitMemory;
  readonly #desc: number;
  readonly #avail: number;
  readonly #used: number;
  last = 0;
  used = 0;

  constructor(memory: SplitMemory, desc: number, avail: number, used: number, size: number) {
    this.#memory = memory;
    this.size = size;
    this.#desc = desc - memory.base;
    this.#avail = avail - memory.base;
    this.#used = used - memory.base;
  }

  get availIdx(): number {
    return this.#memory.deviceView.getUint16(this.#avail + 2, true);
  }
  get availFlags(): number {
    return this.#memory.deviceView.getUint16(this.#avail, true);
  }
  get usedEvent(): number {
    return this.#memory.deviceView.getUint16(this.#avail + 4 + 2 * this.size, true);
  }
  set availEvent(value: number) {
    this.#memory.deviceView.setUint16(this.#used + 4 + 8 * this.size, value, true);
  }
  set usedFlags(value: number) {
    this.#memory.deviceView.setUint16(this.#used, value, true);
  }

  /** The next available head; or −1, and asks to be notified of the next one. */
  pop(): number {
    if (this.last === this.availIdx) {
      this.availEvent = this.last;
      return -1;
    }
    const head = this.#memory.deviceView.getUint16(this.#avail + 4 + 2 * (this.last % this.size), true);
    this.last = (this.last + 1) & 0xffff;
    return head;
  }

  /** The chain of a head: address, length, flags without NEXT and INDIRECT. */
  chain(head: number): { addr: number; len: number; write: boolean }[] {
    const v = this.#memory.deviceView;
    const found = [];
    let table = this.#desc;
    let at = head;
    for (let n = 0; n < 70_000; n++) {
      const d = table + 16 * at;
      const addr = v.getUint32(d, true) + v.getUint32(d + 4, true) * 2 ** 32;
      const len = v.getUint32(d + 8, true);
      const flags = v.getUint16(d + 12, true);
      if ((flags & 4) !== 0) {
        table = addr - this.#memory.base;
        at = 0;
        continue;
      }
      found.push({ addr, len, write: (flags & 2) !== 0 });
      if ((flags & 1) === 0) return found;
      at = v.getUint16(d + 14, true);
    }
    throw new Error("a chain without an end");
  }

  /** Whether the head is one descriptor with a table. */
  indirect(head: number): boolean {
    return (this.#memory.deviceView.getUint16(this.#desc + 16 * head + 12, true) & 4) !== 0;
  }

  /** Writes a used entry, published or not. */
  push(id: number, len: number, publish = true): void {
    const at = this.#used + 4 + 8 * (this.used % this.size);
    this.#memory.deviceView.setUint32(at, id, true);
    this.#memory.deviceView.setUint32(at + 4, len, true);
    this.used = (this.used + 1) & 0xffff;
    if (publish) this.publish(this.used);
  }

  publish(idx: number): void {
    this.#memory.deviceView.setUint16(this.#used + 2, idx, true);
  }
}
