import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError, StateReader } from "../bytes/index.js";
import { Prng } from "./prng.js";

const from = (words: readonly number[]): Prng => Prng.restore(new StateReader({ words }, "p"), "words");

test("the sequence of the authors' reference implementation from state 1, 2, 3, 4", () => {
  const prng = from([1, 2, 3, 4]);
  const expected = [
    11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
  ];
  assert.equal(
    expected.map(() => prng.next()),
    expected,
  );
});

test("the same seed gives the same numbers, another one others", () => {
  const first = (seed: number) =>
    Array.from(
      { length: 4 },
      (
        (prng) => () =>
          prng.next()
      )(new Prng(seed)),
    );
  assert.equal(first(7), first(7));
  assert.not.equal(first(7), first(8));
  assert.ok(first(0).some((n) => n !== 0));
});

test("a saved generator goes on where it was", () => {
  const prng = new Prng(3);
  prng.next();
  const twin = from(prng.save());
  for (let i = 0; i < 10; i++) assert.is(twin.next(), prng.next());
});

test("numbers keep to their range, and chances to their odds", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 32 }), fc.nat(), (limit, seed) => {
      const prng = new Prng(seed);
      for (let i = 0; i < 50; i++) {
        const n = prng.below(limit);
        assert.ok(Number.isInteger(n) && n >= 0 && n < limit);
      }
    }),
    { numRuns: 50 },
  );
  const prng = new Prng(1);
  assert.is(new Prng(1).below(0), 0);
  let hits = 0;
  for (let i = 0; i < 10_000; i++) {
    if (prng.chance(0.25)) hits++;
    assert.not(prng.chance(0));
    assert.ok(prng.chance(1));
  }
  assert.ok(hits > 2300 && hits < 2700, `${hits} of 10000`);
});

test("a seed or a state that is none is refused", () => {
  for (const seed of [-1, 2 ** 32, 1.5, Number.NaN])
    assert.throws(
      () => new Prng(seed),
      (error: unknown) => error instanceof ConfigError && error.code === "prng-seed",
    );
  assert.throws(
    () => from([1, 2, 3]),
    (error: unknown) => error instanceof StateError,
  );
});

test.run();
