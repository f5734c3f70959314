/** The receive ring of bytes. Numbers from the RTL8139C(L) data sheet, as 8139too.c, if_rlreg.h and QEMU's recordings have them. */
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { rig8139, startOld } from "./testing/8139.js";
import { BROADCAST, fcsOf, frameTo, MAC, MS, type Rig } from "./testing.js";

const RING = 0x1_0000;

const started = (rcr = 0x0f, chip: "RTL8139C+" | "RTL8139C" = "RTL8139C"): Rig =>
  startOld(rig8139({ chip }), RING, rcr);

/** The frame with its FCS as the ring holds it. */
const withFcs = (frame: Uint8Array): Uint8Array => {
  const record = new Uint8Array(frame.length + 4);
  record.set(frame);
  new DataView(record.buffer).setUint32(frame.length, fcsOf(frame), true);
  return record;
};

for (const chip of ["RTL8139C", "RTL8139C+"] as const)
  test(`RTL-147 a record is status, length, frame and FCS, and begins at a multiple of four: ${chip}`, () => {
    const rig = started(0x0f, chip);
    assert.is(rig.r8(0x37), 0x0d); // BUFE
    assert.is(rig.r16(0x38), 0xfff0);
    assert.is(rig.r16(0x3a), 0x0000);
    const frame = frameTo(MAC, 61);
    assert.is(rig.deliver(frame), "taken");
    assert.is(rig.get32(RING), 0x0041_4001); // 65 bytes; PAM, ROK
    assert.equal(rig.get(RING + 4, 65), withFcs(frame));
    assert.is(rig.r16(0x3a), 0x48); // 4 + 65, rounded up
    assert.is(rig.r16(0x38), 0xfff0);
    assert.is(rig.r8(0x37), 0x0c);
    assert.is(rig.r16(0x3e), 0x0001);
    const short = frameTo(BROADCAST, 42);
    rig.deliver(short);
    const padded = new Uint8Array(60);
    padded.set(short);
    assert.is(rig.get32(RING + 0x48), 0x0040_2001); // 64 bytes; BAR, ROK
    assert.equal(rig.get(RING + 0x4c, 64), withFcs(padded));
    assert.is(rig.r16(0x3a), 0x8c);
  });

test("RTL-148 CAPR is the place that was read to, less 16, and BUFE says that nothing is left", () => {
  const rig = started();
  rig.deliver(frameTo(MAC, 60));
  rig.deliver(frameTo(MAC, 60));
  rig.w16(0x38, 0x44 - 16);
  assert.is(rig.r16(0x38), 0x34);
  assert.is(rig.r8(0x37), 0x0c);
  rig.w16(0x38, 0x88 - 16);
  assert.is(rig.r16(0x38), 0x78);
  assert.is(rig.r8(0x37), 0x0d);
  // The first record of all: 8139too computes FFF0h for it.
  const fresh = started();
  fresh.w16(0x38, 0xfff0);
  assert.is(fresh.r8(0x37), 0x0d);
  assert.is(fresh.r16(0x38), 0xfff0);
  // Halves.
  fresh.deliver(frameTo(MAC, 0x200 - 8));
  fresh.w8(0x38, 0xf0);
  fresh.w8(0x39, 0x01);
  assert.is(fresh.r16(0x3a), 0x200);
  assert.is(fresh.r8(0x37), 0x0d);
});

/** Fills the ring from its start, each record read at once but the last, so that the next begins 0x60 bytes before its end. */
const nearEnd = (rig: Rig, size: number): void => {
  for (let at = 0; at < size - 0x60; ) {
    const record = Math.min(0x500, size - 0x60 - at);
    assert.is(rig.deliver(frameTo(MAC, record - 8)), "taken");
    at += record;
    rig.w16(0x38, (at - 16) & 0xffff);
  }
  rig.w16(0x3e, 0xffff);
  assert.is(rig.r16(0x3a), size - 0x60);
  assert.is(rig.r8(0x37), 0x0d);
};

test("WRAP 0: a record is cut at the end of the ring and goes on at its start; WRAP 1: it runs past the end", () => {
  for (const [rcr, overruns] of [
    [0x000f, false],
    [0x008f, true],
  ] as const) {
    const rig = started(rcr);
    rig.put(RING + 0x2000, new Uint8Array(0x800).fill(0xee));
    nearEnd(rig, 0x2000);
    const start = rig.get(RING, 0x800);
    const frame = frameTo(MAC, 0x100, 7);
    assert.is(rig.deliver(frame), "taken");
    const record = new Uint8Array(0x108);
    record.set([0x01, 0x40, 0x04, 0x01]);
    record.set(withFcs(frame), 4);
    const behind = rig.get(RING + 0x2000, 0x108 - 0x60);
    if (overruns) {
      assert.equal(rig.get(RING + 0x2000 - 0x60, 0x108), record);
      assert.equal(rig.get(RING, 0x800), start);
    } else {
      assert.equal(rig.get(RING + 0x2000 - 0x60, 0x60), record.subarray(0, 0x60));
      assert.equal(rig.get(RING, 0x108 - 0x60), record.subarray(0x60));
      assert.equal(behind, new Uint8Array(0x108 - 0x60).fill(0xee));
    }
    assert.is(rig.r16(0x3a), 0xa8);
    rig.w16(0x38, 0xa8 - 16);
    assert.is(rig.r8(0x37), 0x0d);
  }
});

test("RBLEN doubles the ring from 8 to 64 KiB; one of 64 KiB has no WRAP", () => {
  for (const [rblen, size] of [
    [0x0000, 0x2000],
    [0x0800, 0x4000],
    [0x1000, 0x8000],
    [0x1800, 0x1_0000],
  ] as const) {
    const rig = started(0x8f | rblen);
    rig.put(RING + size, new Uint8Array(0x800).fill(0xee));
    nearEnd(rig, size);
    assert.is(rig.deliver(frameTo(MAC, 0x100)), "taken");
    assert.is(rig.r16(0x3a), 0xa8, `ring of ${size}`);
    const untouched = rig.get(RING + size, 16).every((byte) => byte === 0xee);
    assert.is(untouched, size === 0x1_0000, `ring of ${size}`);
  }
});

test("RTL-149 a record that does not fit is lost: RXOVW, MPC, and the ring goes on when it is read", () => {
  const rig = started();
  rig.w16(0x3c, 0x0010);
  for (let i = 0; i < 5; i++) assert.is(rig.deliver(frameTo(MAC, 1400, i)), "taken");
  rig.w16(0x3e, 0xffff);
  const before = rig.get(RING, 0x2010);
  assert.is(rig.deliver(frameTo(MAC, 1400, 5)), "dropped");
  assert.is(rig.r16(0x3e), 0x0010);
  assert.is(rig.irq, true);
  assert.is(rig.r32(0x4c), 1);
  assert.is(rig.r16(0x3a), 5 * 0x580);
  assert.equal(rig.get(RING, 0x2010), before);
  assert.is(rig.card.counters().rxNoBuffer, 1);
  rig.w16(0x3e, 0xffff);
  rig.w16(0x38, 0x580 - 16); // one was read
  const frame = frameTo(MAC, 1400, 6);
  assert.is(rig.deliver(frame), "taken");
  assert.is(rig.get32(RING + 5 * 0x580), 0x057c_4001);
  assert.is(rig.r16(0x3a), 6 * 0x580 - 0x2000);
  assert.is(rig.deliver(frame), "dropped");
  assert.is(rig.r32(0x4c), 2);
  rig.w32(0x4c, 0);
  assert.is(rig.r32(0x4c), 0);
});

test("RTL-149 a record must be shorter than what is free, or a full ring would look empty", () => {
  const free = (record: number): string => {
    const rig = started();
    for (let i = 0; i < 4; i++) rig.deliver(frameTo(MAC, 0x700 - 8)); // 0x400 are left
    return rig.deliver(frameTo(MAC, record - 8)) as string;
  };
  assert.is(free(0x400), "dropped");
  assert.is(free(0x3fc), "taken");
});

test("a far end that can holds what does not fit, is told once, and asked when CAPR moves", () => {
  const rig = started();
  rig.far.holds = true;
  for (let i = 0; i < 5; i++) rig.deliver(frameTo(MAC, 1400, i));
  rig.w16(0x3e, 0xffff);
  assert.is(rig.deliver(frameTo(MAC, 1400)), "later");
  assert.is(rig.r16(0x3e), 0x0010);
  rig.w16(0x3e, 0xffff);
  assert.is(rig.deliver(frameTo(MAC, 1400)), "later");
  assert.is(rig.r16(0x3e), 0);
  assert.is(rig.r32(0x4c), 0);
  assert.equal(rig.far.readies, []);
  rig.w16(0x38, 0x580 - 16);
  assert.equal(rig.far.readies, [0]);
  assert.is(rig.deliver(frameTo(MAC, 1400)), "taken");
});

test("RTL-096 a record says how its frame was addressed, and RCR whether it is taken", () => {
  for (const [rcr, to, status] of [
    [0x02, MAC, 0x4001],
    [0x08, BROADCAST, 0x2001],
    [0x04, [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01], 0x8001],
    [0x01, [0x52, 0x54, 0, 0, 0, 0x99], 0x0001],
    [0x01, MAC, 0x4001],
    [0x00, MAC, 0],
    [0x01, BROADCAST, 0],
    [0x01, [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01], 0],
  ] as const) {
    const rig = started(rcr);
    rig.w32(0x08, 0x8000_0000); // bit 31: 01:00:5e:00:00:01
    assert.is(rig.deliver(frameTo(Uint8Array.from(to), 60)), status === 0 ? "dropped" : "taken");
    assert.is(rig.get32(RING) & 0xffff, status);
  }
});

test("a frame above 4 KiB is LONG, and no good one", () => {
  const rig = started();
  assert.is(rig.deliver(frameTo(MAC, 4092)), "taken");
  assert.is(rig.get32(RING), 0x1000_4001);
  assert.is(rig.r16(0x3e), 0x0001);
  rig.w16(0x38, rig.r16(0x3a) - 16);
  rig.w16(0x3e, 0xffff);
  rig.deliver(frameTo(MAC, 4093));
  assert.is(rig.get32(RING + 0x1004), 0x1001_4008);
  assert.is(rig.r16(0x3e), 0x0002); // RER
});

test("a frame that no ring of this size holds is dropped, not held", () => {
  const rig = started();
  rig.far.holds = true;
  assert.is(rig.deliver(frameTo(MAC, 8184)), "dropped"); // a record of 8192
  assert.is(rig.reports.at(-1)?.code, "rx-ring-too-small");
  assert.is(rig.deliver(frameTo(MAC, 8180)), "taken");
  assert.is(rig.deliver(frameTo(MAC, 9000)), "dropped");
});

test("without a buffer, or with the receiver off, frames are lost and nothing is written", () => {
  const rig = started();
  rig.written.length = 0;
  rig.w32(0x30, 0);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.card.counters().rxNoBuffer, 1);
  rig.w32(0x30, RING);
  rig.w8(0x37, 0x04);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.card.counters().rxFiltered, 1);
  assert.equal(rig.written, []);
});

test("RTL-007 with bus mastering off the FIFO overflows: FOVW, MPC", () => {
  const rig = started();
  rig.card.configWrite(0x04, 2, 0x0003);
  rig.written.length = 0;
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.r16(0x3e), 0x0040);
  assert.is(rig.r32(0x4c), 1);
  assert.equal(rig.written, []);
});

test("a buffer that is no RAM is a bus error, and leaves the pointers", () => {
  const rig = started();
  rig.w32(0x30, 0x4000_0000);
  assert.is(rig.deliver(frameTo(MAC)), "dropped");
  assert.is(rig.r16(0x3e), 0x8000); // SERR
  assert.is(rig.r16(0x3a), 0);
  assert.is(rig.r8(0x37), 0x0d);
  assert.is(rig.reports.at(-1)?.code, "rx-buffer-address");
});

test("a record that is cut needs RAM at both ends of the ring; WRAP 1 needs it behind its end", () => {
  const upper = { base: RING + 0x1000, size: 0x1000 };
  for (const [rcr, windows, verdict] of [
    [0x000f, [upper], "dropped"], // where the record goes on there is nothing
    [0x000f, [{ base: RING, size: 0x1000 }], "dropped"], // where it begins
    [0x000f, [{ base: RING, size: 0xa8 }, upper], "taken"],
    [0x000f, [{ base: RING, size: 0xa7 }, upper], "dropped"],
    [0x008f, [upper], "dropped"], // what would stand behind the ring
    [0x008f, [{ base: RING + 0x1000, size: 0x10a8 }], "taken"],
    [0x008f, [{ base: RING + 0x1000, size: 0x10a7 }], "dropped"],
  ] as const) {
    const rig = started(rcr);
    nearEnd(rig, 0x2000);
    rig.memory.replace(windows.map(({ base, size }) => ({ base, bytes: new Uint8Array(size) })));
    rig.written.length = 0;
    assert.is(rig.deliver(frameTo(MAC, 0x100)), verdict);
    assert.is(rig.r16(0x3e), verdict === "taken" ? 0x0001 : 0x8000);
    assert.is(rig.r16(0x3a), verdict === "taken" ? 0xa8 : 0x1fa0);
    if (verdict === "dropped") assert.equal(rig.written, []);
  }
});

test("RE's rising edge goes back to the start, as 8139too's recovery expects; writing RCR loses nothing", () => {
  const rig = started();
  const frame = frameTo(MAC, 60);
  rig.deliver(frame);
  rig.w32(0x44, 0x0000_f70e); // QEMU goes back to the start here
  assert.is(rig.r16(0x3a), 0x44);
  assert.is(rig.r8(0x37), 0x0c);
  rig.w8(0x37, 0x0c); // no edge
  assert.is(rig.r16(0x3a), 0x44);
  rig.w8(0x37, 0x04);
  rig.w8(0x37, 0x0c);
  assert.is(rig.r16(0x3a), 0);
  assert.is(rig.r16(0x38), 0xfff0);
  assert.is(rig.r8(0x37), 0x0d);
});

test("a lenient card leaves the FCS out, unless it is asked for", () => {
  const fcs = (options: { readonly fcs?: "computed" }): number => {
    const rig = startOld(rig8139({ chip: "RTL8139C", ...options }, { strictness: "lenient" }), RING, 0x0f);
    rig.deliver(frameTo(MAC, 60));
    return rig.get32(RING + 64);
  };
  assert.is(fcs({}), 0);
  assert.is(fcs({ fcs: "computed" }), fcsOf(frameTo(MAC, 60)));
});

test("the ring begins at a dword: a strict card leaves the low address bits out", () => {
  const rig = started();
  rig.w32(0x30, RING + 3);
  assert.is(rig.reports.at(-1)?.code, "rx-misaligned");
  rig.deliver(frameTo(MAC, 60));
  assert.is(rig.get32(RING), 0x0040_4001);
  const lenient = startOld(rig8139({}, { strictness: "lenient" }), RING + 3, 0x0f);
  lenient.deliver(frameTo(MAC, 60));
  assert.equal(lenient.get(RING + 3, 4), Uint8Array.of(0x01, 0x40, 0x40, 0x00));
});

test("a record across two windows of RAM is scattered", () => {
  const windows = [
    { base: 0, size: RING + 0x31 },
    { base: RING + 0x31, size: 0x1_0000 },
  ];
  const rig = startOld(rig8139({ chip: "RTL8139C" }, { windows }), RING, 0x0f);
  const frame = frameTo(MAC, 200);
  rig.deliver(frame);
  assert.equal(rig.get(RING + 4, 204), withFcs(frame));
});

test("RTL-149 whatever comes and is read, records arrive whole and in order", () => {
  const steps = fc.array(fc.oneof(fc.integer({ min: 14, max: 1600 }), fc.constant(0)), {
    minLength: 20,
    maxLength: 80,
  });
  fc.assert(
    fc.property(steps, fc.constantFrom(0x0f, 0x8f), (sequence, rcr) => {
      const rig = started(rcr);
      const expected: Uint8Array[] = [];
      let read = 0;
      const readOne = (): void => {
        const frame = expected.shift()!;
        const at = (offset: number) => RING + (rcr === 0x8f ? read + offset : (read + offset) % 0x2000);
        const length = rig.get32(RING + read) >>> 16;
        assert.is(length, Math.max(60, frame.length) + 4);
        for (let i = 0; i < frame.length; i += 13) assert.is(rig.get(at(4 + i), 1)[0], frame[i]);
        read = (read + 4 + length + 3) & 0x1ffc;
        rig.w16(0x38, (read - 16) & 0xffff);
      };
      for (const length of sequence) {
        const frame = frameTo(MAC, Math.max(14, length), length);
        if (length === 0) {
          if (expected.length > 0) readOne();
        } else if (rig.deliver(frame) === "taken") expected.push(frame);
        assert.is((rig.r8(0x37) & 1) !== 0, expected.length === 0);
      }
      while (expected.length > 0) readOne();
      assert.is(rig.r8(0x37), 0x0d);
    }),
    { numRuns: 60 },
  );
});

test("TimeOut does not wait for frames, nor frames for it", () => {
  const rig = started();
  rig.w32(0x54, 0x400);
  rig.w32(0x48, 0);
  rig.deliver(frameTo(MAC));
  rig.clock.advance(MS);
  assert.is(rig.r16(0x3e), 0x4001);
});

test.run();
