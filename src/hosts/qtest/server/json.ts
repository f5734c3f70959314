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

/** Characters of the longest value. */
const LONGEST = 2 ** 24;
/** What the decoder of UTF-8 makes of bytes that are none. */
const NO_CHARACTER = "\ufffd";

/** What can stand outside of strings, white space aside. */
const isToken = (char: string): boolean => /[\w{}[\]:,.+-]/.test(char);
const isControl = (char: string): boolean => char < " ";
const isSpace = (char: string): boolean => char === " " || char === "\n" || char === "\r" || char === "\t";

/**
 * Cuts a stream of characters into JSON values, wherever packets begin and end. What cannot be JSON whatever follows is told
 * of at once, as QEMU's lexer does: what comes then up to the next brace or control character belongs to it. Other values
 * than objects and arrays end with their line.
 */
export class JsonSplitter {
  readonly #longest: number;
  #text = "";
  #braces = 0;
  #brackets = 0;
  #quote = "";
  #escaped = false;
  #recovering = false;

  constructor(longest = LONGEST) {
    this.#longest = longest;
  }

  /** @param value told of the text of every value; null: it is none, or too long */
  push(chunk: string, value: (text: string | null) => void): void {
    for (const char of chunk) {
      if (this.#recovering) {
        if (isControl(char)) this.#recovering = false;
        if (char !== "{" && char !== "[") continue;
        this.#recovering = false;
      }
      if (this.#text === "" && isSpace(char)) continue;
      this.#text += char;
      if (this.#isWrong(char) || this.#text.length > this.#longest) {
        this.#forget();
        this.#recovering = !isControl(char);
        value(null);
      } else if (this.#ends(char)) {
        const text = this.#text.trimEnd();
        this.#forget();
        value(text);
      }
    }
  }

  #forget(): void {
    this.#text = "";
    this.#braces = this.#brackets = 0;
    this.#quote = "";
    this.#escaped = false;
  }

  get #inside(): boolean {
    return this.#braces > 0 || this.#brackets > 0;
  }

  #isWrong(char: string): boolean {
    if (this.#quote !== "") return isControl(char) || char === NO_CHARACTER;
    if (char === '"' || char === "'") return false;
    return !isToken(char) && !isSpace(char);
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
    if (char === '"' || char === "'") this.#quote = char;
    else if (char === "{") this.#braces++;
    else if (char === "[") this.#brackets++;
    else if (char === "}") this.#braces--;
    else if (char === "]") this.#brackets--;
    else return char === "\n" && !this.#inside;
    const closed = char === "}" || char === "]";
    return closed && (!this.#inside || this.#braces < 0 || this.#brackets < 0);
  }
}
