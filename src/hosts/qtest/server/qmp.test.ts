import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { definePciFunction } from "../../../pci/index.js";
import type { ServerCards } from "./cards.js";
import { parseCommandLine } from "./command-line.js";
import { Commands } from "./commands.js";
import { QmpSession } from "./qmp.js";
import { VirtualMachine } from "./vm.js";

/** A card with nothing but an identity. */
const CARDS: ServerCards = {
  plain: {
    kind: "plain",
    title: "a card for tests",
    parent: "pci-device",
    create: () =>
      definePciFunction({
        name: "plain",
        identity: { vendorId: 0x1234, deviceId: 0x5678, revisionId: 0, classCode: 0 },
        model: {
          connect: () => {},
          disconnect: () => {},
          reset: () => {},
          save: () => ({ version: 1 }),
          load: () => {},
        },
      }),
  },
};

/** A monitor on a machine, and what it said. */
const monitorOf = async (...args: string[]) => {
  const vm = await VirtualMachine.start(parseCommandLine(args), CARDS);
  const said: string[] = [];
  const session = new QmpSession(new Commands(vm), (text) => said.push(text));
  vm.onEvent = (event, data) => session.event(event, data, 1_000_000.5);
  const messages = () => said.splice(0).map((text) => JSON.parse(text) as Record<string, unknown>);
  return { vm, session, said, messages };
};

test("greeting, negotiation, and lines that end in CR LF", async () => {
  const { session, said, messages } = await monitorOf();
  assert.match(said[0]!, /^\{"QMP":.*\}\r\n$/);
  messages();
  session.push('{"execute": "query-status"}');
  session.push('{"execute": "qmp_capabilities", "id": null}');
  session.push('{"execute": "query-status", "id": {"a": 1}}');
  const [early, done, status] = messages();
  assert.is((early?.error as { class: string } | undefined)?.class, "CommandNotFound");
  assert.equal(done, { return: {}, id: null });
  assert.equal(status, { return: { status: "running", singlestep: false, running: true }, id: { a: 1 } });
});

test("events carry their time, and come behind the reply of a reset, before that of a stop", async () => {
  const { session, messages } = await monitorOf();
  session.push('{"execute": "qmp_capabilities"}{"execute": "stop"}{"execute": "system_reset"}');
  assert.equal(messages().slice(2), [
    { timestamp: { seconds: 1000, microseconds: 500 }, event: "STOP" },
    { return: {} },
    { return: {} },
    {
      timestamp: { seconds: 1000, microseconds: 500 },
      event: "RESET",
      data: { guest: false, reason: "host-qmp-system-reset" },
    },
  ]);
});

test("cards come, are asked to go, and go when the guest or a reset lets them", async () => {
  const { vm, session, messages } = await monitorOf("-device", "plain,id=a,addr=1f", "-device", "plain");
  const machine = vm.board?.machine;
  const there = () => machine?.functions().map(({ bdf }) => bdf);
  session.push('{"execute": "qmp_capabilities"}');
  assert.equal(there(), [0x00, 0x08, 0x10, 0xf8]);
  messages();
  session.push('{"execute": "device_add", "arguments": {"driver": "plain", "id": "b", "addr": "0x06"}}');
  session.push(
    '{"execute": "device_del", "arguments": {"id": "a"}}{"execute": "device_del", "arguments": {"id": "a"}}',
  );
  assert.equal(
    messages().map((message) => Object.keys(message)[0]),
    ["return", "return", "error"],
  );
  assert.equal(there(), [0x00, 0x08, 0x10, 0x30, 0xf8]);
  machine?.ioWrite(0xae08, 4, 0x40); // b, unasked
  machine?.ioWrite(0xae08, 4, 0x03); // the bridges stay
  session.push('{"execute": "system_reset"}');
  const deleted = messages().filter(({ event }) => event === "DEVICE_DELETED");
  assert.equal(
    deleted.map(({ data }) => data),
    [
      { device: "b", path: "/machine/peripheral/b" },
      { device: "a", path: "/machine/peripheral/a" },
    ],
  );
  assert.equal(there(), [0x00, 0x08, 0x10]);
});

test("whatever comes, each value has one answer, and the monitor goes on", async () => {
  const { session, messages } = await monitorOf("-drive", "if=none,id=d,driver=null-co,file=null-co://");
  const names = [
    "query-pci",
    "query-block",
    "qom-list-types",
    "device_add",
    "device_del",
    "block_resize",
    "set_link",
    "announce-self",
    "frob",
    "__proto__",
  ];
  const request = fc.record(
    {
      execute: fc.oneof(fc.constantFrom(...names), fc.jsonValue()),
      arguments: fc.oneof(
        fc.dictionary(
          fc.constantFrom("id", "driver", "device", "size", "name", "up", "implements", "initial", "rounds"),
          fc.jsonValue(),
        ),
        fc.jsonValue(),
      ),
      id: fc.jsonValue(),
    },
    { requiredKeys: [] },
  );
  session.push('{"execute": "qmp_capabilities"}');
  fc.assert(
    fc.property(fc.oneof(request, fc.jsonValue()), (value) => {
      messages();
      session.push(`${JSON.stringify(value)}\n`);
      const replies = messages().filter((message) => !("event" in message));
      assert.is(replies.length, 1);
      assert.ok("return" in replies[0]! || "error" in replies[0]!);
    }),
    { numRuns: 60 },
  );
});

test("no garbage makes the monitor throw", async () => {
  const { session, messages } = await monitorOf();
  session.push('{"execute": "qmp_capabilities"}');
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => session.push(text)),
    { numRuns: 300 },
  );
  messages();
  session.push("\n{'execute': 'query-status'}\n");
  session.push("'\n{'execute': 'query-status'}\n"); // behind whatever string was open
  assert.ok(messages().some((message) => "return" in message));
});

test.run();
