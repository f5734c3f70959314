import type { GuestDma } from "../../contract/index.js";
import { bits } from "../../regs/index.js";
import { RTL8169_TX_OPTS1, RTL8169_TX_OPTS2, RTL8169_DESC_SIZE as SIZE } from "../../spec/rtl8169.js";
import type { DmaMemory, FrameSegments } from "../types.js";
import { type Counters, NO_VLAN } from "./ifnet.js";

const OWN = bits(RTL8169_TX_OPTS1.OWN);
const EOR = bits(RTL8169_TX_OPTS1.EOR);
const FS = bits(RTL8169_TX_OPTS1.FS);
const LS = bits(RTL8169_TX_OPTS1.LS);
const LENGTH_MAX = bits(RTL8169_TX_OPTS1.Frame_Length);
const TAGC = bits(RTL8169_TX_OPTS2.TAGC);
/** Observed: FreeBSD counts these, although the 8169's data sheet reserves them: error summary, bit 23. */
const ERROR_SUMMARY = 0x0080_0000;
const REACH = 2 ** 32; // no dual address cycles on these chips

/** The tag stands in descriptors with its two bytes exchanged. */
export const swapTag = (tag: number): number => ((tag & 0xff) << 8) | ((tag >>> 8) & 0xff);

/** Syncs descriptors that now are the chip's, to read and to write. */
export const handOver = (ring: DmaMemory, first: number, count: number): void => {
  if (count <= 0) return;
  ring.sync(first * SIZE, count * SIZE, "prewrite");
  ring.sync(first * SIZE, count * SIZE, "preread");
};

/** The transmit ring: frames are queued, shown to the chip together, and taken back in order. */
export class ReTxRing {
  /** descriptors */
  readonly size: number;
  /** descriptors that hold frames */
  used = 0;
  /** of them, not yet shown to the chip */
  queued = 0;
  /** frames that are done and not yet told */
  finished = 0;
  /** of the frame last measured */
  bytes = 0;
  pieces = 0;
  /** whether the chip can reach all of it */
  reachable = true;
  readonly #ring: DmaMemory;
  readonly #dma: GuestDma;
  readonly #len: Uint32Array; // by last descriptor: bytes of the frame, 0 elsewhere
  readonly #ends: Uint16Array; // by descriptor: frames that are finished with it
  #prod = 0;
  #cons = 0;

  constructor(ring: DmaMemory, size: number, dma: GuestDma) {
    this.#ring = ring;
    this.size = size;
    this.#dma = dma;
    this.#len = new Uint32Array(size);
    this.#ends = new Uint16Array(size);
  }

  /** physical address of the first descriptor */
  get paddr(): number {
    return this.#ring.paddr;
  }

  /** Empties the ring of a chip that was stopped. */
  reset(): void {
    const bytes = this.size * SIZE;
    for (let at = 0; at < bytes; at += 4) this.#ring.write32(at, 0);
    this.#ring.sync(0, bytes, "prewrite");
    this.#prod = this.#cons = this.used = this.queued = 0;
  }

  /** Looks at a frame: `bytes`, `pieces`, `reachable`. */
  measure({ count, paddr, len }: FrameSegments): void {
    let bytes = 0;
    let pieces = 0;
    let reachable = true;
    for (let i = 0; i < count; i++) {
      const length = len[i]!;
      if (length === 0) continue;
      bytes += length;
      pieces++;
      if (length > LENGTH_MAX || paddr[i]! + length > REACH) reachable = false;
    }
    this.bytes = bytes;
    this.pieces = pieces;
    this.reachable = reachable;
  }

  get hasRoom(): boolean {
    return this.used + this.pieces <= this.size;
  }

  /**
   * Queues the frame last measured, for which there is room.
   * @param command offload bits of opts1: chips differ in which descriptor of a frame they look at, so all have them
   */
  push({ count, paddr, len }: FrameSegments, command: number, vlan: number): void {
    const ring = this.#ring;
    const opts2 = vlan === NO_VLAN ? 0 : TAGC | swapTag(vlan);
    const first = this.#prod;
    let at = first;
    let left = this.pieces;
    let firstOpts = 0;
    for (let i = 0; i < count; i++) {
      const length = len[i]!;
      if (length === 0) continue;
      this.#dma.sync(paddr[i]!, length, "prewrite");
      let opts1 = length | command;
      if (at === this.size - 1) opts1 |= EOR;
      if (--left === 0) opts1 |= LS;
      const desc = at * SIZE;
      ring.write32(desc + 8, paddr[i]!);
      ring.write32(desc + 12, 0);
      ring.write32(desc + 4, opts2);
      // The chip may be reading already: it must not find the frame before the frame is whole.
      if (at === first) firstOpts = opts1 | FS;
      else ring.write32(desc, (opts1 | OWN) >>> 0);
      this.#len[at] = left === 0 ? this.bytes : 0;
      this.#ends[at] = left === 0 ? 1 : 0;
      at = at === this.size - 1 ? 0 : at + 1;
    }
    ring.write32(first * SIZE, (firstOpts | OWN) >>> 0);
    this.#prod = at;
    this.used += this.pieces;
    this.queued += this.pieces;
  }

  /** A frame that cannot be sent: told together with the one before it. */
  drop(): void {
    if (this.used === 0) this.finished++;
    else {
      const last = (this.#prod + this.size - 1) % this.size;
      this.#ends[last] = this.#ends[last]! + 1;
    }
  }

  /** Makes queued descriptors visible to the chip, the first one last. */
  show(): void {
    const first = (this.#prod + this.size - this.queued) % this.size;
    handOver(this.#ring, first + 1, Math.min(this.queued, this.size - first) - 1);
    handOver(this.#ring, 0, first + this.queued - this.size);
    handOver(this.#ring, first, 1);
    this.queued = 0;
  }

  /** Takes back what the chip has sent. */
  reclaim(stats: Counters): void {
    const shown = this.used - this.queued;
    const end = this.#cons + shown;
    this.#ring.sync(this.#cons * SIZE, (Math.min(end, this.size) - this.#cons) * SIZE, "postread");
    if (end > this.size) this.#ring.sync(0, (end - this.size) * SIZE, "postread");
    for (let n = 0; n < shown; n++) {
      const at = this.#cons;
      const opts1 = this.#ring.read32(at * SIZE);
      if ((opts1 & OWN) !== 0) break;
      const bytes = this.#len[at]!;
      if (bytes > 0) {
        if ((opts1 & ERROR_SUMMARY) !== 0) stats.oerrors++;
        else {
          stats.opackets++;
          stats.obytes += bytes;
        }
      }
      this.#next();
    }
  }

  /** Gives up what is left in the ring of a chip that was stopped; frames to send count as errors. */
  giveUp(stats: Counters): void {
    while (this.used > 0) {
      if (this.#len[this.#cons]! > 0) stats.oerrors++;
      this.#next();
    }
    this.queued = 0;
  }

  #next(): void {
    this.finished += this.#ends[this.#cons]!;
    this.#cons = this.#cons === this.size - 1 ? 0 : this.#cons + 1;
    this.used--;
  }
}
