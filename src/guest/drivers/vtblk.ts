import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_ID_BLOCK } from "../../spec/virtio.js";
import {
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_DWZ_SIZE,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_REQ_HEADER_SIZE,
  VIRTIO_BLK_REQ_SECTOR,
  VIRTIO_BLK_REQ_TYPE,
  VIRTIO_BLK_REQUESTQ,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../../spec/virtio-blk.js";
import { BusError, type Device, type DmaMemory, type Driver, DriverError, type FrameSegments } from "../types.js";
import { frameSegments } from "./ifnet.js";
import {
  type VirtioAttach,
  type VirtioFeatures,
  type VirtioProbe,
  virtioDriver,
  virtioFeatures,
  virtioMemory,
} from "./virtio-bus.js";
import { ENOSPC, type Virtqueue, VQ_OK } from "./virtqueue.js";
import { BOUNCE, DiskCalls } from "./vtblk-calls.js";
import { type Bio, type Disk, EFBIG, EINVAL, EIO, ENXIO, EOPNOTSUPP, EROFS } from "./vtblk-disk.js";

export { type Bio, type Disk, EFBIG, EINVAL, EIO, ENXIO, EOPNOTSUPP, EROFS } from "./vtblk-disk.js";

/**
 * vtblk: the virtio block driver, of which a disk `vtbd0` comes. One queue, as FreeBSD's; no barriers, no SCSI commands.
 *
 * @see VIRTIO 1.3 §5.2; FreeBSD sys/dev/virtio/block/virtio_blk.c for the order of steps
 */

/** Pieces of data of the longest request, if the device does not set a lower limit. */
const SEGS_MAX = 32;
/** bytes of the longest request; FreeBSD's maxphys */
const MAXPHYS = 0x10_0000;
/** Largest block that is believed, bytes. */
const MAX_BLOCK = 0x1_0000;
// A slot of a request's own memory: header, segment of a DISCARD, status.
const SLOT = 64;
const SLOT_DISCARD = 16;
const SLOT_STATUS = 32;
/** A status that no device writes. */
const NO_STATUS = 0xff;

const CONFIG = VIRTIO_BLK_CONFIG.regs;

export interface VtblkOptions {
  /** Features not to ask for, by bit number. */
  readonly without?: readonly number[];
}

/** A virtio disk. */
export class Vtblk implements Disk {
  readonly name: string;
  readonly vq: Virtqueue;
  readonly readOnly: boolean;
  readonly blockSize: number;
  readonly maxBlocks: number;
  /** answers that were neither OK nor UNSUPP */
  errors = 0;
  /** requests that were never answered; each cost a reset of the device */
  timeouts = 0;
  #sectors = 0;
  readonly #dev: Device<VirtioAttach>;
  readonly #bus: VirtioAttach;
  readonly #features: VirtioFeatures;
  readonly #segsMax: number;
  readonly #sizeMax: number; // bytes of one segment

  readonly #slots: DmaMemory;
  readonly #slotsFree: Uint16Array; // a stack
  #slotsTop: number;
  readonly #bios: (Bio | null)[]; // by slot
  readonly #segments: FrameSegments;
  readonly #maxDelete: number; // device's sectors
  readonly #calls: DiskCalls;
  #epoch = 0; // changes when the queue is emptied under a handler's feet
  #alive = true; // requests are taken
  #resetting = false;

  constructor(dev: Device<VirtioAttach>, options: VtblkOptions) {
    const bus = dev.bus;
    this.name = `vtbd${dev.unit}`;
    this.#dev = dev;
    this.#bus = bus;

    // 1. Features, and the end of their negotiation. §3.1.1 steps 4 … 6
    const wanted = [
      VIRTIO_BLK_F_SIZE_MAX,
      VIRTIO_BLK_F_SEG_MAX,
      VIRTIO_BLK_F_RO,
      VIRTIO_BLK_F_BLK_SIZE,
      VIRTIO_BLK_F_FLUSH,
      VIRTIO_BLK_F_DISCARD,
      VIRTIO_F_INDIRECT_DESC,
      VIRTIO_F_EVENT_IDX,
    ].filter((bit) => options.without?.includes(bit) !== true);
    this.#features = bus.negotiateFeatures(virtioFeatures(...wanted));
    bus.finalizeFeatures();

    // 2. What the device says about itself
    this.readOnly = bus.withFeature(VIRTIO_BLK_F_RO);
    this.blockSize = this.#readBlockSize();
    this.#sectors = this.#readCapacity();
    const segMax = bus.withFeature(VIRTIO_BLK_F_SEG_MAX) ? this.#config4(CONFIG.seg_max.at) : 1;
    const sizeMax = bus.withFeature(VIRTIO_BLK_F_SIZE_MAX) ? this.#config4(CONFIG.size_max.at) : 0xffff_ffff;
    if (sizeMax < this.blockSize) throw new DriverError("EINVAL", `${this.name}: segments of ${sizeMax} bytes at most`);
    this.#sizeMax = sizeMax;
    this.#maxDelete = bus.withFeature(VIRTIO_BLK_F_DISCARD) ? this.#config4(CONFIG.max_discard_sectors.at) : 0;

    // 3. The queue, and a slot for each request that it can hold. Header and status have segments of their own. §5.2.6
    const segsWanted = Math.max(1, Math.min(segMax, SEGS_MAX));
    const vqs = bus.allocVirtqueues([
      { name: `${dev.nameunit} request`, maxIndirect: segsWanted + 2, handler: () => this.#intr() },
    ]);
    this.vq = vqs[VIRTIO_BLK_REQUESTQ] as Virtqueue;
    this.#segsMax = Math.min(segsWanted, this.vq.size - 2);
    if (this.#segsMax < 1) throw new DriverError("EINVAL", `${this.name}: a queue of ${this.vq.size} holds no request`);
    const slots = this.vq.size;
    this.#slots = virtioMemory(dev, slots * SLOT, 64);
    this.#slotsFree = new Uint16Array(slots);
    this.#slotsTop = slots;
    for (let i = 0; i < slots; i++) this.#slotsFree[i] = slots - 1 - i;
    this.#bios = new Array<Bio | null>(slots).fill(null);
    this.#segments = frameSegments(this.#segsMax + 2);
    this.maxBlocks = Math.floor(Math.min(MAXPHYS, this.#segsMax * sizeMax) / this.blockSize);
    this.#calls = new DiskCalls(this, virtioMemory(dev, Math.max(BOUNCE, this.blockSize), 4096));

    // 4. Interrupts, and what the transport has to tell
    bus.setupIntr();
    bus.setCallbacks({
      attachCompleted: () => {
        if (this.vq.enableIntr()) this.#bus.scheduleVq(VIRTIO_BLK_REQUESTQ);
      },
      configChange: () => this.#configChange(),
    });
    this.#announce("");
  }

  /** The softc of a disk driver is its disk. */
  get disk(): Disk {
    return this;
  }

  get sectors(): number {
    return this.#sectors;
  }

  get inFlight(): number {
    return this.#bios.length - this.#slotsTop;
  }

  submit(bio: Bio): number {
    if (!this.#alive) return ENXIO;
    switch (bio.command) {
      case "read":
        return this.#transfer(bio, VIRTIO_BLK_T_IN);
      case "write":
        return this.readOnly ? EROFS : this.#transfer(bio, VIRTIO_BLK_T_OUT);
      case "flush":
        // Without FLUSH each write is on the medium when it is answered. §5.2.5.2
        if (!this.#bus.withFeature(VIRTIO_BLK_F_FLUSH)) return EOPNOTSUPP;
        return this.#enqueue(bio, VIRTIO_BLK_T_FLUSH, 0, 1, 0);
      case "delete":
        return this.#delete(bio);
    }
  }

  kick(): void {
    if (this.#alive) this.vq.notify();
  }

  read(lba: number, count: number): Uint8Array {
    return this.#calls.read(lba, count);
  }

  write(lba: number, bytes: Uint8Array): void {
    this.#calls.write(lba, bytes);
  }

  flush(): void {
    if (this.#bus.withFeature(VIRTIO_BLK_F_FLUSH)) this.#calls.flush();
  }

  ident(): string {
    return this.#calls.ident();
  }

  // ---------------------------------------------------------------------------------------------- for blocking calls

  submitIdent(bio: Bio): number {
    if (!this.#alive) return ENXIO;
    const pieces = this.#pieces(bio, VIRTIO_BLK_ID_BYTES);
    return pieces < 0 ? -pieces : this.#enqueue(bio, VIRTIO_BLK_T_GET_ID, 0, 1, pieces);
  }

  reap(): void {
    if (!this.#alive) return;
    const epoch = this.#epoch;
    for (let slot = this.vq.dequeue(); slot >= 0; slot = this.vq.dequeue()) {
      this.#complete(slot);
      if (epoch !== this.#epoch) return;
    }
  }

  unanswered(what: string): void {
    this.timeouts++;
    this.#dev.log(`${what} was not answered; resetting the device`);
    this.reset();
  }

  delay(us: number): void {
    this.#bus.machine.delay(us);
  }

  // ---------------------------------------------------------------------------------------------- reset

  /** Gives up what is in flight (EIO) and makes the device new. @returns whether it is back; if not, the disk is gone */
  reset(): boolean {
    if (this.#resetting) return false; // asked for by a `done` that hears of this very reset
    this.#resetting = true;
    try {
      return this.#stop(EIO) && this.#start();
    } finally {
      this.#resetting = false;
    }
  }

  detach(): void {
    this.#stop(ENXIO);
    this.#bus.setCallbacks({});
  }

  suspend(): void {
    this.#stop(ENXIO);
  }

  resume(): void {
    this.#start();
  }

  // ---------------------------------------------------------------------------------------------- what the device says

  #readBlockSize(): number {
    if (!this.#bus.withFeature(VIRTIO_BLK_F_BLK_SIZE)) return VIRTIO_BLK_SECTOR_SIZE;
    const size = this.#config4(CONFIG.blk_size.at);
    const power = size >= VIRTIO_BLK_SECTOR_SIZE && size <= MAX_BLOCK && (size & (size - 1)) === 0;
    if (!power) throw new DriverError("EINVAL", `${this.name}: the device has blocks of ${size} bytes`);
    return size;
  }

  /** Blocks of the disk; a rest that fills no block is left out. @throws DriverError EINVAL */
  #readCapacity(): number {
    const bytes = new Uint8Array(8);
    this.#bus.readDeviceConfig(CONFIG.capacity_lo.at, bytes);
    const view = new DataView(bytes.buffer);
    const sectors = view.getUint32(0, true) + view.getUint32(4, true) * 0x1_0000_0000;
    // What is larger than 2⁵³ bytes could not be addressed.
    if (sectors > Number.MAX_SAFE_INTEGER / VIRTIO_BLK_SECTOR_SIZE)
      throw new DriverError("EINVAL", `${this.name}: the device has ${sectors} sectors`);
    return Math.floor((sectors * VIRTIO_BLK_SECTOR_SIZE) / this.blockSize);
  }

  #config4(offset: number): number {
    const bytes = new Uint8Array(4);
    this.#bus.readDeviceConfig(offset, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  /** @param prefix `resized to ` */
  #announce(prefix: string): void {
    const megabytes = Math.floor((this.#sectors * this.blockSize) / 2 ** 20);
    this.#dev.log(`${prefix}${megabytes}MB (${this.#sectors} ${this.blockSize} byte sectors)`);
  }

  #configChange(): void {
    if (!this.#alive) return;
    if (this.#bus.modern && this.#bus.needsReset()) {
      this.#dev.log("device needs reset");
      this.reset();
      return;
    }
    const before = this.#sectors;
    try {
      this.#sectors = this.#readCapacity();
    } catch (error) {
      if (!(error instanceof BusError)) throw error;
      this.#dev.log(error.message);
      return;
    }
    if (this.#sectors !== before) this.#announce("resized to ");
  }

  // ---------------------------------------------------------------------------------------------- requests

  #transfer(bio: Bio, type: number): number {
    const { lba, count } = bio;
    if (!(Number.isSafeInteger(lba) && Number.isSafeInteger(count) && lba >= 0 && count > 0)) return EINVAL;
    if (lba + count > this.#sectors) return EINVAL;
    if (count > this.maxBlocks) return EFBIG;
    const pieces = this.#pieces(bio, count * this.blockSize);
    if (pieces < 0) return -pieces;
    const sector = (lba * this.blockSize) / VIRTIO_BLK_SECTOR_SIZE;
    return type === VIRTIO_BLK_T_IN
      ? this.#enqueue(bio, type, sector, 1, pieces)
      : this.#enqueue(bio, type, sector, 1 + pieces, 0);
  }

  /** Puts the pieces of data behind the place of the header. @returns how many, or the negative error */
  #pieces({ data }: Bio, bytes: number): number {
    if (data === null) return -EINVAL;
    const { paddr, len } = this.#segments;
    let n = 0;
    let total = 0;
    for (let i = 0; i < data.count; i++) {
      let at = data.paddr[i]!;
      for (let left = data.len[i]!; left > 0; ) {
        if (n === this.#segsMax) return -EFBIG;
        const part = Math.min(left, this.#sizeMax);
        paddr[1 + n] = at;
        len[1 + n++] = part;
        at += part;
        left -= part;
        total += part;
      }
    }
    return total === bytes ? n : -EINVAL;
  }

  #delete(bio: Bio): number {
    if (!this.#bus.withFeature(VIRTIO_BLK_F_DISCARD)) return EOPNOTSUPP;
    if (this.readOnly) return EROFS;
    const { lba, count } = bio;
    if (!(Number.isSafeInteger(lba) && Number.isSafeInteger(count) && lba >= 0 && count > 0)) return EINVAL;
    if (lba + count > this.#sectors) return EINVAL;
    const perBlock = this.blockSize / VIRTIO_BLK_SECTOR_SIZE;
    if (count * perBlock > this.#maxDelete) return EFBIG;
    if (this.#slotsTop === 0) return ENOSPC;
    const at = this.#slotsFree[this.#slotsTop - 1]! * SLOT + SLOT_DISCARD;
    const sector = lba * perBlock;
    this.#slots.write32(at, sector >>> 0);
    this.#slots.write32(at + 4, Math.floor(sector / 0x1_0000_0000));
    this.#slots.write32(at + 8, count * perBlock);
    this.#slots.write32(at + 12, 0);
    this.#segments.paddr[1] = this.#slots.paddr + at;
    this.#segments.len[1] = VIRTIO_BLK_DWZ_SIZE;
    return this.#enqueue(bio, VIRTIO_BLK_T_DISCARD, 0, 2, 0);
  }

  /** Queues header, the pieces that stand in #segments already, and status. @param readable with the header; @param writable without the status */
  #enqueue(bio: Bio, type: number, sector: number, readable: number, writable: number): number {
    const { vq } = this;
    const { paddr, len } = this.#segments;
    if (this.#slotsTop === 0 || vq.fits(readable + writable + 1) !== VQ_OK) return ENOSPC;
    const slot = this.#slotsFree[this.#slotsTop - 1]!;
    const slots = this.#slots;
    const at = slot * SLOT;
    slots.write32(at + VIRTIO_BLK_REQ_TYPE, type);
    slots.write32(at + VIRTIO_BLK_REQ_TYPE + 4, 0);
    slots.write32(at + VIRTIO_BLK_REQ_SECTOR, sector >>> 0);
    slots.write32(at + VIRTIO_BLK_REQ_SECTOR + 4, Math.floor(sector / 0x1_0000_0000));
    slots.write8(at + SLOT_STATUS, NO_STATUS);
    slots.sync(at, SLOT, "prewrite");
    slots.sync(at + SLOT_STATUS, 1, "preread");
    this.#syncData(bio, true);
    paddr[0] = slots.paddr + at;
    len[0] = VIRTIO_BLK_REQ_HEADER_SIZE;
    paddr[readable + writable] = slots.paddr + at + SLOT_STATUS;
    len[readable + writable] = 1;
    vq.enqueue(slot, this.#segments, readable, writable + 1);
    this.#slotsTop--;
    this.#bios[slot] = bio;
    return VQ_OK;
  }

  #syncData({ command, data }: Bio, before: boolean): void {
    if (data === null) return;
    const { dma } = this.#bus.machine;
    const write = command === "write";
    const op = before ? (write ? "prewrite" : "preread") : write ? "postwrite" : "postread";
    for (let i = 0; i < data.count; i++) dma.sync(data.paddr[i]!, data.len[i]!, op);
  }

  #intr(): void {
    if (!this.#alive) return;
    const { vq } = this;
    const epoch = this.#epoch;
    let budget = vq.size;
    do {
      vq.disableIntr();
      for (let slot = vq.dequeue(); slot >= 0; slot = vq.dequeue()) {
        this.#complete(slot);
        if (epoch !== this.#epoch) return; // `done` had the device reset, or gone
        if (--budget === 0) {
          this.#bus.scheduleVq(VIRTIO_BLK_REQUESTQ); // others want a turn, too
          return;
        }
      }
    } while (vq.enableIntr());
  }

  /** An answer: its length counts for nothing, its status is believed only if it is one. */
  #complete(slot: number): void {
    const at = slot * SLOT + SLOT_STATUS;
    this.#slots.sync(at, 1, "postread");
    const status = this.#slots.read8(at);
    const error = status === VIRTIO_BLK_S_OK ? VQ_OK : status === VIRTIO_BLK_S_UNSUPP ? EOPNOTSUPP : EIO;
    if (error === EIO) this.errors++;
    this.#tell(slot, error);
  }

  #tell(slot: number, error: number): void {
    const bio = this.#bios[slot]!;
    if (bio === null) return;
    this.#bios[slot] = null;
    this.#slotsFree[this.#slotsTop++] = slot;
    this.#syncData(bio, false);
    bio.done(bio, error);
  }

  // ---------------------------------------------------------------------------------------------- stop and start

  /** First the reset, then its buffers are ours again. §3.3.1 @returns false when the device does not even reset */
  #stop(error: number): boolean {
    this.#epoch++;
    this.#alive = false;
    let stopped = true;
    try {
      this.#bus.stop();
    } catch (problem) {
      stopped = this.#lost(problem);
    }
    while (this.vq.drain() >= 0);
    for (let slot = 0; slot < this.#bios.length; slot++) this.#tell(slot, error);
    return stopped;
  }

  #start(): boolean {
    this.#epoch++;
    try {
      this.#bus.reinit(this.#features);
      this.#bus.reinitComplete();
    } catch (problem) {
      return this.#lost(problem);
    }
    this.#alive = true;
    if (this.vq.enableIntr()) this.#bus.scheduleVq(VIRTIO_BLK_REQUESTQ);
    return true;
  }

  /** The device does not come back. */
  #lost(why: unknown): false {
    if (!(why instanceof BusError)) throw why;
    this.#dev.log(`lost: ${why.message}`);
    return false;
  }
}

/** Makes the driver `vtblk`. */
export const vtblkDriver = (options: VtblkOptions = {}): Driver<VirtioProbe, VirtioAttach, Vtblk> =>
  virtioDriver("vtblk", VIRTIO_ID_BLOCK, "VirtIO Block Adapter", (dev) => new Vtblk(dev, options));

export const vtblk = vtblkDriver();
