import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import { Msix, type MsixOptions } from "./msix.js";
import { RecordingHost, TestFunction } from "./testing.js";

const CONTROL = 0x42; // the capability is at 40h
const ENABLE = 0x8000;
const MASKALL = 0x4000;

const rig = (options: Partial<MsixOptions> = {}) => {
  const msix = new Msix({ vectors: 4, bar: 2, ...options });
  const card = new TestFunction({ bars: { 2: msix.bar() }, capabilities: [msix] });
  const host = new RecordingHost();
  card.connect(host);
  card.configWrite(0x04, 2, 0x0004);
  const entry = (vector: number, address: number, data: number, mask = 0) => {
    for (const [i, value] of [address, 0, data, mask].entries()) card.barWrite(2, 16 * vector + 4 * i, 4, value);
  };
  const pba = () => card.barRead(2, 0x800, 4);
  return { msix, card, host, entry, pba, signal: (vector: number) => card.model.seams!.interrupts.signal(vector) };
};

test("PCI-117 entries are masked after reset, all else is 0", () => {
  const { card, entry } = rig();
  const fresh = () => {
    for (let at = 0; at < 64; at += 4) assert.is(card.barRead(2, at, 4), at % 16 === 12 ? 1 : 0);
  };
  fresh();
  entry(0, 0xfee00000, 0x41);
  entry(3, 0xfee00000, 0x42);
  card.reset("function");
  fresh();
});

test("PCI-118 PCI-119 a masked vector sets its pending bit; unmasking sends one message and clears it", () => {
  const { card, host, entry, pba, signal } = rig();
  entry(2, 0xfee00000, 0x4142, 1);
  card.configWrite(CONTROL, 2, ENABLE);
  signal(2);
  signal(2);
  assert.is(pba(), 0x4);
  assert.equal(host.take(), []);
  card.barWrite(2, 0x2c, 4, 0);
  assert.equal(host.take(), ["v2 fee00000 4142"]);
  assert.is(pba(), 0);
  card.barWrite(2, 0x2c, 4, 0);
  assert.equal(host.take(), []);
});

test("PCI-120 clearing the function mask delivers all pending vectors that are not masked themselves", () => {
  const { card, host, entry, pba, signal } = rig();
  for (const vector of [0, 1, 2, 3]) entry(vector, 0xfee00000, 0x40 + vector, vector === 1 ? 1 : 0);
  card.configWrite(CONTROL, 2, ENABLE | MASKALL);
  for (const vector of [3, 1, 0]) signal(vector);
  assert.is(pba(), 0xb);
  assert.equal(host.take(), []);
  card.configWrite(CONTROL, 2, ENABLE);
  assert.equal(host.take(), ["v0 fee00000 40", "v3 fee00000 43"]);
  assert.is(pba(), 0x2);
});

test("nothing happens while MSI-X is off: no message, no pending bit", () => {
  const { card, host, entry, pba, signal } = rig();
  entry(0, 0xfee00000, 0x41);
  signal(0);
  card.configWrite(CONTROL, 2, MASKALL);
  signal(0);
  assert.is(pba(), 0);
  card.configWrite(CONTROL, 2, ENABLE);
  assert.equal(host.take(), []);
  signal(0);
  signal(4);
  signal(-1);
  assert.equal(host.take(), ["v0 fee00000 41"]);
});

test("PCI-121 the pending bits ignore writes", () => {
  const { card, entry, pba, signal } = rig();
  card.barWrite(2, 0x800, 4, 0xffffffff);
  assert.is(pba(), 0);
  entry(0, 0xfee00000, 0x41, 1);
  card.configWrite(CONTROL, 2, ENABLE);
  signal(0);
  card.barWrite(2, 0x800, 4, 0);
  assert.is(pba(), 1);
});

test("PCI-122 PCI-123 the table takes aligned dwords and ignores 8- and 16-bit writes", () => {
  const { card } = rig();
  card.barWrite(2, 0x10, 4, 0xfee01000);
  card.barWrite(2, 0x14, 4, 0x00000001);
  card.barWrite(2, 0x18, 4, 0x12345678);
  const dwords = () => [0x10, 0x14, 0x18, 0x1c].map((at) => card.barRead(2, at, 4));
  assert.equal(dwords(), [0xfee01000, 1, 0x12345678, 1]);
  card.barWrite(2, 0x18, 1, 0xff);
  card.barWrite(2, 0x1a, 2, 0xffff);
  card.barWrite(2, 0x1c, 1, 0);
  card.barWrite(2, 0x1a, 4, 0);
  assert.equal(dwords(), [0xfee01000, 1, 0x12345678, 1]);
  assert.is(card.barRead(2, 0x18, 1), 0);
  assert.is(card.barRead(2, 0x18, 2), 0);
});

test("reserved bits of the table read 0", () => {
  const { card } = rig();
  for (let at = 0; at < 16; at += 4) card.barWrite(2, at, 4, 0xffffffff);
  assert.equal(
    [0, 4, 8, 12].map((at) => card.barRead(2, at, 4)),
    [0xfffffffc, 0xffffffff, 0xffffffff, 1],
  );
  for (let at = 64; at < 0x1000; at += 4) assert.is(card.barRead(2, at, 4), 0);
});

test("PCI-124 control bits 10:0 are read-only and equal entries - 1", () => {
  for (const vectors of [1, 4, 2048]) {
    const { card } = rig({ vectors });
    assert.is(card.configRead(CONTROL, 2), vectors - 1);
    card.configWrite(CONTROL, 2, 0xffff);
    assert.is(card.configRead(CONTROL, 2), 0xc000 + vectors - 1);
    card.configWrite(0x44, 4, 0xffffffff);
    card.configWrite(0x48, 4, 0xffffffff);
    assert.is(card.configRead(0x44, 4), 2);
  }
});

test("table and pending bits lie as QEMU lays them out", () => {
  // vectors, pending bits, size of the BAR
  for (const [vectors, pba, size] of [
    [1, 0x800, 0x1000],
    [128, 0x800, 0x1000],
    [129, 0x810, 0x1000],
    [255, 0xff0, 0x2000],
    [2048, 0x8000, 0x10000],
  ] as const) {
    const msix = new Msix({ vectors, bar: 1 });
    assert.is(msix.pbaOffset, pba, `${vectors} vectors`);
    assert.is(msix.barSize, size, `${vectors} vectors`);
  }
});

test("PCI-125 a table and pending bits that overlap or leave the BAR are refused", () => {
  const refused = (options: Partial<MsixOptions>, value: RegExp) =>
    assert.throws(
      () => new Msix({ vectors: 4, bar: 1, ...options }),
      (error: unknown) => error instanceof ConfigError && value.test(error.message),
      JSON.stringify(options),
    );
  refused({ barSize: 0x1000, tableOffset: 0xfc8 }, /0xfc8/);
  refused({ barSize: 0x1000, pbaOffset: 0x1000 }, /0x1000/);
  refused({ pbaOffset: 0x38 }, /overlap/);
  refused({ tableOffset: 0x808, pbaOffset: 0x808 }, /overlap/);
  refused({ tableOffset: 4 }, /multiples of 8/);
  refused({ vectors: 0 }, /0 MSI-X/);
  refused({ vectors: 2049 }, /2049/);
  refused({ vectors: 1.5 }, /1.5/);
  new Msix({ vectors: 4, bar: 1, barSize: 0x1000, tableOffset: 0xfc0, pbaOffset: 0xfb8 });
  new Msix({ vectors: 4, bar: 1, pbaOffset: 0x40 });
});

test("with Bus Master off a message is lost, and no pending bit remembers it", () => {
  const { card, host, entry, pba, signal } = rig();
  entry(0, 0xfee00000, 0x41);
  card.configWrite(CONTROL, 2, ENABLE);
  card.configWrite(0x04, 2, 0);
  signal(0);
  assert.is(pba(), 0);
  card.configWrite(0x04, 2, 4);
  assert.equal(host.take(), []);
  assert.is(card.accessCounters().lostMessages, 1);
  signal(0);
  assert.equal(host.take(), ["v0 fee00000 41"]);
  assert.is(card.accessCounters().messages, 1);
});

test("a capability written bytewise acts like one written at once", () => {
  const { msix, card } = rig();
  const told: boolean[] = [];
  msix.onEnableChanged = (on) => told.push(on);
  card.configWrite(CONTROL, 1, 0xff);
  assert.is(msix.enabled, false);
  card.configWrite(CONTROL + 1, 1, 0x80);
  assert.is(msix.enabled, true);
  card.configWrite(0x40, 4, 0x80000000);
  card.configWrite(0x41, 4, 0);
  assert.equal(told, [true, false]);
});

test("PCI-149 a message address above 2^53 is kept bit for bit", () => {
  const { card } = rig();
  card.barWrite(2, 0, 4, 0xfffffff4);
  card.barWrite(2, 4, 4, 0xffffffff);
  assert.is(card.barRead(2, 0, 4), 0xfffffff4);
  assert.is(card.barRead(2, 4, 4), 0xffffffff);
});

test("whatever is masked, enabled and signalled: each signal is delivered once, is pending, or came while it was off", () => {
  const step = fc.oneof(
    fc.record({ op: fc.constant("signal" as const), vector: fc.nat(3), value: fc.constant(0) }),
    fc.record({ op: fc.constant("entry" as const), vector: fc.nat(3), value: fc.nat(1) }),
    fc.record({
      op: fc.constant("control" as const),
      vector: fc.constant(0),
      value: fc.constantFrom(0, ENABLE, MASKALL, ENABLE | MASKALL),
    }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { card, host, entry, pba, signal } = rig();
      for (const vector of [0, 1, 2, 3]) entry(vector, 0xfee00000, 0x40 + vector, 1);
      const masked = [true, true, true, true];
      const pending = [false, false, false, false];
      let control = 0;
      for (const { op, vector, value } of steps) {
        const expected: string[] = [];
        const send = (v: number) => expected.push(`v${v} fee00000 ${(0x40 + v).toString(16)}`);
        if (op === "signal") {
          signal(vector);
          if ((control & ENABLE) !== 0) {
            if (masked[vector] || (control & MASKALL) !== 0) pending[vector] = true;
            else send(vector);
          }
        } else if (op === "entry") {
          card.barWrite(2, 16 * vector + 12, 4, value);
          masked[vector] = value === 1;
        } else {
          card.configWrite(CONTROL, 2, value);
          control = value;
        }
        for (const v of [0, 1, 2, 3])
          if (pending[v] && !masked[v] && control === ENABLE) {
            pending[v] = false;
            send(v);
          }
        assert.equal(host.take(), expected);
        assert.is(
          pba(),
          pending.reduce((sum, p, v) => sum + (p ? 1 << v : 0), 0),
        );
      }
    }),
    { numRuns: 300 },
  );
});

test.run();
