import type { AccessWidth } from "../../../contract/index.js";
import type { QtestTarget } from "./target.js";

/** The widest access of a register. */
const WIDEST = 4;
/** Addresses from here on are nobody's. */
const END = 2n ** 52n;

/** Width of the next access to registers: the largest power of two that fits the rest and the alignment. */
const widthAt = (address: number, rest: number): AccessWidth => {
  if (rest >= WIDEST && address % WIDEST === 0) return WIDEST;
  return rest >= 2 && address % 2 === 0 ? 2 : 1;
};

/** Where a block lies that some memory may answer; null: nowhere. */
const inReach = (address: bigint, length: number): number | null =>
  address + BigInt(length) <= END ? Number(address) : null;

/** Reads a block: RAM at once, registers by the widest accesses that fit. Without an answer it reads 0. */
export const readBlock = (target: QtestTarget, address: bigint, length: number): Buffer => {
  const block = Buffer.alloc(length);
  const base = inReach(address, length);
  if (base === null) return block;
  for (let done = 0; done < length; ) {
    const ram = target.ramAt(base + done);
    if (ram !== null) {
      const part = Math.min(ram.length, length - done);
      block.set(ram.subarray(0, part), done);
      done += part;
      continue;
    }
    const width = widthAt(base + done, length - done);
    block.writeUIntLE(target.memRead(base + done, width), done, width);
    done += width;
  }
  return block;
};

/** Writes a block: RAM at once, registers by the widest accesses that fit. */
export const writeBlock = (target: QtestTarget, address: bigint, block: Buffer): void => {
  const base = inReach(address, block.length);
  if (base === null) return;
  for (let done = 0; done < block.length; ) {
    const ram = target.ramAt(base + done);
    if (ram !== null) {
      const part = Math.min(ram.length, block.length - done);
      ram.set(block.subarray(done, done + part));
      done += part;
      continue;
    }
    const width = widthAt(base + done, block.length - done);
    target.memWrite(base + done, width, block.readUIntLE(done, width));
    done += width;
  }
};
