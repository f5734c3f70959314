import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BusError, IFF_OACTIVE, IFF_RUNNING } from "../types.js";
import { etherCrc32Be } from "./ifnet.js";
import { type ReOptions, reDriver } from "./re.js";
import { attachDriver } from "./testing/fake-pci.js";
import { FakeRtl8169 } from "./testing/fake-rtl8169.js";
import { FRAME, frameOf, listen } from "./testing/rig.js";

const rig = (options: ReOptions = {}, chip = new FakeRtl8169()) => {
  const attached = attachDriver(reDriver(options), chip.pci);
  const re = attached.softc;
  const { memory } = chip.pci;
  return { chip, attached, re, memory, ...listen(re, memory) };
};

const up = () => {
  const r = rig();
  r.re.up();
  r.chip.setLink(true);
  r.chip.interrupt(0);
  r.chip.log.length = 0;
  return r;
};

test("PRB-074 re bids for the gigabit chips on PCI, and for 10EC:8139 with revision 20h only", () => {
  const { probe, pnp } = reDriver();
  const bid = (vendor: number, device: number, revid: number, subdevice = 0): boolean => {
    const { pci } = new FakeRtl8169();
    const view = Object.assign(Object.create(pci), { vendor, device, revid, subdevice });
    const listed = pnp!.some(
      (row) =>
        row.vendor === vendor &&
        row.device === device &&
        (row.revid ?? revid) === revid &&
        (row.subdevice ?? subdevice) === subdevice,
    );
    const found = probe(view);
    assert.is(found !== null, listed, `table and probe differ about ${device.toString(16)}`);
    assert.is(found?.priority ?? -20, -20);
    return found !== null;
  };
  for (const [vendor, device, revid, subdevice] of [
    [0x10ec, 0x8169, 0x10, 0],
    [0x10ec, 0x8167, 0x10, 0],
    [0x10ec, 0x8139, 0x20, 0],
    [0x1186, 0x4300, 0x10, 0],
    [0x1259, 0xc107, 0x10, 0],
    [0x16ec, 0x0116, 0x10, 0],
    [0x1737, 0x1032, 0x10, 0x24],
  ] as const)
    assert.ok(bid(vendor, device, revid, subdevice), `${vendor.toString(16)}:${device.toString(16)}`);
  for (const [vendor, device, revid, subdevice] of [
    [0x10ec, 0x8139, 0x10, 0],
    [0x10ec, 0x8139, 0x1f, 0],
    [0x10ec, 0x8139, 0x21, 0],
    [0x10ec, 0x8168, 1, 0],
    [0x1737, 0x1032, 0x10, 0x15],
    [0x1af4, 0x8169, 0x10, 0],
  ] as const)
    assert.not(bid(vendor, device, revid, subdevice), `${vendor.toString(16)}:${device.toString(16)}`);
});

test("attach: the steps of the walk-through, and the address from the registers when there is no EEPROM", () => {
  const { chip, attached, re } = rig();
  const log = chip.log.filter((line) => !line.endsWith(" 50") && !/^W8 50=[89a-f]/.test(line));
  assert.equal(log.slice(0, 9), [
    "R8 53",
    "W8 50=0",
    "R32 40",
    "W8 37=10",
    "R8 37",
    "W8 82=1",
    "R8 52",
    "W8 52=1",
    "R8 56",
  ]);
  assert.equal([...re.lladdr], [0x52, 0x54, 0, 7, 8, 9]);
  assert.equal(attached.lines, ["re0: Chip rev. 0x10000000", "re0: Ethernet address: 52:54:00:07:08:09"]);
  const phy = chip.log.filter((line) => line.startsWith("W32 60=")).map((line) => line.slice(7));
  // page 0, out of power down, then BMSR, ID1, ID2; BMSR and EXTSR; MDIX; reset and isolate
  assert.equal(phy.slice(0, 9), [
    "801f0000",
    "800e0000",
    "10000",
    "20000",
    "30000",
    "10000",
    "f0000",
    "100000",
    "80008400",
  ]);
  assert.is(re.flags & IFF_RUNNING, 0);
  assert.is(chip.imr, 0);
});

test("up: stop, reset, C+CR, address, rings, enable, configuration, filter, interrupts", () => {
  const { chip, re } = rig();
  chip.log.length = 0;
  re.up();
  const rx = chip.view.getUint32(0xe4, true);
  const tx = chip.view.getUint32(0x20, true);
  assert.is((rx % 256) | (tx % 256), 0);
  const log = chip.log.filter((line) => !/^[RW]32 60/.test(line));
  assert.equal(log.slice(0, 33), [
    "R32 44",
    "W32 44=0",
    "W8 37=0",
    "W16 3c=0",
    "W16 3e=ffff",
    "W8 37=10",
    "R8 37",
    "W8 82=1",
    "W16 e0=6b",
    "W8 50=c0",
    "W32 0=7005452",
    "W32 4=908",
    "W8 50=0",
    "W32 e8=0",
    `W32 e4=${rx.toString(16)}`,
    "W32 24=0",
    `W32 20=${tx.toString(16)}`,
    "W8 37=c",
    "W32 40=3000700",
    "W8 ec=10",
    "W32 8=0",
    "W32 c=0",
    "W32 44=ff0a",
    "W16 e2=5100",
    "W16 3c=c07f",
    "W16 3e=c07f",
    "W32 4c=0",
    "W32 58=0",
    "W16 da=3fff",
    "W8 50=c0",
    "R8 52",
    "W8 52=21",
    "W8 50=0",
  ]);
  // autonegotiation: what the PHY can, gigabit in both duplexes, and go
  const phy = chip.log.filter((line) => line.startsWith("W32 60=")).map((line) => line.slice(7));
  const set = phy.filter((line) => line.length === 8 && line.startsWith("8"));
  assert.equal(set.slice(-3), ["800401e1", "80090300", "80001200"]);
  const { deviceView } = chip.pci.memory;
  for (const i of [0, 1, 255])
    assert.is(deviceView.getUint32(chip.desc(0xe4, i), true), i === 255 ? 0xc000_0800 : 0x8000_0800);
});

test("the registers are those of BAR 1, or of BAR 0 when asked for", () => {
  for (const [options, rid] of [
    [{}, 0x14],
    [{ preferIomap: true }, 0x10],
  ] as const) {
    const chip = new FakeRtl8169();
    chip.pci.bars.delete(rid === 0x14 ? 0x10 : 0x14);
    assert.is(rig(options, chip).re.name, "re0");
  }
});

test("the link: autonegotiation, LinkChg, and what ifconfig shows of it", () => {
  const { chip, re, links } = rig();
  re.up();
  assert.equal(re.media(), { selected: "autoselect", active: "none", options: [], valid: true, status: "no carrier" });
  chip.setLink(true);
  chip.interrupt(0);
  assert.equal(links, [true]);
  assert.equal(re.media(), {
    selected: "autoselect",
    active: "1000baseT",
    options: ["full-duplex"],
    valid: true,
    status: "active",
  });
  chip.setLink(false);
  chip.interrupt(0);
  assert.equal(links, [true, false]);
  assert.is(re.media().status, "no carrier");
});

test("a forced medium advertises itself and nothing else; an unknown one is refused", () => {
  const { chip, re } = up();
  re.setMedia("100baseTX");
  assert.is(chip.phy[9], 0);
  assert.is(chip.phy[4], 0x0181);
  assert.is(chip.phy[0]! & 0x1000, 0x1000);
  assert.is(re.media().selected, "100baseTX");
  assert.throws(
    () => re.setMedia("10Gbase-T"),
    (error: unknown) => error instanceof BusError && error.code === "EOPNOTSUPP",
  );
});

test("without a link negotiation starts again after 17 ticks", () => {
  const { chip, re } = rig();
  re.up();
  const restarts = () => chip.log.filter((line) => line === "W32 60=80001200").length;
  const before = restarts();
  for (let i = 0; i < 17; i++) re.tick();
  assert.is(restarts(), before);
  re.tick();
  assert.is(restarts(), before + 1);
});

test("six accesses to an interrupt, one to a kick, none to a frame", () => {
  const { chip, re, memory, received } = up();
  chip.receive(FRAME);
  chip.receive(FRAME);
  chip.interrupt(1);
  assert.equal(chip.log, ["R16 3e", "W16 3c=0", "R16 3e", "W16 3e=1", "R16 3e", "W16 3c=c07f"]);
  assert.equal(received, [FRAME, FRAME]);
  chip.log.length = 0;
  for (let i = 0; i < 5; i++) assert.ok(re.transmit(frameOf(memory, [60])));
  re.kick();
  assert.equal(chip.log, ["W8 38=40"]);
  re.kick();
  assert.is(chip.log.length, 1);
});

test("a transmit descriptor: OWN, EOR, FS, LS and length, the first one visible last", () => {
  const { chip, re, memory, told } = up();
  const pieces = frameOf(memory, [14, 0, 46, 20]);
  for (const [i, length] of [14, 0, 46, 20].entries())
    memory.copyIn(pieces.paddr[i]!, new Uint8Array(length).fill(i + 1), 0, length);
  assert.ok(re.transmit(pieces));
  const opts = (i: number) => memory.deviceView.getUint32(chip.desc(0x20, i), true);
  assert.is(opts(0), 0); // not yet shown
  memory.logging = true;
  re.kick();
  const ring = chip.desc(0x20, 0);
  assert.equal(
    memory.log.filter((line) => line.startsWith("prewrite")),
    [`prewrite ${ring + 16}+32`, `prewrite ${ring}+16`],
  );
  memory.logging = false;
  assert.equal([opts(0), opts(1), opts(2)], [0xa000_000e, 0x8000_002e, 0x9000_0014]);
  assert.equal(chip.send(), [[...Array(14).fill(1), ...Array(46).fill(3), ...Array(20).fill(4)]]);
  chip.interrupt(4);
  assert.equal(told, [1]);
  assert.is(re.counters().obytes, 80);
});

test("the ring wraps at its EOR, for thousands of frames of changing length", () => {
  const { chip, re, memory, told, received } = up();
  const frames = [1, 2, 3, 5].map((n) => frameOf(memory, Array(n).fill(20)));
  frames[0] = frameOf(memory, [60]);
  let sent = 0;
  for (let i = 0; i < 1500; i++) {
    assert.ok(re.transmit(frames[i % 4]!));
    if (i % 7 !== 0) continue;
    re.kick();
    sent += chip.send().length;
    chip.interrupt(4);
    for (let n = 0; n < i % 5; n++) chip.receive([...FRAME, i & 0xff, n]);
    chip.interrupt(1);
  }
  re.kick();
  sent += chip.send().length;
  chip.interrupt(4);
  assert.is(sent, 1500);
  assert.is(
    told.reduce((a, b) => a + b, 0),
    1500,
  );
  assert.equal(received.at(-1)!.slice(0, 60), FRAME);
  assert.is(re.counters().opackets, 1500);
  assert.is(re.counters().oerrors, 0);
});

test("a full ring refuses, and takes frames again when the chip has sent some", () => {
  const { chip, re, memory, told } = up();
  const frame = frameOf(memory, [60]);
  let queued = 0;
  while (re.transmit(frame)) queued++;
  assert.is(queued, 256);
  assert.ok((re.flags & IFF_OACTIVE) !== 0);
  re.kick();
  assert.is(chip.send().length, 256);
  assert.ok(re.transmit(frame)); // looks for itself
  assert.equal(told, []);
  chip.interrupt(4);
  assert.equal(told, [256]);
  assert.is(re.flags & IFF_OACTIVE, 0);
});

test("frames that cannot be sent are dropped, counted, and told in their turn", () => {
  const { chip, re, memory, told } = up();
  re.transmit(frameOf(memory, [60]));
  re.transmit(frameOf(memory, [1519]));
  re.transmit(frameOf(memory, [13]));
  const far = frameOf(memory, [60]);
  far.paddr[0] = 2 ** 32 - 10; // no dual address cycles
  re.transmit(far);
  re.transmit(frameOf(memory, [1518]));
  re.kick();
  assert.is(re.counters().oerrors, 3);
  assert.is(chip.send().length, 2);
  assert.equal(told, []);
  chip.interrupt(4);
  assert.equal(told, [5]);
  re.transmit(frameOf(memory, [13]));
  re.kick();
  assert.equal(told, [5, 1]);
});

test("received: FCS stripped, several descriptors as one frame, errors counted", () => {
  const { chip, re, received } = up();
  const long = Array.from({ length: 4000 }, (_, i) => (i * 7) & 0xff);
  chip.receive(long.slice(0, 2048), 0x2000_0000 | 2048);
  chip.receive(long.slice(2048), 0x1000_0000 | 4004);
  chip.interrupt(1);
  assert.equal(received, [long]);
  // the FCS alone in the last descriptor
  received.length = 0;
  chip.receive(long.slice(0, 2048), 0x2000_0000 | 2048);
  chip.receive([1, 2, 3, 4], 0x1000_0000 | 2052);
  chip.interrupt(1);
  assert.equal(received, [long.slice(0, 2048)]);
  received.length = 0;
  for (const opts1 of [
    0x3028_0040, // RES and CRC
    0x3030_0040, // RES and RUNT
    0x3060_0040, // RES and RWT on a short frame
    0x1000_0040, // no first segment
    0x3000_0011, // shorter than a header and its FCS
    0x3000_3fff, // longer than its buffer
  ])
    chip.receive(FRAME, opts1);
  chip.interrupt(1);
  assert.equal(received, []);
  assert.is(re.counters().ierrors, 6);
  chip.receive(FRAME);
  chip.interrupt(1);
  assert.equal(received, [FRAME]);
});

test("the first half of a frame waits for the second, and a frame without an end is given up", () => {
  const { chip, re, received } = up();
  const long = Array.from({ length: 3000 }, (_, i) => i & 0xff);
  chip.receive(long.slice(0, 2048), 0x2000_0000 | 2048);
  chip.interrupt(1);
  assert.equal(received, []);
  chip.receive(long.slice(2048), 0x1000_0000 | 3004);
  chip.interrupt(1);
  assert.equal(received, [long]);
  for (let i = 0; i < 8; i++) chip.receive([], i === 0 ? 0x2000_0000 | 2048 : 2048);
  chip.interrupt(1);
  assert.is(re.counters().ierrors, 1);
});

test("frames without a buffer are read from the chip's counter when it says that there were some", () => {
  const { chip, re } = up();
  chip.view.setUint32(0x4c, 5, true);
  chip.interrupt(0x10);
  assert.is(re.counters().iqdrops, 5);
  assert.is(chip.view.getUint32(0x4c, true), 0);
});

test("the multicast hash of known addresses", () => {
  for (const [address, crc, mar0, mar4] of [
    [[1, 0, 0x5e, 0, 0, 1], 0x7fa3_2d9b, 0x8000_0000, 0],
    [[1, 0, 0x5e, 0, 0, 0xfb], 0x3f7b_3b21, 0x8000, 0],
    [[0x33, 0x33, 0, 0, 0, 1], 0xf99b_aaba, 0, 0x4000_0000],
    [[0x33, 0x33, 0, 0, 0, 2], 0xa411_3a23, 0, 0x200],
    [[1, 0x80, 0xc2, 0, 0, 0], 0x67d8_c317, 0x0200_0000, 0],
    [[1, 0, 0x5e, 0x7f, 0xff, 0xfa], 0xae3c_4afc, 0, 0x800],
  ] as const) {
    assert.is(etherCrc32Be(Uint8Array.from(address)), crc);
    const { chip, re } = up();
    re.setMulticast([Uint8Array.from(address)]);
    assert.equal([chip.view.getUint32(8, true), chip.view.getUint32(12, true)], [mar0, mar4]);
    assert.is(chip.view.getUint32(0x44, true), 0xff0e);
  }
});

test("promiscuous takes all groups, too", () => {
  const { chip, re } = up();
  re.setPromisc(true);
  assert.is(chip.view.getUint32(0x44, true), 0xff0f);
  assert.is(chip.view.getUint32(8, true), 0xffff_ffff);
  re.setPromisc(false);
  assert.is(chip.view.getUint32(0x44, true), 0xff0a);
  re.setAllmulti(true);
  assert.is(chip.view.getUint32(0x44, true), 0xff0e);
});

test("down gives queued frames back and leaves the chip silent; up starts anew", () => {
  const { chip, re, memory, told, received } = up();
  for (let i = 0; i < 3; i++) re.transmit(frameOf(memory, [60]));
  re.kick();
  re.down();
  assert.equal(told, [3]);
  assert.is(re.counters().oerrors, 3);
  assert.is(chip.regs[0x37], 0);
  assert.is(chip.imr, 0);
  assert.is(re.transmit(frameOf(memory, [60])), false);
  re.up();
  chip.setLink(true);
  chip.receive(FRAME);
  chip.interrupt(1);
  assert.equal(received, [FRAME]);
});

test("waits are bounded: a reset that does not end, a PHY that does not answer; other chips are refused", () => {
  const slow = new FakeRtl8169();
  slow.slowReset = 1e9;
  assert.throws(() => attachDriver(reDriver(), slow.pci), /ETIMEDOUT.*CR\.RST/);
  assert.is(slow.pci.live, 0);
  const dead = new FakeRtl8169();
  dead.deadPhy = true;
  assert.throws(() => attachDriver(reDriver(), dead.pci), /ETIMEDOUT.*PHY/);
  assert.is(dead.pci.memory.live, 0);
  for (const version of [0x3000_0000, 0x2000_0000, 0x0040_0000, 0x7400_0000])
    assert.throws(() => attachDriver(reDriver(), new FakeRtl8169(version).pci), /ENXIO.*unknown H\/W revision/);
  const none = new FakeRtl8169();
  none.phy.fill(0xffff);
  assert.throws(() => attachDriver(reDriver(), none.pci), /ENXIO.*PHY/);
});

test("a card that is gone claims no interrupt, and detach ends all the same", () => {
  const { chip, re, attached } = up();
  chip.gone = true;
  assert.is(chip.pci.fire(0), "stray");
  attached.detach();
  assert.is(re.flags & IFF_RUNNING, 0);
  assert.is(chip.pci.live, 0);
  assert.is(chip.pci.memory.live, 0);
});

test("a failed DMA cycle makes the driver begin anew", () => {
  const { chip, re, attached, received } = up();
  chip.interrupt(0x8000, 1);
  assert.match(attached.lines.at(-1)!, /DMA/);
  assert.ok((re.flags & IFF_RUNNING) !== 0);
  chip.setLink(true);
  chip.receive(FRAME);
  chip.interrupt(1);
  assert.equal(received, [FRAME]);
});

test("statistics are what the chip dumps", () => {
  const { chip, re, memory } = up();
  const write = chip.write.bind(chip);
  chip.write = (offset, width, value) => {
    write(offset, width, value);
    if (offset !== 0x10 || (value & 8) === 0) return;
    const at = (value & ~63) - memory.base;
    memory.deviceView.setUint32(at, 7, true);
    memory.deviceView.setUint32(at + 4, 1, true);
    memory.deviceView.setUint32(at + 24, 9, true);
    memory.deviceView.setUint16(at + 28, 3, true);
  };
  const { TxOk, RxERR, MissPkt, RxOk } = re.tally();
  assert.equal([TxOk, RxERR, MissPkt, RxOk], [2 ** 32 + 7, 9, 3, 0]);
});

test("a lying chip costs counters and no more: nothing throws, nothing hangs, and a restart makes it good", () => {
  const step = fc.record({
    what: fc.constantFrom("rx", "tx", "scribble", "isr", "send", "poll"),
    a: fc.nat(0xffff_ffff),
    b: fc.nat(0xffff_ffff),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { chip, re, memory, received } = up();
      const frame = frameOf(memory, [60]);
      const { deviceView } = memory;
      for (const { what, a, b } of steps) {
        if (what === "rx") deviceView.setUint32(chip.desc(0xe4, a % 256), b, true);
        if (what === "tx") deviceView.setUint32(chip.desc(0x20, a % 256), b, true);
        if (what === "scribble") deviceView.setUint32((a % (memory.device.length / 4 - 1)) * 4, b, true);
        if (what === "isr") chip.interrupt(a & 0x7fff, 2);
        if (what === "send") {
          re.transmit(frame);
          re.kick();
        }
        if (what === "poll") chip.send();
        chip.interrupt(5, 2);
        chip.pci.runScheduled();
      }
      re.down();
      re.up();
      chip.setLink(true);
      received.length = 0;
      chip.receive(FRAME);
      chip.interrupt(1);
      assert.equal(received, [FRAME]);
      assert.ok(re.transmit(frame));
      re.kick();
      assert.is(chip.send().length, 1);
    }),
    { numRuns: 40 },
  );
});

test.run();
