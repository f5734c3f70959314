import { ConfigError, StateReader } from "../bytes/index.js";
import type { NetPort, SavedState, Stateful } from "../contract/index.js";
import { type WireCounters, WireEnd } from "./wire-end.js";

export interface WireOptions {
  /**
   * Completes the checksums of DHCP over IPv4 also for a port that would do so itself; default true. Guests read DHCP
   * from raw sockets and take an open checksum for a wrong one.
   */
  readonly completeDhcp?: boolean;
}

/** A cable between two ports; made by `connect`. Its state are its counters, and what it holds of frames cut in two. */
export class Wire implements Disposable, Stateful {
  readonly #a: NetPort;
  readonly #b: NetPort;
  readonly #toA: WireEnd;
  readonly #toB: WireEnd;
  #plugged = true;

  /** @see connect */
  constructor(a: NetPort, b: NetPort, { completeDhcp = true }: WireOptions = {}) {
    if (a === b) throw new ConfigError("wire-ends", "both ends of a wire are the same port; use a Loop");
    this.#a = a;
    this.#b = b;
    this.#toA = new WireEnd(a, b, completeDhcp);
    this.#toB = new WireEnd(b, a, completeDhcp);
    this.#toA.pair(this.#toB);
    this.#toB.pair(this.#toA);
    a.attach(this.#toB);
    try {
      b.attach(this.#toA);
    } catch (error) {
      a.attach(null);
      throw error;
    }
  }

  /** A copy of what was counted in both directions. */
  counters(): { readonly aToB: WireCounters; readonly bToA: WireCounters } {
    return { aToB: this.#toB.counters(), bToA: this.#toA.counters() };
  }

  /** Pulls the cable out of both ports; idempotent, and safe inside an offer. What it holds is dropped and counted. */
  [Symbol.dispose](): void {
    if (!this.#plugged) return;
    this.#plugged = false;
    this.#toA.unplug();
    this.#toB.unplug();
    this.#a.attach(null);
    this.#b.attach(null);
  }

  save(): SavedState {
    return { version: 2, aToB: this.#toB.save(), bToA: this.#toA.save() };
  }

  load(state: SavedState): void {
    const reader = new StateReader(state, "wire", 2);
    const aToB = WireEnd.parse(reader.object("aToB"));
    const bToA = WireEnd.parse(reader.object("bToA"));
    this.#toB.apply(aToB);
    this.#toA.apply(bToA);
  }
}

/**
 * Plugs a cable between two ports, both empty; disposing it pulls it out of both.
 * A frame goes through in place; a checksum that the far port cannot complete is completed in a copy on the way, and what
 * it cannot take whole is cut into finished segments, which arrive one after the other.
 * @throws ConfigError when a port has something plugged in already (neither is then changed), or both are the same
 */
export const connect = (a: NetPort, b: NetPort, options?: WireOptions): Wire => new Wire(a, b, options);
