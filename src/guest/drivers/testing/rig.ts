import type { FrameSegments } from "../../types.js";
import { type EthernetInterface, frameSegments } from "../ifnet.js";
import type { SplitMemory } from "./split-memory.js";

/** 60 bytes */
export const FRAME = Array.from({ length: 60 }, (_, i) => i);

/** What an interface told: received frames put together, frames done, links. */
export interface Heard {
  readonly received: number[][];
  /** tags that came with them, −1 for none, and what the card said about their checksums */
  readonly tags: (number | undefined)[];
  readonly csums: (string | undefined)[];
  readonly told: number[];
  readonly links: boolean[];
}

/** Listens to an interface. */
export const listen = (ifnet: EthernetInterface, memory: SplitMemory): Heard => {
  const heard: Heard = { received: [], tags: [], csums: [], told: [], links: [] };
  ifnet.onReceive = (address, length, more, offload) => {
    const frame: number[] = [];
    const piece = (paddr: number, len: number): void => {
      const out = new Uint8Array(len);
      memory.copyOut(paddr, out, 0, len);
      frame.push(...out);
    };
    piece(address, length);
    for (let i = 0; more !== null && i < more.count; i++) piece(more.paddr[i]!, more.len[i]!);
    heard.received.push(frame);
    heard.tags.push(offload?.vlan);
    heard.csums.push(offload?.csum);
  };
  ifnet.onSent = (frames) => heard.told.push(frames);
  ifnet.onLink = (active) => heard.links.push(active);
  return heard;
};

/** A frame in pieces of these lengths, in memory of its own. @param align of each piece */
export const frameOf = (memory: SplitMemory, lengths: readonly number[], align = 1): FrameSegments => {
  const frame = frameSegments(lengths.length);
  for (const [i, length] of lengths.entries()) {
    frame.paddr[i] = memory.alloc(length + 1, align, 2 ** 32);
    frame.len[i] = length;
  }
  frame.count = lengths.length;
  return frame;
};
