import { defineRegisters } from "../regs/index.js";

/**
 * Names and numbers of conventional PCI: PCI Local Bus Specification 3.0, PCI Bus Power Management Interface 1.2.
 * Where the standard prints a phrase, the name is the one that operating systems use for it (pci_regs.h, pcireg.h).
 */

// ------------------------------------------------------------------------------------------------ limits

/** Bytes of a function's configuration space. PCI 3.0 §6.1 */
export const PCI_CONFIG_SIZE = 0x100;
/** Bytes of the predefined header; capabilities and device-specific registers follow. */
export const PCI_STD_HEADER_SIZEOF = 0x40;
export const PCI_MAX_BUSES = 256;
export const PCI_MAX_DEVICES = 32;
export const PCI_MAX_FUNCTIONS = 8;
/** Base address registers of a type 0 header. */
export const PCI_STD_NUM_BARS = 6;
/** Index of the expansion ROM where BARs are numbered. */
export const PCI_ROM_RESOURCE = 6;
/** Ports of an x86 CPU. */
export const PCI_IO_SPACE_SIZE = 0x1_0000;

/** bus << 8 | device << 3 | function */
export const pciBdf = (bus: number, device: number, fn = 0): number => (bus << 8) | (device << 3) | fn;
export const pciBus = (bdf: number): number => (bdf >>> 8) & 0xff;
export const pciDevice = (bdf: number): number => (bdf >>> 3) & 0x1f;
export const pciFunction = (bdf: number): number => bdf & 7;
/** `00:03.0`, as lspci prints it. */
export const formatBdf = (bdf: number): string =>
  `${pciBus(bdf).toString(16).padStart(2, "0")}:${pciDevice(bdf).toString(16).padStart(2, "0")}.${pciFunction(bdf)}`;

// ------------------------------------------------------------------------------------------------ configuration ports

/** Configuration mechanism #1. PCI 3.0 §3.2.2.3.2 */
export const PCI_CONFIG_ADDRESS = 0xcf8;
export const PCI_CONFIG_DATA = 0xcfc;
export const PCI_CONFIG_ENABLE = 0x8000_0000;
/** Reset control register of PIIX3: a byte port inside the range of CONFIG_ADDRESS. */
export const PIIX_RESET_CONTROL = 0xcf9;
/** A reset is hard (platform) while this bit is set. */
export const PIIX_RC_SYSTEM_RESET = 0x02;
/** 0 → 1 resets. */
export const PIIX_RC_RESET_CPU = 0x04;

// ------------------------------------------------------------------------------------------------ type 0 header, §6.1

export const PCI_VENDOR_ID = 0x00;
export const PCI_DEVICE_ID = 0x02;
export const PCI_COMMAND = 0x04;
export const PCI_STATUS = 0x06;
export const PCI_REVISION_ID = 0x08;
export const PCI_CLASS_PROG = 0x09;
/** sub-class and base class, 16 bits */
export const PCI_CLASS_DEVICE = 0x0a;
export const PCI_CACHE_LINE_SIZE = 0x0c;
export const PCI_LATENCY_TIMER = 0x0d;
export const PCI_HEADER_TYPE = 0x0e;
export const PCI_BIST = 0x0f;
export const PCI_BASE_ADDRESS_0 = 0x10;
export const PCI_BASE_ADDRESS_1 = 0x14;
export const PCI_BASE_ADDRESS_2 = 0x18;
export const PCI_BASE_ADDRESS_3 = 0x1c;
export const PCI_BASE_ADDRESS_4 = 0x20;
export const PCI_BASE_ADDRESS_5 = 0x24;
export const PCI_CARDBUS_CIS = 0x28;
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
export const PCI_SUBSYSTEM_ID = 0x2e;
export const PCI_ROM_ADDRESS = 0x30;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_INTERRUPT_LINE = 0x3c;
export const PCI_INTERRUPT_PIN = 0x3d;
export const PCI_MIN_GNT = 0x3e;
export const PCI_MAX_LAT = 0x3f;

// Type 1 header, where it differs. PCI-to-PCI Bridge Architecture 1.2 §3.2
/** Base address registers of a type 1 header. */
export const PCI_BRIDGE_NUM_BARS = 2;
export const PCI_PRIMARY_BUS = 0x18;
export const PCI_SECONDARY_BUS = 0x19;
export const PCI_SUBORDINATE_BUS = 0x1a;
export const PCI_SEC_LATENCY_TIMER = 0x1b;
/** base and limit, one byte each: address bits 15:12; the low nibble 1 means that the upper halves count */
export const PCI_IO_BASE = 0x1c;
export const PCI_IO_LIMIT = 0x1d;
/** Status of the secondary side: as Status, but bit 14 is received system error, and bits 3 and 4 are not there */
export const PCI_SEC_STATUS = 0x1e;
/** base and limit, 16 bits each: address bits 31:20 */
export const PCI_MEMORY_BASE = 0x20;
export const PCI_MEMORY_LIMIT = 0x22;
/** base and limit, 16 bits each: address bits 31:20; the low nibble 1 means that the upper halves count */
export const PCI_PREF_MEMORY_BASE = 0x24;
export const PCI_PREF_MEMORY_LIMIT = 0x26;
export const PCI_PREF_BASE_UPPER32 = 0x28;
export const PCI_PREF_LIMIT_UPPER32 = 0x2c;
export const PCI_IO_BASE_UPPER16 = 0x30;
export const PCI_IO_LIMIT_UPPER16 = 0x32;
/** expansion ROM of a type 1 header */
export const PCI_ROM_ADDRESS1 = 0x38;
export const PCI_BRIDGE_CONTROL = 0x3e;
export const PCI_IO_RANGE_TYPE_MASK = 0x0f;
export const PCI_IO_RANGE_TYPE_32 = 0x01;
export const PCI_PREF_RANGE_TYPE_MASK = 0x0f;
export const PCI_PREF_RANGE_TYPE_64 = 0x01;
/** what the registers of a window count in */
export const PCI_IO_WINDOW_GRANULE = 0x1000;
export const PCI_MEMORY_WINDOW_GRANULE = 0x10_0000;

// Bridge Control, P2P 1.2 §3.2.5.18
export const PCI_BRIDGE_CTL_PARITY = 0x0001;
export const PCI_BRIDGE_CTL_SERR = 0x0002;
export const PCI_BRIDGE_CTL_ISA = 0x0004;
export const PCI_BRIDGE_CTL_VGA = 0x0008;
export const PCI_BRIDGE_CTL_VGA_16BIT = 0x0010;
export const PCI_BRIDGE_CTL_MASTER_ABORT = 0x0020;
export const PCI_BRIDGE_CTL_BUS_RESET = 0x0040;
export const PCI_BRIDGE_CTL_FAST_BACK = 0x0080;
export const PCI_BRIDGE_CTL_DISCARD = 0x0100;
export const PCI_BRIDGE_CTL_SEC_DISCARD = 0x0200;
export const PCI_BRIDGE_CTL_DISCARD_STATUS = 0x0400;
export const PCI_BRIDGE_CTL_DISCARD_SERR = 0x0800;

// Command, §6.2.2
export const PCI_COMMAND_IO = 0x0001;
export const PCI_COMMAND_MEMORY = 0x0002;
export const PCI_COMMAND_MASTER = 0x0004;
export const PCI_COMMAND_SPECIAL = 0x0008;
export const PCI_COMMAND_INVALIDATE = 0x0010;
export const PCI_COMMAND_VGA_PALETTE = 0x0020;
export const PCI_COMMAND_PARITY = 0x0040;
export const PCI_COMMAND_WAIT = 0x0080;
export const PCI_COMMAND_SERR = 0x0100;
export const PCI_COMMAND_FAST_BACK = 0x0200;
export const PCI_COMMAND_INTX_DISABLE = 0x0400;

// Status, §6.2.3
export const PCI_STATUS_INTERRUPT = 0x0008;
export const PCI_STATUS_CAP_LIST = 0x0010;
export const PCI_STATUS_66MHZ = 0x0020;
export const PCI_STATUS_FAST_BACK = 0x0080;
export const PCI_STATUS_PARITY = 0x0100;
export const PCI_STATUS_DEVSEL_MASK = 0x0600;
export const PCI_STATUS_DEVSEL_FAST = 0x0000;
export const PCI_STATUS_DEVSEL_MEDIUM = 0x0200;
export const PCI_STATUS_DEVSEL_SLOW = 0x0400;
export const PCI_STATUS_SIG_TARGET_ABORT = 0x0800;
export const PCI_STATUS_REC_TARGET_ABORT = 0x1000;
export const PCI_STATUS_REC_MASTER_ABORT = 0x2000;
export const PCI_STATUS_SIG_SYSTEM_ERROR = 0x4000;
export const PCI_STATUS_DETECTED_PARITY = 0x8000;
/** All bits that a written 1 clears. */
export const PCI_STATUS_W1C =
  PCI_STATUS_PARITY |
  PCI_STATUS_SIG_TARGET_ABORT |
  PCI_STATUS_REC_TARGET_ABORT |
  PCI_STATUS_REC_MASTER_ABORT |
  PCI_STATUS_SIG_SYSTEM_ERROR |
  PCI_STATUS_DETECTED_PARITY;

// Header Type, §6.2.1
export const PCI_HEADER_TYPE_MASK = 0x7f;
export const PCI_HEADER_TYPE_NORMAL = 0;
export const PCI_HEADER_TYPE_BRIDGE = 1;
export const PCI_HEADER_TYPE_CARDBUS = 2;
export const PCI_HEADER_TYPE_MFD = 0x80;

// Base address registers, §6.2.5.1
export const PCI_BASE_ADDRESS_SPACE_IO = 0x1;
export const PCI_BASE_ADDRESS_MEM_TYPE_MASK = 0x6;
export const PCI_BASE_ADDRESS_MEM_TYPE_32 = 0x0;
export const PCI_BASE_ADDRESS_MEM_TYPE_1M = 0x2;
export const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x4;
export const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x8;
export const PCI_BASE_ADDRESS_MEM_MASK = 0xffff_fff0;
export const PCI_BASE_ADDRESS_IO_MASK = 0xffff_fffc;
// Expansion ROM, §6.2.5.2
export const PCI_ROM_ADDRESS_ENABLE = 0x1;
export const PCI_ROM_ADDRESS_MASK = 0xffff_f800;

// ------------------------------------------------------------------------------------------------ capabilities, §6.7, appendix H

/** offsets in every capability */
export const PCI_CAP_LIST_ID = 0;
export const PCI_CAP_LIST_NEXT = 1;

export const PCI_CAP_ID_PM = 0x01;
export const PCI_CAP_ID_AGP = 0x02;
export const PCI_CAP_ID_VPD = 0x03;
export const PCI_CAP_ID_SLOTID = 0x04;
export const PCI_CAP_ID_MSI = 0x05;
export const PCI_CAP_ID_CHSWP = 0x06;
export const PCI_CAP_ID_PCIX = 0x07;
export const PCI_CAP_ID_HT = 0x08;
export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_DBG = 0x0a;
export const PCI_CAP_ID_CCRC = 0x0b;
export const PCI_CAP_ID_SHPC = 0x0c;
export const PCI_CAP_ID_SSVID = 0x0d;
export const PCI_CAP_ID_AGP3 = 0x0e;
export const PCI_CAP_ID_SECDEV = 0x0f;
export const PCI_CAP_ID_EXP = 0x10;
export const PCI_CAP_ID_MSIX = 0x11;
export const PCI_CAP_ID_SATA = 0x12;
export const PCI_CAP_ID_AF = 0x13;
export const PCI_CAP_ID_EA = 0x14;

/** Names of capability ids as lspci prints them. */
export const PCI_CAP_NAMES: { readonly [id: number]: string } = {
  [PCI_CAP_ID_PM]: "Power Management",
  [PCI_CAP_ID_AGP]: "AGP",
  [PCI_CAP_ID_VPD]: "Vital Product Data",
  [PCI_CAP_ID_SLOTID]: "Slot ID",
  [PCI_CAP_ID_MSI]: "MSI",
  [PCI_CAP_ID_CHSWP]: "CompactPCI hot-swap",
  [PCI_CAP_ID_PCIX]: "PCI-X",
  [PCI_CAP_ID_HT]: "HyperTransport",
  [PCI_CAP_ID_VNDR]: "Vendor Specific Information",
  [PCI_CAP_ID_DBG]: "Debug port",
  [PCI_CAP_ID_CCRC]: "CompactPCI central resource control",
  [PCI_CAP_ID_SHPC]: "Hot-plug capable",
  [PCI_CAP_ID_SSVID]: "Subsystem",
  [PCI_CAP_ID_AGP3]: "AGP3",
  [PCI_CAP_ID_SECDEV]: "Secure device",
  [PCI_CAP_ID_EXP]: "Express",
  [PCI_CAP_ID_MSIX]: "MSI-X",
  [PCI_CAP_ID_SATA]: "SATA HBA",
  [PCI_CAP_ID_AF]: "PCI Advanced Features",
  [PCI_CAP_ID_EA]: "Enhanced Allocation",
};

// Power management, PM 1.2 §3.2; offsets from the start of the capability
export const PCI_PM_PMC = 2;
export const PCI_PM_CAP_VER_MASK = 0x0007;
export const PCI_PM_CAP_PME_CLOCK = 0x0008;
export const PCI_PM_CAP_DSI = 0x0020;
export const PCI_PM_CAP_AUX_POWER = 0x01c0;
export const PCI_PM_CAP_D1 = 0x0200;
export const PCI_PM_CAP_D2 = 0x0400;
export const PCI_PM_CAP_PME_D0 = 0x0800;
export const PCI_PM_CAP_PME_D1 = 0x1000;
export const PCI_PM_CAP_PME_D2 = 0x2000;
export const PCI_PM_CAP_PME_D3hot = 0x4000;
export const PCI_PM_CAP_PME_D3cold = 0x8000;
export const PCI_PM_CTRL = 4;
export const PCI_PM_CTRL_STATE_MASK = 0x0003;
export const PCI_PM_CTRL_NO_SOFT_RESET = 0x0008;
export const PCI_PM_CTRL_PME_ENABLE = 0x0100;
export const PCI_PM_CTRL_PME_STATUS = 0x8000;
export const PCI_PM_SIZEOF = 8;

// Slot identification, PCI-to-PCI Bridge Architecture 1.2 §13
/** slots behind the bridge 4:0, first of its chassis 5 */
export const PCI_SID_ESR = 2;
export const PCI_SID_ESR_NSLOTS = 0x1f;
export const PCI_SID_ESR_FIC = 0x20;
export const PCI_SID_CHASSIS_NR = 3;
export const PCI_SID_SIZEOF = 4;

// MSI, §6.8.1
export const PCI_MSI_FLAGS = 2;
export const PCI_MSI_FLAGS_ENABLE = 0x0001;
/** log2 of the vectors the function asks for */
export const PCI_MSI_FLAGS_QMASK = 0x000e;
/** log2 of the vectors the system gave */
export const PCI_MSI_FLAGS_QSIZE = 0x0070;
export const PCI_MSI_FLAGS_64BIT = 0x0080;
export const PCI_MSI_FLAGS_MASKBIT = 0x0100;
export const PCI_MSI_ADDRESS_LO = 4;
export const PCI_MSI_ADDRESS_HI = 8;
export const PCI_MSI_DATA_32 = 8;
export const PCI_MSI_DATA_64 = 12;
export const PCI_MSI_MASK_32 = 12;
export const PCI_MSI_PENDING_32 = 16;
export const PCI_MSI_MASK_64 = 16;
export const PCI_MSI_PENDING_64 = 20;

// MSI-X, §6.8.2
export const PCI_MSIX_FLAGS = 2;
/** entries − 1 */
export const PCI_MSIX_FLAGS_QSIZE = 0x07ff;
export const PCI_MSIX_FLAGS_MASKALL = 0x4000;
export const PCI_MSIX_FLAGS_ENABLE = 0x8000;
export const PCI_MSIX_TABLE = 4;
export const PCI_MSIX_TABLE_BIR = 0x0000_0007;
export const PCI_MSIX_TABLE_OFFSET = 0xffff_fff8;
export const PCI_MSIX_PBA = 8;
export const PCI_MSIX_PBA_BIR = 0x0000_0007;
export const PCI_MSIX_PBA_OFFSET = 0xffff_fff8;
export const PCI_CAP_MSIX_SIZEOF = 12;
/** One entry of the table; offsets in bytes. */
export const PCI_MSIX_ENTRY_SIZE = 16;
export const PCI_MSIX_ENTRY_LOWER_ADDR = 0;
export const PCI_MSIX_ENTRY_UPPER_ADDR = 4;
export const PCI_MSIX_ENTRY_DATA = 8;
export const PCI_MSIX_ENTRY_VECTOR_CTRL = 12;
export const PCI_MSIX_ENTRY_CTRL_MASKBIT = 0x0000_0001;
/** Most vectors a table can have. */
export const PCI_MSIX_MAX_ENTRIES = 2048;

// Vendor specific, appendix H
export const PCI_CAP_FLAGS = 2;

// PCI Express extended capabilities, PCI Express 3.0 §7.9; conventional functions have none
/** Bytes of a function's configuration space on PCI Express. */
export const PCI_CFG_SPACE_EXP_SIZE = 0x1000;
/** where the list begins; header: id 15:0, version 19:16, next 31:20 */
export const PCI_EXT_CAP_START = 0x100;

// ------------------------------------------------------------------------------------------------ classes, appendix D

/** sub-class and base class as `PCI_CLASS_DEVICE` shows them: base class << 8 | sub-class */
export const PCI_CLASS_NOT_DEFINED = 0x0000;
export const PCI_CLASS_STORAGE_SCSI = 0x0100;
export const PCI_CLASS_STORAGE_IDE = 0x0101;
export const PCI_CLASS_NETWORK_ETHERNET = 0x0200;
export const PCI_CLASS_DISPLAY_VGA = 0x0300;
export const PCI_CLASS_BRIDGE_HOST = 0x0600;
export const PCI_CLASS_BRIDGE_ISA = 0x0601;
export const PCI_CLASS_BRIDGE_PCI = 0x0604;
export const PCI_CLASS_BRIDGE_OTHER = 0x0680;
export const PCI_CLASS_OTHERS = 0x00ff;

/** Names of base class << 8 | sub-class as lspci prints them. */
export const PCI_CLASS_NAMES: { readonly [code: number]: string } = {
  [PCI_CLASS_STORAGE_SCSI]: "SCSI storage controller",
  [PCI_CLASS_STORAGE_IDE]: "IDE interface",
  [PCI_CLASS_NETWORK_ETHERNET]: "Ethernet controller",
  [PCI_CLASS_DISPLAY_VGA]: "VGA compatible controller",
  [PCI_CLASS_BRIDGE_HOST]: "Host bridge",
  [PCI_CLASS_BRIDGE_ISA]: "ISA bridge",
  [PCI_CLASS_BRIDGE_PCI]: "PCI bridge",
  [PCI_CLASS_BRIDGE_OTHER]: "Bridge",
};

export const PCI_VENDOR_ID_INTEL = 0x8086;
export const PCI_VENDOR_ID_REALTEK = 0x10ec;
export const PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1af4;
export const PCI_VENDOR_ID_REDHAT = 0x1b36;
/** QEMU's `pci-bridge` */
export const PCI_DEVICE_ID_REDHAT_BRIDGE = 0x0001;
/** What a read of an absent function's Vendor ID gives. */
export const PCI_VENDOR_ID_NONE = 0xffff;

// ------------------------------------------------------------------------------------------------ interrupts of a PC

/** PIRQ route control registers A … D of PIIX3's ISA bridge. 82371SB data sheet §2.3.5 */
export const PIIX_PIRQC = 0x60;
/** set: the PIRQ drives no interrupt */
export const PIIX_PIRQC_DISABLE = 0x80;
/** Interrupts to which a PIRQ can be routed: 3–7, 9–12, 14, 15; a bit each. */
export const PIIX_PIRQC_LEGAL = 0xdef8;
/** Edge/level control registers; a 1 is level triggered. */
export const ELCR1 = 0x4d0;
export const ELCR2 = 0x4d1;
export const ELCR1_MASK = 0xf8;
export const ELCR2_MASK = 0xde;

/** What a bridge passes down with VGA enable: a display's memory, and its ports, end exclusive. P2P 1.2 §3.2.5.18 */
export const VGA_MEMORY: readonly [start: number, end: number] = [0xa_0000, 0xc_0000];
export const VGA_PORTS: readonly (readonly [start: number, end: number])[] = [
  [0x3b0, 0x3bc],
  [0x3c0, 0x3e0],
];

/** Memory writes from here on are interrupt messages on x86, 1 MiB. */
export const MSI_ADDRESS_BASE = 0xfee0_0000;
export const MSI_ADDRESS_SIZE = 0x10_0000;

// ------------------------------------------------------------------------------------------------ the header as a table

/** What both header layouts begin with. */
const COMMON_HEADER = {
  VENDOR_ID: { at: PCI_VENDOR_ID, width: 2, doc: "Vendor ID" },
  DEVICE_ID: { at: PCI_DEVICE_ID, width: 2, doc: "Device ID" },
  COMMAND: {
    at: PCI_COMMAND,
    width: 2,
    rw: 0x0507,
    fields: {
      IO: [0, 0],
      MEMORY: [1, 1],
      MASTER: [2, 2],
      SPECIAL: [3, 3],
      INVALIDATE: [4, 4],
      VGA_PALETTE: [5, 5],
      PARITY: [6, 6],
      SERR: [8, 8],
      FAST_BACK: [9, 9],
      INTX_DISABLE: [10, 10],
    },
    doc: "Command",
  },
  STATUS: {
    at: PCI_STATUS,
    width: 2,
    w1c: PCI_STATUS_W1C,
    fields: {
      INTERRUPT: [3, 3],
      CAP_LIST: [4, 4],
      "66MHZ": [5, 5],
      FAST_BACK: [7, 7],
      PARITY: [8, 8],
      DEVSEL: [10, 9],
      SIG_TARGET_ABORT: [11, 11],
      REC_TARGET_ABORT: [12, 12],
      REC_MASTER_ABORT: [13, 13],
      SIG_SYSTEM_ERROR: [14, 14],
      DETECTED_PARITY: [15, 15],
    },
    doc: "Status",
  },
  REVISION_ID: { at: PCI_REVISION_ID, width: 1, doc: "Revision ID" },
  CLASS_PROG: { at: PCI_CLASS_PROG, width: 1, doc: "Programming interface" },
  CLASS_DEVICE: {
    at: PCI_CLASS_DEVICE,
    width: 2,
    fields: { SUB_CLASS: [7, 0], BASE_CLASS: [15, 8] },
    doc: "Sub-class and base class",
  },
  CACHE_LINE_SIZE: { at: PCI_CACHE_LINE_SIZE, width: 1, rw: 0xff, doc: "Cache line size, units of 4 bytes" },
  LATENCY_TIMER: { at: PCI_LATENCY_TIMER, width: 1, doc: "Latency timer, PCI clocks" },
  HEADER_TYPE: {
    at: PCI_HEADER_TYPE,
    width: 1,
    fields: { LAYOUT: [6, 0], MFD: [7, 7] },
    doc: "Header layout; bit 7: more than one function",
  },
  BIST: { at: PCI_BIST, width: 1, doc: "Built-in self test" },
} as const;

/** The predefined header of a type 0 function: names and fields for traces and listings; masks differ per function. */
export const PCI_TYPE0_HEADER = defineRegisters(
  { name: "PCI type 0 header", source: "PCI Local Bus Specification 3.0, §6.1", size: PCI_STD_HEADER_SIZEOF },
  {
    ...COMMON_HEADER,
    BASE_ADDRESS_0: { at: PCI_BASE_ADDRESS_0, width: 4, doc: "Base address register 0" },
    BASE_ADDRESS_1: { at: PCI_BASE_ADDRESS_1, width: 4, doc: "Base address register 1" },
    BASE_ADDRESS_2: { at: PCI_BASE_ADDRESS_2, width: 4, doc: "Base address register 2" },
    BASE_ADDRESS_3: { at: PCI_BASE_ADDRESS_3, width: 4, doc: "Base address register 3" },
    BASE_ADDRESS_4: { at: PCI_BASE_ADDRESS_4, width: 4, doc: "Base address register 4" },
    BASE_ADDRESS_5: { at: PCI_BASE_ADDRESS_5, width: 4, doc: "Base address register 5" },
    CARDBUS_CIS: { at: PCI_CARDBUS_CIS, width: 4, doc: "CardBus CIS pointer" },
    SUBSYSTEM_VENDOR_ID: { at: PCI_SUBSYSTEM_VENDOR_ID, width: 2, doc: "Subsystem vendor ID" },
    SUBSYSTEM_ID: { at: PCI_SUBSYSTEM_ID, width: 2, doc: "Subsystem ID" },
    ROM_ADDRESS: {
      at: PCI_ROM_ADDRESS,
      width: 4,
      fields: { ENABLE: [0, 0], ADDRESS: [31, 11] },
      doc: "Expansion ROM base address",
    },
    CAPABILITY_LIST: { at: PCI_CAPABILITY_LIST, width: 1, doc: "Capabilities pointer" },
    INTERRUPT_LINE: { at: PCI_INTERRUPT_LINE, width: 1, rw: 0xff, doc: "Interrupt line: a scratch byte for firmware" },
    INTERRUPT_PIN: { at: PCI_INTERRUPT_PIN, width: 1, doc: "Interrupt pin: 0 none, 1 … 4 INTA … INTD" },
    MIN_GNT: { at: PCI_MIN_GNT, width: 1, doc: "Burst length, units of 250 ns" },
    MAX_LAT: { at: PCI_MAX_LAT, width: 1, doc: "Longest wait for the bus, units of 250 ns" },
  },
);

/** The predefined header of a type 1 function, a bridge. */
export const PCI_TYPE1_HEADER = defineRegisters(
  {
    name: "PCI type 1 header",
    source: "PCI-to-PCI Bridge Architecture Specification 1.2, §3.2",
    size: PCI_STD_HEADER_SIZEOF,
  },
  {
    ...COMMON_HEADER,
    BASE_ADDRESS_0: { at: PCI_BASE_ADDRESS_0, width: 4, doc: "Base address register 0" },
    BASE_ADDRESS_1: { at: PCI_BASE_ADDRESS_1, width: 4, doc: "Base address register 1" },
    PRIMARY_BUS: { at: PCI_PRIMARY_BUS, width: 1, rw: 0xff, doc: "Number of the bus in front" },
    SECONDARY_BUS: { at: PCI_SECONDARY_BUS, width: 1, rw: 0xff, doc: "Number of the bus behind" },
    SUBORDINATE_BUS: { at: PCI_SUBORDINATE_BUS, width: 1, rw: 0xff, doc: "Highest bus number behind" },
    SEC_LATENCY_TIMER: { at: PCI_SEC_LATENCY_TIMER, width: 1, doc: "Latency timer of the bus behind, PCI clocks" },
    IO_BASE: { at: PCI_IO_BASE, width: 1, rw: 0xf0, fields: { TYPE: [3, 0] }, doc: "First ports passed on, 15:12" },
    IO_LIMIT: { at: PCI_IO_LIMIT, width: 1, rw: 0xf0, fields: { TYPE: [3, 0] }, doc: "Last ports passed on, 15:12" },
    SEC_STATUS: {
      at: PCI_SEC_STATUS,
      width: 2,
      w1c: PCI_STATUS_W1C,
      fields: {
        "66MHZ": [5, 5],
        FAST_BACK: [7, 7],
        PARITY: [8, 8],
        DEVSEL: [10, 9],
        SIG_TARGET_ABORT: [11, 11],
        REC_TARGET_ABORT: [12, 12],
        REC_MASTER_ABORT: [13, 13],
        REC_SYSTEM_ERROR: [14, 14],
        DETECTED_PARITY: [15, 15],
      },
      doc: "Status of the side behind",
    },
    MEMORY_BASE: { at: PCI_MEMORY_BASE, width: 2, rw: 0xfff0, doc: "First addresses passed on, 31:20" },
    MEMORY_LIMIT: { at: PCI_MEMORY_LIMIT, width: 2, rw: 0xfff0, doc: "Last addresses passed on, 31:20" },
    PREF_MEMORY_BASE: { at: PCI_PREF_MEMORY_BASE, width: 2, rw: 0xfff0, doc: "The same, prefetchable" },
    PREF_MEMORY_LIMIT: { at: PCI_PREF_MEMORY_LIMIT, width: 2, rw: 0xfff0, doc: "The same, prefetchable" },
    PREF_BASE_UPPER32: { at: PCI_PREF_BASE_UPPER32, width: 4, doc: "Address bits 63:32" },
    PREF_LIMIT_UPPER32: { at: PCI_PREF_LIMIT_UPPER32, width: 4, doc: "Address bits 63:32" },
    IO_BASE_UPPER16: { at: PCI_IO_BASE_UPPER16, width: 2, doc: "Address bits 31:16" },
    IO_LIMIT_UPPER16: { at: PCI_IO_LIMIT_UPPER16, width: 2, doc: "Address bits 31:16" },
    CAPABILITY_LIST: { at: PCI_CAPABILITY_LIST, width: 1, doc: "Capabilities pointer" },
    ROM_ADDRESS: {
      at: PCI_ROM_ADDRESS1,
      width: 4,
      fields: { ENABLE: [0, 0], ADDRESS: [31, 11] },
      doc: "Expansion ROM base address",
    },
    INTERRUPT_LINE: { at: PCI_INTERRUPT_LINE, width: 1, rw: 0xff, doc: "Interrupt line: a scratch byte for firmware" },
    INTERRUPT_PIN: { at: PCI_INTERRUPT_PIN, width: 1, doc: "Interrupt pin: 0 none, 1 … 4 INTA … INTD" },
    BRIDGE_CONTROL: {
      at: PCI_BRIDGE_CONTROL,
      width: 2,
      rw: 0x0bff,
      w1c: PCI_BRIDGE_CTL_DISCARD_STATUS,
      fields: {
        PARITY: [0, 0],
        SERR: [1, 1],
        ISA: [2, 2],
        VGA: [3, 3],
        VGA_16BIT: [4, 4],
        MASTER_ABORT: [5, 5],
        BUS_RESET: [6, 6],
        FAST_BACK: [7, 7],
        DISCARD: [8, 8],
        SEC_DISCARD: [9, 9],
        DISCARD_STATUS: [10, 10],
        DISCARD_SERR: [11, 11],
      },
      doc: "Bridge control",
    },
  },
);
