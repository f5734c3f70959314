import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import { bits, decodeRegisters, defineRegisters, describeAccess, field, RegisterFile, withField } from "./index.js";

const BLOCK = { name: "toy", source: "this test", size: 0x10 };
const refusal = (declare: () => unknown): string => {
  try {
    declare();
  } catch (error) {
    assert.instance(error, ConfigError);
    return (error as ConfigError).message;
  }
  throw new Error("nothing was thrown");
};

const TOY = defineRegisters(BLOCK, {
  ID: { at: 0x00, width: 4, reset: 0x8169_10ec, doc: "identity" },
  CTL: {
    at: 0x04,
    width: 2,
    rw: 0x8001,
    reset: 0x8000,
    fields: { GO: [0, 0], TOP: [15, 15] },
    hook: true,
    doc: "control",
  },
  STAT: { at: 0x06, width: 1, w1c: 0x0f, fields: { CAUSE: [3, 0] }, hook: true, doc: "status" },
  DATA: { at: 0x08, width: 4, rw: 0xffff_ffff, fields: { ALL: [31, 0] }, doc: "scratch" },
});

test("masks of fields are unsigned, also with bit 31", () => {
  assert.is(bits([7, 4]), 0xf0);
  assert.is(bits([31, 31]), 0x8000_0000);
  assert.is(bits([31, 0]), 0xffff_ffff);
  assert.is(field(0x8000_0000, [31, 28]), 8);
  assert.is(field(0x8000_0001, [31, 0]), 0x8000_0001);
  assert.is(withField(0, [31, 28], 0xf), 0xf000_0000);
  assert.is(withField(0xffff_ffff, [7, 4], 0x123), 0xffff_ff3f, "what does not fit is cut");
});

test("a declaration that does not fit is refused, naming register and offset", () => {
  const one = (d: Parameters<typeof defineRegisters>[1][string]) => () => defineRegisters(BLOCK, { R: d });
  assert.match(refusal(one({ at: 2, width: 4, doc: "" })), /R at 0x2: not a multiple/);
  assert.match(refusal(one({ at: 0xc, width: 4, rw: 2 ** 32, doc: "" })), /rw 0x100000000 is wider/);
  assert.match(refusal(one({ at: 0x10, width: 1, doc: "" })), /beyond the block/);
  assert.match(refusal(one({ at: 0, width: 1, rw: 3, w1c: 2, doc: "" })), /both read\/write and write-1-to-clear/);
  assert.match(refusal(one({ at: 0, width: 1, fields: { F: [8, 0] }, doc: "" })), /field F/);
  assert.match(refusal(one({ at: 0, width: 1, fields: { F: [0, 1] }, doc: "" })), /field F/);
  const overlap = { A: { at: 0, width: 4, doc: "" }, B: { at: 2, width: 2, doc: "" } } as const;
  assert.match(
    refusal(() => defineRegisters(BLOCK, overlap)),
    /overlaps A/,
  );
  const many = Object.fromEntries(
    Array.from({ length: 32 }, (_, at) => [`R${at}`, { at, width: 1, hook: true, doc: "" } as const]),
  );
  assert.match(
    refusal(() => defineRegisters({ ...BLOCK, size: 32 }, many)),
    /more than 31 hooks/,
  );
});

test("a guest write goes through masks lane by lane and says which hooks it touched", () => {
  const file = new RegisterFile(TOY);
  assert.is(file.guestWrite(0x00, 4, 0), 0, "read-only, no hook");
  assert.is(file.guestRead(0x00, 4), 0x8169_10ec);
  assert.is(file.guestWrite(0x04, 4, 0xffff_ffff), TOY.hooks.CTL | TOY.hooks.STAT, "one access over two registers");
  assert.is(file.guestRead(0x04, 2), 0x8001);
  assert.is(file.guestWrite(0x05, 1, 0x00), TOY.hooks.CTL, "the upper byte alone");
  assert.is(file.guestRead(0x04, 2), 0x0001);
  file.set(0x06, 1, 0x0a);
  file.guestWrite(0x06, 1, 0x02);
  assert.is(file.get(0x06, 1), 0x08, "a written 1 clears, a written 0 keeps");
  assert.is(file.guestRead(0x0c, 4), 0, "what is not declared reads 0");
});

test("locks, reset and images", () => {
  const file = new RegisterFile(TOY);
  file.guestWrite(0x08, 4, 0x1234_5678);
  file.lock(0x08, 4, true);
  file.guestWrite(0x08, 4, 0);
  assert.is(file.get(0x08, 4), 0x1234_5678, "locked");
  file.lock(0x08, 4, false);
  const image = file.image();
  file.reset((at) => at >= 0x08);
  assert.is(file.get(0x08, 4), 0x1234_5678, "kept");
  file.reset();
  assert.is(file.get(0x08, 4), 0);
  assert.is(file.get(0x04, 2), 0x8000);
  file.restore(image);
  assert.is(file.get(0x08, 4), 0x1234_5678);
  assert.throws(
    () => file.restore(new Uint8Array(3)),
    (error: unknown) => error instanceof ConfigError && error.code === "register-image",
  );
});

test("an image and an access read by name", () => {
  const file = new RegisterFile(TOY);
  file.set(0x06, 1, 0x05);
  file.set(0x08, 4, 0xdead_beef);
  const decoded = decodeRegisters(TOY, file.image());
  assert.equal(decoded[2], { name: "STAT", at: 6, value: 5, fields: { CAUSE: 5 } });
  assert.equal(decoded[3], { name: "DATA", at: 8, value: 0xdead_beef, fields: { ALL: 0xdead_beef } });
  assert.is(describeAccess(TOY, 0x05, 0x80), "CTL(5h)=80 TOP=1");
  assert.is(describeAccess(TOY, 0x08, 0xdead_beef), "DATA(8h)=deadbeef ALL=deadbeef");
  assert.is(describeAccess(TOY, 0x0c, 1), "toy+ch=1");
});

test.run();
