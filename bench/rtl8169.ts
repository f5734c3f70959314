/** The RTL8169's packet paths, device side only: raw rings, one interrupt or doorbell for each frame. */
import { benchCopy, benchReceive, benchTransmit, LONGEST, SHORTEST } from "./rig/packets.js";
import { report } from "./rig/report.js";
import { Rtl8169Guest } from "./rig/rtl8169-guest.js";

const strict = () => new Rtl8169Guest();
const lenient = () => new Rtl8169Guest([SHORTEST], { fcs: "zero" });
const sender = (fragments: readonly number[]) => new Rtl8169Guest(fragments);

benchCopy();
benchReceive("receive 60", strict, SHORTEST, "whole");
benchReceive("receive 1514", strict, LONGEST, "whole");
benchReceive("receive 1514 from another's RAM", strict, LONGEST, "in place");
benchReceive("receive 60, no FCS", lenient, SHORTEST, "whole");
benchReceive("receive 1514, no FCS", lenient, LONGEST, "whole");
benchTransmit("transmit 60", sender, [SHORTEST]);
benchTransmit("transmit 1514", sender, [LONGEST]);
benchTransmit("transmit 1514 from 3 descriptors", sender, [66, 724, 724]);
await report();
