import { Machine } from "../machine/index.js";
import { type ProbedMachine, probeMachine, SEED } from "./lab/world.js";
import { createCard, NIC_NAMES_HELP, SEED_NICS } from "./registry.js";

/** bytes; room for the rings and buffers of a few cards */
const RAM = 32 * 2 ** 20;
/** Slots from here on are free on a machine with host bridge and ISA bridge; 2 is left for a display, as on PCs. */
const FIRST_SLOT = 3;

/** What both `lspci` and `probe` say about their machine. */
export const CARD_HELP = `  --card NAME    a card in the next slot, more than once for more; default: the lab's ${SEED_NICS.join(" and ")};
                 vtblk, ${NIC_NAMES_HELP.replace("chip: ", "chip:\n                 ")}`;

/** A machine with these cards in slots 3, 4 …, its resources assigned and its drivers attached. @throws UsageError */
export const machineWith = (cards: readonly string[] | undefined): ProbedMachine => {
  const machine = new Machine({ ram: RAM, strictness: "strict" });
  const names = cards ?? SEED_NICS;
  names.forEach((name, i) => {
    const mac = cards === undefined ? SEED[name as keyof typeof SEED].mac : `52:54:00:00:00:${(i + 1).toString(16)}`;
    machine.plug(`00:${(FIRST_SLOT + i).toString(16)}.0`, createCard(name, { mac }));
  });
  return probeMachine(machine);
};
