import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { copyBytes } from "./copy.js";

test("exactly the bytes named are copied, whatever way their number chooses", () => {
  const lengths = fc.oneof(fc.nat(140), fc.constantFrom(71, 72, 73, 1514));
  fc.assert(
    fc.property(lengths, fc.nat(9), fc.nat(9), fc.nat(9), (length, start, behind, at) => {
      const source = Uint8Array.from({ length: start + length + behind }, (_, i) => (i * 7 + 1) & 0xff);
      const target = new Uint8Array(at + length + 9).fill(0xee);
      const expected = Array.from(target, (old, i) => (i >= at && i < at + length ? source[start + i - at]! : old));
      copyBytes(source, start, length, target, at);
      assert.equal([...target], expected);
    }),
    { numRuns: 60 },
  );
});

test("an array of its own is copied from its first byte", () => {
  for (const length of [72, 73, 200]) {
    const source = Uint8Array.from({ length }, (_, i) => i + 1);
    const target = new Uint8Array(length + 2);
    copyBytes(source, 0, length, target, 1);
    assert.equal([...target], [0, ...source, 0]);
  }
});

test.run();
