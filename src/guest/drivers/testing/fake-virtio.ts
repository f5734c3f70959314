import type { AccessWidth, BarHandler } from "../../../contract/index.js";
import { FakePci } from "./fake-pci.js";
import { RawRing } from "./split-memory.js";

export interface FakeVirtioOptions {
  readonly modern: boolean;
  /** by bit number */
  readonly features: readonly number[];
  readonly queues?: readonly number[];
  /** MSI-X vectors; 0: no capability */
  readonly vectors?: number;
  readonly config?: readonly number[];
  readonly virtioId?: number;
  /** bytes of the common structure; default 4096 */
  readonly commonLength?: number;
}

/**
 * A virtio function by raw numbers (VIRTIO 1.3 §4.1.4.3, §4.1.4.10), which does nothing by itself: a test looks at its rings and
 * answers. Register writes are logged by name; what the driver must not do is in `faults`.
 */
export class FakeVirtio implements BarHandler {
  readonly pci: FakePci;
  readonly log: string[] = [];
  readonly faults: string[] = [];
  readonly options: FakeVirtioOptions;
  readonly config: Uint8Array;
  rings: (RawRing | null)[] = [];
  status = 0;
  isr = 0;
  generation = 0;
  /** answer of the driver's features */
  driverFeatures = 0n;
  /** FEATURES_OK does not stay */
  refuse = false;
  /** nor without these features */
  insists = 0n;
  /** reads of the status after a reset that still show it */
  slowReset = 0;
  /** vectors from this one on are not accepted */
  badVectorFrom = 0xffff;
  /** reads of queue_reset that still show 1 */
  slowQueueReset = 0;
  /** upper halves of the doorbells that were written with 32 bits */
  readonly nexts: number[] = [];
  /** runs at each doorbell, after it was logged */
  onNotify: (queue: number) => void = () => {};
  /** runs at each read of the device configuration, before it */
  onConfigRead: (offset: number) => void = () => {};
  readonly sizes: number[];
  #resetReads = 0;
  #queueResetReads = 0;
  #oldStatus = 0;
  #select = 0;
  #featureSelect = 0;
  #guestSelect = 0;
  #vectors: number[] = [];
  #configVector = 0xffff;
  #areas: number[][] = [];
  #pfn: number[] = [];

  constructor(options: FakeVirtioOptions) {
    this.options = options;
    const id = options.virtioId ?? 1;
    this.config = Uint8Array.from(options.config ?? [0x52, 0x54, 0, 1, 2, 3, 1, 0, 0, 0, 0, 0]);
    this.sizes = [...(options.queues ?? [16, 16, 4])];
    this.pci = new FakePci(
      options.modern
        ? { vendor: 0x1af4, device: 0x1040 + id, subdevice: 0x1100, revid: 1 }
        : { vendor: 0x1af4, device: 0x1000, subdevice: id, revid: 0 },
    );
    const { pci } = this;
    pci.msix = options.vectors ?? 0;
    if (pci.msix > 0) {
      pci.caps.push(0x98);
      pci.config.set([0x11, 0, pci.msix - 1, 0, 1, 0, 0, 0, 1, 8, 0, 0], 0x98);
      pci.bars.set(0x14, { type: "memory", size: 4096, handler: { read: () => 0, write: () => {} } });
    }
    if (options.modern) {
      const cap = (at: number, type: number, offset: number, length: number) => {
        pci.caps.push(at);
        pci.config.set([9, 0, 16, type, 4, 0, 0, 0, 0, offset >> 8, 0, 0, length & 0xff, length >> 8, 0, 0], at);
      };
      cap(0x70, 2, 0x3000, 0x1000);
      pci.config.set([4, 0, 0, 0], 0x80);
      cap(0x60, 4, 0x2000, 0x1000);
      cap(0x50, 3, 0x1000, 0x1000);
      cap(0x40, 1, 0, options.commonLength ?? 0x1000);
      pci.bars.set(0x20, { type: "memory", size: 0x4000, handler: this });
    } else {
      pci.config[0x10] = 1;
      pci.bars.set(0x10, { type: "ioport", size: 64, handler: this });
    }
    this.#reset();
  }

  get #offered(): bigint {
    return this.options.features.reduce((all, bit) => all | (1n << BigInt(bit)), 0n);
  }

  vector(queue: number): number {
    return this.#vectors[queue]!;
  }

  /** Ring n, of which both sides know the place. */
  ring(n: number): RawRing {
    const ring = this.rings[n];
    if (ring === null || ring === undefined) throw new Error(`queue ${n} is not set up`);
    return ring;
  }

  read(offset: number, width: AccessWidth): number {
    return this.options.modern ? this.#modernRead(offset, width) : this.#legacyRead(offset, width);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    if (this.options.modern) this.#modernWrite(offset, width, value);
    else this.#legacyWrite(offset, width, value);
  }

  #reset(): void {
    this.#oldStatus = this.status;
    this.#resetReads = this.slowReset;
    this.status = 0;
    this.isr = 0;
    this.driverFeatures = 0n;
    this.rings = this.sizes.map(() => null);
    this.#vectors = this.sizes.map(() => 0xffff);
    this.#areas = this.sizes.map(() => [0, 0, 0, 0, 0, 0]);
    this.#pfn = this.sizes.map(() => 0);
    this.#configVector = 0xffff;
  }

  #readStatus(): number {
    if (this.#resetReads === 0) return this.status;
    this.#resetReads--;
    return this.#oldStatus;
  }

  #writeStatus(value: number): void {
    this.log.push(`status ${value.toString(16)}`);
    if (value === 0) {
      this.#reset();
      return;
    }
    if ((this.status & ~value & ~0x40) !== 0) this.faults.push(`status bits cleared: ${this.status} → ${value}`);
    const refused = this.refuse || (this.driverFeatures & this.insists) !== this.insists;
    this.status = refused ? value & ~8 : value;
  }

  #vector(value: number): number {
    return value >= this.badVectorFrom ? 0xffff : value;
  }

  #doorbell(queue: number): void {
    this.log.push(`notify ${queue}`);
    if (this.options.modern && (this.status & 4) === 0) this.faults.push("notified before DRIVER_OK");
    this.onNotify(queue);
  }

  #readConfig(offset: number, width: number): number {
    this.onConfigRead(offset);
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.config[offset + i] ?? 0xff);
    return value;
  }

  #takeIsr(): number {
    const isr = this.isr;
    this.isr = 0;
    return isr;
  }

  #legacyRead(offset: number, width: number): number {
    const msix = (this.pci.config[0x9b]! & 0x80) !== 0;
    const start = msix ? 24 : 20;
    if (offset >= start) return this.#readConfig(offset - start, width);
    switch (offset) {
      case 0:
        return Number(this.#offered & 0xffff_ffffn);
      case 8:
        return this.#pfn[this.#select] ?? 0;
      case 12:
        return this.sizes[this.#select] ?? 0;
      case 18:
        return this.#readStatus();
      case 19:
        return this.#takeIsr();
      case 20:
        return this.#configVector;
      case 22:
        return this.#vectors[this.#select] ?? 0xffff;
      default:
        return 0;
    }
  }

  #legacyWrite(offset: number, width: number, value: number): void {
    const msix = (this.pci.config[0x9b]! & 0x80) !== 0;
    const start = msix ? 24 : 20;
    if (offset >= start) {
      for (let i = 0; i < width; i++) this.config[offset - start + i] = (value >>> (8 * i)) & 0xff;
      this.log.push(`config ${offset - start}`);
    } else if (offset === 4) {
      this.driverFeatures = BigInt(value);
      this.log.push(`features ${value.toString(16)}`);
    } else if (offset === 8) {
      this.#pfn[this.#select] = value;
      const size = this.sizes[this.#select]!;
      const at = value * 4096;
      this.rings[this.#select] = new RawRing(
        this.pci.memory,
        at,
        at + 16 * size,
        at + Math.ceil((18 * size + 6) / 4096) * 4096,
        size,
      );
      this.log.push(`queue ${this.#select}`);
    } else if (offset === 14) this.#select = value;
    else if (offset === 16) this.#doorbell(value);
    else if (offset === 18) this.#writeStatus(value);
    else if (offset === 20) this.#configVector = this.#vector(value);
    else if (offset === 22) this.#vectors[this.#select] = this.#vector(value);
  }

  #modernRead(offset: number, width: number): number {
    if (offset >= 0x2000 && offset < 0x3000) return this.#readConfig(offset - 0x2000, width);
    switch (offset) {
      case 0x04:
        return Number((this.#offered >> BigInt(32 * this.#featureSelect)) & 0xffff_ffffn);
      case 0x10:
        return this.#configVector;
      case 0x12:
        return this.sizes.length;
      case 0x14:
        return this.#readStatus();
      case 0x15:
        return this.generation & 0xff;
      case 0x18:
        return this.sizes[this.#select] ?? 0;
      case 0x1a:
        return this.#vectors[this.#select] ?? 0xffff;
      case 0x1e:
        return this.#select;
      case 0x38:
        return 0x100 + this.#select; // what to write instead of the index
      case 0x3a:
        if (this.#queueResetReads === 0) return 0;
        this.#queueResetReads--;
        return 1;
      case 0x1000:
        return this.#takeIsr();
      default:
        return 0;
    }
  }

  #accepted(bit: number): boolean {
    return ((this.driverFeatures >> BigInt(bit)) & 1n) === 1n;
  }

  #modernWrite(offset: number, width: number, value: number): void {
    const queue = this.#select;
    if (offset >= 0x3000) {
      const rung = (offset - 0x3000) / 4;
      const expected = this.#accepted(39) ? 0x100 + rung : rung; // NOTIF_CONFIG_DATA
      const withData = this.#accepted(38); // NOTIFICATION_DATA
      if ((value & 0xffff) !== expected || width !== (withData ? 4 : 2))
        this.faults.push(`doorbell ${offset.toString(16)} = ${value.toString(16)}/${width}`);
      if (withData) this.nexts.push(value >>> 16);
      this.#doorbell(rung);
    } else if (offset === 0x00) this.#featureSelect = value;
    else if (offset === 0x08) this.#guestSelect = value;
    else if (offset === 0x0c) {
      const shift = BigInt(32 * this.#guestSelect);
      this.driverFeatures = (this.driverFeatures & ~(0xffff_ffffn << shift)) | (BigInt(value) << shift);
      this.log.push(`features[${this.#guestSelect}] ${value.toString(16)}`);
    } else if (offset === 0x10) this.#configVector = this.#vector(value);
    else if (offset === 0x14) this.#writeStatus(value);
    else if (offset === 0x16) this.#select = value;
    else if (offset === 0x1a) this.#vectors[queue] = this.#vector(value);
    else if (offset === 0x1c) {
      if (value !== 1) this.faults.push(`queue_enable = ${value}`);
      const a = this.#areas[queue]!;
      const area = (i: number) => a[i]! + a[i + 1]! * 2 ** 32;
      this.rings[queue] = new RawRing(this.pci.memory, area(0), area(2), area(4), this.sizes[queue]!);
      this.log.push(`enable ${queue}`);
    } else if (offset === 0x3a) {
      if (!this.#accepted(40)) this.faults.push("queue_reset without RING_RESET");
      this.rings[queue] = null;
      this.#vectors[queue] = 0xffff;
      this.#queueResetReads = this.slowQueueReset;
      this.log.push(`reset ${queue}`);
    } else if (offset >= 0x20 && offset < 0x38) this.#areas[queue]![(offset - 0x20) / 4] = value;
  }
}
