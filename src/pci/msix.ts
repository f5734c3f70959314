import { ConfigError, hex, StateError, StateReader } from "../bytes/index.js";
import type { AccessWidth, BarHandler, BarIndex, SavedState } from "../contract/index.js";
import {
  PCI_CAP_ID_MSIX,
  PCI_CAP_MSIX_SIZEOF,
  PCI_MSIX_ENTRY_CTRL_MASKBIT,
  PCI_MSIX_ENTRY_DATA,
  PCI_MSIX_ENTRY_LOWER_ADDR,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_ENTRY_UPPER_ADDR,
  PCI_MSIX_ENTRY_VECTOR_CTRL,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_MSIX_MAX_ENTRIES,
  PCI_MSIX_PBA,
  PCI_MSIX_TABLE,
} from "../spec/pci.js";
import type { BarDeclaration, Capability, CapabilityHost } from "./declaration.js";

const STATE_VERSION = 1;
const PAGE = 4096;
/** Bits of an entry's dwords that can be written; reserved ones read 0. PCI 3.0 §6.8.2.6 … 6.8.2.9 */
const ENTRY_RW = [0xffff_fffc, 0xffff_ffff, 0xffff_ffff, PCI_MSIX_ENTRY_CTRL_MASKBIT];

export interface MsixOptions {
  /** 1 … 2048 */
  readonly vectors: number;
  /** the BAR that holds table and pending bits */
  readonly bar: BarIndex;
  /** bytes; default: 4 KiB, or the next power of two that holds both (as QEMU lays out a BAR of its own) */
  readonly barSize?: number;
  /** offset of the table in the BAR, a multiple of 8; default 0 */
  readonly tableOffset?: number;
  /** offset of the pending bits, a multiple of 8; default: half of the BAR, or right behind a table that is longer */
  readonly pbaOffset?: number;
  /** fixed offset in configuration space */
  readonly at?: number;
}

/**
 * MSI-X: the capability, and as a BAR handler its table and pending bits. PCI 3.0 §6.8.2
 *
 * A vector is blocked by its entry's mask, by the function mask, and does nothing while MSI-X is off. Blocked while on: its
 * pending bit is set, and the message is sent once when nothing blocks it any more. A message that Bus Master keeps in is
 * lost; no pending bit remembers it. Give `bar()` to the declaration, or the object itself as handler of part of a BAR.
 */
export class Msix implements Capability, BarHandler {
  readonly id = PCI_CAP_ID_MSIX;
  readonly at?: number;
  readonly image = new Uint8Array(PCI_CAP_MSIX_SIZEOF);
  readonly rw = new Uint8Array(PCI_CAP_MSIX_SIZEOF);
  readonly vectors: number;
  /** bytes of the BAR */
  readonly barSize: number;
  readonly tableOffset: number;
  readonly pbaOffset: number;
  /** Told after the enable bit changed, by a guest's write, a reset or a restored snapshot. */
  onEnableChanged: ((enabled: boolean) => void) | null = null;

  #host: CapabilityHost | null = null;
  #place = 0;

  #enabled = false; // these two follow message control
  #maskAll = false;
  readonly #table: Uint32Array;
  readonly #pending: Uint32Array;

  /** @throws ConfigError `msix-vectors`, `msix-layout` */
  constructor({ vectors, bar, barSize, tableOffset = 0, pbaOffset, at }: MsixOptions) {
    if (!(Number.isInteger(vectors) && vectors >= 1 && vectors <= PCI_MSIX_MAX_ENTRIES))
      throw new ConfigError("msix-vectors", `${vectors} MSI-X vectors; expected 1 … ${PCI_MSIX_MAX_ENTRIES}`);
    const tableBytes = vectors * PCI_MSIX_ENTRY_SIZE;
    const pbaBytes = Math.ceil(vectors / 64) * 8;
    this.vectors = vectors;
    this.tableOffset = tableOffset;
    this.pbaOffset = pbaOffset ?? Math.max((barSize ?? PAGE) / 2, tableOffset + tableBytes);
    this.barSize = barSize ?? PAGE;
    if (barSize === undefined) while (this.barSize < this.pbaOffset + pbaBytes) this.barSize *= 2;
    const layout = (why: string) =>
      new ConfigError(
        "msix-layout",
        `MSI-X table ${hex(tableOffset)}+${hex(tableBytes)}, pending bits ${hex(this.pbaOffset)}+${hex(pbaBytes)} in a BAR of ${hex(this.barSize)}: ${why}`,
      );
    if (tableOffset % 8 !== 0 || this.pbaOffset % 8 !== 0 || tableOffset < 0 || this.pbaOffset < 0)
      throw layout("expected offsets that are multiples of 8");
    if (Math.max(tableOffset + tableBytes, this.pbaOffset + pbaBytes) > this.barSize) throw layout("beyond its end");
    if (tableOffset < this.pbaOffset + pbaBytes && this.pbaOffset < tableOffset + tableBytes)
      throw layout("they overlap");
    if (at !== undefined) this.at = at;
    this.#table = new Uint32Array(vectors * 4);
    this.#pending = new Uint32Array(pbaBytes / 4);
    const view = new DataView(this.image.buffer);
    view.setUint16(PCI_MSIX_FLAGS, vectors - 1, true);
    view.setUint32(PCI_MSIX_TABLE, tableOffset | bar, true);
    view.setUint32(PCI_MSIX_PBA, this.pbaOffset | bar, true);
    this.rw[PCI_MSIX_FLAGS + 1] = (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >>> 8;
    this.#maskEntries();
  }

  /** The BAR that holds nothing but table and pending bits. */
  bar(): BarDeclaration {
    // Observed: QEMU answers 8- and 16-bit accesses with 0 and drops their writes; the standard leaves them undefined.
    return { kind: "mem32", size: this.barSize, accepts: [4], rejected: 0, handler: this };
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  get messagesEnabled(): boolean {
    return this.#enabled;
  }

  /** Whether a vector waits for its mask to clear. */
  pending(vector: number): boolean {
    return ((this.#pending[vector >>> 5] ?? 0) & (1 << (vector & 31))) !== 0;
  }

  /** Drops what waits for a mask to clear; a reset of the device behind it does that. The table stays. */
  forget(): void {
    this.#pending.fill(0);
  }

  signal(vector: number): void {
    if (!this.#enabled || !(vector >= 0 && vector < this.vectors)) return;
    if (this.#masked(vector)) this.#pending[vector >>> 5]! |= 1 << (vector & 31);
    else this.#send(vector);
  }

  // ---------------------------------------------------------------------------------------------- table and pending bits

  /** @param offset from the start of the BAR; an aligned dword */
  read(offset: number, width: AccessWidth): number {
    if (width !== 4) return 0;
    const entry = (offset - this.tableOffset) >> 2;
    if (entry >= 0 && entry < this.#table.length) return this.#table[entry]!;
    const word = (offset - this.pbaOffset) >> 2;
    return word >= 0 && word < this.#pending.length ? this.#pending[word]! : 0;
  }

  write(offset: number, width: AccessWidth, value: number): void {
    const entry = (offset - this.tableOffset) >> 2;
    if (width !== 4 || entry < 0 || entry >= this.#table.length) return; // pending bits are read-only
    this.#table[entry] = value & ENTRY_RW[entry & 3]!;
    if ((entry & 3) * 4 === PCI_MSIX_ENTRY_VECTOR_CTRL) this.#release(entry >> 2);
  }

  // ---------------------------------------------------------------------------------------------- as a capability

  bind(host: CapabilityHost, at: number): void {
    this.#host = host;
    this.#place = at;
  }

  written(first: number, last: number): void {
    if (first > PCI_MSIX_FLAGS + 1 || last < PCI_MSIX_FLAGS) return;
    const was = this.#enabled;
    this.#follow();
    if (was !== this.#enabled) {
      this.#host?.changed(); // INTx falls before the first message is sent
      this.onEnableChanged?.(this.#enabled);
    }
    for (let vector = 0; vector < this.vectors; vector++) {
      if (this.#pending[vector >>> 5] === 0) vector |= 31;
      else this.#release(vector);
    }
  }

  reset(): void {
    const was = this.#enabled;
    this.#enabled = this.#maskAll = false;
    this.#pending.fill(0);
    this.#maskEntries();
    if (was) this.onEnableChanged?.(false);
  }

  save(): SavedState {
    return { version: STATE_VERSION, table: Array.from(this.#table), pending: Array.from(this.#pending) };
  }

  load(state: SavedState): void {
    const reader = new StateReader(state, "msix", STATE_VERSION);
    const table = reader.integers("table", 0, 0xffff_ffff, this.#table.length);
    const pending = reader.integers("pending", 0, 0xffff_ffff, this.#pending.length);
    for (const [i, dword] of table.entries())
      if ((dword & ~ENTRY_RW[i & 3]!) !== 0)
        throw new StateError(
          `msix.table[${i}]`,
          `${hex(dword)} has reserved bits, expected ${hex(ENTRY_RW[i & 3]!)} at most`,
        );
    for (let vector = this.vectors; vector < pending.length * 32; vector++)
      if ((pending[vector >>> 5]! & (1 << (vector & 31))) !== 0)
        throw new StateError("msix.pending", `vector ${vector} of ${this.vectors}`);
    this.#table.set(table);
    this.#pending.set(pending);
  }

  restored(): void {
    const was = this.#enabled;
    this.#follow();
    if (was !== this.#enabled) this.onEnableChanged?.(this.#enabled);
  }

  #follow(): void {
    const control = this.#host?.get(this.#place + PCI_MSIX_FLAGS, 2) ?? 0;
    this.#enabled = (control & PCI_MSIX_FLAGS_ENABLE) !== 0;
    this.#maskAll = (control & PCI_MSIX_FLAGS_MASKALL) !== 0;
  }

  #maskEntries(): void {
    for (let i = 0; i < this.#table.length; i++) this.#table[i] = (i & 3) === 3 ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0;
  }

  #masked(vector: number): boolean {
    return this.#maskAll || (this.#dword(vector, PCI_MSIX_ENTRY_VECTOR_CTRL) & PCI_MSIX_ENTRY_CTRL_MASKBIT) !== 0;
  }

  /** Sends a pending vector that nothing blocks any more. */
  #release(vector: number): void {
    if (!this.#enabled || !this.pending(vector) || this.#masked(vector)) return;
    this.#pending[vector >>> 5]! &= ~(1 << (vector & 31));
    this.#send(vector);
  }

  #send(vector: number): void {
    const low = this.#dword(vector, PCI_MSIX_ENTRY_LOWER_ADDR);
    const address = low + this.#dword(vector, PCI_MSIX_ENTRY_UPPER_ADDR) * 2 ** 32;
    this.#host?.send(vector, address, this.#dword(vector, PCI_MSIX_ENTRY_DATA));
  }

  #dword(vector: number, offset: number): number {
    return this.#table[vector * 4 + (offset >> 2)]!;
  }
}
