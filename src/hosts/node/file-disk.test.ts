import { chmodSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../bytes/index.js";
import { FileDisk } from "./index.js";

/** Runs with the path of a file of these bytes, and takes it away. */
const withFile = (bytes: Uint8Array, run: (path: string) => void): void => {
  const there = mkdtempSync(join(tmpdir(), "barwire-disk-"));
  try {
    const path = join(there, "disk image.raw");
    writeFileSync(path, bytes);
    run(path);
  } finally {
    rmSync(there, { recursive: true });
  }
};
const BYTES = Uint8Array.from({ length: 1300 }, (_, i) => (i * 7) & 0xff);

test("reads what the file holds, and zeros up to the end of its last sector", () => {
  withFile(BYTES, (path) => {
    const disk = new FileDisk(path);
    assert.equal([disk.size, disk.fileSize, disk.readOnly, disk.id], [1536, 1300, true, "diskimage.raw"]);
    const target = new Uint8Array(600).fill(0xee);
    assert.ok(disk.read(1024, target, 10, 512));
    assert.equal(target.slice(10, 286), BYTES.slice(1024));
    assert.equal(target.slice(286, 522), new Uint8Array(236));
    assert.equal([target[9], target[522]], [0xee, 0xee]);
    assert.ok(disk.read(1400, target, 0, 100) && target.subarray(0, 100).every((b) => b === 0));
    assert.ok(disk.flush());
    disk[Symbol.dispose]();
    disk[Symbol.dispose]();
    assert.not(disk.read(0, target, 0, 512), "closed: an error, not an exception");
  });
});

test("writes where it is allowed to, clears, and puts it on the medium", () => {
  withFile(BYTES, (path) => {
    const closed = new FileDisk(path);
    assert.not(closed.write(0, BYTES, 0, 512));
    assert.not(closed.writeZeroes(0, 512));
    closed[Symbol.dispose]();
    const disk = new FileDisk(path, { readOnly: false, id: "it" });
    assert.is(disk.id, "it");
    assert.ok(disk.write(512, BYTES, 100, 512) && disk.writeZeroes(0, 256) && disk.flush());
    const expected = BYTES.slice();
    expected.set(BYTES.subarray(100, 612), 512);
    expected.fill(0, 0, 256);
    assert.equal(new Uint8Array(readFileSync(path)), expected);
    assert.ok(disk.write(1024, new Uint8Array(512).fill(1), 0, 512));
    assert.is(readFileSync(path).length, 1536);
    const target = new Uint8Array(1);
    assert.ok(disk.read(1535, target, 0, 1) && target[0] === 1);
    disk[Symbol.dispose]();
    assert.not(disk.flush());
  });
});

test("a file that is cut short gives errors, not zeros", () => {
  withFile(BYTES, (path) => {
    const disk = new FileDisk(path);
    truncateSync(path, 600);
    const target = new Uint8Array(512);
    assert.ok(disk.read(0, target, 0, 512));
    assert.not(disk.read(512, target, 0, 512));
    disk[Symbol.dispose]();
  });
});

test("what cannot be opened is told at once", () => {
  const refused = (path: string, readOnly: boolean, text: RegExp) =>
    assert.throws(
      () => new FileDisk(path, { readOnly }),
      (error: unknown) => error instanceof ConfigError && error.code === "file-disk" && text.test(error.message),
    );
  refused("/nonexistent", true, /^disk "\/nonexistent": ENOENT/);
  refused(tmpdir(), true, /not a regular file/);
  withFile(BYTES, (path) => {
    chmodSync(path, 0o400);
    // Root may write everything.
    if (process.getuid?.() !== 0) refused(path, false, /EACCES/);
  });
});

test.run();
