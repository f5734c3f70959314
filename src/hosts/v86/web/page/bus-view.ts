import { type BusBar, type BusFunction, COMMAND_BITS, functions, routes } from "./bus.js";
import { brief, element, hex, setAttribute, setText, size } from "./dom.js";
import type { Lab } from "./lab.js";

const PIRQ_NAMES = "ABCD";
const KINDS = { io: "I/O", mem32: "memory", mem64: "memory 64", rom: "ROM" } as const;

/** The tree of functions with their BARs, and the four interrupt lines; drawn again where something changed. */
export class BusView {
  readonly #tree: HTMLElement;
  readonly #lines: HTMLElement;
  #shape = "";
  #nodes = new Map<number, FunctionNode>();
  #lineNodes: LineNode[] = [];

  constructor(tree: HTMLElement, lines: HTMLElement) {
    this.#tree = tree;
    this.#lines = lines;
  }

  /** @param rates interrupts per second by slot */
  update(lab: Lab, rates: ReadonlyMap<number, number>): void {
    const found = functions(lab);
    const shape = found.map(({ slot, device, bars }) => `${slot}:${device}:${bars.length}`).join();
    if (shape !== this.#shape) this.#build(found);
    this.#shape = shape;
    for (const fn of found) this.#nodes.get(fn.slot)?.update(fn);
    const irqs = routes(lab);
    for (const [pirq, line] of this.#lineNodes.entries())
      line.update(
        irqs[pirq] ?? -1,
        found.filter((fn) => fn.pirq === pirq),
        rates,
      );
  }

  #build(found: readonly BusFunction[]): void {
    this.#nodes = new Map(found.map((fn) => [fn.slot, new FunctionNode(fn)]));
    this.#tree.replaceChildren(...[...this.#nodes.values()].map(({ element }) => element));
    this.#lineNodes = [0, 1, 2, 3].map((pirq) => new LineNode(pirq));
    this.#lines.replaceChildren(...this.#lineNodes.map(({ element }) => element));
  }
}

/** One function: a line of its own, one for each BAR, and one for its interrupt. */
class FunctionNode {
  readonly element: HTMLElement;
  readonly #bits: HTMLElement[];
  readonly #command = element("span", { class: "number quiet", title: "Command register", "data-field": "command" });
  readonly #route = element("span", { class: "bar-range" });
  readonly #level = element("span", { class: "bar-decoded" });
  readonly #interrupt: HTMLElement;
  readonly #bars: BarNode[];

  constructor(fn: BusFunction) {
    const { slot, vendor, device, name, card, pin } = fn;
    this.#bits = COMMAND_BITS.map(([, text, title]) => element("span", { class: "bit", title }, text));
    this.#bars = fn.bars.map(() => new BarNode());
    this.#interrupt = element(
      "li",
      { class: "bar", "data-field": "interrupt" },
      element("span", { class: "bar-place" }, `INT${PIRQ_NAMES[pin - 1]}`),
      element("span", { class: "bar-kind" }, "interrupt"),
      this.#route,
      element("span"),
      this.#level,
    );
    const color = card === null ? {} : { style: `--card: var(--card-${slotColor(card.slot)})` };
    this.element = element(
      "li",
      { class: card === null ? "function" : "function own", "data-slot": slot, ...color },
      element(
        "div",
        { class: "function-head" },
        element("span", { class: "bdf" }, `00:${hex(slot, 2)}.0`),
        element("span", { class: "ids" }, `${hex(vendor, 4)}:${hex(device, 4)}`),
        element("span", { class: "function-name", title: name }, card === null ? name : card.title),
        element("span", { class: "bits" }, ...this.#bits),
        this.#command,
      ),
      element(
        "ul",
        { class: "bars" },
        ...this.#bars.map(({ element }) => element),
        ...(pin === 0 ? [] : [this.#interrupt]),
      ),
    );
  }

  update(fn: BusFunction): void {
    for (const [i, [bit]] of COMMAND_BITS.entries())
      setAttribute(this.#bits[i]!, "data-on", String((fn.command & bit) !== 0));
    setText(this.#command, hex(fn.command, 4));
    const isUnset = fn.line === 0 || fn.line === 0xff;
    setAttribute(this.#interrupt, "data-line", String(fn.line));
    setAttribute(this.#interrupt, "data-level", String(fn.level));
    setText(this.#route, `PIRQ${PIRQ_NAMES[fn.pirq]} → ${isUnset ? "not routed" : `IRQ ${fn.line}`}`);
    setText(this.#level, fn.card === null ? "" : fn.level ? "pulled" : "idle");
    for (const [i, bar] of fn.bars.entries()) this.#bars[i]?.update(bar);
  }
}

const slots: number[] = [];
/** Colours go by the order in which cards were first seen, so that plot, list and tree agree. */
export const slotColor = (slot: number): number => {
  if (!slots.includes(slot)) slots.push(slot);
  return slots.indexOf(slot) % 4;
};

class BarNode {
  readonly #place = element("span", { class: "bar-place" });
  readonly #kind = element("span", { class: "bar-kind" });
  readonly #range = element("span", { class: "bar-range", "data-field": "range" });
  readonly #size = element("span", { class: "bar-size" });
  readonly #decoded = element("span", { class: "bar-decoded" });
  readonly element = element("li", { class: "bar" }, this.#place, this.#kind, this.#range, this.#size, this.#decoded);

  update({ index, kind, base, size: bytes, decoded }: BusBar): void {
    const digits = kind === "io" ? 4 : kind === "mem64" && base >= 2 ** 32 ? 16 : 8;
    setAttribute(this.element, "data-bar", String(index));
    setAttribute(this.element, "data-base", hex(base, digits));
    setAttribute(this.element, "data-decoded", String(decoded));
    setText(this.#place, kind === "rom" ? "ROM" : `BAR ${index}`);
    setText(this.#kind, kind === "rom" ? "" : KINDS[kind]);
    setText(this.#range, base === 0 ? "not assigned" : `${hex(base, digits)}–${hex(base + bytes - 1, digits)}`);
    setText(this.#size, size(bytes));
    setText(this.#decoded, decoded ? "decoded" : "off");
  }
}

/** One of the four lines into the interrupt controller, with who pulls it. */
class LineNode {
  readonly #irq = element("span", { class: "irq" });
  readonly #level = element("span", { class: "level", role: "img" });
  readonly #who = element("span", { class: "who" });
  readonly #rate = element("span", { class: "number" });
  readonly element: HTMLElement;

  constructor(pirq: number) {
    this.element = element(
      "li",
      { class: "line", "data-pirq": PIRQ_NAMES[pirq] ?? "" },
      element("span", { class: "pirq" }, `PIRQ${PIRQ_NAMES[pirq]}`),
      this.#level,
      this.#irq,
      this.#who,
      this.#rate,
    );
  }

  update(irq: number, on: readonly BusFunction[], rates: ReadonlyMap<number, number>): void {
    const isUp = on.some(({ level }) => level);
    const rate = on.reduce((sum, { slot }) => sum + (rates.get(slot) ?? 0), 0);
    setAttribute(this.#level, "data-level", isUp ? "up" : rate > 0 ? "busy" : "down");
    setAttribute(this.#level, "aria-label", isUp ? "pulled" : rate > 0 ? "pulled now and then" : "idle");
    setAttribute(this.element, "data-irq", String(irq));
    setText(this.#irq, irq < 0 ? "not routed" : `IRQ ${irq}`);
    setText(this.#who, on.map(({ slot, card }) => card?.title ?? `00:${hex(slot, 2)}.0`).join(", ") || "nobody");
    setText(this.#rate, on.some(({ card }) => card !== null) ? `${brief(rate)}/s` : "");
  }
}
