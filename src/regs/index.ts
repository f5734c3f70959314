/**
 * Registers: a block is declared once, as data, and compiled to byte images.
 *
 * Life: `defineRegisters(block, table)` once per chip → `new RegisterFile(map)` per device → `guestRead`/`guestWrite` for
 * the guest, `get`/`set` for the model → `lock`, `reset` → `image`/`restore` for snapshots → `decodeRegisters` for people.
 */
export * from "./decode.js";
export * from "./register-file.js";
export * from "./register-map.js";
