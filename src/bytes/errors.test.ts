import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, hex, StateError } from "./errors.js";

test("numbers in messages are hexadecimal, with their sign", () => {
  assert.is(hex(0xfebc_0000), "0xfebc0000");
  assert.is(hex(0), "0x0");
  assert.is(hex(-16), "-0x10");
  assert.is(hex(2 ** 53 - 1), "0x1fffffffffffff");
});

test("an embedder's mistake carries a code, a saved state's its path", () => {
  const config = new ConfigError("bar-size", "BAR 0: 0x30 is no power of two", { cause: 1 });
  assert.is(config.code, "bar-size");
  assert.is(config.name, "ConfigError");
  assert.is(config.cause, 1);
  assert.ok(config instanceof Error);
  const state = new StateError("machine.clock", "no number");
  assert.is(state.path, "machine.clock");
  assert.is(state.message, "machine.clock: no number");
  assert.is(state.name, "StateError");
});

test.run();
