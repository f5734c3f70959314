/** virtio-net's packet paths, device side only: raw rings, one interrupt or doorbell for each frame. */
import { benchCopy, benchReceive, benchTransmit, LONGEST, SHORTEST } from "./rig/packets.js";
import { report } from "./rig/report.js";
import { VirtioNetGuest } from "./rig/virtio-net-guest.js";

const guest = () => new VirtioNetGuest();
const sender = (fragments: readonly number[]) => new VirtioNetGuest(fragments);

benchCopy();
benchReceive("receive 60", guest, SHORTEST, "whole");
benchReceive("receive 1514", guest, LONGEST, "whole");
benchReceive("receive 1514 from another's RAM", guest, LONGEST, "in place");
benchTransmit("transmit 60", sender, [SHORTEST]);
benchTransmit("transmit 1514", sender, [LONGEST]);
benchTransmit("transmit 1514 from 3 descriptors", sender, [66, 724, 724]);
await report();
