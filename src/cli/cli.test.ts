import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseSize, UsageError } from "./args.js";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

const barwire = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", MAIN, ...args], {
    encoding: "utf8",
    timeout: 60_000,
  });
  return { status, stdout, stderr };
};

test("sizes are binary, as in scp", () => {
  assert.is(parseSize("200MB"), 209_715_200);
  assert.is(parseSize("16M"), 16_777_216);
  assert.is(parseSize("1k"), 1024);
  assert.is(parseSize("2GB"), 2_147_483_648);
  assert.is(parseSize("7"), 7);
  for (const wrong of ["0", "", "-1", "1.5M", "5Q", "MB", "99999999999999999999"])
    assert.throws(
      () => parseSize(wrong),
      (error: unknown) => error instanceof UsageError,
      wrong,
    );
});

for (const args of [
  ["lab", "--nic", "foo"],
  ["lab", "--size", "0"],
  ["lab", "--file", "/nonexistent"],
  ["lab", "--seed", "-1"],
  ["lab", "--frob"],
  ["lab", "--matrix", "foo"],
  ["lab", "--matrix", "virtio", "--nic", "re"],
  ["lab", "--nic", "8139x"],
  ["lspci", "--card", "foo"],
  ["frob"],
])
  test(`barwire ${args.join(" ")}: one line on stderr, exit status 2`, () => {
    const { status, stdout, stderr } = barwire(...args);
    assert.is(status, 2);
    assert.is(stdout, "");
    assert.match(stderr, /^barwire: [^\n]+\n$/);
  });

test("cards go behind bridges by the way there, and the tree shows them", () => {
  const cards = ["bridge@05.0", "bridge@05.0/02.0", "vtnet@05.0/02.0/04.0", "8169@05.0/03.0"];
  const args = cards.flatMap((card) => ["--card", card]);
  assert.is(
    barwire("lspci", "-t", ...args).stdout,
    "-[0000:00]-+-00.0\n           +-01.0\n           \\-05.0-[01-02]--+-02.0-[02]----04.0\n" +
      "                           \\-03.0\n",
  );
  assert.match(barwire("lspci", "--card", "vtnet@05.0/04.0").stderr, /--card vtnet@05.0\/04.0: .*bridge/);
});

test("every Realtek chip goes by its part number, and the list of cards names them all", () => {
  const { stderr } = barwire("lspci", "--card", "foo");
  const chips = "8169 8169s 8110s 8169sb 8169sc 8169sce 8139 8139a 8139a-g 8139b 8130 8139c 8100 8139d 8101 8139c+";
  assert.is(
    stderr,
    `barwire: no card "foo"; there are re, vtnet, ${chips.split(" ").join(", ")}, vtblk, vtmouse, bridge\n`,
  );
  const { status, stdout } = barwire("lspci", "-n", ...chips.split(" ").flatMap((chip) => ["--card", chip]));
  assert.is(status, 0);
  const ids = stdout.split("\n").flatMap((line) => /0200: 10ec:(\S+ \(rev \d+\))/.exec(line)?.[1] ?? []);
  const olds = new Array<string>(9).fill("8139 (rev 10)");
  const gigabit = [...new Array<string>(4).fill("8169 (rev 10)"), "8167 (rev 10)", "8167 (rev 10)"];
  assert.equal(ids, [...gigabit, ...olds, "8139 (rev 20)"]);
  const { stdout: lines } = barwire("probe", "--card", "8169sc", "--card", "8139c", "--card", "8139c+");
  assert.match(
    lines,
    /re0: <RealTek 8169SC\/8110SC.*\n(.*\n)*rl0: <RealTek 8139 10\/100BaseTX>.*\n(.*\n)*re1: <RealTek 8139C\+/,
  );
});

test("a pipe is no file and no disk, and nobody waits for who would write to it", () => {
  const there = mkdtempSync(join(tmpdir(), "barwire-"));
  try {
    const pipe = join(there, "pipe");
    execFileSync("mkfifo", [pipe]);
    for (const option of ["disk", "file"]) {
      const { status, stderr } = barwire("lab", `--${option}`, pipe);
      assert.is(status, 2);
      assert.is(stderr, `barwire: ${option} "${pipe}": not a regular file\n`);
    }
  } finally {
    rmSync(there, { recursive: true });
  }
});

test("the lab sends a file, and its digest is the file's", () => {
  const there = mkdtempSync(join(tmpdir(), "barwire-"));
  try {
    const file = join(there, "odd");
    writeFileSync(file, Buffer.alloc(1_234_567, "the quick brown fox "));
    const { status, stdout } = barwire("lab", "--nic", "re", "--file", file, "--json");
    assert.is(status, 0);
    const { rows } = JSON.parse(stdout) as { rows: { direction: string; bytes: number; sha256Received: string }[] };
    const sum = execFileSync("sha256sum", [file], { encoding: "utf8" }).split(" ")[0];
    assert.equal(
      rows.map(({ direction, bytes, sha256Received }) => ({ direction, bytes, sha256Received })),
      ["out", "in"].map((direction) => ({ direction, bytes: 1_234_567, sha256Received: sum })),
    );
  } finally {
    rmSync(there, { recursive: true });
  }
});

test("the same seed gives the same run, but for the time it took", () => {
  const run = () => {
    const { rows } = JSON.parse(barwire("lab", "--size", "300K", "--seed", "7", "--json").stdout) as {
      rows: { seconds: number; mbPerSecond: number }[];
    };
    return rows.map(({ seconds, mbPerSecond, ...row }) => row);
  };
  assert.equal(run(), run());
});

test("the matrix moves every byte in every combination, and offloads leave a twentieth of the frames", () => {
  const { status, stdout } = barwire("lab", "--matrix", "virtio", "--size", "1MB", "--json");
  assert.is(status, 0);
  const { rows, leastFall } = JSON.parse(stdout) as {
    leastFall: number;
    rows: {
      modern: boolean;
      packed: boolean;
      offloads: boolean;
      peerOffloads: boolean;
      equal: boolean;
      notApplicable: string | null;
      frames: number;
      exits: number;
      indirect: boolean;
      eventIdx: boolean;
      mergeable: boolean;
    }[];
  };
  const TOLD_APART = ["modern", "indirect", "eventIdx", "mergeable", "offloads", "peerOffloads"] as const;
  assert.is(rows.length, 64 + 4);
  const combined = rows.filter(({ notApplicable }) => notApplicable === null);
  assert.ok(rows.filter(({ modern, packed }) => packed && !modern).every((row) => row.notApplicable !== null));
  assert.is(combined.filter(({ packed, peerOffloads, offloads }) => !packed && peerOffloads === offloads).length, 32);
  assert.is(combined.filter(({ peerOffloads, offloads }) => peerOffloads !== offloads).length, 4);
  // With 1460 bytes to a segment a megabyte takes 719 of them, and an acknowledgement for every second one.
  for (const row of combined) {
    assert.ok(row.equal && row.exits > 0);
    if (!row.offloads) assert.ok(row.frames >= 719 * 1.5);
    // Which format a ring has changes nothing about who must be told of it.
    const split = combined.find((other) => !other.packed && TOLD_APART.every((key) => other[key] === row[key]));
    if (row.modern)
      assert.ok(row.exits <= 1.05 * split!.exits, `${row.exits} exits, ${split!.exits} with a split ring`);
  }
  assert.ok(leastFall >= 20);
});

test.run();
