import type { AccessWidth } from "../../contract/index.js";
import { QtestError } from "./client-error.js";
import type { Lines } from "./client-lines.js";

/** One line of a conversation: what we asked, what came back, or a line of an intercepted input that changed. */
export type Said = "request" | "reply" | "irq";

const IN = { 1: "inb", 2: "inw", 4: "inl" } as const;
const OUT = { 1: "outb", 2: "outw", 4: "outl" } as const;
const READ = { 1: "readb", 2: "readw", 4: "readl" } as const;
const WRITE = { 1: "writeb", 2: "writew", 4: "writel" } as const;

const hex = (value: number): string => `0x${value.toString(16)}`;

/**
 * The client's end of a qtest conversation: a request, and the reply before it returns. QEMU docs/devel/qtest
 *
 * `IRQ` lines come between replies; they change `level` at once and are told to `onIrq` from within the request in which
 * they were met, so a listener makes no request itself.
 */
export class QtestLink implements Disposable {
  /** Sees every line; for recorders. */
  trace: ((said: Said, line: string) => void) | null = null;
  /** requests made */
  requests = 0;
  readonly #lines: Lines;
  #levels = 0;
  #listeners: readonly ((input: number, up: boolean) => void)[] = [];

  constructor(lines: Lines) {
    this.#lines = lines;
  }

  /** Makes one request. @returns what followed `OK `, or nothing. @throws QtestError `refused` for FAIL and ERR */
  command(line: string): string {
    this.requests++;
    this.trace?.("request", line);
    this.#lines.write(`${line}\n`);
    return this.#reply(line);
  }

  /** Makes several requests at once and reads their replies, in order. */
  commands(lines: readonly string[]): string[] {
    // Some at a time: QEMU stops reading when nobody reads its replies.
    const replies: string[] = [];
    for (let from = 0; from < lines.length; from += 64) {
      const some = lines.slice(from, from + 64);
      this.requests += some.length;
      if (this.trace !== null) for (const line of some) this.trace("request", line);
      this.#lines.write(some.map((line) => `${line}\n`).join(""));
      for (const line of some) replies.push(this.#reply(line));
    }
    return replies;
  }

  /** Level of an intercepted input as it was last told. @param input 0 … 31 */
  level(input: number): boolean {
    return (this.#levels & (1 << input)) !== 0;
  }

  /** A bit per intercepted input. */
  get levels(): number {
    return this.#levels >>> 0;
  }

  /** Told of every change of an intercepted input. */
  onIrq(listener: (input: number, up: boolean) => void): Disposable {
    const entry = (input: number, up: boolean) => listener(input, up);
    this.#listeners = [...this.#listeners, entry];
    return {
      [Symbol.dispose]: () => {
        this.#listeners = this.#listeners.filter((other) => other !== entry);
      },
    };
  }

  /** `little` or `big`. */
  endianness(): string {
    return this.command("endianness");
  }

  in(port: number, width: AccessWidth): number {
    return Number(this.command(`${IN[width]} ${hex(port)}`));
  }
  out(port: number, width: AccessWidth, value: number): void {
    this.command(`${OUT[width]} ${hex(port)} ${hex(value)}`);
  }
  inb(port: number): number {
    return this.in(port, 1);
  }
  inw(port: number): number {
    return this.in(port, 2);
  }
  inl(port: number): number {
    return this.in(port, 4);
  }
  outb(port: number, value: number): void {
    this.out(port, 1, value);
  }
  outw(port: number, value: number): void {
    this.out(port, 2, value);
  }
  outl(port: number, value: number): void {
    this.out(port, 4, value);
  }

  /** One access to memory or to what stands there. */
  readMem(address: number, width: AccessWidth): number {
    return Number(this.command(`${READ[width]} ${hex(address)}`));
  }
  /** One access to memory or to what stands there. */
  writeMem(address: number, width: AccessWidth, value: number): void {
    this.command(`${WRITE[width]} ${hex(address)} ${hex(value)}`);
  }

  /** Copies a block out of RAM. @param length bytes, 0 or more */
  read(address: number, length: number): Uint8Array {
    if (length === 0) return new Uint8Array(0);
    return Buffer.from(this.command(`read ${hex(address)} ${hex(length)}`).slice(2), "hex");
  }
  /** Copies a block into RAM. */
  write(address: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const digits = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
    this.command(`write ${hex(address)} ${hex(bytes.length)} 0x${digits}`);
  }
  memset(address: number, length: number, value: number): void {
    this.command(`memset ${hex(address)} ${hex(length)} ${hex(value)}`);
  }

  /** Moves the virtual clock by `ns`, or to the next timer; needs the qtest accelerator. @returns ns on the clock */
  clockStep(ns?: number): number {
    return Number(this.command(ns === undefined ? "clock_step" : `clock_step ${ns}`));
  }
  /** Moves the virtual clock forward to `ns`. @returns ns on the clock */
  clockSet(ns: number): number {
    return Number(this.command(`clock_set ${ns}`));
  }

  /** Watches a device's inputs; `ioapic` has a PC's interrupts 0 … 23. */
  irqInterceptIn(path: string): void {
    this.command(`irq_intercept_in ${path}`);
  }
  irqInterceptOut(path: string): void {
    this.command(`irq_intercept_out ${path}`);
  }
  /** Drives an input. @param name `unnamed-gpio-in` for the list that has none */
  setIrqIn(path: string, name: string, input: number, level: number): void {
    this.command(`set_irq_in ${path} ${name} ${input} ${level}`);
  }

  [Symbol.dispose](): void {
    this.#lines[Symbol.dispose]();
  }

  #reply(request: string): string {
    for (;;) {
      const line = this.#lines.read();
      if (line.startsWith("IRQ ")) {
        this.#irq(line);
        continue;
      }
      this.trace?.("reply", line);
      if (line === "OK") return "";
      if (line.startsWith("OK ")) return line.slice(3);
      throw new QtestError("refused", `${request.slice(0, 80)}: ${line}`);
    }
  }

  #irq(line: string): void {
    this.trace?.("irq", line);
    const [, what, number] = line.split(" ");
    const input = Number(number);
    const bit = 1 << input;
    this.#levels = what === "raise" ? this.#levels | bit : this.#levels & ~bit;
    for (const listener of this.#listeners) listener(input, what === "raise");
  }
}
