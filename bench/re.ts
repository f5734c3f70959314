/**
 * The RTL8169's packet paths, device side only: raw rings, a doorbell or an interrupt for each frame or for 16; and what they
 * leave on the heap.
 */
import { judge, packetPaths, RTL8169 } from "./rig/garbage.js";
import { benchPackets, benchReceive, LONGEST, SHORTEST } from "./rig/packets.js";
import { report } from "./rig/report.js";
import { Rtl8169Guest } from "./rig/rtl8169-guest.js";

const LARGE = RTL8169.large;

benchPackets((options) => new Rtl8169Guest(options), LARGE);
for (const length of [SHORTEST, LONGEST, LARGE])
  benchReceive(`receive ${length}, no FCS`, (options) => new Rtl8169Guest({ ...options, fcs: "zero" }), length, {
    large: length,
  });
await report();
await judge(packetPaths((options) => new Rtl8169Guest(options), RTL8169));
