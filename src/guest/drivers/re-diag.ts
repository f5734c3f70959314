import { bits } from "../../regs/index.js";
import { BMCR_LOOP, BMCR_RESET, MII_BMCR, RTL8169_DECLARATIONS as R } from "../../spec/rtl8169.js";
import { type BusSpace, DriverError } from "../types.js";
import { ETHER_CRC_LEN, ETHER_HDR_LEN } from "./ifnet.js";
import type { MiiBus } from "./mii.js";

/**
 * The loopback diagnostic of re(4): some boards of the first 8169 had their bus wired as 64 bits wide in slots of 32, and
 * lost data in every DMA. One frame goes round inside the chip; what comes back must be what went out.
 */

/** What the diagnostic needs of its card. */
export interface DiagCard {
  readonly io: BusSpace;
  /** the PHY, which is put into loopback, too; null where it is left alone, as DragonFly does on the C+ */
  readonly phy: MiiBus | null;
  /** Initialises the chip for the test: promiscuous, looped, no interrupts, the timer restarted by each frame. */
  start(): void;
  stop(): void;
  /** Sends a frame of which only the header matters. */
  send(header: Uint8Array, length: number): void;
  /** @returns bytes of the frame in the first receive buffer, FCS included, its header in `header`; 0: none */
  received(header: Uint8Array): number;
  delay(us: number): void;
}

const ROK_AND_TIMEOUT = bits(R.ISR.fields.ROK) | bits(R.ISR.fields.TimeOut);
/** RL_INTRS_CPLUS */
const INTRS = 0xc07f;
const POLLS = 1000;
/** bytes, FCS left off and included */
const LENGTH = 60;
const LENGTH_BACK = LENGTH + ETHER_CRC_LEN;
const SETTLE_US = 100_000;
const FRAME = Uint8Array.of(0, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0, 0x77, 0x6f, 0x72, 0x6c, 0x64, 8, 0); // hello world, IPv4

/** Runs the diagnostic and leaves the chip stopped. @throws DriverError EIO */
export const reDiag = (card: DiagCard): void => {
  const { io, phy } = card;
  try {
    card.start();
    if (phy !== null) {
      phy.writereg(MII_BMCR, BMCR_RESET);
      for (let polls = 0; polls < POLLS && (phy.readreg(MII_BMCR) & BMCR_RESET) !== 0; polls++);
      phy.writereg(MII_BMCR, BMCR_LOOP);
      io.write2(R.ISR.at, INTRS);
      card.delay(SETTLE_US);
    } else {
      card.stop();
      card.delay(SETTLE_US);
      card.start();
    }
    io.write2(R.ISR.at, 0xffff);
    card.send(FRAME, LENGTH);
    card.delay(SETTLE_US);
    waitForBoth(card);
    const header = new Uint8Array(ETHER_HDR_LEN);
    const length = card.received(header);
    if (length !== LENGTH_BACK) throw failed(`received short packet, ${length} bytes`);
    if (header.some((byte, i) => byte !== FRAME[i])) throw failed("DMA FAILURE: what came back is not what was sent");
  } finally {
    card.stop();
  }
};

/** Both causes must show in one read: drivers acknowledge what they read, all but DragonFly's on the C+. */
const waitForBoth = ({ io, phy, delay }: DiagCard): void => {
  for (let polls = 0; polls < POLLS; polls++) {
    const status = io.read2(R.ISR.at);
    if (phy !== null) io.write2(R.ISR.at, status);
    if ((status & ROK_AND_TIMEOUT) === ROK_AND_TIMEOUT) return;
    delay(10);
  }
  throw failed("failed to receive packet in loopback mode");
};

const failed = (why: string): DriverError => new DriverError("EIO", `diagnostic failed: ${why}`);
