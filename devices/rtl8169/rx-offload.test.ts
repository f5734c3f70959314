/** What the card tells of a received frame, and does to it: checksums and tags. Raw numbers throughout. */
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Offload } from "../../src/contract/index.js";
import { connect, Finisher } from "../../src/net/index.js";
import { BROADCAST, fcsOf, frameTo, ipFrame, MAC, Rig, type RigOptions } from "./testing.js";

const RING = 0x10_0000;
const DATA = 0x20_0000;
const OWN = 0x8000_0000;
const EOR = 0x4000_0000;
const FS = 0x2000_0000;
const LS = 0x1000_0000;
const PAM = 0x0400_0000;
const TCP = 0x0002_0000;
const UDP = 0x0004_0000;
const IP = 0x0006_0000;
const IPF = 0x0001_0000;
const UDPF = 0x8000;
const TCPF = 0x4000;
const TAVA = 0x0001_0000;
const RXCHKSUM = 0x0020;
const RXVLAN = 0x0040;

/** A ring of `count` buffers of `size` bytes 4 KiB apart, C+CR as given. */
const started = (cplus: number, count = 4, size = 0x800, options: RigOptions = {}): Rig => {
  const rig = new Rig(options);
  refill(rig, count, size);
  rig.startRx(RING, 0x0a);
  rig.w16(0xe0, cplus);
  return rig;
};

const refill = (rig: Rig, count = 4, size = 0x800): void => {
  for (let i = 0; i < count; i++)
    rig.descriptor(RING + 16 * i, OWN + (i === count - 1 ? EOR : 0) + size, DATA + 0x1000 * i, 0xffff_ffff);
  rig.w32(0xe4, RING);
};

/** Status of one delivered frame without FS, LS, EOR, PAM and length. */
const statusOf = (frame: Uint8Array, cplus = RXCHKSUM): number => {
  const rig = started(cplus, 1);
  assert.is(rig.deliver(frame), "taken");
  const status = rig.get32(RING);
  assert.is(status & 0x3fff, Math.max(frame.length, 60) + 4);
  assert.equal(rig.get(DATA, frame.length), frame, "data as it came");
  return (status & ~(FS | LS | EOR | PAM | 0x3fff)) >>> 0;
};

const changed = (frame: Uint8Array, at: number, value: number): Uint8Array => {
  const other = Uint8Array.from(frame);
  other[at] = value;
  return other;
};

const open = (over: Partial<Offload>): Offload => ({
  needsCsum: false,
  csumStart: 34,
  csumOffset: 16,
  dataValid: false,
  gso: "none",
  gsoSize: 0,
  ecn: false,
  ...over,
});

test("RTL-130 TCP and UDP: their PID with nothing set when they hold, their own bit when they do not", () => {
  for (const payload of [0, 1, 100, 1459, 1460]) {
    const tcp = ipFrame({ payload });
    const udp = ipFrame({ protocol: 17, payload });
    assert.is(statusOf(tcp), TCP);
    assert.is(statusOf(udp), UDP);
    assert.is(statusOf(changed(tcp, 50, tcp[50]! ^ 1)), TCP + TCPF);
    assert.is(statusOf(changed(tcp, 26, tcp[26]! ^ 1)), TCP + TCPF + IPF, "an address: both");
    assert.is(statusOf(changed(udp, 40, udp[40]! ^ 1)), UDP + UDPF);
    if (payload > 0) assert.is(statusOf(changed(udp, udp.length - 1, udp[udp.length - 1]! ^ 0x80)), UDP + UDPF);
  }
  assert.is(statusOf(changed(ipFrame({ payload: 64 }), 24, 0)), TCP + IPF, "the header only");
});

test("RTL-131 without RxChkSum nothing is said, good or bad", () => {
  const tcp = ipFrame({ payload: 100 });
  for (const cplus of [0, 0x0b, RXVLAN]) {
    assert.is(statusOf(tcp, cplus), 0);
    assert.is(statusOf(changed(tcp, 24, 0), cplus), 0);
  }
});

test("a UDP checksum of 0 is none, and does not fail", () => {
  const udp = ipFrame({ protocol: 17, payload: 64 });
  assert.is(statusOf(changed(changed(udp, 40, 0), 41, 0)), UDP);
});

test("other protocols, fragments and packets cut off: IPv4 and no more; IPv6, ARP and headers cut off: nothing", () => {
  const tcp = ipFrame({ payload: 100 });
  const fixed = (frame: Uint8Array): Uint8Array => {
    // The header's checksum again, so that only what was changed is looked at.
    const view = new DataView(frame.buffer);
    view.setUint16(24, 0);
    let sum = 0;
    for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
    view.setUint16(24, 0xffff - ((sum & 0xffff) + (sum >>> 16)));
    return frame;
  };
  assert.is(statusOf(fixed(changed(tcp, 23, 1))), IP, "ICMP");
  assert.is(statusOf(fixed(changed(tcp, 20, 0x20))), IP, "more fragments");
  assert.is(statusOf(fixed(changed(tcp, 21, 0x01))), IP, "a later fragment");
  assert.is(statusOf(fixed(changed(tcp, 17, 0xff))), IP, "longer than the frame");
  assert.is(statusOf(fixed(changed(tcp, 17, 39))), IP, "not even a TCP header");
  assert.is(statusOf(fixed(changed(tcp, 17, 19))), IP, "not even its own header");
  assert.is(statusOf(fixed(changed(changed(tcp, 23, 17), 17, 27))), IP, "not even a UDP header");
  assert.is(statusOf(changed(tcp, 14, 0x44)), 0, "a header of 16 bytes is none");
  assert.is(statusOf(changed(tcp, 14, 0x65)), 0, "version 6");
  assert.is(statusOf(changed(tcp, 13, 0x06)), 0, "ARP");
  assert.is(statusOf(frameTo(MAC, 60)), 0);
  assert.is(statusOf(changed(ipFrame({ payload: 0 }).subarray(0, 40), 14, 0x4f)), 0, "options that are not there");
});

test("checksums are found behind two tags, and not behind three", () => {
  for (const [tags, status] of [
    [[0x8100], TCP],
    [[0x88a8, 0x8100], TCP],
    [[0x8100, 0x8100], TCP],
    [[0x88a8, 0x8100, 0x8100], 0],
  ] as const) {
    const plain = ipFrame({ payload: 64 });
    const inserted = tags.flatMap((type) => [type >>> 8, type & 0xff, 0x00, 0x07]);
    const frame = Uint8Array.of(...plain.subarray(0, 12), ...inserted, ...plain.subarray(12));
    assert.is(statusOf(frame), status, `${tags.length} tags`);
  }
});

test("a frame may end with its IP header, tagged or not; one byte less is no header", () => {
  for (const tci of [undefined, 7]) {
    const ip = tci === undefined ? 14 : 18;
    const whole = ipFrame({ payload: 64, ...(tci === undefined ? {} : { tci }) });
    assert.is(statusOf(whole.slice(0, ip + 20)), IP);
    assert.is(statusOf(whole.slice(0, ip + 19)), 0);
  }
});

test("padding behind a short packet is no part of it", () => {
  const frame = new Uint8Array(60).fill(0xaa);
  frame.set(ipFrame({ protocol: 17, payload: 4 }));
  assert.is(statusOf(frame), UDP);
});

test("a frame that comes to lie in several buffers, or across two windows, is looked at all the same", () => {
  const tcp = ipFrame({ payload: 501 });
  for (const [frame, flags] of [
    [tcp, TCP],
    [changed(tcp, 300, tcp[300]! ^ 4), TCP + TCPF],
  ] as const) {
    const pieces = started(RXCHKSUM, 8, 128);
    assert.is(pieces.deliver(frame), "taken");
    const last = Math.ceil((frame.length + 4) / 128) - 1;
    assert.is(pieces.get32(RING + 16 * last), LS + PAM + flags + frame.length + 4);
    const memory = new Uint8Array((last + 1) * 128);
    for (let i = 0; i <= last; i++) memory.set(pieces.get(DATA + 0x1000 * i, 128), 128 * i);
    assert.equal(memory.subarray(0, frame.length), frame);
    assert.is(new DataView(memory.buffer).getUint32(frame.length, true), fcsOf(frame));

    const windows = [
      { base: 0, size: DATA + 100 },
      { base: DATA + 100, size: 0x1_0000 },
    ];
    const split = started(RXCHKSUM, 1, 0x800, { windows });
    assert.is(split.deliver(frame), "taken");
    assert.is(split.get32(RING), EOR + FS + LS + PAM + flags + frame.length + 4);
    assert.equal(split.get(DATA, frame.length), frame);
    assert.equal(split.get32(DATA + frame.length), fcsOf(frame));
  }
});

test("RTL-128 RxVLAN takes the tag out: TAVA and the swapped tag in opts2, length and FCS of what is left", () => {
  // VID 234h, priority 5, CFI 1
  const tagged = ipFrame({ payload: 200, tci: 0xb234 });
  const bare = ipFrame({ payload: 200 });
  for (const size of [0x800, 64]) {
    const rig = started(RXVLAN, 8, size);
    assert.is(rig.deliver(tagged), "taken");
    const last = Math.ceil((bare.length + 4) / size) - 1;
    assert.is(rig.get32(RING + 16 * last), (last === 0 ? FS : 0) + LS + PAM + bare.length + 4);
    assert.is(rig.get32(RING + 16 * last + 4), TAVA + 0x34b2);
    if (last > 0) assert.is(rig.get32(RING + 4), 0, "the tag stands in the last one");
    const memory = new Uint8Array((last + 1) * size);
    for (let i = 0; i <= last; i++) memory.set(rig.get(DATA + 0x1000 * i, size), size * i);
    assert.equal(memory.subarray(0, bare.length), bare);
    assert.is(new DataView(memory.buffer).getUint32(bare.length, true), fcsOf(bare));
    assert.equal(memory.subarray(bare.length + 4), new Uint8Array(memory.length - bare.length - 4), "and no more");
  }
});

test("RTL-129 without RxVLAN a tagged frame stays as it is, with or without checksums", () => {
  const tagged = ipFrame({ payload: 200, tci: 0xb234 });
  assert.is(statusOf(tagged, 0), 0);
  assert.is(statusOf(tagged, RXCHKSUM), TCP, "checksums are found behind the tag");
  const rig = started(0, 1);
  rig.deliver(tagged);
  assert.is(rig.get32(RING + 4), 0);
});

test("checksums of a frame whose tag is taken out are looked at", () => {
  const tagged = ipFrame({ payload: 200, tci: 0x0001 });
  for (const [frame, flags] of [
    [tagged, TCP],
    [changed(tagged, 60, 0xff), TCP + TCPF],
  ] as const) {
    const rig = started(RXCHKSUM + RXVLAN, 1);
    rig.deliver(frame);
    assert.is(rig.get32(RING), EOR + FS + LS + PAM + flags + frame.length - 4 + 4);
  }
});

test("a frame without tag, or with a provider's, is not touched by RxVLAN", () => {
  const rig = started(RXVLAN, 4);
  const bare = ipFrame({ payload: 100 });
  const provider = changed(changed(ipFrame({ payload: 100, tci: 1 }), 12, 0x88), 13, 0xa8);
  const noRoom = frameTo(MAC, 17);
  noRoom.set([0x81, 0x00], 12);
  const padded = new Uint8Array(60);
  padded.set(noRoom);
  for (const [i, [frame, expected]] of (
    [
      [bare, bare],
      [provider, provider],
      [noRoom, padded],
    ] as const
  ).entries()) {
    rig.deliver(frame);
    assert.is(rig.get32(RING + 16 * i), FS + LS + PAM + expected.length + 4);
    assert.is(rig.get32(RING + 16 * i + 4), 0);
    assert.equal(rig.get(DATA + 0x1000 * i, expected.length), expected);
  }
});

test("a short tagged frame was padded on the wire, tag included, and is not padded again", () => {
  const rig = started(RXVLAN, 1);
  const frame = frameTo(MAC, 30);
  frame.set([0x81, 0x00, 0x00, 0x07], 12);
  rig.deliver(frame);
  const left = new Uint8Array(56);
  left.set(frame.subarray(0, 12));
  left.set(frame.subarray(16), 12);
  assert.is(rig.get32(RING), EOR + FS + LS + PAM + 60);
  assert.is(rig.get32(RING + 4), TAVA + 0x0700);
  assert.equal(rig.get(DATA, 56), left);
  assert.is(rig.get32(DATA + 56), fcsOf(left));
});

test("an open checksum is asked for with RxChkSum only, and closed in memory", () => {
  const rig = started(0);
  const frame = ipFrame({ payload: 300 });
  const opened = Uint8Array.from(frame);
  // The sum of the pseudo header stands where the checksum belongs. 192.168.123.10, 192.168.123.1, 6, 320
  opened.set([0x78, 0xa3], 50);
  const needsCsum = open({ needsCsum: true });
  const finisher = new Finisher();
  assert.ok(finisher.finish(opened, 0, opened.length, needsCsum));
  assert.equal(finisher.bytes.slice(0, frame.length), frame, "the test's own numbers are right");
  assert.is(rig.card.net.accepts().csum, false);
  assert.is(rig.deliver(opened, needsCsum), "dropped");
  rig.w16(0xe0, RXCHKSUM);
  assert.is(rig.card.net.accepts().csum, true);
  assert.is(rig.deliver(opened, needsCsum), "taken");
  assert.is(rig.get32(RING), FS + LS + PAM + TCP + frame.length + 4);
  assert.equal(rig.get(DATA, frame.length), frame);
  assert.is(rig.get32(DATA + frame.length), fcsOf(frame));
  refill(rig, 8, 64);
  assert.is(rig.deliver(opened, needsCsum), "taken", "in pieces");
  assert.equal(rig.get(DATA, 64), frame.subarray(0, 64));
  assert.is(rig.get32(RING + 16 * 5), LS + PAM + TCP + frame.length + 4);
});

test("an open checksum behind a tag that is taken out, and one of UDP that comes out as 0", () => {
  const rig = started(RXCHKSUM + RXVLAN, 2);
  const tagged = ipFrame({ payload: 300, tci: 0x0123 });
  const opened = Uint8Array.from(tagged);
  opened.set([0x78, 0xa3], 54);
  assert.is(rig.deliver(opened, open({ needsCsum: true, csumStart: 38 })), "taken");
  assert.equal(rig.get(DATA, tagged.length - 4), ipFrame({ payload: 300 }));
  assert.is(rig.get32(RING), FS + LS + PAM + TCP + tagged.length);

  const udp = ipFrame({ protocol: 17, payload: 64 });
  udp.set([0, 0], 40);
  // Makes the sum of everything FFFFh, so that its complement is 0.
  let sum = 0;
  for (let at = 34; at < udp.length; at += 2) sum += (udp[at]! << 8) + udp[at + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  udp.set([(0xffff - sum) >>> 8, (0xffff - sum) & 0xff], 40);
  assert.is(rig.deliver(udp, open({ needsCsum: true, csumOffset: 6 })), "taken");
  assert.equal([...rig.get(DATA + 0x1000 + 40, 2)], [0xff, 0xff]);
});

test("an open checksum covers the frame and nothing that was in its buffer before", () => {
  const rig = started(RXCHKSUM, 1);
  rig.put(DATA, new Uint8Array(0x800).fill(0xa5));
  const frame = ipFrame({ payload: 301 });
  const opened = Uint8Array.from(frame);
  const view = new DataView(opened.buffer);
  let pseudo = 6 + 321;
  for (let at = 26; at < 34; at += 2) pseudo += view.getUint16(at);
  view.setUint16(50, (pseudo & 0xffff) + (pseudo >>> 16));
  rig.deliver(opened, open({ needsCsum: true }));
  assert.equal(rig.get(DATA, frame.length), frame);
});

test("RTL-128 a frame of 18 bytes may be nothing but addresses and tag; with 17 the tag is not there", () => {
  for (const [length, opts2] of [
    [18, 0x0001_2301],
    [17, 0],
  ] as const) {
    const rig = started(RXVLAN, 1);
    rig.put(DATA, new Uint8Array(80).fill(0xa5));
    const frame = frameTo(MAC, 18).subarray(0, length);
    frame.set([0x81, 0x00, 0x01], 12);
    if (length === 18) frame.set([0x23, 0x88, 0xb5], 15);
    rig.deliver(frame);
    assert.is(rig.get32(RING + 4), opts2);
    const padded = new Uint8Array(60);
    padded.set(frame);
    const expected = opts2 === 0 ? padded : Uint8Array.of(...padded.subarray(0, 12), ...padded.subarray(16));
    assert.is(rig.get32(RING) & 0x3fff, expected.length + 4);
    assert.equal(rig.get(DATA, expected.length), expected);
  }
});

test("an open checksum may stand at the very start of what it covers", () => {
  const rig = started(RXCHKSUM, 2);
  const frame = frameTo(MAC, 64);
  frame.fill(0, 20);
  frame.set([0x00, 0x00, 0x12, 0x34], 20);
  rig.deliver(frame, open({ needsCsum: true, csumStart: 20, csumOffset: 0 }));
  assert.equal([...rig.get(DATA + 20, 4)], [0xed, 0xcb, 0x12, 0x34]);
  assert.is(rig.get32(RING), FS + LS + PAM + 68);
});

test("who vouches for another sum than the packet's own, vouches for nothing here", () => {
  const rig = started(RXCHKSUM, 2);
  const frame = changed(ipFrame({ payload: 300 }), 100, 0xee);
  rig.deliver(frame, open({ needsCsum: true, csumStart: 134, csumOffset: 16 }));
  assert.is(rig.get32(RING), FS + LS + PAM + TCP + TCPF + frame.length + 4);
});

test("a trusted sender's frame counts as verified; its IP header is looked at all the same", () => {
  const rig = started(RXCHKSUM, 4);
  const bad = changed(ipFrame({ payload: 300 }), 100, 0xee);
  rig.deliver(bad, open({ dataValid: true }));
  assert.is(rig.get32(RING), FS + LS + PAM + TCP + bad.length + 4);
  rig.deliver(changed(bad, 24, 0), open({ dataValid: true }));
  assert.is(rig.get32(RING + 16), FS + LS + PAM + TCP + IPF + bad.length + 4);
  rig.deliver(bad, open({}));
  assert.is(rig.get32(RING + 32), FS + LS + PAM + TCP + TCPF + bad.length + 4);
});

test("an open checksum may begin right behind a tagged header, and no sooner", () => {
  for (const [csumStart, verdict] of [
    [18, "taken"],
    [17, "dropped"],
  ] as const) {
    const rig = started(RXCHKSUM, 1);
    assert.is(rig.deliver(frameTo(MAC, 80), open({ needsCsum: true, csumStart })), verdict);
  }
});

test("an offload that is none is refused: beyond the frame, in its header, or of segments", () => {
  const rig = started(RXCHKSUM, 4);
  const frame = ipFrame({ payload: 300 });
  for (const bad of [
    open({ needsCsum: true, csumStart: 340 }),
    open({ needsCsum: true, csumStart: 14 }),
    open({ needsCsum: true, csumStart: 2 }),
    open({ needsCsum: true, gso: "tcp4", gsoSize: 100 }),
    open({ gso: "tcp4", gsoSize: 100 }),
  ])
    assert.is(rig.deliver(frame, bad), "dropped");
  assert.is(rig.get32(RING) >>> 31, 1);
  assert.is(rig.card.counters().rxFiltered, 5);
});

test("from card to card an open checksum travels open where the receiver looks at checksums, and arrives closed", () => {
  for (const cplus of [0, RXCHKSUM]) {
    const from = new Rig();
    const to = started(cplus, 4);
    from.card.net.attach(null);
    to.card.net.attach(null);
    const wire = connect(from.card.net, to.card.net);
    from.startTx(RING);
    const frame = ipFrame({ payload: 1000 });
    from.put(DATA, changed(changed(frame, 50, 0), 51, 0));
    from.descriptor(RING, OWN + EOR + FS + LS + 0x0005_0000 + frame.length, DATA);
    from.w8(0x38, 0x40);
    assert.is(to.get32(RING), FS + LS + PAM + (cplus === 0 ? 0 : TCP) + frame.length + 4);
    assert.equal(to.get(DATA, frame.length), frame);
    wire[Symbol.dispose]();
  }
});

test("large send from card to card arrives in frames that hold", () => {
  const from = new Rig();
  const to = started(RXCHKSUM, 4);
  from.card.net.attach(null);
  to.card.net.attach(null);
  const wire = connect(from.card.net, to.card.net);
  from.startTx(RING);
  const frame = ipFrame({ payload: 3000 });
  from.put(DATA, frame);
  from.descriptor(RING, OWN + EOR + FS + LS + 0x0800_0000 + 0x05b4_0000 + frame.length, DATA);
  from.w8(0x38, 0x40);
  assert.equal(
    [0, 1, 2].map((i) => to.get32(RING + 16 * i)),
    [1518, 1518, 138].map((length) => FS + LS + PAM + TCP + length),
  );
  wire[Symbol.dispose]();
});

test("a held frame waits for the room that it takes without its tag", () => {
  const rig = started(RXVLAN, 2, 304);
  rig.far.holds = true;
  rig.set32(RING + 16, EOR + 304);
  const frame = ipFrame({ payload: 246, tci: 1 }); // 304 on the wire, 300 without tag, 304 with FCS
  assert.is(rig.deliver(frame), "taken");
  rig.set32(RING + 16, 304);
  assert.is(rig.deliver(frame), "later");
  rig.set32(RING + 16, OWN + EOR + 304);
  rig.w16(0x3e, 0x0010);
  assert.equal(rig.far.readies, [0]);
});

test("RMS looks at a frame as it comes to lie in memory", () => {
  const rig = started(RXVLAN, 2);
  rig.w16(0xda, 300);
  rig.deliver(ipFrame({ payload: 242, tci: 1 }));
  assert.is(rig.get32(RING), FS + LS + PAM + 300);
  rig.deliver(ipFrame({ payload: 243, tci: 1 }));
  assert.is(rig.get32(RING + 16), EOR + FS + LS + PAM + 0x0060_0000 + 301);
});

test("broadcasts have their flag beside those of checksums", () => {
  const rig = started(RXCHKSUM, 1);
  rig.deliver(ipFrame({ to: BROADCAST, protocol: 17, payload: 30 }));
  assert.is(rig.get32(RING), EOR + FS + LS + 0x0200_0000 + UDP + 76);
});

test("any packet: the status says what it is, in whatever buffers it comes to lie", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<6 | 17>(6, 17),
      fc.integer({ min: 0, max: 1500 }),
      fc.integer({ min: 8, max: 2000 }),
      fc.boolean(),
      fc.boolean(),
      fc.nat(),
      (protocol, payload, size, tag, spoil, where) => {
        const rig = started(RXCHKSUM + RXVLAN, 256, size);
        const frame = ipFrame({ protocol, payload, ...(tag ? { tci: 0x0102 } : {}) });
        const bare = ipFrame({ protocol, payload });
        const at = (tag ? 4 : 0) + 34 + (where % (bare.length - 34));
        // Neither the length of UDP nor its checksum: 0 there would mean none.
        const spoilt = spoil && (protocol === 6 || at - (tag ? 4 : 0) > 41);
        if (spoilt) frame[at] = frame[at]! ^ 0x10;
        assert.is(rig.deliver(frame), "taken");
        const total = Math.max(frame.length, 60) - (tag ? 4 : 0) + 4;
        const status = rig.get32(RING + 16 * (Math.ceil(total / size) - 1));
        const good = protocol === 6 ? TCP : UDP;
        assert.is(status & 0x0007_c000, good + (spoilt ? (protocol === 6 ? TCPF : UDPF) : 0));
        assert.is(status & 0x3fff, total);
      },
    ),
    { numRuns: 60 },
  );
});

test.run();
