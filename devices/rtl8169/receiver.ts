import { ETHER_HDR_LEN, ETHER_MIN_LEN, ETHERTYPE_VLAN, etherType, type StateReader } from "../../src/bytes/index.js";
import type { EndpointLimits, Offload, SavedState, Timer, Verdict } from "../../src/contract/index.js";
import { offloadFits } from "../../src/net/index.js";
import { bits } from "../../src/regs/index.js";
import { RTL8169, RTL8169_RX_OPTS2, RTL8169_RX_STATUS } from "../../src/spec/rtl8169.js";
import {
  BYTES_COPIED,
  type CardCore,
  DESCRIPTORS_READ,
  IDLE_CLOCK,
  RX_BYTES,
  RX_FILTERED,
  RX_FRAMES,
  RX_NO_BUFFER,
  rearm,
} from "./core.js";
import type { RingFormat } from "./descriptor.js";
import { AddressFilter, NOT_FOR_US } from "./filter.js";
import { RxRing } from "./rx-ring.js";
import {
  TALLY_MISS_PKT,
  TALLY_RX_ERR,
  TALLY_RX_OK,
  TALLY_RX_OK_BRD,
  TALLY_RX_OK_MUL,
  TALLY_RX_OK_PHY,
} from "./tally.js";

const { regs: R } = RTL8169;
const MPC_COUNT = bits(R.MPC.fields.Count!);
const ISR_RER = bits(R.ISR.fields.RER!);
const ISR_RDU = bits(R.ISR.fields.RDU!);
const ISR_FOVW = bits(R.ISR.fields.FOVW!);
const RX_MAR = bits(RTL8169_RX_STATUS.MAR);
const RX_PAM = bits(RTL8169_RX_STATUS.PAM);
const RX_BAR = bits(RTL8169_RX_STATUS.BAR);
const RX_TOO_LONG = bits(RTL8169_RX_STATUS.RWT) | bits(RTL8169_RX_STATUS.RES);
const TAVA = bits(RTL8169_RX_OPTS2.TAVA);
const FCS_LEN = 4;
const VLAN_TAG_LEN = 4;

/** How often a card looks by itself whether what it waits for has come. */
const RETRY_NS = 500_000;

/** Where received frames go: a ring of descriptors, or what an older chip has instead. */
export type FrameRing = Pick<RxRing, "valid" | "longest" | "used" | "hasRoom" | "deliver">;

/** The receiving half of a card with descriptor rings: filter, ring, and what becomes of a frame that finds no room. */
export class Receiver {
  readonly filter = new AddressFilter();
  readonly ring: RxRing;
  readonly #core: CardCore;
  readonly #askLater: () => void;
  readonly #limits: EndpointLimits;
  readonly #limitsWithChecksums: EndpointLimits;
  #retry: Timer = IDLE_CLOCK.timer(() => {});
  // derived from registers by the card
  #into: FrameRing;
  #on = false;
  #looped = false;
  #listening = false;
  #checksums = false;
  #stripTags = false;
  #longest = 0;
  // volatile
  /** bytes in the ring of the frame for which the far end was told `later`; 0: none */
  #held = 0;

  /**
   * @param mtu payload of the longest frame that the far end is asked for
   * @param askLater asks the host for a turn of the receive queue, in which `releaseHeld` is called
   */
  constructor(core: CardCore, format: RingFormat, mtu: number, askLater: () => void) {
    this.#core = core;
    this.#askLater = askLater;
    this.ring = this.#into = new RxRing(core, format);
    const longestFrame = mtu + ETHER_HDR_LEN + VLAN_TAG_LEN;
    this.#limits = { csum: false, tso4: false, tso6: false, uso: false, longestFrame, holds: true };
    this.#limitsWithChecksums = { ...this.#limits, csum: true };
  }

  /** With checksums on, one that is still open is completed on the way into memory. */
  get limits(): EndpointLimits {
    return this.#checksums ? this.#limitsWithChecksums : this.#limits;
  }

  /** Frames go into `ring` from now on; at first that is the card's own. */
  use(ring: FrameRing): void {
    this.#into = ring;
  }

  /** @param on the receiver is; @param looped what is sent comes back, and the cable is shut out */
  set(on: boolean, looped: boolean, link: boolean): void {
    this.#on = on;
    this.#looped = looped;
    this.#listening = on && !looped && link;
  }

  /** What the registers say of each frame. @param longest that is not flagged, bytes with FCS */
  shape(longest: number, checksums: boolean, stripTags: boolean): void {
    this.#longest = longest;
    this.#stripTags = stripTags;
    this.#checksums = this.ring.checksums = checksums;
  }

  connect(retried: () => void): void {
    this.#retry = this.#core.seams.clock.timer(retried);
  }

  disconnect(): void {
    this.#retry[Symbol.dispose]();
    this.#retry = IDLE_CLOCK.timer(() => {});
  }

  /** Something changed that the held frame may have waited for. */
  stir(): void {
    if (this.#held > 0) this.#askLater();
  }

  /** The far end went: it holds nothing for us any more. */
  forget(): void {
    this.#held = 0;
  }

  /** Looks again by itself after a while. */
  wait(): void {
    this.#retry.arm(this.#core.now + RETRY_NS);
  }

  /** A frame from the cable. */
  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null): Verdict {
    if (!this.#listening || length < ETHER_HDR_LEN || !this.#canTake(offload, length)) return this.refuse();
    return this.#receive(bytes, start, length, offload);
  }

  /** A frame that this card itself sent. */
  loop(bytes: Uint8Array, start: number, length: number): void {
    if (this.#on) this.#receive(bytes, start, length, null);
    else this.refuse();
  }

  /** A frame is none for the guest. */
  refuse(): "dropped" {
    this.#core.counters[RX_FILTERED]!++;
    return "dropped";
  }

  #canTake(offload: Offload | null, length: number): boolean {
    if (offload === null || (offload.gso === "none" && !offload.needsCsum)) return true;
    // One that begins in front of a packet is none.
    const sound = offloadFits(offload, length) && offload.csumStart >= ETHER_HDR_LEN + VLAN_TAG_LEN;
    return offload.gso === "none" && this.#checksums && sound;
  }

  #receive(bytes: Uint8Array, start: number, length: number, offload: Offload | null): Verdict {
    const core = this.#core;
    const match = this.filter.match(bytes, start);
    if (match === NOT_FOR_US) return this.refuse();
    const tagged =
      this.#stripTags && length >= ETHER_HDR_LEN + VLAN_TAG_LEN && etherType(bytes, start) === ETHERTYPE_VLAN;
    // A wire pads short frames, with their tag; the chip then takes the tag away and pads nothing.
    const gap = tagged ? VLAN_TAG_LEN : 0;
    const total = Math.max(length, ETHER_MIN_LEN) - gap + FCS_LEN;
    const ring = this.#into;
    if (!ring.valid || total > ring.longest) {
      core.counters[RX_NO_BUFFER]!++;
      return "dropped";
    }
    const { dma } = core.seams;
    if (!dma.open) {
      core.report("bus-master-off", R.RDSAR_L.at);
      return this.#miss(ISR_FOVW); // the FIFO fills up, for the bus is not ours
    }
    const bad = total > this.#longest;
    // The two bytes of the tag change places on the way.
    const opts2 = tagged ? TAVA | bytes[start + 14]! | (bytes[start + 15]! << 8) : 0;
    const delivery = ring.deliver(dma, bytes, start, length, gap, bad ? match | RX_TOO_LONG : match, opts2, offload);
    if (delivery !== "delivered") return this.#noRoom(delivery === "full", total);
    this.#held = 0;
    const { counters, interrupts } = core;
    counters[RX_FRAMES]!++;
    counters[RX_BYTES]! += length;
    counters[BYTES_COPIED]! += length;
    counters[DESCRIPTORS_READ]! += ring.used;
    if (bad) interrupts.raise(ISR_RER);
    else interrupts.received();
    this.#count(match, bad);
    return "taken";
  }

  #count(match: number, bad: boolean): void {
    const { tally } = this.#core;
    tally.add(bad ? TALLY_RX_ERR : TALLY_RX_OK);
    if (bad) return;
    if (match === RX_PAM) tally.add(TALLY_RX_OK_PHY);
    else if (match === RX_BAR) tally.add(TALLY_RX_OK_BRD);
    else if (match === RX_MAR) tally.add(TALLY_RX_OK_MUL);
  }

  /** No place for a frame: a far end that can holds it, once told RDU; any other loses it. */
  #noRoom(full: boolean, total: number): Verdict {
    if (!full || this.#looped || this.#core.far?.accepts().holds !== true) return this.#miss(full ? ISR_RDU : 0);
    const { interrupts } = this.#core;
    const again = this.#held > 0;
    this.#held = total;
    this.wait();
    if (again) return "later";
    interrupts.raise(ISR_RDU);
    interrupts.update();
    return "later";
  }

  #miss(cause: number): "dropped" {
    const { regs, tally, counters, interrupts } = this.#core;
    regs.set(R.MPC.at, 4, (regs.get(R.MPC.at, 4) + 1) & MPC_COUNT);
    tally.add(TALLY_MISS_PKT);
    counters[RX_NO_BUFFER]!++;
    interrupts.raise(cause);
    interrupts.update();
    return "dropped";
  }

  /** Tells the far end to offer its frame again, when there is room or it would be dropped anyway. */
  releaseHeld(): void {
    if (this.#held === 0) return;
    const { seams, far } = this.#core;
    if (this.#listening && this.#into.valid && seams.dma.open && !this.#into.hasRoom(seams.dma, this.#held)) {
      this.wait();
      return;
    }
    this.#held = 0;
    far?.ready(0);
  }

  save(): SavedState {
    return { ring: this.ring.save(), held: this.#held, retry: this.#retry.deadline };
  }

  /** Checks a state and returns what applies it, once the ring's base is set. @throws StateError */
  check(state: StateReader): () => void {
    const applyRing = this.ring.check(state.object("ring"));
    const held = state.integer("held", 0, this.ring.longest);
    const retry = state.deadline("retry");
    return () => {
      applyRing();
      this.#held = held;
      rearm(this.#retry, retry);
    };
  }
}
