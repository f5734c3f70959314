import { crc32, ETHER_ADDR_LEN, isBroadcast } from "../../src/bytes/index.js";
import { bits } from "../../src/regs/index.js";
import { RTL8169, RTL8169_RX_STATUS } from "../../src/spec/rtl8169.js";

const RCR = RTL8169.regs.RCR.fields;
const AAP = bits(RCR.AAP!);
const APM = bits(RCR.APM!);
const AM = bits(RCR.AM!);
const AB = bits(RCR.AB!);
const MAR = bits(RTL8169_RX_STATUS.MAR);
const PAM = bits(RTL8169_RX_STATUS.PAM);
const BAR = bits(RTL8169_RX_STATUS.BAR);

/** Answer of `match` for a frame that is not for this card. */
export const NOT_FOR_US = -1;

/**
 * Bit of the multicast hash table for a group address: the top six bits of the CRC register, most significant bit first
 * and not inverted. `crc32` shifts the other way and inverts, so they are its last six bits backwards, complemented.
 */
export const hashIndex = (bytes: Uint8Array, start: number): number => {
  const crc = ~crc32(bytes, start, ETHER_ADDR_LEN);
  return (
    ((crc & 1) << 5) | ((crc & 2) << 3) | ((crc & 4) << 1) | ((crc & 8) >>> 1) | ((crc & 16) >>> 3) | ((crc & 32) >>> 5)
  );
};

/** The address filter: derived from RCR, IDR and MAR whenever one of them changes, never saved. */
export class AddressFilter {
  #rcr = 0;
  #idr0 = 0; // bytes 0–3 and 4–5 of the station address as the registers hold them: two compares a frame
  #idr4 = 0;
  #mar0 = 0;
  #mar4 = 0;

  set(rcr: number, idr0: number, idr4: number, mar0: number, mar4: number): void {
    this.#rcr = rcr;
    this.#idr0 = idr0 | 0;
    this.#idr4 = idr4;
    this.#mar0 = mar0;
    this.#mar4 = mar4;
  }

  /** Whether the hash table has the bit of a group address. */
  isInTable(bytes: Uint8Array, start: number): boolean {
    const index = hashIndex(bytes, start);
    return (((index < 32 ? this.#mar0 : this.#mar4) >>> (index & 31)) & 1) !== 0;
  }

  /** Whether the destination is this station. */
  isStation(bytes: Uint8Array, start: number): boolean {
    const head = bytes[start]! | (bytes[start + 1]! << 8) | (bytes[start + 2]! << 16) | (bytes[start + 3]! << 24);
    return head === this.#idr0 && (bytes[start + 4]! | (bytes[start + 5]! << 8)) === this.#idr4;
  }

  /** @returns MAR, PAM or BAR of the receive status, 0 for another station's frame taken by AAP, or NOT_FOR_US */
  match(bytes: Uint8Array, start: number): number {
    if ((bytes[start]! & 1) !== 0) {
      if (isBroadcast(bytes, start)) return (this.#rcr & AB) !== 0 ? BAR : NOT_FOR_US;
      if ((this.#rcr & AM) === 0) return NOT_FOR_US;
      return this.isInTable(bytes, start) ? MAR : NOT_FOR_US;
    }
    if (this.isStation(bytes, start)) return (this.#rcr & (APM | AAP)) !== 0 ? PAM : NOT_FOR_US;
    return (this.#rcr & AAP) !== 0 ? 0 : NOT_FOR_US;
  }
}
