import type { AccessWidth, BarHandler } from "../../../contract/index.js";
import type { BarDeclaration } from "../../../pci/index.js";

/** Where option ROMs and firmware are, or the RAM behind them. */
export const SHADOW_BASE = 0xc_0000;
const SHADOW_SIZE = 0x4_0000;

/** PAM0's upper half is the last 64 KiB; its lower half is reserved. 82441FX §3.2.16 */
const PAM0 = 0x59;
const FIRMWARE_AT = 0x3_0000;
/** bytes that one half of PAM1 … PAM6 speaks of */
const SEGMENT = 0x4000;
const READ_ENABLE = 1;
const WRITE_ENABLE = 2;

/**
 * The RAM behind the ROM area, as the host bridge's PAM registers let it through: reads that they do not meet ROM, of which
 * there is none here, and its 0; writes vanish.
 */
export class ShadowRam implements BarHandler {
  readonly declaration: BarDeclaration;
  readonly #view = new DataView(new ArrayBuffer(SHADOW_SIZE));
  readonly #pam: (register: number) => number;

  /** @param pam byte of the host bridge's configuration space */
  constructor(pam: (register: number) => number) {
    this.declaration = { kind: "mem32", size: SHADOW_SIZE, handler: this };
    this.#pam = pam;
  }

  read(offset: number, width: AccessWidth): number {
    if ((this.#attributes(offset) & READ_ENABLE) === 0) return 0;
    if (width === 4) return this.#view.getUint32(offset, true);
    return width === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint8(offset);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    if ((this.#attributes(offset) & WRITE_ENABLE) === 0) return;
    if (width === 4) this.#view.setUint32(offset, value, true);
    else if (width === 2) this.#view.setUint16(offset, value, true);
    else this.#view.setUint8(offset, value);
  }

  #attributes(offset: number): number {
    if (offset >= FIRMWARE_AT) return this.#pam(PAM0) >> 4;
    const half = Math.floor(offset / SEGMENT);
    return this.#pam(PAM0 + 1 + (half >> 1)) >> (4 * (half & 1));
  }
}
