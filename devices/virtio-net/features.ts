import { ConfigError } from "../../src/bytes/index.js";
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GSO,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
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
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_PREREQUISITES,
} from "../../src/spec/virtio-net.js";
import { FeatureSet } from "../../src/virtio/index.js";

/** Offloads one by one, by QEMU's names of them; what is not named is offered where its prerequisites are. */
export interface OffloadOptions {
  /** completes checksums of what is sent; the others of the host need it */
  readonly csum?: boolean;
  readonly hostTso4?: boolean;
  readonly hostTso6?: boolean;
  readonly hostEcn?: boolean;
  readonly hostUso?: boolean;
  readonly hostUfo?: boolean;
  /** delivers frames whose checksum is still open; the others of the guest need it */
  readonly guestCsum?: boolean;
  readonly guestTso4?: boolean;
  readonly guestTso6?: boolean;
  readonly guestEcn?: boolean;
  readonly guestUso4?: boolean;
  readonly guestUso6?: boolean;
  readonly guestUfo?: boolean;
  /** lets the driver switch the receiving ones */
  readonly ctrlGuestOffloads?: boolean;
}

const BITS: { readonly [name in keyof OffloadOptions]-?: number } = {
  csum: VIRTIO_NET_F_CSUM,
  hostTso4: VIRTIO_NET_F_HOST_TSO4,
  hostTso6: VIRTIO_NET_F_HOST_TSO6,
  hostEcn: VIRTIO_NET_F_HOST_ECN,
  hostUso: VIRTIO_NET_F_HOST_USO,
  hostUfo: VIRTIO_NET_F_HOST_UFO,
  guestCsum: VIRTIO_NET_F_GUEST_CSUM,
  guestTso4: VIRTIO_NET_F_GUEST_TSO4,
  guestTso6: VIRTIO_NET_F_GUEST_TSO6,
  guestEcn: VIRTIO_NET_F_GUEST_ECN,
  guestUso4: VIRTIO_NET_F_GUEST_USO4,
  guestUso6: VIRTIO_NET_F_GUEST_USO6,
  guestUfo: VIRTIO_NET_F_GUEST_UFO,
  ctrlGuestOffloads: VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
};
const NAMES = Object.keys(BITS) as (keyof OffloadOptions)[];

/** What a driver can switch while it runs. VIRTIO 1.3 §5.1.6.5.8.1 */
export const GUEST_OFFLOADS = FeatureSet.of(
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
);

/** What legacy drivers took for HOST_TSO4, HOST_TSO6 and HOST_ECN together. §5.1.3.2 */
const GSO_MEANS = [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN];

/** Bits of the offloads that are wanted and have what they need. @throws ConfigError for one that is asked for without it */
const offloadBits = (offloads: boolean | OffloadOptions): number[] => {
  const wanted: OffloadOptions = typeof offloads === "boolean" ? {} : offloads;
  for (const name of Object.keys(wanted))
    if (!Object.hasOwn(BITS, name))
      throw new ConfigError("virtio-net-offloads", `virtio-net: no offload "${name}"; there are ${NAMES.join(", ")}`);
  let bits = NAMES.filter((name) => (typeof offloads === "boolean" ? offloads : wanted[name] !== false)).map(
    (name) => BITS[name],
  );
  const fits = (bit: number): boolean =>
    VIRTIO_NET_PREREQUISITES.every(
      ([of, anyOf]) =>
        of !== bit || anyOf.includes(VIRTIO_NET_F_CTRL_VQ) || anyOf.some((other) => bits.includes(other)),
    );
  for (let before = -1; before !== bits.length; ) {
    before = bits.length;
    bits = bits.filter(fits);
  }
  for (const name of NAMES)
    if (wanted[name] === true && !bits.includes(BITS[name]))
      throw new ConfigError("virtio-net-offloads", `virtio-net: offload "${name}" without what it needs`);
  return bits;
};

/** What a card offers. */
export interface Offer {
  readonly features: FeatureSet;
  /** those that only legacy drivers may see */
  readonly legacy: FeatureSet;
}

/** What is offered only when it is asked for. */
export interface OfferOptions {
  readonly offloads: boolean | OffloadOptions;
  readonly mtu: boolean;
  readonly speed: boolean;
  /** several pairs of queues */
  readonly mq: boolean;
  readonly rss: boolean;
  readonly hash: boolean;
  readonly notfCoal: boolean;
}

/** @throws ConfigError `virtio-net-offloads` */
export const offer = ({ offloads, mtu, speed, mq, rss, hash, notfCoal }: OfferOptions): Offer => {
  const bits = offloadBits(offloads);
  const legacy = FeatureSet.of(...(GSO_MEANS.every((bit) => bits.includes(bit)) ? [VIRTIO_NET_F_GSO] : []));
  const features = FeatureSet.of(
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_STATUS,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_CTRL_RX,
    VIRTIO_NET_F_CTRL_RX_EXTRA,
    VIRTIO_NET_F_CTRL_VLAN,
    VIRTIO_NET_F_CTRL_MAC_ADDR,
    VIRTIO_NET_F_GUEST_ANNOUNCE,
    ...bits,
    ...(mtu ? [VIRTIO_NET_F_MTU] : []),
    ...(speed ? [VIRTIO_NET_F_SPEED_DUPLEX] : []),
    ...(mq ? [VIRTIO_NET_F_MQ] : []),
    ...(rss ? [VIRTIO_NET_F_RSS] : []),
    ...(hash ? [VIRTIO_NET_F_HASH_REPORT] : []),
    ...(notfCoal ? [VIRTIO_NET_F_NOTF_COAL, VIRTIO_NET_F_VQ_NOTF_COAL] : []),
  );
  return { features: features.or(legacy), legacy };
};
