import { ETHER_HDR_LEN, ETHER_MIN_LEN, ETHERTYPE_ARP, ETHERTYPE_IP } from "../../bytes/index.js";
import type { GuestBus, GuestDma } from "../../contract/index.js";
import {
  type FrameSegments,
  IFCAP_TSO4,
  IFCAP_TXCSUM,
  type Ifnet,
  type RxOffload,
  type TxOffload,
} from "../../guest/index.js";

/*
 * A stream over one interface, as scp uses it: TCP over IPv4 (RFC 9293) with a fixed window and no options beyond the
 * MSS. With `offload` the card stores checksums and cuts segments. Left out because the cable is lossless and short: congestion control, SACK, window scaling, out-of-order queues.
 * What is lost all the same (fault injection) comes back by go-back-N after a stall.
 */

const IP_HDR_LEN = 20;
const TCP_HDR_LEN = 20;
/** Ethernet, IPv4 and TCP headers, bytes */
const HEADERS = ETHER_HDR_LEN + IP_HDR_LEN + TCP_HDR_LEN;
/** Header slots are reused in turn; more of them than any ring has descriptors, so none is overwritten unsent. */
const HEADER_SLOTS = 1024;
const HEADER_SLOT = 64;
/** Payload slots are a multiple of this long. */
const PAYLOAD_UNIT = 2048;
/** Longest IPv4 packet, RFC 791 §3.1 */
const IP_MAX = 65_535;
const TCP = 6;
const [FIN, SYN, PSH, ACK] = [0x01, 0x02, 0x08, 0x10];
/** The receiving application reads in pieces of this size. */
const READ_SIZE = 256 * 1024;

export interface Address {
  /** six bytes */
  readonly mac: Uint8Array;
  /** four bytes */
  readonly ip: Uint8Array;
  readonly port: number;
}

/** What an application has to send, a segment at a time. */
export interface SegmentSource {
  /** bytes in all */
  readonly size: number;
  readonly block: Uint8Array<ArrayBuffer>;
  /** Moves on by a segment. @returns where it stands in `block`: a multiple of 4, valid until the next call */
  next(length: number): number;
}

export interface StreamOptions {
  readonly bus: GuestBus;
  readonly ifnet: Ifnet;
  readonly local: Address;
  readonly peer: Omit<Address, "mac">;
  /** payload bytes of a full segment */
  readonly mss: number;
  /** bytes in flight */
  readonly window: number;
  /** leaves checksums and segmentation to the interface as far as it does them; default false */
  readonly offload?: boolean;
  /** the sender's application */
  readonly source?: SegmentSource;
  /** the receiver's application */
  readonly write?: (bytes: Uint8Array) => void;
}

/**
 * Payload bytes of what one `transmit` takes: a full segment, or as many as fit an IP packet where the card cuts them.
 * A multiple of 4 when `mss` is.
 */
export const segmentSize = (ifnet: Ifnet, mss: number, offload: boolean): number => {
  const cuts = offload && (ifnet.capenable & IFCAP_TXCSUM) !== 0 && (ifnet.capenable & IFCAP_TSO4) !== 0;
  return cuts ? Math.floor((IP_MAX - IP_HDR_LEN - TCP_HDR_LEN) / mss) * mss : mss;
};

/** Sum of the 16-bit halves of 32-bit words, in host order; two lanes, so that the additions overlap. */
const sumHalves = (words: Int32Array, from: number, count: number): number => {
  let low = 0;
  let high = 0;
  let low2 = 0;
  let high2 = 0;
  let i = from;
  for (const pairs = from + (count & ~1); i < pairs; i += 2) {
    const a = words[i]!;
    const b = words[i + 1]!;
    low += a & 0xffff;
    high += a >>> 16;
    low2 += b & 0xffff;
    high2 += b >>> 16;
  }
  if (i < from + count) {
    low += words[i]! & 0xffff;
    high += words[i]! >>> 16;
  }
  return low + high + low2 + high2;
};

/** One's complement sum of big-endian words from one of little-endian words: folded, bytes exchanged. RFC 1071 §2 (B) */
const swapFolded = (sum: number): number => {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return ((folded & 0xff) << 8) | (folded >>> 8);
};

const fold = (sum: number): number => {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
};

const complement = (sum: number): number => ~fold(sum) & 0xffff;

/** One end of a connection. All frames stand in DMA memory; the ends know each other by ARP, as on a real cable. */
export class StreamEnd {
  /** the peer has everything, and has said so */
  finished = false;
  connected = false;
  /** segments that had to be sent again */
  retransmitted = 0;
  /** segments that arrived with a wrong checksum, and frames that made no sense */
  damaged = 0;

  readonly #o: StreamOptions;
  readonly #dma: GuestDma;
  readonly #headers: number; // physical address of the header slots
  readonly #payloads: number; // physical address of the payload slots
  readonly #segment: number; // payload bytes of what one transmit takes
  readonly #slotSize: number; // bytes of a payload slot
  readonly #plain: TxOffload | null; // for a single segment; null: checksums are ours
  readonly #whole: TxOffload; // for several in one
  readonly #slots: number; // payload slots: what the window holds, and one for a short last segment
  readonly #frame: FrameSegments = { count: 0, paddr: new Float64Array(2), len: new Uint32Array(2) };
  readonly #header = new Uint8Array(HEADERS); // template of what goes out
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #in = new Uint8Array(HEADERS); // headers of what came in
  readonly #inView = new DataView(this.#in.buffer);
  readonly #blockWords: Int32Array; // the source's block
  readonly #sums: Uint32Array; // payload sums by slot, for a segment that goes out again
  readonly #lengths: Uint32Array; // payload lengths by slot
  readonly #received = new Uint8Array(READ_SIZE + 65536);
  readonly #receivedWords = new Int32Array(this.#received.buffer);
  readonly #size: number;
  #nextHeader = 0;
  #ident = 0;
  #iss = 0;
  #irs = 0;
  // Stream positions in bytes, not sequence numbers: they do not wrap.
  #una = 0; // all before this was acknowledged
  #next = 0; // all before this was sent
  #made = 0; // all before this stands in the payload slots or was acknowledged
  #arrived = 0; // all before this was received in order
  #unread = 0; // bytes in #received that the application has not taken
  #unacked = 0; // segments received since the last acknowledgement
  #finSent = false;
  #peerFin = false;
  #synSent = false;

  constructor(options: StreamOptions) {
    this.#o = options;
    this.#dma = options.bus.dma;
    this.#size = options.source?.size ?? 0;
    const { ifnet, mss, offload = false } = options;
    this.#segment = segmentSize(ifnet, mss, offload);
    this.#slotSize = Math.ceil(this.#segment / PAYLOAD_UNIT) * PAYLOAD_UNIT;
    const csum = { csumStart: ETHER_HDR_LEN + IP_HDR_LEN, csumOffset: 16, ecn: false };
    this.#plain =
      offload && (ifnet.capenable & IFCAP_TXCSUM) !== 0 ? { ...csum, gso: "none", gsoSize: 0, hdrLen: 0 } : null;
    this.#whole = { ...csum, gso: "tcp4", gsoSize: mss, hdrLen: HEADERS };
    this.#slots = Math.ceil(options.window / this.#segment) + 1;
    this.#blockWords = new Int32Array(options.source?.block.buffer ?? new ArrayBuffer(0));
    this.#sums = new Uint32Array(this.#slots);
    this.#lengths = new Uint32Array(this.#slots);
    const limit = 0xffff_ffff;
    this.#headers = this.#dma.alloc(HEADER_SLOTS * HEADER_SLOT, 4096, limit);
    this.#payloads = this.#dma.alloc(this.#slots * this.#slotSize, 4096, limit);
    if (this.#headers < 0 || this.#payloads < 0) throw new Error("no DMA memory for the stream's buffers");
    this.#template();
    options.ifnet.onReceive = (address, length, more, offload) => this.#receive(address, length, more, offload);
  }

  [Symbol.dispose](): void {
    this.#o.ifnet.onReceive = null;
    this.#dma.free(this.#headers, HEADER_SLOTS * HEADER_SLOT);
    this.#dma.free(this.#payloads, this.#slots * this.#slotSize);
  }

  /** Bytes of the stream that the peer has acknowledged. */
  get acknowledged(): number {
    return this.#una;
  }

  /** Bytes that arrived in order. */
  get arrived(): number {
    return this.#arrived;
  }

  /** Asks who has the peer's address; the answer opens the connection. */
  connect(iss: number): void {
    this.#iss = iss >>> 0;
    this.#synSent = true;
    this.#sendArp(1, BROADCAST);
    this.#o.ifnet.kick();
  }

  /** Sends what the window allows. @returns whether anything was queued */
  pump(): boolean {
    const { window, ifnet, source } = this.#o;
    const segment = this.#segment;
    if (!this.connected || this.#finSent || source === undefined) return false;
    let queued = false;
    while (this.#next < this.#size) {
      const length = Math.min(segment, this.#size - this.#next);
      if (this.#next + length - this.#una > window) break;
      const slot = Math.floor(this.#next / segment) % this.#slots;
      if (this.#next === this.#made) this.#make(source, slot, length);
      const last = this.#next + length === this.#size;
      if (!this.#sendSegment(this.#next, slot, this.#lengths[slot]!, last ? ACK | PSH : ACK)) break;
      this.#next += length;
      queued = true;
    }
    if (this.#next === this.#size && this.#una === this.#size && !this.#finSent) {
      this.#finSent = this.#sendSegment(this.#next, 0, 0, ACK | FIN);
      queued ||= this.#finSent;
    }
    if (queued) ifnet.kick();
    return queued;
  }

  /** Acknowledges what was received since the last acknowledgement; called once after each round of interrupts. */
  flush(): void {
    if (this.#unacked > 0) this.#acknowledge();
    this.#o.ifnet.kick();
  }

  /** Nothing has moved for a while: goes back to the first byte that was not acknowledged. RFC 9293 §3.8.1 */
  retransmit(): void {
    if (!this.connected) {
      if (this.#synSent) this.connect(this.#iss);
      return;
    }
    if (this.#next > this.#una) this.retransmitted++;
    this.#next = this.#una;
    this.#finSent = false;
  }

  // ---------------------------------------------------------------------------------------------- sending

  #template(): void {
    const h = this.#headerView;
    this.#header.set(this.#o.local.mac, 6);
    h.setUint16(12, ETHERTYPE_IP);
    h.setUint8(14, 0x45);
    h.setUint8(22, 64);
    h.setUint8(23, TCP);
    this.#header.set(this.#o.local.ip, 26);
    this.#header.set(this.#o.peer.ip, 30);
    h.setUint16(34, this.#o.local.port);
    h.setUint16(36, this.#o.peer.port);
    h.setUint8(46, (TCP_HDR_LEN / 4) << 4);
  }

  /** Takes the application's next segment into a payload slot. */
  #make(source: SegmentSource, slot: number, length: number): void {
    const at = source.next(length);
    this.#dma.copyIn(this.#payloads + slot * this.#slotSize, source.block, at, length);
    if (this.#plain === null) {
      let sum = swapFolded(sumHalves(this.#blockWords, at >>> 2, length >>> 2));
      for (let i = length & ~3; i < length; i++) sum += source.block[at + i]! << ((i & 1) === 0 ? 8 : 0);
      this.#sums[slot] = sum;
    }
    this.#lengths[slot] = length;
    this.#made += length;
  }

  #sendSegment(position: number, slot: number, length: number, flags: number): boolean {
    const h = this.#headerView;
    const syn = (flags & SYN) !== 0;
    h.setUint16(16, IP_HDR_LEN + TCP_HDR_LEN + length);
    h.setUint16(18, this.#ident);
    h.setUint16(24, 0);
    h.setUint16(24, complement(this.#sumHeader(14, 10)));
    // SYN takes one number of the sequence space: the first byte of the stream is ISS + 1.
    h.setUint32(38, (this.#iss + (syn ? 0 : 1) + position) >>> 0);
    h.setUint32(42, (flags & ACK) !== 0 ? (this.#irs + 1 + this.#arrived + (this.#peerFin ? 1 : 0)) >>> 0 : 0);
    h.setUint8(47, flags);
    h.setUint16(48, Math.min(this.#o.window, 65535));
    h.setUint16(50, 0);
    const pseudo = this.#sumHeader(26, 4) + TCP + TCP_HDR_LEN + length;
    const plain = this.#plain;
    if (plain !== null) h.setUint16(50, fold(pseudo));
    else {
      const payloadSum = length === 0 ? 0 : this.#sums[slot]!;
      h.setUint16(50, complement(pseudo + this.#sumHeader(34, 10) + payloadSum));
    }
    const offload = length > this.#o.mss ? this.#whole : plain;
    if (!this.#sendFrame(this.#payloads + slot * this.#slotSize, length, offload)) return false;
    this.#ident = (this.#ident + 1) & 0xffff;
    return true;
  }

  /** Sum of big-endian words of the header template. */
  #sumHeader(from: number, words: number): number {
    let sum = 0;
    for (let i = 0; i < words; i++) sum += this.#headerView.getUint16(from + 2 * i);
    return sum;
  }

  /** Queues the header template and a payload; frames that would be too short are padded by the header slot's zeros. */
  #sendFrame(payload: number, length: number, offload: TxOffload | null): boolean {
    const at = this.#headers + this.#nextHeader * HEADER_SLOT;
    this.#dma.copyIn(at, this.#header, 0, HEADERS);
    const frame = this.#frame;
    frame.paddr[0] = at;
    frame.len[0] = length === 0 ? ETHER_MIN_LEN : HEADERS;
    frame.paddr[1] = payload;
    frame.len[1] = length;
    frame.count = length === 0 ? 1 : 2;
    if (!this.#o.ifnet.transmit(frame, offload)) return false;
    this.#nextHeader = (this.#nextHeader + 1) % HEADER_SLOTS;
    return true;
  }

  #acknowledge(): void {
    if (this.#sendSegment(this.#next + (this.#finSent ? 1 : 0), 0, 0, ACK)) this.#unacked = 0;
  }

  // ---------------------------------------------------------------------------------------------- receiving

  #receive(address: number, length: number, more: FrameSegments | null, offload: RxOffload | undefined): void {
    if (length < 42) return;
    const head = Math.min(length, HEADERS);
    this.#dma.copyOut(address, this.#in, 0, head);
    const type = this.#inView.getUint16(12);
    if (type === ETHERTYPE_ARP) this.#receiveArp();
    else if (type === ETHERTYPE_IP && head === HEADERS && this.#forUs())
      this.#receiveSegment(address, length, more, offload !== undefined && offload.csum !== "none");
  }

  #forUs(): boolean {
    const v = this.#inView;
    if (v.getUint8(14) !== 0x45 || v.getUint8(23) !== TCP || v.getUint16(36) !== this.#o.local.port) return false;
    for (let i = 0; i < 4; i++) if (this.#in[30 + i] !== this.#o.local.ip[i]) return false;
    return true;
  }

  /** @param trusted the card says that the checksum is right, or that the segment was never on a wire */
  #receiveSegment(address: number, length: number, more: FrameSegments | null, trusted: boolean): void {
    const v = this.#inView;
    const payload = v.getUint16(16) - IP_HDR_LEN - TCP_HDR_LEN;
    const flags = v.getUint8(47);
    if (payload < 0 || v.getUint8(46) !== (TCP_HDR_LEN / 4) << 4) {
      this.damaged++;
      return;
    }
    if (!this.#copyPayload(address, length, more, payload) || !(trusted || this.#checksumGood(payload))) {
      this.damaged++;
      return;
    }
    if ((flags & SYN) !== 0) {
      this.#receiveSyn(flags);
      return;
    }
    if ((flags & ACK) !== 0) this.#receiveAck();
    if (payload > 0) this.#receivePayload(payload);
    if ((flags & FIN) !== 0) this.#receiveFin();
  }

  /** Copies the payload behind what the application has not read yet; it counts only once it was checked. */
  #copyPayload(address: number, length: number, more: FrameSegments | null, payload: number): boolean {
    const first = Math.min(length - HEADERS, payload);
    let to = this.#unread;
    if (first > 0) this.#dma.copyOut(address + HEADERS, this.#received, to, first);
    to += first;
    for (let i = 0; more !== null && i < more.count && to < this.#unread + payload; i++) {
      const part = Math.min(more.len[i]!, this.#unread + payload - to);
      this.#dma.copyOut(more.paddr[i]!, this.#received, to, part);
      to += part;
    }
    return to === this.#unread + payload;
  }

  #checksumGood(payload: number): boolean {
    const v = this.#inView;
    let sum = TCP + TCP_HDR_LEN + payload;
    for (let at = 26; at < HEADERS; at += 2) sum += v.getUint16(at);
    const start = this.#unread;
    let i = 0;
    if ((start & 3) === 0) {
      sum += swapFolded(sumHalves(this.#receivedWords, start >>> 2, payload >>> 2));
      i = payload & ~3;
    }
    for (; i < payload; i++) sum += this.#received[start + i]! << ((i & 1) === 0 ? 8 : 0);
    return complement(sum) === 0;
  }

  #receiveSyn(flags: number): void {
    this.#irs = this.#inView.getUint32(38);
    if ((flags & ACK) === 0) {
      this.#header.set(this.#in.subarray(6, 12), 0);
      this.#sendSegment(0, 0, 0, SYN | ACK);
    } else {
      this.connected = true;
      this.#acknowledge();
    }
  }

  #receiveAck(): void {
    this.connected = true;
    const ahead = (this.#inView.getUint32(42) - ((this.#iss + 1 + this.#una) >>> 0)) >>> 0;
    if (ahead > this.#next - this.#una + 1) return; // old, or of another connection
    const acked = this.#una + ahead;
    if (acked > this.#size && this.#finSent) this.finished = true;
    this.#una = Math.min(acked, this.#size);
  }

  #receivePayload(payload: number): void {
    const offset = (this.#inView.getUint32(38) - ((this.#irs + 1 + this.#arrived) >>> 0)) >>> 0;
    this.#unacked++;
    if (offset !== 0) {
      this.#unacked = 2; // a duplicate or a hole: say at once where we are
    } else {
      this.#arrived += payload;
      this.#unread += payload;
      if (this.#unread >= READ_SIZE) this.#handOver();
    }
    if (this.#unacked >= 2) this.#acknowledge(); // every second segment, RFC 9293 §3.8.6.3
  }

  #receiveFin(): void {
    const offset = (this.#inView.getUint32(38) - ((this.#irs + 1 + this.#arrived) >>> 0)) >>> 0;
    if (offset !== 0) return;
    if (this.#unread > 0) this.#handOver();
    this.#peerFin = true;
    this.finished = true;
    this.#acknowledge();
  }

  #handOver(): void {
    this.#o.write?.(this.#received.subarray(0, this.#unread));
    this.#unread = 0;
  }

  // ---------------------------------------------------------------------------------------------- ARP, RFC 826

  #sendArp(operation: 1 | 2, to: Uint8Array): void {
    const saved = this.#header.slice();
    const h = this.#headerView;
    this.#header.fill(0);
    this.#header.set(to, 0);
    this.#header.set(this.#o.local.mac, 6);
    h.setUint16(12, ETHERTYPE_ARP);
    h.setUint16(14, 1);
    h.setUint16(16, ETHERTYPE_IP);
    h.setUint16(18, 0x0604);
    h.setUint16(20, operation);
    this.#header.set(this.#o.local.mac, 22);
    this.#header.set(this.#o.local.ip, 28);
    if (operation === 2) this.#header.set(to, 32);
    this.#header.set(this.#o.peer.ip, 38);
    this.#sendFrame(0, 0, null);
    this.#header.set(saved);
  }

  #receiveArp(): void {
    const target = this.#in.subarray(38, 42);
    if (target.some((byte, i) => byte !== this.#o.local.ip[i])) return;
    const sender = this.#in.slice(22, 28);
    if (this.#inView.getUint16(20) === 1) {
      this.#sendArp(2, sender);
      return;
    }
    if (!this.#synSent || this.connected) return;
    this.#header.set(sender, 0);
    this.#sendSegment(0, 0, 0, SYN);
  }
}

const BROADCAST = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
