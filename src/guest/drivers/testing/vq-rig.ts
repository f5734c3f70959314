import type { FrameSegments } from "../../types.js";
import { frameSegments } from "../ifnet.js";
import type { Virtqueue, VirtqueueOptions } from "../virtqueue.js";
import { SplitMemory } from "./split-memory.js";

/** What of a queue a test cares about. */
export interface VqRigOptions {
  /** default 8 */
  readonly size?: number;
  readonly eventIdx?: boolean;
  readonly maxIndirect?: number;
  readonly inOrder?: boolean;
}

/** Queue 5 of some device, over memory in two copies. */
export const vqRig = <V extends Virtqueue>(
  Format: new (options: VirtqueueOptions) => V,
  options: VqRigOptions = {},
) => {
  const { size = 8, eventIdx = false, maxIndirect = 0, inOrder = false } = options;
  const memory = new SplitMemory(0x10_0000);
  const kicks: number[] = [];
  const nexts: number[] = []; // upper halves of notification data
  const notifyVq = (index: number, next: number): void => {
    kicks.push(index);
    nexts.push(next);
  };
  const make = () =>
    new Format({
      name: "test0",
      index: 5,
      size,
      align: 4096,
      maxIndirect,
      eventIdx,
      inOrder,
      tag: memory.tag(),
      notifyVq,
    });
  return { memory, kicks, nexts, make };
};

/** n segments of 100, 101 … bytes from 0x5000 on, 0x1000 apart. */
export const segments = (n: number): FrameSegments => {
  const list = frameSegments(n);
  for (let i = 0; i < n; i++) {
    list.paddr[i] = 0x5000 + 0x1000 * i;
    list.len[i] = 100 + i;
  }
  list.count = n;
  return list;
};
