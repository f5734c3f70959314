import type { NetEndpoint } from "../../src/contract/index.js";
import { LimitsRecord } from "../../src/net/index.js";
import { VIRTIO_F_VERSION_1 } from "../../src/spec/virtio.js";
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GSO,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_HDR_SIZE,
  VIRTIO_NET_HDR_SIZE_HASH,
  VIRTIO_NET_HDR_SIZE_LEGACY,
} from "../../src/spec/virtio-net.js";
import type { FeatureSet } from "../../src/virtio/index.js";

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

  // What the header of a frame to send may ask for.
  hostCsum = false;
  hostTso4 = false;
  hostTso6 = false;
  hostEcn = false;
  hostUso = false;
  hostUfo = false;
  /** what the driver takes as it is: accepted, and not switched off since */
  readonly limits = new LimitsRecord();

  /** @param longestFrame bytes that are taken without segmentation */
  constructor(longestFrame: number) {
    this.limits.longestFrame = longestFrame;
    this.limits.holds = true;
  }

  negotiated(accepted: FeatureSet): void {
    this.mergeable = accepted.has(VIRTIO_NET_F_MRG_RXBUF);
    const long = this.mergeable || accepted.has(VIRTIO_F_VERSION_1);
    if (accepted.has(VIRTIO_NET_F_HASH_REPORT)) this.headerLength = VIRTIO_NET_HDR_SIZE_HASH;
    else this.headerLength = long ? VIRTIO_NET_HDR_SIZE : VIRTIO_NET_HDR_SIZE_LEGACY;
    const any = accepted.has(VIRTIO_NET_F_GSO);
    this.hostCsum = any || accepted.has(VIRTIO_NET_F_CSUM);
    // Each segment needs a checksum: a driver that accepts the one without the other gets neither. §5.1.3.1
    this.hostTso4 = this.hostCsum && (any || accepted.has(VIRTIO_NET_F_HOST_TSO4));
    this.hostTso6 = this.hostCsum && (any || accepted.has(VIRTIO_NET_F_HOST_TSO6));
    this.hostEcn = this.hostCsum && (any || accepted.has(VIRTIO_NET_F_HOST_ECN));
    this.hostUfo = this.hostCsum && (any || accepted.has(VIRTIO_NET_F_HOST_UFO));
    this.hostUso = this.hostCsum && accepted.has(VIRTIO_NET_F_HOST_USO);
  }

  /** From the next frame on. @param offloads of those that were accepted, the ones in use */
  guestOffloads(offloads: FeatureSet): void {
    const { limits } = this;
    limits.csum = offloads.has(VIRTIO_NET_F_GUEST_CSUM);
    limits.tso4 = limits.csum && offloads.has(VIRTIO_NET_F_GUEST_TSO4);
    limits.tso6 = limits.csum && offloads.has(VIRTIO_NET_F_GUEST_TSO6);
    // Whoever offers a frame does not say which IP it is.
    limits.uso = limits.csum && offloads.has(VIRTIO_NET_F_GUEST_USO4) && offloads.has(VIRTIO_NET_F_GUEST_USO6);
    limits.ufo = limits.csum && offloads.has(VIRTIO_NET_F_GUEST_UFO);
    limits.ecn = offloads.has(VIRTIO_NET_F_GUEST_ECN);
  }
}
