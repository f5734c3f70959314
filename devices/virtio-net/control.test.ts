import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  BUFFERS,
  CTRL,
  F_CTRL_GUEST_OFFLOADS,
  F_CTRL_MAC_ADDR,
  F_CTRL_RX,
  F_CTRL_RX_EXTRA,
  F_CTRL_VLAN,
  F_CTRL_VQ,
  F_EVENT_IDX,
  F_GUEST_ANNOUNCE,
  F_INDIRECT,
  F_MQ,
  flowFrame,
  frame,
  Guest,
  type GuestOptions,
  H_HASH_REPORT,
  H_NOTF_COAL,
  H_RSS,
  H_VQ_NOTF_COAL,
  WRITE,
} from "./testing.js";

const FEATURES = F_CTRL_VQ + F_CTRL_RX + F_CTRL_RX_EXTRA + F_CTRL_MAC_ADDR;
const OWN = "52:54:00:12:34:56";
const OTHER = "52:54:00:00:00:99";
const GROUP = "01:00:5e:00:00:01";
const OTHER_GROUP = "33:33:00:00:00:01";
const BROADCAST = "ff:ff:ff:ff:ff:ff";
const OK = 0;
const ERR = 1;

const bytesOf = (...macs: readonly string[]): number[] =>
  macs.flatMap((mac) => mac.split(":").map((b) => Number.parseInt(b, 16)));
const le32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
const tables = (unicast: readonly string[], multicast: readonly string[]): number[] => [
  ...le32(unicast.length),
  ...bytesOf(...unicast),
  ...le32(multicast.length),
  ...bytesOf(...multicast),
];

const start = (options: GuestOptions = {}): Guest => {
  const g = new Guest({ features: FEATURES, ...options });
  for (let i = 0; i < 64; i++) g.post(i, BUFFERS + 0x1000 * i, 2048);
  return g;
};

/** Which of the destinations are delivered; a VLAN id makes the frame tagged. */
const accepted = (g: Guest, destinations: readonly string[], vlan?: number): string[] =>
  destinations.filter((destination) => {
    const f = frame(64, destination);
    if (vlan !== undefined) f.set([0x81, 0x00, 0x60 | (vlan >> 8), vlan & 0xff, 0x88, 0xb5], 12);
    const before = g.nic.counters().rxFrames;
    const verdict = g.receive(f);
    assert.is(verdict === "taken", g.nic.counters().rxFrames === before + 1);
    return verdict === "taken";
  });
const ALL = [OWN, OTHER, GROUP, OTHER_GROUP, BROADCAST];

test("VIO-277 everything is accepted after reset", () => {
  const g = start();
  assert.equal(accepted(g, ALL), ALL);
  assert.equal(accepted(g, ALL, 5), ALL);
});

test("VIO-273 VIO-274 without promiscuous mode: own address and broadcast, unless NOBCAST", () => {
  const g = start();
  assert.is(g.command(0, 0, [0]), OK);
  assert.equal(accepted(g, ALL), [OWN, BROADCAST]);
  assert.is(g.command(0, 5, [1]), OK);
  assert.equal(accepted(g, ALL), [OWN]);
  assert.is(g.command(0, 5, [0]), OK);
  assert.equal(accepted(g, ALL), [OWN, BROADCAST]);
  assert.is(g.command(0, 0, [1]), OK);
  assert.equal(accepted(g, ALL), ALL);
});

test("VIO-275 ALLMULTI, ALLUNI, NOMULTI, NOUNI and NOBCAST, with the order of precedence", () => {
  // [promisc, allmulti, alluni, nomulti, nouni, nobcast]
  const cases: [number[], string[]][] = [
    [
      [0, 1, 0, 0, 0, 0],
      [OWN, GROUP, OTHER_GROUP, BROADCAST],
    ],
    [
      [0, 0, 1, 0, 0, 0],
      [OWN, OTHER, BROADCAST],
    ],
    [
      [0, 1, 1, 0, 0, 0],
      [OWN, OTHER, GROUP, OTHER_GROUP, BROADCAST],
    ],
    [
      [0, 1, 0, 1, 0, 0],
      [OWN, BROADCAST],
    ],
    [[0, 0, 1, 0, 1, 0], [BROADCAST]],
    [[0, 0, 0, 1, 1, 1], []],
    [[1, 0, 0, 1, 1, 1], ALL],
  ];
  for (const [modes, expected] of cases) {
    const g = start();
    for (const [command, on] of modes.entries()) assert.is(g.command(0, command, [on]), OK);
    assert.equal(accepted(g, ALL), expected, `modes ${modes}`);
  }
});

test("VIO-308 tables: what is in them passes, and 0 entries clear them", () => {
  const g = start();
  g.command(0, 0, [0]);
  assert.is(g.command(1, 0, tables([OTHER], [GROUP])), OK);
  assert.equal(accepted(g, ALL), [OWN, OTHER, GROUP, BROADCAST]);
  assert.is(g.command(1, 0, tables([], [OTHER_GROUP])), OK);
  assert.equal(accepted(g, ALL), [OWN, OTHER_GROUP, BROADCAST]);
  assert.is(g.command(1, 0, tables([], [])), OK);
  assert.equal(accepted(g, ALL), [OWN, BROADCAST]);
});

test("VIO-309 more entries than fit accept all of their kind", () => {
  const many = (count: number, first: string) =>
    Array.from({ length: count }, (_, i) => `${first}:00:00:00:10:${i.toString(16).padStart(2, "0")}`);
  const g = start();
  g.command(0, 0, [0]);
  assert.is(g.command(1, 0, tables(many(64, "52"), [])), OK);
  assert.equal(accepted(g, ALL), [OWN, BROADCAST]);
  assert.equal(accepted(g, ["52:00:00:00:10:3f", "52:00:00:00:10:40"]), ["52:00:00:00:10:3f"]);
  assert.is(g.command(1, 0, tables(many(65, "52"), [])), OK);
  assert.equal(accepted(g, ALL), [OWN, OTHER, BROADCAST]);
  assert.is(g.command(1, 0, tables(many(10, "52"), many(55, "33"))), OK);
  assert.equal(accepted(g, ALL), [OWN, GROUP, OTHER_GROUP, BROADCAST]);
  assert.is(g.command(1, 0, tables(many(10, "52"), many(54, "33"))), OK);
  assert.equal(accepted(g, [...ALL, "33:00:00:00:10:35"]), [OWN, BROADCAST, "33:00:00:00:10:35"]);
});

test("VIO-310 inconsistent tables are an error and change nothing", () => {
  const g = start();
  g.command(0, 0, [0]);
  g.command(1, 0, tables([OTHER], [GROUP]));
  const bad = [
    [],
    [0, 0, 0],
    le32(0),
    le32(1),
    [...le32(0xffff_ffff), ...le32(0)],
    [...le32(0x2aaa_aaab), ...le32(0)],
    [...le32(1), ...bytesOf(OTHER)],
    [...le32(0), ...le32(1)],
    [...le32(0), ...le32(0), 0],
    [...le32(0), ...le32(0xffff_ffff)],
    [...le32(0), ...le32(1), ...bytesOf(GROUP), 0],
    [...le32(1), ...bytesOf(OTHER), ...le32(2), ...bytesOf(GROUP)],
  ];
  for (const data of bad) assert.is(g.command(1, 0, data), ERR, `${data.length} bytes`);
  assert.equal(accepted(g, ALL), [OWN, OTHER, GROUP, BROADCAST]);
  assert.is(g.status, 0x0f);
});

test("VIO-311 VIO-099 setting the address changes configuration and filter before the command is used; reset restores", () => {
  const g = start();
  g.command(0, 0, [0]);
  assert.is(g.configMac(), OWN);
  const generation = g.nic.barRead(4, 0x15, 1);
  assert.is(g.command(1, 1, bytesOf(OTHER)), OK);
  assert.is.not(g.nic.barRead(4, 0x15, 1), generation, "another configuration");
  assert.is(g.configMac(), OTHER);
  assert.equal(accepted(g, ALL), [OTHER, BROADCAST]);
  for (const data of [bytesOf(OTHER).slice(1), [...bytesOf(OTHER), 0], []]) assert.is(g.command(1, 1, data), ERR);
  assert.is(g.configMac(), OTHER);
  g.status = 0;
  assert.is(g.configMac(), OWN);
  assert.equal([...g.nic.mac], bytesOf(OWN));
  g.setUp();
  g.driverOk();
  g.post(0, BUFFERS, 2048);
  assert.equal(accepted(g, [OTHER]), [OTHER], "promiscuous again");
});

test("VIO-276 VIO-312 the VLAN filter: off it passes all, on only what was added, untagged always", () => {
  const off = start();
  off.command(0, 0, [0]);
  assert.equal(accepted(off, [OWN], 5), [OWN]);
  const g = start({ features: FEATURES + F_CTRL_VLAN });
  g.command(0, 0, [0]);
  const le16 = (id: number) => [id & 0xff, id >> 8];
  for (const id of [0, 5, 32, 4064, 4095]) assert.equal(accepted(g, [OWN], id), [], `VLAN ${id}`);
  assert.equal(accepted(g, [OWN]), [OWN]);
  for (const id of [0, 5, 0x123, 4095]) {
    assert.is(g.command(2, 0, le16(id)), OK);
    assert.equal(accepted(g, [OWN, OTHER], id), [OWN]);
    assert.equal(accepted(g, [OWN], id ^ 1), []);
    assert.is(g.command(2, 1, le16(id)), OK);
    assert.equal(accepted(g, [OWN], id), []);
  }
  const sixteen = frame(16, OWN);
  sixteen.set([0x81, 0, 0, 5], 12);
  assert.is(g.receive(sixteen), "dropped", "a tag is all that it has");
  for (const [at, value] of [
    [12, 0x80],
    [13, 0x01],
  ] as const) {
    const other = Uint8Array.from(sixteen);
    other[at] = value;
    assert.is(g.receive(other), "taken", "no tag");
  }
  for (const id of [4096, 0xffff]) for (const command of [0, 1]) assert.is(g.command(2, command, le16(id)), ERR);
  for (const data of [[], [5], [5, 0, 0]]) assert.is(g.command(2, 0, data), ERR);
  assert.is(g.command(2, 2, le16(5)), ERR);
  g.command(0, 0, [1]);
  assert.equal(accepted(g, [OWN], 5), [OWN], "promiscuous mode goes before it");
});

test("VIO-299 VIO-301 VIO-303 commands are done when the notification returns, with length 1 and an interrupt", () => {
  for (const features of [FEATURES, FEATURES + F_EVENT_IDX]) {
    const g = start({ features });
    assert.is(g.command(0, 0, [0]), OK);
    assert.equal(g.entry(CTRL, 0), [0, 1]);
    assert.is(g.isr, 1);
    g.host.work.deferred = true;
    assert.is(g.command(0, 0, [1]), OK, "whatever the host's policy");
  }
});

test("VIO-302 the control queue never asks not to be notified", () => {
  const g = start();
  for (let i = 0; i < 70; i++) {
    assert.is(g.command(0, 0, [i & 1]), OK);
    assert.is(g.usedFlags(CTRL), 0);
  }
  const e = start({ features: FEATURES + F_EVENT_IDX });
  for (let i = 0; i < 70; i++) {
    e.command(0, 0, [i & 1]);
    assert.is(e.host.get(e.used(CTRL) + 4 + 8 * 64, 2), i + 1);
  }
});

test("VIO-304 VIO-313 unknown classes and commands are completed with an error", () => {
  const g = start();
  for (const [kind, command] of [
    [0, 6],
    [0, 255],
    [1, 2],
    [2, 9],
    [3, 0],
    [4, 0],
    [5, 0],
    [6, 0],
    [9, 0],
    [255, 255],
  ] as const)
    assert.is(g.command(kind, command, [0]), ERR, `class ${kind} command ${command}`);
  assert.is(g.status, 0x0f);
});

test("VIO-305 every class whose feature is offered answers", () => {
  const g = start({ features: FEATURES + F_CTRL_VLAN });
  for (let mode = 0; mode < 6; mode++) assert.is(g.command(0, mode, [0]), OK);
  assert.is(g.command(1, 0, tables([], [])), OK);
  assert.is(g.command(1, 1, bytesOf(OWN)), OK);
  assert.is(g.command(2, 0, [1, 0]), OK);
});

test("VIO-301 a turn ends when its budget is used up, and what is left has another", () => {
  const g = start();
  const at = BUFFERS + 0x10_0000;
  for (const [head, promiscuous] of [
    [0, 1],
    [3, 0],
  ] as const) {
    g.host.put(at + 16 * head, [0, 0, promiscuous]);
    g.chain(CTRL, head, [at + 16 * head, 2, 0], [at + 16 * head + 2, 1, 0], [at + 16 * head + 8, 1, WRITE]);
  }
  for (const budget of [1, 3]) {
    g.host.work.budget = budget;
    g.host.work.turns.length = 0;
    g.notify(CTRL);
    if (budget === 1) assert.equal(g.host.work.turns, [3, 3, 0]);
  }
  assert.equal(g.host.work.turns, [0]);
  assert.equal(accepted(g, [OWN, OTHER]), [OWN]);
  const two = start();
  two.host.work.budget = 3;
  two.host.work.turns.length = 0;
  for (const head of [0, 3]) two.chain(CTRL, head, [at, 2, 0], [at + 2, 1, 0], [at + 8, 1, WRITE]);
  two.notify(CTRL);
  assert.equal(two.host.work.turns, [3, 3, 0]);
});

test("VIO-306 VIO-307 any framing parses alike, and a mode of another length than 1 is an error", () => {
  for (const cuts of [[], [1], [2], [1, 2], [2, 2]]) {
    const g = start({ features: FEATURES + F_INDIRECT });
    const at = BUFFERS + 0x10_0000;
    const bytes = [0, 0, 0]; // promiscuous off
    const ends = [...cuts, 3];
    const pieces = ends.map((end, i) => {
      const first = ends[i - 1] ?? 0;
      g.host.put(at + 0x100 * i, bytes.slice(first, end));
      return [at + 0x100 * i, end - first, 0] as const;
    });
    g.host.set(at + 0x800, 1, 0xee);
    g.chain(CTRL, 0, ...pieces, [at + 0x800, 1, WRITE]);
    g.notify(CTRL);
    assert.is(g.host.get(at + 0x800, 1), OK);
    assert.equal(accepted(g, [OWN, OTHER]), [OWN]);
  }
  const g = start();
  assert.is(g.command(0, 0, []), ERR);
  assert.is(g.command(0, 0, [0, 0]), ERR);
  assert.equal(accepted(g, [OTHER]), [OTHER]);
});

test("VIO-130 VIO-159 commands before DRIVER_OK are executed, on either interface", () => {
  for (const via of ["legacy", "modern"] as const) {
    const g = new Guest({ via, features: FEATURES, start: false });
    assert.is(g.command(0, 0, [0]), OK);
    assert.is(g.command(1, 1, bytesOf(OTHER)), OK);
    assert.is(g.configMac(), OTHER);
  }
});

test("VIO-324 a command without header or ack is fatal and writes nothing", () => {
  for (const pieces of [
    [[BUFFERS, 2, 0]],
    [[BUFFERS, 3, 0]],
    [[BUFFERS, 1, 0], [BUFFERS + 16, 1, WRITE]], // biome-ignore format: pairs
    [[BUFFERS + 16, 1, WRITE]],
  ] as const) {
    const g = new Guest({ features: FEATURES });
    g.host.set(BUFFERS + 16, 1, 0xee);
    g.chain(CTRL, 0, ...pieces);
    g.notify(CTRL);
    assert.is(g.status, 0x4f);
    assert.is(g.usedIdx(CTRL), 0);
    assert.is(g.host.get(BUFFERS + 16, 1), 0xee);
    assert.equal(g.host.reports, ["control-chain-incomplete"]);
  }
});

test("VIO-188 a zero-length piece in a command is skipped", () => {
  const g = start();
  const at = BUFFERS + 0x10_0000;
  g.host.put(at, [0, 0, 0]);
  g.host.set(at + 0x800, 1, 0xee);
  g.chain(CTRL, 0, [at, 2, 0], [at, 0, 0], [at + 2, 1, 0], [at + 0x800, 1, WRITE]);
  g.notify(CTRL);
  assert.is(g.host.get(at + 0x800, 1), OK);
});

test("VIO-206 random commands are always answered with 0 or 1, and the filter stays sound", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(4), fc.nat(6), fc.array(fc.nat(255), { maxLength: 40 })), { maxLength: 12 }),
      (commands) => {
        const g = new Guest({ features: FEATURES + F_CTRL_VLAN, size: 16 });
        for (const [kind, command, data] of commands) assert.ok([OK, ERR].includes(g.command(kind, command, data)));
        for (let i = 0; i < 5; i++) g.post(i, BUFFERS + 0x1000 * i, 2048);
        accepted(g, ALL);
        assert.ok(g.host.guardsIntact());
        const saved = structuredClone(g.nic.save());
        g.nic.load(saved);
        assert.equal(g.nic.save(), saved);
      },
    ),
    { numRuns: 60 },
  );
});

test("VIO-206 any bytes in any framing on the control queue of a card with everything on: never throws, touches its own", () => {
  const FEATURES_ALL = FEATURES + F_CTRL_VLAN + F_CTRL_GUEST_OFFLOADS + F_GUEST_ANNOUNCE + F_MQ + F_INDIRECT;
  const HIGH_ALL = H_RSS + H_HASH_REPORT + H_NOTF_COAL + H_VQ_NOTF_COAL;
  const card = { queuePairs: 3, rss: true, hash: true, notfCoal: true };
  const byte = fc.oneof(fc.nat(255), fc.constantFrom(0, 0, 1, 3));
  const random = fc.array(byte, { maxLength: 80 });
  // Nearly right ones: lengths that fit, small numbers.
  const small = (length: number) => fc.array(fc.nat(3), { minLength: length, maxLength: length });
  const rss = fc.tuple(small(2), small(2), fc.nat(3), small(40)).map(([types, table, maxTx, key]) =>
    [...types, 0, 0, 1, 0, table[0]!, 0, table[1]!, 0, 0, 0, maxTx, 0, 40, ...key]); // biome-ignore format: one command
  const data = fc.oneof(random, rss, ...[0, 1, 2, 4, 8, 12].map(small));
  const command = fc.tuple(fc.nat(8), fc.nat(4), data).map(([kind, number, rest]) => [kind, number, ...rest]);
  const piece = fc.tuple(fc.nat(20), fc.constantFrom(0, 0, WRITE), fc.constantFrom(0, 0, 0, 0, 0, 0xfff0_0000));
  const framing = fc.array(piece, { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(fc.array(fc.tuple(command, framing, fc.boolean()), { minLength: 1, maxLength: 10 }), (commands) => {
      const g = new Guest({ features: FEATURES_ALL, high: HIGH_ALL, card, pairs: 3, size: 16 });
      const own = BUFFERS + 0x10_0000;
      for (const [bytes, pieces, whole] of commands) {
        if (whole) assert.ok([OK, ERR, -1].includes(g.command(bytes[0]!, bytes[1]!, bytes.slice(2))));
        else {
          g.host.put(own, bytes);
          const sound = pieces.filter(
            ([, flags], i) => flags !== 0 || pieces.slice(0, i).every(([, before]) => before === 0),
          );
          g.chain(g.ctrl, 0, ...sound.map(([length, flags, far], i) => [own + 0x20 * i + far, length, flags] as const));
          g.notify(g.ctrl);
        }
        for (const queue of [0, 2, 4]) g.post(0, BUFFERS + 0x1000 * queue, 2048, queue);
        for (const port of [1, 2, 3]) g.receive(flowFrame({ port, ...(port === 3 ? { version: 6 } : {}) }));
        g.chain(3, 0, [BUFFERS + 0x8_0000, 200, 0]);
        g.notify(3);
        g.host.clock.advance(2 ** 31);
        if ((g.status & 0x40) !== 0) g.setUp();
        g.driverOk();
      }
      assert.ok(g.host.guardsIntact());
      assert.equal([...g.host.copyOf(BUFFERS + 0x20_0000, 64)], new Array(64).fill(0));
      const saved = structuredClone(g.nic.save());
      g.nic.load(saved);
      assert.equal(g.nic.save(), saved);
    }),
    { numRuns: 80 },
  );
});

test.run();
