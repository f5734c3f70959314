import { hex } from "../../bytes/index.js";
import type { DmaSyncOp, GuestDma } from "../../contract/index.js";
import type { QtestLink } from "./client.js";

/** A piece of DMA memory: the driver's copy of it. */
interface Area {
  readonly base: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/**
 * DMA memory behind a wire: the driver reads and writes a copy here, and `sync` is what carries bytes. First fit,
 * ascending.
 */
export class QtestDma implements GuestDma {
  readonly #link: QtestLink;
  readonly #start: number;
  readonly #end: number;
  #areas: Area[] = []; // ascending
  #last: Area | null = null; // most accesses hit the same ring

  /** @param start first address to give out; @param end exclusive */
  constructor(link: QtestLink, start: number, end: number) {
    this.#link = link;
    this.#start = start;
    this.#end = end;
  }

  /** Pieces that are allocated; for leak checks. */
  get live(): number {
    return this.#areas.length;
  }

  alloc(bytes: number, align: number, below: number): number {
    let at = Math.ceil(this.#start / align) * align;
    let index = 0;
    for (const { base, bytes: taken } of this.#areas) {
      if (at + bytes <= base) break;
      at = Math.max(at, Math.ceil((base + taken.length) / align) * align);
      index++;
    }
    if (at + bytes > this.#end || at + bytes - 1 > below) return -1;
    const copy = new Uint8Array(bytes);
    this.#areas.splice(index, 0, { base: at, bytes: copy, view: new DataView(copy.buffer) });
    this.#link.memset(at, bytes, 0);
    return at;
  }

  free(address: number, bytes: number): void {
    const area = this.#area(address, bytes);
    if (area.base !== address || area.bytes.length !== bytes)
      throw new Error(`free of ${hex(address)}+${bytes}: allocated were ${area.bytes.length} bytes`);
    this.#areas = this.#areas.filter((other) => other !== area);
    this.#last = null;
  }

  read8(address: number): number {
    const { base, view } = this.#area(address, 1);
    return view.getUint8(address - base);
  }
  read16(address: number): number {
    const { base, view } = this.#area(address, 2);
    return view.getUint16(address - base, true);
  }
  read32(address: number): number {
    const { base, view } = this.#area(address, 4);
    return view.getUint32(address - base, true);
  }

  write8(address: number, value: number): void {
    const { base, view } = this.#area(address, 1);
    view.setUint8(address - base, value);
  }
  write16(address: number, value: number): void {
    const { base, view } = this.#area(address, 2);
    view.setUint16(address - base, value, true);
  }
  write32(address: number, value: number): void {
    const { base, view } = this.#area(address, 4);
    view.setUint32(address - base, value, true);
  }

  copyOut(address: number, target: Uint8Array, start: number, length: number): void {
    const { base, bytes } = this.#area(address, length);
    target.set(bytes.subarray(address - base, address - base + length), start);
  }
  copyIn(address: number, source: Uint8Array, start: number, length: number): void {
    const { base, bytes } = this.#area(address, length);
    bytes.set(source.subarray(start, start + length), address - base);
  }

  sync(address: number, length: number, op: DmaSyncOp): void {
    const { base, bytes } = this.#area(address, length);
    const from = address - base;
    if (op === "prewrite") this.#link.write(address, bytes.subarray(from, from + length));
    else if (op === "postread") bytes.set(this.#link.read(address, length), from);
  }

  #area(address: number, length: number): Area {
    const last = this.#last;
    if (last !== null && holds(last, address, length)) return last;
    const area = this.#areas.find((other) => holds(other, address, length));
    if (area === undefined)
      throw new Error(`DMA access to ${hex(address)}+${length}, which was not allocated in one piece`);
    this.#last = area;
    return area;
  }
}

const holds = ({ base, bytes }: Area, address: number, length: number): boolean =>
  address >= base && length >= 0 && address + length <= base + bytes.length;
