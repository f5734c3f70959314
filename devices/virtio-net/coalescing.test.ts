import { test } from "uvu";
import * as assert from "uvu/assert";
import { virtioNet } from "./index.js";
import {
  BUFFERS,
  F_CTRL_VQ,
  F_EVENT_IDX,
  F_MQ,
  frame,
  Guest,
  type GuestOptions,
  H_NOTF_COAL,
  H_RING_RESET,
  H_VQ_NOTF_COAL,
  RX,
  TX,
  WRITE,
} from "./testing.js";

const OK = 0;
const ERR = 1;
const US = 1000;

const le32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
/** max_packets, max_usecs */
const coal = (packets: number, usecs: number): number[] => [...le32(packets), ...le32(usecs)];
const ofQueue = (queue: number, rest: readonly number[] = [], reserved = 0): number[] => [
  queue & 0xff,
  queue >> 8,
  reserved,
  reserved,
  ...rest,
];

const start = (options: GuestOptions = {}): Guest => {
  const { card, ...rest } = options;
  const high = H_NOTF_COAL + H_VQ_NOTF_COAL;
  const g = new Guest({ features: F_CTRL_VQ, high, card: { notfCoal: true, ...card }, size: 64, pairs: 1, ...rest });
  for (let i = 0; i < 64; i++) g.post(i, BUFFERS + 0x800 * i, 2048);
  g.messagesOn();
  return g;
};
const txSet = (g: Guest, packets: number, usecs: number): number => g.command(6, 0, coal(packets, usecs));
const rxSet = (g: Guest, packets: number, usecs: number): number => g.command(6, 1, coal(packets, usecs));
const vqSet = (g: Guest, queue: number, packets: number, usecs: number): number =>
  g.command(6, 2, ofQueue(queue, coal(packets, usecs)));

/** [ack, max_packets, max_usecs, used length]: what the driver asks, 9 bytes for what the device writes. */
const vqGet = (g: Guest, queue: number): number[] => {
  const at = BUFFERS + 0x9_0000;
  g.host.put(at, [6, 3, ...ofQueue(queue)]);
  g.host.put(at + 0x100, new Array(9).fill(0xee));
  const before = g.usedIdx(g.ctrl);
  g.chain(g.ctrl, 0, [at, 6, 0], [at + 0x100, 8, WRITE], [at + 0x108, 1, WRITE]);
  g.notify(g.ctrl);
  const used = g.entry(g.ctrl, before);
  return [g.host.get(at + 0x108, 1), g.host.get(at + 0x100, 4), g.host.get(at + 0x104, 4), used[1]];
};

/** Interrupts of a queue since it was last asked. */
const interrupts = (g: Guest, queue: number): number => {
  const count = g.host.vectors.filter((vector) => vector === queue + 1).length;
  g.host.messages.length = 0;
  return count;
};
const receive = (g: Guest, count = 1): void => {
  for (let i = 0; i < count; i++) assert.is(g.receive(frame(60)), "taken");
};
const send = (g: Guest, count = 1, queue = TX): void => {
  for (let i = 0; i < count; i++) {
    g.chain(queue, 0, [BUFFERS + 0x8_0000, 72, 0]);
    g.notify(queue);
  }
};

test("NOTF_COAL and VQ_NOTF_COAL are offered by option, to modern drivers", () => {
  const words = (notfCoal: boolean) => {
    const nic = virtioNet({ notfCoal, offloads: false });
    nic.barWrite(4, 0, 4, 1);
    return nic.barRead(4, 4, 4);
  };
  assert.is(words(false), 1);
  assert.is(words(true), 0x0030_0001);
});

test("VIO-322 parameters are 0 after a reset: each batch interrupts", () => {
  const g = start();
  assert.equal(vqGet(g, RX), [OK, 0, 0, 9]);
  assert.equal(vqGet(g, TX), [OK, 0, 0, 9]);
  interrupts(g, RX);
  for (let i = 0; i < 3; i++) {
    receive(g);
    assert.is(interrupts(g, RX), 1);
    send(g);
    assert.is(interrupts(g, TX), 1);
  }
  rxSet(g, 10, 10);
  txSet(g, 20, 20);
  g.nic.configWrite(0x9a, 2, 0);
  g.status = 0;
  g.setUp();
  for (let i = 0; i < 8; i++) g.post(i, BUFFERS + 0x800 * i, 2048);
  g.driverOk();
  g.messagesOn();
  assert.equal(
    [vqGet(g, RX), vqGet(g, TX)],
    [
      [OK, 0, 0, 9],
      [OK, 0, 0, 9],
    ],
  );
  interrupts(g, RX);
  receive(g);
  assert.is(interrupts(g, RX), 1);
});

test("a queue interrupts after max_packets or max_usecs from the first one, whichever comes first, and begins anew", () => {
  const g = start();
  assert.is(rxSet(g, 15, 10), OK);
  assert.is(txSet(g, 4, 50), OK);
  interrupts(g, RX);
  receive(g, 14);
  assert.is(interrupts(g, RX), 0);
  assert.is(g.usedIdx(RX), 14, "what is held back is the notification alone");
  receive(g);
  assert.is(interrupts(g, RX), 1);
  receive(g, 2);
  g.host.clock.advance(5 * US);
  receive(g, 2);
  g.host.clock.advance(5 * US - 1);
  assert.is(interrupts(g, RX), 0);
  g.host.clock.advance(1);
  assert.is(interrupts(g, RX), 1, "10 µs after the first of the four");
  g.host.clock.advance(1000 * US);
  assert.is(interrupts(g, RX), 0);
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  receive(g, 14);
  assert.is(interrupts(g, RX), 0, "counted from 0 again");
  send(g, 3);
  assert.is(interrupts(g, TX), 0);
  send(g);
  assert.is(interrupts(g, TX), 1);
  send(g, 1);
  g.host.clock.advance(49 * US);
  assert.is(interrupts(g, TX), 0);
  g.host.clock.advance(US);
  assert.is(interrupts(g, TX), 1);
});

test("a batch with enough packets interrupts at its end, once", () => {
  const g = start();
  rxSet(g, 4, 1000);
  interrupts(g, RX);
  for (let i = 0; i < 9; i++) g.nic.net.offer(frame(60), 0, 60, null, 0);
  assert.is(interrupts(g, RX), 0);
  g.nic.net.endBatch();
  assert.is(interrupts(g, RX), 1);
  for (let i = 0; i < 9; i++) g.chain(TX, 0, [BUFFERS + 0x8_0000, 72, 0]);
  txSet(g, 10, 1000);
  g.notify(TX);
  assert.is(interrupts(g, TX), 0);
  send(g);
  assert.is(interrupts(g, TX), 1);
});

test("with one of the two 0 nothing is held back", () => {
  for (const [packets, usecs] of [
    [10, 0],
    [0, 10],
    [1, 1000],
  ] as const) {
    const g = start();
    rxSet(g, packets, usecs);
    txSet(g, 99, 99); // of the other queue
    interrupts(g, RX);
    receive(g);
    assert.is(interrupts(g, RX), 1, `${packets} packets, ${usecs} µs`);
    assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  }
});

test("VIO-323 new parameters are applied to what is held back already", () => {
  const g = start();
  rxSet(g, 15, 100);
  receive(g, 10);
  interrupts(g, RX);
  assert.is(rxSet(g, 11, 100), OK);
  assert.is(interrupts(g, RX), 0);
  assert.is(rxSet(g, 8, 100), OK);
  assert.is(interrupts(g, RX), 1, "ten are more than eight");
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  receive(g, 3);
  g.host.clock.advance(40 * US);
  rxSet(g, 8, 60);
  assert.is(g.host.clock.due, 20 * US, "counted from the first packet");
  rxSet(g, 8, 41);
  assert.is(interrupts(g, RX), 0);
  rxSet(g, 8, 40);
  assert.is(interrupts(g, RX), 1);
  for (const [packets, usecs] of [
    [0, 100],
    [8, 0],
  ] as const) {
    rxSet(g, 8, 100);
    receive(g, 2);
    assert.is(interrupts(g, RX), 0);
    rxSet(g, packets, usecs);
    assert.is(interrupts(g, RX), 1, `${packets} packets, ${usecs} µs`);
  }
  txSet(g, 15, 1000);
  send(g, 10);
  assert.is(interrupts(g, TX), 0);
  txSet(g, 8, 1000);
  assert.is(interrupts(g, TX), 1);
  txSet(g, 8, 1000);
  assert.is(interrupts(g, TX), 0, "nothing is held back any more");
});

test("VIO-322 VQ_SET and VQ_GET: of enabled receive and transmit queues, reserved ignored, lengths exact", () => {
  const g = start({ features: F_CTRL_VQ + F_MQ, card: { notfCoal: true, queuePairs: 3 }, pairs: 2 });
  assert.is(g.ctrl, 6);
  for (const queue of [4, 5, 6, 7, 100, 0xffff]) {
    assert.is(vqSet(g, queue, 3, 30), ERR, `queue ${queue}`);
    assert.equal(vqGet(g, queue), [ERR, 0, 0, 9]);
  }
  assert.is(g.command(6, 2, ofQueue(3, coal(5, 0xffff_ffff), 0xab)), OK);
  assert.equal(vqGet(g, 3), [OK, 5, 0xffff_ffff, 9]);
  for (const data of [[], ofQueue(3), ofQueue(3, le32(1)), [...ofQueue(3, coal(1, 1)), 0]])
    assert.is(g.command(6, 2, data), ERR);
  for (const command of [0, 1])
    for (const data of [[], le32(1), [...coal(1, 1), 0]]) assert.is(g.command(6, command, data), ERR);
  assert.is(g.command(6, 4, coal(1, 1)), ERR);
  assert.equal(vqGet(g, 3), [OK, 5, 0xffff_ffff, 9]);
  assert.equal(
    [0, 1, 2].map((queue) => vqGet(g, queue)[1]),
    [0, 0, 0],
  );
});

test("the last command counts, whichever it was: the example of §5.1.6.5.9", () => {
  const g = start({ features: F_CTRL_VQ + F_MQ, card: { notfCoal: true, queuePairs: 2 }, pairs: 2 });
  const all = () => [0, 1, 2, 3].map((queue) => vqGet(g, queue).slice(1, 3));
  rxSet(g, 1, 2);
  assert.equal(all(), [[1, 2], [0, 0], [1, 2], [0, 0]]); // biome-ignore format: a table
  vqSet(g, 0, 3, 4);
  assert.equal(all(), [[3, 4], [0, 0], [1, 2], [0, 0]]); // biome-ignore format: a table
  vqSet(g, 1, 5, 6);
  txSet(g, 7, 8);
  assert.equal(all(), [[3, 4], [7, 8], [1, 2], [7, 8]]); // biome-ignore format: a table
});

test("VIO-322 without the feature its commands are errors", () => {
  const queues = start({ high: H_VQ_NOTF_COAL });
  assert.is(rxSet(queues, 1, 1), ERR);
  assert.is(txSet(queues, 1, 1), ERR);
  assert.is(vqSet(queues, 0, 1, 1), OK);
  const all = start({ high: H_NOTF_COAL });
  assert.is(rxSet(all, 9, 9), OK);
  assert.is(vqSet(all, 0, 1, 1), ERR);
  assert.equal(vqGet(all, 0), [ERR, 0, 0, 9]);
});

test("VIO-300 VQ_GET hands back 8 bytes and the ack, however they are cut; without room for them it is an error", () => {
  const g = start();
  vqSet(g, TX, 0x0102_0304, 0x0506_0708);
  const at = BUFFERS + 0x9_0000;
  g.host.put(at, [6, 3, ...ofQueue(TX)]);
  for (const cuts of [[9], [1, 8], [8, 1], [3, 3, 3], [12], [8, 4]]) {
    g.host.put(at + 0x100, new Array(16).fill(0xee));
    const pieces = cuts.map((length, i) => {
      const from = cuts.slice(0, i).reduce((sum, cut) => sum + cut, 0);
      return [at + 0x100 + from, length, WRITE] as const;
    });
    const before = g.usedIdx(g.ctrl);
    g.chain(g.ctrl, 0, [at, 6, 0], ...pieces);
    g.notify(g.ctrl);
    assert.equal([...g.host.copyOf(at + 0x100, 10)], [4, 3, 2, 1, 8, 7, 6, 5, OK, 0xee]);
    assert.equal(g.entry(g.ctrl, before), [0, 9]);
  }
  for (const length of [1, 8]) {
    g.host.put(at + 0x100, new Array(16).fill(0xee));
    const before = g.usedIdx(g.ctrl);
    g.chain(g.ctrl, 0, [at, 6, 0], [at + 0x100, length, WRITE]);
    g.notify(g.ctrl);
    assert.equal([...g.host.copyOf(at + 0x100, 2)], [ERR, 0xee]);
    assert.equal(g.entry(g.ctrl, before), [0, 1]);
  }
});

test("what the driver suppresses is not sent, and what it wants is, for all that was held back", () => {
  const g = start();
  rxSet(g, 4, 10);
  interrupts(g, RX);
  g.host.set(g.avail(RX), 2, 1); // NO_INTERRUPT
  receive(g, 4);
  assert.is(interrupts(g, RX), 0);
  receive(g, 1);
  g.host.set(g.avail(RX), 2, 0);
  g.host.clock.advance(10 * US);
  assert.is(interrupts(g, RX), 1);
  const e = start({ features: F_CTRL_VQ + F_EVENT_IDX });
  const event = (index: number) => e.host.set(e.avail(RX) + 4 + 2 * 64, 2, index);
  receive(e);
  assert.is(interrupts(e, RX), 1);
  rxSet(e, 4, 10);
  interrupts(e, RX);
  event(2); // the second of the four that are held back
  receive(e, 4);
  assert.is(interrupts(e, RX), 1, "anything since the last time counts, not only the last batch");
  event(20);
  receive(e, 4);
  assert.is(interrupts(e, RX), 0);
});

test("queues count by themselves; one that is reset begins with what was set for all of its kind", () => {
  const features = F_CTRL_VQ + F_MQ;
  const high = H_NOTF_COAL + H_VQ_NOTF_COAL + H_RING_RESET;
  const g = start({ features, high, card: { notfCoal: true, queuePairs: 2, ringReset: true }, pairs: 2 });
  g.command(4, 0, [2, 0]);
  txSet(g, 3, 100);
  vqSet(g, 3, 2, 100);
  interrupts(g, TX);
  send(g, 2, 1);
  send(g, 1, 3);
  assert.is(g.host.messages.length, 0);
  send(g, 1, 3);
  assert.equal(g.host.vectors, [4]);
  g.host.messages.length = 0;
  g.out(0x16, 2, 1);
  g.out(0x3a, 2, 1);
  g.host.clock.advance(1000 * US);
  assert.is(g.host.messages.length, 0, "what the queue held back is forgotten");
  assert.is(vqSet(g, 1, 9, 9), ERR, "it is not enabled");
  g.out(0x16, 2, 3);
  g.out(0x3a, 2, 1);
  g.host.put(g.desc(3), new Uint8Array(0x4000));
  g.out(0x20, 4, g.desc(3));
  g.out(0x28, 4, g.avail(3));
  g.out(0x30, 4, g.used(3));
  g.out(0x18, 2, 64);
  g.out(0x1a, 2, 4);
  g.out(0x1c, 2, 1);
  assert.equal(vqGet(g, 3), [OK, 3, 100, 9], "not those of VQ_SET");
  assert.equal(vqGet(g, 0), [OK, 0, 0, 9]);
});

test("while DMA is shut nothing is notified, and afterwards the next packet brings all of it", () => {
  const g = start();
  rxSet(g, 4, 10);
  interrupts(g, RX);
  receive(g, 2);
  g.nic.configWrite(4, 2, 3);
  g.host.clock.advance(100 * US);
  assert.is(interrupts(g, RX), 0);
  g.nic.configWrite(4, 2, 7);
  receive(g, 3);
  assert.is(interrupts(g, RX), 0);
  receive(g, 1);
  assert.is(interrupts(g, RX), 1);
});

test("timers: one for the card, only where coalescing is offered, and gone after disconnect", () => {
  assert.is(new Guest().host.clock.timers, 0);
  const g = start();
  assert.is(g.host.clock.timers, 1);
  rxSet(g, 4, 10);
  txSet(g, 4, 5);
  receive(g, 1);
  send(g, 1);
  assert.is(g.host.clock.due, 5 * US, "the first deadline");
  g.nic.disconnect();
  assert.is(g.host.clock.timers, 0);
  g.nic.connect(g.host);
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  receive(g, 1);
  assert.is(g.host.clock.due, 10 * US, "counted anew");
});

test.run();
