import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readDisk } from "./disk.js";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const disk = (...args: string[]) => {
  const run = spawnSync(process.execPath, ["--import", "tsx", MAIN, "lab", "--disk", ...args], { encoding: "utf8" });
  return { status: run.status, stdout: run.stdout, stderr: run.stderr };
};
const sha256sum = (file: string) => execFileSync("sha256sum", [file], { encoding: "utf8" }).split(" ")[0];

const there = mkdtempSync(join(tmpdir(), "barwire-disk-"));
test.after(() => rmSync(there, { recursive: true }));
/** A file in which no two sectors are alike. */
const fileOf = (name: string, bytes: number): string => {
  const path = join(there, name);
  const words = new Uint32Array(Math.ceil(bytes / 4)).map((_, i) => Math.imul(i, 0x9e37_79b1));
  writeFileSync(path, new Uint8Array(words.buffer, 0, bytes));
  return path;
};

test("lab --disk prints what a kernel would, and the digest that sha256sum prints", () => {
  const file = fileOf("whole", 3 * 2 ** 20);
  const { status, stdout, stderr } = disk(file);
  assert.equal([status, stderr], [0, ""]);
  const lines = stdout.split("\n");
  assert.ok(lines.includes("vtblk0: <VirtIO Block Adapter> on virtio_pci0"), stdout);
  assert.ok(lines.includes("vtblk0: 3MB (6144 512 byte sectors)"), stdout);
  assert.ok(lines.includes(`SHA-256 (${file}) = ${sha256sum(file)}`), stdout);
  assert.match(stdout, /\n3145728 bytes at \d+\.\dMB\/s: 48 reads, \d+ doorbells, \d+ interrupts\n$/);
});

test("whatever its length, a file's bytes are hashed and no padding", () => {
  for (const bytes of [1, 511, 512, 513, 65_536, 65_537, 1_234_567]) {
    const file = fileOf(`odd-${bytes}`, bytes);
    const reading = readDisk(file, true);
    assert.equal(
      [reading.file, reading.bytes, reading.sectors, reading.blockSize, reading.ident, reading.sha256],
      [file, bytes, Math.ceil(bytes / 512), 512, `odd-${bytes}`, sha256sum(file)],
    );
    assert.equal([reading.counters.reads, reading.diagnostics], [Math.ceil(bytes / 65_536), []]);
  }
});

test("lab --disk --json prints the same as data", () => {
  const file = fileOf("json", 5000);
  const { status, stdout } = disk(file, "--json");
  assert.is(status, 0);
  const { seconds, mbPerSecond, ...printed } = JSON.parse(stdout);
  const { seconds: _s, mbPerSecond: _m, ...reading } = readDisk(file, true);
  assert.equal(printed, reading);
  assert.ok(seconds > 0 && mbPerSecond > 0);
});

const unreadable = fileOf("secret", 512);
chmodSync(unreadable, 0);
const empty = join(there, "empty");
writeFileSync(empty, "");
for (const [what, ...args] of [
  ["a file that is not there", "/nonexistent"],
  ["a folder", there],
  ["an empty file", empty],
  ["an option that goes with the cards", fileOf("good", 512), "--nic", "re"],
  // Root may read everything.
  ...(process.getuid?.() === 0 ? [] : [["a file that may not be read", unreadable] as const]),
] as const)
  test(`lab --disk with ${what}: one line on stderr, exit status 2`, () => {
    const { status, stdout, stderr } = disk(...args);
    assert.equal([status, stdout], [2, ""]);
    assert.match(stderr, /^barwire: [^\n]+\n$/);
  });

test.run();
