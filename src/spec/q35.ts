import { defineRegisters } from "../regs/index.js";

/** Names and numbers of the memory controller of Intel's Q35 chipset, as far as PCI Express needs them. */

export const Q35_MCH_DEVICE_ID = 0x29c0;

/** Offset of the first byte of the table in configuration space. */
export const MCH_REGISTERS_AT = 0x60;
/** offsets from there */
export const MCH_PCIEXBAR = 0x00;
export const MCH_PCIEXBAREN = 0x1;
/** 0: 256 MiB, 1: 128, 2: 64, 3: reserved */
export const MCH_PCIEXBAR_LENGTH_SHIFT = 1;
export const MCH_PCIEXBAR_LENGTH = 0x3;
export const MCH_PCIEXBAR_UPPER = 0x04;

/** From 60h on; offsets below are from there. */
export const Q35_MCH_REGISTERS = defineRegisters(
  { name: "Q35 MCH", source: "Intel 3 Series Express Chipset Family data sheet (316966), §5.1.15", size: 0x08 },
  {
    PCIEXBAR: {
      at: MCH_PCIEXBAR,
      width: 4,
      rw: 0xfc00_0007,
      hook: true,
      fields: { ENABLE: [0, 0], LENGTH: [2, 1], ADDRESS: [31, 26] },
      doc: "Where configuration space is in memory",
    },
    PCIEXBAR_UPPER: { at: MCH_PCIEXBAR_UPPER, width: 4, rw: 0x0000_000f, hook: true, doc: "Address bits 35:32" },
  },
);
