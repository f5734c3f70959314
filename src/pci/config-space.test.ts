import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError } from "../bytes/index.js";
import type { AccessWidth, Model } from "../contract/index.js";
import { defineRegisters } from "../regs/index.js";
import type { Capability, CapabilityHost, FunctionDeclaration } from "./declaration.js";
import { definePciFunction, type PciFunction } from "./function.js";
import { Msix } from "./msix.js";
import { PowerManagement } from "./pm.js";
import { RecordingHost, TestFunction } from "./testing.js";

const QUIET: Model = {
  connect: () => {},
  disconnect: () => {},
  reset: () => {},
  save: () => ({ version: 1 }),
  load: () => {},
};
const IDENTITY = {
  vendorId: 0x10ec,
  deviceId: 0x8169,
  revisionId: 0x10,
  classCode: 0x020304,
  subsystemVendorId: 0x1af4,
  subsystemId: 0x1100,
};
const fn = (more: Partial<FunctionDeclaration> = {}): PciFunction =>
  definePciFunction({ name: "card", identity: IDENTITY, model: QUIET, ...more });

/** A vendor-specific capability that records what it is told. */
const vendor = (size: number, more: Partial<Capability> & { told?: string[] } = {}): Capability => {
  const image = new Uint8Array(size);
  image[2] = size;
  return {
    id: 9,
    image,
    rw: new Uint8Array(size),
    written: (first, last) => more.told?.push(`${first}-${last}`),
    ...more,
  };
};
const fill = (size: number, value: number, from = 0, to = size): Uint8Array =>
  new Uint8Array(size).fill(value, from, to);
const width = fc.constantFrom<AccessWidth>(1, 2, 4);

test("PCI-027 vendor, device, revision, class and subsystem fields ignore writes of any width", () => {
  const card = fn();
  for (const value of [0, 0xffffffff, 0x5a5a5a5a])
    for (const w of [1, 2, 4] as const)
      for (const at of [0x00, 0x08, 0x2c]) for (let i = at; i < at + 4; i += w) card.configWrite(i, w, value);
  assert.is(card.configRead(0x00, 4), 0x816910ec);
  assert.is(card.configRead(0x08, 4), 0x02030410);
  assert.is(card.configRead(0x2c, 4), 0x11001af4);
});

test("PCI-028 Command accepts exactly the declared mask and reads back 0 elsewhere", () => {
  for (const [mask, expected] of [
    [undefined, 0x0507],
    [0x0547, 0x0547],
    [0, 0],
  ] as const) {
    const card = fn(mask === undefined ? {} : { commandMask: mask });
    card.configWrite(0x04, 2, 0xffff);
    assert.is(card.configRead(0x04, 2), expected);
    card.configWrite(0x04, 2, 0);
    assert.is(card.configRead(0x04, 2), 0);
  }
});

test("PCI-029 Command is 0 after power-on reset", () => {
  const card = fn();
  assert.is(card.configRead(0x04, 2), 0);
  card.configWrite(0x04, 2, 0x0507);
  card.reset("power-on");
  assert.is(card.configRead(0x04, 2), 0);
});

/** A function whose Status has received master abort set, by DMA through a door that is shut. */
const aborted = (): PciFunction => {
  const card = new TestFunction();
  card.connect(new RecordingHost());
  card.model.seams!.dma.read(0, 4, new Uint8Array(4), 0);
  return card;
};

test("PCI-030 writing 1 to a W1C status bit clears it and writing 0 keeps it", () => {
  const card = aborted();
  assert.is(card.configRead(0x06, 2), 0x2000);
  card.configWrite(0x06, 2, 0x0000);
  assert.is(card.configRead(0x06, 2), 0x2000);
  card.configWrite(0x06, 2, 0xdfff);
  assert.is(card.configRead(0x06, 2), 0x2000, "the other bits are ones");
  card.configWrite(0x06, 2, 0x2000);
  assert.is(card.configRead(0x06, 2), 0);
});

test("PCI-031 writing FFFF to Status does not change read-only bits", () => {
  const card = fn({ statusBits: 0x02a0, capabilities: [new PowerManagement()] });
  assert.is(card.configRead(0x06, 2), 0x02b0);
  card.configWrite(0x06, 2, 0xffff);
  assert.is(card.configRead(0x06, 2), 0x02b0);
  card.configWrite(0x06, 2, 0);
  assert.is(card.configRead(0x06, 2), 0x02b0);
});

test("PCI-032 a dword write at 04h updates Command and clears W1C bits of Status in one access", () => {
  const card = aborted();
  card.configWrite(0x04, 4, 0x20000106);
  assert.is(card.configRead(0x04, 4), 0x00000106);
});

test("PCI-033 Status bit 4 is set if and only if there is a capability list", () => {
  assert.is(fn().configRead(0x06, 2), 0);
  assert.is(fn().configRead(0x34, 1), 0);
  const card = fn({ capabilities: [new PowerManagement()] });
  assert.is(card.configRead(0x06, 2), 0x0010);
  assert.is(card.configRead(0x34, 1), 0x40);
  const odd = fn({ capabilityPointer: 0xdc });
  assert.is(odd.configRead(0x06, 2), 0, "as QEMU's rtl8139: a pointer, but no list");
  assert.is(odd.configRead(0x34, 1), 0xdc);
});

test("PCI-034 PCI-039 interrupt line and cache line size store any byte, with no effect", () => {
  const card = fn({ interruptPin: "INTA" });
  for (let value = 0; value < 0x100; value += 0x0f) {
    card.configWrite(0x3c, 1, value);
    card.configWrite(0x0c, 1, value ^ 0xff);
    assert.is(card.configRead(0x3c, 4), 0x00000100 + value);
    assert.is(card.configRead(0x0c, 4), value ^ 0xff);
  }
});

test("PCI-035 interrupt pin is read-only", () => {
  const pins = ["none", "INTA", "INTB", "INTC", "INTD"] as const;
  for (const [i, interruptPin] of pins.entries()) {
    const card = fn({ interruptPin });
    card.configWrite(0x3c, 4, 0xffffffff);
    assert.is(card.configRead(0x3d, 1), i);
  }
});

test("PCI-036 header type bit 7 as declared, read-only", () => {
  const card = fn({ multiFunction: true });
  card.configWrite(0x0e, 1, 0);
  assert.is(card.configRead(0x0e, 1), 0x80);
  assert.is(fn().configRead(0x0e, 1), 0);
});

test("PCI-037 PCI-038 reserved header bytes and unimplemented bytes from 40h read 0 and ignore writes", () => {
  const card = fn({ capabilities: [new Msix({ vectors: 1, bar: 0, at: 0x50 })] });
  const reserved = [
    0x0d, 0x0f, 0x28, 0x29, 0x2a, 0x2b, 0x30, 0x33, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3e, 0x3f,
  ];
  for (let at = 0x40; at < 0x100; at++) if (at < 0x50 || at >= 0x5c) reserved.push(at);
  for (const at of reserved) {
    card.configWrite(at, 1, 0xff);
    assert.is(card.configRead(at, 1), 0, `byte ${at.toString(16)}`);
  }
});

test("latency timer, Min_Gnt and Max_Lat as declared", () => {
  const card = fn({ latencyMask: 0xf8, minGnt: 0x20, maxLat: 0x40 });
  card.configWrite(0x0d, 1, 0xff);
  assert.is(card.configRead(0x0d, 1), 0xf8);
  card.configWrite(0x3e, 2, 0xffff);
  assert.is(card.configRead(0x3e, 2), 0x4020);
});

test("PCI-106 capabilities are aligned, inside 40h-FFh, apart, and the list ends after each was visited once", () => {
  const sizes = fc.array(fc.tuple(fc.integer({ min: 3, max: 40 }), fc.boolean()), { maxLength: 8 });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 0x10, max: 0x3e }), (list, dword) => {
      let fixed = 4 * dword; // some have a place of their own, upwards from here
      const capabilities = list.map(([size, atPlace], i) => {
        if (!atPlace || fixed + size > 0x100) return vendor(size, { id: 0x20 + i });
        const at = fixed;
        fixed += (size + 3) & ~3;
        return vendor(size, { id: 0x20 + i, at });
      });
      let card: PciFunction;
      try {
        card = fn({ capabilities });
      } catch (error) {
        assert.ok(error instanceof ConfigError && error.code === "capability-space");
        return;
      }
      const used = new Set<number>();
      let pointer = card.configRead(0x34, 1);
      for (const [i, { image }] of capabilities.entries()) {
        assert.ok(pointer >= 0x40 && pointer % 4 === 0 && pointer + image.length <= 0x100);
        assert.is(card.configRead(pointer, 1), 0x20 + i);
        for (let at = pointer; at < pointer + image.length; at++) {
          assert.not(used.has(at), `byte ${at.toString(16)} twice`);
          used.add(at);
        }
        pointer = card.configRead(pointer + 1, 1);
      }
      assert.is(pointer, 0);
    }),
    { numRuns: 300 },
  );
});

test("PCI-107 capability id and next bytes are read-only, also where a capability's own mask forgot that", () => {
  const card = fn({ capabilities: [vendor(8, { rw: fill(8, 0xff) }), vendor(8, { rw: fill(8, 0xff), at: 0x80 })] });
  card.configWrite(0x40, 4, 0xffffffff);
  card.configWrite(0x80, 2, 0);
  assert.is(card.configRead(0x40, 4), 0xffff8009);
  assert.is(card.configRead(0x80, 2), 0x0009);
});

test("a capability is told once per dword, after all bytes of the access are merged", () => {
  const told: string[] = [];
  let seen = 0;
  let config: CapabilityHost | null = null;
  const card = fn({
    capabilities: [
      vendor(12, {
        rw: fill(12, 0xff, 4),
        bind: (host) => {
          config = host;
        },
        written: (first, last) => {
          told.push(`${first}-${last}`);
          seen = config!.get(0x44, 4);
        },
      }),
    ],
  });
  card.configWrite(0x44, 4, 0x44332211);
  assert.is(seen, 0x44332211);
  card.configWrite(0x45, 2, 0);
  card.configWrite(0x46, 4, 0xddccbbaa);
  assert.equal(told, ["4-7", "5-6", "6-7", "8-9"]);
  assert.is(card.configRead(0x46, 4), 0xddccbbaa);
});

test("what a read shows may be made at the read", () => {
  let reads = 0;
  let config: CapabilityHost | null = null;
  const card = fn({
    capabilities: [
      vendor(8, {
        live: fill(8, 0xff, 4),
        bind: (host) => {
          config = host;
        },
        beforeRead: (first, last) => {
          if (last >= 4 && first <= 7) config!.set(0x44, 4, ++reads);
        },
      }),
    ],
  });
  assert.is(card.configRead(0x40, 4) >>> 16, 8, "the first dword is not the live one");
  assert.is(card.configRead(0x44, 4), 1);
  assert.is(card.configRead(0x44, 1), 2);
  assert.is(card.configRead(0x42, 4), 0x00030008, "in two dwords, each once");
});

test("an access that leaves its dword is split, one that leaves the space reads ones outside", () => {
  const card = fn();
  assert.is(card.configRead(0x02, 4), 0x00008169);
  assert.is(card.configRead(0x01, 2), 0x6910);
  assert.is(card.configRead(0x03, 2), 0x0081);
  card.configWrite(0x3b, 2, 0x55aa);
  assert.is(card.configRead(0x3c, 1), 0x55);
  assert.is(card.configRead(0xfe, 4), 0xffff0000);
  assert.is(card.configRead(0x100, 2), 0xffff);
  assert.is(card.configRead(-4, 4), 0xffffffff);
  assert.is(card.configRead(Number.NaN, 1), 0xff);
  card.configWrite(0xfe, 4, 0);
  card.configWrite(0x1004, 2, 7);
  card.configWrite(-0xfc, 2, 7);
  assert.is(card.configRead(0x04, 2), 0);
});

test("registers of a function's own: reset values, masks, hooks, told after all bytes are merged", () => {
  const map = defineRegisters(
    { name: "own", source: "test", size: 0x10 },
    {
      A: { at: 0, width: 1, rw: 0x8f, reset: 0x80, hook: true, doc: "a" },
      B: { at: 1, width: 1, rw: 0xff, doc: "b" },
      C: { at: 2, width: 2, rw: 0x00ff, w1c: 0x8000, reset: 0x8000, hook: true, doc: "c" },
    },
  );
  const told: [number, number][] = [];
  const card = fn({
    registers: [{ at: 0x60, map, written: (bytes, touched) => told.push([touched, bytes.get(0x60, 4)]) }],
  });
  assert.is(card.configRead(0x60, 4), 0x80000080);
  card.configWrite(0x61, 1, 0x77);
  card.configWrite(0x60, 4, 0xffffffff);
  assert.is(card.configRead(0x60, 4), 0x00ffff8f);
  card.configWrite(0x63, 1, 0);
  assert.equal(told, [
    [map.hooks.A | map.hooks.C, 0x00ffff8f],
    [map.hooks.C, 0x00ffff8f],
  ]);
  card.configWrite(0x64, 4, 0xffffffff);
  assert.is(card.configRead(0x64, 4), 0, "what the map does not declare is nothing");
  card.reset("bus");
  assert.is(card.configRead(0x60, 4), 0x80000080);
});

test("what does not fit is refused with its value", () => {
  const refused = (code: string, value: RegExp, more: Partial<FunctionDeclaration>) =>
    assert.throws(
      () => fn(more),
      (error: unknown) => error instanceof ConfigError && error.code === code && value.test(error.message),
    );
  refused("config-field", /0x1ffff/, { identity: { ...IDENTITY, deviceId: 0x1ffff } });
  refused("config-field", /0xffff/, { identity: { ...IDENTITY, vendorId: 0xffff } });
  refused("config-field", /0x2000000/, { identity: { ...IDENTITY, classCode: 0x2000000 } });
  refused("config-field", /0x2000/, { statusBits: 0x2000 });
  refused("config-field", /0x10000/, { commandMask: 0x10000 });
  refused("capability-place", /0x42/, { capabilities: [vendor(8, { at: 0x42 })] });
  refused("capability-place", /0x3c/, { capabilities: [vendor(8, { at: 0x3c })] });
  refused("capability-place", /0xfc/, { capabilities: [vendor(8, { at: 0xfc })] });
  refused("capability-overlap", /0x84/, { capabilities: [vendor(8, { at: 0x80 }), vendor(8, { at: 0x84 })] });
  refused("capability-space", /101 bytes/, { capabilities: [vendor(101), vendor(101)] });
  refused("capability-images", /length/, { capabilities: [vendor(8, { rw: new Uint8Array(4) })] });
  refused("capability-id", /1 … 0xfe/, { capabilities: [vendor(8, { id: 0xff })] });
  const twice = vendor(8);
  refused("capability-twice", /0x9/, { capabilities: [twice, twice] });
});

test("no sequence of writes changes a read-only bit, and every byte reads the same in all widths", () => {
  const map = defineRegisters(
    { name: "own", source: "test", size: 4 },
    { A: { at: 0, width: 4, rw: 0x00ff00f0, w1c: 0x0f000000, reset: 0x0f005000, doc: "a" } },
  );
  const build = () =>
    fn({
      interruptPin: "INTB",
      bars: { 0: { kind: "io", size: 0x40, handler: { read: () => 0, write: () => {} } } },
      capabilities: [new PowerManagement(), new Msix({ vectors: 3, bar: 1 })],
      registers: [{ at: 0xe0, map }],
    });
  const writable = new Map<number, number>(); // raw: byte → bits a guest can change
  const put = (at: number, ...bits: number[]) => {
    for (const [i, b] of bits.entries()) writable.set(at + i, b);
  };
  put(0x04, 0x07, 0x05, 0x00, 0xf9);
  put(0x0c, 0xff);
  put(0x10, 0xc0, 0xff, 0xff, 0xff);
  put(0x3c, 0xff);
  put(0x44, 0x03); // PMCSR of the capability at 40h
  put(0x4b, 0xc0); // MSI-X control of the one at 48h
  put(0xe0, 0xf0, 0x00, 0xff, 0x0f);
  const writes = fc.array(fc.tuple(fc.integer({ min: 0, max: 0xff }), width, fc.integer({ min: 0, max: 0xffffffff })), {
    maxLength: 60,
  });
  fc.assert(
    fc.property(writes, (sequence) => {
      const fresh = build();
      const card = build();
      for (const [at, w, value] of sequence) card.configWrite(at, w, value);
      for (let at = 0; at < 0x100; at++) {
        const changed = card.configRead(at, 1) ^ fresh.configRead(at, 1);
        assert.is(changed & ~(writable.get(at) ?? 0), 0, `byte ${at.toString(16)}`);
      }
      for (let at = 0; at < 0xfd; at++) {
        const bytes = [0, 1, 2, 3].map((i) => card.configRead(at + i, 1));
        assert.is(card.configRead(at, 2), bytes[0]! + bytes[1]! * 0x100);
        assert.is(
          card.configRead(at, 4),
          bytes.reduceRight((sum, byte) => sum * 0x100 + byte, 0),
        );
      }
    }),
    { numRuns: 100 },
  );
});

test.run();
