/** What a transmit descriptor asks of the card beside sending: large send, checksums, tags. Raw numbers throughout. */
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Offload } from "../../src/contract/index.js";
import { Segmenter } from "../../src/net/index.js";
import { fcsOf, frameTo, ipFrame, onesSum, PEER, Rig, type RigOptions } from "./testing.js";

const RING = 0x10_0000;
const DATA = 0x20_0000;
const OWN = 0x8000_0000;
const EOR = 0x4000_0000;
const FS = 0x2000_0000;
const LS = 0x1000_0000;
const LGSEN = 0x0800_0000;
const IPCS = 0x0004_0000;
const UDPCS = 0x0002_0000;
const TCPCS = 0x0001_0000;
const TAGC = 0x0002_0000;

const started = (options: RigOptions = {}): Rig => {
  const rig = new Rig(options);
  rig.startTx(RING);
  return rig;
};

/** Sends a frame from descriptors of these lengths (the last takes the rest), command and opts2 in all or the first only. */
const send = (
  rig: Rig,
  frame: Uint8Array,
  command: number,
  opts2 = 0,
  cuts: readonly number[] = [],
  all = true,
): void => {
  const ends = [...cuts, frame.length];
  let from = 0;
  ends.forEach((end, i) => {
    rig.put(DATA + from, frame.subarray(from, end));
    const asked = i === 0 || all;
    const flags = OWN + (i === 0 ? FS : 0) + (i === ends.length - 1 ? LS + EOR : 0) + (asked ? command : 0);
    rig.descriptor(RING + 16 * i, flags + end - from, DATA + from, asked ? opts2 : 0);
    from = end;
  });
  rig.w32(0x20, RING);
  rig.w8(0x38, 0x40);
};

/** What goes over the wire when the far end cannot cut: the frames that the offload stands for. */
const cut = (frame: Uint8Array, offload: Offload | null): Uint8Array[] => {
  if (offload === null || offload.gso === "none") return [frame];
  const segmenter = new Segmenter();
  assert.ok(segmenter.begin(frame, 0, frame.length, offload));
  const frames: Uint8Array[] = [];
  while (segmenter.next()) frames.push(segmenter.bytes.slice(0, segmenter.length));
  return frames;
};

/** A packet as Linux or FreeBSD leaves it for large send: no length, no checksums that hold. */
const forLargeSend = (parts: Parameters<typeof ipFrame>[0]): Uint8Array => {
  const frame = ipFrame({ to: PEER, ...parts });
  const ip = parts.tci === undefined ? 14 : 18;
  frame.fill(0, ip + 2, ip + 4);
  frame.fill(0, ip + 10, ip + 12);
  frame.fill(0, ip + 36, ip + 38);
  return frame;
};

const assertFinished = (frame: Uint8Array, ip = 14): void => {
  assert.is((frame[ip + 2]! << 8) | frame[ip + 3]!, frame.length - ip, "IP length");
  assert.is(onesSum(frame, ip, ip + 20), 0xffff, "IP checksum");
  const length = frame.length - ip - 20;
  assert.is(
    onesSum(frame, ip + 20, frame.length, onesSum(frame, ip + 12, ip + 20, 6 + length)),
    0xffff,
    "TCP checksum",
  );
};

test("RTL-124 RTL-125 RTL-072 3000 bytes at MSS 1460 are three frames: lengths, ids, sequence numbers, FIN and PSH", () => {
  const rig = started();
  // MSS 1460 is 5B4h in bits 26–16: bit 23 of what drivers read as errors is among them.
  const frame = forLargeSend({ payload: 3000, sequence: 0xffff_fa00, identification: 0xffff, flags: 0x19 });
  send(rig, frame, LGSEN + 0x05b4_0000, 0, [54, 1500]);
  assert.is(rig.far.frames.length, 1, "it leaves the card whole");
  const { gso, gsoSize, needsCsum, csumStart, csumOffset, ecn } = rig.far.offloads[0]!;
  assert.equal([gso, gsoSize, needsCsum, csumStart, csumOffset, ecn], ["tcp4", 1460, true, 34, 16, false]);
  assert.equal(
    [0, 1, 2].map((i) => rig.get32(RING + 16 * i)),
    [FS + 54, 1446, EOR + LS + 1554],
  );
  const frames = cut(rig.far.frames[0]!, rig.far.offloads[0]!);
  assert.equal(
    frames.map(({ length }) => length),
    [1514, 1514, 134],
  );
  const words = (at: number): number[] => frames.map((segment) => (segment[at]! << 8) | segment[at + 1]!);
  assert.equal(words(16), [1500, 1500, 120]);
  assert.equal(words(18), [0xffff, 0, 1], "identification");
  assert.equal(words(38), [0xffff, 0xffff, 0x0000]);
  assert.equal(words(40), [0xfa00, 0xffb4, 0x0568], "sequence, across 2³²");
  assert.equal(
    frames.map((segment) => segment[47]),
    [0x10, 0x10, 0x19],
  );
  for (const segment of frames) assertFinished(segment);
  const stream = frames.flatMap((segment) => [...segment.subarray(54)]);
  assert.equal(Uint8Array.from(stream), frame.subarray(54));
});

test("a packet for large send is whole in itself, whatever the driver left in its header", () => {
  const rig = started();
  const junk = forLargeSend({ payload: 2000, flags: 0x98 });
  junk.set([0xde, 0xad], 16);
  junk.set([0xbe, 0xef], 24);
  junk.set([0x12, 0x34], 50);
  send(rig, junk, LGSEN + 0x0200_0000);
  const [frame] = rig.far.frames;
  assert.is((frame![16]! << 8) | frame![17]!, 2040);
  assert.is(onesSum(frame!, 14, 34), 0xffff);
  assert.is((frame![50]! << 8) | frame![51]!, onesSum(frame!, 26, 34, 6 + 2020), "sum of the pseudo header");
  assert.is(rig.far.offloads[0]!.ecn, true, "CWR is set");
  assert.is(rig.get(DATA, junk.length)[16], 0xde, "the guest's own copy stays");
});

test("the tally counts frames on the wire, the card's counters what leaves it", () => {
  const rig = started();
  send(rig, forLargeSend({ payload: 3000 }), LGSEN + 0x05b4_0000);
  assert.is(rig.card.counters().txFrames, 1);
  assert.is(rig.card.counters().txBytes, 3054);
  rig.w32(0x14, 0);
  rig.w32(0x10, 0x30_0008);
  assert.is(rig.get32(0x30_0000), 3);
  send(rig, ipFrame({ to: PEER, payload: 100 }), 0x0005_0000);
  rig.w32(0x10, 0x30_0008);
  assert.is(rig.get32(0x30_0000), 4, "one with its checksums stored");
});

test("a payload that fits one segment goes the same way and is finished by the card", () => {
  for (const payload of [0, 1, 1459, 1460]) {
    const rig = started();
    const frame = forLargeSend({ payload, flags: 0x19 });
    send(rig, frame, LGSEN + 0x05b4_0000);
    const sent = rig.far.frames[0]!.subarray(0, frame.length);
    assert.is(rig.far.offloads[0], null);
    assertFinished(sent);
    assert.is(sent[47], 0x19);
    assert.equal(sent.subarray(54), frame.subarray(54));
    rig.far.csum = true;
    send(rig, frame, LGSEN + 0x05b4_0000);
    const { gso, gsoSize, needsCsum } = rig.far.offloads[1]!;
    assert.equal([gso, gsoSize, needsCsum], ["none", 0, true]);
  }
});

test("RTL-126 MSS 0 sends one frame, as it is, and says so", () => {
  const rig = started();
  const frame = forLargeSend({ payload: 1000 });
  send(rig, frame, LGSEN);
  assert.equal(rig.far.frames, [frame]);
  assert.equal(rig.far.offloads, [null]);
  assert.is(rig.get32(RING), EOR + FS + LS + frame.length);
  assert.equal(
    rig.reports.map(({ code }) => code),
    ["tx-mss-zero"],
  );
});

test("what is not TCP over IPv4 is not cut, and goes out as it is", () => {
  const udp = ipFrame({ to: PEER, protocol: 17, payload: 3000 });
  const v6 = frameTo(PEER, 3000);
  v6.set([0x86, 0xdd, 0x60], 12);
  v6[20] = 6;
  const fragment = forLargeSend({ payload: 3000 });
  fragment[20] = 0x20;
  const headerOnly = forLargeSend({ payload: 0 }).subarray(0, 50);
  for (const frame of [udp, v6, fragment, frameTo(PEER, 3000)]) {
    const rig = started();
    send(rig, frame, LGSEN + 0x05b4_0000);
    assert.equal(rig.far.frames, [frame]);
    assert.equal(rig.far.offloads, [null]);
    assert.is(rig.reports[0]!.code, "tx-not-tcp");
  }
  const rig = started();
  send(rig, headerOnly, LGSEN + 0x05b4_0000);
  assert.equal(rig.far.frames[0]!.subarray(0, 50), headerOnly);
});

test("a far end that takes open checksums gets them, with the sum of the pseudo header in their place", () => {
  for (const [protocol, command, offset] of [
    [6, TCPCS, 16],
    [17, UDPCS, 6],
  ] as const)
    for (const tci of [undefined, 0x2064]) {
      const rig = started();
      rig.far.csum = true;
      const frame = ipFrame({ to: PEER, protocol, payload: 501, ...(tci === undefined ? {} : { tci }) });
      const ip = tci === undefined ? 14 : 18;
      frame.set([0xde, 0xad], ip + 10);
      frame.set([0xbe, 0xef], ip + 20 + offset);
      send(rig, frame, IPCS + command);
      const { needsCsum, csumStart, csumOffset, gso } = rig.far.offloads[0]!;
      assert.equal([needsCsum, csumStart, csumOffset, gso], [true, ip + 20, offset, "none"]);
      const [sent] = rig.far.frames;
      assert.is(onesSum(sent!, ip, ip + 20), 0xffff, "the IP header is done");
      const pseudo = onesSum(sent!, ip + 12, ip + 20, protocol + frame.length - ip - 20);
      assert.is((sent![ip + 20 + offset]! << 8) | sent![ip + 21 + offset]!, pseudo);
    }
});

test("an open checksum that would cover more than the packet is closed by the card", () => {
  const rig = started();
  rig.far.csum = true;
  const packet = ipFrame({ to: PEER, payload: 100 });
  const frame = new Uint8Array(packet.length + 3).fill(0x55);
  frame.set(packet);
  frame.set([0, 0], 50);
  send(rig, frame, IPCS + TCPCS);
  assert.is(rig.far.offloads[0], null);
  assertFinished(rig.far.frames[0]!.subarray(0, packet.length));
});

test("a UDP packet of nothing but its header has a checksum, too", () => {
  const rig = started();
  const frame = ipFrame({ to: PEER, protocol: 17, payload: 0 });
  const without = Uint8Array.from(frame);
  without.set([0xde, 0xad], 40);
  send(rig, without, UDPCS);
  assert.equal(rig.far.frames[0]!.subarray(0, frame.length), frame);
});

test("in a frame with a tag of its own, or two, checksums are found behind it", () => {
  const rig = started();
  const one = ipFrame({ to: PEER, payload: 80, tci: 0x0064 });
  const two = new Uint8Array(one.length + 4);
  two.set(one.subarray(0, 12));
  two.set([0x88, 0xa8, 0x00, 0x05], 12);
  two.set(one.subarray(12), 16);
  for (const [frame, ip] of [
    [one, 18],
    [two, 22],
  ] as const) {
    const broken = Uint8Array.from(frame);
    broken.fill(0, ip + 10, ip + 12);
    broken.fill(0, ip + 36, ip + 38);
    send(rig, broken, IPCS + TCPCS);
    assert.equal(rig.far.frames.pop(), frame);
  }
});

test("RTL-127 RTL-132 TAGC puts 8100h and the tag behind the addresses, from one descriptor, from several, from the first only", () => {
  // VID 234h, priority 5, CFI 1: TCI B234h, whose bytes change places in opts2.
  const frame = frameTo(PEER, 300);
  const tagged = new Uint8Array(304);
  tagged.set(frame.subarray(0, 12));
  tagged.set([0x81, 0x00, 0xb2, 0x34], 12);
  tagged.set(frame.subarray(12), 16);
  for (const cuts of [[], [14, 100], [6, 13], [1, 2, 3]])
    for (const all of [true, false]) {
      const rig = started();
      send(rig, frame, 0, TAGC + 0x34b2, cuts, all);
      assert.equal(rig.far.frames, [tagged], `cut at ${cuts}`);
      assert.is(rig.get32(RING + 4), TAGC + 0x34b2, "opts2 as it was");
    }
  const rig = started();
  send(rig, frame, 0, 0x34b2);
  assert.equal(rig.far.frames, [frame], "no TAGC, no tag");
});

test("a tagged short frame is padded behind its tag to 60 bytes, and one without addresses gets no tag", () => {
  const rig = started();
  send(rig, frameTo(PEER, 42), 0, TAGC + 0x0100);
  const expected = new Uint8Array(60);
  expected.set(frameTo(PEER, 42).subarray(0, 12));
  expected.set([0x81, 0x00, 0x00, 0x01], 12);
  expected.set(frameTo(PEER, 42).subarray(12), 16);
  assert.equal(rig.far.frames.pop(), expected);
  send(rig, frameTo(PEER, 56), 0, TAGC);
  assert.is(rig.far.frames.pop()!.length, 60);
  send(rig, frameTo(PEER, 57), 0, TAGC);
  assert.is(rig.far.frames.pop()!.length, 61);
  send(rig, frameTo(PEER, 14).subarray(0, 11), 0, TAGC + 0x0100);
  const untagged = new Uint8Array(60);
  untagged.set(frameTo(PEER, 14).subarray(0, 11));
  assert.equal(rig.far.frames.pop(), untagged);
  send(rig, frameTo(PEER, 14).subarray(0, 12), 0, TAGC + 0x0100);
  const bare = new Uint8Array(60);
  bare.set(frameTo(PEER, 14).subarray(0, 12));
  bare.set([0x81, 0x00, 0x00, 0x01], 12);
  assert.equal(rig.far.frames.pop(), bare);
});

test("tag, checksum and large send together: each segment is tagged and finished", () => {
  const rig = started();
  send(rig, forLargeSend({ payload: 2500 }), LGSEN + 0x03e8_0000, TAGC + 0x6400, [54], false);
  const offload = rig.far.offloads[0]!;
  assert.equal([offload.gsoSize, offload.csumStart], [1000, 38]);
  const frames = cut(rig.far.frames[0]!, offload);
  assert.equal(
    frames.map(({ length }) => length),
    [1058, 1058, 558],
  );
  for (const frame of frames) {
    assert.equal([...frame.subarray(12, 18)], [0x81, 0x00, 0x00, 0x64, 0x08, 0x00]);
    assertFinished(frame, 18);
  }
});

test("with NoCRC the frame is the driver's own: no tag, no checksum, no cut", () => {
  const rig = started();
  rig.w32(0x40, 0x0301_0700);
  const frame = forLargeSend({ payload: 100 });
  const withFcs = new Uint8Array(frame.length + 4);
  withFcs.set(frame);
  new DataView(withFcs.buffer).setUint32(frame.length, fcsOf(frame), true);
  send(rig, withFcs, LGSEN + 0x0010_0000, TAGC);
  assert.equal(rig.far.frames, [frame]);
  assert.equal(rig.far.offloads, [null]);
});

test("answered later, a tagged packet comes again just as it was, also from several descriptors and from a snapshot", () => {
  for (const cuts of [[], [20, 600]]) {
    const rig = started();
    rig.far.verdict = "later";
    rig.far.holds = true;
    const frame = forLargeSend({ payload: 3000 });
    send(rig, frame, LGSEN + 0x05b4_0000, TAGC + 0x6400, cuts);
    assert.is(rig.far.frames.length, 0);
    assert.is(rig.get32(RING + 16 * cuts.length) >>> 31, 1, "the last descriptor is still the card's");
    rig.card.load(rig.card.save());
    rig.far.verdict = "taken";
    rig.card.net.ready(0);
    assert.is(rig.far.frames.length, 1);
    const other = started();
    send(other, frame, LGSEN + 0x05b4_0000, TAGC + 0x6400);
    assert.equal(rig.far.frames, other.far.frames);
    assert.equal(rig.far.offloads, other.far.offloads);
  }
});

test("a packet in pieces keeps tag and command of its first descriptor through a snapshot", () => {
  const rig = started();
  const frame = forLargeSend({ payload: 3000 });
  rig.put(DATA, frame);
  rig.descriptor(RING, OWN + FS + LGSEN + 0x05b4_0000 + 54, DATA, TAGC + 0x6400);
  rig.descriptor(RING + 16, 0, 0);
  rig.w8(0x38, 0x40);
  const other = new Rig();
  other.clock.set(rig.clock.now());
  other.put(DATA, frame);
  other.card.load(rig.card.save());
  other.descriptor(RING + 16, OWN + EOR + LS + frame.length - 54, DATA + 54);
  other.w8(0x38, 0x40);
  const whole = started();
  send(whole, frame, LGSEN + 0x05b4_0000, TAGC + 0x6400);
  assert.equal(other.far.frames, whole.far.frames);
  assert.equal(other.far.offloads, whole.far.offloads);
});

test("looped, a packet for large send comes back as the frames that it is cut into", () => {
  const rig = started();
  for (let i = 0; i < 4; i++)
    rig.descriptor(0x30_0000 + 16 * i, OWN + (i === 3 ? EOR : 0) + 0x800, 0x31_0000 + 0x1000 * i);
  rig.w32(0xe4, 0x30_0000);
  rig.w8(0x37, 0x0c);
  rig.w32(0x44, 0x0000_e70f);
  rig.w16(0xe0, 0x0020);
  rig.w32(0x40, 0x0302_0700);
  rig.far.csum = true; // who takes nothing of it now
  send(rig, forLargeSend({ payload: 2500, flags: 0x19 }), LGSEN + 0x03e8_0000);
  assert.is(rig.far.frames.length, 0);
  // LS, FS, PID 1 (TCP), nothing failed; lengths with FCS. Nobody's station: no PAM.
  assert.equal(
    [0, 1, 2].map((i) => rig.get32(0x30_0000 + 16 * i)),
    [1058, 1058, 558].map((length) => FS + LS + 0x0002_0000 + length),
  );
  send(rig, ipFrame({ to: PEER, payload: 60 }), TCPCS);
  assert.is(rig.get32(0x30_0030), EOR + FS + LS + 0x0002_0000 + 118);
});

test("the PHY has a loop of its own: BMCR bit 14, with or without link, and not while it is powered down", () => {
  for (const link of [true, false]) {
    const rig = new Rig({ link });
    rig.startTx(RING);
    rig.descriptor(0x30_0000, OWN + EOR + 0x800, 0x31_0000);
    rig.w32(0xe4, 0x30_0000);
    rig.w8(0x37, 0x0c);
    rig.w32(0x44, 0x0000_e70f);
    rig.phyWrite(0, 0x4000);
    send(rig, frameTo(PEER, 60), 0);
    assert.is(rig.get32(0x30_0000), EOR + FS + LS + 64);
    assert.is(rig.far.frames.length, 0);
    rig.descriptor(0x30_0000, OWN + EOR + 0x800, 0x31_0000);
    assert.is(rig.deliver(frameTo(PEER, 60)), "dropped", "the cable is shut out");
    rig.phyWrite(0, 0x4800);
    send(rig, frameTo(PEER, 60), 0);
    assert.is(rig.get32(0x30_0000) >>> 31, 1);
    rig.phyWrite(0, 0x1000);
    rig.linkUp();
    send(rig, frameTo(PEER, 60), 0);
    assert.is(rig.far.frames.length, link ? 1 : 0);
  }
});

test("frames longer than any driver of these chips sends are told of, and sent", () => {
  const rig = started();
  send(rig, frameTo(PEER, 7436), 0);
  assert.equal(rig.reports, []);
  send(rig, frameTo(PEER, 7437), 0);
  assert.equal(
    rig.reports.map(({ code, value }) => [code, value]),
    [["tx-jumbo", 7437]],
  );
  assert.is(rig.far.frames.length, 2);
  send(rig, forLargeSend({ payload: 20_000 }), LGSEN + 0x05b4_0000);
  assert.is(rig.reports.length, 1, "large send makes short ones");
});

test("any packet, any MSS, any cutting into descriptors: the segments carry the same stream", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 9000 }),
      fc.integer({ min: 16, max: 2047 }),
      fc.array(fc.nat(200), { maxLength: 3 }),
      fc.boolean(),
      (payload, mss, cuts, tagged) => {
        const rig = started();
        const frame = forLargeSend({ payload });
        const ends = [...new Set(cuts)].filter((at) => at > 0 && at < frame.length).sort((a, b) => a - b);
        send(rig, frame, LGSEN + mss * 0x1_0000, tagged ? TAGC + 0x0100 : 0, ends);
        const ip = tagged ? 18 : 14;
        const frames = cut(rig.far.frames[0]!, rig.far.offloads[0]!);
        assert.is(frames.length, Math.max(1, Math.ceil(payload / mss)));
        let at = 0;
        for (const segment of frames) {
          const total = (segment[ip + 2]! << 8) | segment[ip + 3]!;
          assertFinished(segment.subarray(0, ip + total), ip);
          assert.equal(segment.slice(ip + 40, ip + total), frame.slice(54 + at, 54 + at + total - 40));
          at += total - 40;
        }
        assert.is(at, payload);
      },
    ),
    { numRuns: 60 },
  );
});

test.run();
