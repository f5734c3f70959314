import type { GuestBus } from "../../contract/index.js";
import {
  PCI_CAP_ID_MSIX,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_TABLE,
  PCI_MSIX_TABLE_BIR,
} from "../../spec/pci.js";
import {
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
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
  VIRTIO_ID_9P,
  VIRTIO_ID_BALLOON,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_CONSOLE,
  VIRTIO_ID_NET,
  VIRTIO_ID_RNG,
  VIRTIO_ID_SCSI,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
  VIRTIO_PCI_MODERN_ID_BASE,
  VIRTIO_PCI_MODERN_ID_LAST,
  VIRTIO_PCI_TRANSITIONAL_ID_FIRST,
  VIRTIO_PCI_TRANSITIONAL_ID_LAST,
  VIRTIO_PCI_VRING_ALIGN,
} from "../../spec/virtio.js";
import { PCI } from "../pci-class.js";
import {
  BUS_PROBE_DEFAULT,
  BusError,
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
import { SplitVirtqueue } from "./split-virtqueue.js";
import {
  featuresAnd,
  featuresOr,
  featuresWithout,
  hasFeature,
  NO_FEATURES,
  VIRTIO,
  type VirtioAttach,
  type VirtioCallbacks,
  type VirtioFeatures,
  type VqAllocInfo,
  virtioFeatures,
} from "./virtio-bus.js";
import {
  hasModernRegisters,
  LegacyRegisters,
  mapModern,
  type VirtioRegisters,
  windows,
} from "./virtio-pci-registers.js";
import type { Virtqueue } from "./virtqueue.js";

/**
 * virtio_pci: the transport on PCI, with the registers of the legacy interface or those of VIRTIO 1.0 and later. It finds the
 * function, its windows and interrupts, and is the bus of exactly one child.
 *
 * Attach: bus master, windows, reset, ACKNOWLEDGE, child, DRIVER, the child's attach, DRIVER_OK; or FAILED, reset and
 * ACKNOWLEDGE again, for the next driver. @see VIRTIO 1.3 §3.1.1, §4.1.5.1
 */

/** Polls of 1 ms each for the end of a reset; devices answer at once, or after their last write has ended. §4.1.4.3.2 */
const RESET_POLLS = 1000;
/** The doubtful reads of several bytes are repeated this often before one is believed. */
const CONFIG_TRIES = 100;
/** What an absent function reads as. */
const GONE = 0xff;

// ------------------------------------------------------------------------------------------------ the transport

/** Interrupts by scheme, in the order in which they are tried. */
const SCHEMES = ["msix", "msix-shared", "msi", "intx"] as const;
/** One message per queue; one for all queues; one message for everything; the pin. Configuration changes have their own with MSI-X. */
export type InterruptScheme = (typeof SCHEMES)[number];

/** Those of the transport's and the ring's range that are a child's to want. */
const CHILD_FEATURES = virtioFeatures(VIRTIO_F_ANY_LAYOUT, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX);
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

/** A queue of the child's, and who hears of it. */
interface Queue {
  readonly vq: Virtqueue;
  readonly handler: (() => void) | null;
  /** as the device was told; NO_VECTOR for a queue that is polled */
  vector: number;
  cookie: InterruptCookie | null;
}

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
  readonly #regs: VirtioRegisters;
  readonly #msixCap: number | null;
  readonly #firstScheme: number;
  /** what the transport wants by itself: a child's driver need not know of it */
  readonly #own: VirtioFeatures;

  #features: VirtioFeatures = NO_FEATURES;
  /** Those with which the child attached: its queues and buffers are made for them. */
  #granted: VirtioFeatures = NO_FEATURES;
  #callbacks: VirtioCallbacks = {};
  #queues: Queue[] = [];
  #vqTag: DmaTag | null = null;
  #scheme: InterruptScheme | null = null;
  #irqs: Irq[] = [];
  #cookies: InterruptCookie[] = [];
  #pending = 0; // ISR bits that the filter has read and the handler has not seen

  constructor(dev: Device<PciAttach>, regs: VirtioRegisters, options: VirtioPciOptions) {
    const pci = dev.bus;
    this.#dev = dev;
    this.#regs = regs;
    this.#firstScheme = SCHEMES.indexOf(options.interrupts ?? "msix");
    // Deviation: FreeBSD leaves ACCESS_PLATFORM out, and QEMU then refuses with iommu_platform=on; bus_dma's addresses are
    // what the platform translates, if it does. §6.1
    const own: number[] = [VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM];
    if (options.packed !== false) own.push(VIRTIO_F_RING_PACKED);
    if (options.inOrder === true) own.push(VIRTIO_F_IN_ORDER);
    if (options.ringReset === true) own.push(VIRTIO_F_RING_RESET);
    if (options.notificationData === true) own.push(VIRTIO_F_NOTIFICATION_DATA);
    if (options.notifConfigData === true) own.push(VIRTIO_F_NOTIF_CONFIG_DATA);
    this.#own = featuresAnd(virtioFeatures(...own), regs.possible);
    this.#msixCap = pci.findCap(PCI_CAP_ID_MSIX);
    this.#noteMsix(); // whoever drove it before may have left messages on
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
    const known = featuresAnd(wanted, featuresOr(CHILD_FEATURES, DEVICE_TYPE_FEATURES));
    this.#features = featuresAnd(this.#regs.hostFeatures(), featuresOr(known, this.#own));
    this.#regs.setGuestFeatures(this.#features);
    return this.#features;
  }

  finalizeFeatures(): void {
    this.#granted = this.#features;
    this.#confirmFeatures();
  }

  withFeature(bit: number): boolean {
    return hasFeature(this.#features, bit);
  }

  allocVirtqueues(infos: readonly VqAllocInfo[]): readonly Virtqueue[] {
    // 32 bits: the address register of the legacy interface holds 44, and FreeBSD keeps to 32 for both.
    this.#vqTag = this.dmaTag({ alignment: VIRTIO_PCI_VRING_ALIGN, lowaddr: 0xffff_ffff, nsegments: 1 });
    const Format = this.withFeature(VIRTIO_F_RING_PACKED) ? PackedVirtqueue : SplitVirtqueue;
    for (const [i, info] of infos.entries()) {
      const index = info.index ?? i;
      const size = this.#vqSize(index);
      if (size === 0) throw new DriverError("ENXIO", `${info.name}: the device has no queue ${index}`);
      const vq = new Format({
        name: info.name,
        index,
        size,
        align: VIRTIO_PCI_VRING_ALIGN,
        maxIndirect: this.withFeature(VIRTIO_F_INDIRECT_DESC) ? info.maxIndirect : 0,
        eventIdx: this.withFeature(VIRTIO_F_EVENT_IDX),
        inOrder: this.withFeature(VIRTIO_F_IN_ORDER),
        tag: this.#vqTag,
        notifyVq: this.#notifyVq,
      });
      this.#queues.push({ vq, handler: info.handler, vector: VIRTIO_MSI_NO_VECTOR, cookie: null });
      this.#regs.setVq(vq);
    }
    return this.#queues.map(({ vq }) => vq);
  }

  setupIntr(): void {
    let why: unknown = null;
    for (const scheme of SCHEMES.slice(this.#firstScheme)) {
      try {
        this.#setupScheme(scheme);
        this.#scheme = scheme;
        for (const { vq } of this.#queues) this.#regs.enableVq(vq.index);
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
    this.#features = featuresAnd(this.#granted, featuresOr(features, this.#own));
    const missing = featuresWithout(this.#features, this.#regs.hostFeatures());
    if (missing.lo !== 0 || missing.hi !== 0)
      throw new DriverError("EOPNOTSUPP", "the device no longer offers what it did when it was attached");
    this.#regs.setGuestFeatures(this.#features);
    this.#confirmFeatures();
    for (const { vq } of this.#queues) {
      vq.reinit(this.#vqSize(vq.index));
      this.#regs.setVq(vq);
    }
    if (this.#usesVectors) this.#setVectors();
    for (const { vq } of this.#queues) this.#regs.enableVq(vq.index);
  }

  restartVq(vq: Virtqueue, between: () => void): boolean {
    if (!this.withFeature(VIRTIO_F_RING_RESET)) return false;
    this.#regs.resetVq(vq.index);
    for (let polls = 0; this.#regs.isResetting(vq.index); polls++) {
      if (polls === RESET_POLLS) throw new DriverError("ETIMEDOUT", `${vq.name}: still in reset after ${polls} ms`);
      this.machine.delay(1000);
    }
    between(); // the device has let go of its buffers
    vq.reinit(this.#vqSize(vq.index));
    this.#regs.setVq(vq);
    const queue = this.#queueOf(vq.index);
    if (queue !== undefined && this.#usesVectors) this.#setVector(queue);
    this.#regs.enableVq(vq.index);
    return true;
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
    this.#queueOf(index)?.cookie?.schedule();
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
      for (const { vq } of this.#queues.splice(0).reverse()) vq[Symbol.dispose]();
      this.#vqTag?.[Symbol.dispose]();
      this.#vqTag = null;
      this.#features = this.#granted = NO_FEATURES;
    }
  }

  /** Ends a negotiation. §3.1.1 step 5 */
  #confirmFeatures(): void {
    if (!this.modern) return; // the legacy interface has no FEATURES_OK
    if (!hasFeature(this.#features, VIRTIO_F_VERSION_1))
      throw new DriverError("EOPNOTSUPP", "the device has modern registers and does not offer VIRTIO_F_VERSION_1");
    this.#addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
    if ((this.#regs.getStatus() & VIRTIO_CONFIG_S_FEATURES_OK) === 0)
      throw new DriverError("EOPNOTSUPP", "the device refuses these features: FEATURES_OK did not stay");
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

  readonly #notifyVq = (index: number, next: number): void => this.#regs.notify(index, next);

  #setupScheme(scheme: InterruptScheme): void {
    const pci = this.#dev.bus;
    if (scheme === "msix" || scheme === "msix-shared") {
      const shared = scheme === "msix-shared";
      const wanted = 1 + (shared ? 1 : this.#queues.filter(({ handler }) => handler !== null).length);
      if (this.#msixCap === null || pci.msixCount() < wanted)
        throw new DriverError("ENXIO", `${scheme}: ${wanted} vectors are wanted`);
      this.#irqs = pci.allocMsix(wanted);
      if (this.#irqs.length < wanted) throw new DriverError("ENXIO", `${scheme}: ${this.#irqs.length} of ${wanted}`);
      let vector = 0; // 0 is for the configuration, 1 … for queues
      this.#cookies.push(pci.setupIntr(this.#irqs[vector]!, { handler: () => this.#callbacks.configChange?.() }));
      if (shared) this.#cookies.push(pci.setupIntr(this.#irqs[++vector]!, { handler: () => this.#queueHandlers() }));
      for (const queue of this.#queues) {
        const { handler } = queue;
        if (handler !== null && !shared) this.#cookies.push(pci.setupIntr(this.#irqs[++vector]!, { handler }));
        queue.vector = handler === null ? VIRTIO_MSI_NO_VECTOR : vector;
        queue.cookie = handler === null ? null : this.#cookies.at(-1)!;
      }
      this.#noteMsix();
      this.#setVectors();
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
    for (const queue of this.#queues) queue.cookie = queue.handler === null ? null : cookie;
  }

  get #usesVectors(): boolean {
    return this.#scheme === "msix" || this.#scheme === "msix-shared";
  }

  #queueOf(index: number): Queue | undefined {
    return this.#queues.find(({ vq }) => vq.index === index);
  }

  /** Maps events to vectors. §4.1.5.1.2.2 */
  #setVectors(): void {
    if (this.#regs.setConfigVector(0) !== 0) throw new DriverError("ENXIO", "no vector for configuration changes");
    for (const queue of this.#queues) this.#setVector(queue);
  }

  /** The device repeats a vector it has accepted. */
  #setVector({ vq, vector }: Queue): void {
    if (this.#regs.setVqVector(vq.index, vector) !== vector) throw new DriverError("ENXIO", `${vq.name}: no vector`);
  }

  #releaseIntr(): void {
    for (const cookie of this.#cookies.splice(0).reverse()) cookie[Symbol.dispose]();
    for (const irq of this.#irqs.splice(0).reverse()) irq[Symbol.dispose]();
    for (const queue of this.#queues) queue.cookie = null;
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
    for (let i = 0; i < this.#queues.length; i++) this.#queues[i]!.handler?.();
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
  // What FreeBSD does not know; taken by modern registers, where the device offers it and it is asked for here. Default false
  /** Uses descriptors in the order of the ring, and takes back batches */
  readonly inOrder?: boolean;
  /** Resets queues one by one: see `restartVq` */
  readonly ringReset?: boolean;
  /** Says with each doorbell where the ring goes on */
  readonly notificationData?: boolean;
  /** Rings with a value that the device has chosen for the queue */
  readonly notifConfigData?: boolean;
}

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
