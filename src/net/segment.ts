import { copyBytes, ETHER_HDR_LEN, foldChecksum, sumWordsView } from "../bytes/index.js";
import type { Offload } from "../contract/index.js";
import { LONGEST_FINISHED } from "./finish.js";
import {
  IP6_HDR_LEN,
  IPPROTO_TCP,
  IPPROTO_UDP,
  LONGEST_HEADERS,
  MOST_SEGMENTS,
  PacketHeaders,
  UDP_HDR_LEN,
} from "./headers.js";

/** bytes; enough for segments of full frames, doubled when longer ones come */
const FIRST_SIZE = 2048;

const TCP_HDR_LEN = 20;
const TH_FIN_PSH = 0x09;
const TH_CWR = 0x80;

const NOTHING = new Uint8Array(0);

/**
 * Cuts a frame that a sender left whole (`gso` of its offload, but for `udpfrag`) into the frames that it stands for, one
 * at a time, in a buffer of its own: `begin`, then while `next()` the segment stands in `bytes` from 0, `length` bytes, finished.
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
  readonly #packet = new PacketHeaders(); // of the headers, which stand in `bytes` all the time
  #headers = 0; // bytes
  #tcp = false;
  // as the sender wrote them
  #sequence = 0;
  #flags = 0;

  /**
   * Looks at a frame and keeps `bytes` until the last segment was made, or `end`.
   * @param length bytes; @param offload its `gso` and `gsoSize` (payload of a segment, 1 … 65535) are used
   * @returns false when the frame is not what `gso` says, is a fragment or source routed, or cannot be cut like that
   */
  begin(bytes: Uint8Array, start: number, length: number, offload: Pick<Offload, "gso" | "gsoSize">): boolean {
    this.end();
    const { gso, gsoSize } = offload;
    if (!Number.isInteger(gsoSize) || gsoSize < 1 || gsoSize > 0xffff) return false;
    if (gso === "none" || gso === "udpfrag" || length < ETHER_HDR_LEN || length > LONGEST_FINISHED) return false;
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
    if (count > MOST_SEGMENTS || longest - this.#packet.ip - (this.#packet.v4 ? 0 : IP6_HDR_LEN) > 0xffff) return false;
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
    const { transport, pseudo } = this.#packet;
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
    const checksum = foldChecksum(sumWordsView(view, transport, transportLength, pseudo + transportLength));
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
    if (this.#tcp) target[this.#packet.transport + 13] = this.#index > 0 ? this.#flags & ~TH_CWR : this.#flags;
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
    const { v4, ip, transport, identification } = this.#packet;
    const headerLength = transport - ip;
    if (!v4) {
      view.setUint16(ip + 4, headerLength - IP6_HDR_LEN + transportLength);
      return;
    }
    view.setUint16(ip + 2, headerLength + transportLength);
    view.setUint16(ip + 4, (identification + index) & 0xffff);
    view.setUint16(ip + 10, 0);
    view.setUint16(ip + 10, foldChecksum(sumWordsView(view, ip, headerLength)));
  }

  /** Finds the headers in the first `top` bytes. @returns false when they are not those of `gso` */
  #parse(gso: Offload["gso"], top: number): boolean {
    const packet = this.#packet;
    this.#tcp = gso !== "udp";
    if (!packet.parse(this.bytes, this.#view, top, this.#tcp ? IPPROTO_TCP : IPPROTO_UDP, false)) return false;
    if (gso === (packet.v4 ? "tcp6" : "tcp4")) return false;
    const { transport } = packet;
    this.#headers = transport + (this.#tcp ? TCP_HDR_LEN : UDP_HDR_LEN);
    if (this.#headers > top) return false;
    if (!this.#tcp) return true;
    const words = this.bytes[transport + 12]! >>> 4;
    this.#headers = transport + words * 4;
    this.#sequence = this.#view.getUint32(transport + 4);
    this.#flags = this.bytes[transport + 13]!;
    return words >= 5 && this.#headers <= top;
  }

  #grow(length: number): void {
    this.bytes = new Uint8Array(2 ** Math.ceil(Math.log2(length)));
    this.#view = new DataView(this.bytes.buffer);
  }
}
