import { formatMac } from "../../bytes/index.js";
import { IFF_BROADCAST, IFF_LOOPBACK, type Ifnet, type Media } from "../types.js";

/** An IPv4 address on an interface. */
export interface InetAddress {
  /** `10.0.2.15` */
  readonly address: string;
  /** 0 … 32 */
  readonly prefixLength: number;
}

/** An IPv6 address on an interface beside its link-local one. */
export interface Inet6Address {
  /** as it is printed, `::1` */
  readonly address: string;
  /** 0 … 128 */
  readonly prefixLength: number;
}

/** What ifconfig asks an interface; a driver's `Ifnet` answers it. A loopback has no address of a card and no medium. */
export interface IfconfigInterface extends Pick<Ifnet, "name" | "flags" | "mtu"> {
  readonly lladdr?: Uint8Array;
  /** IFCAP_* bits in use */
  readonly capenable?: number;
  media?(): Media;
}

export interface IfconfigOptions {
  readonly ifnet: IfconfigInterface;
  /** index of the interface, from 1: the scope of its link-local address */
  readonly index: number;
  readonly inet?: readonly InetAddress[];
  readonly inet6?: readonly Inet6Address[];
  /** the address that an interface gives itself, out of its MAC; default true where it has one. RFC 4291, appendix A */
  readonly linkLocal?: boolean;
  /** whose words and order: DragonFly's of 2011, which is the default, or FreeBSD's */
  readonly system?: "dragonfly" | "freebsd";
}

type Words = readonly (readonly [bit: number, name: string])[];

const FLAGS: Words = [
  [0x1, "UP"],
  [0x2, "BROADCAST"],
  [0x4, "DEBUG"],
  [0x8, "LOOPBACK"],
  [0x10, "POINTOPOINT"],
  [0x40, "RUNNING"],
  [0x80, "NOARP"],
  [0x100, "PROMISC"],
  [0x200, "ALLMULTI"],
  [0x400, "OACTIVE"],
  [0x800, "SIMPLEX"],
  [0x1000, "LINK0"],
  [0x2000, "LINK1"],
  [0x4000, "LINK2"],
  [0x8000, "MULTICAST"],
];
const FLAGS_FREEBSD: Words = [...FLAGS, [0x2_0000, "PPROMISC"], [0x4_0000, "MONITOR"], [0x8_0000, "STATICARP"]];
const FLAGS_DRAGONFLY: Words = [
  ...FLAGS.slice(0, 5),
  [0x20, "SMART"],
  ...FLAGS.slice(5),
  [0x2_0000, "PPROMISC"],
  [0x4_0000, "MONITOR"],
  [0x8_0000, "STATICARP"],
  [0x10_0000, "NPOLLING"],
  [0x20_0000, "IDIRECT"],
];

const CAPABILITIES: Words = [
  [0x1, "RXCSUM"],
  [0x2, "TXCSUM"],
  [0x4, "NETCONS"],
  [0x8, "VLAN_MTU"],
  [0x10, "VLAN_HWTAGGING"],
  [0x20, "JUMBO_MTU"],
  [0x40, "POLLING"],
  [0x80, "VLAN_HWCSUM"],
  [0x100, "TSO4"],
  [0x200, "TSO6"],
  [0x400, "LRO"],
  [0x800, "WOL_UCAST"],
  [0x1000, "WOL_MCAST"],
  [0x2000, "WOL_MAGIC"],
  [0x4000, "TOE4"],
  [0x8000, "TOE6"],
  [0x1_0000, "VLAN_HWFILTER"],
  [0x4_0000, "VLAN_HWTSO"],
  [0x8_0000, "LINKSTATE"],
  [0x10_0000, "NETMAP"],
  [0x20_0000, "RXCSUM_IPV6"],
  [0x40_0000, "TXCSUM_IPV6"],
];
/** DragonFly's bits have other meanings in two places. */
const CAPABILITIES_DRAGONFLY: Words = CAPABILITIES.map(([bit, name]) => {
  if (bit === 0x40) return [bit, "RSS"];
  return bit === 0x100 ? [bit, "TSO"] : [bit, name];
});

/** `8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST>` */
const bitsOf = (value: number, words: Words): string =>
  `${value.toString(16)}<${words
    .filter(([bit]) => (value & bit) !== 0)
    .map(([, name]) => name)
    .join(",")}>`;

/** Prints an interface as ifconfig(8) does; each line ends with a line feed. */
export const ifconfig = (options: IfconfigOptions): string => {
  const { ifnet, system = "dragonfly" } = options;
  const isFreebsd = system === "freebsd";
  const { capenable = 0 } = ifnet;
  const flags = bitsOf(ifnet.flags, isFreebsd ? FLAGS_FREEBSD : FLAGS_DRAGONFLY);
  const capabilities = bitsOf(capenable, isFreebsd ? CAPABILITIES : CAPABILITIES_DRAGONFLY);
  const lines = [`${ifnet.name}: flags=${flags}${isFreebsd ? " metric 0" : ""} mtu ${ifnet.mtu}`];
  if (capenable !== 0) lines.push(`options=${capabilities}`);
  const ether = ifnet.lladdr === undefined ? [] : [`ether ${formatMac(ifnet.lladdr)}`];
  const inet = (options.inet ?? []).map((address) => inetLine(address, ifnet.flags));
  const inet6 = inet6Lines(options);
  // Addresses come in the order in which they were added: a card makes its own when it comes up, a loopback is given its
  // IPv4 address first. FreeBSD of later years prints the card's address before them.
  const isLoopback = (ifnet.flags & IFF_LOOPBACK) !== 0;
  if (isFreebsd) lines.push(...ether, ...inet, ...inet6);
  else if (isLoopback) lines.push(...inet, ...inet6, ...ether);
  else lines.push(...inet6, ...inet, ...ether);
  const media = ifnet.media?.();
  if (media !== undefined) {
    lines.push(mediaLine(media));
    if (media.valid) lines.push(`status: ${media.status}`);
  }
  return `${lines.join("\n\t")}\n`;
};

const inetLine = ({ address, prefixLength }: InetAddress, flags: number): string => {
  const ip = address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
  const mask = (2 ** 32 - 2 ** (32 - prefixLength)) >>> 0;
  const broadcast = (ip | ~mask) >>> 0;
  const dotted = [24, 16, 8, 0].map((shift) => (broadcast >>> shift) & 0xff).join(".");
  const suffix = (flags & IFF_BROADCAST) !== 0 ? ` broadcast ${dotted}` : "";
  return `inet ${address} netmask 0x${mask.toString(16).padStart(8, "0")}${suffix}`;
};

const inet6Lines = ({ ifnet, index, inet6 = [], linkLocal }: IfconfigOptions): string[] => {
  const lines = inet6.map(({ address, prefixLength }) => `inet6 ${address} prefixlen ${prefixLength}`);
  const scope = `prefixlen 64 scopeid 0x${index.toString(16)}`;
  if (linkLocal === false) return lines;
  if (ifnet.lladdr !== undefined) lines.unshift(`inet6 ${linkLocalAddress(ifnet.lladdr)}%${ifnet.name} ${scope}`);
  else if (linkLocal === true) lines.push(`inet6 fe80::1%${ifnet.name} ${scope}`); // a loopback has no MAC to make it of
  return lines;
};

/** `fe80::5054:ff:fe12:3456`: fe80::/64 and the modified EUI-64 of a MAC. RFC 4291 §2.5.6, appendix A */
export const linkLocalAddress = (mac: Uint8Array): string => {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac;
  return formatInet6([0xfe80, 0, 0, 0, ((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f]);
};

/** Eight groups with the longest run of two or more zeros cut out, the first of equals. RFC 5952 §4.2 */
const formatInet6 = (groups: readonly number[]): string => {
  let [best, length] = [-1, 1];
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (groups[end] === 0) end++;
    if (end - start > length) [best, length] = [start, end - start];
  }
  const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
  return best < 0 ? text(groups) : `${text(groups.slice(0, best))}::${text(groups.slice(best + length))}`;
};

/** What was chosen, and in parentheses what is in use where that differs. */
const mediaLine = ({ selected, active, options }: Media): string => {
  const suffix = options.length === 0 ? "" : ` <${options.join(",")}>`;
  if (active === null) return `media: Ethernet ${selected}`;
  return active === selected
    ? `media: Ethernet ${selected}${suffix}`
    : `media: Ethernet ${selected} (${active}${suffix})`;
};
