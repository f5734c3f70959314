/**
 * The cards of this folder as their hostile tests want them: running, and with what is worth doing to them. Not part of the
 * package's face.
 */
import type { Nic } from "../../../src/contract/index.js";
import { rtl8139, rtl8169 } from "../index.js";
import { ipFrame, MAC, PEER, type Rig } from "../testing.js";
import { sendSlot, startCPlus, startOld } from "./8139.js";

/** Guest memory of these runs. */
export const BASE = 0x1_0000;
export const SIZE = 0x8000;

/** A card, and what is worth doing to it. */
export interface Victim {
  readonly name: string;
  readonly create: () => Nic;
  /** offsets where something happens, and a few where nothing should */
  readonly offsets: readonly number[];
  /** values that set things going, or make no sense */
  readonly values: readonly number[];
  /** sets it up and running, so that random steps meet something */
  start(rig: Rig): void;
  /** bits of TxConfig that name the chip, and what they are */
  readonly version: { readonly mask: number; readonly value: number };
  /** `[offset, bit]` of the register image that no snapshot may set, or clear */
  readonly fixed: readonly (readonly [at: number, bit: number])[];
}

const OFFSETS_8169 = [
  0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x20, 0x24, 0x28, 0x2c, 0x34, 0x37, 0x38, 0x3c, 0x3e, 0x40, 0x44, 0x48, 0x4c,
  0x50, 0x52, 0x54, 0x56, 0x58, 0x60, 0x63, 0x6c, 0x84, 0xda, 0xe0, 0xe0, 0xe2, 0xe4, 0xe8, 0xfc,
];
const VALUES_8169 = [
  0,
  1,
  0x04,
  0x08,
  0x0c,
  0x10,
  0x40,
  0x80,
  0x8a,
  0x8c,
  0xc0,
  0xc1,
  0xff,
  0x0f,
  0xe70f,
  0x0800,
  0x0302_0700,
  0x0301_0700,
  BASE,
  BASE + 8,
  BASE + 0x100,
  BASE + 0x400,
  BASE + SIZE - 0x100,
  BASE + SIZE,
  0x8000_9000,
  0x8000_1200,
  0x800e_0200,
  0x0001_0000,
  0x801f_0001,
  0xffff_ffff,
  0x7fff_ffff,
  0x1f_ffff,
  0x0060,
  0x006b,
  0xf1f1_0060,
  0x5100,
  0x8000_4000,
];

const fillRings = (rig: Rig): void => {
  for (let i = 0; i < 16; i++) {
    rig.descriptor(BASE + 16 * i, i % 3 === 2 ? 0x4000_0000 : 0xb000_0040, BASE + 0x2000);
    rig.descriptor(BASE + 0x100 + 16 * i, 0x8000_0100 + (i === 15 ? 0x4000_0000 : 0), BASE + 0x4000 + 0x100 * i);
  }
};

const start8169 = (rig: Rig): void => {
  fillRings(rig);
  rig.put(BASE + 0x2000, ipFrame({ to: PEER, payload: 1500 }));
  rig.startTx(BASE);
  rig.startRx(BASE + 0x100, 0x0f);
  rig.w16(0x3c, 0xffff);
};

const OFFSETS_8139 = [
  0x00, 0x04, 0x08, 0x0c, 0x10, 0x11, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x37, 0x38, 0x3a, 0x3c, 0x3e,
  0x40, 0x44, 0x48, 0x4c, 0x50, 0x52, 0x54, 0x58, 0x5b, 0x60, 0x62, 0x63, 0x64, 0x66, 0x74, 0xd8, 0xd9, 0xe0, 0xe4,
  0xe8, 0xec,
];
const VALUES_8139 = [
  0,
  1,
  0x04,
  0x08,
  0x0c,
  0x10,
  0x3c,
  0x40,
  0x80,
  0x8c,
  0xc0,
  0xc1,
  0xff,
  0x0f,
  0x8f,
  0x1f0f,
  0x0003,
  0x000b,
  0x007b,
  0x0400,
  0x1200,
  0x8000,
  0xfff0,
  0x0034,
  0x0306_0700,
  0x0301_0701,
  BASE,
  BASE + 8,
  BASE + 0x100,
  BASE + 0x400,
  BASE + 0x4000,
  BASE + SIZE - 0x100,
  BASE + SIZE,
  0x0000_2040,
  0x0000_0600,
  0xffff_ffff,
];
/** CR.RST, what is reserved in CR, CLRABT, the name of the chip, CONFIG1's own bits, reserved registers */
const FIXED_8139 = [
  [0x37, 0x10],
  [0x37, 0x80],
  [0x40, 0x01],
  [0x43, 0x80],
  [0x52, 0x04],
  [0x5f, 0x01],
  [0x6d, 0x01],
  [0xda, 0x01],
] as const;

const victim8139 = (name: string, chip: "RTL8139C" | "RTL8139C+", value: number, start: Victim["start"]): Victim => ({
  name,
  create: () => rtl8139({ chip, mac: MAC }),
  offsets: OFFSETS_8139,
  values: VALUES_8139,
  start: (rig) => {
    start(rig);
    rig.w16(0x3c, 0xffff);
  },
  version: { mask: 0xfcc0_0000, value },
  fixed: FIXED_8139,
});

export const VICTIMS: readonly Victim[] = [
  {
    name: "RTL8169SB",
    create: () => rtl8169({ mac: MAC, wake: true }),
    offsets: OFFSETS_8169,
    values: VALUES_8169,
    start: start8169,
    version: { mask: 0xfcf0_0000, value: 0x1000_0000 },
    fixed: [
      [0x37, 0x10],
      [0x37, 0x80],
      [0x40, 0x01],
      [0x43, 0x80],
      [0x53, 0x01],
      [0x18, 0x01],
      [0x6d, 0x01],
    ],
  },
  victim8139("RTL8139C+", "RTL8139C+", 0x7480_0000, (rig) => {
    fillRings(rig);
    startCPlus(rig, BASE, BASE + 0x100, 0x0f);
  }),
  victim8139("RTL8139C", "RTL8139C", 0x7400_0000, (rig) => {
    startOld(rig, BASE + 0x4000, 0x0f);
    sendSlot(rig, 0, BASE, 60);
    sendSlot(rig, 2, BASE, 60);
  }),
];
