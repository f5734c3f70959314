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
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_HASH_CONFIG,
  VIRTIO_NET_CTRL_MQ_RSS_CONFIG,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_CTRL_NOTF_COAL,
  VIRTIO_NET_CTRL_NOTF_COAL_RX_SET,
  VIRTIO_NET_CTRL_NOTF_COAL_TX_SET,
  VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET,
  VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET,
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
  VIRTIO_NET_RSS_MAX_KEY_SIZE,
  VIRTIO_NET_RSS_MAX_TABLE_LEN,
} from "../../src/spec/virtio-net.js";
import { DescriptorChain, type SegmentList, type VirtioBus, type Virtqueue } from "../../src/virtio/index.js";
import type { CoalescingParameters } from "./coalescing.js";
import type { ReceiveFilter } from "./filter.js";
import { DESCRIPTORS, type Link } from "./link.js";
import { HASH_TYPES, type HashConfig, type RssConfig } from "./steering.js";

/** bytes of class and command */
const HEADER = 2;

// struct virtio_net_rss_config, and virtio_net_hash_config, which is laid out like it. §5.1.6.5.7.1, §5.1.6.5.6.4
const RSS_MASK = HEADER + 4;
const RSS_UNCLASSIFIED = HEADER + 6;
const RSS_TABLE = HEADER + 8;
const HASH_KEY_LENGTH = HEADER + 12;
/** struct virtio_net_ctrl_coal, bytes. §5.1.6.5.9 */
const COAL_LEN = 8;
/** vq_index and a reserved field in front of it */
const COAL_VQ = 4;

/** What commands change beside the filter. */
export interface ControlTarget {
  /** the address in the filter is another one */
  macChanged(): void;
  /** The driver has announced itself. @returns false when it was not asked to */
  announced(): boolean;
  /** Switches receiving offloads; feature bits as two words. @returns false when one of them was not accepted */
  setGuestOffloads(lo: number, hi: number): boolean;
  /** Steers by flow over so many pairs of queues. @returns false for a number that there is not, or without MQ */
  setPairs(pairs: number): boolean;
  /** Steers by hash; arguments are to be copied. @returns false for queues that there are not, or without RSS */
  setRss(rss: RssConfig, maxTx: number, hash: HashConfig): boolean;
  /** Reports hashes, and steers by flow. @returns false without HASH_REPORT */
  setHash(hash: HashConfig): boolean;
  /** Coalesces notifications of all receive (0) or transmit (1) queues. @returns false without NOTF_COAL */
  setCoalescing(kind: 0 | 1, parameters: CoalescingParameters): boolean;
  /** The same for one queue. @returns false when it is no enabled receive or transmit queue, or without VQ_NOTF_COAL */
  setQueueCoalescing(queue: number, parameters: CoalescingParameters): boolean;
  /** null when it is no enabled receive or transmit queue, or without VQ_NOTF_COAL */
  queueCoalescing(queue: number): CoalescingParameters | null;
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
  readonly #table = new Uint16Array(VIRTIO_NET_RSS_MAX_TABLE_LEN);
  readonly #key = new Uint8Array(VIRTIO_NET_RSS_MAX_KEY_SIZE);
  /** what a command hands back in front of its ack */
  readonly #reply = new Uint8Array(COAL_LEN);
  readonly #replyView = new DataView(this.#reply.buffer);

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
        const { dma } = bus.seams;
        const { readable, writable } = chain;
        const reply = replyLength(readable.byteAt(dma, 0, this.#scratch), readable.byteAt(dma, 1, this.#scratch));
        const fits = reply < writable.total;
        this.#reply.fill(0);
        this.#ack[0] = fits ? this.#command(dma, readable) : VIRTIO_NET_ERR;
        const ackAt = fits ? reply : 0;
        if (ackAt > 0) writable.copyIn(dma, 0, reply, this.#reply, 0);
        writable.copyIn(dma, ackAt, 1, this.#ack, 0);
        queue.push(chain.heads[0]!, ackAt + 1); // no more: NetKVM takes anything else for a broken device
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
    if (kind === VIRTIO_NET_CTRL_MQ) {
      if (command === VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) return this.#pairsSet(dma, request);
      if (command === VIRTIO_NET_CTRL_MQ_RSS_CONFIG) return this.#rssConfig(dma, request);
      if (command === VIRTIO_NET_CTRL_MQ_HASH_CONFIG) return this.#hashConfig(dma, request);
    }
    if (kind === VIRTIO_NET_CTRL_NOTF_COAL) return this.#coalescing(dma, command, request);
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
    // A count that is not all there is caught below: then the tables cannot end with the data.
    const unicast = this.#u32(dma, request, HEADER);
    const unicastAt = HEADER + 4;
    const at = unicastAt + unicast * ETHER_ADDR_LEN; // below 2³⁵: the product cannot wrap
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
    const id = this.#u16(dma, request, HEADER);
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

  #pairsSet(dma: DmaDoor, request: SegmentList): number {
    if (request.total !== HEADER + 2) return VIRTIO_NET_ERR;
    return this.#target.setPairs(this.#u16(dma, request, HEADER)) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
  }

  /** Nothing changes on an error. §5.1.6.5.7.1 */
  #rssConfig(dma: DmaDoor, request: SegmentList): number {
    if (request.total < RSS_TABLE) return VIRTIO_NET_ERR;
    const mask = this.#u16(dma, request, RSS_MASK);
    if (mask >= VIRTIO_NET_RSS_MAX_TABLE_LEN || (mask & (mask + 1)) !== 0) return VIRTIO_NET_ERR;
    const tableEnd = RSS_TABLE + 2 * (mask + 1);
    if (!this.#fetchKey(dma, request, tableEnd + 2)) return VIRTIO_NET_ERR;
    for (let i = 0; i <= mask; i++) this.#table[i] = this.#u16(dma, request, RSS_TABLE + 2 * i);
    this.#table.fill(0, mask + 1);
    const types = this.#u32(dma, request, HEADER);
    if ((types & ~HASH_TYPES) !== 0) return VIRTIO_NET_ERR;
    const unclassified = this.#u16(dma, request, RSS_UNCLASSIFIED);
    const maxTx = this.#u16(dma, request, tableEnd);
    const rss = { mask, unclassified, table: this.#table };
    return this.#target.setRss(rss, maxTx, { types, key: this.#key }) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
  }

  #hashConfig(dma: DmaDoor, request: SegmentList): number {
    if (!this.#fetchKey(dma, request, HASH_KEY_LENGTH)) return VIRTIO_NET_ERR;
    const types = this.#u32(dma, request, HEADER);
    if ((types & ~HASH_TYPES) !== 0) return VIRTIO_NET_ERR;
    return this.#target.setHash({ types, key: this.#key }) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
  }

  /** Length and bytes of a key end the data; what is missing of it is 0. @returns false when they do not */
  #fetchKey(dma: DmaDoor, request: SegmentList, at: number): boolean {
    if (request.total <= at) return false;
    const length = request.byteAt(dma, at, this.#scratch);
    if (length > VIRTIO_NET_RSS_MAX_KEY_SIZE || request.total !== at + 1 + length) return false;
    this.#key.fill(0);
    request.copyOut(dma, at + 1, length, this.#key, 0);
    return true;
  }

  #coalescing(dma: DmaDoor, command: number, request: SegmentList): number {
    const target = this.#target;
    let done = false;
    if (command === VIRTIO_NET_CTRL_NOTF_COAL_TX_SET || command === VIRTIO_NET_CTRL_NOTF_COAL_RX_SET) {
      if (request.total !== HEADER + COAL_LEN) return VIRTIO_NET_ERR;
      const kind = command === VIRTIO_NET_CTRL_NOTF_COAL_TX_SET ? 1 : 0;
      done = target.setCoalescing(kind, this.#parameters(dma, request, HEADER));
    } else if (command === VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET) {
      if (request.total !== HEADER + COAL_VQ + COAL_LEN) return VIRTIO_NET_ERR;
      const parameters = this.#parameters(dma, request, HEADER + COAL_VQ);
      done = target.setQueueCoalescing(this.#u16(dma, request, HEADER), parameters);
    } else if (command === VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET) {
      if (request.total !== HEADER + COAL_VQ) return VIRTIO_NET_ERR;
      const parameters = target.queueCoalescing(this.#u16(dma, request, HEADER));
      if (parameters === null) return VIRTIO_NET_ERR;
      this.#replyView.setUint32(0, parameters.maxPackets, true);
      this.#replyView.setUint32(4, parameters.maxUsecs, true);
      done = true;
    }
    return done ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
  }

  #parameters(dma: DmaDoor, request: SegmentList, at: number): CoalescingParameters {
    return { maxPackets: this.#u32(dma, request, at), maxUsecs: this.#u32(dma, request, at + 4) };
  }

  #u16(dma: DmaDoor, request: SegmentList, at: number): number {
    request.copyOut(dma, at, 2, this.#scratch, 0);
    return this.#scratchView.getUint16(0, true);
  }

  #u32(dma: DmaDoor, request: SegmentList, at: number): number {
    request.copyOut(dma, at, 4, this.#scratch, 0);
    return this.#scratchView.getUint32(0, true);
  }
}

/** Bytes that a command hands back in front of its ack: those of its data that the device writes. §5.1.6.5.9 */
const replyLength = (kind: number, command: number): number =>
  kind === VIRTIO_NET_CTRL_NOTF_COAL && command === VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET ? COAL_LEN : 0;
