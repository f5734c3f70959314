import { test } from "uvu";
import * as assert from "uvu/assert";
import { internetChecksum } from "../../../bytes/index.js";
import type { Offload } from "../../../contract/index.js";
import { connect } from "../../../net/index.js";
import { TestPort } from "../../../net/testing.js";
import { TcpPeer, type TcpService } from "./tcp-peer.js";

const [FIN, SYN, RST, PSH, ACK] = [0x01, 0x02, 0x04, 0x08, 0x10];
const GUEST_MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const PEER_MAC = [0x52, 0x55, 0x0a, 0, 2, 2];

interface Segment {
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window?: number;
  readonly options?: readonly number[];
  readonly payload?: readonly number[];
}

/** A guest's end of a connection from port 4000 to port 5002, put together by hand. */
class Station {
  readonly port = new TestPort();

  say({ seq, ack, flags, window = 0xffff, options = [], payload = [] }: Segment, damage = 0): void {
    const be16 = (n: number): number[] => [(n >>> 8) & 0xff, n & 0xff];
    const be32 = (n: number): number[] => [...be16(n >>> 16), ...be16(n & 0xffff)];
    const total = 40 + options.length + payload.length;
    const ip = [0x45, 0, ...be16(total), 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2];
    const tcp = [...be16(4000), ...be16(5002), ...be32(seq), ...be32(ack), ((20 + options.length) / 4) << 4, flags];
    tcp.push(...be16(window), 0, 0, 0, 0, ...options, ...payload);
    const pseudo = Uint8Array.from([10, 0, 2, 15, 10, 0, 2, 2, 0, 6, ...be16(tcp.length), ...tcp]);
    tcp.splice(16, 2, ...be16(internetChecksum(pseudo, 0, pseudo.length) ^ damage));
    ip.splice(10, 2, ...be16(internetChecksum(Uint8Array.from(ip), 0, 20)));
    this.port.send(Uint8Array.from([...PEER_MAC, ...GUEST_MAC, 8, 0, ...ip, ...tcp]));
    this.port.far?.endBatch();
  }

  /** What came since the last call. */
  heard(): {
    seq: number;
    ack: number;
    flags: number;
    length: number;
    payload: Uint8Array;
    gso: Offload["gso"] | null;
  }[] {
    return this.port.taken.splice(0).map(({ frame, offload }) => {
      const view = new DataView(frame.buffer, frame.byteOffset);
      const headers = 34 + (frame[46]! >>> 4) * 4;
      const payload = frame.slice(headers, 14 + view.getUint16(16));
      const gso = offload?.gso ?? null;
      return {
        seq: view.getUint32(38),
        ack: view.getUint32(42),
        flags: frame[47]!,
        length: payload.length,
        payload,
        gso,
      };
    });
  }
}

/** A station whose connection stands; what it sends has number 1001 and on, what it hears iss + 1 and on. */
const connected = (service: TcpService, options: { offloads?: boolean; window?: number } = {}) => {
  const station = new Station();
  const peer = new TcpPeer({ mac: Uint8Array.from(PEER_MAC), ip: "10.0.2.2", offloads: options.offloads ?? true });
  peer.listen(5002, () => service);
  const cable = connect(station.port, peer);
  station.say({ seq: 1000, ack: 0, flags: SYN, options: [2, 4, 0x05, 0xb4, 1, 3, 3, 0] }); // MSS 1460
  const [answer] = station.heard();
  assert.is(answer!.flags, SYN | ACK);
  assert.is(answer!.ack, 1001);
  const first = (answer!.seq + 1) >>> 0;
  station.say({ seq: 1001, ack: first, flags: ACK, window: options.window ?? 0xffff });
  const dispose = (): void => {
    peer[Symbol.dispose]();
    cable[Symbol.dispose]();
  };
  return { station, peer, first, [Symbol.dispose]: dispose };
};

const ramp = (target: Uint8Array, start: number, length: number, position: number): void => {
  for (let i = 0; i < length; i++) target[start + i] = (position + i) * 7;
};

test("takes a stream in order and ends after the guest", () => {
  const got: number[] = [];
  let closed: boolean | null = null;
  using c = connected({
    received: (bytes, start, length) => void got.push(...bytes.subarray(start, start + length)),
    closed: (complete) => {
      closed = complete;
    },
  });
  c.station.say({ seq: 1001, ack: c.first, flags: ACK | PSH, payload: [1, 2, 3] });
  c.station.say({ seq: 1001, ack: c.first, flags: ACK | PSH, payload: [1, 2, 3] }); // once more
  c.station.say({ seq: 1009, ack: c.first, flags: ACK | PSH, payload: [9] }); // too early
  assert.equal(
    c.station.heard().map(({ ack }) => ack),
    [1004, 1004, 1004],
  );
  c.station.say({ seq: 1004, ack: c.first, flags: ACK | PSH, payload: [4] }, 0x0100);
  assert.equal(c.station.heard(), [], "a wrong checksum is no segment");
  assert.is(c.peer.counters().damaged, 1);
  c.station.say({ seq: 1004, ack: c.first, flags: ACK | FIN, payload: [4] });
  const [end] = c.station.heard();
  assert.equal([end!.ack, end!.flags], [1006, FIN | ACK]);
  c.station.say({ seq: 1006, ack: c.first + 1, flags: ACK });
  assert.equal(got, [1, 2, 3, 4]);
  assert.is(closed, true);
  assert.is(c.peer.counters().outOfOrder, 2);
});

for (const offloads of [true, false])
  test(`sends what the window takes, ${offloads ? "in one piece for who can cut it" : "in segments"}`, () => {
    using c = connected({ size: 5000, fill: ramp }, { offloads, window: 4000 });
    const sent = c.station.heard();
    assert.equal(
      sent.map(({ length }) => length),
      offloads ? [4000] : [1460, 1460],
    );
    assert.equal(
      sent.map(({ gso }) => gso),
      offloads ? ["tcp4"] : [null, null],
    );
    const bytes = sent.flatMap(({ payload }) => [...payload]);
    c.station.say({ seq: 1001, ack: c.first + bytes.length, flags: ACK });
    const rest = c.station.heard();
    bytes.push(...rest.flatMap(({ payload }) => [...payload]));
    assert.is(rest.at(-1)!.flags, FIN | ACK);
    const expected = new Uint8Array(5000);
    ramp(expected, 0, 5000, 0);
    assert.equal(Uint8Array.from(bytes), expected);
  });

test("what is not acknowledged goes out again, and a byte asks at a shut window", async () => {
  using c = connected({ size: 3000, fill: ramp }, { window: 0 });
  assert.equal(c.station.heard(), []);
  await new Promise((resolve) => setTimeout(resolve, 1700));
  assert.equal(
    c.station.heard().map(({ seq, length }) => [seq, length]),
    [[c.first, 1]],
  );
  // A shut window takes no byte: once it is open, the one that asked comes again.
  c.station.say({ seq: 1001, ack: c.first, flags: ACK, window: 2920 });
  assert.equal(
    c.station.heard().map(({ seq, length }) => [seq - c.first, length]),
    [[0, 2920]],
  );
  await new Promise((resolve) => setTimeout(resolve, 1700));
  assert.equal(
    c.station.heard().map(({ seq }) => seq - c.first),
    [0],
  );
  assert.is(c.peer.counters().retransmissions, 1);
});

test("what moves on is left alone", async () => {
  using c = connected({ size: 9000, fill: ramp }, { window: 2920 });
  assert.is(c.station.heard().length, 1);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  c.station.say({ seq: 1001, ack: c.first + 2920, flags: ACK, window: 2920 });
  assert.is(c.station.heard().length, 1);
  await new Promise((resolve) => setTimeout(resolve, 700)); // 1.7 s after the first segment, 0.7 s after the second
  assert.equal(c.station.heard(), []);
  assert.is(c.peer.counters().retransmissions, 0);
});

test("a port that nobody serves is closed", () => {
  const station = new Station();
  const peer = new TcpPeer({ mac: Uint8Array.from(PEER_MAC), ip: "10.0.2.2" });
  using _cable = connect(station.port, peer);
  station.say({ seq: 7, ack: 0, flags: SYN });
  assert.equal(
    station.heard().map(({ flags, ack }) => [flags, ack]),
    [[RST | ACK, 8]],
  );
});

test.run();
