/**
 * The whole stack: driver, card, cable, card, driver. 8 MB by a TCP of one window from one machine to another, each card
 * against a virtio-net, in both directions; the peer is one copy of the same bytes, segment by segment. Hashing is not counted.
 */
import assert from "node:assert/strict";
import { ByteSink, ByteSource, MSS, NICS, type NicName, type Station, transfer } from "../src/cli/index.js";
import type { Nic } from "../src/contract/index.js";
import { type Ifnet, Newbus, registerDrivers } from "../src/guest/index.js";
import { Machine, VirtualClock } from "../src/machine/index.js";
import { connect } from "../src/net/index.js";
import { noise } from "./rig/machine.js";

const SIZE = 8 * 2 ** 20;
const RAM = 16 * 2 ** 20;
const ROUNDS = 5;

/** Binary megabytes a second, the best of some rounds. @param round moves SIZE bytes and says how many ms it took */
const best = (round: (n: number) => number): number => {
  let ms = Number.POSITIVE_INFINITY;
  for (let n = 0; n < ROUNDS; n++) ms = Math.min(ms, round(n));
  return SIZE / 2 ** 20 / (ms / 1000);
};

const station = (clock: VirtualClock, nic: Nic, name: string, last: number): Station => {
  const machine = new Machine({
    ram: RAM,
    clock,
    strictness: "strict",
    report: ({ source, code }) => assert.fail(`${source}: ${code}`),
  });
  machine.plug("00:03.0", nic);
  machine.assignResources();
  const bus = machine.guestBus();
  const newbus = new Newbus(bus);
  registerDrivers(newbus);
  newbus.scan();
  const { ifnet } = newbus.softc<{ readonly ifnet: Ifnet }>(name)!;
  ifnet.up();
  return { bus, ifnet, address: { mac: ifnet.lladdr, ip: Uint8Array.of(10, 0, 0, last), port: 22 } };
};

const stack = (card: NicName): { readonly out: number; readonly in: number } => {
  const clock = new VirtualClock();
  const nic = NICS[card].create({ mac: "52:54:00:03:99:00" });
  const far = NICS.vtnet.create({ mac: "52:54:00:00:00:01" });
  const cable = connect(nic.net, far.net);
  const own = station(clock, nic, `${card}0`, 2);
  const peer = station(clock, far, "vtnet0", 1);
  for (let ms = 0; own.ifnet.media().status !== "active" && ms < 5000; ms++) own.bus.delay(1000);
  const move = (from: Station, to: Station, seed: number): number => {
    const source = new ByteSource(SIZE, MSS, { seed });
    const result = transfer(
      from,
      to,
      source,
      new ByteSink(),
      (ns) => clock.advance(ns),
      () => {},
    );
    assert.equal(result.sha256Received, result.sha256Sent);
    assert.deepEqual([result.bytes, result.retransmitted], [SIZE, 0]);
    return result.ms;
  };
  try {
    return { out: best((n) => move(own, peer, n)), in: best((n) => move(peer, own, n)) };
  } finally {
    cable[Symbol.dispose]();
  }
};

const copied = best(() => {
  const source = noise(SIZE);
  const target = new Uint8Array(SIZE);
  const started = performance.now();
  for (let at = 0; at < SIZE; at += MSS) target.set(source.subarray(at, Math.min(at + MSS, SIZE)), at);
  const ms = performance.now() - started;
  assert.deepEqual(target, source);
  return ms;
});

const line = (name: string, speed: number, what: string): void =>
  console.log(
    `${name.padEnd(10)} ${speed.toFixed(0).padStart(6)} MB/s ${(copied / speed).toFixed(1).padStart(6)}${what}`,
  );
line("one copy", copied, " (peer)");
for (const card of ["re", "vtnet"] as const) {
  const speed = stack(card);
  line(`${card} out`, speed.out, " copies");
  line(`${card} in`, speed.in, " copies");
}
