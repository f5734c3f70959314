import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Offload } from "../contract/index.js";
import { LONGEST_FINISHED } from "./finish.js";
import { Fragmenter } from "./fragment.js";
import { MOST_SEGMENTS } from "./headers.js";
import { type PacketParts, packetOf, ramp, reassemble, slowSum } from "./testing.js";

/** All fragments of a frame that lies somewhere in a larger array, or null when it is refused. */
const cut = (frame: Uint8Array, gsoSize: number, fragmenter = new Fragmenter(), gso: Offload["gso"] = "udpfrag") => {
  const memory = new Uint8Array(frame.length + 40).fill(0xee);
  memory.set(frame, 17);
  const before = memory.slice();
  if (!fragmenter.begin(memory, 17, frame.length, { gso, gsoSize })) return null;
  memory.fill(0); // a guest may write there while its frame is being cut
  const fragments: Uint8Array[] = [];
  const { count, longest } = fragmenter;
  while (fragmenter.next()) {
    assert.is(fragmenter.left, count - fragments.length);
    fragments.push(fragmenter.bytes.slice(0, fragmenter.length));
  }
  assert.is(fragments.length, count);
  assert.is(fragments[0]?.length, longest);
  assert.not(fragmenter.next(), "nothing follows the last one");
  assert.is(before.length, memory.length);
  return fragments;
};

const word = (bytes: Uint8Array, at: number): number => bytes[at]! * 256 + bytes[at + 1]!;
const hex = (bytes: Uint8Array): string => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");

const words4 = (most: number): fc.Arbitrary<number[]> =>
  fc
    .array(fc.constantFrom([1, 1, 1, 1], [0x94, 4, 0, 0], [7, 4, 4, 0], [1, 0x88, 4, 9, 9, 1, 1, 1]), {
      maxLength: most,
    })
    .map((options) => options.flat());
const parts: fc.Arbitrary<PacketParts> = fc.record({
  gso: fc.constant("udp" as const),
  v6: fc.boolean(),
  tags: fc.array(fc.nat(0xffff), { maxLength: 2 }),
  options: words4(5),
  extensions: fc.array(fc.tuple(fc.constantFrom(0, 43, 60), fc.nat(3)), { maxLength: 3 }),
  identification: fc.nat(0xffff),
  payload: fc.uint8Array({ maxLength: 900 }).map((bytes) => Uint8Array.from(bytes)),
});
const sizes = fc.oneof(fc.integer({ min: 8, max: 40 }), fc.integer({ min: 8, max: 1000 }));

test("VIO-289 a receiver that puts the fragments together has the packet that its sender left whole", () => {
  const fragmenter = new Fragmenter(); // used again: nothing of a frame is left for the next one
  fc.assert(
    fc.property(parts, sizes, (p, gsoSize) => {
      const fragments = cut(packetOf(p, true), gsoSize, fragmenter)!;
      // Its only fragment is no fragment, and keeps what the sender wrote there.
      if (fragments.length === 1) assert.equal(fragments, [packetOf(p)]);
      else assert.equal(reassemble(fragments), packetOf({ ...p, dontFragment: false }));
    }),
    { numRuns: 400 },
  );
});

test("VIO-289 IPv4: 3001 bytes at 1480, by number", () => {
  // A datagram of 3009 bytes: 1480 + 1480 + 49, at offsets 0, 185 and 370 of eight bytes. RFC 791 §3.1
  const p: PacketParts = { gso: "udp", payload: ramp(3001), identification: 0xbeef };
  const fragments = cut(packetOf(p, true), 1480)!;
  assert.equal(
    fragments.map((f) => f.length),
    [1514, 1514, 83],
  );
  assert.equal(
    fragments.map((f) => word(f, 16)),
    [1500, 1500, 69],
  );
  assert.equal(
    fragments.map((f) => word(f, 18)),
    [0xbeef, 0xbeef, 0xbeef],
  );
  assert.equal(
    fragments.map((f) => word(f, 20)),
    [0x2000, 0x20b9, 0x0172],
  );
  for (const f of fragments) assert.is(slowSum([...f.subarray(14, 34)]), 0xffff);
  const [first] = fragments;
  assert.is(word(first!, 38), 3009, "the length of the datagram, not of its first piece");
  assert.is(word(first!, 40), word(packetOf(p), 40), "and its checksum");
  assert.equal(fragments[2]!.slice(34), p.payload.slice(1480 + 1472));
});

test("VIO-289 IPv6: the fragment header, by number; routing stays in front of it and later options go behind", () => {
  const p: PacketParts = {
    gso: "udp",
    v6: true,
    tags: [5],
    extensions: [
      [0, 0],
      [43, 0],
      [60, 0],
    ],
    payload: ramp(99),
  };
  const fragments = cut(packetOf(p, true), 64)!;
  // What is cut: 8 of destination options, 8 of UDP, 99. In front: 18 of Ethernet, 40, 8, 8, and the new 8.
  assert.equal(
    fragments.map((f) => f.length),
    [82 + 64, 82 + 51],
  );
  const id = hex(fragments[0]!.subarray(78, 82));
  assert.equal(
    fragments.map((f) => [word(f, 22), f[24], f[58], f[66], hex(f.subarray(74, 82))]),
    [
      [24 + 64, 0, 43, 44, `3c000001${id}`],
      [24 + 51, 0, 43, 44, `3c000040${id}`],
    ],
  );
});

test("the same datagram has the same identification in IPv6, another one another", () => {
  const idOf = (payload: Uint8Array): string =>
    hex(cut(packetOf({ gso: "udp", v6: true, payload }, true), 512)![0]!.subarray(58, 62));
  const one = ramp(2000);
  const other = ramp(2000);
  // The Internet checksum does not see that two words change places.
  other.set(one.subarray(0, 2), 2);
  other.set(one.subarray(2, 4), 0);
  assert.is(idOf(one), idOf(one.slice()));
  assert.is.not(idOf(one), idOf(other));
});

test("options that are for the first fragment only are blanked in the others", () => {
  // Record route (7) is not copied, router alert (148) is. RFC 791 §3.1
  const options = [7, 7, 8, 0, 0, 0, 0, 1, 0x94, 4, 0, 0];
  const fragments = cut(packetOf({ gso: "udp", options, payload: ramp(50) }, true), 24)!;
  assert.equal(
    fragments.map((f) => hex(f.subarray(34, 46))),
    ["070708000000000194040000", "010101010101010194040000", "010101010101010194040000"],
  );
});

test("sizes between multiples of eight are rounded down, and none is left below eight", () => {
  const frame = packetOf({ gso: "udp", payload: ramp(3000) }, true);
  assert.equal(cut(frame, 1479), cut(frame, 1472));
  assert.equal(cut(frame, 15), cut(frame, 8));
  for (const gsoSize of [0, 7, -8, 8.5, 65_536, Number.NaN, Number.POSITIVE_INFINITY])
    assert.is(cut(frame, gsoSize), null, `${gsoSize}`);
  for (const gso of ["none", "udp", "tcp4"] as const) assert.is(cut(frame, 1480, new Fragmenter(), gso), null);
});

test("64 KiB: the longest datagram there is, and more fragments than one frame may cost", () => {
  const most = packetOf({ gso: "udp", payload: ramp(65_507) }, true);
  const fragments = cut(most, 1480)!;
  assert.is(fragments.length, 45);
  assert.equal(reassemble(fragments), packetOf({ gso: "udp", payload: ramp(65_507), dontFragment: false }));
  assert.is(cut(packetOf({ gso: "udp", payload: ramp(65_508) }, true), 1480), null, "an IP packet of 65536 bytes");
  const count = (payload: number): number | undefined =>
    cut(packetOf({ gso: "udp", payload: ramp(payload) }, true), 8)?.length;
  assert.is(count(MOST_SEGMENTS * 8 - 8), MOST_SEGMENTS);
  assert.is(count(MOST_SEGMENTS * 8 - 7), undefined);
  const six = { gso: "udp", v6: true, payload: ramp(LONGEST_FINISHED - 62) } as const;
  assert.equal(reassemble(cut(packetOf(six, true), 1448)!), packetOf(six));
  assert.is(cut(packetOf({ ...six, payload: ramp(LONGEST_FINISHED - 61) }, true), 1448), null, "no frame is as long");
});

test("a packet that is no whole UDP datagram is refused", () => {
  const udp: PacketParts = { gso: "udp", payload: ramp(300) };
  const six: PacketParts = { ...udp, v6: true, extensions: [[43, 0]] };
  const refused = (why: string, p: PacketParts, at: number, value: number): void => {
    const frame = packetOf(p, true);
    assert.ok(cut(frame, 64) !== null, `${why}: as it should be`);
    frame[at] = value;
    assert.is(cut(frame, 64), null, why);
  };
  refused("TCP", udp, 23, 6);
  refused("no IP", udp, 13, 6);
  refused("version 5", udp, 14, 0x55);
  refused("a first fragment", udp, 20, 0x20);
  refused("loose source routing", { ...udp, options: [1, 1, 1, 1, 1, 3, 4, 0] }, 38, 131);
  refused("TCP in IPv6", six, 54, 6);
  refused("segments left to route", six, 57, 1);
  refused("a first fragment in IPv6", six, 20, 44);
  for (const p of [udp, six, { ...six, tags: [1, 2] }]) {
    const frame = packetOf({ ...p, payload: ramp(0) }, true);
    for (let length = 0; length < frame.length; length++) assert.is(cut(frame.slice(0, length), 64), null);
    assert.is(cut(frame, 64)?.length, 1);
  }
});

test("the rest from any fragment on is a frame of just these fragments", () => {
  const fragmenter = new Fragmenter();
  const again = new Fragmenter();
  fc.assert(
    fc.property(parts, sizes, fc.nat(20), fc.nat(3), (p, gsoSize, first, second) => {
      const expected = cut(packetOf(p, true), gsoSize)!;
      const restFrom = (frame: Uint8Array, k: number): Uint8Array => {
        assert.ok(fragmenter.begin(frame, 0, frame.length, { gso: "udpfrag", gsoSize }));
        for (let i = 0; i <= k; i++) fragmenter.next();
        const rest = new Uint8Array(fragmenter.restLength);
        fragmenter.copyRest(rest);
        return rest;
      };
      const k = Math.min(first, expected.length - 1);
      const rest = restFrom(packetOf(p, true), k);
      assert.equal(cut(rest, gsoSize, again), expected.slice(k));
      const l = Math.min(second, expected.length - 1 - k);
      assert.equal(cut(restFrom(rest, l), gsoSize, again), expected.slice(k + l), "the rest of a rest");
    }),
    { numRuns: 200 },
  );
});

test("a later fragment of another's making is cut further, and what follows it still follows", () => {
  for (const v6 of [false, true]) {
    const p: PacketParts = { gso: "udp", v6, payload: ramp(500) };
    const pieces = cut(packetOf(p, true), 96)!;
    const finer = pieces.flatMap((piece, i) => (i === 0 ? [piece] : cut(piece, 40)!));
    assert.is(finer.length, 1 + 4 * 3 + 1);
    assert.equal(reassemble(finer), packetOf({ ...p, dontFragment: false }));
  }
});

test("hostile bytes: nothing is thrown, nothing goes on for ever, nothing outside the frame is read or shown", () => {
  const fragmenter = new Fragmenter();
  const damage = fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 });
  const frame = fc.tuple(parts, damage, fc.nat(300)).map(([p, holes, length]) => {
    const bytes = packetOf(p, true);
    for (const [at, value] of holes) if (at < bytes.length) bytes[at] = value;
    return bytes.slice(0, Math.max(length, 14));
  });
  let accepted = 0;
  fc.assert(
    fc.property(frame, fc.oneof(sizes, fc.integer({ min: -2, max: 70_000 })), (bytes, gsoSize) => {
      const results = [0x00, 0xff].map((around) => {
        const memory = new Uint8Array(bytes.length + 1000).fill(around);
        memory.set(bytes, 500);
        if (!fragmenter.begin(memory, 500, bytes.length, { gso: "udpfrag", gsoSize })) return null;
        accepted++;
        const fragments: Uint8Array[] = [];
        while (fragmenter.next()) fragments.push(fragmenter.bytes.slice(0, fragmenter.length));
        return fragments;
      });
      assert.equal(results[0], results[1]);
      const total = results[0]?.reduce((sum, { length }) => sum + length, 0) ?? 0;
      assert.ok(total <= bytes.length * 80);
    }),
    { numRuns: 1000 },
  );
  assert.ok(accepted > 100, `${accepted} were cut: enough to mean something`);
});

test("no buffer is made for a frame that is like the one before", () => {
  const fragmenter = new Fragmenter();
  const frame = packetOf({ gso: "udp", payload: ramp(9000) }, true);
  cut(frame, 8000, fragmenter);
  const { bytes } = fragmenter;
  cut(frame, 1480, fragmenter);
  cut(frame, 8000, fragmenter);
  assert.is(fragmenter.bytes, bytes);
});

test.run();
