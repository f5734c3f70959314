/**
 * virtio-net's packet paths, device side only: raw rings, split and packed, a doorbell or an interrupt for each frame or for
 * 16; and what they leave on the heap.
 */
import { judge, packetPaths, virtioNames } from "./rig/garbage.js";
import { benchPackets, KINDS } from "./rig/packets.js";
import { report } from "./rig/report.js";
import { VirtioNetGuest } from "./rig/virtio-net-guest.js";

for (const ring of KINDS)
  benchPackets((options) => new VirtioNetGuest({ ...options, ring }), virtioNames(ring).large, ring);
await report();
await judge(
  KINDS.flatMap((ring) => packetPaths((options) => new VirtioNetGuest({ ...options, ring }), virtioNames(ring))),
);
