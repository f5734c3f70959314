import {
  ConfigError,
  ETHER_ADDR_LEN,
  ETHER_HDR_LEN,
  ETHER_MIN_LEN,
  ETHERTYPE_IP,
  etherType,
  foldChecksum,
  foldSum,
  internetChecksum,
  sameMac,
  sumWords,
} from "../../../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../../../contract/index.js";
import { OffloadRecord, Responder, type ResponderOptions } from "../../../net/index.js";

// Offsets from the start of an Ethernet frame with an IPv4 header of 20 bytes. RFC 791 §3.1, RFC 9293 §3.1
const IP = ETHER_HDR_LEN;
const IP_HDR_LEN = 20;
const TCP = IP + IP_HDR_LEN;
const TCP_HDR_LEN = 20;
const HEADERS = TCP + TCP_HDR_LEN;
const TCP_CSUM_OFFSET = 16;
const PROTOCOL_TCP = 6;
const [FIN, SYN, RST, PSH, ACK] = [0x01, 0x02, 0x04, 0x08, 0x10];
const IP_MAX = 65_535;
/** What a station has that names no MSS. RFC 9293 §3.7.1 */
const MSS_DEFAULT = 536;
const WINDOW_SCALE = 5;
/** What we take at once; nothing waits here, so it only has to be more than is ever under way. */
const WINDOW = 0xffff;
const RETRANSMIT_MS = 1500;
/** bytes under way at most */
const MOST_UNDERWAY = 0x8_0000;

/** What stands behind a port of a `TcpPeer`, for one connection. */
export interface TcpService {
  /** bytes that are sent as the window allows, and the end after them; default 0: the end comes after the guest's */
  readonly size?: number;
  /** Puts the bytes from `position` of the stream on into `target`. */
  fill?(target: Uint8Array, start: number, length: number, position: number): void;
  /** The guest's bytes, in order; valid during the call. */
  received?(bytes: Uint8Array, start: number, length: number): void;
  /** Both ends are through, or the guest broke it off. */
  closed?(complete: boolean): void;
}

export interface TcpPeerOptions extends ResponderOptions {
  /** bytes of the longest IP packet that is sent uncut; default 1500 */
  readonly mtu?: number;
  /** leaves cutting and checksums to the cable, and takes segments that are not cut; default true */
  readonly offloads?: boolean;
}

export interface TcpPeerCounters {
  readonly segmentsIn: number;
  readonly segmentsOut: number;
  /** arrived with a checksum that is wrong */
  readonly damaged: number;
  /** came twice or too early */
  readonly outOfOrder: number;
  readonly retransmissions: number;
  /** arrived longer than one packet of the cable */
  readonly wholeIn: number;
}

/**
 * A station that answers ARP and pings as `Responder` does, and speaks enough TCP over IPv4 to be the far end of a guest's
 * transfer: it accepts connections, many at a time, sends and receives in order, and checks every checksum. Left out since its cable is short
 * and loses nothing unless asked to: congestion control, selective acknowledgement, a queue for what comes out of order (that comes again, by go-back-N).
 */
export class TcpPeer implements NetPort {
  readonly mac: Uint8Array;
  readonly ip: Uint8Array;
  readonly mtu: number;
  readonly #limits: EndpointLimits;
  readonly #offloads: boolean;
  readonly #responder: Responder;
  readonly #services = new Map<number, () => TcpService>();
  readonly #connections = new Map<number, Connection>();
  readonly #frame = new Uint8Array(ETHER_HDR_LEN + IP_MAX);
  readonly #view = new DataView(this.#frame.buffer);
  readonly #offload = new OffloadRecord();
  #far: NetEndpoint | null = null;
  #blocked = false; // the far end said `later`
  #pumping = false;
  #again = false;
  #ident = 0;
  #segmentsIn = 0;
  #segmentsOut = 0;
  #damaged = 0;
  #outOfOrder = 0;
  #retransmissions = 0;
  #wholeIn = 0;

  /** @throws ConfigError `mac-address`, `ip-address` */
  constructor(options: TcpPeerOptions) {
    this.#responder = new Responder(options);
    this.mac = this.#responder.mac;
    this.ip = this.#responder.ip;
    const { mtu = 1500, offloads = true } = options;
    this.mtu = mtu;
    this.#offloads = offloads;
    this.#limits = {
      csum: offloads,
      tso4: offloads,
      tso6: false,
      uso: false,
      longestFrame: mtu + ETHER_HDR_LEN,
      holds: true,
    };
    this.#responder.attach({
      offer: (bytes, start, length, offload, hint) =>
        this.#far === null ? "dropped" : this.#far.offer(bytes, start, length, offload, hint),
      endBatch: () => this.#far?.endBatch(),
      ready: () => {},
      accepts: () => this.#limits,
    });
  }

  /** Answers connections to `port`; `serve` makes what stands behind each. */
  listen(port: number, serve: () => TcpService): void {
    this.#services.set(port, serve);
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null): Verdict {
    if (this.#far === null) return "dropped";
    const forUs = length >= HEADERS && sameMac(bytes, start, this.mac) && etherType(bytes, start) === ETHERTYPE_IP;
    if (!forUs || bytes[start + IP + 9] !== PROTOCOL_TCP) return this.#responder.offer(bytes, start, length);
    this.#segment(bytes, start, length, offload);
    return "taken";
  }

  endBatch(): void {
    this.#pump();
  }

  ready(): void {
    this.#blocked = false;
    this.#pump();
  }

  accepts(): EndpointLimits {
    return this.#limits;
  }

  /** @throws ConfigError `port-occupied` */
  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#far !== null) throw new ConfigError("port-occupied", "the peer has a cable already");
    this.#far = far;
    this.#blocked = false;
  }

  counters(): TcpPeerCounters {
    return {
      segmentsIn: this.#segmentsIn,
      segmentsOut: this.#segmentsOut,
      damaged: this.#damaged,
      outOfOrder: this.#outOfOrder,
      retransmissions: this.#retransmissions,
      wholeIn: this.#wholeIn,
    };
  }

  /** Breaks every connection off, without a word to the guest. */
  [Symbol.dispose](): void {
    for (const connection of [...this.#connections.values()]) this.#end(connection, false);
  }

  #segment(bytes: Uint8Array, start: number, length: number, offload: Offload | null): void {
    const word = (at: number): number => (bytes[start + at]! << 8) | bytes[start + at + 1]!;
    const long = (at: number): number => word(at) * 0x1_0000 + word(at + 2);
    const headerLength = (bytes[start + IP]! & 0xf) * 4;
    const total = offload !== null && offload.gso !== "none" ? length - IP : word(IP + 2); // guests leave it to the card
    const tcp = IP + headerLength;
    const dataAt = tcp + (bytes[start + tcp + 12]! >>> 4) * 4;
    const end = IP + total;
    const addressed = this.ip.every((octet, i) => bytes[start + IP + 16 + i] === octet);
    if (bytes[start + IP]! >>> 4 !== 4 || !addressed || end > length || dataAt > end || dataAt < tcp + TCP_HDR_LEN)
      return;
    this.#segmentsIn++;
    if (length > this.#limits.longestFrame) this.#wholeIn++;
    if (offload === null || !(offload.needsCsum || offload.dataValid)) {
      const pseudo = sumWords(bytes, start + IP + 12, 8) + PROTOCOL_TCP + (end - tcp);
      if (
        internetChecksum(bytes, start + IP, headerLength) !== 0 ||
        internetChecksum(bytes, start + tcp, end - tcp, pseudo) !== 0
      ) {
        this.#damaged++;
        return;
      }
    }
    const key = long(IP + 12) * 0x1_0000 + word(tcp);
    const flags = bytes[start + tcp + 13]!;
    const port = word(tcp + 2);
    let c = this.#connections.get(key);
    if ((flags & SYN) !== 0 && (flags & ACK) === 0) {
      const serve = this.#services.get(port);
      c = new Connection(bytes, start, key, serve?.() ?? null, this.#ident * 64_000);
      c.rcvNext = (long(tcp + 4) + 1) >>> 0;
      c.options(bytes, start + tcp + TCP_HDR_LEN, start + dataAt, this.mtu - IP_HDR_LEN - TCP_HDR_LEN);
      if (serve === undefined) {
        this.#send(c, 0, 0, RST | ACK);
        this.#far?.endBatch();
        return;
      }
      this.#connections.set(key, c);
      c.owesAck = true;
      return;
    }
    if (c === undefined) return;
    if ((flags & RST) !== 0) {
      this.#end(c, c.finished);
      return;
    }
    c.acknowledge(long(tcp + 8), word(tcp + 14));
    const payload = end - dataAt;
    if (payload === 0 && (flags & FIN) === 0) return;
    c.owesAck = true;
    if (long(tcp + 4) !== c.rcvNext) {
      this.#outOfOrder++;
      return;
    }
    if (payload > 0) c.service?.received?.(bytes, start + dataAt, payload);
    c.rcvNext = (c.rcvNext + payload) >>> 0;
    if ((flags & FIN) === 0) return;
    c.rcvNext = (c.rcvNext + 1) >>> 0;
    c.peerFin = true;
  }

  /** Sends what every connection owes and may send. */
  #pump(): void {
    if (this.#pumping) {
      this.#again = true; // an answer came while we were sending
      return;
    }
    this.#pumping = true;
    let sent = false;
    do {
      this.#again = false;
      for (const c of this.#connections.values()) {
        while (!this.#blocked && this.#far !== null && this.#sendNext(c)) sent = true;
        if (c.over) this.#end(c, true);
        else if (c.timer === null && (c.underway > 0 || c.unsent)) {
          const { una } = c; // now, not when the time is up
          c.timer = setTimeout(() => this.#stalled(c, una), RETRANSMIT_MS);
        }
      }
    } while (this.#again && !this.#blocked);
    this.#pumping = false;
    if (sent) this.#far?.endBatch();
  }

  /** @returns whether something went out */
  #sendNext(c: Connection): boolean {
    if (c.next === 0) return this.#send(c, 0, 0, SYN | ACK) && c.advance(1);
    const position = c.next - 1; // the SYN has a number of its own
    const left = c.size - position;
    const room = Math.min(c.window, MOST_UNDERWAY) - c.underway;
    const most = this.#offloads ? Math.floor((IP_MAX - IP_HDR_LEN - TCP_HDR_LEN) / c.mss) * c.mss : c.mss;
    const length = c.probes && left > 0 ? 1 : Math.min(left, room, most);
    if (length > 0 && (length === left || length >= c.mss || c.probes))
      return this.#send(c, position, length, length === left ? ACK | PSH : ACK) && c.advance(length);
    if (left === 0 && (c.size > 0 || c.peerFin)) return this.#send(c, position, 0, FIN | ACK) && c.advance(1);
    return c.owesAck && this.#send(c, position, 0, ACK);
  }

  /** @returns false: the far end says `later` */
  #send(c: Connection, position: number, length: number, flags: number): boolean {
    const frame = this.#frame;
    const view = this.#view;
    const optionsLength = (flags & SYN) !== 0 ? 8 : 0;
    const headers = HEADERS + optionsLength;
    frame.set(c.peerMac, 0);
    frame.set(this.mac, ETHER_ADDR_LEN);
    view.setUint16(12, ETHERTYPE_IP);
    frame.set([0x45, 0], IP);
    view.setUint16(IP + 2, headers - IP + length);
    view.setUint16(IP + 4, this.#ident++ & 0xffff);
    frame.set([0x40, 0, 64, PROTOCOL_TCP, 0, 0], IP + 6); // don't fragment
    frame.set(this.ip, IP + 12);
    frame.set(c.peerIp, IP + 16);
    view.setUint16(IP + 10, internetChecksum(frame, IP, IP_HDR_LEN));
    view.setUint16(TCP, c.port);
    view.setUint16(TCP + 2, c.peerPort);
    view.setUint32(TCP + 4, (c.iss + c.next) >>> 0);
    view.setUint32(TCP + 8, c.rcvNext);
    frame[TCP + 12] = ((TCP_HDR_LEN + optionsLength) / 4) << 4;
    frame[TCP + 13] = flags;
    view.setUint16(TCP + 14, WINDOW);
    view.setUint32(TCP + 16, 0);
    if (optionsLength > 0) {
      frame.set([2, 4], HEADERS);
      view.setUint16(HEADERS + 2, this.mtu - IP_HDR_LEN - TCP_HDR_LEN);
      frame.set(c.scales ? [1, 3, 3, WINDOW_SCALE] : [1, 1, 1, 1], HEADERS + 4);
    }
    if (length > 0) c.service?.fill?.(frame, headers, length, position);
    const tcpLength = headers - TCP + length;
    const pseudo = sumWords(frame, IP + 12, 8) + PROTOCOL_TCP + tcpLength;
    let offload: OffloadRecord | null = null;
    if (this.#offloads) {
      view.setUint16(TCP + TCP_CSUM_OFFSET, foldSum(pseudo));
      offload = this.#offload;
      offload.needsCsum = true;
      offload.csumStart = TCP;
      offload.csumOffset = TCP_CSUM_OFFSET;
      offload.gso = length > c.mss ? "tcp4" : "none";
      offload.gsoSize = length > c.mss ? c.mss : 0;
    } else view.setUint16(TCP + TCP_CSUM_OFFSET, foldChecksum(sumWords(frame, TCP, tcpLength, pseudo)));
    const end = headers + length;
    if (end < ETHER_MIN_LEN) frame.fill(0, end, ETHER_MIN_LEN);
    if (this.#far?.offer(frame, 0, Math.max(end, ETHER_MIN_LEN), offload, 0) === "later") {
      this.#blocked = true;
      return false;
    }
    this.#segmentsOut++;
    c.owesAck = false;
    return true;
  }

  /** Nothing was acknowledged for a while: all of it goes out again. */
  #stalled(c: Connection, una: number): void {
    c.timer = null;
    if (this.#connections.get(c.key) !== c) return;
    if (c.una === una && !this.#blocked) {
      // With nothing under way the window is shut, and what would open it may be lost: a byte asks. RFC 9293 §3.8.6.1
      if (c.underway > 0) this.#retransmissions++;
      else c.probes = true;
      c.next = c.una;
    }
    this.#pump();
  }

  #end(c: Connection, complete: boolean): void {
    c.idle();
    if (this.#connections.get(c.key) === c) this.#connections.delete(c.key);
    c.service?.closed?.(complete);
  }
}

/** One connection; positions count from the SYN, which is number 0. */
class Connection {
  readonly key: number;
  readonly service: TcpService | null;
  readonly peerMac: Uint8Array;
  readonly peerIp: Uint8Array;
  readonly peerPort: number;
  readonly port: number;
  readonly iss: number;
  readonly size: number;
  mss = MSS_DEFAULT;
  scales = false;
  #scale = 0;
  rcvNext = 0;
  window = 0; // bytes that the guest takes beyond `una`
  una = 0;
  next = 0;
  #most = 0; // next was never beyond
  #asked = false; // the last byte under way went out at a shut window
  peerFin = false;
  owesAck = false;
  probes = false; // the next segment is one byte, whatever the window
  timer: ReturnType<typeof setTimeout> | null = null;

  constructor(bytes: Uint8Array, start: number, key: number, service: TcpService | null, iss: number) {
    const tcp = start + IP + (bytes[start + IP]! & 0xf) * 4;
    this.key = key;
    this.service = service;
    this.size = service?.size ?? 0;
    this.iss = iss;
    this.peerMac = new Uint8Array(bytes.subarray(start + ETHER_ADDR_LEN, start + 2 * ETHER_ADDR_LEN));
    this.peerIp = new Uint8Array(bytes.subarray(start + IP + 12, start + IP + 16));
    this.peerPort = (bytes[tcp]! << 8) | bytes[tcp + 1]!;
    this.port = (bytes[tcp + 2]! << 8) | bytes[tcp + 3]!;
  }

  get underway(): number {
    return this.next - this.una;
  }

  /** something is left to be sent for the first time */
  get unsent(): boolean {
    return this.next <= this.size;
  }

  /** our end is sent and acknowledged */
  get finished(): boolean {
    return this.una === this.size + 2;
  }

  /** nothing is left to be said by either end */
  get over(): boolean {
    return this.finished && this.peerFin && !this.owesAck;
  }

  advance(length: number): true {
    if (length > 0 && this.probes) this.#asked = true;
    this.probes = false;
    this.next += length;
    this.#most = Math.max(this.#most, this.next);
    return true;
  }

  /** Stops the timer. */
  idle(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  acknowledge(number: number, window: number): void {
    const una = this.una + ((number - this.iss - this.una) | 0);
    if (una < this.una || una > this.#most) return;
    this.window = window * 2 ** this.#scale;
    // A byte that asked at a shut window was not taken: it comes again with the first that fit.
    if (this.#asked && una === this.una && this.window > 0) this.next = una;
    if (una !== this.una || this.window > 0) this.#asked = false;
    if (una !== this.una) this.idle();
    this.una = una;
    this.next = Math.max(this.next, una); // it was sent again in vain
  }

  /** The options of the guest's SYN. RFC 9293 §3.2, RFC 7323 §2.2 */
  options(bytes: Uint8Array, from: number, end: number, mssMost: number): void {
    for (let at = from; at < end && bytes[at] !== 0; ) {
      if (bytes[at] === 1) {
        at++;
        continue;
      }
      if (bytes[at] === 2) this.mss = Math.min((bytes[at + 2]! << 8) | bytes[at + 3]!, mssMost);
      if (bytes[at] === 3) {
        this.scales = true;
        this.#scale = Math.min(bytes[at + 2]!, 14);
      }
      at += Math.max(bytes[at + 1]!, 2);
    }
  }
}
