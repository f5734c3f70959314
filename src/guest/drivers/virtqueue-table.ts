import { VIRTQ_DESC_LEN, VIRTQ_DESC_SIZE } from "../../spec/virtio.js";
import type { DmaMemory } from "../types.js";

/** Zeroes memory, for the device, too. */
export const clear = (memory: DmaMemory): void => {
  memory.copyIn(0, new Uint8Array(memory.size), 0, memory.size);
  memory.sync(0, memory.size, "prewrite");
};

/** Shows the device a range of descriptors. @param high exclusive; not above `low` when there is nothing */
export const syncDescs = (memory: DmaMemory, low: number, high: number): void => {
  if (high > low) memory.sync(low * VIRTQ_DESC_SIZE, (high - low) * VIRTQ_DESC_SIZE, "prewrite");
};

/**
 * Descriptors that only the driver writes, at the start of a piece of DMA memory, and the driver's copy of them: what stands
 * there already is not written again, and buffers that come back to their place, as receive buffers do, cost nothing.
 */
export class DescriptorTable {
  readonly memory: DmaMemory;
  readonly #words: Uint32Array;
  #low = Number.MAX_SAFE_INTEGER; // written since the last `publish`: first, and last + 1
  #high = 0;

  /** @param entries descriptors, all of them zero until they are written */
  constructor(memory: DmaMemory, entries: number) {
    this.memory = memory;
    this.#words = new Uint32Array((entries * VIRTQ_DESC_SIZE) / 4);
  }

  /** Writes the words that differ. @param link flags and next, as one word. §2.7.5 */
  write(index: number, paddr: number, len: number, link: number): void {
    const words = this.#words;
    const at = 4 * index;
    const low = paddr >>> 0;
    const high = Math.floor(paddr / 0x1_0000_0000);
    if (words[at] === low && words[at + 1] === high && words[at + 2] === len && words[at + 3] === link) return;
    const { memory } = this;
    const byte = VIRTQ_DESC_SIZE * index;
    if (words[at] !== low) memory.write32(byte, low);
    if (words[at + 1] !== high) memory.write32(byte + 4, high);
    if (words[at + 2] !== len) memory.write32(byte + VIRTQ_DESC_LEN, len);
    if (words[at + 3] !== link) memory.write32(byte + VIRTQ_DESC_LEN + 4, link);
    words[at] = low;
    words[at + 1] = high;
    words[at + 2] = len;
    words[at + 3] = link;
    if (index < this.#low) this.#low = index;
    if (index >= this.#high) this.#high = index + 1;
  }

  /** Shows the device what was written. */
  publish(): void {
    syncDescs(this.memory, this.#low, this.#high);
    this.#low = Number.MAX_SAFE_INTEGER;
    this.#high = 0;
  }

  /** The memory was zeroed. */
  forget(): void {
    this.#words.fill(0);
    this.#low = Number.MAX_SAFE_INTEGER;
    this.#high = 0;
  }
}
