import { parseJson } from "./json.js";
import { StartupError } from "./startup-error.js";

/** An option's keys and values; JSON has other values than strings. */
export type OptionValue = string | number | boolean | null;
export type Options = ReadonlyMap<string, OptionValue>;

/** `a,b=c,,d` cut at single commas; a doubled one stands for itself. */
const cut = (text: string): string[] => {
  const parts: string[] = [];
  let part = "";
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== ",") part += text[i];
    else if (text[i + 1] === ",") {
      part += ",";
      i++;
    } else {
      parts.push(part);
      part = "";
    }
  }
  return [...parts, part];
};

/** Objects in JSON are dotted keys on the command line. */
const flatten = (value: unknown, prefix: string, into: Map<string, OptionValue>): void => {
  if (typeof value === "object" && value !== null) {
    for (const [key, inner] of Object.entries(value)) flatten(inner, prefix === "" ? key : `${prefix}.${key}`, into);
    return;
  }
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean" || value === null)
    into.set(prefix, value);
};

/** A JSON object as options. */
export const optionsOf = (object: object): Map<string, OptionValue> => {
  const options = new Map<string, OptionValue>();
  flatten(object, "", options);
  return options;
};

/**
 * Reads `NAME,key=value,flag`, or JSON (with single or double quotes).
 * @param first key of the first part where that has none; null: it has to have one
 * @throws StartupError
 */
export const parseOptions = (text: string, first: string | null): Map<string, OptionValue> => {
  if (text.trimStart().startsWith("{")) {
    const value = parseJson(text);
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new StartupError(`no JSON object: ${text.slice(0, 80)}`);
    return optionsOf(value);
  }
  const options = new Map<string, OptionValue>();
  for (const [i, part] of cut(text).entries()) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    if (equals > 0) options.set(part.slice(0, equals), part.slice(equals + 1));
    else if (i === 0 && first !== null) options.set(first, part);
    else if (part.startsWith("no") && part.length > 2) options.set(part.slice(2), "off");
    else options.set(part, "on");
  }
  return options;
};
