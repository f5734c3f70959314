import { NICS, type NicName, nicName, UsageError } from "../../../cli/index.js";
import type { Nic } from "../../../contract/index.js";
import { PCI_DEVICE_ID, PCI_REVISION_ID, PCI_VENDOR_ID, PCI_VENDOR_ID_REDHAT_QUMRANET } from "../../../spec/pci.js";

/** What a virtio card may be. */
export type Mode = "legacy" | "transitional" | "modern";
export const MODES: readonly Mode[] = ["legacy", "transitional", "modern"];

/** What `all` stands for. */
export const ALL_CARDS = ["re", "vtnet", "8139"] as const satisfies readonly NicName[];

/** Slots whose pin A is routed to interrupt 11, the quieter one of v86. */
const SLOTS = [15, 16, 19, 20] as const;
const RTL8139_CPLUS_REVISION = 0x20; // 8139too leaves these revisions to 8139cp

/** A card in its slot, what Linux is to make of it, and the addresses of both ends of its cable. */
export interface GuestCard {
  /** as on the command line */
  readonly name: string;
  readonly slot: number;
  readonly card: Nic;
  /** Linux's driver, as sysfs names it */
  readonly driver: "r8169" | "8139cp" | "8139too" | "virtio_net";
  readonly guestAddress: string;
  readonly peerAddress: string;
  readonly peerMac: string;
}

const driverOf = (card: Nic): GuestCard["driver"] => {
  if (card.configRead(PCI_VENDOR_ID, 2) === PCI_VENDOR_ID_REDHAT_QUMRANET) return "virtio_net";
  if (card.configRead(PCI_DEVICE_ID, 2) !== 0x8139) return "r8169";
  return card.configRead(PCI_REVISION_ID, 1) >= RTL8139_CPLUS_REVISION ? "8139cp" : "8139too";
};

const hex = (n: number): string => n.toString(16).padStart(2, "0");

/**
 * Cards by their names in the registry, in the slots and with the addresses that the scripts of this folder give them.
 * @param mtu what RealTek cards ask their far ends for; virtio-net takes what its guest has buffers for
 * @throws UsageError on unknown names, and on more cards than there are slots
 */
export function makeCards(names: readonly string[], mode: Mode = "transitional", mtu = 1500): GuestCard[] {
  if (names.length > SLOTS.length) throw new UsageError(`${names.length} cards: v86 has room for ${SLOTS.length}`);
  return names.map((name, i) => {
    const known = nicName(name);
    const mac = `52:54:00:12:34:${hex(0x56 + i)}`;
    const card = known === "vtnet" ? NICS.vtnet.create({ mac, personality: mode }) : NICS[known].create({ mac, mtu });
    return {
      name: known,
      slot: SLOTS[i]!,
      card,
      driver: driverOf(card),
      guestAddress: `10.0.${2 + i}.15`,
      peerAddress: `10.0.${2 + i}.2`,
      peerMac: `52:55:0a:00:${hex(2 + i)}:02`,
    };
  });
}

/** Names as `--card` takes them: `all`, or some with commas between. */
export const cardNames = (text: string): readonly string[] => (text === "all" ? ALL_CARDS : text.split(","));
