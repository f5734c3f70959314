import { rtl8169 } from "../../devices/rtl8169/index.js";
import { virtioBlk } from "../../devices/virtio-blk/index.js";
import { virtioNet } from "../../devices/virtio-net/index.js";
import type { Nic, Slot } from "../contract/index.js";
import { UsageError } from "./args.js";

/** What the command line can say about a card. */
export interface CardOptions {
  /** such as `52:54:00:12:34:56` */
  readonly mac?: string;
}

interface CardEntry {
  readonly title: string;
  create(options: CardOptions): Slot;
}

interface NicEntry extends CardEntry {
  create(options: CardOptions): Nic;
}

/** Network cards by the name of the driver that finds them; the lab moves bytes through these. */
export const NICS = {
  re: { title: "Realtek RTL8169SB", create: rtl8169 },
  vtnet: { title: "virtio-net, transitional", create: virtioNet },
} as const satisfies { readonly [name: string]: NicEntry };

/** Every card that `--card` knows. A new card is one line here. */
export const CARDS: { readonly [name: string]: CardEntry } = {
  ...NICS,
  vtblk: { title: "virtio-blk, transitional", create: () => virtioBlk() },
};

export type NicName = keyof typeof NICS;

/** @throws UsageError naming the cards there are */
export const nicName = (name: string): NicName => {
  if (!Object.hasOwn(NICS, name)) throw new UsageError(`no card "${name}"; there are ${Object.keys(NICS).join(", ")}`);
  return name as NicName;
};

/** @throws UsageError naming the cards there are */
export const createCard = (name: string, options: CardOptions): Slot => {
  const entry = Object.hasOwn(CARDS, name) ? CARDS[name] : undefined;
  if (entry === undefined) throw new UsageError(`no card "${name}"; there are ${Object.keys(CARDS).join(", ")}`);
  return entry.create(options);
};
