import type { AccessWidth, BarHandler } from "../../../contract/index.js";
import type { BarDeclaration } from "../../../pci/index.js";

/** Selector, and the data behind it. QEMU docs/specs/fw_cfg */
export const FW_CFG_PORT = 0x510;

const KEY_SIGNATURE = 0x00;
const KEY_ID = 0x01;
const KEY_UUID = 0x02;
const KEY_RAM_SIZE = 0x03;
const KEY_NOGRAPHIC = 0x04;
const KEY_NB_CPUS = 0x05;
const KEY_MAX_CPUS = 0x0f;
const KEY_FILE_DIR = 0x19;

const littleEndian = (value: number, size: number): Buffer => {
  const bytes = Buffer.alloc(size);
  bytes.writeBigUInt64LE(BigInt(value), 0);
  return bytes;
};
const word = (value: number): Buffer => littleEndian(value, 8).subarray(0, 2);

export interface FwCfgContents {
  /** bytes */
  readonly ramSize: number;
  readonly cpus: number;
}

/**
 * What firmware is told of the machine: a key goes to the selector port, bytes come out of the data port. The traditional
 * interface, without DMA and without files.
 */
export class FwCfg implements BarHandler {
  readonly declaration: BarDeclaration;
  readonly #items: ReadonlyMap<number, Uint8Array>;
  #item: Uint8Array | undefined;
  #at = 0;

  constructor({ ramSize, cpus }: FwCfgContents) {
    this.declaration = { kind: "io", size: 2, accepts: [1, 2], rejected: 0, handler: this };
    this.#items = new Map<number, Uint8Array>([
      [KEY_SIGNATURE, Buffer.from("QEMU", "latin1")],
      [KEY_ID, Uint8Array.of(1, 0, 0, 0)], // traditional interface, no DMA
      [KEY_UUID, new Uint8Array(16)],
      [KEY_RAM_SIZE, littleEndian(ramSize, 8)],
      [KEY_NOGRAPHIC, word(1)],
      [KEY_NB_CPUS, word(cpus)],
      [KEY_MAX_CPUS, word(cpus)],
      [KEY_FILE_DIR, new Uint8Array(4)], // no files
    ]);
    this.#item = this.#items.get(KEY_SIGNATURE);
  }

  read(offset: number, width: AccessWidth): number {
    return offset === 1 && width === 1 ? (this.#item?.[this.#at++] ?? 0) : 0;
  }

  write(offset: number, width: AccessWidth, value: number): void {
    if (offset !== 0 || width !== 2) return;
    this.#item = this.#items.get(value);
    this.#at = 0;
  }

  reset(): void {
    this.#item = this.#items.get(KEY_SIGNATURE);
    this.#at = 0;
  }
}
