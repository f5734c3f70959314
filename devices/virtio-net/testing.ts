/** A host, a far end and a raw driver for this folder's own tests; numbers are the standard's, none come from src/spec. */
import type { RamWindow } from "../../src/bytes/testing.js";
import type { EndpointLimits, NetEndpoint, Offload, Verdict } from "../../src/contract/index.js";
import { TestClock } from "../../src/net/testing.js";
import { TestHost as PlainHost, RawGuest } from "../../src/virtio/testing.js";
import { type VirtioNetFunction, type VirtioNetOptions, virtioNet } from "./index.js";

/** Its time is a test's, and there is room for rings and buffers. */
export class TestHost extends PlainHost {
  override readonly clock = new TestClock(1000);

  constructor(windows: readonly RamWindow[] = [{ base: 0, size: 0x80_0000 }]) {
    super(windows);
  }

  /** of the messages sent since a test last emptied them */
  get vectors(): number[] {
    return this.messages.map(({ vector }) => vector);
  }
}

/** The far end of the cable: keeps what it takes and answers as it is told. */
export class Peer implements NetEndpoint {
  readonly frames: Uint8Array[] = [];
  batches = 0;
  readonly readies: number[] = [];
  /** where the last frame was handed over */
  lastBytes: Uint8Array | null = null;
  lastStart = 0;
  holds = false;
  verdict: () => Verdict = () => "taken";
  /** what `accepts` says; without it an offload is an error of the card */
  limits: EndpointLimits | null = null;
  /** of each taken frame, copied */
  readonly offloads: (Offload | null)[] = [];
  /** of each taken frame */
  readonly hints: number[] = [];
  onReady: (queueHint: number) => void = () => {};
  onOffer: (queueHint: number) => void = () => {};

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    if (offload !== null && this.limits === null) throw new Error("test: an offload that was not negotiated");
    this.lastBytes = bytes;
    this.lastStart = start;
    this.onOffer(queueHint);
    const verdict = this.verdict();
    if (verdict !== "taken") return verdict;
    this.frames.push(bytes.slice(start, start + length));
    this.hints.push(queueHint);
    this.offloads.push(offload === null ? null : { ...offload });
    return verdict;
  }
  endBatch(): void {
    this.batches++;
  }
  ready(queueHint: number): void {
    this.readies.push(queueHint);
    this.onReady(queueHint);
  }
  accepts(): EndpointLimits {
    if (this.limits !== null) return { ...this.limits, holds: this.holds };
    return { csum: false, tso4: false, tso6: false, uso: false, longestFrame: 65553, holds: this.holds };
  }
}

export const NEXT = 1;
export const WRITE = 2;
export const RX = 0;
export const TX = 1;
export const CTRL = 2;
/** A page for buffers of each kind, far from the rings. */
export const BUFFERS = 0x50_0000;

// Feature bits by number, as the standard's tables print them.
export const F_CSUM = 2 ** 0;
export const F_GUEST_CSUM = 2 ** 1;
export const F_CTRL_GUEST_OFFLOADS = 2 ** 2;
/** legacy */
export const F_GSO = 2 ** 6;
export const F_GUEST_TSO4 = 2 ** 7;
export const F_GUEST_TSO6 = 2 ** 8;
export const F_GUEST_ECN = 2 ** 9;
export const F_GUEST_UFO = 2 ** 10;
export const F_HOST_TSO4 = 2 ** 11;
export const F_HOST_TSO6 = 2 ** 12;
export const F_HOST_ECN = 2 ** 13;
export const F_HOST_UFO = 2 ** 14;
export const F_GUEST_ANNOUNCE = 2 ** 21;
export const F_MQ = 2 ** 22;
/** of bits 32 … 63 */
export const H_RING_RESET = 2 ** (40 - 32);
export const H_VQ_NOTF_COAL = 2 ** (52 - 32);
export const H_NOTF_COAL = 2 ** (53 - 32);
export const H_HASH_REPORT = 2 ** (57 - 32);
export const H_RSS = 2 ** (60 - 32);
export const H_GUEST_USO4 = 2 ** (54 - 32);
export const H_GUEST_USO6 = 2 ** (55 - 32);
export const H_HOST_USO = 2 ** (56 - 32);
export const F_MAC = 2 ** 5;
export const F_MRG_RXBUF = 2 ** 15;
export const F_STATUS = 2 ** 16;
export const F_CTRL_VQ = 2 ** 17;
export const F_CTRL_RX = 2 ** 18;
export const F_CTRL_VLAN = 2 ** 19;
export const F_CTRL_RX_EXTRA = 2 ** 20;
export const F_CTRL_MAC_ADDR = 2 ** 23;
export const F_INDIRECT = 2 ** 28;
export const F_EVENT_IDX = 2 ** 29;

export interface GuestOptions {
  readonly card?: VirtioNetOptions;
  /** through which interface; default "modern" */
  readonly via?: "legacy" | "modern";
  /** bits 0 … 31 */
  readonly features?: number;
  /** bits 32 … 63 beside VERSION_1 */
  readonly high?: number;
  /** descriptors of receive and transmit queue; default 256 */
  readonly size?: number;
  /** set DRIVER_OK; default true */
  readonly start?: boolean;
  readonly windows?: readonly RamWindow[];
  /** the driver sets up all queues of so many pairs, and the control queue behind those of the card; default: the first three */
  readonly pairs?: number;
}

/** A card with its queues set up by raw accesses. */
export class Guest extends RawGuest<TestHost> {
  readonly nic: VirtioNetFunction;
  readonly peer = new Peer();
  readonly pairs: number;
  /** index of the control queue */
  readonly ctrl: number;
  features: number;
  high: number;

  constructor(options: GuestOptions = {}) {
    const { card = {}, via = "modern", features = 0, high = 0, size = 256, start = true, windows, pairs = 1 } = options;
    const nic = virtioNet({ mac: "52:54:00:12:34:56", queueSize: size, ...card });
    const ctrl = options.pairs === undefined ? CTRL : 2 * (card.queuePairs ?? 1);
    super(new TestHost(windows), nic, via, (queue) => (queue === ctrl ? 64 : size));
    this.nic = nic;
    this.ctrl = ctrl;
    this.features = features;
    this.high = high;
    this.pairs = pairs;
    nic.net.attach(this.peer);
    this.setUp();
    if (start) this.driverOk();
  }

  /** From reset to the point before DRIVER_OK; rings are empty then. */
  setUp(features = this.features): void {
    const queues = [...Array.from({ length: 2 * this.pairs }, (_, i) => i), this.ctrl];
    this.prepare(queues, features, this.high);
  }

  configMac(): string {
    return Array.from({ length: 6 }, (_, i) => this.config(i, 1).toString(16).padStart(2, "0")).join(":");
  }

  /** Posts a receive buffer of one descriptor. */
  post(head: number, address: number, length: number, queue = RX): void {
    this.chain(queue, head, [address, length, WRITE]);
  }

  /** A frame from the cable, a batch by itself. */
  receive(frame: Uint8Array, offload: Offload | null = null, hint = 0): Verdict {
    const verdict = this.nic.net.offer(frame, 0, frame.length, offload, hint);
    this.nic.net.endBatch();
    return verdict;
  }

  /** Sends a control command and returns the ack; −1 when it did not complete. */
  command(kind: number, command: number, data: readonly number[]): number {
    const at = BUFFERS + 0x10_0000;
    this.host.put(at, [kind, command]);
    this.host.put(at + 16, data);
    this.host.set(at + 0x8000, 1, 0xee);
    const { ctrl } = this;
    const before = this.usedIdx(ctrl);
    this.chain(ctrl, 0, [at, 2, 0], [at + 16, data.length, 0], [at + 0x8000, 1, WRITE]);
    this.notify(ctrl);
    return this.usedIdx(ctrl) === ((before + 1) & 0xffff) ? this.host.get(at + 0x8000, 1) : -1;
  }

  setLinkDown(): void {
    this.nic.setLink(false);
  }

  /** Turns MSI-X on, unmasked: queue n has vector n + 1; the messages go where there is no RAM. */
  messagesOn(): void {
    for (let queue = 0; queue <= this.ctrl; queue++) {
      this.out(0x16, 2, queue);
      this.out(0x1a, 2, queue + 1);
      this.nic.barWrite(1, 16 * (queue + 1) + 3, 1, 0xfe);
      this.nic.barWrite(1, 16 * (queue + 1) + 12, 4, 0);
    }
    this.nic.configWrite(0x9a, 2, 0x8000);
  }
}

/** A frame of `length` bytes to `destination`; the rest counts upwards. */
export const frame = (length: number, destination = "52:54:00:12:34:56", seed = 7): Uint8Array => {
  const bytes = Uint8Array.from({ length: Math.max(length, 14) }, (_, i) => (i * 7 + seed) & 0xff);
  bytes.set(destination.split(":").map((b) => Number.parseInt(b, 16)));
  bytes.set([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5], 6);
  return bytes.subarray(0, length);
};

export interface FlowShape {
  /** names the flow */
  readonly port: number;
  /** as the driver sends it; otherwise as it comes back */
  readonly out?: boolean;
  readonly version?: 4 | 6;
  readonly udp?: boolean;
  readonly tags?: number;
  /** false: neither IP */
  readonly ip?: boolean;
  readonly payload?: number;
}

/** A frame of a flow between the driver's address and another one. */
export const flowFrame = (shape: FlowShape): Uint8Array => {
  const { port, out = false, version = 4, udp = false, tags = 0, ip = true, payload = 40 } = shape;
  const { bytes, transport } = segment(payload, { protocol: udp ? "udp" : "tcp", version, tags });
  const view = new DataView(bytes.buffer);
  const start = 14 + 4 * tags;
  view.setUint16(transport, out ? 443 : port);
  view.setUint16(transport + 2, out ? port : 443);
  const size = version === 4 ? 4 : 16;
  const addresses = start + (version === 4 ? 12 : 8);
  const swap = (at: number, length: number): void => {
    const first = bytes.slice(at, at + length);
    bytes.copyWithin(at, at + length, at + 2 * length);
    bytes.set(first, at + length);
  };
  if (out) {
    swap(0, 6);
    swap(addresses, size);
  }
  if (!ip) view.setUint16(start - 2, 0x88b5);
  return bytes;
};

export interface SegmentShape {
  readonly protocol?: "tcp" | "udp";
  readonly version?: 4 | 6;
  /** 802.1Q tags in front */
  readonly tags?: number;
  /** bytes of options: of IPv4, or as an extension header of IPv6; a multiple of 8 */
  readonly options?: number;
  /** bytes of TCP options */
  readonly tcpOptions?: number;
}

/** A segment with an open checksum: its field holds the sum of the pseudo header, RFC 793 and RFC 8200 §8.1. */
export const segment = (payload: number, shape: SegmentShape = {}) => {
  const { protocol = "tcp", version = 4, tags = 0, options = 0, tcpOptions = 0 } = shape;
  const ip = 14 + 4 * tags;
  const transport = ip + (version === 4 ? 20 : 40) + options;
  const end = transport + (protocol === "tcp" ? 20 + tcpOptions : 8);
  const bytes = Uint8Array.from({ length: end + payload }, (_, i) => (i * 11 + (i >> 8)) & 0xff);
  const view = new DataView(bytes.buffer);
  bytes.set([0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1]);
  for (let i = 0; i < tags; i++) view.setUint32(12 + 4 * i, (i === 0 && tags === 2 ? 0x88a8 : 0x8100) * 0x1_0000 + 5);
  view.setUint16(ip - 2, version === 4 ? 0x0800 : 0x86dd);
  const number = protocol === "tcp" ? 6 : 17;
  bytes.fill(0, ip, transport + (protocol === "tcp" ? 20 : 8));
  if (version === 4) {
    bytes[ip] = 0x40 + 5 + options / 4;
    view.setUint16(ip + 2, Math.min(0xffff, bytes.length - ip));
    bytes[ip + 8] = 64;
    bytes[ip + 9] = number;
    bytes.set([10, 0, 0, 1, 10, 0, 0, 2], ip + 12);
    bytes.fill(1, ip + 20, transport); // NOPs
  } else {
    bytes[ip] = 0x60;
    view.setUint16(ip + 4, Math.min(0xffff, bytes.length - ip - 40));
    bytes[ip + 6] = options > 0 ? 60 : number;
    bytes[ip + 7] = 64;
    bytes[ip + 8 + 15] = 1;
    bytes[ip + 24 + 15] = 2;
    if (options > 0) bytes.set([number, options / 8 - 1, 1, options - 4], ip + 40);
  }
  if (protocol === "tcp") {
    bytes[transport + 12] = ((20 + tcpOptions) / 4) << 4;
    bytes[transport + 13] = 0x10;
  } else view.setUint16(transport + 4, bytes.length - transport);
  const addresses = version === 4 ? bytes.subarray(ip + 12, ip + 20) : bytes.subarray(ip + 8, ip + 40);
  let sum = number + (bytes.length - transport);
  for (let i = 0; i < addresses.length; i += 2) sum += addresses[i]! * 256 + addresses[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  const csumOffset = protocol === "tcp" ? 16 : 6;
  view.setUint16(transport + csumOffset, sum);
  return { bytes, transport, end, csumOffset };
};

/** An offload for `segment`. */
export const offloadOf = (
  { transport, csumOffset }: { readonly transport: number; readonly csumOffset: number },
  more: Partial<Offload> = {},
): Offload => ({
  needsCsum: true,
  csumStart: transport,
  csumOffset,
  dataValid: false,
  gso: "none",
  gsoSize: 0,
  ecn: false,
  ...more,
});
