import { BitStream } from "bit-buffer";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { StateReader } from "../../src/bytes/index.js";
import { Eeprom } from "./eeprom.js";
import { MAC, Rig, US } from "./testing.js";

// Wires of 9346CR in mode 10 (bits 7–6): EECS 8, EESK 4, EEDI 2, EEDO 1.
const MODE = 0x80;
const CS = 0x08;
const SK = 0x04;
const DI = 0x02;
const DO = 0x01;

/** Clocks one bit in. @returns EEDO as drivers sample it: clock high, after the rising edge */
const clock = (rig: Rig, bit: number): number => {
  const wires = MODE | CS | (bit !== 0 ? DI : 0);
  rig.w8(0x50, wires);
  rig.w8(0x50, wires | SK);
  const out = rig.r8(0x50) & DO;
  rig.w8(0x50, wires);
  return out;
};

const select = (rig: Rig): void => {
  rig.w8(0x50, MODE);
  rig.w8(0x50, MODE | CS);
};

/** Sends `count` bits of `value`, most significant first. @returns what the last one sampled */
const send = (rig: Rig, value: number, count: number): number => {
  let out = 0;
  for (let i = count - 1; i >= 0; i--) out = clock(rig, (value >>> i) & 1);
  return out;
};

const receive = (rig: Rig, count: number): number => {
  let value = 0;
  for (let i = 0; i < count; i++) value = (value << 1) | clock(rig, 0);
  return value;
};

/** READ of a word with so many address bits; a leading zero clock as FreeBSD sends. */
const readWord = (rig: Rig, word: number, addressBits: number): number => {
  select(rig);
  send(rig, 0, 1);
  send(rig, 0b110, 3);
  send(rig, word, addressBits);
  const value = receive(rig, 16);
  rig.w8(0x50, 0x00);
  return value;
};

test("RTL-031 RTL-032 RTL-033 a 93C46 is read with 6 address bits: signature, ids, MAC", () => {
  const rig = new Rig();
  assert.is(readWord(rig, 0, 6), 0x8129);
  assert.is(readWord(rig, 1, 6), 0x10ec);
  assert.is(readWord(rig, 2, 6), 0x8169);
  assert.is(readWord(rig, 5, 6), 0x4020);
  assert.is(readWord(rig, 7, 6), MAC[0]! | (MAC[1]! << 8));
  assert.is(readWord(rig, 8, 6), MAC[2]! | (MAC[3]! << 8));
  assert.is(readWord(rig, 9, 6), MAC[4]! | (MAC[5]! << 8));
  assert.is(readWord(rig, 10, 6), 0x0d00);
});

test("RTL-031 the sequence of Linux 8139cp gives the signature", () => {
  // 8139cp: commands of 3 + 6 bits, DI set up with the clock low, a dummy readback after each write.
  const rig = new Rig();
  const command = 0b110 << 6;
  rig.w8(0x50, 0x80);
  rig.r8(0x50);
  rig.w8(0x50, 0x88);
  rig.r8(0x50);
  for (let i = 8; i >= 0; i--) {
    const bit = (command >>> i) & 1 ? 0x02 : 0;
    rig.w8(0x50, 0x88 | bit);
    rig.r8(0x50);
    rig.w8(0x50, 0x88 | bit | 0x04);
    rig.r8(0x50);
  }
  rig.w8(0x50, 0x88);
  rig.r8(0x50);
  let word = 0;
  for (let i = 16; i > 0; i--) {
    rig.w8(0x50, 0x88 | 0x04);
    rig.r8(0x50);
    word = (word << 1) | (rig.r8(0x50) & 1);
    rig.w8(0x50, 0x88);
    rig.r8(0x50);
  }
  rig.w8(0x50, 0x00);
  assert.is(word, 0x8129);
});

test("RTL-034 DO is high while nothing is shifted, and 0 from the last address bit to the first data bit", () => {
  const rig = new Rig();
  select(rig);
  assert.is(rig.r8(0x50) & DO, 1);
  assert.is(send(rig, 0b110, 3), 1);
  assert.is(send(rig, 0, 5), 1);
  assert.is(send(rig, 0, 1), 0, "the dummy bit");
  assert.is(clock(rig, 0), 1, "bit 15 of 8129h");
});

test("RTL-035 a probe with 8 address bits over-clocks a 93C46 by two", () => {
  const rig = new Rig();
  assert.is(readWord(rig, 0, 8), 0x04a4 | (0x10ec >>> 14));
});

test("RTL-036 a 93C56 wants 8 address bits, and RCR bit 6 says that it is there", () => {
  const rig = new Rig({ eeprom: "93C56" });
  assert.is(rig.r32(0x44) & 0x40, 0x40);
  rig.w32(0x44, 0);
  assert.is(rig.r32(0x44) & 0x40, 0x40, "read-only");
  assert.is(readWord(rig, 0, 8), 0x8129);
  assert.is(readWord(rig, 7, 8), MAC[0]! | (MAC[1]! << 8));
  assert.is(readWord(rig, 0x80, 8), 0x8129, "the top address bit is ignored");
  assert.is.not(readWord(rig, 0, 6), 0x8129);
  assert.is(new Rig().r32(0x44) & 0x40, 0);
});

test("RTL-037 writing 00 ends a command: the next one needs a start bit", () => {
  const rig = new Rig();
  select(rig);
  send(rig, 0b110, 3);
  send(rig, 7, 6);
  receive(rig, 5);
  rig.w8(0x50, 0x00);
  select(rig);
  for (let i = 0; i < 20; i++) assert.is(clock(rig, 0), 1, "still waiting");
  send(rig, 0b110, 3);
  send(rig, 0, 6);
  assert.is(receive(rig, 16), 0x8129);
});

test("zeros before the start bit are ignored, and a READ goes on with the next word", () => {
  const rig = new Rig();
  select(rig);
  send(rig, 0, 9);
  send(rig, 0b110, 3);
  send(rig, 0, 6);
  assert.is(receive(rig, 16), 0x8129);
  assert.is(receive(rig, 16), 0x10ec);
  assert.is(receive(rig, 16), 0x8169);
});

test("RTL-043 RTL-161 auto-load puts the EEPROM's address back into IDR and returns to mode 00", () => {
  const rig = new Rig();
  rig.w8(0x50, 0xc0);
  rig.w32(0x00, 0x0403_0202);
  rig.w32(0x04, 0x0000_0605);
  rig.w8(0x50, 0x40);
  let polls = 0;
  while ((rig.r8(0x50) & 0x40) !== 0) assert.ok(++polls < 1000);
  assert.is(rig.r8(0x50), 0x00);
  for (let i = 0; i < 6; i++) assert.is(rig.r8(i), MAC[i]);
  rig.w8(0x00, 0xee);
  assert.is(rig.r8(0x00), MAC[0], "and IDR is locked again");
});

const write = (rig: Rig, word: number, value: number): void => {
  select(rig);
  send(rig, 0b101, 3);
  send(rig, word, 6);
  send(rig, value, 16);
  rig.w8(0x50, MODE);
};
const extended = (rig: Rig, address: number): void => {
  select(rig);
  send(rig, 0b100, 3);
  send(rig, address, 6);
  rig.w8(0x50, MODE);
};

test("RTL-044 EWEN, WRITE, polling while it programs, and the word reads back", () => {
  const rig = new Rig({ timing: "real" });
  write(rig, 0x30, 0xbeef);
  assert.is(readWord(rig, 0x30, 6), 0, "writing is off until EWEN");
  extended(rig, 0b110000);
  write(rig, 0x30, 0xbeef);
  rig.w8(0x50, MODE | CS);
  assert.is(rig.r8(0x50) & DO, 0, "busy");
  let polls = 0;
  while ((rig.r8(0x50) & DO) === 0) {
    assert.ok(++polls < 20_000);
    rig.clock.advance(US);
  }
  assert.ok(polls > 1);
  rig.w8(0x50, 0x00);
  assert.is(readWord(rig, 0x30, 6), 0xbeef);
  extended(rig, 0b000000);
  write(rig, 0x30, 0x1234);
  rig.clock.advance(20_000 * US);
  assert.is(readWord(rig, 0x30, 6), 0xbeef, "EWDS");
});

test("whether programming has ended shows in mode 10 only", () => {
  const rig = new Rig({ timing: "real" });
  extended(rig, 0b110000);
  write(rig, 0x30, 0xbeef);
  rig.w8(0x50, 0x00);
  assert.is(rig.r8(0x50), 0x00);
  rig.clock.advance(20_000 * US);
  assert.is(rig.r8(0x50), 0x00);
  rig.w8(0x50, 0xc0);
  assert.is(rig.r8(0x50), 0xc0);
});

test("ERASE, WRAL and ERAL program one word or all; what falls short of 16 bits programs nothing", () => {
  const rig = new Rig({ timing: "immediate" });
  extended(rig, 0b110000);
  select(rig);
  send(rig, 0b111, 3);
  send(rig, 5, 6);
  rig.w8(0x50, MODE);
  assert.is(readWord(rig, 5, 6), 0xffff);
  assert.is(readWord(rig, 4, 6), 0x8169);
  select(rig);
  send(rig, 0b101, 3);
  send(rig, 4, 6);
  send(rig, 0x5555, 15);
  rig.w8(0x50, MODE);
  assert.is(readWord(rig, 4, 6), 0x8169);
  select(rig);
  send(rig, 0b100, 3);
  send(rig, 0b010000, 6);
  send(rig, 0x5aa5, 16);
  rig.w8(0x50, MODE);
  for (const word of [0, 31, 63]) assert.is(readWord(rig, word, 6), 0x5aa5);
  extended(rig, 0b100000);
  for (const word of [0, 31, 63]) assert.is(readWord(rig, word, 6), 0xffff);
  rig.w8(0x50, 0x40);
  assert.is(rig.r8(0x00), MAC[0], "an EEPROM without signature loads nothing");
});

test("WRITE and ERASE change their word alone, the first one too", () => {
  for (const word of [0, 1, 63]) {
    const rig = new Rig({ timing: "immediate" });
    const before = Array.from({ length: 64 }, (_, i) => readWord(rig, i, 6));
    extended(rig, 0b110000);
    write(rig, word, 0x1234);
    const after = Array.from({ length: 64 }, (_, i) => readWord(rig, i, 6));
    assert.equal(
      after,
      before.map((value, i) => (i === word ? 0x1234 : value)),
    );
    select(rig);
    send(rig, 0b111, 3);
    send(rig, word, 6);
    rig.w8(0x50, MODE);
    assert.is(readWord(rig, word, 6), 0xffff);
    assert.is(readWord(rig, (word + 1) % 64, 6), before[(word + 1) % 64]);
  }
});

test("what was programmed outlives a power cycle of the chip", () => {
  const rig = new Rig();
  extended(rig, 0b110000);
  write(rig, 7, 0x0202);
  rig.card.reset("power-on");
  assert.is(rig.r8(0x00), 0x02);
  assert.is(rig.r8(0x02), MAC[2]);
});

test("RTL-045 FreeBSD's probe: 8 bits fail, 6 bits give the signature and three words of MAC", () => {
  const rig = new Rig();
  let addressBits = 8;
  if (readWord(rig, 0, addressBits) !== 0x8129) addressBits = 6;
  assert.is(addressBits, 6);
  assert.is(readWord(rig, 0, addressBits), 0x8129);
  const mac = [7, 8, 9].flatMap((word) => {
    const value = readWord(rig, word, addressBits);
    return [value & 0xff, value >>> 8];
  });
  assert.equal(mac, Array.from(MAC));
});

test("the bit stream on the wires is the one that bit-buffer makes of the words", () => {
  const contents = {
    mac: MAC,
    vendorId: 0x10ec,
    deviceId: 0x8169,
    subsystemVendorId: 0x10ec,
    subsystemId: 0x8169,
    minGnt: 0x20,
    maxLat: 0x40,
    config0: 0,
    config1: 0x0d,
  };
  fc.assert(
    fc.property(fc.array(fc.nat(0xffff), { minLength: 64, maxLength: 64 }), fc.nat(63), (words, from) => {
      const part = new Eeprom("93C46", contents);
      words.forEach((value, word) => {
        part.set(word, value);
      });
      const expected = new BitStream(new ArrayBuffer(128));
      expected.bigEndian = true;
      for (const value of words) expected.writeBits(value, 16);
      expected.index = from * 16;
      const edge = (di: number) => {
        part.wires(1, 0, di, 0, 0);
        part.wires(1, 1, di, 0, 0);
        return part.output(0);
      };
      part.wires(1, 0, 0, 0, 0);
      for (const bit of [1, 1, 0]) edge(bit);
      for (let i = 5; i >= 0; i--) edge((from >>> i) & 1);
      for (let bit = from * 16; bit < 1024; bit++) assert.is(edge(0), expected.readBits(1));
    }),
    { numRuns: 20 },
  );
});

test("a state cut at any clock of a command goes on identically", () => {
  const play = (rig: Rig, from: number, to: number): number[] => {
    const bits = [..."0110000111", ..."0".repeat(20)].map(Number);
    return bits.slice(from, to).map((bit) => clock(rig, bit));
  };
  const whole = new Rig();
  select(whole);
  const expected = play(whole, 0, 30);
  for (let cut = 0; cut <= 30; cut++) {
    const first = new Rig();
    select(first);
    const head = play(first, 0, cut);
    const second = new Rig();
    second.card.load(first.card.save());
    assert.equal([...head, ...play(second, cut, 30)], expected, `cut ${cut}`);
  }
});

test("a state cut while the clock is high has seen its edge", () => {
  const first = new Rig();
  select(first);
  send(first, 0b110, 3);
  send(first, 0x07, 5);
  first.w8(0x50, MODE | CS);
  first.w8(0x50, MODE | CS | SK); // the last bit of the address: word 14
  const second = new Rig();
  second.card.load(first.card.save());
  for (const rig of [first, second]) {
    rig.w8(0x50, MODE | CS | SK | DI);
    rig.w8(0x50, MODE | CS);
  }
  assert.is(receive(second, 16), receive(first, 16));
});

test("a state of another type of EEPROM is refused", () => {
  const rig = new Rig();
  const other = new Rig({ eeprom: "93C56" });
  assert.throws(() => rig.card.load(other.card.save()), /93C56/);
  assert.is(new StateReader(rig.card.save(), "card").object("model").object("eeprom").string("type"), "93C46");
});

test.run();
