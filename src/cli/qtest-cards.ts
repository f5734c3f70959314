import { rtl8139, rtl8169 } from "../../devices/rtl8169/index.js";
import { virtioBlk } from "../../devices/virtio-blk/index.js";
import { virtioMouse } from "../../devices/virtio-input/index.js";
import { virtioNet } from "../../devices/virtio-net/index.js";
import {
  type BlockCard,
  type NetCard,
  type PlainCard,
  type Properties,
  type ServerCards,
  StartupError,
} from "../hosts/qtest/server/index.js";
import { RTL8139_CHIPS } from "../spec/rtl8139.js";
import { RTL8169_CHIPS } from "../spec/rtl8169.js";
import {
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_NOTIFY_ON_EMPTY,
} from "../spec/virtio.js";
import { VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES } from "../spec/virtio-blk.js";
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
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
} from "../spec/virtio-net.js";
import type { Personality, VirtioPciOptions } from "../virtio/index.js";

/** QEMU's property → the feature that it offers or withholds. */
type FeatureProperties = { readonly [property: string]: number };

const RING_FEATURES: FeatureProperties = {
  indirect_desc: VIRTIO_F_INDIRECT_DESC,
  event_idx: VIRTIO_F_EVENT_IDX,
  notify_on_empty: VIRTIO_F_NOTIFY_ON_EMPTY,
  any_layout: VIRTIO_F_ANY_LAYOUT,
};

const NET_FEATURES: FeatureProperties = {
  csum: VIRTIO_NET_F_CSUM,
  guest_csum: VIRTIO_NET_F_GUEST_CSUM,
  gso: VIRTIO_NET_F_GSO,
  guest_tso4: VIRTIO_NET_F_GUEST_TSO4,
  guest_tso6: VIRTIO_NET_F_GUEST_TSO6,
  guest_ecn: VIRTIO_NET_F_GUEST_ECN,
  guest_ufo: VIRTIO_NET_F_GUEST_UFO,
  guest_uso4: VIRTIO_NET_F_GUEST_USO4,
  guest_uso6: VIRTIO_NET_F_GUEST_USO6,
  guest_announce: VIRTIO_NET_F_GUEST_ANNOUNCE,
  host_tso4: VIRTIO_NET_F_HOST_TSO4,
  host_tso6: VIRTIO_NET_F_HOST_TSO6,
  host_ecn: VIRTIO_NET_F_HOST_ECN,
  host_ufo: VIRTIO_NET_F_HOST_UFO,
  host_uso: VIRTIO_NET_F_HOST_USO,
  mrg_rxbuf: VIRTIO_NET_F_MRG_RXBUF,
  status: VIRTIO_NET_F_STATUS,
  ctrl_vq: VIRTIO_NET_F_CTRL_VQ,
  ctrl_rx: VIRTIO_NET_F_CTRL_RX,
  ctrl_vlan: VIRTIO_NET_F_CTRL_VLAN,
  ctrl_rx_extra: VIRTIO_NET_F_CTRL_RX_EXTRA,
  ctrl_mac_addr: VIRTIO_NET_F_CTRL_MAC_ADDR,
  ctrl_guest_offloads: VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
};

const BLK_FEATURES: FeatureProperties = {
  discard: VIRTIO_BLK_F_DISCARD,
  "write-zeroes": VIRTIO_BLK_F_WRITE_ZEROES,
  "config-wce": VIRTIO_BLK_F_CONFIG_WCE,
};

/** QEMU's default for `x-txtimer`, ns. */
const TX_TIMER = 150_000;
const MOST_VECTORS = 2048;

/** Features that are on unless a property says otherwise. @returns those that are not to be offered */
const withheld = (properties: Properties, features: FeatureProperties): number[] =>
  Object.entries(features)
    .filter(([name]) => properties.boolean(name) === false)
    .map(([, bit]) => bit);

/** `disable-legacy` and `disable-modern` of a card in a conventional slot. */
const personality = (properties: Properties): Personality => {
  const legacy = properties.auto("disable-legacy") || properties.boolean("disable-legacy") !== true;
  const modern = properties.boolean("disable-modern") !== true;
  if (!legacy && !modern) throw new StartupError("device cannot work as neither modern nor legacy mode is enabled");
  return legacy ? (modern ? "transitional" : "legacy") : "modern";
};

/** The properties that all virtio devices on PCI have. */
const virtioOptions = (properties: Properties, features: FeatureProperties): VirtioPciOptions => {
  const kind = personality(properties);
  const vectors = properties.integer("vectors", 0, MOST_VECTORS);
  const options = {
    packed: properties.boolean("packed") ?? false,
    ringReset: properties.boolean("queue_reset") ?? true, // as QEMU 7.2
    inOrder: properties.boolean("in_order") ?? false,
    notificationData: properties.boolean("notification_data") ?? false,
  };
  properties.ignore("ioeventfd", "page-per-vq", "iommu_platform", "ats", "migrate-extra", "x-disable-pcie");
  properties.ignore("use-started", "use-disabled-flag", "modern-pio-notify", "virtio-pci-bus-master-bug-migration");
  return {
    personality: kind,
    ...(vectors === undefined ? {} : { vectors }),
    ...(kind === "legacy" ? {} : options),
    legacyBusMaster: true,
    configSetsQueueIsr: true,
    hugeChains: true,
    withhold: withheld(properties, { ...RING_FEATURES, ...features }),
  };
};

const virtioNetCard: NetCard = {
  kind: "net",
  title: "virtio-net, transitional",
  parent: "virtio-net-pci-base",
  create: (properties, mac, queues) => {
    const options = virtioOptions(properties, NET_FEATURES);
    const mtu = properties.integer("host_mtu", 0, 65535) ?? 0;
    const speed = properties.integer("speed", -1, 0x7fff_ffff) ?? -1;
    const duplex = properties.oneOf("duplex", ["full", "half"] as const);
    const tx = properties.oneOf("tx", ["timer", "bh"] as const);
    const delayNs = properties.integer("x-txtimer", 1, 1_000_000_000) ?? TX_TIMER;
    properties.ignore("x-txburst", "x-mtu-bypass-backend", "failover", "rsc_interval");
    return virtioNet({
      ...options,
      mac: properties.string("mac") ?? mac,
      queueSize: {
        rx: properties.integer("rx_queue_size", 1, 32768) ?? 256,
        tx: properties.integer("tx_queue_size", 1, 32768) ?? 256,
      },
      queuePairs: properties.boolean("mq") === true ? queues : 1,
      rss: properties.boolean("rss") ?? false,
      hash: properties.boolean("hash") ?? false,
      ...(mtu === 0 ? {} : { mtu }),
      ...(speed < 0 ? {} : { speed }),
      ...(duplex === undefined ? {} : { duplex }),
      ...(tx === "timer" ? { txPolicy: { kind: "timer", delayNs } } : {}),
    });
  },
};

const virtioBlkCard: BlockCard = {
  kind: "block",
  title: "virtio-blk, transitional",
  parent: "virtio-blk-pci-base",
  create: (properties, disk) => {
    const options = virtioOptions(properties, BLK_FEATURES);
    const serial = properties.string("serial");
    const queues = properties.auto("num-queues") ? 1 : (properties.integer("num-queues", 1, 1024) ?? 1);
    properties.ignore("physical_block_size", "min_io_size", "opt_io_size", "discard_granularity", "write-cache");
    properties.ignore(
      "share-rw",
      "werror",
      "rerror",
      "request-merging",
      "scsi",
      "seg-max-adjust",
      "max-discard-sectors",
    );
    properties.ignore("max-write-zeroes-sectors", "cyls", "heads", "secs");
    return virtioBlk({
      ...options,
      backend: disk,
      queueSize: properties.integer("queue-size", 4, 32768) ?? 256,
      blkSize: properties.size("logical_block_size") ?? 512,
      ...(serial === undefined ? {} : { serial }),
      queues,
    });
  },
};

const virtioMouseCard: PlainCard = {
  kind: "plain",
  title: "virtio mouse, modern; moved by QMP's input-send-event",
  parent: "virtio-input-hid-pci",
  create: (properties) => {
    const { personality: kind, legacyBusMaster: _, ...options } = virtioOptions(properties, {});
    if (kind === "legacy") throw new StartupError("device is modern-only, use disable-legacy=on");
    return virtioMouse(options);
  },
};

/** A chip by its key or by its part number, as `8169sc` or `RTL8169SC`. */
const chipOf = <Key extends string>(
  chips: { readonly [key in Key]: unknown },
  properties: Properties,
): Key | undefined => {
  const name = properties.string("chip");
  if (name === undefined) return undefined;
  const keys = Object.keys(chips) as Key[];
  const wanted = name.toLowerCase().replace(/^rtl/, "");
  const found = keys.find((key) => key.toLowerCase() === `rtl${wanted}`);
  if (found === undefined)
    throw new StartupError(`${properties.owner}: there is no chip ${name}; there are ${keys.join(", ")}`);
  return found;
};

const realtek = <Key extends string>(
  title: string,
  chips: { readonly [key in Key]: unknown },
  build: (options: {
    readonly chip?: Key;
    readonly mac: string;
    readonly mtu?: number;
  }) => ReturnType<NetCard["create"]>,
): NetCard => ({
  kind: "net",
  title,
  parent: "pci-device",
  create: (properties, mac) => {
    const chip = chipOf(chips, properties);
    const mtu = properties.integer("mtu", 68, 16361);
    return build({
      mac: properties.string("mac") ?? mac,
      ...(chip === undefined ? {} : { chip }),
      ...(mtu === undefined ? {} : { mtu }),
    });
  },
});

/** The cards that `-device` knows, by QEMU's names of them. */
export const QTEST_CARDS: ServerCards = {
  "virtio-net-pci": virtioNetCard,
  "virtio-blk-pci": virtioBlkCard,
  "virtio-mouse-pci": virtioMouseCard,
  rtl8139: realtek("Realtek RTL8139C+, or by chip= an older one", RTL8139_CHIPS, rtl8139),
  rtl8169: realtek("Realtek RTL8169SB, or by chip= another of its family", RTL8169_CHIPS, rtl8169),
};
