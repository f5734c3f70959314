import { rtl8139, rtl8169 } from "../../devices/rtl8169/index.js";
import { virtioBlk } from "../../devices/virtio-blk/index.js";
import { virtioMouse } from "../../devices/virtio-input/index.js";
import { virtioNet } from "../../devices/virtio-net/index.js";
import type { Nic, Slot } from "../contract/index.js";
import { pciBridge } from "../pci/index.js";
import { RTL8139_CHIPS } from "../spec/rtl8139.js";
import { RTL8169_CHIPS } from "../spec/rtl8169.js";
import { UsageError } from "./args.js";

/** What the command line can say about a card. */
export interface CardOptions {
  /** such as `52:54:00:12:34:56` */
  readonly mac?: string;
  /** payload of the longest frame that a network card gets, bytes */
  readonly mtu?: number;
}

interface CardEntry {
  readonly title: string;
  create(options: CardOptions): Slot;
}

interface NicEntry extends CardEntry {
  /** name of the guest driver that finds it */
  readonly driver: "re" | "rl" | "vtnet";
  create(options: CardOptions): Nic;
}

/** A chip's name on the command line: as it is printed on the chip, without RTL and in small letters. */
type PartNumber<Key extends string> = Key extends `RTL${infer Number}` ? Lowercase<Number> : never;
type RealtekChip = PartNumber<keyof typeof RTL8169_CHIPS | keyof typeof RTL8139_CHIPS>;

const partNumber = (key: string): string => key.slice("RTL".length).toLowerCase();
const REALTEK_NAMES = [...Object.keys(RTL8169_CHIPS), ...Object.keys(RTL8139_CHIPS)].map(partNumber);
const keysOf = <Key extends string>(chips: { readonly [key in Key]: unknown }): Key[] => Object.keys(chips) as Key[];

const realtek = Object.fromEntries([
  ...keysOf(RTL8169_CHIPS).map((chip): [string, NicEntry] => [
    partNumber(chip),
    { title: `Realtek ${chip}`, driver: "re", create: (options) => rtl8169({ ...options, chip }) },
  ]),
  ...keysOf(RTL8139_CHIPS).map((chip): [string, NicEntry] => [
    partNumber(chip),
    {
      title: `Realtek ${chip}`,
      driver: RTL8139_CHIPS[chip].cplus ? "re" : "rl",
      create: (options) => rtl8139({ ...options, chip }),
    },
  ]),
]) as { readonly [name in RealtekChip]: NicEntry };

const seed = {
  re: { title: "Realtek RTL8169SB", driver: "re", create: rtl8169 },
  vtnet: { title: "virtio-net, transitional", driver: "vtnet", create: virtioNet },
} as const satisfies { readonly [name: string]: NicEntry };

/** Network cards: the seed's two by the names of their drivers, and every Realtek chip by its part number. */
export const NICS = { ...seed, ...realtek };

/** The cards of the machine of 2011, which are there unless the command line says otherwise. */
export const SEED_NICS = ["re", "vtnet"] as const satisfies readonly (keyof typeof seed)[];

/** Every card that `--card` knows. A new card is one line here. */
export const CARDS: { readonly [name: string]: CardEntry } = {
  ...NICS,
  vtblk: { title: "virtio-blk, transitional", create: () => virtioBlk() },
  vtmouse: { title: "virtio-input, a mouse", create: () => virtioMouse() },
  bridge: { title: "PCI-to-PCI bridge", create: () => pciBridge() },
};

export type NicName = keyof typeof NICS;

/** @throws UsageError naming the cards there are */
export const nicName = (name: string): NicName => {
  if (!Object.hasOwn(NICS, name)) throw new UsageError(`no card "${name}"; there are ${NIC_NAMES.join(", ")}`);
  return name as NicName;
};

// Object.keys would have numbers first.
const NIC_NAMES = [...SEED_NICS, ...REALTEK_NAMES];

/** What help texts say about the names. */
export const NIC_NAMES_HELP = `${SEED_NICS.join(", ")}, or a Realtek chip: ${REALTEK_NAMES.join(", ")}`;

/** @throws UsageError naming the cards there are */
export const createCard = (name: string, options: CardOptions): Slot => {
  const entry = Object.hasOwn(CARDS, name) ? CARDS[name] : undefined;
  if (entry === undefined)
    throw new UsageError(`no card "${name}"; there are ${[...NIC_NAMES, "vtblk", "vtmouse", "bridge"].join(", ")}`);
  return entry.create(options);
};
