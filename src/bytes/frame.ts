import { ConfigError } from "./errors.js";

/** bytes */
export const ETHER_ADDR_LEN = 6;
export const ETHER_HDR_LEN = 14;
/** Shortest frame without FCS. IEEE 802.3 §4.4.2 */
export const ETHER_MIN_LEN = 60;
/** Longest frame without FCS and tag. */
export const ETHER_MAX_LEN = 1514;
export const ETHERTYPE_IP = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_VLAN = 0x8100;
export const ETHERTYPE_IPV6 = 0x86dd;

/** Six bytes out of `52:54:00:03:99:00`, or a copy of six bytes. @throws ConfigError `mac-address` */
export const parseMac = (mac: string | Uint8Array): Uint8Array => {
  const bytes =
    typeof mac === "string"
      ? mac.split(/[:-]/).map((b) => (/^[0-9a-f]{1,2}$/i.test(b) ? Number.parseInt(b, 16) : -1))
      : Array.from(mac ?? []);
  if (bytes.length !== ETHER_ADDR_LEN || bytes.some((b) => b < 0))
    throw new ConfigError("mac-address", `MAC address ${String(mac)}: expected six bytes such as 52:54:00:12:34:56`);
  if ((bytes[0]! & 1) !== 0) throw new ConfigError("mac-address", `MAC address ${String(mac)} is a group address`);
  return Uint8Array.from(bytes);
};

/** `52:54:00:03:99:00` */
export const formatMac = (mac: ArrayLike<number>, start = 0): string =>
  Array.from({ length: ETHER_ADDR_LEN }, (_, i) => mac[start + i]!.toString(16).padStart(2, "0")).join(":");

/** Whether the destination is a group address (multicast or broadcast). */
export const isMulticast = (bytes: Uint8Array, start: number): boolean => (bytes[start]! & 1) !== 0;

export const isBroadcast = (bytes: Uint8Array, start: number): boolean =>
  (bytes[start]! &
    bytes[start + 1]! &
    bytes[start + 2]! &
    bytes[start + 3]! &
    bytes[start + 4]! &
    bytes[start + 5]!) ===
  0xff;

/** Whether the six bytes at `start` are `mac`. */
export const sameMac = (bytes: Uint8Array, start: number, mac: Uint8Array, macStart = 0): boolean => {
  for (let i = 0; i < ETHER_ADDR_LEN; i++) if (bytes[start + i] !== mac[macStart + i]) return false;
  return true;
};

/** EtherType or length of an untagged frame. */
export const etherType = (bytes: Uint8Array, start: number): number => (bytes[start + 12]! << 8) | bytes[start + 13]!;
