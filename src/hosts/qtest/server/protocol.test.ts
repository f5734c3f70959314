import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Board } from "./board.js";
import { NoBoard } from "./no-board.js";
import { parseInt64, parseUint64 } from "./numbers.js";
import { QtestProtocol } from "./protocol.js";
import { QtestSession } from "./qtest-session.js";

const boardOf = (ramSize = 2 ** 21) =>
  new Board({
    ramSize,
    cpus: 1,
    hotplug: { removable: () => 0, eject: () => {} },
    isDevice: (name) => name === "nic0",
    report: () => {},
    onGuestReset: () => {},
  });

/** A protocol over a machine of 2 MiB, as a function from request to reply. */
const ask = (board = boardOf()) => {
  const protocol = new QtestProtocol(board);
  return (request: string): string => {
    let reply = protocol.execute(request);
    while (reply === null) reply = protocol.resume();
    return reply;
  };
};

test("numbers are those of strtoull with base 0", () => {
  const U64_MAX = 2n ** 64n - 1n;
  const samples: [string, bigint | null][] = [
    ["0", 0n],
    ["31", 31n],
    ["0x1f", 31n],
    ["0X1F", 31n],
    ["037", 31n],
    ["+037", 31n],
    ["-1", U64_MAX],
    ["0xffffffffffffffff", U64_MAX],
    ["18446744073709551615", U64_MAX],
    ["18446744073709551616", null],
    ["0x10000000000000000", null],
    ["038", null],
    ["0x", null],
    ["0o17", null],
    ["0b11", null],
    ["", null],
    [" 1", null],
    ["1 ", null],
    ["1e3", null],
    ["1_000", null],
    ["--1", null],
    ["9".repeat(10_000), null],
  ];
  for (const [word, value] of samples) assert.is(parseUint64(word), value, word);
  assert.is(parseUint64(undefined), null);
  assert.is(parseInt64("-5"), -5n);
  assert.is(parseInt64("9223372036854775807"), 2n ** 63n - 1n);
  assert.is(parseInt64("9223372036854775808"), null);
  assert.is(parseInt64("-9223372036854775808"), -(2n ** 63n));
});

test("every number of 64 bits is read in each notation", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
      assert.is(parseUint64(value.toString()), value);
      assert.is(parseUint64(`0x${value.toString(16)}`), value);
      assert.is(parseUint64(`0${value.toString(8)}`), value);
      assert.is(parseUint64(`-${value}`), BigInt.asUintN(64, -value));
    }),
  );
});

test("replies have the digits that QEMU's have", () => {
  const q = ask();
  const samples: [string, string][] = [
    ["endianness", "OK little"],
    ["inb 0x80", "OK 0x00ff"],
    ["inl 0x80", "OK 0xffffffff"],
    ["outl 0xcf8 0x80000000", "OK"],
    ["inw 0xcfc", "OK 0x8086"],
    ["outl 0xcf8 0x180000000", "OK"], // cut to the access
    ["inl 0xcf8", "OK 0x80000000"],
    ["writew 0x1000 0x1234", "OK"],
    ["readb 0x1000", "OK 0x0000000000000034"],
    ["readq 0x1000", "OK 0x0000000000001234"],
    ["read 0x1000 3", "OK 0x341200"],
    ["b64read 0x1000 2", "OK NBI="],
    ["b64read 0x1000 0", "OK "],
    ["write 0x1000 2 0x", "ERR invalid argument size"],
    ["write 0x1000 2 0xfff", "OK"],
    ["read 0x1000 2", "OK 0xfff0"],
    ["memset 0x1000 2 0x55", "OK"],
    ["read 0x0fff 4", "OK 0x00555500"],
    ["clock_step", "OK 0"],
    ["clock_step 5", "OK 5"],
    ["clock_step -5", "OK 5"],
    ["clock_set 3", "OK 5"],
    ["frob x", "FAIL Unknown command 'frob'"],
    ["irq_intercept_in nobody", "FAIL Unknown device"],
    ["irq_intercept_in ioapic", "OK"],
    ["irq_intercept_in nic0", "FAIL IRQ intercept already enabled"],
  ];
  for (const [request, reply] of samples) assert.is(q(request), reply, request);
});

test("a block goes to registers in accesses of at most 4 bytes that fit its alignment, to RAM at once", () => {
  const board = boardOf();
  const seen: string[] = [];
  board.machine.mapFixed(0xe000_0000, {
    kind: "mem32",
    size: 0x100,
    handler: {
      read: (offset, width) => {
        seen.push(`r${width}@${offset}`);
        return 0;
      },
      write: (offset, width, value) => void seen.push(`w${width}@${offset}=${value.toString(16)}`),
    },
  });
  const q = ask(board);
  const accesses = (request: string): string => {
    seen.length = 0;
    assert.match(q(request), /^OK/);
    return seen.join(" ");
  };
  assert.is(accesses("read 0xe0000000 8"), "r4@0 r4@4");
  assert.is(accesses("read 0xe0000001 7"), "r1@1 r2@2 r4@4");
  assert.is(accesses("read 0xe0000002 6"), "r2@2 r4@4");
  assert.is(accesses("read 0xe0000004 3"), "r2@4 r1@6");
  assert.is(accesses("write 0xe0000004 2 0x3412"), "w2@4=1234");
  assert.is(accesses("readq 0xe0000008"), "r4@8 r4@12");
  assert.is(accesses("writeq 0xe0000008 0x1122334455667788"), "w4@8=55667788 w4@12=11223344");
  assert.is(accesses("readw 0xe0000002"), "r2@2");
});

test("a long step of the clock gives others their turn, and fires each timer at its own time", () => {
  const board = boardOf();
  const times: number[] = [];
  const timer = board.clock.timer(() => {
    times.push(board.clock.now());
    timer.arm(board.clock.now() + 10);
  });
  timer.arm(10);
  const protocol = new QtestProtocol(board);
  assert.is(protocol.execute("clock_step"), "OK 10");
  assert.is(protocol.execute("clock_step 25"), "OK 35");
  assert.equal(times, [10, 20, 30]);
  assert.is(protocol.execute("clock_step 1000000"), null);
  let turns = 1;
  let reply = protocol.resume();
  for (; reply === null; reply = protocol.resume()) turns++;
  assert.is(reply, "OK 1000035");
  assert.is(times.length, 100_003);
  assert.ok(turns > 10);
});

const WORDS = [
  ..."endianness inb inw inl outb outw outl readb readw readl readq writeb writew writel writeq read write".split(" "),
  ..."b64read b64write memset clock_step clock_set irq_intercept_in irq_intercept_out set_irq_in module_load".split(
    " ",
  ),
  ..."0xcf8 0xcfc 0x80000000 0xcf9 0x510 0x511 0xae08 0xe0000000 0x100000 0x1fffff 0 1 2 4 8 64 -1 0xffffffffffffffff".split(
    " ",
  ),
  ..."ioapic nic0 unnamed-gpio-in 0x00112233 QUJD toString __proto__ constructor".split(" "),
  "",
];
const line = fc.oneof(
  fc.array(fc.constantFrom(...WORDS), { maxLength: 6 }).map((words) => words.join(" ")),
  fc.string({ unit: "binary", maxLength: 40 }).map((text) => text.replace(/[\n\u0100-\uffff]/g, "")),
);

test("whatever the line is, there is one answer and nothing is thrown", () => {
  for (const target of [boardOf(), new NoBoard()]) {
    const protocol = new QtestProtocol(target);
    fc.assert(
      fc.property(line, (request) => {
        let reply = protocol.execute(request);
        while (reply === null) reply = protocol.resume();
        assert.match(reply, /^(OK|OK .*|FAIL .+|ERR .+)$/);
      }),
      { numRuns: 500 },
    );
  }
});

/** A session fed with chunks, and what it sent. */
const sessionOf = (board = boardOf()) => {
  let sent = "";
  const session = new QtestSession(new QtestProtocol(board), (text) => {
    sent += text;
  });
  board.irqs.onChange = (irq, level) => session.irq(irq, level);
  return { push: (text: string) => session.push(Buffer.from(text, "latin1")), sent: () => sent };
};

test("however lines are cut into chunks, there is one reply per line, in order", () => {
  const lines = fc.array(line, { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(lines, fc.array(fc.nat(30), { maxLength: 40 }), (requests, cuts) => {
      const instant = requests.filter((request) => !request.startsWith("clock"));
      const text = instant.map((request) => `${request}\n`).join("");
      const whole = sessionOf();
      whole.push(text);
      const pieces = sessionOf();
      let from = 0;
      for (const cut of cuts) {
        pieces.push(text.slice(from, from + cut));
        from += cut;
      }
      pieces.push(text.slice(from));
      assert.is(pieces.sent(), whole.sent());
      assert.is(
        whole
          .sent()
          .split("\n")
          .filter((reply) => !/^(IRQ |$)/.test(reply)).length,
        instant.length,
      );
    }),
    { numRuns: 15 },
  );
});

test("interrupts come before the reply of the request that caused them", () => {
  const session = sessionOf();
  session.push("irq_intercept_in /machine/x/ioapic\nset_irq_in ioapic unnamed-gpio-in 3 1\ninb 0\n");
  assert.is(session.sent(), "OK\nIRQ raise 3\nOK\nOK 0x00ff\n");
});

test("requests behind one that takes long wait for it", async () => {
  const board = boardOf();
  const timer = board.clock.timer(() => timer.arm(board.clock.now() + 10));
  timer.arm(10);
  const session = sessionOf(board);
  session.push("clock_step 200000\nendianness\nclock_step 100000\n");
  assert.is(session.sent(), "");
  session.push("inb 0\n");
  while (session.sent().split("\n").length < 5) await new Promise((resolve) => setImmediate(resolve));
  assert.is(session.sent(), "OK 200000\nOK little\nOK 300000\nOK 0x00ff\n");
});

test.run();
