import {
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
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_OK,
} from "../../spec/virtio-net.js";
import type { DmaMemory } from "../types.js";
import { ETHER_ADDR_LEN, frameSegments } from "./ifnet.js";
import type { VirtioAttach, VirtioFeatures } from "./virtio-bus.js";
import { type Virtqueue, VQ_OK } from "./virtqueue.js";
import type { Coalescing } from "./vtnet-features.js";

/** Addresses in the multicast table; more switch to ALLMULTI. VTNET_MAX_MAC_ENTRIES */
const MAC_ENTRIES = 128;
/** A command is given 1 s. */
const POLLS = 10_000;
const POLL_US = 100;
// The memory: command, data, reply, acknowledgement.
const HDR = 0;
const HDR_LEN = 2;
const DATA = 8;
const DATA_LEN = 8 + ETHER_ADDR_LEN * MAC_ENTRIES;
const REPLY = DATA + DATA_LEN;
const REPLY_LEN = 8;
const ACK = REPLY + REPLY_LEN;
/** bytes of memory that a control queue needs */
export const CONTROL_BYTES = ACK + 1;
/** What no device acknowledges with. */
const NO_ACK = 0xff;

/** The key of Microsoft's verification suite for receive side scaling, which cards and drivers have in common. */
const RSS_KEY = [
  0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
  0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
  0x01, 0xfa,
] as const;

/** The control queue: one command at a time, polled, since its answers are all there is to wait for. VIRTIO 1.3 §5.1.6.5 */
export class VtnetControl {
  readonly vq: Virtqueue;
  /** a command waits for its answer, and others ran meanwhile */
  busy = false;
  readonly #bus: VirtioAttach;
  readonly #memory: DmaMemory;
  readonly #log: (message: string) => void;
  readonly #segments = frameSegments(4);
  #lost = false; // a command was never answered: its buffer is still the device's
  #epoch = 0; // changes when the queue is emptied under a command's feet

  /** @param memory CONTROL_BYTES of it, in one piece */
  constructor(bus: VirtioAttach, vq: Virtqueue, memory: DmaMemory, log: (message: string) => void) {
    this.#bus = bus;
    this.vq = vq;
    this.#memory = memory;
    this.#log = log;
  }

  /** The device was reset: nothing is outstanding any more. */
  forget(): void {
    this.#epoch++;
    while (this.vq.drain() >= 0);
    this.#lost = false;
  }

  /** All of these: @returns whether the device did it; a feature that was not accepted counts as a refusal */
  setRx(command: number, on: boolean): boolean {
    if (!this.#bus.withFeature(VIRTIO_NET_F_CTRL_RX)) return false;
    this.#memory.write8(DATA, on ? 1 : 0);
    return this.#command(VIRTIO_NET_CTRL_RX, command, 1);
  }

  /** An empty unicast table, the groups as the multicast one. False also when they are too many */
  setTable(groups: readonly Uint8Array[]): boolean {
    if (!this.#bus.withFeature(VIRTIO_NET_F_CTRL_RX) || groups.length > MAC_ENTRIES) return false;
    const memory = this.#memory;
    memory.write32(DATA, 0);
    memory.write32(DATA + 4, groups.length);
    for (const [i, group] of groups.entries()) memory.copyIn(DATA + 8 + i * ETHER_ADDR_LEN, group, 0, ETHER_ADDR_LEN);
    return this.#command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 8 + groups.length * ETHER_ADDR_LEN);
  }

  setMac(mac: Uint8Array): boolean {
    if (!this.#bus.withFeature(VIRTIO_NET_F_CTRL_MAC_ADDR)) return false;
    this.#memory.copyIn(DATA, mac, 0, ETHER_ADDR_LEN);
    return this.#command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, ETHER_ADDR_LEN);
  }

  /** Which receiving offloads the device is to use from now on. §5.1.6.5.8 */
  setGuestOffloads({ lo, hi }: VirtioFeatures): boolean {
    this.#memory.write32(DATA, lo);
    this.#memory.write32(DATA + 4, hi);
    return this.#command(VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 8);
  }

  /** How many pairs of queues the device is to use. §5.1.6.5.6 */
  setPairs(pairs: number): boolean {
    this.#memory.write16(DATA, pairs);
    return this.#command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2);
  }

  /**
   * Spreads what is received over `pairs` queues by its hash, the rest goes to queue 0. §5.1.6.5.7
   * @param types VIRTIO_NET_HASH_TYPE_* bits; @param entries of the table, a power of two, 1 … 128
   */
  setRss(pairs: number, types: number, entries: number): boolean {
    const memory = this.#memory;
    memory.write32(DATA, types);
    memory.write16(DATA + 4, entries - 1);
    memory.write16(DATA + 6, 0); // unclassified_queue
    for (let i = 0; i < entries; i++) memory.write16(DATA + 8 + 2 * i, i % pairs);
    const behind = DATA + 8 + 2 * entries;
    memory.write16(behind, pairs); // max_tx_vq
    const length = this.#putKey(behind + 2) - DATA;
    return this.#command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, length);
  }

  /** What the hashes in headers are made of, where RSS does not say so. §5.1.6.5.6.4 */
  setHash(types: number): boolean {
    this.#memory.write32(DATA, types);
    for (let i = 4; i < 12; i += 2) this.#memory.write16(DATA + i, 0);
    return this.#command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_HASH_CONFIG, this.#putKey(DATA + 12) - DATA);
  }

  /** For all receive or all transmit queues. §5.1.6.5.9 */
  setCoalescing(rx: boolean, { maxPackets, maxUsecs }: Coalescing): boolean {
    if (!this.#bus.withFeature(VIRTIO_NET_F_NOTF_COAL)) return false;
    this.#memory.write32(DATA, maxPackets);
    this.#memory.write32(DATA + 4, maxUsecs);
    const command = rx ? VIRTIO_NET_CTRL_NOTF_COAL_RX_SET : VIRTIO_NET_CTRL_NOTF_COAL_TX_SET;
    return this.#command(VIRTIO_NET_CTRL_NOTF_COAL, command, 8);
  }

  /** For one queue. @param index of the virtqueue */
  setQueueCoalescing(index: number, { maxPackets, maxUsecs }: Coalescing): boolean {
    if (!this.#bus.withFeature(VIRTIO_NET_F_VQ_NOTF_COAL)) return false;
    this.#memory.write16(DATA, index);
    this.#memory.write16(DATA + 2, 0);
    this.#memory.write32(DATA + 4, maxPackets);
    this.#memory.write32(DATA + 8, maxUsecs);
    return this.#command(VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET, 12);
  }

  /** What the device does at a queue; null when it does not say. @param index of the virtqueue */
  queueCoalescing(index: number): Coalescing | null {
    if (!this.#bus.withFeature(VIRTIO_NET_F_VQ_NOTF_COAL)) return null;
    this.#memory.write16(DATA, index);
    this.#memory.write16(DATA + 2, 0);
    if (!this.#command(VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET, 4, REPLY_LEN)) return null;
    return { maxPackets: this.#memory.read32(REPLY), maxUsecs: this.#memory.read32(REPLY + 4) };
  }

  /** @returns the offset behind the key */
  #putKey(at: number): number {
    this.#memory.write8(at, RSS_KEY.length);
    this.#memory.copyIn(at + 1, Uint8Array.from(RSS_KEY), 0, RSS_KEY.length);
    return at + 1 + RSS_KEY.length;
  }

  /** One command with the data that lie in the memory; waits for the answer. @returns whether it was VIRTIO_NET_OK */
  #command(cls: number, command: number, dataLen: number, replyLen = 0): boolean {
    const { vq } = this;
    const memory = this.#memory;
    if (this.#lost || this.busy) return false;
    memory.write8(HDR, cls);
    memory.write8(HDR + 1, command);
    memory.write8(ACK, NO_ACK);
    for (let i = 0; i < replyLen; i++) memory.write8(REPLY + i, 0);
    memory.sync(0, CONTROL_BYTES, "prewrite");
    memory.sync(ACK - replyLen, replyLen + 1, "preread");
    const { paddr, len } = this.#segments;
    paddr[0] = memory.paddr + HDR;
    len[0] = HDR_LEN;
    paddr[1] = memory.paddr + DATA;
    len[1] = dataLen;
    paddr[2] = memory.paddr + REPLY;
    len[2] = replyLen;
    const last = replyLen > 0 ? 3 : 2;
    paddr[last] = memory.paddr + ACK;
    len[last] = 1;
    if (vq.enqueue(0, this.#segments, 2, last - 1) !== VQ_OK) return false;
    this.busy = true;
    const epoch = this.#epoch;
    vq.notify();
    let polls = 0;
    while (epoch === this.#epoch && vq.dequeue() < 0 && polls++ < POLLS) this.#bus.machine.delay(POLL_US);
    this.busy = false;
    if (epoch !== this.#epoch) return false; // the interface went down while we waited
    if (polls > POLLS) {
      this.#lost = true;
      this.#log(`control command ${cls}/${command} was not answered`);
      return false;
    }
    memory.sync(ACK - replyLen, replyLen + 1, "postread");
    return memory.read8(ACK) === VIRTIO_NET_OK;
  }
}
