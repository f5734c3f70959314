/**
 * The guest's side: a public probe interface, bus resources, DMA memory, scatter/gather lists, and drivers.
 *
 * Life: `new Newbus(bus)` on any `GuestBus` → `register(driver)` → `scan()`: each child is probed, the best bid attaches →
 * the driver's interface moves frames, `poll()` delivers interrupts → `shutdown()`, or detach gives everything back.
 */
export * from "./types.js";
