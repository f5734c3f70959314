import { ConfigError, copyBytes, hex } from "../../src/bytes/index.js";

/**
 * What holds a disk's bytes. Synchronous: a method returns when the bytes are there, and never throws; false is an error of
 * the medium, which the driver sees as VIRTIO_BLK_S_IOERR. Ranges lie within `size`. Two cards must not share one that is
 * written. Not part of the card's state: whoever saves a machine keeps the disk's bytes, too.
 */
export interface BlockBackend {
  /** bytes; a multiple of the card's block size. It changes between requests only, and then the card's `resized` is called */
  readonly size: number;
  /** refuses to be written; the card then offers VIRTIO_BLK_F_RO */
  readonly readOnly: boolean;
  /** what the card answers when asked who it is; printable ASCII, up to 20 characters */
  readonly id: string;
  /** Reads `length` bytes of the disk into `target`, which may be the whole of guest RAM. */
  read(offset: number, target: Uint8Array, start: number, length: number): boolean;
  /** Writes `length` bytes of `source`, which may be the whole of guest RAM and is the caller's again afterwards. */
  write(offset: number, source: Uint8Array, start: number, length: number): boolean;
  /** Everything written is on the medium when this returns true. */
  flush(): boolean;
  /** These bytes are no longer needed. Without it the card does not offer VIRTIO_BLK_F_DISCARD. */
  discard?(offset: number, length: number): boolean;
  /**
   * These bytes read zero afterwards. Without it the card does not offer VIRTIO_BLK_F_WRITE_ZEROES.
   * @param mayUnmap their room may be given back
   */
  writeZeroes?(offset: number, length: number, mayUnmap: boolean): boolean;
}

export interface MemoryDiskOptions {
  /** the disk's bytes, which stay the caller's; or how many zeros it begins with */
  readonly contents: Uint8Array | number;
  /** default false */
  readonly readOnly?: boolean;
  /** default `barwire` */
  readonly id?: string;
}

/** A disk in memory: what is discarded reads zero. */
class MemoryDisk implements BlockBackend {
  readonly size: number;
  readonly readOnly: boolean;
  readonly id: string;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, readOnly: boolean, id: string) {
    this.#bytes = bytes;
    this.size = bytes.length;
    this.readOnly = readOnly;
    this.id = id;
  }

  read(offset: number, target: Uint8Array, start: number, length: number): boolean {
    copyBytes(this.#bytes, offset, length, target, start);
    return true;
  }

  write(offset: number, source: Uint8Array, start: number, length: number): boolean {
    copyBytes(source, start, length, this.#bytes, offset);
    return true;
  }

  flush(): boolean {
    return true;
  }

  discard(offset: number, length: number): boolean {
    this.#bytes.fill(0, offset, offset + length);
    return true;
  }

  writeZeroes(offset: number, length: number): boolean {
    return this.discard(offset, length);
  }
}

/** Makes a disk in memory. @throws ConfigError `memory-disk-size` */
export const memoryDisk = ({ contents, readOnly = false, id = "barwire" }: MemoryDiskOptions): BlockBackend => {
  if (typeof contents !== "number") return new MemoryDisk(contents, readOnly, id);
  if (!Number.isSafeInteger(contents) || contents < 0)
    throw new ConfigError("memory-disk-size", `memory disk: ${hex(contents)} bytes; expected a whole number`);
  return new MemoryDisk(new Uint8Array(contents), readOnly, id);
};
