import { test } from "uvu";
import * as assert from "uvu/assert";
import { PcapngWriter } from "./pcapng.js";
import { Tap, type TapInterfaces } from "./tap.js";
import { frameOf, TestClock, TestPort } from "./testing.js";
import { connect } from "./wire.js";

interface Record {
  readonly id: number;
  readonly direction: number;
  readonly tag: number;
}

/** The frames of a file: interface, direction bits and tag. */
const recordsOf = (file: Buffer): Record[] => {
  const records: Record[] = [];
  for (let at = 0; at < file.length; at += file.readUInt32LE(at + 4)) {
    if (file.readUInt32LE(at) !== 6) continue;
    const flags = at + file.readUInt32LE(at + 4) - 12;
    records.push({ id: file.readUInt32LE(at + 8), direction: file.readUInt32LE(flags), tag: file[at + 28 + 14]! });
  }
  return records;
};

const rig = (interfaces?: TapInterfaces) => {
  const chunks: Uint8Array[] = [];
  const writer = new PcapngWriter({ clock: new TestClock(), sink: (chunk) => chunks.push(chunk.slice()) });
  const ids = interfaces ?? 0;
  writer.addInterface({ name: "one" });
  writer.addInterface({ name: "two" });
  const [card, other] = [new TestPort(), new TestPort()];
  const tap = new Tap(card, writer, ids);
  const wire = connect(tap, other);
  const records = (): Record[] => {
    writer.flush();
    return recordsOf(Buffer.concat(chunks));
  };
  return { card, other, tap, wire, writer, chunks, records };
};

test("both directions are recorded as the card sees them, on one interface", () => {
  const { card, other, records } = rig();
  assert.is(card.send(frameOf(2, 1, 5), null, 3), "taken");
  assert.is(other.send(frameOf(1, 2, 6), null, 4), "taken");
  assert.equal(other.taken[0], { frame: frameOf(2, 1, 5), offload: null, queueHint: 3 });
  assert.equal(card.taken[0], { frame: frameOf(1, 2, 6), offload: null, queueHint: 4 });
  assert.equal(records(), [
    { id: 0, direction: 2, tag: 5 },
    { id: 0, direction: 1, tag: 6 },
  ]);
});

test("or on two", () => {
  const { card, other, records } = rig({ inbound: 1, outbound: 0 });
  card.send(frameOf(2, 1, 5));
  other.send(frameOf(1, 2, 6));
  assert.equal(
    records().map(({ id }) => id),
    [0, 1],
  );
});

test("a frame that is answered later is recorded once, when it is taken", () => {
  const { card, other, records } = rig();
  other.verdict = () => "later";
  assert.is(card.send(frameOf(2, 1, 5)), "later");
  other.far?.ready(0);
  assert.equal(card.readies, [0]);
  other.verdict = () => "taken";
  card.send(frameOf(2, 1, 5));
  assert.equal(
    records().map(({ tag }) => tag),
    [5],
  );
});

test("an answer given at once stands after its question", () => {
  const { card, other, records } = rig();
  other.onOffer = () => other.send(frameOf(1, 2, 6));
  card.send(frameOf(2, 1, 5));
  assert.equal(
    records().map(({ tag }) => tag),
    [5, 6],
  );
});

test("what the far end drops is recorded, and counted", () => {
  const { card, other, writer, chunks, records } = rig();
  other.verdict = () => "dropped";
  assert.is(card.send(frameOf(2, 1, 5)), "dropped");
  assert.is(records().length, 1);
  writer.close();
  const dropped = Buffer.concat(chunks).indexOf(Buffer.from("05000800" + "0100000000000000", "hex"));
  assert.ok(dropped > 0, "isb_ifdrop is 1");
});

test("the end of a batch flushes and goes on", () => {
  const { card, other, chunks } = rig();
  card.send(frameOf(2, 1, 5));
  assert.is(chunks.length, 0);
  card.far?.endBatch();
  assert.is(chunks.length, 1);
  assert.is(other.batches, 1);
  other.far?.endBatch();
  assert.is(card.batches, 1);
});

test("a tap is plugged in and out like the port it stands for", () => {
  const { card, other, tap, wire, records } = rig();
  assert.throws(() => tap.attach(new TestPort()), /occupied/);
  assert.is(card.send(frameOf(2, 1, 1)), "taken", "a refused plug changes nothing");
  assert.is(card.far?.accepts(), other.limits);
  assert.is(tap.accepts(), card.limits);
  const { far } = card;
  wire[Symbol.dispose]();
  assert.is(card.far, null);
  assert.is(far?.offer(frameOf(2, 1, 2), 0, 60, null, 0), "dropped");
  assert.is(far?.accepts().holds, false);
  assert.is(records().length, 1);
  connect(tap, other);
  card.send(frameOf(2, 1, 3));
  assert.equal(other.tags, [1, 3]);
});

test.run();
