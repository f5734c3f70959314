import { ConfigError, ETHER_ADDR_LEN, ETHER_HDR_LEN, isMulticast, StateReader } from "../bytes/index.js";
import type {
  Clock,
  EndpointLimits,
  NetEndpoint,
  NetPort,
  Offload,
  SavedState,
  Stateful,
  Timer,
  Verdict,
} from "../contract/index.js";
import { namedCounters } from "./counters.js";
import { LONGEST_FINISHED } from "./finish.js";
import { FrameRing } from "./frame-ring.js";
import { MacTable } from "./mac-table.js";

export interface SwitchOptions {
  readonly clock: Clock;
  /** 2 … 31; default 4 */
  readonly ports?: number;
  /** bytes of frames that one port holds for a far end that is not ready; at least `longestFrame`; default 256 KiB: four uncut frames */
  readonly queueBytes?: number;
  /** most frames that one port holds; default 256 */
  readonly queueFrames?: number;
  /** stations that are remembered, a power of two in 4 … 65536; default 1024 */
  readonly stations?: number;
  /** seconds after which a silent station is forgotten; default 300. IEEE 802.1D §7.9.2 */
  readonly ageingSeconds?: number;
  /** bytes without FCS; default 9018: 9000 of payload and a tagged header. What is still to be cut may have 64 KiB. */
  readonly longestFrame?: number;
}

/** Counters of one port; `in` is what its far end sent. What went out of it is `out` + `refused` + `held` + the drops. */
export interface SwitchPortCounters {
  readonly inFrames: number;
  readonly inBytes: number;
  /** from the far end: too short or too long, dropped */
  readonly inBadLength: number;
  /** from the far end: for a station on this same port, or of the reserved group 01:80:c2:00:00:0x; rightly not forwarded */
  readonly inFiltered: number;
  /** from the far end: sent to every other port because the station was not known, or is a group */
  readonly inFlooded: number;
  readonly outFrames: number;
  readonly outBytes: number;
  /** dropped by the far end */
  readonly refused: number;
  /** in the queue now */
  readonly held: number;
  /** dropped because the queue was full */
  readonly overflowed: number;
  /** dropped because the cable was pulled */
  readonly unplugged: number;
}

const NAMES = [
  "inFrames",
  "inBytes",
  "inBadLength",
  "inFiltered",
  "inFlooded",
  "outFrames",
  "outBytes",
  "refused",
  "overflowed",
  "unplugged",
] as const satisfies readonly (keyof SwitchPortCounters)[];
const IN_FRAMES = 0;
const IN_BYTES = 1;
const IN_BAD_LENGTH = 2;
const IN_FILTERED = 3;
const IN_FLOODED = 4;
const OUT_FRAMES = 5;
const OUT_BYTES = 6;
const REFUSED = 7;
const OVERFLOWED = 8;
const UNPLUGGED = 9;

/**
 * Frames that one call from outside hands on, whatever it sets going: stations that answer at once, and cables that form
 * a loop, would go on for ever. Every further one goes into a queue. Two floods of the largest switch fit.
 */
const BUDGET = 64;

/** When the rest of the queues is moved, ns from now: about as long as a full frame takes at 1 Gbit/s. */
const DRAIN_DELAY = 12_000;

/**
 * A learning switch with a fixed number of ports, all of its memory taken when it is built.
 *
 * A frame for a far end that can take it is handed on in place. Where a far end answers `later`, or is just being
 * offered another frame, that port's queue takes a copy; when the queue is full, frames are dropped and counted, so no
 * port can hold up another. Frames keep their order on every port. IEEE 802.1D §7
 */
export class Switch implements Stateful {
  readonly #clock: Clock;
  readonly #stations: number;
  readonly #ageingNs: number;
  readonly #longest: number;
  readonly #ports: SwitchPort[] = [];
  readonly #drainTimer: Timer;
  #table: MacTable;
  #batch = 0; // bit n: port n was given a frame since its last endBatch
  #depth = 0; // calls into the switch under way
  #budget = 0;

  /** @throws ConfigError `switch-ports`, `switch-queue`, `switch-stations`, `switch-ageing` */
  constructor(options: SwitchOptions) {
    const { clock, ports = 4, queueBytes = 0x4_0000, queueFrames = 256, stations = 1024 } = options;
    const { ageingSeconds = 300, longestFrame = 9018 } = options;
    if (!Number.isInteger(ports) || ports < 2 || ports > 31)
      throw new ConfigError("switch-ports", `a switch of ${ports} ports: expected 2 … 31`);
    if (!Number.isInteger(longestFrame) || longestFrame < ETHER_HDR_LEN)
      throw new ConfigError("switch-queue", `longest frame ${longestFrame}: expected ${ETHER_HDR_LEN} bytes or more`);
    if (!Number.isInteger(queueBytes) || queueBytes < longestFrame || queueBytes > 2 ** 30)
      throw new ConfigError("switch-queue", `queue of ${queueBytes} bytes: expected ${longestFrame} … 2^30`);
    if (!Number.isInteger(queueFrames) || queueFrames < 1 || queueFrames > 2 ** 20)
      throw new ConfigError("switch-queue", `queue of ${queueFrames} frames: expected 1 … 2^20`);
    if (stations < 4 || stations > 0x1_0000 || !Number.isInteger(Math.log2(stations)))
      throw new ConfigError("switch-stations", `${stations} stations: expected a power of two in 4 … 65536`);
    if (!(ageingSeconds >= 0)) throw new ConfigError("switch-ageing", `ageing of ${ageingSeconds} s`);
    this.#clock = clock;
    this.#stations = stations;
    this.#ageingNs = ageingSeconds * 1e9;
    this.#longest = longestFrame;
    this.#table = new MacTable(stations, this.#ageingNs);
    for (let i = 0; i < ports; i++)
      this.#ports.push(new SwitchPort(this, i, longestFrame, new FrameRing(queueBytes, queueFrames)));
    this.#drainTimer = clock.timer(() => this.#drainAll());
  }

  /** The place for one cable. @throws ConfigError `switch-port` */
  port(index: number): NetPort {
    const port = this.#ports[index];
    if (port === undefined) throw new ConfigError("switch-port", `port ${index} of ${this.#ports.length}`);
    return port;
  }

  /** A copy of what a port counted. @throws ConfigError `switch-port` */
  counters(index: number): SwitchPortCounters {
    this.port(index);
    return this.#ports[index]!.counters();
  }

  save(): SavedState {
    return {
      version: 1,
      batch: this.#batch,
      drainAt: this.#drainTimer.deadline,
      table: this.#table.save(),
      ports: this.#ports.map((port) => port.save()),
    };
  }

  load(state: SavedState): void {
    const reader = new StateReader(state, "switch", 1);
    const batch = reader.integer("batch", 0, 2 ** this.#ports.length - 1);
    const drainAt = reader.deadline("drainAt");
    const table = MacTable.restore(reader.object("table"), this.#stations, this.#ageingNs, this.#ports.length);
    const ports = reader.objects("ports", this.#ports.length).map((port, i) => this.#ports[i]!.parse(port));
    for (const [i, port] of ports.entries()) this.#ports[i]!.apply(port);
    this.#table = table;
    this.#batch = batch;
    if (drainAt === Number.POSITIVE_INFINITY) this.#drainTimer.cancel();
    else this.#drainTimer.arm(drainAt);
  }

  /** A call from outside begins; `leave` ends it. */
  enter(): void {
    if (this.#depth++ === 0) this.#budget = BUDGET;
  }

  leave(): void {
    this.#depth--;
  }

  /** Whether one more frame may be handed on in this call; if not, `drainLater` sees to it. */
  spend(): boolean {
    if (this.#budget > 0) {
      this.#budget--;
      return true;
    }
    this.drainLater();
    return false;
  }

  /** A frame came in on `from`. */
  forward(
    from: SwitchPort,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    queueHint: number,
  ): Verdict {
    // A frame that is still to be cut goes through whole: the wires behind know which far end takes it like that.
    const longest = offload !== null && offload.gso !== "none" ? LONGEST_FINISHED : this.#longest;
    if (length < ETHER_HDR_LEN || length > longest) {
      from.counts[IN_BAD_LENGTH]!++;
      return "dropped";
    }
    from.counts[IN_FRAMES]!++;
    from.counts[IN_BYTES]! += length;
    const source = start + ETHER_ADDR_LEN;
    const now = this.#clock.now();
    if (!isMulticast(bytes, source)) this.#table.learn(bytes, source, from.index, now);
    let to = -1;
    if (!isMulticast(bytes, start)) to = this.#table.lookup(bytes, start, now);
    else if (isReservedGroup(bytes, start)) to = from.index;
    if (to === from.index) {
      from.counts[IN_FILTERED]!++;
      return "taken";
    }
    if (to >= 0) return this.#send(to, bytes, start, length, offload, queueHint) ? "taken" : "dropped";
    from.counts[IN_FLOODED]!++;
    let wanted = 0;
    let got = 0;
    for (let i = 0; i < this.#ports.length; i++) {
      if (i === from.index || !this.#ports[i]!.plugged) continue;
      wanted++;
      if (this.#send(i, bytes, start, length, offload, queueHint)) got++;
    }
    return got > 0 || wanted === 0 ? "taken" : "dropped";
  }

  /** The far end of some port has nothing more to send for now. */
  endBatch(): void {
    for (let i = 0; this.#batch >>> i !== 0; i++) {
      if ((this.#batch & (1 << i)) === 0) continue;
      const port = this.#ports[i]!;
      if (port.busy) continue; // it is in the middle of an offer, whose sender will end its batch, too
      this.#batch &= ~(1 << i);
      port.far?.endBatch();
    }
  }

  /** A cable was pulled out of `port`: who was heard there is somewhere else, or nowhere. */
  forget(port: number): void {
    this.#table.forget(port);
    this.#batch &= ~(1 << port);
  }

  /** Some queue has something left that its far end did not refuse. */
  drainLater(): void {
    if (this.#drainTimer.deadline === Number.POSITIVE_INFINITY) this.#drainTimer.arm(this.#clock.now() + DRAIN_DELAY);
  }

  #send(
    to: number,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    queueHint: number,
  ): boolean {
    this.#batch |= 1 << to;
    return this.#ports[to]!.send(bytes, start, length, offload, queueHint);
  }

  #drainAll(): void {
    this.enter();
    try {
      for (const port of this.#ports) port.drain();
    } finally {
      this.leave();
    }
  }
}

/** Link-local control traffic (spanning tree, pause, LLDP) ends at the first bridge. IEEE 802.1D §7.12.6 */
const isReservedGroup = (bytes: Uint8Array, start: number): boolean =>
  bytes[start] === 0x01 &&
  bytes[start + 1] === 0x80 &&
  bytes[start + 2] === 0xc2 &&
  bytes[start + 3] === 0 &&
  bytes[start + 4] === 0 &&
  (bytes[start + 5]! & 0xf0) === 0;

interface PortState {
  readonly counts: readonly number[];
  readonly waiting: boolean;
  readonly ring: FrameRing;
}

/** One port: the way into the switch for its far end, and the queue towards it. */
class SwitchPort implements NetPort {
  readonly index: number;
  readonly counts = new Float64Array(NAMES.length);
  readonly #switch: Switch;
  readonly #limits: EndpointLimits;
  far: NetEndpoint | null = null;
  /** the far end is just being offered a frame */
  busy = false;
  #waiting = false; // the far end answered `later`
  #woken = false; // it said `ready` while it was being offered a frame
  #plugs = 0; // changes with every plug, so that an offer notices that its cable was pulled
  #ring: FrameRing;

  constructor(owner: Switch, index: number, longestFrame: number, ring: FrameRing) {
    this.#switch = owner;
    this.index = index;
    this.#ring = ring;
    // What the far ends cannot take is finished behind the switch, where it is known which one gets the frame.
    this.#limits = { csum: true, tso4: true, tso6: true, uso: true, ufo: true, longestFrame, holds: true };
  }

  get plugged(): boolean {
    return this.far !== null;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    this.#switch.enter();
    try {
      return this.#switch.forward(this, bytes, start, length, offload, queueHint);
    } finally {
      this.#switch.leave(); // a far end of the embedder's may throw
    }
  }

  endBatch(): void {
    this.#switch.endBatch();
  }

  ready(): void {
    this.#waiting = false;
    if (this.busy) {
      this.#woken = true;
      return;
    }
    this.#switch.enter();
    try {
      this.drain();
    } finally {
      this.#switch.leave();
    }
  }

  accepts(): EndpointLimits {
    return this.#limits;
  }

  attach(far: NetEndpoint | null): void {
    if (far !== null && this.far !== null)
      throw new ConfigError("port-occupied", `switch port ${this.index} has a cable already`);
    this.far = far;
    this.#plugs++;
    this.#waiting = false;
    this.counts[UNPLUGGED]! += this.#ring.clear();
    this.#switch.forget(this.index);
  }

  /** Sends a frame out of this port or queues it. @returns false: dropped */
  send(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): boolean {
    if (this.far === null) return this.#drop(UNPLUGGED);
    if (this.busy || this.#waiting || this.#ring.held > 0 || !this.#switch.spend()) {
      if (this.#ring.push(bytes, start, length, offload, queueHint) < 0) return this.#drop(OVERFLOWED);
      this.drain();
      return true;
    }
    const plugs = this.#plugs;
    const verdict = this.#offer(this.far, bytes, start, length, offload, queueHint);
    if (verdict === "later") {
      if (plugs !== this.#plugs) return this.#drop(UNPLUGGED);
      // Whatever was queued while the far end had the frame in hand goes first now: who says `later` has sent nothing.
      if (this.#ring.push(bytes, start, length, offload, queueHint) < 0) return this.#drop(OVERFLOWED);
      this.#wait();
      return true;
    }
    this.#answered(verdict, length);
    if (plugs === this.#plugs) this.drain();
    return verdict === "taken";
  }

  /** Offers what is queued, as far as the far end and the budget allow. */
  drain(): void {
    const ring = this.#ring;
    let moved = 0;
    while (this.far !== null && !this.busy && !this.#waiting && ring.held > 0 && this.#switch.spend()) {
      const slot = ring.head;
      ring.select(slot);
      const { length } = ring;
      const plugs = this.#plugs;
      const verdict = this.#offer(this.far, ring.bytes, ring.start, length, ring.offload, ring.queueHint);
      if (plugs !== this.#plugs) return; // the queue is another one's now, and the frame was counted with it
      if (verdict === "later") {
        this.#wait();
        break;
      }
      ring.release(slot);
      this.#answered(verdict, length);
      moved++;
    }
    if (moved > 0) this.far?.endBatch();
  }

  counters(): SwitchPortCounters {
    return { ...namedCounters(NAMES, this.counts), held: this.#ring.held };
  }

  save(): SavedState {
    return { counts: [...this.counts], waiting: this.#waiting, ring: this.#ring.save() };
  }

  /** Reads a saved port without applying it. @throws StateError */
  parse(state: StateReader): PortState {
    return {
      counts: state.integers("counts", 0, Number.MAX_SAFE_INTEGER, NAMES.length),
      waiting: state.boolean("waiting"),
      ring: FrameRing.restore(state.object("ring", 1), this.#ring.bytes.length, this.#ring.capacity),
    };
  }

  apply(state: PortState): void {
    this.counts.set(state.counts);
    this.#waiting = state.waiting;
    this.#ring = state.ring;
  }

  #offer(
    far: NetEndpoint,
    bytes: Uint8Array,
    start: number,
    length: number,
    offload: Offload | null,
    queueHint: number,
  ): Verdict {
    this.busy = true;
    this.#woken = false;
    try {
      return far.offer(bytes, start, length, offload, queueHint);
    } finally {
      this.busy = false;
    }
  }

  #answered(verdict: Verdict, length: number): void {
    if (verdict === "dropped") this.counts[REFUSED]!++;
    else {
      this.counts[OUT_FRAMES]!++;
      this.counts[OUT_BYTES]! += length;
    }
  }

  /** The far end wants to be asked again, and may have said so before it answered. */
  #wait(): void {
    if (this.#woken) this.#switch.drainLater();
    else this.#waiting = true;
  }

  #drop(cause: number): false {
    this.counts[cause]!++;
    return false;
  }
}
