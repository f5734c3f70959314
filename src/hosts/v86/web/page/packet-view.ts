import { slotColor } from "./bus-view.js";
import type { Capture, CapturedFrame } from "./capture.js";
import { decodeFrame } from "./decode.js";
import { count, element, hex, setText } from "./dom.js";
import type { LabCard } from "./lab.js";

const ROW_HEIGHT = 22;
/** A filter looks at so many frames at a time, so that the page stays alive. */
const MOST_FILTERED = 4000;
const HEX_COLUMNS = 16;
const MOST_HEX = 512;

interface Parts {
  readonly list: HTMLElement;
  readonly filter: HTMLInputElement;
  readonly follow: HTMLInputElement;
  readonly total: HTMLElement;
  readonly detail: HTMLElement;
}

/** The list of frames: only rows that can be seen exist, so that it may be as long as the capture. */
export class PacketView {
  readonly #capture: Capture;
  readonly #cards: readonly LabCard[];
  readonly #parts: Parts;
  readonly #space = element("div", { class: "packet-space" });
  #words: string[] = [];
  #matching: number[] = []; // numbers of frames that the filter lets through
  #looked = 0; // frames below were looked at
  #selected = -1;
  #shown = "";

  constructor(capture: Capture, cards: readonly LabCard[], parts: Parts) {
    this.#capture = capture;
    this.#cards = cards;
    this.#parts = parts;
    const { list, filter, follow } = parts;
    list.append(this.#space);
    list.tabIndex = 0;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Frames");
    list.addEventListener("scroll", () => {
      // Who scrolls up wants to read; who comes back to the end wants to see more.
      follow.checked = list.scrollTop + list.clientHeight >= list.scrollHeight - ROW_HEIGHT;
      this.#draw();
    });
    list.addEventListener("click", (event) => {
      const row = event.target instanceof Element ? event.target.closest("[data-number]") : null;
      if (row !== null) this.#select(Number(row.getAttribute("data-number")));
    });
    list.addEventListener("keydown", (event) => this.#key(event));
    filter.addEventListener("input", () => {
      this.#words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.#matching = [];
      this.#looked = 0;
      this.update();
    });
    follow.addEventListener("change", () => this.update());
  }

  update(): void {
    const { first, end } = this.#capture;
    const { list, follow, total } = this.#parts;
    let gone = 0;
    while (gone < this.#matching.length && this.#matching[gone]! < first) gone++;
    if (gone > 0) this.#matching.splice(0, gone);
    // A frame that was taken back has a number that another one gets.
    while (this.#matching.length > 0 && this.#matching[this.#matching.length - 1]! >= end) this.#matching.pop();
    this.#looked = Math.min(Math.max(this.#looked, first), end);
    const until = Math.min(end, this.#looked + (this.#words.length === 0 ? end : MOST_FILTERED));
    for (; this.#looked < until; this.#looked++) if (this.#matches(this.#looked)) this.#matching.push(this.#looked);
    const height = `${this.#matching.length * ROW_HEIGHT}px`;
    if (this.#space.style.height !== height) this.#space.style.height = height;
    if (follow.checked) list.scrollTop = list.scrollHeight;
    const kept = end - first;
    setText(
      total,
      `${count(end)} frames${kept < end ? `, ${count(kept)} kept` : ""}${this.#words.length > 0 ? `, ${count(this.#matching.length)} shown` : ""}`,
    );
    this.#draw();
  }

  #matches(number: number): boolean {
    if (this.#words.length === 0) return true;
    const frame = this.#capture.frame(number);
    if (frame === null) return false;
    const { protocol, source, destination, summary } = decodeFrame(frame.bytes, frame.length);
    const text =
      `${this.#cards[frame.card]?.title} ${frame.direction} ${protocol} ${source} ${destination} ${summary}`.toLowerCase();
    return this.#words.every((word) => text.includes(word));
  }

  #draw(): void {
    const { list } = this.#parts;
    const from = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - 2);
    const to = Math.min(this.#matching.length, from + Math.ceil(list.clientHeight / ROW_HEIGHT) + 4);
    const numbers = this.#matching.slice(from, to);
    const shown = `${from} ${numbers.join()} ${this.#selected}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#space.replaceChildren(...numbers.flatMap((number, i) => this.#row(number, from + i)));
  }

  #row(number: number, index: number): HTMLElement[] {
    const frame = this.#capture.frame(number);
    if (frame === null) return [];
    const card = this.#cards[frame.card];
    const { protocol, source, destination, summary } = decodeFrame(frame.bytes, frame.length);
    const cell = (name: string, text: string): HTMLElement => element("span", { class: name }, text);
    const row = element(
      "div",
      {
        class: "packet",
        role: "option",
        "data-number": number,
        "data-protocol": protocol,
        "data-direction": frame.direction,
        "data-card": card?.name ?? "",
        style: `top: ${index * ROW_HEIGHT}px; --card: var(--card-${card === undefined ? 0 : slotColor(card.slot)})`,
        ...(number === this.#selected ? { "aria-selected": "true" } : {}),
      },
      cell("packet-time", (frame.at / 1000).toFixed(4)),
      cell("packet-card", card?.title ?? ""),
      cell("packet-direction", frame.direction === "to-host" ? "→ host" : "← host"),
      cell("packet-length", String(frame.length)),
      cell("packet-protocol", protocol),
      cell("packet-addresses", `${source} → ${destination}`),
      cell("packet-summary", summary),
    );
    return [row];
  }

  #key(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") this.#select(-1);
    if (step === undefined || this.#matching.length === 0) return;
    event.preventDefault();
    const at = this.#matching.indexOf(this.#selected);
    const last = this.#matching.length - 1;
    const next = at < 0 ? last : Math.max(0, Math.min(last, at + step));
    const { list } = this.#parts;
    const top = next * ROW_HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + ROW_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HEIGHT - list.clientHeight;
    this.#select(this.#matching[next]!);
  }

  #select(number: number): void {
    const { detail, follow } = this.#parts;
    this.#selected = number;
    const frame = this.#capture.frame(number);
    detail.hidden = frame === null;
    if (frame !== null) {
      follow.checked = false;
      const decoded = decodeFrame(frame.bytes, frame.length);
      const head = `Frame ${count(number)} · ${frame.length} bytes · ${decoded.source} → ${decoded.destination}`;
      detail.replaceChildren(
        element("p", { class: "detail-head" }, element("b", {}, decoded.protocol), ` ${decoded.summary}`),
        element("p", { class: "quiet" }, head),
        element("pre", { class: "mono" }, hexDump(frame)),
      );
    }
    this.#draw();
  }
}

function hexDump({ bytes, length }: CapturedFrame): string {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(bytes.length, MOST_HEX); at += HEX_COLUMNS) {
    const row = [...bytes.subarray(at, at + HEX_COLUMNS)];
    const digits = row.map((byte) => hex(byte, 2)).join(" ");
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${hex(at, 4)}  ${digits.padEnd(3 * HEX_COLUMNS)} ${text}`);
  }
  if (length > MOST_HEX) lines.push(`… ${count(length - Math.min(bytes.length, MOST_HEX))} bytes more`);
  return lines.join("\n");
}
