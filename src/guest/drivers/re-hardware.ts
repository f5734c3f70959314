import { bits } from "../../regs/index.js";
import { RTL8139CP_DECLARATIONS as C, RTL8139_CHIPS, RTL8139CP_MAX_DESCS } from "../../spec/rtl8139.js";
import { RTL8169_DECLARATIONS as R, REALTEK_VENDOR_ID, RTL8169_CHIPS } from "../../spec/rtl8169.js";
import { DriverError, type PciProbe, type PnpMatch } from "../types.js";

/*
 * The chips that `re` drives, as data: what FreeBSD's re(4) decides by revision in the midst of its code. Chips on PCI Express
 * are left out.
 */

/** Registers that stand in another place on the 8139C+. */
export interface ReLayout {
  readonly TPPoll: number;
  readonly TimerInt: number;
  readonly CONFIG3: number;
  readonly CONFIG5: number;
}

const GIGABIT: ReLayout = {
  TPPoll: R.TPPoll.at,
  TimerInt: R.TimerInt.at,
  CONFIG3: R.CONFIG3.at,
  CONFIG5: R.CONFIG5.at,
};
const CPLUS: ReLayout = {
  TPPoll: C.TPPoll.at,
  TimerInt: C.TimerInt.at,
  CONFIG3: C.CONFIG3.at,
  CONFIG5: C.CONFIG5.at,
};
/** One bit is enough on gigabit chips; the C+ wants both. */
const LOOPBACK = 0x0002_0000;
const LOOPBACK_CPLUS = bits(C.TCR.fields.LBK);

/** One revision of the hardware. */
export interface ReHardware {
  /** as re(4) prints it */
  readonly name: string;
  /** bits of TCR that name the chip, as `hardwareRevision` takes them out */
  readonly revision: number;
  readonly layout: ReLayout;
  /** PHY behind PHYAR, length fields of 14 bits, moderation, RMS; otherwise an 8139C+ */
  readonly gigabit: boolean;
  /** descriptors per ring */
  readonly descriptors: number;
  /** payload bytes of the longest frame */
  readonly maxMtu: number;
  /** loopback bits of TCR */
  readonly loopback: number;
  /** register 82h is written after a reset */
  readonly macReset: boolean;
  /** the PHY sleeps, until register 0Eh is cleared */
  readonly phyWake: boolean;
  /** PHY register 0Bh is cleared after each reset */
  readonly phyReset0b: boolean;
  /** what register 7Ch wants, its low byte apart, which tells the bus clock; null: nothing */
  readonly magic7c: number | null;
  /** attach proves by a frame in the loop that DMA works: boards of this chip had their bus wired wrong */
  readonly diagnose: boolean;
}

/** RL_JUMBO_MTU: frames of 7440 bytes with tag and FCS, for which the chips have room; no length field limits them. */
const JUMBO_MTU = 7418;
const SEVEN_C_SC = 0x000f_ff00;

const gigabit = (name: string, revision: number, differs: Partial<ReHardware> = {}): ReHardware => ({
  name,
  revision,
  layout: GIGABIT,
  gigabit: true,
  descriptors: 256,
  maxMtu: JUMBO_MTU,
  loopback: LOOPBACK,
  macReset: true,
  phyWake: false,
  phyReset0b: false,
  magic7c: null,
  diagnose: false,
  ...differs,
});

const CPLUS_CHIP = RTL8139_CHIPS["RTL8139C+"];

/** The hardware revisions. */
export const RE_HARDWARE: readonly ReHardware[] = [
  gigabit("8169", RTL8169_CHIPS.RTL8169.version, { diagnose: true }),
  gigabit("8169S", RTL8169_CHIPS.RTL8169S.version, { phyReset0b: true }),
  gigabit("8110S", RTL8169_CHIPS.RTL8110S.version),
  gigabit("8169SB/8110SB", RTL8169_CHIPS.RTL8169SB.version, { phyWake: true }),
  gigabit("8169SBL/8110SBL", 0x7cc0_0000, { phyWake: true }),
  gigabit("8169SC/8110SC", RTL8169_CHIPS.RTL8169SC.version, { phyWake: true, magic7c: SEVEN_C_SC }),
  gigabit("8169SC/8110SC", RTL8169_CHIPS.RTL8169SCe.version, { phyWake: true, magic7c: SEVEN_C_SC | 0x00f0_0000 }),
  {
    ...gigabit(CPLUS_CHIP.name, CPLUS_CHIP.version),
    layout: CPLUS,
    gigabit: false,
    descriptors: RTL8139CP_MAX_DESCS,
    maxMtu: 1500,
    loopback: LOOPBACK_CPLUS,
    macReset: false,
  },
];

/** The bits of TCR that tell revisions apart: which ones count follows from three of them. */
export const hardwareRevision = (tcr: number): number => {
  const generation = tcr & 0x7000_0000;
  return (tcr & (generation === 0 || generation === 0x1000_0000 ? 0xfcc0_0000 : 0x7cc0_0000)) >>> 0;
};

/** @throws DriverError ENXIO */
export const hardwareOf = (revision: number): ReHardware => {
  const found = RE_HARDWARE.find((row) => row.revision === revision);
  if (found === undefined) throw new DriverError("ENXIO", `unknown H/W revision: 0x${hex8(revision)}`);
  return found;
};

export const hex8 = (value: number): string => value.toString(16).padStart(8, "0");

interface ReDevice extends PnpMatch {
  readonly vendor: number;
  readonly device: number;
  readonly desc: string;
  /** reads its registers by the ports, whatever else it could */
  readonly ports?: true;
  /** CONFIG2 cannot ask for messages */
  readonly noMessages?: true;
}

const GIGABIT_DESC = "RealTek 8169/8169S/8169SB(L)/8110S/8110SB(L) Gigabit Ethernet";

/** The functions that `re` claims; boards of others that carry these chips come last. */
export const RE_DEVICES: readonly ReDevice[] = [
  { vendor: REALTEK_VENDOR_ID, device: RTL8169_CHIPS.RTL8169SB.deviceId, desc: GIGABIT_DESC },
  {
    vendor: REALTEK_VENDOR_ID,
    device: RTL8169_CHIPS.RTL8169SC.deviceId,
    desc: "RealTek 8169SC/8110SC Single-chip Gigabit Ethernet",
    ports: true,
  },
  {
    vendor: REALTEK_VENDOR_ID,
    device: CPLUS_CHIP.deviceId,
    revid: CPLUS_CHIP.revisionId,
    noMessages: true,
    desc: "RealTek 8139C+ 10/100BaseTX",
  },
  { vendor: 0x1186, device: 0x4300, desc: "D-Link DGE-528(T) Gigabit Ethernet Adapter" },
  { vendor: 0x1186, device: 0x4302, desc: "D-Link DGE-530(T) Gigabit Ethernet Adapter" },
  { vendor: 0x1259, device: 0xc107, desc: "Corega CG-LAPCIGT (RTL8169S) Gigabit Ethernet" },
  { vendor: 0x1737, device: 0x1032, subdevice: 0x0024, desc: "Linksys EG1032 (RTL8169S) Gigabit Ethernet" },
  { vendor: 0x16ec, device: 0x0116, desc: "US Robotics 997902 (RTL8169S) Gigabit Ethernet" },
];

/** The same as a match table. */
export const RE_PNP: readonly PnpMatch[] = RE_DEVICES.map(({ vendor, device, revid, subdevice }) => ({
  vendor,
  device,
  ...(revid === undefined ? {} : { revid }),
  ...(subdevice === undefined ? {} : { subdevice }),
}));

/** The row of a function, or undefined. */
export const reDevice = (view: PciProbe): ReDevice | undefined =>
  RE_DEVICES.find(
    (row) =>
      row.vendor === view.vendor &&
      row.device === view.device &&
      (row.revid ?? view.revid) === view.revid &&
      (row.subdevice ?? view.subdevice) === view.subdevice,
  );
