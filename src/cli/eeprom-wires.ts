import type { BarWindow } from "./regs-card.js";

/*
 * A serial EEPROM behind 9346CR, as a tool on a real machine reads it: mode 10 and four wires. The numbers are those of the
 * 93C46 and 93C56 data sheets and of 9346CR, which stands at 50h on every RealTek card.
 */

const CR_9346 = 0x50;
const PROGRAM = 0x80;
const CS = 0x08;
const SK = 0x04;
const DI = 0x02;
const DO = 0x01;

/** start bit and opcode */
const READ = 0b110;
const WORD_BITS = 16;

/** Parts by how many address bits they take. */
export const PARTS = [
  { name: "93C56", addressBits: 8, words: 128 },
  { name: "93C46", addressBits: 6, words: 64 },
] as const;

export type Part = (typeof PARTS)[number];

/** Word 0 of every card's EEPROM. */
export const SIGNATURE = 0x8129;

/** One clock with DI at this level. @returns DO while SK is high */
const clock = (window: BarWindow, data: number): number => {
  const wires = PROGRAM | CS | (data !== 0 ? DI : 0);
  window.write(CR_9346, 1, wires);
  window.write(CR_9346, 1, wires | SK);
  const out = window.read(CR_9346, 1) & DO;
  window.write(CR_9346, 1, wires);
  return out;
};

/**
 * Reads `count` words from word 0 on by one READ: while CS stays high the part goes on into the next word.
 * @returns bytes of the words, low byte first
 */
const readFrom0 = (window: BarWindow, addressBits: number, count: number): Uint8Array => {
  window.write(CR_9346, 1, PROGRAM);
  window.write(CR_9346, 1, PROGRAM | CS);
  for (let bit = addressBits + 2; bit >= 0; bit--) clock(window, ((READ << addressBits) >>> bit) & 1);
  const image = new DataView(new ArrayBuffer(2 * count));
  for (let word = 0; word < count; word++) {
    let value = 0;
    for (let bit = 0; bit < WORD_BITS; bit++) value = (value << 1) | clock(window, 0);
    image.setUint16(2 * word, value, true);
  }
  window.write(CR_9346, 1, 0); // any mode but 10 lets CS fall
  return new Uint8Array(image.buffer);
};

/** Finds out what is fitted, the longer address first as drivers do, and reads all of it; null where no word 0 is right. */
export const readEeprom = (window: BarWindow): { readonly part: Part; readonly image: Uint8Array } | null => {
  for (const part of PARTS) {
    const [low, high] = readFrom0(window, part.addressBits, 1);
    if (low! + high! * 256 === SIGNATURE) return { part, image: readFrom0(window, part.addressBits, part.words) };
  }
  return null;
};
