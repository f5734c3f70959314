import { ConfigError, ETHER_ADDR_LEN } from "../bytes/index.js";
import type { Clock } from "../contract/index.js";

// Block types and option codes of draft-ietf-opsawg-pcapng, §4.
const SHB = 0x0a0d_0d0a;
const IDB = 1;
const ISB = 5;
const EPB = 6;
const BYTE_ORDER_MAGIC = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET = 1;
const OPT_ENDOFOPT = 0;
const SHB_HARDWARE = 2;
const SHB_OS = 3;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_MACADDR = 6;
const IF_SPEED = 8;
const IF_TSRESOL = 9;
const IF_FCSLEN = 13;
const IF_TSOFFSET = 14;
const EPB_FLAGS = 2;
const ISB_STARTTIME = 2;
const ISB_ENDTIME = 3;
const ISB_IFRECV = 4;
const ISB_IFDROP = 5;

const DECIMAL_NS = 9; // if_tsresol: units of 10^-9 s
const SNAPLEN = 0x4_0000; // as tcpdump has it
const BUFFER = 0x1_0000;
const EPB_OVERHEAD = 28 + 12 + 4; // head, flags and end of options, trailing length
const MAX_TEXT = 0xffff; // bytes of one option

/** Direction of a frame as the capturing card sees it; the two low bits of epb_flags. */
export type Direction = "inbound" | "outbound";

export interface PcapngOptions {
  readonly clock: Clock;
  /** Told each piece of the file, in order; the bytes are valid during the call only. What it throws goes to whoever sent the frame. */
  readonly sink: (chunk: Uint8Array) => void;
  /** the clock's zero in seconds since 1970-01-01 UTC; default 0 */
  readonly epochSeconds?: number;
  readonly hardware?: string;
  readonly os?: string;
  /** default `barwire` */
  readonly application?: string;
  /** most bytes kept back from the sink; a frame that is longer gets what it needs; default 64 KiB */
  readonly bufferBytes?: number;
}

export interface CaptureInterface {
  /** such as `re0` */
  readonly name: string;
  readonly description?: string;
  /** most bytes kept of a frame, 1 … 2²⁶; default 262144 */
  readonly snaplen?: number;
  readonly mac?: Uint8Array;
  /** bits per second */
  readonly speed?: number;
}

interface Capture {
  readonly snaplen: number;
  readonly since: number;
  received: number;
  dropped: number;
}

/**
 * Writes frames as a pcapng file with nanosecond time stamps; everything goes out through a callback, so files stand elsewhere.
 * It observes and holds no frame of the machine, so it is no part of a machine's saved state.
 */
export class PcapngWriter implements Disposable {
  readonly #clock: Clock;
  readonly #sink: (chunk: Uint8Array) => void;
  readonly #epochSeconds: number;
  readonly #captures: Capture[] = [];
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #end = 0; // bytes waiting for the sink
  #last = -1; // where the youngest frame's block begins, −1 when it is gone
  #lastCapture: Capture | null = null;
  #blocks = 0;
  #closed = false;

  /** Writes the section header. @throws ConfigError `pcapng-epoch`, `pcapng-buffer`, `pcapng-text` */
  constructor(options: PcapngOptions) {
    const { clock, sink, epochSeconds = 0, hardware, os, application = "barwire", bufferBytes = BUFFER } = options;
    if (!Number.isSafeInteger(epochSeconds))
      throw new ConfigError("pcapng-epoch", `epoch of ${epochSeconds}: expected whole seconds`);
    if (!Number.isInteger(bufferBytes) || bufferBytes < 0 || bufferBytes > 2 ** 30)
      throw new ConfigError("pcapng-buffer", `buffer of ${bufferBytes} bytes: expected 0 … 2^30`);
    this.#clock = clock;
    this.#sink = sink;
    this.#epochSeconds = epochSeconds;
    this.#bytes = new Uint8Array(Math.max(bufferBytes, EPB_OVERHEAD));
    this.#view = new DataView(this.#bytes.buffer);
    const texts: [number, Uint8Array][] = [];
    if (hardware !== undefined) texts.push([SHB_HARDWARE, utf8(hardware)]);
    if (os !== undefined) texts.push([SHB_OS, utf8(os)]);
    texts.push([SHB_USERAPPL, utf8(application)]);
    const at = this.#begin(SHB, 16 + optionsSize(texts));
    this.#view.setUint32(at, BYTE_ORDER_MAGIC, true);
    this.#view.setUint16(at + 4, 1, true); // version 1.0
    this.#view.setUint16(at + 6, 0, true);
    this.#view.setUint32(at + 8, 0xffff_ffff, true); // length of the section: not known
    this.#view.setUint32(at + 12, 0xffff_ffff, true);
    this.#options(at + 16, texts);
  }

  /** Declares an interface. @returns its id for `packet`; @throws ConfigError `pcapng-snaplen`, `pcapng-text`, `pcapng-closed` */
  addInterface(options: CaptureInterface): number {
    const { name, description, snaplen = SNAPLEN, mac, speed } = options;
    if (this.#closed) throw new ConfigError("pcapng-closed", `interface ${name} comes after the end of the file`);
    if (!Number.isInteger(snaplen) || snaplen < 1 || snaplen > 2 ** 26)
      throw new ConfigError("pcapng-snaplen", `${name}: snaplen ${snaplen}, expected 1 … 2^26`);
    if (mac !== undefined && mac.length !== ETHER_ADDR_LEN)
      throw new ConfigError("mac-address", `${name}: MAC address of ${mac.length} bytes`);
    const texts: [number, Uint8Array][] = [[IF_NAME, utf8(name)]];
    if (description !== undefined) texts.push([IF_DESCRIPTION, utf8(description)]);
    if (mac !== undefined) texts.push([IF_MACADDR, mac]);
    if (speed !== undefined) texts.push([IF_SPEED, int64(speed)]);
    texts.push([IF_TSRESOL, Uint8Array.of(DECIMAL_NS)], [IF_FCSLEN, Uint8Array.of(0)]);
    if (this.#epochSeconds !== 0) texts.push([IF_TSOFFSET, int64(this.#epochSeconds)]);
    const at = this.#begin(IDB, 8 + optionsSize(texts));
    this.#view.setUint16(at, LINKTYPE_ETHERNET, true);
    this.#view.setUint16(at + 2, 0, true);
    this.#view.setUint32(at + 4, snaplen, true);
    this.#options(at + 8, texts);
    return this.#captures.push({ snaplen, since: this.#clock.now(), received: 0, dropped: 0 }) - 1;
  }

  /**
   * Writes a frame without FCS with the present time; copies it. Does nothing after `close`.
   * @param id from `addInterface`; @returns a token for `retract`
   */
  packet(id: number, bytes: Uint8Array, start: number, length: number, direction: Direction): number {
    const capture = this.#captures[id];
    if (this.#closed || capture === undefined) return -1;
    const kept = length < capture.snaplen ? length : capture.snaplen;
    const stored = padded(kept);
    const at = this.#begin(EPB, 20 + stored + 12);
    const view = this.#view;
    view.setUint32(at, id, true);
    this.#time(at + 4, this.#clock.now());
    view.setUint32(at + 12, kept, true);
    view.setUint32(at + 16, length, true);
    const data = at + 20;
    this.#bytes.set(bytes.subarray(start, start + kept), data);
    this.#bytes.fill(0, data + kept, data + stored);
    const options = data + stored;
    view.setUint16(options, EPB_FLAGS, true);
    view.setUint16(options + 2, 4, true);
    view.setUint32(options + 4, direction === "inbound" ? 1 : 2, true);
    view.setUint32(options + 8, OPT_ENDOFOPT, true);
    this.#last = at - 8;
    this.#lastCapture = capture;
    capture.received++;
    return ++this.#blocks;
  }

  /** Takes a frame back, if nothing was written since and it has not gone to the sink. @returns whether it did */
  retract(token: number): boolean {
    if (this.#last < 0 || this.#lastCapture === null || token !== this.#blocks) return false;
    this.#end = this.#last;
    this.#last = -1;
    this.#lastCapture.received--;
    return true;
  }

  /** Counts a frame of an interface that was lost; shown in its statistics at the end. */
  countDropped(id: number): void {
    const capture = this.#captures[id];
    if (capture !== undefined) capture.dropped++;
  }

  /** Hands what is waiting to the sink. */
  flush(): void {
    if (this.#end === 0) return;
    const end = this.#end;
    this.#end = 0;
    this.#last = -1;
    this.#sink(this.#bytes.subarray(0, end));
  }

  /** Writes the statistics of all interfaces and flushes; what comes later is not written. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const now = this.#clock.now();
    for (const [id, capture] of this.#captures.entries()) {
      const options: [number, Uint8Array][] = [
        [ISB_STARTTIME, this.#timeBytes(capture.since)],
        [ISB_ENDTIME, this.#timeBytes(now)],
        [ISB_IFRECV, int64(capture.received)],
        [ISB_IFDROP, int64(capture.dropped)],
      ];
      const at = this.#begin(ISB, 12 + optionsSize(options));
      this.#view.setUint32(at, id, true);
      this.#time(at + 4, now);
      this.#options(at + 12, options);
    }
    this.flush();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Begins a block: its head and its trailing length. @param body bytes, a multiple of 4; @returns where the body goes */
  #begin(type: number, body: number): number {
    const size = body + 12;
    if (this.#end + size > this.#bytes.length) {
      this.flush();
      if (size > this.#bytes.length) {
        this.#bytes = new Uint8Array(size);
        this.#view = new DataView(this.#bytes.buffer);
      }
    }
    const at = this.#end;
    this.#view.setUint32(at, type, true);
    this.#view.setUint32(at + 4, size, true);
    this.#view.setUint32(at + size - 4, size, true);
    this.#end = at + size;
    this.#last = -1;
    return at + 8;
  }

  #options(start: number, options: readonly [number, Uint8Array][]): void {
    let at = start;
    for (const [code, value] of options) {
      this.#view.setUint16(at, code, true);
      this.#view.setUint16(at + 2, value.length, true);
      this.#bytes.set(value, at + 4);
      this.#bytes.fill(0, at + 4 + value.length, at + 4 + padded(value.length));
      at += 4 + padded(value.length);
    }
    this.#view.setUint32(at, OPT_ENDOFOPT, true);
  }

  /** A time stamp is a 64-bit number written as two halves, the high one first. */
  #time(at: number, ns: number): void {
    this.#view.setUint32(at, Math.floor(ns / 2 ** 32), true);
    this.#view.setUint32(at + 4, ns % 2 ** 32, true);
  }

  #timeBytes(ns: number): Uint8Array {
    const low = int64(ns);
    return Uint8Array.of(...low.subarray(4), ...low.subarray(0, 4));
  }
}

const padded = (length: number): number => (length + 3) & ~3;

const optionsSize = (options: readonly [number, Uint8Array][]): number =>
  options.reduce((size, [, value]) => size + 4 + padded(value.length), 4);

/** A 64-bit little-endian number; also a negative one. */
const int64 = (value: number): Uint8Array => {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, value, true);
  view.setInt32(4, Math.floor(value / 2 ** 32), true);
  return new Uint8Array(view.buffer);
};

/** UTF-8 without TextEncoder, which is no part of ECMAScript. Half a surrogate pair becomes U+FFFD. */
const utf8 = (text: string): Uint8Array => {
  const bytes: number[] = [];
  for (const character of text) {
    const point = character.codePointAt(0)!;
    const code = point >= 0xd800 && point < 0xe000 ? 0xfffd : point;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    else if (code < 0x1_0000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
  }
  if (bytes.length > MAX_TEXT)
    throw new ConfigError("pcapng-text", `a text of ${bytes.length} bytes: an option holds ${MAX_TEXT}`);
  return Uint8Array.from(bytes);
};
