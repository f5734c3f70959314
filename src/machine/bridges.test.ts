import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import type { BridgeSlot, SavedState, Slot } from "../contract/index.js";
import { type FunctionDeclaration, Msi, pciBridge, pcieRootPort } from "../pci/index.js";
import { TestFunction, TestModel } from "../pci/testing.js";
import { Machine, type MachineOptions } from "./machine.js";

const MIB = 2 ** 20;
const isConfigError = (code: string) => (error: unknown) => error instanceof ConfigError && error.code === code;

// Raw numbers of the type 1 header. PCI-to-PCI Bridge Architecture 1.2 §3.2
const COMMAND = 0x04;
const NUMBERS = 0x18;
const IO_WINDOW = 0x1c;
const SEC_STATUS = 0x1e;
const MEMORY_WINDOW = 0x20;
const PREFETCHABLE = 0x24;
const CONTROL = 0x3e;

/** 00:05.0 is a bridge; 04.0 behind it a card, 06.0 a bridge with a card 07.0 behind it. Nothing is numbered. */
const tree = (options: MachineOptions = {}, more: Partial<FunctionDeclaration> = {}) => {
  const machine = new Machine({ ram: 2 * MIB, ...options });
  const outer = pciBridge();
  const inner = pciBridge({ chassis: 2 });
  const card = new TestFunction(more);
  const deep = new TestFunction(more);
  machine.plug("00:05.0", outer);
  machine.plug("00:05.0/04.0", card);
  machine.plug("00:05.0/06.0", inner);
  machine.plug("00:05.0/06.0/07.0", deep);
  return { machine, outer, inner, card, deep };
};
const BRIDGE = 0x28; // 00:05.0

/** The same with buses 1 and 2, as firmware numbers them. */
const numbered = (options: MachineOptions = {}, more: Partial<FunctionDeclaration> = {}) => {
  const rig = tree(options, more);
  rig.machine.configWrite(BRIDGE, NUMBERS, 4, 0x0002_0100);
  rig.machine.configWrite(0x130, NUMBERS, 4, 0x0002_0201);
  return rig;
};
const CARD = 0x120; // 01:04.0
const INNER = 0x130; // 01:06.0
const DEEP = 0x238; // 02:07.0

// ------------------------------------------------------------------------------------------------ configuration

test("PCI-043 PCI-044 cycles for the secondary bus reach what is behind, those for deeper ones pass on", () => {
  const { machine, card, deep } = numbered();
  machine.ioWrite(0xcf8, 4, 0x8001_2000);
  assert.is(machine.ioRead(0xcfc, 4), 0x816910ec);
  machine.configWrite(CARD, 0x3c, 1, 0x5a);
  assert.equal([card.configRead(0x3c, 1), deep.configRead(0x3c, 1)], [0x5a, 0]);
  machine.ioWrite(0xcf8, 4, 0x8002_383c);
  machine.ioWrite(0xcfc, 1, 0x77);
  assert.equal([card.configRead(0x3c, 1), deep.configRead(0x3c, 1)], [0x5a, 0x77]);
  for (const absent of [0x118, 0x121, 0x200, 0x220])
    assert.is(machine.configRead(absent, 0, 4), 0xffff_ffff, absent.toString(16));
});

test("PCI-045 PCI-046 only secondary … subordinate are passed on, from the next access on", () => {
  const { machine, outer } = numbered();
  const found = (bus: number) =>
    Array.from({ length: 32 }, (_, device) => machine.configRead((bus << 8) | (device << 3), 0, 4)).filter(
      (id) => id !== 0xffff_ffff,
    ).length;
  assert.equal([found(1), found(2), found(3)], [2, 1, 0]);
  outer.configWrite(0x1a, 1, 1); // subordinate
  assert.equal([found(1), found(2)], [2, 0]);
  outer.configWrite(0x1a, 1, 0xff);
  assert.equal([found(2), found(3)], [1, 0]);
  outer.configWrite(0x19, 1, 9);
  assert.equal([found(1), found(2), found(9)], [0, 0, 2]);
  // Observed: QEMU compares with the secondary number first, whatever the subordinate one is; so does the standard.
  outer.configWrite(0x1a, 1, 3);
  assert.equal([found(9), found(3)], [2, 0]);
});

test("PCI-047 of bridges that claim the same buses the lower device does, and numbers in a circle end", () => {
  const { machine } = numbered();
  const other = pciBridge();
  machine.plug("00:03.0", other);
  machine.plug("00:03.0/04.0", new TestFunction({ identity: { ...IDENTITY, deviceId: 0x8168 } }));
  other.configWrite(NUMBERS, 4, 0x00ff_0100);
  assert.is(machine.configRead(CARD, 0, 4), 0x816810ec);
  assert.is(machine.configRead(DEEP, 0, 4), 0xffff_ffff, "the first bridge claimed it, and nothing is there");
  machine.configWrite(0x18, NUMBERS, 4, 0);
  assert.is(machine.configRead(CARD, 0, 4), 0x816910ec);
  machine.configWrite(INNER, NUMBERS, 4, 0x00ff_0101);
  for (let bus = 0; bus < 256; bus++) machine.configRead(bus << 8, 0, 4);
});
const IDENTITY = { vendorId: 0x10ec, deviceId: 0x8169, revisionId: 0x10, classCode: 0x020000 };

/** A bridge that counts how often its number is asked for. */
const counting = (slot: Slot, count: { steps: number }): BridgeSlot =>
  new Proxy(slot as BridgeSlot, {
    get: (target, key) => {
      if (key === "secondaryBus") count.steps++;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

test("PCI-171 whatever is in the bus numbers, a look-up asks each bridge once at most", () => {
  const count = { steps: 0 };
  const machine = new Machine({ ram: MIB });
  const bridges: Slot[] = [];
  const plug = (where: string) => {
    const bridge = pciBridge();
    bridges.push(bridge);
    machine.plug(where, counting(bridge, count));
  };
  for (const device of ["02", "03", "04"]) {
    let where = `00:${device}.0`;
    plug(where);
    for (const below of ["00.0", "1f.0", "00.0", "05.0"]) {
      plug(`${where}/01.0`);
      where += `/${below}`;
      plug(where);
    }
  }
  const numbers = fc.array(fc.integer({ min: 0, max: 0xff_ffff }), { minLength: 27, maxLength: 27 });
  fc.assert(
    fc.property(numbers, fc.integer({ min: 1, max: 255 }), (values, bus) => {
      bridges.forEach((bridge, i) => {
        bridge.configWrite(NUMBERS, 4, values[i]!);
      });
      count.steps = 0;
      machine.configRead(bus << 8, 0, 4);
      assert.ok(count.steps <= 256, `${count.steps} steps`);
    }),
  );
});

test("PCI-061 behind a PCI Express port only device 0 answers, and only it can be plugged", () => {
  const machine = new Machine({ ram: MIB });
  const port = pcieRootPort();
  const card = new TestFunction({ multiFunction: true });
  machine.plug("00:04.0", port);
  machine.plug("00:04.0/00.0", card);
  machine.plug("00:04.0/00.1", new TestFunction());
  assert.is(port.configRead(0x6e, 2) & 0x40, 0x40, "the slot shows that it is there");
  machine.configWrite(0x20, NUMBERS, 4, 0x0001_0100);
  const answers = Array.from({ length: 256 }, (_, devfn) => devfn).filter(
    (devfn) => machine.configRead(0x100 + devfn, 0, 4) !== 0xffff_ffff,
  );
  assert.equal(answers, [0, 1]);
  assert.throws(() => machine.plug("00:04.0/01.0", new TestFunction()), isConfigError("slot-address"));
  machine.unplug("00:04.0/00.1");
  assert.is(port.configRead(0x6e, 2) & 0x40, 0x40);
  machine.unplug("00:04.0/00.0");
  assert.is(port.configRead(0x6e, 2) & 0x40, 0);
});

// ------------------------------------------------------------------------------------------------ windows

const memory = (machine: Machine, bdf: number, base: number) => {
  machine.configWrite(bdf, 0x14, 4, base);
  machine.configWrite(bdf, COMMAND, 2, 0x0007);
};

test("PCI-048 PCI-049 PCI-050 PCI-053 memory behind a bridge is decoded inside its window, while memory is enabled", () => {
  const { machine, card } = numbered();
  memory(machine, CARD, 0x8010_0000);
  card.model.bytes[3] = 0x42;
  const seen = () => machine.memRead(0x8010_0003, 1);
  machine.configWrite(BRIDGE, COMMAND, 2, 0x0002);
  assert.is(seen(), 0xff, "the window has not been set");
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8010_8010);
  assert.is(seen(), 0x42);
  machine.memWrite(0x8010_0004, 1, 7);
  assert.is(card.model.bytes[4], 7);
  machine.configWrite(BRIDGE, COMMAND, 2, 0x0005);
  assert.is(seen(), 0xff, "memory enable is off");
  machine.configWrite(BRIDGE, COMMAND, 2, 0x0002);
  assert.is(seen(), 0x42);
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8000_8010);
  assert.is(seen(), 0xff, "base above limit");
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x800f_8000);
  assert.is(seen(), 0xff, "one below");
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8020_8020);
  assert.is(seen(), 0xff, "one above");
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0xfff0_0010);
  assert.is(seen(), 0x42);
});

test("PCI-051 PCI-052 windows count in 4 KiB and 1 MiB, and the low nibbles of their registers are read-only", () => {
  const { machine, card } = numbered();
  machine.configWrite(BRIDGE, IO_WINDOW, 2, 0xffff);
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0xffff_ffff);
  assert.is(machine.configRead(BRIDGE, IO_WINDOW, 2), 0xf0f0);
  assert.is(machine.configRead(BRIDGE, MEMORY_WINDOW, 4), 0xfff0_fff0);
  machine.configWrite(BRIDGE, PREFETCHABLE, 4, 0xffff_ffff);
  assert.is(machine.configRead(BRIDGE, PREFETCHABLE, 4), 0xfff1_fff1);
  machine.configWrite(BRIDGE, PREFETCHABLE, 4, 0x0000_fff0);
  machine.configWrite(BRIDGE, IO_WINDOW, 2, 0xd0d0);
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x9000_9000);
  machine.configWrite(BRIDGE, COMMAND, 2, 0x0003);
  machine.configWrite(CARD, COMMAND, 2, 0x0003);
  card.model.bytes.fill(0x42);
  const port = (at: number) => {
    machine.configWrite(CARD, 0x10, 4, at);
    return machine.ioRead(at, 1);
  };
  const address = (at: number) => {
    machine.configWrite(CARD, 0x14, 4, at);
    return machine.memRead(at, 1);
  };
  assert.equal([port(0xcff0), port(0xd000), port(0xdff0), port(0xe000)], [0xff, 0x42, 0x42, 0xff]);
  assert.equal(
    [address(0x8fff_fff0), address(0x9000_0000), address(0x900f_fff0), address(0x9010_0000)],
    [0xff, 0x42, 0x42, 0xff],
  );
});

test("PCI-054 the upper halves of the prefetchable window count, and a bridge without it has none", () => {
  const handler = new TestModel();
  handler.bytes.fill(0x42);
  const bars = { 0: { kind: "mem64", size: 16, prefetchable: true, handler } } as const;
  const { machine } = numbered({}, { bars });
  machine.configWrite(CARD, 0x10, 4, 0x0010_0000);
  machine.configWrite(CARD, 0x14, 4, 0x12);
  machine.configWrite(CARD, COMMAND, 2, 2);
  machine.configWrite(BRIDGE, COMMAND, 2, 2);
  const at = 0x12_0010_0000;
  machine.configWrite(BRIDGE, PREFETCHABLE, 4, 0x0010_0010);
  assert.is(machine.memRead(at, 1), 0xff);
  machine.configWrite(BRIDGE, 0x28, 4, 0x12);
  assert.is(machine.memRead(at, 1), 0xff, "the limit is below still");
  machine.configWrite(BRIDGE, 0x2c, 4, 0x12);
  assert.is(machine.memRead(at, 1), 0x42);
  machine.configWrite(BRIDGE, 0x2c, 4, 0x11);
  assert.is(machine.memRead(at, 1), 0xff);
  const other = new Machine({ ram: MIB });
  for (const [bits, mask] of [
    ["none", 0],
    [32, 0xfff0_fff0],
    [64, 0xfff1_fff1],
  ] as const) {
    other.plug("3", pciBridge({ prefetchable: bits }));
    for (const register of [PREFETCHABLE, 0x28, 0x2c]) other.configWrite(0x18, register, 4, 0xffff_ffff);
    assert.equal(
      [PREFETCHABLE, 0x28].map((register) => other.configRead(0x18, register, 4)),
      [mask, bits === 64 ? 0xffff_ffff : 0],
    );
    other.unplug("3");
  }
});

test("a window in the middle of a BAR passes that part of it, with its own offsets", () => {
  const bytes = new Uint8Array(4 * MIB);
  for (let i = 0; i < 4; i++) bytes[i * MIB + 5] = 0x40 + i;
  const handler = {
    read: (offset: number) => bytes[offset]!,
    write: (offset: number, _width: number, value: number) => {
      bytes[offset] = value;
    },
  };
  const { machine } = numbered({}, { bars: { 1: { kind: "mem32", size: 4 * MIB, accepts: [1], handler } } });
  memory(machine, CARD, 0x8000_0000);
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8020_8010); // 1 MiB … 3 MiB
  machine.configWrite(BRIDGE, PREFETCHABLE, 4, 0x8030_8030); // and what follows it
  machine.configWrite(BRIDGE, COMMAND, 2, 2);
  const seen = () => [0, 1, 2, 3].map((i) => machine.memRead(0x8000_0005 + i * MIB, 1));
  assert.equal(seen(), [0xff, 0x41, 0x42, 0x43]);
  machine.memWrite(0x8010_0000, 4, 0x04030201);
  assert.equal([...bytes.subarray(MIB, MIB + 4)], [1, 2, 3, 4]);
  assert.is(machine.memRead(0x800f_fffe, 4), 0x0201_ffff, "an access over the edge");
  machine.configWrite(BRIDGE, PREFETCHABLE, 4, 0x0000_fff0);
  assert.equal(seen(), [0xff, 0x41, 0x42, 0xff]);
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8030_8000);
  assert.equal(seen(), [0x40, 0x41, 0x42, 0x43]);
});

test("a function two bridges down is reached through the windows of both", () => {
  const { machine, deep } = numbered();
  memory(machine, DEEP, 0x8010_0000);
  deep.model.bytes.fill(0x42);
  for (const bdf of [BRIDGE, INNER]) machine.configWrite(bdf, COMMAND, 2, 2);
  const seen = () => machine.memRead(0x8010_0000, 1);
  machine.configWrite(INNER, MEMORY_WINDOW, 4, 0x8010_8010);
  assert.is(seen(), 0xff);
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8020_8000);
  assert.is(seen(), 0x42);
  machine.configWrite(INNER, MEMORY_WINDOW, 4, 0x8020_8020);
  assert.is(seen(), 0xff);
});

test("PCI-055 ISA enable leaves the last 768 ports of each KiB to the ISA bus", () => {
  const { machine, card } = numbered();
  card.model.bytes.fill(0x42);
  machine.configWrite(CARD, COMMAND, 2, 1);
  machine.configWrite(BRIDGE, IO_WINDOW, 2, 0xd0d0);
  machine.configWrite(BRIDGE, COMMAND, 2, 1);
  const passed = () =>
    [0xd000, 0xd0f0, 0xd100, 0xd200, 0xd3f0, 0xd400, 0xd4f0, 0xd500, 0xdcf0, 0xdd00].filter((at) => {
      machine.configWrite(CARD, 0x10, 4, at);
      return machine.ioRead(at, 1) === 0x42;
    });
  assert.is(passed().length, 10);
  machine.configWrite(BRIDGE, CONTROL, 2, 4);
  assert.equal(passed(), [0xd000, 0xd0f0, 0xd400, 0xd4f0, 0xdcf0]);
});

test("PCI-056 VGA enable passes a display's memory and ports, in 10 or in 16 bits", () => {
  const handler = { read: () => 0x42, write: () => {} };
  const { machine } = numbered(
    { ram: 0x8_0000 },
    { bars: { 0: { kind: "io", size: 4, handler }, 1: { kind: "mem32", size: 0x2_0000, handler } } },
  );
  const port = (at: number) => {
    machine.configWrite(CARD, 0x10, 4, at & ~3);
    return machine.ioRead(at, 1) === 0x42;
  };
  const address = (at: number) => {
    machine.configWrite(CARD, 0x14, 4, at & ~0x1_ffff);
    return machine.memRead(at, 1) === 0x42;
  };
  machine.configWrite(CARD, COMMAND, 2, 3);
  machine.configWrite(BRIDGE, COMMAND, 2, 3);
  const ports = [0x3af, 0x3b0, 0x3bb, 0x3bc, 0x3bf, 0x3c0, 0x3df, 0x3e0, 0x07c0, 0xffdf, 0xffe0];
  const addresses = [0x9_ffff, 0xa_0000, 0xb_ffff, 0xc_0000];
  assert.equal([ports.filter(port), addresses.filter(address)], [[], []]);
  machine.configWrite(BRIDGE, CONTROL, 2, 0x08);
  assert.equal(ports.filter(port), [0x3b0, 0x3bb, 0x3c0, 0x3df, 0x07c0, 0xffdf]);
  assert.equal(addresses.filter(address), [0xa_0000, 0xb_ffff]);
  machine.configWrite(BRIDGE, CONTROL, 2, 0x18);
  assert.equal(ports.filter(port), [0x3b0, 0x3bb, 0x3c0, 0x3df]);
  machine.configWrite(BRIDGE, COMMAND, 2, 2);
  assert.equal([ports.filter(port), addresses.filter(address).length], [[], 2]);
});

test("PCI-059 no window passes anything after power-on, not even once Command lets it", () => {
  const { machine, card } = numbered({ ram: 0x8_0000 });
  card.model.bytes.fill(0x42);
  machine.configWrite(BRIDGE, COMMAND, 2, 7);
  machine.configWrite(CARD, COMMAND, 2, 7);
  for (const at of [0x10, 0xff0, 0x1000, 0xc000]) {
    machine.configWrite(CARD, 0x10, 4, at);
    assert.is(machine.ioRead(at, 1), 0xff, at.toString(16));
  }
  for (const at of [0x9_0000, 0xf_fff0, 0x10_0000, 0x8000_0000]) {
    machine.configWrite(CARD, 0x14, 4, at);
    assert.is(machine.memRead(at, 1), 0xff, at.toString(16));
  }
});

test("what nobody behind a bridge answers is latched in Secondary Status, with master-abort mode also in Status", () => {
  const { machine } = numbered();
  machine.configWrite(BRIDGE, COMMAND, 2, 7);
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8010_8010);
  machine.configWrite(BRIDGE, IO_WINDOW, 2, 0xd0d0);
  const latched = () => {
    const status = [machine.configRead(BRIDGE, SEC_STATUS, 2), machine.configRead(BRIDGE, 0x06, 2)];
    machine.configWrite(BRIDGE, SEC_STATUS, 2, 0xffff);
    machine.configWrite(BRIDGE, 0x06, 2, 0xffff);
    return status;
  };
  assert.equal(latched(), [0x00a0, 0x00b0]);
  for (const access of [
    () => machine.memRead(0x8010_0000, 4),
    () => machine.memWrite(0x801f_ffff, 1, 0),
    () => machine.ioRead(0xd123, 2),
    () => machine.configRead(0x118, 0, 4),
    () => machine.configWrite(0x118, 0, 4, 0),
  ]) {
    access();
    assert.equal(latched(), [0x20a0, 0x00b0], String(access));
    machine.configWrite(BRIDGE, CONTROL, 2, 0x20);
    access();
    assert.equal(latched(), [0x20a0, 0x08b0], String(access));
    machine.configWrite(BRIDGE, CONTROL, 2, 0);
  }
  machine.memRead(0x8020_0000, 4);
  machine.configRead(CARD, 0, 4);
  assert.equal(latched(), [0x00a0, 0x00b0]);
  const zeros = numbered({ undecodedMemory: "zeros" }).machine;
  zeros.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8010_8010);
  zeros.configWrite(BRIDGE, COMMAND, 2, 7);
  assert.equal([zeros.memRead(0x8010_0000, 4), zeros.configRead(BRIDGE, SEC_STATUS, 2)], [0, 0x20a0]);
  const quiet = new Machine({ ram: MIB });
  quiet.plug("5", pciBridge({ masterAborts: false }));
  quiet.configWrite(BRIDGE, NUMBERS, 4, 0x0001_0100);
  quiet.configRead(0x118, 0, 4);
  assert.is(quiet.configRead(BRIDGE, SEC_STATUS, 2), 0x00a0);
});

// ------------------------------------------------------------------------------------------------ upwards

const messaging = (): Partial<FunctionDeclaration> => ({ capabilities: [new Msi({ at: 0x40 })] });

test("PCI-060 DMA and messages from behind a bridge need its Bus Master, at every level", () => {
  const { machine, inner, outer } = numbered();
  const deep = new TestFunction(messaging());
  machine.plug("00:05.0/06.0/08.0", deep);
  const { dma, interrupts } = deep.model.seams!;
  deep.configWrite(COMMAND, 2, 4);
  deep.configWrite(0x44, 4, 0xfee0_0000);
  deep.configWrite(0x4c, 2, 0x41);
  deep.configWrite(0x42, 2, 1);
  const bytes = new Uint8Array([1, 2, 3, 4]);
  const goes = () => {
    interrupts.signal(0);
    const came = machine.interrupts.take(0x41);
    const wrote = dma.write(0x1000, 4, bytes, 0);
    assert.is(dma.open, wrote);
    assert.is(machine.memRead(0x1000, 4), wrote ? 0x04030201 : 0);
    machine.memWrite(0x1000, 4, 0);
    assert.is(came, wrote);
    return wrote;
  };
  assert.is(goes(), false);
  outer.configWrite(COMMAND, 2, 4);
  assert.is(goes(), false);
  assert.is(deep.configRead(0x06, 2) & 0x2000, 0x2000, "received master abort");
  inner.configWrite(COMMAND, 2, 4);
  assert.is(goes(), true);
  outer.configWrite(COMMAND, 2, 3);
  assert.is(goes(), false);
  outer.configWrite(COMMAND, 2, 4);
  outer.configWrite(CONTROL, 2, 0x40);
  outer.configWrite(CONTROL, 2, 0);
  assert.is(goes(), false, "after its reset");
});

test("DMA to what a bridge passes down does not go up, though RAM is there", () => {
  const { machine, card } = numbered({ ram: 4 * MIB });
  const { dma } = card.model.seams!;
  card.configWrite(COMMAND, 2, 4);
  machine.configWrite(BRIDGE, COMMAND, 2, 6);
  assert.is(dma.contains(0x10_0000, 0x10_0000), true);
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x0010_0010);
  assert.equal(
    [dma.contains(0x10_0000, 1), dma.contains(0x1f_ffff, 1), dma.contains(0x20_0000, 1), dma.contains(0x8_0000, 1)],
    [false, false, true, true],
  );
  assert.is(dma.locateWritable(0x20_0000, 4), true);
  dma.bytes[dma.at] = 0x5a;
  assert.is(machine.memRead(0x20_0000, 1), 0x5a);
  machine.configWrite(BRIDGE, COMMAND, 2, 4);
  assert.is(dma.contains(0x10_0000, 0x10_0000), true, "without memory enable the window is none");
});

test("PCI-095 pins turn by the device number at every bridge on the way up", () => {
  for (const [where, pin, route] of [
    ["00:07.0/03.0", "INTA", 0x61], // specs/pci.md §10: 3, then (3 + 6) mod 4 = 1, on QEMU as well
    ["00:07.0/03.0", "INTB", 0x62],
    ["00:07.0/00.0", "INTA", 0x62],
    ["00:07.0/01.0/02.0", "INTA", 0x61], // 2, then 3, then (3 + 6) mod 4 = 1
    ["00:07.0/01.0/1f.0", "INTD", 0x61], // (3 + 31) mod 4 = 2, then 3, then 1
  ] as const) {
    const machine = new Machine({ ram: MIB });
    machine.plug("00:07.0", pciBridge());
    machine.plug("00:07.0/01.0", pciBridge());
    const card = new TestFunction({ interruptPin: pin });
    machine.plug(where, card);
    machine.configWrite(0x08, route, 1, 11);
    card.model.seams!.interrupts.setIntx(true);
    assert.is(machine.irqLevel(11), true, where);
    machine.configWrite(0x08, route, 1, 0x80);
    assert.is(machine.interrupts.levels, 0, where);
  }
});

// ------------------------------------------------------------------------------------------------ reset

test("PCI-057 PCI-058 secondary bus reset resets all that is behind, keeps the bridge, and holds while it is set", () => {
  const { machine, outer, card, deep, inner } = numbered();
  machine.configWrite(BRIDGE, MEMORY_WINDOW, 4, 0x8010_8010);
  machine.configWrite(BRIDGE, COMMAND, 2, 7);
  memory(machine, CARD, 0x8010_0000);
  memory(machine, DEEP, 0x8010_0010);
  card.model.bytes[0] = 0x42;
  card.model.seams!.interrupts.setIntx(true);
  const before = Array.from({ length: 64 }, (_, i) => outer.configRead(4 * i, 4));
  card.model.resets.length = deep.model.resets.length = 0;
  machine.configWrite(BRIDGE, CONTROL, 2, 0x40);
  assert.equal([card.model.resets, deep.model.resets], [["bus"], ["bus"]]);
  assert.equal([card.configRead(COMMAND, 2), card.configRead(0x14, 4), inner.configRead(NUMBERS, 4)], [0, 0, 0]);
  assert.equal([machine.configRead(CARD, 0, 4), machine.configRead(DEEP, 0, 4)], [0xffff_ffff, 0xffff_ffff]);
  machine.configWrite(CARD, COMMAND, 2, 7);
  assert.is(card.configRead(COMMAND, 2), 0);
  card.configWrite(0x14, 4, 0x8010_0000);
  card.configWrite(COMMAND, 2, 2);
  assert.is(machine.memRead(0x8010_0000, 1), 0xff);
  machine.configWrite(BRIDGE, CONTROL, 2, 0x42);
  assert.is(card.model.resets.length, 1, "the edge resets, not the level");
  machine.configWrite(BRIDGE, CONTROL, 2, 0);
  assert.is(machine.configRead(CARD, 0, 4), 0x816910ec);
  assert.is(machine.memRead(0x8010_0000, 1), 0);
  const after = Array.from({ length: 64 }, (_, i) => outer.configRead(4 * i, 4));
  assert.equal(after, before);
});

test("a platform reset resets each function behind a bridge once, and closes the bridges", () => {
  const { machine, card, deep } = numbered();
  machine.assignResources();
  card.model.resets.length = deep.model.resets.length = 0;
  machine.reset();
  assert.equal([card.model.resets, deep.model.resets], [["bus"], ["bus"]]);
  assert.is(machine.configRead(CARD, 0, 4), 0xffff_ffff);
  assert.is(machine.configRead(BRIDGE, NUMBERS, 4), 0);
});

// ------------------------------------------------------------------------------------------------ firmware, plugging

test("PCI-176 buses are numbered depth-first, and windows hold what is behind them", () => {
  const handler = new TestModel();
  const size = fc.constantFrom(0x10, 0x1000, 0x2_0000, 8 * MIB);
  const cardOf = (io: boolean, mem: number, prefetchable: number) =>
    new TestFunction({
      bars: {
        ...(io ? { 0: { kind: "io", size: 32, handler } } : {}),
        1: { kind: "mem32", size: mem, handler },
        2: { kind: "mem64", size: prefetchable, prefetchable: true, handler },
      },
    });
  const shape = fc.array(fc.tuple(fc.nat(3), fc.boolean(), size, size), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(shape, fc.boolean(), (cards, wide) => {
      const machine = new Machine({ ram: MIB });
      machine.plug("00:04.0", pciBridge({ prefetchable: wide ? 64 : "none" }));
      machine.plug("00:04.0/02.0", pciBridge());
      machine.plug("00:06.0", pciBridge({ prefetchable: 32 }));
      const buses = ["00:", "00:04.0/", "00:04.0/02.0/", "00:06.0/"];
      cards.forEach(([bus, io, a, b], i) => {
        machine.plug(`${buses[bus]}${(8 + i).toString(16)}`, cardOf(io, a, b));
      });
      const assigned = machine.assignResources();
      for (const { bdf, slot } of machine.functions())
        for (const bar of slot.bars) {
          const base = slot.barBase(bar.index);
          const same = assigned.find((other) => other.bdf === bdf && other.index === bar.index);
          assert.is(same?.base, base);
          const read = bar.kind === "io" ? machine.ioRead(base, 1) : machine.memRead(base, 1);
          assert.is(read, 0, "the CPU gets there");
          assert.is(bar.kind === "io" ? machine.ioRead(base + bar.size - 1, 1) : 0, 0);
        }
      const numbers = [0x20, 0x110, 0x30].map((bdf) => machine.configRead(bdf, NUMBERS, 4));
      assert.equal(numbers, [0x0002_0100, 0x0002_0201, 0x0003_0300]);
      for (const bdf of [0x20, 0x110, 0x30]) assert.is(machine.configRead(bdf, COMMAND, 2), 7);
    }),
    { numRuns: 30 },
  );
});

test("a card plugged behind a bridge that runs is found there, and leaves it again; the bridge goes last", () => {
  const { machine, outer } = numbered();
  machine.assignResources();
  const late = new TestFunction();
  machine.plug("01:0a.0", late);
  assert.is(machine.functions().find(({ slot }) => slot === late)?.path, "00:05.0/0a.0");
  assert.is(machine.configRead(0x150, 0, 4), 0x816910ec);
  const window = machine.configRead(BRIDGE, MEMORY_WINDOW, 2) * 0x1_0000;
  memory(machine, 0x150, window + 0xf_0000);
  late.model.bytes.fill(0x42);
  assert.is(machine.memRead(window + 0xf_0000, 1), 0x42, "there is room for it");
  assert.throws(() => machine.unplug("00:05.0"), isConfigError("bridge-occupied"));
  assert.is(machine.unplug("00:05.0/0a.0"), late);
  assert.equal([machine.configRead(0x150, 0, 4), machine.memRead(window + 0xf_0000, 1)], [0xffff_ffff, 0xff]);
  for (const where of ["00:05.0/06.0/07.0", "00:05.0/06.0", "00:05.0/04.0", "00:05.0"]) machine.unplug(where);
  assert.equal(
    machine.functions().map(({ path }) => path),
    ["00:00.0", "00:01.0"],
  );
  machine.plug("00:08.0", outer);
  machine.plug("00:08.0/01.0", late);
  assert.equal(
    machine.functions().map(({ path, bdf }) => [path, bdf]),
    [
      ["00:00.0", 0],
      ["00:01.0", 8],
      ["00:08.0", 0x40],
      ["00:08.0/01.0", -1],
    ],
  );
});

test("a state goes back with what hangs behind bridges, and into no other tree", () => {
  const first = numbered();
  first.machine.assignResources();
  first.card.model.bytes.fill(0x11);
  first.deep.model.bytes.fill(0x22);
  const at = first.machine.functions().map(({ slot }) => slot.barBase(1));
  const state: SavedState = first.machine.save();
  const second = tree();
  second.machine.load(state);
  assert.equal(
    second.machine.functions().map(({ slot }) => slot.barBase(1)),
    at,
  );
  assert.equal([second.machine.memRead(at[3]!, 1), second.machine.memRead(at[5]!, 1)], [0x11, 0x22]);
  assert.equal(second.machine.save(), state);
  const other = new Machine({ ram: 2 * MIB });
  for (const where of ["00:05.0", "00:06.0"]) other.plug(where, pciBridge());
  other.plug("00:05.0/04.0", new TestFunction());
  other.plug("00:06.0/07.0", new TestFunction());
  assert.throws(() => other.load(state), /00:05.0\/06.0|expected/);

  first.machine.configWrite(BRIDGE, CONTROL, 2, 0x40);
  const held = first.machine.save();
  const third = tree();
  third.machine.load(held);
  assert.is(third.machine.configRead(CARD, 0, 4), 0xffff_ffff);
  const resets = third.card.model.resets.length;
  third.machine.load(held);
  assert.is(third.card.model.resets.length, resets, "to hold a reset is not to begin one");
});

test("any accesses to bridges leave RAM as it was, end, and leave the machine as a fresh one would be put", () => {
  const write = fc.tuple(
    fc.constantFrom(BRIDGE, INNER, CARD, DEEP),
    fc.constantFrom(0x04, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x3c),
    fc.oneof(fc.constantFrom(0, 7, 0xffff_ffff, 0x0002_0100, 0x0002_0201, 0x8000_8000), fc.nat(0xffff_ffff)),
  );
  const probe = fc.constantFrom(0x9_0000, 0xa_0000, 0x10_0000, 0x8000_0000, 0x8010_0000, 0xfff0_0000, 2 ** 32 + 0x1000);
  fc.assert(
    fc.property(fc.array(fc.tuple(write, probe), { maxLength: 40 }), (steps) => {
      const { machine } = numbered({ ram: 0x18_0000 });
      machine.memWrite(0x9_0000, 4, 0x12345678);
      for (const [[bdf, offset, value], address] of steps) {
        machine.configWrite(bdf, offset, 4, value);
        machine.memRead(address, 4);
        machine.ioRead(address & 0xffff, 4);
      }
      assert.is(machine.memRead(0x9_0000, 4), 0x12345678);
      const { machine: copy } = tree({ ram: 0x18_0000 });
      copy.load(machine.save());
      for (let at = 0x7ff0_0000; at < 0x8030_0000; at += 0x8_0000)
        assert.is(copy.memRead(at, 4), machine.memRead(at, 4));
      for (let port = 0; port < 0x1_0000; port += 0x10)
        if (port !== 0xcf0) assert.is(copy.ioRead(port, 1), machine.ioRead(port, 1), port.toString(16));
    }),
    { numRuns: 40 },
  );
});

test.run();
