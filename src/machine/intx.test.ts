import { test } from "uvu";
import * as assert from "uvu/assert";
import { TestFunction } from "../pci/testing.js";
import { Machine } from "./machine.js";

/** Cards at the devices given, all on INTA unless said otherwise; PIRQA … D on 10, 5, 11, 3. */
const rig = (devices: readonly number[], pins: readonly ("INTA" | "INTB" | "INTC" | "INTD")[] = []) => {
  const changes: string[] = [];
  const machine = new Machine({ ram: 2 ** 20, onIrq: (irq, level) => changes.push(`${irq} ${level ? "up" : "down"}`) });
  const cards = devices.map((device, i) => {
    const card = new TestFunction({ interruptPin: pins[i] ?? "INTA" });
    machine.plug(device << 3, card);
    return card;
  });
  const route = (pirq: number, value: number) => machine.configWrite(0x08, 0x60 + pirq, 1, value);
  [10, 5, 11, 3].forEach((irq, pirq) => {
    route(pirq, irq);
  });
  const set = (i: number, level: boolean) => cards[i]!.model.seams!.interrupts.setIntx(level);
  return { machine, cards, route, set, changes, levels: () => machine.interrupts.levels };
};

test("PCI-096 the root PIRQ is (pin + device - 1) mod 4", () => {
  // device, pin, interrupt with the routes 10, 5, 11, 3
  for (const [device, pin, irq] of [
    [2, "INTA", 5],
    [3, "INTA", 11],
    [4, "INTA", 3],
    [5, "INTA", 10],
    [10, "INTA", 5],
    [3, "INTB", 3],
    [3, "INTC", 10],
    [3, "INTD", 5],
    [31, "INTD", 5],
  ] as const) {
    const { set, levels } = rig([device], [pin]);
    set(0, true);
    assert.is(levels(), 1 << irq, `device ${device} ${pin}`);
    set(0, false);
    assert.is(levels(), 0);
  }
});

test("PCI-097 a route register with bit 7 set drives no interrupt, nor does an interrupt that cannot be routed to", () => {
  const { set, levels, route } = rig([3]);
  set(0, true);
  for (const value of [0x80, 0x8b, 0x00, 0x01, 0x02, 0x08, 0x0d]) {
    route(2, value);
    assert.is(levels(), 0, value.toString(16));
  }
  for (const irq of [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15]) {
    route(2, irq);
    assert.is(levels(), 1 << irq);
  }
});

test("PCI-098 rewriting a route register while asserted moves the level to the new interrupt", () => {
  const { machine, set, route, changes } = rig([3]);
  set(0, true);
  route(2, 9);
  route(2, 0x80);
  route(2, 12);
  machine.reset();
  assert.equal(changes, ["11 up", "9 up", "11 down", "9 down", "12 up", "12 down"]);
});

test("PCI-099 a shared interrupt falls only when every contributor is low", () => {
  const { set, levels, changes, route } = rig([3, 7, 4]);
  route(3, 11); // device 4 has another PIRQ, on the same interrupt
  for (const i of [0, 1, 2]) set(i, true);
  set(1, false);
  set(0, false);
  assert.is(levels(), 1 << 11);
  set(2, false);
  assert.is(levels(), 0);
  assert.equal(changes, ["11 up", "11 down"]);
});

test("PCI-100 raising a raised source twice needs one lower", () => {
  const { machine, set, levels } = rig([3]);
  set(0, true);
  set(0, true);
  machine.resample();
  set(0, false);
  assert.is(levels(), 0);
});

test("PCI-101 route registers read 80 after reset", () => {
  const machine = new Machine({ ram: 2 ** 20 });
  assert.is(machine.configRead(0x08, 0x60, 4), 0x80808080);
  machine.configWrite(0x08, 0x60, 4, 0x0b0b0a0a);
  assert.is(machine.configRead(0x08, 0x60, 4), 0x0b0b0a0a);
  machine.reset();
  assert.is(machine.configRead(0x08, 0x60, 4), 0x80808080);
});

test("PCI-102 ELCR writes are masked with F8 and DE", () => {
  const machine = new Machine({ ram: 2 ** 20 });
  assert.is(machine.ioRead(0x4d0, 2), 0);
  machine.ioWrite(0x4d0, 1, 0xff);
  machine.ioWrite(0x4d1, 1, 0xff);
  assert.equal([machine.ioRead(0x4d0, 1), machine.ioRead(0x4d1, 1)], [0xf8, 0xde]);
  machine.ioWrite(0x4d0, 2, 0x0c00);
  assert.is(machine.ioRead(0x4d0, 2), 0x0c00);
  machine.reset();
  assert.is(machine.ioRead(0x4d0, 2), 0);
});

test("PCI-104 removal lowers the line of a slot that forgets to", () => {
  const machine = new Machine({ ram: 2 ** 20 });
  const card = new TestFunction();
  card.disconnect = () => {};
  machine.plug("00:03.0", card);
  machine.assignResources();
  card.model.seams!.interrupts.setIntx(true);
  assert.is(machine.interrupts.levels, 1 << 11);
  machine.unplug("00:03.0");
  assert.is(machine.interrupts.levels, 0);
});

test("PCI-104 removal of a function lowers its line and nobody else's", () => {
  const { machine, set, levels } = rig([3, 7]);
  set(0, true);
  set(1, true);
  machine.unplug("00:03.0");
  assert.is(levels(), 1 << 11);
  machine.unplug("00:07.0");
  assert.is(levels(), 0);
});

test.run();
