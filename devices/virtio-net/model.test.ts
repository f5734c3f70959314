import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import goldenLegacy from "../../fixtures/golden/virtio-net-legacy.json" with { type: "json" };
import goldenNoMsix from "../../fixtures/golden/virtio-net-legacy-no-msix.json" with { type: "json" };
import goldenModern from "../../fixtures/golden/virtio-net-modern.json" with { type: "json" };
import goldenTransitional from "../../fixtures/golden/virtio-net-transitional.json" with { type: "json" };
import { ConfigError, StateError } from "../../src/bytes/index.js";
import type { NicCounters } from "../../src/contract/index.js";
import { TAKES_ALL } from "../../src/net/index.js";
import { type VirtioNetOptions, virtioNet } from "./index.js";
import {
  BUFFERS,
  CTRL,
  F_CSUM,
  F_CTRL_GUEST_OFFLOADS,
  F_CTRL_RX,
  F_CTRL_VQ,
  F_EVENT_IDX,
  F_GUEST_ANNOUNCE,
  F_GUEST_CSUM,
  F_GUEST_ECN,
  F_GUEST_TSO4,
  F_HOST_TSO4,
  F_MQ,
  F_MRG_RXBUF,
  F_STATUS,
  flowFrame,
  frame,
  Guest,
  type GuestOptions,
  H_HASH_REPORT,
  H_NOTF_COAL,
  H_RSS,
  H_VQ_NOTF_COAL,
  offloadOf,
  Peer,
  RX,
  segment,
  TX,
} from "./testing.js";

const MAC = "52:54:00:12:34:56";
const GOLDEN = [
  ["legacy", { personality: "legacy" }, goldenLegacy],
  ["legacy-no-msix", { personality: "legacy", vectors: 0 }, goldenNoMsix],
  ["transitional", {}, goldenTransitional],
  ["modern", { personality: "modern" }, goldenModern],
] as const satisfies readonly (readonly [string, VirtioNetOptions, unknown])[];

test("VIO-008 VIO-009 VIO-024 VIO-025 configuration space and BARs are QEMU's, byte for byte", () => {
  for (const [name, options, golden] of GOLDEN) {
    const nic = virtioNet({ mac: MAC, ...options });
    const bytes = golden.config.flatMap((line) => line.slice(4).split(" "));
    assert.equal(
      bytes.map((_, i) => nic.configRead(i, 1).toString(16).padStart(2, "0")),
      bytes,
      name,
    );
    assert.equal(
      nic.bars.map(({ index, kind, size }) => ({ index, kind, size })),
      golden.bars.map(({ index, kind, size }) => ({ index, kind, size })),
    );
    nic.configWrite(0x3c, 1, 0xab);
    assert.is(nic.configRead(0x3c, 2), 0x01ab);
  }
});

test("VIO-026 what can be written in header, BARs and capabilities is what QEMU lets be written", () => {
  for (const [name, options, golden] of GOLDEN) {
    const nic = virtioNet({ mac: MAC, ...options });
    const end = Math.max(
      0x40,
      ...golden.capabilities.map(({ offset, id }) => Number(offset) + (id === "0x11" ? 12 : 16)),
      name === "transitional" || name === "modern" ? 0x98 : 0,
    );
    for (let at = 0; at < end; at++) {
      const writable = Number.parseInt(golden.writableBits.slice(2 * at, 2 * at + 2), 16);
      nic.configWrite(at, 1, 0);
      const zeros = nic.configRead(at, 1);
      nic.configWrite(at, 1, 0xff);
      const ones = nic.configRead(at, 1);
      nic.configWrite(at, 1, 0);
      assert.is(zeros ^ ones, writable, `${name}: byte 0x${at.toString(16)}`);
    }
  }
});

test("VIO-120 VIO-121 VIO-122 VIO-143 VIO-244 without offloads, features are those of QEMU that are implemented", () => {
  // CTRL_GUEST_OFFLOADS 2, MAC 5, MRG_RXBUF 15, STATUS 16, CTRL_VQ 17, CTRL_RX 18, CTRL_VLAN 19, CTRL_RX_EXTRA 20,
  // GUEST_ANNOUNCE 21, CTRL_MAC_ADDR 23, INDIRECT 28, EVENT_IDX 29, VERSION_1 32; legacy also NOTIFY_ON_EMPTY 24 and
  // ANY_LAYOUT 27. QEMU had a back end without offloads.
  const own = 0x30bf_8024;
  for (const [, options, golden] of GOLDEN) {
    const nic = virtioNet({ mac: MAC, offloads: { csum: false, guestCsum: false }, ...options });
    const { virtio } = golden as {
      virtio: { legacy?: { hostFeatures: string }; modern?: { deviceFeatures: string[] } };
    };
    if (virtio.legacy !== undefined) {
      const offered = nic.barRead(0, 0, 4);
      assert.is(offered, 0x39bf_8024);
      assert.is(offered & ~Number(virtio.legacy.hostFeatures), 0);
    }
    if (virtio.modern === undefined) continue;
    const words = [0, 1, 2, 3].map((select) => {
      nic.barWrite(4, 0, 4, select);
      return nic.barRead(4, 4, 4);
    });
    assert.equal(words, [own, 1, 0, 0]);
    for (const [i, word] of words.entries()) assert.is(word & ~Number(virtio.modern.deviceFeatures[i]), 0);
  }
});

/** Both words that a modern driver sees, and the legacy one. */
const offered = (options: VirtioNetOptions): number[] => {
  const nic = virtioNet({ mac: MAC, ...options });
  const words = [0, 1].map((select) => {
    nic.barWrite(4, 0, 4, select);
    return nic.barRead(4, 4, 4);
  });
  return [...words, nic.barRead(0, 0, 4)];
};

test("VIO-243 offloads are offered by default, and the legacy bit for all of them only to legacy drivers", () => {
  // CSUM 0, GUEST_CSUM 1, CTRL_GUEST_OFFLOADS 2, GUEST_TSO4 7, TSO6 8, ECN 9, HOST_TSO4 11, TSO6 12, ECN 13,
  // GUEST_UFO 10, HOST_UFO 14, GUEST_USO4 54, USO6 55, HOST_USO 56, GSO 6
  assert.equal(offered({}), [0x30bf_ffa7, 0x01c0_0001, 0x39bf_ffe7]);
  assert.equal(offered({ offloads: true }), offered({}));
  assert.equal(offered({ offloads: false }), [0x30bf_8020, 1, 0x39bf_8020]);
  assert.equal(offered({ offloads: { csum: false } }), [0x30bf_87a6, 0x00c0_0001, 0x39bf_87a6]);
  assert.equal(offered({ offloads: { hostEcn: false, guestUso6: false } }), [0x30bf_dfa7, 0x0140_0001, 0x39bf_dfa7]);
  assert.equal(
    offered({ offloads: { guestTso4: false, guestTso6: false } }),
    [0x30bf_fc27, 0x01c0_0001, 0x39bf_fc67],
    "nothing is left for ECN",
  );
  for (const offloads of [{ csum: false, hostTso4: true }, { guestCsum: false, guestUso4: true }, { tso: true }])
    assert.throws(
      () => virtioNet({ offloads } as VirtioNetOptions),
      (error: unknown) => error instanceof ConfigError && error.code === "virtio-net-offloads",
    );
});

test("VIO-233 speed and duplex: offered with the option, full duplex is 1", () => {
  for (const [options, speed, duplex] of [
    [{ speed: 10_000 }, 10_000, 1],
    [{ speed: 0, duplex: "half" }, 0, 0],
    [{ duplex: "full" }, 0xffff_ffff, 1],
  ] as const) {
    assert.is(offered(options)[1], 0x81c0_0001);
    const nic = virtioNet(options);
    assert.is(nic.barRead(4, 0x200c, 4), speed);
    assert.is(nic.barRead(4, 0x2010, 1), duplex);
    assert.is(nic.barRead(4, 0x2011, 1), 0xff);
  }
  for (const speed of [-1, 2 ** 31, 0.5])
    assert.throws(
      () => virtioNet({ speed }),
      (error: unknown) => error instanceof ConfigError && error.code === "virtio-net-speed",
    );
});

/** [feature, any of what it needs], by the tables of VIRTIO 1.3 §5.1.3.1 */
const NEEDS: readonly (readonly [number, readonly number[]])[] = [
  [7, [1]],
  [8, [1]],
  [9, [7, 8]],
  [10, [1]],
  [11, [0]],
  [12, [0]],
  [13, [11, 12]],
  [14, [0]],
  [18, [17]],
  [19, [17]],
  [20, [17]],
  [21, [17]],
  [22, [17]],
  [23, [17]],
  [52, [17]],
  [53, [17]],
  [54, [1]],
  [55, [1]],
  [56, [0]],
  [57, [17]],
  [60, [17]],
  [61, [11, 12]],
];

test("VIO-119 VIO-237 VIO-238 no offered feature lacks its prerequisite, whatever the options", () => {
  for (const offloads of [true, false, { csum: false }, { guestCsum: false }, { hostTso4: false, hostTso6: false }])
    for (const personality of ["legacy", "transitional", "modern"] as const) {
      const nic = virtioNet({ personality, offloads, mtu: 1500 });
      const words = [0, 1].map((select) => {
        if (personality === "legacy") return select === 0 ? nic.barRead(0, 0, 4) : 0;
        nic.barWrite(4, 0, 4, select);
        return nic.barRead(4, 4, 4);
      });
      const has = (bit: number): boolean => ((words[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
      assert.ok(has(17) && has(18), "something to check");
      for (const [bit, anyOf] of NEEDS) assert.ok(!has(bit) || anyOf.some(has), `bit ${bit}`);
    }
});

test("VIO-080 VIO-083 queues and their sizes are QEMU's", () => {
  const nic = virtioNet();
  assert.is(nic.barRead(4, 0x12, 2), goldenModern.virtio.modern.numQueues);
  for (const [i, { size, notifyOff }] of goldenModern.virtio.modern.queues.entries()) {
    nic.barWrite(4, 0x16, 2, i);
    assert.equal([nic.barRead(4, 0x18, 2), nic.barRead(4, 0x1e, 2)], [size, notifyOff]);
    nic.barWrite(0, 0x0e, 2, i);
    assert.is(nic.barRead(0, 0x0c, 2), size);
  }
  const other = virtioNet({ queueSize: { rx: 1024, tx: 64 } });
  const sizes = [0, 1, 2].map((i) => {
    other.barWrite(4, 0x16, 2, i);
    return other.barRead(4, 0x18, 2);
  });
  assert.equal(sizes, [1024, 64, 64]);
});

test("VIO-027 ports and memory answer only while Command says so", () => {
  const nic = virtioNet();
  nic.configWrite(0x10, 4, 0xc000);
  nic.configWrite(0x14, 4, 0xfebf_0000);
  nic.configWrite(0x20, 4, 0xfe00_0000);
  for (const [command, bases] of [
    [0, [-1, -1, -1]],
    [1, [0xc000, -1, -1]],
    [2, [-1, 0xfebf_0000, 0xfe00_0000]],
    [3, [0xc000, 0xfebf_0000, 0xfe00_0000]],
  ] as const) {
    nic.configWrite(0x04, 2, command);
    assert.equal([nic.barBase(0), nic.barBase(1), nic.barBase(4)], bases);
  }
});

test("VIO-109 VIO-131 VIO-230 device configuration before any negotiation: address, link, then all ones", () => {
  const nic = virtioNet({ mac: MAC });
  const modern = Array.from({ length: 64 }, (_, i) =>
    nic
      .barRead(4, 0x2000 + i, 1)
      .toString(16)
      .padStart(2, "0"),
  );
  assert.is(modern.join(" "), goldenTransitional.virtio.modern.deviceConfig);
  const legacy = Array.from({ length: 12 }, (_, i) =>
    nic
      .barRead(0, 0x14 + i, 1)
      .toString(16)
      .padStart(2, "0"),
  );
  assert.is(legacy.join(" "), goldenTransitional.virtio.legacy.deviceConfigAt20NoMsix);
});

test("VIO-231 VIO-232 with an MTU: offered, at offset 10, constant", () => {
  for (const mtu of [68, 1500, 9000, 65535]) {
    const nic = virtioNet({ mtu });
    nic.barWrite(4, 0, 4, 0);
    assert.is(nic.barRead(4, 4, 4), 0x30bf_ffaf);
    nic.barWrite(4, 0x200a, 2, 77);
    assert.is(nic.barRead(4, 0x200a, 2), mtu);
    assert.is(nic.barRead(4, 0x2008, 2), 1);
    assert.is(nic.barRead(4, 0x200c, 4), 0xffff_ffff);
    assert.is(nic.bars[0]?.size, 64, "0x18 + 12 bytes do not fit 32");
    assert.is(nic.net.accepts().longestFrame, mtu + 18);
  }
  for (const mtu of [67, 65536, 1500.5, Number.NaN])
    assert.throws(
      () => virtioNet({ mtu }),
      (error: unknown) => error instanceof ConfigError && error.code === "virtio-net-mtu",
    );
  assert.throws(
    () => virtioNet({ mac: "01:00:00:00:00:00" }),
    (error: unknown) => error instanceof ConfigError && error.code === "mac-address",
  );
});

test("VIO-149 VIO-150 VIO-151 a legacy driver writes the address byte by byte or as 4 and 2, others do not", () => {
  for (const accesses of [
    [1, 1, 1, 1, 1, 1],
    [4, 2],
  ] as const) {
    const g = new Guest({ via: "legacy", features: F_CTRL_VQ | F_CTRL_RX });
    const bytes = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
    let at = 0;
    for (const width of accesses) {
      const value = bytes.slice(at, at + width).reduceRight((v, byte) => v * 256 + byte, 0);
      g.nic.barWrite(0, 0x14 + at, width, value);
      at += width;
    }
    assert.is(g.configMac(), "02:11:22:33:44:55");
    g.nic.barWrite(0, 0x1a, 1, 0);
    g.nic.barWrite(0, 0x1b, 1, 0xff);
    assert.is(g.config(6, 2), 1, "the link is not the driver's");
    g.command(0, 0, [0]);
    g.post(0, BUFFERS, 2048);
    assert.is(g.receive(frame(60)), "dropped");
    assert.is(g.receive(frame(60, "02:11:22:33:44:55")), "taken");
    assert.is(g.nic.mac[0], 0x52, "the permanent one stays");
  }
  const g = new Guest();
  g.out(0x2000, 4, 0);
  assert.is(g.configMac(), MAC);
});

test("VIO-230 VIO-241 VIO-058 a change of the link shows in status and generation, and interrupts", () => {
  const g = new Guest({ features: F_STATUS });
  assert.is(g.config(6, 2), 1);
  const generation = g.nic.barRead(4, 0x15, 1);
  g.nic.setLink(false);
  assert.ok(g.host.intx);
  assert.is(g.isr, 2);
  assert.is(g.config(6, 2), 0);
  assert.is.not(g.nic.barRead(4, 0x15, 1), generation);
  g.nic.setLink(false);
  assert.is(g.isr, 0, "no change");
  g.nic.setLink(true);
  assert.is(g.isr, 2);
  assert.is(g.config(6, 2), 1);
  assert.ok(g.nic.linkUp);
  const without = new Guest();
  without.nic.setLink(false);
  assert.not(without.host.intx, "a driver without STATUS is not told");
  const early = new Guest({ features: F_STATUS, start: false });
  early.nic.setLink(false);
  assert.not(early.host.intx);
});

test("VIO-126 VIO-128 a ring fault in a queue of the card needs a reset and says so", () => {
  for (const queue of [TX, CTRL] as const) {
    const g = new Guest({ features: F_CTRL_VQ });
    g.available(queue, 999);
    g.notify(queue);
    assert.is(g.status, 0x4f);
    assert.is(g.isr, 2);
    assert.equal(g.host.reports, ["head-out-of-range"]);
  }
  const dead = new Guest({ features: F_CTRL_VQ | F_CTRL_RX });
  dead.available(TX, 999);
  dead.notify(TX);
  assert.is(dead.command(0, 0, [0]), -1, "the control queue is as dead as the rest");
  const g = new Guest();
  g.available(RX, 999);
  assert.is(g.receive(frame(60)), "dropped");
  assert.is(g.status, 0x4f);
});

test("counters: what was finished, what was dropped and why, what it cost", () => {
  const g = new Guest({ features: F_MRG_RXBUF });
  g.post(0, BUFFERS, 700);
  g.post(1, BUFFERS + 0x1000, 700);
  g.receive(frame(1000));
  g.receive(frame(1000));
  g.receive(frame(13));
  g.chain(TX, 0, [BUFFERS + 0x8000, 12, 0], [BUFFERS + 0x9000, 100, 0]);
  g.chain(TX, 2, [BUFFERS + 0x8000, 12, 0], [BUFFERS + 0x9000, 40, 0], [BUFFERS + 0xa000, 60, 0]);
  g.chain(TX, 5, [BUFFERS + 0x8000, 3, 0]);
  g.notify(TX);
  const expected: NicCounters = {
    txFrames: 2,
    txBytes: 200,
    rxFrames: 1,
    rxBytes: 1000,
    rxNoBuffer: 1,
    rxFiltered: 1,
    txDropped: 1,
    descriptorsRead: 2 + 2 + 3 + 1,
    bytesCopied: 1000 + 100,
    doorbells: 1,
    interrupts: 1, // the second found INTx up
  };
  assert.equal(g.nic.counters(), expected);
  const control = new Guest({ features: F_CTRL_VQ | F_CTRL_RX });
  control.command(0, 0, [0]);
  assert.equal([control.nic.counters().descriptorsRead, control.nic.counters().doorbells], [3, 1]);
});

test("a cable can be plugged once, and pulled", () => {
  const nic = virtioNet();
  nic.net.attach(new Peer());
  assert.throws(
    () => nic.net.attach(new Peer()),
    (error: unknown) => error instanceof ConfigError && error.code === "port-attached",
  );
  nic.net.attach(null);
  nic.net.attach(new Peer());
});

test("a state that is loaded before the card is plugged in holds from then on", () => {
  const g = new Guest();
  g.post(0, BUFFERS, 2048);
  const state = g.nic.save();
  g.nic.disconnect();
  const other = virtioNet({ mac: "52:54:00:12:34:56" });
  other.load(state);
  other.connect(g.host);
  assert.is(other.net.offer(frame(60), 0, 60, null, 0), "taken");
  assert.equal(g.entry(RX, 0), [0, 72], "a header of VERSION_1");
});

test("a card that is not plugged in drops what is offered", () => {
  const nic = virtioNet();
  assert.is(nic.net.offer(frame(60), 0, 60, null, 0), "dropped");
  nic.net.endBatch();
  nic.net.ready(0);
  nic.setLink(false);
  nic.reset("power-on");
  assert.is(nic.barRead(4, 0x14, 1), 0);
  assert.is(nic.name, "virtio-net");
});

/** A step of traffic; each leaves the guest and the card in a state worth cutting at. */
const STEPS: readonly ((g: Guest, n: number) => unknown)[] = [
  (g, n) => g.post(n % 16, BUFFERS + 0x1000 * (n % 16), 600),
  (g) => g.notify(RX),
  (g, n) => g.receive(frame(60 + (n % 900), undefined, n)),
  (g, n) => g.nic.net.offer(frame(60, undefined, n), 0, 60, null, n % 4),
  (g) => g.nic.net.endBatch(),
  (g, n) => g.chain(TX, (2 * n) % 14, [BUFFERS, 12, 0], [BUFFERS + 0x8000, 60 + n, 0]),
  (g) => g.notify(TX),
  (g) => g.isr,
  (g, n) => g.command(0, n % 6, [n & 1]),
  (g, n) => g.nic.setLink(n % 3 !== 0),
  (g) => g.nic.net.ready(0),
  (g) => {
    g.setUp();
    g.driverOk();
  },
  (g) => [g.config(0, 4), g.config(4, 4)],
  (g, n) => g.receive(WHOLE.bytes, offloadOf(WHOLE, { gso: "tcp4", gsoSize: 1000, ecn: n % 2 === 1 })),
  (g) => g.receive(WHOLE.bytes, offloadOf(WHOLE)),
  (g, n) => {
    g.host.put(BUFFERS + 0x2_0000, [1, n % 3 === 0 ? 1 : 0, 0, 0, 100 + n, 0, WHOLE.transport, 0, 16, 0, 0, 0]);
    g.host.put(BUFFERS + 0x2_1000, WHOLE.bytes);
    g.chain(TX, (2 * n) % 14, [BUFFERS + 0x2_0000, 12, 0], [BUFFERS + 0x2_1000, WHOLE.bytes.length, 0]);
    g.notify(TX);
  },
  (g, n) => g.command(4, 0, [1 + (n % 3), 0]),
  (g, n) => g.command(4, 2, [n & 7, n & 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, n]),
  (g, n) => g.command(4, 1, [0xff, 1, 0, 0, 1, 0, n % 3, 0, (n >> 1) % 3, 0, 2, 0, 2, 0, 4, n, 2, 3, 4]),
  (g, n) => g.command(6, n % 2, [n % 4, 0, 0, 0, n % 9, 0, 0, 0]),
  (g, n) => g.command(6, 2, [n % 6, 0, 0, 0, n % 3, 0, 0, 0, n % 5, 0, 0, 0]),
  (g, n) => g.host.clock.advance(1000 * (n % 4)),
  (g, n) => g.post(n % 16, BUFFERS + 0x1_0000 + 0x800 * (n % 16), 600, 2 * (n % g.pairs)),
  (g, n) => g.notify(2 * (n % g.pairs)),
  (g, n) => g.receive(flowFrame({ port: n % 7 }), null, n % 3),
  (g, n) => {
    g.host.put(BUFFERS + 0x3_0000, new Uint8Array(20));
    g.host.put(BUFFERS + 0x3_1000, flowFrame({ port: n % 7, out: true }));
    const queue = 2 * (n % g.pairs) + 1;
    g.chain(queue, (2 * n) % 14, [BUFFERS + 0x3_0000, g.high === 0 ? 12 : 20, 0], [BUFFERS + 0x3_1000, 94, 0]);
    g.notify(queue);
  },
  (g, n) => g.nic.net.ready(n % 3),
  (g, n) => g.command(5, 0, [n % 2 === 0 ? 0x82 : 0x02, n % 3 === 0 ? 0x02 : 0, 0, 0, 0, 0, 0, 0]),
  (g) => g.nic.announce(),
  (g) => g.command(3, 0, []),
];
const WHOLE = segment(2500);

test("VIO-380 a run cut anywhere and resumed from a snapshot goes on identically", () => {
  const BASE = F_STATUS | F_CTRL_VQ | F_CTRL_RX;
  const RECEIVING = F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_ECN | F_CTRL_GUEST_OFFLOADS | F_GUEST_ANNOUNCE;
  const OFFLOADS = F_MRG_RXBUF | F_EVENT_IDX | RECEIVING | F_CSUM | F_HOST_TSO4;
  const MANY = BASE | OFFLOADS | F_MQ;
  const HASHES = H_RSS + H_HASH_REPORT + H_NOTF_COAL + H_VQ_NOTF_COAL;
  const TIMER = { kind: "timer", delayNs: 3000 } as const;
  const everything = { queuePairs: 3, rss: true, hash: true, notfCoal: true, txPolicy: TIMER };
  const KINDS: readonly GuestOptions[] = [
    { features: BASE },
    { features: BASE | F_MRG_RXBUF | F_EVENT_IDX },
    { features: BASE | OFFLOADS },
    { features: BASE | OFFLOADS },
    { features: MANY, card: { queuePairs: 3 }, pairs: 3 },
    { features: BASE, card: { txPolicy: "deferred" } },
    { features: MANY, high: HASHES, card: everything, pairs: 3 },
    { features: MANY, high: HASHES, card: everything, pairs: 3 },
  ];
  const make = (kind: GuestOptions): Guest => {
    const g = new Guest({ ...kind, size: 16 });
    let n = 0;
    g.peer.verdict = () => (n++ % 3 === 2 ? "later" : "taken"); // a function of the frames so far, kept by the test
    g.peer.holds = true;
    g.peer.limits = TAKES_ALL;
    return g;
  };
  fc.assert(
    fc.property(
      fc.constantFrom(...KINDS),
      fc.array(fc.nat(STEPS.length - 1), { minLength: 5, maxLength: 60 }),
      fc.nat(60),
      (kind, steps, cut) => {
        const play = (at: number): unknown[] => {
          let g = make(kind);
          const log: unknown[] = [];
          for (const [n, step] of steps.entries()) {
            if (n === at) {
              const saved = structuredClone(g.nic.save());
              const fresh = new Guest({ ...kind, features: 0, high: 0, size: 16, start: false });
              fresh.status = 0; // nothing negotiated: all that counts must come with the state
              fresh.features = g.features;
              fresh.high = g.high;
              fresh.peer.holds = true;
              fresh.peer.limits = TAKES_ALL;
              fresh.host.memory.windows[0]!.bytes.set(g.host.memory.windows[0]!.bytes);
              fresh.host.clock.set(g.host.clock.now());
              fresh.peer.verdict = g.peer.verdict;
              fresh.nic.load(saved);
              assert.equal(fresh.nic.save(), saved);
              assert.is(fresh.host.intx, g.host.intx);
              g = fresh;
            }
            const frames = g.peer.frames.length;
            const readies = g.peer.readies.length;
            log.push(STEPS[step]?.(g, n), g.host.intx, g.peer.frames.slice(frames), g.peer.readies.slice(readies));
            log.push(g.peer.offloads.slice(frames), { ...g.nic.net.accepts() }, g.host.copyOf(BUFFERS, 20));
            log.push(g.peer.hints.slice(frames), g.host.clock.due, g.nic.counters());
            for (let q = 0; q <= g.ctrl; q++) log.push(g.usedIdx(q), g.usedFlags(q));
          }
          return log;
        };
        assert.equal(play(cut % steps.length), play(-1));
      },
    ),
    { numRuns: 80 },
  );
});

test("after disconnect the card holds nothing of the guest's memory", async () => {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  const used = () => {
    const g = new Guest({ features: F_CTRL_VQ | F_CTRL_RX | F_EVENT_IDX });
    g.post(0, BUFFERS, 2048);
    g.receive(frame(60));
    g.chain(TX, 0, [BUFFERS, 72, 0]);
    g.notify(TX);
    assert.is(g.command(0, 0, [0]), 0);
    assert.is(g.peer.frames.length, 1);
    g.nic.net.attach(null);
    g.nic.disconnect();
    return { nic: g.nic, memory: new WeakRef(g.host.memory.windows[0]!.bytes.buffer) };
  };
  const { nic, memory } = used();
  await new Promise((resolve) => setTimeout(resolve));
  gc();
  assert.is(memory.deref(), undefined);
  assert.is(nic.counters().rxFrames, 1);
});

test("a crafted snapshot of the card is refused and changes nothing", () => {
  const g = new Guest();
  const good = g.nic.save();
  type Bag = Record<string, unknown>;
  const crafted = (change: (device: Bag, filter: Bag) => void): void => {
    const bad = structuredClone(good) as unknown as { model: { core: { device: Bag } } };
    const { device } = bad.model.core;
    change(device, device.filter as Bag);
    assert.throws(
      () => g.nic.load(bad as unknown as typeof good),
      (error: unknown) => error instanceof StateError,
    );
    assert.equal(g.nic.save(), good);
  };
  crafted((_, filter) => (filter.unicast = 65));
  crafted((_, filter) => (filter.multicast = 65));
  crafted((_, filter) => (filter.table = new Uint8Array(12)));
  crafted((_, filter) => (filter.vlans = [0]));
  crafted((_, filter) => (filter.mac = new Uint8Array(7)));
  crafted((device) => (device.counters = [1]));
  const part = (device: Bag, name: string): Bag => device[name] as Bag;
  crafted((device) => (device.txBlocked = [2]));
  crafted((device) => (device.txDue = [0, 0]));
  crafted((device) => (device.txDeadlines = [-2]));
  crafted((device) => (part(device, "rx").hints = [1]));
  crafted((device) => Object.assign(part(device, "rx"), { hints: [1], pairs: [1] }));
  crafted((device) =>
    Object.assign(part(device, "rx"), { hints: new Array(65).fill(0), pairs: new Array(65).fill(0) }),
  );
  crafted((device) => (part(device, "steering").pairs = 2));
  crafted((device) => (part(device, "steering").pairs = 0));
  crafted((device) => (part(device, "steering").types = 1));
  crafted((device) => (part(device, "steering").mask = 2));
  crafted((device) => (part(device, "steering").mask = 255));
  crafted((device) => (part(device, "steering").unclassified = 1));
  crafted((device) => (part(device, "steering").table = new Array(128).fill(1)));
  crafted((device) => (part(device, "steering").key = new Uint8Array(41)));
  crafted((device) => Object.assign(part(device, "steering"), { flows: [0], flowPairs: [0] }));
  crafted((device) => (part(device, "coalescing").parameters = [0, 0]));
  crafted((device) => (part(device, "coalescing").common = [0, 0, 0, -1]));
  crafted((device) => (part(device, "coalescing").since = [0, -2]));
  crafted((device) => (part(device, "coalescing").deadlines = [0]));
  crafted((device) => (part(device, "coalescing").packets = [0, 0, 0]));
  crafted((device) => (device.permanentMac = "52"));
  crafted((device) => (device.guestOffloads = [0x8000, 0]));
  crafted((device) => (device.guestOffloads = [2]));
  crafted((device) => (device.announce = 1));
  crafted((device) => (device.version = 2));
  assert.throws(
    () => virtioNet({ mtu: 1500 }).load(good),
    (error: unknown) => error instanceof StateError,
  );
});

test("words and sizes that there are not are refused, not taken for the default", () => {
  // As plain JavaScript hands them in.
  for (const [options, code] of [
    [{ duplex: "Full" }, "virtio-net-duplex"],
    [{ duplex: 1 }, "virtio-net-duplex"],
    [{ queueSize: "256" }, "virtio-queue-size"],
    [{ queueSize: { rx: "16" } }, "virtio-queue-size"],
    [{ mac: 5 }, "mac-address"],
    [{ mac: null }, "mac-address"],
  ] as const)
    assert.throws(
      () => virtioNet(options as unknown as VirtioNetOptions),
      (error: unknown) => error instanceof ConfigError && error.code === code,
      JSON.stringify(options),
    );
});

test("a feature that is withheld takes along what needs it, and nothing else", () => {
  const offered = (withhold: number[]) => {
    const card = virtioNet({ personality: "modern", withhold });
    card.barWrite(4, 0, 4, 0);
    return card.barRead(4, 4, 4);
  };
  const all = offered([]);
  assert.is(offered([15]), all - 2 ** 15); // MRG_RXBUF
  // CTRL_VQ (17) and CTRL_RX, CTRL_VLAN, CTRL_RX_EXTRA, GUEST_ANNOUNCE, CTRL_MAC_ADDR. VIRTIO 1.3 §5.1.3.1
  assert.is(offered([17]), all - (2 ** 17 + 2 ** 18 + 2 ** 19 + 2 ** 20 + 2 ** 21 + 2 ** 23));
  assert.is(offered([11]), all - 2 ** 11); // HOST_TSO4; HOST_ECN has HOST_TSO6 left
  assert.is(offered([11, 12]), all - (2 ** 11 + 2 ** 12 + 2 ** 13));
});

test.run();
