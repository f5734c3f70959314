import type { DmaDoor } from "../../src/contract/index.js";
import { bits } from "../../src/regs/index.js";
import { RTL8169_DESC_SIZE, RTL8169_MAX_DESCS, RTL8169_RX_STATUS } from "../../src/spec/rtl8169.js";

const HIGH_DWORD = 2 ** 32;

/** What differs between the rings of the 8169 and those of the 8139C+; descriptors are the same 16 bytes. */
export interface RingFormat {
  /** most descriptors of a ring: without EOR it wraps here */
  readonly descriptors: number;
  /** size of a receive buffer, and length of a received frame with its FCS */
  readonly lengthMask: number;
  /** by how many bits the flags of a receive status stand lower than the 8169's */
  readonly statusShift: 0 | 1;
}

/** Rings of the 8169 family. Data sheet p. 50, 55–57 */
export const RINGS_8169: RingFormat = {
  descriptors: RTL8169_MAX_DESCS,
  lengthMask: bits(RTL8169_RX_STATUS.Frame_Length),
  statusShift: 0,
};

/** Rings of the 8139C+: fewer descriptors, 13 bits of length, and the flags one bit further down. */
export const RINGS_CPLUS: RingFormat = { descriptors: 64, lengthMask: 0x1fff, statusShift: 1 };

/**
 * One 16-byte descriptor, read once into numbers. The guest may change memory at any moment, so nothing is looked at
 * twice; a ring keeps one of these and moves it along.
 */
export class Descriptor {
  /** signed: an int32 stays unboxed */
  opts1 = 0;
  opts2 = 0;
  /** address of the buffer; what is no safe integer is no RAM either and fails at the door */
  buffer = 0;
  #address = -1;
  #generation = -1;
  /** whether the descriptor lies in one window, and where; otherwise it goes through the scratch bytes */
  #direct = false;
  #at = 0;
  readonly #scratch = new Uint8Array(RTL8169_DESC_SIZE);
  readonly #scratchView = new DataView(this.#scratch.buffer);
  #view: DataView = this.#scratchView;

  /** Reads a descriptor. @returns false when its 16 bytes are not RAM that can be written too */
  fetch(door: DmaDoor, address: number): boolean {
    this.#locate(door, address);
    if (!this.#direct && !(door.containsWritable(address, RTL8169_DESC_SIZE) && this.#gather(door, address)))
      return false;
    const view = this.#view;
    const at = this.#at;
    this.opts1 = view.getInt32(at, true);
    this.opts2 = view.getInt32(at + 4, true);
    this.buffer = view.getUint32(at + 8, true) + view.getUint32(at + 12, true) * HIGH_DWORD;
    return true;
  }

  /** Hands the descriptor at `address` back with another opts1, in one store. */
  release(door: DmaDoor, address: number, opts1: number): void {
    if (address !== this.#address || door.generation !== this.#generation) this.#locate(door, address);
    this.#view.setInt32(this.#at, opts1, true);
    if (this.#direct) door.wrote(address, 4);
    else door.write(address, 4, this.#scratch, 0);
  }

  /** Hands it back with both words: opts2 first, since the driver may look as soon as OWN is 0. */
  complete(door: DmaDoor, address: number, opts1: number, opts2: number): void {
    if (address !== this.#address || door.generation !== this.#generation) this.#locate(door, address);
    this.#view.setInt32(this.#at + 4, opts2, true);
    this.#view.setInt32(this.#at, opts1, true);
    if (this.#direct) door.wrote(address, 8);
    else {
      door.write(address + 4, 4, this.#scratch, 4);
      door.write(address, 4, this.#scratch, 0);
    }
  }

  #locate(door: DmaDoor, address: number): void {
    this.#address = address;
    this.#generation = door.generation;
    this.#direct = door.locateWritable(address, RTL8169_DESC_SIZE);
    this.#view = this.#direct ? door.view : this.#scratchView;
    this.#at = this.#direct ? door.at : 0;
  }

  #gather(door: DmaDoor, address: number): boolean {
    return door.read(address, RTL8169_DESC_SIZE, this.#scratch, 0);
  }
}
