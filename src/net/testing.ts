/** Ports and a clock for this room's own tests; not exported from the room. */
import type { Clock, EndpointLimits, NetEndpoint, NetPort, Offload, Timer, Verdict } from "../contract/index.js";
import { OffloadRecord, TAKES_ALL } from "./offload.js";

/** What a `TestPort` was offered and took. */
export interface Taken {
  readonly frame: Uint8Array;
  readonly offload: OffloadRecord | null;
  readonly queueHint: number;
}

/** A port that keeps copies of what it takes and does what a test tells it. */
export class TestPort implements NetPort {
  far: NetEndpoint | null = null;
  readonly taken: Taken[] = [];
  readonly readies: number[] = [];
  batches = 0;
  limits: EndpointLimits = TAKES_ALL;
  /** asked at each offer, after `onOffer` */
  verdict: (frame: Uint8Array) => Verdict = () => "taken";
  /** called at each offer, with a copy */
  onOffer: (frame: Uint8Array) => void = () => {};

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    const frame = bytes.slice(start, start + length);
    this.onOffer(frame);
    const verdict = this.verdict(frame);
    if (verdict !== "taken") return verdict;
    let kept: OffloadRecord | null = null;
    if (offload !== null) {
      kept = new OffloadRecord();
      kept.set(offload);
    }
    // A copy taken now, not before: an endpoint may look at the bytes until it returns.
    this.taken.push({ frame: bytes.slice(start, start + length), offload: kept, queueHint });
    return "taken";
  }

  endBatch(): void {
    this.batches++;
  }

  ready(queueHint: number): void {
    this.readies.push(queueHint);
  }

  accepts(): EndpointLimits {
    return this.limits;
  }

  attach(far: NetEndpoint | null): void {
    if (far !== null && this.far !== null) throw new Error("occupied");
    this.far = far;
  }

  /** Offers a frame to the far end, from the middle of a larger array, as from guest memory. */
  send(frame: Uint8Array, offload: Offload | null = null, queueHint = 0): Verdict {
    if (this.far === null) throw new Error("nothing is plugged in");
    const memory = new Uint8Array(frame.length + 40).fill(0xee);
    memory.set(frame, 17);
    return this.far.offer(memory, 17, frame.length, offload, queueHint);
  }

  /** the first byte of payload of each taken frame */
  get tags(): number[] {
    return this.taken.map(({ frame }) => frame[14]!);
  }
}

/** An Ethernet frame from station `from` to station `to` (255: everybody) with `tag` as its first byte of payload. */
export const frameOf = (to: number, from: number, tag: number, length = 60): Uint8Array => {
  const frame = new Uint8Array(Math.max(length, 15)).fill(tag ^ 0x5a);
  frame.set(to === 255 ? [255, 255, 255, 255, 255, 255] : [2, 0, 0, 0, 0, to]);
  frame.set([2, 0, 0, 0, 0, from, 0x88, 0xb5, tag], 6);
  return frame;
};

/** What a packet is made of, for `packetOf`. */
export interface PacketParts {
  readonly gso: "tcp4" | "tcp6" | "udp";
  /** IPv6 for `udp` */
  readonly v6?: boolean;
  /** the two bytes of each tag, outermost first; two tags are 802.1ad's */
  readonly tags?: readonly number[];
  /** IPv4 options, a multiple of four bytes */
  readonly options?: readonly number[];
  /** IPv6 extension headers: their numbers, and how many times eight bytes each is long beyond the first eight */
  readonly extensions?: readonly (readonly [number, number])[];
  /** TCP options, a multiple of four bytes */
  readonly tcpOptions?: readonly number[];
  readonly flags?: number;
  readonly identification?: number;
  /** of IPv4; default true */
  readonly dontFragment?: boolean;
  readonly sequence?: number;
  readonly payload: Uint8Array;
}

/** One's complement sum as RFC 1071 tells it, a byte at a time. */
export const slowSum = (bytes: readonly number[]): number => {
  let sum = 0;
  for (const [i, byte] of bytes.entries()) {
    sum += i % 2 === 0 ? byte * 256 : byte;
    if (sum > 0xffff) sum = sum - 0x1_0000 + 1;
  }
  return sum;
};

const be16 = (n: number): number[] => [(n >>> 8) & 0xff, n & 0xff];
const be32 = (n: number): number[] => [...be16(Math.floor(n / 0x1_0000)), ...be16(n % 0x1_0000)];

/**
 * A finished frame, put together slowly from its parts and with plain arrays only; `left` instead makes what a guest that
 * leaves the rest to its card may write: a seed in the checksum field, IP lengths of the whole, or 0.
 */
export const packetOf = (parts: PacketParts, left = false): Uint8Array => {
  const { gso, tags = [], options = [], extensions = [], tcpOptions = [], flags = 0x10, payload } = parts;
  const { identification = 0, sequence = 0, v6 = gso === "tcp6", dontFragment = true } = parts;
  const protocol = gso === "udp" ? 17 : 6;
  const source = v6 ? [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 0xfe] : [10, 0, 2, 15];
  const destination = v6 ? [0xfd, 0, 0, 0, 0, 0, 0xff, 0xff, 9, 8, 7, 6, 5, 4, 3, 2] : [192, 168, 255, 254];
  const transport = gso === "udp" ? [] : [0x30, 0x39, 0x00, 0x50, ...be32(sequence), 0x01, 0x02, 0x03, 0x04];
  if (gso === "udp") transport.push(0x30, 0x39, 0x14, 0x51, ...be16(left ? 0 : 8 + payload.length), 0, 0);
  else transport.push((5 + tcpOptions.length / 4) << 4, flags, 0x72, 0x10, 0, 0, 0, 0, ...tcpOptions);
  const pseudo = [...source, ...destination, ...be32(transport.length + payload.length), 0, 0, 0, protocol];
  const checksumAt = gso === "udp" ? 6 : 16;
  let checksum = 0xffff - slowSum([...pseudo, ...transport, ...payload]);
  if (checksum === 0 && gso === "udp") checksum = 0xffff;
  transport.splice(checksumAt, 2, ...be16(left ? 0xdead : checksum));
  const between = extensions.flatMap(([, units], i) => [
    extensions[i + 1]?.[0] ?? protocol,
    units,
    ...new Array<number>(6 + 8 * units).fill(0),
  ]);
  let ip: number[];
  if (v6) {
    const length = left ? 0 : between.length + transport.length + payload.length;
    ip = [0x6a, 0xbc, 0xde, 0xf0, ...be16(length), extensions[0]?.[0] ?? protocol, 64, ...source, ...destination];
    ip.push(...between);
  } else {
    const length = left ? 0 : 20 + options.length + transport.length + payload.length;
    ip = [
      0x45 + options.length / 4,
      0x02,
      ...be16(length),
      ...be16(identification),
      dontFragment ? 0x40 : 0,
      0,
      64,
      protocol,
    ];
    ip.push(0, 0, ...source, ...destination, ...options);
    ip.splice(10, 2, ...be16(left ? 0xbeef : 0xffff - slowSum(ip)));
  }
  const types = tags.flatMap((tag, i) => [...(i < tags.length - 1 ? [0x88, 0xa8] : [0x81, 0x00]), ...be16(tag)]);
  const ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ...types, ...(v6 ? [0x86, 0xdd] : [0x08, 0x00])];
  return Uint8Array.from([...ethernet, ...ip, ...transport, ...payload]);
};

/** The frames that `packetOf(parts, true)` stands for, each put together from the beginning. */
export const segmentsOf = (parts: PacketParts, gsoSize: number): Uint8Array[] => {
  const { payload, flags = 0x10, identification = 0, sequence = 0 } = parts;
  const count = Math.max(1, Math.ceil(payload.length / gsoSize));
  return Array.from({ length: count }, (_, k) =>
    packetOf({
      ...parts,
      payload: payload.slice(k * gsoSize, (k + 1) * gsoSize),
      identification: (identification + k) % 0x1_0000,
      sequence: (sequence + k * gsoSize) % 2 ** 32,
      flags: (k === 0 ? flags : flags & 0x7f) & (k === count - 1 ? 0xff : 0xf6),
    }),
  );
};

/** Bytes that tell their places. */
export const ramp = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + (i >>> 8)) & 0xff);

/**
 * What a receiver makes of the fragments of one packet, in the order of RFC 791 §3.2 and RFC 8200 §4.5: the headers of
 * the first one, without a fragment header, and what all of them carry. Throws where they leave a hole or contradict.
 */
export const reassemble = (fragments: readonly Uint8Array[]): Uint8Array => {
  const data: number[] = [];
  let headers: number[] = [];
  let key = "";
  let end = -1;
  for (const fragment of fragments) {
    const f = [...fragment];
    const word = (at: number): number => f[at]! * 256 + f[at + 1]!;
    let ip = 14;
    while (word(ip - 2) === 0x8100 || word(ip - 2) === 0x88a8) ip += 4;
    let at = ip + (f[ip]! & 0xf) * 4;
    let nextAt = ip + 9;
    let offset = (word(ip + 6) & 0x1fff) * 8;
    let more = (word(ip + 6) & 0x2000) !== 0;
    let own = f.slice(ip + 4, ip + 6).join();
    if (f[ip]! >>> 4 === 4) {
      if (slowSum(f.slice(ip, at)) !== 0xffff) throw new Error("the header's checksum is wrong");
      if (word(ip + 2) !== f.length - ip) throw new Error(`length ${word(ip + 2)} of ${f.length - ip}`);
      if ((word(ip + 6) & 0xc000) !== 0) throw new Error("a fragment that must not be fragmented");
    } else {
      if (word(ip + 4) !== f.length - ip - 40) throw new Error(`length ${word(ip + 4)} of ${f.length - ip - 40}`);
      nextAt = ip + 6;
      for (at = ip + 40; f[nextAt] !== 44; at += 8 + 8 * f[at + 1]!) nextAt = at;
      offset = word(at + 2) & 0xfff8;
      more = (f[at + 3]! & 1) !== 0;
      own = f.slice(at + 4, at + 8).join();
      f[nextAt] = f[at]!;
      f.splice(at, 8);
    }
    if (headers.length === 0) {
      headers = f.slice(0, at);
      key = own;
    }
    if (own !== key) throw new Error("fragments of two packets");
    if (offset !== data.length) throw new Error(`data at ${offset}, expected ${data.length}`);
    if (more && (f.length - at) % 8 !== 0) throw new Error(`${f.length - at} bytes before another fragment`);
    data.push(...f.slice(at));
    if (!more) end = data.length;
  }
  if (end !== data.length) throw new Error("the last fragment is missing");
  const packet = [...headers, ...data];
  let ip = 14;
  while (packet[ip - 2] === 0x81 || packet[ip - 2] === 0x88) ip += 4;
  if (packet[ip]! >>> 4 === 4) {
    packet.splice(ip + 2, 2, ...be16(packet.length - ip));
    packet.splice(ip + 6, 2, 0, 0);
    packet.splice(ip + 10, 2, 0, 0);
    packet.splice(ip + 10, 2, ...be16(0xffff - slowSum(packet.slice(ip, headers.length))));
  } else packet.splice(ip + 4, 2, ...be16(packet.length - ip - 40));
  return Uint8Array.from(packet);
};

/** A clock that a test moves. */
export class TestClock implements Clock {
  readonly #timers: { deadline: number; fire: () => void }[] = [];
  #now: number;

  constructor(now = 0) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  timer(fire: () => void): Timer {
    const timers = this.#timers;
    const entry = { deadline: Number.POSITIVE_INFINITY, fire };
    timers.push(entry);
    return {
      get deadline(): number {
        return entry.deadline;
      },
      arm(deadline: number): void {
        entry.deadline = deadline;
      },
      cancel(): void {
        entry.deadline = Number.POSITIVE_INFINITY;
      },
      [Symbol.dispose](): void {
        timers.splice(timers.indexOf(entry), 1);
      },
    };
  }

  /** how many timers there are */
  get timers(): number {
    return this.#timers.length;
  }

  /** ns until the next timer, Infinity when all are idle */
  get due(): number {
    return this.next - this.#now;
  }

  /** ns of the next timer, Infinity when all are idle */
  get next(): number {
    return this.#timers.reduce((least, { deadline }) => Math.min(least, deadline), Number.POSITIVE_INFINITY);
  }

  /** Moves the time on and fires what is due, in order. @param ns how far; @param most timers that may fire */
  advance(ns: number, most = 10_000): void {
    const end = this.#now + ns;
    for (; this.next <= end; most--) {
      if (most === 0) throw new Error("timers without end");
      const due = this.#timers.reduce((a, b) => (b.deadline < a.deadline ? b : a));
      this.#now = Math.max(this.#now, due.deadline);
      due.deadline = Number.POSITIVE_INFINITY;
      due.fire();
    }
    this.#now = end;
  }

  /** Sets the time without firing anything, as a restored machine does. */
  set(now: number): void {
    this.#now = now;
  }
}
