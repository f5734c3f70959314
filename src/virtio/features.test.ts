import { test } from "uvu";
import * as assert from "uvu/assert";
import { FeatureSet } from "./features.js";

test("VIO-118 bits 31 and 63 are as good as any other", () => {
  const set = FeatureSet.of(31, 63, 0);
  assert.is(set.lo, 0x8000_0001);
  assert.is(set.hi, 0x8000_0000);
  assert.ok(set.has(31) && set.has(63) && set.has(0));
  assert.not(set.has(30) || set.has(62) || set.has(32) || set.has(64) || set.has(95));
  assert.is(FeatureSet.NONE.withWord(1, 0x8000_0000).hi, 0x8000_0000);
});

test("sets combine without changing their operands", () => {
  const a = FeatureSet.of(1, 40);
  const b = FeatureSet.of(1, 41);
  assert.equal([a.and(b).lo, a.and(b).hi], [2, 0]);
  assert.equal([a.or(b).lo, a.or(b).hi], [2, 0x300]);
  assert.equal([a.without(b).lo, a.without(b).hi], [0, 0x100]);
  assert.equal([a.word(0), a.word(1), a.word(2), a.word(0xffff_ffff)], [2, 0x100, 0, 0]);
  assert.is(a.withWord(2, 5), a);
  assert.ok(FeatureSet.NONE.isEmpty && !a.isEmpty);
});

test.run();
