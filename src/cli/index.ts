/**
 * The command line's parts that tests and scripts share: the registry of cards and the lab's stream.
 * The command itself is `main.ts`.
 */
export { ByteSink, ByteSource } from "./lab/source.js";
export { segmentSize } from "./lab/tcp.js";
export { MSS, transfer } from "./lab/transfer.js";
export type { Station } from "./lab/world.js";
export { CARDS, type CardOptions, createCard, NICS, type NicName, SEED_NICS } from "./registry.js";
