/**
 * virtio-blk: the paravirtual disk, legacy, transitional or modern.
 *
 * Life: a `BlockBackend` (`memoryDisk`, a file, one of your own) → `virtioBlk({ backend })` → plugged into a slot
 * (`connect`) → a driver negotiates and sets DRIVER_OK → each notification serves requests from the backend before it
 * returns → `counters`, `save`/`load` → `disconnect`. The backend outlives the card and is closed by who opened it.
 */
import { ConfigError, hex } from "../../src/bytes/index.js";
import { VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_SECTOR_SIZE } from "../../src/spec/virtio-blk.js";
import { type Personality, VirtioPciFunction, type VirtioPciOptions } from "../../src/virtio/index.js";
import { type BlockBackend, memoryDisk } from "./backend.js";
import { checkDiskSize, VirtioBlkModel } from "./model.js";
import type { BlkCounters } from "./request.js";

export { type BlockBackend, type MemoryDiskOptions, memoryDisk } from "./backend.js";
export type { BlkCounters } from "./request.js";

/** bytes of the disk in memory that a card has by default */
const DEFAULT_DISK = 2 ** 20;
/** SeaBIOS takes no larger ones. */
const DEFAULT_QUEUE_SIZE = 256;
/** A request needs a descriptor each for header and status, and `seg_max` is what is left. */
const MIN_QUEUE_SIZE = 4;
/** Doorbells in their page. */
const MAX_QUEUES = 1024;
const MAX_BLK_SIZE = 32768;

export interface VirtioBlkOptions extends VirtioPciOptions {
  /** default: 1 MiB of zeros in memory */
  readonly backend?: BlockBackend;
  /** "legacy", "transitional" (default) or "modern" */
  readonly personality?: Personality;
  /** descriptors of each request queue; a power of two, 4 … 32768; default 256 */
  readonly queueSize?: number;
  /** request queues, 1 … 1024; default 1. More than one offers VIRTIO_BLK_F_MQ */
  readonly queues?: number;
  /** bytes of a logical block; a power of two, 512 … 32768; default 512, the only size that SeaBIOS boots from */
  readonly blkSize?: number;
  /** what the driver is told when it asks who this is; printable ASCII, up to 20 characters; default the backend's id */
  readonly serial?: string;
  /** default: as the backend is; true also for one that could be written */
  readonly readOnly?: boolean;
}

/** The disk in its slot. */
export class VirtioBlkFunction extends VirtioPciFunction {
  readonly #model: VirtioBlkModel;

  constructor(model: VirtioBlkModel, options: VirtioPciOptions) {
    super(model, options);
    this.#model = model;
  }

  /**
   * To be called when the backend's size has become another one: the driver is told its new capacity. What a queue asks
   * for beyond the end fails from then on. VIRTIO 1.3 §5.2.6.1 @throws ConfigError `virtio-blk-size`
   */
  resized(): void {
    this.#model.resized();
  }

  /** A copy of the counters. */
  counters(): BlkCounters {
    return this.#model.counters(this.core.doorbells, this.core.interrupts);
  }
}

const isPowerOfTwo = (n: number): boolean => Number.isInteger(n) && n > 0 && 2 ** Math.round(Math.log2(n)) === n;

/**
 * A virtio disk, ready to plug into a slot.
 * @throws ConfigError `virtio-blk-size`, `virtio-blk-block-size`, `virtio-blk-serial`, `virtio-blk-queues`,
 *   `virtio-queue-size`, `virtio-vectors`, `virtio-withhold`, `virtio-personality`
 */
export function virtioBlk(options: VirtioBlkOptions = {}): VirtioBlkFunction {
  const { backend = memoryDisk({ contents: DEFAULT_DISK }), queueSize = DEFAULT_QUEUE_SIZE, queues = 1 } = options;
  const { blkSize = VIRTIO_BLK_SECTOR_SIZE, serial = backend.id, readOnly = false } = options;
  if (!isPowerOfTwo(blkSize) || blkSize < VIRTIO_BLK_SECTOR_SIZE || blkSize > MAX_BLK_SIZE)
    throw new ConfigError(
      "virtio-blk-block-size",
      `virtio-blk: blocks of ${hex(blkSize)} bytes; expected a power of two, 512 … 32768`,
    );
  checkDiskSize(backend.size, blkSize);
  if (serial.length > VIRTIO_BLK_ID_BYTES || !/^[ -~]*$/.test(serial))
    throw new ConfigError(
      "virtio-blk-serial",
      `virtio-blk: serial ${JSON.stringify(serial)}; expected up to 20 printable ASCII characters`,
    );
  if (!Number.isInteger(queues) || queues < 1 || queues > MAX_QUEUES)
    throw new ConfigError("virtio-blk-queues", `virtio-blk: ${queues} queues; expected 1 … 1024`);
  if (queueSize < MIN_QUEUE_SIZE)
    throw new ConfigError(
      "virtio-queue-size",
      `virtio-blk: queues of ${hex(queueSize)} descriptors; expected a power of two, 4 … 32768`,
    );
  const readOnlyDisk = readOnly || backend.readOnly;
  return new VirtioBlkFunction(
    new VirtioBlkModel({ backend, queueSize, queues, blkSize, serial, readOnly: readOnlyDisk }),
    options,
  );
}
