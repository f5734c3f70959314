import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import { type PcapngOptions, PcapngWriter } from "./pcapng.js";
import { frameOf, TestClock } from "./testing.js";

const rig = (options: Partial<PcapngOptions> = {}, now = 0) => {
  const clock = new TestClock(now);
  const chunks: Uint8Array[] = [];
  const writer = new PcapngWriter({ clock, sink: (chunk) => chunks.push(chunk.slice()), ...options });
  return { clock, writer, chunks, file: () => Buffer.concat(chunks) };
};

interface Block {
  readonly type: number;
  readonly body: Buffer;
}

/** Takes a file apart, and checks what every block has: its length in front and behind, a multiple of four. */
const blocksOf = (file: Buffer): Block[] => {
  const blocks: Block[] = [];
  for (let at = 0; at < file.length; ) {
    const size = file.readUInt32LE(at + 4);
    assert.is(size % 4, 0);
    assert.ok(at + size <= file.length, "a whole block");
    assert.is(file.readUInt32LE(at + size - 4), size);
    blocks.push({ type: file.readUInt32LE(at), body: file.subarray(at + 8, at + size - 4) });
    at += size;
  }
  return blocks;
};

const optionsOf = (body: Buffer, start: number): Map<number, Buffer> => {
  const options = new Map<number, Buffer>();
  for (let at = start; ; ) {
    const code = body.readUInt16LE(at);
    const length = body.readUInt16LE(at + 2);
    if (code === 0) {
      assert.is(at + 4, body.length, "the end of options ends the block");
      return options;
    }
    options.set(code, body.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
};

test("a file begins with a section of version 1.0, little-endian, of unknown length", () => {
  const { writer, file } = rig({ hardware: "bench", os: "none", application: "a test" });
  writer.close();
  const [head, ...rest] = blocksOf(file());
  assert.is(head?.type, 0x0a0d0d0a);
  assert.is(head?.body.toString("hex", 0, 16), "4d3c2b1a01000000ffffffffffffffff");
  const options = optionsOf(head!.body, 16);
  assert.equal(
    [options.get(2)?.toString(), options.get(3)?.toString(), options.get(4)?.toString()],
    ["bench", "none", "a test"],
  );
  assert.is(rest.length, 0);
});

test("an interface has its name, its snap length and nanoseconds", () => {
  const { writer, file } = rig({ epochSeconds: -5 });
  const mac = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
  assert.is(writer.addInterface({ name: "re0", description: "Übung", snaplen: 96, mac, speed: 1e10 }), 0);
  assert.is(writer.addInterface({ name: "vtnet0" }), 1);
  writer.flush();
  const [, first, second] = blocksOf(file());
  assert.is(first?.type, 1);
  assert.is(first?.body.toString("hex", 0, 8), "0100000060000000");
  const options = optionsOf(first!.body, 8);
  assert.is(options.get(2)?.toString(), "re0");
  assert.is(options.get(3)?.toString(), "Übung");
  assert.is(options.get(6)?.toString("hex"), "525400123456");
  assert.is(options.get(8)?.readBigUInt64LE(), 10_000_000_000n);
  assert.equal([...(options.get(9) ?? [])], [9]);
  assert.equal([...(options.get(13) ?? [])], [0]);
  assert.is(options.get(14)?.readBigInt64LE(), -5n);
  assert.is(second?.body.readUInt32LE(4), 262144);
});

test("a frame has its time as two halves, its length, its bytes padded, and its direction", () => {
  const { writer, file, clock } = rig();
  const id = writer.addInterface({ name: "re0" });
  clock.advance(0x1234_5678_9abc);
  const memory = new Uint8Array(200).fill(0xee);
  memory.set(frameOf(1, 2, 3, 61), 50);
  writer.packet(id, memory, 50, 61, "inbound");
  writer.packet(id, memory, 50, 61, "outbound");
  writer.flush();
  const [, , inbound, outbound] = blocksOf(file());
  assert.is(inbound?.type, 6);
  assert.is(inbound?.body.toString("hex", 0, 20), "00000000" + "34120000" + "bc9a7856" + "3d000000" + "3d000000");
  assert.equal(inbound!.body.subarray(20, 81), Buffer.from(frameOf(1, 2, 3, 61)));
  assert.is(inbound?.body.toString("hex", 81), "000000" + "0200040001000000" + "00000000");
  assert.is(outbound?.body.toString("hex", 84), "0200040002000000" + "00000000");
});

test("no more of a frame is kept than the snap length, but its own length is told", () => {
  const { writer, file } = rig();
  const id = writer.addInterface({ name: "re0", snaplen: 15 });
  writer.packet(id, new Uint8Array(100).fill(7), 0, 100, "inbound");
  writer.packet(id, new Uint8Array(15).fill(7), 0, 15, "inbound");
  writer.flush();
  const lengths = blocksOf(file())
    .slice(2)
    .map(({ body }) => [body.readUInt32LE(12), body.readUInt32LE(16), body.length]);
  assert.equal(lengths, [
    [15, 100, 48],
    [15, 15, 48],
  ]);
});

test("the statistics count what came and what was lost", () => {
  const { writer, file, clock } = rig({}, 5_000_000_000);
  const [one, two] = [writer.addInterface({ name: "a" }), writer.addInterface({ name: "b" })];
  for (let i = 0; i < 3; i++) writer.packet(two, frameOf(1, 2, i), 0, 60, "inbound");
  writer.countDropped(two);
  writer.retract(writer.packet(one, frameOf(1, 2, 9), 0, 60, "inbound"));
  clock.advance(7);
  writer.close();
  writer.close();
  assert.is(writer.packet(two, frameOf(1, 2, 4), 0, 60, "inbound"), -1);
  const statistics = blocksOf(file()).filter(({ type }) => type === 5);
  assert.is(statistics.length, 2);
  const options = statistics.map(({ body }) => optionsOf(body, 12));
  assert.equal(
    options.map((o) => [o.get(4)?.readBigUInt64LE(), o.get(5)?.readBigUInt64LE()]),
    [
      [0n, 0n],
      [3n, 1n],
    ],
  );
  // 5 s is 12a05f200h ns
  assert.equal(options[0]?.get(2)?.toString("hex"), "01000000" + "00f2052a");
  assert.equal(options[0]?.get(3)?.toString("hex"), "01000000" + "07f2052a");
});

test("only the youngest frame can be taken back, and only before it is gone", () => {
  const { writer, file } = rig();
  const id = writer.addInterface({ name: "re0" });
  const first = writer.packet(id, frameOf(1, 2, 1), 0, 60, "inbound");
  const second = writer.packet(id, frameOf(1, 2, 2), 0, 60, "inbound");
  assert.not(writer.retract(first));
  assert.ok(writer.retract(second));
  assert.not(writer.retract(second));
  const third = writer.packet(id, frameOf(1, 2, 3), 0, 60, "inbound");
  writer.flush();
  assert.not(writer.retract(third));
  assert.not(writer.retract(-1));
  const tags = blocksOf(file())
    .filter(({ type }) => type === 6)
    .map(({ body }) => body[20 + 14]);
  assert.equal(tags, [1, 3]);
});

test("the sink gets pieces of the size it asked for, in order", () => {
  const { writer, chunks, file } = rig({ bufferBytes: 500 });
  const id = writer.addInterface({ name: "re0" });
  for (let i = 0; i < 50; i++) writer.packet(id, frameOf(1, 2, i, 60 + i), 0, 60 + i, "inbound");
  writer.packet(id, new Uint8Array(3000), 0, 3000, "inbound");
  writer.packet(id, frameOf(1, 2, 51), 0, 60, "inbound");
  writer.close();
  assert.ok(chunks.length > 10);
  const lengths = blocksOf(file())
    .filter(({ type }) => type === 6)
    .map(({ body }) => body.readUInt32LE(16));
  assert.equal(lengths, [...Array.from({ length: 50 }, (_, i) => 60 + i), 3000, 60]);
});

test("an embedder's mistakes are refused by name", () => {
  const refused = (code: string, act: () => unknown): void =>
    assert.throws(act, (error: unknown) => error instanceof ConfigError && error.code === code);
  refused("pcapng-epoch", () => rig({ epochSeconds: 0.5 }));
  refused("pcapng-buffer", () => rig({ bufferBytes: -1 }));
  refused("pcapng-text", () => rig({ application: "x".repeat(65_536) }));
  const { writer } = rig();
  refused("pcapng-snaplen", () => writer.addInterface({ name: "a", snaplen: 0 }));
  refused("mac-address", () => writer.addInterface({ name: "a", mac: new Uint8Array(5) }));
  writer.close();
  refused("pcapng-closed", () => writer.addInterface({ name: "a" }));
});

test("any sequence of calls gives whole blocks", () => {
  const act = fc.oneof(
    fc.record({ length: fc.nat(400), flush: fc.boolean() }),
    fc.record({ retract: fc.boolean() }),
    fc.record({ text: fc.string({ unit: "binary", maxLength: 30 }) }),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 30 }), fc.nat(300), (acts, bufferBytes) => {
      const { writer, file } = rig({ bufferBytes });
      const names: string[] = [];
      let [last, kept] = [-1, 0];
      for (const a of acts) {
        if ("text" in a) {
          names.push(a.text);
          writer.addInterface({ name: a.text, snaplen: 100 + names.length });
        } else if ("length" in a) {
          last = writer.packet(0, new Uint8Array(400), 0, a.length, "outbound");
          if (last >= 0) kept++;
          if (a.flush) writer.flush();
        } else if (writer.retract(last)) kept--;
      }
      writer.close();
      const blocks = blocksOf(file());
      assert.is(blocks.filter(({ type }) => type === 6).length, kept);
      const written = blocks.filter(({ type }) => type === 1).map(({ body }) => optionsOf(body, 8).get(2)?.toString());
      assert.equal(
        written,
        names.map((name) => Buffer.from(name, "utf8").toString()),
      );
    }),
    { numRuns: 150 },
  );
});

const has = (tool: string): boolean => spawnSync(tool, ["--version"]).status === 0;

/** Runs a tool on a file of two interfaces and three frames. */
const judge = (tool: string, args: readonly string[]): string => {
  const { writer, file, clock } = rig({ application: "barwire", epochSeconds: 1_295_740_800 });
  const [lan, wan] = [writer.addInterface({ name: "re0" }), writer.addInterface({ name: "vtnet0", snaplen: 64 })];
  clock.advance(1_000_000_001);
  writer.packet(lan, frameOf(1, 2, 3), 0, 60, "outbound");
  clock.advance(999_999_999);
  writer.packet(wan, new Uint8Array(1514), 0, 1514, "inbound");
  writer.packet(lan, frameOf(2, 1, 3, 61), 0, 61, "inbound");
  writer.close();
  const folder = mkdtempSync(join(tmpdir(), "pcapng-"));
  try {
    const path = join(folder, "trace.pcapng");
    writeFileSync(path, file());
    const { status, stdout, stderr } = spawnSync(tool, [...args, path], {
      encoding: "utf8",
      env: { ...process.env, TZ: "UTC" },
    });
    assert.is(status, 0, stderr);
    return stdout;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

const withCapinfos = has("capinfos") ? test : test.skip; // without Wireshark there is nobody to ask
withCapinfos("capinfos accepts the file and sees what is in it", () => {
  const report = judge("capinfos", []);
  const line = (name: string): string | undefined =>
    report
      .split("\n")
      .find((l) => l.trimStart().startsWith(name))
      ?.split(/[=:]\s*/)
      .slice(1)
      .join(":")
      .trim();
  assert.is(line("File type"), "Wireshark/... - pcapng");
  assert.is(line("File encapsulation"), "Ethernet");
  assert.is(line("File timestamp precision"), "nanoseconds (9)");
  assert.is(line("Number of packets"), "3");
  assert.is(line("Data size"), "1635 bytes");
  assert.is(line("Capture duration"), "0.999999999 seconds");
  assert.match(report, /First packet time:\s+2011-01-23 00:00:01\.000000001/);
  assert.is(line("Capture application"), "barwire");
  assert.is(line("Number of interfaces in file"), "2");
  assert.match(report, /Interface #0 info:[^#]*Name = re0[^#]*Number of packets = 2/);
  assert.match(report, /Interface #1 info:[^#]*Name = vtnet0[^#]*Capture length = 64[^#]*Number of packets = 1/);
});

const withTshark = has("tshark") ? test : test.skip; // without Wireshark there is nobody to ask
withTshark("tshark reads times, lengths, directions and interfaces as they were written", () => {
  const fields = [
    "frame.time_epoch",
    "frame.len",
    "frame.cap_len",
    "frame.interface_name",
    "frame.packet_flags_direction",
  ];
  const report = judge("tshark", [...fields.flatMap((name) => ["-e", name]), "-T", "fields", "-r"]);
  assert.equal(report.trim().split("\n"), [
    "1295740801.000000001\t60\t60\tre0\t0x00000002",
    "1295740802.000000000\t1514\t64\tvtnet0\t0x00000001",
    "1295740802.000000000\t61\t61\tre0\t0x00000001",
  ]);
});

test.run();
