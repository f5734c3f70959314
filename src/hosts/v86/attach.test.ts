import { createRequire } from "node:module";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { V86 } from "v86";
import { ConfigError } from "../../bytes/index.js";
import { attachV86, type V86Card } from "./index.js";
import {
  IO,
  in8,
  in16,
  in32,
  le,
  MEMORY,
  out8,
  out16,
  out32,
  RET,
  read8,
  read16,
  read32,
  SECOND,
  STORE,
  TestSlot,
  write8,
  write16,
  write32,
} from "./testing.js";
import { reachCpu } from "./v86.js";
import {
  CF8,
  CFC,
  codeOf,
  HOST_BRIDGE,
  IRQ11,
  ISA_BRIDGE,
  NOBODY,
  OURS,
  PORTS,
  requested,
  rigs,
  routeTo11,
  run,
  SLOT,
  WINDOW,
} from "./v86-testing.js";

const { boot, create, rig } = rigs(V86, createRequire(import.meta.url).resolve("v86/build/v86.wasm"));

test("PCI-186 the adapter works with the unmodified npm build through emulator.v86.cpu", async () => {
  const { emulator, card } = await rig();
  card.registers[IO]!.set([0x11, 0x22, 0x33, 0x84], 4);
  card.registers[MEMORY]!.set([0x55, 0x66, 0x77, 0x88], 8);
  const read = await run(emulator, [
    ...[...out32(CF8, OURS), ...in32(CF8), ...in32(CFC), ...in16(CFC + 2), ...in8(CFC + 1)],
    ...[...out32(CF8, OURS + 0x3c), ...out8(CFC, 0x0b), ...out16(CFC + 2, 0x1234), ...in32(CFC)],
    ...[...in8(PORTS + 4), ...in16(PORTS + 4), ...in32(PORTS + 4)],
    ...[...out8(PORTS, 0x12), ...out16(PORTS, 0x3456), ...out32(PORTS, 0x89ab_cdef)],
    ...[...read8(WINDOW + 8), ...read32(WINDOW + 8), ...write8(WINDOW, 0x9a), ...write32(WINDOW, 0xbcde_f012)],
  ]);
  assert.equal(read, [
    ...[OURS, 0x8169_10ec, 0x8169, 0x10, 0x1234_010b],
    ...[0x11, 0x2211, 0x8433_2211],
    ...[0x55, 0x8877_6655],
  ]);
  assert.equal(card.log, [
    ...["config w1 3c b", "config w2 3e 1234"],
    ...["0 r1 4", "0 r2 4", "0 r4 4", "0 w1 0 12", "0 w2 0 3456", "0 w4 0 89abcdef"],
    ...["1 r1 8", "1 r4 8", "1 w1 0 9a", "1 w4 0 bcdef012"],
  ]);
  await emulator.destroy();
});

test("PCI-187 built-in functions stay reachable beside ours", async () => {
  const { emulator, card } = await rig();
  const read = await run(emulator, [
    ...[...out32(CF8, HOST_BRIDGE), ...in32(CFC), ...in16(CFC), ...in8(CFC + 3)],
    ...[...out32(CF8, ISA_BRIDGE + 0x60), ...out8(CFC + 1, 0x0a), ...out16(CFC + 2, 0x0b0b), ...in32(CFC)],
    ...[...out32(CF8, ISA_BRIDGE + 0x3c), ...out32(CFC, 0x5), ...in32(CFC)],
  ]);
  assert.equal(read, [0x1237_8086, 0x8086, 0x12, 0x0b0b_0a00, 5]);
  assert.equal(card.log, []);
  await emulator.destroy();
});

test("nobody's functions read all ones, and writes to them do not reach v86's TypeError", async () => {
  const { emulator } = await rig();
  const read = await run(emulator, [
    ...[...out32(CF8, NOBODY), ...out8(CFC, 1), ...out16(CFC + 2, 1), ...out32(CFC, 1)],
    ...[...in8(CFC), ...in16(CFC), ...in32(CFC)],
    ...[...out32(CF8, OURS + 0x100), ...out8(CFC, 1), ...in32(CFC)], // function 1 of our slot
    ...[...out32(CF8, OURS + 0x1_0000), ...out8(CFC, 1), ...in32(CFC)], // bus 1
  ]);
  assert.equal(read, [0xff, 0xffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff]);
  await emulator.destroy();
});

test("narrow writes to the address port leave the latch as it is, for our functions and for v86's", async () => {
  const { emulator } = await rig();
  const read = await run(emulator, [
    ...[...out32(CF8, OURS), ...out8(CF8 + 3, 1), ...out16(CF8, 0x77), ...in32(CF8), ...in32(CFC)],
    // v86's own latch did move: its bus is 5 now, where a write would end in the TypeError
    ...[...out32(CF8, ISA_BRIDGE + 0x3c), ...out8(CF8 + 2, 5), ...out8(CFC, 0x0e), ...in8(CFC), ...in32(CF8)],
  ]);
  assert.equal(read, [OURS, 0x8169_10ec, 0x0e, ISA_BRIDGE + 0x3c]);
  await emulator.destroy();
});

test("PCI-188 shared 128 KiB blocks fall through to the previous handlers", async () => {
  const { emulator, cpu, card } = await rig();
  const block = WINDOW >>> 17;
  card.move(MEMORY, -1);
  const log: string[] = [];
  const at = (address: number) => (address >>> 0).toString(16);
  const handlers = {
    read8: (address: number) => {
      log.push(`r1 ${at(address)}`);
      return 0x40 + (address & 0xf);
    },
    read32: (address: number) => {
      log.push(`r4 ${at(address)}`);
      return 0x4444_4444;
    },
    write8: (address: number, value: number) => void log.push(`w1 ${at(address)} ${value}`),
    write32: (address: number, value: number) => void log.push(`w4 ${at(address)} ${value}`),
  };
  cpu.memory_map_read8[block] = handlers.read8;
  cpu.memory_map_read32[block] = handlers.read32;
  cpu.memory_map_write8[block] = handlers.write8;
  cpu.memory_map_write32[block] = handlers.write32;
  card.move(MEMORY, WINDOW);
  card.move(SECOND, WINDOW + 0x1000);
  card.registers[MEMORY]!.fill(0xaa);
  card.registers[SECOND]!.fill(0xbb);
  const read = await run(emulator, [
    ...[...read8(WINDOW + 0xff), ...read8(WINDOW + 0x100), ...read32(WINDOW + 0x200), ...read32(WINDOW + 0x10fc)],
    ...read32(WINDOW + 0xfe), // two bytes of ours, two of theirs
    ...[...write8(WINDOW + 0x100, 1), ...write32(WINDOW + 0x200, 2), ...write16(WINDOW + 0x300, 0x0201)],
    ...write32(WINDOW + 0xffe, 0x0605_0403), // two of theirs, two of ours
    ...read16(WINDOW + 0x1000),
  ]);
  assert.equal(read, [0xaa, 0x40, 0x4444_4444, 0xbbbb_bbbb, 0x4140_aaaa, 0x0605]);
  assert.equal(log, [
    ...["r1 febf0100", "r4 febf0200", "r1 febf0101", "r1 febf0100"],
    ...["w1 febf0100 1", "w4 febf0200 2", "w1 febf0300 1", "w1 febf0301 2", "w1 febf0ffe 3", "w1 febf0fff 4"],
  ]);
  await emulator.destroy();
});

test("PCI-189 16-bit memory accesses give the same result as native ones", async () => {
  const { emulator, card } = await rig();
  card.registers[MEMORY]!.set([0xef, 0xbe], 0x10);
  const read = await run(emulator, [
    ...write16(WINDOW + 0x20, 0xcafe),
    ...read16(WINDOW + 0x10),
    ...read16(WINDOW + 0x20),
  ]);
  assert.equal(read, [0xbeef, 0xcafe]);
  assert.is(card.log[0], "1 w2 20 cafe"); // whole: a doorbell rings once
  await emulator.destroy();
});

test("PCI-173 addresses given as negative numbers are decoded as unsigned", async () => {
  const { emulator, cpu, card } = await rig();
  card.registers[MEMORY]![4] = 0x5a;
  const address = (WINDOW + 4) | 0;
  assert.ok(address < 0);
  assert.is(cpu.memory_map_read8[address >>> 17]!(address), 0x5a);
  cpu.mmap_write16(address, 0x1234);
  assert.equal(card.log, ["1 r1 4", "1 w2 4 1234"]);
  await emulator.destroy();
});

test("BARs follow the guest: I/O and memory move, go and come back", async () => {
  const { emulator, card } = await rig();
  card.registers[IO]![0] = 0x31;
  card.registers[MEMORY]![0] = 0x32;
  card.move(IO, 0xd000);
  card.move(MEMORY, 0xe800_0000);
  const there = [...in8(0xd000), ...read8(0xe800_0000)];
  const here = [...in8(PORTS), ...read8(WINDOW)];
  assert.equal(await run(emulator, [...here, ...there]), [0xff, 0xff, 0x31, 0x32]);
  card.move(IO, -1);
  card.move(MEMORY, -1);
  assert.equal(await run(emulator, [...here, ...there]), [0xff, 0xff, 0xff, 0xff]);
  card.move(IO, PORTS);
  card.move(MEMORY, WINDOW);
  assert.equal(await run(emulator, [...here, ...there]), [0x31, 0x32, 0xff, 0xff]);
  await emulator.destroy();
});

test("the mainboard's ports, RAM and the APICs come before any BAR", async () => {
  const { emulator, cpu, card } = await rig();
  const apic = cpu.memory_map_read8[0xfec0_0000 >>> 17];
  card.move(IO, 0x60);
  card.move(MEMORY, 0x6000);
  card.move(SECOND, 0xfec0_0000);
  assert.equal(await run(emulator, [...in8(0x61), ...write8(0x6000, 7), ...read8(0x6000)]).then((r) => r[1]), 7);
  assert.is(cpu.memory_map_read8[0xfec0_0000 >>> 17], apic);
  assert.equal(card.log, []);
  await emulator.destroy();
});

test("an interrupt from an I/O access rises at once, one from a memory access at the next poll", async () => {
  const { emulator, cpu, card } = await rig();
  await run(emulator, routeTo11());
  let during = -1;
  let counted = 0;
  card.onWrite = (_bar, _offset, value) => {
    const before = emulator.get_instruction_counter();
    card.seams!.interrupts.setIntx(value !== 0);
    counted = emulator.get_instruction_counter() - before;
    during = requested(cpu) & IRQ11;
  };
  await run(emulator, out8(PORTS, 1));
  assert.is(during, IRQ11);
  assert.is(counted, 0);
  await run(emulator, write8(WINDOW, 0));
  assert.is(during, IRQ11); // still up: nothing happens inside the access
  assert.ok(counted >= 100_003); // but the CPU loop is told to come to its poll point
  assert.is(requested(cpu) & IRQ11, 0);
  await run(emulator, write8(WINDOW, 1));
  assert.is(during, 0);
  assert.is(requested(cpu) & IRQ11, IRQ11);
  await emulator.destroy();
});

test("PCI-190 a level interrupt of ours, shared with a built-in device, is never lost", async () => {
  const { emulator, cpu, card } = await rig();
  const { pci } = cpu.devices;
  await run(emulator, routeTo11());
  // The IDE controller (slot 30) made to share our line: same PIRQ number.
  const ide = 30 << 3;
  const space = pci.device_spaces[ide]!;
  const pin = ((SLOT - 30) & 3) + 1;
  space[15] = (space[15]! & 0xff) | (pin << 8);
  card.seams!.interrupts.setIntx(true);
  pci.raise_irq(ide);
  pci.lower_irq(ide);
  assert.is(requested(cpu) & IRQ11, IRQ11); // theirs falls, ours is up
  pci.raise_irq(ide);
  card.seams!.interrupts.setIntx(false);
  assert.is(requested(cpu) & IRQ11, IRQ11); // ours falls, theirs is up
  pci.lower_irq(ide);
  assert.is(requested(cpu) & IRQ11, 0);
  await emulator.destroy();
});

test("two cards on one interrupt: it falls when both are low", async () => {
  const emulator = await boot();
  const [a, b] = [new TestSlot(), new TestSlot()];
  using _ = attachV86(emulator, {
    cards: [
      { slot: SLOT, card: a },
      { slot: SLOT + 4, card: b },
    ],
  });
  const cpu = reachCpu(emulator);
  await run(emulator, routeTo11());
  a.seams!.interrupts.setIntx(true);
  b.seams!.interrupts.setIntx(true);
  b.seams!.interrupts.setIntx(true);
  a.seams!.interrupts.setIntx(false);
  assert.is(requested(cpu) & IRQ11, IRQ11);
  b.seams!.interrupts.setIntx(false);
  assert.is(requested(cpu) & IRQ11, 0);
  await emulator.destroy();
});

test("a line that is up follows its route register", async () => {
  const { emulator, cpu, card } = await rig();
  await run(emulator, routeTo11());
  card.seams!.interrupts.setIntx(true);
  const route = (value: number) => [...out32(CF8, ISA_BRIDGE + 0x60), ...out8(CFC + ((SLOT - 1) & 3), value)];
  await run(emulator, route(10));
  assert.is(requested(cpu) & 0x0c, 1 << 2);
  await run(emulator, route(0x80));
  assert.is(requested(cpu) & 0x0c, 0);
  await emulator.destroy();
});

test("the stuck cascade of the 8259 is repaired after two polls", async () => {
  const { emulator, cpu } = await rig();
  const master = () => new Uint8Array(cpu.wasm_memory.buffer, cpu.get_pic_addr_master(), 13);
  master()[2] = 1 << 2;
  cpu.run_hardware_timers(false, performance.now());
  assert.is(master()[2], 1 << 2); // for a moment it looks the same between the two ends of a healthy interrupt
  cpu.run_hardware_timers(false, performance.now());
  assert.is(master()[2], 0);
  await emulator.destroy();
});

test("a doorbell is worked at the poll point, a control queue at once", async () => {
  const { emulator, cpu, card } = await rig();
  const ran: number[] = [];
  card.seams!.work.bind({
    runQueue: (queue) => {
      ran.push(queue);
      return 0;
    },
  });
  card.seams!.work.request(3);
  assert.equal(ran, []);
  card.seams!.work.runNow(1);
  assert.equal(ran, [1]);
  cpu.run_hardware_timers(false, performance.now());
  assert.equal(ran, [1, 3]);
  cpu.run_hardware_timers(false, performance.now());
  assert.is(ran.length, 2);
  await emulator.destroy();
});

test("a card's timer fires at the poll point, and a sleeping CPU is polled in time for it", async () => {
  const emulator = await boot();
  const card = new TestSlot();
  const cpu = reachCpu(emulator);
  let wakes = 0;
  cpu.stop_idling = () => {
    wakes++;
  };
  let ms = 1;
  attachV86(emulator, { cards: [{ slot: SLOT, card }], now: () => ms });
  const poll = () => cpu.run_hardware_timers(false, performance.now());
  let fired = 0;
  const { clock, work } = card.seams!;
  const timer = clock.timer(() => fired++);
  assert.ok(poll() > 0.5); // v86's own timers leave it that long
  timer.arm(clock.now() + 250_000);
  assert.is(wakes, 1);
  assert.is(poll(), 0.25);
  timer.arm(clock.now() + 300_000);
  assert.is(wakes, 1); // it is awake before that
  timer.arm(clock.now() + 250_000);
  assert.is(fired, 0);
  ms = 1.25;
  poll();
  assert.is(fired, 1);
  work.request(0);
  assert.is(wakes, 2);
  await emulator.destroy();
});

test("work that the budget left over keeps the CPU from sleeping", async () => {
  const { emulator, cpu, card } = await rig();
  let left = 3000;
  card.seams!.work.bind({
    runQueue: (_queue, budget) => {
      const done = Math.min(left, budget);
      left -= done;
      return done;
    },
  });
  card.seams!.work.request(0);
  assert.is(cpu.run_hardware_timers(false, performance.now()), 0);
  assert.ok(left > 0 && left < 3000);
  while (left > 0) cpu.run_hardware_timers(false, performance.now());
  assert.ok(cpu.run_hardware_timers(false, performance.now()) > 0);
  await emulator.destroy();
});

test("PCI-174 growth of the WebAssembly memory is noticed at the next entry", async () => {
  const { emulator, cpu, card } = await rig();
  const { memory } = card.seams!;
  const before = memory.generation;
  const old = memory.windows[0]!.bytes;
  (cpu.wasm_memory as unknown as { grow(pages: number): number }).grow(1);
  assert.is(old.length, 0);
  assert.is.not(memory.generation, before);
  memory.windows[0]!.bytes[0x6000] = 0x77;
  assert.equal(await run(emulator, read8(0x6000)), [0x77]);
  assert.is(memory.generation, before + 1);
  await emulator.destroy();
});

test("RAM is all below memory_size but the window of the VGA card", async () => {
  const { emulator, card } = await rig();
  assert.equal(
    card.seams!.memory.windows.map(({ base, size }) => [base, base + size]),
    [
      [0, 0xa0000],
      [0xc0000, 4 << 20],
    ],
  );
  await emulator.destroy();
});

test("PCI-147 DMA writes tell the translator: overwritten code runs as it reads now", async () => {
  const { emulator, card } = await rig();
  const callee = 0x9000;
  const place = (value: number) => [0xb8, ...le(value, 4), RET]; // mov eax, value
  const { memory } = card.seams!;
  const write = (bytes: number[]) => memory.windows[0]!.bytes.set(bytes, callee);
  const call = [0xbb, ...le(callee, 4), 0xff, 0xd3]; // mov ebx, callee; call ebx
  // often enough that it is translated: mov ecx, n; again: call ebx; dec ecx; jnz again
  const often = [0xbb, ...le(callee, 4), 0xb9, ...le(3_000_000, 4), 0xff, 0xd3, 0x49, 0x75, 0xfb, STORE];
  write(place(1));
  assert.equal(await run(emulator, often), [1]);
  write(place(2));
  memory.written!(callee, callee + 6);
  assert.equal(await run(emulator, [...call, STORE]), [2]);
  await emulator.destroy();
});

test("PCI-191 a reboot of the emulator resets our functions", async () => {
  const { emulator, card } = await rig();
  card.move(SECOND, 0xfeb0_0000);
  await run(emulator, [...out32(CF8, OURS), ...out8(0xcf9, 0x02)]);
  await emulator.run();
  // The guest reboots in the middle of its code and waits in its BIOS again.
  const cpu = reachCpu(emulator);
  cpu.io.ports[0xcf9]!.write8.call(cpu.io.ports[0xcf9]!.device, 0x06);
  await emulator.stop();
  assert.equal(card.resets, ["bus"]);
  assert.equal(await run(emulator, [...in8(PORTS), ...read8(WINDOW), ...in32(CF8)]), [0xff, 0xff, 0]);
  emulator.restart();
  assert.equal(card.resets, ["bus", "bus"]);
  await emulator.destroy();
});

test("PCI-192 detaching restores all saved port and block handlers", async () => {
  const emulator = await boot();
  const cpu = reachCpu(emulator);
  const { io, devices } = cpu;
  const tables = () => [
    ...io.ports.flatMap((p) => [p, p.device, p.read8, p.read16, p.read32, p.write8, p.write16, p.write32]),
    ...[cpu.memory_map_read8, cpu.memory_map_read32, cpu.memory_map_write8, cpu.memory_map_write32].flatMap((t) => [
      ...t,
    ]),
    ...[cpu.mmap_write16, cpu.run_hardware_timers, cpu.reboot_internal, devices.pci.raise_irq, devices.pci.lower_irq],
    ...[cpu.get_state, cpu.set_state],
    ...[...Object.keys(cpu), ...Object.keys(devices.pci)],
  ];
  const before = tables();
  const card = new TestSlot();
  const attachment = attachV86(emulator, { cards: [{ slot: SLOT, card }] });
  await run(emulator, routeTo11());
  card.move(IO, PORTS);
  card.move(MEMORY, WINDOW);
  card.move(SECOND, WINDOW + 0x100);
  card.seams!.interrupts.setIntx(true);
  assert.is(requested(cpu) & IRQ11, IRQ11);
  const changed = tables().filter((entry, i) => entry !== before[i]).length;
  assert.ok(changed > 32);
  attachment.detach();
  attachment.detach();
  const after = tables();
  assert.is(after.length, before.length);
  assert.is(
    after.findIndex((entry, i) => entry !== before[i]),
    -1,
  );
  assert.is(requested(cpu) & IRQ11, 0);
  assert.is(card.seams, null);
  attachV86(emulator, { cards: [{ slot: SLOT, card }] }).detach(); // and it can be done again
  await emulator.destroy();
});

test("tells which name of v86 is missing, and comes too early or twice with a reason", async () => {
  const emulator = create();
  assert.is(
    codeOf(() => attachV86(emulator, { cards: [] })),
    "v86-not-loaded",
  );
  await new Promise<void>((resolve) => emulator.add_listener("emulator-loaded", () => resolve()));
  const cpu = reachCpu(emulator);
  const attachment = attachV86(emulator, { cards: [] });
  assert.is(
    codeOf(() => attachV86(emulator, { cards: [] })),
    "v86-attached",
  );
  attachment.detach();
  const without = new Proxy(cpu, {
    get: (target, name) => (name === "jit_dirty_cache" ? undefined : Reflect.get(target, name)),
  });
  assert.throws(
    () => attachV86({ v86: { cpu: without } }, { cards: [] }),
    (error: unknown) =>
      error instanceof ConfigError &&
      error.code === "v86-name" &&
      /cpu\.jit_dirty_cache is undefined/.test(error.message),
  );
  await emulator.destroy();
});

test("what is no card is refused with its place, and the emulator is as it was", async () => {
  const emulator = await boot();
  const keys = Object.keys(reachCpu(emulator));
  const card = new TestSlot();
  for (const [cards, place] of [
    [card, /^cards is /],
    [[card], /^cards\[0\].card: /],
    [[{ card }, { card: null }], /^cards\[1\].card: /],
    [[{ card: {} }], /^cards\[0\].card: /],
  ] as const)
    assert.throws(
      () => attachV86(emulator, { cards: cards as unknown as V86Card[] }),
      (error: unknown) => error instanceof ConfigError && error.code === "v86-card" && place.test(error.message),
    );
  assert.equal(Object.keys(reachCpu(emulator)), keys);
  assert.is(card.seams, null);
  const attachment = attachV86(emulator, { cards: [] });
  const nothing = undefined as unknown as TestSlot;
  assert.is(
    codeOf(() => attachment.plug(nothing)),
    "v86-card",
  );
  assert.is(
    codeOf(() => attachment.unplug(nothing)),
    "not-plugged",
  );
  await emulator.destroy();
});

test("a slot that is taken or does not exist is refused, and a failing card leaves nothing behind", async () => {
  const emulator = await boot();
  const cpu = reachCpu(emulator);
  const keys = Object.keys(cpu);
  const card = new TestSlot();
  for (const [slot, code] of [
    [0, "slot-taken"],
    [30, "slot-taken"],
    [32, "slot-range"],
    [1.5, "slot-range"],
  ] as const)
    assert.is(
      codeOf(() => attachV86(emulator, { cards: [{ slot, card }] })),
      code,
      `slot ${slot}`,
    );
  const twice = [
    { slot: SLOT, card },
    { slot: SLOT, card: new TestSlot() },
  ];
  assert.is(
    codeOf(() => attachV86(emulator, { cards: twice })),
    "slot-taken",
  );
  const failing = new TestSlot();
  failing.connect = () => {
    throw new ConfigError("no-cable", "a card that will not");
  };
  assert.is(
    codeOf(() =>
      attachV86(emulator, {
        cards: [
          { slot: SLOT, card },
          { slot: 16, card: failing },
        ],
      }),
    ),
    "no-cable",
  );
  assert.is(card.seams, null);
  assert.equal(Object.keys(cpu), keys);
  attachV86(emulator, { cards: [{ slot: SLOT, card }] }).detach();
  await emulator.destroy();
});

test.run();
