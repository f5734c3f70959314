import { copyBytes, crc32View, ETHER_HDR_LEN, foldChecksum, sumWordsView } from "../bytes/index.js";
import type { Offload } from "../contract/index.js";
import { LONGEST_FINISHED } from "./finish.js";
import {
  IP_HDR_LEN,
  IP_MF,
  IP6_FRAGMENT,
  IP6_FRAGMENT_LEN,
  IP6_HDR_LEN,
  IP6_MF,
  IPOPT_NOP,
  IPPROTO_UDP,
  LONGEST_HEADERS,
  MOST_SEGMENTS,
  PacketHeaders,
  UDP_HDR_LEN,
} from "./headers.js";

/** Fragments but the last end at multiples of this, bytes. RFC 791 §3.1, RFC 8200 §4.5 */
const UNIT = 8;

/** The option stands in every fragment, not only in the first. RFC 791 §3.1 */
const IPOPT_COPIED = 0x80;

/**
 * Cuts a datagram that a sender left whole (`gso` of its offload is `udpfrag`) into IPv4 or IPv6 fragments, one at a time,
 * in a buffer of its own: `begin`, then while `next()` the fragment stands in `bytes` from 0, `length` bytes.
 *
 * Length and checksum of UDP are those of the whole datagram, and made before it is cut. All IPv4 fragments have the
 * identification of the packet. IPv6 has none until it is cut: the CRC of what is cut serves, so that only equal datagrams
 * have equal ones, and equal datagrams equal fragments, which may then take each other's place. Don't-fragment is cleared:
 * the sender asked for fragments. A fragment is cut further when it is not the first one, as `copyRest` makes them.
 * VIRTIO 1.2 §5.1.6.2, RFC 791 §3.2, RFC 8200 §4.5
 */
export class Fragmenter {
  /** the fragment, until the next `next` or `begin` */
  bytes = new Uint8Array(0);
  /** bytes of the fragment */
  length = 0;
  /** into how many fragments the frame is cut, 1 or more; 1 leaves a packet that is none */
  count = 0;
  /** bytes of the first fragment, than which none is longer */
  longest = 0;
  #view = new DataView(this.bytes.buffer); // its default is network order
  // the frame: it is looked at, summed up and cut, and may lie in guest memory
  #whole = new Uint8Array(0);
  #wholeView = new DataView(this.#whole.buffer);
  #wholeLength = 0;
  readonly #packet = new PacketHeaders();
  #dataAt = 0; // in the frame
  #data = 0; // bytes
  #size = 0; // of the data of a fragment
  #headers = 0; // bytes in front of it
  #index = -1; // of the fragment in `bytes`

  /**
   * Takes a copy of a frame.
   * @param length bytes; @param offload its `gso` and `gsoSize` (data of a fragment, 8 … 65535, rounded down) are used
   * @returns false when the frame is no UDP packet, is a first fragment or source routed, or cannot be cut like that
   */
  begin(bytes: Uint8Array, start: number, length: number, offload: Pick<Offload, "gso" | "gsoSize">): boolean {
    this.end();
    const { gso, gsoSize } = offload;
    if (gso !== "udpfrag" || !Number.isInteger(gsoSize) || gsoSize < UNIT || gsoSize > 0xffff) return false;
    if (length < ETHER_HDR_LEN || length > LONGEST_FINISHED) return false;
    if (length > this.#whole.length) this.#growWhole(length);
    copyBytes(bytes, start, length, this.#whole, 0);
    this.#wholeLength = length;
    const packet = this.#packet;
    const top = Math.min(length, LONGEST_HEADERS);
    if (!packet.parse(this.#whole, this.#wholeView, top, IPPROTO_UDP, true)) return false;
    const { v4, ip, transport, fragmentable, fragmentOffset } = packet;
    // What comes out again has to be a packet. The length of IPv4 includes the header. RFC 791 §3.1, RFC 8200 §3
    if (length - ip - (v4 ? 0 : IP6_HDR_LEN) > 0xffff) return false;
    if (fragmentOffset === 0 && !this.#complete(top)) return false;
    const dataAt = fragmentOffset === 0 ? fragmentable : transport;
    const data = length - dataAt;
    if (fragmentOffset + data > 0xffff) return false;
    const size = gsoSize - (gsoSize % UNIT);
    const count = Math.max(1, Math.ceil(data / size));
    if (count > MOST_SEGMENTS) return false;
    this.#dataAt = dataAt;
    this.#data = data;
    this.#size = size;
    this.#beginHeaders(count > 1 || fragmentOffset !== 0, Math.min(data, size));
    this.longest = this.#headers + Math.min(data, size);
    this.count = count;
    return true;
  }

  /** Makes the next fragment. @returns false after the last one */
  next(): boolean {
    const index = this.#index + 1;
    if (index >= this.count) {
      this.end();
      return false;
    }
    this.#index = index;
    const at = index * this.#size;
    const chunk = Math.min(this.#size, this.#data - at);
    const headers = this.#headers;
    copyBytes(this.#whole, this.#dataAt + at, chunk, this.bytes, headers);
    this.length = headers + chunk;
    const { fragmentOffset, moreFragments } = this.#packet;
    if (index === 1 && fragmentOffset === 0) this.#blankOptions();
    this.#writeIp(this.bytes, this.#view, chunk, fragmentOffset + at, moreFragments || index < this.count - 1);
    return true;
  }

  /** Forgets the frame. */
  end(): void {
    this.count = 0;
    this.#index = -1;
  }

  /** fragments from the one in `bytes` on, itself included */
  get left(): number {
    return this.count - this.#index;
  }

  /** bytes that `copyRest` writes */
  get restLength(): number {
    return this.#index === 0 ? this.#wholeLength : this.#headers + this.#data - this.#index * this.#size;
  }

  /** Writes what is left, from the fragment in `bytes` on, as one frame that is cut into just these fragments. */
  copyRest(target: Uint8Array): void {
    if (this.#index === 0) {
      copyBytes(this.#whole, 0, this.#wholeLength, target, 0);
      return;
    }
    const at = this.#index * this.#size;
    copyBytes(this.bytes, 0, this.#headers, target, 0);
    copyBytes(this.#whole, this.#dataAt + at, this.#data - at, target, this.#headers);
    const { fragmentOffset, moreFragments } = this.#packet;
    const view = new DataView(target.buffer, target.byteOffset, target.length);
    this.#writeIp(target, view, this.#data - at, fragmentOffset + at, moreFragments);
  }

  /** Writes length and checksum of the datagram. @returns false when it has no header */
  #complete(top: number): boolean {
    const { transport, pseudo } = this.#packet;
    if (transport + UDP_HDR_LEN > top) return false;
    const view = this.#wholeView;
    const length = this.#wholeLength - transport;
    view.setUint16(transport + 4, length);
    view.setUint16(transport + 6, 0);
    const checksum = foldChecksum(sumWordsView(view, transport, length, pseudo + length));
    view.setUint16(transport + 6, checksum === 0 ? 0xffff : checksum); // 0 means "no checksum". RFC 768
    return true;
  }

  /** Puts down what stands in front of every fragment's data. */
  #beginHeaders(cut: boolean, longestData: number): void {
    const { v4, fragmentable, fragmentOffset, nextHeaderAt, identification } = this.#packet;
    const hasHeader = !v4 && cut;
    this.#headers = fragmentable + (hasHeader ? IP6_FRAGMENT_LEN : 0);
    if (this.#headers + longestData > this.bytes.length) this.#grow(this.#headers + longestData);
    copyBytes(this.#whole, 0, fragmentable, this.bytes, 0);
    if (!hasHeader) return;
    const view = this.#view;
    const again = fragmentOffset !== 0;
    view.setUint8(fragmentable, this.#whole[again ? fragmentable : nextHeaderAt]!);
    view.setUint8(fragmentable + 1, 0);
    view.setUint32(fragmentable + 4, again ? identification : crc32View(this.#wholeView, fragmentable, this.#data));
    view.setUint8(nextHeaderAt, IP6_FRAGMENT);
  }

  /** Writes lengths and offset. @param offset of the data in the packet, bytes */
  #writeIp(bytes: Uint8Array, view: DataView, data: number, offset: number, more: boolean): void {
    const { v4, ip, fragmentable } = this.#packet;
    const headers = this.#headers;
    if (v4) {
      view.setUint16(ip + 2, headers - ip + data);
      if (more || offset > 0) view.setUint16(ip + 6, (more ? IP_MF : 0) | (offset / UNIT));
      view.setUint16(ip + 10, 0);
      view.setUint16(ip + 10, foldChecksum(sumWordsView(view, ip, headers - ip)));
      return;
    }
    view.setUint16(ip + 4, headers - ip - IP6_HDR_LEN + data);
    if (bytes[this.#packet.nextHeaderAt] === IP6_FRAGMENT)
      view.setUint16(fragmentable + 2, offset | (more ? IP6_MF : 0));
  }

  /** Options that only the first fragment has make room for as many that mean nothing. RFC 791 §3.1 */
  #blankOptions(): void {
    const { v4, ip, transport } = this.#packet;
    if (!v4) return;
    const { bytes } = this;
    for (let at = ip + IP_HDR_LEN; at < transport; ) {
      const option = bytes[at]!;
      if (option === 0) return;
      const length = option === IPOPT_NOP ? 1 : at + 1 < transport ? bytes[at + 1]! : 0;
      if (length === 0 || (length === 1 && option !== IPOPT_NOP)) return;
      const end = Math.min(at + length, transport);
      if ((option & IPOPT_COPIED) === 0) bytes.fill(IPOPT_NOP, at, end);
      at = end;
    }
  }

  #grow(length: number): void {
    this.bytes = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
    this.#view = new DataView(this.bytes.buffer);
  }

  #growWhole(length: number): void {
    this.#whole = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
    this.#wholeView = new DataView(this.#whole.buffer);
  }
}
