import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../src/bytes/index.js";
import { virtioNet } from "./index.js";
import {
  BUFFERS,
  F_CTRL_RX,
  F_CTRL_VQ,
  F_INDIRECT,
  F_MQ,
  F_MRG_RXBUF,
  flowFrame,
  Guest,
  type GuestOptions,
  H_RING_RESET,
  RX,
  TX,
} from "./testing.js";

const OK = 0;
const ERR = 1;
const FEATURES = F_CTRL_VQ + F_CTRL_RX + F_MQ;
const PAIRS = 4;

/** A card of four pairs, a driver that set all of them up, and receive buffers in each. */
const start = (options: GuestOptions = {}): Guest => {
  const { card, ...rest } = options;
  const g = new Guest({ features: FEATURES, card: { queuePairs: PAIRS, ...card }, pairs: PAIRS, size: 16, ...rest });
  for (let pair = 0; pair < PAIRS; pair++)
    for (let i = 0; i < 8; i++) g.post(i, BUFFERS + 0x1_0000 * pair + 0x1000 * i, 2048, 2 * pair);
  return g;
};

const setPairs = (g: Guest, pairs: number): number => g.command(4, 0, [pairs & 0xff, pairs >> 8]);
/** Frames in each receive queue so far. */
const received = (g: Guest): number[] => Array.from({ length: PAIRS }, (_, pair) => g.usedIdx(2 * pair));
const send = (g: Guest, pair: number, frame: Uint8Array): void => {
  const at = BUFFERS + 0x8_0000;
  g.host.put(at, new Uint8Array(12));
  g.host.put(at + 12, frame);
  g.chain(2 * pair + 1, 0, [at, 12 + frame.length, 0]);
  g.notify(2 * pair + 1);
};

const numQueues = (g: Guest): number => g.nic.barRead(4, 0x12, 2);

test("VIO-236 the control queue is 2 without MQ accepted and behind all pairs with it", () => {
  const without = new Guest({ features: FEATURES - F_MQ, card: { queuePairs: PAIRS }, start: false });
  without.status = 0;
  assert.is(numQueues(without), 9, "all of them before a driver accepted anything");
  without.setUp();
  without.driverOk();
  assert.is(numQueues(without), 3);
  without.out(0x16, 2, 3);
  assert.is(without.nic.barRead(4, 0x18, 2), 0, "there is no queue 3");
  assert.is(without.command(0, 0, [0]), OK, "queue 2 is the control queue");
  const g = start();
  assert.is(numQueues(g), 9);
  assert.is(g.ctrl, 8);
  assert.is(g.command(0, 0, [0]), OK);
  const legacy = new Guest({ via: "legacy", features: FEATURES, card: { queuePairs: 2 }, pairs: 2, size: 16 });
  assert.is(legacy.command(0, 0, [0]), OK);
  assert.is(legacy.command(4, 0, [2, 0]), OK);
});

test("VIO-231 pairs are offered with MQ, from two on, and shown in the configuration", () => {
  const mq = (queuePairs?: number) => {
    const nic = virtioNet(queuePairs === undefined ? {} : { queuePairs });
    return [(nic.barRead(4, 4, 4) & F_MQ) !== 0, nic.barRead(4, 0x2008, 2), nic.configRead(0x9a, 2) & 0x7ff];
  };
  // MSI-X: one vector each, one for the configuration, table size − 1
  assert.equal(mq(), [false, 0xffff, 3]);
  assert.equal(mq(1), [false, 0xffff, 3]);
  assert.equal(mq(2), [true, 2, 5]);
  assert.equal(mq(511), [true, 511, 1023]);
  assert.is(virtioNet({ queuePairs: 511 }).barRead(4, 0x12, 2), 1023);
  for (const queuePairs of [0, -1, 1.5, Number.NaN, 512, 0x8000])
    assert.throws(
      () => virtioNet({ queuePairs }),
      (error: unknown) => error instanceof ConfigError && error.code === "virtio-net-queue-pairs",
    );
});

test("VIO-314 a number of pairs that there is not, or another length, is an error and changes nothing", () => {
  const g = start();
  assert.is(setPairs(g, 2), OK);
  for (const pairs of [0, PAIRS + 1, 0x8000, 0xffff]) assert.is(setPairs(g, pairs), ERR, `${pairs}`);
  for (const data of [[], [1], [1, 0, 0]]) assert.is(g.command(4, 0, data), ERR);
  assert.is(g.command(4, 3, [1, 0]), ERR, "no such command");
  for (let port = 0; port < 40; port++) g.receive(flowFrame({ port }));
  assert.ok(
    received(g)
      .slice(0, 2)
      .every((count) => count > 0),
  );
  assert.equal(received(g).slice(2), [0, 0]);
  assert.is(setPairs(g, 1), OK);
  assert.is(setPairs(g, PAIRS), OK);
  const without = new Guest({ features: FEATURES - F_MQ, card: { queuePairs: PAIRS } });
  assert.is(setPairs(without, 1), ERR, "MQ was not accepted");
});

test("VIO-315 only receiveq1 before the command, and no queue beyond those in use after it", () => {
  const g = start();
  const deliver = (): number[] => {
    const before = received(g);
    for (let port = 0; port < 4; port++) assert.is(g.receive(flowFrame({ port: 7 * port })), "taken");
    return received(g).map((count, pair) => count - before[pair]!);
  };
  assert.equal(deliver(), [4, 0, 0, 0]);
  for (let pair = 0; pair < PAIRS; pair++) send(g, pair, flowFrame({ port: 7 * pair, out: true }));
  assert.equal(deliver(), [4, 0, 0, 0], "also for flows that came from other queues");
  g.status = 0;
  g.setUp();
  for (let pair = 0; pair < PAIRS; pair++)
    for (let i = 0; i < 16; i++) g.post(i, BUFFERS + 0x1_0000 * pair + 0x1000 * i, 2048, 2 * pair);
  g.driverOk();
  assert.is(setPairs(g, PAIRS), OK);
  for (let pair = 0; pair < PAIRS; pair++) send(g, pair, flowFrame({ port: 7 * pair, out: true }));
  assert.equal(deliver(), [1, 1, 1, 1]);
  assert.is(setPairs(g, 2), OK);
  assert.equal(deliver().slice(2), [0, 0]);
  assert.is(setPairs(g, 1), OK);
  assert.equal(deliver(), [4, 0, 0, 0]);
});

test("a flow is received on the pair on which it was last sent, whatever carries it", () => {
  const g = start();
  setPairs(g, PAIRS);
  for (const shape of [
    {},
    { version: 6 },
    { udp: true },
    { version: 6, udp: true },
    { tags: 1 },
    { ip: false },
  ] as const)
    for (const pair of [3, 1, 2, 0]) {
      send(g, pair, flowFrame({ port: 99, out: true, ...shape }));
      const before = received(g);
      assert.is(g.receive(flowFrame({ port: 99, ...shape })), "taken");
      before[pair]!++;
      assert.equal(received(g), before, `${JSON.stringify(shape)} on pair ${pair}`);
      g.post(0, BUFFERS, 2048, 2 * pair);
    }
  assert.equal(g.peer.hints.slice(-4), [3, 1, 2, 0], "the pair is the hint of the frame");
});

test("flows that were never sent spread over all queues, each staying on one", () => {
  const g = start();
  setPairs(g, PAIRS);
  const count = new Array<number>(PAIRS).fill(0);
  for (let port = 0; port < 200; port++) {
    const before = received(g);
    for (let i = 0; i < 2; i++) assert.is(g.receive(flowFrame({ port })), "taken");
    const pair = received(g).findIndex((now, i) => now !== before[i]);
    assert.is(received(g)[pair], (before[pair]! + 2) & 0xffff);
    count[pair]!++;
    for (const head of [0, 1]) g.post(head, BUFFERS + 0x1000 * head, 2048, 2 * pair);
  }
  assert.ok(
    count.every((flows) => flows > 25),
    `${count}`,
  );
});

test("each receive queue holds back its own senders, and wakes those alone", () => {
  const g = start();
  g.peer.holds = true;
  setPairs(g, PAIRS);
  const flow = (pair: number) => flowFrame({ port: 500 + pair });
  for (let pair = 0; pair < PAIRS; pair++) send(g, pair, flowFrame({ port: 500 + pair, out: true }));
  for (let i = 0; i < 8; i++) for (const pair of [1, 2]) assert.is(g.receive(flow(pair), null, pair), "taken");
  assert.is(g.receive(flow(1), null, 7), "later");
  assert.is(g.receive(flow(1), null, 8), "later");
  assert.is(g.receive(flow(1), null, 7), "later", "the same hint again");
  assert.is(g.receive(flow(2), null, 9), "later");
  assert.is(g.receive(flow(0), null, 10), "taken", "another queue has room");
  assert.is(g.nic.counters().rxNoBuffer, 0);
  g.post(0, BUFFERS, 2048, 2);
  g.notify(0);
  assert.equal(g.peer.readies, []);
  g.notify(2);
  assert.equal(g.peer.readies, [7, 8]);
  g.notify(2);
  assert.equal(g.peer.readies, [7, 8], "once");
  g.peer.onReady = (hint) => {
    if (hint === 9) assert.is(g.receive(flow(2), null, 9), "later"); // still no room: it waits again
  };
  g.notify(4);
  assert.equal(g.peer.readies, [7, 8, 9], "and not again and again");
  g.peer.onReady = () => {};
  assert.is(setPairs(g, 1), OK);
  assert.equal(g.peer.readies, [7, 8, 9, 9], "its frames go elsewhere now");
});

test("no more than 64 senders wait; what others offer is dropped and counted", () => {
  const g = new Guest({ size: 16 });
  g.peer.holds = true;
  for (let hint = 0; hint < 64; hint++) assert.is(g.receive(flowFrame({ port: hint }), null, hint), "later");
  assert.is(g.receive(flowFrame({ port: 1 }), null, 64), "dropped");
  assert.is(g.receive(flowFrame({ port: 1 }), null, 63), "later");
  assert.is(g.nic.counters().rxNoBuffer, 1);
  g.nic.load(g.nic.save()); // all 64 are part of the state
  g.setLinkDown();
  assert.equal(
    g.peer.readies,
    Array.from({ length: 64 }, (_, hint) => hint),
  );
});

test("a sender that waits is forgotten when the cable is pulled", () => {
  const g = new Guest({ size: 16 });
  g.peer.holds = true;
  assert.is(g.receive(flowFrame({ port: 1 })), "later");
  g.nic.net.attach(null);
  g.nic.net.attach(g.peer);
  g.notify(RX);
  assert.equal(g.peer.readies, []);
});

test("each transmit queue stands still by itself", () => {
  const g = start();
  setPairs(g, PAIRS);
  let full = true;
  g.peer.onOffer = (hint) => {
    g.peer.verdict = () => (full && hint === 2 ? "later" : "taken");
  };
  for (let pair = 0; pair < PAIRS; pair++) send(g, pair, flowFrame({ port: pair, out: true }));
  assert.equal(
    [1, 3, 5, 7].map((queue) => g.usedIdx(queue)),
    [1, 1, 0, 1],
  );
  send(g, 3, flowFrame({ port: 3, out: true }));
  assert.is(g.usedIdx(7), 2);
  full = false;
  for (const hint of [0, 1, 3, 4, -1, 77]) g.nic.net.ready(hint);
  assert.is(g.usedIdx(5), 0);
  g.nic.net.ready(2);
  assert.is(g.usedIdx(5), 1);
  assert.equal(g.peer.hints, [0, 1, 3, 3, 2]);
  assert.is(g.nic.counters().txFrames, 5);
});

test("frames gathered on one queue survive what is gathered on another meanwhile", () => {
  const g = start();
  setPairs(g, PAIRS);
  const inPieces = (pair: number, port: number) => {
    const at = BUFFERS + 0x8_0000 + 0x1_0000 * pair;
    const bytes = flowFrame({ port, out: true });
    g.host.put(at, new Uint8Array(12));
    g.host.put(at + 12, bytes.subarray(0, 20));
    g.host.put(at + 0x1000, bytes.subarray(20));
    g.chain(2 * pair + 1, 0, [at, 32, 0], [at + 0x1000, bytes.length - 20, 0]);
  };
  inPieces(1, 2);
  g.peer.verdict = () => "later";
  g.notify(3);
  g.peer.verdict = () => "taken";
  inPieces(0, 1);
  let nested = false;
  g.peer.onOffer = () => {
    if (nested) return;
    nested = true;
    g.nic.net.ready(1); // in the middle of what it is offered
  };
  g.notify(TX);
  assert.equal(g.peer.hints, [1, 0]);
  assert.equal([...g.peer.frames[0]!], [...flowFrame({ port: 2, out: true })]);
  assert.equal([...g.peer.frames[1]!], [...flowFrame({ port: 1, out: true })]);
});

test("a queue in reset passes its frames to another; without any, they are dropped", () => {
  const g = start({ high: H_RING_RESET, card: { ringReset: true, queuePairs: PAIRS } });
  setPairs(g, PAIRS);
  send(g, 2, flowFrame({ port: 5, out: true }));
  g.receive(flowFrame({ port: 5 }));
  assert.equal(received(g), [0, 0, 1, 0]);
  const resetQueue = (queue: number): void => {
    g.out(0x16, 2, queue);
    g.out(0x3a, 2, 1);
    assert.equal([g.nic.barRead(4, 0x3a, 2), g.nic.barRead(4, 0x1c, 2)], [0, 0]);
  };
  resetQueue(4);
  assert.is(g.receive(flowFrame({ port: 5 })), "taken");
  assert.equal(received(g), [0, 0, 1, 1]);
  for (const queue of [0, 2, 6]) resetQueue(queue);
  const { rxFiltered } = g.nic.counters();
  assert.is(g.receive(flowFrame({ port: 5 })), "dropped");
  assert.is(g.nic.counters().rxFiltered, rxFiltered + 1);
});

test("whoever waits for a queue that is reset comes again", () => {
  const g = start({ high: H_RING_RESET, card: { ringReset: true, queuePairs: PAIRS } });
  g.peer.holds = true;
  for (let i = 0; i < 8; i++) g.receive(flowFrame({ port: 1 }));
  assert.is(g.receive(flowFrame({ port: 1 }), null, 3), "later");
  g.out(0x16, 2, 0);
  g.out(0x3a, 2, 1);
  assert.equal(g.peer.readies, [3]);
});

test("VIO-271 a batch over several queues interrupts once for each of them", () => {
  const g = start();
  setPairs(g, PAIRS);
  for (let pair = 0; pair < PAIRS; pair++) send(g, pair, flowFrame({ port: pair, out: true }));
  g.isr;
  const { interrupts } = g.nic.counters();
  g.messagesOn();
  for (let round = 0; round < 2; round++)
    for (const pair of [1, 3]) {
      const bytes = flowFrame({ port: pair });
      g.nic.net.offer(bytes, 0, bytes.length, null, 0);
    }
  assert.equal(g.host.vectors, []);
  g.nic.net.endBatch();
  assert.equal(g.host.vectors, [1 + 2, 1 + 6]);
  assert.is(g.nic.counters().interrupts, interrupts + 2);
  g.nic.net.endBatch();
  assert.is(g.host.messages.length, 2);
});

test("frames that are open when their queue goes out of use are notified of before the command is used", () => {
  const g = start();
  setPairs(g, PAIRS);
  send(g, 3, flowFrame({ port: 3, out: true }));
  g.messagesOn();
  const bytes = flowFrame({ port: 3 });
  g.nic.net.offer(bytes, 0, bytes.length, null, 0);
  setPairs(g, 1);
  assert.ok(g.host.vectors.includes(1 + 6));
});

test("VIO-314 merged buffers, indirect tables and pairs go together", () => {
  const g = start({ features: FEATURES + F_MRG_RXBUF + F_INDIRECT });
  assert.is(setPairs(g, PAIRS), OK);
  send(g, 1, flowFrame({ port: 9, out: true }));
  const long = flowFrame({ port: 9, payload: 3000 });
  assert.is(g.receive(long), "taken");
  assert.is(g.usedIdx(2), 2);
  assert.is(g.host.get(BUFFERS + 0x1_0000 + 10, 2), 2);
});

test("flows, queues that stand still and senders that wait are part of the state", () => {
  const g = start();
  g.peer.holds = true;
  setPairs(g, PAIRS);
  for (let pair = 0; pair < PAIRS; pair++) send(g, pair, flowFrame({ port: 70 + pair, out: true }));
  for (let i = 0; i < 8; i++) g.receive(flowFrame({ port: 73 }));
  assert.is(g.receive(flowFrame({ port: 73 }), null, 5), "later");
  g.peer.verdict = () => "later";
  send(g, 1, flowFrame({ port: 71, out: true }));
  const fresh = start({ start: false });
  fresh.status = 0;
  fresh.peer.holds = true;
  fresh.host.memory.windows[0]!.bytes.set(g.host.memory.windows[0]!.bytes);
  fresh.nic.load(structuredClone(g.nic.save()));
  assert.equal(fresh.nic.save(), g.nic.save());
  fresh.nic.net.ready(0);
  assert.equal(fresh.peer.hints, []);
  fresh.nic.net.ready(1);
  assert.equal(fresh.peer.hints, [1]);
  const before = received(fresh);
  for (const pair of [2, 0, 1]) assert.is(fresh.receive(flowFrame({ port: 70 + pair })), "taken");
  assert.equal(received(fresh), [before[0]! + 1, before[1]! + 1, before[2]! + 1, before[3]]);
  fresh.notify(6);
  assert.equal(fresh.peer.readies, [5]);
});

test.run();
