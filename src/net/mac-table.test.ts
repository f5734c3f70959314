import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { StateError, StateReader } from "../bytes/index.js";
import { MacTable } from "./mac-table.js";

const mac = (n: number): Uint8Array =>
  Uint8Array.of(2, 0, (n >>> 24) & 0xff, (n >>> 16) & 0xff, (n >>> 8) & 0xff, n & 0xff);

test("a station is found where it was heard last", () => {
  const table = new MacTable(16, 1000);
  assert.is(table.lookup(mac(1), 0, 0), -1);
  table.learn(mac(1), 0, 3, 0);
  table.learn(mac(2), 0, 4, 0);
  assert.is(table.lookup(mac(1), 0, 0), 3);
  table.learn(mac(1), 0, 5, 1);
  assert.is(table.lookup(mac(1), 0, 1), 5);
  assert.is(table.lookup(mac(2), 0, 1), 4);
});

test("all six bytes count", () => {
  const table = new MacTable(64, 1000);
  const own = Uint8Array.of(2, 1, 3, 4, 5, 6);
  table.learn(own, 0, 1, 0);
  for (let i = 0; i < 6; i++) {
    const other = own.slice();
    other[i] = other[i]! ^ 0x10;
    assert.is(table.lookup(other, 0, 0), -1, `byte ${i}`);
  }
});

test("an entry is good for as long as it may be old, and not a nanosecond longer", () => {
  const table = new MacTable(16, 1000);
  table.learn(mac(1), 0, 3, 50);
  assert.is(table.lookup(mac(1), 0, 1050), 3);
  assert.is(table.lookup(mac(1), 0, 1051), -1);
  table.learn(mac(1), 0, 2, 2000);
  assert.is(table.lookup(mac(1), 0, 2000), 2);
});

test("stations heard at time 0 do not push one another out while entries are empty", () => {
  const table = new MacTable(4, 1000);
  for (let n = 0; n < 4; n++) table.learn(mac(n), 0, n, 0);
  for (let n = 0; n < 4; n++) assert.is(table.lookup(mac(n), 0, 0), n);
});

test("a full set gives up the station that was silent longest", () => {
  const table = new MacTable(4, 1000);
  for (let n = 0; n < 4; n++) table.learn(mac(n), 0, n, n);
  table.learn(mac(0), 0, 0, 10);
  table.learn(mac(9), 0, 9, 11);
  assert.is(table.lookup(mac(1), 0, 11), -1);
  for (const n of [0, 2, 3, 9]) assert.is(table.lookup(mac(n), 0, 11), n);
});

test("forgetting a port leaves the others", () => {
  const table = new MacTable(64, 1000);
  for (let n = 0; n < 8; n++) table.learn(mac(n), 0, n % 2, 0);
  table.forget(1);
  for (let n = 0; n < 8; n++) assert.is(table.lookup(mac(n), 0, 0), n % 2 === 0 ? 0 : -1);
});

test("it never names a port on which a station was not heard last, and neither does a restored one", () => {
  const heard = fc.array(fc.tuple(fc.nat(40), fc.nat(7)), { maxLength: 200 });
  fc.assert(
    fc.property(heard, (list) => {
      const table = new MacTable(32, 1e9);
      const last = new Map<number, number>();
      for (const [time, [station, port]] of list.entries()) {
        table.learn(mac(station), 0, port, time);
        last.set(station, port);
      }
      const twin = MacTable.restore(new StateReader(structuredClone(table.save()), "table"), 32, 1e9, 8);
      for (let station = 0; station <= 40; station++) {
        const port = table.lookup(mac(station), 0, list.length);
        assert.ok(port === -1 || port === last.get(station));
        assert.is(twin.lookup(mac(station), 0, list.length), port);
      }
    }),
    { numRuns: 50 },
  );
});

test("cards with neighbouring addresses, as one machine has them, all find a place", () => {
  const table = new MacTable(1024, 1e9);
  for (let n = 0; n < 200; n++) table.learn(mac(0x1234_5600 + n), 0, n % 31, 0);
  for (let n = 0; n < 200; n++) assert.is(table.lookup(mac(0x1234_5600 + n), 0, 0), n % 31);
});

test("a table of another size, or with a port that is not there, is refused", () => {
  const saved = new MacTable(16, 1000).save();
  const refused = (state: unknown, size: number): void =>
    assert.throws(
      () => MacTable.restore(new StateReader(state, "table"), size, 1000, 4),
      (error: unknown) => error instanceof StateError,
    );
  refused(saved, 32);
  refused({ ...saved, port: Array.from({ length: 16 }, () => 4) }, 16);
  refused({ ...saved, heard: Array.from({ length: 16 }, () => -2) }, 16);
});

test.run();
