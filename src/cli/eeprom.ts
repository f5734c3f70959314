import { writeFileSync } from "node:fs";
import { formatMac } from "../bytes/index.js";
import { decodeRegisters } from "../regs/index.js";
import { PCI_DEVICE_ID, PCI_VENDOR_ID } from "../spec/pci.js";
import { parse, UsageError } from "./args.js";
import { EEPROM_CONTENTS, EEPROM_MAC_AT } from "./eeprom-contents.js";
import { readEeprom } from "./eeprom-wires.js";
import {
  BarWindow,
  CARD_OPTIONS,
  CARD_OPTIONS_HELP,
  type CardOnBus,
  cardOnBus,
  digits,
  fieldText,
} from "./regs-card.js";

const HELP = `usage: barwire eeprom [options]

Reads the serial EEPROM of a RealTek card through the card's own wires (9346CR) and prints what it says, by name.

${CARD_OPTIONS_HELP}
  --dump         all its words, too
  --file IMAGE   write them to a file, low byte first, as ethtool -e raw on does
  --json         print data
  --help         print this`;

const REALTEK = 0x10ec;
/** Devices that have 9346CR at 50h. */
const WITH_EEPROM: readonly number[] = [0x8129, 0x8136, 0x8138, 0x8139, 0x8167, 0x8168, 0x8169];
const WORDS_PER_LINE = 8;

/** The card's register window. @throws UsageError when the card has no serial EEPROM */
const windowOf = (card: CardOnBus): BarWindow => {
  const { slot, name } = card;
  const realtek =
    slot.configRead(PCI_VENDOR_ID, 2) === REALTEK && WITH_EEPROM.includes(slot.configRead(PCI_DEVICE_ID, 2));
  const window = slot.bars.map(({ index }) => new BarWindow(card, index)).find(({ base }) => base >= 0);
  if (!realtek || window === undefined) throw new UsageError(`card "${name}" has no serial EEPROM; RealTek's have one`);
  return window;
};

const wordsOf = (image: Uint8Array): number[] =>
  Array.from({ length: image.length / 2 }, (_, i) => image[2 * i]! | (image[2 * i + 1]! << 8));

/** Eight words a line behind the number of the first; lines that repeat the one before are a star, as in hexdump. */
const dump = (words: readonly number[]): string[] => {
  const lines: string[] = [];
  let before = "";
  for (let first = 0; first < words.length; first += WORDS_PER_LINE) {
    const row = words
      .slice(first, first + WORDS_PER_LINE)
      .map((word) => digits(word, 2))
      .join(" ");
    const repeats = row === before && first + WORDS_PER_LINE < words.length;
    if (!repeats) lines.push(`  ${digits(first, 1)}h  ${row}`);
    else if (lines.at(-1) !== "  *") lines.push("  *");
    before = row;
  }
  return lines;
};

/** Prints the EEPROM. @returns the exit status: 1 when nothing answers with a signature */
export const eeprom = (args: string[]): number => {
  const { values } = parse({
    args,
    options: { ...CARD_OPTIONS, dump: { type: "boolean", default: false }, file: { type: "string" } },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const card = cardOnBus(values, false);
  const window = windowOf(card);
  const found = readEeprom(window);
  if (found === null) {
    console.error(`barwire: ${card.name} at ${card.place}: no EEPROM answers with 8129h in word 0`);
    return 1;
  }
  const { part, image } = found;
  if (values.file !== undefined)
    try {
      writeFileSync(values.file, image);
    } catch (error) {
      throw new UsageError(`cannot write ${values.file}: ${(error as Error).message}`);
    }
  const words = wordsOf(image);
  const mac = formatMac(image.subarray(EEPROM_MAC_AT, EEPROM_MAC_AT + 6));
  const contents = decodeRegisters(EEPROM_CONTENTS, image);
  if (values.json === true) {
    const fields = contents.map(({ name, at, value, fields }) => ({ name, at, value, fields }));
    console.log(
      JSON.stringify({ card: card.name, place: card.place, part: part.name, mac, contents: fields, words }, null, 1),
    );
    return 0;
  }
  const nameWidth = Math.max(...contents.map(({ name }) => name.length));
  const lines = [
    `${card.name}: ${card.title} at ${card.place}, ${part.name} of ${part.words} words, station address ${mac}`,
    "",
  ];
  for (const [i, { name, at, value, fields }] of contents.entries()) {
    const { width } = EEPROM_CONTENTS.list[i]!;
    const says = fieldText(fields, false);
    lines.push(`  ${digits(at, 1)}h  ${name.padEnd(nameWidth)}  ${digits(value, width).padEnd(4)}  ${says}`.trimEnd());
  }
  if (values.dump === true) lines.push("", "words", ...dump(words));
  console.log(lines.join("\n"));
  return 0;
};
