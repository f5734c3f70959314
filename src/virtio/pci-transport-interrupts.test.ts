import { test } from "uvu";
import * as assert from "uvu/assert";
import { enableMsix, NO_VECTOR, rig, running } from "./pci-transport-testing.js";

// ------------------------------------------------------------------------------------------------ interrupts

test("VIO-055 VIO-056 VIO-057 VIO-059 VIO-061 used buffers set bit 0 and INTx, and a read takes both back", () => {
  const { host, slot, driver, q } = running();
  assert.not(host.intx);
  assert.is(driver.read(0x1000, 1), 0);
  q.offer(0);
  driver.notify(0);
  assert.ok(host.intx);
  assert.is(slot.configRead(0x06, 2) & 8, 8);
  assert.is(driver.read(0x1000, 1), 1);
  assert.not(host.intx);
  assert.is(slot.configRead(0x06, 2) & 8, 0);
  assert.is(driver.read(0x1000, 1), 0);
  driver.notify(0);
  assert.not(host.intx, "nothing used, nothing to say");
});

test("what is counted as an interrupt: rises of INTx, and messages that were sent", () => {
  const r = running();
  const { slot, driver, q } = r;
  const kick = (): number => {
    q.offer(0);
    driver.notify(0);
    return slot.core.interrupts;
  };
  assert.equal([kick(), kick()], [1, 1], "it stands already");
  driver.read(0x1000, 1);
  assert.is(kick(), 2);
  enableMsix(r, 0x98, 4);
  assert.is(kick(), 2, "no vector, no message");
  driver.write(0x1a, 2, 2);
  assert.equal([kick(), kick()], [3, 4]);
});

test("VIO-055 a wide read that covers the ISR clears it, one beside it does not", () => {
  for (const width of [1, 2, 4] as const) {
    const { host, driver, q } = running();
    q.offer(0);
    driver.notify(0);
    assert.is(driver.read(0x1004, width), 0);
    assert.ok(host.intx);
    assert.is(driver.read(0x1000, width), 1);
    assert.not(host.intx);
  }
});

test("VIO-060 Interrupt Disable holds INTx back, not the ISR", () => {
  const { host, slot, driver, q } = running();
  slot.configWrite(0x04, 2, 0x0407);
  q.offer(0);
  driver.notify(0);
  assert.not(host.intx);
  assert.is(slot.configRead(0x06, 2) & 8, 8);
  slot.configWrite(0x04, 2, 0x0007);
  assert.ok(host.intx);
  assert.is(driver.read(0x1000, 1), 1);
});

test("VIO-062 reset clears the ISR and takes INTx back", () => {
  const { host, slot, driver, q } = running();
  q.offer(0);
  driver.notify(0);
  driver.write(0x14, 1, 0);
  assert.not(host.intx);
  assert.is(driver.read(0x1000, 1), 0);
  assert.is(slot.configRead(0x06, 2) & 8, 0);
});

test("VIO-058 VIO-064 a configuration change sets bit 1 and notifies, but not before DRIVER_OK", () => {
  const { host, driver, toy } = rig();
  driver.negotiate(0, 1);
  toy.bus?.configChanged(true);
  assert.not(host.intx);
  assert.is(driver.read(0x1000, 1), 0);
  driver.driverOk();
  toy.bus?.configChanged(true);
  assert.ok(host.intx);
  assert.is(driver.read(0x1000, 1), 2);
  assert.not(host.intx);
});

test("VIO-047 VIO-048 VIO-049 vectors read NO_VECTOR after reset, what was written, or NO_VECTOR when there is none", () => {
  const { driver } = rig(); // 4 vectors
  for (const at of [0x10, 0x1a]) {
    assert.is(driver.read(at, 2), NO_VECTOR);
    for (const [written, kept] of [
      [0, 0],
      [3, 3],
      [4, NO_VECTOR],
      [2, 2],
      [0x7fff, NO_VECTOR],
      [1, 1],
      [NO_VECTOR, NO_VECTOR],
      [3, 3],
    ] as const) {
      driver.write(at, 2, written);
      assert.is(driver.read(at, 2), kept);
    }
  }
  driver.write(0x14, 1, 0);
  assert.is(driver.read(0x10, 2), NO_VECTOR);
  assert.is(driver.read(0x1a, 2), NO_VECTOR);
});

test("VIO-050 VIO-051 VIO-052 VIO-054 messages go by the vectors as they are, INTx stays down", () => {
  const r = running();
  const { host, driver, toy, q } = r;
  enableMsix(r, 0x98, 4);
  const kick = () => {
    q.offer(0);
    driver.notify(0);
    return host.messages.splice(0);
  };
  assert.equal(kick(), [], "no vector, no message");
  assert.not(host.intx);
  driver.write(0x16, 2, 0);
  driver.write(0x1a, 2, 2);
  assert.equal(kick(), [{ vector: 2, address: 0xfee0_0008, data: 0x102 }]);
  driver.write(0x1a, 2, 1);
  driver.write(0x10, 2, 1);
  assert.equal(kick(), [{ vector: 1, address: 0xfee0_0004, data: 0x101 }]);
  toy.bus?.configChanged(true);
  assert.equal(host.messages.splice(0), [{ vector: 1, address: 0xfee0_0004, data: 0x101 }]);
  assert.not(host.intx);
  assert.is(driver.read(0x1000, 1), 3, "the ISR is kept all the same");
});

test("VIO-045 VIO-046 a masked vector waits in the pending bits and is sent once", () => {
  const r = running();
  const { host, slot, driver, q } = r;
  enableMsix(r, 0x98, 4);
  driver.write(0x1a, 2, 2);
  slot.barWrite(1, 2 * 16 + 12, 4, 1);
  for (let i = 0; i < 3; i++) {
    q.offer(0);
    driver.notify(0);
  }
  assert.equal(host.messages, []);
  assert.is(slot.barRead(1, 0x800, 4), 4);
  slot.barWrite(1, 2 * 16 + 12, 4, 0);
  assert.is(host.messages.length, 1);
  assert.is(slot.barRead(1, 0x800, 4), 0);
  slot.configWrite(0x9a, 2, 0xc000);
  q.offer(0);
  driver.notify(0);
  assert.is(host.messages.length, 1);
  slot.configWrite(0x9a, 2, 0x8000);
  assert.is(host.messages.length, 2);
});

test("VIO-040 VIO-041 VIO-042 VIO-043 VIO-044 MSI-X is laid out as QEMU's, and its edges hold", () => {
  const { slot } = rig();
  assert.equal([slot.configRead(0x9a, 2), slot.configRead(0x9c, 4), slot.configRead(0xa0, 4)], [3, 1, 0x801]);
  slot.configWrite(0x9a, 2, 0xffff);
  assert.is(slot.configRead(0x9a, 2), 0xc003);
  for (let i = 0; i < 4; i++) assert.is(slot.barRead(1, 16 * i + 12, 4), 1);
  assert.is(slot.barRead(1, 0x800, 4), 0);
  slot.barWrite(1, 0x800, 4, 0xffff_ffff);
  assert.is(slot.barRead(1, 0x800, 4), 0);
  for (const at of [0x40, 0x7fc, 0x808, 0xffc]) {
    slot.barWrite(1, at, 4, 0xffff_ffff);
    assert.is(slot.barRead(1, at, 4), 0);
  }
});

test("VIO-101 MSI-X survives a virtio reset", () => {
  const r = running();
  const { slot, driver } = r;
  enableMsix(r, 0x98, 4);
  driver.write(0x14, 1, 0);
  assert.is(slot.configRead(0x9a, 2), 0x8003);
  assert.is(slot.barRead(1, 16, 4), 0xfee0_0004);
});

test("a device without MSI-X has no vectors", () => {
  const { slot, driver } = rig({ personality: "modern", vectors: 0 });
  assert.is(slot.configRead(0x34, 1), 0x84);
  driver.write(0x10, 2, 0);
  assert.is(driver.read(0x10, 2), NO_VECTOR);
  assert.equal(
    slot.bars.map(({ index }) => index),
    [4],
  );
});

// ------------------------------------------------------------------------------------------------ doorbells

test("VIO-065 VIO-066 VIO-072 doorbells: offset by index, any width, and they read 0", () => {
  const { toy, driver, q } = running();
  for (const queue of [0, 1, 2]) {
    driver.write(0x16, 2, queue);
    assert.is(driver.read(0x1e, 2), queue);
  }
  for (const width of [1, 2, 4] as const) {
    q.offer(0);
    driver.write(0x3000, width, 0xffff_ffff);
  }
  assert.is(toy.seen.length, 3);
  for (const width of [1, 2, 4] as const) assert.is(driver.read(0x3000, width), 0);
});

test("a message that waits for its mask does not outlive a reset of the device: nothing is sent before DRIVER_OK. §2.1.2", () => {
  const r = running();
  const { host, slot, driver, q } = r;
  enableMsix(r, 0x98, 4);
  driver.write(0x1a, 2, 2);
  slot.barWrite(1, 2 * 16 + 12, 4, 1);
  q.offer(0);
  driver.notify(0);
  assert.is(slot.barRead(1, 0x800, 4), 4);
  driver.write(0x14, 1, 0);
  assert.is(slot.barRead(1, 0x800, 4), 0);
  slot.barWrite(1, 2 * 16 + 12, 4, 0);
  assert.equal(host.messages, []);
  assert.is(slot.configRead(0x9a, 2), 0x8003, "MSI-X itself is the driver's, and stays on");
});

test("VIO-067 VIO-068 VIO-069 doorbells without a queue, of a disabled one, or without work change nothing", () => {
  const { host, toy, driver, q } = running();
  for (const at of [0x3000, 0x3004, 0x3008, 0x300c, 0x3ffc]) driver.write(at, 4, 0xffff_ffff);
  assert.is(toy.seen.length, 0);
  assert.is(q.usedIdx, 0);
  assert.is(q.usedFlags, 0);
  assert.not(host.intx);
  assert.is(driver.read(0x14, 1), 0x0f);
});

test.run();
