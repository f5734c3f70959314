import assert from "node:assert/strict";
import { bench } from "mitata";
import { frameOf, LONGEST, noise, type RawGuest, type RawGuestOptions } from "./machine.js";

export { LONGEST } from "./machine.js";

/** bytes of the shortest frame without FCS */
export const SHORTEST = 60;

const STRIDE = 0x800;
const PLACES = 256;
/** What frames are offered from when they lie in the RAM of another machine. */
const FOREIGN_RAM = 8 * 2 ** 20;

/** The peer of all packet paths: one copy of a full frame from one memory to another. */
const benchCopy = (): void => {
  bench("copy a full frame", function* () {
    const target = new Uint8Array(FOREIGN_RAM);
    const source = noise(FOREIGN_RAM);
    let at = 0;
    yield () => {
      at = (at + STRIDE) & (STRIDE * PLACES - 1);
      target.set(source.subarray(at, at + LONGEST), at);
    };
    for (let i = 0; i < PLACES; i++) {
      const [copied, original] = [target, source].map((bytes) => bytes.slice(STRIDE * i, STRIDE * i + LONGEST));
      assert.deepEqual(copied, original);
    }
  });
};

/** Makes a guest for one bench. */
export type Make = (options: RawGuestOptions) => RawGuest;

/** Kinds of virtio's rings; the copy stands before the first. */
export const KINDS = ["split", "packed"] as const;

export interface PacketOptions extends RawGuestOptions {
  /** the frame lies somewhere in another machine's RAM, instead of being an array of its own */
  readonly foreign?: boolean;
}

/** A frame of so many bytes from the cable into guest memory. */
export const benchReceive = (name: string, make: Make, length: number, options: PacketOptions = {}): void => {
  bench(name, function* () {
    const { foreign = false } = options;
    const guest = make(options);
    const whole = frameOf(length);
    const bytes = foreign ? new Uint8Array(FOREIGN_RAM) : whole;
    if (foreign) for (let i = 0; i < PLACES; i++) bytes.set(whole, STRIDE * i + 2);
    let place = 0;
    let count = 0;
    const receive = (): void => {
      place = foreign ? (place + STRIDE) & (STRIDE * PLACES - 1) : 0;
      count++;
      guest.receive(bytes, foreign ? place + 2 : 0, length);
    };
    const check = (): void => {
      const { rxFrames, rxBytes } = guest.plugged.card.counters();
      assert.deepEqual([rxFrames, rxBytes], [count, count * length]);
      assert.deepEqual(guest.received(), whole);
    };
    receive();
    check();
    yield receive;
    check();
  });
};

/** A frame of such fragments out of guest memory to the far end. */
export const benchTransmit = (name: string, make: Make, options: PacketOptions): void => {
  bench(name, function* () {
    const { fragments = [], batch = 1 } = options;
    const guest = make(options);
    const { far, card, ram } = guest.plugged;
    const length = fragments.reduce((sum, size) => sum + size, 0);
    let count = 0;
    const transmit = (): void => {
      count++;
      guest.transmit();
    };
    const check = (): void => {
      const sent = count - (count % batch);
      const { txFrames, txBytes, bytesCopied } = card.counters();
      assert.deepEqual([far.taken, txFrames, txBytes], [sent, sent, sent * length]);
      assert.equal(bytesCopied, fragments.length === 1 ? 0 : sent * length);
      const handedOn = far.bytes.buffer === ram.buffer;
      assert.equal(handedOn, fragments.length === 1, "one fragment is handed on where it lies");
    };
    for (let i = 0; i < batch; i++) transmit();
    check();
    yield transmit;
    check();
  });
};

/**
 * The rows that every card has.
 * @param large bytes of the longest frame; @param kind stands behind the name, where a card has several kinds of rings
 */
export const benchPackets = (make: Make, large: number, kind = ""): void => {
  if (kind === "" || kind === KINDS[0]) benchCopy();
  const of = kind === "" ? "" : `, ${kind}`;
  benchReceive(`receive 60${of}`, make, SHORTEST);
  benchReceive(`receive 1514${of}`, make, LONGEST);
  benchReceive(`receive 1514 in batches of 16${of}`, make, LONGEST, { batch: 16 });
  benchReceive(`receive 1514 from another's RAM${of}`, make, LONGEST, { foreign: true });
  benchReceive(`receive ${large}${of}`, make, large, { large });
  benchTransmit(`transmit 60${of}`, make, { fragments: [SHORTEST] });
  benchTransmit(`transmit 1514${of}`, make, { fragments: [LONGEST] });
  benchTransmit(`transmit 1514 in batches of 16${of}`, make, { fragments: [LONGEST], batch: 16 });
  benchTransmit(`transmit 1514 from 3 descriptors${of}`, make, { fragments: [66, 724, 724] });
  benchTransmit(`transmit ${large}${of}`, make, { fragments: [large], large });
};
