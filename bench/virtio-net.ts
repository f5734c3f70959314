/** virtio-net's packet paths, device side only: raw rings, a doorbell or an interrupt for each frame or for 16. */
import { benchPackets } from "./rig/packets.js";
import { report } from "./rig/report.js";
import { VirtioNetGuest } from "./rig/virtio-net-guest.js";

benchPackets((options) => new VirtioNetGuest(options));
await report();
