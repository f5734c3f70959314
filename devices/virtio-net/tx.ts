import { ETHER_HDR_LEN } from "../../src/bytes/index.js";
import type { DmaDoor, Offload, Verdict } from "../../src/contract/index.js";
import { OffloadRecord } from "../../src/net/index.js";
import {
  VIRTIO_NET_HDR_CSUM_OFFSET,
  VIRTIO_NET_HDR_CSUM_START,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_SIZE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_TYPE,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VIRTIO_NET_HDR_SIZE_LEGACY,
} from "../../src/spec/virtio-net.js";
import { DescriptorChain, type VirtioBus, type Virtqueue } from "../../src/virtio/index.js";
import type { Coalescing } from "./coalescing.js";
import type { Deadlines } from "./deadlines.js";
import { BYTES_COPIED, DESCRIPTORS, type Link, MAX_FRAME, TX_BYTES, TX_DROPPED, TX_FRAMES } from "./link.js";
import type { Steering } from "./steering.js";

/** What transmit queues have in common. */
export interface TxShared {
  readonly link: Link;
  readonly steering: Steering;
  readonly coalescing: Coalescing;
  /** by number of the pair; null: a queue is worked whenever the host says so */
  readonly delays: { readonly policy: TxDelay; readonly deadlines: Deadlines } | null;
}

/** How long a notification waits. */
export interface TxDelay {
  /** ns */
  readonly delayNs: number;
  /** a further notification meanwhile ends the wait, as with QEMU's `tx=timer` */
  readonly impatient: boolean;
}

/** A transmit queue: frames from the driver to the far end of the cable. VIRTIO 1.3 §5.1.6.2 */
export class Tx {
  /** the far end answered `later`: the queue stands still until it is ready */
  blocked = false;
  /** the wait is over: the next run sends */
  due = false;
  readonly #link: Link;
  readonly #shared: TxShared;
  readonly #pair: number;
  readonly #chain = new DescriptorChain();
  #staging: Uint8Array | null = null; // made when a frame first lies in pieces
  readonly #header = new Uint8Array(VIRTIO_NET_HDR_SIZE_LEGACY);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #offload = new OffloadRecord();
  #offered = false; // something was handed on in this run

  /** @param pair number of the queue among its kind, which is also its queue hint on the net */
  constructor(shared: TxShared, pair: number) {
    this.#link = shared.link;
    this.#shared = shared;
    this.#pair = pair;
  }

  reset(): void {
    this.blocked = this.due = false;
  }

  release(): void {
    this.#chain.release();
  }

  /** Sends until the queue is empty, `budget` descriptors were used, or the far end cannot take more. */
  run(bus: VirtioBus, queue: Virtqueue, budget: number): number {
    if (this.blocked || !this.#isTime()) return 0;
    const chain = this.#chain;
    const { coalescing } = this.#shared;
    let used = 0;
    let chains = 0;
    do {
      while (used < budget) {
        chain.clear();
        if (!queue.take(chain)) break;
        if (this.#send(bus, chain) === "later") {
          queue.untake(1);
          this.blocked = true;
          break;
        }
        used += chain.descriptors;
        chains++;
        queue.push(chain.heads[0]!, 0);
      }
      queue.publish();
      // Left suppressed when more remains: whoever resumes will look by itself.
    } while (!this.blocked && used < budget && queue.broken === null && queue.rearm());
    this.due = this.blocked || used >= budget; // then somebody will come back for the rest, and it has waited already
    this.#link.counters[DESCRIPTORS]! += used;
    if (coalescing.active) {
      coalescing.packets[queue.index]! += chains;
      coalescing.close(bus, queue);
    } else bus.usedBuffers(queue);
    if (this.#offered) {
      this.#offered = false;
      this.#link.far?.endBatch();
    }
    return used;
  }

  /**
   * Whether to send now. The first notification begins the wait; until it is over, the driver is asked for no more of them,
   * but a full ring makes old drivers notify all the same.
   */
  #isTime(): boolean {
    const { delays } = this.#shared;
    if (delays === null || this.due) return true;
    const { policy, deadlines } = delays;
    if (!deadlines.armed(this.#pair)) {
      deadlines.arm(this.#pair, deadlines.now + policy.delayNs);
      return false;
    }
    if (policy.impatient) deadlines.cancel(this.#pair);
    return policy.impatient;
  }

  #send(bus: VirtioBus, chain: DescriptorChain): Verdict {
    const { far, up, headerLength, counters } = this.#link;
    const { dma } = bus.seams;
    const { readable } = chain;
    const length = readable.total - headerLength;
    if (length < ETHER_HDR_LEN || length > MAX_FRAME) return this.#drop(bus, "tx-frame-size", Math.max(0, length));
    readable.copyOut(dma, 0, VIRTIO_NET_HDR_SIZE_LEGACY, this.#header, 0);
    const flags = this.#header[VIRTIO_NET_HDR_FLAGS]!;
    const type = this.#header[VIRTIO_NET_HDR_GSO_TYPE]!;
    let offload: Offload | null = null;
    if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 || type !== VIRTIO_NET_HDR_GSO_NONE) {
      if (!this.#readOffload(bus, flags, type, length)) return "dropped";
      if (this.#offload.needsCsum) offload = this.#offload;
    }
    if (!up || far === null) {
      counters[TX_DROPPED]!++;
      return "dropped";
    }
    this.#offered = true;
    const whole = readable.inOnePiece(headerLength, length);
    const bytes = whole ? readable.pieceBytes : this.#gather(dma, chain, headerLength, length);
    const start = whole ? readable.pieceAt : 0;
    const { steering } = this.#shared;
    if (steering.learning) steering.sent(bytes, start, length, this.#pair);
    const verdict = far.offer(bytes, start, length, offload, this.#pair);
    if (verdict === "taken") {
      counters[TX_FRAMES]!++;
      counters[TX_BYTES]! += length;
    } else if (verdict === "dropped") counters[TX_DROPPED]!++;
    return verdict;
  }

  /**
   * Takes what is left to the device out of the header. Other flags, `hdr_len` and `num_buffers` count for nothing, and
   * checksum fields do not without their flag. §5.1.6.2.2 @returns false when the frame was dropped
   */
  #readOffload(bus: VirtioBus, flags: number, type: number, length: number): boolean {
    const link = this.#link;
    const view = this.#headerView;
    const offload = this.#offload;
    const kind = type & ~VIRTIO_NET_HDR_GSO_ECN;
    offload.ecn = type !== kind;
    offload.gso = "none";
    offload.gsoSize = 0;
    if (type !== VIRTIO_NET_HDR_GSO_NONE) {
      if (kind === VIRTIO_NET_HDR_GSO_TCPV4 && link.hostTso4) offload.gso = "tcp4";
      else if (kind === VIRTIO_NET_HDR_GSO_TCPV6 && link.hostTso6) offload.gso = "tcp6";
      else if (kind === VIRTIO_NET_HDR_GSO_UDP_L4 && link.hostUso && !offload.ecn) offload.gso = "udp";
      else if (kind === VIRTIO_NET_HDR_GSO_UDP && link.hostUfo && !offload.ecn) offload.gso = "udpfrag";
      if (offload.gso === "none" || (offload.ecn && !link.hostEcn)) {
        this.#drop(bus, "tx-gso-not-negotiated", type);
        return false;
      }
      // Each segment needs a checksum of its own: the two go together. §5.1.6.2.1
      if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) {
        this.#drop(bus, "tx-gso-without-csum", type);
        return false;
      }
      offload.gsoSize = view.getUint16(VIRTIO_NET_HDR_GSO_SIZE, true);
      if (offload.gsoSize === 0) {
        this.#drop(bus, "tx-gso-size", 0);
        return false;
      }
    }
    offload.needsCsum = link.hostCsum; // without CSUM the flag is one that does not exist
    offload.csumStart = view.getUint16(VIRTIO_NET_HDR_CSUM_START, true);
    offload.csumOffset = view.getUint16(VIRTIO_NET_HDR_CSUM_OFFSET, true);
    if (!offload.needsCsum || offload.csumStart + offload.csumOffset + 2 <= length) return true;
    this.#drop(bus, "tx-csum-outside-frame", offload.csumStart + offload.csumOffset);
    return false;
  }

  #gather(dma: DmaDoor, chain: DescriptorChain, skip: number, length: number): Uint8Array {
    this.#staging ??= new Uint8Array(MAX_FRAME);
    chain.readable.copyOut(dma, skip, length, this.#staging, 0);
    this.#link.counters[BYTES_COPIED]! += length;
    return this.#staging;
  }

  #drop(bus: VirtioBus, code: string, value: number): Verdict {
    bus.seams.report(code, value);
    this.#link.counters[TX_DROPPED]!++;
    return "dropped";
  }
}
