/**
 * A machine out of slots: RAM, ports, host bridge, interrupt routing, work, clock; no CPU.
 *
 * Life: `new Machine({ ram, clock })` → `plug("00:03.0", card)` → `assignResources()` where no firmware runs → the
 * embedder's CPU calls `ioRead` … `memWrite` and `poll`, or a driver uses `guestBus()` → `save`/`load` at any access →
 * `reset()` → `unplug`.
 */
export * from "./address-space.js";
export * from "./bus.js";
export * from "./dma-memory.js";
export type { EcamRange } from "./ecam.js";
export * from "./guest-bus.js";
export { hostBridge } from "./host-bridge.js";
export * from "./interrupt-sink.js";
export * from "./intx.js";
export * from "./isa-bridge.js";
export * from "./machine.js";
export { MemoryController } from "./mch.js";
export type { PluggedFunction } from "./place.js";
export type { Ram } from "./ram.js";
export type { AssignedResource, ResourceOptions } from "./resources.js";
export type { BusSegment } from "./segment.js";
export { type DrivenClock, HostClock, VirtualClock } from "./virtual-clock.js";
export * from "./work.js";
