/**
 * Back ends that need Node.
 *
 * Life of a disk: `new FileDisk(path, options)` → the backend of a `virtioBlk` card, which reads and writes it while the
 * machine runs → the card is unplugged → `[Symbol.dispose]()` closes the file.
 */
export { FileDisk, type FileDiskOptions } from "./file-disk.js";
