import { BitView } from "bit-buffer";
import { field, type RegisterMap } from "./register-map.js";

/** One register of an image, decoded for people: traces, `barwire regs`, failure messages. Off the hot path. */
export interface DecodedRegister {
  readonly name: string;
  readonly at: number;
  readonly value: number;
  readonly fields: { readonly [name: string]: number };
}

/** Decodes an image of a register block by name and field. @param image at least `map.size` bytes */
export const decodeRegisters = (map: RegisterMap, image: Uint8Array): DecodedRegister[] => {
  const view = new BitView(image.slice().buffer);
  return map.list.map(({ name, at, width, fields }) => {
    const value = view.getBits(at * 8, width * 8);
    const decoded: Record<string, number> = {};
    for (const [fieldName, [high, low]] of Object.entries(fields))
      decoded[fieldName] = view.getBits(at * 8 + low, high - low + 1);
    return { name, at, value: value >>> 0, fields: decoded };
  });
};

/** `CR(37h)=0c RE=1 TE=1`: the register that holds `offset`, with its fields that are not 0. */
export const describeAccess = (map: RegisterMap, offset: number, value: number): string => {
  const register = map.list.find((r) => offset >= r.at && offset < r.at + r.width);
  if (register === undefined) return `${map.name}+${offset.toString(16)}h=${value.toString(16)}`;
  const whole = (value << (8 * (offset - register.at))) >>> 0;
  const parts = Object.entries(register.fields)
    .map(([name, range]) => [name, field(whole, range)] as const)
    .filter(([, part]) => part !== 0)
    .map(([name, part]) => ` ${name}=${part.toString(16)}`);
  return `${register.name}(${offset.toString(16)}h)=${value.toString(16)}${parts.join("")}`;
};
