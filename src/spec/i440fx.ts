import { defineRegisters } from "../regs/index.js";

/**
 * Device-specific configuration registers of the Intel 440FX (82441FX PMC) host bridge and of the PIIX3 (82371SB) ISA
 * bridge: names from the data sheets, reset values as QEMU 7.2's machine `pc` shows them (its own test of the i440FX says
 * that several are 0 where the data sheet is not).
 */

export const I440FX_DEVICE_ID = 0x1237;
export const PIIX3_ISA_DEVICE_ID = 0x7000;

/** Offset of the first byte of both tables in configuration space. */
export const CHIPSET_REGISTERS_AT = 0x40;

/** PMC, from 40h; offsets below are from there. */
export const I440FX_REGISTERS = defineRegisters(
  { name: "82441FX PMC", source: "Intel 440FX PCIset, 82441FX PMC data sheet (290549), §3.2", size: 0xc0 },
  {
    PMCCFG: { at: 0x10, width: 2, rw: 0xffff, doc: "PMC configuration" },
    DETURBO: { at: 0x12, width: 1, rw: 0xff, doc: "Deturbo counter" },
    DBC: { at: 0x13, width: 1, rw: 0xff, doc: "DBX buffer control" },
    AXC: { at: 0x14, width: 1, rw: 0xff, doc: "Auxiliary control" },
    DRT: { at: 0x15, width: 1, rw: 0xff, doc: "DRAM row type, rows 0–3" },
    DRT1: { at: 0x16, width: 1, rw: 0xff, doc: "DRAM row type, rows 4–7" },
    DRAMC: { at: 0x17, width: 1, rw: 0xff, reset: 0x10, doc: "DRAM control" },
    DRAMT: { at: 0x18, width: 1, rw: 0xff, doc: "DRAM timing" },
    PAM0: { at: 0x19, width: 1, rw: 0xff, doc: "Programmable attribute map: F0000–FFFFF" },
    PAM1: { at: 0x1a, width: 1, rw: 0xff, doc: "Programmable attribute map: C0000–C7FFF" },
    PAM2: { at: 0x1b, width: 1, rw: 0xff, doc: "Programmable attribute map: C8000–CFFFF" },
    PAM3: { at: 0x1c, width: 1, rw: 0xff, doc: "Programmable attribute map: D0000–D7FFF" },
    PAM4: { at: 0x1d, width: 1, rw: 0xff, doc: "Programmable attribute map: D8000–DFFFF" },
    PAM5: { at: 0x1e, width: 1, rw: 0xff, doc: "Programmable attribute map: E0000–E7FFF" },
    PAM6: { at: 0x1f, width: 1, rw: 0xff, doc: "Programmable attribute map: E8000–EFFFF" },
    DRB0: { at: 0x20, width: 4, rw: 0xffff_ffff, doc: "DRAM row boundaries 0–3" },
    DRB4: { at: 0x24, width: 4, rw: 0xffff_ffff, doc: "DRAM row boundaries 4–7" },
    FDHC: { at: 0x28, width: 1, rw: 0xff, doc: "Fixed DRAM hole control" },
    MTT: { at: 0x30, width: 1, rw: 0xff, doc: "Multi-transaction timer" },
    CLT: { at: 0x31, width: 1, rw: 0xff, doc: "CPU latency timer" },
    SMRAM: { at: 0x32, width: 1, rw: 0xff, reset: 0x02, doc: "System management RAM control" },
    ERRCMD: { at: 0x50, width: 1, rw: 0xff, doc: "Error command" },
    ERRSTS: { at: 0x51, width: 1, rw: 0xff, doc: "Error status" },
    TRC: { at: 0x53, width: 1, rw: 0xff, doc: "Turbo reset control" },
  },
);

/** PIIX3 function 0, from 40h; offsets below are from there. */
export const PIIX3_REGISTERS = defineRegisters(
  { name: "82371SB ISA bridge", source: "Intel 82371FB/82371SB PIIX/PIIX3 data sheet (290550), §2.2", size: 0xc0 },
  {
    IORT: { at: 0x0c, width: 1, rw: 0xff, reset: 0x4d, doc: "ISA I/O recovery timer" },
    XBCS: { at: 0x0e, width: 2, rw: 0xffff, reset: 0x0003, doc: "X-bus chip select" },
    PIRQRCA: { at: 0x20, width: 1, rw: 0x8f, reset: 0x80, hook: true, doc: "PIRQA# route control" },
    PIRQRCB: { at: 0x21, width: 1, rw: 0x8f, reset: 0x80, hook: true, doc: "PIRQB# route control" },
    PIRQRCC: { at: 0x22, width: 1, rw: 0x8f, reset: 0x80, hook: true, doc: "PIRQC# route control" },
    PIRQRCD: { at: 0x23, width: 1, rw: 0x8f, reset: 0x80, hook: true, doc: "PIRQD# route control" },
    TOM: { at: 0x29, width: 1, rw: 0xff, reset: 0x02, doc: "Top of memory" },
    MSTAT: { at: 0x2a, width: 2, rw: 0xffff, doc: "Miscellaneous status" },
    MBIRQ0: { at: 0x30, width: 1, rw: 0xff, reset: 0x80, doc: "Motherboard device IRQ route control" },
    MBDMA0: { at: 0x36, width: 1, rw: 0xff, reset: 0x0c, doc: "Motherboard device DMA control 0" },
    MBDMA1: { at: 0x37, width: 1, rw: 0xff, reset: 0x0c, doc: "Motherboard device DMA control 1" },
    PCSC: { at: 0x38, width: 2, rw: 0xffff, reset: 0x0002, doc: "Programmable chip select" },
    APICBASE: { at: 0x40, width: 1, rw: 0xff, doc: "APIC base address relocation" },
    DLC: { at: 0x42, width: 1, rw: 0xff, doc: "Deterministic latency control" },
    SMICNTL: { at: 0x60, width: 1, rw: 0xff, reset: 0x08, doc: "SMI control" },
    SMIEN: { at: 0x62, width: 2, rw: 0xffff, doc: "SMI enable" },
    SEE: { at: 0x64, width: 4, rw: 0xffff_ffff, doc: "System event enable" },
    FTMR: { at: 0x68, width: 1, rw: 0xff, reset: 0x0f, doc: "Fast off timer" },
    SMIREQ: { at: 0x6a, width: 2, rw: 0xffff, doc: "SMI request" },
    CTLTMR: { at: 0x6c, width: 1, rw: 0xff, doc: "Clock scale STPCLK# low timer" },
    CTHTMR: { at: 0x6e, width: 1, rw: 0xff, doc: "Clock scale STPCLK# high timer" },
  },
);
