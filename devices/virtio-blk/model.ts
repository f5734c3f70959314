import { ConfigError, hex, StateError, StateReader } from "../../src/bytes/index.js";
import type { SavedState } from "../../src/contract/index.js";
import { VIRTIO_ID_BLOCK } from "../../src/spec/virtio.js";
import {
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_SECTOR_SIZE,
} from "../../src/spec/virtio-blk.js";
import {
  DescriptorChain,
  FeatureSet,
  type QueueDeclaration,
  type VirtioBus,
  type VirtioDevice,
} from "../../src/virtio/index.js";
import type { BlockBackend } from "./backend.js";
import {
  type BlkCounters,
  BYTES_READ,
  BYTES_WRITTEN,
  COUNTERS,
  DESCRIPTORS,
  DISCARDS,
  ERRORS,
  FLUSHES,
  MAX_DISCARD_SECTORS,
  MAX_DISCARD_SEGMENTS,
  READS,
  Request,
  WRITES,
} from "./request.js";

const C = VIRTIO_BLK_CONFIG.regs;
/** Geometry that nobody uses any more, as QEMU makes it up. */
const HEADS = 16;
const TRACK_SECTORS = 63;
const MIN_CYLINDERS = 2;
const MAX_CYLINDERS = 16383;
/** bytes that count as much as a descriptor in a budget of work */
const BYTES_PER_DESCRIPTOR = 4096;

export interface VirtioBlkSetup {
  readonly backend: BlockBackend;
  readonly queueSize: number;
  readonly queues: number;
  readonly blkSize: number;
  readonly serial: string;
  readonly readOnly: boolean;
}

/** The block device type: requests from its queues to the backend. Options were checked. VIRTIO 1.3 §5.2 */
export class VirtioBlkModel implements VirtioDevice {
  // fixed configuration
  readonly name = "virtio-blk";
  readonly id = VIRTIO_ID_BLOCK;
  readonly classCode = 0x01_00_00;
  readonly features: FeatureSet;
  readonly legacyFeatures = FeatureSet.NONE;
  readonly queues: readonly QueueDeclaration[];
  readonly configLength: number;
  readonly configRegisters = VIRTIO_BLK_CONFIG;
  readonly #backend: BlockBackend;
  readonly #blkSize: number;

  // wiring
  #bus: VirtioBus | null = null;

  // volatile state
  readonly #config: Uint8Array; // only `writeback` in it changes, and the capacity with the backend's size
  #size: number; // bytes of the disk
  readonly #request: Request;
  readonly #chain = new DescriptorChain(); // filled and used up within a run: the queues can share it
  readonly #counters = new Float64Array(COUNTERS);

  constructor({ backend, queueSize, queues, blkSize, serial, readOnly }: VirtioBlkSetup) {
    const discard = !readOnly && backend.discard !== undefined;
    const writeZeroes = !readOnly && backend.writeZeroes !== undefined;
    this.features = FeatureSet.of(
      VIRTIO_BLK_F_SEG_MAX,
      VIRTIO_BLK_F_GEOMETRY,
      VIRTIO_BLK_F_BLK_SIZE,
      VIRTIO_BLK_F_FLUSH,
      VIRTIO_BLK_F_TOPOLOGY,
      VIRTIO_BLK_F_CONFIG_WCE,
      ...(readOnly ? [VIRTIO_BLK_F_RO] : []),
      ...(queues > 1 ? [VIRTIO_BLK_F_MQ] : []),
      ...(discard ? [VIRTIO_BLK_F_DISCARD] : []),
      ...(writeZeroes ? [VIRTIO_BLK_F_WRITE_ZEROES] : []),
    );
    this.queues = Array.from({ length: queues }, (_, i) => ({ name: `requestq${i + 1}`, size: queueSize }));
    this.#backend = backend;
    this.#blkSize = blkSize;
    this.#size = backend.size;
    // As far as the last offered field, as QEMU: what is behind reads all ones.
    const last = writeZeroes ? C.write_zeroes_may_unmap : discard ? C.discard_sector_alignment : C.num_queues;
    this.configLength = last.at + last.width;
    this.#config = configuration(backend.size, queueSize, queues, blkSize, { discard, writeZeroes });
    const id = new Uint8Array(VIRTIO_BLK_ID_BYTES);
    for (let i = 0; i < serial.length; i++) id[i] = serial.charCodeAt(i);
    this.#request = new Request({ backend, readOnly, blkSize, id, counters: this.#counters });
    this.#negotiated(FeatureSet.NONE);
  }

  queueCount(): number {
    return this.queues.length;
  }

  readConfig(offset: number): number {
    return this.#config[offset]!;
  }

  writeConfig(offset: number, value: number): void {
    if (offset !== C.writeback.at) return;
    this.#config[offset] = value === 0 ? 0 : 1;
    if (this.#bus !== null) this.#negotiated(this.#bus.accepted);
  }

  connect(bus: VirtioBus): void {
    this.#bus = bus;
    this.#negotiated(bus.accepted);
  }

  disconnect(): void {
    this.#bus = null;
    this.#chain.release();
  }

  featuresAccepted(accepted: FeatureSet): void {
    this.#negotiated(accepted);
  }

  driverOk(): void {}

  runQueue(index: number, budget: number): number {
    const bus = this.#bus;
    if (bus === null) return 0;
    const queue = bus.queue(index);
    const chain = this.#chain;
    const request = this.#request;
    const { dma, report } = bus.seams;
    let used = 0;
    do {
      while (used < budget) {
        chain.clear();
        if (!queue.take(chain)) break;
        used += chain.descriptors;
        this.#counters[DESCRIPTORS]! += chain.descriptors;
        const head = chain.heads[0]!;
        if (!request.serve(dma, chain, report)) {
          queue.publish(); // what was done before is still told
          bus.usedBuffers(queue);
          bus.fail("blk-request-incomplete", head);
          return used;
        }
        used += Math.floor(request.moved / BYTES_PER_DESCRIPTOR);
        queue.push(head, request.written);
      }
      queue.publish();
    } while (used < budget && queue.broken === null && queue.rearm());
    bus.usedBuffers(queue);
    return used;
  }

  reset(): void {
    this.#config[C.writeback.at] = 1;
    this.#negotiated(FeatureSet.NONE);
  }

  /** The backend's size is another one: shows it and tells the driver. §5.2.6.1 @throws ConfigError `virtio-blk-size` */
  resized(): void {
    const { size } = this.#backend;
    checkDiskSize(size, this.#blkSize);
    if (size === this.#size) return;
    this.#size = size;
    showCapacity(this.#config, size);
    this.#bus?.configChanged(true);
  }

  counters(doorbells: number, interrupts: number): BlkCounters {
    const at = (i: number): number => this.#counters[i]!;
    return {
      reads: at(READS),
      bytesRead: at(BYTES_READ),
      writes: at(WRITES),
      bytesWritten: at(BYTES_WRITTEN),
      flushes: at(FLUSHES),
      discards: at(DISCARDS),
      errors: at(ERRORS),
      descriptorsRead: at(DESCRIPTORS),
      doorbells,
      interrupts,
    };
  }

  save(): SavedState {
    return {
      version: 1,
      size: this.#size,
      writeback: this.#config[C.writeback.at]! !== 0,
      counters: [...this.#counters],
    };
  }

  loader({ raw, path }: StateReader): () => void {
    const state = new StateReader(raw, path, 1);
    const size = state.integer("size");
    if (size !== this.#size) throw new StateError(`${path}.size`, `a disk of ${size} bytes, expected ${this.#size}`);
    const writeback = state.boolean("writeback");
    const counters = state.integers("counters", 0, Number.MAX_SAFE_INTEGER, COUNTERS);
    return () => {
      this.#config[C.writeback.at] = writeback ? 1 : 0;
      this.#counters.set(counters);
      if (this.#bus !== null) this.#negotiated(this.#bus.accepted);
    };
  }

  /** With CONFIG_WCE the driver says how it wants its writes; without, one that knows no FLUSH wants them done. §5.2.5.2 */
  #negotiated(accepted: FeatureSet): void {
    this.#request.writeThrough = accepted.has(VIRTIO_BLK_F_CONFIG_WCE)
      ? this.#config[C.writeback.at] === 0
      : !accepted.has(VIRTIO_BLK_F_FLUSH);
  }
}

/** @throws ConfigError `virtio-blk-size` */
export const checkDiskSize = (size: number, blkSize: number): void => {
  if (Number.isSafeInteger(size) && size > 0 && size % blkSize === 0) return;
  throw new ConfigError(
    "virtio-blk-size",
    `virtio-blk: a disk of ${hex(size)} bytes; expected a multiple of ${blkSize} above 0`,
  );
};

/** Capacity, and the geometry that is made up of it. */
const showCapacity = (config: Uint8Array, size: number): void => {
  const view = new DataView(config.buffer);
  const sectors = size / VIRTIO_BLK_SECTOR_SIZE;
  const cylinders = Math.floor(sectors / (HEADS * TRACK_SECTORS));
  view.setUint32(C.capacity_lo.at, sectors % 0x1_0000_0000, true);
  view.setUint32(C.capacity_hi.at, Math.floor(sectors / 0x1_0000_0000), true);
  view.setUint16(C.cylinders.at, Math.min(Math.max(cylinders, MIN_CYLINDERS), MAX_CYLINDERS), true);
};

/** The device configuration after a reset. §5.2.4 */
const configuration = (
  size: number,
  queueSize: number,
  queues: number,
  blkSize: number,
  { discard, writeZeroes }: { readonly discard: boolean; readonly writeZeroes: boolean },
): Uint8Array => {
  const config = new Uint8Array(VIRTIO_BLK_CONFIG.size);
  const view = new DataView(config.buffer);
  showCapacity(config, size);
  view.setUint32(C.seg_max.at, queueSize - 2, true);
  config[C.heads.at] = HEADS;
  config[C.sectors.at] = TRACK_SECTORS;
  view.setUint32(C.blk_size.at, blkSize, true);
  config[C.writeback.at] = 1;
  view.setUint16(C.num_queues.at, queues, true);
  if (discard) {
    view.setUint32(C.max_discard_sectors.at, MAX_DISCARD_SECTORS, true);
    view.setUint32(C.max_discard_seg.at, MAX_DISCARD_SEGMENTS, true);
    view.setUint32(C.discard_sector_alignment.at, blkSize / VIRTIO_BLK_SECTOR_SIZE, true);
  }
  if (writeZeroes) {
    view.setUint32(C.max_write_zeroes_sectors.at, MAX_DISCARD_SECTORS, true);
    view.setUint32(C.max_write_zeroes_seg.at, MAX_DISCARD_SEGMENTS, true);
    config[C.write_zeroes_may_unmap.at] = 1;
  }
  return config;
};
