import { StateError, type StateReader } from "../bytes/index.js";
import type { SavedState } from "../contract/index.js";
import {
  legacyUsedOffset,
  VIRTIO_PCI_QUEUE_ADDR_SHIFT,
  VIRTQ_AVAIL_ALIGN,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_ALIGN,
  VIRTQ_USED_ALIGN,
  VIRTQ_USED_ELEM_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_FLAGS,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
  virtqAvailBytes,
  virtqDescBytes,
  virtqNeedEvent,
  virtqUsedBytes,
} from "../spec/virtio.js";
import { type DescriptorChain, RingArea } from "./descriptor-chain.js";
import { Virtqueue } from "./virtqueue.js";

/** The device's side of a split virtqueue. VIRTIO 1.3 §2.7 */
export class SplitQueue extends Virtqueue {
  // ring state, all modulo 65536
  #lastAvail = 0;
  #usedIdx = 0; // entries pushed; what guest memory says is #published
  #published = 0;
  #signalled = 0; // #usedIdx when suppression was last evaluated
  #signalledValid = false;
  #suppressed = false; // NO_NOTIFY stands in used.flags

  // of the entry that is open, with IN_ORDER
  #batchAt = -1; // index of the used entry that the next one pushed replaces; −1: it gets its own
  readonly #readOnly: Uint8Array; // by slot: the chain taken from it has nothing to write to

  // derived
  readonly #desc = new RingArea();
  readonly #avail = new RingArea();
  readonly #used = new RingArea();

  constructor(index: number, maxSize: number) {
    super(index, maxSize);
    this.#readOnly = new Uint8Array(maxSize);
  }

  get pfn(): number {
    return this.enabled ? Math.floor(this.areaAddress("desc") / 2 ** VIRTIO_PCI_QUEUE_ADDR_SHIFT) >>> 0 : 0;
  }

  setPfn(pfn: number): void {
    this.disable();
    if (pfn === 0) return;
    const desc = pfn * 2 ** VIRTIO_PCI_QUEUE_ADDR_SHIFT;
    this.setAreaAddress("desc", desc);
    this.setAreaAddress("driver", desc + virtqDescBytes(this.size));
    this.setAreaAddress("device", desc + legacyUsedOffset(this.size));
    this.enable();
  }

  /** @see Virtqueue.take; the handle is the head */
  take(chain: DescriptorChain): boolean {
    if (!this.enabled) return false; // a back end had the device reset in the middle of the entry
    const idx = this.#avail.get16(VIRTQ_AVAIL_IDX);
    if (idx === this.#lastAvail) return false;
    // Counted from the used index: what was taken and not given back belongs to the ring's `size` chains, too.
    if (((idx - this.#usedIdx) & 0xffff) > this.size) return this.fail("avail-idx-jump", idx);
    const slot = this.#lastAvail & (this.size - 1);
    const head = this.#avail.get16(VIRTQ_AVAIL_RING + 2 * slot);
    if (head >= this.size) return this.fail("head-out-of-range", head);
    const writable = chain.writable.total;
    chain.maxBytes = this.maxBytes;
    if (!chain.load(this.dma, this.#desc, this.size, head, this.indirect))
      return this.fail(chain.fault ?? "chain-too-long", chain.faultValue);
    if (this.inOrder) this.#readOnly[slot] = chain.writable.total === writable ? 1 : 0;
    this.#lastAvail = (this.#lastAvail + 1) & 0xffff;
    return true;
  }

  untake(chains: number): void {
    if (!this.enabled) return;
    this.#lastAvail = (this.#lastAvail - chains) & 0xffff;
  }

  push(head: number, len: number): void {
    if (!this.enabled) return;
    let index = this.#usedIdx;
    if (this.inOrder) index = this.#batch(len);
    const at = VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * (index & (this.size - 1));
    this.#used.set32(at, head);
    this.#used.set32(at + 4, len);
    this.#usedIdx = (this.#usedIdx + 1) & 0xffff;
  }

  publish(): void {
    const pushed = (this.#usedIdx - this.#published) & 0xffff;
    if (pushed === 0) return;
    this.#batchAt = -1;
    this.#used.set16(VIRTQ_USED_IDX, this.#usedIdx);
    const { dma } = this;
    const slot = this.#published & (this.size - 1);
    const { address } = this.#used;
    dma.wrote(address, VIRTQ_USED_RING);
    if (slot + pushed <= this.size)
      dma.wrote(address + VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * slot, VIRTQ_USED_ELEM_SIZE * pushed);
    else dma.wrote(address + VIRTQ_USED_RING, VIRTQ_USED_ELEM_SIZE * this.size);
    this.#published = this.#usedIdx;
    this.unsignalled = true;
  }

  suppress(): void {
    if (this.eventIdx || this.#suppressed) return;
    this.#suppressed = true;
    this.#setUsedFlags(VIRTQ_USED_F_NO_NOTIFY);
  }

  rearm(left = 0): boolean {
    if (!this.enabled) return false;
    const seen = (this.#lastAvail + left) & 0xffff;
    if (this.eventIdx) {
      const at = VIRTQ_USED_RING + VIRTQ_USED_ELEM_SIZE * this.size; // avail_event
      this.#used.set16(at, seen);
      this.dma.wrote(this.#used.address + at, 2);
    } else if (this.#suppressed) {
      this.#suppressed = false;
      this.#setUsedFlags(0);
    }
    return this.#avail.get16(VIRTQ_AVAIL_IDX) !== seen;
  }

  canGoOnAt(next: number): boolean {
    return ((next - this.#lastAvail) & 0xffff) <= this.size;
  }

  wantsInterrupt(): boolean {
    if (!this.unsignalled) return false;
    this.unsignalled = false;
    const old = this.#signalled;
    const first = !this.#signalledValid;
    this.#signalled = this.#published;
    this.#signalledValid = true;
    const avail = this.#avail;
    if (this.notifyOnEmpty && avail.get16(VIRTQ_AVAIL_IDX) === this.#lastAvail) return true;
    if (!this.eventIdx) return (avail.get16(VIRTQ_AVAIL_FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    const usedEvent = avail.get16(VIRTQ_AVAIL_RING + 2 * this.size);
    return first || virtqNeedEvent(usedEvent, this.#published, old);
  }

  protected permits(size: number): boolean {
    return size > 0 && size <= this.maxSize && (size & (size - 1)) === 0;
  }

  protected get misaligned(): boolean {
    return (
      this.areas[0]! % VIRTQ_DESC_ALIGN !== 0 ||
      this.areas[2]! % VIRTQ_AVAIL_ALIGN !== 0 ||
      this.areas[4]! % VIRTQ_USED_ALIGN !== 0
    );
  }

  protected locate(): boolean {
    const { dma, size } = this;
    // Some allocators leave no room for event words that nobody will use.
    const unused = this.eventIdx ? 0 : 2;
    const found =
      this.#desc.locate(dma, this.areaAddress("desc"), virtqDescBytes(size), false) &&
      this.#avail.locate(dma, this.areaAddress("driver"), virtqAvailBytes(size) - unused, false) &&
      this.#used.locate(dma, this.areaAddress("device"), virtqUsedBytes(size) - unused, true);
    if (!found) return this.fail("ring-outside-memory", this.areaAddress("desc"));
    this.generation = dma.generation;
    return true;
  }

  protected releaseAreas(): void {
    for (const area of [this.#desc, this.#avail, this.#used]) area.release();
  }

  protected clearRing(): void {
    this.#lastAvail = this.#usedIdx = this.#published = this.#signalled = 0;
    this.#signalledValid = this.#suppressed = false;
    this.#batchAt = -1;
  }

  protected saveRing(): SavedState {
    return {
      lastAvail: this.#lastAvail,
      usedIdx: this.#usedIdx,
      published: this.#published,
      signalled: this.#signalled,
      signalledValid: this.#signalledValid,
      suppressed: this.#suppressed,
    };
  }

  protected ringLoader(state: StateReader, size: number): () => void {
    const lastAvail = state.integer("lastAvail", 0, 0xffff);
    const usedIdx = state.integer("usedIdx", 0, 0xffff);
    const published = state.integer("published", 0, 0xffff);
    const signalled = state.integer("signalled", 0, 0xffff);
    const signalledValid = state.boolean("signalledValid");
    const suppressed = state.boolean("suppressed");
    if (((lastAvail - usedIdx) & 0xffff) > size)
      throw new StateError(`${state.path}.lastAvail`, `more than ${size} chains in flight`);
    if (((usedIdx - published) & 0xffff) > size)
      throw new StateError(`${state.path}.published`, `more than ${size} entries unpublished`);
    return () => {
      this.#lastAvail = lastAvail;
      this.#usedIdx = usedIdx;
      this.#published = published;
      this.#signalled = signalled;
      this.#signalledValid = signalledValid;
      this.#suppressed = suppressed;
      this.#batchAt = -1;
    };
  }

  /**
   * Index of the used entry for what is pushed now. A driver takes skipped buffers for used as a whole, so an entry may stand
   * for those before it only while they had nothing to be written to. It stands where the first one's would. §2.7.9
   */
  #batch(len: number): number {
    const index = this.#batchAt < 0 ? this.#usedIdx : this.#batchAt;
    const skippable = len === 0 && this.#readOnly[this.#usedIdx & (this.size - 1)] === 1;
    this.#batchAt = skippable ? index : -1;
    return index;
  }

  #setUsedFlags(flags: number): void {
    this.#used.set16(VIRTQ_USED_FLAGS, flags);
    this.dma.wrote(this.#used.address, 2);
  }
}
