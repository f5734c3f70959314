import { test } from "uvu";
import * as assert from "uvu/assert";
import { VIRTIO_BLK_CONFIG } from "./virtio-blk.js";

test("VIO-327 the fields of the device configuration lie where the standard has them", () => {
  assert.equal(
    VIRTIO_BLK_CONFIG.list.map(({ name, at, width }) => [name, at, width]),
    [
      ["capacity_lo", 0, 4],
      ["capacity_hi", 4, 4],
      ["size_max", 8, 4],
      ["seg_max", 12, 4],
      ["cylinders", 16, 2],
      ["heads", 18, 1],
      ["sectors", 19, 1],
      ["blk_size", 20, 4],
      ["physical_block_exp", 24, 1],
      ["alignment_offset", 25, 1],
      ["min_io_size", 26, 2],
      ["opt_io_size", 28, 4],
      ["writeback", 32, 1],
      ["num_queues", 34, 2],
      ["max_discard_sectors", 36, 4],
      ["max_discard_seg", 40, 4],
      ["discard_sector_alignment", 44, 4],
      ["max_write_zeroes_sectors", 48, 4],
      ["max_write_zeroes_seg", 52, 4],
      ["write_zeroes_may_unmap", 56, 1],
      ["max_secure_erase_sectors", 60, 4],
      ["max_secure_erase_seg", 64, 4],
      ["secure_erase_sector_alignment", 68, 4],
    ],
  );
});

test.run();
