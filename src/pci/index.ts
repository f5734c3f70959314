/**
 * PCI functions: configuration space, BARs, capabilities, and the gates between a model and its host.
 *
 * Life: `definePciFunction(declaration)` or a class that extends `PciFunction` → `connect(seams)` by whoever plugs it →
 * `configRead`/`configWrite`, `barRead`/`barWrite`; `barBase` says where, `onBarsChanged` when → the model's DMA and
 * interrupts pass its gates → `save`/`load` at any access → `reset(kind)` → `disconnect`.
 */
export * from "./aer.js";
export * from "./bar.js";
export * from "./bridge.js";
export * from "./config-space.js";
export * from "./declaration.js";
export * from "./express.js";
export * from "./function.js";
export * from "./msi.js";
export * from "./msix.js";
export * from "./pm.js";
export * from "./ranges.js";
export * from "./region.js";
export * from "./root-port.js";
export * from "./shpc.js";
export * from "./vpd.js";
