import { ETHER_ADDR_LEN } from "../../src/bytes/index.js";
import type { DmaDoor } from "../../src/contract/index.js";
import {
  VIRTIO_NET_CTRL_ANNOUNCE,
  VIRTIO_NET_CTRL_ANNOUNCE_ACK,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MAC_ADDR_SET,
  VIRTIO_NET_CTRL_MAC_TABLE_SET,
  VIRTIO_NET_CTRL_RX,
  VIRTIO_NET_CTRL_RX_ALLMULTI,
  VIRTIO_NET_CTRL_RX_ALLUNI,
  VIRTIO_NET_CTRL_RX_NOBCAST,
  VIRTIO_NET_CTRL_RX_NOMULTI,
  VIRTIO_NET_CTRL_RX_NOUNI,
  VIRTIO_NET_CTRL_RX_PROMISC,
  VIRTIO_NET_CTRL_VLAN,
  VIRTIO_NET_CTRL_VLAN_ADD,
  VIRTIO_NET_CTRL_VLAN_DEL,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from "../../src/spec/virtio-net.js";
import { DescriptorChain, type SegmentList, type VirtioBus, type Virtqueue } from "../../src/virtio/index.js";
import type { ReceiveFilter } from "./filter.js";
import { DESCRIPTORS, type Link } from "./link.js";

/** bytes of class and command */
const HEADER = 2;

/** What commands change beside the filter. */
export interface ControlTarget {
  /** the address in the filter is another one */
  macChanged(): void;
  /** The driver has announced itself. @returns false when it was not asked to */
  announced(): boolean;
  /** Switches receiving offloads; feature bits as two words. @returns false when one of them was not accepted */
  setGuestOffloads(lo: number, hi: number): boolean;
}

/** The control queue: each command is done before the notification returns. VIRTIO 1.3 §5.1.6.5 */
export class Control {
  readonly #link: Link;
  readonly #filter: ReceiveFilter;
  readonly #target: ControlTarget;
  readonly #chain = new DescriptorChain();
  readonly #scratch = new Uint8Array(8);
  readonly #scratchView = new DataView(this.#scratch.buffer);
  readonly #ack = new Uint8Array(1);

  constructor(link: Link, filter: ReceiveFilter, target: ControlTarget) {
    this.#link = link;
    this.#filter = filter;
    this.#target = target;
  }

  release(): void {
    this.#chain.release();
  }

  run(bus: VirtioBus, queue: Virtqueue, budget: number): number {
    const chain = this.#chain;
    let used = 0;
    do {
      while (used < budget) {
        chain.clear();
        if (!queue.take(chain)) break;
        used += chain.descriptors;
        if (chain.readable.total < HEADER || chain.writable.total < 1) {
          bus.fail("control-chain-incomplete", chain.heads[0]!);
          return used;
        }
        this.#ack[0] = this.#command(bus.seams.dma, chain.readable);
        chain.writable.copyIn(bus.seams.dma, 0, 1, this.#ack, 0);
        queue.push(chain.heads[0]!, 1); // exactly the ack: NetKVM takes anything else for a broken device
      }
      queue.publish();
    } while (used < budget && queue.broken === null && queue.rearm());
    this.#link.counters[DESCRIPTORS]! += used;
    bus.usedBuffers(queue);
    return used;
  }

  /** @param request class, command and data as a stream of bytes, however it is cut into descriptors */
  #command(dma: DmaDoor, request: SegmentList): number {
    const kind = request.byteAt(dma, 0, this.#scratch);
    const command = request.byteAt(dma, 1, this.#scratch);
    if (kind === VIRTIO_NET_CTRL_RX) return this.#rxMode(dma, command, request);
    if (kind === VIRTIO_NET_CTRL_MAC) {
      if (command === VIRTIO_NET_CTRL_MAC_TABLE_SET) return this.#tableSet(dma, request);
      if (command === VIRTIO_NET_CTRL_MAC_ADDR_SET) return this.#addrSet(dma, request);
    }
    if (kind === VIRTIO_NET_CTRL_VLAN) return this.#vlan(dma, command, request);
    if (kind === VIRTIO_NET_CTRL_ANNOUNCE && command === VIRTIO_NET_CTRL_ANNOUNCE_ACK)
      return request.total === HEADER && this.#target.announced() ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
    if (kind === VIRTIO_NET_CTRL_GUEST_OFFLOADS && command === VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET)
      return this.#guestOffloads(dma, request);
    return VIRTIO_NET_ERR;
  }

  #rxMode(dma: DmaDoor, command: number, request: SegmentList): number {
    if (request.total !== HEADER + 1) return VIRTIO_NET_ERR;
    const on = request.byteAt(dma, HEADER, this.#scratch) !== 0;
    const filter = this.#filter;
    if (command === VIRTIO_NET_CTRL_RX_PROMISC) filter.promisc = on;
    else if (command === VIRTIO_NET_CTRL_RX_ALLMULTI) filter.allmulti = on;
    else if (command === VIRTIO_NET_CTRL_RX_ALLUNI) filter.alluni = on;
    else if (command === VIRTIO_NET_CTRL_RX_NOMULTI) filter.nomulti = on;
    else if (command === VIRTIO_NET_CTRL_RX_NOUNI) filter.nouni = on;
    else if (command === VIRTIO_NET_CTRL_RX_NOBCAST) filter.nobcast = on;
    else return VIRTIO_NET_ERR;
    return VIRTIO_NET_OK;
  }

  /** Two tables: le32 count and the addresses, unicast first; the second ends with the data. Nothing changes on an error. */
  #tableSet(dma: DmaDoor, request: SegmentList): number {
    let at = HEADER;
    if (request.total - at < 4) return VIRTIO_NET_ERR;
    const unicast = this.#u32(dma, request, at);
    const unicastAt = at + 4;
    at = unicastAt + unicast * ETHER_ADDR_LEN; // below 2³⁵: the product cannot wrap
    if (request.total - at < 4) return VIRTIO_NET_ERR;
    const multicast = this.#u32(dma, request, at);
    const multicastAt = at + 4;
    if (multicastAt + multicast * ETHER_ADDR_LEN !== request.total) return VIRTIO_NET_ERR;
    this.#filter.setTables(unicast, multicast, (kind, target, targetAt) => {
      if (kind === "unicast") request.copyOut(dma, unicastAt, unicast * ETHER_ADDR_LEN, target, targetAt);
      else request.copyOut(dma, multicastAt, multicast * ETHER_ADDR_LEN, target, targetAt);
    });
    return VIRTIO_NET_OK;
  }

  #addrSet(dma: DmaDoor, request: SegmentList): number {
    if (request.total !== HEADER + ETHER_ADDR_LEN) return VIRTIO_NET_ERR;
    request.copyOut(dma, HEADER, ETHER_ADDR_LEN, this.#filter.mac, 0);
    this.#target.macChanged();
    return VIRTIO_NET_OK;
  }

  #vlan(dma: DmaDoor, command: number, request: SegmentList): number {
    if (request.total !== HEADER + 2) return VIRTIO_NET_ERR;
    request.copyOut(dma, HEADER, 2, this.#scratch, 0);
    const id = this.#scratchView.getUint16(0, true);
    if (id >= 4096) return VIRTIO_NET_ERR;
    if (command === VIRTIO_NET_CTRL_VLAN_ADD) this.#filter.permitVlan(id, true);
    else if (command === VIRTIO_NET_CTRL_VLAN_DEL) this.#filter.permitVlan(id, false);
    else return VIRTIO_NET_ERR;
    return VIRTIO_NET_OK;
  }

  #guestOffloads(dma: DmaDoor, request: SegmentList): number {
    if (request.total !== HEADER + 8) return VIRTIO_NET_ERR;
    const lo = this.#u32(dma, request, HEADER);
    const hi = this.#u32(dma, request, HEADER + 4);
    return this.#target.setGuestOffloads(lo, hi) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
  }

  #u32(dma: DmaDoor, request: SegmentList, at: number): number {
    request.copyOut(dma, at, 4, this.#scratch, 0);
    return this.#scratchView.getUint32(0, true);
  }
}
