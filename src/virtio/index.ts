/**
 * Virtio, the device's side: rings, features, status and the PCI transport; nothing about any device type.
 *
 * Life: a device type implements `VirtioDevice` → `new VirtioPciFunction(device, options)` around it → `connect`
 * → the driver negotiates and sets DRIVER_OK → notifications reach `runQueue`, which takes chains, pushes used ones and
 * closes the batch with `usedBuffers` → `reset` and again → `disconnect`.
 */
export * from "./descriptor-chain.js";
export * from "./device.js";
export * from "./features.js";
export * from "./packed-queue.js";
export { VirtioPciFunction, type VirtioPciOptions } from "./pci-transport.js";
export * from "./split-queue.js";
export * from "./virtqueue.js";
