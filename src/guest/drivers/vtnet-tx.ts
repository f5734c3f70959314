import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_SIZE,
} from "../../spec/virtio-net.js";
import type { DmaMemory, FrameSegments, TxOffload } from "../types.js";
import type { Virtqueue } from "./virtqueue.js";
import { gsoTypeOf } from "./vtnet-rx.js";

/** bytes from one transmit header to the next */
export const TX_HDR_STRIDE = 32;

/**
 * Frames that were queued, in the order in which they are to be told. Each has a slot, whatever queue it is in, and
 * leaves it when all before it have.
 */
export class SentFrames {
  readonly #len: Uint32Array; // bytes of the frame, 0 when it was dropped
  readonly #done: Uint8Array;
  #head = 0;
  #tail = 0;
  #count = 0; // in slots
  /** out of their slots and not yet told */
  finished = 0;
  // What `retire` took out: for the interface's counters.
  packets = 0;
  bytes = 0;

  constructor(capacity: number) {
    this.#len = new Uint32Array(capacity);
    this.#done = new Uint8Array(capacity);
  }

  get full(): boolean {
    return this.#count === this.#len.length;
  }

  /** The slot that the next frame gets. */
  get next(): number {
    return this.#head;
  }

  /** Takes it. @param bytes 0: the frame was dropped, and is told in its turn all the same */
  take(bytes: number): void {
    const slot = this.#head;
    this.#len[slot] = bytes;
    this.#done[slot] = bytes === 0 ? 1 : 0;
    this.#head = slot + 1 < this.#len.length ? slot + 1 : 0;
    this.#count++;
  }

  done(slot: number): void {
    this.#done[slot] = 1;
  }

  /** The device will not send it any more. */
  giveUp(slot: number): void {
    this.#len[slot] = 0;
    this.#done[slot] = 1;
  }

  /** Counts what is done, as far as nothing before it is missing. */
  retire(): void {
    while (this.#count > 0 && this.#done[this.#tail] === 1) {
      const bytes = this.#len[this.#tail]!;
      if (bytes > 0) {
        this.packets++;
        this.bytes += bytes;
      }
      this.#done[this.#tail] = 0;
      this.#tail = this.#tail + 1 < this.#len.length ? this.#tail + 1 : 0;
      this.#count--;
      this.finished++;
    }
  }

  /** Takes `finished` to be told. */
  takeFinished(): number {
    const { finished } = this;
    this.finished = 0;
    return finished;
  }
}

/** One transmit queue and its headers. VIRTIO 1.3 §5.1.6.2 */
export class VtnetTx {
  readonly vq: Virtqueue;
  /** something was queued, or taken back, since interrupts were last seen to */
  touched = false;
  readonly #headers: DmaMemory; // one per descriptor that a frame may begin with
  readonly #hdrSize: number;
  readonly #words: Uint32Array; // our copy of them, three words each
  #armed = false;

  /** @param headers TX_HDR_STRIDE bytes for each descriptor, all zero @param hdrSize bytes, at most TX_HDR_STRIDE */
  constructor(vq: Virtqueue, headers: DmaMemory, hdrSize: number) {
    this.vq = vq;
    this.#headers = headers;
    this.#hdrSize = hdrSize;
    // A header is all zeros, num_buffers too, until its frame asks for an offload. §5.1.6.2.1
    headers.sync(0, headers.size, "prewrite");
    this.#words = new Uint32Array(3 * vq.size);
  }

  /** The queue is new: interrupts are on there, and not wanted. */
  quiet(): void {
    this.vq.disableIntr();
    this.#armed = false;
    this.touched = false;
  }

  /**
   * Queues a frame that fits.
   * @param frame its pieces from index 1 on; the header goes into index 0 @param segments of them, the header included
   */
  enqueue(slot: number, frame: FrameSegments, segments: number, offload: TxOffload | null): void {
    const head = this.vq.nextHead;
    if (offload === null) this.#header(head, 0, 0, 0);
    else this.#offload(head, offload);
    frame.paddr[0] = this.#headers.paddr + head * TX_HDR_STRIDE;
    frame.len[0] = this.#hdrSize;
    this.vq.enqueue(slot, frame, segments, 0);
    this.touched = true;
  }

  /** Takes back what the device has sent. */
  collect(sent: SentFrames): void {
    const { vq } = this;
    for (let slot = vq.dequeue(); slot >= 0; slot = vq.dequeue()) sent.done(slot);
  }

  /** Empties the queue, whose frames are the driver's again. @returns how many were not sent */
  forget(sent: SentFrames): number {
    let lost = 0;
    for (let slot = this.vq.drain(); slot >= 0; slot = this.vq.drain()) {
      sent.giveUp(slot);
      lost++;
    }
    return lost;
  }

  /** An interrupt when ¾ of what is outstanding was sent, and none when nothing is. @returns whether it may be sent already */
  settle(): boolean {
    this.touched = false;
    if (this.vq.inFlight > 0) {
      this.#armed = true;
      return this.vq.postponeIntr("long");
    }
    if (this.#armed) {
      this.#armed = false;
      this.vq.disableIntr();
    }
    return false;
  }

  #offload(head: number, { csumStart, csumOffset, gso, gsoSize, hdrLen, ecn }: TxOffload): void {
    let type = gsoTypeOf(gso);
    if (type !== VIRTIO_NET_HDR_GSO_NONE && ecn) type |= VIRTIO_NET_HDR_GSO_ECN;
    const flags = VIRTIO_NET_HDR_F_NEEDS_CSUM | (type << 8);
    this.#header(head, flags | (hdrLen << 16), gsoSize | (csumStart << 16), csumOffset);
  }

  /** Writes a header where it differs from what stands there; as three words, whose last has num_buffers, too. §5.1.6 */
  #header(head: number, flags: number, sizeAndStart: number, offset: number): void {
    const words = this.#words;
    const i = 3 * head;
    if (words[i] === flags >>> 0 && words[i + 1] === sizeAndStart >>> 0 && words[i + 2] === offset) return;
    words[i] = flags;
    words[i + 1] = sizeAndStart;
    words[i + 2] = offset;
    const at = head * TX_HDR_STRIDE;
    this.#headers.write32(at, words[i]!);
    this.#headers.write32(at + 4, words[i + 1]!);
    this.#headers.write32(at + 8, offset);
    this.#headers.sync(at, VIRTIO_NET_HDR_SIZE, "prewrite");
  }
}
