import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import type { SecondaryBus } from "../contract/index.js";
import { PciBridge, pciBridge } from "./bridge.js";
import { RecordingHost, TestModel } from "./testing.js";

const isConfigError = (code: string) => (error: unknown) => error instanceof ConfigError && error.code === code;

/** A bus behind a bridge that writes down what it is told. */
const listening = (bridge: PciBridge): string[] => {
  const told: string[] = [];
  const bus: SecondaryBus = { changed: () => void told.push("changed"), reset: () => void told.push("reset") };
  bridge.connectSecondary(bus);
  return told;
};

test("PCI-041 a bridge has header layout 1 and class 0604, and no subsystem", () => {
  const bridge = pciBridge();
  assert.is(bridge.configRead(0x0e, 1), 0x01);
  assert.is(bridge.configRead(0x08, 4), 0x0604_0000);
  assert.is(bridge.configRead(0x00, 4), 0x0001_1b36);
  assert.is(bridge.configRead(0x2c, 4), 0);
  const multi = new PciBridge({
    name: "bridge",
    identity: { vendorId: 0x1b36, deviceId: 1, revisionId: 0, classCode: 0x060400 },
    multiFunction: true,
  });
  assert.is(multi.configRead(0x0e, 1), 0x81);
});

test("PCI-042 bus numbers are writable in any width, and 0 after reset", () => {
  const bridge = pciBridge();
  assert.is(bridge.configRead(0x18, 4), 0);
  bridge.configWrite(0x18, 4, 0xffff_ffff);
  assert.is(bridge.configRead(0x18, 4), 0xffff_ffff, "with the secondary latency timer");
  bridge.configWrite(0x19, 1, 5);
  bridge.configWrite(0x1a, 1, 9);
  assert.equal([bridge.secondaryBus, bridge.subordinateBus], [5, 9]);
  bridge.reset("bus");
  assert.is(bridge.configRead(0x18, 4), 0);
});

test("PCI-062 the expansion ROM of a bridge is at 38h, and 30h holds the upper halves of its I/O window", () => {
  const handler = new TestModel();
  const bridge = new PciBridge({
    name: "bridge",
    identity: { vendorId: 0x1b36, deviceId: 1, revisionId: 0, classCode: 0x060400 },
    bridge: { io32: true },
    bars: { 6: { kind: "mem32", size: 0x800, handler } },
  });
  bridge.configWrite(0x38, 4, 0xffff_ffff);
  assert.is(bridge.configRead(0x38, 4), 0xffff_f801);
  bridge.configWrite(0x38, 4, 0x8000_0001);
  bridge.configWrite(0x04, 2, 2);
  assert.is(bridge.barBase(6), 0x8000_0000);
  bridge.configWrite(0x30, 4, 0x0001_0001);
  assert.is(bridge.configRead(0x30, 4), 0x0001_0001);
  assert.is(bridge.configRead(0x1c, 2), 0x0101);
});

test("a bridge has BARs 0 and 1 only", () => {
  const handler = new TestModel();
  const declare = (index: number, kind: "mem32" | "mem64") => () =>
    new PciBridge({
      name: "bridge",
      identity: { vendorId: 0x1b36, deviceId: 1, revisionId: 0, classCode: 0x060400 },
      bars: { [index]: { kind, size: 256, handler } },
    });
  for (const [index, kind] of [
    [2, "mem32"],
    [5, "mem32"],
    [1, "mem64"],
  ] as const)
    assert.throws(declare(index, kind), isConfigError("bar-index"));
  const bridge = declare(0, "mem64")();
  bridge.configWrite(0x10, 4, 0xffff_ffff);
  assert.is(bridge.configRead(0x10, 4), 0xffff_ff04);
  for (const chassis of [0, 256, 1.5]) assert.throws(() => pciBridge({ chassis }), isConfigError("bridge-chassis"));
  const wrong = (header: object) => () =>
    new PciBridge({
      name: "b",
      identity: { vendorId: 1, deviceId: 1, revisionId: 0, classCode: 0x060400 },
      bridge: header,
    });
  assert.throws(wrong({ secondaryStatusBits: 0x2000 }), isConfigError("config-field"));
  assert.throws(wrong({ controlMask: 0x0400 }), isConfigError("config-field"));
});

test("Secondary Status is write-1-to-clear in bits 8 and 11 … 15; Bridge Control has QEMU's mask", () => {
  const bridge = pciBridge();
  bridge.masterAborted();
  assert.is(bridge.configRead(0x1e, 2), 0x20a0);
  bridge.configWrite(0x1e, 2, 0xdfff);
  assert.is(bridge.configRead(0x1e, 2), 0x20a0);
  bridge.configWrite(0x1c, 4, 0x2000_0000);
  assert.is(bridge.configRead(0x1e, 2), 0x00a0);
  bridge.configWrite(0x3e, 2, 0xffff);
  assert.is(bridge.configRead(0x3e, 2), 0x0bff);
});

test("the bus behind is told of every change, once, and of resets after the windows have closed", () => {
  const bridge = pciBridge();
  bridge.connect(new RecordingHost());
  const told = listening(bridge);
  const after = (offset: number, width: 1 | 2 | 4, value: number) => {
    bridge.configWrite(offset, width, value);
    return told.splice(0);
  };
  assert.equal(after(0x18, 4, 0x0002_0100), ["changed"]);
  assert.equal(after(0x18, 4, 0x0002_0105), [], "the primary number is for information");
  assert.equal(after(0x20, 4, 0x8010_8010), [], "memory is not enabled");
  assert.equal(after(0x04, 2, 0x0002), ["changed"]);
  assert.equal(bridge.downstream("memory"), [[0x8010_0000, 0x8020_0000]]);
  assert.equal(after(0x20, 4, 0x8010_8010), []);
  assert.is(bridge.upstream, false);
  assert.equal(after(0x04, 2, 0x0006), ["changed"]);
  assert.is(bridge.upstream, true);
  assert.equal(after(0x3e, 2, 0x0040), ["changed", "reset"]);
  assert.equal([bridge.running, bridge.upstream, bridge.downstream("memory")], [false, false, []]);
  assert.equal(after(0x3e, 2, 0x0000), ["changed"]);
  assert.equal(bridge.downstream("memory"), [[0x8010_0000, 0x8020_0000]]);
  bridge.reset("bus");
  assert.equal(told.splice(0), ["changed", "reset"]);
  assert.throws(
    () => bridge.connectSecondary({ changed: () => {}, reset: () => {} }),
    isConfigError("already-connected"),
  );
  bridge.connectSecondary(null);
  listening(bridge);
});

test("windows of 32 bits: ports beyond 64 KiB, and ISA enable only below", () => {
  const bridge = pciBridge({ io32: true });
  bridge.configWrite(0x04, 2, 1);
  bridge.configWrite(0x1c, 2, 0x00f0); // base f000, limit 0000 …
  bridge.configWrite(0x30, 4, 0x0001_0000); // … of the next 64 KiB
  assert.equal(bridge.downstream("io"), [[0xf000, 0x1_1000]]);
  bridge.configWrite(0x3e, 2, 0x0004);
  const passed = bridge.downstream("io");
  assert.equal(passed.slice(0, 2), [
    [0xf000, 0xf100],
    [0xf400, 0xf500],
  ]);
  assert.equal(passed.at(-1), [0x1_0000, 0x1_1000]);
});

test.run();
