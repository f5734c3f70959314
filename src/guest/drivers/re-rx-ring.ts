import { bits } from "../../regs/index.js";
import {
  RTL8169_RX_COMMAND,
  RTL8169_RX_OPTS2,
  RTL8169_RX_STATUS,
  RTL8169_DESC_SIZE as SIZE,
} from "../../spec/rtl8169.js";
import type { DmaMemory, FrameSegments, RxOffload } from "../types.js";
import { ETHER_CRC_LEN, ETHER_HDR_LEN, frameSegments, NO_VLAN } from "./ifnet.js";
import { handOver, swapTag } from "./re-tx-ring.js";

const OWN = bits(RTL8169_RX_COMMAND.OWN);
const EOR = bits(RTL8169_RX_COMMAND.EOR);
const FS = bits(RTL8169_RX_STATUS.FS);
const LS = bits(RTL8169_RX_STATUS.LS);
const RES = bits(RTL8169_RX_STATUS.RES);
const RWT = bits(RTL8169_RX_STATUS.RWT);
const RUNT = bits(RTL8169_RX_STATUS.RUNT);
const CRC = bits(RTL8169_RX_STATUS.CRC);
const IPF = bits(RTL8169_RX_STATUS.IPF);
const UDPF = bits(RTL8169_RX_STATUS.UDPF);
const TCPF = bits(RTL8169_RX_STATUS.TCPF);
const PID = bits(RTL8169_RX_STATUS.PID);
const PID_SHIFT = RTL8169_RX_STATUS.PID[1];
const PID_TCP = 1 << PID_SHIFT;
const PID_UDP = 2 << PID_SHIFT;
const TAVA = bits(RTL8169_RX_OPTS2.TAVA);
const TAG = bits(RTL8169_RX_OPTS2.VLAN_TAG);
/** Above this length RWT alone is no error: the chip means `long`. */
const RWT_LENGTH = 8191;

/** bytes */
export const RX_BUFFER = 2048;
/** Receive descriptors looked at with one sync. */
const SYNC = 32;

/** What the chip says about a frame; one record for all. */
class RxRecord implements RxOffload {
  csum: RxOffload["csum"] = "none";
  readonly csumStart = 0;
  readonly csumOffset = 0;
  readonly gso = "none";
  readonly gsoSize = 0;
  readonly ecn = false;
  vlan = NO_VLAN;
}

/** The receive ring and a buffer for each of its descriptors. */
export class ReRxRing {
  /** descriptors */
  readonly size: number;
  /** the frame last taken: first piece, FCS left off; the others in `more` */
  address = 0;
  length = 0;
  /** bytes of all pieces */
  bytes = 0;
  readonly more: FrameSegments;
  readonly record = new RxRecord();
  readonly #ring: DmaMemory;
  readonly #buffers: DmaMemory;
  readonly #lengthMask: number;
  /** by how many bits the 8139C+ has its status further down */
  readonly #shift: 0 | 1;
  /** Descriptors of the longest frame that there can be; more without an end is a chip that has lost its way. */
  readonly #piecesMax: number;
  #at = 0; // the descriptor the chip uses next
  #seen = 0; // descriptors from there on that this turn has synced
  #hidden = 0; // descriptors before it that were recycled and not yet synced
  #first = 0; // opts1 of the next frame's first and last descriptor
  #last = 0;

  /** @param buffers RX_BUFFER bytes for each descriptor; @param gigabit layout of the status, otherwise that of the 8139C+ */
  constructor(ring: DmaMemory, buffers: DmaMemory, size: number, gigabit: boolean) {
    this.#ring = ring;
    this.#buffers = buffers;
    this.size = size;
    this.#shift = gigabit ? 0 : 1;
    this.#lengthMask = bits(RTL8169_RX_STATUS.Frame_Length) >>> this.#shift;
    this.#piecesMax = Math.ceil(this.#lengthMask / RX_BUFFER);
    this.more = frameSegments(this.#piecesMax);
  }

  /** physical address of the first descriptor */
  get paddr(): number {
    return this.#ring.paddr;
  }

  /** Gives every buffer to a chip that was stopped. */
  reset(): void {
    const { size } = this;
    for (let i = 0; i < size; i++) {
      const desc = i * SIZE;
      this.#ring.write32(desc + 4, 0);
      this.#ring.write32(desc + 8, this.#buffers.paddr + i * RX_BUFFER);
      this.#ring.write32(desc + 12, 0);
      this.#ring.write32(desc, this.#command(i));
    }
    this.#buffers.sync(0, size * RX_BUFFER, "preread");
    handOver(this.#ring, 0, size);
    this.#at = this.#hidden = 0;
  }

  /** A turn begins: what was synced before may have changed. */
  begin(): void {
    this.#seen = 0;
  }

  /** Descriptors of the next whole frame; 0 while it is not there. */
  next(): number {
    for (let n = 0; n < this.#piecesMax; n++) {
      const status = this.#status(n);
      if ((status & OWN) !== 0) return 0;
      if (n === 0) this.#first = status;
      this.#last = status;
      if ((status & LS) !== 0) return n + 1;
    }
    return this.#piecesMax; // without an end: an error, whatever it is
  }

  /** Reads the frame that `next` found. @returns whether it is good */
  take(pieces: number): boolean {
    const total = this.#last & this.#lengthMask; // FCS included
    const flags = this.#last << this.#shift;
    // All buffers but the last are full; the length in the last descriptor is that of the frame.
    if ((this.#first & FS) === 0 || (this.#last & LS) === 0 || total < ETHER_HDR_LEN + ETHER_CRC_LEN) return false;
    if (total <= RX_BUFFER * (pieces - 1) || total > RX_BUFFER * pieces) return false;
    if ((flags & RES) !== 0 && (total <= RWT_LENGTH || (flags & (RWT | RUNT | CRC)) !== RWT)) return false;
    this.bytes = total - ETHER_CRC_LEN;
    const { more } = this;
    more.count = 0;
    let left = this.bytes;
    for (let n = 0; n < pieces && left > 0; n++) {
      const at = this.#index(n) * RX_BUFFER;
      const length = left < RX_BUFFER ? left : RX_BUFFER;
      this.#buffers.sync(at, length, "postread");
      left -= length;
      if (n === 0) continue;
      more.paddr[more.count] = this.#buffers.paddr + at;
      more.len[more.count++] = length;
    }
    this.address = this.#buffers.paddr + this.#at * RX_BUFFER;
    this.length = this.bytes < RX_BUFFER ? this.bytes : RX_BUFFER;
    this.#describe(flags, this.#ring.read32(this.#index(pieces - 1) * SIZE + 4));
    return true;
  }

  /** A checksum counts as looked at when the chip names the protocol: Linux and FreeBSD both ask for that. */
  #describe(flags: number, opts2: number): void {
    const { record } = this;
    const protocol = flags & PID;
    const good =
      (flags & IPF) === 0 &&
      ((protocol === PID_TCP && (flags & TCPF) === 0) || (protocol === PID_UDP && (flags & UDPF) === 0));
    record.csum = good ? "valid" : "none";
    record.vlan = (opts2 & TAVA) !== 0 ? swapTag(opts2 & TAG) : NO_VLAN;
  }

  /** Gives the descriptors of a frame back to the chip, as they were at the start. */
  recycle(pieces: number): void {
    for (let n = 0; n < pieces; n++) {
      const desc = this.#at * SIZE;
      this.#buffers.sync(this.#at * RX_BUFFER, RX_BUFFER, "preread");
      this.#ring.write32(desc + 4, 0);
      this.#ring.write32(desc, this.#command(this.#at));
      this.#at = this.#index(1);
    }
    this.#seen -= pieces;
    this.#hidden += pieces;
  }

  /** Makes recycled descriptors visible to the chip. */
  show(): void {
    const hidden = this.#hidden;
    if (hidden === 0) return;
    this.#hidden = 0;
    const first = (this.#at + this.size - hidden) % this.size;
    handOver(this.#ring, first, Math.min(hidden, this.size - first));
    handOver(this.#ring, 0, first + hidden - this.size);
  }

  /** The descriptor `ahead` of the next one. */
  #index(ahead: number): number {
    const index = this.#at + ahead;
    return index >= this.size ? index - this.size : index;
  }

  /** Its opts1. */
  #status(ahead: number): number {
    const index = this.#index(ahead);
    if (ahead >= this.#seen) {
      this.show(); // reading in what the chip wrote must not undo what we wrote
      const count = Math.min(SYNC, this.size - index);
      this.#ring.sync(index * SIZE, count * SIZE, "postread");
      this.#seen = ahead + count;
    }
    return this.#ring.read32(index * SIZE);
  }

  /** opts1 that hands a descriptor over. */
  #command(index: number): number {
    return (OWN | (index === this.size - 1 ? EOR : 0) | RX_BUFFER) >>> 0;
  }
}
