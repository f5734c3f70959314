import type { GuestBus } from "../contract/index.js";
import type { Bouncing } from "./bus-dma.js";
import type { InterruptLines, SoftInterrupts } from "./interrupts.js";
import type { Rman } from "./rman.js";

/** An inclusive range of ports or addresses; null where a bridge passes nothing. */
export type Range = readonly [start: number, end: number] | null;

/** What all functions of a machine share. */
export interface PciHost {
  readonly bus: GuestBus;
  /** the same with a turn for scheduled handlers in `poll` */
  readonly machine: GuestBus;
  readonly memory: Rman;
  readonly ports: Rman;
  readonly irqs: Rman;
  readonly lines: InterruptLines;
  readonly soft: SoftInterrupts;
  readonly bouncing: Bouncing;
  readonly log: (line: string) => void;
}

/** Where a bus may place what firmware has not placed. */
export interface PciWindows {
  readonly memory: Range;
  /** another range of memory, for prefetchable BARs first of all; default null */
  readonly prefetchable?: Range;
  readonly ports: Range;
}
