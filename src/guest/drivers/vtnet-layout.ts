import { VIRTIO_F_ANY_LAYOUT } from "../../spec/virtio.js";
import {
  VIRTIO_NET_CONFIG,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_HDR_SIZE,
  VIRTIO_NET_HDR_SIZE_HASH,
  VIRTIO_NET_HDR_SIZE_LEGACY,
  VIRTIO_NET_MAX_MTU,
  VIRTIO_NET_MIN_MTU,
} from "../../spec/virtio-net.js";
import { DriverError, type SegmentKind } from "../types.js";
import { ETHER_CRC_LEN, ETHER_HDR_LEN, ETHER_VLAN_ENCAP_LEN, ETHERMTU, IFCAP_LRO, IFCAP_RXCSUM_ANY } from "./ifnet.js";
import type { VirtioAttach } from "./virtio-bus.js";
import { gsoTypeOf, type RxLayout } from "./vtnet-rx.js";

/** What follows from the features that were accepted: limits, and how receive buffers look. */

/** bytes; a mbuf cluster, MCLBYTES. At least 1526 for a frame and its header. §5.1.6.3.1 */
const MCLBYTES = 2048;
/** Largest segment that arrives whole: an IP packet of 64 KiB in its frame, and the header. §5.1.6.3.1 */
const LRO_BUFFER = 65_562;
/** bytes of all receive buffers, where each of them must hold the largest segment */
const LRO_MEMORY = 4 * 2 ** 20;
/** Where the frame begins when the legacy header has a descriptor of its own: its IP header is aligned then. */
const SEPARATE_HDR_PAD = 4;

const CONFIG = VIRTIO_NET_CONFIG.regs;

/** Features of the receiving side, each with the segments that may come with it. */
const RX_SEGMENTS = [
  [VIRTIO_NET_F_GUEST_TSO4, "tcp4"],
  [VIRTIO_NET_F_GUEST_TSO6, "tcp6"],
  [VIRTIO_NET_F_GUEST_UFO, "udpfrag"],
  [VIRTIO_NET_F_GUEST_USO4, "udp"],
  [VIRTIO_NET_F_GUEST_USO6, "udp"],
] as const satisfies readonly (readonly [number, SegmentKind])[];

/** Payload bytes of the longest frame. @param name for the message @throws DriverError EINVAL for what cannot be */
export const readMaxMtu = (bus: VirtioAttach, name: string): number => {
  if (bus.withFeature(VIRTIO_NET_F_MTU)) {
    const mtu = bus.readDeviceConfig2(CONFIG.mtu.at);
    if (mtu >= VIRTIO_NET_MIN_MTU) return mtu;
    throw new DriverError("EINVAL", `${name}: the device wants an mtu of ${mtu}`);
  }
  const mergeable = bus.withFeature(VIRTIO_NET_F_MRG_RXBUF);
  return mergeable ? VIRTIO_NET_MAX_MTU - ETHER_HDR_LEN - ETHER_VLAN_ENCAP_LEN : ETHERMTU;
};

/** Pairs of queues that the device has: the control queue is behind all of them. §5.1.2 @throws DriverError EINVAL */
export const readMaxPairs = (bus: VirtioAttach, name: string): number => {
  if (!bus.withFeature(VIRTIO_NET_F_MQ) && !bus.withFeature(VIRTIO_NET_F_RSS)) return 1;
  const pairs = bus.readDeviceConfig2(CONFIG.max_virtqueue_pairs.at);
  if (pairs >= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN && pairs <= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX) return pairs;
  throw new DriverError("EINVAL", `${name}: the device has ${pairs} pairs of queues`);
};

/** @param offloads IFCAP_* bits that were accepted @param maxMtu payload bytes */
export const rxLayout = (bus: VirtioAttach, offloads: number, maxMtu: number): RxLayout => {
  const mergeable = bus.withFeature(VIRTIO_NET_F_MRG_RXBUF);
  const hash = bus.withFeature(VIRTIO_NET_F_HASH_REPORT);
  const short = !bus.modern && !mergeable;
  const hdrSize = hash ? VIRTIO_NET_HDR_SIZE_HASH : short ? VIRTIO_NET_HDR_SIZE_LEGACY : VIRTIO_NET_HDR_SIZE;
  // A legacy device may expect the header in a descriptor of its own, unless it says otherwise. §5.1.6.6
  const hdrApart = short && !bus.withFeature(VIRTIO_F_ANY_LAYOUT);
  const dataAt = hdrSize + (hdrApart ? SEPARATE_HDR_PAD : 0);
  const large = !mergeable && (offloads & IFCAP_LRO) !== 0;
  const frame = dataAt + ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + maxMtu + ETHER_CRC_LEN;
  const longest = large ? Math.max(frame, dataAt + LRO_BUFFER) : frame;
  let clusterBytes = MCLBYTES;
  while (!mergeable && clusterBytes < longest) clusterBytes = large ? clusterBytes + MCLBYTES : clusterBytes * 2;
  let segments = 0;
  for (const [bit, kind] of RX_SEGMENTS) if (bus.withFeature(bit)) segments |= 1 << gsoTypeOf(kind);
  const csum = (offloads & IFCAP_RXCSUM_ANY) !== 0;
  return { hdrSize, hdrApart, dataAt, clusterBytes, mergeable, csum, segments, hash };
};

/** Clusters of one queue: one for each descriptor, or fewer where they are large. @param size descriptors; @param queues of this kind */
export const rxClusters = ({ clusterBytes }: RxLayout, size: number, queues: number): number =>
  clusterBytes <= LRO_BUFFER ? size : Math.min(size, Math.max(1, Math.floor(LRO_MEMORY / queues / clusterBytes)));
