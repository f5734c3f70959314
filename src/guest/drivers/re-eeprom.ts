import { bits, withField } from "../../regs/index.js";
import {
  EEM_CONFIG_WRITE,
  EEM_NORMAL,
  EEM_PROGRAM,
  EEPROM_OP_READ,
  EEPROM_SIGNATURE,
  EEPROM_TYPES,
  EEPROM_WORDS,
  RTL8169_DECLARATIONS as R,
} from "../../spec/rtl8169.js";
import type { BusSpace } from "../types.js";
import { ETHER_ADDR_LEN } from "./ifnet.js";

/* What every RealTek chip keeps behind 9346CR: the lock of its configuration, and the serial EEPROM. */

const AT = R.Cr9346.at;
const CFG_UNLOCK = withField(0, R.Cr9346.fields.EEM, EEM_CONFIG_WRITE);
const CFG_LOCK = withField(0, R.Cr9346.fields.EEM, EEM_NORMAL);
const EE_PROGRAM = withField(0, R.Cr9346.fields.EEM, EEM_PROGRAM);
const EE_CS = bits(R.Cr9346.fields.EECS);
const EE_SK = bits(R.Cr9346.fields.EESK);
const EE_DI = bits(R.Cr9346.fields.EEDI);
const EE_DO = bits(R.Cr9346.fields.EEDO);

/** Lets configuration registers and the station address be written. */
export const unlockConfig = (io: BusSpace): void => io.write1(AT, CFG_UNLOCK);
export const lockConfig = (io: BusSpace): void => io.write1(AT, CFG_LOCK);

/**
 * Reads words over the EEPROM's four wires, a read-modify-write for each edge. Data sheet of the 93C46: start bit, opcode,
 * address, most significant bit first
 */
export const readEeprom = (io: BusSpace, word: number, count: number, addressBits: number): Uint16Array => {
  const set = (wires: number): void => io.write1(AT, io.read1(AT) | wires);
  const clear = (wires: number): void => io.write1(AT, io.read1(AT) & ~wires);
  const words = new Uint16Array(count);
  set(EE_PROGRAM);
  for (let i = 0; i < count; i++) {
    set(EE_CS);
    const command = (((1 << 2) | EEPROM_OP_READ) << addressBits) | (word + i);
    // One zero goes before the start bit, and is ignored.
    for (let bit = addressBits + 3; bit >= 0; bit--) {
      if (((command >>> bit) & 1) !== 0) set(EE_DI);
      else clear(EE_DI);
      set(EE_SK);
      clear(EE_SK);
    }
    let value = 0;
    for (let bit = 15; bit >= 0; bit--) {
      set(EE_SK);
      if ((io.read1(AT) & EE_DO) !== 0) value |= 1 << bit;
      clear(EE_SK);
    }
    words[i] = value;
    clear(EE_CS);
  }
  clear(EE_PROGRAM);
  return words;
};

/** The station address: from the EEPROM, which answers to 6 or 8 address bits; from IDR where neither gives an address. */
export const readStationAddress = (io: BusSpace, mac: Uint8Array): void => {
  const wide = EEPROM_TYPES["93C56"].addressBits;
  const signature = readEeprom(io, EEPROM_WORDS.signature, 1, wide)[0]!;
  const width = signature === EEPROM_SIGNATURE ? wide : EEPROM_TYPES["93C46"].addressBits;
  for (const [i, word] of readEeprom(io, EEPROM_WORDS.mac, ETHER_ADDR_LEN / 2, width).entries()) {
    mac[2 * i] = word & 0xff;
    mac[2 * i + 1] = word >>> 8;
  }
  if ((mac[0]! & 1) === 0 && mac.some((byte) => byte !== 0)) return;
  for (let i = 0; i < ETHER_ADDR_LEN; i++) mac[i] = io.read1(R.IDR0.at + i);
};

/** Writes the station address, which is locked: two dwords, the second with two bytes of nothing. */
export const writeStationAddress = (io: BusSpace, mac: Uint8Array): void => {
  const view = new DataView(mac.buffer, mac.byteOffset);
  unlockConfig(io);
  io.write4(R.IDR0.at, view.getUint32(0, true));
  io.write4(R.IDR4.at, view.getUint16(4, true));
  lockConfig(io);
};
