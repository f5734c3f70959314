import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type LspciOptions, lspci } from "./lspci.js";
import { readPciDump, writePciDump } from "./pci-dump.js";
import type { PciListing } from "./pci-function.js";
import { NO_NAMES, type PciNames, readPciIds } from "./pci-names.js";

const FIXTURES = fileURLToPath(new URL("../../../fixtures/lspci/", import.meta.url));

/** Options by their letters in the name of a fixture. */
const LETTERS: { readonly [letters: string]: LspciOptions } = {
  n: { ids: "numbers" },
  nn: { ids: "both" },
  v: { verbose: 1 },
  vv: { verbose: 2 },
  vvv: { verbose: 3 },
  x: { hex: "x" },
  xxx: { hex: "xxx" },
  t: { tree: true },
  D: { domains: true },
};

const readFixture = (file: string): string => readFileSync(join(FIXTURES, file), "utf8");

/** Where two texts part, so that a failure shows one line and not two files. */
const firstDifference = (actual: string, expected: string): string | null => {
  if (actual === expected) return null;
  const [a, b] = [actual.split("\n"), expected.split("\n")];
  const line = b.findIndex((text, i) => text !== a[i]);
  return `line ${line + 1}: ${JSON.stringify(a[line])} instead of ${JSON.stringify(b[line])}`;
};

/** Every fixture whose name has all of `wanted`, compared with what we print. */
const compare = (wanted: (words: readonly string[]) => boolean): number => {
  let compared = 0;
  for (const file of readdirSync(FIXTURES).filter((name) => name.endsWith(".txt"))) {
    const [dump, ...words] = file.slice(0, -4).split(".");
    if (!wanted(words)) continue;
    const listings = readPciDump(readFixture(`${dump}.dump`));
    const options: LspciOptions = Object.assign({}, ...words.map((word) => LETTERS[word]));
    const text = lspci(listings, words[0] === "names" ? options : { ...options, names: NO_NAMES });
    assert.is(firstDifference(text, readFixture(file)), null, file);
    compared++;
  }
  return compared;
};

test("PRB-077 the listing equals lspci's own for -n, -nn, -v and -vv without a names file", () => {
  const asked = new Set(["n", "nn", "v", "vv", "vvv"]);
  const isAsked = (words: readonly string[]): boolean => words.length > 0 && words.every((word) => asked.has(word));
  assert.ok(compare(isAsked) >= 14);
});

test("so it does with names, without options, in hexadecimal, with domains, and as a tree", () => {
  assert.ok(compare((words) => words[0] === "names") >= 10);
  assert.ok(compare((words) => words.some((word) => ["x", "xxx", "D", "t"].includes(word))) >= 10);
  assert.ok(compare((words) => words.length === 0) >= 2);
});

test("what only the system knows: sizes, the routed interrupt, the driver", () => {
  const virtio = readPciDump(readFixture("running.dump")).find(({ bdf }) => bdf === 0x18)!;
  const text = lspci([{ ...virtio, sizes: { 0: 32, 1: 4096, 4: 16384 }, irq: 17, driver: "virtio-pci" }], {
    verbose: 1,
    names: NO_NAMES,
  });
  assert.equal(text.split("\n").slice(0, 6), [
    "00:03.0 Class 0200: Device 1af4:1000",
    "\tSubsystem: Device 1af4:0001",
    "\tFlags: bus master, fast devsel, latency 0, IRQ 17",
    "\tI/O ports at c0a0 [size=32]",
    "\tMemory at febd2000 (32-bit, non-prefetchable) [size=4K]",
    "\tMemory at fe000000 (64-bit, prefetchable) [size=16K]",
  ]);
  assert.match(text, /\n\tKernel driver in use: virtio-pci\n\n$/);
});

test("a size is printed in the largest unit that divides it", () => {
  const config = new Uint8Array(256);
  config[0x10] = 1;
  const sizeOf = (size: number): string | undefined =>
    /\[size=.*\]/.exec(lspci([{ bdf: 0, config, sizes: { 0: size } }], { verbose: 1 }))?.[0];
  assert.is(sizeOf(256), "[size=256]");
  assert.is(sizeOf(1024), "[size=1K]");
  assert.is(sizeOf(1536), "[size=1536]");
  assert.is(sizeOf(2 ** 20), "[size=1M]");
  assert.is(sizeOf(2 ** 31), "[size=2G]");
});

test("the upper half of an address is no region where the system tells the sizes", () => {
  const config = new Uint8Array(256);
  config.set([0x0c, 0, 0, 0xfd, 0x12, 0, 0, 0], 0x10);
  const regions = (listing: Partial<PciListing>): string[] =>
    lspci([{ bdf: 0, config, ...listing }], { verbose: 2 })
      .split("\n")
      .filter((line) => line.startsWith("\tRegion"));
  assert.equal(regions({ sizes: { 0: 65536 } }), [
    "\tRegion 0: Memory at 12fd000000 (64-bit, prefetchable) [disabled] [size=64K]",
  ]);
  assert.is(regions({}).length, 2, "as lspci itself does with a dump");
});

test("an ordinary user sees 64 bytes, and no capability", () => {
  const [listing] = readPciDump(readFixture("running.dump"));
  const config = listing!.config.slice(0, 64);
  config[6] = 0x10;
  config[0x34] = 0x40;
  assert.match(lspci([{ bdf: 0, config }], { verbose: 1 }), /\n\tCapabilities: <access denied>\n\n$/);
  assert.is(
    lspci([{ bdf: 0, config }], { hex: "xxx" })
      .trimEnd()
      .split("\n").length,
    5,
  );
});

test("functions are listed in the order of their addresses, with domains where there are several", () => {
  const config = new Uint8Array(64);
  const slots = (listings: readonly PciListing[]): string[] =>
    lspci(listings, { ids: "numbers" })
      .trimEnd()
      .split("\n")
      .map((line) => line.split(" ")[0]!);
  const some = [0x0109, 0x0020, 0x0018].map((bdf) => ({ bdf, config }));
  assert.equal(slots(some), ["00:03.0", "00:04.0", "01:01.1"]);
  assert.equal(slots([{ bdf: 8, domain: 1, config }, ...some])[3], "0001:00:01.0");
});

test("random bytes never throw, and a list of capabilities always ends", () => {
  const config = fc.uint8Array({ minLength: 64, maxLength: 256 });
  fc.assert(
    fc.property(fc.array(config, { maxLength: 4 }), (configs) => {
      const listings = configs.map((bytes, i) => ({ bdf: i * 8, config: bytes }));
      for (const options of Object.values(LETTERS)) {
        const text = lspci(listings, { ...options, names: NO_NAMES });
        assert.ok(text.length < 20_000 * (listings.length + 1));
      }
    }),
    { numRuns: 60 },
  );
});

const isInstalled = spawnSync("lspci", ["--version"], { encoding: "utf8" }).stdout?.startsWith("lspci version 3.9.");
const withLspci = isInstalled === true ? test : test.skip; // other versions print other words

/** Plausible headers and capability lists out of random bytes; ids that we do not decode are left out. */
const randomFunction = fc
  .record({
    bytes: fc.uint8Array({ minLength: 256, maxLength: 256 }),
    blank: fc.boolean(),
    vendor: fc.constantFrom(0x1af4, 0x10ec, 0x1234),
    device: fc.constantFrom(0x1000, 0x1041, 0x8169),
    headerType: fc.constantFrom(0, 0, 1, 0x80, 0x81, 3),
    class: fc.constantFrom(0x02_00_00, 0x06_04_00, 0x06_00_00, 0x01_01_80, 0x00_ff_00),
    bars: fc.array(fc.constantFrom(0, 1, 4, 0xc, 0xc001, 0xfebc0000, 0xfd00000c, 0xffffffff), { maxLength: 6 }),
    capabilities: fc.uniqueArray(fc.integer({ min: 0x10, max: 0x3c }), { maxLength: 6 }),
    ids: fc.array(fc.constantFrom(0, 1, 3, 4, 5, 9, 9, 0xa, 0xc, 0xd, 0x11, 0x13, 0x7f), {
      minLength: 6,
      maxLength: 6,
    }),
  })
  .map((f) => {
    const config = f.blank ? new Uint8Array(256) : f.bytes.slice();
    const view = new DataView(config.buffer);
    view.setUint16(0, f.vendor, true);
    view.setUint16(2, f.device, true);
    config[6] = config[6]! | 0x10;
    view.setUint16(10, f.class >>> 8, true);
    config[9] = f.class;
    config[14] = f.headerType;
    for (let i = 0; i < ((f.headerType & 0x7f) === 0 ? 6 : 2); i++) view.setUint32(0x10 + 4 * i, f.bars[i] ?? 0, true);
    let last = 0x34;
    for (const [i, dword] of f.capabilities.entries()) {
      config[last] = dword * 4;
      config[dword * 4] = f.ids[i]!;
      if (f.ids[i] === 9) config[dword * 4 + 2] = 0x14;
      last = dword * 4 + 1;
    }
    config[last] = 0;
    return config;
  });

withLspci("PRB-077 the real lspci prints the same of random functions", () => {
  const folder = mkdtempSync(join(tmpdir(), "lspci-"));
  try {
    // A fixed seed: a failure is then the same tomorrow, and its text is one line and not ten thousand bytes.
    const configs = fc.sample(randomFunction, { numRuns: 200, seed: 20110123 });
    const path = join(folder, "functions.dump");
    writeFileSync(path, writePciDump(configs.map((config, i) => ({ bdf: i * 8 + (i % 8), config }))));
    for (const letters of ["nn", "v", "vv", "vvv", "t", "xxx"]) {
      const real = spawnSync("lspci", ["-i", "/dev/null", "-F", path, `-${letters}`], { encoding: "latin1" });
      const ours = lspci(readPciDump(readFileSync(path, "utf8")), { ...LETTERS[letters], names: NO_NAMES });
      assert.is(firstDifference(ours, real.stdout), null, letters);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

const IDS = "/usr/share/misc/pci.ids";
const publicList = (): PciNames | null => {
  try {
    return readPciIds(readFileSync(IDS, "utf8"));
  } catch {
    return null;
  }
};
const names = isInstalled === true ? publicList() : null;
const withNames = names === null ? test.skip : test; // needs lspci 3.9 and the public list of names
withNames("with the public list of names, too", () => {
  for (const dump of ["reset", "running", "odd"]) {
    const path = join(FIXTURES, `${dump}.dump`);
    const real = spawnSync("lspci", ["-i", IDS, "-F", path, "-nn", "-v"], { encoding: "utf8" }).stdout;
    const ours = lspci(readPciDump(readFixture(`${dump}.dump`)), { ids: "both", verbose: 1, names: names! });
    assert.is(firstDifference(ours, real), null, dump);
  }
});

test.run();
