import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Device, type Irq, Newbus, PCI, type PciAttach, type PciProbe } from "./index.js";
import { FakeBus } from "./testing/fake-bus.js";
import { BDF, CARD } from "./testing/fake-card.js";
import { codeOf, rig, withCaps } from "./testing/pci-rig.js";

// ------------------------------------------------------------------------------------------------ interrupts

test("PRB-042 INTx is shared between functions, and exclusive use of a shared line is EBUSY", () => {
  const bus = new FakeBus([CARD, { ...CARD, bdf: 0x28, config: { ...CARD.config, 16: 0, 20: 0, 24: 0xc } }]);
  const newbus = new Newbus(bus);
  const functions: PciAttach[] = [];
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    probe: () => ({ priority: -20, desc: "" }),
    attach: (dev) => void functions.push(dev.bus),
  });
  newbus.scan();
  const [a, b] = functions as [PciAttach, PciAttach];
  const first = a.allocIntx();
  assert.equal([first.kind, first.rid, first.number], ["intx", 0, 11]);
  assert.is(
    codeOf(() => a.allocIntx()),
    "EBUSY",
    "twice on one function",
  );
  assert.is(
    codeOf(() => b.allocIntx({ exclusive: true })),
    "EBUSY",
  );
  const second = b.allocIntx();
  first[Symbol.dispose]();
  second[Symbol.dispose]();
  const alone = b.allocIntx({ exclusive: true });
  assert.is(
    codeOf(() => a.allocIntx()),
    "EBUSY",
  );
  alone[Symbol.dispose]();
  a.allocIntx();
});

test("a function without a pin, or without a routed line, has no INTx", () => {
  for (const line of [0x000b, 0x0100, 0x01ff, 0x0180, 0x050b])
    assert.is(
      codeOf(() => rig(() => null, {}, { ...CARD, config: { ...CARD.config, 60: line } }).pci.allocIntx()),
      "ENXIO",
    );
});

test("PRB-052 an interrupt between handler setup and the end of attach is delivered", () => {
  let runs = 0;
  const bus = new FakeBus([CARD]);
  const newbus = new Newbus(bus);
  newbus.register<PciProbe, PciAttach>({
    name: "re",
    bus: PCI,
    probe: () => ({ priority: -20, desc: "" }),
    attach: (dev) => {
      const irq = dev.resources.use(dev.bus.allocIntx());
      dev.resources.use(
        dev.bus.setupIntr(irq, {
          filter: () => {
            bus.setLine(11, false);
            return "schedule";
          },
          handler: () => runs++,
        }),
      );
      bus.setLine(11, true);
      dev.bus.machine.delay(10);
      assert.is(runs, 1, "delivered while attach waits");
      bus.setLine(11, true);
    },
  });
  newbus.scan();
  newbus.poll();
  assert.is(runs, 2, "and what came at its end is not lost");
});

test("PRB-047 MSI gives a power of two, at most what was asked for and what the function has", () => {
  for (const [asked, given] of [
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 4],
    [32, 4],
  ] as const) {
    const { bus, pci } = rig((dev) => dev.bus.enableBusMaster(true));
    bus.nextData = 0x31; // nothing is aligned by chance
    const irqs = pci.allocMsi(asked);
    assert.is(irqs.length, given);
    assert.equal(
      irqs.map(({ kind, rid }) => [kind, rid]),
      Array.from({ length: given }, (_, i) => ["msi", i + 1]),
    );
    assert.is(bus.messagesLive, given, "what did not fit was given back");
    assert.is((bus.config(BDF, 0x52, 2) >> 4) & 7, Math.log2(given));
    assert.is(irqs[0]!.number % given, 0);
    const got: number[] = [];
    for (const irq of irqs) pci.setupIntr(irq, { handler: () => got.push(irq.rid) });
    for (let i = 0; i < given; i++) assert.is(bus.fire(BDF, i), true);
    bus.poll();
    assert.equal(
      got,
      irqs.map(({ rid }) => rid),
    );
  }
});

test("PRB-047 MSI-X gives at most what was asked for, what the table has and what the machine has", () => {
  const map = (dev: Device<PciAttach>) => dev.resources.use(dev.bus.alloc("memory", 0x14));
  for (const [asked, left, given] of [
    [1, 64, 1],
    [3, 64, 3],
    [9, 64, 3],
    [3, 2, 2],
  ] as const) {
    const { bus, pci } = rig(map);
    bus.messagesLeft = left;
    assert.is(pci.allocMsix(asked).length, given);
  }
  const { bus, pci } = rig(map);
  bus.messagesLeft = 0;
  assert.is(
    codeOf(() => pci.allocMsix(1)),
    "ENXIO",
  );
  assert.is(
    codeOf(() => pci.allocMsi(1)),
    "ENXIO",
  );
  for (const n of [0, -1, 1.5, Number.NaN]) {
    assert.is(
      codeOf(() => pci.allocMsi(n)),
      "EINVAL",
    );
    assert.is(
      codeOf(() => pci.allocMsix(n)),
      "EINVAL",
    );
  }
  assert.equal([pci.msiCount(), pci.msixCount()], [4, 3]);
  const none = withCaps({});
  assert.equal([none.msiCount(), none.msixCount()], [0, 0]);
  assert.equal([codeOf(() => none.allocMsi(1)), codeOf(() => none.allocMsix(1))], ["ENXIO", "ENXIO"]);
});

test("PRB-047 INTx, MSI and MSI-X exclude each other", () => {
  const { pci } = rig((dev) => dev.resources.use(dev.bus.alloc("memory", 0x14)));
  const ways: Record<string, () => Irq[]> = {
    intx: () => [pci.allocIntx()],
    msi: () => pci.allocMsi(1),
    msix: () => pci.allocMsix(1),
  };
  for (const [name, alloc] of Object.entries(ways)) {
    const irqs = alloc();
    for (const other of Object.values(ways)) assert.is(codeOf(other), "EBUSY", name);
    for (const irq of irqs) irq[Symbol.dispose]();
  }
});

test("PRB-048 MSI-X is ENXIO while the BAR of its table is not allocated by the driver", () => {
  const { pci, bus } = rig();
  assert.is(
    codeOf(() => pci.allocMsix(1)),
    "ENXIO",
  );
  const space = pci.alloc("memory", 0x14);
  assert.is(
    codeOf(() => pci.allocMsix(1).map((irq) => irq[Symbol.dispose]())),
    "ok",
  );
  space[Symbol.dispose]();
  assert.is(
    codeOf(() => pci.allocMsix(1)),
    "ENXIO",
  );
  assert.is(bus.messagesLive, 0);
});

test("PRB-048 a table that leaves its BAR, or lies in ports, is ENXIO", () => {
  for (const table of [0x0000_0fd8 + 1, 0x0000_0000]) {
    const { pci } = rig(
      (dev) => {
        dev.resources.use(dev.bus.alloc("memory", 0x14));
        dev.resources.use(dev.bus.alloc("ioport", 0x10));
      },
      {},
      { ...CARD, config: { ...CARD.config, 116: table } },
    );
    assert.is(
      codeOf(() => pci.allocMsix(1)),
      "ENXIO",
    );
  }
});

test("PRB-049 INTx-disable is set while messages are allocated and goes back to what it was", () => {
  for (const before of [0, 0x0400]) {
    const { bus, pci, command } = rig((dev) => dev.resources.use(dev.bus.alloc("memory", 0x14)));
    bus.setConfig(BDF, 0x04, 2, (command() & ~0x0400) | before);
    for (const alloc of [() => pci.allocMsi(2), () => pci.allocMsix(2)]) {
      const irqs = alloc();
      assert.is(command() & 0x0400, 0x0400);
      irqs[0]![Symbol.dispose]();
      assert.is(command() & 0x0400, 0x0400, "one is left");
      irqs[1]![Symbol.dispose]();
      assert.is(command() & 0x0400, before);
    }
  }
});

test("messages reach their handlers, MSI-X vectors are masked until they have one", () => {
  const { bus, pci } = rig((dev) => {
    dev.resources.use(dev.bus.alloc("memory", 0x14));
    dev.bus.enableBusMaster(true);
  });
  for (const entry of [0, 16, 32])
    bus.regs(BDF, 1).set([0, 0x10, 0xe0, 0xfe, 0, 0, 0, 0, 0x31, 0, 0, 0, 0, 0, 0, 0], entry); // as a former driver left it: open
  const irqs = pci.allocMsix(2);
  assert.is(bus.config(BDF, 0x72, 2) & 0xc000, 0x8000);
  assert.equal(
    [0, 1, 2].map((n) => bus.fire(BDF, n)),
    [false, false, false],
  );
  const got: string[] = [];
  const zero = pci.setupIntr(irqs[0]!, { handler: () => got.push("zero") });
  const one = pci.setupIntr(irqs[1]!, { handler: () => got.push("one") });
  assert.equal(
    [0, 1, 2].map((n) => bus.fire(BDF, n)),
    [true, true, false],
  );
  bus.poll();
  assert.equal(got.splice(0), ["zero", "one"]);
  zero[Symbol.dispose]();
  assert.equal([bus.fire(BDF, 0), bus.fire(BDF, 1)], [false, true]);
  irqs[1]![Symbol.dispose]();
  one[Symbol.dispose]();
  bus.poll();
  assert.equal(got, [], "torn down before it was delivered");
  irqs[0]![Symbol.dispose]();
  assert.is(bus.config(BDF, 0x72, 2) & 0x8000, 0);
});

test("setupIntr refuses a stranger's interrupt, one that was released, and a handler that is none", () => {
  const { pci } = rig();
  const irq = pci.allocIntx();
  assert.is(
    codeOf(() => pci.setupIntr(irq, {})),
    "EINVAL",
  );
  assert.is(
    codeOf(() => pci.setupIntr({ ...irq, [Symbol.dispose]: () => {} }, { handler: () => {} })),
    "EINVAL",
  );
  irq[Symbol.dispose]();
  assert.is(
    codeOf(() => pci.setupIntr(irq, { handler: () => {} })),
    "EINVAL",
  );
});

test.run();
