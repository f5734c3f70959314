/**
 * Cards for the emulator v86 (npm package `v86`), on slots and Work: no `Machine` in between.
 *
 * Life: `new V86({ …, autostart: false })` → event `emulator-loaded` → `attachV86(emulator, { cards })` → `emulator.run()`
 * → guest accesses, poll points and frames reach the cards → `detach()`, which puts v86's handlers back.
 */
export { attachV86, type V86Attachment, type V86Card, type V86Options } from "./attach.js";
export { V86_RELEASE, type V86Emulator } from "./v86.js";
