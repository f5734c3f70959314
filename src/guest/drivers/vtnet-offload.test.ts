import { test } from "uvu";
import * as assert from "uvu/assert";
import { BusError, type RxOffload, type TxOffload } from "../types.js";
import {
  CSUM,
  CTRL_GUEST_OFFLOADS,
  CTRL_VQ,
  FRAME,
  frameOf,
  GUEST_CSUM,
  HEADER,
  HOST_ECN,
  HOST_TSO4,
  HOST_TSO6,
  MRG,
  RECEIVING,
  rig,
  SENDING,
  USUAL,
  up,
} from "./testing/vtnet-rig.js";

const OFFLOADING = [...USUAL, ...SENDING, ...RECEIVING, CTRL_GUEST_OFFLOADS];
/** Which of the offloads were accepted. */
const acceptedOf = ({ driverFeatures }: { readonly driverFeatures: bigint }): number[] =>
  [...SENDING, ...RECEIVING, CTRL_GUEST_OFFLOADS].filter((bit) => ((driverFeatures >> BigInt(bit)) & 1n) !== 0n);

test("VIO-119 offloads are accepted with what they need, and shown as capabilities", () => {
  // RXCSUM 1, TXCSUM 2, VLAN_MTU 8, JUMBO_MTU 20, TSO4 100, TSO6 200, LRO 400, LINKSTATE 80000, of IPv6 200000, 400000
  for (const [features, vtnetOptions, accepted, capenable] of [
    [OFFLOADING, {}, [...SENDING, ...RECEIVING, CTRL_GUEST_OFFLOADS], 0x680_72b],
    [OFFLOADING, { offload: false }, [], 0x080_028],
    [OFFLOADING.filter((bit) => bit !== CSUM), {}, [...RECEIVING, CTRL_GUEST_OFFLOADS], 0x280_429],
    [OFFLOADING, { without: [GUEST_CSUM] }, [...SENDING, CTRL_GUEST_OFFLOADS], 0x480_32a],
    [OFFLOADING, { without: [HOST_TSO4, HOST_TSO6] }, [CSUM, ...RECEIVING, CTRL_GUEST_OFFLOADS], 0x680_42b],
    [OFFLOADING, { without: [MRG] }, [...SENDING, GUEST_CSUM, CTRL_GUEST_OFFLOADS], 0x680_30b],
    [OFFLOADING, { without: [MRG], lroWithoutMerge: true }, [...SENDING, ...RECEIVING, CTRL_GUEST_OFFLOADS], 0x680_70b],
    [OFFLOADING, { without: [CTRL_VQ] }, [...SENDING, ...RECEIVING], 0x680_72b],
  ] as const) {
    const { fake, vtnet } = rig({ features, vtnet: vtnetOptions });
    assert.equal(acceptedOf(fake), accepted);
    assert.is(vtnet.capenable.toString(16), capenable.toString(16));
    assert.is(vtnet.capabilities, vtnet.capenable);
  }
});

test("without merged buffers each receive buffer holds 64 KiB, where segments of that size may come", () => {
  const { fake } = up({ features: OFFLOADING, vtnet: { without: [MRG], lroWithoutMerge: true }, queues: [8, 16, 4] });
  const ring = fake.ring(0);
  const [{ len } = { len: 0 }] = ring.chain(ring.pop());
  assert.ok(len >= 65_562 + 12, "§5.1.6.3.1");
  assert.is(ring.availIdx, 8);
});

const PLAIN: TxOffload = { csumStart: 34, csumOffset: 16, gso: "none", gsoSize: 0, hdrLen: 0, ecn: false };
const WHOLE: TxOffload = { csumStart: 34, csumOffset: 16, gso: "tcp4", gsoSize: 1448, hdrLen: 66, ecn: false };

test("what is left to the card stands in the header: flags, type, lengths, where the checksum goes", () => {
  for (const [modern, without, size] of [
    [true, [], 12],
    [false, [], 12],
    [false, [MRG], 10],
  ] as const) {
    const { vtnet, memory, take } = up({ features: OFFLOADING, modern, without });
    for (const [offload, length, expected] of [
      [PLAIN, 1514, [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]],
      [WHOLE, 65_000, [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]],
      [{ ...WHOLE, gso: "tcp6", gsoSize: 1428, ecn: true, csumStart: 54, hdrLen: 86 }, 9000, [1, 0x84, 86, 0, 0x94, 5, 54, 0, 16, 0, 0, 0]],
      [null, 60, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
      [undefined, 60, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ] as const) {
      for (let round = 0; round < 2; round++) {
        assert.ok(vtnet.transmit(frameOf(memory, [54, length - 54]), offload));
        vtnet.kick();
        const [{ bytes } = { bytes: [] as number[] }] = take();
        assert.is(bytes.length, size + length);
        assert.equal(bytes.slice(0, size), expected.slice(0, size));
      }
    }
  }
}); // biome-ignore format: a table

test("a frame that asks for what is not in use, or for nonsense, is dropped and counted", () => {
  const { vtnet, memory, take, told } = up({ features: OFFLOADING });
  const all = vtnet.capenable;
  const cases: readonly (readonly [number, TxOffload | null, number])[] = [
    [all & ~0x40_0002, PLAIN, 1514],
    [all & ~0x100, WHOLE, 9000],
    [all & ~0x200, { ...WHOLE, gso: "tcp6" }, 9000],
    [all & ~0x2, WHOLE, 9000], // TSO4 goes with TXCSUM
    [all, null, 1519],
    [all, PLAIN, 1519],
    [all, { ...PLAIN, csumStart: 45 }, 62],
    [all, { ...WHOLE, gsoSize: 0 }, 9000],
    [all, { ...WHOLE, gsoSize: 1453 }, 9000], // segments of more than the MTU and a tag
    [all, { ...WHOLE, hdrLen: 50 }, 9000],
    [all, WHOLE, 66],
    [all, WHOLE, 65_554],
  ];
  for (const [i, [capenable, offload, length]] of cases.entries()) {
    vtnet.setCapenable(capenable);
    assert.ok(vtnet.transmit(frameOf(memory, [length]), offload));
    vtnet.kick();
    assert.equal(take(), [], `case ${i}`);
    assert.is(vtnet.counters().oerrors, i + 1);
    vtnet.setCapenable(all);
  }
  assert.is(told.length, cases.length);
  const without = up({ features: OFFLOADING.filter((bit) => bit !== HOST_ECN) });
  without.vtnet.transmit(frameOf(without.memory, [9000]), { ...WHOLE, ecn: true });
  assert.is(without.vtnet.counters().oerrors, 1);
});

const NOTHING: RxOffload = { csum: "none", csumStart: 0, csumOffset: 0, gso: "none", gsoSize: 0, ecn: false };

test("what the card says of a received frame is handed on, and nothing of the one before", () => {
  const { vtnet, received, offloads, fill, interrupt } = up({ features: OFFLOADING });
  for (const [header, offload] of [
    [[0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 1, 0], NOTHING],
    [[1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 1, 0], { ...NOTHING, csum: "partial", csumStart: 34, csumOffset: 16 }],
    [[2, 0, 0, 0, 7, 7, 7, 7, 7, 7, 1, 0], { ...NOTHING, csum: "valid" }],
    [
      [1, 0x81, 54, 0, 0xa8, 5, 34, 0, 16, 0, 1, 0],
      { csum: "partial", csumStart: 34, csumOffset: 16, gso: "tcp4", gsoSize: 1448, ecn: true },
    ],
    [
      [1, 4, 54, 0, 1, 0, 0, 0, 58, 0, 1, 0],
      { csum: "partial", csumStart: 0, csumOffset: 58, gso: "tcp6", gsoSize: 1, ecn: false },
    ],
    [[0xf8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], NOTHING],
  ] as const) {
    fill([...header, ...FRAME]);
    interrupt();
    assert.equal(offloads.splice(0), [{ ...offload, hash: 0, hashReport: 0 }]);
    assert.equal(received.splice(0), [FRAME]);
  }
  for (const header of [
    [1, 0, 0, 0, 0, 0, 45, 0, 14, 0, 1, 0], // the checksum would end behind the frame
    [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0],
    [1, 1, 54, 0, 0, 0, 34, 0, 16, 0, 1, 0], // segments of nothing
    [0, 1, 54, 0, 9, 0, 34, 0, 16, 0, 1, 0], // no open checksum
    [1, 3, 54, 0, 9, 0, 34, 0, 16, 0, 1, 0], // UFO was not accepted
    [1, 0x80, 54, 0, 9, 0, 34, 0, 16, 0, 1, 0],
  ]) {
    const before = vtnet.counters().ierrors;
    fill([...header, ...FRAME]);
    interrupt();
    assert.is(vtnet.counters().ierrors, before + 1);
    assert.equal(received, []);
  }
  const plain = up({ features: OFFLOADING.filter((bit) => !RECEIVING.slice(1).includes(bit as 7)) });
  plain.fill([1, 1, 54, 0, 9, 0, 34, 0, 16, 0, 1, 0, ...FRAME]);
  plain.interrupt();
  assert.is(plain.vtnet.counters().ierrors, 1, "no TSO was accepted");
});

test("receiving offloads are switched by command, and again after each start", () => {
  const { vtnet, commands } = up({ features: OFFLOADING });
  const all = vtnet.capenable;
  const without = (bits: number) => {
    commands.length = 0;
    vtnet.setCapenable(all & ~bits);
    return commands.filter(([cls]) => cls === 5);
  };
  assert.equal(without(0x400), [[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]]);
  assert.equal(without(0), [[5, 0, 0x82, 0x03, 0, 0, 0, 0, 0, 0]]);
  assert.equal(without(0x20_0001), [[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]], "LRO goes with RXCSUM");
  assert.is(vtnet.capenable & 0x400, 0);
  assert.equal(without(0x20_0001), [], "no change");
  vtnet.down();
  vtnet.up();
  assert.equal(
    commands.filter(([cls]) => cls === 5),
    [[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
  );
  vtnet.down();
  assert.equal(without(0), []);
  vtnet.up();
  assert.equal(
    commands.filter(([cls]) => cls === 5),
    [],
    "all are on after a negotiation",
  );
  assert.equal(without(0x2), [], "sending is the driver's affair");
  assert.throws(
    () => vtnet.setCapenable(0x10),
    (error: unknown) => error instanceof BusError && error.code === "EOPNOTSUPP",
  );
});

test("without the command, receiving offloads are switched by another negotiation", () => {
  const { fake, vtnet, received, fill, interrupt } = up({
    features: OFFLOADING.filter((bit) => bit !== CTRL_GUEST_OFFLOADS),
  });
  const all = vtnet.capenable;
  vtnet.setCapenable(all & ~0x400);
  assert.equal(acceptedOf(fake), [...SENDING, GUEST_CSUM]);
  vtnet.setCapenable(all & ~0x20_0001);
  assert.equal(acceptedOf(fake), SENDING);
  vtnet.setCapenable(all);
  assert.equal(acceptedOf(fake), [...SENDING, ...RECEIVING]);
  fill([...HEADER, ...FRAME]);
  interrupt();
  assert.equal(received, [FRAME]);
});

test.run();
