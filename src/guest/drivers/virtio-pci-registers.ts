import { PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_SPACE_IO, PCI_STD_NUM_BARS } from "../../spec/pci.js";
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_PCI_CAP_BAR,
  VIRTIO_PCI_CAP_CFG_TYPE,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_LENGTH,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_OFFSET,
  VIRTIO_PCI_CAP_VNDR,
  VIRTIO_PCI_COMMON,
  VIRTIO_PCI_COMMON_CFG_SIZE_1_0,
  VIRTIO_PCI_CONFIG_OFF_MSIX,
  VIRTIO_PCI_CONFIG_OFF_NO_MSIX,
  VIRTIO_PCI_LEGACY,
  VIRTIO_PCI_NOTIFY_CAP_MULT,
  VIRTIO_PCI_QUEUE_ADDR_SHIFT,
} from "../../spec/virtio.js";
import { type BusSpace, type Device, DriverError, type PciAttach, type PciProbe } from "../types.js";
import { featuresOr, hasFeature, NO_FEATURES, type VirtioFeatures, virtioFeatures } from "./virtio-bus.js";
import type { Virtqueue } from "./virtqueue.js";

/** The two register layouts of a virtio function on PCI, and where they are found. VIRTIO 1.3 §4.1.4 */

/** What differs between the two register layouts; FreeBSD's virtio_pci_if.m */
export interface VirtioRegisters {
  readonly modern: boolean;
  /** Which features of the transport's and the ring's range this layout has the registers for. */
  readonly possible: VirtioFeatures;
  getStatus(): number;
  setStatus(status: number): void;
  hostFeatures(): VirtioFeatures;
  setGuestFeatures(features: VirtioFeatures): void;
  /** descriptors of a queue, 0 where there is none */
  vqSize(index: number): number;
  setVq(vq: Virtqueue): void;
  enableVq(index: number): void;
  /** With RING_RESET: asks for the reset of one queue. §4.1.4.3.2 */
  resetVq(index: number): void;
  /** Whether that reset is still going on. */
  isResetting(index: number): boolean;
  /** @returns the vector as the device repeats it */
  setConfigVector(vector: number): number;
  setVqVector(index: number, vector: number): number;
  readIsr(): number;
  /** @param next where the driver goes on, 16 bits; told with NOTIFICATION_DATA only. §2.9 */
  notify(index: number, next: number): void;
  /** changes with the device configuration; −1 where there is no such thing */
  configGeneration(): number;
  configRead1(offset: number): number;
  configRead2(offset: number): number;
  configWrite1(offset: number, value: number): void;
  /** MSI-X was switched on or off */
  msix: boolean;
}

/** What this side knows of rings and transport without VERSION_1. */
const LEGACY_FEATURES = virtioFeatures(VIRTIO_F_ANY_LAYOUT, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX);
const MODERN_FEATURES = featuresOr(
  LEGACY_FEATURES,
  virtioFeatures(
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_IN_ORDER,
    VIRTIO_F_NOTIFICATION_DATA,
  ),
);
/** Those whose registers came with VIRTIO 1.2. */
const LATER_FEATURES = virtioFeatures(VIRTIO_F_NOTIF_CONFIG_DATA, VIRTIO_F_RING_RESET);

const L = VIRTIO_PCI_LEGACY.regs;

/** BAR 0 of legacy and transitional devices. §4.1.4.10 */
export class LegacyRegisters implements VirtioRegisters {
  readonly modern = false;
  readonly possible = LEGACY_FEATURES;
  readonly #io: BusSpace;
  msix = false;

  constructor(io: BusSpace) {
    this.#io = io;
  }

  getStatus(): number {
    return this.#io.read1(L.device_status.at);
  }
  setStatus(status: number): void {
    this.#io.write1(L.device_status.at, status);
  }
  hostFeatures(): VirtioFeatures {
    return { lo: this.#io.read4(L.device_features.at), hi: 0 };
  }
  setGuestFeatures(features: VirtioFeatures): void {
    this.#io.write4(L.driver_features.at, features.lo);
  }
  vqSize(index: number): number {
    this.#io.write2(L.queue_select.at, index);
    return this.#io.read2(L.queue_size.at);
  }
  setVq(vq: Virtqueue): void {
    this.#io.write2(L.queue_select.at, vq.index);
    this.#io.write4(L.queue_address.at, vq.descPaddr / 2 ** VIRTIO_PCI_QUEUE_ADDR_SHIFT);
  }
  enableVq(): void {
    // its address has enabled it
  }
  resetVq(): void {
    // RING_RESET is no bit of this layout
  }
  isResetting(): boolean {
    return false;
  }
  setConfigVector(vector: number): number {
    this.#io.write2(L.config_msix_vector.at, vector);
    return this.#io.read2(L.config_msix_vector.at);
  }
  setVqVector(index: number, vector: number): number {
    this.#io.write2(L.queue_select.at, index);
    this.#io.write2(L.queue_msix_vector.at, vector);
    return this.#io.read2(L.queue_msix_vector.at);
  }
  readIsr(): number {
    return this.#io.read1(L.isr_status.at);
  }
  notify(index: number): void {
    this.#io.write2(L.queue_notify.at, index);
  }
  configGeneration(): number {
    return -1;
  }
  configRead1(offset: number): number {
    return this.#io.read1(this.#config + offset);
  }
  configRead2(offset: number): number {
    return this.#io.read1(this.#config + offset) | (this.#io.read1(this.#config + offset + 1) << 8);
  }
  configWrite1(offset: number, value: number): void {
    this.#io.write1(this.#config + offset, value);
  }

  /** The vector registers push the device configuration 4 bytes up while MSI-X is enabled. */
  get #config(): number {
    return this.msix ? VIRTIO_PCI_CONFIG_OFF_MSIX : VIRTIO_PCI_CONFIG_OFF_NO_MSIX;
  }
}

const C = VIRTIO_PCI_COMMON.regs;

/** A structure that a capability points to: a window and where it begins there. */
interface Structure {
  readonly space: BusSpace;
  readonly offset: number;
  readonly length: number;
}

/** The structures of VIRTIO 1.0 and later. §4.1.4.3 … §4.1.4.6 */
export class ModernRegisters implements VirtioRegisters {
  readonly modern = true;
  readonly possible: VirtioFeatures;
  readonly #space: BusSpace; // of the common structure, which is used most
  readonly #common: number;
  readonly #isr: Structure;
  readonly #config: Structure | null;
  readonly #notify: BusSpace;
  readonly #notifyOffset: number;
  readonly #notifyLength: number;
  readonly #notifyMultiplier: number;
  // By queue: where its doorbell is, and what to write there.
  #notifyAt = new Float64Array(0);
  #notifyValue = new Uint16Array(0);
  #features = NO_FEATURES;
  msix = false;

  constructor(common: Structure, isr: Structure, config: Structure | null, notify: Structure, multiplier: number) {
    this.#space = common.space;
    this.#common = common.offset;
    // A structure that ends before them belongs to a device that must not offer them. §4.1.4.3.1
    const later = common.length >= C.queue_reset.at + C.queue_reset.width;
    this.possible = later ? featuresOr(MODERN_FEATURES, LATER_FEATURES) : MODERN_FEATURES;
    this.#isr = isr;
    this.#config = config;
    this.#notify = notify.space;
    this.#notifyOffset = notify.offset;
    this.#notifyLength = notify.length;
    this.#notifyMultiplier = multiplier;
  }

  getStatus(): number {
    return this.#space.read1(this.#common + C.device_status.at);
  }
  setStatus(status: number): void {
    this.#space.write1(this.#common + C.device_status.at, status);
  }
  hostFeatures(): VirtioFeatures {
    this.#space.write4(this.#common + C.device_feature_select.at, 0);
    const lo = this.#space.read4(this.#common + C.device_feature.at);
    this.#space.write4(this.#common + C.device_feature_select.at, 1);
    return { lo, hi: this.#space.read4(this.#common + C.device_feature.at) };
  }
  setGuestFeatures(features: VirtioFeatures): void {
    this.#space.write4(this.#common + C.driver_feature_select.at, 0);
    this.#space.write4(this.#common + C.driver_feature.at, features.lo);
    this.#space.write4(this.#common + C.driver_feature_select.at, 1);
    this.#space.write4(this.#common + C.driver_feature.at, features.hi);
    this.#features = features;
  }
  vqSize(index: number): number {
    if (index >= this.#space.read2(this.#common + C.num_queues.at)) return 0;
    this.#space.write2(this.#common + C.queue_select.at, index);
    return this.#space.read2(this.#common + C.queue_size.at);
  }
  setVq(vq: Virtqueue): void {
    const at = this.#common;
    this.#space.write2(at + C.queue_select.at, vq.index);
    this.#space.write2(at + C.queue_size.at, vq.size);
    this.#write8(at + C.queue_desc_lo.at, vq.descPaddr);
    this.#write8(at + C.queue_driver_lo.at, vq.availPaddr);
    this.#write8(at + C.queue_device_lo.at, vq.usedPaddr);
    const doorbell = this.#space.read2(at + C.queue_notify_off.at) * this.#notifyMultiplier;
    if (doorbell + (hasFeature(this.#features, VIRTIO_F_NOTIFICATION_DATA) ? 4 : 2) > this.#notifyLength)
      throw new DriverError("EINVAL", `${vq.name}: its doorbell lies outside the notification structure`);
    if (vq.index >= this.#notifyAt.length) {
      const [places, values] = [new Float64Array(vq.index + 1), new Uint16Array(vq.index + 1)];
      places.set(this.#notifyAt);
      values.set(this.#notifyValue);
      this.#notifyAt = places;
      this.#notifyValue = values;
    }
    this.#notifyAt[vq.index] = this.#notifyOffset + doorbell;
    this.#notifyValue[vq.index] = hasFeature(this.#features, VIRTIO_F_NOTIF_CONFIG_DATA)
      ? this.#space.read2(at + C.queue_notif_config_data.at)
      : vq.index;
  }
  enableVq(index: number): void {
    this.#space.write2(this.#common + C.queue_select.at, index);
    this.#space.write2(this.#common + C.queue_enable.at, 1);
  }
  resetVq(index: number): void {
    this.#space.write2(this.#common + C.queue_select.at, index);
    this.#space.write2(this.#common + C.queue_reset.at, 1);
  }
  isResetting(index: number): boolean {
    this.#space.write2(this.#common + C.queue_select.at, index);
    return this.#space.read2(this.#common + C.queue_reset.at) !== 0;
  }
  setConfigVector(vector: number): number {
    this.#space.write2(this.#common + C.config_msix_vector.at, vector);
    return this.#space.read2(this.#common + C.config_msix_vector.at);
  }
  setVqVector(index: number, vector: number): number {
    this.#space.write2(this.#common + C.queue_select.at, index);
    this.#space.write2(this.#common + C.queue_msix_vector.at, vector);
    return this.#space.read2(this.#common + C.queue_msix_vector.at);
  }
  readIsr(): number {
    return this.#isr.space.read1(this.#isr.offset);
  }
  notify(index: number, next: number): void {
    const value = this.#notifyValue[index]!;
    if (hasFeature(this.#features, VIRTIO_F_NOTIFICATION_DATA))
      this.#notify.write4(this.#notifyAt[index]!, (value | (next << 16)) >>> 0);
    else this.#notify.write2(this.#notifyAt[index]!, value);
  }
  configGeneration(): number {
    return this.#space.read1(this.#common + C.config_generation.at);
  }
  configRead1(offset: number): number {
    const config = this.#deviceConfig(offset, 1);
    return config.space.read1(config.offset + offset);
  }
  configRead2(offset: number): number {
    const config = this.#deviceConfig(offset, 2);
    return config.space.read2(config.offset + offset);
  }
  configWrite1(offset: number, value: number): void {
    const config = this.#deviceConfig(offset, 1);
    config.space.write1(config.offset + offset, value);
  }

  #deviceConfig(offset: number, bytes: number): Structure {
    const config = this.#config;
    if (config === null || offset + bytes > config.length)
      throw new DriverError("EINVAL", `device configuration byte ${offset} is not there`);
    return config;
  }

  /** 64-bit fields are two independent halves. §4.1.3.1 */
  #write8(at: number, value: number): void {
    this.#space.write4(at, value >>> 0);
    this.#space.write4(at + 4, Math.floor(value / 0x1_0000_0000));
  }
}

/** Where the first usable structure of a type is, as its capability says. §4.1.4.1 */
interface StructureCap {
  readonly bar: number;
  readonly offset: number;
  readonly length: number;
  readonly cap: number;
}

const findStructure = (view: PciProbe, type: number, minimum: number): StructureCap | null => {
  for (let cap = view.findCap(VIRTIO_PCI_CAP_VNDR); cap !== null; cap = view.findCap(VIRTIO_PCI_CAP_VNDR, cap)) {
    if (view.readConfig(cap + VIRTIO_PCI_CAP_CFG_TYPE, 1) !== type) continue;
    const bar = view.readConfig(cap + VIRTIO_PCI_CAP_BAR, 1);
    const offset = view.readConfig(cap + VIRTIO_PCI_CAP_OFFSET, 4);
    const length = view.readConfig(cap + VIRTIO_PCI_CAP_LENGTH, 4);
    if (bar < PCI_STD_NUM_BARS && length >= minimum) return { bar, offset, length, cap };
  }
  return null;
};

const findCommon = (view: PciProbe) => findStructure(view, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_COMMON_CFG_SIZE_1_0);
const findIsr = (view: PciProbe) => findStructure(view, VIRTIO_PCI_CAP_ISR_CFG, 1);
const findNotify = (view: PciProbe) => findStructure(view, VIRTIO_PCI_CAP_NOTIFY_CFG, 2);

/** Whether a function has what a modern driver needs. §4.1.4.1 */
export const hasModernRegisters = (view: PciProbe): boolean =>
  findCommon(view) !== null && findIsr(view) !== null && findNotify(view) !== null;

/** One window per BAR, however many structures lie in it. */
export const windows = (dev: Device<PciAttach>): ((bar: number) => BusSpace) => {
  const spaces = new Map<number, BusSpace>();
  return (bar) => {
    let space = spaces.get(bar);
    if (space === undefined) {
      const rid = PCI_BASE_ADDRESS_0 + 4 * bar;
      const io = (dev.bus.readConfig(rid, 4) & PCI_BASE_ADDRESS_SPACE_IO) !== 0;
      space = dev.resources.use(dev.bus.alloc(io ? "ioport" : "memory", rid));
      spaces.set(bar, space);
    }
    return space;
  };
};

/** Maps the structures. @throws DriverError, ResourceError */
export const mapModern = (pci: PciAttach, window: (bar: number) => BusSpace): ModernRegisters => {
  const map = (cap: StructureCap | null, what: string): Structure => {
    if (cap === null) throw new DriverError("ENXIO", `no usable ${what} structure`);
    const space = window(cap.bar);
    if (cap.offset + cap.length > space.size) throw new DriverError("ENXIO", `the ${what} structure leaves its BAR`);
    return { space, offset: cap.offset, length: cap.length };
  };
  const common = map(findCommon(pci), "common");
  const isr = map(findIsr(pci), "ISR");
  const notifyCap = findNotify(pci);
  const notify = map(notifyCap, "notification");
  const multiplier = pci.readConfig((notifyCap as StructureCap).cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
  const config = findStructure(pci, VIRTIO_PCI_CAP_DEVICE_CFG, 1); // optional: not every type has one. §4.1.4.6
  return new ModernRegisters(common, isr, config && map(config, "device configuration"), notify, multiplier);
};
