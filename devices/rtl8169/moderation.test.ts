/** IntrMitigate: TOK and ROK stay off the line for a time or for some frames. Raw numbers throughout. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { frameTo, MAC, PEER, Rig, type RigOptions } from "./testing.js";

const TX_RING = 0x10_0000;
const RX_RING = 0x11_0000;
const DATA = 0x20_0000;
const TOK = 0x0004;
const ROK = 0x0001;

/** Both directions on, gigabit, IMR with every cause, IntrMitigate and the mode bits of C+CR as given. */
const started = (mitigate: number, mode = 0, options: RigOptions = {}): Rig => {
  const rig = new Rig(options);
  for (let i = 0; i < 64; i++)
    rig.descriptor(RX_RING + 16 * i, 0x8000_0800 + (i === 63 ? 0x4000_0000 : 0), DATA + 0x1000 * i);
  rig.startRx(RX_RING);
  rig.startTx(TX_RING);
  rig.put(0x30_0000, frameTo(PEER));
  rig.w16(0xe0, mode);
  rig.w16(0xe2, mitigate);
  rig.w16(0x3c, 0xc17f); // all but TDU, as FreeBSD
  return rig;
};

const send = (rig: Rig, frames = 1): void => {
  for (let i = 0; i < frames; i++)
    rig.descriptor(TX_RING + 16 * i, 0xb000_003c + (i === frames - 1 ? 0x4000_0000 : 0), 0x30_0000);
  rig.w32(0x20, TX_RING);
  rig.w8(0x38, 0x40);
};

const receive = (rig: Rig): void => {
  assert.is(rig.deliver(frameTo(MAC)), "taken");
};

test("TxTimer keeps TOK off the line for so many units after the first frame; ISR shows it at once", () => {
  const rig = started(0x5000); // 5 × 320 ns
  send(rig);
  assert.is(rig.r16(0x3e) & TOK, TOK);
  assert.is(rig.irq, false);
  rig.clock.advance(1000);
  send(rig);
  rig.clock.advance(599);
  assert.is(rig.irq, false, "later frames do not begin anew");
  rig.clock.advance(1);
  assert.is(rig.irq, true);
});

test("RxTimer does the same for ROK, and neither touches the other direction", () => {
  const rig = started(0x0030); // 3 × 320 ns
  receive(rig);
  assert.is(rig.r16(0x3e) & ROK, ROK);
  assert.is(rig.irq, false);
  rig.clock.advance(960);
  assert.is(rig.irq, true);
  rig.w16(0x3e, 0xffff);
  send(rig);
  assert.is(rig.irq, true, "TOK is not moderated");
  const other = started(0x3000);
  receive(other);
  assert.is(other.irq, true, "ROK is not moderated");
});

test("the unit follows C+CR bits 1–0 and the speed of the link", () => {
  // ns, spec §8.5
  for (const [bmcr, units] of [
    [0x1000, [320, 2560, 5120, 10_240]],
    [0x2100, [2560, 20_480, 40_960, 81_920]],
    [0x0100, [40_960, 327_680, 655_360, 1_310_720]],
  ] as const)
    for (const [mode, unit] of units.entries()) {
      const rig = new Rig();
      for (let i = 0; i < 4; i++) rig.descriptor(RX_RING + 16 * i, 0x8000_0800, DATA + 0x1000 * i);
      if (bmcr !== 0x1000) rig.phyWrite(0, bmcr);
      rig.startRx(RX_RING);
      rig.w16(0xe0, mode);
      rig.w16(0xe2, 0x00f0);
      rig.w16(0x3c, ROK);
      receive(rig);
      rig.clock.advance(15 * unit - 1);
      assert.is(rig.irq, false, `BMCR ${bmcr.toString(16)}, mode ${mode}`);
      rig.clock.advance(1);
      assert.is(rig.irq, true, `BMCR ${bmcr.toString(16)}, mode ${mode}`);
    }
});

test("packets in units of four end the wait, over several batches", () => {
  const rig = started(0xf2f1, 3);
  for (let i = 1; i < 4; i++) receive(rig);
  assert.is(rig.irq, false);
  receive(rig);
  assert.is(rig.irq, true, "the fourth");
  rig.w16(0x3e, 0xffff);
  assert.is(rig.irq, false);
  send(rig, 5);
  assert.is(rig.irq, false);
  send(rig, 2);
  assert.is(rig.irq, false);
  send(rig, 1);
  assert.is(rig.irq, true, "the eighth");
  assert.is(rig.rises, 2);
});

test("frames of one large send count each", () => {
  const rig = started(0xf100);
  const frame = new Uint8Array(54 + 3072);
  frame.set(frameTo(PEER).subarray(0, 12));
  frame.set([0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6], 12);
  frame[46] = 0x50;
  rig.put(0x30_0000, frame);
  rig.descriptor(TX_RING, 0xf800_0000 + 0x0400_0000 + frame.length, 0x30_0000); // MSS 1024: 3 frames
  rig.w32(0x20, TX_RING);
  rig.w8(0x38, 0x40);
  assert.is(rig.irq, false);
  rig.descriptor(TX_RING, 0xf800_0000 + 0x0400_0000 + frame.length, 0x30_0000);
  rig.w8(0x38, 0x40);
  assert.is(rig.irq, true);
});

test("without a time, packets alone hold nothing back", () => {
  const rig = started(0x0f0f);
  receive(rig);
  assert.is(rig.irq, true);
});

test("other causes are not held back, and what is acknowledged with them waits no longer", () => {
  const rig = started(0xf0f0, 3);
  receive(rig);
  assert.is(rig.irq, false);
  rig.w8(0x38, 0x01); // FSWInt
  assert.is(rig.irq, true);
  assert.is(rig.r16(0x3e), 0x0101, "both are there to be served");
  rig.w16(0x3e, 0x0101);
  assert.is(rig.irq, false);
  rig.clock.advance(1_000_000);
  assert.is(rig.irq, false, "nothing is left of it");
  receive(rig);
  rig.w16(0x3e, 0x0100);
  assert.is(rig.irq, false);
  rig.clock.advance(153_600);
  assert.is(rig.irq, true, "a fresh wait");
});

test("RTL-100 a cause that is held back and masked never shows; unmasked it shows when its time has come", () => {
  const rig = started(0x00f0, 3);
  rig.w16(0x3c, 0);
  receive(rig);
  rig.clock.advance(1_000_000);
  assert.is(rig.irq, false);
  rig.w16(0x3c, ROK);
  assert.is(rig.irq, true);
});

test("a cause that nobody has acknowledged is not held back again", () => {
  const rig = started(0x00f0, 3);
  receive(rig);
  rig.clock.advance(200_000);
  assert.is(rig.irq, true);
  receive(rig);
  assert.is(rig.irq, true);
});

test("switched off it lets go at once; another value counts for the next wait", () => {
  const rig = started(0xf0f0, 3);
  receive(rig);
  send(rig);
  rig.w16(0xe2, 0xf000);
  assert.is(rig.irq, true, "ROK went");
  rig.w16(0x3e, ROK);
  assert.is(rig.irq, false);
  rig.w16(0xe2, 0x0000);
  assert.is(rig.irq, true, "TOK went");
  rig.w16(0x3e, 0xffff);
  rig.w16(0xe2, 0x00f0);
  receive(rig);
  rig.w16(0xe2, 0x0010);
  rig.clock.advance(10_240);
  assert.is(rig.irq, false);
  rig.clock.advance(153_600 - 10_240);
  assert.is(rig.irq, true);
});

test("CR.RST and unplugging forget what was held back", () => {
  const rig = started(0xf0f0, 3);
  receive(rig);
  send(rig);
  rig.w8(0x37, 0x10);
  rig.w16(0x3c, 0xffff);
  rig.clock.advance(1_000_000);
  assert.is(rig.irq, false);
  assert.is(rig.r16(0xe2), 0);
  const other = started(0xf0f0, 3);
  receive(other);
  other.card.disconnect();
  assert.is(other.clock.timers, 0);
});

test("a wait goes on in a snapshot, with its count and its end", () => {
  const rig = started(0x00f1, 3);
  receive(rig);
  receive(rig);
  rig.clock.advance(1000);
  for (const by of ["time", "count"]) {
    const other = new Rig();
    other.card.load(rig.card.save());
    other.clock.set(rig.clock.now());
    for (let i = 0; i < 64; i++) other.descriptor(RX_RING + 16 * i, 0x8000_0800, DATA + 0x1000 * i);
    assert.is(other.irq, false);
    if (by === "count") {
      receive(other);
      assert.is(other.irq, false);
      receive(other);
    } else {
      other.clock.advance(153_600 - 1000 - 1);
      assert.is(other.irq, false);
      other.clock.advance(1);
    }
    assert.is(other.irq, true, by);
  }
});

test("a saved wait without an end, or an end without a wait, is refused", () => {
  const rig = started(0x00f0, 3);
  receive(rig);
  const saved = rig.card.save() as { model: { interrupts: { rx: object } } };
  const spoil = (over: object): unknown => {
    const model = saved.model;
    const interrupts = { ...model.interrupts, rx: { ...model.interrupts.rx, ...over } };
    return { ...saved, model: { ...model, interrupts } };
  };
  for (const over of [{ holding: false }, { deadline: Number.POSITIVE_INFINITY }, { holding: 1 }, { frames: -1 }])
    assert.throws(() => new Rig().card.load(spoil(over) as never), JSON.stringify(over));
  new Rig().card.load(saved);
});

test.run();
