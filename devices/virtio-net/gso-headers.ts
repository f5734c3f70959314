import { ETHER_HDR_LEN, ETHERTYPE_IP, ETHERTYPE_IPV6, ETHERTYPE_VLAN } from "../../src/bytes/index.js";
import type { Offload } from "../../src/contract/index.js";

const ETHERTYPE_QINQ = 0x88a8;
const TAG_LEN = 4;
const IP_MIN_LEN = 20;
const IP6_HDR_LEN = 40;
const TCP_MIN_LEN = 20;
const UDP_HDR_LEN = 8;
const TCP = 6;
const UDP = 17;
// Extension headers that may stand before a transport header. RFC 8200 §4.1
const HOP_BY_HOP = 0;
const ROUTING = 43;
const DESTINATION = 60;

/**
 * Finds the headers of a frame that came whole. Receivers check what the header of the packet says against them, and
 * senders differ in what they say: Linux refuses frames whose `csum_start` is not where the transport header begins.
 */
export class GsoHeaders {
  /** bytes from the start of the frame to the transport header */
  transport = 0;
  /** bytes up to the payload */
  end = 0;
  /** bytes from the transport header to its checksum */
  csumOffset = 0;

  /** @returns false when the frame is not what `gso` says, or has no payload */
  find(bytes: Uint8Array, start: number, length: number, gso: Offload["gso"]): boolean {
    let at = start + ETHER_HDR_LEN;
    const limit = start + length;
    let type = word(bytes, at - 2);
    for (let tags = 0; tags < 2 && (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ); tags++) {
      at += TAG_LEN;
      if (at > limit) return false;
      type = word(bytes, at - 2);
    }
    const protocol = gso === "udp" ? UDP : TCP;
    if (type === ETHERTYPE_IP && gso !== "tcp6") {
      if (at + IP_MIN_LEN > limit || bytes[at + 9] !== protocol) return false;
      at += (bytes[at]! & 15) * 4;
    } else if (type === ETHERTYPE_IPV6 && gso !== "tcp4") {
      at = skipExtensions(bytes, at, limit, protocol);
      if (at < 0) return false;
    } else return false;
    this.transport = at - start;
    if (gso === "udp") {
      this.csumOffset = 6;
      this.end = this.transport + UDP_HDR_LEN;
    } else {
      if (at + TCP_MIN_LEN > limit) return false;
      this.csumOffset = 16;
      this.end = this.transport + Math.max(TCP_MIN_LEN, (bytes[at + 12]! >>> 4) * 4);
    }
    return this.end < length;
  }
}

const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

/** @returns index of the transport header, −1 when there is none */
const skipExtensions = (bytes: Uint8Array, ip: number, limit: number, protocol: number): number => {
  let at = ip + IP6_HDR_LEN;
  if (at > limit) return -1;
  let next = bytes[ip + 6]!;
  while (next === HOP_BY_HOP || next === ROUTING || next === DESTINATION) {
    if (at + 8 > limit) return -1;
    next = bytes[at]!;
    at += (bytes[at + 1]! + 1) * 8;
  }
  return next === protocol ? at : -1;
};
