import { ETHER_HDR_LEN, ETHERTYPE_IP, ETHERTYPE_IPV6, ETHERTYPE_VLAN } from "../../src/bytes/index.js";

export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const TCP_MIN_LEN = 20;
export const UDP_HDR_LEN = 8;

const ETHERTYPE_QINQ = 0x88a8;
const TAG_LEN = 4;
const MOST_TAGS = 2;
const IP_MIN_LEN = 20;
/** More fragments, and the offset. RFC 791 §3.1 */
const IP_FRAGMENT = 0x3fff;
const IP6_HDR_LEN = 40;
// Extension headers that may stand before a transport header. RFC 8200 §4.1
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION = 60;
/** Offset and more-fragments flag of a fragment header. RFC 8200 §4.5 */
const IP6_FRAGMENT = 0xfff9;
const FRAGMENT_LEN = 8;
/** No stack sends more extension headers; bounds what a frame may cost. */
const MOST_EXTENSIONS = 16;
/** A routing header for mobile hosts: one address, at 8. RFC 6275 §6.4 */
const ROUTING_TYPE_2 = 2;
const ROUTING_TYPE_2_LEN = 24;
/** The option with a mobile host's address. RFC 6275 §6.3 */
const HOME_ADDRESS = 0xc9;
const HOME_ADDRESS_LEN = 16;
const PAD1 = 0;

const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

/** Where the headers of a frame stand, as far as it has any that are known. All places are indices in the bytes given. */
export class Packet {
  /** 4, 6, or 0: no IP, or not all of its header */
  version = 0;
  source = 0;
  destination = 0;
  /** a mobile host's own address from its option, else `source` */
  home = 0;
  /** the address in a routing header of type 2, else `destination` */
  route = 0;
  /** IPv6 with extension headers */
  extended = false;
  /** carries a part of a datagram */
  fragment = false;
  /** of what begins at `transport`; −1: not found */
  protocol = -1;
  transport = 0;
  /** the packet is whole and begins with a complete TCP or UDP header */
  ports = false;

  parse(bytes: Uint8Array, start: number, length: number): void {
    this.version = 0;
    this.protocol = -1;
    this.extended = this.fragment = this.ports = false;
    const limit = start + length;
    let ip = start + ETHER_HDR_LEN;
    if (ip > limit) return;
    let type = word(bytes, ip - 2);
    for (let tags = 0; tags < MOST_TAGS && (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ); tags++) {
      ip += TAG_LEN;
      if (ip > limit) return;
      type = word(bytes, ip - 2);
    }
    if (type === ETHERTYPE_IP) this.#ip4(bytes, ip, limit);
    else if (type === ETHERTYPE_IPV6) this.#ip6(bytes, ip, limit);
    if (this.fragment) return;
    const { protocol } = this;
    const least = protocol === IPPROTO_TCP ? TCP_MIN_LEN : protocol === IPPROTO_UDP ? UDP_HDR_LEN : Infinity;
    this.ports = this.transport + least <= limit;
  }

  #ip4(bytes: Uint8Array, ip: number, limit: number): void {
    const headerLength = (bytes[ip]! & 15) * 4;
    if (ip + IP_MIN_LEN > limit || headerLength < IP_MIN_LEN) return;
    this.version = 4;
    this.source = this.home = ip + 12;
    this.destination = this.route = ip + 16;
    this.fragment = (word(bytes, ip + 6) & IP_FRAGMENT) !== 0;
    this.protocol = bytes[ip + 9]!;
    this.transport = ip + headerLength;
  }

  #ip6(bytes: Uint8Array, ip: number, limit: number): void {
    let at = ip + IP6_HDR_LEN;
    if (at > limit) return;
    this.version = 6;
    this.source = this.home = ip + 8;
    this.destination = this.route = ip + 24;
    let next = bytes[ip + 6]!;
    for (let left = MOST_EXTENSIONS; ; left--) {
      if (next !== HOP_BY_HOP && next !== ROUTING && next !== DESTINATION && next !== FRAGMENT) break;
      this.extended = true;
      if (left === 0 || at + 8 > limit) return;
      const end = next === FRAGMENT ? at + FRAGMENT_LEN : at + (bytes[at + 1]! + 1) * 8;
      if (end > limit) return;
      if (next === FRAGMENT && (word(bytes, at + 2) & IP6_FRAGMENT) !== 0) {
        this.fragment = true;
        return;
      }
      if (next === ROUTING && bytes[at + 2] === ROUTING_TYPE_2 && end - at === ROUTING_TYPE_2_LEN) this.route = at + 8;
      if (next === DESTINATION) this.#findHome(bytes, at + 2, end);
      next = bytes[at]!;
      at = end;
    }
    this.protocol = next;
    this.transport = at;
  }

  #findHome(bytes: Uint8Array, first: number, end: number): void {
    for (let at = first; at + 1 < end; ) {
      const type = bytes[at]!;
      const length = type === PAD1 ? -1 : bytes[at + 1]!;
      if (type === HOME_ADDRESS && length === HOME_ADDRESS_LEN && at + 2 + length <= end) this.home = at + 2;
      at += 2 + length;
    }
  }
}
