import {
  PCI_ERR_CAP,
  PCI_ERR_CAP_FEP,
  PCI_ERR_COR_DEFINED,
  PCI_ERR_COR_MASK,
  PCI_ERR_COR_MASK_RESET,
  PCI_ERR_COR_STATUS,
  PCI_ERR_HEADER_LOG,
  PCI_ERR_ROOT_COMMAND,
  PCI_ERR_ROOT_ERR_SRC,
  PCI_ERR_ROOT_STATUS,
  PCI_ERR_SIZEOF,
  PCI_ERR_UNC_INTN,
  PCI_ERR_UNCOR_DEFINED,
  PCI_ERR_UNCOR_MASK,
  PCI_ERR_UNCOR_SEVER,
  PCI_ERR_UNCOR_SEVER_RESET,
  PCI_ERR_UNCOR_STATUS,
  PCI_EXT_CAP_ID_ERR,
} from "../spec/pci-express.js";
import type { ConfigBytes, ExtendedCapability } from "./declaration.js";

/** Advanced error reporting: what went wrong stays latched until it is cleared, over every reset but power-on. §7.10 */
export class ErrorReporting implements ExtendedCapability {
  readonly id = PCI_EXT_CAP_ID_ERR;
  readonly version = 2;
  readonly image = new Uint8Array(PCI_ERR_SIZEOF);
  readonly rw = new Uint8Array(PCI_ERR_SIZEOF);
  readonly w1c = new Uint8Array(PCI_ERR_SIZEOF);
  readonly live = new Uint8Array(PCI_ERR_SIZEOF);
  readonly sticky = new Uint8Array(PCI_ERR_SIZEOF);
  #bytes: ConfigBytes | null = null;
  #at = 0;

  constructor({ rootPort = false }: { readonly rootPort?: boolean } = {}) {
    const put = (bytes: Uint8Array, at: number, value: number) => new DataView(bytes.buffer).setUint32(at, value, true);
    for (const [at, defined, reset] of [
      [PCI_ERR_UNCOR_MASK, PCI_ERR_UNCOR_DEFINED, PCI_ERR_UNC_INTN],
      [PCI_ERR_UNCOR_SEVER, PCI_ERR_UNCOR_DEFINED, PCI_ERR_UNCOR_SEVER_RESET],
      [PCI_ERR_COR_MASK, PCI_ERR_COR_DEFINED, PCI_ERR_COR_MASK_RESET],
    ] as const) {
      put(this.image, at, reset);
      put(this.rw, at, defined);
    }
    put(this.w1c, PCI_ERR_UNCOR_STATUS, PCI_ERR_UNCOR_DEFINED);
    put(this.w1c, PCI_ERR_COR_STATUS, PCI_ERR_COR_DEFINED);
    put(this.live, PCI_ERR_CAP, PCI_ERR_CAP_FEP);
    this.live.fill(0xff, PCI_ERR_HEADER_LOG, PCI_ERR_ROOT_COMMAND);
    this.sticky.fill(0xff, PCI_ERR_UNCOR_STATUS, PCI_ERR_ROOT_COMMAND);
    if (!rootPort) return;
    put(this.rw, PCI_ERR_ROOT_COMMAND, 0x7);
    put(this.w1c, PCI_ERR_ROOT_STATUS, 0x7f);
    put(this.live, PCI_ERR_ROOT_ERR_SRC, 0xffff_ffff);
    this.sticky.fill(0xff, PCI_ERR_ROOT_STATUS, PCI_ERR_ROOT_ERR_SRC + 4);
  }

  bind(bytes: ConfigBytes, at: number): void {
    this.#bytes = bytes;
    this.#at = at;
  }

  /** Latches an uncorrectable error; the first one that is not masked is pointed at. @param error one bit, `PCI_ERR_UNC_…` */
  uncorrectable(error: number): void {
    const was = this.#get(PCI_ERR_UNCOR_STATUS);
    const mask = this.#get(PCI_ERR_UNCOR_MASK);
    this.#set(PCI_ERR_UNCOR_STATUS, (was | error) >>> 0);
    if ((error & ~mask) !== 0 && (was & ~mask) === 0)
      this.#set(PCI_ERR_CAP, (this.#get(PCI_ERR_CAP) & ~PCI_ERR_CAP_FEP) | (31 - Math.clz32(error)));
  }

  /** Latches a corrected error. @param error one bit of Correctable Error Status */
  correctable(error: number): void {
    this.#set(PCI_ERR_COR_STATUS, this.#get(PCI_ERR_COR_STATUS) | error);
  }

  #get(offset: number): number {
    return this.#bytes?.get(this.#at + offset, 4) ?? 0;
  }

  #set(offset: number, value: number): void {
    this.#bytes?.set(this.#at + offset, 4, value);
  }
}
