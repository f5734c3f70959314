/** What no driver would do: random accesses, rings and frames; and the same run cut in two by a snapshot. */
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { WindowedMemory } from "../../src/bytes/index.js";
import type { AccessWidth, Offload } from "../../src/contract/index.js";
import { BASE, SIZE, VICTIMS, type Victim } from "./testing/victims.js";
import { BROADCAST, frameTo, ipFrame, MAC, PEER, Rig } from "./testing.js";

/** What a frame carries, and what is said of it. */
type Kind = "plain" | "packet" | "tagged" | "open" | "trusted";

const offloadOf = (kind: Kind, length: number): Offload | null =>
  kind === "open" || kind === "trusted"
    ? {
        needsCsum: kind === "open",
        csumStart: length % 40,
        csumOffset: 16,
        dataValid: kind === "trusted",
        gso: "none",
        gsoSize: 0,
        ecn: false,
      }
    : null;

const frameOf = (to: Uint8Array, length: number, kind: Kind): Uint8Array =>
  kind === "plain"
    ? frameTo(to, Math.max(14, length)).subarray(0, length)
    : ipFrame({
        to,
        payload: length,
        protocol: length % 2 === 0 ? 6 : 17,
        ...(kind === "tagged" ? { tci: length } : {}),
      });

type Step =
  | { readonly do: "read" | "write"; readonly at: number; readonly width: AccessWidth; readonly value: number }
  | { readonly do: "config"; readonly at: number; readonly width: AccessWidth; readonly value: number }
  | { readonly do: "memory"; readonly at: number; readonly value: number }
  | { readonly do: "frame"; readonly to: number; readonly length: number; readonly kind: Kind }
  | { readonly do: "time"; readonly ns: number }
  | { readonly do: "work"; readonly budget: number }
  | { readonly do: "link"; readonly up: boolean }
  | { readonly do: "verdict"; readonly verdict: "taken" | "later" | "dropped"; readonly holds: boolean };

/** @returns what can be observed */
const perform = (rig: Rig, s: Step): number | string => {
  switch (s.do) {
    case "read":
      return rig.card.barRead(1, s.at, s.width);
    case "write":
      rig.card.barWrite(s.value & 1, s.at, s.width, s.width === 4 ? s.value : s.value % 2 ** (8 * s.width));
      return 0;
    case "config":
      rig.card.configWrite(s.at, s.width, s.width === 4 ? s.value : s.value % 2 ** (8 * s.width));
      return rig.card.configRead(0x04, 4);
    case "memory":
      rig.set32(BASE + (s.at & ~3), s.value);
      return 0;
    case "frame":
      return rig.deliver(frameOf([MAC, BROADCAST, PEER][s.to]!, s.length, s.kind), offloadOf(s.kind, s.length));
    case "time":
      rig.clock.advance(s.ns);
      return 0;
    case "work":
      rig.work.run(s.budget, 2);
      return 0;
    case "link":
      rig.card.setLink(s.up);
      return 0;
    case "verdict":
      rig.far.verdict = s.verdict;
      rig.far.holds = rig.far.csum = s.holds;
      return 0;
  }
};

/** Every value of a state, wherever it is nested, replaced by something that does not fit. */
const spoil = function* (state: unknown, path: string): Generator<[path: string, state: unknown]> {
  if (state === null || typeof state !== "object" || ArrayBuffer.isView(state)) {
    if (ArrayBuffer.isView(state)) yield [path, new Uint8Array(3)];
    else if (typeof state === "number") {
      yield [path, -2e12];
      yield [path, 0.5];
    }
    yield [path, "no"];
    yield [path, undefined];
    return;
  }
  const entries = Array.isArray(state)
    ? state.slice(0, 2).map((v, i) => [String(i), v] as const)
    : Object.entries(state);
  for (const [key, inner] of entries)
    for (const [where, spoilt] of spoil(inner, `${path}.${key}`)) {
      const copy = Array.isArray(state) ? [...state] : { ...state };
      (copy as Record<string, unknown>)[key] = spoilt;
      yield [where, copy];
    }
};

/** Makes the tests that every card of this folder has to pass. */
const hostileLaws = ({ name, create, offsets, values, start, version, fixed }: Victim): void => {
  const offset = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...offsets) },
    { weight: 1, arbitrary: fc.nat(0xff) },
  );
  const value = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...values) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
  );
  const width = fc.constantFrom<AccessWidth>(1, 2, 4);
  /** opts1, opts2 and addresses of descriptors as a careless driver, or a malicious one, may write them */
  const word = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom(0xb000_0040, 0xf000_003c, 0x8000_0100, 0xa000_0020, 0x9000_0020, 0x8000_3fff),
    },
    // large send, checksums, tags
    { weight: 2, arbitrary: fc.constantFrom(0xb8b4_0400, 0xb801_00ff, 0xf800_0400, 0xb007_0100, 0x0002_3412) },
    { weight: 2, arbitrary: fc.constantFrom(BASE, BASE + 0x2000, BASE + SIZE - 1, BASE - 1, 0, 1) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
  );
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 10, arbitrary: fc.record({ do: fc.constant("write" as const), at: offset, width, value }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("read" as const), at: offset, width, value: fc.constant(0) }) },
    { weight: 8, arbitrary: fc.record({ do: fc.constant("memory" as const), at: fc.nat(0x200), value: word }) },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant("frame" as const),
        to: fc.nat(2),
        length: fc.integer({ min: 0, max: 2000 }),
        kind: fc.constantFrom<Kind>("plain", "packet", "tagged", "open", "trusted"),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("time" as const), ns: fc.constantFrom(1000, 61_440, 600_000, 25e6) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("work" as const), budget: fc.constantFrom(1, 3, 256) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("link" as const), up: fc.boolean() }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("verdict" as const),
        verdict: fc.constantFrom("taken" as const, "later" as const, "dropped" as const),
        holds: fc.boolean(),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("config" as const),
        at: fc.constantFrom(0x04, 0x06, 0x10, 0x14, 0xe0),
        width,
        value: fc.constantFrom(0, 3, 4, 7, 0x0103, 0xffff),
      }),
    },
  );

  const fresh = (): Rig => new Rig({ windows: [{ base: BASE, size: SIZE }], create });

  const running = (deferred: boolean): Rig => {
    const rig = fresh();
    start(rig);
    if (deferred) rig.work.policy = "deferred";
    return rig;
  };

  test(`${name}: no sequence of accesses, rings and frames throws, hangs, or touches a byte outside guest memory`, () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.boolean(), (steps, deferred) => {
        const rig = running(deferred);
        // The same RAM, now in the middle of a larger array whose other bytes nobody may touch.
        const array = new Uint8Array(SIZE + 0x2000).fill(0xc3);
        array.set(rig.memory.windows[0]!.bytes, 0x1000);
        rig.memory.replace([{ base: BASE, bytes: array.subarray(0x1000, 0x1000 + SIZE) }]);
        for (const s of steps) {
          perform(rig, s);
          const level = (rig.r16(0x3e) & rig.r16(0x3c)) !== 0;
          const powered = (rig.card.configRead(0xe0, 1) & 3) === 0;
          // What is moderated may keep the line down for a while, and D3hot does.
          if (powered && rig.r16(0xe2) === 0) assert.is(rig.irq, level);
          else assert.ok(level || !rig.irq);
          assert.is.not(rig.r8(0x37), 0xff);
          assert.is.not(rig.r16(0x3e), 0xffff);
          assert.is((rig.r32(0x40) & version.mask) >>> 0, version.value);
        }
        const guard = new Uint8Array(0x1000).fill(0xc3);
        assert.equal(array.subarray(0, 0x1000), guard);
        assert.equal(array.subarray(0x1000 + SIZE), guard);
      }),
      { numRuns: 300 },
    );
  });

  test(`${name}: a guest that only reads changes nothing that a snapshot shows`, () => {
    const rig = running(false);
    const before = rig.card.save();
    for (const w of [1, 2, 4] as const) for (let at = 0; at < 0x100; at += w) rig.card.barRead(1, at, w);
    // TCTR is written into the image when it is read; the clock has not moved, so even that is the same after one reading.
    const once = rig.card.save();
    for (const w of [1, 2, 4] as const) for (let at = 0; at < 0x100; at += w) rig.card.barRead(0, at, w);
    assert.equal(rig.card.save(), once);
    assert.equal(Object.keys(before), Object.keys(once));
  });

  test(`${name}: a run cut anywhere and resumed from a snapshot in another card goes on identically`, () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), fc.nat(60), fc.boolean(), (steps, at, deferred) => {
        const whole = running(deferred);
        const cut = running(deferred);
        const head = steps.slice(0, at);
        const tail = steps.slice(at);
        for (const s of head) {
          perform(whole, s);
          perform(cut, s);
        }
        const resumed = fresh();
        resumed.memory.windows[0]!.bytes.set(cut.memory.windows[0]!.bytes);
        resumed.clock.set(cut.clock.now());
        resumed.work.policy = cut.work.policy;
        resumed.far.verdict = cut.far.verdict;
        resumed.far.holds = cut.far.holds;
        resumed.card.load(structuredClone(cut.card.save()));
        for (const queue of cut.work.ready) resumed.work.ready.add(queue);
        assert.is(resumed.irq, whole.irq);
        assert.equal(resumed.card.save(), cut.card.save());
        whole.far.frames.length = whole.far.offloads.length = 0;
        resumed.far.csum = whole.far.csum;
        for (const s of tail) {
          assert.equal(perform(resumed, s), perform(whole, s));
          assert.is(resumed.irq, whole.irq);
        }
        assert.equal(resumed.far.frames, whole.far.frames);
        assert.equal(resumed.far.offloads, whole.far.offloads);
        assert.equal(resumed.memory.windows[0]!.bytes, whole.memory.windows[0]!.bytes);
        assert.equal(resumed.card.counters(), whole.card.counters());
        assert.equal(resumed.card.save(), whole.card.save());
      }),
      { numRuns: 150 },
    );
  });

  test(`${name}: the same inputs give the same outputs`, () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const outputs = [0, 1].map(() => {
          const rig = running(true);
          return [steps.map((s) => perform(rig, s)), rig.far.frames, rig.card.save(), rig.reports];
        });
        assert.equal(outputs[0], outputs[1]);
      }),
      { numRuns: 30 },
    );
  });

  test(`${name}: a crafted snapshot is refused whole: the card goes on as it was`, () => {
    const rig = running(false);
    const good = rig.card.save() as { model: object };
    let refused = 0;
    for (const [path, model] of spoil(good.model, "model")) {
      const state = { ...good, model };
      try {
        rig.card.load(state as never);
        assert.unreachable(`${path} was taken`);
      } catch (error) {
        assert.is((error as Error).name, "StateError", `${path}: ${String(error)}`);
        refused++;
      }
      assert.equal(rig.card.save(), good, path);
    }
    assert.ok(refused > 100);
  });

  test(`${name}: a snapshot cannot set bits that neither guest nor chip can set`, () => {
    const rig = running(false);
    const good = rig.card.save() as { model: { registers: Uint8Array } };
    for (const [at, bit] of fixed) {
      const registers = Uint8Array.from(good.model.registers);
      registers[at] = registers[at]! ^ bit;
      assert.throws(
        () => rig.card.load({ ...good, model: { ...good.model, registers } } as never),
        /cannot be set|CR\.RST/,
      );
    }
  });
};

for (const victim of VICTIMS) hostileLaws(victim);

test("windows that are replaced under a running card are found again", () => {
  const rig = new Rig({ windows: [{ base: BASE, size: SIZE }] });
  VICTIMS[0]!.start(rig);
  rig.w8(0x38, 0x40);
  const sent = rig.far.frames.length;
  const moved = Uint8Array.from(rig.memory.windows[0]!.bytes);
  rig.memory.windows[0]!.bytes.fill(0);
  (rig.memory satisfies WindowedMemory).replace([{ base: BASE, bytes: moved }]);
  rig.set32(BASE + 16 * 2, 0xb000_0040);
  rig.w8(0x38, 0x40);
  assert.ok(rig.far.frames.length > sent);
  assert.is(rig.deliver(frameTo(BROADCAST)), "taken");
});

test.run();
