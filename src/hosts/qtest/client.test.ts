import { test } from "uvu";
import * as assert from "uvu/assert";
import { QtestLink } from "./client.js";
import { QtestError } from "./client-error.js";
import { LineCutter, type Lines } from "./client-lines.js";
import { QmpLink } from "./client-qmp.js";

/** A far end that says what it was told to, whatever it is asked. */
class Script implements Lines {
  readonly written: string[] = [];
  readonly #replies: string[];
  constructor(...replies: string[]) {
    this.#replies = replies;
  }
  write(text: string): void {
    this.written.push(text);
  }
  read(): string {
    return this.#replies.shift() ?? assert.unreachable("nothing more to read") ?? "";
  }
  [Symbol.dispose](): void {}
}

const refused = (error: unknown): boolean => error instanceof QtestError && error.code === "refused";

test("lines come whole, in whatever pieces they arrive, with either end", () => {
  const cutter = new LineCutter();
  const lines: string[] = [];
  for (const piece of ["O", "K\nOK 0x", "", "12\r\nIRQ raise 1", "1\n\n", "rest"]) {
    cutter.push(piece);
    for (let line = cutter.take(); line !== undefined; line = cutter.take()) lines.push(line);
  }
  assert.equal(lines, ["OK", "OK 0x12", "IRQ raise 11", ""]);
});

test("requests are written as qtest has them, and replies are read", () => {
  const script = new Script(
    "OK little",
    "OK 0x00ff",
    "OK",
    "OK 0x00000000deadbeef",
    "OK",
    "OK 0x0102ff",
    "OK",
    "OK",
    "OK 77",
  );
  const link = new QtestLink(script);
  assert.is(link.endianness(), "little");
  assert.is(link.inb(0x80), 0xff);
  link.outl(0xcf8, 0x8000_2004);
  assert.is(link.readMem(0xe000_0000, 4), 0xdead_beef);
  link.writeMem(0xe000_0000, 2, 0x1234);
  assert.equal([...link.read(0x10_0000, 3)], [1, 2, 255]);
  link.write(0x10_0000, Uint8Array.of(0, 9, 255));
  link.memset(0x10_0000, 4096, 7);
  assert.is(link.clockStep(50), 77);
  assert.equal(
    script.written.join(""),
    [
      "endianness",
      "inb 0x80",
      "outl 0xcf8 0x80002004",
      "readl 0xe0000000",
      "writew 0xe0000000 0x1234",
      "read 0x100000 0x3",
      "write 0x100000 0x3 0x0009ff",
      "memset 0x100000 0x1000 0x7",
      "clock_step 50",
      "",
    ].join("\n"),
  );
  assert.is(link.requests, 9);
});

test("nothing is asked for no bytes", () => {
  const script = new Script();
  const link = new QtestLink(script);
  assert.is(link.read(0x10_0000, 0).length, 0);
  link.write(0x10_0000, new Uint8Array(0));
  assert.equal(script.written, []);
});

test("lines of interrupts come before any reply, are told at once and kept as levels", () => {
  const link = new QtestLink(new Script("IRQ raise 10", "IRQ raise 0", "OK", "IRQ lower 10", "OK 0x0000"));
  const seen: string[] = [];
  const listening = link.onIrq((input, up) => seen.push(`${input} ${up}`));
  link.outb(0xc000, 1);
  assert.equal([link.level(10), link.level(0), link.level(11), link.levels], [true, true, false, 0x401]);
  listening[Symbol.dispose]();
  link.inb(0xc000);
  assert.equal([link.level(10), link.levels], [false, 1]);
  assert.equal(seen, ["10 true", "0 true"]);
});

test("FAIL and ERR are thrown with what was asked, and the conversation goes on", () => {
  const link = new QtestLink(new Script("FAIL Unknown command 'clock_step'", "ERR invalid argument size", "OK 0x0001"));
  assert.throws(() => link.clockStep(1), refused);
  assert.throws(() => link.command("write 0 1 0x"), refused);
  assert.is(link.inb(0), 1);
});

test("several requests at once are answered in order, with a recorder looking on", () => {
  const link = new QtestLink(new Script("OK", "IRQ raise 11", "OK 0x0005"));
  const said: string[] = [];
  link.trace = (who, line) => said.push(`${who} ${line}`);
  assert.equal(link.commands(["outl 0xcf8 0x0", "inb 0xcfc"]), ["", "0x0005"]);
  assert.equal(said, [
    "request outl 0xcf8 0x0",
    "request inb 0xcfc",
    "reply OK",
    "irq IRQ raise 11",
    "reply OK 0x0005",
  ]);
});

test("QMP: greeting, negotiation, replies and errors, events between them", () => {
  const script = new Script(
    '{"QMP": {"version": {}}}',
    '{"return": {}}',
    '{"event": "RESET", "data": {"guest": false}}',
    '{"return": {"status": "running"}}',
    '{"error": {"class": "DeviceNotFound", "desc": "no such thing"}}',
    '{"event": "STOP"}',
    '{"return": {}}',
  );
  const qmp = new QmpLink(script);
  assert.equal(qmp.execute("query-status"), { status: "running" });
  assert.throws(() => qmp.execute("set_link", { name: "n0", up: false }), refused);
  assert.equal(
    qmp.events().map(({ event }) => event),
    ["RESET", "STOP"],
  );
  assert.is(script.written[0], '{"execute":"qmp_capabilities"}\n');
  assert.is(script.written[2], '{"execute":"set_link","arguments":{"name":"n0","up":false}}\n');
  assert.throws(() => new QmpLink(new Script('{"return": {}}')), refused);
});

test.run();
