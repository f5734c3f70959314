import { foldSum, sumWords } from "../../bytes/index.js";
import type { TxOffload } from "../../guest/index.js";
import type { Prng } from "../../net/index.js";
import { CheckFailure, sameFrames } from "./trial.js";

/** What these checks want of a card. */
export interface OffloadParts {
  readonly random: Prng;
  readonly own: readonly number[];
  readonly peer: readonly number[];
  /** Sends frames, each with what is left to the card, and takes `count` from the far end. */
  exchange(frames: readonly OffloadFrame[], count: number): readonly Uint8Array[];
}

/** A frame to send, with what is left to the card. */
export interface OffloadFrame {
  readonly frame: Uint8Array;
  readonly offload: TxOffload | null;
  /** tag control information; −1: no tag */
  readonly vlan: number;
}

const TCP = 6;
const UDP = 17;
type Transport = typeof TCP | typeof UDP;

const IP_AT = 14;
const IP_LENGTH = 20;
const L4_AT = IP_AT + IP_LENGTH;
const HEADER: { readonly [transport in Transport]: number } = { [TCP]: 20, [UDP]: 8 };
const SUM_AT: { readonly [transport in Transport]: number } = { [TCP]: 16, [UDP]: 6 };
const SEQUENCE = 0x1234_5678;
const LENGTHS = [18, 19, 100, 333, 1001, 1459, 1460];
const NO_TAG = -1;

/** RFC 793 §3.1 and RFC 768: addresses, protocol and length in front of the segment. */
const pseudoSum = (frame: Uint8Array, transport: Transport, length: number): number =>
  sumWords(frame, IP_AT + 12, 8, transport + length);

/** TCP or UDP over IPv4, with the sum of the pseudo header where the checksum is to be. */
const packet = ({ random, own, peer }: OffloadParts, transport: Transport, length: number): Uint8Array => {
  const header = HEADER[transport];
  const frame = Uint8Array.from({ length: L4_AT + header + length }, () => random.next() & 0xff);
  const view = new DataView(frame.buffer);
  frame.set(peer, 0);
  frame.set(own, 6);
  view.setUint16(12, 0x0800);
  frame.set([0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, transport, 0, 0, 10, 0, 0, 1, 192, 168, 255, 254], IP_AT);
  view.setUint16(IP_AT + 2, IP_LENGTH + header + length);
  view.setUint16(IP_AT + 10, ~foldSum(sumWords(frame, IP_AT, IP_LENGTH)) & 0xffff);
  frame.set([0x30, 0x39, 0x00, 0x50], L4_AT);
  if (transport === TCP) {
    view.setUint32(L4_AT + 4, SEQUENCE);
    frame.set([1, 2, 3, 4, 0x50, 0x10, 0x72, 0x10], L4_AT + 8);
    view.setUint16(L4_AT + 18, 0);
  } else view.setUint16(L4_AT + 4, header + length);
  view.setUint16(L4_AT + SUM_AT[transport], foldSum(pseudoSum(frame, transport, header + length)));
  return frame;
};

const offloadOf = (transport: Transport, gsoSize = 0): TxOffload => ({
  csumStart: L4_AT,
  csumOffset: SUM_AT[transport],
  gso: gsoSize === 0 ? "none" : "tcp4",
  gsoSize,
  hdrLen: gsoSize === 0 ? 0 : L4_AT + HEADER[transport],
  ecn: false,
});

/** @throws CheckFailure when a checksum of a frame is wrong */
const checkSums = (frame: Uint8Array, transport: Transport): void => {
  const total = new DataView(frame.buffer, frame.byteOffset).getUint16(IP_AT + 2);
  if (foldSum(sumWords(frame, IP_AT, IP_LENGTH)) !== 0xffff) throw new CheckFailure("the checksum of IP is wrong");
  const length = total - IP_LENGTH;
  const sum = foldSum(sumWords(frame, L4_AT, length, pseudoSum(frame, transport, length)));
  if (sum !== 0xffff) throw new CheckFailure(`the checksum of ${transport === TCP ? "TCP" : "UDP"} is wrong`);
};

/** The card stores checksums, and changes nothing else. */
export const checksums = (parts: OffloadParts): number => {
  for (const transport of [TCP, UDP] as const) {
    const frames = LENGTHS.map((length) => packet(parts, transport, length));
    const sent = frames.map((frame) => ({ frame, offload: offloadOf(transport), vlan: NO_TAG }));
    const got = parts.exchange(sent, frames.length);
    for (const frame of got) checkSums(frame, transport);
    const at = L4_AT + SUM_AT[transport];
    const without = (frame: Uint8Array): Uint8Array => frame.slice().fill(0, at, at + 2);
    sameFrames(got.map(without), frames.map(without));
  }
  return 2 * LENGTHS.length;
};

/** The card cuts a long segment of TCP: the same bytes in the same order, with numbers and checksums that fit. */
export const segments = (parts: OffloadParts): number => {
  let frames = 0;
  for (const [length, mss] of [
    [5 * 1460 + 333, 1460],
    [7 * 1460, 1460],
    [4001, 536],
  ] as const) {
    const whole = packet(parts, TCP, length);
    const count = Math.ceil(length / mss);
    const got = parts.exchange([{ frame: whole, offload: offloadOf(TCP, mss), vlan: NO_TAG }], count);
    const header = L4_AT + HEADER[TCP];
    got.forEach((frame, i) => {
      checkSums(frame, TCP);
      const view = new DataView(frame.buffer, frame.byteOffset);
      const bytes = Math.min(mss, length - i * mss);
      if (view.getUint16(IP_AT + 2) !== IP_LENGTH + HEADER[TCP] + bytes)
        throw new CheckFailure(`segment ${i} of ${count}: ${view.getUint16(IP_AT + 2)} bytes of IP`);
      if (view.getUint32(L4_AT + 4) !== SEQUENCE + i * mss) throw new CheckFailure(`segment ${i}: its number is wrong`);
      if (
        Buffer.compare(
          frame.subarray(header, header + bytes),
          whole.subarray(header + i * mss, header + i * mss + bytes),
        ) !== 0
      )
        throw new CheckFailure(`segment ${i}: its bytes are wrong`);
    });
    frames += count;
  }
  return frames;
};

/** The card puts 802.1Q tags in. */
export const tags = (parts: OffloadParts): number => {
  const tci = [0x0001, 0x0123, 0x6fff, 0xe5a5];
  const frames = tci.map((_, i) => packet(parts, UDP, 100 + i));
  const got = parts.exchange(
    frames.map((frame, i) => ({ frame, offload: null, vlan: tci[i]! })),
    frames.length,
  );
  sameFrames(
    got,
    frames.map((frame, i) => tagged(frame, tci[i]!)),
  );
  return frames.length;
};

/** A frame with an 802.1Q tag behind the addresses. */
export const tagged = (frame: Uint8Array, tci: number): Uint8Array =>
  Uint8Array.of(...frame.subarray(0, 12), 0x81, 0x00, tci >>> 8, tci & 0xff, ...frame.subarray(12));
