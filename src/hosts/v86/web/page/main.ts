import { BusView } from "./bus-view.js";
import { CardView } from "./card-view.js";
import { IMAGE_NAMES, type ImageName, type WebConfig } from "./config.js";
import { ConsoleView } from "./console-view.js";
import { byId, element, setAttribute, setDisabled, setText } from "./dom.js";
import { type Images, Lab } from "./lab.js";
import { PacketView } from "./packet-view.js";
import { PlotView } from "./plot-view.js";
import { type CardCounts, type CardRates, CardSamples } from "./samples.js";

const SAMPLE_MS = 500;
const PLOT_SECONDS = 60;
const PACKETS_MS = 250;
const LOOK_MS = 3000;

/** What scripts that drive the page may use. */
export interface PageHook {
  readonly lab: Lab;
  readonly console: ConsoleView;
}

declare global {
  interface Window {
    barwire?: PageHook;
  }
}

async function open(): Promise<void> {
  const response = await fetch(`/config.json${location.search}`);
  if (!response.ok) throw new Error(await response.text());
  const config = (await response.json()) as WebConfig;
  chooseCards(config);
  const dialog = byId("images", HTMLDialogElement);
  byId("images-cancel", HTMLButtonElement).addEventListener("click", () => {
    if (new URL(location.href).searchParams.has("image")) location.search = "";
    else dialog.close();
  });
  byId("choose-images", HTMLButtonElement).addEventListener("click", () => dialog.showModal());
  const picked = await pickedImages(dialog);
  if (picked === null) start(config, config.images);
  else start({ ...config, debian: false, state: null, ...picked.options }, picked.images);
}

/** The list of cards in the head; another choice loads the page anew. */
function chooseCards(config: WebConfig): void {
  const select = byId("cards-choice", HTMLSelectElement);
  const now = config.cards.map(({ name }) => name).join(",");
  const choices = [...new Set([now, "re,vtnet", "re,vtnet,8139c+", ...config.names.map(({ name }) => name)])];
  const titleOf = (name: string): string => config.names.find((known) => known.name === name)?.title ?? name;
  select.replaceChildren(
    ...choices.map((value) => element("option", { value }, value.split(",").map(titleOf).join(" + "))),
  );
  select.value = now;
  select.addEventListener("change", () => {
    const url = new URL(location.href);
    url.searchParams.set("cards", select.value);
    location.assign(url);
  });
}

interface Picked {
  readonly images: Images;
  readonly options: Partial<Pick<WebConfig, "cmdline" | "memory">>;
}

/** With `?image` in the address the page waits for the user's files. @returns null: the server's images */
async function pickedImages(dialog: HTMLDialogElement): Promise<Picked | null> {
  const form = byId("images-form", HTMLFormElement);
  if (!new URL(location.href).searchParams.has("image")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const url = new URL(location.href);
      url.searchParams.set("image", "");
      location.assign(url);
    });
    setText(byId("images-go", HTMLButtonElement), "Stop this guest and choose");
    form.classList.add("asks-first");
    return null;
  }
  dialog.showModal();
  await new Promise<void>((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      resolve();
    });
    dialog.addEventListener("cancel", () => {
      location.search = "";
    });
  });
  dialog.close();
  const data = new FormData(form);
  const images: { [name in ImageName]?: File } = {};
  for (const name of IMAGE_NAMES) {
    const file = data.get(name);
    if (file instanceof File && file.size > 0) images[name] = file;
  }
  return {
    images,
    options: { cmdline: String(data.get("cmdline") ?? ""), memory: Number(data.get("memory")) << 20 },
  };
}

function start(config: WebConfig, images: Images): void {
  const status = byId("status", HTMLElement);
  const pause = byId("pause", HTMLButtonElement);
  const screen = config.debian ? null : byId("screen", HTMLDivElement);
  const began = performance.now();
  let terminal: ConsoleView | null = null;
  let readyAt = 0;
  const views: CardView[] = [];
  const all: Images = config.debian ? images : { ...pickBios(config), ...images };
  const lab = new Lab(config, all, {
    console: (bytes) => terminal?.write(bytes),
    changed: () => {
      if (readyAt === 0 && (lab.phase === "ready" || lab.phase === "running")) {
        readyAt = performance.now();
        resize();
        terminal?.focus();
      }
      setAttribute(document.body, "data-phase", lab.phase);
      for (const view of views) view.refresh();
    },
  });
  const resize = (): void => {
    if (terminal !== null) void lab.resize(terminal.size.columns, terminal.size.rows);
  };
  terminal = new ConsoleView(byId("console", HTMLDivElement), (text) => lab.type(text), resize);
  window.barwire = { lab, console: terminal };

  views.push(...lab.cards.map((card) => new CardView(lab, card)));
  byId("cards", HTMLElement).replaceChildren(...views.map((view) => view.element));
  const bus = new BusView(byId("bus-tree", HTMLElement), byId("bus-lines", HTMLElement));
  const plots = (["throughput", "per-frame"] as const).map(
    (kind) => new PlotView(byId(`plot-${kind}`, HTMLElement), lab.cards, kind, PLOT_SECONDS),
  );
  const packets = new PacketView(lab.capture, lab.cards, {
    list: byId("packets", HTMLElement),
    filter: byId("packet-filter", HTMLInputElement),
    follow: byId("packet-follow", HTMLInputElement),
    total: byId("packet-total", HTMLElement),
    detail: byId("packet-detail", HTMLElement),
  });
  byId("pcapng", HTMLButtonElement).addEventListener("click", () => save(lab));
  pause.addEventListener("click", () => void lab.pause());
  if (screen !== null) {
    byId("screen-panel", HTMLElement).hidden = false;
    document.body.classList.add("has-screen");
  }

  const most = (PLOT_SECONDS * 1000) / SAMPLE_MS + 1;
  const samples = lab.cards.map(() => new CardSamples(most));
  const times: number[] = [];
  const sample = (): void => {
    const now = performance.now();
    const { attachment } = lab;
    const counted = attachment?.counters().cards ?? [];
    times.push(now);
    if (times.length > most) times.shift();
    const rates: CardRates[] = [];
    const interrupts = new Map<number, number>();
    for (const [i, card] of lab.cards.entries()) {
      const v86 = counted.find(({ slot }) => slot === card.slot) ?? { ...NOTHING, slot: card.slot };
      const counts: CardCounts = { nic: card.nic.counters(), v86 };
      const rate = samples[i]!.add(now, counts);
      rates.push(rate);
      interrupts.set(card.slot, rate.interruptsPerSecond);
      views[i]!.update(attachment === null ? null : counts, rate);
    }
    bus.update(lab, interrupts);
    for (const plot of plots)
      plot.update(
        now,
        times,
        samples.map((kept) => kept.rates),
      );
    const seconds = Math.round(((readyAt || now) - began) / 1000);
    setText(status, readyAt === 0 ? `${lab.status}, ${seconds} s` : `${lab.status} · up after ${seconds} s`);
    setText(pause, lab.paused ? "Resume" : "Pause");
    setDisabled(pause, readyAt === 0);
    const first = lab.diagnostics.at(-1);
    setText(byId("diagnostics", HTMLElement), first === undefined ? "" : `${first.source}: ${first.code}`);
  };
  setInterval(sample, SAMPLE_MS);
  setInterval(() => packets.update(), PACKETS_MS);
  setInterval(() => void lab.lookWhenIdle(), LOOK_MS);
  void lab.start(screen);
}

const NOTHING = { name: "", configAccesses: 0, portAccesses: 0, memoryAccesses: 0, interrupts: 0, turns: 0 };

/** A guest of the user's needs a BIOS all the same, and one for its screen. */
const pickBios = ({ images: { bios, vga_bios } }: WebConfig): Images => ({
  ...(bios === undefined ? {} : { bios }),
  ...(vga_bios === undefined ? {} : { vga_bios }),
});

/** Hands the capture to the browser as a file. */
function save(lab: Lab): void {
  const cards = lab.cards.map(({ title, ifname, nic }) => ({ name: ifname === "" ? title : ifname, mac: nic.mac }));
  const url = URL.createObjectURL(new Blob(lab.capture.pcapng(cards), { type: "application/x-pcapng" }));
  element("a", { href: url, download: "barwire.pcapng" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

open().catch((error: unknown) => {
  setAttribute(document.body, "data-phase", "failed");
  setText(byId("status", HTMLElement), error instanceof Error ? error.message : String(error));
  throw error;
});
