import assert from "node:assert/strict";
import { bench } from "mitata";
import { type Fragments, frameOf, noise, type RawGuest } from "./machine.js";

/** bytes without FCS: the shortest and the longest frame */
export const SHORTEST = 60;
export const LONGEST = 1514;

const STRIDE = 0x800;
const PLACES = 256;
/** What frames are offered from when they lie in the RAM of another machine. */
const FOREIGN_RAM = 8 * 2 ** 20;

/** The peer of all packet paths: one copy of a full frame from one memory to another. */
export const benchCopy = (): void => {
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

/** A frame from the cable, an array of its own or somewhere in another machine's RAM, into guest memory. */
export const benchReceive = (name: string, make: () => RawGuest, length: number, out: "whole" | "in place"): void => {
  bench(name, function* () {
    const guest = make();
    const whole = frameOf(length);
    const bytes = out === "whole" ? whole : new Uint8Array(FOREIGN_RAM);
    if (out === "in place") for (let i = 0; i < PLACES; i++) bytes.set(whole, STRIDE * i + 2);
    let place = 0;
    let count = 0;
    const receive = (): void => {
      place = out === "whole" ? 0 : (place + STRIDE) & (STRIDE * PLACES - 1);
      count++;
      guest.receive(bytes, out === "whole" ? 0 : place + 2, length);
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

/** A frame out of guest memory to the far end, one doorbell each. */
export const benchTransmit = (name: string, make: (fragments: Fragments) => RawGuest, fragments: Fragments): void => {
  bench(name, function* () {
    const guest = make(fragments);
    const { far, card, ram } = guest.plugged;
    const length = fragments.reduce((sum, size) => sum + size, 0);
    let count = 0;
    const transmit = (): void => {
      count++;
      guest.transmit();
    };
    const check = (): void => {
      const { txFrames, txBytes, bytesCopied } = card.counters();
      assert.deepEqual([far.taken, txFrames, txBytes], [count, count, count * length]);
      assert.equal(bytesCopied, fragments.length === 1 ? 0 : count * length);
      assert.equal(far.bytes.buffer === ram.buffer, fragments.length === 1, "one fragment is handed on where it lies");
    };
    transmit();
    check();
    yield transmit;
    check();
  });
};
