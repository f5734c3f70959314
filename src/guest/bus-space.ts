import { hex } from "../bytes/index.js";
import type { AccessWidth, GuestBus } from "../contract/index.js";
import { type BusSpace, ResourceError } from "./types.js";

/**
 * A window of ports or device memory. bus_space(9)
 *
 * Every access goes straight to the `GuestBus` with its width kept: one comparison, no closure, nothing allocated.
 * Out of range throws (kernels do not check; a driver's mistake should not reach a neighbour's registers). When the
 * device has gone, reads give all ones and writes vanish, as on hardware, even after the window was disposed.
 */
export class Window implements BusSpace {
  readonly type: "memory" | "ioport";
  readonly rid: number;
  readonly start: number;
  readonly size: number;
  readonly #bus: GuestBus;
  readonly #io: boolean;
  // last offset that may be accessed by width; -1 sends every access to #slow
  #last1: number;
  #last2: number;
  #last4: number;
  #gone = false;
  #release: (() => void) | null;

  /** @param release called once, when the window is disposed */
  constructor(
    bus: GuestBus,
    type: "memory" | "ioport",
    rid: number,
    start: number,
    size: number,
    release: () => void = () => {},
  ) {
    this.#bus = bus;
    this.type = type;
    this.#io = type === "ioport";
    this.rid = rid;
    this.start = start;
    this.size = size;
    this.#last1 = size - 1;
    this.#last2 = size - 2;
    this.#last4 = size - 4;
    this.#release = release;
  }

  read1(offset: number): number {
    if (!((offset | 0) === offset && offset >= 0 && offset <= this.#last1) && !this.#slow(offset, 1)) return 0xff;
    return (this.#io ? this.#bus.ioRead(this.start + offset, 1) : this.#bus.memRead(this.start + offset, 1)) & 0xff;
  }

  read2(offset: number): number {
    if (!((offset | 0) === offset && offset >= 0 && offset <= this.#last2) && !this.#slow(offset, 2)) return 0xffff;
    return (this.#io ? this.#bus.ioRead(this.start + offset, 2) : this.#bus.memRead(this.start + offset, 2)) & 0xffff;
  }

  read4(offset: number): number {
    if (!((offset | 0) === offset && offset >= 0 && offset <= this.#last4) && !this.#slow(offset, 4))
      return 0xffff_ffff;
    return (this.#io ? this.#bus.ioRead(this.start + offset, 4) : this.#bus.memRead(this.start + offset, 4)) >>> 0;
  }

  write1(offset: number, value: number): void {
    if (!((offset | 0) === offset && offset >= 0 && offset <= this.#last1) && !this.#slow(offset, 1)) return;
    if (this.#io) this.#bus.ioWrite(this.start + offset, 1, value & 0xff);
    else this.#bus.memWrite(this.start + offset, 1, value & 0xff);
  }

  write2(offset: number, value: number): void {
    if (!((offset | 0) === offset && offset >= 0 && offset <= this.#last2) && !this.#slow(offset, 2)) return;
    if (this.#io) this.#bus.ioWrite(this.start + offset, 2, value & 0xffff);
    else this.#bus.memWrite(this.start + offset, 2, value & 0xffff);
  }

  write4(offset: number, value: number): void {
    if (!((offset | 0) === offset && offset >= 0 && offset <= this.#last4) && !this.#slow(offset, 4)) return;
    if (this.#io) this.#bus.ioWrite(this.start + offset, 4, value >>> 0);
    else this.#bus.memWrite(this.start + offset, 4, value >>> 0);
  }

  /** The device is no longer there. */
  vanish(): void {
    this.#gone = true;
    this.#shut();
  }

  get disposed(): boolean {
    return this.#release === null;
  }

  [Symbol.dispose](): void {
    const release = this.#release;
    if (release === null) return;
    this.#release = null;
    this.#shut();
    release();
  }

  #shut(): void {
    this.#last1 = this.#last2 = this.#last4 = -1;
  }

  /** What the comparison let through: a window above 2 GiB (true), a device that has gone (false), or a mistake. */
  #slow(offset: number, width: AccessWidth): boolean {
    if (Number.isInteger(offset) && offset >= 0 && offset <= this.size - width) {
      if (this.#gone) return false;
      if (this.#release !== null) return true;
      throw new ResourceError("EINVAL", `${this.type} window ${hex(this.start)} used after it was released`);
    }
    throw new ResourceError(
      "EINVAL",
      `${width}-byte access at ${Number.isInteger(offset) ? hex(offset) : offset} of a ${this.type} window of ${hex(this.size)}`,
    );
  }
}
