import type { GuestBus } from "../../contract/index.js";
import {
  BUS_PROBE_DEFAULT,
  type BusClass,
  type Device,
  type DmaConstraints,
  type DmaMemory,
  type DmaTag,
  type Driver,
} from "../types.js";
import type { Virtqueue } from "./virtqueue.js";

/**
 * The virtio bus: what a transport offers to the one child on it, by the names of FreeBSD's virtio_bus_if.m and virtio_if.m.
 * A child's driver knows nothing of PCI.
 */

/** A set of feature bits 0 … 63, as the two words in which devices show them. */
export interface VirtioFeatures {
  readonly lo: number;
  readonly hi: number;
}

export const NO_FEATURES: VirtioFeatures = { lo: 0, hi: 0 };

/** The set of the given bit numbers, each 0 … 63. */
export const virtioFeatures = (...bits: readonly number[]): VirtioFeatures => {
  let lo = 0;
  let hi = 0;
  for (const bit of bits) {
    if (bit < 32) lo |= 1 << bit;
    else hi |= 1 << (bit - 32);
  }
  return { lo: lo >>> 0, hi: hi >>> 0 };
};

export const featuresAnd = (a: VirtioFeatures, b: VirtioFeatures): VirtioFeatures => ({
  lo: (a.lo & b.lo) >>> 0,
  hi: (a.hi & b.hi) >>> 0,
});

export const featuresOr = (a: VirtioFeatures, b: VirtioFeatures): VirtioFeatures => ({
  lo: (a.lo | b.lo) >>> 0,
  hi: (a.hi | b.hi) >>> 0,
});

/** Those of `a` that are not in `b`. */
export const featuresWithout = (a: VirtioFeatures, b: VirtioFeatures): VirtioFeatures => ({
  lo: (a.lo & ~b.lo) >>> 0,
  hi: (a.hi & ~b.hi) >>> 0,
});

export const hasFeature = (features: VirtioFeatures, bit: number): boolean =>
  ((bit < 32 ? features.lo >>> bit : features.hi >>> (bit - 32)) & 1) !== 0;

/** What a probe of a virtio child sees. */
export interface VirtioProbe {
  /** virtio device id, §5: 1 network, 2 block … */
  readonly deviceType: number;
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  /** the registers of VIRTIO 1.0 and later, and so its rules */
  readonly modern: boolean;
}

/** One queue of `allocVirtqueues`. */
export interface VqAllocInfo {
  /** for messages, such as `vtnet0-rx0` */
  readonly name: string;
  /** segments of the largest buffer that may use an indirect table; 0 or 1: no tables */
  readonly maxIndirect: number;
  /** interrupt handler; null for a queue that is polled */
  readonly handler: (() => void) | null;
  /** number of the queue; default its place in the list */
  readonly index?: number;
}

/** What a transport tells its child. virtio_if.m */
export interface VirtioCallbacks {
  /** The device is at DRIVER_OK: from now on it works its queues. */
  attachCompleted?(): void;
  /** The device configuration has changed, or the device asks for a reset. */
  configChange?(): void;
}

/** What a driver of a virtio child holds: its transport. */
export interface VirtioAttach extends VirtioProbe {
  setCallbacks(callbacks: VirtioCallbacks): void;
  /** Tells the device which of its features the child and the transport want; may be repeated before the next step. */
  negotiateFeatures(wanted: VirtioFeatures): VirtioFeatures;
  /** Ends the negotiation. @throws DriverError EOPNOTSUPP when the device refuses */
  finalizeFeatures(): void;
  withFeature(bit: number): boolean;
  /** Makes the queues, all at once; they live as long as the child, and come in the order of the list. @throws DriverError, ResourceError */
  allocVirtqueues(infos: readonly VqAllocInfo[]): readonly Virtqueue[];
  /** Finds interrupts for the queues and for configuration changes, and enables the queues. @throws ResourceError */
  setupIntr(): void;
  /** Copies out of the device configuration; several bytes are from one moment. */
  readDeviceConfig(offset: number, target: Uint8Array): void;
  readDeviceConfig2(offset: number): number;
  writeDeviceConfig(offset: number, source: Uint8Array): void;
  /** The device has set DEVICE_NEEDS_RESET. */
  needsReset(): boolean;
  /** The child gives up: FAILED, then a reset. */
  fail(): void;
  /** Resets the device: afterwards it touches no memory. @throws DriverError ETIMEDOUT */
  stop(): void;
  /**
   * After `stop`: everything again up to the queues, whose rings are empty then.
   * @param features of those with which the child attached; the transport adds its own
   * @throws DriverError EOPNOTSUPP when the device no longer offers them
   */
  reinit(features: VirtioFeatures): void;
  /** DRIVER_OK. */
  reinitComplete(): void;
  /**
   * Resets one queue while the others go on, and enables it again with an empty ring. §2.6.1
   * @param between runs when the device has let go of the queue's buffers: drains it
   * @returns false when RING_RESET was not accepted, and then nothing has happened; @throws DriverError
   */
  restartVq(vq: Virtqueue, between: () => void): boolean;
  /** Runs the handlers as if there had been an interrupt. */
  poll(): void;
  /** Runs the handler of a queue at the next `poll` of the machine: for one that used up its budget. */
  scheduleVq(index: number): void;
  /** for buffers of the child; dispose it */
  dmaTag(constraints?: Partial<DmaConstraints>): DmaTag;
  readonly machine: GuestBus;
}

const hex8 = (value: number): string => `0x${value.toString(16).padStart(8, "0")}`;

/** The class of virtio transports' children. */
export const VIRTIO: BusClass<VirtioProbe, VirtioAttach> = {
  name: "virtio",
  pnpinfo: (view) =>
    `vendor=${hex8(view.vendor)} device=${hex8(view.device)} subvendor=${hex8(view.subvendor)} device_type=${hex8(view.deviceType)}`,
  location: () => "",
  view: ({ deviceType, vendor, device, subvendor, subdevice, modern }) => ({
    deviceType,
    vendor,
    device,
    subvendor,
    subdevice,
    modern,
  }),
  // Before the memory of a child whose attach has thrown goes back, the device must have let go of it.
  services: { silence: (transport) => transport.fail() },
  matches: (view, match) =>
    (match.deviceType === undefined || match.deviceType === view.deviceType) &&
    (match.vendor === undefined || match.vendor === view.vendor) &&
    (match.device === undefined || match.device === view.device) &&
    (match.subvendor === undefined || match.subvendor === view.subvendor) &&
    (match.subdevice === undefined || match.subdevice === view.subdevice),
};

/** What the softc of a driver of a virtio child does. */
interface VirtioSoftc {
  detach(): void;
  suspend(): void;
  resume(): void;
}

/** Makes the driver of one type of virtio devices. @param desc as FreeBSD describes it */
export const virtioDriver = <S extends VirtioSoftc>(
  name: string,
  deviceType: number,
  desc: string,
  attach: (dev: Device<VirtioAttach>) => S,
): Driver<VirtioProbe, VirtioAttach, S> => ({
  name,
  bus: VIRTIO,
  pnp: [{ deviceType }],
  probe: (view) => (view.deviceType === deviceType ? { priority: BUS_PROBE_DEFAULT, desc } : null),
  attach,
  detach: (_dev, softc) => softc.detach(),
  suspend: (_dev, softc) => softc.suspend(),
  resume: (_dev, softc) => softc.resume(),
  shutdown: (_dev, softc) => softc.suspend(),
});

/** Contiguous memory for a child, which goes back with it. */
export const virtioMemory = (dev: Device<VirtioAttach>, bytes: number, alignment: number): DmaMemory => {
  const tag = dev.resources.use(dev.bus.dmaTag({ alignment, nsegments: 1 }));
  return dev.resources.use(tag.alloc(bytes));
};
