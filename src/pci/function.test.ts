import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../bytes/index.js";
import type { SavedState } from "../contract/index.js";
import { Msix } from "./msix.js";
import { PowerManagement } from "./pm.js";
import { RecordingHost, TestFunction, TestModel } from "./testing.js";

const COMMAND = 0x04;
const STATUS = 0x06;

const rig = (card = new TestFunction()) => {
  const host = new RecordingHost();
  card.connect(host);
  return { card, host, model: card.model, seams: card.model.seams! };
};
const status = (card: TestFunction): number => card.configRead(STATUS, 2);

// ------------------------------------------------------------------------------------------------ interrupts

test("PCI-092 INTx is low while Command bit 10 is 1", () => {
  const { card, host, seams } = rig();
  card.configWrite(COMMAND, 2, 0x0400);
  seams.interrupts.setIntx(true);
  assert.equal(host.take(), []);
  card.configWrite(COMMAND, 2, 0x0000);
  assert.equal(host.take(), ["up"]);
  card.configWrite(COMMAND, 2, 0x0400);
  assert.equal(host.take(), ["down"]);
});

test("PCI-093 Status bit 3 shows the condition even while bit 10 is 1", () => {
  const { card, seams } = rig();
  card.configWrite(COMMAND, 2, 0x0400);
  assert.is(status(card), 0x0000);
  seams.interrupts.setIntx(true);
  assert.is(status(card), 0x0008);
  card.configWrite(STATUS, 2, 0xffff);
  assert.is(status(card), 0x0008);
  seams.interrupts.setIntx(false);
  assert.is(status(card), 0x0000);
});

test("PCI-094 clearing bit 10 with a pending condition raises the line", () => {
  const { card, host, seams } = rig();
  card.configWrite(COMMAND, 2, 0x0400);
  seams.interrupts.setIntx(true);
  card.configWrite(COMMAND + 1, 1, 0x00);
  assert.equal(host.take(), ["up"]);
});

test("PCI-103 enabling MSI-X deasserts INTx, disabling it raises it again", () => {
  const { card, host, seams } = rig(new TestFunction({ capabilities: [new Msix({ vectors: 1, bar: 2 })] }));
  seams.interrupts.setIntx(true);
  card.configWrite(0x42, 2, 0x8000);
  card.configWrite(0x42, 2, 0x0000);
  assert.equal(host.take(), ["up", "down", "up"]);
  assert.is(status(card), 0x0018);
});

test("PCI-104 INTx is deasserted by every reset and by removal", () => {
  for (const kind of ["power-on", "bus", "function"] as const) {
    const { card, host, seams } = rig();
    seams.interrupts.setIntx(true);
    card.reset(kind);
    assert.equal(host.take(), ["up", "down"]);
    assert.is(status(card), 0);
  }
  const { card, host, seams } = rig();
  seams.interrupts.setIntx(true);
  card.disconnect();
  seams.interrupts.setIntx(false);
  seams.interrupts.setIntx(true);
  assert.equal(host.take(), ["up", "down"]);
});

test("PCI-105 the level is updated before the acknowledging access returns", () => {
  const { card, host, model, seams } = rig();
  model.onWrite = () => seams.interrupts.setIntx(false);
  seams.interrupts.setIntx(true);
  host.take();
  card.barWrite(0, 3, 1, 0xff);
  assert.equal(host.take(), ["down"]);
});

test("a pin that is not there never rises, and a level is told once", () => {
  const none = rig(new TestFunction({ interruptPin: "none" }));
  none.seams.interrupts.setIntx(true);
  assert.equal(none.host.take(), []);
  const { card, host, seams } = rig();
  seams.interrupts.setIntx(true);
  seams.interrupts.setIntx(true);
  assert.equal(host.take(), ["up"]);
  card.resample();
  assert.equal(host.take(), ["up"], "unless asked for");
  seams.interrupts.setIntx(false);
  card.resample();
  assert.equal(host.take(), ["down", "down"]);
});

// ------------------------------------------------------------------------------------------------ DMA

test("PCI-142 PCI-143 with bus master 0 DMA changes nothing and sets Status bit 13", () => {
  const { card, host, seams } = rig();
  const target = new Uint8Array(4).fill(0x77);
  host.ram.fill(0x11, 0x100, 0x104);
  assert.is(seams.dma.open, false);
  assert.is(seams.dma.read(0x100, 4, target, 0), false);
  assert.equal([...target], [0x77, 0x77, 0x77, 0x77]);
  assert.is(status(card), 0x2000);
  card.configWrite(STATUS, 2, 0x2000);
  assert.is(seams.dma.write(0x100, 4, target, 0), false);
  assert.is(seams.dma.locate(0x100, 4), false);
  assert.is(seams.dma.locateWritable(0x100, 4), false);
  assert.equal([...host.ram.subarray(0x100, 0x104)], [0x11, 0x11, 0x11, 0x11]);
  assert.is(status(card), 0x2000);
  assert.is(card.accessCounters().refusedDma, 4);
  card.configWrite(COMMAND, 2, 0x0004);
  assert.is(seams.dma.read(0x100, 4, target, 0), true);
  assert.equal([...target], [0x11, 0x11, 0x11, 0x11]);
});

test("PCI-144 PCI-145 DMA beyond RAM and lengths that overflow are refused, with no exception", () => {
  const { card, seams } = rig();
  card.configWrite(COMMAND, 2, 0x0004);
  const bytes = new Uint8Array(16);
  assert.is(seams.dma.read(0xfff0, 16, bytes, 0), true);
  for (const [address, length] of [
    [0xfff1, 16],
    [0x10000, 1],
    [-1, 1],
    [2 ** 53 - 1, 16],
    [0xfffffffffffff000, 16],
    [0, 2 ** 53],
  ] as const) {
    assert.is(seams.dma.read(address, length, bytes, 0), false, `${address}+${length}`);
    assert.is(seams.dma.write(address, length, bytes, 0), false);
    assert.is(seams.dma.locate(address, length), false);
    assert.is(seams.dma.contains(address, length), false);
  }
});

test("PCI-146 DMA into its own BAR is refused", () => {
  const { card, model, seams } = rig();
  card.configWrite(0x14, 4, 0x20000);
  card.configWrite(COMMAND, 2, 0x0006);
  assert.is(card.barBase(1), 0x20000);
  assert.is(seams.dma.write(0x20000, 4, Uint8Array.of(1, 2, 3, 4), 0), false);
  assert.equal([...model.bytes.subarray(0, 4)], [0, 0, 0, 0]);
  assert.is(card.accessCounters().barWrites, 0);
});

test("PCI-147 DMA writes report the ranges they touched, merged per batch", () => {
  const { card, host, seams } = rig();
  card.configWrite(COMMAND, 2, 0x0004);
  seams.dma.write(0x1000, 16, new Uint8Array(16), 0);
  assert.ok(seams.dma.locateWritable(0x1100, 16));
  seams.dma.wrote(0x1100, 16);
  seams.dma.write(0x9000, 16, new Uint8Array(16), 0);
  seams.dma.flush();
  assert.equal(host.written, [
    [0x1000, 0x1110],
    [0x9000, 0x9010],
  ]);
});

test("PCI-148 nothing passes after a reset, a removal or in D3hot, and what was located is void", () => {
  const shut: ((card: TestFunction) => void)[] = [
    (card) => card.reset("function"),
    (card) => card.reset("bus"),
    (card) => card.disconnect(),
    (card) => card.configWrite(0x44, 1, 3),
    (card) => card.configWrite(COMMAND, 2, 0),
  ];
  for (const how of shut) {
    const { card, host, seams } = rig(new TestFunction({ capabilities: [new PowerManagement()] }));
    card.configWrite(COMMAND, 2, 0x0004);
    assert.ok(seams.dma.locateWritable(0x100, 4));
    const { generation } = seams.dma;
    how(card);
    assert.is.not(seams.dma.generation, generation);
    assert.is(seams.dma.write(0x100, 4, Uint8Array.of(1, 2, 3, 4), 0), false);
    assert.is(host.ram[0x100], 0);
  }
});

test("a model can have Bus Master forced on; it is off by default and after a reset, and Command does not show it", () => {
  const { card, seams } = rig();
  assert.is(seams.dma.open, false);
  card.master(true);
  assert.is(seams.dma.open, true);
  assert.is(card.configRead(COMMAND, 2), 0);
  card.master(false);
  assert.is(seams.dma.open, false);
  card.master(true);
  card.reset("function");
  assert.is(seams.dma.open, false);
});

// ------------------------------------------------------------------------------------------------ life

test("PCI-151 PCI-153 a bus reset restores every register, and a function reset clears Command and BARs of its function", () => {
  for (const kind of ["bus", "function"] as const) {
    const { card, model, host } = rig(new TestFunction({ capabilities: [new Msix({ vectors: 2, bar: 2 })] }));
    const fresh = Array.from({ length: 64 }, (_, i) => card.configRead(4 * i, 4));
    for (let at = 0; at < 0x100; at += 4) card.configWrite(at, 4, 0xffffffff);
    card.configWrite(0x10, 4, 0xc000);
    assert.is(card.barBase(0), 0xc000);
    card.reset(kind);
    assert.equal(
      Array.from({ length: 64 }, (_, i) => card.configRead(4 * i, 4)),
      fresh,
    );
    assert.is(card.barBase(0), -1);
    assert.equal(model.resets, [kind]);
    assert.is(host.cleared, 1, "no work is left over");
  }
});

test("plugged in twice is the embedder's mistake; out and in again is not, and out twice is nothing", () => {
  const { card, host } = rig();
  assert.throws(
    () => card.connect(host),
    (error: unknown) => error instanceof ConfigError && error.code === "already-connected",
  );
  card.disconnect();
  card.disconnect();
  card.connect(new RecordingHost());
});

test("a model that fails to connect leaves the function free", () => {
  const card = new TestFunction();
  const connect = card.model.connect;
  card.model.connect = () => {
    throw new Error("no such file");
  };
  assert.throws(() => card.connect(new RecordingHost()), /no such file/);
  card.model.connect = connect;
  card.connect(new RecordingHost());
});

test("listeners of BARs come and go", () => {
  const { card } = rig();
  const seen: string[] = [];
  const a = card.onBarsChanged(() => seen.push("a"));
  const b = card.onBarsChanged(() => seen.push("b"));
  card.configWrite(0x10, 4, 0xc000);
  card.configWrite(COMMAND, 2, 1);
  a[Symbol.dispose]();
  a[Symbol.dispose]();
  card.configWrite(COMMAND, 2, 0);
  b[Symbol.dispose]();
  card.configWrite(COMMAND, 2, 1);
  assert.equal(seen, ["a", "b", "b"]);
});

test("PCI-172 a diagnostic is told once per code and reset, and counted", () => {
  const { card, host, seams } = rig();
  for (let i = 0; i < 1000; i++) seams.report("bad-length", i);
  seams.report("other");
  assert.equal(host.diagnostics, [
    { source: "test-card", code: "bad-length", value: 0, strictness: "strict" },
    { source: "test-card", code: "other", value: 0, strictness: "strict" },
  ]);
  assert.equal(card.diagnosticCounts(), { "bad-length": 1000, other: 1 });
  card.reset("function");
  seams.report("bad-length", 7);
  assert.is(host.diagnostics.length, 3);
});

// ------------------------------------------------------------------------------------------------ re-entrancy

test("PCI-166 a nested access to an engaged function is refused and counted", () => {
  const { card, host, model, seams } = rig();
  const seen: number[] = [];
  model.bytes[5] = 0x55;
  host.interrupts.setIntx = () => {
    seen.push(card.barRead(0, 5, 1), card.barRead(1, 4, 4), card.configRead(0, 2));
    card.barWrite(0, 5, 1, 0);
    card.configWrite(COMMAND, 2, 7);
  };
  model.onWrite = () => seams.interrupts.setIntx(true);
  card.barWrite(0, 0, 1, 1);
  assert.equal(seen, [0xff, 0xffffffff, 0xffff]);
  assert.is(model.bytes[5], 0x55);
  assert.is(card.configRead(COMMAND, 2), 0);
  assert.is(card.accessCounters().nestedAccesses, 5);
  assert.is(card.barRead(0, 5, 1), 0x55, "and afterwards it answers again");
});

test("PCI-166 a function is engaged while its queues run, now or later", () => {
  const { card, host, model, seams } = rig();
  let inside = 0;
  seams.work.bind({
    runQueue: () => {
      inside = card.barRead(0, 0, 1);
      return 0;
    },
  });
  model.onWrite = () => seams.work.runNow(0);
  card.barWrite(0, 0, 1, 0x42);
  assert.is(inside, 0xff);
  assert.is(card.barRead(0, 0, 1), 0x42, "work inside an access gives the flag back to it, and that one clears it");
  inside = 0;
  host.runner!.runQueue(0, 1);
  assert.is(inside, 0xff);
  assert.is(card.barRead(0, 0, 1), 0x42);
});

test("PCI-167 the flag is cleared when a callback throws", () => {
  const { card, host, model, seams } = rig();
  model.onWrite = () => {
    throw new Error("embedder's bug");
  };
  seams.work.bind({
    runQueue: () => {
      throw new Error("another");
    },
  });
  assert.throws(() => card.barWrite(0, 0, 1, 1), /embedder's bug/);
  assert.throws(() => host.runner!.runQueue(0, 1), /another/);
  host.interrupts.setIntx = () => {
    throw new Error("a sink's");
  };
  seams.interrupts.setIntx(false);
  card.configWrite(COMMAND, 2, 0x0400);
  seams.interrupts.setIntx(true);
  assert.throws(() => card.configWrite(COMMAND, 2, 0), /a sink's/);
  assert.is(card.barRead(0, 0, 1), 1);
  assert.is(card.configRead(0, 2), 0x10ec);
  assert.is(card.accessCounters().nestedAccesses, 0);
});

test("a function reaches its own BARs from inside an access, and a BAR that is not there reads all ones", () => {
  const { card, model } = rig();
  let own = 0;
  model.bytes[7] = 0x77;
  model.onWrite = () => {
    own = card.own(1, 7);
  };
  card.barWrite(0, 0, 1, 0);
  assert.is(own, 0x77);
  assert.is(card.barRead(3, 0, 2), 0xffff);
  assert.is(card.barRead(-1, 0, 4), 0xffffffff);
  assert.is(card.barRead(99, 0, 1), 0xff);
  card.barWrite(99, 0, 1, 0);
  assert.is(card.barBase(99), -1);
});

test("counters tell what passed", () => {
  const { card, seams } = rig();
  card.configWrite(COMMAND, 2, 0);
  card.configRead(0, 4);
  card.configRead(0, 4);
  card.barWrite(0, 0, 1, 0);
  card.barRead(0, 0, 1);
  seams.interrupts.setIntx(true);
  seams.interrupts.setIntx(false);
  seams.interrupts.setIntx(true);
  assert.equal(card.accessCounters(), {
    configReads: 2,
    configWrites: 1,
    barReads: 1,
    barWrites: 1,
    intxRises: 2,
    messages: 0,
    lostMessages: 0,
    refusedDma: 0,
    nestedAccesses: 0,
  });
});

// ------------------------------------------------------------------------------------------------ snapshots

const busy = () => {
  const msix = new Msix({ vectors: 3, bar: 2 });
  const made = rig(
    new TestFunction({
      capabilities: [msix, new PowerManagement({ pmc: 0xc803 })],
      bars: {
        0: { kind: "io", size: 16, accepts: [1], handler: new TestModel() },
        2: msix.bar(),
        4: { kind: "mem64", size: 0x4000, handler: new TestModel() },
      },
    }),
  );
  return { ...made, msix };
};

/** A function in the middle of things: BARs placed, vectors masked and pending, INTx wanted, a diagnostic told. */
const busied = () => {
  const made = busy();
  const { card, seams, model } = made;
  card.configWrite(0x10, 4, 0xc000);
  card.configWrite(0x18, 4, 0xfeb00000);
  card.configWrite(0x20, 4, 0xe0000000);
  card.configWrite(0x24, 4, 0x7);
  card.configWrite(0x3c, 1, 11);
  card.configWrite(COMMAND, 2, 0x0007);
  for (const [at, value] of [
    [0x00, 0xfee00000],
    [0x04, 1],
    [0x08, 0x4041],
    [0x0c, 0],
    [0x1c, 1],
  ] as const)
    card.barWrite(2, at, 4, value);
  card.configWrite(0x42, 2, 0x8000);
  seams.interrupts.signal(1);
  seams.interrupts.setIntx(true);
  seams.report("told-once", 1);
  model.bytes[3] = 0x33;
  return made;
};

const visible = (card: TestFunction): number[] => {
  const values: number[] = [];
  for (let at = 0; at < 0x100; at++) values.push(card.configRead(at, 1));
  for (let at = 0; at < 0x1000; at += 4) values.push(card.barRead(2, at, 4));
  return values.concat(
    card.bars.map(({ index }) => card.barBase(index)),
    [...card.model.bytes],
  );
};

test("PCI-161 save and load reproduce every visible register, map and level", () => {
  const { card: one } = busied();
  const { card: two, host, seams } = busy();
  const moved: number[] = [];
  two.onBarsChanged(() => moved.push(two.barBase(0)));
  two.load(structuredClone(one.save()));
  assert.equal(visible(two), visible(one));
  assert.equal(two.save(), one.save());
  assert.equal(moved, [0xc000], "the map changed once");
  assert.equal(host.take(), [], "MSI-X is on: no level, and no message was sent again");
  two.barWrite(2, 0x10, 4, 0xfee01000);
  two.barWrite(2, 0x1c, 4, 0);
  assert.equal(host.take(), ["v1 fee01000 0"], "what was pending is delivered once");
  two.configWrite(0x42, 2, 0);
  assert.equal(host.take(), ["up"]);
  seams.report("told-once", 2);
  assert.equal(host.diagnostics, []);
});

test("PCI-162 loading tells a level only where it changes", () => {
  const { card, host, seams } = rig();
  const low = card.save();
  seams.interrupts.setIntx(true);
  const high = card.save();
  host.take();
  card.load(high);
  assert.equal(host.take(), []);
  card.load(low);
  card.load(low);
  card.load(high);
  assert.equal(host.take(), ["down", "up"]);
  assert.is(status(card), 0x0008);
});

const isStateError = (error: unknown): boolean => error instanceof StateError;

/** Changes one byte of the saved configuration. */
const altered = (state: SavedState, at: number, flip: number): SavedState => {
  const config = Uint8Array.from(state.config as Uint8Array);
  config[at]! ^= flip;
  return { ...state, config };
};

test("PCI-164 a state with altered read-only bits is refused, and nothing has changed", () => {
  const { card: one } = busied();
  const state = one.save();
  const { card } = busied();
  const before = visible(card);
  // raw: identity, reserved Command bit, Status bit 4, class, header type, BAR type and size bits, pin, pointer, cap id, next
  for (const [at, flip] of [
    [0, 1],
    [2, 1],
    [5, 0x08],
    [6, 0x10],
    [0x0a, 1],
    [0x0e, 0x80],
    [0x10, 1],
    [0x10, 8],
    [0x20, 4],
    [0x21, 0x20],
    [0x3d, 1],
    [0x34, 4],
    [0x40, 1],
    [0x41, 4],
    [0x43, 0x20],
    [0xff, 1],
  ] as const)
    assert.throws(() => card.load(altered(state, at, flip)), isStateError, `byte ${at.toString(16)}`);
  assert.equal(visible(card), before);
  card.load(altered(state, 0x3c, 0xff));
});

test("a state that is no state of this function is refused, and nothing has changed", () => {
  const { card: one } = busied();
  const state = one.save();
  const { card, host } = busied();
  card.configWrite(0x3c, 1, 5);
  card.barWrite(2, 0x08, 4, 0x99);
  card.model.bytes[1] = 0x11;
  const before = card.save();
  host.take();
  const bad: { [what: string]: unknown }[] = [
    { version: 2 },
    { name: "other-card" },
    { config: new Uint8Array(64) },
    { config: [...(state.config as Uint8Array)] },
    { intx: 1 },
    { intx: false },
    { forcedMaster: null },
    { reported: [] },
    { reported: { code: -1 } },
    { strictness: "lenient" },
    { capabilities: [] },
    { capabilities: [null, null] },
    { capabilities: [(state.capabilities as unknown[])[0], {}] },
    { model: null },
    { model: { version: 1, bytes: new Uint8Array(3) } },
  ];
  for (const change of bad) assert.throws(() => card.load({ ...state, ...change }), undefined, JSON.stringify(change));
  assert.throws(() => card.load(null as unknown as SavedState), isStateError);
  assert.equal(card.save(), before);
  assert.equal(host.take(), []);
  assert.is(card.model.seams!.dma.open, true);
});

test("a model that interrupts while it loads or resets sends nothing", () => {
  const { card, host, seams, model } = busied();
  const state = card.save();
  host.take();
  const load = model.load.bind(model);
  model.load = (part) => {
    load(part);
    seams.interrupts.signal(0);
    assert.is(seams.dma.write(0x100, 1, Uint8Array.of(1), 0), false);
  };
  model.onReset = () => {
    seams.interrupts.signal(0);
    assert.is(seams.dma.write(0x100, 1, Uint8Array.of(1), 0), false);
  };
  card.load(state);
  assert.is(seams.dma.open, true);
  card.reset("function");
  assert.equal(host.take(), []);
  assert.is(host.ram[0x100], 0);
});

test("a run cut by a snapshot goes on identically", () => {
  const drive = (card: TestFunction, host: RecordingHost, seams: NonNullable<TestModel["seams"]>, steps: number[]) => {
    const log: unknown[] = [];
    for (const step of steps) {
      if (step === 0) card.configWrite(0x42, 2, 0xc000);
      if (step === 1) seams.interrupts.signal(0);
      if (step === 2) card.configWrite(0x42, 2, 0x8000);
      if (step === 3) card.configWrite(0x42, 2, 0);
      if (step === 4) seams.interrupts.setIntx(false);
      log.push(...host.take(), ...visible(card));
    }
    return log;
  };
  const steps = [0, 1, 1, 2, 3, 4, 0, 1, 2, 1];
  for (let cut = 0; cut <= steps.length; cut++) {
    const straight = busied();
    const first = busied();
    const second = busy();
    const whole = drive(straight.card, straight.host, straight.seams, steps);
    const part = drive(first.card, first.host, first.seams, steps.slice(0, cut));
    second.card.load(structuredClone(first.card.save()));
    if (!second.msix.enabled && (second.card.configRead(STATUS, 2) & 8) !== 0) second.host.take(); // the level, told to a new host
    assert.equal([...part, ...drive(second.card, second.host, second.seams, steps.slice(cut))], whole, `cut at ${cut}`);
  }
});

test.run();
