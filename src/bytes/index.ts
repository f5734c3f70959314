/**
 * Bytes: guest memory in windows, a function's door into it, frames, the Internet checksum, errors and saved states.
 *
 * Life: `new WindowedMemory(windows)` → `new Door(onRefused)` per function → `door.connect(memory)`, `door.setOpen(true)`
 * → `locate`/`read`/`write`, `wrote`, and `flush` at the end of a batch → `memory.replace(windows)` when RAM moved.
 */
export * from "./checksum.js";
export * from "./copy.js";
export * from "./crc32.js";
export * from "./dma-door.js";
export * from "./errors.js";
export * from "./frame.js";
export * from "./guest-memory.js";
export * from "./state.js";
