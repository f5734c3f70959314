import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, internetChecksum } from "../bytes/index.js";
import { Responder } from "./responder.js";
import { TestPort } from "./testing.js";
import { connect } from "./wire.js";

const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from(hex.replace(/\s/g, "").match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

const rig = () => {
  const responder = new Responder({ mac: "52:54:00:00:00:02", ip: "10.0.2.2" });
  const guest = new TestPort();
  connect(guest, responder);
  return { responder, guest };
};

const ARP_REQUEST = bytesOf(`
  ffffffffffff 525400123456 0806  0001 0800 06 04 0001
  525400123456 0a00020f  000000000000 0a000202`);

/** A ping of 4 bytes of data from 10.0.2.15; both checksums worked out by hand. */
const PING = bytesOf(`
  525400000002 525400123456 0800
  4500 0020 0001 0000 4001 62cc 0a00020f 0a000202
  0800 2104 1234 0001 61626364`);

test("an ARP request for its address is answered, padded to a whole frame", () => {
  const { guest, responder } = rig();
  assert.is(guest.send(ARP_REQUEST), "taken");
  const reply = guest.taken[0]?.frame;
  const expected = bytesOf(`
    525400123456 525400000002 0806  0001 0800 06 04 0002
    525400000002 0a000202  525400123456 0a00020f`);
  assert.equal(reply?.subarray(0, 42), expected);
  assert.equal(reply?.subarray(42), new Uint8Array(18));
  assert.is(guest.batches, 1);
  assert.equal(responder.counters(), { arpReplies: 1, echoReplies: 0, ignored: 0 });
});

test("a ping is answered with the same data and good checksums", () => {
  assert.is(internetChecksum(PING, 14, 20), 0);
  assert.is(internetChecksum(PING, 34, 12), 0);
  const { guest } = rig();
  guest.send(PING);
  const reply = guest.taken[0]!.frame;
  assert.equal(
    reply.subarray(0, 46),
    bytesOf(`
    525400123456 525400000002 0800
    4500 0020 0001 0000 4001 62cc 0a000202 0a00020f
    0000 2904 1234 0001 61626364`),
  );
  assert.is(reply.length, 60);
});

test("every length of data that fits a frame comes back unchanged", () => {
  const { guest } = rig();
  const data = fc.uint8Array({ minLength: 0, maxLength: 1472 });
  fc.assert(
    fc.property(data, (bytes) => {
      const ping = new Uint8Array(42 + bytes.length);
      ping.set(PING.subarray(0, 42));
      ping.set(bytes, 42);
      const view = new DataView(ping.buffer);
      view.setUint16(16, 28 + bytes.length);
      view.setUint16(24, 0);
      view.setUint16(24, internetChecksum(ping, 14, 20));
      view.setUint16(36, 0);
      view.setUint16(36, internetChecksum(ping, 34, 8 + bytes.length));
      guest.taken.length = 0;
      guest.send(ping);
      const reply = guest.taken[0]!.frame;
      assert.equal(reply.subarray(42, 42 + bytes.length), bytes);
      assert.is(reply.length, Math.max(60, ping.length));
      assert.is(internetChecksum(reply, 14, 20), 0);
      assert.is(internetChecksum(reply, 34, 8 + bytes.length), 0);
    }),
    { numRuns: 60 },
  );
});

test("what is for another, broken or of another kind is taken and ignored", () => {
  const { guest, responder } = rig();
  const changed = (frame: Uint8Array, at: number, value: number): void => {
    const copy = frame.slice();
    copy[at] = value;
    assert.is(guest.send(copy), "taken", `byte ${at}`);
  };
  changed(ARP_REQUEST, 41, 3); // another address is asked for
  changed(ARP_REQUEST, 21, 2); // a reply
  changed(ARP_REQUEST, 13, 0x07); // another protocol
  changed(PING, 5, 3); // another station's MAC
  changed(PING, 33, 3); // another station's IP
  changed(PING, 34, 0); // a reply
  changed(PING, 23, 17); // UDP
  changed(PING, 20, 0x20); // a fragment
  changed(PING, 17, 200); // longer than it is
  changed(PING, 14, 0x44); // header too short
  changed(PING, 45, 0); // data spoiled on the way
  guest.send(PING.subarray(0, 30));
  assert.is(responder.counters().ignored, 12);
  assert.is(guest.taken.length, 0);
});

test("random frames never throw, and get an answer of a legal length or none", () => {
  const { guest } = rig();
  const base = fc.constantFrom(ARP_REQUEST, PING);
  const changes = fc.array(fc.tuple(fc.nat(45), fc.nat(255)), { maxLength: 3 });
  fc.assert(
    fc.property(base, changes, fc.nat(1600), (frame, list, length) => {
      const copy = new Uint8Array(Math.max(length, 14));
      copy.set(frame.subarray(0, copy.length));
      for (const [at, value] of list) if (at < copy.length) copy[at] = value;
      guest.taken.length = 0;
      guest.send(copy);
      for (const reply of guest.taken) assert.ok(reply.frame.length >= 60 && reply.frame.length <= 1514);
    }),
    { numRuns: 300 },
  );
});

test("a guest that asks again within the answer gets no second one in the same buffer", () => {
  const { guest, responder } = rig();
  guest.onOffer = () => guest.send(PING);
  guest.send(ARP_REQUEST);
  assert.is(guest.taken.length, 1);
  assert.is(guest.taken[0]?.frame[13], 0x06);
  assert.is(responder.counters().ignored, 1);
});

test("addresses that are none are refused, a second cable too", () => {
  const refused = (code: string, act: () => unknown): void =>
    assert.throws(act, (error: unknown) => error instanceof ConfigError && error.code === code);
  for (const ip of ["10.0.2", "10.0.2.256", "10.0.2.2.1", "a.b.c.d", "10.0.2."])
    refused("ip-address", () => new Responder({ mac: "52:54:00:00:00:02", ip }));
  refused("mac-address", () => new Responder({ mac: "53:54:00:00:00:02", ip: "10.0.2.2" }));
  const { responder } = rig();
  refused("port-occupied", () => responder.attach(new TestPort()));
});

test.run();
