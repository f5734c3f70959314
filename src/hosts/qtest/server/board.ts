import type { AccessWidth, Diagnostic } from "../../../contract/index.js";
import { Machine, VirtualClock } from "../../../machine/index.js";
import { ACPI_PCI_HOTPLUG_PORT, AcpiHotplug, type HotplugHost } from "./acpi-hotplug.js";
import { FW_CFG_PORT, FwCfg } from "./fw-cfg.js";
import { IrqLines } from "./irq-lines.js";
import { firmwareRegion, SHADOW_BASE, ShadowRam } from "./shadow-ram.js";
import type { QtestTarget } from "./target.js";

/** Rounds of work after one request; what is left goes on after the next one. */
const ROUNDS = 1024;
/** Timers that fire in one go, so that a long step of the clock can be interrupted. */
const TIMERS_AT_ONCE = 4096;
/** Firmware ends here. */
const END_OF_32_BIT = 2 ** 32;

export interface BoardOptions {
  /** bytes */
  readonly ramSize: number;
  readonly cpus: number;
  /** bytes of the firmware, a multiple of 64 KiB; null: none */
  readonly firmware?: Uint8Array | null;
  readonly hotplug: HotplugHost;
  /** whether there is a device of this name */
  readonly isDevice: (name: string) => boolean;
  readonly report: (diagnostic: Diagnostic) => void;
  /** the guest wrote the reset control register, and the machine was reset */
  readonly onGuestReset: () => void;
}

/** QEMU's machine `pc` as far as qtest clients see it: our machine with fw_cfg, PCI hot plug, shadow RAM and an I/O APIC's inputs. */
export class Board implements QtestTarget {
  readonly machine: Machine;
  readonly clock = new VirtualClock();
  readonly irqs: IrqLines;
  readonly hotplug: AcpiHotplug;
  /** stopped machines do no work */
  running = true;
  readonly #fwCfg: FwCfg;

  constructor({ ramSize, cpus, firmware = null, hotplug, isDevice, report, onGuestReset }: BoardOptions) {
    this.irqs = new IrqLines(isDevice);
    this.machine = new Machine({
      ram: ramSize,
      clock: this.clock,
      work: "deferred", // done after each request, and not while the machine is stopped
      unalignedConfigAddress: true,
      undecodedMemory: "zeros",
      report,
      onIrq: (irq, level) => this.irqs.drive(irq, level),
      onReset: (kind) => {
        if (kind === "cpu") return;
        this.#fwCfg.reset();
        onGuestReset();
      },
    });
    this.#fwCfg = new FwCfg({ ramSize, cpus });
    this.hotplug = new AcpiHotplug(hotplug);
    const shadow = new ShadowRam((register) => this.machine.host.configRead(register, 1), firmware);
    this.machine.mapFixed(FW_CFG_PORT, this.#fwCfg.declaration);
    this.machine.mapFixed(ACPI_PCI_HOTPLUG_PORT, this.hotplug.declaration);
    this.machine.mapFixed(SHADOW_BASE, shadow.declaration);
    if (firmware !== null) this.machine.mapFixed(END_OF_32_BIT - firmware.length, firmwareRegion(firmware));
  }

  ioRead(port: number, width: AccessWidth): number {
    return this.machine.ioRead(port, width);
  }
  ioWrite(port: number, width: AccessWidth, value: number): void {
    this.machine.ioWrite(port, width, value);
  }
  memRead(address: number, width: AccessWidth): number {
    return this.machine.memRead(address, width);
  }
  memWrite(address: number, width: AccessWidth, value: number): void {
    this.machine.memWrite(address, width, value);
  }

  ramAt(address: number): Uint8Array | null {
    for (const { base, bytes } of this.machine.memory.windows)
      if (address >= base && address < base + bytes.length) return bytes.subarray(address - base);
    return null;
  }

  now(): number {
    return this.clock.now();
  }

  nextTimer(): number {
    return Math.max(0, this.clock.nextDeadline - this.clock.now());
  }

  advance(until: number): boolean {
    for (let i = 0; i < TIMERS_AT_ONCE; i++) {
      const next = this.clock.nextDeadline;
      if (next > until) {
        this.clock.advance(until - this.clock.now());
        return true;
      }
      this.clock.advance(next - this.clock.now());
      this.work();
    }
    return this.clock.now() >= until;
  }

  work(): void {
    if (!this.running) return;
    for (let round = 0; round < ROUNDS; round++) if (this.machine.poll() !== 0) return;
  }

  /** Resets everything but RAM, from outside. */
  reset(): void {
    this.machine.reset();
    this.#fwCfg.reset();
  }
}
