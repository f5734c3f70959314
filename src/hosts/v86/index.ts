/**
 * Cards for the emulator v86 (npm package `v86`), on slots and Work: no `Machine` in between.
 *
 * Life: `new V86({ …, autostart: false })` → event `emulator-loaded` → `attachV86(emulator, { cards })`, `connect(card.net,
 * v86Network(emulator))` → `emulator.run()` → guest accesses, poll points and frames reach the cards; `save_state` and
 * `restore_state` take them along; `plug`, `unplug` at any time → `detach()`, which puts v86's handlers back.
 */
export { attachV86, type V86Attachment, type V86Card, type V86Counters, type V86Options } from "./attach.js";
export { V86Network, type V86NetworkCounters, type V86NetworkOptions, v86Network } from "./network.js";
export type { V86CardCounters } from "./place.js";
export { V86_RELEASE, type V86Emulator } from "./v86.js";
