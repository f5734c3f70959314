import { ConfigError, ETHER_ADDR_LEN, ETHER_HDR_LEN, ETHER_MAX_LEN, formatMac } from "../../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Verdict } from "../../contract/index.js";
import { FrameRing } from "../../net/index.js";
import { onRestore, type V86Emulator } from "./v86.js";

const VLAN_TAG = 4;
/** Room for what v86's adapters send faster than the guest posts buffers; their TCP does not send anything twice. */
const HELD_BYTES = 1 << 20;
const HELD_FRAMES = 4096;

/** One side of v86's bus: what it sends, listeners of the other side hear. */
interface BusSide {
  register(event: string, listener: (value: unknown) => void, self: unknown): void;
  unregister(event: string, listener: (value: unknown) => void): void;
  send(event: string, value: unknown): void;
}

export interface V86NetworkOptions {
  /** `id` of v86's option `net_device`; default 0 */
  readonly id?: number;
}

export interface V86NetworkCounters {
  /** frames handed to v86's adapter */
  readonly sent: number;
  /** frames that the card took */
  readonly received: number;
  /** frames that wait for the card now */
  readonly held: number;
  /** frames that the card refused, or for which there was no room while it took none */
  readonly dropped: number;
  /** frames that waited when a state was restored: they belonged to another time */
  readonly droppedOnRestore: number;
  /** what came from the adapter and was no frame */
  readonly malformed: number;
}

const LIMITS: EndpointLimits = {
  csum: false,
  tso4: false,
  tso6: false,
  uso: false,
  longestFrame: ETHER_MAX_LEN + VLAN_TAG,
  holds: true,
};

/**
 * The network adapter of a v86 emulator (`relay_url`: `fetch`, `wisp://`, `ws://`, `inbrowser`) as the far end of a cable.
 *
 * It stands where v86's own card would, on the events `net0-send`, `net0-receive` and `net0-mac`, so there must be none
 * (`type: "none"`). Join it by `connect`, which finishes and cuts what a card leaves undone. Frames that a card
 * cannot take yet wait here, up to 1 MiB; a restored state drops them.
 */
export class V86Network implements NetPort {
  readonly #device: BusSide;
  readonly #event: string;
  readonly #emulator: V86Emulator;
  readonly #ring = new FrameRing(HELD_BYTES, HELD_FRAMES);
  readonly #mac = new Uint8Array(ETHER_ADDR_LEN); // what the adapter was told
  #far: NetEndpoint | null = null;
  #restoring: Disposable | null = null;
  #offering = 0; // depth of frames that go out now
  #draining = false;
  #sent = 0;
  #received = 0;
  #dropped = 0;
  #droppedOnRestore = 0;
  #malformed = 0;

  /** @throws ConfigError `v86-name` */
  constructor(emulator: V86Emulator, { id = 0 }: V86NetworkOptions = {}) {
    this.#device = deviceSide(emulator);
    this.#event = `net${id}`;
    this.#emulator = emulator;
  }

  /** Hands the adapter a copy: it may keep what it gets, in a queue or for a socket. */
  offer(bytes: Uint8Array, start: number, length: number): Verdict {
    if (this.#far === null) return "dropped";
    this.#tellMac(bytes, start + ETHER_ADDR_LEN);
    this.#sent++;
    this.#offering++;
    try {
      this.#device.send(`${this.#event}-send`, bytes.slice(start, start + length));
    } finally {
      this.#offering--;
    }
    return "taken";
  }

  /** What the adapter answered within the batch ends with it. */
  endBatch(): void {
    this.#far?.endBatch();
  }

  ready(): void {
    const far = this.#far;
    if (far === null || this.#draining) return;
    this.#draining = true;
    const ring = this.#ring;
    try {
      for (let slot = ring.head; slot >= 0; slot = ring.head) {
        ring.select(slot);
        if (!this.#deliver(far, ring.bytes, ring.start, ring.length)) break;
        ring.release(slot);
      }
    } finally {
      this.#draining = false;
    }
    far.endBatch();
  }

  accepts(): EndpointLimits {
    return LIMITS;
  }

  /** @throws ConfigError `port-occupied` */
  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#far !== null)
      throw new ConfigError("port-occupied", "v86's network has a cable already: put a switch between");
    this.#far = far;
    const event = `${this.#event}-receive`;
    if (far !== null) {
      this.#device.register(event, this.#receive, undefined);
      this.#restoring = onRestore(this.#emulator, () => {
        this.#droppedOnRestore += this.#ring.clear();
      });
      return;
    }
    this.#device.unregister(event, this.#receive);
    this.#restoring?.[Symbol.dispose]();
    this.#dropped += this.#ring.clear();
  }

  counters(): V86NetworkCounters {
    return {
      sent: this.#sent,
      received: this.#received,
      held: this.#ring.held,
      dropped: this.#dropped,
      droppedOnRestore: this.#droppedOnRestore,
      malformed: this.#malformed,
    };
  }

  readonly #receive = (frame: unknown): void => {
    const far = this.#far;
    if (far === null) return;
    if (!(frame instanceof Uint8Array) || frame.length < ETHER_HDR_LEN) {
      this.#malformed++;
      return;
    }
    // Nothing overtakes what waits.
    if (this.#ring.held > 0 || !this.#deliver(far, frame, 0, frame.length)) {
      if (this.#ring.push(frame, 0, frame.length, null, 0) < 0) this.#dropped++;
      return;
    }
    if (this.#offering === 0) far.endBatch();
  };

  /** @returns false when the card cannot take the frame yet */
  #deliver(far: NetEndpoint, bytes: Uint8Array, start: number, length: number): boolean {
    const verdict = far.offer(bytes, start, length, null, 0);
    if (verdict === "later") return false;
    if (verdict === "taken") this.#received++;
    else this.#dropped++;
    return true;
  }

  /** Connections that come from the host need the guest's address: it is learnt from what the guest sends. */
  #tellMac(bytes: Uint8Array, at: number): void {
    const mac = this.#mac;
    let same = true;
    for (let i = 0; i < ETHER_ADDR_LEN; i++) same = same && mac[i] === bytes[at + i];
    if (same) return;
    mac.set(bytes.subarray(at, at + ETHER_ADDR_LEN));
    this.#device.send(`${this.#event}-mac`, formatMac(mac));
  }
}

/** The side of v86's bus on which its cards are. @throws ConfigError `v86-name` */
function deviceSide(emulator: V86Emulator): BusSide {
  const side = (emulator as { readonly bus?: { readonly pair?: Partial<BusSide> } }).bus?.pair;
  for (const name of ["register", "unregister", "send"] as const)
    if (typeof side?.[name] !== "function")
      throw new ConfigError("v86-name", `emulator.bus.pair.${name} is ${typeof side?.[name]}, expected function`);
  return side as BusSide;
}

/**
 * v86's own network adapter, ready for a cable: `connect(card.net, v86Network(emulator))`. Several cards share it through a
 * `Switch`.
 * @throws ConfigError `v86-name`
 */
export const v86Network = (emulator: V86Emulator, options?: V86NetworkOptions): V86Network =>
  new V86Network(emulator, options);
