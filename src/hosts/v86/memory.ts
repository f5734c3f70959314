import { WindowedMemory, type WindowOptions } from "../../bytes/index.js";
import type { GuestMemory, MemoryWindow } from "../../contract/index.js";
import type { V86Cpu } from "./v86.js";

const VGA_START = 0xa0000;
const VGA_END = 0xc0000;

/**
 * Guest RAM of v86: its own views over the WebAssembly memory, made again when that has grown.
 *
 * Growing detaches every view, and it can happen while WebAssembly runs. Whoever enters a device asks for
 * `generation` before using what it kept, so that is where the views are looked at: register accesses, the poll point and
 * frames from the host are then covered alike.
 */
export class V86Memory implements GuestMemory {
  readonly written: (start: number, end: number) => void;
  readonly #cpu: V86Cpu;
  readonly #ram: WindowedMemory;
  #bytes: Uint8Array;
  #generation: number;

  constructor(cpu: V86Cpu) {
    this.#cpu = cpu;
    // Code that the translator made of these bytes earlier would go on running.
    this.written = (start, end) => cpu.jit_dirty_cache(start, end);
    this.#bytes = this.#view();
    this.#ram = new WindowedMemory(this.#split());
    this.#generation = this.#ram.generation;
  }

  get generation(): number {
    // All windows are views of one buffer, so that one look does for them.
    if (this.#bytes.length === 0) {
      this.#bytes = this.#view();
      this.#ram.replace(this.#split());
      this.#generation = this.#ram.generation;
    }
    return this.#generation;
  }

  get windows(): readonly MemoryWindow[] {
    return this.#ram.windows;
  }

  #view(): Uint8Array {
    const { wasm_memory, mem8, memory_size } = this.#cpu;
    return new Uint8Array(wasm_memory.buffer, mem8.byteOffset, memory_size[0]!);
  }

  /** All below `memory_size` is RAM but the window of the VGA card. */
  #split(): WindowOptions[] {
    const bytes = this.#bytes;
    return [
      { base: 0, bytes: bytes.subarray(0, VGA_START) },
      { base: VGA_END, bytes: bytes.subarray(VGA_END) },
    ];
  }
}
