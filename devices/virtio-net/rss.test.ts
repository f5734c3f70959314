import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../src/bytes/index.js";
import { virtioNet } from "./index.js";
import {
  BUFFERS,
  F_CTRL_VQ,
  F_MQ,
  F_MRG_RXBUF,
  frame,
  Guest,
  type GuestOptions,
  H_HASH_REPORT,
  H_RING_RESET,
  H_RSS,
  WRITE,
} from "./testing.js";

const OK = 0;
const ERR = 1;
const PAIRS = 4;

// The verification suite that Microsoft publishes with RSS ("Verifying the RSS Hash Calculation").
const KEY = [..."6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa".matchAll(/../g)].map(
  ([byte]) => Number.parseInt(byte, 16),
);
/** [destination, port, source, port, hash of the addresses, hash with ports] */
const VECTORS_4 = [
  ["161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e8fc2, 0x51ccc178],
  ["65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718262a, 0xc626b0ea],
  ["12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0a5de, 0x5c2b394a],
  ["209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xafc7327f],
  ["202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d1809c5, 0x10e828a2],
] as const;
const VECTORS_6 = [
  ["3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc18cd5, 0x40207d3d],
  ["ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c461c, 0xdde51bbf],
  ["fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4b61e985, 0x02d1feef],
] as const;
type Vector = (typeof VECTORS_4 | typeof VECTORS_6)[number];

const be16 = (value: number): number[] => [value >> 8, value & 0xff];
const le16 = (value: number): number[] => [value & 0xff, value >> 8];
const le32 = (value: number): number[] => [...le16(value & 0xffff), ...le16(value >>> 16)];
const address = (text: string): number[] => {
  if (!text.includes(":")) return text.split(".").map(Number);
  const [head = "", tail = ""] = text.split("::");
  const words = (part: string) => (part === "" ? [] : part.split(":").map((word) => Number.parseInt(word, 16)));
  const zeros = new Array<number>(8 - words(head).length - words(tail).length).fill(0);
  return [...words(head), ...zeros, ...words(tail)].flatMap(be16);
};

interface Shape {
  readonly protocol?: number;
  readonly tags?: number;
  /** bytes of IPv4's flags and offset */
  readonly fragment?: number;
  /** IPv6 extension headers: [number of the header, its bytes from the second on] */
  readonly extensions?: readonly (readonly [number, readonly number[]])[];
  /** addresses of the header, where those of the vector stand elsewhere */
  readonly source?: readonly number[];
  readonly destination?: readonly number[];
  readonly transport?: readonly number[];
}

const ETHERNET = [0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1];
const packet = ([to, toPort, from, fromPort]: Vector, shape: Shape = {}): Uint8Array => {
  const { protocol = 6, tags = 0, fragment = 0x4000, extensions = [] } = shape;
  const source = shape.source ?? address(from);
  const destination = shape.destination ?? address(to);
  const rest = protocol === 6 ? [0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0] : [0, 12, 0, 0];
  const transport = shape.transport ?? [...be16(fromPort), ...be16(toPort), ...rest, 1, 2, 3, 4];
  const vlan = Array.from({ length: tags }, (_, i) => [...be16(i === 0 && tags === 2 ? 0x88a8 : 0x8100), 0, 5]).flat();
  if (source.length === 4) {
    const length = be16(20 + transport.length);
    const ip = [0x45, 0, ...length, 0, 1, ...be16(fragment), 64, protocol, 0, 0, ...source, ...destination];
    return Uint8Array.from([...ETHERNET, ...vlan, 0x08, 0x00, ...ip, ...transport]);
  }
  const numbers = [...extensions.map(([number]) => number), protocol];
  const headers = extensions.flatMap(([, bytes], i) => [numbers[i + 1]!, ...bytes]);
  const ip = [0x60, 0, 0, 0, ...be16(headers.length + transport.length), numbers[0]!, 64, ...source, ...destination];
  return Uint8Array.from([...ETHERNET, ...vlan, 0x86, 0xdd, ...ip, ...headers, ...transport]);
};

interface Rss {
  types?: number;
  mask?: number;
  unclassified?: number;
  table?: readonly number[];
  maxTx?: number;
  key?: readonly number[];
}
const rssConfig = ({ types = 0x1ff, mask, unclassified = 0, table = [0], maxTx = 1, key = KEY }: Rss): number[] => [
  ...le32(types),
  ...le16(mask ?? table.length - 1),
  ...le16(unclassified),
  ...table.flatMap(le16),
  ...le16(maxTx),
  key.length,
  ...key,
];
const hashConfig = (types: number, key: readonly number[] = KEY): number[] => [
  ...le32(types),
  ...new Array<number>(8).fill(0),
  key.length,
  ...key,
];

const start = (options: GuestOptions = {}): Guest => {
  const { card, ...rest } = options;
  const g = new Guest({
    features: F_CTRL_VQ + F_MQ,
    high: H_RSS + H_HASH_REPORT,
    card: { queuePairs: PAIRS, rss: true, hash: true, ...card },
    pairs: PAIRS,
    size: 16,
    ...rest,
  });
  for (let pair = 0; pair < PAIRS; pair++) for (let i = 0; i < 16; i++) g.post(i, bufferOf(pair, i), 2048, 2 * pair);
  return g;
};
const bufferOf = (pair: number, i: number): number => BUFFERS + 0x1_0000 * pair + 0x1000 * i;
const received = (g: Guest): number[] => Array.from({ length: PAIRS }, (_, pair) => g.usedIdx(2 * pair));

/** [pair, hash value, hash report, padding] of a frame. */
const deliver = (g: Guest, bytes: Uint8Array): number[] => {
  const before = received(g);
  assert.is(g.receive(bytes), "taken");
  const pair = received(g).findIndex((count, i) => count !== before[i]);
  const [head] = g.entry(2 * pair, before[pair]!);
  const at = bufferOf(pair, head);
  const result = [pair, g.host.get(at + 12, 4), g.host.get(at + 16, 2), g.host.get(at + 18, 2)];
  assert.equal([...g.host.copyOf(at + 20, bytes.length)], [...bytes], "the frame stands behind 20 bytes");
  g.host.put(at, new Uint8Array(20).fill(0xee));
  g.available(2 * pair, head);
  return result;
};

test("VIO-234 VIO-235 RSS or HASH_REPORT: keys of 40 bytes, tables of 128 entries, nine types of hashes", () => {
  for (const [options, high] of [
    [{ rss: true }, H_RSS],
    [{ hash: true }, H_HASH_REPORT],
    [{ rss: true, hash: true, queuePairs: 4, mtu: 1500 }, H_RSS + H_HASH_REPORT],
  ] as const) {
    const nic = virtioNet({ ...options, offloads: false });
    nic.barWrite(4, 0, 4, 1);
    assert.is(nic.barRead(4, 4, 4), high + 1);
    assert.is(nic.barRead(4, 0x2011, 1), 40);
    assert.is(nic.barRead(4, 0x2012, 2), 128);
    assert.is(nic.barRead(4, 0x2014, 4), 0x1ff);
    assert.is(nic.barRead(4, 0x2018, 4), 0xffff_ffff, "no tunnels");
    assert.is(nic.barRead(4, 0x2008, 2), "queuePairs" in options ? 4 : 1);
  }
  const nic = virtioNet({ offloads: false });
  nic.barWrite(4, 0, 4, 1);
  assert.is(nic.barRead(4, 4, 4), 1);
  assert.is(nic.barRead(4, 0x2011, 1), 0xff);
  for (const options of [{ rss: true }, { hash: true }, { notfCoal: true }])
    assert.throws(
      () => virtioNet({ personality: "legacy", ...options }),
      (error: unknown) => error instanceof ConfigError && error.code === "virtio-personality",
    );
});

test("VIO-236 RSS accepted without MQ puts the control queue behind all pairs, too", () => {
  const g = start({ features: F_CTRL_VQ, high: H_RSS });
  assert.is(g.nic.barRead(4, 0x12, 2), 9);
  assert.is(g.command(4, 1, rssConfig({})), OK);
  assert.is(g.command(4, 0, [2, 0]), ERR, "pairs are set with MQ");
});

test("VIO-321 hashes are those of Microsoft's verification suite, the most specific type first", () => {
  const g = start();
  for (const [vectors, ip, tcp, udp] of [
    [VECTORS_4, 1, 2, 3],
    [VECTORS_6, 4, 5, 6],
  ] as const)
    for (const vector of vectors) {
      const [, , , , addresses, ports] = vector;
      const bit = (report: number) => 1 << (report - 1);
      const all = bit(ip) | bit(tcp) | bit(udp);
      for (const tags of [0, 1, 2])
        for (const [types, protocol, hash, report] of [
          [all, 6, ports, tcp],
          [all, 17, ports, udp],
          [all, 1, addresses, ip],
          [all & ~bit(tcp), 6, addresses, ip],
          [all & ~bit(udp), 17, addresses, ip],
          [bit(tcp), 6, ports, tcp],
          [bit(udp), 17, ports, udp],
          [bit(tcp), 17, 0, 0],
          [bit(udp), 6, 0, 0],
          [0x1ff ^ all, 6, 0, 0],
          [0, 6, 0, 0],
        ] as const) {
          assert.is(g.command(4, 2, hashConfig(types)), OK);
          const what = `${vector[2]}, types ${types}, protocol ${protocol}, ${tags} tags`;
          assert.equal(deliver(g, packet(vector, { protocol, tags })), [0, hash, report, 0], what);
        }
    }
});

test("VIO-321 fragments and packets without a whole transport header have no ports to hash", () => {
  const g = start();
  g.command(4, 2, hashConfig(0x1ff));
  const [v4] = VECTORS_4;
  const [v6] = VECTORS_6;
  for (const fragment of [0x2000, 0x0001, 0x3fff, 0x1000])
    assert.equal(deliver(g, packet(v4, { fragment })), [0, 0x323e8fc2, 1, 0], `${fragment}`);
  assert.equal(deliver(g, packet(v4, { fragment: 0xc000 })), [0, 0x51ccc178, 2, 0], "do not fragment");
  for (const [protocol, least] of [
    [6, 20],
    [17, 8],
  ] as const)
    for (const length of [0, 3, least - 1, least]) {
      const transport = [...be16(2794), ...be16(1766), ...new Array<number>(30).fill(0)].slice(0, length);
      const [hash, report] = length === least ? [0x51ccc178, protocol === 6 ? 2 : 3] : [0x323e8fc2, 1];
      assert.equal(deliver(g, packet(v4, { protocol, transport })), [0, hash, report, 0], `${protocol}: ${length}`);
    }
  // A fragment header: of a first fragment, of a later one, and of a packet that is whole after all.
  for (const [bytes, hash, report] of [
    [[0, 0, 1, 0, 0, 0, 9], 0x2cc18cd5, 7],
    [[0, 0, 8, 0, 0, 0, 9], 0x2cc18cd5, 7],
    [[0, 0, 0, 0, 0, 0, 9], 0x40207d3d, 8],
  ] as const)
    assert.equal(deliver(g, packet(v6, { extensions: [[44, bytes]] })), [0, hash, report, 0]);
  for (const length of [14, 15, 33, 14 + 39]) deliver(g, packet(length < 40 ? v4 : v6).slice(0, length));
  assert.equal(deliver(g, packet(v4).slice(0, 33)), [0, 0, 0, 0], "a header cut off");
  assert.equal(deliver(g, packet(v6).slice(0, 53)), [0, 0, 0, 0]);
  const short = packet(v4);
  short[14] = 0x44;
  assert.equal(deliver(g, short), [0, 0, 0, 0], "a header shorter than one");
  assert.equal(deliver(g, frame(60)), [0, 0, 0, 0], "no IP");
  assert.equal(deliver(g, packet(v4, { tags: 2 })), [0, 0x51ccc178, 2, 0]);
  assert.equal(deliver(g, packet(v4, { tags: 3 })), [0, 0, 0, 0], "more tags than there are");
});

test("VIO-321 extension headers: home address and routing header take the addresses' place", () => {
  const g = start();
  const elsewhere = address("2001:db8::77");
  const padded = (bytes: readonly number[], length: number) => [
    ...bytes,
    ...new Array<number>(length - bytes.length).fill(0),
  ];
  for (const vector of VECTORS_6) {
    const [to, , from, , addresses, ports] = vector;
    // Option 201 behind two Pad1 and a PadN, and behind another option. RFC 6275 §6.3
    const home = [60, [2, 0, 0, 1, 0, 201, 16, ...address(from)]] as const;
    const homeLater = [60, [3, 5, 4, 1, 2, 3, 4, 201, 16, ...address(from), 1, 4, 0, 0, 0, 0]] as const;
    const route = [43, [2, 2, 1, 0, 0, 0, 0, ...address(to)]] as const;
    const source = elsewhere;
    const destination = elsewhere;
    for (const [protocol, report, hash] of [
      [6, 8, ports],
      [17, 9, ports],
      [58, 7, addresses],
    ] as const) {
      g.command(4, 2, hashConfig(0x1c0));
      for (const shape of [
        { extensions: [home, route], source, destination },
        { extensions: [homeLater, route], source, destination },
        { extensions: [[0, padded([0, 5, 2], 7)], route, home], source, destination },
        { extensions: [route], destination },
        { extensions: [home], source },
        { extensions: [[60, padded([0, 1, 4], 7)]] },
      ] as const)
        assert.equal(deliver(g, packet(vector, { protocol, ...shape })), [0, hash, report, 0], JSON.stringify(shape));
      assert.equal(
        deliver(g, packet(vector, { protocol })),
        [0, 0, 0, 0],
        "without extensions these types do not count",
      );
    }
    // Without the types for them, extension headers are skipped, and the addresses are those of the header.
    for (const [types, protocol, report, hash] of [
      [0x38, 6, 5, ports],
      [0x38, 17, 6, ports],
      [0x38, 58, 4, addresses],
      [0x78, 6, 7, addresses],
      [0x08, 6, 4, addresses],
    ] as const) {
      g.command(4, 2, hashConfig(types));
      const extensions = [[0, padded([0, 1, 4], 7)]] as const;
      assert.equal(deliver(g, packet(vector, { protocol, extensions })), [0, hash, report, 0]);
    }
    // Not these: another routing type, another length, an option that is no address, one that is cut off.
    g.command(4, 2, hashConfig(0x1c0));
    for (const extension of [
      [43, [2, 0, 1, 0, 0, 0, 0, ...elsewhere]],
      [43, [4, 2, 1, 0, 0, 0, 0, ...elsewhere, ...elsewhere]],
      [60, [2, 201, 15, ...elsewhere, 1, 2, 0, 0]],
      [60, [1, 201, 16, ...elsewhere.slice(0, 12)]],
    ] as const)
      assert.equal(deliver(g, packet(vector, { extensions: [extension] })), [0, ports, 8, 0], `${extension}`);
    // Beyond sixteen headers, and cut off, nothing is known of what follows.
    const many = (count: number) => new Array(count).fill([0, padded([0, 1, 4], 7)]);
    assert.equal(deliver(g, packet(vector, { extensions: many(16) })), [0, ports, 8, 0]);
    assert.equal(deliver(g, packet(vector, { extensions: many(17) })), [0, addresses, 7, 0]);
    assert.equal(deliver(g, packet(vector, { extensions: [[0, padded([255, 1, 4], 7)]] })), [0, addresses, 7, 0]);
    assert.equal(deliver(g, packet(vector, { extensions: many(1) }).slice(0, 61)), [0, addresses, 7, 0]);
  }
});

test("VIO-239 VIO-240 HASH_REPORT makes the header 20 bytes, received and sent", () => {
  const g = start({ features: F_CTRL_VQ + F_MQ + F_MRG_RXBUF });
  g.command(4, 2, hashConfig(0x1ff));
  const at = BUFFERS + 0x8_0000;
  const bytes = frame(60);
  g.host.put(at, new Uint8Array(20));
  g.host.put(at + 20, bytes);
  g.chain(1, 0, [at, 80, 0]);
  g.notify(1);
  assert.equal([...g.peer.frames[0]!], [...bytes]);
  for (let length = 0; length < 20 + 14; length++) {
    g.chain(1, 0, [at, length, 0]);
    g.notify(1);
  }
  assert.is(g.peer.frames.length, 1);
  assert.is(g.nic.counters().txDropped, 34);
  // Cut in the middle of the header, and with the frame in further buffers of which only the first has one.
  g.status = 0;
  g.setUp();
  g.driverOk();
  g.command(4, 2, hashConfig(0x1ff));
  const [vector] = VECTORS_4;
  const f = packet(vector);
  g.chain(0, 0, [BUFFERS, 13, WRITE], [BUFFERS + 0x1000, 4, WRITE], [BUFFERS + 0x2000, 13, WRITE]);
  g.chain(0, 3, [BUFFERS + 0x3000, 100, WRITE]);
  assert.is(g.receive(f), "taken");
  const header = [
    ...g.host.copyOf(BUFFERS, 13),
    ...g.host.copyOf(BUFFERS + 0x1000, 4),
    ...g.host.copyOf(BUFFERS + 0x2000, 3),
  ];
  assert.equal(header.slice(10), [2, 0, ...le32(0x51ccc178), 2, 0, 0, 0]);
  assert.equal([...g.host.copyOf(BUFFERS + 0x3000, f.length - 10)], [...f.slice(10)]);
  assert.equal(
    [g.entry(0, 0), g.entry(0, 1)],
    [
      [0, 30],
      [3, f.length - 10],
    ],
  );
});

test("without HASH_REPORT headers stay 12 bytes, and RSS steers all the same", () => {
  const g = start({ high: H_RSS });
  assert.is(g.command(4, 1, rssConfig({ table: [3] })), OK);
  const f = packet(VECTORS_4[0]);
  assert.is(g.receive(f), "taken");
  assert.equal(g.entry(6, 0), [0, 12 + f.length]);
  assert.is(g.command(4, 2, hashConfig(0x1ff)), ERR);
});

test("VIO-320 RSS: the hash under the mask chooses the queue, and what has none goes where it is told", () => {
  const g = start({ high: H_RSS + H_HASH_REPORT + H_RING_RESET, card: { ringReset: true } });
  const config = { types: 0x12, unclassified: 3, maxTx: 4 };
  assert.is(g.command(4, 1, rssConfig({ ...config, table: [0, 1, 2, 1] })), OK);
  // 0x51ccc178 and 0x10e828a2 and 0xafc7327f end in 0, 2, 3 modulo 4
  assert.equal(deliver(g, packet(VECTORS_4[0])), [0, 0x51ccc178, 2, 0]);
  assert.equal(deliver(g, packet(VECTORS_4[4])), [2, 0x10e828a2, 2, 0]);
  assert.equal(deliver(g, packet(VECTORS_4[3])), [1, 0xafc7327f, 2, 0]);
  assert.equal(deliver(g, packet(VECTORS_4[0], { protocol: 17 })), [3, 0, 0, 0]);
  assert.equal(deliver(g, frame(60)), [3, 0, 0, 0]);
  const table = Array.from({ length: 128 }, (_, i) => (i === 0x78 ? 1 : i === 0x22 ? 2 : 0));
  assert.is(g.command(4, 1, rssConfig({ ...config, table })), OK);
  assert.equal(
    [0, 4, 3].map((i) => deliver(g, packet(VECTORS_4[i]!))[0]),
    [1, 2, 0],
    "0x78, 0x22, 0x7f of 128",
  );
  g.out(0x16, 2, 4);
  g.out(0x3a, 2, 1);
  const { rxFiltered } = g.nic.counters();
  assert.is(g.receive(packet(VECTORS_4[4])), "dropped", "its queue is in reset, and no other may take it");
  assert.is(g.nic.counters().rxFiltered, rxFiltered + 1);
  assert.is(deliver(g, packet(VECTORS_4[0]))[0], 1);
});

test("VIO-318 an RSS configuration that does not fit is an error and changes nothing", () => {
  const g = start();
  assert.is(g.command(4, 1, rssConfig({ table: [2] })), OK);
  const good = rssConfig({ table: [0, 1] });
  const bad: readonly (readonly [string, number[]])[] = [
    ["nothing", []],
    ["too short for the mask", good.slice(0, 5)],
    ["too short for the table", good.slice(0, 9)],
    ["without a key length", good.slice(0, 14)],
    ["a byte of the key is missing", good.slice(0, -1)],
    ["a byte too many", [...good, 0]],
    ["three entries", rssConfig({ table: [0, 1, 2] })],
    ["mask of 2 for four entries", rssConfig({ mask: 2, table: [0, 1, 2, 3] })],
    ["256 entries", rssConfig({ table: new Array(256).fill(0) })],
    ["mask 0xffff", rssConfig({ mask: 0xffff })],
    ["an entry beyond the pairs", rssConfig({ table: [0, PAIRS] })],
    ["an entry with the reserved bit", rssConfig({ table: [0, 0x8000] })],
    ["unclassified beyond the pairs", rssConfig({ unclassified: PAIRS })],
    ["no transmit queue", rssConfig({ maxTx: 0 })],
    ["more transmit queues than there are", rssConfig({ maxTx: PAIRS + 1 })],
    ["a key of 41 bytes", rssConfig({ key: new Array(41).fill(1) })],
    ["a type that is none", rssConfig({ types: 0x200 })],
    ["a type of bit 31", rssConfig({ types: 0x8000_0001 })],
  ];
  for (const [what, data] of bad) assert.is(g.command(4, 1, data), ERR, what);
  assert.equal(deliver(g, packet(VECTORS_4[0])), [2, 0x51ccc178, 2, 0]);
  for (const data of [
    [],
    hashConfig(1).slice(0, 12),
    hashConfig(1).slice(0, -1),
    [...hashConfig(1), 0],
    hashConfig(0x200),
  ])
    assert.is(g.command(4, 2, data), ERR);
  assert.is(g.command(4, 2, hashConfig(1, new Array(41).fill(0))), ERR);
  assert.equal(deliver(g, packet(VECTORS_4[0])), [2, 0x51ccc178, 2, 0]);
  for (const [maxTx, unclassified] of [
    [1, 0],
    [PAIRS, PAIRS - 1],
  ] as const)
    assert.is(g.command(4, 1, rssConfig({ maxTx, unclassified, table: [PAIRS - 1, 0] })), OK);
});

test("VIO-319 a key of no bytes is accepted, also in a buffer of its own of length 0", () => {
  const g = start();
  assert.is(g.command(4, 1, rssConfig({ types: 0, key: [] })), OK, "NetKVM's first command");
  const at = BUFFERS + 0x9_0000;
  const data = rssConfig({ key: [], table: [1] });
  g.host.put(at, [4, 1, ...data]);
  g.host.set(at + 0x100, 1, 0xee);
  g.chain(g.ctrl, 0, [at, 2, 0], [at + 2, data.length, 0], [at + 0x200, 0, 0], [at + 0x100, 1, WRITE]);
  g.notify(g.ctrl);
  assert.is(g.host.get(at + 0x100, 1), OK);
  assert.is(g.status, 0x0f);
  assert.equal(deliver(g, packet(VECTORS_4[0])), [1, 0, 2, 0], "a key of zeros hashes to 0");
});

test("a short key stands in front of zeros", () => {
  const g = start();
  // Of IPv4's two addresses, the hash depends on the first 12 bytes of the key: 8 of input and 4 of window.
  assert.is(g.command(4, 2, hashConfig(1, KEY.slice(0, 12))), OK);
  assert.equal(deliver(g, packet(VECTORS_4[0])), [0, 0x323e8fc2, 1, 0]);
  assert.is(g.command(4, 2, hashConfig(1, KEY.slice(0, 4))), OK);
  assert.is.not(deliver(g, packet(VECTORS_4[0]))[1], 0x323e8fc2);
});

test("the last command says how queues are chosen, and a reset forgets all of it", () => {
  const g = start();
  const f = packet(VECTORS_4[0]);
  assert.is(deliver(g, f)[0], 0, "before any command");
  g.command(4, 1, rssConfig({ table: [3] }));
  assert.is(deliver(g, f)[0], 3);
  assert.is(g.command(4, 0, [1, 0]), OK);
  assert.equal(deliver(g, f), [0, 0x51ccc178, 2, 0], "one pair; hashes are still wanted");
  g.command(4, 1, rssConfig({ table: [3] }));
  assert.is(g.command(4, 2, hashConfig(1)), OK);
  const pairs = new Set<number>();
  for (let i = 0; i < 5; i++) pairs.add(deliver(g, packet(VECTORS_4[i]!))[0]!);
  assert.ok(pairs.size > 1, "by flow again, over all pairs");
  g.status = 0;
  g.setUp();
  for (let i = 0; i < 16; i++) g.post(i, bufferOf(0, i), 2048);
  g.driverOk();
  assert.equal(deliver(g, f), [0, 0, 0, 0]);
});

test.run();
