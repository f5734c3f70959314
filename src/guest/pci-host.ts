import type { GuestBus } from "../contract/index.js";
import type { Bouncing } from "./bus-dma.js";
import type { InterruptLines, SoftInterrupts } from "./interrupts.js";
import type { Rman } from "./rman.js";
import type { BusClass } from "./types.js";

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
  /** numbers of the buses that are attached, of all branches */
  readonly buses: Set<number>;
  /** highest number that this branch leads to */
  readonly lastBus: number;
  readonly log: (line: string) => void;
}

/** Where a bus may place what firmware has not placed. */
export interface PciWindows {
  readonly memory: Range;
  /** another range of memory, for prefetchable BARs first of all; default null */
  readonly prefetchable?: Range;
  readonly ports: Range;
}

/** What hangs on a bridge: one PCI bus. */
export interface PcibChild {
  /** 0 … 255 */
  readonly bus: number;
  readonly windows: PciWindows;
  /** with managers of what the bridge passes on */
  readonly host: PciHost;
}

/** A class of devices that says nothing about them. */
export const plain = <P extends object>(name: string): BusClass<P, P> => ({
  name,
  pnpinfo: () => "",
  location: () => "",
  matches: () => true,
});

export const PCIB = plain<PcibChild>("pcib");
