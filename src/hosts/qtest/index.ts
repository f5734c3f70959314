/**
 * QEMU's qtest protocol, both ways: a QEMU as our far side, and our machine as somebody's QEMU.
 *
 * Life of a client: `startQemu({ devices, networks })`, or `connectQtest(address)` to one that runs → `link` makes requests,
 * `qmp` is the monitor, `network(id)` the other end of a cable → `new QtestBus(…)` is a `GuestBus` for drivers → `close()`.
 * Life of a server: `parseCommandLine(args)` → `startServer(config, cards, host)` → requests are answered until the far end leaves.
 */
export { QtestLink, type Said } from "./client.js";
export { QtestError, type QtestErrorCode } from "./client-error.js";
export { type QmpEvent, QmpLink } from "./client-qmp.js";
export { QtestBus, type QtestBusOptions } from "./guest-bus.js";
export { QtestDma } from "./guest-bus-dma.js";
export { functionsOf, type PirqRoutes, placeBars, routeInterrupts, SEABIOS_ROUTES } from "./guest-bus-firmware.js";
export { connectQtest, findQemu, Qemu, type QemuOptions, qemuVersion, sleep, startQemu } from "./qemu.js";
export type { NetworkKind, NetworkPeer } from "./qemu-network.js";
export * from "./server/index.js";
