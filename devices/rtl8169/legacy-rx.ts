import { copyBytes, crc32, crc32View, ETHER_MIN_LEN, type StateReader } from "../../src/bytes/index.js";
import type { DmaDoor, SavedState } from "../../src/contract/index.js";
import { bits } from "../../src/regs/index.js";
import {
  RTL8139_CAPR_BIAS,
  RTL8139_RX_ALIGN,
  RTL8139_RX_HEADER,
  RTL8139_RX_HEADER_SIZE,
  RTL8139_RX_RING,
  RTL8139CP_RX_LENGTH,
} from "../../src/spec/rtl8139.js";
import { RTL8169_RX_STATUS } from "../../src/spec/rtl8169.js";
import type { Delivery, RxCard } from "./rx-ring.js";

const ROK = bits(RTL8139_RX_HEADER.ROK);
const LONG = bits(RTL8139_RX_HEADER.LONG);
const RWT = bits(RTL8169_RX_STATUS.RWT);
/** MAR, PAM and BAR stand side by side in both. */
const ADDRESS_FLAGS = bits(RTL8139_RX_HEADER.MAR) | bits(RTL8139_RX_HEADER.PAM) | bits(RTL8139_RX_HEADER.BAR);
const ADDRESS_SHIFT = RTL8169_RX_STATUS.MAR[0] - RTL8139_RX_HEADER.MAR[0];

const FCS_LEN = 4;
const RBLEN_64K = 3;

/**
 * The receiver of the old chips: one ring of bytes, in which each frame stands behind its status and length. The chip writes
 * at CBR; the driver reads, and tells by CAPR how far it is. An empty ring has both at the same place.
 */
export class LegacyRx {
  readonly #card: RxCard;
  #computeFcs = true;
  /** status and length of the present record */
  readonly #header = new Uint8Array(RTL8139_RX_HEADER_SIZE);
  readonly #headerView = new DataView(this.#header.buffer);
  /** what follows the frame in memory: zeros up to the shortest frame, and the FCS */
  readonly #tail = new Uint8Array(ETHER_MIN_LEN + FCS_LEN);
  readonly #tailView = new DataView(this.#tail.buffer);
  /** CRC of the present frame as far as it stands in guest memory */
  #crc = 0;
  #summing = false;
  // derived from RBSTART and RCR by configure
  #base = 0;
  #size = RTL8139_RX_RING;
  /** a record may run past the end of the ring */
  #overruns = false;
  // volatile
  #read = 0;
  #write = 0;

  constructor(card: RxCard) {
    this.#card = card;
  }

  /** false while no buffer is set: frames are then lost without DMA */
  get valid(): boolean {
    return this.#base !== 0;
  }

  /** bytes, FCS included: longer ones do not pass the FIFO */
  get longest(): number {
    return RTL8139CP_RX_LENGTH;
  }

  /** it has no descriptors */
  get used(): number {
    return 0;
  }

  /** CR.BUFE */
  get empty(): boolean {
    return this.#read === this.#write;
  }

  get cbr(): number {
    return this.#write;
  }

  get capr(): number {
    return (this.#read - RTL8139_CAPR_BIAS) & 0xffff;
  }

  /** The driver has read up to 16 bytes behind `capr`. */
  setCapr(capr: number): void {
    this.#read = (capr + RTL8139_CAPR_BIAS) % this.#size;
  }

  /** Whether the four bytes behind a frame hold its FCS; otherwise they are 0. Fixed while the card is plugged in. */
  setFcs(computed: boolean): void {
    this.#computeFcs = computed;
    this.#tail.fill(0);
  }

  /**
   * Place and size of the ring; both pointers stay where they are in it.
   * @param rblen 0 … 3 for 8, 16, 32 and 64 KiB; @param wrap RCR.WRAP, which a ring of 64 KiB does not have
   */
  configure(base: number, rblen: number, wrap: boolean): void {
    this.#base = base;
    this.#size = RTL8139_RX_RING << rblen;
    this.#overruns = wrap && rblen !== RBLEN_64K;
    this.#read %= this.#size;
    this.#write %= this.#size;
  }

  /** Both pointers to the start. */
  restart(): void {
    this.#read = this.#write = 0;
  }

  /** Whether a frame of so many bytes with its FCS would not be told that the ring is full. */
  hasRoom(_door: DmaDoor, total: number): boolean {
    return this.#room(recordOf(total)) !== "full";
  }

  /**
   * Puts a frame into the ring, padded and with its FCS.
   * @param status flags where a receive descriptor of the 8169 has them
   */
  deliver(door: DmaDoor, bytes: Uint8Array, start: number, length: number, _gap: number, status: number): Delivery {
    const total = Math.max(length, ETHER_MIN_LEN) + FCS_LEN;
    const record = recordOf(total);
    const room = this.#room(record);
    if (room !== "delivered") return room;
    if (!this.#isWritable(door, RTL8139_RX_HEADER_SIZE + total)) {
      this.#card.masterAbort("rx-buffer-address", this.#base + this.#write);
      return "lost";
    }
    const frame = this.#write + RTL8139_RX_HEADER_SIZE;
    this.#crc = 0;
    this.#summing = this.#computeFcs;
    this.#put(door, frame, bytes, start, length);
    this.#summing = false;
    this.#prepareTail(total - length);
    this.#put(door, frame + length, this.#tail, 0, total - length);
    // The record begins to exist with its header.
    this.#headerView.setUint16(0, headerOf(status), true);
    this.#headerView.setUint16(2, total, true);
    this.#put(door, this.#write, this.#header, 0, RTL8139_RX_HEADER_SIZE);
    this.#write = (this.#write + record) % this.#size;
    return "delivered";
  }

  /** A ring that a record filled to the last byte would look empty, so one more must be free. */
  #room(record: number): Delivery {
    if (record >= this.#size) {
      this.#card.report("rx-ring-too-small", record);
      return "lost";
    }
    const room = (this.#read - this.#write - 1 + this.#size) % this.#size;
    return record <= room ? "delivered" : "full";
  }

  /** Bytes from a place in the ring to where a record is cut. */
  #uncut(at: number, length: number): number {
    return this.#overruns ? length : Math.min(length, this.#size - at);
  }

  #isWritable(door: DmaDoor, length: number): boolean {
    const first = this.#uncut(this.#write, length);
    if (!door.containsWritable(this.#base + this.#write, first)) return false;
    return first === length || door.containsWritable(this.#base, length - first);
  }

  /** Writes at an offset in the ring, in two pieces where it ends; header and frame never need a third. */
  #put(door: DmaDoor, offset: number, bytes: Uint8Array, start: number, length: number): void {
    const at = this.#overruns ? offset : offset % this.#size;
    const first = this.#uncut(at, length);
    this.#piece(door, at, bytes, start, first);
    if (first < length) this.#piece(door, 0, bytes, start + first, length - first);
  }

  #piece(door: DmaDoor, offset: number, bytes: Uint8Array, start: number, length: number): void {
    const address = this.#base + offset;
    if (!door.locateWritable(address, length)) {
      door.write(address, length, bytes, start);
      if (this.#summing) this.#crc = crc32(bytes, start, length, this.#crc);
      return;
    }
    copyBytes(bytes, start, length, door.bytes, door.at);
    door.wrote(address, length);
    if (this.#summing) this.#crc = crc32View(door.view, door.at, length, this.#crc);
  }

  /** The frame is through: `size` bytes of padding and FCS follow. */
  #prepareTail(size: number): void {
    if (!this.#computeFcs) return;
    const pad = size - FCS_LEN;
    this.#tail.fill(0, 0, pad);
    this.#tailView.setUint32(pad, crc32(this.#tail, 0, pad, this.#crc), true);
  }

  save(): SavedState {
    return { read: this.#read, write: this.#write };
  }

  /** Checks a state and returns what applies it, after `configure`. @throws StateError */
  check(state: StateReader): () => void {
    const read = state.integer("read", 0, 0xffff);
    const write = state.integer("write", 0, 0xffff);
    return () => {
      this.#read = read % this.#size;
      this.#write = write % this.#size;
    };
  }
}

/** Bytes from one record to the next for a frame of so many bytes with its FCS. */
const recordOf = (total: number): number =>
  Math.ceil((RTL8139_RX_HEADER_SIZE + total) / RTL8139_RX_ALIGN) * RTL8139_RX_ALIGN;

/** First word of a record. A frame that is too long is no good one. */
const headerOf = (status: number): number =>
  ((status >>> ADDRESS_SHIFT) & ADDRESS_FLAGS) | ((status & RWT) !== 0 ? LONG : ROK);
