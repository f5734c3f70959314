import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { AccessWidth } from "../contract/index.js";
import { pciBridge } from "../pci/index.js";
import { TestFunction } from "../pci/testing.js";
import { Machine } from "./machine.js";

const MIB = 2 ** 20;
const PCIEXBAR = 0x60; // of the host bridge, Intel 3 Series data sheet §5.1.15

/** A Q35's host bridge with ECAM at B0000000h, a conventional card at 00:03.0, one of PCI Express behind a bridge. */
const rig = () => {
  const machine = new Machine({ ram: MIB, hostBridge: "q35" });
  const card = new TestFunction();
  const express = new TestFunction({ extended: [], identity: { ...IDENTITY, deviceId: 0x8168 } });
  machine.plug("00:03.0", card);
  machine.plug("00:05.0", pciBridge());
  machine.plug("00:05.0/04.0", express);
  machine.configWrite(0x28, 0x18, 4, 0x0001_0100);
  machine.configWrite(0, PCIEXBAR, 4, 0xb000_0001);
  return { machine, card, express };
};
const IDENTITY = { vendorId: 0x10ec, deviceId: 0x8169, revisionId: 0x10, classCode: 0x020000 };
const CARD = 0xb000_0000 + (3 << 15);
const EXPRESS = 0xb000_0000 + (1 << 20) + (4 << 15);

test("PCI-020 ECAM and mechanism #1 give the same below 100h, whichever wrote", () => {
  const { machine } = rig();
  const byPorts = (bdf: number, register: number) => {
    machine.ioWrite(0xcf8, 4, 0x8000_0000 + (bdf << 8) + register);
    return machine.ioRead(0xcfc, 4);
  };
  const at = fc.constantFrom(0x00, 0x08, 0x18, 0x19, 0x28, 0x120, 0x128, 0x200);
  fc.assert(
    fc.property(fc.array(fc.tuple(at, fc.nat(63), fc.boolean(), fc.nat(0xffff_ffff)), { maxLength: 8 }), (writes) => {
      for (const [bdf, dword, ecam, value] of writes) {
        if (bdf === 0 && dword * 4 >= PCIEXBAR) continue; // moves it
        if (bdf === 0x28 && dword * 4 >= 0x18) continue;
        if (ecam) machine.memWrite(0xb000_0000 + bdf * 0x1000 + 4 * dword, 4, value);
        else {
          machine.ioWrite(0xcf8, 4, 0x8000_0000 + (bdf << 8) + 4 * dword);
          machine.ioWrite(0xcfc, 4, value);
        }
      }
      for (const bdf of [0x00, 0x08, 0x18, 0x28, 0x120, 0x128])
        for (let register = 0; register < 0x100; register += 4)
          assert.is(machine.memRead(0xb000_0000 + bdf * 0x1000 + register, 4), byPorts(bdf, register));
    }),
    { numRuns: 20 },
  );
});

test("PCI-021 ECAM accesses of 1, 2 and 4 bytes touch their bytes alone", () => {
  const { machine, card } = rig();
  assert.equal(
    [machine.memRead(CARD, 1), machine.memRead(CARD + 1, 1), machine.memRead(CARD + 2, 2), machine.memRead(CARD, 4)],
    [0xec, 0x10, 0x8169, 0x8169_10ec],
  );
  card.configWrite(0x14, 4, 0x1122_3340);
  machine.memWrite(CARD + 0x17, 1, 0xaa);
  assert.is(card.configRead(0x14, 4), 0xaa22_3340);
  machine.memWrite(CARD + 0x14, 2, 0x5560);
  assert.is(card.configRead(0x14, 4), 0xaa22_5560);
  machine.memWrite(CARD + 0x3c, 4, 0x77);
  assert.is(machine.memRead(CARD + 0x3c, 1), 0x77);
});

test("PCI-022 ECAM claims the buses that it was set to, and nothing beyond", () => {
  const { machine } = rig();
  machine.mapFixed(0xc000_0000, { kind: "mem32", size: 16, handler: { read: () => 0x42, write: () => {} } });
  assert.is(machine.memRead(0xbff0_0000, 4), 0xffff_ffff, "bus 255, nobody");
  assert.is(machine.memRead(0xc000_0000, 1), 0x42);
  // 64 MiB are 64 buses: what lies above is memory again, and a BAR may be there.
  machine.configWrite(0, PCIEXBAR, 4, 0xb000_0005);
  machine.configWrite(0x18, 0x14, 4, 0xb400_0000);
  machine.configWrite(0x18, 0x04, 2, 2);
  assert.is(machine.memRead(0xb400_0000, 1), 0);
  assert.is(machine.memRead(CARD, 2), 0x10ec);
  machine.configWrite(0, PCIEXBAR, 4, 0xb000_0003); // 128 MiB cover it
  assert.is(machine.memRead(0xb400_0000, 1), 0xff);
});

test("PCI-023 moving PCIEXBAR, or switching it off, counts from the next access on", () => {
  const { machine } = rig();
  assert.is(machine.memRead(CARD, 2), 0x10ec);
  machine.memWrite(0xb000_0000 + PCIEXBAR, 4, 0xe000_0001); // by itself
  assert.equal([machine.memRead(CARD, 4), machine.memRead(0xe000_0000 + (3 << 15), 2)], [0xffff_ffff, 0x10ec]);
  machine.configWrite(0, PCIEXBAR + 4, 4, 0x1);
  assert.equal(
    [machine.memRead(0xe000_0000 + (3 << 15), 2), machine.memRead(0x1_e000_0000 + (3 << 15), 2)],
    [0xffff, 0x10ec],
  );
  machine.configWrite(0, PCIEXBAR, 4, 0xe000_0000);
  assert.is(machine.memRead(0x1_e000_0000 + (3 << 15), 2), 0xffff);
  machine.configWrite(0, PCIEXBAR, 4, 0xe000_0007);
  assert.is(machine.memRead(0x1_e000_0000 + (3 << 15), 2), 0xffff, "a length that is reserved");
  machine.configWrite(0, PCIEXBAR, 4, 0xe000_0001);
  const state = machine.save();
  machine.reset();
  assert.is(machine.memRead(0x1_e000_0000 + (3 << 15), 2), 0xffff);
  machine.load(state);
  assert.is(machine.memRead(0x1_e000_0000 + (3 << 15), 2), 0x10ec);
});

test("PCI-024 from 100h on a conventional function reads all ones, and keeps nothing", () => {
  const { machine } = rig();
  for (const register of [0x100, 0x104, 0xffc]) {
    machine.memWrite(CARD + register, 4, 0);
    assert.is(machine.memRead(CARD + register, 4), 0xffff_ffff, register.toString(16));
  }
  assert.is(machine.memRead(CARD + 0x3e, 2), 0, "and the header is not repeated there");
  assert.is(machine.memRead(CARD + 0xfe, 4), 0xffff_0000, "an access over the edge");
});

test("PCI-025 the list of a PCI Express function without extended capabilities begins with 0", () => {
  const { machine } = rig();
  assert.is(machine.memRead(EXPRESS, 4), 0x8168_10ec);
  machine.memWrite(EXPRESS + 0x100, 4, 0xffff_ffff);
  assert.equal([machine.memRead(EXPRESS + 0x100, 4), machine.memRead(EXPRESS + 0xffc, 4)], [0, 0]);
  assert.is(machine.memRead(EXPRESS + 0xffe, 4), 0xffff_0000, "the next function is nobody");
});

test("PCI-026 an access of 8 bytes is two of 4, the low one first", () => {
  const { machine, card } = rig();
  const pair = new Uint32Array(2);
  machine.memReadPair(CARD, pair);
  assert.equal([...pair], [0x8169_10ec, 0]);
  const order: number[] = [];
  const write = card.configWrite.bind(card);
  card.configWrite = (offset: number, width: AccessWidth, value: number) => {
    order.push(offset, width, value);
    write(offset, width, value);
  };
  machine.memWritePair(CARD + 0x10, 0x0000_c001, 0x8000_0000);
  assert.equal(order, [0x10, 4, 0xc001, 0x14, 4, 0x8000_0000]);
});

test("PCI-079 ECAM comes before BARs, and RAM before ECAM", () => {
  const { machine, card } = rig();
  machine.configWrite(0x18, 0x14, 4, 0xb000_0000);
  machine.configWrite(0x18, 0x04, 2, 2);
  assert.is(card.barBase(1), 0xb000_0000);
  assert.is(machine.memRead(0xb000_0000, 4), 0x29c0_8086);
  machine.configWrite(0, PCIEXBAR, 4, 1);
  machine.memWrite(0, 4, 0x1234_5678);
  assert.is(machine.memRead(0, 4), 0x1234_5678);
});

test("assignResources puts ECAM where SeaBIOS does, and BARs behind it", () => {
  const { machine, card } = rig();
  machine.assignResources();
  assert.is(machine.configRead(0, PCIEXBAR, 4), 0xb000_0001);
  assert.is(machine.memRead(CARD, 2), 0x10ec);
  assert.ok(card.barBase(1) >= 0xc000_0000);
});

test.run();
