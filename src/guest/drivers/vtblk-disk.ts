import type { Errno, FrameSegments } from "../types.js";

/** A disk and its requests, whatever drives it: geom(4)'s provider and struct bio, without GEOM. */

// Results of a request; numbers of FreeBSD's errno.h, beside VQ_OK and ENOSPC.
/** The device answered with an error, or with nonsense. */
export const EIO = 5;
/** The disk is gone: detached, suspended, or its device no longer resets. */
export const ENXIO = 6;
/** Beyond the end, or not in whole blocks. */
export const EINVAL = 22;
/** More pieces or bytes than the device takes in one request. */
export const EFBIG = 27;
/** The disk is read-only. */
export const EROFS = 30;
/** The device does not do that. */
export const EOPNOTSUPP = 45;

/** A request: struct bio. The driver reads it in `submit` and keeps it until `done`. */
export interface Bio {
  readonly command: "read" | "write" | "flush" | "delete";
  /** first block; not looked at by `flush` */
  readonly lba: number;
  /** blocks; not looked at by `flush` */
  readonly count: number;
  /** DMA memory of `count` blocks, for `read` and `write`; the driver does every `sync`. Untouched until `done` */
  readonly data: FrameSegments | null;
  /**
   * Told once for each `submit` that was taken, in any order, from within `poll`, `delay` or a blocking call.
   * @param error VQ_OK, EIO, EOPNOTSUPP or ENXIO
   */
  done(bio: Bio, error: number): void;
}

/** A disk as its driver offers it; geom(4)'s provider, without GEOM. */
export interface Disk {
  /** `vtbd0` */
  readonly name: string;
  /** blocks */
  readonly sectors: number;
  /** bytes of a block */
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** blocks of the longest `Bio` */
  readonly maxBlocks: number;
  /**
   * Queues a request; the doorbell rings with `kick`.
   * @returns VQ_OK; ENOSPC: no room, try again after a `done`; EINVAL, EFBIG, EROFS, EOPNOTSUPP, ENXIO: it will never be taken
   */
  submit(bio: Bio): number;
  kick(): void;
  /** requests that were taken and not yet told */
  readonly inFlight: number;
  /** Reads `count` blocks, of any number. @throws DriverError EIO, EINVAL, ENXIO, ETIMEDOUT */
  read(lba: number, count: number): Uint8Array;
  /** Writes whole blocks. @throws DriverError EIO, EINVAL, EOPNOTSUPP (read-only), ENXIO, ETIMEDOUT */
  write(lba: number, bytes: Uint8Array): void;
  /** Everything written is on the medium when this returns. @throws DriverError EIO, ENXIO, ETIMEDOUT */
  flush(): void;
  /** The device's own name for itself; empty when it has none. @throws DriverError ETIMEDOUT, ENXIO */
  ident(): string;
}

/** What a blocking call throws for a result. */
export const DISK_ERRNO: { readonly [error: number]: Errno } = {
  [EIO]: "EIO",
  [ENXIO]: "ENXIO",
  [EINVAL]: "EINVAL",
  [EFBIG]: "EFBIG",
  [EROFS]: "EOPNOTSUPP",
  [EOPNOTSUPP]: "EOPNOTSUPP",
};
