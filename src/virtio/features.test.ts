import { test } from "uvu";
import * as assert from "uvu/assert";
import { FeatureSet } from "./features.js";

test("VIO-118 bits 31 and 63 are as good as any other", () => {
  const set = FeatureSet.of(31, 63, 0);
  assert.is(set.lo, 0x8000_0001);
  assert.is(set.hi, 0x8000_0000);
  assert.ok(set.has(31) && set.has(63) && set.has(0));
  assert.not(set.has(30) || set.has(62) || set.has(32) || set.has(64) || set.has(95));
  assert.ok(FeatureSet.of(31).has(31) && FeatureSet.of(63).has(63));
  assert.not(FeatureSet.of(31).has(63) || FeatureSet.of(63).has(31));
  assert.is(FeatureSet.NONE.withWord(1, 0x8000_0000).hi, 0x8000_0000);
});

test("sets combine without changing their operands", () => {
  const a = FeatureSet.of(1, 2, 33, 40);
  const b = FeatureSet.of(1, 3, 33, 41);
  assert.equal([a.and(b).lo, a.and(b).hi], [2, 2]);
  assert.equal([a.or(b).lo, a.or(b).hi], [0x0e, 0x302]);
  assert.equal([a.without(b).lo, a.without(b).hi], [4, 0x100]);
  assert.equal([a.lo, a.hi, b.lo, b.hi], [6, 0x102, 0x0a, 0x202]);
  assert.equal([a.word(0), a.word(1), a.word(2), a.word(0xffff_ffff)], [6, 0x102, 0, 0]);
  assert.is(a.withWord(2, 5), a);
  assert.equal([a.withWord(0, 5).lo, a.withWord(0, 5).hi], [5, 0x102]);
  assert.equal([a.withWord(1, 5).lo, a.withWord(1, 5).hi], [6, 5]);
  assert.not(FeatureSet.of(3).isEmpty || FeatureSet.of(35).isEmpty);
  assert.ok(FeatureSet.NONE.isEmpty && !a.isEmpty);
});

test.run();
