import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { rtl8169 } from "../../devices/rtl8169/index.js";
import { Machine } from "../machine/index.js";
import { UsageError } from "./args.js";
import { eeprom } from "./eeprom.js";
import { readEeprom } from "./eeprom-wires.js";
import { regs } from "./regs.js";
import { BarWindow } from "./regs-card.js";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

/** What a command prints, and its exit status. */
const run = (command: (args: string[]) => number, ...args: string[]) => {
  const lines: string[] = [];
  const { log } = console;
  console.log = (text: string) => void lines.push(text);
  try {
    return { status: command(args), stdout: lines.join("\n") };
  } finally {
    console.log = log;
  }
};

interface DecodedRegister {
  readonly name: string;
  readonly at: number;
  readonly value: number;
  readonly fields: { readonly [name: string]: number };
}
interface RegsOutput {
  readonly card: string;
  readonly blocks: readonly {
    readonly block: string;
    readonly bars: readonly number[];
    readonly registers: readonly DecodedRegister[];
  }[];
}
const regsJson = (...args: string[]): RegsOutput => JSON.parse(run(regs, ...args, "--json").stdout) as RegsOutput;

test("a register that reading clears is the same in every block that shows it", () => {
  const { blocks } = regsJson("--nic", "vtnet");
  const shown = blocks.map(({ registers }) => registers.find(({ name }) => name === "isr_status")?.value);
  assert.equal(shown, [1, 1]);
});

test("eeprom --dump: the contents by name, and the words", () => {
  const { status, stdout } = run(eeprom, "--nic", "re", "--dump");
  assert.is(status, 0);
  for (const line of [
    /^re: Realtek RTL8169SB at 00:03\.0, 93C46 of 64 words, station address 52:54:00:12:34:56$/m,
    /^ {2}00h {2}signature +8129$/m,
    /^ {2}02h {2}vendor_id +10ec$/m,
    /^ {2}04h {2}device_id +8169$/m,
    /^ {2}15h {2}CONFIG1 .*MEMMAP=1 IOMAP=1/m,
    /^ {2}00h {2}8129 10ec 8169 10ec 8169 4020 0000 5452$/m,
    /^ {2}08h {2}1200 5634 /m,
  ])
    assert.match(stdout, line);
  assert.not.ok(stdout.includes("\u001b"), "plain");
});

test("eeprom --json is data, and --file the image as ethtool would write it", () => {
  const there = mkdtempSync(join(tmpdir(), "barwire-"));
  try {
    const file = join(there, "image");
    const { status, stdout } = run(eeprom, "--nic", "re", "--json", "--file", file);
    assert.is(status, 0);
    const { part, mac, words } = JSON.parse(stdout) as { part: string; mac: string; words: number[] };
    assert.is(part, "93C46");
    assert.is(mac, "52:54:00:12:34:56");
    assert.is(words.length, 64);
    const image = readFileSync(file);
    assert.is(image.length, 128);
    assert.is(image.subarray(0, 4).toString("hex"), "2981ec10");
    assert.is(image.subarray(14, 20).toString("hex"), "525400123456");
  } finally {
    rmSync(there, { recursive: true });
  }
});

test("a 93C56 is told from a 93C46 by the card's answers, and read to its end", () => {
  for (const [fitted, words] of [
    ["93C46", 64],
    ["93C56", 128],
  ] as const) {
    const machine = new Machine({ strictness: "strict" });
    const slot = rtl8169({ mac: "02:00:00:00:00:07", eeprom: fitted });
    machine.plug("00:03.0", slot);
    machine.assignResources();
    const card = { name: "re", title: "", place: "00:03.0", slot, bus: machine.guestBus() };
    for (const bar of [0, 1]) {
      const found = readEeprom(new BarWindow(card, bar));
      assert.is(found?.part.name, fitted);
      assert.is(found?.image.length, 2 * words);
      assert.is(Buffer.from(found!.image.subarray(14, 20)).toString("hex"), "020000000007");
    }
  }
});

test("regs shows an RTL8169SB that its driver has brought up, one block for both windows", () => {
  const { card, blocks } = regsJson("--nic", "re");
  assert.is(card, "re");
  assert.is(blocks.length, 1);
  assert.equal(blocks[0]!.bars, [0, 1]);
  const by = (name: string) => blocks[0]!.registers.find((register) => register.name === name)!;
  assert.is(by("CR").at, 0x37);
  assert.is(by("CR").value, 0x0c);
  assert.equal([by("CR").fields.RE, by("CR").fields.TE], [1, 1]);
  assert.is(by("TCR").value & 0xfcc0_0000, 0x1000_0000);
  assert.is(by("PHYStatus").fields.LinkSts, 1);
  assert.is(by("IDR0").value, 0x1200_5452);
});

test("regs --reset shows the card as nobody has touched it", () => {
  const { stdout } = run(regs, "--nic", "re", "--reset");
  assert.match(stdout, /^ {2}37h {2}CR +00$/m);
  assert.match(stdout, /^ {2}40h {2}TCR +10000000 {2}HWVERID1=4$/m);
  assert.match(run(regs, "--nic", "re", "--reset", "--all").stdout, /^ {2}37h {2}CR .*StopReq=0 RST=0 RE=0 TE=0/m);
  assert.match(run(regs, "--nic", "re", "--reset", "-v").stdout, /^ {2}37h {2}CR +00\n +Command; RST clears itself/m);
});

test("regs is for any card whose windows have names: virtio's legacy header and its capabilities", () => {
  const { blocks } = regsJson("--card", "vtnet");
  const named = blocks.flatMap(({ registers }) => registers);
  const modern = blocks.find(({ bars }) => bars.includes(4))!.registers;
  assert.is(named.find(({ name }) => name === "device_features")?.at, 0);
  assert.is(modern.find(({ name }) => name === "num_queues")?.at, 0x12);
  assert.is(modern.find(({ name }) => name === "device_status")?.at, 0x14);
  assert.ok(regsJson("--card", "vtblk").blocks.length > 0);
});

test("every RealTek chip has an EEPROM that names it, and its driver brings it up", () => {
  // Device and revision as the data sheets and the drivers' tables have them, and the version in TCR.
  for (const [name, device, version] of [
    ["8169", 0x8169, 0x0000_0000],
    ["8169s", 0x8169, 0x0080_0000],
    ["8110s", 0x8169, 0x0400_0000],
    ["8169sb", 0x8169, 0x1000_0000],
    ["8169sc", 0x8167, 0x1800_0000],
    ["8169sce", 0x8167, 0x9800_0000],
    ["8139c+", 0x8139, 0x7480_0000],
    ["8139c", 0x8139, 0x7400_0000],
    ["8139d", 0x8139, 0x7440_0000],
  ] as const) {
    const { words } = JSON.parse(run(eeprom, "--nic", name, "--json").stdout) as { words: number[] };
    assert.equal(words.slice(0, 3), [0x8129, 0x10ec, device], name);
    const registers = regsJson("--nic", name).blocks[0]!.registers;
    const read = (wanted: string) => registers.find((register) => register.name === wanted)!.value;
    assert.is((read("TCR") & 0xfcc0_0000) >>> 0, version, name);
    assert.is(read("CR") & 0x0c, 0x0c, `${name}: receiver and transmitter`);
  }
});

test("wrong usage is a UsageError that says what there is", () => {
  const refusal = (command: (args: string[]) => number, ...args: string[]): string => {
    try {
      run(command, ...args);
    } catch (error) {
      if (error instanceof UsageError) return error.message;
      throw error;
    }
    return "nothing was refused";
  };
  assert.match(refusal(eeprom, "--nic", "vtnet"), /no serial EEPROM/);
  assert.match(refusal(eeprom, "--nic", "foo"), /no card "foo"; there are re, /);
  assert.match(refusal(eeprom, "--file", "/nonexistent/image"), /cannot write/);
  assert.match(refusal(eeprom, "--frob"), /frob/);
  assert.match(refusal(regs, "--nic", "re", "--card", "re"), /both/);
  assert.match(refusal(regs, "--card", "foo"), /no card "foo"/);
  for (const command of [eeprom, regs]) assert.match(run(command, "--help").stdout, /^usage: barwire /);
});

test("barwire eeprom and barwire regs from the shell: plain text, exit status 2 for wrong usage", () => {
  const barwire = (...args: string[]) =>
    spawnSync(process.execPath, ["--import", "tsx", MAIN, ...args], { encoding: "utf8" });
  const good = barwire("eeprom", "--nic", "re", "--dump");
  assert.is(good.status, 0);
  assert.match(good.stdout, /^re: /);
  const bad = barwire("regs", "--nic", "foo");
  assert.is(bad.status, 2);
  assert.is(bad.stdout, "");
  assert.match(bad.stderr, /^barwire: [^\n]+\n$/);
});

test.run();
