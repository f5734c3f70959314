import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readPciDump } from "./pci-dump.js";
import type { PciListing } from "./pci-function.js";
import { pciconf } from "./pciconf.js";

const listings = readPciDump(readFileSync(new URL("../../../fixtures/lspci/running.dump", import.meta.url), "utf8"));
const at = (bdf: number): PciListing => listings.find((listing) => listing.bdf === bdf)!;
/** The virtio-net card of the dump at 00:03.0, as a system sees it. */
const VIRTIO = { ...at(0x18), nameunit: "vtnet0", sizes: { 0: 32, 1: 4096, 4: 16384 } };

test("the head names unit, place, class and ids", () => {
  assert.is(
    pciconf([VIRTIO]),
    "vtnet0@pci0:0:3:0:\tclass=0x020000 rev=0x00 hdr=0x00 vendor=0x1af4 device=0x1000 subvendor=0x1af4 subdevice=0x0001\n",
  );
  assert.is(
    pciconf([VIRTIO], { older: true }),
    "vtnet0@pci0:0:3:0:\tclass=0x020000 card=0x00011af4 chip=0x10001af4 rev=0x00 hdr=0x00\n",
  );
});

test("PRB-078 what has no driver is none0, none1 and so on in the order of addresses, and sizes are decimal", () => {
  const slots = [{ ...at(0x20) }, { ...at(0x00) }, VIRTIO, { ...at(0x08) }];
  const text = pciconf(slots);
  assert.equal(
    text
      .trimEnd()
      .split("\n")
      .map((line) => line.split(":\t")[0]),
    ["none0@pci0:0:0:0", "none1@pci0:0:1:0", "vtnet0@pci0:0:3:0", "none2@pci0:0:4:0"],
  );
  assert.equal(pciconf([VIRTIO], { bars: true }).trimEnd().split("\n").slice(1), [
    "    bar   [10] = type I/O Port, range 32, base 0xc0a0, size 32, enabled",
    "    bar   [14] = type Memory, range 32, base 0xfebd2000, size 4096, enabled",
    "    bar   [20] = type Prefetchable Memory, range 64, base 0xfe000000, size 16384, enabled",
  ]);
});

test("a bar that is not decoded is disabled", () => {
  const config = VIRTIO.config.slice();
  config[4] = 1;
  const states = pciconf([{ ...VIRTIO, config }], { bars: true }).match(/enabled|disabled/g);
  assert.equal(states, ["enabled", "disabled", "disabled"]);
});

test("names and classes in words", () => {
  assert.equal(pciconf([VIRTIO], { verbose: true }).trimEnd().split("\n").slice(1), [
    "    vendor     = 'Red Hat, Inc.'",
    "    device     = 'Virtio network device'",
    "    class      = network",
    "    subclass   = ethernet",
  ]);
});

test("capabilities with their ids and offsets", () => {
  const lines = pciconf([VIRTIO], { capabilities: true }).trimEnd().split("\n").slice(1);
  assert.equal(lines.slice(0, 3), [
    "    cap 11[98] = MSI-X supports 4 messages, enabled",
    "                 Table in map 0x14[0x0], PBA in map 0x14[0x800]",
    "    cap 09[84] = vendor (length 20)",
  ]);
  assert.is(lines.length, 7);
  const rtl8169 = pciconf([at(0x108)], { capabilities: true }).split("\n");
  assert.is(rtl8169[1], "    cap 01[dc] = powerspec 2  supports D0 D1 D2 D3  current D0");
  assert.is(rtl8169[2], "    cap 03[60] = VPD");
});

test("a message capability tells what it can and what it was given", () => {
  const config = new Uint8Array(256);
  config[6] = 0x10;
  config[0x34] = 0x50;
  config.set([5, 0, 0x80, 0], 0x50);
  const msi = (): string | undefined => pciconf([{ bdf: 0, config }], { capabilities: true }).split("\n")[1];
  assert.is(msi(), "    cap 05[50] = MSI supports 1 message, 64 bit");
  config.set([5, 0, 0xa5, 1], 0x50);
  assert.is(msi(), "    cap 05[50] = MSI supports 4 messages, 64 bit, vector masks enabled with 4 messages");
});

test("a bridge shows its buses and windows", () => {
  const lines = pciconf([at(0x30)], { bars: true })
    .trimEnd()
    .split("\n");
  assert.is(
    lines[0],
    "none0@pci0:0:6:0:\tclass=0x060400 rev=0x00 hdr=0x01 vendor=0x1b36 device=0x0001 subvendor=0x0000 subdevice=0x0000",
  );
  assert.equal(lines.slice(1), [
    "    bus range  = 1-2",
    "    window[1c] = type I/O Port, range 32, addr 0xd000-0xdfff, enabled",
    "    window[20] = type Memory, range 32, addr 0xfe800000-0xfe9fffff, enabled",
    "    window[24] = type Prefetchable Memory, range 64, addr 0x1fd000000-0x1fdffffff, enabled",
  ]);
  const closed = pciconf([at(0x110)], { bars: true })
    .trimEnd()
    .split("\n")
    .slice(2);
  assert.ok(closed.every((line) => line.endsWith("disabled")));
});

test("a list of capabilities that goes round ends", () => {
  const text = pciconf([at(0x108)], { capabilities: true });
  assert.is(text.trimEnd().split("\n").length, 1 + 48);
});

test.run();
