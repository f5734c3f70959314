import { ConfigError, hex, StateError } from "../bytes/index.js";
import type { AccessWidth, ResetKind } from "../contract/index.js";
import { PCI_CFG_SPACE_EXP_SIZE, PCI_EXT_CAP_START } from "../spec/pci.js";
import type { ExtendedCapability } from "./declaration.js";
import { allOnes, cutTo } from "./region.js";

const SIZE = PCI_CFG_SPACE_EXP_SIZE - PCI_EXT_CAP_START;
const HEADER = 4;
const LARGEST_ID = 0xffff;
const LARGEST_VERSION = 0xf;

/**
 * Configuration space from 100h to FFFh, which PCI Express functions have: the list of extended capabilities, packed upwards.
 * What no capability covers reads 0 and ignores writes; so does the whole of it where there is none. PCI Express 3.0 §7.9
 */
export class ExtendedSpace {
  /** bytes of the space */
  static readonly size = SIZE;
  readonly #reset = new Uint8Array(SIZE);
  readonly #rw = new Uint8Array(SIZE);
  readonly #w1c = new Uint8Array(SIZE);
  readonly #live = new Uint8Array(SIZE);
  readonly #sticky = new Uint8Array(SIZE);
  readonly #bytes = new Uint8Array(SIZE);

  /** @throws ConfigError `extended-capability` */
  constructor(name: string, capabilities: readonly ExtendedCapability[]) {
    const fail = (capability: ExtendedCapability, why: string) =>
      new ConfigError("extended-capability", `${name}: extended capability ${hex(capability.id)}: ${why}`);
    let at = 0;
    let previous = -1;
    for (const capability of capabilities) {
      const { id, version, image, rw, w1c, live, sticky } = capability;
      if (!(id > 0 && id <= LARGEST_ID && version > 0 && version <= LARGEST_VERSION))
        throw fail(capability, `version ${version}; expected an id in 1 … 0xffff, a version in 1 … 15`);
      const size = image.length;
      if (size < HEADER || size % 4 !== 0 || [rw, w1c ?? rw, live ?? rw, sticky ?? rw].some((i) => i.length !== size))
        throw fail(capability, `${size} bytes; expected images of one length, a multiple of 4`);
      if (at + size > SIZE) throw fail(capability, "no room below 0x1000");
      this.#reset.set(image, at);
      this.#rw.set(rw.subarray(HEADER), at + HEADER);
      this.#w1c.set((w1c ?? new Uint8Array(size)).subarray(HEADER), at + HEADER);
      this.#live.set((live ?? new Uint8Array(size)).subarray(HEADER), at + HEADER);
      this.#sticky.set((sticky ?? new Uint8Array(size)).subarray(HEADER), at + HEADER);
      this.#put(this.#reset, at, id | (version << 16));
      if (previous >= 0)
        this.#put(this.#reset, previous, this.#get(this.#reset, previous, 4) | ((at + PCI_EXT_CAP_START) << 20));
      capability.bind?.(
        {
          get: (offset, width) => this.#get(this.#bytes, offset - PCI_EXT_CAP_START, width),
          set: (offset, width, value) => {
            for (let i = 0; i < width; i++) this.#bytes[offset - PCI_EXT_CAP_START + i] = value >>> (8 * i);
          },
        },
        at + PCI_EXT_CAP_START,
      );
      previous = at;
      at += size;
    }
    this.#bytes.set(this.#reset);
  }

  /** @param offset 0x100 and up; what lies above 0xfff reads all ones */
  read(offset: number, width: AccessWidth): number {
    const at = offset - PCI_EXT_CAP_START;
    if (at >= 0 && at + width <= SIZE) return this.#get(this.#bytes, at, width);
    if (!(at >= 0 && at < SIZE)) return allOnes(width);
    const inside = SIZE - at;
    return allOnes(width) - (2 ** (8 * inside) - 1) + this.#get(this.#bytes, at, inside);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    const at = offset - PCI_EXT_CAP_START;
    if (!(at >= 0 && at < SIZE)) return;
    for (let i = 0, lanes = cutTo(value, width); i < width && at + i < SIZE; i++, lanes >>>= 8) {
      const rw = this.#rw[at + i]!;
      this.#bytes[at + i] = (this.#bytes[at + i]! & ~rw & ~(this.#w1c[at + i]! & lanes)) | (lanes & rw);
    }
  }

  /** Reset values; sticky bits go back to theirs on power-on alone. */
  reset(kind: ResetKind): void {
    for (let at = 0; at < SIZE; at++) {
      const kept = kind === "power-on" ? 0 : this.#sticky[at]!;
      this.#bytes[at] = (this.#bytes[at]! & kept) | (this.#reset[at]! & ~kept);
    }
  }

  image(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  /** @throws StateError when a bit differs that no guest can have changed */
  check(image: Uint8Array, path: string): void {
    for (let at = 0; at < SIZE; at++) {
      const fixed = ~(this.#rw[at]! | this.#w1c[at]! | this.#live[at]!) & 0xff;
      if (((image[at]! ^ this.#reset[at]!) & fixed) !== 0)
        throw new StateError(
          path,
          `byte ${hex(at + PCI_EXT_CAP_START)} is ${hex(image[at]!)}: its read-only bits differ`,
        );
    }
  }

  restore(image: Uint8Array): void {
    this.#bytes.set(image);
  }

  #get(bytes: Uint8Array, at: number, width: number): number {
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 0x100 + bytes[at + i]!;
    return value;
  }

  #put(bytes: Uint8Array, at: number, value: number): void {
    for (let i = 0; i < 4; i++) bytes[at + i] = value >>> (8 * i);
  }
}
