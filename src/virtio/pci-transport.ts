import { ConfigError, hex, StateError, StateReader } from "../bytes/index.js";
import type { AccessWidth, BarHandler, FunctionSeams, Model, SavedState } from "../contract/index.js";
import {
  type BarDeclaration,
  type Capability,
  type CapabilityHost,
  type FunctionDeclaration,
  Msix,
  PciFunction,
} from "../pci/index.js";
import { defineRegisters, type RegisterDeclaration, type RegisterMap } from "../regs/index.js";
import {
  PCI_VENDOR_ID_REDHAT_QUMRANET,
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIF_CONFIG_DATA,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_CAP_BAR,
  VIRTIO_PCI_CAP_CFG_TYPE,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_LEN,
  VIRTIO_PCI_CAP_LENGTH,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_OFFSET,
  VIRTIO_PCI_CAP_PCI_CFG,
  VIRTIO_PCI_CAP_SIZE,
  VIRTIO_PCI_CAP_VNDR,
  VIRTIO_PCI_CFG_CAP_DATA,
  VIRTIO_PCI_COMMON,
  VIRTIO_PCI_CONFIG_OFF_MSIX,
  VIRTIO_PCI_CONFIG_OFF_NO_MSIX,
  VIRTIO_PCI_ISR,
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
  VIRTIO_PCI_LEGACY,
  VIRTIO_PCI_MODERN_ID_BASE,
  VIRTIO_PCI_NOTIFY_CAP_MULT,
  VIRTIO_PCI_NOTIFY_CAP_SIZE,
  VIRTIO_PCI_QUEUE_NOTIFY,
  VIRTIO_TRANSITIONAL_IDS,
  VIRTQ_MAX_SIZE,
} from "../spec/virtio.js";
import { NO_NOTIFICATION_DATA, type Personality, VirtioCore, type VirtioDevice } from "./device.js";
import { FeatureSet } from "./features.js";
import type { Virtqueue } from "./virtqueue.js";

const STATE_VERSION = 1;
const { regs: C } = VIRTIO_PCI_COMMON;
const { regs: L } = VIRTIO_PCI_LEGACY;

// Where QEMU 7.2 puts things (virtio-pci.c), so that traces compare.
const LEGACY_BAR = 0;
const MSIX_BAR = 1;
const MODERN_BAR = 4;
const MODERN_BAR_SIZE = 0x4000;
const COMMON_AT = 0x0000;
const ISR_AT = 0x1000;
const DEVICE_AT = 0x2000;
const NOTIFY_AT = 0x3000;
const REGION_SIZE = 0x1000;
const NOTIFY_MULTIPLIER = 4;
const CAP_COMMON = 0x40;
const CAP_ISR = 0x50;
const CAP_DEVICE = 0x60;
const CAP_NOTIFY = 0x70;
const CAP_PCI_CFG = 0x84;
const CAP_MSIX = 0x98;
const MODERN_SUBSYSTEM_ID = 0x1100;
/** At least 2 by §4.1.5.1.2.1, unless there is no MSI-X at all. */
const MIN_VECTORS = 2;
const MAX_VECTORS = 0x800;

export interface VirtioPciOptions {
  /** default "transitional" */
  readonly personality?: Personality;
  /** MSI-X vectors: 0 for none, or 2 … 2048; default one per queue and one for the configuration, as QEMU */
  readonly vectors?: number;
  /**
   * DMA works for legacy drivers that never set Bus Master (Linux before 2.6.34): it is forced on when they set the status
   * to ACKNOWLEDGE | DRIVER, as QEMU does. Default false
   */
  readonly legacyBusMaster?: boolean;
  /** Offers packed rings (VIRTIO_F_RING_PACKED) to modern drivers; default false, as QEMU */
  readonly packed?: boolean;
  /** Offers VIRTIO_F_IN_ORDER to modern drivers; right for device types that use buffers in order, as all here. Default false */
  readonly inOrder?: boolean;
  /** Offers VIRTIO_F_RING_RESET to modern drivers: queues can be reset one by one. Default false */
  readonly ringReset?: boolean;
  /** Offers VIRTIO_F_NOTIFICATION_DATA to modern drivers; what they send is checked and reported. Default false */
  readonly notificationData?: boolean;
  /** Offers VIRTIO_F_NOTIF_CONFIG_DATA to modern drivers. Default false */
  readonly notifConfigData?: boolean;
  /** Bits of features that are not offered though the card has them, those of rings among them; default none */
  readonly withhold?: readonly number[];
  /**
   * Deviation: a change of the configuration sets both bits of ISR status, as in QEMU, whose own tests wait for the wrong
   * one. Default false: bit 1. §4.1.4.5
   */
  readonly configSetsQueueIsr?: boolean;
  /**
   * Deviation: chains of more than 2³²−1 bytes are taken, as QEMU takes them and one of its own tests makes them.
   * Default false: they end in a failed device. §2.7.5.2
   */
  readonly hugeChains?: boolean;
}

/** Features that are offered by option, to modern drivers alone. */
const BY_OPTION = {
  packed: VIRTIO_F_RING_PACKED,
  inOrder: VIRTIO_F_IN_ORDER,
  ringReset: VIRTIO_F_RING_RESET,
  notificationData: VIRTIO_F_NOTIFICATION_DATA,
  notifConfigData: VIRTIO_F_NOTIF_CONFIG_DATA,
} as const;
const OPTION_NAMES = Object.keys(BY_OPTION) as (keyof typeof BY_OPTION)[];

/**
 * A register block whose values are computed: an access of any width and place becomes reads and writes of registers.
 * Registers follow each other without a gap; what lies behind them, up to the end of a page, reads 0. A write that begins in a register does not reach its neighbours.
 */
abstract class RegisterWindow {
  readonly #start = new Uint8Array(REGION_SIZE); // per byte: where its register begins
  readonly #end = new Uint8Array(REGION_SIZE); // per byte: where its register ends; 0 where there is none

  constructor(map: RegisterMap) {
    for (const { at, width } of map.list) {
      this.#start.fill(at, at, at + width);
      this.#end.fill(at + width, at, at + width);
    }
  }

  /** Value of the register at `at`, unsigned; reading may have an effect. */
  protected abstract get(at: number): number;
  /** @param value unsigned, the register's width */
  protected abstract set(at: number, value: number): void;

  readRegisters(offset: number, width: AccessWidth): number {
    if (this.#start[offset] === offset && this.#end[offset] === offset + width) return this.get(offset);
    let value = 0;
    for (let i = 0, scale = 1; i < width; ) {
      const byte = offset + i;
      const end = this.#end[byte]!;
      if (end === 0) return value; // registers stand without gaps: nothing lies behind the last one
      // All bytes of one register by one read, so that the read has its effect once.
      const start = this.#start[byte]!;
      const bytes = Math.min(end - byte, width - i);
      const part = Math.floor(this.get(start) / 2 ** (8 * (byte - start))) % 2 ** (8 * bytes);
      value += part * scale;
      i += bytes;
      scale *= 2 ** (8 * bytes);
    }
    return value;
  }

  writeRegisters(offset: number, width: AccessWidth, value: number): void {
    const end = this.#end[offset]!;
    if (end === 0) return;
    const start = this.#start[offset]!;
    const bytes = Math.min(end - offset, width);
    const part = value % 2 ** (8 * bytes);
    if (offset === start && bytes === end - start) {
      this.set(start, part);
      return;
    }
    const scale = 2 ** (8 * (offset - start));
    const old = this.get(start);
    const kept = old - (Math.floor(old / scale) % 2 ** (8 * bytes)) * scale;
    this.set(start, kept + part * scale);
  }
}

/** What both register layouts do alike. */
const writeVector = (value: number, vectors: number): number => (value < vectors ? value : VIRTIO_MSI_NO_VECTOR);

const readConfig = (core: VirtioCore, offset: number, width: AccessWidth): number => {
  let value = 0;
  for (let i = 0, scale = 1; i < width; i++, scale *= 0x100) value += core.readConfig(offset + i) * scale;
  return value;
};

const writeConfig = (core: VirtioCore, offset: number, width: AccessWidth, value: number): void => {
  for (let i = 0, lanes = value; i < width; i++, lanes >>>= 8) core.writeConfig(offset + i, lanes & 0xff);
};

/** struct virtio_pci_common_cfg. VIRTIO 1.3 §4.1.4.3 */
class CommonConfig extends RegisterWindow {
  readonly #core: VirtioCore;
  readonly #vectors: number;

  constructor(core: VirtioCore, vectors: number) {
    super(VIRTIO_PCI_COMMON);
    this.#core = core;
    this.#vectors = vectors;
  }

  protected get(at: number): number {
    const core = this.#core;
    const queue = core.selected;
    switch (at) {
      case C.device_feature_select.at:
        return core.deviceFeatureSelect;
      case C.device_feature.at:
        return core.modernOffer(core.deviceFeatureSelect);
      case C.driver_feature_select.at:
        return core.driverFeatureSelect;
      case C.driver_feature.at:
        return core.accepted.word(core.driverFeatureSelect);
      case C.config_msix_vector.at:
        return core.configVector;
      case C.num_queues.at:
        return core.queueCount;
      case C.device_status.at:
        return core.status;
      case C.config_generation.at:
        return core.lookAtGeneration();
      case C.queue_select.at:
        return core.queueSelect;
      case C.queue_size.at:
        return queue === null ? 0 : queue.size;
      case C.queue_msix_vector.at:
        return queue === null ? VIRTIO_MSI_NO_VECTOR : queue.vector;
      case C.queue_enable.at:
        return queue?.enabled === true ? 1 : 0;
      case C.queue_notify_off.at: // queue_notify_off and, below, what to write there: the index itself
      case C.queue_notif_config_data.at:
        return queue === null ? 0 : queue.index;
      case C.queue_desc_lo.at:
        return queue === null ? 0 : queue.areaWord("desc", 0);
      case C.queue_desc_hi.at:
        return queue === null ? 0 : queue.areaWord("desc", 1);
      case C.queue_driver_lo.at:
        return queue === null ? 0 : queue.areaWord("driver", 0);
      case C.queue_driver_hi.at:
        return queue === null ? 0 : queue.areaWord("driver", 1);
      case C.queue_device_lo.at:
        return queue === null ? 0 : queue.areaWord("device", 0);
      case C.queue_device_hi.at:
        return queue === null ? 0 : queue.areaWord("device", 1);
      default:
        return 0; // queue_reset, which is done at once; admin_queue_index, admin_queue_num: not offered
    }
  }

  protected set(at: number, value: number): void {
    const core = this.#core;
    switch (at) {
      case C.device_feature_select.at:
        core.deviceFeatureSelect = value;
        return;
      case C.driver_feature_select.at:
        core.driverFeatureSelect = value;
        return;
      case C.driver_feature.at:
        core.writeFeatures(core.driverFeatureSelect, value);
        return;
      case C.config_msix_vector.at:
        core.configVector = writeVector(value, this.#vectors);
        return;
      case C.device_status.at:
        core.writeStatus(value);
        return;
      case C.queue_select.at:
        core.queueSelect = value;
        return;
    }
    const queue = core.selected;
    if (queue !== null) this.#setQueue(queue, at, value);
  }

  #setQueue(queue: Virtqueue, at: number, value: number): void {
    if (queue.enabled && at !== C.queue_msix_vector.at && at !== C.queue_enable.at && at !== C.queue_reset.at)
      this.#core.seams.report("queue-changed-while-enabled", at); // and ignored
    switch (at) {
      case C.queue_size.at:
        queue.setSize(value);
        if (queue.size !== value) this.#core.seams.report("queue-size-refused", value);
        return;
      case C.queue_msix_vector.at:
        queue.vector = writeVector(value, this.#vectors);
        return;
      case C.queue_enable.at:
        // Observed: U-Boot, NetBSD and OpenBSD write 0, which they must not. It has no effect.
        if (value !== 1) this.#core.seams.report("queue-enable-not-one", value);
        if (value !== 1 || queue.enabled) return;
        queue.enable();
        this.#core.queueEnabled(queue);
        return;
      case C.queue_reset.at:
        if (value === 1) this.#core.resetQueue(queue);
        return;
      case C.queue_desc_lo.at:
        queue.setAreaWord("desc", 0, value);
        return;
      case C.queue_desc_hi.at:
        queue.setAreaWord("desc", 1, value);
        return;
      case C.queue_driver_lo.at:
        queue.setAreaWord("driver", 0, value);
        return;
      case C.queue_driver_hi.at:
        queue.setAreaWord("driver", 1, value);
        return;
      case C.queue_device_lo.at:
        queue.setAreaWord("device", 0, value);
        return;
      case C.queue_device_hi.at:
        queue.setAreaWord("device", 1, value);
        return;
    }
  }
}

/** BAR 4: common configuration, ISR, device configuration and doorbells, a page each. */
class ModernBar implements BarHandler {
  readonly #core: VirtioCore;
  readonly #common: CommonConfig;

  constructor(core: VirtioCore, vectors: number) {
    this.#core = core;
    this.#common = new CommonConfig(core, vectors);
  }

  read(offset: number, width: AccessWidth): number {
    const within = offset & (REGION_SIZE - 1);
    switch (offset - within) {
      case COMMON_AT:
        return this.#common.readRegisters(within, width);
      case ISR_AT:
        return within === 0 ? this.#core.readIsr() : 0;
      case DEVICE_AT:
        return readConfig(this.#core, within, width);
      default:
        return 0; // doorbells
    }
  }

  write(offset: number, width: AccessWidth, value: number): void {
    // The place says which queue, so that no width or value is a wrong one; with NOTIFICATION_DATA the value says more.
    if (offset >= NOTIFY_AT) this.#core.notify((offset - NOTIFY_AT) >>> 2, width === 4 ? value : NO_NOTIFICATION_DATA);
    else if (offset >= DEVICE_AT) writeConfig(this.#core, offset - DEVICE_AT, width, value);
    else if (offset < ISR_AT) this.#common.writeRegisters(offset, width, value);
  }
}

/** The header of the legacy interface, but for its doorbell. VIRTIO 1.3 §4.1.4.10 */
class LegacyHeader extends RegisterWindow {
  readonly #core: VirtioCore;
  readonly #vectors: number;
  readonly #driverFound: () => void;

  constructor(core: VirtioCore, vectors: number, driverFound: () => void) {
    super(VIRTIO_PCI_LEGACY);
    this.#core = core;
    this.#vectors = vectors;
    this.#driverFound = driverFound;
  }

  protected get(at: number): number {
    const core = this.#core;
    const queue = core.selected;
    switch (at) {
      case L.device_features.at:
        return core.legacyOffer;
      case L.driver_features.at:
        return core.accepted.lo;
      case L.queue_address.at:
        return queue === null ? 0 : queue.pfn;
      case L.queue_size.at:
        return queue === null ? 0 : queue.size;
      case L.queue_select.at:
        return core.queueSelect;
      case L.device_status.at:
        return core.status;
      case L.isr_status.at:
        return core.readIsr();
      case L.config_msix_vector.at:
        return core.configVector;
      case L.queue_msix_vector.at:
        return queue === null ? VIRTIO_MSI_NO_VECTOR : queue.vector;
      default:
        return 0; // queue_notify
    }
  }

  protected set(at: number, value: number): void {
    const core = this.#core;
    const queue = core.selected;
    switch (at) {
      case L.driver_features.at:
        core.writeLegacyFeatures(value);
        return;
      case L.queue_address.at:
        if (queue === null) return;
        queue.setPfn(value);
        core.queueEnabled(queue);
        return;
      case L.queue_select.at:
        core.queueSelect = value;
        return;
      case L.device_status.at:
        core.writeStatus(value);
        if (value === (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)) this.#driverFound();
        return;
      case L.config_msix_vector.at:
        core.configVector = writeVector(value, this.#vectors);
        return;
      case L.queue_msix_vector.at:
        if (queue !== null) queue.vector = writeVector(value, this.#vectors);
        return;
    }
  }
}

/** BAR 0: the legacy header, and behind it the device configuration, which moves with the MSI-X enable bit. */
class LegacyBar implements BarHandler {
  readonly #core: VirtioCore;
  readonly #header: LegacyHeader;
  readonly #msix: Msix | null;

  constructor(core: VirtioCore, msix: Msix | null, driverFound: () => void) {
    this.#core = core;
    this.#msix = msix;
    this.#header = new LegacyHeader(core, msix === null ? 0 : msix.vectors, driverFound);
  }

  read(offset: number, width: AccessWidth): number {
    if (offset === VIRTIO_PCI_ISR) return this.#core.readIsr(); // a single byte: wider accesses do not begin here
    const config = this.#configAt;
    return offset < config ? this.#header.readRegisters(offset, width) : readConfig(this.#core, offset - config, width);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    if (offset === VIRTIO_PCI_QUEUE_NOTIFY) {
      this.#core.notify(value & 0xffff);
      return;
    }
    const config = this.#configAt;
    if (offset < config) this.#header.writeRegisters(offset, width, value);
    else writeConfig(this.#core, offset - config, width, value);
  }

  /** Aligned accesses never cross it: it is a multiple of 4. */
  get #configAt(): number {
    return this.#msix?.enabled === true ? VIRTIO_PCI_CONFIG_OFF_MSIX : VIRTIO_PCI_CONFIG_OFF_NO_MSIX;
  }
}

/** A capability that says where a structure lies, and nothing else. §4.1.4 */
const structureCapability = (at: number, type: number, bar: number, offset: number, length: number): Capability => {
  const size = type === VIRTIO_PCI_CAP_NOTIFY_CFG ? VIRTIO_PCI_NOTIFY_CAP_SIZE : VIRTIO_PCI_CAP_SIZE;
  const image = new Uint8Array(size);
  const view = new DataView(image.buffer);
  image[VIRTIO_PCI_CAP_LEN] = size;
  image[VIRTIO_PCI_CAP_CFG_TYPE] = type;
  image[VIRTIO_PCI_CAP_BAR] = bar;
  view.setUint32(VIRTIO_PCI_CAP_OFFSET, offset, true);
  view.setUint32(VIRTIO_PCI_CAP_LENGTH, length, true);
  if (type === VIRTIO_PCI_CAP_NOTIFY_CFG) view.setUint32(VIRTIO_PCI_NOTIFY_CAP_MULT, NOTIFY_MULTIPLIER, true);
  return { id: VIRTIO_PCI_CAP_VNDR, at, image, rw: new Uint8Array(size) };
};

/**
 * The window in configuration space: firmware reaches the modern BAR through it while that has no address. §4.1.4.9
 * An access to any byte of the data field is an access of `length` bytes at `offset`; what names no part of the modern
 * BAR, is not aligned, or has another length than 1, 2 or 4 is ignored and leaves the data as they are.
 */
class PciCfgWindow implements Capability {
  readonly id = VIRTIO_PCI_CAP_VNDR;
  readonly at = CAP_PCI_CFG;
  readonly image = new Uint8Array(VIRTIO_PCI_NOTIFY_CAP_SIZE);
  readonly rw = new Uint8Array(VIRTIO_PCI_NOTIFY_CAP_SIZE);
  readonly #bar: BarHandler;
  #host: CapabilityHost | null = null;
  #place = 0;

  constructor(bar: BarHandler) {
    this.#bar = bar;
    this.image[VIRTIO_PCI_CAP_LEN] = VIRTIO_PCI_NOTIFY_CAP_SIZE;
    this.image[VIRTIO_PCI_CAP_CFG_TYPE] = VIRTIO_PCI_CAP_PCI_CFG;
    this.rw[VIRTIO_PCI_CAP_BAR] = 0xff;
    this.rw.fill(0xff, VIRTIO_PCI_CAP_OFFSET);
  }

  bind(host: CapabilityHost, at: number): void {
    this.#host = host;
    this.#place = at;
  }

  beforeRead(_first: number, last: number): void {
    const host = this.#host;
    if (host === null || last < VIRTIO_PCI_CFG_CAP_DATA) return;
    const width = this.#width(host);
    if (width === 0) return;
    host.set(this.#place + VIRTIO_PCI_CFG_CAP_DATA, width, this.#bar.read(this.#offset(host), width));
  }

  written(_first: number, last: number): void {
    const host = this.#host;
    if (host === null || last < VIRTIO_PCI_CFG_CAP_DATA) return;
    const width = this.#width(host);
    if (width === 0) return;
    this.#bar.write(this.#offset(host), width, host.get(this.#place + VIRTIO_PCI_CFG_CAP_DATA, width));
  }

  #offset(host: CapabilityHost): number {
    return host.get(this.#place + VIRTIO_PCI_CAP_OFFSET, 4);
  }

  /** Width of the access that the fields describe; 0 for none. */
  #width(host: CapabilityHost): AccessWidth | 0 {
    const length = host.get(this.#place + VIRTIO_PCI_CAP_LENGTH, 4);
    if (length !== 1 && length !== 2 && length !== 4) return 0;
    const offset = this.#offset(host);
    const inside = offset % length === 0 && offset + length <= MODERN_BAR_SIZE;
    return inside && host.get(this.#place + VIRTIO_PCI_CAP_BAR, 1) === MODERN_BAR ? length : 0;
  }
}

/** Maps that were built, by what they name. */
const modernMaps = new Map<string, RegisterMap>();

/** Names of everything in the modern BAR, for traces. */
const modernRegisters = (device: VirtioDevice): RegisterMap => {
  const key = [device.id, device.configRegisters?.name, ...device.queues.map(({ name }) => name)].join();
  const known = modernMaps.get(key);
  if (known !== undefined) return known;
  const registers: Record<string, RegisterDeclaration> = {};
  for (const { name, at, width, rw, fields, doc } of VIRTIO_PCI_COMMON.list)
    registers[name] = { at: COMMON_AT + at, width, rw, fields, doc };
  registers.isr_status = { at: ISR_AT, width: 1, live: true, doc: "Interrupt status; reading clears it" };
  for (const { name, at, width, rw, fields, doc } of device.configRegisters?.list ?? [])
    registers[`config_${name}`] = { at: DEVICE_AT + at, width, rw, fields, doc };
  for (const [index, { name }] of device.queues.entries())
    registers[`notify_${name}`] = { at: NOTIFY_AT + NOTIFY_MULTIPLIER * index, width: 2, rw: 0xffff, doc: "Doorbell" };
  const size = NOTIFY_AT + NOTIFY_MULTIPLIER * device.queues.length;
  const map = defineRegisters({ name: `virtio-${device.id}`, source: "VIRTIO 1.3 §4.1.4", size }, registers);
  modernMaps.set(key, map);
  return map;
};

/** A virtio device on PCI: its declaration, and the model behind it. VIRTIO 1.3 §4.1 */
class PciTransport implements Model {
  readonly core: VirtioCore;
  readonly declaration: FunctionDeclaration;
  /** set by the function around it */
  forceBusMaster: () => void = () => {};
  readonly #personality: Personality;
  readonly #vectors: number;

  constructor(device: VirtioDevice, options: VirtioPciOptions) {
    const { personality = "transitional", vectors = device.queues.length + 1, legacyBusMaster = false } = options;
    if (!Number.isInteger(vectors) || (vectors !== 0 && (vectors < MIN_VECTORS || vectors > MAX_VECTORS)))
      throw new ConfigError("virtio-vectors", `${device.name}: ${vectors} vectors; expected 0, or 2 … 2048`);
    if (personality !== "legacy" && personality !== "transitional" && personality !== "modern")
      throw new ConfigError(
        "virtio-personality",
        `${device.name}: personality ${String(personality)}; expected legacy, transitional or modern`,
      );
    for (const { name, size } of device.queues)
      if (!Number.isInteger(size) || size < 1 || size > VIRTQ_MAX_SIZE || (size & (size - 1)) !== 0)
        throw new ConfigError(
          "virtio-queue-size",
          `${device.name}: ${name} of ${hex(size)} descriptors; expected a power of two, 1 … 32768`,
        );
    const transitionalId = VIRTIO_TRANSITIONAL_IDS[device.id];
    if (personality !== "modern" && transitionalId === undefined)
      throw new ConfigError("virtio-personality", `${device.name}: device id ${device.id} exists in modern form only`);
    this.#personality = personality;
    this.#vectors = vectors;
    const chosen = OPTION_NAMES.filter((name) => options[name] === true);
    if (personality === "legacy" && chosen.length > 0)
      throw new ConfigError(
        "virtio-personality",
        `${device.name}: ${chosen.join(", ")}: only modern drivers can see that`,
      );
    const offered = FeatureSet.of(...chosen.map((name) => BY_OPTION[name]));
    const { withhold = [], configSetsQueueIsr = false } = options;
    for (const bit of withhold)
      if (!Number.isInteger(bit) || bit < 0 || bit > 63)
        throw new ConfigError("virtio-withhold", `${device.name}: feature ${bit} withheld; expected 0 … 63`);
    const configIsr = configSetsQueueIsr ? VIRTIO_PCI_ISR_CONFIG | VIRTIO_PCI_ISR_QUEUE : VIRTIO_PCI_ISR_CONFIG;
    const core = new VirtioCore(device, personality, offered, FeatureSet.of(...withhold), configIsr);
    this.core = core;
    if (options.hugeChains === true) core.takeHugeChains();

    const capabilities: Capability[] = [];
    const bars: { [index in 0 | 1 | 4]?: BarDeclaration } = {};
    let msix: Msix | null = null;
    if (vectors > 0) {
      msix = new Msix({ vectors, bar: MSIX_BAR, ...(personality === "legacy" ? {} : { at: CAP_MSIX }) });
      core.msix = msix;
      capabilities.push(msix);
      bars[MSIX_BAR] = msix.bar();
    }
    if (personality !== "legacy") {
      const handler = new ModernBar(core, vectors);
      // Each new one at the head of the list, as QEMU adds them; nothing follows them that could be mistaken for one.
      capabilities.push(
        new PciCfgWindow(handler),
        structureCapability(CAP_NOTIFY, VIRTIO_PCI_CAP_NOTIFY_CFG, MODERN_BAR, NOTIFY_AT, REGION_SIZE),
        structureCapability(CAP_DEVICE, VIRTIO_PCI_CAP_DEVICE_CFG, MODERN_BAR, DEVICE_AT, REGION_SIZE),
        structureCapability(CAP_ISR, VIRTIO_PCI_CAP_ISR_CFG, MODERN_BAR, ISR_AT, REGION_SIZE),
        structureCapability(CAP_COMMON, VIRTIO_PCI_CAP_COMMON_CFG, MODERN_BAR, COMMON_AT, REGION_SIZE),
      );
      const registers = modernRegisters(device);
      bars[MODERN_BAR] = { kind: "mem64", size: MODERN_BAR_SIZE, prefetchable: true, registers, handler };
    }
    if (personality !== "modern") {
      const found = () => {
        if (legacyBusMaster) this.forceBusMaster();
      };
      const header = msix === null ? VIRTIO_PCI_CONFIG_OFF_NO_MSIX : VIRTIO_PCI_CONFIG_OFF_MSIX;
      const size = 2 ** Math.ceil(Math.log2(header + device.configLength));
      bars[LEGACY_BAR] = {
        kind: "io",
        size,
        registers: VIRTIO_PCI_LEGACY,
        handler: new LegacyBar(core, msix, found),
      };
    }
    this.declaration = {
      name: device.name,
      identity: {
        vendorId: PCI_VENDOR_ID_REDHAT_QUMRANET,
        deviceId: personality === "modern" ? VIRTIO_PCI_MODERN_ID_BASE + device.id : (transitionalId ?? 0),
        revisionId: personality === "modern" ? 1 : 0,
        classCode: device.classCode,
        subsystemVendorId: PCI_VENDOR_ID_REDHAT_QUMRANET,
        subsystemId: personality === "modern" ? MODERN_SUBSYSTEM_ID : device.id,
      },
      interruptPin: "INTA",
      bars,
      capabilities,
      model: this,
    };
  }

  connect(seams: FunctionSeams): void {
    this.core.connect(seams);
  }

  disconnect(): void {
    this.core.disconnect();
  }

  reset(): void {
    this.core.reset();
  }

  save(): SavedState {
    return {
      version: STATE_VERSION,
      personality: this.#personality,
      vectors: this.#vectors,
      core: this.core.save(),
    };
  }

  load(raw: SavedState): void {
    const { name } = this.core.device;
    const state = new StateReader(raw, name, STATE_VERSION);
    if (state.string("personality") !== this.#personality)
      throw new StateError(`${name}.personality`, `${state.string("personality")}, expected ${this.#personality}`);
    state.integer("vectors", this.#vectors, this.#vectors);
    this.core.loader(state.object("core").raw, `${name}.core`)();
  }
}

/**
 * A PCI function around a virtio device, laid out as QEMU lays it out. Device types with an interface of their own (a
 * network card) extend it; others are complete with it.
 */
export class VirtioPciFunction extends PciFunction {
  readonly core: VirtioCore;

  /** @throws ConfigError `virtio-vectors`, `virtio-personality`, `virtio-queue-size`, `virtio-withhold` */
  constructor(device: VirtioDevice, options: VirtioPciOptions = {}) {
    const transport = new PciTransport(device, options);
    super(transport.declaration);
    this.core = transport.core;
    transport.forceBusMaster = () => this.forceBusMaster(true);
  }
}
