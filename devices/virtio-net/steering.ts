import { ETHER_ADDR_LEN, StateError, type StateReader } from "../../src/bytes/index.js";
import type { SavedState } from "../../src/contract/index.js";
import {
  VIRTIO_NET_HASH_REPORT_IPv4,
  VIRTIO_NET_HASH_REPORT_IPv6,
  VIRTIO_NET_HASH_REPORT_IPv6_EX,
  VIRTIO_NET_HASH_REPORT_NONE,
  VIRTIO_NET_HASH_REPORT_TCPv4,
  VIRTIO_NET_HASH_REPORT_TCPv6,
  VIRTIO_NET_HASH_REPORT_TCPv6_EX,
  VIRTIO_NET_HASH_REPORT_UDPv4,
  VIRTIO_NET_HASH_REPORT_UDPv6,
  VIRTIO_NET_HASH_REPORT_UDPv6_EX,
  VIRTIO_NET_HASH_TYPE_IP_EX,
  VIRTIO_NET_HASH_TYPE_IPv4,
  VIRTIO_NET_HASH_TYPE_IPv6,
  VIRTIO_NET_HASH_TYPE_TCP_EX,
  VIRTIO_NET_HASH_TYPE_TCPv4,
  VIRTIO_NET_HASH_TYPE_TCPv6,
  VIRTIO_NET_HASH_TYPE_UDP_EX,
  VIRTIO_NET_HASH_TYPE_UDPv4,
  VIRTIO_NET_HASH_TYPE_UDPv6,
  VIRTIO_NET_RSS_MAX_KEY_SIZE,
  VIRTIO_NET_RSS_MAX_TABLE_LEN,
} from "../../src/spec/virtio-net.js";
import { IPPROTO_TCP, IPPROTO_UDP, Packet } from "./packet.js";
import { Toeplitz } from "./toeplitz.js";

/** Every type of §5.1.6.4.3.1. */
export const HASH_TYPES =
  VIRTIO_NET_HASH_TYPE_IPv4 |
  VIRTIO_NET_HASH_TYPE_TCPv4 |
  VIRTIO_NET_HASH_TYPE_UDPv4 |
  VIRTIO_NET_HASH_TYPE_IPv6 |
  VIRTIO_NET_HASH_TYPE_TCPv6 |
  VIRTIO_NET_HASH_TYPE_UDPv6 |
  VIRTIO_NET_HASH_TYPE_IP_EX |
  VIRTIO_NET_HASH_TYPE_TCP_EX |
  VIRTIO_NET_HASH_TYPE_UDP_EX;

/** Flows told apart by automatic steering, as many as Linux's tun has places for. */
const FLOWS = 1024;
const FLOW_SHIFT = 32 - Math.log2(FLOWS);
const GOLDEN_RATIO = 0x9e37_79b1;

/** How hashes are calculated. */
export interface HashConfig {
  /** VIRTIO_NET_HASH_TYPE_* that are enabled */
  readonly types: number;
  /** 40 bytes, those behind the driver's are 0 */
  readonly key: Uint8Array;
}

/** How RSS chooses a queue; queues by number of their pair. §5.1.6.5.7 */
export interface RssConfig {
  /** entries of the table that are in use − 1 */
  readonly mask: number;
  /** where frames without a hash go */
  readonly unclassified: number;
  /** 128 entries */
  readonly table: Uint16Array;
}

/** Which receive queue a frame goes to, and its hash. VIRTIO 1.3 §5.1.6.4.3, §5.1.6.5.6, §5.1.6.5.7 */
export class Steering {
  // fixed configuration
  readonly #most: number;
  readonly #toeplitz: Toeplitz | null;

  // volatile state
  /** pairs of queues that may be used */
  pairs = 1;
  /** RSS chooses the queue: it may be no other one. Otherwise flows do */
  rss = false;
  #reports = false; // HASH_REPORT was accepted
  #types = 0;
  readonly #key = new Uint8Array(VIRTIO_NET_RSS_MAX_KEY_SIZE);
  #mask = 0;
  #unclassified = 0;
  readonly #table = new Uint16Array(VIRTIO_NET_RSS_MAX_TABLE_LEN);
  readonly #flows: Uint16Array; // the pair that a flow was last sent on, and 1

  // derived
  /** every frame goes to the first queue and nobody asks for its hash */
  idle = true;
  /** sent frames are to be shown to `sent` */
  learning = false;

  // of the frame that was steered last
  hash = 0;
  /** VIRTIO_NET_HASH_REPORT_* */
  report = VIRTIO_NET_HASH_REPORT_NONE;
  readonly #packet = new Packet();

  /** @param most pairs there are; @param hashes RSS or HASH_REPORT is offered */
  constructor(most: number, hashes: boolean) {
    this.#most = most;
    this.#toeplitz = hashes ? new Toeplitz() : null;
    this.#flows = new Uint16Array(most > 1 ? FLOWS : 0);
  }

  /** @param reports HASH_REPORT was accepted */
  reset(reports: boolean): void {
    this.pairs = 1;
    this.rss = false;
    this.#reports = reports;
    this.#types = 0;
    this.#key.fill(0);
    this.#mask = this.#unclassified = 0;
    this.#table.fill(0);
    this.#flows.fill(0);
    this.#settle();
  }

  /** Steers by flow over so many pairs. */
  useFlows(pairs: number): void {
    this.pairs = pairs;
    this.rss = false;
    this.#settle();
  }

  /** Steers by hash over all pairs. */
  useRss({ mask, unclassified, table }: RssConfig): void {
    this.pairs = this.#most;
    this.rss = true;
    this.#mask = mask;
    this.#unclassified = unclassified;
    this.#table.set(table);
    this.#settle();
  }

  setHash({ types, key }: HashConfig): void {
    this.#types = types;
    this.#key.set(key);
    this.#toeplitz?.setKey(this.#key);
    this.#settle();
  }

  /** The pair whose receive queue takes a frame; leaves `hash` and `report`. Not needed while `idle`. */
  steer(bytes: Uint8Array, start: number, length: number): number {
    const packet = this.#packet;
    packet.parse(bytes, start, length);
    if (this.#types !== 0) this.#calculate(bytes);
    if (this.rss)
      return this.report === VIRTIO_NET_HASH_REPORT_NONE ? this.#unclassified : this.#table[this.hash & this.#mask]!;
    if (this.pairs === 1) return 0;
    const flow = this.#flow(bytes, start);
    const known = this.#flows[flow]! - 1;
    return known >= 0 && known < this.pairs ? known : flow % this.pairs;
  }

  /** A frame went out on a pair: answers to it are wanted there. To be called while `learning`. */
  sent(bytes: Uint8Array, start: number, length: number, pair: number): void {
    this.#packet.parse(bytes, start, length);
    this.#flows[this.#flow(bytes, start)] = pair + 1;
  }

  save(): SavedState {
    const flows = Array.from(this.#flows.keys()).filter((flow) => this.#flows[flow] !== 0);
    return {
      pairs: this.pairs,
      rss: this.rss,
      types: this.#types,
      key: Uint8Array.from(this.#key),
      mask: this.#mask,
      unclassified: this.#unclassified,
      table: [...this.#table],
      flows,
      flowPairs: flows.map((flow) => this.#flows[flow]! - 1),
    };
  }

  /** Checks a saved state. @returns what applies it, told whether HASH_REPORT is accepted; @throws StateError */
  loader(state: StateReader): (reports: boolean) => void {
    const most = this.#most;
    const pairs = state.integer("pairs", 1, most);
    const rss = state.boolean("rss");
    const types = state.integer("types", 0, this.#toeplitz === null ? 0 : HASH_TYPES);
    const key = Uint8Array.from(state.bytes("key", this.#key.length));
    const mask = state.integer("mask", 0, this.#table.length - 1);
    if ((mask & (mask + 1)) !== 0) throw new StateError(`${state.path}.mask`, `${mask}, expected a power of two − 1`);
    const unclassified = state.integer("unclassified", 0, most - 1);
    const table = state.integers("table", 0, most - 1, this.#table.length);
    const flows = state.integers("flows", 0, this.#flows.length - 1);
    const flowPairs = state.integers("flowPairs", 0, most - 1, flows.length);
    return (reports) => {
      this.reset(reports);
      this.pairs = pairs;
      this.rss = rss;
      this.#mask = mask;
      this.#unclassified = unclassified;
      this.#table.set(table);
      for (const [i, flow] of flows.entries()) this.#flows[flow] = flowPairs[i]! + 1;
      this.setHash({ types, key });
    };
  }

  #settle(): void {
    // Without anybody who wants hashes, none are calculated.
    this.idle = !this.rss && this.pairs === 1 && !(this.#reports && this.#types !== 0);
    this.learning = !this.rss && this.pairs > 1;
    this.hash = 0;
    this.report = VIRTIO_NET_HASH_REPORT_NONE;
  }

  /** The most specific enabled type that fits. §5.1.6.4.3.2 … 5.1.6.4.3.4; a fragment has no ports, as in Microsoft's RSS */
  #calculate(bytes: Uint8Array): void {
    const packet = this.#packet;
    const types = this.#types;
    const tcp = packet.ports && packet.protocol === IPPROTO_TCP;
    const udp = packet.ports && packet.protocol === IPPROTO_UDP;
    this.hash = 0;
    this.report = VIRTIO_NET_HASH_REPORT_NONE;
    if (packet.version === 4) {
      if (tcp && (types & VIRTIO_NET_HASH_TYPE_TCPv4) !== 0)
        this.#over(bytes, packet.source, packet.destination, 4, true, VIRTIO_NET_HASH_REPORT_TCPv4);
      else if (udp && (types & VIRTIO_NET_HASH_TYPE_UDPv4) !== 0)
        this.#over(bytes, packet.source, packet.destination, 4, true, VIRTIO_NET_HASH_REPORT_UDPv4);
      else if ((types & VIRTIO_NET_HASH_TYPE_IPv4) !== 0)
        this.#over(bytes, packet.source, packet.destination, 4, false, VIRTIO_NET_HASH_REPORT_IPv4);
      return;
    }
    if (packet.version !== 6) return;
    if (packet.extended) {
      let report = VIRTIO_NET_HASH_REPORT_NONE;
      if (tcp && (types & VIRTIO_NET_HASH_TYPE_TCP_EX) !== 0) report = VIRTIO_NET_HASH_REPORT_TCPv6_EX;
      else if (udp && (types & VIRTIO_NET_HASH_TYPE_UDP_EX) !== 0) report = VIRTIO_NET_HASH_REPORT_UDPv6_EX;
      else if ((types & VIRTIO_NET_HASH_TYPE_IP_EX) !== 0) report = VIRTIO_NET_HASH_REPORT_IPv6_EX;
      if (report !== VIRTIO_NET_HASH_REPORT_NONE) {
        this.#over(bytes, packet.home, packet.route, 16, report !== VIRTIO_NET_HASH_REPORT_IPv6_EX, report);
        return;
      }
    }
    if (tcp && (types & VIRTIO_NET_HASH_TYPE_TCPv6) !== 0)
      this.#over(bytes, packet.source, packet.destination, 16, true, VIRTIO_NET_HASH_REPORT_TCPv6);
    else if (udp && (types & VIRTIO_NET_HASH_TYPE_UDPv6) !== 0)
      this.#over(bytes, packet.source, packet.destination, 16, true, VIRTIO_NET_HASH_REPORT_UDPv6);
    else if ((types & VIRTIO_NET_HASH_TYPE_IPv6) !== 0)
      this.#over(bytes, packet.source, packet.destination, 16, false, VIRTIO_NET_HASH_REPORT_IPv6);
  }

  #over(bytes: Uint8Array, source: number, destination: number, size: number, ports: boolean, report: number): void {
    const toeplitz = this.#toeplitz;
    if (toeplitz === null) return;
    let hash = toeplitz.add(bytes, source, size, 0) ^ toeplitz.add(bytes, destination, size, size);
    if (ports) hash ^= toeplitz.add(bytes, this.#packet.transport, 4, 2 * size);
    this.hash = hash >>> 0;
    this.report = report;
  }

  /** Where a flow is noted: the same both ways. */
  #flow(bytes: Uint8Array, start: number): number {
    const packet = this.#packet;
    const ip = packet.version !== 0;
    const source = ip ? packet.source : start + ETHER_ADDR_LEN;
    const destination = ip ? packet.destination : start;
    const size = packet.version === 6 ? 16 : ip ? 4 : ETHER_ADDR_LEN;
    let mix = 0;
    for (let i = 0; i < size; i++) mix = both(mix, bytes[source + i]!, bytes[destination + i]!);
    if (packet.ports) {
      const at = packet.transport;
      mix = both(mix, (bytes[at]! << 8) | bytes[at + 1]!, (bytes[at + 2]! << 8) | bytes[at + 3]!);
      mix += packet.protocol;
    }
    return Math.imul(mix, GOLDEN_RATIO) >>> FLOW_SHIFT;
  }
}

/** Mixes two numbers in whatever order they come. */
const both = (mix: number, a: number, b: number): number => Math.imul(mix, 31) + (a ^ b) * 0x1_0001 + a + b;
