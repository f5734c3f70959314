import { defineRegisters } from "../regs/index.js";

/** Names and numbers of the network device, VIRTIO 1.3 §5.1. */

// ------------------------------------------------------------------------------------------------ queues, §5.1.2

/** receiveq1 */
export const VIRTIO_NET_RECEIVEQ = 0;
/** transmitq1 */
export const VIRTIO_NET_TRANSMITQ = 1;
/** controlq while there is one pair of queues; with MQ or RSS accepted it is behind `max_virtqueue_pairs` of them */
export const VIRTIO_NET_CONTROLQ = 2;

// ------------------------------------------------------------------------------------------------ feature bits, §5.1.3

export const VIRTIO_NET_F_CSUM = 0;
export const VIRTIO_NET_F_GUEST_CSUM = 1;
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2;
export const VIRTIO_NET_F_MTU = 3;
export const VIRTIO_NET_F_MAC = 5;
/** Legacy only: the device takes packets of any GSO type. §5.1.3.2 */
export const VIRTIO_NET_F_GSO = 6;
export const VIRTIO_NET_F_GUEST_TSO4 = 7;
export const VIRTIO_NET_F_GUEST_TSO6 = 8;
export const VIRTIO_NET_F_GUEST_ECN = 9;
export const VIRTIO_NET_F_GUEST_UFO = 10;
export const VIRTIO_NET_F_HOST_TSO4 = 11;
export const VIRTIO_NET_F_HOST_TSO6 = 12;
export const VIRTIO_NET_F_HOST_ECN = 13;
export const VIRTIO_NET_F_HOST_UFO = 14;
export const VIRTIO_NET_F_MRG_RXBUF = 15;
export const VIRTIO_NET_F_STATUS = 16;
export const VIRTIO_NET_F_CTRL_VQ = 17;
export const VIRTIO_NET_F_CTRL_RX = 18;
export const VIRTIO_NET_F_CTRL_VLAN = 19;
export const VIRTIO_NET_F_CTRL_RX_EXTRA = 20;
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 21;
export const VIRTIO_NET_F_MQ = 22;
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 23;
export const VIRTIO_NET_F_HASH_TUNNEL = 51;
export const VIRTIO_NET_F_VQ_NOTF_COAL = 52;
export const VIRTIO_NET_F_NOTF_COAL = 53;
export const VIRTIO_NET_F_GUEST_USO4 = 54;
export const VIRTIO_NET_F_GUEST_USO6 = 55;
export const VIRTIO_NET_F_HOST_USO = 56;
export const VIRTIO_NET_F_HASH_REPORT = 57;
export const VIRTIO_NET_F_GUEST_HDRLEN = 59;
export const VIRTIO_NET_F_RSS = 60;
export const VIRTIO_NET_F_RSC_EXT = 61;
export const VIRTIO_NET_F_STANDBY = 62;
export const VIRTIO_NET_F_SPEED_DUPLEX = 63;

/**
 * What a feature needs: the device offers none without one of its prerequisites. A row reads
 * [bit, any of these]; a bit with two rows needs both. §5.1.3.1, and Linux's virtnet_validate for CTRL_RX_EXTRA
 */
export const VIRTIO_NET_PREREQUISITES: readonly (readonly [bit: number, anyOf: readonly number[]])[] = [
  [VIRTIO_NET_F_GUEST_TSO4, [VIRTIO_NET_F_GUEST_CSUM]],
  [VIRTIO_NET_F_GUEST_TSO6, [VIRTIO_NET_F_GUEST_CSUM]],
  [VIRTIO_NET_F_GUEST_ECN, [VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6]],
  [VIRTIO_NET_F_GUEST_UFO, [VIRTIO_NET_F_GUEST_CSUM]],
  [VIRTIO_NET_F_GUEST_USO4, [VIRTIO_NET_F_GUEST_CSUM]],
  [VIRTIO_NET_F_GUEST_USO6, [VIRTIO_NET_F_GUEST_CSUM]],
  [VIRTIO_NET_F_HOST_TSO4, [VIRTIO_NET_F_CSUM]],
  [VIRTIO_NET_F_HOST_TSO6, [VIRTIO_NET_F_CSUM]],
  [VIRTIO_NET_F_HOST_ECN, [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6]],
  [VIRTIO_NET_F_HOST_UFO, [VIRTIO_NET_F_CSUM]],
  [VIRTIO_NET_F_HOST_USO, [VIRTIO_NET_F_CSUM]],
  [VIRTIO_NET_F_CTRL_RX, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_CTRL_VLAN, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_CTRL_RX_EXTRA, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_GUEST_ANNOUNCE, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_MQ, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_CTRL_MAC_ADDR, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_NOTF_COAL, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_VQ_NOTF_COAL, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_RSS, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_HASH_REPORT, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_HASH_TUNNEL, [VIRTIO_NET_F_CTRL_VQ]],
  [VIRTIO_NET_F_HASH_TUNNEL, [VIRTIO_NET_F_RSS, VIRTIO_NET_F_HASH_REPORT]],
  [VIRTIO_NET_F_RSC_EXT, [VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6]],
];

// ------------------------------------------------------------------------------------------------ device configuration, §5.1.4

/** struct virtio_net_config */
export const VIRTIO_NET_CONFIG = defineRegisters(
  { name: "virtio_net_config", source: "VIRTIO 1.3 §5.1.4", size: 28 },
  {
    mac0: { at: 0, width: 1, rw: 0xff, doc: "Hardware address; written by legacy drivers only" },
    mac1: { at: 1, width: 1, rw: 0xff, doc: "second byte" },
    mac2: { at: 2, width: 1, rw: 0xff, doc: "third byte" },
    mac3: { at: 3, width: 1, rw: 0xff, doc: "fourth byte" },
    mac4: { at: 4, width: 1, rw: 0xff, doc: "fifth byte" },
    mac5: { at: 5, width: 1, rw: 0xff, doc: "sixth byte" },
    status: { at: 6, width: 2, fields: { LINK_UP: [0, 0], ANNOUNCE: [1, 1] }, doc: "with STATUS" },
    max_virtqueue_pairs: { at: 8, width: 2, doc: "with MQ or RSS; 1 … 0x8000" },
    mtu: { at: 10, width: 2, doc: "with MTU; bytes, 68 … 65535" },
    speed: { at: 12, width: 4, doc: "with SPEED_DUPLEX; Mbit/s, 0xFFFFFFFF unknown" },
    duplex: { at: 16, width: 1, doc: "with SPEED_DUPLEX; 1 full, 0 half, 0xFF unknown" },
    rss_max_key_size: { at: 17, width: 1, doc: "with RSS or HASH_REPORT; bytes" },
    rss_max_indirection_table_length: { at: 18, width: 2, doc: "with RSS; entries" },
    supported_hash_types: { at: 20, width: 4, doc: "with RSS or HASH_REPORT" },
    supported_tunnel_types: { at: 24, width: 4, doc: "with HASH_TUNNEL" },
  },
);
export const VIRTIO_NET_S_LINK_UP = 1;
export const VIRTIO_NET_S_ANNOUNCE = 2;
/** Limits of `mtu`, bytes of payload. §5.1.4.1 */
export const VIRTIO_NET_MIN_MTU = 68;
export const VIRTIO_NET_MAX_MTU = 65535;

/** Least value of `rss_max_key_size`, and the largest that Linux takes. §5.1.4.1 */
export const VIRTIO_NET_RSS_MAX_KEY_SIZE = 40;
/** Least value of `rss_max_indirection_table_length`. §5.1.4.1 */
export const VIRTIO_NET_RSS_MAX_TABLE_LEN = 128;

// supported_hash_types, hash_types; the hash report of a type is the number of its bit and 1. §5.1.6.4.3.1
export const VIRTIO_NET_HASH_TYPE_IPv4 = 1 << 0;
export const VIRTIO_NET_HASH_TYPE_TCPv4 = 1 << 1;
export const VIRTIO_NET_HASH_TYPE_UDPv4 = 1 << 2;
export const VIRTIO_NET_HASH_TYPE_IPv6 = 1 << 3;
export const VIRTIO_NET_HASH_TYPE_TCPv6 = 1 << 4;
export const VIRTIO_NET_HASH_TYPE_UDPv6 = 1 << 5;
export const VIRTIO_NET_HASH_TYPE_IP_EX = 1 << 6;
export const VIRTIO_NET_HASH_TYPE_TCP_EX = 1 << 7;
export const VIRTIO_NET_HASH_TYPE_UDP_EX = 1 << 8;

// ------------------------------------------------------------------------------------------------ packet header, §5.1.6

// struct virtio_net_hdr: offsets
export const VIRTIO_NET_HDR_FLAGS = 0;
export const VIRTIO_NET_HDR_GSO_TYPE = 1;
export const VIRTIO_NET_HDR_HDR_LEN = 2;
export const VIRTIO_NET_HDR_GSO_SIZE = 4;
export const VIRTIO_NET_HDR_CSUM_START = 6;
export const VIRTIO_NET_HDR_CSUM_OFFSET = 8;
export const VIRTIO_NET_HDR_NUM_BUFFERS = 10;
export const VIRTIO_NET_HDR_HASH_VALUE = 12;
export const VIRTIO_NET_HDR_HASH_REPORT = 16;
/** bytes of the header for legacy drivers without MRG_RXBUF: it ends before num_buffers */
export const VIRTIO_NET_HDR_SIZE_LEGACY = 10;
/** bytes with MRG_RXBUF or VERSION_1 */
export const VIRTIO_NET_HDR_SIZE = 12;
/** bytes with HASH_REPORT */
export const VIRTIO_NET_HDR_SIZE_HASH = 20;

// flags
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_F_DATA_VALID = 2;
export const VIRTIO_NET_HDR_F_RSC_INFO = 4;
// hash_report. §5.1.6.4.4
export const VIRTIO_NET_HASH_REPORT_NONE = 0;
export const VIRTIO_NET_HASH_REPORT_IPv4 = 1;
export const VIRTIO_NET_HASH_REPORT_TCPv4 = 2;
export const VIRTIO_NET_HASH_REPORT_UDPv4 = 3;
export const VIRTIO_NET_HASH_REPORT_IPv6 = 4;
export const VIRTIO_NET_HASH_REPORT_TCPv6 = 5;
export const VIRTIO_NET_HASH_REPORT_UDPv6 = 6;
export const VIRTIO_NET_HASH_REPORT_IPv6_EX = 7;
export const VIRTIO_NET_HASH_REPORT_TCPv6_EX = 8;
export const VIRTIO_NET_HASH_REPORT_UDPv6_EX = 9;
// gso_type
export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
export const VIRTIO_NET_HDR_GSO_UDP = 3;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

// ------------------------------------------------------------------------------------------------ control queue, §5.1.6.5

// ack
export const VIRTIO_NET_OK = 0;
export const VIRTIO_NET_ERR = 1;

export const VIRTIO_NET_CTRL_RX = 0;
export const VIRTIO_NET_CTRL_RX_PROMISC = 0;
export const VIRTIO_NET_CTRL_RX_ALLMULTI = 1;
export const VIRTIO_NET_CTRL_RX_ALLUNI = 2;
export const VIRTIO_NET_CTRL_RX_NOMULTI = 3;
export const VIRTIO_NET_CTRL_RX_NOUNI = 4;
export const VIRTIO_NET_CTRL_RX_NOBCAST = 5;

export const VIRTIO_NET_CTRL_MAC = 1;
export const VIRTIO_NET_CTRL_MAC_TABLE_SET = 0;
export const VIRTIO_NET_CTRL_MAC_ADDR_SET = 1;

export const VIRTIO_NET_CTRL_VLAN = 2;
export const VIRTIO_NET_CTRL_VLAN_ADD = 0;
export const VIRTIO_NET_CTRL_VLAN_DEL = 1;

export const VIRTIO_NET_CTRL_ANNOUNCE = 3;
export const VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0;

export const VIRTIO_NET_CTRL_MQ = 4;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0;
export const VIRTIO_NET_CTRL_MQ_RSS_CONFIG = 1;
export const VIRTIO_NET_CTRL_MQ_HASH_CONFIG = 2;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN = 1;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX = 0x8000;

export const VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5;
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0;

export const VIRTIO_NET_CTRL_NOTF_COAL = 6;
export const VIRTIO_NET_CTRL_NOTF_COAL_TX_SET = 0;
export const VIRTIO_NET_CTRL_NOTF_COAL_RX_SET = 1;
export const VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET = 2;
export const VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET = 3;
