import { rtl8139, rtl8169 } from "../../../../../devices/rtl8169/index.js";
import { virtioNet } from "../../../../../devices/virtio-net/index.js";
import type { Nic } from "../../../../contract/index.js";
import { RTL8139_CHIPS } from "../../../../spec/rtl8139.js";
import { RTL8169_CHIPS } from "../../../../spec/rtl8169.js";
import type { CardConfig, WebConfig } from "./config.js";

const chipOf = <Chip extends string>(chips: { readonly [chip in Chip]: unknown }, name: string): Chip | undefined =>
  (Object.keys(chips) as Chip[]).find((chip) => chip.toLowerCase() === `rtl${name}`);

/** A card as the server names it. The registry of the command line would do the same, but it needs Node. */
export function makeNic({ name, mac }: CardConfig, mode: WebConfig["mode"]): Nic {
  if (name === "vtnet") return virtioNet({ mac, personality: mode });
  const old = chipOf(RTL8139_CHIPS, name);
  if (old !== undefined) return rtl8139({ mac, chip: old });
  return rtl8169({ mac, chip: chipOf(RTL8169_CHIPS, name) ?? "RTL8169SB" });
}
