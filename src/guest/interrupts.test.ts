import { test } from "uvu";
import * as assert from "uvu/assert";
import { InterruptEvent, InterruptLines, PolledMachine, SoftInterrupts } from "./interrupts.js";
import { FakeBus } from "./testing/fake-bus.js";
import type { FilterResult, InterruptCookie } from "./types.js";

const make = () => {
  const bus = new FakeBus();
  const log: string[] = [];
  const soft = new SoftInterrupts();
  const lines = new InterruptLines(bus, soft, (line) => log.push(line));
  const message = new InterruptEvent("message 0", true, soft, (line) => log.push(line));
  return { bus, log, soft, lines, message, machine: new PolledMachine(bus, soft) };
};

test("PRB-050 on a shared line every filter runs, whatever the others say", () => {
  const { bus, lines } = make();
  const ran: string[] = [];
  for (const [owner, result] of [
    ["re0", "stray"],
    ["re1", "handled"],
    ["re2", "stray"],
    ["re3", "schedule"],
  ] as const)
    lines.setup(11, owner, {
      filter: (): FilterResult => {
        ran.push(`${owner} filter`);
        return result;
      },
      handler: () => ran.push(`${owner} handler`),
    });
  bus.setLine(11, true);
  bus.poll();
  assert.equal(ran, ["re0 filter", "re1 filter", "re2 filter", "re3 filter", "re3 handler"]);
});

test("PRB-050 handlers run after all filters, in order, and one without filter is scheduled", () => {
  const { bus, lines } = make();
  const ran: string[] = [];
  lines.setup(5, "a", { handler: () => ran.push("a handler") });
  lines.setup(5, "b", {
    filter: () => {
      ran.push("b filter");
      return "handled+schedule";
    },
    handler: () => ran.push("b handler"),
  });
  bus.setLine(5, true);
  bus.poll();
  assert.equal(ran, ["b filter", "a handler", "b handler"]);
});

test("PRB-051 a handler runs once per burst, never re-entrantly", () => {
  const { message } = make();
  let depth = 0;
  let runs = 0;
  message.add("re0", {
    filter: () => "schedule",
    handler: () => {
      assert.is(++depth, 1, "re-entered");
      // Two more messages while it runs: one more round, not two, and not inside this one.
      if (++runs === 1) {
        message.dispatch();
        message.dispatch();
      }
      depth--;
    },
  });
  message.dispatch();
  assert.is(runs, 2);
});

test("PRB-051 a level that is up while its handler waits does not enter it again", () => {
  const { bus, lines } = make();
  let depth = 0;
  let runs = 0;
  lines.setup(10, "re0", {
    handler: () => {
      assert.is(++depth, 1);
      runs++;
      bus.delay(10);
      depth--;
    },
  });
  bus.setLine(10, true);
  bus.poll();
  assert.is(runs, 1, "the line is masked until the handler is done");
  bus.poll();
  assert.is(runs, 2);
});

test("PRB-051 nothing runs after teardown, even when a filter tears down what is scheduled", () => {
  const { bus, lines, soft } = make();
  let runs = 0;
  const victim = lines.setup(9, "a", { handler: () => runs++ });
  lines.setup(9, "b", {
    filter: () => {
      victim[Symbol.dispose]();
      return "handled";
    },
  });
  bus.setLine(9, true);
  bus.poll();
  assert.is(runs, 0);
  victim.schedule();
  soft.run();
  assert.is(runs, 0);
  const own: InterruptCookie = lines.setup(10, "c", {
    filter: () => {
      own[Symbol.dispose]();
      return "schedule";
    },
    handler: () => runs++,
  });
  bus.setLine(10, true);
  bus.poll();
  assert.is(runs, 0, "also when it tears itself down");
});

test("PRB-053 an exception is logged and the others on the line run", () => {
  const { bus, lines, log } = make();
  let runs = 0;
  lines.setup(11, "re0", {
    filter: () => {
      throw new Error("filter broke");
    },
  });
  lines.setup(11, "re1", {
    handler: () => {
      throw new Error("handler broke");
    },
  });
  lines.setup(11, "re2", { handler: () => runs++ });
  bus.setLine(11, true);
  for (let i = 0; i < 20; i++) bus.poll();
  assert.is(runs, 20);
  assert.equal(log.slice(0, 2), [
    "re0: interrupt filter threw: filter broke",
    "re1: interrupt handler threw: handler broke",
  ]);
  assert.is(log.length, 10, "five of each: a broken driver does not flood the log");
});

test("strays are counted, logged five times, and then no more", () => {
  const { bus, lines, log } = make();
  lines.setup(7, "re0", { filter: () => "stray" });
  bus.setLine(7, true);
  for (let i = 0; i < 10; i++) bus.poll();
  assert.is(lines.strays(7), 10);
  assert.equal(log, [...Array(5).fill("stray irq7"), "too many stray irq7's: not logging anymore"]);
});

test("a machine's line is listened to only while it has handlers", () => {
  const { bus, lines } = make();
  const a = lines.setup(11, "a", { handler: () => {} });
  const b = lines.setup(11, "b", { handler: () => {} });
  assert.is(bus.listeners(11), 1);
  a[Symbol.dispose]();
  a[Symbol.dispose]();
  assert.is(bus.listeners(11), 1);
  b[Symbol.dispose]();
  assert.is(bus.listeners(11), 0);
  lines.setup(11, "c", { handler: () => {} });
  assert.is(bus.listeners(11), 1);
});

test("a scheduled handler runs at the next poll without its filter, once, and may ask again", () => {
  const { machine, message } = make();
  const ran: string[] = [];
  let left = 2;
  const cookie: InterruptCookie = message.add("vtnet0", {
    filter: () => {
      ran.push("filter");
      return "schedule";
    },
    handler: () => {
      ran.push("handler");
      if (left-- > 0) cookie.schedule();
    },
  });
  message.dispatch();
  assert.equal(ran, ["filter", "handler"]);
  cookie.schedule();
  assert.is(machine.poll(), true);
  assert.is(machine.poll(), true);
  assert.is(machine.poll(), false);
  assert.equal(ran, ["filter", "handler", "handler", "handler"]);
});

test("a poll of the machine behind gives a scheduled handler its turn with the next interrupt", () => {
  const { bus, lines } = make();
  const ran: string[] = [];
  const waiting = lines.setup(5, "a", { handler: () => ran.push("a") });
  lines.setup(11, "b", { handler: () => ran.push("b") });
  waiting.schedule();
  bus.setLine(11, true);
  bus.poll();
  assert.equal(ran, ["a", "b"]);
});

test("everything but poll and delay goes straight through", () => {
  const { bus, machine } = make();
  machine.configRead(0x18, 0, 4);
  machine.configWrite(0x18, 4, 2, 7);
  machine.ioWrite(0xc000, 1, 1);
  machine.memWrite(0xfebd1000, 4, 2);
  assert.is(machine.ioRead(0xc000, 2), 0xffff);
  assert.is(machine.memRead(0xfebd1000, 4), 0xffffffff);
  assert.is(machine.dma, bus.dma);
  assert.equal(bus.log, [
    "cr 18 00 4 ffffffff",
    "cw 18 04 2 7",
    "iw c000 1 1",
    "mw febd1000 4 2",
    "ir c000 2 ffff",
    "mr febd1000 4 ffffffff",
  ]);
  machine.delay(5);
  assert.is(machine.now(), 5000);
  machine.allocMessage(() => {})?.[Symbol.dispose]();
  machine.onLine(3, () => {})[Symbol.dispose]();
  assert.is(bus.messagesLive + bus.listeners(3), 0);
});

test.run();
