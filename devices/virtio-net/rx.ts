import { ETHER_HDR_LEN } from "../../src/bytes/index.js";
import type { DmaDoor, Offload, Verdict } from "../../src/contract/index.js";
import { VIRTIO_NET_HDR_NUM_BUFFERS, VIRTIO_NET_HDR_SIZE } from "../../src/spec/virtio-net.js";
import { DescriptorChain, type VirtioBus, type Virtqueue } from "../../src/virtio/index.js";
import type { ReceiveFilter } from "./filter.js";
import { BYTES_COPIED, DESCRIPTORS, type Link, RX_BYTES, RX_FILTERED, RX_FRAMES, RX_NO_BUFFER } from "./link.js";

/** The receive queue: frames from the far end straight into guest memory. VIRTIO 1.3 §5.1.6.3, §5.1.6.4 */
export class Rx {
  /** the far end was told `later` and waits for `ready` */
  waiting = false;
  /** queue hint of the frame that waits */
  waitingHint = 0;
  readonly #link: Link;
  readonly #filter: ReceiveFilter;
  readonly #chain = new DescriptorChain();
  readonly #header = new Uint8Array(VIRTIO_NET_HDR_SIZE);

  constructor(link: Link, filter: ReceiveFilter) {
    this.#link = link;
    this.#filter = filter;
  }

  release(): void {
    this.#chain.release();
  }

  /** One frame; what arrives before DRIVER_OK touches no guest memory. */
  offer(
    bus: VirtioBus,
    queue: Virtqueue,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    hint: number,
  ): Verdict {
    const link = this.#link;
    const { counters } = link;
    const finished = offload === null || (!offload.needsCsum && offload.gso === "none");
    if (
      !bus.running ||
      !link.up ||
      length < ETHER_HDR_LEN ||
      !finished ||
      !this.#filter.accepts(bytes, start, length)
    ) {
      counters[RX_FILTERED]!++;
      return "dropped";
    }
    if (!queue.begin()) {
      bus.checkQueue(queue);
      counters[RX_FILTERED]!++;
      return "dropped";
    }
    const { headerLength, mergeable } = link;
    const total = headerLength + length;
    const chain = this.#chain;
    if (!this.#collect(queue, total, mergeable)) {
      bus.checkQueue(queue);
      return this.#noRoom(bus, queue, hint);
    }
    queue.suppress(); // a notification is only wanted when buffers ran out
    const { writable } = chain;
    const { dma } = bus.seams;
    this.#writeHeader(dma, headerLength);
    writable.copyIn(dma, headerLength, length, bytes, start);
    for (let k = 0, from = 0; k < chain.chains; k++) {
      const end = Math.min(chain.ends[k]!, total);
      queue.push(chain.heads[k]!, end - from);
      from = end;
    }
    queue.publish(); // all buffers of the frame by one move of the index. §5.1.6.4.1
    counters[RX_FRAMES]!++;
    counters[RX_BYTES]! += length;
    counters[BYTES_COPIED]! += length;
    counters[DESCRIPTORS]! += chain.descriptors;
    return "taken";
  }

  /** The sender is through: one interrupt for what it brought. */
  endBatch(bus: VirtioBus, queue: Virtqueue): void {
    if (!queue.unsignalled || !bus.running || !queue.begin()) return;
    bus.usedBuffers(queue);
    bus.seams.dma.flush();
  }

  /** The driver made buffers available, or frames will be dropped from now on: whoever waits may come again. */
  resume(): void {
    if (!this.waiting) return;
    this.waiting = false;
    this.#link.far?.ready(this.waitingHint);
  }

  /** All 0 but for num_buffers, which legacy drivers without MRG_RXBUF do not have. §5.1.6.4.1 */
  #writeHeader(dma: DmaDoor, headerLength: number): void {
    const { writable, chains } = this.#chain;
    this.#header[VIRTIO_NET_HDR_NUM_BUFFERS] = chains & 0xff;
    this.#header[VIRTIO_NET_HDR_NUM_BUFFERS + 1] = chains >>> 8;
    writable.copyIn(dma, 0, headerLength, this.#header, 0);
  }

  /** Takes chains for `total` bytes; false leaves the queue as it was. */
  #collect(queue: Virtqueue, total: number, mergeable: boolean): boolean {
    const chain = this.#chain;
    chain.clear();
    while (chain.writable.total < total && (mergeable || chain.chains === 0)) {
      const before = chain.writable.total;
      if (!queue.take(chain)) break;
      if (chain.writable.total === before) break; // nothing to write to: such a chain is never used
    }
    if (chain.writable.total >= total) return true;
    queue.untake(chain.chains);
    return false;
  }

  /** Too little room: the sender waits for more where it can; a frame that would wait for ever is dropped. */
  #noRoom(bus: VirtioBus, queue: Virtqueue, hint: number): Verdict {
    const { counters, far, mergeable } = this.#link;
    const { chains } = this.#chain;
    counters[RX_NO_BUFFER]!++;
    if (!bus.running) return "dropped";
    const hopeless = mergeable ? chains >= queue.size : chains > 0;
    if (hopeless) {
      bus.seams.report("rx-buffer-too-small", this.#chain.writable.total);
      return "dropped";
    }
    queue.rearm(chains);
    if (far?.accepts().holds !== true) return "dropped";
    counters[RX_NO_BUFFER]!--; // it is not lost
    this.waiting = true;
    this.waitingHint = hint;
    return "later";
  }
}
