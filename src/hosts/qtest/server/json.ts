/** QEMU's JSON also has strings in single quotes, which libqtest's command lines use. */

/** The same text with every string in double quotes. */
const doubleQuoted = (text: string): string => {
  let result = "";
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (char === "\\" && quote !== "") {
      const next = text[++i] ?? "";
      result += next === "'" ? "'" : char + next;
    } else if (quote === "" && (char === "'" || char === '"')) {
      quote = char;
      result += '"';
    } else if (char === quote) {
      quote = "";
      result += '"';
    } else result += char === '"' ? '\\"' : char;
  }
  return result;
};

/** @returns the value; undefined: no JSON */
export const parseJson = (text: string): unknown => {
  for (const candidate of [text, doubleQuoted(text)]) {
    try {
      return JSON.parse(candidate) as unknown;
    } catch {
      // perhaps the other one
    }
  }
  return undefined;
};

/** Characters of the longest object. */
const LONGEST = 2 ** 24;

/**
 * Cuts a stream of characters into JSON values, wherever packets begin and end. What is no object or array ends with its
 * line, so that one mistake costs one answer.
 */
export class JsonSplitter {
  readonly #longest: number;
  #text = "";
  #depth = 0;
  #quote = "";
  #escaped = false;
  #tooLong = false;

  constructor(longest = LONGEST) {
    this.#longest = longest;
  }

  /** @param value told of the text of every value; null: it was too long */
  push(chunk: string, value: (text: string | null) => void): void {
    for (const char of chunk) {
      if (this.#text === "" && !this.#tooLong && /\s/.test(char)) continue;
      if (this.#text.length >= this.#longest) {
        this.#tooLong = true;
        this.#text = "{";
      }
      if (!this.#tooLong) this.#text += char;
      if (this.#ends(char)) {
        const text = this.#tooLong ? null : this.#text.trimEnd();
        this.#text = "";
        this.#depth = 0;
        this.#quote = "";
        this.#escaped = false;
        this.#tooLong = false;
        value(text);
      }
    }
  }

  #ends(char: string): boolean {
    if (this.#escaped) {
      this.#escaped = false;
      return false;
    }
    if (this.#quote !== "") {
      if (char === "\\") this.#escaped = true;
      else if (char === this.#quote) this.#quote = "";
      return false;
    }
    if (this.#depth > 0 && (char === '"' || char === "'")) this.#quote = char;
    else if (char === "{" || char === "[") this.#depth++;
    else if (char === "}" || char === "]") return --this.#depth <= 0;
    return char === "\n" && this.#depth <= 0;
  }
}
