import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  AttachError,
  BUS_PASS_SUPPORTDEV,
  BUS_PROBE_NOWILDCARD,
  type BusClass,
  BusError,
  type BusEvent,
  type ChildHooks,
  type DetachReason,
  type Device,
  DeviceGoneError,
  type DeviceInfo,
  type Driver,
  Newbus,
  type NewbusOptions,
  PCI,
  type PciAttach,
  type PciProbe,
  ROOT,
  type RootChild,
} from "./index.js";
import { FakeBus, type FakeFunction } from "./testing/fake-bus.js";

/** A bus of nothing but names: children are put on it by hand. */
interface Thing {
  readonly name: string;
  readonly vendor?: number;
}
const thingClass = (name: string, parent?: BusClass<Thing, Thing>): BusClass<Thing, Thing> => ({
  name,
  ...(parent !== undefined && { parent }),
  pnpinfo: (view) => `name=${view.name}`,
  location: (view) => `place=${view.name}`,
  matches: (view, { vendor, device }) =>
    (vendor === undefined || vendor === view.vendor) && (device === undefined || device === 1),
});
const BASE = thingClass("base");
const THING = thingClass("thing", BASE);

/** A tree without PCI functions: root0 → tb0, whose children are the things. */
const rig = (
  things: readonly (Thing & ChildHooks)[],
  options: NewbusOptions = {},
  busClass = THING,
  functions: readonly FakeFunction[] = [],
) => {
  const log: string[] = [];
  const events: BusEvent[] = [];
  const newbus = new Newbus(new FakeBus(functions), { log: (line) => log.push(line), ...options });
  newbus.on((event) => events.push(event));
  let hold: Device<RootChild> | null = null;
  const driver: Driver<RootChild, RootChild> = {
    name: "tb",
    bus: ROOT,
    pass: 10,
    identify: (add) => add({ name: "tb" }),
    probe: () => ({ priority: 0, desc: "Things" }),
    attach(dev) {
      hold = dev;
      const children = things.map(({ driver, unit, ...thing }) =>
        dev.addChild(busClass, thing, { ...(driver !== undefined && { driver }), ...(unit !== undefined && { unit }) }),
      );
      for (const child of children) child.probeAndAttach();
    },
  };
  const registration = newbus.register(driver);
  const tb = () => newbus.tree().children.find((d) => d.nameunit === "tb0")?.children ?? [];
  return {
    newbus,
    log,
    events,
    registration,
    driver,
    bus: () => hold as unknown as Device<RootChild>,
    /** nameunits of the things, in order */
    names: () => tb().map((d) => d.nameunit),
    states: () => tb().map((d) => d.state),
    of: (kind: BusEvent["kind"]) => events.filter((e) => e.kind === kind && !(e.nameunit ?? "").match(/^(pci|tb)/)),
  };
};

/** A driver for things that bids `priority`, and tells `story` what happens. */
const thing = (
  name: string,
  priority: number,
  more: Partial<Driver<Thing, Thing, unknown>> = {},
  story: string[] = [],
): Driver<Thing, Thing, unknown> => ({
  name,
  bus: THING,
  probe(view) {
    story.push(`${name} probe ${view.name}`);
    return { priority, desc: `${name} ${priority}` };
  },
  attach: (dev) => void story.push(`${dev.nameunit} attach`),
  detach: (dev, _softc, why) => void story.push(`${dev.nameunit} detach ${why}`),
  ...more,
});

const codeOf = (fn: () => unknown): string => {
  try {
    fn();
    return "ok";
  } catch (error) {
    return error instanceof BusError ? error.code : (error as Error).name;
  }
};

const card = (bdf: number, config: FakeFunction["config"] = {}): FakeFunction => ({
  bdf,
  config: { 0: 0x816710ec, 8: 0x02000010, 16: 0xc000 + (bdf >> 3) * 0x100, 60: 0x010b, ...config },
  bars: { 0: { kind: "io", size: 0x100 } },
});
const re = (more: Partial<Driver<PciProbe, PciAttach, unknown>> = {}): Driver<PciProbe, PciAttach, unknown> => ({
  name: "re",
  bus: PCI,
  pnp: [{ vendor: 0x10ec }],
  probe: () => ({ priority: -20, desc: "RealTek" }),
  attach: () => null,
  ...more,
});
const find = (info: DeviceInfo, test: (d: DeviceInfo) => boolean): DeviceInfo | undefined =>
  test(info) ? info : info.children.map((child) => find(child, test)).find((found) => found !== undefined);

// ------------------------------------------------------------------------------------------------ registration

test("PRB-001 a driver without a name is EINVAL, a second of the same name on the same bus EBUSY", () => {
  const { newbus } = rig([]);
  assert.is(
    codeOf(() => newbus.register(thing("", -20))),
    "EINVAL",
  );
  newbus.register(thing("a", -20));
  assert.is(
    codeOf(() => newbus.register(thing("a", -10))),
    "EBUSY",
  );
  assert.is(
    codeOf(() => newbus.register(thing("a", -20, { bus: BASE }))),
    "ok",
    "another bus",
  );
});

test("PRB-002 registering probes what has no driver and leaves the attached alone", () => {
  const { newbus, names } = rig([{ name: "x" }, { name: "y" }]);
  const story: string[] = [];
  newbus.register(thing("a", -20, { probe: (v) => (v.name === "x" ? { priority: -20, desc: "" } : null) }, story));
  newbus.scan();
  assert.equal(names(), ["a0", null]);
  newbus.register(thing("b", -10, {}, story));
  assert.equal(names(), ["a0", "b0"]);
  assert.equal(story, ["a0 attach", "b probe y", "b0 attach"]);
});

test("PRB-003 disposing a registration detaches all its devices", () => {
  const { newbus, names, of } = rig([{ name: "x" }, { name: "y" }]);
  const story: string[] = [];
  const registration = newbus.register(thing("a", -20, {}, story));
  newbus.scan();
  story.length = 0;
  registration[Symbol.dispose]();
  registration[Symbol.dispose]();
  assert.equal(story, ["a1 detach unload", "a0 detach unload"]);
  assert.equal(names(), [null, null]);
  assert.is(of("nomatch").length, 2);
  newbus.register(thing("a", -20)); // the name is free again
  assert.equal(names(), ["a0", "a1"]);
});

test("PRB-003 one refusal leaves the registration and the refusing device as they are", () => {
  const { newbus, names } = rig([{ name: "x" }, { name: "y" }]);
  let refuse = true;
  const registration = newbus.register(
    thing("a", -20, {
      detach: (dev) => {
        if (refuse && dev.unit === 0) throw new BusError("EBUSY", "in use");
      },
    }),
  );
  newbus.scan();
  assert.is(
    codeOf(() => registration[Symbol.dispose]()),
    "EBUSY",
  );
  assert.is(names()[0], "a0");
  assert.is(
    codeOf(() => newbus.register(thing("a", -20))),
    "EBUSY",
    "still registered",
  );
  refuse = false;
  registration[Symbol.dispose]();
  assert.equal(names(), [null, null]);
});

// ------------------------------------------------------------------------------------------------ identify

test("PRB-006 identify runs once per driver and bus instance and adds nothing twice", () => {
  const { newbus, names, bus } = rig([{ name: "x" }]);
  let runs = 0;
  const pest: Driver<Thing, Thing> = {
    name: "pest",
    bus: THING,
    identify: (add) => {
      runs++;
      add({ name: "p" });
      add({ name: "p" }); // as a driver that is loaded again would
    },
    probe: (view) => (view.name === "p" ? { priority: -20, desc: "" } : null),
    attach: () => {},
  };
  const registration = newbus.register(pest);
  newbus.scan();
  newbus.scan();
  newbus.rescan();
  assert.is(runs, 1);
  assert.equal(names(), [null, "pest0"]);
  registration[Symbol.dispose]();
  newbus.register(pest);
  assert.is(runs, 2, "a driver that was loaded again");
  assert.equal(names(), [null, "pest0"]);
  newbus.detach(bus().nameunit);
  newbus.scan();
  assert.is(runs, 3, "a bus that was attached again");
  assert.equal(names(), [null, "pest0"]);
});

// ------------------------------------------------------------------------------------------------ election

test("PRB-008 a probe that throws is logged and is no bid", () => {
  const { newbus, names, log } = rig([{ name: "x" }]);
  newbus.register(
    thing("bad", -10, {
      probe: () => {
        throw new Error("oops");
      },
    }),
  );
  newbus.register(thing("good", -40));
  newbus.scan();
  assert.equal(names(), ["good0"]);
  assert.ok(log.some((line) => line.includes("bad") && line.includes("oops")));
});

test("PRB-009 a bid of 0 ends the election", () => {
  const { newbus, names } = rig([{ name: "x" }]);
  const story: string[] = [];
  newbus.register(thing("early", -10, {}, story));
  newbus.register(thing("specific", 0, {}, story));
  newbus.register(thing("late", 0, {}, story));
  newbus.scan();
  assert.equal(names(), ["specific0"]);
  assert.equal(story, ["early probe x", "specific probe x", "specific0 attach"]);
});

test("PRB-010 the numerically largest bid wins, in any order of registration", () => {
  const bids = fc.uniqueArray(fc.integer({ min: -1_000_000, max: -1 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(bids, (priorities) => {
      const { newbus, names } = rig([{ name: "x" }]);
      for (const priority of priorities) newbus.register(thing(`d${-priority}_`, priority));
      newbus.scan();
      assert.equal(names(), [`d${-Math.max(...priorities)}_0`]);
    }),
    { numRuns: 40 },
  );
  const { newbus, names } = rig([{ name: "x" }]);
  newbus.register(thing("default", -20));
  newbus.register(thing("vendor", -10));
  newbus.scan();
  assert.equal(names(), ["vendor0"], "-10 beats -20");
  const match = rig([{ name: "x", vendor: 7 }]);
  match.newbus.register(thing("long", -20, { pnp: [{ vendor: 7, device: 1 }] }));
  match.newbus.register(thing("vendor", -10));
  match.newbus.scan();
  assert.equal(match.names(), ["vendor0"], "whatever the match tables say");
});

test("PRB-011 equal bids go to the longer match, then to the first registered", () => {
  for (let run = 0; run < 3; run++) {
    const { newbus, names } = rig([{ name: "x", vendor: 7 }]);
    newbus.register(thing("none", -20));
    newbus.register(thing("short", -20, { pnp: [{ vendor: 7 }] }));
    newbus.register(
      thing("long", -20, {
        pnp: [
          { vendor: 9, device: 1 },
          { vendor: 7, device: 1 },
        ],
      }),
    );
    newbus.register(thing("longtoo", -20, { pnp: [{ vendor: 7, device: 1 }] }));
    newbus.scan();
    assert.equal(names(), ["long0"]);
  }
  const { newbus, names } = rig([{ name: "x" }]);
  newbus.register(thing("first", -20));
  newbus.register(thing("second", -20));
  newbus.scan();
  assert.equal(names(), ["first0"]);
});

test("PRB-012 a bid at NOWILDCARD wins only the child that the bus made for that driver", () => {
  const { newbus, names } = rig([{ name: "x" }, { name: "y", driver: "shy" }]);
  newbus.register(thing("shy", BUS_PROBE_NOWILDCARD));
  newbus.scan();
  assert.equal(names(), [null, "shy0"]);
  const below = rig([{ name: "x" }]);
  below.newbus.register(thing("shyer", -2_000_000_001));
  below.newbus.scan();
  assert.equal(below.names(), [null]);
});

test("PRB-013 a positive or NaN bid is EINVAL in the log and no bid", () => {
  const { newbus, names, log, of } = rig([{ name: "x" }]);
  newbus.register(thing("eager", 1));
  newbus.register(thing("confused", Number.NaN));
  newbus.scan();
  assert.equal(names(), [null]);
  assert.is(log.filter((line) => line.includes("EINVAL")).length, 2);
  assert.is(of("nomatch").length, 1);
});

test("PRB-014 a child with a fixed class is offered to drivers of that name only", () => {
  const { newbus, names } = rig([{ name: "x", driver: "b" }]);
  const story: string[] = [];
  newbus.register(thing("a", -10, {}, story));
  newbus.register(thing("b", -100, {}, story));
  newbus.scan();
  assert.equal(names(), ["b0"]);
  assert.equal(story, ["b probe x", "b0 attach"]);
});

test("PRB-015 the bus's own drivers are asked before, and together with, those of the class it is derived from", () => {
  const story: string[] = [];
  const first = rig([{ name: "x" }]);
  first.newbus.register(thing("inherited", -20, { bus: BASE }, story));
  first.newbus.register(thing("own", -20, {}, story));
  first.newbus.scan();
  assert.equal(first.names(), ["own0"], "a tie goes to the own class");
  assert.equal(story, ["own probe x", "inherited probe x", "own0 attach"]);
  const second = rig([{ name: "x" }]);
  second.newbus.register(thing("inherited", -10, { bus: BASE }));
  second.newbus.register(thing("own", -20));
  second.newbus.scan();
  assert.equal(second.names(), ["inherited0"], "a better bid wins all the same");
  const third = rig([{ name: "x" }], {}, BASE);
  third.newbus.register(thing("derived", -10));
  third.newbus.scan();
  assert.equal(third.names(), [null], "not the other way round");
});

test("PRB-016 without a bidder there is one nomatch, until a new driver registers", () => {
  const { newbus, states, of } = rig([{ name: "x" }]);
  newbus.scan();
  newbus.scan();
  newbus.rescan();
  assert.equal(states(), ["notpresent"]);
  assert.is(of("nomatch").length, 1);
  newbus.register(thing("other", -20, { probe: () => null }));
  assert.is(of("nomatch").length, 2);
  newbus.scan();
  assert.is(of("nomatch").length, 2);
});

test("PRB-017 a driver of a later pass is not probed until setPass reaches it", () => {
  const { newbus, names, of } = rig([{ name: "x" }], { maxPass: 10 });
  const story: string[] = [];
  newbus.register(thing("late", -20, { pass: BUS_PASS_SUPPORTDEV }, story));
  newbus.scan();
  assert.equal([story, names(), of("nomatch").length], [[], [null], 0]);
  newbus.setPass(BUS_PASS_SUPPORTDEV - 1);
  assert.equal(story, []);
  newbus.setPass(BUS_PASS_SUPPORTDEV);
  assert.equal(story, ["late probe x", "late0 attach"]);
  assert.is(
    codeOf(() => newbus.setPass(10)),
    "EINVAL",
  );
});

test("PRB-017 an earlier pass takes what a better bidder of a later one would have liked", () => {
  const { newbus, names } = rig([{ name: "x" }]);
  newbus.register(thing("late", -10));
  newbus.register(thing("early", -100, { pass: 20 }));
  newbus.scan();
  assert.equal(names(), ["early0"]);
});

test("PRB-018 the description is the winner's", () => {
  const { newbus, log } = rig([{ name: "x" }]);
  newbus.register(thing("winner", -10));
  newbus.register(thing("loser", -20));
  newbus.scan();
  assert.is(find(newbus.tree(), (d) => d.nameunit === "winner0")?.desc, "winner -10");
  assert.ok(log.includes("winner0: <winner -10> on tb0"));
});

// ------------------------------------------------------------------------------------------------ units and hints

test("PRB-019 a device that a hint disables is never attached and not alive, and keeps its unit", () => {
  const { newbus, names, states, log } = rig([{ name: "x" }, { name: "y" }], { hints: { "hint.a.0.disabled": "1" } });
  const story: string[] = [];
  newbus.register(thing("a", -20, {}, story));
  newbus.scan();
  newbus.scan();
  assert.equal(
    [names(), states()],
    [
      ["a0", "a1"],
      ["notpresent", "attached"],
    ],
  );
  assert.equal(
    story.filter((line) => line.endsWith("attach")),
    ["a1 attach"],
  );
  assert.equal(find(newbus.tree(), (d) => d.nameunit === "a0")?.flags, ["disabled"]);
  assert.ok(log.includes("a0: disabled via hints entry"));
  assert.is(
    codeOf(() => newbus.detach("a0")),
    "ENXIO",
  );
});

test("PRB-020 units are the lowest free number, decimal, and are used again", () => {
  const { newbus, names } = rig(Array.from({ length: 11 }, (_, i) => ({ name: `x${i}` })));
  newbus.register(thing("re", -20));
  newbus.scan();
  assert.equal(names(), ["re0", "re1", "re2", "re3", "re4", "re5", "re6", "re7", "re8", "re9", "re10"]);
  newbus.detach("re0");
  newbus.detach("re3");
  assert.equal(names()[0], null);
  newbus.scan();
  assert.equal([names()[0], names()[3]], ["re0", "re3"]);
});

test("PRB-021 a hint keeps a unit for its place and gives it to no other", () => {
  const cards = [card(0x18), card(0x20), card(0x28)]; // 00:03.0, 00:04.0, 00:05.0
  const place = (newbus: Newbus, unit: string) =>
    find(newbus.tree(), (d) => d.nameunit === unit)?.location.split(" ")[0];
  for (const at of ["pci0:4:0", "pci0:0:4:0"]) {
    const newbus = new Newbus(new FakeBus(cards), { hints: { "hint.re.1.at": at } });
    newbus.register(re());
    newbus.scan();
    assert.equal(
      ["re0", "re1", "re2"].map((unit) => place(newbus, unit)),
      ["slot=3", "slot=4", "slot=5"],
    );
  }
  const absent = new Newbus(new FakeBus(cards), { hints: { "hint.re.0.at": "pci0:9:0", "hint.re.2.at": "pci0:3:0" } });
  absent.register(re());
  absent.scan();
  assert.equal(
    ["re0", "re1", "re2", "re3"].map((unit) => place(absent, unit)),
    [undefined, "slot=4", "slot=3", "slot=5"],
  );
});

test("PRB-021 a hint may name the bus, and hints that are none are refused", () => {
  const { newbus, names } = rig([{ name: "x" }, { name: "y" }], {
    hints: { "hint.a.0.at": "tb7", "hint.a.1.at": "tb0" },
  });
  newbus.register(thing("a", -20));
  newbus.scan();
  assert.equal(names(), ["a1", "a2"]);
  assert.is(
    codeOf(() => new Newbus(new FakeBus(), { hints: { "hint.re.x.at": "pci0" } })),
    "ConfigError",
  );
});

test("PRB-022 units are unique across all buses of a driver's name", () => {
  const { newbus, names } = rig([{ name: "x" }, { name: "y" }], {}, THING, [card(0x18), card(0x20)]);
  newbus.register(thing("re", -20));
  newbus.register(re());
  newbus.scan();
  const units: string[] = [];
  const walk = (d: DeviceInfo): void => {
    if (d.nameunit?.startsWith("re") === true) units.push(d.nameunit);
    for (const child of d.children) walk(child);
  };
  walk(newbus.tree());
  assert.equal(units.sort(), ["re0", "re1", "re2", "re3"]);
  assert.is(names().length, 2);
});

test("a bus may ask for a unit", () => {
  const { newbus, names } = rig([
    { name: "x", unit: 4 },
    { name: "y", unit: 4 },
  ]);
  newbus.register(thing("a", -20));
  newbus.scan();
  assert.equal(names(), ["a4", "a0"]);
});

// ------------------------------------------------------------------------------------------------ attach

test("PRB-023 attach runs once at a time, and only for a device that won an election", () => {
  const { newbus, names } = rig([{ name: "x" }]);
  let depth = 0;
  let most = 0;
  const states: string[] = [];
  newbus.register(
    thing("a", -20, {
      attach: (dev) => {
        most = Math.max(most, ++depth);
        states.push(dev.state);
        newbus.scan(); // a walk of the tree from within
        newbus.register(thing("b", -10));
        newbus.rescan();
        depth--;
      },
    }),
  );
  newbus.scan();
  assert.equal([most, states, names()], [1, ["attaching"], ["a0"]]);
});

test("PRB-024 an attach that throws leaves nothing behind", () => {
  const bus = new FakeBus([
    {
      ...card(0x18, { 4: 0x00100000, 52: 0x40, 64: 0x00030011, 68: 0x00000001, 72: 0x00000801, 20: 0xfebd1000 }),
      bars: { 0: { kind: "io", size: 0x100 }, 1: { kind: "mem32", size: 0x1000 } },
      writable: { 64: 0xc000_0000 },
    },
  ]);
  const command = () => bus.config(0x18, 0x04, 2);
  const newbus = new Newbus(bus);
  let fail = true;
  newbus.register(
    re({
      attach(dev) {
        const { bus: pci, resources } = dev;
        pci.enableBusMaster(true);
        resources.use(pci.alloc("ioport", 0x10));
        resources.use(pci.alloc("memory", 0x14));
        const tag = resources.use(pci.dmaTag());
        resources.use(tag.alloc(4096));
        resources.use(tag.load([{ paddr: 0x10_0000, len: 16 }]));
        const [irq] = pci.allocMsix(2).map((i) => resources.use(i));
        resources.use(pci.setupIntr(irq!, { handler: () => {} }));
        assert.is(command() & 0x0407, 0x0407);
        if (fail) throw new Error("no cable");
      },
    }),
  );
  newbus.scan();
  assert.is(command(), 0, "bus master, decode and INTx disable as they were");
  assert.is(bus.dmaLive.size + bus.messagesLive, 0);
  assert.is(bus.config(0x18, 0x42, 2) & 0x8000, 0, "MSI-X off");
  assert.is(
    find(newbus.tree(), (d) => d.nameunit === "re0"),
    undefined,
    "the unit",
  );
  fail = false;
  newbus.scan();
  assert.is(find(newbus.tree(), (d) => d.nameunit === "re0")?.state, "attached");
});

test("PRB-025 an attach failure is told with an AttachError whose cause is the original", () => {
  const { newbus, of, log, states } = rig([{ name: "x" }, { name: "y" }]);
  const causes = [new BusError("ENXIO", "no such register"), new TypeError("a mistake")];
  newbus.register(
    thing("a", -20, {
      attach: () => {
        throw causes[of("attach-failed").length];
      },
    }),
  );
  newbus.scan();
  const errors = of("attach-failed").map((e) => (e.kind === "attach-failed" ? e.error : null));
  assert.ok(errors.every((error) => error instanceof AttachError));
  assert.equal(
    errors.map((error) => error?.cause),
    causes,
  );
  assert.is(errors[0]?.code, "ENXIO");
  assert.equal(states(), ["notpresent", "notpresent"]);
  assert.ok(log.includes("device_attach: a0 attach returned 6"));
});

test("PRB-026 no second bidder is tried after a failed attach unless tryNextOnFailure is set", () => {
  for (const [tryNextOnFailure, want] of [
    [false, null],
    [true, "second0"],
  ] as const) {
    const { newbus, names, of } = rig([{ name: "x" }], { tryNextOnFailure });
    const story: string[] = [];
    newbus.register(thing("second", -20, {}, story));
    newbus.register(
      thing("first", -10, {
        attach: () => {
          throw new BusError("EIO", "broken");
        },
      }),
    );
    newbus.scan();
    assert.equal(names(), [want]);
    assert.is(of("attach-failed").length, 1);
    assert.is(of("nomatch").length, 0, "there was a bidder");
  }
});

test("PRB-027 PRB-028 a device that goes while it attaches reads all ones, and is detached, never attached", () => {
  const bus = new FakeBus([card(0x18)]);
  const events: BusEvent[] = [];
  const newbus = new Newbus(bus);
  newbus.on((e) => events.push(e));
  const story: string[] = [];
  newbus.register(
    re({
      attach(dev) {
        const io = dev.resources.use(dev.bus.alloc("ioport", 0x10));
        bus.unplug(0x18);
        newbus.rescan();
        story.push(`reads ${io.read4(0).toString(16)}`, `state ${dev.state}`);
        assert.throws(
          () => dev.bus.allocIntx(),
          (e: unknown) => e instanceof DeviceGoneError,
        );
        return "softc";
      },
      detach: (dev, softc, why) => void story.push(`detach ${softc} ${why} ${dev.state}`),
    }),
  );
  newbus.scan();
  assert.equal(story, ["reads ffffffff", "state attaching", "detach softc surprise attaching"]);
  assert.equal(
    events.filter((e) => e.nameunit === "re0").map((e) => e.kind),
    ["attach-failed"],
  );
  assert.is(
    find(newbus.tree(), (d) => d.location.startsWith("slot=3")),
    undefined,
  );
});

// ------------------------------------------------------------------------------------------------ detach

test("PRB-029 detach is EBUSY while a token is held or attach runs, except for surprise", () => {
  const { newbus, states, names } = rig([{ name: "x" }]);
  let inside = "";
  let token: Disposable | null = null;
  newbus.register(
    thing("a", -20, {
      attach: (dev) => {
        inside = codeOf(() => newbus.detach("a0"));
        token = dev.busy();
      },
    }),
  );
  newbus.scan();
  assert.is(inside, "EBUSY");
  assert.equal(states(), ["busy"]);
  assert.is(
    codeOf(() => newbus.detach("a0")),
    "EBUSY",
  );
  (token as unknown as Disposable)[Symbol.dispose]();
  (token as unknown as Disposable)[Symbol.dispose]();
  assert.equal(states(), ["attached"]);
  newbus.detach("a0");
  assert.equal(names(), [null]);
  newbus.scan();
  assert.equal(states(), ["busy"]);
  newbus.detach("a0", "surprise");
  assert.equal(names(), [], "gone with its device");
});

test("PRB-030 a detach that throws EBUSY leaves the device attached and working, except for surprise", () => {
  const { newbus, states, names, events } = rig([{ name: "x" }]);
  let released = 0;
  newbus.register(
    thing("a", -20, {
      attach: (dev) => {
        dev.resources.defer(() => released++);
        return "working";
      },
      detach: () => {
        throw new BusError("EBUSY", "no");
      },
    }),
  );
  newbus.scan();
  assert.is(
    codeOf(() => newbus.detach("a0")),
    "EBUSY",
  );
  assert.equal([states(), released, newbus.softc("a0")], [["attached"], 0, "working"]);
  assert.throws(
    () => newbus.detach("a0", "surprise"),
    (e: unknown) => e instanceof AggregateError,
  );
  assert.equal([names(), released], [[], 1]);
  assert.ok(events.some((e) => e.kind === "detach" && e.nameunit === "a0"));
});

/** tb0 → mid0, mid1 → leaf0, leaf1, leaf2, leaf3: two leaves each. */
const deep = (story: string[], refuse = "") => {
  const r = rig([{ name: "m0" }, { name: "m1" }]);
  const LEAF = thingClass("leaf");
  const detach = (dev: Device<Thing>, _: unknown, why: DetachReason) => {
    story.push(`${dev.nameunit} ${why}`);
    if (dev.nameunit === refuse) throw new BusError("EBUSY", "no");
  };
  r.newbus.register(thing("leaf", -20, { bus: LEAF, detach }));
  r.newbus.register(
    thing("mid", -20, {
      attach: (dev) => {
        for (const name of ["l", "r"]) dev.addChild(LEAF, { name: `${dev.nameunit}${name}` }).probeAndAttach();
      },
      detach,
    }),
  );
  r.newbus.scan();
  return r;
};

test("PRB-031 detaching a bus detaches its children first, deepest first", () => {
  const story: string[] = [];
  const { newbus, bus } = deep(story);
  newbus.detach(bus().nameunit);
  assert.equal(story, ["leaf3 unload", "leaf2 unload", "mid1 unload", "leaf1 unload", "leaf0 unload", "mid0 unload"]);
  assert.equal(
    newbus.tree().children.find((d) => d.nameunit === "tb0"),
    undefined,
  );
});

test("PRB-031 it stops at the first refusal", () => {
  const story: string[] = [];
  const { newbus, bus, names } = deep(story, "leaf1");
  assert.is(
    codeOf(() => newbus.detach(bus().nameunit)),
    "EBUSY",
  );
  assert.equal(story, ["leaf3 unload", "leaf2 unload", "mid1 unload", "leaf1 unload"]);
  assert.equal(names(), ["mid0", null]);
  assert.is(bus().state, "attached");
  assert.is(find(newbus.tree(), (d) => d.nameunit === "leaf1")?.state, "attached");
});

test("PRB-032 resources go in exactly the reverse order, after detach and after a failed attach", () => {
  for (const fail of [false, true]) {
    const { newbus } = rig([{ name: "x" }]);
    const story: string[] = [];
    newbus.register(
      thing("a", -20, {
        attach: (dev) => {
          for (let i = 0; i < 4; i++) {
            if (i % 2 === 0) dev.resources.defer(() => story.push(`${i}`));
            else dev.resources.use({ [Symbol.dispose]: () => void story.push(`${i}`) });
          }
          if (fail) throw new BusError("EIO", "broken");
        },
        detach: () => void story.push("detach"),
      }),
    );
    newbus.scan();
    if (!fail) newbus.detach("a0");
    assert.equal(story, [...(fail ? [] : ["detach"]), "3", "2", "1", "0"]);
  }
});

test("PRB-033 when releases throw all are run and the errors are told together", () => {
  const { newbus, names } = rig([{ name: "x" }]);
  const story: number[] = [];
  newbus.register(
    thing("a", -20, {
      attach: (dev) => {
        for (let i = 0; i < 4; i++)
          dev.resources.defer(() => {
            story.push(i);
            if (i % 2 === 1) throw new Error(`release ${i}`);
          });
      },
    }),
  );
  newbus.scan();
  let thrown: unknown;
  try {
    newbus.detach("a0");
  } catch (error) {
    thrown = error;
  }
  assert.equal(story, [3, 2, 1, 0]);
  assert.ok(thrown instanceof AggregateError);
  assert.equal(
    (thrown as AggregateError).errors.map((e: Error) => e.message),
    ["release 3", "release 1"],
  );
  assert.equal(names(), [null], "detached all the same");
});

test("PRB-034 a device handle that was detached refuses resources, children and tokens", () => {
  const { newbus } = rig([{ name: "x" }]);
  let kept: Device<Thing> | null = null;
  newbus.register(
    thing("a", -20, {
      attach: (dev) => {
        kept = dev;
      },
    }),
  );
  newbus.scan();
  newbus.detach("a0");
  const dev = kept as unknown as Device<Thing>;
  let disposed = 0;
  assert.is(
    codeOf(() => dev.resources.use({ [Symbol.dispose]: () => void disposed++ })),
    "EINVAL",
  );
  assert.is(disposed, 1, "what it was handed does not leak");
  assert.is(
    codeOf(() => dev.resources.defer(() => {})),
    "EINVAL",
  );
  assert.is(
    codeOf(() => dev.addChild(THING, { name: "z" })),
    "EINVAL",
  );
  assert.is(
    codeOf(() => dev.busy()),
    "EINVAL",
  );
  assert.is(dev.state, "notpresent");
});

test("a driver's plain exception in detach is no refusal: it is told when everything is done", () => {
  const { newbus, names } = rig([{ name: "x" }]);
  newbus.register(
    thing("a", -20, {
      detach: () => {
        throw new TypeError("mistake");
      },
    }),
  );
  newbus.scan();
  assert.is(
    codeOf(() => newbus.detach("a0")),
    "AggregateError",
  );
  assert.equal(names(), [null]);
});

test("a child's hooks are called round every attach and detach, whoever started it", () => {
  const story: string[] = [];
  const { newbus, bus } = rig([]);
  newbus.scan();
  const hooks: ChildHooks = {
    attaching: () => void story.push("attaching"),
    attached: () => void story.push("attached"),
    failed: () => void story.push("failed"),
    detached: () => void story.push("detached"),
  };
  const child = bus().addChild(THING, { name: "x" }, hooks);
  assert.is(child.probeAndAttach(), false);
  assert.equal([story, child.nameunit], [[], null]);
  let fail = true;
  newbus.register(
    thing("a", -20, {
      attach: (dev) => {
        dev.resources.defer(() => story.push("released"));
        if (fail) throw new BusError("EIO", "broken");
      },
      detach: () => void story.push("detach"),
    }),
  );
  assert.equal(story.splice(0), ["attaching", "released", "failed"]);
  fail = false;
  assert.is(child.probeAndAttach(), true);
  assert.is(child.probeAndAttach(), true);
  assert.equal([story.splice(0), child.nameunit], [["attaching", "attached"], "a0"]);
  child[Symbol.dispose]();
  assert.equal(story.splice(0), ["detach", "released", "detached"]);
  child[Symbol.dispose]();
  assert.is(child.probeAndAttach(), false);

  const refused = bus().addChild(
    THING,
    { name: "y" },
    {
      ...hooks,
      attached: () => {
        throw new BusError("EIO", "no");
      },
    },
  );
  assert.is(refused.probeAndAttach(), false);
  assert.equal(story.splice(0), ["attaching", "detach", "released", "failed"], "the driver's detach comes first");
});

test("a bus whose attach fails takes its children down with it, whatever they say", () => {
  const { newbus, of, names } = rig([{ name: "m" }]);
  const LEAF = thingClass("leaf");
  const story: string[] = [];
  newbus.register(
    thing("leaf", -20, {
      bus: LEAF,
      detach: (_dev, _softc, why) => {
        story.push(why);
        throw new BusError("EBUSY", "no");
      },
    }),
  );
  newbus.register(
    thing("mid", -20, {
      attach: (dev) => {
        dev.addChild(LEAF, { name: "l" }).probeAndAttach();
        throw new BusError("EIO", "broken");
      },
    }),
  );
  newbus.scan();
  assert.equal(story, ["unload", "surprise"]);
  assert.equal(names(), [null]);
  assert.equal([of("attach-failed").length, of("detach").length], [1, 1]);
});

// ------------------------------------------------------------------------------------------------ power

test("PRB-036 suspend goes children first, resume parents first", () => {
  const story: string[] = [];
  const { newbus, driver } = rig([{ name: "x" }, { name: "y" }]);
  Object.assign(driver, { suspend: () => story.push("tb0 suspend"), resume: () => story.push("tb0 resume") });
  newbus.register(
    thing("a", -20, {
      suspend: (dev) => void story.push(`${dev.nameunit} suspend`),
      resume: (dev) => {
        story.push(`${dev.nameunit} resume`);
        throw new Error("ignored");
      },
    }),
  );
  newbus.scan();
  newbus.suspend();
  assert.equal(story.splice(0), ["a1 suspend", "a0 suspend", "tb0 suspend"]);
  assert.equal(find(newbus.tree(), (d) => d.nameunit === "a0")?.flags, ["suspended"]);
  newbus.suspend();
  assert.equal(story, [], "already");
  newbus.resume();
  assert.equal(story, ["tb0 resume", "a0 resume", "a1 resume"]);
});

test("PRB-036 a veto resumes those already suspended, and only those", () => {
  const story: string[] = [];
  const { newbus } = rig([{ name: "x" }, { name: "y" }, { name: "z" }]);
  newbus.register(
    thing("a", -20, {
      suspend: (dev) => {
        story.push(`${dev.nameunit} suspend`);
        if (dev.unit === 0) throw new BusError("EBUSY", "not now");
      },
      resume: (dev) => void story.push(`${dev.nameunit} resume`),
    }),
  );
  newbus.scan();
  assert.is(
    codeOf(() => newbus.suspend()),
    "EBUSY",
  );
  assert.equal(story, ["a2 suspend", "a1 suspend", "a0 suspend", "a1 resume", "a2 resume"]);
});

test("shutdown reaches every device, children first, and stops at nothing", () => {
  const story: string[] = [];
  const { newbus, log } = rig([{ name: "x" }, { name: "y" }]);
  newbus.register(
    thing("a", -20, {
      shutdown: (dev) => {
        story.push(dev.nameunit);
        throw new Error("stuck");
      },
    }),
  );
  newbus.scan();
  newbus.shutdown();
  assert.equal(story, ["a1", "a0"]);
  assert.ok(log.includes("a1: shutdown threw: stuck"));
});

// ------------------------------------------------------------------------------------------------ events and lines

test("PRB-075 attach, detach and nomatch carry location and pnpinfo of the documented form", () => {
  const bus = new FakeBus([
    { bdf: 0x18, config: { 0: 0x10001af4, 8: 0x02000000, 44: 0x00011af4 } },
    card(0x21, { 0: 0x816710ec }),
    card(0x20, { 12: 0x0080_0000 }),
  ]);
  const newbus = new Newbus(bus);
  const events: BusEvent[] = [];
  newbus.on((e) => events.push(e));
  newbus.register(re({ pnp: [{ vendor: 0x10ec, device: 0x8167 }] }));
  newbus.scan();
  newbus.detach("re0");
  const virtio = "vendor=0x1af4 device=0x1000 subvendor=0x1af4 subdevice=0x0001 class=0x020000";
  const realtek = "vendor=0x10ec device=0x8167 subvendor=0x0000 subdevice=0x0000 class=0x020000";
  const at = (slot: number, fn: number) => `slot=${slot} function=${fn} dbsf=pci0:0:${slot}:${fn}`;
  assert.equal(
    events.filter((e) => "location" in e && e.location !== ""),
    [
      { kind: "nomatch", nameunit: null, location: at(3, 0), pnpinfo: virtio, parent: "pci0" },
      { kind: "attach", nameunit: "re0", location: at(4, 0), pnpinfo: realtek, parent: "pci0" },
      { kind: "attach", nameunit: "re1", location: at(4, 1), pnpinfo: realtek, parent: "pci0" },
      { kind: "detach", nameunit: "re0", location: at(4, 0), pnpinfo: realtek, parent: "pci0" },
    ],
  );
});

test("PRB-080 the attach line lists port, mem and irq in this order, only those present", () => {
  const log: string[] = [];
  const bus = new FakeBus([
    {
      bdf: 0x20,
      config: { 0: 0x816910ec, 8: 0x02000010, 16: 0xfebd1000, 20: 0xc001, 24: 0xfebd2000, 28: 0xc101, 60: 0x010b },
      bars: {
        0: { kind: "mem32", size: 0x100 },
        1: { kind: "io", size: 0x100 },
        2: { kind: "mem32", size: 0x1000 },
        3: { kind: "io", size: 0x20 },
      },
    },
    card(0x28, { 16: 0, 60: 0 }),
    card(0x30, { 16: 0, 60: 0x010a }),
  ]);
  const newbus = new Newbus(bus, { log: (line) => log.push(line) });
  newbus.register(re({ attach: (dev) => dev.log("Ethernet address: 52:54:00:12:34:56") }));
  newbus.scan();
  newbus.detach("re1");
  assert.equal(log, [
    "pcib0: <Host to PCI bridge> on motherboard",
    "pci0: <PCI bus> on pcib0",
    "re0: <RealTek> port 0xc000-0xc0ff,0xc100-0xc11f mem 0xfebd1000-0xfebd10ff,0xfebd2000-0xfebd2fff irq 11 at device 4.0 on pci0",
    "re0: Ethernet address: 52:54:00:12:34:56",
    "re1: <RealTek> at device 5.0 on pci0",
    "re1: Ethernet address: 52:54:00:12:34:56",
    "re2: <RealTek> irq 10 at device 6.0 on pci0",
    "re2: Ethernet address: 52:54:00:12:34:56",
    "re1: detached",
  ]);
});

test("what has no driver is named in words", () => {
  const log: string[] = [];
  const bus = new FakeBus([
    card(0x18, { 0: 0x12345678 }),
    card(0x20, { 0: 0x12345678, 8: 0x06_80_00_00 }),
    card(0x28, { 0: 0x12345678, 8: 0xff_00_00_00 }),
  ]);
  new Newbus(bus, { log: (line) => log.push(line) }).scan();
  assert.equal(log.slice(2), [
    "pci0: <network, ethernet> at device 3.0 (no driver attached)",
    "pci0: <bridge> at device 4.0 (no driver attached)",
    "pci0: <unknown> at device 5.0 (no driver attached)",
  ]);
});

test("a listener that throws is logged, one that was disposed hears nothing", () => {
  const { newbus, log } = rig([{ name: "x" }]);
  let heard = 0;
  newbus.on(() => {
    throw new Error("deaf");
  });
  newbus.on(() => heard++)[Symbol.dispose]();
  newbus.scan();
  assert.is(heard, 0);
  assert.ok(log.some((line) => line.includes("deaf")));
});

test("softc tells what attach returned, and ENXIO what is not there", () => {
  const { newbus } = rig([{ name: "x" }]);
  newbus.register(thing("a", -20, { attach: () => ({ frames: 3 }) }));
  newbus.scan();
  assert.is(newbus.softc<{ frames: number }>("a0").frames, 3);
  for (const name of ["a1", "root0", ""])
    assert.is(
      codeOf(() => newbus.softc(name)),
      "ENXIO",
    );
});

test("PRB-083 nothing here needs using, DisposableStack, SuppressedError or BigInt", () => {
  const globals = ["DisposableStack", "AsyncDisposableStack", "SuppressedError", "BigInt"] as const;
  const saved = new Map<string, PropertyDescriptor | undefined>();
  for (const name of globals) {
    saved.set(name, Object.getOwnPropertyDescriptor(globalThis, name));
    Object.defineProperty(globalThis, name, {
      configurable: true,
      get: () => {
        throw new Error(`${name} used`);
      },
    });
  }
  try {
    const bus = new FakeBus([card(0x18)]);
    const newbus = new Newbus(bus);
    newbus.register(
      re({
        attach: (dev) => {
          const io = dev.resources.use(dev.bus.alloc("ioport", 0x10));
          const ring = dev.resources.use(dev.resources.use(dev.bus.dmaTag({ alignment: 256 })).alloc(256));
          io.write4(0, 1);
          ring.write32(0, io.read4(0));
          dev.resources.use(dev.bus.setupIntr(dev.resources.use(dev.bus.allocIntx()), { handler: () => {} }));
        },
      }),
    );
    newbus.scan();
    bus.setLine(11, true);
    assert.is(newbus.poll(), true);
    newbus.detach("re0");
  } finally {
    for (const [name, descriptor] of saved) {
      if (descriptor === undefined) delete (globalThis as Record<string, unknown>)[name];
      else Object.defineProperty(globalThis, name, descriptor);
    }
  }
  const here = new URL(".", import.meta.url);
  for (const file of readdirSync(here).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))) {
    const source = readFileSync(new URL(file, here), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
    assert.not.match(source, /\b(await )?using \w+ =|DisposableStack|SuppressedError|BigInt|\b\d+n\b/, file);
  }
});

test.run();
