/**
 * A stand-in for QEMU: any program that speaks qtest judges our machine.
 *
 * Life: `parseCommandLine(args)` → `startServer(config, cards, host)`: the machine is built, its sockets are connected →
 * requests of qtest and QMP are answered, frames go to and fro → the far end leaves, or says `quit`: the process ends.
 */
export type { BlockCard, NetCard, PlainCard, ServerCard, ServerCards } from "./cards.js";
export { parseCommandLine, type ServerConfig } from "./command-line.js";
export type { Disk } from "./drives.js";
export { Properties } from "./properties.js";
export { type ServerHost, startServer } from "./server.js";
export { StartupError } from "./startup-error.js";
export { VirtualMachine } from "./vm.js";
