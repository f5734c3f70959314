/**
 * Conversations with a real QEMU: `startQemu(options)` → `new RecordingGuest(qemu, networks)` → `begin` → accesses, each of
 * which becomes a line of `events` → `begin` again for another conversation with the same QEMU, or `qemu.close()`.
 */
export type { RecordedEvent } from "./event.js";
export { RecordingGuest } from "./guest.js";
export { type DriverRing, PackedRing, type Piece, SplitRing, type Used, type Wish } from "./rings.js";
export { type RecordScenario, SCENARIOS } from "./scenarios.js";
export { type Negotiation, PLACES, VirtioGuest } from "./virtio.js";
