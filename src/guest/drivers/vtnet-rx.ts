import {
  VIRTIO_NET_HASH_REPORT_NONE,
  VIRTIO_NET_HDR_CSUM_OFFSET,
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_SIZE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VIRTIO_NET_HDR_HASH_REPORT,
  VIRTIO_NET_HDR_HASH_VALUE,
  VIRTIO_NET_HDR_NUM_BUFFERS,
} from "../../spec/virtio-net.js";
import type { DmaMemory, FrameSegments, Ifnet, RxOffload, SegmentKind } from "../types.js";
import { type Counters, ETHER_HDR_LEN, frameSegments } from "./ifnet.js";
import type { VirtioAttach } from "./virtio-bus.js";
import { type Virtqueue, VQ_OK } from "./virtqueue.js";

/** What the header of a received packet says; one for all frames of a queue. */
class RxRecord implements RxOffload {
  csum: RxOffload["csum"] = "none";
  csumStart = 0;
  csumOffset = 0;
  gso: SegmentKind = "none";
  gsoSize = 0;
  ecn = false;
  hash = 0;
  hashReport = VIRTIO_NET_HASH_REPORT_NONE;
}

/** How receive buffers are laid out, and what may stand in their headers; the same for all queues. */
export interface RxLayout {
  /** bytes of the header */
  readonly hdrSize: number;
  /** The header has a descriptor of its own */
  readonly hdrApart: boolean;
  /** offset of the frame in the first cluster */
  readonly dataAt: number;
  /** bytes of a cluster */
  readonly clusterBytes: number;
  /** MRG_RXBUF: a frame may take several clusters */
  readonly mergeable: boolean;
  /** GUEST_CSUM: the header says something about checksums */
  readonly csum: boolean;
  /** gso_type values that were accepted, as bits */
  readonly segments: number;
  /** HASH_REPORT */
  readonly hash: boolean;
}

/** The interface that a receive queue belongs to. */
interface RxOwner {
  readonly running: boolean;
  readonly stats: Counters;
  readonly onReceive: Ifnet["onReceive"];
}

/** One receive queue and its clusters. VIRTIO 1.3 §5.1.6.3, §5.1.6.4 */
export class VtnetRx {
  readonly vq: Virtqueue;
  readonly #owner: RxOwner;
  readonly #bus: VirtioAttach;
  readonly #layout: RxLayout;
  readonly #memory: DmaMemory;
  readonly #clusters: number;
  readonly #record = new RxRecord();
  readonly #post = frameSegments(2);
  readonly #more: FrameSegments;
  readonly #taken: Int32Array; // clusters of the frame in hand
  #epoch = 0; // changes when the queue is emptied under the handler's feet

  /** @param memory whole clusters, as many as there are to be in the queue */
  constructor(owner: RxOwner, bus: VirtioAttach, vq: Virtqueue, memory: DmaMemory, layout: RxLayout) {
    this.#owner = owner;
    this.#bus = bus;
    this.vq = vq;
    this.#memory = memory;
    this.#layout = layout;
    this.#clusters = Math.floor(memory.size / layout.clusterBytes);
    this.#more = frameSegments(vq.size);
    this.#taken = new Int32Array(vq.size);
  }

  /** Hands all clusters to the device, unnotified. */
  fill(): void {
    for (let i = 0; i < this.#clusters; i++) if (!this.#enqueue(i)) break;
  }

  /** From now on the handler comes when there is something. */
  arm(): void {
    this.vq.notify();
    if (this.vq.enableIntr()) this.#bus.scheduleVq(this.vq.index);
  }

  /** Empties the queue, whose buffers are the driver's again. */
  forget(): void {
    this.#epoch++;
    while (this.vq.drain() >= 0);
  }

  /** The interrupt handler. */
  intr(): void {
    if (!this.#owner.running) return;
    const { vq } = this;
    const epoch = this.#epoch;
    let budget = vq.size;
    do {
      vq.disableIntr();
      for (let cluster = vq.dequeue(); cluster >= 0; cluster = vq.dequeue()) {
        this.#eof(cluster);
        if (epoch !== this.#epoch) return; // onReceive took the interface down
        if (--budget === 0) {
          vq.notify();
          this.#bus.scheduleVq(vq.index); // others want a turn, too
          return;
        }
      }
      vq.notify();
    } while (vq.enableIntr());
  }

  /** Hands a cluster to the device. */
  #enqueue(cluster: number): boolean {
    const { clusterBytes, hdrApart, hdrSize, dataAt } = this.#layout;
    const { paddr, len } = this.#post;
    this.#memory.sync(cluster * clusterBytes, clusterBytes, "preread");
    const at = this.#memory.paddr + cluster * clusterBytes;
    paddr[0] = at;
    if (!hdrApart) {
      len[0] = clusterBytes;
      return this.vq.enqueue(cluster, this.#post, 0, 1) === VQ_OK;
    }
    len[0] = hdrSize;
    paddr[1] = at + dataAt;
    len[1] = clusterBytes - dataAt;
    return this.vq.enqueue(cluster, this.#post, 0, 2) === VQ_OK;
  }

  /** One frame, in as many clusters as its header says; all of them go back to the device. */
  #eof(cluster: number): void {
    const { vq } = this;
    const { clusterBytes, hdrSize, dataAt, mergeable } = this.#layout;
    const { stats } = this.#owner;
    const memory = this.#memory;
    const epoch = this.#epoch;
    const first = vq.usedLen - hdrSize;
    const at = cluster * clusterBytes;
    memory.sync(at, dataAt + Math.max(first, 0), "postread");
    const buffers = mergeable && first >= 0 ? memory.read16(at + VIRTIO_NET_HDR_NUM_BUFFERS) : 1;
    const more = this.#more;
    more.count = 0;
    let bytes = first;
    let taken = 0;
    this.#taken[taken++] = cluster;
    while (taken < buffers) {
      const next = vq.dequeue();
      if (next < 0) break;
      const length = vq.usedLen;
      memory.sync(next * clusterBytes, length, "postread");
      this.#taken[taken++] = next;
      more.paddr[more.count] = memory.paddr + next * clusterBytes;
      more.len[more.count++] = length;
      bytes += length;
    }
    // Too short for a frame, of a merged one not all is there, or a header that lies: nothing that could be passed on.
    if (first <= 0 || bytes < ETHER_HDR_LEN || taken < buffers || !this.#header(at, bytes)) stats.ierrors++;
    else {
      stats.ipackets++;
      stats.ibytes += bytes;
      this.#owner.onReceive?.(memory.paddr + at + dataAt, first, more.count > 0 ? more : null, this.#record);
      if (epoch !== this.#epoch) return; // the clusters were enqueued anew, or will be
    }
    for (let i = 0; i < taken; i++) this.#enqueue(this.#taken[i]!);
  }

  /**
   * Reads what the header says about a frame; `hdr_len` is a hint and not looked at. §5.1.6.4.1
   * @param at of the header in the clusters; @param bytes of the frame
   * @returns false when it points out of the frame, or tells of a segmentation that was not accepted
   */
  #header(at: number, bytes: number): boolean {
    const record = this.#record;
    const memory = this.#memory;
    const { csum, segments, hash } = this.#layout;
    if (hash) {
      record.hash = memory.read32(at + VIRTIO_NET_HDR_HASH_VALUE);
      record.hashReport = memory.read16(at + VIRTIO_NET_HDR_HASH_REPORT);
    }
    const flagsAndType = memory.read16(at + VIRTIO_NET_HDR_FLAGS);
    record.csum = "none";
    record.csumStart = record.csumOffset = record.gsoSize = 0;
    record.gso = "none";
    record.ecn = false;
    if (flagsAndType === 0) return true;
    if (!csum) return true; // nothing was accepted that it could tell of
    if ((flagsAndType & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0) {
      const sizeAndStart = memory.read32(at + VIRTIO_NET_HDR_GSO_SIZE);
      record.csum = "partial";
      record.csumStart = sizeAndStart >>> 16;
      record.csumOffset = memory.read16(at + VIRTIO_NET_HDR_CSUM_OFFSET);
      if (record.csumStart + record.csumOffset + 2 > bytes) return false;
      record.gsoSize = sizeAndStart & 0xffff;
    } else if ((flagsAndType & VIRTIO_NET_HDR_F_DATA_VALID) !== 0) record.csum = "valid";
    const type = flagsAndType >>> 8;
    if (type === VIRTIO_NET_HDR_GSO_NONE) {
      record.gsoSize = 0;
      return true;
    }
    record.ecn = (type & VIRTIO_NET_HDR_GSO_ECN) !== 0;
    const kind = type & ~VIRTIO_NET_HDR_GSO_ECN;
    if (kind > 31 || ((segments >>> kind) & 1) === 0 || record.gsoSize === 0) return false;
    record.gso = kindOf(kind);
    return true;
  }
}

const kindOf = (type: number): SegmentKind => {
  switch (type) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
      return "tcp4";
    case VIRTIO_NET_HDR_GSO_TCPV6:
      return "tcp6";
    case VIRTIO_NET_HDR_GSO_UDP_L4:
      return "udp";
    default:
      return "udpfrag";
  }
};

/** gso_type of a kind of segments. */
export const gsoTypeOf = (kind: SegmentKind): number => {
  switch (kind) {
    case "tcp4":
      return VIRTIO_NET_HDR_GSO_TCPV4;
    case "tcp6":
      return VIRTIO_NET_HDR_GSO_TCPV6;
    case "udp":
      return VIRTIO_NET_HDR_GSO_UDP_L4;
    case "udpfrag":
      return VIRTIO_NET_HDR_GSO_UDP;
    default:
      return VIRTIO_NET_HDR_GSO_NONE;
  }
};
