import type { AccessWidth, BarKind, GuestBus, Slot } from "../contract/index.js";
import type { DeviceInfo, Ifnet } from "../guest/index.js";
import { Machine } from "../machine/index.js";
import { formatBdf, pciBdf } from "../spec/pci.js";
import { UsageError } from "./args.js";
import { type ProbedMachine, probeMachine } from "./lab/world.js";
import { CARDS, createCard, NIC_NAMES_HELP, nicName } from "./registry.js";

/** What `regs` and `eeprom` share: one card, chosen on the command line, in a machine of its own. */

/** Options that name the card; `parse` takes them. */
export const CARD_OPTIONS = {
  nic: { type: "string" },
  card: { type: "string" },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;

export const CARD_OPTIONS_HELP = `  --nic NAME     a network card, re by default: ${NIC_NAMES_HELP.replace("chip: ", "chip:\n                 ")}
  --card NAME    the same, or vtblk, vtmouse`;

const RAM = 16 * 2 ** 20;
const PLACE = pciBdf(0, 3);
const MAC = "52:54:00:12:34:56";

/** A card in a machine, and a guest's way to it. */
export interface CardOnBus {
  /** as the registry names it */
  readonly name: string;
  readonly title: string;
  /** such as `00:03.0` */
  readonly place: string;
  readonly slot: Slot;
  readonly bus: GuestBus;
}

/** Autonegotiation takes tens of ms; a link that is not there after this long does not come. */
const LINK_TIMEOUT_MS = 5000;

/** Names of the attached devices that nothing hangs on. */
const leavesOf = ({ nameunit, state, children }: DeviceInfo): string[] =>
  children.length > 0
    ? children.flatMap(leavesOf)
    : nameunit !== null && (state === "attached" || state === "busy")
      ? [nameunit]
      : [];

/** Brings the card's interface up, if it has one, and waits for the link. */
const bringUp = ({ bus, newbus }: ProbedMachine): void => {
  const ifnet = leavesOf(newbus.tree())
    .map((name) => newbus.softc<{ readonly ifnet?: Ifnet }>(name)?.ifnet)
    .find((found) => found !== undefined);
  if (ifnet === undefined) return;
  ifnet.up();
  for (let ms = 0; ms < LINK_TIMEOUT_MS && ifnet.media().status !== "active"; ms++) bus.delay(1000);
};

/**
 * Plugs the card in and gives it its addresses, as firmware does.
 * @param driven whether its driver attaches, too, and brings its interface up; @throws UsageError
 */
export const cardOnBus = (
  { nic, card }: { readonly nic?: string | undefined; readonly card?: string | undefined },
  driven: boolean,
): CardOnBus => {
  if (nic !== undefined && card !== undefined) throw new UsageError("--nic and --card both name the card");
  const name = nic === undefined ? (card ?? "re") : nicName(nic);
  const slot = createCard(name, { mac: MAC });
  const machine = new Machine({ ram: RAM, strictness: "strict" });
  machine.plug(formatBdf(PLACE), slot);
  if (driven) bringUp(probeMachine(machine));
  else machine.assignResources();
  return { name, title: CARDS[name]!.title, place: formatBdf(PLACE), slot, bus: machine.guestBus() };
};

/** One of the card's windows, by the bus: what a program on that machine can reach. */
export class BarWindow {
  readonly kind: BarKind;
  /** port or address; −1 while the card does not answer */
  readonly base: number;
  readonly #bus: GuestBus;

  constructor({ slot, bus }: CardOnBus, index: number) {
    this.#bus = bus;
    this.kind = slot.bars.find((bar) => bar.index === index)?.kind ?? "io";
    this.base = slot.barBase(index);
  }

  /** `port c000h`, `memory 80000000h` */
  get where(): string {
    return `${this.kind === "io" ? "port" : "memory"} ${this.base.toString(16)}h`;
  }

  read(offset: number, width: AccessWidth): number {
    const at = this.base + offset;
    return this.kind === "io" ? this.#bus.ioRead(at, width) : this.#bus.memRead(at, width);
  }
  write(offset: number, width: AccessWidth, value: number): void {
    const at = this.base + offset;
    if (this.kind === "io") this.#bus.ioWrite(at, width, value);
    else this.#bus.memWrite(at, width, value);
  }
}

/** `0x0f` as data sheets print it: digits of the width, no prefix. */
export const digits = (value: number, width: number): string => value.toString(16).padStart(2 * width, "0");

/** `RE=1 MXDMA=7`: fields by name, in hexadecimal. @param all those that are 0, too */
export const fieldText = (fields: { readonly [name: string]: number }, all: boolean): string =>
  Object.entries(fields)
    .filter(([, value]) => all || value !== 0)
    .map(([name, value]) => `${name}=${value.toString(16)}`)
    .join(" ");
