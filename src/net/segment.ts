import {
  copyBytes,
  ETHER_HDR_LEN,
  ETHERTYPE_IP,
  ETHERTYPE_IPV6,
  ETHERTYPE_VLAN,
  foldChecksum,
  foldSum,
  sumWordsView,
} from "../bytes/index.js";
import type { Offload } from "../contract/index.js";
import { LONGEST_FINISHED } from "./finish.js";

/** bytes; enough for segments of full frames, doubled when longer ones come */
const FIRST_SIZE = 2048;

/** Longest headers, Ethernet to TCP, of a frame that is cut. No stack sends as many options or extension headers. */
export const LONGEST_HEADERS = 512;

/** Most segments that one frame is cut into: 64 KiB at 16 bytes each. Bounds what one frame of a guest may cost. */
export const MOST_SEGMENTS = 4096;

/** An 802.1ad tag, which stands in front of an 802.1Q one. IEEE 802.1Q table 9-1 */
const ETHERTYPE_QINQ = 0x88a8;
const MOST_TAGS = 2;
const TAG_LEN = 4;

const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const TCP_HDR_LEN = 20;
const UDP_HDR_LEN = 8;

const IP_HDR_LEN = 20;
/** More fragments, and the offset of this one. RFC 791 §3.1 */
const IP_FRAGMENT = 0x3fff;
// Options whose header names the next stop as destination, where the checksum has the last one. RFC 791 §3.1
const IPOPT_EOL = 0;
const IPOPT_NOP = 1;
const IPOPT_LSRR = 131;
const IPOPT_SSRR = 137;

const IP6_HDR_LEN = 40;
// Extension headers that may stand before the transport header. RFC 8200 §4.1
const IP6_HOP_BY_HOP = 0;
const IP6_ROUTING = 43;
const IP6_DESTINATION = 60;

const TH_FIN_PSH = 0x09;
const TH_CWR = 0x80;

const NOTHING = new Uint8Array(0);

/**
 * Cuts a frame that a sender left whole (`gso` of its offload) into the frames that it stands for, one at a time, in a
 * buffer of its own: `begin`, then while `next()` the segment stands in `bytes` from 0, `length` bytes, finished.
 *
 * What it cuts at is read from the packet: neither `csumStart` nor the IP length nor what the checksum field holds is
 * looked at, since guests differ in them. The payload is what follows the transport header, to the end of the frame.
 * VIRTIO 1.2 §5.1.6.2
 */
export class Segmenter {
  /** the segment, until the next `next` or `begin` */
  bytes = new Uint8Array(FIRST_SIZE);
  /** bytes of the segment */
  length = 0;
  /** into how many segments the frame is cut, 1 or more */
  count = 0;
  /** bytes of the first segment, than which none is longer */
  longest = 0;
  #view = new DataView(this.bytes.buffer); // its default is network order
  #source: Uint8Array = NOTHING;
  #payloadAt = 0; // in the source
  #payload = 0; // bytes
  #gsoSize = 0;
  #index = -1; // of the segment in `bytes`
  // of the headers, which stand in `bytes` all the time
  #ip = 0; // index
  #transport = 0; // index
  #headers = 0; // bytes
  #v4 = false;
  #tcp = false;
  // as the sender wrote them
  #identification = 0;
  #sequence = 0;
  #flags = 0;
  #pseudo = 0; // folded sum of the pseudo header without its length

  /**
   * Looks at a frame and keeps `bytes` until the last segment was made, or `end`.
   * @param length bytes; @param offload its `gso` and `gsoSize` (payload of a segment, 1 … 65535) are used
   * @returns false when the frame is not what `gso` says, is a fragment or source routed, or cannot be cut like that
   */
  begin(bytes: Uint8Array, start: number, length: number, offload: Pick<Offload, "gso" | "gsoSize">): boolean {
    this.end();
    const { gso, gsoSize } = offload;
    if (!Number.isInteger(gsoSize) || gsoSize < 1 || gsoSize > 0xffff) return false;
    if (gso === "none" || length < ETHER_HDR_LEN || length > LONGEST_FINISHED) return false;
    const needed = Math.min(length, LONGEST_HEADERS + gsoSize);
    if (needed > this.bytes.length) this.#grow(needed);
    // Copied first and looked at then: the frame may lie in guest memory.
    const top = Math.min(length, LONGEST_HEADERS);
    copyBytes(bytes, start, top, this.bytes, 0);
    if (!this.#parse(gso, top)) return false;
    const payload = length - this.#headers;
    const count = Math.max(1, Math.ceil(payload / gsoSize));
    const longest = this.#headers + Math.min(payload, gsoSize);
    // The total length of IPv4 includes the header, that of IPv6 does not. RFC 791 §3.1, RFC 8200 §3
    if (count > MOST_SEGMENTS || longest - this.#ip - (this.#v4 ? 0 : IP6_HDR_LEN) > 0xffff) return false;
    this.#source = bytes;
    this.#payloadAt = start + this.#headers;
    this.#payload = payload;
    this.#gsoSize = gsoSize;
    this.count = count;
    this.longest = longest;
    return true;
  }

  /** Makes the next segment. @returns false after the last one */
  next(): boolean {
    const index = this.#index + 1;
    if (index >= this.count) {
      this.end();
      return false;
    }
    this.#index = index;
    const view = this.#view;
    const at = index * this.#gsoSize;
    const chunk = Math.min(this.#gsoSize, this.#payload - at);
    const headers = this.#headers;
    const transport = this.#transport;
    const transportLength = headers - transport + chunk;
    copyBytes(this.#source, this.#payloadAt + at, chunk, this.bytes, headers);
    this.length = headers + chunk;
    this.#writeIp(index, transportLength);
    let checksumAt = transport + 6;
    if (this.#tcp) {
      checksumAt = transport + 16;
      view.setUint32(transport + 4, (this.#sequence + at) >>> 0);
      this.bytes[transport + 13] = this.#flagsOf(index);
    } else view.setUint16(transport + 4, transportLength);
    view.setUint16(checksumAt, 0);
    const checksum = foldChecksum(sumWordsView(view, transport, transportLength, this.#pseudo + transportLength));
    // 0 means "no checksum" to UDP. RFC 768
    view.setUint16(checksumAt, checksum === 0 && !this.#tcp ? 0xffff : checksum);
    return true;
  }

  /** Forgets the frame. */
  end(): void {
    this.#source = NOTHING;
    this.count = 0;
    this.#index = -1;
  }

  /** segments from the one in `bytes` on, itself included */
  get left(): number {
    return this.count - this.#index;
  }

  /** bytes that `copyRest` writes */
  get restLength(): number {
    return this.#headers + this.#payload - this.#index * this.#gsoSize;
  }

  /**
   * Writes what is left, from the segment in `bytes` on, as one frame that is cut into just these segments.
   * @param target may be what the frame lies in, when that begins there at 0
   */
  copyRest(target: Uint8Array): void {
    const at = this.#payloadAt + this.#index * this.#gsoSize;
    const end = this.#payloadAt + this.#payload;
    // Identification and sequence number are those of the segment already.
    copyBytes(this.bytes, 0, this.#headers, target, 0);
    if (this.#tcp) target[this.#transport + 13] = this.#index > 0 ? this.#flags & ~TH_CWR : this.#flags;
    target.set(this.#source.subarray(at, end), this.#headers); // moves rightly within one array, too
  }

  /** The sender is done with the last segment, and slowed down with the first one. RFC 9293 §3.1, RFC 3168 §6.1.2 */
  #flagsOf(index: number): number {
    let flags = this.#flags;
    if (index > 0) flags &= ~TH_CWR;
    return index === this.count - 1 ? flags : flags & ~TH_FIN_PSH;
  }

  #writeIp(index: number, transportLength: number): void {
    const view = this.#view;
    const ip = this.#ip;
    const headerLength = this.#transport - ip;
    if (!this.#v4) {
      view.setUint16(ip + 4, headerLength - IP6_HDR_LEN + transportLength);
      return;
    }
    view.setUint16(ip + 2, headerLength + transportLength);
    view.setUint16(ip + 4, (this.#identification + index) & 0xffff);
    view.setUint16(ip + 10, 0);
    view.setUint16(ip + 10, foldChecksum(sumWordsView(view, ip, headerLength)));
  }

  /** Finds the headers in the first `top` bytes. @returns false when they are not those of `gso` */
  #parse(gso: Offload["gso"], top: number): boolean {
    const view = this.#view;
    let ip = ETHER_HDR_LEN;
    let type = view.getUint16(ip - 2);
    for (let tags = 0; (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ) && tags < MOST_TAGS; tags++) {
      ip += TAG_LEN;
      if (ip > top) return false;
      type = view.getUint16(ip - 2);
    }
    this.#ip = ip;
    this.#tcp = gso !== "udp";
    this.#v4 = type === ETHERTYPE_IP;
    const protocol = this.#tcp ? IPPROTO_TCP : IPPROTO_UDP;
    if (this.#v4) {
      if (gso === "tcp6" || !this.#parseV4(ip, top, protocol)) return false;
    } else if (type !== ETHERTYPE_IPV6 || gso === "tcp4" || !this.#parseV6(ip, top, protocol)) return false;
    const transport = this.#transport;
    this.#headers = transport + (this.#tcp ? TCP_HDR_LEN : UDP_HDR_LEN);
    if (this.#headers > top) return false;
    if (!this.#tcp) return true;
    const words = this.bytes[transport + 12]! >>> 4;
    this.#headers = transport + words * 4;
    this.#sequence = view.getUint32(transport + 4);
    this.#flags = this.bytes[transport + 13]!;
    return words >= 5 && this.#headers <= top;
  }

  #parseV4(ip: number, top: number, protocol: number): boolean {
    if (ip + IP_HDR_LEN > top) return false;
    const { bytes } = this;
    const view = this.#view;
    const first = bytes[ip]!;
    const transport = ip + (first & 0xf) * 4;
    if (first >>> 4 !== 4 || transport < ip + IP_HDR_LEN || transport > top) return false;
    if (bytes[ip + 9] !== protocol || (view.getUint16(ip + 6) & IP_FRAGMENT) !== 0) return false;
    if (this.#isSourceRouted(ip + IP_HDR_LEN, transport)) return false;
    this.#transport = transport;
    this.#identification = view.getUint16(ip + 4);
    this.#pseudo = foldSum(sumWordsView(view, ip + 12, 8, protocol));
    return true;
  }

  #isSourceRouted(from: number, end: number): boolean {
    const { bytes } = this;
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
  }

  #parseV6(ip: number, top: number, protocol: number): boolean {
    let at = ip + IP6_HDR_LEN;
    if (at > top) return false;
    const { bytes } = this;
    if (bytes[ip]! >>> 4 !== 6) return false;
    let next = bytes[ip + 6]!;
    while (next !== protocol) {
      if (next !== IP6_HOP_BY_HOP && next !== IP6_ROUTING && next !== IP6_DESTINATION) return false;
      if (at + 8 > top) return false;
      // Segments left: the address in the header is not the one in the checksum. RFC 8200 §8.1
      if (next === IP6_ROUTING && bytes[at + 3] !== 0) return false;
      next = bytes[at]!;
      at += 8 * (bytes[at + 1]! + 1);
    }
    if (at > top) return false;
    this.#transport = at;
    this.#pseudo = foldSum(sumWordsView(this.#view, ip + 8, 32, protocol));
    return true;
  }

  #grow(length: number): void {
    this.bytes = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
    this.#view = new DataView(this.bytes.buffer);
  }
}
