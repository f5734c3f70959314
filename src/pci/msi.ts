import { ConfigError } from "../bytes/index.js";
import {
  PCI_CAP_ID_MSI,
  PCI_MSI_ADDRESS_HI,
  PCI_MSI_ADDRESS_LO,
  PCI_MSI_DATA_32,
  PCI_MSI_DATA_64,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_MASKBIT,
  PCI_MSI_FLAGS_QSIZE,
  PCI_MSI_MASK_32,
  PCI_MSI_MASK_64,
  PCI_MSI_PENDING_32,
  PCI_MSI_PENDING_64,
} from "../spec/pci.js";
import type { Capability, CapabilityHost } from "./declaration.js";

export interface MsiOptions {
  /** 1, 2, 4, 8, 16 or 32; default 1 */
  readonly vectors?: number;
  /** 64-bit message addresses; default true */
  readonly address64?: boolean;
  /** per-vector masking; default false */
  readonly maskable?: boolean;
  /** fixed offset in configuration space */
  readonly at?: number;
}

/**
 * MSI: one address, up to 32 vectors told apart by the low bits of the data. PCI 3.0 §6.8.1
 * A masked vector sets its pending bit and is sent once when the mask clears.
 */
export class Msi implements Capability {
  readonly id = PCI_CAP_ID_MSI;
  readonly at?: number;
  readonly image: Uint8Array;
  readonly rw: Uint8Array;
  readonly live: Uint8Array;
  readonly #log2: number; // of the vectors asked for
  readonly #dataAt: number;
  readonly #maskAt: number; // 0: no masking
  readonly #pendingAt: number;
  readonly #address64: boolean;
  #host: CapabilityHost | null = null;
  #place = 0;

  /** @throws ConfigError `msi-vectors` */
  constructor({ vectors = 1, address64 = true, maskable = false, at }: MsiOptions = {}) {
    this.#log2 = [1, 2, 4, 8, 16, 32].indexOf(vectors);
    if (this.#log2 < 0) throw new ConfigError("msi-vectors", `${vectors} MSI vectors; expected 1, 2, 4, 8, 16 or 32`);
    if (at !== undefined) this.at = at;
    this.#address64 = address64;
    this.#dataAt = address64 ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32;
    this.#maskAt = !maskable ? 0 : address64 ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32;
    this.#pendingAt = !maskable ? 0 : address64 ? PCI_MSI_PENDING_64 : PCI_MSI_PENDING_32;
    const size = maskable ? this.#pendingAt + 4 : this.#dataAt + 2;
    this.image = new Uint8Array(size);
    this.rw = new Uint8Array(size);
    this.live = new Uint8Array(size);
    const rw = new DataView(this.rw.buffer);
    const flags = (this.#log2 << 1) | (address64 ? PCI_MSI_FLAGS_64BIT : 0) | (maskable ? PCI_MSI_FLAGS_MASKBIT : 0);
    new DataView(this.image.buffer).setUint16(PCI_MSI_FLAGS, flags, true);
    rw.setUint16(PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE, true);
    rw.setUint32(PCI_MSI_ADDRESS_LO, 0xffff_fffc, true);
    if (address64) rw.setUint32(PCI_MSI_ADDRESS_HI, 0xffff_ffff, true);
    rw.setUint16(this.#dataAt, 0xffff, true);
    if (!maskable) return;
    rw.setUint32(this.#maskAt, 2 ** vectors - 1, true);
    new DataView(this.live.buffer).setUint32(this.#pendingAt, 2 ** vectors - 1, true);
  }

  get messagesEnabled(): boolean {
    return (this.#get(PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE) !== 0;
  }

  /** Vectors beyond those the guest enabled share the ones it did. PCI 3.0 §6.8.1.6 */
  signal(vector: number): void {
    if (!this.messagesEnabled || vector < 0) return;
    const enabled = 1 << ((this.#get(PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QSIZE) >> 4);
    const index = vector & (enabled - 1);
    if (this.#maskAt !== 0 && (this.#get(this.#maskAt, 4) & (1 << index)) !== 0)
      this.#set(this.#pendingAt, 4, (this.#get(this.#pendingAt, 4) | (1 << index)) >>> 0);
    else this.#send(index, enabled);
  }

  bind(host: CapabilityHost, at: number): void {
    this.#host = host;
    this.#place = at;
  }

  written(first: number, last: number): void {
    if (first <= PCI_MSI_FLAGS + 1 && last >= PCI_MSI_FLAGS) {
      const flags = this.#get(PCI_MSI_FLAGS, 2);
      if ((flags & PCI_MSI_FLAGS_QSIZE) >> 4 > this.#log2)
        this.#set(PCI_MSI_FLAGS, 2, (flags & ~PCI_MSI_FLAGS_QSIZE) | (this.#log2 << 4));
      this.#host?.changed();
    }
    if (this.#maskAt === 0 || !this.messagesEnabled) return;
    const ready = this.#get(this.#pendingAt, 4) & ~this.#get(this.#maskAt, 4);
    if (ready === 0) return;
    this.#set(this.#pendingAt, 4, (this.#get(this.#pendingAt, 4) & ~ready) >>> 0);
    const enabled = 1 << ((this.#get(PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QSIZE) >> 4);
    for (let index = 0; index < 32; index++)
      if ((ready & (1 << index)) !== 0) this.#send(index & (enabled - 1), enabled);
  }

  #send(index: number, enabled: number): void {
    const high = this.#address64 ? this.#get(PCI_MSI_ADDRESS_HI, 4) : 0;
    const data = (this.#get(this.#dataAt, 2) & ~(enabled - 1)) | index;
    this.#host?.send(index, this.#get(PCI_MSI_ADDRESS_LO, 4) + high * 2 ** 32, data);
  }

  #get(offset: number, width: 1 | 2 | 4): number {
    return this.#host?.get(this.#place + offset, width) ?? 0;
  }

  #set(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#host?.set(this.#place + offset, width, value);
  }
}
