import { copyBytes, ETHER_MIN_LEN, ETHERTYPE_VLAN, StateError, type StateReader } from "../../src/bytes/index.js";
import type { DmaDoor, Offload, SavedState, Verdict } from "../../src/contract/index.js";
import { bits } from "../../src/regs/index.js";
import { RTL8169, RTL8169_DESC_SIZE, RTL8169_TX_OPTS1, RTL8169_TX_OPTS2 } from "../../src/spec/rtl8169.js";
import { Descriptor, type RingFormat } from "./descriptor.js";
import { TxOffload } from "./tx-offload.js";

const OWN = bits(RTL8169_TX_OPTS1.OWN);
const EOR = bits(RTL8169_TX_OPTS1.EOR);
const FS = bits(RTL8169_TX_OPTS1.FS);
const LS = bits(RTL8169_TX_OPTS1.LS);
const LGSEN = bits(RTL8169_TX_OPTS1.LGSEN);
const CHECKSUMS = bits(RTL8169_TX_OPTS1.IPCS) | bits(RTL8169_TX_OPTS1.UDPCS) | bits(RTL8169_TX_OPTS1.TCPCS);
const LENGTH = bits(RTL8169_TX_OPTS1.Frame_Length);
const TAGC = bits(RTL8169_TX_OPTS2.TAGC);
/**
 * What stays of opts1: EOR, FS, LS and the length. Bits 27–16 must go, since drivers read collisions and errors there
 * that only overlap MSS and the checksum bits.
 */
const RELEASED = EOR | FS | LS | LENGTH;

const ISR = RTL8169.regs.ISR.fields;
const TOK = bits(ISR.TOK!);
const TER = bits(ISR.TER!);
const TDU = bits(ISR.TDU!);

/** Most that is gathered for one packet: what 16 bits of length can name. */
const LONGEST_PACKET = 0x1_0000;
/** Room in front of a packet for the tag that moves its addresses there. */
const VLAN_TAG_LEN = 4;
/** bytes in front of a tag */
const ADDRESSES = 12;
const FCS_LEN = 4;

/** What a transmit ring needs of its card. */
export interface TxCard {
  /**
   * Puts a frame without FCS on the wire or into the loop. `later`: nothing was taken.
   * @param offload what the far end has to do yet; @param frames into how many it is cut, 1 unless `offload` has `gso`
   */
  transmit(bytes: Uint8Array, start: number, length: number, offload: Offload | null, frames: number): Verdict;
  /** Whether the sum over a packet may be left to who takes the frame. */
  readonly leavesChecksums: boolean;
  /** Whether `length` bytes end with the FCS that belongs to them. */
  fcsHolds(view: DataView, start: number, length: number): boolean;
  /** Tells of a guest's mistake. */
  report(code: string, value: number): void;
  /** A frame that the guest botched is not sent. */
  txFailed(code: string, value: number): void;
  /** A bus cycle found nobody. */
  masterAbort(code: string, address: number): void;
  /** A descriptor was used, and so many bytes copied for it. */
  txUsed(bytesCopied: number): void;
  readonly noCrc: boolean;
}

/** One transmit ring. The chip has two: normal (TNPDS) and high priority (THPDS). */
export class TxRing {
  readonly #card: TxCard;
  readonly #descriptors: number;
  readonly #descriptor = new Descriptor();
  #stage = new Uint8Array(0); // made when a frame first has to be put together
  #stageView = new DataView(this.#stage.buffer);
  /** causes that arose in the last run */
  causes = 0;
  // volatile
  #base = 0;
  #index = 0;
  /** descriptors that this activation may still use; a ring that a frame rewrites while it is sent would never end */
  #left = 0;
  /** bytes gathered for the open packet; −1: none is open */
  #length = -1;
  /** opts1 and opts2 of the packet's first descriptor: OpenBSD tells what to offload there only */
  #command = 0;
  #tag = 0;
  readonly #offloads: TxOffload;
  /** frames that the last run sent */
  frames = 0;
  /** a piece of the open packet is missing: it will not be sent */
  #spoilt = false;
  /** the far end answered `later` for the packet at #index */
  #stalled = false;

  constructor(card: TxCard, { descriptors }: RingFormat) {
    this.#card = card;
    this.#descriptors = descriptors;
    this.#offloads = new TxOffload(card);
  }

  get stalled(): boolean {
    return this.#stalled;
  }

  /** Whether a doorbell's work is not finished: what NPQ and HPQ show. */
  get active(): boolean {
    return this.#left > 0;
  }

  /** Sets the ring's base and goes to its first descriptor. The low 8 bits are no part of the address. */
  rebase(low: number, high: number): void {
    this.#base = high * 2 ** 32 + (low - (low % 256));
    this.restart();
  }

  /** Back to the first descriptor; a packet in pieces is forgotten. */
  restart(): void {
    this.#index = 0;
    this.#left = 0;
    this.#length = -1;
    this.#spoilt = false;
    this.#stalled = false;
  }

  /** A doorbell: there may be descriptors to send. */
  activate(): void {
    this.#left = this.#descriptors;
  }

  /** The doorbell came to nothing. */
  deactivate(): void {
    this.#left = 0;
    this.#stalled = false;
  }

  /** Sends from the current descriptor on. @returns descriptors used, at most `budget` */
  run(door: DmaDoor, budget: number): number {
    this.causes = 0;
    this.frames = 0;
    this.#stalled = false;
    const descriptor = this.#descriptor;
    let used = 0;
    while (used < budget && this.#left > 0) {
      const address = this.#base + this.#index * RTL8169_DESC_SIZE;
      if (this.#base === 0) return this.#idle(used);
      if (!descriptor.fetch(door, address)) {
        this.#card.masterAbort("tx-ring-address", address);
        return this.#idle(used);
      }
      const { opts1, opts2 } = descriptor;
      if ((opts1 & OWN) === 0) {
        this.causes |= TDU;
        return this.#idle(used);
      }
      if (!this.#take(door, opts1, opts2, descriptor.buffer)) {
        this.#stalled = true;
        return used;
      }
      descriptor.release(door, address, opts1 & RELEASED);
      this.#index = (opts1 & EOR) !== 0 || this.#index === this.#descriptors - 1 ? 0 : this.#index + 1;
      this.#left--;
      used++;
    }
    return used;
  }

  #idle(used: number): number {
    this.#left = 0;
    return used;
  }

  /** Works one owned descriptor. @returns false when the far end wants the packet later */
  #take(door: DmaDoor, opts1: number, opts2: number, buffer: number): boolean {
    const length = opts1 & LENGTH;
    const before = this.#length;
    if ((opts1 & FS) !== 0) {
      if (before >= 0) this.#fail("tx-unfinished", before);
      const plain = (opts1 & (LGSEN | CHECKSUMS)) === 0 && (opts2 & TAGC) === 0 && !this.#card.noCrc;
      if (plain && (opts1 & LS) !== 0 && length >= ETHER_MIN_LEN)
        if (door.locate(buffer, length)) return this.#inPlace(door.bytes, door.at, length);
      this.#length = 0;
      this.#command = opts1;
      this.#tag = opts2;
      this.#spoilt = false;
    } else if (before < 0) {
      this.#card.txFailed("tx-no-first", this.#index);
      this.#card.txUsed(0);
      return true;
    }
    const start = this.#length;
    this.#gather(door, buffer, length);
    if ((opts1 & LS) === 0 || this.#finish()) {
      this.#card.txUsed(length);
      return true;
    }
    // The descriptor will be read again, so what it brought is taken back.
    this.#length = (opts1 & FS) !== 0 ? -1 : start;
    return false;
  }

  /** The common case, a frame in one piece: the far end reads it where it lies. */
  #inPlace(bytes: Uint8Array, start: number, length: number): boolean {
    this.#length = -1;
    if (this.#card.transmit(bytes, start, length, null, 1) === "later") return false;
    this.causes |= TOK;
    this.frames++;
    this.#card.txUsed(0);
    return true;
  }

  #gather(door: DmaDoor, buffer: number, length: number): void {
    if (this.#stage.length === 0) this.#makeStage();
    if (this.#spoilt || length === 0) return;
    if (this.#length + length > LONGEST_PACKET) {
      this.#spoilt = true;
      this.#card.report("tx-too-long", this.#length + length);
    } else if (this.#read(door, buffer, length)) this.#length += length;
    else {
      this.#spoilt = true;
      this.#card.masterAbort("tx-buffer-address", buffer);
    }
  }

  #read(door: DmaDoor, buffer: number, length: number): boolean {
    if (!door.locate(buffer, length)) return door.read(buffer, length, this.#stage, VLAN_TAG_LEN + this.#length);
    copyBytes(door.bytes, door.at, length, this.#stage, VLAN_TAG_LEN + this.#length);
    return true;
  }

  #makeStage(): void {
    this.#stage = new Uint8Array(VLAN_TAG_LEN + LONGEST_PACKET + ETHER_MIN_LEN);
    this.#stageView = new DataView(this.#stage.buffer);
  }

  /** The packet is whole. @returns false when the far end wants it later */
  #finish(): boolean {
    const stage = this.#stage;
    const card = this.#card;
    if (this.#spoilt) return this.#fail("tx-frame-lost", this.#length);
    if (this.#length === 0) return this.#fail("tx-empty", this.#index);
    let length = this.#length;
    let start = VLAN_TAG_LEN;
    let offload: Offload | null = null;
    let frames = 1;
    if (card.noCrc) {
      if (length <= FCS_LEN || !card.fcsHolds(this.#stageView, start, length)) return this.#fail("tx-bad-fcs", length);
      length -= FCS_LEN; // it covers every byte: there is nothing that the chip could change
    } else {
      if ((this.#tag & TAGC) !== 0 && length >= ADDRESSES) {
        this.#insertTag();
        start = 0;
        length += VLAN_TAG_LEN;
      }
      if ((this.#command & (LGSEN | CHECKSUMS)) !== 0) {
        offload = this.#offloads.prepare(stage, this.#stageView, start, length, this.#command);
        frames = this.#offloads.frames;
      }
    }
    if (length < ETHER_MIN_LEN) {
      stage.fill(0, start + length, start + ETHER_MIN_LEN);
      length = ETHER_MIN_LEN;
    }
    if (card.transmit(stage, start, length, offload, frames) === "later") {
      if (start === 0) stage.copyWithin(VLAN_TAG_LEN, 0, ADDRESSES); // takes the tag out again
      return false;
    }
    this.causes |= TOK;
    this.frames += frames;
    this.#length = -1;
    return true;
  }

  /** Moves the addresses to the front; the two bytes of the tag stand in opts2 in the other order. */
  #insertTag(): void {
    const stage = this.#stage;
    stage.copyWithin(0, VLAN_TAG_LEN, VLAN_TAG_LEN + ADDRESSES);
    stage[ADDRESSES] = ETHERTYPE_VLAN >>> 8;
    stage[ADDRESSES + 1] = ETHERTYPE_VLAN & 0xff;
    stage[ADDRESSES + 2] = this.#tag & 0xff;
    stage[ADDRESSES + 3] = (this.#tag >>> 8) & 0xff;
  }

  /** The open packet is given up. */
  #fail(code: string, value: number): true {
    this.causes |= TER;
    this.#card.txFailed(code, value);
    this.#length = -1;
    this.#spoilt = false;
    return true;
  }

  save(): SavedState {
    return {
      index: this.#index,
      left: this.#left,
      stage: this.#stage.slice(VLAN_TAG_LEN, VLAN_TAG_LEN + Math.max(this.#length, 0)),
      open: this.#length >= 0,
      command: this.#command,
      tag: this.#tag,
      spoilt: this.#spoilt,
      stalled: this.#stalled,
    };
  }

  /** Checks a state and returns what applies it, once the ring's base is set. @throws StateError */
  check(state: StateReader): () => void {
    const index = state.integer("index", 0, this.#descriptors - 1);
    const left = state.integer("left", 0, this.#descriptors);
    const stage = state.bytes("stage");
    const open = state.boolean("open");
    const command = state.integer("command", -(2 ** 31), 2 ** 31 - 1);
    const tag = state.integer("tag", -(2 ** 31), 2 ** 31 - 1);
    const spoilt = state.boolean("spoilt");
    const stalled = state.boolean("stalled");
    if (stage.length > LONGEST_PACKET || (!open && stage.length > 0))
      throw new StateError(`${state.path}.stage`, `${stage.length} bytes of ${open ? "an" : "no"} open packet`);
    return () => {
      this.#index = index;
      this.#left = left;
      this.#length = open ? stage.length : -1;
      this.#command = command;
      this.#tag = tag;
      this.#spoilt = spoilt;
      this.#stalled = stalled;
      if (stage.length === 0) return;
      if (this.#stage.length === 0) this.#makeStage();
      this.#stage.set(stage, VLAN_TAG_LEN);
    };
  }
}
