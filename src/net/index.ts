/**
 * Net: what a network card is plugged into: cables, a switch, taps, faults.
 *
 * Life: `connect(card.net, other)` → frames go both ways, each through `offer`, with `later` and `ready` where the sender
 * can hold → in between by wrapping a port: `new Tap(port, writer, id)`, `new Faults(port, options)` → the other may be a
 * card, `new Switch(options).port(n)` or `new Loop()` → `save`/`load` where frames are held → dispose pulls the cable.
 */
export * from "./faults.js";
export * from "./finish.js";
export * from "./fragment.js";
export * from "./frame-ring.js";
export { LONGEST_HEADERS, MOST_SEGMENTS } from "./headers.js";
export * from "./loop.js";
export * from "./offload.js";
export * from "./pcapng.js";
export * from "./prng.js";
export * from "./responder.js";
export * from "./segment.js";
export * from "./switch.js";
export * from "./tap.js";
export * from "./wire.js";
export type { WireCounters } from "./wire-end.js";
