import {
  ETHER_HDR_LEN,
  ETHERTYPE_IP,
  ETHERTYPE_VLAN,
  foldChecksum,
  sumWords,
  sumWordsView,
} from "../../src/bytes/index.js";
import { bits } from "../../src/regs/index.js";
import { RTL8169_TX_OPTS1 } from "../../src/spec/rtl8169.js";

const IPCS = bits(RTL8169_TX_OPTS1.IPCS);
const UDPCS = bits(RTL8169_TX_OPTS1.UDPCS);
const TCPCS = bits(RTL8169_TX_OPTS1.TCPCS);

const VLAN_TAG_LEN = 4;
const IP_HDR_LEN = 20;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const TCP_HDR_LEN = 20;
const TCP_SUM = 16;
const UDP_HDR_LEN = 8;
const UDP_SUM = 6;

const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

const store = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value & 0xff;
};

/**
 * Stores the checksums that a transmit descriptor asks for into a frame at the start of `bytes`, `view` over the same. A frame that is not
 * IPv4, or whose lengths do not fit, stays as it is; so does the TCP or UDP checksum of a fragment.
 * @param command opts1 of the first descriptor
 */
export const insertChecksums = (bytes: Uint8Array, view: DataView, length: number, command: number): void => {
  const tagged = length >= ETHER_HDR_LEN + VLAN_TAG_LEN && word(bytes, 12) === ETHERTYPE_VLAN;
  const ip = tagged ? ETHER_HDR_LEN + VLAN_TAG_LEN : ETHER_HDR_LEN;
  if (length < ip + IP_HDR_LEN || word(bytes, ip - 2) !== ETHERTYPE_IP) return;
  const headerLen = (bytes[ip]! & 0x0f) * 4;
  const totalLen = word(bytes, ip + 2);
  if (bytes[ip]! >>> 4 !== 4 || headerLen < IP_HDR_LEN || totalLen < headerLen || ip + totalLen > length) return;
  if ((command & IPCS) !== 0) {
    store(bytes, ip + 10, 0);
    store(bytes, ip + 10, foldChecksum(sumWords(bytes, ip, headerLen)));
  }
  const fragment = (word(bytes, ip + 6) & 0x3fff) !== 0; // MF or an offset
  const protocol = bytes[ip + 9]!;
  const payloadLen = totalLen - headerLen;
  const isTcp = protocol === IPPROTO_TCP && (command & TCPCS) !== 0 && payloadLen >= TCP_HDR_LEN;
  const isUdp = protocol === IPPROTO_UDP && (command & UDPCS) !== 0 && payloadLen >= UDP_HDR_LEN;
  if (fragment || !(isTcp || isUdp)) return;
  const payload = ip + headerLen;
  const at = payload + (isTcp ? TCP_SUM : UDP_SUM);
  store(bytes, at, 0);
  const pseudoHeader = sumWords(bytes, ip + 12, 8, protocol + payloadLen);
  const sum = foldChecksum(sumWordsView(view, payload, payloadLen, pseudoHeader));
  store(bytes, at, isUdp && sum === 0 ? 0xffff : sum); // 0 would say that there is no checksum. RFC 768
};
