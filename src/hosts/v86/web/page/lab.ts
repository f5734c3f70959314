import { V86 } from "v86";
import type { Diagnostic, NetPort, Nic } from "../../../../contract/index.js";
import { connect } from "../../../../net/index.js";
import { TcpPeer } from "../../guest/tcp-peer.js";
import { attachV86, type V86Attachment, v86Network } from "../../index.js";
import { Capture, Recorded } from "./capture.js";
import { type CardConfig, IMAGE_NAMES, type ImageName, type WebConfig } from "./config.js";
import { type Answer, Control, RECORD_SEPARATOR } from "./control.js";
import { makeNic } from "./nics.js";

/** An image that the server has, or a file that the user picked. */
export type Images = { readonly [name in ImageName]?: File | { readonly url: string; readonly size: number } };

export type Phase = "loading" | "booting" | "setting-up" | "ready" | "running" | "stopped" | "failed";

/** A card, where it is, and what the guest makes of it. */
export interface LabCard extends CardConfig {
  readonly nic: Nic;
  /** the station at the other end of the cable; null: one of v86's adapters is there */
  readonly peer: TcpPeer | null;
  plugged: boolean;
  /** Linux's name for it; empty until it has one */
  ifname: string;
  driver: string;
  /** what Linux says of its link; null: not known */
  carrier: boolean | null;
  /** what is being done with it or was last done, for the user */
  note: string;
  /** pings and transfers that came to an end */
  done: number;
}

/** The guest's ports for transfers, as iperf has them: what is sent to the first goes nowhere, the second sends. */
const SINK_PORT = 5001;
const SOURCE_PORT = 5002;
/** What `init` says before its first line is read. */
const READY = new RegExp(`${RECORD_SEPARATOR}\\d+\\r?\\n`);
/** The console is drawn so often, ms: the guest waits meanwhile. */
const SHOW_MS = 30;
const MOST_TRANSCRIPT = 1 << 20;

interface Watchers {
  /** of the first serial port */
  console(bytes: Uint8Array): void;
  changed(): void;
}

/**
 * An emulator with cards and far ends, and the guest in it.
 *
 * `new Lab(config, images, watchers)` → `start()` → `phase` goes from `loading` to `ready` (our Debian) or `running` (another
 * guest) → cables, cards and transfers by the methods below. There is one for the life of the page.
 */
export class Lab {
  readonly config: WebConfig;
  readonly cards: readonly LabCard[];
  readonly capture = new Capture(() => performance.now(), performance.timeOrigin);
  readonly diagnostics: Diagnostic[] = [];
  phase: Phase = "loading";
  /** what goes on, for the user */
  status = "loading";
  attachment: V86Attachment | null = null;
  #emulator: V86 | null = null;
  #control: Control | null = null;
  #transferSize = 16 << 20;
  #transcript = "";
  readonly #images: Images;
  readonly #watchers: Watchers;
  readonly #decoder = new TextDecoder();
  #pending: number[] = []; // bytes of the console that are not shown yet
  #showing = 0;

  constructor(config: WebConfig, images: Images, watchers: Watchers) {
    this.config = config;
    this.#images = images;
    this.#watchers = watchers;
    this.cards = config.cards.map((card, i) => {
      const hasPeer = config.net === "peer" || i > 0;
      const peer = hasPeer ? new TcpPeer({ mac: card.peerMac, ip: card.peerAddress }) : null;
      peer?.listen(SINK_PORT, () => ({}));
      peer?.listen(SOURCE_PORT, () => ({ size: this.#transferSize, fill: fillWithLetters }));
      const nic = makeNic(card, config.mode);
      return { ...card, nic, peer, plugged: true, ifname: "", driver: "", carrier: null, note: "", done: 0 };
    });
  }

  get emulator(): V86 | null {
    return this.#emulator;
  }

  /** Everything that the first serial port said, its last megabyte at least. */
  get transcript(): string {
    return this.#transcript;
  }

  /** The guest does what the page asks it to. */
  get obeys(): boolean {
    return this.#control !== null && this.phase === "ready";
  }

  get paused(): boolean {
    return this.phase === "stopped";
  }

  /** @param screen where a guest's VGA goes, and the keyboard comes from; null: nowhere */
  async start(screen: HTMLElement | null): Promise<void> {
    try {
      await this.#start(screen);
    } catch (error) {
      this.#enter("failed", error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  /** Types into the first serial port. */
  type(text: string): void {
    this.#emulator?.serial0_send(text);
  }

  async pause(): Promise<void> {
    if (this.#emulator === null) return;
    if (this.paused) {
      await this.#emulator.run();
      this.#enter(this.config.debian ? "ready" : "running", "running");
    } else {
      await this.#emulator.stop();
      this.#enter("stopped", "stopped");
    }
  }

  /** Tells the guest how large the console is. */
  async resize(columns: number, rows: number): Promise<void> {
    if (this.obeys) await this.#ask(`stty -F /dev/ttyS0 cols ${columns} rows ${rows}`);
  }

  async setCable(card: LabCard, up: boolean): Promise<void> {
    card.nic.setLink(up);
    this.#watchers.changed();
    // Drivers look at their PHY from time to time only.
    const until = performance.now() + 8000;
    while (this.obeys && card.ifname !== "" && card.carrier !== up && performance.now() < until) {
      await this.look();
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }

  /** Pulls the card out of its slot; the guest lets go of it first, where it obeys. */
  async pull(card: LabCard): Promise<void> {
    this.#note(card, "pulling");
    await this.#ask(`echo 1 >/sys/bus/pci/devices/0000:00:${hexSlot(card)}.0/remove`);
    this.attachment?.unplug(card.nic);
    Object.assign(card, { plugged: false, ifname: "", driver: "", carrier: null });
    this.#note(card, "");
  }

  async plug(card: LabCard): Promise<void> {
    this.#note(card, "plugging in");
    this.attachment?.plug(card.nic, card.slot);
    card.plugged = true;
    await this.#ask("echo 1 >/sys/bus/pci/rescan");
    await this.#bringUp(card);
    this.#note(card, "");
  }

  /** Three pings to the card's far end. @returns replies */
  async ping(card: LabCard): Promise<number> {
    this.#note(card, `ping ${card.peerAddress}`);
    const answer = await this.#ask(`ping -c 3 -i 0.2 -I ${card.ifname} ${card.peerAddress}`);
    const replies = Number(/(\d+) packets received/.exec(answer?.output ?? "")?.[1] ?? 0);
    const average = /= [\d.]+\/([\d.]+)\//.exec(answer?.output ?? "")?.[1];
    card.done++;
    this.#note(card, `${replies} of 3 replies${average === undefined ? "" : `, ${average} ms`}`);
    return replies;
  }

  /** Moves bytes between the guest and the card's far end over TCP. @returns MB/s */
  async transfer(card: LabCard, direction: "to-host" | "to-guest", bytes = 16 << 20): Promise<number> {
    const words = direction === "to-host" ? "sending" : "receiving";
    this.#note(card, `${words} ${bytes >> 20} MiB`);
    this.#transferSize = bytes;
    const blocks = bytes >> 16;
    const work =
      direction === "to-host"
        ? `nc ${card.peerAddress} ${SINK_PORT} -e dd if=/dev/zero bs=64k count=${blocks}`
        : `nc ${card.peerAddress} ${SOURCE_PORT} -e dd of=/dev/null bs=64k`;
    const started = performance.now();
    const answer = await this.#ask(`${work} 2>/dev/null`, 300_000);
    const rate = bytes / 1e3 / (performance.now() - started);
    card.done++;
    this.#note(card, answer?.status === 0 ? `${bytes >> 20} MiB, ${rate.toFixed(1)} MB/s` : "the transfer failed");
    return rate;
  }

  /** Asks the guest for the state of each link. */
  async look(): Promise<void> {
    const present = this.cards.filter(({ ifname }) => ifname !== "");
    if (!this.obeys || present.length === 0) return;
    const lines = present.map(({ ifname }) => `c=; read c 2>/dev/null </sys/class/net/${ifname}/carrier; echo "$c"`);
    const said = (await this.#ask(lines.join("; ")))?.output.split("\n") ?? [];
    for (const [i, card] of present.entries()) card.carrier = said[i] === "1";
    this.#watchers.changed();
  }

  /** Asks about the links, unless the guest is at something else. */
  async lookWhenIdle(): Promise<void> {
    if (this.#control?.busy === false) await this.look();
  }

  // ---------------------------------------------------------------------------------------------- start

  async #start(screen: HTMLElement | null): Promise<void> {
    const { config } = this;
    const emulator = new V86({
      wasm_path: "/v86.wasm",
      memory_size: config.memory,
      cmdline: config.cmdline,
      autostart: false,
      uart1: true,
      disable_speaker: true,
      disable_keyboard: screen === null,
      disable_mouse: screen === null,
      ...(screen === null ? {} : { screen: { container: screen } }),
      // Any type that v86 does not know means no card of its own; its adapter is there all the same.
      net_device: { type: "none" as never, ...(config.net === "peer" ? {} : { relay_url: config.net }) },
      ...(await this.#imageOptions()),
    });
    this.#emulator = emulator;
    emulator.add_listener("download-progress", ({ file_name, loaded, total }) => {
      const percent = total > 0 ? ` ${Math.floor((100 * loaded) / total)} %` : "";
      this.#enter("loading", `loading ${file_name.replace(/^.*\//, "")}${percent}`);
    });
    emulator.add_listener("download-error", ({ file_name }) => this.#enter("failed", `cannot load ${file_name}`));
    await new Promise<void>((resolve) => emulator.add_listener("emulator-loaded", () => resolve()));
    emulator.add_listener("serial0-output-byte", (byte) => this.#hear(byte));
    if (screen !== null) {
      // The keys are the page's until the screen is chosen, as any other control is.
      emulator.keyboard_set_enabled(false);
      screen.tabIndex = 0;
      screen.addEventListener("pointerdown", () => screen.focus());
      screen.addEventListener("focus", () => emulator.keyboard_set_enabled(true));
      screen.addEventListener("blur", () => emulator.keyboard_set_enabled(false));
    }
    this.attachment = attachV86(emulator, {
      cards: this.cards.map(({ nic, slot }) => ({ card: nic, slot })),
      report: (diagnostic) => void this.diagnostics.push(diagnostic),
    });
    for (const [i, { nic, peer }] of this.cards.entries())
      connect(new Recorded(nic.net, this.capture, i), this.#farEnd(peer, emulator));
    const control = config.debian ? this.#openControl(emulator) : null;
    const restored = await this.#restore(emulator);
    this.#enter("booting", restored ? "restoring the guest" : "booting");
    await emulator.run();
    if (control === null) this.#enter("running", "running");
    else await this.#settle(control, restored);
  }

  #farEnd(peer: TcpPeer | null, emulator: V86): NetPort {
    return peer ?? v86Network(emulator);
  }

  async #imageOptions(): Promise<{ [name: string]: object }> {
    const options: { [name: string]: object } = {};
    for (const name of IMAGE_NAMES) {
      const image = this.#images[name];
      if (image === undefined) continue;
      const isDisk = name === "hda" || name === "cdrom";
      if (image instanceof File) options[name] = { buffer: isDisk ? image : await image.arrayBuffer() };
      else options[name] = { url: image.url, size: image.size, async: isDisk };
    }
    return options;
  }

  #openControl(emulator: V86): Control {
    // Without a carrier the guest would wait for one when it opens the port.
    emulator.serial_set_carrier_detect(1, true);
    const encoder = new TextEncoder();
    return new Control({
      send: (text) => emulator.serial_send_bytes(1, encoder.encode(text)),
      onByte: (listener) => emulator.add_listener("serial1-output-byte", listener),
    });
  }

  /** From `init`'s first words to a shell for the user, interfaces that are up, and a state that is kept. */
  async #settle(control: Control, restored: boolean): Promise<void> {
    if (restored) this.type("\n");
    else {
      while (!READY.test(this.#transcript)) await new Promise((resolve) => setTimeout(resolve, 100));
      this.#enter("setting-up", "setting up the guest");
      const greeted = control.greeted();
      this.type(`${Control.START}\n`);
      await greeted;
      this.type("export PS1='debian# ' TERM=xterm HOME=/; while :; do stty sane; setsid -c sh; done\n");
    }
    this.#control = control;
    for (const card of this.cards) await this.#bringUp(card);
    if (!restored) await this.#keep();
    this.#enter("ready", "running");
    await this.look();
  }

  async #bringUp(card: LabCard): Promise<void> {
    const device = `/sys/bus/pci/devices/0000:00:${hexSlot(card)}.0`;
    // virtio has a device of its own between the function and the interface.
    const asked =
      `i=$(ls -d ${device}/net/* ${device}/virtio*/net/* 2>/dev/null | head -n 1); i=\${i##*/}; echo "$i"; ` +
      `d=$(readlink -f /sys/class/net/$i/device/driver); [ -z "$i" ] || echo "\${d##*/}"`;
    const [ifname = "", driver = ""] = ((await this.#ask(asked))?.output ?? "").trim().split(/\n+/);
    if (driver === "") return; // no driver took it
    Object.assign(card, { ifname, driver });
    const gateway = card === this.cards[0] ? `; ip route replace default via ${card.peerAddress}` : "";
    await this.#ask(
      `ip addr replace ${card.guestAddress}/24 dev ${ifname} 2>/dev/null || ip addr add ${card.guestAddress}/24 dev ${ifname} 2>/dev/null; ` +
        `ip link set ${ifname} up${gateway}; ` +
        `for i in $(seq 40); do grep -qs 1 /sys/class/net/${ifname}/carrier && break; usleep 100000; done`,
    );
    this.#watchers.changed();
  }

  // ---------------------------------------------------------------------------------------------- saved states

  /** @returns whether the guest goes on from a state of the server */
  async #restore(emulator: V86): Promise<boolean> {
    const { state } = this.config;
    if (state === null) return false;
    const response = await fetch(state);
    if (response.status !== 200) return false;
    this.#enter("loading", "loading the saved guest");
    try {
      await emulator.restore_state(await response.arrayBuffer());
      return true;
    } catch (error) {
      console.warn("the saved state does not fit, so the guest boots", error);
      return false;
    }
  }

  async #keep(): Promise<void> {
    const { state } = this.config;
    if (state === null || this.#emulator === null) return;
    this.#enter("setting-up", "saving the guest for the next time");
    await fetch(state, { method: "PUT", body: await this.#emulator.save_state() });
  }

  // ---------------------------------------------------------------------------------------------- console

  #hear(byte: number): void {
    this.#pending.push(byte);
    if (this.#showing === 0) this.#showing = setTimeout(() => this.#show(), SHOW_MS);
  }

  #show(): void {
    this.#showing = 0;
    const bytes = Uint8Array.from(this.#pending);
    this.#pending = [];
    this.#transcript += this.#decoder.decode(bytes, { stream: true });
    if (this.#transcript.length > 2 * MOST_TRANSCRIPT) this.#transcript = this.#transcript.slice(-MOST_TRANSCRIPT);
    this.#watchers.console(bytes);
  }

  /** @returns null where the guest does not obey, or takes too long */
  async #ask(line: string, timeoutMs?: number): Promise<Answer | null> {
    try {
      return (await this.#control?.run(line, timeoutMs)) ?? null;
    } catch (error) {
      console.warn(error);
      return null;
    }
  }

  #enter(phase: Phase, status: string): void {
    this.phase = phase;
    this.status = status;
    this.#watchers.changed();
  }

  #note(card: LabCard, note: string): void {
    card.note = note;
    this.#watchers.changed();
  }
}

const hexSlot = ({ slot }: CardConfig): string => slot.toString(16).padStart(2, "0");

const fillWithLetters = (target: Uint8Array, start: number, length: number): void => {
  target.fill(0x61, start, start + length);
};
