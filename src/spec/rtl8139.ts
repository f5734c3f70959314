/**
 * Names and numbers of the Realtek RTL8139 family: the register map of the old chips, that of the RTL8139C+ with its
 * descriptor rings, and the headers of the old receive ring. No behaviour. Sources: RTL8139C(L) and RTL8139C+ data sheets
 * as Linux's 8139too.c and 8139cp.c, FreeBSD's if_rlreg.h and QEMU's rtl8139.c repeat them.
 */
import { type BitRange, defineRegisters, type RegisterDeclaration, type RegisterMap } from "../regs/index.js";
import { RTL8169_DECLARATIONS } from "./rtl8169.js";

const { IDR0, IDR4, MAR0, MAR4, IMR, ISR, TCTR, MPC, Cr9346, MULINT, CPlusCR, ERBCR, ERSR } = RTL8169_DECLARATIONS;
const { TNPDS_L, TNPDS_H, THPDS_L, THPDS_H, DTCCR_L, DTCCR_H, TPPoll, RDSAR_L, RDSAR_H } = RTL8169_DECLARATIONS;
const { TCR, RCR, TimerInt, CONFIG0, CONFIG1 } = RTL8169_DECLARATIONS;

const CAUSES = {
  SERR: [15, 15],
  TimeOut: [14, 14],
  LenChg: [13, 13],
  SWInt: [8, 8],
  TDU: [7, 7],
  FOVW: [6, 6],
  PUN_LinkChg: [5, 5],
  RXOVW: [4, 4],
  TER: [3, 3],
  TOK: [2, 2],
  RER: [1, 1],
  ROK: [0, 0],
} as const satisfies { readonly [name: string]: BitRange };

/** What all chips of the family have. Spread first in both maps, so that hooks keep their bits. */
const COMMON_DECLARATIONS = {
  IDR0,
  IDR4,
  MAR0,
  MAR4,
  RBSTART: { at: 0x30, width: 4, rw: 0xffff_ffff, hook: true, doc: "Receive buffer start address" },
  ERBCR,
  ERSR,
  CR: {
    at: 0x37,
    width: 1,
    rw: 0x1c,
    reset: 0x01,
    fields: { RST: [4, 4], RE: [3, 3], TE: [2, 2], BUFE: [0, 0] },
    hook: true,
    doc: "Command; RST clears itself, BUFE says that the receive buffer is empty",
  },
  CAPR: {
    at: 0x38,
    width: 2,
    rw: 0xffff,
    reset: 0xfff0,
    hook: true,
    doc: "Current address of packet read: offset of the next record to be read, less 16",
  },
  CBR: { at: 0x3a, width: 2, doc: "Current buffer address: offset at which the next record will stand" },
  IMR: { ...IMR, rw: 0xe1ff, fields: CAUSES },
  ISR: { ...ISR, w1c: 0xe1ff, fields: CAUSES },
  TCR: {
    ...TCR,
    rw: 0x0307_07f0,
    reset: 0x7480_0000,
    fields: {
      HWVERID1: [31, 26],
      IFG: [25, 24],
      HWVERID0: [23, 22],
      LBK: [18, 17],
      NoCRC: [16, 16],
      MXDMA: [10, 8],
      TXRR: [7, 4],
      CLRABT: [0, 0],
    },
    doc: "Transmit configuration; HWVERID names the chip and is read-only, CLRABT retries an aborted slot and reads 0",
  },
  RCR: {
    ...RCR,
    rw: 0x0f03_ffbf,
    fields: {
      ERTH: [27, 24],
      MulERINT: [17, 17],
      RER8: [16, 16],
      RXFTH: [15, 13],
      RBLEN: [12, 11],
      MXDMA: [10, 8],
      WRAP: [7, 7],
      "9356SEL": [6, 6],
      AER: [5, 5],
      AR: [4, 4],
      AB: [3, 3],
      AM: [2, 2],
      APM: [1, 1],
      AAP: [0, 0],
    },
    doc: "Receive configuration; WRAP 1 lets a record run past the end of the buffer; ERTH is stored only",
  },
  TCTR,
  MPC,
  Cr9346,
  CONFIG0,
  CONFIG1: { ...CONFIG1, reset: 0x0c },
  TimerInt: { ...TimerInt, at: 0x54 },
  MSR: {
    at: 0x58,
    width: 1,
    reset: 0xd4,
    fields: {
      TXFCE: [7, 7],
      RXFCE: [6, 6],
      Aux_Status: [4, 4],
      SPEED_10: [3, 3],
      LINKB: [2, 2],
      TXPF: [1, 1],
      RXPF: [0, 0],
    },
    doc: "Media status; LINKB is 0 while the link is up",
  },
  CONFIG3: {
    at: 0x59,
    width: 1,
    rw: 0x70,
    reset: 0x01,
    fields: {
      GNTSel: [7, 7],
      PARM_En: [6, 6],
      Magic: [5, 5],
      LinkUp: [4, 4],
      CardB_En: [3, 3],
      CLKRUN_En: [2, 2],
      FuncRegEn: [1, 1],
      FBtBEn: [0, 0],
    },
    lock: "9346CR.EEM = 11",
    doc: "Configuration 3: wake on magic packet, on link change",
  },
  CONFIG4: {
    at: 0x5a,
    width: 1,
    rw: 0xf5,
    fields: { RxFIFOAutoClr: [7, 7], AnaOff: [6, 6], LongWF: [5, 5], LWPME: [4, 4], LWPTN: [2, 2] },
    lock: "9346CR.EEM = 11",
    doc: "Configuration 4: LANWAKE pin",
  },
  HLTCLK: {
    at: 0x5b,
    width: 1,
    reset: 0x01,
    hook: true,
    doc: "Halt clock: a written 52h ('R') lets the clock run, 48h ('H') halts it in power down; Observed: reads 1 or 0",
  },
  MULINT,
  RERID: { at: 0x5e, width: 1, reset: 0x10, doc: "PCI revision, once more" },
  TSAD: {
    at: 0x60,
    width: 2,
    reset: 0x000f,
    fields: { TOK: [15, 12], TUN: [11, 8], TABT: [7, 4], OWN: [3, 0] },
    doc: "Transmit status of all four slots; slot n is bit n of each field. Old mode",
  },
  BMCR: {
    at: 0x62,
    width: 2,
    rw: 0x3100,
    reset: 0x1000,
    fields: { Reset: [15, 15], Spd_Set: [13, 13], ANE: [12, 12], RestartAN: [9, 9], Duplex: [8, 8] },
    hook: true,
    live: true,
    lock: "9346CR.EEM = 11 for bits 13, 12 and 8",
    doc: "Basic mode control; Reset and RestartAN clear themselves",
  },
  BMSR: {
    at: 0x64,
    width: 2,
    reset: 0x7809,
    fields: { ANComplete: [5, 5], LinkStatus: [2, 2] },
    live: true,
    doc: "Basic mode status; a lost link is shown to one read",
  },
  ANAR: { at: 0x66, width: 2, rw: 0x2fff, reset: 0x01e1, hook: true, live: true, doc: "Autonegotiation advertisement" },
  ANLPAR: { at: 0x68, width: 2, live: true, doc: "Autonegotiation link partner ability" },
  ANER: { at: 0x6a, width: 2, live: true, doc: "Autonegotiation expansion" },
  NWAYTR: { at: 0x70, width: 2, rw: 0x00ff, doc: "N-way test; stored only" },
  CSCR: {
    at: 0x74,
    width: 2,
    rw: 0x83e5,
    fields: {
      Testfun: [15, 15],
      LinkChange: [11, 11],
      LD: [9, 9],
      HEART_BEAT: [8, 8],
      JBEN: [7, 7],
      F_LINK_100: [6, 6],
      F_Connect: [5, 5],
      Con_status: [3, 3],
      Con_status_En: [2, 2],
      PASS_SCR: [0, 0],
    },
    doc: "CS configuration; Con_status follows the link, LinkChange tells that it changed until it is read, the rest is stored only",
  },
  PHY1_PARM: { at: 0x78, width: 4, rw: 0xffff_ffff, doc: "PHY parameter 1; stored only" },
  TW_PARM: { at: 0x7c, width: 4, rw: 0xffff_ffff, doc: "Twister parameter; stored only" },
  CONFIG5: {
    at: 0xd8,
    width: 1,
    rw: 0x7f,
    fields: {
      BWF: [6, 6],
      MWF: [5, 5],
      UWF: [4, 4],
      FIFOAddrPtr: [3, 3],
      LDPS: [2, 2],
      LANWake: [1, 1],
      PME_STS: [0, 0],
    },
    doc: "Configuration 5: wake-up frames",
  },
} as const satisfies { readonly [name: string]: RegisterDeclaration };

const slotStatus = (slot: number) =>
  ({
    at: 0x10 + 4 * slot,
    width: 4,
    rw: 0x003f_3fff,
    reset: 0x0000_2000,
    fields: RTL8139_TSD,
    hook: true,
    doc: `Transmit status of slot ${slot}: writing it with OWN 0 sends SIZE bytes from TSAD${slot}`,
  }) as const satisfies RegisterDeclaration;

const slotAddress = (slot: number) =>
  ({
    at: 0x20 + 4 * slot,
    width: 4,
    rw: 0xffff_ffff,
    doc: `Transmit start address of slot ${slot}`,
  }) as const satisfies RegisterDeclaration;

/** A transmit status register, TSD0–3. */
export const RTL8139_TSD = {
  CRS: [31, 31],
  TABT: [30, 30],
  OWC: [29, 29],
  CDH: [28, 28],
  NCC: [27, 24],
  ERTXTH: [21, 16],
  TOK: [15, 15],
  TUN: [14, 14],
  /** 1: the DMA is done and the slot is the driver's */
  OWN: [13, 13],
  SIZE: [12, 0],
} as const satisfies { readonly [name: string]: BitRange };

/** Slots of the old transmitter. */
export const RTL8139_TX_SLOTS = 4;

/** The old mode's four slots: all that the old chips have. */
export const RTL8139_DECLARATIONS = {
  ...COMMON_DECLARATIONS,
  TSD0: slotStatus(0),
  TSD1: slotStatus(1),
  TSD2: slotStatus(2),
  TSD3: slotStatus(3),
  TSAD0: slotAddress(0),
  TSAD1: slotAddress(1),
  TSAD2: slotAddress(2),
  TSAD3: slotAddress(3),
} as const satisfies { readonly [name: string]: RegisterDeclaration };

/** The C+ mode's rings, and tally counters. */
export const RTL8139CP_DECLARATIONS = {
  ...COMMON_DECLARATIONS,
  DTCCR_L: { ...DTCCR_L, doc: `${DTCCR_L.doc}. TSD0 while C+CR enables neither ring` },
  DTCCR_H: { ...DTCCR_H, doc: `${DTCCR_H.doc}. TSD1 while C+CR enables neither ring` },
  TNPDS_L: { ...TNPDS_L, doc: `${TNPDS_L.doc}. TSAD0 in the old mode` },
  TNPDS_H: { ...TNPDS_H, doc: `${TNPDS_H.doc}. TSAD1 in the old mode` },
  THPDS_L: { ...THPDS_L, doc: `${THPDS_L.doc}. TSAD2 in the old mode` },
  THPDS_H: { ...THPDS_H, doc: `${THPDS_H.doc}. TSAD3 in the old mode` },
  TPPoll: { ...TPPoll, at: 0xd9 },
  CPlusCR: {
    ...CPlusCR,
    rw: 0x027b,
    fields: {
      ENDIAN: [9, 9],
      RxVLAN: [6, 6],
      RxChkSum: [5, 5],
      DAC: [4, 4],
      MulRW: [3, 3],
      CPRX: [1, 1],
      CPTX: [0, 0],
    },
    doc: "C+CR: C+ command; CPTX and CPRX enable the descriptor rings in place of slots and receive buffer",
  },
  RDSAR_L,
  RDSAR_H,
  ETThR: { at: 0xec, width: 1, rw: 0xff, doc: "Early transmit threshold in units of 32 bytes; stored only" },
} as const satisfies { readonly [name: string]: RegisterDeclaration };

// ------------------------------------------------------------------------------------------------ the chips

/** What tells one chip of the family from another. */
export interface Rtl8139Chip {
  /** as printed by Linux's 8139too */
  readonly name: string;
  readonly deviceId: number;
  /** Linux's 8139too takes what is below 20h, 8139cp and the BSDs' re(4) take 20h */
  readonly revisionId: number;
  /** read-only bits of TCR: 31–26, 23 and 22 */
  readonly version: number;
  /** whether it has descriptor rings beside the old mode */
  readonly cplus: boolean;
}

const old = (name: string, version: number) =>
  ({ name, deviceId: 0x8139, revisionId: 0x10, version, cplus: false }) as const satisfies Rtl8139Chip;

/** The family, by the bits of TCR. */
export const RTL8139_CHIPS = {
  RTL8139: old("RTL-8139", 0x6000_0000),
  RTL8139A: old("RTL-8139A", 0x7000_0000),
  "RTL8139A-G": old("RTL-8139A rev G", 0x7080_0000),
  RTL8139B: old("RTL-8139B", 0x7800_0000),
  RTL8130: old("RTL-8130", 0x7c00_0000),
  RTL8139C: old("RTL-8139C", 0x7400_0000),
  RTL8100: old("RTL-8100", 0x7880_0000),
  RTL8139D: old("RTL-8100B/8139D", 0x7440_0000),
  RTL8101: old("RTL-8101", 0x74c0_0000),
  "RTL8139C+": { name: "C+", deviceId: 0x8139, revisionId: 0x20, version: 0x7480_0000, cplus: true },
} as const satisfies { readonly [name: string]: Rtl8139Chip };

/** Bits of TCR that name the chip. */
export const RTL8139_HWVERID = 0xfcc0_0000;

/** What every map of the family has: the same names and hooks. */
export type Rtl8139Registers = RegisterMap<keyof typeof COMMON_DECLARATIONS>;

type Declarations<Name extends string> = { readonly [N in Name]: RegisterDeclaration };

const mapOf = <Name extends string>(
  { name, version, revisionId }: Rtl8139Chip,
  declarations: Declarations<Name | "TCR" | "RERID">,
): RegisterMap<Name> =>
  defineRegisters<Name>(
    {
      name: `rtl8139 ${name}`,
      source: "RTL8139C(L) and RTL8139C+ data sheets; drivers of Linux and FreeBSD",
      size: 0x100,
    },
    {
      ...declarations,
      TCR: { ...declarations.TCR, reset: version },
      RERID: { ...declarations.RERID, reset: revisionId },
    } satisfies Declarations<Name>,
  );

/** Operational registers of the RTL8139C, one of the old chips: four transmit slots and one receive ring. */
export const RTL8139 = mapOf<keyof typeof RTL8139_DECLARATIONS>(RTL8139_CHIPS.RTL8139C, RTL8139_DECLARATIONS);

/**
 * Operational registers of the RTL8139C+ by their names in C+ mode. While C+CR enables neither ring, 10h–1Fh are TSD0–3
 * and 20h–2Fh TSAD0–3, as `RTL8139` names them.
 */
export const RTL8139CP = mapOf<keyof typeof RTL8139CP_DECLARATIONS>(RTL8139_CHIPS["RTL8139C+"], RTL8139CP_DECLARATIONS);

/** The register map of each chip: they differ in what names them, and in the C+ mode. */
export const RTL8139_MAPS: { readonly [chip in keyof typeof RTL8139_CHIPS]: Rtl8139Registers } = {
  RTL8139: mapOf(RTL8139_CHIPS.RTL8139, RTL8139_DECLARATIONS),
  RTL8139A: mapOf(RTL8139_CHIPS.RTL8139A, RTL8139_DECLARATIONS),
  "RTL8139A-G": mapOf(RTL8139_CHIPS["RTL8139A-G"], RTL8139_DECLARATIONS),
  RTL8139B: mapOf(RTL8139_CHIPS.RTL8139B, RTL8139_DECLARATIONS),
  RTL8130: mapOf(RTL8139_CHIPS.RTL8130, RTL8139_DECLARATIONS),
  RTL8139C: RTL8139,
  RTL8100: mapOf(RTL8139_CHIPS.RTL8100, RTL8139_DECLARATIONS),
  RTL8139D: mapOf(RTL8139_CHIPS.RTL8139D, RTL8139_DECLARATIONS),
  RTL8101: mapOf(RTL8139_CHIPS.RTL8101, RTL8139_DECLARATIONS),
  "RTL8139C+": RTL8139CP,
};

// ------------------------------------------------------------------------------------------------ the old receive ring

/** Receive buffer for RCR.RBLEN = 0, bytes; each step doubles it. The driver provides 16 more, and 1500 with WRAP. */
export const RTL8139_RX_RING = 0x2000;
/** CAPR stands so many bytes before the record that is to be read. */
export const RTL8139_CAPR_BIAS = 16;
/** Status and length in front of each record, 16 bits each. */
export const RTL8139_RX_HEADER_SIZE = 4;
/** Records begin at multiples of this. */
export const RTL8139_RX_ALIGN = 4;

/** First word of a record; the second is the length with FCS. */
export const RTL8139_RX_HEADER = {
  MAR: [15, 15],
  PAM: [14, 14],
  BAR: [13, 13],
  ISE: [5, 5],
  RUNT: [4, 4],
  LONG: [3, 3],
  CRC: [2, 2],
  FAE: [1, 1],
  ROK: [0, 0],
} as const satisfies { readonly [name: string]: BitRange };

// ------------------------------------------------------------------------------------------------ C+ descriptors

/** descriptors per ring; the rest of the format is the RTL8169's */
export const RTL8139CP_MAX_DESCS = 64;
/** A status descriptor's flags stand one bit lower than the RTL8169's, and its length has 13 bits. */
export const RTL8139CP_RX_STATUS_SHIFT = 1;
export const RTL8139CP_RX_LENGTH = 0x1fff;
/** Frames longer than this, FCS included, are flagged: RWT in a descriptor, LONG in a record. */
export const RTL8139_LONG_FRAME = 4096;

/** HLTCLK */
export const HLTCLK_RUN = 0x52;
export const HLTCLK_HALT = 0x48;
