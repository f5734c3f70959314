/** The RTL8169's packet paths, device side only: raw rings, a doorbell or an interrupt for each frame or for 16. */
import { benchPackets, benchReceive, LONGEST, SHORTEST } from "./rig/packets.js";
import { report } from "./rig/report.js";
import { Rtl8169Guest } from "./rig/rtl8169-guest.js";

benchPackets((options) => new Rtl8169Guest(options));
benchReceive("receive 60, no FCS", (options) => new Rtl8169Guest({ ...options, fcs: "zero" }), SHORTEST);
benchReceive("receive 1514, no FCS", (options) => new Rtl8169Guest({ ...options, fcs: "zero" }), LONGEST);
await report();
