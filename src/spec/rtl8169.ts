/**
 * Names and numbers of the Realtek RTL8169 family: the register map of the RTL8169SB, descriptors, serial EEPROM, PHY.
 * No behaviour. Sources: RTL8169 data sheet rev 1.21 (tally, VPD, descriptors); register and PHY names as in FreeBSD's
 * if_rlreg.h and mii.h; what only drivers and one real 8110SC dump show is marked `Observed:` in its doc.
 */
import { type BitRange, defineRegisters, type RegisterDeclaration } from "../regs/index.js";

export const REALTEK_VENDOR_ID = 0x10ec;

/**
 * The register block of the PCI members (8169, S, SB, SC), seen through BAR0 (I/O) and BAR1 (memory).
 * A variant spreads this table and replaces what differs: at least the reset value of TCR.
 */
export const RTL8169_DECLARATIONS = {
  IDR0: { at: 0x00, width: 4, rw: 0xffff_ffff, hook: true, lock: "9346CR.EEM = 11", doc: "Station address, bytes 0–3" },
  IDR4: { at: 0x04, width: 2, rw: 0xffff, hook: true, lock: "9346CR.EEM = 11", doc: "Station address, bytes 4–5" },
  MAR0: { at: 0x08, width: 4, rw: 0xffff_ffff, hook: true, doc: "Multicast hash table, bits 31–0" },
  MAR4: { at: 0x0c, width: 4, rw: 0xffff_ffff, hook: true, doc: "Multicast hash table, bits 63–32" },
  DTCCR_L: {
    at: 0x10,
    width: 4,
    rw: 0xffff_ffc8,
    fields: { Address: [31, 6], Cmd: [3, 3] },
    hook: true,
    doc: "Dump tally counters: address bits 31–6 and the command, which clears itself",
  },
  DTCCR_H: { at: 0x14, width: 4, rw: 0xffff_ffff, doc: "Dump tally counters: address bits 63–32" },
  TNPDS_L: {
    at: 0x20,
    width: 4,
    rw: 0xffff_ffff,
    hook: true,
    doc: "Transmit normal priority descriptor ring, address bits 31–0; 256-byte aligned",
  },
  TNPDS_H: { at: 0x24, width: 4, rw: 0xffff_ffff, hook: true, doc: "The same, address bits 63–32" },
  THPDS_L: {
    at: 0x28,
    width: 4,
    rw: 0xffff_ffff,
    hook: true,
    doc: "Transmit high priority descriptor ring, address bits 31–0; 256-byte aligned",
  },
  THPDS_H: { at: 0x2c, width: 4, rw: 0xffff_ffff, hook: true, doc: "The same, address bits 63–32" },
  FLASH: { at: 0x30, width: 4, rw: 0xffff_ffff, doc: "Flash memory access; stored only" },
  ERBCR: { at: 0x34, width: 2, doc: "Early receive byte count; 0" },
  ERSR: { at: 0x36, width: 1, doc: "Early receive status; 0" },
  CR: {
    at: 0x37,
    width: 1,
    rw: 0x1c,
    fields: { StopReq: [7, 7], RST: [4, 4], RE: [3, 3], TE: [2, 2] },
    hook: true,
    doc: "Command; RST clears itself, StopReq does nothing on these chips",
  },
  TPPoll: {
    at: 0x38,
    width: 1,
    rw: 0xc1,
    fields: { HPQ: [7, 7], NPQ: [6, 6], FSWInt: [0, 0] },
    hook: true,
    doc: "Transmit priority polling; the bits clear themselves",
  },
  IMR: {
    at: 0x3c,
    width: 2,
    rw: 0xc1ff,
    fields: {
      SERR: [15, 15],
      TimeOut: [14, 14],
      SWInt: [8, 8],
      TDU: [7, 7],
      FOVW: [6, 6],
      LinkChg: [5, 5],
      RDU: [4, 4],
      TER: [3, 3],
      TOK: [2, 2],
      RER: [1, 1],
      ROK: [0, 0],
    },
    hook: true,
    doc: "Interrupt mask; 1 lets the cause through",
  },
  ISR: {
    at: 0x3e,
    width: 2,
    w1c: 0xc1ff,
    fields: {
      SERR: [15, 15],
      TimeOut: [14, 14],
      SWInt: [8, 8],
      TDU: [7, 7],
      FOVW: [6, 6],
      LinkChg: [5, 5],
      RDU: [4, 4],
      TER: [3, 3],
      TOK: [2, 2],
      RER: [1, 1],
      ROK: [0, 0],
    },
    hook: true,
    doc: "Interrupt status; a written 1 clears, reading has no effect",
  },
  TCR: {
    at: 0x40,
    width: 4,
    rw: 0x030f_0700,
    reset: 0x1000_0000,
    fields: {
      HWVERID1: [31, 26],
      IFG: [25, 24],
      HWVERID0: [23, 20],
      IFG2: [19, 19],
      LBK: [18, 17],
      NoCRC: [16, 16],
      MXDMA: [10, 8],
    },
    hook: true,
    doc: "Transmit configuration; HWVERID names the chip and is read-only",
  },
  RCR: {
    at: 0x44,
    width: 4,
    rw: 0x0101_ffbf,
    fields: {
      MulERINT: [24, 24],
      RXFTH: [15, 13],
      MXDMA: [10, 8],
      "9356SEL": [6, 6],
      AER: [5, 5],
      AR: [4, 4],
      AB: [3, 3],
      AM: [2, 2],
      APM: [1, 1],
      AAP: [0, 0],
    },
    hook: true,
    doc: "Receive configuration; 9356SEL tells the type of the EEPROM and is read-only",
  },
  TCTR: {
    at: 0x48,
    width: 4,
    live: true,
    hook: true,
    doc: "Timer count in PCI clocks of 30 ns; any write makes it 0",
  },
  MPC: {
    at: 0x4c,
    width: 4,
    fields: { Count: [23, 0] },
    hook: true,
    doc: "Missed packet counter; any write makes it 0",
  },
  Cr9346: {
    at: 0x50,
    width: 1,
    rw: 0xce,
    fields: { EEM: [7, 6], EECS: [3, 3], EESK: [2, 2], EEDI: [1, 1], EEDO: [0, 0] },
    hook: true,
    doc: "9346CR: operating mode (00 normal, 01 auto-load, 10 EEPROM wires, 11 configuration write enable) and wires",
  },
  CONFIG0: {
    at: 0x51,
    width: 1,
    rw: 0x07,
    fields: { BS: [2, 0] },
    lock: "9346CR.EEM = 11",
    doc: "Configuration 0: size of the boot ROM",
  },
  CONFIG1: {
    at: 0x52,
    width: 1,
    rw: 0xf3,
    reset: 0x0d,
    fields: {
      LEDS: [7, 6],
      DVRLOAD: [5, 5],
      LWACT: [4, 4],
      MEMMAP: [3, 3],
      IOMAP: [2, 2],
      VPD: [1, 1],
      PMEn: [0, 0],
    },
    lock: "9346CR.EEM = 11",
    doc: "Configuration 1",
  },
  CONFIG2: {
    at: 0x53,
    width: 1,
    rw: 0x20,
    reset: 0x10,
    fields: { MSI: [5, 5], AuxPwr: [4, 4], PCIBusWidth: [3, 3], PCICLKF: [2, 0] },
    lock: "9346CR.EEM = 11",
    doc: "Configuration 2: auxiliary power, bus width and clock (0 = 33 MHz) as found",
  },
  CONFIG3: {
    at: 0x54,
    width: 1,
    rw: 0x30,
    reset: 0xa1,
    fields: { GNTSel: [7, 7], Magic: [5, 5], LinkUp: [4, 4], FBtBEn: [0, 0] },
    lock: "9346CR.EEM = 11",
    doc: "Configuration 3: wake on magic packet, on link change",
  },
  CONFIG4: {
    at: 0x55,
    width: 1,
    rw: 0x14,
    fields: { LWPME: [4, 4], LWPTN: [2, 2] },
    lock: "9346CR.EEM = 11",
    doc: "Configuration 4: LANWAKE pin",
  },
  CONFIG5: {
    at: 0x56,
    width: 1,
    rw: 0x73,
    reset: 0x03,
    fields: { BWF: [6, 6], MWF: [5, 5], UWF: [4, 4], LANWake: [1, 1], PME_STS: [0, 0] },
    doc: "Configuration 5: wake-up frames",
  },
  TimerInt: {
    at: 0x58,
    width: 4,
    rw: 0xffff_ffff,
    hook: true,
    doc: "ISR.TimeOut rises when TCTR reaches this; 0: never",
  },
  MULINT: { at: 0x5c, width: 2, rw: 0x0fff, fields: { MISR: [11, 0] }, doc: "Multiple interrupt select; stored only" },
  PHYAR: {
    at: 0x60,
    width: 4,
    rw: 0x801f_ffff,
    fields: { Flag: [31, 31], RegAddr: [20, 16], Data: [15, 0] },
    hook: true,
    live: true,
    doc: "PHY access: Flag written 1 writes and clears itself, written 0 reads and sets itself",
  },
  TBICSR: {
    at: 0x64,
    width: 4,
    rw: 0x6000_0000,
    fields: {
      ResetTBI: [31, 31],
      TBILoopBack: [30, 30],
      TBINWEn: [29, 29],
      TBIReNW: [28, 28],
      TBILinkOk: [25, 25],
      TBINWComplete: [24, 24],
    },
    doc: "Ten-bit interface; without effect on copper",
  },
  TBI_ANAR: { at: 0x68, width: 2, rw: 0xffff, doc: "Ten-bit interface: advertisement; stored only" },
  TBI_LPAR: { at: 0x6a, width: 2, doc: "Ten-bit interface: link partner's ability; 0" },
  PHYStatus: {
    at: 0x6c,
    width: 1,
    reset: 0x04,
    fields: {
      EnTBI: [7, 7],
      TxFlow: [6, 6],
      RxFlow: [5, 5],
      "1000MF": [4, 4],
      "100M": [3, 3],
      "10M": [2, 2],
      LinkSts: [1, 1],
      FullDup: [0, 0],
    },
    doc: "Link as the PHY reports it",
  },
  Reg7C: {
    at: 0x7c,
    width: 4,
    rw: 0xffff_ffff,
    doc: "Undocumented; Observed: drivers of the 8169SC write it. Stored only",
  },
  Reg82: { at: 0x82, width: 1, doc: "Undocumented; Observed: drivers write 01h after reset. No effect" },
  Wakeup0_L: { at: 0x84, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 0, mask bits 31–0" },
  Wakeup0_H: { at: 0x88, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 0, mask bits 63–32" },
  Wakeup1_L: { at: 0x8c, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 1, mask bits 31–0" },
  Wakeup1_H: { at: 0x90, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 1, mask bits 63–32" },
  Wakeup2LD_L: { at: 0x94, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 2, mask bits 31–0" },
  Wakeup2LD_H: { at: 0x98, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 2, mask bits 63–32" },
  Wakeup2HD_L: { at: 0x9c, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 2, mask bits 95–64" },
  Wakeup2HD_H: { at: 0xa0, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 2, mask bits 127–96" },
  Wakeup3LD_L: { at: 0xa4, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 3, mask bits 31–0" },
  Wakeup3LD_H: { at: 0xa8, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 3, mask bits 63–32" },
  Wakeup3HD_L: { at: 0xac, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 3, mask bits 95–64" },
  Wakeup3HD_H: { at: 0xb0, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 3, mask bits 127–96" },
  Wakeup4LD_L: { at: 0xb4, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 4, mask bits 31–0" },
  Wakeup4LD_H: { at: 0xb8, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 4, mask bits 63–32" },
  Wakeup4HD_L: { at: 0xbc, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 4, mask bits 95–64" },
  Wakeup4HD_H: { at: 0xc0, width: 4, rw: 0xffff_ffff, doc: "Wake-up frame 4, mask bits 127–96" },
  CRC0: { at: 0xc4, width: 2, rw: 0xffff, doc: "CRC of wake-up frame 0" },
  CRC1: { at: 0xc6, width: 2, rw: 0xffff, doc: "CRC of wake-up frame 1" },
  CRC2: { at: 0xc8, width: 2, rw: 0xffff, doc: "CRC of wake-up frame 2" },
  CRC3: { at: 0xca, width: 2, rw: 0xffff, doc: "CRC of wake-up frame 3" },
  CRC4: { at: 0xcc, width: 2, rw: 0xffff, doc: "CRC of wake-up frame 4" },
  RMS: {
    at: 0xda,
    width: 2,
    rw: 0xffff,
    fields: { RMS: [13, 0] },
    hook: true,
    doc: "Largest received frame in bytes, FCS included; 0: no limit",
  },
  CPlusCR: {
    at: 0xe0,
    width: 2,
    rw: 0x627b,
    fields: {
      EnAnaPLL: [14, 14],
      NormalMode: [13, 13],
      ENDIAN: [9, 9],
      RxVLAN: [6, 6],
      RxChkSum: [5, 5],
      DAC: [4, 4],
      MulRW: [3, 3],
      INTTmode: [1, 0],
    },
    hook: true,
    doc: "C+CR: C+ command; on the 8169 bits 1–0 are the unit of IntrMitigate and enable nothing",
  },
  IntrMitigate: {
    at: 0xe2,
    width: 2,
    rw: 0xffff,
    fields: { TxTimer: [15, 12], TxPackets: [11, 8], RxTimer: [7, 4], RxPackets: [3, 0] },
    hook: true,
    doc: "Interrupt moderation: TOK and ROK stay off the line for a time (0: they do not), or until 4 × so many packets (0: any)",
  },
  RDSAR_L: {
    at: 0xe4,
    width: 4,
    rw: 0xffff_ffff,
    hook: true,
    doc: "Receive descriptor ring, address bits 31–0; 256-byte aligned",
  },
  RDSAR_H: { at: 0xe8, width: 4, rw: 0xffff_ffff, hook: true, doc: "The same, address bits 63–32" },
  ETThR: { at: 0xec, width: 1, rw: 0x3f, doc: "Early transmit threshold in units of 32 bytes; stored only" },
  FER: { at: 0xf0, width: 4, rw: 0xffff_ffff, doc: "CardBus function event; stored only" },
  FEMR: { at: 0xf4, width: 4, rw: 0xffff_ffff, doc: "CardBus function event mask; stored only" },
  FPSR: { at: 0xf8, width: 4, rw: 0xffff_ffff, doc: "CardBus function present state; stored only" },
  FFER: { at: 0xfc, width: 4, rw: 0xffff_ffff, doc: "CardBus function force event; stored only" },
} as const satisfies { readonly [name: string]: RegisterDeclaration };

const RTL8169_BLOCK = {
  name: "rtl8169",
  source: "RTL8169 data sheet; drivers of Linux, FreeBSD, OpenBSD, iPXE and U-Boot",
  size: 0x100,
} as const;

/** Operational registers of the RTL8169SB (TxConfig version 1000_0000h). */
export const RTL8169 = defineRegisters<keyof typeof RTL8169_DECLARATIONS>(RTL8169_BLOCK, RTL8169_DECLARATIONS);

/** Replaces values only, so that a variant's hooks are the bits of the 8169SB's. */
const variantMap = (name: string, { version }: Rtl8169Chip): typeof RTL8169 =>
  defineRegisters<keyof typeof RTL8169_DECLARATIONS>(
    { ...RTL8169_BLOCK, name },
    { ...RTL8169_DECLARATIONS, TCR: { ...RTL8169_DECLARATIONS.TCR, reset: version } },
  );

// ------------------------------------------------------------------------------------------------ the chips

/** The PHY inside a chip. */
export interface RtlPhy {
  /** PHYID1 << 16 | PHYID2 */
  readonly phyId: number;
  /** BMSR without link and completion. Observed: a real 8110SC */
  readonly bmsr: number;
  readonly gigabit: boolean;
  /** bit 9 of register 14 keeps it down; on others the register is only stored */
  readonly sleeps: boolean;
}

const RTL8211: RtlPhy = { phyId: 0x001c_c910, bmsr: 0x7949, gigabit: true, sleeps: false };
/** Its identifier is known from an 8110SC; for the 8169SB it is an assumption that Linux and FreeBSD accept. */
const RTL8211B: RtlPhy = { ...RTL8211, phyId: 0x001c_c912, sleeps: true };

/** What tells one chip of the family from another. */
export interface Rtl8169Chip {
  /** as printed by FreeBSD's re(4) */
  readonly name: string;
  readonly deviceId: number;
  readonly revisionId: number;
  /** read-only bits of TCR: 31–26 and 23–20 */
  readonly version: number;
  readonly phy: RtlPhy;
}

/** Bits of TCR that name the chip. */
export const TCR_HWVERID = 0xfcf0_0000;

/**
 * The PCI members. Both spins of the 8169SC have a name in FreeBSD, but one. Linux writes 0260h to register 14 of an
 * RTL8211 at a forced 100 Mb/s, so bit 9 cannot mean there what it means on an RTL8211B.
 */
export const RTL8169_CHIPS = {
  RTL8169: { name: "8169", deviceId: 0x8169, revisionId: 0x10, version: 0x0000_0000, phy: RTL8211 },
  RTL8169S: { name: "8169S", deviceId: 0x8169, revisionId: 0x10, version: 0x0080_0000, phy: RTL8211 },
  RTL8110S: { name: "8110S", deviceId: 0x8169, revisionId: 0x10, version: 0x0400_0000, phy: RTL8211 },
  RTL8169SB: { name: "8169SB/8110SB", deviceId: 0x8169, revisionId: 0x10, version: 0x1000_0000, phy: RTL8211B },
  RTL8169SC: { name: "8169SC/8110SC", deviceId: 0x8167, revisionId: 0x10, version: 0x1800_0000, phy: RTL8211B },
  RTL8169SCe: { name: "8169SC/8110SC", deviceId: 0x8167, revisionId: 0x10, version: 0x9800_0000, phy: RTL8211B },
} as const satisfies { readonly [name: string]: Rtl8169Chip };

/** The register map of each chip. */
export const RTL8169_MAPS: { readonly [C in keyof typeof RTL8169_CHIPS]: typeof RTL8169 } = {
  RTL8169: variantMap("rtl8169-0", RTL8169_CHIPS.RTL8169),
  RTL8169S: variantMap("rtl8169s", RTL8169_CHIPS.RTL8169S),
  RTL8110S: variantMap("rtl8110s", RTL8169_CHIPS.RTL8110S),
  RTL8169SB: RTL8169,
  RTL8169SC: variantMap("rtl8169sc", RTL8169_CHIPS.RTL8169SC),
  RTL8169SCe: variantMap("rtl8169sce", RTL8169_CHIPS.RTL8169SCe),
};

/** The unit of IntrMitigate's timers by C+CR.INTTmode, ns, at each speed in Mb/s. Observed: the table in Linux's r8169 */
export const RTL8169_INTT_UNIT_NS = {
  1000: [320, 2_560, 5_120, 10_240],
  100: [2_560, 20_480, 40_960, 81_920],
  10: [40_960, 327_680, 655_360, 1_310_720],
} as const;
/** The unit of IntrMitigate's packet counts. */
export const RTL8169_INTT_PACKETS = 4;

/** Wake-up frames: offset of the mask and its size in bytes, offset of the CRC. Layout as the register names say. */
export const RTL8169_WAKEUP_FRAMES = [
  { mask: RTL8169_DECLARATIONS.Wakeup0_L.at, bytes: 8, crc: RTL8169_DECLARATIONS.CRC0.at },
  { mask: RTL8169_DECLARATIONS.Wakeup1_L.at, bytes: 8, crc: RTL8169_DECLARATIONS.CRC1.at },
  { mask: RTL8169_DECLARATIONS.Wakeup2LD_L.at, bytes: 16, crc: RTL8169_DECLARATIONS.CRC2.at },
  { mask: RTL8169_DECLARATIONS.Wakeup3LD_L.at, bytes: 16, crc: RTL8169_DECLARATIONS.CRC3.at },
  { mask: RTL8169_DECLARATIONS.Wakeup4LD_L.at, bytes: 16, crc: RTL8169_DECLARATIONS.CRC4.at },
] as const;

/** CONFIG2.PCICLKF: the PCI clock that the chip found. */
export const PCICLKF_33 = 0;
export const PCICLKF_66 = 1;

/** One PCI clock at 33⅓ MHz, in ns: the unit of TCTR and TimerInt. At 66⅔ MHz it is half of this. */
export const PCI_CLOCK_NS = 30;

// ------------------------------------------------------------------------------------------------ descriptors

/** bytes: opts1, opts2, address low, address high; data sheet p. 50 */
export const RTL8169_DESC_SIZE = 16;
/** bytes; the low 8 bits of a ring base are taken as 0 */
export const RTL8169_RING_ALIGN = 256;
/** descriptors per ring; data sheet p. 50 */
export const RTL8169_MAX_DESCS = 1024;

/** opts1 of a transmit descriptor, version 1; bits 28–16 as a command while OWN is 1. Data sheet p. 51–52 */
export const RTL8169_TX_OPTS1 = {
  OWN: [31, 31],
  EOR: [30, 30],
  FS: [29, 29],
  LS: [28, 28],
  LGSEN: [27, 27],
  /** with LGSEN */
  MSS: [26, 16],
  /** without LGSEN */
  IPCS: [18, 18],
  UDPCS: [17, 17],
  TCPCS: [16, 16],
  Frame_Length: [15, 0],
} as const satisfies { readonly [name: string]: BitRange };

/** opts2 of a transmit descriptor; VLAN_TAG has the two bytes of the tag swapped. */
export const RTL8169_TX_OPTS2 = {
  TAGC: [17, 17],
  VLAN_TAG: [15, 0],
} as const satisfies { readonly [name: string]: BitRange };

/** opts1 of a receive descriptor that the driver hands over. Data sheet p. 55 */
export const RTL8169_RX_COMMAND = {
  OWN: [31, 31],
  EOR: [30, 30],
  Buffer_Size: [13, 0],
} as const satisfies { readonly [name: string]: BitRange };

/** opts1 of a receive descriptor that the chip hands back. Data sheet p. 56–57 */
export const RTL8169_RX_STATUS = {
  OWN: [31, 31],
  EOR: [30, 30],
  FS: [29, 29],
  LS: [28, 28],
  MAR: [27, 27],
  PAM: [26, 26],
  BAR: [25, 25],
  BOVF: [24, 24],
  FOVF: [23, 23],
  RWT: [22, 22],
  RES: [21, 21],
  RUNT: [20, 20],
  CRC: [19, 19],
  PID: [18, 17],
  IPF: [16, 16],
  UDPF: [15, 15],
  TCPF: [14, 14],
  /** bytes, FCS included */
  Frame_Length: [13, 0],
} as const satisfies { readonly [name: string]: BitRange };

/** opts2 of a receive descriptor that the chip hands back. */
export const RTL8169_RX_OPTS2 = {
  TAVA: [16, 16],
  VLAN_TAG: [15, 0],
} as const satisfies { readonly [name: string]: BitRange };

/** Shortest buffer that a receive descriptor may name, bytes. Data sheet p. 55 */
export const RTL8169_MIN_RX_BUFFER = 8;

// ------------------------------------------------------------------------------------------------ tally counters

/** Block that DTCCR dumps, bytes; also its alignment. Data sheet p. 15 */
export const RTL8169_TALLY_SIZE = 64;

/** Offset and width in bytes of each counter in the dumped block, little-endian. Data sheet p. 15 */
export const RTL8169_TALLY = {
  TxOk: { at: 0, width: 8 },
  RxOk: { at: 8, width: 8 },
  TxERR: { at: 16, width: 8 },
  RxERR: { at: 24, width: 4 },
  MissPkt: { at: 28, width: 2 },
  FAE: { at: 30, width: 2 },
  Tx1Col: { at: 32, width: 4 },
  TxMCol: { at: 36, width: 4 },
  RxOkPhy: { at: 40, width: 8 },
  RxOkBrd: { at: 48, width: 8 },
  RxOkMul: { at: 56, width: 4 },
  TxAbt: { at: 60, width: 2 },
  TxUndrn: { at: 62, width: 2 },
} as const;

// ------------------------------------------------------------------------------------------------ serial EEPROM

/** 9346CR.EEM */
export const EEM_NORMAL = 0;
export const EEM_AUTOLOAD = 1;
export const EEM_PROGRAM = 2;
export const EEM_CONFIG_WRITE = 3;

/** Word 0; every driver tests it. */
export const EEPROM_SIGNATURE = 0x8129;

/** Where a field of the EEPROM's contents stands, in 16-bit words. */
export const EEPROM_WORDS = {
  signature: 0,
  vendorId: 1,
  deviceId: 2,
  subsystemVendorId: 3,
  subsystemId: 4,
  /** Min_Gnt in the low byte, Max_Lat in the high byte */
  latency: 5,
  /** three words: mac[0] | mac[1] << 8 and so on */
  mac: 7,
  /** CONFIG0 in the low byte, CONFIG1 in the high byte */
  config01: 10,
} as const;

/** The serial EEPROMs in 16-bit organisation. `9356SEL` of RCR says which one is fitted. */
export const EEPROM_TYPES = {
  "93C46": { words: 64, addressBits: 6, select9356: 0 },
  /** 8 address bits are sent, the top one is ignored */
  "93C56": { words: 128, addressBits: 8, select9356: 1 },
} as const;

/** The two bits after the start bit. */
export const EEPROM_OP_EXTENDED = 0;
export const EEPROM_OP_WRITE = 1;
export const EEPROM_OP_READ = 2;
export const EEPROM_OP_ERASE = 3;
/** The top two address bits with EEPROM_OP_EXTENDED. */
export const EEPROM_EXT_EWDS = 0;
export const EEPROM_EXT_WRAL = 1;
export const EEPROM_EXT_ERAL = 2;
export const EEPROM_EXT_EWEN = 3;

// ------------------------------------------------------------------------------------------------ PHY

/** Numbers of PHY registers (page 0). IEEE 802.3 §22.2.4, names as in mii.h */
export const MII_BMCR = 0;
export const MII_BMSR = 1;
export const MII_PHYIDR1 = 2;
export const MII_PHYIDR2 = 3;
export const MII_ANAR = 4;
export const MII_ANLPAR = 5;
export const MII_ANER = 6;
export const MII_ANNP = 7;
export const MII_100T2CR = 9;
export const MII_100T2SR = 10;
export const MII_MMDACR = 13;
export const MII_MMDAADR = 14;
export const MII_EXTSR = 15;
/** Vendor: PHY specific control, PHY specific status, interrupt enable, interrupt status. RTL8211B */
export const RGEPHY_CR = 16;
export const RGEPHY_SR = 17;
export const RGEPHY_INER = 18;
export const RGEPHY_INSR = 19;
/** Page select; visible on every page. */
export const RGEPHY_PAGSR = 31;

/** BMCR. IEEE 802.3 §22.2.4.1 */
export const BMCR_RESET = 0x8000;
export const BMCR_LOOP = 0x4000;
export const BMCR_SPEED0 = 0x2000;
export const BMCR_AUTOEN = 0x1000;
export const BMCR_PDOWN = 0x0800;
export const BMCR_ISO = 0x0400;
export const BMCR_STARTNEG = 0x0200;
export const BMCR_FDX = 0x0100;
export const BMCR_CTEST = 0x0080;
export const BMCR_SPEED1 = 0x0040;

/** BMSR. IEEE 802.3 §22.2.4.2 */
export const BMSR_EXTSTAT = 0x0100;
export const BMSR_ACOMP = 0x0020;
export const BMSR_RFAULT = 0x0010;
export const BMSR_ANEG = 0x0008;
export const BMSR_LINK = 0x0004;
export const BMSR_EXTCAP = 0x0001;

/** ANAR and ANLPAR. IEEE 802.3 §28.2.4.1.3 */
export const ANAR_ACK = 0x4000;
export const ANAR_PAUSE_ASYM = 0x0800;
export const ANAR_PAUSE = 0x0400;
export const ANAR_TX_FD = 0x0100;
export const ANAR_TX = 0x0080;
export const ANAR_10_FD = 0x0040;
export const ANAR_10 = 0x0020;
export const ANAR_CSMA = 0x0001;

/** 1000BASE-T control (1000CTL). IEEE 802.3 §40.5.1.1 */
export const GTCR_MAN_MS = 0x1000;
export const GTCR_MAN_ADV = 0x0800;
export const GTCR_ADV_1000TFDX = 0x0200;
export const GTCR_ADV_1000THDX = 0x0100;

/** 1000BASE-T status (1000STS). IEEE 802.3 §40.5.1.1 */
export const GTSR_MAN_MS_FLT = 0x8000;
export const GTSR_MS_RES = 0x4000;
export const GTSR_LRS = 0x2000;
export const GTSR_RRS = 0x1000;
export const GTSR_LP_1000TFDX = 0x0800;
export const GTSR_LP_1000THDX = 0x0400;

/** Register 14, bit 9: Observed: Linux's suspend of the RTL8211B sets it and the PHY stays down until it is cleared. */
export const RGEPHY_MMD_PDOWN = 0x0200;
