import { bits } from "../../regs/index.js";
import { RTL8169_DECLARATIONS as R, RTL8169_TALLY, RTL8169_TALLY_SIZE } from "../../spec/rtl8169.js";
import { type BusSpace, type DmaMemory, DriverError } from "../types.js";

/** Statistics as the chip counts them. Data sheet p. 15 */
export type ReTally = { readonly [name in keyof typeof RTL8169_TALLY]: number };

const COMMAND = bits(R.DTCCR_L.fields.Cmd);
const POLLS = 1000;
const POLL_US = 1000;

/** Asks the chip for its statistics. @param block where to; @throws DriverError ETIMEDOUT */
export const dumpTally = (io: BusSpace, block: DmaMemory, delay: (us: number) => void): ReTally => {
  const { paddr } = block;
  block.sync(0, RTL8169_TALLY_SIZE, "preread");
  io.write4(R.DTCCR_H.at, Math.floor(paddr / 2 ** 32));
  io.write4(R.DTCCR_L.at, paddr >>> 0);
  io.write4(R.DTCCR_L.at, (paddr | COMMAND) >>> 0);
  for (let polls = 0; (io.read4(R.DTCCR_L.at) & COMMAND) !== 0; polls++) {
    if (polls === POLLS) throw new DriverError("ETIMEDOUT", `DTCCR.Cmd still set after ${polls} reads`);
    delay(POLL_US);
  }
  block.sync(0, RTL8169_TALLY_SIZE, "postread");
  const counter = ({ at, width }: { at: number; width: number }): number =>
    width === 2 ? block.read16(at) : block.read32(at) + (width === 8 ? block.read32(at + 4) * 2 ** 32 : 0);
  return Object.fromEntries(Object.entries(RTL8169_TALLY).map(([name, place]) => [name, counter(place)])) as ReTally;
};
