import { ConfigError } from "../bytes/index.js";
import type { AccessWidth, ResetKind } from "../contract/index.js";
import { PCI_CAP_ID_EXP } from "../spec/pci.js";
import {
  PCI_CAP_EXP_SIZEOF,
  PCI_EXP_DEVCAP,
  PCI_EXP_DEVCAP_FLR,
  PCI_EXP_DEVCAP_RBER,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
  PCI_EXP_DEVCTL_RESET,
  PCI_EXP_DEVSTA,
  PCI_EXP_DEVSTA_CED,
  PCI_EXP_DEVSTA_FED,
  PCI_EXP_DEVSTA_NFED,
  PCI_EXP_DEVSTA_URD,
  PCI_EXP_FLAGS,
  PCI_EXP_FLAGS_SLOT,
  PCI_EXP_LNKCAP,
  PCI_EXP_LNKCAP_2_5GB_X1,
  PCI_EXP_LNKCAP_DLLLARC,
  PCI_EXP_LNKCTL,
  PCI_EXP_LNKSTA,
  PCI_EXP_LNKSTA_2_5GB_X1,
  PCI_EXP_LNKSTA_DLLLA,
  PCI_EXP_SLTCAP,
  PCI_EXP_SLTCAP_EIP,
  PCI_EXP_SLTCAP_HOTPLUG,
  PCI_EXP_SLTCTL,
  PCI_EXP_SLTCTL_AIC_OFF,
  PCI_EXP_SLTCTL_DLLSCE,
  PCI_EXP_SLTCTL_EIC,
  PCI_EXP_SLTCTL_HPIE,
  PCI_EXP_SLTCTL_PCC,
  PCI_EXP_SLTCTL_PIC_OFF,
  PCI_EXP_SLTCTL_PIC_ON,
  PCI_EXP_SLTSTA,
  PCI_EXP_SLTSTA_ABP,
  PCI_EXP_SLTSTA_CC,
  PCI_EXP_SLTSTA_DLLSC,
  PCI_EXP_SLTSTA_EIS,
  PCI_EXP_SLTSTA_MRLSC,
  PCI_EXP_SLTSTA_PDC,
  PCI_EXP_SLTSTA_PDS,
  PCI_EXP_SLTSTA_PFD,
  PCI_EXP_TYPE_ENDPOINT,
  PCI_EXP_TYPE_RC_END,
  PCI_EXP_TYPE_ROOT_PORT,
} from "../spec/pci-express.js";
import type { Capability, CapabilityHost } from "./declaration.js";

const VERSION = 2;
const LAST_SLOT = 0x1fff;
const TYPES = {
  endpoint: PCI_EXP_TYPE_ENDPOINT,
  "root-port": PCI_EXP_TYPE_ROOT_PORT,
  "integrated-endpoint": PCI_EXP_TYPE_RC_END,
} as const;

const DEVSTA = {
  correctable: PCI_EXP_DEVSTA_CED,
  "non-fatal": PCI_EXP_DEVSTA_NFED,
  fatal: PCI_EXP_DEVSTA_FED,
  "unsupported-request": PCI_EXP_DEVSTA_URD,
} as const;
const DEVSTA_W1C = PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD;

const SLTSTA_EVENTS =
  PCI_EXP_SLTSTA_ABP |
  PCI_EXP_SLTSTA_PFD |
  PCI_EXP_SLTSTA_MRLSC |
  PCI_EXP_SLTSTA_PDC |
  PCI_EXP_SLTSTA_CC |
  PCI_EXP_SLTSTA_DLLSC;
/** Events 0 … 4 are enabled by the same bits of Slot Control. */
const SAME_BITS = 0x001f;
const SLTCTL_RW = 0x1fff;
const SLTCTL_RESET = PCI_EXP_SLTCTL_AIC_OFF | PCI_EXP_SLTCTL_PIC_OFF | PCI_EXP_SLTCTL_PCC;

export interface PciExpressOptions {
  /** an endpoint behind a port, one on the root bus, or a root port; default `integrated-endpoint` */
  readonly type?: keyof typeof TYPES;
  /** function level reset by Device Control; default false */
  readonly flr?: boolean;
  /** root ports only: physical number of their slot, 1 … 8191, with hot plug; default: no slot */
  readonly slot?: number;
  /** fixed offset in configuration space */
  readonly at?: number;
}

/**
 * The PCI Express capability, version 2, with function level reset, and a port's slot: presence, attention button, power and
 * indicators, hot-plug events. Links train at once and are all of 2.5 GT/s, one lane. PCI Express 3.0 §7.8, §6.7
 */
export class PciExpress implements Capability {
  readonly id = PCI_CAP_ID_EXP;
  readonly at?: number;
  readonly image = new Uint8Array(PCI_CAP_EXP_SIZEOF);
  readonly rw = new Uint8Array(PCI_CAP_EXP_SIZEOF);
  readonly w1c = new Uint8Array(PCI_CAP_EXP_SIZEOF);
  readonly live = new Uint8Array(PCI_CAP_EXP_SIZEOF);
  /** Told when the hot-plug interrupt rises or falls. */
  onHotPlug: ((level: boolean) => void) | null = null;
  readonly #slot: boolean;
  #host: CapabilityHost | null = null;
  #place = 0;
  #present = false; // the embedder's, not the guest's: no reset changes it
  #level = false; // follows Slot Control and Slot Status

  /** @throws ConfigError `express-slot` */
  constructor({ type = "integrated-endpoint", flr = false, slot, at }: PciExpressOptions = {}) {
    if (at !== undefined) this.at = at;
    if (slot !== undefined && !(type === "root-port" && Number.isInteger(slot) && slot >= 1 && slot <= LAST_SLOT))
      throw new ConfigError("express-slot", `slot ${slot} of a ${type}; expected 1 … ${LAST_SLOT} of a root port`);
    this.#slot = slot !== undefined;
    const image = new DataView(this.image.buffer);
    const rw = new DataView(this.rw.buffer);
    const flags = VERSION | (TYPES[type] << 4) | (this.#slot ? PCI_EXP_FLAGS_SLOT : 0);
    image.setUint16(PCI_EXP_FLAGS, flags, true);
    image.setUint32(PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | (flr ? PCI_EXP_DEVCAP_FLR : 0), true);
    image.setUint16(PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_RESET, true);
    rw.setUint16(PCI_EXP_DEVCTL, 0x7fff | (flr ? PCI_EXP_DEVCTL_BCR_FLR : 0), true);
    this.w1c[PCI_EXP_DEVSTA] = DEVSTA_W1C;
    if (type === "integrated-endpoint") return; // it has no link
    const isPort = type === "root-port";
    image.setUint32(PCI_EXP_LNKCAP, PCI_EXP_LNKCAP_2_5GB_X1 | (isPort ? PCI_EXP_LNKCAP_DLLLARC : 0), true);
    image.setUint16(PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_2_5GB_X1, true);
    rw.setUint16(PCI_EXP_LNKCTL, isPort ? 0x00d3 : 0x01c3, true);
    if (!this.#slot) return;
    this.live[PCI_EXP_LNKSTA + 1] = PCI_EXP_LNKSTA_DLLLA >>> 8;
    image.setUint32(PCI_EXP_SLTCAP, PCI_EXP_SLTCAP_HOTPLUG | PCI_EXP_SLTCAP_EIP | ((slot ?? 0) << 19), true);
    image.setUint16(PCI_EXP_SLTCTL, SLTCTL_RESET, true);
    rw.setUint16(PCI_EXP_SLTCTL, SLTCTL_RW, true);
    new DataView(this.w1c.buffer).setUint16(PCI_EXP_SLTSTA, SLTSTA_EVENTS, true);
    new DataView(this.live.buffer).setUint16(PCI_EXP_SLTSTA, PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_EIS, true);
  }

  /** Latches an error in Device Status. §7.8.5 */
  detected(error: keyof typeof DEVSTA): void {
    this.#set(PCI_EXP_DEVSTA, this.#get(PCI_EXP_DEVSTA) | DEVSTA[error]);
  }

  /** Something is in the slot now, or nothing any more: presence and link follow, and both tell of it. */
  occupy(present: boolean): void {
    if (present === this.#present) return;
    this.#present = present;
    this.#show();
    this.#latch(PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
  }

  /** Somebody pressed the slot's attention button: asks the guest to let go of what is in it, or to take it. */
  pressAttentionButton(): void {
    this.#latch(PCI_EXP_SLTSTA_ABP);
  }

  /** Whether the guest has the slot's power on. */
  get slotPower(): boolean {
    return (this.#get(PCI_EXP_SLTCTL) & PCI_EXP_SLTCTL_PCC) === 0;
  }

  bind(host: CapabilityHost, at: number): void {
    this.#host = host;
    this.#place = at;
  }

  written(first: number, last: number): void {
    if (first <= PCI_EXP_DEVCTL + 1 && last >= PCI_EXP_DEVCTL) {
      const control = this.#get(PCI_EXP_DEVCTL);
      if ((control & PCI_EXP_DEVCTL_BCR_FLR) !== 0) {
        this.#set(PCI_EXP_DEVCTL, control & ~PCI_EXP_DEVCTL_BCR_FLR); // reads 0, always
        this.#host?.resetFunction();
      }
    }
    if (!this.#slot || first > PCI_EXP_SLTSTA + 1 || last < PCI_EXP_SLTCTL) return;
    if (first < PCI_EXP_SLTSTA) {
      const control = this.#get(PCI_EXP_SLTCTL);
      if ((control & PCI_EXP_SLTCTL_EIC) !== 0) {
        this.#set(PCI_EXP_SLTCTL, control & ~PCI_EXP_SLTCTL_EIC); // a pulse
        this.#set(PCI_EXP_SLTSTA, this.#get(PCI_EXP_SLTSTA) ^ PCI_EXP_SLTSTA_EIS);
      }
      this.#latch(PCI_EXP_SLTSTA_CC); // each write is a command, and done at once. §6.7.3.2
    } else this.#follow();
  }

  reset(_kind: ResetKind): void {
    if (!this.#slot) return;
    this.#show();
    const occupied = PCI_EXP_SLTCTL_AIC_OFF | PCI_EXP_SLTCTL_PIC_ON;
    this.#set(PCI_EXP_SLTCTL, this.#present ? occupied : SLTCTL_RESET);
    this.#follow();
  }

  restored(): void {
    if (this.#slot) this.#level = this.#wanted;
  }

  #show(): void {
    const status = this.#get(PCI_EXP_SLTSTA) & ~PCI_EXP_SLTSTA_PDS;
    const link = this.#get(PCI_EXP_LNKSTA) & ~PCI_EXP_LNKSTA_DLLLA;
    this.#set(PCI_EXP_SLTSTA, this.#present ? status | PCI_EXP_SLTSTA_PDS : status);
    this.#set(PCI_EXP_LNKSTA, this.#present ? link | PCI_EXP_LNKSTA_DLLLA : link);
  }

  #latch(events: number): void {
    if (!this.#slot) return;
    this.#set(PCI_EXP_SLTSTA, this.#get(PCI_EXP_SLTSTA) | events);
    this.#follow();
  }

  /** An event that is latched, enabled, and let through by the hot-plug interrupt's own enable. §6.7.3.4 */
  get #wanted(): boolean {
    const control = this.#get(PCI_EXP_SLTCTL);
    const status = this.#get(PCI_EXP_SLTSTA);
    const link = (control & PCI_EXP_SLTCTL_DLLSCE) !== 0 && (status & PCI_EXP_SLTSTA_DLLSC) !== 0;
    return (control & PCI_EXP_SLTCTL_HPIE) !== 0 && ((control & status & SAME_BITS) !== 0 || link);
  }

  #follow(): void {
    const level = this.#wanted;
    if (level === this.#level) return;
    this.#level = level;
    this.onHotPlug?.(level);
  }

  #get(offset: number, width: AccessWidth = 2): number {
    return this.#host?.get(this.#place + offset, width) ?? 0;
  }

  #set(offset: number, value: number): void {
    this.#host?.set(this.#place + offset, 2, value);
  }
}
