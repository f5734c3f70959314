import { ETHER_MIN_LEN } from "../../../bytes/index.js";

/** RFC 903: request reverse. */
const RARP = [0x80, 0x35, 0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x03];
const SENDER_MAC = 22;
const TARGET_MAC = 32;

/** The frame by which switches learn where a station is: a RARP request for its own address, to all. */
export const rarpFrame = (mac: Uint8Array): Uint8Array => {
  const frame = new Uint8Array(ETHER_MIN_LEN);
  frame.fill(0xff, 0, 6);
  frame.set(mac, 6);
  frame.set(RARP, 12);
  frame.set(mac, SENDER_MAC);
  frame.set(mac, TARGET_MAC);
  return frame;
};

/** ms, and how often */
export interface AnnounceParameters {
  readonly initial: number;
  readonly max: number;
  readonly step: number;
  readonly rounds: number;
}

/** Announcements that repeat themselves, on real time, by name; one of the same name takes the former's place. */
export class Announcer implements Disposable {
  readonly #timers = new Map<string, NodeJS.Timeout>();

  /** @param announce called at once, and again for each further round */
  start(name: string, { initial, max, step, rounds }: AnnounceParameters, announce: () => void): void {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
    if (rounds === 0) return;
    announce();
    const next = (round: number): void => {
      if (round === rounds) {
        this.#timers.delete(name);
        return;
      }
      const delay = Math.min(max, initial + (round - 1) * step);
      const timer = setTimeout(() => {
        announce();
        next(round + 1);
      }, delay);
      this.#timers.set(name, timer);
    };
    next(1);
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }
}
