import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../../bytes/index.js";
import { NO_NAMES, OWN_NAMES, readPciIds } from "./pci-names.js";

test("vendors, devices, subsystems and classes are read from a list in the public format", () => {
  const names = readPciIds(
    [
      "# a comment",
      "",
      "1af4  Red Hat, Inc.",
      "\t1000  Virtio network device",
      "\t\t1af4 0001  A card",
      "C 06  Bridge",
      "\t04  PCI bridge",
      "\t\t01  Subtractive decode",
      "V 1af4  Something of no interest",
      "\t0001  Nor this",
    ].join("\n"),
  );
  assert.is(names.vendors.get(0x1af4), "Red Hat, Inc.");
  assert.is(names.devices.get(0x1af4_1000), "Virtio network device");
  assert.is(names.subsystems.get(0x1af4_1000)?.get(0x1af4_0001), "A card");
  assert.is(names.baseClasses.get(6), "Bridge");
  assert.is(names.classes.get(0x0604), "PCI bridge");
  assert.is(names.progIfs.get(0x06_04_01), "Subtractive decode");
  assert.equal([names.vendors.size, names.devices.size, names.classes.size], [1, 1, 1]);
});

test("a line that is none of these is refused with its number", () => {
  assert.throws(
    () => readPciIds("1af4  Red Hat, Inc.\n\tbad\n"),
    (error: unknown) => error instanceof ConfigError && error.code === "pci-ids" && /line 2/.test(error.message),
  );
});

test("our own list has the cards that we model", () => {
  for (const id of [0x10ec_8139, 0x10ec_8169, 0x1af4_1000, 0x1af4_1001, 0x1af4_1041, 0x1af4_1042, 0x8086_1237])
    assert.ok(OWN_NAMES.devices.has(id), id.toString(16));
  assert.is(NO_NAMES.vendors.size, 0);
});

test.run();
