import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseCommandLine } from "./command-line.js";
import { parseOptions } from "./option-string.js";
import { Properties, parseByteSize } from "./properties.js";
import { StartupError } from "./startup-error.js";

const refused = (run: () => unknown, words: RegExp): void =>
  assert.throws(run, (error: unknown) => error instanceof StartupError && words.test(error.message));

test("a command line as libqtest writes it", () => {
  const config = parseCommandLine([
    "--as=qemu-system-x86_64",
    ...["-qtest", "unix:/tmp/a", "-qtest-log", "/dev/null", "-chardev", "socket,path=/tmp/b,id=char0"],
    ...["-mon", "chardev=char0,mode=control", "-display", "none", "-M", "pc ", "-m", "64", "-smp", "2"],
    ...["-netdev", "socket,fd=7,id=hs0", "-device", "virtio-net-pci,netdev=hs0,addr=04.0"],
    ...["-device", "{'driver': 'virtio-blk-pci', 'id': 'x', 'addr': 5}", "-accel", "qtest"],
  ]);
  const { machine, ramSize, cpus, paused, qtest, monitors, qtestLog } = config;
  assert.equal(
    [machine, ramSize, cpus, paused, qtest, monitors, qtestLog],
    ["pc", 64 * 2 ** 20, 2, false, "qtest", ["char0"], null],
  );
  assert.equal(
    config.chardevs.map(({ id, backend, path, server }) => [id, backend, path, server]),
    [
      ["qtest", "unix", "/tmp/a", false],
      ["char0", "unix", "/tmp/b", false],
    ],
  );
  assert.equal(
    [...config.netdevs, ...config.devices].map((options) => Object.fromEntries(options)),
    [
      { type: "socket", fd: "7", id: "hs0" },
      { driver: "virtio-net-pci", netdev: "hs0", addr: "04.0" },
      { driver: "virtio-blk-pci", id: "x", addr: 5 },
    ],
  );
});

test("nothing given is a pc with 128 MiB", () => {
  const { machine, ramSize, qtest } = parseCommandLine([]);
  assert.equal([machine, ramSize, qtest], ["pc", 128 * 2 ** 20, null]);
});

test("sizes of RAM are in MiB unless they say otherwise", () => {
  const size = (text: string) => parseCommandLine(["-m", text]).ramSize / 2 ** 20;
  assert.equal(
    ["16", "16M", "1G", "size=32", "2048K", "128M,slots=1,maxmem=768M"].map(size),
    [16, 16, 1024, 32, 2, 128],
  );
  for (const wrong of ["0", "5G", "x", "-1", "16Q"]) refused(() => parseCommandLine(["-m", wrong]), /-m/);
});

test("what is not known is refused by name", () => {
  const wrong: [string[], RegExp][] = [
    [["-frob"], /-frob: invalid option/],
    [["frob"], /frob: invalid option/],
    [["-toString", "x"], /invalid option/],
    [["-m"], /-m: requires an argument/],
    [["-machine", "q35"], /unsupported machine type 'q35'/],
    [["-accel", "kvm"], /-accel kvm/],
    [["-net", "user"], /-net user/],
    [["-chardev", "socket,path=/x"], /'id' is missing/],
    [["-chardev", "vc,id=x"], /expected socket/],
    [["-chardev", "socket,id=x,path=/x,frob=1"], /'-chardev.frob' not found/],
    [["-mon", "chardev=c,mode=control"], /chardev "c" not found/],
    [["-qtest", "c"], /chardev "c" not found/],
    [["-qtest", "stdio", "-qtest", "stdio"], /one qtest connection/],
    [["-qtest", "tcp:nowhere"], /expected HOST:PORT/],
    [["-object", "memory-backend-ram,id=x"], /expected qtest/],
    [["-d", "int"], /expected guest_errors/],
  ];
  for (const [args, words] of wrong) refused(() => parseCommandLine(args), words);
});

test("options: commas, flags, JSON", () => {
  const of = (text: string, first: string | null = "driver") => Object.fromEntries(parseOptions(text, first));
  assert.equal(of("x,a=b,,c,server,nowait"), { driver: "x", a: "b,c", server: "on", wait: "off" });
  assert.equal(of("a=1,b=", null), { a: "1", b: "" });
  assert.equal(of("x,a=b=c"), { driver: "x", a: "b=c" });
  assert.equal(of('{"type":"stream","server":true,"addr":{"type":"unix","path":"/x"},"n":3}'), {
    type: "stream",
    server: true,
    "addr.type": "unix",
    "addr.path": "/x",
    n: 3,
  });
  refused(() => parseOptions("{nonsense", null), /no JSON object/);
});

test("properties are read by kind, and what nobody read is a mistake", () => {
  const of = (text: string) => new Properties("card", parseOptions(text, null));
  assert.equal(
    ["on", "off", "yes", "no", "true", "false"].map((text) => of(`x=${text}`).boolean("x")),
    [true, false, true, false, true, false],
  );
  refused(() => of("x=maybe").boolean("x"), /expected on or off/);
  assert.is(of("x=0x10").integer("x", 0, 16), 16);
  refused(() => of("x=17").integer("x", 0, 16), /expected 0 … 16/);
  refused(() => of("x=1.5").integer("x", 0, 16), /1.5/);
  refused(() => of("x=1").done(), /'card.x' not found/);
  refused(() => of("").required("x"), /'x' is missing/);
  refused(() => of("x=c").oneOf("x", ["a", "b"]), /expected a, b/);
  const grouped = of("addr.type=unix,addr.path=/x,id=1");
  assert.equal([grouped.group("addr.").string("path"), grouped.string("id")], ["/x", "1"]);
  grouped.done();
});

test("sizes", () => {
  assert.equal(
    ["1", "1k", "2M", "1.5G", "0x200", "1T"].map((text) => parseByteSize(text)),
    [1, 1024, 2 ** 21, 1.5 * 2 ** 30, 512, 2 ** 40],
  );
  assert.ok(Number.isNaN(parseByteSize("1Q")));
});

test("no command line makes it throw anything but a StartupError", () => {
  const option = fc.constantFrom(
    "-m",
    "-smp",
    "-machine",
    "-device",
    "-netdev",
    "-drive",
    "-chardev",
    "-mon",
    "-qtest",
    "-object",
    "-qmp",
  );
  const value = fc.oneof(
    fc.string({ maxLength: 20 }),
    fc
      .array(fc.constantFrom("id=", "x", ",", "=", "{", "}", "'", '"', "socket", "path=/y", "unix:", "[", "1"), {
        maxLength: 8,
      })
      .map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(option, value), { maxLength: 4 }), (pairs) => {
      try {
        parseCommandLine(pairs.flat());
      } catch (error) {
        assert.ok(error instanceof StartupError, String(error));
      }
    }),
  );
});

test.run();
