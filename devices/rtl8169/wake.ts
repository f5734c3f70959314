import { ETHER_ADDR_LEN, ETHER_HDR_LEN, isBroadcast } from "../../src/bytes/index.js";
import { bits, type RegisterFile } from "../../src/regs/index.js";
import { RTL8169, RTL8169_WAKEUP_FRAMES } from "../../src/spec/rtl8169.js";
import type { AddressFilter } from "./filter.js";

const { regs: R } = RTL8169;
const PMEN = bits(R.CONFIG1.fields.PMEn!);
const MAGIC = bits(R.CONFIG3.fields.Magic!);
const LINKUP = bits(R.CONFIG3.fields.LinkUp!);
const BWF = bits(R.CONFIG5.fields.BWF!);
const MWF = bits(R.CONFIG5.fields.MWF!);
const UWF = bits(R.CONFIG5.fields.UWF!);

/** What a sleeping card was woken by: a Magic Packet, a wake-up frame, a plain frame of one of three kinds, or the cable. */
export type WakeReason = "magic" | "frame" | "unicast" | "multicast" | "broadcast" | "link";

const SYNC_LEN = 6;
const REPEATS = 16;
const MAGIC_LEN = SYNC_LEN + REPEATS * ETHER_ADDR_LEN;

/** Whether six bytes FFh and sixteen times the station address stand anywhere in a frame. */
const hasMagic = (bytes: Uint8Array, start: number, length: number, regs: RegisterFile): boolean => {
  const last = start + length - MAGIC_LEN;
  for (let at = start; at <= last; at++) {
    let matched = 0;
    while (matched < SYNC_LEN && bytes[at + matched] === 0xff) matched++;
    if (matched < SYNC_LEN) continue;
    while (matched < MAGIC_LEN && bytes[at + matched] === regs.get(R.IDR0.at + (matched % ETHER_ADDR_LEN), 1))
      matched++;
    if (matched === MAGIC_LEN) return true;
  }
  return false;
};

/** CRC-16 with the polynomial of ITU-T V.41, most significant bit first, from FFFFh. Assumption: no source tells which. */
const crc16 = (crc: number, byte: number): number => {
  let c = crc ^ (byte << 8);
  for (let bit = 0; bit < 8; bit++) c = (c & 0x8000) !== 0 ? ((c << 1) ^ 0x1021) & 0xffff : c << 1;
  return c;
};

/**
 * What wakes a sleeping card: it looks at frames while the function is in D3hot, with the receiver on or off. Only
 * frames for this station, for everybody or for a group in the hash table count; CONFIG1.PMEn switches all of it.
 */
export class Wake {
  readonly #regs: RegisterFile;
  readonly #filter: AddressFilter;

  constructor(regs: RegisterFile, filter: AddressFilter) {
    this.#regs = regs;
    this.#filter = filter;
  }

  get #enabled(): boolean {
    return (this.#regs.get(R.CONFIG1.at, 1) & PMEN) !== 0;
  }

  /** The link came back. @returns whether that wakes */
  link(): boolean {
    return this.#enabled && (this.#regs.get(R.CONFIG3.at, 1) & LINKUP) !== 0;
  }

  /** A frame came. @returns what of it wakes, or null */
  frame(bytes: Uint8Array, start: number, length: number): WakeReason | null {
    if (!this.#enabled || length < ETHER_HDR_LEN) return null;
    const regs = this.#regs;
    const broadcast = isBroadcast(bytes, start);
    const group = (bytes[start]! & 1) !== 0;
    if (!broadcast && !(group ? this.#filter.isInTable(bytes, start) : this.#filter.isStation(bytes, start)))
      return null;
    if ((regs.get(R.CONFIG3.at, 1) & MAGIC) !== 0 && hasMagic(bytes, start, length, regs)) return "magic";
    for (const { mask, bytes: size, crc } of RTL8169_WAKEUP_FRAMES)
      if (this.#matches(bytes, start, length, mask, size, crc)) return "frame";
    const config5 = regs.get(R.CONFIG5.at, 1);
    if (broadcast) return (config5 & BWF) !== 0 ? "broadcast" : null;
    if (group) return (config5 & MWF) !== 0 ? "multicast" : null;
    return (config5 & UWF) !== 0 ? "unicast" : null;
  }

  /** Bit n of a mask chooses byte n of the frame; without any bit the wake-up frame is not in use. */
  #matches(bytes: Uint8Array, start: number, length: number, mask: number, size: number, crcAt: number): boolean {
    const regs = this.#regs;
    let crc = 0xffff;
    let chosen = 0;
    for (let n = 0; n < 8 * size; n++) {
      if (((regs.get(mask + (n >>> 3), 1) >>> (n & 7)) & 1) === 0) continue;
      if (n >= length) return false;
      crc = crc16(crc, bytes[start + n]!);
      chosen++;
    }
    return chosen > 0 && crc === regs.get(crcAt, 2);
  }
}
