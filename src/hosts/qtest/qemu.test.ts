import { test } from "uvu";
import * as assert from "uvu/assert";
import { QtestError, type QtestErrorCode } from "./client-error.js";
import { connectQtest, findQemu, startQemu } from "./qemu.js";

/* Without a QEMU: npm run test:qemu is for that. */

const fails = (code: QtestErrorCode, text: RegExp) => (error: unknown) =>
  error instanceof QtestError && error.code === code && text.test(error.message);

test("a QEMU that is not there is named, and so is the package that has it", () => {
  const missing = fails("qemu-missing", /no qemu-system-nowhere.*package qemu-system-x86/);
  assert.throws(() => findQemu("qemu-system-nowhere"), missing);
  assert.throws(() => startQemu({ program: "qemu-system-nowhere" }), missing);
  assert.throws(() => startQemu({ program: "/nonexistent/qemu" }), fails("qemu-missing", /qemu-system-x86/));
});

test("a program that ends before it answers is told with what it said", () => {
  assert.throws(() => startQemu({ program: process.execPath, timeout: 10 }), fails("qemu-start", /bad option/));
});

test("a socket on which nobody listens is told", () => {
  assert.throws(() => connectQtest("/nonexistent/socket"), fails("qemu-start", /no connection/));
});

test.run();
