import { createRequire } from "node:module";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { V86 } from "v86";
import { ConfigError } from "../../bytes/index.js";
import { attachV86 } from "./index.js";
import {
  IO,
  in8,
  in16,
  in32,
  MEMORY,
  out8,
  out16,
  out32,
  read8,
  TestSlot,
  write8,
  write16,
  write32,
} from "./testing.js";
import { reachCpu } from "./v86.js";
import { CF8, CFC, codeOf, IRQ11, OURS, PORTS, requested, rigs, routeTo11, run, SLOT, WINDOW } from "./v86-testing.js";

const { boot, rig } = rigs(V86, createRequire(import.meta.url).resolve("v86/build/v86.wasm"));

const LOOK = [...out32(CF8, OURS), ...in32(CFC), ...in8(PORTS), ...read8(WINDOW)];
const GONE = [0xffff_ffff, 0xff, 0xff];

test("PCI-156 a card that is pulled out is gone at once: configuration, BARs, line, queues and timers", async () => {
  const { emulator, cpu, card, attachment } = await rig();
  await run(emulator, routeTo11());
  const { work, clock } = card.seams!;
  let ran = 0;
  work.bind({ runQueue: () => ran++ });
  work.request(0);
  card.seams!.interrupts.setIntx(true);
  assert.equal(await run(emulator, LOOK), [0x8169_10ec, 0, 0]);
  const before = ran;
  card.seams!.interrupts.setIntx(true);
  work.request(0);
  attachment.unplug(card);
  assert.is(requested(cpu) & IRQ11, 0);
  assert.is(card.seams, null);
  assert.equal(card.resets, ["power-on"]); // without power it keeps nothing
  assert.equal(attachment.cards, []);
  cpu.run_hardware_timers(false, performance.now());
  assert.is(ran, before);
  card.move(IO, PORTS); // a card on the desk maps nothing
  const log = card.log.length;
  assert.equal(await run(emulator, [...LOOK, ...out8(CFC, 1), ...out8(PORTS, 1), ...write8(WINDOW, 1)]), GONE);
  assert.is(card.log.length, log);
  assert.ok(clock.now() > 0);
  assert.is(
    codeOf(() => attachment.unplug(card)),
    "not-plugged",
  );
  await emulator.destroy();
});

test("a card that is pulled out inside its own memory access lets its line fall at the poll point", async () => {
  const { emulator, cpu, card, attachment } = await rig();
  await run(emulator, routeTo11());
  card.seams!.interrupts.setIntx(true);
  let during = 0;
  card.onWrite = () => {
    attachment.unplug(card);
    during = requested(cpu) & IRQ11;
  };
  assert.equal(await run(emulator, [...write8(WINDOW, 1), ...read8(WINDOW)]), [0xff]);
  assert.is(during, IRQ11);
  assert.is(requested(cpu) & IRQ11, 0);
  await emulator.destroy();
});

test("a card that is plugged in while the guest runs is there, with its interrupt written down", async () => {
  const emulator = await boot();
  const cpu = reachCpu(emulator);
  const attachment = attachV86(emulator, { cards: [] });
  assert.equal(await run(emulator, [...routeTo11(), ...LOOK]), GONE);
  const card = new TestSlot();
  assert.is(attachment.plug(card), SLOT);
  assert.equal(attachment.cards, [{ slot: SLOT, card }]);
  card.move(IO, PORTS);
  card.move(MEMORY, WINDOW);
  const line = [...out32(CF8, OURS + 0x3c), ...in8(CFC)];
  assert.equal(await run(emulator, [...LOOK, ...line]), [0x8169_10ec, 0, 0, 11]);
  card.seams!.interrupts.setIntx(true);
  assert.is(requested(cpu) & IRQ11, IRQ11);
  attachment.unplug(card);
  assert.is(attachment.plug(card, 20), 20); // out and in elsewhere
  assert.equal(await run(emulator, LOOK), GONE);
  attachment.detach();
  assert.is(card.seams, null);
  assert.is(
    codeOf(() => attachment.plug(card)),
    "detached",
  );
  await emulator.destroy();
});

test("before the BIOS ran, no interrupt is written down", async () => {
  const { emulator, card } = await rig();
  assert.is(card.config[0x3c], 0);
  await emulator.destroy();
});

test("slots are chosen with interrupt 11 first, around those that are taken or named", async () => {
  const emulator = await boot({ net_device: { type: "ne2k" } });
  const cards = Array.from({ length: 30 }, () => ({ card: new TestSlot() }));
  const attachment = attachV86(emulator, { cards: [...cards.slice(0, 4), { slot: 16, card: new TestSlot() }] });
  assert.equal(
    attachment.cards.map(({ slot }) => slot),
    [15, 16, 19, 20, 23],
  );
  const code = codeOf(() => {
    for (const { card } of cards.slice(4)) attachment.plug(card);
  });
  assert.is(code, "no-slot");
  // all but the host bridge, the ISA bridge, ne2k, VGA and IDE
  assert.equal(
    attachment.cards.map(({ slot }) => slot),
    Array.from({ length: 32 }, (_, slot) => slot).filter((slot) => ![0, 1, 5, 18, 30].includes(slot)),
  );
  await emulator.destroy();
});

test("a card that will not be connected leaves the others and its slot alone", async () => {
  const { emulator, card, attachment } = await rig();
  const failing = new TestSlot();
  failing.connect = () => {
    throw new ConfigError("no-cable", "a card that will not");
  };
  for (let i = 0; i < 2; i++)
    assert.is(
      codeOf(() => attachment.plug(failing, 16)),
      "no-cable",
    );
  assert.is(
    codeOf(() => attachment.plug(new TestSlot(), SLOT)),
    "slot-taken",
  );
  assert.equal(attachment.cards, [{ slot: SLOT, card }]);
  assert.equal(await run(emulator, LOOK), [0x8169_10ec, 0, 0]);
  assert.is(attachment.plug(new TestSlot(), 16), 16);
  await emulator.destroy();
});

test("counters tell each card's accesses, interrupts and turns, and what the adapter did", async () => {
  const { emulator, card, attachment } = await rig();
  const other = new TestSlot();
  attachment.plug(other, 4);
  await run(emulator, routeTo11());
  const before = attachment.counters();
  assert.equal(before.cards, [
    { slot: 4, name: "test-card", configAccesses: 0, portAccesses: 0, memoryAccesses: 0, interrupts: 0, turns: 0 },
    { slot: SLOT, name: "test-card", configAccesses: 0, portAccesses: 0, memoryAccesses: 0, interrupts: 0, turns: 0 },
  ]);
  card.seams!.work.bind({ runQueue: () => 0 });
  card.onWrite = (bar, _offset, value) => {
    if (bar === MEMORY) card.seams!.interrupts.setIntx(value !== 0);
    else card.seams!.work.request(0);
  };
  await run(emulator, [
    ...[...out32(CF8, OURS), ...in32(CFC), ...in16(CFC), ...out8(CFC + 3, 0)],
    ...[...in8(PORTS), ...in32(PORTS + 4), ...out16(PORTS, 1)],
    ...[...write8(WINDOW, 1), ...write32(WINDOW + 4, 1), ...write16(WINDOW + 8, 0), ...write8(WINDOW, 1)],
  ]);
  const after = attachment.counters();
  const mine = {
    slot: SLOT,
    name: "test-card",
    configAccesses: 3,
    portAccesses: 3,
    memoryAccesses: 4,
    interrupts: 2,
    turns: 1,
  };
  assert.equal(after.cards, [before.cards[0]!, mine]);
  assert.ok(after.polls > before.polls && after.deferredLines > 0);
  assert.is(after.cascadeRepairs, 0);
  await emulator.destroy();
});

test.run();
