import { parseMac } from "../../bytes/index.js";
import type { Diagnostic, GuestBus, Nic } from "../../contract/index.js";
import { type DriverOptions, type Ifnet, Newbus, registerDrivers } from "../../guest/index.js";
import { Machine, VirtualClock } from "../../machine/index.js";
import { connect } from "../../net/index.js";
import { NICS, type NicName, SEED_NICS } from "../registry.js";
import type { Address } from "./tcp.js";

/** bytes */
const RAM = 32 * 2 ** 20;
const MS = 1_000_000;
/** Autonegotiation takes tens of ms; a link that is not there after this long does not come. */
const LINK_TIMEOUT_MS = 5000;
const PORT = 22;

/** One end of a cable: an interface, the bus below it, and who it is on the net. */
export interface Station {
  readonly bus: GuestBus;
  readonly ifnet: Ifnet;
  readonly address: Address;
}

/** A card of the machine under test with the peer at the far end of its cable. */
export interface LabCard {
  readonly name: NicName;
  /** its interface, `re0` */
  readonly unit: string;
  readonly nic: Nic;
  readonly station: Station;
  readonly peer: Station;
}

/** Where a card is, on the bus and on the net. */
export interface Place {
  readonly mac: string;
  readonly ip: readonly number[];
  readonly at: string;
}

/** The seed's addresses; the peer's are ours. */
export const SEED: { readonly [name in (typeof SEED_NICS)[number]]: Place } = {
  re: { mac: "52:54:00:03:99:00", ip: [192, 168, 122, 2], at: "00:03.0" },
  vtnet: { mac: "52:54:00:33:3b:d3", ip: [192, 168, 123, 2], at: "00:04.0" },
};

/** Places of cards that the seed had not, in slots one behind the other. */
const placeOf = (_: NicName, i: number): Place => ({
  mac: `52:54:00:00:01:${slot(i)}`,
  ip: [192, 168, 122 + i, 2],
  at: `00:${slot(3 + i)}.0`,
});
const slot = (number: number): string => number.toString(16).padStart(2, "0");

/** Lays the cable between a card and its peer. */
export type Connect = (name: NicName, card: Nic, peer: Nic) => void;

/** A machine with cards, found by the probe interface, and its lines. */
export interface ProbedMachine {
  readonly machine: Machine;
  readonly bus: GuestBus;
  readonly newbus: Newbus;
  /** what a BSD kernel prints while it probes */
  readonly lines: readonly string[];
}

/** Assigns resources to what is plugged, registers the drivers and scans. */
export const probeMachine = (machine: Machine, options: DriverOptions = {}): ProbedMachine => {
  machine.assignResources();
  const bus = machine.guestBus();
  const lines: string[] = [];
  const newbus = new Newbus(bus, { log: (line) => lines.push(line) });
  registerDrivers(newbus, options);
  newbus.scan();
  return { machine, bus: newbus.machine, newbus, lines }; // polled there, scheduled handlers have their turn, too
};

/** Two machines on one clock: the one under test with its cards, and the peer with a virtio-net for each of them. */
export class World {
  readonly clock: VirtualClock;
  readonly guest: ProbedMachine;
  readonly peer: ProbedMachine;
  readonly cards: readonly LabCard[];
  /** what guests did wrong; a healthy driver leaves it empty */
  readonly diagnostics: Diagnostic[] = [];

  constructor(
    clock = new VirtualClock(),
    lay: Connect = (_, card, peer) => connect(card.net, peer.net),
    names: readonly NicName[] = SEED_NICS,
  ) {
    this.clock = clock;
    const machine = this.#machine();
    const peerMachine = this.#machine();
    const places = names === SEED_NICS ? SEED_NICS.map((name) => SEED[name]) : names.map(placeOf);
    const nics = names.map((name, i) => NICS[name].create({ mac: places[i]!.mac }));
    const peers = names.map((_, i) => NICS.vtnet.create({ mac: `52:54:00:00:00:${slot(i + 1)}` }));
    names.forEach((name, i) => {
      machine.plug(places[i]!.at, nics[i]!);
      peerMachine.plug(`00:${slot(3 + i)}.0`, peers[i]!);
      lay(name, nics[i]!, peers[i]!);
    });
    this.guest = probeMachine(machine);
    this.peer = probeMachine(peerMachine);
    const drivers = names.map((name) => NICS[name].driver);
    this.cards = names.map((name, i) => {
      const { ip } = places[i]!;
      const [a, b, c] = ip;
      // Units are counted by driver, in the order of the slots.
      const unit = `${drivers[i]!}${drivers.slice(0, i).filter((driver) => driver === drivers[i]).length}`;
      return {
        name,
        unit,
        nic: nics[i]!,
        station: station(this.guest, unit, ip),
        peer: station(this.peer, `vtnet${i}`, [a!, b!, c!, 1]),
      };
    });
    for (const { station: own, peer } of this.cards) {
      own.ifnet.up();
      peer.ifnet.up();
    }
    this.#waitForLinks();
  }

  /** Lets time pass for both machines. @param ns at least 0 */
  advance(ns: number): void {
    this.clock.advance(ns);
  }

  #machine(): Machine {
    return new Machine({
      ram: RAM,
      clock: this.clock,
      strictness: "strict",
      report: (diagnostic) => this.diagnostics.push(diagnostic),
    });
  }

  #waitForLinks(): void {
    for (let ms = 0; ms < LINK_TIMEOUT_MS; ms++) {
      if (this.cards.every((c) => isActive(c.station) && isActive(c.peer))) return;
      this.advance(MS);
      this.guest.bus.poll();
      this.peer.bus.poll();
    }
    throw new Error(`no link after ${LINK_TIMEOUT_MS} ms`);
  }
}

const isActive = ({ ifnet }: Station): boolean => ifnet.media().status === "active";

/** The interface of a machine by its name. @throws Error when no driver attached there */
export const station = ({ bus, newbus }: ProbedMachine, name: string, ip: readonly number[]): Station => {
  const ifnet = newbus.softc<{ readonly ifnet: Ifnet }>(name)?.ifnet;
  if (ifnet === undefined) throw new Error(`no driver attached ${name}`);
  return { bus, ifnet, address: { mac: parseMac(ifnet.lladdr), ip: Uint8Array.from(ip), port: PORT } };
};
