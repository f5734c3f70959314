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

/** The last of the firmware is seen below 1 MiB, too, but no more than this. */
const ISA_FIRMWARE = 0x2_0000;

const littleEndian = (bytes: Uint8Array, at: number, width: AccessWidth): number => {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 0x100 + (bytes[at + i] ?? 0);
  return value;
};

/** Firmware at the end of the first 4 GiB; writes vanish. */
export const firmwareRegion = (firmware: Uint8Array): BarDeclaration => ({
  kind: "mem32",
  size: firmware.length,
  handler: { read: (offset, width) => littleEndian(firmware, offset, width), write: () => {} },
});

/**
 * The RAM behind the ROM area, as the host bridge's PAM registers let it through: reads that they do not meet ROM, which is
 * the firmware's end, or 0 where there is none; writes vanish.
 */
export class ShadowRam implements BarHandler {
  readonly declaration: BarDeclaration;
  readonly #view = new DataView(new ArrayBuffer(SHADOW_SIZE));
  readonly #pam: (register: number) => number;
  readonly #rom = new Uint8Array(SHADOW_SIZE);

  /** @param pam byte of the host bridge's configuration space */
  constructor(pam: (register: number) => number, firmware: Uint8Array | null) {
    if (firmware !== null) {
      const end = firmware.subarray(Math.max(0, firmware.length - ISA_FIRMWARE));
      this.#rom.set(end, SHADOW_SIZE - end.length);
    }
    this.declaration = { kind: "mem32", size: SHADOW_SIZE, handler: this };
    this.#pam = pam;
  }

  read(offset: number, width: AccessWidth): number {
    if ((this.#attributes(offset) & READ_ENABLE) === 0) return littleEndian(this.#rom, offset, width);
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
