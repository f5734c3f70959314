import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../bytes/index.js";
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

test("a network of no kind we know is refused before anything starts", () => {
  const tap = { n0: "tap" as unknown as "stream" };
  assert.throws(
    () => startQemu({ program: "/nonexistent/qemu", networks: tap }),
    (error: unknown) => error instanceof ConfigError && /"tap": expected stream, dgram, pair/.test(error.message),
  );
});

test("a program that ends before it answers is told with what it said", () => {
  assert.throws(() => startQemu({ program: process.execPath, timeout: 10 }), fails("qemu-start", /bad option/));
});

test("a socket on which nobody listens is told", () => {
  assert.throws(
    () => connectQtest("/nonexistent/socket"),
    fails("qemu-start", /^\/nonexistent\/socket: no connection/),
  );
});

test("an address may stand as QEMU's -qtest has it, and one that is none is refused", () => {
  assert.throws(
    () => connectQtest("unix:/nonexistent/socket"),
    fails("qemu-start", /^\/nonexistent\/socket: no connection/),
  );
  assert.throws(() => connectQtest("tcp:127.0.0.1:1"), fails("qemu-start", /^127\.0\.0\.1:1: .*ECONNREFUSED/));
  for (const address of ["", "unix:", "tcp:127.0.0.1", "localhost:99999", ":0", undefined as unknown as string])
    assert.throws(() => connectQtest(address), fails("qemu-start", /expected PATH or HOST:PORT/), address);
});

test.run();
