import { PciFunction } from "../pci/index.js";
import { type DecodedRegister, decodeRegisters, type RegisterMap } from "../regs/index.js";
import { parse, UsageError } from "./args.js";
import {
  BarWindow,
  CARD_OPTIONS,
  CARD_OPTIONS_HELP,
  type CardOnBus,
  cardOnBus,
  digits,
  fieldText,
} from "./regs-card.js";

const HELP = `usage: barwire regs [options]

Prints a card's registers by name and field, read through its windows. Its driver is attached then, and a
network interface is up and has its link.

${CARD_OPTIONS_HELP}
  --reset        as they are after power-on, before any driver
  --all          fields that are 0, too
  -v             what each register is for
  --json         print data
  --help         print this`;

/** A register block of a card, and the windows that show it. */
interface Block {
  readonly map: RegisterMap;
  readonly bars: readonly number[];
  readonly windows: readonly BarWindow[];
}

/** The blocks of a card: a map that two windows share (as the I/O and the memory window of a RealTek card) is one. */
const blocksOf = (card: CardOnBus): Block[] => {
  if (!(card.slot instanceof PciFunction)) return [];
  const blocks: { map: RegisterMap; bars: number[]; windows: BarWindow[] }[] = [];
  for (const { index, registers } of card.slot.bars) {
    if (registers === undefined) continue;
    const known = blocks.find(({ map }) => map === registers);
    const block = known ?? { map: registers, bars: [], windows: [] };
    if (known === undefined) blocks.push(block);
    block.bars.push(index);
    block.windows.push(new BarWindow(card, index));
  }
  return blocks;
};

/** Reads each register with its own width through the first window that is decoded; null where none is. */
const readBlock = ({ map, windows }: Block): DecodedRegister[] | null => {
  const window = windows.find(({ base }) => base >= 0);
  if (window === undefined) return null;
  const image = new Uint8Array(map.size);
  const view = new DataView(image.buffer);
  for (const { at, width } of map.list) {
    const value = window.read(at, width);
    if (width === 4) view.setUint32(at, value, true);
    else if (width === 2) view.setUint16(at, value, true);
    else view.setUint8(at, value);
  }
  return decodeRegisters(map, image);
};

/** All blocks as they are at one moment: reading clears some registers, which stand in more than one of them. */
const readBlocks = (card: CardOnBus) => {
  const state = card.slot.save();
  return blocksOf(card).map((block) => {
    const registers = readBlock(block);
    card.slot.load(state);
    return { block, registers };
  });
};

const table = (map: RegisterMap, registers: readonly DecodedRegister[], all: boolean, verbose: boolean): string[] => {
  const nameWidth = Math.max(...map.list.map(({ name }) => name.length));
  const offsetWidth = (map.size - 1).toString(16).length;
  return registers.map(({ name, at, value, fields }, i) => {
    const { width, doc } = map.list[i]!;
    const offset = at.toString(16).padStart(offsetWidth, "0");
    const row = `  ${offset}h  ${name.padEnd(nameWidth)}  ${digits(value, width).padEnd(8)}  ${fieldText(fields, all)}`;
    return verbose ? `${row.trimEnd()}\n  ${" ".repeat(offsetWidth + 3)}${doc}` : row.trimEnd();
  });
};

/** Prints the registers. @returns the exit status */
export const regs = (args: string[]): number => {
  const { values } = parse({
    args,
    options: {
      ...CARD_OPTIONS,
      reset: { type: "boolean", default: false },
      all: { type: "boolean", default: false },
      verbose: { type: "boolean", short: "v", default: false },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const card = cardOnBus(values, values.reset !== true);
  const blocks = readBlocks(card);
  if (blocks.length === 0) throw new UsageError(`card "${card.name}" declares no registers`);
  if (values.json === true) {
    const data = blocks.map(({ block: { map, bars }, registers }) => ({
      block: map.name,
      source: map.source,
      bars,
      registers:
        registers?.map((register, i) => ({ ...register, width: map.list[i]!.width, doc: map.list[i]!.doc })) ?? null,
    }));
    console.log(JSON.stringify({ card: card.name, place: card.place, blocks: data }, null, 1));
    return 0;
  }
  const lines = [
    `${card.name}: ${card.title} at ${card.place}, ${values.reset === true ? "after power-on" : "with its driver"}`,
  ];
  for (const { block, registers } of blocks) {
    const where = block.bars.map((bar, i) => {
      const window = block.windows[i]!;
      return `BAR${bar} ${window.base >= 0 ? `at ${window.where}` : "not decoded"}`;
    });
    lines.push("", `${block.map.name}, ${block.map.size} bytes: ${where.join(", ")}`);
    lines.push(
      ...(registers === null ? [] : table(block.map, registers, values.all === true, values.verbose === true)),
    );
  }
  console.log(lines.join("\n"));
  return 0;
};
