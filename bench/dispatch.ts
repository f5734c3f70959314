/** From an address to who answers there, with one card plugged, with twenty, and behind bridges: it must not matter. */
import assert from "node:assert/strict";
import { bench, do_not_optimize } from "mitata";
import { rtl8169 } from "../devices/rtl8169/index.js";
import { virtioNet } from "../devices/virtio-net/index.js";
import { Machine } from "../src/machine/index.js";
import { pciBridge } from "../src/pci/index.js";
import { Plugged } from "./rig/machine.js";
import { report } from "./rig/report.js";

const CARDS = [1, 20];
const IMR = 0x3c;
const NOWHERE = 0xa000_0000;

const build = (cards: number): Plugged => {
  const plugged = new Plugged(rtl8169());
  const { machine } = plugged;
  for (let i = 1; i < cards; i++) machine.plug((3 + i) << 3, i % 2 === 0 ? rtl8169() : virtioNet());
  machine.assignResources();
  assert.equal(machine.functions().length, cards + 2); // and two bridges
  return plugged;
};

/** A bench of its own for every row, so that none inherits what the others taught the compiler. */
const machines = new Map(CARDS.map((cards) => [cards, build(cards)]));
type State = { get(name: string): number };
const of = (state: State): Plugged => machines.get(state.get("cards"))!;

bench("a register of the slot itself", function* () {
  const { card } = machines.get(1)!;
  card.barWrite(1, IMR, 2, 0x8001);
  assert.equal(card.barRead(1, IMR, 2), 0x8001);
  yield () => do_not_optimize(card.barRead(1, IMR, 2));
});
bench("port read, $cards", function* (state: State) {
  const { machine, card } = of(state);
  const port = card.barBase(0) + IMR;
  machine.ioWrite(port, 2, 0x8001);
  assert.equal(machine.ioRead(port, 2), 0x8001);
  yield () => do_not_optimize(machine.ioRead(port, 2));
}).args("cards", CARDS);
bench("port write, $cards", function* (state: State) {
  const { machine, card } = of(state);
  const port = card.barBase(0) + IMR;
  let value = 0;
  yield () => {
    value ^= 1;
    machine.ioWrite(port, 2, value);
  };
  assert.equal(machine.ioRead(port, 2), value);
}).args("cards", CARDS);
bench("port, undecoded, $cards", function* (state: State) {
  const { machine } = of(state);
  assert.equal(machine.ioRead(0x0378, 2), 0xffff);
  yield () => do_not_optimize(machine.ioRead(0x0378, 2));
}).args("cards", CARDS);
bench("memory read, $cards", function* (state: State) {
  const { machine, card } = of(state);
  const address = card.barBase(1) + IMR;
  machine.memWrite(address, 2, 0x8001);
  assert.equal(machine.memRead(address, 2), 0x8001);
  yield () => do_not_optimize(machine.memRead(address, 2));
}).args("cards", CARDS);
bench("memory write, $cards", function* (state: State) {
  const { machine, card } = of(state);
  const address = card.barBase(1) + IMR;
  let value = 0;
  yield () => {
    value ^= 1;
    machine.memWrite(address, 2, value);
  };
  assert.equal(machine.memRead(address, 2), value);
}).args("cards", CARDS);
bench("memory, undecoded, $cards", function* (state: State) {
  const { machine } = of(state);
  assert.equal(machine.memRead(NOWHERE, 4), 0xffff_ffff);
  yield () => do_not_optimize(machine.memRead(NOWHERE, 4));
}).args("cards", CARDS);
bench("RAM, $cards", function* (state: State) {
  const { machine, view } = of(state);
  view.setUint32(0x12_3456, 0x2011_0123, true);
  assert.equal(machine.memRead(0x12_3456, 4), 0x2011_0123);
  yield () => do_not_optimize(machine.memRead(0x12_3456, 4));
}).args("cards", CARDS);

bench("memory read, two bridges down", function* () {
  const machine = new Machine({ ram: 2 ** 20 });
  const card = rtl8169();
  machine.plug("00:05.0", pciBridge());
  machine.plug("00:05.0/02.0", pciBridge());
  machine.plug("00:05.0/02.0/04.0", card);
  machine.assignResources();
  const address = card.barBase(1) + IMR;
  machine.memWrite(address, 2, 0x8001);
  assert.equal(machine.memRead(address, 2), 0x8001);
  yield () => do_not_optimize(machine.memRead(address, 2));
});

const rows = await report();
const inFront = rows.find(({ name }) => name === "memory read, 1")!;
const behind = rows.find(({ name }) => name === "memory read, two bridges down")!;
assert.ok(
  behind.best < 1.5 * inFront.best + 10,
  `${behind.best} ns behind bridges, ${inFront.best} ns in front of them`,
);
for (const { name, best } of rows) {
  if (!name.endsWith(", 20")) continue;
  const alone = rows.find((row) => row.name === name.replace(", 20", ", 1"))!;
  assert.ok(best < 1.5 * alone.best + 10, `${name}: ${best} ns, but ${alone.best} ns with one card`);
}
