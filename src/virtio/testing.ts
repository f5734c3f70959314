/** A host, raw drivers and a small device type for tests, this room's and the cards'; not exported from the room. */
import { StateReader } from "../bytes/index.js";
import { GuardedRam, type RamWindow } from "../bytes/testing.js";
import type {
  Clock,
  Diagnostic,
  DmaDoor,
  HostInterrupts,
  HostSeams,
  QueueRunner,
  SavedState,
  Slot,
  Work,
} from "../contract/index.js";
import { DescriptorChain } from "./descriptor-chain.js";
import type { QueueDeclaration, VirtioBus, VirtioDevice } from "./device.js";
import { FeatureSet } from "./features.js";

/** Works its queues at once, or keeps requests until it is polled. */
export class TestWork implements Work {
  /** keep requests until `poll` */
  deferred = false;
  /** descriptors of a turn */
  budget = 512;
  /** what each turn used, since a test last emptied it */
  readonly turns: number[] = [];
  readonly marks = new Set<number>();
  #runner: QueueRunner | null = null;

  bind(runner: QueueRunner): void {
    this.#runner = runner;
  }
  request(queue: number): void {
    if (this.deferred) this.marks.add(queue);
    else this.runNow(queue);
  }
  runNow(queue: number): void {
    for (let left = 100; left > 0 && this.turn(queue, this.budget) >= this.budget; left--);
  }
  /** One turn of a queue. @returns descriptors used */
  turn(queue: number, budget: number): number {
    const used = this.#runner?.runQueue(queue, budget) ?? 0;
    this.turns.push(used);
    return used;
  }
  clear(): void {
    this.marks.clear();
  }
  poll(): void {
    const marks = [...this.marks];
    this.marks.clear();
    for (const queue of marks) this.runNow(queue);
  }
}

const NO_CLOCK: Clock = {
  now: () => 0,
  timer: () => ({ deadline: Number.POSITIVE_INFINITY, arm() {}, cancel() {}, [Symbol.dispose]() {} }),
};

/** RAM in windows with guard bytes around each, interrupts that are written down, work at once. */
export class TestHost extends GuardedRam implements HostSeams {
  readonly interrupts: HostInterrupts;
  readonly clock: Clock = NO_CLOCK;
  readonly work = new TestWork();
  readonly strictness = "lenient";
  readonly report: (diagnostic: Diagnostic) => void;
  readonly reports: string[] = [];
  /** the offending number of each */
  readonly values: number[] = [];
  /** level of INTx, and how often it rose */
  intx = false;
  rises = 0;
  /** levels in the order in which they came */
  readonly levels: number[] = [];
  /** each is also written to RAM where there is some, as by a machine without an APIC */
  readonly messages: { vector: number; address: number; data: number }[] = [];

  constructor(windows: readonly RamWindow[] = [{ base: 0, size: 0x20_0000 }]) {
    super(windows);
    this.interrupts = {
      setIntx: (level) => {
        if (level && !this.intx) this.rises++;
        this.intx = level;
        this.levels.push(level ? 1 : 0);
      },
      message: (vector, address, data) => {
        this.messages.push({ vector, address, data });
        if (this.hasRam(address)) this.set(address, 4, data);
      },
    };
    this.report = ({ code, value }) => {
      this.reports.push(code);
      this.values.push(value);
    };
  }

  /** Tells of every write the device makes through the views of the windows, after it was made. */
  watchViews(wrote: (address: number, width: number, value: number) => void): void {
    for (const { base, view } of this.memory.windows) {
      const set16 = view.setUint16.bind(view);
      const set32 = view.setUint32.bind(view);
      Object.assign(view, {
        setUint16: (at: number, value: number, little?: boolean) => {
          set16(at, value, little);
          wrote(base + at, 2, value);
        },
        setUint32: (at: number, value: number, little?: boolean) => {
          set32(at, value, little);
          wrote(base + at, 4, value);
        },
      });
    }
  }

  bytesAt(address: number, length: number): number[] {
    return [...this.copyOf(address, length)];
  }
}

/** [address, length, flags without NEXT] */
export type Piece = readonly [address: number, length: number, flags: number];

/** Where the parts of a ring lie. */
class RawAreas {
  readonly host: TestHost;
  readonly size: number;
  readonly desc: number;
  /** available ring, or event suppression of the driver */
  readonly avail: number;
  /** used ring, or event suppression of the device */
  readonly used: number;

  constructor(host: TestHost, size: number, desc: number, avail: number, used: number) {
    this.host = host;
    this.size = size;
    this.desc = desc;
    this.avail = avail;
    this.used = used;
  }
}

/** A split ring written byte by byte with the offsets of VIRTIO 1.3 §2.7, none of which come from src/spec. */
export class RawRing extends RawAreas {
  constructor(host: TestHost, size: number, desc: number, avail = desc + 16 * size, used = avail + 4096) {
    super(host, size, desc, avail, used);
  }

  /** Flags: 1 NEXT, 2 WRITE, 4 INDIRECT. @param table address of another table than the ring's */
  describe(i: number, address: number, length: number, flags: number, next = 0, table = this.desc): void {
    const at = table + 16 * i;
    this.host.set(at, 8, address);
    this.host.set(at + 8, 4, length);
    this.host.set(at + 12, 2, flags);
    this.host.set(at + 14, 2, next);
  }

  /** Writes a chain into descriptors from `head` on and makes it available; NEXT comes by itself. */
  chain(head: number, ...pieces: readonly Piece[]): void {
    for (const [i, [address, length, flags]] of pieces.entries()) {
      const last = i === pieces.length - 1;
      this.describe(head + i, address, length, flags | (last ? 0 : 1), last ? 0 : head + i + 1);
    }
    this.offer(head);
  }

  /** Makes a chain available. */
  offer(head: number): void {
    this.host.set(this.avail + 4 + 2 * (this.availIdx % this.size), 2, head);
    this.availIdx = (this.availIdx + 1) & 0xffff;
  }

  get availIdx(): number {
    return this.host.get(this.avail + 2, 2);
  }
  set availIdx(value: number) {
    this.host.set(this.avail + 2, 2, value);
  }
  set availFlags(value: number) {
    this.host.set(this.avail, 2, value);
  }
  set usedEvent(value: number) {
    this.host.set(this.avail + 4 + 2 * this.size, 2, value);
  }
  get usedFlags(): number {
    return this.host.get(this.used, 2);
  }
  get usedIdx(): number {
    return this.host.get(this.used + 2, 2);
  }
  get availEvent(): number {
    return this.host.get(this.used + 4 + 8 * this.size, 2);
  }
  /** [id, len] */
  entry(i: number): [number, number] {
    const at = this.used + 4 + 8 * (i % this.size);
    return [this.host.get(at, 4), this.host.get(at + 4, 4)];
  }
}

/** A packed ring written byte by byte with the offsets of VIRTIO 1.3 §2.8, none of which come from src/spec. */
export class RawPackedRing extends RawAreas {
  /** where the driver goes on, and its wrap counter */
  at = 0;
  wrap = true;

  constructor(host: TestHost, size: number, desc: number, avail = desc + 16 * size, used = avail + 4) {
    super(host, size, desc, avail, used);
  }

  /** Writes a slot as it is given; flags: 1 NEXT, 2 WRITE, 4 INDIRECT, 80h AVAIL, 8000h USED. @param table as for RawRing */
  describe(i: number, address: number, length: number, flags: number, id = 0, table = this.desc): void {
    const at = table + 16 * i;
    this.host.set(at, 8, address);
    this.host.set(at + 8, 4, length);
    this.host.set(at + 12, 2, id);
    this.host.set(at + 14, 2, flags);
  }

  /**
   * Makes a list available in the next slots; NEXT comes by itself. Ids of all but the last descriptor are 7777.
   * @param parts address, length, flags of each @returns the slot of the first
   */
  offer(id: number, ...parts: readonly (readonly [address: number, length: number, flags: number])[]): number {
    const first = this.at;
    for (const [i, [address, length, flags]] of parts.entries()) {
      const last = i === parts.length - 1;
      this.describe(this.at, address, length, flags | (last ? 0 : 1) | (this.wrap ? 0x80 : 0x8000), last ? id : 7777);
      if (++this.at < this.size) continue;
      this.at = 0;
      this.wrap = !this.wrap;
    }
    return first;
  }

  /** As that of a split ring. @param id of the buffer */
  chain(id: number, ...pieces: readonly Piece[]): void {
    this.offer(id, ...pieces);
  }

  /** [id, length, flags] */
  slot(i: number): [number, number, number] {
    const at = this.desc + 16 * i;
    return [this.host.get(at + 12, 2), this.host.get(at + 8, 4), this.host.get(at + 14, 2)];
  }

  /** What the driver wants to be interrupted for. @param flags 0 always, 1 never, 2 at the descriptor */
  driverEvent(offset: number, wrap: 0 | 1, flags: number): void {
    this.host.set(this.avail, 2, offset | (wrap << 15));
    this.host.set(this.avail + 2, 2, flags);
  }

  /** [offset, wrap counter, flags] of what the device wants to be notified for */
  get deviceEvent(): [number, number, number] {
    const word = this.host.get(this.used, 2);
    return [word & 0x7fff, word >>> 15, this.host.get(this.used + 2, 2)];
  }
}

/** What is located through a door from now on, by address. */
export const locatesOf = (dma: DmaDoor): number[] => {
  const located: number[] = [];
  for (const name of ["locate", "locateWritable"] as const) {
    const find = dma[name].bind(dma);
    Object.assign(dma, {
      [name]: (address: number, length: number) => {
        located.push(address);
        return find(address, length);
      },
    });
  }
  return located;
};

/** Raw accesses to a slot's legacy header, common configuration and configuration space. */
export class RawDriver {
  readonly slot: Slot;
  readonly host: TestHost;

  constructor(slot: Slot, host: TestHost) {
    this.slot = slot;
    this.host = host;
    slot.connect(host);
    slot.configWrite(0x04, 2, 0x0007); // I/O, memory, Bus Master
  }

  legacyRead(offset: number, width: 1 | 2 | 4): number {
    return this.slot.barRead(0, offset, width);
  }
  legacyWrite(offset: number, width: 1 | 2 | 4, value: number): void {
    this.slot.barWrite(0, offset, width, value);
  }
  read(offset: number, width: 1 | 2 | 4): number {
    return this.slot.barRead(4, offset, width);
  }
  write(offset: number, width: 1 | 2 | 4, value: number): void {
    this.slot.barWrite(4, offset, width, value);
  }

  /** Up to FEATURES_OK. @returns the status then */
  negotiate(lo: number, hi: number): number {
    this.write(0x14, 1, 0);
    this.write(0x14, 1, 1);
    this.write(0x14, 1, 3);
    this.write(0x08, 4, 0);
    this.write(0x0c, 4, lo);
    this.write(0x08, 4, 1);
    this.write(0x0c, 4, hi);
    this.write(0x14, 1, 0x0b);
    return this.read(0x14, 1);
  }

  /** Sets a queue up through the common configuration. */
  queue(index: number, ring: RawRing | RawPackedRing): void {
    this.write(0x16, 2, index);
    this.write(0x18, 2, ring.size);
    for (const [at, address] of [
      [0x20, ring.desc],
      [0x28, ring.avail],
      [0x30, ring.used],
    ] as const) {
      this.write(at, 4, address % 2 ** 32);
      this.write(at + 4, 4, Math.floor(address / 2 ** 32));
    }
    this.write(0x1c, 2, 1);
  }

  driverOk(): void {
    this.write(0x14, 1, 0x0f);
  }

  notify(queue: number): void {
    this.write(0x3000 + 4 * queue, 2, queue);
  }

  /** Sets a queue up through the legacy header; the ring must be laid out as §2.7.2 says. */
  legacyQueue(index: number, ring: RawRing): void {
    this.legacyWrite(0x0e, 2, index);
    this.legacyWrite(0x08, 4, ring.desc / 4096);
  }
}

/** A card with queues set up by raw accesses through either interface, rings laid out as the legacy one wants them. */
export class RawGuest<H extends TestHost = TestHost> {
  readonly host: H;
  readonly slot: Slot;
  readonly modern: boolean;
  /** of a queue, descriptors */
  readonly sizeOf: (queue: number) => number;

  /** Plugs the card in and turns Bus Master on. */
  constructor(host: H, slot: Slot, via: "legacy" | "modern", sizeOf: (queue: number) => number) {
    this.host = host;
    this.slot = slot;
    this.modern = via === "modern";
    this.sizeOf = sizeOf;
    slot.connect(host);
    slot.configWrite(0x04, 2, 7);
  }

  /** From reset to the point before DRIVER_OK, with empty rings. @param hi bits 63–32 beside VERSION_1 */
  prepare(queues: readonly number[], lo: number, hi: number): void {
    for (const queue of queues) this.host.put(this.desc(queue), new Uint8Array(0x4000));
    this.status = 0;
    this.status = 1;
    this.status = 3;
    if (this.modern) {
      this.out(0x08, 4, 0);
      this.out(0x0c, 4, lo);
      this.out(0x08, 4, 1);
      this.out(0x0c, 4, hi + 1);
      this.status = 0x0b;
    } else this.slot.barWrite(0, 0x04, 4, lo);
    for (const queue of queues) {
      if (this.modern) {
        this.out(0x16, 2, queue);
        this.out(0x18, 2, this.sizeOf(queue));
        this.out(0x20, 4, this.desc(queue));
        this.out(0x28, 4, this.avail(queue));
        this.out(0x30, 4, this.used(queue));
        this.out(0x1c, 2, 1);
      } else {
        this.slot.barWrite(0, 0x0e, 2, queue);
        this.slot.barWrite(0, 0x08, 4, this.desc(queue) / 4096);
      }
    }
  }

  driverOk(): void {
    this.status = this.modern ? 0x0f : 0x07;
  }

  /** Writes to the modern BAR. */
  out(at: number, width: 1 | 2 | 4, value: number): void {
    this.slot.barWrite(4, at, width, value);
  }
  get status(): number {
    return this.modern ? this.slot.barRead(4, 0x14, 1) : this.slot.barRead(0, 0x12, 1);
  }
  set status(value: number) {
    if (this.modern) this.out(0x14, 1, value);
    else this.slot.barWrite(0, 0x12, 1, value);
  }
  get isr(): number {
    return this.modern ? this.slot.barRead(4, 0x1000, 1) : this.slot.barRead(0, 0x13, 1);
  }
  /** Device configuration. */
  config(at: number, width: 1 | 2 | 4): number {
    return this.modern ? this.slot.barRead(4, 0x2000 + at, width) : this.slot.barRead(0, 0x14 + at, width);
  }
  setConfig(at: number, width: 1 | 2 | 4, value: number): void {
    if (this.modern) this.out(0x2000 + at, width, value);
    else this.slot.barWrite(0, 0x14 + at, width, value);
  }

  desc(queue: number): number {
    return 0x40_0000 + 0x1_0000 * queue; // room for 16 of them
  }
  avail(queue: number): number {
    return this.desc(queue) + 16 * this.sizeOf(queue);
  }
  used(queue: number): number {
    return Math.ceil((this.avail(queue) + 6 + 2 * this.sizeOf(queue)) / 4096) * 4096;
  }

  describe(queue: number, i: number, address: number, length: number, flags: number, next = 0): void {
    const at = this.desc(queue) + 16 * i;
    this.host.set(at, 8, address);
    this.host.set(at + 8, 4, length);
    this.host.set(at + 12, 2, flags);
    this.host.set(at + 14, 2, next);
  }
  /** Makes a chain available. */
  available(queue: number, head: number): void {
    const idx = this.availIdx(queue);
    this.host.set(this.avail(queue) + 4 + 2 * (idx % this.sizeOf(queue)), 2, head);
    this.host.set(this.avail(queue) + 2, 2, idx + 1);
  }
  /** A chain from pieces, in descriptors from `head` on. */
  chain(queue: number, head: number, ...pieces: readonly Piece[]): void {
    for (const [i, [address, length, flags]] of pieces.entries()) {
      const last = i === pieces.length - 1;
      this.describe(queue, head + i, address, length, last ? flags : flags | 1, last ? 0 : head + i + 1);
    }
    this.available(queue, head);
  }
  availIdx(queue: number): number {
    return this.host.get(this.avail(queue) + 2, 2);
  }
  usedFlags(queue: number): number {
    return this.host.get(this.used(queue), 2);
  }
  usedIdx(queue: number): number {
    return this.host.get(this.used(queue) + 2, 2);
  }
  /** [id, len] */
  entry(queue: number, i: number): [number, number] {
    const at = this.used(queue) + 4 + 8 * (i % this.sizeOf(queue));
    return [this.host.get(at, 4), this.host.get(at + 4, 4)];
  }
  notify(queue: number): void {
    if (this.modern) this.out(0x3000 + 4 * queue, 2, queue);
    else this.slot.barWrite(0, 0x10, 2, queue);
  }
}

/** What a toy device saw of a chain. */
export interface Seen {
  readonly head: number;
  readonly readable: readonly number[];
  readonly writable: number;
}

/**
 * A device type that has nothing to do with networks: queue 0 is answered with as many bytes of 0x5A as there is room
 * for, queue 1 keeps its chains until told, queue 2 is a control queue that echoes.
 */
export class ToyDevice implements VirtioDevice {
  readonly name = "toy";
  readonly id: number;
  readonly classCode = 0x00_ff_00;
  readonly features = FeatureSet.of(0, 5);
  readonly legacyFeatures = FeatureSet.of(5);
  readonly queues: readonly QueueDeclaration[];
  readonly configLength = 6;
  readonly config = Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55, 0x66);
  readonly seen: Seen[] = [];
  accepted: FeatureSet = FeatureSet.NONE;
  starts = 0;
  resets = 0;
  /** called for each chain of queue 0, before it is given back */
  onChain: () => void = () => {};
  /** chains of queue 1 are kept */
  keep = true;
  bus: VirtioBus | null = null;
  readonly chain = new DescriptorChain();

  constructor(sizes: readonly number[] = [16, 16, 4], id = 4) {
    this.id = id;
    this.queues = sizes.map((size, i) => ({ name: `q${i}`, size, control: i === 2 }));
  }
  queueCount(): number {
    return this.queues.length;
  }
  readConfig(offset: number): number {
    return this.config[offset]!;
  }
  writeConfig(offset: number, value: number): void {
    this.config[offset] = value;
  }
  connect(bus: VirtioBus): void {
    this.bus = bus;
  }
  disconnect(): void {
    this.bus = null;
  }
  featuresAccepted(accepted: FeatureSet): void {
    this.accepted = accepted;
  }
  driverOk(): void {
    this.starts++;
  }
  reset(): void {
    this.resets++;
  }

  runQueue(index: number, budget: number): number {
    const { bus, chain } = this;
    if (bus === null || (index === 1 && this.keep)) return 0;
    const queue = bus.queue(index);
    let used = 0;
    do {
      while (used < budget) {
        chain.clear();
        if (!queue.take(chain)) break;
        used += chain.descriptors;
        const { readable, writable } = chain;
        const bytes = new Uint8Array(Math.min(readable.total, 4096));
        readable.copyOut(bus.seams.dma, 0, bytes.length, bytes, 0);
        const head = chain.heads[0]!;
        this.seen.push({ head, readable: [...bytes], writable: writable.total });
        const answer = new Uint8Array(Math.min(writable.total, 0x1_0000)).fill(0x5a);
        writable.copyIn(bus.seams.dma, 0, answer.length, answer, 0);
        this.onChain();
        queue.push(head, answer.length);
      }
      queue.publish();
    } while (used < budget && queue.broken === null && queue.rearm());
    bus.usedBuffers(queue);
    return used;
  }

  save(): SavedState {
    return { version: 1, config: Uint8Array.from(this.config) };
  }
  loader(state: StateReader): () => void {
    const config = Uint8Array.from(new StateReader(state.raw, state.path, 1).bytes("config", 6));
    return () => this.config.set(config);
  }
}
