import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { basename } from "node:path";
import { ConfigError } from "../../bytes/index.js";

const SECTOR = 512;
/** characters that a virtio disk has for its id */
const ID_LENGTH = 20;
/** bytes of zeros that are written at once */
const ZEROS = 0x1_0000;

export interface FileDiskOptions {
  /** default true */
  readonly readOnly?: boolean;
  /** default: the file's name, as far as it is ASCII, up to 20 characters */
  readonly id?: string;
}

/**
 * A disk image in a file, raw: the backend of a virtio-blk card. Synchronous, as the card wants it; each call is one of
 * `pread`, `pwrite` or `fsync`. A file that ends within a sector reads zeros up to that sector's end, and grows when it is
 * written there. It never throws once it is open: what fails is false, and an I/O error for the guest.
 */
export class FileDisk implements Disposable {
  readonly path: string;
  /** bytes of the disk: those of the file, rounded up to sectors of 512 */
  readonly size: number;
  /** bytes of the file when it was opened */
  readonly fileSize: number;
  readonly readOnly: boolean;
  readonly id: string;
  readonly #fd: number;
  #length: number; // bytes of the file now
  #open = true;
  #zeros: Uint8Array | null = null;

  /** Opens the file. @throws ConfigError `file-disk`: there is none, it cannot be opened so, or it is no regular file */
  constructor(path: string, options: FileDiskOptions = {}) {
    const { readOnly = true } = options;
    this.path = path;
    this.readOnly = readOnly;
    this.id =
      options.id ??
      basename(path)
        .replace(/[^!-~]/g, "")
        .slice(0, ID_LENGTH);
    try {
      // Without waiting for who would write to a pipe; it means nothing to files, and Windows does not have it.
      this.#fd = openSync(path, (readOnly ? constants.O_RDONLY : constants.O_RDWR) | (constants.O_NONBLOCK ?? 0));
    } catch (error) {
      throw new ConfigError("file-disk", `disk "${path}": ${messageOf(error)}`, { cause: error });
    }
    const stat = fstatSync(this.#fd);
    if (!stat.isFile()) {
      closeSync(this.#fd);
      throw new ConfigError("file-disk", `disk "${path}": not a regular file`);
    }
    this.fileSize = this.#length = stat.size;
    this.size = Math.ceil(stat.size / SECTOR) * SECTOR;
  }

  read(offset: number, target: Uint8Array, start: number, length: number): boolean {
    const inFile = Math.min(length, Math.max(0, this.#length - offset));
    try {
      for (let done = 0; done < inFile; ) {
        const n = readSync(this.#fd, target, start + done, inFile - done, offset + done);
        if (n === 0) return false; // somebody cut the file short
        done += n;
      }
    } catch {
      return false;
    }
    if (inFile < length) target.fill(0, start + inFile, start + length);
    return true;
  }

  write(offset: number, source: Uint8Array, start: number, length: number): boolean {
    try {
      for (let done = 0; done < length; )
        done += writeSync(this.#fd, source, start + done, length - done, offset + done);
    } catch {
      return false;
    }
    this.#length = Math.max(this.#length, offset + length);
    return true;
  }

  flush(): boolean {
    if (this.readOnly) return true;
    try {
      fsyncSync(this.#fd);
      return true;
    } catch {
      return false;
    }
  }

  /** Writes zeros: Node has no call that would give the room back. */
  writeZeroes(offset: number, length: number): boolean {
    this.#zeros ??= new Uint8Array(ZEROS);
    for (let done = 0; done < length; done += ZEROS)
      if (!this.write(offset + done, this.#zeros, 0, Math.min(ZEROS, length - done))) return false;
    return true;
  }

  /** Closes the file; idempotent. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
