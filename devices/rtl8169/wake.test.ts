/** A sleeping card: what it is woken by, and what its host sees of it. Raw numbers throughout. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../src/bytes/index.js";
import { rtl8169, type WakeReason } from "./index.js";
import { BROADCAST, frameTo, LINK_TIME, MAC, PEER, Rig } from "./testing.js";

const PMC = 0xde;
const PMCSR = 0xe0;
const PME_STATUS = 0x8000;
const D3 = 0x0103; // and PME enabled
const GROUP = Uint8Array.of(0x01, 0x00, 0x5e, 0x00, 0x00, 0x01); // bit 31 of the hash table

interface Sleep {
  readonly config1?: number;
  readonly config3?: number;
  readonly config5?: number;
  readonly pmcsr?: number;
  readonly link?: boolean;
  /** writes before it falls asleep */
  readonly before?: (rig: Rig) => void;
}

/** A card that a driver has stopped, set up and put to sleep, in the order of Linux. */
const asleep = ({ config1 = 0x01, config3 = 0, config5 = 0, pmcsr = D3, link = true, before }: Sleep) => {
  const woken: WakeReason[] = [];
  const rig = new Rig({ wake: true, onWake: (reason) => woken.push(reason), link });
  rig.linkUp();
  before?.(rig);
  rig.w8(0x37, 0x10);
  rig.w8(0x50, 0xc0);
  rig.w8(0x52, config1);
  rig.w8(0x54, config3);
  rig.w8(0x56, config5);
  rig.w8(0x50, 0x00);
  rig.card.configWrite(PMCSR, 2, pmcsr);
  return { rig, woken };
};

const status = (rig: Rig): number => rig.card.configRead(PMCSR, 2);

const magic = (to: Uint8Array, of = MAC, at = 20): Uint8Array => {
  const frame = frameTo(to, 14 + at + 102 + 5);
  frame.fill(0xff, 14 + at, 14 + at + 6);
  for (let i = 0; i < 16; i++) frame.set(of, 14 + at + 6 + 6 * i);
  return frame;
};

test("by default no PME is promised; with wake it is, from D3hot only", () => {
  assert.is(new Rig().card.configRead(PMC, 2), 0x0002);
  const { card } = new Rig({ wake: true });
  assert.is(card.configRead(PMC, 2), 0x4002);
  assert.is(card.configRead(0xdc, 2), 0x0001);
  card.configWrite(PMCSR, 2, 0x0100);
  assert.is(card.configRead(PMCSR, 2), 0x0100);
});

test("a Magic Packet wakes: to this station, to everybody, to one of its groups, wherever it stands in the frame", () => {
  for (const to of [MAC, BROADCAST, GROUP])
    for (const at of [0, 1, 20]) {
      const { rig, woken } = asleep({ config3: 0x20, before: (card) => card.w32(0x08, 0x8000_0000) });
      assert.is(rig.deliver(magic(to, MAC, at)), "dropped");
      assert.equal(woken, ["magic"]);
      assert.is(status(rig), PME_STATUS + D3);
    }
});

test("more than six bytes FFh in front are no harm, and a magic number may end the frame", () => {
  const { rig, woken } = asleep({ config3: 0x20 });
  const frame = magic(MAC, MAC, 10);
  frame.fill(0xff, 14, 24);
  rig.deliver(frame.subarray(0, frame.length - 5));
  assert.equal(woken, ["magic"]);
});

test("an address that stands there once more is no harm", () => {
  const { rig, woken } = asleep({ config3: 0x20 });
  const frame = magic(BROADCAST);
  frame.set(MAC.subarray(0, 5), 14 + 20 + 102);
  rig.deliver(frame);
  assert.equal(woken, ["magic"]);
});

test("what is no Magic Packet wakes nobody", () => {
  const { rig, woken } = asleep({ config3: 0x20 });
  const fifteen = magic(MAC);
  fifteen[14 + 20 + 101] = 0xee;
  const fiveFf = magic(MAC);
  fiveFf[14 + 20] = 0xfe;
  const cut = magic(MAC);
  for (const frame of [
    fifteen,
    fiveFf,
    cut.subarray(0, cut.length - 6),
    magic(MAC, PEER),
    magic(PEER),
    magic(GROUP),
    frameTo(MAC, 200),
    new Uint8Array(13).fill(0xff),
  ])
    rig.deliver(frame);
  assert.equal(woken, []);
  assert.is(status(rig), D3);
});

test("the address that drivers set counts, as long as it is set", () => {
  const { rig, woken } = asleep({
    config3: 0x20,
    before: (card) => {
      card.w8(0x50, 0xc0);
      card.w32(0x00, 0x3322_1102);
      card.w32(0x04, 0x0000_5544);
    },
  });
  rig.deliver(magic(BROADCAST, Uint8Array.of(0x02, 0x11, 0x22, 0x33, 0x44, 0x55)));
  assert.equal(woken, ["magic"]);
});

test("PMEn, Magic and the state of the function each switch it off", () => {
  for (const sleep of [{ config1: 0, config3: 0x20 }, { config3: 0x10 }, { config3: 0x20, pmcsr: 0x0100 }] as const) {
    const { rig, woken } = asleep(sleep);
    rig.deliver(magic(MAC));
    assert.equal(woken, []);
    assert.is(status(rig) & PME_STATUS, 0);
  }
});

test("without PME enabled the status tells, and the host is not called", () => {
  const { rig, woken } = asleep({ config3: 0x20, pmcsr: 0x0003 });
  rig.deliver(magic(MAC));
  assert.equal(woken, []);
  assert.is(status(rig), PME_STATUS + 3);
});

test("PME# is asserted once until its status is cleared", () => {
  const { rig, woken } = asleep({ config3: 0x20 });
  rig.deliver(magic(MAC));
  rig.deliver(magic(MAC));
  assert.is(woken.length, 1);
  rig.card.configWrite(PMCSR, 2, PME_STATUS + D3);
  assert.is(status(rig), D3);
  rig.deliver(magic(MAC));
  assert.is(woken.length, 2);
});

test("a plain frame wakes where UWF, MWF or BWF says so", () => {
  const kinds = [
    [0x10, MAC, "unicast"],
    [0x20, GROUP, "multicast"],
    [0x40, BROADCAST, "broadcast"],
  ] as const;
  for (const [bit, , reason] of kinds)
    for (const [own, to] of kinds) {
      const { rig, woken } = asleep({ config5: bit, before: (card) => card.w32(0x08, 0x8000_0000) });
      rig.deliver(frameTo(to));
      assert.equal(woken, own === bit ? [reason] : []);
      rig.deliver(frameTo(PEER));
      assert.is(woken.length, own === bit ? 1 : 0);
    }
});

/** CRC-16 of ITU-T V.41 from FFFFh, bit by bit; check value 29B1h for "123456789". */
const crc16 = (bytes: readonly number[]): number => {
  let crc = 0xffff;
  for (const byte of bytes)
    for (let bit = 7; bit >= 0; bit--) {
      const top = (crc >>> 15) ^ ((byte >>> bit) & 1);
      crc = ((crc << 1) & 0xffff) ^ (top !== 0 ? 0x1021 : 0);
    }
  return crc;
};

test("wake-up frames: a mask chooses bytes, a CRC compares them; five of them, two with 64 bytes and three with 128", () => {
  assert.is(crc16([...new TextEncoder().encode("123456789")]), 0x29b1);
  for (const [mask, bytes, crcAt] of [
    [0x84, 8, 0xc4],
    [0x8c, 8, 0xc6],
    [0x94, 16, 0xc8],
    [0xa4, 16, 0xca],
    [0xb4, 16, 0xcc],
  ] as const) {
    const frame = frameTo(MAC, 8 * bytes);
    const chosen = [12, 13, 23, 8 * bytes - 1];
    const set = (rig: Rig): void => {
      for (const n of chosen) rig.w8(mask + (n >>> 3), rig.r8(mask + (n >>> 3)) | (1 << (n & 7)));
      rig.w16(crcAt, crc16(chosen.map((n) => frame[n]!)));
    };
    const { rig, woken } = asleep({});
    // Registers of the operational block are out of reach in D3, and CR.RST clears these: set behind it.
    rig.card.configWrite(PMCSR, 2, 0x0000);
    set(rig);
    rig.card.configWrite(PMCSR, 2, D3);
    const other = Uint8Array.from(frame);
    other[23] = other[23]! ^ 1;
    rig.deliver(other);
    rig.deliver(frame.subarray(0, frame.length - 1));
    rig.deliver(frameTo(PEER, 8 * bytes));
    assert.equal(woken, [], `mask at ${mask.toString(16)}`);
    const unlooked = Uint8Array.from(frame);
    unlooked[30] = 0xee;
    rig.deliver(unlooked);
    assert.equal(woken, ["frame"], `mask at ${mask.toString(16)}`);
  }
});

test("a wake-up frame without any byte chosen is not in use, whatever its CRC says", () => {
  const { rig, woken } = asleep({});
  rig.card.configWrite(PMCSR, 2, 0x0000);
  for (const at of [0xc4, 0xc6, 0xc8, 0xca, 0xcc]) rig.w16(at, 0xffff); // the CRC of nothing
  rig.card.configWrite(PMCSR, 2, D3);
  rig.deliver(frameTo(MAC, 128));
  assert.equal(woken, []);
});

test("LinkUp: the cable that comes back wakes, the one that goes does not", () => {
  const { rig, woken } = asleep({ config3: 0x10 });
  rig.card.setLink(false);
  rig.clock.advance(LINK_TIME);
  assert.equal(woken, []);
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  assert.equal(woken, ["link"]);
  assert.is(status(rig), PME_STATUS + D3);
  for (const sleep of [{ config3: 0x20 }, { config1: 0, config3: 0x10 }, { config3: 0x10, pmcsr: 0x0100 }]) {
    const quiet = asleep({ ...sleep, link: false });
    quiet.rig.card.setLink(true);
    quiet.rig.clock.advance(LINK_TIME);
    assert.equal(quiet.woken, []);
  }
});

test("back in D0 the card receives again after the driver has set it up, and its status can be cleared", () => {
  const { rig, woken } = asleep({ config3: 0x20 });
  rig.deliver(magic(MAC));
  assert.equal(woken, ["magic"]);
  rig.card.configWrite(PMCSR, 2, PME_STATUS);
  assert.is(status(rig), 0);
  rig.card.configWrite(0x04, 2, 0x0007);
  rig.descriptor(0x10_0000, 0xc000_0800, 0x20_0000);
  rig.startRx(0x10_0000);
  assert.is(rig.deliver(frameTo(MAC)), "taken");
});

test("a sleeping card reports nothing of a receiver that was left on, and counts what it lets pass", () => {
  const { rig } = asleep({});
  rig.deliver(frameTo(MAC));
  assert.is(rig.card.counters().rxFiltered, 1);
  const on = new Rig({ wake: true });
  on.startRx(0x10_0000);
  on.card.configWrite(PMCSR, 2, 3);
  assert.is(on.deliver(frameTo(MAC)), "dropped");
  assert.equal(on.reports, []);
});

test("onWake without wake is refused", () => {
  assert.throws(
    () => rtl8169({ onWake: () => {} }),
    (error: unknown) => error instanceof ConfigError && error.code === "wake",
  );
});

test.run();
