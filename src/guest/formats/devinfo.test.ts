import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceInfo } from "../types.js";
import { devinfo } from "./devinfo.js";

const deviceOf = (fields: Partial<DeviceInfo>): DeviceInfo => ({
  nameunit: null,
  desc: "",
  state: "notpresent",
  bus: "pci",
  pnpinfo: "",
  location: "",
  resources: [],
  children: [],
  ...fields,
});

const TREE = deviceOf({
  nameunit: "root0",
  state: "attached",
  bus: "",
  children: [
    deviceOf({
      nameunit: "pci0",
      state: "attached",
      bus: "root",
      children: [
        deviceOf({
          pnpinfo: "vendor=0x8086 device=0x1237 subvendor=0x0000 subdevice=0x0000 class=0x060000",
          location: "slot=0 function=0",
        }),
        deviceOf({
          nameunit: "virtio_pci0",
          state: "attached",
          pnpinfo: "vendor=0x1af4 device=0x1000 subvendor=0x1af4 subdevice=0x0001 class=0x020000",
          location: "slot=3 function=0",
          resources: [
            { type: "ioport", rid: 0x10, start: 0xc0a0, end: 0xc0bf },
            { type: "memory", rid: 0x14, start: 0xfebd_1000, end: 0xfebd_1fff },
            { type: "irq", rid: 0, start: 11, end: 11 },
          ],
          children: [deviceOf({ nameunit: "vtnet0", state: "busy", bus: "virtio" })],
        }),
      ],
    }),
  ],
});

test("PRB-079 two spaces a level, and unknown for what has no driver", () => {
  assert.is(
    devinfo(TREE, { verbose: true }),
    [
      "pci0",
      "  unknown pnpinfo vendor=0x8086 device=0x1237 subvendor=0x0000 subdevice=0x0000 class=0x060000 at slot=0 function=0",
      "  virtio_pci0 pnpinfo vendor=0x1af4 device=0x1000 subvendor=0x1af4 subdevice=0x0001 class=0x020000 at slot=3 function=0",
      "    vtnet0",
      "",
    ].join("\n"),
  );
});

test("without -v only what is attached is shown", () => {
  assert.is(devinfo(TREE), "pci0\n  virtio_pci0\n    vtnet0\n");
});

test("resources stand below their device, four deeper, and their ranges four deeper again", () => {
  assert.is(
    devinfo(TREE, { resources: true }),
    [
      "pci0",
      "  virtio_pci0",
      "      Interrupt request lines:",
      "          0xb",
      "      I/O ports:",
      "          0xc0a0-0xc0bf",
      "      I/O memory addresses:",
      "          0xfebd1000-0xfebd1fff",
      "    vtnet0",
      "",
    ].join("\n"),
  );
});

test("what is disabled or asleep says so", () => {
  const tree = deviceOf({
    children: [
      deviceOf({ nameunit: "re0", flags: ["disabled"] }),
      deviceOf({ nameunit: "re1", state: "attached", flags: ["suspended"], location: "slot=4 function=0" }),
    ],
  });
  assert.is(devinfo(tree, { verbose: true }), "re0 (disabled)\nre1 at slot=4 function=0 (suspended)\n");
});

test.run();
