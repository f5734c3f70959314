import { mkdtempSync, rmSync } from "node:fs";
import { connect as connectSocket, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../bytes/index.js";
import type { Verdict } from "../../contract/index.js";
import { connect } from "../../net/index.js";
import { frameOf, packetOf, ramp, segmentsOf, TestPort } from "../../net/testing.js";
import { connectStream, listenStream, type StreamAddress, StreamError, type StreamPort, streamOn } from "./index.js";

const until = async (what: string, condition: () => boolean): Promise<void> => {
  for (let i = 0; !condition(); i++) {
    if (i > 4000) assert.unreachable(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
};

/** Runs with a fresh path for a Unix socket. */
const withPath = async (run: (address: { path: string }) => Promise<void>): Promise<void> => {
  const there = mkdtempSync(join(tmpdir(), "barwire-stream-"));
  try {
    await run({ path: join(there, "wire") });
  } finally {
    rmSync(there, { recursive: true });
  }
};

/** Both ends of a stream, each with a station on its cable. */
const pairAt = async (address: StreamAddress, options = {}) => {
  const server = await listenStream(address, options);
  const client = await connectStream(server.address, options);
  await until("the server's peer", () => server.connected);
  const [near, far] = [new TestPort(), new TestPort()];
  near.limits = { ...near.limits, holds: false };
  const cables = [connect(near, client), connect(far, server)];
  const dispose = (): void => {
    for (const cable of cables) cable[Symbol.dispose]();
    client[Symbol.dispose]();
    server[Symbol.dispose]();
  };
  return { server, client, near, far, [Symbol.dispose]: dispose };
};

/** A peer that speaks bytes. */
const rawPeer = async (): Promise<{
  port: StreamPort;
  peer: Socket;
  listener: Server;
  received: () => Buffer;
  [Symbol.dispose](): void;
}> => {
  const chunks: Buffer[] = [];
  const peers: Socket[] = [];
  const listener = createServer((socket) => void peers.push(socket));
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port: number } = listener.address() as { port: number };
  const port = await connectStream({ port: number });
  await until("the peer", () => peers.length > 0);
  const peer = peers[0]!;
  peer.on("data", (chunk) => void chunks.push(chunk)).on("error", () => {});
  const dispose = (): void => {
    port[Symbol.dispose]();
    peer.destroy();
    listener.close();
  };
  return { port, peer, listener, received: () => Buffer.concat(chunks), [Symbol.dispose]: dispose };
};

const prefixed = (...frames: Uint8Array[]): Buffer =>
  Buffer.concat(frames.flatMap((frame) => [Buffer.from([0, 0, frame.length >> 8, frame.length & 0xff]), frame]));

const codeOf = async (run: () => Promise<unknown>): Promise<string> => {
  try {
    await run();
  } catch (error) {
    if (error instanceof ConfigError || error instanceof StreamError) return error.code;
    throw error;
  }
  return "no error";
};

for (const kind of ["Unix", "TCP"])
  test(`frames go both ways over a ${kind} socket, whole and in order`, async () => {
    await withPath(async (path) => {
      using pair = await pairAt(kind === "Unix" ? path : { port: 0 });
      const { near, far, client, server } = pair;
      const sent = [60, 1514, 14, 9014, 61].map((length, i) => frameOf(2, 1, i + 1, length));
      for (const frame of sent) assert.is(near.send(frame), "taken");
      near.far?.endBatch();
      far.send(frameOf(1, 2, 77));
      far.far?.endBatch();
      await until("all frames", () => far.taken.length === sent.length && near.taken.length === 1);
      assert.equal(
        far.taken.map(({ frame }) => frame),
        sent,
      );
      assert.equal(near.tags, [77]);
      assert.ok(far.batches > 0 && near.batches > 0, "a batch has an end");
      const bytes = sent.reduce((sum, frame) => sum + frame.length, 0);
      assert.equal([client.counters().outFrames, client.counters().outBytes], [sent.length, bytes]);
      assert.equal([server.counters().inFrames, server.counters().inBytes], [sent.length, bytes]);
    });
  });

test("on the wire a frame has its length in four bytes, big-endian, in front", async () => {
  using raw = await rawPeer();
  const station = new TestPort();
  using _cable = connect(station, raw.port);
  station.send(frameOf(2, 1, 9, 0x123));
  station.far?.endBatch();
  await until("the bytes", () => raw.received().length >= 4 + 0x123);
  assert.equal([...raw.received().subarray(0, 4)], [0, 0, 1, 0x23]);
  assert.equal(new Uint8Array(raw.received().subarray(4)), frameOf(2, 1, 9, 0x123));
});

test("nothing goes out before the batch ends, or there is enough of it", async () => {
  using raw = await rawPeer();
  const station = new TestPort();
  using _cable = connect(station, raw.port);
  station.send(frameOf(2, 1, 1));
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.is(raw.received().length, 0);
  for (let i = 0; i < 50; i++) station.send(frameOf(2, 1, 1, 1514));
  await until("64 KiB", () => raw.received().length >= 0x1_0000);
});

test("a stream may be cut anywhere", async () => {
  using raw = await rawPeer();
  const station = new TestPort();
  using _cable = connect(station, raw.port);
  const property = fc.asyncProperty(
    fc.array(fc.integer({ min: 14, max: 90 }), { minLength: 1, maxLength: 6 }),
    fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 12 }),
    async (lengths, cuts) => {
      station.taken.length = 0;
      const frames = lengths.map((length, i) => frameOf(1, 2, i, length));
      let rest = prefixed(...frames);
      for (const cut of cuts) {
        raw.peer.write(rest.subarray(0, cut));
        rest = rest.subarray(cut);
        await new Promise((resolve) => setImmediate(resolve));
      }
      raw.peer.write(rest);
      await until("the frames", () => station.taken.length === frames.length);
      assert.equal(
        station.taken.map(({ frame }) => frame),
        frames,
      );
    },
  );
  await fc.assert(property, { numRuns: 40 });
});

test("a far end that says later holds up the socket, and loses nothing", async () => {
  using raw = await rawPeer();
  const station = new TestPort();
  using _cable = connect(station, raw.port);
  let verdict: Verdict = "later";
  station.verdict = () => verdict;
  const frames = Array.from({ length: 2000 }, (_, i) => frameOf(1, 2, i & 0xff, 1500));
  raw.peer.write(prefixed(...frames));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.is(station.taken.length, 0);
  verdict = "taken";
  // Every third frame is put off once more.
  let count = 0;
  station.verdict = () => {
    if (++count % 3 !== 0) return "taken";
    setImmediate(() => station.far?.ready(0));
    return "later";
  };
  station.far?.ready(0);
  await until("all frames", () => station.taken.length === frames.length);
  assert.equal(
    station.tags,
    frames.map((frame) => frame[14]!),
  );
  assert.is(raw.port.counters().inDropped, 0);
});

test("a full queue is later to who holds, and a counted drop to who does not", async () => {
  for (const holds of [true, false]) {
    using raw = await rawPeer();
    raw.peer.pause();
    const station = new TestPort();
    station.limits = { ...station.limits, holds };
    using _cable = connect(station, raw.port);
    const frame = frameOf(2, 1, 1, 9000);
    let taken = 0;
    let verdict: Verdict = "taken";
    // What the system's own buffers take comes on top of ours.
    for (let i = 0; i < 5000 && verdict === "taken"; i++) {
      verdict = station.send(frame, null, 3);
      if (verdict === "taken") taken++;
      if (i % 8 === 0) {
        station.far?.endBatch();
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    assert.is(verdict, holds ? "later" : "dropped");
    assert.is(raw.port.counters().outOverflowed, holds ? 0 : 1);
    raw.peer.resume();
    if (holds) await until("ready", () => station.readies.includes(3));
    await until("what was taken", () => {
      station.far?.endBatch();
      return raw.received().length === taken * 9004;
    });
    assert.is(raw.port.counters().outFrames, taken);
  }
});

test("segments are cut and checksums stored before they reach the socket", async () => {
  using raw = await rawPeer();
  const station = new TestPort();
  using _cable = connect(station, raw.port);
  const parts = { gso: "tcp4", payload: ramp(4000) } as const;
  const offload = {
    needsCsum: true,
    csumStart: 34,
    csumOffset: 16,
    dataValid: false,
    gso: "tcp4",
    gsoSize: 1460,
    ecn: false,
  } as const;
  assert.is(station.send(packetOf(parts, true), offload), "taken");
  station.far?.endBatch();
  const expected = prefixed(...segmentsOf(parts, 1460));
  await until("three segments", () => raw.received().length >= expected.length);
  assert.equal(raw.received(), expected);
  assert.is(raw.port.offer(packetOf(parts, true), 0, 4054, offload, 0), "dropped");
  assert.is(raw.port.counters().outRefused, 1, "without a cable nobody finishes it");
});

test("a peer that goes is told of, and the next one is taken", async () => {
  await withPath(async (address) => {
    using server = await listenStream(address);
    const seen: (string | null)[] = [];
    using _listener = server.onPeer((connected, error) => void seen.push(connected ? "here" : (error?.code ?? "gone")));
    const station = new TestPort();
    using _cable = connect(station, server);
    assert.is(station.send(frameOf(2, 1, 1)), "dropped");
    assert.is(server.counters().outUnconnected, 1);
    const first = await connectStream(address);
    await until("first peer", () => server.connected);
    const second = connectSocket(address);
    await until("second peer sent away", () => server.counters().refusedPeers === 1);
    second.destroy();
    station.send(frameOf(2, 1, 2)); // waits for the end of a batch that does not come
    first[Symbol.dispose]();
    await until("gone", () => !server.connected);
    assert.is(server.counters().outUnconnected, 2);
    using third = await connectStream(address);
    await until("third peer", () => server.connected);
    const other = new TestPort();
    using _other = connect(other, third);
    station.send(frameOf(2, 1, 3));
    station.far?.endBatch();
    await until("the frame", () => other.taken.length === 1);
    assert.equal(other.tags, [3], "nothing of the former peer's");
    assert.equal(seen, ["here", "gone", "here"]);
    assert.is(server.counters().connections, 2);
  });
});

test("a client comes back when its server does", async () => {
  await withPath(async (address) => {
    let server = await listenStream(address);
    using client = await connectStream(address, { reconnectMs: 5 });
    await until("the client", () => server.connected);
    server[Symbol.dispose]();
    await until("lost", () => !client.connected);
    await new Promise((resolve) => setTimeout(resolve, 15)); // some tries in vain
    server = await listenStream(address);
    await until("back", () => client.connected && server.connected);
    assert.is(client.counters().connections, 2);
    client[Symbol.dispose]();
    await until("left", () => !server.connected);
    await new Promise((resolve) => setTimeout(resolve, 15));
    assert.not(server.connected, "who leaves does not come back");
    server[Symbol.dispose]();
  });
});

test("who is held up by a full queue is told when the peer goes", async () => {
  using raw = await rawPeer();
  raw.peer.pause();
  const station = new TestPort();
  using _cable = connect(station, raw.port);
  while (station.send(frameOf(2, 1, 1, 60_000)) === "taken") await new Promise((resolve) => setImmediate(resolve));
  raw.peer.destroy();
  await until("ready", () => station.readies.length > 0);
  assert.is(station.send(frameOf(2, 1, 1)), "dropped");
});

test("a stream that makes no sense ends the connection", async () => {
  using raw = await rawPeer();
  const errors: (StreamError | null)[] = [];
  raw.port.onPeer((_, error) => void errors.push(error));
  raw.peer.write(Buffer.concat([prefixed(frameOf(1, 2, 1)), Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 2, 3])]));
  await until("gone", () => !raw.port.connected);
  assert.is(errors[0]?.code, "protocol");
  assert.match(errors[0]?.message ?? "", /4294967295/);
});

test("any bytes of a peer are borne", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 5 }), async (chunks) => {
      using raw = await rawPeer();
      const station = new TestPort();
      using _cable = connect(station, raw.port);
      for (const chunk of chunks) raw.peer.write(chunk);
      raw.peer.end();
      await until("gone", () => !raw.port.connected);
      for (const { frame } of station.taken) assert.ok(frame.length >= 14);
    }),
    { numRuns: 25 },
  );
});

test("runts of a peer are counted, not handed on", async () => {
  using raw = await rawPeer();
  const station = new TestPort();
  using _cable = connect(station, raw.port);
  raw.peer.write(prefixed(new Uint8Array(0), new Uint8Array(13), frameOf(1, 2, 5, 15)));
  await until("the frame", () => station.taken.length === 1);
  assert.is(raw.port.counters().inDropped, 2);
});

test("what cannot be is told at once, what does not work with its cause", async () => {
  assert.is(await codeOf(() => connectStream({ path: "" })), "stream-address");
  assert.is(await codeOf(() => listenStream({ port: 65_536 })), "stream-address");
  assert.is(await codeOf(() => listenStream({ port: 0 }, { longestFrame: 59 })), "stream-frame");
  assert.is(await codeOf(() => listenStream({ port: 0 }, { queueBytes: 131_079 })), "stream-queue");
  assert.is(await codeOf(() => listenStream({ port: 0 }, { reconnectMs: -1 })), "stream-reconnect");
  assert.is(await codeOf(() => connectStream({ path: "/nonexistent/wire" })), "connect");
  assert.is(await codeOf(() => listenStream({ path: "/nonexistent/wire" })), "listen");
  const server = await listenStream({ port: 0 });
  const station = new TestPort();
  connect(station, server);
  assert.throws(
    () => server.attach(station),
    (error: unknown) => error instanceof ConfigError && error.code === "port-occupied",
  );
  server[Symbol.dispose]();
  server[Symbol.dispose]();
  assert.throws(
    () => server.address,
    (error: unknown) => error instanceof StreamError && error.code === "closed",
  );
});

test("with padRunts a frame shorter than a header comes filled up with zeros, also after later", async () => {
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port: number } = listener.address() as { port: number };
  const accepted = new Promise<Socket>((resolve) => listener.once("connection", resolve));
  const peer = connectSocket(number, "127.0.0.1");
  const port = streamOn(await accepted, { padRunts: true });
  const far = new TestPort();
  const cable = connect(far, port);
  let refusals = 1;
  far.verdict = () => (refusals-- > 0 ? "later" : "taken");
  peer.write(prefixed(Uint8Array.of(0x54, 0x45, 0x53, 0x54, 0), new Uint8Array(0), ramp(20)));
  await until("the refusal", () => refusals === 0);
  far.far?.ready(0);
  await until("the frames", () => far.taken.length === 2);
  assert.equal([...far.taken[0]!.frame], [0x54, 0x45, 0x53, 0x54, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(far.taken[1]?.frame, ramp(20));
  assert.is(port.counters().inDropped, 1); // the empty one
  cable[Symbol.dispose]();
  port[Symbol.dispose]();
  peer.destroy();
  listener.close();
});

test.run();
