import type { V86 } from "v86";
import type { Diagnostic, NetPort, Nic } from "../../../contract/index.js";
import { HostClock } from "../../../machine/index.js";
import { connect, Switch, type Wire } from "../../../net/index.js";
import { attachV86, type V86Attachment } from "../index.js";
import { bootGuest, type Guest } from "./boot.js";
import { type GuestCard, type Mode, makeCards } from "./cards.js";
import { Interview } from "./interview.js";
import { TcpPeer } from "./tcp-peer.js";
import { IMAGES } from "./terminal.js";
import { Transfers } from "./transfer.js";
import { VlanTrunk } from "./vlan-trunk.js";

/** Number of the VLAN that every peer has a twin in, and what the addresses there begin with. */
export const VLAN = 5;
export const VLAN_NET = "10.9.0";

export interface RigOptions {
  /** names of the registry */
  readonly cards: readonly string[];
  readonly mode?: Mode;
  /** the peers leave checksums and segmentation to the cable; default true */
  readonly offloads?: boolean;
  /** bytes of the longest packet of a peer; default 1500 */
  readonly mtu?: number;
  /** a guest without cards */
  readonly state: ArrayBuffer;
  /** bytes of a transfer each way, a multiple of 1 MiB */
  readonly size: number;
  /** for everything that is asked of the guest */
  readonly timeoutMs: number;
  readonly verbose: boolean;
  readonly onConsole?: (text: string) => void;
}

/** A card of a rig, and what stands at the far end of its cable. */
export interface RigCard extends Omit<GuestCard, "card"> {
  /** another one, of the same kind, after `move` */
  card: Nic;
  readonly peer: TcpPeer;
  /** the peer and its twin in a VLAN: what is plugged into the card */
  readonly port: NetPort;
  readonly transfers: Transfers;
  /** the interface's name, once it was looked for */
  ifname: string;
}

/** A guest with cards that came while it ran, and the far ends of their cables. Dispose of it to end all. */
export class Rig implements AsyncDisposable {
  readonly cards: readonly RigCard[];
  readonly diagnostics: Diagnostic[] = [];
  readonly transferSize: number;
  readonly #options: RigOptions;
  #guest: Interview | null = null;
  #attachment: V86Attachment | null = null;
  #cables: Wire[] = [];
  #ticks: NodeJS.Timeout | undefined; // what moves the clock of a switch

  private constructor(options: RigOptions) {
    const { offloads = true, mtu = 1500 } = options;
    this.#options = options;
    this.transferSize = options.size;
    this.cards = makeCards(options.cards, options.mode, mtu).map((card) => {
      const peer = new TcpPeer({ mac: card.peerMac, ip: card.peerAddress, offloads, mtu });
      const twin = new TcpPeer({ mac: card.peerMac, ip: `${VLAN_NET}.2`, offloads, mtu });
      return { ...card, peer, transfers: new Transfers(peer), ifname: "", port: new VlanTrunk(peer, VLAN, twin) };
    });
  }

  /** @throws GuestError */
  static async start(options: RigOptions): Promise<Rig> {
    const rig = new Rig(options);
    const { state, timeoutMs, verbose, onConsole } = options;
    const guest: Guest = await bootGuest({
      images: IMAGES,
      state,
      timeoutMs: 60_000,
      attach: (emulator) => rig.#attach(emulator),
      ...(onConsole === undefined ? {} : { onConsole }),
    });
    rig.#guest = new Interview(guest, performance.now() + timeoutMs, verbose);
    return rig;
  }

  get guest(): Interview {
    if (this.#guest === null) throw new Error("the rig has not started");
    return this.#guest;
  }

  /** Saves the guest with its cards, and goes on in another emulator with other cards of the same kind. */
  async move(): Promise<void> {
    await this.guest.guest.move(
      { images: IMAGES },
      () => this.#leave(),
      (emulator) => {
        const { cards, mode, mtu } = this.#options;
        for (const [i, { card }] of makeCards(cards, mode, mtu).entries()) this.cards[i]!.card = card;
        this.#attach(emulator);
      },
    );
  }

  /** Plugs all cables into one switch, whose further ports the peers get. */
  join(): void {
    this.#unplug();
    const clock = new HostClock(() => performance.now());
    this.#ticks = setInterval(() => clock.fireDue(), 1);
    const hub = new Switch({ clock, ports: 2 * this.cards.length });
    for (const [i, { card, port }] of this.cards.entries())
      this.#cables.push(connect(card.net, hub.port(2 * i)), connect(port, hub.port(2 * i + 1)));
  }

  /** Gives each card a cable to its peer again. */
  part(): void {
    this.#unplug();
    for (const { card, port } of this.cards) this.#cables.push(connect(card.net, port));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { peer } of this.cards) peer[Symbol.dispose]();
    await this.#guest?.guest.stop();
    this.#leave();
  }

  #attach(emulator: V86): void {
    this.part();
    this.#attachment = attachV86(emulator, {
      cards: this.cards,
      report: (diagnostic) => void this.diagnostics.push(diagnostic),
    });
  }

  #leave(): void {
    this.#attachment?.detach();
    this.#attachment = null;
    this.#unplug();
  }

  #unplug(): void {
    for (const cable of this.#cables) cable[Symbol.dispose]();
    this.#cables = [];
    clearInterval(this.#ticks);
  }
}
