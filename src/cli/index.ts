/**
 * The command line's parts that tests and scripts share: options, the registry of cards and the lab's stream.
 * The command itself is `main.ts`.
 */
export { parse, parseSize, UsageError } from "./args.js";
export { PcapFile } from "./lab/pcap-file.js";
export { ByteSink, ByteSource } from "./lab/source.js";
export { segmentSize } from "./lab/tcp.js";
export { MSS, transfer } from "./lab/transfer.js";
export type { Station } from "./lab/world.js";
export {
  CARDS,
  type CardOptions,
  createCard,
  NIC_NAMES_HELP,
  NICS,
  type NicName,
  nicName,
  SEED_NICS,
} from "./registry.js";
