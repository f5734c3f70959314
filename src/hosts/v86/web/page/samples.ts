import type { NicCounters } from "../../../../contract/index.js";
import type { V86CardCounters } from "../../index.js";

/** Everything that is counted of a card, since the page was loaded. */
export interface CardCounts {
  readonly nic: NicCounters;
  readonly v86: V86CardCounters;
}

/** What happened between two samples, per second or per frame; null where there was no frame. */
export interface CardRates {
  /** bytes per second */
  readonly toHost: number;
  readonly toGuest: number;
  readonly framesPerSecond: number;
  readonly interruptsPerSecond: number;
  readonly exitsPerFrame: number | null;
  readonly interruptsPerFrame: number | null;
}

/** The guest's accesses to a card: each leaves its code. */
export const exitsOf = ({ configAccesses, portAccesses, memoryAccesses }: V86CardCounters): number =>
  configAccesses + portAccesses + memoryAccesses;

export const framesOf = ({ txFrames, rxFrames }: NicCounters): number => txFrames + rxFrames;

/** One card's counts as they pass, and the last minutes of its rates. */
export class CardSamples {
  readonly #most: number;
  #last: { readonly at: number; readonly counts: CardCounts } | null = null;
  readonly rates: CardRates[] = [];

  /** @param most samples that are kept */
  constructor(most: number) {
    this.#most = most;
  }

  /** @param at ms */
  add(at: number, counts: CardCounts): CardRates {
    const rates = this.#last === null ? STILL : ratesBetween(this.#last.counts, counts, (at - this.#last.at) / 1000);
    this.#last = { at, counts };
    this.rates.push(rates);
    if (this.rates.length > this.#most) this.rates.shift();
    return rates;
  }
}

const STILL: CardRates = {
  toHost: 0,
  toGuest: 0,
  framesPerSecond: 0,
  interruptsPerSecond: 0,
  exitsPerFrame: null,
  interruptsPerFrame: null,
};

function ratesBetween(before: CardCounts, now: CardCounts, seconds: number): CardRates {
  const frames = framesOf(now.nic) - framesOf(before.nic);
  const interrupts = now.v86.interrupts - before.v86.interrupts;
  // A card that was pulled and plugged in again counts from 0.
  if (seconds <= 0 || frames < 0 || interrupts < 0) return STILL;
  return {
    toHost: Math.max(0, now.nic.txBytes - before.nic.txBytes) / seconds,
    toGuest: Math.max(0, now.nic.rxBytes - before.nic.rxBytes) / seconds,
    framesPerSecond: frames / seconds,
    interruptsPerSecond: interrupts / seconds,
    exitsPerFrame: frames === 0 ? null : (exitsOf(now.v86) - exitsOf(before.v86)) / frames,
    interruptsPerFrame: frames === 0 ? null : interrupts / frames,
  };
}
