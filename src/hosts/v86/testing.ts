import { StateError } from "../../bytes/index.js";
import type {
  AccessCounters,
  AccessWidth,
  BarInfo,
  HostSeams,
  ResetKind,
  SavedState,
  Slot,
} from "../../contract/index.js";

// For tests: a guest of a few bytes of machine code, and a card that does what it is told.

const BIOS_SIZE = 0x20000;
/** where a test puts the guest's code; it ends with `RET` */
export const CODE = 0x8000;
/** what the guest calls; 0 when it came back */
export const MAILBOX = 0x500;
/** where the guest says where its results end; they are 32-bit numbers and begin at `RESULTS` */
export const RESULT_END = 0x504;
export const RESULTS = 0x1000;

/** The bytes of a number, low one first. */
export const le = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => (value >>> (8 * i)) & 0xff);
export const RET = 0xc3;
/** stosd: EAX is the next result */
export const STORE = 0xab;
const edx = (port: number): number[] => [0x66, 0xba, ...le(port, 2)];

// One access each; what is read becomes a result.
export const out8 = (port: number, value: number) => [0xb0, value, ...edx(port), 0xee];
export const out16 = (port: number, value: number) => [0x66, 0xb8, ...le(value, 2), ...edx(port), 0x66, 0xef];
export const out32 = (port: number, value: number) => [0xb8, ...le(value, 4), ...edx(port), 0xef];
export const in8 = (port: number) => [0x31, 0xc0, ...edx(port), 0xec, STORE];
export const in16 = (port: number) => [0x31, 0xc0, ...edx(port), 0x66, 0xed, STORE];
export const in32 = (port: number) => [...edx(port), 0xed, STORE];
export const write8 = (address: number, value: number) => [0xc6, 0x05, ...le(address, 4), value];
export const write16 = (address: number, value: number) => [0x66, 0xc7, 0x05, ...le(address, 4), ...le(value, 2)];
export const write32 = (address: number, value: number) => [0xc7, 0x05, ...le(address, 4), ...le(value, 4)];
export const read8 = (address: number) => [0x0f, 0xb6, 0x05, ...le(address, 4), STORE];
export const read16 = (address: number) => [0x0f, 0xb7, 0x05, ...le(address, 4), STORE];
export const read32 = (address: number) => [0xa1, ...le(address, 4), STORE];

/**
 * A BIOS that goes to flat protected mode and then, again and again, calls what stands in `MAILBOX`.
 * @param program to be run in the place of that, without an end
 */
export function bios(program: readonly number[] = []): ArrayBuffer {
  const rom = new Uint8Array(BIOS_SIZE);
  const put = (at: number, bytes: readonly number[]) => rom.set(bytes, at - 0xe0000);
  put(0xffff0, [0xe9, ...le(0x0000 - 0xfff3, 2)]);
  put(0xf0000, [0xfa, 0x66, 0x2e, 0x0f, 0x01, 0x16, ...le(0x70, 2)]); // cli; lgdt cs:[70h]
  put(0xf0008, [0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0]); // cr0 |= PE
  put(0xf0010, [0x66, 0xea, ...le(0xf0100, 4), ...le(8, 2)]);
  put(0xf0070, [...le(23, 2), ...le(0xf0080, 4)]);
  put(0xf0088, [...le(0xffff, 4), 0x00, 0x9a, 0xcf, 0x00, ...le(0xffff, 4), 0x00, 0x92, 0xcf, 0x00]);
  put(0xf0100, [0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, ...le(0x7000, 4)]);
  // wait: mov eax,[MAILBOX]; test eax,eax; jz wait; mov edi,RESULTS; call eax; mov [RESULT_END],edi; mov [MAILBOX],0; jmp wait
  put(0xf0120 - 0x11, [0xeb, 0x0f]); // from the end of the segment set-up to 0xf0120
  put(0xf0120, [0xa1, ...le(MAILBOX, 4), 0x85, 0xc0, 0x74, 0xf7]);
  put(0xf0129, [0xbf, ...le(RESULTS, 4), 0xff, 0xd0, 0x89, 0x3d, ...le(RESULT_END, 4)]);
  put(0xf0136, [0xc7, 0x05, ...le(MAILBOX, 4), ...le(0, 4), 0xeb, 0xde]);
  if (program.length > 0) put(0xf0120, program);
  return rom.buffer;
}

/** BARs of the test card */
export const IO = 0;
export const MEMORY = 1;
export const SECOND = 2;

/** A card that does what a test tells it: its BARs go where `move` puts them, and every access is logged. */
export class TestSlot implements Slot {
  readonly name = "test-card";
  readonly bars: readonly BarInfo[] = [
    { index: IO, kind: "io", size: 32, prefetchable: false },
    { index: MEMORY, kind: "mem32", size: 0x100, prefetchable: false },
    { index: SECOND, kind: "mem32", size: 0x100, prefetchable: false },
  ];
  readonly config = new Uint8Array(0x100);
  readonly registers = [new Uint8Array(32), new Uint8Array(0x100), new Uint8Array(0x100)];
  /** such as `1 w2 10 beef`: BAR, direction and width, offset and value in hexadecimal */
  readonly log: string[] = [];
  readonly resets: ResetKind[] = [];
  onWrite: (bar: number, offset: number, value: number) => void = () => {};
  seams: HostSeams | null = null;
  /** what a saved state holds beside registers and BARs; a state with a negative one is refused */
  secret = 0;
  readonly #bases = [-1, -1, -1];
  #moved: (() => void) | null = null;

  constructor() {
    this.config.set([0xec, 0x10, 0x69, 0x81]);
    this.config[0x3d] = 1;
  }
  /** what the guest does by writing a BAR */
  move(bar: number, base: number): void {
    this.#bases[bar] = base;
    this.#moved?.();
  }
  configRead(offset: number, width: AccessWidth): number {
    return load(this.config, offset, width);
  }
  configWrite(offset: number, width: AccessWidth, value: number): void {
    this.log.push(`config w${width} ${offset.toString(16)} ${value.toString(16)}`);
    store(this.config, offset, width, value);
  }
  barRead(bar: number, offset: number, width: AccessWidth): number {
    this.log.push(`${bar} r${width} ${offset.toString(16)}`);
    return load(this.registers[bar]!, offset, width);
  }
  barWrite(bar: number, offset: number, width: AccessWidth, value: number): void {
    this.log.push(`${bar} w${width} ${offset.toString(16)} ${value.toString(16)}`);
    store(this.registers[bar]!, offset, width, value);
    this.onWrite(bar, offset, value);
  }
  barBase(bar: number): number {
    return this.#bases[bar]!;
  }
  onBarsChanged(listener: () => void): Disposable {
    this.#moved = listener;
    return {
      [Symbol.dispose]: () => {
        this.#moved = null;
      },
    };
  }
  reset(kind: ResetKind): void {
    this.resets.push(kind);
    this.config[0x06] = 0;
    this.config[0x3c] = 0;
    this.#bases.fill(-1);
    this.seams?.interrupts.setIntx(false);
    this.#moved?.();
  }
  connect(seams: HostSeams): void {
    this.seams = seams;
  }
  disconnect(): void {
    this.seams?.interrupts.setIntx(false);
    this.seams = null;
  }
  resample(): void {}
  accessCounters(): AccessCounters {
    throw new Error("nobody asks");
  }
  save(): SavedState {
    return {
      config: this.config.slice(),
      bases: [...this.#bases],
      secret: this.secret,
      later: Number.POSITIVE_INFINITY,
    };
  }
  load(state: SavedState): void {
    const { config, bases, secret, later } = state as { [key: string]: unknown };
    if ((secret as number) < 0) throw new StateError(this.name, "a negative secret");
    if (later !== Number.POSITIVE_INFINITY) throw new StateError(this.name, `later: ${String(later)}`);
    this.config.set(config as Uint8Array);
    this.secret = secret as number;
    for (const [i, base] of (bases as number[]).entries()) this.#bases[i] = base;
    this.seams?.interrupts.setIntx((this.config[0x06]! & 8) !== 0); // Status: Interrupt Status
    this.#moved?.();
  }
  /** Pulls its pin, so that a saved state knows it. */
  interrupt(level: boolean): void {
    this.config[0x06] = level ? 8 : 0;
    this.seams?.interrupts.setIntx(level);
  }
}

const load = (bytes: Uint8Array, at: number, width: AccessWidth): number => {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 0x100 + bytes[at + i]!;
  return value;
};
const store = (bytes: Uint8Array, at: number, width: AccessWidth, value: number): void => {
  for (let i = 0; i < width; i++) bytes[at + i] = (value >>> (8 * i)) & 0xff;
};
