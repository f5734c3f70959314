import { StateError } from "../../bytes/index.js";

// v86 writes its state as JSON with typed arrays beside it, and takes arrays, typed arrays, numbers, strings and booleans
// for it: no objects, and no numbers that JSON lacks. So these become arrays that begin with a tag.

const OBJECT = 0; // then keys and values in turn
const ARRAY = 1; // then the elements
const NUMBER = 2; // then its name: Infinity, -Infinity, NaN
const UNDEFINED = 3;

const TYPED_ARRAYS = [
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
] as const;

const isTyped = (value: object): boolean =>
  TYPED_ARRAYS.some((type) => Object.getPrototypeOf(value) === type.prototype);

/** Makes plain data into what v86 can write. Typed arrays are passed on, not copied. @throws StateError */
export function packState(value: unknown): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : [NUMBER, String(value)];
    case "undefined":
      return [UNDEFINED];
    case "object": {
      if (value === null || isTyped(value)) return value;
      if (Array.isArray(value)) return [ARRAY, ...value.map(packState)];
      const prototype: unknown = Object.getPrototypeOf(value);
      if (prototype === Object.prototype || prototype === null)
        return [OBJECT, ...Object.entries(value).flatMap(([key, part]) => [key, packState(part)])];
    }
  }
  throw new StateError("v86", `a ${typeof value} that v86 cannot save`);
}

/** Makes it what it was again. @throws StateError where it is nothing that `packState` made */
export function unpackState(packed: unknown): unknown {
  if (!Array.isArray(packed)) return packed;
  const [tag, ...parts] = packed as unknown[];
  switch (tag) {
    case ARRAY:
      return parts.map(unpackState);
    case NUMBER:
      return Number(parts[0]);
    case UNDEFINED:
      return undefined;
    case OBJECT: {
      const entries: [string, unknown][] = [];
      for (let i = 0; i < parts.length; i += 2) entries.push([String(parts[i]), unpackState(parts[i + 1])]);
      return Object.fromEntries(entries);
    }
  }
  throw new StateError("v86", `an array that begins with ${String(tag)}`);
}
