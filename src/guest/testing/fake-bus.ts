import type { AccessWidth, Bdf, DmaSyncOp, GuestBus, GuestDma, MsiMessage } from "../../contract/index.js";

/**
 * A scripted machine for tests of the guest's side: functions by raw numbers, RAM, interrupt lines and messages.
 * It is deliberately dumb and knows nothing of `src/spec`, so that a mistake there does not cancel out.
 */
export interface FakeFunction {
  readonly bdf: Bdf;
  /** configuration space: dword offset → value */
  readonly config: { readonly [offset: number]: number };
  /** dword offset → bits that can be written; command, cache line, BARs and interrupt line are writable as they should be */
  readonly writable?: { readonly [offset: number]: number };
  /** BAR index → size and kind; the ROM is 6 */
  readonly bars?: { readonly [index: number]: { readonly kind: "io" | "mem32" | "mem64"; readonly size: number } };
}

/** One access, for the log: `cw 0018 04 2 0007` is a 2-byte configuration write of 7 to 04h of 00:03.0. */
const line = (op: string, where: number, offset: number | null, width: number, value: number): string =>
  `${op} ${where.toString(16)}${offset === null ? "" : ` ${offset.toString(16).padStart(2, "0")}`} ${width} ${value.toString(16)}`;

const ones = (width: AccessWidth): number => (width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff);

const get = (bytes: Uint8Array, at: number, width: AccessWidth): number => {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + (bytes[at + i] ?? 0xff);
  return value;
};
const put = (bytes: Uint8Array, at: number, width: AccessWidth, value: number, mask?: Uint8Array): void => {
  for (let i = 0; i < width; i++) {
    const lanes = mask === undefined ? 0xff : (mask[at + i] ?? 0);
    const byte = Math.floor(value / 256 ** i) & 0xff;
    if (at + i < bytes.length) bytes[at + i] = (bytes[at + i]! & ~lanes) | (byte & lanes);
  }
};

interface Installed {
  readonly bytes: Uint8Array;
  readonly mask: Uint8Array;
  readonly function: FakeFunction;
  /** BAR index → the register bytes behind it */
  readonly regs: Map<number, Uint8Array>;
}

export class FakeBus implements GuestBus {
  /** every access since the last `log.length = 0` */
  readonly log: string[] = [];
  /** guest physical address of RAM */
  readonly ramBase = 0x10_0000;
  ram: Uint8Array;
  readonly dma: GuestDma;
  /** addresses with what DMA memory they hold, while it is allocated */
  readonly dmaLive = new Map<number, number>();
  /** DMA syncs since the last `syncs.length = 0` */
  readonly syncs: string[] = [];
  /** messages that `allocMessage` may still give; 0: the machine knows no messages */
  messagesLeft = 64;
  nextData = 0x30;
  readonly #functions = new Map<Bdf, Installed>();
  readonly #lines = new Map<number, Set<() => void>>();
  readonly #up = new Set<number>();
  readonly #messages = new Map<number, () => void>(); // by data
  readonly #pending: number[] = [];
  #ns = 0;
  #bump = 0;

  constructor(functions: readonly FakeFunction[] = [], ramBytes = 0x4_0000) {
    this.ram = new Uint8Array(ramBytes);
    for (const f of functions) this.plug(f);
    const ram = () => this.ram;
    const at = (address: number) => address - this.ramBase;
    this.dma = {
      alloc: (bytes, align, below) => {
        const start = Math.ceil((this.ramBase + this.#bump) / align) * align;
        if (start + bytes - 1 > below || start + bytes > this.ramBase + this.ram.length) return -1;
        this.#bump = start + bytes - this.ramBase;
        this.dmaLive.set(start, bytes);
        ram().fill(0, at(start), at(start) + bytes);
        return start;
      },
      free: (address, bytes) => {
        if (this.dmaLive.get(address) !== bytes) throw new Error(`free of what is not allocated: ${address}`);
        this.dmaLive.delete(address);
      },
      read8: (a) => get(ram(), at(a), 1),
      read16: (a) => get(ram(), at(a), 2),
      read32: (a) => get(ram(), at(a), 4),
      write8: (a, v) => put(ram(), at(a), 1, v),
      write16: (a, v) => put(ram(), at(a), 2, v),
      write32: (a, v) => put(ram(), at(a), 4, v),
      copyOut: (a, target, start, length) => target.set(ram().subarray(at(a), at(a) + length), start),
      copyIn: (a, source, start, length) => ram().set(source.subarray(start, start + length), at(a)),
      sync: (a: number, length: number, op: DmaSyncOp) =>
        this.syncs.push(`${op} ${a.toString(16)}+${length.toString(16)}`),
    };
  }

  /** Puts a function on the bus, as hot-plug does. */
  plug(f: FakeFunction): void {
    const bytes = new Uint8Array(4096);
    const mask = new Uint8Array(4096);
    for (const [offset, value] of Object.entries(f.config)) put(bytes, Number(offset), 4, value);
    put(mask, 0x04, 2, 0x0507);
    mask[0x0c] = 0xff;
    mask[0x3c] = 0xff;
    const regs = new Map<number, Uint8Array>();
    for (const [key, { kind, size }] of Object.entries(f.bars ?? {})) {
      const index = Number(key);
      const reg = index === 6 ? 0x30 : 0x10 + 4 * index;
      const low = size >= 2 ** 32 ? 0 : 2 ** 32 - size;
      put(mask, reg, 4, index === 6 ? low + 1 : low);
      if (index !== 6) bytes[reg]! |= kind === "io" ? 1 : kind === "mem64" ? 4 : 0;
      if (kind === "mem64") put(mask, reg + 4, 4, size > 2 ** 32 ? 2 ** 32 - size / 2 ** 32 : 0xffff_ffff);
      regs.set(index, new Uint8Array(Math.min(size, 0x1_0000)));
    }
    for (const [offset, value] of Object.entries(f.writable ?? {})) put(mask, Number(offset), 4, value);
    this.#functions.set(f.bdf, { bytes, mask, function: f, regs });
  }

  /** Pulls it out again: reads all ones from now on. */
  unplug(bdf: Bdf): void {
    this.#functions.delete(bdf);
  }

  /** The configuration bytes themselves, without an access. */
  config(bdf: Bdf, offset: number, width: AccessWidth): number {
    const f = this.#functions.get(bdf);
    return f === undefined ? ones(width) : get(f.bytes, offset, width);
  }

  setConfig(bdf: Bdf, offset: number, width: AccessWidth, value: number): void {
    put(this.#functions.get(bdf)!.bytes, offset, width, value);
  }

  /** The bytes behind a BAR. */
  regs(bdf: Bdf, bar: number): Uint8Array {
    return this.#functions.get(bdf)!.regs.get(bar)!;
  }

  configRead(bdf: Bdf, offset: number, width: AccessWidth): number {
    const value = this.config(bdf, offset, width);
    this.log.push(line("cr", bdf, offset, width, value));
    return value;
  }

  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void {
    this.log.push(line("cw", bdf, offset, width, value));
    const f = this.#functions.get(bdf);
    if (f !== undefined) put(f.bytes, offset, width, value, f.mask);
  }

  ioRead(port: number, width: AccessWidth): number {
    const at = this.#decode("io", port);
    const value = at === null ? ones(width) : get(at[0], at[1], width);
    this.log.push(line("ir", port, null, width, value));
    return value;
  }

  ioWrite(port: number, width: AccessWidth, value: number): void {
    this.log.push(line("iw", port, null, width, value));
    const at = this.#decode("io", port);
    if (at !== null) put(at[0], at[1], width, value);
  }

  memRead(address: number, width: AccessWidth): number {
    const at = this.#decode("mem", address);
    const value = at === null ? ones(width) : get(at[0], at[1], width);
    this.log.push(line("mr", address, null, width, value));
    return value;
  }

  memWrite(address: number, width: AccessWidth, value: number): void {
    this.log.push(line("mw", address, null, width, value));
    const at = this.#decode("mem", address);
    if (at !== null) put(at[0], at[1], width, value);
  }

  onLine(irq: number, handler: () => void): Disposable {
    const handlers = this.#lines.get(irq) ?? new Set();
    this.#lines.set(irq, handlers.add(handler));
    return { [Symbol.dispose]: () => void handlers.delete(handler) };
  }

  /** How many listen to a line. */
  listeners(irq: number): number {
    return this.#lines.get(irq)?.size ?? 0;
  }

  setLine(irq: number, up: boolean): void {
    if (up) this.#up.add(irq);
    else this.#up.delete(irq);
  }

  allocMessage(handler: () => void): MsiMessage | null {
    if (this.messagesLeft === 0) return null;
    this.messagesLeft--;
    const data = this.nextData++;
    this.#messages.set(data, handler);
    return {
      address: 0xfee0_1000,
      data,
      [Symbol.dispose]: () => {
        if (this.#messages.delete(data)) this.messagesLeft++;
      },
    };
  }

  get messagesLive(): number {
    return this.#messages.size;
  }

  /** Sends the message of vector `n` as the function would: by its own tables. @returns whether it went out */
  fire(bdf: Bdf, n: number): boolean {
    const f = this.#functions.get(bdf);
    if (f === undefined || (get(f.bytes, 4, 2) & 4) === 0) return false;
    for (let cap = f.bytes[0x34]! & 0xfc; cap !== 0; cap = f.bytes[cap + 1]! & 0xfc) {
      const control = get(f.bytes, cap + 2, 2);
      if (f.bytes[cap] === 0x11 && (control & 0xc000) === 0x8000) {
        const table = get(f.bytes, cap + 4, 4);
        const entry = f.regs.get(table & 7)!.subarray(table - (table & 7) + n * 16);
        return (entry[12]! & 1) === 0 && this.#send(get(entry, 0, 4), get(entry, 8, 4));
      }
      if (f.bytes[cap] === 0x05 && (control & 1) !== 0 && n < 1 << ((control >> 4) & 7))
        return this.#send(get(f.bytes, cap + 4, 4), get(f.bytes, cap + ((control & 0x80) !== 0 ? 12 : 8), 2) + n);
    }
    return false;
  }

  poll(): boolean {
    let ran = false;
    for (const irq of [...this.#up].sort((a, b) => a - b))
      for (const handler of [...(this.#lines.get(irq) ?? [])]) {
        ran = true;
        handler();
      }
    for (let data = this.#pending.shift(); data !== undefined; data = this.#pending.shift()) {
      const handler = this.#messages.get(data);
      if (handler !== undefined) ran = true;
      handler?.();
    }
    return ran;
  }

  delay(us: number): void {
    this.#ns += us * 1000;
    this.poll();
  }

  now(): number {
    return this.#ns;
  }

  #send(address: number, data: number): boolean {
    if (address !== 0xfee0_1000) return false;
    this.#pending.push(data);
    return true;
  }

  #decode(space: "io" | "mem", address: number): [Uint8Array, number] | null {
    for (const { bytes, function: f, regs } of this.#functions.values()) {
      const command = get(bytes, 4, 2);
      for (const [key, { kind, size }] of Object.entries(f.bars ?? {})) {
        const index = Number(key);
        if ((kind === "io") !== (space === "io") || (command & (kind === "io" ? 1 : 2)) === 0) continue;
        const low = get(bytes, index === 6 ? 0x30 : 0x10 + 4 * index, 4);
        if (index === 6 && (low & 1) === 0) continue;
        const base =
          low - (low % (kind === "io" ? 4 : 16)) + (kind === "mem64" ? get(bytes, 0x14 + 4 * index, 4) * 2 ** 32 : 0);
        if (base !== 0 && address >= base && address < base + size) return [regs.get(index)!, address - base];
      }
    }
    return null;
  }
}
