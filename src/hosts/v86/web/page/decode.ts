import {
  ETHER_HDR_LEN,
  ETHERTYPE_ARP,
  ETHERTYPE_IP,
  ETHERTYPE_IPV6,
  ETHERTYPE_VLAN,
  formatMac,
} from "../../../../bytes/index.js";

/** A frame in the words of a packet list. */
export interface Decoded {
  /** the innermost protocol that is known here, such as `TCP` */
  readonly protocol: string;
  /** address of the highest layer that has one */
  readonly source: string;
  readonly destination: string;
  readonly summary: string;
}

const ARP_LENGTH = 28;
const IP_HDR_LEN = 20;
const IPV6_HDR_LEN = 40;
const TCP_HDR_LEN = 20;
const UDP_HDR_LEN = 8;
const [ICMP, TCP, UDP, ICMPV6] = [1, 6, 17, 58];
const IPV6_HOP_BY_HOP = 0;
/** RFC 9293 §3.1, from the lowest bit */
const TCP_FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
/** RFC 792 */
const ICMP_TYPES: { readonly [type: number]: string } = {
  0: "Echo reply",
  3: "Destination unreachable",
  5: "Redirect",
  8: "Echo request",
  11: "Time exceeded",
};
/** RFC 4443 §4, RFC 4861 §4, RFC 3810 §5 */
const ICMPV6_TYPES: { readonly [type: number]: string } = {
  1: "Destination unreachable",
  2: "Packet too big",
  128: "Echo request",
  129: "Echo reply",
  133: "Router solicitation",
  134: "Router advertisement",
  135: "Neighbor solicitation",
  136: "Neighbor advertisement",
  143: "Multicast listener report",
};
const UDP_PORTS: { readonly [port: number]: string } = { 53: "DNS", 67: "DHCP", 68: "DHCP", 123: "NTP", 5353: "mDNS" };

/** Reads a piece of a frame, big-endian; beyond its end everything is 0. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#end = bytes.length;
  }
  has(at: number, length: number): boolean {
    return at + length <= this.#end;
  }
  byte(at: number): number {
    return this.#bytes[at] ?? 0;
  }
  word(at: number): number {
    return (this.byte(at) << 8) | this.byte(at + 1);
  }
  long(at: number): number {
    return this.word(at) * 0x1_0000 + this.word(at + 2);
  }
  ipv4(at: number): string {
    return `${this.byte(at)}.${this.byte(at + 1)}.${this.byte(at + 2)}.${this.byte(at + 3)}`;
  }
  /** The longest run of zero groups becomes `::`. RFC 5952 §4 */
  ipv6(at: number): string {
    const groups = Array.from({ length: 8 }, (_, i) => this.word(at + 2 * i));
    let [best, length] = [-1, 1];
    for (let from = 0; from < 8; from++) {
      let to = from;
      while (to < 8 && groups[to] === 0) to++;
      if (to - from > length) [best, length] = [from, to - from];
    }
    const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
    return best < 0 ? text(groups) : `${text(groups.slice(0, best))}::${text(groups.slice(best + length))}`;
  }
}

/**
 * Says what a frame is, in one line.
 * @param bytes the frame without FCS, or its beginning; @param length bytes of the whole frame
 */
export function decodeFrame(bytes: Uint8Array, length: number): Decoded {
  const frame = new Reader(bytes);
  let [source, destination] = [formatMac(bytes, 6), formatMac(bytes, 0)];
  let type = frame.word(12);
  let at = ETHER_HDR_LEN;
  let tag = "";
  if (type === ETHERTYPE_VLAN) {
    tag = `VLAN ${frame.word(at) & 0xfff} · `;
    type = frame.word(at + 2);
    at += 4;
  }
  const told = (protocol: string, summary: string): Decoded => ({
    protocol,
    source,
    destination,
    summary: `${tag}${summary}`,
  });
  if (type === ETHERTYPE_ARP && frame.has(at, ARP_LENGTH)) return told("ARP", arp(frame, at));
  if (type === ETHERTYPE_IP && frame.has(at, IP_HDR_LEN)) {
    [source, destination] = [frame.ipv4(at + 12), frame.ipv4(at + 16)];
    const header = (frame.byte(at) & 0xf) * 4;
    const total = frame.word(at + 2);
    const fragment = frame.word(at + 6) & 0x1fff;
    // A segment that is still to be cut may be longer than its header can say.
    const end = at + (total === 0 || at + total < length - 64 ? length - at : total);
    if (fragment !== 0) return told("IPv4", `Fragment at ${fragment * 8}, ${end - at - header} bytes`);
    return transport(frame, frame.byte(at + 9), at + header, end, told);
  }
  if (type === ETHERTYPE_IPV6 && frame.has(at, IPV6_HDR_LEN)) {
    [source, destination] = [frame.ipv6(at + 8), frame.ipv6(at + 24)];
    let next = frame.byte(at + 6);
    let behind = at + IPV6_HDR_LEN;
    if (next === IPV6_HOP_BY_HOP) {
      next = frame.byte(behind);
      behind += (frame.byte(behind + 1) + 1) * 8;
    }
    return transport(frame, next, behind, length, told);
  }
  return told(type < 0x600 ? "LLC" : `0x${type.toString(16).padStart(4, "0")}`, `${length - at} bytes of payload`);
}

/** RFC 826 */
function arp(frame: Reader, at: number): string {
  const [sender, target] = [frame.ipv4(at + 14), frame.ipv4(at + 24)];
  const mac = Array.from({ length: 6 }, (_, i) => frame.byte(at + 8 + i));
  if (frame.word(at + 6) === 2) return `${sender} is at ${formatMac(mac)}`;
  return sender === target ? `${sender} announces itself` : `Who has ${target}? Tell ${sender}`;
}

function transport(
  frame: Reader,
  protocol: number,
  at: number,
  end: number,
  told: (protocol: string, summary: string) => Decoded,
): Decoded {
  if (protocol === TCP && frame.has(at, TCP_HDR_LEN)) {
    const bits = frame.byte(at + 13);
    const flags = TCP_FLAGS.filter((_, bit) => (bits & (1 << bit)) !== 0).reverse();
    const payload = Math.max(0, end - at - (frame.byte(at + 12) >>> 4) * 4);
    const ports = `${frame.word(at)} → ${frame.word(at + 2)}`;
    const acknowledged = flags.includes("ACK") ? ` ack ${frame.long(at + 8)}` : "";
    return told(
      "TCP",
      `${ports} [${flags.join(" ")}] seq ${frame.long(at + 4)}${acknowledged} win ${frame.word(at + 14)}, ${payload} bytes`,
    );
  }
  if (protocol === UDP && frame.has(at, UDP_HDR_LEN)) {
    const [from, to] = [frame.word(at), frame.word(at + 2)];
    const name = UDP_PORTS[to] ?? UDP_PORTS[from];
    return told("UDP", `${from} → ${to}${name === undefined ? "" : ` ${name}`}, ${end - at - UDP_HDR_LEN} bytes`);
  }
  if (protocol === ICMP && frame.has(at, 8)) {
    const type = frame.byte(at);
    const name = ICMP_TYPES[type] ?? `Type ${type}`;
    const isEcho = type === 0 || type === 8;
    return told("ICMP", isEcho ? echo(name, frame, at, end) : `${name}, code ${frame.byte(at + 1)}`);
  }
  if (protocol === ICMPV6 && frame.has(at, 4)) {
    const type = frame.byte(at);
    const name = ICMPV6_TYPES[type] ?? `Type ${type}`;
    if (type === 128 || type === 129) return told("ICMPv6", echo(name, frame, at, end));
    if (type === 135 || type === 136) return told("ICMPv6", `${name} for ${frame.ipv6(at + 8)}`);
    return told("ICMPv6", name);
  }
  return told("IP", `Protocol ${protocol}, ${Math.max(0, end - at)} bytes`);
}

const echo = (name: string, frame: Reader, at: number, end: number): string =>
  `${name}, id ${frame.word(at + 4)}, seq ${frame.word(at + 6)}, ${Math.max(0, end - at - 8)} bytes`;
