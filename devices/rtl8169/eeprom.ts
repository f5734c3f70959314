import { BitView } from "bit-buffer";
import { StateError, type StateReader } from "../../src/bytes/index.js";
import type { SavedState } from "../../src/contract/index.js";
import {
  EEPROM_EXT_ERAL,
  EEPROM_EXT_EWDS,
  EEPROM_EXT_EWEN,
  EEPROM_EXT_WRAL,
  EEPROM_OP_ERASE,
  EEPROM_OP_EXTENDED,
  EEPROM_OP_READ,
  EEPROM_OP_WRITE,
  EEPROM_SIGNATURE,
  EEPROM_TYPES,
  EEPROM_WORDS,
} from "../../src/spec/rtl8169.js";

/** Which serial EEPROM is fitted, in 16-bit organisation. */
export type EepromType = keyof typeof EEPROM_TYPES;

/** What the card's EEPROM says; read by the chip at power-on and by drivers bit by bit. */
export interface EepromContents {
  readonly mac: Uint8Array;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly minGnt: number;
  readonly maxLat: number;
  readonly config0: number;
  readonly config1: number;
}

const WORD_BITS = 16;
/** States of the serial interface. */
const WAIT_START = 0;
const COMMAND = 1;
const READING = 2;
const DATA_IN = 3;
/** nothing more is taken until CS falls */
const COMPLETE = 4;

/**
 * A 93C46 or 93C56 behind its four wires. The array is kept as the bit stream that the part shifts out (words most
 * significant bit first), so that a READ is a cursor and goes on into the next word as real parts do.
 */
export class Eeprom {
  readonly type: EepromType;
  readonly #words: number;
  readonly #addressBits: number;
  readonly #bytes: Uint8Array;
  readonly #stream: BitView;
  #cs = 0;
  #sk = 0;
  #state = WAIT_START;
  /** bits taken since the start bit, and how many */
  #shift = 0;
  #count = 0;
  #address = 0;
  /** bit of the stream that the next rising edge puts out */
  #cursor = 0;
  #out = 1;
  #writeEnabled = false;
  /** programmed when CS falls; -1: nothing */
  #pending = -1;
  #busyUntil = 0;

  constructor(type: EepromType, contents: EepromContents) {
    const { words, addressBits } = EEPROM_TYPES[type];
    this.type = type;
    this.#words = words;
    this.#addressBits = addressBits;
    this.#bytes = new Uint8Array(words * 2);
    this.#stream = new BitView(this.#bytes.buffer as ArrayBuffer);
    this.#stream.bigEndian = true;
    const { mac } = contents;
    this.set(EEPROM_WORDS.signature, EEPROM_SIGNATURE);
    this.set(EEPROM_WORDS.vendorId, contents.vendorId);
    this.set(EEPROM_WORDS.deviceId, contents.deviceId);
    this.set(EEPROM_WORDS.subsystemVendorId, contents.subsystemVendorId);
    this.set(EEPROM_WORDS.subsystemId, contents.subsystemId);
    this.set(EEPROM_WORDS.latency, contents.minGnt | (contents.maxLat << 8));
    for (let i = 0; i < 3; i++) this.set(EEPROM_WORDS.mac + i, mac[2 * i]! | (mac[2 * i + 1]! << 8));
    this.set(EEPROM_WORDS.config01, contents.config0 | (contents.config1 << 8));
  }

  /** A word, without the wires. */
  get(word: number): number {
    return this.#stream.getBits(word * WORD_BITS, WORD_BITS);
  }

  set(word: number, value: number): void {
    this.#stream.setBits(word * WORD_BITS, value, WORD_BITS);
  }

  /** Level of DO. With CS high and nothing to put out the part shows whether it is ready. */
  output(now: number): number {
    return now < this.#busyUntil ? 0 : this.#out;
  }

  /** Whether `output` may change by itself. */
  get busy(): boolean {
    return this.#busyUntil !== 0;
  }

  /**
   * New levels of the wires, each 0 or 1.
   * @param programNs time that programming takes from `now` on
   */
  wires(cs: number, sk: number, di: number, now: number, programNs: number): void {
    if (this.#busyUntil !== 0 && now >= this.#busyUntil) this.#busyUntil = 0;
    const rising = sk !== 0 && this.#sk === 0;
    const selected = this.#cs !== 0;
    this.#sk = sk;
    this.#cs = cs;
    if (cs === 0) {
      if (selected) this.#deselect(now + programNs);
    } else if (selected && rising && this.#busyUntil === 0) this.#clock(di);
  }

  /** CS falls: programming starts, and whatever was being shifted is forgotten. */
  #deselect(programmed: number): void {
    if (this.#pending >= 0) {
      this.#program(this.#pending);
      this.#pending = -1;
      this.#busyUntil = programmed;
    }
    this.#state = WAIT_START;
    this.#shift = this.#count = 0;
    this.#out = 1;
  }

  #clock(di: number): void {
    switch (this.#state) {
      case WAIT_START:
        if (di !== 0) this.#state = COMMAND;
        break;
      case COMMAND:
        this.#shift = (this.#shift << 1) | di;
        if (++this.#count === 2 + this.#addressBits) this.#decode();
        break;
      case READING:
        this.#out = this.#stream.getBits(this.#cursor, 1);
        this.#cursor = (this.#cursor + 1) % (this.#words * WORD_BITS);
        break;
      case DATA_IN:
        this.#shift = (this.#shift << 1) | di;
        if (++this.#count === WORD_BITS) {
          this.#pending = this.#writeEnabled ? this.#shift & 0xffff : -1;
          this.#state = COMPLETE;
        }
        break;
    }
  }

  /** The command is whole: two bits of operation and the address. */
  #decode(): void {
    const operation = this.#shift >>> this.#addressBits;
    const sent = this.#shift & ((1 << this.#addressBits) - 1);
    this.#address = sent % this.#words; // the 93C56 ignores the top one of its 8 bits
    this.#shift = this.#count = 0;
    this.#state = COMPLETE;
    switch (operation) {
      case EEPROM_OP_READ:
        this.#out = 0; // the dummy bit in front of the data
        this.#cursor = this.#address * WORD_BITS;
        this.#state = READING;
        break;
      case EEPROM_OP_WRITE:
        this.#state = DATA_IN;
        break;
      case EEPROM_OP_ERASE:
        if (this.#writeEnabled) this.#pending = 0xffff;
        break;
      case EEPROM_OP_EXTENDED:
        this.#extended(sent >>> (this.#addressBits - 2));
    }
  }

  #extended(operation: number): void {
    if (operation === EEPROM_EXT_EWEN) this.#writeEnabled = true;
    else if (operation === EEPROM_EXT_EWDS) this.#writeEnabled = false;
    else {
      this.#address = -1; // all words
      if (operation === EEPROM_EXT_WRAL) this.#state = DATA_IN;
      else if (operation === EEPROM_EXT_ERAL && this.#writeEnabled) this.#pending = 0xffff;
    }
  }

  #program(value: number): void {
    if (this.#address >= 0) this.set(this.#address, value);
    else for (let word = 0; word < this.#words; word++) this.set(word, value);
  }

  save(): SavedState {
    return {
      type: this.type,
      bytes: Uint8Array.from(this.#bytes),
      cs: this.#cs,
      sk: this.#sk,
      state: this.#state,
      shift: this.#shift,
      count: this.#count,
      address: this.#address,
      cursor: this.#cursor,
      out: this.#out,
      writeEnabled: this.#writeEnabled,
      pending: this.#pending,
      busyUntil: this.#busyUntil,
    };
  }

  /** Checks a state and returns what applies it. @throws StateError */
  check(state: StateReader): () => void {
    const type = state.string("type");
    if (type !== this.type) throw new StateError(`${state.path}.type`, `${type}, but a ${this.type} is fitted`);
    const bytes = state.bytes("bytes", this.#bytes.length);
    const cs = state.integer("cs", 0, 1);
    const sk = state.integer("sk", 0, 1);
    const serial = state.integer("state", WAIT_START, COMPLETE);
    const shift = state.integer("shift", 0, 0xffff);
    const count = state.integer("count", 0, WORD_BITS);
    const address = state.integer("address", -1, this.#words - 1);
    const cursor = state.integer("cursor", 0, this.#words * WORD_BITS - 1);
    const out = state.integer("out", 0, 1);
    const writeEnabled = state.boolean("writeEnabled");
    const pending = state.integer("pending", -1, 0xffff);
    const busyUntil = state.integer("busyUntil");
    return () => {
      this.#bytes.set(bytes);
      this.#cs = cs;
      this.#sk = sk;
      this.#state = serial;
      this.#shift = shift;
      this.#count = count;
      this.#address = address;
      this.#cursor = cursor;
      this.#out = out;
      this.#writeEnabled = writeEnabled;
      this.#pending = pending;
      this.#busyUntil = busyUntil;
    };
  }
}
