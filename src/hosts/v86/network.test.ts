import { createRequire } from "node:module";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { V86 } from "v86";
import { internetChecksum } from "../../bytes/index.js";
import type { NetEndpoint } from "../../contract/index.js";
import { connect, OffloadRecord } from "../../net/index.js";
import { frameOf, packetOf, ramp, segmentsOf, TestPort } from "../../net/testing.js";
import { attachV86, v86Network } from "./index.js";
import { TestSlot } from "./testing.js";
import { codeOf, rigs, turn } from "./v86-testing.js";

const { boot, create } = rigs(V86, createRequire(import.meta.url).resolve("v86/build/v86.wasm"));

/** One side of a bus as v86 has it: what it sends, the other side hears. */
class Side {
  pair: Side = this;
  #listeners: [string, (value: unknown) => void][] = [];
  register(event: string, listener: (value: unknown) => void): void {
    this.#listeners.push([event, listener]);
  }
  unregister(event: string, listener: (value: unknown) => void): void {
    this.#listeners = this.#listeners.filter((entry) => entry[0] !== event || entry[1] !== listener);
  }
  send(event: string, value: unknown): void {
    for (const [name, listener] of this.pair.#listeners) if (name === event) listener(value);
  }
  get listeners(): number {
    return this.#listeners.length;
  }
}

function fake(id = 0) {
  const bus = new Side();
  bus.pair = new Side();
  bus.pair.pair = bus;
  const sent: Uint8Array[] = [];
  const macs: unknown[] = [];
  bus.register(`net${id}-send`, (frame) => sent.push(frame as Uint8Array));
  bus.register(`net${id}-mac`, (mac) => macs.push(mac));
  const emulator = { bus };
  return { emulator, bus, sent, macs, receive: (frame: unknown) => bus.send(`net${id}-receive`, frame) };
}

const offer = (to: NetEndpoint, frame: Uint8Array) => to.offer(frame, 0, frame.length, null, 0);

test("a frame goes to the adapter as a copy of its own, and its sender's address before it", () => {
  const { emulator, sent, macs } = fake(3);
  const card = new TestPort();
  connect(card, v86Network(emulator, { id: 3 }));
  const frame = frameOf(1, 2, 7);
  assert.is(offer(card.far!, frame), "taken");
  offer(card.far!, frame);
  frame.fill(0);
  offer(card.far!, frameOf(1, 9, 8));
  assert.equal(sent, [frameOf(1, 2, 7), frameOf(1, 2, 7), frameOf(1, 9, 8)]);
  assert.is(sent[0]!.byteLength, sent[0]!.buffer.byteLength);
  assert.equal(macs, ["02:00:00:00:00:02", "02:00:00:00:00:09"]);
});

test("what a card leaves undone is finished and cut on the way", () => {
  const { emulator, sent } = fake();
  const card = new TestPort();
  connect(card, v86Network(emulator));
  const parts = { gso: "tcp4", payload: ramp(4000) } as const;
  const packet = packetOf(parts, true);
  const offload = new OffloadRecord();
  offload.gso = "tcp4";
  offload.gsoSize = 1460;
  offload.needsCsum = true;
  offload.csumStart = 34;
  offload.csumOffset = 16;
  assert.is(card.far!.offer(packet, 0, packet.length, offload, 0), "taken");
  assert.equal(sent, segmentsOf(parts, 1460));
});

test("frames from the adapter reach the card, each ending a batch, but not within a batch of the card's", () => {
  const { emulator, bus, receive } = fake();
  const card = new TestPort();
  const network = v86Network(emulator);
  const cable = connect(card, network);
  receive(frameOf(2, 1, 1));
  assert.equal([card.taken.map(({ frame }) => frame), card.batches], [[frameOf(2, 1, 1)], 1]);
  bus.register("net0-send", () => {
    receive(frameOf(2, 1, 2));
    receive(frameOf(2, 1, 3));
  });
  offer(card.far!, frameOf(1, 2, 9));
  assert.equal([card.taken.length, card.batches], [3, 1]);
  card.far!.endBatch();
  assert.is(card.batches, 2);
  for (const wrong of [undefined, "frame", new Uint8Array(13), new ArrayBuffer(60)]) receive(wrong);
  card.verdict = () => "dropped";
  receive(frameOf(2, 1, 4));
  assert.equal(network.counters(), { sent: 1, received: 3, held: 0, dropped: 1, droppedOnRestore: 0, malformed: 4 });
  cable[Symbol.dispose]();
  receive(frameOf(2, 1, 5));
  assert.is(card.taken.length, 3);
  assert.is(bus.pair.listeners, 0);
  assert.is(network.offer(frameOf(1, 2, 1), 0, 60), "dropped");
});

test("frames that the card cannot take yet wait in order, as long as there is room", () => {
  const { emulator, receive } = fake();
  const card = new TestPort();
  const network = v86Network(emulator);
  connect(card, network);
  card.verdict = () => "later";
  const tags = Array.from({ length: 200 }, (_, i) => i);
  for (const tag of tags) receive(frameOf(2, 1, tag));
  assert.is(network.counters().held, 200);
  let room = 50;
  card.verdict = () => (room-- > 0 ? "taken" : "later");
  card.far!.ready(0);
  assert.is(card.taken.length, 50);
  room = 1000;
  receive(frameOf(2, 1, 200)); // overtakes nothing
  assert.is(card.taken.length, 50);
  card.far!.ready(0);
  assert.equal(
    card.taken.map(({ frame }) => frame[14]),
    [...tags, 200],
  );
  card.verdict = () => "later";
  for (let i = 0; i < 5000; i++) receive(frameOf(2, 1, 1, 1514));
  const { held, dropped } = network.counters();
  assert.is(held + dropped, 5000);
  assert.ok(held >= 600 && dropped > 0);
});

test("a port takes one cable, and a bus without the names is refused", () => {
  const { emulator } = fake();
  const network = v86Network(emulator);
  connect(new TestPort(), network);
  assert.is(
    codeOf(() => connect(new TestPort(), network)),
    "port-occupied",
  );
  assert.is(
    codeOf(() => v86Network({})),
    "v86-name",
  );
  assert.is(
    codeOf(() => v86Network({ bus: { pair: { register: () => {}, send: () => {} } } })),
    "v86-name",
  );
});

test("frames that waited are dropped and counted when a state is restored", async () => {
  const emulator = await boot();
  attachV86(emulator, { cards: [{ card: new TestSlot() }] });
  const card = new TestPort();
  const network = v86Network(emulator);
  connect(card, network);
  const adapter = (emulator as unknown as { readonly bus: Side }).bus;
  const state = await emulator.save_state();
  card.verdict = () => "later";
  for (let i = 0; i < 3; i++) adapter.send("net0-receive", frameOf(2, 1, i));
  card.verdict = () => "taken";
  await emulator.restore_state(state);
  card.far!.ready(0);
  const { held, droppedOnRestore, received } = network.counters();
  assert.equal([held, droppedOnRestore, received], [0, 3, 0]);
  await emulator.destroy();
});

// The adapter "fetch" answers ARP, ping and DHCP by itself: 192.168.86.1 for the guest at 192.168.86.100.
const ROUTER = [192, 168, 86, 1];
const GUEST = [192, 168, 86, 100];
const MAC = [0x52, 0x54, 0x00, 0xba, 0xbe, 0x01];
const EVERYBODY = [255, 255, 255, 255, 255, 255];
const padded = (bytes: readonly number[]): Uint8Array => {
  const frame = new Uint8Array(Math.max(60, bytes.length));
  frame.set(bytes);
  return frame;
};
const ip = (protocol: number, source: readonly number[], target: readonly number[], payload: readonly number[]) => {
  const length = 20 + payload.length;
  const header = [0x45, 0, length >> 8, length & 0xff, 0, 1, 0, 0, 64, protocol, 0, 0, ...source, ...target];
  const sum = internetChecksum(Uint8Array.from(header), 0, 20);
  header[10] = sum >> 8;
  header[11] = sum & 0xff;
  return [...header, ...payload];
};

test("v86's own adapter answers ARP, a ping and DHCP over the cable", async () => {
  const emulator = create({ net_device: { type: "none" as never, relay_url: "fetch" } });
  await new Promise<void>((resolve) => emulator.add_listener("emulator-loaded", () => resolve()));
  const card = new TestPort();
  const network = v86Network(emulator);
  connect(card, network);
  const ask = (frame: Uint8Array): Uint8Array => {
    const before = card.taken.length;
    assert.is(offer(card.far!, frame), "taken");
    assert.is(card.taken.length, before + 1, "answered within the call");
    return card.taken.at(-1)!.frame;
  };
  const arp = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, ...MAC, ...GUEST, 0, 0, 0, 0, 0, 0, ...ROUTER];
  const reply = ask(padded([...EVERYBODY, ...MAC, ...arp]));
  const router = [...reply.subarray(6, 12)];
  assert.equal(
    [...reply.subarray(12, 42)],
    [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2, ...router, ...ROUTER, ...MAC, ...GUEST],
  );

  const echo = [8, 0, 0, 0, 0x12, 0x34, 0, 1, 0xde, 0xad, 0xbe, 0xef];
  const sum = internetChecksum(Uint8Array.from(echo), 0, echo.length);
  const icmp = [8, 0, sum >> 8, sum & 0xff, ...echo.slice(4)];
  const pong = ask(padded([...router, ...MAC, 0x08, 0x00, ...ip(1, GUEST, ROUTER, icmp)]));
  assert.equal([...pong.subarray(0, 14)], [...MAC, ...router, 0x08, 0x00]);
  assert.equal([...pong.subarray(26, 34)], [...ROUTER, ...GUEST]);
  assert.equal([pong[34], ...pong.subarray(38, 46)], [0, 0x12, 0x34, 0, 1, 0xde, 0xad, 0xbe, 0xef]);
  assert.is(internetChecksum(pong, 14, 20), 0);
  assert.is(internetChecksum(pong, 34, 12), 0);

  const bootp = [
    1,
    1,
    6,
    0,
    0xca,
    0xfe,
    0xf0,
    0x0d,
    ...new Array<number>(20).fill(0),
    ...MAC,
    ...new Array<number>(202).fill(0),
  ];
  const discover = [...bootp, 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255];
  const udp = [0, 68, 0, 67, (8 + discover.length) >> 8, (8 + discover.length) & 0xff, 0, 0, ...discover];
  const lease = ask(padded([...EVERYBODY, ...MAC, 0x08, 0x00, ...ip(17, [0, 0, 0, 0], [255, 255, 255, 255], udp)]));
  assert.equal([...lease.subarray(34, 38)], [0, 67, 0, 68]);
  assert.equal(
    [lease[42], ...lease.subarray(46, 50), ...lease.subarray(58, 62)],
    [2, 0xca, 0xfe, 0xf0, 0x0d, ...GUEST],
  );
  assert.equal([...lease.subarray(282, 285)], [53, 1, 2]); // an offer
  await emulator.destroy();
});

test("two emulators on v86's channel `inbrowser` hear each other", async () => {
  const net_device = { type: "none" as never, relay_url: "inbrowser" };
  const emulators = await Promise.all([boot({ net_device }), boot({ net_device })]);
  const [a, b] = emulators.map((emulator) => {
    const card = new TestPort();
    connect(card, v86Network(emulator));
    return card;
  }) as [TestPort, TestPort];
  offer(a.far!, frameOf(255, 1, 7));
  for (let turns = 0; b.taken.length === 0 && turns < 1000; turns++) await turn();
  assert.equal([a.taken.length, b.taken.map(({ frame }) => frame)], [0, [frameOf(255, 1, 7)]]);
  for (const emulator of emulators) await emulator.destroy();
});

test.run();
