import type { GuestBus } from "../../contract/index.js";
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_CAP_ID_MSIX,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_TABLE,
  PCI_MSIX_TABLE_BIR,
  PCI_STD_NUM_BARS,
} from "../../spec/pci.js";
import {
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_9P,
  VIRTIO_ID_BALLOON,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_CONSOLE,
  VIRTIO_ID_NET,
  VIRTIO_ID_RNG,
  VIRTIO_ID_SCSI,
  VIRTIO_MSI_NO_VECTOR,
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
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
  VIRTIO_PCI_LEGACY,
  VIRTIO_PCI_MODERN_ID_BASE,
  VIRTIO_PCI_MODERN_ID_LAST,
  VIRTIO_PCI_NOTIFY_CAP_MULT,
  VIRTIO_PCI_QUEUE_ADDR_SHIFT,
  VIRTIO_PCI_TRANSITIONAL_ID_FIRST,
  VIRTIO_PCI_TRANSITIONAL_ID_LAST,
  VIRTIO_PCI_VRING_ALIGN,
} from "../../spec/virtio.js";
import { PCI } from "../pci-class.js";
import {
  BUS_PROBE_DEFAULT,
  BusError,
  type BusSpace,
  type Device,
  type DmaConstraints,
  type DmaTag,
  type Driver,
  DriverError,
  type InterruptCookie,
  type Irq,
  type PciAttach,
  type PciProbe,
} from "../types.js";
import { PackedVirtqueue } from "./packed-virtqueue.js";
import {
  featuresAnd,
  featuresOr,
  hasFeature,
  NO_FEATURES,
  VIRTIO,
  type VirtioAttach,
  type VirtioCallbacks,
  type VirtioFeatures,
  type VqAllocInfo,
  virtioFeatures,
} from "./virtio-bus.js";
import { SplitVirtqueue } from "./split-virtqueue.js";
import type { Virtqueue } from "./virtqueue.js";

/**
 * virtio_pci: the transport on PCI, with the registers of the legacy interface or those of VIRTIO 1.0 and later. It finds the
 * function, its windows and interrupts, and is the bus of exactly one child.
 *
 * Attach: bus master, windows, reset, ACKNOWLEDGE, child, DRIVER, the child's attach, DRIVER_OK; or FAILED, reset and
 * ACKNOWLEDGE again, for the next driver. @see VIRTIO 1.3 §3.1.1, §4.1.5.1
 */

// ------------------------------------------------------------------------------------------------ registers

/** Reset polls of 1 ms each; devices answer at once, or after their last write has ended. §4.1.4.3.2 */
const RESET_POLLS = 1000;
/** The doubtful reads of several bytes are repeated this often before one is believed. */
const CONFIG_TRIES = 100;
/** What an absent function reads as. */
const GONE = 0xff;

/** What differs between the two register layouts; FreeBSD's virtio_pci_if.m */
interface Registers {
  readonly modern: boolean;
  getStatus(): number;
  setStatus(status: number): void;
  hostFeatures(): VirtioFeatures;
  setGuestFeatures(features: VirtioFeatures): void;
  /** descriptors of a queue, 0 where there is none */
  vqSize(index: number): number;
  setVq(vq: Virtqueue): void;
  enableVq(index: number): void;
  /** @returns the vector as the device repeats it */
  setConfigVector(vector: number): number;
  setVqVector(index: number, vector: number): number;
  readIsr(): number;
  notify(index: number): void;
  /** changes with the device configuration; −1 where there is no such thing */
  configGeneration(): number;
  configRead1(offset: number): number;
  configRead2(offset: number): number;
  configWrite1(offset: number, value: number): void;
  /** MSI-X was switched on or off */
  msix: boolean;
}

const L = VIRTIO_PCI_LEGACY.regs;

/** BAR 0 of legacy and transitional devices. §4.1.4.10 */
class LegacyRegisters implements Registers {
  readonly modern = false;
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
class ModernRegisters implements Registers {
  readonly modern = true;
  readonly #space: BusSpace; // of the common structure, which is used most
  readonly #common: number;
  readonly #isr: Structure;
  readonly #config: Structure | null;
  readonly #notify: BusSpace;
  readonly #notifyOffset: number;
  readonly #notifyLength: number;
  readonly #notifyMultiplier: number;
  #notifyAt = new Float64Array(0); // by queue
  msix = false;

  constructor(common: Structure, isr: Structure, config: Structure | null, notify: Structure, multiplier: number) {
    this.#space = common.space;
    this.#common = common.offset;
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
    if (doorbell + 2 > this.#notifyLength)
      throw new DriverError("EINVAL", `${vq.name}: its doorbell lies outside the notification structure`);
    if (vq.index >= this.#notifyAt.length) {
      const grown = new Float64Array(vq.index + 1);
      grown.set(this.#notifyAt);
      this.#notifyAt = grown;
    }
    this.#notifyAt[vq.index] = this.#notifyOffset + doorbell;
  }
  enableVq(index: number): void {
    this.#space.write2(this.#common + C.queue_select.at, index);
    this.#space.write2(this.#common + C.queue_enable.at, 1);
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
  notify(index: number): void {
    this.#notify.write2(this.#notifyAt[index]!, index);
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

const hasModernRegisters = (view: PciProbe): boolean =>
  findCommon(view) !== null && findIsr(view) !== null && findNotify(view) !== null;

// ------------------------------------------------------------------------------------------------ the transport

/** Interrupts by scheme, in the order in which they are tried. */
const SCHEMES = ["msix", "msix-shared", "msi", "intx"] as const;
/** One message per queue; one for all queues; one message for everything; the pin. Configuration changes have their own with MSI-X. */
export type InterruptScheme = (typeof SCHEMES)[number];

/** Features of the transport's and the ring's range that this side knows. */
const TRANSPORT_FEATURES = virtioFeatures(
  VIRTIO_F_ANY_LAYOUT,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
);
/** Bits 0 … 23 and 50 … 63 belong to the device type. §2.2 */
const DEVICE_TYPE_FEATURES: VirtioFeatures = { lo: 0x00ff_ffff, hi: 0xfffc_0000 };

/** As FreeBSD's virtio.c calls them. */
const DEVICE_NAMES: { readonly [deviceType: number]: string } = {
  [VIRTIO_ID_NET]: "Network",
  [VIRTIO_ID_BLOCK]: "Block",
  [VIRTIO_ID_CONSOLE]: "Console",
  [VIRTIO_ID_RNG]: "Entropy",
  [VIRTIO_ID_BALLOON]: "Balloon",
  [VIRTIO_ID_SCSI]: "SCSI",
  [VIRTIO_ID_9P]: "9P Transport",
};

/** Modern ids count up from 0x1040; the older ones follow no rule, there the subsystem id tells. §4.1.2.1 */
const deviceType = (view: PciProbe): number =>
  view.device >= VIRTIO_PCI_MODERN_ID_BASE ? view.device - VIRTIO_PCI_MODERN_ID_BASE : view.subdevice;

/** One virtio function on PCI: the transport its child holds. */
export class VirtioPci implements VirtioAttach {
  readonly deviceType: number;
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  readonly modern: boolean;
  readonly machine: GuestBus;
  readonly #dev: Device<PciAttach>;
  readonly #regs: Registers;
  readonly #msixCap: number | null;
  readonly #firstScheme: number;
  /** what the transport wants by itself: a child's driver need not know of it */
  readonly #own: VirtioFeatures;

  #features: VirtioFeatures = NO_FEATURES;
  #callbacks: VirtioCallbacks = {};
  #infos: readonly VqAllocInfo[] = [];
  #vqs: Virtqueue[] = [];
  #vqTag: DmaTag | null = null;
  #scheme: InterruptScheme | null = null;
  #irqs: Irq[] = [];
  #cookies: InterruptCookie[] = [];
  #vqCookies: (InterruptCookie | null)[] = []; // by queue
  #pending = 0; // ISR bits that the filter has read and the handler has not seen

  constructor(dev: Device<PciAttach>, regs: Registers, options: VirtioPciOptions) {
    const pci = dev.bus;
    this.#dev = dev;
    this.#regs = regs;
    this.#firstScheme = SCHEMES.indexOf(options.interrupts ?? "msix");
    const packed = options.packed === false ? [] : [VIRTIO_F_RING_PACKED];
    this.#own = regs.modern ? virtioFeatures(VIRTIO_F_VERSION_1, ...packed) : NO_FEATURES;
    this.#msixCap = pci.findCap(PCI_CAP_ID_MSIX);
    this.machine = pci.machine;
    this.vendor = pci.vendor;
    this.device = pci.device;
    this.subvendor = pci.subvendor;
    this.subdevice = pci.subdevice;
    this.modern = regs.modern;
    this.deviceType = deviceType(pci);
  }

  /** The interrupts in use; null before `setupIntr`. */
  get interruptScheme(): InterruptScheme | null {
    return this.#scheme;
  }

  setCallbacks(callbacks: VirtioCallbacks): void {
    this.#callbacks = callbacks;
  }

  negotiateFeatures(wanted: VirtioFeatures): VirtioFeatures {
    const known = featuresAnd(wanted, featuresOr(TRANSPORT_FEATURES, DEVICE_TYPE_FEATURES));
    this.#features = featuresAnd(this.#regs.hostFeatures(), featuresOr(known, this.#own));
    this.#regs.setGuestFeatures(this.#features);
    return this.#features;
  }

  finalizeFeatures(): void {
    if (!this.modern) return; // the legacy interface has no FEATURES_OK
    if (!hasFeature(this.#features, VIRTIO_F_VERSION_1))
      throw new DriverError("EOPNOTSUPP", "the device has modern registers and does not offer VIRTIO_F_VERSION_1");
    this.#addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
    if ((this.#regs.getStatus() & VIRTIO_CONFIG_S_FEATURES_OK) === 0)
      throw new DriverError("EOPNOTSUPP", "the device refuses these features: FEATURES_OK did not stay");
  }

  withFeature(bit: number): boolean {
    return hasFeature(this.#features, bit);
  }

  allocVirtqueues(infos: readonly VqAllocInfo[]): readonly Virtqueue[] {
    // 32 bits: the address register of the legacy interface holds 44, and FreeBSD keeps to 32 for both.
    this.#vqTag = this.dmaTag({ alignment: VIRTIO_PCI_VRING_ALIGN, lowaddr: 0xffff_ffff, nsegments: 1 });
    const Format = this.withFeature(VIRTIO_F_RING_PACKED) ? PackedVirtqueue : SplitVirtqueue;
    for (const [index, info] of infos.entries()) {
      const size = this.#vqSize(index);
      if (size === 0) throw new DriverError("ENXIO", `${info.name}: the device has no queue ${index}`);
      const vq = new Format({
        name: info.name,
        index,
        size,
        align: VIRTIO_PCI_VRING_ALIGN,
        maxIndirect: this.withFeature(VIRTIO_F_INDIRECT_DESC) ? info.maxIndirect : 0,
        eventIdx: this.withFeature(VIRTIO_F_EVENT_IDX),
        tag: this.#vqTag,
        notifyVq: this.#notifyVq,
      });
      this.#vqs.push(vq);
      this.#regs.setVq(vq);
    }
    this.#infos = infos;
    return this.#vqs;
  }

  setupIntr(): void {
    let why: unknown = null;
    for (const scheme of SCHEMES.slice(this.#firstScheme)) {
      try {
        this.#setupScheme(scheme);
        this.#scheme = scheme;
        for (const vq of this.#vqs) this.#regs.enableVq(vq.index);
        return;
      } catch (error) {
        if (!(error instanceof BusError)) throw error;
        why = error;
        this.#releaseIntr();
      }
    }
    throw new DriverError("ENXIO", "no interrupt for the device", { cause: why });
  }

  readDeviceConfig(offset: number, target: Uint8Array): void {
    const read = (): void => {
      for (let i = 0; i < target.length; i++) target[i] = this.#regs.configRead1(offset + i);
    };
    const before = new Uint8Array(target.length);
    for (let tries = 0; tries < CONFIG_TRIES; tries++) {
      const generation = this.#regs.configGeneration();
      read();
      if (generation < 0) {
        // Legacy devices count no generations: two equal reads in a row are believed. §2.5.3
        before.set(target);
        read();
        if (before.every((byte, i) => byte === target[i])) return;
      } else if (generation === this.#regs.configGeneration()) return;
    }
    throw new DriverError("EIO", `device configuration at ${offset} changed during each of ${CONFIG_TRIES} reads`);
  }

  readDeviceConfig2(offset: number): number {
    return this.#regs.configRead2(offset);
  }

  writeDeviceConfig(offset: number, source: Uint8Array): void {
    for (let i = 0; i < source.length; i++) this.#regs.configWrite1(offset + i, source[i]!);
  }

  needsReset(): boolean {
    const status = this.#regs.getStatus();
    return status !== GONE && (status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;
  }

  /** Every wait for a reset is the device's chance to finish what it has begun; after it no memory is touched. §2.4.1 */
  stop(): void {
    this.#regs.setStatus(0);
    for (let polls = 0; ; polls++) {
      const status = this.#regs.getStatus();
      if (status === 0 || status === GONE) return;
      if (polls === RESET_POLLS)
        throw new DriverError("ETIMEDOUT", `status still 0x${status.toString(16)} ${polls} ms after a reset`);
      this.machine.delay(1000);
    }
  }

  fail(): void {
    this.#addStatus(VIRTIO_CONFIG_S_FAILED);
    this.stop();
  }

  reinit(features: VirtioFeatures): void {
    this.#pending = 0;
    // Steps 1 … 7 of §3.1.1; a queue that was enabled once keeps its size and memory.
    this.stop();
    this.#addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE);
    this.#addStatus(VIRTIO_CONFIG_S_DRIVER);
    this.negotiateFeatures(features);
    this.finalizeFeatures();
    for (const vq of this.#vqs) {
      vq.reinit(this.#vqSize(vq.index));
      this.#regs.setVq(vq);
    }
    if (this.#scheme === "msix" || this.#scheme === "msix-shared") this.#setVectors(this.#scheme === "msix-shared");
    for (const vq of this.#vqs) this.#regs.enableVq(vq.index);
  }

  reinitComplete(): void {
    this.#addStatus(VIRTIO_CONFIG_S_DRIVER_OK);
  }

  poll(): void {
    this.#pending |= this.#regs.readIsr() | VIRTIO_PCI_ISR_QUEUE;
    this.#sharedHandler();
  }

  scheduleVq(index: number): void {
    this.#pending |= VIRTIO_PCI_ISR_QUEUE;
    this.#vqCookies[index]?.schedule();
  }

  dmaTag(constraints?: Partial<DmaConstraints>): DmaTag {
    return this.#dev.bus.dmaTag(constraints);
  }

  // ---------------------------------------------------------------------------------------------- for the driver below

  /** Steps 1 and 2 of §3.1.1, before there is a child. */
  acknowledge(): void {
    this.stop();
    this.#addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  }

  /** Step 3: a driver is about to attach. */
  childAttaching(): void {
    this.#addStatus(VIRTIO_CONFIG_S_DRIVER);
  }

  /** Step 8, and only then tell the child. */
  childAttached(): void {
    this.#addStatus(VIRTIO_CONFIG_S_DRIVER_OK);
    this.#callbacks.attachCompleted?.();
  }

  /** The child is gone, or never came: reset first, then its queues' memory, then ready for another driver. */
  childGone(): void {
    try {
      this.acknowledge();
    } finally {
      this.#releaseIntr();
      this.#callbacks = {};
      this.#infos = [];
      for (const vq of this.#vqs.splice(0).reverse()) vq[Symbol.dispose]();
      this.#vqTag?.[Symbol.dispose]();
      this.#vqTag = null;
      this.#features = NO_FEATURES;
    }
  }

  /** Status bits are only ever added; a reset clears them. §2.1.1 */
  #addStatus(bits: number): void {
    this.#regs.setStatus(this.#regs.getStatus() | bits);
  }

  /** Descriptors of a queue. Packed rings may have any number; children count their buffers in powers of two. §2.8.10.1 */
  #vqSize(index: number): number {
    const size = this.#regs.vqSize(index);
    return size > 0 && this.withFeature(VIRTIO_F_RING_PACKED) ? 2 ** Math.floor(Math.log2(size)) : size;
  }

  readonly #notifyVq = (index: number): void => this.#regs.notify(index);

  #setupScheme(scheme: InterruptScheme): void {
    const pci = this.#dev.bus;
    if (scheme === "msix" || scheme === "msix-shared") {
      const shared = scheme === "msix-shared";
      const wanted = 1 + (shared ? 1 : this.#infos.filter((info) => info.handler !== null).length);
      if (this.#msixCap === null || pci.msixCount() < wanted)
        throw new DriverError("ENXIO", `${scheme}: ${wanted} vectors are wanted`);
      this.#irqs = pci.allocMsix(wanted);
      if (this.#irqs.length < wanted) throw new DriverError("ENXIO", `${scheme}: ${this.#irqs.length} of ${wanted}`);
      let vector = 0;
      this.#cookies.push(pci.setupIntr(this.#irqs[vector]!, { handler: () => this.#callbacks.configChange?.() }));
      if (shared) this.#cookies.push(pci.setupIntr(this.#irqs[1]!, { handler: () => this.#queueHandlers() }));
      for (const { handler } of this.#infos) {
        if (handler !== null && !shared) this.#cookies.push(pci.setupIntr(this.#irqs[++vector]!, { handler }));
        this.#vqCookies.push(handler === null ? null : this.#cookies.at(-1)!);
      }
      this.#noteMsix();
      this.#setVectors(shared);
      return;
    }
    if (scheme === "msi" && pci.msiCount() === 0) throw new DriverError("ENXIO", "msi: the function has none");
    this.#irqs = scheme === "msi" ? pci.allocMsi(1) : [pci.allocIntx()];
    const cookie = pci.setupIntr(this.#irqs[0]!, {
      filter: () => {
        const isr = this.#regs.readIsr(); // reading acknowledges, and lowers the pin
        if (isr === 0 || isr === GONE) return "stray";
        this.#pending |= isr;
        return "schedule";
      },
      handler: () => this.#sharedHandler(),
    });
    this.#cookies.push(cookie);
    for (const { handler } of this.#infos) this.#vqCookies.push(handler === null ? null : cookie);
  }

  /** Maps events to vectors: 0 configuration, 1 … queues. The device repeats a vector it has accepted. §4.1.5.1.2.2 */
  #setVectors(shared: boolean): void {
    if (this.#regs.setConfigVector(0) !== 0) throw new DriverError("ENXIO", "no vector for configuration changes");
    let next = 1;
    for (const [index, { name, handler }] of this.#infos.entries()) {
      const vector = handler === null ? VIRTIO_MSI_NO_VECTOR : shared ? 1 : next++;
      if (this.#regs.setVqVector(index, vector) !== vector) throw new DriverError("ENXIO", `${name}: no vector`);
    }
  }

  #releaseIntr(): void {
    for (const cookie of this.#cookies.splice(0).reverse()) cookie[Symbol.dispose]();
    for (const irq of this.#irqs.splice(0).reverse()) irq[Symbol.dispose]();
    this.#vqCookies = [];
    this.#scheme = null;
    this.#pending = 0;
    this.#noteMsix();
  }

  #noteMsix(): void {
    this.#regs.msix =
      this.#msixCap !== null &&
      (this.#dev.bus.readConfig(this.#msixCap + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_ENABLE) !== 0;
  }

  #sharedHandler(): void {
    const isr = this.#pending;
    this.#pending = 0;
    if ((isr & VIRTIO_PCI_ISR_CONFIG) !== 0) this.#callbacks.configChange?.();
    this.#queueHandlers();
  }

  /** Which queue it was nobody says: each handler looks at its own. §4.1.5.3.1 */
  #queueHandlers(): void {
    for (let i = 0; i < this.#infos.length; i++) this.#infos[i]!.handler?.();
  }
}

// ------------------------------------------------------------------------------------------------ the driver

export interface VirtioPciOptions {
  /** Takes transitional devices by their modern registers; FreeBSD's tunable hw.virtio.pci.transitional. Default false */
  readonly modern?: boolean;
  /** The first interrupt scheme to try; default `msix` */
  readonly interrupts?: InterruptScheme;
  /** Takes packed rings where a modern device offers them; default true */
  readonly packed?: boolean;
}

/** One window per BAR, however many structures lie in it. */
const windows = (dev: Device<PciAttach>): ((bar: number) => BusSpace) => {
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

const mapModern = (pci: PciAttach, window: (bar: number) => BusSpace): ModernRegisters => {
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

/** Makes the driver `virtio_pci`. */
export const virtioPciDriver = (options: VirtioPciOptions = {}): Driver<PciProbe, PciAttach, VirtioPci> => {
  const transitional = (view: PciProbe): boolean =>
    view.device >= VIRTIO_PCI_TRANSITIONAL_ID_FIRST && view.device <= VIRTIO_PCI_TRANSITIONAL_ID_LAST;
  const useModern = (view: PciProbe): boolean =>
    (!transitional(view) || options.modern === true) && hasModernRegisters(view);
  return {
    name: "virtio_pci",
    bus: PCI,
    pnp: [{ vendor: PCI_VENDOR_ID_REDHAT_QUMRANET }],

    probe(view) {
      if (transitional(view)) {
        if (view.revid !== 0) return null; // revision 0 is what makes it legacy. §4.1.2.3
      } else if (view.device < VIRTIO_PCI_MODERN_ID_BASE || view.device > VIRTIO_PCI_MODERN_ID_LAST) return null;
      const modern = useModern(view);
      if (!modern && !transitional(view)) return null;
      const name = DEVICE_NAMES[deviceType(view)] ?? "Unknown";
      return { priority: BUS_PROBE_DEFAULT, desc: `VirtIO PCI (${modern ? "modern" : "legacy"}) ${name} adapter` };
    },

    attach(dev) {
      const pci = dev.bus;
      pci.enableBusMaster(true);
      const window = windows(dev);
      const regs = useModern(pci) ? mapModern(pci, window) : new LegacyRegisters(window(0));
      const msix = pci.findCap(PCI_CAP_ID_MSIX);
      if (msix !== null) window(pci.readConfig(msix + PCI_MSIX_TABLE, 4) & PCI_MSIX_TABLE_BIR);
      const transport = new VirtioPci(dev, regs, options);
      transport.acknowledge();
      const child = dev.addChild(VIRTIO, transport, {
        attaching: () => transport.childAttaching(),
        attached: () => transport.childAttached(),
        failed: () => transport.childGone(),
        detached: () => transport.childGone(),
      });
      dev.resources.use(child);
      child.probeAndAttach(); // without a driver for it now, one may be registered later
      return transport;
    },

    detach(_dev, transport, why) {
      if (why !== "surprise") transport.stop();
    },

    shutdown(_dev, transport) {
      transport.stop();
    },
  };
};

export const virtioPci = virtioPciDriver();
