import type { AccessWidth } from "../../../contract/index.js";
import { readBlock, writeBlock } from "./memory-blocks.js";
import { low32, parseInt64, parseUint64, toSafe } from "./numbers.js";
import type { QtestTarget } from "./target.js";

/** Bytes that one request may move. */
const MOST = 2 ** 27;
/** Addresses from here on are nobody's. */
const END_OF_MEMORY = 2n ** 52n;

const WIDTHS: { readonly [letter: string]: AccessWidth | 8 } = { b: 1, w: 2, l: 4, q: 8 };

/** A request that cannot be carried out; becomes `FAIL`. */
class Refusal extends Error {}

const refuse = (why: string): never => {
  throw new Refusal(why);
};

type Handler = (words: readonly string[], command: string) => string | null;

const number64 = (what: string, word: string | undefined): bigint =>
  parseUint64(word) ?? refuse(word === undefined ? `${what} is missing` : `${what} is no number of 64 bits`);

const port = (word: string | undefined): number => {
  const value = number64("the port", word);
  return value <= 0xffffn ? Number(value) : refuse("the port is beyond 0xffff");
};

const length = (word: string | undefined): number => {
  const value = number64("the length", word);
  return value <= BigInt(MOST) ? Number(value) : refuse(`the length is beyond ${MOST}`);
};

/** Bytes out of `0x` and two digits each; what is missing is 0. */
const fromHex = (word: string, size: number): Buffer => {
  const digits = word.slice(2, 2 + 2 * size);
  if (!/^0x[0-9a-f]*$/i.test(word.slice(0, 2 + 2 * size))) refuse("the data is not hexadecimal");
  const block = Buffer.alloc(size);
  block.set(Buffer.from(digits.length % 2 === 0 ? digits : `${digits}0`, "hex"));
  return block;
};

/**
 * QEMU's qtest protocol, one request at a time: a line in, a line out. Whatever the line is, there is exactly one answer
 * and nothing is thrown. QEMU docs/devel/qtest, softmmu/qtest.c
 */
export class QtestProtocol {
  readonly #target: QtestTarget;
  #clockGoal = 0;

  constructor(target: QtestTarget) {
    this.#target = target;
  }

  /**
   * Carries a request out.
   * @param line without its end
   * @returns the reply without its end; null: it takes longer, `resume` goes on
   */
  execute(line: string): string | null {
    const words = line.split(" ");
    const command = words[0] ?? "";
    const handler = Object.hasOwn(this.#handlers, command) ? this.#handlers[command] : undefined;
    if (handler === undefined) return `FAIL Unknown command '${command.replace(/[^!-~]/g, "?").slice(0, 64)}'`;
    try {
      const reply = handler(words, command);
      this.#target.work();
      return reply;
    } catch (error) {
      if (error instanceof Refusal) return `FAIL ${command}: ${error.message}`;
      throw error;
    }
  }

  /** Goes on with a request that `execute` did not finish. @returns as `execute` */
  resume(): string | null {
    const reply = this.#moveClock();
    this.#target.work();
    return reply;
  }

  readonly #handlers: { readonly [command: string]: Handler } = {
    endianness: () => "OK little",
    ...Object.fromEntries(
      ["b", "w", "l"].flatMap((letter): [string, Handler][] => {
        const width = WIDTHS[letter] as AccessWidth;
        return [
          [`in${letter}`, (words) => this.#in(words, width)],
          [`out${letter}`, (words) => this.#out(words, width)],
        ];
      }),
    ),
    ...Object.fromEntries(
      Object.entries(WIDTHS).flatMap(([letter, width]): [string, Handler][] => [
        [`read${letter}`, (words) => this.#readNumber(words, width)],
        [`write${letter}`, (words) => this.#writeNumber(words, width)],
      ]),
    ),
    read: (words) => {
      const address = number64("the address", words[1]);
      const size = length(words[2]);
      if (size === 0) refuse("the length is 0");
      return `OK 0x${readBlock(this.#target, address, size).toString("hex")}`;
    },
    b64read: (words) => {
      const address = number64("the address", words[1]);
      return `OK ${readBlock(this.#target, address, length(words[2])).toString("base64")}`;
    },
    write: (words) => {
      const address = number64("the address", words[1]);
      const size = length(words[2]);
      const data = words[3] ?? refuse("the data is missing");
      if (data.length < 3) return "ERR invalid argument size";
      writeBlock(this.#target, address, fromHex(data, size));
      return "OK";
    },
    b64write: (words) => {
      const address = number64("the address", words[1]);
      const size = length(words[2]);
      const data = words[3] ?? refuse("the data is missing");
      if (data.length < 3) return "ERR invalid argument size";
      if (!/^[A-Za-z0-9+/]*={0,2}$/.test(data)) refuse("the data is not base64");
      const block = Buffer.alloc(size);
      block.set(Buffer.from(data, "base64").subarray(0, size));
      writeBlock(this.#target, address, block);
      return "OK";
    },
    memset: (words) => {
      const address = number64("the address", words[1]);
      const size = length(words[2]);
      writeBlock(this.#target, address, Buffer.alloc(size, Number(number64("the pattern", words[3]) & 0xffn)));
      return "OK";
    },
    clock_step: (words) => {
      const { now, next } = { now: this.#target.now(), next: this.#target.nextTimer() };
      if (words[1] === undefined) return this.#moveClockTo(Number.isFinite(next) ? BigInt(now + next) : BigInt(now));
      const step = parseInt64(words[1]) ?? refuse("the step is no number of 64 bits");
      return this.#moveClockTo(BigInt(now) + (step < 0n ? 0n : step));
    },
    clock_set: (words) => this.#moveClockTo(parseInt64(words[1]) ?? refuse("the time is no number of 64 bits")),
    irq_intercept_in: (words) => this.#intercept(words, "in"),
    irq_intercept_out: (words) => this.#intercept(words, "out"),
    set_irq_in: (words) => {
      const path = words[1] ?? refuse("the device is missing");
      const name = words[2] ?? refuse("the name is missing");
      const line = toSafe(number64("the line", words[3])) ?? refuse("there is no such line");
      const level = parseInt64(words[4]) ?? refuse("the level is no number");
      const done = this.#target.irqs.set(path, name, line, level !== 0n);
      if (done === "unknown-device") return "FAIL Unknown device";
      return done ? "OK" : refuse("there is no such input");
    },
    module_load: () => refuse("there are no modules"),
  };

  #in(words: readonly string[], width: AccessWidth): string {
    const value = this.#target.ioRead(port(words[1]), width);
    return `OK 0x${value.toString(16).padStart(4, "0")}`;
  }

  #out(words: readonly string[], width: AccessWidth): string {
    const at = port(words[1]);
    const value = low32(number64("the value", words[2]));
    this.#target.ioWrite(at, width, width === 4 ? value : value % 2 ** (8 * width));
    return "OK";
  }

  #readNumber(words: readonly string[], width: AccessWidth | 8): string {
    const address = number64("the address", words[1]);
    const at = Number(address);
    let value = 0n;
    if (address < END_OF_MEMORY) {
      value = BigInt(this.#target.memRead(at, width === 8 ? 4 : width));
      if (width === 8) value |= BigInt(this.#target.memRead(at + 4, 4)) << 32n;
    }
    return `OK 0x${value.toString(16).padStart(16, "0")}`;
  }

  #writeNumber(words: readonly string[], width: AccessWidth | 8): string {
    const address = number64("the address", words[1]);
    const at = Number(address);
    const value = number64("the value", words[2]);
    if (address >= END_OF_MEMORY) return "OK";
    const low = low32(value);
    if (width < 4) this.#target.memWrite(at, width as AccessWidth, low % 2 ** (8 * width));
    else this.#target.memWrite(at, 4, low);
    if (width === 8) this.#target.memWrite(at + 4, 4, low32(value >> 32n));
    return "OK";
  }

  #intercept(words: readonly string[], direction: "in" | "out"): string {
    const path = words[1] ?? refuse("the device is missing");
    const result = this.#target.irqs.intercept(path, direction);
    if (result === "unknown-device") return "FAIL Unknown device";
    return result === "ok" ? "OK" : "FAIL IRQ intercept already enabled";
  }

  #moveClockTo(goal: bigint): string | null {
    if (goal < 0n) refuse("the time is negative");
    this.#clockGoal = toSafe(goal) ?? refuse("the time is beyond what the clock can tell: 2^53 ns");
    return this.#moveClock();
  }

  #moveClock(): string | null {
    return this.#target.advance(this.#clockGoal) ? `OK ${this.#target.now()}` : null;
  }
}
