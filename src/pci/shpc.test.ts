import { test } from "uvu";
import * as assert from "uvu/assert";
import { StateError } from "../bytes/index.js";
import type { AccessWidth } from "../contract/index.js";
import { pciBridge } from "./bridge.js";
import { RecordingHost } from "./testing.js";

// Offsets of the working registers, SHPC 1.0 §4; the first slot's are at 24h.
const COMMAND = 0x14;
const STATUS = 0x16;
const LOCATOR = 0x18;
const SERR_INT = 0x20;
const slot = (n: number): number => 0x20 + 4 * n;

const rig = () => {
  const bridge = pciBridge({ hotPlug: true });
  const host = new RecordingHost();
  bridge.connect(host);
  const read = (offset: number, width: AccessWidth) => bridge.barRead(0, offset, width);
  const write = (offset: number, width: AccessWidth, value: number) => bridge.barWrite(0, offset, width, value);
  return { bridge, host, shpc: bridge.hotPlug!, read, write };
};

/** The same on bus 1, so that what comes now comes hot. */
const running = () => {
  const all = rig();
  all.bridge.configWrite(0x18, 4, 0x0001_0100);
  return all;
};

test("the controller has 31 slots from device 1 on, all empty, all silent", () => {
  const { read } = rig();
  assert.equal([read(0x00, 4), read(0x04, 4), read(0x08, 4)], [0, 31, 0]);
  assert.is(read(0x0c, 4), 0xe001_011f, "latch sensors, buttons, numbers that go up");
  assert.equal([read(0x10, 4), read(COMMAND, 4), read(LOCATOR, 4), read(SERR_INT, 4)], [0x0100_0000, 0, 0, 0x0f]);
  for (const n of [1, 17, 31]) assert.is(read(slot(n), 4), 0x7f00_0d3f, "off, both indicators off, latch open, empty");
});

test("the capability is a window on the same registers, dword by dword", () => {
  const { bridge, write } = rig();
  assert.is(bridge.configRead(0x40, 1), 0x0c);
  const dword = (select: number) => {
    bridge.configWrite(0x42, 1, select);
    return bridge.configRead(0x44, 4);
  };
  assert.equal([dword(0), dword(1), dword(3), dword(8), dword(9)], [0, 31, 0xe001_011f, 0x0f, 0x7f00_0d3f]);
  assert.equal([dword(0x40), dword(0xff)], [0, 0], "beyond them");
  bridge.configWrite(0x42, 1, 8);
  bridge.configWrite(0x44, 4, 0xffff_fff0);
  assert.is(bridge.configRead(0x44, 4), 0);
  bridge.configWrite(0x44, 1, 0x05);
  assert.equal([bridge.barRead(0, SERR_INT, 4), bridge.configRead(0x44, 4)], [5, 5]);
  write(SERR_INT, 4, 0x0a);
  assert.is(bridge.configRead(0x44, 4), 0x0a);
});

test("what is there when the power comes is on; what comes later waits for the guest", () => {
  const cold = rig();
  cold.bridge.occupied(4, true);
  assert.is(cold.read(slot(4), 4), 0x7f00_0036, "on, power indicator on, 7.5 W, no event");
  const { bridge, read, write } = running();
  bridge.occupied(4, true);
  assert.is(read(slot(4), 4), 0x7f0d_003f, "off still, latch closed; button, latch and presence have changed");
  write(slot(4) + 2, 1, 0x05);
  assert.is(read(slot(4), 4), 0x7f08_003f);
  write(COMMAND, 2, 0x0436); // slot 4: on, power indicator on, attention indicator off
  assert.equal([read(STATUS, 2), read(slot(4), 2)], [0, 0x0036]);
  bridge.reset("bus");
  assert.is(read(slot(4), 4), 0x7f00_0036);
  bridge.occupied(0, true); // device 0 has no slot
  assert.is(read(slot(31), 4), 0x7f00_0d3f);
});

test("commands: what they do, and what they are refused for", () => {
  const { bridge, read, write } = running();
  const command = (target: number, code: number) => {
    write(COMMAND, 2, target * 0x100 + code);
    return read(STATUS, 2);
  };
  assert.is(command(2, 0x02), 2, "latch open");
  bridge.occupied(2, true);
  assert.equal([command(0, 0x02), command(32, 0x02)], [4, 4], "no such slot");
  assert.equal([command(2, 0x01), read(slot(2), 2)], [0, 0x003d], "power only");
  assert.equal([command(2, 0x02), read(slot(2), 2)], [0, 0x003e], "indicators as they were");
  assert.is(command(2, 0x01), 4, "power only is no way back");
  assert.equal([command(2, 0x18), read(slot(2), 2)], [0, 0x001a], "blinking and on, the state as it was");
  assert.equal(
    [0x40, 0x41, 0x47].map((code) => command(0, code)),
    [0, 8, 8],
    "33 MHz and nothing else",
  );
  assert.equal([command(0, 0x48), command(0, 0x49)], [4, 4], "one is on already");
  assert.equal([command(2, 0x3f), read(slot(2), 2)], [0, 0x003f]);
  assert.equal([command(0, 0x49), read(slot(2), 2), read(slot(3), 2)], [0, 0x0036, 0x0d3f], "where latches are closed");
  assert.equal(
    [0x4a, 0x80, 0xff].map((code) => command(2, code)),
    [4, 4, 4],
  );
  write(COMMAND + 1, 1, 3);
  assert.is(read(STATUS, 2), 4, "a target alone is no command");
});

test("events and finished commands interrupt unless they are told not to, by level and by message", () => {
  const { bridge, host, read, write } = running();
  bridge.occupied(7, true);
  assert.equal([read(LOCATOR, 4), host.take()], [0, []]);
  write(slot(7) + 3, 1, 0x7e); // presence
  assert.equal([read(LOCATOR, 4), host.take()], [0x80, []], "located, but the controller is silent");
  write(SERR_INT, 4, 0x0e);
  assert.equal([host.take(), bridge.configRead(0x43, 1)], [["up"], 0x08]);
  write(slot(7) + 2, 1, 0x01);
  assert.equal([read(LOCATOR, 4), host.take(), bridge.configRead(0x43, 1)], [0, ["down"], 0]);
  write(COMMAND, 2, 0x0736);
  assert.equal([read(SERR_INT, 4), host.take()], [0x0001_000e, []]);
  write(SERR_INT, 4, 0x0a);
  assert.equal([read(LOCATOR, 4), host.take()], [1, ["up"]]);
  write(SERR_INT, 4, 0x0001_000a);
  assert.equal([read(SERR_INT, 4), host.take()], [0x0a, ["down"]]);

  bridge.configWrite(0x04, 2, 4);
  bridge.configWrite(0x50, 4, 0xfee0_0000);
  bridge.configWrite(0x58, 2, 0x41);
  bridge.configWrite(0x4e, 2, 1);
  write(slot(7) + 3, 1, 0x7b);
  assert.equal(host.take(), ["v0 fee00000 41"], "the button was latched before");
  bridge.hotPlug!.pressAttentionButton(7);
  assert.equal(host.take(), []);
  write(slot(7) + 2, 1, 0x1f);
  bridge.hotPlug!.pressAttentionButton(7);
  assert.equal(host.take(), ["v0 fee00000 41"], "one message for each rise");
});

test("a card whose slot the guest switches off is the embedder's to pull, and the slot is empty then", () => {
  const { bridge, shpc, read, write } = rig();
  bridge.occupied(4, true);
  bridge.configWrite(0x18, 4, 0x0001_0100);
  const told: number[] = [];
  shpc.onDisabled = (device) => {
    told.push(device);
    bridge.occupied(device, false);
  };
  shpc.pressAttentionButton(4);
  assert.is(read(slot(4), 4), 0x7f04_0036);
  write(COMMAND, 2, 0x0408); // the power indicator blinks: it has understood
  assert.equal([told, read(slot(4), 2)], [[], 0x003a]);
  write(COMMAND, 2, 0x043f);
  assert.equal([told, read(slot(4), 4)], [[4], 0x7f0d_0d3f], "latch open, nobody there");
  write(COMMAND, 2, 0x043f);
  assert.equal(told, [4]);
});

test("a state holds what slots and commands are at, and brings back the interrupt", () => {
  const { bridge, read, write } = running();
  bridge.occupied(4, true);
  write(COMMAND, 2, 0x0402);
  write(slot(4) + 3, 1, 0);
  write(SERR_INT, 4, 0);
  const state = bridge.save();
  const other = rig();
  other.bridge.load(state);
  for (let at = 0; at < 0x100; at += 4) assert.is(other.read(at, 4), read(at, 4), at.toString(16));
  assert.equal(other.host.take(), ["up"]);
  const capabilities = state.capabilities as ({ registers: Uint8Array } | null)[];
  const bent = structuredClone(capabilities);
  bent[2]!.registers[0x0c] = 5;
  assert.throws(
    () => other.bridge.load({ ...state, capabilities: bent }),
    (error: unknown) => error instanceof StateError,
  );
  assert.is(other.read(0x0c, 1), 31);
});

test.run();
