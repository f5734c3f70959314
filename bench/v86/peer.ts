import { ETHER_ADDR_LEN, parseMac } from "../../src/bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../../src/contract/index.js";
import { TcpPeer } from "../../src/hosts/v86/guest/tcp-peer.js";

/** Of the range for experiments: the guest's kernel knows nobody who wants it, and drops it when the driver is through with it. */
const ETHERTYPE_NOBODY = 0x88b5;
/** frames that are put in at one poll, at most; the cards' rings hold 256 (ours) and 1024 (v86's virtio) */
const MOST_AT_ONCE = 256;

const SINK_PORT = 5001;
const SOURCE_PORT = 5002;

/** What happened between two marks. */
export interface Span {
  /** on `performance.now` */
  readonly started: number;
  readonly ended: number;
  /** µs of processor time, of all threads */
  readonly cpu: number;
}

/** Takes the time, and the processor time of the whole process. */
class StopWatch {
  #started = 0;
  #cpu: NodeJS.CpuUsage = { user: 0, system: 0 };
  start(): void {
    this.#cpu = process.cpuUsage();
    this.#started = performance.now();
  }
  stop(): Span {
    const ended = performance.now();
    const { user, system } = process.cpuUsage(this.#cpu);
    return { started: this.#started, ended, cpu: user + system };
  }
}

/**
 * What every card of the bench has at the other end of its cable: answers ARP and pings, and is the other end of TCP connections;
 * or only counts what comes; or puts frames in as fast as they are taken.
 */
export class BenchPeer implements NetPort {
  readonly tcp: TcpPeer;
  /** frames that came in since `count()` */
  frames = 0;
  #far: NetEndpoint | null = null;
  #counting = false;
  readonly #frame = new Uint8Array(1514);
  #length = 0;
  #left = 0; // frames that are still to be put in
  #putting = false;
  #drained: ((span: Span) => void) | null = null;
  readonly #watch = new StopWatch();
  #size = 0; // bytes of the current transfer
  #moved = 0;
  #through: ((span: Span) => void) | null = null;

  constructor(mac: string, ip: string) {
    this.tcp = new TcpPeer({ mac, ip });
    this.tcp.listen(SINK_PORT, () => {
      this.#watch.start();
      return {
        received: (_bytes, _start, length) => {
          this.#moved += length;
          if (this.#moved === this.#size) this.#end();
        },
      };
    });
    this.tcp.listen(SOURCE_PORT, () => {
      this.#watch.start();
      return { size: this.#size, fill: () => {}, closed: () => this.#end() };
    });
  }

  /** Only counts the frames that come from now on, without a look at them; or serves them again. */
  count(on: boolean): void {
    this.#counting = on;
    this.frames = 0;
  }

  /** Puts in `frames` of `length` bytes for `mac`, at poll points and when the card is ready again; resolves when the last one is in and the guest idle. */
  pour(mac: string, frames: number, length: number): Promise<Span> {
    this.#frame.set(parseMac(mac));
    this.#frame.set(this.tcp.mac, ETHER_ADDR_LEN);
    new DataView(this.#frame.buffer).setUint16(2 * ETHER_ADDR_LEN, ETHERTYPE_NOBODY);
    return new Promise((resolve) => {
      this.#length = length;
      this.#left = frames;
      this.#drained = resolve;
      this.#watch.start();
    });
  }

  /** A transfer of `size` bytes in either direction, timed from the connection to the last byte. */
  transfer(size: number): { readonly sinkPort: number; readonly sourcePort: number; readonly span: Promise<Span> } {
    this.#size = size;
    this.#moved = 0;
    const span = new Promise<Span>((resolve) => {
      this.#through = resolve;
    });
    return { sinkPort: SINK_PORT, sourcePort: SOURCE_PORT, span };
  }

  get pouring(): boolean {
    return this.#drained !== null;
  }

  /** At every poll point of the guest while `pouring`. @param idle the guest has nothing to do */
  poll(idle: boolean): void {
    if (this.#drained === null) return;
    if (this.#left === 0) {
      if (!idle) return;
      const drained = this.#drained;
      this.#drained = null;
      drained(this.#watch.stop());
      return;
    }
    this.#put();
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null): Verdict {
    this.frames++;
    return this.#counting ? "taken" : this.tcp.offer(bytes, start, length, offload);
  }

  endBatch(): void {
    this.tcp.endBatch();
  }

  ready(): void {
    this.tcp.ready();
    if (this.#left > 0) this.#put();
  }

  accepts(): EndpointLimits {
    return this.tcp.accepts();
  }

  attach(far: NetEndpoint | null): void {
    this.#far = far;
    this.tcp.attach(far);
  }

  #put(): void {
    const far = this.#far;
    if (far === null || this.#putting) return;
    this.#putting = true;
    let put = 0;
    for (const most = Math.min(MOST_AT_ONCE, this.#left); put < most; put++)
      if (far.offer(this.#frame, 0, this.#length, null, 0) !== "taken") break;
    this.#putting = false;
    this.#left -= put;
    if (put > 0) far.endBatch();
  }

  #end(): void {
    this.#through?.(this.#watch.stop());
    this.#through = null;
  }
}
