import { test } from "uvu";
import * as assert from "uvu/assert";
import { VIRTIO_NET_CONFIG } from "./virtio-net.js";

test("VIO-228 VIO-229 the fields of the device configuration lie where the standard has them", () => {
  assert.equal(
    VIRTIO_NET_CONFIG.list.map(({ name, at, width }) => [name, at, width]),
    [
      ["mac0", 0, 1],
      ["mac1", 1, 1],
      ["mac2", 2, 1],
      ["mac3", 3, 1],
      ["mac4", 4, 1],
      ["mac5", 5, 1],
      ["status", 6, 2],
      ["max_virtqueue_pairs", 8, 2],
      ["mtu", 10, 2],
      ["speed", 12, 4],
      ["duplex", 16, 1],
      ["rss_max_key_size", 17, 1],
      ["rss_max_indirection_table_length", 18, 2],
      ["supported_hash_types", 20, 4],
      ["supported_tunnel_types", 24, 4],
    ],
  );
});

test.run();
