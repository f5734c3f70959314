import { truncateSync } from "node:fs";
import { FileDisk } from "../../node/index.js";
import type { Options } from "./option-string.js";
import { Properties } from "./properties.js";
import { messageOf, StartupError } from "./startup-error.js";

const SECTOR = 512;
/** bytes of a drive that reads zeros */
const NULL_SIZE = 2 ** 30;

/** What a virtio-blk card wants of its disk, and a change of its size. The methods are those of the card's back end. */
export interface Disk {
  readonly size: number;
  readonly readOnly: boolean;
  readonly id: string;
  read(offset: number, target: Uint8Array, start: number, length: number): boolean;
  write(offset: number, source: Uint8Array, start: number, length: number): boolean;
  flush(): boolean;
  discard(offset: number, length: number): boolean;
  writeZeroes(offset: number, length: number, mayUnmap: boolean): boolean;
  /** @param bytes a multiple of 512 @throws StartupError */
  resize(bytes: number): void;
}

/** A raw image; what is discarded keeps its bytes, as with QEMU's `discard=ignore`. */
class ImageDisk implements Disk {
  readonly readOnly: boolean;
  readonly id = ""; // QEMU's disks have no serial number but one that is given
  readonly #path: string;
  #file: FileDisk;

  constructor(path: string, readOnly: boolean) {
    this.#path = path;
    this.readOnly = readOnly;
    this.#file = new FileDisk(path, { readOnly });
  }
  get size(): number {
    return this.#file.size;
  }
  read(offset: number, target: Uint8Array, start: number, length: number): boolean {
    return this.#file.read(offset, target, start, length);
  }
  write(offset: number, source: Uint8Array, start: number, length: number): boolean {
    return this.#file.write(offset, source, start, length);
  }
  flush(): boolean {
    return this.#file.flush();
  }
  discard(): boolean {
    return true;
  }
  writeZeroes(offset: number, length: number): boolean {
    return this.#file.writeZeroes(offset, length);
  }
  resize(bytes: number): void {
    if (this.readOnly) throw new StartupError("the image is read-only");
    try {
      truncateSync(this.#path, bytes);
      const former = this.#file;
      this.#file = new FileDisk(this.#path, { readOnly: false });
      former[Symbol.dispose]();
    } catch (error) {
      throw new StartupError(messageOf(error));
    }
  }
}

/** Reads zeros, forgets what is written. */
class NullDisk implements Disk {
  size: number;
  readonly readOnly: boolean;
  readonly id = "";

  constructor(size: number, readOnly: boolean) {
    this.size = size;
    this.readOnly = readOnly;
  }
  read(_offset: number, target: Uint8Array, start: number, length: number): boolean {
    target.fill(0, start, start + length);
    return true;
  }
  write(): boolean {
    return true;
  }
  flush(): boolean {
    return true;
  }
  discard(): boolean {
    return true;
  }
  writeZeroes(): boolean {
    return true;
  }
  resize(bytes: number): void {
    this.size = bytes;
  }
}

/** A drive that nobody or one card has. */
export interface Drive {
  readonly name: string;
  readonly disk: Disk;
}

const open = (
  driver: string,
  path: string | undefined,
  size: number | undefined,
  readOnly: boolean,
  auto: boolean,
): Disk => {
  if (driver === "null-co" || driver === "null-aio") {
    const bytes = size ?? NULL_SIZE;
    if (bytes === 0 || bytes % SECTOR !== 0)
      throw new StartupError(`size ${bytes}: expected a multiple of ${SECTOR} above 0`);
    return new NullDisk(bytes, readOnly);
  }
  if (path === undefined || path === "") throw new StartupError("a drive without a file");
  try {
    return new ImageDisk(path, readOnly);
  } catch (error) {
    if (!auto || readOnly) throw new StartupError(messageOf(error));
    return open(driver, path, size, true, false);
  }
};

/** @throws StartupError */
export const openDrive = (options: Options): Drive => {
  const properties = new Properties("-drive", options);
  if ((properties.string("if") ?? "none") !== "none") throw new StartupError("-drive: expected if=none");
  const name = properties.required("id");
  let driver = properties.string("driver") ?? properties.string("file.driver") ?? "file";
  let path = properties.string("file") ?? properties.string("file.filename");
  if (path?.startsWith("null-co://") === true) driver = "null-co";
  path = path?.replace(/^file:/, "");
  properties.oneOf("format", ["raw"]);
  const size = properties.size("file.size") ?? properties.size("size");
  const readOnly = properties.boolean("read-only") ?? properties.boolean("readonly") ?? false;
  const auto = properties.boolean("auto-read-only") ?? false;
  properties.ignore("file.read-zeroes", "read-zeroes", "cache", "media", "aio", "snapshot", "discard", "detect-zeroes");
  properties.ignore("cache.direct", "cache.no-flush", "file.locking", "werror", "rerror");
  properties.done();
  return { name, disk: open(driver === "raw" ? "file" : driver, path, size, readOnly, auto) };
};

/** @param known nodes that this one may stand upon @throws StartupError */
export const openBlockdev = (options: Options, known: ReadonlyMap<string, Drive>): Drive => {
  const properties = new Properties("-blockdev", options);
  const driver = properties.oneOf("driver", ["file", "raw", "null-co", "null-aio"] as const);
  if (driver === undefined) throw new StartupError("-blockdev: parameter 'driver' is missing");
  const name = properties.required("node-name");
  const readOnly = properties.boolean("read-only") ?? false;
  const auto = properties.boolean("auto-read-only") ?? false;
  properties.ignore("read-zeroes", "cache.direct", "cache.no-flush", "discard", "locking", "aio", "detect-zeroes");
  let disk: Disk;
  if (driver === "raw" && !properties.has("file.driver")) {
    const lower = properties.required("file");
    const found = known.get(lower);
    if (found === undefined) throw new StartupError(`Cannot find device='' nor node-name='${lower}'`);
    disk = found.disk;
  } else if (driver === "raw") {
    const file = properties.group("file.");
    const inner = file.required("driver");
    file.ignore("read-zeroes", "locking", "aio");
    disk = open(inner, file.string("filename"), file.size("size"), readOnly, auto);
    file.done();
  } else disk = open(driver, properties.string("filename"), properties.size("size"), readOnly, auto);
  properties.done();
  return { name, disk };
};
