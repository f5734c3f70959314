import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import { Msi, type MsiOptions } from "./msi.js";
import { RecordingHost, TestFunction } from "./testing.js";

const rig = (options: MsiOptions) => {
  const card = new TestFunction({ capabilities: [new Msi(options)] });
  const host = new RecordingHost();
  card.connect(host);
  card.configWrite(0x04, 2, 0x0004);
  return { card, host, signal: (vector: number) => card.model.seams!.interrupts.signal(vector) };
};

test("the four layouts: where data, mask and pending bits are, and that nothing else can be written", () => {
  // options, dwords of the capability after all ones were written to them
  const layouts: [MsiOptions, number[]][] = [
    [{ vectors: 4, address64: false }, [0x00250005, 0xfffffffc, 0x0000ffff]],
    [{ vectors: 4 }, [0x00a50005, 0xfffffffc, 0xffffffff, 0x0000ffff]],
    [{ vectors: 4, address64: false, maskable: true }, [0x01250005, 0xfffffffc, 0x0000ffff, 0xf, 0]],
    [{ vectors: 4, maskable: true }, [0x01a50005, 0xfffffffc, 0xffffffff, 0x0000ffff, 0xf, 0]],
  ];
  for (const [options, dwords] of layouts) {
    const { card } = rig(options);
    for (let i = dwords.length - 1; i >= 0; i--) card.configWrite(0x40 + 4 * i, 4, 0xffffffff);
    const read = dwords.map((_, i) => card.configRead(0x40 + 4 * i, 4));
    assert.equal(read, dwords, JSON.stringify(options));
  }
});

test("PCI-111 address bits 1:0 read 0", () => {
  const { card } = rig({});
  card.configWrite(0x44, 4, 0xfee00003);
  assert.is(card.configRead(0x44, 4), 0xfee00000);
});

test("PCI-112 the message is 32 bits with zero upper half", () => {
  const { card, host, signal } = rig({});
  card.configWrite(0x44, 4, 0x00001000);
  card.configWrite(0x48, 4, 0x2);
  card.configWrite(0x4c, 4, 0xffff4123);
  card.configWrite(0x42, 2, 0x0001);
  signal(0);
  assert.equal(host.take(), ["v0 200001000 4123"]);
});

test("PCI-113 several vectors replace only the low bits of the data that were enabled", () => {
  const { card, host, signal } = rig({ vectors: 8 });
  card.configWrite(0x44, 4, 0xfee00000);
  card.configWrite(0x4c, 2, 0x41ff);
  card.configWrite(0x42, 2, 0x0021); // 4 of 8
  for (const vector of [0, 3, 5]) signal(vector);
  assert.equal(host.take(), ["v0 fee00000 41fc", "v3 fee00000 41ff", "v1 fee00000 41fd"]);
});

test("PCI-114 more vectors enabled than capable are clamped", () => {
  const { card } = rig({ vectors: 4 });
  card.configWrite(0x42, 2, 0x0051);
  assert.is(card.configRead(0x42, 2), 0x00a5);
  card.configWrite(0x42, 2, 0x0011);
  assert.is(card.configRead(0x42, 2), 0x0095);
});

test("PCI-115 a masked vector sets pending and is sent once on unmask", () => {
  const { card, host, signal } = rig({ vectors: 2, maskable: true });
  card.configWrite(0x44, 4, 0xfee00000);
  card.configWrite(0x4c, 2, 0x0040);
  card.configWrite(0x50, 4, 0x2);
  card.configWrite(0x42, 2, 0x0011);
  signal(1);
  signal(1);
  signal(0);
  assert.equal(host.take(), ["v0 fee00000 40"]);
  assert.is(card.configRead(0x54, 4), 0x2);
  card.configWrite(0x54, 4, 0);
  assert.is(card.configRead(0x54, 4), 0x2, "pending bits are read-only");
  card.configWrite(0x50, 4, 0);
  assert.equal(host.take(), ["v1 fee00000 41"]);
  assert.is(card.configRead(0x54, 4), 0);
});

test("PCI-116 with bus master 0 nothing is delivered", () => {
  const { card, host, signal } = rig({});
  card.configWrite(0x44, 4, 0xfee00000);
  card.configWrite(0x42, 2, 0x0001);
  card.configWrite(0x04, 2, 0x0000);
  signal(0);
  card.configWrite(0x04, 2, 0x0004);
  assert.equal(host.take(), []);
});

test("PCI-103 enabling MSI deasserts INTx; nothing is sent while it is off", () => {
  const { card, host, signal } = rig({});
  card.model.seams!.interrupts.setIntx(true);
  signal(0);
  assert.equal(host.take(), ["up"]);
  card.configWrite(0x42, 2, 0x0001);
  assert.equal(host.take(), ["down"]);
});

test("PCI-161 pending bits survive a snapshot", () => {
  const one = rig({ vectors: 2, maskable: true });
  one.card.configWrite(0x44, 4, 0xfee00000);
  one.card.configWrite(0x50, 4, 0x3);
  one.card.configWrite(0x42, 2, 0x0011);
  one.signal(1);
  const two = rig({ vectors: 2, maskable: true });
  two.card.load(structuredClone(one.card.save()));
  assert.equal(two.host.take(), []);
  two.card.configWrite(0x50, 4, 0);
  assert.equal(two.host.take(), ["v1 fee00000 1"]);
});

test("a number of vectors that is no power of two is refused", () => {
  for (const vectors of [0, 3, 64])
    assert.throws(
      () => new Msi({ vectors }),
      (error: unknown) => error instanceof ConfigError && error.message.startsWith(`${vectors} MSI`),
    );
});

test.run();
