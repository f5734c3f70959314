import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { EndpointLimits, NetEndpoint, NetPort, Offload } from "../../src/contract/index.js";
import { connect } from "../../src/net/index.js";
import {
  BUFFERS,
  F_CSUM,
  F_CTRL_GUEST_OFFLOADS,
  F_CTRL_VQ,
  F_GSO,
  F_GUEST_ANNOUNCE,
  F_GUEST_CSUM,
  F_GUEST_ECN,
  F_GUEST_TSO4,
  F_GUEST_TSO6,
  F_GUEST_UFO,
  F_HOST_ECN,
  F_HOST_TSO4,
  F_HOST_TSO6,
  F_HOST_UFO,
  F_INDIRECT,
  F_MRG_RXBUF,
  frame,
  Guest,
  type GuestOptions,
  H_GUEST_USO4,
  H_GUEST_USO6,
  H_HOST_USO,
  offloadOf,
  Peer,
  RX,
  segment,
  TX,
} from "./testing.js";

const OK = 0;
const ERR = 1;
const F_HOST = F_CSUM + F_HOST_TSO4 + F_HOST_TSO6 + F_HOST_ECN;
const F_GUEST = F_GUEST_CSUM + F_GUEST_TSO4 + F_GUEST_TSO6 + F_GUEST_ECN;
const H_GUEST = H_GUEST_USO4 + H_GUEST_USO6;
const ALL: EndpointLimits = {
  csum: true,
  tso4: true,
  tso6: true,
  uso: true,
  ufo: true,
  longestFrame: 65553,
  holds: false,
};
const NONE: EndpointLimits = { csum: false, tso4: false, tso6: false, uso: false, longestFrame: 1518, holds: false };

/** struct virtio_net_hdr of 12 bytes. */
const header = (flags: number, type: number, hdrLen = 0, gsoSize = 0, csumStart = 0, csumOffset = 0): number[] => [
  flags,
  type,
  ...[hdrLen, gsoSize, csumStart, csumOffset, 0].flatMap((word) => [word & 0xff, word >>> 8]),
];

const taker = (options: GuestOptions): Guest => {
  const g = new Guest(options);
  g.peer.limits = ALL;
  return g;
};

/** Header and frame, each in a descriptor of its own. */
const send = (g: Guest, head: readonly number[], bytes: Uint8Array): void => {
  g.host.put(BUFFERS, head);
  g.host.put(BUFFERS + 0x1000, bytes);
  g.chain(TX, 0, [BUFFERS, head.length, 0], [BUFFERS + 0x1000, bytes.length, 0]);
  g.notify(TX);
};

/** One's complement sum of all words from `at` on, as a receiver checks it. */
const sumFrom = (bytes: Uint8Array, at: number, first = 0): number => {
  let sum = first;
  for (let i = at; i < bytes.length; i++) sum += (i - at) % 2 === 0 ? bytes[i]! * 256 : bytes[i]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
};

test("VIO-280 an open checksum goes on with the frame in place, and is completed where the far end does not", () => {
  for (const via of ["modern", "legacy"] as const) {
    const g = taker({ features: F_CSUM, via });
    const s = segment(1000);
    send(g, header(1, 0, 0, 0, s.transport, 16).slice(0, via === "legacy" ? 10 : 12), s.bytes);
    assert.equal(g.peer.offloads, [offloadOf(s)]);
    assert.equal(g.peer.frames, [s.bytes]);
    assert.is(g.peer.lastBytes, g.host.memory.windows[0]!.bytes);
    assert.is(g.nic.counters().bytesCopied, 0);
  }
  for (const payload of [0, 1, 1000, 1001])
    for (const protocol of ["tcp", "udp"] as const) {
      const g = new Guest({ features: F_CSUM });
      g.nic.net.attach(null);
      const far = new FarPort(NONE);
      connect(g.nic.net, far);
      const s = segment(payload, { protocol });
      send(g, header(1, 0, 0, 0, s.transport, s.csumOffset), s.bytes);
      const [arrived] = far.frames;
      assert.is(arrived?.length, s.bytes.length);
      // Addresses and protocol, and the length, are summed by hand; a right checksum makes ffff.
      const pseudo = 0x0a00 + 1 + 0x0a00 + 2 + (protocol === "tcp" ? 6 : 17) + (s.bytes.length - s.transport);
      assert.is(sumFrom(arrived!, s.transport, pseudo), 0xffff, `${protocol}, ${payload} bytes`);
      assert.equal([...far.offloads], [null]);
    }
  // A UDP payload that makes the sum come out as 0: stored as ffff, since 0 means that there is none. RFC 768
  const zero = segment(2, { protocol: "udp" });
  const at = zero.transport + 8;
  zero.bytes.fill(0, at);
  const rest = 0xffff - sumFrom(zero.bytes, zero.transport);
  zero.bytes.set([rest >>> 8, rest & 0xff], at);
  const g = new Guest({ features: F_CSUM });
  g.nic.net.attach(null);
  const far = new FarPort(NONE);
  connect(g.nic.net, far);
  send(g, header(1, 0, 0, 0, zero.transport, 6), zero.bytes);
  assert.equal([...far.frames[0]!.subarray(zero.transport + 6, at)], [0xff, 0xff]);
});

test("VIO-281 a checksum outside the frame drops the frame; at its very end it does not", () => {
  const bytes = segment(100).bytes;
  for (const [start, offset, passes] of [
    [bytes.length - 2, 0, true],
    [34, bytes.length - 36, true],
    [bytes.length - 1, 0, false],
    [34, bytes.length - 35, false],
    [bytes.length, 0, false],
    [0xffff, 0xffff, false],
    [0, 0xffff, false],
  ] as const) {
    const g = taker({ features: F_CSUM });
    send(g, header(1, 0, 0, 0, start, offset), bytes);
    assert.is(g.peer.frames.length, passes ? 1 : 0, `${start} + ${offset}`);
    assert.equal(g.entry(TX, 0), [0, 0]);
    assert.equal(g.host.reports, passes ? [] : ["tx-csum-outside-frame"]);
  }
});

test("VIO-282 VIO-283 VIO-284 without its flag a checksum field counts for nothing, nor do other flags and hdr_len", () => {
  const s = segment(100);
  for (const flags of [0, 0xfe]) {
    const g = taker({ features: F_HOST });
    send(g, header(flags, 0, 0xffff, 0xffff, 0xffff, 0xffff), s.bytes);
    assert.equal(g.peer.offloads, [null]);
    assert.equal(g.peer.frames, [s.bytes]);
  }
  const without = taker({ features: 0 });
  send(without, header(1, 0, 0, 0, 0xffff, 0xffff), s.bytes);
  assert.equal(without.peer.offloads, [null], "CSUM was not accepted: the flag does not exist");
  for (const hdrLen of [0, 1, 54, 0xffff]) {
    const g = taker({ features: F_HOST });
    const long = segment(3000);
    send(g, header(0xff, 1, hdrLen, 1448, long.transport, 16), long.bytes);
    assert.equal(g.peer.offloads, [offloadOf(long, { gso: "tcp4", gsoSize: 1448 })]);
  }
});

/** [gso_type, features, high features, gso, ecn] */
const KINDS = [
  [1, F_CSUM + F_HOST_TSO4, 0, "tcp4", false],
  [4, F_CSUM + F_HOST_TSO6, 0, "tcp6", false],
  [5, F_CSUM, H_HOST_USO, "udp", false],
  [3, F_CSUM + F_HOST_UFO, 0, "udpfrag", false],
  [0x81, F_CSUM + F_HOST_TSO4 + F_HOST_ECN, 0, "tcp4", true],
  [0x84, F_CSUM + F_HOST_TSO6 + F_HOST_TSO4 + F_HOST_ECN, 0, "tcp6", true],
] as const;

const shapeOf = (gso: Offload["gso"]) =>
  ({ version: gso === "tcp6" ? 6 : 4, protocol: gso === "udp" || gso === "udpfrag" ? "udp" : "tcp" }) as const;

test("VIO-290 each GSO type passes with its feature, and drops the frame without", () => {
  for (const [type, features, high, gso, ecn] of KINDS) {
    const s = segment(4000, shapeOf(gso));
    const head = header(1, type, s.end, 1000, s.transport, s.csumOffset);
    const g = taker({ features, high });
    send(g, head, s.bytes);
    assert.equal(g.peer.offloads, [offloadOf(s, { gso, gsoSize: 1000, ecn })]);
    for (const [missing, none] of [
      [features - (ecn ? F_HOST_ECN : type === 1 ? F_HOST_TSO4 : type === 4 ? F_HOST_TSO6 : features - F_CSUM), 0],
      [features - F_CSUM, high],
    ] as const) {
      const other = taker({ features: missing, high: none });
      send(other, head, s.bytes);
      assert.equal(other.host.reports, ["tx-gso-not-negotiated"], `type ${type}`);
      assert.is(other.peer.frames.length, 0);
      assert.equal(other.entry(TX, 0), [0, 0]);
      assert.is(other.nic.counters().txDropped, 1);
    }
  }
  for (const type of [2, 6, 0x7f, 0x80, 0x83, 0x85, 0xff]) {
    const g = taker({ features: F_HOST + F_HOST_UFO, high: H_HOST_USO });
    send(g, header(1, type, 54, 1000, 34, 16), segment(4000).bytes);
    assert.equal(g.host.reports, ["tx-gso-not-negotiated"], `type ${type}`);
  }
});

test("VIO-286 segments of 0 bytes, or without an open checksum, drop the frame", () => {
  const s = segment(4000);
  for (const [head, code] of [
    [header(1, 1, 54, 0, 34, 16), "tx-gso-size"],
    [header(0, 1, 54, 1448, 34, 16), "tx-gso-without-csum"],
    [header(1, 1, 54, 1448, 0xffff, 16), "tx-csum-outside-frame"],
  ] as const) {
    const g = taker({ features: F_HOST });
    send(g, head, s.bytes);
    assert.is(g.peer.frames.length, 0);
    assert.equal(g.entry(TX, 0), [0, 0]);
    assert.equal(g.host.reports, [code]);
    assert.is(g.status, 0x0f);
  }
});

test("VIO-243 the legacy bit 6 stands for TSO of both kinds, ECN and, with Linux, UFO, without their own bits", () => {
  for (const [type, gso] of [
    [1, "tcp4"],
    [4, "tcp6"],
    [0x81, "tcp4"],
    [0x84, "tcp6"],
    [3, "udpfrag"],
  ] as const) {
    const g = taker({ via: "legacy", features: F_GSO });
    const s = segment(4000, shapeOf(gso));
    send(g, header(1, type, s.end, 1000, s.transport, s.csumOffset).slice(0, 10), s.bytes);
    assert.is(g.peer.offloads[0]?.gsoSize, 1000, `type ${type}`);
  }
  const g = taker({ via: "legacy", features: F_GSO });
  send(g, header(1, 5, 42, 1000, 34, 6).slice(0, 10), segment(4000, { protocol: "udp" }).bytes);
  assert.equal(g.host.reports, ["tx-gso-not-negotiated"]);
});

test("VIO-295 64 KiB over 40 descriptors, direct and indirect, and in one piece without a copy", () => {
  const g = taker({ features: F_HOST + F_INDIRECT });
  const s = segment(65_535 - 40);
  const head = header(1, 1, s.end, 1448, s.transport, 16);
  g.host.put(0x1000, head);
  g.host.put(BUFFERS, s.bytes);
  const cuts = Array.from({ length: 40 }, (_, i) => Math.round((i * s.bytes.length) / 40));
  const pieces = cuts.map((at, i) => [BUFFERS + at, (cuts[i + 1] ?? s.bytes.length) - at, 0] as const);
  g.chain(TX, 0, [0x1000, 12, 0], ...pieces);
  const table = 0x30_0000;
  for (const [i, [address, length]] of [[0x1000, 12] as const, ...pieces].entries()) {
    g.host.set(table + 16 * i, 8, address);
    g.host.set(table + 16 * i + 8, 4, length);
    g.host.set(table + 16 * i + 12, 2, i < 40 ? 1 : 0);
    g.host.set(table + 16 * i + 14, 2, i + 1);
  }
  g.describe(TX, 100, table, 41 * 16, 4);
  g.available(TX, 100);
  g.notify(TX);
  assert.is(g.nic.counters().bytesCopied, 2 * s.bytes.length);
  g.chain(TX, 101, [0x1000, 12, 0], [BUFFERS, s.bytes.length, 0]);
  g.notify(TX);
  assert.is(g.nic.counters().bytesCopied, 2 * s.bytes.length);
  assert.is(g.peer.frames.length, 3);
  for (const [i, sent] of g.peer.frames.entries()) {
    assert.equal(sent, s.bytes);
    assert.equal(g.peer.offloads[i], offloadOf(s, { gso: "tcp4", gsoSize: 1448 }));
  }
});

test("an offloaded frame that is answered `later` comes again with its offload", () => {
  const g = taker({ features: F_HOST });
  g.peer.verdict = () => "later";
  const s = segment(4000);
  send(g, header(1, 0x81, s.end, 1000, s.transport, 16), s.bytes);
  assert.is(g.usedIdx(TX), 0);
  g.chain(TX, 4, [BUFFERS + 0x8000, 12, 0], [BUFFERS + 0x1000, 100, 0]);
  g.peer.verdict = () => "taken";
  g.nic.net.ready(0);
  assert.equal(g.peer.offloads, [offloadOf(s, { gso: "tcp4", gsoSize: 1000, ecn: true }), null]);
});

// ------------------------------------------------------------------------------------------------ receive

const post = (g: Guest, n = 60, size = 2048): void => {
  for (let i = 0; i < n; i++) g.post(i, BUFFERS + 0x1000 * i, size);
};
const headerOf = (g: Guest, i = 0): number[] => [...g.host.copyOf(BUFFERS + 0x1000 * g.entry(RX, i)[0], 12)];

test("VIO-255 VIO-259 the card says what its driver takes: nothing before it has accepted anything", () => {
  const limitsOf = (g: Guest) => {
    const { csum, tso4, tso6, uso, ufo, holds } = g.nic.net.accepts();
    return { csum, tso4, tso6, uso, ufo, holds };
  };
  const nothing = { csum: false, tso4: false, tso6: false, uso: false, ufo: false, holds: true };
  assert.equal(limitsOf(new Guest()), nothing);
  assert.equal(limitsOf(new Guest({ features: F_GUEST_CSUM })), { ...nothing, csum: true });
  assert.equal(limitsOf(new Guest({ features: F_GUEST_CSUM + F_GUEST_TSO4 })), { ...nothing, csum: true, tso4: true });
  assert.equal(limitsOf(new Guest({ features: F_GUEST_CSUM + F_GUEST_TSO6 })), { ...nothing, csum: true, tso6: true });
  assert.equal(limitsOf(new Guest({ features: F_GUEST_CSUM, high: H_GUEST })), { ...nothing, csum: true, uso: true });
  assert.equal(limitsOf(new Guest({ features: F_GUEST_CSUM, high: H_GUEST_USO4 })), { ...nothing, csum: true });
  assert.equal(limitsOf(new Guest({ features: F_GUEST_CSUM + F_GUEST_UFO })), { ...nothing, csum: true, ufo: true });
  assert.equal(limitsOf(new Guest({ features: F_GUEST_TSO4 })), nothing, "TSO without its checksum");
  assert.equal(limitsOf(new Guest({ features: F_GUEST_UFO })), nothing, "UFO without its checksum");
  const g = new Guest({ features: F_GUEST + F_GUEST_UFO, high: H_GUEST });
  assert.equal(limitsOf(g), { csum: true, tso4: true, tso6: true, uso: true, ufo: true, holds: true });
  g.status = 0;
  assert.equal(limitsOf(g), nothing);
});

test("VIO-256 VIO-262 an open checksum is described by where it starts and where it goes, tags included", () => {
  for (const tags of [0, 1, 2]) {
    const g = new Guest({ features: F_GUEST_CSUM });
    post(g);
    const s = segment(500, { tags });
    assert.is(g.receive(s.bytes, offloadOf(s)), "taken");
    const start = 14 + 4 * tags + 20;
    assert.equal(headerOf(g), [1, 0, 0, 0, 0, 0, start, 0, 16, 0, 1, 0]);
    const arrived = g.host.copyOf(BUFFERS + 12, s.bytes.length);
    assert.equal(arrived, s.bytes);
    // What the driver completes by these numbers is right.
    const sum = 0xffff - sumFrom(arrived, start);
    arrived.set([sum >>> 8, sum & 0xff], start + 16);
    const pseudo = 0x0a00 + 1 + 0x0a00 + 2 + 6 + (arrived.length - start);
    assert.is(sumFrom(arrived, start, pseudo), 0xffff);
    g.receive(frame(60));
    assert.equal(headerOf(g, 1), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "nothing is left for the next one");
  }
});

test("VIO-255 VIO-258 DATA_VALID is for verified frames and for drivers with GUEST_CSUM", () => {
  const verified = { ...offloadOf(segment(10)), needsCsum: false, dataValid: true };
  for (const [features, offload, flags] of [
    [F_GUEST_CSUM, verified, 2],
    [F_GUEST_CSUM, { ...verified, dataValid: false }, 0],
    [F_GUEST_CSUM, null, 0],
    [0, verified, 0],
  ] as const) {
    const g = new Guest({ features });
    post(g);
    assert.is(g.receive(segment(10).bytes, offload), "taken");
    assert.equal(headerOf(g), [flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
  }
});

test("VIO-260 VIO-261 VIO-262 VIO-264 VIO-265 a whole segment: type, size, and where its headers are by the packet itself", () => {
  for (const [gso, type] of [["tcp4", 1], ["tcp6", 4], ["udp", 5], ["udpfrag", 3]] as const) // biome-ignore format: pairs
    for (const tags of [0, 1, 2])
      for (const options of [0, 8, 24])
        for (const tcpOptions of type === 5 || type === 3 ? [0] : [0, 12, 40]) {
          const s = segment(5000, { ...shapeOf(gso), tags, options, tcpOptions });
          const g = new Guest({ features: F_GUEST + F_GUEST_UFO + F_MRG_RXBUF, high: H_GUEST });
          post(g);
          // A sender may have said anything about where the checksum starts.
          const offload = offloadOf(s, { gso, gsoSize: 1400, csumStart: 14, csumOffset: 2 });
          assert.is(g.receive(s.bytes, offload), "taken");
          const { transport } = s;
          const end = transport + (s.csumOffset === 6 ? 8 : 20 + tcpOptions);
          const fields = [end, 1400, transport, s.csumOffset, 3].flatMap((w) => [w & 0xff, w >>> 8]);
          assert.equal(headerOf(g), [1, type, ...fields]);
        }
});

test("VIO-263 ECN is told with GUEST_ECN only", () => {
  const s = segment(5000);
  const offload = offloadOf(s, { gso: "tcp4", gsoSize: 1400, ecn: true });
  const g = new Guest({ features: F_GUEST + F_MRG_RXBUF });
  post(g);
  g.receive(s.bytes, offload);
  assert.is(headerOf(g)[1], 0x81);
  const without = new Guest({ features: F_GUEST - F_GUEST_ECN + F_MRG_RXBUF });
  post(without);
  assert.is(without.receive(s.bytes, offload), "dropped");
  assert.is(without.usedIdx(RX), 0);
  assert.is(without.receive(s.bytes, { ...offload, ecn: false }), "taken");
  // On a cable such a segment is cut, and arrives.
  const cut = new Guest({ features: F_GUEST - F_GUEST_ECN + F_MRG_RXBUF });
  post(cut);
  cut.nic.net.attach(null);
  const far = new FarPort(ALL);
  connect(cut.nic.net, far);
  assert.is(far.cable?.offer(s.bytes, 0, s.bytes.length, offload, 0), "taken");
  assert.is(cut.usedIdx(RX), 4);
  assert.is(headerOf(cut)[1], 0);
  assert.is(far.cable?.offer(s.bytes, 0, s.bytes.length, { ...offload, ecn: false }, 0), "taken");
  assert.is(headerOf(cut, 4)[1], 1);
});

test("VIO-259 what the driver does not take is not delivered, nor what is no such segment", () => {
  const tcp = segment(5000);
  const six = segment(5000, { version: 6 });
  const udp = segment(5000, { protocol: "udp" });
  const gso = (s: typeof tcp, kind: Offload["gso"]) => offloadOf(s, { gso: kind, gsoSize: 1400 });
  const all = { features: F_GUEST + F_MRG_RXBUF, high: H_GUEST };
  for (const [options, s, offload, why] of [
    [{ ...all, features: all.features - F_GUEST_TSO4 }, tcp, gso(tcp, "tcp4"), "no TSO4"],
    [{ ...all, features: all.features - F_GUEST_TSO6 }, six, gso(six, "tcp6"), "no TSO6"],
    [{ ...all, high: 0 }, udp, gso(udp, "udp"), "no USO"],
    [all, udp, gso(udp, "udpfrag"), "no UFO"],
    [{ ...all, features: all.features + F_GUEST_UFO }, tcp, gso(tcp, "udpfrag"), "TCP as UDP to fragment"],
    [{ ...all, features: all.features - F_GUEST_CSUM }, tcp, offloadOf(tcp), "no checksum"],
    [all, six, gso(six, "tcp4"), "IPv6 as TSO4"],
    [all, tcp, gso(tcp, "tcp6"), "IPv4 as TSO6"],
    [all, udp, gso(udp, "tcp4"), "UDP as TCP"],
    [all, tcp, gso(tcp, "udp"), "TCP as UDP"],
    [all, tcp, { ...gso(tcp, "tcp4"), gsoSize: 0 }, "segments of nothing"],
    [all, tcp, { ...gso(tcp, "tcp4"), needsCsum: false }, "no open checksum"],
    [all, tcp, offloadOf({ transport: tcp.bytes.length - 1, csumOffset: 0 }), "outside the frame"],
    [all, segment(0), gso(tcp, "tcp4"), "no payload"],
  ] as const) {
    const g = new Guest(options);
    post(g);
    assert.is(g.receive(s.bytes, offload), "dropped", why);
    assert.is(g.usedIdx(RX), 0, why);
    assert.is(g.nic.counters().rxFiltered, 1);
    assert.is(g.receive(frame(60)), "taken");
  }
});

test("64 KiB over merged buffers: all but the last full, one index update, num_buffers tells", () => {
  for (const [size, buffers] of [
    [2048, 33],
    [4096, 17],
    [65_562, 1],
  ] as const) {
    // biome-ignore format: pairs
    const g = new Guest({ features: F_GUEST + F_MRG_RXBUF });
    for (let i = 0; i < 40; i++) g.post(i, BUFFERS + size * (i % 40), size);
    const s = segment(65_535 - 40);
    assert.is(g.receive(s.bytes, offloadOf(s, { gso: "tcp4", gsoSize: 1448 })), "taken");
    assert.is(g.usedIdx(RX), buffers);
    assert.is(g.host.get(BUFFERS + 10, 2), buffers);
    let left = 12 + s.bytes.length;
    for (let i = 0; i < buffers; i++, left -= size) assert.equal(g.entry(RX, i), [i, Math.min(size, left)]);
    assert.equal(g.host.copyOf(BUFFERS + 12, s.bytes.length), s.bytes);
    assert.is(g.host.levels.length, 1);
  }
});

test("64 KiB without merged buffers: into a buffer of 65562 bytes, else dropped and the buffer stays", () => {
  const s = segment(65_535 - 40);
  for (const [size, verdict] of [
    [65_561, "taken"],
    [65_560, "dropped"],
  ] as const) {
    // biome-ignore format: pairs
    const g = new Guest({ features: F_GUEST });
    g.post(0, BUFFERS, size);
    const bytes = s.bytes;
    assert.is(bytes.length + 12, 65_561);
    assert.is(g.receive(bytes, offloadOf(s, { gso: "tcp4", gsoSize: 1448 })), verdict);
    assert.is(g.usedIdx(RX), verdict === "taken" ? 1 : 0);
  }
});

// ------------------------------------------------------------------------------------------------ control queue

const le64 = (...bits: readonly number[]): number[] =>
  Array.from({ length: 8 }, (_, byte) => bits.reduce((v, b) => (b >> 3 === byte ? v | (1 << (b & 7)) : v), 0));

const control = (features = F_GUEST, high = H_GUEST): Guest => {
  const g = new Guest({ features: F_CTRL_VQ + F_CTRL_GUEST_OFFLOADS + F_MRG_RXBUF + features, high });
  post(g);
  return g;
};

test("VIO-316 GUEST_OFFLOADS_SET takes accepted offloads only, and eight bytes", () => {
  const g = control(F_GUEST_CSUM + F_GUEST_TSO4, 0);
  assert.is(g.command(5, 0, le64(1, 7)), OK);
  for (const bit of [0, 2, 8, 9, 10, 11, 15, 54, 55, 61, 63]) {
    assert.is(g.command(5, 0, le64(1, 7, bit)), ERR, `bit ${bit}`);
    assert.ok(g.nic.net.accepts().tso4, "nothing has changed");
  }
  const ufo = control(F_GUEST_CSUM + F_GUEST_UFO, 0);
  assert.is(ufo.command(5, 0, le64(1)), OK);
  assert.is(ufo.nic.net.accepts().ufo, false);
  assert.is(ufo.command(5, 0, le64(1, 10)), OK);
  assert.is(ufo.nic.net.accepts().ufo, true);
  assert.is(g.command(5, 0, le64(1).slice(1)), ERR);
  assert.is(g.command(5, 0, [...le64(1), 0]), ERR);
  assert.is(g.command(5, 1, le64(1)), ERR);
  assert.is(g.command(5, 0, le64()), OK);
  const without = new Guest({ features: F_CTRL_VQ + F_GUEST_CSUM });
  assert.is(without.command(5, 0, le64(1)), ERR, "CTRL_GUEST_OFFLOADS was not accepted");
  assert.ok(without.nic.net.accepts().csum);
});

test("VIO-317 VIO-259 what is switched off is not used for the next frame, what is switched on again is", () => {
  const g = control();
  const s = segment(3000);
  const whole = offloadOf(s, { gso: "tcp4", gsoSize: 1448 });
  const verdicts = (): string[] => [
    g.receive(s.bytes, { ...whole, ecn: true }),
    g.receive(s.bytes, whole),
    g.receive(s.bytes, offloadOf(s)),
    g.receive(s.bytes, { ...whole, needsCsum: false, gso: "none", dataValid: true }),
  ];
  assert.equal(verdicts(), ["taken", "taken", "taken", "taken"]);
  assert.is(g.command(5, 0, le64(1, 7, 8)), OK);
  assert.equal(verdicts(), ["dropped", "taken", "taken", "taken"]);
  assert.is(g.command(5, 0, le64(1)), OK);
  assert.equal(verdicts(), ["dropped", "dropped", "taken", "taken"]);
  const { tso4, tso6, uso } = g.nic.net.accepts();
  assert.equal([tso4, tso6, uso], [false, false, false]);
  assert.is(g.command(5, 0, le64(7, 8, 9)), OK, "TSO without the checksum does nothing");
  assert.equal(verdicts(), ["dropped", "dropped", "dropped", "taken"]);
  assert.is(headerOf(g, g.usedIdx(RX) - 2)[0], 0, "nor is a frame told to be verified");
  assert.is(g.command(5, 0, le64(1, 7, 8, 9, 54, 55)), OK);
  g.setUp();
  g.driverOk();
  post(g);
  assert.equal(verdicts(), ["taken", "taken", "taken", "taken"], "all are on after a new negotiation");
});

test("VIO-242 VIO-313 announcing: the status bit and an interrupt, until the driver acknowledges", () => {
  const g = new Guest({ features: F_CTRL_VQ + F_GUEST_ANNOUNCE });
  assert.is(g.command(3, 0, []), ERR, "not asked");
  assert.ok(g.nic.announce());
  assert.is(g.isr & 2, 2);
  assert.is(g.config(6, 2), 3);
  assert.is(g.command(3, 0, [0]), ERR, "it has no data");
  assert.is(g.config(6, 2), 3);
  assert.is(g.command(3, 0, []), OK);
  assert.is(g.config(6, 2), 1);
  assert.is(g.command(3, 0, []), ERR);
  g.nic.announce();
  g.nic.setLink(false);
  assert.is(g.config(6, 2), 2);
  g.status = 0;
  assert.is(g.config(6, 2), 0, "a reset forgets it");
  assert.not(g.nic.announce());
  g.setUp();
  assert.not(g.nic.announce(), "not before DRIVER_OK, though it is accepted");
  assert.is(g.config(6, 2), 0);
  const without = new Guest({ features: F_CTRL_VQ });
  assert.not(without.nic.announce());
  assert.is(without.config(6, 2), 1);
  assert.not(without.host.intx);
});

// ------------------------------------------------------------------------------------------------ hostile

test("VIO-206 random headers on random bytes: each chain is used once, and what goes on is what was described", () => {
  const byte = fc.nat(255);
  const head = fc.oneof(
    fc.array(byte, { minLength: 12, maxLength: 12 }),
    fc.record({ type: fc.constantFrom(0, 1, 4, 5, 0x81, 0x84, 3), size: fc.nat(3000), start: fc.nat(120), at: fc.nat(30) })
      .map(({ type, size, start, at }) => header(1, type, 54, size, start, at)),
  ); // biome-ignore format: two kinds
  fc.assert(
    fc.property(fc.array(fc.tuple(head, fc.nat(3000), fc.nat(3)), { minLength: 1, maxLength: 8 }), (sends) => {
      const g = taker({ features: F_HOST + F_HOST_UFO, high: H_HOST_USO, size: 64 });
      for (const [k, [bytes, payload, shape]] of sends.entries()) {
        const s = segment(payload, { version: shape & 1 ? 6 : 4, protocol: shape & 2 ? "udp" : "tcp" });
        send(g, bytes, s.bytes);
        assert.is(g.usedIdx(TX), k + 1);
        assert.equal(g.entry(TX, k), [0, 0]);
        for (const offload of g.peer.offloads.splice(0)) {
          if (offload === null) continue;
          assert.ok(offload.needsCsum);
          assert.ok(offload.csumStart + offload.csumOffset + 2 <= s.bytes.length);
          assert.is(offload.gsoSize > 0, offload.gso !== "none");
        }
      }
      assert.ok(g.host.guardsIntact());
    }),
    { numRuns: 80 },
  );
});

test("VIO-206 random offloads of random frames from the cable: never throws, and headers keep to the rules", () => {
  const shape = fc.record({ version: fc.constantFrom<4 | 6>(4, 6), tags: fc.nat(2), options: fc.constantFrom(0, 8) });
  const offload = fc.record({
    needsCsum: fc.boolean(),
    csumStart: fc.nat(200),
    csumOffset: fc.nat(70_000),
    dataValid: fc.boolean(),
    gso: fc.constantFrom<Offload["gso"]>("none", "tcp4", "tcp6", "udp", "udpfrag"),
    gsoSize: fc.nat(0xffff),
    ecn: fc.boolean(),
  });
  fc.assert(
    fc.property(shape, fc.nat(2000), offload, fc.nat(0x3ff), fc.array(fc.tuple(fc.nat(120), fc.nat(255))), (sh, payload, o, f, pokes) => {
      const guest = [F_GUEST_CSUM, F_GUEST_TSO4, F_GUEST_TSO6, F_GUEST_ECN];
      const features = [...guest, 0, F_GUEST_UFO].filter((_, i) => (f & (1 << i)) !== 0);
      const g = new Guest({ features: features.reduce((a, b) => a + b, F_MRG_RXBUF), high: (f & 16) !== 0 ? H_GUEST : 0, size: 64 });
      post(g, 40, 1000);
      const s = segment(payload, sh);
      for (const [at, value] of pokes) if (at < s.bytes.length) s.bytes[at] = value;
      if (g.receive(s.bytes, o) !== "taken") return;
      const [flags = 0, type = 0] = headerOf(g);
      const at = BUFFERS + 0x1000 * g.entry(RX, 0)[0];
      const [hdrLen, gsoSize, start, offset] = [2, 4, 6, 8].map((word) => g.host.get(at + word, 2));
      assert.ok([0, 1, 2].includes(flags));
      if (!features.includes(F_GUEST_CSUM)) assert.equal([flags, type], [0, 0]);
      if ((flags & 1) !== 0) assert.ok(start! + offset! + 2 <= s.bytes.length);
      if (type === 0) return;
      assert.is(flags, 1);
      assert.ok(gsoSize! > 0 && hdrLen! >= start! + 8 && hdrLen! < s.bytes.length);
      assert.is((type & 0x80) !== 0, o.ecn);
    }), // biome-ignore format: one property
    { numRuns: 100 },
  );
});

/** A port that keeps what arrives, with limits of its own. */
class FarPort extends Peer implements NetPort {
  constructor(limits: EndpointLimits) {
    super();
    this.limits = limits;
  }
  cable: NetEndpoint | null = null;
  attach(far: NetEndpoint | null): void {
    this.cable = far;
  }
}

test.run();
