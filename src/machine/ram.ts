import { ConfigError, hex, WindowedMemory, type WindowOptions } from "../bytes/index.js";
import type { AccessWidth, GuestMemory, MemoryWindow } from "../contract/index.js";
import type { Target } from "./address-space.js";

/** Where a PC has the VGA window and option ROMs instead of RAM. */
const HOLE_START = 0xa_0000;
const HOLE_END = 0x10_0000;
/** RAM that would reach into the PCI hole goes on above 4 GiB. */
const LOW_END = 0xc000_0000;
const HIGH_START = 2 ** 32;

/** RAM as an embedder gives it: bytes to allocate, bytes of its own, windows, or a memory that it keeps itself. */
export type Ram = number | Uint8Array | readonly WindowOptions[] | GuestMemory;

/** The windows of a PC: 0–640 KiB, 1 MiB up to at most 3 GiB, and the rest from 4 GiB. */
const pcWindows = (bytes: Uint8Array): WindowOptions[] => {
  const windows: WindowOptions[] = [{ base: 0, bytes: bytes.subarray(0, HOLE_START) }];
  if (bytes.length > HOLE_END) windows.push({ base: HOLE_END, bytes: bytes.subarray(HOLE_END, LOW_END) });
  if (bytes.length > LOW_END) windows.push({ base: HIGH_START, bytes: bytes.subarray(LOW_END) });
  return windows;
};

/**
 * @param written told what DMA wrote; not used for a `GuestMemory`, which has its own
 * @throws ConfigError `ram-size`, and those of `WindowedMemory`
 */
export const makeRam = (ram: Ram, written: ((start: number, end: number) => void) | null): GuestMemory => {
  if (typeof ram === "number") {
    if (!(Number.isSafeInteger(ram) && ram > 0)) throw new ConfigError("ram-size", `${hex(ram)} bytes of RAM`);
    return new WindowedMemory(pcWindows(new Uint8Array(ram)), written);
  }
  if (ram instanceof Uint8Array) return new WindowedMemory(ram.length === 0 ? [] : pcWindows(ram), written);
  return "windows" in ram ? ram : new WindowedMemory(ram, written);
};

/** A window as the memory space sees it: the CPU's own loads and stores. */
export class RamTarget implements Target {
  readonly window: MemoryWindow;

  constructor(window: MemoryWindow) {
    this.window = window;
  }

  barRead(_bar: number, offset: number, width: AccessWidth): number {
    const { view, bytes, readable } = this.window;
    if (!readable || offset + width > bytes.length) return width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff;
    if (width === 4) return view.getUint32(offset, true);
    return width === 2 ? view.getUint16(offset, true) : bytes[offset]!;
  }

  barWrite(_bar: number, offset: number, width: AccessWidth, value: number): void {
    const { view, bytes, writable } = this.window;
    if (!writable || offset + width > bytes.length) return;
    if (width === 4) view.setUint32(offset, value, true);
    else if (width === 2) view.setUint16(offset, value, true);
    else bytes[offset] = value;
  }
}
