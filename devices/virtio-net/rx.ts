import { ETHER_HDR_LEN } from "../../src/bytes/index.js";
import type { DmaDoor, Offload, Verdict } from "../../src/contract/index.js";
import { offloadFits, takesOffload } from "../../src/net/index.js";
import {
  VIRTIO_NET_HDR_CSUM_OFFSET,
  VIRTIO_NET_HDR_CSUM_START,
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_SIZE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_TYPE,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VIRTIO_NET_HDR_HDR_LEN,
  VIRTIO_NET_HDR_NUM_BUFFERS,
  VIRTIO_NET_HDR_SIZE,
} from "../../src/spec/virtio-net.js";
import { DescriptorChain, type VirtioBus, type Virtqueue } from "../../src/virtio/index.js";
import type { ReceiveFilter } from "./filter.js";
import { GsoHeaders } from "./gso-headers.js";
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
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #gso = new GsoHeaders();

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
    if (
      !bus.running ||
      !link.up ||
      length < ETHER_HDR_LEN ||
      !this.#filter.accepts(bytes, start, length) ||
      !this.#describe(bytes, start, length, offload)
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

  /**
   * Puts into the header what the driver is to know of the frame: all 0 but with an offload. §5.1.6.4.1
   * @returns false for a frame that it does not take as it is; the cable finishes and cuts, so that is its mistake
   */
  #describe(bytes: Uint8Array, start: number, length: number, offload: Offload | null): boolean {
    const header = this.#headerView;
    header.setUint32(0, 0);
    header.setUint32(4, 0);
    header.setUint32(8, 0);
    if (offload === null) return true;
    const { limits } = this.#link;
    const { gso } = offload;
    if (gso === "none" && !offload.needsCsum) {
      if (offload.dataValid && limits.csum) header.setUint8(VIRTIO_NET_HDR_FLAGS, VIRTIO_NET_HDR_F_DATA_VALID);
      return true;
    }
    if (!limits.csum || !takesOffload(limits, offload) || !offloadFits(offload, length)) return false;
    header.setUint8(VIRTIO_NET_HDR_FLAGS, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    if (gso === "none") {
      header.setUint16(VIRTIO_NET_HDR_CSUM_START, offload.csumStart, true);
      header.setUint16(VIRTIO_NET_HDR_CSUM_OFFSET, offload.csumOffset, true);
      return true;
    }
    if (!offload.needsCsum || offload.gsoSize < 1) return false;
    const headers = this.#gso;
    if (!headers.find(bytes, start, length, gso)) return false;
    const type =
      gso === "tcp4" ? VIRTIO_NET_HDR_GSO_TCPV4 : gso === "tcp6" ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_UDP_L4;
    header.setUint8(VIRTIO_NET_HDR_GSO_TYPE, offload.ecn ? type | VIRTIO_NET_HDR_GSO_ECN : type);
    header.setUint16(VIRTIO_NET_HDR_HDR_LEN, headers.end, true);
    header.setUint16(VIRTIO_NET_HDR_GSO_SIZE, offload.gsoSize, true);
    header.setUint16(VIRTIO_NET_HDR_CSUM_START, headers.transport, true);
    header.setUint16(VIRTIO_NET_HDR_CSUM_OFFSET, headers.csumOffset, true);
    return true;
  }

  /** As `describe` left it, with num_buffers, which legacy drivers without MRG_RXBUF do not have. §5.1.6.4.1 */
  #writeHeader(dma: DmaDoor, headerLength: number): void {
    const { writable, chains } = this.#chain;
    this.#headerView.setUint16(VIRTIO_NET_HDR_NUM_BUFFERS, chains, true);
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
