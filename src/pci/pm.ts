import type { ResetKind } from "../contract/index.js";
import {
  PCI_CAP_ID_PM,
  PCI_PM_CTRL,
  PCI_PM_CTRL_NO_SOFT_RESET,
  PCI_PM_CTRL_PME_ENABLE,
  PCI_PM_CTRL_PME_STATUS,
  PCI_PM_CTRL_STATE_MASK,
  PCI_PM_PMC,
  PCI_PM_SIZEOF,
} from "../spec/pci.js";
import type { Capability, CapabilityHost } from "./declaration.js";

const D0 = 0;
const D3HOT = 3;

export interface PowerManagementOptions {
  /** fixed offset in configuration space */
  readonly at?: number;
  /** PMC as the data sheet prints it: version, D1, D2, PME support; default 0x0003 (version 1.2, D0 and D3hot, no PME) */
  readonly pmc?: number;
  /** configuration registers survive D3hot → D0; default true */
  readonly noSoftReset?: boolean;
}

/**
 * Power management: D0 and D3hot. In D3hot only configuration cycles are answered; no decoding, no DMA, no interrupts.
 * Writing D1 or D2 changes nothing, also where PMC announces them for a data sheet's sake. PM 1.2 §3.2, §5.4
 */
export class PowerManagement implements Capability {
  readonly id = PCI_CAP_ID_PM;
  readonly at?: number;
  readonly image = new Uint8Array(PCI_PM_SIZEOF);
  readonly rw = new Uint8Array(PCI_PM_SIZEOF);
  readonly w1c = new Uint8Array(PCI_PM_SIZEOF);
  readonly #softReset: boolean;
  #host: CapabilityHost | null = null;
  #place = 0;
  #state = D0;

  constructor({ at, pmc = 0x0003, noSoftReset = true }: PowerManagementOptions = {}) {
    if (at !== undefined) this.at = at;
    this.#softReset = !noSoftReset;
    this.image[PCI_PM_PMC] = pmc & 0xff;
    this.image[PCI_PM_PMC + 1] = pmc >>> 8;
    this.image[PCI_PM_CTRL] = noSoftReset ? PCI_PM_CTRL_NO_SOFT_RESET : 0;
    this.rw[PCI_PM_CTRL] = PCI_PM_CTRL_STATE_MASK;
    if (pmc >>> 11 === 0) return; // no PME from any state: its bits are hardwired
    this.rw[PCI_PM_CTRL + 1] = PCI_PM_CTRL_PME_ENABLE >>> 8;
    this.w1c[PCI_PM_CTRL + 1] = PCI_PM_CTRL_PME_STATUS >>> 8;
  }

  get powered(): boolean {
    return this.#state === D0;
  }

  /**
   * Latches PME status; the line PME# is its caller's to follow.
   * @returns whether PME# is asserted now and was not before: PME is enabled, and its status was clear. PM 1.2 §3.2.4
   */
  raisePme(): boolean {
    if (this.#host === null || this.w1c[PCI_PM_CTRL + 1] === 0) return false;
    const at = this.#place + PCI_PM_CTRL;
    const before = this.#host.get(at, 2);
    this.#host.set(at, 2, before | PCI_PM_CTRL_PME_STATUS);
    return (before & PCI_PM_CTRL_PME_ENABLE) !== 0 && (before & PCI_PM_CTRL_PME_STATUS) === 0;
  }

  bind(host: CapabilityHost, at: number): void {
    this.#host = host;
    this.#place = at;
  }

  written(first: number, last: number): void {
    if (this.#host === null || first > PCI_PM_CTRL || last < PCI_PM_CTRL) return;
    const byte = this.#host.get(this.#place + PCI_PM_CTRL, 1);
    const wanted = byte & PCI_PM_CTRL_STATE_MASK;
    if (wanted !== D0 && wanted !== D3HOT) {
      this.#host.set(this.#place + PCI_PM_CTRL, 1, (byte & ~PCI_PM_CTRL_STATE_MASK) | this.#state);
      return;
    }
    if (wanted === this.#state) return;
    this.#state = wanted;
    if (wanted === D0 && this.#softReset) this.#host.resetFunction();
    else this.#host.changed();
  }

  reset(_kind: ResetKind): void {
    this.#state = D0;
  }

  restored(): void {
    const state = (this.#host?.get(this.#place + PCI_PM_CTRL, 1) ?? 0) & PCI_PM_CTRL_STATE_MASK;
    this.#state = state === D0 ? D0 : D3HOT;
  }
}
