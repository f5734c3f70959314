import {
  ETHER_HDR_LEN,
  ETHER_MAX_LEN,
  ETHER_MIN_LEN,
  ETHERTYPE_ARP,
  ETHERTYPE_IP,
  etherType,
  internetChecksum,
  parseMac,
} from "../../../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Verdict } from "../../../contract/index.js";

const LIMITS: EndpointLimits = {
  csum: false,
  tso4: false,
  tso6: false,
  uso: false,
  longestFrame: ETHER_MAX_LEN,
  holds: false,
};

// ARP (RFC 826) and IPv4 (RFC 791) behind the Ethernet header, offsets in the frame
const ARP_LEN = ETHER_HDR_LEN + 28;
const ARP_OPERATION = 21;
const ARP_SENDER = 22;
const ARP_TARGET = 32;
const ARP_TARGET_IP = 38;
const IP = ETHER_HDR_LEN;
const IP_TOTAL_LENGTH = IP + 2;
const IP_TTL = IP + 8;
const IP_PROTOCOL = IP + 9;
const IP_CHECKSUM = IP + 10;
const IP_SOURCE = IP + 12;
const IP_DESTINATION = IP + 16;
const PROTOCOL_ICMP = 1;
const ECHO_REQUEST = 8;

/**
 * The far end of a cable, small enough to trust: answers ARP for one address, and pings to it. RFC 826, RFC 792
 *
 * `connect(port)` → each frame is judged while it is offered, and its answer goes out in a later turn of the event
 * loop, as one from a socket would → `disconnect()`. A ping with a wrong checksum gets no answer.
 */
export class PingPeer implements NetEndpoint {
  /** frames that came */
  received = 0;
  /** pings answered */
  echoes = 0;
  readonly #mac: Uint8Array;
  readonly #ip: Uint8Array;
  #port: NetPort | null = null;
  #answers: Uint8Array[] = [];

  /** @param ip dotted IPv4 address */
  constructor(mac: string, ip: string) {
    this.#mac = parseMac(mac);
    this.#ip = Uint8Array.from(ip.split("."), Number);
  }

  connect(port: NetPort): void {
    port.attach(this);
    this.#port = port;
  }

  disconnect(): void {
    this.#port?.attach(null);
    this.#port = null;
    this.#answers = [];
  }

  offer(bytes: Uint8Array, start: number, length: number): Verdict {
    this.received++;
    const answer = this.#answer(bytes.slice(start, start + length));
    if (answer === null) return "taken";
    this.#answers.push(answer);
    if (this.#answers.length === 1) setImmediate(() => this.#send());
    return "taken";
  }

  endBatch(): void {}

  ready(): void {
    this.#send();
  }

  accepts(): EndpointLimits {
    return LIMITS;
  }

  #send(): void {
    if (this.#port === null) return;
    let answer = this.#answers[0];
    while (answer !== undefined && this.#port.offer(answer, 0, answer.length, null, 0) !== "later") {
      this.#answers.shift();
      answer = this.#answers[0];
    }
    this.#port.endBatch();
  }

  /** Turns a request into its answer, in place; null for what gets none. */
  #answer(frame: Uint8Array): Uint8Array | null {
    const type = etherType(frame, 0);
    const answered = type === ETHERTYPE_ARP ? this.#answerArp(frame) : type === ETHERTYPE_IP && this.#answerPing(frame);
    if (!answered) return null;
    frame.copyWithin(0, 6, 12);
    frame.set(this.#mac, 6);
    if (frame.length >= ETHER_MIN_LEN) return frame;
    const padded = new Uint8Array(ETHER_MIN_LEN);
    padded.set(frame);
    return padded;
  }

  #answerArp(frame: Uint8Array): boolean {
    if (frame.length < ARP_LEN || frame[ARP_OPERATION] !== 1 || !this.#isMine(frame, ARP_TARGET_IP)) return false;
    frame[ARP_OPERATION] = 2;
    frame.copyWithin(ARP_TARGET, ARP_SENDER, ARP_SENDER + 10);
    frame.set(this.#mac, ARP_SENDER);
    frame.set(this.#ip, ARP_SENDER + 6);
    return true;
  }

  #answerPing(frame: Uint8Array): boolean {
    if (frame.length < IP + 28 || frame[IP]! >> 4 !== 4 || !this.#isMine(frame, IP_DESTINATION)) return false;
    const header = (frame[IP]! & 0xf) * 4;
    const total = (frame[IP_TOTAL_LENGTH]! << 8) | frame[IP_TOTAL_LENGTH + 1]!;
    const icmp = IP + header;
    if (header < 20 || total < header + 8 || IP + total > frame.length) return false;
    if (frame[IP_PROTOCOL] !== PROTOCOL_ICMP || frame[icmp] !== ECHO_REQUEST) return false;
    if (internetChecksum(frame, IP, header) !== 0 || internetChecksum(frame, icmp, total - header) !== 0) return false;
    frame.copyWithin(IP_DESTINATION, IP_SOURCE, IP_SOURCE + 4);
    frame.set(this.#ip, IP_SOURCE);
    frame[IP_TTL] = 64;
    frame[icmp] = 0;
    store16(frame, IP_CHECKSUM, 0);
    store16(frame, IP_CHECKSUM, internetChecksum(frame, IP, header));
    store16(frame, icmp + 2, 0);
    store16(frame, icmp + 2, internetChecksum(frame, icmp, total - header));
    this.echoes++;
    return true;
  }

  #isMine(frame: Uint8Array, at: number): boolean {
    return this.#ip.every((byte, i) => frame[at + i] === byte);
  }
}

const store16 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
};
