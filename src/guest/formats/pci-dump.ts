import { ConfigError } from "../../bytes/index.js";
import { PCI_CONFIG_SIZE, pciBdf } from "../../spec/pci.js";
import { hexDump } from "./lspci.js";
import { type PciListing, slotName } from "./pci-function.js";

/**
 * Reads what `lspci -x`, `-xxx` or `writePciDump` wrote: a line with the slot, then lines of bytes.
 * @throws ConfigError `pci-dump` naming the line
 */
export const readPciDump = (text: string): PciListing[] => {
  const listings: { bdf: number; domain: number; config: number[] }[] = [];
  for (const [i, line] of text.split("\n").entries()) {
    const fail = (why: string): ConfigError => new ConfigError("pci-dump", `line ${i + 1}: ${why}: ${line.trim()}`);
    const slot = /^(?:([0-9a-f]{4,}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])(?:\s|$)/i.exec(line);
    if (slot !== null) {
      const [domain, bus, device, fn] = slot.slice(1).map((part) => Number.parseInt(part ?? "0", 16));
      listings.push({ bdf: pciBdf(bus!, device!, fn!), domain: domain!, config: [] });
      continue;
    }
    const bytes = /^([0-9a-f]{2,3}):((?: [0-9a-f]{2})+)\s*$/i.exec(line);
    if (bytes === null) continue;
    const last = listings.at(-1);
    if (last === undefined) throw fail("bytes of no function");
    const at = Number.parseInt(bytes[1]!, 16);
    if (at !== last.config.length) throw fail(`expected the bytes from ${last.config.length.toString(16)}`);
    for (const byte of bytes[2]!.trim().split(" ")) last.config.push(Number.parseInt(byte, 16));
  }
  return listings.map(({ bdf, domain, config }) => {
    if (config.length < 64) throw new ConfigError("pci-dump", `${config.length} bytes of a function: expected 64`);
    return { bdf, domain, config: Uint8Array.from(config.slice(0, PCI_CONFIG_SIZE)) };
  });
};

/** Writes functions so that `lspci -F` reads them. */
export const writePciDump = (listings: readonly PciListing[]): string =>
  listings
    .map((listing) => {
      const withDomain = (listing.domain ?? 0) !== 0;
      return `${slotName(listing, withDomain)} -\n${hexDump(listing.config, PCI_CONFIG_SIZE).join("\n")}\n\n`;
    })
    .join("");
