import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../src/bytes/index.js";
import { type TxPolicy, virtioNet } from "./index.js";
import { BUFFERS, F_CTRL_VQ, F_EVENT_IDX, F_MQ, Guest, type GuestOptions, H_RING_RESET, TX } from "./testing.js";

/** What QEMU's `tx=timer` waited in 2010, ns: TX_TIMER_INTERVAL */
const DELAY = 150_000;
const TIMER = { kind: "timer", delayNs: DELAY } as const;

const start = (txPolicy: TxPolicy, options: GuestOptions = {}): Guest => {
  const { card, ...rest } = options;
  return new Guest({ card: { txPolicy, ...card }, size: 16, ...rest });
};
/** Makes a frame available without a notification. */
const add = (g: Guest, queue = TX): void => g.chain(queue, 0, [BUFFERS + 0x8_0000, 72, 0]);
const sent = (g: Guest): number => g.peer.frames.length;
/** Whether the driver is asked not to notify: NO_NOTIFY. */
const quiet = (g: Guest): boolean => g.usedFlags(TX) === 1;

test("a timer: the first notification begins a wait without further ones, at whose end all is sent", () => {
  const g = start(TIMER);
  add(g);
  g.notify(TX);
  assert.equal([sent(g), quiet(g), g.usedIdx(TX)], [0, true, 0]);
  assert.is(g.host.clock.due, DELAY);
  for (let i = 0; i < 4; i++) add(g);
  g.host.clock.advance(DELAY - 1);
  assert.is(sent(g), 0);
  g.host.clock.advance(1);
  assert.equal([sent(g), quiet(g), g.usedIdx(TX)], [5, false, 5]);
  assert.is(g.peer.batches, 1);
  assert.is(g.isr, 1, "one interrupt for all");
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  add(g);
  g.notify(TX);
  assert.is(sent(g), 5, "and from the beginning");
  g.host.clock.advance(DELAY);
  assert.is(sent(g), 6);
});

test("a notification during the wait sends at once, as a full ring's does with old drivers", () => {
  const g = start(TIMER);
  for (let i = 0; i < 3; i++) add(g);
  g.notify(TX);
  g.host.clock.advance(DELAY / 3);
  for (let i = 3; i < 16; i++) add(g);
  g.notify(TX);
  assert.equal([sent(g), quiet(g)], [16, false]);
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY, "the timer is off");
  add(g);
  g.notify(TX);
  assert.is(sent(g), 16);
});

test("with event indices the event stands where it was passed until the wait is over", () => {
  const g = start(TIMER, { features: F_EVENT_IDX });
  const event = () => g.host.get(g.used(TX) + 4 + 8 * 16, 2);
  add(g);
  g.notify(TX);
  add(g);
  assert.is(event(), 0);
  g.host.clock.advance(DELAY);
  assert.equal([sent(g), event()], [2, 2]);
});

test("deferred: sent when the host's clock next fires, however often the driver notifies", () => {
  const g = start("deferred");
  for (let i = 0; i < 3; i++) {
    add(g);
    g.notify(TX);
  }
  assert.equal([sent(g), quiet(g), g.host.clock.due], [0, true, 0]);
  g.host.clock.advance(0);
  assert.equal([sent(g), quiet(g), g.peer.batches], [3, false, 1]);
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
});

test("immediate: the host's choice alone, and no timer", () => {
  const g = start("immediate");
  assert.is(g.host.clock.timers, 0);
  add(g);
  g.notify(TX);
  assert.is(sent(g), 1);
  g.host.work.deferred = true;
  add(g);
  g.notify(TX);
  assert.is(sent(g), 1);
  g.host.work.poll();
  assert.is(sent(g), 2);
});

test("on top of a host that works queues later, the wait begins when it does", () => {
  const g = start(TIMER);
  g.host.work.deferred = true;
  add(g);
  g.notify(TX);
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  g.host.work.poll();
  assert.is(g.host.clock.due, DELAY);
  g.host.clock.advance(DELAY);
  assert.is(sent(g), 0);
  g.host.work.poll();
  assert.is(sent(g), 1);
});

test("what is left after a turn, or after the far end was full, does not wait once more", () => {
  const g = start(TIMER);
  for (let i = 0; i < 4; i++) add(g);
  g.peer.verdict = () => (sent(g) === 2 ? "later" : "taken");
  g.notify(TX);
  g.host.clock.advance(DELAY);
  assert.is(sent(g), 2);
  g.peer.verdict = () => "taken";
  g.nic.net.ready(0);
  assert.equal([sent(g), quiet(g)], [4, false]);
  add(g);
  g.notify(TX);
  assert.is(sent(g), 4, "but the next frame does");
  const b = start(TIMER);
  b.host.work.budget = 2;
  for (let i = 0; i < 7; i++) add(b);
  b.notify(TX);
  b.host.clock.advance(DELAY);
  assert.equal([sent(b), quiet(b)], [7, false]);
});

test("VIO-298 what was made available before DRIVER_OK is sent at once: nobody notified of it", () => {
  const g = start(TIMER, { start: false });
  add(g);
  g.driverOk();
  assert.is(sent(g), 1);
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  add(g);
  g.notify(TX);
  assert.is(sent(g), 1);
});

test("a reset, of the card or of the queue, ends the wait and sends nothing", () => {
  const g = start(TIMER, { high: H_RING_RESET, card: { txPolicy: TIMER, ringReset: true } });
  add(g);
  g.notify(TX);
  g.out(0x16, 2, TX);
  g.out(0x3a, 2, 1);
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  g.setUp();
  g.driverOk();
  add(g);
  g.notify(TX);
  g.status = 0;
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
  g.host.clock.advance(DELAY);
  assert.is(sent(g), 0);
  // Half through a wait that was over: the next life begins with a wait of its own.
  g.setUp();
  g.driverOk();
  g.peer.verdict = () => "later";
  add(g);
  g.notify(TX);
  g.host.clock.advance(DELAY);
  g.status = 0;
  g.peer.verdict = () => "taken";
  g.setUp();
  g.driverOk();
  add(g);
  g.notify(TX);
  assert.equal([sent(g), g.host.clock.due], [0, DELAY]);
});

test("each transmit queue waits for itself", () => {
  const g = start(TIMER, { features: F_CTRL_VQ + F_MQ, card: { txPolicy: TIMER, queuePairs: 3 }, pairs: 3 });
  g.command(4, 0, [3, 0]);
  add(g, 1);
  g.notify(1);
  g.host.clock.advance(DELAY / 2);
  add(g, 5);
  g.notify(5);
  assert.is(g.host.clock.due, DELAY / 2);
  g.host.clock.advance(DELAY / 2);
  assert.equal(g.peer.hints, [0]);
  add(g, 5);
  g.notify(5);
  assert.equal(g.peer.hints, [0, 2, 2]);
  assert.is(g.host.clock.due, Number.POSITIVE_INFINITY);
});

test("the link's fall and a shut door in the wait", () => {
  const g = start(TIMER);
  add(g);
  g.notify(TX);
  g.setLinkDown();
  g.host.clock.advance(DELAY);
  assert.equal([sent(g), g.usedIdx(TX), g.nic.counters().txDropped], [0, 1, 1]);
  g.nic.setLink(true);
  add(g);
  g.notify(TX);
  g.nic.configWrite(4, 2, 3); // Bus Master off
  g.host.clock.advance(DELAY);
  assert.is(g.usedIdx(TX), 1);
  g.nic.configWrite(4, 2, 7);
  g.notify(TX);
  assert.equal([sent(g), g.usedIdx(TX)], [1, 2], "it has waited already");
});

test("a wait that is cut by a snapshot goes on to the same instant", () => {
  for (const policy of [TIMER, "deferred"] as const) {
    const g = start(policy);
    add(g);
    g.notify(TX);
    g.host.clock.advance(policy === TIMER ? DELAY / 3 : 0);
    if (policy === "deferred") {
      add(g);
      g.notify(TX);
    }
    const fresh = start(policy, { start: false });
    fresh.status = 0;
    fresh.host.memory.windows[0]!.bytes.set(g.host.memory.windows[0]!.bytes);
    fresh.host.clock.set(g.host.clock.now());
    fresh.nic.load(structuredClone(g.nic.save()));
    assert.equal(fresh.nic.save(), g.nic.save());
    assert.is(fresh.host.clock.due, g.host.clock.due);
    const before = sent(g);
    for (const one of [g, fresh]) one.host.clock.advance(DELAY);
    assert.is(sent(fresh), sent(g) - before);
    assert.is(sent(fresh), 1);
  }
});

test("policies that there are not are refused", () => {
  for (const txPolicy of [
    "timer",
    { kind: "timer", delayNs: 0 },
    { kind: "timer", delayNs: 1.5 },
    { kind: "bh" },
    null,
    {},
  ])
    assert.throws(
      () => virtioNet({ txPolicy } as never),
      (error: unknown) => error instanceof ConfigError && error.code === "virtio-net-tx-policy",
      JSON.stringify(txPolicy),
    );
});

test.run();
