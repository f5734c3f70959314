import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BROADCAST, fcsOf, frameTo, hexBytes, LINK_TIME, MAC, MS, onesSum, PEER, Rig } from "./testing.js";

const RING = 0x10_0000;
const DATA = 0x20_0000;
const OWN = 0x8000_0000;
const EOR = 0x4000_0000;
const FS = 0x2000_0000;
const LS = 0x1000_0000;
const WHOLE = OWN + FS + LS;

const started = (options = {}): Rig => {
  const rig = new Rig(options);
  rig.startTx(RING);
  return rig;
};

test("RTL-067 after EOR the ring goes on with descriptor 0", () => {
  const rig = started();
  for (let round = 0; round < 5; round++)
    for (let i = 0; i < 3; i++) {
      const frame = frameTo(PEER, 60 + i, round * 3 + i);
      rig.put(DATA, frame);
      rig.descriptor(RING + 16 * i, WHOLE + (i === 2 ? EOR : 0) + frame.length, DATA);
      rig.w8(0x38, 0x40);
      assert.equal(rig.far.frames.pop(), frame, `round ${round}, descriptor ${i}`);
    }
});

test("RTL-069 RTL-070 RTL-071 three descriptors make one frame, in order, and all come back with LS last", () => {
  const rig = started();
  const frame = frameTo(PEER, 700);
  const parts = [14, 300, 386];
  const cleared: number[] = [];
  rig.far.onOffer = () => {
    for (let i = 0; i < 3; i++) if (rig.get32(RING + 16 * i) < OWN) cleared.push(i);
  };
  let at = 0;
  parts.forEach((length, i) => {
    rig.put(DATA + 0x1000 * i, frame.subarray(at, at + length));
    rig.descriptor(RING + 16 * i, OWN + (i === 0 ? FS : 0) + (i === 2 ? LS + EOR : 0) + length, DATA + 0x1000 * i, 0);
    at += length;
  });
  rig.w8(0x38, 0x40);
  assert.equal(rig.far.frames, [frame]);
  assert.equal(cleared, [0, 1], "the descriptor with LS was still the card's while the frame went out");
  assert.is(rig.get32(RING), FS + 14);
  assert.is(rig.get32(RING + 16), 300);
  assert.is(rig.get32(RING + 32), EOR + LS + 386);
});

test("a frame in one descriptor is handed on where it lies in guest memory", () => {
  const rig = started();
  rig.put(DATA + 3, frameTo(PEER, 1514));
  rig.descriptor(RING, WHOLE + EOR + 1514, DATA + 3);
  rig.w8(0x38, 0x40);
  const [offer] = rig.far.offers;
  assert.is(offer!.bytes, rig.memory.windows[0]!.bytes);
  assert.is(offer!.start, DATA + 3);
  assert.is(offer!.length, 1514);
  rig.descriptor(RING, WHOLE + EOR + 60, DATA + 3);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.offers[1]!.start, DATA + 3, "the shortest that needs no padding");
  assert.is(rig.card.counters().bytesCopied, 0);
});

test("RTL-072 bits 27–16 are 0 after the write-back, opts2 and address as they were", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER, 60));
  rig.descriptor(RING, WHOLE + EOR + 0x0fff_0000 + 60, DATA, 0x0003_1234);
  rig.w8(0x38, 0x40);
  assert.is(rig.get32(RING), EOR + FS + LS + 60);
  assert.is(rig.get32(RING + 4), 0x0003_1234);
  assert.is(rig.get32(RING + 8), DATA);
});

test("RTL-073 RTL-074 RTL-106 TOK after a batch, TDU when the ring is empty, NPQ back to 0", () => {
  const rig = started();
  rig.w8(0x38, 0x40);
  assert.is(rig.r16(0x3e), 0x0080, "a doorbell for nothing");
  assert.is(rig.r8(0x38), 0);
  rig.w16(0x3e, 0xffff);
  rig.put(DATA, frameTo(PEER));
  for (let i = 0; i < 4; i++) rig.descriptor(RING + 16 * i, WHOLE + 60, DATA);
  rig.w16(0x3c, 0x0084);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 4);
  assert.is(rig.r16(0x3e), 0x0084);
  assert.is(rig.rises, 1, "one interrupt for the batch");
  assert.is(rig.far.batches, 1);
  assert.is(rig.r8(0x38), 0);
});

test("NPQ stands until a deferred doorbell has been worked", () => {
  const rig = started();
  rig.work.policy = "deferred";
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(RING, WHOLE + EOR + 60, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.r8(0x38), 0x40);
  assert.is(rig.get32(RING) >>> 31, 1);
  rig.work.run();
  assert.is(rig.r8(0x38), 0);
  assert.is(rig.get32(RING) >>> 31, 0);
});

test("a budget cuts a batch without losing its place", () => {
  const rig = started();
  rig.work.policy = "deferred";
  for (let i = 0; i < 7; i++) {
    rig.put(DATA + 0x800 * i, frameTo(PEER, 60 + i, i));
    rig.descriptor(RING + 16 * i, WHOLE + (i === 6 ? EOR : 0) + 60 + i, DATA + 0x800 * i);
  }
  rig.w8(0x38, 0x40);
  rig.work.run(3, 1);
  assert.is(rig.far.frames.length, 3);
  assert.is(rig.r8(0x38), 0x40);
  rig.work.run(3);
  assert.equal(
    rig.far.frames.map(({ length }) => length),
    [60, 61, 62, 63, 64, 65, 66],
  );
});

test("RTL-025 RTL-027 TE rising and either half of TNPDS go back to descriptor 0; TE written again does not", () => {
  const rig = started();
  const next = (): number => {
    for (let i = 0; i < 8; i++) rig.descriptor(RING + 16 * i, 0, DATA);
    for (let i = 0; i < 8; i++) {
      rig.descriptor(RING + 16 * i, WHOLE + 60, DATA);
      rig.w8(0x38, 0x40);
      const used = rig.get32(RING + 16 * i) < OWN;
      rig.set32(RING + 16 * i, 0);
      if (used) return i;
    }
    return -1;
  };
  assert.is(next(), 0);
  assert.is(next(), 1);
  rig.w8(0x37, 0x04);
  assert.is(next(), 2);
  rig.w8(0x37, 0x00);
  rig.w8(0x37, 0x04);
  assert.is(next(), 0);
  assert.is(next(), 1);
  rig.w32(0x24, 0);
  assert.is(next(), 0);
  rig.w32(0x20, RING);
  assert.is(next(), 0);
  assert.is(next(), 1);
});

test("RTL-028 the low 8 bits of a ring's base are ignored", () => {
  const rig = started();
  rig.w32(0x20, RING + 0xf0);
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(RING, WHOLE + EOR + 60, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1);
});

test("a ring at 0, or a transmitter that is off, does nothing", () => {
  const rig = new Rig();
  rig.linkUp();
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(0, WHOLE + EOR + 60, DATA);
  rig.w8(0x37, 0x04);
  rig.w8(0x38, 0x40);
  assert.is(rig.get32(0), WHOLE + EOR + 60);
  assert.is(rig.r8(0x38), 0);
  rig.w8(0x37, 0x00);
  rig.descriptor(RING, WHOLE + EOR + 60, DATA);
  rig.w32(0x20, RING);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.r8(0x38), 0);
});

test("RTL-084 a ring without EOR ends after 1024 descriptors, and so does one doorbell", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER));
  for (let i = 0; i < 1030; i++) rig.descriptor(RING + 16 * i, WHOLE + 60, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1024);
  assert.is(rig.get32(RING + 16 * 1023) >>> 31, 0);
  assert.is(rig.get32(RING + 16 * 1024) >>> 31, 1);
  rig.descriptor(RING, WHOLE + 60, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.get32(RING) >>> 31, 0, "wrapped");
});

test("a frame that rewrites the ring while it goes out does not keep the card busy for ever", () => {
  const rig = started();
  rig.put(DATA, frameTo(BROADCAST));
  const refill = () => {
    for (let i = 0; i < 4; i++) rig.descriptor(RING + 16 * i, WHOLE + (i === 3 ? EOR : 0) + 60, DATA);
  };
  refill();
  rig.far.onOffer = refill;
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1024);
  assert.is(rig.r8(0x38), 0);
});

test("RTL-085 a ring of one descriptor with EOR, as U-Boot's, is sent in the doorbell and stops", () => {
  const rig = started();
  for (let i = 0; i < 3; i++) {
    rig.put(DATA, frameTo(PEER, 100 + i));
    rig.descriptor(RING, WHOLE + EOR + 100 + i, DATA);
    rig.w8(0x38, 0x40);
    assert.is(rig.get32(RING) >>> 31, 0);
  }
  assert.is(rig.far.frames.length, 3);
});

test("RTL-115 42 bytes go out as 60, with zeros", () => {
  const rig = started();
  rig.put(DATA, new Uint8Array(64).fill(0xff));
  rig.put(DATA, frameTo(PEER, 42));
  rig.descriptor(RING, WHOLE + EOR + 42, DATA);
  rig.w8(0x38, 0x40);
  const expected = new Uint8Array(60);
  expected.set(frameTo(PEER, 42));
  assert.equal(rig.far.frames, [expected]);
});

test("59 bytes are padded, 60 are not touched, a second short frame has clean padding", () => {
  const rig = started();
  for (const length of [60, 59, 20, 59]) {
    rig.put(DATA, new Uint8Array(64).fill(0xff));
    rig.put(DATA, frameTo(PEER, length));
    rig.descriptor(RING, WHOLE + EOR + length, DATA);
    rig.w8(0x38, 0x40);
    const expected = new Uint8Array(60);
    expected.set(frameTo(PEER, length));
    assert.equal(rig.far.frames.pop(), expected);
  }
});

test("RTL-116 with NoCRC the frame brings its FCS, which is not sent twice; a wrong one is not sent at all", () => {
  const rig = started();
  rig.w32(0x40, 0x0301_0700);
  const frame = frameTo(PEER, 100);
  const withFcs = new Uint8Array(104);
  withFcs.set(frame);
  new DataView(withFcs.buffer).setUint32(100, fcsOf(frame), true);
  rig.put(DATA, withFcs);
  rig.descriptor(RING, WHOLE + EOR + 104, DATA);
  rig.w8(0x38, 0x40);
  assert.equal(rig.far.frames, [frame]);
  withFcs[103] = withFcs[103]! ^ 1;
  rig.put(DATA, withFcs);
  rig.descriptor(RING, WHOLE + EOR + 104, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.get32(RING) >>> 31, 0);
  assert.is(rig.r16(0x3e) & 0x08, 0x08, "TER");
});

test("RTL-117 RTL-120 digital loopback returns the frame to the ring, with or without link, and shuts the cable out", () => {
  for (const link of [true, false]) {
    const rig = new Rig({ link });
    rig.startTx(RING);
    rig.startRx(RING + 0x1000, 0x0b);
    rig.w32(0x40, 0x0302_0700);
    const frame = frameTo(Uint8Array.of(0x00, 0x68, 0x65, 0x6c, 0x6c, 0x6f));
    rig.put(DATA, frame);
    for (let i = 0; i < 3; i++) rig.descriptor(RING + 0x1000 + 16 * i, OWN + 0x800, DATA + 0x1000 * (i + 1));
    assert.is(rig.deliver(frameTo(BROADCAST)), "dropped");
    rig.descriptor(RING, WHOLE + EOR + 60, DATA);
    rig.w8(0x38, 0x40);
    assert.is(rig.far.frames.length, 0);
    assert.is(rig.get32(RING + 0x1000), FS + LS + 64);
    assert.equal(rig.get(DATA + 0x1000, 60), frame);
    assert.is(rig.r16(0x3e) & 0x05, 0x05);
  }
});

test("offered while the cable is pulled, or with nothing plugged in, a frame is lost and its descriptor comes back", () => {
  for (const cut of [(rig: Rig) => rig.card.setLink(false), (rig: Rig) => rig.card.net.attach(null)]) {
    const rig = started();
    cut(rig);
    rig.put(DATA, frameTo(PEER));
    rig.descriptor(RING, WHOLE + EOR + 60, DATA);
    rig.w8(0x38, 0x40);
    assert.is(rig.get32(RING) >>> 31, 0);
    assert.is(rig.r16(0x3e) & 0x04, 0x04);
    assert.is(rig.far.frames.length, 0);
    assert.is(rig.card.counters().txDropped, 1);
  }
});

test("a far end that says later gets the same frame again, from one descriptor or from several", () => {
  const rig = started();
  const frames = [frameTo(PEER, 300, 1), frameTo(PEER, 300, 2), frameTo(PEER, 300, 3)];
  rig.put(DATA, frames[0]!);
  rig.descriptor(RING, WHOLE + 300, DATA);
  rig.put(DATA + 0x1000, frames[1]!);
  for (let i = 0; i < 3; i++)
    rig.descriptor(RING + 16 + 16 * i, OWN + (i === 0 ? FS : 0) + (i === 2 ? LS : 0) + 100, DATA + 0x1000 + 100 * i);
  rig.put(DATA + 0x2000, frames[2]!.subarray(0, 40));
  rig.descriptor(RING + 64, WHOLE + EOR + 40, DATA + 0x2000);
  rig.far.verdict = "later";
  rig.w8(0x38, 0x40);
  assert.is(rig.far.offers.length, 1);
  assert.is(rig.get32(RING) >>> 31, 1, "still the card's");
  assert.is(rig.r8(0x38), 0x40, "still at work");
  rig.far.verdict = "taken";
  rig.far.onOffer = () => {
    rig.far.verdict = rig.far.frames.length === 0 ? "taken" : "later";
  };
  rig.card.net.ready(0);
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.get32(RING + 16) >>> 31, 0, "pieces before the last one have been read");
  assert.is(rig.get32(RING + 48) >>> 31, 1);
  rig.card.net.ready(0);
  rig.card.net.ready(0);
  rig.far.onOffer = () => {};
  rig.far.verdict = "taken";
  rig.clock.advance(10 * MS);
  assert.equal(rig.far.frames.slice(0, 2), frames.slice(0, 2), "the card looks again by itself");
  assert.is(rig.far.frames[2]!.length, 60);
  assert.is(rig.get32(RING + 64), EOR + FS + LS + 40);
  assert.is(rig.r8(0x38), 0);
});

test("a packet whose pieces come with two doorbells goes out whole", () => {
  const rig = started();
  const frame = frameTo(PEER, 200);
  rig.put(DATA, frame);
  rig.descriptor(RING, OWN + FS + 150, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.get32(RING) >>> 31, 0);
  rig.put(DATA, new Uint8Array(150));
  rig.descriptor(RING + 16, OWN + LS + EOR + 50, DATA + 150);
  rig.w8(0x38, 0x40);
  assert.equal(rig.far.frames, [frame]);
});

test("a packet without first descriptor, one cut short by another, one of nothing and one too long are not sent", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER, 100));
  rig.descriptor(RING, OWN + 100, DATA);
  rig.descriptor(RING + 16, OWN + LS + 100, DATA);
  rig.descriptor(RING + 32, OWN + FS + 100, DATA);
  rig.descriptor(RING + 48, WHOLE + 100, DATA);
  rig.descriptor(RING + 64, WHOLE + 0, DATA);
  rig.descriptor(RING + 80, OWN + FS + 0xffff, DATA);
  rig.descriptor(RING + 96, OWN + LS + 2, DATA);
  rig.descriptor(RING + 112, WHOLE + EOR + 100, DATA);
  rig.w8(0x38, 0x40);
  assert.equal(rig.far.frames, [frameTo(PEER, 100), frameTo(PEER, 100)]);
  for (let i = 0; i < 8; i++) assert.is(rig.get32(RING + 16 * i) >>> 31, 0, `descriptor ${i}`);
  assert.equal(rig.reports.map(({ code }) => code).sort(), [
    "tx-empty",
    "tx-frame-lost",
    "tx-no-first",
    "tx-too-long",
    "tx-unfinished",
  ]);
  assert.is(rig.r16(0x3e) & 0x0c, 0x0c);
  assert.is(rig.card.counters().txDropped, 5);
});

test("what went leaves no timer behind, nor a turn that somebody asked for", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(RING, WHOLE + EOR + 60, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1);
  assert.is(rig.clock.armed, 0);
  rig.work.policy = "deferred";
  rig.card.net.ready(0);
  assert.equal([...rig.work.ready], []);
});

test("a packet cut short before it had a byte is told of like any other", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(RING, OWN + FS, DATA);
  rig.descriptor(RING + 16, WHOLE + EOR + 60, DATA);
  rig.w8(0x38, 0x40);
  assert.equal(
    rig.reports.map(({ code, value }) => [code, value]),
    [["tx-unfinished", 0]],
  );
  assert.equal(rig.far.frames, [frameTo(PEER)]);
});

test("64 KiB is the longest packet that is put together", () => {
  const rig = started();
  rig.descriptor(RING, OWN + FS + 0xffff, DATA);
  rig.descriptor(RING + 16, OWN + LS + EOR + 1, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames[0]!.length, 0x1_0000);
  rig.descriptor(RING + 16, 0, 0);
  rig.descriptor(RING, OWN + FS + 0xffff, DATA);
  rig.w8(0x38, 0x40);
  rig.descriptor(RING + 16, OWN + 1, DATA);
  rig.descriptor(RING + 32, 0, 0);
  rig.w8(0x38, 0x40);
  const other = started();
  other.card.load(rig.card.save());
  other.put(DATA, Uint8Array.of(0x77));
  other.descriptor(RING + 32, OWN + LS + EOR, DATA);
  other.w8(0x38, 0x40);
  assert.is(other.far.frames[0]!.length, 0x1_0000, "also from a snapshot of it whole");
});

test("a ring or a buffer that is no RAM raises SERR once and leaves the ring where it is", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(RING, WHOLE + 60, 0xfff0_0000);
  rig.descriptor(RING + 16, OWN + FS + 60, 0x3f_ffff);
  rig.descriptor(RING + 32, OWN + LS + 60, DATA);
  rig.descriptor(RING + 48, WHOLE + EOR + 60, DATA);
  rig.w8(0x38, 0x40);
  assert.is(rig.r16(0x3e) & 0x8008, 0x8008);
  assert.is(rig.far.frames.length, 1, "the ring goes on behind bad packets");
  assert.is(rig.card.configRead(0x06, 2) & 0x2000, 0x2000);
  rig.w16(0x3e, 0xffff);
  rig.w32(0x20, 0xfff0_0000);
  rig.w8(0x38, 0x40);
  assert.is(rig.r16(0x3e), 0x8000);
  assert.is(rig.r8(0x38), 0);
  rig.w32(0x24, 0x7fff_ffff);
  rig.w8(0x38, 0x40);
  rig.w32(0x24, 0xffff_ffff);
  rig.w8(0x38, 0x40);
  assert.equal(rig.reports.map(({ code }) => code).sort(), ["tx-buffer-address", "tx-frame-lost", "tx-ring-address"]);
});

test("rings and buffers above 4 GiB, and across two windows, work like any other", () => {
  const high = 2 ** 32;
  const rig = new Rig({
    windows: [
      { base: 0, size: 0x1_0000 },
      { base: high, size: 0x1_0008 },
      { base: high + 0x1_0008, size: 0x1_0000 },
    ],
  });
  rig.startTx(high + 0x1_0000);
  const frame = frameTo(PEER, 600);
  rig.put(high + 0x1_0008 - 200, frame);
  const ring = high + 0x1_0000;
  rig.descriptor(ring, 0, 0);
  rig.put(ring, new Uint8Array(16));
  rig.set32(ring + 16 + 8, 0x100);
  rig.set32(ring + 16 + 4, 0);
  rig.set32(ring + 16 + 12, 0);
  rig.set32(ring + 16, WHOLE + EOR + 60);
  rig.put(0x100, frameTo(PEER));
  // Descriptor 0 lies half in either window, and so does its buffer.
  rig.set32(ring, WHOLE + 600);
  rig.set32(ring + 4, 0);
  rig.set32(ring + 8, 0x1_0008 - 200);
  rig.set32(ring + 12, 1);
  rig.put(ring - 200 + 8, frame.subarray(0, 200 - 8));
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 2);
  assert.is(rig.far.frames[0]!.length, 600);
  assert.equal(rig.far.frames[0]!.subarray(0, 190), frame.subarray(0, 190));
  assert.equal(rig.far.frames[1], frameTo(PEER));
  assert.is(rig.get32(ring), FS + LS + 600);
  assert.is(rig.get32(ring + 16), EOR + FS + LS + 60);
});

test("the high priority ring has its own base, index and poll bit, and goes first", () => {
  const rig = started();
  rig.w32(0x28, RING + 0x1000);
  rig.work.policy = "deferred";
  for (let i = 0; i < 2; i++) {
    rig.put(DATA + 0x1000 * i, frameTo(PEER, 60 + i));
    rig.descriptor(RING + 0x1000 * i, WHOLE + EOR + 60 + i, DATA + 0x1000 * i);
  }
  rig.w8(0x38, 0xc0);
  assert.is(rig.r8(0x38), 0xc0);
  rig.work.run();
  assert.equal(
    rig.far.frames.map(({ length }) => length),
    [61, 60],
  );
  assert.is(rig.r8(0x38), 0);
});

test("the high priority ring goes first whichever ring the host gives the first turn", () => {
  for (const budget of [4096, 3, 1]) {
    const rig = started();
    rig.w32(0x28, RING + 0x1000);
    rig.work.policy = "deferred";
    for (let i = 0; i < 4; i++) {
      rig.put(DATA + 0x1000 * i, frameTo(PEER, 60 + i));
      const last = i % 2 === 0 ? 0 : EOR;
      rig.descriptor(RING + 0x1000 * (i >> 1) + 16 * (i % 2), WHOLE + last + 60 + i, DATA + 0x1000 * i);
    }
    rig.w8(0x38, 0x40);
    rig.w8(0x38, 0x80);
    rig.work.run(budget);
    assert.equal(
      rig.far.frames.map(({ length }) => length),
      [62, 63, 60, 61],
    );
    assert.is(rig.r8(0x38), 0);
  }
});

test("the far end's batch ends once a doorbell, and only where something was offered", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER));
  const ring = (): void => {
    for (let i = 0; i < 3; i++) rig.descriptor(RING + 16 * i, WHOLE + (i === 2 ? EOR : 0) + 60, DATA);
    rig.w8(0x38, 0x40);
  };
  ring();
  assert.equal([rig.far.frames.length, rig.far.batches], [3, 1]);
  rig.w32(0x40, 0x0302_0700); // into the loop
  ring();
  assert.equal([rig.far.frames.length, rig.far.batches], [3, 1]);
  rig.w32(0x40, 0x0300_0700);
  rig.card.setLink(false);
  ring();
  assert.equal([rig.far.frames.length, rig.far.batches], [3, 1]);
});

test("what is asked for from inside an offer waits until the far end has taken its frame", () => {
  const rig = started();
  const high = frameTo(PEER, 60, 7);
  rig.w32(0x28, RING + 0x400);
  rig.put(DATA, frameTo(PEER));
  rig.put(DATA + 0x100, high);
  rig.descriptor(RING, WHOLE + EOR + 60, DATA);
  rig.descriptor(RING + 0x400, WHOLE + EOR + 60, DATA + 0x100);
  rig.far.verdict = "later";
  rig.w8(0x38, 0x80);
  rig.far.verdict = "taken";
  rig.far.onOffer = () => rig.card.net.ready(0);
  rig.w8(0x38, 0x40);
  assert.equal(rig.far.frames, [frameTo(PEER)]);
  rig.clock.advance(MS);
  assert.equal(rig.far.frames, [frameTo(PEER), high]);
});

test("a packet that lacks a piece is not sent, also when a snapshot comes between", () => {
  const rig = started();
  rig.descriptor(RING, OWN + FS + 100, 0xf000_0000); // no RAM
  rig.w8(0x38, 0x40);
  const other = started();
  other.card.load(rig.card.save());
  other.put(DATA, frameTo(PEER));
  other.descriptor(RING + 16, OWN + LS + EOR + 60, DATA);
  other.w8(0x38, 0x40);
  assert.equal(other.far.frames, []);
  assert.is(other.r16(0x3e) & 0x0008, 0x0008);
});

test("written pages are reported once per batch", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER));
  for (let i = 0; i < 8; i++) rig.descriptor(RING + 16 * i, WHOLE + 60, DATA);
  rig.w8(0x38, 0x40);
  assert.equal(rig.written, [[RING, RING + 16 * 7 + 4]]);
});

// Frames of Linux with checksum offload: the fields hold what the stack left there.
const TCP = hexBytes(
  "525400123502525400039900080045000034abcd40004006ffffc0a87b0ac0a87b01" +
    "04d2005000000001000000025018ffffdead0000" +
    "0001020304050607ff0a0b0c",
);
const UDP = hexBytes("525400123502525400039900080045000021abcd40004011ffffc0a87b0ac0a87b0104d20035000ddead0001020304");

const sendWith = (frame: Uint8Array, command: number): Uint8Array => {
  const rig = started();
  rig.put(DATA, frame);
  rig.descriptor(RING, WHOLE + EOR + command + frame.length, DATA);
  rig.w8(0x38, 0x40);
  assert.equal(rig.get(DATA, frame.length), frame, "the guest's own copy stays");
  return rig.far.frames[0]!;
};

test("RTL-121 RTL-122 IPCS, TCPCS and UDPCS store checksums that hold", () => {
  for (const [frame, command, protocol, field] of [
    [TCP, 0x0005_0000, 6, 16],
    [UDP, 0x0006_0000, 17, 6],
  ] as const) {
    const sent = sendWith(frame, command);
    const total = (sent[16]! << 8) | sent[17]!;
    assert.is(onesSum(sent, 14, 34), 0xffff, "IP header");
    assert.is(onesSum(sent, 34, 14 + total, onesSum(sent, 26, 34, protocol + total - 20)), 0xffff, "payload");
    const ipOnly = sendWith(frame, 0x0004_0000);
    assert.is(onesSum(ipOnly, 14, 34), 0xffff);
    assert.is((ipOnly[34 + field]! << 8) | ipOnly[35 + field]!, 0xdead, "only what was asked for");
  }
});

test("RTL-121 a header with nothing behind it has its checksum stored, one byte less is none", () => {
  const packet = Uint8Array.from(TCP.subarray(0, 34));
  packet.set([0, 20], 16);
  assert.is(onesSum(sendWith(packet, 0x0004_0000), 14, 34), 0xffff);
  const cut = packet.subarray(0, 33);
  assert.equal(sendWith(cut, 0x0004_0000).subarray(0, 33), cut);
});

test("a UDP checksum of 0 goes out as FFFFh", () => {
  const frame = Uint8Array.from(UDP);
  const sent = sendWith(frame, 0x0006_0000);
  const checksum = (sent[40]! << 8) | sent[41]!;
  // Adding the checksum to a word of the payload makes the sum come out as 0.
  const word = onesSum(Uint8Array.of(frame[42]!, frame[43]!, checksum >>> 8, checksum & 0xff), 0, 4);
  frame[42] = word >>> 8;
  frame[43] = word & 0xff;
  const other = sendWith(frame, 0x0006_0000);
  assert.is((other[40]! << 8) | other[41]!, 0xffff);
});

test("RTL-123 what is not IPv4, too short or a fragment goes out unchanged by the checksum bits", () => {
  const arp = frameTo(PEER, 60);
  arp.set([0x08, 0x06], 12);
  assert.equal(sendWith(arp, 0x0007_0000), arp);
  for (const [at, value] of [
    [14, 0x65],
    [14, 0x44],
    [16, 0xff],
    [17, 0x10],
  ] as const) {
    const odd = new Uint8Array(60);
    odd.set(TCP.subarray(0, 60));
    odd[at] = value;
    assert.equal(sendWith(odd, 0x0005_0000), odd, `byte ${at} = ${value}`);
  }
  const fragment = Uint8Array.from(TCP);
  fragment[20] = 0x20;
  const sent = sendWith(fragment, 0x0005_0000);
  assert.is(onesSum(sent, 14, 34), 0xffff);
  assert.is((sent[50]! << 8) | sent[51]!, 0xdead);
});

test("any cutting of a frame into descriptors sends the same bytes", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1600 }),
      fc.array(fc.nat(1600), { maxLength: 6 }),
      fc.nat(7),
      (length, cuts, skew) => {
        const rig = started();
        const frame = frameTo(PEER, Math.max(length, 14), length).slice(0, length);
        const edges = [0, ...cuts.map((cut) => cut % (length + 1)).sort((a, b) => a - b), length];
        const count = edges.length - 1;
        for (let i = 0; i < count; i++) {
          const [from, to] = [edges[i]!, edges[i + 1]!];
          const at = DATA + 0x800 * i + skew;
          rig.put(at, frame.subarray(from, to));
          const flags = (i === 0 ? FS : 0) + (i === count - 1 ? LS + EOR : 0);
          rig.descriptor(RING + 16 * i, OWN + flags + to - from, at);
        }
        rig.w8(0x38, 0x40);
        const expected = new Uint8Array(Math.max(60, length));
        expected.set(frame);
        assert.equal(rig.far.frames, [expected]);
      },
    ),
    { numRuns: 60 },
  );
});

test("RAM that moves while a frame goes out gets its descriptor back where it is now", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(RING, WHOLE + EOR + 60, DATA);
  const before = rig.memory.windows[0]!.bytes;
  rig.far.onOffer = () => rig.memory.replace([{ base: 0, bytes: Uint8Array.from(before) }]);
  rig.w8(0x38, 0x40);
  assert.is(rig.get32(RING), EOR + FS + LS + 60);
  assert.is(new DataView(before.buffer).getUint32(RING, true) >>> 31, 1, "and not where it was");
});

test("a frame that fails and one that goes out in one batch leave both causes, whichever way it goes", () => {
  for (const whole of [true, false]) {
    const rig = started();
    rig.put(DATA, frameTo(PEER, 120));
    rig.descriptor(RING, OWN + FS + 60, DATA); // cut short by the next
    rig.descriptor(RING + 16, OWN + FS + (whole ? LS + EOR : 0) + 120 - (whole ? 0 : 60), DATA);
    rig.descriptor(RING + 32, OWN + LS + EOR + 60, DATA + 60);
    rig.w8(0x38, 0x40);
    assert.is(rig.far.frames.length, 1);
    assert.is(rig.r16(0x3e) & 0x000c, 0x000c);
  }
});

test("CR.RST forgets doorbells, also those that are not worked yet, and leaves no ring behind", () => {
  const rig = started();
  rig.work.policy = "deferred";
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(RING, WHOLE + EOR + 60, DATA);
  rig.w32(0x28, RING);
  rig.w8(0x38, 0xc0);
  assert.is(rig.work.ready.size, 2);
  rig.w8(0x37, 0x10);
  assert.is(rig.work.ready.size, 0);
  assert.is(rig.r8(0x38), 0);
  rig.work.policy = "immediate";
  rig.w8(0x37, 0x04);
  rig.w8(0x38, 0xc0);
  assert.is(rig.far.frames.length, 0);
  assert.is(rig.r16(0x3e), 0, "no TDU, and nothing was looked for anywhere");
});

test("a doorbell without Bus Master comes to nothing, also when it is switched on again", () => {
  const rig = started();
  rig.put(DATA, frameTo(PEER));
  rig.descriptor(RING, WHOLE + EOR + 60, DATA);
  rig.card.configWrite(0x04, 2, 0x0003);
  rig.w8(0x38, 0x40);
  assert.is(rig.r8(0x38), 0);
  rig.card.configWrite(0x04, 2, 0x0007);
  rig.card.net.ready(0);
  rig.clock.advance(MS);
  rig.work.run();
  assert.is(rig.far.frames.length, 0);
  rig.w8(0x38, 0x40);
  assert.is(rig.far.frames.length, 1);
});

test("doorbells are counted, one for each write that asks for a ring", () => {
  const rig = started();
  rig.w8(0x38, 0x01);
  assert.is(rig.card.counters().doorbells, 0);
  for (const poll of [0x40, 0x80, 0xc1]) rig.w8(0x38, poll);
  assert.is(rig.card.counters().doorbells, 3);
});

test("counters and MAC stay what they are while nothing is sent", () => {
  const rig = started();
  rig.clock.advance(LINK_TIME);
  assert.is(rig.card.counters().txFrames, 0);
  assert.equal(rig.card.mac, MAC);
});

test.run();
