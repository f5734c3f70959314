import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../bytes/index.js";
import { ErrorReporting } from "./aer.js";
import type { ExtendedCapability } from "./declaration.js";
import { PciExpress } from "./express.js";
import { pcieRootPort } from "./root-port.js";
import { RecordingHost, TestFunction } from "./testing.js";

const isConfigError = (code: string) => (error: unknown) => error instanceof ConfigError && error.code === code;

/** An endpoint on the root bus: the capability at 40h, error reporting at 100h. */
const endpoint = (flr = true) => {
  const express = new PciExpress({ flr, at: 0x40 });
  const errors = new ErrorReporting();
  const fn = new TestFunction({ capabilities: [express], extended: [errors] });
  const host = new RecordingHost();
  fn.connect(host);
  return { fn, express, errors, host };
};

test("an endpoint on the root bus is of type 9, version 2, and has no link", () => {
  const { fn } = endpoint();
  assert.is(fn.configRead(0x40, 4), 0x0092_0010);
  assert.equal([fn.configRead(0x4c, 4), fn.configRead(0x50, 4)], [0, 0]);
  const behind = new TestFunction({ capabilities: [new PciExpress({ type: "endpoint", at: 0x40 })], extended: [] });
  assert.equal([behind.configRead(0x42, 2), behind.configRead(0x4c, 4), behind.configRead(0x52, 2)], [2, 0x411, 0x11]);
  for (const options of [{ slot: 1 }, { type: "root-port", slot: 0 }, { type: "root-port", slot: 8192 }] as const)
    assert.throws(() => new PciExpress(options), isConfigError("express-slot"));
});

test("PCI-127 PCI-128 bit 15 of Device Control resets the function if and only if it is capable, and reads 0", () => {
  for (const flr of [true, false]) {
    const { fn } = endpoint(flr);
    fn.model.resets.length = 0;
    fn.model.bytes[3] = 7;
    fn.configWrite(0x04, 2, 0x0007);
    fn.configWrite(0x14, 4, 0x8000_0000);
    assert.is((fn.configRead(0x44, 4) & 0x1000_0000) !== 0, flr);
    fn.configWrite(0x48, 2, 0x8000);
    assert.is(fn.configRead(0x48, 2) & 0x8000, 0);
    assert.equal(fn.model.resets, flr ? ["function"] : []);
    assert.equal(
      [fn.configRead(0x04, 2), fn.configRead(0x14, 4), fn.model.bytes[3]],
      flr ? [0, 0, 0] : [7, 0x8000_0000, 7],
    );
    assert.is(fn.configRead(0x48, 2), flr ? 0x2810 : 0, "reset, or as it was written");
  }
});

test("PCI-129 the errors of Device Status are write-1-to-clear", () => {
  const { fn, express } = endpoint();
  for (const error of ["correctable", "non-fatal", "fatal", "unsupported-request"] as const) express.detected(error);
  assert.is(fn.configRead(0x4a, 2), 0x000f);
  fn.configWrite(0x4a, 2, 0x0005);
  assert.is(fn.configRead(0x4a, 2), 0x000a);
  fn.configWrite(0x48, 4, 0x0000_0000);
  assert.is(fn.configRead(0x4a, 2), 0x000a);
  fn.configWrite(0x48, 4, 0xffff_7fff);
  assert.is(fn.configRead(0x4a, 2), 0);
});

test("PCI-132 what error reporting latched is write-1-to-clear, and stays over FLR and bus reset", () => {
  const { fn, errors } = endpoint();
  assert.equal(
    [fn.configRead(0x108, 4), fn.configRead(0x10c, 4), fn.configRead(0x114, 4)],
    [0x0040_0000, 0x0046_2030, 0xe000],
  );
  errors.uncorrectable(0x0010_0000); // unsupported request
  errors.uncorrectable(0x0004_0000); // malformed TLP
  errors.correctable(0x0040); // bad TLP
  const seen = () => [fn.configRead(0x104, 4), fn.configRead(0x110, 4), fn.configRead(0x118, 4) & 0x1f];
  assert.equal(seen(), [0x0014_0000, 0x0040, 20], "the first error is pointed at");
  fn.configWrite(0x108, 4, 0x0000_1000);
  fn.configWrite(0x48, 2, 0x8000);
  assert.equal(seen(), [0x0014_0000, 0x0040, 20]);
  assert.is(fn.configRead(0x108, 4), 0x1000, "masks are as sticky");
  fn.reset("bus");
  assert.equal(seen(), [0x0014_0000, 0x0040, 20]);
  fn.configWrite(0x104, 4, 0x0010_0000);
  fn.configWrite(0x110, 4, 0xffff_ffff);
  assert.equal(seen(), [0x0004_0000, 0, 20]);
  fn.configWrite(0x104, 4, 0);
  assert.is(seen()[0], 0x0004_0000);
  fn.reset("power-on");
  assert.equal(seen(), [0, 0, 0]);
  assert.is(fn.configRead(0x108, 4), 0x0040_0000);
});

const serialNumber = (): ExtendedCapability => {
  const image = new Uint8Array(12);
  image.set([0x42, 0x43], 4);
  return { id: 3, version: 1, image, rw: new Uint8Array(12) };
};

test("PCI-133 each extended capability leads to the next, on a dword from 100h on, and the last one to none", () => {
  const walk = (...extended: ExtendedCapability[]) => {
    const fn = new TestFunction({ extended });
    const list: string[] = [];
    for (let at = 0x100; at !== 0 && list.length < 20; at = fn.configRead(at, 4) >>> 20) {
      assert.ok(at >= 0x100 && at % 4 === 0);
      const header = fn.configRead(at, 4);
      list.push(`${at.toString(16)}: ${(header & 0xfffff).toString(16)}`);
      fn.configWrite(at, 4, 0xffff_ffff);
      assert.is(fn.configRead(at, 4), header, "headers are read-only");
    }
    return list;
  };
  assert.equal(walk(new ErrorReporting(), serialNumber(), serialNumber()), ["100: 20001", "148: 10003", "154: 10003"]);
  assert.equal(walk(serialNumber()), ["100: 10003"]);
  assert.equal(walk(), ["100: 0"]);
  const wrong = (more: Partial<ExtendedCapability>) => () =>
    new TestFunction({ extended: [{ ...serialNumber(), ...more }] });
  for (const more of [{ id: 0 }, { version: 16 }, { image: new Uint8Array(10) }, { rw: new Uint8Array(8) }])
    assert.throws(wrong(more), isConfigError("extended-capability"));
  const large = { id: 11, version: 1, image: new Uint8Array(0xf00), rw: new Uint8Array(0xf00) };
  assert.equal(walk(large), ["100: 1000b"]);
  assert.throws(() => new TestFunction({ extended: [large, serialNumber()] }), isConfigError("extended-capability"));
});

test("extended space goes into a state and comes back; read-only bits of it may not differ", () => {
  const { fn, errors } = endpoint();
  errors.uncorrectable(0x0010_0000);
  fn.configWrite(0x10c, 4, 0);
  const state = fn.save();
  const other = endpoint();
  other.fn.load(state);
  assert.equal([other.fn.configRead(0x104, 4), other.fn.configRead(0x10c, 4)], [0x0010_0000, 0]);
  const broken = Uint8Array.from(state.extended as Uint8Array);
  broken[0] = 2;
  assert.throws(
    () => other.fn.load({ ...state, extended: broken }),
    (error: unknown) => error instanceof StateError,
  );
  const { extended: _, ...without } = state;
  assert.throws(
    () => other.fn.load(without),
    (error: unknown) => error instanceof StateError,
  );
  assert.is(other.fn.configRead(0x104, 4), 0x0010_0000);
});

// ------------------------------------------------------------------------------------------------ a port and its slot

const SLTCTL = 0x6c; // the capability is at 54h
const SLTSTA = 0x6e;

const port = () => {
  const root = pcieRootPort();
  const host = new RecordingHost();
  root.connect(host);
  host.take();
  return { root, host };
};

test("a root port shows itself as QEMU's", () => {
  const { root } = port();
  // specs/pci.md §2.4 and §11.3
  assert.equal(
    [0x00, 0x04, 0x08, 0x0c, 0x10, 0x18, 0x20, 0x34, 0x3c].map((at) => root.configRead(at, 4)),
    [0x000c1b36, 0x00100000, 0x06040000, 0x00010000, 0, 0, 0x0000fff0, 0x54, 0x00000100],
  );
  assert.equal([root.configRead(0x56, 2), root.configRead(0x68, 4)], [0x0142, 0x000a_007b]);
  root.configWrite(0x3e, 2, 0xffff);
  assert.is(root.configRead(0x3e, 2), 0x005f);
  const list: number[] = [];
  for (let at = root.configRead(0x34, 1); at !== 0; at = root.configRead(at + 1, 1)) list.push(root.configRead(at, 1));
  assert.equal(list, [0x10, 0x11, 0x0d]);
});

test("PCI-159 events of the slot latch, clear by writing 1, and interrupt while they are enabled", () => {
  const { root, host } = port();
  assert.is(root.configRead(SLTSTA, 2), 0);
  root.occupied(0, true);
  assert.is(root.configRead(SLTSTA, 2), 0x0148, "presence, and that presence and link changed");
  assert.is(root.configRead(0x66, 2), 0x2011, "the link is up");
  assert.equal(host.take(), []);
  root.configWrite(SLTCTL, 2, 0x0008);
  assert.equal(host.take(), [], "without the hot-plug interrupt's own enable");
  root.configWrite(SLTCTL, 2, 0x0028);
  assert.equal(host.take(), ["up"]);
  root.configWrite(SLTSTA, 2, 0x0100);
  assert.equal([root.configRead(SLTSTA, 2) & 0x0148, host.take().length], [0x0048, 0]);
  root.configWrite(SLTSTA, 2, 0xffff);
  assert.equal([root.configRead(SLTSTA, 2), host.take()], [0x0040, ["down"]]);
  root.express.pressAttentionButton();
  assert.equal([root.configRead(SLTSTA, 2), host.take()], [0x0041, []]);
  root.configWrite(SLTCTL, 2, 0x0021);
  assert.equal(host.take(), ["up"]);
  root.configWrite(SLTSTA, 2, 0x0011);
  host.take();
  root.configWrite(SLTCTL, 2, 0x1020);
  root.configWrite(SLTSTA, 2, 0x0010);
  root.occupied(0, false);
  assert.equal([root.configRead(SLTSTA, 2), host.take()], [0x0108, ["up"]], "link changes have a bit of their own");
  assert.is(root.configRead(0x66, 2), 0x0011);
});

test("PCI-160 every write of Slot Control is a command that has completed, and can interrupt as such", () => {
  const { root, host } = port();
  for (const value of [0x07c0, 0x0000, 0x0700]) {
    root.configWrite(SLTCTL, 2, value);
    assert.is(root.configRead(SLTSTA, 2), 0x0010);
    root.configWrite(SLTSTA, 2, 0x0010);
    assert.is(root.configRead(SLTSTA, 2), 0);
  }
  root.configWrite(SLTCTL, 2, 0x0030);
  assert.equal(host.take(), ["up"]);
  root.configWrite(SLTSTA, 2, 0x0010);
  assert.equal(host.take(), ["down"]);
  root.configWrite(SLTCTL + 1, 1, 0x08); // the interlock is a pulse
  assert.equal([root.configRead(SLTCTL, 2) & 0x0800, root.configRead(SLTSTA, 2) & 0x80], [0, 0x80]);
});

test("power and indicators come out of reset as the slot is, and a slot's state goes into a state", () => {
  const { root } = port();
  assert.equal([root.configRead(SLTCTL, 2), root.express.slotPower], [0x07c0, false]);
  root.occupied(0, true);
  root.reset("bus");
  assert.equal(
    [root.configRead(SLTCTL, 2), root.configRead(SLTSTA, 2), root.express.slotPower],
    [0x01c0, 0x0040, true],
  );
  root.configWrite(SLTCTL, 2, 0x0028);
  root.occupied(0, false);
  const state = root.save();
  const { root: other, host } = port();
  other.load(state);
  assert.is(other.configRead(SLTSTA, 2), 0x0118);
  assert.equal(host.take(), ["up"]);
  other.configWrite(SLTSTA, 2, 0xffff);
  assert.equal(host.take(), ["down"]);
});

test.run();
