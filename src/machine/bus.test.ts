import { test } from "uvu";
import * as assert from "uvu/assert";
import type { AccessWidth } from "../contract/index.js";
import { TestFunction } from "../pci/testing.js";
import { Machine, type MachineOptions } from "./machine.js";

/** A machine with a card at 00:03.0, as the CPU's ports see it. */
const rig = (options: MachineOptions = {}) => {
  const machine = new Machine({ ram: 2 ** 20, ...options });
  const card = new TestFunction();
  machine.plug("00:03.0", card);
  return {
    machine,
    card,
    inp: (port: number, width: AccessWidth) => machine.ioRead(port, width),
    out: (port: number, width: AccessWidth, value: number) => machine.ioWrite(port, width, value),
  };
};
const CARD = 0x80001800; // 00:03.0, enabled

test("PCI-001 a 32-bit write to CF8 is readable back unchanged, reserved bits included", () => {
  const { inp, out } = rig();
  for (const value of [0x80000000, 0xffffffff, 0, 0x7f00ff03, 0x80001803]) {
    out(0xcf8, 4, value);
    assert.is(inp(0xcf8, 4), value);
  }
});

test("PCI-002 PCI-003 8- and 16-bit writes to CF8 … CFB leave the latch unchanged", () => {
  const { inp, out } = rig();
  out(0xcf8, 4, 0x80003004);
  for (const port of [0xcf8, 0xcf9, 0xcfa, 0xcfb]) out(port, 1, 0x00);
  for (const port of [0xcf7, 0xcf8, 0xcf9, 0xcfa]) out(port, 2, 0x0000);
  assert.is(inp(0xcf8, 4), 0x80003004);
});

test("byte and word reads of CF8 and CFA are not the latch", () => {
  const { inp, out } = rig();
  out(0xcf8, 4, 0);
  assert.equal([inp(0xcf8, 1), inp(0xcfa, 1), inp(0xcfb, 1)], [0xff, 0xff, 0xff]);
  assert.equal([inp(0xcf8, 2), inp(0xcfa, 2)], [0xffff, 0xffff]);
});

test("PCI-004 PCI-005 with enable bit 0 data reads all ones and writes change nothing", () => {
  const { inp, out } = rig();
  out(0xcf8, 4, CARD & 0x7fffffff);
  assert.equal([inp(0xcfc, 1), inp(0xcfc, 2), inp(0xcfc, 4), inp(0xcff, 1)], [0xff, 0xffff, 0xffffffff, 0xff]);
  out(0xcf8, 4, (CARD & 0x7fffffff) | 0x3c);
  for (const width of [1, 2, 4] as const) out(0xcfc, width, 0x55);
  out(0xcf8, 4, CARD | 0x3c);
  assert.is(inp(0xcfc, 1), 0);
});

test("PCI-006 PCI-007 byte and word reads give the lanes of the selected dword", () => {
  const { inp, out } = rig();
  out(0xcf8, 4, CARD);
  assert.equal(
    [0, 1, 2, 3].map((n) => inp(0xcfc + n, 1)),
    [0xec, 0x10, 0x69, 0x81],
  );
  assert.equal(
    [0, 1, 2].map((n) => inp(0xcfc + n, 2)),
    [0x10ec, 0x6910, 0x8169],
  );
  assert.is(inp(0xcfc, 4), 0x816910ec);
});

test("PCI-008 a word at CFF takes only its low byte from configuration space", () => {
  const { inp, out } = rig();
  out(0xcf8, 4, CARD);
  assert.is(inp(0xcff, 2), 0xff81);
  assert.is(inp(0xcfe, 4), 0xffff8169);
  assert.is(inp(0xcfd, 4), 0xff816910);
  assert.is(inp(0xcfa, 4), 0x10ecffff);
  out(0xcf8, 4, CARD | 0x0c);
  out(0xcff, 2, 0x1234);
  assert.is(inp(0xcfc, 4), 0);
});

test("PCI-009 a byte write at CFC+n modifies only byte n", () => {
  const { inp, out, card } = rig();
  out(0xcf8, 4, CARD | 0x14);
  out(0xcfc, 4, 0x11223340);
  out(0xcfe, 1, 0xaa);
  assert.is(inp(0xcfc, 4), 0x11aa3340);
  out(0xcfd, 1, 0x55);
  assert.is(card.configRead(0x14, 4), 0x11aa5540);
  out(0xcfa, 4, 0x6070ffff);
  assert.is(inp(0xcfc, 4), 0x11aa6070, "the upper half of a dword at CFA is the first word");
});

test("PCI-010 bits 1:0 of the latch do not shift the register", () => {
  const { inp, out } = rig();
  for (const low of [0, 1, 2, 3]) {
    out(0xcf8, 4, CARD | low);
    assert.is(inp(0xcfc, 4), 0x816910ec);
    assert.is(inp(0xcfe, 2), 0x8169);
  }
});

test("as an option they are OR-ed into the register number, as QEMU does", () => {
  const { inp, out } = rig({ unalignedConfigAddress: true });
  out(0xcf8, 4, CARD | 0x02);
  assert.is(inp(0xcfc, 2), 0x8169);
  assert.is(inp(0xcfd, 1), 0x81);
  out(0xcf8, 4, CARD | 0x3d);
  assert.is(inp(0xcfc, 1), 0x01);
});

test("PCI-011 PCI-012 an absent function reads all ones by width and ignores writes", () => {
  const { inp, out } = rig();
  for (const address of [0x80002000, 0x80001900, 0x8000f800, 0x80000900]) {
    out(0xcf8, 4, address | 0x0c);
    assert.equal([inp(0xcfc, 1), inp(0xcfc, 2), inp(0xcfc, 4)], [0xff, 0xffff, 0xffffffff], address.toString(16));
    assert.is(inp(0xcfe, 1), 0xff, "header type");
    for (const width of [1, 2, 4] as const) out(0xcfc, width, 0);
    assert.is(inp(0xcfc, 4), 0xffffffff);
  }
});

test("PCI-013 PCI-014 without rewriting CF8 reads are current, also after a write", () => {
  const { inp, out, card } = rig();
  out(0xcf8, 4, CARD | 0x3c);
  out(0xcfc, 1, 0x0b);
  assert.is(inp(0xcfc, 1), 0x0b);
  card.configWrite(0x3c, 1, 0x05);
  assert.is(inp(0xcfc, 1), 0x05);
  out(0xcfc, 1, 0x0a);
  assert.is(inp(0xcfc, 4), 0x0000010a);
});

test("PCI-015 CF9 is not part of the latch", () => {
  const { inp, out } = rig();
  out(0xcf8, 4, 0x80001234);
  out(0xcf9, 1, 0x02);
  assert.is(inp(0xcf8, 4), 0x80001234);
  assert.is(inp(0xcf9, 1), 0x02);
  out(0xcf8, 4, 0);
  assert.is(inp(0xcf9, 1), 0x02);
});

test("PCI-016 02 and then 06 to CF9 requests exactly one platform reset", () => {
  const resets: string[] = [];
  const { inp, out, card } = rig({ onReset: (kind) => resets.push(kind) });
  card.configWrite(0x04, 2, 7);
  out(0xcf8, 4, CARD);
  out(0xcf9, 1, 0x02);
  assert.equal(resets, []);
  assert.is(inp(0xcf9, 1), 0x02);
  out(0xcf9, 1, 0x06);
  assert.equal(resets, ["platform"]);
  assert.is(card.configRead(0x04, 2), 0);
  assert.is(inp(0xcf8, 4), 0);
  assert.is(inp(0xcf9, 1), 0);
});

test("PCI-152 a reset of the CPU alone changes no PCI register", () => {
  const resets: string[] = [];
  const { machine, inp, out, card } = rig({ onReset: (kind) => resets.push(kind) });
  machine.assignResources();
  out(0xcf8, 4, CARD);
  const before = machine.save();
  out(0xcf9, 1, 0x04);
  assert.equal(resets, ["cpu"]);
  machine.cpuReset();
  assert.equal(machine.save(), before);
  assert.is(inp(0xcf8, 4), CARD);
  assert.is(card.barBase(0), 0xc000);
});

test("words and dwords at CF9 do not reset", () => {
  const resets: string[] = [];
  const { out } = rig({ onReset: (kind) => resets.push(kind) });
  out(0xcf8, 2, 0x0606);
  out(0xcf9, 2, 0x0606);
  out(0xcf9, 4, 0x06060606);
  out(0xcf6, 4, 0x06060606);
  assert.equal(resets, []);
});

test("PCI-017 ports C000 … CFFF are ordinary ports", () => {
  const { machine, inp, out, card } = rig();
  out(0xcf8, 1, 0xf0);
  out(0xcfa, 1, 0x00);
  for (let port = 0xc000; port < 0xd000; port++) assert.is(inp(port, 1), 0xff);
  machine.assignResources();
  out(0xc003, 1, 0x77);
  assert.is(card.model.bytes[3], 0x77);
});

test("PCI-018 saving and restoring the latch by the guest is transparent", () => {
  const { inp, out } = rig();
  out(0xcf8, 4, CARD | 0x2c);
  const saved = inp(0xcf8, 4);
  out(0xcfb, 1, 0x01);
  out(0xcf8, 4, 0x80000000);
  assert.is(inp(0xcf8, 4), 0x80000000);
  out(0xcf8, 4, saved);
  assert.is(inp(0xcfc, 4), 0x00000000);
  out(0xcf8, 4, CARD);
  assert.is(inp(0xcfc, 2), 0x10ec);
});

test("PCI-019 bus numbers with no bridge answer all ones for all 256 devfn", () => {
  const { inp, out } = rig();
  for (const bus of [1, 2, 0x7f, 0xff])
    for (let devfn = 0; devfn < 256; devfn++) {
      out(0xcf8, 4, (0x80000000 | (bus << 16) | (devfn << 8)) >>> 0);
      assert.is(inp(0xcfc, 4), 0xffffffff);
    }
});

test("a scan of bus 0 finds what is plugged", () => {
  const { inp, out } = rig();
  const found: string[] = [];
  for (let devfn = 0; devfn < 256; devfn++) {
    out(0xcf8, 4, (0x80000000 | (devfn << 8)) >>> 0);
    const id = inp(0xcfc, 4);
    if (id !== 0xffffffff) found.push(`${devfn.toString(16)} ${id.toString(16)}`);
  }
  assert.equal(found, ["0 12378086", "8 70008086", "18 816910ec"]);
});

test.run();
