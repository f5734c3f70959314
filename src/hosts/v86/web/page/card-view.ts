import { formatMac } from "../../../../bytes/index.js";
import { slotColor } from "./bus-view.js";
import { brief, count, element, hex, setAttribute, setDisabled, setText } from "./dom.js";
import type { Lab, LabCard } from "./lab.js";
import { type CardCounts, type CardRates, exitsOf, framesOf } from "./samples.js";

/** A row of the table: what it is called, what it means, and its value. */
type Row = readonly [name: string, title: string, label: string, value: (counts: CardCounts) => number];

const ROWS: readonly Row[] = [
  ["txFrames", "frames that the guest sent", "Frames out", ({ nic }) => nic.txFrames],
  ["rxFrames", "frames that the guest got", "Frames in", ({ nic }) => nic.rxFrames],
  ["txBytes", "bytes in them", "Bytes out", ({ nic }) => nic.txBytes],
  ["rxBytes", "bytes in them", "Bytes in", ({ nic }) => nic.rxBytes],
  ["configAccesses", "accesses to configuration space", "Config accesses", ({ v86 }) => v86.configAccesses],
  ["portAccesses", "accesses to I/O BARs", "Port accesses", ({ v86 }) => v86.portAccesses],
  ["memoryAccesses", "accesses to memory BARs", "Memory accesses", ({ v86 }) => v86.memoryAccesses],
  ["interrupts", "how often the interrupt pin went up", "Interrupts", ({ v86 }) => v86.interrupts],
  ["doorbells", "notifications of work in a queue", "Doorbells", ({ nic }) => nic.doorbells],
  ["turns", "turns of its queues: frames by turns is the size of a batch", "Queue turns", ({ v86 }) => v86.turns],
  ["descriptorsRead", "descriptors that the card read", "Descriptors", ({ nic }) => nic.descriptorsRead],
  [
    "dropped",
    "frames that found no buffer, were filtered, were malformed or met a pulled cable",
    "Dropped",
    ({ nic }) => nic.rxNoBuffer + nic.rxFiltered + nic.txDropped,
  ],
];

const megabytes = (bytes: number): string => (bytes < 5000 ? "0" : (bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1));

/** A card's panel: cable, plug, what the guest says of it, rates and counters. */
export class CardView {
  readonly element: HTMLElement;
  readonly #lab: Lab;
  readonly #card: LabCard;
  readonly #cable: HTMLButtonElement;
  readonly #plug: HTMLButtonElement;
  readonly #work: HTMLButtonElement[];
  readonly #guest = element("span", { "data-field": "guest" });
  readonly #carrier = element("span", { class: "pill", "data-field": "carrier" });
  readonly #note = element("p", { class: "note", role: "status", "data-field": "note" });
  readonly #rates = {
    toHost: element("b", {}, "0"),
    toGuest: element("b", {}, "0"),
    exits: element("b", {}, "–"),
    interrupts: element("b", {}, "–"),
  };
  readonly #values: HTMLElement[];

  constructor(lab: Lab, card: LabCard) {
    this.#lab = lab;
    this.#card = card;
    const { name, title, slot, nic } = card;
    this.#cable = element("button", { class: "switch", type: "button", role: "switch", "data-action": "cable" });
    this.#cable.append(element("span", { class: "switch-track" }), "Cable");
    this.#cable.addEventListener("click", () => void lab.setCable(card, !nic.linkUp));
    this.#plug = element("button", { type: "button", "data-action": "plug" });
    this.#plug.addEventListener("click", () => void (card.plugged ? lab.pull(card) : lab.plug(card)));
    const action = (text: string, name: string, title: string, run: () => Promise<unknown>): HTMLButtonElement => {
      const button = element(
        "button",
        { type: "button", "data-action": name, title, hidden: !lab.config.debian },
        text,
      );
      button.addEventListener("click", () => void run());
      return button;
    };
    this.#work = [
      action("Ping", "ping", "three pings to the far end", () => lab.ping(card)),
      action("Send", "send", "16 MiB over TCP, guest to host", () => lab.transfer(card, "to-host")),
      action("Receive", "receive", "16 MiB over TCP, host to guest", () => lab.transfer(card, "to-guest")),
    ];
    this.#values = ROWS.map(([name, title]) => element("td", { class: "number", "data-counter": name, title }, "0"));
    const figure = (value: HTMLElement, unit: string, what: string): HTMLElement =>
      element("div", { class: "figure" }, value, element("span", { class: "unit" }, unit), element("span", {}, what));
    this.element = element(
      "section",
      {
        class: "panel card",
        "data-card": name,
        "aria-label": title,
        style: `--card: var(--card-${slotColor(slot)})`,
      },
      element(
        "header",
        {},
        element("h2", {}, title),
        element("span", { class: "mono quiet" }, `00:${hex(slot, 2)}.0`),
        element("span", { class: "space" }),
        this.#cable,
      ),
      element("p", { class: "guest-line" }, this.#carrier, this.#guest),
      element(
        "div",
        { class: "figures" },
        figure(this.#rates.toHost, "MB/s", "to host"),
        figure(this.#rates.toGuest, "MB/s", "to guest"),
        figure(this.#rates.exits, "", "exits / frame"),
        figure(this.#rates.interrupts, "", "interrupts / frame"),
      ),
      element("table", { class: "counters" }, element("tbody", {}, ...this.#rows())),
      element("div", { class: "actions" }, ...this.#work, element("span", { class: "space" }), this.#plug),
      element(
        "div",
        { class: "foot" },
        this.#note,
        element("span", { class: "mono quiet mac", title: "MAC address" }, formatMac(nic.mac)),
      ),
    );
  }

  /** What does not come from a sample: buttons, and words about the guest. */
  refresh(): void {
    const card = this.#card;
    const { nic, plugged } = card;
    const obeys = this.#lab.obeys;
    setAttribute(this.element, "data-plugged", String(plugged));
    setAttribute(this.#cable, "aria-checked", String(nic.linkUp));
    setText(this.#plug, plugged ? "Pull card" : "Plug in");
    setDisabled(this.#plug, this.#lab.attachment === null || (this.#lab.config.debian && !obeys));
    const isReady = obeys && card.ifname !== "";
    // v86's adapter answers pings, and has nothing that takes a transfer.
    for (const [i, button] of this.#work.entries()) setDisabled(button, !isReady || (i > 0 && card.peer === null));
    setText(this.#note, card.note);
    setAttribute(this.#note, "data-done", String(card.done));
    const link = card.carrier === null ? "" : card.carrier ? "up" : "down";
    setAttribute(this.#carrier, "data-state", link || "unknown");
    setText(this.#carrier, link === "" ? "link ?" : `link ${link}`);
    setText(this.#guest, this.#guestLine());
  }

  update(counts: CardCounts | null, rates: CardRates): void {
    this.refresh();
    setText(this.#rates.toHost, megabytes(rates.toHost));
    setText(this.#rates.toGuest, megabytes(rates.toGuest));
    if (counts === null) return;
    const frames = framesOf(counts.nic);
    // Where nothing moves now, what it was until now.
    const exits = rates.exitsPerFrame ?? (frames === 0 ? null : exitsOf(counts.v86) / frames);
    const interrupts = rates.interruptsPerFrame ?? (frames === 0 ? null : counts.v86.interrupts / frames);
    setText(this.#rates.exits, exits === null ? "–" : brief(exits));
    setText(this.#rates.interrupts, interrupts === null ? "–" : brief(interrupts));
    for (const [i, [, , , value]] of ROWS.entries()) {
      const now = value(counts);
      setText(this.#values[i]!, count(now));
      setAttribute(this.#values[i]!, "data-value", String(now));
    }
  }

  #guestLine(): string {
    const { plugged, ifname, driver, guestAddress, peerAddress, peer } = this.#card;
    if (!plugged) return "not plugged in";
    if (!this.#lab.config.debian) return peer === null ? "far end: v86's adapter" : `far end: ${peerAddress}/24`;
    if (ifname === "") return driver === "" ? "no driver yet" : driver;
    return `${ifname} · ${driver} · ${guestAddress} ↔ ${peer === null ? "v86's adapter" : peerAddress}`;
  }

  /** Two counters to a row. */
  #rows(): HTMLElement[] {
    const cells = ROWS.map(([, title, label], i) => [element("th", { scope: "row", title }, label), this.#values[i]!]);
    return Array.from({ length: ROWS.length / 2 }, (_, i) => element("tr", {}, ...cells[2 * i]!, ...cells[2 * i + 1]!));
  }
}
