import { ETHER_HDR_LEN } from "../../src/bytes/index.js";
import type { DmaDoor, Verdict } from "../../src/contract/index.js";
import { VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TYPE } from "../../src/spec/virtio-net.js";
import { DescriptorChain, type VirtioBus, type Virtqueue } from "../../src/virtio/index.js";
import { BYTES_COPIED, DESCRIPTORS, type Link, MAX_FRAME, TX_BYTES, TX_DROPPED, TX_FRAMES } from "./link.js";

/** The transmit queue: frames from the driver to the far end of the cable. VIRTIO 1.3 §5.1.6.2 */
export class Tx {
  /** the far end answered `later`: the queue stands still until it is ready */
  blocked = false;
  readonly #link: Link;
  readonly #chain = new DescriptorChain();
  readonly #staging = new Uint8Array(MAX_FRAME);
  readonly #byte = new Uint8Array(1);
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
    const gso = readable.byteAt(dma, VIRTIO_NET_HDR_GSO_TYPE, this.#byte);
    if (gso !== VIRTIO_NET_HDR_GSO_NONE) return this.#drop(bus, "tx-gso-not-negotiated", gso);
    if (!up || far === null) {
      counters[TX_DROPPED]!++;
      return "dropped";
    }
    this.#offered = true;
    const verdict = readable.inOnePiece(headerLength, length)
      ? far.offer(readable.pieceBytes, readable.pieceAt, length, null, 0)
      : far.offer(this.#gather(dma, chain, headerLength, length), 0, length, null, 0);
    if (verdict === "taken") {
      counters[TX_FRAMES]!++;
      counters[TX_BYTES]! += length;
    } else if (verdict === "dropped") counters[TX_DROPPED]!++;
    return verdict;
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
