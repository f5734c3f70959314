import type { AccessWidth } from "../../contract/index.js";
import { PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA, PCI_CONFIG_ENABLE } from "../../spec/pci.js";
import type { Place } from "./place.js";
import type { V86Cpu, V86Port } from "./v86.js";

const READ = { 1: "read8", 2: "read16", 4: "read32" } as const;
const WRITE = { 1: "write8", 2: "write16", 4: "write32" } as const;

/**
 * Configuration mechanism #1 for our functions, beside v86's own host bridge. PCI 3.0 §3.2.2.3.2
 *
 * The address latch is kept here, and where it names one of ours, our function answers. All else goes to the former
 * handlers, except writes to functions that nobody has: v86 throws a TypeError out of its CPU loop on those.
 */
export class ConfigPorts {
  readonly #ports: readonly V86Port[];
  readonly #saved: readonly V86Port[];
  readonly #spaces: readonly (Int32Array | undefined)[];
  readonly #places: ReadonlyMap<number, Place>;
  readonly #foreignWrite: () => void;
  #latch = 0;

  /** @param places by devfn, as they are at each access; @param foreignWrite called after each write that went to a function of v86 */
  constructor(cpu: V86Cpu, places: ReadonlyMap<number, Place>, foreignWrite: () => void) {
    this.#ports = cpu.io.ports.slice(PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA + 4);
    this.#saved = this.#ports.map((port) => ({ ...port }));
    this.#spaces = cpu.devices.pci.device_spaces;
    this.#places = places;
    this.#foreignWrite = foreignWrite;
    const address = this.#ports[0]!;
    address.read32 = () => this.#latch;
    // The narrow handlers stay: such writes are no configuration accesses, and 0xCF9 is v86's reset port.
    address.write32 = (value) => {
      this.#latch = value >>> 0;
      this.#tellForeign();
    };
    for (const lane of [0, 1, 2, 3])
      for (const width of [1, 2, 4] as const) if (lane + width <= 4) this.#take(lane, width);
  }

  /** The address latch, as a guest would read it. */
  get latch(): number {
    return this.#latch;
  }

  set latch(value: number) {
    this.#latch = value;
  }

  /** Puts the former handlers back, each in its place. */
  detach(): void {
    this.#ports.forEach((port, i) => {
      Object.assign(port, this.#saved[i]);
    });
  }

  /** Bus and devfn that the latch names, or -1. */
  get #named(): number {
    return this.#latch >= PCI_CONFIG_ENABLE ? (this.#latch >>> 8) & 0xffff : -1;
  }

  #take(lane: number, width: AccessWidth): void {
    const port = this.#ports[PCI_CONFIG_DATA - PCI_CONFIG_ADDRESS + lane]!;
    const saved = this.#saved[PCI_CONFIG_DATA - PCI_CONFIG_ADDRESS + lane]!;
    port[READ[width]] = (at) => {
      const place = this.#places.get(this.#named);
      if (place !== undefined) return place.configRead((this.#latch & 0xfc) + lane, width);
      this.#tellForeign();
      return saved[READ[width]].call(saved.device, at);
    };
    port[WRITE[width]] = (value) => {
      const place = this.#places.get(this.#named);
      if (place !== undefined) {
        place.configWrite(
          (this.#latch & 0xfc) + lane,
          width,
          width === 4 ? value >>> 0 : value & (width === 2 ? 0xffff : 0xff),
        );
      } else if (this.#spaces[this.#named] !== undefined) {
        this.#tellForeign();
        saved[WRITE[width]].call(saved.device, value);
        this.#foreignWrite();
      }
    };
  }

  /** v86's own latch takes byte writes (the reset port is one of its bytes) and its data only from here. */
  #tellForeign(): void {
    const { device, write32 } = this.#saved[0]!;
    write32.call(device, this.#latch | 0);
  }
}
