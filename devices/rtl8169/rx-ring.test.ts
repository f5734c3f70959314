import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { hashIndex } from "./filter.js";
import { BROADCAST, fcsOf, frameTo, hexBytes, LINK_TIME, MAC, MS, PEER, Rig } from "./testing.js";

const RING = 0x10_0000;
const DATA = 0x20_0000;
const OWN = 0x8000_0000;
const EOR = 0x4000_0000;
const FS = 0x2000_0000;
const LS = 0x1000_0000;
const MAR = 0x0800_0000;
const PAM = 0x0400_0000;
const BAR = 0x0200_0000;
const GROUP = Uint8Array.of(0x01, 0x00, 0x5e, 0x00, 0x00, 0x01);

/** A ring of `count` descriptors with buffers of `size` bytes 4 KiB apart, filter `rcr`. */
const started = (count = 4, size = 0x800, rcr = 0x0a, options = {}): Rig => {
  const rig = new Rig(options);
  for (let i = 0; i < count; i++)
    rig.descriptor(RING + 16 * i, OWN + (i === count - 1 ? EOR : 0) + size, DATA + 0x1000 * i, 0xffff_ffff);
  rig.startRx(RING, rcr);
  return rig;
};

test("RTL-076 RTL-079 60 bytes make one descriptor with FS, LS and length 64, FCS in memory", () => {
  const rig = started(1);
  const frame = frameTo(MAC);
  assert.is(rig.deliver(frame), "taken");
  assert.is(rig.get32(RING), EOR + FS + LS + PAM + 64);
  assert.is(rig.get32(RING + 4), 0);
  assert.equal(rig.get(DATA, 60), frame);
  assert.is(rig.get32(DATA + 60), fcsOf(frame));
  assert.equal(rig.get(DATA + 64, 4), new Uint8Array(4), "and nothing behind it");
});

test("the FCS is the CRC-32 that zlib computes, least significant byte first", () => {
  const rig = started(1);
  const arp = hexBytes(`ffffffffffff5254000000010806${"00".repeat(46)}`);
  rig.deliver(arp);
  assert.equal(rig.get(DATA + 60, 4), hexBytes("fce789eb"));
});

test("a frame shorter than 60 bytes is padded with zeros, as the wire would have done", () => {
  const rig = started(3);
  for (const [i, length] of [58, 14, 59].entries()) {
    rig.put(DATA + 0x1000 * i, new Uint8Array(80).fill(0xaa));
    rig.deliver(frameTo(MAC, length));
    const padded = new Uint8Array(60);
    padded.set(frameTo(MAC, length));
    assert.is(rig.get32(RING + 16 * i) & 0x3fff, 64);
    assert.equal(rig.get(DATA + 0x1000 * i, 60), padded);
    assert.is(rig.get32(DATA + 0x1000 * i + 60), fcsOf(padded));
    assert.equal(rig.get(DATA + 0x1000 * i + 64, 16), new Uint8Array(16).fill(0xaa));
  }
});

test("without computed FCS the four bytes behind a frame are 0; by default strictness decides", () => {
  const fcs = (options: object): number => {
    const rig = started(1, 0x800, 0x0a, options);
    rig.put(DATA, new Uint8Array(128).fill(0xaa));
    rig.deliver(frameTo(MAC));
    assert.is(rig.get32(RING) & 0x3fff, 64);
    return rig.get32(DATA + 60);
  };
  const real = fcsOf(frameTo(MAC));
  assert.is(fcs({ strictness: "strict" }), real);
  assert.is(fcs({ strictness: "lenient" }), 0);
  assert.is(fcs({ strictness: "lenient", fcs: "computed" }), real);
  assert.is(fcs({ strictness: "strict", fcs: "zero" }), 0);
});

test("RTL-068 RTL-078 after EOR the ring goes on with descriptor 0, and EOR stays", () => {
  const rig = started(3);
  for (let round = 0; round < 4; round++)
    for (let i = 0; i < 3; i++) {
      rig.set32(RING + 16 * i, OWN + (i === 2 ? EOR : 0) + 0x800);
      rig.deliver(frameTo(MAC, 64, round * 3 + i));
      assert.is(rig.get32(RING + 16 * i), (i === 2 ? EOR : 0) + FS + LS + PAM + 68);
      assert.equal(rig.get(DATA + 0x1000 * i, 64), frameTo(MAC, 64, round * 3 + i));
    }
});

test("RTL-077 opts2 stands before OWN goes: one store of opts1, after everything else", () => {
  // The descriptor's last store is the only one that can show OWN 0, so opts2 must be there when it is.
  const rig = started(1);
  const seen: number[] = [];
  const { view } = rig.memory.windows[0]!;
  const stores: [number, number][] = [];
  const spied = view.setInt32.bind(view);
  view.setInt32 = (at, value, little) => {
    stores.push([at, value >>> 0]);
    if (at === RING) seen.push(rig.get32(RING + 4), rig.get32(DATA));
    spied(at, value, little);
  };
  rig.deliver(frameTo(MAC));
  assert.equal(
    stores.map(([at]) => at),
    [RING + 4, RING],
  );
  assert.equal(seen, [0, 0x0300_5452], "opts2 and data are there before OWN goes");
});

test("RTL-080 300 bytes with FCS fill 128-byte buffers 128, 128, 44, and the last one says 300", () => {
  const rig = started(4, 128);
  const frame = frameTo(MAC, 296);
  rig.deliver(frame);
  assert.is(rig.get32(RING) & ~0x3fff, FS);
  assert.is(rig.get32(RING + 16) & ~0x3fff, 0);
  assert.is(rig.get32(RING + 32), LS + PAM + 300);
  assert.is(rig.get32(RING + 48) >>> 31, 1);
  const whole = new Uint8Array(300);
  whole.set(rig.get(DATA, 128));
  whole.set(rig.get(DATA + 0x1000, 128), 128);
  whole.set(rig.get(DATA + 0x2000, 44), 256);
  assert.equal(whole.subarray(0, 296), frame);
  assert.is(new DataView(whole.buffer).getUint32(296, true), fcsOf(frame));
  assert.equal(rig.get(DATA + 0x2000 + 44, 8), new Uint8Array(8));
});

test("a frame in several descriptors may wrap round the end of the ring, and needs all of them", () => {
  const rig = started(3, 64);
  rig.deliver(frameTo(MAC, 60));
  rig.deliver(frameTo(MAC, 60));
  rig.set32(RING, OWN + 64);
  assert.is(rig.deliver(frameTo(MAC, 180)), "dropped", "64 + 64 are not 184");
  assert.is(rig.get32(RING + 32), OWN + EOR + 64, "nothing was written");
  rig.set32(RING + 16, OWN + 64);
  assert.is(rig.deliver(frameTo(MAC, 180)), "taken");
  assert.is(rig.get32(RING + 32) & ~0x3fff, EOR + FS);
  assert.is(rig.get32(RING + 16), LS + PAM + 184);
});

test("RTL-081 RTL-082 no owned descriptor: RDU, and MPC counts until any write clears it", () => {
  const rig = started(1);
  rig.deliver(frameTo(MAC));
  rig.w16(0x3e, 0xffff);
  for (let i = 1; i <= 3; i++) {
    assert.is(rig.deliver(frameTo(MAC)), "dropped");
    assert.is(rig.r16(0x3e), 0x0010);
    rig.w16(0x3e, 0x0010);
    assert.is(rig.r32(0x4c), i);
  }
  rig.w32(0x4c, 0x55);
  assert.is(rig.r32(0x4c), 0);
  rig.deliver(frameTo(MAC));
  rig.w8(0x4e, 0);
  assert.is(rig.r32(0x4c), 0);
  assert.is(rig.card.counters().rxNoBuffer, 4);
});

test("RTL-083 with RDSAR 0 and RE on frames are dropped without DMA", () => {
  const rig = new Rig();
  rig.descriptor(0, OWN + EOR + 0x800, DATA);
  rig.linkUp();
  rig.w8(0x37, 0x08);
  rig.w32(0x44, 0xe70f);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.get32(0), OWN + EOR + 0x800);
  assert.is(rig.r16(0x3e), 0);
  assert.equal(rig.written, []);
});

test("RTL-084 a ring without EOR wraps after 1024 descriptors", () => {
  const rig = new Rig();
  for (let i = 0; i < 1030; i++) rig.descriptor(RING + 16 * i, OWN + 0x40, DATA);
  rig.startRx(RING);
  for (let i = 0; i < 1024; i++) assert.is(rig.deliver(frameTo(MAC)), "taken");
  assert.is(rig.get32(RING + 16 * 1024) >>> 31, 1);
  assert.is(rig.deliver(frameTo(MAC)), "dropped", "back at descriptor 0, which is used");
});

test("RTL-086 length and buffer size have 14 bits", () => {
  const rig = new Rig({ mtu: 16_361 });
  rig.descriptor(RING, OWN + 0x3fff, DATA);
  rig.descriptor(RING + 16, OWN + EOR + 0x3fff, DATA + 0x8000);
  rig.startRx(RING);
  assert.is(rig.deliver(frameTo(MAC, 0x3fff - 3)), "dropped", "longer than a status can say");
  assert.is(rig.deliver(frameTo(MAC, 0x3fff - 4)), "taken");
  assert.is(rig.get32(RING) & 0x3fff, 0x3fff);
  assert.is(rig.get32(DATA + 0x3ffb), fcsOf(frameTo(MAC, 0x3ffb)));
});

test("RTL-025 RTL-026 RE rising and either half of RDSAR go back to descriptor 0; RE written again does not", () => {
  const rig = started(8);
  const next = (): number => {
    for (let i = 0; i < 8; i++) rig.set32(RING + 16 * i, OWN + (i === 7 ? EOR : 0) + 0x800);
    rig.deliver(frameTo(MAC));
    for (let i = 0; i < 8; i++) if (rig.get32(RING + 16 * i) < OWN) return i;
    return -1;
  };
  assert.is(next(), 0);
  assert.is(next(), 1);
  rig.w8(0x37, 0x08);
  rig.w32(0x44, 0xe70a);
  assert.is(next(), 2);
  rig.w8(0x37, 0x00);
  rig.w8(0x37, 0x08);
  assert.is(next(), 0);
  assert.is(next(), 1);
  rig.w32(0xe8, 0);
  assert.is(next(), 0);
  assert.is(next(), 1);
  rig.w32(0xe4, RING);
  assert.is(next(), 0);
});

test("RTL-028 the low 8 bits of RDSAR are ignored", () => {
  const rig = started(1);
  rig.w32(0xe4, RING + 0x80);
  assert.is(rig.deliver(frameTo(MAC)), "taken");
});

test("receiver off, link down, link never up: dropped and counted, ring untouched", () => {
  for (const stop of [
    (rig: Rig) => rig.w8(0x37, 0x04),
    (rig: Rig) => rig.card.setLink(false),
    (rig: Rig) => rig.phyWrite(0, 0x1200),
    (rig: Rig) => rig.phyWrite(0, 0x0800),
  ]) {
    const rig = started(1);
    stop(rig);
    rig.w16(0x3e, 0xffff);
    assert.is(rig.deliver(frameTo(MAC)), "dropped");
    assert.is(rig.get32(RING) >>> 31, 1);
    assert.is(rig.r16(0x3e), 0);
    assert.is(rig.card.counters().rxFiltered, 1);
  }
});

test("RTL-105 ROK stands once per batch, with one interrupt", () => {
  const rig = started(4);
  rig.w16(0x3c, 0x0001);
  for (let i = 0; i < 3; i++) rig.card.net.offer(frameTo(MAC), 0, 60, null, 0);
  assert.is(rig.irq, false, "the batch is not over");
  assert.is(rig.r16(0x3e), 0x0001, "but the cause stands");
  rig.card.net.endBatch();
  assert.is(rig.irq, true);
  assert.is(rig.rises, 1);
  rig.w16(0x3e, 0x0001);
  assert.is(rig.irq, false);
  rig.card.net.endBatch();
  assert.is(rig.irq, false);
});

// ------------------------------------------------------------------------------------------------ filter

/** Which of these the filter takes: broadcast, the all-hosts group, the own address, another station's. */
const taken = (rcr: number, mar0 = 0, mar4 = 0): string => {
  const rig = started(4, 0x800, rcr);
  rig.w32(0x08, mar0);
  rig.w32(0x0c, mar4);
  const names = ["broadcast", "group", "own", "other"];
  return [BROADCAST, GROUP, MAC, PEER]
    .map((to, i) => (rig.deliver(frameTo(to)) === "taken" ? names[i] : ""))
    .filter((name) => name !== "")
    .join(" ");
};

test("RTL-089 RTL-090 RTL-091 RTL-092 each accept bit lets in its own kind of frame", () => {
  const all = 0xffff_ffff;
  assert.is(taken(0x00, all, all), "");
  assert.is(taken(0x08, all, all), "broadcast");
  assert.is(taken(0x02, all, all), "own");
  assert.is(taken(0x01, all, all), "own other", "AAP is for unicast");
  assert.is(taken(0x04, all, all), "group");
  assert.is(taken(0x04, 0, 0), "");
  assert.is(taken(0x0b, 0, 0), "broadcast own other");
  assert.is(taken(0x0e, 0, 0), "broadcast own");
});

test("RTL-097 the settings of iPXE receive everything", () => {
  assert.is(taken(0x8f, 0xffff_ffff, 0xffff_ffff), "broadcast group own other");
});

test("RTL-093 with AM, bit 31 of MAR takes 01:00:5E:00:00:01 and no other group", () => {
  const rig = started(4, 0x800, 0x04);
  rig.w32(0x08, 0x8000_0000);
  rig.w32(0x0c, 0);
  assert.is(rig.deliver(frameTo(GROUP)), "taken");
  for (const other of ["01005e0000fb", "333300000001", "333300000002", "0180c2000000", "01005e7ffffa"])
    assert.is(rig.deliver(frameTo(hexBytes(other))), "dropped", other);
});

test("RTL-094 the hash picks the bits that drivers compute", () => {
  for (const [group, index] of [
    ["01005e000001", 31],
    ["01005e0000fb", 15],
    ["333300000001", 62],
    ["333300000002", 41],
    ["0180c2000000", 25],
    ["01005e7ffffa", 43],
  ] as const) {
    assert.is(hashIndex(hexBytes(group), 0), index, group);
    const rig = started(1, 0x800, 0x04);
    rig.w8(0x08 + (index >>> 3), 1 << (index & 7));
    assert.is(rig.deliver(frameTo(hexBytes(group))), "taken", group);
  }
});

test("RTL-094 each of the 64 bits lets through the groups that come to it, and no others", () => {
  const rig = started(1, 0x800, 0x04);
  const seen = new Set<number>();
  for (let last = 0; last < 256 && seen.size < 64; last++) {
    const group = Uint8Array.of(0x33, 0x33, 0x00, 0x00, 0x00, last);
    // The register's six topmost bits, before it is inverted and turned round.
    const crc = ~fcsOf(group);
    let index = 0;
    for (let bit = 0; bit < 6; bit++) index = (index << 1) | ((crc >>> bit) & 1);
    if (seen.has(index)) continue;
    seen.add(index);
    const set = (low: number, high: number): string => {
      rig.w32(0x08, low);
      rig.w32(0x0c, high);
      rig.descriptor(RING, OWN + EOR + 0x800, DATA);
      return rig.deliver(frameTo(group)) as string;
    };
    const bit = 1 << (index & 31);
    assert.is(set(index < 32 ? bit : 0, index < 32 ? 0 : bit), "taken", `bit ${index}`);
    assert.is(set(index < 32 ? ~bit : -1, index < 32 ? -1 : ~bit), "dropped", `all but bit ${index}`);
  }
  assert.is(seen.size, 64);
});

test("all six bytes make a station's address", () => {
  const rig = started(1, 0x800, 0x02);
  for (let at = 0; at < 6; at++) {
    const other = Uint8Array.from(MAC);
    other[at] = other[at]! ^ 0x80;
    assert.is(rig.deliver(frameTo(other)), "dropped", `byte ${at}`);
  }
  assert.is(rig.deliver(frameTo(MAC)), "taken");
});

test("a turn of the receive queue uses nothing of its budget", () => {
  const rig = started();
  rig.work.policy = "deferred";
  rig.work.request(2);
  rig.work.run(1, 1);
  assert.equal([...rig.work.ready], []);
});

test("RTL-096 BAR, MAR, PAM or none, as the frame came", () => {
  const rig = started(4, 0x800, 0x0f);
  rig.w32(0x08, 0xffff_ffff);
  for (const [i, [to, flag]] of (
    [
      [BROADCAST, BAR],
      [GROUP, MAR],
      [MAC, PAM],
      [PEER, 0],
    ] as const
  ).entries()) {
    rig.deliver(frameTo(to));
    assert.is(rig.get32(RING + 16 * i), (i === 3 ? EOR : 0) + FS + LS + flag + 64);
  }
});

// ------------------------------------------------------------------------------------------------ lengths

test("RTL-098 RMS 05F6h passes 1526 bytes with FCS and flags longer ones RES and RWT", () => {
  const rig = started(4);
  rig.w16(0xda, 0x05f6);
  rig.deliver(frameTo(MAC, 1522));
  assert.is(rig.get32(RING), FS + LS + PAM + 1526);
  assert.is(rig.r16(0x3e), 0x0001);
  rig.w16(0x3e, 0xffff);
  rig.deliver(frameTo(MAC, 1523));
  assert.is(rig.get32(RING + 16), FS + LS + PAM + 0x0060_0000 + 1527);
  assert.is(rig.r16(0x3e), 0x0002, "RER, not ROK");
});

test("RTL-099 RMS 4000h is no limit, nor is 0; frames above 8191 bytes are flagged all the same", () => {
  for (const rms of [0x4000, 0, 0x3fff]) {
    const rig = new Rig();
    rig.descriptor(RING, OWN + 0x3fff, DATA);
    rig.descriptor(RING + 16, OWN + EOR + 0x3fff, DATA + 0x4000);
    rig.startRx(RING);
    rig.w16(0xda, rms);
    rig.deliver(frameTo(MAC, 8187));
    rig.deliver(frameTo(MAC, 8188));
    assert.is(rig.get32(RING), FS + LS + PAM + 8191);
    assert.is(rig.get32(RING + 16), EOR + FS + LS + PAM + 0x0060_0000 + 8192);
  }
});

test("shorter than a header, or still unfinished, is no frame", () => {
  const rig = started(1);
  assert.is(rig.card.net.offer(frameTo(MAC), 0, 13, null, 0), "dropped");
  const offload = { csumStart: 34, csumOffset: 16, dataValid: false, gsoSize: 0, ecn: false };
  assert.is(rig.card.net.offer(frameTo(MAC), 0, 60, { ...offload, needsCsum: true, gso: "none" }, 0), "dropped");
  assert.is(rig.card.net.offer(frameTo(MAC), 0, 60, { ...offload, needsCsum: false, gso: "tcp4" }, 0), "dropped");
  assert.is(rig.card.net.offer(frameTo(MAC), 0, 60, { ...offload, needsCsum: false, gso: "none" }, 0), "taken");
});

// ------------------------------------------------------------------------------------------------ no room

test("RTL-160 10000 frames to a full ring: at most one RDU each, and none without a frame", () => {
  const rig = started(1);
  rig.deliver(frameTo(MAC));
  rig.w16(0x3e, 0xffff);
  rig.w16(0x3c, 0x0010);
  for (let i = 0; i < 10_000; i++) {
    rig.card.net.offer(frameTo(MAC), 0, 60, null, 0);
    rig.w16(0x3e, 0x0010);
    assert.is(rig.irq, false);
  }
  assert.is(rig.rises, 10_000);
  rig.clock.advance(LINK_TIME);
  rig.card.net.endBatch();
  assert.is(rig.r16(0x3e), 0);
  assert.is(rig.r32(0x4c), 10_000);
});

test("a far end that holds its frame is told later, RDU comes once, nothing is missed", () => {
  const rig = started(1);
  rig.far.holds = true;
  rig.deliver(frameTo(MAC));
  rig.w16(0x3e, 0xffff);
  rig.w16(0x3c, 0x0010);
  for (let i = 0; i < 5; i++) assert.is(rig.deliver(frameTo(MAC, 100)), "later");
  assert.is(rig.rises, 1);
  rig.w16(0x3e, 0x0010);
  rig.clock.advance(10 * MS);
  assert.is(rig.rises, 1);
  assert.equal(rig.far.readies, [], "there is still no room");
  assert.is(rig.r32(0x4c), 0);
  assert.is(rig.card.counters().rxNoBuffer, 0);
});

test("refilled without any access, the card finds out by itself; with an access to ISR or IMR, at once", () => {
  for (const notice of [
    (rig: Rig) => rig.clock.advance(MS),
    (rig: Rig) => rig.w16(0x3e, 0x0010),
    (rig: Rig) => rig.w16(0x3c, 0xffff),
  ]) {
    const rig = started(1);
    rig.far.holds = true;
    rig.deliver(frameTo(MAC));
    assert.is(rig.deliver(frameTo(MAC, 200)), "later");
    rig.far.onReady = () => {
      assert.is(rig.deliver(frameTo(MAC, 200)), "taken");
    };
    rig.set32(RING, OWN + EOR + 0x800);
    notice(rig);
    assert.equal(rig.far.readies, [0]);
    assert.is(rig.get32(RING) & 0x3fff, 204);
    rig.clock.advance(10 * MS);
    assert.equal(rig.far.readies, [0], "told once");
  }
});

test("room for a part of the held frame is not enough", () => {
  const rig = started(4, 64);
  rig.far.holds = true;
  for (let i = 0; i < 4; i++) rig.deliver(frameTo(MAC));
  assert.is(rig.deliver(frameTo(MAC, 120)), "later");
  rig.set32(RING, OWN + 64);
  rig.w16(0x3e, 0xffff);
  assert.equal(rig.far.readies, []);
  rig.set32(RING + 16, OWN + 64);
  rig.w16(0x3e, 0xffff);
  assert.equal(rig.far.readies, [0]);
});

test("a receiver that stops, is reset or unplugged lets the held frame go", () => {
  for (const stop of [
    (rig: Rig) => rig.w8(0x37, 0x00),
    (rig: Rig) => rig.w8(0x37, 0x10),
    (rig: Rig) => rig.card.setLink(false),
    (rig: Rig) => rig.card.reset("bus"),
    (rig: Rig) => rig.card.disconnect(),
  ]) {
    const rig = started(1);
    rig.far.holds = true;
    rig.deliver(frameTo(MAC));
    assert.is(rig.deliver(frameTo(MAC)), "later");
    let after = "";
    rig.far.onReady = () => {
      after = rig.card.net.offer(frameTo(MAC), 0, 60, null, 0);
    };
    stop(rig);
    rig.work.run();
    assert.is(after, "dropped", String(stop));
  }
});

test("a cable that goes takes with it what its far end held", () => {
  const rig = started(1);
  rig.far.holds = true;
  rig.deliver(frameTo(MAC));
  assert.is(rig.deliver(frameTo(MAC)), "later");
  rig.card.net.attach(null);
  rig.card.net.attach(rig.far);
  rig.descriptor(RING, OWN + EOR + 0x800, DATA);
  rig.w16(0x3e, 0xffff);
  rig.clock.advance(MS);
  assert.equal(rig.far.readies, []);
});

test("a frame larger than the whole ring is dropped, not held for ever", () => {
  const rig = started(2, 64);
  rig.far.holds = true;
  assert.is(rig.deliver(frameTo(MAC, 124)), "taken");
  rig.set32(RING, OWN + 64);
  rig.set32(RING + 16, OWN + EOR + 64);
  assert.is(rig.deliver(frameTo(MAC, 125)), "dropped");
  assert.ok(rig.reports.some(({ code }) => code === "rx-ring-too-small"));
});

test("buffers under 8 bytes are no buffers; 8 bytes are", () => {
  const rig = started(1, 7);
  rig.far.holds = true;
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.get32(RING) >>> 31, 1);
  assert.ok(rig.reports.some(({ code }) => code === "rx-buffer-size"));
  const other = started(8, 8);
  assert.is(other.deliver(frameTo(MAC)), "taken");
  assert.is(other.get32(RING + 16 * 7) & 0x3fff, 64);
});

test("a ring or a buffer that is no RAM raises SERR, and nothing is written", () => {
  const rig = started(2, 64);
  rig.set32(RING + 16 + 8, 0xfff0_0000);
  assert.is(rig.deliver(frameTo(MAC, 100)), "dropped");
  assert.is(rig.get32(RING), OWN + 64, "the first descriptor is untouched though its buffer was good");
  assert.equal(rig.get(DATA, 64), new Uint8Array(64));
  assert.is(rig.r16(0x3e), 0x8000);
  rig.w32(0xe4, 0x7000_0000);
  rig.deliver(frameTo(MAC));
  assert.equal(
    rig.reports.map(({ code }) => code),
    ["rx-buffer-address", "rx-ring-address"],
  );
});

test("buffers and descriptors across two windows and above 4 GiB are filled like any other", () => {
  const high = 2 ** 33;
  const rig = new Rig({
    windows: [
      { base: high, size: 0x1_0008 },
      { base: high + 0x1_0008, size: 0x1_0000 },
    ],
  });
  const ring = high + 0x1_0000; // descriptor 0 straddles
  const set = (address: number, value: number) => rig.put(address, new Uint8Array(Uint32Array.of(value).buffer));
  set(ring + 8, 0x1_0008 + 0x1000);
  set(ring + 12, 2);
  set(ring, OWN + EOR + 0x7000);
  rig.startRx(ring);
  const frame = frameTo(MAC, 100);
  assert.is(rig.deliver(frame), "taken");
  assert.equal(rig.get(high + 0x1_0008 + 0x1000, 100), frame);
  assert.is(new DataView(rig.get(ring, 4).buffer).getUint32(0, true), EOR + FS + LS + PAM + 104);
  const other = new Rig({
    windows: [
      { base: 0, size: 0x1_0000 },
      { base: 0x1_0000, size: 0x1_0000 },
    ],
  });
  for (const cut of [1, 59, 60, 99, 100, 101, 103]) {
    other.descriptor(0x1000, OWN + EOR + 0x200, 0x1_0000 - cut);
    other.startRx(0x1000);
    assert.is(other.deliver(frame), "taken");
    assert.equal(other.get(0x1_0000 - cut, 100), frame);
    assert.equal(other.get(0x1_0000 - cut + 100, 4), new Uint8Array(Uint32Array.of(fcsOf(frame)).buffer), `cut ${cut}`);
    other.w8(0x37, 0);
  }
});

test("any frame in any ring arrives as it was, whole or not at all", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 14, max: 1600 }),
      fc.array(fc.integer({ min: 8, max: 700 }), { minLength: 1, maxLength: 12 }),
      fc.nat(12),
      (length, sizes, owned) => {
        const rig = new Rig();
        sizes.forEach((size, i) => {
          const flags = (i < owned ? OWN : 0) + (i === sizes.length - 1 ? EOR : 0);
          rig.descriptor(RING + 16 * i, flags + size, DATA + 0x1000 * i);
        });
        rig.startRx(RING);
        const frame = frameTo(MAC, length, length);
        const total = Math.max(60, length) + 4;
        const room = sizes.slice(0, owned).reduce((sum, size) => sum + size, 0);
        assert.is(rig.deliver(frame), room >= total ? "taken" : "dropped");
        if (room < total) {
          assert.equal(rig.written, []);
          return;
        }
        const got: number[] = [];
        for (let i = 0; got.length < total; i++) {
          assert.is(rig.get32(RING + 16 * i) >>> 31, 0);
          got.push(...rig.get(DATA + 0x1000 * i, Math.min(sizes[i]!, total - got.length)));
          assert.is((rig.get32(RING + 16 * i) & LS) !== 0, got.length === total);
        }
        const expected = new Uint8Array(total - 4);
        expected.set(frame);
        assert.equal(Uint8Array.from(got.slice(0, -4)), expected);
        assert.is(new DataView(Uint8Array.from(got).buffer).getUint32(total - 4, true), fcsOf(expected));
      },
    ),
    { numRuns: 80 },
  );
});

test("counters tell what was received, filtered and missed", () => {
  const rig = started(2);
  rig.deliver(frameTo(MAC, 100));
  rig.deliver(frameTo(PEER, 100));
  rig.deliver(frameTo(BROADCAST, 60));
  rig.deliver(frameTo(BROADCAST, 60));
  const { rxFrames, rxBytes, rxFiltered, rxNoBuffer, descriptorsRead, bytesCopied } = rig.card.counters();
  assert.equal([rxFrames, rxBytes, rxFiltered, rxNoBuffer, descriptorsRead, bytesCopied], [2, 160, 1, 1, 2, 160]);
});

test.run();
