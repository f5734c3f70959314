import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../args.js";
import { completeCards, words } from "./cards.js";

test("words are cut as a shell does", () => {
  assert.equal(words("-device virtio-net-pci,mq=on  -m 64\n"), ["-device", "virtio-net-pci,mq=on", "-m", "64"]);
  assert.equal(words(`-drive 'file=a b,if=none' "x 'y'"`), ["-drive", "file=a b,if=none", "x 'y'"]);
  assert.equal(words(" "), []);
  assert.throws(
    () => words("-device 'rtl8139"),
    (error: unknown) => error instanceof UsageError,
  );
});

test("a network card gets a far end, an address and no boot ROM, a disk something to read; what is there stays", () => {
  const args = words(
    "-device virtio-net-pci -m 64 -device rtl8139,mac=52:54:00:AA:00:01,romfile=x -device virtio-blk-pci,vectors=0 -device pci-bridge,chassis_nr=1",
  );
  const { cards, rest } = completeCards(args);
  assert.equal(rest, ["-m", "64"]);
  assert.equal(
    cards.map(({ device }) => device),
    [
      "virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,romfile=",
      "rtl8139,mac=52:54:00:AA:00:01,romfile=x,netdev=n1",
      "virtio-blk-pci,vectors=0,drive=d2,serial=BARWIRE-0123456789",
      "pci-bridge,chassis_nr=1",
    ],
  );
  assert.equal(
    cards.map(({ kind, backend, mac }) => [kind, backend, mac]),
    [
      ["network", "n0", "52:54:00:12:34:56"],
      ["network", "n1", "52:54:00:aa:00:01"],
      ["disk", "d2", null],
      ["other", null, null],
    ],
  );
  const own = completeCards(["-device", "e1000,netdev=u0", "-device", "virtio-blk-pci,drive=x"]).cards;
  assert.equal(
    own.map(({ device, backend }) => [device, backend]),
    [
      ["e1000,netdev=u0,romfile=", null],
      ["virtio-blk-pci,drive=x", null],
    ],
  );
  assert.throws(
    () => completeCards(["-device"]),
    (error: unknown) => error instanceof UsageError,
  );
});

test.run();
