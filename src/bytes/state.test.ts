import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { StateError } from "./errors.js";
import { StateReader } from "./state.js";

const refused = (path: string, read: () => unknown): void =>
  assert.throws(read, (error: unknown) => error instanceof StateError && error.path === path);

test("what is no object, or of another version, is refused with its path", () => {
  for (const bad of [null, undefined, 1, "x", [], true]) refused("a", () => new StateReader(bad, "a"));
  refused("a", () => new StateReader({ version: 1 }, "a", 2));
  refused("a", () => new StateReader({}, "a", 1));
  assert.is(new StateReader({ version: 2 }, "a", 2).integer("version"), 2);
});

test("integers keep to their range, both ends included", () => {
  const state = new StateReader({ n: 5, f: 1.5, s: "5", big: 2 ** 53, neg: -1, nan: Number.NaN }, "s");
  assert.is(state.integer("n"), 5);
  assert.is(state.integer("n", 5, 5), 5);
  refused("s.n", () => state.integer("n", 6));
  refused("s.n", () => state.integer("n", 0, 4));
  for (const key of ["f", "s", "big", "neg", "nan", "missing"]) refused(`s.${key}`, () => state.integer(key));
  assert.is(state.integer("neg", -1), -1);
});

test("a deadline is an integer or Infinity", () => {
  const state = new StateReader({ idle: Number.POSITIVE_INFINITY, at: 7, bad: Number.NEGATIVE_INFINITY }, "s");
  assert.is(state.deadline("idle"), Number.POSITIVE_INFINITY);
  assert.is(state.deadline("at"), 7);
  refused("s.bad", () => state.deadline("bad"));
});

test("booleans, strings and bytes are what they are called", () => {
  const state = new StateReader({ b: false, s: "x", u: Uint8Array.of(1, 2), l: [1, 2] }, "s");
  assert.is(state.boolean("b"), false);
  refused("s.s", () => state.boolean("s"));
  assert.is(state.string("s"), "x");
  refused("s.b", () => state.string("b"));
  assert.equal([...state.bytes("u", 2)], [1, 2]);
  refused("s.u", () => state.bytes("u", 3));
  refused("s.l", () => state.bytes("l"));
});

test("lists are checked element by element, and copied", () => {
  const list = [1, 2, 3];
  const state = new StateReader({ list, bad: [1, 1.5], text: "12" }, "s");
  const read = state.integers("list", 0, 3, 3);
  assert.equal(read, list);
  read[0] = 9;
  assert.is(list[0], 1);
  refused("s.list", () => state.integers("list", 0, 2));
  refused("s.list", () => state.integers("list", 0, 3, 2));
  refused("s.bad", () => state.integers("bad"));
  refused("s.text", () => state.integers("text"));
});

test("nested objects name the whole path", () => {
  const state = new StateReader({ rings: [{ size: 4 }, { size: -1 }], clock: { version: 1, now: 3 } }, "nic");
  assert.is(state.object("clock", 1).integer("now"), 3);
  refused("nic.clock", () => state.object("clock", 2));
  refused("nic.rings", () => state.object("rings"));
  const rings = state.objects("rings", 2);
  assert.is(rings[0]!.integer("size"), 4);
  refused("nic.rings[1].size", () => rings[1]!.integer("size"));
  refused("nic.rings", () => state.objects("rings", 1));
  refused("nic.clock", () => state.objects("clock"));
});

test("has tells what is there, raw hands it on", () => {
  const raw = { a: 0, b: undefined };
  const state = new StateReader(raw, "s");
  assert.ok(state.has("a"));
  assert.not(state.has("b"));
  assert.is(state.raw, raw);
});

test("an object that cannot become a string is refused like any other", () => {
  const state = new StateReader({ value: { toString: {} }, version: { toString: {} } }, "s");
  refused("s.value", () => state.integer("value"));
  refused("s", () => new StateReader(state.raw, "s", 1));
});

test("whatever is in a state, a reader gives the asked type or throws StateError", () => {
  fc.assert(
    fc.property(fc.anything(), (value) => {
      const state = new StateReader({ value }, "s");
      const readers = [
        () => state.integer("value"),
        () => state.deadline("value"),
        () => state.boolean("value"),
        () => state.string("value"),
        () => state.bytes("value"),
        () => state.integers("value"),
        () => state.object("value"),
        () => state.objects("value"),
      ];
      for (const read of readers)
        try {
          read();
        } catch (error) {
          assert.ok(error instanceof StateError);
        }
    }),
    { numRuns: 300 },
  );
});

test.run();
