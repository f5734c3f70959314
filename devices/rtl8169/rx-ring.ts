import { copyBytes, crc32, crc32View, ETHER_MIN_LEN, type StateReader } from "../../src/bytes/index.js";
import type { DmaDoor, Offload, SavedState } from "../../src/contract/index.js";
import { bits } from "../../src/regs/index.js";
import {
  RTL8169_DESC_SIZE,
  RTL8169_MIN_RX_BUFFER,
  RTL8169_RX_COMMAND,
  RTL8169_RX_STATUS,
} from "../../src/spec/rtl8169.js";
import { ALL_TRUSTED, completeOpen, NONE_TRUSTED, receiveStatus } from "./checksum.js";
import { Descriptor, type RingFormat } from "./descriptor.js";

const OWN = bits(RTL8169_RX_COMMAND.OWN);
const EOR = bits(RTL8169_RX_COMMAND.EOR);
const FS = bits(RTL8169_RX_STATUS.FS);
const LS = bits(RTL8169_RX_STATUS.LS);

const FCS_LEN = 4;
/** bytes in front of a tag */
const ADDRESSES = 12;

const NOTHING = new Uint8Array(0);
const NOTHING_VIEW = new DataView(NOTHING.buffer);
/** What a receive ring needs of its card. */
export interface RxCard {
  report(code: string, value: number): void;
  /** A bus cycle found nobody. */
  masterAbort(code: string, address: number): void;
}

/** What became of a frame: `full` finds room later, `lost` never will. */
export type Delivery = "delivered" | "full" | "lost";

/** The receive ring: filled without a doorbell, the current descriptor is looked at for every frame. */
export class RxRing {
  readonly #card: RxCard;
  readonly #descriptors: number;
  readonly #lengthMask: number;
  readonly #statusShift: number;
  /** whether statuses tell of checksums (C+CR.RxChkSum) */
  checksums = false;
  #computeFcs = true;
  readonly #descriptor = new Descriptor();
  /** the descriptors that the present frame takes: filled by #reserve, used by deliver, meaningless in between */
  readonly #address: Float64Array;
  readonly #buffer: Float64Array;
  readonly #size: Uint16Array;
  readonly #eor: Uint8Array;
  #reserved = 0;
  #next = 0;
  /** flags of the present frame */
  #status = 0;
  /** the present frame's checksums are still to be looked at, where they come to stand */
  #inspecting = false;
  /** where the sum begins that the sender vouches for, or ALL_TRUSTED, or NONE_TRUSTED */
  #trusted = NONE_TRUSTED;
  /** from there, where it is still to be stored; −1: it is */
  #csumOffset = -1;
  /** bytes left out behind the addresses, while the frame is copied */
  #gap = 0;
  /** a frame that comes to lie in several pieces is put together here first, when its checksums are wanted */
  #stage = NOTHING;
  #stageView = NOTHING_VIEW;
  /** CRC of the present frame as far as it stands in guest memory */
  #crc = 0;
  /** what follows the frame in memory: zeros up to the shortest frame, and the FCS */
  readonly #tail = new Uint8Array(ETHER_MIN_LEN + FCS_LEN);
  readonly #tailView = new DataView(this.#tail.buffer);
  // volatile
  #base = 0;
  #index = 0;

  constructor(card: RxCard, { descriptors, lengthMask, statusShift }: RingFormat) {
    this.#card = card;
    this.#descriptors = descriptors;
    this.#lengthMask = lengthMask;
    this.#statusShift = statusShift;
    this.#address = new Float64Array(descriptors);
    this.#buffer = new Float64Array(descriptors);
    this.#size = new Uint16Array(descriptors);
    this.#eor = new Uint8Array(descriptors);
  }

  /** false while no base is set: frames are then lost without DMA */
  get valid(): boolean {
    return this.#base !== 0;
  }

  /** Whether the four bytes behind a frame hold its FCS; otherwise they are 0. Fixed while the card is plugged in. */
  setFcs(computed: boolean): void {
    this.#computeFcs = computed;
    this.#tail.fill(0);
  }

  /** bytes, FCS included: what the length field of a status can say */
  get longest(): number {
    return this.#lengthMask;
  }

  /** descriptors that the last delivered frame took */
  get used(): number {
    return this.#reserved;
  }

  /** Sets the ring's base and goes to its first descriptor. The low 8 bits are no part of the address. */
  rebase(low: number, high: number): void {
    this.#base = high * 2 ** 32 + (low - (low % 256));
    this.#index = 0;
  }

  restart(): void {
    this.#index = 0;
  }

  /** Whether a frame that fills so many bytes, padding and FCS included, would not be told that the ring is full. */
  hasRoom(door: DmaDoor, total: number): boolean {
    return this.#reserve(door, total) !== "full";
  }

  /**
   * Puts a frame into the ring, padded and with its FCS.
   * @param gap bytes of the tag that is left out; 0: none is. A frame is padded first
   * @param status flags of the last descriptor beside OWN, EOR, FS and LS, where the 8169 has them
   * @param opts2 of the last descriptor; @param offload what is known of the checksums, or still to be done
   */
  deliver(
    door: DmaDoor,
    bytes: Uint8Array,
    start: number,
    length: number,
    gap: number,
    status: number,
    opts2: number,
    offload: Offload | null,
  ): Delivery {
    const total = Math.max(length, ETHER_MIN_LEN) - gap + FCS_LEN;
    const room = this.#reserve(door, total);
    if (room !== "delivered") return room;
    this.#crc = 0;
    this.#status = status;
    this.#gap = gap;
    this.#trust(offload);
    this.#inspecting = this.checksums; // an open one comes only while they are on
    const body = length - gap;
    // Checksums are looked at in guest memory, like the FCS; for that the frame has to lie there in one piece.
    if ((this.#inspecting || gap !== 0) && !this.#inOnePiece(door, body))
      this.#fill(door, this.#gather(bytes, start, body), 0, body, total);
    else this.#fill(door, bytes, start, body, total);
    this.#complete(door, total, opts2);
    return "delivered";
  }

  #inOnePiece(door: DmaDoor, length: number): boolean {
    return this.#reserved === 1 && door.locateWritable(this.#buffer[0]!, length);
  }

  /** Copies a frame, its padding and its FCS into the buffers. */
  #fill(door: DmaDoor, bytes: Uint8Array, start: number, length: number, total: number): void {
    const last = this.#reserved - 1;
    for (let i = 0, done = 0; i <= last; i++) {
      const part = Math.min(this.#size[i]!, total - done);
      const body = Math.min(part, Math.max(length - done, 0));
      if (body > 0) {
        this.#writeBody(door, this.#buffer[i]!, body, bytes, start + done);
        if (done + body === length) this.#prepareTail(total - length);
      }
      if (body < part) this.#writeTail(door, this.#buffer[i]! + body, part - body, done + body - length);
      done += part;
    }
  }

  /** The data stands in memory before the first OWN goes, and the descriptor with LS is the last one. */
  #complete(door: DmaDoor, total: number, opts2: number): void {
    const last = this.#reserved - 1;
    const status = this.#status >>> this.#statusShift;
    for (let i = 0; i <= last; i++) {
      const eor = this.#eor[i]! !== 0 ? EOR : 0;
      const flags = (i === 0 ? FS : 0) | (i === last ? LS | status | total : this.#size[i]!);
      this.#descriptor.complete(door, this.#address[i]!, eor | flags, i === last ? opts2 : 0);
    }
    this.#index = this.#next;
  }

  /** Puts a frame together without its tag, and looks at its checksums. */
  #gather(bytes: Uint8Array, start: number, length: number): Uint8Array {
    if (this.#stage.length === 0) {
      this.#stage = new Uint8Array(this.#lengthMask + 1);
      this.#stageView = new DataView(this.#stage.buffer);
    }
    if (this.#gap === 0) copyBytes(bytes, start, length, this.#stage, 0);
    else this.#copyWithoutTag(bytes, start, length, this.#stage, 0);
    this.#gap = 0;
    if (this.#inspecting) this.#inspect(this.#stageView, 0, length);
    return this.#stage;
  }

  #copyWithoutTag(bytes: Uint8Array, start: number, length: number, target: Uint8Array, at: number): void {
    copyBytes(bytes, start, ADDRESSES, target, at);
    copyBytes(bytes, start + ADDRESSES + this.#gap, length - ADDRESSES, target, at + ADDRESSES);
  }

  /** Notes what the sender says of the checksums. */
  #trust(offload: Offload | null): void {
    this.#csumOffset = -1;
    this.#trusted = NONE_TRUSTED;
    if (offload === null) return;
    if (offload.needsCsum) {
      this.#csumOffset = offload.csumOffset;
      this.#trusted = offload.csumStart - this.#gap;
    } else if (offload.dataValid) this.#trusted = ALL_TRUSTED;
  }

  /** Completes an open checksum where the frame lies, and adds to the status what it says of checksums. */
  #inspect(view: DataView, at: number, length: number): void {
    this.#inspecting = false;
    if (this.#csumOffset >= 0) completeOpen(view, at, length, this.#trusted, this.#csumOffset);
    this.#status |= receiveStatus(view, at, length, this.#trusted);
  }

  /** Finds owned descriptors for `total` bytes from the current one on; writes nothing. */
  #reserve(door: DmaDoor, total: number): Delivery {
    const descriptor = this.#descriptor;
    let found = 0;
    let index = this.#index;
    for (let left = total; left > 0; ) {
      if (found === this.#descriptors) return this.#never(total);
      const address = this.#base + index * RTL8169_DESC_SIZE;
      if (!descriptor.fetch(door, address)) return this.#abort("rx-ring-address", address);
      const { opts1, buffer } = descriptor;
      if ((opts1 & OWN) === 0) return "full";
      const size = opts1 & this.#lengthMask;
      if (size < RTL8169_MIN_RX_BUFFER) {
        this.#card.report("rx-buffer-size", size);
        return "lost";
      }
      const part = Math.min(size, left);
      if (!door.containsWritable(buffer, part)) return this.#abort("rx-buffer-address", buffer);
      const eor = (opts1 & EOR) !== 0;
      this.#address[found] = address;
      this.#buffer[found] = buffer;
      this.#size[found] = size;
      this.#eor[found] = eor ? 1 : 0;
      found++;
      left -= part;
      index = eor || index === this.#descriptors - 1 ? 0 : index + 1;
      if (left > 0 && index === this.#index) return this.#never(total);
    }
    this.#reserved = found;
    this.#next = index;
    return "delivered";
  }

  /** The whole ring is smaller than the frame: to hold it back would stop the link for good. */
  #never(total: number): Delivery {
    this.#card.report("rx-ring-too-small", total);
    return "lost";
  }

  #abort(code: string, address: number): Delivery {
    this.#card.masterAbort(code, address);
    return "lost";
  }

  /** The FCS is computed over guest memory, after the copy: a view stands there, and none over the far end's bytes. */
  #writeBody(door: DmaDoor, address: number, length: number, bytes: Uint8Array, start: number): void {
    if (!door.locateWritable(address, length)) {
      door.write(address, length, bytes, start); // never with a gap
      if (this.#computeFcs) this.#crc = crc32(bytes, start, length, this.#crc);
      return;
    }
    if (this.#gap === 0) copyBytes(bytes, start, length, door.bytes, door.at);
    else this.#copyWithoutTag(bytes, start, length, door.bytes, door.at);
    if (this.#inspecting) this.#inspect(door.view, door.at, length);
    door.wrote(address, length);
    if (this.#computeFcs) this.#crc = crc32View(door.view, door.at, length, this.#crc);
  }

  /** The frame is through: `size` bytes of padding and FCS follow. */
  #prepareTail(size: number): void {
    if (!this.#computeFcs) return;
    const pad = size - FCS_LEN;
    this.#tail.fill(0, 0, pad);
    this.#tailView.setUint32(pad, crc32(this.#tail, 0, pad, this.#crc), true);
  }

  #writeTail(door: DmaDoor, address: number, length: number, from: number): void {
    if (!door.locateWritable(address, length)) {
      door.write(address, length, this.#tail, from);
      return;
    }
    copyBytes(this.#tail, from, length, door.bytes, door.at);
    door.wrote(address, length);
  }

  save(): SavedState {
    return { index: this.#index };
  }

  /** Checks a state and returns what applies it, once the ring's base is set. @throws StateError */
  check(state: StateReader): () => void {
    const index = state.integer("index", 0, this.#descriptors - 1);
    return () => {
      this.#index = index;
    };
  }
}
