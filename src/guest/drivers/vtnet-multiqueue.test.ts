import { test } from "uvu";
import * as assert from "uvu/assert";
import type { TxOffload } from "../types.js";
import {
  CSUM,
  FRAME,
  frameOf,
  GUEST_CSUM,
  GUEST_UFO,
  GUEST_USO4,
  GUEST_USO6,
  HASH_REPORT,
  HEADER,
  HOST_UFO,
  HOST_USO,
  MQ,
  NOTF_COAL,
  type RigOptions,
  RSS,
  rig,
  USUAL,
  up,
  VQ_NOTF_COAL,
} from "./testing/vtnet-rig.js";

const SEVERAL: RigOptions = { features: [...USUAL, MQ], pairs: 4 };
const le16 = (n: number) => [n & 0xff, n >> 8];

/** A frame in DMA memory with these bytes, in two pieces cut at `cut`. */
const framed = (memory: ReturnType<typeof rig>["memory"], bytes: readonly number[], cut = 14) => {
  const frame = frameOf(memory, [cut, bytes.length - cut]);
  memory.copyIn(frame.paddr[0]!, Uint8Array.from(bytes), 0, cut);
  memory.copyIn(frame.paddr[1]!, Uint8Array.from(bytes), cut, bytes.length - cut);
  return frame;
};

/** Ethernet, IPv4 and the first bytes of TCP, from 10.0.0.`host` port 1000. */
const tcp4 = (host: number, port = 80, flags = 0x4000) => [
  ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0],
  ...[0x45, 0, 0, 40, 0, 1, flags >> 8, flags & 0xff, 64, 6, 0, 0, 10, 0, 0, host, 10, 0, 0, 1],
  ...[3, 0xe8, port >> 8, port & 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
];

/** Which pair a frame went out by; the device has sent it then. */
const sentBy = ({ vtnet, fake, take }: ReturnType<typeof rig>): number => {
  vtnet.kick();
  const by: number[] = [];
  for (let pair = 0; pair < vtnet.queuePairs; pair++)
    for (const { head } of take(pair)) {
      by.push(pair);
      fake.ring(2 * pair + 1).push(head, 0);
    }
  assert.is(by.length, 1);
  vtnet.kick();
  return by[0]!;
};

test("VIO-236 the control queue is behind all pairs that the device has, however many of them are used", () => {
  for (const modern of [true, false])
    for (const [queuePairs, used] of [
      [undefined, 4],
      [2, 2],
      [3, 3],
      [8, 4],
    ] as const) {
      const { vtnet, commands, fake } = up({
        ...SEVERAL,
        modern,
        vtnet: queuePairs === undefined ? {} : { queuePairs },
      });
      assert.is(vtnet.queuePairs, used);
      assert.is(vtnet.ctrlvq?.index, 8);
      assert.is(vtnet.activePairs, used);
      assert.equal(
        fake.rings.map((ring) => ring !== null),
        [...Array.from({ length: 8 }, (_, i) => i < 2 * used), true],
      );
      commands.length = 0;
      vtnet.down();
      vtnet.up();
      assert.equal(commands[0], [4, 0, ...le16(used)], "VQ_PAIRS_SET");
      assert.equal(fake.faults, []);
    }
});

test("VIO-236 a driver that wants one pair does not accept MQ, and finds the control queue at 2", () => {
  for (const options of [{ vtnet: { queuePairs: 1 } }, { without: [MQ] }]) {
    const { vtnet, commands, fake } = rig({ ...SEVERAL, queues: [16, 16, 4, 16, 16], pairs: 1, ...options });
    vtnet.up();
    assert.is(vtnet.queuePairs, 1);
    assert.is(vtnet.ctrlvq?.index, 2);
    assert.is((fake.driverFeatures >> BigInt(MQ)) & 1n, 0n);
    assert.not(commands.some(([cls]) => cls === 4));
  }
});

test("a device with no pair, or more than there can be, is not attached", () => {
  for (const pairs of [0, 0x8001]) {
    const config = [0x52, 0x54, 0, 1, 2, 3, 1, 0, ...le16(pairs), 0, 0];
    const { vtnet, memory, attached } = rig({ ...SEVERAL, config });
    assert.is(vtnet, undefined);
    assert.ok(attached.lines.some((line) => line.includes(`${pairs} pairs`)));
    assert.is(memory.live, 0);
  }
});

test("a device that refuses more pairs is driven by one", () => {
  const refusing = up({ ...SEVERAL, answer: ([cls]) => [cls === 4 ? 1 : 0] });
  assert.is(refusing.vtnet.activePairs, 1);
  assert.ok(refusing.attached.lines.some((line) => line.includes("cannot set active queue pairs to 4")));
  for (let flow = 0; flow < 5; flow++) {
    assert.ok(refusing.vtnet.transmit(frameOf(refusing.memory, [60]), null, -1, flow));
    assert.is(sentBy(refusing), 0);
  }
});

test("a message for each queue, or one for all, or the pin: every queue is served", () => {
  for (const [vectors, scheme, queue] of [
    [9, "msix", null],
    [5, "msix-shared", 0],
    [2, "msix-shared", 0],
    [0, "intx", -2],
  ] as const) {
    const r = up({ ...SEVERAL, vectors });
    assert.is((r.attached.softc as { interruptScheme: string }).interruptScheme, scheme);
    for (let pair = 0; pair < 4; pair++) {
      r.fill([...HEADER, ...FRAME.map((byte) => byte + pair)], undefined, true, pair);
      r.fake.isr = 1;
      r.interrupt(queue ?? 2 * pair);
      assert.equal(r.received.splice(0), [FRAME.map((byte) => byte + pair)], `${scheme}, queue ${2 * pair}`);
      assert.ok(r.vtnet.transmit(frameOf(r.memory, [60]), null, -1, pair));
      r.vtnet.kick();
      for (const { head } of r.take(pair)) r.fake.ring(2 * pair + 1).push(head, 0);
      r.fake.isr = 1;
      r.interrupt(queue ?? 2 * pair + 1);
      assert.equal(r.told.splice(0), [1]);
    }
  }
});

test("a hint chooses the queue; without one the frames of a flow go out by one queue, and flows by several", () => {
  const r = up(SEVERAL);
  for (const flow of [0, 1, 2, 3, 4, 7, 2 ** 31 - 1]) {
    assert.ok(r.vtnet.transmit(frameOf(r.memory, [60]), null, -1, flow));
    assert.is(sentBy(r), flow % 4);
  }
  const by = (bytes: readonly number[], cut = 14): number => {
    assert.ok(r.vtnet.transmit(framed(r.memory, bytes, cut)));
    return sentBy(r);
  };
  const used = new Set<number>();
  for (let host = 1; host < 40; host++) {
    const pair = by(tcp4(host));
    used.add(pair);
    for (const cut of [15, 24, 34, 36]) assert.is(by(tcp4(host), cut), pair, "however it is cut");
    const tagged = [...tcp4(host).slice(0, 12), 0x81, 0, 0, 5, ...tcp4(host).slice(12)];
    assert.is(by(tagged), pair, "with a tag, too");
    // Only the first fragment of a datagram has ports.
    assert.is(by(tcp4(host, 80, 0x2000)), by(tcp4(host, 999, 0x00b9)), "all fragments of a datagram");
  }
  assert.is(used.size, 4);
  assert.is(new Set(Array.from({ length: 40 }, (_, port) => by(tcp4(1, port)))).size, 4, "ports count");
  const v6 = (last: number) => [
    ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64],
    ...[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ...[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0],
  ];
  assert.is(new Set(Array.from({ length: 40 }, (_, last) => by(v6(last)))).size, 4);
  assert.is(by([...tcp4(1).slice(0, 12), 0x88, 0xb5, ...new Array(50).fill(9)]), 0, "what is no IP goes by the first");
});

test("frames are told in the order in which they were queued, whatever queue they are in", () => {
  const { vtnet, fake, told, take, memory, interrupt } = up(SEVERAL);
  for (const flow of [0, 1, 2, 1]) assert.ok(vtnet.transmit(frameOf(memory, [60 + flow]), null, -1, flow));
  vtnet.kick();
  for (const { head } of take(1)) fake.ring(3).push(head, 0);
  interrupt(3);
  assert.equal(told, [], "the first one is still out");
  for (const { head } of take(2)) fake.ring(5).push(head, 0);
  interrupt(5);
  assert.equal(told, []);
  for (const { head } of take(0)) fake.ring(1).push(head, 0);
  interrupt(1);
  assert.equal(told, [4]);
  assert.is(vtnet.counters().opackets, 4);
  assert.is(vtnet.counters().obytes, 60 + 61 + 62 + 61);
});

test("one queue that is full stops its flows only, and down gives everything back", () => {
  const { vtnet, memory, told } = up({ ...SEVERAL, pairs: 2 });
  const frame = frameOf(memory, [60]);
  let queued = 0;
  while (vtnet.transmit(frame, null, -1, 1)) queued++;
  assert.is(queued, 16);
  assert.ok(vtnet.transmit(frame, null, -1, 0));
  vtnet.kick();
  vtnet.down();
  assert.equal(told, [17]);
  assert.is(vtnet.counters().oerrors, 17);
  vtnet.up();
  assert.is(vtnet.queue("tx", 1).nfree, 16);
  assert.throws(() => vtnet.queue("rx", 2), /no pair 2 of 2/);
});

test("the queues of one pair are reset and come back while the others go on", () => {
  const r = up({ ...SEVERAL, features: [...USUAL, MQ, 40], pci: { ringReset: true } });
  const { vtnet, fake, memory, told, received, fill, interrupt, take } = r;
  for (const flow of [2, 2, 1]) vtnet.transmit(frameOf(memory, [60]), null, -1, flow);
  vtnet.kick();
  fake.log.length = 0;
  assert.ok(vtnet.restartQueues(2));
  assert.equal(
    fake.log.filter((line) => !line.startsWith("notify")),
    ["reset 5", "enable 5", "reset 4", "enable 4"],
  );
  assert.equal(told, [2], "what was not sent is given up");
  assert.is(vtnet.counters().oerrors, 2);
  assert.is(fake.status & 4, 4);
  for (const { head } of take(1)) fake.ring(3).push(head, 0);
  interrupt(3);
  assert.equal(told, [2, 1]);
  fill([...HEADER, ...FRAME], undefined, true, 2);
  interrupt(4);
  assert.equal(received, [FRAME]);
  vtnet.transmit(frameOf(memory, [60]), null, -1, 2);
  assert.is(sentBy(r), 2);
  assert.equal(fake.faults, []);
  assert.not(vtnet.restartQueues(4));
  assert.not(up(SEVERAL).vtnet.restartQueues(0), "without RING_RESET");
});

test("RSS tells the device how to spread what it receives, in place of VQ_PAIRS_SET", () => {
  const { vtnet, commands } = rig({ ...SEVERAL, features: [...USUAL, MQ, RSS], vtnet: { rss: true } });
  vtnet.up();
  const [rss] = commands.filter(([cls]) => cls === 4) as [number[]];
  // VIRTIO 1.3 §5.1.6.5.7.1: hash_types, mask, unclassified_queue, table, max_tx_vq, key
  assert.equal(rss.slice(0, 10), [4, 1, 0xff, 1, 0, 0, 127, 0, 0, 0]);
  assert.is(rss.length, 2 + 4 + 2 + 2 + 2 * 128 + 2 + 1 + 40);
  for (let i = 0; i < 128; i++) assert.equal(rss.slice(10 + 2 * i, 12 + 2 * i), [i % 4, 0]);
  assert.equal(rss.slice(266, 269), [4, 0, 40]);
  assert.equal(rss.slice(269, 273), [0x6d, 0x5a, 0x56, 0xda]);
  assert.is(vtnet.activePairs, 4);
});

test("VIO-240 HASH_REPORT: headers of 20 bytes both ways, and the hash is handed on", () => {
  const config = [0x52, 0x54, 0, 1, 2, 3, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 40, 128, 0, 0x3f, 0, 0, 0];
  const r = rig({ features: [...USUAL, HASH_REPORT], vtnet: { hashReport: true }, config });
  const { vtnet, commands, offloads, received, fill, interrupt, take, memory } = r;
  vtnet.up();
  // §5.1.6.5.6.4: hash_types, four reserved words, key
  const hash = commands.find(([cls]) => cls === 4)!;
  assert.equal(hash.slice(0, 16), [4, 2, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0x6d]);
  fill([...HEADER, 0x78, 0x56, 0x34, 0x92, 2, 0, 0, 0, ...FRAME]);
  interrupt();
  assert.equal(received, [FRAME]);
  assert.is(offloads[0]!.hash, 0x9234_5678);
  assert.is(offloads[0]!.hashReport, 2);
  vtnet.transmit(frameOf(memory, [60]));
  vtnet.kick();
  assert.equal(take()[0]!.bytes.slice(0, 20), new Array(20).fill(0));
  assert.is(r.fake.ring(1).chain(0)[0]!.len, 20);
  const without = up({ features: [...USUAL, HASH_REPORT] });
  assert.is((without.fake.driverFeatures >> BigInt(HASH_REPORT)) & 1n, 0n, "not asked for");
});

test("coalescing is set at each start, changed and asked for", () => {
  const parameters = [7, 0, 0, 0, 0x10, 0x27, 0, 0];
  const { vtnet, commands } = rig({
    ...SEVERAL,
    features: [...USUAL, MQ, NOTF_COAL, VQ_NOTF_COAL],
    vtnet: { coalesce: { rx: { maxPackets: 7, maxUsecs: 10_000 } } },
    answer: ([cls, command]) => (cls === 6 && command === 3 ? [9, 0, 0, 0, 0, 0, 1, 0, 0] : [0]),
  });
  const coalescing = () => commands.splice(0).filter(([cls]) => cls === 6);
  vtnet.up();
  assert.equal(coalescing(), [[6, 1, ...parameters]]);
  assert.ok(vtnet.setCoalescing("tx", { maxPackets: 7, maxUsecs: 10_000 }));
  assert.equal(coalescing(), [[6, 0, ...parameters]]);
  assert.ok(vtnet.setQueueCoalescing("tx", 2, { maxPackets: 7, maxUsecs: 10_000 }));
  assert.equal(coalescing(), [[6, 2, 5, 0, 0, 0, ...parameters]]);
  assert.equal(vtnet.queueCoalescing("rx", 3), { maxPackets: 9, maxUsecs: 65_536 });
  assert.equal(coalescing(), [[6, 3, 6, 0, 0, 0]]);
  vtnet.down();
  vtnet.up();
  assert.equal(coalescing(), [
    [6, 1, ...parameters],
    [6, 0, ...parameters],
  ]);
  const without = up(SEVERAL).vtnet;
  assert.not(without.setCoalescing("rx", { maxPackets: 1, maxUsecs: 1 }));
  assert.is(without.queueCoalescing("rx", 0), null);
  const refusing = up({
    ...SEVERAL,
    features: [...USUAL, VQ_NOTF_COAL, NOTF_COAL],
    answer: () => [0, 0, 0, 0, 0, 0, 0, 0, 1],
  });
  assert.is(refusing.vtnet.queueCoalescing("rx", 0), null);
});

test("datagrams and their fragments are left to a card that cuts them, and taken whole from one", () => {
  const features = [...USUAL, CSUM, HOST_USO, HOST_UFO, GUEST_CSUM, GUEST_USO4, GUEST_USO6, GUEST_UFO];
  const { vtnet, memory, take, offloads, fill, interrupt } = up({ features });
  const udp: TxOffload = { csumStart: 34, csumOffset: 6, gso: "udp", gsoSize: 1472, hdrLen: 42, ecn: false };
  assert.ok(vtnet.canSegment("udp") && vtnet.canSegment("udpfrag"));
  assert.not(vtnet.canSegment("tcp4"));
  for (const [offload, header] of [
    [udp, [1, 5, 42, 0, 0xc0, 5, 34, 0, 6, 0, 0, 0]],
    [{ ...udp, gso: "udpfrag", gsoSize: 1480 }, [1, 3, 42, 0, 0xc8, 5, 34, 0, 6, 0, 0, 0]],
  ] as const) {
    assert.ok(vtnet.transmit(frameOf(memory, [9000]), offload));
    vtnet.kick();
    assert.equal(take()[0]!.bytes.slice(0, 12), header);
  }
  const before = vtnet.counters().oerrors;
  vtnet.transmit(frameOf(memory, [9000]), { ...udp, gsoSize: 1477 }); // 42 + 1477 is more than a frame
  vtnet.transmit(frameOf(memory, [9000]), { ...udp, ecn: true });
  vtnet.transmit(frameOf(memory, [9000]), { ...udp, gso: "tcp4" });
  assert.is(vtnet.counters().oerrors, before + 3);
  for (const [type, gso] of [
    [5, "udp"],
    [3, "udpfrag"],
  ] as const) {
    fill([1, type, 42, 0, 9, 0, 34, 0, 6, 0, 1, 0, ...FRAME]);
    interrupt();
    assert.is(offloads.at(-1)!.gso, gso);
  }
  fill([1, 1, 54, 0, 9, 0, 34, 0, 16, 0, 1, 0, ...FRAME]);
  interrupt();
  assert.is(vtnet.counters().ierrors, 1, "TSO was not accepted");
  const plain = up();
  assert.not(plain.vtnet.canSegment("udp"));
  plain.vtnet.transmit(frameOf(plain.memory, [9000]), udp);
  assert.is(plain.vtnet.counters().oerrors, 1);
});

test.run();
