import { bits } from "../../regs/index.js";
import {
  RTL8139_DECLARATIONS as O,
  RTL8139_CAPR_BIAS,
  RTL8139_RX_ALIGN,
  RTL8139_RX_HEADER,
  RTL8139_RX_HEADER_SIZE,
  RTL8139_RX_RING,
} from "../../spec/rtl8139.js";
import type { BusSpace, DmaMemory } from "../types.js";
import { ETHER_CRC_LEN, ETHER_HDR_LEN, ETHER_VLAN_ENCAP_LEN, ETHERMTU } from "./ifnet.js";

/** RCR.RBLEN: 32 KiB, the longest ring that a record may run out of. */
export const RX_RBLEN = 2;
const RING = RTL8139_RX_RING << RX_RBLEN;
/** Bytes behind the ring: 16 that the chip asks for, and what a record that began at its end may need. */
const SPARE = 16 + 2048;
/** bytes of the buffer */
export const RX_BYTES = RING + SPARE;

const CR_BUFE = bits(O.CR.fields.BUFE);
const ROK = bits(RTL8139_RX_HEADER.ROK);
/** Observed: the length of a record that is still being written, in early receive mode. */
const UNFINISHED = 0xfff0;
/** bytes, FCS included */
const SHORTEST = 64;
const LONGEST = ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + ETHERMTU + ETHER_CRC_LEN;

/** What `next` found: nothing, a frame, or a record that cannot be, after which nobody knows where the next one is. */
export type RlReceived = "none" | "frame" | "lost";

/** The receive buffer of the old chips: records one behind the other, in a ring that their tail may run out of. */
export class RlRxRing {
  /** the frame last found, FCS left off */
  address = 0;
  length = 0;
  readonly #io: BusSpace;
  readonly #buffer: DmaMemory;
  #at = 0; // where the next record stands
  #record = 0; // bytes of the one last found, header and FCS included

  constructor(io: BusSpace, buffer: DmaMemory) {
    this.#io = io;
    this.#buffer = buffer;
  }

  /** physical address of the buffer */
  get paddr(): number {
    return this.#buffer.paddr;
  }

  /** Begins at the start of the buffer, as the chip does after a reset. */
  reset(): void {
    this.#at = 0;
    this.#buffer.sync(0, RX_BYTES, "preread");
  }

  /** Goes on where the chip says that it does. */
  follow(): void {
    const at = this.#io.read2(O.CAPR.at) + RTL8139_CAPR_BIAS;
    this.#at = (at - (at % RTL8139_RX_ALIGN)) % RING;
  }

  /** Looks for the next record. */
  next(): RlReceived {
    if ((this.#io.read1(O.CR.at) & CR_BUFE) !== 0) return "none";
    const at = this.#at;
    this.#buffer.sync(at, RTL8139_RX_HEADER_SIZE, "postread");
    const header = this.#buffer.read32(at);
    const total = header >>> 16;
    if (total === UNFINISHED) return "none";
    if ((header & ROK) === 0 || total < SHORTEST || total > LONGEST) return "lost";
    this.#record = RTL8139_RX_HEADER_SIZE + total;
    this.#buffer.sync(at + RTL8139_RX_HEADER_SIZE, total, "postread");
    this.address = this.#buffer.paddr + at + RTL8139_RX_HEADER_SIZE;
    this.length = total - ETHER_CRC_LEN;
    return "frame";
  }

  /** Gives the record back to the chip. */
  recycle(): void {
    this.#buffer.sync(this.#at, this.#record, "preread");
    const end = this.#at + this.#record + RTL8139_RX_ALIGN - 1;
    this.#at = (end - (end % RTL8139_RX_ALIGN)) % RING;
    this.#io.write2(O.CAPR.at, (this.#at - RTL8139_CAPR_BIAS) & 0xffff);
  }
}
