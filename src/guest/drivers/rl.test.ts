import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { IFF_OACTIVE, IFF_RUNNING } from "../types.js";
import { type RlOptions, rlDriver } from "./rl.js";
import { attachDriver } from "./testing/fake-pci.js";
import { FakeRtl8139 } from "./testing/fake-rtl8139.js";
import { FRAME, frameOf, listen } from "./testing/rig.js";

const rig = (options: RlOptions = {}, chip = new FakeRtl8139()) => {
  const attached = attachDriver(rlDriver(options), chip.pci);
  const rl = attached.softc;
  const { memory } = chip.pci;
  return { chip, attached, rl, memory, ...listen(rl, memory) };
};

const up = () => {
  const r = rig();
  r.rl.up();
  r.chip.setLink(true);
  r.chip.interrupt(0);
  r.chip.log.length = 0;
  return r;
};

test("PRB-074 rl bids for 10EC:8139 of every revision but 20h", () => {
  const { probe } = rlDriver();
  for (const revid of [0x00, 0x10, 0x1f, 0x21]) assert.is(probe(new FakeRtl8139(revid).pci)?.priority, -20);
  assert.is(probe(new FakeRtl8139(0x20).pci), null);
});

test("attach: reset, address, chip, and rlphy on a PHY without identifier", () => {
  const { chip, attached, rl } = rig();
  assert.equal([...rl.lladdr], [0x52, 0x54, 0, 7, 8, 9]);
  assert.is(rl.chip, "RTL-8139C");
  assert.equal(attached.lines, ["rl0: Chip rev. 0x74000000", "rl0: Ethernet address: 52:54:00:07:08:09"]);
  const log = chip.log.filter((line) => !/ 50(=|$)/.test(line));
  assert.equal(log.slice(0, 2), ["W8 37=10", "R8 37"]);
  assert.ok(log.includes("W16 62=8000"), "the PHY is reset and never isolated");
  assert.is(rl.flags & IFF_RUNNING, 0);
  assert.is(chip.imr, 0);
});

test("up: stop, reset, address, buffer, enable, filter, configuration, interrupts", () => {
  const { chip, rl } = rig();
  chip.log.length = 0;
  rl.up();
  const buffer = chip.view.getUint32(0x30, true);
  assert.equal(chip.log.slice(0, 19), [
    "R32 44",
    "W32 44=0",
    "W8 37=0",
    "W16 3c=0",
    "W16 3e=ffff",
    "W8 37=10",
    "R8 37",
    "W8 50=c0",
    "W32 0=7005452",
    "W32 4=908",
    "W8 50=0",
    `W32 30=${buffer.toString(16)}`,
    "W8 37=c",
    "W32 8=0",
    "W32 c=0",
    "W32 44=f78a",
    "W32 40=3000700",
    "W16 3c=c07f",
    "W32 4c=0",
  ]);
});

test("the registers are those of BAR 0, or of BAR 1 when asked for", () => {
  for (const [options, other] of [
    [{}, 0x14],
    [{ preferIomap: false }, 0x10],
  ] as const) {
    const chip = new FakeRtl8139();
    chip.pci.bars.delete(other);
    assert.is(rig(options, chip).rl.name, "rl0");
  }
});

test("four slots in turn: address, then length and threshold; the fifth frame waits", () => {
  const { chip, rl, memory, told } = up();
  const frames = [60, 100, 1000, 1514, 61].map((length) => frameOf(memory, [length], 4));
  for (const frame of frames.slice(0, 4)) assert.ok(rl.transmit(frame));
  assert.not(rl.transmit(frames[4]!));
  assert.ok((rl.flags & IFF_OACTIVE) !== 0);
  chip.log.length = 0;
  rl.kick();
  const at = (i: number) => frames[i]!.paddr[0]!.toString(16);
  assert.equal(chip.log, [
    `W32 20=${at(0)}`,
    "W32 10=3003c",
    `W32 24=${at(1)}`,
    "W32 14=30064",
    `W32 28=${at(2)}`,
    "W32 18=303e8",
    `W32 2c=${at(3)}`,
    "W32 1c=305ea",
  ]);
  assert.equal(
    chip.send().map((frame) => frame.length),
    [60, 100, 1000, 1514],
  );
  chip.interrupt(4);
  assert.equal(told, [4]);
  assert.is(rl.flags & IFF_OACTIVE, 0);
  assert.ok(rl.transmit(frames[4]!));
  rl.kick();
  assert.is(chip.send()[0]!.length, 61);
  assert.is(chip.slot, 1);
});

test("several pieces, odd addresses and short frames are copied, and padded with zeros", () => {
  const { chip, rl, memory } = up();
  for (const lengths of [[14, 0, 46, 40], [59], [42], [100]]) {
    const frame = frameOf(memory, lengths, 4);
    if (lengths[0] === 100) frame.paddr[0]!++;
    let value = 0;
    const expected: number[] = [];
    for (const [i, length] of lengths.entries()) {
      const bytes = Uint8Array.from({ length }, () => ++value & 0xff);
      memory.copyIn(frame.paddr[i]!, bytes, 0, length);
      expected.push(...bytes);
    }
    while (expected.length < 60) expected.push(0);
    assert.ok(rl.transmit(frame));
    rl.kick();
    assert.equal(chip.send(), [expected]);
    chip.interrupt(4);
  }
  assert.is(rl.counters().opackets, 4);
});

test("an underrun counts and raises the threshold; an aborted frame begins anew", () => {
  const { chip, rl, memory, told } = up();
  const frame = frameOf(memory, [60], 4);
  rl.transmit(frame);
  rl.kick();
  chip.send(0x4000);
  chip.interrupt(8);
  assert.is(rl.counters().oerrors, 1);
  rl.transmit(frame);
  rl.kick();
  assert.is(chip.view.getUint32(0x14, true), 0x0004_003c);
  chip.send(0x4000_0000);
  chip.interrupt(8);
  assert.is(rl.counters().oerrors, 2);
  assert.equal(told, [1, 1]);
  assert.is(chip.slot, 0);
  assert.ok((rl.flags & IFF_RUNNING) !== 0);
});

test("frames that cannot be sent are dropped, counted, and told in their turn", () => {
  const { chip, rl, memory, told } = up();
  rl.transmit(frameOf(memory, [60]));
  rl.transmit(frameOf(memory, [1519]));
  rl.transmit(frameOf(memory, [60]), {
    csumStart: 34,
    csumOffset: 16,
    gso: "none",
    gsoSize: 0,
    hdrLen: 0,
    ecn: false,
  });
  rl.transmit(frameOf(memory, [60]), null, 5);
  rl.kick();
  assert.is(chip.send().length, 1);
  assert.is(rl.counters().oerrors, 3);
  chip.interrupt(4);
  assert.equal(told, [4]);
});

test("received: a record at a time, CAPR 16 behind; the ring goes round and tails run past its end", () => {
  const { chip, rl, received } = up();
  chip.receive(FRAME);
  chip.receive([...FRAME, 1]);
  chip.interrupt(1);
  assert.equal(received, [FRAME, [...FRAME, 1]]);
  const handled = ["R8 37", "W16 38=34", "R8 37", "W16 38=7c", "R8 37"]; // records of 68 and 72 bytes, less 16
  assert.equal(chip.log, ["R16 3e", "W16 3c=0", "R16 3e", "W16 3e=1", ...handled, "R16 3e", "W16 3c=c07f"]);
  for (let i = 0; i < 100; i++) {
    const frame = Array.from({ length: 1000 + i }, (_, n) => (n + i) & 0xff);
    chip.receive(frame);
    chip.interrupt(1);
    assert.equal(received.at(-1), frame);
  }
  assert.is(rl.counters().ipackets, 102);
  assert.is(rl.counters().ierrors, 0);
});

test("a chip that begins its buffer anew with each RCR, as QEMU's does, is followed: CAPR tells where it is", () => {
  for (const restarts of [false, true]) {
    const { chip, rl, received } = up();
    chip.restartsWithRcr = restarts;
    const frames = [FRAME, [...FRAME, 1], [...FRAME, 2, 3], [...FRAME, 4]];
    for (const [i, frame] of frames.entries()) {
      chip.receive(frame);
      chip.interrupt(1);
      rl.setPromisc(i % 2 === 0);
      rl.setMulticast([Uint8Array.of(1, 0, 0x5e, 0, 0, i)]);
    }
    assert.equal(received, frames);
    assert.is(rl.counters().ierrors, 0);
  }
});

test("a record that cannot be makes the driver begin anew", () => {
  for (const [status, total] of [
    [0x0000, 64],
    [0x0001, 63],
    [0x0001, 1523],
  ] as const) {
    const { chip, rl, received } = up();
    chip.receive(FRAME, status, total);
    chip.interrupt(1);
    assert.is(rl.counters().ierrors, 1);
    assert.is(chip.cbr, 0);
    chip.setLink(true);
    chip.receive(FRAME);
    chip.interrupt(1);
    assert.equal(received, [FRAME]);
  }
  const { chip, rl, received } = up();
  chip.receive(FRAME, 1, 0xfff0); // still being written
  chip.interrupt(1);
  assert.is(rl.counters().ierrors, 0);
  assert.equal(received, []);
});

test("an overflow is counted from the chip's counter, and what is there is taken", () => {
  const { chip, rl, received } = up();
  chip.view.setUint32(0x4c, 3, true);
  chip.receive(FRAME);
  chip.interrupt(0x10);
  assert.is(rl.counters().iqdrops, 3);
  assert.equal(received, [FRAME]);
});

test("the link: what both ends advertise, the speed alone where the far end does not negotiate, forced", () => {
  const { chip, rl, links } = rig();
  rl.up();
  chip.setLink(true);
  chip.interrupt(0);
  assert.equal(links, [true]);
  assert.is(rl.media().active, "100baseTX");
  assert.equal(rl.media().options, ["full-duplex"]);
  chip.view.setUint16(0x68, 0x0021, true); // 10 Mb/s, half duplex
  rl.tick();
  assert.equal([rl.media().active, rl.media().options], ["10baseT/UTP", ["half-duplex"]]);
  chip.view.setUint16(0x68, 0, true); // nothing: the chip's MSR tells
  chip.regs[0x58] = 0x08;
  rl.tick();
  assert.equal([rl.media().active, rl.media().options], ["10baseT/UTP", ["half-duplex"]]);
  chip.regs[0x58] = 0;
  rl.tick();
  assert.is(rl.media().active, "100baseTX");
  rl.setMedia("10baseT/UTP");
  assert.is(chip.view.getUint16(0x62, true), 0);
  assert.is(chip.view.getUint16(0x66, true), 0x0021);
  assert.is(rl.media().active, "10baseT/UTP");
  rl.setMedia("autoselect");
  assert.is(chip.view.getUint16(0x62, true), 0x1000);
  assert.is(chip.view.getUint16(0x66, true), 0x01e1);
  assert.throws(() => rl.setMedia("1000baseT"));
  chip.setLink(false);
  chip.interrupt(0);
  assert.equal(links.at(-1), false);
});

test("down gives frames back; detach leaves nothing; a card that is gone claims no interrupt", () => {
  const { chip, rl, attached, memory, told } = up();
  const frame = frameOf(memory, [60]);
  for (let i = 0; i < 3; i++) rl.transmit(frame);
  rl.kick();
  rl.down();
  assert.equal(told, [3]);
  assert.is(chip.regs[0x37]! & 0x0c, 0);
  rl.up();
  chip.gone = true;
  assert.is(chip.pci.fire(0), "stray");
  attached.detach();
  assert.is(chip.pci.live, 0);
});

test("a lying chip costs counters and no more: nothing throws, nothing hangs, and a restart makes it good", () => {
  const step = fc.record({
    what: fc.constantFrom("header", "cbr", "isr", "send", "tsd", "scribble"),
    a: fc.nat(0xffff_ffff),
    b: fc.nat(0xffff_ffff),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { chip, rl, memory, received } = up();
      const frame = frameOf(memory, [60]);
      const { deviceView } = memory;
      for (const { what, a, b } of steps) {
        const ring = chip.view.getUint32(0x30, true) - memory.base;
        if (what === "header") deviceView.setUint32(ring + (chip.readAt & ~3), a, true);
        if (what === "cbr") chip.view.setUint16(0x3a, a & 0x7ffc, true);
        if (what === "isr") chip.interrupt(a & 0x7fff, 2);
        if (what === "tsd") chip.view.setUint32(0x10 + 4 * (a % 4), b, true);
        if (what === "scribble") deviceView.setUint32((a % (memory.device.length / 4 - 1)) * 4, b, true);
        if (what === "send") {
          rl.transmit(frame);
          rl.kick();
        }
        chip.interrupt(5, 2);
        chip.pci.runScheduled();
      }
      rl.down();
      rl.up();
      chip.setLink(true);
      received.length = 0;
      chip.receive(FRAME);
      chip.interrupt(1);
      assert.equal(received, [FRAME]);
      assert.ok(rl.transmit(frame));
      rl.kick();
      assert.is(chip.send().length, 1);
    }),
    { numRuns: 40 },
  );
});

test.run();
