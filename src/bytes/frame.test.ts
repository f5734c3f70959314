import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "./errors.js";
import { etherType, formatMac, isBroadcast, isMulticast, parseMac, sameMac } from "./frame.js";

const refused = (mac: string | Uint8Array): void =>
  assert.throws(
    () => parseMac(mac),
    (error: unknown) => error instanceof ConfigError && error.code === "mac-address",
  );

test("a MAC address is read with colons or dashes, in either case", () => {
  const expected = Uint8Array.of(0x52, 0x54, 0x00, 0xab, 0xcd, 0x01);
  assert.equal(parseMac("52:54:00:ab:cd:01"), expected);
  assert.equal(parseMac("52-54-00-AB-CD-01"), expected);
  assert.equal(parseMac("52:54:0:ab:cd:1"), expected);
});

test("parseMac copies the bytes it is given", () => {
  const given = Uint8Array.of(2, 0, 0, 0, 0, 1);
  const kept = parseMac(given);
  given[5] = 9;
  assert.is(kept[5], 1);
});

test("what is no station address is refused with its text", () => {
  for (const bad of ["", "52:54:00:ab:cd", "52:54:00:ab:cd:01:02", "52:54:00:ab:cd:0x", "52:54:00:ab:cd:100", "no mac"])
    refused(bad);
  refused("01:00:5e:00:00:01");
  refused("ff:ff:ff:ff:ff:ff");
  refused(new Uint8Array(5));
});

test("format and parse are inverse", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
      bytes[0] = bytes[0]! & 0xfe;
      assert.equal(parseMac(formatMac(bytes)), bytes);
    }),
    { numRuns: 100 },
  );
  assert.is(formatMac([0xee, 1, 2, 3, 4, 5, 0xa0], 1), "01:02:03:04:05:a0");
});

test("group, broadcast and own addresses are told apart at any start", () => {
  const bytes = new Uint8Array(16);
  bytes.set([0x33, 0x33, 0, 0, 0, 1], 3);
  assert.is(isMulticast(bytes, 3), true);
  assert.is(isBroadcast(bytes, 3), false);
  bytes.fill(0xff, 3, 9);
  assert.is(isBroadcast(bytes, 3), true);
  bytes[8] = 0xfe;
  assert.is(isBroadcast(bytes, 3), false);
  bytes.set([0x52, 0x54, 0, 1, 2, 3], 3);
  assert.is(isMulticast(bytes, 3), false);
  assert.is(sameMac(bytes, 3, Uint8Array.of(0x52, 0x54, 0, 1, 2, 3)), true);
  assert.is(sameMac(bytes, 3, Uint8Array.of(0, 0x52, 0x54, 0, 1, 2, 3), 1), true);
  for (let i = 0; i < 6; i++) {
    const other = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);
    other[i] = other[i]! ^ 0x80;
    assert.is(sameMac(bytes, 3, other), false, `byte ${i} differs`);
  }
});

test("the EtherType is bytes 12 and 13, most significant first", () => {
  const frame = new Uint8Array(20);
  frame.set([0x86, 0xdd], 2 + 12);
  assert.is(etherType(frame, 2), 0x86dd);
});

test.run();
