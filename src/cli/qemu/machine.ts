import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatMac } from "../../bytes/index.js";
import type { AccessWidth, Bdf, GuestBus } from "../../contract/index.js";
import {
  type DeviceInfo,
  type Disk,
  type DriverOptions,
  type Ifnet,
  Newbus,
  registerDrivers,
} from "../../guest/index.js";
import { type NetworkKind, type NetworkPeer, type Qemu, QtestBus, startQemu } from "../../hosts/qtest/index.js";
import { Prng } from "../../net/index.js";
import { PCI_REVISION_ID } from "../../spec/pci.js";
import { completeCards, type QemuCard } from "./cards.js";

export interface QemuMachineOptions {
  /** words of QEMU's command line: `-device` and whatever else */
  readonly args: readonly string[];
  readonly drivers?: DriverOptions;
  /** how the far ends of cables are made; default `stream` */
  readonly network?: NetworkKind;
  /** time moves by `delay` only; QEMU then needs the qtest accelerator, as a module in `modules` if need be */
  readonly virtual?: boolean;
  readonly modules?: string;
  readonly program?: string;
  /** Shows RealTek's 8139 with this revision: below 20h it is `rl`'s, the driver of the old mode, which QEMU's card has, too. */
  readonly revision8139?: number;
  readonly log?: (line: string) => void;
}

/** bytes of a disk that we add */
const DISK_SIZE = 1 << 20;
const DISK_SEED = 7;

let contents: Uint8Array | null = null;
/** What is on a disk that we add, before anybody writes. */
const diskContents = (): Uint8Array => {
  if (contents === null) {
    const random = new Prng(DISK_SEED);
    contents = Uint8Array.from({ length: DISK_SIZE }, () => random.next() & 0xff);
  }
  return contents;
};

/** A QEMU with cards, found by the probe interface. */
export class QemuMachine implements Disposable {
  readonly qemu: Qemu;
  readonly bus: QtestBus;
  readonly newbus: Newbus;
  readonly cards: readonly QemuCard[];
  /** files of disks that we added, by their nodes; once QEMU has opened them they have no name any more */
  readonly #files = new Map<string, number>();

  /** @throws QtestError, UsageError */
  constructor(options: QemuMachineOptions) {
    const { cards, rest } = completeCards(options.args);
    const virtual = options.virtual === true;
    this.cards = cards;
    const directory = mkdtempSync(join(tmpdir(), "barwire-disks-"));
    try {
      this.qemu = startQemu({
        accel: virtual ? "qtest" : "tcg",
        ...(options.modules === undefined ? {} : { modules: options.modules }),
        ...(options.program === undefined ? {} : { program: options.program }),
        networks: Object.fromEntries(
          cards.flatMap(({ kind, backend }) =>
            kind === "network" && backend !== null ? [[backend, options.network ?? "stream"]] : [],
          ),
        ),
        args: [
          ...rest,
          ...cards.flatMap((card) =>
            card.kind === "disk" && card.backend !== null ? this.#disk(directory, card.backend) : [],
          ),
        ],
        devices: cards.map(({ device }) => device),
      });
    } catch (error) {
      this.#closeFiles();
      throw error;
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
    try {
      this.bus = new QtestBus(this.qemu.link, { time: virtual ? "virtual" : "real" });
      const { revision8139 } = options;
      const shown = revision8139 === undefined ? this.bus : new OtherRevision(this.bus, revision8139);
      this.newbus = new Newbus(shown, options.log === undefined ? {} : { log: options.log });
      registerDrivers(this.newbus, options.drivers);
      this.newbus.scan();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Interfaces that attached to cards with a far end of ours, in the order of the cards. */
  interfaces(): readonly { readonly ifnet: Ifnet; readonly peer: NetworkPeer; readonly card: QemuCard }[] {
    const attached = this.#units(/^(vtnet|re|rl)\d+$/).map(
      (unit) => this.newbus.softc<{ readonly ifnet: Ifnet }>(unit).ifnet,
    );
    return this.cards.flatMap((card) => {
      const { kind, backend, mac } = card;
      if (kind !== "network" || backend === null) return [];
      const ifnet = attached.find((other) => formatMac(other.lladdr) === mac);
      return ifnet === undefined ? [] : [{ ifnet, peer: this.qemu.network(backend), card }];
    });
  }

  /** Disks that attached, with the files behind them, in the order of the cards. */
  disks(): readonly { readonly disk: Disk; readonly file: () => Uint8Array; readonly card: QemuCard }[] {
    const attached = this.#units(/^vtblk\d+$/).map((unit) => this.newbus.softc<{ readonly disk: Disk }>(unit).disk);
    // Units are counted in the order of the slots, and so are cards unless the command line places them.
    return this.cards.flatMap((card) => {
      if (card.kind !== "disk") return [];
      const disk = attached.shift();
      return disk === undefined || card.backend === null
        ? []
        : [{ disk, file: () => contentsOf(this.#files.get(card.backend!)!), card }];
    });
  }

  #units(pattern: RegExp): string[] {
    const walk = (node: DeviceInfo): DeviceInfo[] => [node, ...node.children.flatMap(walk)];
    return walk(this.newbus.tree()).flatMap(({ nameunit, state }) =>
      nameunit !== null && pattern.test(nameunit) && state === "attached" ? [nameunit] : [],
    );
  }

  /** Plugs the cable of a card in or out. */
  setLink(card: QemuCard, up: boolean): void {
    this.qemu.qmp.execute("set_link", { name: card.backend, up });
  }

  [Symbol.dispose](): void {
    this.qemu.close();
    this.#closeFiles();
  }

  #closeFiles(): void {
    for (const file of this.#files.values()) closeSync(file);
    this.#files.clear();
  }

  #disk(directory: string, node: string): string[] {
    const path = join(directory, node);
    writeFileSync(path, diskContents());
    this.#files.set(node, openSync(path, "r"));
    return ["-blockdev", `driver=file,node-name=${node},filename=${path}`];
  }
}

const ID_8139 = 0x8139_10ec;

const contentsOf = (file: number): Uint8Array => {
  const bytes = new Uint8Array(DISK_SIZE);
  readSync(file, bytes, 0, DISK_SIZE, 0);
  return bytes;
};

/** A machine whose 8139s say that they are of another revision; nothing else of them changes. */
class OtherRevision implements GuestBus {
  readonly #bus: GuestBus;
  readonly #revision: number;

  constructor(bus: GuestBus, revision: number) {
    this.#bus = bus;
    this.#revision = revision;
  }

  get dma() {
    return this.#bus.dma;
  }
  configRead(bdf: Bdf, offset: number, width: AccessWidth): number {
    const value = this.#bus.configRead(bdf, offset, width);
    const byte = PCI_REVISION_ID - offset;
    if (byte < 0 || byte >= width || this.#bus.configRead(bdf, 0, 4) !== ID_8139) return value;
    return ((value & ~(0xff << (8 * byte))) | (this.#revision << (8 * byte))) >>> 0;
  }
  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void {
    this.#bus.configWrite(bdf, offset, width, value);
  }
  ioRead(port: number, width: AccessWidth): number {
    return this.#bus.ioRead(port, width);
  }
  ioWrite(port: number, width: AccessWidth, value: number): void {
    this.#bus.ioWrite(port, width, value);
  }
  memRead(address: number, width: AccessWidth): number {
    return this.#bus.memRead(address, width);
  }
  memWrite(address: number, width: AccessWidth, value: number): void {
    this.#bus.memWrite(address, width, value);
  }
  onLine(irq: number, handler: () => void): Disposable {
    return this.#bus.onLine(irq, handler);
  }
  allocMessage(handler: () => void) {
    return this.#bus.allocMessage(handler);
  }
  poll(): boolean {
    return this.#bus.poll();
  }
  delay(us: number): void {
    this.#bus.delay(us);
  }
  now(): number {
    return this.#bus.now();
  }
}
