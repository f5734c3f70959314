import { VIRTIO_F_ANY_LAYOUT, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from "../../spec/virtio.js";
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VQ,
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
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_PREREQUISITES,
} from "../../spec/virtio-net.js";
import { IFCAP_LRO, IFCAP_RXCSUM_ANY, IFCAP_TSO4, IFCAP_TSO6, IFCAP_TXCSUM_ANY } from "./ifnet.js";
import { hasFeature, type VirtioAttach, type VirtioFeatures, virtioFeatures } from "./virtio-bus.js";

/** Which features vtnet asks for, and what it may do with those it gets. VIRTIO 1.3 §5.1.3 */

/** How long a card may wait before it interrupts: until so many packets have come, or so much time has passed. §5.1.6.5.9 */
export interface Coalescing {
  /** 0 … 2³²−1 */
  readonly maxPackets: number;
  /** 0 … 2³²−1 */
  readonly maxUsecs: number;
}

export interface VtnetOptions {
  /** Asks for checksum and segmentation offloads; default true */
  readonly offload?: boolean;
  /**
   * Takes large segments without merged buffers, too: each receive buffer then is 64 KiB long, and small frames waste it.
   * Default false
   */
  readonly lroWithoutMerge?: boolean;
  /**
   * Sends control commands before DRIVER_OK, as FreeBSD up to 9 and DragonFly do on legacy devices; modern ones must not be
   * notified so early, there it has no effect. Default false
   */
  readonly controlBeforeDriverOk?: boolean;
  /** Pairs of queues to use at most, one for each CPU; 1: does not ask for MQ. Default 8, FreeBSD's VTNET_MAX_QUEUE_PAIRS */
  readonly queuePairs?: number;
  /** Has the device choose receive queues by Toeplitz hash instead of by where a flow was sent; with several pairs. Default false */
  readonly rss?: boolean;
  /** Has the device tell the hash of each received frame: `RxOffload.hash`. Default false */
  readonly hashReport?: boolean;
  /** How long all receive or transmit queues may wait with interrupts; default: not at all */
  readonly coalesce?: { readonly rx?: Coalescing; readonly tx?: Coalescing };
  /** Features not to ask for, by bit number; to see what each is worth. */
  readonly without?: readonly number[];
}

/** FreeBSD's VTNET_MAX_QUEUE_PAIRS */
export const MAX_QUEUE_PAIRS = 8;

/** Offloads of the receiving side, which a command can switch. §5.1.6.5.8 */
export const RX_OFFLOADS = [
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
] as const;
/** Those with which frames of 64 KiB come. */
const LRO_BITS: readonly number[] = RX_OFFLOADS.slice(1);
const OFFLOADS = [
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
  ...RX_OFFLOADS,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
] as const;

const wantedBits = (options: VtnetOptions): readonly number[] =>
  [
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_STATUS,
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_CTRL_RX,
    VIRTIO_NET_F_CTRL_MAC_ADDR,
    VIRTIO_NET_F_NOTF_COAL,
    VIRTIO_NET_F_VQ_NOTF_COAL,
    VIRTIO_F_INDIRECT_DESC,
    VIRTIO_F_EVENT_IDX,
    VIRTIO_F_ANY_LAYOUT,
    ...((options.queuePairs ?? MAX_QUEUE_PAIRS) > 1 ? [VIRTIO_NET_F_MQ] : []),
    ...(options.rss === true && (options.queuePairs ?? MAX_QUEUE_PAIRS) > 1 ? [VIRTIO_NET_F_RSS] : []),
    ...(options.hashReport === true ? [VIRTIO_NET_F_HASH_REPORT] : []),
    ...(options.offload === false ? [] : OFFLOADS),
  ].filter((bit) => options.without?.includes(bit) !== true);

/** Negotiates; accepts what fits together of what is offered, since a device must not offer the rest. §5.1.3.1 */
export const negotiateVtnet = (bus: VirtioAttach, options: VtnetOptions): VirtioFeatures => {
  const wanted = wantedBits(options);
  const granted = bus.negotiateFeatures(virtioFeatures(...wanted));
  let fitting = wanted.filter((bit) => hasFeature(granted, bit));
  // The header must not span clusters, and one must hold 64 KiB unless they are merged.
  if (options.lroWithoutMerge !== true && !fitting.includes(VIRTIO_NET_F_MRG_RXBUF))
    fitting = fitting.filter((bit) => !LRO_BITS.includes(bit));
  const fits = (bit: number): boolean =>
    VIRTIO_NET_PREREQUISITES.every(([of, anyOf]) => of !== bit || anyOf.some((other) => fitting.includes(other))) &&
    (bit !== VIRTIO_NET_F_CTRL_GUEST_OFFLOADS || fitting.includes(VIRTIO_NET_F_CTRL_VQ));
  for (let before = -1; before !== fitting.length; ) {
    before = fitting.length;
    fitting = fitting.filter(fits);
  }
  const reduced = wanted.filter((bit) => hasFeature(granted, bit) && !fitting.includes(bit));
  if (reduced.length === 0) return granted;
  return bus.negotiateFeatures(virtioFeatures(...wanted.filter((bit) => !reduced.includes(bit))));
};

/** IFCAP_* bits of the offloads that were accepted. */
export const offloadCapabilities = (features: VirtioFeatures): number => {
  const has = (bit: number): boolean => hasFeature(features, bit);
  return (
    (has(VIRTIO_NET_F_CSUM) ? IFCAP_TXCSUM_ANY : 0) |
    (has(VIRTIO_NET_F_HOST_TSO4) ? IFCAP_TSO4 : 0) |
    (has(VIRTIO_NET_F_HOST_TSO6) ? IFCAP_TSO6 : 0) |
    (has(VIRTIO_NET_F_GUEST_CSUM) ? IFCAP_RXCSUM_ANY : 0) |
    (LRO_BITS.some((bit) => bit !== VIRTIO_NET_F_GUEST_ECN && has(bit)) ? IFCAP_LRO : 0)
  );
};

/** Of the receiving offloads that were accepted, those that are in use. @param capenable of the interface */
export const rxOffloadsInUse = (features: VirtioFeatures, capenable: number): VirtioFeatures =>
  virtioFeatures(
    ...RX_OFFLOADS.filter(
      (bit) =>
        hasFeature(features, bit) &&
        (capenable & (bit === VIRTIO_NET_F_GUEST_CSUM ? IFCAP_RXCSUM_ANY : IFCAP_LRO)) !== 0,
    ),
  );

/** All of the receiving offloads. */
export const ALL_RX_OFFLOADS = virtioFeatures(...RX_OFFLOADS);
