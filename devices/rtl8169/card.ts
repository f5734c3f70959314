import type { BarHandler, Model, NetPort, Nic, NicCounters } from "../../src/contract/index.js";
import { type FunctionDeclaration, PciFunction, PowerManagement } from "../../src/pci/index.js";
import type { RegisterMap } from "../../src/regs/index.js";
import { REALTEK_VENDOR_ID } from "../../src/spec/rtl8169.js";
import type { EepromContents } from "./eeprom.js";

const CLASS_ETHERNET = 0x02_00_00;
/** I/O, memory, Bus Master, memory write and invalidate, parity, SERR#: a PCI 2.2 part, without INTx disable. */
const COMMAND_MASK = 0x0157;
/** units of 250 ns: 8 and 16 µs */
const MIN_GNT = 0x20;
const MAX_LAT = 0x40;
/** As on the real parts and in QEMU's rtl8139. */
const PM_CAPABILITY_AT = 0xdc;
/** Version 2, and no PME from any state: Linux would suspend the card and wait for a PME that nobody raises. */
const PMC_ASLEEP = 0x0002;
/** The same with PME from D3hot. */
const PMC_WAKES = 0x4002;

/** The model of a Realtek card: handler of both BARs, and the card's end of the cable. */
export interface CardModel extends BarHandler, Model, NetPort {
  readonly cable: boolean;
  setCable(plugged: boolean): void;
  counters(): NicCounters;
}

/** What a slot is told of a card. */
export interface CardDeclaration {
  /** for reports and listings */
  readonly name: string;
  readonly chip: { readonly deviceId: number; readonly revisionId: number };
  readonly registers: RegisterMap<"CONFIG0" | "CONFIG1">;
  /** read-only bits of the PCI status register */
  readonly statusBits: number;
  readonly mac: Uint8Array;
  /** it promises PME from D3hot; default false */
  readonly wakes?: boolean;
}

class RealtekNic extends PciFunction implements Nic {
  readonly mac: Uint8Array;
  readonly #model: CardModel;

  constructor(declaration: FunctionDeclaration, model: CardModel, mac: Uint8Array) {
    super(declaration);
    this.#model = model;
    this.mac = mac;
  }

  get net(): NetPort {
    return this.#model;
  }

  get linkUp(): boolean {
    return this.#model.cable;
  }

  setLink(up: boolean): void {
    this.#model.setCable(up);
  }

  counters(): NicCounters {
    return this.#model.counters();
  }
}

/**
 * Puts a card together: its configuration space, two windows to one register block, and the model behind them.
 * @param create makes the model; it is given what the EEPROM holds when the card leaves the factory, and the power state
 */
export const buildCard = (
  card: CardDeclaration,
  create: (contents: EepromContents, power: PowerManagement) => CardModel,
): Nic => {
  const { name, chip, registers, statusBits, mac, wakes = false } = card;
  const identity = {
    vendorId: REALTEK_VENDOR_ID,
    deviceId: chip.deviceId,
    revisionId: chip.revisionId,
    classCode: CLASS_ETHERNET,
    subsystemVendorId: REALTEK_VENDOR_ID,
    subsystemId: chip.deviceId,
  };
  const latency = { minGnt: MIN_GNT, maxLat: MAX_LAT };
  const { CONFIG0, CONFIG1 } = registers.regs;
  const pmc = wakes ? PMC_WAKES : PMC_ASLEEP;
  const power = new PowerManagement({ at: PM_CAPABILITY_AT, pmc, noSoftReset: false });
  const model = create({ ...identity, ...latency, mac, config0: CONFIG0.reset, config1: CONFIG1.reset }, power);
  const bar = { size: registers.size, registers, handler: model };
  const declaration: FunctionDeclaration = {
    name,
    identity,
    ...latency,
    interruptPin: "INTA",
    commandMask: COMMAND_MASK,
    statusBits,
    latencyMask: 0xff,
    bars: { 0: { kind: "io", ...bar }, 1: { kind: "mem32", ...bar } },
    capabilities: [power],
    model,
  };
  return new RealtekNic(declaration, model, Uint8Array.from(mac));
};
