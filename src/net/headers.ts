import { ETHER_HDR_LEN, ETHERTYPE_IP, ETHERTYPE_IPV6, ETHERTYPE_VLAN, foldSum, sumWordsView } from "../bytes/index.js";

/** Longest headers, Ethernet to TCP, of a frame that is cut. No stack sends as many options or extension headers. */
export const LONGEST_HEADERS = 512;

/** Most frames that one frame is cut into: 64 KiB at 16 bytes each. Bounds what one frame of a guest may cost. */
export const MOST_SEGMENTS = 4096;

export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const UDP_HDR_LEN = 8;

/** An 802.1ad tag, which stands in front of an 802.1Q one. IEEE 802.1Q table 9-1 */
const ETHERTYPE_QINQ = 0x88a8;
const MOST_TAGS = 2;
const TAG_LEN = 4;

export const IP_HDR_LEN = 20;
/** More fragments follow. RFC 791 §3.1 */
export const IP_MF = 0x2000;
/** Offset of a fragment, in units of eight bytes. RFC 791 §3.1 */
export const IP_OFFMASK = 0x1fff;
// Options whose header names the next stop as destination, where the checksum has the last one. RFC 791 §3.1
const IPOPT_EOL = 0;
export const IPOPT_NOP = 1;
const IPOPT_LSRR = 131;
const IPOPT_SSRR = 137;

export const IP6_HDR_LEN = 40;
// Extension headers that may stand before the transport header. RFC 8200 §4.1
const IP6_HOP_BY_HOP = 0;
const IP6_ROUTING = 43;
export const IP6_FRAGMENT = 44;
const IP6_DESTINATION = 60;
export const IP6_FRAGMENT_LEN = 8;
/** Offset of a fragment, in bytes: its field counts eights above three other bits. RFC 8200 §4.5 */
const IP6_OFFMASK = 0xfff8;
export const IP6_MF = 1;

/**
 * Where the headers of a frame stand, for who cuts it: reads the frame as a receiver would, and believes nothing else.
 * All places are indices from the start of the frame.
 */
export class PacketHeaders {
  v4 = false;
  ip = 0;
  /** behind all IP headers; of a later fragment, what it carries */
  transport = 0;
  /** folded sum of the pseudo header without its length; nothing with a fragment */
  pseudo = 0;
  /** of IPv4, or of a fragment header; 0 without either */
  identification = 0;
  /** where the part begins that may be cut into fragments. RFC 791 §3.2, RFC 8200 §4.5 */
  fragmentable = 0;
  /** where the number of the header stands that begins there */
  nextHeaderAt = 0;
  /** of a fragment that is not the first one, bytes; otherwise 0 */
  fragmentOffset = 0;
  /** a fragment that others follow */
  moreFragments = false;

  /**
   * @param top bytes of the frame that may be looked at; @param protocol what the packet has to carry
   * @param fragments takes a later fragment, too: its `protocol` is IPv4's only
   * @returns false when it carries something else, is a first fragment or source routed, or is cut off
   */
  parse(bytes: Uint8Array, view: DataView, top: number, protocol: number, fragments: boolean): boolean {
    let ip = ETHER_HDR_LEN;
    if (ip > top) return false;
    let type = view.getUint16(ip - 2);
    for (let tags = 0; (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ) && tags < MOST_TAGS; tags++) {
      ip += TAG_LEN;
      if (ip > top) return false;
      type = view.getUint16(ip - 2);
    }
    this.ip = ip;
    this.v4 = type === ETHERTYPE_IP;
    this.fragmentOffset = this.identification = this.pseudo = 0;
    this.moreFragments = false;
    if (this.v4) return this.#parseV4(bytes, view, top, protocol, fragments);
    return type === ETHERTYPE_IPV6 && this.#parseV6(bytes, view, top, protocol, fragments);
  }

  #parseV4(bytes: Uint8Array, view: DataView, top: number, protocol: number, fragments: boolean): boolean {
    const { ip } = this;
    if (ip + IP_HDR_LEN > top) return false;
    const first = bytes[ip]!;
    const transport = ip + (first & 0xf) * 4;
    if (first >>> 4 !== 4 || transport < ip + IP_HDR_LEN || transport > top) return false;
    if (bytes[ip + 9] !== protocol || isSourceRouted(bytes, ip + IP_HDR_LEN, transport)) return false;
    this.transport = this.fragmentable = transport;
    this.identification = view.getUint16(ip + 4);
    const fragment = view.getUint16(ip + 6) & (IP_MF | IP_OFFMASK);
    if (fragment !== 0) {
      this.fragmentOffset = (fragment & IP_OFFMASK) * 8;
      this.moreFragments = (fragment & IP_MF) !== 0;
      return fragments && this.fragmentOffset !== 0;
    }
    this.pseudo = foldSum(sumWordsView(view, ip + 12, 8, protocol));
    return true;
  }

  #parseV6(bytes: Uint8Array, view: DataView, top: number, protocol: number, fragments: boolean): boolean {
    const { ip } = this;
    let at = ip + IP6_HDR_LEN;
    if (at > top || bytes[ip]! >>> 4 !== 6) return false;
    let nextAt = ip + 6;
    let next = bytes[nextAt]!;
    this.fragmentable = at;
    this.nextHeaderAt = nextAt;
    while (next !== protocol) {
      if (at + 8 > top) return false;
      if (next === IP6_FRAGMENT) {
        const fragment = view.getUint16(at + 2);
        this.fragmentOffset = fragment & IP6_OFFMASK;
        this.moreFragments = (fragment & IP6_MF) !== 0;
        this.identification = view.getUint32(at + 4);
        // What is to be cut is all that follows, and the header comes in front of each piece again.
        this.transport = at + IP6_FRAGMENT_LEN;
        this.fragmentable = at;
        this.nextHeaderAt = nextAt;
        return fragments && this.fragmentOffset !== 0;
      }
      if (next !== IP6_HOP_BY_HOP && next !== IP6_ROUTING && next !== IP6_DESTINATION) return false;
      // Segments left: the address in the header is not the one in the checksum. RFC 8200 §8.1
      if (next === IP6_ROUTING && bytes[at + 3] !== 0) return false;
      const end = at + 8 * (bytes[at + 1]! + 1);
      // Every stop on the way reads up to the routing header; the options of the last one may be in fragments.
      if (next !== IP6_DESTINATION) {
        this.fragmentable = end;
        this.nextHeaderAt = at;
      }
      nextAt = at;
      next = bytes[nextAt]!;
      at = end;
    }
    if (at > top) return false;
    this.transport = at;
    this.pseudo = foldSum(sumWordsView(view, ip + 8, 32, protocol));
    return true;
  }
}

const isSourceRouted = (bytes: Uint8Array, from: number, end: number): boolean => {
  for (let at = from; at < end; ) {
    const option = bytes[at]!;
    if (option === IPOPT_EOL) return false;
    if (option === IPOPT_LSRR || option === IPOPT_SSRR) return true;
    // A length below its own two bytes ends the search: the options are carried along, whatever they say.
    const length = option === IPOPT_NOP ? 1 : at + 1 < end ? bytes[at + 1]! : 0;
    if (length === 0 || (length === 1 && option !== IPOPT_NOP)) return false;
    at += length;
  }
  return false;
};
