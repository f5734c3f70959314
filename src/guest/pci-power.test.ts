import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  BusError,
  type BusSpace,
  DeviceGoneError,
  type DmaMemory,
  type DmaTag,
  type Driver,
  type InterruptCookie,
  type Irq,
  Newbus,
  PCI,
  type PciAttach,
  type PciProbe,
} from "./index.js";
import { FakeBus } from "./testing/fake-bus.js";
import { BDF, CARD } from "./testing/fake-card.js";
import { codeOf, find, rig, withCaps } from "./testing/pci-rig.js";

// ------------------------------------------------------------------------------------------------ leaving

test("PRB-035 what a driver took outside its scope and kept is told as a leak and taken back", () => {
  const kept: { space?: BusSpace; irq?: Irq; cookie?: InterruptCookie; tag?: DmaTag; memory?: DmaMemory } = {};
  let runs = 0;
  const { bus, newbus, events, command } = rig((dev) => {
    dev.bus.enableBusMaster(true);
    kept.space = dev.bus.alloc("memory", 0x14);
    kept.irq = dev.bus.allocIntx();
    kept.cookie = dev.bus.setupIntr(kept.irq, { handler: () => runs++ });
    kept.tag = dev.bus.dmaTag();
    kept.memory = kept.tag.alloc(64);
    dev.resources.use(dev.bus.alloc("ioport", 0x10)); // this one is no leak
  });
  newbus.detach("re0");
  assert.equal(
    events.filter((e) => e.kind === "leak"),
    ["irq 0 with a handler", "DMA tag with 1 maps", "memory 0x14"].map((resource) => ({
      kind: "leak",
      nameunit: "re0",
      resource,
    })),
  );
  assert.is(bus.dmaLive.size + bus.listeners(11), 0);
  assert.is(command(), 0);
  bus.setLine(11, true);
  bus.poll();
  assert.is(runs, 0);
  assert.is(
    codeOf(() => kept.space?.read4(0)),
    "EINVAL",
  );
  assert.is(
    codeOf(() => kept.memory?.read8(0)),
    "EINVAL",
  );
  newbus.scan();
  assert.ok(newbus.tree(), "and all of it can be allocated again");
  assert.is(find(newbus.tree(), (d) => d.nameunit === "re0")?.state, "attached");
});

test("PRB-024 decode bits that firmware had set stay as they were found", () => {
  const { bus, newbus, command } = rig(
    (dev) => {
      dev.resources.use(dev.bus.alloc("memory", 0x14));
      dev.bus.enableBusMaster(true);
    },
    {},
    { ...CARD, config: { ...CARD.config, 4: 0x0010_0001 } },
  );
  assert.is(command(), 0x0007);
  newbus.detach("re0");
  assert.is(command(), 0x0001);
  assert.is(bus.config(BDF, 0x14, 4), 0xfebd1000);
});

test("PRB-037 shutdown leaves bus mastering off and interrupts disabled", () => {
  for (const way of ["intx", "msi", "msix"] as const) {
    let runs = 0;
    const { bus, newbus, command } = rig((dev) => {
      const { bus: pci, resources } = dev;
      pci.enableBusMaster(true);
      resources.use(pci.alloc("memory", 0x14));
      const [irq] = way === "intx" ? [pci.allocIntx()] : way === "msi" ? pci.allocMsi(1) : pci.allocMsix(1);
      resources.use(pci.setupIntr(resources.use(irq!), { handler: () => runs++ }));
    });
    newbus.shutdown();
    assert.is(command() & 0x0404, 0x0400);
    assert.is((bus.config(BDF, 0x52, 2) & 1) + (bus.config(BDF, 0x72, 2) & 0x8000), 0);
    bus.setLine(11, true);
    bus.poll();
    assert.is(runs, 0);
    assert.is(find(newbus.tree(), (d) => d.nameunit === "re0")?.state, "attached");
    newbus.detach("re0");
  }
});

test("PRB-067 after surprise removal reads are all ones, writes vanish, no handler runs, allocations are refused", () => {
  let runs = 0;
  const spaces: BusSpace[] = [];
  const story: string[] = [];
  const bus = new FakeBus([CARD]);
  const newbus = new Newbus(bus);
  let pci: PciAttach | null = null;
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    pnp: [{ vendor: 0x10ec }],
    probe: () => ({ priority: -20, desc: "" }),
    attach: (dev) => {
      pci = dev.bus;
      const tag = dev.resources.use(dev.bus.dmaTag());
      spaces.push(dev.resources.use(dev.bus.alloc("memory", 0x14)), dev.resources.use(dev.bus.alloc("ioport", 0x10)));
      dev.resources.use(dev.bus.setupIntr(dev.resources.use(dev.bus.allocIntx()), { handler: () => runs++ }));
      dev.resources.defer(() => {
        const gone = (fn: () => unknown) =>
          assert.throws(fn, (e: unknown) => e instanceof DeviceGoneError && e.code === "ENXIO");
        gone(() => dev.bus.alloc("memory", 0x18));
        gone(() => dev.bus.allocMsi(1));
        gone(() => dev.bus.dmaTag());
        gone(() => tag.alloc(16));
        gone(() => tag.load([{ paddr: 0x100000, len: 1 }]));
      });
    },
    detach: (dev, _softc, why) => {
      bus.log.length = 0;
      for (const space of spaces) {
        story.push([space.read1(0), space.read2(0), space.read4(0)].map((v) => v.toString(16)).join());
        space.write4(0, 1);
      }
      story.push(why, dev.bus.readConfig(0, 2).toString(16), dev.state);
      dev.bus.writeConfig(4, 2, 7);
      bus.setLine(11, true);
      bus.poll();
    },
  });
  newbus.scan();
  bus.unplug(BDF);
  bus.plug({ ...CARD, config: { ...CARD.config, 0: 0x43211af4 } }); // another card in the slot hears nothing of it
  newbus.rescan();
  assert.equal(story, ["ff,ffff,ffffffff", "ff,ffff,ffffffff", "surprise", "ffff", "detaching"]);
  assert.not.ok(
    bus.log.some((line) => /^([mi][rw]|cw 20 04 2 7$)/.test(line)),
    bus.log.join("\n"),
  );
  assert.is(runs, 0);
  assert.throws(
    () => (pci as unknown as PciAttach).allocIntx(),
    (e: unknown) => e instanceof DeviceGoneError,
  );
});

// ------------------------------------------------------------------------------------------------ power and bridges

test("power states: what the function lacks is EOPNOTSUPP, and D3hot keeps the configuration", () => {
  const { bus, pci, command } = rig((dev) => dev.bus.alloc("memory", 0x14));
  assert.is(pci.getPowerState(), 0);
  for (const state of [4, -1, 1.5])
    assert.is(
      codeOf(() => pci.setPowerState(state)),
      "EOPNOTSUPP",
    );
  const before = bus.now();
  pci.setPowerState(3);
  assert.is(pci.getPowerState(), 3);
  assert.ok(bus.now() - before >= 10_000_000, "10 ms");
  for (const [offset, value] of [
    [0x04, 0],
    [0x10, 1],
    [0x14, 0],
    [0x18, 0xc],
    [0x3c, 0x0100],
  ] as const)
    bus.setConfig(BDF, offset, offset === 0x04 ? 2 : 4, value); // a soft reset
  pci.setPowerState(0);
  assert.equal(
    [0x10, 0x14, 0x18].map((at) => bus.config(BDF, at, 4)),
    [0xc001, 0xfebd1000, 0xfe00000c],
  );
  assert.equal([command() & 3, bus.config(BDF, 0x3c, 1)], [2, 11]);
  const none = withCaps({});
  assert.is(none.getPowerState(), 0);
  none.setPowerState(0);
  assert.is(
    codeOf(() => none.setPowerState(3)),
    "EOPNOTSUPP",
  );
  const simple = withCaps({ 52: 0x40, 64: 0x0003_0001 });
  assert.equal(
    [1, 2].map((state) => codeOf(() => simple.setPowerState(state))),
    ["EOPNOTSUPP", "EOPNOTSUPP"],
  );
});

test("PRB-036 suspend and resume give a card back its BARs, command and messages", () => {
  for (const way of ["msi", "msix"] as const) {
    let runs = 0;
    const { bus, newbus } = rig((dev) => {
      const { bus: pci } = dev;
      pci.enableBusMaster(true);
      pci.alloc("memory", 0x14);
      const [irq] = way === "msi" ? pci.allocMsi(1) : pci.allocMsix(1);
      pci.setupIntr(irq!, { handler: () => runs++ });
    });
    const image = () => Array.from({ length: 64 }, (_, i) => bus.config(BDF, 4 * i, 4));
    const before = image();
    newbus.suspend();
    assert.is(bus.config(BDF, 0x44, 2) & 3, 3);
    for (const [offset, width, value] of [
      [0x04, 2, 0],
      [0x14, 4, 0],
      [0x52, 2, 0x84],
      [0x54, 4, 0],
      [0x5c, 2, 0],
      [0x72, 2, 2],
    ] as const)
      bus.setConfig(BDF, offset, width, value);
    bus.regs(BDF, 1).fill(0);
    newbus.resume();
    assert.equal(image(), before, way);
    assert.is(bus.fire(BDF, 0), true);
    bus.poll();
    assert.is(runs, 1);
  }
});

test("any configuration space is scanned, allocated and suspended without a throw or a hang", () => {
  const bytes = fc.array(fc.tuple(fc.nat(63), fc.oneof(fc.constant(0xffffffff), fc.nat(0xffffffff))), {
    maxLength: 24,
  });
  const driver: Driver<PciProbe, PciAttach> = {
    name: "fuzz",
    bus: PCI,
    probe: (view) => {
      for (let id = 0; id < 0x14; id++)
        for (let at = view.findCap(id), n = 0; at !== null; at = view.findCap(id, at)) assert.ok(n++ < 48);
      return { priority: -20, desc: "" };
    },
    attach: ({ bus: pci, resources }) => {
      const tries: (() => unknown)[] = [
        ...[0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30].flatMap((rid) =>
          (["memory", "ioport"] as const).map((type) => () => resources.use(pci.alloc(type, rid)).read4(0)),
        ),
        () => pci.allocMsix(8).map((irq) => resources.use(pci.setupIntr(irq, { handler: () => {} }))),
        () => pci.allocMsi(8),
        () => pci.allocIntx(),
        () => pci.setPowerState(3),
      ];
      for (const attempt of tries)
        try {
          attempt();
        } catch (error) {
          if (!(error instanceof BusError)) throw error;
        }
    },
  };
  fc.assert(
    fc.property(bytes, bytes, (first, mask) => {
      const config = { 0: 0x816810ec, ...Object.fromEntries(first.map(([at, value]) => [at * 4, value])) };
      const bus = new FakeBus([
        { bdf: BDF, config, writable: Object.fromEntries(mask.map(([at, value]) => [at * 4, value])) },
      ]);
      const failures: unknown[] = [];
      const newbus = new Newbus(bus);
      newbus.on((e) => e.kind === "attach-failed" && failures.push(e.error));
      newbus.register(driver);
      newbus.scan();
      newbus.suspend();
      newbus.resume();
      newbus.rescan();
      newbus.shutdown();
      assert.equal(failures, []);
    }),
  );
});

test.run();
