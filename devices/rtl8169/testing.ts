/**
 * What this folder's tests stand on: RAM, a clock, a far end and one card in a slot. Everything is addressed by raw
 * numbers, since the register map is one of the things under test. Not part of the package's face.
 */
import { WindowedMemory } from "../../src/bytes/index.js";
import type {
  AccessWidth,
  Clock,
  Diagnostic,
  EndpointLimits,
  HostSeams,
  NetEndpoint,
  Nic,
  Offload,
  QueueRunner,
  Strictness,
  Timer,
  Verdict,
  Work,
} from "../../src/contract/index.js";
import { type Rtl8169Options, rtl8169 } from "./index.js";

export const MS = 1_000_000;
export const US = 1_000;
/** longer than any autonegotiation */
export const LINK_TIME = 100 * MS;

export const MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x03, 0x99, 0x00);
export const PEER = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x35, 0x02);

/** A clock that a test moves. */
export class TestClock implements Clock {
  readonly #timers: { deadline: number; fire: () => void }[] = [];
  #now = 0;

  now(): number {
    return this.#now;
  }

  timer(fire: () => void): Timer {
    const timers = this.#timers;
    const entry = { deadline: Number.POSITIVE_INFINITY, fire };
    timers.push(entry);
    return {
      get deadline(): number {
        return entry.deadline;
      },
      arm(deadline: number): void {
        entry.deadline = deadline;
      },
      cancel(): void {
        entry.deadline = Number.POSITIVE_INFINITY;
      },
      [Symbol.dispose](): void {
        timers.splice(timers.indexOf(entry), 1);
      },
    };
  }

  get armed(): number {
    return this.#timers.filter(({ deadline }) => deadline !== Number.POSITIVE_INFINITY).length;
  }

  get timers(): number {
    return this.#timers.length;
  }

  /** Moves the time on and fires what is due, in order. */
  advance(ns: number): void {
    const end = this.#now + ns;
    for (let fired = 0; ; fired++) {
      const due = this.#timers.filter(({ deadline }) => deadline <= end).sort((a, b) => a.deadline - b.deadline)[0];
      if (due === undefined) break;
      if (fired > 100_000) throw new Error("timers without end");
      this.#now = Math.max(this.#now, due.deadline);
      due.deadline = Number.POSITIVE_INFINITY;
      due.fire();
    }
    this.#now = end;
  }

  /** Sets the time without firing anything, as a restored machine does. */
  set(now: number): void {
    this.#now = now;
  }
}

/** Queues run inside the doorbell, or when the test says so. */
export class TestWork implements Work {
  policy: "immediate" | "deferred" = "immediate";
  readonly ready = new Set<number>();
  readonly #running = new Set<number>();
  #runner: QueueRunner | null = null;

  bind(runner: QueueRunner): void {
    this.#runner = runner;
  }
  request(queue: number): void {
    this.ready.add(queue);
    if (this.policy === "immediate") this.run();
  }
  runNow(queue: number): void {
    this.ready.add(queue);
    this.run();
  }
  clear(): void {
    this.ready.clear();
  }
  /** Works what is ready, each queue with `budget` a turn, at most `turns` turns. */
  run(budget = 4096, turns = 64): void {
    for (let turn = 0; turn < turns; turn++) {
      const queue = [...this.ready].find((ready) => !this.#running.has(ready));
      if (queue === undefined || this.#runner === null) return;
      this.ready.delete(queue);
      this.#running.add(queue);
      if (this.#runner.runQueue(queue, budget) >= budget) this.ready.add(queue);
      this.#running.delete(queue);
    }
  }
}

/** What a card's cable ends in: keeps what it takes. */
export class FarEnd implements NetEndpoint {
  readonly frames: Uint8Array[] = [];
  readonly offers: { readonly bytes: Uint8Array; readonly start: number; readonly length: number }[] = [];
  /** what came with each taken frame */
  readonly offloads: (Offload | null)[] = [];
  /** whether it takes open checksums */
  csum = false;
  readonly readies: number[] = [];
  batches = 0;
  holds = false;
  verdict: Verdict = "taken";
  onOffer: (frame: Uint8Array) => void = () => {};
  onReady: () => void = () => {};

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, _hint: number): Verdict {
    const frame = bytes.slice(start, start + length);
    this.offers.push({ bytes, start, length });
    this.onOffer(frame);
    if (this.verdict === "taken") {
      this.frames.push(frame);
      this.offloads.push(offload === null ? null : { ...offload });
    }
    return this.verdict;
  }
  endBatch(): void {
    this.batches++;
  }
  ready(queueHint: number): void {
    this.readies.push(queueHint);
    this.onReady();
  }
  accepts(): EndpointLimits {
    return { csum: this.csum, tso4: false, tso6: false, uso: false, longestFrame: 65_535, holds: this.holds };
  }
}

export interface RigOptions extends Rtl8169Options {
  readonly strictness?: Strictness;
  /** window that registers are reached through; default 1 */
  readonly bar?: 0 | 1;
  /** RAM windows; default 4 MiB from 0 */
  readonly windows?: readonly { readonly base: number; readonly size: number }[];
  /** makes the card, which takes no other options then; default an RTL8169 */
  readonly create?: () => Nic;
}

const RAM_SIZE = 4 * 2 ** 20;

/** A card in a slot of a machine that has nothing else. Memory, I/O and Bus Master are on. */
export class Rig {
  readonly clock = new TestClock();
  readonly work = new TestWork();
  readonly far = new FarEnd();
  readonly reports: Diagnostic[] = [];
  readonly written: [number, number][] = [];
  readonly memory: WindowedMemory;
  readonly card: Nic;
  /** level of INTA#, and how often it rose */
  irq = false;
  rises = 0;
  readonly #bar: number;

  constructor({ strictness = "strict", bar = 1, windows, create, ...options }: RigOptions = {}) {
    this.#bar = bar;
    const ram = (windows ?? [{ base: 0, size: RAM_SIZE }]).map(({ base, size }) => ({
      base,
      bytes: new Uint8Array(size),
    }));
    this.memory = new WindowedMemory(ram, (start, end) => this.written.push([start, end]));
    this.card = create?.() ?? rtl8169({ mac: MAC, ...options });
    this.card.connect(this.seams(strictness));
    this.card.net.attach(this.far);
    this.card.configWrite(0x04, 2, 0x0007);
  }

  seams(strictness: Strictness): HostSeams {
    return {
      memory: this.memory,
      clock: this.clock,
      work: this.work,
      strictness,
      report: (diagnostic) => this.reports.push(diagnostic),
      interrupts: {
        setIntx: (level) => {
          if (level && !this.irq) this.rises++;
          this.irq = level;
        },
        message: () => {
          throw new Error("this card has no messages");
        },
      },
    };
  }

  r8(offset: number): number {
    return this.card.barRead(this.#bar, offset, 1);
  }
  r16(offset: number): number {
    return this.card.barRead(this.#bar, offset, 2);
  }
  r32(offset: number): number {
    return this.card.barRead(this.#bar, offset, 4);
  }
  w8(offset: number, value: number): void {
    this.card.barWrite(this.#bar, offset, 1, value);
  }
  w16(offset: number, value: number): void {
    this.card.barWrite(this.#bar, offset, 2, value);
  }
  w32(offset: number, value: number): void {
    this.card.barWrite(this.#bar, offset, 4, value >>> 0);
  }
  access(width: AccessWidth, offset: number, value?: number): number {
    if (value === undefined) return this.card.barRead(this.#bar, offset, width);
    this.card.barWrite(this.#bar, offset, width, value);
    return value;
  }

  /** PHYAR, as drivers use it: a command and a bounded poll. */
  phyRead(reg: number): number {
    this.w32(0x60, reg << 16);
    for (let polls = 0; polls < 20; polls++) {
      const value = this.r32(0x60);
      if (value >= 0x8000_0000) return value & 0xffff;
      this.clock.advance(25 * US);
    }
    throw new Error(`PHY register ${reg} does not answer`);
  }
  phyWrite(reg: number, value: number): void {
    this.w32(0x60, 0x8000_0000 + (reg << 16) + value);
    for (let polls = 0; polls < 20; polls++) {
      if (this.r32(0x60) < 0x8000_0000) return;
      this.clock.advance(25 * US);
    }
    throw new Error(`PHY register ${reg} does not take ${value}`);
  }

  // ---------------------------------------------------------------------------------------------- guest memory

  get32(address: number): number {
    const window = this.memory.windows.find(({ base, size }) => address >= base && address < base + size)!;
    return window.view.getUint32(address - window.base, true);
  }
  set32(address: number, value: number): void {
    const window = this.memory.windows.find(({ base, size }) => address >= base && address < base + size)!;
    window.view.setUint32(address - window.base, value >>> 0, true);
  }
  get(address: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => {
      const window = this.memory.windows.find(({ base, size }) => address + i >= base && address + i < base + size)!;
      return window.bytes[address + i - window.base]!;
    });
  }
  put(address: number, bytes: Uint8Array): void {
    bytes.forEach((byte, i) => {
      const window = this.memory.windows.find(({ base, size }) => address + i >= base && address + i < base + size)!;
      window.bytes[address + i - window.base] = byte;
    });
  }
  descriptor(address: number, opts1: number, buffer: number, opts2 = 0): void {
    this.set32(address + 4, opts2);
    this.set32(address + 8, buffer % 2 ** 32);
    this.set32(address + 12, Math.floor(buffer / 2 ** 32));
    this.set32(address, opts1);
  }

  // ---------------------------------------------------------------------------------------------- set-up in one call

  /** Lets autonegotiation finish and forgets the interrupt that tells of it. */
  linkUp(): void {
    this.clock.advance(LINK_TIME);
    this.w16(0x3e, 0xffff);
  }
  /** Link up, transmitter on, ring at `ring`. */
  startTx(ring: number): void {
    this.linkUp();
    this.w32(0x24, Math.floor(ring / 2 ** 32));
    this.w32(0x20, ring % 2 ** 32);
    this.w8(0x37, this.r8(0x37) | 0x04);
  }
  /** Link up, receiver on, ring at `ring`, filter as `rcr` (default: own and broadcast). */
  startRx(ring: number, rcr = 0x0a): void {
    this.linkUp();
    this.w32(0xe8, Math.floor(ring / 2 ** 32));
    this.w32(0xe4, ring % 2 ** 32);
    this.w8(0x37, this.r8(0x37) | 0x08);
    this.w32(0x44, 0xe700 | rcr);
  }
  /** A frame from the cable, in the middle of a larger array, and the end of its batch. */
  deliver(frame: Uint8Array, offload: Offload | null = null): Verdict {
    const bytes = new Uint8Array(frame.length + 40).fill(0xee);
    bytes.set(frame, 17);
    const verdict = this.card.net.offer(bytes, 17, frame.length, offload, 0);
    this.card.net.endBatch();
    return verdict;
  }
}

/** An Ethernet frame of `length` bytes to `to`, its payload counting from `seed`. */
export const frameTo = (to: Uint8Array, length = 60, seed = 0): Uint8Array => {
  const frame = Uint8Array.from({ length }, (_, i) => (i + seed) & 0xff);
  frame.set(to);
  frame.set(PEER, 6);
  frame.set([0x88, 0xb5], 12);
  return frame;
};

export const BROADCAST = new Uint8Array(6).fill(0xff);

/** CRC-32 from its definition, bit by bit: what the cards under test must not be asked themselves. */
export const fcsOf = (bytes: Uint8Array): number => {
  let c = 0xffff_ffff;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ 0xedb8_8320 : c >>> 1;
  }
  return ~c >>> 0;
};

/** One's complement sum over big-endian words, as RFC 1071 §4.1 has it in C. */
export const onesSum = (bytes: Uint8Array, from: number, to: number, start = 0): number => {
  let total = start;
  for (let i = from; i < to; i += 2) total += (bytes[i]! << 8) + (i + 1 < to ? bytes[i + 1]! : 0);
  while (total > 0xffff) total = (total % 0x1_0000) + Math.floor(total / 0x1_0000);
  return total;
};

/** What an IPv4 packet for the tests is made of. */
export interface IpParts {
  readonly to?: Uint8Array;
  readonly protocol?: 6 | 17;
  /** bytes behind the TCP or UDP header, counting up */
  readonly payload: number;
  /** tag control information of a tag in the frame */
  readonly tci?: number;
  /** of TCP; default PSH and ACK */
  readonly flags?: number;
  /** of TCP and of IP, where they start */
  readonly sequence?: number;
  readonly identification?: number;
}

/** An IPv4 packet with TCP or UDP in it and every checksum right. */
export const ipFrame = ({ to = MAC, protocol = 6, payload, tci, ...parts }: IpParts): Uint8Array => {
  const ip = tci === undefined ? 14 : 18;
  const l4 = protocol === 6 ? 20 : 8;
  const frame = new Uint8Array(ip + 20 + l4 + payload);
  const view = new DataView(frame.buffer);
  frame.set(to);
  frame.set(PEER, 6);
  if (tci !== undefined) view.setUint32(12, 0x8100_0000 + tci);
  view.setUint16(ip - 2, 0x0800);
  frame.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 168, 123, 10, 192, 168, 123, 1], ip);
  view.setUint16(ip + 2, frame.length - ip);
  view.setUint16(ip + 4, parts.identification ?? 0xabcd);
  view.setUint16(ip + 10, 0xffff - onesSum(frame, ip, ip + 20));
  const at = ip + 20;
  view.setUint32(at, 0x04d2_0050);
  if (protocol === 6) {
    view.setUint32(at + 4, parts.sequence ?? 1);
    frame.set([0, 0, 0, 2, 0x50, parts.flags ?? 0x18, 0xff, 0xff], at + 8);
  } else view.setUint16(at + 4, 8 + payload);
  for (let i = 0; i < payload; i++) frame[at + l4 + i] = i * 7 + (i >> 8);
  const pseudo = onesSum(frame, ip + 12, ip + 20, protocol + l4 + payload);
  view.setUint16(at + (protocol === 6 ? 16 : 6), 0xffff - onesSum(frame, at, frame.length, pseudo));
  return frame;
};

/** Bytes out of hexadecimal text. */
export const hexBytes = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
