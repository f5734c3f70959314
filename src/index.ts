/**
 * barwire: an embeddable PCI bus, device side.
 *
 * Life: `new Machine({ ram })` (or a host of your own: `barwire/v86`) → `machine.plug("00:03.0", card)` with a card of
 * `barwire/devices/*` → accesses, `poll`, frames → `machine.save()`. Drivers and their probe interface: `barwire/guest`.
 */
export * from "./bytes/index.js";
export type * from "./contract/index.js";
export * from "./machine/index.js";
export * from "./net/index.js";
export * from "./pci/index.js";
export * from "./regs/index.js";
export * from "./spec/i440fx.js";
export * from "./spec/pci.js";
export * from "./spec/pci-express.js";
export * from "./virtio/index.js";
