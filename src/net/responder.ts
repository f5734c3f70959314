import {
  ConfigError,
  ETHER_ADDR_LEN,
  ETHER_HDR_LEN,
  ETHER_MAX_LEN,
  ETHER_MIN_LEN,
  ETHERTYPE_ARP,
  ETHERTYPE_IP,
  etherType,
  internetChecksum,
  isBroadcast,
  parseMac,
  sameMac,
} from "../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Verdict } from "../contract/index.js";

export interface ResponderOptions {
  /** such as `52:54:00:12:34:57` */
  readonly mac: string | Uint8Array;
  /** such as `10.0.2.2` */
  readonly ip: string;
}

export interface ResponderCounters {
  readonly arpReplies: number;
  readonly echoReplies: number;
  /** frames that were for somebody else, malformed, or of no interest */
  readonly ignored: number;
}

// Offsets from the start of an Ethernet frame. RFC 826, RFC 791 §3.1, RFC 792
const ARP_OPER = ETHER_HDR_LEN + 6;
const ARP_SHA = ETHER_HDR_LEN + 8;
const ARP_SPA = ETHER_HDR_LEN + 14;
const ARP_THA = ETHER_HDR_LEN + 18;
const ARP_TPA = ETHER_HDR_LEN + 24;
const ARP_END = ETHER_HDR_LEN + 28;
const IP_LENGTH = ETHER_HDR_LEN + 2;
const IP_FRAGMENT = ETHER_HDR_LEN + 6;
const IP_TTL = ETHER_HDR_LEN + 8;
const IP_PROTOCOL = ETHER_HDR_LEN + 9;
const IP_CHECKSUM = ETHER_HDR_LEN + 10;
const IP_SOURCE = ETHER_HDR_LEN + 12;
const IP_DESTINATION = ETHER_HDR_LEN + 16;

const IPPROTO_ICMP = 1;
const ICMP_ECHO = 8;
const ICMP_ECHOREPLY = 0;
const TTL = 64; // RFC 1700

const LIMITS: EndpointLimits = {
  csum: false,
  tso4: false,
  tso6: false,
  uso: false,
  longestFrame: ETHER_MAX_LEN,
  holds: false,
};

/**
 * A station that answers ARP requests and pings for one IPv4 address, within the call that brings them.
 * Enough for a guest to find out that its card works; it keeps nothing, so nothing is saved.
 */
export class Responder implements NetPort {
  readonly mac: Uint8Array;
  readonly ip: Uint8Array;
  #far: NetEndpoint | null = null;
  readonly #reply = new Uint8Array(ETHER_MAX_LEN);
  #busy = false;
  #arpReplies = 0;
  #echoReplies = 0;
  #ignored = 0;

  /** @throws ConfigError `mac-address`, `ip-address` */
  constructor({ mac, ip }: ResponderOptions) {
    this.mac = parseMac(mac);
    const octets = ip.split(".").map((octet) => (/^\d{1,3}$/.test(octet) ? Number(octet) : 256));
    if (octets.length !== 4 || octets.some((octet) => octet > 255))
      throw new ConfigError("ip-address", `address ${ip}: expected four octets such as 10.0.2.2`);
    this.ip = Uint8Array.from(octets);
  }

  offer(bytes: Uint8Array, start: number, length: number): Verdict {
    if (this.#far === null || length > ETHER_MAX_LEN) return "dropped";
    const size = this.#busy ? 0 : this.#answer(bytes, start, length);
    if (size === 0) {
      this.#ignored++;
      return "taken";
    }
    this.#busy = true; // the reply stands in the one buffer until its receiver is through with it
    try {
      this.#far.offer(this.#reply, 0, size, null, 0);
      this.#far.endBatch();
    } finally {
      this.#busy = false;
    }
    return "taken";
  }

  endBatch(): void {}

  ready(): void {}

  accepts(): EndpointLimits {
    return LIMITS;
  }

  /** @throws ConfigError `port-occupied` */
  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#far !== null) throw new ConfigError("port-occupied", "the responder has a cable already");
    this.#far = far;
  }

  counters(): ResponderCounters {
    return { arpReplies: this.#arpReplies, echoReplies: this.#echoReplies, ignored: this.#ignored };
  }

  /** Makes the reply. @returns its length, 0 when there is none */
  #answer(bytes: Uint8Array, start: number, length: number): number {
    if (length < ARP_END || !(sameMac(bytes, start, this.mac) || isBroadcast(bytes, start))) return 0;
    const type = etherType(bytes, start);
    if (type === ETHERTYPE_ARP) return this.#answerArp(bytes, start);
    return type === ETHERTYPE_IP ? this.#answerEcho(bytes, start, length) : 0;
  }

  /** RFC 826, packet reception */
  #answerArp(bytes: Uint8Array, start: number): number {
    const isIpv4OverEthernet =
      word(bytes, start + ETHER_HDR_LEN) === 1 &&
      word(bytes, start + ETHER_HDR_LEN + 2) === ETHERTYPE_IP &&
      word(bytes, start + ETHER_HDR_LEN + 4) === 0x0604;
    const isRequest = word(bytes, start + ARP_OPER) === 1;
    if (!isIpv4OverEthernet || !isRequest || !sameIp(bytes, start + ARP_TPA, this.ip)) return 0;
    const reply = this.#reply;
    reply.set(bytes.subarray(start, start + ARP_END));
    reply.fill(0, ARP_END, ETHER_MIN_LEN);
    reply.copyWithin(ARP_THA, ARP_SHA, ARP_SHA + ETHER_ADDR_LEN + 4); // their address and IP become the target
    reply.set(this.mac, ARP_SHA);
    reply.set(this.ip, ARP_SPA);
    reply[ARP_OPER + 1] = 2;
    this.#addressTo(ARP_THA);
    this.#arpReplies++;
    return ETHER_MIN_LEN;
  }

  /** RFC 792, echo reply: the addresses change places, the data stays */
  #answerEcho(bytes: Uint8Array, start: number, length: number): number {
    const headerLength = (bytes[start + ETHER_HDR_LEN]! & 0xf) * 4;
    const total = word(bytes, start + IP_LENGTH);
    const icmpLength = total - headerLength;
    if (bytes[start + ETHER_HDR_LEN]! >> 4 !== 4 || headerLength < 20 || icmpLength < 8) return 0;
    if (total > length - ETHER_HDR_LEN || bytes[start + IP_PROTOCOL] !== IPPROTO_ICMP) return 0;
    if ((word(bytes, start + IP_FRAGMENT) & 0x3fff) !== 0 || !sameIp(bytes, start + IP_DESTINATION, this.ip)) return 0;
    const icmp = ETHER_HDR_LEN + headerLength;
    if (bytes[start + icmp] !== ICMP_ECHO || bytes[start + icmp + 1] !== 0) return 0;
    if (internetChecksum(bytes, start + ETHER_HDR_LEN, headerLength) !== 0) return 0;
    if (internetChecksum(bytes, start + icmp, icmpLength) !== 0) return 0;
    const reply = this.#reply;
    const end = ETHER_HDR_LEN + total;
    reply.set(bytes.subarray(start, start + end));
    if (end < ETHER_MIN_LEN) reply.fill(0, end, ETHER_MIN_LEN);
    reply.copyWithin(0, ETHER_ADDR_LEN, 2 * ETHER_ADDR_LEN);
    reply.set(this.mac, ETHER_ADDR_LEN);
    reply.copyWithin(IP_DESTINATION, IP_SOURCE, IP_SOURCE + 4);
    reply.set(this.ip, IP_SOURCE);
    reply[IP_TTL] = TTL;
    putChecksum(reply, IP_CHECKSUM, ETHER_HDR_LEN, headerLength);
    reply[icmp] = ICMP_ECHOREPLY;
    putChecksum(reply, icmp + 2, icmp, icmpLength);
    this.#echoReplies++;
    return Math.max(end, ETHER_MIN_LEN);
  }

  /** The Ethernet header of a reply to the station whose address stands at `at` in the reply. */
  #addressTo(at: number): void {
    this.#reply.copyWithin(0, at, at + ETHER_ADDR_LEN);
    this.#reply.set(this.mac, ETHER_ADDR_LEN);
  }
}

const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

const sameIp = (bytes: Uint8Array, at: number, ip: Uint8Array): boolean =>
  bytes[at] === ip[0] && bytes[at + 1] === ip[1] && bytes[at + 2] === ip[2] && bytes[at + 3] === ip[3];

const putChecksum = (bytes: Uint8Array, at: number, start: number, length: number): void => {
  bytes[at] = 0;
  bytes[at + 1] = 0;
  const checksum = internetChecksum(bytes, start, length);
  bytes[at] = checksum >>> 8;
  bytes[at + 1] = checksum;
};
