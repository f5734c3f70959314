/**
 * Formats: what lspci, pciconf, devinfo and ifconfig print, as pure functions of configuration bytes, device trees and
 * interfaces. Every text is made of whole lines, each with its line feed.
 */
export { type DevinfoOptions, devinfo } from "./devinfo.js";
export {
  type IfconfigInterface,
  type IfconfigOptions,
  type Inet6Address,
  type InetAddress,
  ifconfig,
  linkLocalAddress,
} from "./ifconfig.js";
export { type LspciOptions, lspci } from "./lspci.js";
export { type PciModalias, pciModalias, virtioModalias } from "./modalias.js";
export { readPciDump, writePciDump } from "./pci-dump.js";
export type { PciListing } from "./pci-function.js";
export { NO_NAMES, OWN_NAMES, type PciNames, readPciIds } from "./pci-names.js";
export { type PciconfListing, type PciconfOptions, pciconf } from "./pciconf.js";
