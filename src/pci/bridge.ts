import { ConfigError } from "../bytes/index.js";
import type {
  AddressRange,
  BridgeSlot,
  FunctionInterrupts,
  Model,
  ResetKind,
  SavedState,
  SecondaryBus,
} from "../contract/index.js";
import {
  PCI_BRIDGE_CONTROL,
  PCI_BRIDGE_CTL_BUS_RESET,
  PCI_BRIDGE_CTL_MASTER_ABORT,
  PCI_CAP_ID_SLOTID,
  PCI_CLASS_BRIDGE_PCI,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID_REDHAT_BRIDGE,
  PCI_MAX_DEVICES,
  PCI_SEC_STATUS,
  PCI_SECONDARY_BUS,
  PCI_SID_CHASSIS_NR,
  PCI_SID_ESR,
  PCI_SID_ESR_FIC,
  PCI_SID_SIZEOF,
  PCI_STATUS,
  PCI_STATUS_66MHZ,
  PCI_STATUS_FAST_BACK,
  PCI_STATUS_REC_MASTER_ABORT,
  PCI_STATUS_SIG_TARGET_ABORT,
  PCI_SUBORDINATE_BUS,
  PCI_VENDOR_ID_REDHAT,
} from "../spec/pci.js";
import { memoryDown, portsDown } from "./bridge-windows.js";
import type { Capability, FunctionDeclaration } from "./declaration.js";
import { PciFunction } from "./function.js";
import { Msi } from "./msi.js";
import { sameRanges } from "./ranges.js";
import { StandardHotPlug } from "./shpc.js";

const NOTHING: readonly AddressRange[] = [];

/** A bridge has no more state than its configuration space. */
const CONFIG_ONLY: Model = {
  connect: () => {},
  disconnect: () => {},
  reset: () => {},
  save: () => ({ version: 1 }),
  load: () => {},
};

/** What a bridge declares; the rest of a function's declaration it has itself. */
export interface BridgeDeclaration extends Omit<FunctionDeclaration, "model"> {
  /** default: nothing beside configuration space */
  readonly model?: Model;
  /** devices 0 … this one exist behind it; default 31 */
  readonly lastDevice?: number;
  /** default true; see `PciBridgeOptions` */
  readonly masterAborts?: boolean;
}

/**
 * A PCI-to-PCI bridge: a function with a type 1 header that says what it passes on. It routes nothing itself: whoever holds
 * the bus behind it asks for bus numbers, ranges and gates, and is told when any of them changes.
 *
 * Life: as `PciFunction`, and `connectSecondary(bus)` by who puts a bus behind it. A reset of the bridge, and Secondary
 * Bus Reset, reset that bus.
 */
export class PciBridge extends PciFunction implements BridgeSlot {
  readonly lastDevice: number;
  readonly #masterAborts: boolean;
  #secondary: SecondaryBus | null = null;
  // What follows from configuration space.
  #numbers = 0;
  #held = false;
  #upstream = false;
  #io = NOTHING;
  #memory = NOTHING;
  #restoring = false;

  /** @throws ConfigError as `PciFunction` */
  constructor(declaration: BridgeDeclaration) {
    super({ bridge: {}, ...declaration, model: declaration.model ?? CONFIG_ONLY });
    this.lastDevice = declaration.lastDevice ?? PCI_MAX_DEVICES - 1;
    this.#masterAborts = declaration.masterAborts ?? true;
  }

  get secondaryBus(): number {
    return this.ownConfig.get(PCI_SECONDARY_BUS, 1);
  }

  get subordinateBus(): number {
    return this.ownConfig.get(PCI_SUBORDINATE_BUS, 1);
  }

  get running(): boolean {
    return !this.#held;
  }

  get upstream(): boolean {
    return this.#upstream;
  }

  downstream(space: "io" | "memory"): readonly AddressRange[] {
    return space === "io" ? this.#io : this.#memory;
  }

  /** Latches it in Secondary Status, and with master-abort mode as a target abort in Status. P2P 1.2 §3.2.5.18, bit 5 */
  masterAborted(): void {
    if (!this.#masterAborts) return;
    const config = this.ownConfig;
    config.set(PCI_SEC_STATUS, 2, config.get(PCI_SEC_STATUS, 2) | PCI_STATUS_REC_MASTER_ABORT);
    if ((config.get(PCI_BRIDGE_CONTROL, 2) & PCI_BRIDGE_CTL_MASTER_ABORT) !== 0)
      config.set(PCI_STATUS, 2, config.get(PCI_STATUS, 2) | PCI_STATUS_SIG_TARGET_ABORT);
  }

  /** For bridges that have a slot to show it in. */
  occupied(_device: number, _present: boolean): void {}

  connectSecondary(bus: SecondaryBus | null): void {
    if (bus !== null && this.#secondary !== null)
      throw new ConfigError("already-connected", `${this.name} has a bus behind it already; expected one without`);
    this.#secondary = bus;
  }

  /** RST# goes on to the secondary side, whatever reset the bridge. P2P 1.2 §11.1 */
  override reset(kind: ResetKind): void {
    super.reset(kind);
    this.#secondary?.reset();
  }

  override load(state: SavedState): void {
    this.#restoring = true; // a reset that is held was begun before
    try {
      super.load(state);
    } finally {
      this.#restoring = false;
    }
  }

  protected override settled(): void {
    const config = this.ownConfig;
    const command = config.get(PCI_COMMAND, 2);
    const wasHeld = this.#held;
    const numbers = this.secondaryBus * 0x100 + this.subordinateBus;
    const held = (config.get(PCI_BRIDGE_CONTROL, 2) & PCI_BRIDGE_CTL_BUS_RESET) !== 0;
    const passes = (enable: number) => !held && this.powered && (command & enable) !== 0;
    const upstream = passes(PCI_COMMAND_MASTER);
    const io = passes(PCI_COMMAND_IO) ? portsDown(config) : NOTHING;
    const memory = passes(PCI_COMMAND_MEMORY) ? memoryDown(config) : NOTHING;
    const ioMoved = !sameRanges(io, this.#io);
    const memoryMoved = !sameRanges(memory, this.#memory);
    const changed = numbers !== this.#numbers || held !== wasHeld || upstream !== this.#upstream;
    this.#numbers = numbers;
    this.#held = held;
    this.#upstream = upstream;
    if (ioMoved) this.#io = io;
    if (memoryMoved) this.#memory = memory;
    if (changed || ioMoved || memoryMoved) this.#secondary?.changed();
    if (held && !wasHeld && !this.#restoring) this.#secondary?.reset();
  }
}

/** Slot identification: which chassis the slots behind a bridge are in. P2P 1.2 §13 */
const slotIdentification = (chassis: number): Capability => {
  const image = new Uint8Array(PCI_SID_SIZEOF);
  const rw = new Uint8Array(PCI_SID_SIZEOF);
  image[PCI_SID_ESR] = PCI_SID_ESR_FIC;
  image[PCI_SID_CHASSIS_NR] = chassis;
  rw[PCI_SID_CHASSIS_NR] = 0xff;
  return { id: PCI_CAP_ID_SLOTID, image, rw };
};

export interface PciBridgeOptions {
  /** 1 … 255; bridges of one machine want different ones; default 1 */
  readonly chassis?: number;
  /** ports above 64 KiB; default false, as QEMU's */
  readonly io32?: boolean;
  /** address bits of the prefetchable window; default 64, as QEMU's */
  readonly prefetchable?: "none" | 32 | 64;
  /**
   * What nobody behind the bridge answers is latched in Secondary Status, as on hardware; default true. QEMU's bridge
   * never does that, so that a comparison with it wants false.
   */
  readonly masterAborts?: boolean;
  /** a standard hot-plug controller, with MSI and INTA#, as QEMU's has one by default; default false, as with `shpc=off` */
  readonly hotPlug?: boolean;
}

const SLOT_ID_AT = 0x48;
const SHPC_AT = 0x40;
const MSI_AT = 0x4c;

/** The controller's interrupt: a level on INTA#, a message for each rise. */
const hotPlugModel = (shpc: StandardHotPlug): Model => {
  let interrupts: FunctionInterrupts | null = null;
  shpc.onInterrupt = (level) => {
    interrupts?.setIntx(level);
    if (level) interrupts?.signal(0);
  };
  return {
    ...CONFIG_ONLY,
    connect: (seams) => {
      interrupts = seams.interrupts;
    },
    disconnect: () => {
      interrupts = null;
    },
  };
};

/** A PCI-to-PCI bridge as QEMU's `pci-bridge` shows it (1b36:0001). */
export class QemuPciBridge extends PciBridge {
  /** null without `hotPlug` */
  readonly hotPlug: StandardHotPlug | null;

  /** @throws ConfigError `bridge-chassis` */
  constructor({ chassis = 1, masterAborts = true, hotPlug = false, ...header }: PciBridgeOptions = {}) {
    if (!(Number.isInteger(chassis) && chassis >= 1 && chassis <= 0xff))
      throw new ConfigError("bridge-chassis", `chassis ${chassis}; expected 1 … 255`);
    const shpc = hotPlug ? new StandardHotPlug({ at: SHPC_AT }) : null;
    super({
      name: "pci-bridge",
      identity: {
        vendorId: PCI_VENDOR_ID_REDHAT,
        deviceId: PCI_DEVICE_ID_REDHAT_BRIDGE,
        revisionId: 0,
        classCode: PCI_CLASS_BRIDGE_PCI << 8,
      },
      statusBits: PCI_STATUS_66MHZ | PCI_STATUS_FAST_BACK,
      bridge: {
        ...header,
        secondaryStatusBits: PCI_STATUS_66MHZ | PCI_STATUS_FAST_BACK,
        secondaryLatencyMask: 0xff,
      },
      masterAborts,
      ...(shpc === null
        ? { capabilities: [slotIdentification(chassis)] }
        : {
            interruptPin: "INTA",
            bars: { 0: shpc.bar() },
            capabilities: [
              new Msi({ maskable: true, at: MSI_AT }),
              { ...slotIdentification(chassis), at: SLOT_ID_AT },
              shpc,
            ],
            model: hotPlugModel(shpc),
          }),
    });
    this.hotPlug = shpc;
  }

  /** What is plugged in before anybody has numbered the bus was there when the power came. */
  override occupied(device: number, present: boolean): void {
    this.hotPlug?.occupy(device, present, this.secondaryBus !== 0);
  }
}

/** A PCI-to-PCI bridge as QEMU's `pci-bridge` shows it (1b36:0001). @throws ConfigError `bridge-chassis` */
export const pciBridge = (options: PciBridgeOptions = {}): QemuPciBridge => new QemuPciBridge(options);
