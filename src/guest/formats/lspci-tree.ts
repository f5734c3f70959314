import {
  PCI_HEADER_TYPE_BRIDGE,
  PCI_HEADER_TYPE_CARDBUS,
  PCI_SECONDARY_BUS,
  PCI_SUBORDINATE_BUS,
  pciBus,
  pciDevice,
  pciFunction,
} from "../../spec/pci.js";
import { ConfigBytesReader, hex2, hex4, type PciListing } from "./pci-function.js";

interface Bus {
  readonly domain: number;
  readonly number: number;
  readonly devices: PciListing[];
}

interface Bridge {
  readonly domain: number;
  readonly secondary: number;
  readonly subordinate: number;
  /** the secondary bus, and buses of its range that no other bridge leads to */
  readonly buses: Bus[];
}

const bridgeOf = (listing: PciListing): Bridge | null => {
  const config = new ConfigBytesReader(listing.config);
  const { headerType } = config;
  const hasBuses = headerType === PCI_HEADER_TYPE_BRIDGE || headerType === PCI_HEADER_TYPE_CARDBUS;
  if (!hasBuses || config.class >>> 8 !== 0x06) return null;
  const secondary = config.byte(PCI_SECONDARY_BUS);
  const subordinate = config.byte(PCI_SUBORDINATE_BUS);
  const { domain = 0 } = listing;
  return { domain, secondary, subordinate, buses: [{ domain, number: secondary, devices: [] }] };
};

/** Puts each function on its bus: the host's own, or that of the last bridge whose range holds it, which is the innermost. */
const grow = (listings: readonly PciListing[]): { host: Bridge; bridges: Map<PciListing, Bridge> } => {
  const host: Bridge = { domain: 0, secondary: 0, subordinate: 0xff, buses: [{ domain: 0, number: 0, devices: [] }] };
  const bridges = new Map<PciListing, Bridge>();
  for (const listing of listings) {
    const bridge = bridgeOf(listing);
    if (bridge !== null) bridges.set(listing, bridge);
  }
  const innermostFirst = [...bridges.values()].reverse();
  for (const listing of listings) {
    const { domain = 0 } = listing;
    const number = pciBus(listing.bdf);
    const isIts = (bus: Bus): boolean => bus.domain === domain && bus.number === number;
    let owner = host;
    if (!host.buses.some(isIts))
      owner =
        innermostFirst.find((b) => b.domain === domain && b.secondary <= number && number <= b.subordinate) ?? host;
    let bus = owner.buses.find(isIts);
    if (bus === undefined) {
      bus = { domain, number, devices: [] };
      owner.buses.push(bus);
    }
    bus.devices.push(listing);
  }
  return { host, bridges };
};

/** What stands to the left of the lines that follow: bars below branches that go on, and blanks. */
const margin = (line: string): string => line.replace(/[+|]/g, "|").replace(/[^|]/g, " ");

/** The picture of `lspci -t`. @param describe what follows a function that is no bridge, or "" */
export const pciTree = (listings: readonly PciListing[], describe: (listing: PciListing) => string): string => {
  const { host, bridges } = grow(listings);
  const lines: string[] = [];
  const busLabel = ({ domain, number }: Bus): string => `[${hex4(domain)}:${hex2(number)}]-`;

  const showBuses = (bridge: Bridge, line: string): void => {
    const { buses } = bridge;
    if (buses.length === 1) showBus(buses[0]!, bridge === host ? line + busLabel(buses[0]!) : line);
    else
      for (const [i, bus] of buses.entries())
        showBus(bus, `${i === 0 ? line : margin(line)}${i === buses.length - 1 ? "\\-" : "+-"}${busLabel(bus)}`);
  };
  const showBus = ({ devices }: Bus, line: string): void => {
    if (devices.length === 0) lines.push(line);
    else if (devices.length === 1) showDevice(devices[0]!, `${line}--`);
    else
      for (const [i, device] of devices.entries())
        showDevice(device, `${i === 0 ? line : margin(line)}${i === devices.length - 1 ? "\\-" : "+-"}`);
  };
  const showDevice = (device: PciListing, line: string): void => {
    const name = `${line}${hex2(pciDevice(device.bdf))}.${pciFunction(device.bdf)}`;
    const bridge = bridges.get(device);
    if (bridge === undefined) lines.push(name + describe(device));
    else showBuses(bridge, `${name}${rangeOf(bridge)}-`);
  };
  showBuses(host, "-");
  return lines.map((line) => `${line}\n`).join("");
};

/** The buses behind a bridge; one that was never configured has none. */
const rangeOf = ({ secondary, subordinate }: Bridge): string => {
  if (secondary === 0) return "-";
  return secondary === subordinate ? `-[${hex2(secondary)}]-` : `-[${hex2(secondary)}-${hex2(subordinate)}]-`;
};
