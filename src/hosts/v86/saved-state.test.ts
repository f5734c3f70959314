import { createRequire } from "node:module";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { V86 } from "v86";
import { StateError } from "../../bytes/index.js";
import { attachV86 } from "./index.js";
import { packState, unpackState } from "./saved-state.js";
import { IO, in8, in32, MEMORY, out32, read8, read32, TestSlot, write32 } from "./testing.js";
import type { V86Cpu } from "./v86.js";
import {
  CF8,
  CFC,
  IRQ11,
  ISA_BRIDGE,
  OURS,
  PORTS,
  requested,
  rigs,
  routeTo11,
  run,
  SLOT,
  WINDOW,
} from "./v86-testing.js";

const { boot, rig } = rigs(V86, createRequire(import.meta.url).resolve("v86/build/v86.wasm"));

test("plain data comes back as it was through what v86 can write", () => {
  const typed = fc.oneof(
    fc.uint8Array(),
    fc.float64Array(),
    fc.array(fc.integer()).map((numbers) => Int32Array.from(numbers)),
  );
  const leaf = fc.oneof(fc.string(), fc.boolean(), fc.integer(), fc.double({ noDefaultInfinity: false }), typed);
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.constantFrom(null, undefined),
      fc.array(tie("tree")),
      fc.dictionary(fc.string(), tie("tree")),
    ),
  }));
  // As v86 writes it: JSON, with typed arrays kept beside.
  const through = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(through);
    return typeof value === "object" ? value : JSON.parse(JSON.stringify(value));
  };
  const plain = (value: unknown): unknown => (Object.is(value, -0) ? 0 : value);
  fc.assert(
    fc.property(tree, (value) => {
      const back = unpackState(through(packState(value)));
      assert.equal(plain(back), plain(structuredClone(value)));
    }),
    { numRuns: 200 },
  );
});

test("what v86 cannot save, and what nobody packed, is refused", () => {
  for (const value of [1n, () => 0, Symbol.iterator, new Map(), new Date(0), { deep: [new Set()] }])
    assert.throws(
      () => packState(value),
      (error: unknown) => error instanceof StateError,
    );
  for (const packed of [[], [4], ["0"], [1, [9]]])
    assert.throws(
      () => unpackState(packed),
      (error: unknown) => error instanceof StateError,
    );
  assert.is(Object.getPrototypeOf(unpackState([0, "__proto__", [0, "x", 1]])), Object.prototype);
});

const restores = async (emulator: V86, state: ArrayBuffer): Promise<string> => {
  try {
    await emulator.restore_state(state);
  } catch (error) {
    if (error instanceof StateError) return error.message;
    throw error;
  }
  return "restored";
};

const slaveLevel = (cpu: V86Cpu): number => new Uint8Array(cpu.wasm_memory.buffer, cpu.get_pic_addr_slave(), 13)[11]!;

test("PCI-162 cards travel in v86's saved state: into the same emulator, and into a new one", async () => {
  const one = await rig();
  one.card.registers[MEMORY]![0] = 0x42;
  one.card.secret = 7;
  await run(one.emulator, [...routeTo11(), ...write32(0x6000, 0x1234_5678), ...out32(CF8, OURS)]);
  one.card.interrupt(true);
  one.card.seams!.work.request(3);
  const state = await one.emulator.save_state();
  const held = { now: one.card.seams!.clock.now(), requests: requested(one.cpu) };
  assert.is(held.requests & IRQ11, IRQ11);

  // The guest goes on: its card moves, its line falls, its memory changes.
  one.card.interrupt(false);
  one.card.secret = 8;
  one.card.move(IO, 0xd000);
  one.card.move(MEMORY, -1);
  await run(one.emulator, [...write32(0x6000, 0), ...out32(CF8, 0)]);
  assert.is(requested(one.cpu) & IRQ11, 0);

  const two = await rig();
  two.card.move(IO, -1);
  two.card.registers[MEMORY]![0] = 0x42;
  for (const { emulator, cpu, card } of [one, two]) {
    let turns = 0;
    const runQueue = (queue: number): number => {
      turns += queue;
      return 0;
    };
    card.seams!.work.bind({ runQueue });
    assert.is(await restores(emulator, state), "restored");
    assert.is(card.secret, 7);
    assert.is(requested(cpu) & IRQ11, IRQ11);
    assert.is(slaveLevel(cpu) & IRQ11, IRQ11);
    assert.ok(card.seams!.clock.now() - held.now < 1e9, "the clock goes on from there");
    cpu.run_hardware_timers(false, performance.now());
    assert.is(turns, 3);
    const read = await run(emulator, [
      ...in32(CF8),
      ...in32(CFC),
      ...in8(PORTS),
      ...in8(0xd000),
      ...read8(WINDOW),
      ...read32(0x6000),
    ]);
    assert.equal(read, [OURS, 0x8169_10ec, 0, 0xff, 0x42, 0x1234_5678]);
    card.interrupt(false);
    assert.is(requested(cpu) & IRQ11, 0);
    assert.is(slaveLevel(cpu) & IRQ11, 0);
    await emulator.destroy();
  }
});

test("a line that waited for the poll point when the state was saved is up after it is restored", async () => {
  const { emulator, cpu, card } = await rig();
  await run(emulator, routeTo11());
  let state: ArrayBuffer | Promise<ArrayBuffer> | null = null;
  card.onWrite = () => {
    card.interrupt(true);
    assert.is(requested(cpu) & IRQ11, 0);
    state = emulator.save_state(); // its work is done within the call
  };
  cpu.memory_map_write8[WINDOW >>> 17]!(WINDOW | 0, 1);
  const saved = await state!;
  card.interrupt(false);
  assert.is(await restores(emulator, saved), "restored");
  assert.is(requested(cpu) & IRQ11, IRQ11);
  await emulator.destroy();
});

test("a shared line is counted on: v86's own pull survives with its function", async () => {
  const { emulator, cpu, card } = await rig();
  const { pci } = cpu.devices;
  await run(emulator, routeTo11());
  const ide = 30 << 3;
  const space = pci.device_spaces[ide]!;
  space[15] = (space[15]! & 0xff) | ((((SLOT - 30) & 3) + 1) << 8);
  pci.raise_irq(ide);
  card.interrupt(true);
  const state = await emulator.save_state();
  pci.lower_irq(ide);
  card.interrupt(false);
  assert.is(await restores(emulator, state), "restored");
  card.interrupt(false);
  assert.is(requested(cpu) & IRQ11, IRQ11); // theirs is up again
  pci.lower_irq(ide);
  assert.is(requested(cpu) & IRQ11, 0);
  await emulator.destroy();
});

test("PCI-163 other cards, other slots and a card that refuses: nothing is changed", async () => {
  const one = await rig();
  one.card.secret = 5;
  await run(one.emulator, write32(0x6000, 1));
  const good = await one.emulator.save_state();
  one.card.secret = -1;
  const bad = await one.emulator.save_state();
  one.card.secret = 6;
  await run(one.emulator, write32(0x6000, 2));
  assert.match(await restores(one.emulator, bad), /negative secret/);
  assert.is(one.card.secret, 6);
  assert.equal(await run(one.emulator, [...read32(0x6000), ...in8(PORTS)]), [2, 0]);

  const other = await boot();
  const attachment = attachV86(other, { cards: [{ slot: 16, card: new TestSlot() }] });
  assert.match(await restores(other, good), /test-card in slot 15; expected test-card in slot 16/);
  attachment.plug(new TestSlot(), 15);
  assert.match(await restores(other, good), /expected test-card in slot 15, test-card in slot 16/);
  await other.destroy();
  await one.emulator.destroy();
});

test("a state without cards finds ours as just plugged in, and v86 alone reads ours", async () => {
  const bare = await boot();
  await run(bare, [...routeTo11(), ...write32(0x6000, 3)]);
  const without = await bare.save_state();
  const { emulator, cpu, card } = await rig();
  await run(emulator, routeTo11());
  card.interrupt(true);
  const withCard = await emulator.save_state();
  assert.is(await restores(emulator, without), "restored");
  assert.equal(card.resets, ["bus"]);
  assert.is(card.config[0x3c], 11);
  assert.is(requested(cpu) & IRQ11, 0);
  assert.equal(await run(emulator, [...read32(0x6000), ...in32(CF8), ...in8(PORTS)]), [3, 0, 0xff]);
  assert.is(await restores(bare, withCard), "restored");
  const route = [...out32(CF8, ISA_BRIDGE + 0x60), ...in8(CFC + ((SLOT - 1) & 3))];
  assert.equal(await run(bare, route), [11]);
  await bare.destroy();
  await emulator.destroy();
});

test("a restored card is asked to announce itself, and what it waited for may come", async () => {
  const { emulator, card } = await rig();
  const calls: string[] = [];
  Object.assign(card, {
    announce: () => calls.push("announce") > 0,
    net: { ready: (hint: number) => calls.push(`ready ${hint}`) },
  });
  const state = await emulator.save_state();
  assert.equal(calls, []);
  assert.is(await restores(emulator, state), "restored");
  assert.equal([calls[0], calls.at(-1)], ["ready 0", "announce"]);
  await emulator.destroy();
});

test.run();
