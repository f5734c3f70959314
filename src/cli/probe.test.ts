import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "./args.js";
import { probe } from "./probe.js";

/** In process: main.ts prints the message of a UsageError as one line and ends with status 2. */
const refuses = (args: string[], message: RegExp): void =>
  assert.throws(
    () => probe(args),
    (error: unknown) => error instanceof UsageError && message.test(error.message) && !error.message.includes("\n"),
    args.join(" "),
  );

test("what --qemu and --qtest do not go with is refused", () => {
  refuses(["--net", "stream"], /--net means nothing without --qemu/);
  refuses(["--old-mode"], /--old-mode means nothing without --qemu/);
  refuses(["--qemu", "-device rtl8139", "--net", "foo"], /no network "foo"; there are stream, dgram, pair/);
  refuses(["--qemu", "-device rtl8139", "--card", "re"], /--card means nothing/);
  refuses(["--qemu", "-device rtl8139", "--seed", "x"], /seed "x"/);
  refuses(["--qtest", "/nonexistent", "--seed", "1"], /--seed means nothing/);
  refuses(["--qtest", "/nonexistent"], /\/nonexistent: no connection/);
});

test("probe --qemu without a QEMU names the package that has it", () => {
  const path = process.env.PATH;
  process.env.PATH = "/nonexistent";
  try {
    refuses(["--qemu", "-device rtl8139"], /^no qemu-system-x86_64: install Debian's package qemu-system-x86 /);
    refuses(["--qemu", "-device 'rtl8139"], /a quote does not end/);
  } finally {
    process.env.PATH = path;
  }
});

test.run();
