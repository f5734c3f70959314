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
      : [...mac];
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

/** Bytes that one step of the CRC takes; sixteen tables beat eight and four (2.6 times one byte at a time). */
const CRC_SLICES = 16;

/** Table k, from k·256 on, has the CRC of a byte followed by k zeros. */
const CRC_TABLE = new Int32Array(CRC_SLICES * 256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? 0xedb8_8320 ^ (c >>> 1) : c >>> 1;
  CRC_TABLE[n] = c;
}
for (let n = 256; n < CRC_TABLE.length; n++) {
  const shorter = CRC_TABLE[n - 256]!;
  CRC_TABLE[n] = CRC_TABLE[shorter & 0xff]! ^ (shorter >>> 8);
}

/**
 * The frame check sequence: CRC-32 as transmitted, least significant byte first. Unsigned. IEEE 802.3 §3.2.9
 * @param previous the result for the bytes in front of these, where a frame lies in pieces
 */
export const crc32 = (bytes: Uint8Array, start: number, length: number, previous = 0): number => {
  const end = start + length;
  let c = ~previous;
  let i = start;
  for (const last = end - CRC_SLICES; i <= last; i += CRC_SLICES) {
    c ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    c =
      CRC_TABLE[3840 + (c & 0xff)]! ^
      CRC_TABLE[3584 + ((c >>> 8) & 0xff)]! ^
      CRC_TABLE[3328 + ((c >>> 16) & 0xff)]! ^
      CRC_TABLE[3072 + (c >>> 24)]! ^
      CRC_TABLE[2816 + bytes[i + 4]!]! ^
      CRC_TABLE[2560 + bytes[i + 5]!]! ^
      CRC_TABLE[2304 + bytes[i + 6]!]! ^
      CRC_TABLE[2048 + bytes[i + 7]!]! ^
      CRC_TABLE[1792 + bytes[i + 8]!]! ^
      CRC_TABLE[1536 + bytes[i + 9]!]! ^
      CRC_TABLE[1280 + bytes[i + 10]!]! ^
      CRC_TABLE[1024 + bytes[i + 11]!]! ^
      CRC_TABLE[768 + bytes[i + 12]!]! ^
      CRC_TABLE[512 + bytes[i + 13]!]! ^
      CRC_TABLE[256 + bytes[i + 14]!]! ^
      CRC_TABLE[bytes[i + 15]!]!;
  }
  for (; i < end; i++) c = CRC_TABLE[(c ^ bytes[i]!) & 0xff]! ^ (c >>> 8);
  return ~c >>> 0;
};
