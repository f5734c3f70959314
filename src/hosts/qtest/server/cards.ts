import type { Nic, Slot } from "../../../contract/index.js";
import type { Disk } from "./drives.js";
import type { Properties } from "./properties.js";

/** A network card under a name of QEMU's. */
export interface NetCard {
  readonly kind: "net";
  readonly title: string;
  /** QEMU's type above it */
  readonly parent: string;
  /**
   * @param properties those that are the card's own; what it leaves there is refused
   * @param mac where none is given; @param queues pairs that its netdev has
   * @throws StartupError, ConfigError
   */
  create(properties: Properties, mac: string, queues: number): Nic & { announce?(): boolean };
}

/** A disk under a name of QEMU's. */
export interface BlockCard {
  readonly kind: "block";
  readonly title: string;
  readonly parent: string;
  create(properties: Properties, disk: Disk): Slot & { resized(): void };
}

/** What can be moved and clicked; a report goes out with `sync`. The methods are the card's. */
export interface Pointer {
  move(dx: number, dy: number): boolean;
  wheel(clicks: number): boolean;
  button(name: PointerButton, down: boolean): boolean;
  sync(): boolean;
}

export const POINTER_BUTTONS = ["left", "right", "middle", "side", "extra"] as const;
export type PointerButton = (typeof POINTER_BUTTONS)[number];

/** Any other card. */
export interface PlainCard {
  readonly kind: "plain";
  readonly title: string;
  readonly parent: string;
  create(properties: Properties): Slot & Partial<Pointer>;
}

export type ServerCard = NetCard | BlockCard | PlainCard;

/** By QEMU's name of the device; the command brings them. */
export type ServerCards = { readonly [driver: string]: ServerCard };
