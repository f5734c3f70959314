/** Compiled masks against bit-buffer: two independent ways to take the same packed bits apart. */
import { BitView } from "bit-buffer";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type BitRange, bits, decodeRegisters, field, RegisterFile, withField } from "../../src/regs/index.js";
import {
  RTL8169,
  RTL8169_CHIPS,
  RTL8169_RX_COMMAND,
  RTL8169_RX_OPTS2,
  RTL8169_RX_STATUS,
  RTL8169_TALLY,
  RTL8169_TX_OPTS1,
  RTL8169_TX_OPTS2,
  TCR_HWVERID,
} from "../../src/spec/rtl8169.js";
import { BROADCAST, frameTo, Rig } from "./testing.js";

const WORDS: { readonly [name: string]: { readonly [name: string]: BitRange } } = {
  RTL8169_TX_OPTS1,
  RTL8169_TX_OPTS2,
  RTL8169_RX_COMMAND,
  RTL8169_RX_STATUS,
  RTL8169_RX_OPTS2,
};

test("every field of every descriptor word is the same by mask and by bit-buffer", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 0xffff_ffff }), (word, part) => {
      const buffer = new ArrayBuffer(4);
      for (const fields of Object.values(WORDS))
        for (const [name, range] of Object.entries(fields)) {
          const [high, low] = range;
          new DataView(buffer).setUint32(0, word, true);
          const view = new BitView(buffer);
          assert.is(field(word, range) >>> 0, view.getBits(low, high - low + 1), name);
          view.setBits(low, part % 2 ** (high - low + 1), high - low + 1); // it does not cut, `withField` does
          const written = new DataView(buffer).getUint32(0, true);
          assert.is(withField(word, range, part), written, name);
          assert.is((word & ~bits(range)) >>> 0, (written & ~bits(range)) >>> 0, `${name} alone changes`);
        }
    }),
    { numRuns: 200 },
  );
});

test("every field of every register is the same by mask and by bit-buffer", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 256, maxLength: 256 }), (image) => {
      const file = new RegisterFile(RTL8169);
      file.restore(image);
      for (const { name, at, fields, value } of decodeRegisters(RTL8169, image)) {
        const register = RTL8169.list.find((r) => r.name === name)!;
        assert.is(file.get(at, register.width), value, name);
        for (const [part, decoded] of Object.entries(fields))
          assert.is(field(value, register.fields[part]!) >>> 0, decoded >>> 0, `${name}.${part}`);
      }
    }),
    { numRuns: 50 },
  );
});

test("a status that the card wrote decodes to what was received", () => {
  const rig = new Rig();
  rig.descriptor(0x10_0000, 0xc000_0800, 0x20_0000);
  rig.startRx(0x10_0000);
  rig.deliver(frameTo(BROADCAST, 1000));
  const status = new BitView(rig.get(0x10_0000, 16).slice().buffer as ArrayBuffer);
  const decoded = Object.fromEntries(
    Object.entries(RTL8169_RX_STATUS).map(([name, [high, low]]) => [name, status.getBits(low, high - low + 1)]),
  );
  const expected = { OWN: 0, EOR: 1, FS: 1, LS: 1, MAR: 0, PAM: 0, BAR: 1, BOVF: 0, FOVF: 0, RWT: 0, RES: 0, RUNT: 0 };
  assert.equal(decoded, { ...expected, CRC: 0, PID: 0, IPF: 0, UDPF: 0, TCPF: 0, Frame_Length: 1004 });
});

test("no two fields of a word overlap but those that LGSEN tells apart", () => {
  for (const [name, fields] of Object.entries(WORDS)) {
    let seen = 0;
    for (const [part, range] of Object.entries(fields)) {
      if (part === "MSS") continue;
      assert.is(seen & bits(range), 0, `${name}.${part}`);
      seen |= bits(range);
    }
  }
});

test("the tally block is filled without gap or overlap", () => {
  let next = 0;
  for (const [name, { at, width }] of Object.entries(RTL8169_TALLY)) {
    assert.is(at, next, name);
    next = at + width;
  }
  assert.is(next, 64);
});

test("the chips differ in the version bits of TCR only, and this card's map carries its own", () => {
  const versions = Object.values(RTL8169_CHIPS).map(({ version }) => version);
  assert.is(new Set(versions).size, versions.length);
  for (const version of versions) assert.is((version & ~TCR_HWVERID) >>> 0, 0);
  assert.is(RTL8169.regs.TCR.reset, RTL8169_CHIPS.RTL8169SB.version);
  assert.is(RTL8169.regs.TCR.rw & TCR_HWVERID, 0);
});

test.run();
