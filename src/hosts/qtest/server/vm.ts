import { readFileSync } from "node:fs";
import { formatMac } from "../../../bytes/index.js";
import type { Diagnostic, Nic, Slot } from "../../../contract/index.js";
import { connect } from "../../../net/index.js";
import { formatBdf, pciBdf, pciDevice } from "../../../spec/pci.js";
import { type AnnounceParameters, Announcer, rarpFrame } from "./announce.js";
import { Board } from "./board.js";
import type { Pointer, ServerCard, ServerCards } from "./cards.js";
import type { ServerConfig } from "./command-line.js";
import { type Disk, type Drive, openBlockdev, openDrive } from "./drives.js";
import { type Netdev, NetdevFactory } from "./netdev.js";
import type { Options, OptionValue } from "./option-string.js";
import { Properties } from "./properties.js";
import { messageOf, StartupError } from "./startup-error.js";

/** Something that QMP clients are told. */
export type EventData = { readonly [key: string]: unknown };

/** A card that the command line or a client plugged in. */
export interface Device {
  /** null: it has none */
  readonly id: string | null;
  /** in QEMU's tree of objects */
  readonly path: string;
  readonly driver: string;
  readonly bdf: number;
  readonly slot: Slot;
  readonly nic: (Nic & { announce?(): boolean }) | null;
  readonly netdev: Netdev | null;
  readonly drive: Drive | null;
  readonly pointer: Pointer | null;
  /** called when its disk has another size */
  readonly resized: () => void;
  /** unplugs the cable */
  readonly dispose: () => void;
}

/** An error of QMP's with a class of its own. */
export class NotFound extends StartupError {}

/** The first MAC address that QEMU gives out. */
const FIRST_MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56] as const;
const FIRST_SLOT = 2; // behind the bridges
const SLOTS = 32;
const BUS = "pci.0";
/** Properties of every PCI device that change nothing here: there are no boot ROMs, and no firmware that looks for them. */
const IGNORED = ["rombar", "bootindex", "acpi-index", "x-pcie-lnksta-dllla", "x-pcie-extcap-init"];

const FIRMWARE_UNIT = 0x1_0000;
const MOST_FIRMWARE = 2 ** 24;

/** @throws StartupError */
const readFirmware = (path: string): Uint8Array => {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new StartupError(`could not load PC BIOS '${path}': ${messageOf(error)}`);
  }
  if (bytes.length === 0 || bytes.length % FIRMWARE_UNIT !== 0 || bytes.length > MOST_FIRMWARE)
    throw new StartupError(`could not load PC BIOS '${path}': ${bytes.length} bytes; expected a multiple of 64 KiB`);
  return bytes;
};

const isPointer = (slot: Slot & Partial<Pointer>): slot is Slot & Pointer =>
  "move" in slot && "wheel" in slot && "button" in slot && "sync" in slot;

/** `6`, `0x06`, `06.0`: a slot in hexadecimal, and a function. @throws StartupError */
const parseAddr = (value: OptionValue, driver: string): number => {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 0xff) return value;
  const match = /^(?:0x)?([0-9a-f]{1,2})(?:\.([0-7]))?$/i.exec(String(value));
  const slot = Number.parseInt(match?.[1] ?? "ff", 16);
  if (slot >= SLOTS) throw new StartupError(`Property '${driver}.addr' doesn't take value '${String(value)}'`);
  return pciBdf(0, slot, Number(match?.[2] ?? 0));
};

/**
 * A machine with its cards, back ends and run state: what command line and monitor act on.
 * Life: `await VirtualMachine.start(config, cards)` → its `board` answers qtest, its methods QMP → `[Symbol.dispose]()`.
 */
export class VirtualMachine implements Disposable {
  /** null with `-machine none` */
  readonly board: Board | null;
  readonly cards: ServerCards;
  readonly netdevs = new Map<string, Netdev>();
  readonly drives = new Map<string, Drive>();
  /** told of what happens, by QMP's names */
  onEvent: (event: string, data?: EventData) => void = () => {};
  /** told when it shall end */
  onQuit: () => void = () => {};
  #status: "running" | "paused" | "prelaunch" = "running";
  readonly #devices: Device[] = [];
  readonly #leaving = new Set<Device>(); // asked to go
  readonly #pulled = new WeakSet<Nic>(); // whose cable set_link has pulled
  readonly #announcer = new Announcer();
  #anonymous = 0;

  private constructor(config: ServerConfig, cards: ServerCards, report: (diagnostic: Diagnostic) => void) {
    this.cards = cards;
    this.board =
      config.machine === "none"
        ? null
        : new Board({
            ramSize: config.ramSize,
            cpus: config.cpus,
            firmware: config.bios === null ? null : readFirmware(config.bios),
            hotplug: { removable: () => this.#removable(), eject: (slot) => this.#eject(slot) },
            isDevice: (name) => this.device(name) !== null,
            report,
            onGuestReset: () => this.#wasReset(true),
          });
  }

  /** Builds what the command line asks for. @throws StartupError */
  static async start(
    config: ServerConfig,
    cards: ServerCards,
    report: (diagnostic: Diagnostic) => void = () => {},
  ): Promise<VirtualMachine> {
    const vm = new VirtualMachine(config, cards, report);
    for (const options of config.blockdevs) vm.#addDrive(openBlockdev(options, vm.drives));
    for (const options of config.drives) vm.#addDrive(openDrive(options));
    if (vm.board === null) {
      if (config.netdevs.length > 0) throw new StartupError("-netdev: machine none has no network");
    } else {
      const factory = new NetdevFactory(vm.board.clock, vm.netdevs);
      for (const options of config.netdevs) {
        const netdev = await factory.open(options);
        if (vm.netdevs.has(netdev.id)) throw new StartupError(`Duplicate ID '${netdev.id}' for netdev`);
        vm.netdevs.set(netdev.id, netdev);
        netdev.gate.onReady = () => void setImmediate(() => vm.board?.work());
      }
    }
    // Those that say where they stand come first, so that the others find what is left.
    const placed = (options: Options): number => (options.has("addr") ? 0 : 1);
    for (const options of [...config.devices].sort((a, b) => placed(a) - placed(b))) vm.addDevice(options, false);
    if (config.paused) {
      vm.#status = "prelaunch";
      vm.#setRunning(false);
    }
    return vm;
  }

  get status(): "running" | "paused" | "prelaunch" {
    return this.#status;
  }

  get devices(): readonly Device[] {
    return this.#devices;
  }

  /** By id or path; null: there is none. */
  device(name: string): Device | null {
    return this.#devices.find(({ id, path }) => id === name || path === name) ?? null;
  }

  // ---------------------------------------------------------------------------------------------- run state

  stop(): void {
    if (this.#status === "paused") return;
    this.#status = "paused";
    this.#setRunning(false);
    this.onEvent("STOP");
  }

  cont(): void {
    if (this.#status === "running") return;
    this.#status = "running";
    this.#setRunning(true);
    this.onEvent("RESUME");
  }

  /** Resets all but RAM; what was asked to go is gone afterwards. */
  reset(): void {
    this.board?.reset();
    this.#wasReset(false);
  }

  quit(reason: string): void {
    this.onEvent("SHUTDOWN", { guest: false, reason });
    this.onQuit();
  }

  #setRunning(running: boolean): void {
    if (this.board !== null) this.board.running = running;
    for (const { gate } of this.netdevs.values()) gate.setOpen(running);
    this.board?.work();
  }

  #wasReset(guest: boolean): void {
    this.onEvent("RESET", { guest, reason: guest ? "guest-reset" : "host-qmp-system-reset" });
    for (const device of [...this.#leaving]) this.#remove(device);
  }

  // ---------------------------------------------------------------------------------------------- devices

  /** @param hot while the machine is there already @throws StartupError */
  addDevice(options: Options, hot: boolean): void {
    const rest = new Map(options);
    const driver = String(rest.get("driver") ?? "");
    rest.delete("driver");
    if (driver === "") throw new StartupError("Parameter 'driver' is missing");
    const card = Object.hasOwn(this.cards, driver) ? this.cards[driver] : undefined;
    if (card === undefined) throw new StartupError(`'${driver}' is not a valid device model name`);
    const { board } = this;
    if (board === null) throw new StartupError(`No 'PCI' bus found for device '${driver}'`);
    const properties = new Properties(driver, rest);
    const id = properties.string("id") ?? null;
    if (id !== null && this.device(id) !== null) throw new StartupError(`Duplicate device ID '${id}'`);
    const bus = properties.string("bus");
    if (bus !== undefined && bus !== BUS) throw new StartupError(`Bus '${bus}' not found`);
    const romfile = properties.string("romfile") ?? "";
    if (romfile !== "") throw new StartupError(`failed to find romfile "${romfile}": cards have no boot ROM here`);
    if (properties.boolean("multifunction") === true) throw new StartupError(`${driver}: has one function only`);
    properties.ignore(...IGNORED);
    const addr = options.get("addr");
    properties.ignore("addr");
    const bdf = addr === undefined ? this.#freeSlot(board) : parseAddr(addr, driver);
    if (board.machine.slot(bdf) !== null)
      throw new StartupError(
        `PCI: slot ${pciDevice(bdf)} function ${bdf & 7} not available for ${driver}, in use by ${board.machine.slot(bdf)!.name}`,
      );
    try {
      const device = this.#build(card, driver, properties, { id, bdf });
      properties.done();
      board.machine.plug(bdf, device.slot);
      this.#devices.push(device);
      if (hot) board.hotplug.inserted(pciDevice(bdf));
    } catch (error) {
      throw error instanceof StartupError ? error : new StartupError(`${driver}: ${messageOf(error)}`);
    }
  }

  /** Asks the guest to let a device go. @throws NotFound */
  requestRemoval(name: string): void {
    const device = this.device(name);
    if (device === null) throw new NotFound(`Device '${name}' not found`);
    if (this.#leaving.has(device)) throw new StartupError(`Device ${name} is already in the process of unplug`);
    this.#leaving.add(device);
    this.board?.hotplug.requested(pciDevice(device.bdf));
  }

  #build(card: ServerCard, driver: string, properties: Properties, place: { id: string | null; bdf: number }): Device {
    const path =
      place.id === null ? `/machine/peripheral-anon/device[${this.#anonymous++}]` : `/machine/peripheral/${place.id}`;
    const common = {
      ...place,
      path,
      driver,
      nic: null,
      netdev: null,
      drive: null,
      pointer: null,
      resized: () => {},
      dispose: () => {},
    };
    if (card.kind === "plain") {
      const slot = card.create(properties);
      return { ...common, slot, pointer: isPointer(slot) ? slot : null };
    }
    if (card.kind === "block") {
      const name = properties.required("drive");
      const drive = this.drives.get(name);
      if (drive === undefined) throw new StartupError(`Property '${driver}.drive' can't find value '${name}'`);
      const user = this.#devices.find((other) => other.drive?.disk === drive.disk);
      if (user !== undefined) throw new StartupError(`Drive '${name}' is already in use by device '${user.path}'`);
      const slot = card.create(properties, drive.disk);
      return { ...common, slot, drive, resized: () => slot.resized() };
    }
    const name = properties.string("netdev");
    const netdev = name === undefined ? null : (this.netdevs.get(name) ?? null);
    if (name !== undefined && netdev === null)
      throw new StartupError(`Property '${driver}.netdev' can't find value '${name}'`);
    if (netdev !== null && this.#devices.some((other) => other.netdev === netdev))
      throw new StartupError(`Property '${driver}.netdev' can't take value '${netdev.id}', it's in use`);
    const nic = card.create(properties, this.#freeMac(), netdev?.queues ?? 1);
    if (netdev === null) return { ...common, slot: nic, nic };
    nic.setLink(netdev.linkUp);
    netdev.onLink((up) => nic.setLink(up && !this.#pulled.has(nic)));
    const cable = connect(nic.net, netdev.gate);
    return { ...common, slot: nic, nic, netdev, dispose: () => cable[Symbol.dispose]() };
  }

  /** The lowest that no card has. */
  #freeMac(): string {
    const taken = new Set(this.#devices.map(({ nic }) => (nic === null ? "" : formatMac(nic.mac))));
    const mac: number[] = [...FIRST_MAC];
    while (taken.has(formatMac(mac))) mac[5] = (mac[5]! + 1) & 0xff;
    return formatMac(mac);
  }

  #freeSlot(board: Board): number {
    for (let slot = FIRST_SLOT; slot < SLOTS; slot++)
      if (board.machine.slot(pciBdf(0, slot)) === null) return pciBdf(0, slot);
    throw new StartupError(`PCI: no slot/function available, all in use`);
  }

  #removable(): number {
    return this.#devices.reduce((mask, { bdf }) => mask | (1 << pciDevice(bdf)), 0);
  }

  /** The guest lets go of a slot; it may do so unasked. */
  #eject(slot: number): void {
    for (const device of this.#devices.filter(({ bdf }) => pciDevice(bdf) === slot)) this.#remove(device);
  }

  #remove(device: Device): void {
    this.#leaving.delete(device);
    this.#devices.splice(this.#devices.indexOf(device), 1);
    this.board?.machine.unplug(device.bdf);
    this.board?.hotplug.removed(pciDevice(device.bdf));
    device.dispose();
    this.onEvent("DEVICE_DELETED", { ...(device.id === null ? {} : { device: device.id }), path: device.path });
  }

  // ---------------------------------------------------------------------------------------------- back ends

  /** @throws StartupError */
  resizeDrive(name: string, bytes: number): void {
    const drive = this.drives.get(name);
    if (drive === undefined) throw new NotFound(`Cannot find device='${name}' nor node-name=''`);
    if (bytes % 512 !== 0 || bytes <= 0) throw new StartupError("Parameter 'size' expects a multiple of 512 above 0");
    const { disk }: { disk: Disk } = drive;
    disk.resize(bytes);
    for (const device of this.#devices) if (device.drive?.disk === disk) device.resized();
    this.board?.work();
  }

  /** The cable of a card, by its own id or that of its netdev. @throws NotFound */
  setLink(name: string, up: boolean): void {
    const device = this.#devices.find(({ id, netdev, nic }) => nic !== null && (id === name || netdev?.id === name));
    if (device === undefined && !this.netdevs.has(name)) throw new NotFound(`Device '${name}' not found`);
    const nic = device?.nic ?? null;
    if (nic !== null) {
      this.#pulled[up ? "delete" : "add"](nic);
      nic.setLink(up && (device?.netdev?.linkUp ?? true));
    }
    this.board?.work();
  }

  /** The first card that can be moved and clicked; null: there is none. */
  get pointer(): Pointer | null {
    return this.#devices.find(({ pointer }) => pointer !== null)?.pointer ?? null;
  }

  /** Makes cards known on their nets. @param only ids of cards; null: all */
  announce(name: string, parameters: AnnounceParameters, only: readonly string[] | null): void {
    this.#announcer.start(name, parameters, () => {
      for (const { id, nic, netdev } of this.#devices) {
        if (nic === null || netdev === null || !nic.linkUp) continue;
        if (only !== null && (id === null || !only.includes(id))) continue;
        netdev.gate.send(rarpFrame(nic.mac));
        nic.announce?.();
      }
    });
  }

  [Symbol.dispose](): void {
    this.#announcer[Symbol.dispose]();
    for (const device of this.#devices) device.dispose();
  }

  #addDrive(drive: Drive): void {
    if (this.drives.has(drive.name)) throw new StartupError(`Duplicate ID '${drive.name}' for drive`);
    this.drives.set(drive.name, drive);
  }
}

/** `00:04.0`, as listings have it. */
export const placeOf = ({ bdf }: Device): string => formatBdf(bdf);
