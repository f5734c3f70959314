import type { AccessWidth, BarHandler } from "../contract/index.js";
import type { BarDeclaration } from "./declaration.js";

/** A value cut to the width of an access, unsigned. */
export const cutTo = (value: number, width: AccessWidth): number =>
  width === 1 ? value & 0xff : width === 2 ? value & 0xffff : value >>> 0;

/** What a read gives where nobody answers. */
export const allOnes = (width: AccessWidth): number => (width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff);

/** A handler that lacks one of both ways is answered for. */
const whole = (handler: Partial<BarHandler>): BarHandler => {
  const { read, write } = handler;
  if (read !== undefined && write !== undefined) return handler as BarHandler;
  return {
    read: (offset, width) => read?.call(handler, offset, width) ?? 0xffff_ffff,
    write: (offset, width, value) => write?.call(handler, offset, width, value),
  };
};

/**
 * What stands between a bridge and a handler: the one place where accesses are clipped, aligned and sized.
 *
 * - An aligned access of an accepted width passes whole.
 * - A wider one arrives as pieces of the widest accepted width that fits, in ascending order.
 * - One that is not aligned arrives as aligned pieces, unless the handler declared that it takes any offset.
 * - One over the end reaches the handler with its inside part only; the outside reads all ones.
 * - A piece narrower than anything accepted is rejected: it reads the declared value and writes nothing.
 */
export class Region {
  /** bytes */
  readonly size: number;
  readonly #handler: BarHandler;
  readonly #accepts: number; // a bit per width: 1, 2, 4
  readonly #unaligned: boolean;
  readonly #rejected: number;
  readonly #readOnly: boolean;

  /** @param readOnly drops every write (expansion ROM) */
  constructor(declaration: BarDeclaration, readOnly = false) {
    this.size = declaration.size;
    this.#handler = whole(declaration.handler);
    this.#accepts = (declaration.accepts ?? [1, 2, 4]).reduce((mask: number, width) => mask | width, 0);
    this.#unaligned = declaration.unaligned ?? false;
    this.#rejected = (declaration.rejected ?? 0xffff_ffff) >>> 0;
    this.#readOnly = readOnly;
  }

  /** @param offset any integer @returns unsigned, `width` bytes */
  read(offset: number, width: AccessWidth): number {
    if (this.#passes(offset, width)) return cutTo(this.#handler.read(offset, width), width);
    let value = 0;
    for (let done = 0, scale = 1; done < width; ) {
      const at = offset + done;
      const part = this.#pieceAt(at, width - done);
      if (at < 0 || at >= this.size) value += 0xff * scale;
      else if ((this.#accepts & part) === 0) value += cutTo(this.#rejected, part) * scale;
      else value += cutTo(this.#handler.read(at, part), part) * scale;
      done += part;
      scale *= 2 ** (8 * part);
    }
    return value;
  }

  /** @param offset any integer; @param value cut to `width` bytes */
  write(offset: number, width: AccessWidth, value: number): void {
    if (this.#readOnly) return;
    if (this.#passes(offset, width)) {
      this.#handler.write(offset, width, cutTo(value, width));
      return;
    }
    for (let done = 0, rest = cutTo(value, width); done < width; ) {
      const at = offset + done;
      const part = this.#pieceAt(at, width - done);
      if (at >= 0 && at < this.size && (this.#accepts & part) !== 0) this.#handler.write(at, part, cutTo(rest, part));
      done += part;
      rest = part === 4 ? 0 : rest >>> (8 * part);
    }
  }

  #passes(offset: number, width: AccessWidth): boolean {
    return (
      (this.#accepts & width) !== 0 &&
      offset >= 0 &&
      offset + width <= this.size &&
      (this.#unaligned || (offset & (width - 1)) === 0)
    );
  }

  /**
   * Width of the next piece: the widest accepted one that fits, or the widest that fits when none is accepted.
   * An accepted 4 never fits: such an access would have passed whole.
   */
  #pieceAt(at: number, left: number): AccessWidth {
    if (at < 0 || at >= this.size) return 1;
    const fits = (width: AccessWidth): boolean =>
      width <= left && at + width <= this.size && (this.#unaligned || (at & (width - 1)) === 0);
    if (fits(2) && (this.#accepts & 2) !== 0) return 2;
    if ((this.#accepts & 1) !== 0) return 1;
    return fits(4) ? 4 : fits(2) ? 2 : 1;
  }
}
