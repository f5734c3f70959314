import assert from "node:assert/strict";
import type { NetEndpoint, Nic, Offload, Verdict } from "../../src/contract/index.js";
import { Machine, VirtualClock } from "../../src/machine/index.js";

const MIB = 2 ** 20;
const LIMITS = { csum: false, tso4: false, tso6: false, uso: false, longestFrame: 65_554, holds: false };

/** Arbitrary bytes. */
export const noise = (length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  for (let i = 0, x = 1; i < length; i++) {
    bytes[i] = x >>> 24;
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0;
  }
  return bytes;
};

/** IPv4 and TCP, checksums left open; lengths beyond 64 KiB do not come up. */
const TCP_HEADERS = [
  0x08, 0x00, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0x23, 0x28, 0, 0, 0, 1,
  0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
];
/** bytes of the longest frame without FCS that Ethernet itself knows */
export const LONGEST = 1514;

/** A frame to everybody, an array of its own; what is longer than Ethernet's frames is a packet of TCP over IPv4. */
export const frameOf = (length: number): Uint8Array => {
  const frame = noise(length);
  frame.fill(0xff, 0, 6);
  frame.set([0x02, 0, 0, 0, 0, 0x01, 0x88, 0xb5], 6);
  if (length <= LONGEST) return frame;
  frame.set(TCP_HEADERS, 12);
  new DataView(frame.buffer).setUint16(16, length - 14);
  return frame;
};

/** What is left to who receives a frame of `frameOf` that is longer than Ethernet's: its checksum, and to cut it. */
export const LARGE: Offload = {
  needsCsum: true,
  csumStart: 34,
  csumOffset: 16,
  dataValid: false,
  gso: "tcp4",
  gsoSize: 1460,
  ecn: false,
};

/** The far end of a card's cable: takes every frame that has the length agreed upon, and refuses the others. */
export class FarEnd implements NetEndpoint {
  expected = 0;
  taken = 0;
  /** where the last frame was handed over */
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;

  offer(bytes: Uint8Array, start: number, length: number, _offload: Offload | null, _hint: number): Verdict {
    if (length !== this.expected) return "dropped";
    this.bytes = bytes;
    this.start = start;
    this.taken++;
    return "taken";
  }
  endBatch(): void {}
  ready(): void {}
  accepts(): typeof LIMITS {
    return LIMITS;
  }
}

/** A machine with 16 MiB of RAM in one array, in which address and index are the same, and one card in slot 3. */
export class Plugged {
  readonly ram = new Uint8Array(16 * MIB);
  readonly view = new DataView(this.ram.buffer);
  readonly clock = new VirtualClock();
  readonly machine: Machine;
  readonly card: Nic;
  readonly far = new FarEnd();

  constructor(card: Nic) {
    this.card = card;
    this.machine = new Machine({
      ram: this.ram,
      clock: this.clock,
      strictness: "strict",
      report: ({ source, code, value }) => assert.fail(`${source}: ${code} ${value}`),
    });
    this.machine.plug("00:03.0", card);
    this.machine.assignResources();
    card.net.attach(this.far);
    card.configWrite(0x04, 2, 0x0007); // I/O, memory, Bus Master
    this.clock.advance(1e9); // autonegotiation
  }
}

/** A guest's side of a card in raw numbers: rings that were written once, and are armed again after each batch. */
export interface RawGuest {
  readonly plugged: Plugged;
  /** Has the card receive a frame. A batch ends with an interrupt: it is acknowledged, and the buffers are given back. */
  receive(bytes: Uint8Array, start: number, length: number): void;
  /** Fills the ring's next place. A batch ends with a doorbell: the card sends, and its interrupt is acknowledged. */
  transmit(): void;
  /** The bytes of the frame received last. */
  received(): Uint8Array;
}

export interface RawGuestOptions {
  /** bytes of each fragment of the frames it sends; default one of 60 */
  readonly fragments?: readonly number[];
  /** bytes of the longest frame that it is made for; default 1514 */
  readonly large?: number;
  /** frames between two interrupts or doorbells: 1, the default, or 16 */
  readonly batch?: 1 | 16;
}
