import uPlot from "uplot";
import { slotColor } from "./bus-view.js";
import { brief } from "./dom.js";
import type { LabCard } from "./lab.js";
import type { CardRates } from "./samples.js";

/** What one curve of a card shows. */
interface Curve {
  readonly label: string;
  readonly dash: number[];
  value(rates: CardRates): number | null;
}

const THROUGHPUT: readonly Curve[] = [
  { label: "to host", dash: [], value: ({ toHost }) => toHost / 1e6 },
  { label: "to guest", dash: [4, 3], value: ({ toGuest }) => toGuest / 1e6 },
];
const PER_FRAME: readonly Curve[] = [
  { label: "exits", dash: [], value: ({ exitsPerFrame }) => positive(exitsPerFrame) },
  { label: "interrupts", dash: [4, 3], value: ({ interruptsPerFrame }) => positive(interruptsPerFrame) },
];
/** A logarithm knows no 0. */
const positive = (value: number | null): number | null => (value === null || value <= 0 ? null : value);

const HEIGHT = 128;

/** One plot over the last minutes: a curve or two for each card, in its colour. */
export class PlotView {
  readonly #curves: readonly Curve[];
  readonly #root: HTMLElement;
  readonly #plot: uPlot;

  constructor(root: HTMLElement, cards: readonly LabCard[], kind: "throughput" | "per-frame", seconds: number) {
    this.#curves = kind === "throughput" ? THROUGHPUT : PER_FRAME;
    this.#root = root;
    const css = (name: string) => (): string => getComputedStyle(root).getPropertyValue(name);
    const axis = {
      stroke: css("--quiet"),
      grid: { stroke: css("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    this.#plot = new uPlot(
      {
        width: root.clientWidth || 400,
        height: HEIGHT,
        cursor: { drag: { x: false, y: false }, points: { size: 5 } },
        legend: { show: false },
        scales: {
          x: { time: false, range: [-seconds, 0] },
          y:
            kind === "throughput"
              ? { range: (_, __, most) => [0, Math.max(1, (most ?? 0) * 1.1)] }
              : { distr: 3, range: (_, least, most) => [power(Math.floor, least, 0.001), power(Math.ceil, most, 10)] },
        },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "now" : `${tick} s`)), size: 26 },
          {
            ...axis,
            size: 46,
            ...(kind === "throughput"
              ? {}
              : { splits: (_: uPlot, __: number, least: number, most: number) => decades(least, most) }),
            values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick))),
          },
        ],
        series: [
          {},
          ...cards.flatMap(({ title, slot }) =>
            this.#curves.map((curve) => ({
              label: `${title} ${curve.label}`,
              stroke: css(`--card-${slotColor(slot)}`),
              dash: curve.dash,
              width: 1.5,
              points: { show: kind === "per-frame", size: 3 },
              value: (_: uPlot, value: number | null) => (value === null ? "–" : brief(value)),
            })),
          ),
        ],
      },
      [[], ...cards.flatMap(() => this.#curves.map(() => []))],
      root,
    );
    new ResizeObserver(() => this.#plot.setSize({ width: root.clientWidth, height: HEIGHT })).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#plot.redraw());
  }

  /** @param times ms, as many as there are samples of each card; @param now ms */
  update(now: number, times: readonly number[], samples: readonly (readonly CardRates[])[]): void {
    if (this.#root.clientWidth === 0) return;
    const x = times.map((at) => (at - now) / 1000);
    this.#plot.setData([x, ...samples.flatMap((rates) => this.#curves.map(({ value }) => rates.map(value)))]);
  }
}

/** The power of ten below or above a value, `limit` at least: so the axis begins and ends with a label. */
const power = (round: (value: number) => number, value: number | null, limit: number): number => {
  const found = value === null || !(value > 0) ? limit : 10 ** round(Math.log10(value));
  return limit < 1 ? Math.min(found, limit) : Math.max(found, limit);
};

const decades = (least: number, most: number): number[] => {
  const [from, to] = [Math.round(Math.log10(least)), Math.round(Math.log10(most))];
  return Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));
};

const short = (value: number): string => (value >= 1 || value === 0 ? String(value) : value.toPrecision(1));
