import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../bytes/index.js";
import type { Offload, Verdict } from "../contract/index.js";
import { OffloadRecord } from "./offload.js";
import { Switch, type SwitchOptions } from "./switch.js";
import { frameOf, TestClock, TestPort } from "./testing.js";
import { connect } from "./wire.js";

const SECOND = 1e9;

const rig = (options: Partial<SwitchOptions> = {}) => {
  const clock = new TestClock(1000);
  const sw = new Switch({ clock, ...options });
  const stations = Array.from({ length: options.ports ?? 4 }, (_, i) => {
    const station = new TestPort();
    connect(station, sw.port(i));
    return station;
  });
  return { clock, sw, stations: stations as [TestPort, TestPort, TestPort, ...TestPort[]] };
};

/** Lets station i be known on port i. */
const introduce = (stations: readonly TestPort[]): void => {
  for (const [i, station] of stations.entries()) station.send(frameOf(255, i, 0));
  for (const station of stations) station.taken.length = 0;
};

test("a frame for an unknown station goes everywhere but back, one for a known station only there", () => {
  const { stations } = rig();
  const [a, b, c, d] = stations;
  assert.is(a.send(frameOf(1, 0, 10)), "taken");
  assert.equal([a.tags, b.tags, c.tags, d?.tags], [[], [10], [10], [10]]);
  b.send(frameOf(0, 1, 11));
  assert.equal([a.tags, b.tags, c.tags], [[11], [10], [10]]);
  c.send(frameOf(1, 2, 12));
  assert.equal([a.tags, b.tags, d?.tags], [[11], [10, 12], [10]]);
});

test("broadcast and multicast always go everywhere but back", () => {
  const { stations } = rig();
  introduce(stations);
  const [a, b, c] = stations;
  const multicast = frameOf(255, 0, 6);
  multicast.set([0x33, 0x33, 0, 0, 0, 1]);
  a.send(frameOf(255, 0, 5));
  a.send(multicast);
  assert.equal([a.tags, b.tags, c.tags], [[], [5, 6], [5, 6]]);
});

test("control traffic of the link ends here", () => {
  const { stations, sw } = rig();
  const [a, b] = stations;
  const pause = frameOf(255, 0, 5);
  pause.set([0x01, 0x80, 0xc2, 0, 0, 0x01]);
  assert.is(a.send(pause), "taken");
  pause[5] = 0x0f;
  a.send(pause);
  assert.equal(b.tags, []);
  pause[5] = 0x10;
  a.send(pause);
  assert.equal(b.tags, [5]);
  assert.is(sw.counters(0).inFiltered, 2);
});

test("a frame for a station on the port it came from is not sent back", () => {
  const { stations, sw } = rig();
  introduce(stations);
  stations[0].send(frameOf(9, 8, 1)); // station 8 sits behind port 0, too
  assert.is(stations[0].send(frameOf(8, 0, 2)), "taken");
  assert.is(sw.counters(0).inFiltered, 1);
  assert.equal(
    stations.map((s) => s.tags),
    [[], [1], [1], [1]],
  );
});

test("a station that moves is found where it is now", () => {
  const { stations } = rig();
  introduce(stations);
  stations[2].send(frameOf(255, 1, 0));
  for (const station of stations) station.taken.length = 0;
  stations[0].send(frameOf(1, 0, 5));
  assert.equal([stations[1].tags, stations[2].tags], [[], [5]]);
});

test("a silent station is forgotten after the ageing time", () => {
  const { stations, clock, sw } = rig({ ageingSeconds: 10 });
  introduce(stations);
  const flooded = () => sw.counters(0).inFlooded;
  const before = flooded();
  clock.advance(10 * SECOND);
  stations[0].send(frameOf(1, 0, 1));
  assert.is(flooded(), before);
  clock.advance(1);
  stations[0].send(frameOf(1, 0, 1));
  assert.is(flooded(), before + 1);
});

test("a group address is nobody's: it is not learned", () => {
  const { stations } = rig();
  const forged = frameOf(255, 0, 1);
  forged[6] = 3;
  stations[0].send(forged);
  for (const station of stations) station.taken.length = 0;
  forged.copyWithin(0, 6, 12);
  forged.set([2, 0, 0, 0, 0, 1], 6);
  stations[1].send(forged);
  assert.equal(
    stations.map((s) => s.taken.length),
    [1, 0, 1, 1],
  );
});

test("what the far end says later to is queued, and goes out in order when it is ready", () => {
  const { stations, sw } = rig();
  introduce(stations);
  const [a, b, c] = stations;
  b.verdict = () => "later";
  for (let tag = 1; tag <= 3; tag++) assert.is(a.send(frameOf(1, 0, tag)), "taken");
  assert.is(sw.counters(1).held, 3);
  c.send(frameOf(0, 2, 9));
  assert.equal(a.tags, [9], "nobody else waits");
  b.verdict = (frame) => (frame[14] === 3 ? "later" : "taken");
  const { batches } = b;
  b.far?.ready(0);
  assert.equal(b.tags, [1, 2]);
  assert.is(b.batches, batches + 1);
  a.send(frameOf(1, 0, 4));
  b.verdict = () => "taken";
  b.far?.ready(0);
  assert.equal(b.tags, [1, 2, 3, 4]);
  assert.is(sw.counters(1).held, 0);
});

test("a full queue drops and counts, by frames and by bytes", () => {
  for (const limit of [{ queueFrames: 5 }, { queueBytes: 300, longestFrame: 300 }]) {
    const { stations, sw } = rig(limit);
    introduce(stations);
    const [a, b] = stations;
    b.verdict = () => "later";
    const verdicts = Array.from({ length: 7 }, (_, i) => a.send(frameOf(1, 0, i)));
    assert.equal(verdicts, ["taken", "taken", "taken", "taken", "taken", "dropped", "dropped"]);
    assert.is(sw.counters(1).overflowed, 2);
    b.verdict = () => "taken";
    b.far?.ready(0);
    assert.equal(b.tags, [0, 1, 2, 3, 4]);
  }
});

test("a flood that reaches one station was taken, one that reaches none was dropped", () => {
  const { stations } = rig({ ports: 3 });
  const [a, b, c] = stations;
  b.verdict = () => "dropped";
  assert.is(a.send(frameOf(255, 0, 1)), "taken");
  c.verdict = () => "dropped";
  assert.is(a.send(frameOf(255, 0, 1)), "dropped");
  const alone = rig({ ports: 2 });
  const port = new TestPort();
  const sw = new Switch({ clock: alone.clock });
  connect(port, sw.port(0));
  assert.is(port.send(frameOf(255, 0, 1)), "taken", "there was nobody to send it to");
});

test("frames that no port takes are dropped where they come in", () => {
  const { stations, sw } = rig({ longestFrame: 1514 });
  assert.is(stations[0].send(frameOf(255, 0, 1, 1514)), "taken");
  assert.is(stations[0].send(frameOf(255, 0, 1, 1515)), "dropped");
  assert.is(stations[0].far?.offer(new Uint8Array(13), 0, 13, null, 0), "dropped");
  const port = sw.port(0);
  assert.is(port.offer(new Uint8Array(13), 0, 13, null, 0), "dropped");
  assert.is(port.offer(new Uint8Array(2000), 0, 1515, null, 0), "dropped");
  assert.is(sw.counters(0).inBadLength, 2);
});

test("an open checksum crosses the switch, also out of a queue, and is finished for who needs it", () => {
  const { stations } = rig();
  introduce(stations);
  const [a, b, c] = stations;
  const offload: Offload = Object.assign(new OffloadRecord(), { needsCsum: true, csumStart: 14, csumOffset: 20 });
  c.limits = { ...c.limits, csum: false };
  b.verdict = () => "later";
  a.send(frameOf(1, 0, 1), offload);
  b.verdict = () => "taken";
  b.far?.ready(0);
  a.send(frameOf(2, 0, 2), offload);
  assert.equal(b.taken[0], { frame: frameOf(1, 0, 1), offload, queueHint: 0 });
  assert.is(c.taken[0]?.offload, null);
  assert.not.equal(c.taken[0]?.frame, frameOf(2, 0, 2));
});

test("the end of a batch reaches the ports that got something, and only those", () => {
  const { stations } = rig();
  introduce(stations);
  for (const station of stations) {
    station.far?.endBatch();
    station.batches = 0;
  }
  stations[0].send(frameOf(2, 0, 1));
  stations[0].far?.endBatch();
  stations[0].far?.endBatch();
  assert.equal(
    stations.map((s) => s.batches),
    [0, 0, 1, 0],
  );
});

test("an answer within the offer comes out after the question, on every port", () => {
  const { stations } = rig();
  introduce(stations);
  const [a, b] = stations;
  const log: string[] = [];
  b.onOffer = (frame) => {
    log.push(`b ${frame[14]}`);
    if (frame[14]! < 5) b.send(frameOf(0, 1, frame[14]! + 10));
  };
  a.onOffer = (frame) => {
    log.push(`a ${frame[14]}`);
    if (frame[14] === 11) a.send(frameOf(1, 0, 2)); // while b is still busy with 1
  };
  a.send(frameOf(1, 0, 1));
  assert.equal(log, ["b 1", "a 11", "b 2", "a 12"]);
  assert.equal(b.tags, [1, 2]);
});

test("two stations that answer each other for ever do not keep the call", () => {
  const { stations, clock, sw } = rig();
  introduce(stations);
  const [a, b] = stations;
  a.onOffer = () => a.send(frameOf(1, 0, 1));
  b.onOffer = () => b.send(frameOf(0, 1, 2));
  a.send(frameOf(1, 0, 0));
  const first = b.taken.length;
  assert.ok(first > 0 && first <= 64);
  clock.advance(12_000);
  assert.ok(b.taken.length > first && b.taken.length <= 2 * first + 64, "they go on with time");
  assert.is(sw.counters(0).overflowed + sw.counters(1).overflowed, 0);
});

test("cables that form a loop cost bounded time a call, and bounded memory", () => {
  const clock = new TestClock();
  const switches = [new Switch({ clock, queueFrames: 16 }), new Switch({ clock, queueFrames: 16 })] as const;
  for (let i = 0; i < 3; i++) connect(switches[0].port(i), switches[1].port(i));
  const station = new TestPort();
  connect(station, switches[0].port(3));
  station.send(frameOf(255, 7, 1));
  assert.ok(station.taken.length < 20_000);
  for (let i = 0; i < 20; i++) clock.advance(12_000);
  for (const sw of switches) for (let i = 0; i < 4; i++) assert.ok(sw.counters(i).held <= 16);
});

test("a far end that is ready before it has said later is asked again", () => {
  const { stations, clock } = rig();
  introduce(stations);
  const [a, b] = stations;
  let first = true;
  b.onOffer = () => first && b.far?.ready(0);
  b.verdict = () => (first ? "later" : "taken");
  a.send(frameOf(1, 0, 1));
  first = false;
  clock.advance(12_000);
  assert.equal(b.tags, [1]);
});

test("pulling a cable drops what waits there, forgets who was there, and leaves the rest alone", () => {
  const clock = new TestClock();
  const sw = new Switch({ clock });
  const [a, b, c] = [new TestPort(), new TestPort(), new TestPort()];
  connect(a, sw.port(0));
  const cable = connect(b, sw.port(1));
  connect(c, sw.port(2));
  introduce([a, b, c]);
  b.verdict = () => "later";
  a.send(frameOf(1, 0, 1));
  cable[Symbol.dispose]();
  assert.is(sw.counters(1).unplugged, 1);
  assert.is(sw.counters(1).held, 0);
  a.send(frameOf(1, 0, 2));
  assert.equal(c.tags, [2], "station 1 may be anywhere now");
  b.verdict = () => "taken";
  connect(b, sw.port(1));
  a.send(frameOf(255, 0, 3));
  assert.equal(b.tags, [3]);
});

test("a cable pulled within an offer, also one out of the queue", () => {
  for (const queued of [false, true]) {
    const clock = new TestClock();
    const sw = new Switch({ clock });
    const [a, b] = [new TestPort(), new TestPort()];
    connect(a, sw.port(0));
    const cable = connect(b, sw.port(1));
    introduce([a, b]);
    const { far } = b;
    if (queued) b.verdict = () => "later";
    else b.onOffer = () => cable[Symbol.dispose]();
    a.send(frameOf(1, 0, 1));
    a.send(frameOf(1, 0, 2));
    b.onOffer = () => cable[Symbol.dispose]();
    far?.ready(0);
    assert.is(sw.counters(1).held, 0);
    assert.is(a.send(frameOf(1, 0, 3)), "taken");
  }
});

test("an embedder's mistakes are refused by name", () => {
  const clock = new TestClock();
  const refused = (code: string, act: () => unknown): void =>
    assert.throws(act, (error: unknown) => error instanceof ConfigError && error.code === code);
  for (const ports of [1, 32, 2.5]) refused("switch-ports", () => new Switch({ clock, ports }));
  refused("switch-queue", () => new Switch({ clock, queueBytes: 1000 }));
  refused("switch-queue", () => new Switch({ clock, queueFrames: 0 }));
  refused("switch-queue", () => new Switch({ clock, longestFrame: 13 }));
  for (const stations of [2, 1000, 2 ** 17]) refused("switch-stations", () => new Switch({ clock, stations }));
  refused("switch-ageing", () => new Switch({ clock, ageingSeconds: -1 }));
  const sw = new Switch({ clock });
  refused("switch-port", () => sw.port(4));
  refused("switch-port", () => sw.counters(-1));
  connect(new TestPort(), sw.port(0));
  refused("port-occupied", () => sw.port(0).attach(new TestPort()));
});

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      send: fc.nat(3),
      to: fc.oneof(fc.nat(4), fc.constant(255)),
      length: fc.constantFrom(60, 300, 1514),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ port: fc.nat(3), verdict: fc.constantFrom<Verdict>("taken", "later", "dropped") }),
  },
  { weight: 2, arbitrary: fc.record({ ready: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ wait: fc.nat(20_000) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const play = (r: ReturnType<typeof rig>, steps: readonly Step[], firstTag = 0): void => {
  for (const [i, act] of steps.entries()) {
    if ("send" in act) r.stations[act.send]?.send(frameOf(act.to, act.send, (firstTag + i) & 0xff, act.length));
    else if ("port" in act) r.stations[act.port]!.verdict = () => act.verdict;
    else if ("ready" in act) r.stations[act.ready]?.far?.ready(0);
    else r.clock.advance(act.wait);
  }
};

test("conservation: what was sent to a port is taken, refused, queued, or counted as dropped", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const r = rig({ queueFrames: 8, queueBytes: 4000, longestFrame: 1514 });
      play(r, steps);
      let [inFrames, filtered, copies] = [0, 0, 0];
      for (let i = 0; i < 4; i++) {
        const c = r.sw.counters(i);
        assert.is(c.outFrames, r.stations[i]!.taken.length);
        inFrames += c.inFrames;
        filtered += c.inFiltered;
        copies += c.outFrames + c.refused + c.held + c.overflowed + c.unplugged - 2 * c.inFlooded;
      }
      // A flood makes three copies, a known destination one, a filtered frame none.
      assert.is(copies, inFrames - filtered);
    }),
    { numRuns: 150 },
  );
});

test("a run that is cut anywhere and restored into another switch goes on identically", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.array(step, { maxLength: 40 }), (before, after) => {
      const options = { queueFrames: 8, queueBytes: 4000, longestFrame: 1514 };
      const one = rig(options);
      play(one, before);
      const two = rig(options);
      two.clock.set(one.clock.now());
      two.sw.load(structuredClone(one.sw.save()));
      for (const [i, station] of one.stations.entries()) {
        station.taken.length = 0;
        station.batches = 0;
        two.stations[i]!.verdict = station.verdict;
      }
      play(one, after, 100);
      play(two, after, 100);
      assert.equal(two.sw.save(), one.sw.save());
      for (const [i, station] of one.stations.entries()) {
        assert.equal(two.stations[i]!.taken, station.taken);
        assert.is(two.stations[i]!.batches, station.batches);
      }
    }),
    { numRuns: 60 },
  );
});

test("a state of another switch is refused whole", () => {
  const { sw, stations } = rig();
  introduce(stations);
  const before = sw.save();
  const ports = (before as { ports: object[] }).ports;
  const bad = [
    {},
    { ...before, version: 9 },
    { ...before, batch: 16 },
    { ...before, drainAt: -1 },
    { ...before, ports: ports.slice(1) },
    { ...before, ports: [...ports.slice(0, 3), { ...ports[3], waiting: 1 }] },
    { ...before, ports: [...ports.slice(0, 3), { ...ports[3], counts: [] }] },
    { ...before, table: {} },
  ];
  for (const state of bad)
    assert.throws(
      () => sw.load(state),
      (error: unknown) => error instanceof StateError,
    );
  assert.equal(sw.save(), before);
});

test.run();
