import { ETHERTYPE_IP, ETHERTYPE_IPV6, ETHERTYPE_VLAN } from "../../bytes/index.js";
import type { GuestDma } from "../../contract/index.js";
import type { FrameSegments } from "../types.js";

/** Ethernet, a tag, IPv6 and the ports */
const LONGEST = 14 + 4 + 40 + 4;
const TCP = 6;
const UDP = 17;

/**
 * Tells flows apart by their addresses and ports, so that the frames of one go through one queue and stay in order. Fragments
 * count by their addresses alone: only the first one has ports.
 */
export class FlowHash {
  readonly #head = new Uint8Array(LONGEST);

  /** @param first index of the first piece of the frame @returns 0 … 2³¹−1; 0 for what is no IP packet */
  of(dma: GuestDma, { paddr, len }: FrameSegments, first: number, end: number): number {
    const head = this.#head;
    let bytes = 0;
    for (let i = first; i < end && bytes < LONGEST; i++) {
      const part = Math.min(len[i]!, LONGEST - bytes);
      dma.copyOut(paddr[i]!, head, bytes, part);
      bytes += part;
    }
    const tagged = word(head, 12) === ETHERTYPE_VLAN;
    const ip = tagged ? 18 : 14;
    const type = word(head, ip - 2);
    if (type === ETHERTYPE_IP && bytes >= ip + 20) {
      const fragment = (word(head, ip + 6) & 0x3fff) !== 0; // more fragments, or an offset
      const ports = ip + 4 * (head[ip]! & 15);
      const hash = mix(mix(0, head, ip + 12), head, ip + 16);
      return (fragment || ports + 4 > bytes ? hash : withPorts(hash, head[ip + 9]!, head, ports)) >>> 1;
    }
    if (type !== ETHERTYPE_IPV6 || bytes < ip + 40) return 0;
    let hash = 0;
    for (let at = ip + 8; at < ip + 40; at += 4) hash = mix(hash, head, at);
    return (ip + 44 > bytes ? hash : withPorts(hash, head[ip + 6]!, head, ip + 40)) >>> 1;
  }
}

const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

/** One step of FNV-1a over 32 bits at once, its high bits folded down. */
const mix = (hash: number, bytes: Uint8Array, at: number): number => {
  const next = Math.imul(hash ^ ((word(bytes, at) << 16) | word(bytes, at + 2)), 0x0100_0193);
  return next ^ (next >>> 15);
};

const withPorts = (hash: number, protocol: number, bytes: Uint8Array, at: number): number =>
  protocol === TCP || protocol === UDP ? mix(hash, bytes, at) : hash;
