/**
 * The guest's side: a public probe interface, bus resources, DMA memory, scatter/gather lists, and drivers.
 *
 * Life: `new Newbus(bus)` on any `GuestBus` → `register(driver)` → `scan()`: each child is probed, the best bid attaches →
 * the driver's interface moves frames, `poll()` delivers interrupts → `rescan()` after hot-plug → `shutdown()`, or
 * `detach` gives everything back.
 */
export { type Bouncing, tighten, UNCONSTRAINED } from "./bus-dma.js";
export * from "./dmesg.js";
export * from "./drivers/index.js";
export * from "./formats/index.js";
export { Newbus, type NewbusOptions } from "./newbus.js";
export { ROOT, type RootChild } from "./pci-bus.js";
export { PCI } from "./pci-class.js";
export { PCIB, type PcibChild } from "./pci-host.js";
export * from "./rman.js";
export { Sglist } from "./sglist.js";
export * from "./types.js";
