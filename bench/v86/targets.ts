import { type Cell, type Results, ratioOf } from "./results.js";

/** Something that is to hold between two cards in the same run. */
export interface Target {
  readonly title: string;
  /** the number that is to be reached */
  readonly wanted: number;
  readonly kind: "at least" | "at most";
  readonly reached: number;
  readonly holds: boolean;
  /** it fails by so much that it is not the noise of a busy machine */
  readonly fails: boolean;
}

/** How far from its target a ratio may be before `--check` fails. */
const MARGIN = 1.5;

const SENDING = ["tx60", "tx1514"];
const BURSTS = ["tx60b", "tx1514b"];
const RECEIVING = ["rx60", "rx1514"];
const TCP = ["tcp-out", "tcp-in"];
const LOAD = [...SENDING, ...BURSTS, ...RECEIVING, ...TCP];

/** Issue by issue: what is promised of the cards that were measured. */
export function targets(results: Results): Target[] {
  const list: Target[] = [];
  const cell = (card: string, row: string): Cell | undefined => results.get(card)?.get(row);
  const add = (title: string, kind: Target["kind"], wanted: number, reached: number | undefined): void => {
    if (reached === undefined || Number.isNaN(reached)) return;
    const holds = kind === "at least" ? reached >= wanted : reached <= wanted;
    const fails = kind === "at least" ? reached * MARGIN < wanted : reached > wanted * MARGIN;
    list.push({ title, kind, wanted, reached, holds, fails });
  };
  const ratio = (card: string, peer: string, row: string): number | undefined => {
    const [ours, theirs] = [cell(card, row), cell(peer, row)];
    return ours === undefined || theirs === undefined ? undefined : ratioOf(ours, theirs);
  };
  for (const row of SENDING) add(`vtnet / v86 virtio, ${row}`, "at least", 5, ratio("vtnet", "virtio", row));
  for (const row of BURSTS) add(`vtnet / v86 virtio, ${row}`, "at least", 2, ratio("vtnet", "virtio", row));
  add("vtnet / v86 virtio, rx60", "at least", 1, ratio("vtnet", "virtio", "rx60"));
  add("vtnet / v86 virtio, rx1514", "at least", 1.3, ratio("vtnet", "virtio", "rx1514"));
  for (const row of TCP) add(`vtnet / v86 virtio, ${row}`, "at least", 2.2, ratio("vtnet", "virtio", row));
  for (const row of LOAD) add(`vtnet, interrupts a frame, ${row}`, "at most", 1 / 20, cell("vtnet", row)?.interrupts);
  const [ping, theirs] = [cell("vtnet", "ping")?.value, cell("virtio", "ping")?.value];
  if (ping !== undefined && theirs !== undefined)
    add("vtnet - v86 virtio, ping, ms", "at most", 2, Math.max(0, ping - theirs));
  for (const row of LOAD) add(`re / v86 ne2k, ${row}`, "at least", 2, ratio("re", "ne2k", row));
  add("re / v86 virtio, tcp-out", "at least", 1, ratio("re", "virtio", "tcp-out"));
  return list;
}
