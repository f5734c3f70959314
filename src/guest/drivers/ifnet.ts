import { ETHER_ADDR_LEN, ETHER_HDR_LEN, formatMac } from "../../bytes/index.js";
import {
  BusError,
  type FrameSegments,
  IFF_ALLMULTI,
  IFF_BROADCAST,
  IFF_MULTICAST,
  IFF_PROMISC,
  IFF_RUNNING,
  IFF_SIMPLEX,
  IFF_UP,
  type IfCounters,
  type Ifnet,
  type Media,
  type TxOffload,
} from "../types.js";

export { ETHER_ADDR_LEN, ETHER_HDR_LEN, formatMac };

/** What Ethernet drivers share: ether_ifattach(9), the administrator's wishes, counters. Nothing about a chip. */

/** bytes */
export const ETHER_CRC_LEN = 4;
export const ETHER_VLAN_ENCAP_LEN = 4;
/** payload bytes without jumbo frames */
export const ETHERMTU = 1500;
/** the smallest payload that IPv4 may ask for, RFC 791 */
export const IF_MINMTU = 68;

/** Capability bits, net/if.h. */
export const IFCAP_RXCSUM = 0x1;
export const IFCAP_TXCSUM = 0x2;
export const IFCAP_VLAN_MTU = 0x8;
export const IFCAP_VLAN_HWTAGGING = 0x10;
export const IFCAP_JUMBO_MTU = 0x20;
export const IFCAP_VLAN_HWCSUM = 0x80;
export const IFCAP_TSO4 = 0x100;
export const IFCAP_TSO6 = 0x200;
export const IFCAP_LRO = 0x400;
export const IFCAP_WOL_UCAST = 0x800;
export const IFCAP_WOL_MCAST = 0x1000;
export const IFCAP_WOL_MAGIC = 0x2000;
export const IFCAP_LINKSTATE = 0x80000;
export const IFCAP_RXCSUM_IPV6 = 0x20_0000;
export const IFCAP_TXCSUM_IPV6 = 0x40_0000;
export const IFCAP_TXCSUM_ANY = IFCAP_TXCSUM | IFCAP_TXCSUM_IPV6;
export const IFCAP_RXCSUM_ANY = IFCAP_RXCSUM | IFCAP_RXCSUM_IPV6;
/** What an administrator may switch. */
const IFCAP_OFFLOADS =
  IFCAP_TXCSUM_ANY |
  IFCAP_RXCSUM_ANY |
  IFCAP_TSO4 |
  IFCAP_TSO6 |
  IFCAP_LRO |
  IFCAP_VLAN_HWTAGGING |
  IFCAP_WOL_UCAST |
  IFCAP_WOL_MCAST |
  IFCAP_WOL_MAGIC;
/** `vlan` of a frame without a tag for the card */
export const NO_VLAN = -1;

/** An empty reusable list of up to `capacity` pieces of DMA memory. */
export const frameSegments = (capacity: number): FrameSegments => ({
  count: 0,
  paddr: new Float64Array(capacity),
  len: new Uint32Array(capacity),
});

/** bytes of all pieces */
export const frameLength = (frame: FrameSegments): number => {
  let bytes = 0;
  for (let i = 0; i < frame.count; i++) bytes += frame.len[i]!;
  return bytes;
};

/** Counters of an interface; drivers count in place. */
export class Counters implements IfCounters {
  ipackets = 0;
  ibytes = 0;
  ierrors = 0;
  iqdrops = 0;
  opackets = 0;
  obytes = 0;
  oerrors = 0;
}

/**
 * CRC-32 of an address as multicast filters hash it: polynomial 04C11DB7, data bits least significant first, register most
 * significant bit first, no final inversion. ether_crc32_be of FreeBSD
 */
export const etherCrc32Be = (address: Uint8Array): number => {
  let crc = 0xffff_ffff;
  for (const byte of address)
    for (let bit = 0; bit < 8; bit++) {
      const carry = ((crc >>> 31) ^ (byte >>> bit)) & 1;
      crc = (crc << 1) ^ (carry !== 0 ? 0x04c1_1db7 : 0);
    }
  return crc >>> 0;
};

/**
 * The 64-bit hash table of a multicast filter as two words: the bit of a group is the top six of its CRC.
 * @param groups null: all groups
 */
export const multicastTable = (groups: readonly Uint8Array[] | null): readonly [low: number, high: number] => {
  if (groups === null) return [0xffff_ffff, 0xffff_ffff];
  let low = 0;
  let high = 0;
  for (const group of groups) {
    const index = etherCrc32Be(group) >>> 26;
    if (index < 32) low |= 1 << index;
    else high |= 1 << (index - 32);
  }
  return [low >>> 0, high >>> 0];
};

/**
 * The part of an Ethernet interface that no chip sees. A driver's class gives `start` and `stop`, the filter and the two hot
 * paths, and keeps `linkActive` true to the cable.
 */
export abstract class EthernetInterface implements Ifnet {
  readonly name: string;
  readonly stats = new Counters();
  onReceive: Ifnet["onReceive"] = null;
  onSent: Ifnet["onSent"] = null;
  onLink: Ifnet["onLink"] = null;
  flags = IFF_BROADCAST | IFF_SIMPLEX | IFF_MULTICAST;
  capenable = IFCAP_VLAN_MTU;
  /** what the card has and an administrator may switch, IFCAP_* bits */
  protected offloads = 0;
  /** groups that the administrator wants */
  protected groups: readonly Uint8Array[] = [];
  /** carrier, as far as the driver knows; frames go out only with it */
  protected linkActive = false;
  protected readonly mac = new Uint8Array(ETHER_ADDR_LEN);
  #mtu = ETHERMTU;

  constructor(name: string) {
    this.name = name;
  }

  /** payload bytes of the longest frame the card can carry; the default until `mtu` is set is 1500, or this if it is less */
  protected abstract readonly maxMtu: number;
  /** Initialises the hardware; afterwards it receives and sends. @throws DriverError */
  protected abstract start(): void;
  /** Silences the hardware; queued frames are given up and told by `onSent`. */
  protected abstract halt(): void;
  /** Brings the receive filter in line with the flags and `groups`. */
  protected abstract filter(): void;

  abstract media(): Media;
  abstract setMedia(selected: string): void;
  abstract transmit(frame: FrameSegments, offload?: TxOffload | null, vlan?: number, flow?: number): boolean;
  abstract kick(): void;

  /** The softc of an Ethernet driver is its interface; where a softc has more than one thing, this is the one. */
  get ifnet(): Ifnet {
    return this;
  }

  get lladdr(): Uint8Array {
    return this.mac.slice();
  }

  get capabilities(): number {
    return this.capenable | this.offloads;
  }

  setCapenable(bits: number): void {
    const has = this.capabilities;
    if ((bits & ~has) !== 0)
      throw new BusError(
        "EOPNOTSUPP",
        `${this.name}: cannot do 0x${(bits & ~has).toString(16)} of 0x${bits.toString(16)}`,
      );
    let wanted = bits & IFCAP_OFFLOADS;
    if ((wanted & IFCAP_TXCSUM) === 0) wanted &= ~IFCAP_TSO4;
    if ((wanted & IFCAP_TXCSUM_IPV6) === 0) wanted &= ~IFCAP_TSO6;
    if ((wanted & IFCAP_RXCSUM_ANY) === 0) wanted &= ~IFCAP_LRO;
    const before = this.capenable;
    this.capenable = (before & ~IFCAP_OFFLOADS) | wanted;
    if (this.capenable !== before) this.changeOffloads(before ^ this.capenable);
  }

  /** Brings the hardware in line with `capenable`. @param changed bits of it that are others now */
  protected changeOffloads(_changed: number): void {}

  get running(): boolean {
    return (this.flags & IFF_RUNNING) !== 0;
  }

  get mtu(): number {
    return Math.min(this.#mtu, this.maxMtu);
  }

  set mtu(bytes: number) {
    if (!Number.isInteger(bytes) || bytes < IF_MINMTU || bytes > this.maxMtu)
      throw new BusError("EINVAL", `${this.name}: mtu ${bytes} is not in ${IF_MINMTU} … ${this.maxMtu}`);
    this.#mtu = bytes;
    this.changeMtu();
  }

  /** Brings the hardware in line with `mtu`. */
  protected changeMtu(): void {}

  counters(): IfCounters {
    return { ...this.stats };
  }

  up(): void {
    this.flags |= IFF_UP;
    if (this.running) return;
    this.start();
  }

  down(): void {
    this.flags &= ~IFF_UP;
    this.halt();
  }

  setPromisc(on: boolean): void {
    this.#wish(IFF_PROMISC, on);
  }

  setAllmulti(on: boolean): void {
    this.#wish(IFF_ALLMULTI, on);
  }

  setMulticast(groups: readonly Uint8Array[]): void {
    for (const group of groups)
      if (group.length !== ETHER_ADDR_LEN || (group[0]! & 1) === 0)
        throw new BusError("EINVAL", `${this.name}: ${formatMac(group)} is no multicast address`);
    this.groups = groups.map((group) => group.slice());
    if (this.running) this.filter();
  }

  setLladdr(mac: Uint8Array): void {
    if (mac.length !== ETHER_ADDR_LEN || (mac[0]! & 1) !== 0)
      throw new BusError("EINVAL", `${this.name}: ${formatMac(mac)} is no station address`);
    this.changeLladdr(mac);
  }

  /** Takes a valid new station address: into `mac`, and to the hardware when it runs. */
  protected abstract changeLladdr(mac: Uint8Array): void;

  /** Notes the carrier and tells about a change. */
  protected setLink(active: boolean): void {
    if (active === this.linkActive) return;
    this.linkActive = active;
    this.onLink?.(active);
  }

  #wish(flag: number, on: boolean): void {
    this.flags = on ? this.flags | flag : this.flags & ~flag;
    if (this.running) this.filter();
  }
}
