import type { FakeFunction } from "./fake-bus.js";

/** 00:04.0 */
export const BDF = 0x20;

/**
 * A card with everything, by raw numbers: ports c000 (256), memory febd1000 (4 KiB, MSI-X table at 0 and pending bits at
 * 800h), a 64-bit prefetchable window at fe000000 (16 KiB), ROM of 64 KiB; power management at 40h, MSI (64 bits, 4
 * messages) at 50h, MSI-X (3 entries) at 70h; INTA# on IRQ 11.
 */
export const CARD: FakeFunction = {
  bdf: BDF,
  config: {
    0: 0x816810ec,
    4: 0x0010_0000,
    8: 0x02000005,
    16: 0xc001,
    20: 0xfebd1000,
    24: 0xfe00000c,
    44: 0x012310ec,
    48: 0xfeb0_0000,
    52: 0x40,
    60: 0x010b,
    64: 0xfe03_5001, // D1, D2, PME; next 50h
    80: 0x0084_7005, // 64 bits, 4 messages; next 70h
    112: 0x0002_0011, // 3 entries; last
    116: 0x0000_0001,
    120: 0x0000_0801,
  },
  bars: {
    0: { kind: "io", size: 0x100 },
    1: { kind: "mem32", size: 0x1000 },
    2: { kind: "mem64", size: 0x4000 },
    6: { kind: "mem32", size: 0x1_0000 },
  },
  writable: { 68: 0x0000_0103, 80: 0x0071_0000, 84: 0xffff_fffc, 88: 0xffff_ffff, 92: 0xffff, 112: 0xc000_0000 },
};
