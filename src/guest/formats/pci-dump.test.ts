import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../bytes/index.js";
import { readPciDump, writePciDump } from "./pci-dump.js";

const row = (at: number): string => `${at.toString(16).padStart(2, "0")}:${" ab".repeat(16)}`;
const rows = (count: number): string => Array.from({ length: count }, (_, i) => row(i * 16)).join("\n");

const refused = (text: string, line: string): void =>
  assert.throws(
    () => readPciDump(text),
    (error: unknown) => error instanceof ConfigError && error.code === "pci-dump" && error.message.includes(line),
  );

test("slots with and without a domain, whatever stands between their bytes", () => {
  const text = `00:03.1 Ethernet controller: x\n\tFlags: fast devsel\n${rows(4)}\n\n0001:05:1f.7 y\n${rows(16)}\n`;
  const listings = readPciDump(text);
  assert.equal(
    listings.map(({ bdf, domain, config }) => [bdf, domain, config.length]),
    [
      [0x0019, 0, 64],
      [0x05ff, 1, 256],
    ],
  );
  assert.is(listings[0]?.config[63], 0xab);
});

test("of a larger space the first 256 bytes are read", () => {
  assert.is(readPciDump(`00:00.0 x\n${rows(20)}\n`)[0]?.config.length, 256);
});

test("bytes without a slot, with a gap, or too few are refused", () => {
  refused(row(0), "line 1");
  refused(`00:00.0 x\n${row(0)}\n${row(32)}`, "line 3");
  refused(`00:00.0 x\n${rows(3)}`, "48 bytes");
});

test("what is written is read again", () => {
  const config = fc.constantFrom(64, 256).chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
  const listing = fc.record({ bdf: fc.nat(0xffff), domain: fc.nat(0xffff), config }, { noNullPrototype: true });
  fc.assert(
    fc.property(fc.array(listing, { maxLength: 4 }), (listings) => {
      assert.equal(readPciDump(writePciDump(listings)), listings);
    }),
    { numRuns: 50 },
  );
});

test.run();
