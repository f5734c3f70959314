/**
 * The Realtek RTL8169SB: a PCI gigabit card with descriptor rings, as FreeBSD's re(4) and Linux's r8169 drive it.
 *
 * Life: `rtl8169(options)` → plugged into a slot (`connect`: power-on, autonegotiation starts) → `net.attach(far)` →
 * a driver resets it, sets rings, rings TPPoll; frames come by `net.offer` → `setLink`, `save`/`load`, `reset` →
 * `disconnect`.
 */
import type { NetPort, Nic, NicCounters } from "../../src/contract/index.js";
import { type FunctionDeclaration, PciFunction, PowerManagement } from "../../src/pci/index.js";
import { REALTEK_VENDOR_ID, RTL8169_CHIPS, RTL8169_MAPS } from "../../src/spec/rtl8169.js";
import { Rtl8169Model, type Variant } from "./model.js";
import { type CheckedOptions, checkOptions, type Rtl8169Options } from "./options.js";

export type { EepromType } from "./eeprom.js";
export type { ChipName, Rtl8169Options } from "./options.js";

const CLASS_ETHERNET = 0x02_00_00;
/** I/O, memory, Bus Master, memory write and invalidate, parity, SERR#: a PCI 2.2 part, without INTx disable. */
const COMMAND_MASK = 0x0157;
/** 66 MHz capable, fast back-to-back capable, DEVSEL medium */
const STATUS_BITS = 0x02a0;
/** units of 250 ns: 8 and 16 µs */
const MIN_GNT = 0x20;
const MAX_LAT = 0x40;
/** As on the real parts and in QEMU's rtl8139. */
const PM_CAPABILITY_AT = 0xdc;
/** Version 2, and no PME from any state: Linux would suspend the card and wait for a PME that nobody raises. */
const PM_PMC = 0x0002;

class Rtl8169Nic extends PciFunction implements Nic {
  readonly mac: Uint8Array;
  readonly #model: Rtl8169Model;

  constructor(declaration: FunctionDeclaration, model: Rtl8169Model, mac: Uint8Array) {
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

const build = (options: CheckedOptions): Nic => {
  const chip = RTL8169_CHIPS[options.chip];
  const registers = RTL8169_MAPS[options.chip];
  const variant: Variant = { key: options.chip, chip, registers };
  const { reset: config0 } = registers.regs.CONFIG0;
  const { reset: config1 } = registers.regs.CONFIG1;
  const identity = {
    vendorId: REALTEK_VENDOR_ID,
    deviceId: chip.deviceId,
    revisionId: chip.revisionId,
    classCode: CLASS_ETHERNET,
    subsystemVendorId: REALTEK_VENDOR_ID,
    subsystemId: chip.deviceId,
  };
  const latency = { minGnt: MIN_GNT, maxLat: MAX_LAT };
  const model = new Rtl8169Model(variant, options, { ...identity, ...latency, mac: options.mac, config0, config1 });
  const bar = { size: registers.size, registers, handler: model };
  const declaration: FunctionDeclaration = {
    name: "rtl8169",
    identity,
    ...latency,
    interruptPin: "INTA",
    commandMask: COMMAND_MASK,
    statusBits: STATUS_BITS,
    latencyMask: 0xff,
    bars: { 0: { kind: "io", ...bar }, 1: { kind: "mem32", ...bar } },
    capabilities: [new PowerManagement({ at: PM_CAPABILITY_AT, pmc: PM_PMC, noSoftReset: false })],
    model,
  };
  return new Rtl8169Nic(declaration, model, Uint8Array.from(options.mac));
};

/**
 * A Realtek RTL8169SB, or another chip of the family, ready to plug into a slot. Built from options alone; everything
 * else comes with `connect`.
 * @throws ConfigError `chip`, `mac-address`, `mtu`, `eeprom-type`, `fcs`, `timing`, `pci-clock`
 */
export const rtl8169 = (options: Rtl8169Options = {}): Nic => build(checkOptions(options));
