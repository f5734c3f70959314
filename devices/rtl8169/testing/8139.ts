/** The rig of this folder with an RTL8139, and its two modes set up in one call. Not part of the package's face. */
import { type Rtl8139Options, rtl8139 } from "../index.js";
import { MAC, Rig, type RigOptions } from "../testing.js";

type Surroundings = Pick<RigOptions, "strictness" | "bar" | "windows">;

/** A C+ without other options. */
export const rig8139 = (options: Rtl8139Options = {}, surroundings: Surroundings = {}): Rig =>
  new Rig({ ...surroundings, create: () => rtl8139({ mac: MAC, ...options }) });

/** The old mode as 8139too sets it up: receive buffer at `buffer`, everything accepted that is for this station. */
export const startOld = (rig: Rig, buffer: number, rcr = 0x0a): Rig => {
  rig.w8(0x37, 0x10);
  rig.w32(0x30, buffer);
  rig.w8(0x37, 0x0c);
  rig.w32(0x44, rcr);
  rig.w32(0x40, 0x0300_0700);
  rig.w16(0x3e, 0xffff);
  return rig;
};

/** The C+ mode as 8139cp sets it up: rings at `tx` and `rx`. */
export const startCPlus = (rig: Rig, tx: number, rx: number, rcr = 0x0a, cpcr = 0x0b): Rig => {
  rig.w8(0x37, 0x10);
  rig.w16(0xe0, cpcr);
  rig.w32(0xe4, rx);
  rig.w32(0xe8, 0);
  rig.w32(0x20, tx);
  rig.w32(0x24, 0);
  rig.w8(0x37, 0x0c);
  rig.w32(0x44, rcr);
  rig.w32(0x40, 0x0300_0700);
  rig.w16(0x3e, 0xffff);
  return rig;
};

/** Sends `length` bytes at `address` from a slot, as a driver does. */
export const sendSlot = (rig: Rig, slot: number, address: number, length: number): void => {
  rig.w32(0x20 + 4 * slot, address);
  rig.w32(0x10 + 4 * slot, length);
};
