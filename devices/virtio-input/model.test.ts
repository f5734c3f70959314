import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../../src/bytes/index.js";
import type { SavedState } from "../../src/contract/index.js";
import { RawGuest, TestHost } from "../../src/virtio/testing.js";
import { virtioMouse } from "./index.js";

const EVENTQ = 0;
const STATUSQ = 1;
const WRITE = 2;
const BUFFERS = 0x18_0000;

/** A driver with its queues up and `posted` buffers of 8 bytes. */
const guestOf = (posted: number, length = 8) => {
  const card = virtioMouse();
  const guest = new RawGuest(new TestHost([{ base: 0, size: 0x80_0000 }]), card, "modern", () => 64);
  guest.prepare([EVENTQ, STATUSQ], 0, 0);
  guest.driverOk();
  for (let i = 0; i < posted; i++) guest.chain(EVENTQ, i, [BUFFERS + 16 * i, length, WRITE]);
  const events = () =>
    Array.from({ length: guest.usedIdx(EVENTQ) }, (_, i) => {
      const at = BUFFERS + 16 * guest.entry(EVENTQ, i)[0];
      return [guest.host.get(at, 2), guest.host.get(at + 2, 2), guest.host.get(at + 4, 4) | 0];
    });
  return { card, guest, events };
};

/** What is shown under a selection: `size` bytes. */
const shown = (card: ReturnType<typeof virtioMouse>, select: number, subsel: number): number[] => {
  card.barWrite(4, 0x2000, 1, select);
  card.barWrite(4, 0x2001, 1, subsel);
  return Array.from({ length: card.barRead(4, 0x2002, 1) }, (_, i) => card.barRead(4, 0x2008 + i, 1));
};

// What QEMU 7.2.22's virtio-mouse-pci answered to the same reads, but for the name.
test("identity, queues and what can be selected are those of QEMU's mouse", () => {
  const { card } = guestOf(0);
  assert.equal(
    [card.configRead(0, 4), card.configRead(8, 4), card.configRead(0x2c, 4)],
    [0x1052_1af4, 0x0902_0001, 0x1100_1af4],
  );
  assert.is(card.configRead(0x9a, 2), 1); // two vectors
  card.barWrite(4, 0, 4, 0);
  assert.is(card.barRead(4, 4, 4), 0x3000_0000);
  const sizes = [0, 1, 2].map((queue) => {
    card.barWrite(4, 0x16, 2, queue);
    return card.barRead(4, 0x18, 2);
  });
  assert.equal(sizes, [64, 64, 0]);
  assert.equal(shown(card, 0x03, 0), [0x06, 0x00, 0x27, 0x06, 0x02, 0x00, 0x02, 0x00]);
  assert.equal(shown(card, 0x11, 1), [...new Array<number>(34).fill(0), 0x1f, 0, 0, 0, 0, 0, 0, 0, 0x03]);
  assert.equal(shown(card, 0x11, 2), [0x03, 0x01]);
  assert.is(String.fromCharCode(...shown(card, 0x01, 0)), "barwire Virtio Mouse\0");
  for (const [select, subsel] of [
    [0, 0],
    [1, 1],
    [2, 0],
    [0x10, 0],
    [0x11, 0],
    [0x11, 3],
    [0x11, 4],
    [0x12, 0],
    [7, 0],
  ] as const)
    assert.equal(shown(card, select, subsel), [], `${select}, ${subsel}`);
  assert.equal([card.barRead(4, 0x2008 + 42, 1), card.barRead(4, 0x2008 + 43, 1)], [0, 0xff]); // the end
});

test("a report comes as events, one buffer each, with SYN_REPORT behind and one interrupt", () => {
  const { card, guest, events } = guestOf(8);
  card.move(3, -2);
  card.wheel(-1);
  card.button("left", true);
  assert.equal(events(), []); // not before it is whole
  assert.ok(card.sync());
  assert.equal(events(), [
    [2, 0, 3],
    [2, 1, -2],
    [2, 8, -1],
    [1, 0x110, 1],
    [0, 0, 0],
  ]);
  assert.equal(guest.entry(EVENTQ, 0), [0, 8]);
  assert.is(guest.isr, 1);
  assert.is(card.counters().reports, 1);
});

test("a report for which there are too few buffers, or too short ones, is lost as a whole", () => {
  const { card, guest, events } = guestOf(2);
  card.move(1, 1);
  assert.not.ok(card.sync()); // three events, two buffers
  assert.equal(events(), []);
  card.button("right", false);
  assert.ok(card.sync()); // the buffers are still there
  assert.equal(events(), [
    [1, 0x111, 0],
    [0, 0, 0],
  ]);
  assert.not.ok(card.sync());
  assert.is(card.counters().lost, 2);
  const short = guestOf(4, 7);
  short.card.move(1, 0);
  assert.not.ok(short.card.sync());
  assert.is(guest.host.reports.length + short.guest.host.reports.length, 0);
});

test("without a driver a report is lost, and a full one takes no more", () => {
  const card = virtioMouse();
  assert.not.ok(card.sync());
  const { card: other, events } = guestOf(16);
  for (let i = 0; i < 15; i++) assert.ok(other.wheel(i));
  assert.not.ok(other.wheel(15));
  assert.ok(other.sync());
  assert.is(events().length, 16);
});

test("status events are given back", () => {
  const { card, guest } = guestOf(0);
  guest.chain(STATUSQ, 0, [BUFFERS, 8, 0]);
  guest.chain(STATUSQ, 1, [BUFFERS, 8, 0]);
  guest.notify(STATUSQ);
  assert.is(guest.usedIdx(STATUSQ), 2);
  assert.is(card.counters().status, 2);
});

test("a report is cut by a snapshot anywhere and goes on the same", () => {
  const { card, guest, events } = guestOf(8);
  card.move(5, 6);
  const saved = structuredClone(card.save());
  card.move(7, 0);
  card.load(saved);
  card.button("side", true);
  assert.ok(card.sync());
  assert.equal(
    events().map(([, , value]) => value),
    [5, 6, 1, 0],
  );
  assert.ok(guest.host);
  type Nested = { model: { core: { device: Record<string, unknown> } } };
  for (const wrong of [{ report: [1, 2] }, { report: new Array(48).fill(0) }, { select: 256 }, { version: 2 }]) {
    const crafted = structuredClone(saved) as unknown as Nested;
    Object.assign(crafted.model.core.device, wrong);
    assert.throws(
      () => card.load(crafted as unknown as SavedState),
      (error: unknown) => error instanceof StateError,
    );
  }
});

test("titles", () => {
  for (const title of ["", "\n", "x".repeat(128)])
    assert.throws(
      () => virtioMouse({ title }),
      (error: unknown) => error instanceof ConfigError && error.code === "virtio-input-title",
    );
  assert.is(shown(virtioMouse({ title: "x".repeat(127) }), 1, 0).length, 128);
});

test("whatever a guest writes, it neither throws nor leaves its memory", () => {
  const write = fc.record({
    at: fc.oneof(fc.nat(0x3f), fc.integer({ min: 0x2000, max: 0x2090 }), fc.integer({ min: 0x3000, max: 0x3010 })),
    width: fc.constantFrom(1 as const, 2 as const, 4 as const),
    value: fc.oneof(fc.nat(64), fc.integer({ min: 0, max: 0xffff_ffff })),
  });
  fc.assert(
    fc.property(fc.array(write, { maxLength: 60 }), (writes) => {
      const { card, guest } = guestOf(8);
      for (const { at, width, value } of writes) {
        card.barWrite(4, at, width, value);
        card.barRead(4, at, width);
        card.wheel(1);
        card.sync();
      }
      assert.ok(guest.host.guardsIntact());
    }),
    { numRuns: 60 },
  );
});

test.run();
