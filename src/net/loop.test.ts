import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import { Loop } from "./loop.js";
import { OffloadRecord, TAKES_ALL } from "./offload.js";
import { frameOf, TestPort } from "./testing.js";
import { connect } from "./wire.js";

test("every frame comes back to its sender", () => {
  const card = new TestPort();
  connect(card, new Loop());
  assert.is(card.send(frameOf(2, 1, 7), null, 3), "taken");
  assert.equal(card.taken, [{ frame: frameOf(2, 1, 7), offload: null, queueHint: 3 }]);
  card.far?.endBatch();
  assert.is(card.batches, 1);
});

test("a card that tells itself later is resumed by its own ready", () => {
  const card = new TestPort();
  connect(card, new Loop());
  card.verdict = () => "later";
  assert.is(card.send(frameOf(2, 1, 7)), "later");
  card.far?.ready(2);
  assert.equal(card.readies, [2]);
});

test("what the sender cannot take itself is finished for it", () => {
  const card = new TestPort();
  card.limits = { ...TAKES_ALL, csum: false };
  connect(card, new Loop());
  const offload = Object.assign(new OffloadRecord(), { needsCsum: true, csumStart: 14, csumOffset: 2 });
  card.send(frameOf(2, 1, 7), offload);
  assert.is(card.taken[0]?.offload, null);
});

test("a sender that answers its own answer is not heard", () => {
  const card = new TestPort();
  connect(card, new Loop());
  const verdicts: unknown[] = [];
  card.onOffer = () => verdicts.push(card.send(frameOf(2, 1, 8)));
  assert.is(card.send(frameOf(2, 1, 7)), "taken");
  assert.equal(verdicts, ["dropped"]);
});

test("one cable fits", () => {
  const loop = new Loop();
  assert.is(loop.offer(frameOf(1, 2, 3), 0, 60, null, 0), "dropped");
  const cable = connect(new TestPort(), loop);
  assert.throws(
    () => connect(new TestPort(), loop),
    (error: unknown) => error instanceof ConfigError && error.code === "port-occupied",
  );
  cable[Symbol.dispose]();
  connect(new TestPort(), loop);
});

test.run();
