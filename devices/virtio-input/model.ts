import { StateError, type StateReader } from "../../src/bytes/index.js";
import type { SavedState } from "../../src/contract/index.js";
import { VIRTIO_ID_INPUT } from "../../src/spec/virtio.js";
import {
  BTN_EXTRA,
  BTN_GEAR_DOWN,
  BTN_GEAR_UP,
  BTN_LEFT,
  BTN_MIDDLE,
  BTN_RIGHT,
  BTN_SIDE,
  EV_KEY,
  EV_REL,
  EV_SYN,
  REL_WHEEL,
  REL_X,
  REL_Y,
  SYN_REPORT,
  VIRTIO_INPUT_CFG_EV_BITS,
  VIRTIO_INPUT_CFG_ID_DEVIDS,
  VIRTIO_INPUT_CFG_ID_NAME,
  VIRTIO_INPUT_CONFIG,
  VIRTIO_INPUT_EVENT_SIZE,
  VIRTIO_INPUT_EVENTQ,
} from "../../src/spec/virtio-input.js";
import {
  DescriptorChain,
  FeatureSet,
  type QueueDeclaration,
  type VirtioBus,
  type VirtioDevice,
} from "../../src/virtio/index.js";

const C = VIRTIO_INPUT_CONFIG.regs;
const QUEUE_SIZE = 64;
/** Events of one report: what a mouse can say at a time, and SYN_REPORT behind it. */
export const MOST_EVENTS = 16;
const WORDS = 3; // type, code and value of an event

// Bustype virtual, vendor, product and version that QEMU gives its mouse; 16 bits each.
const DEVIDS = [0x06, 0x00, 0x27, 0x06, 0x02, 0x00, 0x02, 0x00];

const bitmap = (...bits: readonly number[]): Uint8Array => {
  const bytes = new Uint8Array((Math.max(...bits) >> 3) + 1);
  for (const bit of bits) bytes[bit >> 3]! |= 1 << (bit & 7);
  return bytes;
};

const AXES = bitmap(REL_X, REL_Y, REL_WHEEL);
const BUTTONS = bitmap(...[BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA], ...[BTN_GEAR_DOWN, BTN_GEAR_UP]);
const NOTHING = new Uint8Array(0);

// Indices of the counters.
const REPORTS = 0;
const LOST = 1;
const STATUS = 2;
const COUNTERS = 3;

export interface InputCounters {
  /** reports that reached the driver */
  readonly reports: number;
  /** reports for which the driver had no buffers, or was not there */
  readonly lost: number;
  /** status events of the driver */
  readonly status: number;
  readonly doorbells: number;
  readonly interrupts: number;
}

/** The input device type as a mouse: two axes, a wheel, buttons. VIRTIO 1.3 §5.8 */
export class VirtioInputModel implements VirtioDevice {
  // fixed configuration
  readonly name = "virtio-input";
  readonly id = VIRTIO_ID_INPUT;
  readonly classCode = 0x09_02_00;
  readonly features = FeatureSet.NONE;
  readonly legacyFeatures = FeatureSet.NONE;
  readonly queues: readonly QueueDeclaration[] = [
    { name: "eventq", size: QUEUE_SIZE },
    { name: "statusq", size: QUEUE_SIZE },
  ];
  /** as far as the longest thing that can be selected, as QEMU: what is behind reads all ones */
  readonly configLength: number;
  readonly configRegisters = VIRTIO_INPUT_CONFIG;
  readonly #title: Uint8Array;

  // wiring
  #bus: VirtioBus | null = null;

  // volatile state
  #select = 0;
  #subsel = 0;
  readonly #chain = new DescriptorChain();
  readonly #event = new DataView(new ArrayBuffer(VIRTIO_INPUT_EVENT_SIZE));
  readonly #eventBytes = new Uint8Array(this.#event.buffer);
  readonly #report = new Int32Array(MOST_EVENTS * WORDS);
  #events = 0; // of the report that is being put together
  readonly #counters = new Float64Array(COUNTERS);

  /** @param title up to 128 bytes of ASCII, what the driver is told */
  constructor(title: string) {
    this.#title = Uint8Array.from(`${title}\0`, (char) => char.charCodeAt(0));
    this.configLength = C.u.at + Math.max(this.#title.length, DEVIDS.length, BUTTONS.length);
  }

  queueCount(): number {
    return this.queues.length;
  }

  readConfig(offset: number): number {
    const shown = this.#shown();
    if (offset === C.select.at) return this.#select;
    if (offset === C.subsel.at) return this.#subsel;
    if (offset === C.size.at) return shown.length;
    return offset < C.u.at ? 0 : (shown[offset - C.u.at] ?? 0);
  }

  writeConfig(offset: number, value: number): void {
    if (offset === C.select.at) this.#select = value;
    else if (offset === C.subsel.at) this.#subsel = value;
  }

  connect(bus: VirtioBus): void {
    this.#bus = bus;
  }

  disconnect(): void {
    this.#bus = null;
    this.#chain.release();
  }

  featuresAccepted(): void {}

  driverOk(): void {}

  /** Status events ask for lights, of which a mouse has none: they are taken and given back. §5.8.6.2 */
  runQueue(index: number, budget: number): number {
    const bus = this.#bus;
    if (bus === null || index === VIRTIO_INPUT_EVENTQ) return 0;
    const queue = bus.queue(index);
    const chain = this.#chain;
    let used = 0;
    do {
      while (used < budget) {
        chain.clear();
        if (!queue.take(chain)) break;
        used += chain.descriptors;
        this.#counters[STATUS]!++;
        queue.push(chain.heads[0]!, 0);
      }
      queue.publish();
    } while (used < budget && queue.broken === null && queue.rearm());
    bus.usedBuffers(queue);
    return used;
  }

  reset(): void {
    this.#select = this.#subsel = 0;
    this.#events = 0;
  }

  // ---------------------------------------------------------------------------------------------- as a mouse

  /** Adds an event to the report that is being put together. @returns false: it is full */
  add(type: number, code: number, value: number): boolean {
    if (this.#events === MOST_EVENTS - 1) return false; // SYN_REPORT has to follow
    this.#put(type, code, value);
    return true;
  }

  /**
   * Sends what was added, and SYN_REPORT behind it: whole or not at all, so that the driver never sees half a report.
   * @returns whether the driver has it
   */
  send(): boolean {
    this.#put(EV_SYN, SYN_REPORT, 0);
    const events = this.#events;
    this.#events = 0;
    const isThere = this.#deliver(events);
    this.#counters[isThere ? REPORTS : LOST]!++;
    return isThere;
  }

  counters(doorbells: number, interrupts: number): InputCounters {
    const [reports, lost, status] = this.#counters;
    return { reports: reports!, lost: lost!, status: status!, doorbells, interrupts };
  }

  #put(type: number, code: number, value: number): void {
    const at = this.#events++ * WORDS;
    this.#report[at] = type;
    this.#report[at + 1] = code;
    this.#report[at + 2] = value;
  }

  #deliver(events: number): boolean {
    const bus = this.#bus;
    if (bus === null || !bus.running) return false;
    const queue = bus.queue(VIRTIO_INPUT_EVENTQ);
    if (!queue.begin()) {
      bus.checkQueue(queue);
      return false;
    }
    const chain = this.#chain;
    chain.clear();
    // Each event wants a buffer of its own: all chains are looked at before the first is written.
    for (let i = 0, before = 0; i < events; i++) {
      if (queue.take(chain) && chain.writable.total - before >= VIRTIO_INPUT_EVENT_SIZE) {
        before = chain.writable.total;
        continue;
      }
      queue.untake(chain.chains);
      bus.checkQueue(queue);
      return false;
    }
    const { dma } = bus.seams;
    for (let i = 0, start = 0; i < events; i++) {
      this.#event.setUint16(0, this.#report[i * WORDS]!, true);
      this.#event.setUint16(2, this.#report[i * WORDS + 1]!, true);
      this.#event.setInt32(4, this.#report[i * WORDS + 2]!, true);
      chain.writable.copyIn(dma, start, VIRTIO_INPUT_EVENT_SIZE, this.#eventBytes, 0);
      queue.push(chain.heads[i]!, VIRTIO_INPUT_EVENT_SIZE);
      start = chain.ends[i]!;
    }
    queue.publish();
    bus.usedBuffers(queue);
    dma.flush();
    return true;
  }

  #shown(): ArrayLike<number> & { readonly length: number } {
    if (this.#select === VIRTIO_INPUT_CFG_EV_BITS)
      return this.#subsel === EV_KEY ? BUTTONS : this.#subsel === EV_REL ? AXES : NOTHING;
    if (this.#subsel !== 0) return NOTHING;
    if (this.#select === VIRTIO_INPUT_CFG_ID_NAME) return this.#title;
    return this.#select === VIRTIO_INPUT_CFG_ID_DEVIDS ? DEVIDS : NOTHING;
  }

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      version: 1,
      select: this.#select,
      subsel: this.#subsel,
      report: [...this.#report.subarray(0, this.#events * WORDS)],
      counters: [...this.#counters],
    };
  }

  loader(state: StateReader): () => void {
    state.integer("version", 1, 1);
    const select = state.integer("select", 0, 0xff);
    const subsel = state.integer("subsel", 0, 0xff);
    const report = state.integers("report", -0x8000_0000, 0x7fff_ffff);
    if (report.length % WORDS !== 0 || report.length >= MOST_EVENTS * WORDS)
      throw new StateError(
        `${state.path}.report`,
        `${report.length} numbers, expected less than ${MOST_EVENTS} events`,
      );
    const counters = state.integers("counters", 0, Number.MAX_SAFE_INTEGER, COUNTERS);
    return () => {
      this.#select = select;
      this.#subsel = subsel;
      this.#report.set(report);
      this.#events = report.length / WORDS;
      this.#counters.set(counters);
    };
  }
}
