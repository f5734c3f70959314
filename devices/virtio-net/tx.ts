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
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VIRTIO_NET_HDR_SIZE_LEGACY,
} from "../../src/spec/virtio-net.js";
import { DescriptorChain, type VirtioBus, type Virtqueue } from "../../src/virtio/index.js";
import { BYTES_COPIED, DESCRIPTORS, type Link, MAX_FRAME, TX_BYTES, TX_DROPPED, TX_FRAMES } from "./link.js";

/** The transmit queue: frames from the driver to the far end of the cable. VIRTIO 1.3 §5.1.6.2 */
export class Tx {
  /** the far end answered `later`: the queue stands still until it is ready */
  blocked = false;
  readonly #link: Link;
  readonly #chain = new DescriptorChain();
  readonly #staging = new Uint8Array(MAX_FRAME);
  readonly #header = new Uint8Array(VIRTIO_NET_HDR_SIZE_LEGACY);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #offload = new OffloadRecord();
  #offered = false; // something was handed on in this run

  constructor(link: Link) {
    this.#link = link;
  }

  release(): void {
    this.#chain.release();
  }

  /** Sends until the queue is empty, `budget` descriptors were used, or the far end cannot take more. */
  run(bus: VirtioBus, queue: Virtqueue, budget: number): number {
    if (this.blocked) return 0;
    const chain = this.#chain;
    let used = 0;
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
        queue.push(chain.heads[0]!, 0);
      }
      queue.publish();
      // Left suppressed when more remains: whoever resumes will look by itself.
    } while (!this.blocked && used < budget && queue.broken === null && queue.rearm());
    this.#link.counters[DESCRIPTORS]! += used;
    bus.usedBuffers(queue);
    if (this.#offered) {
      this.#offered = false;
      this.#link.far?.endBatch();
    }
    return used;
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
    const verdict = readable.inOnePiece(headerLength, length)
      ? far.offer(readable.pieceBytes, readable.pieceAt, length, offload, 0)
      : far.offer(this.#gather(dma, chain, headerLength, length), 0, length, offload, 0);
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
