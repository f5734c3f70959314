import { ETHER_HDR_LEN, StateError, type StateReader } from "../../src/bytes/index.js";
import type { DmaDoor, Offload, SavedState, Verdict } from "../../src/contract/index.js";
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
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VIRTIO_NET_HDR_HASH_REPORT,
  VIRTIO_NET_HDR_HASH_VALUE,
  VIRTIO_NET_HDR_HDR_LEN,
  VIRTIO_NET_HDR_NUM_BUFFERS,
  VIRTIO_NET_HDR_SIZE_HASH,
} from "../../src/spec/virtio-net.js";
import { DescriptorChain, type VirtioBus, type Virtqueue } from "../../src/virtio/index.js";
import type { Coalescing } from "./coalescing.js";
import type { ReceiveFilter } from "./filter.js";
import { GsoHeaders } from "./gso-headers.js";
import { BYTES_COPIED, DESCRIPTORS, type Link, RX_BYTES, RX_FILTERED, RX_FRAMES, RX_NO_BUFFER } from "./link.js";
import type { Steering } from "./steering.js";

/** Queues of a sender that may wait at a time; what it offers from further ones is dropped instead. */
const MOST_WAITING = 64;

/** Index of the receive queue of a pair. §5.1.2 */
const queueOf = (pair: number): number => 2 * pair;

const GSO_TYPES = {
  none: 0,
  tcp4: VIRTIO_NET_HDR_GSO_TCPV4,
  tcp6: VIRTIO_NET_HDR_GSO_TCPV6,
  udp: VIRTIO_NET_HDR_GSO_UDP_L4,
  udpfrag: VIRTIO_NET_HDR_GSO_UDP,
} as const satisfies Record<Offload["gso"], number>;

/** The receive queues: frames from the far end straight into guest memory. VIRTIO 1.3 §5.1.6.3, §5.1.6.4 */
export class Rx {
  readonly #link: Link;
  readonly #filter: ReceiveFilter;
  readonly #steering: Steering;
  readonly #coalescing: Coalescing;
  // The far end was told `later`, and waits for `ready`: queue hints, and the pair in which each found no room. In the
  // order in which they came; a hint stands here once, since what it stands for is in order.
  readonly #hints = new Float64Array(MOST_WAITING);
  readonly #pairs = new Uint16Array(MOST_WAITING);
  #waiting = 0;
  readonly #chain = new DescriptorChain();
  #stuck = false; // the last of the chains there were has no room at all
  readonly #header = new Uint8Array(VIRTIO_NET_HDR_SIZE_HASH);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #gso = new GsoHeaders();

  constructor(link: Link, filter: ReceiveFilter, steering: Steering, coalescing: Coalescing) {
    this.#link = link;
    this.#filter = filter;
    this.#steering = steering;
    this.#coalescing = coalescing;
  }

  release(): void {
    this.#chain.release();
  }

  /** One frame; what arrives before DRIVER_OK touches no guest memory. */
  offer(
    bus: VirtioBus,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    hint: number,
  ): Verdict {
    const link = this.#link;
    const { counters } = link;
    const steering = this.#steering;
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
    let pair = steering.idle ? 0 : steering.steer(bytes, start, length);
    let queue = bus.queue(queueOf(pair));
    if (!queue.begin()) {
      bus.checkQueue(queue);
      pair = this.#another(bus, pair);
      if (pair < 0) {
        counters[RX_FILTERED]!++;
        return "dropped";
      }
      queue = bus.queue(queueOf(pair));
    }
    const { headerLength, mergeable } = link;
    const total = headerLength + length;
    const chain = this.#chain;
    if (!this.#collect(queue, total, mergeable)) {
      bus.checkQueue(queue);
      return this.#noRoom(bus, queue, pair, hint);
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
    if (this.#coalescing.active) this.#coalescing.packets[queue.index]!++;
    return "taken";
  }

  /** The sender is through: one interrupt for each queue into which it brought something. */
  endBatch(bus: VirtioBus): void {
    const { pairs } = this.#steering;
    const coalescing = this.#coalescing;
    for (let pair = 0; pair < pairs; pair++) {
      const queue = bus.queue(queueOf(pair));
      if (!queue.unsignalled || !bus.running || !queue.begin()) continue;
      if (coalescing.active) coalescing.close(bus, queue);
      else bus.usedBuffers(queue);
      bus.seams.dma.flush();
    }
  }

  /** The driver made buffers available: whoever waits for this queue may come again. */
  resume(pair: number): void {
    let turns = 0;
    for (let i = 0; i < this.#waiting; i++) if (this.#pairs[i] === pair) turns++;
    // Who comes again may be told to wait again, behind the others.
    for (; turns > 0; turns--) {
      const i = this.#pairs.indexOf(pair); // what stands behind the last one is stale
      if (i < 0 || i >= this.#waiting) return;
      this.#wake(i);
    }
  }

  /** Frames will be dropped from now on, or go elsewhere: whoever waits may come again. */
  resumeAll(): void {
    for (let turns = this.#waiting; turns > 0 && this.#waiting > 0; turns--) this.#wake(0);
  }

  /** The cable was pulled: nobody waits. */
  forget(): void {
    this.#waiting = 0;
  }

  save(): SavedState {
    return {
      hints: [...this.#hints.subarray(0, this.#waiting)],
      pairs: [...this.#pairs.subarray(0, this.#waiting)],
    };
  }

  /** Checks a saved state. @param pairs there are; @returns what applies it; @throws StateError */
  loader(state: StateReader, pairs: number): () => void {
    const hints = state.integers("hints", Number.MIN_SAFE_INTEGER);
    if (hints.length > MOST_WAITING)
      throw new StateError(`${state.path}.hints`, `${hints.length} of them, expected at most ${MOST_WAITING}`);
    const waiting = state.integers("pairs", 0, pairs - 1, hints.length);
    return () => {
      this.#hints.set(hints);
      this.#pairs.set(waiting);
      this.#waiting = hints.length;
    };
  }

  #wake(i: number): void {
    const hint = this.#hints[i]!;
    this.#waiting--;
    this.#hints.copyWithin(i, i + 1, this.#waiting + 1);
    this.#pairs.copyWithin(i, i + 1, this.#waiting + 1);
    this.#link.far?.ready(hint);
  }

  /** A queue of the driver's in place of one that cannot be used; −1: there is none, or RSS permits no other. §5.1.6.5.6.2 */
  #another(bus: VirtioBus, pair: number): number {
    const { pairs, rss } = this.#steering;
    if (rss) return -1;
    for (let i = 1; i < pairs; i++) {
      const other = (pair + i) % pairs;
      if (bus.queue(queueOf(other)).begin()) return other;
    }
    return -1;
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
    const type = GSO_TYPES[gso];
    header.setUint8(VIRTIO_NET_HDR_GSO_TYPE, offload.ecn ? type | VIRTIO_NET_HDR_GSO_ECN : type);
    header.setUint16(VIRTIO_NET_HDR_HDR_LEN, headers.end, true);
    header.setUint16(VIRTIO_NET_HDR_GSO_SIZE, offload.gsoSize, true);
    header.setUint16(VIRTIO_NET_HDR_CSUM_START, headers.transport, true);
    header.setUint16(VIRTIO_NET_HDR_CSUM_OFFSET, headers.csumOffset, true);
    return true;
  }

  /** As `describe` left it, with num_buffers, which legacy drivers without MRG_RXBUF do not have. §5.1.6.4.1, §5.1.6.4.4 */
  #writeHeader(dma: DmaDoor, headerLength: number): void {
    const { writable, chains } = this.#chain;
    this.#headerView.setUint16(VIRTIO_NET_HDR_NUM_BUFFERS, chains, true);
    if (headerLength === VIRTIO_NET_HDR_SIZE_HASH) {
      this.#headerView.setUint32(VIRTIO_NET_HDR_HASH_VALUE, this.#steering.hash, true);
      this.#headerView.setUint32(VIRTIO_NET_HDR_HASH_REPORT, this.#steering.report, true); // and padding
    }
    writable.copyIn(dma, 0, headerLength, this.#header, 0);
  }

  /** Takes chains for `total` bytes; false leaves the queue as it was. */
  #collect(queue: Virtqueue, total: number, mergeable: boolean): boolean {
    const chain = this.#chain;
    chain.clear();
    this.#stuck = false;
    while (chain.writable.total < total && (mergeable || chain.chains === 0)) {
      const before = chain.writable.total;
      if (!queue.take(chain)) break;
      if (chain.writable.total === before) {
        this.#stuck = true; // nothing to write to: such a chain is never used
        break;
      }
    }
    if (chain.writable.total >= total) return true;
    queue.untake(chain.chains);
    return false;
  }

  /** Too little room: the sender waits for more where it can; a frame that would wait for ever is dropped. */
  #noRoom(bus: VirtioBus, queue: Virtqueue, pair: number, hint: number): Verdict {
    const { counters, far, mergeable } = this.#link;
    const { chains } = this.#chain;
    counters[RX_NO_BUFFER]!++;
    if (!bus.running) return "dropped";
    const hopeless = mergeable ? this.#stuck || chains >= queue.size : chains > 0;
    if (hopeless) {
      bus.seams.report("rx-buffer-too-small", this.#chain.writable.total);
      return "dropped";
    }
    queue.rearm(chains);
    if (far?.accepts().holds !== true || !this.#await(pair, hint)) return "dropped";
    counters[RX_NO_BUFFER]!--; // it is not lost
    return "later";
  }

  /** Notes who waits, and for what; whoever waited already now waits for this. */
  #await(pair: number, hint: number): boolean {
    let i = this.#hints.indexOf(hint);
    if (i < 0 || i >= this.#waiting) {
      if (this.#waiting === MOST_WAITING) return false;
      i = this.#waiting++;
    }
    this.#hints[i] = hint;
    this.#pairs[i] = pair;
    return true;
  }
}
