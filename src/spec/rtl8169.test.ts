import { test } from "uvu";
import * as assert from "uvu/assert";
import { bits } from "../regs/index.js";
import * as spec from "./rtl8169.js";

const { RTL8169, RTL8169_CHIPS } = spec;

/** Offsets in FreeBSD's if_rlreg.h (RL_*, with the names of the data sheet) and Linux's r8169_main.c. */
const OFFSETS: { readonly [offset: string]: string } = {
  "0x00": "IDR0",
  "0x08": "MAR0",
  "0x0c": "MAR4",
  "0x10": "DTCCR_L",
  "0x14": "DTCCR_H",
  "0x20": "TNPDS_L",
  "0x24": "TNPDS_H",
  "0x28": "THPDS_L",
  "0x2c": "THPDS_H",
  "0x37": "CR",
  "0x38": "TPPoll",
  "0x3c": "IMR",
  "0x3e": "ISR",
  "0x40": "TCR",
  "0x44": "RCR",
  "0x48": "TCTR",
  "0x4c": "MPC",
  "0x50": "Cr9346",
  "0x51": "CONFIG0",
  "0x52": "CONFIG1",
  "0x53": "CONFIG2",
  "0x54": "CONFIG3",
  "0x55": "CONFIG4",
  "0x56": "CONFIG5",
  "0x58": "TimerInt",
  "0x60": "PHYAR",
  "0x64": "TBICSR",
  "0x6c": "PHYStatus",
  "0xda": "RMS",
  "0xe0": "CPlusCR",
  "0xe2": "IntrMitigate",
  "0xe4": "RDSAR_L",
  "0xe8": "RDSAR_H",
  "0xec": "ETThR",
};

test("registers stand where drivers look for them", () => {
  const names = new Map(RTL8169.list.map(({ at, name }) => [at, name as string]));
  for (const [at, name] of Object.entries(OFFSETS)) assert.is(names.get(Number(at)), name, at);
  assert.is(RTL8169.size, 256);
});

test("fields have the masks that drivers write", () => {
  const mask = (name: keyof typeof RTL8169.regs, field: string): number => bits(RTL8169.regs[name].fields[field]!);
  for (const [name, field, expected] of [
    ["CR", "RST", 0x10],
    ["CR", "RE", 0x08],
    ["CR", "TE", 0x04],
    ["TPPoll", "NPQ", 0x40],
    ["TPPoll", "FSWInt", 0x01],
    ["ISR", "ROK", 0x0001],
    ["ISR", "RER", 0x0002],
    ["ISR", "TOK", 0x0004],
    ["ISR", "TER", 0x0008],
    ["ISR", "RDU", 0x0010],
    ["ISR", "LinkChg", 0x0020],
    ["ISR", "FOVW", 0x0040],
    ["ISR", "TDU", 0x0080],
    ["ISR", "SWInt", 0x0100],
    ["ISR", "TimeOut", 0x4000],
    ["ISR", "SERR", 0x8000],
    ["TCR", "IFG", 0x0300_0000],
    ["TCR", "LBK", 0x0006_0000],
    ["TCR", "NoCRC", 0x0001_0000],
    ["TCR", "MXDMA", 0x0000_0700],
    ["RCR", "AAP", 0x01],
    ["RCR", "APM", 0x02],
    ["RCR", "AM", 0x04],
    ["RCR", "AB", 0x08],
    ["RCR", "RXFTH", 0xe000],
    ["Cr9346", "EEM", 0xc0],
    ["CONFIG1", "PMEn", 0x01],
    ["CONFIG1", "DVRLOAD", 0x20],
    ["CONFIG2", "MSI", 0x20],
    ["PHYAR", "Flag", 0x8000_0000],
    ["PHYStatus", "LinkSts", 0x02],
    ["PHYStatus", "1000MF", 0x10],
    ["CPlusCR", "RxVLAN", 0x0040],
    ["CPlusCR", "RxChkSum", 0x0020],
    ["CPlusCR", "MulRW", 0x0008],
  ] as const)
    assert.is(mask(name, field), expected, `${name}.${field}`);
  assert.equal(RTL8169.regs.IMR.fields, RTL8169.regs.ISR.fields);
});

test("descriptor bits are those of drivers", () => {
  assert.is(bits(spec.RTL8169_TX_OPTS1.OWN), 0x8000_0000);
  assert.is(bits(spec.RTL8169_TX_OPTS1.EOR), 0x4000_0000);
  assert.is(bits(spec.RTL8169_TX_OPTS1.FS), 0x2000_0000);
  assert.is(bits(spec.RTL8169_TX_OPTS1.LS), 0x1000_0000);
  assert.is(bits(spec.RTL8169_TX_OPTS1.LGSEN), 0x0800_0000);
  assert.is(bits(spec.RTL8169_TX_OPTS1.IPCS), 0x0004_0000);
  assert.is(bits(spec.RTL8169_TX_OPTS1.UDPCS), 0x0002_0000);
  assert.is(bits(spec.RTL8169_TX_OPTS1.TCPCS), 0x0001_0000);
  assert.is(bits(spec.RTL8169_TX_OPTS2.TAGC), 0x0002_0000);
  assert.is(bits(spec.RTL8169_RX_OPTS2.TAVA), 0x0001_0000);
  assert.is(bits(spec.RTL8169_RX_STATUS.RWT), 0x0040_0000);
  assert.is(bits(spec.RTL8169_RX_STATUS.RES), 0x0020_0000);
  assert.is(bits(spec.RTL8169_RX_STATUS.RUNT), 0x0010_0000);
  assert.is(bits(spec.RTL8169_RX_STATUS.CRC), 0x0008_0000);
  assert.is(bits(spec.RTL8169_RX_STATUS.Frame_Length), 0x3fff);
});

test("every driver's rule for the version finds each chip", () => {
  // Linux: XID and mask FC8h; FreeBSD: FCC0_0000h for the first generation.
  const { RTL8169S, RTL8110S, RTL8169SB, RTL8169SC } = RTL8169_CHIPS;
  for (const [chip, xid, version] of [
    [RTL8169S, 0x008, 0x0080_0000],
    [RTL8110S, 0x040, 0x0400_0000],
    [RTL8169SB, 0x100, 0x1000_0000],
    [RTL8169SC, 0x180, 0x1800_0000],
  ] as const) {
    assert.is((chip.version >>> 20) & 0xfcf & 0xfc8, xid, chip.name);
    assert.is((chip.version & 0xfcc0_0000) >>> 0, version, chip.name);
  }
});

test.run();
