import { ConfigError } from "../bytes/index.js";
import type { AccessWidth } from "../contract/index.js";
import type { RegisterMap } from "./register-map.js";

/**
 * The bytes of a register block behind its map: one path for guest accesses of any width.
 * `guestRead`/`guestWrite` obey the masks; `get`/`set` are the model's own and obey nothing.
 */
export class RegisterFile {
  readonly #map: RegisterMap;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #rw: Uint8Array; // a copy: locks change it at run time

  constructor(map: RegisterMap) {
    this.#map = map;
    this.#bytes = Uint8Array.from(map.resetImage);
    this.#view = new DataView(this.#bytes.buffer);
    this.#rw = Uint8Array.from(map.rw);
  }

  /** @param offset bytes, the access inside the block */
  guestRead(offset: number, width: AccessWidth): number {
    return this.get(offset, width);
  }

  /** Applies a guest write lane by lane. @returns the OR of the hooks it touched; 0: nothing left to do */
  guestWrite(offset: number, width: AccessWidth, value: number): number {
    const { w1c, hookAt } = this.#map;
    const rw = this.#rw;
    const bytes = this.#bytes;
    let touched = 0;
    for (let at = offset, lanes = value; at < offset + width; at++, lanes >>>= 8) {
      const kept = bytes[at]! & ~rw[at]! & ~(w1c[at]! & lanes);
      bytes[at] = kept | (lanes & rw[at]!);
      touched |= hookAt[at]!;
    }
    return touched;
  }

  get(offset: number, width: AccessWidth): number {
    if (width === 4) return this.#view.getUint32(offset, true);
    return width === 2 ? this.#view.getUint16(offset, true) : this.#bytes[offset]!;
  }

  set(offset: number, width: AccessWidth, value: number): void {
    if (width === 4) this.#view.setUint32(offset, value, true);
    else if (width === 2) this.#view.setUint16(offset, value, true);
    else this.#bytes[offset] = value;
  }

  /** Makes the bytes from `at` read-only for the guest, or as writable as the map says again. */
  lock(at: number, length: number, locked: boolean): void {
    for (let i = at; i < at + length; i++) this.#rw[i] = locked ? 0 : this.#map.rw[i]!;
  }

  /** Everything back to its reset value; bytes for which `keep` says so stay. */
  reset(keep: (at: number) => boolean = () => false): void {
    for (let at = 0; at < this.#bytes.length; at++) if (!keep(at)) this.#bytes[at] = this.#map.resetImage[at]!;
  }

  /** A copy of the bytes. */
  image(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  /** @throws ConfigError when the image has another size than the block */
  restore(image: Uint8Array): void {
    if (image.length !== this.#bytes.length)
      throw new ConfigError(
        "register-image",
        `${this.#map.name}: ${image.length} bytes, expected ${this.#bytes.length}`,
      );
    this.#bytes.set(image);
  }
}
