import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { rtl8139, rtl8169 } from "../../devices/rtl8169/index.js";
import { virtioNet } from "../../devices/virtio-net/index.js";
import type { Nic } from "../../src/contract/index.js";
import { bootGuest, CMDLINE, type Guest } from "../../src/hosts/v86/guest/boot.js";
import { Interview } from "../../src/hosts/v86/guest/interview.js";
import { IMAGES } from "../../src/hosts/v86/guest/terminal.js";
import { attachV86, V86_RELEASE, type V86Attachment } from "../../src/hosts/v86/index.js";
import { override, reachCpu, type V86Cpu } from "../../src/hosts/v86/v86.js";
import { connect } from "../../src/net/index.js";
import { VIRTIO_NET_F_MRG_RXBUF } from "../../src/spec/virtio-net.js";
import { BUILT_IN_SLOTS, BuiltInAccesses, type BuiltInName, BuiltInPort } from "./built-in.js";
import { BenchPeer } from "./peer.js";

const MEMORY = 128 << 20;
const OUR_SLOT = 15;
const GUEST_ADDRESS = "10.0.2.15";
const PEER_ADDRESS = "10.0.2.2";
const PEER_MAC = "52:55:0a:00:02:02";
/** Where the guest's packet generator is told what to do. */
export const PKTGEN = "/proc/net/pktgen";
/** no command takes longer, ms */
const PATIENCE = 600_000;

/** What can be measured. */
export interface Entry {
  readonly title: string;
  /** Linux's modules, in the order in which they are loaded */
  readonly drivers: readonly string[];
  readonly card: BuiltInName | (() => Nic);
}

/** Rings are as long as v86's, so that what is compared is the cards and not how much fits into them. */
const QUEUE_SIZE = 1024;

/** By the names of the option `--cards`. */
export const ENTRIES: { readonly [name: string]: Entry } = {
  virtio: { title: "v86 virtio", drivers: ["virtio_pci", "virtio_net"], card: "virtio" },
  ne2k: { title: "v86 ne2k", drivers: ["ne2k_pci"], card: "ne2k" },
  vtnet: {
    title: "vtnet",
    drivers: ["virtio_pci", "virtio_net"],
    card: () => virtioNet({ personality: "modern", queueSize: QUEUE_SIZE }),
  },
  plain: {
    title: "vtnet plain",
    drivers: ["virtio_pci", "virtio_net"],
    card: () =>
      virtioNet({ personality: "modern", queueSize: QUEUE_SIZE, offloads: false, withhold: [VIRTIO_NET_F_MRG_RXBUF] }),
  },
  re: { title: "re (8169SB)", drivers: ["realtek", "r8169"], card: () => rtl8169() },
  "8139": { title: "8139", drivers: ["8139too"], card: () => rtl8139({ chip: "RTL8139" }) },
  "8139c+": { title: "8139C+", drivers: ["8139cp"], card: () => rtl8139() },
};

/** What a guest's card has cost so far. */
export interface Crossings {
  /** accesses to ports and registers */
  readonly exits: number;
  /** as the guest counts them */
  readonly interrupts: number;
}

/** Our adapter adds so many to v86's count of instructions when it wants to be polled soon. */
const INSTRUCTIONS_PER_POLL = 100_003;

const netDevice = ({ card }: Entry): { netDevice?: BuiltInName } =>
  typeof card === "string" ? { netDevice: card } : {};

/** A guest without drivers for network cards, saved after its boot; one for each kind of card that v86 itself may have in it. */
async function readyState(entry: Entry): Promise<ArrayBuffer> {
  const stamp = await readFile(join(IMAGES, "stamp"), "utf8");
  const key = createHash("sha256").update(`${stamp} ${V86_RELEASE} ${CMDLINE} ${MEMORY}`).digest("hex").slice(0, 16);
  const path = join(IMAGES, `bench-${netDevice(entry).netDevice ?? "none"}-${key}.state`);
  const saved = await readFile(path).catch(() => null);
  if (saved !== null) return new Uint8Array(saved).buffer;
  await using guest = await bootGuest({
    images: IMAGES,
    memorySize: MEMORY,
    cmdline: "mods=none",
    timeoutMs: 300_000,
    ...netDevice(entry),
  });
  const state = await guest.saveState();
  await writeFile(path, new Uint8Array(state));
  return state;
}

/** A card in a guest of its own, with the peer at its cable. It stands still but between `resume` and `pause`. */
export class Contestant implements AsyncDisposable {
  readonly entry: Entry;
  readonly peer: BenchPeer;
  readonly #cpu: V86Cpu;
  readonly #guest: Guest;
  readonly #attachment: V86Attachment | null;
  readonly #interview: Interview;
  #accesses: BuiltInAccesses | null = null;
  /** name of the guest's interface */
  ifname = "";
  /** its address */
  mac = "";

  private constructor(entry: Entry, guest: Guest, attachment: V86Attachment | null, peer: BenchPeer) {
    this.entry = entry;
    this.peer = peer;
    this.#guest = guest;
    this.#cpu = reachCpu(guest.emulator);
    this.#attachment = attachment;
    this.#interview = new Interview(guest, performance.now() + PATIENCE);
  }

  /** @throws GuestError, Error when the guest does not find its card */
  static async start(entry: Entry): Promise<Contestant> {
    const peer = new BenchPeer(PEER_MAC, PEER_ADDRESS);
    let attachment: V86Attachment | null = null;
    const guest = await bootGuest({
      images: IMAGES,
      memorySize: MEMORY,
      cmdline: "mods=none",
      state: await readyState(entry),
      attach: (emulator) => {
        attachment = plug(emulator, entry, peer);
      },
      ...netDevice(entry),
    });
    const contestant = new Contestant(entry, guest, attachment, peer);
    try {
      await contestant.#prepare();
    } catch (error) {
      await contestant[Symbol.asyncDispose]();
      throw error;
    }
    return contestant;
  }

  /** Runs shell in the guest. @throws Error when it fails */
  async run(command: string): Promise<string> {
    const { status, output } = await this.#guest.command(command, { timeoutMs: PATIENCE });
    if (status !== 0) throw new Error(`${this.entry.title}: status ${status} of "${command}": ${output}`);
    return output;
  }

  async resume(): Promise<void> {
    await this.#guest.emulator.run();
  }

  async pause(): Promise<void> {
    await this.#guest.emulator.stop();
  }

  /** Counts, or does not count, the accesses to a card of v86's, which costs it some time; ours are always counted. */
  countAccesses(on: boolean): void {
    const { card } = this.entry;
    this.#accesses?.[Symbol.dispose]();
    this.#accesses = on && typeof card === "string" ? new BuiltInAccesses(this.#cpu, BUILT_IN_SLOTS[card]) : null;
  }

  async crossings(): Promise<Crossings> {
    // Interrupts 10 and 11 are those of PCI; the bench has one card in each guest.
    const table = await this.run("cat /proc/interrupts");
    let interrupts = 0;
    for (const [, count] of table.matchAll(/^ *1[01]: +(\d+)/gm)) interrupts += Number(count);
    const [ours] = this.#attachment?.counters().cards ?? [];
    const exits = ours === undefined ? (this.#accesses?.count ?? 0) : ours.portAccesses + ours.memoryAccesses;
    return { exits, interrupts };
  }

  /** Instructions that the guest has executed so far, modulo 2³². */
  get instructions(): number {
    const { wasm_memory, instruction_counter } = this.#cpu;
    const [count] = new Uint32Array(wasm_memory.buffer, instruction_counter.byteOffset, 1);
    return (count! - (this.#attachment?.counters().deferredLines ?? 0) * INSTRUCTIONS_PER_POLL) >>> 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.peer.tcp[Symbol.dispose]();
    await this.#guest.stop();
    this.#attachment?.detach();
  }

  async #prepare(): Promise<void> {
    const { drivers, card, title } = this.entry;
    const slot = typeof card === "string" ? BUILT_IN_SLOTS[card] : OUR_SLOT;
    await this.run("echo 1 >/sys/bus/pci/rescan");
    for (const module of ["pktgen", ...drivers]) await this.run(`load ${module}`);
    this.ifname = await this.#interview.interfaceOf({ slot });
    if (this.ifname === "") throw new Error(`${title}: the guest found no interface in slot ${slot}`);
    if (!(await this.#interview.bringUp(this.ifname, { guestAddress: GUEST_ADDRESS })))
      throw new Error(`${title}: ${this.ifname} has no link`);
    this.mac = (await this.run(`cat /sys/class/net/${this.ifname}/address`)).trim();
    await this.run(`echo add_device ${this.ifname} >${PKTGEN}/kpktgend_0`);
    await this.run(`ping -c 2 ${PEER_ADDRESS} >/dev/null`);
  }
}

/** Puts the card in, its cable, and the peer's look at the poll point. */
function plug(emulator: object, { card }: Entry, peer: BenchPeer): V86Attachment | null {
  const cpu = reachCpu(emulator);
  let attachment: V86Attachment | null = null;
  let builtIn: BuiltInPort | null = null;
  if (typeof card === "string") {
    builtIn = new BuiltInPort(emulator, cpu, card);
    connect(builtIn, peer);
    // Without the adapter's repair of the 8259, a transfer over this card stops for ever.
    if (card === "ne2k") attachment = attachV86(emulator, { cards: [] });
  } else {
    const nic = card();
    connect(nic.net, peer);
    attachment = attachV86(emulator, { cards: [{ card: nic, slot: OUR_SLOT }] });
  }
  const halted = (cpu as unknown as { in_hlt: { readonly [index: number]: number } }).in_hlt;
  const timers = cpu.run_hardware_timers;
  override(cpu, "run_hardware_timers", (acpi, now) => {
    const idle = halted[0] !== 0;
    builtIn?.poll(idle);
    if (peer.pouring) peer.poll(idle);
    return timers.call(cpu, acpi, now);
  });
  return attachment;
}
