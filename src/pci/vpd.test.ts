import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import { TestFunction } from "./testing.js";
import { VitalProductData } from "./vpd.js";

const isConfigError = (code: string) => (error: unknown) => error instanceof ConfigError && error.code === code;

const rig = () => {
  const vpd = new VitalProductData({ identifier: "barwire", fields: { PN: "8169", SN: "2011-01" }, at: 0x60 });
  return { vpd, fn: new TestFunction({ capabilities: [vpd] }) };
};

/** As software reads it: address with the flag clear, then the flag, then the data. PCI 3.0 appendix I */
const readAll = (fn: TestFunction, bytes: number): number[] => {
  const all: number[] = [];
  for (let at = 0; at < bytes; at += 4) {
    fn.configWrite(0x62, 2, at);
    assert.is(fn.configRead(0x62, 2), 0x8000 | at, "done at the first look");
    for (let i = 0; i < 4; i++) all.push(fn.configRead(0x64 + i, 1));
  }
  return all;
};

test("PCI-130 a read of VPD has set its flag by the next read of it; data is there", () => {
  const { fn } = rig();
  assert.equal([fn.configRead(0x60, 1), fn.configRead(0x62, 2)], [0x03, 0]);
  fn.configWrite(0x62, 2, 0);
  assert.equal([fn.configRead(0x62, 2), fn.configRead(0x64, 4)], [0x8000, 0x6200_0782]); // 82h, 7 bytes, "b"
  fn.configWrite(0x62, 2, 4);
  assert.equal([fn.configRead(0x62, 2), fn.configRead(0x64, 4)], [0x8004, 0x6977_7261]); // "arwi"
  fn.configWrite(0x62, 2, 0x7ffc);
  assert.equal([fn.configRead(0x62, 2), fn.configRead(0x64, 4)], [0xfffc, 0]);
});

test("PCI-131 all bytes up to the RV field's checksum add up to 0, and the tags are those of the standard", () => {
  const { fn } = rig();
  const bytes = readAll(fn, 64);
  const text = String.fromCharCode(...bytes);
  assert.equal(bytes.slice(0, 3), [0x82, 7, 0]);
  const readOnly = 3 + 7;
  assert.is(bytes[readOnly], 0x90);
  const length = bytes[readOnly + 1]! + 256 * bytes[readOnly + 2]!;
  assert.is(bytes[readOnly + 3 + length], 0x78, "the end follows");
  const rv = text.indexOf("RV");
  assert.is(rv + 3, readOnly + 3 + length - 1, "RV is the last field");
  assert.is(
    bytes.slice(0, rv + 4).reduce((sum, byte) => (sum + byte) & 0xff, 0),
    0,
  );
  assert.is(text.slice(13, 20), "PN\x048169");
  assert.is(text.slice(20, 30), "SN\x072011-01");
});

test("VPD is read-only: a write is over at once and changes nothing", () => {
  const { fn } = rig();
  const before = readAll(fn, 64);
  fn.configWrite(0x64, 4, 0xdead_beef);
  fn.configWrite(0x62, 2, 0x8008);
  assert.is(fn.configRead(0x62, 2), 0x0008);
  assert.equal(readAll(fn, 64), before);
  for (const fields of [{ P: "x" }, { RV: "x" }, { pn: "x" }, { PN: "x".repeat(256) }])
    assert.throws(() => new VitalProductData({ identifier: "x", fields }), isConfigError("vpd-field"));
  assert.throws(() => new VitalProductData({ identifier: "x".repeat(0x8000) }), isConfigError("vpd-size"));
});

test.run();
