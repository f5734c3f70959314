import {
  ETHER_HDR_LEN,
  ETHERTYPE_IP,
  ETHERTYPE_VLAN,
  foldChecksum,
  foldSum,
  sumWordsView,
} from "../../src/bytes/index.js";
import type { OffloadRecord } from "../../src/net/index.js";
import { bits } from "../../src/regs/index.js";
import { RTL8169_RX_STATUS, RTL8169_TX_OPTS1 } from "../../src/spec/rtl8169.js";

const IPCS = bits(RTL8169_TX_OPTS1.IPCS);
const UDPCS = bits(RTL8169_TX_OPTS1.UDPCS);
const TCPCS = bits(RTL8169_TX_OPTS1.TCPCS);
/** PID: 1 TCP, 2 UDP, 3 other IPv4 */
const PID = RTL8169_RX_STATUS.PID[1];
const PID_TCP = 1 << PID;
const PID_UDP = 2 << PID;
const PID_IP = 3 << PID;
const IPF = bits(RTL8169_RX_STATUS.IPF);
const UDPF = bits(RTL8169_RX_STATUS.UDPF);
const TCPF = bits(RTL8169_RX_STATUS.TCPF);

/** The sender vouches for every sum over TCP and UDP, or for none. */
export const ALL_TRUSTED = -2;
export const NONE_TRUSTED = -1;

const VLAN_TAG_LEN = 4;
/** one of the provider's and one of the customer's. IEEE 802.1Q table 9-1 */
const MOST_TAGS = 2;
const ETHERTYPE_QINQ = 0x88a8;
const IP_HDR_LEN = 20;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
/** MF or an offset. RFC 791 §3.1 */
const IP_FRAGMENT = 0x3fff;
const TCP_HDR_LEN = 20;
const TCP_FLAGS = 13;
const TCP_SUM = 16;
const TH_CWR = 0x80;
const UDP_HDR_LEN = 8;
const UDP_SUM = 6;

/** Where the IPv4 header stands, behind tags; 0: none, or not all of it is there. A DataView's default is network order. */
const ipv4At = (view: DataView, start: number, length: number): number => {
  const end = start + length;
  let ip = start + ETHER_HDR_LEN;
  if (ip + IP_HDR_LEN > end) return 0;
  let type = view.getUint16(ip - 2);
  for (let tags = 0; (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ) && tags < MOST_TAGS; tags++) {
    ip += VLAN_TAG_LEN;
    if (ip + IP_HDR_LEN > end) return 0;
    type = view.getUint16(ip - 2);
  }
  if (type !== ETHERTYPE_IP) return 0;
  const first = view.getUint8(ip);
  const headerLen = (first & 0x0f) * 4;
  return first >>> 4 === 4 && headerLen >= IP_HDR_LEN && ip + headerLen <= end ? ip : 0;
};

const headerLenAt = (view: DataView, ip: number): number => (view.getUint8(ip) & 0x0f) * 4;

/** Sum of the pseudo header. RFC 9293 §3.1, RFC 768 */
const pseudoHeader = (view: DataView, ip: number, protocol: number, payloadLen: number): number =>
  sumWordsView(view, ip + 12, 8, protocol + payloadLen);

const storeIpChecksum = (view: DataView, ip: number, headerLen: number): void => {
  view.setUint16(ip + 10, 0);
  view.setUint16(ip + 10, foldChecksum(sumWordsView(view, ip, headerLen)));
};

/** Says in `open` that the sum over a packet is still to be stored, and stores that of its pseudo header. VIRTIO 1.2 §5.1.6.2 */
const leaveOpen = (
  view: DataView,
  start: number,
  transport: number,
  at: number,
  pseudo: number,
  open: OffloadRecord,
): void => {
  view.setUint16(at, foldSum(pseudo));
  open.needsCsum = true;
  open.csumStart = transport - start;
  open.csumOffset = at - transport;
};

/**
 * Stores the checksums that a transmit descriptor asks for into a frame of `length` bytes at `start`. A frame that is not
 * IPv4, or whose lengths do not fit, stays as it is; so does the TCP or UDP checksum of a fragment.
 * @param command opts1 of the first descriptor
 * @param open where given, the sum over TCP or UDP is left to the far end, and this says so
 */
export const insertChecksums = (
  view: DataView,
  start: number,
  length: number,
  command: number,
  open: OffloadRecord | null,
): void => {
  const ip = ipv4At(view, start, length);
  if (ip === 0) return;
  const headerLen = headerLenAt(view, ip);
  const totalLen = view.getUint16(ip + 2);
  const end = start + length;
  if (totalLen < headerLen || ip + totalLen > end) return;
  if ((command & IPCS) !== 0) storeIpChecksum(view, ip, headerLen);
  const protocol = view.getUint8(ip + 9);
  const payloadLen = totalLen - headerLen;
  const isTcp = protocol === IPPROTO_TCP && (command & TCPCS) !== 0 && payloadLen >= TCP_HDR_LEN;
  const isUdp = protocol === IPPROTO_UDP && (command & UDPCS) !== 0 && payloadLen >= UDP_HDR_LEN;
  if (!(isTcp || isUdp) || (view.getUint16(ip + 6) & IP_FRAGMENT) !== 0) return;
  const transport = ip + headerLen;
  const at = transport + (isTcp ? TCP_SUM : UDP_SUM);
  const pseudo = pseudoHeader(view, ip, protocol, payloadLen);
  // A far end sums to the end of the frame, which is only right where nothing follows the packet.
  if (open !== null && ip + totalLen === end) {
    leaveOpen(view, start, transport, at, pseudo, open);
    return;
  }
  view.setUint16(at, 0);
  const sum = foldChecksum(sumWordsView(view, transport, payloadLen, pseudo));
  view.setUint16(at, isUdp && sum === 0 ? 0xffff : sum); // 0 would say that there is no checksum. RFC 768
};

/**
 * Makes a packet that is to be cut whole in itself: lengths, IPv4 checksum, and an open TCP checksum that `open` tells of.
 * Drivers leave there whatever the first segment's would be. The frame is TCP over IPv4.
 */
export const completeLargeSend = (view: DataView, start: number, length: number, open: OffloadRecord): void => {
  const ip = ipv4At(view, start, length);
  const headerLen = headerLenAt(view, ip);
  const transport = ip + headerLen;
  const payloadLen = start + length - transport;
  view.setUint16(ip + 2, headerLen + payloadLen);
  storeIpChecksum(view, ip, headerLen);
  open.ecn = (view.getUint8(transport + TCP_FLAGS) & TH_CWR) !== 0;
  leaveOpen(view, start, transport, transport + TCP_SUM, pseudoHeader(view, ip, IPPROTO_TCP, payloadLen), open);
};

/** Stores a checksum that its sender left open. @param csumStart from `start`. VIRTIO 1.2 §5.1.6.2 */
export const completeOpen = (
  view: DataView,
  start: number,
  length: number,
  csumStart: number,
  csumOffset: number,
): void => {
  const sum = foldChecksum(sumWordsView(view, start + csumStart, length - csumStart));
  view.setUint16(start + csumStart + csumOffset, sum === 0 ? 0xffff : sum); // 0 would say that there is none. RFC 768
};

/**
 * What a receive status says of a frame's checksums: PID, IPF, UDPF and TCPF. Nothing is claimed for TCP or UDP of a
 * fragment or of a packet that is cut off.
 * @param trusted where the sum begins, from `start`, that is known to be right, or one of the constants
 */
export const receiveStatus = (view: DataView, start: number, length: number, trusted: number): number => {
  const ip = ipv4At(view, start, length);
  if (ip === 0) return 0;
  const headerLen = headerLenAt(view, ip);
  const totalLen = view.getUint16(ip + 2);
  const status = PID_IP | (foldChecksum(sumWordsView(view, ip, headerLen)) === 0 ? 0 : IPF);
  if (totalLen < headerLen || ip + totalLen > start + length) return status;
  if ((view.getUint16(ip + 6) & IP_FRAGMENT) !== 0) return status;
  const protocol = view.getUint8(ip + 9);
  const payloadLen = totalLen - headerLen;
  const transport = ip + headerLen;
  const known = trusted === ALL_TRUSTED || trusted === transport - start;
  if (protocol === IPPROTO_TCP && payloadLen >= TCP_HDR_LEN) {
    const holds = known || holdsAt(view, ip, transport, protocol, payloadLen);
    return (status & IPF) | PID_TCP | (holds ? 0 : TCPF);
  }
  if (protocol !== IPPROTO_UDP || payloadLen < UDP_HDR_LEN) return status;
  const none = view.getUint16(transport + UDP_SUM) === 0;
  const holds = none || known || holdsAt(view, ip, transport, protocol, payloadLen);
  return (status & IPF) | PID_UDP | (holds ? 0 : UDPF);
};

const holdsAt = (view: DataView, ip: number, transport: number, protocol: number, payloadLen: number): boolean =>
  foldChecksum(sumWordsView(view, transport, payloadLen, pseudoHeader(view, ip, protocol, payloadLen))) === 0;
