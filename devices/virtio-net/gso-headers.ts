import type { Offload } from "../../src/contract/index.js";
import { IPPROTO_TCP, IPPROTO_UDP, Packet, TCP_MIN_LEN, UDP_HDR_LEN } from "./packet.js";

const TCP_CSUM = 16;
const UDP_CSUM = 6;

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
  readonly #packet = new Packet();

  /** @returns false when the frame is not what `gso` says, or has no payload */
  find(bytes: Uint8Array, start: number, length: number, gso: Offload["gso"]): boolean {
    const packet = this.#packet;
    packet.parse(bytes, start, length);
    const udp = gso === "udp" || gso === "udpfrag";
    if (!packet.ports || packet.protocol !== (udp ? IPPROTO_UDP : IPPROTO_TCP)) return false;
    if (!udp && packet.version !== (gso === "tcp4" ? 4 : 6)) return false;
    this.transport = packet.transport - start;
    this.csumOffset = udp ? UDP_CSUM : TCP_CSUM;
    const headerLength = udp ? UDP_HDR_LEN : Math.max(TCP_MIN_LEN, (bytes[packet.transport + 12]! >>> 4) * 4);
    this.end = this.transport + headerLength;
    return this.end < length;
  }
}
