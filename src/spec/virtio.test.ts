import { test } from "uvu";
import * as assert from "uvu/assert";
import { legacyQueueBytes, legacyUsedOffset, VIRTIO_PCI_COMMON, VIRTIO_PCI_LEGACY } from "./virtio.js";

test("VIO-133 the legacy header has the widths and places of the standard", () => {
  assert.equal(
    VIRTIO_PCI_LEGACY.list.map(({ name, at, width }) => [name, at, width]),
    [
      ["device_features", 0x00, 4],
      ["driver_features", 0x04, 4],
      ["queue_address", 0x08, 4],
      ["queue_size", 0x0c, 2],
      ["queue_select", 0x0e, 2],
      ["queue_notify", 0x10, 2],
      ["device_status", 0x12, 1],
      ["isr_status", 0x13, 1],
      ["config_msix_vector", 0x14, 2],
      ["queue_msix_vector", 0x16, 2],
    ],
  );
});

test("the common configuration has the widths and places of the standard", () => {
  assert.equal(
    VIRTIO_PCI_COMMON.list.map(({ at, width }) => [at, width]),
    [
      [0x00, 4],
      [0x04, 4],
      [0x08, 4],
      [0x0c, 4],
      [0x10, 2],
      [0x12, 2],
      [0x14, 1],
      [0x15, 1],
      [0x16, 2],
      [0x18, 2],
      [0x1a, 2],
      [0x1c, 2],
      [0x1e, 2],
      [0x20, 4],
      [0x24, 4],
      [0x28, 4],
      [0x2c, 4],
      [0x30, 4],
      [0x34, 4],
      [0x38, 2],
      [0x3a, 2],
      [0x3c, 2],
      [0x3e, 2],
    ],
  );
});

test("VIO-139 legacy rings of 64, 256 and 1024 have the sizes of the standard", () => {
  assert.equal(
    [64, 256, 1024].map((size) => [legacyUsedOffset(size), legacyQueueBytes(size)]),
    [
      [4096, 8192],
      [8192, 12288],
      [20480, 32768],
    ],
  );
});

test.run();
