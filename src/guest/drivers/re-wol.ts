import { bits } from "../../regs/index.js";
import {
  PCI_CAP_ID_PM,
  PCI_PM_CAP_PME_D3hot,
  PCI_PM_CTRL,
  PCI_PM_CTRL_PME_ENABLE,
  PCI_PM_CTRL_PME_STATUS,
  PCI_PM_PMC,
} from "../../spec/pci.js";
import { RTL8169_DECLARATIONS as R } from "../../spec/rtl8169.js";
import type { BusSpace, PciAttach, PciProbe } from "../types.js";
import { IFCAP_WOL_MAGIC, IFCAP_WOL_MCAST, IFCAP_WOL_UCAST } from "./ifnet.js";
import { lockConfig, unlockConfig } from "./re-eeprom.js";
import type { ReLayout } from "./re-hardware.js";

/* Wake-on-LAN: what a sleeping chip is to raise PME# for. */

/** What the chips can be woken by. */
export const RE_WOL = IFCAP_WOL_UCAST | IFCAP_WOL_MCAST | IFCAP_WOL_MAGIC;

const PMEN = bits(R.CONFIG1.fields.PMEn);
const MAGIC = bits(R.CONFIG3.fields.Magic);
const LINKUP = bits(R.CONFIG3.fields.LinkUp);
const BWF = bits(R.CONFIG5.fields.BWF);
const MWF = bits(R.CONFIG5.fields.MWF);
const UWF = bits(R.CONFIG5.fields.UWF);
const LANWAKE = bits(R.CONFIG5.fields.LANWake);

/** Deviation: FreeBSD takes the capability for enough, and arms chips that have no PME to raise. */
export const canWake = (pci: PciProbe): boolean => {
  const cap = pci.findCap(PCI_CAP_ID_PM);
  return cap !== null && (pci.readConfig(cap + PCI_PM_PMC, 2) & PCI_PM_CAP_PME_D3hot) !== 0;
};

const change = (io: BusSpace, at: number, clear: number, set: number): void =>
  io.write1(at, (io.read1(at) & ~clear) | set);

/** Tells a chip that was stopped what to wake for. @param wol IFCAP_WOL_* bits; none: nothing */
export const armWake = (pci: PciAttach, io: BusSpace, { CONFIG3, CONFIG5 }: ReLayout, wol: number): void => {
  const ucast = (wol & IFCAP_WOL_UCAST) !== 0 ? UWF : 0;
  const mcast = (wol & IFCAP_WOL_MCAST) !== 0 ? MWF | BWF : 0;
  unlockConfig(io);
  change(io, R.CONFIG1.at, PMEN, wol !== 0 ? PMEN : 0);
  change(io, CONFIG3, LINKUP | MAGIC, (wol & IFCAP_WOL_MAGIC) !== 0 ? MAGIC : 0);
  change(io, CONFIG5, BWF | MWF | UWF | LANWAKE, ucast | mcast | (wol !== 0 ? LANWAKE : 0));
  lockConfig(io);
  const cap = pci.findCap(PCI_CAP_ID_PM);
  if (cap === null) return;
  const status = pci.readConfig(cap + PCI_PM_CTRL, 2) & ~(PCI_PM_CTRL_PME_STATUS | PCI_PM_CTRL_PME_ENABLE);
  // A written 1 clears what an earlier wake left in PME_Status.
  const enable = wol !== 0 ? PCI_PM_CTRL_PME_STATUS | PCI_PM_CTRL_PME_ENABLE : 0;
  pci.writeConfig(cap + PCI_PM_CTRL, 2, status | enable);
};

/** A chip that is awake must not look for wake-up frames: they would get in the way of its filter. */
export const disarmWake = (io: BusSpace, { CONFIG3, CONFIG5 }: ReLayout): void => {
  unlockConfig(io);
  change(io, CONFIG3, LINKUP | MAGIC, 0);
  change(io, CONFIG5, BWF | MWF | UWF | LANWAKE, 0);
  lockConfig(io);
};
