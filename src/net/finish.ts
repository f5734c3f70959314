import { foldChecksum, sumWordsView } from "../bytes/index.js";
import type { Offload } from "../contract/index.js";

/** bytes; enough for a full frame, doubled when a longer one comes */
const FIRST_SIZE = 2048;

/** Longest frame that is finished or cut: 64 KiB behind a tagged Ethernet header. Bounds the buffers. VIRTIO 1.2 §5.1.6.3.1 */
export const LONGEST_FINISHED = 65_554;

/**
 * Does at the last moment what a sender left to the card: completes a checksum in a buffer of its own, since the frame
 * may lie in guest memory. The buffer is the frame's until the next call.
 */
export class Finisher {
  bytes = new Uint8Array(FIRST_SIZE);
  #view = new DataView(this.bytes.buffer);

  /**
   * Copies a frame and stores its checksum. The field already holds the sum of the pseudo header. VIRTIO 1.2 §5.1.6.2
   * @param offload one that `offloadFits` and that asks for no segmentation
   * @returns false when the frame is too long; otherwise it stands in `bytes` from 0
   */
  finish(bytes: Uint8Array, start: number, length: number, offload: Offload): boolean {
    if (length > LONGEST_FINISHED) return false;
    if (length > this.bytes.length) this.#grow(length);
    this.bytes.set(bytes.subarray(start, start + length));
    const { csumStart, csumOffset } = offload;
    const checksum = foldChecksum(sumWordsView(this.#view, csumStart, length - csumStart));
    // 0 means "no checksum" to UDP, and TCP does not tell ffff from it. RFC 768
    const stored = checksum === 0 ? 0xffff : checksum;
    this.bytes[csumStart + csumOffset] = stored >>> 8;
    this.bytes[csumStart + csumOffset + 1] = stored;
    return true;
  }

  #grow(length: number): void {
    this.bytes = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
    this.#view = new DataView(this.bytes.buffer);
  }
}
