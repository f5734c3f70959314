import { createRequire } from "node:module";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { V86 } from "v86";
import { ETHER_HDR_LEN, internetChecksum } from "../../bytes/index.js";
import { connect } from "../../net/index.js";
import { frameOf, TestPort } from "../../net/testing.js";
import { v86Network } from "./index.js";
import { rigs, turn } from "./v86-testing.js";

// v86's adapters that speak to a relay: `ws://`, a frame a message, and `wisp://`, a TCP connection a stream. The relay is in
// this process, behind a WebSocket of its own, since Node 20 has none.

const { boot } = rigs(V86, createRequire(import.meta.url).resolve("v86/build/v86.wasm"));

/** The browser's end of a WebSocket, as far as v86 uses it. */
class RelaySocket {
  static readonly opened: RelaySocket[] = [];
  readonly url: string;
  readonly heard: Uint8Array[] = [];
  readyState = 0;
  binaryType = "blob";
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: ArrayBuffer }) => void) | null = null;
  onclose: (() => void) | null = null;
  onerror: (() => void) | null = null;
  constructor(url: string) {
    this.url = url;
    RelaySocket.opened.push(this);
  }
  /** What the relay does. */
  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  say(bytes: Uint8Array): void {
    assert.is(this.binaryType, "arraybuffer");
    this.onmessage?.({ data: bytes.slice().buffer });
  }
  send(bytes: Uint8Array): void {
    assert.is(this.readyState, 1);
    this.heard.push(bytes.slice());
  }
  close(): void {
    this.readyState = 3;
  }
}

const names = globalThis as { WebSocket?: unknown };

/** A card's end of a cable to v86's adapter, and the relay behind that. */
async function relayed(relay_url: string, act: (card: TestPort, socket: () => RelaySocket) => Promise<void>) {
  const former = names.WebSocket;
  names.WebSocket = RelaySocket;
  RelaySocket.opened.length = 0;
  try {
    const emulator = await boot({ net_device: { type: "none" as never, relay_url } });
    const card = new TestPort();
    using _cable = connect(card, v86Network(emulator));
    await act(card, () => {
      assert.is(RelaySocket.opened.length, 1);
      return RelaySocket.opened[0]!;
    });
    await emulator.destroy();
  } finally {
    names.WebSocket = former;
  }
}

const send = (card: TestPort, frame: Uint8Array): void => {
  assert.is(card.far?.offer(frame, 0, frame.length, null, 0), "taken");
  card.far?.endBatch();
};

test("frames go to a relay at ws:// and come from it, those of before it was there as well", async () => {
  await relayed("ws://relay.test:8080/", async (card, socket) => {
    send(card, frameOf(1, 2, 7));
    assert.is(socket().url, "ws://relay.test:8080/");
    socket().open();
    send(card, frameOf(1, 2, 8));
    assert.equal(socket().heard, [frameOf(1, 2, 7), frameOf(1, 2, 8)]);
    socket().say(frameOf(2, 1, 9));
    await turn();
    assert.equal(
      card.taken.map(({ frame }) => frame),
      [frameOf(2, 1, 9)],
    );
  });
});

const ROUTER_MAC = [0x52, 0x54, 0, 1, 2, 3]; // v86's own
const MAC = [0x52, 0x54, 0, 0xba, 0xbe, 1];
const GUEST = [192, 168, 86, 100];
const SERVER = [198, 51, 100, 7];
const [SYN, ACK, PSH] = [0x02, 0x10, 0x08];
const be16 = (n: number): number[] => [(n >>> 8) & 0xff, n & 0xff];
const be32 = (n: number): number[] => [...be16(n >>> 16), ...be16(n & 0xffff)];

/** A TCP segment of the guest's to port 80 of the server. */
const segment = (seq: number, ack: number, flags: number, payload: readonly number[] = []): Uint8Array => {
  const tcp = [...be16(4000), 0, 80, ...be32(seq), ...be32(ack), 0x50, flags, 0xff, 0xff, 0, 0, 0, 0, ...payload];
  const pseudo = Uint8Array.from([...GUEST, ...SERVER, 0, 6, ...be16(tcp.length), ...tcp]);
  tcp.splice(16, 2, ...be16(internetChecksum(pseudo, 0, pseudo.length)));
  const ip = [0x45, 0, ...be16(20 + tcp.length), 0, 1, 0x40, 0, 64, 6, 0, 0, ...GUEST, ...SERVER];
  ip.splice(10, 2, ...be16(internetChecksum(Uint8Array.from(ip), 0, 20)));
  const frame = new Uint8Array(Math.max(60, ETHER_HDR_LEN + ip.length + tcp.length));
  frame.set([...ROUTER_MAC, ...MAC, 8, 0, ...ip, ...tcp]);
  return frame;
};

/** Messages of Wisp 1.2: a type, the stream's number in little-endian order, and what belongs to the type. */
const WISP = { CONNECT: 1, DATA: 2, CONTINUE: 3 } as const;
const wisp = (type: number, stream: number, rest: readonly number[]): Uint8Array =>
  Uint8Array.of(type, stream, 0, 0, 0, ...rest);
const bytesOf = (text: string): number[] => [...new TextEncoder().encode(text)];

test("a guest's TCP connection is a stream of a relay at wisp://", async () => {
  await relayed("wisp://relay.test/", async (card, socket) => {
    assert.is(socket().url, "ws://relay.test/");
    socket().open();
    socket().say(wisp(WISP.CONTINUE, 0, [16, 0, 0, 0])); // room for so many messages
    const heardByGuest = (): { flags: number; seq: number; payload: number[] }[] =>
      card.taken.splice(0).flatMap(({ frame }) => {
        if (frame[23] !== 6) return [];
        const view = new DataView(frame.buffer, frame.byteOffset);
        const data = 34 + (frame[46]! >>> 4) * 4;
        return [
          { flags: frame[47]!, seq: view.getUint32(38), payload: [...frame.subarray(data, 14 + view.getUint16(16))] },
        ];
      });
    send(card, segment(1000, 0, SYN));
    const [answer] = heardByGuest();
    assert.is(answer?.flags, SYN | ACK);
    const first = (answer!.seq + 1) >>> 0;
    assert.equal(socket().heard, [wisp(WISP.CONNECT, 1, [1, 80, 0, ...bytesOf("198.51.100.7")])]);
    send(card, segment(1001, first, ACK));
    send(card, segment(1001, first, ACK | PSH, bytesOf("a question")));
    assert.equal(socket().heard.at(-1), wisp(WISP.DATA, 1, bytesOf("a question")));
    socket().say(wisp(WISP.DATA, 1, bytesOf("an answer")));
    await turn();
    assert.equal(
      heardByGuest().filter(({ payload }) => payload.length > 0),
      [{ flags: ACK | PSH, seq: first, payload: bytesOf("an answer") }],
    );
  });
});

test.run();
