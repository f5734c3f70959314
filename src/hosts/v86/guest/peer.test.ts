import { test } from "uvu";
import * as assert from "uvu/assert";
import { internetChecksum } from "../../../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Verdict } from "../../../contract/index.js";
import { PingPeer } from "./peer.js";

const PEER_MAC = [0x52, 0x54, 0, 0, 2, 2];
const CARD_MAC = [0x52, 0x54, 0, 3, 0x99, 0];
const PEER_IP = [10, 0, 2, 2];
const CARD_IP = [10, 0, 2, 15];

/** A card that keeps what it is offered. */
class Card implements NetPort {
  readonly frames: number[][] = [];
  verdict: Verdict = "taken";
  far: NetEndpoint | null = null;
  attach(far: NetEndpoint | null): void {
    this.far = far;
  }
  offer(bytes: Uint8Array, start: number, length: number): Verdict {
    if (this.verdict === "taken") this.frames.push([...bytes.subarray(start, start + length)]);
    return this.verdict;
  }
  endBatch(): void {}
  ready(): void {}
  accepts(): EndpointLimits {
    throw new Error("not asked");
  }
  /** Sends a frame from somewhere in the middle of a larger array, as a card does. */
  send(frame: number[]): void {
    const bytes = new Uint8Array(frame.length + 7);
    bytes.set(frame, 3);
    this.far!.offer(bytes, 3, frame.length, null, 0);
    bytes.fill(0xee); // valid during the call only
  }
}

function cable(): { card: Card; peer: PingPeer } {
  const card = new Card();
  const peer = new PingPeer("52:54:00:00:02:02", "10.0.2.2");
  peer.connect(card);
  return { card, peer };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

const arpRequest = (ip: number[]) => [
  ...[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...CARD_MAC, 0x08, 0x06],
  ...[0, 1, 8, 0, 6, 4, 0, 1, ...CARD_MAC, ...CARD_IP, 0, 0, 0, 0, 0, 0, ...ip],
];

function echoRequest(payload: number[]): number[] {
  const icmp = Uint8Array.from([8, 0, 0, 0, 0x12, 0x34, 0, 1, ...payload]);
  const sum = internetChecksum(icmp, 0, icmp.length);
  icmp.set([sum >> 8, sum & 0xff], 2);
  const ip = Uint8Array.from([0x45, 0, 0, 20 + icmp.length, 0, 1, 0x40, 0, 64, 1, 0, 0, ...CARD_IP, ...PEER_IP]);
  const ipSum = internetChecksum(ip, 0, 20);
  ip.set([ipSum >> 8, ipSum & 0xff], 10);
  return [...PEER_MAC, ...CARD_MAC, 0x08, 0x00, ...ip, ...icmp];
}

test("answers ARP for its own address, in a later turn", async () => {
  const { card } = cable();
  card.send(arpRequest(PEER_IP));
  assert.is(card.frames.length, 0);
  await turn();
  const answer = card.frames[0]!;
  assert.is(answer.length, 60);
  assert.equal(answer.slice(0, 42), [
    ...[...CARD_MAC, ...PEER_MAC, 0x08, 0x06],
    ...[0, 1, 8, 0, 6, 4, 0, 2, ...PEER_MAC, ...PEER_IP, ...CARD_MAC, ...CARD_IP],
  ]);
});

test("answers a ping with the same payload and right checksums", async () => {
  const { card, peer } = cable();
  const payload = Array.from({ length: 57 }, (_, i) => i);
  card.send(echoRequest(payload));
  await turn();
  const answer = Uint8Array.from(card.frames[0]!);
  assert.equal([...answer.subarray(0, 12)], [...CARD_MAC, ...PEER_MAC]);
  assert.is(internetChecksum(answer, 14, 20), 0);
  assert.equal([...answer.subarray(26, 34)], [...PEER_IP, ...CARD_IP]);
  assert.is(answer[34], 0);
  assert.is(internetChecksum(answer, 34, 8 + payload.length), 0);
  assert.equal([...answer.subarray(42)], payload);
  assert.is(peer.echoes, 1);
});

test("is silent about other addresses, wrong checksums and frames cut short", async () => {
  const { card, peer } = cable();
  const wrong = echoRequest([1, 2, 3, 4]);
  wrong[45]! ^= 1;
  card.send(arpRequest([10, 0, 2, 3]));
  card.send(wrong);
  card.send(echoRequest([1, 2, 3, 4]).slice(0, 44));
  card.send([...PEER_MAC, ...CARD_MAC, 0x08, 0x00]);
  await turn();
  assert.is(card.frames.length, 0);
  assert.is(peer.received, 4);
  assert.is(peer.echoes, 0);
});

test("keeps an answer that the card cannot hold yet", async () => {
  const { card } = cable();
  card.verdict = "later";
  card.send(arpRequest(PEER_IP));
  await turn();
  card.verdict = "taken";
  card.far!.ready(0);
  assert.is(card.frames.length, 1);
});

test.run();
