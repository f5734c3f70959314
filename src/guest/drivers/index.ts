/**
 * Guest drivers: virtio on PCI with its network card and its disk, and RealTek's cards.
 *
 * Life: `registerDrivers(newbus)`, or a driver of one's own options by `vtnetDriver({ … })` → `newbus.scan()` attaches →
 * the softc's `ifnet` goes `up()` → `transmit`, `kick`, and `onReceive` from within `poll` → `down()`, detach.
 */
import type { Driver } from "../types.js";
import { type ReOptions, reDriver } from "./re.js";
import { type RlOptions, rlDriver } from "./rl.js";
import { type VirtioPciOptions, virtioPciDriver } from "./virtio-pci.js";
import { type VtblkOptions, vtblkDriver } from "./vtblk.js";
import { type VtnetOptions, vtnetDriver } from "./vtnet.js";

export {
  Counters,
  EthernetInterface,
  formatMac,
  frameLength,
  frameSegments,
  IFCAP_JUMBO_MTU,
  IFCAP_LINKSTATE,
  IFCAP_LRO,
  IFCAP_RXCSUM,
  IFCAP_RXCSUM_IPV6,
  IFCAP_TSO4,
  IFCAP_TSO6,
  IFCAP_TXCSUM,
  IFCAP_TXCSUM_IPV6,
  IFCAP_VLAN_HWCSUM,
  IFCAP_VLAN_HWTAGGING,
  IFCAP_VLAN_MTU,
  IFCAP_WOL_MAGIC,
  IFCAP_WOL_MCAST,
  IFCAP_WOL_UCAST,
} from "./ifnet.js";
export { PackedVirtqueue } from "./packed-virtqueue.js";
export { type Re, type ReOptions, type ReTally, re, reDriver } from "./re.js";
export { type Rl, type RlOptions, rl, rlDriver } from "./rl.js";
export { SplitVirtqueue } from "./split-virtqueue.js";
export {
  featuresAnd,
  featuresOr,
  hasFeature,
  NO_FEATURES,
  VIRTIO,
  type VirtioAttach,
  type VirtioCallbacks,
  type VirtioFeatures,
  type VirtioProbe,
  type VqAllocInfo,
  virtioFeatures,
} from "./virtio-bus.js";
export {
  type InterruptScheme,
  type VirtioPci,
  type VirtioPciOptions,
  virtioPci,
  virtioPciDriver,
} from "./virtio-pci.js";
export {
  EMSGSIZE,
  ENOSPC,
  type Postpone,
  Virtqueue,
  type VirtqueueOptions,
  VQ_OK,
} from "./virtqueue.js";
export {
  type Bio,
  type Disk,
  EFBIG,
  EINVAL,
  EIO,
  ENXIO,
  EOPNOTSUPP,
  EROFS,
  type Vtblk,
  type VtblkOptions,
  vtblk,
  vtblkDriver,
} from "./vtblk.js";
export { type Coalescing, type Vtnet, type VtnetOptions, vtnet, vtnetDriver } from "./vtnet.js";

export interface DriverOptions {
  readonly virtioPci?: VirtioPciOptions;
  readonly vtnet?: VtnetOptions;
  readonly vtblk?: VtblkOptions;
  readonly re?: ReOptions;
  readonly rl?: RlOptions;
}

/** Where drivers are registered: a Newbus. */
export interface DriverRegistry {
  register<P extends object, A extends P, S>(driver: Driver<P, A, S>): unknown;
}

/** Registers every driver of this folder. */
export const registerDrivers = (newbus: DriverRegistry, options: DriverOptions = {}): void => {
  newbus.register(virtioPciDriver(options.virtioPci));
  newbus.register(vtnetDriver(options.vtnet));
  newbus.register(vtblkDriver(options.vtblk));
  newbus.register(reDriver(options.re));
  newbus.register(rlDriver(options.rl));
};
