import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Offload } from "../contract/index.js";
import { LONGEST_HEADERS, MOST_SEGMENTS } from "./headers.js";
import { Segmenter } from "./segment.js";
import { type PacketParts, packetOf, ramp, segmentsOf, slowSum } from "./testing.js";

/** All segments of a frame that lies somewhere in a larger array, or null when it is refused. */
const cut = (frame: Uint8Array, gso: Offload["gso"], gsoSize: number, segmenter = new Segmenter()) => {
  const memory = new Uint8Array(frame.length + 40).fill(0xee);
  memory.set(frame, 17);
  const before = memory.slice();
  if (!segmenter.begin(memory, 17, frame.length, { gso, gsoSize })) return null;
  const segments: Uint8Array[] = [];
  const { count, longest } = segmenter;
  while (segmenter.next()) {
    assert.is(segmenter.left, count - segments.length);
    segments.push(segmenter.bytes.slice(0, segmenter.length));
  }
  assert.is(segments.length, count);
  assert.is(segments[0]?.length, longest);
  assert.not(segmenter.next(), "nothing follows the last one");
  assert.equal(memory, before, "the sender's bytes are not touched");
  return segments;
};

const word = (bytes: Uint8Array, at: number): number => bytes[at]! * 256 + bytes[at + 1]!;
const long = (bytes: Uint8Array, at: number): number => word(bytes, at) * 0x1_0000 + word(bytes, at + 2);

const bytesOf = (maxLength: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ maxLength }).map((bytes) => Uint8Array.from(bytes));
/** Options of four bytes: no operation four times, or a router alert. */
const words4 = (most: number): fc.Arbitrary<number[]> =>
  fc.array(fc.constantFrom([1, 1, 1, 1], [0x94, 4, 0, 0]), { maxLength: most }).map((options) => options.flat());
const anyParts: fc.Arbitrary<PacketParts> = fc.record({
  gso: fc.constantFrom<PacketParts["gso"]>("tcp4", "tcp6", "udp"),
  tags: fc.array(fc.nat(0xffff), { maxLength: 2 }),
  options: words4(10),
  extensions: fc.array(fc.tuple(fc.constantFrom(0, 43, 60), fc.nat(3)), { maxLength: 3 }),
  tcpOptions: words4(10),
  flags: fc.nat(0xff),
  identification: fc.nat(0xffff),
  sequence: fc.nat(0xffff_ffff),
  payload: bytesOf(700),
});
const parts = fc
  .tuple(anyParts, fc.boolean())
  .map(([p, v6]): PacketParts => ({ ...p, v6: p.gso === "tcp6" || (p.gso === "udp" && v6) }));

test("the reference of these tests sums as the standard's example and a known header do", () => {
  assert.is(slowSum([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2); // RFC 1071 §3
  const header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
  assert.is(slowSum(header), 0xffff); // a published example: its checksum is b861
});

test("VIO-285 VIO-287 VIO-288 VIO-289 every segment is the frame that its sender would have sent itself", () => {
  const segmenter = new Segmenter(); // used again: nothing of a frame is left for the next one
  fc.assert(
    fc.property(parts, fc.oneof(fc.integer({ min: 1, max: 40 }), fc.nat(800), fc.nat(0xffff)), (p, size) => {
      const gsoSize = Math.max(1, size);
      const segments = cut(packetOf(p, true), p.gso, gsoSize, segmenter);
      assert.equal(segments, segmentsOf(p, gsoSize));
    }),
    { numRuns: 400 },
  );
});

test("what the sender wrote into lengths and checksums does not matter", () => {
  fc.assert(
    fc.property(parts, fc.integer({ min: 1, max: 800 }), (p, gsoSize) => {
      assert.equal(cut(packetOf(p, true), p.gso, gsoSize), cut(packetOf(p), p.gso, gsoSize));
    }),
    { numRuns: 60 },
  );
});

test("a receiver puts the payload together again, and finds every checksum right", () => {
  fc.assert(
    fc.property(parts, fc.integer({ min: 1, max: 300 }), (p, gsoSize) => {
      const ip = 14 + 4 * (p.tags?.length ?? 0);
      const got: number[] = [];
      for (const segment of cut(packetOf(p, true), p.gso, gsoSize)!) {
        const v6 = p.v6 === true;
        let transport = ip + 40;
        let protocol = segment[ip + 6]!;
        if (v6) {
          assert.is(word(segment, ip + 4), segment.length - ip - 40);
          for (; protocol !== 6 && protocol !== 17; transport += 8 + 8 * segment[transport + 1]!)
            protocol = segment[transport]!;
        } else {
          transport = ip + (segment[ip]! % 16) * 4;
          protocol = segment[ip + 9]!;
          assert.is(word(segment, ip + 2), segment.length - ip);
          assert.is(slowSum([...segment.slice(ip, transport)]), 0xffff);
        }
        const addresses = v6 ? segment.slice(ip + 8, ip + 40) : segment.slice(ip + 12, ip + 20);
        const length = segment.length - transport;
        const pseudo = [...addresses, length >>> 8, length & 0xff, 0, protocol];
        assert.is(slowSum([...pseudo, ...segment.slice(transport)]), 0xffff);
        if (protocol === 17) assert.is(word(segment, transport + 4), length);
        if (protocol === 17) assert.not(word(segment, transport + 6) === 0);
        got.push(...segment.slice(transport + (protocol === 17 ? 8 : (segment[transport + 12]! >>> 4) * 4)));
      }
      assert.equal(got, [...p.payload]);
    }),
    { numRuns: 100 },
  );
});

test("VIO-285 VIO-288 3000 bytes at 1460: lengths, identification, sequence numbers and flags, by number", () => {
  const p: PacketParts = {
    gso: "tcp4",
    payload: ramp(3000),
    identification: 0xfffe,
    sequence: 0xffff_f000,
    flags: 0x80 | 0x40 | 0x10 | 0x08 | 0x01, // CWR ECE ACK PSH FIN
  };
  const segments = cut(packetOf(p, true), "tcp4", 1460)!;
  assert.equal(
    segments.map((s) => s.length),
    [1514, 1514, 134],
  );
  assert.equal(
    segments.map((s) => word(s, 16)),
    [1500, 1500, 120],
  );
  assert.equal(
    segments.map((s) => word(s, 18)),
    [0xfffe, 0xffff, 0x0000],
  );
  assert.equal(
    segments.map((s) => long(s, 38)),
    [0xffff_f000, 0xffff_f5b4, 0xffff_fb68],
  );
  assert.equal(
    segments.map((s) => s[47]),
    [0xd0, 0x50, 0x59],
  );
});

test("VIO-289 a datagram whose checksum comes out as 0 says ffff", () => {
  const p: PacketParts = { gso: "udp", payload: Uint8Array.from([0, 0, 1, 2]) };
  const plain = packetOf({ ...p, payload: Uint8Array.from([0, 0]) });
  // What the checksum is without these two bytes, put into the payload, makes it 0.
  p.payload.set(plain.subarray(40, 42));
  const [first] = cut(packetOf(p, true), "udp", 2)!;
  assert.equal([...first!.subarray(40, 44)], [0xff, 0xff, plain[40], plain[41]]);
});

test("64 KiB in the smallest and the largest pieces that are allowed", () => {
  const p: PacketParts = { gso: "tcp4", payload: ramp(65_550 - 54) };
  const frame = packetOf(p, true);
  assert.is(frame.length, 65_550);
  const segments = cut(frame, "tcp4", 1460)!;
  assert.is(segments.length, 45);
  assert.equal(segments, segmentsOf(p, 1460));
  assert.is(cut(frame, "tcp4", 15), null, "more segments than a frame may cost");
  const most = { ...p, payload: ramp(MOST_SEGMENTS) };
  assert.equal(cut(packetOf(most, true), "tcp4", 1)?.length, MOST_SEGMENTS);
  assert.is(cut(packetOf({ ...p, payload: ramp(MOST_SEGMENTS + 1) }, true), "tcp4", 1), null);
  // One segment of it all would be an IP packet of 65536 bytes; one byte less is the longest there is.
  assert.is(cut(frame, "tcp4", 65_535), null);
  const longest = packetOf({ ...p, payload: ramp(65_495) }, true);
  assert.equal(
    cut(longest, "tcp4", 65_535)?.map((s) => word(s, 16)),
    [65_535],
  );
});

test("what fits in one segment is finished all the same", () => {
  for (const length of [0, 1, 2, 99, 100]) {
    const p: PacketParts = { gso: "tcp6", payload: ramp(length), flags: 0x99 };
    assert.equal(cut(packetOf(p, true), "tcp6", 100), [packetOf(p)]);
  }
  assert.is(cut(packetOf({ gso: "tcp6", payload: ramp(101) }, true), "tcp6", 100)?.length, 2);
});

test("VIO-286 segments of no size, or of nonsense, are refused", () => {
  const frame = packetOf({ gso: "tcp4", payload: ramp(3000) }, true);
  for (const gsoSize of [0, -1, 0.5, 1460.5, 65_536, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32])
    assert.is(cut(frame, "tcp4", gsoSize), null, `${gsoSize}`);
  assert.is(cut(frame, "none", 1460), null);
});

test("a packet that is not what the offload says, or whose parts do not stand where they should, is refused", () => {
  const tcp4: PacketParts = { gso: "tcp4", payload: ramp(3000) };
  const tcp6: PacketParts = { gso: "tcp6", payload: ramp(3000) };
  const refused = (why: string, p: PacketParts, at: number, value: number, gso: Offload["gso"] = p.gso): void => {
    const frame = packetOf(p, true);
    assert.ok(cut(frame, p.gso, 1460) !== null, `${why}: as it should be`);
    frame[at] = value;
    assert.is(cut(frame, gso, 1460), null, why);
  };
  refused("tcp4 that is tcp6", tcp6, 0, 2, "tcp4");
  refused("tcp6 that is tcp4", tcp4, 0, 2, "tcp6");
  refused("udp that is tcp4", tcp4, 0, 2, "udp");
  refused("tcp6 that is UDP", { gso: "udp", v6: true, payload: ramp(3000) }, 0, 2, "tcp6");
  refused("no IP", tcp4, 12, 0x09);
  refused("version 5", tcp4, 14, 0x55);
  refused("version 4 in an IPv6 frame", tcp6, 14, 0x4a);
  refused("an IP header of 16 bytes", tcp4, 14, 0x44);
  refused("more fragments", tcp4, 20, 0x20);
  refused("a later fragment", tcp4, 21, 0x01);
  refused("ICMP", tcp4, 23, 1);
  refused("a TCP header of 16 bytes", tcp4, 46, 0x40);
  refused("strict source routing", { ...tcp4, options: [1, 1, 1, 1, 1, 3, 4, 0] }, 38, 137);
  refused("loose source routing", { ...tcp4, options: [7, 3, 4, 1, 1, 3, 4, 0] }, 38, 131);
  refused("a fragment header", { ...tcp6, extensions: [[0, 0]] }, 20, 44);
  refused("an authentication header", { ...tcp6, extensions: [[0, 0]] }, 20, 51);
  refused("no next header", { ...tcp6, extensions: [[0, 0]] }, 54, 59);
  refused("segments left to route", { ...tcp6, extensions: [[43, 2]] }, 57, 1);
});

test("headers that do not end within the frame, or are too long, are refused", () => {
  const all: PacketParts[] = [
    { gso: "tcp4", payload: ramp(0), tags: [1, 2], options: [1, 1, 1, 1], tcpOptions: [1, 1, 1, 1] },
    { gso: "tcp6", payload: ramp(0), tags: [1], extensions: [[0, 1]] },
    { gso: "udp", payload: ramp(0) },
    { gso: "udp", payload: ramp(0), v6: true },
  ];
  for (const p of all) {
    const frame = packetOf(p, true);
    for (let length = 0; length < frame.length; length++) assert.is(cut(frame.slice(0, length), p.gso, 100), null);
    assert.equal(cut(frame, p.gso, 100), [packetOf(p)]);
  }
  const units = Math.floor((LONGEST_HEADERS - 14 - 40 - 20) / 8) - 1;
  assert.ok(cut(packetOf({ gso: "tcp6", payload: ramp(900), extensions: [[60, units]] }, true), "tcp6", 100) !== null);
  const more: PacketParts = { gso: "tcp6", payload: ramp(900), extensions: [[60, units + 1]] };
  assert.is(cut(packetOf(more, true), "tcp6", 100), null);
  const tags: PacketParts = { gso: "tcp4", payload: ramp(900), tags: [1, 2, 3] };
  assert.is(cut(packetOf(tags, true), "tcp4", 100), null, "no bridge sends three tags");
});

test("the rest from any segment on is a frame of just these segments, also moved within its own array", () => {
  const segmenter = new Segmenter();
  fc.assert(
    fc.property(parts, fc.integer({ min: 1, max: 300 }), fc.nat(20), fc.boolean(), (p, gsoSize, first, moved) => {
      const frame = packetOf(p, true);
      const expected = segmentsOf(p, gsoSize);
      const k = Math.min(first, expected.length - 1);
      assert.ok(segmenter.begin(frame, 0, frame.length, { gso: p.gso, gsoSize }));
      for (let i = 0; i <= k; i++) segmenter.next();
      const rest = moved ? frame : new Uint8Array(segmenter.restLength);
      const { restLength } = segmenter;
      segmenter.copyRest(rest);
      assert.equal(cut(rest.slice(0, restLength), p.gso, gsoSize), expected.slice(k));
    }),
    { numRuns: 200 },
  );
});

test("hostile bytes: nothing is thrown, nothing goes on for ever, nothing outside the frame is read or shown", () => {
  const segmenter = new Segmenter();
  const size = fc.oneof(fc.nat(4), fc.integer({ min: -2, max: 70_000 }));
  const gso = fc.constantFrom<Offload["gso"]>("none", "tcp4", "tcp6", "udp");
  const damage = fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 4 });
  const frame = fc.oneof(
    bytesOf(300),
    fc.tuple(parts, damage, fc.nat(300)).map(([p, holes, length]) => {
      const bytes = packetOf(p, true);
      for (const [at, value] of holes) if (at < bytes.length) bytes[at] = value;
      return bytes.slice(0, Math.max(length, 14));
    }),
  );
  let accepted = 0;
  fc.assert(
    fc.property(frame, gso, size, (bytes, kind, gsoSize) => {
      const results = [0x00, 0xff].map((around) => {
        // The same frame in other surroundings gives the same segments: what is around it has no influence.
        const memory = new Uint8Array(bytes.length + 1000).fill(around);
        memory.set(bytes, 500);
        if (!segmenter.begin(memory, 500, bytes.length, { gso: kind, gsoSize })) return null;
        accepted++;
        const segments: Uint8Array[] = [];
        while (segmenter.next()) segments.push(segmenter.bytes.slice(0, segmenter.length));
        return segments;
      });
      assert.equal(results[0], results[1]);
      const total = results[0]?.reduce((sum, { length }) => sum + length, 0) ?? 0;
      assert.ok(total <= MOST_SEGMENTS * LONGEST_HEADERS + bytes.length);
    }),
    { numRuns: 1500 },
  );
  assert.ok(accepted > 100, `${accepted} were cut: enough to mean something`);
});

test("no buffer is made for a frame that is like the one before", () => {
  const segmenter = new Segmenter();
  const frame = packetOf({ gso: "tcp4", payload: ramp(9000) }, true);
  cut(frame, "tcp4", 8000, segmenter);
  const { bytes } = segmenter;
  cut(frame, "tcp4", 1460, segmenter);
  cut(frame, "tcp4", 8000, segmenter);
  assert.is(segmenter.bytes, bytes);
});

test.run();
