import { ConfigError, hex } from "../bytes/index.js";

/** A field as data sheets print it: `[high, low]`, both included. */
export type BitRange = readonly [high: number, low: number];

/** One register of a block. What is not declared is reserved: it reads 0 and ignores writes. */
export interface RegisterDeclaration {
  /** bytes from the start of the block; a multiple of `width` */
  readonly at: number;
  readonly width: 1 | 2 | 4;
  /** bits that follow what is written; none by default */
  readonly rw?: number;
  /** bits that a written 1 clears; none by default */
  readonly w1c?: number;
  /** value after reset; 0 by default */
  readonly reset?: number;
  readonly fields?: { readonly [name: string]: BitRange };
  /** a write makes `guestWrite` return this register's hook bit */
  readonly hook?: boolean;
  /** reading has an effect (virtio's ISR) or is computed when read (TCTR): the model answers, not the file */
  readonly live?: boolean;
  /** what allows writing, in words for documentation (`9346CR.EEM = 11`); the model enforces it by `RegisterFile.lock` */
  readonly lock?: string;
  readonly doc: string;
}

export interface BlockDeclaration {
  readonly name: string;
  /** the document the numbers come from */
  readonly source: string;
  /** bytes */
  readonly size: number;
}

/** A register as compiled: the declaration with its defaults filled in. */
export interface Register extends Required<Omit<RegisterDeclaration, "lock">> {
  readonly name: string;
  readonly lock: string | undefined;
  /** bit in the result of `guestWrite`; 0 without a hook */
  readonly hookBit: number;
}

/** A block of registers compiled to byte images; made by `defineRegisters`. */
export interface RegisterMap<Name extends string = string> extends BlockDeclaration {
  readonly regs: { readonly [N in Name]: Register };
  /** in ascending order of offset */
  readonly list: readonly Register[];
  /** bit masks for the result of `guestWrite`, by name */
  readonly hooks: { readonly [N in Name]: number };
  /** per byte: bits that follow what is written */
  readonly rw: Uint8Array;
  /** per byte: bits that a written 1 clears */
  readonly w1c: Uint8Array;
  readonly resetImage: Uint8Array;
  /** per byte: the hook bit of the register it belongs to */
  readonly hookAt: Int32Array;
  /** per byte: 1 where the register is `live` */
  readonly liveAt: Uint8Array;
}

/** Mask of a field: `bits([7, 4])` is 0xf0. Unsigned. */
export const bits = ([high, low]: BitRange): number => (((2 ** (high - low + 1) - 1) * 2 ** low) & 0xffff_ffff) >>> 0;

/** Value of a field inside a register value. Unsigned. */
export const field = (value: number, [high, low]: BitRange): number =>
  ((value >>> low) & (2 ** (high - low + 1) - 1)) >>> 0;

/** A register value with one field replaced; what does not fit the field is cut. */
export const withField = (value: number, range: BitRange, part: number): number =>
  ((value & ~bits(range)) | ((part << range[1]) & bits(range))) >>> 0;

/** Hooks are bits of one int32 that stays positive. */
const MAX_HOOKS = 31;

/**
 * Compiles a register block to byte images.
 * @throws ConfigError on overlaps, misaligned offsets, registers beyond the block, masks and fields wider than the register,
 *   a bit that is both read/write and write-1-to-clear, or more than 31 hooks
 */
export const defineRegisters = <Name extends string>(
  block: BlockDeclaration,
  declarations: { readonly [N in Name]: RegisterDeclaration },
): RegisterMap<Name> => {
  const { size } = block;
  const [rw, w1c, resetImage, liveAt] = [0, 0, 0, 0].map(() => new Uint8Array(size)) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  const hookAt = new Int32Array(size);
  const owner: (string | undefined)[] = new Array(size).fill(undefined);
  const regs = {} as Record<Name, Register>;
  const hooks = {} as Record<Name, number>;
  let hookCount = 0;
  for (const name of Object.keys(declarations) as Name[]) {
    const d = declarations[name];
    const fail = (why: string) => new ConfigError("register-map", `${block.name}.${name} at ${hex(d.at)}: ${why}`);
    const limit = 2 ** (8 * d.width) - 1;
    if (d.at % d.width !== 0) throw fail(`not a multiple of its width ${d.width}`);
    if (d.at < 0 || d.at + d.width > size) throw fail(`beyond the block of ${hex(size)} bytes`);
    for (const [what, mask] of Object.entries({ rw: d.rw, w1c: d.w1c, reset: d.reset }))
      if (mask !== undefined && !(mask >= 0 && mask <= limit))
        throw fail(`${what} ${hex(mask)} is wider than the register`);
    if (((d.rw ?? 0) & (d.w1c ?? 0)) !== 0) throw fail("a bit is both read/write and write-1-to-clear");
    for (const [fieldName, [high, low]] of Object.entries(d.fields ?? {}))
      if (high < low || low < 0 || high >= 8 * d.width) throw fail(`field ${fieldName} [${high}, ${low}] does not fit`);
    const hookBit = d.hook === true ? 1 << hookCount++ : 0;
    if (hookCount > MAX_HOOKS) throw fail(`more than ${MAX_HOOKS} hooks; put registers in groups`);
    for (let i = 0; i < d.width; i++) {
      const at = d.at + i;
      if (owner[at] !== undefined) throw fail(`overlaps ${owner[at]}`);
      owner[at] = name;
      rw[at] = (d.rw ?? 0) >>> (8 * i);
      w1c[at] = (d.w1c ?? 0) >>> (8 * i);
      resetImage[at] = (d.reset ?? 0) >>> (8 * i);
      hookAt[at] = hookBit;
      liveAt[at] = d.live === true ? 1 : 0;
    }
    hooks[name] = hookBit;
    regs[name] = {
      name,
      at: d.at,
      width: d.width,
      rw: d.rw ?? 0,
      w1c: d.w1c ?? 0,
      reset: d.reset ?? 0,
      fields: d.fields ?? {},
      hook: d.hook ?? false,
      live: d.live ?? false,
      lock: d.lock,
      doc: d.doc,
      hookBit,
    };
  }
  const list = (Object.values(regs) as Register[]).sort((a, b) => a.at - b.at);
  return { ...block, regs, list, hooks, rw, w1c, resetImage, hookAt, liveAt };
};
