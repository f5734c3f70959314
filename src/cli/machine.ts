import { ConfigError } from "../bytes/index.js";
import { Machine } from "../machine/index.js";
import { UsageError } from "./args.js";
import { type ProbedMachine, probeMachine, SEED } from "./lab/world.js";
import { createCard, NIC_NAMES_HELP, SEED_NICS } from "./registry.js";

/** bytes; room for the rings and buffers of a few cards */
const RAM = 32 * 2 ** 20;
/** Slots from here on are free on a machine with host bridge and ISA bridge; 2 is left for a display, as on PCs. */
const FIRST_SLOT = 3;

/** What both `lspci` and `probe` say about their machine. */
export const CARD_HELP = `  --card NAME[@SLOT]
                 a card in the next slot or in this one, more than once for more; default: the lab's ${SEED_NICS.join(" and ")};
                 bridge, vtblk, vtmouse, ${NIC_NAMES_HELP.replace("chip: ", "chip:\n                 ")}
                 behind a bridge by the way there: --card bridge@05.0 --card vtnet@05.0/04.0`;

/** A machine with these cards, its resources assigned and its drivers attached. @throws UsageError */
export const machineWith = (cards: readonly string[] | undefined): ProbedMachine => {
  const machine = new Machine({ ram: RAM, strictness: "strict" });
  const names = cards ?? SEED_NICS;
  names.forEach((given, i) => {
    const [name = "", where = (FIRST_SLOT + i).toString(16)] = given.split("@");
    const mac = cards === undefined ? SEED[name as keyof typeof SEED].mac : `52:54:00:00:00:${(i + 1).toString(16)}`;
    const card = createCard(name, { mac });
    try {
      machine.plug(where, card);
    } catch (error) {
      throw error instanceof ConfigError ? new UsageError(`--card ${given}: ${error.message}`) : error;
    }
  });
  return probeMachine(machine);
};
