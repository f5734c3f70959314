import type { NetEndpoint } from "../../src/contract/index.js";
import { VIRTIO_NET_HDR_SIZE, VIRTIO_NET_HDR_SIZE_LEGACY } from "../../src/spec/virtio-net.js";

/** Longest frame that is moved, bytes: 65535 of payload, header and VLAN tag. */
export const MAX_FRAME = 65535 + 18;

// Indices of `counters`.
export const TX_FRAMES = 0;
export const TX_BYTES = 1;
export const TX_DROPPED = 2;
export const RX_FRAMES = 3;
export const RX_BYTES = 4;
export const RX_NO_BUFFER = 5;
export const RX_FILTERED = 6;
export const DESCRIPTORS = 7;
export const BYTES_COPIED = 8;
export const COUNTERS = 9;

/** What receiver, transmitter and control queue share: the cable, what was negotiated, and the counters. */
export class Link {
  far: NetEndpoint | null = null;
  up = true;
  /** MRG_RXBUF was accepted: a frame may spread over several chains */
  mergeable = false;
  /** bytes of the packet header. §5.1.6.1 */
  headerLength = VIRTIO_NET_HDR_SIZE_LEGACY;
  readonly counters = new Float64Array(COUNTERS);

  negotiated(mergeable: boolean, version1: boolean): void {
    this.mergeable = mergeable;
    this.headerLength = mergeable || version1 ? VIRTIO_NET_HDR_SIZE : VIRTIO_NET_HDR_SIZE_LEGACY;
  }
}
