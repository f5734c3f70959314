import type { InterceptResult, IrqControl } from "./target.js";

/** Inputs of an I/O APIC. */
const INPUTS = 24;
const IOAPIC = "ioapic";
/** What qtest calls the list of inputs without a name. */
const UNNAMED = "unnamed-gpio-in";

/**
 * The inputs of the I/O APIC, which has nothing behind it here: ISA interrupts by number, to be watched and driven. Whoever
 * set an input last has set it, as in QEMU.
 */
export class IrqLines implements IrqControl {
  /** told of every change of an input, once it is watched */
  onChange: (line: number, level: boolean) => void = () => {};
  readonly #levels = new Uint8Array(INPUTS);
  readonly #isDevice: (name: string) => boolean;
  #intercepted: string | null = null;
  #watching = false;

  /** @param isDevice whether there is a device of this name, apart from the I/O APIC */
  constructor(isDevice: (name: string) => boolean) {
    this.#isDevice = isDevice;
  }

  /** An input has a new level. */
  drive(line: number, level: boolean): void {
    if ((this.#levels[line] !== 0) === level) return;
    this.#levels[line] = level ? 1 : 0;
    if (this.#watching) this.onChange(line, level);
  }

  /** Devices have no output pins beside those that lead to the bridges, so that watching their outputs shows nothing. */
  intercept(path: string, direction: "in" | "out"): InterceptResult {
    const device = lastOf(path);
    if (device !== IOAPIC && !this.#isDevice(device)) return "unknown-device";
    if (this.#intercepted !== null) return this.#intercepted === device ? "ok" : "already-enabled";
    this.#intercepted = device;
    this.#watching = device === IOAPIC && direction === "in";
    return "ok";
  }

  set(path: string, name: string, line: number, level: boolean): boolean | "unknown-device" {
    const device = lastOf(path);
    if (device !== IOAPIC) return this.#isDevice(device) ? false : "unknown-device";
    if (name !== UNNAMED || line >= INPUTS) return false;
    this.drive(line, level);
    return true;
  }
}

/** A path may be partial: what counts is its last component. */
const lastOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
